/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lately.c - what each stream took and refused in the last minute.
 *
 * A stream that refuses everything now may have taken a lot in its life, which its counters tell;
 * whoever opens the page wants to know at once.
 *
 * Runs on: one thread at a time.
 * Owns: nothing.
 */
#include "lately.h"

#include <stdlib.h>

static struct lately_count lately_count(const struct metrics_snapshot *snapshot, size_t stream)
{
    struct lately_count count = {.taken = snapshot->answers[stream][ERROR_NONE]};

    for (size_t error = ERROR_NONE + 1; error < ERROR_COUNT; error++)
        count.refused += snapshot->answers[stream][error];
    return count;
}

void lately_sample(struct lately *lately, struct metrics *metrics, uint64_t now_ms)
{
    struct metrics_snapshot *snapshot;

    if (now_ms < lately->next_ms)
        return;
    snapshot = malloc(sizeof(*snapshot));
    if (snapshot == NULL)
        return;
    lately->next_ms = now_ms + LATELY_SAMPLE_MS;
    metrics_read(metrics, snapshot);
    for (size_t stream = 0; stream < METRIC_STREAMS_MAX; stream++)
        lately->samples[lately->next][stream] = lately_count(snapshot, stream);
    lately->next = (lately->next + 1) % LATELY_SAMPLES;
    free(snapshot);
}

struct lately_count lately_read(const struct lately *lately,
                                const struct metrics_snapshot *snapshot, size_t stream)
{
    const struct lately_count before = lately->samples[lately->next][stream];
    struct lately_count count = lately_count(snapshot, stream);

    count.refused -= before.refused;
    count.taken -= before.taken;
    return count;
}
