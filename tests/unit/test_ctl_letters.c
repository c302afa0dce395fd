/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_letters.c - times, filters, indentation and sums of alloyctl.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

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

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void take_away(const char *dir, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

#define LINE(stream, code, second)                                                            \
    "{\"time\":\"2026-01-31T12:00:" second ".000Z\",\"stream\":\"" stream "\",\"code\":" code \
    ",\"message\":\"m\",\"event\":{\"n\":" second "}}\n"

static void list_sums_by_file_stream_and_code(void **state)
{
    char dir[] = "/tmp/test_ctl_letters.XXXXXX";
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_non_null(mkdtemp(dir));
    put(dir, "a-20260131T120000Z-1.ndjson",
        LINE("a", "27", "05") LINE("a", "6", "03") LINE("a", "27", "04"));
    put(dir, "b-20260131T120000Z-1.ndjson.replayed", LINE("b", "27", "10"));
    assert_int_equal(ctl_letters_list(dir, out), 0);
    fclose(out);
    assert_non_null(strstr(text, "waiting            3"));
    assert_non_null(strstr(text, "2026-01-31T12:00:03.000Z 2026-01-31T12:00:05.000Z "
                                 "a-20260131T120000Z-1.ndjson\n"));
    assert_non_null(strstr(text, "replayed           1"));
    assert_non_null(strstr(text, "\na                             6          1  "
                                 "2026-01-31T12:00:03.000Z 2026-01-31T12:00:03.000Z\n"
                                 "a                            27          2  "
                                 "2026-01-31T12:00:04.000Z 2026-01-31T12:00:05.000Z\n"));
    assert_non_null(strstr(text, "\n4 events in 2 files, "));
    free(text);
    assert_int_equal(ctl_letters_list("/nowhere", stdout), 1);
    take_away(dir, "a-20260131T120000Z-1.ndjson");
    take_away(dir, "b-20260131T120000Z-1.ndjson.replayed");
    rmdir(dir);
}

static void show_prints_what_the_filter_wants_and_tells_broken_lines(void **state)
{
    const struct ctl_show some = {.filter = {.code = 27, .since_ms = NOW_MS + 5000}, .raw = true};
    const struct ctl_show all = {.all = true, .raw = true};
    char dir[] = "/tmp/test_ctl_letters.XXXXXX";
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_non_null(mkdtemp(dir));
    put(dir, "a-1.ndjson", LINE("a", "27", "05") LINE("a", "6", "06") LINE("a", "27", "04"));
    put(dir, "b-1.ndjson.replayed", LINE("b", "27", "10"));
    assert_int_equal(ctl_letters_show(dir, &some, out), 0);
    fflush(out);
    assert_string_equal(text, LINE("a", "27", "05"));
    assert_int_equal(ctl_letters_show(dir, &all, out), 0);
    fflush(out);
    assert_int_equal(len, 5 * strlen(LINE("a", "27", "05")) - 1);
    put(dir, "c-1.ndjson", "broken\n");
    assert_int_equal(ctl_letters_show(dir, &all, out), 1);
    fclose(out);
    free(text);
    take_away(dir, "a-1.ndjson");
    take_away(dir, "b-1.ndjson.replayed");
    take_away(dir, "c-1.ndjson");
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(since_is_a_day_a_time_or_a_span),
        cmocka_unit_test(a_filter_wants_all_that_it_names),
        cmocka_unit_test(json_is_indented_and_strings_are_left_alone),
        cmocka_unit_test(list_sums_by_file_stream_and_code),
        cmocka_unit_test(show_prints_what_the_filter_wants_and_tells_broken_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
