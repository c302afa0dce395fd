/* SPDX-License-Identifier: Apache-2.0 */
/*
 * segment_pages.c - the pages of a segment's mapping: taken before the writer comes, in huge ones
 * where a sync has much to write, and made small again where it has little.
 *
 * In a file a page of 4 KiB is made dirty, written and marked one by one, and holds ten records. A
 * huge page costs hardly more than one of them, but each sync writes all of it.
 *
 * Runs on: the janitor, or who makes the segment. Owns: nothing.
 */
#include "alloy/segment.h"

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif

void segment_read_huge(const struct segment *segment, size_t from)
{
    /* The advice is for a second mapping: on the first it would stay, and each change of mind would
     * split that in two. */
    char *twin = mremap(segment->base + from, 0, SEGMENT_STEP, MREMAP_MAYMOVE);

    if (twin == MAP_FAILED)
        return;
    if (madvise(twin, SEGMENT_STEP, MADV_HUGEPAGE) == 0)
        (void)madvise(twin, (size_t)sysconf(_SC_PAGESIZE), MADV_POPULATE_READ);
    munmap(twin, SEGMENT_STEP);
}

void segment_populate(struct segment *segment, size_t upto, bool huge)
{
    size_t from = atomic_load_explicit(&segment->populated, memory_order_relaxed);

    if (upto > segment->size)
        upto = segment->size;
    while (from < upto) {
        const size_t left = segment->size - from;
        const size_t step = left < SEGMENT_STEP ? left : SEGMENT_STEP;

        if (huge && step == SEGMENT_STEP && segment->inode != 0 && from % SEGMENT_STEP == 0) {
            segment_read_huge(segment, from);
            segment->huge_end = from + step;
        }
        /* A kernel without it (before 5.14) just leaves the faults to the writer. */
        if (madvise(segment->base + from, step, MADV_POPULATE_WRITE) != 0)
            from = segment->size;
        else
            from += step;
        /* relaxed: only a hint for the writer */
        atomic_store_explicit(&segment->populated, from, memory_order_relaxed);
    }
}

void segment_make_small(struct segment *segment, size_t from)
{
    const size_t end = segment->huge_end;

    segment->huge_end = 0;
    /* Pages that somebody has written to meanwhile stay as they are. */
    if (madvise(segment->base + from, end - from, MADV_PAGEOUT) == 0)
        atomic_store_explicit(&segment->populated, from, memory_order_relaxed);
}
