/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_id.h - what makes two events the same: the canonical id and its keyed hash.
 *
 * The canonical id of one field is its decoded text (an integer's digits; -0 is 0). Several fields
 * are joined with ':' in the configured order; inside a part of such an id ':' and '\' are escaped
 * with '\', so that two different tuples never join to one id. It is part of the Redis key. Its
 * hash, keyed by the journal's secret and the stream's name, is the key in L1.
 *
 * Runs on: any thread. The one home of libsodium.
 */
#ifndef ALLOY_EVENT_ID_H
#define ALLOY_EVENT_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/base.h"

#define EVENT_ID_PART_MAX 256 /* bytes of one field's decoded value */
#define EVENT_ID_FIELDS_MAX 8
/* Longest canonical id: every byte escaped, and the separators. */
#define EVENT_ID_MAX (EVENT_ID_FIELDS_MAX * (2 * EVENT_ID_PART_MAX + 1))
#define EVENT_ID_KEY_LEN 16

struct hash128 {
    uint64_t lo;
    uint64_t hi;
};

/* The key of one stream, derived from the journal's secret and the stream's name. */
struct event_id_key {
    unsigned char bytes[EVENT_ID_KEY_LEN];
};

/* Fills out with len random bytes of the kernel's generator. Cannot fail. */
void event_id_random(void *out, size_t len);

void event_id_key_derive(const unsigned char secret[EVENT_ID_KEY_LEN], const char *stream_name,
                         struct event_id_key *key);

/* SipHash-2-4 with a 128-bit result (libsodium's crypto_shorthash_siphashx24). */
struct hash128 event_id_hash(const struct event_id_key *key, const char *id, size_t len);

#define EVENT_ID_IDENTITY_LEN 16
/* BLAKE2b with 128 bits and no key, so that it is the same in every alloyd: two ids with one
 * identity take 2^64 tries to find, and another id with the identity of a given one 2^128. */
void event_id_identity(unsigned char out[EVENT_ID_IDENTITY_LEN], const char *id, size_t len);

#define EVENT_ID_MADE_LEN 36
/* Writes a new id, a UUIDv7 (RFC 9562 section 5.7), of the real time and random bits. */
void event_id_generate(char out[EVENT_ID_MADE_LEN], uint64_t real_ms);
/* Writes an id made of an event's bytes, which is the same in every alloyd: a UUIDv8 (RFC 9562
 * section 5.8) of 122 bits of BLAKE2b. */
void event_id_of_bytes(char out[EVENT_ID_MADE_LEN], const char *bytes, size_t len);

/* Appends one part of a composite id to out (room for 2 * len + 1 needed); first tells whether a
 * ':' goes before. Returns the bytes written. */
size_t event_id_append_part(char *out, const char *part, size_t len, bool first);

#endif
