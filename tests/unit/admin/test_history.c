/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_history.c - steps hold what happened in them, and no more than an hour of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "history.h"

static struct history *history;
static struct history_reading reading;
static struct history_point points[HISTORY_STEPS_MAX];

static int start(void **state)
{
    (void)state;
    history = history_create();
    memset(&reading, 0, sizeof(reading));
    reading.mono_ms = 777123;
    reading.real_ms = 1769860800000;
    reading.streams[0].name = "events";
    reading.streams[1].name = "clicks";
    history_sample(history, &reading);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    history_destroy(history);
    return 0;
}

static void pass_ms(uint64_t ms)
{
    reading.mono_ms += ms;
    reading.real_ms += ms;
    history_sample(history, &reading);
}

static size_t look(enum history_track_id track, size_t stream, uint64_t after)
{
    return history_read(history, track, stream, after, points);
}

static void count(size_t stream, enum history_count which, uint64_t n)
{
    reading.streams[stream].counts[which] += n;
}

static void the_first_reading_only_begins(void **state)
{
    (void)state;
    assert_int_equal(look(HISTORY_FINE, HISTORY_ALL, 0), 0);
    assert_int_equal(history_last(history, HISTORY_FINE), 0);
    count(0, HISTORY_RECEIVED, 5);
    pass_ms(1000);
    assert_int_equal(look(HISTORY_FINE, 0, 0), 1);
    assert_int_equal(points[0].counts[HISTORY_RECEIVED], 5);
    assert_int_equal(points[0].span_ms, 1000);
    assert_int_equal(history_last_ms(history, HISTORY_FINE), reading.real_ms);
    assert_int_equal(look(HISTORY_COARSE, 0, 0), 0);
}

static void a_step_is_what_happened_since_the_one_before(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 20; i++) {
        count(0, HISTORY_RECEIVED, i);
        count(1, HISTORY_RECEIVED, 100);
        count(METRIC_STREAM_NONE, HISTORY_REFUSED, 1);
        reading.streams[0].gauges[HISTORY_PENDING] = (uint32_t)(20 - i);
        reading.streams[1].gauges[HISTORY_PENDING] = 7;
        reading.streams[0].gauges[HISTORY_LAG_MS] = HISTORY_NONE;
        reading.streams[1].gauges[HISTORY_LAG_MS] = i == 4 ? 3000 : 5;
        pass_ms(1000);
    }
    assert_int_equal(look(HISTORY_FINE, 0, 0), 20);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(points[i].counts[HISTORY_RECEIVED], i + 1);
    assert_int_equal(points[19].counts[HISTORY_REFUSED], 0);
    assert_int_equal(points[3].gauges[HISTORY_LAG_MS], HISTORY_NONE);
    assert_int_equal(look(HISTORY_FINE, HISTORY_ALL, 0), 20);
    assert_int_equal(points[19].counts[HISTORY_RECEIVED], 120);
    assert_int_equal(points[19].counts[HISTORY_REFUSED], 1);
    assert_int_equal(points[0].gauges[HISTORY_PENDING], 26);
    assert_int_equal(points[3].gauges[HISTORY_LAG_MS], 3000);
    /* Ten of them are one, with the highest of each gauge. */
    assert_int_equal(look(HISTORY_COARSE, HISTORY_ALL, 0), 2);
    assert_int_equal(points[0].counts[HISTORY_RECEIVED], 55 + 1000);
    assert_int_equal(points[1].counts[HISTORY_RECEIVED], 155 + 1000);
    assert_int_equal(points[0].gauges[HISTORY_LAG_MS], 3000);
    assert_int_equal(points[1].gauges[HISTORY_LAG_MS], 5);
    assert_int_equal(points[0].gauges[HISTORY_PENDING], 26);
    assert_int_equal(points[0].span_ms, 10000);
}

static void steps_that_are_a_little_late_or_early_leave_no_gap(void **state)
{
    static const uint64_t ms[] = {1000, 1400, 600, 1000, 700, 1300, 1000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ms) * 20; i++) {
        count(0, HISTORY_INSERTED, 1);
        pass_ms(ms[i % ARRAY_LEN(ms)]);
    }
    assert_int_equal(look(HISTORY_FINE, 0, 0), ARRAY_LEN(ms) * 20);
    for (size_t i = 0; i < ARRAY_LEN(ms) * 20; i++) {
        assert_int_equal(points[i].counts[HISTORY_INSERTED], 1);
        assert_int_equal(points[i].span_ms, ms[i % ARRAY_LEN(ms)]);
    }
}

static void two_readings_in_one_step_count_together(void **state)
{
    (void)state;
    count(0, HISTORY_INSERTED, 1);
    reading.wholes[HISTORY_RING] = 9;
    pass_ms(100);
    count(0, HISTORY_INSERTED, 1);
    reading.wholes[HISTORY_RING] = 2;
    pass_ms(900);
    assert_int_equal(look(HISTORY_FINE, 0, 0), 1);
    assert_int_equal(points[0].counts[HISTORY_INSERTED], 2);
    assert_int_equal(points[0].wholes[HISTORY_RING], 9);
}

static void the_oldest_step_gives_way(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 10000; i++) {
        count(0, HISTORY_ACCEPTED, i);
        pass_ms(1000);
    }
    assert_int_equal(look(HISTORY_FINE, 0, 0), HISTORY_FINE_STEPS);
    for (size_t i = 0; i < HISTORY_FINE_STEPS; i++)
        assert_int_equal(points[i].counts[HISTORY_ACCEPTED], 10000 - HISTORY_FINE_STEPS + 1 + i);
    assert_int_equal(history_last(history, HISTORY_FINE), 10000);
    assert_int_equal(look(HISTORY_COARSE, 0, 0), HISTORY_COARSE_STEPS);
    assert_int_equal(history_last(history, HISTORY_COARSE), 1000);
    assert_int_equal(points[HISTORY_COARSE_STEPS - 1].counts[HISTORY_ACCEPTED], 99955);
}

static void who_has_some_gets_what_is_new(void **state)
{
    (void)state;
    for (size_t i = 0; i < 12; i++)
        pass_ms(1000);
    assert_int_equal(look(HISTORY_FINE, 0, 11), 1);
    assert_int_equal(look(HISTORY_FINE, 0, 12), 0);
    assert_int_equal(look(HISTORY_FINE, 0, 13), 0);
    assert_int_equal(look(HISTORY_FINE, 0, UINT64_MAX), 0);
    for (size_t i = 0; i < 1000; i++)
        pass_ms(1000);
    assert_int_equal(look(HISTORY_FINE, 0, 3), HISTORY_FINE_STEPS);
    assert_int_equal(look(HISTORY_FINE, 0, 1010), 2);
}

static void a_stopped_process_leaves_a_gap_and_true_rates(void **state)
{
    (void)state;
    for (size_t i = 0; i < 15; i++)
        pass_ms(1000);
    count(0, HISTORY_RECEIVED, 600);
    pass_ms(60300);
    count(0, HISTORY_RECEIVED, 8);
    pass_ms(1000);
    assert_int_equal(look(HISTORY_FINE, 0, 0), 15 + 60 + 1);
    assert_int_equal(points[14].span_ms, 1000);
    for (size_t i = 15; i < 74; i++) {
        assert_int_equal(points[i].span_ms, 0);
        assert_int_equal(points[i].counts[HISTORY_RECEIVED], 0);
    }
    assert_int_equal(points[74].counts[HISTORY_RECEIVED], 600);
    assert_int_equal(points[74].span_ms, 60300);
    assert_int_equal(points[75].counts[HISTORY_RECEIVED], 8);
    assert_int_equal(points[75].span_ms, 1000);
    /* Longer than all that is kept. */
    pass_ms(40ull * 3600 * 1000);
    pass_ms(1000);
    assert_int_equal(look(HISTORY_FINE, 0, 0), HISTORY_FINE_STEPS);
    for (size_t i = 0; i < HISTORY_FINE_STEPS - 2; i++)
        assert_int_equal(points[i].span_ms, 0);
    assert_int_equal(points[HISTORY_FINE_STEPS - 1].span_ms, 1000);
    assert_int_equal(look(HISTORY_COARSE, 0, 0), HISTORY_COARSE_STEPS);
}

static void a_counter_that_goes_back_counts_as_nothing_new(void **state)
{
    (void)state;
    count(0, HISTORY_RECEIVED, 1000);
    pass_ms(1000);
    reading.streams[0].counts[HISTORY_RECEIVED] = 3;
    pass_ms(1000);
    count(0, HISTORY_RECEIVED, 4);
    pass_ms(1000);
    look(HISTORY_FINE, 0, 0);
    assert_int_equal(points[0].counts[HISTORY_RECEIVED], 1000);
    assert_int_equal(points[1].counts[HISTORY_RECEIVED], 0);
    assert_int_equal(points[2].counts[HISTORY_RECEIVED], 4);
}

static void a_count_too_large_to_keep_is_cut(void **state)
{
    (void)state;
    count(0, HISTORY_RECEIVED, 1ull << 40);
    pass_ms(1000);
    look(HISTORY_FINE, 0, 0);
    assert_int_equal(points[0].counts[HISTORY_RECEIVED], UINT32_MAX - 1);
}

static void a_stream_with_a_new_name_has_no_past(void **state)
{
    (void)state;
    count(0, HISTORY_RECEIVED, 10);
    count(1, HISTORY_RECEIVED, 20);
    pass_ms(1000);
    reading.streams[0].name = "orders";
    count(0, HISTORY_RECEIVED, 500);
    pass_ms(1000);
    count(0, HISTORY_RECEIVED, 2);
    reading.streams[1].name = NULL;
    pass_ms(1000);
    assert_int_equal(look(HISTORY_FINE, 0, 0), 3);
    assert_int_equal(points[0].counts[HISTORY_RECEIVED], 0);
    assert_int_equal(points[1].counts[HISTORY_RECEIVED], 0);
    assert_int_equal(points[2].counts[HISTORY_RECEIVED], 2);
    look(HISTORY_FINE, 1, 0);
    assert_int_equal(points[0].counts[HISTORY_RECEIVED], 0);
}

static void memory_is_what_the_documents_say(void **state)
{
    const size_t first = history_bytes(history);
    char names[METRIC_STREAMS_MAX][8];

    (void)state;
    for (size_t i = 0; i < METRIC_STREAMS_MAX; i++) {
        snprintf(names[i], sizeof(names[i]), "s%zu", i);
        reading.streams[i].name = names[i];
    }
    for (size_t i = 0; i < 1000; i++)
        pass_ms(1000);
    /* Two streams, and what belongs to none, were there from the beginning. */
    assert_int_equal(history_bytes(history) - first,
                     (METRIC_STREAMS_MAX - 2) * HISTORY_STREAM_BYTES);
    assert_true(HISTORY_STREAM_BYTES <= 37 * 1024);
    assert_true(first - 3 * HISTORY_STREAM_BYTES <= 80 * 1024);
}

static void percentiles_are_of_the_step_alone(void **state)
{
    (void)state;
    reading.streams[1].buckets[HISTORY_HTTP][4] += 1000000; /* half a ms to 1 ms */
    pass_ms(1000);
    reading.streams[1].buckets[HISTORY_HTTP][0] += 98;
    reading.streams[1].buckets[HISTORY_HTTP][7] += 2; /* 5 to 10 ms */
    pass_ms(1000);
    pass_ms(1000);
    look(HISTORY_FINE, HISTORY_ALL, 0);
    assert_in_range(points[0].times.p50_us[HISTORY_HTTP], 740, 760);
    assert_in_range(points[1].times.p50_us[HISTORY_HTTP], 24, 27);
    assert_in_range(points[1].times.p99_us[HISTORY_HTTP], 7400, 7600);
    assert_int_equal(points[2].times.p99_us[HISTORY_HTTP], HISTORY_NONE);
    assert_int_equal(points[1].times.p50_us[HISTORY_INSERT], HISTORY_NONE);
    /* Of one stream, and of all with what belongs to none. */
    reading.streams[0].buckets[HISTORY_HTTP][1] += 10;
    reading.streams[METRIC_STREAM_NONE].buckets[HISTORY_HTTP][9] += 90;
    pass_ms(1000);
    look(HISTORY_FINE, 0, 3);
    assert_in_range(points[0].times.p99_us[HISTORY_HTTP], 50, 100);
    look(HISTORY_FINE, 1, 3);
    assert_int_equal(points[0].times.p99_us[HISTORY_HTTP], HISTORY_NONE);
    look(HISTORY_FINE, HISTORY_ALL, 3);
    assert_in_range(points[0].times.p50_us[HISTORY_HTTP], 25000, 50000);
}

static void percentiles_lie_within_their_bucket(void **state)
{
    uint64_t buckets[METRIC_BUCKETS] = {0};

    (void)state;
    assert_int_equal(history_percentile_us(buckets, 0.99), HISTORY_NONE);
    buckets[METRIC_BUCKETS - 1] = 1;
    assert_int_equal(history_percentile_us(buckets, 0.5), 10000000);
    buckets[METRIC_BUCKETS - 1] = 0;
    for (size_t i = 0; i < METRIC_BUCKETS - 1; i++) {
        buckets[i] = 10;
        assert_in_range(history_percentile_us(buckets, 0.5),
                        i == 0 ? 0 : metrics_bucket_bounds_ns[i - 1] / 1000,
                        metrics_bucket_bounds_ns[i] / 1000);
        assert_int_equal(history_percentile_us(buckets, 1), metrics_bucket_bounds_ns[i] / 1000);
        buckets[i] = 0;
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_reading_only_begins),
        TEST(a_step_is_what_happened_since_the_one_before),
        TEST(steps_that_are_a_little_late_or_early_leave_no_gap),
        TEST(two_readings_in_one_step_count_together),
        TEST(the_oldest_step_gives_way),
        TEST(who_has_some_gets_what_is_new),
        TEST(a_stopped_process_leaves_a_gap_and_true_rates),
        TEST(a_counter_that_goes_back_counts_as_nothing_new),
        TEST(a_count_too_large_to_keep_is_cut),
        TEST(a_stream_with_a_new_name_has_no_past),
        TEST(memory_is_what_the_documents_say),
        TEST(percentiles_are_of_the_step_alone),
        TEST(percentiles_lie_within_their_bucket),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
