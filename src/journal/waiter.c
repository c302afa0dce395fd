/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiter.c - requests that are answered when ClickHouse has their events.
 *
 * An entry is one id; its links are the events of waiters that want to know about it. An entry
 * without links is idle: it remembers what became of the id until its place is needed; the oldest
 * goes first. There are as many entries as events that may wait, so a link always finds one.
 *
 * A record settles an entry only if the LSN matches, since the record of a duplicate has the same
 * hash. A thread that finishes records writes their states and then looks at busy; a thread that
 * begins to wait counts itself in busy and then looks at the state. Whichever comes second sees the
 * other, so no waiter misses its record.
 *
 * There is one lock. We hold it for a few entries at a time, and only while requests wait.
 *
 * Runs on: an inbox and its waiters on their front-end thread; waiter_settle() and waiter_reason()
 * on any thread.
 * Owns: the entries; a waiter belongs to its front-end thread.
 */
#include "alloy/waiter.h"

#include <pthread.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#define SETTLE_BATCH 256 /* records under one hold of the lock */

enum entry_state {
    ENTRY_PENDING,   /* the record is LIVE */
    ENTRY_INSERTED,  /* in ClickHouse */
    ENTRY_DEAD,      /* in the dead-letter folder */
    ENTRY_ELSEWHERE, /* another alloyd, or an earlier record of this one, owns the id */
};

/* One event of a waiter. */
struct link {
    LIST_ENTRY(link) entry_links;
    struct waiter *waiter;
    struct entry *entry; /* NULL: settled, or not linked yet */
    bool reasoned;       /* its rejection is noted */
    bool duplicate;      /* another event's record settles it */
};
LIST_HEAD(link_list, link);

struct entry {
    struct hash128 hash;
    uint64_t lsn; /* of the record that settles it */
    struct entry *chain;
    struct link_list links;
    TAILQ_ENTRY(entry) idle; /* while links is empty */
    int code;                /* DEAD: ClickHouse's */
    uint8_t state;
    bool inserted; /* PENDING: an earlier record of the id was inserted */
};
TAILQ_HEAD(entry_queue, entry);

struct waiter {
    /* constant */
    struct waiter_inbox *inbox;
    uint32_t event_count;
    /* owner thread only */
    void *owner;
    /* under the table's lock until waiter_end() */
    TAILQ_ENTRY(waiter) arrived;
    bool in_inbox;
    bool late;     /* some event's record was on its way before */
    uint32_t left; /* events not settled, plus one until it is armed */
    uint32_t unknown;
    uint32_t rejected;
    uint32_t rejected_duplicates;
    struct waiter_rejection *rejections; /* by event, at most WAITER_REJECTIONS_MAX */
    struct link links[];
};

struct waiter_inbox {
    struct waiter_table *table;
    int wake_fd;
    /* under the table's lock */
    TAILQ_HEAD(, waiter) arrived;
    /* Written under the lock. relaxed: whoever pushes a waiter also writes wake_fd, so the owner
     * looks again. */
    _Atomic bool any;
};

struct waiter_table {
    /* constant */
    size_t waiters_max, events_max;
    size_t bucket_mask;
    /* entries that are PENDING; changed under the lock, looked at by any thread */
    CACHE_ALIGNED _Atomic size_t busy;
    _Atomic size_t wanted;   /* links to these; the same */
    _Atomic uint64_t called; /* a bit for each stream */
    /* set while no waiter is armed */
    void (*wake)(void *arg);
    void *wake_arg;
    /* under the lock */
    CACHE_ALIGNED pthread_mutex_t lock;
    size_t waiters, events;
    struct entry **buckets;
    struct entry *entries;
    size_t entries_used; /* how many have ever been taken */
    struct entry_queue idle;
};

static struct entry **waiter_bucket_of(const struct waiter_table *table, const struct hash128 *hash)
{
    return &table->buckets[hash->lo & table->bucket_mask];
}

static struct entry *waiter_find(const struct waiter_table *table, const struct hash128 *hash)
{
    struct entry *entry = *waiter_bucket_of(table, hash);

    while (entry && (entry->hash.lo != hash->lo || entry->hash.hi != hash->hi))
        entry = entry->chain;
    return entry;
}

/* Under the lock, like all functions from here to the public ones. */
static void waiter_count_busy(struct waiter_table *table, size_t by)
{
    /* acq_rel: pairs with waiter_table_busy() */
    atomic_fetch_add_explicit(&table->busy, by, memory_order_acq_rel);
}

/* Removes the entry that has been idle for longest from the table. */
static struct entry *waiter_evict(struct waiter_table *table)
{
    struct entry *entry = TAILQ_FIRST(&table->idle);
    struct entry **at;

    ALLOY_ASSERT(entry != NULL);
    TAILQ_REMOVE(&table->idle, entry, idle);
    at = waiter_bucket_of(table, &entry->hash);
    while (*at != entry)
        at = &(*at)->chain;
    *at = entry->chain;
    if (entry->state == ENTRY_PENDING)
        waiter_count_busy(table, (size_t)-1);
    return entry;
}

/* Returns a new entry, idle, whose state the caller sets. */
static struct entry *waiter_enter(struct waiter_table *table, const struct hash128 *hash)
{
    struct entry *entry = table->entries_used < table->events_max
                              ? &table->entries[table->entries_used++]
                              : waiter_evict(table);
    struct entry **bucket = waiter_bucket_of(table, hash);

    *entry = (struct entry){.hash = *hash, .chain = *bucket, .state = ENTRY_ELSEWHERE};
    *bucket = entry;
    LIST_INIT(&entry->links);
    TAILQ_INSERT_TAIL(&table->idle, entry, idle);
    return entry;
}

static void waiter_attach(struct waiter_table *table, struct entry *entry, struct link *link)
{
    if (LIST_EMPTY(&entry->links))
        TAILQ_REMOVE(&table->idle, entry, idle);
    /* relaxed, like its other uses: a record that is waited for comes to whoever reads this through
     * the ring, or after a call */
    atomic_fetch_add_explicit(&table->wanted, 1, memory_order_relaxed);
    LIST_INSERT_HEAD(&entry->links, link, entry_links);
    link->entry = entry;
}

static void waiter_detach(struct waiter_table *table, struct link *link)
{
    struct entry *entry = link->entry;

    LIST_REMOVE(link, entry_links);
    atomic_fetch_sub_explicit(&table->wanted, 1, memory_order_relaxed);
    link->entry = NULL;
    if (LIST_EMPTY(&entry->links))
        TAILQ_INSERT_TAIL(&table->idle, entry, idle);
}

/* One event is settled, or the waiter is armed: one less to wait for. */
static void waiter_settle_one(struct waiter *waiter)
{
    struct waiter_inbox *inbox = waiter->inbox;
    const uint64_t one = 1;

    if (--waiter->left > 0)
        return;
    waiter->in_inbox = true;
    if (TAILQ_EMPTY(&inbox->arrived)) {
        atomic_store_explicit(&inbox->any, true, memory_order_relaxed);
        /* This fails only when the counter is full, and then the thread is awake anyway. */
        (void)!write(inbox->wake_fd, &one, sizeof(one));
    }
    TAILQ_INSERT_TAIL(&inbox->arrived, waiter, arrived);
}

/* The message may quote any bytes of the event: we replace what is not printable ASCII. */
static void waiter_copy_message(char out[WAITER_MESSAGE_MAX + 1], struct slice message)
{
    static const char mark[] = "...";
    size_t len = message.len;
    bool cut;

    while (len > 0 && (unsigned char)message.data[len - 1] <= ' ')
        len--;
    cut = len > WAITER_MESSAGE_MAX;
    if (cut)
        len = WAITER_MESSAGE_MAX - (sizeof(mark) - 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)message.data[i];

        out[i] = byte < ' ' ? ' ' : byte < 0x7f ? (char)byte : '?';
    }
    memcpy(out + len, cut ? mark : "", cut ? sizeof(mark) : 1);
}

/* Notes a rejection once, in order of events. Without memory for it, the event is only counted. */
static void waiter_note_rejection(struct link *link, int code, struct slice message)
{
    struct waiter *waiter = link->waiter;
    const uint32_t event = (uint32_t)(link - waiter->links);
    struct waiter_rejection **at = &waiter->rejections;
    struct waiter_rejection *rejection;

    if (link->reasoned)
        return;
    link->reasoned = true;
    waiter->rejected_duplicates += link->duplicate;
    if (waiter->rejected++ >= WAITER_REJECTIONS_MAX)
        return;
    rejection = malloc(sizeof(*rejection));
    if (!rejection)
        return;
    while (*at && (*at)->event < event)
        at = &(*at)->next;
    rejection->next = *at;
    rejection->event = event;
    rejection->duplicate = link->duplicate;
    rejection->code = code;
    waiter_copy_message(rejection->message, message);
    *at = rejection;
}

/* Tells one event what is known about the entry's id. */
static void waiter_tell_link(const struct entry *entry, struct link *link)
{
    static const struct slice before = {"It was rejected before.", 23};
    struct waiter *waiter = link->waiter;

    switch ((enum entry_state)entry->state) {
    case ENTRY_PENDING:
        ALLOY_UNREACHABLE("an entry that nothing is known about");
        break;
    case ENTRY_INSERTED:
        break;
    case ENTRY_DEAD:
        /* Does nothing if waiter_reason() has already told why. */
        waiter_note_rejection(link, entry->code, before);
        break;
    case ENTRY_ELSEWHERE:
        waiter->unknown++;
        break;
    }
    waiter_settle_one(waiter);
}

static void waiter_settle_entry(struct waiter_table *table, struct entry *entry,
                                enum entry_state state)
{
    struct link *link;

    entry->state = (uint8_t)state;
    waiter_count_busy(table, (size_t)-1);
    while ((link = LIST_FIRST(&entry->links))) {
        waiter_detach(table, link);
        waiter_tell_link(entry, link);
    }
}

/* The entry that the record of this LSN settles, or NULL. */
static struct entry *waiter_entry_of(const struct waiter_table *table, const struct hash128 *hash,
                                     uint64_t lsn)
{
    struct entry *entry = waiter_find(table, hash);

    return entry && entry->state == ENTRY_PENDING && entry->lsn == lsn ? entry : NULL;
}

static enum entry_state waiter_state_after(const struct entry *entry, enum record_state state)
{
    switch (state) {
    case RECORD_INSERTED:
        return ENTRY_INSERTED;
    case RECORD_DEAD:
        return ENTRY_DEAD;
    case RECORD_DUPLICATE:
        return entry->inserted ? ENTRY_INSERTED : ENTRY_ELSEWHERE;
    case RECORD_LIVE:
    case RECORD_REFUSED:
    case RECORD_MOVED:
        break;
    }
    ALLOY_UNREACHABLE("a record that is waited for cannot end so");
    return ENTRY_ELSEWHERE;
}

struct waiter_table *waiter_table_create(size_t waiters_max, size_t events_max)
{
    struct waiter_table *table = aligned_alloc(CACHE_LINE, sizeof(*table));
    size_t buckets = 1;

    if (!table)
        return NULL;
    while (buckets < events_max)
        buckets *= 2;
    *table = (struct waiter_table){
        .waiters_max = waiters_max,
        .events_max = events_max,
        .bucket_mask = buckets - 1,
        .buckets = calloc(buckets, sizeof(struct entry *)),
        .entries = calloc(events_max, sizeof(struct entry)),
    };
    if (!table->buckets || !table->entries) {
        free(table->buckets);
        free(table->entries);
        free(table);
        return NULL;
    }
    pthread_mutex_init(&table->lock, NULL);
    TAILQ_INIT(&table->idle);
    return table;
}

void waiter_table_destroy(struct waiter_table *table)
{
    if (!table)
        return;
    ALLOY_ASSERT(table->waiters == 0 && table->events == 0);
    pthread_mutex_destroy(&table->lock);
    free(table->buckets);
    free(table->entries);
    free(table);
}

struct waiter_inbox *waiter_inbox_create(struct waiter_table *table, int wake_fd)
{
    struct waiter_inbox *inbox = calloc(1, sizeof(*inbox));

    if (!inbox)
        return NULL;
    inbox->table = table;
    inbox->wake_fd = wake_fd;
    TAILQ_INIT(&inbox->arrived);
    return inbox;
}

void waiter_inbox_destroy(struct waiter_inbox *inbox)
{
    if (!inbox)
        return;
    ALLOY_ASSERT(TAILQ_EMPTY(&inbox->arrived));
    free(inbox);
}

struct waiter *waiter_inbox_take(struct waiter_inbox *inbox)
{
    struct waiter *waiter;

    if (likely(!atomic_load_explicit(&inbox->any, memory_order_relaxed)))
        return NULL;
    pthread_mutex_lock(&inbox->table->lock);
    waiter = TAILQ_FIRST(&inbox->arrived);
    if (waiter) {
        TAILQ_REMOVE(&inbox->arrived, waiter, arrived);
        waiter->in_inbox = false;
    }
    if (TAILQ_EMPTY(&inbox->arrived))
        atomic_store_explicit(&inbox->any, false, memory_order_relaxed);
    pthread_mutex_unlock(&inbox->table->lock);
    return waiter;
}

struct waiter *waiter_create(struct waiter_inbox *inbox, uint32_t events)
{
    struct waiter_table *table = inbox->table;
    struct waiter *waiter;
    bool room;

    pthread_mutex_lock(&table->lock);
    room = table->waiters < table->waiters_max && events <= table->events_max - table->events;
    if (room) {
        table->waiters++;
        table->events += events;
    }
    pthread_mutex_unlock(&table->lock);
    if (!room)
        return NULL;
    waiter = calloc(1, sizeof(*waiter) + events * sizeof(struct link));
    if (!waiter) {
        pthread_mutex_lock(&table->lock);
        table->waiters--;
        table->events -= events;
        pthread_mutex_unlock(&table->lock);
        return NULL;
    }
    waiter->inbox = inbox;
    waiter->event_count = events;
    waiter->left = events + 1;
    for (uint32_t i = 0; i < events; i++)
        waiter->links[i].waiter = waiter;
    return waiter;
}

void waiter_destroy(struct waiter *waiter)
{
    struct waiter_table *table;
    struct waiter_rejection *rejection;

    if (!waiter)
        return;
    waiter_end(waiter);
    table = waiter->inbox->table;
    pthread_mutex_lock(&table->lock);
    table->waiters--;
    table->events -= waiter->event_count;
    pthread_mutex_unlock(&table->lock);
    while ((rejection = waiter->rejections)) {
        waiter->rejections = rejection->next;
        free(rejection);
    }
    free(waiter);
}

void waiter_set_owner(struct waiter *waiter, void *owner)
{
    waiter->owner = owner;
}

void *waiter_owner(const struct waiter *waiter)
{
    return waiter->owner;
}

/* Links one event to the entry of its id; the record of this LSN will settle it. */
static void waiter_wait_for(struct waiter *waiter, struct link *link, const struct hash128 *hash,
                            uint64_t lsn)
{
    struct waiter_table *table = waiter->inbox->table;
    struct entry *entry;

    pthread_mutex_lock(&table->lock);
    entry = waiter_find(table, hash);
    if (!entry)
        entry = waiter_enter(table, hash);
    /* If an earlier record of the id is still pending, L1 has forgotten the id: that record
     * decides. */
    if (entry->state != ENTRY_PENDING) {
        entry->inserted = entry->state == ENTRY_INSERTED;
        entry->state = ENTRY_PENDING;
        entry->lsn = lsn;
        waiter_count_busy(table, 1);
    }
    if (entry->lsn != lsn)
        link->duplicate = true;
    waiter->late = waiter->late || link->duplicate;
    waiter_attach(table, entry, link);
    pthread_mutex_unlock(&table->lock);
}

void waiter_own(struct waiter *waiter, uint32_t event, const struct hash128 *hash, uint64_t lsn)
{
    waiter_wait_for(waiter, &waiter->links[event], hash, lsn);
}

void waiter_follow(struct waiter *waiter, uint32_t event, const struct hash128 *hash, uint64_t lsn)
{
    waiter->links[event].duplicate = true;
    waiter_wait_for(waiter, &waiter->links[event], hash, lsn);
}

void waiter_tell(struct waiter *waiter, const struct hash128 *hash, uint64_t lsn,
                 enum record_state state)
{
    struct waiter_table *table = waiter->inbox->table;
    struct entry *entry;

    pthread_mutex_lock(&table->lock);
    entry = waiter_entry_of(table, hash, lsn);
    if (entry)
        waiter_settle_entry(table, entry, waiter_state_after(entry, state));
    pthread_mutex_unlock(&table->lock);
}

bool waiter_join(struct waiter *waiter, uint32_t event, const struct hash128 *hash)
{
    struct waiter_table *table = waiter->inbox->table;
    struct link *link = &waiter->links[event];
    struct entry *entry;

    pthread_mutex_lock(&table->lock);
    entry = waiter_find(table, hash);
    /* Not from what the entry remembers: about an id that was elsewhere we may know more by now;
     * and an id that was dead has a new owner, since a dead one would make no duplicate. */
    if (entry && (entry->state == ENTRY_ELSEWHERE || entry->state == ENTRY_DEAD))
        entry = NULL;
    link->duplicate = waiter->late = true;
    if (entry && entry->state == ENTRY_PENDING)
        waiter_attach(table, entry, link);
    else if (entry)
        waiter_tell_link(entry, link);
    pthread_mutex_unlock(&table->lock);
    return entry != NULL;
}

void waiter_give_up(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->inbox->table->lock);
    waiter->unknown++;
    waiter_settle_one(waiter);
    pthread_mutex_unlock(&waiter->inbox->table->lock);
}

void waiter_arm(struct waiter *waiter, uint16_t stream)
{
    struct waiter_table *table = waiter->inbox->table;
    const uint64_t bit = UINT64_C(1) << stream % 64;
    bool call;

    pthread_mutex_lock(&table->lock);
    waiter_settle_one(waiter);
    call = waiter->late && waiter->left > 0;
    pthread_mutex_unlock(&table->lock);
    /* release: pairs with the acquire in waiter_take_called(), which then finds what we wait for */
    if (unlikely(call) &&
        atomic_fetch_or_explicit(&table->called, bit, memory_order_release) == 0 && table->wake)
        table->wake(table->wake_arg);
}

struct waiter_outcome waiter_end(struct waiter *waiter)
{
    struct waiter_inbox *inbox = waiter->inbox;
    struct waiter_outcome outcome = {.verdict = WAITER_INSERTED};

    pthread_mutex_lock(&inbox->table->lock);
    if (waiter->in_inbox)
        TAILQ_REMOVE(&inbox->arrived, waiter, arrived);
    waiter->in_inbox = false;
    for (uint32_t i = 0; i < waiter->event_count && waiter->left > 0; i++)
        if (waiter->links[i].entry)
            waiter_detach(inbox->table, &waiter->links[i]);
    pthread_mutex_unlock(&inbox->table->lock);
    outcome.rejected = waiter->rejected;
    outcome.rejected_duplicates = waiter->rejected_duplicates;
    outcome.rejections = waiter->rejections;
    if (waiter->left > 0)
        outcome.verdict = WAITER_PENDING;
    else if (waiter->rejected > 0)
        outcome.verdict = WAITER_REJECTED;
    else if (waiter->unknown > 0)
        outcome.verdict = WAITER_UNKNOWN;
    return outcome;
}

bool waiter_table_busy(struct waiter_table *table)
{
    /* Adds nothing: a read-modify-write takes part in the one order of all additions, which a load
     * would not. acq_rel: pairs with waiter_count_busy() */
    return atomic_fetch_add_explicit(&table->busy, 0, memory_order_acq_rel) > 0;
}

bool waiter_wanted(struct waiter_table *table, struct record *const *records, size_t n)
{
    bool wanted = false;

    if (likely(atomic_load_explicit(&table->wanted, memory_order_relaxed) == 0))
        return false;
    for (size_t i = 0; i < n && !wanted;) {
        const size_t end = n - i < SETTLE_BATCH ? n : i + SETTLE_BATCH;

        pthread_mutex_lock(&table->lock);
        for (; i < end && !wanted; i++) {
            const struct entry *entry = waiter_entry_of(table, &records[i]->hash, records[i]->lsn);

            wanted = entry && !LIST_EMPTY(&entry->links);
        }
        pthread_mutex_unlock(&table->lock);
    }
    return wanted;
}

void waiter_table_wake_by(struct waiter_table *table, void (*wake)(void *arg), void *arg)
{
    table->wake = wake;
    table->wake_arg = arg;
}

uint64_t waiter_take_called(struct waiter_table *table)
{
    if (likely(atomic_load_explicit(&table->called, memory_order_relaxed) == 0))
        return 0;
    /* acquire: pairs with the release in waiter_arm() */
    return atomic_exchange_explicit(&table->called, 0, memory_order_acquire);
}

void waiter_settle(struct waiter_table *table, struct record *const *records, size_t n,
                   enum record_state state)
{
    for (size_t i = 0; i < n;) {
        const size_t end = n - i < SETTLE_BATCH ? n : i + SETTLE_BATCH;

        pthread_mutex_lock(&table->lock);
        for (; i < end; i++) {
            struct entry *entry = waiter_entry_of(table, &records[i]->hash, records[i]->lsn);

            if (entry)
                waiter_settle_entry(table, entry, waiter_state_after(entry, state));
        }
        pthread_mutex_unlock(&table->lock);
    }
}

void waiter_reason(struct waiter_table *table, const struct record *record, int code,
                   struct slice message)
{
    struct entry *entry;
    struct link *link;

    pthread_mutex_lock(&table->lock);
    entry = waiter_entry_of(table, &record->hash, record->lsn);
    if (entry) {
        entry->code = code;
        LIST_FOREACH(link, &entry->links, entry_links)
        {
            waiter_note_rejection(link, code, message);
        }
    }
    pthread_mutex_unlock(&table->lock);
}
