/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pulse.h - threads report in, so that we can name one that hangs.
 *
 * A thread that has joined beats at least once a second, even when it is idle and in every loop
 * that can run for long. The main thread looks, and pings systemd only while all threads have
 * beaten within their bound.
 */
#ifndef ALLOY_PULSE_H
#define ALLOY_PULSE_H

#include <stddef.h>
#include <stdint.h>

#define PULSE_THREADS_MAX 160
#define PULSE_NAME_MAX 16
#define PULSE_SLEEP_MAX_MS 1000 /* the longest that a thread which has joined may sleep */

/* The calling thread reports in from now on. Beyond PULSE_THREADS_MAX nobody watches it. */
void pulse_join(const char *name);
/* slack_ms: how much longer than others this thread may now be silent, because it waits for
 * somebody with a time-out of its own. Does nothing in a thread that has not joined. Costs a
 * reading of the coarse clock and a store. */
void pulse_beat(uint64_t slack_ms);
/* Before the thread ends, or no longer beats. */
void pulse_leave(void);

/* Called with silent_ms when a thread begins to hang, and with 0 when it beats again or has
 * left. */
typedef void (*pulse_told_fn)(void *arg, const char *name, uint64_t silent_ms);
/* Returns how many threads hang, that is were silent for longer than bound_ms plus their slack.
 * Only one thread calls this, at least four times within bound_ms: after a longer pause of its own
 * it judges nobody, since the whole process may have been stopped. now_ms is clock_mono_ms(). */
size_t pulse_look(uint64_t now_ms, uint64_t bound_ms, pulse_told_fn told, void *arg);

#endif
