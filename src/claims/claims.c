/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.c - decides who owns an id, among all alloyd that share one Redis (L2).
 *
 * We claim a batch in pipelined rounds: MGET of all keys; SET NX for the keys that were missing;
 * MGET again for the SETs that lost. The last round is necessary: Redis may have run our own
 * earlier SET, from a connection that we gave up after a time-out, between the MGET and the SET of
 * the next try. Only the value distinguishes such a claim from another's, and taking it for a
 * duplicate would lose the event. Keys that are then missing again get one more try. A key that can
 * be neither set nor read holds something that no alloyd has written, and makes nothing a
 * duplicate.
 *
 * We build commands in one buffer and send them in windows, and read a window's replies before we
 * build the next one: that bounds the memory, and neither side can block on the other's full
 * socket. The reply functions write verdicts directly, so that no reply costs an allocation.
 *
 * After any error we drop the connection, since its replies may no longer match our commands, and
 * open the breaker, so that a dead Redis does not cost a time-out for each batch. A Redis that
 * answers but takes no claims is as good as none: it counts as up again only after it has taken a
 * SET like ours.
 *
 * Runs on: the one thread that owns the struct claims; claims_cancel() on any thread.
 * Owns: the connection. Verdicts and records are borrowed during a call.
 */
#include "claims_private.h"

#include "alloy/clock.h"
#include "alloy/kill_point.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define LOG_INTERVAL_MS 1000

/* ---- replies ---- */

/* Whether an alloyd can have written this: no text looks so. A record's number, that of its segment
 * and an offset, is far from 2^56. */
static bool claims_is_value(struct slice value)
{
    uint64_t words[2];

    if (value.len != VALUE_LEN)
        return false;
    memcpy(words, value.data, sizeof(words));
    return words[0] != 0 && words[1] != 0 && le64toh(words[1]) >> 56 == 0;
}

/* MGET has found a value: if it is a claim, it says whose. */
static void claims_judge_value(struct claims *claims, size_t at, struct slice value)
{
    uint32_t i = claims->todo[at];
    char own[VALUE_LEN];

    claims_put_value(claims, claims->records[i], own);
    if (!claims_is_value(value))
        claims->verdicts[i] = CLAIM_STRANGE;
    else
        claims->verdicts[i] =
            memcmp(value.data, own, VALUE_LEN) == 0 ? CLAIM_OWNED : CLAIM_DUPLICATE;
}

static bool claims_on_mget(struct claims *claims, const struct redis_link_element *element)
{
    size_t at = claims->reply_from + element->index;

    if (element->root)
        return element->type == REDIS_LINK_ERROR ||
               (element->type == REDIS_LINK_ARRAY && element->count == claims->reply_count);
    if (element->type == REDIS_LINK_STRING)
        claims_judge_value(claims, at, element->text);
    else if (element->type != REDIS_LINK_NIL)
        return false;
    else
        /* The key is missing: SET it. After a SET that lost it is gone again, or not a string. */
        claims->todo[claims->kept++] = claims->todo[at];
    return true;
}

static bool claims_on_set(struct claims *claims, const struct redis_link_element *element)
{
    uint32_t i = claims->todo[claims->reply_from];

    if (!element->root)
        return false;
    if (element->type == REDIS_LINK_NIL) {
        claims->todo[claims->kept++] = i; /* another was first: find out who */
        return true;
    }
    if (element->type == REDIS_LINK_ERROR)
        return true;
    if (element->type != REDIS_LINK_STATUS || element->text.len != 2 ||
        memcmp(element->text.data, "OK", 2) != 0)
        return false;
    claims->verdicts[i] = CLAIM_OWNED;
    return true;
}

static bool claims_on_release(struct claims *claims, const struct redis_link_element *element)
{
    bool *released = &claims->released[claims->todo[claims->reply_from]];

    if (!element->root)
        return false;
    if (element->type == REDIS_LINK_INTEGER) {
        *released = true;
        return true;
    }
    /* A key that is not a string is not a claim. From a server that has the command, ERR means the
     * same. */
    if (redis_link_is_code(element->text, "WRONGTYPE") ||
        (redis_link_is_code(element->text, "ERR") && claims->release_way != RELEASE_EVAL))
        *released = true;
    return element->type == REDIS_LINK_ERROR;
}

/* Of the two answers the first is about DELEX, the second about DELIFEQ. */
static bool claims_on_answer(struct claims *claims, const struct redis_link_element *element)
{
    if (claims->asked_ways == 0)
        claims->release_way = RELEASE_EVAL;
    if (element->type == REDIS_LINK_INTEGER && claims->release_way == RELEASE_EVAL)
        claims->release_way = claims->asked_ways == 0 ? RELEASE_DELEX : RELEASE_DELIFEQ;
    claims->asked_ways++;
    return element->type == REDIS_LINK_INTEGER || element->type == REDIS_LINK_ERROR;
}

static bool claims_on_element(void *arg, const struct redis_link_element *element)
{
    struct claims *claims = arg;

    switch (claims->round) {
    case ROUND_LOOKUP:
    case ROUND_VERIFY:
        return claims_on_mget(claims, element);
    case ROUND_SET:
        return claims_on_set(claims, element);
    case ROUND_RELEASE:
        return claims_on_release(claims, element);
    case ROUND_PROBE:
        return true; /* an error: the server does not have this one */
    case ROUND_ASK:
        return claims_on_answer(claims, element);
    }
    return false;
}

/* ---- exchanges ---- */

static bool claims_is_cancelled(const struct claims *claims)
{
    /* acquire: pairs with the release in claims_cancel(); so our caller sees why that was called,
     * and does not take the -EAGAIN for a failure of Redis */
    return atomic_load_explicit(&claims->cancelled, memory_order_acquire);
}

/* Sends what is built and reads the replies about todo[from] .. todo[to - 1]. */
static int claims_exchange(struct claims *claims, size_t from, size_t to, uint64_t deadline_ns)
{
    uint64_t started_ns = clock_mono_ns();
    int err;

    if (claims_is_cancelled(claims))
        return -ECANCELED;
    err = redis_link_send(claims->link, deadline_ns);
    while (err == 0 && from < to) {
        claims->reply_from = from;
        claims->reply_count = claims_put_span(claims, from, to);
        from += claims->reply_count;
        err = redis_link_read(claims->link, deadline_ns);
    }
    METRIC_OBSERVE_NS(claims->parts.thread_metrics, redis, clock_mono_ns() - started_ns);
    return err;
}

/* Runs one round over todo[0] .. todo[n - 1], window by window. As the replies come, moves what is
 * left for the next round to the front of todo. */
static int claims_run_round(struct claims *claims, enum round round, size_t n)
{
    size_t from = 0;
    int err = 0;

    claims->round = round;
    claims->kept = 0;
    while (err == 0 && from < n) {
        size_t to = from;

        redis_link_clear(claims->link);
        while (to < n && redis_link_bytes(claims->link) < WINDOW_BYTES) {
            size_t count = claims_put_span(claims, to, n);

            claims_put_command(claims, to, count);
            to += count;
        }
        err = claims_exchange(claims, from, to, clock_mono_ns() + claims->timeout_ns);
        from = to;
    }
    return err;
}

/* ---- jobs ---- */

/* Claims one slice. The keys of a refused command stay CLAIM_UNKNOWN; the rest goes on. */
static int claims_take_slice(struct claims *claims, size_t n)
{
    int err = claims_run_round(claims, ROUND_LOOKUP, n);

    KILL_POINT("claims_read");
    if (err == 0)
        err = claims_run_round(claims, ROUND_SET, claims->kept);
    KILL_POINT("claims_set");
    if (err == 0)
        err = claims_run_round(claims, ROUND_VERIFY, claims->kept);
    /* A claim that was deleted or expired between the two rounds has left its id free. */
    if (err == 0)
        err = claims_run_round(claims, ROUND_SET, claims->kept);
    if (err == 0)
        err = claims_run_round(claims, ROUND_VERIFY, claims->kept);
    for (size_t i = 0; err == 0 && i < claims->kept; i++)
        claims->verdicts[claims->todo[i]] = CLAIM_STRANGE;
    return err;
}

/* Prepares the key head of one stream, and reads the keys that a reload may change. */
static void claims_begin_stream(struct claims *claims, uint16_t number)
{
    const struct config *config = config_current(claims->parts.config);
    const struct config_stream *stream = &config->streams[number];
    size_t name_len = strlen(stream->name);

    ALLOY_ASSERT(number < config->stream_count && name_len <= CONFIG_STREAM_NAME_MAX);
    memcpy(claims->key_head + claims->prefix_len, stream->name, name_len);
    claims->key_head[claims->prefix_len + name_len] = ':';
    claims->key_head_len = claims->prefix_len + name_len + 1;
    claims->chunk = config->redis_chunk;
    /* Round up: Redis must not forget an id before its ttl. */
    snprintf(claims->ttl_s, sizeof(claims->ttl_s), "%llu",
             (unsigned long long)((stream->ttl_ms + 999) / 1000));
}

/* Sends what is built and reads the n replies of a round that has no records. */
static int claims_converse(struct claims *claims, enum round round, size_t n)
{
    const uint64_t deadline_ns = clock_mono_ns() + claims->timeout_ns;
    int err = redis_link_send(claims->link, deadline_ns);

    claims->round = round;
    for (size_t i = 0; err == 0 && i < n; i++)
        err = redis_link_read(claims->link, deadline_ns);
    return err;
}

/* Proves that claims of every stream can be taken. Returns 0, -EACCES when Redis refuses, or
 * another -errno. */
static int claims_prove(struct claims *claims)
{
    const size_t streams = config_current(claims->parts.config)->stream_count;
    int err;

    redis_link_clear(claims->link);
    for (size_t i = 0; i < streams; i++) {
        claims_begin_stream(claims, (uint16_t)i);
        claims_put_probe(claims);
    }
    err = claims_converse(claims, ROUND_PROBE, 2 * streams);
    return redis_link_refused(claims->link) && err == 0 ? -EACCES : err;
}

/* Finds out how this server deletes a key by its value. */
static int claims_ask_release_way(struct claims *claims)
{
    int err;

    if (claims->release_way != RELEASE_UNKNOWN)
        return 0;
    claims->asked_ways = 0;
    redis_link_clear(claims->link);
    claims_put_question(claims);
    err = claims_converse(claims, ROUND_ASK, 2);
    if (err != 0)
        claims->release_way = RELEASE_UNKNOWN;
    (void)redis_link_refused(
        claims->link); /* errors here are expected: no server has both commands */
    return err;
}

static int claims_open(struct claims *claims)
{
    redis_link_refresh(claims->link, claims->timeout_ns);
    if (redis_link_is_open(claims->link))
        return 0;
    claims->release_way = RELEASE_UNKNOWN;
    return redis_link_open(claims->link, claims->timeout_ns);
}

static int claims_perform(struct claims *claims, const struct job *job)
{
    int err = claims_open(claims);

    if (err == 0 && job->kind == JOB_PROBE)
        return claims_prove(claims);
    if (err == 0 && job->kind == JOB_RELEASE)
        err = claims_ask_release_way(claims);
    for (size_t at = 0; err == 0 && at < job->n; at += claims->slice_max) {
        size_t left = job->n - at;
        size_t n = left < claims->slice_max ? left : claims->slice_max;

        claims->records = job->records + at;
        claims->verdicts = job->verdicts != NULL ? job->verdicts + at : NULL;
        claims->released = job->released != NULL ? job->released + at : NULL;
        for (size_t i = 0; i < n; i++)
            claims->todo[i] = (uint32_t)i;
        err = job->kind == JOB_TAKE ? claims_take_slice(claims, n)
                                    : claims_run_round(claims, ROUND_RELEASE, n);
    }
    /* Only for JOB_TAKE: a claim that cannot be deleted does not mean that none can be taken. */
    if (redis_link_refused(claims->link) && err == 0 && job->kind == JOB_TAKE)
        return -EACCES;
    return err;
}

/* splitmix64 (Vigna); spreads the retries of many workers and daemons. */
static uint64_t claims_next_random(struct claims *claims)
{
    uint64_t z = claims->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* What the log was told last, by any thread; -1: nothing. Each change is one line, whichever
 * connection notices it first. */
static _Atomic int claims_told_up = -1;

static void claims_log_lost(const struct claims *claims, bool hold)
{
    static struct log_limit limit;
    uint64_t suppressed;

    /* A server that comes and goes makes a line a second; what is held back is told by the next
     * failure. */
    if (atomic_load_explicit(&claims_told_up, memory_order_relaxed) == 0 ||
        !log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed) ||
        atomic_exchange_explicit(&claims_told_up, 0, memory_order_relaxed) == 0)
        return;
    log_warn("redis lost server=%s reason=\"%s\" on_failure=%s suppressed=%llu",
             redis_link_name(claims->link), redis_link_reason(claims->link), hold ? "hold" : "pass",
             (unsigned long long)suppressed);
}

static void claims_log_up(const struct claims *claims)
{
    const int before = atomic_exchange_explicit(&claims_told_up, 1, memory_order_relaxed);

    if (before != 1)
        log_info("redis %s server=%s", before < 0 ? "is up" : "back",
                 redis_link_name(claims->link));
}

static void claims_note_failure(struct claims *claims, uint64_t now_ms)
{
    const struct claims_parts *parts = &claims->parts;
    bool hold = config_current(parts->config)->redis_on_failure == CONFIG_REDIS_HOLD;

    claims->retry_at_ms = now_ms + backoff_next(&claims->backoff, BACKOFF_MIN_MS, BACKOFF_MAX_MS,
                                                claims_next_random(claims));
    METRIC_ADD(parts->thread_metrics, redis_errors, 1);
    /* Not blocking: with hold, too, clients are served until the ring is full. */
    health_raise(parts->health, "redis", false, "%s: %s; %s", redis_link_name(claims->link),
                 redis_link_reason(claims->link),
                 hold ? "events wait for it (redis.on_failure = hold)"
                      : "events go on without a claim (redis.on_failure = pass)");
    METRIC_GAUGE_SET(parts->metrics, redis_up, 0);
    claims_log_lost(claims, hold);
    claims->down = true;
}

static void claims_note_success(struct claims *claims)
{
    backoff_reset(&claims->backoff);
    claims->retry_at_ms = 0;
    claims->down = false;
    METRIC_GAUGE_SET(claims->parts.metrics, redis_up, 1);
    health_clear(claims->parts.health, "redis");
    claims_log_up(claims);
}

/* True while any thread has found that Redis does not work. relaxed: the next exchange corrects a
 * stale view. */
static bool claims_in_doubt(const struct claims *claims)
{
    return claims->down ||
           atomic_load_explicit(&claims->parts.metrics->gauges[METRIC_GAUGE_redis_up],
                                memory_order_relaxed) != 1;
}

/* A job has succeeded, but perhaps without a SET, or without one like the refused one. Only a full
 * probe ends the doubt, also for workers that have no events to try with. */
static void claims_note_work(struct claims *claims)
{
    int err;

    if (likely(!claims_in_doubt(claims)))
        return;
    err = claims_prove(claims);
    if (err == 0)
        claims_note_success(claims);
    else if (err != -EACCES)
        redis_link_close(claims->link); /* the next job will show */
}

/* Room for a window and one more command (an MGET with its last key, or AUTH with the whole URL),
 * and for a probe: two commands for each stream that there may be. */
static size_t claims_out_capacity(const struct config *config)
{
    const size_t key = strlen(config->redis_key_prefix) + CONFIG_STREAM_NAME_MAX;

    return 2 * WINDOW_BYTES + key + UINT16_MAX + strlen(config->redis_url) + COMMAND_SLACK +
           2 * CONFIG_STREAMS_MAX * (key + COMMAND_SLACK);
}

/* Takes over a redis.url that a reload has changed. */
static void claims_follow(struct claims *claims)
{
    const struct config *config = config_current(claims->parts.config);
    struct redis_link *link;

    if (config->redis_url != claims->url && strcmp(config->redis_url, claims->url) != 0) {
        link = redis_link_create(config->redis_url, claims_out_capacity(config), claims_on_element,
                                 claims);
        if (link == NULL)
            return; /* again with the next job */
        redis_link_destroy(claims->link);
        claims->link = link;
        backoff_reset(&claims->backoff);
        claims->retry_at_ms = 0;
        claims->down = true; /* until it is proven */
    }
    claims->url = config->redis_url;
}

/* Runs a job, if the breaker lets it. Every job can be done twice without harm. */
static int claims_run_job(struct claims *claims, const struct job *job, uint64_t now_ms)
{
    uint64_t started_ms = clock_mono_ms();
    bool reused;
    int err;

    claims_follow(claims);
    reused = redis_link_is_open(claims->link);
    if (claims_is_cancelled(claims) || now_ms < claims->retry_at_ms)
        return -EAGAIN;
    claims->timeout_ns = config_current(claims->parts.config)->redis_timeout_ms * CLOCK_NS_PER_MS;
    err = claims_perform(claims, job);
    if (reused && (err == -EPIPE || err == -ECONNRESET)) {
        /* Redis closes idle connections, and it restarts: only a fresh connection shows whether it
         * is away. */
        redis_link_close(claims->link);
        err = claims_perform(claims, job);
    }
    if (err == 0 && job->kind == JOB_PROBE)
        claims_note_success(claims);
    else if (err == 0)
        claims_note_work(claims);
    if (err == 0)
        return 0;
    redis_link_close(claims->link);
    if (err != -ECANCELED)
        claims_note_failure(claims, now_ms + (clock_mono_ms() - started_ms));
    return -EAGAIN;
}

static bool claims_is_off(const struct claims *claims)
{
    return claims->link == NULL;
}

/* ---- public ---- */

struct claims *claims_create(const struct claims_parts *parts)
{
    const struct config *config = config_current(parts->config);
    struct claims *claims = calloc(1, sizeof(*claims));

    if (claims == NULL)
        goto out_of_memory;
    claims->parts = *parts;
    if (config->redis_url[0] == '\0')
        return claims;
    claims->slice_max = config->worker_batch;
    claims->prefix_len = strlen(config->redis_key_prefix);
    claims->link = redis_link_create(config->redis_url, claims_out_capacity(config),
                                     claims_on_element, claims);
    if (claims->link == NULL) {
        claims_destroy(claims);
        return NULL;
    }
    claims->url = config->redis_url;
    claims->key_head = malloc(claims->prefix_len + CONFIG_STREAM_NAME_MAX + 1);
    claims->todo = malloc(claims->slice_max * sizeof(*claims->todo));
    if (claims->key_head == NULL || claims->todo == NULL)
        goto out_of_memory;
    memcpy(claims->key_head, config->redis_key_prefix, claims->prefix_len);
    /* If this fails the seed is 0, and the retries of several daemons are not spread. */
    (void)!getrandom(&claims->random, sizeof(claims->random), 0);
    return claims;

out_of_memory:
    log_error("out of memory for the connection to redis");
    claims_destroy(claims);
    return NULL;
}

void claims_destroy(struct claims *claims)
{
    if (claims == NULL)
        return;
    redis_link_destroy(claims->link);
    free(claims->key_head);
    free(claims->todo);
    free(claims);
}

int claims_take(struct claims *claims, const struct batch *batch, enum claims_verdict *verdicts,
                uint64_t now_ms)
{
    bool off = claims_is_off(claims);

    for (size_t i = 0; i < batch->count; i++)
        verdicts[i] = off ? CLAIM_OWNED : CLAIM_UNKNOWN;
    if (off || batch->count == 0)
        return 0;
    claims_begin_stream(claims, batch->stream);
    return claims_run_job(
        claims,
        &(struct job){
            .kind = JOB_TAKE, .records = batch->records, .n = batch->count, .verdicts = verdicts},
        now_ms);
}

int claims_release(struct claims *claims, struct record *const *records, size_t n, bool *released,
                   uint64_t now_ms)
{
    bool off = claims_is_off(claims);
    size_t kept = 0;
    int err;

    for (size_t i = 0; i < n; i++)
        released[i] = off;
    if (off || n == 0)
        return 0;
    claims_begin_stream(claims, records[0]->stream);
    err = claims_run_job(
        claims,
        &(struct job){.kind = JOB_RELEASE, .records = records, .n = n, .released = released},
        now_ms);
    if (err != 0)
        return err;
    for (size_t i = 0; i < n; i++)
        kept += !released[i];
    if (kept > 0)
        health_raise(claims->parts.health, "redis.release", false,
                     "Redis refuses to delete the claims of dead-lettered events, whose ids stay "
                     "taken: its user needs DELEX, DELIFEQ or EVAL, with GET and DEL, on "
                     "these keys");
    else
        health_clear(claims->parts.health, "redis.release");
    return 0;
}

int claims_probe(struct claims *claims, uint64_t now_ms)
{
    if (claims_is_off(claims))
        return 0;
    return claims_run_job(claims, &(struct job){.kind = JOB_PROBE}, now_ms);
}

bool claims_down(const struct claims *claims)
{
    return claims->down;
}

uint64_t claims_retry_in_ms(const struct claims *claims, uint64_t now_ms)
{
    return now_ms < claims->retry_at_ms ? claims->retry_at_ms - now_ms : 0;
}

void claims_cancel(struct claims *claims)
{
    /* release: pairs with the acquire in claims_is_cancelled() */
    atomic_store_explicit(&claims->cancelled, true, memory_order_release);
}
