/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lately.h - what each stream took and refused in the last minute.
 *
 * Runs on: one thread at a time.
 */
#ifndef ALLOY_LATELY_H
#define ALLOY_LATELY_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/metrics.h"

#define LATELY_SAMPLE_MS 5000
#define LATELY_SAMPLES 12 /* a minute of them */

struct lately_count {
    uint64_t refused;
    uint64_t taken;
}; /* requests */

/* Zero-initialise. The sample that is written next is the oldest one. */
struct lately {
    uint64_t next_ms;
    size_t next;
    struct lately_count samples[LATELY_SAMPLES][METRIC_STREAMS_MAX];
};

/* Takes a sample when one is due. Call it each second; now_ms is monotonic. */
void lately_sample(struct lately *lately, struct metrics *metrics, uint64_t now_ms);

/* What a stream has done between the oldest sample and snapshot: in 55 to 60 s, or since the
 * start. */
struct lately_count lately_read(const struct lately *lately,
                                const struct metrics_snapshot *snapshot, size_t stream);

#endif
