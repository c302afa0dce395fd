/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment.h - one piece of the journal and the records in it: a file of fixed size, fallocate'd and
 * mapped shared, or the same as anonymous memory. docs/JOURNAL_FORMAT.md describes the format.
 *
 * A mapping is aligned to the journal's alignment (the largest segment, rounded up to a power of
 * two), so that a record's segment is found by masking its address.
 *
 * Runs on: as each function says. Owns: the mapping; the file stays until segment_unlink().
 */
#ifndef ALLOY_SEGMENT_H
#define ALLOY_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"

#define RECORD_MAGIC 0x32524c41u        /* "ALR2" in the file's little-endian bytes */
#define RECORD_MAGIC_INLINE 0x31524c41u /* "ALR1": up to version 4; its mark is in the record */
#define RECORD_ALIGN 8
#define SEGMENT_STREAMS_MAX 64
#define SEGMENT_STREAM_NAME 64 /* with its NUL */

/* Any two of these values, and 0, differ in 8 bits, so that we notice flipped bits and can undo up
 * to three. */
enum record_state {
    RECORD_LIVE = 0x5555,      /* accepted, not yet in ClickHouse */
    RECORD_INSERTED = 0x3333,  /* acknowledged by ClickHouse */
    RECORD_DUPLICATE = 0x0f0f, /* another record owns the id */
    RECORD_DEAD = 0x00ff,      /* in the dead-letter folder */
    RECORD_REFUSED = 0x3c3c,   /* its request was answered 503: the sync failed */
    RECORD_MOVED = 0x5a5a, /* another one counts: its copy, or the record that it is a copy of */
};

/*
 * What changes of a record in place, outside the checksum. The marks of a segment's records lie
 * together, in the order in which the records were written: a batch that is marked touches one page
 * where its records lie on twenty.
 */
struct record_mark {
    uint32_t unused;
    _Atomic uint16_t state; /* enum record_state; 0 is LIVE too */
    uint16_t unused_too;
    _Atomic uint64_t insert_id; /* 0 until it is part of an insert; sealed */
};
_Static_assert(sizeof(struct record_mark) == 16, "marks are part of the file format");

/*
 * One event. Everything but stream is written once, before written is set, and what is behind
 * mark_back is covered by the checksum. The header is followed by the event's bytes and a newline;
 * then, if the id is not verbatim in them, the canonical id; then padding to RECORD_ALIGN.
 */
struct record {
    uint32_t magic;
    uint32_t length;          /* of the whole record with its padding, bytes */
    uint32_t checksum;        /* XXH3 (low 32 bits) of lsn .. end of the canonical id; of a copy:
                                 seeded with its place, written like an LSN; mixed with the place
                                 of the mark */
    _Atomic uint16_t written; /* RECORD_LIVE; 0: not completely */
    uint16_t stream;      /* index into config->streams of this process; meaningless in a file */
    uint64_t mark_back;   /* bytes from its mark to here */
    uint64_t lsn;         /* segment number << 32 | offset in the segment; a copy's is that of
                             the original, since it names the record for ever */
    uint64_t received_ms; /* real time */
    struct hash128 hash;  /* of stream and id */
    uint32_t body_length; /* of the event's bytes and the newline */
    uint32_t id_offset;   /* of the canonical id, from body */
    uint16_t id_length;
    uint16_t stream_entry;   /* index into the stream table of its segment's header */
    uint16_t copies;         /* how often it was moved; 0: it is where its LSN says */
    uint16_t columns_length; /* of what stands behind the body's '{' and is not the event's own */
    char body[];
};
_Static_assert(sizeof(struct record) == 72, "the record header is part of the file format");
#define RECORD_COLUMNS_MAX UINT16_MAX
#define RECORD_COPIES_MAX UINT16_MAX
_Static_assert(offsetof(struct record, lsn) == 24, "where the checksum begins");

static inline const char *record_id(const struct record *record)
{
    return record->body + record->id_offset;
}

/*
 * An insert id is a number from journal_next_insert_id(), a shard, and two bits of the flusher's.
 * ClickHouse does not compare the tokens of async inserts with those of others, nor those of one
 * shard with another's, so a later life must send an insert again in the same way and to the same
 * shard; sent otherwise, its rows would be there twice. And of an insert that was sent without a
 * column for its token that column tells nothing later.
 */
#define INSERT_ID_ASYNC (UINT64_C(1) << 47)
#define INSERT_ID_PROOF (UINT64_C(1) << 46) /* its rows bear its token: stream.proof */
#define INSERT_ID_SHARD_SHIFT 40            /* 6 bits */
#define INSERT_ID_NUMBER ((UINT64_C(1) << INSERT_ID_SHARD_SHIFT) - 1)
#define INSERT_ID_MASK ((UINT64_C(1) << 48) - 1)

static inline size_t insert_id_shard(uint64_t id)
{
    return (size_t)(id >> INSERT_ID_SHARD_SHIFT & 63);
}

/* The form of an insert id in records: 16 bits of checksum on top. One store writes both. */
static inline uint64_t insert_id_seal(uint64_t id)
{
    return id | (id * UINT64_C(0x9e3779b97f4a7c15)) >> 48 << 48;
}

/* A record's mark. Up to version 4 it is the record's own bytes from its checksum on: state and
 * insert id were where written and mark_back are now. */
static inline struct record_mark *record_mark(const struct record *record)
{
    const char *at = (const char *)record;

    return (struct record_mark *)(likely(record->magic == RECORD_MAGIC)
                                      ? at - record->mark_back
                                      : at + offsetof(struct record, checksum));
}

/* As it stands in the mark: perhaps no enum record_state, when bits have flipped. */
static inline uint16_t record_state(const struct record *record)
{
    const uint16_t word = atomic_load_explicit(&record_mark(record)->state, memory_order_relaxed);

    return word == 0 ? RECORD_LIVE : word;
}

static inline void record_set_state(struct record *record, enum record_state state)
{
    atomic_store_explicit(&record_mark(record)->state, (uint16_t)state, memory_order_relaxed);
}

/* Sealed. */
static inline void record_set_insert_id(struct record *record, uint64_t word)
{
    atomic_store_explicit(&record_mark(record)->insert_id, word, memory_order_relaxed);
}

static inline uint64_t record_insert_word(const struct record *record)
{
    return atomic_load_explicit(&record_mark(record)->insert_id, memory_order_relaxed);
}

static inline uint64_t record_insert_id(const struct record *record)
{
    return record_insert_word(record) & INSERT_ID_MASK;
}

/* False: some bit of the id has flipped. */
static inline bool record_insert_id_valid(const struct record *record)
{
    const uint64_t word = record_insert_word(record);

    return word == insert_id_seal(word & INSERT_ID_MASK);
}

/* The state that word is, or was before up to three bits flipped; 0: no state. */
enum record_state record_state_of(uint16_t word);

/* Bytes of a record with parts of these lengths; id_bytes is 0 for an id that is verbatim in the
 * event. */
static inline size_t record_bytes(size_t body_length, size_t id_bytes)
{
    const size_t used = sizeof(struct record) + body_length + id_bytes;

    return (used + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

#define SEGMENT_BYTES_MIN ((size_t)64 << 10)
#define SEGMENT_BYTES_MAX ((size_t)2 << 30)
#define SEGMENT_HEADER_BYTES 8192 /* marks begin here; records, up to version 4 */
#define SEGMENT_BYTES_A_MARK 192  /* a segment has a mark for so many of its bytes */
#define SEGMENT_VERSION 5
#define SEGMENT_VERSION_INLINE 4 /* the last whose marks are in the records */
#define SEGMENT_VERSION_MIN 2    /* the oldest that we read: it has no copies */
#define SEGMENT_NAME_MAX 40

/*
 * While somebody appends to a segment (or reads it at recovery) its refs are higher by this much.
 * The appender counts in a variable of its own and corrects refs when it seals. So an append costs
 * no atomic addition, and nobody can see refs at 0 too early and unmap the segment.
 */
#define SEGMENT_BIAS ((uint64_t)1 << 32)

struct segment;

/* What a segment holds; part of the file format. */
enum segment_kind {
    SEGMENT_EVENTS, /* records where they were accepted */
    SEGMENT_COPIES, /* records that were moved here, and nothing else */
};

/*
 * A segment's life. Each move belongs to one thread; the janitor makes those between SEALED and
 * VACATING, and those to FINISHED and from it.
 *
 *    made --> SPARE --> FILLING -----> SEALED <--> VACATING
 *               ^                      ^   |          |
 *               |      opened --> RECOVERING           |
 *               |                          v          v
 *               +------- (in memory) ----- FINISHED <--+ --> unmapped
 */
enum segment_life {
    SEGMENT_SPARE,      /* ready, and nobody's */
    SEGMENT_FILLING,    /* a writer appends to it */
    SEGMENT_RECOVERING, /* of an earlier life, not handed out yet */
    SEGMENT_SEALED,     /* its LIVE records keep it */
    SEGMENT_VACATING,   /* the same, but whoever holds some of them is to move them */
    SEGMENT_FINISHED,   /* nobody needs it */
};

/* Records that a segment of this size can have, however small. */
static inline size_t segment_marks(size_t size)
{
    return size / SEGMENT_BYTES_A_MARK;
}

/* Where records begin in one. */
static inline size_t segment_begin(size_t size)
{
    return SEGMENT_HEADER_BYTES + segment_marks(size) * sizeof(struct record_mark);
}

/* A part of a segment that will be synced together with others. */
struct segment_span {
    struct segment_span *next;
    struct segment *segment;
    uint64_t round; /* the last round that touched it */
    size_t from, to;
};

/* The first SEGMENT_HEADER_BYTES of a file; unused bytes are zero. */
struct segment_header {
    char magic[8];
    uint32_t version;
    uint32_t header_bytes;
    uint32_t number;
    uint16_t stream_count;
    uint16_t kind; /* enum segment_kind; 0 in version 2 */
    uint64_t size;
    uint64_t instance_id;
    char streams[SEGMENT_STREAMS_MAX][SEGMENT_STREAM_NAME];
    uint64_t checksum;       /* XXH3 of all above */
    struct segment *segment; /* meaningless in a file */
};
_Static_assert(sizeof(struct segment_header) <= SEGMENT_HEADER_BYTES, "the header has its room");

/*
 * How many LIVE records of each stream are in each piece of SEGMENT_BLOCK bytes, so that the oldest
 * one is found without a walk over all (journal_age.c). What comes and what goes are counted apart:
 * the one is known to the segment's writer alone, so that an append costs no atomic addition.
 */
#define SEGMENT_BLOCK ((size_t)256 << 10)
struct segment_block {
    _Atomic uint64_t oldest_ms; /* received_ms of the oldest record that was ever LIVE; 0: none */
    _Atomic uint32_t offset;    /* of the first one */
};
struct segment_blocks {
    size_t streams;
    size_t count;
    struct segment_block *at; /* count */
    _Atomic uint32_t *came;   /* count x streams */
    _Atomic uint32_t *went;   /* the same */
    uint32_t *done;           /* for each stream: blocks before it are done; journal's lock */
};

struct segment {
    char *base;
    size_t size;  /* mapped */
    size_t begin; /* of its records */
    size_t limit; /* records end before it; less than size only in a file that was cut off */
    uint32_t number;
    uint64_t inode;   /* of its file; 0: in memory */
    uint64_t records; /* ever written to it; set before it is sealed */
    bool damaged;     /* something in it cannot be trusted, so its file stays; set by recovery */
    struct segment *next; /* in one of the journal's lists; under its lock */
    /* its writer only */
    _Atomic size_t marked;      /* marks given to records; also of whoever copies into it */
    struct segment *queue_next; /* reserved for, or sealed but not synced by, a writer */
    size_t sync_from;           /* sync = always: on disk up to here */
    /* under the journal's sync_lock */
    struct segment *demand_next;
    size_t demanded; /* synced up to here by journal_sync_appended() */
    /* janitor only */
    size_t synced;       /* sync = interval: on disk up to here */
    size_t marks_synced; /* the same of the marks, as they were when their records were synced */
    uint64_t sealed_ms;  /* when the janitor first saw it SEALED; 0: not yet */
    /* flusher only */
    struct segment_span stamp;
    /* under the journal's move_lock */
    struct segment_span marks;
    struct segment_blocks blocks;
    _Atomic uint8_t life; /* enum segment_life: see segment_enter() */
    /* LIVE records and holders; at 0 the segment may be unmapped. The last subtraction is a
     * release: pairs with the acquire of the janitor. */
    CACHE_ALIGNED _Atomic uint64_t refs;
    CACHE_ALIGNED _Atomic uint64_t cursor; /* end of what is written; set by its writer */
    _Atomic uint64_t populated;            /* writing below it takes no page fault */
};

/* What all segments of a journal have in common. */
struct segment_spec {
    int dir_fd; /* -1: anonymous memory */
    bool sync;  /* force file and folder to the disk at creation */
    enum segment_kind kind;
    size_t size;
    size_t align;
    uint64_t instance_id;
    size_t stream_count;
    char streams[SEGMENT_STREAMS_MAX][SEGMENT_STREAM_NAME];
};

/* The segment of a record. Any thread. */
static inline struct segment *segment_of(const struct record *record, size_t align)
{
    const uintptr_t base = (uintptr_t)record & ~(uintptr_t)(align - 1);

    return ((const struct segment_header *)base)->segment;
}

/* Where the marks end that records have. Any thread: who has seen a record in cursor sees its mark
 * here. */
static inline size_t segment_marks_end(const struct segment *segment)
{
    return SEGMENT_HEADER_BYTES + atomic_load_explicit(&segment->marked, memory_order_relaxed) *
                                      sizeof(struct record_mark);
}

/* Where a record is in its segment. Use this and not the LSN, which a copy has from its original.
 * Any thread. */
static inline size_t segment_offset(const struct segment *segment, const struct record *record)
{
    return (size_t)((const char *)record - segment->base);
}

static inline uint64_t segment_lsn(const struct segment *segment, size_t offset)
{
    return (uint64_t)segment->number << 32 | offset;
}

static inline enum segment_kind segment_kind(const struct segment *segment)
{
    return (enum segment_kind)((const struct segment_header *)segment->base)->kind;
}

/* Any thread; the segment may have moved on by the time the caller looks at the result. */
static inline enum segment_life segment_life(const struct segment *segment)
{
    /* acquire: pairs with the release in segment_enter() */
    return (enum segment_life)atomic_load_explicit(&segment->life, memory_order_acquire);
}

/* Moves a segment on in its life. Asserts that the diagram has this arrow, and that refs are as the
 * new place requires. Runs on the thread that the move belongs to. */
void segment_enter(struct segment *segment, enum segment_life life);

/* Smallest alignment that serves segments of this size. */
size_t segment_align(size_t size);

/* Makes a file of this number with all its blocks, or the same in memory. Returns 0 and an owned
 * spare segment (segment_close()), or -errno with nothing left behind. Any thread. */
MUST_CHECK int segment_create(struct segment **segment, const struct segment_spec *spec,
                              uint32_t number);
/* Memory only: turns a finished segment into a new one of this number. Its sole owner. */
void segment_renew(struct segment *segment, const struct segment_spec *spec, uint32_t number);
/* Maps a file of an earlier life, which is then RECOVERING. Returns 0 and an owned segment;
 * -EBADMSG when its header is broken or of another instance; -EPROTO when it is of another version;
 * else -errno as from open(2) and mmap(2). */
MUST_CHECK int segment_open(struct segment **segment, const struct segment_spec *spec,
                            uint32_t number);
/* What the file of this number holds, according to its header; a file with a broken header counts
 * as one of events. */
enum segment_kind segment_file_kind(const struct segment_spec *spec, uint32_t number);
/* Where its records begin; 0: its header is broken. */
size_t segment_file_begin(const struct segment_spec *spec, uint32_t number);
/* Like segment_open(), for tools: maps read-only, whichever alloyd has the folder. Ignores align of
 * spec. */
MUST_CHECK int segment_peek(struct segment **segment, const struct segment_spec *spec,
                            uint32_t number);
/* Unmaps and frees; the file stays. */
void segment_close(struct segment *segment);
/* Removes the file of a segment; 0 or -errno. */
int segment_unlink(int dir_fd, uint32_t number);
/* "segment-0000000012.alj" into name (SEGMENT_NAME_MAX bytes). */
void segment_name(char *name, uint32_t number, const char *suffix);

/* Takes the page faults up to the offset now, in steps, so that the writer does not have to.
 * Janitor or creator. */
void segment_populate(struct segment *segment, size_t upto);

/* An event on its way into a record; slices are borrowed. */
struct record_parts {
    struct slice text;
    struct slice
        columns; /* members to stand before the event's own, behind its '{'; may be empty */
    struct slice id;
    bool id_verbatim;
    uint16_t stream;
    struct hash128 hash;
    uint64_t received_ms;
};
/* Writes a record at offset, where there must be room, and a mark left for it. The segment's
 * writer. */
struct record *segment_write(struct segment *segment, size_t offset,
                             const struct record_parts *parts);

/* Copies a record to offset, where there must be room, and a mark left, with the same LSN and state
 * LIVE. The segment's writer. */
struct record *segment_copy(struct segment *segment, size_t offset, const struct record *record);

/* Counts a record that is about to become LIVE at offset; before anybody can finish it. The
 * segment's writer. */
void segment_came(struct segment *segment, size_t offset, size_t stream, uint64_t received_ms);
/* Counts n records of a block that are LIVE no more; while the segment is held. Any thread. */
static inline void segment_went(struct segment *segment, size_t block, size_t stream, uint32_t n)
{
    /* release: pairs with the acquire in segment_block_live() */
    atomic_fetch_add_explicit(&segment->blocks.went[block * segment->blocks.streams + stream], n,
                              memory_order_release);
}
static inline size_t segment_block_of(size_t offset)
{
    return offset / SEGMENT_BLOCK;
}
/* LIVE records of a stream in a block. Any thread. */
uint32_t segment_block_live(const struct segment *segment, size_t block, size_t stream);
/* When the oldest LIVE record of a stream in a block was received; 0: there is none. Reads the
 * records, so the segment must be held; any thread. */
uint64_t segment_block_oldest(const struct segment *segment, size_t block, size_t stream);

/* The whole record at offset, which is one of RECORD_ALIGN and from begin on, or NULL. Trusts
 * nothing in the mapping. */
struct record *segment_record_at(const struct segment *segment, size_t offset);
/* Whether what may be a record begins like one, and has its mark where marks are: then
 * record_mark() can be called. */
bool segment_has_mark(const struct segment *segment, const struct record *record);

enum segment_step {
    SEGMENT_RECORD, /* a whole record */
    SEGMENT_GAP,    /* something broken, and a whole record after it */
    SEGMENT_TORN,   /* something broken, and no record after it */
    SEGMENT_END,    /* zeros to the end */
};
/*
 * Reads the record at *offset (begin at segment->begin). RECORD: *record is lent, and *offset
 * is now past it. GAP: *offset is now at the next whole record. TORN and END: *offset stays. Trusts
 * nothing in the mapping.
 */
enum segment_step segment_next(const struct segment *segment, size_t *offset,
                               struct record **record);

#endif
