/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_ids.c - looks ids up in L1, adds and removes them.
 *
 * An entry holds the time when its id was added: an id of a stream with a shorter ttl is known for
 * that ttl only, and a generation is too coarse a clock for it. The time takes 24 bits of the hash;
 * the other 104 still tell ids apart, and an entry stays at 24 bytes. The time wraps around after 4
 * x ttl or more; no entry is in the table for that long.
 *
 * An id that is older than its stream's ttl, or that another alloyd owns, is in the table but
 * counts as unknown. A thread that enters such an id replaces it: it unlinks the old one and adds
 * again; for another alloyd's it exchanges the owner, so that a client that goes on repeating the
 * id uses up no nodes.
 *
 * Runs on: functions that take an l1_thread on the thread that made it; the rest on any thread.
 * Owns: nothing; nodes and entries belong to l1.c.
 */
#include "l1_private.h"

#include <string.h>

#define KNOWN_HOWEVER_OLD UINT64_MAX
#define LINK_MASK (~(uintptr_t)7) /* a pointer of cds_lfht without its flags */
#define NO_THREAD_SANITIZER __attribute__((no_sanitize("thread")))

/* An id that is being added. */
struct l1_adding {
    struct hash128 key;
    uint64_t lsn;
    uint64_t added_ms; /* in the generations' time */
    uint64_t ttl_ms;   /* an id of this age is new; 0: L1's own ttl holds; or KNOWN_HOWEVER_OLD */
};

/* Zero marks an unused node, so the one hash that would look like it becomes another. */
static struct hash128 l1_node_key(const struct hash128 *hash)
{
    const uint64_t hi = hash->hi & ~STAMP_MASK;

    return (struct hash128){.lo = hash->lo, .hi = hash->lo || hi ? hi : STAMP_MASK + 1};
}

static int l1_node_matches(struct cds_lfht_node *link, const void *key)
{
    const struct l1_entry *entry = l1_entry_of(link);
    const struct hash128 *hash = key;

    /* acquire: pairs with the release in l1_entry_set() */
    return (atomic_load_explicit(&entry->hi, memory_order_acquire) & ~STAMP_MASK) == hash->hi &&
           atomic_load_explicit(&entry->lo, memory_order_relaxed) == hash->lo;
}

static uint64_t l1_stamp(const struct l1 *l1, uint64_t now_ms)
{
    return (now_ms >> l1->stamp_shift) & STAMP_MASK;
}

static bool l1_entry_is_old(const struct l1 *l1, const struct l1_entry *entry, uint64_t ttl_ms,
                            uint64_t now_ms)
{
    const uint64_t hi = atomic_load_explicit(&entry->hi, memory_order_relaxed);

    return l1_stamp_age(hi & STAMP_MASK, now_ms, l1->stamp_shift) >= ttl_ms;
}

static uint64_t l1_shorter_ttl_ms(const struct l1 *l1, size_t stream)
{
    return atomic_load_explicit(&l1->stream_ttl_ms[stream], memory_order_relaxed);
}

void l1_share(struct l1 *l1)
{
    l1->shared = true;
}

void l1_set_stream_ttl(struct l1 *l1, size_t stream, uint64_t ttl_ms)
{
    ALLOY_ASSERT(stream < METRIC_STREAMS_MAX);
    /* relaxed: a thread that sees it late only knows an id a little longer, or shorter */
    atomic_store_explicit(&l1->stream_ttl_ms[stream], ttl_ms < l1->ttl_ms ? ttl_ms : 0,
                          memory_order_relaxed);
}

uint64_t l1_stream_ttl_ms(const struct l1 *l1, size_t stream)
{
    const uint64_t shorter_ms = l1_shorter_ttl_ms(l1, stream);

    return shorter_ms != 0 ? shorter_ms : l1->ttl_ms;
}

/* In a read section. False: the chunk is used up, or its generation sealed. */
static bool l1_has_node(const struct l1_thread *thread)
{
    /* acquire: pairs with the release in l1_seal() */
    return thread->next < thread->end &&
           thread->serial == atomic_load_explicit(&thread->l1->serial, memory_order_acquire);
}

/* In a read section. The result of l1_add() for an id that is in the table. */
static enum l1_result l1_known_as(const struct cds_lfht_node *link, uint64_t lsn)
{
    return atomic_load_explicit(&l1_entry_of(link)->lsn, memory_order_relaxed) == lsn ? L1_OWN
                                                                                      : L1_KNOWN;
}

/* In a read section. NULL: not known. */
static struct l1_entry *l1_look_up(struct l1_thread *thread, const struct hash128 *hash)
{
    struct hash128 key = l1_node_key(hash);
    struct cds_lfht_iter iter;
    struct cds_lfht_node *link;

    cds_lfht_lookup(thread->l1->table, key.lo, l1_node_matches, &key, &iter);
    link = cds_lfht_iter_get_node(&iter);
    return link ? l1_entry_of(link) : NULL;
}

static void l1_count_added(struct l1_thread *thread)
{
    if (thread->added != 0)
        atomic_fetch_add_explicit(&thread->l1->entries, thread->added, memory_order_relaxed);
    thread->added = 0;
}

void l1_hold(struct l1_thread *thread)
{
    ALLOY_ASSERT(!thread->held);
    rcu_read_lock();
    thread->held = true;
}

void l1_release(struct l1_thread *thread)
{
    ALLOY_ASSERT(thread->held);
    thread->held = false;
    rcu_read_unlock();
    l1_count_added(thread);
}

void l1_prefetch(const struct l1_thread *thread, const struct hash128 *hash)
{
    l1_fetch_bucket(thread->l1, hash->lo);
}

void l1_prefetch_first(const struct l1_thread *thread, const struct hash128 *hash)
{
    l1_fetch_first(thread->l1, hash->lo);
}

/* Reads a node by liburcu's ordering alone, which ThreadSanitizer does not see. Nothing but a fetch
 * comes of it. */
NO_THREAD_SANITIZER void l1_prefetch_second(const struct l1_thread *thread,
                                            const struct hash128 *hash)
{
    const struct l1 *l1 = thread->l1;
    const struct cds_lfht_node *bucket = &l1->buckets[hash->lo & l1->bucket_mask];
    const uintptr_t first = (uintptr_t)__atomic_load_n(&bucket->next, __ATOMIC_RELAXED) & LINK_MASK;

    ALLOY_ASSERT(thread->held);
    if (likely(first != 0))
        __builtin_prefetch(
            __atomic_load_n(&((const struct cds_lfht_node *)first)->next, __ATOMIC_RELAXED));
}

bool l1_knows(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
              uint64_t now_ms)
{
    const struct l1 *l1 = thread->l1;
    const uint64_t shorter_ms = l1_shorter_ttl_ms(l1, stream);
    const struct l1_entry *entry;
    bool known;

    l1_read_lock(thread);
    entry = l1_look_up(thread, hash);
    known = entry != NULL;
    if (known && l1->shared && atomic_load_explicit(&entry->lsn, memory_order_relaxed) == 0)
        known = false;
    if (known && shorter_ms != 0)
        known = !l1_entry_is_old(l1, entry, shorter_ms, now_ms + l1->epoch_ms);
    l1_read_unlock(thread);
    return known;
}

/* In a read section. Removes one id from the table and its file. False: another thread has. */
static bool l1_unlink(struct l1 *l1, struct cds_lfht_node *link)
{
    if (cds_lfht_del(l1->table, link) != 0)
        return false;
    /* The file has to forget it too. We are in the read section, so the slab is still there. */
    l1_entry_set(l1_entry_of(link), (struct hash128){0}, 0);
    atomic_fetch_sub_explicit(&l1->entries, 1, memory_order_relaxed);
    return true;
}

/*
 * In a read section; the id is in the table. True: result is what l1_enter() returns. False: it was
 * too old and is removed now, try again.
 */
static bool l1_meet(struct l1 *l1, struct cds_lfht_node *link, const struct l1_adding *adding,
                    enum l1_result *result)
{
    struct l1_entry *entry = l1_entry_of(link);
    uint64_t nobody = 0;

    *result = l1_known_as(link, adding->lsn);
    if (*result == L1_OWN || adding->ttl_ms == KNOWN_HOWEVER_OLD)
        return true;
    if (adding->ttl_ms != 0 && l1_entry_is_old(l1, entry, adding->ttl_ms, adding->added_ms)) {
        (void)l1_unlink(l1, link);
        return false;
    }
    /* Another alloyd owns the id, and only a claim can say whether it still does. Of several events
     * with this id, only one at a time goes on to claim it. */
    if (l1->shared &&
        atomic_compare_exchange_strong_explicit(&entry->lsn, &nobody, adding->lsn,
                                                memory_order_relaxed, memory_order_relaxed))
        *result = L1_ADDED;
    return true;
}

static enum l1_result l1_insert(struct l1_thread *thread, const struct l1_adding *adding)
{
    struct l1 *l1 = thread->l1;
    const struct hash128 *key = &adding->key;
    const struct hash128 stamped = {.lo = key->lo, .hi = key->hi | l1_stamp(l1, adding->added_ms)};

    l1_read_lock(thread);
    for (;;) {
        while (unlikely(!l1_has_node(thread))) {
            /* It may wait for a grace period, which does not end while we hold one up. */
            rcu_read_unlock();
            l1_refill(thread, adding->added_ms);
            rcu_read_lock();
        }
        struct node *node = thread->next;
        struct l1_entry *entry = l1_entry_of(&node->link);
        l1_entry_set(entry, stamped, adding->lsn);
        struct cds_lfht_node *link =
            cds_lfht_add_unique(l1->table, key->lo, l1_node_matches, key, &node->link);
        if (link == &node->link)
            break;
        enum l1_result result;
        const bool decided = l1_meet(l1, link, adding, &result);

        /* It was never linked, so the next add may use it at once. */
        l1_entry_set(entry, (struct hash128){0}, 0);
        if (decided) {
            l1_read_unlock(thread);
            return result;
        }
    }
    thread->next++;
    l1_note_youngest(thread->generation, adding->added_ms);
    thread->added++;
    l1_read_unlock(thread);
    if (!thread->held)
        l1_count_added(thread);
    return L1_ADDED;
}

enum l1_result l1_enter(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
                        uint64_t lsn, uint64_t now_ms)
{
    return l1_insert(thread, &(struct l1_adding){.key = l1_node_key(hash),
                                                 .lsn = lsn,
                                                 .added_ms = now_ms + thread->l1->epoch_ms,
                                                 .ttl_ms = l1_shorter_ttl_ms(thread->l1, stream)});
}

enum l1_result l1_add(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn,
                      uint64_t now_ms)
{
    return l1_insert(thread, &(struct l1_adding){.key = l1_node_key(hash),
                                                 .lsn = lsn,
                                                 .added_ms = now_ms + thread->l1->epoch_ms,
                                                 .ttl_ms = KNOWN_HOWEVER_OLD});
}

bool l1_owner(struct l1_thread *thread, const struct hash128 *hash, uint64_t *lsn)
{
    const struct l1_entry *entry;

    l1_read_lock(thread);
    entry = l1_look_up(thread, hash);
    if (entry)
        *lsn = atomic_load_explicit(&entry->lsn, memory_order_relaxed);
    l1_read_unlock(thread);
    return entry != NULL;
}

void l1_disown(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn)
{
    struct l1_entry *entry;

    l1_read_lock(thread);
    entry = l1_look_up(thread, hash);
    /* relaxed: a thread that must see it takes the journal's lock after the record's segment is
     * gone */
    if (entry)
        atomic_compare_exchange_strong_explicit(&entry->lsn, &lsn, 0, memory_order_relaxed,
                                                memory_order_relaxed);
    l1_read_unlock(thread);
}

bool l1_remove(struct l1_thread *thread, const struct hash128 *hash)
{
    struct l1 *l1 = thread->l1;
    struct hash128 key = l1_node_key(hash);
    struct cds_lfht_iter iter;
    bool removed = false;

    l1_read_lock(thread);
    cds_lfht_lookup(l1->table, key.lo, l1_node_matches, &key, &iter);
    struct cds_lfht_node *link = cds_lfht_iter_get_node(&iter);
    if (link)
        removed = l1_unlink(l1, link);
    l1_read_unlock(thread);
    return removed;
}
