/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - one piece of the journal: a file of fixed size, fallocate'd and mapped shared, or the
 * same as anonymous memory, and the records in it. docs/JOURNAL_FORMAT.md is the format's
 * description.
 *
 * A mapping is aligned to SEGMENT_ALIGN(size) (the size rounded up to a power of two), so that a
 * record's segment is found by masking its address.
 */
#ifndef ALLOY_SEGMENT_H
#define ALLOY_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"

#define RECORD_MAGIC 0x31524c41u /* "ALR1" in the file's little-endian bytes */
#define RECORD_ALIGN 8
#define SEGMENT_STREAMS_MAX 64
#define SEGMENT_STREAM_NAME 64 /* with its NUL */

enum record_state {
    RECORD_LIVE = 1,      /* accepted, not yet in ClickHouse */
    RECORD_INSERTED = 2,  /* acknowledged by ClickHouse */
    RECORD_DUPLICATE = 3, /* another record owns the id */
    RECORD_DEAD = 4,      /* in the dead-letter folder */
};

/*
 * One event. Everything but state and insert_id is written once, before state becomes LIVE, and is
 * covered by the checksum. After the header: the event's bytes and a newline; then, only where the
 * id is not verbatim in them, the canonical id; then padding to RECORD_ALIGN.
 */
struct record {
    uint32_t magic;
    uint32_t length;   /* of the whole record with its padding, bytes */
    uint32_t checksum; /* XXH3 (low 32 bits) of lsn .. end of the canonical id, but for the two
                          mutable fields */
    _Atomic uint32_t state;
    _Atomic uint64_t insert_id; /* 0 until it is part of an insert */
    uint64_t lsn;               /* segment number << 32 | offset in the segment */
    uint64_t received_ms;       /* real time */
    struct hash128 hash;        /* of stream and id */
    uint32_t body_length;       /* of the event's bytes and the newline */
    uint32_t id_offset;         /* of the canonical id, from body */
    uint16_t id_length;
    uint16_t
        stream; /* index into the segment's stream table, and in this process config->streams */
    uint32_t reserved; /* 0 */
    char body[];
};
_Static_assert(sizeof(struct record) == 72, "the record header is part of the file format");

static inline const char *record_id(const struct record *record)
{
    return record->body + record->id_offset;
}

#endif
