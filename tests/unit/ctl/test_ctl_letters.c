/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_letters.c - what alloyctl dead-letter list and show print.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "ctl.h"

#define NOW_MS 1769860800000ull /* 2026-01-31T12:00:00Z */

static void put(const char *dir, const char *name, const char *text)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void take_away(const char *dir, const char *name)
{
    char path[256];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_int_equal(unlink(path), 0);
}

#define LINE(stream, code, second)                                                            \
    "{\"time\":\"2026-01-31T12:00:" second ".000Z\",\"stream\":\"" stream "\",\"code\":" code \
    ",\"message\":\"m\",\"event\":{\"n\":" second "}}\n"

static void list_sums_by_file_stream_and_code(void **state)
{
    char dir[] = "/tmp/test_ctl_letters.XXXXXX";
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_non_null(mkdtemp(dir));
    put(dir, "a-20260131T120000Z-1.ndjson",
        LINE("a", "27", "05") LINE("a", "6", "03") LINE("a", "27", "04"));
    put(dir, "b-20260131T120000Z-1.ndjson.replayed", LINE("b", "27", "10"));
    assert_int_equal(ctl_letters_list(dir, (struct ctl_out){.file = out}), 0);
    fclose(out);
    assert_non_null(strstr(text, "waiting            3"));
    assert_non_null(strstr(text, "2026-01-31T12:00:03.000Z 2026-01-31T12:00:05.000Z "
                                 "a-20260131T120000Z-1.ndjson\n"));
    assert_non_null(strstr(text, "replayed           1"));
    assert_non_null(strstr(text, "\na                             6          1  "
                                 "2026-01-31T12:00:03.000Z 2026-01-31T12:00:03.000Z\n"
                                 "a                            27          2  "
                                 "2026-01-31T12:00:04.000Z 2026-01-31T12:00:05.000Z\n"));
    assert_non_null(strstr(text, "\n4 events in 2 files, "));
    free(text);
    assert_int_equal(ctl_letters_list("/nowhere", (struct ctl_out){.file = stdout}), 1);
    take_away(dir, "a-20260131T120000Z-1.ndjson");
    take_away(dir, "b-20260131T120000Z-1.ndjson.replayed");
    rmdir(dir);
}

static void list_tells_unreadable_lines_and_a_folder_without_letters(void **state)
{
    char dir[] = "/tmp/test_ctl_letters.XXXXXX";
    const struct ctl_show show = {.all = true};
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(ctl_letters_list(dir, (struct ctl_out){.file = out}), 0);
    fflush(out);
    assert_non_null(strstr(text, "there are no dead-letter files in /tmp/"));
    assert_null(strstr(text, "journal"));
    put(dir, "a-1.ndjson", LINE("a", "27", "05") "broken\n");
    assert_int_equal(ctl_letters_list(dir, (struct ctl_out){.file = out}), 1);
    fflush(out);
    assert_non_null(strstr(text, "a-1.ndjson  (1 unreadable line)\n"));
    assert_non_null(strstr(text, "\n1 event in 1 file, "));
    take_away(dir, "a-1.ndjson");
    put(dir, "segment-0000000001.alj", "");
    assert_int_equal(ctl_letters_list(dir, (struct ctl_out){.file = out}), 1);
    assert_int_equal(ctl_letters_show(dir, &show, (struct ctl_out){.file = out}), 1);
    fclose(out);
    assert_non_null(strstr(text, "looks like the folder of a journal\n"));
    free(text);
    take_away(dir, "segment-0000000001.alj");
    rmdir(dir);
}

static void show_prints_what_the_filter_wants_and_tells_broken_lines(void **state)
{
    const struct ctl_show some = {.filter = {.code = 27, .since_ms = NOW_MS + 5000}, .raw = true};
    const struct ctl_show all = {.all = true, .raw = true};
    char dir[] = "/tmp/test_ctl_letters.XXXXXX";
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    assert_non_null(mkdtemp(dir));
    put(dir, "a-1.ndjson", LINE("a", "27", "05") LINE("a", "6", "06") LINE("a", "27", "04"));
    put(dir, "b-1.ndjson.replayed", LINE("b", "27", "10"));
    assert_int_equal(ctl_letters_show(dir, &some, (struct ctl_out){.file = out}), 0);
    fflush(out);
    assert_string_equal(text, LINE("a", "27", "05"));
    assert_int_equal(ctl_letters_show(dir, &all, (struct ctl_out){.file = out}), 0);
    fflush(out);
    assert_int_equal(len, 5 * strlen(LINE("a", "27", "05")) - 1);
    put(dir, "c-1.ndjson", "broken\n");
    assert_int_equal(ctl_letters_show(dir, &all, (struct ctl_out){.file = out}), 1);
    fclose(out);
    free(text);
    take_away(dir, "a-1.ndjson");
    take_away(dir, "b-1.ndjson.replayed");
    take_away(dir, "c-1.ndjson");
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(list_sums_by_file_stream_and_code),
        cmocka_unit_test(list_tells_unreadable_lines_and_a_folder_without_letters),
        cmocka_unit_test(show_prints_what_the_filter_wants_and_tells_broken_lines),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
