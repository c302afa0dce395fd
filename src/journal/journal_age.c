/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_age.c - finds the oldest event that is not in ClickHouse yet.
 *
 * Each segment counts the LIVE records of its blocks (segment.h). A block's time is when its first
 * record was received, so no record in it is older: we look into the block with the earliest time,
 * and into others only while their time is earlier than the oldest record found so far. Writers
 * fill their segments side by side, so these are few.
 *
 * Blocks are looked for under the journal's lock. Records are read without it, since a page of an
 * old segment may have to come from the disk: a ref keeps the segment mapped.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "journal_private.h"

#include <pthread.h>

#define LOOKS_MAX 64 /* most blocks that are looked into */

/* A block with LIVE records of the stream. */
struct age_block {
    struct segment *segment; /* NULL: there is none */
    uint32_t number;
    size_t index;
    uint64_t oldest_ms;
};

/* Under the journal's lock: the first block of a segment that has LIVE records of the stream. */
static size_t journal_age_first(struct segment *segment, size_t stream)
{
    const size_t cursor = atomic_load_explicit(&segment->cursor, memory_order_acquire);
    size_t i = segment->blocks.done[stream];

    for (; i < segment->blocks.count && i * SEGMENT_BLOCK < cursor; i++) {
        if (segment_block_live(segment, i, stream) > 0)
            return i;
        /* Nothing comes to a block once the writer has left it. */
        if (i == segment->blocks.done[stream] && (i + 1) * SEGMENT_BLOCK <= cursor)
            segment->blocks.done[stream]++;
    }
    return segment->blocks.count;
}

/* Whether a block comes after another in the order in which we look: by time, segment, place. */
static bool journal_age_is_after(const struct age_block *block, const struct age_block *other)
{
    if (block->oldest_ms != other->oldest_ms)
        return block->oldest_ms > other->oldest_ms;
    if (block->number != other->number)
        return block->number > other->number;
    return block->index > other->index;
}

/* Under the journal's lock: takes a segment's block for found if it is the next one to look into.
 * The blocks of a segment follow each other in time, but for those of copies. */
static void journal_age_try(struct segment *segment, size_t stream, const struct age_block *last,
                            struct age_block *found)
{
    const bool all = segment_kind(segment) == SEGMENT_COPIES;

    for (size_t i = journal_age_first(segment, stream); i < segment->blocks.count; i++) {
        const struct age_block block = {
            .segment = segment,
            .number = segment->number,
            .index = i,
            .oldest_ms =
                atomic_load_explicit(&segment->blocks.at[i].oldest_ms, memory_order_relaxed),
        };

        if (segment_block_live(segment, i, stream) > 0 && journal_age_is_after(&block, last) &&
            block.oldest_ms < found->oldest_ms)
            *found = block;
        if (!all)
            return;
    }
}

/* Finds the next block after last whose time is before before_ms, and holds its segment. */
static struct age_block journal_age_next(struct journal *journal, size_t stream,
                                         const struct age_block *last, uint64_t before_ms)
{
    struct age_block found = {.oldest_ms = before_ms};

    pthread_mutex_lock(&journal->lock);
    for (struct segment *segment = journal->in_use; segment != NULL; segment = segment->next)
        /* At 0 all its records are finished, and the janitor may remove it. */
        if (stream < segment->blocks.streams &&
            atomic_load_explicit(&segment->refs, memory_order_relaxed) > 0)
            journal_age_try(segment, stream, last, &found);
    if (found.segment != NULL)
        /* If refs came to 0 just now: the janitor needs the lock to remove it, so it is still
         * there. */
        atomic_fetch_add_explicit(&found.segment->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&journal->lock);
    return found;
}

uint64_t journal_oldest_ms(struct journal *journal, size_t stream)
{
    struct age_block block = {0};
    uint64_t oldest_ms = UINT64_MAX;

    for (int looks = 0; looks < LOOKS_MAX; looks++) {
        uint64_t found_ms;

        block = journal_age_next(journal, stream, &block, oldest_ms);
        if (block.segment == NULL)
            break;
        found_ms = segment_block_oldest(block.segment, block.index, stream);
        /* Something broken stands before it: it is no older than its block. */
        if (found_ms == 0 && segment_block_live(block.segment, block.index, stream) > 0)
            found_ms = block.oldest_ms;
        if (found_ms != 0 && found_ms < oldest_ms)
            oldest_ms = found_ms;
        journal_put_records(journal, block.segment, 1);
    }
    return oldest_ms == UINT64_MAX ? 0 : oldest_ms;
}
