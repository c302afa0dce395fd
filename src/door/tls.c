/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls.c - the certificate of the event port: what server.tls_cert, tls_key and tls_client_ca say.
 *
 * The files are read into memory first, so that what is compared with the next reload is what is in
 * use. A context never changes once connections use it: a reload makes another one.
 *
 * A client resumes with a ticket, which holds all of its handshake, encrypted: we remember nothing
 * of it, and no threads meet at a cache. The tickets' keys (tickets.c) live over reloads, and end
 * by themselves. A ticket says for whom its client had a certificate; so another client CA means
 * other keys, and tickets of the one before mean a whole handshake.
 *
 * Runs on: see tls.h.
 * Owns: the contexts.
 */
#include "alloy/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alloy/records.h"
#include "tickets.h"

#define FILE_MAX (1ul << 20)
#define DIGEST_BYTES 32
/* Of TLS 1.2; all of TLS 1.3 are fine. Forward secrecy, and no CBC. */
#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

_Static_assert(DIGEST_BYTES <= SSL_MAX_SID_CTX_LENGTH, "a client CA's digest names its tickets");

struct tls {
    SSL_CTX *context;
    char *subject;
    int64_t valid_from_s, valid_until_s;
    unsigned char digests[TLS_FILE_COUNT][DIGEST_BYTES]; /* SHA-256 of each file */
};

/* Files on their way to a context. */
struct tls_reader {
    struct tls *tls;
    const char *const *paths;
    struct tls_problems *problems;
    X509 *leaf;
    bool wrong;
    bool no_memory;
};

/* Notes what is wrong with a file, once. */
static PRINTF_LIKE(3, 4) void tls_problem(struct tls_reader *reader, enum tls_file file,
                                          const char *format, ...)
{
    char *text = reader->problems->texts[file];
    va_list args;

    reader->wrong = true;
    if (*text != '\0')
        return;
    va_start(args, format);
    vsnprintf(text, TLS_PROBLEM_MAX, format, args);
    va_end(args);
}

/* What OpenSSL complains of. */
static const char *tls_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason != NULL ? reason : "OpenSSL does not say why";
}

/* Reads up to size bytes of a file. Returns their number, or -errno. */
static ssize_t tls_read_bytes(const char *path, char *data, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t n = 1;

    if (fd < 0)
        return -errno;
    while (n > 0 && len < size) {
        n = read(fd, data + len, size - len);
        if (n > 0)
            len += (size_t)n;
        else if (n < 0 && errno == EINTR)
            n = 1;
    }
    if (n < 0)
        n = -errno;
    close(fd);
    return n < 0 ? n : (ssize_t)len;
}

/* Returns the content of a file, owned (tls_free_file()), or NULL. */
static BIO *tls_open_file(struct tls_reader *reader, enum tls_file file)
{
    char *data = malloc(FILE_MAX + 1);
    BIO *bio = BIO_new(BIO_s_mem());
    ssize_t len;

    if (data == NULL || bio == NULL) {
        reader->no_memory = true;
        goto free_both;
    }
    len = tls_read_bytes(reader->paths[file], data, FILE_MAX + 1);
    if (len < 0) {
        tls_problem(reader, file, "%s", strerror((int)-len));
        goto free_data;
    }
    if ((size_t)len > FILE_MAX) {
        tls_problem(reader, file, "the file is larger than %lu bytes", FILE_MAX);
        goto free_data;
    }
    if (BIO_write(bio, data, (int)len) != (int)len ||
        EVP_Q_digest(NULL, "SHA256", NULL, data, (size_t)len, reader->tls->digests[file], NULL) !=
            1) {
        reader->no_memory = true;
        goto free_data;
    }
    explicit_bzero(data, (size_t)len);
    free(data);
    return bio;

free_data:
    explicit_bzero(data, FILE_MAX + 1);
free_both:
    free(data);
    BIO_free(bio);
    return NULL;
}

/* The content may be a key. */
static void tls_free_file(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);

    if (len > 0)
        explicit_bzero(data, (size_t)len);
    BIO_free(bio);
}

/* OpenSSL would ask on the terminal for the passphrase of what is encrypted. */
static int tls_no_passphrase(char *out, int size, int writing, void *asked)
{
    (void)out;
    (void)size;
    (void)writing;
    *(bool *)asked = true;
    return -1;
}

/* After the last certificate of a file: tells of what follows and is none. */
static void tls_check_end(struct tls_reader *reader, enum tls_file file)
{
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        tls_problem(reader, file, "a certificate in it cannot be read: %s", tls_reason());
    ERR_clear_error();
}

static int64_t tls_seconds(const ASN1_TIME *time)
{
    struct tm tm;

    return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* Notes whose certificate it is, and until when. */
static void tls_describe(struct tls_reader *reader)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    long len;

    if (bio == NULL ||
        X509_NAME_print_ex(bio, X509_get_subject_name(reader->leaf), 0, XN_FLAG_RFC2253) < 0) {
        reader->no_memory = true;
    } else {
        len = BIO_get_mem_data(bio, &text);
        reader->tls->subject = len > 0 ? strndup(text, (size_t)len) : strdup("");
        reader->no_memory = reader->no_memory || reader->tls->subject == NULL;
    }
    BIO_free(bio);
    reader->tls->valid_from_s = tls_seconds(X509_get0_notBefore(reader->leaf));
    reader->tls->valid_until_s = tls_seconds(X509_get0_notAfter(reader->leaf));
}

static void tls_take_certificates(struct tls_reader *reader, BIO *bio)
{
    SSL_CTX *context = reader->tls->context;
    bool asked = false;
    X509 *next;

    reader->leaf = PEM_read_bio_X509_AUX(bio, NULL, tls_no_passphrase, &asked);
    if (reader->leaf == NULL) {
        tls_problem(reader, TLS_CERT, "it holds no certificate in PEM: %s", tls_reason());
        return;
    }
    if (SSL_CTX_use_certificate(context, reader->leaf) != 1) {
        tls_problem(reader, TLS_CERT, "the certificate cannot be used: %s", tls_reason());
        return;
    }
    while ((next = PEM_read_bio_X509(bio, NULL, tls_no_passphrase, &asked)) != NULL) {
        if (SSL_CTX_add0_chain_cert(context, next) != 1) {
            tls_problem(reader, TLS_CERT, "a certificate behind the first cannot be used: %s",
                        tls_reason());
            X509_free(next);
            return;
        }
    }
    tls_check_end(reader, TLS_CERT);
    tls_describe(reader);
}

static void tls_take_key(struct tls_reader *reader, BIO *bio)
{
    bool asked = false;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, tls_no_passphrase, &asked);

    if (asked)
        tls_problem(reader, TLS_KEY,
                    "the key is encrypted, and nobody is there to type a passphrase: write it as "
                    "openssl pkey -in FILE -out NEW does, and let only alloyd read it");
    else if (key == NULL)
        tls_problem(reader, TLS_KEY, "it holds no private key in PEM: %s", tls_reason());
    else if (reader->leaf != NULL && X509_check_private_key(reader->leaf, key) != 1)
        tls_problem(reader, TLS_KEY, "it is not the key of the certificate in server.tls_cert: %s",
                    tls_reason());
    else if (reader->leaf != NULL && SSL_CTX_use_PrivateKey(reader->tls->context, key) != 1)
        tls_problem(reader, TLS_KEY, "the key cannot be used: %s", tls_reason());
    EVP_PKEY_free(key);
    ERR_clear_error();
}

/* Each of these certificates is trusted by itself, be it a root or not. */
static void tls_take_client_ca(struct tls_reader *reader, BIO *bio)
{
    SSL_CTX *context = reader->tls->context;
    X509_STORE *store = SSL_CTX_get_cert_store(context);
    bool asked = false;
    size_t count = 0;
    X509 *ca;

    while ((ca = PEM_read_bio_X509(bio, NULL, tls_no_passphrase, &asked)) != NULL) {
        count++;
        if (X509_STORE_add_cert(store, ca) != 1 || SSL_CTX_add_client_CA(context, ca) != 1)
            reader->no_memory = true;
        X509_free(ca);
    }
    if (count == 0)
        tls_problem(reader, TLS_CLIENT_CA, "it holds no certificate in PEM: %s", tls_reason());
    tls_check_end(reader, TLS_CLIENT_CA);
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

/* A client that offers only protocols that we do not speak, as HTTP/2, hears so at once. */
static int tls_choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                               const unsigned char *offered, unsigned offered_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1\x08http/1.0";
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, offered, offered_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* False: out of memory. */
static bool tls_set_up(SSL_CTX *context)
{
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* An idle connection holds no buffer. What is sent again lies elsewhere by then. */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    /* A read ends when what was read ahead is used up, though it were all new keys and no data: a
     * client could go on for ever, and nobody else would be served. */
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    /* One read(2) for a record, and not one for its head and one for the rest. */
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(context, tls_choose_protocol, NULL);
    /* Ours comes first, AES-256, for which records.h has its own way; a client that puts ChaCha20
     * first has no AES in its processor, and gets it. */
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    records_attach(context);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context, CIPHERS) == 1;
}

static void tls_take_files(struct tls_reader *reader)
{
    static void (*const take[TLS_FILE_COUNT])(struct tls_reader *, BIO *) = {
        [TLS_CERT] = tls_take_certificates,
        [TLS_KEY] = tls_take_key,
        [TLS_CLIENT_CA] = tls_take_client_ca,
    };

    for (enum tls_file file = TLS_CERT; file < TLS_FILE_COUNT; file++) {
        BIO *bio = NULL;

        if (file != TLS_CLIENT_CA || *reader->paths[file] != '\0')
            bio = tls_open_file(reader, file);
        if (bio == NULL)
            continue;
        ERR_clear_error();
        take[file](reader, bio);
        tls_free_file(bio);
    }
}

int tls_load(struct tls **out, const char *const paths[TLS_FILE_COUNT],
             struct tls_problems *problems)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    struct tls_reader reader = {.tls = tls, .paths = paths, .problems = problems};

    *out = NULL;
    *problems = (struct tls_problems){0};
    if (tls == NULL)
        return -ENOMEM;
    ERR_clear_error();
    tls->context = SSL_CTX_new(TLS_server_method());
    if (tls->context == NULL || !tls_set_up(tls->context) || !tickets_attach(tls->context))
        reader.no_memory = true;
    else
        tls_take_files(&reader);
    if (!reader.no_memory && !reader.wrong &&
        SSL_CTX_set_session_id_context(tls->context, tls->digests[TLS_CLIENT_CA], DIGEST_BYTES) !=
            1)
        reader.no_memory = true;
    X509_free(reader.leaf);
    ERR_clear_error();
    if (!reader.no_memory && !reader.wrong) {
        *out = tls;
        return 0;
    }
    tls_destroy(tls);
    return reader.wrong ? -EINVAL : -ENOMEM;
}

void tls_destroy(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->context);
    free(tls->subject);
    free(tls);
}

void tls_inherit(struct tls *tls, const struct tls *before)
{
    if (tls_same_file(tls, before, TLS_CLIENT_CA))
        tickets_share(tls->context, before->context);
    else
        tickets_retire(before->context);
}

void tls_rotate(const struct tls *tls, uint64_t now_ms)
{
    tickets_rotate(tls->context, now_ms);
}

bool tls_same_file(const struct tls *a, const struct tls *b, enum tls_file file)
{
    if (a == NULL || b == NULL)
        return a == b;
    return memcmp(a->digests[file], b->digests[file], DIGEST_BYTES) == 0;
}

struct ssl_ctx_st *tls_context(const struct tls *tls)
{
    return tls->context;
}

const char *tls_subject(const struct tls *tls)
{
    return tls->subject;
}

int64_t tls_valid_from_s(const struct tls *tls)
{
    return tls->valid_from_s;
}

int64_t tls_valid_until_s(const struct tls *tls)
{
    return tls->valid_until_s;
}
