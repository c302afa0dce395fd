/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_put.c - the commands of claims: MGET, SET NX EX, WAIT, and the ways to delete a key
 * by its value.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_private.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LIFE_TTLS 3 /* a packed claim lives for more than two */
#define LIFE_MARGIN_S 120

/* Deletes a key if it still has this value. In two steps we could delete another's claim, if ours
 * expired in between. A key that is not a string is not a claim. */
#define RELEASE_SCRIPT                                                                  \
    "local v=redis.pcall('GET',KEYS[1]) "                                               \
    "if v==ARGV[1] then return redis.call('DEL',KEYS[1]) end "                          \
    "if type(v)=='table' and v.err and not string.find(v.err,'WRONGTYPE',1,true) then " \
    "return v end return 0"

/* Reads the configuration each time, since a reload may change it. */
void claims_put_stream(struct claims *claims, uint16_t number)
{
    const struct config *config = config_current(claims->parts.config);
    const struct config_stream *stream = &config->streams[number];
    size_t name_len = strlen(stream->name);

    ALLOY_ASSERT(number < config->stream_count && name_len <= CONFIG_STREAM_NAME_MAX);
    memcpy(claims->key_head + claims->prefix_len, stream->name, name_len);
    claims->key_head[claims->prefix_len + name_len] = ':';
    claims->key_head_len = claims->prefix_len + name_len + 1;
    claims->chunk = config->redis_chunk;
    /* Round up: Redis must not forget an id before its ttl. */
    snprintf(claims->ttl_s, sizeof(claims->ttl_s), "%llu",
             (unsigned long long)((stream->ttl_ms + 999) / 1000));
    claims->is_packed = config->redis_layout == CONFIG_REDIS_PACKED;
}

void claims_put_tag_at(char tag[TAG_LEN], size_t bucket)
{
    static const char digits[16] = "0123456789abcdef";

    tag[0] = '{';
    tag[1] = digits[bucket >> 8 & 15];
    tag[2] = digits[bucket >> 4 & 15];
    tag[3] = digits[bucket & 15];
    tag[4] = '}';
}

void claims_put_tag(struct claims *claims, size_t bucket)
{
    claims_put_tag_at(claims->key_head + claims->key_head_len, bucket);
}

static struct slice claims_put_head(const struct claims *claims)
{
    return (struct slice){claims->key_head, claims->key_head_len + (claims->tagged ? TAG_LEN : 0)};
}

/* Of the record that todo has at `at`. */
static void claims_put_key(struct claims *claims, size_t at)
{
    const uint32_t i = claims->todo[at];
    const struct record *record = claims->records[i];

    if (claims->tagged)
        claims_put_tag(claims, claims->bucket[i]);
    redis_link_put_bulk(claims->link, claims_put_head(claims),
                        (struct slice){record_id(record), record->id_length});
}

void claims_put_value(const struct claims *claims, const struct record *record,
                      char value[VALUE_LEN])
{
    uint64_t words[2] = {htole64(claims->parts.instance_id), htole64(record->lsn)};

    memcpy(value, words, sizeof(words));
}

void claims_put_found_value(char value[VALUE_LEN])
{
    memcpy(value, (uint64_t[]){htole64(FOUND_INSTANCE), htole64(FOUND_LSN)}, VALUE_LEN);
}

/* Whether an alloyd can have written this: no text looks so. A record's number, that of its segment
 * and an offset, is far from 2^56. */
bool claims_put_is_value(struct slice value)
{
    uint64_t words[2];

    if (value.len != VALUE_LEN)
        return false;
    memcpy(words, value.data, sizeof(words));
    return words[0] != 0 && words[1] != 0 && le64toh(words[1]) >> 56 == 0;
}

static const struct record *claims_todo_record(const struct claims *claims, size_t at)
{
    return claims->records[claims->todo[at]];
}

/* Whether two keys may be in one MGET of a cluster. */
static bool claims_put_together(const struct claims *claims, size_t one, size_t other)
{
    const uint32_t a = claims->todo[one], b = claims->todo[other];

    return claims->bucket[a] == claims->bucket[b] &&
           ((claims->flags[a] | claims->flags[b]) & FLAG_ALONE) == 0;
}

/* How many keys from `from` on go into one MGET. Sending and answering give the same number, since
 * todo behind the present reply does not change. */
static size_t claims_mget_span(const struct claims *claims, size_t from, size_t n)
{
    size_t count = 0;
    size_t bytes = 0;

    while (from + count < n && count < claims->chunk && bytes < WINDOW_BYTES) {
        if (claims->tagged && count > 0 && !claims_put_together(claims, from, from + count))
            break;
        bytes += claims->key_head_len + TAG_LEN +
                 claims_todo_record(claims, from + count)->id_length + 16;
        count++;
    }
    return count;
}

void claims_put_get(struct claims *claims, size_t at)
{
    redis_link_put(claims->link, LITERAL("*2\r\n$4\r\nMGET\r\n"));
    claims_put_key(claims, at);
}

void claims_put_let_go(struct claims *claims, size_t at)
{
    const struct slice none = {"", 0};
    char value[VALUE_LEN];

    claims_put_value(claims, claims_todo_record(claims, at), value);
    redis_link_put(claims->link, LITERAL("*5\r\n$4\r\nEVAL\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){LITERAL(RELEASE_SCRIPT)}, none);
    redis_link_put(claims->link, LITERAL("$1\r\n1\r\n"));
    claims_put_key(claims, at);
    redis_link_put_bulk(claims->link, (struct slice){value, VALUE_LEN}, none);
}

static void claims_put_mget(struct claims *claims, size_t from, size_t count)
{
    redis_link_put_array(claims->link, count + 1);
    redis_link_put(claims->link, LITERAL("$4\r\nMGET\r\n"));
    for (size_t i = from; i < from + count; i++)
        claims_put_key(claims, i);
}

static void claims_put_set(struct claims *claims, size_t at)
{
    char value[VALUE_LEN];

    if (claims->round == ROUND_FOUND)
        claims_put_found_value(value);
    else
        claims_put_value(claims, claims_todo_record(claims, at), value);
    redis_link_put(claims->link, LITERAL("*6\r\n$3\r\nSET\r\n"));
    claims_put_key(claims, at);
    redis_link_put_bulk(claims->link, (struct slice){value, VALUE_LEN}, (struct slice){"", 0});
    redis_link_put(claims->link, LITERAL("$2\r\nEX\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){claims->ttl_s, strlen(claims->ttl_s)},
                        (struct slice){"", 0});
    redis_link_put(claims->link, LITERAL("$2\r\nNX\r\n"));
}

/* A key that no event has, since an id is never empty, but that ACL rules for claims cover. */
static void claims_put_empty_key(struct claims *claims)
{
    redis_link_put_bulk(claims->link, claims_put_head(claims), (struct slice){"", 0});
}

static void claims_put_release(struct claims *claims, size_t at)
{
    const struct slice none = {"", 0};
    char value[VALUE_LEN];

    claims_put_value(claims, claims_todo_record(claims, at), value);
    switch (claims->lane->release_way) {
    case RELEASE_DELEX:
        redis_link_put(claims->link, LITERAL("*4\r\n$5\r\nDELEX\r\n"));
        claims_put_key(claims, at);
        redis_link_put(claims->link, LITERAL("$4\r\nIFEQ\r\n"));
        break;
    case RELEASE_DELIFEQ:
        redis_link_put(claims->link, LITERAL("*3\r\n$7\r\nDELIFEQ\r\n"));
        claims_put_key(claims, at);
        break;
    case RELEASE_UNKNOWN:
    case RELEASE_EVAL:
        redis_link_put(claims->link, LITERAL("*5\r\n$4\r\nEVAL\r\n"));
        redis_link_put_bulk(claims->link, (struct slice){LITERAL(RELEASE_SCRIPT)}, none);
        redis_link_put(claims->link, LITERAL("$1\r\n1\r\n"));
        claims_put_key(claims, at);
        break;
    }
    redis_link_put_bulk(claims->link, (struct slice){value, VALUE_LEN}, none);
}

/* Sends both commands, on a key that does not exist. */
void claims_put_question(struct claims *claims)
{
    redis_link_put(claims->link, LITERAL("*4\r\n$5\r\nDELEX\r\n"));
    claims_put_empty_key(claims);
    redis_link_put(claims->link, LITERAL("$4\r\nIFEQ\r\n$1\r\n-\r\n"));
    redis_link_put(claims->link, LITERAL("*3\r\n$7\r\nDELIFEQ\r\n"));
    claims_put_empty_key(claims);
    redis_link_put(claims->link, LITERAL("$1\r\n-\r\n"));
}

/* Sends what claiming needs, on a key that expires at once. */
size_t claims_put_probe(struct claims *claims)
{
    redis_link_put(claims->link, LITERAL("*2\r\n$4\r\nMGET\r\n"));
    claims_put_empty_key(claims);
    redis_link_put(claims->link, LITERAL("*6\r\n$3\r\nSET\r\n"));
    claims_put_empty_key(claims);
    redis_link_put(claims->link, LITERAL("$5\r\nprobe\r\n$2\r\nPX\r\n$1\r\n1\r\n$2\r\nNX\r\n"));
    return 2;
}

void claims_put_touch(struct claims *claims)
{
    redis_link_put(claims->link, LITERAL("*5\r\n$3\r\nSET\r\n"));
    claims_put_empty_key(claims);
    redis_link_put(claims->link, LITERAL("$4\r\nwait\r\n$2\r\nPX\r\n$1\r\n1\r\n"));
}

static void claims_put_number(struct claims *claims, uint64_t number)
{
    char text[24];
    const int len = snprintf(text, sizeof(text), "%" PRIu64, number);

    redis_link_put_bulk(claims->link, (struct slice){text, (size_t)len}, (struct slice){"", 0});
}

/* "#life" of a server; a stream's name has no '#'. In a cluster it is of a bucket, which the server
 * has. */
static void claims_put_life_key(struct claims *claims, size_t bucket)
{
    const char *prefix = claims->key_head;
    char name[sizeof("#life:{3ff}")];

    if (claims->tagged)
        snprintf(name, sizeof(name), "#life:{%03zx}", bucket);
    else
        snprintf(name, sizeof(name), "#life");
    redis_link_put_bulk(claims->link, (struct slice){prefix, claims->prefix_len},
                        (struct slice){name, strlen(name)});
}

void claims_put_look(struct claims *claims)
{
    redis_link_put(claims->link, LITERAL("*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"));
    redis_link_put(claims->link, LITERAL("*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"));
}

/* MGET, which claims need in any case. */
void claims_put_past(struct claims *claims, size_t bucket)
{
    redis_link_put(claims->link, LITERAL("*2\r\n$4\r\nMGET\r\n"));
    claims_put_life_key(claims, bucket);
}

/* It lives as long as the last claim. */
void claims_put_life(struct claims *claims, size_t bucket, const char *value)
{
    const struct config *config = config_current(claims->parts.config);
    uint64_t ttl_ms = 0;

    for (size_t i = 0; i < config->stream_count; i++)
        if (config->streams[i].ttl_ms > ttl_ms)
            ttl_ms = config->streams[i].ttl_ms;
    ttl_ms *= LIFE_TTLS;
    redis_link_put(claims->link, LITERAL("*5\r\n$3\r\nSET\r\n"));
    claims_put_life_key(claims, bucket);
    redis_link_put_bulk(claims->link, (struct slice){value, strlen(value)}, (struct slice){"", 0});
    redis_link_put(claims->link, LITERAL("$2\r\nEX\r\n"));
    claims_put_number(claims, ttl_ms / 1000 + LIFE_MARGIN_S);
}

void claims_put_wait(struct claims *claims, uint64_t replicas, uint64_t timeout_ms)
{
    redis_link_put(claims->link, LITERAL("*3\r\n$4\r\nWAIT\r\n"));
    claims_put_number(claims, replicas);
    claims_put_number(claims, timeout_ms);
}

/* How many keys the command at `from` of this round has. */
size_t claims_put_span(const struct claims *claims, size_t from, size_t n)
{
    if (claims->round == ROUND_LOOKUP || claims->round == ROUND_VERIFY)
        return claims_mget_span(claims, from, n);
    return 1;
}

void claims_put_command(struct claims *claims, size_t from, size_t count)
{
    switch (claims->round) {
    case ROUND_LOOKUP:
    case ROUND_VERIFY:
        claims_put_mget(claims, from, count);
        break;
    case ROUND_SET:
    case ROUND_FOUND:
        claims_put_set(claims, from);
        break;
    case ROUND_RELEASE:
        claims_put_release(claims, from);
        break;
    default: /* claims_packed_put.c has those of packed; the others are about no record */
        break;
    }
}
