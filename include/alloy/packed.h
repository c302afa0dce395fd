/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packed.h - where the claims of redis.layout = packed are: tables of hashes, and the log of them.
 *
 * A table is 2^bits hashes in Redis, and an id has its place in it by a hash of the id. New claims
 * go to the newest table; older ones are looked at as long as a claim in them may be younger than
 * its ttl. The log, a hash in Redis, names the tables in the order in which they were opened.
 * Decisions alone: no I/O. See docs/decisions/032-packed.md.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_PACKED_H
#define ALLOY_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"

#define PACKED_FIELD_LEN 11 /* of the identity, behind what the hash's name tells of it */
#define PACKED_VALUE_LEN 8
#define PACKED_FORMAT 2    /* of fields and values; told by each table in the log */
#define PACKED_BITS_MIN 12 /* 4096 hashes; an empty one costs nothing */
#define PACKED_BITS_MAX 27
#define PACKED_FULL 64 /* ids in a hash, by the mean: then the next table has more hashes */
#define PACKED_AIM 24  /* at most so many at the end of a table like the last one, at least half */
#define PACKED_TABLES_MAX 24
#define PACKED_GROW_MAX 12 /* tables to look at: with so many none is opened for growth alone */
#define PACKED_TEXT_MAX 120
#define PACKED_LENGTH_MIN 128 /* that the server must let a hash have as a listpack */
#define PACKED_NAME_MAX 40    /* of a table and a hash in it */

struct packed_identity {
    unsigned char bytes[EVENT_ID_IDENTITY_LEN];
};

/* Where claims go while a table is the newest. */
enum packed_way {
    PACKED_ALONE, /* to the table */
    PACKED_BOTH,  /* to the key of layout = keys, and if that is won, to the table */
    PACKED_KEYS,  /* to the key; the table has no hashes */
};

struct packed_table {
    uint64_t number;    /* 1, 2, ... in the log */
    uint64_t opened_ms; /* Redis' time; also its name, since no two tables of a log have the same */
    uint64_t ttl_ms;    /* takes claims for so long, and remembers them for so long afterwards */
    unsigned bits;
    bool grown; /* opened since the one before was full, not since that was over */
    enum packed_way way;
    uint64_t keys_until_ms; /* ALONE: claims of layout = keys are looked at until then */
    char name[14];          /* opened_ms with base 36; made when it is read from the log */
    uint8_t name_len;
};

struct packed_log {
    size_t count;
    struct packed_table tables[PACKED_TABLES_MAX]; /* the newest is the last */
};

/* Which of 2^bits hashes has the identity. bits is at least 8. */
uint32_t packed_hash_of(const struct packed_identity *identity, unsigned bits);
/* Writes "<table>:<hash>"; returns its length. skip: so many bits of the hash's number are told
 * elsewhere. */
size_t packed_name(char out[PACKED_NAME_MAX], const struct packed_table *table, uint32_t hash,
                   unsigned skip);
/* What tells an id from the others of its hash: the larger a table is, and so the more ids it may
 * have, the more bits tell its hash's name. Lends of identity. */
struct slice packed_field(const struct packed_identity *identity, const struct packed_table *table);
/* Whose a claim is: another value for each record of an alloyd, and for another alloyd's but for
 * a chance of 1 in 2^64. */
void packed_value(char out[PACKED_VALUE_LEN], uint64_t instance_id, uint64_t lsn);

/* The text of a table in the log. False: nothing that we have written. */
bool packed_table_read(struct packed_table *table, struct slice number, struct slice text);
void packed_table_print(const struct packed_table *table, char out[PACKED_TEXT_MAX]);
/* When its claims expire, all together. */
uint64_t packed_table_end_ms(const struct packed_table *table);

/* Whether they are one and the same: a number can be given away again after the log went back. */
bool packed_table_is(const struct packed_table *table, const struct packed_table *other);

/* Adds a table, in whatever order they come. */
void packed_log_add(struct packed_log *log, const struct packed_table *table);
/* NULL: none. */
const struct packed_table *packed_log_newest(const struct packed_log *log);
/* True when the newest table takes no more claims of a stream with this ttl: it is over, or
 * remembers for too short a time, or there is none. late: a claim that is set may be this late. */
bool packed_log_is_over(const struct packed_log *log, uint64_t now_ms, uint64_t ttl_ms, bool late);
/* Whether a claim in table i, not the newest, may be younger than its ttl. */
bool packed_log_lives(const struct packed_log *log, size_t i, uint64_t now_ms);
/* Whether the log does not have a table that was its newest, though only older ones leave it. */
bool packed_log_lacks(const struct packed_log *log, const struct packed_table *table);
/* How many older ones live. */
size_t packed_log_living(const struct packed_log *log, uint64_t now_ms);
/* Since when the newest tables have their way; 0: there is none. */
uint64_t packed_log_way_since_ms(const struct packed_log *log);
/* The next table, with the way of the newest. fill: mean number of ids in the newest one's hashes;
 * skip: the log is about one part in 2^skip of the ids. */
struct packed_table packed_log_next(const struct packed_log *log, uint64_t now_ms, uint64_t ttl_ms,
                                    double fill, unsigned skip);

#endif
