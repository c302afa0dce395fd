/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bucket.c - how fast somebody may take something: a token bucket of one second's worth.
 *
 * The generic cell rate algorithm (ITU-T I.371): in place of tokens and the time of the last look
 * there is one number, the time at which the bucket will be full. Taking moves it into the future,
 * and time itself fills the bucket, so that one compare-and-swap does all and nobody waits.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/bucket.h"

#define NS_PER_S 1000000000ull
#define OWED_MAX_NS (10 * NS_PER_S)

/* How long it takes until n have come back; at most 4.3e18, so that times do not overflow. */
static uint64_t bucket_cost_ns(uint64_t rate, uint32_t n)
{
    return (n * NS_PER_S + rate - 1) / rate;
}

bool bucket_take(struct bucket *bucket, uint64_t rate, uint32_t n, uint64_t now_ns,
                 uint64_t *wait_ns)
{
    const uint64_t cost_ns = bucket_cost_ns(rate, n);
    uint64_t full_at_ns = atomic_load_explicit(&bucket->full_at_ns, memory_order_relaxed);

    for (;;) {
        const uint64_t missing_ns = full_at_ns > now_ns ? full_at_ns - now_ns : 0;

        if (missing_ns > 0 && missing_ns + cost_ns > NS_PER_S) {
            *wait_ns = cost_ns > NS_PER_S ? missing_ns : missing_ns + cost_ns - NS_PER_S;
            return false;
        }
        if (atomic_compare_exchange_weak_explicit(&bucket->full_at_ns, &full_at_ns,
                                                  now_ns + missing_ns + cost_ns,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

void bucket_charge(struct bucket *bucket, uint64_t rate, uint32_t n, uint64_t now_ns)
{
    const uint64_t cost_ns = bucket_cost_ns(rate, n);
    uint64_t full_at_ns = atomic_load_explicit(&bucket->full_at_ns, memory_order_relaxed);
    uint64_t next_ns;

    do {
        next_ns = (full_at_ns > now_ns ? full_at_ns : now_ns) + cost_ns;
        if (next_ns > now_ns + OWED_MAX_NS)
            next_ns = full_at_ns > now_ns + OWED_MAX_NS ? full_at_ns : now_ns + OWED_MAX_NS;
    } while (!atomic_compare_exchange_weak_explicit(&bucket->full_at_ns, &full_at_ns, next_ns,
                                                    memory_order_relaxed, memory_order_relaxed));
}

uint64_t bucket_debt_ns(const struct bucket *bucket, uint64_t now_ns)
{
    const uint64_t full_at_ns = atomic_load_explicit(&bucket->full_at_ns, memory_order_relaxed);

    return full_at_ns > now_ns + NS_PER_S ? full_at_ns - now_ns - NS_PER_S : 0;
}

void bucket_give(struct bucket *bucket, uint64_t rate, uint32_t n)
{
    const uint64_t cost_ns = bucket_cost_ns(rate, n);
    uint64_t full_at_ns = atomic_load_explicit(&bucket->full_at_ns, memory_order_relaxed);

    /* It may have been filled, or be somebody else's by now. */
    while (!atomic_compare_exchange_weak_explicit(&bucket->full_at_ns, &full_at_ns,
                                                  full_at_ns > cost_ns ? full_at_ns - cost_ns : 0,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

void bucket_fill(struct bucket *bucket)
{
    atomic_store_explicit(&bucket->full_at_ns, 0, memory_order_relaxed);
}

uint16_t bucket_retry_s(uint64_t wait_ns)
{
    const uint64_t wait_s = (wait_ns + NS_PER_S - 1) / NS_PER_S;

    if (wait_s < 1)
        return 1;
    return wait_s < BUCKET_RETRY_MAX_S ? (uint16_t)wait_s : BUCKET_RETRY_MAX_S;
}
