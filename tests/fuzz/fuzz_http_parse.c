/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_http_parse.c - any bytes must have the same outcome in one piece and in several.
 *
 * The first four bytes seed the cuts; their first bit chooses head or chunked body. Every piece is
 * in a block of its exact size, so that the address sanitizer sees a read beyond it.
 */
#include "alloy/http_chunked.h"

#include <stdint.h>
#include <string.h>

#define SEED_LEN 4

/* Bytes of the next piece: often one, at times all that is left. */
static size_t piece_len(uint32_t *seed, size_t left)
{
    size_t len;

    *seed = *seed * 1664525u + 1013904223u;
    len = (*seed >> 8) % 4 == 0 ? 1 : 1 + (*seed >> 10) % 40;
    return (*seed >> 28) == 0 || len > left ? left : len;
}

static char *copy_of(const void *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    ALLOY_ASSERT(copy != NULL);
    if (len > 0) {
        memcpy(copy, data, len);
    }
    return copy;
}

static void check_slice(struct slice slice, const char *buf, size_t len)
{
    ALLOY_ASSERT(slice.len == 0 || (slice.data >= buf && slice.data + slice.len <= buf + len));
}

/* The slices of two requests may lie in two buffers: their bytes must be the same. */
static void check_same_slice(struct slice a, struct slice b)
{
    ALLOY_ASSERT(a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0));
}

static void check_same_request(const struct http_request *a, const struct http_request *b)
{
    check_same_slice(a->method_text, b->method_text);
    check_same_slice(a->path, b->path);
    check_same_slice(a->query, b->query);
    check_same_slice(a->authorization, b->authorization);
    check_same_slice(a->prefer, b->prefer);
    check_same_slice(a->length_text, b->length_text);
    ALLOY_ASSERT(a->method == b->method && a->minor == b->minor && a->head_len == b->head_len);
    ALLOY_ASSERT(a->keep_alive == b->keep_alive && a->chunked == b->chunked);
    ALLOY_ASSERT(a->expect_continue == b->expect_continue && a->coding == b->coding);
    ALLOY_ASSERT(a->has_length == b->has_length && a->content_length == b->content_length);
}

static void check_good_request(const struct http_request *request, const char *buf, size_t len)
{
    ALLOY_ASSERT(request->problem == NULL);
    ALLOY_ASSERT(request->head_len >= 4 && request->head_len <= len);
    ALLOY_ASSERT(memcmp(buf + request->head_len - 4, "\r\n\r\n", 4) == 0);
    ALLOY_ASSERT(!(request->chunked && (request->has_length || request->minor == 0)));
    check_slice(request->method_text, buf, request->head_len);
    check_slice(request->path, buf, request->head_len);
    check_slice(request->query, buf, request->head_len);
    check_slice(request->authorization, buf, request->head_len);
    check_slice(request->prefer, buf, request->head_len);
    check_slice(request->length_text, buf, request->head_len);
    ALLOY_ASSERT(request->path.len > 0);
}

static void fuzz_head(const uint8_t *data, size_t len, uint32_t seed)
{
    char *whole = copy_of(data, len);
    char *piece = copy_of(NULL, 0);
    struct http_request expected, request;
    enum http_result expected_result, result = HTTP_MORE;
    size_t scanned = 0;

    expected_result = http_parse_head(whole, len, &scanned, &expected);
    if (expected_result == HTTP_DONE) {
        check_good_request(&expected, whole, len);
    }
    scanned = 0;
    for (size_t have = 0; result == HTTP_MORE && have < len;) {
        have += piece_len(&seed, len - have);
        free(piece);
        piece = copy_of(data, have);
        result = http_parse_head(piece, have, &scanned, &request);
        ALLOY_ASSERT(result != HTTP_MORE || scanned == have);
    }
    ALLOY_ASSERT(result == expected_result);
    if (result == HTTP_DONE) {
        check_same_request(&request, &expected);
    } else if (result != HTTP_MORE) {
        ALLOY_ASSERT(request.problem != NULL && request.problem == expected.problem);
    }
    free(piece);
    free(whole);
}

static void fuzz_chunked(const uint8_t *data, size_t len, uint32_t seed)
{
    char *whole = copy_of(data, len);
    char *block = copy_of(NULL, 0);
    struct http_chunked expected = {0};
    struct http_chunked chunked = {0};
    enum http_result expected_result, result = HTTP_MORE;
    size_t expected_used, consumed;
    size_t used = 0;

    expected_result = http_chunked_decode(&expected, whole, len, &expected_used);
    ALLOY_ASSERT(expected_used <= len && expected.decoded <= expected_used);
    ALLOY_ASSERT(memcmp(whole + expected_used, data + expected_used, len - expected_used) == 0);
    while (result == HTTP_MORE && used < len) {
        size_t before = chunked.decoded;
        size_t have = piece_len(&seed, len - used);
        char *next = malloc(before + have);
        ALLOY_ASSERT(next != NULL);
        memcpy(next, block, before);
        memcpy(next + before, data + used, have);
        free(block);
        block = next;
        result = http_chunked_decode(&chunked, block, have, &consumed);
        ALLOY_ASSERT(result == HTTP_MORE ? consumed == have : consumed <= have);
        used += consumed;
    }
    ALLOY_ASSERT(result == expected_result && used == expected_used);
    ALLOY_ASSERT(chunked.decoded == expected.decoded && chunked.problem == expected.problem);
    ALLOY_ASSERT(memcmp(block, whole, chunked.decoded) == 0);
    free(block);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t seed;

    if (size < SEED_LEN) {
        return 0;
    }
    memcpy(&seed, data, SEED_LEN);
    if ((data[0] & 1) == 0) {
        fuzz_head(data + SEED_LEN, size - SEED_LEN, seed);
    } else {
        fuzz_chunked(data + SEED_LEN, size - SEED_LEN, seed);
    }
    return 0;
}
