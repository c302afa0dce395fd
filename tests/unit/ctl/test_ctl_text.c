/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_text.c - texts that alloyctl gets from files and answers: near misses do not match.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ctl.h"

static void must_indent(const char *text, const char *wanted)
{
    char *shown = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&shown, &len);

    ctl_pretty(out, (struct slice){text, strlen(text)}, 0);
    fclose(out);
    assert_string_equal(shown, wanted);
    free(shown);
}

static void a_string_is_shown_as_it_is_whatever_stands_in_it(void **state)
{
    (void)state;
    must_indent("{\"a\":\"x\\\",{y\"}", "{\n  \"a\": \"x\\\",{y\"\n}");
    must_indent("{\"a\\\\\":[1,\"\\\\\"]}", "{\n  \"a\\\\\": [\n    1,\n    \"\\\\\"\n  ]\n}");
    must_indent("{\"a\":\" : , \"}", "{\n  \"a\": \" : , \"\n}");
    must_indent("[\"never closed\\", "[\n  \"never closed\\");
}

static void a_stream_is_matched_by_its_whole_name(void **state)
{
    const struct letter letter = {.stream = {"orders", 6}, .code = 27, .time_ms = 1000};
    static const char *const others[] = {"order", "orders2", "orderz", "", "Orders"};

    (void)state;
    assert_true(ctl_matches(&(struct ctl_filter){.stream = "orders"}, &letter));
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(ctl_matches(&(struct ctl_filter){.stream = others[i]}, &letter));
    assert_true(ctl_matches(&(struct ctl_filter){.code = 27, .since_ms = 1000}, &letter));
    assert_false(ctl_matches(&(struct ctl_filter){.code = 2}, &letter));
    assert_false(ctl_matches(&(struct ctl_filter){.since_ms = 1001}, &letter));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_string_is_shown_as_it_is_whatever_stands_in_it),
        cmocka_unit_test(a_stream_is_matched_by_its_whole_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
