/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1.h - the ids that this process has accepted lately: a lock-free hash (liburcu's cds_lfht) keyed
 * by the 128-bit keyed hash of stream and id.
 *
 * Nodes come from slabs of a generation. A generation is ttl / 8 long, or holds capacity / 16 ids;
 * l1_maintain() unlinks a whole generation when its youngest id is ttl old, or early (and counted)
 * when there are more than capacity ids, and frees its slab after a grace period. Between two calls
 * there can be up to 1/8 more than capacity, never beyond. At most 80 bytes an id, table included.
 *
 * An id has an owner: the record that was accepted with it, by its LSN. So whoever finds an event
 * in the journal of an earlier life can tell whether it is the one that was accepted. Where ids are
 * shared with other alloyd (l1_share()) one of theirs is not known: only their claims can say
 * whether it still is.
 *
 * A stream whose own ttl is shorter than L1's has its ids known for just that time.
 *
 * With a folder (l1_attach()) hashes and owners lie in mapped files, and a later life knows the
 * ids, after kill -9 too.
 *
 * The one home of liburcu. Every thread that looks up, adds or removes has made its own l1_thread
 * and is registered with RCU by that.
 */
#ifndef ALLOY_L1_H
#define ALLOY_L1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/event_id.h"
#include "alloy/metrics.h"

struct l1;
struct l1_thread;

enum l1_result {
    L1_ADDED,
    L1_OWN,   /* known, and the caller's record owns it */
    L1_KNOWN, /* known, and another record owns it */
};

struct l1_folder {
    int dir_fd;           /* the journal's folder; borrowed until l1_destroy() */
    uint64_t instance_id; /* files of another instance are removed */
    uint64_t real_ms;     /* now */
};

struct l1_loaded {
    uint64_t ids;
    uint64_t files;
    bool complete; /* no id of the earlier lives can be missing */
};

/* Returns owned (l1_destroy()); NULL: out of memory. now_ms is monotonic, as everywhere here. */
struct l1 *l1_create(size_t capacity, uint64_t ttl_ms, uint64_t now_ms);
/*
 * Moves to a folder and loads the ids that earlier lives left there and that have not expired. 0,
 * or -errno and L1 stays in memory. Unless loaded->complete the ids that the journal knows must be
 * added, and l1_mark_complete() called, before the first new one. Right after l1_create().
 */
MUST_CHECK int l1_attach(struct l1 *l1, const struct l1_folder *folder, uint64_t now_ms,
                         struct l1_loaded *loaded);
void l1_mark_complete(struct l1 *l1);
/* There is a second level, so that another alloyd can own an id. Before the first thread. */
void l1_share(struct l1 *l1);
/* Has ids of a stream known for ttl_ms, where that is less than L1's own ttl. Any thread. */
void l1_set_stream_ttl(struct l1 *l1, size_t stream, uint64_t ttl_ms);
/* For how long ids of a stream are known. Any thread. */
uint64_t l1_stream_ttl_ms(const struct l1 *l1, size_t stream);
/* What the folder will hold must not be believed after a loss of power: not all events are on disk.
 */
void l1_distrust(struct l1 *l1);
/* Leaves the ids in the folder, if there is one. Every l1_thread must have been destroyed. Not from
 * an RCU read section. */
void l1_destroy(struct l1 *l1);

/* Registers the calling thread. Returns owned, by this thread (l1_thread_destroy()); NULL: out of
 * memory. */
struct l1_thread *l1_thread_create(struct l1 *l1);
void l1_thread_destroy(struct l1_thread *thread);

/* True when an event with this id is a duplicate. An id whose generation has expired may be known
 * until l1_maintain() has unlinked it, but not beyond its stream's ttl. Owner thread; never blocks.
 */
bool l1_knows(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
              uint64_t now_ms);
/*
 * Adds the id, owned by the record of this LSN, unless it is known in that sense; of threads that
 * race for one id exactly one gets L1_ADDED. When the slabs are used up the oldest generation is
 * evicted here, if l1_maintain() did not come first; memory failure evicts too, so this cannot
 * fail. Owner thread.
 */
enum l1_result l1_enter(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
                        uint64_t lsn, uint64_t now_ms);
/* The same unless the id is there at all, however old and whoever owns it. Owner thread. */
enum l1_result l1_add(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn,
                      uint64_t now_ms);
/* The LSN of the record that owns the id, 0 where that is another alloyd's; false: not known. Owner
 * thread. */
bool l1_owner(struct l1_thread *thread, const struct hash128 *hash, uint64_t *lsn);
/* True when the id is there at all. Owner thread. */
static inline bool l1_contains(struct l1_thread *thread, const struct hash128 *hash)
{
    uint64_t lsn;

    return l1_owner(thread, hash, &lsn);
}
/* The record of this LSN has turned out a duplicate: if it owns the id, another alloyd's does from
 * now on. Owner thread. */
void l1_disown(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn);
/* Forgets the id, in its file too; false when it was not known. Owner thread. */
bool l1_remove(struct l1_thread *thread, const struct hash128 *hash);

/* Rotates and expires generations. Janitor thread, about every 100 ms; may wait for a grace period.
 */
void l1_maintain(struct l1 *l1, uint64_t now_ms);

size_t l1_entries(const struct l1 *l1);   /* any thread */
uint64_t l1_evicted(const struct l1 *l1); /* ids that went before their ttl; any thread */

#endif
