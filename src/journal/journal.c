/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.c - the writers, and the books over the journal's segments; journal_janitor.c keeps them
 * supplied.
 *
 * A segment is spare, then in use, then gone. In use it has refs: its LIVE records, SEGMENT_BIAS
 * while a writer holds it, and one while a writer has yet to sync it. Whoever brings refs to 0 may
 * not touch it again; the janitor removes it.
 *
 * Runs on: writers on their front-end threads; journal_finish() on any; the stamps on the flusher.
 * Owns: every segment and the folder.
 */
#include "journal_private.h"

#include "alloy/kill_point.h"
#define LOG_MODULE "journal"
#include "alloy/log.h"
#include "alloy/waiter.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static int journal_sync_pages(void *address, size_t length)
{
    return msync(address, length, MS_SYNC) == 0 ? 0 : -errno;
}

static size_t journal_segment_room(const struct journal *journal)
{
    return journal->spec.size - SEGMENT_HEADER_BYTES;
}

/* Under lock. */
static struct segment *journal_pop_spare(struct journal *journal)
{
    struct segment *segment = journal->spares;

    journal->spares = segment->next;
    journal->spare_count--;
    return segment;
}

/* Puts count segments of list into use, or back among the spares. */
static void journal_settle_taken(struct journal *journal, struct segment *list, size_t missing,
                                 bool use)
{
    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = list; segment != NULL; segment = segment->queue_next) {
        if (!use) {
            journal_push_spare(journal, segment);
            continue;
        }
        atomic_store_explicit(&segment->refs, SEGMENT_BIAS, memory_order_relaxed);
        segment->next = journal->in_use;
        journal->in_use = segment;
        atomic_fetch_add_explicit(&journal->bytes_used, segment->size, memory_order_relaxed);
    }
    journal->bytes_total -= (uint64_t)missing * journal->spec.size;
    pthread_mutex_unlock(&journal->lock);
}

/* Takes count segments into use, all or none; -ENOSPC. */
static int journal_take_segments(struct journal *journal, size_t count, struct segment **list)
{
    struct segment **tail = list;
    size_t missing;
    int err = 0;

    *list = NULL;
    pthread_mutex_lock(&journal->lock);
    missing = count > journal->spare_count ? count - journal->spare_count : 0;
    if (!journal_claim_bytes(journal, missing)) {
        pthread_mutex_unlock(&journal->lock);
        return -ENOSPC;
    }
    for (size_t i = missing; i < count; i++) {
        *tail = journal_pop_spare(journal);
        tail = &(*tail)->queue_next;
    }
    *tail = NULL;
    pthread_mutex_unlock(&journal->lock);
    /* Rare: the janitor did not keep up. */
    for (; missing > 0; missing--) {
        err = journal_create_segment(journal, tail);
        if (err != 0)
            break;
        tail = &(*tail)->queue_next;
    }
    *tail = NULL;
    journal_settle_taken(journal, *list, missing, err == 0);
    return err == 0 ? 0 : -ENOSPC;
}

void journal_writer_seal(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    struct segment *segment = writer->segment;
    uint64_t drop = SEGMENT_BIAS - writer->appended_here;

    if (journal->sync == JOURNAL_SYNC_ALWAYS && segment->sync_from < writer->cursor) {
        segment->queue_next = writer->unsynced;
        writer->unsynced = segment;
        drop--;
    }
    writer->segment = NULL;
    writer->cursor = writer->end = 0;
    writer->appended_here = 0;
    /* release: pairs with the acquire in remove_finished() */
    if (atomic_fetch_sub_explicit(&segment->refs, drop, memory_order_release) == drop)
        journal_wake(journal);
}

/* Moves on to the next reserved segment. */
static void journal_advance(struct journal_writer *writer)
{
    struct segment *segment = writer->queue;

    ALLOY_ASSERT(segment != NULL);
    if (writer->segment != NULL)
        journal_writer_seal(writer);
    writer->queue = segment->queue_next;
    if (writer->queue == NULL)
        writer->queue_tail = &writer->queue;
    writer->segment = segment;
    writer->cursor = SEGMENT_HEADER_BYTES;
    writer->end = segment->size;
    writer->wake_at = 0;
}

/* Decides where the janitor is wanted next; tells it now if populated pages run low. */
static void journal_check_populated(struct journal_writer *writer)
{
    const struct segment *segment = writer->segment;
    const size_t populated = atomic_load_explicit(&segment->populated, memory_order_relaxed);

    if (populated >= segment->size) {
        writer->wake_at = SIZE_MAX;
    } else if (populated >= writer->cursor + JOURNAL_POPULATE_LOW) {
        writer->wake_at = populated - JOURNAL_POPULATE_LOW;
    } else {
        writer->wake_at = writer->cursor + JOURNAL_POPULATE_LOW / 2;
        journal_wake(writer->journal);
    }
}

static int journal_set_spec(struct journal *journal, const struct journal_options *options)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct segment_spec *spec = &journal->spec;
    size_t size = options->segment_bytes;

    if (options->stream_count > SEGMENT_STREAMS_MAX || size > SEGMENT_BYTES_MAX ||
        options->max_bytes < 2 * SEGMENT_BYTES_MIN)
        return -EINVAL;
    size = (size + page - 1) / page * page;
    if (size > options->max_bytes / 2) {
        size = options->max_bytes / 2 / page * page;
        log_info("segments are smaller than configured, as max_bytes holds two bytes=%zu", size);
    }
    if (size < SEGMENT_BYTES_MIN)
        size = SEGMENT_BYTES_MIN;
    spec->size = size;
    spec->stream_count = options->stream_count;
    for (size_t i = 0; i < options->stream_count; i++) {
        if (strlen(options->stream_names[i]) >= SEGMENT_STREAM_NAME)
            return -EINVAL;
        strcpy(spec->streams[i], options->stream_names[i]);
    }
    return 0;
}

/* All mappings share one alignment, so it must do for the largest file that may be recovered. */
static void journal_count_earlier_files(struct journal *journal)
{
    size_t largest = journal->spec.size;

    for (size_t i = 0; i < journal->dir.file_count; i++) {
        const uint64_t size = journal->dir.files[i].size;

        journal->bytes_total += size;
        if (size > largest && size <= SEGMENT_BYTES_MAX)
            largest = (size_t)size;
    }
    atomic_store_explicit(&journal->bytes_used, journal->bytes_total, memory_order_relaxed);
    journal->spec.align = segment_align(largest);
}

/*
 * What an earlier life has appended and not synced when it was killed is in the page cache only.
 * Its ids are about to be known again, and a retry answered as a duplicate must not rest on a page
 * that a loss of power could still take: so the folder's file system is synced once. 0 or -errno.
 */
static int journal_sync_earlier_life(struct journal *journal, char error[JOURNAL_ERROR_MAX])
{
    int err;

    if (journal->dir.fd < 0 || journal->sync == JOURNAL_SYNC_NEVER || syncfs(journal->dir.fd) == 0)
        return 0;
    err = -errno;
    snprintf(error, JOURNAL_ERROR_MAX, "journal: cannot sync what an earlier life left: %s",
             strerror(errno));
    return err;
}

int journal_open(struct journal **out, const struct journal_options *options,
                 char error[JOURNAL_ERROR_MAX])
{
    struct journal *journal = aligned_alloc(CACHE_LINE, sizeof(*journal));
    int err = -ENOMEM;

    if (journal == NULL) {
        snprintf(error, JOURNAL_ERROR_MAX, "out of memory");
        return err;
    }
    *journal = (struct journal){
        .sync = options->dir == NULL ? JOURNAL_SYNC_NEVER : options->sync,
        .max_bytes = options->max_bytes,
        .spare_target = options->writer_count < 2 ? 1 : (options->writer_count + 1) / 2,
        .sync_range = options->sync_range == NULL ? journal_sync_pages : options->sync_range,
        .waiters = options->waiters,
    };
    pthread_mutex_init(&journal->lock, NULL);
    pthread_mutex_init(&journal->sync_lock, NULL);
    err = journal_set_spec(journal, options);
    if (err != 0) {
        snprintf(error, JOURNAL_ERROR_MAX,
                 "journal: segment or max_bytes or a stream's name is "
                 "out of range");
        goto free_journal;
    }
    journal->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (journal->wake_fd < 0) {
        err = -errno;
        snprintf(error, JOURNAL_ERROR_MAX, "journal: eventfd: %s", strerror(errno));
        goto free_journal;
    }
    err = journal_dir_open(&journal->dir, options->dir, error);
    if (err != 0)
        goto close_wake;
    journal->spec.dir_fd = journal->dir.fd;
    err = journal_sync_earlier_life(journal, error);
    if (err != 0)
        goto close_dir;
    journal->spec.sync = journal->sync != JOURNAL_SYNC_NEVER;
    journal->spec.instance_id = journal->dir.instance_id;
    journal_count_earlier_files(journal);
    journal->earlier_read = journal->dir.file_count == 0;
    journal_make_spares(journal);
    *out = journal;
    return 0;

close_dir:
    journal_dir_close(&journal->dir);
close_wake:
    close(journal->wake_fd);
free_journal:
    pthread_mutex_destroy(&journal->sync_lock);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
    return err;
}

bool journal_settle(struct journal *journal)
{
    if (journal->sync == JOURNAL_SYNC_INTERVAL && !journal_failed(journal))
        journal_sync_dirty(journal);
    return journal->sync != JOURNAL_SYNC_NEVER && !journal_failed(journal);
}

void journal_close(struct journal *journal)
{
    struct segment *segment, *next;

    ALLOY_ASSERT(journal->writers == NULL);
    (void)journal_settle(journal);
    for (segment = journal->in_use; segment != NULL; segment = next) {
        next = segment->next;
        journal_drop_segment(journal, segment,
                             atomic_load_explicit(&segment->refs, memory_order_acquire) > 0);
    }
    for (segment = journal->spares; segment != NULL; segment = next) {
        next = segment->next;
        journal_drop_segment(journal, segment, false);
    }
    journal_dir_close(&journal->dir);
    close(journal->wake_fd);
    pthread_mutex_destroy(&journal->sync_lock);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
}

uint64_t journal_instance_id(const struct journal *journal)
{
    return journal->dir.instance_id;
}

struct waiter_table *journal_waiters(const struct journal *journal)
{
    return journal->waiters;
}

const unsigned char *journal_secret(const struct journal *journal)
{
    return journal->dir.secret;
}

struct journal_writer *journal_writer_create(struct journal *journal)
{
    struct journal_writer *writer = calloc(1, sizeof(*writer));

    if (writer == NULL)
        return NULL;
    writer->journal = journal;
    writer->queue_tail = &writer->queue;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_mutex_lock(&journal->lock);
    writer->next = journal->writers;
    journal->writers = writer;
    pthread_mutex_unlock(&journal->lock);
    return writer;
}

void journal_writer_destroy(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    struct journal_writer **link = &journal->writers;

    pthread_mutex_lock(&journal->lock);
    while (*link != writer)
        link = &(*link)->next;
    *link = writer->next;
    for (size_t i = 0; i < SEGMENT_STREAMS_MAX; i++)
        journal->appended[i] += atomic_load_explicit(&writer->appended[i], memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
    /* Off the list, so that the janitor no longer comes. */
    while (writer->queue != NULL)
        journal_advance(writer);
    if (writer->segment != NULL)
        journal_writer_seal(writer);
    while (writer->unsynced != NULL) {
        struct segment *segment = writer->unsynced;

        writer->unsynced = segment->queue_next;
        atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_release);
    }
    pthread_mutex_destroy(&writer->lock);
    free(writer);
}

size_t journal_entry_bytes(const struct journal_entry *entry)
{
    return record_bytes(entry->text.len + 1, entry->id_verbatim ? 0 : entry->id.len);
}

size_t journal_entry_bytes_max(const struct journal *journal)
{
    return journal_segment_room(journal);
}

/* Under the writer's lock. */
static int journal_reserve(struct journal_writer *writer, const size_t *sizes, size_t n)
{
    const size_t room = journal_segment_room(writer->journal);
    struct segment *taken = NULL;
    size_t left = writer->plan_left;
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        ALLOY_ASSERT(sizes[i] <= room);
        if (sizes[i] > left) {
            count++;
            left = room;
        }
        left -= sizes[i];
    }
    if (count > 0) {
        const int err = journal_take_segments(writer->journal, count, &taken);

        if (err != 0)
            return err;
        *writer->queue_tail = taken;
        for (; taken != NULL; taken = taken->queue_next)
            writer->queue_tail = &taken->queue_next;
        journal_wake(writer->journal);
    }
    writer->plan_left = left;
    /* The janitor looks under the lock, which orders this. */
    atomic_fetch_add_explicit(&writer->pending, n, memory_order_relaxed);
    return 0;
}

int journal_writer_reserve(struct journal_writer *writer, const size_t *sizes, size_t n)
{
    struct journal *journal = writer->journal;
    int err;

    if (atomic_load_explicit(&journal->failed, memory_order_relaxed))
        return -EIO;
    pthread_mutex_lock(&writer->lock);
    err = journal_reserve(writer, sizes, n);
    pthread_mutex_unlock(&writer->lock);
    if (err != 0) {
        atomic_store_explicit(&journal->starved, true, memory_order_relaxed);
        journal_wake(journal);
    }
    return err;
}

struct record *journal_writer_append(struct journal_writer *writer,
                                     const struct journal_entry *entry, uint64_t received_ms)
{
    const struct record_parts parts = {
        .text = entry->text,
        .id = entry->id,
        .id_verbatim = entry->id_verbatim,
        .stream = entry->stream,
        .hash = entry->hash,
        .received_ms = received_ms,
    };
    const size_t bytes = journal_entry_bytes(entry);
    const size_t pending = atomic_load_explicit(&writer->pending, memory_order_relaxed);
    _Atomic uint64_t *appended = &writer->appended[entry->stream];
    struct record *record;

    ALLOY_ASSERT(pending > 0 && entry->stream < writer->journal->spec.stream_count);
    if (bytes > writer->end - writer->cursor)
        journal_advance(writer);
    /* Counted before it can be seen and finished: the books never go below zero. A plain addition,
     * as this thread alone writes it; release: pairs with the acquire in journal_live() */
    atomic_store_explicit(appended, atomic_load_explicit(appended, memory_order_relaxed) + 1,
                          memory_order_release);
    writer->appended_here++;
    record = segment_write(writer->segment, writer->cursor, &parts);
    writer->cursor += bytes;
    /* release: pairs with the acquire in journal_sync_dirty() */
    atomic_store_explicit(&writer->segment->cursor, writer->cursor, memory_order_release);
    if (unlikely(writer->cursor >= writer->wake_at))
        journal_check_populated(writer);
    /* release: pairs with the acquire in reclaim_idle(), which may then take the segment */
    atomic_store_explicit(&writer->pending, pending - 1, memory_order_release);
    return record;
}

/* Under the writer's lock: what is sealed first, then the segment that is being filled. */
static int journal_sync_writer(struct journal_writer *writer)
{
    struct journal *journal = writer->journal;
    struct segment *segment;
    int err = 0;

    while (err == 0 && (segment = writer->unsynced) != NULL) {
        const size_t to = atomic_load_explicit(&segment->cursor, memory_order_relaxed);

        err = journal_sync_segment(journal, segment, segment->sync_from, to);
        if (err != 0)
            break;
        segment->sync_from = to;
        writer->unsynced = segment->queue_next;
        /* release: pairs with the acquire in remove_finished() */
        if (atomic_fetch_sub_explicit(&segment->refs, 1, memory_order_release) == 1)
            journal_wake(journal);
    }
    segment = writer->segment;
    if (err == 0 && segment != NULL && segment->sync_from < writer->cursor) {
        err = journal_sync_segment(journal, segment, segment->sync_from, writer->cursor);
        if (err == 0)
            segment->sync_from = writer->cursor;
    }
    return err;
}

int journal_writer_sync(struct journal_writer *writer)
{
    int err;

    if (writer->journal->sync != JOURNAL_SYNC_ALWAYS)
        return 0;
    if (atomic_load_explicit(&writer->journal->failed, memory_order_relaxed))
        return -EIO;
    pthread_mutex_lock(&writer->lock);
    err = journal_sync_writer(writer);
    pthread_mutex_unlock(&writer->lock);
    return err;
}

/* Takes count LIVE records off a segment, after the last touch of them. */
static void journal_put_records(struct journal *journal, struct segment *segment, uint64_t count)
{
    /* release: pairs with the acquire in remove_finished() */
    const uint64_t refs = atomic_fetch_sub_explicit(&segment->refs, count, memory_order_release);

    if (refs == count || atomic_load_explicit(&journal->starved, memory_order_relaxed))
        journal_wake(journal);
}

/* Holds every segment in use that somebody has appended to since the last time. Under sync_lock. */
static struct segment *journal_hold_demanded(struct journal *journal)
{
    struct segment *list = NULL;

    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = journal->in_use; segment != NULL; segment = segment->next) {
        /* acquire: pairs with the release in journal_writer_append() */
        const size_t to = atomic_load_explicit(&segment->cursor, memory_order_acquire);

        /* At 0 all of it is in ClickHouse, and the janitor may take it. */
        if (to <= segment->demanded ||
            atomic_load_explicit(&segment->refs, memory_order_relaxed) == 0)
            continue;
        /* Should it come to 0 just now, the janitor still has to take the lock to see it. */
        atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
        segment->demand_next = list;
        list = segment;
    }
    pthread_mutex_unlock(&journal->lock);
    return list;
}

/* Syncs a held segment. With sync = never its name may not be on the disk yet either. */
static int journal_sync_demanded(struct journal *journal, struct segment *segment)
{
    const size_t to = atomic_load_explicit(&segment->cursor, memory_order_acquire);
    int err;

    if (segment->demanded == 0 && !journal->spec.sync && fsync(journal->spec.dir_fd) != 0) {
        journal_fail(journal, "folder", segment->number, -errno);
        return -EIO;
    }
    err = journal_sync_segment(journal, segment, segment->demanded, to);
    if (err == 0)
        segment->demanded = to;
    return err;
}

int journal_sync_appended(struct journal *journal)
{
    struct segment *segment, *next;
    int err = 0;

    if (journal->sync == JOURNAL_SYNC_ALWAYS || journal->spec.dir_fd < 0)
        return 0;
    if (atomic_load_explicit(&journal->failed, memory_order_relaxed))
        return -EIO;
    pthread_mutex_lock(&journal->sync_lock);
    /* With sync = never nobody has synced what an earlier life left. */
    if (!journal->earlier_synced && journal->sync == JOURNAL_SYNC_NEVER &&
        syncfs(journal->spec.dir_fd) != 0) {
        journal_fail(journal, "file_system", 0, -errno);
        err = -EIO;
    }
    journal->earlier_synced = err == 0;
    for (segment = journal_hold_demanded(journal); segment != NULL; segment = next) {
        next = segment->demand_next;
        if (err == 0)
            err = journal_sync_demanded(journal, segment);
        journal_put_records(journal, segment, 1);
    }
    pthread_mutex_unlock(&journal->sync_lock);
    return err;
}

void journal_finish(struct journal *journal, struct record *const *records, size_t n,
                    enum record_state state)
{
    struct segment *segment = NULL;
    uint64_t run = 0;
    size_t stream;

    if (n == 0)
        return;
    stream = records[0]->stream;
    for (size_t i = 0; i < n; i++) {
        ALLOY_ASSERT(atomic_load_explicit(&records[i]->state, memory_order_relaxed) == RECORD_LIVE);
        atomic_store_explicit(&records[i]->state, (uint16_t)state, memory_order_relaxed);
        KILL_POINT("finish_half");
    }
    if (unlikely(journal->waiters != NULL && waiter_table_busy(journal->waiters)))
        waiter_settle(journal->waiters, records, n, state);
    for (size_t i = 0; i < n; i++) {
        struct segment *here = segment_of(records[i], journal->spec.align);

        if (here != segment && run > 0) {
            journal_put_records(journal, segment, run);
            run = 0;
        }
        segment = here;
        run++;
    }
    atomic_fetch_add_explicit(&journal->finished[stream], n, memory_order_release);
    journal_put_records(journal, segment, run);
}

/* Syncs the part of each segment that this round has touched. */
static int journal_sync_stamps(struct journal *journal, struct segment *touched)
{
    int err = 0;

    for (; touched != NULL && err == 0; touched = touched->stamp_next)
        err = journal_sync_segment(journal, touched, touched->stamp_from, touched->stamp_to);
    return err;
}

int journal_stamp(struct journal *journal, struct record *const *records, size_t n,
                  uint64_t insert_id)
{
    const bool sync = journal->sync == JOURNAL_SYNC_ALWAYS;
    const uint64_t sealed = insert_id_seal(insert_id);
    const uint64_t round = ++journal->stamp_round;
    struct segment *touched = NULL;

    /* acquire: pairs with the release in promise_more() */
    if ((insert_id & ~INSERT_ID_ASYNC) >=
        atomic_load_explicit(&journal->dir.insert_limit, memory_order_acquire))
        return -EIO;
    if (sync && atomic_load_explicit(&journal->failed, memory_order_relaxed))
        return -EIO;
    for (size_t i = 0; i < n; i++) {
        const size_t from = record_offset(records[i]);
        const size_t to = from + sizeof(struct record);
        struct segment *segment;

        atomic_store_explicit(&records[i]->insert_id, sealed, memory_order_relaxed);
        KILL_POINT("stamp_half");
        if (!sync)
            continue;
        segment = segment_of(records[i], journal->spec.align);
        if (segment->stamp_round != round) {
            segment->stamp_round = round;
            segment->stamp_from = from;
            segment->stamp_to = to;
            segment->stamp_next = touched;
            touched = segment;
        }
        if (from < segment->stamp_from)
            segment->stamp_from = from;
        if (to > segment->stamp_to)
            segment->stamp_to = to;
    }
    return journal_sync_stamps(journal, touched);
}

uint64_t journal_next_insert_id(struct journal *journal)
{
    return journal_dir_insert_id(&journal->dir);
}

/* Under lock, which keeps the mapping. -1: there is no such record in it. */
static int journal_state_in(const struct segment *segment, uint64_t lsn)
{
    const size_t offset = (size_t)(lsn & UINT32_MAX);
    /* acquire: pairs with the release in journal_writer_append() */
    const size_t end = atomic_load_explicit(&segment->cursor, memory_order_acquire);
    const struct record *record = (const struct record *)(segment->base + offset);

    if (offset < SEGMENT_HEADER_BYTES || offset % RECORD_ALIGN != 0 ||
        offset + sizeof(struct record) > end || record->magic != RECORD_MAGIC ||
        record->lsn != lsn || !record_insert_id_valid(record))
        return -1;
    return atomic_load_explicit(&record->state, memory_order_relaxed);
}

int journal_record_state(struct journal *journal, uint64_t lsn)
{
    const uint32_t number = (uint32_t)(lsn >> 32);
    const struct segment *segment;
    bool all_read;
    int state;

    pthread_mutex_lock(&journal->lock);
    /* acquire: pairs with the release in journal_adopted_all() */
    all_read = atomic_load_explicit(&journal->earlier_read, memory_order_acquire);
    for (segment = journal->in_use; segment != NULL; segment = segment->next)
        if (segment->number == number)
            break;
    if (segment != NULL)
        state = journal_state_in(segment, lsn);
    else
        state = all_read ? 0 : -1;
    pthread_mutex_unlock(&journal->lock);
    if (state == 0 && journal_dir_is_damaged(&journal->dir, number))
        state = -1;
    return state;
}

uint64_t journal_live(const struct journal *journal, size_t stream)
{
    struct journal *books = (struct journal *)journal;
    uint64_t finished, appended;

    /* acquire: what was finished before was appended before, so this is read first */
    finished = atomic_load_explicit(&books->finished[stream], memory_order_acquire);
    pthread_mutex_lock(&books->lock);
    appended = books->appended[stream];
    for (struct journal_writer *writer = books->writers; writer != NULL; writer = writer->next)
        appended += atomic_load_explicit(&writer->appended[stream], memory_order_acquire);
    pthread_mutex_unlock(&books->lock);
    return appended - finished;
}

uint64_t journal_bytes(const struct journal *journal)
{
    return atomic_load_explicit(&journal->bytes_used, memory_order_relaxed);
}

uint64_t journal_bytes_max(const struct journal *journal)
{
    return journal->max_bytes;
}

bool journal_full(const struct journal *journal)
{
    return atomic_load_explicit(&journal->starved, memory_order_relaxed) || journal_failed(journal);
}

bool journal_failed(const struct journal *journal)
{
    return atomic_load_explicit(&journal->failed, memory_order_relaxed);
}

struct journal_dir *journal_folder(struct journal *journal)
{
    return &journal->dir;
}

const struct segment_spec *journal_segments(const struct journal *journal)
{
    return &journal->spec;
}

void journal_adopt_live(struct journal *journal, size_t stream)
{
    pthread_mutex_lock(&journal->lock);
    journal->appended[stream]++;
    pthread_mutex_unlock(&journal->lock);
}

void journal_adopt(struct journal *journal, struct segment *segment)
{
    pthread_mutex_lock(&journal->lock);
    segment->next = journal->in_use;
    journal->in_use = segment;
    journal->bytes_total += segment->size;
    atomic_fetch_add_explicit(&journal->bytes_used, segment->size, memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
}

void journal_adopted_all(struct journal *journal)
{
    /* release: pairs with the acquire in journal_record_state() */
    atomic_store_explicit(&journal->earlier_read, true, memory_order_release);
}

void journal_forget(struct journal *journal, uint64_t bytes)
{
    pthread_mutex_lock(&journal->lock);
    journal->bytes_total -= bytes;
    atomic_fetch_sub_explicit(&journal->bytes_used, bytes, memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
}
