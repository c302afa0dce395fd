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

static bool allowed(const char *origins, const char *origin, const char *asked)
{
    struct cors *cors = cors_create(origins, (struct slice){origin, strlen(origin)},
                                    (struct slice){asked, strlen(asked)});
    const bool yes = cors != NULL;

    if (yes) {
        assert_int_equal(cors->origin.len, strlen(origin));
        assert_memory_equal(cors->origin.data, origin, strlen(origin));
        assert_int_equal(cors->asked.len, strlen(asked));
        assert_memory_equal(cors->asked.data, asked, strlen(asked));
    }
    free(cors);
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
    char longer[CORS_HEADERS_MAX + 2];

    (void)state;
    assert_true(allowed("*", "https://a", "content-type, X-Write-Key"));
    assert_false(allowed("*", "https://a", "a\r\nb"));
    assert_false(allowed("*", "https://a", "a: b"));
    assert_false(allowed("*", "https://a b", ""));
    assert_false(allowed("*", "https://a\"", ""));
    assert_false(allowed("*", "https://\xc3\xa9", ""));
    memset(longer, 'x', sizeof(longer));
    longer[CORS_HEADERS_MAX] = '\0';
    assert_true(allowed("*", "https://a", longer));
    longer[CORS_HEADERS_MAX] = 'x';
    longer[CORS_HEADERS_MAX + 1] = '\0';
    assert_false(allowed("*", "https://a", longer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_origin_is_allowed_as_it_is_written),
        cmocka_unit_test(nothing_is_echoed_that_could_mean_something),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
