/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.h - who may send to which stream, and how fast: the file of auth.keys_file.
 *
 * A line is `name hash streams [events/s]`, a comment that begins with #, or empty. hash is `b2:`
 * and BLAKE2b-256 of the key in hexadecimal, as `b2sum -l 256` prints it; streams is `*` or names
 * with commas between them. A key itself is nowhere.
 *
 * A table is constant once it is published; what moves is in struct key_state. Runs on: reading,
 * keys_bind() and keys_inherit() the main thread before others see the table; the rest any thread.
 */
#ifndef ALLOY_KEYS_H
#define ALLOY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "alloy/base.h"
#include "alloy/bucket.h"

#define KEYS_MAX 100000
#define KEYS_NAME_MAX 63 /* [A-Za-z0-9_.-]+ */
#define KEYS_LINE_MAX 8192
#define KEYS_HASH_BYTES 32
#define KEYS_HASH_TEXT 68      /* "b2:", the digits, NUL */
#define KEYS_TOKEN_TEXT 36     /* of a key that keys_generate() makes, NUL included */
#define KEYS_TOKEN_LEN_MAX 512 /* a longer one is nobody's */

/* What survives a reload: a key of the same name goes on with it. */
struct key_state {
    struct bucket bucket;    /* events, where the key has a rate */
    struct bucket refusals;  /* bytes in vain, before its connections are left unread for a while */
    _Atomic uint64_t events; /* in requests that were scanned; relaxed: a count */
    _Atomic uint64_t limited; /* of these, refused as too many; relaxed, the same */
} CACHE_ALIGNED;

struct key {
    char *name;
    char *stream_list;  /* as in the file */
    uint64_t rate;      /* events a second; 0: any number */
    uint64_t streams;   /* bit i: may send to stream i, after keys_bind() */
    unsigned strangers; /* names in stream_list that no stream has, the same */
    struct key_state *state;
    unsigned line;
    bool owns_state;
    unsigned char hash[KEYS_HASH_BYTES];
};

struct keys;

/*
 * Reads a keys file, and writes each problem to problems as "NAME:LINE: message". Returns 0 and
 * keys owned (keys_destroy()), -EINVAL where there was a problem, or another -errno, and nothing
 * written, where it cannot be opened or read.
 */
MUST_CHECK int keys_read(struct keys **keys, FILE *in, const char *name, FILE *problems);
MUST_CHECK int keys_load(struct keys **keys, const char *path, FILE *problems);
void keys_destroy(struct keys *keys); /* NULL is fine; those that inherited from it go first */

/* Says which streams there are, so that each key knows its own by number: at most 64. */
void keys_bind(struct keys *keys, const char *const *streams, size_t count);
/* Each key goes on with the state of the one of the same name in before, which lives longer. One
 * whose rate has changed begins with a full bucket. */
void keys_inherit(struct keys *keys, const struct keys *before);
/* Whether both say the same of the same keys. Either may be NULL. */
bool keys_same(const struct keys *a, const struct keys *b);

size_t keys_count(const struct keys *keys);
const struct key *keys_at(const struct keys *keys, size_t i); /* in the order of the file */
const struct key *keys_by_name(const struct keys *keys, struct slice name); /* or NULL */

/* Whether the key may send to this stream. */
static inline bool keys_allows(const struct key *key, unsigned stream)
{
    return (key->streams >> stream & 1) != 0;
}

/* The hash of a key as a client sends it. */
void keys_hash(struct slice token, unsigned char hash[KEYS_HASH_BYTES]);
/* Whether two hashes are the same, in a time that does not depend on them. */
bool keys_hash_equal(const unsigned char *a, const unsigned char *b);

/* A thread's memory of the keys that it saw last. Returns owned (free()); NULL: out of memory. */
struct keys_cache;
struct keys_cache *keys_cache_create(void);
/* The key that a client sent, or NULL: nobody's. cache is this thread's. */
const struct key *keys_find(struct keys_cache *cache, const struct keys *keys, struct slice token);

/* ---- for alloyctl ---- */

/* Makes a new key. */
void keys_generate(char token[KEYS_TOKEN_TEXT]);
/* Writes the hash of a key as the file has it. */
void keys_format_hash(struct slice token, char text[KEYS_HASH_TEXT]);
/* What is wrong with a key's name, or with a list of streams; NULL: nothing. */
const char *keys_name_problem(struct slice name);
const char *keys_streams_problem(struct slice list);

#endif
