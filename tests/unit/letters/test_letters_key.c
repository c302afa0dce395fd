/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_letters_key.c - the file replay.key, in a temporary folder.
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

#include "alloy/letters_key.h"

static char dir[64];
static int dir_fd;

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/test_letters_key.XXXXXX");
    assert_non_null(mkdtemp(dir));
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
    assert_true(dir_fd >= 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    unlinkat(dir_fd, LETTERS_KEY_NAME, 0);
    close(dir_fd);
    return rmdir(dir); /* nothing else is left in it */
}

static void a_key_is_made_kept_and_read_again(void **state)
{
    struct voucher_key made, read, second;
    struct stat st;

    (void)state;
    assert_int_equal(letters_key_load(dir, &made), 0);
    assert_int_equal(letters_key_read(dir_fd, LETTERS_KEY_NAME, &read), -ENOENT);
    assert_int_equal(letters_key_keep(dir_fd, &made), 0);
    assert_int_equal(fstatat(dir_fd, LETTERS_KEY_NAME, &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(letters_key_load(dir, &read), 0);
    assert_memory_equal(&made, &read, sizeof(made));
    /* Another life's does not take its place. */
    memset(&second, 7, sizeof(second));
    assert_int_equal(letters_key_keep(dir_fd, &second), 0);
    assert_int_equal(letters_key_load(dir, &read), 0);
    assert_memory_equal(&made, &read, sizeof(made));
}

static void without_a_folder_there_is_a_key_all_the_same(void **state)
{
    struct voucher_key one, two;

    (void)state;
    assert_int_equal(letters_key_load("/nonexistent/folder", &one), 0);
    assert_int_equal(letters_key_load("/nonexistent/folder", &two), 0);
    assert_memory_not_equal(&one, &two, sizeof(one));
}

static void what_holds_no_key_is_told_and_left_alone(void **state)
{
    static const char *const texts[] = {"", "00",
                                        "0123456789abcdef0123456789abcdef0123456789abcdef0"
                                        "123456789abcdeX"};
    struct voucher_key key;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const int fd = openat(dir_fd, LETTERS_KEY_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        assert_int_equal(write(fd, texts[i], strlen(texts[i])), (ssize_t)strlen(texts[i]));
        close(fd);
        assert_int_equal(letters_key_load(dir, &key), -EINVAL);
        assert_int_equal(letters_key_keep(dir_fd, &key), 0);
        assert_int_equal(letters_key_read(dir_fd, LETTERS_KEY_NAME, &key), -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_key_is_made_kept_and_read_again, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_folder_there_is_a_key_all_the_same, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_holds_no_key_is_told_and_left_alone, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
