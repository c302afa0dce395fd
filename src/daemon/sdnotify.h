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
/* Within drain_ms, however short TimeoutStopSec is. */
void sdnotify_stopping(uint64_t drain_ms);
/* Before sdnotify_ready(): the start takes its time, and this is how far it is. */
void sdnotify_reading(size_t segment, size_t segments);
/* Interval in ms at which sdnotify_watchdog() is wanted; 0: none. */
uint64_t sdnotify_watchdog_ms(void);
void sdnotify_watchdog(void);

#endif
