/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed.c - who owns an id, with redis.layout = packed.
 *
 * A claim is a field of a hash, and the hashes make tables (packed.h). Redis says which table is
 * the newest: the last one in the log. We read the log; look for the ids in older tables; claim
 * those that are not there by HSETNX in the newest; and read the log again. If another table has
 * been opened meanwhile, somebody may have looked for our ids before we had claimed them, and have
 * claimed them there: so we look again, and claim them there, too, before we call them ours. No
 * clock decides about that, only the order in which Redis runs commands.
 *
 * Hence the newest table that has an id says whose it is. A claim of our own in an older one alone
 * is not enough: the claim in the newest decides.
 *
 * A hash expires with its table. Whoever claims in a hash for the first time sets that; a bit for
 * each hash says so.
 *
 * In a cluster each of 256 groups of ids has a log of its own beside its hashes, in one slot.
 *
 * Runs on: the one thread that owns the struct claims. Owns: what is known of the logs.
 */
#include "claims_packed.h"

#include <string.h>

#define TURNS_MAX 8
#define GARBLED "the log of packed claims has a table that cannot be read"

/* ---- which records a round is about ---- */

/* Runs a round over the records that are in `state`; those that get no answer are LOST then. */
static void claims_packed_run(struct claims *claims, enum round round, enum packed_state state)
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (uint32_t i = 0; i < packed->n; i++) {
        if (packed->states[i] != state)
            continue;
        packed->states[i] = PACKED_LOST;
        claims->todo[n++] = i;
    }
    if (n > 0)
        claims_lanes_run(claims, round, n);
}

/* ---- taking ---- */

/* Whether claims of the group can go on. What the log does not say is not known to be new. */
static bool claims_packed_is_fit(struct claims *claims, const struct packed_group *group)
{
    if (group->known && group->garbled)
        claims->unserved = GARBLED;
    else if (group->known && group->over)
        claims->unserved = "no table for claims could be opened";
    return group->known && !group->garbled && !group->over;
}

/* The records whose table is known go on from here. */
static void claims_packed_start(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (uint32_t i = 0; i < packed->n; i++) {
        const struct packed_group *group = claims_packed_group_of(claims, i);

        packed->states[i] = claims_packed_is_fit(claims, group) ? PACKED_SEEK : PACKED_LOST;
    }
}

/* The claims of layout = keys are newer than those of tables before claims went to both. */
static void claims_packed_list_of(struct packed_group *group)
{
    const struct packed_table *newest = packed_log_newest(&group->log);
    bool keys =
        newest != NULL && (newest->way == PACKED_BOTH ||
                           (newest->way == PACKED_ALONE && newest->keys_until_ms > group->now_ms));

    group->older_count = 0;
    for (size_t i = group->log.count; i-- > 0;) {
        const bool last = i + 1 == group->log.count;

        if (keys && group->log.tables[i].way != PACKED_ALONE) {
            group->older[group->older_count++] = PACKED_OLDER_KEYS;
            keys = false;
        }
        if (!last && packed_log_lives(&group->log, i, group->now_ms))
            group->older[group->older_count++] = (uint8_t)i;
    }
    if (keys)
        group->older[group->older_count++] = PACKED_OLDER_KEYS;
}

/* Which older tables are to be looked at, the newer ones first. */
static void claims_packed_list_older(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        claims_packed_list_of(group);
    }
}

/* Runs a round over the records of a state; those whose present older table is that of keys are
 * asked for there. False: no record is in the state. */
static bool claims_packed_run_older(struct claims *claims, enum round round, enum round at_keys)
{
    struct claims_packed *packed = claims->packed;
    bool any = false, any_keys = false;

    for (uint32_t i = 0; i < packed->n; i++) {
        const struct packed_group *group = claims_packed_group_of(claims, i);

        if (packed->states[i] != PACKED_SEEK)
            continue;
        any = true;
        if (group->older[packed->depth] != PACKED_OLDER_KEYS)
            continue;
        packed->states[i] = PACKED_SEEK_KEYS;
        any_keys = true;
    }
    if (!any)
        return false;
    claims_packed_run(claims, round, PACKED_SEEK);
    if (!any_keys)
        return true;
    claims_packed_aim(claims, packed->n, true);
    claims_packed_run(claims, at_keys, PACKED_SEEK_KEYS);
    claims_packed_aim(claims, packed->n, false);
    return true;
}

/* Those that have been looked for in all older tables go on. */
static void claims_packed_end_seek(struct claims *claims, enum packed_state next)
{
    struct claims_packed *packed = claims->packed;

    for (uint32_t i = 0; i < packed->n; i++)
        if (packed->states[i] == PACKED_SEEK &&
            claims_packed_group_of(claims, i)->older_count <= packed->depth)
            packed->states[i] = next;
}

/* What is in hand (CLAIMS_BELIEVE) was its record's own: an older table has it for another only
 * where that one was about to find the newer claim, and this is what Redis has forgotten. */
static void claims_packed_find(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    if (claims->checked_ms == CLAIMS_BELIEVE) {
        for (uint32_t i = 0; i < packed->n; i++)
            if (packed->states[i] == PACKED_SEEK)
                packed->states[i] = PACKED_FREE;
        return;
    }
    for (packed->depth = 0;; packed->depth++) {
        claims_packed_end_seek(claims, PACKED_FREE);
        if (!claims_packed_run_older(claims, ROUND_FIND, ROUND_FIND_KEYS))
            return;
    }
}

/* Hashes that this thread has not claimed in before get their expiry. */
static void claims_packed_expire(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (uint32_t i = 0; i < packed->n; i++) {
        struct packed_group *group = claims_packed_group_of(claims, i);

        if (packed->states[i] != PACKED_OWNED || group->used.way == PACKED_KEYS ||
            !claims_packed_mark(claims, group, i))
            continue;
        group->unanswered++;
        claims->todo[n++] = i;
    }
    if (n == 0)
        return;
    claims_lanes_run(claims, ROUND_EXPIRE, n);
    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        if (group->unanswered > 0)
            claims_packed_unmark(claims, group);
        group->unanswered = 0;
    }
}

/* What the rounds of layout = keys have found about one record. */
static void claims_packed_after_keys(struct claims *claims, uint32_t i)
{
    const bool both = claims_packed_group_of(claims, i)->used.way == PACKED_BOTH;
    enum packed_state *state = &claims->packed->states[i];

    switch (claims->verdicts[i]) {
    case CLAIM_OWNED:
        *state = both ? PACKED_FREE : PACKED_OWNED;
        claims->flags[i] |= both ? FLAG_LEFT : 0;
        claims->verdicts[i] = CLAIM_UNKNOWN;
        return;
    case CLAIM_DUPLICATE:
        *state = both ? PACKED_OTHERS : PACKED_DONE;
        claims->flags[i] |= FLAG_TAKEN;
        claims->verdicts[i] = both ? CLAIM_UNKNOWN : CLAIM_DUPLICATE;
        return;
    case CLAIM_STRANGE:
        *state = PACKED_DONE;
        return;
    case CLAIM_DOUBTED:
    case CLAIM_HELD:
        *state = PACKED_DONE;
        return;
    case CLAIM_UNKNOWN:
        *state = PACKED_LOST;
        return;
    }
}

/* Claims go to keys of their own first, or to them alone. */
static void claims_packed_claim_keys(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (uint32_t i = 0; i < packed->n; i++) {
        if (packed->states[i] != PACKED_FREE ||
            claims_packed_group_of(claims, i)->used.way == PACKED_ALONE)
            continue;
        packed->states[i] = PACKED_AT_KEYS;
        claims->todo[n++] = i;
    }
    if (n == 0)
        return;
    claims->is_packed = false;
    claims_packed_aim(claims, packed->n, true);
    claims_lanes_take(claims, n);
    claims_packed_aim(claims, packed->n, false);
    claims->is_packed = true;
    for (uint32_t i = 0; i < packed->n; i++)
        if (packed->states[i] == PACKED_AT_KEYS)
            claims_packed_after_keys(claims, i);
}

/* An older table has their ids for others: do the newest claims say the same? */
static void claims_packed_ask_others(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    bool any = false;

    for (uint32_t i = 0; i < packed->n; i++) {
        if (packed->states[i] != PACKED_OTHERS)
            continue;
        packed->states[i] = PACKED_LOSER;
        if (claims_packed_group_of(claims, i)->used.way == PACKED_KEYS) {
            packed->states[i] = PACKED_SEEK_KEYS;
            any = true;
        }
    }
    if (any) {
        claims_packed_aim(claims, packed->n, true);
        claims_packed_run(claims, ROUND_WHO_KEYS, PACKED_SEEK_KEYS);
        claims_packed_aim(claims, packed->n, false);
    }
    claims_packed_run(claims, ROUND_WHO, PACKED_LOSER);
}

/* Whether some node of the job is distrusted. What another thread has noticed of it we learn here:
 * without older tables this is the first exchange since the log was read. */
static bool claims_packed_doubts(struct claims *claims)
{
    enum claims_verdict verdict;
    bool any = false;

    for (size_t i = 0; i < redis_nodes_count(claims->nodes); i++)
        if (claims->lanes[i].job == claims->job && redis_nodes_link(claims->nodes, i) != NULL &&
            claims_lane_open(claims, i))
            any |= claims_doubt_of(claims, &claims->lanes[i], &verdict);
    return any;
}

/* While a server is distrusted (distrust.h): what the newest table does not know either is not
 * claimed yet. With keys alone that is asked about the keys. */
static void claims_packed_know(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    if (likely(!claims_packed_doubts(claims)))
        return;
    for (uint32_t i = 0; i < packed->n; i++) {
        if (packed->states[i] != PACKED_FREE ||
            claims_packed_group_of(claims, i)->used.way == PACKED_KEYS)
            continue;
        packed->states[i] = PACKED_LOST;
        claims->todo[n++] = i;
    }
    if (n > 0)
        claims_lanes_run(claims, ROUND_KNOW, n);
}

/* Claims in the newest tables. */
static void claims_packed_claim(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    claims_packed_know(claims);
    claims_packed_claim_keys(claims);
    claims_packed_run(claims, ROUND_CLAIM, PACKED_FREE);
    KILL_POINT("claims_set");
    claims_packed_ask_others(claims);
    /* A claim that was deleted in between has left its id free. */
    claims_packed_run(claims, ROUND_CLAIM, PACKED_FREE);
    claims_packed_run(claims, ROUND_WHO, PACKED_LOSER);
    for (uint32_t i = 0; i < packed->n; i++) {
        if (packed->states[i] != PACKED_FREE && packed->states[i] != PACKED_LOSER)
            continue;
        claims->verdicts[i] = CLAIM_STRANGE;
        packed->states[i] = PACKED_DONE;
    }
    claims_packed_expire(claims);
}

/* The logs are read again: what has been claimed in a table that is not the newest any more must be
 * claimed once more. False: there is nothing such. */
static bool claims_packed_has_turned(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    bool any = false;

    for (uint32_t i = 0; i < packed->n; i++) {
        const struct packed_group *group = claims_packed_group_of(claims, i);
        const struct packed_table *newest = packed_log_newest(&group->log);

        if (packed->states[i] != PACKED_OWNED)
            continue;
        if (!claims_packed_is_fit(claims, group)) {
            packed->states[i] = PACKED_LOST;
        } else if (newest != NULL ? !packed_table_is(newest, &group->used)
                                  : group->used.number != 0) {
            packed->states[i] = PACKED_SEEK;
            claims->flags[i] |= FLAG_LEFT;
            any = true;
        }
    }
    return any;
}

static void claims_packed_use_newest(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);
        const struct packed_table *newest = packed_log_newest(&group->log);

        if (group->known && newest != NULL) {
            claims_packed_use(claims, group, newest);
        } else if (group->known) {
            group->used = (struct packed_table){.way = PACKED_KEYS};
        }
    }
}

/* Deletes the claims of those that are SEEK in the older tables; they are DONE then. */
static void claims_packed_let_go(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (packed->depth = 0;; packed->depth++) {
        claims_packed_end_seek(claims, PACKED_DONE);
        if (!claims_packed_run_older(claims, ROUND_LET_GO, ROUND_LET_GO_KEYS))
            return;
    }
}

/* A claim of our own in an older table, while another record has the id in the newest, would
 * outlive that one if it is released, or if Redis forgets it: then nobody would have the id. So a
 * record is no duplicate before its claims are gone. */
static void claims_packed_clean_up(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    bool any = false;

    for (uint32_t i = 0; i < packed->n; i++) {
        if ((claims->flags[i] & FLAG_LEFT) == 0 || claims->verdicts[i] != CLAIM_DUPLICATE)
            continue;
        packed->states[i] = PACKED_SEEK;
        any = true;
    }
    if (!any)
        return;
    claims_packed_list_older(claims);
    claims_packed_let_go(claims);
    for (uint32_t i = 0; i < packed->n; i++)
        if ((claims->flags[i] & FLAG_LEFT) != 0 && claims->verdicts[i] == CLAIM_DUPLICATE &&
            packed->states[i] != PACKED_DONE)
            claims->verdicts[i] = CLAIM_UNKNOWN;
}

void claims_packed_take_slice(struct claims *claims, size_t n)
{
    struct claims_packed *packed = claims->packed;
    bool settled = true;

    packed->n = n;
    for (size_t i = 0; i < n; i++)
        claims->verdicts[i] = CLAIM_UNKNOWN;
    claims_packed_settle_logs(claims, false);
    claims_packed_start(claims);
    claims_packed_list_older(claims);
    claims_packed_find(claims);
    KILL_POINT("claims_read");
    for (size_t turn = 0;; turn++) {
        claims_packed_use_newest(claims);
        claims_packed_claim(claims);
        if (turn == TURNS_MAX) {
            claims->unserved = "tables of claims are opened faster than claims are taken";
            settled = false;
            break;
        }
        claims_packed_settle_logs(claims, true);
        if (!claims_packed_has_turned(claims))
            break;
        /* More than one may have been opened. */
        claims_packed_list_older(claims);
        claims_packed_find(claims);
    }
    for (uint32_t i = 0; i < n; i++)
        if (packed->states[i] == PACKED_OWNED && settled)
            claims->verdicts[i] = CLAIM_OWNED;
    claims_packed_clean_up(claims);
    claims_packed_watch(claims);
}

/* ---- ids that were found elsewhere ---- */

/* In the newest table: who looks for one of them later looks there. */
void claims_packed_found_slice(struct claims *claims, size_t n)
{
    struct claims_packed *packed = claims->packed;
    size_t at_keys = 0;

    packed->n = n;
    claims_packed_settle_logs(claims, false);
    claims_packed_start(claims);
    claims_packed_use_newest(claims);
    for (uint32_t i = 0; i < n; i++) {
        if (packed->states[i] != PACKED_SEEK)
            continue;
        packed->states[i] = PACKED_FREE;
        if (claims_packed_group_of(claims, i)->used.way != PACKED_KEYS)
            continue;
        packed->states[i] = PACKED_DONE;
        claims->todo[at_keys++] = i;
    }
    if (at_keys > 0) {
        claims->is_packed = false;
        claims_packed_aim(claims, n, true);
        claims_lanes_run(claims, ROUND_FOUND, at_keys);
        claims_packed_aim(claims, n, false);
        claims->is_packed = true;
    }
    packed->finds = true;
    claims_packed_run(claims, ROUND_CLAIM, PACKED_FREE);
    packed->finds = false;
    claims_packed_expire(claims);
}

/* ---- releasing ---- */

/* From all tables that can have the claim. */
void claims_packed_release_slice(struct claims *claims, size_t n)
{
    struct claims_packed *packed = claims->packed;

    packed->n = n;
    claims_packed_read_logs(claims);
    for (uint32_t i = 0; i < n; i++) {
        const struct packed_group *group = claims_packed_group_of(claims, i);

        packed->states[i] = !group->known || group->garbled ? PACKED_LOST : PACKED_SEEK;
        if (group->known && group->garbled)
            claims->unserved = GARBLED;
    }
    claims_packed_list_older(claims);
    /* The newest like the others. */
    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);
        const struct packed_table *newest = packed_log_newest(&group->log);

        if (newest != NULL)
            group->older[group->older_count++] =
                newest->way == PACKED_KEYS ? PACKED_OLDER_KEYS : (uint8_t)(group->log.count - 1);
        else if (!packed->packs)
            group->older[group->older_count++] = PACKED_OLDER_KEYS;
    }
    claims_packed_let_go(claims);
    for (uint32_t i = 0; i < n; i++)
        if (packed->states[i] == PACKED_DONE)
            claims->released[i] = true;
}
