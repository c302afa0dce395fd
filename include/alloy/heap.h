/* SPDX-License-Identifier: Apache-2.0 */
/*
 * heap.h - gives memory that has been freed back to the system.
 */
#ifndef ALLOY_HEAP_H
#define ALLOY_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sets from when on the allocator returns memory by itself. Main thread, before all others. */
void heap_init(void);

/* Notes that a large piece of memory has been freed. Any thread. */
void heap_freed(size_t bytes);

/* When heap_look() may trim again, and what it has seen. Zero-initialise. */
struct heap_watch {
    uint64_t looked_ms;
    uint64_t trimmed_ms;
    size_t seen;    /* bytes freed so far, at the last look */
    size_t trimmed; /* the same, when we trimmed */
    bool low;       /* threads may give back the ends of their heaps */
};

/*
 * Called at least once a second. When enough has been freed, and nothing more for a second, or 10 s
 * have passed, it tells the allocator to give back what is free, which takes milliseconds. Returns
 * whether it did. One thread for each watch; now_ms is clock_mono_ms().
 */
bool heap_look(struct heap_watch *watch, uint64_t now_ms);

/* For a thread that uses much memory, at least twice a second: when heap_look() has trimmed since
 * the last call, the end of the calling thread's heap goes back too. *trims is the thread's own;
 * zero-initialise. */
void heap_follow(unsigned *trims);

#endif
