/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_worker_claims.c - what workers do when claims cannot be taken, released, or read.
 */
#include "worker_fixture.h"

/* The keys are somebody's, so that they must be known to be ours. */
static void start_marks(void)
{
    redisContext *admin = redisConnectUnix(redis.socket);

    if (admin->err == 0) {
        freeReplyObject(redisCommand(admin, "SET alloy:#table:events table-a"));
        freeReplyObject(redisCommand(admin, "SET alloy:#table:orders table-b"));
    }
    redisFree(admin);
    assert_int_equal(marks_start(&marks, &(struct marks_parts){.config = &config_ref,
                                                               .health = health,
                                                               .ring = ring,
                                                               .instance_id = 1}),
                     0);
}

static void events_of_a_table_that_is_not_known_wait_beside_the_ring(void **state)
{
    (void)state;
    config.worker_linger_ms = 5;
    start_marks();
    marks_tell(marks, 1, 0, "table-b");
    start(2);
    for (int round = 0; round < 3; round++) {
        publish(0, "a", round * 500, 500);
        publish(1, "b", round * 10, 10);
        WAIT_FOR(ring_depth(ring) == 0 && event_count() == 10 * ((size_t)round + 1));
    }
    assert_int_equal(journal_live(journal, 0), 1500);
    marks_tell(marks, 0, 0, "table-a");
    WAIT_FOR(event_count() == 1530);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 0);
}

static void a_worker_that_keeps_events_is_done_when_they_have_gone_on(void **state)
{
    (void)state;
    start_marks();
    start(1);
    publish(0, "a", 0, 9);
    ring_close(ring);
    WAIT_FOR(ring_depth(ring) == 0);
    fixture_pause_ms(50);
    assert_false(worker_done(workers[0]));
    assert_int_equal(event_count(), 0);
    marks_tell(marks, 0, 0, "");
    WAIT_FOR(worker_done(workers[0]));
    assert_int_equal(event_count(), 9);
}

static void a_worker_that_keeps_events_stops_at_once(void **state)
{
    uint64_t started;

    (void)state;
    start_marks();
    start(2);
    publish(0, "a", 0, 100);
    WAIT_FOR(ring_depth(ring) == 0);
    started = clock_mono_ms();
    stop();
    assert_in_range(clock_mono_ms() - started, 0, 1000);
    assert_int_equal(journal_live(journal, 0), 100);
}

/* The table is known, and Redis has never told whose the keys are. */
static void with_pass_a_redis_that_was_never_there_is_done_without(void **state)
{
    struct config hold;

    (void)state;
    config.redis_on_failure = CONFIG_REDIS_PASS;
    redis_fixture_stop(&redis);
    start_marks();
    marks_tell(marks, 0, 0, "table-a");
    start(1);
    publish(0, "a", 0, 8);
    WAIT_FOR(event_count() == 8);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 8);
    hold = config;
    hold.redis_on_failure = CONFIG_REDIS_HOLD;
    reload(&hold);
    publish(0, "b", 0, RING_CAPACITY);
    WAIT_FOR(redis_errors() >= 4);
    assert_int_equal(ring_depth(ring), RING_CAPACITY - BATCH_MAX);
    redis_fixture_start(&redis);
    WAIT_FOR(event_count() == RING_CAPACITY + 8);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 8);
    stop(); /* hold goes out of scope */
    reload(&config);
}

static void a_claim_that_redis_refuses_to_release_holds_up_no_other(void **state)
{
    redisContext *admin = redisConnectUnix(redis.socket);

    (void)state;
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    freeReplyObject(redisCommand(
        admin, "ACL SETUSER default resetkeys ~alloy:events: ~alloy:orders: ~alloy:events:a[123]"));
    for (uint32_t i = 0; i < 4; i++) {
        bury(0, i, UINT64_MAX);
        WAIT_FOR(release_pending(release) == 1);
    }
    assert_int_equal(record_state(collected[0]->records[0]), RECORD_LIVE);
    assert_int_equal(redis_up(), 1);
    freeReplyObject(redisCommand(admin, "ACL SETUSER default allkeys"));
    redisFree(admin);
    WAIT_FOR(release_pending(release) == 0);
    assert_int_equal(redis_keys(), 0);
}

static void a_key_that_holds_no_claim_is_counted_and_its_event_goes_on(void **state)
{
    redisContext *admin = redisConnectUnix(redis.socket);

    (void)state;
    freeReplyObject(redisCommand(admin, "LPUSH alloy:events:a1 x"));
    freeReplyObject(redisCommand(admin, "SET alloy:events:a2 x"));
    redisFree(admin);
    start(1);
    publish(0, "a", 0, 4);
    WAIT_FOR(event_count() == 4);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_redis_strange_keys], 2);
    assert_int_equal(snapshot().counters[METRIC_COUNTER_events_unclaimed], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_of_a_table_that_is_not_known_wait_beside_the_ring),
        TEST(a_worker_that_keeps_events_is_done_when_they_have_gone_on),
        TEST(a_worker_that_keeps_events_stops_at_once),
        TEST(with_pass_a_redis_that_was_never_there_is_done_without),
        TEST(a_claim_that_redis_refuses_to_release_holds_up_no_other),
        TEST(a_key_that_holds_no_claim_is_counted_and_its_event_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
