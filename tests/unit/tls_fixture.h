/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_fixture.h - certificates made for a test, in a folder of its own, and clients that speak TLS.
 */
#ifndef TLS_FIXTURE_H
#define TLS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#define TLS_DAY_S 86400l

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static char tls_folder[64];
static struct identity tls_ca, tls_server, tls_client;

static inline void tls_extend(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    assert_non_null(extension);
    assert_int_equal(X509_add_ext(cert, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* A certificate of name, valid for days from now on (negative: expired for so long), signed by
 * issuer, or by itself. */
static inline struct identity tls_identity(const char *name, const struct identity *issuer, bool ca,
                                           long days)
{
    struct identity made = {EVP_EC_gen("P-256"), X509_new()};
    const struct identity *by = issuer != NULL ? issuer : &made;
    static long serial = 1;

    assert_non_null(made.key);
    X509_set_version(made.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(made.cert), -400 * TLS_DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(made.cert), days * TLS_DAY_S);
    X509_set_pubkey(made.cert, made.key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.cert), "CN", MBSTRING_ASC,
                               (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(made.cert, X509_get_subject_name(by->cert));
    tls_extend(made.cert, by->cert, NID_basic_constraints, ca ? "critical,CA:TRUE" : "CA:FALSE");
    assert_true(X509_sign(made.cert, by->key, EVP_sha256()) > 0);
    return made;
}

static inline void tls_identity_free(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->cert);
    *identity = (struct identity){0};
}

/* The path of a file in the test's folder; lent until the eighth call from now. */
static inline const char *tls_path(const char *name)
{
    static char paths[8][128];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", tls_folder, name);
    return path;
}

static inline void tls_write(const char *name, const char *text)
{
    FILE *file = fopen(tls_path(name), "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static inline void tls_write_certs(const char *name, X509 *first, X509 *second)
{
    FILE *file = fopen(tls_path(name), "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_X509(file, first), 1);
    if (second != NULL)
        assert_int_equal(PEM_write_X509(file, second), 1);
    fclose(file);
}

static inline void tls_write_key(const char *name, EVP_PKEY *pkey, const char *passphrase)
{
    FILE *file = fopen(tls_path(name), "w");

    assert_non_null(file);
    assert_int_equal(PEM_write_PKCS8PrivateKey(file, pkey, passphrase ? EVP_aes_128_cbc() : NULL,
                                               passphrase, passphrase ? (int)strlen(passphrase) : 0,
                                               NULL, NULL),
                     1);
    fclose(file);
}

/* A CA, a server's certificate and a client's, as cert.pem, key.pem, ca.pem. */
static inline int tls_make_folder(void **state)
{
    (void)state;
    strcpy(tls_folder, "/tmp/alloy-test-tls-XXXXXX");
    assert_non_null(mkdtemp(tls_folder));
    tls_ca = tls_identity("Test CA", NULL, true, 100);
    tls_server = tls_identity("alloy.example", &tls_ca, false, 90);
    tls_client = tls_identity("client", &tls_ca, false, 90);
    tls_write_certs("cert.pem", tls_server.cert, NULL);
    tls_write_key("key.pem", tls_server.key, NULL);
    tls_write_certs("ca.pem", tls_ca.cert, NULL);
    return 0;
}

static inline int tls_remove_folder(void **state)
{
    char command[128];

    (void)state;
    tls_identity_free(&tls_ca);
    tls_identity_free(&tls_server);
    tls_identity_free(&tls_client);
    snprintf(command, sizeof(command), "rm -r '%s'", tls_folder);
    assert_int_equal(system(command), 0);
    return 0;
}

/* A client that believes the CA; identity: what it shows when it is asked, or NULL. */
static inline SSL_CTX *tls_client_context(const struct identity *identity, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    assert_non_null(context);
    X509_STORE_add_cert(SSL_CTX_get_cert_store(context), tls_ca.cert);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (version != 0) {
        SSL_CTX_set_min_proto_version(context, version);
        SSL_CTX_set_max_proto_version(context, version);
    }
    if (identity != NULL) {
        assert_int_equal(SSL_CTX_use_certificate(context, identity->cert), 1);
        assert_int_equal(SSL_CTX_use_PrivateKey(context, identity->key), 1);
    }
    return context;
}

#endif
