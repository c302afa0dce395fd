/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_address.c - socket addresses as clients' addresses, and as text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <string.h>

#include <cmocka.h>

#include "alloy/address.h"
#include "alloy/base.h"

static struct address v4(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(1234)};

    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    return address_of((const struct sockaddr *)&in);
}

static struct address v6(const char *text)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(1234)};

    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return address_of((const struct sockaddr *)&in6);
}

static void must_read(struct address address, int family, const char *text)
{
    char out[ADDRESS_TEXT_MAX];

    assert_int_equal(address.family, family);
    assert_int_equal(address_format(&address, out), strlen(text));
    assert_string_equal(out, text);
}

static void an_address_reads_as_people_write_it(void **state)
{
    (void)state;
    must_read(v4("192.0.2.1"), ADDRESS_V4, "192.0.2.1");
    must_read(v4("255.255.255.255"), ADDRESS_V4, "255.255.255.255");
    must_read(v6("2001:db8:0:0:0:0:0:1"), ADDRESS_V6, "2001:db8::1");
    must_read(v6("1111:2222:3333:4444:5555:6666:7777:8888"), ADDRESS_V6,
              "1111:2222:3333:4444:5555:6666:7777:8888");
}

static void ipv4_inside_ipv6_is_ipv4(void **state)
{
    (void)state;
    must_read(v6("::ffff:192.0.2.1"), ADDRESS_V4, "192.0.2.1");
    must_read(v6("::192.0.2.1"), ADDRESS_V6, "::192.0.2.1");
}

static void a_unix_socket_has_no_address(void **state)
{
    const struct sockaddr_un un = {.sun_family = AF_UNIX};
    const struct sockaddr none = {.sa_family = AF_UNSPEC};

    (void)state;
    must_read(address_of((const struct sockaddr *)&un), ADDRESS_UNIX, "");
    must_read(address_of(&none), ADDRESS_NONE, "");
    must_read((struct address){0}, ADDRESS_NONE, "");
}

static void text_is_an_address_or_nothing(void **state)
{
    static const struct {
        const char *text;
        int family;
        const char *reads;
    } good[] = {
        {"192.0.2.1", ADDRESS_V4, "192.0.2.1"},
        {"0.0.0.0", ADDRESS_V4, "0.0.0.0"},
        {"255.255.255.255", ADDRESS_V4, "255.255.255.255"},
        {"::", ADDRESS_V6, "::"},
        {"2001:DB8::1", ADDRESS_V6, "2001:db8::1"},
        {"1111:2222:3333:4444:5555:6666:7777:8888", ADDRESS_V6,
         "1111:2222:3333:4444:5555:6666:7777:8888"},
        {"::ffff:192.0.2.1", ADDRESS_V4, "192.0.2.1"},
        {"::FFFF:c000:201", ADDRESS_V4, "192.0.2.1"},
        {"0000:0000:0000:0000:0000:ffff:255.255.255.255", ADDRESS_V4, "255.255.255.255"},
    };
    static const char *const bad[] = {
        "",           "1",         "1.2.3",
        "1.2.3.4.5",  "1.2.3.256", "01.2.3.4",
        "1.2.3.4 ",   " 1.2.3.4",  "a.b",
        "[::1]",      ":::",       "::1%lo",
        "1.2.3.4:80", "1:2",       "localhost",
        "::g",        "1.2.3.4/8", "-1.2.3.4",
        "0x1.2.3.4",  "1..2.3",    "0000:0000:0000:0000:0000:ffff:255.255.255.255:",
    };
    struct address address;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(address_parse((struct slice){good[i].text, strlen(good[i].text)}, &address));
        must_read(address, good[i].family, good[i].reads);
    }
    address = v4("192.0.2.1");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (address_parse((struct slice){bad[i], strlen(bad[i])}, &address))
            fail_msg("'%s' is taken for an address", bad[i]);
    assert_false(address_parse((struct slice){"1.2.3.4\0", 8}, &address));
    must_read(address, ADDRESS_V4, "192.0.2.1");
}

static void only_ip_addresses_are_ip(void **state)
{
    (void)state;
    for (uint8_t family = ADDRESS_NONE; family <= ADDRESS_V6; family++)
        assert_int_equal(address_is_ip(&(struct address){.family = family}),
                         family == ADDRESS_V4 || family == ADDRESS_V6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_reads_as_people_write_it),
        cmocka_unit_test(ipv4_inside_ipv6_is_ipv4),
        cmocka_unit_test(a_unix_socket_has_no_address),
        cmocka_unit_test(text_is_an_address_or_nothing),
        cmocka_unit_test(only_ip_addresses_are_ip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
