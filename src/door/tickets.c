/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tickets.c - the keys that TLS tickets are encrypted with, and their rotation.
 *
 * OpenSSL makes one key for a context and keeps it. We do as it does (RFC 5077 section 4:
 * AES-256-CBC and HMAC-SHA-256), with keys that end.
 *
 * Runs on: see tickets.h.
 * Owns: the keys; each context has a reference.
 */
#include "tickets.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES 16
#define KEY_BYTES 32

/* The callback's answers. */
enum { TICKETS_FAILED = -1, TICKETS_NONE = 0, TICKETS_GOOD = 1, TICKETS_RENEW = 2 };

struct tickets_key {
    unsigned char name[NAME_BYTES]; /* goes with each ticket */
    unsigned char cipher[KEY_BYTES];
    unsigned char mac[KEY_BYTES];
};

struct tickets {
    _Atomic unsigned refs; /* contexts; acq_rel: the last one frees what others have written */
    pthread_mutex_t lock;
    /* under lock */
    struct tickets_key current, previous;
    bool has_previous;
    uint64_t since_ms; /* of current; 0: nobody has told the time yet */
};

static bool tickets_make_key(struct tickets_key *key)
{
    return RAND_bytes(key->name, sizeof(key->name)) == 1 &&
           RAND_priv_bytes(key->cipher, sizeof(key->cipher)) == 1 &&
           RAND_priv_bytes(key->mac, sizeof(key->mac)) == 1;
}

static void tickets_put(struct tickets *tickets)
{
    if (tickets == NULL || atomic_fetch_sub_explicit(&tickets->refs, 1, memory_order_acq_rel) > 1)
        return;
    pthread_mutex_destroy(&tickets->lock);
    explicit_bzero(tickets, sizeof(*tickets));
    free(tickets);
}

/* The context is freed: no connection has it any more. */
static void tickets_on_free(void *parent, void *tickets, CRYPTO_EX_DATA *data, int index, long arg,
                            void *pointer)
{
    (void)parent;
    (void)data;
    (void)index;
    (void)arg;
    (void)pointer;
    tickets_put(tickets);
}

/* Where a context has its tickets. */
static int tickets_index(void)
{
    static int index = -1;

    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, tickets_on_free);
    return index;
}

static struct tickets *tickets_of(const SSL_CTX *context)
{
    return SSL_CTX_get_ex_data(context, tickets_index());
}

/* Copies the key of this name, or the current one. */
static int tickets_find(struct tickets *tickets, const unsigned char *name, struct tickets_key *key)
{
    int found = TICKETS_NONE;

    pthread_mutex_lock(&tickets->lock);
    if (name == NULL || memcmp(name, tickets->current.name, NAME_BYTES) == 0) {
        *key = tickets->current;
        found = TICKETS_GOOD;
    } else if (tickets->has_previous && memcmp(name, tickets->previous.name, NAME_BYTES) == 0) {
        *key = tickets->previous;
        found = TICKETS_RENEW;
    }
    pthread_mutex_unlock(&tickets->lock);
    return found;
}

/* OpenSSL's callback for a ticket that it makes or reads. */
static int tickets_on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv,
                             EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int make)
{
    struct tickets *tickets = tickets_of(SSL_get_SSL_CTX(ssl));
    struct tickets_key key;
    OSSL_PARAM params[3];
    int result;

    result = tickets_find(tickets, make ? NULL : name, &key);
    if (result == TICKETS_NONE)
        return result;
    params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.mac, sizeof(key.mac));
    params[1] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0);
    params[2] = OSSL_PARAM_construct_end();
    if (make) {
        memcpy(name, key.name, sizeof(key.name));
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            result = TICKETS_FAILED;
    }
    if (result > TICKETS_NONE &&
        (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv, make) != 1 ||
         EVP_MAC_CTX_set_params(mac, params) != 1))
        result = TICKETS_FAILED;
    explicit_bzero(&key, sizeof(key));
    return result;
}

bool tickets_attach(struct ssl_ctx_st *context)
{
    struct tickets *tickets = calloc(1, sizeof(*tickets));

    if (tickets == NULL)
        return false;
    atomic_init(&tickets->refs, 1);
    pthread_mutex_init(&tickets->lock, NULL);
    if (tickets_index() < 0 || !tickets_make_key(&tickets->current) ||
        SSL_CTX_set_ex_data(context, tickets_index(), tickets) != 1) {
        tickets_put(tickets);
        return false;
    }
    SSL_CTX_set_timeout(context, TICKETS_LIFETIME_S);
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(context, tickets_on_ticket) == 1;
}

void tickets_share(struct ssl_ctx_st *context, const struct ssl_ctx_st *from)
{
    struct tickets *own = tickets_of(context), *shared = tickets_of(from);

    if (own == shared)
        return;
    /* relaxed: from has a reference meanwhile */
    atomic_fetch_add_explicit(&shared->refs, 1, memory_order_relaxed);
    /* It replaces what the context has, which was set before: nothing has to be allocated. */
    ALLOY_ASSERT(SSL_CTX_set_ex_data(context, tickets_index(), shared) == 1);
    tickets_put(own);
}

void tickets_retire(const struct ssl_ctx_st *context)
{
    struct tickets *tickets = tickets_of(context);
    struct tickets_key key;

    if (!tickets_make_key(&key))
        return;
    pthread_mutex_lock(&tickets->lock);
    tickets->current = key;
    tickets->has_previous = false;
    explicit_bzero(&tickets->previous, sizeof(tickets->previous));
    pthread_mutex_unlock(&tickets->lock);
    explicit_bzero(&key, sizeof(key));
}

void tickets_rotate(const struct ssl_ctx_st *context, uint64_t now_ms)
{
    struct tickets *tickets = tickets_of(context);
    struct tickets_key key;
    bool due;

    pthread_mutex_lock(&tickets->lock);
    if (tickets->since_ms == 0)
        tickets->since_ms = now_ms;
    due = now_ms >= tickets->since_ms + TICKETS_ROTATE_MS;
    if (tickets->has_previous &&
        now_ms >= tickets->since_ms + UINT64_C(1000) * TICKETS_LIFETIME_S) {
        tickets->has_previous = false;
        explicit_bzero(&tickets->previous, sizeof(tickets->previous));
    }
    pthread_mutex_unlock(&tickets->lock);
    /* Without random bytes the key that we have goes on; only this thread changes it. */
    if (!due || !tickets_make_key(&key))
        return;
    pthread_mutex_lock(&tickets->lock);
    tickets->previous = tickets->current;
    tickets->has_previous =
        now_ms < tickets->since_ms + TICKETS_ROTATE_MS + UINT64_C(1000) * TICKETS_LIFETIME_S;
    if (!tickets->has_previous)
        explicit_bzero(&tickets->previous, sizeof(tickets->previous));
    tickets->current = key;
    tickets->since_ms = now_ms;
    pthread_mutex_unlock(&tickets->lock);
    explicit_bzero(&key, sizeof(key));
}
