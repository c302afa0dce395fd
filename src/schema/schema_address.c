/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_address.c - UUIDs and IP addresses as ClickHouse reads them from JSON: not quite as others
 * do. It takes 010.0.0.1 for an IPv4, but not for an IPv6, and a :: that stands for no group.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "schema_address.h"

#include "alloy/text.h"

#define OCTET_DIGITS_MAX 4
#define GROUPS 8
#define GROUP_DIGITS_MAX 4

enum schema_problem schema_address_check_uuid(struct slice text)
{
    const bool dashes = text.len == 36;

    if (text.len != 36 && text.len != 32)
        return SCHEMA_FORMAT;
    for (size_t i = 0; i < text.len; i++) {
        const bool dash = dashes && (i == 8 || i == 13 || i == 18 || i == 23);

        if (dash ? text.data[i] != '-' : text_hex_digit(text.data[i]) < 0)
            return SCHEMA_FORMAT;
    }
    return SCHEMA_FITS;
}

/* So many octets with points between them, up to the end of the text. */
static bool schema_address_is_octets(struct slice text, int count)
{
    size_t at = 0;

    for (int i = 0; i < count; i++) {
        unsigned value = 0;
        size_t n = 0;

        for (; n < OCTET_DIGITS_MAX && at < text.len; n++, at++) {
            if (text.data[at] < '0' || text.data[at] > '9')
                break;
            value = value * 10 + (unsigned)(text.data[at] - '0');
        }
        if (n == 0 || value > 255)
            return false;
        if (i + 1 < count && (at == text.len || text.data[at++] != '.'))
            return false;
    }
    return at == text.len;
}

enum schema_problem schema_address_check_ipv4(struct slice text)
{
    return schema_address_is_octets(text, 4) ? SCHEMA_FITS : SCHEMA_FORMAT;
}

/* At most four hexadecimal digits from at on. */
static size_t schema_address_group(struct slice text, size_t at)
{
    size_t n = 0;

    while (n < GROUP_DIGITS_MAX && at + n < text.len && text_hex_digit(text.data[at + n]) >= 0)
        n++;
    return n;
}

/* What begins with a colon, or stands behind the first group and its colon. groups: 0 or 1. */
static bool schema_address_is_groups(struct slice text, size_t at, int groups)
{
    bool gap = groups == 1 && at < text.len && text.data[at] == ':';
    bool start = true; /* a group may begin here */
    size_t from = at;  /* where the last group began */

    at += gap;
    while (at < text.len && groups < GROUPS) {
        size_t n;

        if (text.data[at] == ':') {
            start = true;
            at++;
            if (at < text.len && text.data[at] == ':') {
                if (gap)
                    return false;
                gap = true;
                at++;
                continue;
            }
            if (groups == 0)
                return false;
        } else if (text.data[at] == '.') {
            /* What was taken for a group is the first octet of an IPv4 at the end. */
            return !start && (groups == GROUPS - 1 || gap) &&
                   schema_address_is_octets((struct slice){text.data + from, text.len - from}, 4);
        }
        if (!start)
            break;
        start = false;
        n = schema_address_group(text, at);
        if (n == 0)
            break;
        from = at;
        at += n;
        groups++;
    }
    return at == text.len && (groups == GROUPS || gap);
}

enum schema_problem schema_address_check_ipv6(struct slice text)
{
    const size_t n = schema_address_group(text, 0);
    bool fits = false;

    if (n < text.len && text.data[n] == '.')
        fits = n < GROUP_DIGITS_MAX && (n == 1 || text.data[0] != '0') &&
               schema_address_is_octets(text, 4);
    else if (n < text.len && text.data[n] == ':')
        fits = schema_address_is_groups(text, n > 0 ? n + 1 : 0, n > 0);
    return fits ? SCHEMA_FITS : SCHEMA_FORMAT;
}
