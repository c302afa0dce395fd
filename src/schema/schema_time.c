/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_time.c - dates and times as ClickHouse reads them from JSON.
 *
 * A DateTime is read with best effort (schema_moment.c). A Date has one grammar: four digits, one
 * byte, one or two digits, one byte, one or two digits; or eight digits. What lies beyond a type's
 * first and last value is stored as these without a word.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "schema_time.h"

#include <stdint.h>

#include "schema_moment.h"

#define DATE_LAST 21490606
#define DATE_DAYS_MAX 65535 /* the same day */
/* A Date32 takes any number of days, and shows them from the year 0 to 9999. */
#define DATE32_DAYS_MIN (-719528)
#define DATE32_DAYS_MAX 2932896
#define DATETIME_MAX INT64_C(4294967295)     /* seconds in a DateTime: 2106-02-07 */
#define DATETIME64_MAX INT64_C(253402300799) /* seconds: the end of the year 9999 */
#define DATETIME64_MIN INT64_C(-62167219200) /* the begin of the year 0 */
#define TIME_MAX 3599999                     /* seconds in a Time: 999:59:59 */
#define SECONDS_MIN UINT64_C(100000000)      /* a number of this year's seconds: 1973 */
#define SECONDS_MAX UINT64_C(4300000000)     /* to 2106 */
#define UNIT_RATIO_MIN 100                   /* with a smaller one two units look alike */
#define ZONE_MAX_S (16 * 3600)               /* no local time is further from UTC, or ever was */
#define FRACTION_MAX 19                      /* digits */
#define YEAR_FIRST 1970                      /* both are looked at closely */
#define YEAR_LAST 2106

static bool schema_time_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The number of n digits at text; -1: they are not all digits. */
static int schema_time_digits(const char *text, size_t n)
{
    int value = 0;

    for (size_t i = 0; i < n; i++) {
        if (!schema_time_is_digit(text[i]))
            return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

static bool schema_time_is_day(int year, int month, int day)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] &&
           (month != 2 || day < 29 || leap);
}

/* One or two digits; -1: there are none. Moves *at behind them. */
static int schema_time_part(struct slice text, size_t *at)
{
    int value = -1;

    for (int i = 0; i < 2 && *at < text.len && schema_time_is_digit(text.data[*at]); i++, (*at)++)
        value = (value < 0 ? 0 : value * 10) + (text.data[*at] - '0');
    return value;
}

static enum schema_problem schema_time_check_date(const struct schema_type *type, struct slice text)
{
    int year, month, day;
    size_t at = 5;

    if (text.len < 8 || text.len > 10 || (year = schema_time_digits(text.data, 4)) < 0)
        return SCHEMA_FORMAT;
    if (text.len == 8 && schema_time_is_digit(text.data[4])) {
        month = schema_time_digits(text.data + 4, 2);
        day = schema_time_digits(text.data + 6, 2);
        if (month < 0 || day < 0)
            return SCHEMA_FORMAT;
    } else {
        if (schema_time_is_digit(text.data[4]))
            return SCHEMA_FORMAT;
        month = schema_time_part(text, &at);
        if (month < 0 || at >= text.len || schema_time_is_digit(text.data[at]))
            return SCHEMA_FORMAT;
        at++;
        day = schema_time_part(text, &at);
        if (day < 0 || at != text.len)
            return SCHEMA_FORMAT;
    }
    if (!schema_time_is_day(year, month, day))
        return SCHEMA_FORMAT;
    if (type->kind == SCHEMA_DATE32)
        return year < 1900 || year > 2299 ? SCHEMA_RANGE : SCHEMA_FITS;
    return year < 1970 || year * 10000 + month * 100 + day > DATE_LAST ? SCHEMA_RANGE : SCHEMA_FITS;
}

/* So many digits, or fewer, from at on. */
static size_t schema_time_count(struct slice text, size_t at, size_t most)
{
    size_t n = 0;

    while (n < most && at + n < text.len && schema_time_is_digit(text.data[at + n]))
        n++;
    return n;
}

/* What may stand behind the seconds: a fraction, then Z or +hh:mm. */
static bool schema_time_is_tail(struct slice text, size_t at)
{
    if (at < text.len && text.data[at] == '.')
        at += 1 + schema_time_count(text, at + 1, FRACTION_MAX);
    if (at == text.len || (text.data[at] == 'Z' && at + 1 == text.len))
        return true;
    return (text.data[at] == '+' || text.data[at] == '-') && at + 6 == text.len &&
           schema_time_digits(text.data + at + 1, 2) >= 0 && text.data[at + 3] == ':' &&
           schema_time_digits(text.data + at + 4, 2) >= 0;
}

/* What most times look like, in a year that no type is short of: these need no closer look. */
static bool schema_time_is_usual(struct slice text)
{
    int year;

    if (text.len < 10 || text.data[4] != '-' || text.data[7] != '-')
        return false;
    year = schema_time_digits(text.data, 4);
    if (year <= YEAR_FIRST || year >= YEAR_LAST ||
        !schema_time_is_day(year, schema_time_digits(text.data + 5, 2),
                            schema_time_digits(text.data + 8, 2)))
        return false;
    if (text.len == 10)
        return true;
    return text.len >= 19 && (text.data[10] == ' ' || text.data[10] == 'T') &&
           schema_time_digits(text.data + 11, 2) >= 0 && text.data[13] == ':' &&
           schema_time_digits(text.data + 14, 2) >= 0 && text.data[16] == ':' &&
           schema_time_digits(text.data + 17, 2) >= 0 && schema_time_is_tail(text, 19);
}

static int64_t schema_time_ticks(unsigned scale)
{
    int64_t ticks = 1;

    for (unsigned i = 0; i < scale; i++)
        ticks *= 10;
    return ticks;
}

/* A time beyond what the type holds is stored as its first or last one, or refused. */
static enum schema_problem schema_time_check_moment(const struct schema_type *type,
                                                    const struct schema_moment *moment)
{
    /* Of a time without an offset the column's time zone decides, which may be the server's. */
    const int64_t slack = moment->zoned || type->utc ? 0 : ZONE_MAX_S;
    int64_t first = 0, last = DATETIME_MAX;

    if (!moment->dated)
        return SCHEMA_FITS;
    if (type->kind == SCHEMA_DATETIME64) {
        /* Ticks of 64 bits. */
        const int64_t most = INT64_MAX / schema_time_ticks(type->scale);

        first = most < -DATETIME64_MIN ? -most : DATETIME64_MIN;
        last = most < DATETIME64_MAX ? most : DATETIME64_MAX;
    }
    return moment->seconds < first - slack || moment->seconds > last + slack ? SCHEMA_RANGE
                                                                             : SCHEMA_FITS;
}

/* hhh:mm:ss, mm:ss or ss, with a minus or without, and of a Time64 with a fraction. */
static enum schema_problem schema_time_check_clock(const struct schema_type *type,
                                                   struct slice text)
{
    size_t at = text.len > 0 && text.data[0] == '-', n = schema_time_count(text, at, 3);
    int value = schema_time_digits(text.data + at, n), parts = 1;
    const bool wide = n == 3;

    if (n == 0)
        return SCHEMA_FORMAT;
    at += n;
    for (; parts < 3 && at < text.len && text.data[at] == ':'; parts++) {
        n = schema_time_count(text, at + 1, 2);
        if (n != 2)
            return SCHEMA_FORMAT;
        value = value * 60 + schema_time_digits(text.data + at + 1, n);
        at += 1 + n;
    }
    if (type->kind == SCHEMA_TIME64 && at < text.len && text.data[at] == '.')
        at += 1 + schema_time_count(text, at + 1, text.len);
    if (at < text.len || (wide && parts < 3))
        return SCHEMA_FORMAT;
    return value > TIME_MAX ? SCHEMA_RANGE : SCHEMA_FITS;
}

enum schema_problem schema_time_check_text(const struct schema_type *type, struct slice text)
{
    struct schema_moment moment;

    if (type->kind == SCHEMA_DATE || type->kind == SCHEMA_DATE32)
        return schema_time_check_date(type, text);
    if (type->kind == SCHEMA_TIME || type->kind == SCHEMA_TIME64)
        return schema_time_check_clock(type, text);
    if (likely(schema_time_is_usual(text)))
        return SCHEMA_FITS;
    if (!schema_moment_read(text, type->kind == SCHEMA_DATETIME64, &moment))
        return SCHEMA_FORMAT;
    return schema_time_check_moment(type, &moment);
}

/* At most 20 digits; UINT64_MAX: it is larger. */
static uint64_t schema_time_number(struct slice digits)
{
    uint64_t value = 0;

    for (size_t i = 0; i < digits.len; i++)
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(digits.data[i] - '0'), &value))
            return UINT64_MAX;
    return value;
}

/* A DateTime64 takes a number for its ticks. Seconds, or ticks of a coarser scale, would be stored
 * as a day in early 1970. */
static enum schema_problem schema_time_check_ticks(unsigned scale, uint64_t value, bool minus)
{
    const uint64_t ticks = (uint64_t)schema_time_ticks(scale);
    const uint64_t most = (uint64_t)INT64_MAX;

    if (minus)
        return value > most + 1 || value / ticks > -DATETIME64_MIN ||
                       (value / ticks == -DATETIME64_MIN && value % ticks > 0)
                   ? SCHEMA_RANGE
                   : SCHEMA_FITS;
    if (value > most || value / ticks > DATETIME64_MAX)
        return SCHEMA_RANGE;
    for (uint64_t unit = 1; unit * UNIT_RATIO_MIN <= ticks; unit *= 1000)
        if (value >= SECONDS_MIN * unit && value < SECONDS_MAX * unit)
            return SCHEMA_UNIT;
    return SCHEMA_FITS;
}

enum schema_problem schema_time_check_number(const struct schema_type *type, struct slice digits,
                                             bool minus)
{
    const uint64_t value = schema_time_number(digits);
    uint64_t most = 0;

    switch (type->kind) {
    case SCHEMA_DATE:
        if (minus) /* not even -0 */
            return SCHEMA_RANGE;
        most = DATE_DAYS_MAX;
        break;
    case SCHEMA_DATE32:
        most = minus ? -DATE32_DAYS_MIN : DATE32_DAYS_MAX;
        break;
    case SCHEMA_DATETIME:
        most = minus ? 0 : DATETIME_MAX;
        break;
    case SCHEMA_TIME:
        most = TIME_MAX;
        break;
    case SCHEMA_TIME64:
        most = (TIME_MAX + 1) * (uint64_t)schema_time_ticks(type->scale) - 1;
        break;
    case SCHEMA_DATETIME64:
        return schema_time_check_ticks(type->scale, value, minus);
    default:
        return SCHEMA_FITS;
    }
    return value > most ? SCHEMA_RANGE : SCHEMA_FITS;
}
