/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dead_letter.h - writes the events that ClickHouse refuses to files, as NDJSON with the reason.
 *
 * A line is {"time":...,"lsn":...,"stream":...,"code":...,"message":...,"event":<the original
 * bytes>}, with "id" and "columns" before the event where it does not hold them itself; lsn names
 * the record by its instance id and LSN, 16 hexadecimal digits each; from it a start after a crash
 * knows what is here already (buried.h). Files are named <stream>-<UTC time>-<n>.ndjson. We append
 * and sync before the records leave the journal. A stream has one open file at a time; we begin
 * another when it is full (64 MiB, or an eighth of max_bytes if that is less), from an earlier day
 * (UTC), renamed or removed. When the folder holds max_bytes we write nothing more: such events
 * stay LIVE, and alloyd reports that. When the whole folder was moved or removed, the next write
 * notices and uses the folder that now has its path.
 */
#ifndef ALLOY_DEAD_LETTER_H
#define ALLOY_DEAD_LETTER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "alloy/base.h"
#include "alloy/segment.h"
#include "alloy/voucher.h"

struct dead_letter;

/* Opens the folder, and creates it if it is missing. Returns 0, or -errno when the folder cannot be
 * written to. dir is copied. */
MUST_CHECK int dead_letter_open(struct dead_letter **dead_letter, const char *dir);
void dead_letter_close(struct dead_letter *dead_letter);

#define DEAD_LETTER_MESSAGE_MAX 1024 /* bytes of ClickHouse's message that are kept */

/* A refused record, and why. */
struct dead_letter_line {
    struct record *record;
    const char *stream;
    bool tell_id;         /* the event's own members need not hold its id */
    int code;             /* ClickHouse's exception code */
    struct slice message; /* as ClickHouse gave it; cut and escaped in the line */
    int err; /* the result: 0 (written and synced), or as dead_letter_write_lines() returns */
};

/* What the lines of a group have in common. */
struct dead_letter_order {
    uint64_t real_ms;
    uint64_t instance_id; /* of the journal */
    uint64_t max_bytes;   /* of the folder */
    /* Goes into the folder with the first letter that only its owner may replay; NULL: none. */
    const struct voucher_key *key;
};

/* The part of a message that is kept. */
struct slice dead_letter_cut(struct slice message);
/* Writes an event's own bytes on one line, without a newline: line breaks between its tokens become
 * spaces, and columns of its request are left out. Any thread. */
void dead_letter_put_event(FILE *out, const struct record *record);
/*
 * Writes a group of lines, of any streams and reasons, and syncs each file once. Sets each line's
 * err; a line that was not written leaves nothing behind. Returns 0, or the first line's error:
 * -ENOSPC when max_bytes is reached or the disk is full (a shorter line of the group may still be
 * written), else -EIO. Owner thread; blocks.
 */
MUST_CHECK int dead_letter_write_lines(struct dead_letter *dead_letter,
                                       struct dead_letter_line *lines, size_t n,
                                       const struct dead_letter_order *order);
/* Size of the folder when we last measured it, plus what we have written since. Owner thread. */
uint64_t dead_letter_bytes(const struct dead_letter *dead_letter);

#endif
