/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_head_memo.c - which heads are known again, and that they say what the parser says.
 */
#include "alloy/head_memo.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LINE "POST /v1/events?ack=disk HTTP/1.1\r\nHost: events.example.org:8080\r\n"
#define BEHIND                                                      \
    "\r\nAuthorization: Bearer abc\r\nPrefer: handling=lenient\r\n" \
    "Alloy-Replay: 1\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n"
#define HEAD(digits) LINE "Content-Length: " digits BEHIND

static struct head_memo memo;

/* Each in a block of its exact size, so that the address sanitizer sees a read beyond it. */
static char *copy_of(const char *text)
{
    char *copy = malloc(strlen(text));

    assert_non_null(copy);
    memcpy(copy, text, strlen(text));
    return copy;
}

static void note(const char *text)
{
    struct http_request request;
    char *head = copy_of(text);
    size_t scanned = 0;

    assert_int_equal(http_parse_head(head, strlen(text), &scanned, &request), HTTP_DONE);
    head_memo_note(&memo, head, strlen(text), &request);
    memset(head, 'x', strlen(text));
    free(head);
}

static bool known(const char *text)
{
    struct http_request request;
    char *head = copy_of(text);
    bool found = head_memo_find(&memo, head, strlen(text), &request);

    free(head);
    return found;
}

/* The place of a slice too: people are told from there. */
static void assert_same(struct slice a, struct slice b)
{
    assert_int_equal(a.len, b.len);
    if (a.len > 0)
        assert_ptr_equal(a.data, b.data);
}

static void assert_as_parsed(const char *text)
{
    struct http_request found, parsed;
    char *head = copy_of(text);
    size_t scanned = 0;

    assert_int_equal(http_parse_head(head, strlen(text), &scanned, &parsed), HTTP_DONE);
    assert_true(head_memo_find(&memo, head, strlen(text), &found));
    assert_same(found.method_text, parsed.method_text);
    assert_same(found.path, parsed.path);
    assert_same(found.query, parsed.query);
    assert_same(found.length_text, parsed.length_text);
    assert_same(found.authorization, parsed.authorization);
    assert_same(found.prefer, parsed.prefer);
    assert_same(found.replay, parsed.replay);
    assert_int_equal(found.method, parsed.method);
    assert_int_equal(found.minor, parsed.minor);
    assert_int_equal(found.keep_alive, parsed.keep_alive);
    assert_int_equal(found.expect_continue, parsed.expect_continue);
    assert_int_equal(found.chunked, parsed.chunked);
    assert_int_equal(found.coding, parsed.coding);
    assert_int_equal(found.has_length, parsed.has_length);
    assert_int_equal(found.content_length, parsed.content_length);
    assert_int_equal(found.head_len, parsed.head_len);
    free(head);
}

static int forget(void **state)
{
    (void)state;
    memset(&memo, 0, sizeof(memo));
    return 0;
}

static void a_head_is_known_again_whatever_its_length_says(void **state)
{
    (void)state;
    assert_false(known(HEAD("300")));
    note(HEAD("300"));
    assert_as_parsed(HEAD("300"));
    assert_as_parsed(HEAD("300") "{\"event_id\":\"a\"}");
    assert_as_parsed(HEAD("0"));
    assert_as_parsed(HEAD("0031"));
    assert_as_parsed(HEAD("8388608"));
    assert_as_parsed(HEAD("123456789012345678"));
}

static void what_differs_in_one_byte_is_another_head(void **state)
{
    static const char head[] = HEAD("300");
    char other[sizeof(head)];

    (void)state;
    note(head);
    for (size_t i = 0; i < sizeof(head) - 1; i++) {
        memcpy(other, head, sizeof(head));
        other[i] ^= 1;
        if (other[i] < '0' || other[i] > '9' || head[i] < '0' || head[i] > '9' ||
            i < sizeof(LINE "Content-Length: ") - 1 || i >= sizeof(LINE "Content-Length: 300") - 1)
            assert_false(known(other));
        else
            assert_as_parsed(other);
    }
}

static void what_is_no_number_in_its_length_is_for_the_parser(void **state)
{
    (void)state;
    note(HEAD("300"));
    assert_false(known(HEAD("")));
    assert_false(known(HEAD("-1")));
    assert_false(known(HEAD("3,3")));
    assert_false(known(HEAD("3 ")));
    assert_false(known(HEAD("3x")));
    assert_false(known(HEAD("1234567890123456789")));
    assert_false(known(HEAD("99999999999999999999")));
}

static void a_head_that_has_not_all_arrived_is_not_known(void **state)
{
    static const char head[] = HEAD("300");
    char part[sizeof(head)];

    (void)state;
    note(head);
    for (size_t len = 0; len < sizeof(head) - 1; len++) {
        memcpy(part, head, len);
        part[len] = '\0';
        assert_false(known(part));
    }
}

static void two_lengths_a_list_none_or_a_long_head_are_not_kept(void **state)
{
    static char longer[HEAD_MEMO_BYTES + 200];

    (void)state;
    note(LINE "Content-Length: 3\r\nContent-Length: 3\r\n\r\n");
    assert_false(known(LINE "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"));
    note(LINE "Content-Length: 3, 3\r\n\r\n");
    assert_false(known(LINE "Content-Length: 3, 3\r\n\r\n"));
    note(LINE "\r\n");
    assert_false(known(LINE "\r\n"));
    note(LINE "Transfer-Encoding: chunked\r\n\r\n");
    assert_false(known(LINE "Transfer-Encoding: chunked\r\n\r\n"));
    snprintf(longer, sizeof(longer), LINE "Content-Length: 3\r\nX: %0*d\r\n\r\n", HEAD_MEMO_BYTES,
             0);
    note(longer);
    assert_false(known(longer));
}

static void heads_of_several_programs_are_known_at_once(void **state)
{
    (void)state;
    note(HEAD("1"));
    note("POST /v1/other HTTP/1.1\r\nUser-Agent: one/1.0 (x86_64)\r\nHost: a\r\nContent-Length: 5"
         "\r\n\r\n");
    note("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    assert_as_parsed(HEAD("2"));
    assert_as_parsed("POST /v1/other HTTP/1.1\r\nUser-Agent: one/1.0 (x86_64)\r\nHost: a\r\n"
                     "Content-Length: 70\r\n\r\n");
    assert_as_parsed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_head_is_known_again_whatever_its_length_says, forget),
        cmocka_unit_test_setup(what_differs_in_one_byte_is_another_head, forget),
        cmocka_unit_test_setup(what_is_no_number_in_its_length_is_for_the_parser, forget),
        cmocka_unit_test_setup(a_head_that_has_not_all_arrived_is_not_known, forget),
        cmocka_unit_test_setup(two_lengths_a_list_none_or_a_long_head_are_not_kept, forget),
        cmocka_unit_test_setup(heads_of_several_programs_are_known_at_once, forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
