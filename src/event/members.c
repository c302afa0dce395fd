/* SPDX-License-Identifier: Apache-2.0 */
/*
 * members.c - walks through the objects and arrays of an event.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/members.h"

#include <stdint.h>
#include <string.h>

#include "alloy/text.h"

static void members_skip_space(struct members *members)
{
    while (members->at < members->end && (*members->at == ' ' || *members->at == '\t' ||
                                          *members->at == '\r' || *members->at == '\n'))
        members->at++;
}

/* The next byte after white space; '\0': the end. */
static char members_peek(struct members *members)
{
    members_skip_space(members);
    return members->at < members->end ? *members->at : '\0';
}

/* Takes a string; we are at its quote. Returns its inside. */
static struct slice members_take_string(struct members *members)
{
    const char *const from = ++members->at;
    const char *at = from;
    struct slice inside;

    /* A quote behind an odd number of backslashes is part of the string. */
    while ((at = memchr(at, '"', (size_t)(members->end - at))) != NULL) {
        const char *slash = at;

        while (slash > from && slash[-1] == '\\')
            slash--;
        if ((at - slash) % 2 == 0)
            break;
        at++;
    }
    members->at = at != NULL ? at + 1 : members->end;
    inside = (struct slice){from, (size_t)((at != NULL ? at : members->end) - from)};
    return inside;
}

/* Takes an object or array, by counting brackets. */
static void members_take_nested(struct members *members)
{
    size_t depth = 0;

    while (members->at < members->end) {
        const char byte = *members->at;

        if (byte == '"') {
            (void)members_take_string(members);
            continue;
        }
        members->at++;
        if (byte == '{' || byte == '[')
            depth++;
        else if ((byte == '}' || byte == ']') && --depth == 0)
            return;
    }
}

/* Takes any value. False: no value begins here. */
static bool members_take_value(struct members *members, struct slice *value)
{
    const char byte = members_peek(members);
    const char *from = members->at;

    if (byte == '"')
        (void)members_take_string(members);
    else if (byte == '{' || byte == '[')
        members_take_nested(members);
    else
        while (members->at < members->end && memchr(",]} \t\r\n", *members->at, 7) == NULL)
            members->at++;
    *value = (struct slice){from, (size_t)(members->at - from)};
    return value->len > 0;
}

static void members_skip(struct members *members, char byte)
{
    if (members_peek(members) == byte && members->at < members->end)
        members->at++;
}

void members_open(struct members *members, struct slice text)
{
    /* text.data may be NULL, which must not be compared or added to. */
    *members = (struct members){.at = text.len == 0 ? "" : text.data};
    members->end = members->at + text.len;
    if (members_peek(members) != '\0')
        members->at++;
}

bool members_next(struct members *members, struct slice *name, struct slice *value)
{
    members_skip(members, ',');
    if (members_peek(members) != '"')
        return false;
    *name = members_take_string(members);
    members_skip(members, ':');
    return members_take_value(members, value);
}

bool members_next_element(struct members *members, struct slice *value)
{
    members_skip(members, ',');
    return members_take_value(members, value);
}

struct slice members_value(const char *value, const char *end)
{
    struct members members = {.at = value, .end = end};
    struct slice text;

    (void)members_take_value(&members, &text);
    return text;
}

/* Four hexadecimal digits; -1: they are not there. */
static int32_t members_hex(struct slice text, size_t at)
{
    int32_t value = 0;

    if (text.len < 4 || at > text.len - 4)
        return -1;
    for (size_t i = at; i < at + 4; i++) {
        int digit = text_hex_digit(text.data[i]);

        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* Writes a character as UTF-8; returns how many bytes. */
static size_t members_put_utf8(int32_t c, char out[4])
{
    static const struct {
        int32_t below;
        int32_t lead;
    } lengths[] = {{0x80, 0}, {0x800, 0xc0}, {0x10000, 0xe0}, {INT32_MAX, 0xf0}};
    size_t len = 1;

    while (c >= lengths[len - 1].below)
        len++;
    for (size_t i = len; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lengths[len - 1].lead | c);
    return len;
}

/* Decodes the escape whose backslash is at *at, and moves *at behind it. Returns the bytes
 * written. */
static size_t members_put_escape(struct slice name, size_t *at, char out[4])
{
    static const char letters[] = "bfnrt", bytes[] = "\b\f\n\r\t";
    const char letter = *at + 1 < name.len ? name.data[*at + 1] : '\\';
    const char *known = letter == '\0' ? NULL : strchr(letters, letter);
    int32_t c, low;

    *at += 2;
    if (letter != 'u') {
        out[0] = known != NULL ? bytes[known - letters] : letter;
        return 1;
    }
    c = members_hex(name, *at);
    if (c < 0) {
        out[0] = 'u';
        return 1;
    }
    *at += 4;
    if (c >= 0xd800 && c < 0xdc00 && *at + 1 < name.len && name.data[*at] == '\\' &&
        name.data[*at + 1] == 'u') {
        low = members_hex(name, *at + 2);
        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + (c - 0xd800) * 0x400 + (low - 0xdc00);
            *at += 6;
        }
    }
    return members_put_utf8(c, out);
}

size_t members_decode(struct slice name, char *out, size_t room)
{
    size_t len = 0;
    char bytes[4];

    for (size_t at = 0; at < name.len;) {
        size_t n = 1;

        if (name.data[at] == '\\')
            n = members_put_escape(name, &at, bytes);
        else
            bytes[0] = name.data[at++];
        if (len + n >= room)
            return room;
        memcpy(out + len, bytes, n);
        len += n;
    }
    out[len] = '\0';
    return len;
}
