/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doubted.c - decides about records whose ids a distrusted Redis does not know.
 *
 * ClickHouse is asked before the id is claimed, and the claim is one for which Redis is asked once
 * more: an alloyd that has the same event in hand claims it again meanwhile, and wins. What is in
 * ClickHouse is made known to Redis again, so that nobody has to ask for it once the window is
 * closed. In which order that and the record's end come does not matter: a claim of nobody makes a
 * duplicate of a record whose row is there.
 *
 * While ClickHouse is away nothing is decided: it would take no rows either.
 *
 * Runs on: the worker that owns it. Owns: room for one question.
 */
#define LOG_MODULE "worker"
#include "doubted.h"

#include <stdlib.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/log.h"
#include "alloy/pulse.h"
#include "alloy/recall.h"

#define TIMEOUT_MAX_MS 5000 /* of a question */
#define HELD_STEP_MS 50
#define AWAY_STEP_MS 500
#define LOG_INTERVAL_MS 10000
#define STRANGE_INTERVAL_MS 60000

struct doubted {
    struct doubted_parts parts;
    uint64_t retry_at_ms;
    uint64_t generation;  /* of the claims, when the flusher was last told of it */
    struct batch *absent; /* RECALL_MAX */
    struct record *asked[RECALL_MAX];
    uint32_t index[RECALL_MAX]; /* of those asked about, in their batch */
    struct record *found[RECALL_MAX];
    uint32_t absent_index[RECALL_MAX];
    enum claims_verdict verdicts[RECALL_MAX];
    bool there[RECALL_MAX];
};

struct doubted *doubted_create(const struct doubted_parts *parts)
{
    struct doubted *doubted = calloc(1, sizeof(*doubted));

    if (doubted == NULL)
        return NULL;
    doubted->parts = *parts;
    doubted->absent = batch_create(0, RECALL_MAX);
    if (doubted->absent == NULL) {
        free(doubted);
        return NULL;
    }
    return doubted;
}

void doubted_destroy(struct doubted *doubted)
{
    if (doubted == NULL)
        return;
    free(doubted->absent);
    free(doubted);
}

uint64_t doubted_wait_ms(const struct doubted *doubted, uint64_t now_ms)
{
    return doubted->retry_at_ms > now_ms ? doubted->retry_at_ms - now_ms : 0;
}

static void doubted_tell_unchecked(const struct batch *batch, const struct config *config, size_t n,
                                   const char *why)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_warn("ids that redis may have forgotten cannot be looked for in ClickHouse stream=%s "
                 "ids=%zu reason=\"%s\" action=take_for_new suppressed=%llu",
                 config->streams[batch->stream].name, n, why, (unsigned long long)suppressed);
}

static void doubted_tell_away(const struct batch *batch, const struct config *config, size_t n,
                              const char *why)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_warn("ids that redis may have forgotten wait for ClickHouse stream=%s ids=%zu "
                 "reason=\"%s\" action=hold suppressed=%llu",
                 config->streams[batch->stream].name, n, why, (unsigned long long)suppressed);
}

/* Looks for the n that are asked about. False: nobody tells now. */
static bool doubted_recall(struct doubted *doubted, const struct batch *batch, size_t n,
                           uint64_t from_ms)
{
    const struct config *config = config_current(doubted->parts.config);
    const struct recall_question question = {
        .config = config,
        .records = doubted->asked,
        .n = n,
        .from_ms = from_ms,
        .timeout_ms = config->clickhouse_timeout_ms < TIMEOUT_MAX_MS ? config->clickhouse_timeout_ms
                                                                     : TIMEOUT_MAX_MS};
    char why[RECALL_WHY_MAX];

    pulse_beat(4 * TIMEOUT_MAX_MS);
    switch (recall_ask(&question, doubted->there, why)) {
    case RECALL_TOLD:
        return true;
    case RECALL_AWAY:
        distrust_prolong(doubted->parts.distrust, clock_real_ms());
        doubted_tell_away(batch, config, n, why);
        return false;
    case RECALL_CANNOT:
        break;
    }
    memset(doubted->there, 0, n * sizeof(doubted->there[0]));
    METRIC_ADD(doubted->parts.metrics, redis_doubted_unchecked, n);
    doubted_tell_unchecked(batch, config, n, why);
    return true;
}

/* Claims what was not found. checked_ms: when we began to look; 0: we did not. */
static void doubted_claim(struct doubted *doubted, const struct batch *batch,
                          enum claims_verdict *verdicts, uint64_t checked_ms)
{
    struct batch *absent = doubted->absent;

    absent->stream = batch->stream;
    if (absent->count > 0) /* if it fails, the verdicts say so */
        (void)!claims_take_checked(doubted->parts.claims, absent, doubted->verdicts,
                                   clock_mono_ms(), checked_ms);
    for (uint32_t i = 0; i < absent->count; i++) {
        enum claims_verdict *verdict = &verdicts[doubted->absent_index[i]];

        *verdict = doubted->verdicts[i];
        /* Redis has failed, or is distrusted anew. */
        if (*verdict == CLAIM_UNKNOWN || *verdict == CLAIM_DOUBTED)
            *verdict = CLAIM_HELD;
    }
}

/* Decides about the n that are collected. False: not now. */
static bool doubted_decide_some(struct doubted *doubted, const struct batch *batch, size_t n,
                                enum claims_verdict *verdicts)
{
    const uint64_t checked_ms = clock_mono_ms();
    const uint64_t from_ms = claims_doubted_from_ms(doubted->parts.claims);
    const bool look = from_ms != UINT64_MAX; /* else only its node has changed */
    struct batch *absent = doubted->absent;
    size_t found = 0;

    memset(doubted->there, 0, n * sizeof(doubted->there[0]));
    if (look && !doubted_recall(doubted, batch, n, from_ms))
        return false;
    absent->count = 0;
    absent->bytes = 0;
    absent->stream = batch->stream;
    for (size_t i = 0; i < n; i++) {
        if (doubted->there[i]) {
            verdicts[doubted->index[i]] = CLAIM_DUPLICATE;
            doubted->found[found++] = doubted->asked[i];
        } else {
            doubted->absent_index[absent->count] = doubted->index[i];
            batch_add(absent, doubted->asked[i]);
        }
    }
    METRIC_ADD(doubted->parts.metrics, redis_doubted_present, found);
    if (look)
        METRIC_ADD(doubted->parts.metrics, redis_doubted_absent, absent->count);
    claims_found(doubted->parts.claims, doubted->found, found, clock_mono_ms());
    doubted_claim(doubted, batch, verdicts, look ? checked_ms : 0);
    return true;
}

size_t doubted_decide(struct doubted *doubted, const struct batch *batch,
                      enum claims_verdict *verdicts)
{
    uint64_t wait_ms = HELD_STEP_MS;
    bool told = true;
    size_t held = 0, n = 0;

    for (uint32_t i = 0; i < batch->count; i++) {
        if (verdicts[i] == CLAIM_DOUBTED) {
            doubted->asked[n] = batch->records[i];
            doubted->index[n++] = i;
        }
        if (n == 0 || (n < RECALL_MAX && i + 1 < batch->count))
            continue;
        told = told && doubted_decide_some(doubted, batch, n, verdicts);
        for (size_t k = 0; !told && k < n; k++)
            verdicts[doubted->index[k]] = CLAIM_HELD;
        n = 0;
    }
    for (uint32_t i = 0; i < batch->count; i++)
        held += verdicts[i] == CLAIM_HELD;
    if (!told)
        wait_ms = AWAY_STEP_MS;
    if (held > 0)
        doubted->retry_at_ms = clock_mono_ms() + wait_ms;
    return held;
}

static void doubted_tell_lost(size_t n)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (n > 0 && log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_warn("ids of inserts under way were forgotten by redis, and others have claimed them "
                 "since ids=%zu action=\"may be there twice\" suppressed=%llu",
                 n, (unsigned long long)suppressed);
}

bool doubted_reclaim(struct doubted *doubted, struct reclaim *reclaim)
{
    const uint64_t now_ms = clock_mono_ms();
    struct batch *copies = claims_retry_in_ms(doubted->parts.claims, now_ms) == 0
                               ? reclaim_take_copies(reclaim)
                               : NULL;
    const bool news = doubted->generation != reclaim_generation(reclaim);
    size_t lost = 0;
    int err;

    doubted->generation = reclaim_generation(reclaim);
    if (copies == NULL)
        return news;
    err = claims_take_checked(doubted->parts.claims, copies, doubted->verdicts, now_ms,
                              CLAIMS_BELIEVE);
    for (uint32_t i = 0; i < copies->count; i++)
        lost += doubted->verdicts[i] == CLAIM_DUPLICATE;
    if (err == 0) {
        METRIC_ADD(doubted->parts.metrics, redis_reclaims_lost, lost);
        doubted_tell_lost(lost);
    }
    return reclaim_claimed(reclaim, copies, err == 0) || news;
}

void doubted_tell_strange(struct doubted *doubted, uint16_t stream, uint64_t n)
{
    static struct log_limit limit;
    uint64_t suppressed;

    METRIC_ADD(doubted->parts.metrics, redis_strange_keys, n);
    if (n > 0 && log_limit_pass(&limit, clock_mono_ms(), STRANGE_INTERVAL_MS, &suppressed))
        log_warn("keys of claims hold values that no alloyd has written stream=%s events=%llu "
                 "action=\"insert without a claim\" suppressed=%llu",
                 config_current(doubted->parts.config)->streams[stream].name, (unsigned long long)n,
                 (unsigned long long)suppressed);
}
