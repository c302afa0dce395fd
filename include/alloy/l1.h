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
 * An id has an owner: the record that was accepted with it, by its LSN. So replay can tell whether
 * an event that it finds in the journal is the one that was accepted. Where several alloyd share
 * their ids (l1_share()), an id that another one owns counts as unknown: only the claims can say
 * whether it is still taken.
 *
 * When a stream's own ttl is shorter than L1's, its ids are known for that time only.
 *
 * With a folder (l1_attach()) hashes and owners are in mapped files, so that the next life knows
 * the ids, even after kill -9.
 *
 * The one home of liburcu. Every thread that looks up, adds or removes ids has its own l1_thread,
 * which registers it with RCU.
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
 * Moves L1 to a folder and loads the ids that earlier lives left there, without the expired ones.
 * Returns 0, or -errno and L1 stays in memory. Unless loaded->complete, the caller must add the ids
 * that the journal knows and call l1_mark_complete() before the first new event; otherwise the
 * client's retry of a stored event would be stored again. Call right after l1_create().
 */
MUST_CHECK int l1_attach(struct l1 *l1, const struct l1_folder *folder, uint64_t now_ms,
                         struct l1_loaded *loaded);
void l1_mark_complete(struct l1 *l1);
/* There is a second level, so another alloyd can own an id. Call before the first l1_thread. */
void l1_share(struct l1 *l1);
/* Sets how long ids of a stream are known, if that is less than L1's own ttl. Any thread. */
void l1_set_stream_ttl(struct l1 *l1, size_t stream, uint64_t ttl_ms);
/* How long ids of a stream are known. Any thread. */
uint64_t l1_stream_ttl_ms(const struct l1 *l1, size_t stream);
/* Makes the next life distrust the folder if the power fails in between: not all events are on
 * disk. */
void l1_distrust(struct l1 *l1);
/* Leaves the ids in the folder, if there is one. Every l1_thread must have been destroyed. Not from
 * an RCU read section. */
void l1_destroy(struct l1 *l1);
/* The same at the end of the process, which need not free the table: that takes most of a second
 * for a million ids, while clients wait for the next life. */
void l1_abandon(struct l1 *l1);

/* Registers the calling thread. Returns owned, by this thread (l1_thread_destroy()); NULL: out of
 * memory. */
struct l1_thread *l1_thread_create(struct l1 *l1);
void l1_thread_destroy(struct l1_thread *thread);

/*
 * A batch of calls of this thread costs less between these two, since nothing has to be announced
 * for each of them. Some hundred ids at most: meanwhile no thread can give memory back. Owner
 * thread.
 */
void l1_hold(struct l1_thread *thread);
void l1_release(struct l1_thread *thread);
/*
 * Fetches what a look-up of the id reads first, without waiting for it: the table does not fit into
 * any cache. l1_prefetch_first() goes one step further, so call it when what l1_prefetch() fetched
 * has come: some ids later. So does l1_prefetch_second(), which reads a node, between l1_hold() and
 * l1_release(). Owner thread.
 */
void l1_prefetch(const struct l1_thread *thread, const struct hash128 *hash);
void l1_prefetch_first(const struct l1_thread *thread, const struct hash128 *hash);
void l1_prefetch_second(const struct l1_thread *thread, const struct hash128 *hash);

/* True when an event with this id is a duplicate. An id may be known for longer than L1's ttl,
 * until l1_maintain() unlinks its generation, but never beyond its stream's ttl. Owner thread;
 * never blocks. */
bool l1_knows(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
              uint64_t now_ms);
/*
 * Adds the id, owned by the record of this LSN, unless l1_knows() it. When threads race for one id,
 * exactly one gets L1_ADDED. Evicts the oldest generation when the slabs are used up before
 * l1_maintain() came by, or when memory runs out; so this cannot fail. Owner thread.
 */
enum l1_result l1_enter(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
                        uint64_t lsn, uint64_t now_ms);
/* Adds the id unless it is there at all, however old it is and whoever owns it. Owner thread. */
enum l1_result l1_add(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn,
                      uint64_t now_ms);
/* The LSN of the record that owns the id, 0 when it is another alloyd's. False: the id is not
 * there. Owner thread. */
bool l1_owner(struct l1_thread *thread, const struct hash128 *hash, uint64_t *lsn);
/* True when the id is there at all. Owner thread. */
static inline bool l1_contains(struct l1_thread *thread, const struct hash128 *hash)
{
    uint64_t lsn;

    return l1_owner(thread, hash, &lsn);
}
/* The record of this LSN has turned out to be a duplicate: if it owns the id here, the owner is
 * another alloyd from now on. Owner thread. */
void l1_disown(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn);
/* Forgets the id, in its file too. False: it was not there. Owner thread. */
bool l1_remove(struct l1_thread *thread, const struct hash128 *hash);

/* Rotates and expires generations. Janitor thread, about every 100 ms; may wait for a grace period.
 */
void l1_maintain(struct l1 *l1, uint64_t now_ms);

size_t l1_entries(const struct l1 *l1);   /* any thread */
uint64_t l1_evicted(const struct l1 *l1); /* ids that left before their ttl; any thread */

#endif
