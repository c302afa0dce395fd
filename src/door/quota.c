/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.c - how many requests and events each client address may send a second.
 *
 * The table has a fixed size: sets of two places, each set one cache line. An address whose buckets
 * are full is the same as one that was never seen. So a new address takes the place whose buckets
 * lack least, and mostly this costs nobody anything. A keyed hash chooses the set, so that nobody
 * can aim at the set of somebody else.
 *
 * A place changes its owner in steps, and another thread may still take from it for the last owner.
 * That makes a bucket wrong by one request, which does no harm.
 *
 * Runs on: any thread.
 * Owns: the table.
 */
#include "alloy/quota.h"

#include <sodium.h>

#include <string.h>
#include <sys/mman.h>

#define WAYS 2

struct quota_place {
    _Atomic uint64_t owner; /* hash of the address; 0: nobody; relaxed: a wrong bucket is no harm */
    struct quota_buckets buckets;
};

struct quota_set {
    struct quota_place ways[WAYS];
} CACHE_ALIGNED;

_Static_assert(sizeof(struct quota_set) == CACHE_LINE, "a set is one cache line");

struct quota {
    unsigned char secret[crypto_shorthash_KEYBYTES]; /* constant */
    size_t mask;                                     /* constant: sets - 1 */
    struct quota_set *sets;
    _Atomic uint64_t rates; /* that debts were made with; relaxed, as the buckets */
};

struct quota *quota_create(size_t addresses)
{
    struct quota *quota = calloc(1, sizeof(*quota));
    size_t sets = 64;

    if (quota == NULL)
        return NULL;
    while (sets < addresses)
        sets *= 2;
    /* Mapped, so that it costs nothing before there is a limit and somebody whom it concerns. */
    quota->sets = mmap(NULL, sets * sizeof(*quota->sets), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (quota->sets == MAP_FAILED) {
        free(quota);
        return NULL;
    }
    quota->mask = sets - 1;
    ALLOY_ASSERT(sodium_init() >= 0);
    randombytes_buf(quota->secret, sizeof(quota->secret));
    return quota;
}

void quota_destroy(struct quota *quota)
{
    if (quota == NULL)
        return;
    munmap(quota->sets, (quota->mask + 1) * sizeof(*quota->sets));
    free(quota);
}

/* Of the network of an IPv6 address its first half says all. */
static uint64_t quota_hash(const struct quota *quota, const struct address *address)
{
    unsigned char text[9] = {address->family};
    uint64_t hash;

    memcpy(text + 1, address->bytes, address->family == ADDRESS_V4 ? 4 : 8);
    (void)crypto_shorthash((unsigned char *)&hash, text, sizeof(text), quota->secret);
    return hash;
}

/* The later of the times at which its buckets are full: how much would be forgotten with it. */
static uint64_t quota_full_at(struct quota_place *place)
{
    uint64_t requests =
        atomic_load_explicit(&place->buckets.requests.full_at_ns, memory_order_relaxed);
    uint64_t events = atomic_load_explicit(&place->buckets.events.full_at_ns, memory_order_relaxed);
    uint64_t refusals =
        atomic_load_explicit(&place->buckets.refusals.full_at_ns, memory_order_relaxed);
    uint64_t latest = requests > events ? requests : events;

    return refusals > latest ? refusals : latest;
}

struct quota_buckets *quota_find(struct quota *quota, const struct address *address)
{
    struct quota_place *ways, *victim;
    uint64_t owner = quota_hash(quota, address);

    ways = quota->sets[owner & quota->mask].ways;
    owner |= 1ull << 63; /* never 0; the set is chosen by the other end */
    for (size_t i = 0; i < WAYS; i++)
        if (atomic_load_explicit(&ways[i].owner, memory_order_relaxed) == owner)
            return &ways[i].buckets;
    victim = &ways[0];
    for (size_t i = 1; i < WAYS; i++)
        if (quota_full_at(&ways[i]) < quota_full_at(victim))
            victim = &ways[i];
    bucket_fill(&victim->buckets.requests);
    bucket_fill(&victim->buckets.events);
    bucket_fill(&victim->buckets.refusals);
    atomic_store_explicit(&victim->owner, owner, memory_order_relaxed);
    return &victim->buckets;
}

static void quota_fill(struct bucket *bucket)
{
    /* What is full stays untouched, and its page with it. */
    if (atomic_load_explicit(&bucket->full_at_ns, memory_order_relaxed) != 0)
        bucket_fill(bucket);
}

void quota_use_rates(struct quota *quota, uint64_t requests, uint64_t events)
{
    uint64_t rates = requests << 32 ^ events;

    if (likely(atomic_load_explicit(&quota->rates, memory_order_relaxed) == rates) ||
        atomic_exchange_explicit(&quota->rates, rates, memory_order_relaxed) == rates)
        return;
    for (size_t i = 0; i <= quota->mask; i++)
        for (size_t k = 0; k < WAYS; k++) {
            quota_fill(&quota->sets[i].ways[k].buckets.requests);
            quota_fill(&quota->sets[i].ways[k].buckets.events);
        }
}
