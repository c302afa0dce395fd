/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed_put.c - the keys and commands of redis.layout = packed, and which hashes have their
 * expiry.
 *
 * <prefix>#ids:<stream>:<table>:<hash> is a hash of claims, and <prefix>#packed:<stream> the log of
 * a stream's tables; in a cluster both have their group's tag before <table> and behind <stream>.
 * No claim of layout = keys has such a key, since a stream's name holds no '#'.
 *
 * Runs on: the one thread that owns the struct claims. Owns: struct claims_packed.
 */
#include "claims_packed.h"

#include <inttypes.h>
#include <string.h>

/* Deletes a field if it still has this value: in two steps, the second of which Redis may run long
 * after we have given it up, we could delete another's claim. */
#define LET_GO_SCRIPT                                                                            \
    "if redis.call('HGET',KEYS[1],ARGV[1])==ARGV[2] then return redis.call('HDEL',KEYS[1],ARGV[" \
    "1]) end return 0"

#define HASH_WORD "#ids:"
#define LOG_WORD "#packed:"
#define LOG_KEEP_MS (7ull * 24 * 3600 * 1000) /* how long a log outlives its tables */

static const struct slice nothing = {"", 0};

/* ---- life ---- */

struct claims_packed *claims_packed_create(const struct claims *claims)
{
    struct claims_packed *packed = calloc(1, sizeof(*packed));
    const size_t head =
        claims->prefix_len + sizeof(LOG_WORD) + CONFIG_STREAM_NAME_MAX + TAG_LEN + 2;

    if (packed == NULL)
        return NULL;
    packed->slice_max = claims->slice_max;
    packed->identities = malloc(claims->slice_max * sizeof(*packed->identities));
    packed->states = malloc(claims->slice_max * sizeof(*packed->states));
    packed->hash_head = malloc(head);
    packed->log_head = malloc(head);
    if (packed->identities == NULL || packed->states == NULL || packed->hash_head == NULL ||
        packed->log_head == NULL) {
        claims_packed_destroy(packed);
        return NULL;
    }
    return packed;
}

static void claims_packed_drop(struct claims_packed *packed)
{
    for (size_t i = 0; i < CONFIG_STREAMS_MAX; i++) {
        for (size_t k = 0; packed->groups[i] != NULL && k < packed->groups_each; k++)
            free(packed->groups[i][k].marked);
        free(packed->groups[i]);
        packed->groups[i] = NULL;
    }
}

void claims_packed_destroy(struct claims_packed *packed)
{
    if (packed == NULL)
        return;
    claims_packed_drop(packed);
    free(packed->identities);
    free(packed->states);
    free(packed->hash_head);
    free(packed->log_head);
    free(packed);
}

void claims_packed_forget(struct claims *claims)
{
    if (claims->packed != NULL)
        claims_packed_drop(claims->packed);
}

/* ---- which hashes have an expiry ---- */

static unsigned claims_packed_skip(const struct claims *claims)
{
    return claims->tagged ? PACKED_GROUP_BITS : 0;
}

/* Of record i in the group's table in use, without what the tag tells. */
static uint32_t claims_packed_hash(const struct claims *claims, const struct packed_group *group,
                                   uint32_t i)
{
    const unsigned bits = group->used.bits;
    const uint32_t hash = packed_hash_of(&claims->packed->identities[i], bits);

    return hash & ((1u << (bits - claims_packed_skip(claims))) - 1);
}

/* Of 64 bits. */
static size_t claims_packed_words(const struct claims *claims, const struct packed_table *table)
{
    return ((1u << (table->bits - claims_packed_skip(claims))) + 63) / 64;
}

void claims_packed_use(const struct claims *claims, struct packed_group *group,
                       const struct packed_table *table)
{
    if (packed_table_is(&group->used, table))
        return;
    free(group->marked);
    group->marked = table->way == PACKED_KEYS
                        ? NULL
                        : calloc(claims_packed_words(claims, table), sizeof(*group->marked));
    group->used = *table;
    group->claimed = 0;
}

bool claims_packed_mark(const struct claims *claims, struct packed_group *group, uint32_t i)
{
    const uint32_t hash = claims_packed_hash(claims, group, i);
    const uint64_t bit = 1ull << hash % 64;

    if (group->marked == NULL)
        return true;
    if ((group->marked[hash / 64] & bit) != 0)
        return false;
    group->marked[hash / 64] |= bit;
    return true;
}

void claims_packed_unmark(const struct claims *claims, struct packed_group *group)
{
    if (group->marked != NULL)
        memset(group->marked, 0, claims_packed_words(claims, &group->used) * sizeof(uint64_t));
}

/* ---- a slice ---- */

void claims_packed_aim(struct claims *claims, size_t n, bool at_keys)
{
    const uint16_t each = BUCKETS / PACKED_GROUPS;

    for (size_t i = 0; claims->tagged && i < n; i++)
        claims->bucket[i] =
            (uint16_t)(at_keys ? claims->key_bucket[i] : claims->key_bucket[i] / each * each);
}

static size_t claims_packed_put_head(const struct claims *claims, char *head, const char *word,
                                     const char *name)
{
    const size_t prefix = claims->prefix_len;

    memcpy(head, claims->key_head, prefix);
    return prefix + (size_t)sprintf(head + prefix, "%s%s:", word, name);
}

bool claims_packed_put_stream(struct claims *claims, uint16_t number)
{
    const struct config_stream *stream = &config_current(claims->parts.config)->streams[number];
    struct claims_packed *packed = claims->packed;

    if (!claims->is_packed && !claims->parts.watch_layout)
        return true;
    packed->groups_each = claims->tagged ? PACKED_GROUPS : 1;
    packed->packs = claims->is_packed;
    packed->stream = number;
    packed->ttl_ms = stream->ttl_ms;
    packed->hash_head_len =
        claims_packed_put_head(claims, packed->hash_head, HASH_WORD, stream->name);
    packed->log_head_len = claims_packed_put_head(claims, packed->log_head, LOG_WORD, stream->name);
    if (packed->groups[number] == NULL)
        packed->groups[number] = calloc(packed->groups_each, sizeof(struct packed_group));
    return packed->groups[number] != NULL;
}

void claims_packed_begin(struct claims *claims, size_t n)
{
    struct claims_packed *packed = claims->packed;
    bool seen[PACKED_GROUPS] = {false};

    packed->group_count = 0;
    for (size_t i = 0; i < n; i++) {
        const struct record *record = claims->records[i];
        size_t group;

        event_id_identity(packed->identities[i].bytes, record_id(record), record->id_length);
        packed->states[i] = PACKED_LOST;
        claims->asking[i] = REDIS_NODE_NONE;
        claims->flags[i] = 0;
        if (!claims->tagged)
            claims->bucket[i] = 0;
        group = claims_packed_group(claims, (uint32_t)i);
        if (!seen[group])
            packed->leaders[packed->group_count++] = (uint32_t)i;
        seen[group] = true;
    }
    claims_packed_aim(claims, n, false);
}

/* ---- commands ---- */

/* Writes the tag of a record's group behind the head, in a cluster. */
static struct slice claims_packed_tag(const struct claims *claims, char *head, size_t len,
                                      size_t bucket)
{
    if (!claims->tagged)
        return (struct slice){head, len};
    claims_put_tag_at(head + len, bucket);
    return (struct slice){head, len + TAG_LEN};
}

static void claims_packed_put_log_key(struct claims *claims, size_t bucket)
{
    struct claims_packed *packed = claims->packed;

    /* "...:" ends without its colon where no tag comes. */
    redis_link_put_bulk(
        claims->link,
        claims_packed_tag(claims, packed->log_head, packed->log_head_len - !claims->tagged, bucket),
        nothing);
}

static void claims_packed_put_key(struct claims *claims, uint32_t i,
                                  const struct packed_table *table, uint32_t hash)
{
    struct claims_packed *packed = claims->packed;
    char name[PACKED_NAME_MAX];
    const size_t len = packed_name(name, table, hash, claims_packed_skip(claims));

    redis_link_put_bulk(
        claims->link,
        claims_packed_tag(claims, packed->hash_head, packed->hash_head_len, claims->bucket[i]),
        (struct slice){name, len});
}

static void claims_packed_put_hash_key(struct claims *claims, uint32_t i,
                                       const struct packed_table *table)
{
    claims_packed_put_key(claims, i, table,
                          packed_hash_of(&claims->packed->identities[i], table->bits));
}

/* A record may be in todo more than once, and stands for another hash each time. */
static void claims_packed_put_fill(struct claims *claims, size_t at,
                                   const struct packed_table *table)
{
    const uint32_t i = claims->todo[at];
    const uint32_t hash = packed_hash_of(&claims->packed->identities[i], table->bits);

    redis_link_put(claims->link, LITERAL("*2\r\n$4\r\nHLEN\r\n"));
    claims_packed_put_key(claims, i, table, hash + (uint32_t)at);
}

/* Which table the present round is about; NULL: the log. */
static const struct packed_table *claims_packed_table(const struct claims *claims,
                                                      const struct packed_group *group)
{
    switch (claims->round) {
    case ROUND_FIND:
    case ROUND_LET_GO:
        return &group->log.tables[group->older[claims->packed->depth]];
    case ROUND_KNOW:
    case ROUND_CLAIM:
    case ROUND_WHO:
    case ROUND_EXPIRE:
        return &group->used;
    case ROUND_FILL:
        return packed_log_newest(&group->log);
    default:
        return NULL;
    }
}

void claims_packed_name(const struct claims *claims, uint32_t i, char name[PACKED_KEY_MAX])
{
    const struct claims_packed *packed = claims->packed;
    const struct packed_table *table =
        claims_packed_table(claims, claims_packed_group_of(claims, i));
    const size_t head_len =
        table != NULL ? packed->hash_head_len : packed->log_head_len - !claims->tagged;
    char tag[TAG_LEN], rest[PACKED_NAME_MAX];
    size_t rest_len = 0;

    claims_put_tag_at(tag, claims->bucket[i]);
    if (table != NULL)
        rest_len = packed_name(rest, table, packed_hash_of(&packed->identities[i], table->bits),
                               claims_packed_skip(claims));
    snprintf(name, PACKED_KEY_MAX, "%.*s%.*s%.*s", (int)head_len,
             table != NULL ? packed->hash_head : packed->log_head, claims->tagged ? TAG_LEN : 0,
             tag, (int)rest_len, rest);
}

/* The key of record i's hash in the table, and its field there. */
static void claims_packed_put_place(struct claims *claims, const struct packed_table *table,
                                    uint32_t i)
{
    claims_packed_put_hash_key(claims, i, table);
    redis_link_put_bulk(claims->link, packed_field(&claims->packed->identities[i], table), nothing);
}

void claims_packed_value(const struct claims *claims, uint32_t i, char value[PACKED_VALUE_LEN])
{
    if (claims->packed->finds)
        packed_value(value, FOUND_INSTANCE, FOUND_LSN);
    else
        packed_value(value, claims->parts.instance_id, claims->records[i]->lsn);
}

static void claims_packed_put_value(struct claims *claims, uint32_t i)
{
    char value[PACKED_VALUE_LEN];

    claims_packed_value(claims, i, value);
    redis_link_put_bulk(claims->link, (struct slice){value, sizeof(value)}, nothing);
}

static void claims_packed_put_number(struct claims *claims, uint64_t number)
{
    char text[24];
    const int len = snprintf(text, sizeof(text), "%" PRIu64, number);

    redis_link_put_bulk(claims->link, (struct slice){text, (size_t)len}, nothing);
}

static void claims_packed_put_open(struct claims *claims, const struct packed_group *group,
                                   uint32_t i)
{
    char text[PACKED_TEXT_MAX];

    packed_table_print(&group->next, text);
    redis_link_put(claims->link, LITERAL("*4\r\n$6\r\nHSETNX\r\n"));
    claims_packed_put_log_key(claims, claims->bucket[i]);
    claims_packed_put_number(claims, group->next.number);
    redis_link_put_bulk(claims->link, (struct slice){text, strlen(text)}, nothing);
}

/* The log outlives all tables. */
static void claims_packed_put_keep(struct claims *claims, const struct packed_group *group,
                                   uint32_t i)
{
    uint64_t end_ms = packed_table_end_ms(&group->next);

    for (size_t k = 0; k < group->log.count; k++)
        if (packed_table_end_ms(&group->log.tables[k]) > end_ms)
            end_ms = packed_table_end_ms(&group->log.tables[k]);
    redis_link_put(claims->link, LITERAL("*3\r\n$9\r\nPEXPIREAT\r\n"));
    claims_packed_put_log_key(claims, claims->bucket[i]);
    claims_packed_put_number(claims, end_ms + LOG_KEEP_MS);
}

/* Tables that nobody looks at any more; all that are left are the newest and those that live. */
static void claims_packed_put_trim(struct claims *claims, const struct packed_group *group,
                                   uint32_t i)
{
    const size_t count = group->log.count;
    size_t dead = 0;

    for (size_t k = 0; k + 1 < count; k++)
        dead += !packed_log_lives(&group->log, k, group->now_ms);
    redis_link_put_array(claims->link, 2 + (dead > 0 ? dead : 1));
    redis_link_put(claims->link, LITERAL("$4\r\nHDEL\r\n"));
    claims_packed_put_log_key(claims, claims->bucket[i]);
    for (size_t k = 0; k + 1 < count; k++)
        if (!packed_log_lives(&group->log, k, group->now_ms))
            claims_packed_put_number(claims, group->log.tables[k].number);
    if (dead == 0)
        claims_packed_put_number(claims, 0);
}

static void claims_packed_put_let_go(struct claims *claims, const struct packed_table *table,
                                     uint32_t i)
{
    redis_link_put(claims->link, LITERAL("*6\r\n$4\r\nEVAL\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){LITERAL(LET_GO_SCRIPT)}, nothing);
    redis_link_put(claims->link, LITERAL("$1\r\n1\r\n"));
    claims_packed_put_place(claims, table, i);
    claims_packed_put_value(claims, i);
}

static void claims_packed_put_get(struct claims *claims, const struct packed_table *table,
                                  uint32_t i)
{
    redis_link_put(claims->link, LITERAL("*3\r\n$4\r\nHGET\r\n"));
    claims_packed_put_place(claims, table, i);
}

void claims_packed_put_command(struct claims *claims, size_t at)
{
    struct claims_packed *packed = claims->packed;
    const uint32_t i = claims->todo[at];
    const struct packed_group *group =
        &packed->groups[packed->stream][claims_packed_group(claims, i)];

    switch (claims->round) {
    case ROUND_LOG:
        redis_link_put(claims->link, LITERAL("*2\r\n$7\r\nHGETALL\r\n"));
        claims_packed_put_log_key(claims, claims->bucket[i]);
        break;
    case ROUND_KEEP:
        claims_packed_put_keep(claims, group, i);
        break;
    case ROUND_OPEN:
        claims_packed_put_open(claims, group, i);
        break;
    case ROUND_TRIM:
        claims_packed_put_trim(claims, group, i);
        break;
    case ROUND_FIND:
        claims_packed_put_get(claims, &group->log.tables[group->older[packed->depth]], i);
        break;
    case ROUND_CLAIM:
        redis_link_put(claims->link, LITERAL("*4\r\n$6\r\nHSETNX\r\n"));
        claims_packed_put_place(claims, &group->used, i);
        claims_packed_put_value(claims, i);
        break;
    case ROUND_KNOW:
    case ROUND_WHO:
        claims_packed_put_get(claims, &group->used, i);
        break;
    case ROUND_EXPIRE:
        redis_link_put(claims->link, LITERAL("*3\r\n$9\r\nPEXPIREAT\r\n"));
        claims_packed_put_hash_key(claims, i, &group->used);
        claims_packed_put_number(claims, packed_table_end_ms(&group->used));
        break;
    case ROUND_FILL:
        claims_packed_put_fill(claims, at, packed_log_newest(&group->log));
        break;
    case ROUND_PEEK:
        redis_link_put(claims->link, LITERAL("*2\r\n$3\r\nGET\r\n"));
        claims_packed_put_log_key(claims, claims->bucket[i]);
        break;
    case ROUND_WISH:
        redis_link_put(claims->link, LITERAL("*4\r\n$4\r\nHSET\r\n"));
        claims_packed_put_log_key(claims, claims->bucket[i]);
        redis_link_put(claims->link, LITERAL("$1\r\nw\r\n"));
        claims_packed_put_number(claims, group->now_ms);
        break;
    case ROUND_FIND_KEYS:
    case ROUND_WHO_KEYS:
        claims_put_get(claims, at);
        break;
    case ROUND_LET_GO_KEYS:
        claims_put_let_go(claims, at);
        break;
    case ROUND_LET_GO:
        claims_packed_put_let_go(claims, &group->log.tables[group->older[packed->depth]], i);
        break;
    default:
        ALLOY_UNREACHABLE("no round of packed claims");
    }
}

void claims_packed_put_scan(struct claims *claims)
{
    const char *cursor = claims->packed->cursor;

    redis_link_put(claims->link, LITERAL("*4\r\n$4\r\nSCAN\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){cursor, strlen(cursor)}, nothing);
    redis_link_put(claims->link, LITERAL("$5\r\nCOUNT\r\n$4\r\n1000\r\n"));
}

/* Tells that this alloyd is no reason to look at claims of layout = keys. */
static void claims_packed_put_packer(struct claims *claims)
{
    const char *stream = config_current(claims->parts.config)->streams[claims->packed->stream].name;
    char rest[CONFIG_STREAM_NAME_MAX + 64];

    snprintf(rest, sizeof(rest), PACKED_PACKER_WORD "%s:%016" PRIx64, stream,
             claims->parts.instance_id);
    redis_link_put(claims->link, LITERAL("*5\r\n$3\r\nSET\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){claims->key_head, claims->prefix_len},
                        (struct slice){rest, strlen(rest)});
    redis_link_put(claims->link, LITERAL("$1\r\n1\r\n$2\r\nEX\r\n$3\r\n600\r\n"));
}

/* On a hash that no table has, and which expires at once. */
size_t claims_packed_put_probe(struct claims *claims, size_t bucket)
{
    struct claims_packed *packed = claims->packed;
    const struct slice head =
        claims_packed_tag(claims, packed->hash_head, packed->hash_head_len, bucket);
    const struct slice probe = {"probe", 5};

    redis_link_put(claims->link, LITERAL("*1\r\n$4\r\nTIME\r\n"));
    redis_link_put(claims->link, LITERAL("*2\r\n$7\r\nHGETALL\r\n"));
    claims_packed_put_log_key(claims, bucket);
    redis_link_put(claims->link, LITERAL("*4\r\n$6\r\nHSETNX\r\n"));
    redis_link_put_bulk(claims->link, head, probe);
    redis_link_put(claims->link, LITERAL("$5\r\nprobe\r\n$5\r\nprobe\r\n"));
    redis_link_put(claims->link, LITERAL("*3\r\n$4\r\nHGET\r\n"));
    redis_link_put_bulk(claims->link, head, probe);
    redis_link_put(claims->link, LITERAL("$5\r\nprobe\r\n"));
    redis_link_put(claims->link, LITERAL("*3\r\n$9\r\nPEXPIREAT\r\n"));
    redis_link_put_bulk(claims->link, head, probe);
    redis_link_put(claims->link, LITERAL("$1\r\n1\r\n"));
    if (claims->tagged)
        return 5;
    claims_packed_put_packer(claims);
    return 6;
}
