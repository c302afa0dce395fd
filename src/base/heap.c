/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.c - gives memory that has been freed back to the system.
 *
 * The allocator returns only what is free at the end of its heap, and a small piece that is in use
 * there, such as an idle connection, keeps all that lies before it: after a burst of requests, or
 * of large bodies, as much as they had for as long as the process lives.
 *
 * It pays to wait until nothing is freed any more. Under a load of large bodies the pages would be
 * needed again at once, and each costs a fault.
 *
 * Runs on: as each function says.
 * Owns: nothing.
 */
#include "alloy/heap.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "alloy/base.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#define HEAP_LOOK_MS 1000
#define HEAP_BUSY_MS 10000
#define HEAP_WORTH ((size_t)1 << 20)

/* What the allocator's own thresholds become when it frees its first large piece. A lower one for
 * mappings would cost each large body a page fault for each page. */
#define HEAP_MMAP_MIN (32 << 20) /* a larger piece is a mapping of its own */
#define HEAP_END_MAX (64 << 20)  /* so much stays free at the end of a thread's heap */
#define HEAP_END_LOW (256 << 10) /* the same, while what is free is given back */
#define HEAP_END_PIECE (128 << 10)

static _Atomic unsigned heap_trims;     /* relaxed: a count, it orders nothing */
static _Atomic size_t heap_freed_bytes; /* relaxed: a count, it orders nothing */

void heap_init(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_TRIM_THRESHOLD, HEAP_END_MAX);
    (void)mallopt(M_MMAP_THRESHOLD, HEAP_MMAP_MIN);
#endif
}

void heap_freed(size_t bytes)
{
    atomic_fetch_add_explicit(&heap_freed_bytes, bytes, memory_order_relaxed);
}

static void heap_set_end(int bytes)
{
#ifdef __GLIBC__
    (void)mallopt(M_TRIM_THRESHOLD, bytes);
#else
    (void)bytes;
#endif
}

/* malloc_trim() returns what is free between pieces in use, but of a thread's heap not the end:
 * that only free() does, called by a thread of that heap. */
static void heap_give_back(void)
{
    heap_set_end(HEAP_END_LOW);
    atomic_fetch_add_explicit(&heap_trims, 1, memory_order_relaxed);
#ifdef __GLIBC__
    (void)malloc_trim(0);
#endif
}

void heap_follow(unsigned *trims)
{
    const unsigned now = atomic_load_explicit(&heap_trims, memory_order_relaxed);
    void *volatile piece;

    if (likely(now == *trims))
        return;
    *trims = now;
    /* Of this size on free() looks at the heap's end, wherever the piece lies. */
    piece = malloc(HEAP_END_PIECE);
    free(piece);
}

bool heap_look(struct heap_watch *watch, uint64_t now_ms)
{
    const size_t freed = atomic_load_explicit(&heap_freed_bytes, memory_order_relaxed);
    const bool calm = freed == watch->seen;

    if (now_ms - watch->looked_ms < HEAP_LOOK_MS)
        return false;
    if (watch->looked_ms == 0)
        watch->trimmed_ms = now_ms;
    watch->looked_ms = now_ms;
    watch->seen = freed;
    if (watch->low)
        heap_set_end(HEAP_END_MAX);
    watch->low = false;
    if (freed - watch->trimmed < HEAP_WORTH || (!calm && now_ms - watch->trimmed_ms < HEAP_BUSY_MS))
        return false;
    watch->trimmed = freed;
    watch->trimmed_ms = now_ms;
    watch->low = true;
    heap_give_back();
    return true;
}
