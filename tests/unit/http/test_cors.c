/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_cors.c - which pages may send.
 */
#include "alloy/cors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool allowed_as(const char *origins, const char *origin, const char *asked, bool keep)
{
    struct cors *cors = cors_create(origins, (struct slice){origin, strlen(origin)},
                                    (struct slice){asked, strlen(asked)}, keep);
    const bool yes = cors != NULL;

    if (yes) {
        assert_int_equal(cors->origin.len, strlen(origin));
        assert_memory_equal(cors->origin.data, origin, strlen(origin));
        assert_int_equal(cors->asked.len, strlen(asked));
        assert_memory_equal(cors->asked.data, asked, strlen(asked));
    }
    if (yes)
        assert_int_equal(cors->asked.data == asked, !keep);
    free(cors);
    return yes;
}

static bool allowed(const char *origins, const char *origin, const char *asked)
{
    const bool yes = allowed_as(origins, origin, asked, false);

    assert_int_equal(allowed_as(origins, origin, asked, true), yes);
    return yes;
}

static void an_origin_is_allowed_as_it_is_written(void **state)
{
    (void)state;
    assert_true(allowed("https://a.example", "https://a.example", ""));
    assert_true(
        allowed("https://b.example , https://a.example:8443", "https://a.example:8443", ""));
    assert_false(allowed("https://a.example", "https://a.example:8443", ""));
    assert_false(allowed("https://a.example", "http://a.example", ""));
    assert_false(allowed("https://a.example", "https://a.exampl", ""));
    assert_false(allowed("https://a.example", "https://a.example.evil", ""));
    assert_false(allowed("https://a.example", "", ""));
    assert_false(allowed("", "https://a.example", ""));
    assert_true(allowed("*", "https://[::1]:3", ""));
    assert_true(allowed("*", "null", ""));
}

static void nothing_is_echoed_that_could_mean_something(void **state)
{
    (void)state;
    assert_true(allowed("*", "https://a", "content-type, X-Write-Key"));
    assert_false(allowed("*", "https://a", "a\r\nb"));
    assert_false(allowed("*", "https://a", "a: b"));
    assert_false(allowed("*", "https://a b", ""));
    assert_false(allowed("*", "https://a\"", ""));
    assert_false(allowed("*", "https://\xc3\xa9", ""));
}

static void what_is_asked_is_long_only_where_it_is_not_copied(void **state)
{
    static char longer[CORS_HEADERS_MAX + 2];

    (void)state;
    memset(longer, 'x', CORS_HEADERS_MAX);
    assert_true(allowed_as("*", "https://a", longer, false));
    assert_false(allowed_as("*", "https://a", longer, true));
    longer[CORS_HEADERS_MAX] = 'x';
    assert_false(allowed_as("*", "https://a", longer, false));
    longer[CORS_HEADERS_KEPT_MAX + 1] = '\0';
    assert_false(allowed_as("*", "https://a", longer, true));
    longer[CORS_HEADERS_KEPT_MAX] = '\0';
    assert_true(allowed_as("*", "https://a", longer, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_origin_is_allowed_as_it_is_written),
        cmocka_unit_test(nothing_is_echoed_that_could_mean_something),
        cmocka_unit_test(what_is_asked_is_long_only_where_it_is_not_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
