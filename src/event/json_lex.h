/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_lex.h - the words of JSON for json_scan.c: white space, strings, numbers, true, false, null.
 *
 * Nearly all bytes of an event are inside strings, so we skip these 16 at a time up to a byte that
 * matters: a quote, a backslash, a control byte, or a byte of a UTF-8 sequence.
 *
 * A helper that skips something gets its first byte and returns the byte after it, or NULL after
 * json_fail(). The caller makes sure that the first byte exists. JSON_SCAN_PORTABLE builds without
 * SSE2.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_JSON_LEX_H
#define ALLOY_JSON_LEX_H

#include "alloy/json_scan.h"
#include "alloy/text.h"

#include <endian.h>
#include <string.h>

#if defined(__SSE2__) && !defined(JSON_SCAN_PORTABLE)
#define USE_SSE2 1
#include <emmintrin.h>
#endif

/* What is rarely called, or long, shall not make the short way longer. */
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define TRUNCATED "The body ends too early."
#define BYTES(x) ((x)*UINT64_C(0x0101010101010101))

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

static inline bool json_is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* Non-zero when one of eight bytes is not plain; the lowest set bit is in the first such byte
 * (Mycroft's test for a zero byte: a borrow gives false hits only above a true one). */
static inline uint64_t json_special_bits(uint64_t bytes)
{
    const uint64_t quote = bytes ^ BYTES('"');
    const uint64_t backslash = bytes ^ BYTES('\\');
    const uint64_t below_space = (bytes - BYTES(0x20)) & ~bytes;

    return (((quote - BYTES(1)) & ~quote) | ((backslash - BYTES(1)) & ~backslash) | below_space |
            bytes) &
           BYTES(0x80);
}

#ifdef USE_SSE2
/* A bit for each of the 16 bytes at at that is not plain, the first one's lowest. */
static inline unsigned json_special_mask(const char *at)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    /* Exchanges '"' with the space, so that it is below '!' with the control bytes and, as the
     * numbers are signed, the bytes from 0x80: the sign tells. */
    const __m128i moved = _mm_xor_si128(bytes, _mm_set1_epi8('"' ^ ' '));
    const __m128i below = _mm_subs_epi8(moved, _mm_set1_epi8('!'));

    return (unsigned)_mm_movemask_epi8(
        _mm_or_si128(below, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
}
#endif

/* The first byte inside a string that is not plain, or end. */
static inline const char *json_skip_plain(const char *at, const char *end)
{
#ifdef USE_SSE2
    while (end - at >= 16) {
        const unsigned mask = json_special_mask(at);

        if (mask != 0)
            return at + __builtin_ctz(mask);
        at += 16;
    }
#endif
    while (end - at >= 8) {
        uint64_t bytes;

        memcpy(&bytes, at, sizeof(bytes));
        const uint64_t special = json_special_bits(le64toh(bytes));
        if (special != 0)
            return at + (__builtin_ctzll(special) >> 3);
        at += 8;
    }
    while (at < end && json_is_plain(*at))
        at++;
    return at;
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

/* Skips a string from its opening quote; sets escaped when it holds an escape. */
static inline const char *json_skip_string(struct json_scan *scan, const char *at, const char *end,
                                           bool *escaped)
{
    /* In a register where nothing is called. */
    bool holds = false;

    at++;
#ifdef USE_SSE2
    /* Most strings are plain up to their quote, and cost no call. */
    for (; likely(end - at >= 16); at += 16) {
        const unsigned mask = json_special_mask(at);

        if (likely(mask != 0)) {
            at += __builtin_ctz(mask);
            if (likely(*at == '"'))
                return at + 1;
            break;
        }
    }
#endif
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

static inline const char *json_skip_scalar(struct json_scan *scan, const char *at, const char *end)
{
    bool escaped;

    return *at == '"' ? json_skip_string(scan, at, end, &escaped)
                      : json_skip_literal(scan, at, end);
}

#endif
