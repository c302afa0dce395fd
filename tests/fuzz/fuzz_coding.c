/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_coding.c - compressed and decoded in any pieces, data is what it was; and any bytes decode
 * to the same in one piece as in pieces.
 *
 * The first four bytes seed cuts, levels and faults; the first of them chooses form and question,
 * and from 0xf0 on a form with base64 or escapes.
 * Every piece lies in a block of its exact size, so that the address sanitizer sees a step beyond
 * it.
 */
#include "alloy/coding.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <zlib.h>
#include <zstd.h>

#define SEED_LEN 4
#define MAX_LEN (1ul << 20) /* of the decoded body */

enum form { FORM_GZIP, FORM_ZLIB, FORM_BARE, FORM_ZSTD, FORM_COUNT };

static const enum coding form_codings[FORM_COUNT] = {CODING_GZIP, CODING_DEFLATE, CODING_DEFLATE,
                                                     CODING_ZSTD};

static uint32_t random_next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Bytes of the next piece: often few, at times all that is left, and sometimes none. */
static size_t piece_len(uint32_t *seed, size_t left)
{
    uint32_t random = random_next(seed);
    size_t len = random % 4 == 0 ? random >> 2 & 3 : 1 + (random >> 2) % 300;

    return random % 16 == 1 || len > left ? left : len;
}

static char *copy_of(const void *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    ALLOY_ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    return copy;
}

struct outcome {
    enum coding_result result;
    const char *problem;
    char *data; /* owned */
    size_t len;
};

/* The room for what is decoded grows in pieces too, and moves. */
static void grow(struct coding_out *out, size_t more)
{
    char *data;

    if (more == 0)
        more = 1;
    if (more > out->max + 1 - out->size)
        more = out->max + 1 - out->size;
    data = malloc(out->size + more);
    ALLOY_ASSERT(data != NULL);
    if (out->len > 0)
        memcpy(data, out->data, out->len);
    free(out->data);
    out->data = data;
    out->size += more;
}

static struct outcome decode_pieces(struct coding_decoder *decoder, enum coding coding,
                                    struct slice body, uint32_t seed)
{
    struct coding_out out = {.max = MAX_LEN};
    enum coding_result result;
    size_t used = 0;

    coding_begin(decoder, coding);
    do {
        size_t have = piece_len(&seed, body.len - used);
        char *piece = copy_of(body.data + used, have);
        struct slice raw = {piece, have};
        bool last = used + have == body.len;

        if (out.len == out.size)
            grow(&out, piece_len(&seed, MAX_LEN) * (1 + random_next(&seed) % 64));
        result = coding_decode(decoder, &raw, last, &out);
        ALLOY_ASSERT(raw.data + raw.len == piece + have);
        ALLOY_ASSERT(out.len <= out.size);
        ALLOY_ASSERT(result != CODING_MORE || (raw.len == 0 && !last));
        ALLOY_ASSERT(result != CODING_FULL || out.len == out.size);
        used += have - raw.len;
        free(piece);
    } while (result == CODING_MORE || result == CODING_FULL);
    ALLOY_ASSERT(result != CODING_DONE || (used == body.len && out.len <= MAX_LEN));
    ALLOY_ASSERT(result != CODING_TOO_LARGE || out.len == MAX_LEN + 1);
    return (struct outcome){result, coding_problem(decoder), out.data, out.len};
}

static struct outcome decode_whole(struct coding_decoder *decoder, enum coding coding,
                                   struct slice body)
{
    struct coding_out out = {.size = MAX_LEN + 1, .max = MAX_LEN};
    enum coding_result result;

    out.data = malloc(out.size);
    ALLOY_ASSERT(out.data != NULL);
    coding_begin(decoder, coding);
    result = coding_decode(decoder, &body, true, &out);
    ALLOY_ASSERT(result != CODING_MORE && result != CODING_FULL && result != CODING_NO_MEMORY);
    return (struct outcome){result, coding_problem(decoder), out.data, out.len};
}

/* Appends one member or frame to packed; returns its length. */
static size_t pack_member(enum form form, struct slice data, uint32_t *seed, char *to, size_t room)
{
    static const int bits[] = {31, 15, -15};
    uint32_t random = random_next(seed);
    z_stream stream = {0};
    ZSTD_CCtx *zstd;
    size_t n;

    if (form == FORM_ZSTD) {
        zstd = ZSTD_createCCtx();
        ALLOY_ASSERT(zstd != NULL);
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, (int)(random % 8));
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, 10 + (int)(random >> 3) % 8);
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, random >> 6 & 1);
        ZSTD_CCtx_setParameter(zstd, ZSTD_c_contentSizeFlag, random >> 7 & 1);
        n = ZSTD_compress2(zstd, to, room, data.data, data.len);
        ALLOY_ASSERT(!ZSTD_isError(n));
        ZSTD_freeCCtx(zstd);
        return n;
    }
    ALLOY_ASSERT(deflateInit2(&stream, (int)(random % 10), Z_DEFLATED, bits[form],
                              1 + (int)(random >> 4) % 9, (int)(random >> 8) % 5) == Z_OK);
    stream.next_in = (z_const Bytef *)(uintptr_t)data.data;
    stream.avail_in = (uInt)data.len;
    stream.next_out = (Bytef *)to;
    stream.avail_out = (uInt)room;
    ALLOY_ASSERT(deflate(&stream, Z_FINISH) == Z_STREAM_END);
    n = stream.total_out;
    deflateEnd(&stream);
    return n;
}

/* data compressed in one member, or several where the form knows them. Owned. */
static struct slice pack(enum form form, struct slice data, uint32_t *seed)
{
    const size_t room = 2 * data.len + 4096;
    const bool one = form == FORM_ZLIB || form == FORM_BARE;
    struct slice packed = {malloc(room), 0};
    size_t used = 0;

    ALLOY_ASSERT(packed.data != NULL);
    for (int i = 0; i == 0 || used < data.len; i++) {
        size_t left = data.len - used;
        size_t n = one || i == 4 ? left : piece_len(seed, left);
        char *to = (char *)(uintptr_t)packed.data + packed.len;

        packed.len +=
            pack_member(form, (struct slice){data.data + used, n}, seed, to, room - packed.len);
        used += n;
    }
    return packed;
}

static void check_round_trip(struct coding_decoder *decoder, enum form form, struct slice data,
                             uint32_t seed)
{
    struct slice packed = pack(form, data, &seed);
    struct outcome whole = decode_whole(decoder, form_codings[form], packed);
    struct outcome pieces = decode_pieces(decoder, form_codings[form], packed, seed);

    ALLOY_ASSERT(whole.result == CODING_DONE && pieces.result == CODING_DONE);
    ALLOY_ASSERT(whole.len == data.len && pieces.len == data.len);
    ALLOY_ASSERT(data.len == 0 || memcmp(whole.data, data.data, data.len) == 0);
    ALLOY_ASSERT(data.len == 0 || memcmp(pieces.data, data.data, data.len) == 0);
    free((char *)(uintptr_t)packed.data);
    free(whole.data);
    free(pieces.data);
}

static void check_any(struct coding_decoder *decoder, enum coding coding, struct slice body,
                      uint32_t seed)
{
    struct outcome whole = decode_whole(decoder, coding, body);
    struct outcome pieces = decode_pieces(decoder, coding, body, seed);

    (void)coding_announced(coding, body);
    /* What a broken zstd body gives before its fault is found, and which fault is found first,
     * depends on the pieces, as does whether its window is needed. */
    if (coding == CODING_ZSTD) {
        ALLOY_ASSERT(whole.result == pieces.result || pieces.result == CODING_BAD ||
                     whole.result == CODING_BAD);
    } else {
        ALLOY_ASSERT(whole.result == pieces.result && whole.problem == pieces.problem);
        ALLOY_ASSERT(whole.len == pieces.len);
    }
    if (whole.result == CODING_DONE && pieces.result == CODING_DONE) {
        ALLOY_ASSERT(whole.len == pieces.len);
        ALLOY_ASSERT(whole.len == 0 || memcmp(whole.data, pieces.data, whole.len) == 0);
    }
    free(whole.data);
    free(pieces.data);
}

/* A good body with a few bytes changed: what a fuzzer does not find by itself behind a checksum. */
static void check_faults(struct coding_decoder *decoder, enum form form, struct slice data,
                         uint32_t seed)
{
    struct slice packed = pack(form, data, &seed);
    char *bytes = (char *)(uintptr_t)packed.data;

    for (uint32_t i = random_next(&seed) % 4; packed.len > 0 && i-- > 0;)
        bytes[random_next(&seed) % packed.len] ^= (char)(1 << random_next(&seed) % 8);
    check_any(decoder, form_codings[form], packed, seed);
    free(bytes);
}

/* A bracket and data in a form: as base64, and as it is with most bytes escaped. */
static void check_form(struct coding_decoder *decoder, struct slice data, uint32_t seed)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t room = sizeof(CODING_FORM_PREFIX) + 8 + 3 * (data.len + 1);
    char *form = malloc(room), *plain = malloc(data.len + 1);
    size_t len = sizeof(CODING_FORM_PREFIX) - 1, bits = 0, count = 0;
    const bool base64 = seed >> 31;

    ALLOY_ASSERT(form != NULL && plain != NULL);
    plain[0] = '[';
    if (data.len > 0)
        memcpy(plain + 1, data.data, data.len);
    memcpy(form, CODING_FORM_PREFIX, len);
    for (size_t i = 0; i <= data.len; i++) {
        bits = (bits << 8 | (unsigned char)plain[i]) & 0xffff;
        if (!base64)
            len += (size_t)snprintf(form + len, room - len, "%%%02x", (unsigned)(bits & 0xff));
        for (count += 8; base64 && count >= 6; count -= 6)
            form[len++] = digits[bits >> (count - 6) & 63];
    }
    if (base64 && count > 0)
        form[len++] = digits[bits << (6 - count) & 63];
    for (int i = 0; i < 2; i++) {
        struct slice body = {form, len};
        struct outcome got = i == 0 ? decode_whole(decoder, CODING_FORM, body)
                                    : decode_pieces(decoder, CODING_FORM, body, seed);

        ALLOY_ASSERT(got.result == CODING_DONE && got.len == data.len + 1);
        ALLOY_ASSERT(memcmp(got.data, plain, got.len) == 0);
        free(got.data);
    }
    free(form);
    free(plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* One for all bodies, as in a front-end thread. */
    static struct coding_decoder *decoder;
    struct slice body = {(const char *)data + SEED_LEN, size - SEED_LEN};
    enum form form;
    uint32_t seed;

    if (size < SEED_LEN)
        return 0;
    if (!decoder)
        decoder = coding_create();
    ALLOY_ASSERT(decoder != NULL);
    memcpy(&seed, data, SEED_LEN);
    if (data[0] >= 0xf0) {
        check_any(decoder, CODING_FORM, body, seed);
        check_form(decoder, body, seed);
        return 0;
    }
    form = (enum form)(data[0] % FORM_COUNT);
    switch (data[0] / FORM_COUNT % 4) {
    case 0:
    case 1:
        check_any(decoder, form_codings[form], body, seed);
        return 0;
    case 2:
        check_round_trip(decoder, form, body, seed);
        return 0;
    default:
        check_faults(decoder, form, body, seed);
        return 0;
    }
}
