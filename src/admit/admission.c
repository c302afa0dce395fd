/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission.c - decides on all requests that one turn of an event loop has completed.
 *
 * The order is the guarantee. Room first: ring slots and journal bytes are reserved before anything
 * is written, so that a 503 leaves no trace. Then the journal, and with sync = always the disk.
 * Only then L1: an id is in L1 only when its event is safe, so a duplicate is never told 202 on the
 * strength of an event that could still vanish. Of two events with one id that get this far
 * together add_unique picks one; the other's record and slot are given up. Publication cannot fail.
 *
 * Runs on: the front-end thread that owns the struct.
 * Owns: the list of this turn's events; their bytes belong to the connections' receive buffers.
 */
#include "alloy/admission.h"

#include "alloy/kill_point.h"

#include <errno.h>
#include <string.h>

/* A turn above these was unusually large: we free its memory. */
#define EVENTS_KEPT 4096
#define COPIES_KEPT (64 * 1024)
/* One step of admission_commit_some(): about a tenth of a millisecond. */
#define STEP_EVENTS 250
#define BATCH_EVENTS 512    /* between l1_hold() and l1_release() */
#define PREFETCH_LEAD 8     /* ids between two looks: what is fetched comes from memory */
#define COLUMN_KINDS_MAX 32 /* in a request */
#define STEP_BYTES (128 * 1024)

struct event {
    struct journal_entry entry;
    size_t id_at;      /* offset of a copied id in copies; the commit sets entry.id.data from it */
    size_t columns_at; /* the same for entry.columns */
    size_t bytes;      /* of its record; 0: it is known */
    struct record *record;
    bool known; /* its id was in L1 before this turn, or, after admission_enter(), another event got
                   in first */
};

/* Columns of a request without those that some events have themselves. */
struct column_kind {
    uint32_t but;
    size_t at;
    size_t len;
};

struct request {
    bool too_many_kinds; /* of columns: refused */
    size_t first;
    size_t count;
    size_t copies_before; /* its own */
    uint16_t stream;
    enum admission_ack ack;
    struct admission_result result;
};

/* What admission_commit_some() does next. */
enum commit_step {
    COMMIT_LOOK_UP,
    COMMIT_APPEND,
    COMMIT_ENTER,
};

struct admission {
    struct admission_parts parts;
    struct event *events;
    size_t event_count, event_capacity;
    struct request *requests;
    size_t request_count, request_capacity;
    bool ack_disk;  /* some request of the turn wants its events on disk */
    bool too_large; /* some event of the turn fits into no segment */
    size_t held;    /* ids since l1_hold() */
    char *copies;   /* canonical ids that had to be copied, and columns */
    size_t copies_len, copies_capacity;
    size_t columns_at; /* in copies: the columns of the events that are added now */
    size_t columns_len;
    struct column_kind kinds[COLUMN_KINDS_MAX]; /* of the request opened last */
    size_t kind_count;
    size_t kind_first; /* of those that hold for the events that are added now */
    /* one element for each event: the commit's work space */
    size_t *sizes;
    struct record **records;
    /* admission_commit_some() */
    enum commit_step step;
    size_t step_at;       /* the next event */
    size_t record_count;  /* how many of records have entered L1 */
    unsigned full_streak; /* requests refused since the last one that was not, for a full ring */
};

/* So many requests refused in a row for a full ring are an overload, and not one large request. */
#define SHED_STREAK 32
/* The part of the ring's capacity that must be free until requests are scanned again. */
#define SHED_SHARE 32

/* Grows an array to hold at least want elements. Aborts without memory: a process that has no few
 * KiB left cannot go on. */
static void *admission_grow(void *array, size_t *capacity, size_t want, size_t element)
{
    size_t next = *capacity == 0 ? 64 : *capacity;

    if (want <= *capacity)
        return array;
    while (next < want)
        next *= 2;
    array = reallocarray(array, next, element);
    ALLOY_ASSERT(array != NULL);
    *capacity = next;
    return array;
}

static void admission_events_reserve(struct admission *admission, size_t want)
{
    size_t capacity = admission->event_capacity;

    if (want <= capacity)
        return;
    admission->events = admission_grow(admission->events, &admission->event_capacity, want,
                                       sizeof(*admission->events));
    capacity = admission->event_capacity;
    admission->sizes = reallocarray(admission->sizes, capacity, sizeof(*admission->sizes));
    admission->records = reallocarray(admission->records, capacity, sizeof(*admission->records));
    ALLOY_ASSERT(admission->sizes != NULL && admission->records != NULL);
}

/* Makes the hashes of events [from, to), and fetches what their look-ups will read. Each of them
 * would wait for memory twice, one after the other; so they wait together. */
static void admission_hash(struct admission *admission, size_t from, size_t to)
{
    struct l1_thread *l1 = admission->parts.l1;

    for (size_t i = from; i < to; i++) {
        struct event *event = &admission->events[i];

        if (!event->entry.id_verbatim)
            event->entry.id.data = admission->copies + event->id_at;
        if (unlikely(event->entry.columns.len > 0))
            event->entry.columns.data = admission->copies + event->columns_at;
        event->entry.hash = event_id_hash(&admission->parts.stream_keys[event->entry.stream],
                                          event->entry.id.data, event->entry.id.len);
        l1_prefetch(l1, &event->entry.hash);
        if (i >= from + PREFETCH_LEAD)
            l1_prefetch_first(l1, &event[-PREFETCH_LEAD].entry.hash);
    }
}

/* In a turn of many events those that come next are in no near cache any more. */
static void admission_fetch_event(const struct event *event, size_t left)
{
    if (left <= PREFETCH_LEAD)
        return;
    __builtin_prefetch(&event[PREFETCH_LEAD]);
    __builtin_prefetch(&event[PREFETCH_LEAD].record);
}

/* Neither are the lines of L1 that their ids were looked up in. */
static void admission_fetch_again(struct l1_thread *l1, const struct event *event, size_t left)
{
    if (left > 2 * PREFETCH_LEAD)
        l1_prefetch(l1, &event[2 * PREFETCH_LEAD].entry.hash);
    if (left > PREFETCH_LEAD)
        l1_prefetch_first(l1, &event[PREFETCH_LEAD].entry.hash);
}

/* Looks up the ids of events [from, to), at most BATCH_EVENTS, of any requests: a read section
 * costs as much as an id. */
static void admission_look_up(struct admission *admission, size_t from, size_t to, uint64_t now_ms)
{
    const size_t bytes_max = journal_entry_bytes_max(admission->parts.journal);
    struct l1_thread *l1 = admission->parts.l1;

    l1_hold(l1);
    for (size_t i = from; i < to; i++) {
        struct event *event = &admission->events[i];

        if (to - i > PREFETCH_LEAD)
            l1_prefetch_second(l1, &event[PREFETCH_LEAD].entry.hash);
        event->known = l1_knows(l1, event->entry.stream, &event->entry.hash, now_ms);
        event->bytes = event->known ? 0 : journal_entry_bytes(&event->entry);
        admission->too_large |= event->bytes > bytes_max;
    }
    l1_release(l1);
}

static size_t admission_batch_end(size_t at, size_t to)
{
    return to - at > BATCH_EVENTS ? at + BATCH_EVENTS : to;
}

/* Whether each of a request's events fits into a segment. */
static bool admission_fits(const struct admission *admission, const struct request *request)
{
    const size_t bytes_max = journal_entry_bytes_max(admission->parts.journal);

    for (size_t i = request->first; i < request->first + request->count; i++)
        if (admission->events[i].bytes > bytes_max)
            return false;
    return true;
}

/* False: the request has more events than the ring can ever take, and is refused. */
static bool admission_judge_count(const struct admission *admission, struct request *request)
{
    bool fits = request->count <= ring_capacity(admission->parts.ring) && !request->too_many_kinds;

    request->result.verdict = fits ? ADMISSION_ACCEPTED : ADMISSION_TOO_LARGE;
    return fits;
}

/* Judges a request once its events are looked up. One that could never fit is refused for that: a
 * 503 would make its client retry for ever. */
static void admission_judge(struct admission *admission, struct request *request)
{
    if (!admission_judge_count(admission, request))
        return;
    if (unlikely(admission->too_large) && !admission_fits(admission, request))
        request->result.verdict = ADMISSION_TOO_LARGE;
    if (ring_closed(admission->parts.ring))
        request->result.verdict = ADMISSION_DRAINING;
    if (unlikely(request->ack == ADMISSION_ACK_CLICKHOUSE) &&
        request->result.verdict == ADMISSION_ACCEPTED) {
        request->result.waiter = waiter_create(admission->parts.inbox, (uint32_t)request->count);
        if (request->result.waiter == NULL)
            request->result.verdict = ADMISSION_WAITING_FULL;
    }
}

/*
 * Reserves ring slots and journal room for the fresh events of requests [first, last), all or none.
 * Skips requests that are already refused.
 */
static enum admission_verdict admission_reserve(struct admission *admission, size_t first,
                                                size_t last)
{
    const struct admission_parts *parts = &admission->parts;
    size_t n = 0;
    int err;

    for (size_t r = first; r < last; r++) {
        const struct request *request = &admission->requests[r];

        if (request->result.verdict != ADMISSION_ACCEPTED)
            continue;
        for (size_t i = request->first; i < request->first + request->count; i++)
            if (!admission->events[i].known)
                admission->sizes[n++] = admission->events[i].bytes;
    }
    if (n == 0)
        return ADMISSION_ACCEPTED;
    if (!ring_reserve(parts->ring, n))
        return ring_closed(parts->ring) ? ADMISSION_DRAINING : ADMISSION_RING_FULL;
    err = journal_writer_reserve(parts->writer, admission->sizes, n);
    KILL_POINT("admission_reserved");
    if (err != 0) {
        ring_cancel(parts->ring, n);
        return err == -ENOSPC ? ADMISSION_JOURNAL_FULL : ADMISSION_JOURNAL_ERROR;
    }
    return ADMISSION_ACCEPTED;
}

static void admission_append_event(struct admission *admission, struct event *event,
                                   uint64_t real_ms)
{
    if (!event->known)
        event->record = journal_writer_append(admission->parts.writer, &event->entry, real_ms);
}

/* Appends what admission_reserve() has made room for. */
static void admission_append(struct admission *admission, size_t first, size_t last,
                             uint64_t real_ms)
{
    for (size_t r = first; r < last; r++) {
        const struct request *request = &admission->requests[r];

        if (request->result.verdict != ADMISSION_ACCEPTED)
            continue;
        for (size_t i = request->first; i < request->first + request->count; i++) {
            admission_fetch_event(&admission->events[i], admission->event_count - i);
            admission_append_event(admission, &admission->events[i], real_ms);
        }
    }
}

/* A sync failed: gives up what was appended, before any client has heard of it. */
static void admission_give_up(struct admission *admission, struct request *request)
{
    size_t n = 0;

    if (request->result.verdict != ADMISSION_ACCEPTED)
        return;
    request->result.verdict = ADMISSION_JOURNAL_ERROR;
    for (size_t i = request->first; i < request->first + request->count; i++)
        if (!admission->events[i].known)
            admission->records[n++] = admission->events[i].record;
    if (n == 0)
        return;
    journal_finish(admission->parts.journal, admission->records, n, RECORD_REFUSED);
    ring_cancel(admission->parts.ring, n);
}

/* Enters the ids of events [from, to) of a request into L1, in a read section, and appends the
 * winners' records to admission->records. */
static void admission_enter_events(struct admission *admission, const struct request *request,
                                   size_t from, size_t to, uint64_t now_ms)
{
    struct l1_thread *l1 = admission->parts.l1;
    size_t lost = 0;

    for (size_t i = from; i < to; i++) {
        struct event *event = &admission->events[i];

        admission_fetch_again(l1, event, admission->event_count - i);
        if (event->known)
            continue;
        if (l1_enter(l1, request->stream, &event->entry.hash, event->record->lsn, now_ms) ==
            L1_ADDED) {
            admission->records[admission->record_count++] = event->record;
            continue;
        }
        journal_finish(admission->parts.journal, &event->record, 1, RECORD_DUPLICATE);
        event->known = true;
        lost++;
    }
    if (lost > 0)
        ring_cancel(admission->parts.ring, lost);
}

static void admission_set_counts(struct request *request, size_t accepted)
{
    request->result.accepted = (uint32_t)accepted;
    request->result.duplicates = (uint32_t)(request->count - accepted);
}

/* Goes on with the read section for n more ids, or with another one: while it lasts no thread can
 * give memory back. */
static void admission_hold_on(struct admission *admission, size_t n)
{
    admission->held += n;
    if (likely(admission->held <= BATCH_EVENTS))
        return;
    l1_release(admission->parts.l1);
    l1_hold(admission->parts.l1);
    admission->held = n;
}

/* The same for a whole request; also counts how many were new. */
static void admission_enter(struct admission *admission, struct request *request, uint64_t now_ms)
{
    const size_t before = admission->record_count;
    const size_t end = request->first + request->count;

    for (size_t at = request->first, to; at < end; at = to) {
        to = admission_batch_end(at, end);
        admission_hold_on(admission, to - at);
        admission_enter_events(admission, request, at, to, now_ms);
    }
    admission_set_counts(request, admission->record_count - before);
}

/* Makes the waiter learn what becomes of a duplicate from the record that owns the id. */
static void admission_watch_original(struct admission *admission, struct waiter *waiter, uint32_t i,
                                     const struct hash128 *hash)
{
    struct l1_thread *l1 = admission->parts.l1;
    uint64_t lsn, now;
    int state;

    if (waiter_join(waiter, i, hash))
        return;
    if (!l1_owner(l1, hash, &lsn) || lsn == 0) {
        waiter_give_up(waiter);
        return;
    }
    /* From here on journal_finish() sees that somebody waits; if it came before, we see the state
     * that it wrote. */
    waiter_follow(waiter, i, hash, lsn);
    state = journal_record_state(admission->parts.journal, lsn);
    if (state == RECORD_LIVE)
        return;
    /* The record is finished and its segment gone. If L1 still names it as the owner, it was
     * neither a duplicate nor refused: L1 hears of those before the record can go. */
    if (state == 0 && l1_owner(l1, hash, &now) && now == lsn)
        state = RECORD_INSERTED;
    if (state != RECORD_INSERTED && state != RECORD_DEAD)
        state = RECORD_DUPLICATE; /* of an event that we know nothing about */
    waiter_tell(waiter, hash, lsn, (enum record_state)state);
}

/* Makes the request's waiter learn what becomes of each event. The records must not be published
 * yet: otherwise one could be finished before the waiter is in the table, and the client would wait
 * until its time is up. */
static void admission_watch(struct admission *admission, const struct request *request)
{
    struct waiter *waiter = request->result.waiter;

    for (size_t i = 0; i < request->count; i++) {
        const struct event *event = &admission->events[request->first + i];

        if (event->known)
            admission_watch_original(admission, waiter, (uint32_t)i, &event->entry.hash);
        else
            waiter_own(waiter, (uint32_t)i, &event->entry.hash, event->record->lsn);
    }
    waiter_arm(waiter, request->stream);
}

static void admission_drop_waiter(struct request *request)
{
    waiter_destroy(request->result.waiter);
    request->result.waiter = NULL;
}

static void admission_count(struct admission *admission, const struct request *request)
{
    struct metrics_thread *metrics = admission->parts.metrics;
    const uint16_t stream = request->stream;

    if (likely(request->result.verdict != ADMISSION_RING_FULL))
        admission->full_streak = 0;
    else if (admission->full_streak < SHED_STREAK)
        admission->full_streak++;
    METRIC_STREAM_ADD(metrics, stream, received, request->count);
    switch (request->result.verdict) {
    case ADMISSION_ACCEPTED:
        METRIC_STREAM_ADD(metrics, stream, accepted, request->result.accepted);
        METRIC_STREAM_ADD(metrics, stream, duplicate_l1, request->result.duplicates);
        break;
    case ADMISSION_RING_FULL:
        METRIC_STREAM_ADD(metrics, stream, rejected_ring_full, request->count);
        ring_note_full(admission->parts.ring);
        break;
    case ADMISSION_JOURNAL_FULL:
        METRIC_STREAM_ADD(metrics, stream, rejected_journal_full, request->count);
        break;
    case ADMISSION_JOURNAL_ERROR:
        METRIC_STREAM_ADD(metrics, stream, rejected_journal_error, request->count);
        break;
    case ADMISSION_TOO_LARGE:
        METRIC_STREAM_ADD(metrics, stream, rejected_too_large, request->count);
        break;
    case ADMISSION_DRAINING:
        METRIC_STREAM_ADD(metrics, stream, rejected_draining, request->count);
        break;
    case ADMISSION_WAITING_FULL:
        METRIC_STREAM_ADD(metrics, stream, rejected_waiting_full, request->count);
        break;
    }
}

/* The request is decided: counts it, and starts or drops its waiter. */
static void admission_conclude(struct admission *admission, struct request *request)
{
    admission_count(admission, request);
    if (likely(request->result.waiter == NULL))
        return;
    if (request->result.verdict == ADMISSION_ACCEPTED)
        admission_watch(admission, request);
    else
        admission_drop_waiter(request);
}

/* The journal has the request's events: syncs them where the client was promised that. */
static void admission_sync_one(struct admission *admission, struct request *request)
{
    if (journal_writer_sync(admission->parts.writer) != 0 ||
        (admission->ack_disk && journal_sync_appended(admission->parts.journal) != 0))
        admission_give_up(admission, request);
}

/* Appends a step of about STEP_BYTES, from step_at on; returns the next event. */
static size_t admission_append_some(struct admission *admission, size_t to, uint64_t real_ms)
{
    size_t at = admission->step_at;

    for (size_t bytes = 0; at < to && bytes < STEP_BYTES; at++) {
        bytes += admission->events[at].bytes;
        admission_append_event(admission, &admission->events[at], real_ms);
    }
    return at;
}

struct admission *admission_create(const struct admission_parts *parts)
{
    struct admission *admission = calloc(1, sizeof(*admission));

    if (admission != NULL)
        admission->parts = *parts;
    return admission;
}

void admission_destroy(struct admission *admission)
{
    if (admission == NULL)
        return;
    free(admission->events);
    free(admission->sizes);
    free(admission->records);
    free(admission->requests);
    free(admission->copies);
    free(admission);
}

size_t admission_open(struct admission *admission, uint16_t stream)
{
    admission->requests =
        admission_grow(admission->requests, &admission->request_capacity,
                       admission->request_count + 1, sizeof(*admission->requests));
    admission->requests[admission->request_count] = (struct request){
        .first = admission->event_count, .copies_before = admission->copies_len, .stream = stream};
    admission->columns_len = 0;
    admission->kind_first = admission->kind_count = 0;
    return admission->request_count++;
}

void admission_ack(struct admission *admission, enum admission_ack ack)
{
    ALLOY_ASSERT(admission->request_count > 0);
    ALLOY_ASSERT(ack != ADMISSION_ACK_CLICKHOUSE || admission->parts.inbox != NULL);
    admission->requests[admission->request_count - 1].ack = ack;
    admission->ack_disk |= ack == ADMISSION_ACK_DISK;
}

/* Returns where a copy of text begins in copies. */
static size_t admission_copy(struct admission *admission, struct slice text)
{
    const size_t at = admission->copies_len;

    admission->copies =
        admission_grow(admission->copies, &admission->copies_capacity, at + text.len, sizeof(char));
    memcpy(admission->copies + at, text.data, text.len);
    admission->copies_len += text.len;
    return at;
}

/* Whether an event has no members: then no comma stands before them. */
static bool admission_is_empty(struct slice text)
{
    size_t at = 1;

    while (at < text.len && memchr(" \t\r\n", text.data[at], 4) != NULL)
        at++;
    return text.data[at] == '}';
}

void admission_forget_columns(struct admission *admission)
{
    admission->columns_len = 0;
    admission->kind_first = admission->kind_count;
}

bool admission_use_columns(struct admission *admission, uint32_t but)
{
    for (size_t i = admission->kind_first; i < admission->kind_count; i++) {
        if (admission->kinds[i].but != but)
            continue;
        admission->columns_at = admission->kinds[i].at;
        admission->columns_len = admission->kinds[i].len;
        return true;
    }
    return false;
}

void admission_columns(struct admission *admission, uint32_t but, struct slice columns)
{
    ALLOY_ASSERT(admission->request_count > 0 && columns.len <= RECORD_COLUMNS_MAX);
    /* Each event of a client's could have other members, and a copy for each has no bound. */
    if (admission->kind_count == COLUMN_KINDS_MAX) {
        admission->requests[admission->request_count - 1].too_many_kinds = true;
        return;
    }
    admission->columns_at = admission_copy(admission, columns);
    admission->columns_len = columns.len;
    admission->kinds[admission->kind_count++] =
        (struct column_kind){but, admission->columns_at, admission->columns_len};
}

void admission_own_columns(struct admission *admission, struct slice columns)
{
    ALLOY_ASSERT(admission->request_count > 0 && columns.len <= RECORD_COLUMNS_MAX);
    admission->columns_at = admission_copy(admission, columns);
    admission->columns_len = columns.len;
}

void admission_event(struct admission *admission, const struct json_scan_event *scanned)
{
    struct request *request = &admission->requests[admission->request_count - 1];
    struct event *event;

    ALLOY_ASSERT(admission->request_count > 0);
    /* More than the ring can ever hold: admission_judge() refuses it, so we need not keep the
     * rest. */
    if (++request->count > ring_capacity(admission->parts.ring))
        return;
    admission_events_reserve(admission, admission->event_count + 1);
    event = &admission->events[admission->event_count++];
    event->entry = (struct journal_entry){.text = scanned->text,
                                          .id = scanned->id,
                                          .id_verbatim = scanned->id_verbatim,
                                          .stream = request->stream};
    event->record = NULL;
    if (unlikely(admission->columns_len > 0)) {
        event->columns_at = admission->columns_at;
        event->entry.columns.len = admission->columns_len - admission_is_empty(scanned->text);
    }
    if (scanned->id_verbatim)
        return;
    event->id_at = admission_copy(admission, scanned->id);
}

void admission_drop(struct admission *admission)
{
    ALLOY_ASSERT(admission->request_count > 0);
    admission->request_count--;
    admission->event_count = admission->requests[admission->request_count].first;
    admission->copies_len = admission->requests[admission->request_count].copies_before;
}

bool admission_sheds(const struct admission *admission)
{
    struct ring *ring = admission->parts.ring;
    const size_t capacity = ring_capacity(ring);

    if (likely(admission->full_streak < SHED_STREAK) ||
        ring_depth(ring) < capacity - capacity / SHED_SHARE || ring_closed(ring))
        return false;
    ring_note_full(ring);
    return true;
}

size_t admission_pending(const struct admission *admission)
{
    return admission->request_count;
}

void admission_commit(struct admission *admission, uint64_t now_ms, uint64_t real_ms)
{
    const size_t requests = admission->request_count, events = admission->event_count;

    admission_hash(admission, 0, events);
    for (size_t at = 0; at < events; at = admission_batch_end(at, events))
        admission_look_up(admission, at, admission_batch_end(at, events), now_ms);
    for (size_t r = 0; r < requests; r++)
        admission_judge(admission, &admission->requests[r]);

    KILL_POINT("admission_judged");
    /* One reservation for the turn; only when that does not fit do we try each request alone. */
    if (admission_reserve(admission, 0, requests) == ADMISSION_ACCEPTED) {
        admission_append(admission, 0, requests, real_ms);
    } else {
        for (size_t r = 0; r < requests; r++) {
            struct request *request = &admission->requests[r];

            if (request->result.verdict != ADMISSION_ACCEPTED)
                continue;
            request->result.verdict = admission_reserve(admission, r, r + 1);
            admission_append(admission, r, r + 1, real_ms);
        }
    }

    KILL_POINT("admission_appended");
    if (journal_writer_sync(admission->parts.writer) != 0)
        for (size_t r = 0; r < requests; r++)
            admission_give_up(admission, &admission->requests[r]);
    /* One sync for the turn. If it fails, requests that did not ask for the disk stay accepted. */
    if (unlikely(admission->ack_disk) && journal_sync_appended(admission->parts.journal) != 0)
        for (size_t r = 0; r < requests; r++)
            if (admission->requests[r].ack == ADMISSION_ACK_DISK)
                admission_give_up(admission, &admission->requests[r]);

    KILL_POINT("admission_synced");
    admission->held = 0;
    l1_hold(admission->parts.l1);
    for (size_t r = 0; r < requests; r++)
        if (admission->requests[r].result.verdict == ADMISSION_ACCEPTED)
            admission_enter(admission, &admission->requests[r], now_ms);
    l1_release(admission->parts.l1);
    for (size_t r = 0; r < requests; r++)
        admission_conclude(admission, &admission->requests[r]);
    KILL_POINT("admission_entered");
    if (admission->record_count > 0)
        ring_publish(admission->parts.ring, admission->records, admission->record_count);
    KILL_POINT("admission_published");
}

bool admission_commit_some(struct admission *admission, uint64_t now_ms, uint64_t real_ms)
{
    struct request *request = &admission->requests[0];
    const size_t end = request->count;
    const size_t at = admission->step_at;
    const size_t to = end - at > STEP_EVENTS ? at + STEP_EVENTS : end;
    bool decided = false;

    ALLOY_ASSERT(admission->request_count == 1);
    switch (admission->step) {
    case COMMIT_LOOK_UP:
        if (at == 0 && !admission_judge_count(admission, request)) {
            decided = true;
            break;
        }
        admission_hash(admission, at, to);
        admission_look_up(admission, at, to, now_ms);
        admission->step_at = to;
        if (to < end)
            return false;
        admission_judge(admission, request);
        if (request->result.verdict == ADMISSION_ACCEPTED)
            request->result.verdict = admission_reserve(admission, 0, 1);
        admission->step = COMMIT_APPEND;
        decided = request->result.verdict != ADMISSION_ACCEPTED;
        break;
    case COMMIT_APPEND:
        admission->step_at = admission_append_some(admission, to, real_ms);
        if (admission->step_at < end)
            return false;
        admission_sync_one(admission, request);
        admission->step = COMMIT_ENTER;
        decided = request->result.verdict != ADMISSION_ACCEPTED;
        break;
    case COMMIT_ENTER:
        l1_hold(admission->parts.l1);
        admission_enter_events(admission, request, at, to, now_ms);
        l1_release(admission->parts.l1);
        admission->step_at = to;
        if (to < end)
            return false;
        admission_set_counts(request, admission->record_count);
        decided = true;
        break;
    }
    admission->step_at = 0;
    if (!decided)
        return false;
    admission_conclude(admission, request);
    if (admission->record_count > 0)
        ring_publish(admission->parts.ring, admission->records, admission->record_count);
    return true;
}

struct admission_result admission_result(const struct admission *admission, size_t request)
{
    ALLOY_ASSERT(request < admission->request_count);
    return admission->requests[request].result;
}

void admission_reset(struct admission *admission)
{
    admission->event_count = 0;
    admission->request_count = 0;
    admission->copies_len = 0;
    admission->ack_disk = false;
    admission->too_large = false;
    admission->step = COMMIT_LOOK_UP;
    admission->step_at = 0;
    admission->record_count = 0;
    if (admission->event_capacity > EVENTS_KEPT) {
        free(admission->events);
        free(admission->sizes);
        free(admission->records);
        admission->events = NULL;
        admission->sizes = NULL;
        admission->records = NULL;
        admission->event_capacity = 0;
    }
    if (admission->copies_capacity > COPIES_KEPT) {
        free(admission->copies);
        admission->copies = NULL;
        admission->copies_capacity = 0;
    }
}
