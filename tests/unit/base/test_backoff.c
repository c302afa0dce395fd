/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_backoff.c - tests backoff.c.
 */
#include "alloy/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void without_jitter_the_wait_doubles_from_min_to_max(void **state)
{
    struct backoff backoff = {0};
    const uint64_t expected[] = {100, 200, 400, 800, 1000, 1000};

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(backoff_next(&backoff, 100, 1000, 0), expected[i]);
        assert_int_equal(backoff.failures, i + 1);
    }
}

static void jitter_takes_off_at_most_half(void **state)
{
    uint64_t random = 88172645463325252ull, least = UINT64_MAX, most = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct backoff backoff = {.failures = 2};
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uint64_t wait_ms = backoff_next(&backoff, 25, 10000, random);
        assert_in_range(wait_ms, 50, 100);
        least = wait_ms < least ? wait_ms : least;
        most = wait_ms > most ? wait_ms : most;
    }
    assert_int_equal(least, 50);
    assert_int_equal(most, 100);
}

static void reset_starts_over(void **state)
{
    struct backoff backoff = {.failures = 9};

    (void)state;
    backoff_reset(&backoff);
    assert_int_equal(backoff_next(&backoff, 100, 10000, 0), 100);
}

static void a_very_long_outage_stays_at_max(void **state)
{
    const uint32_t failures[] = {31, 32, 62, 63, 64, 65, UINT32_MAX - 1, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        struct backoff backoff = {.failures = failures[i]};
        assert_int_equal(backoff_next(&backoff, 100, 10000, 0), 10000);
        assert_true(backoff.failures >= failures[i]);
    }
}

static void extreme_limits_do_not_overflow(void **state)
{
    struct backoff backoff = {0};

    (void)state;
    assert_int_equal(backoff_next(&backoff, 0, 0, UINT64_MAX), 0);
    backoff_reset(&backoff);
    assert_int_equal(backoff_next(&backoff, 5, 3, 0), 3);
    backoff_reset(&backoff);
    assert_int_equal(backoff_next(&backoff, UINT64_MAX, UINT64_MAX, 0), UINT64_MAX);
    assert_true(backoff_next(&backoff, UINT64_MAX, UINT64_MAX, UINT64_MAX) >= UINT64_MAX / 2);
    backoff.failures = 63;
    assert_int_equal(backoff_next(&backoff, 1, UINT64_MAX, 0), 1ull << 63);
    assert_int_equal(backoff_next(&backoff, 1, UINT64_MAX, 0), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_jitter_the_wait_doubles_from_min_to_max),
        cmocka_unit_test(jitter_takes_off_at_most_half),
        cmocka_unit_test(reset_starts_over),
        cmocka_unit_test(a_very_long_outage_stays_at_max),
        cmocka_unit_test(extreme_limits_do_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
