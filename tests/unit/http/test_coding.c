/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_coding.c - compressed bodies, in one piece and in pieces, good, broken and endless.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include <zlib.h>
#include <zstd.h>

#include "alloy/coding.h"

#define TEXT "{\"event_id\":\"a\"}\n{\"event_id\":\"b\"}\n"
#define BOMB_BYTES (128ul << 20)

enum form { FORM_GZIP, FORM_ZLIB, FORM_BARE, FORM_ZSTD, FORM_COUNT };

static const enum coding form_codings[FORM_COUNT] = {CODING_GZIP, CODING_DEFLATE, CODING_DEFLATE,
                                                     CODING_ZSTD};
static struct coding_decoder *decoder;
static char packed[2 << 20];
static char unpacked[2 << 20];

static int start(void **state)
{
    (void)state;
    decoder = coding_create();
    assert_non_null(decoder);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    coding_destroy(decoder);
    return 0;
}

static size_t pack(enum form form, const char *data, size_t len, char *to)
{
    static const int bits[] = {31, 15, -15};
    z_stream stream = {0};
    size_t n;

    if (form == FORM_ZSTD) {
        n = ZSTD_compress(to, sizeof(packed) / 2, data, len, 3);
        assert_false(ZSTD_isError(n));
        return n;
    }
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, bits[form], 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = (z_const Bytef *)(uintptr_t)data;
    stream.avail_in = (uInt)len;
    stream.next_out = (Bytef *)to;
    stream.avail_out = sizeof(packed) / 2;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    n = stream.total_out;
    deflateEnd(&stream);
    return n;
}

/* size zeros. */
static size_t pack_zeros(enum form form, size_t size)
{
    static const char zeros[1 << 16];
    static const int bits[] = {31, 15, -15};
    z_stream stream = {.next_out = (Bytef *)packed, .avail_out = sizeof(packed)};
    ZSTD_outBuffer out = {packed, sizeof(packed), 0};
    ZSTD_CCtx *zstd;

    if (form == FORM_ZSTD) {
        zstd = ZSTD_createCCtx();
        for (size_t done = 0; done < size; done += sizeof(zeros)) {
            ZSTD_inBuffer in = {zeros, sizeof(zeros), 0};

            while (in.pos < in.size)
                assert_false(ZSTD_isError(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_continue)));
        }
        assert_int_equal(ZSTD_compressStream2(zstd, &out, &(ZSTD_inBuffer){0}, ZSTD_e_end), 0);
        ZSTD_freeCCtx(zstd);
        return out.pos;
    }
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, bits[form], 8, Z_DEFAULT_STRATEGY), Z_OK);
    for (size_t done = 0; done < size; done += sizeof(zeros)) {
        stream.next_in = (z_const Bytef *)(uintptr_t)zeros;
        stream.avail_in = sizeof(zeros);
        assert_int_equal(deflate(&stream, Z_NO_FLUSH), Z_OK);
    }
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return stream.total_out;
}

/* Decodes packed in pieces of at most in_step bytes into room that grows by out_step. */
static enum coding_result decode_steps(size_t len, size_t in_step, size_t out_step,
                                       struct coding_out *out)
{
    size_t used = 0;

    for (;;) {
        size_t n = len - used < in_step ? len - used : in_step;
        struct slice raw = {packed + used, n};
        enum coding_result result;

        if (out->size == out->len)
            out->size += out->max + 1 - out->size < out_step ? out->max + 1 - out->size : out_step;
        result = coding_decode(decoder, &raw, used + n == len, out);
        used += n - raw.len;
        if (result == CODING_FULL)
            assert_int_equal(out->len, out->size);
        else if (result == CODING_MORE)
            assert_true(raw.len == 0 && used < len);
        else
            return result;
    }
}

static enum coding_result decode(enum coding coding, size_t len, size_t max, size_t *decoded)
{
    struct coding_out out = {.data = unpacked, .max = max};
    enum coding_result result;

    coding_begin(decoder, coding);
    result = decode_steps(len, SIZE_MAX, SIZE_MAX, &out);
    *decoded = out.len;
    return result;
}

static void expect_text(enum coding coding, size_t len, const char *text)
{
    const size_t steps[] = {SIZE_MAX, 1, 2, 3, 7, 64};
    size_t text_len = strlen(text);

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        for (size_t j = 0; j < ARRAY_LEN(steps); j++) {
            struct coding_out out = {.data = unpacked, .max = 1000};

            coding_begin(decoder, coding);
            assert_int_equal(decode_steps(len, steps[i], steps[j], &out), CODING_DONE);
            assert_int_equal(out.len, text_len);
            assert_memory_equal(unpacked, text, text_len);
        }
    }
}

static void expect_bad(enum coding coding, size_t len, const char *problem)
{
    const size_t steps[] = {SIZE_MAX, 1, 3};

    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        struct coding_out out = {.data = unpacked, .max = 1000};

        coding_begin(decoder, coding);
        assert_int_equal(decode_steps(len, steps[i], 10, &out), CODING_BAD);
        assert_string_equal(coding_problem(decoder), problem);
    }
}

#define SLICE(text) ((struct slice){(text), sizeof(text) - 1})

static void a_coding_is_found_by_its_name_in_any_case(void **state)
{
    (void)state;
    assert_int_equal(coding_add(CODING_NONE, SLICE("")), CODING_NONE);
    assert_int_equal(coding_add(CODING_NONE, SLICE("identity")), CODING_NONE);
    assert_int_equal(coding_add(CODING_NONE, SLICE("gzip")), CODING_GZIP);
    assert_int_equal(coding_add(CODING_NONE, SLICE("X-GZIP")), CODING_GZIP);
    assert_int_equal(coding_add(CODING_NONE, SLICE("Deflate")), CODING_DEFLATE);
    assert_int_equal(coding_add(CODING_NONE, SLICE("ZStd")), CODING_ZSTD);
    assert_int_equal(coding_add(CODING_NONE, SLICE("br")), CODING_UNKNOWN);
    assert_int_equal(coding_add(CODING_NONE, SLICE("gzi")), CODING_UNKNOWN);
    assert_int_equal(coding_add(CODING_NONE, SLICE("gzip;q=1")), CODING_UNKNOWN);
    assert_int_equal(coding_add(CODING_NONE, SLICE("gzip, gzip")), CODING_UNKNOWN);
    assert_int_equal(coding_add(CODING_NONE, SLICE(",")), CODING_NONE);
    assert_int_equal(coding_add(CODING_NONE, SLICE("identity ,\tgzip, ")), CODING_GZIP);
    assert_int_equal(coding_add(CODING_NONE, SLICE("gzip, br")), CODING_UNKNOWN);
}

static void two_codings_are_none_that_is_known(void **state)
{
    (void)state;
    assert_int_equal(coding_add(CODING_GZIP, SLICE("gzip")), CODING_UNKNOWN);
    assert_int_equal(coding_add(CODING_UNKNOWN, SLICE("gzip")), CODING_UNKNOWN);
    assert_int_equal(coding_add(CODING_GZIP, SLICE("identity")), CODING_GZIP);
    assert_int_equal(coding_add(CODING_GZIP, SLICE("")), CODING_GZIP);
}

static void gzip_and_forms_are_known_by_their_first_bytes(void **state)
{
    (void)state;
    assert_int_equal(coding_of_body(SLICE("\x1f\x8b")), CODING_GZIP);
    assert_int_equal(coding_of_body(SLICE("\x1f")), CODING_NONE);
    assert_int_equal(coding_of_body(SLICE("\x1f\x8c")), CODING_NONE);
    assert_int_equal(coding_of_body(SLICE("{\"a\":1}")), CODING_NONE);
    assert_int_equal(coding_of_body((struct slice){NULL, 0}), CODING_NONE);
    assert_int_equal(coding_of_body(SLICE("data=")), CODING_FORM);
    assert_int_equal(coding_of_body(SLICE("data")), CODING_NONE);
    assert_int_equal(coding_of_body(SLICE("date=1")), CODING_NONE);
}

static void expect_form(const char *form, const char *text)
{
    strcpy(packed, form);
    expect_text(CODING_FORM, strlen(form), text);
}

static void a_form_holds_json_or_base64_of_it(void **state)
{
    (void)state;
    expect_form("data={\"a\":+1}", "{\"a\": 1}");
    expect_form("data=%7B%22a%22%3a1%7D&x=[2]&data=[3]", "{\"a\":1}");
    expect_form("data=%5B%26%25]", "[&%]");
    expect_form("data=eyJhIjoxfQ==", "{\"a\":1}");
    expect_form("data=eyJhIjoxfQ", "{\"a\":1}");
    expect_form("data=eyJhIjoxfQ%3D%3D&verbose=1", "{\"a\":1}");
    expect_form("data=eyJhIjoi\r\nPz8/Pj4+In0=", "{\"a\":\"?\?\?>>>\"}");
    expect_form("data=eyJhIjoiPz8_Pj4-In0=", "{\"a\":\"?\?\?>>>\"}");
    expect_form("data=eyJhIjoiPz8%2FPj4%2bIn0%3D", "{\"a\":\"?\?\?>>>\"}");
    expect_form("data=", "");
    expect_form("data=&data=[1]", "");
}

static void expect_bad_form(const char *form, const char *problem)
{
    strcpy(packed, form);
    expect_bad(CODING_FORM, strlen(form), problem);
}

static void a_form_that_holds_something_else_is_bad(void **state)
{
    static const char *const escape = "The form's data has a % without two hex digits.";
    static const char *const base64 = "The form's data is neither JSON nor base64.";

    (void)state;
    expect_bad_form("data={%7", escape);
    expect_bad_form("data=%", escape);
    expect_bad_form("data={%x1", escape);
    expect_bad_form("data={%2&", escape);
    expect_bad_form("data=\"a\"", base64);
    expect_bad_form("data=eyJ.", base64);
    expect_bad_form("data=e", base64);
    expect_bad_form("data=eyJhI", base64);
    expect_bad_form("data=eyJhIjoxfQ==eyJ", base64);
}

static void each_form_is_decoded_in_any_pieces(void **state)
{
    (void)state;
    for (enum form form = 0; form < FORM_COUNT; form++)
        expect_text(form_codings[form], pack(form, TEXT, strlen(TEXT), packed), TEXT);
}

static void an_empty_body_can_be_compressed(void **state)
{
    (void)state;
    for (enum form form = 0; form < FORM_COUNT; form++)
        expect_text(form_codings[form], pack(form, "", 0, packed), "");
}

static void several_members_are_one_body(void **state)
{
    static const char skippable[] = "\x5a\x2a\x4d\x18\x03\0\0\0abc";
    size_t len;

    (void)state;
    len = pack(FORM_GZIP, "one ", 4, packed);
    len += pack(FORM_GZIP, "", 0, packed + len);
    len += pack(FORM_GZIP, "two", 3, packed + len);
    expect_text(CODING_GZIP, len, "one two");
    len = pack(FORM_ZSTD, "one ", 4, packed);
    memcpy(packed + len, skippable, sizeof(skippable) - 1);
    len += sizeof(skippable) - 1;
    len += pack(FORM_ZSTD, "two", 3, packed + len);
    expect_text(CODING_ZSTD, len, "one two");
}

static void what_ends_too_early_is_bad_wherever_it_is_cut(void **state)
{
    static const char *const problems[] = {
        "The body ends before its gzip data does.", "The body ends before its deflate data does.",
        "The body ends before its deflate data does.", "The body ends before its zstd data does."};

    (void)state;
    for (enum form form = 0; form < FORM_COUNT; form++) {
        size_t len = pack(form, TEXT, strlen(TEXT), packed);

        for (size_t cut = 0; cut < len; cut++)
            expect_bad(form_codings[form], cut, problems[form]);
    }
}

static void what_stands_behind_the_end_is_bad(void **state)
{
    static const char *const problems[] = {
        "The body is not valid gzip.", "The body is not valid deflate.",
        "The body is not valid deflate.", "The body is not valid zstd."};

    (void)state;
    for (enum form form = 0; form < FORM_COUNT; form++) {
        size_t len = pack(form, TEXT, strlen(TEXT), packed);

        memset(packed + len, 0, 8);
        expect_bad(form_codings[form], len + 8, problems[form]);
        memcpy(packed + len, "\n{}\r\n", 5);
        expect_bad(form_codings[form], len + 5, problems[form]);
    }
}

static void what_is_not_compressed_is_bad(void **state)
{
    (void)state;
    strcpy(packed, TEXT);
    expect_bad(CODING_GZIP, strlen(TEXT), "The body is not valid gzip.");
    expect_bad(CODING_DEFLATE, strlen(TEXT), "The body is not valid deflate.");
    expect_bad(CODING_ZSTD, strlen(TEXT), "The body is not valid zstd.");
    /* One coding under the name of another. */
    expect_bad(CODING_ZSTD, pack(FORM_GZIP, TEXT, strlen(TEXT), packed),
               "The body is not valid zstd.");
    expect_bad(CODING_GZIP, pack(FORM_ZLIB, TEXT, strlen(TEXT), packed),
               "The body is not valid gzip.");
}

static void a_wrong_checksum_is_bad(void **state)
{
    size_t len = pack(FORM_GZIP, TEXT, strlen(TEXT), packed);

    (void)state;
    packed[len - 8] ^= 1;
    expect_bad(CODING_GZIP, len, "The body is not valid gzip.");
    packed[len - 8] ^= 1;
    packed[len - 4] ^= 1;
    expect_bad(CODING_GZIP, len, "The body is not valid gzip.");
    len = pack(FORM_ZLIB, TEXT, strlen(TEXT), packed);
    packed[len - 1] ^= 1;
    expect_bad(CODING_DEFLATE, len, "The body is not valid deflate.");
}

static void a_zlib_body_that_needs_a_dictionary_is_bad(void **state)
{
    (void)state;
    memcpy(packed, "\x78\xbb\0\0\0\1", 6);
    expect_bad(CODING_DEFLATE, 6, "The body is not valid deflate.");
}

static void zstd_of_before_its_standard_is_bad(void **state)
{
    (void)state;
    for (char version = '\x22'; version <= '\x27'; version++) {
        memcpy(packed, (const char[]){version, '\xb5', '\x2f', '\xfd', '\x70', 0, 0, 0}, 8);
        expect_bad(CODING_ZSTD, 8, "The body is not valid zstd.");
    }
}

static void a_zstd_window_above_8_mib_is_refused(void **state)
{
    /* A frame that says no length: its window is 8 MiB, then 9; an empty last block. */
    static const char largest[] = "\x28\xb5\x2f\xfd\x00\x68\x01\0\0";
    static const char larger[] = "\x28\xb5\x2f\xfd\x00\x69\x01\0\0";

    (void)state;
    memcpy(packed, largest, sizeof(largest) - 1);
    expect_text(CODING_ZSTD, sizeof(largest) - 1, "");
    memcpy(packed, larger, sizeof(larger) - 1);
    expect_bad(CODING_ZSTD, sizeof(larger) - 1, "The body's zstd window is larger than 8 MiB.");
}

static void a_body_may_have_max_bytes_and_not_one_more(void **state)
{
    static char data[100000];
    uint32_t seed = 1;
    size_t decoded;

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = "abcd"[(seed = seed * 1664525u + 1013904223u) >> 30];
    for (enum form form = 0; form < FORM_COUNT; form++) {
        size_t len = pack(form, data, sizeof(data), packed);

        assert_int_equal(decode(form_codings[form], len, sizeof(data), &decoded), CODING_DONE);
        assert_int_equal(decoded, sizeof(data));
        assert_memory_equal(unpacked, data, sizeof(data));
        assert_int_equal(decode(form_codings[form], len, sizeof(data) - 1, &decoded),
                         CODING_TOO_LARGE);
        assert_int_equal(decoded, sizeof(data));
        assert_int_equal(decode(form_codings[form], len, 0, &decoded), CODING_TOO_LARGE);
        assert_int_equal(decoded, 1);
    }
}

static void a_bomb_is_given_up_at_its_limit(void **state)
{
    size_t decoded;

    (void)state;
    for (enum form form = 0; form < FORM_COUNT; form++) {
        size_t len = pack_zeros(form, BOMB_BYTES);

        assert_true(len < BOMB_BYTES / 900);
        memset(unpacked, 1, sizeof(unpacked));
        assert_int_equal(decode(form_codings[form], len, 1 << 20, &decoded), CODING_TOO_LARGE);
        assert_int_equal(decoded, (1 << 20) + 1);
        assert_int_equal(unpacked[decoded - 1], 0);
        assert_int_equal(unpacked[decoded], 1);
    }
}

static void a_decoder_forgets_a_body_that_was_given_up(void **state)
{
    char broken[1000];
    size_t len, decoded;

    (void)state;
    memset(broken, 'x', sizeof(broken));
    for (enum form form = 0; form < FORM_COUNT; form++) {
        for (enum form next = 0; next < FORM_COUNT; next++) {
            struct coding_out out = {.data = unpacked, .size = 10, .max = 1000};
            struct slice raw;

            len = pack(form, broken, sizeof(broken), packed);
            raw = (struct slice){packed, len / 2};
            coding_begin(decoder, form_codings[form]);
            coding_decode(decoder, &raw, false, &out);
            len = pack(next, TEXT, strlen(TEXT), packed);
            assert_int_equal(decode(form_codings[next], len, 1000, &decoded), CODING_DONE);
            assert_int_equal(decoded, strlen(TEXT));
            assert_memory_equal(unpacked, TEXT, decoded);
        }
    }
}

static void gzip_and_zstd_announce_their_length(void **state)
{
    size_t len = pack(FORM_GZIP, TEXT, strlen(TEXT), packed);

    (void)state;
    assert_int_equal(coding_announced(CODING_GZIP, (struct slice){packed, len}), strlen(TEXT));
    assert_int_equal(coding_announced(CODING_GZIP, (struct slice){packed, 3}), 0);
    len = pack(FORM_ZSTD, TEXT, strlen(TEXT), packed);
    assert_int_equal(coding_announced(CODING_ZSTD, (struct slice){packed, len}), strlen(TEXT));
    assert_int_equal(coding_announced(CODING_ZSTD, (struct slice){packed, 3}), 0);
    len = pack(FORM_ZLIB, TEXT, strlen(TEXT), packed);
    assert_int_equal(coding_announced(CODING_DEFLATE, (struct slice){packed, len}), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_coding_is_found_by_its_name_in_any_case),
        TEST(two_codings_are_none_that_is_known),
        TEST(gzip_and_forms_are_known_by_their_first_bytes),
        TEST(a_form_holds_json_or_base64_of_it),
        TEST(a_form_that_holds_something_else_is_bad),
        TEST(each_form_is_decoded_in_any_pieces),
        TEST(an_empty_body_can_be_compressed),
        TEST(several_members_are_one_body),
        TEST(what_ends_too_early_is_bad_wherever_it_is_cut),
        TEST(what_stands_behind_the_end_is_bad),
        TEST(what_is_not_compressed_is_bad),
        TEST(a_wrong_checksum_is_bad),
        TEST(a_zlib_body_that_needs_a_dictionary_is_bad),
        TEST(zstd_of_before_its_standard_is_bad),
        TEST(a_zstd_window_above_8_mib_is_refused),
        TEST(a_body_may_have_max_bytes_and_not_one_more),
        TEST(a_bomb_is_given_up_at_its_limit),
        TEST(a_decoder_forgets_a_body_that_was_given_up),
        TEST(gzip_and_zstd_announce_their_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
