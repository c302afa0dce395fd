/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_load.c - loads the ids that earlier lives left in a folder into L1.
 *
 * Each file becomes a generation of its age, and its ids go into new files of this life: only one
 * life ever writes a file.
 *
 * Runs on: main, before other threads use L1.
 * Owns: nothing.
 */
#include "l1_private.h"

#include <errno.h>

/* When an id of an earlier life was added, in the same time as youngest_ms, when its slab's
 * youngest id was added. An age that no id can have, from flipped bits, counts as before all times:
 * a time that has wrapped around would be in the future, and the id known for ever. */
static uint64_t l1_added_ms(const struct l1_slab *slab, const struct l1_entry *entry,
                            uint64_t youngest_ms)
{
    const uint64_t stamp = atomic_load_explicit(&entry->hi, memory_order_relaxed) & STAMP_MASK;
    uint64_t age_ms;

    if (slab->version < L1_SLAB_VERSION)
        return youngest_ms;
    age_ms = l1_stamp_age(stamp, atomic_load_explicit(&slab->youngest_ms, memory_order_relaxed),
                          slab->stamp_shift);
    return age_ms < youngest_ms ? youngest_ms - age_ms : 0;
}

/* Adds the ids of one slab of an earlier life, as a generation of its age. */
static size_t l1_load_slab(struct l1_thread *thread, const struct l1_slab *slab,
                           uint64_t youngest_ms)
{
    struct l1 *l1 = thread->l1;
    size_t added = 0;

    for (size_t i = 0; i < slab->capacity; i++) {
        const struct l1_entry *entry = &slab->entries[i];
        const struct hash128 hash = l1_entry_key(entry);
        const uint64_t lsn = atomic_load_explicit(&entry->lsn, memory_order_relaxed);

        if ((hash.lo || hash.hi) &&
            l1_add(thread, &hash, lsn, l1_added_ms(slab, entry, youngest_ms) - l1->epoch_ms) ==
                L1_ADDED)
            added++;
    }
    pthread_mutex_lock(&l1->lock);
    if (l1->current)
        l1_seal(l1);
    pthread_mutex_unlock(&l1->lock);
    return added;
}

/* Loads the i-th file, unless its ids have expired, and removes it: they are in new files now. */
static void l1_load_file(struct l1_thread *thread, size_t i, uint64_t real_ms,
                         struct l1_loaded *loaded)
{
    struct l1 *l1 = thread->l1;
    const struct l1_slab *slab = l1_files_read(l1->files, i);

    if (slab) {
        uint64_t youngest_ms = atomic_load_explicit(&slab->youngest_ms, memory_order_relaxed);

        /* If the clock was set back, they would otherwise be kept for too long. */
        if (youngest_ms > real_ms)
            youngest_ms = real_ms;
        if (real_ms - youngest_ms < l1->ttl_ms) {
            loaded->ids += l1_load_slab(thread, slab, youngest_ms);
            loaded->files++;
        }
        l1_slab_unmap(slab);
    }
    l1_files_discard(l1->files, i);
}

int l1_attach(struct l1 *l1, const struct l1_folder *folder, uint64_t now_ms,
              struct l1_loaded *loaded)
{
    struct l1_thread *thread = l1_thread_create(l1);
    int err;

    ALLOY_ASSERT(!l1->files && !l1->oldest && l1->current && l1->current->used == 0);
    *loaded = (struct l1_loaded){0};
    if (!thread)
        return -ENOMEM;
    err = l1_files_open(&l1->files, folder->dir_fd, folder->instance_id);
    if (err != 0)
        goto destroy_thread;
    /* It was opened in memory, and on the monotonic clock. */
    l1_files_count_unsaved(l1->files, 1);
    l1_generation_free(l1, l1->current, false);
    l1->current = NULL;
    l1->epoch_ms = folder->real_ms - now_ms;
    for (size_t i = 0; i < l1_files_count(l1->files); i++)
        l1_load_file(thread, i, folder->real_ms, loaded);
    loaded->complete = l1_files_complete(l1->files);

destroy_thread:
    l1_thread_destroy(thread);
    return err;
}
