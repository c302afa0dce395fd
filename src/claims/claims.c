/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims.c - who owns an id, over all alloyd that share one Redis (L2).
 *
 * A batch is claimed in rounds, each pipelined: MGET of all keys; SET NX for what was not there;
 * MGET again for the SETs that lost. The last one is not idle: Redis may still have run our own SET
 * from a connection that we had given up after a time-out, between the MGET and the SET of the next
 * try. Only the value tells such a claim from somebody else's, and to take it for a duplicate would
 * lose the event.
 *
 * Commands are built straight into one buffer and sent in windows, and a window's replies are read
 * before the next one is built: memory is bounded, and neither side can block on the other's full
 * socket. Of hiredis we use connecting and the reply parser; our reply functions write verdicts
 * where they belong, so that no reply costs an allocation. We wait with poll(), since only that
 * bounds a whole exchange: a socket's own time-outs bound each read.
 *
 * Whatever goes wrong, the connection is dropped, for its replies may be out of step, and the
 * breaker opens, so that a dead Redis does not cost a time-out a batch.
 *
 * Runs on: the one thread that owns the struct claims; claims_cancel() any thread.
 * Owns: the connection. Verdicts and records are borrowed during a call.
 */
#include "alloy/claims.h"

#include "alloy/backoff.h"
#include "alloy/clock.h"
#include "alloy/kill_point.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"
#include "redis_link.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

#define VALUE_LEN 16
/* A window is sent when it is at least this long; one MGET is not longer than this and a key. */
#define WINDOW_BYTES (256u * 1024)
#define COMMAND_SLACK 1024 /* of any command, without its keys */
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define LOG_INTERVAL_MS 1000

/* Deletes a key if it still has this value; one step in Redis, so that a claim which expires and
 * is taken by somebody else meanwhile is not deleted. */
#define RELEASE_SCRIPT \
    "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0"

#define LITERAL(text) (text), (sizeof(text) - 1)

enum round {
    ROUND_LOOKUP,
    ROUND_SET,
    ROUND_VERIFY,
    ROUND_RELEASE,
};

enum job_kind { JOB_TAKE, JOB_RELEASE, JOB_PROBE };

struct job {
    enum job_kind kind;
    struct record *const *records;
    size_t n;
    enum claims_verdict *verdicts;
};

struct claims {
    /* set before the first use, constant after */
    struct claims_parts parts;
    struct redis_link *link; /* NULL: no second level */
    size_t slice_max;
    size_t prefix_len;

    /* any thread */
    atomic_bool cancelled;

    /* owner thread only */
    bool down;
    struct backoff backoff;
    uint64_t retry_at_ms; /* in the caller's time */
    uint64_t random;

    /* the call under way */
    uint64_t timeout_ns;
    size_t chunk;
    char ttl_s[24];
    char *key_head; /* prefix, stream, ':' */
    size_t key_head_len;
    struct record *const *records; /* a slice of at most slice_max */
    enum claims_verdict *verdicts;
    uint32_t *todo; /* indexes of records that the round is about */

    /* the round under way */
    enum round round;
    size_t reply_from;  /* place in todo of the reply's first key */
    size_t reply_count; /* keys that the reply is about */
    size_t kept;        /* front of todo: what the next round is about */
};

/* ---- commands ---- */

static void claims_put_key(struct claims *claims, const struct record *record)
{
    redis_link_put_bulk(claims->link, (struct slice){claims->key_head, claims->key_head_len},
                        (struct slice){record_id(record), record->id_length});
}

static void claims_make_value(const struct claims *claims, const struct record *record,
                              char value[VALUE_LEN])
{
    uint64_t words[2] = {htole64(claims->parts.instance_id), htole64(record->lsn)};

    memcpy(value, words, sizeof(words));
}

static const struct record *claims_todo_record(const struct claims *claims, size_t at)
{
    return claims->records[claims->todo[at]];
}

/* How many keys from `from` on go into one MGET. The same when it is sent and when it is answered:
 * todo behind the reply under way does not change. */
static size_t claims_mget_span(const struct claims *claims, size_t from, size_t n)
{
    size_t count = 0;
    size_t bytes = 0;

    while (from + count < n && count < claims->chunk && bytes < WINDOW_BYTES) {
        bytes += claims->key_head_len + claims_todo_record(claims, from + count)->id_length + 16;
        count++;
    }
    return count;
}

static void claims_put_mget(struct claims *claims, size_t from, size_t count)
{
    redis_link_put_array(claims->link, count + 1);
    redis_link_put(claims->link, LITERAL("$4\r\nMGET\r\n"));
    for (size_t i = from; i < from + count; i++)
        claims_put_key(claims, claims_todo_record(claims, i));
}

static void claims_put_set(struct claims *claims, const struct record *record)
{
    char value[VALUE_LEN];

    claims_make_value(claims, record, value);
    redis_link_put(claims->link, LITERAL("*6\r\n$3\r\nSET\r\n"));
    claims_put_key(claims, record);
    redis_link_put_bulk(claims->link, (struct slice){value, VALUE_LEN}, (struct slice){"", 0});
    redis_link_put(claims->link, LITERAL("$2\r\nEX\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){claims->ttl_s, strlen(claims->ttl_s)},
                        (struct slice){"", 0});
    redis_link_put(claims->link, LITERAL("$2\r\nNX\r\n"));
}

static void claims_put_release(struct claims *claims, const struct record *record)
{
    char value[VALUE_LEN];

    claims_make_value(claims, record, value);
    redis_link_put(claims->link, LITERAL("*5\r\n$4\r\nEVAL\r\n"));
    redis_link_put_bulk(claims->link, (struct slice){LITERAL(RELEASE_SCRIPT)},
                        (struct slice){"", 0});
    redis_link_put(claims->link, LITERAL("$1\r\n1\r\n"));
    claims_put_key(claims, record);
    redis_link_put_bulk(claims->link, (struct slice){value, VALUE_LEN}, (struct slice){"", 0});
}

/* Keys that the command at `from` of this round is about. */
static size_t claims_round_span(const struct claims *claims, size_t from, size_t n)
{
    if (claims->round == ROUND_LOOKUP || claims->round == ROUND_VERIFY)
        return claims_mget_span(claims, from, n);
    return 1;
}

static void claims_put_command(struct claims *claims, size_t from, size_t count)
{
    switch (claims->round) {
    case ROUND_LOOKUP:
    case ROUND_VERIFY:
        claims_put_mget(claims, from, count);
        break;
    case ROUND_SET:
        claims_put_set(claims, claims_todo_record(claims, from));
        break;
    case ROUND_RELEASE:
        claims_put_release(claims, claims_todo_record(claims, from));
        break;
    }
}

/* ---- replies ---- */

/* A value of MGET: the claim exists. */
static void claims_judge_value(struct claims *claims, size_t at, struct slice value)
{
    uint32_t i = claims->todo[at];
    char own[VALUE_LEN];

    claims_make_value(claims, claims->records[i], own);
    claims->verdicts[i] = value.len == VALUE_LEN && memcmp(value.data, own, VALUE_LEN) == 0
                              ? CLAIM_OWNED
                              : CLAIM_DUPLICATE;
}

static bool claims_on_mget(struct claims *claims, const struct redis_link_element *element)
{
    size_t at = claims->reply_from + element->index;

    if (element->root)
        return element->type == REDIS_LINK_ARRAY && element->count == claims->reply_count;
    if (element->type == REDIS_LINK_STRING)
        claims_judge_value(claims, at, element->text);
    else if (element->type != REDIS_LINK_NIL)
        return false;
    else if (claims->round == ROUND_LOOKUP)
        claims->todo[claims->kept++] = claims->todo[at]; /* nobody's: SET */
    else
        /* Gone again, or no string at all: not ours in any case. */
        claims->verdicts[claims->todo[at]] = CLAIM_DUPLICATE;
    return true;
}

static bool claims_on_set(struct claims *claims, const struct redis_link_element *element)
{
    uint32_t i = claims->todo[claims->reply_from];

    if (!element->root)
        return false;
    if (element->type == REDIS_LINK_NIL) {
        claims->todo[claims->kept++] = i; /* somebody was first: find out who */
        return true;
    }
    if (element->type != REDIS_LINK_STATUS || element->text.len != 2 ||
        memcmp(element->text.data, "OK", 2) != 0)
        return false;
    claims->verdicts[i] = CLAIM_OWNED;
    return true;
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
        return element->root && element->type == REDIS_LINK_INTEGER;
    }
    return false;
}

/* ---- exchanges ---- */

static bool claims_is_cancelled(const struct claims *claims)
{
    /* acquire: pairs with the release in claims_cancel(); our caller then sees why it was called,
     * and does not take the -EAGAIN for a failure of Redis */
    return atomic_load_explicit(&claims->cancelled, memory_order_acquire);
}

/* Sends what is in out and reads the replies about todo[from] .. todo[to - 1]. */
static int claims_exchange(struct claims *claims, size_t from, size_t to, uint64_t deadline_ns)
{
    uint64_t started_ns = clock_mono_ns();
    int err;

    if (claims_is_cancelled(claims))
        return -ECANCELED;
    err = redis_link_send(claims->link, deadline_ns);
    while (err == 0 && from < to) {
        claims->reply_from = from;
        claims->reply_count = claims_round_span(claims, from, to);
        from += claims->reply_count;
        err = redis_link_read(claims->link, deadline_ns);
    }
    METRIC_OBSERVE_NS(claims->parts.thread_metrics, redis, clock_mono_ns() - started_ns);
    return err;
}

/* One round over todo[0] .. todo[n - 1], window by window; what is left for the next round is moved
 * to the front of todo as the replies come. */
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
            size_t count = claims_round_span(claims, to, n);

            claims_put_command(claims, to, count);
            to += count;
        }
        err = claims_exchange(claims, from, to, clock_mono_ns() + claims->timeout_ns);
        from = to;
    }
    return err;
}

/* ---- jobs ---- */

/* Claims one slice. A refused command leaves what it asked for unknown; the rest goes on. */
static int claims_take_slice(struct claims *claims, size_t n)
{
    int err = claims_run_round(claims, ROUND_LOOKUP, n);

    KILL_POINT("claims_read");
    if (err == 0)
        err = claims_run_round(claims, ROUND_SET, claims->kept);
    KILL_POINT("claims_set");
    if (err == 0)
        err = claims_run_round(claims, ROUND_VERIFY, claims->kept);
    return err;
}

/* Names the keys of one stream and reads what a reload may change. */
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
    /* Rounded up: Redis must not forget an id before its ttl. */
    snprintf(claims->ttl_s, sizeof(claims->ttl_s), "%llu",
             (unsigned long long)((stream->ttl_ms + 999) / 1000));
}

static int claims_perform(struct claims *claims, const struct job *job)
{
    int err = 0;

    if (!redis_link_is_open(claims->link))
        err = redis_link_open(claims->link, claims->timeout_ns);
    if (err == 0 && job->kind == JOB_PROBE)
        return redis_link_ping(claims->link, clock_mono_ns() + claims->timeout_ns);
    for (size_t at = 0; err == 0 && at < job->n; at += claims->slice_max) {
        size_t left = job->n - at;
        size_t n = left < claims->slice_max ? left : claims->slice_max;

        claims->records = job->records + at;
        claims->verdicts = job->verdicts != NULL ? job->verdicts + at : NULL;
        for (size_t i = 0; i < n; i++)
            claims->todo[i] = (uint32_t)i;
        err = job->kind == JOB_TAKE ? claims_take_slice(claims, n)
                                    : claims_run_round(claims, ROUND_RELEASE, n);
    }
    return redis_link_refused(claims->link) && err == 0 ? -EACCES : err;
}

/* splitmix64 (Vigna); spreads the retries of many workers and daemons. */
static uint64_t claims_next_random(struct claims *claims)
{
    uint64_t z = claims->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static void claims_note_failure(struct claims *claims, uint64_t now_ms)
{
    static struct log_limit limit;
    const struct claims_parts *parts = &claims->parts;
    bool hold = config_current(parts->config)->redis_on_failure == CONFIG_REDIS_HOLD;
    uint64_t suppressed;

    claims->retry_at_ms = now_ms + backoff_next(&claims->backoff, BACKOFF_MIN_MS, BACKOFF_MAX_MS,
                                                claims_next_random(claims));
    METRIC_ADD(parts->thread_metrics, redis_errors, 1);
    /* Never blocks: with hold the ring does, once it is full. */
    health_raise(parts->health, "redis", false, "%s: %s; %s", redis_link_name(claims->link),
                 redis_link_reason(claims->link),
                 hold ? "events wait for it (redis.on_failure = hold)"
                      : "events go on without a claim (redis.on_failure = pass)");
    METRIC_GAUGE_SET(parts->metrics, redis_up, 0);
    if (!claims->down && log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_warn("redis lost server=%s reason=\"%s\" on_failure=%s suppressed=%llu",
                 redis_link_name(claims->link), redis_link_reason(claims->link),
                 hold ? "hold" : "pass", (unsigned long long)suppressed);
    claims->down = true;
}

static void claims_note_success(struct claims *claims)
{
    static struct log_limit limit;
    struct metrics *metrics = claims->parts.metrics;
    bool was_down = claims->down;
    uint64_t suppressed;

    backoff_reset(&claims->backoff);
    claims->retry_at_ms = 0;
    claims->down = false;
    /* The condition is shared: whoever sees Redis back clears it for a worker that has no events to
     * try with. Relaxed: a late view is put right by the next exchange. */
    if (!was_down &&
        atomic_load_explicit(&metrics->gauges[METRIC_GAUGE_redis_up], memory_order_relaxed) == 1)
        return;
    METRIC_GAUGE_SET(metrics, redis_up, 1);
    health_clear(claims->parts.health, "redis");
    if (was_down && log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_info("redis back server=%s suppressed=%llu", redis_link_name(claims->link),
                 (unsigned long long)suppressed);
}

/* Does a job behind the breaker. Every job can be done twice without harm. */
static int claims_run_job(struct claims *claims, const struct job *job, uint64_t now_ms)
{
    uint64_t started_ms = clock_mono_ms();
    bool reused = redis_link_is_open(claims->link);
    int err;

    if (claims_is_cancelled(claims) || now_ms < claims->retry_at_ms)
        return -EAGAIN;
    claims->timeout_ns = config_current(claims->parts.config)->redis_timeout_ms * CLOCK_NS_PER_MS;
    err = claims_perform(claims, job);
    if (reused && (err == -EPIPE || err == -ECONNRESET)) {
        /* Redis closes idle connections and restarts: a fresh connection tells whether it is away.
         */
        redis_link_close(claims->link);
        err = claims_perform(claims, job);
    }
    if (err == 0) {
        claims_note_success(claims);
        return 0;
    }
    /* Redis has answered, but may not run scripts, say: claims can be taken all the same, and the
     * connection is in step. */
    if (err == -EACCES && job->kind == JOB_RELEASE && redis_link_is_open(claims->link))
        return -EAGAIN;
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

/* A window, and one more command: an MGET, with its last key, or AUTH with all of the URL. */
static size_t claims_out_capacity(const struct config *config)
{
    return 2 * WINDOW_BYTES + strlen(config->redis_key_prefix) + CONFIG_STREAM_NAME_MAX +
           UINT16_MAX + strlen(config->redis_url) + COMMAND_SLACK;
}

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
    claims->key_head = malloc(claims->prefix_len + CONFIG_STREAM_NAME_MAX + 1);
    claims->todo = malloc(claims->slice_max * sizeof(*claims->todo));
    if (claims->key_head == NULL || claims->todo == NULL)
        goto out_of_memory;
    memcpy(claims->key_head, config->redis_key_prefix, claims->prefix_len);
    /* Where it fails the seed is 0, which costs the spreading of retries and nothing else. */
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

int claims_release(struct claims *claims, struct record *const *records, size_t n, uint64_t now_ms)
{
    if (claims_is_off(claims) || n == 0)
        return 0;
    claims_begin_stream(claims, records[0]->stream);
    return claims_run_job(claims, &(struct job){.kind = JOB_RELEASE, .records = records, .n = n},
                          now_ms);
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
