/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_forwarded.c - whose request it is, by X-Forwarded-For and the proxies that are trusted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/forwarded.h"
#include "alloy/http_parse.h"

/* The networks of every test here. */
#define TRUSTED "10.0.0.0/8, 2001:db8::/32, unix:"
#define PROXY "10.0.0.1"

static struct networks *networks;

static int make(void **state)
{
    (void)state;
    return networks_create(&networks, TRUSTED, NULL, NULL);
}

static int drop(void **state)
{
    (void)state;
    networks_destroy(networks);
    return 0;
}

static struct address address_of_text(const char *text)
{
    struct address address = {.family = ADDRESS_UNIX};

    if (strcmp(text, "unix") != 0)
        assert_true(address_parse((struct slice){text, strlen(text)}, &address));
    return address;
}

/* Whose the request is that peer sends with these headers. */
static void must_be(const char *peer, const char *headers, const char *client)
{
    const struct address from = address_of_text(peer);
    char head[8192], text[ADDRESS_TEXT_MAX];
    struct http_request request;
    size_t scanned = 0;
    struct address found;

    snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n", headers);
    assert_int_equal(http_parse_head(head, strlen(head), &scanned, &request), HTTP_DONE);
    found = forwarded_client(networks, &from, (struct slice){head, request.head_len});
    address_format(&found, text);
    if (strcmp(text, client) != 0)
        fail_msg("%s\n%s-> %s, not %s", peer, headers, text, client);
}

#define XFF "X-Forwarded-For: "

static void a_client_behind_a_trusted_proxy_is_found(void **state)
{
    (void)state;
    must_be(PROXY, XFF "192.0.2.1\r\n", "192.0.2.1");
    must_be("2001:db8::1", XFF "192.0.2.1\r\n", "192.0.2.1");
    must_be("unix", XFF "192.0.2.1\r\n", "192.0.2.1");
    must_be(PROXY, XFF "2001:db9::1\r\n", "2001:db9::1");
    must_be(PROXY, XFF "::ffff:192.0.2.1\r\n", "192.0.2.1");
    must_be(PROXY, XFF "192.0.2.1, 10.0.0.2, 2001:db8::2\r\n", "192.0.2.1");
    must_be(PROXY, "x-fORWARDED-fOR:192.0.2.1\r\n", "192.0.2.1");
}

static void nobody_believes_a_stranger(void **state)
{
    (void)state;
    must_be("192.0.2.9", XFF "192.0.2.1\r\n", "192.0.2.9");
    must_be("192.0.2.9", "", "192.0.2.9");
    must_be(PROXY, XFF "1.1.1.1, 192.0.2.1\r\n", "192.0.2.1");
    must_be(PROXY, XFF "1.1.1.1, 192.0.2.1, 10.0.0.2\r\n", "192.0.2.1");
    must_be(PROXY, XFF "10.0.0.9, 192.0.2.1\r\n", "192.0.2.1");
    /* Who has no address at all is not on a unix socket. */
    assert_int_equal(
        forwarded_client(networks, &(struct address){0}, (struct slice){"\n" XFF "1.1.1.1\r\n", 27})
            .family,
        ADDRESS_NONE);
}

static void all_headers_are_one_list_in_their_order(void **state)
{
    (void)state;
    must_be(PROXY, XFF "1.1.1.1\r\n" XFF "192.0.2.1\r\n", "192.0.2.1");
    must_be(PROXY, XFF "1.1.1.1\r\nA: b\r\n" XFF "192.0.2.1, 10.0.0.2\r\n" XFF "10.0.0.3\r\n",
            "192.0.2.1");
    must_be(PROXY, XFF "1.1.1.1, 192.0.2.1\r\n" XFF "\r\n" XFF " , ,\r\n", "192.0.2.1");
    must_be(PROXY, "X-Forwarded-For2: 1.1.1.1\r\n" XFF "192.0.2.1\r\nX-Forwarded-Fo: 1.1.1.1\r\n",
            "192.0.2.1");
    must_be(PROXY, "A: x-forwarded-for: 1.1.1.1\r\n", PROXY);
}

static void where_all_are_proxies_the_first_is_the_client(void **state)
{
    (void)state;
    must_be(PROXY, "", PROXY);
    must_be(PROXY, XFF "\r\n", PROXY);
    must_be(PROXY, XFF "10.0.0.3, 10.0.0.2\r\n", "10.0.0.3");
    must_be("unix", "", "");
}

static void an_entry_may_have_a_port_and_brackets(void **state)
{
    (void)state;
    must_be(PROXY, XFF "192.0.2.1:80\r\n", "192.0.2.1");
    must_be(PROXY, XFF "[2001:db9::1]\r\n", "2001:db9::1");
    must_be(PROXY, XFF "[2001:db9::1]:65535\r\n", "2001:db9::1");
    must_be(PROXY, XFF "[::ffff:192.0.2.1]:1\r\n", "192.0.2.1");
    must_be(PROXY, XFF "192.0.2.1:1, [2001:db8::7]:2 ,10.0.0.1:3\r\n", "192.0.2.1");
}

static void what_is_no_address_ends_the_way(void **state)
{
    static const char *const entries[] = {
        "unknown",
        "_hidden",
        "192.0.2.1:",
        "192.0.2.1:x",
        "[192.0.2.1]",
        "[2001:db9::1",
        "[]",
        "[::1]80",
        "[::1]:",
        "[::1]:x",
        "192.0.2.1:123456",
        "\"192.0.2.1\"",
        "::1%eth0",
        "1.2.3",
        "192.0.2.1 80",
        "for=1.1.1.1",
        "unix:",
        ":80",
        "]",
        "[",
        ":",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        char headers[256];

        snprintf(headers, sizeof(headers), XFF "1.1.1.1, 10.0.0.9, %s, 10.0.0.2\r\n", entries[i]);
        must_be(PROXY, headers, "10.0.0.2");
        snprintf(headers, sizeof(headers), XFF "1.1.1.1, %s\r\n", entries[i]);
        must_be(PROXY, headers, PROXY);
    }
}

static void a_way_without_end_is_followed_so_far(void **state)
{
    char headers[4096] = XFF "192.0.2.1";
    size_t len = strlen(headers);

    (void)state;
    for (int i = 1; i < FORWARDED_HOPS_MAX; i++)
        len += (size_t)snprintf(headers + len, sizeof(headers) - len, ", 10.0.1.%d", i);
    snprintf(headers + len, sizeof(headers) - len, "\r\n");
    must_be(PROXY, headers, "192.0.2.1");
    snprintf(headers + len, sizeof(headers) - len, ", 10.0.2.1\r\n");
    must_be(PROXY, headers, "10.0.1.1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_client_behind_a_trusted_proxy_is_found),
        cmocka_unit_test(nobody_believes_a_stranger),
        cmocka_unit_test(all_headers_are_one_list_in_their_order),
        cmocka_unit_test(where_all_are_proxies_the_first_is_the_client),
        cmocka_unit_test(an_entry_may_have_a_port_and_brackets),
        cmocka_unit_test(what_is_no_address_ends_the_way),
        cmocka_unit_test(a_way_without_end_is_followed_so_far),
    };

    return cmocka_run_group_tests(tests, make, drop);
}
