/* SPDX-License-Identifier: Apache-2.0 */
/*
 * records.c - the records of a TLS 1.3 connection once its handshake is over (RFC 8446 section 5).
 *
 * The secrets come from OpenSSL's callback for key logs, which is the one way that it has to tell
 * them; the line never leaves memory. With our secret OpenSSL has sent tickets already, and the
 * callback for messages counts those records.
 *
 * A client may change its keys at any time, and ask that we change ours (section 4.6.3); we do so
 * with the next record that we send, and by ourselves long before a key has made as many records
 * as it may (section 5.5).
 *
 * libsodium's AES-256-GCM looks at the tag before it writes a byte, and may work in place. It is
 * quick with short records, OpenSSL's with long ones: a client that sends such gets a context.
 *
 * Runs on: see records.h.
 * Owns: keys and secrets, which are erased.
 */
#include "alloy/records.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>
#include <openssl/tls1.h>
#include <sodium.h>

#include <stdlib.h>
#include <string.h>

#define TAG crypto_aead_aes256gcm_ABYTES
#define NONCE crypto_aead_aes256gcm_NPUBBYTES
#define KEY crypto_aead_aes256gcm_KEYBYTES
#define RANDOM_HEX 64                     /* of a client, in a line of a key log */
#define SEALED_MAX (UINT64_C(1) << 23)    /* records with one key, of 2^24.5 that are safe */
#define INNER_MAX (RECORDS_PLAIN_MAX + 1) /* with its type, and padding */
#define LONG_BYTES 4096                   /* bytes of a record that OpenSSL opens faster */
#define UPDATE_BYTES (RECORDS_HEAD + 5 + 1 + TAG)

enum records_type {
    RECORDS_TYPE_ALERT = 21,
    RECORDS_TYPE_HANDSHAKE = 22,
    RECORDS_TYPE_DATA = 23,
};

enum records_alert_code {
    RECORDS_ALERT_CLOSE = 0,
    RECORDS_ALERT_UNEXPECTED = 10,
    RECORDS_ALERT_MAC = 20,
    RECORDS_ALERT_OVERFLOW = 22,
    RECORDS_ALERT_ILLEGAL = 47,
    RECORDS_ALERT_DECODE = 50,
    RECORDS_ALERT_INTERNAL = 80,
    RECORDS_ALERT_CANCELED = 90,
};

/* One direction. */
struct records_side {
    crypto_aead_aes256gcm_state aes; /* first: it must be aligned */
    unsigned char iv[NONCE];
    uint64_t count;
    unsigned char secret[RECORDS_SECRET];
};

struct records {
    struct records_side in, out;
    EVP_CIPHER_CTX *longs; /* of in, for long records; NULL: there was none yet */
    enum records_alert_code alert;
    size_t update_len;         /* of update; 0: our keys stay */
    char update[UPDATE_BYTES]; /* goes before our next record, which has new keys */
};

/* A message that announces new keys, but for its last byte: 1 asks the other side to do the same.
 */
static const char key_update[] = {24, 0, 0, 1};

/* HKDF-Expand-Label with SHA-384 (RFC 8446 section 7.1), of one block at most. False: out of
 * memory. */
static bool records_derive(const unsigned char *secret, const char *label, unsigned char *out,
                           size_t len)
{
    unsigned char info[64], block[EVP_MAX_MD_SIZE];
    const size_t label_len = strlen(label);
    unsigned block_len = 0;
    size_t at = 0;

    ALLOY_ASSERT(len <= RECORDS_SECRET && label_len <= 32);
    info[at++] = 0;
    info[at++] = (unsigned char)len;
    info[at++] = (unsigned char)(6 + label_len);
    memcpy(info + at, "tls13 ", 6);
    memcpy(info + at + 6, label, label_len);
    at += 6 + label_len;
    info[at++] = 0;
    info[at++] = 1; /* the number of the block */
    if (HMAC(EVP_sha384(), secret, RECORDS_SECRET, info, at, block, &block_len) == NULL) {
        ERR_clear_error();
        return false;
    }
    ALLOY_ASSERT(block_len == RECORDS_SECRET);
    memcpy(out, block, len);
    sodium_memzero(block, sizeof(block));
    return true;
}

/* Gives the side this secret, and its keys. False: out of memory; the side is as before. */
static bool records_set_secret(struct records_side *side, const unsigned char *secret)
{
    unsigned char key[KEY], iv[NONCE];

    if (!records_derive(secret, "key", key, sizeof(key)) ||
        !records_derive(secret, "iv", iv, sizeof(iv)))
        return false;
    memcpy(side->secret, secret, RECORDS_SECRET);
    memcpy(side->iv, iv, NONCE);
    (void)crypto_aead_aes256gcm_beforenm(&side->aes, key);
    sodium_memzero(key, sizeof(key));
    side->count = 0;
    return true;
}

/* Goes on to the side's next secret. False as above. */
static bool records_renew(struct records_side *side)
{
    unsigned char next[RECORDS_SECRET];
    const bool done = records_derive(side->secret, "traffic upd", next, sizeof(next)) &&
                      records_set_secret(side, next);

    sodium_memzero(next, sizeof(next));
    return done;
}

/* The nonce of the side's next record. */
static void records_next_nonce(struct records_side *side, unsigned char nonce[NONCE])
{
    uint64_t count = side->count++;

    memcpy(nonce, side->iv, NONCE);
    for (size_t i = NONCE; count > 0; count >>= 8)
        nonce[--i] ^= (unsigned char)count;
}

/* Writes one record. */
static size_t records_write(struct records_side *side, enum records_type type, const char *data,
                            size_t len, char *out)
{
    unsigned char nonce[NONCE];
    unsigned char *inner = (unsigned char *)out + RECORDS_HEAD;
    const size_t sealed = len + 1 + TAG;

    out[0] = RECORDS_TYPE_DATA;
    out[1] = 3;
    out[2] = 3;
    out[3] = (char)(sealed >> 8);
    out[4] = (char)(sealed & 0xff);
    memcpy(inner, data, len);
    inner[len] = (unsigned char)type;
    records_next_nonce(side, nonce);
    (void)crypto_aead_aes256gcm_encrypt_detached_afternm(inner, inner + len + 1, NULL, inner,
                                                         len + 1, (const unsigned char *)out,
                                                         RECORDS_HEAD, NULL, nonce, &side->aes);
    return RECORDS_HEAD + sealed;
}

/* Our next record will have new keys. False: out of memory, and it has not. */
static bool records_renew_ours(struct records *records)
{
    struct records_side before = records->out;
    char message[sizeof(key_update) + 1] = {0};
    bool done = true;

    if (records->update_len > 0)
        return true;
    memcpy(message, key_update, sizeof(key_update));
    done = records_renew(&records->out);
    if (done)
        records->update_len = records_write(&before, RECORDS_TYPE_HANDSHAKE, message,
                                            sizeof(message), records->update);
    sodium_memzero(&before, sizeof(before));
    return done;
}

/* Makes records->longs, where there is memory for it. */
static void records_make_longs(struct records *records)
{
    unsigned char key[KEY];

    records->longs = EVP_CIPHER_CTX_new();
    if (records->longs != NULL &&
        (!records_derive(records->in.secret, "key", key, sizeof(key)) ||
         EVP_DecryptInit_ex(records->longs, EVP_aes_256_gcm(), NULL, key, NULL) != 1)) {
        EVP_CIPHER_CTX_free(records->longs);
        records->longs = NULL;
        ERR_clear_error();
    }
    sodium_memzero(key, sizeof(key));
}

static void records_drop_longs(struct records *records)
{
    EVP_CIPHER_CTX_free(records->longs); /* which erases the key */
    records->longs = NULL;
}

/* Opens len bytes behind head in place, with the tag behind them. False: the tag is another. */
static bool records_decrypt(struct records *records, const unsigned char *head, size_t len,
                            const unsigned char *nonce)
{
    unsigned char *data = (unsigned char *)head + RECORDS_HEAD;
    bool right;
    int n;

    if (unlikely(len >= LONG_BYTES) && records->longs == NULL)
        records_make_longs(records);
    if (likely(len < LONG_BYTES || records->longs == NULL))
        return crypto_aead_aes256gcm_decrypt_detached_afternm(data, NULL, data, len, data + len,
                                                              head, RECORDS_HEAD, nonce,
                                                              &records->in.aes) == 0;
    right = EVP_DecryptInit_ex(records->longs, NULL, NULL, NULL, nonce) == 1 &&
            EVP_DecryptUpdate(records->longs, NULL, &n, head, RECORDS_HEAD) == 1 &&
            EVP_DecryptUpdate(records->longs, data, &n, data, (int)len) == 1 &&
            EVP_CIPHER_CTX_ctrl(records->longs, EVP_CTRL_AEAD_SET_TAG, TAG, data + len) == 1 &&
            EVP_DecryptFinal_ex(records->longs, data + len, &n) == 1;
    if (unlikely(!right))
        ERR_clear_error();
    return right;
}

/* What goes before our next record; returns its length. */
static size_t records_put_update(struct records *records, char *out)
{
    const size_t len = records->update_len;

    if (likely(len == 0))
        return 0;
    memcpy(out, records->update, len);
    records->update_len = 0;
    return len;
}

/* Takes the secret at the end of a line of a key log. */
static bool records_read_secret(const char *line, const char *label, unsigned char *secret)
{
    const size_t label_len = strlen(label);
    size_t len;

    if (strncmp(line, label, label_len) != 0 || strnlen(line + label_len, RANDOM_HEX) < RANDOM_HEX)
        return false;
    line += label_len + RANDOM_HEX;
    return *line == ' ' && strlen(line + 1) == 2 * (size_t)RECORDS_SECRET &&
           sodium_hex2bin(secret, RECORDS_SECRET, line + 1, 2 * (size_t)RECORDS_SECRET, NULL, &len,
                          NULL) == 0 &&
           len == RECORDS_SECRET;
}

static void records_on_secret(const SSL *ssl, const char *line)
{
    struct records_secrets *secrets = SSL_get_app_data(ssl);

    if (secrets == NULL)
        return;
    if (records_read_secret(line, "CLIENT_TRAFFIC_SECRET_0 ", secrets->client))
        secrets->has_client = true;
    if (records_read_secret(line, "SERVER_TRAFFIC_SECRET_0 ", secrets->server)) {
        secrets->has_server = true;
        secrets->sent = 0;
    }
}

static void records_on_message(int sent, int version, int type, const void *bytes, size_t len,
                               SSL *ssl, void *arg)
{
    struct records_secrets *secrets = SSL_get_app_data(ssl);

    (void)version;
    (void)bytes;
    (void)len;
    (void)arg;
    if (secrets != NULL && sent == 1 && type == SSL3_RT_HEADER)
        secrets->sent++;
}

void records_attach(struct ssl_ctx_st *context)
{
    ALLOY_ASSERT(sodium_init() >= 0);
    if (!records_available())
        return;
    SSL_CTX_set_keylog_callback(context, records_on_secret);
    SSL_CTX_set_msg_callback(context, records_on_message);
}

bool records_available(void)
{
    return crypto_aead_aes256gcm_is_available() == 1;
}

bool records_expect(struct ssl_st *ssl, struct records_secrets *secrets)
{
    *secrets = (struct records_secrets){0};
    if (!records_available() || SSL_set_app_data(ssl, secrets) != 1)
        return false;
    SSL_set_read_ahead(ssl, 0);
    return true;
}

/* Whether the connection is one that we can go on with. */
static bool records_can_take(const SSL *ssl, const struct records_secrets *secrets)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
    const SSL_SESSION *agreed = SSL_get_session(ssl);

    return secrets->has_client && secrets->has_server && SSL_version(ssl) == TLS1_3_VERSION &&
           cipher != NULL && SSL_CIPHER_get_id(cipher) == TLS1_3_CK_AES_256_GCM_SHA384 &&
           agreed != NULL &&
           SSL_SESSION_get_max_fragment_length(agreed) == TLSEXT_max_fragment_length_DISABLED &&
           SSL_is_init_finished(ssl) && SSL_has_pending(ssl) == 0 && SSL_want_nothing(ssl);
}

struct records *records_take(struct ssl_st *ssl, struct records_secrets *secrets)
{
    struct records *records = NULL;

    if (SSL_get_app_data(ssl) == secrets) {
        (void)SSL_set_app_data(ssl, NULL);
        if (records_can_take(ssl, secrets))
            records = records_create(secrets);
        if (records == NULL)
            SSL_set_read_ahead(ssl, 1);
    }
    sodium_memzero(secrets, sizeof(*secrets));
    return records;
}

struct records *records_create(const struct records_secrets *secrets)
{
    struct records *records = aligned_alloc(_Alignof(struct records), sizeof(*records));

    if (records == NULL)
        return NULL;
    memset(records, 0, sizeof(*records));
    if (!records_set_secret(&records->in, secrets->client) ||
        !records_set_secret(&records->out, secrets->server)) {
        records_destroy(records);
        return NULL;
    }
    records->out.count = secrets->sent;
    return records;
}

void records_destroy(struct records *records)
{
    if (records == NULL)
        return;
    records_drop_longs(records);
    sodium_memzero(records, sizeof(*records));
    free(records);
}

/* The length in a record's head. */
static size_t records_len(const char *raw)
{
    return (size_t)(unsigned char)raw[3] << 8 | (unsigned char)raw[4];
}

/* Whether the head is one that a client can have sent. */
static bool records_is_right(const char *raw)
{
    return raw[0] == RECORDS_TYPE_DATA && records_len(raw) > TAG &&
           records_len(raw) <= RECORDS_RAW_MAX - RECORDS_HEAD;
}

bool records_is_whole(const char *raw, size_t len)
{
    return len >= RECORDS_HEAD &&
           (!records_is_right(raw) || len >= RECORDS_HEAD + records_len(raw));
}

static enum records_result records_fail(struct records *records, enum records_alert_code code)
{
    records->alert = code;
    return RECORDS_WRONG;
}

static enum records_result records_fail_head(struct records *records, const char *raw)
{
    if (raw[0] != RECORDS_TYPE_DATA)
        return records_fail(records, RECORDS_ALERT_UNEXPECTED);
    return records_fail(records,
                        records_len(raw) <= TAG ? RECORDS_ALERT_DECODE : RECORDS_ALERT_OVERFLOW);
}

/* A message of the handshake's protocol: after the handshake only new keys are one. */
static enum records_result records_note_message(struct records *records, const char *message,
                                                size_t len)
{
    if (len != sizeof(key_update) + 1 || memcmp(message, key_update, sizeof(key_update)) != 0)
        return records_fail(records, RECORDS_ALERT_UNEXPECTED);
    if (message[sizeof(key_update)] != 0 && message[sizeof(key_update)] != 1)
        return records_fail(records, RECORDS_ALERT_ILLEGAL);
    records_drop_longs(records);
    if (!records_renew(&records->in) ||
        (message[sizeof(key_update)] == 1 && !records_renew_ours(records)))
        return records_fail(records, RECORDS_ALERT_INTERNAL);
    return RECORDS_NEWS;
}

static enum records_result records_note_alert(struct records *records, const char *alert,
                                              size_t len)
{
    if (len != 2)
        return records_fail(records, RECORDS_ALERT_DECODE);
    if (alert[1] == RECORDS_ALERT_CLOSE)
        return RECORDS_END;
    return alert[1] == RECORDS_ALERT_CANCELED ? RECORDS_NEWS : RECORDS_GONE;
}

enum records_result records_open(struct records *records, char *raw, size_t len,
                                 struct records_opened *opened)
{
    unsigned char nonce[NONCE];
    unsigned char *data = (unsigned char *)raw + RECORDS_HEAD;
    size_t inner;

    if (!records_is_whole(raw, len))
        return RECORDS_MORE;
    *opened = (struct records_opened){.data = raw + RECORDS_HEAD};
    if (unlikely(!records_is_right(raw)))
        return records_fail_head(records, raw);
    opened->raw = RECORDS_HEAD + records_len(raw);
    inner = records_len(raw) - TAG;
    records_next_nonce(&records->in, nonce);
    if (unlikely(!records_decrypt(records, (unsigned char *)raw, inner, nonce)))
        return records_fail(records, RECORDS_ALERT_MAC);
    if (unlikely(inner > INNER_MAX))
        return records_fail(records, RECORDS_ALERT_OVERFLOW);
    while (inner > 0 && data[inner - 1] == 0)
        inner--;
    if (unlikely(inner == 0))
        return records_fail(records, RECORDS_ALERT_UNEXPECTED);
    opened->len = inner - 1;
    if (likely(data[inner - 1] == RECORDS_TYPE_DATA))
        return RECORDS_DATA;
    if (data[inner - 1] == RECORDS_TYPE_HANDSHAKE)
        return records_note_message(records, opened->data, opened->len);
    if (data[inner - 1] == RECORDS_TYPE_ALERT)
        return records_note_alert(records, opened->data, opened->len);
    return records_fail(records, RECORDS_ALERT_UNEXPECTED);
}

size_t records_seal(struct records *records, const char *data, size_t len, char *out)
{
    size_t before;

    ALLOY_ASSERT(len > 0 && len <= RECORDS_PLAIN_MAX);
    /* Where there is no memory for it, the next record tries again. */
    if (unlikely(records->out.count >= SEALED_MAX))
        (void)records_renew_ours(records);
    before = records_put_update(records, out);
    return before + records_write(&records->out, RECORDS_TYPE_DATA, data, len, out + before);
}

size_t records_alert(struct records *records, char *out)
{
    const char alert[] = {records->alert == RECORDS_ALERT_CLOSE ? 1 : 2, (char)records->alert};
    const size_t before = records_put_update(records, out);

    return before +
           records_write(&records->out, RECORDS_TYPE_ALERT, alert, sizeof(alert), out + before);
}
