/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_lex.h - the words of JSON for json_scan.c: white space, strings, numbers, true, false, null.
 *
 * A helper that skips something gets its first byte and returns the byte after it, or NULL after
 * json_fail(). The caller makes sure that the first byte exists.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_JSON_LEX_H
#define ALLOY_JSON_LEX_H

#include "alloy/json_scan.h"
#include "alloy/text.h"
#include "json_window.h"

#include <string.h>

#define TRUNCATED "The body ends too early."

/* What json_escape_unit() says when there is no UTF-16 code unit. */
enum {
    UNIT_INVALID = -1,
    UNIT_TRUNCATED = -2,
};

/* Notes the problem; returns NULL for the caller to return. */
static const char *json_fail(struct json_scan *scan, const char *at, const char *problem)
{
    scan->error_offset = (size_t)(at - scan->body);
    scan->problem = problem;
    return NULL;
}

static inline bool json_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline const char *json_skip_space(const char *at, const char *end)
{
    /* Compact JSON has no white space and costs one comparison: in valid JSON only white space is
     * below '!'. */
    while (at < end && (unsigned char)*at <= ' ' &&
           (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* json_next_token() where there is white space, or no byte. */
static NOINLINE const char *json_pass_space(struct json_scan *scan, const char *at, const char *end)
{
    at = json_skip_space(at, end);
    if (unlikely(at == end))
        return json_fail(scan, end, TRUNCATED);
    return at;
}

/* Skips white space; there must be a byte after it. */
static inline const char *json_next_token(struct json_scan *scan, const char *at, const char *end)
{
    return likely(at < end && (unsigned char)*at > ' ') ? at : json_pass_space(scan, at, end);
}

/* Skips a run of bytes from 0x80 (RFC 3629 section 4: no overlong form, no surrogate, nothing
 * above U+10FFFF). */
static const char *json_skip_utf8(struct json_scan *scan, const char *at, const char *end)
{
    do {
        const unsigned char lead = (unsigned char)*at;
        /* Bounds of the second byte; later bytes have the whole range. */
        unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;

        if (lead < 0xC2 || lead > 0xF4)
            return json_fail(scan, at, "A string is not valid UTF-8.");
        at++;
        for (int left = 1 + (lead >= 0xE0) + (lead >= 0xF0); left > 0; left--) {
            if (at == end)
                return json_fail(scan, end, TRUNCATED);
            if ((unsigned char)*at < low || (unsigned char)*at > high)
                return json_fail(scan, at, "A string is not valid UTF-8.");
            low = 0x80;
            high = 0xBF;
            at++;
        }
    } while (at < end && (unsigned char)*at >= 0x80);
    return at;
}

/* The UTF-16 code unit of the \uXXXX at at, or one of UNIT_*. */
static int json_escape_unit(const char *at, const char *end)
{
    static const char prefix[] = {'\\', 'u'};
    int unit = 0;

    for (size_t i = 0; i < 6; i++) {
        if (at + i == end)
            return UNIT_TRUNCATED;
        if (i < sizeof(prefix)) {
            if (at[i] != prefix[i])
                return UNIT_INVALID;
            continue;
        }
        const int digit = text_hex_digit(at[i]);
        if (digit < 0)
            return UNIT_INVALID;
        unit = unit << 4 | digit;
    }
    return unit;
}

static inline bool json_is_high_surrogate(int unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static inline bool json_is_low_surrogate(int unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

static const char *json_skip_escape(struct json_scan *scan, const char *at, const char *end)
{
    if (end - at < 2)
        return json_fail(scan, end, TRUNCATED);
    if (at[1] != 'u') {
        if (at[1] == '\0' || strchr("\"\\/bfnrt", at[1]) == NULL)
            return json_fail(scan, at, "A string holds an invalid escape.");
        return at + 2;
    }

    int unit = json_escape_unit(at, end);
    const bool paired = json_is_high_surrogate(unit);
    if (paired) {
        unit = json_escape_unit(at + 6, end);
        if (unit >= 0 && !json_is_low_surrogate(unit))
            unit = UNIT_INVALID;
    } else if (json_is_low_surrogate(unit)) {
        unit = UNIT_INVALID;
    }
    if (unit == UNIT_TRUNCATED)
        return json_fail(scan, end, TRUNCATED);
    if (unit == UNIT_INVALID)
        return json_fail(scan, at, "A string holds an invalid \\u escape.");
    return at + (paired ? 12 : 6);
}

/* Skips the rest of a string, from anywhere inside it. */
static NOINLINE const char *json_skip_rest(struct json_scan *scan, const char *at, const char *end,
                                           bool *escaped)
{
    for (;;) {
        at = json_skip_plain(at, end);
        if (unlikely(at == end))
            return json_fail(scan, end, TRUNCATED);
        if (likely(*at == '"'))
            return at + 1;
        if (*at == '\\') {
            *escaped = true;
            at = json_skip_escape(scan, at, end);
        } else if ((unsigned char)*at >= 0x80) {
            at = json_skip_utf8(scan, at, end);
        } else {
            return json_fail(scan, at, "A string holds a raw control byte.");
        }
        if (at == NULL)
            return NULL;
    }
}

/* Skips a string from its opening quote; sets escaped when it holds an escape. window: anywhere in
 * the body, moved to behind the string or left behind. */
static ALWAYS_INLINE const char *json_skip_string(struct json_scan *scan,
                                                  struct json_window *window, const char *at,
                                                  const char *end, bool *escaped)
{
    bool holds = false; /* in a register where nothing is called */

    if (unlikely(window->special == 0 || window->base + __builtin_ctzll(window->special) != at))
        *window = json_window_move(*window, scan->body, at, end);
    window->special &= window->special - 1;
    if (unlikely(window->special == 0))
        *window = json_window_next(*window, scan->body, end);
    if (unlikely(window->special == 0))
        return json_fail(scan, end, TRUNCATED);
    at = window->base + __builtin_ctzll(window->special);
    window->special &= window->special - 1;
    if (likely(*at == '"'))
        at++;
    else
        at = json_skip_rest(scan, at, end, &holds);
    *escaped = holds;
    return at;
}

/* Skips digits, of which there must be at least one. */
static inline const char *json_skip_digits(struct json_scan *scan, const char *at, const char *end)
{
    if (unlikely(at == end))
        return json_fail(scan, end, TRUNCATED);
    if (unlikely(!json_is_digit(*at)))
        return json_fail(scan, at, "A digit was expected.");
    do
        at++;
    while (at < end && json_is_digit(*at));
    return at;
}

static const char *json_skip_number(struct json_scan *scan, const char *at, const char *end)
{
    if (*at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else
        at = json_skip_digits(scan, at, end);
    if (at != NULL && at < end && *at == '.')
        at = json_skip_digits(scan, at + 1, end);
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = json_skip_digits(scan, at, end);
    }
    return at;
}

static inline const char *json_skip_word(struct json_scan *scan, const char *at, const char *end,
                                         const char *word)
{
    const size_t len = strlen(word);

    if (likely((size_t)(end - at) >= len && memcmp(at, word, len) == 0))
        return at + len;
    for (; *word != '\0'; word++, at++) {
        if (at == end)
            return json_fail(scan, end, TRUNCATED);
        if (*at != *word)
            return json_fail(scan, at, "A value was expected.");
    }
    return at;
}

/* Skips a number, true, false or null. */
static NOINLINE const char *json_skip_literal(struct json_scan *scan, const char *at,
                                              const char *end)
{
    switch (*at) {
    case 't':
        return json_skip_word(scan, at, end, "true");
    case 'f':
        return json_skip_word(scan, at, end, "false");
    case 'n':
        return json_skip_word(scan, at, end, "null");
    default:
        if (likely(*at == '-' || json_is_digit(*at)))
            return json_skip_number(scan, at, end);
        return json_fail(scan, at, "A value was expected.");
    }
}

static ALWAYS_INLINE const char *json_skip_scalar(struct json_scan *scan,
                                                  struct json_window *window, const char *at,
                                                  const char *end)
{
    bool escaped;

    return *at == '"' ? json_skip_string(scan, window, at, end, &escaped)
                      : json_skip_literal(scan, at, end);
}

#endif
