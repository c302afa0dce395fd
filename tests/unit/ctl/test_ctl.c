/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl.c - times, filters, words and indentation of alloyctl.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ctl.h"

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

static void a_base_url_has_a_host_and_no_path(void **state)
{
    static const char *const good[] = {"http://h", "http://h:1/", "https://[::1]:8080",
                                       "http://u:p@h:80//"};
    static const char *const bad[] = {"",
                                      "h:1",
                                      "ftp://h",
                                      "http://",
                                      "http:///v1",
                                      "http://h/v1",
                                      "http://h/?x",
                                      "http://h?x",
                                      "http://h#x",
                                      "http://h x",
                                      "https://h:1/v1/events"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        if (!ctl_is_base_url(good[i]))
            fail_msg("refused: %s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (ctl_is_base_url(bad[i]))
            fail_msg("taken: %s", bad[i]);
}

static void assert_one_line(const char *text, const char *expected)
{
    char copy[512];

    snprintf(copy, sizeof(copy), "%s", text);
    assert_string_equal(ctl_one_line(copy), expected);
}

static void an_answer_becomes_one_short_line(void **state)
{
    char text[512];
    char expected[CTL_LINE_MAX + 1] = "";

    (void)state;
    assert_one_line("", "");
    assert_one_line("\r\n \n", "");
    assert_one_line("\n  <html>\r\n<body>\n", "<html>");
    assert_one_line("a\tb\033[31mc\177", "a b [31mc ");
    memset(expected, 'x', CTL_LINE_MAX);
    snprintf(text, sizeof(text), "%sy", expected);
    assert_one_line(text, expected);
    /* The last character that fits only in part is left out. */
    expected[CTL_LINE_MAX - 1] = '\0';
    snprintf(text, sizeof(text), "%s\u00e9 and more", expected);
    assert_one_line(text, expected);
}

static void only_one_is_singular(void **state)
{
    (void)state;
    assert_string_equal(ctl_plural(0), "s");
    assert_string_equal(ctl_plural(1), "");
    assert_string_equal(ctl_plural(2), "s");
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
        cmocka_unit_test(a_base_url_has_a_host_and_no_path),
        cmocka_unit_test(an_answer_becomes_one_short_line),
        cmocka_unit_test(only_one_is_singular),
        cmocka_unit_test(json_is_indented_and_strings_are_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
