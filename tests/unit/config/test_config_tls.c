/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_config_tls.c - addresses and certificates for TLS as parts of a configuration.
 */
#include "alloy/config.h"
#include "changes_fixture.h"

#include "tls_fixture.h"

#define reload(ref, text) take_over(ref, must_load(text))

static char problems[4096];

/* Loads a stream and what follows, in which @ stands for the test's folder. */
static struct config *load(const char *text)
{
    char whole[4096] = "[stream.a]\ntable=d.t\n";
    struct config *config;
    FILE *out;

    for (size_t len = strlen(whole); *text != '\0'; text++) {
        if (*text == '@')
            strcpy(whole + len, tls_folder);
        else
            strncat(whole, text, 1);
        len = strlen(whole);
    }
    tls_write("ini", whole);
    memset(problems, 0, sizeof(problems));
    out = fmemopen(problems, sizeof(problems), "w");
    config = config_load(tls_path("ini"), NULL, 0, 2, out);
    fclose(out);
    assert_true((config == NULL) == (problems[0] != '\0'));
    return config;
}

static struct config *must_load(const char *text)
{
    struct config *config = load(text);

    assert_string_equal(problems, "");
    return config;
}

/* Fails with just these problems of lines, each with the message. */
static void must_refuse(const char *text, int line, const char *message)
{
    char expected[512];

    assert_null(load(text));
    snprintf(expected, sizeof(expected), "%s:%d: %s", tls_path("ini"), line, message);
    if (strncmp(problems, expected, strlen(expected)) != 0)
        fail_msg("'%s' is not '%s'", problems, expected);
    assert_ptr_equal(strchr(problems, '\n'), problems + strlen(problems) - 1);
}

#define FILES "tls_cert = @/cert.pem\ntls_key = @/key.pem\n"

static void addresses_are_plain_or_tls(void **state)
{
    struct config *config =
        must_load("[server]\nlisten = 127.0.0.1:1, unix:/a\ntls_listen = [::]:2, unix:/b\n" FILES);

    (void)state;
    assert_int_equal(config->server_address_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(config->server_addresses[i].tls, i >= 2);
    assert_string_equal(config->server_addresses[3].host, "/b");
    assert_non_null(config->tls);
    config_destroy(config);
    config = must_load("[server]\nlisten =\ntls_listen = 127.0.0.1:1\n" FILES);
    assert_int_equal(config->server_address_count, 1);
    config_destroy(config);
    config = must_load("");
    assert_null(config->tls);
    config_destroy(config);
}

static void what_does_not_fit_together_is_named(void **state)
{
    (void)state;
    must_refuse("[server]\nlisten =\n", 4, "server.listen = : an address is missing");
    must_refuse("[server]\nlisten = a:1, b:2\ntls_listen = b:2\n" FILES, 5,
                "server.tls_listen = b:2 is in listen too: a port speaks TLS or not");
    must_refuse("[server]\ntls_listen = b:2, b:2\n" FILES, 4,
                "server.tls_listen = b:2 is given twice");
    must_refuse("[server]\ntls_listen = 127.0.0.1\n" FILES, 4,
                "server.tls_listen = 127.0.0.1: the port is missing");
    must_refuse("[server]\ntls_listen = 127.0.0.1:9\n" FILES "[admin]\nlisten = 127.0.0.1:9\n", 8,
                "admin.listen = 127.0.0.1:9 and server.tls_listen = 127.0.0.1:9 have an address");
    must_refuse("[server]\ntls_listen = b:2\ntls_key = @/key.pem\n", 4,
                "server.tls_listen needs the file of a certificate in server.tls_cert");
    must_refuse("[server]\ntls_listen = b:2\ntls_cert = @/cert.pem\n", 4,
                "server.tls_listen needs the file of a private key in server.tls_key");
    must_refuse("[server]\ntls_client_ca = @/ca.pem\n", 4,
                "server.tls_client_ca does nothing without server.tls_listen");
}

static void a_wrong_file_is_told_with_its_key(void **state)
{
    (void)state;
    must_refuse("[server]\ntls_listen = b:2\ntls_cert = /none\ntls_key = @/key.pem\n", 5,
                "server.tls_cert = /none: No such file or directory");
    must_refuse("[server]\ntls_listen = b:2\n" FILES "tls_client_ca = /\n", 7,
                "server.tls_client_ca = /: Is a directory");
    tls_write_key("key.pem", tls_client.key, NULL);
    assert_null(load("[server]\ntls_listen = b:2\n" FILES));
    assert_non_null(strstr(problems, "/key.pem: it is not the key of the certificate"));
}

#define BOTH "[server]\ntls_listen = b:2\n" FILES

static void a_reload_takes_over_new_contents_and_nothing_else(void **state)
{
    struct identity next = tls_identity("next.example", &tls_ca, false, 90);
    struct config_ref ref = {NULL};
    const struct tls *first, *second;

    (void)state;
    config_publish(&ref, must_load(BOTH));
    first = config_current(&ref)->tls;
    assert_string_equal(reload(&ref, BOTH), "");
    assert_ptr_equal(config_current(&ref)->tls, first);

    tls_write_certs("cert.pem", next.cert, NULL);
    tls_write_key("key.pem", next.key, NULL);
    assert_string_equal(reload(&ref, BOTH), "server.tls_cert server.tls_key ");
    second = config_current(&ref)->tls;
    assert_string_equal(tls_subject(second), "CN=next.example");
    assert_string_equal(tls_subject(first), "CN=alloy.example");

    assert_string_equal(reload(&ref, BOTH "tls_client_ca = @/ca.pem\n"), "server.tls_client_ca ");
    assert_ptr_not_equal(config_current(&ref)->tls, second);
    tls_write_certs("ca.pem", tls_server.cert, NULL);
    assert_string_equal(reload(&ref, BOTH "tls_client_ca = @/ca.pem\n"), "server.tls_client_ca ");
    config_destroy(ref.current);
    tls_identity_free(&next);
}

static void a_port_speaks_tls_until_a_restart(void **state)
{
    struct config_ref ref = {NULL};
    const struct tls *first;

    (void)state;
    config_publish(&ref, must_load(BOTH));
    first = config_current(&ref)->tls;
    assert_string_equal(reload(&ref, ""), "server.tls_listen! server.tls_cert server.tls_key ");
    assert_ptr_equal(config_current(&ref)->tls, first);
    assert_int_equal(config_current(&ref)->server_address_count, 2);
    config_destroy(ref.current);

    ref.current = NULL;
    config_publish(&ref, must_load(""));
    assert_string_equal(reload(&ref, BOTH), "server.tls_listen! server.tls_cert server.tls_key ");
    assert_null(config_current(&ref)->tls);
    config_destroy(ref.current);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tls_make_folder, tls_remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(addresses_are_plain_or_tls),
        TEST(what_does_not_fit_together_is_named),
        TEST(a_wrong_file_is_told_with_its_key),
        TEST(a_reload_takes_over_new_contents_and_nothing_else),
        TEST(a_port_speaks_tls_until_a_restart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
