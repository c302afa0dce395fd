/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher.c - the flusher with a fake ClickHouse.
 */
#include "flusher_world.h"

static void an_insert_that_succeeds_finishes_its_records(void **state)
{
    struct world *world = *state;
    struct batch *batch;
    struct record *record;

    start(world);
    batch = make_batch(world, 0, 3, -1);
    record = batch->records[0];
    flusher_submit(world->flusher, batch);
    wait_empty(world);
    assert_int_equal(record_state(record), RECORD_INSERTED);
    assert_int_not_equal(record_insert_word(record), 0);
    assert_int_equal(journal_live(world->journal, 0), 0);
    assert_int_equal(fake_count(&world->fake), 1);
    assert_int_equal(world->fake.requests[0].rows, 3);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 3);
    assert_int_equal(snapshot(world)->counters[METRIC_COUNTER_clickhouse_inserts], 1);
    assert_int_equal(snapshot(world)->gauges[METRIC_GAUGE_clickhouse_up], 1);
}

static void anything_short_of_proof_is_sent_again_under_the_same_token(void **state)
{
    static const enum fake_mode modes[] = {
        FAKE_RESET,    FAKE_TRUNCATE,       FAKE_500,         FAKE_503_CODE,  FAKE_200_CODE_HEADER,
        FAKE_200_BODY, FAKE_200_NO_SUMMARY, FAKE_200_TOO_FEW, FAKE_404_TABLE, FAKE_UNKNOWN_CODE,
    };
    struct world *world = *state;

    start(world);
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        size_t first = fake_count(&world->fake);
        const struct fake_request *request = &world->fake.requests[first];
        fake_set(&world->fake, modes[i], 2);
        submit(world, 0, 5, -1);
        wait_empty(world);
        assert_int_equal(journal_live(world->journal, 0), 0);
        /* curl itself may send once more where a kept connection was closed. */
        assert_true(fake_count(&world->fake) >= first + 3);
        for (size_t k = first + 1; k < fake_count(&world->fake); k++) {
            assert_string_equal(world->fake.requests[k].token, request->token);
            assert_int_equal(world->fake.requests[k].len, request->len);
            assert_memory_equal(world->fake.requests[k].body, request->body, request->len);
        }
    }
    assert_false(is_up(world, "clickhouse.a"));
}

static void no_more_than_max_inflight_inserts_are_out_and_the_rest_gathers(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_HANG, -1);
    for (int i = 0; i < 60; i++) {
        submit(world, (uint16_t)(i % 2), 10, -1);
        if (i < 4)
            WAIT_FOR(fake_count(&world->fake) == (size_t)i + 1);
    }
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_int_equal(world->fake.inside_max, 4);
    /* 56 batches gathered: one insert a stream, or two where the last came late. */
    assert_true(fake_count(&world->fake) <= 8);
    assert_int_equal(world->fake.inserted_rows, 600);
}

static void a_stuck_stream_does_not_hold_up_another(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_max_inflight = 1;
    world->config.clickhouse_retry_min_ms = 300;
    world->config.clickhouse_retry_max_ms = 300;
    world->fake.mode_table = "%60ta%60";
    start(world);
    fake_set(&world->fake, FAKE_404_TABLE, -1);
    submit(world, 0, 5, -1);
    WAIT_FOR(is_up(world, "clickhouse.a"));
    assert_true(health_ready(world->health)); /* the other can go on */
    for (int i = 0; i < 20; i++)
        submit(world, i % 2 ? 0 : 1, 5, -1);
    WAIT_FOR(journal_live(world->journal, 1) == 0);
    assert_int_equal(journal_live(world->journal, 0), 55);
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_true(health_ready(world->health));
}

static size_t bound(size_t n)
{
    size_t twice = 0;

    /* floor(2 * log2(n)) + 2 */
    while ((1ull << (twice + 1)) <= (uint64_t)n * n)
        twice++;
    return twice + 2;
}

static void isolate(struct world *world, uint32_t n, int64_t bad)
{
    size_t first = fake_count(&world->fake);
    uint64_t dead = snapshot(world)->streams[0][METRIC_STREAM_dead_lettered];

    submit(world, 0, n, bad);
    wait_empty(world);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], dead + 1);
    assert_true(fake_count(&world->fake) - first <= bound(n));
}

static void one_bad_row_is_found_within_the_bound_and_costs_no_neighbor(void **state)
{
    struct world *world = *state;
    uint64_t rows = 0;
    uint64_t dead = 0;
    size_t lines;
    char *text;

    start(world);
    for (int hints = 0; hints < 3; hints++) {
        world->fake.name_row = hints > 0;
        world->fake.name_wrong_row = hints == 2;
        for (uint32_t n = 1; n <= 9; n++) {
            for (int64_t bad = 0; bad < n; bad++, dead++, rows += n)
                isolate(world, n, bad);
        }
        for (int64_t bad = 0; bad < 100; bad += 11, dead++, rows += 100)
            isolate(world, 100, bad);
    }
    assert_int_equal(world->fake.inserted_rows, rows - dead);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], rows - dead);
    text = dead_letters(world, &lines);
    assert_int_equal(lines, dead);
    assert_non_null(strstr(text, "\"code\":27,\"message\":\"Code: 27. DB::Exception"));
    free(text);
}

static void many_bad_rows_are_all_found(void **state)
{
    struct world *world = *state;
    struct batch *batch;

    world->fake.name_row = true;
    start(world);
    for (int round = 0; round < 2; round++) {
        batch = batch_create(0, 200);
        for (int i = 0; i < 20; i++) {
            struct batch *piece = make_batch(world, 0, 10, i % 2 ? 3 : -1);
            for (uint32_t k = 0; k < piece->count; k++)
                batch_add(batch, piece->records[k]);
            free(piece);
        }
        flusher_submit(world->flusher, batch);
        wait_empty(world);
        assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered],
                         10 * (round + 1));
        assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 190 * (round + 1));
        world->fake.name_row = false;
    }
}

static void too_many_partitions_halve_the_insert(void **state)
{
    struct world *world = *state;

    world->fake.bad_partitions = true;
    start(world);
    submit(world, 0, 64, -1);
    wait_empty(world);
    assert_int_equal(world->fake.inserted_rows, 64);
    assert_int_equal(fake_count(&world->fake), 1 + 2 + 4 + 8);
}

static void a_full_dead_letter_folder_keeps_the_row_and_lets_the_stream_go_on(void **state)
{
    struct world *world = *state;

    world->config.dead_letter_max_bytes_bytes = 10;
    start(world);
    submit(world, 0, 4, 1);
    WAIT_FOR(is_up(world, "dead_letter"));
    submit(world, 0, 4, -1);
    WAIT_FOR(flusher_pending(world->flusher) == 1);
    assert_int_equal(journal_live(world->journal, 0), 1);
    assert_true(health_ready(world->health));
    assert_int_equal(snapshot(world)->gauges[METRIC_GAUGE_dead_letter_parked], 1);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 0);
}

static void a_higher_cap_lets_parked_rows_into_the_folder(void **state)
{
    struct world *world = *state;
    struct config next = world->config;
    size_t lines;

    world->config.dead_letter_max_bytes_bytes = 10;
    start(world);
    for (int i = 0; i < 100; i++)
        submit(world, 0, 2, 1);
    WAIT_FOR(flusher_pending(world->flusher) == 100);
    atomic_store(&world->ref.current, &next);
    wait_empty(world);
    WAIT_FOR(!is_up(world, "dead_letter"));
    free(dead_letters(world, &lines));
    assert_int_equal(lines, 100);
    assert_int_equal(journal_live(world->journal, 0), 0);
    assert_int_equal(snapshot(world)->gauges[METRIC_GAUGE_dead_letter_parked], 0);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 100);
    flusher_stop(world->flusher); /* next goes out of scope */
    world->flusher = NULL;
}

static void a_buried_row_is_out_of_l1_and_its_line_names_its_record(void **state)
{
    struct world *world = *state;
    struct l1_thread *l1 = l1_thread_create(world->l1);
    struct batch *batch;
    struct record *record;
    char lsn[64];
    size_t lines;
    char *text;

    start(world);
    batch = make_batch(world, 0, 1, 0);
    record = batch->records[0];
    assert_int_equal(l1_add(l1, &record->hash, record->lsn, clock_mono_ms()), L1_ADDED);
    snprintf(lsn, sizeof(lsn), "\"lsn\":\"%016" PRIx64 "%016" PRIx64 "\"",
             journal_instance_id(world->journal), record->lsn);
    flusher_submit(world->flusher, batch);
    wait_empty(world);
    assert_int_equal(record_state(record), RECORD_DEAD);
    assert_false(l1_contains(l1, &record->hash));
    text = dead_letters(world, &lines);
    assert_non_null(strstr(text, lsn));
    free(text);
    l1_thread_destroy(l1);
}

static void a_frozen_insert_goes_out_as_it_was(void **state)
{
    struct world *world = *state;
    struct batch *frozen;
    char token[40];

    world->config.clickhouse_max_inflight = 1;
    start(world);
    fake_set(&world->fake, FAKE_HANG, -1);
    submit(world, 0, 1, -1);
    WAIT_FOR(fake_count(&world->fake) == 1);
    submit(world, 0, 2, -1);
    frozen = make_batch(world, 0, 7, -1);
    frozen->insert_id = 0xabcdef;
    flusher_submit(world->flusher, frozen);
    submit(world, 0, 3, -1);
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 4);
    assert_int_equal(world->fake.requests[2].rows, 7);
    snprintf(token, sizeof(token), "%016" PRIx64 "%016x", journal_instance_id(world->journal),
             0xabcdef);
    assert_string_equal(world->fake.requests[2].token, token);
}

/* Tokens of async inserts are apart from others, so how it was sent is part of the insert's id. */
static void a_frozen_insert_is_async_if_it_was_and_only_then(void **state)
{
    struct world *world = *state;
    struct batch *frozen;
    struct record *record;

    start(world);
    frozen = make_batch(world, 0, 2, -1);
    frozen->insert_id = INSERT_ID_ASYNC | 5;
    flusher_submit(world->flusher, frozen);
    wait_empty(world);
    assert_true(world->fake.requests[0].async);
    flusher_stop(world->flusher);
    world->config.clickhouse_async_insert = CONFIG_ASYNC_ON;
    start(world);
    frozen = make_batch(world, 0, 2, -1);
    frozen->insert_id = 6;
    flusher_submit(world->flusher, frozen);
    wait_empty(world);
    assert_false(world->fake.requests[1].async);
    frozen = make_batch(world, 0, 2, -1);
    record = frozen->records[0];
    flusher_submit(world->flusher, frozen);
    wait_empty(world);
    assert_true(world->fake.requests[2].async);
    assert_true((record_insert_id(record) & INSERT_ID_ASYNC) != 0);
}

static void too_many_parts_slow_inserts_down_until_they_succeed(void **state)
{
    struct world *world = *state;
    uint64_t begun;

    world->config.clickhouse_retry_min_ms = 50;
    world->config.clickhouse_retry_max_ms = 200;
    start(world);
    fake_set(&world->fake, FAKE_TOO_MANY_PARTS, 3);
    submit(world, 0, 1, -1);
    WAIT_FOR(fake_count(&world->fake) == 4); /* the pause is 200 ms by now */
    begun = clock_mono_ms();
    for (int i = 0; i < 50; i++) {
        submit(world, 0, 1, -1);
        pause_ms(2);
    }
    submit(world, 1, 1, -1);
    WAIT_FOR(journal_live(world->journal, 1) == 0);
    assert_true(clock_mono_ms() - begun < 200 || world->fake.requests[4].rows > 1);
    wait_empty(world);
    /* 50 batches gathered through one pause, or through two on a machine that is slow. */
    assert_in_range(fake_count(&world->fake), 6, 8);
    assert_int_equal(world->fake.inserted_rows, 52);
    assert_int_equal(snapshot(world)->counters[METRIC_COUNTER_clickhouse_errors_retry], 3);
    assert_true(clock_mono_ms() - begun >= 100);
}

static void a_single_row_of_an_async_insert_is_judged_by_itself(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_async_insert = CONFIG_ASYNC_ON;
    start(world);
    fake_set(&world->fake, FAKE_OTHERS_ROW, 1);
    submit(world, 0, 1, -1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_false(world->fake.requests[0].alone);
    assert_true(world->fake.requests[1].async && world->fake.requests[1].alone);
    assert_string_equal(world->fake.requests[0].token, world->fake.requests[1].token);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 1);
    submit(world, 0, 1, 0);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 4);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 1);
}

/* Its answer was lost, and its retry is refused for a row that is none of its own. */
static void an_async_insert_that_may_be_in_is_not_taken_apart_for_others_rows(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_async_insert = CONFIG_ASYNC_ON;
    world->config.clickhouse_retry_min_ms = 300;
    world->config.clickhouse_retry_max_ms = 300;
    start(world);
    fake_set(&world->fake, FAKE_TRUNCATE, 1);
    submit(world, 0, 4, -1);
    WAIT_FOR(fake_count(&world->fake) == 1);
    fake_set(&world->fake, FAKE_OTHERS_ROW, 1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(world->fake.requests[i].token, world->fake.requests[0].token);
        assert_int_equal(world->fake.requests[i].rows, 4);
        assert_int_equal(world->fake.requests[i].alone, i == 2);
    }
    /* Refused alone, it never was in: now it is taken apart. */
    fake_set(&world->fake, FAKE_TRUNCATE, 1);
    submit(world, 0, 4, 1);
    wait_empty(world);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 1);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 7);
}

static void what_a_view_refuses_goes_in_without_it_under_the_same_token(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_VIEW, -1);
    submit(world, 0, 5, -1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 2);
    assert_string_equal(world->fake.requests[0].token, world->fake.requests[1].token);
    assert_false(world->fake.requests[0].ignore_views);
    assert_true(world->fake.requests[1].ignore_views);
    assert_int_equal(world->fake.inserted_rows, 5);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 5);
    assert_int_equal(snapshot(world)->counters[METRIC_COUNTER_clickhouse_view_errors], 1);
    assert_true(is_up(world, "clickhouse.a.view"));
    assert_true(health_ready(world->health));
}

/* With views nothing is judged by what its message says: an event can say anything. */
static void a_bad_row_of_a_table_with_views_is_found_and_no_view_blamed(void **state)
{
    struct world *world = *state;

    fake_set_probe(&world->fake, "26.7.2.1\t1\tMergeTree\t0\t1000\t1\tu\t1\te\n");
    start(world);
    submit(world, 0, 8, 3);
    wait_empty(world);
    assert_true(world->fake.requests[1].ignore_views);
    assert_string_equal(world->fake.requests[0].token, world->fake.requests[1].token);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 7);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 1);
    assert_int_equal(world->fake.inserted_rows, 7);
    assert_int_equal(snapshot(world)->counters[METRIC_COUNTER_clickhouse_view_errors], 0);
    assert_false(is_up(world, "clickhouse.a.view"));
}

static void what_a_proxy_finds_too_long_is_halved_unless_it_may_be_in(void **state)
{
    struct world *world = *state;
    size_t before;

    start(world);
    fake_set(&world->fake, FAKE_TOO_LONG, 1);
    submit(world, 0, 4, -1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 3);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 4);
    fake_set(&world->fake, FAKE_TOO_LONG, 1);
    submit(world, 0, 1, -1);
    wait_empty(world);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 1);
    before = fake_count(&world->fake);
    fake_set(&world->fake, FAKE_TRUNCATE, 1);
    submit(world, 0, 2, -1);
    WAIT_FOR(fake_count(&world->fake) > before);
    fake_set(&world->fake, FAKE_TOO_LONG, 2);
    wait_empty(world);
    for (size_t i = before; i < fake_count(&world->fake); i++)
        assert_string_equal(world->fake.requests[i].token, world->fake.requests[before].token);
}

static void what_does_not_pass_by_itself_is_told(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_503_CODE, -1);
    submit(world, 0, 5, -1);
    WAIT_FOR(is_up(world, "clickhouse.a.retry"));
    assert_true(fake_count(&world->fake) >= 5);
    assert_true(health_ready(world->health));
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_false(is_up(world, "clickhouse.a.retry"));
}

static void what_is_not_known_is_told_for_as_long_as_it_lasts(void **state)
{
    struct world *world = *state;

    start(world);
    fake_set(&world->fake, FAKE_UNKNOWN_CODE, -1);
    submit(world, 0, 5, -1);
    WAIT_FOR(is_up(world, "clickhouse.a.refuses"));
    assert_true(health_ready(world->health));
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 0);
    fake_set(&world->fake, FAKE_OK, -1);
    wait_empty(world);
    assert_false(is_up(world, "clickhouse.a.refuses"));
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 5);
}

static void auto_is_async_only_where_the_probe_says_so(void **state)
{
    static const struct {
        const char *probe;
        bool async;
    } cases[] = {
        {PROBE_PLAIN, true},
        {"26.4.5.150\t1\tMergeTree\t1\t1000\t0\tu\t1\te\n", false},
        {"26.3.1.1\t1\tMergeTree\t0\t1000\t0\tu\t1\te\n", false},
        {"no such answer", false},
    };
    struct world *world = *state;

    world->config.clickhouse_async_insert = CONFIG_ASYNC_AUTO;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake_set_probe(&world->fake, cases[i].probe);
        start(world);
        submit(world, 0, 1, -1);
        wait_empty(world);
        assert_int_equal(world->fake.requests[i].async, cases[i].async);
        assert_int_equal(is_up(world, "clickhouse.a.async"), !cases[i].async);
        assert_true(health_ready(world->health));
        flusher_stop(world->flusher);
    }
    /* No stream is left, so that this alloyd should get no traffic. */
    fake_set_probe(&world->fake, "26.7.2.1\t0\t\t0\t\t0\tu\t1\te\n");
    start(world);
    WAIT_FOR(is_up(world, "clickhouse.a") && is_up(world, "clickhouse.b") &&
             !health_ready(world->health));
    flusher_stop(world->flusher);
    fake_set_probe(&world->fake, "26.7.2.1\t1\tMergeTree\t0\t\t0\tu\t1\te\n");
    start(world);
    WAIT_FOR(is_up(world, "clickhouse.a.window"));
}

static void stop_is_prompt_and_leaves_what_is_out_live(void **state)
{
    struct world *world = *state;
    uint64_t begun;

    start(world);
    fake_set(&world->fake, FAKE_HANG, -1);
    for (int i = 0; i < 10; i++)
        submit(world, 0, 10, -1);
    WAIT_FOR(fake_count(&world->fake) > 0);
    begun = clock_mono_ms();
    flusher_stop(world->flusher);
    world->flusher = NULL;
    assert_true(clock_mono_ms() - begun < 1000);
    assert_int_equal(journal_live(world->journal, 0), 100);
}

static void discard_counts_without_a_network(void **state)
{
    struct world *world = *state;

    snprintf(world->url, sizeof(world->url), "discard:");
    start(world);
    for (int i = 0; i < 10; i++)
        submit(world, 0, 10, -1);
    wait_empty(world);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 100);
    assert_int_equal(journal_live(world->journal, 0), 0);
    assert_int_equal(fake_count(&world->fake), 0);
}

struct submitter {
    struct world *world;
    struct batch *batches[50];
};

static void *submit_all(void *arg)
{
    struct submitter *submitter = arg;

    for (size_t i = 0; i < ARRAY_LEN(submitter->batches); i++)
        flusher_submit(submitter->world->flusher, submitter->batches[i]);
    return NULL;
}

static void nothing_is_lost_with_several_submitters(void **state)
{
    struct world *world = *state;
    struct submitter submitters[3];
    pthread_t threads[3];

    for (int t = 0; t < 3; t++) {
        submitters[t].world = world;
        for (size_t i = 0; i < 50; i++)
            submitters[t].batches[i] = make_batch(world, (uint16_t)(i % 2), 20, -1);
    }
    start(world);
    for (int t = 0; t < 3; t++)
        pthread_create(&threads[t], NULL, submit_all, &submitters[t]);
    for (int t = 0; t < 3; t++)
        pthread_join(threads[t], NULL);
    wait_empty(world);
    assert_int_equal(world->fake.inserted_rows, 3000);
    assert_int_equal(journal_live(world->journal, 0) + journal_live(world->journal, 1), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_insert_that_succeeds_finishes_its_records),
        TEST(anything_short_of_proof_is_sent_again_under_the_same_token),
        TEST(no_more_than_max_inflight_inserts_are_out_and_the_rest_gathers),
        TEST(a_stuck_stream_does_not_hold_up_another),
        TEST(one_bad_row_is_found_within_the_bound_and_costs_no_neighbor),
        TEST(many_bad_rows_are_all_found),
        TEST(too_many_partitions_halve_the_insert),
        TEST(a_full_dead_letter_folder_keeps_the_row_and_lets_the_stream_go_on),
        TEST(a_higher_cap_lets_parked_rows_into_the_folder),
        TEST(a_buried_row_is_out_of_l1_and_its_line_names_its_record),
        TEST(a_frozen_insert_goes_out_as_it_was),
        TEST(a_frozen_insert_is_async_if_it_was_and_only_then),
        TEST(too_many_parts_slow_inserts_down_until_they_succeed),
        TEST(a_single_row_of_an_async_insert_is_judged_by_itself),
        TEST(an_async_insert_that_may_be_in_is_not_taken_apart_for_others_rows),
        TEST(what_a_view_refuses_goes_in_without_it_under_the_same_token),
        TEST(a_bad_row_of_a_table_with_views_is_found_and_no_view_blamed),
        TEST(what_a_proxy_finds_too_long_is_halved_unless_it_may_be_in),
        TEST(what_does_not_pass_by_itself_is_told),
        TEST(what_is_not_known_is_told_for_as_long_as_it_lasts),
        TEST(auto_is_async_only_where_the_probe_says_so),
        TEST(stop_is_prompt_and_leaves_what_is_out_live),
        TEST(discard_counts_without_a_network),
        TEST(nothing_is_lost_with_several_submitters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
