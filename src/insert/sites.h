/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sites.h - a stream's table at each endpoint of a shard that has several: is it a replica of the
 * others' tables, so that an insert whose outcome is in doubt may go to any of them? Pure.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_SITES_H
#define ALLOY_SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "insert_answer.h"

#define SITE_ENGINE_MAX 40

enum site_state {
    SITE_UNKNOWN,     /* not asked since its endpoint was away */
    SITE_FIT,         /* a replicated table that takes inserts */
    SITE_MISSING,     /* there is no such table */
    SITE_PLAIN,       /* its engine shares no tokens with other servers */
    SITE_DISTRIBUTED, /* the same: the engine is Distributed */
    SITE_READ_ONLY,   /* a replica that has no Keeper */
    SITE_UNTOLD,      /* it does not tell */
    SITE_REFUSING,    /* it has refused an insert that another may take */
};

struct site {
    enum site_state state;
    bool asking;
    uint64_t due_ms;    /* when to ask */
    uint64_t path_hash; /* of the path in Keeper, as last told; 0: none */
    unsigned refusals;  /* one after another */
    char engine[SITE_ENGINE_MAX];
};

/* Takes what an answer to insert_request_site_url() tells; what is none makes it UNTOLD. */
void site_take(struct site *site, struct slice body, uint64_t now_ms);
/* Its endpoint gave no answer, or may be another server now: asks at due_ms. */
void site_forget(struct site *site, uint64_t due_ms);

/* Whether an answer says that this server refuses inserts, whatever their rows: no right to insert,
 * a setting that it lacks, a proxy before it that has no such route. */
bool site_is_to_blame(const struct insert_answer *answer);
/* It did: asks again after a pause, which grows until an insert went in (site_took()). */
void site_refuse(struct site *site, uint64_t now_ms);
void site_took(struct site *site);

/* Whether two of the sites in set are tables of different paths, and so of different shards. */
bool sites_differ(const struct site *sites, size_t count, uint64_t set);
/* Whether inserts may go to an endpoint that is alone in its shard, in a list of several. */
bool site_serves_alone(const struct site *site);
/* Those of set to which inserts may go: none, where they differ. */
uint64_t sites_fit(const struct site *sites, size_t count, uint64_t set);
/* Whether all in set have been asked, and have answered something. */
bool sites_known(const struct site *sites, size_t count, uint64_t set);

/* What an operator should know, after "table T at E ". */
const char *site_words(enum site_state state);

#endif
