/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed.c - who owns an id, with redis.layout = packed.
 *
 * A claim is a field of a hash, and the hashes make tables (packed.h). Redis says which table is
 * the newest: the last one in the log. We read the log; look for the ids in older tables; claim
 * those that are not there by HSETNX in the newest; and read the log again. If another table has
 * been opened meanwhile, somebody may have looked for our ids before we had claimed them, and have
 * claimed them there: so we claim them there, too, before we call them ours. No clock decides
 * about that, only the order in which Redis runs commands.
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

#define LITERAL_SLICE(text) ((struct slice){(text), sizeof(text) - 1})
#define OPEN_TRIES 8
#define TURNS_MAX 8
#define SAMPLES 16        /* hashes whose length is asked for */
#define SAMPLE_EACH 1024u /* own claims between two of these, at the least */
#define SAMPLE_PART 8u    /* ... or this part of a table's hashes */

/* ---- which records a round is about ---- */

static struct packed_group *claims_packed_group_of(const struct claims *claims, uint32_t i)
{
    return &claims->packed->groups[claims->packed->stream][claims_packed_group(claims, i)];
}

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

static bool claims_packed_any(const struct packed_group *group)
{
    (void)group;
    return true;
}

/* Runs a round over one record of each group of the slice that is wanted. */
static void claims_packed_run_groups(struct claims *claims, enum round round,
                                     bool (*wanted)(const struct packed_group *))
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (size_t k = 0; k < packed->group_count; k++)
        if (wanted(claims_packed_group_of(claims, packed->leaders[k])))
            claims->todo[n++] = packed->leaders[k];
    if (n > 0)
        claims_lanes_run(claims, round, n);
}

/* ---- the log ---- */

static void claims_packed_read_logs(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (size_t k = 0; k < packed->group_count; k++)
        claims_packed_group_of(claims, packed->leaders[k])->known = false;
    claims_packed_run_groups(claims, ROUND_LOG, claims_packed_any);
}

static bool claims_packed_opens(const struct packed_group *group)
{
    return group->opens;
}

static bool claims_packed_samples(const struct packed_group *group)
{
    return group->opens && group->log.count > 0;
}

/* Which groups need another table. False: none does. */
static bool claims_packed_want_tables(struct claims *claims, bool late)
{
    struct claims_packed *packed = claims->packed;
    bool any = false;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);
        const struct packed_table *newest = packed_log_newest(&group->log);

        if (group->full && (newest == NULL || newest->number != group->full_number))
            group->full = false;
        group->over = packed_log_is_over(&group->log, group->now_ms, packed->ttl_ms, late);
        group->opens = group->known && (group->full || group->over);
        any |= group->opens;
    }
    return any;
}

/* The length of some hashes of the newest table: those that the group's first records have. */
static void claims_packed_sample(struct claims *claims, bool (*wanted)(const struct packed_group *))
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        group->asked = 0;
        group->lengths = group->samples = 0;
    }
    for (uint32_t i = 0; i < packed->n; i++) {
        struct packed_group *group = claims_packed_group_of(claims, i);

        if (group->asked < SAMPLES && wanted(group)) {
            group->asked++;
            claims->todo[n++] = i;
        }
    }
    if (n > 0)
        claims_lanes_run(claims, ROUND_FILL, n);
}

static double claims_packed_fill(const struct packed_group *group)
{
    return group->samples > 0 ? (double)group->lengths / (double)group->samples : 0;
}

/* Opens a table where one is wanted, unless another alloyd is faster. */
static void claims_packed_open_tables(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    claims_packed_sample(claims, claims_packed_samples);
    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        group->next =
            packed_log_next(&group->log, group->now_ms, packed->ttl_ms, claims_packed_fill(group),
                            claims->tagged ? PACKED_GROUP_BITS : 0);
    }
    /* Before as well: the log must not expire between the two. */
    claims_packed_run_groups(claims, ROUND_KEEP, claims_packed_opens);
    claims_packed_run_groups(claims, ROUND_OPEN, claims_packed_opens);
    claims_packed_run_groups(claims, ROUND_KEEP, claims_packed_opens);
    claims_packed_run_groups(claims, ROUND_TRIM, claims_packed_opens);
}

/* Reads the logs, and opens tables where claims can go to none. late: claims that are set already
 * may be late by a little. */
static void claims_packed_settle_logs(struct claims *claims, bool late)
{
    claims_packed_read_logs(claims);
    for (size_t i = 0; i < OPEN_TRIES && claims_packed_want_tables(claims, late); i++) {
        claims_packed_open_tables(claims);
        claims_packed_read_logs(claims);
    }
}

/* ---- taking ---- */

/* The records whose table is known go on from here. */
static void claims_packed_start(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (uint32_t i = 0; i < packed->n; i++) {
        const struct packed_group *group = claims_packed_group_of(claims, i);

        packed->states[i] = group->known && !group->over ? PACKED_SEEK : PACKED_LOST;
    }
}

/* Which older tables are to be looked at, the newer ones first. */
static void claims_packed_list_older(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        group->older_count = 0;
        for (size_t i = group->log.count; i-- > 1;)
            if (packed_log_lives(&group->log, i - 1, group->now_ms))
                group->older[group->older_count++] = (uint8_t)(i - 1);
    }
}

static void claims_packed_find(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (packed->depth = 0; packed->depth < PACKED_TABLES_MAX; packed->depth++) {
        bool any = false;

        for (uint32_t i = 0; i < packed->n; i++) {
            if (packed->states[i] != PACKED_SEEK)
                continue;
            if (claims_packed_group_of(claims, i)->older_count > packed->depth)
                any = true;
            else
                packed->states[i] = PACKED_FREE;
        }
        if (!any)
            return;
        claims_packed_run(claims, ROUND_FIND, PACKED_SEEK);
    }
}

static void claims_packed_change(struct claims *claims, enum packed_state from,
                                 enum packed_state to)
{
    struct claims_packed *packed = claims->packed;

    for (uint32_t i = 0; i < packed->n; i++)
        if (packed->states[i] == from)
            packed->states[i] = to;
}

/* Hashes that this thread has not claimed in before get their expiry. */
static void claims_packed_expire(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (uint32_t i = 0; i < packed->n; i++) {
        struct packed_group *group = claims_packed_group_of(claims, i);

        if (packed->states[i] != PACKED_OWNED || !claims_packed_mark(claims, group, i))
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
            claims_packed_unmark(group);
        group->unanswered = 0;
    }
}

/* Claims in the newest tables. */
static void claims_packed_claim(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    claims_packed_run(claims, ROUND_CLAIM, PACKED_FREE);
    KILL_POINT("claims_set");
    claims_packed_change(claims, PACKED_OTHERS, PACKED_LOSER);
    claims_packed_run(claims, ROUND_WHO, PACKED_LOSER);
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
        if (!group->known || group->over) {
            packed->states[i] = PACKED_LOST;
        } else if (newest->opened_ms != group->used_ms) {
            packed->states[i] = PACKED_FREE;
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

        if (group->known && newest != NULL)
            claims_packed_use(claims, group, newest);
    }
}

static bool claims_packed_is_due(const struct packed_group *group)
{
    return group->due;
}

/* Now and then looks whether the hashes are full. */
static void claims_packed_watch(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    bool any = false;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);
        const struct packed_table *newest = packed_log_newest(&group->log);
        const unsigned skip = claims->tagged ? PACKED_GROUP_BITS : 0;
        uint64_t each = newest == NULL ? 0 : (1u << (newest->bits - skip)) / SAMPLE_PART;

        if (each < SAMPLE_EACH >> skip / 2)
            each = SAMPLE_EACH >> skip / 2;
        group->due = group->known && newest != NULL && group->claimed >= each &&
                     newest->bits < PACKED_BITS_MAX;
        any |= group->due;
    }
    if (!any)
        return;
    claims_packed_sample(claims, claims_packed_is_due);
    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        if (!group->due)
            continue;
        group->claimed = 0;
        if (claims_packed_fill(group) < PACKED_FULL ||
            packed_log_living(&group->log, group->now_ms) >= PACKED_GROW_MAX)
            continue;
        group->full = true;
        group->full_number = packed_log_newest(&group->log)->number;
    }
}

/* Deletes the claims of those that are SEEK, from the depth on; they are DONE then. */
static void claims_packed_let_go(struct claims *claims, size_t depth)
{
    struct claims_packed *packed = claims->packed;

    for (packed->depth = depth; packed->depth <= PACKED_TABLES_MAX; packed->depth++) {
        bool any = false;

        for (uint32_t i = 0; i < packed->n; i++) {
            if (packed->states[i] != PACKED_SEEK)
                continue;
            if (claims_packed_group_of(claims, i)->older_count >= packed->depth)
                any = true;
            else
                packed->states[i] = PACKED_DONE;
        }
        if (!any)
            return;
        claims_packed_run(claims, ROUND_LET_GO, PACKED_SEEK);
    }
}

/* A claim of our own in an older table, while another record has the id in the newest, would
 * outlive that one if it is released. */
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
    claims_packed_let_go(claims, 1);
}

void claims_packed_take_slice(struct claims *claims, size_t n)
{
    struct claims_packed *packed = claims->packed;

    packed->n = n;
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
            break;
        }
        claims_packed_settle_logs(claims, true);
        if (!claims_packed_has_turned(claims))
            break;
    }
    for (uint32_t i = 0; i < n; i++)
        if (packed->states[i] == PACKED_OWNED && claims->unserved == NULL)
            claims->verdicts[i] = CLAIM_OWNED;
    claims_packed_clean_up(claims);
    claims_packed_watch(claims);
    claims_replicas_end_slice(claims);
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

        packed->states[i] = !group->known           ? PACKED_LOST
                            : group->log.count == 0 ? PACKED_DONE /* there are no tables */
                                                    : PACKED_SEEK;
    }
    claims_packed_list_older(claims);
    claims_packed_let_go(claims, 0);
    for (uint32_t i = 0; i < n; i++)
        if (packed->states[i] == PACKED_DONE)
            claims->released[i] = true;
}

/* ---- replies ---- */

bool claims_packed_on_time(struct claims *claims, const struct redis_link_element *element)
{
    uint64_t number = 0;

    if (element->type == REDIS_LINK_ERROR)
        return element->root;
    if (element->root)
        return element->type == REDIS_LINK_ARRAY && element->count == 2;
    if (element->type != REDIS_LINK_STRING || element->text.len > 16)
        return false;
    for (size_t i = 0; i < element->text.len; i++)
        number = 10 * number + (uint64_t)(element->text.data[i] - '0');
    if (element->index == 0)
        claims->lane->time_ms = 1000 * number;
    else
        claims->lane->time_ms += number / 1000;
    return true;
}

static void claims_packed_read_field(struct packed_group *group, struct slice text)
{
    snprintf(group->field, sizeof(group->field), "%.*s", (int)text.len, text.data);
}

/* What HGETALL says of a log: each field, and then its value. */
static bool claims_packed_on_log(struct packed_group *group, const struct claims_lane *lane,
                                 const struct redis_link_element *element)
{
    struct packed_table table;

    if (element->root) {
        if (element->type == REDIS_LINK_ERROR)
            return true;
        group->log.count = 0;
        group->now_ms = lane->time_ms;
        group->known =
            element->type == REDIS_LINK_ARRAY && element->count == 0 && lane->time_ms > 0;
        group->elements = element->count;
        return element->type == REDIS_LINK_ARRAY && element->count % 2 == 0;
    }
    if (element->type != REDIS_LINK_STRING)
        return false;
    if (element->index % 2 == 0)
        claims_packed_read_field(group, element->text);
    else if (packed_table_read(&table, (struct slice){group->field, strlen(group->field)},
                               element->text))
        packed_log_add(&group->log, &table);
    if (element->index + 1 == group->elements)
        group->known = lane->time_ms > 0;
    return true;
}

/* The value of a claim: whose is it. */
static enum packed_state claims_packed_judge(struct claims *claims, uint32_t i, struct slice value)
{
    char padded[VALUE_LEN] = {0}, own[VALUE_LEN];

    if (value.len > VALUE_LEN)
        return PACKED_DONE;
    memcpy(padded, value.data, value.len);
    if (!claims_put_is_value((struct slice){padded, VALUE_LEN}))
        return PACKED_DONE;
    claims_put_value(claims, claims->records[i], own);
    return memcmp(padded, own, VALUE_LEN) == 0 ? PACKED_OWNED : PACKED_OTHERS;
}

static bool claims_packed_on_find(struct claims *claims, uint32_t i,
                                  const struct redis_link_element *element)
{
    enum packed_state *state = &claims->packed->states[i];

    if (element->type == REDIS_LINK_NIL) {
        *state = PACKED_SEEK;
        return true;
    }
    if (element->type != REDIS_LINK_STRING)
        return false;
    *state = claims_packed_judge(claims, i, element->text);
    if (*state == PACKED_DONE)
        claims->verdicts[i] = CLAIM_STRANGE;
    /* Our own there is to be claimed in the newest table, which decides. */
    if (*state == PACKED_OWNED) {
        *state = PACKED_FREE;
        claims->flags[i] |= FLAG_LEFT;
    }
    if (*state == PACKED_OTHERS)
        claims->flags[i] |= FLAG_TAKEN;
    return true;
}

static bool claims_packed_on_claim(struct claims *claims, uint32_t i,
                                   const struct redis_link_element *element)
{
    struct packed_group *group = claims_packed_group_of(claims, i);

    if (element->type != REDIS_LINK_INTEGER)
        return false;
    claims->packed->states[i] = element->value == 1 ? PACKED_OWNED : PACKED_LOSER;
    group->claimed += element->value == 1;
    return true;
}

static bool claims_packed_on_who(struct claims *claims, uint32_t i,
                                 const struct redis_link_element *element)
{
    enum packed_state *state = &claims->packed->states[i];

    if (element->type == REDIS_LINK_NIL) {
        /* Another's in an older table still counts; else the id is free again. */
        const bool taken = (claims->flags[i] & FLAG_TAKEN) != 0;

        *state = taken ? PACKED_DONE : PACKED_FREE;
        if (taken)
            claims->verdicts[i] = CLAIM_DUPLICATE;
        return true;
    }
    if (element->type != REDIS_LINK_STRING)
        return false;
    *state = claims_packed_judge(claims, i, element->text);
    claims->lane->wait.owes |= *state == PACKED_OWNED;
    if (*state == PACKED_OWNED)
        return true;
    claims->verdicts[i] = *state == PACKED_DONE ? CLAIM_STRANGE : CLAIM_DUPLICATE;
    *state = PACKED_DONE;
    return true;
}

/* One number answers. */
static bool claims_packed_on_number(struct claims *claims, uint32_t i,
                                    const struct redis_link_element *element)
{
    struct packed_group *group = claims_packed_group_of(claims, i);

    if (element->type != REDIS_LINK_INTEGER)
        return false;
    if (claims->round == ROUND_FILL) {
        group->samples++;
        group->lengths += (uint64_t)element->value;
    } else if (claims->round == ROUND_EXPIRE) {
        group->unanswered--;
    } else if (claims->round == ROUND_LET_GO) {
        claims->packed->states[i] = PACKED_SEEK;
    }
    return true;
}

bool claims_packed_on_element(struct claims *claims, const struct redis_link_element *element)
{
    const uint32_t i = claims->todo[claims->lane->at];

    if (claims->round == ROUND_LOG)
        return claims_packed_on_log(claims_packed_group_of(claims, i), claims->lane, element);
    if (!element->root)
        return false;
    if (element->type == REDIS_LINK_ERROR)
        return true;
    switch (claims->round) {
    case ROUND_FIND:
        return claims_packed_on_find(claims, i, element);
    case ROUND_CLAIM:
        return claims_packed_on_claim(claims, i, element);
    case ROUND_WHO:
        return claims_packed_on_who(claims, i, element);
    default:
        return claims_packed_on_number(claims, i, element);
    }
}
