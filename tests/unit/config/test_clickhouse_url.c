/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_clickhouse_url.c - lists of endpoints: where one ends, its shard and its name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "alloy/clickhouse_url.h"

/* "URL@shard " for each endpoint. */
static const char *walked(const char *list)
{
    static char text[1024];
    struct clickhouse_url walk = {.rest = list};
    size_t len = 0, number = 0;

    text[0] = '\0';
    while (clickhouse_url_next(&walk)) {
        assert_int_equal(walk.number, number++);
        len += (size_t)snprintf(text + len, sizeof(text) - len, "<%.*s>%zu ", (int)walk.url.len,
                                walk.url.data, walk.shard);
    }
    return text;
}

static void one_url_is_a_list_of_one(void **state)
{
    (void)state;
    assert_string_equal(walked("http://h:8123"), "<http://h:8123>0 ");
    assert_string_equal(walked("discard:"), "<discard:>0 ");
    assert_string_equal(walked(""), "<>0 ");
    assert_int_equal(clickhouse_url_shards("http://h:8123"), 1);
    assert_int_equal(clickhouse_url_shards("discard:"), 1);
}

static void commas_stand_between_replicas_and_bars_between_shards(void **state)
{
    (void)state;
    assert_string_equal(walked("http://a,http://b|https://c:1/x/ , http://d | http://e"),
                        "<http://a>0 <http://b>0 <https://c:1/x/>1 <http://d>1 <http://e>2 ");
    assert_int_equal(clickhouse_url_shards("http://a,http://b|http://c|http://d,http://e"), 3);
    assert_int_equal(clickhouse_url_shards("http://a,http://b"), 1);
}

static void a_comma_in_a_password_ends_nothing(void **state)
{
    (void)state;
    assert_string_equal(walked("http://u:a,b|c@h,http://i"), "<http://u:a,b|c@h>0 <http://i>0 ");
}

static void an_endpoint_that_is_missing_is_empty(void **state)
{
    (void)state;
    assert_string_equal(walked("http://a,"), "<http://a>0 <>0 ");
    assert_string_equal(walked(",http://a"), "<>0 <http://a>0 ");
    assert_string_equal(walked("http://a||http://b"), "<http://a>0 <>1 <http://b>2 ");
    assert_string_equal(walked("http://a|"), "<http://a>0 <>1 ");
}

static void a_name_has_no_credentials_and_no_slash_at_its_end(void **state)
{
    static const struct {
        const char *url;
        const char *name;
    } cases[] = {
        {"http://h", "h"},
        {"http://h:8123/", "h:8123"},
        {"https://u:p@h:8443/x/y/", "h:8443/x/y"},
        {"http://[::1]:8123", "[::1]:8123"},
        {"http://h/a@b", "h/a@b"},
        {"discard:", "discard:"},
    };
    char name[CLICKHOUSE_NAME_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct slice url = {cases[i].url, strlen(cases[i].url)};

        assert_int_equal(clickhouse_url_name(url, name), strlen(cases[i].name));
        assert_string_equal(name, cases[i].name);
    }
    clickhouse_url_name_of("http://a|http://u:p@b,http://c", 1, name);
    assert_string_equal(name, "b");
    clickhouse_url_name_of("http://a|http://b,http://c", 3, name);
    assert_string_equal(name, "");
}

static void two_urls_of_one_server_are_the_same(void **state)
{
    static const struct {
        const char *a, *b;
        bool same;
    } cases[] = {
        {"http://a", "http://A/", true},
        {"http://a", "http://a:80", true},
        {"http://a", "http://a:8123", true},
        {"http://u:p@a:08123/", "http://v@a:8123", true},
        {"https://a", "https://a:443", true},
        {"https://a", "https://a:8443", true},
        {"http://[::1]", "http://[::1]:8123", true},
        {"http://[::1]:1", "http://[::1]:1/", true},
        {"http://a/x", "http://a:80/x", true},
        {"http://a:8123", "http://a:80", false},
        {"http://a:8123", "http://a:8124", false},
        {"http://a", "http://a:443", false},
        {"http://a", "http://b", false},
        {"http://a/x", "http://a/y", false},
        {"http://a", "http://a/x", false},
        {"http://[::1]", "http://[::2]", false},
        {"http://a", "http://ab", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct slice a = {cases[i].a, strlen(cases[i].a)};
        const struct slice b = {cases[i].b, strlen(cases[i].b)};

        if (clickhouse_url_same(a, b) != cases[i].same ||
            clickhouse_url_same(b, a) != cases[i].same)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_url_is_a_list_of_one),
        cmocka_unit_test(commas_stand_between_replicas_and_bars_between_shards),
        cmocka_unit_test(a_comma_in_a_password_ends_nothing),
        cmocka_unit_test(an_endpoint_that_is_missing_is_empty),
        cmocka_unit_test(a_name_has_no_credentials_and_no_slash_at_its_end),
        cmocka_unit_test(two_urls_of_one_server_are_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
