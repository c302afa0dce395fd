/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl.c - times, filters and indentation of alloyctl.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/ctl.h"

#define NOW_MS 1769860800000ull /* 2026-01-31T12:00:00Z */

static void since_is_a_day_a_time_or_a_span(void **state)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {
        {"2026-01-31", NOW_MS - 12 * 3600000ull},
        {"2026-01-31T12:00", NOW_MS},
        {"2026-01-31T11:59:59", NOW_MS - 1000},
        {"2026-01-31T12:00:01Z", NOW_MS + 1000},
        {"90s", NOW_MS - 90000},
        {"15min", NOW_MS - 900000},
        {"2h", NOW_MS - 7200000},
        {"7d", NOW_MS - 7 * 86400000ull},
        {"0s", NOW_MS},
        {"99999999999d", 0},
    };
    static const char *const bad[] = {"",           "x",
                                      "5",          "-5s",
                                      "5 s",        "2026-01-31x",
                                      "2026-13-01", "1969-01-01",
                                      "5sec",       "99999999999999999999999s"};
    uint64_t ms;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(ctl_parse_since(good[i].text, NOW_MS, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (ctl_parse_since(bad[i], NOW_MS, &ms))
            fail_msg("taken: %s", bad[i]);
}

static void a_filter_wants_all_that_it_names(void **state)
{
    const struct letter letter = {.time_ms = NOW_MS, .stream = {"clicks", 6}, .code = 27};

    (void)state;
    assert_true(ctl_matches(&(struct ctl_filter){0}, &letter));
    assert_true(ctl_matches(
        &(struct ctl_filter){.stream = "clicks", .code = 27, .since_ms = NOW_MS}, &letter));
    assert_false(ctl_matches(&(struct ctl_filter){.stream = "click"}, &letter));
    assert_false(ctl_matches(&(struct ctl_filter){.stream = "clickss"}, &letter));
    assert_false(ctl_matches(&(struct ctl_filter){.code = 26}, &letter));
    assert_false(ctl_matches(&(struct ctl_filter){.since_ms = NOW_MS + 1}, &letter));
}

static void assert_pretty(const char *text, const char *expected)
{
    char *got = NULL;
    size_t len;
    FILE *out = open_memstream(&got, &len);

    ctl_pretty(out, (struct slice){text, strlen(text)}, 0);
    fclose(out);
    assert_string_equal(got, expected);
    free(got);
}

static void json_is_indented_and_strings_are_left_alone(void **state)
{
    (void)state;
    assert_pretty("{\"a\":1,\"b\":[true, {\"c\":\"x, {\\\"y\\\": [\"}],\"d\":{},\"e\":[ ]}",
                  "{\n  \"a\": 1,\n  \"b\": [\n    true,\n    {\n      \"c\": \"x, {\\\"y\\\": "
                  "[\"\n    }\n  ],\n  \"d\": {},\n  \"e\": []\n}");
    assert_pretty("", "");
    assert_pretty("}}\"x", "\n}\n}\"x");
    assert_pretty("\"\\", "\"\\");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(since_is_a_day_a_time_or_a_span),
        cmocka_unit_test(a_filter_wants_all_that_it_names),
        cmocka_unit_test(json_is_indented_and_strings_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
