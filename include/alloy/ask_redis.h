/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_redis.h - asks Redis one thing at a time and waits for the answer.
 *
 * Runs on: the thread that owns it.
 */
#ifndef ALLOY_ASK_REDIS_H
#define ALLOY_ASK_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

#define ASK_REDIS_TEXTS_MAX 16
#define ASK_REDIS_ROOM 32768
#define ASK_REDIS_WHY_MAX 256

struct redis_nodes;

enum ask_redis_result {
    ASK_REDIS_OK,
    ASK_REDIS_REFUSED, /* an error; why says which */
    ASK_REDIS_LOST,    /* no answer in time, or no connection: nothing more can be asked */
};

struct ask_redis {
    struct redis_nodes *nodes;
    char *url;                    /* owned */
    unsigned timeout_ms;          /* of each question */
    char name[ASK_REDIS_WHY_MAX]; /* host:port, unix:/path, or the cluster's first host */
    /* the last answer: its strings and NULL for each nil, in order, those of an array too */
    const char *texts[ASK_REDIS_TEXTS_MAX];
    size_t count;
    char room[ASK_REDIS_ROOM];
    size_t used;
    char why[ASK_REDIS_WHY_MAX]; /* of the last failure; one line */
    size_t node;                 /* for commands without a key */
    /* the present question */
    const char *const *words;
    size_t word_count;
};

/* Connects and logs in. False: it could not; why says so. ask_redis_close() in both cases. */
bool ask_redis_open(struct ask_redis *ask, const char *url, unsigned timeout_ms);
void ask_redis_close(struct ask_redis *ask);

/* Sends a command of count words and waits for its answer. In a cluster the key decides which node
 * is asked; a command without one goes to any. */
enum ask_redis_result ask_redis(struct ask_redis *ask, const char *const *words, size_t count);
/* True: keys need a hash tag to stay together. */
bool ask_redis_is_cluster(const struct ask_redis *ask);
/* How many masters a cluster has; 1 without a cluster. */
size_t ask_redis_masters(const struct ask_redis *ask);
/* From now on commands without a key go to this master, below ask_redis_masters(), whose name goes
 * to name. */
void ask_redis_turn_to(struct ask_redis *ask, size_t master);
/* How many slots of a cluster have no master. */
size_t ask_redis_orphans(const struct ask_redis *ask);
/* Writes base to key; in a cluster with an end by which the master turned to has its slot. False:
 * that has none. */
bool ask_redis_key_here(const struct ask_redis *ask, const char *base, char *key, size_t size);
/*
 * A host that redis.url lists, where it lists several nodes or Sentinels: connects to it, and puts
 * its name into ask->name. Returns false when there is no host of this number; *there: it answers,
 * else why says why not.
 */
bool ask_redis_host(struct ask_redis *ask, size_t number, bool *there);
/* A setting of the server that is a number, by CONFIG GET: of one of two names, for what was called
 * otherwise once. False: it is not told; why says why not. */
bool ask_redis_number(struct ask_redis *ask, const char *const names[2], uint64_t *number);
/* The value of "name:value" in an answer of INFO; false: it is not there. */
bool ask_redis_field(const struct ask_redis *ask, const char *name, char *out, size_t size);

#endif
