/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_form.c - what a text is: a time, a UUID, an address.
 *
 * Narrower than ClickHouse's own parsers: a text that comes back in another form, or that another
 * setting would read in another way, has none of the forms. (Times come back as the same instant.)
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "ctl_form.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "alloy/text.h"
#include "ctl_sample.h"

/* All precisions of DateTime64 hold these years, with any offset. */
#define YEAR_MIN 1901
#define YEAR_MAX 2261
#define FRACTION_MAX 9

/* A number of exactly n digits, from low to high; moves *at behind it. */
static bool ctl_form_number(const char **at, size_t n, int low, int high, int *value)
{
    *value = 0;
    for (size_t i = 0; i < n; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        *value = *value * 10 + (**at - '0');
    }
    return *value >= low && *value <= high;
}

static int ctl_form_days(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

static bool ctl_form_date(const char **at)
{
    int year, month, day;

    return ctl_form_number(at, 4, YEAR_MIN, YEAR_MAX, &year) && *(*at)++ == '-' &&
           ctl_form_number(at, 2, 1, 12, &month) && *(*at)++ == '-' &&
           ctl_form_number(at, 2, 1, 31, &day) && day <= ctl_form_days(year, month);
}

static bool ctl_form_clock(const char **at, unsigned *fraction)
{
    int part;

    if (!ctl_form_number(at, 2, 0, 23, &part) || *(*at)++ != ':' ||
        !ctl_form_number(at, 2, 0, 59, &part) || *(*at)++ != ':' ||
        !ctl_form_number(at, 2, 0, 59, &part))
        return false;
    if (**at != '.')
        return true;
    for ((*at)++; isdigit((unsigned char)**at); (*at)++)
        (*fraction)++;
    return *fraction >= 1 && *fraction <= FRACTION_MAX;
}

static bool ctl_form_zone(const char **at)
{
    int part;

    if (**at == '\0')
        return true;
    if (**at == 'Z') {
        (*at)++;
        return true;
    }
    if (**at != '+' && **at != '-')
        return false;
    (*at)++;
    if (!ctl_form_number(at, 2, 0, 14, &part))
        return false;
    *at += **at == ':';
    return ctl_form_number(at, 2, 0, 59, &part);
}

static unsigned ctl_form_time(const char *text, unsigned *fraction)
{
    const char *at = text;

    if (!ctl_form_date(&at))
        return 0;
    if (*at == '\0')
        return CTL_FORM_DATE;
    if (*at != 'T' && *at != ' ')
        return 0;
    at++;
    return ctl_form_clock(&at, fraction) && ctl_form_zone(&at) && *at == '\0' ? CTL_FORM_DATETIME
                                                                              : 0;
}

static bool ctl_form_is_uuid(const char *text)
{
    size_t i;

    for (i = 0; text[i] != '\0' && i < 36; i++) {
        const bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

        /* In lower case, as it comes back. */
        if (hyphen ? text[i] != '-'
                   : text_hex_digit(text[i]) < 0 || isupper((unsigned char)text[i]))
            return false;
    }
    return i == 36 && text[i] == '\0';
}

/* Whether an address is written as it comes back. */
static bool ctl_form_is_address(const char *text, int family)
{
    unsigned char bytes[16];
    char back[INET6_ADDRSTRLEN];

    return (family == AF_INET || strchr(text, '.') == NULL) &&
           inet_pton(family, text, bytes) == 1 &&
           inet_ntop(family, bytes, back, sizeof(back)) != NULL && strcmp(text, back) == 0;
}

unsigned ctl_form(const char *text, unsigned *fraction)
{
    const unsigned time = ctl_form_time(text, fraction);

    if (time != CTL_FORM_DATETIME)
        *fraction = 0;
    if (time != 0)
        return time;
    if (ctl_form_is_uuid(text))
        return CTL_FORM_UUID;
    if (ctl_form_is_address(text, AF_INET))
        return CTL_FORM_IPV4;
    return ctl_form_is_address(text, AF_INET6) ? CTL_FORM_IPV6 : 0;
}

bool ctl_form_is_time_like(struct slice text)
{
    static const char *const words[] = {"jan", "feb", "mar", "apr", "may", "jun", "jul",
                                        "aug", "sep", "oct", "nov", "dec", "mon", "tue",
                                        "wed", "thu", "fri", "sat", "sun"};
    bool digits = false, parts = false;

    for (size_t i = 0; i < text.len; i++) {
        digits |= isdigit((unsigned char)text.data[i]) != 0;
        parts |= strchr(":/ TZ-.,", text.data[i]) != NULL;
    }
    if (!digits || !parts || text.len > 64)
        return false;
    if (isdigit((unsigned char)text.data[0])) {
        char copy[65];
        const char *at = copy;

        snprintf(copy, sizeof(copy), "%.*s", (int)text.len, text.data);
        /* A date comes back as it is. So do most others, of which one kind is frequent. */
        return !(ctl_form_date(&at) && *at == '\0') && !ctl_form_is_uuid(copy);
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strncasecmp(text.data, words[i], 3) == 0)
            return true;
    return false;
}
