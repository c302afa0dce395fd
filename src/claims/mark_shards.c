/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_shards.c - which tables an alloyd has found in the shards of clickhouse.url, as its key in
 * Redis tells its next life.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "mark_shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HASH_DIGITS 16
#define STEADY_MS 60000 /* a server that was asked under the list before has answered by then */
#define FNV_BEGIN 14695981039346656037u
#define FNV_PRIME 1099511628211u

/* FNV-1a, 64 bits. A text's NUL ends it, so that two texts are not as one. */
static uint64_t mark_shards_hash(uint64_t hash, const char *text)
{
    do
        hash = (hash ^ (unsigned char)*text) * FNV_PRIME;
    while (*text++ != '\0');
    return hash;
}

uint64_t mark_shards_list(const struct config *config, size_t stream)
{
    struct clickhouse_url walk = {.rest = config->clickhouse_url};
    uint64_t hash = mark_shards_hash(FNV_BEGIN, config->streams[stream].table_text);
    char name[CLICKHOUSE_NAME_MAX], shard[24];

    while (clickhouse_url_next(&walk)) {
        (void)clickhouse_url_name(walk.url, name);
        snprintf(shard, sizeof(shard), "%zu", walk.shard);
        hash = mark_shards_hash(mark_shards_hash(hash, shard), name);
    }
    return hash != 0 ? hash : 1;
}

/* 0: none. */
static uint64_t mark_shards_table(const char *identity)
{
    const uint64_t hash = mark_shards_hash(FNV_BEGIN, identity);

    if (*identity == '\0')
        return 0;
    return hash != 0 ? hash : 1;
}

bool mark_shards_note(struct mark_shards *shards, uint64_t list, size_t shard, const char *identity,
                      uint64_t now_ms)
{
    const uint64_t table = mark_shards_table(identity);

    if (list != shards->list)
        *shards = (struct mark_shards){.list = list,
                                       .steady_ms = shards->list == 0 ? 0 : now_ms + STEADY_MS};
    if (now_ms < shards->steady_ms || shards->tables[shard] == table)
        return false;
    shards->tables[shard] = table;
    return true;
}

void mark_shards_write(const struct mark_shards *now, const struct mark_shards *before,
                       const char *identity, char out[MARK_SHARDS_TEXT_MAX])
{
    struct mark_shards all = *now;
    size_t count = CLICKHOUSE_SHARDS_MAX, len;

    for (size_t i = 0; now->list == before->list && i < CLICKHOUSE_SHARDS_MAX; i++)
        if (all.tables[i] == 0)
            all.tables[i] = before->tables[i];
    out[0] = '\0';
    if (all.tables[0] == 0 || all.tables[0] != mark_shards_table(identity))
        return;
    while (all.tables[count - 1] == 0)
        count--;
    len = (size_t)snprintf(out, MARK_SHARDS_TEXT_MAX, " %016" PRIx64, all.list);
    for (size_t i = 0; i < count; i++)
        len += (size_t)snprintf(out + len, MARK_SHARDS_TEXT_MAX - len, "%c%016" PRIx64,
                                i == 0 ? ':' : ',', all.tables[i]);
}

/* A hash of sixteen digits at the beginning of text, which it loses. */
static bool mark_shards_cut_hash(struct slice *text, uint64_t *hash)
{
    *hash = 0;
    if (text->len < HASH_DIGITS)
        return false;
    for (size_t i = 0; i < HASH_DIGITS; i++) {
        const char *digit = memchr("0123456789abcdef", text->data[i], 16);

        if (digit == NULL)
            return false;
        *hash = *hash << 4 | (uint64_t)(digit - "0123456789abcdef");
    }
    text->data += HASH_DIGITS;
    text->len -= HASH_DIGITS;
    return true;
}

bool mark_shards_read(struct slice *value, struct mark_shards *shards)
{
    const char *space = memrchr(value->data, ' ', value->len);
    struct slice text;
    size_t count = 0;
    bool whole;

    *shards = (struct mark_shards){.list = 0};
    if (space == NULL)
        return false;
    text = (struct slice){space + 1, value->len - (size_t)(space + 1 - value->data)};
    whole = mark_shards_cut_hash(&text, &shards->list);
    while (whole && text.len > 0 && count < CLICKHOUSE_SHARDS_MAX) {
        whole = *text.data == (count == 0 ? ':' : ',');
        text.data++;
        text.len--;
        whole = whole && mark_shards_cut_hash(&text, &shards->tables[count++]);
    }
    if (!whole || text.len > 0 || count == 0) {
        *shards = (struct mark_shards){.list = 0};
        return false;
    }
    value->len = (size_t)(space - value->data);
    return true;
}

bool mark_shards_confirm(const struct mark_shards *now, const struct mark_shards *before)
{
    size_t same = 0;

    if (now->list == 0 || now->list != before->list)
        return false;
    for (size_t i = 0; i < CLICKHOUSE_SHARDS_MAX; i++) {
        if (now->tables[i] == 0 || before->tables[i] == 0)
            continue;
        if (now->tables[i] != before->tables[i])
            return false;
        same++;
    }
    return same > 0;
}
