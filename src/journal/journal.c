/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal.c - opens and closes the journal, and keeps the books of its records: what is finished,
 * stamped, on disk, and still LIVE.
 *
 * Runs on: journal_finish() and the books on any thread; the stamps on the flusher.
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

/*
 * Whole pages, which nobody appends to any more, leave our page table first: that interrupts the
 * other CPUs once, where msync() does it for each page that it finds writable in there. The file
 * has their contents, and who reads or marks a record maps its page again.
 */
static int journal_sync_pages(void *address, size_t length)
{
    const size_t whole = length & ~((size_t)sysconf(_SC_PAGESIZE) - 1);

    if (whole > 0)
        (void)madvise(address, whole, MADV_DONTNEED);
    return msync(address, length, MS_SYNC) == 0 ? 0 : -errno;
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
        log_info("segments are smaller than configured, so that max_bytes holds two bytes=%zu",
                 size);
    }
    if (size < SEGMENT_BYTES_MIN)
        size = SEGMENT_BYTES_MIN;
    spec->size = size;
    spec->stream_count = options->stream_count;
    atomic_store_explicit(&journal->stream_count, options->stream_count, memory_order_relaxed);
    for (size_t i = 0; i < options->stream_count; i++) {
        if (strlen(options->stream_names[i]) >= SEGMENT_STREAM_NAME)
            return -EINVAL;
        strcpy(spec->streams[i], options->stream_names[i]);
    }
    return 0;
}

/* All mappings share one alignment, so it must fit the largest file that may be recovered. */
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
 * What an earlier life appended and had not synced when it was killed is only in the page cache.
 * Its ids are about to be known again, and we must not answer a retry as a duplicate while a power
 * loss could still take the event: so we sync the folder's file system once. Returns 0 or -errno.
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
    pthread_mutex_init(&journal->move_lock, NULL);
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
    pthread_mutex_destroy(&journal->move_lock);
    pthread_mutex_destroy(&journal->sync_lock);
    pthread_mutex_destroy(&journal->lock);
    free(journal);
    return err;
}

bool journal_settle(struct journal *journal)
{
    if (journal->sync == JOURNAL_SYNC_INTERVAL && !journal_failed(journal))
        journal_sync_dirty(journal);
    if (journal->sync != JOURNAL_SYNC_NEVER && !journal_failed(journal))
        (void)!journal_sync_marks(journal); /* a failure fails the journal */
    return journal->sync != JOURNAL_SYNC_NEVER && !journal_failed(journal);
}

void journal_close(struct journal *journal)
{
    struct segment *segment, *next;

    ALLOY_ASSERT(journal->writers == NULL);
    (void)journal_settle(journal);
    journal_copies_seal(journal, false);
    for (segment = journal->in_use; segment != NULL; segment = next) {
        next = segment->next;
        journal_drop_segment(journal, segment,
                             atomic_load_explicit(&segment->refs, memory_order_acquire) > 0);
    }
    for (segment = journal->spares; segment != NULL; segment = next) {
        next = segment->next;
        journal_drop_segment(journal, segment, false);
    }
    moved_fini(&journal->moved);
    journal_dir_close(&journal->dir);
    close(journal->wake_fd);
    pthread_mutex_destroy(&journal->move_lock);
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

/* Takes a ref on every segment in use that has been appended to since the last time, and returns
 * them as a list. Under sync_lock. */
static struct segment *journal_hold_demanded(struct journal *journal)
{
    struct segment *list = NULL;

    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = journal->in_use; segment != NULL; segment = segment->next) {
        /* acquire: pairs with the release in journal_writer_append() */
        const size_t to = atomic_load_explicit(&segment->cursor, memory_order_acquire);

        /* At 0 all its records are finished, and the janitor may remove it. */
        if (to <= segment->demanded ||
            atomic_load_explicit(&segment->refs, memory_order_relaxed) == 0)
            continue;
        /* If refs came to 0 just now: the janitor needs the lock to remove it, so it is still
         * there. */
        atomic_fetch_add_explicit(&segment->refs, 1, memory_order_relaxed);
        segment->demand_next = list;
        list = segment;
    }
    pthread_mutex_unlock(&journal->lock);
    return list;
}

/* Syncs a held segment. With sync = never its name may not be on disk yet either. */
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
    if (journal_sync_has_failed(journal))
        return -EIO;
    pthread_mutex_lock(&journal->sync_lock);
    /* With sync = never nobody has synced what an earlier life left, and a duplicate's original may
     * be there. */
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
    size_t block = 0;
    uint64_t run = 0;
    uint32_t went = 0; /* of them, in block */
    size_t stream;

    if (n == 0)
        return;
    stream = records[0]->stream;
    for (size_t i = 0; i < n; i++) {
        ALLOY_ASSERT(record_state(records[i]) == RECORD_LIVE);
        record_set_state(records[i], state);
        KILL_POINT("finish_half");
    }
    if (unlikely(journal->waiters != NULL && waiter_table_busy(journal->waiters)))
        waiter_settle(journal->waiters, records, n, state);
    for (size_t i = 0; i < n; i++) {
        struct segment *here = segment_of(records[i], journal->spec.align);
        const size_t block_here = segment_block_of(segment_offset(here, records[i]));

        if (went > 0 && (here != segment || block_here != block)) {
            segment_went(segment, block, stream, went);
            went = 0;
        }
        if (here != segment && run > 0) {
            journal_put_records(journal, segment, run);
            run = 0;
        }
        segment = here;
        block = block_here;
        run++;
        went++;
    }
    segment_went(segment, block, stream, went);
    atomic_fetch_add_explicit(&journal->finished[stream], n, memory_order_release);
    journal_put_records(journal, segment, run);
}

int journal_stamp(struct journal *journal, struct record *const *records, size_t n,
                  uint64_t insert_id)
{
    const bool sync = journal->sync == JOURNAL_SYNC_ALWAYS;
    const uint64_t sealed = insert_id_seal(insert_id);
    const uint64_t round = ++journal->stamp_round;
    struct segment_span *touched = NULL;

    /* acquire: pairs with the release in promise_more() */
    if ((insert_id & INSERT_ID_NUMBER) >=
        atomic_load_explicit(&journal->dir.insert_limit, memory_order_acquire))
        return -EIO;
    if (sync && journal_sync_has_failed(journal))
        return -EIO;
    for (size_t i = 0; i < n; i++) {
        struct segment *segment;

        record_set_insert_id(records[i], sealed);
        KILL_POINT("stamp_half");
        if (!sync)
            continue;
        segment = segment_of(records[i], journal->spec.align);
        journal_span_add(&touched, segment, &segment->stamp, records[i], round);
    }
    return journal_sync_spans(journal, touched);
}

uint64_t journal_next_insert_id(struct journal *journal)
{
    return journal_dir_insert_id(&journal->dir);
}

uint64_t journal_live(const struct journal *journal, size_t stream)
{
    struct journal *books = (struct journal *)journal;
    uint64_t finished, appended;

    /* acquire: read this first, so that every record counted as finished is also counted as
     * appended below */
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
    return atomic_load_explicit(&journal->starved, memory_order_relaxed) ||
           atomic_load_explicit(&journal->trouble, memory_order_relaxed) != 0;
}

bool journal_failed(const struct journal *journal)
{
    return atomic_load_explicit(&journal->trouble, memory_order_relaxed) & JOURNAL_SYNC_FAILED;
}

bool journal_removed(const struct journal *journal)
{
    return atomic_load_explicit(&journal->trouble, memory_order_relaxed) & JOURNAL_REMOVED;
}

struct journal_dir *journal_folder(struct journal *journal)
{
    return &journal->dir;
}

void journal_add_stream(struct journal *journal, const char *name)
{
    struct segment_spec *spec = &journal->spec;

    ALLOY_ASSERT(spec->stream_count < SEGMENT_STREAMS_MAX && strlen(name) < SEGMENT_STREAM_NAME);
    pthread_mutex_lock(&journal->lock);
    strcpy(spec->streams[spec->stream_count++], name);
    /* release: pairs with the acquire in journal_is_stale() */
    atomic_store_explicit(&journal->stream_count, spec->stream_count, memory_order_release);
    pthread_mutex_unlock(&journal->lock);
    journal_wake(journal);
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
