/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_nearest.c - which word a misspelt one is taken for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloy/nearest.h"

static const char *nearest(const char *to)
{
    static const char *const words[] = {"journal", "bury", "key", "dead-letter"};
    struct nearest found = {.to = to};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        nearest_try(&found, words[i]);
    return found.word;
}

static void a_letter_too_many_too_few_wrong_or_swapped_is_forgiven(void **state)
{
    (void)state;
    assert_string_equal(nearest("jounal"), "journal");
    assert_string_equal(nearest("journall"), "journal");
    assert_string_equal(nearest("jouxnal"), "journal");
    assert_string_equal(nearest("jorunal"), "journal");
    assert_string_equal(nearest("deadletter"), "dead-letter");
    assert_string_equal(nearest("keys"), "key");
}

static void another_word_is_not_taken_for_one(void **state)
{
    (void)state;
    assert_null(nearest(""));
    assert_null(nearest("x"));
    assert_null(nearest("status"));
    assert_null(nearest("a-word-that-is-much-longer-than-any-that-is-compared-here"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_letter_too_many_too_few_wrong_or_swapped_is_forgiven),
        cmocka_unit_test(another_word_is_not_taken_for_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
