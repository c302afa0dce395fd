/* SPDX-License-Identifier: Apache-2.0 */
/*
 * burial.c - the thread that writes refused rows to the dead-letter folder.
 *
 * It takes all rows that wait, up to a bound, and writes them as one group, with a sync for each
 * file and not for each row. The order lets the next start repair a crash at any point:
 *
 *   1. The group's lines are synced. After a crash before that, the row is sent and refused again.
 *   2. Waiters of the event learn the reason, since the record may be DEAD right after 3.
 *   3. The record goes to the release queue (release.h), which releases its id and marks it DEAD. A
 *      start after 1 finds the line (buried.h) and goes on from here.
 *
 * When a row cannot be written (the folder is full or broken, or the release queue is full), all
 * rows that wait are parked: /readyz says why, and we try again after a pause. They keep their
 * order; what a group could not write goes back to the head of the queue.
 *
 * Runs on: burial_submit() on any thread; the rest on a thread of its own.
 * Owns: the waiting rows with their messages, and the dead-letter folder.
 */
#define LOG_MODULE "burial"

#include "burial.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "alloy/clock.h"
#include "alloy/dead_letter.h"
#include "alloy/kill_point.h"
#include "alloy/log.h"
#include "alloy/pulse.h"
#include "alloy/vacate.h"
#include "alloy/waiter.h"

#define GROUP_MAX 1024          /* rows */
#define GROUP_BYTES (16u << 20) /* about: we take no more rows beyond it */
#define RETRY_MS 5000
#define LOG_INTERVAL_MS 60000

/* A refused row that waits to be written. */
struct row {
    struct row *next;
    struct record *record;
    struct release_item *item; /* its place in the release queue, while its group is written */
    int code;
    size_t len;
    char message[];
};

struct row_list {
    struct row *first;
    struct row **end; /* where to link the next one */
};

struct burial {
    struct burial_parts parts; /* set before start, constant after */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* under lock */
    struct row_list waiting;
    size_t count;  /* rows that wait, or are in the group that is being written */
    size_t parked; /* the oldest of these, which the folder did not take; the gauge */
    bool holding;  /* the folder takes nothing: new rows are parked at once */
    bool stop;
    /* burial thread only */
    struct dead_letter *dead_letter;
    struct vacate vacate;
    struct row_list moving; /* all that waits, while its records are moved */
    int parked_err;         /* why rows were parked the last time; 0: never */
    struct log_limit limit;
    struct row *rows[GROUP_MAX]; /* the group */
    struct dead_letter_line lines[GROUP_MAX];
};

static void burial_list_init(struct row_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

/* Sets the number of parked rows. Under the lock, so that the gauge never goes back to an older
 * value. */
static void burial_set_parked(struct burial *burial, size_t parked)
{
    burial->parked = parked;
    METRIC_GAUGE_SET(burial->parts.metrics, dead_letter_parked, (int64_t)parked);
}

static void burial_walk(void *holder, vacate_visit_fn visit, void *arg)
{
    const struct burial *burial = holder;

    for (struct row *row = burial->moving.first; row != NULL; row = row->next)
        visit(arg, &row->record);
}

/* Puts all of `from` before what waits. Under the lock. */
static void burial_prepend(struct burial *burial, struct row_list *from)
{
    if (from->first == NULL)
        return;
    *from->end = burial->waiting.first;
    if (burial->waiting.first == NULL)
        burial->waiting.end = from->end;
    burial->waiting.first = from->first;
    burial_list_init(from);
}

/* Moves records of rows that wait long out of segments that the journal wants to be rid of. Under
 * the lock, but not while it moves: that syncs, and the flusher must not wait for it. */
static void burial_vacate(struct burial *burial, uint64_t now_ms)
{
    if (burial->waiting.first == NULL || vacate_due_ms(&burial->vacate) > now_ms)
        return;
    burial->moving.first = burial->waiting.first;
    burial->moving.end = burial->waiting.end;
    burial_list_init(&burial->waiting);
    pthread_mutex_unlock(&burial->lock);
    vacate_run(&burial->vacate, now_ms);
    pthread_mutex_lock(&burial->lock);
    burial_prepend(burial, &burial->moving);
}

/* Sleeps until there is a row to write, and its time has come, or the end. Under the lock. */
static void burial_wait(struct burial *burial, uint64_t retry_at_ms)
{
    uint64_t now_ms = clock_mono_ms();

    while (!burial->stop && (burial->waiting.first == NULL || now_ms < retry_at_ms)) {
        uint64_t until_ms = now_ms + PULSE_SLEEP_MAX_MS;

        if (now_ms < retry_at_ms && retry_at_ms < until_ms)
            until_ms = retry_at_ms;
        if (burial->waiting.first != NULL && vacate_due_ms(&burial->vacate) < until_ms)
            until_ms = vacate_due_ms(&burial->vacate);
        const struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
                                       .tv_nsec = (long)(until_ms % 1000 * CLOCK_NS_PER_MS)};
        pthread_cond_timedwait(&burial->wake, &burial->lock, &until);
        pulse_beat(0);
        now_ms = clock_mono_ms();
        burial_vacate(burial, now_ms);
    }
}

/* Waits for rows, and moves the oldest into the group. Returns how many; 0: the end. */
static size_t burial_take(struct burial *burial, uint64_t retry_at_ms)
{
    struct row_list *waiting = &burial->waiting;
    size_t bytes = 0;
    size_t n = 0;

    pthread_mutex_lock(&burial->lock);
    burial_wait(burial, retry_at_ms);
    while (!burial->stop && n < GROUP_MAX && bytes < GROUP_BYTES && waiting->first != NULL) {
        bytes += waiting->first->record->body_length;
        burial->rows[n++] = waiting->first;
        waiting->first = waiting->first->next;
    }
    if (waiting->first == NULL)
        waiting->end = &waiting->first;
    pthread_mutex_unlock(&burial->lock);
    return n;
}

/* Puts rows[0] .. rows[n - 1] back before all others. Under the lock. */
static void burial_put_back(struct burial *burial, size_t n)
{
    struct row_list list;

    burial_list_init(&list);
    for (size_t i = 0; i < n; i++) {
        *list.end = burial->rows[i];
        list.end = &burial->rows[i]->next;
    }
    burial_prepend(burial, &list);
}

/* Writes the first n rows of the group, for which there is room in the release queue. */
static int burial_write_lines(struct burial *burial, size_t n)
{
    const struct config *config = config_current(burial->parts.config);
    const struct dead_letter_order order = {
        .real_ms = clock_real_ms(),
        .instance_id = journal_instance_id(burial->parts.journal),
        .max_bytes = config->dead_letter_max_bytes_bytes,
        .key = burial->parts.replay_key,
    };
    int err;

    for (size_t i = 0; i < n; i++) {
        const struct row *row = burial->rows[i];
        const struct config_stream *stream = &config->streams[row->record->stream];

        burial->lines[i] = (struct dead_letter_line){
            .record = row->record,
            .stream = stream->name,
            .tell_id = !config_id_is_in_event(stream),
            .code = row->code,
            .message = {row->message, row->len},
        };
    }
    err = dead_letter_write_lines(burial->dead_letter, burial->lines, n, &order);
    METRIC_GAUGE_SET(burial->parts.metrics, dead_letter_bytes,
                     (int64_t)dead_letter_bytes(burial->dead_letter));
    return err;
}

/* Notes a letter for the page: with the event only where the operator wants it. */
static void burial_note(struct burial *burial, const struct row *row)
{
    const struct record *record = row->record;
    const size_t skipped = 1u + record->columns_length; /* the brace, and the request's columns */
    struct setback setback = {
        .time_ms = clock_real_ms(), .rows = 1, .stream = record->stream, .code = row->code};

    if (config_current(burial->parts.config)->admin_show_events && record->body_length >= skipped) {
        setbacks_copy(setback.message, SETBACKS_MESSAGE_MAX,
                      (struct slice){row->message, row->len});
        setback.event[0] = '{';
        setbacks_copy(setback.event + 1, SETBACKS_EVENT_MAX - 1,
                      (struct slice){record->body + skipped, record->body_length - skipped});
    }
    setbacks_note(burial->parts.setbacks, SETBACK_LETTER, &setback);
}

/* The row's line is safe on disk: passes the record on. */
static void burial_let_go(struct burial *burial, struct row *row)
{
    const struct config *config = config_current(burial->parts.config);
    struct waiter_table *waiters = journal_waiters(burial->parts.journal);
    const uint64_t ttl_ms = config_claim_ms(config, row->record->stream);

    KILL_POINT("dead_letter_written");
    burial_note(burial, row);
    /* Waiters hear of the event once the record is DEAD, and must know the reason by then. */
    if (waiters != NULL)
        waiter_reason(waiters, row->record, row->code, (struct slice){row->message, row->len});
    release_push(burial->parts.release, row->item, row->record, clock_mono_ms() + ttl_ms);
    free(row);
}

/* Writes the group of n rows. Moves rows that were not written to rows[0] .. rows[*kept - 1].
 * Returns 0, or why a row was not written; -EAGAIN: the release queue is full. */
static int burial_write_group(struct burial *burial, size_t n, size_t *kept)
{
    struct release *release = burial->parts.release;
    size_t prepared = 0;
    int err = 0;

    *kept = 0;
    while (prepared < n && (burial->rows[prepared]->item = release_prepare(release)) != NULL)
        prepared++;
    if (prepared > 0)
        err = burial_write_lines(burial, prepared);
    if (err == 0 && prepared < n)
        err = -EAGAIN;
    for (size_t i = 0; i < n; i++) {
        struct row *row = burial->rows[i];

        if (i < prepared && burial->lines[i].err == 0) {
            burial_let_go(burial, row);
            continue;
        }
        if (i < prepared)
            release_cancel(release, row->item);
        burial->rows[(*kept)++] = row;
    }
    if (n > *kept)
        burial->parts.settled(burial->parts.arg, n - *kept);
    return err;
}

/* Reports why rows must wait. */
static void burial_tell_held(struct burial *burial, int err)
{
    const char *dir = config_current(burial->parts.config)->dead_letter_dir;
    char why[HEALTH_TEXT_MAX];
    uint64_t suppressed = 0;

    if (err == -EAGAIN)
        snprintf(why, sizeof(why), "too many ids wait to be released in Redis");
    else if (err == -ENOSPC)
        snprintf(why, sizeof(why), "dead_letter.max_bytes or the disk of %s is used up", dir);
    else
        snprintf(why, sizeof(why), "%s cannot be written: %s", dir, strerror(-err));
    health_raise(burial->parts.health, "dead_letter", false,
                 "refused events stay in the journal: %s", why);
    if (err != burial->parked_err ||
        log_limit_pass(&burial->limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_error("refused events stay in the journal reason=\"%s\" suppressed=%" PRIu64, why,
                  suppressed);
    burial->parked_err = err;
}

/*
 * Finishes a group of n rows, of which the first `kept` of rows[] were not written because of err.
 * Returns true when the last parked row is written.
 */
static bool burial_settle_group(struct burial *burial, size_t n, size_t kept, int err)
{
    const size_t written = n - kept;
    size_t parked;
    bool last;

    pthread_mutex_lock(&burial->lock);
    burial_put_back(burial, kept);
    burial->count -= written;
    burial->holding = err != 0;
    parked = burial->parked;
    if (err != 0)
        parked = burial->count;
    else
        parked -= parked < written ? parked : written; /* they are the oldest */
    last = parked == 0 && burial->parked > 0;
    burial_set_parked(burial, parked);
    pthread_mutex_unlock(&burial->lock);
    return last;
}

static void *burial_run(void *arg)
{
    struct burial *burial = arg;
    uint64_t retry_at_ms = 0;
    size_t n;

    pulse_join("burial");
    while ((n = burial_take(burial, retry_at_ms)) > 0) {
        const uint64_t pause_ms = config_current(burial->parts.config)->clickhouse_retry_max_ms;
        size_t kept;
        int err = burial_write_group(burial, n, &kept);
        bool last = burial_settle_group(burial, n, kept, err);

        /* Outside the lock, so that the flusher never waits for the log. */
        if (err != 0) {
            burial_tell_held(burial, err);
            retry_at_ms = clock_mono_ms() + (pause_ms < RETRY_MS ? pause_ms : RETRY_MS);
        } else if (last) {
            health_clear(burial->parts.health, "dead_letter");
            log_info("no refused event is left in the journal");
        }
    }
    pulse_leave();
    return NULL;
}

static void burial_destroy(struct burial *burial)
{
    while (burial->waiting.first != NULL) {
        struct row *row = burial->waiting.first;

        burial->waiting.first = row->next;
        free(row);
    }
    dead_letter_close(burial->dead_letter);
    pthread_cond_destroy(&burial->wake);
    pthread_mutex_destroy(&burial->lock);
    free(burial);
}

int burial_start(struct burial **burial, const struct burial_parts *parts,
                 char error[FLUSHER_ERROR_MAX])
{
    const char *dir = config_current(parts->config)->dead_letter_dir;
    struct burial *started = calloc(1, sizeof(*started));
    pthread_condattr_t monotonic;
    int err;

    snprintf(error, FLUSHER_ERROR_MAX,
             "cannot start the thread for dead letters: out of memory or threads");
    if (started == NULL)
        return -ENOMEM;
    started->parts = *parts;
    burial_list_init(&started->waiting);
    burial_list_init(&started->moving);
    vacate_init(&started->vacate, parts->journal, burial_walk, started);
    pthread_mutex_init(&started->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&started->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    err = dead_letter_open(&started->dead_letter, dir);
    if (err != 0) {
        snprintf(error, FLUSHER_ERROR_MAX, "cannot use dead-letter folder %s: %s", dir,
                 strerror(-err));
        goto destroy_started;
    }
    METRIC_GAUGE_SET(parts->metrics, dead_letter_bytes,
                     (int64_t)dead_letter_bytes(started->dead_letter));
    err = -pthread_create(&started->thread, NULL, burial_run, started);
    if (err != 0)
        goto destroy_started;
    pthread_setname_np(started->thread, "alloy-burial");
    *burial = started;
    return 0;

destroy_started:
    burial_destroy(started);
    return err;
}

int burial_submit(struct burial *burial, struct record *record, int code, struct slice message)
{
    const struct slice kept = dead_letter_cut(message);
    struct row *row = malloc(sizeof(*row) + kept.len);
    bool taken;

    if (row == NULL)
        return -ENOBUFS;
    *row = (struct row){.record = record, .code = code, .len = kept.len};
    if (kept.len > 0)
        memcpy(row->message, kept.data, kept.len);
    pthread_mutex_lock(&burial->lock);
    taken = burial->count < BURIAL_MAX;
    if (taken) {
        burial->count++;
        *burial->waiting.end = row;
        burial->waiting.end = &row->next;
        if (burial->holding)
            burial_set_parked(burial, burial->parked + 1);
        pthread_cond_signal(&burial->wake);
    }
    pthread_mutex_unlock(&burial->lock);
    if (taken)
        return 0;
    free(row);
    return -ENOBUFS;
}

void burial_stop(struct burial *burial)
{
    if (burial == NULL)
        return;
    pthread_mutex_lock(&burial->lock);
    burial->stop = true;
    pthread_cond_signal(&burial->wake);
    pthread_mutex_unlock(&burial->lock);
    pthread_join(burial->thread, NULL);
    burial_destroy(burial);
}
