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
 * In a cluster a key is of a bucket, and comes to another server with its slot. A server that we
 * have known in its present life has lost nothing then.
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
#define LIFE_MAX (2 * DISTRUST_ID_MAX)
#define ROLL_MAX 64

#define LOOK_MS 250     /* between two looks of one connection */
#define LOOK_HOLD_MS 50 /* while we wait for others */
#define IDLE_MS 500     /* without traffic, of the process */
#define STAMP_MS 1000   /* between two writes that only renew our time */
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
};

static const char *const distrust_reasons[] = {
    [DISTRUST_LIFE] = "it answers for a server that failed or was started again",
    [DISTRUST_EMPTIED] = "its data is gone",
    [DISTRUST_BACK] = "its data is older than what it had before",
    [DISTRUST_LACKS] = "its log of packed claims went back",
    [DISTRUST_SPLIT] = "ids were claimed at another master after it had taken over",
};

struct distrust_member {
    uint64_t instance_id;
    uint64_t stamp_ms; /* real time */
    bool ready;        /* has claimed again what it had in hand */
};

/* The value of a key. */
struct distrust_key {
    char life[LIFE_MAX];
    uint64_t opened_ms; /* real time, as the next; 0: never */
    uint64_t until_ms;
    uint64_t from_ms;
    size_t count;
    struct distrust_member roll[ROLL_MAX];
};

struct distrust_server {
    char name[NAME_MAX_BYTES]; /* "": free */
    char life[LIFE_MAX];
    uint64_t offset;
    uint64_t seen_ms;
    uint64_t opened_ms; /* real time, as the next; 0: there was no window */
    uint64_t until_ms;
    uint64_t from_ms;
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
    bool marked;        /* some server has had it */
    uint64_t marked_ms; /* monotonic: since when we know that */
    char life[LIFE_MAX];
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
    server->hold_min_ms = sight->now_ms + (age_ms < HOLD_MIN_MS ? HOLD_MIN_MS - age_ms : 0);
    server->hold_max_ms = sight->now_ms + (age_ms < HOLD_MAX_MS ? HOLD_MAX_MS - age_ms : 0);
    server->free_ms = 0;
    if (sight->real_ms >= span->until_ms)
        return;
    server->generation = distrust->generation + 1;
    /* release: pairs with the acquire in distrust_generation() */
    atomic_store_explicit(&distrust->generation, server->generation, memory_order_release);
}

static void distrust_open(struct distrust *distrust, struct distrust_server *server,
                          const struct distrust_sight *sight, uint64_t from_ms,
                          enum distrust_reason reason)
{
    if (sight->real_ms < server->until_ms && server->from_ms < from_ms)
        from_ms = server->from_ms;
    distrust_enter(distrust, server, sight,
                   &(struct distrust_span){sight->real_ms,
                                           sight->real_ms + distrust_length_ms(distrust), from_ms});
    server->opened_now = true;
    log_warn("redis may have forgotten claims server=%s reason=\"%s\" lost_ms=%" PRIu64
             " distrust_ms=%" PRIu64 " action=look_in_clickhouse",
             server->name, distrust_reasons[reason],
             from_ms == 0 || from_ms > sight->real_ms ? 0 : sight->real_ms - from_ms,
             distrust_length_ms(distrust));
    distrust->told = true;
}

/* Another alloyd has opened a window, in this life of the server. */
static void distrust_join(struct distrust *distrust, struct distrust_server *server,
                          const struct distrust_sight *sight, const struct distrust_key *key)
{
    if (key->until_ms > server->until_ms && key->opened_ms == server->opened_ms)
        server->until_ms = key->until_ms;
    if (key->opened_ms <= server->opened_ms)
        return;
    distrust_enter(distrust, server, sight,
                   &(struct distrust_span){key->opened_ms, key->until_ms, key->from_ms});
    if (sight->real_ms >= key->until_ms)
        return;
    log_info("redis may have forgotten claims, says another alloyd server=%s", server->name);
    distrust->told = true;
}

/* What the server's life and our key there mean. */
static void distrust_judge(struct distrust *distrust, struct distrust_server *server,
                           const struct distrust_sight *sight, const char *life,
                           const struct distrust_key *key)
{
    const struct distrust_place *place = &distrust->places[sight->place];
    const bool known = strcmp(server->life, life) == 0;

    /* Of two looks of two threads each may be told first. */
    if (known && sight->offset < server->offset && sight->began_ms > server->seen_ms) {
        distrust_open(distrust, server, sight, distrust_newest_ms(key), DISTRUST_BACK);
    } else if (key->life[0] == '\0') {
        if ((place->marked && sight->began_ms > place->marked_ms) ||
            (!known && server->life[0] != '\0'))
            distrust_open(distrust, server, sight, 0, DISTRUST_EMPTIED);
    } else if (strcmp(key->life, life) == 0) {
        if (place->marked && strcmp(place->life, life) != 0 && place->seen_ms > key->opened_ms)
            distrust_open(distrust, server, sight,
                          key->from_ms < key->opened_ms ? key->from_ms : key->opened_ms,
                          DISTRUST_SPLIT);
        else
            distrust_join(distrust, server, sight, key);
    } else if (!known) {
        distrust_open(distrust, server, sight, distrust_newest_ms(key), DISTRUST_LIFE);
    }
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
    bool due = !same || key->until_ms < server->until_ms;

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

/* A server that was emptied has lost the roll too: it gets the one that we saw last. */
static void distrust_give_roll(const struct distrust *distrust, struct distrust_key *key)
{
    if (key->life[0] != '\0')
        return;
    key->count = distrust->known_count;
    memcpy(key->roll, distrust->known, sizeof(key->roll));
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

bool distrust_see(struct distrust *distrust, const struct distrust_sight *sight,
                  struct distrust_window *window, char key[DISTRUST_KEY_MAX])
{
    struct distrust_place *place = &distrust->places[sight->place];
    struct distrust_server *server;
    struct distrust_key read = {.count = 0};
    char life[LIFE_MAX];
    bool due;

    ALLOY_ASSERT(sight->place < DISTRUST_PLACES);
    snprintf(life, sizeof(life), "%s.%s", sight->run_id, sight->replid);
    if (sight->has_key && !distrust_read_key(sight->key, &read))
        read = (struct distrust_key){.count = 0};
    pthread_mutex_lock(&distrust->lock);
    server = distrust_server_of(distrust, sight->server);
    distrust_judge(distrust, server, sight, life, &read);
    distrust_judge_suspect(distrust, server, sight);
    memcpy(server->life, life, sizeof(life));
    server->offset = sight->offset;
    server->seen_ms = sight->now_ms;
    distrust_give_roll(distrust, &read);
    due = distrust_call_roll(distrust, server, sight, &read);
    distrust_keep_roll(distrust, &read);
    memcpy(place->life, life, sizeof(life));
    place->seen_ms = sight->real_ms;
    distrust_tell_window(server, sight, &read, window);
    distrust_tell(distrust, sight->real_ms);
    pthread_mutex_unlock(&distrust->lock);
    atomic_store_explicit(&distrust->idle_due_ms,
                          sight->now_ms + (window->state == DISTRUST_HOLD ? LOOK_HOLD_MS : IDLE_MS),
                          memory_order_relaxed);
    if (due)
        distrust_write_key(&read, key);
    return due;
}

void distrust_wrote(struct distrust *distrust, const struct distrust_sight *sight, uint64_t now_ms)
{
    pthread_mutex_lock(&distrust->lock);
    if (!distrust->places[sight->place].marked)
        distrust->places[sight->place].marked_ms = now_ms;
    distrust->places[sight->place].marked = true;
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
