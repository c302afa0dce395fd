/* SPDX-License-Identifier: Apache-2.0 */
/* test_ini.c - every line of a file is taken, reported, or a comment: none is lost. */
#include "alloy/ini.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static char seen[1 << 16];

static void note(const char *format, ...) PRINTF_LIKE(1, 2);

static void note(const char *format, ...)
{
    size_t len = strlen(seen);
    va_list args;

    va_start(args, format);
    vsnprintf(seen + len, sizeof(seen) - len, format, args);
    va_end(args);
}

static void on_section(void *arg, int line, const char *section)
{
    (void)arg;
    note("%d [%s]\n", line, section);
}

static void on_entry(void *arg, int line, const char *section, const char *key, const char *value)
{
    (void)arg;
    note("%d %s.%s=%s|\n", line, section, key, value);
}

static void on_error(void *arg, int line, const char *message)
{
    (void)arg;
    note("%d ! %s\n", line, message);
}

static const struct ini_handler handler = {NULL, on_section, on_entry, on_error};

static void assert_read_bytes(const char *text, size_t len, const char *expected)
{
    FILE *stream = fmemopen((void *)(uintptr_t)text, len, "r");

    seen[0] = '\0';
    assert_non_null(stream);
    assert_int_equal(ini_read_stream(stream, &handler), 0);
    fclose(stream);
    assert_string_equal(seen, expected);
}

static void assert_read(const char *text, const char *expected)
{
    assert_read_bytes(text, strlen(text), expected);
}

static void sections_and_keys_come_with_their_lines(void **state)
{
    (void)state;
    assert_read("a=0\n[s]\nb = 1\n\n[t]\n c\t=\t2 3 \n[s]\nd=\n",
                "1 .a=0|\n2 [s]\n3 s.b=1|\n5 [t]\n6 t.c=2 3|\n7 [s]\n8 s.d=|\n");
}

static void comments_bom_and_windows_lines_are_skipped(void **state)
{
    (void)state;
    assert_read("\xef\xbb\xbf[s]\r\n# x = 1\r\n  ; y = 2\r\na = 1 ; two\r\nb = x;y\r\nc = ;z\r\n",
                "1 [s]\n4 s.a=1|\n5 s.b=x;y|\n6 s.c=|\n");
    assert_read("[s] ; a comment\n[t]# another", "1 [s]\n2 [t]\n");
}

static void values_keep_separators_and_hash_signs(void **state)
{
    (void)state;
    assert_read("[s]\nurl = http://u:p@h/?a=b # c\n", "1 [s]\n2 s.url=http://u:p@h/?a=b # c|\n");
}

static void a_key_may_hold_anything_in_back_quotes(void **state)
{
    (void)state;
    assert_read("[s]\nc.`a=b:c ; d` = v=w ; x\n`\\`=`:\n`a``=`=b\nc.d`e = f\nx = `y = z\n",
                "1 [s]\n2 s.c.`a=b:c ; d`=v=w|\n3 s.`\\`=`=|\n4 s.`a``=`=b|\n"
                "5 ! expected [section] or key = value\n6 s.x=`y = z|\n");
}

static void a_line_that_is_no_ini_costs_only_itself(void **state)
{
    (void)state;
    assert_read("[s]\nwhat\n= 1\na = 1\n", "1 [s]\n2 ! expected [section] or key = value\n"
                                           "3 ! expected [section] or key = value\n4 s.a=1|\n");
}

static void an_indented_line_is_not_glued_to_the_one_above(void **state)
{
    (void)state;
    assert_read("[s]\na = 1\n  two\n\tb = 2\n",
                "1 [s]\n2 s.a=1|\n3 ! expected [section] or key = value\n4 s.b=2|\n");
}

static void a_broken_section_takes_its_keys_along(void **state)
{
    (void)state;
    assert_read("[s]\na=1\n[t\nb=2\n[]\nc=3\n[u] v\nd=4\n[w]\ne=5\n",
                "1 [s]\n2 s.a=1|\n3 ! the section's closing ] is missing\n"
                "5 ! the section has no name\n7 ! unexpected text behind the section's ]\n"
                "9 [w]\n10 w.e=5|\n");
}

static void section_names_are_not_cut(void **state)
{
    char text[512], expected[1024], name[201];

    (void)state;
    memset(name, 'n', 200);
    name[200] = '\0';
    snprintf(text, sizeof(text), "[%s]\na=1\n", name);
    snprintf(expected, sizeof(expected), "1 [%s]\n2 %s.a=1|\n", name, name);
    assert_read(text, expected);
}

static void the_longest_line_is_whole_and_a_longer_one_an_error(void **state)
{
    static char text[2 * INI_LINE_MAX], expected[2 * INI_LINE_MAX];

    (void)state;
    for (int over = 0; over <= 1; over++) {
        int len = snprintf(text, sizeof(text), "a=%0*d\n", INI_LINE_MAX - 2 + over, 7);

        assert_int_equal(len, INI_LINE_MAX + 1 + over);
        strcat(text, "b=1\n");
        snprintf(expected, sizeof(expected), "1 .a=%0*d|\n2 .b=1|\n", INI_LINE_MAX - 2, 7);
        assert_read(text, over ? "1 ! the line is longer than 4000 bytes\n2 .b=1|\n" : expected);
    }
}

static void a_nul_byte_is_an_error(void **state)
{
    (void)state;
    assert_read_bytes("a=1\0x\nb=2", 9, "1 ! the line holds a NUL byte\n2 .b=2|\n");
}

static void a_missing_file_and_a_folder_are_errors(void **state)
{
    (void)state;
    seen[0] = '\0';
    assert_int_equal(ini_read("/nonexistent/alloy.ini", &handler), -ENOENT);
    assert_int_equal(ini_read("/", &handler), -EISDIR);
    assert_string_equal(seen, "");
    assert_int_equal(ini_read("/dev/null", &handler), 0);
    assert_string_equal(seen, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_and_keys_come_with_their_lines),
        cmocka_unit_test(comments_bom_and_windows_lines_are_skipped),
        cmocka_unit_test(values_keep_separators_and_hash_signs),
        cmocka_unit_test(a_key_may_hold_anything_in_back_quotes),
        cmocka_unit_test(a_line_that_is_no_ini_costs_only_itself),
        cmocka_unit_test(an_indented_line_is_not_glued_to_the_one_above),
        cmocka_unit_test(a_broken_section_takes_its_keys_along),
        cmocka_unit_test(section_names_are_not_cut),
        cmocka_unit_test(the_longest_line_is_whole_and_a_longer_one_an_error),
        cmocka_unit_test(a_nul_byte_is_an_error),
        cmocka_unit_test(a_missing_file_and_a_folder_are_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
