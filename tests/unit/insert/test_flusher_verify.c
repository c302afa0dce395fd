/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher_verify.c - what ClickHouse acknowledges for its token alone is found out, and what
 * it has is not sent again.
 */
#include "doubt_world.h"

static uint64_t inserted(struct world *world)
{
    return snapshot(world)->streams[0][METRIC_STREAM_inserted];
}

static uint64_t lost(struct world *world)
{
    return snapshot(world)->counters[METRIC_COUNTER_clickhouse_lost_inserts];
}

/* Sends rows whose first try ends in mode. */
static void start_and_send(struct world *world, enum fake_mode mode, const char *trace)
{
    start(world);
    set_trace(world, trace);
    fake_set(&world->fake, mode, 1);
    submit(world, 0, EVENTS, -1);
}

static void what_is_not_in_doubt_costs_no_question(void **state)
{
    struct world *world = *state;

    start_and_send(world, FAKE_OK, TRACE_RESTARTED);
    wait_empty(world);
    assert_int_equal(world->fake.traces_asked, 0);
    assert_int_equal(world->fake.rows_asked, 0);
}

static void a_token_without_rows_is_found_out_and_they_go_again_under_another(void **state)
{
    struct world *world = *state;
    struct batch *batch = make_batch(world, 0, EVENTS, -1);
    struct record *record = batch->records[EVENTS - 1];
    char token[40];

    start(world);
    set_trace(world, TRACE_RESTARTED);
    fake_set(&world->fake, FAKE_BURN, 1);
    flusher_submit(world->flusher, batch);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(fake_count(&world->fake), 3);
    assert_string_equal(world->fake.requests[0].token, world->fake.requests[1].token);
    assert_string_not_equal(world->fake.requests[1].token, world->fake.requests[2].token);
    snprintf(token, sizeof(token), "%016" PRIx64 "%016" PRIx64, journal_instance_id(world->journal),
             record_insert_id(record));
    assert_string_equal(world->fake.requests[2].token, token);
    assert_int_equal(world->fake.rows_asked, 2); /* missing once is not enough */
    assert_int_equal(inserted(world), EVENTS);
    assert_int_equal(lost(world), 1);
}

static void what_is_there_is_not_sent_again(void **state)
{
    struct world *world = *state;

    start_and_send(world, FAKE_LOST, TRACE_RESTARTED);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_int_equal(world->fake.rows_asked, 1);
    assert_int_equal(lost(world), 0);
}

static void what_is_missing_for_a_moment_is_not_sent_again(void **state)
{
    struct world *world = *state;

    set_rows(world, FAKE_ROWS_BLIND, 1);
    start_and_send(world, FAKE_LOST, TRACE_RESTARTED);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_int_equal(world->fake.rows_asked, 2);
}

static void of_a_server_that_has_run_all_the_time_no_rows_are_asked_for(void **state)
{
    struct world *world = *state;

    start_and_send(world, FAKE_LOST, TRACE_OLD);
    wait_empty(world);
    assert_int_equal(world->fake.traces_asked, 1);
    assert_int_equal(world->fake.rows_asked, 0);
    assert_int_equal(inserted(world), EVENTS);
}

static void of_an_insert_that_is_there_in_part_only_the_missing_rows_go_again(void **state)
{
    struct world *world = *state;

    start_and_send(world, FAKE_BURN_HALF, TRACE_RESTARTED);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(fake_count(&world->fake), 3);
    assert_int_equal(world->fake.requests[2].rows, EVENTS / 2);
    assert_int_equal(inserted(world), EVENTS);
    assert_int_equal(lost(world), 1);
}

static void what_is_lost_again_is_found_out_again(void **state)
{
    struct world *world = *state;

    start_and_send(world, FAKE_BURN, TRACE_RESTARTED);
    WAIT_FOR(world->fake.rows_asked == 1);
    fake_set(&world->fake, FAKE_BURN, 1);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(lost(world), 2);
}

/* Taken for done, as it was before such questions were asked. */
static void where_nothing_can_be_told_an_acknowledged_insert_is_done(void **state)
{
    static const struct {
        const char *probe;
        const char *trace;
        enum fake_rows rows;
    } cases[] = {
        {PROBE_PLAIN, TRACE_RESTARTED, FAKE_ROWS_DENIED},
        {PROBE_PLAIN, TRACE_RESTARTED, FAKE_ROWS_BUSY},
        {PROBE_PLAIN, TRACE_RESTARTED, FAKE_ROWS_HIDDEN},
        {PROBE_PLAIN, TRACE_RESTARTED, FAKE_ROWS_ALIKE},
        {PROBE_PLAIN, TRACE("0", "ReplacingMergeTree", "String"), FAKE_ROWS_BLIND},
        {PROBE_PLAIN, "[0, 5, 100, [\"MergeTree\"], []]\n", FAKE_ROWS_BLIND},
        {PROBE_PLAIN, "[0, 5, 100, [\"MergeTree\"], [[\"event_id\", \"String\", \"ALIAS\"]]]\n",
         FAKE_ROWS_BLIND},
        {PROBE_PLAIN, "nonsense", FAKE_ROWS_BLIND},
        {"26.7.2.1\t1\tReplicatedMergeTree\t0\t1000\t0\tu\t1\te\n", TRACE_RESTARTED,
         FAKE_ROWS_BLIND},
        {"26.7.2.1\t1\tMergeTree\t0\t0\t0\tu\t1\te\n", TRACE_RESTARTED, FAKE_ROWS_BLIND},
        {"Code: 497. DB::Exception: no", TRACE_RESTARTED, FAKE_ROWS_BLIND},
    };
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t before = fake_count(&world->fake);
        fake_set_probe(&world->fake, cases[i].probe);
        set_rows(world, cases[i].rows, -1);
        start_and_send(world, FAKE_LOST, cases[i].trace);
        wait_empty(world);
        assert_int_equal(fake_count(&world->fake), before + 2);
        assert_int_equal(lost(world), 0);
        flusher_stop(world->flusher);
    }
    world->flusher = NULL;
}

static void while_nobody_answers_the_rows_stay_with_us(void **state)
{
    struct world *world = *state;

    set_rows(world, FAKE_ROWS_LOST, -1);
    start_and_send(world, FAKE_BURN, TRACE_RESTARTED);
    WAIT_FOR(world->fake.rows_asked >= 20);
    assert_int_equal(flusher_pending(world->flusher), EVENTS);
    assert_int_equal(journal_live(world->journal, 0), EVENTS);
    set_rows(world, FAKE_ROWS_GONE, -1);
    WAIT_FOR(world->fake.rows_asked >= 40);
    set_trace(world, "[0, 5, 100, [], []]\n");
    WAIT_FOR(world->fake.traces_asked >= 60);
    assert_int_equal(flusher_pending(world->flusher), EVENTS);
    /* Others go on. */
    submit(world, 0, 1, -1);
    WAIT_FOR(inserted(world) == 1);
    set_rows(world, FAKE_ROWS_TOLD, -1);
    set_trace(world, TRACE_RESTARTED);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(lost(world), 1);
}

/* A kill in the middle of stamping the new id: some records bear the old one still. */
static void an_earlier_lifes_inserts_are_looked_at_too(void **state)
{
    struct world *world = *state;
    struct batch *old, *half;

    world->received_ms = clock_real_ms();
    start(world);
    set_trace(world, TRACE("300", "MergeTree", "String"));
    old = make_batch(world, 0, EVENTS / 2, -1);
    old->insert_id = 77;
    fake_set(&world->fake, FAKE_BURNT, 1);
    flusher_submit(world->flusher, old);
    WAIT_FOR(fake_count(&world->fake) == 1);
    half = make_batch(world, 0, EVENTS / 2, -1);
    half->insert_id = 78;
    flusher_submit(world->flusher, half);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(lost(world), 1);
    assert_int_equal(fake_count(&world->fake), 3);
}

static void
of_a_server_that_is_older_than_an_earlier_lifes_insert_no_rows_are_asked_for(void **state)
{
    struct world *world = *state;
    struct batch *old;

    world->received_ms = clock_real_ms();
    start(world);
    set_trace(world, TRACE("1000", "MergeTree", "String"));
    old = make_batch(world, 0, EVENTS, -1);
    old->insert_id = 77;
    flusher_submit(world->flusher, old);
    wait_empty(world);
    assert_int_equal(world->fake.traces_asked, 1);
    assert_int_equal(world->fake.rows_asked, 0);
}

static void a_stop_leaves_what_is_being_looked_at_to_the_next_life(void **state)
{
    struct world *world = *state;

    set_rows(world, FAKE_ROWS_BLIND, -1);
    start_and_send(world, FAKE_LOST, TRACE_RESTARTED);
    WAIT_FOR(world->fake.rows_asked == 1);
    flusher_stop(world->flusher);
    world->flusher = NULL;
    assert_int_equal(journal_live(world->journal, 0), EVENTS);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_not_in_doubt_costs_no_question),
        TEST(a_token_without_rows_is_found_out_and_they_go_again_under_another),
        TEST(what_is_there_is_not_sent_again),
        TEST(what_is_missing_for_a_moment_is_not_sent_again),
        TEST(of_a_server_that_has_run_all_the_time_no_rows_are_asked_for),
        TEST(of_an_insert_that_is_there_in_part_only_the_missing_rows_go_again),
        TEST(what_is_lost_again_is_found_out_again),
        TEST(where_nothing_can_be_told_an_acknowledged_insert_is_done),
        TEST(while_nobody_answers_the_rows_stay_with_us),
        TEST(an_earlier_lifes_inserts_are_looked_at_too),
        TEST(of_a_server_that_is_older_than_an_earlier_lifes_insert_no_rows_are_asked_for),
        TEST(a_stop_leaves_what_is_being_looked_at_to_the_next_life),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
