/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_files.h - the files in the journal's folder that back L1's generations, so that a later life
 * knows the ids of this one. docs/JOURNAL_FORMAT.md describes the format.
 *
 * Only l1*.c use it.
 */
#ifndef ALLOY_L1_FILES_H
#define ALLOY_L1_FILES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"

/* The lowest bits of an entry's hi are not part of the hash: they hold the time when the id was
 * added. */
#define L1_STAMP_BITS 24

/* One id. lo and hi both 0: unused, or removed. A kill between the two stores leaves a hash that no
 * event has. */
struct l1_entry {
    _Atomic uint64_t lo;
    _Atomic uint64_t hi;
    _Atomic uint64_t lsn; /* of the record that owns the id */
};

/* A generation's ids, in a mapped file or in anonymous memory. */
struct l1_slab {
    char magic[8];
    uint32_t version;
    uint32_t entry_bytes;
    uint64_t instance_id;
    uint64_t capacity;            /* entries */
    _Atomic uint64_t youngest_ms; /* when the last id was added, real time in a file; 0: empty */
    uint64_t stamp_shift;         /* a stamp counts steps of 2^this milliseconds */
    uint64_t reserved[2];
    struct l1_entry entries[];
};
_Static_assert(sizeof(struct l1_slab) == 64, "the header is part of the file format");

struct l1_files;

/* Files of version 1 have no stamps: there these bits belong to the hash. */
#define L1_SLAB_VERSION 2

static inline size_t l1_slab_bytes(size_t capacity)
{
    return sizeof(struct l1_slab) + capacity * sizeof(struct l1_entry);
}

/* Opens or makes the state file of a folder, and lists the files that earlier lives left. Returns 0
 * and owned files (l1_files_close()), or -errno. */
MUST_CHECK int l1_files_open(struct l1_files **files, int dir_fd, uint64_t instance_id);
/* clean: every slab has been synced, and none exists only in memory. */
void l1_files_close(struct l1_files *files, bool clean);

/*
 * True when the files found hold every id of the earlier lives that has not been removed: the last
 * life ended in order, or the process died under this same boot, and no file is missing since.
 */
bool l1_files_complete(const struct l1_files *files);
/* The ids that the files lacked have been added to L1 from the journal. */
void l1_files_mark_complete(struct l1_files *files);

/* Files of earlier lives, oldest first. */
size_t l1_files_count(const struct l1_files *files);
/* Maps the i-th for reading. Returns owned (l1_slab_unmap()); NULL: it cannot be read or trusted
 * (logged), and the ids are no longer complete. */
const struct l1_slab *l1_files_read(struct l1_files *files, size_t i);
/* Removes the i-th. */
void l1_files_discard(struct l1_files *files, size_t i);

/* Makes a file with all its blocks and maps it, all zero except for the header. Returns owned
 * (l1_slab_unmap()); NULL: the disk is full, or another error (logged when it begins). */
struct l1_slab *l1_files_create(struct l1_files *files, size_t capacity, uint32_t *number);
void l1_files_remove(struct l1_files *files, uint32_t number);
/* Counts slabs that exist only in memory: 1 for one more, -1 for one less. */
void l1_files_count_unsaved(struct l1_files *files, int change);

void l1_slab_unmap(const struct l1_slab *slab);

#endif
