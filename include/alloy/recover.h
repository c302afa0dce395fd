/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.h - reads the segments that an earlier life left in the journal folder.
 *
 * A segment's records are read from its start; reading stops at the torn tail, past which nothing
 * was ever acknowledged. Records that are LIVE keep their segment: it is mapped, its live count is
 * rebuilt, and it is removed like any other when they are finished.
 *
 * There are two passes, so that nobody has to keep a list of all LIVE records: recover_read()
 * checks and counts, recover_take() hands out. In between a segment that holds LIVE records stays
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
    uint64_t corrupt;        /* records, or whole segments, that could not be believed */
    uint64_t unknown_stream; /* LIVE records of streams that the configuration no longer has */
};

/*
 * Called for every whole record, of any state but MOVED, in order of segment and offset; LIVE ones
 * are lent until they are finished, others until return. record->stream has been checked to be an
 * index into the present streams (it is rewritten by name when the configuration's order has
 * changed).
 */
typedef void (*recover_record_fn)(void *arg, struct record *record);

struct recovery;

/* Settles which copy of a moved record counts, on disk. Returns 0 and an owned recovery
 * (recover_close()), or -errno with a sentence in error. Once, after journal_open(). */
MUST_CHECK int recover_open(struct recovery **recovery, struct journal *journal,
                            char error[JOURNAL_ERROR_MAX]);
/* Lets go of every segment. */
void recover_close(struct recovery *recovery);

/* How many segment files the journal's folder held. They are numbered from 0, oldest first. */
size_t recover_segments(const struct recovery *recovery);
const struct recover_stats *recover_stats(const struct recovery *recovery);

/*
 * First pass: maps segment i, checks and visits its records. Without a LIVE record it is removed.
 * Returns 0, or -errno with a sentence in error, and the file stays as it is. Once for each
 * segment.
 */
MUST_CHECK int recover_read(struct recovery *recovery, size_t i, recover_record_fn visit, void *arg,
                            char error[JOURNAL_ERROR_MAX]);
/*
 * Second pass: the next LIVE records of segment i that are in no insert and whose stream is
 * present, up to max. Fewer than max: these were the last. One segment after the other.
 */
size_t recover_take(struct recovery *recovery, size_t i, struct record **records, size_t max);
/* Segment i has been handed out: from now on its LIVE records alone keep it. */
void recover_release(struct recovery *recovery, size_t i);

/* The first pass over every segment, and no second one. Returns as recover_read(). */
MUST_CHECK int recover_run(struct journal *journal, recover_record_fn visit, void *arg,
                           struct recover_stats *stats, char error[JOURNAL_ERROR_MAX]);

#endif
