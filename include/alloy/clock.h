/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - the two clocks. Monotonic for durations and deadlines, real time for what people and
 * ClickHouse read. Core modules take time as a parameter and never call these.
 */
#ifndef ALLOY_CLOCK_H
#define ALLOY_CLOCK_H

#include <stdint.h>

#define CLOCK_NS_PER_MS 1000000ull
#define CLOCK_NS_PER_S 1000000000ull

uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);
/* Cheaper than clock_mono_ms(), and behind it by up to a tick of the kernel (1 to 10 ms). */
uint64_t clock_coarse_ms(void);
/* Milliseconds since 1970-01-01 UTC. */
uint64_t clock_real_ms(void);

/* Writes "2026-01-31T12:00:00.123Z" and a NUL into out (at least 25 bytes). */
void clock_format_iso(uint64_t real_ms, char *out);

#endif
