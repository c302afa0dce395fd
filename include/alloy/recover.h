/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.h - reads the segments that an earlier life left in the journal folder.
 *
 * We read a segment's records from its start up to the torn tail; nothing past that was ever
 * acknowledged. LIVE records keep their segment: we map it and rebuild its live count, and it is
 * removed like any other when they are finished.
 *
 * There are two passes, so that we need no list of all LIVE records in memory: recover_read()
 * checks and counts, recover_take() hands out. In between, a segment that held LIVE records stays
 * mapped even when the last of them is finished.
 *
 * Runs on: one thread at a time, beside writers and the janitor.
 */
#ifndef ALLOY_RECOVER_H
#define ALLOY_RECOVER_H

#include "alloy/base.h"
#include "alloy/journal.h"

struct recover_stats {
    uint64_t segments;
    uint64_t records; /* whole records read, any state */
    uint64_t live;
    uint64_t corrupt;        /* records, or whole segments, that cannot be trusted */
    uint64_t unknown_stream; /* LIVE records of streams that are no longer configured */
};

/*
 * Called for every whole record in any state but MOVED, in order of segment and offset. LIVE
 * records are lent until they are finished, others until return. record->stream is a valid index
 * into the present streams: we look the name up, since the order in the configuration may have
 * changed.
 */
typedef void (*recover_record_fn)(void *arg, struct record *record);

struct recovery;

/* Decides which copy of each moved record counts, and writes that to disk. Returns 0 and an owned
 * recovery (recover_close()), or -errno with a sentence in error. Call once, after
 * journal_open(). */
MUST_CHECK int recover_open(struct recovery **recovery, struct journal *journal,
                            char error[JOURNAL_ERROR_MAX]);
/* Lets go of every segment. */
void recover_close(struct recovery *recovery);

/* How many segment files the journal's folder held; below, i counts them from 0, oldest first. */
size_t recover_segments(const struct recovery *recovery);
const struct recover_stats *recover_stats(const struct recovery *recovery);

/*
 * First pass: maps segment i, checks and visits its records, and removes it when none is LIVE.
 * Returns 0, or -errno with a sentence in error and the file unchanged. Call once for each segment.
 */
MUST_CHECK int recover_read(struct recovery *recovery, size_t i, recover_record_fn visit, void *arg,
                            char error[JOURNAL_ERROR_MAX]);
/*
 * Second pass: returns up to max of the next LIVE records of segment i that are in no insert and
 * whose stream is configured. Fewer than max: these were the last. Finish one segment before the
 * next.
 */
size_t recover_take(struct recovery *recovery, size_t i, struct record **records, size_t max);
/* Segment i has been handed out: from now on only its LIVE records keep it. */
void recover_release(struct recovery *recovery, size_t i);

/* The first pass over every segment, and no second one. Returns as recover_read(). */
MUST_CHECK int recover_run(struct journal *journal, recover_record_fn visit, void *arg,
                           struct recover_stats *stats, char error[JOURNAL_ERROR_MAX]);

#endif
