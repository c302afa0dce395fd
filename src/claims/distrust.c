/* SPDX-License-Identifier: Apache-2.0 */
/*
 * distrust.c - whether a Redis may have forgotten claims that it had acknowledged.
 *
 * Each server has a key of ours, <key_prefix>#life, which says in which life of a server claims
 * were last set there: its run id and its replication id. A replica that became master has the key
 * with the life of the master before; so has a server that was restarted, or that got an older copy
 * of its data. A server that was emptied has none. Whoever sees that opens a window of distrust,
 * and writes the life of now and the time into the key, so that all others know of it, those too
 * that start later.
 *
 * The key also has a roll of those who claim there: when each was last seen, and whether it has
 * claimed again, since the window was opened, what it had in hand. The newest of these times says
 * how old the data is that the server came back with.
 *
 * The key is read and written without a lock. What one write takes from another is written again
 * at the next look of who misses it.
 *
 * In a cluster each bucket has such a key, and that of a server is the one of its lowest bucket. A
 * slot that moves takes the key along, so whoever finds the life of another server there asks that
 * one: if it lives on in that life, the claims came whole, and a window that is open there is
 * opened here too. If nobody has that life any more, claims may have been lost before they came.
 * Then the key gets the life of now, so that one alloyd asks and all others read the answer. How
 * old claims are that a moved slot lacks nobody knows, so such windows ask about all.
 *
 * Runs on: any thread; one mutex. Owns: what we know of each server.
 */
#define LOG_MODULE "distrust"
#include "alloy/distrust.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/log.h"

#define SERVERS_MAX 256
#define NAME_MAX_BYTES 320
#define ROLL_MAX 64

#define LOOK_MS 250     /* between two looks of one connection */
#define LOOK_HOLD_MS 50 /* while we wait for others */
#define IDLE_MS 500     /* without traffic, of the process */
#define STAMP_MS 1000   /* between two writes that only renew our time */
#define RENEW_MS 20000  /* the same of the key of a bucket, which would expire */
#define HOLD_MIN_MS 200
#define HOLD_MAX_MS 5000
#define ABSENT_MS 5000     /* who was not there for so long before a window is not waited for */
#define FORGOTTEN_MS 60000 /* and leaves the roll */
#define PROLONGED_MS 60000 /* of a window in which something could not be looked for */
#define VERSION "1"

enum distrust_reason {
    DISTRUST_LIFE,    /* another life of a server than the one that last had the claims */
    DISTRUST_EMPTIED, /* our key is gone */
    DISTRUST_BACK,    /* the replication offset went back */
    DISTRUST_LACKS,   /* it has not what it had, as somebody has noticed */
    DISTRUST_SPLIT,   /* we have claimed at another master since this one took over */
    DISTRUST_MOVED,   /* slots came from a server that nobody has seen since */
    DISTRUST_FOLLOWS, /* or that is distrusted */
};

static const char *const distrust_reasons[] = {
    [DISTRUST_LIFE] = "it answers for a server that failed or was started again",
    [DISTRUST_EMPTIED] = "its data is gone",
    [DISTRUST_BACK] = "its data is older than what it had before",
    [DISTRUST_LACKS] = "its log of packed claims went back",
    [DISTRUST_SPLIT] = "ids were claimed at another master after it had taken over",
    [DISTRUST_MOVED] = "slots came to it from a server that is not there any more",
    [DISTRUST_FOLLOWS] = "slots came to it from a server that may have forgotten claims",
};

struct distrust_member {
    uint64_t instance_id;
    uint64_t stamp_ms; /* real time */
    bool ready;        /* has claimed again what it had in hand */
};

/* The value of a key. */
struct distrust_key {
    char life[DISTRUST_LIFE_MAX];
    uint64_t opened_ms; /* real time, as the next; 0: never */
    uint64_t until_ms;
    uint64_t from_ms;
    size_t count;
    struct distrust_member roll[ROLL_MAX];
};

struct distrust_server {
    char name[NAME_MAX_BYTES]; /* "": free */
    char life[DISTRUST_LIFE_MAX];
    char before[DISTRUST_LIFE_MAX]; /* the one of which it has the data */
    uint64_t offset;
    uint64_t seen_ms;
    uint64_t began_ms;  /* before it was asked */
    size_t place;       /* whose key was read */
    uint64_t opened_ms; /* real time, as the next; 0: there was no window */
    uint64_t until_ms;
    uint64_t from_ms;
    uint64_t entered_ms;               /* monotonic: since when we know of the window */
    uint64_t hold_min_ms, hold_max_ms; /* monotonic: when the hold ends */
    uint64_t free_ms;                  /* when it did; 0: it has not */
    uint64_t generation;               /* that began with the window */
    bool opened_now;                   /* in the present call */
    uint64_t suspect_ms;               /* real time of distrust_suspect(); 0: no */
};

/* Of a window, in real time. */
struct distrust_span {
    uint64_t opened_ms, until_ms;
    uint64_t from_ms; /* claims that were set since may be lost */
};

/* Of a key. */
struct distrust_place {
    bool marked;         /* some server has had it */
    uint64_t there_ms;   /* monotonic: when that was known last */
    uint64_t renewed_ms; /* monotonic: when it was last written; 0: never */
    char life[DISTRUST_LIFE_MAX];
    uint64_t seen_ms; /* real time */
};

struct distrust {
    struct distrust_parts parts;
    _Atomic uint64_t idle_due_ms;
    _Atomic uint64_t generation; /* written under the lock */
    _Atomic uint64_t suspicions; /* written under the lock */
    _Atomic uint64_t reclaimed;  /* the last generation of which all is claimed again */
    pthread_mutex_t lock;
    /* under the lock */
    bool told;
    size_t known_count;
    struct distrust_member known[ROLL_MAX]; /* the roll that was seen last, of any server */
    struct distrust_place places[DISTRUST_PLACES];
    struct distrust_server servers[SERVERS_MAX];
    struct distrust_log logs[DISTRUST_LOGS];
};

/* ---- the key ---- */

static bool distrust_read_number(const char **at, int base, char end, uint64_t *number)
{
    char *rest;

    if (**at == '\0' || strchr("0123456789abcdef", **at) == NULL)
        return false;
    *number = strtoull(*at, &rest, base);
    if (*rest != end && !(end == ' ' && *rest == '\0'))
        return false;
    *at = *rest == '\0' ? rest : rest + 1;
    return true;
}

static bool distrust_read_member(const char **at, struct distrust_member *member)
{
    uint64_t ready;

    if (!distrust_read_number(at, 16, ',', &member->instance_id) ||
        !distrust_read_number(at, 10, ',', &member->stamp_ms) ||
        !distrust_read_number(at, 10, ' ', &ready))
        return false;
    member->ready = ready == 1;
    return true;
}

/* False: it is not what an alloyd writes. */
static bool distrust_read_key(struct slice value, struct distrust_key *key)
{
    char text[DISTRUST_KEY_MAX];
    const char *at = text;
    size_t len;

    *key = (struct distrust_key){.count = 0};
    if (value.len >= sizeof(text) || memchr(value.data, '\0', value.len) != NULL)
        return false;
    memcpy(text, value.data, value.len);
    text[value.len] = '\0';
    if (strncmp(at, VERSION " ", strlen(VERSION " ")) != 0)
        return false;
    at += strlen(VERSION " ");
    len = strcspn(at, " ");
    if (len == 0 || len >= sizeof(key->life) || at[len] != ' ')
        return false;
    memcpy(key->life, at, len);
    at += len + 1;
    if (!distrust_read_number(&at, 10, ' ', &key->opened_ms) ||
        !distrust_read_number(&at, 10, ' ', &key->until_ms) ||
        !distrust_read_number(&at, 10, ' ', &key->from_ms))
        return false;
    while (*at != '\0' && key->count < ROLL_MAX)
        if (!distrust_read_member(&at, &key->roll[key->count++]))
            return false;
    return true;
}

static void distrust_write_key(const struct distrust_key *key, char out[DISTRUST_KEY_MAX])
{
    size_t len =
        (size_t)snprintf(out, DISTRUST_KEY_MAX, VERSION " %s %" PRIu64 " %" PRIu64 " %" PRIu64,
                         key->life, key->opened_ms, key->until_ms, key->from_ms);

    for (size_t i = 0; i < key->count; i++)
        len +=
            (size_t)snprintf(out + len, DISTRUST_KEY_MAX - len, " %016" PRIx64 ",%" PRIu64 ",%d",
                             key->roll[i].instance_id, key->roll[i].stamp_ms, key->roll[i].ready);
}

/* When the data was last written to, as far as the key tells. */
static uint64_t distrust_newest_ms(const struct distrust_key *key)
{
    uint64_t newest_ms = 0;

    for (size_t i = 0; i < key->count; i++)
        if (key->roll[i].stamp_ms > newest_ms)
            newest_ms = key->roll[i].stamp_ms;
    return newest_ms;
}

/* ---- windows ---- */

static uint64_t distrust_length_ms(const struct distrust *distrust)
{
    return config_current(distrust->parts.config)->redis_distrust_ms;
}

static struct distrust_server *distrust_server_of(struct distrust *distrust, const char *name)
{
    struct distrust_server *oldest = &distrust->servers[0];

    for (size_t i = 0; i < SERVERS_MAX; i++) {
        struct distrust_server *server = &distrust->servers[i];

        if (strcmp(server->name, name) == 0)
            return server;
        if (server->name[0] == '\0') {
            oldest = server;
            break;
        }
        if (server->seen_ms < oldest->seen_ms)
            oldest = server;
    }
    *oldest = (struct distrust_server){.seen_ms = 0};
    snprintf(oldest->name, sizeof(oldest->name), "%s", name);
    return oldest;
}

/* A window that was opened now or earlier, and here or by another alloyd. */
static void distrust_enter(struct distrust *distrust, struct distrust_server *server,
                           const struct distrust_sight *sight, const struct distrust_span *span)
{
    const uint64_t age_ms = sight->real_ms > span->opened_ms ? sight->real_ms - span->opened_ms : 0;

    server->opened_ms = span->opened_ms;
    server->until_ms = span->until_ms;
    server->from_ms = span->from_ms;
    server->entered_ms = sight->now_ms;
    server->hold_min_ms = sight->now_ms + (age_ms < HOLD_MIN_MS ? HOLD_MIN_MS - age_ms : 0);
    server->hold_max_ms = sight->now_ms + (age_ms < HOLD_MAX_MS ? HOLD_MAX_MS - age_ms : 0);
    server->free_ms = 0;
    if (sight->real_ms >= span->until_ms)
        return;
    server->generation = distrust->generation + 1;
    /* release: pairs with the acquire in distrust_generation() */
    atomic_store_explicit(&distrust->generation, server->generation, memory_order_release);
}

static void distrust_open_span(struct distrust *distrust, struct distrust_server *server,
                               const struct distrust_sight *sight, struct distrust_span span,
                               enum distrust_reason reason)
{
    if (sight->real_ms < server->until_ms && server->from_ms < span.from_ms)
        span.from_ms = server->from_ms;
    distrust_enter(distrust, server, sight, &span);
    server->opened_now = true;
    log_warn("redis may have forgotten claims server=%s reason=\"%s\" lost_ms=%" PRIu64
             " distrust_ms=%" PRIu64 " action=look_in_clickhouse",
             server->name, distrust_reasons[reason],
             span.from_ms == 0 || span.from_ms > sight->real_ms ? 0 : sight->real_ms - span.from_ms,
             span.until_ms - sight->real_ms);
    distrust->told = true;
}

static void distrust_open(struct distrust *distrust, struct distrust_server *server,
                          const struct distrust_sight *sight, uint64_t from_ms,
                          enum distrust_reason reason)
{
    distrust_open_span(distrust, server, sight,
                       (struct distrust_span){
                           sight->real_ms, sight->real_ms + distrust_length_ms(distrust), from_ms},
                       reason);
}

/* Another alloyd has opened a window, in this life of the server. */
static void distrust_join(struct distrust *distrust, struct distrust_server *server,
                          const struct distrust_sight *sight, const struct distrust_span *span)
{
    if (span->opened_ms == server->opened_ms) {
        if (span->until_ms > server->until_ms)
            server->until_ms = span->until_ms;
        if (span->from_ms < server->from_ms)
            server->from_ms = span->from_ms;
    }
    if (span->opened_ms <= server->opened_ms)
        return;
    distrust_enter(distrust, server, sight, span);
    if (sight->real_ms >= span->until_ms)
        return;
    log_info("redis may have forgotten claims, says another alloyd server=%s", server->name);
    distrust->told = true;
}

/* Whether a key that is not there was there; and no window is about that yet. */
static bool distrust_is_gone(const struct distrust_place *place,
                             const struct distrust_server *server,
                             const struct distrust_sight *sight)
{
    return place->marked && sight->began_ms > place->there_ms &&
           place->there_ms >= server->entered_ms;
}

static void distrust_note_there(struct distrust_place *place, uint64_t now_ms)
{
    place->marked = true;
    if (place->there_ms < now_ms)
        place->there_ms = now_ms;
}

/* ---- slots that move ---- */

/* The other server that was in that life when it was last seen; NULL: we know of none. */
static struct distrust_server *distrust_living(struct distrust *distrust,
                                               const struct distrust_server *but, const char *life)
{
    for (size_t i = 0; i < SERVERS_MAX && distrust->servers[i].name[0] != '\0'; i++)
        if (&distrust->servers[i] != but && strcmp(distrust->servers[i].life, life) == 0)
            return &distrust->servers[i];
    return NULL;
}

/* Some of the server's claims are as old as they may be, and if it is distrusted, so are lost ones.
 */
static void distrust_widen(struct distrust_server *server, const struct distrust_sight *sight)
{
    if (sight->real_ms < server->until_ms)
        server->from_ms = 0;
}

/* Claims have come from where a window is, or was, open. If ours began later, all that was in hand
 * when that one began is claimed again once ours is no longer held. */
static void distrust_take_over(struct distrust *distrust, struct distrust_server *server,
                               const struct distrust_sight *sight, struct distrust_span span)
{
    distrust_widen(server, sight);
    if (sight->real_ms >= span.until_ms)
        return;
    if (sight->real_ms < server->until_ms && server->opened_ms > span.opened_ms) {
        if (server->until_ms < span.until_ms)
            server->until_ms = span.until_ms;
        return;
    }
    /* Later than the other one by whichever clock. */
    span.opened_ms = sight->real_ms > span.opened_ms ? sight->real_ms : span.opened_ms + 1;
    if (span.until_ms < server->until_ms)
        span.until_ms = server->until_ms;
    span.from_ms = 0;
    distrust_open_span(distrust, server, sight, span, DISTRUST_FOLLOWS);
}

/* The server has claims from a server in that life. False: nobody knows yet how that one fares. */
static bool distrust_explain(struct distrust *distrust, struct distrust_server *server,
                             const struct distrust_sight *sight, const char *life,
                             enum distrust_reason otherwise)
{
    const struct distrust_server *from = distrust_living(distrust, server, life);

    if (sight->asked_ms == 0)
        return false;
    if (from != NULL && from->began_ms >= sight->asked_ms)
        distrust_take_over(distrust, server, sight,
                           (struct distrust_span){from->opened_ms, from->until_ms, from->from_ms});
    else if (!server->opened_now)
        distrust_open(distrust, server, sight, 0, otherwise);
    return true;
}

/* What the key of a bucket means that the server has. False: as distrust_explain(). */
static bool distrust_judge_past(struct distrust *distrust, struct distrust_server *server,
                                const struct distrust_sight *sight,
                                const struct distrust_past *past)
{
    const struct distrust_place *place = &distrust->places[past->place];
    const struct distrust_span span = {past->opened_ms, past->until_ms, past->from_ms};

    if (!past->has_key) {
        if (distrust_is_gone(place, server, sight))
            distrust_open(distrust, server, sight, 0, DISTRUST_EMPTIED);
        else
            distrust_widen(server, sight);
        return true;
    }
    if (strcmp(past->life, server->life) == 0) {
        distrust_join(distrust, server, sight, &span);
        return true;
    }
    if (strcmp(past->life, server->before) == 0)
        return true;
    distrust_take_over(distrust, server, sight, span);
    return distrust_explain(distrust, server, sight, past->life, DISTRUST_MOVED);
}

/* Returns how many nobody can explain yet. */
static size_t distrust_judge_pasts(struct distrust *distrust, struct distrust_server *server,
                                   const struct distrust_sight *sight)
{
    size_t unexplained = 0;

    for (size_t i = 0; i < sight->past_count; i++)
        unexplained += !distrust_judge_past(distrust, server, sight, &sight->pasts[i]);
    return unexplained;
}

/* Which of their keys have to be written; notes what we have seen. */
static void distrust_keep_pasts(struct distrust *distrust, const struct distrust_server *server,
                                const struct distrust_sight *sight)
{
    for (size_t i = 0; i < sight->past_count; i++) {
        struct distrust_past *past = &sight->pasts[i];
        struct distrust_place *place = &distrust->places[past->place];
        const bool same = past->has_key && strcmp(past->life, server->life) == 0;

        past->write = !same || past->opened_ms != server->opened_ms || place->renewed_ms == 0 ||
                      place->renewed_ms + RENEW_MS <= sight->now_ms;
        if (same)
            distrust_note_there(place, sight->now_ms);
        memcpy(place->life, server->life, sizeof(place->life));
        place->seen_ms = sight->real_ms;
    }
}

/* ---- a look ---- */

/* What the server's life and our key there mean. False: as distrust_explain(). */
static bool distrust_judge(struct distrust *distrust, struct distrust_server *server,
                           const struct distrust_sight *sight, const char *life,
                           const struct distrust_key *key)
{
    const struct distrust_place *place = &distrust->places[sight->place];
    const struct distrust_span span = {key->opened_ms, key->until_ms, key->from_ms};
    const bool known = strcmp(server->life, life) == 0;

    /* Of two looks of two threads each may be told first. */
    if (known && sight->offset < server->offset && sight->began_ms > server->seen_ms) {
        distrust_open(distrust, server, sight, distrust_newest_ms(key), DISTRUST_BACK);
    } else if (key->life[0] == '\0') {
        if (distrust_is_gone(place, server, sight) || (!known && server->life[0] != '\0'))
            distrust_open(distrust, server, sight, 0, DISTRUST_EMPTIED);
    } else if (strcmp(key->life, life) == 0) {
        const bool split =
            place->marked && strcmp(place->life, life) != 0 && place->seen_ms > key->opened_ms;

        if (!split)
            distrust_join(distrust, server, sight, &span);
        else if (sight->is_one_of)
            /* Or the slot has moved to it. */
            return distrust_explain(distrust, server, sight, place->life, DISTRUST_SPLIT);
        else
            distrust_open(distrust, server, sight,
                          key->from_ms < key->opened_ms ? key->from_ms : key->opened_ms,
                          DISTRUST_SPLIT);
    } else if (!known) {
        distrust_open(distrust, server, sight, distrust_newest_ms(key), DISTRUST_LIFE);
        memcpy(server->before, key->life, sizeof(server->before));
    } else if (sight->is_one_of && strcmp(key->life, server->before) != 0) {
        distrust_take_over(distrust, server, sight, span);
        return distrust_explain(distrust, server, sight, key->life, DISTRUST_MOVED);
    }
    return true;
}

/* After that: whatever its life, something is gone. */
static void distrust_judge_suspect(struct distrust *distrust, struct distrust_server *server,
                                   const struct distrust_sight *sight)
{
    if (server->suspect_ms != 0 && server->opened_ms < server->suspect_ms)
        distrust_open(distrust, server, sight, 0, DISTRUST_LACKS);
    server->suspect_ms = 0;
}

/* Whether all who claim here have what they had in hand claimed again. */
static bool distrust_all_ready(const struct distrust_key *key)
{
    for (size_t i = 0; i < key->count; i++)
        if (!key->roll[i].ready && key->roll[i].stamp_ms + ABSENT_MS > key->opened_ms)
            return false;
    return key->count < ROLL_MAX;
}

/* The roll of now, with us in it. True: it has to be written. */
static bool distrust_call_roll(const struct distrust *distrust,
                               const struct distrust_server *server,
                               const struct distrust_sight *sight, struct distrust_key *key)
{
    const bool same = strcmp(key->life, server->life) == 0 && key->opened_ms == server->opened_ms;
    /* acquire: pairs with the release in distrust_reclaimed() */
    const bool ready =
        !distrust->parts.reclaims ||
        atomic_load_explicit(&distrust->reclaimed, memory_order_acquire) >= server->generation;
    struct distrust_member *self = NULL;
    size_t kept = 0;
    bool due = !same || key->until_ms < server->until_ms || key->from_ms > server->from_ms;

    for (size_t i = 0; i < key->count; i++) {
        struct distrust_member *member = &key->roll[kept];

        *member = key->roll[i];
        if (member->stamp_ms + FORGOTTEN_MS < sight->real_ms)
            continue;
        member->ready = member->ready && same;
        if (member->instance_id == distrust->parts.instance_id)
            self = member;
        kept++;
    }
    if (self == NULL && kept < ROLL_MAX) {
        self = &key->roll[kept++];
        *self = (struct distrust_member){.instance_id = distrust->parts.instance_id};
    }
    key->count = kept;
    key->opened_ms = server->opened_ms;
    key->until_ms = server->until_ms;
    key->from_ms = server->from_ms;
    memcpy(key->life, server->life, sizeof(key->life));
    if (self == NULL)
        return due;
    due = due || self->ready != ready || self->stamp_ms + STAMP_MS <= sight->real_ms;
    if (due)
        self->stamp_ms = sight->real_ms;
    self->ready = ready;
    return due;
}

/* A server that was emptied has lost the roll too, and the key of another bucket has an older one:
 * they get those whom we saw last. */
static void distrust_give_roll(const struct distrust *distrust,
                               const struct distrust_server *server,
                               const struct distrust_sight *sight, struct distrust_key *key)
{
    const size_t count = key->count;

    if (key->life[0] != '\0' && server->place == sight->place)
        return;
    for (size_t i = 0; i < distrust->known_count && key->count < ROLL_MAX; i++) {
        size_t k = 0;

        while (k < count && key->roll[k].instance_id != distrust->known[i].instance_id)
            k++;
        if (k < count)
            continue;
        key->roll[key->count] = distrust->known[i];
        key->roll[key->count++].ready = false;
    }
}

static void distrust_keep_roll(struct distrust *distrust, const struct distrust_key *key)
{
    distrust->known_count = key->count;
    memcpy(distrust->known, key->roll, sizeof(distrust->known));
}

static void distrust_tell(struct distrust *distrust, uint64_t real_ms)
{
    int64_t open = 0;

    for (size_t i = 0; i < SERVERS_MAX && distrust->servers[i].name[0] != '\0'; i++)
        open += real_ms < distrust->servers[i].until_ms;
    METRIC_GAUGE_SET(distrust->parts.metrics, redis_distrust, open);
    if (open > 0 || !distrust->told)
        return;
    distrust->told = false;
    log_info("redis is believed again");
}

static void distrust_tell_window(struct distrust_server *server, const struct distrust_sight *sight,
                                 const struct distrust_key *key, struct distrust_window *window)
{
    *window = (struct distrust_window){.look_ms = sight->now_ms + LOOK_MS,
                                       .from_ms = server->from_ms,
                                       .opened_ms = server->opened_ms,
                                       .opened = server->opened_now};
    server->opened_now = false;
    if (sight->real_ms >= server->until_ms)
        return;
    if (server->free_ms == 0 && sight->now_ms >= server->hold_min_ms &&
        (sight->now_ms >= server->hold_max_ms || distrust_all_ready(key)))
        server->free_ms = sight->now_ms;
    window->state = server->free_ms == 0 ? DISTRUST_HOLD : DISTRUST_ASK;
    window->free_ms = server->free_ms;
    if (window->state == DISTRUST_HOLD)
        window->look_ms = sight->now_ms + LOOK_HOLD_MS;
}

/* ---- public ---- */

struct distrust *distrust_create(const struct distrust_parts *parts)
{
    struct distrust *distrust = calloc(1, sizeof(*distrust));

    if (distrust == NULL)
        return NULL;
    distrust->parts = *parts;
    pthread_mutex_init(&distrust->lock, NULL);
    return distrust;
}

void distrust_destroy(struct distrust *distrust)
{
    if (distrust == NULL)
        return;
    pthread_mutex_destroy(&distrust->lock);
    free(distrust);
}

void distrust_read_past(struct distrust_past *past, size_t place, bool has_key, struct slice key)
{
    struct distrust_key read;

    *past = (struct distrust_past){.place = place};
    if (!has_key || !distrust_read_key(key, &read))
        return;
    past->has_key = true;
    memcpy(past->life, read.life, sizeof(past->life));
    past->opened_ms = read.opened_ms;
    past->until_ms = read.until_ms;
    past->from_ms = read.from_ms;
}

/* The time says how old the data is that has it. */
void distrust_write_past(struct distrust *distrust, const struct distrust_sight *sight,
                         char key[DISTRUST_PAST_MAX])
{
    const struct distrust_server *server;

    pthread_mutex_lock(&distrust->lock);
    server = distrust_server_of(distrust, sight->server);
    snprintf(key, DISTRUST_PAST_MAX,
             VERSION " %s %" PRIu64 " %" PRIu64 " %" PRIu64 " %016" PRIx64 ",%" PRIu64 ",0",
             server->life, server->opened_ms, server->until_ms, server->from_ms,
             distrust->parts.instance_id, sight->real_ms);
    pthread_mutex_unlock(&distrust->lock);
}

bool distrust_see(struct distrust *distrust, const struct distrust_sight *sight,
                  struct distrust_window *window, char key[DISTRUST_KEY_MAX])
{
    struct distrust_place *place = &distrust->places[sight->place];
    struct distrust_server *server;
    struct distrust_key read = {.count = 0};
    char life[DISTRUST_LIFE_MAX];
    size_t unexplained;
    bool due;

    ALLOY_ASSERT(sight->place < DISTRUST_PLACES);
    snprintf(life, sizeof(life), "%s.%s", sight->run_id, sight->replid);
    if (sight->has_key && !distrust_read_key(sight->key, &read))
        read = (struct distrust_key){.count = 0};
    pthread_mutex_lock(&distrust->lock);
    server = distrust_server_of(distrust, sight->server);
    unexplained = !distrust_judge(distrust, server, sight, life, &read);
    distrust_judge_suspect(distrust, server, sight);
    memcpy(server->life, life, sizeof(life));
    server->offset = sight->offset;
    server->seen_ms = sight->now_ms;
    server->began_ms = sight->began_ms;
    unexplained += distrust_judge_pasts(distrust, server, sight);
    distrust_give_roll(distrust, server, sight, &read);
    due = distrust_call_roll(distrust, server, sight, &read);
    distrust_keep_roll(distrust, &read);
    if (unexplained == 0) {
        distrust_keep_pasts(distrust, server, sight);
        memcpy(place->life, life, sizeof(life));
        place->seen_ms = sight->real_ms;
        if (read.life[0] != '\0' && !due)
            distrust_note_there(place, sight->now_ms);
        server->place = sight->place;
    }
    distrust_tell_window(server, sight, &read, window);
    window->unexplained = unexplained;
    distrust_tell(distrust, sight->real_ms);
    pthread_mutex_unlock(&distrust->lock);
    atomic_store_explicit(&distrust->idle_due_ms,
                          sight->now_ms + (window->state == DISTRUST_HOLD ? LOOK_HOLD_MS : IDLE_MS),
                          memory_order_relaxed);
    if (due)
        distrust_write_key(&read, key);
    return due;
}

void distrust_wrote(struct distrust *distrust, size_t place, uint64_t now_ms)
{
    struct distrust_place *of = &distrust->places[place];

    ALLOY_ASSERT(place < DISTRUST_PLACES);
    pthread_mutex_lock(&distrust->lock);
    distrust_note_there(of, now_ms);
    of->renewed_ms = now_ms;
    pthread_mutex_unlock(&distrust->lock);
}

void distrust_log(struct distrust *distrust, size_t log, struct distrust_log *last)
{
    ALLOY_ASSERT(log < DISTRUST_LOGS);
    pthread_mutex_lock(&distrust->lock);
    *last = distrust->logs[log];
    pthread_mutex_unlock(&distrust->lock);
}

void distrust_note_log(struct distrust *distrust, size_t log, const struct distrust_log *last)
{
    pthread_mutex_lock(&distrust->lock);
    distrust->logs[log] = *last;
    pthread_mutex_unlock(&distrust->lock);
}

uint64_t distrust_suspicions(const struct distrust *distrust)
{
    /* acquire: pairs with the release in distrust_suspect() */
    return atomic_load_explicit(&((struct distrust *)distrust)->suspicions, memory_order_acquire);
}

void distrust_suspect(struct distrust *distrust, const char *name, uint64_t since_ms)
{
    struct distrust_server *server;

    pthread_mutex_lock(&distrust->lock);
    server = distrust_server_of(distrust, name);
    if (server->suspect_ms < since_ms)
        server->suspect_ms = since_ms;
    /* release: pairs with the acquire in distrust_suspicions() */
    atomic_fetch_add_explicit(&distrust->suspicions, 1, memory_order_release);
    pthread_mutex_unlock(&distrust->lock);
}

uint64_t distrust_generation(const struct distrust *distrust)
{
    /* acquire: pairs with the release in distrust_enter() */
    return distrust == NULL ? 0
                            : atomic_load_explicit(&((struct distrust *)distrust)->generation,
                                                   memory_order_acquire);
}

void distrust_reclaimed(struct distrust *distrust, uint64_t generation)
{
    /* release: pairs with the acquire in distrust_call_roll() */
    atomic_store_explicit(&distrust->reclaimed, generation, memory_order_release);
}

void distrust_prolong(struct distrust *distrust, uint64_t real_ms)
{
    if (distrust == NULL)
        return;
    pthread_mutex_lock(&distrust->lock);
    for (size_t i = 0; i < SERVERS_MAX && distrust->servers[i].name[0] != '\0'; i++)
        if (real_ms < distrust->servers[i].until_ms &&
            distrust->servers[i].until_ms < real_ms + PROLONGED_MS)
            distrust->servers[i].until_ms = real_ms + PROLONGED_MS;
    pthread_mutex_unlock(&distrust->lock);
}

uint64_t distrust_left_ms(struct distrust *distrust, uint64_t now_ms)
{
    uint64_t due_ms;

    if (distrust == NULL || distrust_length_ms(distrust) == 0)
        return UINT64_MAX;
    /* relaxed, as below: only one thread shall look, and nothing else depends on it */
    due_ms = atomic_load_explicit(&distrust->idle_due_ms, memory_order_relaxed);
    return due_ms > now_ms ? due_ms - now_ms : 0;
}

bool distrust_turn(struct distrust *distrust, uint64_t now_ms)
{
    uint64_t due_ms;

    if (distrust_left_ms(distrust, now_ms) > 0)
        return false;
    due_ms = atomic_load_explicit(&distrust->idle_due_ms, memory_order_relaxed);
    return atomic_compare_exchange_strong_explicit(&distrust->idle_due_ms, &due_ms,
                                                   now_ms + IDLE_MS, memory_order_relaxed,
                                                   memory_order_relaxed);
}
