/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attribute.c - decodes header values that are percent-encoded.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/attribute.h"

#include <stdbool.h>
#include <string.h>

#include "alloy/text.h"

/* The position of a walk through a value. */
struct walk {
    const char *at, *end;
    bool quoted; /* a backslash stands for what is behind it */
};

/* The next byte of a quoted string, or as it is. */
static char attribute_unquote(struct walk *walk)
{
    if (walk->quoted && *walk->at == '\\' && walk->at + 1 < walk->end)
        walk->at++;
    return *walk->at++;
}

/* The next byte after both decodings; the walk is not at its end. */
static char attribute_next(struct walk *walk)
{
    const char byte = attribute_unquote(walk);
    struct walk ahead = *walk;
    int high, low;

    if (byte != '%' || ahead.at == ahead.end)
        return byte;
    high = text_hex_digit(attribute_unquote(&ahead));
    if (high < 0 || ahead.at == ahead.end)
        return byte;
    low = text_hex_digit(attribute_unquote(&ahead));
    if (low < 0)
        return byte;
    *walk = ahead;
    return (char)(high << 4 | low);
}

/* cut: the last character may be incomplete. */
static bool attribute_is_utf8(const char *text, size_t len, bool cut)
{
    size_t n;

    for (size_t at = 0; at < len; at += n) {
        n = text_utf8_len(text + at, len - at);
        if (n == 0)
            return cut && len - at < 4;
    }
    return true;
}

struct slice attribute_decode(struct slice value, char *out, size_t size)
{
    struct walk walk = {value.data, value.data + value.len, false};
    size_t len = 0;

    if (memchr(value.data, '%', value.len) == NULL && (value.len == 0 || value.data[0] != '"'))
        return value;
    if (value.len >= 2 && value.data[0] == '"' && value.data[value.len - 1] == '"')
        walk = (struct walk){value.data + 1, value.data + value.len - 1, true};
    while (walk.at < walk.end && len < size)
        out[len++] = attribute_next(&walk);
    return attribute_is_utf8(out, len, walk.at < walk.end) ? (struct slice){out, len} : value;
}
