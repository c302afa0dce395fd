/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_walk.c - reads the records of a segment that a running alloyd may be writing to. Trusts
 * nothing in it.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_walk.h"

/* Says what is wrong at offset, where there is no valid record. */
static const char *ctl_walk_diagnose(const struct segment *segment, size_t offset)
{
    const struct record *record = (const struct record *)(segment->base + offset);

    if (segment->limit - offset < sizeof(*record) ||
        (record->magic != RECORD_MAGIC && record->magic != RECORD_MAGIC_INLINE))
        return "no record begins here";
    if (record->copies == 0 && record->lsn != segment_lsn(segment, offset))
        return "record does not belong here";
    if (atomic_load_explicit(&record->written, memory_order_relaxed) == 0)
        return "record was never finished";
    return "record does not match its checksum";
}

/* True when there is a whole record now: a running alloyd has finished writing it meanwhile. */
static bool ctl_walk_is_whole_now(const struct segment *segment, size_t offset)
{
    struct record *record;

    return segment_next(segment, &offset, &record) == SEGMENT_RECORD;
}

/* True when the record at offset says that it is written, which comes last. Before that it is
 * being written, or its writer was killed before it was acknowledged. */
static bool ctl_walk_is_finished(const struct segment *segment, size_t offset)
{
    const struct record *record = (const struct record *)(segment->base + offset);

    /* acquire: pairs with the release in segment_write(); we then see what was written before it */
    return segment->limit - offset < sizeof(*record) ||
           atomic_load_explicit(&record->written, memory_order_acquire) != 0;
}

/* Tells of what is broken at a place. */
static void ctl_walk_tell(const struct ctl_walk *walk, const struct segment *segment, size_t offset,
                          const char *after)
{
    char text[160];

    snprintf(text, sizeof(text), "%s%s", ctl_walk_diagnose(segment, offset), after);
    walk->problem(walk->arg, segment, offset, text);
}

size_t ctl_walk_segment(const struct ctl_walk *walk, const struct segment *segment)
{
    size_t offset = segment->begin;
    struct record *record;
    char after[64];
    bool finished;

    for (;;) {
        const size_t before = offset;

        switch (segment_next(segment, &offset, &record)) {
        case SEGMENT_RECORD:
            walk->record(walk->arg, segment, record);
            break;
        case SEGMENT_GAP:
            /* In this order: once a later record is finished, all before it are. */
            snprintf(after, sizeof(after), "; %zu bytes to the next one", offset - before);
            if (ctl_walk_is_finished(segment, offset) && ctl_walk_is_whole_now(segment, before))
                offset = before;
            else
                ctl_walk_tell(walk, segment, before, after);
            break;
        case SEGMENT_TORN:
            /* In this order: a record that is written must be whole, or it is broken. */
            finished = ctl_walk_is_finished(segment, offset);
            if (ctl_walk_is_whole_now(segment, offset))
                break;
            if (finished)
                ctl_walk_tell(walk, segment, offset, ", and none follows");
            return offset;
        case SEGMENT_END:
            return offset;
        }
    }
}
