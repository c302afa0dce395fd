/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - the monotonic clock and the calendar clock, read through the vDSO.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/clock.h"

#include <string.h>
#include <time.h>

#define ISO_BYTES 25 /* "2026-01-31T12:00:00.123Z" and its NUL */
#define SECONDS_PER_DAY 86400u

static uint64_t clock_read_ns(clockid_t id)
{
    struct timespec now;

    /* Cannot fail: these clocks exist on every Linux. */
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * CLOCK_NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Writes value with leading zeros into exactly digits characters. */
static void clock_put_digits(char *out, unsigned value, int digits)
{
    while (digits-- > 0) {
        out[digits] = (char)('0' + value % 10);
        value /= 10;
    }
}

uint64_t clock_mono_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
    return clock_read_ns(CLOCK_MONOTONIC) / CLOCK_NS_PER_MS;
}

uint64_t clock_coarse_ms(void)
{
    return clock_read_ns(CLOCK_MONOTONIC_COARSE) / CLOCK_NS_PER_MS;
}

uint64_t clock_real_ms(void)
{
    return clock_read_ns(CLOCK_REALTIME) / CLOCK_NS_PER_MS;
}

/*
 * The calendar arithmetic is Howard Hinnant's civil_from_days(): gmtime_r() takes a lock in glibc.
 * Years beyond 9999 do not fit the form and wrap.
 */
void clock_format_iso(uint64_t real_ms, char *out)
{
    uint64_t seconds = real_ms / 1000;
    unsigned in_day = (unsigned)(seconds % SECONDS_PER_DAY);
    uint64_t day = seconds / SECONDS_PER_DAY + 719468; /* since 0000-03-01 */
    uint64_t era = day / 146097;
    unsigned day_of_era = (unsigned)(day % 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month_from_march = (5 * day_of_year + 2) / 153;
    unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    uint64_t year = era * 400 + year_of_era + (month <= 2);

    memcpy(out, "0000-00-00T00:00:00.000Z", ISO_BYTES);
    clock_put_digits(out, (unsigned)(year % 10000), 4);
    clock_put_digits(out + 5, month, 2);
    clock_put_digits(out + 8, day_of_year - (153 * month_from_march + 2) / 5 + 1, 2);
    clock_put_digits(out + 11, in_day / 3600, 2);
    clock_put_digits(out + 14, in_day / 60 % 60, 2);
    clock_put_digits(out + 17, in_day % 60, 2);
    clock_put_digits(out + 20, (unsigned)(real_ms % 1000), 3);
}
