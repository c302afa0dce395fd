/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_id.c - what makes two events the same: the canonical id and its keyed hash.
 *
 * The hash is keyed because clients choose the ids: without the secret a client cannot make two ids
 * collide, which would lose an event; and with 128 bits none collide by chance.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/event_id.h"

#include <sodium.h>

#include <endian.h>
#include <string.h>

_Static_assert(EVENT_ID_KEY_LEN == crypto_shorthash_siphashx24_KEYBYTES, "key is SipHash's key");
_Static_assert(sizeof(struct hash128) == crypto_shorthash_siphashx24_BYTES, "hash is SipHash's");

void event_id_random(void *out, size_t len)
{
    /* sodium_init() may be called again, from any thread; it fails only if the kernel has no random
     * generator. */
    ALLOY_ASSERT(sodium_init() >= 0);
    randombytes_buf(out, len);
}

void event_id_key_derive(const unsigned char secret[EVENT_ID_KEY_LEN], const char *stream_name,
                         struct event_id_key *key)
{
    (void)crypto_shorthash_siphashx24(key->bytes, (const unsigned char *)stream_name,
                                      strlen(stream_name), secret);
}

struct hash128 event_id_hash(const struct event_id_key *key, const char *id, size_t len)
{
    uint64_t words[2];

    (void)crypto_shorthash_siphashx24((unsigned char *)words, (const unsigned char *)id, len,
                                      key->bytes);
    return (struct hash128){.lo = le64toh(words[0]), .hi = le64toh(words[1])};
}

void event_id_identity(unsigned char out[EVENT_ID_IDENTITY_LEN], const char *id, size_t len)
{
    (void)crypto_generichash(out, EVENT_ID_IDENTITY_LEN, (const unsigned char *)id, len, NULL, 0);
}

/* Writes 16 bytes as a UUID of the given version (RFC 9562 section 4). */
static void event_id_write_uuid(char out[EVENT_ID_MADE_LEN], unsigned char bytes[16],
                                unsigned version)
{
    static const char digits[] = "0123456789abcdef";

    bytes[6] = (unsigned char)((bytes[6] & 0x0f) | version << 4);
    bytes[8] = (unsigned char)((bytes[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 0x0f];
    }
}

void event_id_generate(char out[EVENT_ID_MADE_LEN], uint64_t real_ms)
{
    unsigned char bytes[16];

    randombytes_buf(bytes, sizeof(bytes));
    for (int i = 5; i >= 0; i--, real_ms >>= 8)
        bytes[i] = (unsigned char)real_ms;
    event_id_write_uuid(out, bytes, 7);
}

void event_id_of_bytes(char out[EVENT_ID_MADE_LEN], const char *bytes, size_t len)
{
    unsigned char hash[16];

    (void)crypto_generichash(hash, sizeof(hash), (const unsigned char *)bytes, len, NULL, 0);
    event_id_write_uuid(out, hash, 8);
}

size_t event_id_append_part(char *out, const char *part, size_t len, bool first)
{
    char *at = out;

    if (!first)
        *at++ = ':';
    for (size_t i = 0; i < len; i++) {
        if (part[i] == ':' || part[i] == '\\')
            *at++ = '\\';
        *at++ = part[i];
    }
    return (size_t)(at - out);
}
