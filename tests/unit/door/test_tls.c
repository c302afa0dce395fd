/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_tls.c - certificates, keys and client CAs from files, and handshakes with what they make.
 */
#include <stdbool.h>

#include "alloy/tls.h"

#include "tls_fixture.h"

#include <errno.h>
#include <sys/stat.h>

static struct tls_problems problems;

static struct tls *load(const char *cert, const char *key, const char *client_ca)
{
    const char *const paths[TLS_FILE_COUNT] = {tls_path(cert), tls_path(key),
                                               *client_ca != '\0' ? tls_path(client_ca) : ""};
    struct tls *tls;
    int err = tls_load(&tls, paths, &problems);

    assert_true((tls != NULL) == (err == 0));
    if (err != 0)
        assert_int_equal(err, -EINVAL);
    assert_int_equal(ERR_peek_error(), 0);
    return tls;
}

static struct tls *must_load(const char *cert, const char *key, const char *client_ca)
{
    struct tls *tls = load(cert, key, client_ca);

    for (size_t i = 0; i < TLS_FILE_COUNT; i++)
        assert_string_equal(problems.texts[i], "");
    return tls;
}

struct meeting {
    SSL *client, *server;
    int client_error; /* the reason of the first error; 0: none */
    bool done;
};

/* One side reads or shakes hands. False: it has failed. */
static bool step(SSL *ssl, bool shaking, int *error)
{
    char byte;
    int n;

    ERR_clear_error();
    n = shaking ? SSL_do_handshake(ssl) : SSL_read(ssl, &byte, 1);
    if (n > 0 || SSL_get_error(ssl, n) == SSL_ERROR_WANT_READ)
        return true;
    *error = ERR_GET_REASON(ERR_peek_error());
    return false;
}

/* Lets a client and a server meet; then the client reads, so that it gets tickets and alerts. */
static struct meeting meet(SSL_CTX *client_context, const struct tls *tls, SSL_SESSION *ticket)
{
    struct meeting meeting = {SSL_new(client_context), SSL_new(tls_context(tls)), 0, false};
    bool client_lives = true, server_lives = true;
    int server_error = 0;
    BIO *one, *other;

    assert_int_equal(BIO_new_bio_pair(&one, 1 << 16, &other, 1 << 16), 1);
    SSL_set_bio(meeting.client, one, one);
    SSL_set_bio(meeting.server, other, other);
    SSL_set_connect_state(meeting.client);
    SSL_set_accept_state(meeting.server);
    if (ticket != NULL)
        assert_int_equal(SSL_set_session(meeting.client, ticket), 1);
    for (int i = 0; i < 20; i++) {
        if (client_lives)
            client_lives =
                step(meeting.client, !SSL_is_init_finished(meeting.client), &meeting.client_error);
        if (server_lives)
            server_lives =
                step(meeting.server, !SSL_is_init_finished(meeting.server), &server_error);
    }
    ERR_clear_error();
    meeting.done = client_lives && server_lives && SSL_is_init_finished(meeting.server);
    return meeting;
}

static void part(struct meeting *meeting)
{
    /* A ticket of a connection that has not ended in order does not count in TLS 1.2. */
    SSL_shutdown(meeting->client);
    SSL_free(meeting->client);
    SSL_free(meeting->server);
    ERR_clear_error();
}

/* The last ticket of a client that meets tls; owned. */
static SSL_SESSION *ticket_of(SSL_CTX *client_context, const struct tls *tls, SSL_SESSION *before,
                              bool resumed)
{
    struct meeting meeting = meet(client_context, tls, before);
    SSL_SESSION *ticket;

    assert_true(meeting.done);
    assert_int_equal(SSL_session_reused(meeting.client), resumed);
    ticket = SSL_get1_session(meeting.client);
    assert_int_equal(SSL_SESSION_has_ticket(ticket), 1);
    part(&meeting);
    return ticket;
}

static void a_certificate_and_its_key_make_a_context(void **state)
{
    struct tls *tls = must_load("cert.pem", "key.pem", "");
    int64_t now_s = (int64_t)time(NULL);

    (void)state;
    assert_string_equal(tls_subject(tls), "CN=alloy.example");
    assert_in_range(tls_valid_until_s(tls), now_s + 89 * TLS_DAY_S, now_s + 91 * TLS_DAY_S);
    assert_in_range(tls_valid_from_s(tls), now_s - 401 * TLS_DAY_S, now_s - 399 * TLS_DAY_S);
    tls_destroy(tls);
}

static void one_file_can_hold_certificate_and_key(void **state)
{
    FILE *file = fopen(tls_path("both.pem"), "w");

    (void)state;
    PEM_write_PrivateKey(file, tls_server.key, NULL, NULL, 0, NULL, NULL);
    PEM_write_X509(file, tls_server.cert);
    fclose(file);
    tls_destroy(must_load("both.pem", "both.pem", ""));
}

static void an_expired_certificate_is_taken_and_says_so(void **state)
{
    struct identity old = tls_identity("old", NULL, false, -3);
    struct tls *tls;

    (void)state;
    tls_write_certs("old.pem", old.cert, NULL);
    tls_write_key("old.key", old.key, NULL);
    tls = must_load("old.pem", "old.key", "");
    assert_true(tls_valid_until_s(tls) < (int64_t)time(NULL));
    tls_destroy(tls);
    tls_identity_free(&old);
}

static void every_problem_names_its_file_and_cause(void **state)
{
    static const struct {
        const char *cert, *key, *client_ca, *texts[TLS_FILE_COUNT];
    } cases[] = {
        {"none", "key.pem", "", {"No such file or directory", "", ""}},
        {"cert.pem",
         "none",
         "none",
         {"", "No such file or directory", "No such file or directory"}},
        {"folder", "folder", "", {"Is a directory", "Is a directory", ""}},
        {"empty",
         "empty",
         "empty",
         {"it holds no certificate in PEM: no start line",
          "it holds no private key in PEM: ", "it holds no certificate in PEM: no start line"}},
        {"key.pem",
         "cert.pem",
         "key.pem",
         {"it holds no certificate in PEM: no start line",
          "it holds no private key in PEM: ", "it holds no certificate in PEM: no start line"}},
        {"torn.pem",
         "key.pem",
         "torn.pem",
         {"a certificate in it cannot be read: ", "", "a certificate in it cannot be read: "}},
        {"cert.pem", "encrypted.key", "", {"", "the key is encrypted, ", ""}},
        {"cert.pem",
         "other.key",
         "",
         {"", "it is not the key of the certificate in server.tls_cert: key values mismatch", ""}},
        {"cert.pem",
         "rsa.key",
         "",
         {"", "it is not the key of the certificate in server.tls_cert: key type mismatch", ""}},
        {"large", "large", "", {"the file is larger than 1048576 bytes", "the file is larger", ""}},
    };
    static char large[(1 << 20) + 2];
    char torn[4096] = "";
    EVP_PKEY *other = EVP_EC_gen("P-256");
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    FILE *file;

    (void)state;
    mkdir(tls_path("folder"), 0700);
    tls_write("empty", "");
    tls_write_key("encrypted.key", tls_server.key, "secret");
    tls_write_key("other.key", other, NULL);
    tls_write_key("rsa.key", rsa, NULL);
    memset(large, 'x', sizeof(large) - 1);
    tls_write("large", large);
    file = fopen(tls_path("cert.pem"), "r");
    assert_true(fread(torn, 1, sizeof(torn) - 200, file) > 0);
    fclose(file);
    strcat(torn, "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n");
    tls_write("torn.pem", torn);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_null(load(cases[i].cert, cases[i].key, cases[i].client_ca));
        for (size_t k = 0; k < TLS_FILE_COUNT; k++) {
            const char *wanted = cases[i].texts[k];

            if (strncmp(problems.texts[k], wanted, strlen(wanted)) != 0 ||
                (*wanted == '\0') != (problems.texts[k][0] == '\0'))
                fail_msg("case %zu: '%s' is not '%s'", i, problems.texts[k], wanted);
        }
    }
    EVP_PKEY_free(other);
    EVP_PKEY_free(rsa);
}

static void tls_1_2_and_1_3_are_spoken_and_no_older_one(void **state)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION, TLS1_1_VERSION};
    struct tls *tls = must_load("cert.pem", "key.pem", "");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        SSL_CTX *context = tls_client_context(NULL, versions[i]);
        struct meeting meeting;

        SSL_CTX_set_security_level(context, 0);
        meeting = meet(context, tls, NULL);
        assert_int_equal(meeting.done, versions[i] != TLS1_1_VERSION);
        if (meeting.done)
            assert_int_equal(SSL_version(meeting.server), versions[i]);
        part(&meeting);
        SSL_CTX_free(context);
    }
    tls_destroy(tls);
}

static void http_1_1_is_chosen_and_h2_alone_is_refused(void **state)
{
    static const struct {
        const char *offered;
        const char *chosen; /* NULL: refused */
    } cases[] = {
        {"\x02h2\x08http/1.1", "http/1.1"},
        {"\x08http/1.0\x08http/1.1", "http/1.1"},
        {"\x08http/1.0", "http/1.0"},
        {"\x02h2", NULL},
        {"", ""},
    };
    struct tls *tls = must_load("cert.pem", "key.pem", "");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        SSL_CTX *context = tls_client_context(NULL, 0);
        const unsigned char *chosen;
        struct meeting meeting;
        unsigned len;

        SSL_CTX_set_alpn_protos(context, (const unsigned char *)cases[i].offered,
                                (unsigned)strlen(cases[i].offered));
        meeting = meet(context, tls, NULL);
        assert_int_equal(meeting.done, cases[i].chosen != NULL);
        if (meeting.done) {
            SSL_get0_alpn_selected(meeting.client, &chosen, &len);
            assert_int_equal(len, strlen(cases[i].chosen));
            assert_memory_equal(chosen, cases[i].chosen, len);
        } else {
            assert_int_equal(meeting.client_error, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
        }
        part(&meeting);
        SSL_CTX_free(context);
    }
    tls_destroy(tls);
}

static void the_certificates_behind_the_first_are_sent(void **state)
{
    struct identity middle = tls_identity("middle", &tls_ca, true, 90);
    struct identity leaf = tls_identity("leaf", &middle, false, 90);
    SSL_CTX *context = tls_client_context(NULL, 0);
    struct meeting meeting;
    struct tls *tls;

    (void)state;
    tls_write_certs("chain.pem", leaf.cert, middle.cert);
    tls_write_key("chain.key", leaf.key, NULL);
    tls = must_load("chain.pem", "chain.key", "");
    meeting = meet(context, tls, NULL);
    assert_true(meeting.done);
    assert_string_equal(tls_subject(tls), "CN=leaf");
    part(&meeting);
    tls_destroy(tls);
    SSL_CTX_free(context);
    tls_identity_free(&middle);
    tls_identity_free(&leaf);
}

static void with_a_client_ca_only_its_clients_come_in(void **state)
{
    struct identity strange_ca = tls_identity("Test CA", NULL, true, 90);
    struct identity strange = tls_identity("client", &strange_ca, false, 90);
    struct identity old = tls_identity("client", &tls_ca, false, -1);
    const struct {
        const struct identity *identity;
        bool let_in;
    } cases[] = {{&tls_client, true}, {NULL, false}, {&strange, false}, {&old, false}};
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
    struct tls *tls = must_load("cert.pem", "key.pem", "ca.pem");

    (void)state;
    for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        SSL_CTX *context = tls_client_context(cases[i / 2].identity, versions[i % 2]);
        struct meeting meeting = meet(context, tls, NULL);

        assert_int_equal(meeting.done, cases[i / 2].let_in);
        part(&meeting);
        SSL_CTX_free(context);
    }
    tls_destroy(tls);
    tls_identity_free(&strange_ca);
    tls_identity_free(&strange);
    tls_identity_free(&old);
}

/* What signs the clients' certificates need not be a root. */
static void a_client_ca_below_the_root_will_do(void **state)
{
    struct identity middle = tls_identity("middle", &tls_ca, true, 90);
    struct identity member = tls_identity("member", &middle, false, 90);
    struct tls *tls;

    (void)state;
    tls_write_certs("middle.pem", middle.cert, NULL);
    tls = must_load("cert.pem", "key.pem", "middle.pem");
    for (int i = 0; i < 2; i++) {
        SSL_CTX *context = tls_client_context(i == 0 ? &member : &tls_client, 0);
        struct meeting meeting = meet(context, tls, NULL);

        assert_int_equal(meeting.done, i == 0);
        part(&meeting);
        SSL_CTX_free(context);
    }
    tls_destroy(tls);
    tls_identity_free(&middle);
    tls_identity_free(&member);
}

static void a_ticket_is_good_over_reloads(void **state)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
    static const char *const cas[] = {"", "ca.pem"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct tls *tls = must_load("cert.pem", "key.pem", cas[i / 2]);
        struct tls *next = must_load("cert.pem", "key.pem", cas[i / 2]);
        SSL_CTX *context = tls_client_context(i / 2 ? &tls_client : NULL, versions[i % 2]);
        SSL_SESSION *first = ticket_of(context, tls, NULL, false);
        SSL_SESSION *second = ticket_of(context, tls, first, true);
        SSL_SESSION *third;

        tls_inherit(next, tls);
        tls_destroy(tls);
        third = ticket_of(context, next, second, true);
        SSL_SESSION_free(first);
        SSL_SESSION_free(second);
        SSL_SESSION_free(third);
        SSL_CTX_free(context);
        tls_destroy(next);
    }
}

/* Whether a client that has this ticket goes on with it. */
static bool resumes(SSL_CTX *context, const struct tls *tls, SSL_SESSION *ticket)
{
    struct meeting meeting = meet(context, tls, ticket);
    bool reused;

    assert_true(meeting.done);
    reused = SSL_session_reused(meeting.client);
    part(&meeting);
    return reused;
}

#define ROTATE_MS (UINT64_C(3) * 3600 * 1000)
#define LIFETIME_MS (UINT64_C(7200) * 1000)

static void the_keys_of_tickets_end(void **state)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};
    const uint64_t begun_ms = 12345;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct tls *tls = must_load("cert.pem", "key.pem", "");
        struct tls *next = must_load("cert.pem", "key.pem", "");
        SSL_CTX *context = tls_client_context(NULL, versions[i]);
        SSL_SESSION *first = ticket_of(context, tls, NULL, false);
        SSL_SESSION *second, *renewed;

        tls_rotate(tls, begun_ms);
        tls_rotate(tls, begun_ms + ROTATE_MS - 1);
        assert_true(resumes(context, tls, first));
        /* The one before is good for as long as its last ticket, over a reload too. */
        tls_rotate(tls, begun_ms + ROTATE_MS);
        tls_inherit(next, tls);
        renewed = ticket_of(context, next, first, true);
        second = ticket_of(context, next, NULL, false);
        tls_destroy(tls);
        tls_rotate(next, begun_ms + ROTATE_MS + LIFETIME_MS - 1);
        assert_true(resumes(context, next, first));
        tls_rotate(next, begun_ms + ROTATE_MS + LIFETIME_MS);
        assert_false(resumes(context, next, first));
        assert_true(resumes(context, next, second));
        assert_true(resumes(context, next, renewed));
        /* A machine that has slept. */
        tls_rotate(next, begun_ms + 10 * ROTATE_MS);
        assert_false(resumes(context, next, second));
        SSL_SESSION_free(first);
        SSL_SESSION_free(second);
        SSL_SESSION_free(renewed);
        SSL_CTX_free(context);
        tls_destroy(next);
    }
}

static void a_ticket_says_how_long_it_is_good(void **state)
{
    struct tls *tls = must_load("cert.pem", "key.pem", "");
    SSL_CTX *context = tls_client_context(NULL, TLS1_3_VERSION);
    SSL_SESSION *ticket = ticket_of(context, tls, NULL, false);

    (void)state;
    assert_int_equal(SSL_SESSION_get_ticket_lifetime_hint(ticket), 7200);
    SSL_SESSION_free(ticket);
    SSL_CTX_free(context);
    tls_destroy(tls);
}

/* What is under way on the old context still gets a ticket, which is worth nothing. */
static void keys_that_count_no_more_are_forgotten(void **state)
{
    struct tls *open = must_load("cert.pem", "key.pem", "");
    struct tls *closed = must_load("cert.pem", "key.pem", "ca.pem");
    SSL_CTX *context = tls_client_context(NULL, TLS1_3_VERSION);
    SSL_SESSION *ticket = ticket_of(context, open, NULL, false);

    (void)state;
    tls_inherit(closed, open);
    assert_false(resumes(context, open, ticket));
    SSL_SESSION_free(ticket);
    SSL_CTX_free(context);
    tls_destroy(open);
    tls_destroy(closed);
}

/* Or clients would stay in that have no certificate, or one of a CA that no longer counts. */
static void another_client_ca_makes_tickets_worthless(void **state)
{
    static const int versions[] = {TLS1_3_VERSION, TLS1_2_VERSION};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        struct tls *open = must_load("cert.pem", "key.pem", "");
        struct tls *closed = must_load("cert.pem", "key.pem", "ca.pem");
        SSL_CTX *context = tls_client_context(NULL, versions[i]);
        SSL_SESSION *ticket = ticket_of(context, open, NULL, false);
        struct meeting meeting;

        tls_inherit(closed, open);
        meeting = meet(context, closed, ticket);
        assert_false(meeting.done);
        part(&meeting);
        SSL_SESSION_free(ticket);
        SSL_CTX_free(context);
        tls_destroy(open);
        tls_destroy(closed);
    }
}

static void files_are_the_same_by_their_content(void **state)
{
    struct tls *a = must_load("cert.pem", "key.pem", "ca.pem");
    struct tls *b = must_load("cert.pem", "key.pem", "ca.pem");
    struct tls *c = must_load("cert.pem", "key.pem", "");
    struct identity other = tls_identity("alloy.example", &tls_ca, false, 90);
    struct tls *d;

    (void)state;
    tls_write_certs("cert.pem", other.cert, NULL);
    tls_write_key("key.pem", other.key, NULL);
    d = must_load("cert.pem", "key.pem", "ca.pem");
    for (enum tls_file file = TLS_CERT; file < TLS_FILE_COUNT; file++) {
        assert_true(tls_same_file(a, b, file));
        assert_int_equal(tls_same_file(a, c, file), file != TLS_CLIENT_CA);
        assert_int_equal(tls_same_file(a, d, file), file == TLS_CLIENT_CA);
        assert_false(tls_same_file(a, NULL, file));
        assert_true(tls_same_file(NULL, NULL, file));
    }
    tls_identity_free(&other);
    tls_destroy(a);
    tls_destroy(b);
    tls_destroy(c);
    tls_destroy(d);
    tls_destroy(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, tls_make_folder, tls_remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_certificate_and_its_key_make_a_context),
        TEST(one_file_can_hold_certificate_and_key),
        TEST(an_expired_certificate_is_taken_and_says_so),
        TEST(every_problem_names_its_file_and_cause),
        TEST(tls_1_2_and_1_3_are_spoken_and_no_older_one),
        TEST(http_1_1_is_chosen_and_h2_alone_is_refused),
        TEST(the_certificates_behind_the_first_are_sent),
        TEST(with_a_client_ca_only_its_clients_come_in),
        TEST(a_client_ca_below_the_root_will_do),
        TEST(a_ticket_is_good_over_reloads),
        TEST(the_keys_of_tickets_end),
        TEST(a_ticket_says_how_long_it_is_good),
        TEST(keys_that_count_no_more_are_forgotten),
        TEST(another_client_ca_makes_tickets_worthless),
        TEST(files_are_the_same_by_their_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
