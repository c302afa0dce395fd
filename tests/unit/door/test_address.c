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

    (void)state;
    must_read(address_of((const struct sockaddr *)&un), ADDRESS_NONE, "");
    must_read((struct address){0}, ADDRESS_NONE, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_reads_as_people_write_it),
        cmocka_unit_test(ipv4_inside_ipv6_is_ipv4),
        cmocka_unit_test(a_unix_socket_has_no_address),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
