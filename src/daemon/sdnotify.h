/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdnotify.h - tells systemd what alloyd is doing. Does nothing when not started by systemd.
 * The one home of libsystemd. Main thread.
 */
#ifndef ALLOY_SDNOTIFY_H
#define ALLOY_SDNOTIFY_H

#include <stddef.h>
#include <stdint.h>

void sdnotify_ready(void);
void sdnotify_reloading(void);
/* We stop, within drain_ms; asks for that time if TimeoutStopSec is shorter. */
void sdnotify_stopping(uint64_t drain_ms);
/* Before sdnotify_ready(): says how far the start is, and asks for more time. */
void sdnotify_reading(size_t segment, size_t segments);
/* The interval in ms for sdnotify_watchdog(); 0: systemd wants none. */
uint64_t sdnotify_watchdog_ms(void);
void sdnotify_watchdog(void);

#endif
