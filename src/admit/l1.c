/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1.c - keeps the ids that this process has accepted lately, and expires them. l1_ids.c looks them
 * up and adds them.
 *
 * One cds_lfht (liburcu) over the nodes of all generations. A generation is an array of nodes and a
 * slab of as many entries. Threads carve it in chunks, so that an add takes the lock only once in
 * CHUNK_MAX ids. A node holds what only this process understands; its entry holds the id's hash and
 * owner, and survives into the next life when the slab is mapped from a file. An entry whose hash
 * is zero was never linked, or was removed; a node that l1_remove() unlinks stays in its place
 * until its generation is freed.
 *
 * The life of a generation: current -> sealed (full, or ttl / 8 old) -> dying -> freed.
 * - Sealing increments `serial`. l1_add() compares it with its chunk's inside an RCU read section,
 * so one grace period after sealing nobody adds to the generation any more.
 * - l1_reclaim() waits for that grace period, unlinks every node, waits for a second one, after
 * which no reader can hold a node, and frees the slab. The lock is not held while it works.
 *
 * Memory: nodes carved and not freed never exceed capacity plus two generations (1/8). Beyond
 * capacity l1_maintain() evicts the oldest generations; at the limit l1_add() does it itself. One
 * thread reclaims at a time, others wait for it. Nobody waits inside a read section, so a grace
 * period always ends. We keep one freed slab, so that a generation can be opened when memory is
 * refused.
 *
 * With files, all times are real time: the callers' monotonic time plus a constant. When a file
 * cannot be made, the slab is in memory and counted as unsaved, so that the next life knows that it
 * must read the journal first. The janitor makes the next file before it is needed.
 *
 * ThreadSanitizer does not see liburcu's ordering. So whatever two threads touch in a node or a
 * header is atomic here, although liburcu's barriers alone would do.
 *
 * Runs on: functions that take an l1_thread on the thread that made it; l1_maintain() on the
 * janitor; the rest as in the header.
 * Owns: the table and the slabs.
 */
#include "alloy/l1.h"

#include "l1_private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define GENERATIONS 16      /* full ones at capacity */
#define SPARE_GENERATIONS 2 /* beyond capacity, until a thread evicts */
#define ROTATIONS_PER_TTL 8
#define CHUNK_MAX 64   /* most nodes that a thread carves at once */
#define CHUNK_PART 256 /* ... and no more than this part of a generation */
#define HUGE_PAGE ((size_t)2 << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define UNLINK_BATCH 256 /* nodes in one read section, so that grace periods stay short */
#define UNLINK_LEAD 8

/* Counts users of RCU in this thread: it may hold several l1_threads, or be the janitor with none,
 * but must register only once. */
static _Thread_local unsigned int rcu_users;

static void l1_rcu_enter(void)
{
    if (rcu_users++ == 0)
        rcu_register_thread();
}

static void l1_rcu_leave(void)
{
    ALLOY_ASSERT(rcu_users > 0);
    if (--rcu_users == 0)
        rcu_unregister_thread();
}

/* The shift with which a stamp wraps around only after four times the ttl or later. */
static unsigned l1_stamp_shift(uint64_t ttl_ms)
{
    unsigned shift = 0;

    while ((STAMP_MASK << shift) / 4 < ttl_ms)
        shift++;
    return shift;
}

static bool l1_entry_used(const struct l1_entry *entry)
{
    const struct hash128 key = l1_entry_key(entry);

    return key.lo || key.hi;
}

/* Huge pages where the kernel can, since ids fill the area from its beginning on: 512 times fewer
 * faults while L1 fills up. */
static void *l1_map_zeros(size_t size)
{
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (area == MAP_FAILED)
        return NULL;
    (void)madvise(area, size, MADV_HUGEPAGE);
    return area;
}

static void l1_unmap(void *area, size_t size)
{
    int failed = munmap(area, size);

    ALLOY_ASSERT(!failed);
}

static size_t l1_generation_bytes(const struct l1 *l1)
{
    return sizeof(struct generation) + l1->generation_nodes * sizeof(struct node);
}

/* Makes the slab in a file if possible, else in memory. False: out of memory. */
static bool l1_slab_create(const struct l1 *l1, struct generation *generation)
{
    if (l1->files) {
        generation->slab = l1_files_create(l1->files, l1->generation_nodes, &generation->file);
        if (generation->slab) {
            generation->slab->stamp_shift = l1->stamp_shift;
            return true;
        }
        generation->file = 0;
    }
    generation->slab = l1_map_zeros(l1_slab_bytes(l1->generation_nodes));
    if (!generation->slab)
        return false;
    generation->slab->capacity = l1->generation_nodes;
    if (l1->files)
        l1_files_count_unsaved(l1->files, 1);
    return true;
}

/* Returns owned (l1_generation_free()), all zero; a page takes memory only from its first use.
 * NULL: out of memory. */
static struct generation *l1_generation_create(const struct l1 *l1)
{
    struct generation *generation = l1_map_zeros(l1_generation_bytes(l1));

    if (generation && !l1_slab_create(l1, generation)) {
        l1_unmap(generation, l1_generation_bytes(l1));
        return NULL;
    }
    return generation;
}

/* keep: leaves the ids to the next life. A slab without a file then stays counted as unsaved. */
void l1_generation_free(const struct l1 *l1, struct generation *generation, bool keep)
{
    if (generation->file != 0 && !keep)
        l1_files_remove(l1->files, generation->file);
    if (generation->file == 0 && l1->files && !keep)
        l1_files_count_unsaved(l1->files, -1);
    l1_slab_unmap(generation->slab);
    l1_unmap(generation, l1_generation_bytes(l1));
}

/* Makes a generation all zero again, as l1_generation_create() returns it. */
static void l1_generation_clear(struct generation *generation)
{
    /* This first: after a kill half-way the next life must not read what is left in the file. */
    atomic_store_explicit(&generation->slab->youngest_ms, 0, memory_order_relaxed);
    for (size_t i = 0; i < generation->used; i++) {
        generation->nodes[i].link = (struct cds_lfht_node){0};
        l1_entry_set(&generation->slab->entries[i], (struct hash128){0}, 0);
    }
    generation->next = NULL;
    generation->used = 0;
    generation->opened_ms = 0;
    generation->counted = false;
}

static bool l1_is_expired(const struct l1 *l1, const struct generation *generation, uint64_t now_ms)
{
    uint64_t youngest = atomic_load_explicit(&generation->slab->youngest_ms, memory_order_relaxed);

    return now_ms >= youngest && now_ms - youngest >= l1->ttl_ms;
}

/* Under the lock. From now on nobody starts to add to the current generation. */
void l1_seal(struct l1 *l1)
{
    struct generation *generation = l1->current;

    l1->current = NULL;
    if (l1->youngest)
        l1->youngest->next = generation;
    else
        l1->oldest = generation;
    l1->youngest = generation;
    /* release: pairs with the acquire in l1_add() */
    atomic_fetch_add_explicit(&l1->serial, 1, memory_order_release);
}

/* Under the lock, without a current generation. False: no room within the bound, or no memory. */
static bool l1_open_generation(struct l1 *l1, uint64_t now_ms)
{
    size_t limit = l1->capacity + SPARE_GENERATIONS * l1->generation_nodes;

    if (l1->nodes + l1->generation_nodes > limit)
        return false;
    if (l1->spare) {
        l1->current = l1->spare;
        l1->spare = NULL;
    } else {
        l1->current = l1_generation_create(l1);
        if (!l1->current)
            return false;
    }
    l1->current->opened_ms = now_ms;
    l1_note_youngest(l1->current, now_ms);
    return true;
}

/* Under the lock. False: the current generation is used up, or there is none. */
static bool l1_carve(struct l1 *l1, struct l1_thread *thread)
{
    struct generation *generation = l1->current;

    if (!generation || generation->used == l1->generation_nodes)
        return false;
    size_t n = l1->generation_nodes - generation->used;
    if (n > l1->chunk_nodes)
        n = l1->chunk_nodes;
    thread->generation = generation;
    thread->next = &generation->nodes[generation->used];
    thread->end = thread->next + n;
    for (size_t i = 0; i < n; i++)
        /* release: pairs with the acquire in l1_entry_of() */
        atomic_store_explicit(&thread->next[i].entry,
                              &generation->slab->entries[generation->used + i],
                              memory_order_release);
    thread->serial = atomic_load_explicit(&l1->serial, memory_order_relaxed);
    generation->used += n;
    l1->nodes += n;
    return true;
}

/* Under the lock. Takes the oldest sealed generation out of the list. */
static struct generation *l1_pop_oldest(struct l1 *l1, uint64_t now_ms)
{
    struct generation *generation = l1->oldest;

    l1->oldest = generation->next;
    if (!l1->oldest)
        l1->youngest = NULL;
    generation->next = NULL;
    generation->counted = !l1_is_expired(l1, generation, now_ms);
    return generation;
}

/* Ids were added in the order of time, so each is somewhere else in the table: fetches what the
 * nodes behind the one at i will need. */
static void l1_fetch_ahead(const struct l1 *l1, const struct generation *generation, size_t i)
{
    const struct l1_entry *entries = generation->slab->entries;

    if (i + 2 * UNLINK_LEAD < generation->used)
        l1_fetch_bucket(l1, l1_entry_key(&entries[i + 2 * UNLINK_LEAD]).lo);
    if (i + UNLINK_LEAD < generation->used)
        l1_fetch_first(l1, l1_entry_key(&entries[i + UNLINK_LEAD]).lo);
}

/* Unlinks what is still linked. Not in a read section. */
static void l1_unlink_nodes(struct l1 *l1, struct generation *generation)
{
    size_t unlinked = 0;

    for (size_t i = 0; i < generation->used;) {
        size_t end = generation->used - i < UNLINK_BATCH ? generation->used : i + UNLINK_BATCH;
        rcu_read_lock();
        for (; i < end; i++) {
            struct node *node = &generation->nodes[i];

            l1_fetch_ahead(l1, generation, i);
            /* Fails when l1_remove() came first. */
            if (l1_entry_used(&generation->slab->entries[i]) &&
                cds_lfht_del(l1->table, &node->link) == 0)
                unlinked++;
        }
        rcu_read_unlock();
    }
    atomic_fetch_sub_explicit(&l1->entries, (int64_t)unlinked, memory_order_relaxed);
    if (generation->counted)
        atomic_fetch_add_explicit(&l1->evicted, unlinked, memory_order_relaxed);
}

/*
 * Frees the generations of a list. Is called and returns with the lock held, and releases it in
 * between. Waits for two grace periods, so never call it in a read section.
 */
static void l1_reclaim(struct l1 *l1, struct generation *dying)
{
    ALLOY_ASSERT(!l1->reclaiming);
    l1->reclaiming = true;
    pthread_mutex_unlock(&l1->lock);

    l1_rcu_enter();
    synchronize_rcu();
    for (struct generation *generation = dying; generation; generation = generation->next)
        l1_unlink_nodes(l1, generation);
    synchronize_rcu();
    l1_rcu_leave();
    while (dying) {
        struct generation *next = dying->next;
        size_t used = dying->used;
        l1_generation_clear(dying);
        pthread_mutex_lock(&l1->lock);
        l1->nodes -= used;
        struct generation *surplus = l1->spare ? dying : NULL;
        if (!surplus)
            l1->spare = dying;
        pthread_cond_broadcast(&l1->reclaimed);
        pthread_mutex_unlock(&l1->lock);
        if (surplus)
            l1_generation_free(l1, surplus, false);
        dying = next;
    }

    pthread_mutex_lock(&l1->lock);
    l1->reclaiming = false;
    pthread_cond_broadcast(&l1->reclaimed);
}

void l1_refill(struct l1_thread *thread, uint64_t now_ms)
{
    struct l1 *l1 = thread->l1;

    pthread_mutex_lock(&l1->lock);
    while (!l1_carve(l1, thread)) {
        if (l1->current)
            l1_seal(l1);
        if (l1_open_generation(l1, now_ms))
            continue;
        if (l1->reclaiming) {
            pthread_cond_wait(&l1->reclaimed, &l1->lock);
        } else {
            /* Never fails: we free a generation only when a spare one exists, and that one would
             * have opened. */
            ALLOY_ASSERT(l1->oldest);
            l1_reclaim(l1, l1_pop_oldest(l1, now_ms));
        }
    }
    pthread_mutex_unlock(&l1->lock);
}

/* The first multiple of a huge page at or behind address. */
static uintptr_t l1_huge_page_from(const void *address)
{
    return ((uintptr_t)address + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
}

/*
 * Every look-up is somewhere else in the table, and with small pages misses the TLB there. So the
 * table's pages become huge ones, one a call, since each takes the kernel some milliseconds. The
 * table is touched whole when it is made, so this takes no memory. A kernel without it
 * (before 6.1), or without memory in large pieces, leaves the rest as it is. Janitor.
 */
static void l1_make_huge_page(struct l1 *l1)
{
    if (l1->small_from >= l1->small_to)
        return;
    if (madvise((void *)l1->small_from, HUGE_PAGE, MADV_COLLAPSE) == 0)
        l1->small_from += HUGE_PAGE;
    else if (errno != EAGAIN)
        l1->small_from = l1->small_to;
}

/* Load factor 2/3 to 4/3: at most 24 bytes for each id, since a bucket takes 16 bytes. False: out
 * of memory. */
static bool l1_table_create(struct l1 *l1, size_t capacity)
{
    /* This one keeps a table of fixed size in one piece. */
    const struct cds_lfht_mm_type *memory = &cds_lfht_mm_mmap;
    size_t buckets = 1;
    void *probe;

    while (buckets < capacity - capacity / 4)
        buckets *= 2;
    /* cds_lfht aborts when memory is refused, so we try the allocation first. */
    probe = calloc(buckets, sizeof(struct cds_lfht_node));
    /* Keeps the compiler from removing the unused allocation. */
    __asm__ volatile("" : "+r"(probe));
    if (!probe)
        return false;
    free(probe);
    l1->table = _cds_lfht_new(buckets, buckets, buckets, 0, memory, &rcu_flavor, NULL);
    if (!l1->table)
        return false;
    l1->buckets = memory->bucket_at(l1->table, 0);
    l1->bucket_mask = buckets - 1;
    l1->small_from = l1_huge_page_from(l1->buckets);
    l1->small_to = (uintptr_t)(l1->buckets + buckets) & ~(uintptr_t)(HUGE_PAGE - 1);
    ALLOY_ASSERT(memory->bucket_at(l1->table, buckets - 1) == l1->buckets + l1->bucket_mask);
    return true;
}

struct l1 *l1_create(size_t capacity, uint64_t ttl_ms, uint64_t now_ms)
{
    struct l1 *l1;

    ALLOY_ASSERT(capacity >= 1);
    l1 = aligned_alloc(CACHE_LINE, sizeof(*l1));
    if (!l1)
        return NULL;
    *l1 =
        (struct l1){.ttl_ms = ttl_ms, .capacity = capacity, .stamp_shift = l1_stamp_shift(ttl_ms)};
    l1->generation_nodes = capacity < GENERATIONS ? 1 : capacity / GENERATIONS;
    l1->chunk_nodes = l1->generation_nodes / CHUNK_PART;
    if (l1->chunk_nodes < 1)
        l1->chunk_nodes = 1;
    if (l1->chunk_nodes > CHUNK_MAX)
        l1->chunk_nodes = CHUNK_MAX;
    if (!l1_open_generation(l1, now_ms))
        goto free_l1;
    if (!l1_table_create(l1, capacity))
        goto free_slab;
    pthread_mutex_init(&l1->lock, NULL);
    pthread_cond_init(&l1->reclaimed, NULL);
    return l1;

free_slab:
    l1_generation_free(l1, l1->current, false);
free_l1:
    free(l1);
    return NULL;
}

void l1_mark_complete(struct l1 *l1)
{
    if (l1->files)
        l1_files_mark_complete(l1->files);
}

/* Leaves the ids in their files. Returns whether they are all on disk there. */
static bool l1_close_generations(struct l1 *l1)
{
    bool saved = true;

    while (l1->oldest) {
        struct generation *generation = l1->oldest;
        l1->oldest = generation->next;
        saved = saved && generation->file != 0 &&
                msync(generation->slab, l1_slab_bytes(l1->generation_nodes), MS_SYNC) == 0;
        l1_generation_free(l1, generation, true);
    }
    l1->youngest = NULL;
    return saved;
}

void l1_distrust(struct l1 *l1)
{
    l1->distrusted = true;
}

static void l1_end(struct l1 *l1)
{
    pthread_mutex_lock(&l1->lock);
    ALLOY_ASSERT(!l1->reclaiming);
    if (l1->current)
        l1_seal(l1);
    pthread_mutex_unlock(&l1->lock);
}

static void l1_close_files(struct l1 *l1)
{
    bool saved;

    if (l1->spare)
        l1_generation_free(l1, l1->spare, false);
    saved = l1_close_generations(l1);
    if (l1->files)
        l1_files_close(l1->files, saved && !l1->distrusted);
}

void l1_abandon(struct l1 *l1)
{
    /* So that a leak checker finds it. */
    static struct l1 *volatile abandoned;

    if (!l1)
        return;
    l1_end(l1);
    l1_close_files(l1);
    abandoned = l1;
    (void)abandoned;
}

void l1_destroy(struct l1 *l1)
{
    if (!l1)
        return;
    l1_end(l1);
    /* cds_lfht_destroy() wants an empty table. No other thread uses L1 any more, so there is no
     * grace period to wait for; we never use call_rcu(), so there is no rcu_barrier() either. */
    l1_rcu_enter();
    for (struct generation *generation = l1->oldest; generation; generation = generation->next)
        l1_unlink_nodes(l1, generation);
    l1_rcu_leave();
    int failed = cds_lfht_destroy(l1->table, NULL);
    ALLOY_ASSERT(!failed);
    l1_close_files(l1);
    pthread_cond_destroy(&l1->reclaimed);
    pthread_mutex_destroy(&l1->lock);
    free(l1);
}

struct l1_thread *l1_thread_create(struct l1 *l1)
{
    struct l1_thread *thread = malloc(sizeof(*thread));

    if (!thread)
        return NULL;
    *thread = (struct l1_thread){.l1 = l1};
    l1_rcu_enter();
    return thread;
}

void l1_thread_destroy(struct l1_thread *thread)
{
    if (!thread)
        return;
    l1_rcu_leave();
    free(thread);
}

/* Makes the next generation before it is needed, so that nobody waits for its file. Replaces a
 * spare one in memory as soon as a file can be made. Janitor. */
static void l1_make_spare(struct l1 *l1)
{
    struct generation *made, *surplus;
    bool wanted;

    if (!l1->files)
        return;
    pthread_mutex_lock(&l1->lock);
    wanted = !l1->spare || l1->spare->file == 0;
    pthread_mutex_unlock(&l1->lock);
    if (!wanted)
        return;
    made = l1_generation_create(l1);
    if (!made)
        return;
    pthread_mutex_lock(&l1->lock);
    surplus = made;
    if (!l1->spare || (l1->spare->file == 0 && made->file != 0)) {
        surplus = l1->spare;
        l1->spare = made;
        pthread_cond_broadcast(&l1->reclaimed);
    }
    pthread_mutex_unlock(&l1->lock);
    if (surplus)
        l1_generation_free(l1, surplus, false);
}

void l1_maintain(struct l1 *l1, uint64_t now_ms)
{
    struct generation *dying = NULL;

    now_ms += l1->epoch_ms;
    pthread_mutex_lock(&l1->lock);
    /* The first add that needs the next one opens it. */
    if (l1->current && l1->current->used == 0)
        l1->current->opened_ms = now_ms;
    else if (l1->current && now_ms >= l1->current->opened_ms + l1->ttl_ms / ROTATIONS_PER_TTL)
        l1_seal(l1);
    size_t nodes = l1->nodes;
    while (!l1->reclaiming && l1->oldest &&
           (nodes > l1->capacity || l1_is_expired(l1, l1->oldest, now_ms))) {
        struct generation *generation = l1_pop_oldest(l1, now_ms);
        nodes -= generation->used;
        generation->next = dying;
        dying = generation;
    }
    if (dying)
        l1_reclaim(l1, dying);
    pthread_mutex_unlock(&l1->lock);
    l1_make_spare(l1);
    l1_make_huge_page(l1);
}

size_t l1_entries(const struct l1 *l1)
{
    /* Can be below 0 for a moment: an id can be removed before the thread that added it has counted
     * it. */
    int64_t entries = atomic_load_explicit(&l1->entries, memory_order_relaxed);

    return entries > 0 ? (size_t)entries : 0;
}

uint64_t l1_evicted(const struct l1 *l1)
{
    return atomic_load_explicit(&l1->evicted, memory_order_relaxed);
}
