/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backoff.h - how long to wait before the next try: doubling from min to max, with jitter.
 */
#ifndef ALLOY_BACKOFF_H
#define ALLOY_BACKOFF_H

#include <stdint.h>

/* Zero-initialise. */
struct backoff {
    uint32_t failures; /* in a row */
};

/*
 * Counts one more failure and returns the wait in ms: min_ms * 2^(failures - 1), at most max_ms,
 * less a random part of up to half of it ("equal jitter"). random is any 64 random bits.
 */
uint64_t backoff_next(struct backoff *backoff, uint64_t min_ms, uint64_t max_ms, uint64_t random);
void backoff_reset(struct backoff *backoff);

#endif
