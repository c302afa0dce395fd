/* SPDX-License-Identifier: Apache-2.0 */
/*
 * worker.c - takes events from the ring into a batch for each stream, claims the ids of a batch
 * that is full or has lingered, and submits the unique events to the flusher. Between batches it
 * releases dead-lettered records.
 *
 * While one node of a Redis cluster is away (redis.on_failure = hold), the events whose ids it has
 * wait here, up to the ring's capacity for all workers together, and the others go on.
 *
 * A worker holds at most one batch for each stream and what it took from the ring last. While it
 * waits for Redis (redis.on_failure = hold) it takes nothing more: the ring fills, and clients get
 * 503. When a stream's claims must not be taken (mark.h), its events wait here and do not hold up
 * others: they are pointers to records, at most as many as the journal holds. Whatever it holds is
 * LIVE in the journal, so it may be stopped at any point.
 *
 * Runs on: a thread of its own; worker_start(), worker_done() and worker_stop() on any other.
 * Owns: the claims and the batches that are open.
 */
#include "alloy/worker.h"

#include "alloy/batch.h"
#include "alloy/claims.h"
#include "alloy/clock.h"
#include "alloy/pulse.h"
#include "alloy/kill_point.h"
#define LOG_MODULE "worker"
#include "alloy/log.h"
#include "alloy/mark.h"
#include "alloy/vacate.h"
#include "doubted.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* How often a waiting worker checks whether a reload has changed what it waits for. */
#define HOLD_STEP_MS 100
#define MEMORY_WAIT_MS 20
/* For a closed ring with credits that a front-end thread still holds: cancelling them wakes
 * nobody. */
#define CLOSING_WAIT_MS 5
#define STOP_STEP_MS 10
#define DONE_STEP_MS 10 /* in a drain: between two looks at the queue of dead-lettered records */
#define LOG_INTERVAL_MS 10000
/* Most exchanges with Redis, each up to redis.timeout and redis.wait_timeout, between two beats of
 * a worker. */
#define EXCHANGES_MAX 10

/* The batch of one stream that is being filled. */
struct open_batch {
    struct batch *batch; /* NULL until the stream's first event; then reused */
    uint64_t since_ms;   /* when its first event was added; a reload may change the linger */
    struct batch *kept;  /* batches that must not be claimed yet, oldest first */
    struct batch *kept_last;
};

enum worker_claimed {
    WORKER_CLAIMED, /* we have verdicts, or go on without them */
    WORKER_PARTLY,  /* we have some; the records without one must wait */
    WORKER_KEEPS,   /* not yet: the batch must wait */
    WORKER_ENDS,
};

struct worker {
    /* set before start, constant after */
    struct worker_parts parts;
    struct metrics_thread *metrics; /* written by the worker thread */
    pthread_t thread;
    size_t stream_count;
    uint32_t batch_max;
    size_t unanswered_max;
    char name[16];
    int stop_fd; /* eventfd: readable once the worker must end */

    /* any thread */
    atomic_bool stopping;
    atomic_bool done;

    /* worker thread only */
    struct claims *claims;
    struct doubted *doubted;
    uint64_t generation; /* of the claims of the present batch (reclaim.h) */
    struct l1_thread *l1;
    struct release_server *releases;
    struct vacate vacate;
    struct open_batch open[CONFIG_STREAMS_MAX];
    uint64_t asleep_ms; /* since when what is in the ring may have waited for us; 0: it has not */
    size_t unanswered;  /* how many of the kept records wait for one node of Redis */
    struct record **taken;         /* batch_max */
    struct record **duplicates;    /* batch_max */
    enum claims_verdict *verdicts; /* batch_max */
};

static bool worker_is_stopping(const struct worker *worker)
{
    /* relaxed: the flag carries no data */
    return atomic_load_explicit(&worker->stopping, memory_order_relaxed);
}

/* Beats, and says that the next step may wait for Redis. */
static void worker_beat(const struct worker *worker)
{
    const struct config *config = config_current(worker->parts.config);
    const uint64_t wait_ms = config->redis_wait_replicas > 0 ? config->redis_wait_timeout_ms : 0;

    pulse_beat(EXCHANGES_MAX * (config->redis_timeout_ms + wait_ms));
}

/* Sleeps; false: the worker must end. */
static bool worker_pause_ms(const struct worker *worker, uint64_t ms)
{
    struct pollfd stop = {.fd = worker->stop_fd, .events = POLLIN};

    worker_beat(worker);
    (void)poll(&stop, 1, (int)ms);
    return !worker_is_stopping(worker);
}

static bool worker_must_hold(const struct worker *worker)
{
    return config_current(worker->parts.config)->redis_on_failure == CONFIG_REDIS_HOLD;
}

/* Waits until we may ask Redis again, or a reload says that we need not; false: the worker must
 * end. */
static bool worker_wait_for_redis(const struct worker *worker)
{
    for (;;) {
        uint64_t ms = claims_retry_in_ms(worker->claims, clock_mono_ms());

        if (worker_is_stopping(worker))
            return false;
        if (ms == 0 || !worker_must_hold(worker))
            return true;
        if (!worker_pause_ms(worker, ms < HOLD_STEP_MS ? ms : HOLD_STEP_MS))
            return false;
    }
}

/* Asks for verdicts once. Returns 0; -EAGAIN: Redis does not answer; -EBUSY: the stream's events
 * must wait. */
static int worker_try_claim(struct worker *worker, const struct batch *batch)
{
    const uint64_t now_ms = clock_mono_ms();

    worker->generation = reclaim_generation(worker->parts.reclaim);
    switch (marks_ask(worker->parts.marks, batch->stream, now_ms)) {
    case MARKS_CLAIM:
        return claims_take(worker->claims, batch, worker->verdicts, now_ms);
    case MARKS_KEEP:
        return -EBUSY;
    case MARKS_UNSEEN:
        break;
    }
    /* While Redis works, the mark will be seen once the table is known, so wait. While it is away,
     * go on as if there were no marks. */
    if (claims_probe(worker->claims, now_ms) == 0)
        return -EBUSY;
    for (uint32_t i = 0; i < batch->count; i++)
        worker->verdicts[i] = CLAIM_UNKNOWN;
    return -EAGAIN;
}

/* Whether only some nodes of Redis are away, and there is room for the records that they have. */
static bool worker_may_go_on(const struct worker *worker, const struct batch *batch)
{
    return claims_partly_down(worker->claims) &&
           worker->unanswered + batch->count <= worker->unanswered_max;
}

/* Gets a verdict on every record of the batch, or on some if the others may wait. */
static enum worker_claimed worker_claim(struct worker *worker, const struct batch *batch)
{
    int err;

    while ((err = worker_try_claim(worker, batch)) != 0) {
        if (worker_is_stopping(worker))
            return WORKER_ENDS;
        if (err == -EBUSY)
            return WORKER_KEEPS;
        if (!worker_must_hold(worker))
            return WORKER_CLAIMED;
        if (worker_may_go_on(worker, batch))
            return WORKER_PARTLY;
        if (!worker_wait_for_redis(worker))
            return WORKER_ENDS;
    }
    return WORKER_CLAIMED;
}

/* Removes the duplicates from the batch and finishes them in the journal; the rest keeps its
 * order. */
static void worker_sort_out(struct worker *worker, struct batch *batch)
{
    size_t duplicates = 0;
    uint64_t unclaimed = 0, strange = 0;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < batch->count; i++) {
        if (worker->verdicts[i] == CLAIM_DUPLICATE) {
            worker->duplicates[duplicates++] = batch->records[i];
            continue;
        }
        unclaimed += worker->verdicts[i] == CLAIM_UNKNOWN;
        strange += worker->verdicts[i] == CLAIM_STRANGE;
        batch->records[kept++] = batch->records[i];
    }
    log_debug("batch claimed stream=%s events=%" PRIu32 " unique=%" PRIu32 " duplicates=%zu "
              "unclaimed=%" PRIu64,
              config_current(worker->parts.config)->streams[batch->stream].name, batch->count, kept,
              duplicates, unclaimed);
    batch->count = kept;
    METRIC_ADD(worker->metrics, events_unclaimed, unclaimed);
    doubted_tell_strange(worker->doubted, batch->stream, strange);
    if (duplicates == 0)
        return;
    KILL_POINT("worker_duplicates");
    for (size_t i = 0; i < duplicates; i++)
        l1_disown(worker->l1, &worker->duplicates[i]->hash, worker->duplicates[i]->lsn);
    journal_finish(worker->parts.journal, worker->duplicates, duplicates, RECORD_DUPLICATE);
    METRIC_STREAM_ADD(worker->metrics, batch->stream, duplicate_l2, duplicates);
}

/* Returns a batch, and waits for memory if there is none. NULL: the worker must end. */
static struct batch *worker_new_batch(struct worker *worker, uint16_t stream, uint32_t capacity)
{
    static struct log_limit limit;
    struct batch *batch;
    uint64_t suppressed;

    while ((batch = batch_create(stream, capacity)) == NULL) {
        if (log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
            log_error("out of memory for a batch action=retry suppressed=%llu",
                      (unsigned long long)suppressed);
        if (!worker_pause_ms(worker, MEMORY_WAIT_MS))
            return NULL;
    }
    return batch;
}

/* Submits a copy of exactly the needed size to the flusher: while ClickHouse is away, many may
 * gather there. False: the worker must end. */
static bool worker_submit(struct worker *worker, const struct batch *batch)
{
    struct batch *copy = worker_new_batch(worker, batch->stream, batch->count);

    if (copy == NULL)
        return false;
    copy->generation = worker->generation;
    for (uint32_t i = 0; i < batch->count; i++)
        batch_add(copy, batch->records[i]);
    KILL_POINT("worker_claimed");
    flusher_submit(worker->parts.flusher, copy);
    KILL_POINT("worker_submitted");
    return true;
}

static void worker_append(struct open_batch *open, struct batch *batch)
{
    batch->next = NULL;
    *(open->kept == NULL ? &open->kept : &open->kept_last->next) = batch;
    open->kept_last = batch;
}

/* Appends a record to those of its stream that wait. False: the worker must end. */
static bool worker_keep_record(struct worker *worker, struct record *record)
{
    struct open_batch *open = &worker->open[record->stream];

    if (open->kept == NULL || open->kept_last->count == open->kept_last->capacity) {
        struct batch *next = worker_new_batch(worker, record->stream, worker->batch_max);

        if (next == NULL)
            return false;
        worker_append(open, next);
    }
    batch_add(open->kept_last, record);
    return true;
}

/* The same with all of a batch. */
static bool worker_keep(struct worker *worker, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (!worker_keep_record(worker, batch->records[i]))
            return false;
    return true;
}

/* The same with the records that must wait for a verdict, those without one (all) among them: the
 * others stay in the batch. */
static bool worker_keep_unanswered(struct worker *worker, struct batch *batch, bool all)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < batch->count; i++) {
        if (worker->verdicts[i] == CLAIM_HELD || (all && worker->verdicts[i] == CLAIM_UNKNOWN)) {
            if (!worker_keep_record(worker, batch->records[i]))
                return false;
            worker->unanswered++;
            continue;
        }
        worker->verdicts[left] = worker->verdicts[i];
        batch->records[left++] = batch->records[i];
    }
    batch->count = left;
    return true;
}

/* Submits the unique events of a batch that has its verdicts, or partly: keeps those without one.
 * False: the worker must end. */
static bool worker_hand_over(struct worker *worker, struct batch *batch, bool partly)
{
    /* Only now, since asking ClickHouse may take long: what Redis has decided is decided. */
    const bool held = doubted_decide(worker->doubted, batch, worker->verdicts) > 0;

    if ((partly || held) && !worker_keep_unanswered(worker, batch, partly))
        return false;
    worker_sort_out(worker, batch);
    return batch->count == 0 || worker_submit(worker, batch);
}

/* Claims a batch, submits it or keeps its records, and empties it. False: the worker must end. */
static bool worker_finish(struct worker *worker, struct batch *batch)
{
    bool done = false;

    switch (worker_claim(worker, batch)) {
    case WORKER_CLAIMED:
        done = worker_hand_over(worker, batch, false);
        break;
    case WORKER_PARTLY:
        done = worker_hand_over(worker, batch, true);
        break;
    case WORKER_KEEPS:
        done = worker_keep(worker, batch);
        break;
    case WORKER_ENDS:
        break;
    }
    if (!done)
        return false;
    batch->count = 0;
    batch->bytes = 0;
    return true;
}

/* Claims again what the flusher has had in hand when a Redis may have forgotten it. */
static void worker_reclaim(struct worker *worker)
{
    struct batch *batch;

    while ((batch = reclaim_take_recalled(worker->parts.reclaim)) != NULL)
        worker_append(&worker->open[batch->stream], batch);
    if (doubted_reclaim(worker->doubted, worker->parts.reclaim))
        flusher_reload(worker->parts.flusher); /* it has to do with that */
}

static bool worker_has_kept(const struct worker *worker)
{
    for (size_t i = 0; i < worker->stream_count; i++)
        if (worker->open[i].kept != NULL)
            return true;
    return false;
}

static void worker_walk_kept(void *holder, vacate_visit_fn visit, void *arg)
{
    struct worker *worker = holder;

    for (size_t i = 0; i < worker->stream_count; i++)
        for (struct batch *batch = worker->open[i].kept; batch != NULL; batch = batch->next)
            for (uint32_t k = 0; k < batch->count; k++)
                visit(arg, &batch->records[k]);
}

/* Moves some of what waits here for long out of segments that the journal wants to be rid of.
 * Returns how long until there may be more to move; UINT64_MAX: nothing is wished now. */
static uint64_t worker_vacate(struct worker *worker, uint64_t now_ms)
{
    uint64_t due_ms = release_vacate(worker->releases, now_ms);

    if (worker_has_kept(worker)) {
        vacate_run(&worker->vacate, now_ms);
        if (vacate_due_ms(&worker->vacate) < due_ms)
            due_ms = vacate_due_ms(&worker->vacate);
    }
    if (due_ms == UINT64_MAX)
        return due_ms;
    return due_ms > now_ms ? due_ms - now_ms : 0;
}

/* Frees a batch that was kept, and is claimed or partly so. False: the worker must end. */
static bool worker_finish_taken(struct worker *worker, struct batch *batch, bool partly)
{
    const bool done = worker_hand_over(worker, batch, partly);

    free(batch);
    return done;
}

/* Tries the oldest kept batch of each stream: one at a time, so that the ring is taken from
 * meanwhile. False: the worker must end. */
static bool worker_finish_kept(struct worker *worker)
{
    for (size_t i = 0; i < worker->stream_count; i++) {
        struct open_batch *open = &worker->open[i];
        struct batch *batch = open->kept;
        enum worker_claimed claimed;
        size_t counted;

        if (likely(batch == NULL) || doubted_wait_ms(worker->doubted, clock_mono_ms()) > 0)
            continue;
        /* They may wait for the mark instead: the number is a bound, and need not be exact. */
        counted = batch->count < worker->unanswered ? batch->count : worker->unanswered;
        worker->unanswered -= counted;
        claimed = worker_claim(worker, batch);
        if (claimed == WORKER_KEEPS) {
            worker->unanswered += counted;
            continue;
        }
        if (claimed == WORKER_ENDS)
            return false;
        open->kept = batch->next; /* before others are appended, perhaps to this very batch */
        if (!worker_finish_taken(worker, batch, claimed == WORKER_PARTLY))
            return false;
    }
    return true;
}

/* How long until we try kept batches again; ring_wake() wakes us earlier when a stream may go
 * on. */
static uint64_t worker_kept_wait_ms(const struct worker *worker, uint64_t now_ms)
{
    uint64_t wait_ms = UINT64_MAX;

    for (size_t i = 0; i < worker->stream_count; i++) {
        if (worker->open[i].kept == NULL)
            continue;
        switch (marks_ask(worker->parts.marks, i, now_ms)) {
        case MARKS_CLAIM:
            /* It waits for a node of Redis, or is claimed at once. */
            wait_ms = claims_down(worker->claims) ? claims_retry_in_ms(worker->claims, now_ms) : 0;
            if (doubted_wait_ms(worker->doubted, now_ms) > wait_ms)
                wait_ms = doubted_wait_ms(worker->doubted, now_ms);
            return wait_ms;
        case MARKS_UNSEEN:
            wait_ms = HOLD_STEP_MS;
            break;
        case MARKS_KEEP:
            break;
        }
    }
    return wait_ms;
}

static bool worker_has_events(const struct open_batch *open)
{
    return open->batch != NULL && open->batch->count > 0;
}

static uint64_t worker_linger_left_ms(const struct worker *worker, const struct open_batch *open,
                                      uint64_t now_ms)
{
    uint64_t until_ms = open->since_ms + config_current(worker->parts.config)->worker_linger_ms;

    return until_ms > now_ms ? until_ms - now_ms : 0;
}

/* Finishes the batches whose first event has waited for linger, or all. False: the worker must
 * end. */
static bool worker_finish_due(struct worker *worker, bool all)
{
    uint64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < worker->stream_count; i++) {
        struct open_batch *open = &worker->open[i];

        if (worker_has_events(open) && (all || worker_linger_left_ms(worker, open, now_ms) == 0) &&
            !worker_finish(worker, open->batch))
            return false;
    }
    return true;
}

/* The batch for the stream's next event; NULL: the worker must end. */
static struct batch *worker_open_batch(struct worker *worker, uint16_t stream)
{
    struct open_batch *open = &worker->open[stream];

    while (open->batch == NULL) {
        open->batch = batch_create(stream, worker->batch_max);
        if (open->batch == NULL && !worker_pause_ms(worker, MEMORY_WAIT_MS))
            return NULL;
    }
    if (open->batch->count == 0)
        open->since_ms = worker->asleep_ms != 0 ? worker->asleep_ms : clock_mono_ms();
    return open->batch;
}

/* Adds the n taken records to their batches and finishes the full ones. False: the worker must
 * end. */
static bool worker_distribute(struct worker *worker, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct record *record = worker->taken[i];
        struct batch *batch;

        ALLOY_ASSERT(record->stream < worker->stream_count);
        batch = worker_open_batch(worker, record->stream);
        if (batch == NULL)
            return false;
        batch_add(batch, record);
        if (batch->count == batch->capacity && !worker_finish(worker, batch))
            return false;
    }
    if (n < worker->batch_max)
        worker->asleep_ms = 0;
    return true;
}

/* How many events more fill one of the open batches; 0: none is open. */
static size_t worker_room(const struct worker *worker)
{
    size_t room = 0;

    for (size_t i = 0; i < worker->stream_count; i++) {
        const struct batch *batch = worker->open[i].batch;

        if (worker_has_events(&worker->open[i]) &&
            (room == 0 || batch->capacity - batch->count < room))
            room = batch->capacity - batch->count;
    }
    return room;
}

static uint64_t worker_least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How long to sleep on the ring: until the next linger ends, or we may ask Redis again; at most
 * wait_ms. */
static uint64_t worker_sleep_ns(const struct worker *worker, uint64_t wait_ms)
{
    const uint64_t now_ms = clock_mono_ms();

    wait_ms = worker_least(wait_ms, worker_kept_wait_ms(worker, now_ms));
    for (size_t i = 0; i < worker->stream_count; i++)
        if (worker_has_events(&worker->open[i]))
            wait_ms =
                worker_least(wait_ms, worker_linger_left_ms(worker, &worker->open[i], now_ms));
    wait_ms = worker_least(wait_ms, claims_idle_in_ms(worker->claims, now_ms));
    wait_ms = worker_least(wait_ms, claims_replicas_due_in_ms(worker->claims, now_ms));
    /* What is due at a Redis that is away stays due until it is back. */
    wait_ms = worker_least(wait_ms, claims_down(worker->claims)
                                        ? claims_retry_in_ms(worker->claims, now_ms)
                                        : distrust_left_ms(worker->parts.distrust, now_ms));
    return wait_ms == UINT64_MAX ? UINT64_MAX : wait_ms * CLOCK_NS_PER_MS;
}

/* Sleeps on the ring. While a batch lingers, what comes may as well wait in the ring for its end,
 * or until a batch is full: a wake-up for each turn costs more than the events do. */
static void worker_sleep(struct worker *worker, uint32_t epoch, uint64_t wait_ms)
{
    struct ring *ring = worker->parts.ring;
    const uint64_t ns = worker_sleep_ns(worker, wait_ms);
    size_t many = worker_room(worker);

    if (many > ring_many_max(ring))
        many = ring_many_max(ring);
    if (many <= 1) {
        ring_wait_since(ring, epoch, ns);
        return;
    }
    if (worker->asleep_ms == 0)
        worker->asleep_ms = clock_mono_ms();
    ring_wait_for_many(ring, epoch, many, ns);
}

/* All events are submitted. Rows that ClickHouse then refuses come back here for release, until the
 * drain is over. */
static void worker_serve_to_the_end(struct worker *worker)
{
    do {
        (void)release_serve(worker->releases, clock_mono_ms());
    } while (worker_pause_ms(worker, DONE_STEP_MS));
}

/* The ring is empty: sleeps, or, once it is closed, submits what is left. False: all is done, or
 * the worker must end. */
static bool worker_idle(struct worker *worker)
{
    /* Read it before we look for records to release, or we would miss a wake-up in between. */
    const uint32_t epoch = ring_epoch(worker->parts.ring);
    uint64_t wait_ms;

    if (ring_closed(worker->parts.ring)) {
        if (!worker_finish_due(worker, true))
            return false;
        if (ring_depth(worker->parts.ring) == 0 && !worker_has_kept(worker)) {
            /* release: pairs with the acquire in worker_done() */
            atomic_store_explicit(&worker->done, true, memory_order_release);
            worker_serve_to_the_end(worker);
            return false;
        }
        /* Not with ring_wait(), which does not sleep on a closed ring. */
        return worker_pause_ms(worker, CLOSING_WAIT_MS);
    }
    /* While no event comes that would show that Redis is back, a probe does; its result goes to
     * /readyz and the metrics. */
    if (claims_down(worker->claims) && claims_retry_in_ms(worker->claims, clock_mono_ms()) == 0)
        (void)!claims_probe(worker->claims, clock_mono_ms());
    if (claims_idle_in_ms(worker->claims, clock_mono_ms()) == 0)
        claims_ping(worker->claims, clock_mono_ms());
    if (claims_replicas_due_in_ms(worker->claims, clock_mono_ms()) == 0)
        claims_ask_replicas(worker->claims, clock_mono_ms());
    if (!claims_down(worker->claims) && distrust_turn(worker->parts.distrust, clock_mono_ms()))
        claims_look(worker->claims, clock_mono_ms());
    wait_ms = release_serve(worker->releases, clock_mono_ms());
    wait_ms = worker_least(wait_ms, worker_vacate(worker, clock_mono_ms()));
    worker_sleep(worker, epoch, worker_least(wait_ms, PULSE_SLEEP_MAX_MS));
    return true;
}

/* Runs on the worker's thread, since only the thread that made an l1_thread may use it. False: the
 * worker must end. */
static bool worker_prepare_releases(struct worker *worker)
{
    while (worker->releases == NULL) {
        if (worker->l1 == NULL)
            worker->l1 = l1_thread_create(worker->parts.l1);
        if (worker->l1 != NULL)
            worker->releases = release_server_create(&(struct release_server_parts){
                .release = worker->parts.release,
                .journal = worker->parts.journal,
                .claims = worker->claims,
                .l1 = worker->l1,
                .l1_decides = *config_current(worker->parts.config)->redis_url == '\0',
                .metrics = worker->metrics});
        if (worker->releases == NULL && !worker_pause_ms(worker, MEMORY_WAIT_MS))
            return false;
    }
    return true;
}

static void *worker_run(void *arg)
{
    struct worker *worker = arg;

    pulse_join(worker->name);
    if (!worker_prepare_releases(worker))
        goto end;
    /* Reports a wrong redis.url or password at start rather than with the first event. */
    (void)!claims_probe(worker->claims, clock_mono_ms());
    while (!worker_is_stopping(worker)) {
        size_t n;

        worker_beat(worker);
        worker_reclaim(worker);
        /* First, so that what waited in the ring for the end of a batch's linger goes with it. */
        n = ring_take(worker->parts.ring, worker->taken, worker->batch_max);
        if (n > 0 && !worker_distribute(worker, n))
            break;
        if (n == 0)
            worker->asleep_ms = 0;
        if (!worker_finish_kept(worker) || !worker_finish_due(worker, false))
            break;
        (void)release_serve(worker->releases, clock_mono_ms());
        (void)worker_vacate(worker, clock_mono_ms());
        if (n == 0 && !worker_idle(worker))
            break;
    }
end:
    release_server_destroy(worker->releases);
    l1_thread_destroy(worker->l1);
    pulse_leave();
    return NULL;
}

static void worker_free_worker(struct worker *worker)
{
    if (worker->stop_fd >= 0)
        close(worker->stop_fd);
    for (size_t i = 0; i < CONFIG_STREAMS_MAX; i++) {
        free(worker->open[i].batch);
        while (worker->open[i].kept != NULL) {
            struct batch *batch = worker->open[i].kept;

            worker->open[i].kept = batch->next;
            free(batch);
        }
    }
    doubted_destroy(worker->doubted);
    claims_destroy(worker->claims);
    free(worker->taken);
    free(worker->duplicates);
    free(worker->verdicts);
    free(worker);
}

/* Makes everything that the thread needs. Returns 0, or -errno and leaves what was made in
 * place. */
static int worker_prepare(struct worker *worker)
{
    const struct config *config = config_current(worker->parts.config);
    size_t n = config->worker_batch;

    worker->stream_count = CONFIG_STREAMS_MAX; /* streams may come */
    worker->batch_max = (uint32_t)n;
    worker->unanswered_max =
        config->ring_capacity / (config->worker_threads > 0 ? config->worker_threads : 1);
    if (worker->unanswered_max < n)
        worker->unanswered_max = n;
    worker->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (worker->stop_fd < 0)
        return -errno;
    worker->metrics = metrics_thread_create(worker->parts.metrics);
    worker->taken = calloc(n, sizeof(struct record *));
    worker->duplicates = calloc(n, sizeof(struct record *));
    worker->verdicts = calloc(n, sizeof(*worker->verdicts));
    if (worker->metrics == NULL || worker->taken == NULL || worker->duplicates == NULL ||
        worker->verdicts == NULL)
        return -ENOMEM;
    worker->claims = claims_create(&(struct claims_parts){
        .config = worker->parts.config,
        .health = worker->parts.health,
        .metrics = worker->parts.metrics,
        .thread_metrics = worker->metrics,
        .instance_id = journal_instance_id(worker->parts.journal),
        .watch_layout = true,
        .distrust = worker->parts.distrust,
    });
    if (worker->claims == NULL)
        return -EINVAL;
    worker->doubted = doubted_create(&(struct doubted_parts){.config = worker->parts.config,
                                                             .claims = worker->claims,
                                                             .distrust = worker->parts.distrust,
                                                             .metrics = worker->metrics});
    return worker->doubted != NULL ? 0 : -ENOMEM;
}

int worker_start(struct worker **out, const struct worker_parts *parts, unsigned number)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    int err;

    if (worker == NULL)
        return -ENOMEM;
    worker->parts = *parts;
    vacate_init(&worker->vacate, parts->journal, worker_walk_kept, worker);
    snprintf(worker->name, sizeof(worker->name), "worker-%u", number % 1000);
    worker->stop_fd = -1;
    err = worker_prepare(worker);
    if (err == 0)
        err = -pthread_create(&worker->thread, NULL, worker_run, worker);
    if (err != 0) {
        worker_free_worker(worker);
        return err;
    }
    pthread_setname_np(worker->thread, worker->name);
    *out = worker;
    return 0;
}

bool worker_done(const struct worker *worker)
{
    /* acquire: pairs with the release in worker_idle(); we then see what the worker submitted */
    return atomic_load_explicit(&worker->done, memory_order_acquire);
}

void worker_stop(struct worker *worker)
{
    uint64_t one = 1;
    struct timespec until;

    atomic_store_explicit(&worker->stopping, true, memory_order_relaxed);
    claims_cancel(worker->claims);
    (void)!write(worker->stop_fd, &one, sizeof(one)); /* cannot fail: the counter is 0 */
    /* The thread may look at stopping just before this and fall asleep on the ring just after the
     * wake-up: so wake it until it has ended. */
    do {
        ring_wake(worker->parts.ring);
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += STOP_STEP_MS * (long)CLOCK_NS_PER_MS;
        if (until.tv_nsec >= (long)CLOCK_NS_PER_S) {
            until.tv_nsec -= (long)CLOCK_NS_PER_S;
            until.tv_sec++;
        }
    } while (pthread_timedjoin_np(worker->thread, NULL, &until) == ETIMEDOUT);
    worker_free_worker(worker);
}
