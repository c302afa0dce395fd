/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_settle.c - where the lines of a file go after a replay.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl_settle.h"

#define PLAIN "a-20260131T120000Z-1.ndjson"
#define LINE(lsn)                                                                              \
    "{\"time\":\"2026-01-31T12:00:00.000Z\",\"lsn\":\"" lsn "\",\"stream\":\"a\",\"code\":27," \
    "\"message\":\"m\",\"event\":{\"n\":1}}\n"
#define LSN1 "5d1f3a90c2b4e6f80000000700002048"
#define LSN2 "5d1f3a90c2b4e6f80000000700004096"

static char dir[64];
static int dir_fd;

static int set_up(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/test_ctl_settle.XXXXXX");
    assert_non_null(mkdtemp(dir));
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_true(dir_fd >= 0);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const suffixes[] = {"", ".replaying", ".replayed", ".renewed", ".tmp"};
    char name[64];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        snprintf(name, sizeof(name), PLAIN "%s", suffixes[i]);
        unlinkat(dir_fd, name, 0);
    }
    close(dir_fd);
    return rmdir(dir);
}

static void put(const char *suffix, const char *text)
{
    char name[64];
    int fd;

    snprintf(name, sizeof(name), PLAIN "%s", suffix);
    fd = openat(dir_fd, name, O_CREAT | O_WRONLY | O_TRUNC, 0640);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* NULL: there must be no such file. */
static void assert_file(const char *suffix, const char *text)
{
    char name[64], got[2048];
    ssize_t n;
    int fd;

    snprintf(name, sizeof(name), PLAIN "%s", suffix);
    fd = openat(dir_fd, name, O_RDONLY);
    if (text == NULL) {
        assert_int_equal(fd, -1);
        return;
    }
    assert_true(fd >= 0);
    n = read(fd, got, sizeof(got) - 1);
    got[n] = '\0';
    close(fd);
    assert_string_equal(got, text);
}

static void a_file_of_one_fate_is_renamed(void **state)
{
    const uint8_t in[] = {CTL_FATE_REPLAYED, CTL_FATE_REPLAYED};
    const uint8_t wait[] = {CTL_FATE_WAITS, CTL_FATE_WAITS};

    (void)state;
    put("", "1\n2\ntorn");
    assert_int_equal(ctl_settle_take(dir_fd, PLAIN), 0);
    assert_file("", NULL);
    assert_int_equal(ctl_settle_give_back(dir_fd, PLAIN, wait, 2), 0);
    assert_file("", "1\n2\ntorn");
    assert_int_equal(ctl_settle_take(dir_fd, PLAIN), 0);
    assert_int_equal(ctl_settle_give_back(dir_fd, PLAIN, in, 2), 0);
    assert_file(".replayed", "1\n2\ntorn");
    assert_file(".replaying", NULL);
}

static void a_file_of_several_fates_is_taken_apart(void **state)
{
    const uint8_t fates[] = {CTL_FATE_REPLAYED, CTL_FATE_RENEWED, CTL_FATE_WAITS,
                             CTL_FATE_REPLAYED};

    (void)state;
    put(".replaying", "1\n2\n3\n4\n5\ntorn");
    assert_int_equal(ctl_settle_give_back(dir_fd, PLAIN, fates, 4), 0);
    assert_file(".replayed", "1\n4\n");
    assert_file(".renewed", "2\n");
    assert_file("", "3\n5\ntorn");
    assert_file(".replaying", NULL);
    assert_file(".tmp", NULL);
}

static void what_was_there_already_is_added_to(void **state)
{
    const uint8_t in[] = {CTL_FATE_REPLAYED};

    (void)state;
    put(".replayed", "0\n");
    put(".replaying", "1\n");
    assert_int_equal(ctl_settle_give_back(dir_fd, PLAIN, in, 1), 0);
    assert_file(".replayed", "0\n1\n");
    assert_file("", NULL);
    assert_file(".replaying", NULL);
}

static void an_error_loses_nothing(void **state)
{
    const uint8_t fates[] = {CTL_FATE_REPLAYED, CTL_FATE_WAITS};

    (void)state;
    /* Somebody has put another file there meanwhile. */
    put("", "0\n");
    put(".replaying", "1\n2\n");
    assert_int_equal(ctl_settle_give_back(dir_fd, PLAIN, fates, 2), -EEXIST);
    assert_file("", "0\n");
    assert_file(".replaying", "1\n2\n");
    assert_file(".tmp", NULL);
}

static void letters_are_known_by_their_records(void **state)
{
    const struct letter one = {.has_lsn = true, .instance_id = 2, .lsn = 1};
    const struct letter two = {.has_lsn = true, .instance_id = 1, .lsn = 2};
    const struct letter none = {.instance_id = 2, .lsn = 1};
    struct ctl_marks marks = {0};

    (void)state;
    assert_false(ctl_marks_has(&marks, &one));
    assert_true(ctl_marks_add(&marks, &one));
    assert_true(ctl_marks_add(&marks, &one));
    assert_true(ctl_marks_add(&marks, &none));
    assert_int_equal(marks.count, 1);
    assert_true(ctl_marks_has(&marks, &one));
    assert_false(ctl_marks_has(&marks, &two));
    assert_false(ctl_marks_has(&marks, &none));
    for (uint64_t i = 200; i > 0; i--)
        assert_true(ctl_marks_add(
            &marks, &(struct letter){.has_lsn = true, .instance_id = 1, .lsn = i * 7 % 211}));
    assert_true(ctl_marks_has(&marks, &two));
    for (size_t i = 1; i < marks.count; i++)
        assert_true(marks.list[i - 1].instance_id < marks.list[i].instance_id ||
                    marks.list[i - 1].lsn < marks.list[i].lsn);
    ctl_marks_free(&marks);
}

static void marked_letters_leave_the_waiting_ones(void **state)
{
    struct ctl_marks marks = {0};
    struct letter letter;
    uint64_t moved = 0;

    (void)state;
    put("", LINE(LSN1) LINE(LSN2) "odd\n");
    assert_true(letter_parse((struct slice){LINE(LSN2), strlen(LINE(LSN2)) - 1}, &letter));
    assert_true(ctl_marks_add(&marks, &letter));
    assert_int_equal(ctl_settle_marked(dir, &marks, &moved), 0);
    assert_int_equal(moved, 1);
    assert_file("", LINE(LSN1) "odd\n");
    assert_file(".replayed", LINE(LSN2));
    assert_int_equal(ctl_settle_marked(dir, &marks, &moved), 0);
    assert_int_equal(moved, 1);
    ctl_marks_free(&marks);
}

static void only_a_newer_waiting_letter_of_the_same_bytes_is_one(void **state)
{
    const uint64_t since = 1769860800000; /* that of the line */
    struct ctl_newer newer[] = {{.event = {"{\"n\":1}", 7}}, {.event = {"{\"n\":2}", 7}}};

    (void)state;
    put("", LINE(LSN1));
    assert_int_equal(ctl_settle_find_newer(dir, PLAIN, since, newer, 2), 0);
    assert_int_equal(ctl_settle_find_newer(dir, "b.ndjson", since + 1, newer, 2), 0);
    assert_int_equal(ctl_settle_find_newer(dir, "b.ndjson", since, newer, 2), 1);
    assert_true(newer[0].found && !newer[1].found);
    assert_int_equal(newer[0].code, 27);
    assert_string_equal(newer[0].message, "m");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_of_one_fate_is_renamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_of_several_fates_is_taken_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_there_already_is_added_to, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_error_loses_nothing, set_up, tear_down),
        cmocka_unit_test(letters_are_known_by_their_records),
        cmocka_unit_test_setup_teardown(marked_letters_leave_the_waiting_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_a_newer_waiting_letter_of_the_same_bytes_is_one,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
