/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_voucher.c - vouchers that are good, and all the ways in which one is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/voucher.h"

#define NOW_MS 1769860800123ull

static const struct voucher_key key = {{1, 2, 3}};
static const struct voucher_key other = {{1, 2, 4}};
static const struct slice body = {"{\"id\":1}", 8};
static char text[VOUCHER_TEXT];

static int setup(void **state)
{
    (void)state;
    voucher_write(&key, NOW_MS, body, text);
    return 0;
}

static const char *problem_at(uint64_t real_ms)
{
    return voucher_problem(&key, real_ms, (struct slice){text, strlen(text)});
}

static void one_is_good_for_its_body_with_its_key(void **state)
{
    const struct slice voucher = {text, strlen(text)};

    (void)state;
    assert_null(problem_at(NOW_MS));
    assert_true(voucher_is_for(voucher, body));
    assert_false(voucher_is_for(voucher, (struct slice){"{\"id\":2}", 8}));
    assert_false(voucher_is_for(voucher, (struct slice){body.data, body.len - 1}));
    assert_non_null(strstr(voucher_problem(&other, NOW_MS, voucher), "not signed"));
}

static void its_time_is_short_on_both_sides(void **state)
{
    (void)state;
    assert_null(problem_at(NOW_MS + VOUCHER_TIME_MS));
    assert_non_null(strstr(problem_at(NOW_MS + VOUCHER_TIME_MS + 1), "five minutes"));
    assert_null(problem_at(NOW_MS - VOUCHER_TIME_MS));
    assert_non_null(problem_at(NOW_MS - VOUCHER_TIME_MS - 1));
}

static void each_byte_of_it_counts(void **state)
{
    const size_t len = strlen(text);

    (void)state;
    for (size_t i = 0; i < len; i++) {
        const char was = text[i];

        text[i] = was == '1' ? '2' : '1';
        assert_non_null(problem_at(NOW_MS));
        text[i] = was;
        /* On the heap, so that a read past its end is seen. */
        char *part = malloc(i > 0 ? i : 1);
        memcpy(part, text, i);
        assert_non_null(voucher_problem(&key, NOW_MS, (struct slice){part, i}));
        assert_false(voucher_is_for((struct slice){part, i}, body));
        free(part);
    }
    assert_null(problem_at(NOW_MS));
}

static void the_largest_time_fits(void **state)
{
    (void)state;
    voucher_write(&key, INT64_MAX, body, text);
    assert_non_null(problem_at(NOW_MS));
    assert_null(problem_at(INT64_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_is_good_for_its_body_with_its_key, setup),
        cmocka_unit_test_setup(its_time_is_short_on_both_sides, setup),
        cmocka_unit_test_setup(each_byte_of_it_counts, setup),
        cmocka_unit_test_setup(the_largest_time_fits, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
