/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdnotify.h - tells systemd what alloyd is doing. Does nothing when not started by systemd.
 * The one home of libsystemd. Main thread.
 */
#ifndef ALLOY_SDNOTIFY_H
#define ALLOY_SDNOTIFY_H

#include <stdint.h>

void sdnotify_ready(void);
void sdnotify_reloading(void);
void sdnotify_stopping(void);
/* Interval in ms at which sdnotify_watchdog() is wanted; 0: none. */
uint64_t sdnotify_watchdog_ms(void);
void sdnotify_watchdog(void);

#endif
