/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark.c - says in Redis which table is behind a stream's claims.
 *
 * The mark is the key <key_prefix>#table:<stream>; its value names the table. A stream's name has
 * no '#', so no claim has such a key. An alloyd that finds no mark sets it (SET NX: of two that
 * begin together one wins); one that finds its own table renews it; one that finds another table
 * claims nothing.
 *
 * The mark outlives every claim that was taken under it: we renew it for the stream's ttl and
 * MARGIN_S more, and take claims for at most LEASE_MS after the look that renewed it. So a
 * deployment that comes later finds the mark as long as a claim could make its events duplicates;
 * once mark and claims are gone, the keys are free.
 *
 * A table that is dropped and made again has a new identity, but belongs to the same deployment. An
 * alloyd that learns of this while it runs replaces the mark, if the mark still names the old
 * table; the other alloyd of the deployment will learn of it too, and until then find a mark that
 * they do not know. An alloyd that learns a new identity at its start may instead have been
 * configured for another deployment. So each alloyd keeps a second key,
 * <key_prefix>#member:<stream>:<instance id>, with the table whose mark it held last, and replaces
 * a mark that names this table once nobody has renewed it for STALE_MS. For that, each renewal
 * changes a stamp behind the table's name.
 *
 * While ClickHouse is away at a start, the table is not known. If there is no mark yet, alloyd then
 * sets one that names itself, and replaces it when it learns the table. If there is one, it waits;
 * others wait before such a mark in the same way, as long as it is renewed. But where the first
 * shard alone is away, and another one has the table that it had, it goes on under the mark that
 * this instance has held (mark_shards.h).
 *
 * In a cluster the stream's name is in braces in both keys, so that one node has them. While that
 * node alone is away nobody else can take the mark, and we go on with what we hold, at the other
 * nodes.
 *
 * We replace and renew with plain SETs after the look: only members of one deployment do either to
 * one mark, and in whatever order they come, the last one that learns of a new table wins.
 *
 * Runs on: a thread of its own; marks_tell() and marks_ask() on any other.
 * Owns: the connections, and what we know of each stream.
 */
#include "alloy/mark.h"

#include "alloy/backoff.h"
#include "alloy/clock.h"
#define LOG_MODULE "mark"
#include "alloy/log.h"
#include "alloy/pulse.h"
#include "mark_look.h"
#include "mark_text.h"
#include "redis_nodes.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LEASE_MS 30000
#define MARGIN_S 120
#define LOOK_MS 5000         /* between two looks at a mark that we hold */
#define LOOK_FOREIGN_MS 2000 /* ... at a mark of another table */
#define RETRY_MIN_MS 100     /* while Redis does not answer */
#define RETRY_MAX_MS 2000
#define STALE_MS 12000           /* a mark that is in use is renewed twice in this time */
#define OWN_IDENTITY "instance-" /* followed by the instance id: the table is not known yet */
#define LOST_MAX 3               /* SETs that found a key which MGET does not: it is not a string */
#define SHOWN_MAX 64             /* bytes of an identity in /readyz; the log has all of it */
#define NAME_SHOWN_MAX 40
#define NAME_STORED_MAX 200 /* leaves room for the stamp */
#define COMMAND_SLACK 256
#define NAME_TAGGED_MAX (CONFIG_STREAM_NAME_MAX + 3)

#define LITERAL(text) (text), (sizeof(text) - 1)

/*
 *              told                 ours
 *   UNTOLD ----------> UNSEEN -----------------> HELD
 *      | told ""       ^  |  \ ^                 | ^
 *      v               |  |   \ \ told anew      | |
 *   UNCHECKED <--------|--+    v \               v |
 *      ^     no right  |      FOREIGN <------------+
 *      +---------------+--------------------------/ (HELD, no right)
 *
 * A look can move UNCHECKED to HELD or FOREIGN, once we have an identity and the right to look, and
 * UNTOLD to HELD, by a mark that names the instance. HELD counts until its lease ends.
 */
enum mark_state {
    MARK_UNTOLD,    /* the table is not known yet */
    MARK_UNCHECKED, /* we may not read the table or the mark: go on without the check */
    MARK_UNSEEN,    /* the table is known, but we have not asked Redis since */
    MARK_HELD,      /* the mark names this table */
    MARK_FOREIGN,   /* it names another */
    MARK_STATES,
};

static const bool mark_moves[MARK_STATES][MARK_STATES] = {
    [MARK_UNTOLD] = {[MARK_UNCHECKED] = true, [MARK_UNSEEN] = true, [MARK_HELD] = true},
    [MARK_UNCHECKED] = {[MARK_UNSEEN] = true, [MARK_HELD] = true, [MARK_FOREIGN] = true},
    [MARK_UNSEEN] = {[MARK_UNCHECKED] = true, [MARK_HELD] = true, [MARK_FOREIGN] = true},
    [MARK_HELD] = {[MARK_UNCHECKED] = true, [MARK_UNSEEN] = true, [MARK_FOREIGN] = true},
    [MARK_FOREIGN] = {[MARK_UNSEEN] = true, [MARK_HELD] = true},
};

/* What we ask Redis about a stream. */
enum mark_question {
    MARK_LOOK,
    MARK_SET,
    MARK_SET_MEMBER,
    MARK_PING,
};

struct mark_stream {
    /* written under the lock, read by any thread */
    _Atomic(enum mark_state) state;
    _Atomic uint64_t lease_ms; /* when HELD ends, by clock_mono_ms() */
    /* under the lock */
    char identity[MARK_IDENTITY_MAX + 1]; /* "": not known */
    char foreign[MARK_IDENTITY_MAX + 1];  /* FOREIGN: the table whose keys they are */
    char foreign_name[MARK_IDENTITY_MAX + 1];
    bool told;                 /* logged that we go on without the check */
    bool own;                  /* identity names the instance: the table is not known */
    struct mark_shards shards; /* the tables that were told */
    uint64_t passing_since_ms; /* since when we wait before a mark of an alloyd that does not know
                                  its table; 0: not */
    /* thread only */
    struct mark_look look;
    unsigned lost;                    /* looks in a row that ended with look.lost */
    uint64_t ttl_s;                   /* the longest ttl of a claim in this life */
    char held[MARK_IDENTITY_MAX + 1]; /* the table whose mark we have held in this life */
    char stamp[MARK_STAMP_MAX + 1];   /* the mark's stamp, as last seen */
    uint64_t stamp_since_ms;          /* when we first saw this stamp */
};

struct marks {
    struct marks_parts parts; /* constant, like the next */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under the lock */
    bool stop;
    bool news; /* marks_tell() has news */
    /* thread only */
    size_t stream_count;       /* of the present look */
    struct redis_nodes *nodes; /* of redis.url as it was when it was made: */
    const char *url;
    struct backoff backoff;
    struct redis_link *link;     /* the one that a command is built for */
    struct mark_stream *reading; /* the stream that we ask about */
    enum mark_question question;
    struct mark_stream streams[];
};

static const struct slice nothing = {"", 0};

static const struct config_stream *mark_config_of(const struct marks *marks,
                                                  const struct mark_stream *stream)
{
    return &config_current(marks->parts.config)->streams[stream - marks->streams];
}

/* ---- states ---- */

static enum mark_state mark_state_of(const struct mark_stream *stream)
{
    /* acquire: pairs with the release in mark_move(); the lease is then visible */
    return atomic_load_explicit(&stream->state, memory_order_acquire);
}

/* Under the lock. */
static void mark_move(struct mark_stream *stream, enum mark_state next)
{
    const enum mark_state now = mark_state_of(stream);

    if (now == next)
        return;
    ALLOY_ASSERT(mark_moves[now][next]);
    ALLOY_ASSERT(next == MARK_UNCHECKED || stream->identity[0] != '\0');
    /* release: pairs with the acquire in mark_state_of() */
    atomic_store_explicit(&stream->state, next, memory_order_release);
}

/* Under the lock. */
static void mark_go_unchecked(struct marks *marks, struct mark_stream *stream, const char *reason)
{
    mark_move(stream, MARK_UNCHECKED);
    if (!stream->told)
        log_warn(
            "claims are taken without a check whose table they belong to stream=%s reason=\"%s\"",
            mark_config_of(marks, stream)->name, reason);
    stream->told = true;
}

/* The stream's name as it is in keys: in a cluster it decides the slot. */
static const char *mark_name_in_key(const struct marks *marks, const struct mark_stream *stream,
                                    char out[NAME_TAGGED_MAX])
{
    const char *name = mark_config_of(marks, stream)->name;

    snprintf(out, NAME_TAGGED_MAX, redis_nodes_is_cluster(marks->nodes) ? "{%s}" : "%s", name);
    return out;
}

/* Under the lock. */
static void mark_tell_foreign(struct marks *marks, const struct mark_stream *stream, size_t others)
{
    const char *prefix = config_current(marks->parts.config)->redis_key_prefix;
    const struct config_stream *of = mark_config_of(marks, stream);
    const char *name = of->name;
    char more[64] = "", tagged[NAME_TAGGED_MAX];

    if (others > 0)
        snprintf(more, sizeof(more), " (and %zu other streams)", others);
    health_raise(
        marks->parts.health, "redis.foreign", true,
        "stream %s%s: the keys in Redis belong to table%.*s (%.*s), and this alloyd inserts "
        "into %.*s (%.*s): set redis.key_prefix = %s%08x: here; or, if that table is gone for "
        "good, delete the key %s#table:%s. Until then events are kept",
        name, more, NAME_SHOWN_MAX, stream->foreign_name, SHOWN_MAX, stream->foreign,
        2 * NAME_SHOWN_MAX, of->table_text, SHOWN_MAX, stream->identity, prefix,
        mark_text_number(stream->identity), prefix, mark_name_in_key(marks, stream, tagged));
}

/* Under the lock. The alloyd that has set the mark should soon know its table, but does not. */
static void mark_tell_passing(struct marks *marks, const struct mark_stream *stream)
{
    const char *prefix = config_current(marks->parts.config)->redis_key_prefix;
    const char *name = mark_config_of(marks, stream)->name;
    char tagged[NAME_TAGGED_MAX];

    health_raise(
        marks->parts.health, "redis.foreign", true,
        "stream %s: the keys in Redis are held by %.*s, which does not know its table yet, "
        "as ClickHouse has not told it: see its log, or stop it, or delete the key "
        "%s#table:%s. Until then events are kept",
        name, SHOWN_MAX, stream->look.mark, prefix, mark_name_in_key(marks, stream, tagged));
}

/* Under the lock. */
static void mark_tell_health(struct marks *marks, uint64_t now_ms)
{
    const struct mark_stream *first = NULL, *passing = NULL;
    size_t foreign = 0;

    for (size_t i = 0; i < marks->stream_count; i++) {
        struct mark_stream *stream = &marks->streams[i];

        if (stream->passing_since_ms != 0 && now_ms - stream->passing_since_ms >= STALE_MS)
            passing = stream;
        if (mark_state_of(stream) != MARK_FOREIGN)
            continue;
        if (foreign++ == 0)
            first = stream;
    }
    if (first != NULL)
        mark_tell_foreign(marks, first, foreign - 1);
    else if (passing != NULL)
        mark_tell_passing(marks, passing);
    else
        health_clear(marks->parts.health, "redis.foreign");
}

/* ---- commands ---- */

static void mark_put_key(struct marks *marks, const struct mark_stream *stream, bool member)
{
    const char *prefix = config_current(marks->parts.config)->redis_key_prefix;
    char tagged[NAME_TAGGED_MAX];
    const char *name = mark_name_in_key(marks, stream, tagged);
    char rest[CONFIG_STREAM_NAME_MAX + 64];

    if (member)
        snprintf(rest, sizeof(rest), "#member:%s:%016llx", name,
                 (unsigned long long)marks->parts.instance_id);
    else
        snprintf(rest, sizeof(rest), "#table:%s", name);
    redis_link_put_bulk(marks->link, (struct slice){prefix, strlen(prefix)},
                        (struct slice){rest, strlen(rest)});
}

static void mark_put_look(struct marks *marks, const struct mark_stream *stream)
{
    redis_link_put(marks->link, LITERAL("*3\r\n$4\r\nMGET\r\n"));
    mark_put_key(marks, stream, false);
    mark_put_key(marks, stream, true);
}

/* The table's name, for people, as one word: words are what a mark is made of. */
static const char *mark_name(const struct config_stream *of, char out[NAME_STORED_MAX + 1])
{
    snprintf(out, NAME_STORED_MAX + 1, "%s", of->table_text);
    for (char *at = out; (at = strchr(at, ' ')) != NULL;)
        *at = '_';
    return out;
}

static void mark_put_set(struct marks *marks, const struct mark_stream *stream, bool member)
{
    const bool fresh = !member && stream->look.mark[0] == '\0';
    const char *identity = stream->look.identity;
    const struct config_stream *of = mark_config_of(marks, stream);
    char ttl[24], name[NAME_STORED_MAX + 1], stamp[MARK_SHARDS_TEXT_MAX] = "";

    snprintf(ttl, sizeof(ttl), "%llu", (unsigned long long)(stream->ttl_s + MARGIN_S));
    redis_link_put_array(marks->link, fresh ? 6 : 5);
    redis_link_put(marks->link, LITERAL("$3\r\nSET\r\n"));
    mark_put_key(marks, stream, member);
    if (!member)
        snprintf(stamp, sizeof(stamp), " %s %016llx.%llx", mark_name(of, name),
                 (unsigned long long)marks->parts.instance_id, (unsigned long long)clock_mono_ns());
    else
        mark_shards_write(&stream->look.now, &stream->look.before, identity, stamp);
    redis_link_put_bulk(marks->link, (struct slice){identity, strlen(identity)},
                        (struct slice){stamp, strlen(stamp)});
    redis_link_put(marks->link, LITERAL("$2\r\nEX\r\n"));
    redis_link_put_bulk(marks->link, (struct slice){ttl, strlen(ttl)}, nothing);
    if (fresh)
        redis_link_put(marks->link, LITERAL("$2\r\nNX\r\n"));
}

/* ---- replies ---- */

static bool mark_on_element(void *arg, const struct redis_link_element *element)
{
    struct marks *marks = arg;
    struct mark_look *look = &marks->reading->look;

    if (element->type == REDIS_LINK_ERROR && marks->question == MARK_PING)
        return true;
    if (element->type == REDIS_LINK_ERROR) {
        look->answered = false;
        look->refused |= redis_link_is_code(element->text, "NOPERM");
        return true;
    }
    if (marks->question == MARK_LOOK)
        return mark_look_on_element(look, element);
    if (element->type == REDIS_LINK_NIL && marks->question == MARK_SET)
        look->lost = true;
    return element->root && (element->type == REDIS_LINK_STATUS || element->type == REDIS_LINK_NIL);
}

/* ---- a look ---- */

/* Copies the identities to ask with. False: there are none. */
static bool mark_begin_look(struct marks *marks)
{
    bool any = false;

    pthread_mutex_lock(&marks->lock);
    marks->stream_count = config_current(marks->parts.config)->stream_count;
    marks->news = false;
    for (size_t i = 0; i < marks->stream_count; i++) {
        struct mark_stream *stream = &marks->streams[i];
        const uint64_t ttl_s =
            (config_claim_ms(config_current(marks->parts.config), i) + 999) / 1000;

        stream->look = (struct mark_look){.asked = stream->identity[0] != '\0', .own = stream->own};
        memcpy(stream->look.identity, stream->identity, sizeof(stream->identity));
        stream->look.now = stream->shards;
        if (stream->ttl_s < ttl_s)
            stream->ttl_s = ttl_s;
        any |= stream->look.asked;
    }
    pthread_mutex_unlock(&marks->lock);
    return any;
}

static void mark_put(void *arg, struct redis_link *link)
{
    struct marks *marks = arg;

    marks->link = link;
    switch (marks->question) {
    case MARK_LOOK:
        mark_put_look(marks, marks->reading);
        break;
    case MARK_SET:
    case MARK_SET_MEMBER:
        mark_put_set(marks, marks->reading, marks->question == MARK_SET_MEMBER);
        break;
    case MARK_PING:
        redis_link_put(link, LITERAL("*1\r\n$4\r\nPING\r\n"));
        break;
    }
}

/* Asks about one stream, and reads the answer. Returns 0 or -errno. */
static int mark_ask(struct marks *marks, struct mark_stream *stream, enum mark_question question)
{
    const char *name = mark_config_of(marks, stream)->name;
    bool refused; /* the element says so too */

    marks->reading = stream;
    marks->question = question;
    return redis_nodes_ask(
        marks->nodes,
        &(struct redis_nodes_question){
            .slot = question == MARK_PING
                        ? REDIS_SLOT_ANY
                        : redis_slots_crc16((struct slice){name, strlen(name)}) % REDIS_SLOTS,
            .node = REDIS_NODE_NONE,
            .put = mark_put,
            .arg = marks,
            .timeout_ns = config_current(marks->parts.config)->redis_timeout_ms * CLOCK_NS_PER_MS},
        &refused);
}

/* True when the mark has not been renewed for long. */
static bool mark_is_stale(struct mark_stream *stream, uint64_t now_ms)
{
    const struct mark_look *look = &stream->look;

    if (strcmp(stream->stamp, look->stamp) != 0 || stream->stamp_since_ms == 0) {
        memcpy(stream->stamp, look->stamp, sizeof(stream->stamp));
        stream->stamp_since_ms = now_ms;
    }
    /* As a sum: a look may have begun before this stamp was seen, and a difference would be
     * negative. */
    return now_ms >= stream->stamp_since_ms + STALE_MS;
}

/* An alloyd that does not know its table yet has set the mark, and still renews it. */
static bool mark_is_passing(struct mark_stream *stream, uint64_t now_ms)
{
    return strncmp(stream->look.mark, LITERAL(OWN_IDENTITY)) == 0 && !mark_is_stale(stream, now_ms);
}

/* Whether the mark names this table, no table, or the table that this one has replaced. While we do
 * not know our table nothing shows that it is another one. */
static bool mark_is_for_us(struct mark_stream *stream, uint64_t now_ms)
{
    const struct mark_look *look = &stream->look;
    const bool stale = mark_is_stale(stream, now_ms) && !look->own;

    return look->mark[0] == '\0' || strcmp(look->mark, look->identity) == 0 ||
           strcmp(look->mark, stream->held) == 0 ||
           (stale && strcmp(look->mark, look->member) == 0);
}

static size_t mark_out_capacity(const struct config *config)
{
    const size_t command = strlen(config->redis_key_prefix) + CONFIG_STREAM_NAME_MAX +
                           MARK_IDENTITY_MAX + MARK_SHARDS_TEXT_MAX + COMMAND_SLACK;

    return 2 * CONFIG_STREAMS_MAX * command + strlen(config->redis_url) + COMMAND_SLACK;
}

/* Makes the links, or others when a reload has changed redis.url. Returns 0 or -ENOMEM. */
static int mark_follow(struct marks *marks)
{
    const struct config *config = config_current(marks->parts.config);
    struct redis_nodes *nodes;

    if (marks->nodes != NULL && strcmp(config->redis_url, marks->url) == 0)
        return 0;
    nodes =
        redis_nodes_create(config->redis_url, mark_out_capacity(config), mark_on_element, marks);
    if (nodes == NULL)
        return -ENOMEM;
    redis_nodes_destroy(marks->nodes);
    marks->nodes = nodes;
    marks->url = config->redis_url;
    return 0;
}

/* Looks at one mark, and sets it if it needs that. Returns 0 or -errno. */
static int mark_look_at(struct marks *marks, struct mark_stream *stream)
{
    struct mark_look *look = &stream->look;
    int err = mark_ask(marks, stream, MARK_LOOK);

    if (err != 0)
        return err;
    look->believed = look->answered && look->own && mark_look_is_as_before(look);
    if (look->believed)
        memcpy(look->identity, look->mark, sizeof(look->identity));
    look->writing = look->answered && mark_is_for_us(stream, clock_mono_ms());
    if (!look->writing)
        return 0;
    err = mark_ask(marks, stream, MARK_SET);
    if (err == 0)
        err = mark_ask(marks, stream, MARK_SET_MEMBER);
    if (err != 0)
        look->answered = false;
    return err;
}

/* Looks at all marks. Returns 0 or -errno. In a cluster one that has no answer is 0: the others may
 * have theirs. */
static int mark_look_at_all(struct marks *marks)
{
    int err = mark_follow(marks);

    for (size_t i = 0; err == 0 && i < marks->stream_count; i++) {
        struct mark_stream *stream = &marks->streams[i];

        if (!stream->look.asked)
            continue;
        err = mark_look_at(marks, stream);
        if (err != 0 && redis_nodes_is_cluster(marks->nodes)) {
            stream->look.answered = false;
            stream->look.away = mark_ask(marks, stream, MARK_PING) == 0;
            err = 0;
        }
    }
    return err;
}

/* Under the lock. Acts on what the look has found for one stream. False: look again soon. */
static bool mark_conclude(struct marks *marks, struct mark_stream *stream, uint64_t began_ms)
{
    const struct mark_look *look = &stream->look;
    const enum mark_state before = mark_state_of(stream);

    if (look->writing && look->answered && !look->lost && !look->believed)
        memcpy(stream->held, look->identity, sizeof(stream->held));
    /* The identity has changed in between. */
    if (!look->asked ||
        (look->believed ? !stream->own : strcmp(look->identity, stream->identity) != 0))
        return true;
    stream->lost = look->lost ? stream->lost + 1 : 0;
    if (look->refused || stream->lost >= LOST_MAX) {
        if (before != MARK_FOREIGN && !stream->own)
            mark_go_unchecked(marks, stream,
                              look->refused ? "no right to the mark in Redis"
                                            : "the key of the mark holds something else");
        return true;
    }
    if (look->away && before == MARK_HELD)
        atomic_store_explicit(&stream->lease_ms, began_ms + LEASE_MS, memory_order_relaxed);
    if (!look->answered || look->lost)
        return false;
    if (look->writing) {
        atomic_store_explicit(&stream->lease_ms, began_ms + LEASE_MS, memory_order_relaxed);
        mark_move(stream, MARK_HELD);
        stream->passing_since_ms = 0;
        if (before == MARK_FOREIGN)
            log_info("keys now belong to this table stream=%s",
                     mark_config_of(marks, stream)->name);
        return true;
    }
    /* We cannot call a mark another table's before we know our own. */
    if (before == MARK_UNTOLD)
        return true;
    if (mark_is_passing(stream, began_ms)) {
        if (stream->passing_since_ms == 0)
            stream->passing_since_ms = began_ms;
        return stream->own;
    }
    stream->passing_since_ms = 0;
    if (stream->own) {
        mark_move(stream, MARK_UNSEEN);
        return true;
    }
    memcpy(stream->foreign, look->mark, sizeof(stream->foreign));
    memcpy(stream->foreign_name, look->name, sizeof(stream->foreign_name));
    mark_move(stream, MARK_FOREIGN);
    if (before != MARK_FOREIGN)
        log_error("keys in redis belong to another table stream=%s theirs=\"%s%s\" ours=\"%s\" "
                  "action=\"keep the events and claim nothing\"",
                  mark_config_of(marks, stream)->name, stream->foreign, stream->foreign_name,
                  stream->identity);
    return true;
}

/* Acts on what a look has found. Returns how long to wait before the next one. */
static uint64_t mark_finish_look(struct marks *marks, int err, uint64_t began_ms)
{
    uint64_t wait_ms = LOOK_MS;
    bool settled = err == 0, wake = false;

    pthread_mutex_lock(&marks->lock);
    for (size_t i = 0; err == 0 && i < marks->stream_count; i++) {
        struct mark_stream *stream = &marks->streams[i];
        const enum mark_state before = mark_state_of(stream);

        settled = mark_conclude(marks, stream, began_ms) && settled;
        wake |= mark_state_of(stream) != before;
        if (mark_state_of(stream) == MARK_FOREIGN)
            wait_ms = LOOK_FOREIGN_MS;
    }
    mark_tell_health(marks, began_ms);
    pthread_mutex_unlock(&marks->lock);
    if (wake)
        ring_wake(marks->parts.ring);
    if (settled) {
        backoff_reset(&marks->backoff);
        return wait_ms;
    }
    return backoff_next(&marks->backoff, RETRY_MIN_MS, RETRY_MAX_MS, clock_mono_ns());
}

/* Sleeps until marks_tell() has news, or wait_ms are over. False: the thread must end. */
static bool mark_sleep(struct marks *marks, uint64_t wait_ms)
{
    const uint64_t end_ms = clock_mono_ms() + wait_ms;
    uint64_t now_ms;
    bool go_on;

    pthread_mutex_lock(&marks->lock);
    while (!marks->stop && !marks->news && (now_ms = clock_mono_ms()) < end_ms) {
        const uint64_t next_ms = now_ms + PULSE_SLEEP_MAX_MS;
        const uint64_t until_ms = next_ms < end_ms ? next_ms : end_ms;
        const struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                                       .tv_nsec = (long)(until_ms % 1000 * CLOCK_NS_PER_MS)};
        pthread_cond_timedwait(&marks->wake, &marks->lock, &until);
        pulse_beat(0);
    }
    go_on = !marks->stop;
    pthread_mutex_unlock(&marks->lock);
    return go_on;
}

static void *mark_run(void *arg)
{
    struct marks *marks = arg;
    uint64_t wait_ms;

    pulse_join("marks");
    do {
        const uint64_t began_ms = clock_mono_ms();

        wait_ms = LOOK_MS;
        if (mark_begin_look(marks)) {
            const int err = mark_look_at_all(marks);

            wait_ms = mark_finish_look(marks, err, began_ms);
        }
    } while (mark_sleep(marks, wait_ms));
    pulse_leave();
    return NULL;
}

/* ---- public ---- */

static void mark_free(struct marks *marks)
{
    redis_nodes_destroy(marks->nodes);
    pthread_cond_destroy(&marks->wake);
    pthread_mutex_destroy(&marks->lock);
    free(marks);
}

int marks_start(struct marks **out, const struct marks_parts *parts)
{
    const struct config *config = config_current(parts->config);
    struct marks *marks =
        calloc(1, sizeof(*marks) + CONFIG_STREAMS_MAX * sizeof(marks->streams[0]));
    pthread_condattr_t attributes;
    int err;

    if (marks == NULL)
        return -ENOMEM;
    marks->parts = *parts;
    marks->stream_count = config->stream_count;
    for (size_t i = 0; i < CONFIG_STREAMS_MAX; i++) {
        marks->streams[i].own = true;
        snprintf(marks->streams[i].identity, sizeof(marks->streams[i].identity),
                 OWN_IDENTITY "%016llx", (unsigned long long)parts->instance_id);
        /* An earlier life may have set a mark that names the instance. */
        memcpy(marks->streams[i].held, marks->streams[i].identity, sizeof(marks->streams[i].held));
    }
    pthread_mutex_init(&marks->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&marks->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    err = mark_follow(marks);
    if (err == 0)
        err = -pthread_create(&marks->thread, NULL, mark_run, marks);
    if (err != 0) {
        mark_free(marks);
        return err;
    }
    pthread_setname_np(marks->thread, "alloy-marks");
    *out = marks;
    return 0;
}

void marks_stop(struct marks *marks)
{
    if (marks == NULL)
        return;
    pthread_mutex_lock(&marks->lock);
    marks->stop = true;
    pthread_cond_signal(&marks->wake);
    pthread_mutex_unlock(&marks->lock);
    pthread_join(marks->thread, NULL);
    mark_free(marks);
}

void marks_reload(struct marks *marks)
{
    if (marks == NULL)
        return;
    pthread_mutex_lock(&marks->lock);
    marks->news = true;
    pthread_cond_signal(&marks->wake);
    pthread_mutex_unlock(&marks->lock);
}

void marks_tell(struct marks *marks, size_t number, size_t shard, const char *identity)
{
    struct mark_stream *stream;
    char text[MARK_IDENTITY_MAX + 1];

    if (marks == NULL)
        return;
    ALLOY_ASSERT(number < CONFIG_STREAMS_MAX && shard < CLICKHOUSE_SHARDS_MAX);
    stream = &marks->streams[number];
    mark_text_copy(text, (struct slice){identity, strlen(identity)});
    /* Tables of some databases all have the same UUID of zeros: it identifies nothing. */
    if (text[strspn(text, "0-")] == '\0')
        text[0] = '\0';
    pthread_mutex_lock(&marks->lock);
    if (mark_shards_note(&stream->shards,
                         mark_shards_list(config_current(marks->parts.config), number), shard, text,
                         clock_mono_ms())) {
        marks->news = true;
        pthread_cond_signal(&marks->wake);
    }
    if (shard > 0) {
        pthread_mutex_unlock(&marks->lock);
        return;
    }
    /* If we knew the table and may not ask any more, we go on with what we knew. */
    if (text[0] == '\0' && stream->own) {
        stream->own = false;
        stream->identity[0] = '\0';
        mark_go_unchecked(marks, stream, "ClickHouse does not say which table it is");
        ring_wake(marks->parts.ring);
    } else if (text[0] != '\0' && strcmp(text, stream->identity) != 0) {
        stream->own = false;
        memcpy(stream->identity, text, sizeof(text));
        mark_move(stream, MARK_UNSEEN);
        marks->news = true;
        pthread_cond_signal(&marks->wake);
    }
    pthread_mutex_unlock(&marks->lock);
}

enum marks_verdict marks_ask(const struct marks *marks, size_t number, uint64_t now_ms)
{
    const struct mark_stream *stream;

    if (marks == NULL)
        return MARKS_CLAIM;
    stream = &marks->streams[number];
    switch (mark_state_of(stream)) {
    case MARK_FOREIGN:
        return MARKS_KEEP;
    case MARK_UNCHECKED:
        return MARKS_CLAIM;
    case MARK_HELD:
        if (now_ms < atomic_load_explicit(&stream->lease_ms, memory_order_relaxed))
            return MARKS_CLAIM;
        return MARKS_UNSEEN;
    case MARK_UNTOLD:
    case MARK_UNSEEN:
    case MARK_STATES:
        break;
    }
    return MARKS_UNSEEN;
}
