/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dead_letter.h - events that ClickHouse refuses, kept as NDJSON with the reason.
 *
 * A line is {"time":...,"lsn":...,"stream":...,"code":...,"message":...,"event":<the original
 * bytes>}; lsn names the record: instance id and LSN, 16 hexadecimal digits each, by which a start
 * after a crash knows what is here already (buried.h). Files are named
 * <stream>-<UTC time>-<n>.ndjson, appended to and synced before the records are taken out of the
 * journal. A stream has one open file at a time, until it is full (64 MiB, or an eighth of
 * max_bytes where that is less), of yesterday (UTC), renamed or removed. When the folder holds
 * max_bytes nothing more is written: such events stay LIVE, and alloyd says so. A folder that was
 * moved or removed as a whole is noticed at the next write, and the one that has its path is used.
 */
#ifndef ALLOY_DEAD_LETTER_H
#define ALLOY_DEAD_LETTER_H

#include <stdint.h>

#include "alloy/base.h"
#include "alloy/segment.h"

struct dead_letter;

/* Opens (creating) the folder. 0, or -errno when it cannot be written. dir is copied. */
MUST_CHECK int dead_letter_open(struct dead_letter **dead_letter, const char *dir);
void dead_letter_close(struct dead_letter *dead_letter);

#define DEAD_LETTER_MESSAGE_MAX 1024 /* bytes of ClickHouse's message that are kept */

/* A refused record, and why. */
struct dead_letter_line {
    struct record *record;
    const char *stream;
    int code;             /* ClickHouse's exception code */
    struct slice message; /* as ClickHouse gave it; cut and escaped in the line */
    int err;              /* set: 0: written and synced; or as dead_letter_write_lines() returns */
};

/* What the lines of a group have in common. */
struct dead_letter_order {
    uint64_t real_ms;
    uint64_t instance_id; /* of the journal */
    uint64_t max_bytes;   /* of the folder */
};

/* The part of a message that is kept. */
struct slice dead_letter_cut(struct slice message);
/*
 * Writes a group of lines, of any streams and for any reasons, and syncs each file once. Sets each
 * line's err; a line that was not written left nothing behind. Returns 0, or the first line's
 * error: -ENOSPC: max_bytes reached or disk full (a shorter line of the group may be written), else
 * -EIO. Owner thread; blocks.
 */
MUST_CHECK int dead_letter_write_lines(struct dead_letter *dead_letter,
                                       struct dead_letter_line *lines, size_t n,
                                       const struct dead_letter_order *order);
/* Size of the folder when last looked at (at the latest when another took its path), with all
 * written since. Owner thread. */
uint64_t dead_letter_bytes(const struct dead_letter *dead_letter);

#endif
