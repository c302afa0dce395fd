/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packed.c - where the claims of redis.layout = packed are: tables of hashes, and the log of them.
 *
 * How many ids will come within a ttl is not known beforehand, and may change a thousandfold. So a
 * table's size is chosen when it is opened: by what the last one held, or, when that was full
 * before its time, four or sixteen times as many hashes. Ids are never moved: full tables are
 * looked at like those that are over.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/packed.h"

#include <endian.h>
#include <inttypes.h>
#include <string.h>

_Static_assert(PACKED_BITS_MAX / 8 + PACKED_FIELD_LEN <= EVENT_ID_IDENTITY_LEN, "all is told");

#define GRACE_PARTS 20 /* of a ttl: how late a claim may come to a table that is over */
#define GRACE_MAX_MS 1000
#define GROW_BITS 2
#define GROW_MORE_BITS 4
#define GROW_SMALL 3 /* so many tables grow by GROW_BITS only, since many stop there */

uint32_t packed_hash_of(const struct packed_identity *identity, unsigned bits)
{
    const unsigned char *at = identity->bytes;
    const uint32_t word =
        (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];

    return word >> (32 - bits);
}

static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

static void packed_table_name(struct packed_table *table)
{
    char reversed[sizeof(table->name)];
    size_t n = 0;

    for (uint64_t left = table->opened_ms; left > 0 && n < sizeof(reversed); left /= 36)
        reversed[n++] = digits[left % 36];
    table->name_len = (uint8_t)n;
    for (size_t i = 0; i < n; i++)
        table->name[i] = reversed[n - 1 - i];
}

size_t packed_name(char out[PACKED_NAME_MAX], const struct packed_table *table, uint32_t hash,
                   unsigned skip)
{
    const unsigned hex = (table->bits - skip + 3) / 4;
    size_t len = table->name_len;

    memcpy(out, table->name, len);
    out[len++] = ':';
    hash &= (1u << (table->bits - skip)) - 1;
    for (unsigned i = hex; i-- > 0;)
        out[len++] = digits[hash >> 4 * i & 15];
    return len;
}

/* In a cluster the first byte is not told, but the group is, by as many bits of another hash. */
struct slice packed_field(const struct packed_identity *identity, const struct packed_table *table)
{
    return (struct slice){(const char *)identity->bytes + table->bits / 8, PACKED_FIELD_LEN};
}

void packed_value(char out[PACKED_VALUE_LEN], uint64_t instance_id, uint64_t lsn)
{
    uint64_t word = lsn;

    /* A bijection (the end of splitmix64, Vigna). Instance ids are random, LSNs much alike. */
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9ull;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebull;
    word = htole64((word ^ (word >> 31)) ^ instance_id);
    memcpy(out, &word, PACKED_VALUE_LEN);
}

/* ---- a table ---- */

static bool packed_read_number(struct slice *text, uint64_t *number)
{
    size_t i = 0;

    *number = 0;
    for (; i < text->len && text->data[i] >= '0' && text->data[i] <= '9'; i++) {
        if (*number > UINT64_MAX / 1000)
            return false;
        *number = 10 * *number + (uint64_t)(text->data[i] - '0');
    }
    if (i == 0)
        return false;
    text->data += i;
    text->len -= i;
    return true;
}

static bool packed_read_word(struct slice *text, uint64_t *number)
{
    if (text->len == 0 || text->data[0] != ' ')
        return false;
    text->data++;
    text->len--;
    return packed_read_number(text, number);
}

bool packed_table_read(struct packed_table *table, struct slice number, struct slice text)
{
    uint64_t bits, grown, way, format;

    *table = (struct packed_table){0};
    if (!packed_read_number(&number, &table->number) || number.len != 0 || table->number == 0 ||
        !packed_read_number(&text, &table->opened_ms) || !packed_read_word(&text, &table->ttl_ms) ||
        !packed_read_word(&text, &bits) || !packed_read_word(&text, &grown) ||
        !packed_read_word(&text, &way) || !packed_read_word(&text, &table->keys_until_ms) ||
        !packed_read_word(&text, &format) || text.len != 0 || way > PACKED_KEYS ||
        format != PACKED_FORMAT)
        return false;
    table->bits = (unsigned)bits;
    table->grown = grown != 0;
    table->way = (enum packed_way)way;
    packed_table_name(table);
    return table->opened_ms > 0 && table->ttl_ms > 0 && bits >= PACKED_BITS_MIN &&
           bits <= PACKED_BITS_MAX;
}

void packed_table_print(const struct packed_table *table, char out[PACKED_TEXT_MAX])
{
    snprintf(out, PACKED_TEXT_MAX, "%" PRIu64 " %" PRIu64 " %u %d %d %" PRIu64 " %d",
             table->opened_ms, table->ttl_ms, table->bits, table->grown, table->way,
             table->keys_until_ms, PACKED_FORMAT);
}

static uint64_t packed_grace_ms(const struct packed_table *table)
{
    const uint64_t ms = table->ttl_ms / GRACE_PARTS;

    return ms < GRACE_MAX_MS ? ms : GRACE_MAX_MS;
}

/* No claim is set after this. */
static uint64_t packed_last_ms(const struct packed_table *table)
{
    return table->opened_ms + table->ttl_ms + packed_grace_ms(table);
}

uint64_t packed_table_end_ms(const struct packed_table *table)
{
    return packed_last_ms(table) + table->ttl_ms + packed_grace_ms(table);
}

bool packed_table_is(const struct packed_table *table, const struct packed_table *other)
{
    return table->number == other->number && table->opened_ms == other->opened_ms &&
           table->ttl_ms == other->ttl_ms && table->bits == other->bits && table->way == other->way;
}

/* ---- the log ---- */

void packed_log_add(struct packed_log *log, const struct packed_table *table)
{
    size_t i = log->count;

    if (log->count == PACKED_TABLES_MAX) {
        /* The oldest goes; but nobody opens so many that are to be looked at. */
        if (table->number <= log->tables[0].number)
            return;
        memmove(log->tables, log->tables + 1, (PACKED_TABLES_MAX - 1) * sizeof(log->tables[0]));
        log->count--;
        i--;
    }
    for (; i > 0 && log->tables[i - 1].number > table->number; i--)
        log->tables[i] = log->tables[i - 1];
    log->tables[i] = *table;
    log->count++;
}

const struct packed_table *packed_log_newest(const struct packed_log *log)
{
    return log->count > 0 ? &log->tables[log->count - 1] : NULL;
}

bool packed_log_is_over(const struct packed_log *log, uint64_t now_ms, uint64_t ttl_ms, bool late)
{
    const struct packed_table *newest = packed_log_newest(log);

    if (newest == NULL)
        return true;
    if (newest->way == PACKED_KEYS)
        return false;
    if (newest->ttl_ms < ttl_ms)
        return true;
    /* The clock was put back by more than a ttl: this table would stay for as long. */
    if (newest->opened_ms > now_ms + newest->ttl_ms)
        return true;
    return now_ms >= (late ? packed_last_ms(newest) : newest->opened_ms + newest->ttl_ms);
}

bool packed_log_lives(const struct packed_log *log, size_t i, uint64_t now_ms)
{
    const struct packed_table *table = &log->tables[i];
    const uint64_t last_ms = packed_last_ms(table);
    const uint64_t next_ms = log->tables[i + 1].opened_ms;

    ALLOY_ASSERT(i + 1 < log->count);
    if (table->way == PACKED_KEYS)
        return false;
    return now_ms < (next_ms < last_ms ? next_ms : last_ms) + table->ttl_ms;
}

bool packed_log_lacks(const struct packed_log *log, const struct packed_table *table)
{
    const struct packed_table *newest = packed_log_newest(log);

    for (size_t i = 0; i < log->count; i++)
        if (log->tables[i].number == table->number)
            return !packed_table_is(&log->tables[i], table);
    return newest == NULL || newest->number < table->number;
}

size_t packed_log_living(const struct packed_log *log, uint64_t now_ms)
{
    size_t n = 0;

    for (size_t i = 0; i + 1 < log->count; i++)
        n += packed_log_lives(log, i, now_ms);
    return n;
}

/* How many ids came since the table before the newest was over. */
static double packed_log_ids(const struct packed_log *log, double fill, unsigned skip)
{
    double ids = 0;

    for (size_t i = log->count; i-- > 0;) {
        const double hashes = (double)(1u << (log->tables[i].bits - skip));

        if (log->tables[i].way == PACKED_KEYS)
            break;
        ids += hashes * (i + 1 == log->count ? fill : PACKED_FULL);
        if (!log->tables[i].grown)
            break;
    }
    return ids;
}

uint64_t packed_log_way_since_ms(const struct packed_log *log)
{
    uint64_t since_ms = 0;

    for (size_t i = log->count; i-- > 0 && log->tables[i].way == packed_log_newest(log)->way;)
        since_ms = log->tables[i].opened_ms;
    return since_ms;
}

static size_t packed_log_grown(const struct packed_log *log)
{
    size_t n = 1;

    for (size_t i = log->count; i-- > 0 && log->tables[i].grown;)
        n++;
    return n;
}

/* No two tables have the same name. */
static uint64_t packed_log_name(const struct packed_log *log, uint64_t now_ms)
{
    for (size_t i = 0; i < log->count; i++)
        if (log->tables[i].opened_ms == now_ms)
            return packed_log_name(log, now_ms + 1);
    return now_ms;
}

struct packed_table packed_log_next(const struct packed_log *log, uint64_t now_ms, uint64_t ttl_ms,
                                    double fill, unsigned skip)
{
    const bool full = fill >= PACKED_FULL && !packed_log_is_over(log, now_ms, ttl_ms, false);
    const struct packed_table *newest = packed_log_newest(log);
    struct packed_table next = {
        .number = 1, .opened_ms = now_ms, .ttl_ms = ttl_ms, .bits = PACKED_BITS_MIN};

    if (newest == NULL)
        return next;
    next.number = newest->number + 1;
    next.way = newest->way;
    next.keys_until_ms = newest->keys_until_ms;
    next.opened_ms = packed_log_name(log, now_ms);
    if (full) {
        next.grown = true;
        next.bits =
            newest->bits + (packed_log_grown(log) < GROW_SMALL ? GROW_BITS : GROW_MORE_BITS);
    } else {
        const double ids = packed_log_ids(log, fill, skip);

        while (next.bits < PACKED_BITS_MAX && ids > PACKED_AIM * (double)(1u << (next.bits - skip)))
            next.bits++;
    }
    if (next.bits > PACKED_BITS_MAX)
        next.bits = PACKED_BITS_MAX;
    return next;
}
