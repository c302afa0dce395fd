/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_door.c - keys, the admin port's key and trusted proxies as parts of a configuration.
 */
#include "alloy/config.h"
#include "changes_fixture.h"

#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

/* Of the keys "one" and "two". */
#define ONE "b2:d01c06cb09606bc4b2cedf4266a3a20e1e636b467cb77a9dbed595094e02ea46"
#define TWO "b2:7a52b251a3428a1b64967851157047d22919cc610c6b138e98a25280b1534b21"
#define reload(ref, text) take_over(ref, must_load(text))
#define STREAMS "[stream.a]\ntable=d.t\n[stream.b]\ntable=d.u\n"

static char folder[64], ini[80], keys_path[80], admin_path[80];
static char problems[4096];

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/alloy-test-door-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(ini, sizeof(ini), "%s/ini", folder);
    snprintf(keys_path, sizeof(keys_path), "%s/keys", folder);
    snprintf(admin_path, sizeof(admin_path), "%s/admin", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(ini);
    unlink(keys_path);
    unlink(admin_path);
    return rmdir(folder);
}

/* Loads STREAMS and what follows, in which K and A stand for the paths of the two files. */
static struct config *load(const char *text)
{
    FILE *out;
    struct config *config;
    char whole[2048] = STREAMS;

    for (size_t len = strlen(whole); *text != '\0'; text++) {
        const char *path = *text == 'K' ? keys_path : *text == 'A' ? admin_path : NULL;

        if (path != NULL)
            strcpy(whole + len, path);
        else
            strncat(whole, text, 1);
        len = strlen(whole);
    }
    write_file(ini, whole);
    memset(problems, 0, sizeof(problems));
    out = fmemopen(problems, sizeof(problems), "w");
    config = config_load(ini, NULL, 0, 2, out);
    fclose(out);
    assert_true((config == NULL) ==
                (problems[0] != '\0' && strstr(problems, ": warning: ") == NULL));
    return config;
}

static struct config *must_load(const char *text)
{
    struct config *config = load(text);

    assert_string_equal(problems, "");
    return config;
}

/* Fails with a problem of the ini file's line. */
static void must_refuse(const char *text, int line, const char *message)
{
    char place[96];

    assert_null(load(text));
    snprintf(place, sizeof(place), "%s:%d: ", ini, line);
    assert_memory_equal(problems, place, strlen(place));
    if (strstr(problems, message) == NULL)
        fail_msg("'%s' has no '%s'", problems, message);
    assert_ptr_equal(strchr(problems, '\n'), problems + strlen(problems) - 1);
}

static void beyond_loopback_the_admin_port_needs_a_key(void **state)
{
    static const char *const open[] = {
        "0.0.0.0:1",
        "[::]:1",
        "192.0.2.1:1",
        "[2001:db8::1]:1",
        "alloy.example:1",
        "128.0.0.1:1",
        "127.0.0.1:1, 10.0.0.1:1",
        "[::ffff:10.0.0.1]:1",
        "localhost.example:1",
    };
    static const char *const closed[] = {
        "",        "127.0.0.1:1",      "127.1.2.3:1",
        "[::1]:1", "localhost:1",      "LocalHost:1",
        "unix:/s", "unix:/s, [::1]:1", "[::ffff:127.0.0.1]:1",
    };
    char text[256];

    (void)state;
    write_file(admin_path, "secret\nsecond line\n");
    for (size_t i = 0; i < ARRAY_LEN(open); i++) {
        struct config *config;

        snprintf(text, sizeof(text), "[admin]\nlisten = %s\n", open[i]);
        must_refuse(text, 6, "admin.key_file");
        snprintf(text, sizeof(text), "[admin]\nlisten = %s\nkey_file = A\n", open[i]);
        config = must_load(text);
        assert_true(config->has_admin_key);
        config_destroy(config);
    }
    for (size_t i = 0; i < ARRAY_LEN(closed); i++) {
        snprintf(text, sizeof(text), "[admin]\nlisten = %s\n", closed[i]);
        config_destroy(must_load(text));
    }
}

static void the_admin_ports_key_is_its_files_first_line(void **state)
{
    unsigned char hash[KEYS_HASH_BYTES];
    struct config *config;

    (void)state;
    write_file(admin_path, "secret\r\nmore\n");
    config = must_load("[admin]\nkey_file = A\n");
    keys_hash((struct slice){"secret", 6}, hash);
    assert_true(keys_hash_equal(hash, config->admin_key_hash));
    config_destroy(config);
    write_file(admin_path, "\nsecret\n");
    must_refuse("[admin]\nkey_file = A\n", 6, "its first line must be 1 to 1024 bytes");
    must_refuse("[admin]\nkey_file = /does/not/exist\n", 6, "No such file or directory");
    must_refuse("[admin]\nkey_file = /\n", 6, "Is a directory");
}

static void a_keys_file_is_read_and_bound_to_the_streams(void **state)
{
    struct config *config;

    (void)state;
    write_file(keys_path, "one " ONE " b\ntwo " TWO " a,b,c 7\n");
    config = must_load("[auth]\nkeys_file = K\n");
    assert_int_equal(keys_count(config->keys), 2);
    assert_false(keys_allows(keys_at(config->keys, 0), 0));
    assert_true(keys_allows(keys_at(config->keys, 0), 1));
    assert_int_equal(keys_at(config->keys, 1)->strangers, 1);
    config_destroy(config);
    config = must_load("");
    assert_null(config->keys);
    config_destroy(config);
}

static void a_wrong_keys_file_is_told_line_by_line(void **state)
{
    char expected[512];

    (void)state;
    write_file(keys_path, "one " ONE " b\nthree\none " TWO " *\n");
    assert_null(load("[auth]\nkeys_file = K\n"));
    snprintf(expected, sizeof(expected),
             "%s:2: a line is: name hash streams [events a second]\n"
             "%s:3: the name one is given twice; the first is on line 1\n",
             keys_path, keys_path);
    assert_string_equal(problems, expected);
    must_refuse("[auth]\nkeys_file = /does/not/exist\n", 6, "No such file or directory");
}

static void a_reload_takes_over_what_the_keys_file_says_now(void **state)
{
    struct config_ref ref = {NULL};
    const struct config *first;

    (void)state;
    write_file(keys_path, "one " ONE " b\n");
    config_publish(&ref, must_load("[auth]\nkeys_file = K\n"));
    first = config_current(&ref);
    keys_at(first->keys, 0)->state->events = 3;

    /* The same again is the same table. */
    assert_string_equal(reload(&ref, "[auth]\nkeys_file = K\n"), "");
    assert_ptr_equal(config_current(&ref)->keys, first->keys);

    write_file(keys_path, "two " TWO " a\none " ONE " a\n");
    assert_string_equal(reload(&ref, "[auth]\nkeys_file = K\n"), "auth.keys_file ");
    assert_string_equal(keys_at(config_current(&ref)->keys, 0)->name, "two");
    assert_int_equal(keys_at(config_current(&ref)->keys, 1)->state->events, 3);
    assert_true(keys_allows(keys_at(config_current(&ref)->keys, 1), 0));

    assert_string_equal(reload(&ref, ""), "auth.keys_file ");
    assert_null(config_current(&ref)->keys);
    assert_string_equal(reload(&ref, "[auth]\nkeys_file = K\n"), "auth.keys_file ");
    assert_int_equal(keys_at(config_current(&ref)->keys, 1)->state->events, 0);
    assert_string_equal(reload(&ref, "[limits]\naddress_events = 5\n"),
                        "auth.keys_file limits.address_events ");
    assert_int_equal(config_current(&ref)->limits_address_events, 5);
    config_destroy(ref.current);
}

static void streams_are_those_in_force_whatever_a_reload_says(void **state)
{
    struct config_ref ref = {NULL};
    FILE *file;

    (void)state;
    write_file(keys_path, "one " ONE " b\n");
    config_publish(&ref, must_load("[auth]\nkeys_file = K\n"));
    write_file(ini, "");
    file = fopen(ini, "w");
    fprintf(file, "[stream.b]\ntable=d.u\n[auth]\nkeys_file=%s\n", keys_path);
    fclose(file);
    config_publish(&ref, config_load(ini, NULL, 0, 2, stderr));
    assert_false(keys_allows(keys_at(config_current(&ref)->keys, 0), 0));
    assert_true(keys_allows(keys_at(config_current(&ref)->keys, 0), 1));
    config_destroy(ref.current);
}

static void an_admin_port_in_use_never_loses_its_key(void **state)
{
    struct config_ref ref = {NULL};
    unsigned char first[KEYS_HASH_BYTES], second[KEYS_HASH_BYTES];

    (void)state;
    keys_hash((struct slice){"first", 5}, first);
    keys_hash((struct slice){"second", 6}, second);
    write_file(admin_path, "first\n");
    config_publish(&ref, must_load("[admin]\nlisten = 0.0.0.0:1\nkey_file = A\n"));
    assert_string_equal(reload(&ref, "[admin]\nlisten = 127.0.0.1:1\n"),
                        "admin.listen! admin.key_file! ");
    assert_true(config_current(&ref)->has_admin_key);
    assert_true(keys_hash_equal(config_current(&ref)->admin_key_hash, first));
    /* Another key in the same file counts at once. */
    write_file(admin_path, "second\n");
    assert_string_equal(reload(&ref, "[admin]\nlisten = 0.0.0.0:1\nkey_file = A\n"),
                        "admin.key_file ");
    assert_true(keys_hash_equal(config_current(&ref)->admin_key_hash, second));
    config_destroy(ref.current);
}

static bool trusts(const struct config *config, const char *text)
{
    struct address address;

    assert_true(address_parse((struct slice){text, strlen(text)}, &address));
    return config->trusted_proxies != NULL && networks_have(config->trusted_proxies, &address);
}

static void a_wrong_proxy_is_told_with_its_line(void **state)
{
    (void)state;
    must_refuse("[server]\ntrusted_proxies = 10.0.0.0/8, proxy.example\n", 6,
                "server.trusted_proxies = proxy.example: this is no address");
    must_refuse("[server]\ntrusted_proxies = 10.0.0.0/40\n", 6, "are 0 to 32");
    must_refuse("[server]\ntrusted_proxies = ::1,\n", 6, "an address is missing");
}

static void what_is_hardly_meant_is_a_warning(void **state)
{
    struct config *config = load("[server]\ntrusted_proxies = 10.1.1.1/8\n");
    char text[256];

    (void)state;
    assert_non_null(config);
    snprintf(text, sizeof(text),
             "%s:6: warning: server.trusted_proxies = 10.1.1.1/8: its address has bits beyond its "
             "network's, which do not count\n",
             ini);
    assert_string_equal(problems, text);
    assert_true(trusts(config, "10.9.9.9"));
    config_destroy(config);
}

static void a_reload_changes_whom_we_trust(void **state)
{
    struct config_ref ref = {NULL};

    (void)state;
    config_publish(&ref, must_load(""));
    assert_null(config_current(&ref)->trusted_proxies);
    assert_string_equal(reload(&ref, "[server]\ntrusted_proxies = 10.0.0.0/8\n"),
                        "server.trusted_proxies ");
    assert_true(trusts(config_current(&ref), "10.9.9.9"));
    assert_string_equal(reload(&ref, "[server]\ntrusted_proxies = 10.0.0.0/8\n"), "");
    assert_true(trusts(config_current(&ref), "10.9.9.9"));
    assert_string_equal(reload(&ref, "[server]\ntrusted_proxies = ::1\nproxy_protocol = on\n"),
                        "server.proxy_protocol! server.trusted_proxies ");
    assert_false(trusts(config_current(&ref), "10.9.9.9"));
    assert_true(trusts(config_current(&ref), "::1"));
    assert_false(config_current(&ref)->server_proxy_protocol);
    assert_string_equal(reload(&ref, ""), "server.trusted_proxies ");
    assert_null(config_current(&ref)->trusted_proxies);
    config_destroy(ref.current);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(beyond_loopback_the_admin_port_needs_a_key),
        TEST(the_admin_ports_key_is_its_files_first_line),
        TEST(a_keys_file_is_read_and_bound_to_the_streams),
        TEST(a_wrong_keys_file_is_told_line_by_line),
        TEST(a_reload_takes_over_what_the_keys_file_says_now),
        TEST(streams_are_those_in_force_whatever_a_reload_says),
        TEST(an_admin_port_in_use_never_loses_its_key),
        TEST(a_wrong_proxy_is_told_with_its_line),
        TEST(what_is_hardly_meant_is_a_warning),
        TEST(a_reload_changes_whom_we_trust),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
