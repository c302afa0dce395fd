/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_files.c - files and folders that keys name, and that are not there.
 */
#include "config_fixture.h"

static const struct named_key {
    const char *name, *help;
} text_keys[] = {
#define KEY_STR(section, key, default_text, reload, help) {#section "." #key, help},
#include "alloy/config_keys.def"
};

/* key = path, and what it is said of it. */
static void assert_told(const char *key, const char *value, const char *why)
{
    const char *overrides[] = {"server.tls_listen=127.0.0.1:1", "server.tls_cert=/dev/null",
                               "server.tls_key=/dev/null", NULL};
    const bool tls = strncmp(key, "server.tls", 10) == 0;
    char override[256], told[512];

    snprintf(override, sizeof(override), "%s=%s", key, value);
    snprintf(told, sizeof(told), ": %s = %s: %s\n", key, value, why);
    overrides[3] = override;
    config_destroy(load_with(STREAM, tls ? overrides : overrides + 3, tls ? 4 : 1, CPUS));
    if (strstr(problems, told) == NULL)
        fail_msg("not told: %sbut: %s", told, problems);
}

static void every_file_that_a_key_names_is_looked_at(void **state)
{
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(text_keys); i++) {
        if (strncmp(text_keys[i].help, "File ", 5) != 0)
            continue;
        assert_told(text_keys[i].name, "/nonexistent/file", "No such file or directory");
        assert_told(text_keys[i].name, "/proc", "Is a directory");
        count++;
    }
    assert_int_equal(count, 6);
}

static void every_folder_that_a_key_names_is_looked_at(void **state)
{
    size_t count = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(text_keys); i++) {
        if (strncmp(text_keys[i].help, "Folder ", 7) != 0)
            continue;
        assert_told(text_keys[i].name, "/dev/null", "/dev/null is not a folder");
        assert_told(text_keys[i].name, "/dev/null/a//b/", "/dev/null is not a folder");
        count++;
    }
    assert_int_equal(count, 2);
    assert_told("server.listen", "unix:/dev/null/socket", "/dev/null is not a folder");
    assert_told("server.tls_listen", "unix:/dev/null/socket", "/dev/null is not a folder");
    assert_told("admin.listen", "unix:/dev/null/socket", "/dev/null is not a folder");
}

static void files_of_redis_are_told_without_the_password(void **state)
{
    static const char *const names[] = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names) * 2; i++) {
        const char *const name = names[i / 2];
        char text[512], told[128];

        snprintf(text, sizeof(text), STREAM "[redis]\nurl = rediss://:secret@h?%s=%s%s\n", name,
                 i % 2 == 0 ? "/nonexistent/file" : "/proc",
                 i / 2 == 0   ? ""
                 : i / 2 == 1 ? "&ssl_keyfile=/dev/null"
                              : "&ssl_certfile=/dev/null");
        assert_null(load(text));
        snprintf(told, sizeof(told), ":4: redis.url: %s = %s\n", name,
                 i % 2 == 0 ? "/nonexistent/file: No such file or directory"
                            : "/proc: Is a directory");
        assert_non_null(strstr(problems, told));
        assert_null(strstr(problems, "secret"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_that_a_key_names_is_looked_at),
        cmocka_unit_test(every_folder_that_a_key_names_is_looked_at),
        cmocka_unit_test(files_of_redis_are_told_without_the_password),
    };

    return cmocka_run_group_tests(tests, make_path, remove_path);
}
