/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.h - reads the segments that an earlier life left in the journal folder.
 *
 * A segment's records are read from its start; reading stops at the torn tail, past which nothing
 * was ever acknowledged. Records that are LIVE keep their segment: it is mapped, its live count is
 * rebuilt, and it is removed like any other when they are finished.
 */
#ifndef ALLOY_RECOVER_H
#define ALLOY_RECOVER_H

#include "alloy/base.h"
#include "alloy/journal.h"

struct recover_stats {
    uint64_t segments;
    uint64_t records; /* whole records read, any state */
    uint64_t live;
    uint64_t corrupt;        /* records set aside: bad checksum or length in the middle */
    uint64_t unknown_stream; /* LIVE records of streams that the configuration no longer has */
};

/*
 * Called for every whole record, of any state, in order of segment and offset; LIVE ones are lent
 * until they are finished, others until return. record->stream has been checked to be an index into
 * the present streams (it is rewritten by name when the configuration's order has changed).
 */
typedef void (*recover_record_fn)(void *arg, struct record *record);

/*
 * Maps and reads every segment of an earlier life; call it once, after journal_open() and before
 * the first append. Segments without a LIVE record are removed. Returns 0 or -errno with a sentence
 * in error.
 */
MUST_CHECK int recover_run(struct journal *journal, recover_record_fn visit, void *arg,
                           struct recover_stats *stats, char error[JOURNAL_ERROR_MAX]);

#endif
