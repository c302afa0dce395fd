/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bucket.c - one second's worth, debts, and what is told to those who wait.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <pthread.h>

#include <cmocka.h>

#include "alloy/base.h"
#include "alloy/bucket.h"

#define S 1000000000ull
#define NOW (1000 * S)

static uint64_t wait_ns;

static bool take(struct bucket *bucket, uint64_t rate, uint32_t n, uint64_t now_ns)
{
    wait_ns = 0;
    return bucket_take(bucket, rate, n, now_ns, &wait_ns);
}

static void a_bucket_holds_one_seconds_worth(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_true(take(&bucket, 10, 1, NOW));
    assert_false(take(&bucket, 10, 1, NOW));
    assert_int_equal(wait_ns, S / 10);
    assert_false(take(&bucket, 10, 5, NOW));
    assert_int_equal(wait_ns, S / 2);
}

static void what_is_charged_may_be_owed(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    bucket_charge(&bucket, 10, 5, NOW);
    assert_int_equal(bucket_debt_ns(&bucket, NOW), 0);
    assert_true(take(&bucket, 10, 5, NOW));
    assert_int_equal(bucket_debt_ns(&bucket, NOW), 0);
    bucket_charge(&bucket, 10, 20, NOW);
    assert_int_equal(bucket_debt_ns(&bucket, NOW), 2 * S);
    assert_int_equal(bucket_debt_ns(&bucket, NOW + S), S);
    assert_int_equal(bucket_debt_ns(&bucket, NOW + 2 * S), 0);
    assert_true(take(&bucket, 10, 1, NOW + 2 * S + S / 10));
}

static void a_debt_has_an_end(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    for (int i = 0; i < 5; i++)
        bucket_charge(&bucket, 1, UINT32_MAX, NOW);
    assert_int_equal(bucket_debt_ns(&bucket, NOW), 9 * S);
    /* What bucket_take() has made of a full one stays. */
    bucket_fill(&bucket);
    assert_true(take(&bucket, 1, 100, NOW));
    bucket_charge(&bucket, 1, 1, NOW);
    assert_int_equal(bucket_debt_ns(&bucket, NOW), 99 * S);
}

static void it_fills_with_time_and_no_further_than_full(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    assert_true(take(&bucket, 10, 10, NOW));
    assert_false(take(&bucket, 10, 1, NOW + S / 10 - 1));
    assert_true(take(&bucket, 10, 1, NOW + S / 10));
    assert_true(take(&bucket, 10, 10, NOW + 100 * S));
    assert_false(take(&bucket, 10, 1, NOW + 100 * S));
}

static void the_wait_that_is_told_is_enough(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    assert_true(take(&bucket, 3, 3, NOW));
    for (uint32_t n = 1; n <= 5; n++) {
        struct bucket again = bucket;

        assert_false(take(&again, 3, n, NOW));
        assert_true(take(&again, 3, n, NOW + wait_ns));
        again = bucket;
        assert_false(take(&again, 3, n, NOW));
        assert_false(take(&again, 3, n, NOW + wait_ns - 1));
    }
}

static void more_than_a_seconds_worth_passes_when_full_and_leaves_a_debt(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    assert_true(take(&bucket, 10, 1, NOW));
    assert_false(take(&bucket, 10, 100, NOW));
    assert_int_equal(wait_ns, S / 10);
    assert_true(take(&bucket, 10, 100, NOW + S));
    assert_false(take(&bucket, 10, 1, NOW + S));
    assert_int_equal(wait_ns, 9 * S + S / 10);
    assert_false(take(&bucket, 10, 1, NOW + 10 * S));
    assert_true(take(&bucket, 10, 1, NOW + 10 * S + S / 10));
}

static void over_a_long_time_the_rate_holds(void **state)
{
    struct bucket bucket = {0};
    uint64_t taken = 0;

    (void)state;
    for (uint64_t ms = 0; ms < 100000; ms++) {
        uint32_t n = (uint32_t)(ms * 7919 % 200 + 1);

        if (take(&bucket, 1000, n, NOW + ms * 1000000))
            taken += n;
    }
    assert_in_range(taken, 99000, 101000 + 200);
}

static void what_is_given_back_can_be_taken_again(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    assert_true(take(&bucket, 10, 7, NOW));
    bucket_give(&bucket, 10, 7);
    assert_true(take(&bucket, 10, 10, NOW));
    assert_false(take(&bucket, 10, 1, NOW));
    bucket_fill(&bucket);
    bucket_give(&bucket, 10, 7); /* it was filled meanwhile */
    assert_true(take(&bucket, 10, 10, NOW));
    assert_false(take(&bucket, 10, 1, NOW));
}

static void the_largest_numbers_do_not_overflow(void **state)
{
    struct bucket bucket = {0};

    (void)state;
    assert_true(take(&bucket, 1, UINT32_MAX, NOW));
    assert_false(take(&bucket, 1, UINT32_MAX, NOW));
    assert_int_equal(wait_ns, UINT32_MAX * S);
    bucket_fill(&bucket);
    assert_true(take(&bucket, BUCKET_RATE_MAX, BUCKET_RATE_MAX, NOW));
    assert_false(take(&bucket, BUCKET_RATE_MAX, 1, NOW));
    assert_int_equal(wait_ns, 1);
}

static void retry_after_is_1_to_60_seconds(void **state)
{
    (void)state;
    assert_int_equal(bucket_retry_s(0), 1);
    assert_int_equal(bucket_retry_s(1), 1);
    assert_int_equal(bucket_retry_s(S), 1);
    assert_int_equal(bucket_retry_s(S + 1), 2);
    assert_int_equal(bucket_retry_s(60 * S), 60);
    assert_int_equal(bucket_retry_s(UINT32_MAX * S), 60);
}

#define THREADS 4
#define TRIES 100000

struct taker {
    struct bucket *bucket;
    uint64_t taken;
};

static void *taker_main(void *arg)
{
    struct taker *taker = arg;
    uint64_t wait;

    for (int i = 0; i < TRIES; i++)
        taker->taken += bucket_take(taker->bucket, 12345, 1, NOW, &wait);
    return NULL;
}

static void threads_together_take_exactly_what_is_there(void **state)
{
    struct bucket bucket = {0};
    struct taker takers[THREADS];
    pthread_t threads[THREADS];
    uint64_t sum = 0;

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.bucket = &bucket};
        assert_int_equal(pthread_create(&threads[i], NULL, taker_main, &takers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sum += takers[i].taken;
    }
    /* A token's time is rounded up to whole nanoseconds. */
    assert_in_range(sum, 12344, 12345);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bucket_holds_one_seconds_worth),
        cmocka_unit_test(what_is_charged_may_be_owed),
        cmocka_unit_test(a_debt_has_an_end),
        cmocka_unit_test(it_fills_with_time_and_no_further_than_full),
        cmocka_unit_test(the_wait_that_is_told_is_enough),
        cmocka_unit_test(more_than_a_seconds_worth_passes_when_full_and_leaves_a_debt),
        cmocka_unit_test(over_a_long_time_the_rate_holds),
        cmocka_unit_test(what_is_given_back_can_be_taken_again),
        cmocka_unit_test(the_largest_numbers_do_not_overflow),
        cmocka_unit_test(retry_after_is_1_to_60_seconds),
        cmocka_unit_test(threads_together_take_exactly_what_is_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
