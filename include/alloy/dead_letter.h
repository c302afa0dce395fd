/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dead_letter.h - events that ClickHouse refuses, kept as NDJSON with the reason.
 *
 * A line is {"time":...,"stream":...,"code":...,"message":...,"event":<the original bytes>}. Files
 * are named <stream>-<UTC time>-<n>.ndjson, appended to and synced before the records are taken out
 * of the journal; a line that a killed life has just written does not come again. When the folder
 * holds max_bytes nothing more is written: such events stay LIVE, and alloyd says so.
 */
#ifndef ALLOY_DEAD_LETTER_H
#define ALLOY_DEAD_LETTER_H

#include <stdint.h>

#include "alloy/base.h"
#include "alloy/segment.h"

struct dead_letter;

/* Opens (creating) the folder. 0, or -errno when it cannot be written. */
MUST_CHECK int dead_letter_open(struct dead_letter **dead_letter, const char *dir);
void dead_letter_close(struct dead_letter *dead_letter);

struct dead_letter_reason {
    const char *stream;
    int code;             /* ClickHouse's exception code */
    struct slice message; /* as ClickHouse gave it; cut and escaped here */
    uint64_t real_ms;
};

/* Writes n records and syncs. 0; -ENOSPC: max_bytes reached or disk full, -EIO: nothing counts as
 * written (a torn tail is cut off). Owner thread. */
MUST_CHECK int dead_letter_write(struct dead_letter *dead_letter, struct record *const *records,
                                 size_t n, const struct dead_letter_reason *reason,
                                 uint64_t max_bytes);

#endif
