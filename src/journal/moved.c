/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moved.c - finds the copies of records that are no longer where their LSN says.
 *
 * Open addressing with linear probing, at most three quarters full. Entries after a removed one
 * move up (Knuth, volume 3, algorithm 6.4 R), so that there are no tombstones.
 *
 * Runs on: any thread; the owner locks. Owns: the entries.
 */
#include "moved.h"

#include <errno.h>
#include <stdlib.h>

#define MOVED_CAPACITY_MIN 64

static size_t moved_home(const struct moved *moved, uint64_t lsn)
{
    return (size_t)((lsn * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (moved->capacity - 1);
}

/* The entry of lsn, or the free one where it belongs. */
static struct moved_entry *moved_at(const struct moved *moved, uint64_t lsn)
{
    size_t i = moved_home(moved, lsn);

    while (moved->entries[i].lsn != 0 && moved->entries[i].lsn != lsn)
        i = (i + 1) & (moved->capacity - 1);
    return &moved->entries[i];
}

int moved_reserve(struct moved *moved, size_t n)
{
    const size_t wanted = moved->count + moved->reserved + n;
    struct moved grown = *moved;

    grown.capacity = moved->capacity == 0 ? MOVED_CAPACITY_MIN : moved->capacity;
    while (wanted > grown.capacity / 4 * 3)
        grown.capacity *= 2;
    if (grown.capacity != moved->capacity) {
        grown.entries = calloc(grown.capacity, sizeof(*grown.entries));
        if (grown.entries == NULL)
            return -ENOMEM;
        for (size_t i = 0; i < moved->capacity; i++)
            if (moved->entries[i].lsn != 0)
                *moved_at(&grown, moved->entries[i].lsn) = moved->entries[i];
        free(moved->entries);
    }
    grown.reserved += n;
    *moved = grown;
    return 0;
}

void moved_cancel(struct moved *moved, size_t n)
{
    ALLOY_ASSERT(n <= moved->reserved);
    moved->reserved -= n;
}

void moved_put(struct moved *moved, struct record *copy)
{
    struct moved_entry *entry;

    moved_cancel(moved, 1);
    entry = moved_at(moved, copy->lsn);
    moved->count += entry->lsn == 0;
    *entry = (struct moved_entry){.lsn = copy->lsn, .record = copy};
}

struct record *moved_find(const struct moved *moved, uint64_t lsn)
{
    return moved->count == 0 ? NULL : moved_at(moved, lsn)->record;
}

static void moved_remove_at(struct moved *moved, size_t hole)
{
    const size_t mask = moved->capacity - 1;

    for (size_t i = (hole + 1) & mask; moved->entries[i].lsn != 0; i = (i + 1) & mask) {
        const size_t home = moved_home(moved, moved->entries[i].lsn);

        /* It may move to the hole unless its home is between the two. */
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            moved->entries[hole] = moved->entries[i];
            hole = i;
        }
    }
    moved->entries[hole] = (struct moved_entry){0};
    moved->count--;
}

void moved_drop(struct moved *moved, const struct segment *segment)
{
    for (size_t i = 0; i < moved->capacity; i++)
        while (moved->entries[i].lsn != 0 &&
               segment_offset(segment, moved->entries[i].record) < segment->size)
            moved_remove_at(moved, i);
}

void moved_fini(struct moved *moved)
{
    free(moved->entries);
    *moved = (struct moved){0};
}
