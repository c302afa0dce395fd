/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher_after.c - after trouble a lane asks and sends as before.
 */
#include "flusher_world.h"

#define PROBE_OLD "25.3.1.1\t1\tMergeTree\t1\t1000\t0\n" /* loses async inserts */

static bool last_was_async(struct world *world)
{
    bool async;

    pthread_mutex_lock(&world->fake.lock);
    async = world->fake.requests[world->fake.count - 1].async;
    pthread_mutex_unlock(&world->fake.lock);
    return async;
}

static int fake_inside(struct world *world)
{
    int inside;

    pthread_mutex_lock(&world->fake.lock);
    inside = world->fake.inside;
    pthread_mutex_unlock(&world->fake.lock);
    return inside;
}

static void
after_a_lost_connection_the_table_is_asked_again_before_the_next_new_insert(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_async_insert = CONFIG_ASYNC_AUTO;
    start(world);
    submit(world, 0, 2, -1);
    wait_empty(world);
    assert_true(last_was_async(world));

    /* The address leads to another server now. curl itself tries a kept connection again, so more
     * than one has to go. */
    fake_set_probe(&world->fake, PROBE_OLD);
    fake_set(&world->fake, FAKE_RESET, 3);
    submit(world, 0, 2, -1);
    wait_empty(world);
    submit(world, 0, 2, -1);
    wait_empty(world);
    assert_false(last_was_async(world));
    WAIT_FOR(is_up(world, "clickhouse.a.async"));
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 6);
}

static void after_a_bad_row_is_found_inserts_go_out_side_by_side_again(void **state)
{
    struct world *world = *state;
    size_t lines, before;
    char *text;

    /* What hangs must not time out and make room that way. */
    world->config.clickhouse_timeout_ms = 10 * DEADLINE_MS;
    start(world);
    for (int64_t i = 0; i < 3; i++) {
        submit(world, 0, 10, i * 4);
        wait_empty(world);
    }
    text = dead_letters(world, &lines);
    assert_int_equal(lines, 3);
    free(text);

    before = fake_count(&world->fake);
    fake_set(&world->fake, FAKE_HANG, -1);
    submit(world, 0, 1, -1);
    WAIT_FOR(fake_inside(world) == 1);
    submit(world, 0, 1, -1);
    WAIT_FOR(fake_inside(world) == 2);
    assert_int_equal(fake_count(&world->fake), before + 2);
    fake_set(&world->fake, FAKE_OK, 0);
    wait_empty(world);
}

static void a_connection_is_used_again(void **state)
{
    struct world *world = *state;
    const int wanted = 100;

    start(world); /* a question for each of two streams */
    for (int i = 0; i < wanted; i++) {
        submit(world, 0, 1, -1);
        wait_empty(world);
    }
    assert_int_equal(fake_count(&world->fake), wanted);
    assert_in_range(world->fake.conn_count, 1, 3);
}

/* As from a server that dies while it answers: that is no sign that the user may not ask. */
static void an_answer_about_the_table_that_is_cut_is_asked_for_again(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_async_insert = CONFIG_ASYNC_AUTO;
    fake_set_probe(&world->fake, "26.7.2.1\t1\tMergeTree\t0\t1000\t0\tu\t1\te\n");
    world->fake.probe_cuts = 4; /* for each question of curl's own second try, too */
    start(world);
    assert_int_equal(atomic_load(&world->fake.probe_cuts), 0);
    submit(world, 0, 2, -1);
    wait_empty(world);
    assert_true(last_was_async(world));
    assert_false(is_up(world, "clickhouse.a.async"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            after_a_lost_connection_the_table_is_asked_again_before_the_next_new_insert, setup,
            teardown),
        cmocka_unit_test_setup_teardown(after_a_bad_row_is_found_inserts_go_out_side_by_side_again,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_connection_is_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_about_the_table_that_is_cut_is_asked_for_again,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
