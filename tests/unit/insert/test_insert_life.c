/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_insert_life.c - whatever ClickHouse says, an insert goes in, gets smaller, or waits for
 * something that /readyz reports.
 */
#include "flusher_world.h"

#include <errno.h>

static uint64_t dead(struct world *world)
{
    return snapshot(world)->streams[0][METRIC_STREAM_dead_lettered];
}

static uint64_t inserted(struct world *world)
{
    return snapshot(world)->streams[0][METRIC_STREAM_inserted];
}

/* Codes of all kinds: unknown, of an expression, one that needs a human as a rule, memory. */
static void whatever_the_code_a_row_refused_among_good_ones_is_buried_alone(void **state)
{
    static const int codes[] = {12, 44, 49, 395, 9999, 36, 47, 60, 241, 202};
    struct world *world = *state;
    uint64_t expected = 0;

    start(world);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        world->fake.bad_code = codes[i];
        submit(world, 0, 20, 7);
        /* The table takes others: that is what makes it the row's fault. */
        for (int k = 0; k < 600 && dead(world) == i; k++) {
            submit(world, 0, 1, -1);
            expected++;
            pause_ms(20);
        }
        wait_empty(world);
        expected += 19;
        assert_int_equal(dead(world), i + 1);
        assert_int_equal(inserted(world), expected);
        assert_int_equal(world->fake.inserted_rows, expected);
    }
    assert_false(is_up(world, "clickhouse.a"));
    assert_false(is_up(world, "clickhouse.a.refuses"));
}

/* Tries of the row that the fake refuses. */
static size_t tries(struct world *world)
{
    return fake_count(&world->fake) - (size_t)inserted(world);
}

/* Submits a good row and waits until the bad one, the first, has been tried twice more. */
static void let_another_in(struct world *world)
{
    const uint64_t before = inserted(world);
    size_t tried;

    submit(world, 0, 1, -1);
    WAIT_FOR(inserted(world) == before + 1);
    tried = tries(world);
    WAIT_FOR(tries(world) >= tried + 2 || dead(world) > 0);
}

/* Renamed away and back: others go in between any two refusals of the row. */
static void a_table_that_comes_and_goes_costs_no_row(void **state)
{
    struct world *world = *state;

    world->fake.mode_text = "\"a1\""; /* its bad luck */
    fake_set(&world->fake, FAKE_404_OWN, -1);
    start(world);
    submit(world, 0, 1, -1);
    WAIT_FOR(tries(world) >= 1);
    for (int i = 0; i < 10; i++)
        let_another_in(world);
    assert_int_equal(dead(world), 0);
    assert_false(is_up(world, "clickhouse.a.refuses"));
    fake_set(&world->fake, FAKE_OK, 0);
    wait_empty(world);
    assert_int_equal(inserted(world), 11);
}

/* Refused any number of times while the table was away is refused once. */
static void a_refusal_that_may_be_the_tables_counts_once_between_two_successes(void **state)
{
    struct world *world = *state;

    world->fake.mode_text = "\"a1\"";
    fake_set(&world->fake, FAKE_404_TABLE, -1);
    start(world);
    submit(world, 0, 1, -1);
    WAIT_FOR(tries(world) >= 5);
    let_another_in(world);
    let_another_in(world);
    assert_int_equal(dead(world), 0);
    /* What was refused three times goes once more, right after a success. */
    let_another_in(world);
    wait_empty(world);
    assert_int_equal(dead(world), 1);
}

static void what_every_row_is_refused_for_is_the_tables_and_all_are_kept(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_NEVER, -1);
    submit(world, 0, 50, -1);
    WAIT_FOR(is_up(world, "clickhouse.a.refuses"));
    submit(world, 0, 50, -1);
    pause_ms(300);
    assert_int_equal(dead(world), 0);
    assert_int_equal(flusher_pending(world->flusher), 100);
    assert_true(health_ready(world->health)); /* the other stream goes on */
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_int_equal(inserted(world), 100);
    assert_int_equal(world->fake.inserted_rows, 100);
    assert_false(is_up(world, "clickhouse.a.refuses"));
}

static void what_an_earlier_life_has_inserted_is_evidence_if_the_table_is_the_same(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_NEVER, -1);
    flusher_note_inserted(world->flusher, 0, 500); /* the table has changed at 1 s */
    submit(world, 0, 1, -1);
    WAIT_FOR(is_up(world, "clickhouse.a.refuses"));
    assert_int_equal(dead(world), 0);
    flusher_note_inserted(world->flusher, 0, 5000);
    WAIT_FOR(dead(world) == 1);
    wait_empty(world);
    WAIT_FOR(!is_up(world, "clickhouse.a.refuses"));
}

static void what_is_kept_goes_to_the_dead_letters_on_demand(void **state)
{
    struct world *world = *state;
    struct batch *frozen;
    size_t lines;
    char *text;

    start(world);
    fake_set(&world->fake, FAKE_NEVER, -1);
    submit(world, 0, 50, -1);
    frozen = make_batch(world, 0, 5, -1); /* may be in: never let go */
    frozen->insert_id = 77;
    flusher_submit(world->flusher, frozen);
    WAIT_FOR(is_up(world, "clickhouse.a.refuses"));
    assert_int_equal(flusher_bury(world->flusher, 9), -EINVAL);
    for (int i = 0; i < 1000 && dead(world) < 50; i++) {
        assert_true(flusher_bury(world->flusher, 0) >= 0);
        pause_ms(10);
    }
    assert_int_equal(dead(world), 50);
    text = dead_letters(world, &lines);
    assert_int_equal(lines, 50);
    assert_non_null(strstr(text, "\"code\":44,\"message\":\"Code: 44. DB::Exception"));
    free(text);
    assert_int_equal(flusher_pending(world->flusher), 5);
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_int_equal(inserted(world), 5);
    assert_int_equal(flusher_bury(world->flusher, 0), 0); /* nothing is kept */
}

static void a_lane_whose_rows_are_all_bad_stops_burying_and_good_rows_do_not_wait(void **state)
{
    struct world *world = *state;

    start(world);
    for (int i = 0; i < 20; i++) {
        struct batch *batch = batch_create(0, 100);
        for (int k = 0; k < 100; k++) {
            struct batch *one = make_batch(world, 0, 1, 0);
            batch_add(batch, one->records[0]);
            free(one);
        }
        flusher_submit(world->flusher, batch);
    }
    submit(world, 0, 10, -1);
    WAIT_FOR(inserted(world) == 10);
    assert_true(dead(world) < 500);
    WAIT_FOR(is_up(world, "clickhouse.a.refuses"));
    WAIT_FOR(dead(world) >= 1000);
    submit(world, 0, 10, -1);
    WAIT_FOR(inserted(world) == 20);
    assert_true(flusher_pending(world->flusher) > 0);
    /* Each success lets it go on for a while. */
    for (int i = 0; i < 200 && dead(world) < 2000; i++) {
        submit(world, 0, 1, -1);
        pause_ms(50);
    }
    wait_empty(world);
    assert_int_equal(dead(world), 2000);
}

static void an_insert_that_is_too_large_is_halved_and_the_size_remembered(void **state)
{
    struct world *world = *state;
    size_t first;

    world->fake.rows_fit = 100;
    start(world);
    submit(world, 0, 300, -1);
    wait_empty(world);
    assert_int_equal(world->fake.inserted_rows, 300);
    first = fake_count(&world->fake);
    submit(world, 0, 300, -1);
    wait_empty(world);
    assert_int_equal(world->fake.inserted_rows, 600);
    for (size_t i = first; i < fake_count(&world->fake); i++)
        assert_true(world->fake.requests[i].rows <= 150);
    world->fake.rows_fit = 0;
    for (int i = 0; i < 60; i++) {
        submit(world, 0, 1000, -1);
        wait_empty(world);
    }
    assert_true(world->fake.requests[fake_count(&world->fake) - 1].rows > 100);
    assert_true(world->fake.requests[fake_count(&world->fake) - 2].rows > 400);
}

static void an_insert_in_doubt_is_not_halved(void **state)
{
    struct world *world = *state;
    struct batch *frozen;

    world->fake.rows_fit = 10;
    start(world);
    frozen = make_batch(world, 0, 20, -1);
    frozen->insert_id = 5;
    flusher_submit(world->flusher, frozen);
    WAIT_FOR(is_up(world, "clickhouse.a.retry"));
    submit(world, 0, 3, -1);
    WAIT_FOR(inserted(world) == 3);
    for (size_t i = 0; i < fake_count(&world->fake); i++)
        assert_true(world->fake.requests[i].rows == 20 || world->fake.requests[i].rows == 3);
    world->fake.rows_fit = 0;
    wait_empty(world);
    assert_int_equal(world->fake.inserted_rows, 23);
}

static void an_insert_that_runs_out_of_time_is_given_more_and_new_ones_are_smaller(void **state)
{
    struct world *world = *state;
    const struct fake_request *request;
    bool smaller = false;

    world->config.clickhouse_timeout_ms = 200;
    world->fake.row_us = 2000;
    start(world);
    submit(world, 0, 200, -1);
    WAIT_FOR(is_up(world, "clickhouse.a.slow"));
    submit(world, 0, 200, -1);
    wait_empty(world);
    assert_int_equal(inserted(world), 400);
    assert_false(is_up(world, "clickhouse.a.slow"));
    request = world->fake.requests;
    for (size_t i = 0; i < fake_count(&world->fake); i++) {
        if (request[i].rows == 200)
            assert_string_equal(request[i].token, request[0].token);
        smaller |= request[i].rows <= 100;
    }
    assert_true(smaller); /* not always the last: the first ones may come in behind it */
}

static void a_stuck_table_leaves_slots_to_the_others(void **state)
{
    struct world *world = *state;
    uint64_t begun;

    world->fake.mode_table = "%60ta%60";
    start(world);
    fake_set(&world->fake, FAKE_HANG, -1);
    for (int i = 0; i < 20; i++) {
        submit(world, 0, 5, -1);
        pause_ms(2);
    }
    begun = clock_mono_ms();
    for (int i = 0; i < 20; i++)
        submit(world, 1, 5, -1);
    WAIT_FOR(journal_live(world->journal, 1) == 0);
    assert_true(clock_mono_ms() - begun < 2000);
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
}

static void a_proxy_that_is_busy_is_asked_later_and_does_not_block(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_TOO_BUSY, -1);
    submit(world, 0, 5, -1);
    submit(world, 1, 5, -1);
    WAIT_FOR(is_up(world, "clickhouse.a.retry") && is_up(world, "clickhouse.b.retry"));
    assert_true(health_ready(world->health));
    assert_false(is_up(world, "clickhouse.a"));
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_false(is_up(world, "clickhouse.a.retry"));
}

static void inserts_do_not_wait_for_an_answer_about_the_table(void **state)
{
    struct world *world = *state;
    uint64_t begun;

    world->fake.probe_hangs = true;
    start(world);
    begun = clock_mono_ms();
    submit(world, 0, 5, -1);
    wait_empty(world);
    assert_true(clock_mono_ms() - begun < 1000);
    /* What a refusal means depends on it, for a while. */
    submit(world, 0, 5, 2);
    wait_empty(world);
    assert_int_equal(dead(world), 1);
    flusher_stop(world->flusher);
    world->config.clickhouse_async_insert = CONFIG_ASYNC_AUTO;
    start(world);
    begun = clock_mono_ms();
    submit(world, 0, 5, -1);
    wait_empty(world);
    assert_in_range(clock_mono_ms() - begun, 1500, 10000);
    assert_false(world->fake.requests[fake_count(&world->fake) - 1].async);
    world->fake.probe_hangs = false;
}

static atomic_int told;

static void note_identity(void *arg, size_t stream, size_t shard, const char *identity)
{
    (void)arg;
    if (stream == 0 && shard == 0 && identity[0] == '\0')
        atomic_fetch_add(&told, 1);
}

/* Marks wait for the table's name: where it cannot be known they have to be told that. */
static void a_question_that_is_not_answered_is_told_to_who_waits_for_it(void **state)
{
    struct world *world = *state;
    const struct flusher_parts parts = {.config = &world->ref,
                                        .journal = world->journal,
                                        .health = world->health,
                                        .metrics = world->metrics,
                                        .release = world->release,
                                        .table_identity = note_identity};

    fake_set_probe(&world->fake, "Code: 497. DB::Exception: Not enough privileges.");
    assert_int_equal(flusher_start(&world->flusher, &parts, world->error), 0);
    WAIT_FOR(told > 0);
}

/* A table of no rows: what a view refuses is nowhere. */
static void where_the_table_stores_nothing_a_views_refusal_is_the_rows(void **state)
{
    struct world *world = *state;

    fake_set_probe(&world->fake, "26.7.2.1\t1\tNull\t0\t\t1\tu\t1\tNull\n");
    start(world);
    submit(world, 0, 40, 3);
    wait_empty(world);
    assert_int_equal(inserted(world), 39);
    assert_int_equal(world->fake.inserted_rows, 39);
    assert_int_equal(dead(world), 1);
    for (size_t i = 0; i < fake_count(&world->fake); i++)
        assert_false(world->fake.requests[i].ignore_views);
}

/* What was on its way when the table broke proves nothing of what came after it. */
static void break_while_one_is_out(struct world *world, bool all_tried)
{
    world->fake.held = true;
    start(world);
    submit(world, 0, 300, -1);
    WAIT_FOR(fake_count(&world->fake) == 1);
    fake_set(&world->fake, FAKE_NEVER, -1);
    submit(world, 0, 40, -1);
    WAIT_FOR(all_tried ? is_up(world, "clickhouse.a.refuses") : fake_count(&world->fake) >= 3);
    world->fake.held = false;
    WAIT_FOR(inserted(world) == 300);
    WAIT_FOR(is_up(world, "clickhouse.a.refuses"));
    pause_ms(200);
    assert_int_equal(dead(world), 0);
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
}

static void a_table_that_breaks_while_an_insert_is_out_costs_no_row(void **state)
{
    break_while_one_is_out(*state, true);
}

static void what_comes_in_after_the_first_refusal_proves_nothing(void **state)
{
    break_while_one_is_out(*state, false);
}

/* The table has what a view refuses: whatever comes next, the rows keep their token. */
static void what_a_view_has_refused_is_not_halved(void **state)
{
    struct world *world = *state;

    world->fake.rows_fit = 10;
    fake_set(&world->fake, FAKE_VIEW, 1);
    start(world);
    submit(world, 0, 20, -1);
    WAIT_FOR(fake_count(&world->fake) >= 3);
    for (size_t i = 0; i < fake_count(&world->fake); i++) {
        assert_int_equal(world->fake.requests[i].rows, 20);
        assert_string_equal(world->fake.requests[i].token, world->fake.requests[0].token);
    }
    world->fake.rows_fit = 0;
    wait_empty(world);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(whatever_the_code_a_row_refused_among_good_ones_is_buried_alone),
        TEST(a_table_that_comes_and_goes_costs_no_row),
        TEST(a_refusal_that_may_be_the_tables_counts_once_between_two_successes),
        TEST(what_every_row_is_refused_for_is_the_tables_and_all_are_kept),
        TEST(what_an_earlier_life_has_inserted_is_evidence_if_the_table_is_the_same),
        TEST(what_is_kept_goes_to_the_dead_letters_on_demand),
        TEST(a_lane_whose_rows_are_all_bad_stops_burying_and_good_rows_do_not_wait),
        TEST(an_insert_that_is_too_large_is_halved_and_the_size_remembered),
        TEST(an_insert_in_doubt_is_not_halved),
        TEST(an_insert_that_runs_out_of_time_is_given_more_and_new_ones_are_smaller),
        TEST(a_stuck_table_leaves_slots_to_the_others),
        TEST(a_proxy_that_is_busy_is_asked_later_and_does_not_block),
        TEST(inserts_do_not_wait_for_an_answer_about_the_table),
        TEST(a_table_that_breaks_while_an_insert_is_out_costs_no_row),
        TEST(what_comes_in_after_the_first_refusal_proves_nothing),
        TEST(what_a_view_has_refused_is_not_halved),
        TEST(a_question_that_is_not_answered_is_told_to_who_waits_for_it),
        TEST(where_the_table_stores_nothing_a_views_refusal_is_the_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
