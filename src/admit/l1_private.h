/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_private.h - what l1.c, l1_ids.c and l1_load.c share: nodes, generations, and how an entry is
 * read.
 *
 * ThreadSanitizer does not see liburcu's ordering. So whatever two threads touch in a node or a
 * header is atomic here, although liburcu's barriers alone would do.
 *
 */
#ifndef ALLOY_L1_PRIVATE_H
#define ALLOY_L1_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#define URCU_API_MAP
#include <urcu/urcu-memb.h>
#include <urcu/rculfhash.h>

#include "alloy/base.h"
#include "alloy/kill_point.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"
#include "l1_files.h"

#define STAMP_MASK ((1ull << L1_STAMP_BITS) - 1)

struct node {
    struct cds_lfht_node link;
    _Atomic(struct l1_entry *) entry; /* of the same index; set when its chunk is carved */
};
_Static_assert(sizeof(struct node) + sizeof(struct l1_entry) == 48,
               "80 bytes an id, table included, depend on it");

struct generation {
    /* constant */
    struct l1_slab *slab;
    uint32_t file; /* number of the slab's file; 0: only in memory */
    /* under the lock */
    struct generation *next; /* sealed: the next younger; dying: the next to be reclaimed */
    size_t used;             /* nodes carved; constant after sealing */
    uint64_t opened_ms;      /* its age counts from here; moved on while it is empty */
    bool counted;            /* dies before its ttl: its ids count as evicted */
    struct node nodes[];
};

struct l1 {
    /* constant after creation */
    struct cds_lfht *table;
    struct cds_lfht_node *buckets; /* the table's, one behind the other; to prefetch them alone */
    uint64_t bucket_mask;
    uint64_t ttl_ms;
    size_t capacity;
    size_t generation_nodes;
    size_t chunk_nodes;
    struct l1_files *files; /* NULL: only memory */
    bool distrusted;        /* set before l1_destroy() */
    uint64_t epoch_ms;      /* added to the callers' time to get the generations' time */
    unsigned stamp_shift;
    bool shared; /* an id can be another alloyd's */
    /* any thread; how long a stream's ids are known, if less than ttl_ms; else 0 */
    _Atomic uint64_t stream_ttl_ms[METRIC_STREAMS_MAX];
    /* read by adders, written under the lock */
    CACHE_ALIGNED _Atomic uint64_t serial; /* changes when the current generation is sealed */
    /* any thread */
    CACHE_ALIGNED _Atomic int64_t entries;
    _Atomic uint64_t evicted;
    /* under the lock */
    CACHE_ALIGNED pthread_mutex_t lock;
    pthread_cond_t reclaimed;
    bool reclaiming;
    struct generation *current; /* NULL: none could be opened yet */
    struct generation *oldest;  /* sealed, linked to the next younger ones */
    struct generation *youngest;
    struct generation *spare; /* free, all zero, or NULL */
    size_t nodes;             /* carved and not freed, in all generations */
    /* janitor only: what of the table is in small pages; whole huge pages */
    CACHE_ALIGNED uintptr_t small_from;
    uintptr_t small_to;
};

/* Used only by its owner. */
struct l1_thread {
    struct l1 *l1;
    struct generation *generation; /* of the chunk; stale once serial has changed */
    struct node *next;             /* rest of the chunk */
    struct node *end;
    uint64_t serial; /* of the generation */
    bool held;       /* in a read section from l1_hold() to l1_release() */
    int64_t added;   /* not in l1->entries yet, which all threads write */
};

/* Begins a read section, unless l1_hold() has. */
static inline void l1_read_lock(const struct l1_thread *thread)
{
    if (!thread->held)
        rcu_read_lock();
}

static inline void l1_read_unlock(const struct l1_thread *thread)
{
    if (!thread->held)
        rcu_read_unlock();
}

/* Fetches what a look-up reads first. lo: of the id's hash. */
static inline void l1_fetch_bucket(const struct l1 *l1, uint64_t lo)
{
    __builtin_prefetch(&l1->buckets[lo & l1->bucket_mask]);
}

/* And what it reads next, once the bucket is there. */
static inline void l1_fetch_first(const struct l1 *l1, uint64_t lo)
{
    const struct cds_lfht_node *bucket = &l1->buckets[lo & l1->bucket_mask];
    /* relaxed: wherever it points, nobody reads there. Its low bits are liburcu's flags, in the
     * same cache line. */
    const struct cds_lfht_node *first = __atomic_load_n(&bucket->next, __ATOMIC_RELAXED);

    __builtin_prefetch(first);
}

static inline void l1_entry_set(struct l1_entry *entry, struct hash128 key, uint64_t lsn)
{
    atomic_store_explicit(&entry->lsn, lsn, memory_order_relaxed);
    atomic_store_explicit(&entry->lo, key.lo, memory_order_relaxed);
    KILL_POINT("l1_entry_half");
    /* release: pairs with the acquire in l1_node_matches() */
    atomic_store_explicit(&entry->hi, key.hi, memory_order_release);
}

static inline struct hash128 l1_entry_key(const struct l1_entry *entry)
{
    return (struct hash128){.lo = atomic_load_explicit(&entry->lo, memory_order_relaxed),
                            .hi = atomic_load_explicit(&entry->hi, memory_order_relaxed) &
                                  ~STAMP_MASK};
}

static inline struct l1_entry *l1_entry_of(const struct cds_lfht_node *link)
{
    const struct node *node = caa_container_of(link, const struct node, link);

    /* acquire: pairs with the release in l1_carve() */
    return atomic_load_explicit(&node->entry, memory_order_acquire);
}

/* The least age of a stamp at now_ms. A stamp that is ahead of now_ms, because another thread's
 * clock read was later, is new. */
static inline uint64_t l1_stamp_age(uint64_t stamp, uint64_t now_ms, uint64_t shift)
{
    const uint64_t steps = ((now_ms >> shift) - stamp) & STAMP_MASK;

    return steps == 0 || steps > STAMP_MASK / 2 ? 0 : ((steps - 1) << shift) + 1;
}

/* Threads may come with slightly different times; the latest wins. Stores at most once a
 * millisecond, so that the cache line stays shared. */
static inline void l1_note_youngest(struct generation *generation, uint64_t now_ms)
{
    _Atomic uint64_t *youngest_ms = &generation->slab->youngest_ms;
    uint64_t seen = atomic_load_explicit(youngest_ms, memory_order_relaxed);

    while (seen < now_ms &&
           !atomic_compare_exchange_weak_explicit(youngest_ms, &seen, now_ms, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

/* Gives the thread a new chunk, and evicts if there is no room for one. Not in a read section. */
void l1_refill(struct l1_thread *thread, uint64_t now_ms);

/* The current generation takes no more ids; the next add opens another. Under the lock. */
void l1_seal(struct l1 *l1);
/* Frees a generation that no thread can see any more; keep: its file stays. */
void l1_generation_free(const struct l1 *l1, struct generation *generation, bool keep);

#endif
