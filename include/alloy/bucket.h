/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bucket.h - how fast somebody may take something: a token bucket of one second's worth.
 *
 * Runs on: any thread, without a lock. The clock is the caller's.
 */
#ifndef ALLOY_BUCKET_H
#define ALLOY_BUCKET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUCKET_RATE_MAX 1000000000u /* a second */
#define BUCKET_RETRY_MAX_S 60

/* Zero-initialised: full. */
struct bucket {
    _Atomic uint64_t full_at_ns; /* when it is full again; relaxed: it orders nothing else */
};

/*
 * Takes n, of rate a second (1 to BUCKET_RATE_MAX), at now_ns. True: taken. False: nothing was
 * taken, and *wait_ns says for how long a request of this size would be refused. More than a
 * second's worth is taken from a full bucket and leaves a debt, so that no size is refused for
 * ever.
 */
bool bucket_take(struct bucket *bucket, uint64_t rate, uint32_t n, uint64_t now_ns,
                 uint64_t *wait_ns);
/* Takes n though it be more than there is; what is owed is at most ten seconds' worth. */
void bucket_charge(struct bucket *bucket, uint64_t rate, uint32_t n, uint64_t now_ns);
/* For how long nothing is in it at all, after bucket_charge(); 0: there is something. */
uint64_t bucket_debt_ns(const struct bucket *bucket, uint64_t now_ns);
/* Gives back what bucket_take() took. */
void bucket_give(struct bucket *bucket, uint64_t rate, uint32_t n);
/* Makes it full. */
void bucket_fill(struct bucket *bucket);

/* wait_ns as the value of Retry-After: 1 to BUCKET_RETRY_MAX_S seconds. */
uint16_t bucket_retry_s(uint64_t wait_ns);

#endif
