/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_http_chunked.c - which chunked bodies decode, however they are cut, and which are refused.
 *
 * Every input is copied to a heap block of its exact size, so that the address sanitizer sees a
 * read or write beyond it.
 */
#include "alloy/http_chunked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Exactly sized and owned by the caller, freed by free(). */
static char *copy_of(const char *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, data, len);
    return copy;
}

struct chunked_case {
    const char *raw;
    const char *body; /* decoded, on HTTP_DONE */
    enum http_result result;
    size_t rest; /* bytes of raw behind the end */
};

/* Decodes in pieces of at most piece bytes, each in a block that ends where the piece ends. */
static enum http_result decode(const struct chunked_case *test, size_t raw_len, size_t piece,
                               size_t *used)
{
    struct http_chunked chunked = {0};
    enum http_result result = HTTP_MORE;
    char *block = copy_of("", 0);
    size_t consumed = 0;

    for (*used = 0; result == HTTP_MORE && *used < raw_len; *used += consumed) {
        size_t len = raw_len - *used < piece ? raw_len - *used : piece;
        char *next = malloc(chunked.decoded + len);
        size_t before = chunked.decoded;
        assert_non_null(next);
        memcpy(next, block, before);
        memcpy(next + before, test->raw + *used, len);
        free(block);
        block = next;
        result = http_chunked_decode(&chunked, block, len, &consumed);
        assert_true(consumed <= len);
        assert_true(result != HTTP_MORE || consumed == len);
        if (result == HTTP_DONE) {
            /* What follows the end stays at its place. */
            assert_memory_equal(block + before + consumed, test->raw + *used + consumed,
                                len - consumed);
        }
    }
    if (result == HTTP_DONE) {
        assert_int_equal(chunked.decoded, strlen(test->body));
        assert_memory_equal(block, test->body, chunked.decoded);
    }
    assert_int_equal(result == HTTP_BAD, chunked.problem != NULL);
    if (result != HTTP_MORE) {
        assert_int_equal(http_chunked_decode(&chunked, block, 0, &consumed), result);
        assert_int_equal(consumed, 0);
    }
    free(block);
    return result;
}

static void chunked_bodies_decode_or_are_refused_however_they_are_cut(void **state)
{
    static const struct chunked_case cases[] = {
        {"0\r\n\r\n", "", HTTP_DONE, 0},
        {"0000\r\n\r\nGET", "", HTTP_DONE, 3},
        {"5\r\nhello\r\n0\r\n\r\n", "hello", HTTP_DONE, 0},
        {"5\r\nhello\r\nA\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n\r\n",
         "hello01234567890123456789", HTTP_DONE, 2},
        {"00005;a=b;c=\"d e\"\r\n\r\n0\r\n\r\n0;x\r\n\r\n", "\r\n0\r\n", HTTP_DONE, 0},
        {"1 \t;x\r\na\r\n0\r\nAb: b\r\nC:\r\nD: \xff\t\r\n\r\nX", "a", HTTP_DONE, 1},
        {"", "", HTTP_MORE, 0},
        {"5\r\nhello\r\n0\r\nA: b\r\n\r", "", HTTP_MORE, 0},
        {"\r\n", "", HTTP_BAD, 0},
        {";a\r\n", "", HTTP_BAD, 0},
        {" 1\r\na\r\n", "", HTTP_BAD, 0},
        {"g\r\n", "", HTTP_BAD, 0},
        {"0x1\r\n", "", HTTP_BAD, 0},
        {"-1\r\n", "", HTTP_BAD, 0},
        {"+1\r\n", "", HTTP_BAD, 0},
        {"1 \r\n", "", HTTP_BAD, 0},
        {"1 1\r\n", "", HTTP_BAD, 0},
        {"1\n", "", HTTP_BAD, 0},
        {"1\rX", "", HTTP_BAD, 0},
        {"1;a\n", "", HTTP_BAD, 0},
        {"1;a\rb\r\n", "", HTTP_BAD, 0},
        {"1;\x01\r\n", "", HTTP_BAD, 0},
        {"1\r\nab\r\n", "", HTTP_BAD, 0},
        {"1\r\na\n", "", HTTP_BAD, 0},
        {"1\r\na\rb", "", HTTP_BAD, 0},
        {"1\r\na0\r\n\r\n", "", HTTP_BAD, 0},
        {"1\r\na\r\n\r\n", "", HTTP_BAD, 0},
        {"8000000000000000\r\n", "", HTTP_BAD, 0},
        {"10000000000000000\r\n", "", HTTP_BAD, 0},
        {"7fffffffffffffff\r\na", "", HTTP_MORE, 0},
        {"0\r\n A: b\r\n", "", HTTP_BAD, 0},
        {"0\r\nA : b\r\n", "", HTTP_BAD, 0},
        {"0\r\n: b\r\n", "", HTTP_BAD, 0},
        {"0\r\nA\r\n", "", HTTP_BAD, 0},
        {"0\r\nA: b\n", "", HTTP_BAD, 0},
        {"0\r\nA: b\rc", "", HTTP_BAD, 0},
        {"0\r\nA: \x7f\r\n", "", HTTP_BAD, 0},
        {"0\r\n\n", "", HTTP_BAD, 0},
        {"0\r\n\rX", "", HTTP_BAD, 0},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t len = strlen(cases[i].raw);
        for (size_t piece = 1; piece <= len; piece++) {
            size_t used;
            enum http_result result = decode(&cases[i], len, piece, &used);
            if (result != cases[i].result) {
                fail_msg("%d instead of %d in pieces of %zu for: %s", result, cases[i].result,
                         piece, cases[i].raw);
            }
            if (result == HTTP_DONE) {
                assert_int_equal(used, len - cases[i].rest);
            }
        }
        for (size_t cut = 0; cases[i].result == HTTP_DONE && cut < len - cases[i].rest; cut++) {
            size_t used;
            assert_int_equal(decode(&cases[i], cut, len, &used), HTTP_MORE);
        }
    }
}

static enum http_result decode_text(const char *text)
{
    const struct chunked_case test = {.raw = text, .body = ""};
    size_t used;
    enum http_result result = decode(&test, strlen(text), strlen(text), &used);

    assert_int_equal(decode(&test, strlen(text), 1, &used), result);
    return result;
}

static void size_lines_are_bounded(void **state)
{
    char text[512];

    (void)state;
    snprintf(text, sizeof(text), "%0254d\r\n\r\n", 0);
    assert_int_equal(decode_text(text), HTTP_DONE);
    snprintf(text, sizeof(text), "%0255d\r\n\r\n", 0);
    assert_int_equal(decode_text(text), HTTP_BAD);
    snprintf(text, sizeof(text), "0;%0252d\r\n\r\n", 0);
    assert_int_equal(decode_text(text), HTTP_DONE);
    snprintf(text, sizeof(text), "0;%0253d\r\n\r\n", 0);
    assert_int_equal(decode_text(text), HTTP_BAD);
    snprintf(text, sizeof(text), "0;%0255d", 0);
    assert_int_equal(decode_text(text), HTTP_BAD);
}

static void trailers_are_bounded_together(void **state)
{
    char text[9000];
    size_t len = (size_t)snprintf(text, sizeof(text), "0\r\n");

    (void)state;
    /* 409 lines of 20 bytes, one of 10 and the final CRLF make 8192. */
    for (int i = 0; i < 409; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "A: %015d\r\n", i);
    }
    snprintf(text + len, sizeof(text) - len, "A: 12345\r\n\r\n");
    assert_int_equal(strlen(text), 3 + 8192);
    assert_int_equal(decode_text(text), HTTP_DONE);
    snprintf(text + len, sizeof(text) - len, "A: 123456\r\n\r\n");
    assert_int_equal(decode_text(text), HTTP_BAD);
}

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Random bodies in random chunks, fed in random pieces, into one buffer as a connection does. */
static void random_chunkings_decode_in_place_to_the_original(void **state)
{
    static char body[4000], raw[40000], buffer[sizeof(raw) + 16];
    unsigned seed = 20240607;

    (void)state;
    for (int round = 0; round < 500; round++) {
        size_t body_len = next_random(&seed) % sizeof(body);
        size_t raw_len = 0;
        /* In some rounds so many chunks that their size lines together pass one line's bound. */
        size_t chunk_max = next_random(&seed) % 2 != 0 ? 8 : 1500;
        struct http_chunked chunked = {0};
        enum http_result result = HTTP_MORE;

        for (size_t i = 0; i < body_len; i++) {
            body[i] = (char)next_random(&seed);
        }
        for (size_t at = 0, chunk; at < body_len; at += chunk) {
            chunk = 1 + next_random(&seed) % chunk_max;
            chunk = chunk > body_len - at ? body_len - at : chunk;
            raw_len += (size_t)snprintf(raw + raw_len, 32, "%zx%s\r\n", chunk,
                                        next_random(&seed) % 4 == 0 ? ";e=1" : "");
            memcpy(raw + raw_len, body + at, chunk);
            memcpy(raw + raw_len + chunk, "\r\n", 2);
            raw_len += chunk + 2;
        }
        memcpy(raw + raw_len, "0\r\nT: x\r\n\r\nGET /next", 20);
        raw_len += 11;

        for (size_t used = 0, consumed; result == HTTP_MORE; used += consumed) {
            size_t piece = 1 + next_random(&seed) % 700;
            piece = piece > raw_len + 9 - used ? raw_len + 9 - used : piece;
            memcpy(buffer + chunked.decoded, raw + used, piece);
            memset(buffer + chunked.decoded + piece, '#', 4);
            char *fed = buffer + chunked.decoded;
            result = http_chunked_decode(&chunked, buffer, piece, &consumed);
            assert_memory_equal(fed + piece, "####", 4);
            if (result == HTTP_DONE) {
                assert_int_equal(used + consumed, raw_len);
                assert_memory_equal(fed + consumed, raw + raw_len, piece - consumed);
            }
        }
        assert_int_equal(result, HTTP_DONE);
        assert_int_equal(chunked.decoded, body_len);
        assert_memory_equal(buffer, body, body_len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunked_bodies_decode_or_are_refused_however_they_are_cut),
        cmocka_unit_test(size_lines_are_bounded),
        cmocka_unit_test(trailers_are_bounded_together),
        cmocka_unit_test(random_chunkings_decode_in_place_to_the_original),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
