/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_proxy_header.c - headers of the PROXY protocol, whole, in pieces and broken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/base.h"
#include "alloy/proxy_header.h"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V4 "\xc0\x00\x02\x01\xc6\x33\x64\x01\x1f\x90\x01\xbb" /* 192.0.2.1 to 198.51.100.1 */
#define V6 \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\1\2\3\4"
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\1\2\3\4"
#define TLV "\x04\0\3\1\2\3"
#define TEXT(literal) literal, sizeof(literal) - 1

struct header_case {
    const char *data;
    size_t len;
    const char *client; /* "": a unix socket; NULL: the socket's own address */
};

static const struct header_case good[] = {
    {TEXT("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), "192.0.2.1"},
    {TEXT("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255"},
    {TEXT("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0"},
    {TEXT("PROXY TCP6 2001:db8::1 2001:db8::2 4124 80\r\n"), "2001:db8::1"},
    {TEXT("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {TEXT("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n"), "192.0.2.1"},
    {TEXT("PROXY UNKNOWN\r\n"), NULL},
    {TEXT("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
          "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
     NULL},
    {TEXT("PROXY UNKNOWN whatever else\r\n"), NULL},
    {TEXT(SIGNATURE "\x21\x11\0\x0c" V4), "192.0.2.1"},
    {TEXT(SIGNATURE "\x21\x12\0\x0c" V4), "192.0.2.1"},
    {TEXT(SIGNATURE "\x21\x11\0\x12" V4 TLV), "192.0.2.1"},
    {TEXT(SIGNATURE "\x21\x21\0\x24" V6), "2001:db8::1"},
    {TEXT(SIGNATURE "\x21\x21\0\x2a" V6 TLV), "2001:db8::1"},
    {TEXT(SIGNATURE "\x21\x21\0\x24" MAPPED), "192.0.2.1"},
    {TEXT(SIGNATURE "\x21\0\0\0"), NULL},
    {TEXT(SIGNATURE "\x21\0\0\6" TLV), NULL},
    {TEXT(SIGNATURE "\x21\x10\0\x0c" V4), NULL},
    {TEXT(SIGNATURE "\x20\0\0\0"), NULL},
    {TEXT(SIGNATURE "\x20\x11\0\x0c" V4), NULL},
    {TEXT(SIGNATURE "\x20\xff\0\1x"), NULL},
};

/* Parses a copy of exactly these bytes, so that a sanitizer sees a read beyond them. */
static enum proxy_header_result parse(const char *data, size_t len, struct proxy_header *header)
{
    char *copy = malloc(len);
    enum proxy_header_result result;

    memcpy(copy, data, len);
    result = proxy_header_parse(copy, len, header);
    free(copy);
    return result;
}

static void must_name(const struct proxy_header *header, const char *client)
{
    char text[ADDRESS_TEXT_MAX];

    assert_int_equal(header->has_client, client != NULL);
    address_format(&header->client, text);
    assert_string_equal(text, client != NULL ? client : "");
    if (header->has_client && *text == '\0')
        assert_int_equal(header->client.family, ADDRESS_UNIX);
}

static void a_header_names_its_client_and_ends_where_it_ends(void **state)
{
    struct proxy_header header;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        char glued[512];

        assert_int_equal(parse(good[i].data, good[i].len, &header), PROXY_HEADER_DONE);
        assert_int_equal(header.len, good[i].len);
        must_name(&header, good[i].client);
        memcpy(glued, good[i].data, good[i].len);
        strcpy(glued + good[i].len, "POST / HTTP/1.1\r\n");
        assert_int_equal(parse(glued, good[i].len + 17, &header), PROXY_HEADER_DONE);
        assert_int_equal(header.len, good[i].len);
        must_name(&header, good[i].client);
    }
}

static void every_prefix_needs_more(void **state)
{
    struct proxy_header header;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        for (size_t len = 0; len < good[i].len; len++)
            assert_int_equal(parse(good[i].data, len, &header), PROXY_HEADER_MORE);
}

/* What a header with one flipped bit may be. */
static void must_notice(const struct header_case *whole, size_t at, enum proxy_header_result result,
                        const struct proxy_header *header)
{
    const bool line = whole->data[0] == 'P';

    /* The first bytes are one thing or nothing, and so is the line's end. */
    if (at < (line ? 6 : 12) || (line && at + 2 == whole->len))
        assert_int_equal(result, PROXY_HEADER_BAD);
    if (line && at + 1 == whole->len)
        assert_int_equal(result, whole->len < 107 ? PROXY_HEADER_MORE : PROXY_HEADER_BAD);
    /* Only the length of version 2 moves the end. */
    if (result == PROXY_HEADER_DONE && (line || (at != 14 && at != 15)))
        assert_int_equal(header->len, whole->len);
    if (result == PROXY_HEADER_DONE)
        assert_true(header->len <= whole->len);
}

static void a_flipped_bit_breaks_a_header_or_changes_what_it_says(void **state)
{
    struct proxy_header header;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        for (size_t at = 0; at < good[i].len; at++)
            for (int bit = 0; bit < 8; bit++) {
                char data[512];

                memcpy(data, good[i].data, good[i].len);
                data[at] ^= (char)(1 << bit);
                must_notice(&good[i], at, parse(data, good[i].len, &header), &header);
            }
}

static void what_is_no_header_is_refused_at_once(void **state)
{
    static const struct header_case bad[] = {
        {TEXT("G"), NULL},
        {TEXT("POST / HTTP/1.1\r\n"), NULL},
        {TEXT("\x16\x03\x01"), NULL},
        {TEXT("\r\nP"), NULL},
        {TEXT("proxy "), NULL},
        {TEXT("PROXY\t"), NULL},
        {TEXT("PROXY \r\n"), NULL},
        {TEXT("PROXY \n"), NULL},
        {TEXT("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY TCP4\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1  2\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 100000\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 4294967297\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY TCP4 ::1 ::1 1 2\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4 ::1 1 2\r\n"), NULL},
        {TEXT("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY TCP6 ::1 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY TCP6 ::1%lo ::1 1 2\r\n"), NULL},
        {TEXT("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), NULL},
        {TEXT("PROXY unknown\r\n"), NULL},
        {TEXT("PROXY UNKNOWNX\r\n"), NULL},
        {TEXT("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"), NULL},
        {TEXT(SIGNATURE "\x11"), NULL},
        {TEXT(SIGNATURE "\x22"), NULL},
        {TEXT(SIGNATURE "\x31"), NULL},
        {TEXT(SIGNATURE "\x21\x11\0\x0b" V4), NULL},
        {TEXT(SIGNATURE "\x21\x21\0\x23" V6), NULL},
        {TEXT(SIGNATURE "\x21\x31\0\x24" V6), NULL},
        {TEXT(SIGNATURE "\x21\x41\0\x24" V6), NULL},
        {TEXT(SIGNATURE "\x21\x13\0\x0c" V4), NULL},
        {TEXT(SIGNATURE "\x21\x03\0\0"), NULL},
        {TEXT(SIGNATURE "\x21\x11\x0f\xf1"), NULL},
        {TEXT(SIGNATURE "\x20\0\xff\xff"), NULL},
    };
    struct proxy_header header;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (parse(bad[i].data, bad[i].len, &header) != PROXY_HEADER_BAD)
            fail_msg("not bad: %zu, %.*s", i, (int)bad[i].len, bad[i].data);
}

static void a_line_has_at_most_107_bytes(void **state)
{
    char line[120];
    struct proxy_header header;

    (void)state;
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    assert_int_equal(parse(line, 106, &header), PROXY_HEADER_MORE);
    assert_int_equal(parse(line, 107, &header), PROXY_HEADER_BAD);
    memcpy(line + 105, "\r\n", 2);
    assert_int_equal(parse(line, sizeof(line), &header), PROXY_HEADER_DONE);
    assert_int_equal(header.len, 107);
    line[105] = 'x';
    memcpy(line + 106, "\r\n", 2);
    assert_int_equal(parse(line, sizeof(line), &header), PROXY_HEADER_BAD);
}

static void a_unix_socket_of_the_proxy_is_no_ip_address(void **state)
{
    char data[16 + 216] = SIGNATURE "\x21\x31\0\xd8/run/a";
    struct proxy_header header;

    (void)state;
    assert_int_equal(parse(data, sizeof(data), &header), PROXY_HEADER_DONE);
    must_name(&header, "");
    data[15]--;
    assert_int_equal(parse(data, sizeof(data), &header), PROXY_HEADER_BAD);
}

static void the_longest_header_is_taken_and_no_longer_one(void **state)
{
    static char data[PROXY_HEADER_MAX + 1] = SIGNATURE "\x21\x11\x0f\xf0" V4;
    struct proxy_header header;

    (void)state;
    assert_int_equal(parse(data, PROXY_HEADER_MAX - 1, &header), PROXY_HEADER_MORE);
    assert_int_equal(parse(data, sizeof(data), &header), PROXY_HEADER_DONE);
    assert_int_equal(header.len, PROXY_HEADER_MAX);
    must_name(&header, "192.0.2.1");
    data[15]++;
    assert_int_equal(parse(data, sizeof(data), &header), PROXY_HEADER_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_names_its_client_and_ends_where_it_ends),
        cmocka_unit_test(every_prefix_needs_more),
        cmocka_unit_test(a_flipped_bit_breaks_a_header_or_changes_what_it_says),
        cmocka_unit_test(what_is_no_header_is_refused_at_once),
        cmocka_unit_test(a_line_has_at_most_107_bytes),
        cmocka_unit_test(a_unix_socket_of_the_proxy_is_no_ip_address),
        cmocka_unit_test(the_longest_header_is_taken_and_no_longer_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
