/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lately.c - the last minute is told, and no longer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lately.h"

static struct lately lately;
static struct metrics *metrics;
static struct metrics_thread *thread;
static struct metrics_snapshot snapshot;
static uint64_t now_ms;

static int start(void **state)
{
    (void)state;
    lately = (struct lately){0};
    metrics = metrics_create();
    thread = metrics_thread_create(metrics);
    now_ms = 123456;
    return 0;
}

static int stop(void **state)
{
    (void)state;
    metrics_destroy(metrics);
    return 0;
}

/* Goes on second by second. */
static void pass(unsigned seconds)
{
    for (; seconds > 0; seconds--, now_ms += 1000)
        lately_sample(&lately, metrics, now_ms);
}

static struct lately_count count_of(size_t stream)
{
    metrics_read(metrics, &snapshot);
    return lately_read(&lately, &snapshot, stream);
}

static void before_the_first_minute_all_counts(void **state)
{
    (void)state;
    metrics_add(&thread->answers[3][ERROR_empty], 2);
    metrics_add(&thread->answers[3][ERROR_COUNT - 1], 1);
    metrics_add(&thread->answers[3][ERROR_NONE], 11);
    assert_int_equal(count_of(3).refused, 3);
    assert_int_equal(count_of(3).taken, 11);
    pass(50);
    assert_int_equal(count_of(3).refused, 3);
    assert_int_equal(count_of(2).refused, 0);
}

static void what_is_older_than_a_minute_is_forgotten(void **state)
{
    (void)state;
    pass(200);
    metrics_add(&thread->answers[0][ERROR_empty], 1);
    metrics_add(&thread->answers[0][ERROR_NONE], 1);
    pass(54);
    assert_int_equal(count_of(0).refused, 1);
    assert_int_equal(count_of(0).taken, 1);
    metrics_add(&thread->answers[0][ERROR_empty], 2);
    pass(12);
    assert_int_equal(count_of(0).refused, 2);
    assert_int_equal(count_of(0).taken, 0);
    pass(61);
    assert_int_equal(count_of(0).refused, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(before_the_first_minute_all_counts),
        TEST(what_is_older_than_a_minute_is_forgotten),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
