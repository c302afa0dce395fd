/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_text.c - hexadecimal digits, UTF-8 and escapes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/text.h"

static void hex_digits_have_their_values_and_nothing_else_has_one(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        const int want = c >= '0' && c <= '9'   ? c - '0'
                         : c >= 'a' && c <= 'f' ? c - 'a' + 10
                         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                : -1;
        assert_int_equal(text_hex_digit((char)c), want);
    }
}

static void utf8_is_judged_at_every_bound(void **state)
{
    static const struct {
        const char *text;
        size_t len;
    } cases[] = {
        {"\x7f", 1},
        {"\x80", 0},
        {"\xc1\xbf", 0},
        {"\xc2\x80", 2},
        {"\xdf\xbf", 2},
        {"\xc2\x7f", 0},
        {"\xe0\x9f\xbf", 0},
        {"\xe0\xa0\x80", 3},
        {"\xed\x9f\xbf", 3},
        {"\xed\xa0\x80", 0},
        {"\xef\xbf\xbf", 3},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xf0\x90\x80\x80", 4},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"\xe2\x82", 0},
        {"\xff", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(text_utf8_len(cases[i].text, strlen(cases[i].text)), cases[i].len);
    assert_int_equal(text_utf8_len("", 1), 1); /* a NUL is a character */
}

static void check_escape(const char *text, size_t taken, const char *escaped)
{
    char out[TEXT_ESCAPE_MAX];
    size_t got;
    const size_t len = text_escape(text, strlen(text), &got, out);

    assert_int_equal(len, strlen(escaped));
    assert_memory_equal(out, escaped, len);
    assert_int_equal(got, taken);
}

static void escapes_are_legal_json_and_stand_for_whole_characters(void **state)
{
    (void)state;
    check_escape("a", 1, "a");
    check_escape("\"", 1, "\\\"");
    check_escape("\\x", 1, "\\\\");
    check_escape("\n", 1, "\\n");
    check_escape("\x1f", 1, "\\u001f");
    check_escape("\x7f", 1, "\\u007f");
    check_escape("\xe2\x82\xac!", 3, "\xe2\x82\xac");
    check_escape("\xe2\x82", 1, "\\ufffd");
    check_escape("\x80", 1, "\\ufffd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_digits_have_their_values_and_nothing_else_has_one),
        cmocka_unit_test(utf8_is_judged_at_every_bound),
        cmocka_unit_test(escapes_are_legal_json_and_stand_for_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
