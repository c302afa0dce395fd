/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_ids.c - looks ids up in L1, adds them and takes them out.
 *
 * An entry bears the time when its id was added, since an id of a stream with a shorter ttl is
 * known for no longer than that, and a generation is too coarse a clock. 24 bits of the hash give
 * way to it: the other 104 tell ids apart as well, and an entry stays at 24 bytes. The time wraps
 * around after 4 x ttl or more; no entry is in the table for so long.
 *
 * An id that is too old, by its stream's ttl, and one that is another alloyd's are in the table and
 * not known. Whoever enters such an id takes the place: of the old one by unlinking it and adding
 * again, of the other's by one exchange of the owner, so that a client that goes on repeating it
 * uses up no nodes.
 *
 * Runs on: what takes an l1_thread, the thread that made it; the rest any thread.
 * Owns: nothing; nodes and entries are l1.c's.
 */
#include "l1_private.h"

#include <string.h>

#define KNOWN_HOWEVER_OLD UINT64_MAX

/* An id on its way in. */
struct l1_adding {
    struct hash128 key;
    uint64_t lsn;
    uint64_t added_ms; /* on the generations' clock */
    uint64_t ttl_ms;   /* an id of this age is new; 0: every id is known; or KNOWN_HOWEVER_OLD */
};

/* Zero marks an unused node; the one hash that would look like it moves aside. */
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
    /* relaxed: whoever sees it late knows an id for that much longer, or shorter */
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

/* In a read section. What l1_add() says of an id that is known. */
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

bool l1_knows(struct l1_thread *thread, uint16_t stream, const struct hash128 *hash,
              uint64_t now_ms)
{
    const struct l1 *l1 = thread->l1;
    const uint64_t shorter_ms = l1_shorter_ttl_ms(l1, stream);
    const struct l1_entry *entry;
    bool known;

    rcu_read_lock();
    entry = l1_look_up(thread, hash);
    known = entry != NULL;
    if (known && l1->shared && atomic_load_explicit(&entry->lsn, memory_order_relaxed) == 0)
        known = false;
    if (known && shorter_ms != 0)
        known = !l1_entry_is_old(l1, entry, shorter_ms, now_ms + l1->epoch_ms);
    rcu_read_unlock();
    return known;
}

/* In a read section. Takes one id out of the table and its file; false: somebody else has. */
static bool l1_unlink(struct l1 *l1, struct cds_lfht_node *link)
{
    if (cds_lfht_del(l1->table, link) != 0)
        return false;
    /* The file has to forget it too; in the read section, so that the slab is still there. */
    l1_entry_set(l1_entry_of(link), (struct hash128){0}, 0);
    atomic_fetch_sub_explicit(&l1->entries, 1, memory_order_relaxed);
    return true;
}

/*
 * In a read section; the id is in the table. True: result is what l1_enter() says of it. False: it
 * was too old and has gone, try again.
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
    /* Of those that come to ask for an id that is owned elsewhere one at a time goes to ask. */
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

    rcu_read_lock();
    for (;;) {
        while (unlikely(!l1_has_node(thread))) {
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

        /* Never linked, so the next add may have it at once. */
        l1_entry_set(entry, (struct hash128){0}, 0);
        if (decided) {
            rcu_read_unlock();
            return result;
        }
    }
    thread->next++;
    l1_note_youngest(thread->generation, adding->added_ms);
    rcu_read_unlock();
    atomic_fetch_add_explicit(&l1->entries, 1, memory_order_relaxed);
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

    rcu_read_lock();
    entry = l1_look_up(thread, hash);
    if (entry)
        *lsn = atomic_load_explicit(&entry->lsn, memory_order_relaxed);
    rcu_read_unlock();
    return entry != NULL;
}

void l1_disown(struct l1_thread *thread, const struct hash128 *hash, uint64_t lsn)
{
    struct l1_entry *entry;

    rcu_read_lock();
    entry = l1_look_up(thread, hash);
    /* relaxed: whoever must see it takes the journal's lock after the record's segment has gone */
    if (entry)
        atomic_compare_exchange_strong_explicit(&entry->lsn, &lsn, 0, memory_order_relaxed,
                                                memory_order_relaxed);
    rcu_read_unlock();
}

bool l1_remove(struct l1_thread *thread, const struct hash128 *hash)
{
    struct l1 *l1 = thread->l1;
    struct hash128 key = l1_node_key(hash);
    struct cds_lfht_iter iter;
    bool removed = false;

    rcu_read_lock();
    cds_lfht_lookup(l1->table, key.lo, l1_node_matches, &key, &iter);
    struct cds_lfht_node *link = cds_lfht_iter_get_node(&iter);
    if (link)
        removed = l1_unlink(l1, link);
    rcu_read_unlock();
    return removed;
}
