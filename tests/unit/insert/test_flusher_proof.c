/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher_proof.c - with stream.proof the table is asked for an insert in doubt before it goes
 * again, and what it has is not sent again, though it has forgotten the token.
 */
#include "doubt_world.h"

#define KEY "clickhouse.a.proof"
#define COLUMN(type, kind) "1\t2 auto 0\tevent_id\tString\t\n2\t\tproof\t" type "\t" kind "\n"
#define RIGHT COLUMN("String", "DEFAULT getSetting(\\'insert_deduplication_token\\')")
#define PROVES(uptime, engine, columns, rest)                       \
    "[" uptime ", \"1700000000\", 100, [\"" engine "\"], [" columns \
    "[\"proof\", \"String\", \"DEFAULT\"]], " rest "]\n"
#define ID "[\"event_id\", \"String\", \"\"], "
#define TOLD PROVES("0", "MergeTree", ID, "0, 0")
#define TOLD_OLD PROVES("1000000000", "MergeTree", ID, "0, 0")

static uint64_t counter(struct world *world, size_t index)
{
    return snapshot(world)->counters[index];
}
#define FOUND METRIC_COUNTER_clickhouse_proven_inserts
#define LOST METRIC_COUNTER_clickhouse_lost_inserts

/* Starts with a table that has the column. */
static void start_proving(struct world *world, const char *trace)
{
    world->config.streams[0].proof = (char *)"proof";
    fake_set_columns(&world->fake, RIGHT);
    start(world);
    set_trace(world, trace);
    WAIT_FOR(world->fake.columns_asked >= 2);
    pause_ms(20);
}

static struct record *last; /* that was submitted */

static void submit_kept(struct world *world, uint32_t n)
{
    struct batch *batch = make_batch(world, 0, n, -1);

    last = batch->records[n - 1];
    flusher_submit(world->flusher, batch);
}

static void send_rows(struct world *world, enum fake_mode mode)
{
    fake_set(&world->fake, mode, 1);
    submit_kept(world, EVENTS);
}

static void what_is_not_in_doubt_costs_no_question(void **state)
{
    struct world *world = *state;

    start_proving(world, TOLD);
    send_rows(world, FAKE_OK);
    wait_empty(world);
    assert_int_equal(world->fake.traces_asked, 0);
    assert_true(world->fake.requests[0].except);
    assert_false(is_up(world, KEY));
}

static void what_is_there_is_done_though_its_token_is_forgotten(void **state)
{
    static const char *const traces[] = {
        TOLD, TOLD_OLD, PROVES("0", "ReplicatedMergeTree", ID, "0, 0"),
        PROVES("0", "SharedMergeTree", "", "0, 1"), PROVES("0", "MergeTree", "", "1, 0")};
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(traces); i++) {
        const size_t before = fake_count(&world->fake);
        world->fake.forgets = true;
        start_proving(world, traces[i]);
        send_rows(world, FAKE_LOST);
        wait_empty(world);
        assert_int_equal(fake_count(&world->fake), before + 1);
        assert_int_equal(counter(world, FOUND), i + 1);
        assert_int_equal(stored(world, 1), EVENTS);
        flusher_stop(world->flusher);
    }
    world->flusher = NULL;
    assert_int_equal(world->fake.rows_asked, 0);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], EVENTS * 5);
}

static void what_is_not_there_goes_again_under_its_token(void **state)
{
    struct world *world = *state;

    start_proving(world, TOLD);
    send_rows(world, FAKE_RESET);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_string_equal(world->fake.requests[0].token, world->fake.requests[1].token);
    assert_true((record_insert_id(last) & INSERT_ID_PROOF) != 0);
}

static void of_what_is_there_in_part_only_the_rest_goes_again_under_its_token(void **state)
{
    struct world *world = *state;

    world->fake.forgets = true;
    start_proving(world, TOLD);
    send_rows(world, FAKE_BURN_HALF);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_int_equal(world->fake.requests[1].rows, EVENTS / 2);
    assert_string_equal(world->fake.requests[0].token, world->fake.requests[1].token);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], EVENTS);
}

/* The rest was dropped for its token: it is known, and has no rows. */
static void what_was_lost_with_its_token_goes_again_under_another(void **state)
{
    static const enum fake_mode modes[] = {FAKE_BURN, FAKE_BURN_HALF};
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        start_proving(world, TOLD);
        send_rows(world, modes[i]);
        wait_empty(world);
        assert_int_equal(counter(world, LOST), i + 1);
        assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], EVENTS * (i + 1));
        flusher_stop(world->flusher);
        assert_int_equal(fake_count(&world->fake), 3 * (i + 1));
        assert_string_not_equal(world->fake.requests[i * 3].token,
                                world->fake.requests[i * 3 + 2].token);
    }
    world->flusher = NULL;
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(world->fake.requests[5].rows, EVENTS / 2);
}

static void without_ids_in_the_table_a_lost_insert_is_found_out_too(void **state)
{
    struct world *world = *state;

    start_proving(world, PROVES("0", "MergeTree", "", "0, 0"));
    send_rows(world, FAKE_BURN);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(counter(world, LOST), 1);
}

/* As without the column. */
static void where_nothing_can_be_told_it_goes_again_under_its_token(void **state)
{
    static const struct {
        const char *trace;
        enum fake_rows rows;
        enum fake_mode mode;
    } cases[] = {
        {TOLD, FAKE_ROWS_DENIED, FAKE_LOST},
        {PROVES("0", "ReplacingMergeTree", ID, "0, 0"), FAKE_ROWS_TOLD, FAKE_LOST},
        {"[0, 5, 100, [\"MergeTree\"], [], 0, 0]\n", FAKE_ROWS_TOLD, FAKE_LOST},
        {"[0, 5, 100, [\"MergeTree\"], [[\"proof\", \"String\", \"\"]], 0, 0]\n", FAKE_ROWS_TOLD,
         FAKE_LOST},
        {"nonsense", FAKE_ROWS_TOLD, FAKE_LOST},
        {TOLD, FAKE_ROWS_HIDDEN, FAKE_RESET},
        {PROVES("0", "MergeTree", "", "0, 0"), FAKE_ROWS_TOLD, FAKE_BURN_HALF},
        {PROVES("0", "MergeTree", ID, "1, 0"), FAKE_ROWS_TOLD, FAKE_RESET},
        {PROVES("0", "ReplicatedMergeTree", ID, "0, 1"), FAKE_ROWS_TOLD, FAKE_RESET},
    };
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t before = fake_count(&world->fake);
        set_rows(world, cases[i].rows, -1);
        start_proving(world, cases[i].trace);
        send_rows(world, cases[i].mode);
        wait_empty(world);
        assert_int_equal(fake_count(&world->fake), before + 2);
        assert_string_equal(world->fake.requests[before].token,
                            world->fake.requests[before + 1].token);
        flusher_stop(world->flusher);
    }
    world->flusher = NULL;
    assert_int_equal(counter(world, LOST), 0);
    assert_int_equal(counter(world, FOUND), 0);
}

static void while_nobody_answers_the_rows_stay_with_us_and_others_go_on(void **state)
{
    struct world *world = *state;

    set_rows(world, FAKE_ROWS_LOST, -1);
    world->fake.forgets = true;
    start_proving(world, TOLD);
    send_rows(world, FAKE_LOST);
    WAIT_FOR(world->fake.counts_asked >= 20);
    assert_int_equal(flusher_pending(world->flusher), EVENTS);
    submit(world, 0, 1, -1);
    WAIT_FOR(snapshot(world)->streams[0][METRIC_STREAM_inserted] == 1);
    set_rows(world, FAKE_ROWS_TOLD, -1);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(counter(world, FOUND), 1);
}

/* As behind a partition. The window has passed meanwhile, so that to insert again would double
 * them. */
static void while_no_question_is_answered_in_time_nothing_is_inserted_again(void **state)
{
    struct world *world = *state;
    size_t before;

    set_rows(world, FAKE_ROWS_SILENT, -1);
    world->fake.forgets = true;
    world->config.clickhouse_timeout_ms = 100;
    start_proving(world, TOLD);
    send_rows(world, FAKE_LOST);
    WAIT_FOR(world->fake.counts_asked >= 1);
    before = fake_count(&world->fake);
    WAIT_FOR(world->fake.counts_asked >= 9);
    assert_int_equal(fake_count(&world->fake), before);
    set_rows(world, FAKE_ROWS_TOLD, -1);
    wait_empty(world);
    assert_int_equal(stored(world, 1), EVENTS);
    assert_int_equal(counter(world, FOUND), 1);
}

/* Rows of it may have been finished before, so that their number tells nothing: ids do. */
static void an_earlier_lifes_inserts_are_asked_for_before_they_are_sent(void **state)
{
    struct world *world = *state;
    struct batch *new;

    world->fake.forgets = true;
    world->received_ms = clock_real_ms();
    start_proving(world, TOLD_OLD);
    new = make_batch(world, 0, EVENTS, -1);
    new->insert_id = 1000 | INSERT_ID_PROOF;
    flusher_submit(world->flusher, new);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 1);
    assert_int_equal(world->fake.counts_asked, 1);
    new = make_batch(world, 0, EVENTS, -1);
    new->insert_id = 1001; /* sent when there was no such column */
    flusher_submit(world->flusher, new);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_int_equal(world->fake.counts_asked, 1);
}

static void a_column_that_does_not_tell_is_a_reason_and_not_used(void **state)
{
    static const struct {
        const char *probe;
        const char *columns;
        int async;
        const char *told;
    } cases[] = {
        {PROBE_PLAIN, COLUMN("String", "DEFAULT \\'x\\'"), CONFIG_ASYNC_AUTO,
         "ALTER TABLE db.ta MODIFY"},
        {PROBE_PLAIN, COLUMN("String", " "), CONFIG_ASYNC_AUTO, "ALTER TABLE db.ta MODIFY"},
        {PROBE_PLAIN, COLUMN("UInt8", "DEFAULT getSetting(\\'insert_deduplication_token\\')"),
         CONFIG_ASYNC_OFF, "ALTER TABLE db.ta MODIFY"},
        {PROBE_PLAIN, COLUMN("String", "ALIAS getSetting(\\'insert_deduplication_token\\')"),
         CONFIG_ASYNC_OFF, "ALTER TABLE db.ta MODIFY"},
        {PROBE_PLAIN, "1\t1 auto 0\tevent_id\tString\t\n", CONFIG_ASYNC_OFF,
         "ALTER TABLE db.ta ADD COLUMN proof String DEFAULT "
         "getSetting('insert_deduplication_token')"},
        {PROBE_PLAIN, "", CONFIG_ASYNC_OFF, "cannot be seen"},
        {PROBE_PLAIN, RIGHT, CONFIG_ASYNC_ON, "Set clickhouse.async_insert to auto"},
        {"26.7.2.1\t1\tReplacingMergeTree\t0\t1000\t0\tu\t1\te\n", RIGHT, CONFIG_ASYNC_OFF,
         "ReplacingMergeTree"},
    };
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t before = fake_count(&world->fake);
        world->config.streams[0].proof = (char *)"proof";
        world->config.clickhouse_async_insert = cases[i].async;
        fake_set_probe(&world->fake, cases[i].probe);
        fake_set_columns(&world->fake, cases[i].columns);
        start(world);
        WAIT_FOR(strstr(health_text(world, KEY),
                        cases[i].told)); /* and no longer what the case before was */
        assert_true(health_ready(world->health));
        submit_kept(world, 1);
        wait_empty(world);
        assert_false(world->fake.requests[before].except);
        assert_int_equal(record_insert_id(last) & INSERT_ID_PROOF, 0);
        flusher_stop(world->flusher);
    }
    world->flusher = NULL;
}

static void ways_to_write_the_default_are_known(void **state)
{
    static const char *const columns[] = {
        COLUMN("LowCardinality(String)",
               "MATERIALIZED getSetting(\\'insert_deduplication_token\\')"),
        COLUMN("Nullable(String)",
               "DEFAULT getSettingOrDefault(\\'insert_deduplication_token\\', \\'\\')"),
        COLUMN("FixedString(32)", "DEFAULT toString(getSetting(\\'insert_deduplication_token\\'))"),
    };
    struct world *world = *state;

    for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
        world->config.streams[0].proof = (char *)"proof";
        fake_set_columns(&world->fake, columns[i]);
        start(world);
        WAIT_FOR(world->fake.columns_asked >= 2 * ((int)i + 1));
        pause_ms(20);
        assert_false(is_up(world, KEY));
        submit_kept(world, 1);
        wait_empty(world);
        assert_true((record_insert_id(last) & INSERT_ID_PROOF) != 0);
        flusher_stop(world->flusher);
    }
    world->flusher = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_not_in_doubt_costs_no_question),
        TEST(what_is_there_is_done_though_its_token_is_forgotten),
        TEST(what_is_not_there_goes_again_under_its_token),
        TEST(of_what_is_there_in_part_only_the_rest_goes_again_under_its_token),
        TEST(what_was_lost_with_its_token_goes_again_under_another),
        TEST(without_ids_in_the_table_a_lost_insert_is_found_out_too),
        TEST(where_nothing_can_be_told_it_goes_again_under_its_token),
        TEST(while_nobody_answers_the_rows_stay_with_us_and_others_go_on),
        TEST(while_no_question_is_answered_in_time_nothing_is_inserted_again),
        TEST(an_earlier_lifes_inserts_are_asked_for_before_they_are_sent),
        TEST(a_column_that_does_not_tell_is_a_reason_and_not_used),
        TEST(ways_to_write_the_default_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
