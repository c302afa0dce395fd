/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moved.h - a hash table from LSN to copy, for records that are no longer where their LSN says.
 *
 * Runs on: any thread; the owner locks.
 */
#ifndef ALLOY_MOVED_H
#define ALLOY_MOVED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/segment.h"

struct moved_entry {
    uint64_t lsn;          /* 0: free */
    struct record *record; /* the latest copy; its segment is mapped */
};

/* Zeroed: empty. */
struct moved {
    struct moved_entry *entries;
    size_t capacity; /* a power of two, or 0 */
    size_t count;
    size_t reserved; /* places reserved for puts */
    bool incomplete; /* some copies could not be read, or entered */
};

/* Reserves memory so that n more puts cannot fail. Returns 0 or -ENOMEM. */
MUST_CHECK int moved_reserve(struct moved *moved, size_t n);
void moved_cancel(struct moved *moved, size_t n); /* gives n reserved places back */
/* Enters a copy, in place of an earlier one with its LSN. The place must be reserved. */
void moved_put(struct moved *moved, struct record *copy);
struct record *moved_find(const struct moved *moved, uint64_t lsn); /* NULL: it was not moved */
/* Forgets the copies in a segment that is about to be removed. */
void moved_drop(struct moved *moved, const struct segment *segment);
void moved_fini(struct moved *moved);

#endif
