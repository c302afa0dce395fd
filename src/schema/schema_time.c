/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_time.c - dates and times as ClickHouse reads them from JSON.
 *
 * Of a DateTime it makes what it can (date_time_input_format = best_effort), so only what it
 * certainly refuses, or stores as another day, is told. A Date has one grammar: four digits, one
 * byte, one or two digits, one byte, one or two digits; or eight digits.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "schema_time.h"

#include <stdint.h>
#include <string.h>

#define DATE_DAYS_MAX 65535                   /* in a Date: 2149-06-06 */
#define DATETIME_MAX UINT64_C(4294967295)     /* seconds in a DateTime: 2106-02-07 */
#define DATETIME64_MAX UINT64_C(253402300799) /* seconds: the end of the year 9999 */
#define DATETIME64_MIN UINT64_C(62167219200)  /* seconds before 1970: the begin of the year 0 */
#define SECONDS_MIN UINT64_C(100000000)       /* a number of this year's seconds: 1973 */
#define SECONDS_MAX UINT64_C(4300000000)      /* to 2106 */
#define UNIT_SCALE_MIN 2                      /* in coarser ticks the two look alike */

static bool schema_time_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool schema_time_is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
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
    /* Later servers may know more years in a Date32. */
    return type->kind == SCHEMA_DATE && (year < 1970 || year > 2149) ? SCHEMA_RANGE : SCHEMA_FITS;
}

/* Whether so many letters may be part of a time. */
static bool schema_time_is_word(struct slice text)
{
    /* Months, days, time zones, parts of the day; of more letters the first three count. */
    static const char words[] =
        "jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat sun utc gmt msk "
        "msd est edt cst cdt mst mdt pst pdt bst cet eet wet ist jst noo mid";
    static const char short_words[] = "T Z AM PM am pm";
    char word[4] = "";

    for (size_t i = 0; i < 3 && i < text.len; i++)
        word[i] = (char)(text.len < 3 ? text.data[i] : text.data[i] | 0x20);
    return strstr(text.len < 3 ? short_words : words, word) != NULL;
}

/* Whether a text may be a time: it has a digit, and no word or byte that no time has. */
static bool schema_time_is_plausible(struct slice text)
{
    bool digit = false;

    for (size_t i = 0; i < text.len; i++) {
        size_t n = 0;

        while (i + n < text.len && schema_time_is_letter(text.data[i + n]))
            n++;
        if (n > 0 && !schema_time_is_word((struct slice){text.data + i, n}))
            return false;
        if (n > 0) {
            i += n - 1;
            continue;
        }
        digit = digit || schema_time_is_digit(text.data[i]);
        if (!schema_time_is_digit(text.data[i]) &&
            memchr(" :.,/+-", text.data[i], sizeof(" :.,/+-") - 1) == NULL)
            return false;
    }
    return digit;
}

/* A text that begins with YYYY-MM-DD: another day than any, or one that the type does not have. */
static enum schema_problem schema_time_check_iso(const struct schema_type *type, struct slice text)
{
    const int year = schema_time_digits(text.data, 4);
    const int month = schema_time_digits(text.data + 5, 2);
    const int day = schema_time_digits(text.data + 8, 2);

    /* The year 0 is taken for none. */
    if (year == 0 || !schema_time_is_day(year, month, day))
        return SCHEMA_FORMAT;
    /* Nanoseconds of 64 bits. */
    if (type->kind == SCHEMA_DATETIME64 && type->scale == 9 && (year < 1677 || year > 2262))
        return SCHEMA_RANGE;
    if (type->kind != SCHEMA_DATETIME)
        return SCHEMA_FITS;
    /* A day more at both ends, for time zones. */
    if (year < 1969 || (year == 1969 && !(month == 12 && day == 31)) || year > 2107 ||
        (year == 2107 && !(month == 1 && day == 1)))
        return SCHEMA_RANGE;
    return SCHEMA_FITS;
}

static bool schema_time_is_iso(struct slice text)
{
    return text.len >= 10 && schema_time_digits(text.data, 4) >= 0 && text.data[4] == '-' &&
           schema_time_digits(text.data + 5, 2) >= 0 && text.data[7] == '-' &&
           schema_time_digits(text.data + 8, 2) >= 0 &&
           (text.len == 10 || text.data[10] == ' ' || text.data[10] == 'T');
}

/* Behind the day nothing but what most times have: most need no closer look. */
static bool schema_time_is_plain(struct slice text)
{
    for (size_t i = 11; i < text.len; i++) {
        const char c = text.data[i];

        if (!schema_time_is_digit(c) && c != ':' && c != '.' && (c != 'Z' || i + 1 < text.len))
            return false;
    }
    return true;
}

enum schema_problem schema_time_check_text(const struct schema_type *type, struct slice text)
{
    if (type->kind == SCHEMA_DATE || type->kind == SCHEMA_DATE32)
        return schema_time_check_date(type, text);
    if (likely(schema_time_is_iso(text)) &&
        (schema_time_is_plain(text) || schema_time_is_plausible(text)))
        return schema_time_check_iso(type, text);
    return schema_time_is_plausible(text) ? SCHEMA_FITS : SCHEMA_FORMAT;
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

static uint64_t schema_time_ticks(unsigned scale)
{
    uint64_t ticks = 1;

    for (unsigned i = 0; i < scale; i++)
        ticks *= 10;
    return ticks;
}

/* A DateTime64 takes a number for its ticks. Seconds, or ticks of a coarser scale, would be stored
 * as a day in early 1970. */
static enum schema_problem schema_time_check_ticks(unsigned scale, uint64_t value)
{
    const uint64_t ticks = schema_time_ticks(scale);

    if (value > INT64_MAX || value / ticks > DATETIME64_MAX)
        return SCHEMA_RANGE;
    for (uint64_t unit = 1; unit < ticks && scale >= UNIT_SCALE_MIN; unit *= 1000)
        if (value >= SECONDS_MIN * unit && value < SECONDS_MAX * unit)
            return SCHEMA_UNIT;
    return SCHEMA_FITS;
}

enum schema_problem schema_time_check_number(const struct schema_type *type, struct slice digits,
                                             bool minus)
{
    const uint64_t value = schema_time_number(digits);

    if (minus && type->kind == SCHEMA_DATETIME64)
        return value / schema_time_ticks(type->scale) > DATETIME64_MIN ? SCHEMA_RANGE : SCHEMA_FITS;
    if (minus)
        return type->kind == SCHEMA_DATE || (type->kind == SCHEMA_DATETIME && value > 0)
                   ? SCHEMA_RANGE
                   : SCHEMA_FITS;
    switch (type->kind) {
    case SCHEMA_DATE:
        return value > DATE_DAYS_MAX ? SCHEMA_RANGE : SCHEMA_FITS;
    case SCHEMA_DATETIME:
        return value > DATETIME_MAX ? SCHEMA_RANGE : SCHEMA_FITS;
    case SCHEMA_DATETIME64:
        return schema_time_check_ticks(type->scale, value);
    default:
        return SCHEMA_FITS;
    }
}
