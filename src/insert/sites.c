/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sites.c - a stream's table at each endpoint of a shard that has several.
 *
 * A token keeps an insert from being doubled by another server only where both share their tokens:
 * replicas of one table do, through Keeper, which takes an insert's token together with its part.
 * The path in Keeper, with its macros filled in, is the same for all replicas of a shard, and for
 * no other.
 *
 * Runs on: flusher thread. Owns: nothing.
 */
#include "sites.h"

#include <stdio.h>
#include <string.h>

#define FIELDS 3
#define FIT_INTERVAL_MS 30000
#define UNFIT_INTERVAL_MS 2000
#define REFUSALS_MAX 4 /* the pause doubles so often */

/* Codes of ClickHouse that speak of the server, its user or its settings. */
static const int own_codes[] = {73, 115, 164, 218, 452, 497};

/* FNV-1a; never 0, except of nothing. */
static uint64_t sites_hash(struct slice text)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.data[i]) * UINT64_C(0x100000001b3);
    return text.len == 0 ? 0 : hash | 1;
}

/* Cuts the first row at its tabs. False: there is none with so many fields. */
static bool sites_split(struct slice body, struct slice fields[FIELDS])
{
    const char *end = body.len == 0 ? NULL : memchr(body.data, '\n', body.len);
    const char *at = body.data;

    if (end == NULL)
        return false;
    for (size_t i = 0; i < FIELDS; i++) {
        const char *stop = memchr(at, '\t', (size_t)(end - at));

        if ((stop == NULL) != (i == FIELDS - 1))
            return false;
        stop = stop == NULL ? end : stop;
        fields[i] = (struct slice){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    return true;
}

static bool sites_is_replicated(const char *engine)
{
    const size_t len = strlen(engine), tail = strlen("MergeTree");

    return len >= tail && strcmp(engine + len - tail, "MergeTree") == 0 &&
           (strncmp(engine, "Replicated", 10) == 0 || strncmp(engine, "Shared", 6) == 0);
}

static enum site_state sites_read(struct site *site, struct slice body)
{
    struct slice fields[FIELDS];

    site->engine[0] = '\0';
    if (body.len == 0)
        return SITE_MISSING;
    if (!sites_split(body, fields))
        return SITE_UNTOLD;
    snprintf(site->engine, sizeof(site->engine), "%.*s", (int)fields[0].len, fields[0].data);
    site->path_hash = sites_hash(fields[1]);
    if (strcmp(site->engine, "Distributed") == 0)
        return SITE_DISTRIBUTED;
    if (!sites_is_replicated(site->engine))
        return SITE_PLAIN;
    return fields[2].len == 1 && fields[2].data[0] == '0' ? SITE_FIT : SITE_READ_ONLY;
}

void site_take(struct site *site, struct slice body, uint64_t now_ms)
{
    site->state = sites_read(site, body);
    site->due_ms = now_ms + (site->state == SITE_FIT ? FIT_INTERVAL_MS : UNFIT_INTERVAL_MS);
}

void site_forget(struct site *site, uint64_t due_ms)
{
    /* Not its path: who is in doubt about an insert must not find another one alone. */
    site->state = SITE_UNKNOWN;
    site->due_ms = due_ms;
}

bool site_is_to_blame(const struct insert_answer *answer)
{
    const int code = answer->exception_code != 0 ? answer->exception_code
                                                 : insert_answer_body_code(answer->body);

    if (code == 0)
        return (answer->status >= 300 && answer->status < 400) || answer->status == 404 ||
               answer->status == 405;
    for (size_t i = 0; i < ARRAY_LEN(own_codes); i++)
        if (code == own_codes[i])
            return true;
    return false;
}

void site_refuse(struct site *site, uint64_t now_ms)
{
    site->state = SITE_REFUSING;
    site->due_ms = now_ms + ((uint64_t)UNFIT_INTERVAL_MS << site->refusals);
    if (site->refusals < REFUSALS_MAX)
        site->refusals++;
}

void site_took(struct site *site)
{
    site->refusals = 0;
}

bool site_serves_alone(const struct site *site)
{
    return site->state != SITE_UNKNOWN && site->state != SITE_DISTRIBUTED;
}

bool sites_differ(const struct site *sites, size_t count, uint64_t set)
{
    uint64_t path = 0;

    for (size_t i = 0; i < count; i++) {
        if ((set >> i & 1) == 0 || sites[i].path_hash == 0)
            continue;
        if (path != 0 && path != sites[i].path_hash)
            return true;
        path = sites[i].path_hash;
    }
    return false;
}

uint64_t sites_fit(const struct site *sites, size_t count, uint64_t set)
{
    uint64_t fit = 0;

    if (sites_differ(sites, count, set))
        return 0;
    for (size_t i = 0; i < count; i++)
        if ((set >> i & 1) != 0 && sites[i].state == SITE_FIT)
            fit |= UINT64_C(1) << i;
    return fit;
}

bool sites_known(const struct site *sites, size_t count, uint64_t set)
{
    for (size_t i = 0; i < count; i++)
        if ((set >> i & 1) != 0 && sites[i].state == SITE_UNKNOWN)
            return false;
    return true;
}

const char *site_words(enum site_state state)
{
    switch (state) {
    case SITE_UNKNOWN:
        return "has not been looked at yet";
    case SITE_FIT:
        return "is a replica";
    case SITE_MISSING:
        return "does not exist";
    case SITE_PLAIN:
        return "is not replicated: an insert whose answer is lost could be doubled by another "
               "endpoint. Make it a Replicated table, or name one endpoint";
    case SITE_DISTRIBUTED:
        return "is Distributed, which hides who has an insert: name the local table";
    case SITE_READ_ONLY:
        return "is read-only: look at its Keeper";
    case SITE_REFUSING:
        return "refuses inserts that others may take: look at the user's rights and settings "
               "there, and at a proxy before it";
    case SITE_UNTOLD:
        return "tells nothing: the user needs SELECT on system.tables and system.replicas";
    }
    ALLOY_UNREACHABLE("a site_state of no name");
    return "";
}
