/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_plain.h - the bytes of a string that matter, found without looking at each.
 *
 * Nearly all bytes of an event are plain: ASCII inside a string. What is special is a quote, a
 * backslash, a control byte, or a byte of a UTF-8 sequence. 16 bytes are looked at together with
 * SSE2, or 8 in a machine word without it; JSON_SCAN_PORTABLE builds without SSE2.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_JSON_PLAIN_H
#define ALLOY_JSON_PLAIN_H

#include "alloy/base.h"

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(JSON_SCAN_PORTABLE)
#define USE_SSE2 1
#include <emmintrin.h>
#endif

/* What is rarely called, or long, shall not make the short way longer. */
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define BYTES(x) ((x)*UINT64_C(0x0101010101010101))

static inline bool json_is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* The highest bit of each of eight bytes that is special. No sum is carried into the next byte. */
static inline uint64_t json_special_bits(uint64_t bytes)
{
    const uint64_t low = bytes & BYTES(0x7F);
    const uint64_t no_control = low + BYTES(0x80 - 0x20);
    const uint64_t no_quote = (low ^ BYTES('"')) + BYTES(0x7F);
    const uint64_t no_backslash = (low ^ BYTES('\\')) + BYTES(0x7F);

    return (~(no_control & no_quote & no_backslash) | bytes) & BYTES(0x80);
}

static inline uint64_t json_load_8(const char *at)
{
    uint64_t bytes;

    memcpy(&bytes, at, sizeof(bytes));
    return le64toh(bytes);
}

#ifdef USE_SSE2
/* A bit for each of the 16 bytes at at that is special, the first one's lowest. */
static inline unsigned json_special_16(const char *at)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    /* Exchanges '"' with the space, so that it is below '!' with the control bytes and, as the
     * numbers are signed, the bytes from 0x80: the sign tells. */
    const __m128i moved = _mm_xor_si128(bytes, _mm_set1_epi8('"' ^ ' '));
    const __m128i below = _mm_subs_epi8(moved, _mm_set1_epi8('!'));

    return (unsigned)_mm_movemask_epi8(
        _mm_or_si128(below, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
}

/* The same of 64 bytes. */
static inline uint64_t json_special_64(const char *at)
{
    return json_special_16(at) | (uint64_t)json_special_16(at + 16) << 16 |
           (uint64_t)json_special_16(at + 32) << 32 | (uint64_t)json_special_16(at + 48) << 48;
}
#else
static inline uint64_t json_special_64(const char *at)
{
    uint64_t special = 0;

    /* The product moves the eight bits into its highest byte. */
    for (size_t i = 0; i < 64; i += 8)
        special |=
            (json_special_bits(json_load_8(at + i)) >> 7) * UINT64_C(0x0102040810204080) >> 56 << i;
    return special;
}
#endif

/* The first byte that is special, or end. */
static inline const char *json_skip_plain(const char *at, const char *end)
{
#ifdef USE_SSE2
    for (; end - at >= 16; at += 16) {
        const unsigned mask = json_special_16(at);

        if (mask != 0)
            return at + __builtin_ctz(mask);
    }
#endif
    for (; end - at >= 8; at += 8) {
        const uint64_t special = json_special_bits(json_load_8(at));

        if (special != 0)
            return at + (__builtin_ctzll(special) >> 3);
    }
    while (at < end && json_is_plain(*at))
        at++;
    return at;
}

#endif
