/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_networks.c - lists of networks: how they are read, and who is in them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/networks.h"

static char told[1024];

static void tell(void *arg, struct slice item, const char *problem, bool warning)
{
    (void)arg;
    snprintf(told + strlen(told), sizeof(told) - strlen(told), "%s%.*s: %s\n",
             warning ? "warning: " : "", (int)item.len, item.data, problem);
}

static struct networks *must_make(const char *text)
{
    struct networks *networks;

    told[0] = '\0';
    assert_int_equal(networks_create(&networks, text, tell, NULL), 0);
    return networks;
}

static bool have(const struct networks *networks, const char *text)
{
    struct address address = {.family = strcmp(text, "unix") == 0 ? ADDRESS_UNIX : ADDRESS_NONE};

    if (address.family == ADDRESS_NONE && strcmp(text, "none") != 0)
        assert_true(address_parse((struct slice){text, strlen(text)}, &address));
    return networks_have(networks, &address);
}

static void a_network_has_its_addresses_and_no_others(void **state)
{
    static const struct {
        const char *network;
        const char *in[4], *out[6];
    } cases[] = {
        {"192.0.2.1", {"192.0.2.1", "::ffff:192.0.2.1"}, {"192.0.2.0", "192.0.2.3", "::c000:201"}},
        {"10.0.0.0/8", {"10.0.0.0", "10.255.255.255"}, {"9.255.255.255", "11.0.0.0", "a00::"}},
        {"10.32.0.0/11", {"10.32.0.0", "10.63.255.255"}, {"10.31.255.255", "10.64.0.0"}},
        {"192.0.2.4/31", {"192.0.2.4", "192.0.2.5"}, {"192.0.2.3", "192.0.2.6"}},
        {"192.0.2.4/32", {"192.0.2.4"}, {"192.0.2.5"}},
        {"0.0.0.0/0",
         {"0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"},
         {"::", "::1", "unix", "none"}},
        {"128.0.0.0/1", {"128.0.0.0", "255.255.255.255"}, {"127.255.255.255"}},
        {"2001:db8::/32", {"2001:db8::", "2001:db8:ffff::1"}, {"2001:db9::", "32.1.13.184"}},
        {"2001:db8:8000::/33", {"2001:db8:8000::1"}, {"2001:db8:7fff::1"}},
        {"::/0", {"::", "2001:db8::1"}, {"0.0.0.0", "unix", "none"}},
        {"::1", {"::1"}, {"::2", "127.0.0.1"}},
        {"::ffff:10.0.0.0/104", {"10.1.2.3", "10.255.0.0"}, {"11.0.0.0", "::a00:1"}},
        {"::ffff:10.1.2.3", {"10.1.2.3"}, {"10.1.2.4"}},
        {"::ffff:0.0.0.0/96", {"10.1.2.3", "0.0.0.0"}, {"::1"}},
        {"unix:", {"unix"}, {"none", "127.0.0.1", "::1"}},
        {" 10.0.0.0/8 ,\t::1 , unix:", {"10.1.1.1", "::1", "unix"}, {"127.0.0.1", "none"}},
        {"1.0.0.0/8,2.0.0.0/8,1.0.0.0/8", {"1.1.1.1", "2.1.1.1"}, {"3.1.1.1", "unix"}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct networks *networks = must_make(cases[i].network);

        assert_string_equal(told, "");
        for (size_t k = 0; k < ARRAY_LEN(cases[i].in) && cases[i].in[k]; k++)
            if (!have(networks, cases[i].in[k]))
                fail_msg("%s lacks %s", cases[i].network, cases[i].in[k]);
        for (size_t k = 0; k < ARRAY_LEN(cases[i].out) && cases[i].out[k]; k++)
            if (have(networks, cases[i].out[k]))
                fail_msg("%s has %s", cases[i].network, cases[i].out[k]);
        networks_destroy(networks);
    }
}

static void an_empty_list_is_no_list(void **state)
{
    (void)state;
    assert_null(must_make(""));
    networks_destroy(NULL);
}

static void every_mistake_of_a_list_is_told(void **state)
{
    static const char *const bad[] = {
        "localhost",
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "[::1]",
        "/8",
        "unix",
        "unix:/s",
        "1.2.3.4 5",
        "::ffff:0.0.0.0/95",
        "1.2.3.4:1",
        "10.0.0.0/255.0.0.0",
        "*",
        "10.0.0.0/0008",
        ",",
        " ",
        "::1,",
    };
    struct networks *networks;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        networks = (void *)told;
        told[0] = '\0';
        if (networks_create(&networks, bad[i], tell, NULL) != -EINVAL)
            fail_msg("'%s' passes", bad[i]);
        assert_null(networks);
        assert_non_null(strchr(told, '\n'));
    }
    told[0] = '\0';
    assert_int_equal(networks_create(&networks, "a, 10.0.0.0/8,, ::/200", tell, NULL), -EINVAL);
    assert_string_equal(told, "a: this is no address, no network such as 10.0.0.0/8 or "
                              "2001:db8::/32, and not unix:\n"
                              ": an address is missing\n"
                              "::/200: the bits of an IPv6 network are 0 to 128\n");
}

static void bits_beyond_the_network_are_a_warning_and_do_not_count(void **state)
{
    struct networks *networks = must_make("10.1.2.3/8, 2001:db8::1/32, 192.0.2.129/25, 1.2.3.4/32");

    (void)state;
    assert_string_equal(told, "warning: 10.1.2.3/8: its address has bits beyond its network's, "
                              "which do not count\n"
                              "warning: 2001:db8::1/32: its address has bits beyond its network's, "
                              "which do not count\n"
                              "warning: 192.0.2.129/25: its address has bits beyond its "
                              "network's, which do not count\n");
    assert_true(have(networks, "10.200.0.0"));
    assert_true(have(networks, "2001:db8:1::"));
    assert_true(have(networks, "192.0.2.200"));
    assert_false(have(networks, "192.0.2.100"));
    networks_destroy(networks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_has_its_addresses_and_no_others),
        cmocka_unit_test(an_empty_list_is_no_list),
        cmocka_unit_test(every_mistake_of_a_list_is_told),
        cmocka_unit_test(bits_beyond_the_network_are_a_warning_and_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
