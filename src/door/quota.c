/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quota.c - how many requests and events each client address may send a second.
 *
 * A table of fixed size, two ways a set, a set a cache line. An address that is full again and one
 * that was never seen are the same, so a place is taken from whoever misses least, and most often
 * that costs nobody anything. Sets are chosen by a keyed hash: nobody can aim at another's set.
 *
 * A place that changes hands does so in steps, and another thread may still take from it for its
 * last owner: that makes a bucket wrong by one request, which is as good as right.
 *
 * Runs on: any thread.
 * Owns: the table.
 */
#include "alloy/quota.h"

#include <sodium.h>

#include <netinet/in.h>
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

struct quota_address quota_address_of(const struct sockaddr *address)
{
    struct quota_address out = {0, 0};

    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;

        out = (struct quota_address){.network = in->sin_addr.s_addr, .family = 4};
    } else if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        uint32_t v4;

        out.family = 6;
        memcpy(&out.network, in6->sin6_addr.s6_addr, sizeof(out.network));
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
            memcpy(&v4, in6->sin6_addr.s6_addr + 12, sizeof(v4));
            out = (struct quota_address){.network = v4, .family = 4};
        }
    }
    return out;
}

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

/* The later of the times at which its buckets are full: how much would be forgotten with it. */
static uint64_t quota_full_at(struct quota_place *place)
{
    uint64_t requests =
        atomic_load_explicit(&place->buckets.requests.full_at_ns, memory_order_relaxed);
    uint64_t events = atomic_load_explicit(&place->buckets.events.full_at_ns, memory_order_relaxed);

    return requests > events ? requests : events;
}

struct quota_buckets *quota_find(struct quota *quota, const struct quota_address *address)
{
    unsigned char text[sizeof(address->network) + 1];
    struct quota_place *ways, *victim;
    uint64_t owner;

    memcpy(text, &address->network, sizeof(address->network));
    text[sizeof(address->network)] = address->family;
    (void)crypto_shorthash((unsigned char *)&owner, text, sizeof(text), quota->secret);
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
