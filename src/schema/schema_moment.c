/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_moment.c - the grammar behind date_time_input_format = best_effort.
 *
 * There is no document of it: parts come in any order, and what a number means depends on how many
 * digits it has and on what was found before it. Here is what ClickHouse 26.7 takes, and a little
 * more: words that versions before it took. So a text that is not read here is read by none.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "schema_moment.h"

#include <stddef.h>
#include <string.h>

#define DIGITS_MAX 19 /* read in one go; more are not read at all */
#define WORD_MAX 9
#define DAY_S 86400

enum step {
    STEP_ON,
    STEP_STOP, /* nothing that follows belongs to the time */
    STEP_FAIL,
    STEP_COUNT, /* it was a count of seconds */
};

/* A reading; the parts of a time are there when they are not 0. */
struct moment {
    struct slice text;
    size_t at;
    struct schema_moment_clock clock;
    int64_t count;  /* of seconds since 1970 */
    int offset_min; /* east of UTC */
    bool has_time, has_fraction, has_zone, has_comma, am, pm;
    bool has_zero; /* a year, month or day that is 0, which is taken for none */
};

static char schema_moment_peek(const struct moment *moment)
{
    return moment->at < moment->text.len ? moment->text.data[moment->at] : '"';
}

static bool schema_moment_take(struct moment *moment, char byte)
{
    if (schema_moment_peek(moment) != byte || moment->at == moment->text.len)
        return false;
    moment->at++;
    return true;
}

static bool schema_moment_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool schema_moment_is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static struct slice schema_moment_digits(struct moment *moment)
{
    const size_t from = moment->at;

    while (moment->at - from < DIGITS_MAX && schema_moment_is_digit(schema_moment_peek(moment)))
        moment->at++;
    return (struct slice){moment->text.data + from, moment->at - from};
}

static int schema_moment_number(const char *digits, size_t n)
{
    int value = 0;

    for (size_t i = 0; i < n; i++)
        value = value * 10 + (digits[i] - '0');
    return value;
}

/* One or two digits. */
static bool schema_moment_part(struct moment *moment, int *part)
{
    const struct slice digits = schema_moment_digits(moment);

    if (digits.len != 1 && digits.len != 2)
        return false;
    *part = schema_moment_number(digits.data, digits.len);
    return true;
}

/* A year, month or day. */
static void schema_moment_set(struct moment *moment, int *part, const char *digits, size_t n)
{
    *part = schema_moment_number(digits, n);
    moment->has_zero = moment->has_zero || *part == 0;
}

/* hhmmss */
static void schema_moment_set_time(struct moment *moment, const char *digits)
{
    moment->clock.hour = schema_moment_number(digits, 2);
    moment->clock.minute = schema_moment_number(digits + 2, 2);
    moment->clock.second = schema_moment_number(digits + 4, 2);
    moment->has_time = true;
}

/* ---- words ---- */

/* The place of a word in a list of names, from 1; or of a name that begins with it. 0: there is
 * none. */
static int schema_moment_find(const char *const *names, size_t count, struct slice word)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = 0;

        while (n < word.len && names[i][n] != '\0' && (word.data[n] | 0x20) == names[i][n])
            n++;
        if (n == word.len && n >= 3)
            return (int)i + 1;
    }
    return 0;
}

static struct slice schema_moment_word(struct moment *moment)
{
    const size_t from = moment->at;

    while (schema_moment_is_letter(schema_moment_peek(moment)))
        moment->at++;
    return (struct slice){moment->text.data + from, moment->at - from};
}

static bool schema_moment_set_month(struct moment *moment, struct slice word)
{
    static const char *const names[] = {"january",   "february", "march",    "april",
                                        "may",       "june",     "july",     "august",
                                        "september", "october",  "november", "december"};
    const int month = word.len <= WORD_MAX ? schema_moment_find(names, ARRAY_LEN(names), word) : 0;

    if (month > 0)
        moment->clock.month = month;
    return month > 0;
}

static enum step schema_moment_read_word(struct moment *moment)
{
    static const char *const days[] = {"monday", "tuesday",  "wednesday", "thursday",
                                       "friday", "saturday", "sunday"};
    static const char *const zones[] = {"utc", "gmt", "msk", "msd"};
    static const int zone_hours[] = {0, 0, 3, 4};
    const struct slice word = schema_moment_word(moment);
    int found;

    if (word.len == 0)
        return STEP_STOP;
    if (word.len == 2 && (word.data[1] | 0x20) == 'm') {
        moment->am = moment->am || (word.data[0] | 0x20) == 'a';
        moment->pm = moment->pm || (word.data[0] | 0x20) == 'p';
        return (word.data[0] | 0x20) == 'a' || (word.data[0] | 0x20) == 'p' ? STEP_ON : STEP_FAIL;
    }
    if (schema_moment_set_month(moment, word))
        return STEP_ON;
    if (schema_moment_find(days, ARRAY_LEN(days), word) > 0) {
        (void)schema_moment_take(moment, ',');
        return STEP_ON;
    }
    found = word.len == 3 ? schema_moment_find(zones, ARRAY_LEN(zones), word) : 0;
    if (found == 0)
        return STEP_FAIL;
    moment->has_zone = true;
    if (zone_hours[found - 1] > 0)
        moment->offset_min = zone_hours[found - 1] * 60;
    return STEP_ON;
}

/* ---- numbers ---- */

/* A count of seconds, milliseconds or finer units since 1970, by its digits. */
static enum step schema_moment_read_count(struct moment *moment, struct slice digits, bool fraction)
{
    const size_t seconds = digits.len == 9 ? 9 : 10;

    for (size_t i = 0; i < seconds; i++)
        moment->count = moment->count * 10 + (digits.data[i] - '0');
    if (digits.len <= 10 && fraction && schema_moment_take(moment, '.'))
        (void)schema_moment_digits(moment);
    return STEP_COUNT;
}

/* YYYY was read; -MM and -DD may follow, with any byte between them. */
static enum step schema_moment_read_year(struct moment *moment, struct slice digits)
{
    const char delimiter = schema_moment_peek(moment);
    size_t n;

    schema_moment_set(moment, &moment->clock.year, digits.data, 4);
    if ((signed char)delimiter < 0x20 || memchr(",;'\"", delimiter, 4) != NULL)
        return STEP_STOP;
    if (moment->clock.month != 0)
        return STEP_ON;
    moment->at++;
    digits = schema_moment_digits(moment);
    n = digits.len;
    if (n != 1 && n != 2)
        return delimiter == ' ' ? STEP_ON : STEP_FAIL;
    schema_moment_set(moment, &moment->clock.month, digits.data, n);
    if (moment->clock.day != 0 || !schema_moment_take(moment, delimiter))
        return STEP_ON;
    digits = schema_moment_digits(moment);
    n = digits.len;
    if (n != 1 && n != 2)
        return delimiter == ' ' ? STEP_ON : STEP_FAIL;
    schema_moment_set(moment, &moment->clock.day, digits.data, n);
    return STEP_ON;
}

static enum step schema_moment_read_time(struct moment *moment, int hour)
{
    if (moment->has_time)
        return STEP_FAIL;
    moment->clock.hour = hour;
    moment->has_time = true;
    if (!schema_moment_part(moment, &moment->clock.minute))
        return STEP_FAIL;
    if (schema_moment_take(moment, ':') && !schema_moment_part(moment, &moment->clock.second))
        return STEP_FAIL;
    return STEP_ON;
}

static bool schema_moment_take_separator(struct moment *moment)
{
    return schema_moment_take(moment, '/') || schema_moment_take(moment, '.') ||
           schema_moment_take(moment, '-');
}

/* DD/ was read; MM or a month's name follows, and perhaps a year. */
static enum step schema_moment_read_day_first(struct moment *moment, int day)
{
    struct schema_moment_clock *clock = &moment->clock;
    struct slice digits;

    if (clock->day != 0 || clock->month != 0)
        return STEP_FAIL;
    clock->day = day;
    moment->has_zero = moment->has_zero || day == 0;
    digits = schema_moment_digits(moment);
    if (digits.len == 1 || digits.len == 2)
        schema_moment_set(moment, &clock->month, digits.data, digits.len);
    else if (digits.len != 0 || !schema_moment_set_month(moment, schema_moment_word(moment)))
        return STEP_FAIL;
    if (clock->month > 12) {
        clock->day = clock->month;
        clock->month = day;
    }
    if (!schema_moment_take_separator(moment))
        return STEP_ON;
    digits = schema_moment_digits(moment);
    if (clock->year != 0 || (digits.len != 2 && digits.len != 4))
        return STEP_FAIL;
    if (digits.len == 4) {
        schema_moment_set(moment, &clock->year, digits.data, 4);
    } else {
        clock->year = schema_moment_number(digits.data, 2);
        clock->year += clock->year >= 70 ? 1900 : 2000;
    }
    return STEP_ON;
}

/* One or two digits. */
static enum step schema_moment_read_short(struct moment *moment, struct slice digits)
{
    const int value = schema_moment_number(digits.data, digits.len);
    struct schema_moment_clock *clock = &moment->clock;

    if (schema_moment_take(moment, ':'))
        return schema_moment_read_time(moment, value);
    if (schema_moment_take(moment, ',')) {
        if (clock->month != 0 && clock->day == 0)
            clock->day = value;
        return STEP_ON;
    }
    if (schema_moment_take_separator(moment))
        return schema_moment_read_day_first(moment, value);
    if (clock->day != 0)
        clock->hour = value;
    else
        clock->day = value;
    return STEP_ON;
}

static enum step schema_moment_read_digits(struct moment *moment, struct slice digits,
                                           bool fraction)
{
    struct schema_moment_clock *clock = &moment->clock;
    const bool dated = clock->year != 0;

    switch (digits.len) {
    case 9:
    case 10:
    case 13:
    case 16:
    case 19:
        return dated || moment->has_time ? STEP_FAIL
                                         : schema_moment_read_count(moment, digits, fraction);
    case 14:
        if (dated || moment->has_time)
            return STEP_FAIL;
        schema_moment_set_time(moment, digits.data + 8);
        break;
    case 8:
        if (dated)
            return STEP_FAIL;
        break;
    case 6:
        if (dated || clock->month != 0) {
            if (moment->has_time)
                return STEP_FAIL;
            schema_moment_set_time(moment, digits.data);
            return STEP_ON;
        }
        break;
    case 4:
        return dated ? STEP_FAIL : schema_moment_read_year(moment, digits);
    case 2:
    case 1:
        return schema_moment_read_short(moment, digits);
    default:
        return STEP_FAIL;
    }
    schema_moment_set(moment, &clock->year, digits.data, 4);
    schema_moment_set(moment, &clock->month, digits.data + 4, 2);
    if (digits.len > 6)
        schema_moment_set(moment, &clock->day, digits.data + 6, 2);
    return STEP_ON;
}

/* ---- what is neither ---- */

/* +hh:mm, +hhmm and the like, or -hhmmss; behind the sign. */
static enum step schema_moment_read_offset(struct moment *moment, bool west)
{
    const struct schema_moment_clock *clock = &moment->clock;
    const struct slice digits = schema_moment_digits(moment);
    int hours = 0, minutes = 0;

    if (digits.len == 6 && !moment->has_time && clock->year != 0 && clock->month != 0 &&
        clock->day != 0) {
        schema_moment_set_time(moment, digits.data);
        return STEP_ON;
    }
    if (digits.len == 0 || digits.len > 4)
        return STEP_FAIL;
    moment->has_zone = true;
    if (digits.len > 2) {
        hours = schema_moment_number(digits.data, digits.len - 2);
        minutes = schema_moment_number(digits.data + digits.len - 2, 2);
    } else {
        hours = schema_moment_number(digits.data, digits.len);
        if (schema_moment_take(moment, ':') && !schema_moment_part(moment, &minutes))
            return STEP_FAIL;
    }
    moment->offset_min = (hours * 60 + minutes) * (west ? -1 : 1);
    return STEP_ON;
}

static enum step schema_moment_read_other(struct moment *moment)
{
    const char c = schema_moment_peek(moment);

    switch (c) {
    case ' ':
        moment->at++;
        return STEP_ON;
    case 'T':
        /* Tue and Thu begin so too. */
        if (moment->clock.year == 0 || moment->has_time)
            return schema_moment_read_word(moment);
        moment->at++;
        return STEP_ON;
    case 'Z':
        moment->at++;
        moment->has_zone = true;
        return STEP_ON;
    case '.':
        if (!moment->has_time || moment->has_fraction)
            return STEP_FAIL;
        moment->at++;
        moment->has_fraction = true;
        (void)schema_moment_digits(moment);
        return STEP_ON;
    case '+':
    case '-':
        moment->at++;
        return schema_moment_read_offset(moment, c == '-');
    default:
        return schema_moment_read_word(moment);
    }
}

static enum step schema_moment_step(struct moment *moment, bool fraction)
{
    const bool dated = moment->clock.year != 0;
    struct slice digits = {NULL, 0};

    if (dated != moment->has_time && schema_moment_take(moment, ','))
        moment->has_comma = true;
    if (!dated || !moment->has_time)
        digits = schema_moment_digits(moment);
    return digits.len > 0 ? schema_moment_read_digits(moment, digits, fraction)
                          : schema_moment_read_other(moment);
}

/* Days since 1970 of the Gregorian calendar: Howard Hinnant's days_from_civil. */
static int64_t schema_moment_days(int year, int month, int day)
{
    const int y = year - (month <= 2);
    const int era = (y >= 0 ? y : y - 399) / 400;
    const int year_of_era = y - era * 400;
    const int day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    const int day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return (int64_t)era * 146097 + day_of_era - 719468;
}

static bool schema_moment_is_day(const struct schema_moment_clock *clock)
{
    static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const int year = clock->year;
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return clock->month >= 1 && clock->month <= 12 && clock->day >= 1 &&
           clock->day <= days[clock->month - 1] && (clock->month != 2 || clock->day < 29 || leap);
}

/* What the parts come to; false: they are not enough, or no such day. */
static bool schema_moment_finish(struct moment *moment, struct schema_moment *out)
{
    struct schema_moment_clock *clock = &moment->clock;

    out->dated = clock->year != 0;
    out->zoned = moment->has_zone;
    if (moment->has_comma && (!moment->has_time || !out->dated || !clock->month || !clock->day))
        return false;
    if (!out->dated && clock->month == 0 && clock->day == 0 && !moment->has_time)
        return false;
    /* The year 0 would become this year, and the month 0 January. */
    if (moment->has_zero && (!out->dated || clock->month == 0 || clock->day == 0))
        return false;
    clock->month = clock->month != 0 ? clock->month : 1;
    clock->day = clock->day != 0 ? clock->day : 1;
    if (!out->dated)
        clock->year = 2000; /* a leap year */
    if (!schema_moment_is_day(clock))
        return false;
    if (moment->am && clock->hour == 12)
        clock->hour = 0;
    if (moment->pm && clock->hour < 12)
        clock->hour += 12;
    out->seconds = schema_moment_days(clock->year, clock->month, clock->day) * DAY_S +
                   clock->hour * 3600 + clock->minute * 60 + clock->second -
                   moment->offset_min * 60;
    return true;
}

bool schema_moment_read(struct slice text, bool fraction, struct schema_moment *moment)
{
    struct moment reading = {.text = text};
    enum step step = STEP_ON;

    while (step == STEP_ON && reading.at < text.len)
        step = schema_moment_step(&reading, fraction);
    if (step == STEP_FAIL || reading.at < text.len)
        return false;
    if (step == STEP_COUNT) {
        *moment = (struct schema_moment){reading.count, true, true};
        return true;
    }
    return schema_moment_finish(&reading, moment);
}
