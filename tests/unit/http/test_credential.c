/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_credential.c - every way a key comes, and what only looks like one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/credential.h"

/* The keys of a request with this query and these headers, with | between them. */
static const char *keys_of(const char *query, const char *headers)
{
    static char out[8192];
    static char head[8192];
    struct credential_walk walk;
    struct http_request request;
    struct slice key;
    size_t scanned = 0, len = 0;
    int head_len =
        snprintf(head, sizeof(head), "POST /v1/e%s HTTP/1.1\r\nHost: h\r\n%s\r\n", query, headers);

    assert_int_equal(http_parse_head(head, (size_t)head_len, &scanned, &request), HTTP_DONE);
    credential_walk_init(&walk, &request, (struct slice){head, request.head_len});
    out[0] = '\0';
    while (credential_next(&walk, &key))
        len += (size_t)snprintf(out + len, sizeof(out) - len, "%s%.*s", len > 0 ? "|" : "",
                                (int)key.len, key.data);
    assert_false(credential_next(&walk, &key));
    return out;
}

static void a_request_without_a_key_has_none(void **state)
{
    static const char *const queries[] = {
        "",       "?",        "?a=b", "?key",  "?key=",   "?keys=a", "?xkey=a",
        "?Key=a", "?a=key=b", "?=a",  "?&&=&", "?key=%4", "?key=%zz"};
    static const char *const headers[] = {
        "Authorization: Bearer\r\n",
        "Authorization: Bearer\tabc\r\n",
        "Authorization: BearerX abc\r\n",
        "Authorization: Digest abc\r\n",
        "Authorization: abc\r\n",
        "Authorization: Basic\r\n",
        "Authorization: Basic =\r\n",
        "Authorization: Basic OmFiYw==\r\n", /* :abc */
        "Authorization: Basic YWJjOg== x\r\n",
        "X-Api-Key:\r\n",
        "X-Write-Key: \r\n",
        "X-Api-Keys: abc\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(queries); i++)
        assert_string_equal(keys_of(queries[i], ""), "");
    for (size_t i = 0; i < ARRAY_LEN(headers); i++)
        assert_string_equal(keys_of("", headers[i]), "");
}

static void a_key_comes_in_each_of_these_ways(void **state)
{
    (void)state;
    assert_string_equal(keys_of("", "Authorization: Bearer abc\r\n"), "abc");
    assert_string_equal(keys_of("", "authorization: bearer   abc  \r\n"), "abc");
    assert_string_equal(keys_of("", "Authorization: Basic YWJjOg==\r\n"), "abc");
    assert_string_equal(keys_of("", "Authorization: Basic YWJjOg\r\n"), "abc"); /* no padding */
    assert_string_equal(keys_of("", "Authorization: Basic YWJj\r\n"), "abc");   /* no colon */
    assert_string_equal(keys_of("", "Authorization: basic YWJjOmRlZg==\r\n"), "abc");
    assert_string_equal(keys_of("", "X-Api-Key: abc\r\n"), "abc");
    assert_string_equal(keys_of("", "x-WRITE-key: abc \r\n"), "abc");
    assert_string_equal(keys_of("?key=abc", ""), "abc");
    assert_string_equal(keys_of("?write_key=abc&x=y", ""), "abc");
    assert_string_equal(keys_of("?x&ack=disk&api_key=abc", ""), "abc");
}

static void a_query_is_percent_decoded(void **state)
{
    (void)state;
    assert_string_equal(keys_of("?key=a%2Bb%2f%3D%25+", ""), "a+b/=%+");
    assert_string_equal(keys_of("?key=%zz&key=b", ""), "b");
    assert_string_equal(keys_of("?key=a=b", ""), "a=b");
}

static void of_several_keys_each_is_told_in_order(void **state)
{
    (void)state;
    assert_string_equal(keys_of("?api_key=e&write_key=f&key=d",
                                "X-Write-Key: c\r\nX-Api-Key: b\r\nAuthorization: Bearer a\r\n"),
                        "a|b|c|e|f|d");
    assert_string_equal(keys_of("?key=1&key=2&key=3&key=4&key=5&key=6&key=7&key=8&key=9", ""),
                        "1|2|3|4|5|6|7|8");
}

static void a_key_that_is_too_long_is_none(void **state)
{
    char text[2 * CREDENTIAL_MAX], line[2 * CREDENTIAL_MAX + 64];

    (void)state;
    memset(text, 'a', sizeof(text));
    text[CREDENTIAL_MAX] = '\0';
    snprintf(line, sizeof(line), "X-Api-Key: %s\r\n", text);
    assert_string_equal(keys_of("", line), text);
    snprintf(line, sizeof(line), "?key=%s", text);
    assert_string_equal(keys_of(line, ""), text);
    snprintf(line, sizeof(line), "X-Api-Key: %sa\r\n", text);
    assert_string_equal(keys_of("", line), "");
    snprintf(line, sizeof(line), "?key=%sa", text);
    assert_string_equal(keys_of(line, ""), "");
    snprintf(line, sizeof(line), "Authorization: Bearer %sa\r\n", text);
    assert_string_equal(keys_of("", line), "");
    memset(text, 'Y', sizeof(text) - 1); /* base64 of three quarters of so many bytes */
    text[sizeof(text) - 4] = '\0';
    snprintf(line, sizeof(line), "Authorization: Basic %s\r\n", text);
    assert_string_equal(keys_of("", line), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_without_a_key_has_none),
        cmocka_unit_test(a_key_comes_in_each_of_these_ways),
        cmocka_unit_test(a_query_is_percent_decoded),
        cmocka_unit_test(of_several_keys_each_is_told_in_order),
        cmocka_unit_test(a_key_that_is_too_long_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
