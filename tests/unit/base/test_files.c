/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_files.c - folders, whole writes and listings.
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

#include "alloy/files.h"

static char folder[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/alloy-files-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

static void a_path_is_made_with_all_above_it_and_may_be_there(void **state)
{
    char path[128];
    struct stat st;

    (void)state;
    snprintf(path, sizeof(path), "%s/a/b/c", folder);
    assert_int_equal(files_make_path(path, 0700, 0755), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    snprintf(path, sizeof(path), "%s/a/b", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0755);
    assert_int_equal(files_make_path(path, 0700, 0755), 0);
    assert_int_equal(files_make_path("", 0700, 0755), -EINVAL);
}

static void a_file_in_the_way_of_a_path_is_an_error(void **state)
{
    char path[128];
    int fd;

    (void)state;
    snprintf(path, sizeof(path), "%s/file", folder);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    snprintf(path, sizeof(path), "%s/file/below", folder);
    assert_int_equal(files_make_path(path, 0700, 0755), -ENOTDIR);
}

static void writing_goes_on_until_all_is_written_or_fails(void **state)
{
    static char sent[1 << 20], got[sizeof(sent)];
    char path[128];
    int fd;

    (void)state;
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (char)i;
    snprintf(path, sizeof(path), "%s/file", folder);
    fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_int_equal(files_write_all(fd, sent, sizeof(sent)), 0);
    assert_int_equal(pread(fd, got, sizeof(got), 0), sizeof(got));
    assert_memory_equal(sent, got, sizeof(got));
    close(fd);
    fd = open("/dev/full", O_WRONLY);
    assert_int_equal(files_write_all(fd, "x", 1), -ENOSPC);
    close(fd);
}

static int count_name(void *arg, const char *name)
{
    int *count = arg;

    if (*name == '.')
        return 0;
    return ++*count == 2 ? 7 : 0;
}

static void a_listing_visits_each_name_until_told_to_stop(void **state)
{
    const int dir = open(folder, O_RDONLY | O_DIRECTORY);
    int count = 0;

    (void)state;
    assert_int_equal(mkdirat(dir, "one", 0700), 0);
    /* Twice: a listing does not move the folder's own position. */
    for (int i = 0; i < 2; i++) {
        count = 0;
        assert_int_equal(files_list(dir, count_name, &count), 0);
        assert_int_equal(count, 1);
    }
    assert_int_equal(mkdirat(dir, "two", 0700), 0);
    assert_int_equal(mkdirat(dir, "three", 0700), 0);
    count = 0;
    assert_int_equal(files_list(dir, count_name, &count), 7);
    close(dir);
    assert_int_equal(files_list(dir, count_name, &count), -EBADF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_path_is_made_with_all_above_it_and_may_be_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_in_the_way_of_a_path_is_an_error, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writing_goes_on_until_all_is_written_or_fails, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_listing_visits_each_name_until_told_to_stop, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
