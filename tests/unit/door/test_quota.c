/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_quota.c - which address is whose, and what a table of fixed size forgets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cmocka.h>

#include "alloy/quota.h"

#define S 1000000000ull
#define NOW (1000 * S)

static struct address v4(const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(1234)};

    assert_int_equal(inet_pton(AF_INET, text, &in.sin_addr), 1);
    return address_of((const struct sockaddr *)&in);
}

/* Whether the address may send n events of 10 a second. */
static bool take(struct quota *quota, struct address address, uint32_t n)
{
    uint64_t wait_ns;

    return bucket_take(&quota_find(quota, &address)->events, 10, n, NOW, &wait_ns);
}

static struct address v6(const char *text)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(1234)};

    assert_int_equal(inet_pton(AF_INET6, text, &in6.sin6_addr), 1);
    return address_of((const struct sockaddr *)&in6);
}

static void an_ipv6_network_counts_as_one_and_ipv4_by_address(void **state)
{
    struct quota *quota = quota_create(1000);

    (void)state;
    assert_true(take(quota, v6("2001:db8:1:2::1"), 10));
    assert_false(take(quota, v6("2001:db8:1:2:3:4:5:6"), 1));
    assert_true(take(quota, v6("2001:db8:1:3::1"), 10));
    assert_true(take(quota, v4("192.0.2.1"), 10));
    assert_false(take(quota, v6("::ffff:192.0.2.1"), 1));
    assert_true(take(quota, v6("::ffff:192.0.2.2"), 10));
    /* The first bytes of the one are those of the other. */
    assert_true(take(quota, v6("c000:0201::"), 10));
    quota_destroy(quota);
}

static void each_address_has_buckets_of_its_own(void **state)
{
    struct quota *quota = quota_create(1000);
    struct address one = v4("192.0.2.1"), other = v4("192.0.2.2");
    uint64_t wait_ns;

    (void)state;
    assert_true(take(quota, one, 10));
    assert_false(take(quota, one, 1));
    assert_true(take(quota, other, 10));
    assert_true(bucket_take(&quota_find(quota, &one)->requests, 10, 10, NOW, &wait_ns));
    assert_false(take(quota, one, 1));
    quota_destroy(quota);
}

static void other_rates_forget_debts_and_the_same_ones_do_not(void **state)
{
    struct quota *quota = quota_create(1000);
    struct address one = v4("192.0.2.1");

    (void)state;
    quota_use_rates(quota, 0, 10);
    assert_true(take(quota, one, 1000000));
    quota_use_rates(quota, 0, 10);
    assert_false(take(quota, one, 1));
    quota_use_rates(quota, 10, 0);
    assert_true(take(quota, one, 1));
    quota_destroy(quota);
}

static void a_full_set_forgets_who_misses_least(void **state)
{
    struct quota *quota = quota_create(64);
    struct address flood = v4("198.51.100.1");
    char text[32];

    (void)state;
    assert_true(take(quota, flood, 100000));
    /* Ten times as many as there are places, each of which takes a little. */
    for (int i = 0; i < 1280; i++) {
        snprintf(text, sizeof(text), "10.0.%d.%d", i / 256, i % 256);
        assert_true(take(quota, v4(text), 1));
    }
    assert_false(take(quota, flood, 1));
    quota_destroy(quota);
}

static void most_addresses_find_room(void **state)
{
    struct quota *quota = quota_create(1024);
    char text[32];
    int forgotten = 0;

    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1024; i++) {
            snprintf(text, sizeof(text), "10.0.%d.%d", i / 256, i % 256);
            forgotten += take(quota, v4(text), 10) && round > 0;
        }
    /* Sets have two places: those of three or more lose some, about one in ten. */
    assert_in_range(forgotten, 0, 250);
    quota_destroy(quota);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_ipv6_network_counts_as_one_and_ipv4_by_address),
        cmocka_unit_test(each_address_has_buckets_of_its_own),
        cmocka_unit_test(other_rates_forget_debts_and_the_same_ones_do_not),
        cmocka_unit_test(a_full_set_forgets_who_misses_least),
        cmocka_unit_test(most_addresses_find_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
