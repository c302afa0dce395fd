/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_attribute.c - values of CloudEvents' binary mode, and others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/attribute.h"

static void assert_decoded(const char *value, const char *expected)
{
    /* On the heap and without a NUL, so that a read past its end is seen. */
    const size_t len = strlen(value);
    char *copy = malloc(len > 0 ? len : 1);
    struct slice decoded;
    char room[64];

    memcpy(copy, value, len);
    decoded = attribute_decode((struct slice){copy, len}, room, sizeof(room));
    assert_int_equal(decoded.len, strlen(expected));
    assert_memory_equal(decoded.data, expected, decoded.len);
    free(copy);
}

static void the_examples_of_the_standard_are_decoded(void **state)
{
    (void)state;
    assert_decoded("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro \u20ac \U0001f600");
    assert_decoded("Euro%20%e2%82%ac", "Euro \u20ac");
    assert_decoded("", "");
    assert_decoded("/tests", "/tests");
}

static void percents_are_decoded_once(void **state)
{
    (void)state;
    assert_decoded("a%252Fb", "a%2Fb");
    assert_decoded("%25", "%");
    assert_decoded("a+b", "a+b");
}

static void what_is_no_code_stands_for_itself(void **state)
{
    (void)state;
    assert_decoded("100%", "100%");
    assert_decoded("%4", "%4");
    assert_decoded("%zz%41%4", "%zzA%4");
    assert_decoded("%%41", "%A");
}

static void what_is_not_utf8_counts_as_it_came(void **state)
{
    (void)state;
    assert_decoded("%FF%41", "%FF%41");
    assert_decoded("%C3", "%C3");
    assert_decoded("%ED%A0%80", "%ED%A0%80"); /* a surrogate */
    assert_decoded("a\xe9%20", "a\xe9%20");
    assert_decoded("\xc3\xa9%20", "\xc3\xa9 ");
}

static void a_quoted_string_is_unquoted_first(void **state)
{
    (void)state;
    assert_decoded("\"a b\"", "a b");
    assert_decoded("\"a\\\"b\\\\%20\"", "a\"b\\ ");
    assert_decoded("\"\\%20\"", " ");
    assert_decoded("\"", "\"");
    assert_decoded("\"\"", "");
    assert_decoded("\"a", "\"a");
    assert_decoded("a\"b\"", "a\"b\"");
}

static void a_long_value_is_cut(void **state)
{
    char room[4];
    struct slice decoded = attribute_decode((struct slice){"%61bc%C3%A9", 11}, room, sizeof(room));

    (void)state;
    assert_int_equal(decoded.len, 4);
    assert_memory_equal(decoded.data, "abc\xc3", 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_standard_are_decoded),
        cmocka_unit_test(percents_are_decoded_once),
        cmocka_unit_test(what_is_no_code_stands_for_itself),
        cmocka_unit_test(what_is_not_utf8_counts_as_it_came),
        cmocka_unit_test(a_quoted_string_is_unquoted_first),
        cmocka_unit_test(a_long_value_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
