/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_columns.c - comparing an event with the columns of its table: what is reported, and for how
 * long.
 */
#include "flusher_world.h"

#define KEY "clickhouse.a.columns"
#define BOTH "1\t2 auto 0\tevent_id\tString\t\n2\t\tv\tString\t\n"
#define OTHER "1\t1 auto 0\tx\tUInt8\t\n"

/* An event of the stream a. */
static void submit_text(struct world *world, const char *text, size_t len)
{
    struct batch *batch = batch_create(0, 1);
    const struct journal_entry entry = {
        .text = {text, len}, .id = {"1", 1}, .id_verbatim = true, .hash = {1000, 1}};
    size_t size = journal_entry_bytes(&entry);

    assert_int_equal(journal_writer_reserve(world->writer, &size, 1), 0);
    batch_add(batch, journal_writer_append(world->writer, &entry, 1));
    flusher_submit(world->flusher, batch);
}

static void columns_that_fit_are_asked_for_again_with_the_first_event_and_not_told(void **state)
{
    struct world *world = *state;

    fake_set_columns(&world->fake, BOTH);
    start(world);
    WAIT_FOR(world->fake.columns_asked == 2); /* of both streams; there is no event yet */
    for (int i = 0; i < 3; i++) {
        submit(world, 0, 2, -1);
        wait_empty(world);
        WAIT_FOR(world->fake.columns_asked == 3);
    }
    pause_ms(50);
    assert_int_equal(world->fake.columns_asked, 3);
    assert_string_equal(health_text(world, KEY), "");
}

static void what_does_not_fit_is_told_until_the_table_has_changed(void **state)
{
    struct world *world = *state;

    fake_set_columns(&world->fake, OTHER);
    start(world);
    submit(world, 0, 2, -1);
    wait_empty(world);
    WAIT_FOR(is_up(world, KEY));
    assert_string_equal(health_text(world, KEY),
                        "table db.ta: all fields of an event meet no column and are "
                        "dropped: event_id, v; columns that no field fills get their "
                        "type's default: x");
    assert_true(health_ready(world->health));
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 2);
    /* No event comes any more. */
    fake_set_columns(&world->fake, BOTH);
    WAIT_FOR(!is_up(world, KEY));
}

static void a_table_of_very_many_columns_is_compared(void **state)
{
    struct world *world = *state;
    char *columns = malloc(1u << 16);
    size_t len = (size_t)sprintf(columns, "1\t800 auto 0\tevent_id\tString\t\n");

    for (int i = 2; i <= 800; i++)
        len += (size_t)sprintf(columns + len, "%d\t\tcolumn_of_a_long_name_%d\tString\tDEFAULT\n",
                               i, i);
    assert_in_range(len, 20000, (1u << 16) - 1);
    fake_set_columns(&world->fake, columns);
    start(world);
    submit(world, 0, 2, -1);
    WAIT_FOR(is_up(world, KEY));
    assert_string_equal(health_text(world, KEY),
                        "table db.ta: fields meet no column and are dropped: v");
    flusher_stop(world->flusher);
    world->flusher = NULL;
    free(columns);
}

static void an_event_of_late_is_compared_while_something_is_told(void **state)
{
    struct world *world = *state;

    fake_set_columns(&world->fake, OTHER);
    start(world);
    submit(world, 0, 2, -1);
    WAIT_FOR(is_up(world, KEY));
    submit_text(world, "{\"x\":1}", 7);
    WAIT_FOR(!is_up(world, KEY));
}

static void a_very_large_event_is_not_kept(void **state)
{
    struct world *world = *state;
    char *text = malloc(70000);

    memset(text, ' ', 70000);
    text[0] = '{';
    text[69999] = '}';
    fake_set_columns(&world->fake, OTHER);
    start(world);
    submit_text(world, text, 70000);
    free(text);
    wait_empty(world);
    pause_ms(50);
    assert_int_equal(world->fake.columns_asked, 2);
    submit(world, 0, 1, -1);
    WAIT_FOR(is_up(world, KEY));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(columns_that_fit_are_asked_for_again_with_the_first_event_and_not_told),
        TEST(what_does_not_fit_is_told_until_the_table_has_changed),
        TEST(a_table_of_very_many_columns_is_compared),
        TEST(an_event_of_late_is_compared_while_something_is_told),
        TEST(a_very_large_event_is_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
