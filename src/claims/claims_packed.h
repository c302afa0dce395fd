/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed.h - what claims_packed.c (the decision) and claims_packed_put.c (the commands, and
 * what they need) share.
 */
#ifndef ALLOY_CLAIMS_PACKED_H
#define ALLOY_CLAIMS_PACKED_H

#include "alloy/kill_point.h"
#include "claims_private.h"
#include "alloy/packed.h"

#define PACKED_GROUP_BITS 8 /* in a cluster; a part of every key, like BUCKETS */
#define PACKED_GROUPS (1u << PACKED_GROUP_BITS)
/* Of a record: an older table has its id for another record; for itself. */
#define FLAG_TAKEN 2
#define FLAG_LEFT 4

/* Instead of the index of an older table: the claims of layout = keys. */
#define PACKED_OLDER_KEYS UINT8_MAX
#define PACKED_PEERS_MAX 64
#define PACKED_KEY_MAX 400            /* of a key's name in a message */
#define PACKED_PACKER_WORD "#packer:" /* then the stream and an instance id */

_Static_assert(BUCKETS % PACKED_GROUPS == 0, "each group has a tag");

/*
 *   SEEK --not in any older table--> FREE --HSETNX--> OWNED
 *     |                               ^ |
 *     |                               | +--taken--> LOSER --> OWNED, DONE, or FREE again
 *     +--another's--> OTHERS ---------|---------------^
 *     +--its own--------------------->+
 *
 * Before each command the record is LOST; the reply takes it on.
 */
enum packed_state {
    PACKED_LOST,      /* no answer: the verdict stays CLAIM_UNKNOWN */
    PACKED_SEEK,      /* not in the tables that we have looked at */
    PACKED_SEEK_KEYS, /* ... and is now looked for among the claims of layout = keys */
    PACKED_AT_KEYS,   /* is claimed there first */
    PACKED_OTHERS,    /* an older table has it for another record */
    PACKED_FREE,      /* to be claimed in the newest table */
    PACKED_LOSER,     /* somebody has it there */
    PACKED_OWNED,     /* this record has it there */
    PACKED_DONE,      /* the verdict stands */
};

/* A part of the ids of a stream that has a log of its own: all of them without a cluster. */
struct packed_group {
    struct packed_log log;
    bool known;      /* the log was read in this round */
    bool garbled;    /* ... and a table in it cannot be read */
    uint64_t now_ms; /* Redis' time then */
    size_t elements; /* of the reply that is being read */
    char field[24];
    uint64_t wish_ms; /* when somebody said last that it wants layout = packed */
    enum packed_way want;
    uint64_t way_since_ms, way_seen_ms; /* of the newest table; since when we see it, own clock */
    bool scanned, virgin; /* whether there can be claims of layout = keys; there are none */
    /* While layout = keys is wanted here: */
    uint64_t peeked_ms;                   /* when we looked for a log; own clock */
    bool adopted;                         /* there is one */
    uint8_t older[PACKED_TABLES_MAX + 2]; /* of the log, the newest first: those to be looked at */
    size_t older_count;
    bool over;  /* the newest table takes no claims of ours */
    bool opens; /* needs another table */
    struct packed_table next;
    bool full; /* that is why, if this is still the newest: */
    uint64_t full_number;
    uint64_t claimed; /* by us since we looked how full hashes are */
    bool due;
    uint64_t lengths; /* of hashes, all together */
    size_t asked, samples;
    double fill; /* the mean that was found last, of this table: */
    uint64_t fill_number;
    /* The table in use, and which of its hashes have an expiry from us, a bit each. */
    struct packed_table used; /* number 0: there is none */
    uint64_t *marked;         /* NULL: out of memory; then they get it each time */
    size_t unanswered;
};

struct claims_packed {
    size_t slice_max;
    struct packed_group *groups[CONFIG_STREAMS_MAX]; /* NULL: not used yet */
    size_t groups_each;
    uint16_t stream;
    uint64_t ttl_ms;
    bool packs; /* layout = packed is wanted here */
    bool finds; /* JOB_FOUND: claims are of no record */
    /* <prefix>#ids:<stream>: and <prefix>#packed:<stream>, with a tag in a cluster */
    char *hash_head, *log_head;
    size_t hash_head_len, log_head_len;
    /* the present slice */
    size_t n;
    struct packed_identity *identities; /* of its records, by index */
    enum packed_state *states;
    uint32_t leaders[PACKED_GROUPS]; /* a record of each group that has some */
    size_t group_count;
    /* ROUND_SCAN */
    char cursor[24];
    bool found_claim;
    size_t member_count, packer_count;
    char members[PACKED_PEERS_MAX][17], packers[PACKED_PEERS_MAX][17];
    size_t depth; /* which of the older tables we look at */
};

static inline size_t claims_packed_group(const struct claims *claims, uint32_t i)
{
    return claims->tagged ? claims->key_bucket[i] / (BUCKETS / PACKED_GROUPS) : 0;
}

static inline struct packed_group *claims_packed_group_of(const struct claims *claims, uint32_t i)
{
    return &claims->packed->groups[claims->packed->stream][claims_packed_group(claims, i)];
}

/* Reads the logs of the slice's groups. */
void claims_packed_read_logs(struct claims *claims);
/* The same, and opens tables where claims can go to none. late: claims that are set already may be
 * late by a little. */
void claims_packed_settle_logs(struct claims *claims, bool late);
/* Now and then looks whether the hashes are full. Tells how the tables stand. */
void claims_packed_watch(struct claims *claims);

/* From now on claims of the group go to this table. */
void claims_packed_use(const struct claims *claims, struct packed_group *group,
                       const struct packed_table *table);
/* True: the hash of record i has no expiry from us yet, and is to get one now. */
bool claims_packed_mark(const struct claims *claims, struct packed_group *group, uint32_t i);
void claims_packed_unmark(const struct claims *claims, struct packed_group *group);
/* From now on the records' buckets are those of their keys with layout = keys, or of their
 * groups. */
void claims_packed_aim(struct claims *claims, size_t n, bool at_keys);
void claims_packed_put_scan(struct claims *claims);
/* The name of the key that the present round's command of record i is about. */
void claims_packed_name(const struct claims *claims, uint32_t i, char name[PACKED_KEY_MAX]);
/* The value of record i's claim. */
void claims_packed_value(const struct claims *claims, uint32_t i, char value[PACKED_VALUE_LEN]);

#endif
