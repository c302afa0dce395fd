/* SPDX-License-Identifier: Apache-2.0 */
/* test_metrics.c - counters of many threads add up, and observations go to the right bucket. */
#include "alloy/metrics.h"

#include <pthread.h>
#include <stdint.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define THREADS 4
#define ROUNDS 20000

static void snapshot_of_nothing_is_zero(void **state)
{
    struct metrics *metrics = metrics_create();
    struct metrics_snapshot *snapshot = malloc(sizeof(*snapshot));

    (void)state;
    metrics_read(metrics, snapshot);
    for (size_t i = 0; i < sizeof(*snapshot); i++)
        assert_int_equal(((const char *)snapshot)[i], 0);
    free(snapshot);
    metrics_destroy(metrics);
    metrics_destroy(NULL);
}

static void blocks_are_aligned_and_summed(void **state)
{
    struct metrics *metrics = metrics_create();
    struct metrics_thread *a = metrics_thread_create(metrics);
    struct metrics_thread *b = metrics_thread_create(metrics);
    struct metrics_snapshot *snapshot = malloc(sizeof(*snapshot));

    (void)state;
    assert_int_equal((uintptr_t)a % CACHE_LINE, 0);
    assert_int_equal((uintptr_t)b % CACHE_LINE, 0);
    METRIC_STREAM_ADD(a, 0, received, 3);
    METRIC_STREAM_ADD(b, 0, received, 4);
    METRIC_STREAM_ADD(b, METRIC_STREAMS_MAX - 1, received, 5);
    METRIC_ADD(a, redis_errors, 1);
    METRIC_ADD(b, redis_errors, 1);
    metrics_add(&a->http_codes[202], 7);
    metrics_add(&a->answers[0][ERROR_NONE], 8);
    metrics_add(&a->answers[1][ERROR_empty], 1);
    metrics_add(&b->answers[1][ERROR_empty], 2);
    metrics_add(&b->answers[METRIC_STREAM_NONE][ERROR_COUNT - 1], 4);
    METRIC_OBSERVE_NS(a, redis, 60000);
    METRIC_OBSERVE_NS(b, redis, 40000);
    METRIC_OBSERVE_HTTP_NS(a, 0, 60000);
    METRIC_OBSERVE_HTTP_NS(b, 0, 70000);
    METRIC_OBSERVE_HTTP_NS(b, METRIC_STREAM_NONE, 40000);
    METRIC_GAUGE_SET(metrics, redis_up, 1);
    METRIC_GAUGE_ADD(metrics, http_connections, 2);
    METRIC_GAUGE_ADD(metrics, http_connections, -3);

    metrics_read(metrics, snapshot);
    assert_int_equal(snapshot->streams[0][METRIC_STREAM_received], 7);
    assert_int_equal(snapshot->streams[METRIC_STREAMS_MAX - 1][METRIC_STREAM_received], 5);
    assert_int_equal(snapshot->streams[0][METRIC_STREAM_accepted], 0);
    assert_int_equal(snapshot->counters[METRIC_COUNTER_redis_errors], 2);
    assert_int_equal(snapshot->http_codes[202], 7);
    assert_int_equal(snapshot->answers[0][ERROR_NONE], 8);
    assert_int_equal(snapshot->answers[1][ERROR_empty], 3);
    assert_int_equal(snapshot->answers[METRIC_STREAM_NONE][ERROR_COUNT - 1], 4);
    assert_int_equal(snapshot->histograms[METRIC_HISTOGRAM_redis].count, 2);
    assert_int_equal(snapshot->histograms[METRIC_HISTOGRAM_redis].sum_ns, 100000);
    assert_int_equal(snapshot->histograms[METRIC_HISTOGRAM_redis].buckets[0], 1);
    assert_int_equal(snapshot->histograms[METRIC_HISTOGRAM_redis].buckets[1], 1);
    assert_int_equal(snapshot->histograms[METRIC_HISTOGRAM_http_request].count, 3);
    assert_int_equal(snapshot->histograms[METRIC_HISTOGRAM_http_request].sum_ns, 170000);
    assert_int_equal(snapshot->http_buckets[0][1], 2);
    assert_int_equal(snapshot->http_buckets[METRIC_STREAM_NONE][0], 1);
    assert_int_equal(snapshot->http_buckets[1][0], 0);
    assert_int_equal(snapshot->gauges[METRIC_GAUGE_redis_up], 1);
    assert_int_equal(snapshot->gauges[METRIC_GAUGE_http_connections], -1);
    free(snapshot);
    metrics_destroy(metrics);
}

static void a_bound_belongs_to_its_own_bucket(void **state)
{
    struct metrics_histogram histogram = {0};

    (void)state;
    for (size_t i = 0; i < METRIC_BUCKETS - 1; i++) {
        assert_true(i == 0 || metrics_bucket_bounds_ns[i] > metrics_bucket_bounds_ns[i - 1]);
        metrics_observe_ns(&histogram, metrics_bucket_bounds_ns[i]);
        assert_int_equal(histogram.buckets[i], i == 0 ? 1 : 2);
        metrics_observe_ns(&histogram, metrics_bucket_bounds_ns[i] + 1);
        assert_int_equal(histogram.buckets[i + 1], 1);
    }
    metrics_observe_ns(&histogram, 0);
    assert_int_equal(histogram.buckets[0], 2);
    metrics_observe_ns(&histogram, 3600 * 1000000000ull);
    assert_int_equal(histogram.buckets[METRIC_BUCKETS - 1], 2);
    assert_int_equal(metrics_bucket_bounds_ns[0], 50000);
    assert_int_equal(metrics_bucket_bounds_ns[METRIC_BUCKETS - 2], 10000000000ull);
}

static void *count_up(void *arg)
{
    struct metrics *metrics = arg;
    struct metrics_thread *block = metrics_thread_create(metrics);

    for (int i = 0; i < ROUNDS; i++) {
        METRIC_ADD(block, events_unclaimed, 1);
        METRIC_GAUGE_ADD(metrics, http_connections, 1);
    }
    return NULL;
}

static void threads_lose_no_count_and_readers_never_see_less(void **state)
{
    struct metrics *metrics = metrics_create();
    struct metrics_snapshot *snapshot = malloc(sizeof(*snapshot));
    pthread_t threads[THREADS];
    uint64_t last = 0;

    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, metrics), 0);
    for (int i = 0; i < 50; i++) {
        metrics_read(metrics, snapshot);
        assert_true(snapshot->counters[METRIC_COUNTER_events_unclaimed] >= last);
        last = snapshot->counters[METRIC_COUNTER_events_unclaimed];
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    metrics_read(metrics, snapshot);
    assert_int_equal(snapshot->counters[METRIC_COUNTER_events_unclaimed], THREADS * ROUNDS);
    assert_int_equal(snapshot->gauges[METRIC_GAUGE_http_connections], THREADS * ROUNDS);
    free(snapshot);
    metrics_destroy(metrics);
}

static void refused_codes_are_bounded(void **state)
{
    struct metrics *metrics = metrics_create();
    struct metrics_lane *lane = &metrics->lanes[3];

    (void)state;
    for (int round = 0; round < 2; round++)
        for (int code = 1; code <= METRIC_REFUSALS + 5; code++)
            metrics_refused(lane, code % 2 ? code : -code);
    for (int i = 0; i < METRIC_REFUSALS; i++) {
        assert_int_equal(lane->refusals[i].code, (i + 1) % 2 ? i + 1 : -(i + 1));
        assert_int_equal(lane->refusals[i].count, 2);
    }
    assert_int_equal(lane->refusals_other, 10);
    metrics_destroy(metrics);
}

static void rows_and_bytes_go_to_buckets_of_their_own(void **state)
{
    struct metrics *metrics = metrics_create();
    const struct metrics_histogram *rows =
        &metrics->lanes[0].histograms[METRIC_LANE_HISTOGRAM_insert_rows];

    (void)state;
    METRIC_LANE_OBSERVE(metrics, 0, insert_rows, metrics_bounds_rows, 1);
    METRIC_LANE_OBSERVE(metrics, 0, insert_rows, metrics_bounds_rows, 3);
    METRIC_LANE_OBSERVE(metrics, 0, insert_rows, metrics_bounds_rows, 1000000);
    assert_int_equal(rows->buckets[0], 1);
    assert_int_equal(rows->buckets[2], 1);
    assert_int_equal(rows->buckets[METRIC_BUCKETS - 1], 1);
    assert_int_equal(rows->sum_ns, 1000004);
    metrics_destroy(metrics);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snapshot_of_nothing_is_zero),
        cmocka_unit_test(blocks_are_aligned_and_summed),
        cmocka_unit_test(a_bound_belongs_to_its_own_bucket),
        cmocka_unit_test(threads_lose_no_count_and_readers_never_see_less),
        cmocka_unit_test(refused_codes_are_bounded),
        cmocka_unit_test(rows_and_bytes_go_to_buckets_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
