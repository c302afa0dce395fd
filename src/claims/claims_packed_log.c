/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed_log.c - which tables there are (packed.h), with redis.layout = packed: reads the
 * logs, opens tables, and moves a deployment from one layout to the other.
 *
 * From keys to packed: the first table of a log sends claims to both layouts. Alloyd with layout =
 * keys look for a log every few seconds, and then do as the others do. So a minute later all claims
 * are in the tables, and the next table takes them alone; claims that were made as keys are looked
 * at until their ttl is over. Where there are none, and no alloyd that could make some, nothing of
 * this is waited for. Back: when nobody has wished for packed for ten minutes, an alloyd with
 * layout = keys opens a table that sends claims to keys; the others are looked at until they end.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_packed.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "alloy/clock.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"

#define LOG_INTERVAL_MS 10000
#define OPEN_TRIES 8
#define READ_TRIES 8
#define BOTH_MS 60000       /* claims go to both layouts for so long before they leave keys */
#define BOTH_SEEN_MS 45000  /* ... by our own clock */
#define PEEK_MS 5000        /* layout = keys looks so often whether there is a log, */
#define PEEK_LASTS_MS 20000 /* and claims by what it has seen for so long */
#define WISH_EACH_MS 60000
#define WISH_LASTS_MS 600000
#define SCANS_MAX 200
#define SAMPLES 16        /* hashes whose length is asked for */
#define SAMPLE_EACH 1024u /* own claims between two of these, at the least */
#define SAMPLE_PART 8u    /* ... or this part of a table's hashes */

/* ---- rounds about groups ---- */

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

static void claims_packed_tell_back(uint64_t number)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_warn("the log of packed claims has lost a table, and with it all claims there "
                 "table=%" PRIu64 " action=redis.distrust suppressed=%llu",
                 number, (unsigned long long)suppressed);
}

/* A log that lacks the table that was its newest has gone back: after a failover, or it was
 * deleted. What claims there were in that table nobody knows any more. Another thread may have seen
 * a table that was opened after our look: then we look again (true). */
static bool claims_packed_note_newest(struct claims *claims, uint32_t leader, uint64_t began_ms)
{
    struct packed_group *group = claims_packed_group_of(claims, leader);
    const size_t log = claims->packed->stream * PACKED_GROUPS + claims_packed_group(claims, leader);
    const struct packed_table *newest = packed_log_newest(&group->log);
    struct distrust_log last;

    if (!group->known || group->garbled)
        return false;
    distrust_log(claims->parts.distrust, log, &last);
    if (last.table.number > 0 && group->now_ms < packed_table_end_ms(&last.table) &&
        packed_log_lacks(&group->log, &last.table)) {
        if (last.seen_ms >= began_ms)
            return true;
        claims_packed_tell_back(last.table.number);
        /* Before the others may see that it went back, so that they look too. */
        claims_doubt_suspect(
            claims, redis_nodes_of_slot(claims->nodes, claims->slots[claims->bucket[leader]]),
            last.real_ms);
    }
    last = (struct distrust_log){.seen_ms = clock_mono_ms(), .real_ms = clock_real_ms()};
    if (newest != NULL)
        last.table = *newest;
    distrust_note_log(claims->parts.distrust, log, &last);
    return false;
}

void claims_packed_read_logs(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;
    bool again = true;

    for (size_t i = 0; again && i < READ_TRIES; i++) {
        const uint64_t began_ms = clock_mono_ms();

        again = false;
        for (size_t k = 0; k < packed->group_count; k++)
            claims_packed_group_of(claims, packed->leaders[k])->known = false;
        claims_packed_run_groups(claims, ROUND_LOG, claims_packed_any);
        for (size_t k = 0; claims->parts.distrust != NULL && k < packed->group_count; k++)
            again |= claims_packed_note_newest(claims, packed->leaders[k], began_ms);
        if (again && clock_mono_ms() == began_ms)
            nanosleep(&(struct timespec){.tv_nsec = CLOCK_NS_PER_MS}, NULL);
    }
    if (!again)
        return;
    for (size_t k = 0; k < packed->group_count; k++)
        claims_packed_group_of(claims, packed->leaders[k])->known = false;
    claims->unserved = "threads do not agree about the log of packed claims";
}

static bool claims_packed_opens(const struct packed_group *group)
{
    return group->opens;
}

static bool claims_packed_samples(const struct packed_group *group)
{
    return group->opens && group->log.count > 0 &&
           packed_log_newest(&group->log)->way != PACKED_KEYS;
}

/* Where claims of the group should go. */
static enum packed_way claims_packed_wanted(const struct claims *claims,
                                            const struct packed_group *group)
{
    const struct packed_table *newest = packed_log_newest(&group->log);
    const bool packs = claims->packed->packs;
    uint64_t wish_ms = group->wish_ms;

    if (newest == NULL || newest->way == PACKED_KEYS)
        return packs ? PACKED_BOTH : PACKED_KEYS;
    if (wish_ms < newest->opened_ms)
        wish_ms = newest->opened_ms;
    if (!packs && group->now_ms >= wish_ms + WISH_LASTS_MS)
        return PACKED_KEYS;
    if (newest->way == PACKED_ALONE || !packs)
        return newest->way;
    if (group->virgin && newest->number == 1)
        return PACKED_ALONE;
    return group->now_ms >= group->way_since_ms + BOTH_MS &&
                   claims_now_ms(claims) >= group->way_seen_ms + BOTH_SEEN_MS
               ? PACKED_ALONE
               : PACKED_BOTH;
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
        /* Without a log, layout = keys goes on as it is. */
        group->over = (newest != NULL || packed->packs) &&
                      packed_log_is_over(&group->log, group->now_ms, packed->ttl_ms, late);
        group->want = claims_packed_wanted(claims, group);
        group->opens = group->known && group->over;
        if (group->known && !late && newest != NULL)
            group->opens |= group->full || group->want != newest->way;
        group->opens = group->opens && !group->garbled;
        any |= group->opens;
    }
    return any;
}

/* The length of some hashes of the newest table: those that the group's first records have, and,
 * where these are few, some others (claims_packed_put.c). */
static void claims_packed_sample(struct claims *claims, bool (*wanted)(const struct packed_group *))
{
    struct claims_packed *packed = claims->packed;
    size_t n = 0;

    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        group->asked = 0;
        group->lengths = group->samples = 0;
    }
    for (size_t pass = 0; pass < SAMPLES; pass++)
        for (uint32_t i = 0; i < packed->n && n < packed->slice_max; i++) {
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

static void claims_packed_plan(const struct claims *claims, struct packed_group *group)
{
    const uint64_t ttl_ms = claims->packed->ttl_ms;
    const struct packed_table *newest = packed_log_newest(&group->log);
    struct packed_table *next = &group->next;
    double fill = claims_packed_fill(group);

    /* Other hashes than those that were found to be full may be less so. */
    if (group->full && fill < PACKED_FULL)
        fill = PACKED_FULL;
    *next = packed_log_next(&group->log, group->now_ms, ttl_ms, fill,
                            claims->tagged ? PACKED_GROUP_BITS : 0);
    next->way = group->want;
    if (group->want != PACKED_ALONE)
        next->keys_until_ms = 0;
    else if (newest != NULL && newest->way == PACKED_BOTH && !group->virgin)
        next->keys_until_ms = group->now_ms + ttl_ms + BOTH_MS;
}

/* Opens a table where one is wanted, unless another alloyd is faster. */
static void claims_packed_open_tables(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    claims_packed_sample(claims, claims_packed_samples);
    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);

        claims_packed_plan(claims, group);
    }
    /* Before as well: the log must not expire between the two. */
    claims_packed_run_groups(claims, ROUND_KEEP, claims_packed_opens);
    claims_packed_run_groups(claims, ROUND_OPEN, claims_packed_opens);
    claims_packed_run_groups(claims, ROUND_KEEP, claims_packed_opens);
    claims_packed_run_groups(claims, ROUND_TRIM, claims_packed_opens);
}

/* The first table of a log says that claims go to both layouts. So an alloyd that starts after this
 * finds it, and a scan after this finds the claims and the alloyd that were there before. */
static void claims_packed_scan(struct claims *claims, struct packed_group *group, uint32_t leader)
{
    struct claims_packed *packed = claims->packed;
    const size_t node = redis_nodes_of_slot(claims->nodes, claims->slots[claims->bucket[leader]]);
    size_t peers = 0;
    int err = 0;

    group->scanned = true;
    packed->found_claim = false;
    packed->member_count = packed->packer_count = 0;
    strcpy(packed->cursor, "0");
    if (!claims_lane_open(claims, node))
        return;
    claims_lane_enter(claims, node);
    for (size_t i = 0; i < SCANS_MAX && err == 0 && !packed->found_claim; i++) {
        redis_link_clear(claims->link);
        claims_packed_put_scan(claims);
        err = claims_lane_converse(claims, ROUND_SCAN, 1);
        if (err == 0 && strcmp(packed->cursor, "0") == 0)
            break;
    }
    claims->lane->err = err;
    for (size_t i = 0; i < packed->member_count; i++)
        for (size_t k = 0; k < packed->packer_count; k++)
            if (strcmp(packed->members[i], packed->packers[k]) == 0) {
                peers++;
                break;
            }
    group->virgin = err == 0 && !packed->found_claim && peers == packed->member_count &&
                    strcmp(packed->cursor, "0") == 0;
}

static bool claims_packed_wishes(const struct packed_group *group)
{
    return group->known && group->log.count > 0 && group->now_ms >= group->wish_ms + WISH_EACH_MS;
}

static void claims_packed_note_ways(struct claims *claims)
{
    struct claims_packed *packed = claims->packed;

    for (size_t k = 0; k < packed->group_count; k++) {
        const uint32_t leader = packed->leaders[k];
        struct packed_group *group = claims_packed_group_of(claims, leader);
        const struct packed_table *newest = packed_log_newest(&group->log);
        const uint64_t since_ms = packed_log_way_since_ms(&group->log);

        if (!group->known || newest == NULL)
            continue;
        if (since_ms != group->way_since_ms)
            group->way_seen_ms = claims_now_ms(claims);
        group->way_since_ms = since_ms;
        if (newest->number == 1 && newest->way == PACKED_BOTH && packed->packs && !claims->tagged &&
            !group->scanned)
            claims_packed_scan(claims, group, leader);
    }
}

/* Reads the logs, and opens tables where claims can go to none. late: claims that are set already
 * may be late by a little. */
void claims_packed_settle_logs(struct claims *claims, bool late)
{
    claims_packed_read_logs(claims);
    claims_packed_note_ways(claims);
    for (size_t i = 0; i < OPEN_TRIES && claims_packed_want_tables(claims, late); i++) {
        claims_packed_open_tables(claims);
        claims_packed_read_logs(claims);
        claims_packed_note_ways(claims);
    }
    if (claims->packed->packs && !late)
        claims_packed_run_groups(claims, ROUND_WISH, claims_packed_wishes);
}

static bool claims_packed_is_due(const struct packed_group *group)
{
    return group->due;
}

/* Now and then looks whether the hashes are full. True: it has looked. */
static bool claims_packed_look(struct claims *claims)
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
        group->due =
            group->known && newest != NULL && newest->way != PACKED_KEYS && group->claimed >= each;
        any |= group->due;
    }
    if (!any)
        return false;
    claims_packed_sample(claims, claims_packed_is_due);
    for (size_t k = 0; k < packed->group_count; k++) {
        struct packed_group *group = claims_packed_group_of(claims, packed->leaders[k]);
        const struct packed_table *newest = packed_log_newest(&group->log);

        if (!group->due)
            continue;
        group->claimed = 0;
        group->fill = claims_packed_fill(group);
        group->fill_number = newest->number;
        if (group->fill < PACKED_FULL || newest->bits == PACKED_BITS_MAX ||
            packed_log_living(&group->log, group->now_ms) >= PACKED_GROW_MAX)
            continue;
        group->full = true;
        group->full_number = newest->number;
    }
    return true;
}

/* All threads see the same tables, but each has looked at other hashes, and at another time. */
static void claims_packed_publish(const struct claims *claims, bool looked)
{
    const struct claims_packed *packed = claims->packed;
    const unsigned skip = claims->tagged ? PACKED_GROUP_BITS : 0;
    struct metrics *metrics = claims->parts.metrics;
    size_t tables = 0;
    uint64_t opened_ms = 0;
    double hashes = 0, ids = 0;

    for (size_t k = 0; k < packed->groups_each; k++) {
        const struct packed_group *group = &packed->groups[packed->stream][k];
        const struct packed_table *newest = packed_log_newest(&group->log);
        const bool packs = newest != NULL && newest->way != PACKED_KEYS;
        const size_t n = newest == NULL ? 0 : packed_log_living(&group->log, group->now_ms) + packs;

        if (n > tables)
            tables = n;
        if (!packs)
            continue;
        hashes += (double)(1u << (newest->bits - skip));
        ids += group->fill_number == newest->number
                   ? group->fill * (double)(1u << (newest->bits - skip))
                   : (double)group->claimed;
        if (opened_ms == 0 || newest->opened_ms < opened_ms)
            opened_ms = newest->opened_ms;
    }
    if (looked || METRIC_PACKED_GET(metrics, packed->stream, opened_ms) != (int64_t)opened_ms ||
        METRIC_PACKED_GET(metrics, packed->stream, ids) < (int64_t)ids)
        METRIC_PACKED_SET(metrics, packed->stream, ids, (int64_t)ids);
    METRIC_PACKED_SET(metrics, packed->stream, tables, (int64_t)tables);
    METRIC_PACKED_SET(metrics, packed->stream, hashes, (int64_t)hashes);
    METRIC_PACKED_SET(metrics, packed->stream, opened_ms, (int64_t)opened_ms);
}

/* Whether claims are packed, though this alloyd wants them as keys. */
static void claims_packed_tell(const struct claims *claims)
{
    const struct claims_packed *packed = claims->packed;
    bool follows = false;

    for (size_t k = 0; !packed->packs && k < packed->groups_each; k++) {
        const struct packed_table *newest =
            packed_log_newest(&packed->groups[packed->stream][k].log);

        follows |= newest != NULL && newest->way != PACKED_KEYS;
    }
    if (follows)
        health_raise(claims->parts.health, "redis.layout", false,
                     "claims in Redis are packed, and this alloyd has redis.layout = keys: it "
                     "claims as the others do, until none with packed has claimed for %d minutes; "
                     "set redis.layout = packed here, or keys in the others",
                     WISH_LASTS_MS / 60000);
    else
        health_clear(claims->parts.health, "redis.layout");
}

void claims_packed_watch(struct claims *claims)
{
    const bool looked = claims_packed_look(claims);

    claims_packed_publish(claims, looked);
    claims_packed_tell(claims);
}

/* ---- layout = keys beside others with packed ---- */

/* Looks for logs, at the nodes of the groups' tags, on behalf of todo[0] .. todo[due - 1]. */
static void claims_packed_peek(struct claims *claims, size_t n, size_t due)
{
    for (uint32_t i = 0; !claims->tagged && i < n; i++)
        claims->bucket[i] = 0;
    claims_packed_aim(claims, n, false);
    claims->is_packed = true;
    claims_lanes_run(claims, ROUND_PEEK, due);
    claims->is_packed = false;
    claims_packed_aim(claims, n, true);
}

bool claims_packed_is_called_for(struct claims *claims, size_t n, bool again)
{
    const uint64_t now_ms = claims_now_ms(claims);
    bool seen[PACKED_GROUPS] = {false}, adopted = false;
    size_t due = 0;

    if (!claims->parts.watch_layout)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        const size_t number = claims_packed_group(claims, i);
        const struct packed_group *group = claims_packed_group_of(claims, i);

        if (seen[number])
            continue;
        seen[number] = true;
        adopted |= group->adopted;
        if (group->peeked_ms == 0 || now_ms >= group->peeked_ms + (again ? PEEK_LASTS_MS : PEEK_MS))
            claims->todo[due++] = i;
    }
    if (due > 0) {
        claims_packed_peek(claims, n, due);
        for (uint32_t i = 0; i < n; i++)
            adopted |= claims_packed_group_of(claims, i)->adopted;
        if (!adopted)
            health_clear(claims->parts.health, "redis.layout");
    }
    if (adopted && !(again && due == 0)) {
        claims->is_packed = true;
        claims_packed_begin(claims, n);
        return true;
    }
    if (due > 0)
        claims_lanes_begin(claims, n);
    return false;
}
