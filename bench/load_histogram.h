/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_histogram.h - latencies of bench/load, in steps that grow with them, as HdrHistogram has it.
 */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <math.h>
#include <stdint.h>

/* A latency falls into one of 64 equal steps of its power of two: at most 1.6 % too high. */
#define STEP_BITS 6
#define STEPS (1u << STEP_BITS)
#define BUCKETS ((64 - STEP_BITS) * STEPS)

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total, max_ns;
};

static inline unsigned histogram_bucket(uint64_t ns)
{
    unsigned power;

    if (ns < 2 * STEPS)
        return (unsigned)ns;
    power = 63 - (unsigned)__builtin_clzll(ns) - STEP_BITS;
    return power * STEPS + (unsigned)(ns >> power);
}

/* The largest time that falls into the bucket. */
static inline uint64_t histogram_value(unsigned bucket)
{
    unsigned power;

    if (bucket < 2 * STEPS)
        return bucket;
    power = bucket / STEPS - 1;
    return ((uint64_t)(bucket % STEPS + STEPS + 1) << power) - 1;
}

static inline void histogram_add(struct histogram *histogram, uint64_t ns)
{
    histogram->counts[histogram_bucket(ns)]++;
    histogram->total++;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

/* In microseconds. */
static inline double histogram_percentile(const struct histogram *histogram, double percent)
{
    const uint64_t wanted = (uint64_t)ceil((double)histogram->total * percent / 100);
    uint64_t seen = 0;

    for (unsigned i = 0; i < BUCKETS; i++) {
        seen += histogram->counts[i];
        if (seen >= wanted && seen > 0)
            return fmin((double)histogram_value(i), (double)histogram->max_ns) / 1000;
    }
    return 0;
}

#endif
