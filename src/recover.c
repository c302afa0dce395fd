/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - reads the segments that an earlier life left in the journal folder.
 *
 * What is broken is set aside and told, never guessed at: a segment whose header is broken keeps
 * its bytes under another name; a broken record is skipped when whole ones follow it. What follows
 * the last whole record was never acknowledged.
 *
 * Runs on: main, before the first append. A record may be finished by another thread from the
 * moment it is visited. Owns: nothing; segments with LIVE records go to the journal.
 */
#include "alloy/recover.h"

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
    recover_record_fn visit;
    void *arg;
    struct recover_stats *stats;
    /* the segment that is being read */
    struct segment *segment;
    uint64_t live;                         /* LIVE records in it, unknown streams included */
    uint16_t streams[SEGMENT_STREAMS_MAX]; /* present index of each entry of its stream table */
    uint64_t unknown[SEGMENT_STREAMS_MAX]; /* LIVE records of entries that are not present */
};

static void map_streams(struct recovery *recovery)
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

static void take_record(struct recovery *recovery, struct record *record)
{
    const uint16_t stream = recovery->streams[record->stream_entry];
    uint16_t state = atomic_load_explicit(&record->state, memory_order_relaxed);

    if (state > RECORD_REFUSED) {
        /* Which one it was is lost. An event too many can be recognized later, one too few not. */
        log_error("record with an impossible state is taken as live segment=%u offset=%zu state=%u",
                  recovery->segment->number, record_offset(record), state);
        recovery->stats->corrupt++;
        state = RECORD_LIVE;
        atomic_store_explicit(&record->state, state, memory_order_relaxed);
    }
    recovery->stats->records++;
    if (state == RECORD_LIVE)
        recovery->live++;
    if (stream == STREAM_UNKNOWN) {
        recovery->unknown[record->stream_entry] += state == RECORD_LIVE;
        return;
    }
    record->stream = stream;
    if (state == RECORD_LIVE) {
        recovery->stats->live++;
        journal_adopt_live(recovery->journal, stream);
    }
    recovery->visit(recovery->arg, record);
}

static void walk(struct recovery *recovery)
{
    struct segment *segment = recovery->segment;
    const uint32_t number = segment->number;
    size_t offset = SEGMENT_HEADER_BYTES;
    size_t before;
    struct record *record;

    for (;;) {
        before = offset;
        switch (segment_next(segment, &offset, &record)) {
        case SEGMENT_RECORD:
            take_record(recovery, record);
            continue;
        case SEGMENT_GAP:
            log_error("broken record set aside segment=%u offset=%zu bytes=%zu", number, before,
                      offset - before);
            recovery->stats->corrupt++;
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
}

static void tell_unknown(struct recovery *recovery)
{
    const struct segment_header *header = (const struct segment_header *)recovery->segment->base;

    for (size_t i = 0; i < header->stream_count; i++) {
        if (recovery->streams[i] != STREAM_UNKNOWN || recovery->unknown[i] == 0)
            continue;
        log_error("events of a stream that is not configured are kept stream=\"%s\" segment=%u "
                  "events=%llu",
                  header->streams[i], recovery->segment->number,
                  (unsigned long long)recovery->unknown[i]);
        recovery->stats->unknown_stream += recovery->unknown[i];
    }
}

/* Its bytes stay for whoever can read them; no later life will try again. */
static int set_aside(struct recovery *recovery, uint32_t number)
{
    char name[SEGMENT_NAME_MAX], aside[SEGMENT_NAME_MAX];

    segment_name(name, number, "alj");
    segment_name(aside, number, "alj.corrupt");
    if (renameat(recovery->spec->dir_fd, name, recovery->spec->dir_fd, aside) != 0)
        return -errno;
    log_error("segment with a broken header set aside segment=%u file=%s", number, aside);
    recovery->stats->corrupt++;
    return 0;
}

static int recover_file(struct recovery *recovery, const struct journal_dir_file *file)
{
    struct segment *segment;
    int err;

    journal_forget(recovery->journal, file->size);
    err = segment_open(&segment, recovery->spec, file->number);
    if (err == -EBADMSG || err == -ELOOP)
        return set_aside(recovery, file->number);
    if (err != 0)
        return err;
    recovery->segment = segment;
    recovery->live = 0;
    recovery->stats->segments++;
    if (segment->limit < ((const struct segment_header *)segment->base)->size) {
        log_error("segment was cut off segment=%u bytes=%zu", file->number, segment->limit);
        recovery->stats->corrupt++;
    }
    map_streams(recovery);
    /* Records may be finished while we still read: the bias keeps the segment. */
    atomic_store_explicit(&segment->refs, SEGMENT_BIAS, memory_order_relaxed);
    walk(recovery);
    tell_unknown(recovery);
    if (recovery->live == 0) {
        segment_close(segment);
        return segment_unlink(recovery->spec->dir_fd, file->number);
    }
    journal_adopt(recovery->journal, segment);
    /* release: pairs with the acquire of the janitor, which removes what is finished already */
    atomic_fetch_sub_explicit(&segment->refs, SEGMENT_BIAS - recovery->live, memory_order_release);
    return 0;
}

int recover_run(struct journal *journal, recover_record_fn visit, void *arg,
                struct recover_stats *stats, char error[JOURNAL_ERROR_MAX])
{
    const struct journal_dir *dir = journal_folder(journal);
    struct recovery recovery = {
        .journal = journal,
        .spec = journal_segments(journal),
        .visit = visit,
        .arg = arg,
        .stats = stats,
    };

    *stats = (struct recover_stats){0};
    for (size_t i = 0; i < dir->file_count; i++) {
        const int err = recover_file(&recovery, &dir->files[i]);

        if (err != 0) {
            snprintf(error, JOURNAL_ERROR_MAX, "journal folder %s: segment %u: %s", dir->path,
                     dir->files[i].number, strerror(-err));
            return err;
        }
    }
    return 0;
}
