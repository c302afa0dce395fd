/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys.c - who may send to which stream, and how fast: the file of auth.keys_file.
 *
 * The file has hashes and no keys, so that who reads it, or a backup of it, can send nothing. The
 * hash is a fast one, BLAKE2b-256 without salt: keys are at random and have 128 bits or more
 * (keys_generate() makes 192), so that there is nothing to guess, and a slow hash would only serve
 * those who send wrong keys. A password that somebody chose does not belong here.
 *
 * A key is found by the first bytes of its hash, which tells who measures the time nothing: they
 * can compute hashes, and cannot choose one. Then all of it is compared in constant time. Each
 * thread remembers the keys that it saw last by a SipHash under a secret of its own, because that
 * costs a tenth of BLAKE2b.
 *
 * Runs on: see keys.h.
 * Owns: the tables, and the state of keys that inherited none.
 */
#include "alloy/keys.h"

#include <sodium.h>

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "alloy/text.h"

#define HASH_PREFIX "b2:"
#define TOKEN_PREFIX "ak_"
#define TOKEN_BYTES 24
#define FIELDS_MAX 4
#define STREAMS_MAX 64 /* bits of key->streams */
#define STREAM_NAME_MAX 63
#define CACHE_SLOTS 256 /* by one byte of the SipHash */

_Static_assert(KEYS_HASH_BYTES == crypto_generichash_BYTES, "the hash is BLAKE2b-256");
_Static_assert(KEYS_HASH_TEXT == sizeof(HASH_PREFIX) + 2 * KEYS_HASH_BYTES,
               "prefix, digits and NUL");
_Static_assert(KEYS_TOKEN_TEXT == sizeof(TOKEN_PREFIX) - 1 + TOKEN_BYTES / 3 * 4 + 1,
               "prefix, base64 and NUL");

/* Which key has this hash of its name, or of itself: open addressing, at most half full. */
struct keys_index {
    uint32_t *slots; /* number of the key + 1; 0: free */
    size_t mask;
};

struct keys {
    struct key *items; /* in the order of the file */
    size_t count, capacity;
    struct keys_index by_name, by_hash;
};

struct keys_slot {
    unsigned char mac[crypto_shorthash_siphashx24_BYTES];
    const struct key *key; /* NULL: empty */
};

struct keys_cache {
    unsigned char secret[crypto_shorthash_siphashx24_KEYBYTES]; /* constant */
    const struct keys *keys;                                    /* that the slots are about */
    struct keys_slot slots[CACHE_SLOTS];
};

/* A file on its way to a table. */
struct keys_reader {
    struct keys *keys;
    const char *name;
    FILE *problems;
    unsigned line;
    bool wrong;
    bool no_memory;
};

static PRINTF_LIKE(3, 4) void keys_problem(struct keys_reader *reader, unsigned line,
                                           const char *format, ...)
{
    va_list args;

    reader->wrong = true;
    fprintf(reader->problems, "%s:%u: ", reader->name, line);
    va_start(args, format);
    vfprintf(reader->problems, format, args);
    va_end(args);
    fputc('\n', reader->problems);
}

const char *keys_name_problem(struct slice name)
{
    if (name.len <= KEYS_NAME_MAX && text_is_name(name.data, name.len, "_.-"))
        return NULL;
    return "a key's name is 1 to 63 letters, digits, _, . and -";
}

const char *keys_streams_problem(struct slice list)
{
    const char *end = list.data + list.len;

    if (list.len == 1 && list.data[0] == '*')
        return NULL;
    for (const char *at = list.data;; at++) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t len = (size_t)((comma != NULL ? comma : end) - at);

        if (len > STREAM_NAME_MAX || !text_is_name(at, len, "_-"))
            return "streams are * or names of streams, with commas and no white space between them";
        if (comma == NULL)
            return NULL;
        at = comma;
    }
}

/* False: text is not `b2:` and 64 digits. */
static bool keys_parse_hash(struct slice text, unsigned char hash[KEYS_HASH_BYTES])
{
    const size_t prefix = sizeof(HASH_PREFIX) - 1;

    if (text.len != prefix + (size_t)2 * KEYS_HASH_BYTES ||
        memcmp(text.data, HASH_PREFIX, prefix) != 0)
        return false;
    for (size_t i = 0; i < KEYS_HASH_BYTES; i++) {
        int high = text_hex_digit(text.data[prefix + 2 * i]);
        int low = text_hex_digit(text.data[prefix + 2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        hash[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

static bool keys_parse_rate(struct slice text, uint64_t *rate)
{
    *rate = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *rate = *rate * 10 + (uint64_t)(text.data[i] - '0');
        if (*rate > BUCKET_RATE_MAX)
            return false;
    }
    return text.len > 0;
}

/* Cuts a line into its fields; returns how many there are, FIELDS_MAX + 1 for more. */
static size_t keys_split(char *line, struct slice fields[FIELDS_MAX])
{
    size_t count = 0;

    for (char *at = line + strspn(line, " \t"); *at != '\0' && *at != '#';) {
        size_t len = strcspn(at, " \t");

        if (count == FIELDS_MAX)
            return FIELDS_MAX + 1;
        fields[count++] = (struct slice){at, len};
        at += len;
        at += strspn(at, " \t");
    }
    return count;
}

static void keys_free_key(struct key *key)
{
    free(key->name);
    free(key->stream_list);
    if (key->owns_state)
        free(key->state);
}

/* Takes key, whose texts and state are made here. */
static void keys_add(struct keys_reader *reader, struct key *key, struct slice name,
                     struct slice streams)
{
    struct keys *keys = reader->keys;
    size_t capacity = keys->capacity == 0 ? 16 : 2 * keys->capacity;
    struct key *items = keys->items;

    if (keys->count == keys->capacity) {
        items = reallocarray(keys->items, capacity, sizeof(*items));
        if (items != NULL) {
            keys->items = items;
            keys->capacity = capacity;
        }
    }
    key->line = reader->line;
    key->name = strndup(name.data, name.len);
    key->stream_list = strndup(streams.data, streams.len);
    key->state = aligned_alloc(CACHE_LINE, sizeof(*key->state));
    key->owns_state = true;
    if (items == NULL || key->name == NULL || key->stream_list == NULL || key->state == NULL) {
        keys_free_key(key);
        reader->no_memory = true;
        return;
    }
    memset(key->state, 0, sizeof(*key->state));
    items[keys->count++] = *key;
}

/* Takes a line that is neither empty nor a comment. */
static void keys_take_fields(struct keys_reader *reader, const struct slice *fields, size_t count)
{
    struct key key = {0};
    const char *problem = keys_name_problem(fields[0]);

    if (problem == NULL && (count < 3 || count > FIELDS_MAX))
        problem = "a line is: name hash streams [events a second]";
    if (problem == NULL && !keys_parse_hash(fields[1], key.hash))
        problem = "the hash must be b2: and 64 hexadecimal digits (alloyctl key add writes it)";
    if (problem == NULL)
        problem = keys_streams_problem(fields[2]);
    if (problem == NULL && count == FIELDS_MAX && !keys_parse_rate(fields[3], &key.rate))
        problem = "events a second must be a whole number from 0 to 1000000000";
    if (problem != NULL) {
        keys_problem(reader, reader->line, "%s", problem);
        return;
    }
    if (reader->keys->count < KEYS_MAX)
        keys_add(reader, &key, fields[0], fields[2]);
    else if (!reader->wrong)
        keys_problem(reader, reader->line, "there can be at most %d keys", KEYS_MAX);
}

/* Takes a line of len bytes, its end included. */
static void keys_take_line(struct keys_reader *reader, char *line, size_t len)
{
    struct slice fields[FIELDS_MAX] = {0};
    size_t count;

    reader->line++;
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
        line[--len] = '\0';
    if (reader->line == 1 && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
        line += 3;
        len -= 3;
    }
    if (len > KEYS_LINE_MAX || strlen(line) != len) {
        keys_problem(reader, reader->line, "the line is longer than %d bytes, or holds a NUL",
                     KEYS_LINE_MAX);
        return;
    }
    count = keys_split(line, fields);
    if (count > 0)
        keys_take_fields(reader, fields, count);
}

static uint64_t keys_first_bytes(const unsigned char *hash)
{
    uint64_t first;

    memcpy(&first, hash, sizeof(first));
    return first;
}

/* FNV-1a: names are the operator's, nobody aims at anything. */
static uint64_t keys_name_hash(struct slice name)
{
    uint64_t hash = 14695981039346656037ull;

    for (size_t i = 0; i < name.len; i++)
        hash = (hash ^ (unsigned char)name.data[i]) * 1099511628211ull;
    return hash;
}

static bool keys_index_init(struct keys_index *index, size_t count)
{
    size_t size = 4;

    while (size < 2 * count)
        size *= 2;
    index->slots = calloc(size, sizeof(*index->slots));
    index->mask = size - 1;
    return index->slots != NULL;
}

const struct key *keys_by_name(const struct keys *keys, struct slice name)
{
    const struct keys_index *index = &keys->by_name;

    for (size_t at = keys_name_hash(name) & index->mask; index->slots[at] != 0;
         at = (at + 1) & index->mask) {
        const struct key *key = &keys->items[index->slots[at] - 1];

        if (strlen(key->name) == name.len && memcmp(key->name, name.data, name.len) == 0)
            return key;
    }
    return NULL;
}

static const struct key *keys_by_hash(const struct keys *keys, const unsigned char *hash)
{
    const struct keys_index *index = &keys->by_hash;

    for (size_t at = keys_first_bytes(hash) & index->mask; index->slots[at] != 0;
         at = (at + 1) & index->mask) {
        const struct key *key = &keys->items[index->slots[at] - 1];

        if (keys_hash_equal(key->hash, hash))
            return key;
    }
    return NULL;
}

static void keys_index_enter(struct keys_index *index, uint64_t hash, size_t item)
{
    size_t at = hash & index->mask;

    while (index->slots[at] != 0)
        at = (at + 1) & index->mask;
    index->slots[at] = (uint32_t)item + 1;
}

/* Makes keys be found, and tells of those that cannot both be. */
static void keys_enter_all(struct keys_reader *reader)
{
    struct keys *keys = reader->keys;

    if (!keys_index_init(&keys->by_name, keys->count) ||
        !keys_index_init(&keys->by_hash, keys->count)) {
        reader->no_memory = true;
        return;
    }
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *key = &keys->items[i];
        const struct slice name = {key->name, strlen(key->name)};
        const struct key *twin = keys_by_name(keys, name);

        if (twin != NULL)
            keys_problem(reader, key->line, "the name %s is given twice; the first is on line %u",
                         key->name, twin->line);
        else
            keys_index_enter(&keys->by_name, keys_name_hash(name), i);
        twin = keys_by_hash(keys, key->hash);
        if (twin != NULL)
            keys_problem(reader, key->line, "this is the key %s of line %u too", twin->name,
                         twin->line);
        else
            keys_index_enter(&keys->by_hash, keys_first_bytes(key->hash), i);
    }
}

int keys_read(struct keys **out, FILE *in, const char *name, FILE *problems)
{
    struct keys_reader reader = {
        .keys = calloc(1, sizeof(*reader.keys)), .name = name, .problems = problems};
    char *line = NULL;
    size_t size = 0;
    ssize_t len;
    int err = 0;

    *out = NULL;
    if (reader.keys == NULL)
        return -ENOMEM;
    errno = 0;
    while (!reader.no_memory && (len = getline(&line, &size, in)) >= 0)
        keys_take_line(&reader, line, (size_t)len);
    if (ferror(in))
        err = errno != 0 ? -errno : -EIO;
    free(line);
    if (err == 0 && !reader.no_memory)
        keys_enter_all(&reader);
    if (err == 0 && reader.no_memory)
        err = -ENOMEM;
    if (err == 0 && reader.wrong)
        err = -EINVAL;
    if (err != 0) {
        keys_destroy(reader.keys);
        return err;
    }
    *out = reader.keys;
    return 0;
}

int keys_load(struct keys **out, const char *path, FILE *problems)
{
    FILE *in = fopen(path, "re");
    int err;

    *out = NULL;
    if (in == NULL)
        return -errno;
    err = keys_read(out, in, path, problems);
    fclose(in);
    return err;
}

void keys_destroy(struct keys *keys)
{
    if (keys == NULL)
        return;
    for (size_t i = 0; i < keys->count; i++)
        keys_free_key(&keys->items[i]);
    free(keys->items);
    free(keys->by_name.slots);
    free(keys->by_hash.slots);
    free(keys);
}

/* The bit of the stream of this name; 0: there is none. */
static uint64_t keys_stream_bit(struct slice name, const char *const *streams, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(streams[i]) == name.len && memcmp(streams[i], name.data, name.len) == 0)
            return 1ull << i;
    return 0;
}

void keys_bind(struct keys *keys, const char *const *streams, size_t count)
{
    ALLOY_ASSERT(count <= STREAMS_MAX);
    for (size_t i = 0; i < keys->count; i++) {
        struct key *key = &keys->items[i];
        const char *at = key->stream_list;

        key->streams = 0;
        key->strangers = 0;
        if (strcmp(at, "*") == 0) {
            key->streams = UINT64_MAX;
            continue;
        }
        for (bool more = true; more; at++) {
            size_t len = strcspn(at, ",");
            uint64_t bit = keys_stream_bit((struct slice){at, len}, streams, count);

            key->streams |= bit;
            key->strangers += bit == 0;
            at += len;
            more = *at == ',';
        }
    }
}

void keys_inherit(struct keys *keys, const struct keys *before)
{
    for (size_t i = 0; i < keys->count; i++) {
        struct key *key = &keys->items[i];
        const struct key *old = keys_by_name(before, (struct slice){key->name, strlen(key->name)});

        if (old == NULL)
            continue;
        if (key->owns_state)
            free(key->state);
        key->state = old->state;
        key->owns_state = false;
        /* What it owes was counted at the old rate. */
        if (key->rate != old->rate)
            bucket_fill(&key->state->bucket);
    }
}

bool keys_same(const struct keys *a, const struct keys *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        const struct key *x = &a->items[i];
        const struct key *y = &b->items[i];

        if (strcmp(x->name, y->name) != 0 || strcmp(x->stream_list, y->stream_list) != 0 ||
            x->rate != y->rate || x->streams != y->streams || !keys_hash_equal(x->hash, y->hash))
            return false;
    }
    return a->count == b->count;
}

size_t keys_count(const struct keys *keys)
{
    return keys->count;
}

const struct key *keys_at(const struct keys *keys, size_t i)
{
    ALLOY_ASSERT(i < keys->count);
    return &keys->items[i];
}

void keys_hash(struct slice token, unsigned char hash[KEYS_HASH_BYTES])
{
    (void)crypto_generichash(hash, KEYS_HASH_BYTES, (const unsigned char *)token.data, token.len,
                             NULL, 0);
}

bool keys_hash_equal(const unsigned char *a, const unsigned char *b)
{
    return sodium_memcmp(a, b, KEYS_HASH_BYTES) == 0;
}

struct keys_cache *keys_cache_create(void)
{
    struct keys_cache *cache = calloc(1, sizeof(*cache));

    if (cache == NULL)
        return NULL;
    ALLOY_ASSERT(sodium_init() >= 0);
    randombytes_buf(cache->secret, sizeof(cache->secret));
    return cache;
}

const struct key *keys_find(struct keys_cache *cache, const struct keys *keys, struct slice token)
{
    unsigned char mac[crypto_shorthash_siphashx24_BYTES];
    unsigned char hash[KEYS_HASH_BYTES];
    const struct key *key;
    struct keys_slot *slot;

    if (token.len == 0 || token.len > KEYS_TOKEN_LEN_MAX)
        return NULL;
    if (unlikely(cache->keys != keys)) {
        memset(cache->slots, 0, sizeof(cache->slots));
        cache->keys = keys;
    }
    (void)crypto_shorthash_siphashx24(mac, (const unsigned char *)token.data, token.len,
                                      cache->secret);
    slot = &cache->slots[mac[0]];
    if (likely(slot->key != NULL) && sodium_memcmp(slot->mac, mac, sizeof(mac)) == 0)
        return slot->key;
    keys_hash(token, hash);
    key = keys_by_hash(keys, hash);
    if (key != NULL) {
        memcpy(slot->mac, mac, sizeof(mac));
        slot->key = key;
    }
    return key;
}

void keys_generate(char token[KEYS_TOKEN_TEXT])
{
    const size_t prefix = sizeof(TOKEN_PREFIX) - 1;
    unsigned char bytes[TOKEN_BYTES];

    ALLOY_ASSERT(sodium_init() >= 0);
    randombytes_buf(bytes, sizeof(bytes));
    memcpy(token, TOKEN_PREFIX, prefix);
    sodium_bin2base64(token + prefix, KEYS_TOKEN_TEXT - prefix, bytes, sizeof(bytes),
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(bytes, sizeof(bytes));
}

void keys_format_hash(struct slice token, char text[KEYS_HASH_TEXT])
{
    const size_t prefix = sizeof(HASH_PREFIX) - 1;
    unsigned char hash[KEYS_HASH_BYTES];

    keys_hash(token, hash);
    memcpy(text, HASH_PREFIX, prefix);
    sodium_bin2hex(text + prefix, KEYS_HASH_TEXT - prefix, hash, sizeof(hash));
}
