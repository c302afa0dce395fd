/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_error_code.c - the errors of the ingest port have names and statuses of their own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/error_code.h"

static void success_has_neither_name_nor_status(void **state)
{
    (void)state;
    assert_string_equal(error_code_name(ERROR_NONE), "");
    assert_int_equal(error_code_status(ERROR_NONE), 0);
}

static void names_are_words_and_no_two_are_alike(void **state)
{
    (void)state;
    for (int i = ERROR_NONE + 1; i < ERROR_COUNT; i++) {
        const char *name = error_code_name((enum error_code)i);

        /* They go into JSON and into Prometheus' labels as they are. */
        assert_true(strlen(name) > 0);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz_"), strlen(name));
        for (int j = i + 1; j < ERROR_COUNT; j++)
            assert_string_not_equal(name, error_code_name((enum error_code)j));
    }
}

static void every_error_is_a_refusal(void **state)
{
    (void)state;
    for (int i = ERROR_NONE + 1; i < ERROR_COUNT; i++)
        assert_in_range(error_code_status((enum error_code)i), 400, 599);
}

static void clients_know_these(void **state)
{
    (void)state;
    assert_string_equal(error_code_name(ERROR_missing_id), "missing_id");
    assert_int_equal(error_code_status(ERROR_missing_id), 400);
    assert_int_equal(error_code_status(ERROR_rejected), 422);
    assert_int_equal(error_code_status(ERROR_rate_limited), 429);
    assert_int_equal(error_code_status(ERROR_draining), 503);
    assert_int_equal(error_code_status(ERROR_unsupported_version), 505);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(success_has_neither_name_nor_status),
        cmocka_unit_test(names_are_words_and_no_two_are_alike),
        cmocka_unit_test(every_error_is_a_refusal),
        cmocka_unit_test(clients_know_these),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
