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

static void a_name_is_letters_digits_and_what_else_it_may_have(void **state)
{
    (void)state;
    assert_true(text_is_name("aZ09_-", 6, "_-"));
    assert_true(text_is_name("a.b", 1, ""));
    assert_false(text_is_name("a.b", 3, "_-"));
    assert_false(text_is_name("a\0b", 3, "_-"));
    assert_false(text_is_name("\xc3\xa9", 2, "_-"));
    assert_false(text_is_name("", 0, "_-"));
}

static void what_changes_its_surroundings_is_not_shown(void **state)
{
    static const char *const shown[] = {" ",
                                        "~",
                                        "\xc2\xa0",
                                        "\xc3\xa9",
                                        "\xd8\x9b",
                                        "\xd8\x9d",
                                        "\xe2\x80\x8d",
                                        "\xe2\x80\x90",
                                        "\xe2\x80\xa7",
                                        "\xe2\x80\xaf",
                                        "\xe2\x81\xa5",
                                        "\xe2\x81\xaa",
                                        "\xe2\x82\xac",
                                        "\xf0\x9f\x98\x80"};
    static const char *const hidden[] = {
        "\n",           "\x1b",         "\x7f",         "\xc2\x80",     "\xc2\x9b",
        "\xc2\x9f",     "\xd8\x9c",     "\xe2\x80\x8e", "\xe2\x80\x8f", "\xe2\x80\xa8",
        "\xe2\x80\xa9", "\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x81\xa9"};

    (void)state;
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
        assert_true(text_is_shown(shown[i], text_utf8_len(shown[i], strlen(shown[i]))));
    for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
        assert_false(text_is_shown(hidden[i], text_utf8_len(hidden[i], strlen(hidden[i]))));
    assert_false(text_is_shown("\xff", 0));
}

static void check_clean(const char *text, const char *want)
{
    char copy[64];

    memcpy(copy, text, strlen(text) + 1);
    text_clean(copy);
    assert_string_equal(copy, want);
}

static void a_clean_text_is_printable_utf8(void **state)
{
    (void)state;
    check_clean("", "");
    check_clean("as it \xc3\xa9 is \xf0\x9f\x98\x80", "as it \xc3\xa9 is \xf0\x9f\x98\x80");
    check_clean("a\nb\x1b[31m\xc2\x9b\xe2\x80\xae!", "a?b?[31m?"
                                                     "?!");
    check_clean("\xff\xc3(\xed\xa0\x80", "?"
                                         "?(???");
    /* Cut within a character. */
    check_clean("x\xc3", "x");
    check_clean("x\xe2\x82", "x");
    check_clean("x\xe0\xa0", "x");
    check_clean("x\xf0\x9f\x98", "x");
    check_clean("x\xf4\x8f", "x");
    check_clean("x\xf4\x90", "x??");
    check_clean("x\x80", "x?");
    check_clean("\xf0\x9f\x98\x80\xf0", "\xf0\x9f\x98\x80");
}

static void check_copy(const char *text, size_t max, const char *end, const char *want)
{
    char out[16];

    memset(out, '!', sizeof(out));
    text_copy_shown(out, max, (struct slice){text, strlen(text)}, end);
    assert_string_equal(out, want);
    assert_int_equal(out[max + 1], '!');
}

static void a_copy_is_printable_and_tells_that_it_was_cut(void **state)
{
    (void)state;
    check_copy("", 4, "...", "");
    check_copy("abcd", 4, "...", "abcd");
    check_copy("abcde", 4, "...", "a...");
    check_copy("abcde", 4, "", "abcd");
    check_copy("a\n\x80\xe2\x80\xae", 8, "", "a???");
    check_copy("ab\xe2\x82\xac", 4, "", "ab");
    check_copy("a\xe2\x82\xac", 4, "...", "a\xe2\x82\xac");
    check_copy("\xe2\x82\xac\xe2\x82\xac", 5, "...", "...");
}

static void double_quotes_become_single_ones(void **state)
{
    char text[] = "\"a\" b=\"";

    (void)state;
    text_unquote(text);
    assert_string_equal(text, "'a' b='");
}

static void a_character_can_be_told_by_its_number(void **state)
{
    char out[TEXT_ESCAPE_MAX];

    (void)state;
    assert_int_equal(text_escape_number("\xc2\x9b", 2, out), 6);
    assert_memory_equal(out, "\\u009b", 6);
    assert_int_equal(text_escape_number("\xe2\x80\xae", 3, out), 6);
    assert_memory_equal(out, "\\u202e", 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_digits_have_their_values_and_nothing_else_has_one),
        cmocka_unit_test(utf8_is_judged_at_every_bound),
        cmocka_unit_test(escapes_are_legal_json_and_stand_for_whole_characters),
        cmocka_unit_test(a_name_is_letters_digits_and_what_else_it_may_have),
        cmocka_unit_test(what_changes_its_surroundings_is_not_shown),
        cmocka_unit_test(a_clean_text_is_printable_utf8),
        cmocka_unit_test(a_copy_is_printable_and_tells_that_it_was_cut),
        cmocka_unit_test(double_quotes_become_single_ones),
        cmocka_unit_test(a_character_can_be_told_by_its_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
