/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ack.c - what a client wants to be sure of before we answer.
 *
 * The query is parsed strictly, since a misspelt ack would promise less than the client believes.
 * Prefer is parsed leniently, as RFC 7240 requires. We ignore other parameters and preferences.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/ack.h"

#include <string.h>
#include <strings.h>

static bool ack_slice_is(struct slice slice, const char *text)
{
    return slice.len == strlen(text) && memcmp(slice.data, text, slice.len) == 0;
}

/* Cuts the part before the first separator off text, and returns it. */
static struct slice ack_cut(struct slice *text, char separator)
{
    const char *end = memchr(text->data, separator, text->len);
    struct slice part = {text->data, end ? (size_t)(end - text->data) : text->len};
    size_t used = part.len + (end ? 1 : 0);

    text->data += used;
    text->len -= used;
    return part;
}

static struct slice ack_trim(struct slice text)
{
    while (text.len > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.len--;
    }
    while (text.len > 0 && (text.data[text.len - 1] == ' ' || text.data[text.len - 1] == '\t'))
        text.len--;
    return text;
}

/* The seconds of a preference wait=N or wait="N", bounded; 0: it is another preference. */
static uint32_t ack_wait_of(struct slice preference)
{
    struct slice rest = preference;
    struct slice name = ack_trim(ack_cut(&rest, '='));
    struct slice value = ack_trim(rest);
    uint32_t seconds = 0;

    if (name.len != 4 || strncasecmp(name.data, "wait", 4) != 0)
        return 0;
    if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"') {
        value.data++;
        value.len -= 2;
    }
    if (value.len == 0)
        return 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return 0;
        seconds = seconds * 10 + (uint32_t)(value.data[i] - '0');
        if (seconds > ACK_WAIT_MAX_S)
            seconds = ACK_WAIT_MAX_S;
    }
    return seconds > 0 ? seconds : 1;
}

/* Whether a preference is handling=lenient; strict: it is handling=strict. */
static bool ack_is_lenient(struct slice preference, bool *strict)
{
    struct slice rest = preference;
    struct slice name = ack_trim(ack_cut(&rest, '='));
    struct slice value = ack_trim(rest);

    if (name.len != 8 || strncasecmp(name.data, "handling", 8) != 0)
        return false;
    if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"') {
        value.data++;
        value.len -= 2;
    }
    *strict = value.len == 6 && strncasecmp(value.data, "strict", 6) == 0;
    return value.len == 7 && strncasecmp(value.data, "lenient", 7) == 0;
}

/* Of several preferences, the first counts (RFC 7240 section 2). */
static bool ack_prefer_lenient(struct slice prefer)
{
    while (prefer.len > 0) {
        struct slice preference = ack_cut(&prefer, ',');
        bool strict = false;

        if (ack_is_lenient(ack_trim(ack_cut(&preference, ';')), &strict))
            return true;
        if (strict)
            return false;
    }
    return false;
}

/* The first of several counts (RFC 7240 section 2). */
static uint32_t ack_prefer_wait(struct slice prefer)
{
    while (prefer.len > 0) {
        struct slice preference = ack_cut(&prefer, ',');
        uint32_t seconds = ack_wait_of(ack_trim(ack_cut(&preference, ';')));

        if (seconds > 0)
            return seconds;
    }
    return 0;
}

const char *ack_read(struct slice query, struct slice prefer, struct ack *ack)
{
    uint32_t wait_s = ack_prefer_wait(prefer);
    bool named = false;

    ack->verbose = false;
    ack->lenient = ack_prefer_lenient(prefer);
    ack->kind = wait_s > 0 ? ADMISSION_ACK_CLICKHOUSE : ADMISSION_ACK_NONE;
    ack->wait_s = wait_s > 0 ? wait_s : ACK_WAIT_DEFAULT_S;
    while (query.len > 0) {
        struct slice value = ack_cut(&query, '&');
        struct slice name = ack_cut(&value, '=');

        ack->verbose = ack->verbose || (ack_slice_is(name, "verbose") && ack_slice_is(value, "1"));
        if (!ack_slice_is(name, "ack"))
            continue;
        if (named)
            return "ack is given twice.";
        named = true;
        if (ack_slice_is(value, "none"))
            ack->kind = ADMISSION_ACK_NONE;
        else if (ack_slice_is(value, "disk"))
            ack->kind = ADMISSION_ACK_DISK;
        else if (ack_slice_is(value, "clickhouse"))
            ack->kind = ADMISSION_ACK_CLICKHOUSE;
        else
            return "ack must be none, disk or clickhouse.";
    }
    return NULL;
}
