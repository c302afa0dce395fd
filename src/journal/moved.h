/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moved.h - where the records are that do not lie where their LSN says: a hash table by LSN.
 *
 * Runs on: its owner locks.
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
    size_t reserved; /* puts that must not fail */
    bool incomplete; /* there are copies that could not be entered, or read */
};

/* Makes n more puts sure to succeed. 0 or -ENOMEM. */
MUST_CHECK int moved_reserve(struct moved *moved, size_t n);
void moved_cancel(struct moved *moved, size_t n); /* gives such a promise back */
/* Enters a copy, in place of an earlier one of its LSN. Reserved before. */
void moved_put(struct moved *moved, struct record *copy);
struct record *moved_find(const struct moved *moved, uint64_t lsn); /* NULL: it was not moved */
/* Forgets the copies in a segment, which is about to go. */
void moved_drop(struct moved *moved, const struct segment *segment);
void moved_fini(struct moved *moved);

#endif
