/* SPDX-License-Identifier: Apache-2.0 */
/*
 * distrust.h - whether a Redis may have forgotten claims that it had acknowledged. See
 * docs/decisions/033-distrust.md.
 *
 * The process has one struct distrust, which its workers share. Each looks at a server when it has
 * connected and every now and then, and is told whether that server's "I do not know this id" is to
 * be believed.
 *
 * Runs on: any thread; one mutex.
 */
#ifndef ALLOY_DISTRUST_H
#define ALLOY_DISTRUST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/metrics.h"
#include "alloy/packed.h"

#define DISTRUST_PLACES 1024 /* keys that there may be: one for each bucket of a cluster */
#define DISTRUST_LOGS (CONFIG_STREAMS_MAX * 256) /* of packed claims: 256 a stream in a cluster */
#define DISTRUST_ID_MAX 41                       /* of a run or a replication id, with its NUL */
#define DISTRUST_LIFE_MAX (2 * DISTRUST_ID_MAX)
#define DISTRUST_KEY_MAX 4096
#define DISTRUST_PAST_MAX 256

struct distrust;

struct distrust_parts {
    const struct config_ref *config;
    struct metrics *metrics;
    uint64_t instance_id;
    bool reclaims; /* distrust_reclaimed() will be called */
};

/* Returns owned (distrust_destroy()); NULL: out of memory. */
struct distrust *distrust_create(const struct distrust_parts *parts);
void distrust_destroy(struct distrust *distrust); /* NULL is fine */

/* In a cluster: what the key of a bucket says, which comes along with the bucket's slot. */
struct distrust_past {
    size_t place; /* below DISTRUST_PLACES */
    bool has_key;
    char life[DISTRUST_LIFE_MAX]; /* of the server that last had its claims, as far as we know */
    uint64_t opened_ms, until_ms, from_ms; /* of the window that was open there */
    bool write;                            /* by distrust_see(): it is to be written */
};

/* What a server says of itself, and the value of our key there. */
struct distrust_sight {
    const char *server;           /* its name */
    bool is_one_of;               /* of the masters of a cluster, who pass slots on */
    size_t place;                 /* whose key: below DISTRUST_PLACES */
    char run_id[DISTRUST_ID_MAX]; /* "": it does not say; likewise the next */
    char replid[DISTRUST_ID_MAX];
    uint64_t offset; /* of replication */
    bool has_key;
    struct slice key;  /* lent */
    uint64_t began_ms; /* monotonic, as the next: before it was asked */
    uint64_t now_ms;
    uint64_t real_ms;
    struct distrust_past *pasts; /* of its other buckets that are new to us; lent */
    size_t past_count;
    uint64_t asked_ms; /* monotonic: all other servers have been looked at since; 0: not */
};

enum distrust_state {
    DISTRUST_NOT,  /* what it does not know is new */
    DISTRUST_ASK,  /* what it does not know has to be looked for elsewhere */
    DISTRUST_HOLD, /* and not before all alloyd have claimed again what they have in hand */
};

struct distrust_window {
    enum distrust_state state;
    uint64_t free_ms;   /* ASK: since when it is not HOLD; monotonic */
    uint64_t from_ms;   /* claims that were set since may be lost; real time; 0: all */
    uint64_t look_ms;   /* when to look again, at the latest; monotonic */
    bool opened;        /* just now, and by this very call */
    uint64_t opened_ms; /* of the last window; real time; 0: there was none */
    size_t unexplained; /* buckets of a server that we have not seen since: look at all others,
                         * and then tell the same once more with asked_ms; till then nothing else
                         * here counts */
};

/* The value of a bucket's key as it was read, for distrust_see(). */
void distrust_read_past(struct distrust_past *past, size_t place, bool has_key, struct slice key);
/* Judges what was seen. True: key has a value that is to be written. */
bool distrust_see(struct distrust *distrust, const struct distrust_sight *sight,
                  struct distrust_window *window, char key[DISTRUST_KEY_MAX]);
/* After that: the value for the keys of its other buckets. */
void distrust_write_past(struct distrust *distrust, const struct distrust_sight *sight,
                         char key[DISTRUST_PAST_MAX]);
/* The server has taken the value of a key. */
void distrust_wrote(struct distrust *distrust, size_t place, uint64_t now_ms);

/* What was seen of a log of packed claims, by any thread. */
struct distrust_log {
    struct packed_table table; /* its newest; number 0: none */
    uint64_t seen_ms;          /* monotonic: when the look had ended */
    uint64_t real_ms;          /* the same */
};

/* log: below DISTRUST_LOGS. */
void distrust_log(struct distrust *distrust, size_t log, struct distrust_log *last);
void distrust_note_log(struct distrust *distrust, size_t log, const struct distrust_log *last);

/* Changes with each distrust_suspect(): whoever is at a server then looks at it at once. */
uint64_t distrust_suspicions(const struct distrust *distrust);
/* Something was there at since_ms (real time) that the server has lost: the next look at it opens a
 * window, unless one was opened since. */
void distrust_suspect(struct distrust *distrust, const char *name, uint64_t since_ms);

/* Changes when claims that were taken before may be lost. NULL is fine. */
uint64_t distrust_generation(const struct distrust *distrust);
/* All that this alloyd had in hand when that generation began is claimed again. */
void distrust_reclaimed(struct distrust *distrust, uint64_t generation);

/* Something cannot be looked for now: windows that are open stay open for a minute from now, since
 * its ids would be believed once they are closed. NULL is fine. */
void distrust_prolong(struct distrust *distrust, uint64_t real_ms);

/* For threads that have nothing to claim: how long until one of them should look at all servers, so
 * that a failover is noticed without traffic. NULL: UINT64_MAX. */
uint64_t distrust_left_ms(struct distrust *distrust, uint64_t now_ms);
/* Whether that is due, and this thread's turn. NULL: no. */
bool distrust_turn(struct distrust *distrust, uint64_t now_ms);

#endif
