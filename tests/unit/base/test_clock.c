/* SPDX-License-Identifier: Apache-2.0 */
/* test_clock.c - the clocks advance, and times are written as in RFC 3339. */
#include "alloy/clock.h"

#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void check_iso(uint64_t real_ms, const char *expected)
{
    char out[26];

    memset(out, '#', sizeof(out));
    clock_format_iso(real_ms, out);
    assert_string_equal(out, expected);
    assert_int_equal(out[25], '#');
}

static void iso_time_of_known_moments(void **state)
{
    (void)state;
    check_iso(0, "1970-01-01T00:00:00.000Z");
    check_iso(951782400123, "2000-02-29T00:00:00.123Z");
    check_iso(951868799999, "2000-02-29T23:59:59.999Z");
    check_iso(951868800000, "2000-03-01T00:00:00.000Z");
    check_iso(4107542400000, "2100-03-01T00:00:00.000Z");
    check_iso(253402300799999, "9999-12-31T23:59:59.999Z");
}

static void iso_time_agrees_with_the_c_library(void **state)
{
    (void)state;
    for (time_t seconds = 0; seconds < 4200000000; seconds += 86400 * 11 + 4321) {
        char expected[32];
        struct tm parts;

        assert_non_null(gmtime_r(&seconds, &parts));
        assert_int_equal(strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.007Z", &parts),
                         24);
        check_iso((uint64_t)seconds * 1000 + 7, expected);
    }
}

static void monotonic_clock_never_goes_back(void **state)
{
    uint64_t last = clock_mono_ns();

    (void)state;
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_mono_ns();

        assert_true(now >= last);
        last = now;
    }
    assert_true(clock_mono_ms() >= last / CLOCK_NS_PER_MS);
    assert_true(clock_mono_ms() <= last / CLOCK_NS_PER_MS + 60000);
}

static void real_clock_agrees_with_time(void **state)
{
    uint64_t before = (uint64_t)time(NULL);
    uint64_t now = clock_real_ms() / 1000;

    (void)state;
    assert_in_range(now, before - 1, before + 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(iso_time_of_known_moments),
        cmocka_unit_test(iso_time_agrees_with_the_c_library),
        cmocka_unit_test(monotonic_clock_never_goes_back),
        cmocka_unit_test(real_clock_agrees_with_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
