/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_records.c - any bytes as records, and records that are sealed rightly and hold any bytes:
 * what is opened lies in the record, and nothing follows an error.
 *
 * The first byte tells which; then each record has two bytes of length before it.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/records.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/ssl.h>

#define TAG 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* HKDF-Expand-Label of a secret of zeros. */
static void fuzz_derive(const char *label, unsigned char *out, size_t len)
{
    static const unsigned char secret[RECORDS_SECRET];
    unsigned char info[64] = {0, (unsigned char)len, (unsigned char)(6 + strlen(label))};
    unsigned char block[EVP_MAX_MD_SIZE];
    const size_t at = 3 + 6 + strlen(label);

    memcpy(info + 3, "tls13 ", 6);
    memcpy(info + 9, label, strlen(label));
    info[at + 1] = 1;
    ALLOY_ASSERT(HMAC(EVP_sha384(), secret, RECORDS_SECRET, info, at + 2, block, NULL) != NULL);
    memcpy(out, block, len);
}

/* The record of this number with len bytes in it. Returns its length. */
static size_t fuzz_seal(uint64_t number, const uint8_t *inner, size_t len, unsigned char *out)
{
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    unsigned char key[32], iv[12];
    int n;

    fuzz_derive("key", key, sizeof(key));
    fuzz_derive("iv", iv, sizeof(iv));
    iv[11] ^= (unsigned char)number;
    iv[10] ^= (unsigned char)(number >> 8);
    ALLOY_ASSERT(context != NULL);
    ALLOY_ASSERT(EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, iv) == 1);
    out[0] = 23;
    out[1] = out[2] = 3;
    out[3] = (unsigned char)((len + TAG) >> 8);
    out[4] = (unsigned char)(len + TAG);
    ALLOY_ASSERT(EVP_EncryptUpdate(context, NULL, &n, out, RECORDS_HEAD) == 1);
    ALLOY_ASSERT(EVP_EncryptUpdate(context, out + RECORDS_HEAD, &n, inner, (int)len) == 1);
    ALLOY_ASSERT(EVP_EncryptFinal_ex(context, out + RECORDS_HEAD + len, &n) == 1);
    ALLOY_ASSERT(
        EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG, out + RECORDS_HEAD + len) == 1);
    EVP_CIPHER_CTX_free(context);
    return RECORDS_HEAD + len + TAG;
}

static void fuzz_open(struct records *records, const unsigned char *bytes, size_t len, bool *over)
{
    struct records_opened opened = {0};
    char *raw = malloc(len + 1);
    enum records_result result;

    ALLOY_ASSERT(raw != NULL);
    memcpy(raw, bytes, len);
    result = records_open(records, raw, len, &opened);
    ALLOY_ASSERT((result == RECORDS_MORE) == !records_is_whole((const char *)bytes, len));
    if (result == RECORDS_DATA || result == RECORDS_NEWS) {
        ALLOY_ASSERT(opened.raw <= len);
        ALLOY_ASSERT(opened.data >= raw && opened.data + opened.len <= raw + opened.raw);
    }
    *over = result != RECORDS_DATA && result != RECORDS_NEWS && result != RECORDS_MORE;
    free(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct records_secrets secrets = {.has_client = true, .has_server = true};
    static unsigned char sealed[RECORDS_HEAD + 65535 + TAG];
    static SSL_CTX *context;
    struct records *records;
    char out[64 + RECORDS_ROOM];
    bool over = false, right;
    uint64_t number = 0;

    if (context == NULL) {
        context = SSL_CTX_new(TLS_server_method());
        ALLOY_ASSERT(context != NULL);
        records_attach(context);
    }
    if (size == 0 || !records_available())
        return 0;
    records = records_create(&secrets);
    ALLOY_ASSERT(records != NULL);
    right = (*data & 1) != 0;
    for (data++, size--; size >= 2 && !over;) {
        size_t len = (size_t)data[0] << 8 | data[1];

        data += 2;
        size -= 2;
        if (len > size)
            len = size;
        if (!right)
            fuzz_open(records, data, len, &over);
        else
            fuzz_open(records, sealed, fuzz_seal(number++, data, len, sealed), &over);
        data += len;
        size -= len;
    }
    ALLOY_ASSERT(records_seal(records, "abc", 3, out) <= 3 + RECORDS_ROOM);
    ALLOY_ASSERT(records_alert(records, out) <= 2 + RECORDS_ROOM);
    records_destroy(records);
    return 0;
}
