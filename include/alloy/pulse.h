/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse.h - threads report in, so that one that hangs is known by its name.
 *
 * A thread that has joined beats at least once a second, however idle it is, and wherever it may
 * stay in a loop. Main looks, and pings systemd only while all have beaten within their bound.
 */
#ifndef ALLOY_PULSE_H
#define ALLOY_PULSE_H

#include <stddef.h>
#include <stdint.h>

#define PULSE_THREADS_MAX 160
#define PULSE_NAME_MAX 16
#define PULSE_SLEEP_MAX_MS 1000 /* the longest that a thread which has joined may sleep */

/* The calling thread reports in from now on. Where there is no room nobody looks at it. */
void pulse_join(const char *name);
/* slack_ms: how much longer than others it may now be silent, since it waits for somebody with a
 * time-out of its own. Does nothing in a thread that has not joined. Costs a reading of the coarse
 * clock and a store. */
void pulse_beat(uint64_t slack_ms);
/* Before the thread ends, or no longer beats. */
void pulse_leave(void);

/* Told when a thread begins to hang (silent for so long), and with 0 when it beats again or left.
 */
typedef void (*pulse_told_fn)(void *arg, const char *name, uint64_t silent_ms);
/* Returns how many threads hang: were silent for longer than bound_ms and their slack. One thread
 * alone, at least four times within bound_ms: after a longer pause of its own it judges nobody.
 * now_ms is clock_mono_ms(). */
size_t pulse_look(uint64_t now_ms, uint64_t bound_ms, pulse_told_fn told, void *arg);

#endif
