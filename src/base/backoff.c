/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backoff.c - how long to wait before the next try: doubling from min to max, with jitter.
 *
 * Without jitter, many clients of one server that failed together would come back together ("equal
 * jitter" in Brooker, Exponential Backoff and Jitter, 2015).
 *
 * Runs on: whoever owns the struct. Randomness is a parameter.
 */
#include "alloy/backoff.h"

#define SHIFT_MAX 63 /* of a 64-bit value */

uint64_t backoff_next(struct backoff *backoff, uint64_t min_ms, uint64_t max_ms, uint64_t random)
{
    uint64_t wait_ms = max_ms;

    if (backoff->failures < UINT32_MAX)
        backoff->failures++;
    uint32_t shift = backoff->failures - 1;
    /* Compare before shifting: after a long outage an overflow would make the wait short. */
    if (shift <= SHIFT_MAX && min_ms <= max_ms >> shift)
        wait_ms = min_ms << shift;
    return wait_ms - random % (wait_ms / 2 + 1);
}

void backoff_reset(struct backoff *backoff)
{
    backoff->failures = 0;
}
