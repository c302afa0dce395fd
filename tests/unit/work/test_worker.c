/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_worker.c - workers between a real ring, journal and Redis, and a flusher that only collects.
 */
#include "worker_fixture.h"

/* ---- tests ---- */

static void a_full_batch_goes_on_at_once(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, BATCH_MAX + 1);
    WAIT_FOR(batch_count() == 1);
    assert_int_equal(collected[0]->count, BATCH_MAX);
    assert_int_equal(collected[0]->capacity, BATCH_MAX);
    assert_int_equal(collected[0]->stream, 0);
    assert_int_equal(collected[0]->insert_id, 0);
    assert_int_equal(collected[0]->bytes, 4 * collected[0]->records[0]->body_length);
    for (uint32_t i = 0; i < BATCH_MAX; i++)
        assert_int_equal(record_id(collected[0]->records[i])[1], '0' + i);
    WAIT_FOR(ring_depth(ring) == 0);
    assert_int_equal(event_count(), BATCH_MAX); /* the fifth still waits for company */
}

static void a_partial_batch_goes_on_when_its_first_event_is_linger_old(void **state)
{
    uint64_t started;

    (void)state;
    config.worker_linger_ms = 60;
    start(1);
    started = clock_mono_ms();
    publish(0, "a", 0, 2);
    WAIT_FOR(batch_count() == 1);
    assert_in_range(clock_mono_ms() - started, 60, 1000);
    assert_int_equal(collected[0]->count, 2);
    assert_int_equal(collected[0]->capacity, 2);
    publish(0, "b", 0, 1); /* the clock starts anew */
    WAIT_FOR(batch_count() == 2);
}

static void each_stream_has_batches_of_its_own(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, 3);
    publish(1, "a", 0, 4);
    WAIT_FOR(batch_count() == 1);
    assert_int_equal(collected[0]->stream, 1);
    publish(0, "a", 3, 1);
    WAIT_FOR(batch_count() == 2);
    assert_int_equal(collected[1]->stream, 0);
    assert_int_equal(collected[1]->count, 4);
}

static void duplicates_leave_the_journal_and_are_counted(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, 4);
    publish(0, "a", 2, 4);
    publish(0, "a", 0, 4);
    WAIT_FOR(journal_live(journal, 0) == 6 && event_count() == 6);
    WAIT_FOR(snapshot().streams[0][METRIC_STREAM_duplicate_l2] == 6);
    assert_int_equal(batch_count(), 2); /* a batch without a unique event is not handed over */
    assert_int_equal(collected[1]->count, 2);
    assert_int_equal(collected[1]->bytes, 2 * collected[1]->records[0]->body_length);
    assert_int_equal(record_id(collected[1]->records[0])[1], '4');
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 0);
}

static void with_pass_events_go_on_unclaimed_while_redis_is_away(void **state)
{
    (void)state;
    config.redis_on_failure = CONFIG_REDIS_PASS;
    redis_fixture_stop(&redis);
    start(1);
    publish(0, "a", 0, 8);
    WAIT_FOR(event_count() == 8);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 8);
    assert_true(health_ready(health));
    redis_fixture_start(&redis);
    WAIT_FOR(redis_up() == 1); /* found out without traffic */
    publish(0, "b", 0, 4);
    WAIT_FOR(event_count() == 12);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 8);
}

static void with_hold_the_ring_fills_until_redis_is_back(void **state)
{
    (void)state;
    config.redis_on_failure = CONFIG_REDIS_HOLD;
    redis_fixture_stop(&redis);
    start(1);
    publish(0, "a", 0, RING_CAPACITY);
    WAIT_FOR(redis_errors() >= 3); /* it does try */
    assert_int_equal(ring_depth(ring), RING_CAPACITY - BATCH_MAX);
    assert_int_equal(batch_count(), 0);
    assert_int_equal(snapshot().gauges[METRIC_GAUGE_redis_up], 0);
    redis_fixture_start(&redis);
    WAIT_FOR(event_count() == RING_CAPACITY);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 0);
    assert_true(health_ready(health));
    assert_int_equal(journal_live(journal, 0), RING_CAPACITY);
}

static void a_reload_to_pass_ends_a_hold(void **state)
{
    struct config next;

    (void)state;
    config.redis_on_failure = CONFIG_REDIS_HOLD;
    redis_fixture_stop(&redis);
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(redis_errors() >= 2);
    assert_int_equal(batch_count(), 0);
    next = config;
    next.redis_on_failure = CONFIG_REDIS_PASS;
    reload(&next);
    WAIT_FOR(event_count() == 4);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 4);
    stop(); /* next goes out of scope */
}

static void after_close_what_is_left_goes_on_at_once_and_the_worker_is_done(void **state)
{
    (void)state;
    start(2);
    publish(0, "a", 0, 3);
    publish(1, "a", 0, 2);
    WAIT_FOR(ring_depth(ring) == 0);
    assert_false(worker_done(workers[0]));
    assert_true(ring_reserve(ring, 1)); /* some front-end thread is in the middle of a turn */
    ring_close(ring);
    WAIT_FOR(event_count() == 5);
    assert_false(worker_done(workers[0]));
    ring_cancel(ring, 1);
    WAIT_FOR(worker_done(workers[0]) && worker_done(workers[1]));
    assert_int_equal(event_count(), 5);
}

static void an_idle_worker_stops_at_once_and_keeps_what_it_holds_live(void **state)
{
    uint64_t started;

    (void)state;
    start(2);
    publish(0, "a", 0, 1);
    WAIT_FOR(ring_depth(ring) == 0);
    started = clock_mono_ms();
    stop();
    assert_in_range(clock_mono_ms() - started, 0, 1000);
    assert_int_equal(batch_count(), 0);
    assert_int_equal(journal_live(journal, 0), 1);
}

static void a_holding_worker_stops_at_once(void **state)
{
    uint64_t started;

    (void)state;
    config.redis_on_failure = CONFIG_REDIS_HOLD;
    redis_fixture_stop(&redis);
    start(1);
    publish(0, "a", 0, 9);
    WAIT_FOR(redis_errors() >= 3);
    started = clock_mono_ms();
    stop();
    assert_in_range(clock_mono_ms() - started, 0, 1000);
    assert_int_equal(batch_count(), 0);
    assert_int_equal(journal_live(journal, 0), 9);
}

/* Also: a stop is not taken for a failure of Redis, after which events would go on unclaimed. */
static void a_worker_that_waits_for_an_answer_stops_within_the_time_out(void **state)
{
    uint64_t started;

    (void)state;
    config.redis_on_failure = CONFIG_REDIS_PASS;
    start(1);
    WAIT_FOR(redis_up() == 1);
    kill(redis.pid, SIGSTOP);
    publish(0, "a", 0, 4);
    WAIT_FOR(ring_depth(ring) == 0);
    started = clock_mono_ms();
    stop();
    kill(redis.pid, SIGCONT);
    assert_in_range(clock_mono_ms() - started, 0, 2 * TIMEOUT_MS);
    assert_int_equal(batch_count(), 0);
    assert_int_equal(journal_live(journal, 0), 4);
}

static void two_workers_lose_and_double_nothing(void **state)
{
    (void)state;
    config.worker_linger_ms = 5;
    start(2);
    for (int round = 0; round < 5; round++) {
        publish(0, "a", round * 300, 500); /* 200 of them again in the next round */
        publish(1, "a", round * 300, 300);
        WAIT_FOR(ring_depth(ring) == 0);
    }
    ring_close(ring);
    WAIT_FOR(worker_done(workers[0]) && worker_done(workers[1]));
    assert_int_equal(event_count(), 1700 + 1500);
    assert_int_equal(snapshot().streams[0][METRIC_STREAM_duplicate_l2], 800);
    assert_int_equal(snapshot().streams[1][METRIC_STREAM_duplicate_l2], 0);
    assert_int_equal(journal_live(journal, 0), 1700);
    assert_int_equal(journal_live(journal, 1), 1500);
}

static void out_of_memory_delays_a_batch_and_loses_nothing(void **state)
{
    (void)state;
    start(1);
    atomic_store(&batch_failures, 3);
    publish(0, "a", 0, 2); /* has no batch to go into */
    WAIT_FOR(atomic_load(&batch_failures) == 0 && ring_depth(ring) == 0);
    atomic_store(&batch_failures, 3);
    publish(0, "a", 2, 2); /* has none to be handed over in */
    WAIT_FOR(event_count() == 4);
    assert_int_equal(atomic_load(&batch_failures), 0);
}

static void an_idle_worker_lets_go_of_a_buried_record_and_its_id_is_new(void **state)
{
    struct l1_thread *ids = l1_thread_create(l1);

    (void)state;
    start(2);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    assert_int_equal(redis_keys(), 4);
    for (uint32_t i = 0; i < 4; i++)
        l1_add(ids, &collected[0]->records[i]->hash, collected[0]->records[i]->lsn,
               clock_mono_ms());
    /* Many times, since a wake-up may only rarely be lost. */
    for (uint32_t i = 0; i < 3; i++) {
        bury(0, i, UINT64_MAX);
        WAIT_FOR(release_pending(release) == 0);
        assert_false(l1_contains(ids, &collected[0]->records[i]->hash));
        assert_int_equal(record_state(collected[0]->records[i]), RECORD_DEAD);
    }
    assert_true(l1_contains(ids, &collected[0]->records[3]->hash));
    assert_int_equal(redis_keys(), 1);
    assert_int_equal(journal_live(journal, 0), 1);
    assert_int_equal(snapshot().streams[0][METRIC_STREAM_dead_lettered], 3);
    publish(0, "a", 0, 4); /* the corrected events; the last one's id is still owned */
    WAIT_FOR(event_count() == 7 && snapshot().streams[0][METRIC_STREAM_duplicate_l2] == 1);
    l1_thread_destroy(ids);
}

/* L1 must not vouch for a record that was a duplicate: it says nothing about what was inserted. */
static void a_duplicate_no_longer_owns_its_id(void **state)
{
    redisContext *admin = redisConnectUnix(redis.socket);
    uint64_t lsn = 0;

    (void)state;
    publisher = l1_thread_create(l1);
    freeReplyObject(redisCommand(admin, "SET alloy:events:a1 %b", "somebody-else-1", (size_t)16));
    redisFree(admin);
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 3 && snapshot().streams[0][METRIC_STREAM_duplicate_l2] == 1);
    for (uint64_t i = 0; i < 4; i++) {
        const struct hash128 hash = {.lo = i, .hi = 0};

        assert_true(l1_owner(publisher, &hash, &lsn));
        assert_int_equal(lsn == 0, i == 1);
    }
    l1_thread_destroy(publisher);
    publisher = NULL;
}

static void a_claim_of_another_record_stays(void **state)
{
    redisContext *admin = redisConnectUnix(redis.socket);

    (void)state;
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    freeReplyObject(redisCommand(admin, "SET alloy:events:a0 %b", "somebody-else-1", (size_t)16));
    redisFree(admin);
    bury(0, 0, UINT64_MAX);
    bury(0, 1, UINT64_MAX);
    WAIT_FOR(release_pending(release) == 0);
    assert_int_equal(redis_keys(), 3);
}

static void with_redis_away_buried_records_stay_live_until_it_is_back(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    redis_fixture_stop(&redis);
    bury(0, 0, UINT64_MAX);
    bury(0, 1, UINT64_MAX);
    WAIT_FOR(redis_errors() >= 2);
    assert_int_equal(release_pending(release), 2);
    assert_int_equal(journal_live(journal, 0), 4);
    assert_int_equal(snapshot().gauges[METRIC_GAUGE_dead_letter_releasing], 2);
    redis_fixture_start(&redis);
    WAIT_FOR(release_pending(release) == 0);
    assert_int_equal(journal_live(journal, 0), 2);
}

static void a_claim_that_has_run_out_needs_no_redis(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    redis_fixture_stop(&redis);
    bury(0, 0, clock_mono_ms() + 300);
    bury(0, 1, UINT64_MAX);
    WAIT_FOR(release_pending(release) == 1);
    assert_int_equal(record_state(collected[0]->records[0]), RECORD_DEAD);
    assert_int_equal(journal_live(journal, 0), 3);
    redis_fixture_start(&redis);
}

/* A Redis that does not run scripts must not cost the claims of other events. */
static void a_refused_release_is_tried_again_and_claims_go_on(void **state)
{
    redisContext *admin = redisConnectUnix(redis.socket);

    (void)state;
    freeReplyObject(redisCommand(admin, "ACL SETUSER default -eval"));
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    bury(0, 0, UINT64_MAX);
    publish(0, "b", 0, 4);
    publish(0, "c", 0, 4);
    WAIT_FOR(event_count() == 12);
    assert_int_equal(release_pending(release), 1);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 0);
    assert_int_equal(redis_up(), 1);
    freeReplyObject(redisCommand(admin, "ACL SETUSER default +eval"));
    redisFree(admin);
    WAIT_FOR(release_pending(release) == 0);
    assert_int_equal(redis_keys(), 11);
}

static void a_worker_that_is_done_still_lets_go_of_buried_records(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, 3);
    ring_close(ring);
    WAIT_FOR(worker_done(workers[0]));
    bury(0, 0, UINT64_MAX);
    WAIT_FOR(release_pending(release) == 0);
    assert_int_equal(journal_live(journal, 0), 2);
}

static void streams_are_let_go_of_together(void **state)
{
    (void)state;
    start(1);
    publish(0, "a", 0, 4);
    publish(1, "a", 0, 4);
    WAIT_FOR(event_count() == 8);
    assert_int_equal(redis_keys(), 8);
    stop();
    for (uint32_t i = 0; i < 4; i++) {
        bury(0, i, UINT64_MAX);
        bury(1, i, UINT64_MAX);
    }
    start(2);
    WAIT_FOR(release_pending(release) == 0);
    assert_int_equal(redis_keys(), 0);
    assert_int_equal(journal_live(journal, 0) + journal_live(journal, 1), 0);
    assert_int_equal(snapshot().streams[1][METRIC_STREAM_dead_lettered], 4);
}

static void without_redis_url_buried_records_leave_l1_alone(void **state)
{
    struct l1_thread *ids = l1_thread_create(l1);

    (void)state;
    config.redis_url = "";
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    l1_add(ids, &collected[0]->records[2]->hash, collected[0]->records[2]->lsn, clock_mono_ms());
    /* Another record has come to own this id: it is not ours to take away. */
    l1_add(ids, &collected[0]->records[3]->hash, 12345, clock_mono_ms());
    bury(0, 2, UINT64_MAX);
    bury(0, 3, UINT64_MAX);
    WAIT_FOR(release_pending(release) == 0);
    assert_false(l1_contains(ids, &collected[0]->records[2]->hash));
    assert_true(l1_contains(ids, &collected[0]->records[3]->hash));
    assert_int_equal(l1_entries(l1), 1);
    l1_thread_destroy(ids);
}

static void the_queue_has_a_bound(void **state)
{
    struct release_item *item;

    (void)state;
    publish(0, "a", 0, 1);
    start(1);
    ring_close(ring);
    WAIT_FOR(event_count() == 1);
    stop();
    for (int i = 0; i < RELEASE_MAX; i++)
        release_push(release, release_prepare(release), collected[0]->records[0], 0);
    assert_null(release_prepare(release));
    /* Records of an earlier life come on top. */
    assert_int_equal(release_adopt(release, collected[0]->records[0], 0), 0);
    assert_int_equal(release_pending(release), RELEASE_MAX + 1);
    release_destroy(release);
    release = release_create(ring, metrics);
    item = release_prepare(release);
    assert_int_equal(release_pending(release), 1);
    release_cancel(release, item);
    assert_int_equal(release_pending(release), 0);
}

static void without_redis_url_events_just_go_on(void **state)
{
    (void)state;
    config.redis_url = "";
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 0);
}

static void a_bad_url_fails_the_start(void **state)
{
    (void)state;
    config.redis_url = "redis://";
    assert_int_equal(worker_start(&workers[0],
                                  &(struct worker_parts){.config = &config_ref,
                                                         .ring = ring,
                                                         .journal = journal,
                                                         .health = health,
                                                         .metrics = metrics},
                                  0),
                     -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_batch_goes_on_at_once),
        TEST(a_partial_batch_goes_on_when_its_first_event_is_linger_old),
        TEST(each_stream_has_batches_of_its_own),
        TEST(duplicates_leave_the_journal_and_are_counted),
        TEST(with_pass_events_go_on_unclaimed_while_redis_is_away),
        TEST(with_hold_the_ring_fills_until_redis_is_back),
        TEST(a_reload_to_pass_ends_a_hold),
        TEST(after_close_what_is_left_goes_on_at_once_and_the_worker_is_done),
        TEST(an_idle_worker_stops_at_once_and_keeps_what_it_holds_live),
        TEST(a_holding_worker_stops_at_once),
        TEST(a_worker_that_waits_for_an_answer_stops_within_the_time_out),
        TEST(two_workers_lose_and_double_nothing),
        TEST(out_of_memory_delays_a_batch_and_loses_nothing),
        TEST(an_idle_worker_lets_go_of_a_buried_record_and_its_id_is_new),
        TEST(a_duplicate_no_longer_owns_its_id),
        TEST(a_claim_of_another_record_stays),
        TEST(with_redis_away_buried_records_stay_live_until_it_is_back),
        TEST(a_claim_that_has_run_out_needs_no_redis),
        TEST(a_refused_release_is_tried_again_and_claims_go_on),
        TEST(a_worker_that_is_done_still_lets_go_of_buried_records),
        TEST(streams_are_let_go_of_together),
        TEST(without_redis_url_buried_records_leave_l1_alone),
        TEST(the_queue_has_a_bound),
        TEST(without_redis_url_events_just_go_on),
        TEST(a_bad_url_fails_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
