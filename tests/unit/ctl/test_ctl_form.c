/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_form.c - what a text is: near misses are none of the forms.
 */
#include "ctl_form.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ctl_sample.h"

static const struct {
    const char *text;
    unsigned form;
    unsigned fraction;
} cases[] = {
    {"2026-01-31", CTL_FORM_DATE, 0},
    {"2024-02-29", CTL_FORM_DATE, 0},
    {"2023-02-29", 0, 0},
    {"2026-04-31", 0, 0},
    {"1900-12-31", 0, 0},
    {"2262-01-01", 0, 0},
    {"2026-1-31", 0, 0},
    {"2026-01-31 ", 0, 0},
    {"2026-01-31T12:00:00", CTL_FORM_DATETIME, 0},
    {"2026-01-31 12:00:00Z", CTL_FORM_DATETIME, 0},
    {"2026-01-31T12:00:00.123456789Z", CTL_FORM_DATETIME, 9},
    {"2026-01-31T12:00:00.1234567890Z", 0, 0},
    {"2026-01-31T12:00:00.Z", 0, 0},
    {"2026-01-31T12:00:00+02:00", CTL_FORM_DATETIME, 0},
    {"2026-01-31T12:00:00.5-0330", CTL_FORM_DATETIME, 1},
    {"2026-01-31T12:00:00+2", 0, 0},
    {"2026-01-31T12:00:00+15:00", 0, 0},
    {"2026-01-31T12:00:00ZZ", 0, 0},
    {"2026-01-31T12:00", 0, 0},
    {"2026-01-31T24:00:00", 0, 0},
    {"2026-01-31T12:00:60Z", 0, 0},
    {"2026-01-31t12:00:00z", 0, 0},
    {"550e8400-e29b-41d4-a716-446655440000", CTL_FORM_UUID, 0},
    {"550E8400-e29b-41d4-a716-446655440000", 0, 0},
    {"550e8400-e29b-41d4-a716-44665544000", 0, 0},
    {"550e8400-e29b-41d4-a716-4466554400000", 0, 0},
    {"550e8400xe29b-41d4-a716-446655440000", 0, 0},
    {"10.0.0.255", CTL_FORM_IPV4, 0},
    {"10.0.0.256", 0, 0},
    {"10.0.0", 0, 0},
    {"010.0.0.1", 0, 0},
    {"::1", CTL_FORM_IPV6, 0},
    {"2001:db8::1", CTL_FORM_IPV6, 0},
    {"2001:DB8::1", 0, 0},
    {"::ffff:1.2.3.4", 0, 0},
    {"", 0, 0},
    {"x", 0, 0},
};

static void a_text_has_the_form_in_which_it_comes_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned fraction = 0;
        const unsigned form = ctl_form(cases[i].text, &fraction);

        if (form != cases[i].form || fraction != cases[i].fraction)
            fail_msg("%s: form %u, fraction %u", cases[i].text, form, fraction);
    }
}

static void what_json_could_write_in_another_form_is_told(void **state)
{
    static const char *const yes[] = {
        "2026-01-31T12:00:00Z", "2026-01-31 10",      "2026-1-1",
        "12/25/2024",           "Jan 5 2024",         "Mon, 31 Jan 2026 10:00:00",
        "5 May 2024 10:00",     "10:20:30 2024-01-01"};
    static const char *const no[] = {"2026-01-31",
                                     "",
                                     "pro",
                                     "v2024-01-01",
                                     "1769860800",
                                     "January",
                                     "550e8400-e29b-41d4-a716-446655440000",
                                     "https://e.org/2024/01/01"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(yes); i++)
        assert_true(ctl_form_is_time_like((struct slice){yes[i], strlen(yes[i])}));
    for (size_t i = 0; i < ARRAY_LEN(no); i++)
        assert_false(ctl_form_is_time_like((struct slice){no[i], strlen(no[i])}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_has_the_form_in_which_it_comes_back),
        cmocka_unit_test(what_json_could_write_in_another_form_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
