/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_guard.c - whom the admin port answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guard.h"

static struct config config;

static void set_key(const char *key)
{
    config = (struct config){
        .admin_addresses = {{.kind = CONFIG_ADDRESS_TCP, .host = (char *)"alloy.example"},
                            {.kind = CONFIG_ADDRESS_UNIX, .host = (char *)"/run/alloy"}},
        .admin_address_count = 2,
        .has_admin_key = key != NULL};
    if (key != NULL)
        keys_hash((struct slice){key, strlen(key)}, config.admin_key_hash);
}

#define JUDGE(...) guard_judge(&config, &(struct guard_request){__VA_ARGS__})

static void without_a_key_a_host_must_be_ours(void **state)
{
    static const char *const ours[] = {
        "127.0.0.1", "127.0.0.1:8081", "localhost",          "LOCALHOST:8081", "[::1]:8081",
        "[::1]",     "192.0.2.1:80",   "[2001:db8::1]:8081", "alloy.example",  "Alloy.Example:8081",
    };
    static const char *const others[] = {
        "evil.example",
        "evil.example:8081",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "alloy.example.evil",
        "",
        ":8081",
        "[]",
        "[::1",
        "[evil.example]:8081",
        "::1",
        "1.2.3",
        "127.0.0.1x:8081",
    };

    (void)state;
    set_key(NULL);
    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        assert_int_equal(JUDGE(.host = ours[i]), GUARD_PASS);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_int_equal(JUDGE(.host = others[i]), GUARD_HOST);
    assert_int_equal(JUDGE(.host = NULL), GUARD_PASS);
    assert_int_equal(JUDGE(.host = "evil.example", .unix_socket = true), GUARD_PASS);
}

static void an_origin_must_be_the_host(void **state)
{
    (void)state;
    set_key(NULL);
    assert_int_equal(JUDGE(.host = "127.0.0.1:1", .origin = "http://127.0.0.1:1"), GUARD_PASS);
    assert_int_equal(JUDGE(.host = "localhost:1", .origin = "https://LOCALHOST:1"), GUARD_PASS);
    assert_int_equal(JUDGE(.host = "127.0.0.1:1", .origin = "http://127.0.0.1:2"), GUARD_ORIGIN);
    assert_int_equal(JUDGE(.host = "127.0.0.1:1", .origin = "http://evil.example"), GUARD_ORIGIN);
    assert_int_equal(JUDGE(.host = "127.0.0.1:1", .origin = "null"), GUARD_ORIGIN);
    assert_int_equal(JUDGE(.host = "127.0.0.1:1", .origin = ""), GUARD_ORIGIN);
    assert_int_equal(JUDGE(.origin = "http://127.0.0.1:1"), GUARD_ORIGIN);
    set_key("secret");
    assert_int_equal(JUDGE(.host = "a:1", .origin = "http://b:1", .authorization = "Bearer secret"),
                     GUARD_ORIGIN);
}

static void a_key_is_asked_for_and_then_any_host_will_do(void **state)
{
    static const char *const good[] = {"Bearer secret", "bearer   secret"};
    static const char *const bad[] = {"Bearer",       "Bearer ",        "Bearer Secret",
                                      "Bearer secre", "Bearer secrets", "Basic c2VjcmV0Og==",
                                      "secret",       "Bearer %73ecret"};

    (void)state;
    set_key("secret");
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        assert_int_equal(JUDGE(.host = "alloy.internal:8081", .authorization = good[i]),
                         GUARD_PASS);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(JUDGE(.host = "127.0.0.1", .authorization = bad[i]), GUARD_KEY);
    assert_int_equal(JUDGE(.host = "127.0.0.1"), GUARD_KEY);
    assert_int_equal(JUDGE(.host = "127.0.0.1", .unix_socket = true), GUARD_KEY);
}

static void a_key_comes_in_query_or_cookie_too(void **state)
{
    (void)state;
    set_key("se;c%ret");
    assert_int_equal(JUDGE(.query = "key=se;c%25ret"), GUARD_PASS);
    assert_int_equal(JUDGE(.query = "a=b&key=se%3bc%25ret&c"), GUARD_PASS);
    assert_int_equal(JUDGE(.query = "xkey=se;c%25ret"), GUARD_KEY);
    assert_int_equal(JUDGE(.query = "key="), GUARD_KEY);
    assert_int_equal(JUDGE(.query = "key"), GUARD_KEY);
    assert_int_equal(JUDGE(.query = ""), GUARD_KEY);
    assert_int_equal(JUDGE(.cookie = "a=b; alloy_admin_key=se%3Bc%25ret; c=d"), GUARD_PASS);
    assert_int_equal(JUDGE(.cookie = "alloy_admin_key=secret"), GUARD_KEY);
    assert_int_equal(JUDGE(.cookie = "key=se%3Bc%25ret"), GUARD_KEY);
    assert_int_equal(JUDGE(.cookie = "alloy_admin_key=se;c%25ret"), GUARD_KEY);
}

static void a_page_gets_its_key_as_a_cookie_that_is_let_in(void **state)
{
    static const char *const keys[] = {"secret", "a;b", "a\"b c,d\\e", "a%b", "\xc3\xa9"};
    char out[GUARD_COOKIE_MAX], query[128];

    (void)state;
    assert_false(guard_cookie(NULL, out));
    assert_false(guard_cookie("", out));
    assert_false(guard_cookie("a=b", out));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        size_t len = (size_t)snprintf(query, sizeof(query), "key=");

        for (const char *at = keys[i]; *at != '\0'; at++)
            len += (size_t)snprintf(query + len, sizeof(query) - len, "%%%02x",
                                    (unsigned)(unsigned char)*at);
        set_key(keys[i]);
        assert_true(guard_cookie(query, out));
        assert_non_null(strstr(out, "; Path=/; HttpOnly; SameSite=Strict"));
        *strchr(out, ';') = '\0';
        assert_int_equal(JUDGE(.cookie = out), GUARD_PASS);
    }
    /* What would end the value or the header is escaped. */
    assert_true(guard_cookie("key=a\"b,c\\d\r\n", out));
    assert_memory_equal(out, "alloy_admin_key=a%22b%2Cc%5Cd%0D%0A; ", 37);
}

static void a_key_without_end_is_none(void **state)
{
    char out[GUARD_COOKIE_MAX];
    char *query = calloc(1, 8192);

    (void)state;
    strcpy(query, "key=");
    memset(query + 4, 'a', 8000);
    set_key("a");
    assert_int_equal(JUDGE(.query = query), GUARD_KEY);
    assert_false(guard_cookie(query, out));
    query[4 + 1024] = '\0';
    set_key(query + 4);
    assert_int_equal(JUDGE(.query = query), GUARD_PASS);
    memset(query + 4, '"', 1024);
    assert_true(guard_cookie(query, out));
    assert_string_equal(out + strlen(out) - 15, "SameSite=Strict");
    free(query);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_key_a_host_must_be_ours),
        cmocka_unit_test(an_origin_must_be_the_host),
        cmocka_unit_test(a_key_is_asked_for_and_then_any_host_will_do),
        cmocka_unit_test(a_key_comes_in_query_or_cookie_too),
        cmocka_unit_test(a_page_gets_its_key_as_a_cookie_that_is_let_in),
        cmocka_unit_test(a_key_without_end_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
