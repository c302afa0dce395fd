/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_value.c - numbers with units, read and written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/config.h"
#include "config_loader.h"
#include "config_value.h"

static const struct config_key size_key = {
    .kind = KIND_SIZE, .min = 1024, .max = (uint64_t)1 << 50, .automatic = true};
static const struct config_key msec_key = {.kind = KIND_MSEC, .min = 0, .max = 86400000};

static char why[CONFIG_WHY_MAX];

static void must_read(const struct config_key *key, const char *text, uint64_t wanted)
{
    uint64_t value = 1;

    assert_true(config_value_parse(key, text, &value, why));
    assert_int_equal(value, wanted);
}

static void must_refuse(const struct config_key *key, const char *text, const char *reason)
{
    uint64_t value;

    assert_false(config_value_parse(key, text, &value, why));
    assert_non_null(strstr(why, reason));
}

static void a_value_is_read_in_each_of_its_units(void **state)
{
    (void)state;
    must_read(&size_key, "2048B", 2048);
    must_read(&size_key, "3 KiB", 3072);
    must_read(&size_key, "1MiB", 1 << 20);
    must_read(&size_key, "1024GiB", (uint64_t)1 << 40);
    must_read(&size_key, "auto", 0);
    must_read(&msec_key, "1500ms", 1500);
    must_read(&msec_key, "2min", 120000);
    must_read(&msec_key, "24h", 86400000);
    must_read(&msec_key, "0", 0);
}

static void a_value_that_overflows_is_out_of_range_and_not_what_is_left_of_it(void **state)
{
    (void)state;
    /* 2^64 and a good value: what a plain multiplication would leave. */
    must_refuse(&size_key, "17179869185GiB", "out of range");
    must_refuse(&size_key, "18014398509481986KiB", "out of range");
    must_refuse(&size_key, "18446744073709553664B", "out of range");
    must_refuse(&size_key, "99999999999999999999999GiB", "out of range");
    must_refuse(&msec_key, "5124095576031h", "out of range");
}

static void what_is_no_value_is_told_with_the_units(void **state)
{
    (void)state;
    must_refuse(&size_key, "1MB", "B, KiB, MiB or GiB, or auto");
    must_refuse(&size_key, "1", "B, KiB, MiB or GiB");
    must_refuse(&size_key, "-1KiB", "whole number");
    must_refuse(&size_key, "1.5KiB", "whole number");
    must_refuse(&msec_key, "auto", "ms, s, min or h");
    must_refuse(&msec_key, "1 s s", "ms, s, min or h");
    must_refuse(&msec_key, "", "ms, s, min or h");
}

static void a_value_is_written_in_the_largest_unit_that_divides_it(void **state)
{
    static const struct {
        uint64_t value;
        const char *text;
    } cases[] = {
        {1024, "1KiB"}, {1025, "1025B"}, {3 << 20, "3MiB"}, {(uint64_t)1 << 50, "1048576GiB"}};
    char text[CONFIG_VALUE_MAX];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        config_value_format(&size_key, cases[i].value, text);
        assert_string_equal(text, cases[i].text);
        must_read(&size_key, text, cases[i].value);
    }
    config_value_format(&msec_key, 90000, text);
    assert_string_equal(text, "90s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_read_in_each_of_its_units),
        cmocka_unit_test(a_value_that_overflows_is_out_of_range_and_not_what_is_left_of_it),
        cmocka_unit_test(what_is_no_value_is_told_with_the_units),
        cmocka_unit_test(a_value_is_written_in_the_largest_unit_that_divides_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
