/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_keys.c - alloyctl key: what it writes, what it leaves alone, and several at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ctl.h"
#include "alloy/keys.h"

static char folder[64], path[80];
static char said[256];

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/alloy-keys.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/keys", folder);
    assert_non_null(freopen("/dev/null", "w", stderr));
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    /* Nothing else was left. */
    assert_int_equal(rmdir(folder), 0);
    return 0;
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static const char *read_file(void)
{
    static char text[8192];
    FILE *file = fopen(path, "r");
    size_t len;

    assert_non_null(file);
    len = fread(text, 1, sizeof(text) - 1, file);
    text[len] = '\0';
    fclose(file);
    return text;
}

static FILE *said_open(void)
{
    said[0] = '\0';
    return fmemopen(said, sizeof(said), "w");
}

/* Runs a command, whose output is in said; returns its exit status. */
static int add(const char *name, const char *streams, uint64_t rate)
{
    FILE *out = said_open();
    int status =
        ctl_key_add(&(struct ctl_key){.name = name, .file = path, .streams = streams, .rate = rate},
                    (struct ctl_out){.file = out});

    fclose(out);
    return status;
}

static int remove_key(const char *name)
{
    FILE *out = said_open();
    int status = ctl_key_remove(&(struct ctl_key){.name = name, .file = path},
                                (struct ctl_out){.file = out});

    fclose(out);
    return status;
}

static int list(void)
{
    FILE *out = said_open();
    int status = ctl_key_list(path, (struct ctl_out){.file = out});

    fclose(out);
    return status;
}

static void add_makes_the_file_and_prints_a_key_that_it_knows(void **state)
{
    struct keys_cache *cache = keys_cache_create();
    const struct key *key;
    struct keys *keys;
    struct stat file;

    (void)state;
    assert_int_equal(add("web", "a,b", 5), 0);
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(file.st_mode & 07777, 0600);
    assert_int_equal(strlen(said), KEYS_TOKEN_TEXT);
    said[strcspn(said, "\n")] = '\0';
    assert_null(strstr(read_file(), said));
    assert_int_equal(keys_load(&keys, path, stdout), 0);
    key = keys_find(cache, keys, (struct slice){said, strlen(said)});
    assert_non_null(key);
    assert_string_equal(key->name, "web");
    assert_string_equal(key->stream_list, "a,b");
    assert_int_equal(key->rate, 5);
    keys_destroy(keys);
    free(cache);
}

static void what_is_there_stays_as_it_is(void **state)
{
    static const char before[] = "# mine\n\n# no end";

    (void)state;
    write_file(before);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(add("one", "*", 0), 0);
    assert_int_equal(add("two", "*", 0), 0);
    assert_memory_equal(read_file(), "# mine\n\n# no end\none b2:", 24);
    assert_int_equal(remove_key("one"), 0);
    assert_memory_equal(read_file(), "# mine\n\n# no end\ntwo b2:", 24);
    assert_int_equal(list(), 0);
    assert_string_equal(said, "two  streams: *\n");
    assert_int_equal(remove_key("two"), 0);
    assert_string_equal(read_file(), "# mine\n\n# no end\n");
}

static void a_key_that_is_there_is_not_added_nor_one_that_is_not_removed(void **state)
{
    char before[8192];

    (void)state;
    assert_int_equal(add("one", "*", 7), 0);
    snprintf(before, sizeof(before), "%s", read_file());
    assert_int_equal(add("one", "*", 0), 1);
    assert_string_equal(said, "");
    assert_int_equal(remove_key("two"), 1);
    assert_string_equal(read_file(), before);
    assert_int_equal(list(), 0);
    assert_string_equal(said, "one  streams: *  events a second: 7\n");
}

static void a_file_with_a_problem_is_left_alone(void **state)
{
    (void)state;
    write_file("one b2:00 *\n");
    assert_int_equal(add("two", "*", 0), 1);
    assert_int_equal(remove_key("one"), 1);
    assert_int_equal(list(), 1);
    assert_string_equal(read_file(), "one b2:00 *\n");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(list(), 1);
    assert_int_equal(remove_key("one"), 1);
    assert_int_equal(access(path, F_OK), -1);
}

static void a_link_stays_a_link(void **state)
{
    char link[96];
    struct stat file;

    (void)state;
    write_file("");
    snprintf(link, sizeof(link), "%s/link", folder);
    assert_int_equal(symlink("keys", link), 0);
    assert_int_equal(ctl_key_add(&(struct ctl_key){.name = "a", .file = link, .streams = "*"},
                                 (struct ctl_out){.file = stderr}),
                     0);
    assert_int_equal(ctl_key_remove(&(struct ctl_key){.name = "a", .file = link},
                                    (struct ctl_out){.file = stderr}),
                     0);
    assert_int_equal(lstat(link, &file), 0);
    assert_true(S_ISLNK(file.st_mode));
    assert_string_equal(read_file(), "");
    unlink(link);
}

static void several_at_a_time_take_turns(void **state)
{
    const int count = 16;
    pid_t pids[16];
    struct keys *keys;
    char name[16];

    (void)state;
    assert_int_equal(add("first", "*", 0), 0);
    assert_int_equal(add("gone", "*", 0), 0);
    for (int i = 0; i < count; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            snprintf(name, sizeof(name), "n%d", i);
            _exit(i == 7 ? remove_key("gone") : add(name, "*", 0));
        }
    }
    for (int i = 0; i < count; i++) {
        int status;

        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    assert_int_equal(keys_load(&keys, path, stdout), 0);
    assert_int_equal(keys_count(keys), count);
    keys_destroy(keys);
}

static void the_file_is_the_one_that_the_configuration_names(void **state)
{
    char *file;

    (void)state;
    write_file("; keys_file = a\n[log]\nlevel = info\n[auth]\nkeys_file = /etc/b c\nnonsense\n");
    file = ctl_keys_file(path);
    assert_string_equal(file, "/etc/b c");
    free(file);
    write_file("[auth]\nkeys_file =\n");
    assert_null(ctl_keys_file(path));
    write_file("[auth]\nkeys_file = ${HOME}/keys\n");
    assert_null(ctl_keys_file(path));
    write_file("[log]\nkeys_file = a\n");
    assert_null(ctl_keys_file(path));
    assert_null(ctl_keys_file("/does/not/exist"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(add_makes_the_file_and_prints_a_key_that_it_knows),
        TEST(what_is_there_stays_as_it_is),
        TEST(a_key_that_is_there_is_not_added_nor_one_that_is_not_removed),
        TEST(a_file_with_a_problem_is_left_alone),
        TEST(a_link_stays_a_link),
        TEST(several_at_a_time_take_turns),
        TEST(the_file_is_the_one_that_the_configuration_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
