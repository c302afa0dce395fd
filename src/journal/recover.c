/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - reads the segments that an earlier life left in the journal folder.
 *
 * We set broken data aside and report it, and never guess what it was: a segment with a broken
 * header keeps its bytes under another name; a broken record is skipped when whole ones follow it.
 * What follows the last whole record was never acknowledged.
 *
 * Runs on: main or the replay thread. A record may be finished by another thread from the moment it
 * is visited. Owns: nothing; the journal takes the segments with LIVE records.
 */
#include "alloy/recover.h"

#include "recover_moves.h"

#include "alloy/journal_dir.h"
#define LOG_MODULE "recover"
#include "alloy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define STREAM_UNKNOWN UINT16_MAX

struct recovery {
    struct journal *journal;
    const struct segment_spec *spec;
    struct segment_spec streams_at_start; /* what spec points to: streams may come meanwhile */
    struct journal_dir *dir;
    struct recover_stats stats;
    struct segment **held; /* one for each file; NULL: not read, removed, or released */
    size_t offset; /* second pass: where we are in the segment that is handed out; 0: its start */
    /* the segment that is being read */
    recover_record_fn visit;
    void *arg;
    struct segment *segment;
    uint64_t live; /* LIVE records in it, unknown streams included */
    uint16_t
        streams[SEGMENT_STREAMS_MAX]; /* the configured stream of each entry of its stream table */
    uint64_t unknown[SEGMENT_STREAMS_MAX]; /* LIVE records of entries that are not configured */
};

static void recover_map_streams(struct recovery *recovery)
{
    const struct segment_header *header = (const struct segment_header *)recovery->segment->base;

    for (size_t i = 0; i < header->stream_count; i++) {
        recovery->streams[i] = STREAM_UNKNOWN;
        recovery->unknown[i] = 0;
        for (size_t j = 0; j < recovery->spec->stream_count; j++)
            if (strcmp(header->streams[i], recovery->spec->streams[j]) == 0)
                recovery->streams[i] = (uint16_t)j;
    }
}

/* Counts data that we cannot trust and do not use; its bytes stay on disk, for a person to
 * examine. */
static void recover_count_damage(struct recovery *recovery)
{
    recovery->stats.corrupt++;
    recovery->segment->damaged = true;
    /* So that later questions about its records, or about records that were moved to it, get no
     * false answer. */
    (void)!journal_dir_note_damaged(recovery->dir, recovery->segment->number);
    if (segment_kind(recovery->segment) == SEGMENT_COPIES)
        journal_lack_copies(recovery->journal);
}

/* The record's state. Repairs a state with flipped bits. */
static enum record_state recover_state_of(struct recovery *recovery, struct record *record)
{
    const uint16_t word = record_state(record);
    enum record_state state = record_state_of(word);

    if (state == word)
        return state;
    /* We cannot know which state it was. LIVE may insert the event a second time, which can be
     * found later; any other state could lose it. */
    if (state == 0)
        state = RECORD_LIVE;
    recovery->stats.corrupt++;
    log_error("record with an impossible state segment=%u offset=%zu state=%#x taken_as=%s",
              recovery->segment->number, segment_offset(recovery->segment, record), word,
              state == RECORD_LIVE ? "live" : "finished");
    record_set_state(record, state);
    return state;
}

static void recover_take_record(struct recovery *recovery, struct record *record)
{
    const uint16_t stream = recovery->streams[record->stream_entry];
    const enum record_state state = recover_state_of(recovery, record);

    if (state == RECORD_LIVE && !record_insert_id_valid(record)) {
        /* It may or may not be in ClickHouse, and without the insert id we cannot ask. */
        log_error("record with a broken insert id set aside segment=%u offset=%zu",
                  recovery->segment->number, segment_offset(recovery->segment, record));
        recover_count_damage(recovery);
        return;
    }
    recovery->stats.records++;
    recovery->segment->records++;
    if (state == RECORD_MOVED)
        return;
    if (record->copies > 0)
        journal_adopt_copy(recovery->journal, record);
    if (state == RECORD_LIVE)
        recovery->live++;
    record->stream = stream;
    if (stream == STREAM_UNKNOWN) {
        recovery->unknown[record->stream_entry] += state == RECORD_LIVE;
        return;
    }
    if (state == RECORD_LIVE) {
        recovery->stats.live++;
        segment_came(recovery->segment, segment_offset(recovery->segment, record), stream,
                     record->received_ms);
        journal_adopt_live(recovery->journal, stream);
    }
    recovery->visit(recovery->arg, record);
}

static void recover_walk(struct recovery *recovery)
{
    struct segment *segment = recovery->segment;
    const uint32_t number = segment->number;
    size_t offset = segment->begin;
    size_t before;
    struct record *record;

    for (;;) {
        before = offset;
        switch (segment_next(segment, &offset, &record)) {
        case SEGMENT_RECORD:
            recover_take_record(recovery, record);
            continue;
        case SEGMENT_GAP:
            log_error("broken record set aside segment=%u offset=%zu bytes=%zu", number, before,
                      offset - before);
            recover_count_damage(recovery);
            continue;
        case SEGMENT_TORN:
            log_warn("torn tail dropped segment=%u offset=%zu", number, offset);
            break;
        case SEGMENT_END:
            break;
        }
        break;
    }
    segment->synced = segment->sync_from = offset;
    atomic_store_explicit(&segment->cursor, offset, memory_order_relaxed);
    atomic_store_explicit(&segment->populated, segment->size, memory_order_relaxed);
}

static void recover_tell_unknown(struct recovery *recovery)
{
    const struct segment_header *header = (const struct segment_header *)recovery->segment->base;

    for (size_t i = 0; i < header->stream_count; i++) {
        if (recovery->streams[i] != STREAM_UNKNOWN || recovery->unknown[i] == 0)
            continue;
        log_error("events of a stream that is not configured are kept stream=\"%s\" segment=%u "
                  "events=%llu",
                  header->streams[i], recovery->segment->number,
                  (unsigned long long)recovery->unknown[i]);
        recovery->stats.unknown_stream += recovery->unknown[i];
    }
}

/* Gives up refs on the segment, so that only the remaining LIVE records keep it. */
static void recover_put_segment(struct segment *segment, uint64_t refs)
{
    /* release: pairs with the acquire of the janitor, which removes what is finished already */
    atomic_fetch_sub_explicit(&segment->refs, refs, memory_order_release);
}

static int recover_read_file(struct recovery *recovery, size_t i)
{
    const struct journal_dir_file *file = &recovery->dir->files[i];
    struct segment *segment;
    int err;

    err = segment_open(&segment, recovery->spec, file->number);
    if (err == -EBADMSG || err == -ELOOP) {
        recovery->stats.corrupt++;
        /* It may have held copies. */
        journal_lack_copies(recovery->journal);
        err = journal_dir_set_aside(recovery->dir, file->number);
    } else if (err == 0) {
        recovery->segment = segment;
    }
    if (err != 0)
        return err;
    journal_forget(recovery->journal, file->size);
    if (recovery->segment == NULL)
        return 0;
    recovery->live = 0;
    recovery->stats.segments++;
    if (segment->limit < ((const struct segment_header *)segment->base)->size) {
        log_error("segment file is too short segment=%u bytes=%zu", file->number, segment->limit);
        recover_count_damage(recovery);
    }
    recover_map_streams(recovery);
    /* Other threads may finish records while we still read: the bias keeps the segment mapped. */
    atomic_store_explicit(&segment->refs, SEGMENT_BIAS, memory_order_relaxed);
    recover_walk(recovery);
    recover_tell_unknown(recovery);
    if (recovery->live == 0) {
        const bool damaged = segment->damaged;

        if (segment_kind(segment) == SEGMENT_COPIES)
            journal_forget_copies(recovery->journal, segment);
        segment_close(segment);
        return damaged ? journal_dir_set_aside(recovery->dir, file->number)
                       : segment_unlink(recovery->spec->dir_fd, file->number);
    }
    recovery->held[i] = segment;
    recover_put_segment(segment, SEGMENT_BIAS - recovery->live - 1);
    journal_adopt(recovery->journal, segment);
    return 0;
}

int recover_open(struct recovery **out, struct journal *journal, char error[JOURNAL_ERROR_MAX])
{
    struct journal_dir *dir = journal_folder(journal);
    struct recovery *recovery = calloc(1, sizeof(*recovery));
    uint32_t number = 0;
    int err = -ENOMEM;

    snprintf(error, JOURNAL_ERROR_MAX, "out of memory while the journal is read");
    if (recovery == NULL)
        return err;
    recovery->journal = journal;
    recovery->streams_at_start = *journal_segments(journal);
    recovery->spec = &recovery->streams_at_start;
    recovery->dir = dir;
    recovery->held = calloc(dir->file_count + 1, sizeof(struct segment *));
    if (recovery->held == NULL)
        goto free_recovery;
    err = recover_settle_moves(dir, recovery->spec, &number);
    if (err != 0) {
        snprintf(error, JOURNAL_ERROR_MAX,
                 "journal folder %s: cannot decide which of several copies of an event counts: "
                 "segment %u: %s",
                 dir->path, number, strerror(-err));
        goto free_held;
    }
    *out = recovery;
    return 0;

free_held:
    free(recovery->held);
free_recovery:
    free(recovery);
    return err;
}

void recover_close(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->dir->file_count; i++)
        recover_release(recovery, i);
    free(recovery->held);
    free(recovery);
}

size_t recover_segments(const struct recovery *recovery)
{
    return recovery->dir->file_count;
}

const struct recover_stats *recover_stats(const struct recovery *recovery)
{
    return &recovery->stats;
}

int recover_read(struct recovery *recovery, size_t i, recover_record_fn visit, void *arg,
                 char error[JOURNAL_ERROR_MAX])
{
    int err;

    recovery->segment = NULL;
    recovery->visit = visit;
    recovery->arg = arg;
    err = recover_read_file(recovery, i);
    if (err == -EPROTO)
        snprintf(
            error, JOURNAL_ERROR_MAX,
            "journal folder %s: segment %u is of another version: start the alloyd that wrote it, "
            "and let it drain",
            recovery->dir->path, recovery->dir->files[i].number);
    else if (err != 0)
        snprintf(error, JOURNAL_ERROR_MAX, "journal folder %s: segment %u: %s", recovery->dir->path,
                 recovery->dir->files[i].number, strerror(-err));
    return err;
}

static bool recover_is_waiting(const struct record *record)
{
    return record_state(record) == RECORD_LIVE && record_insert_word(record) == 0 &&
           record->stream != STREAM_UNKNOWN;
}

size_t recover_take(struct recovery *recovery, size_t i, struct record **records, size_t max)
{
    const struct segment *segment = recovery->held[i];
    struct record *record;
    size_t n = 0;

    if (segment == NULL)
        return 0;
    if (recovery->offset == 0)
        recovery->offset = segment->begin;
    while (n < max &&
           recovery->offset < atomic_load_explicit(&segment->cursor, memory_order_relaxed)) {
        switch (segment_next(segment, &recovery->offset, &record)) {
        case SEGMENT_RECORD:
            if (recover_is_waiting(record))
                records[n++] = record;
            continue;
        case SEGMENT_GAP:
            continue;
        case SEGMENT_TORN:
        case SEGMENT_END:
            break;
        }
        break;
    }
    return n;
}

void recover_release(struct recovery *recovery, size_t i)
{
    if (recovery->held[i] != NULL) {
        segment_enter(recovery->held[i], SEGMENT_SEALED);
        recover_put_segment(recovery->held[i], 1);
    }
    recovery->held[i] = NULL;
    recovery->offset = 0;
}

int recover_run(struct journal *journal, recover_record_fn visit, void *arg,
                struct recover_stats *stats, char error[JOURNAL_ERROR_MAX])
{
    struct recovery *recovery;
    int err = recover_open(&recovery, journal, error);

    if (err != 0)
        return err;
    for (size_t i = 0; err == 0 && i < recover_segments(recovery); i++)
        err = recover_read(recovery, i, visit, arg, error);
    *stats = recovery->stats;
    recover_close(recovery);
    return err;
}
