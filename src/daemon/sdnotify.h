/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdnotify.h - tells systemd what alloyd is doing. Does nothing when not started by systemd.
 * The one home of libsystemd. Main thread.
 */
#ifndef ALLOY_SDNOTIFY_H
#define ALLOY_SDNOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/config.h"
#include "alloy/inherited.h"

/* Adds the sockets that systemd, or another parent that follows its protocol (LISTEN_FDS), gave to
 * this process. Returns 0, or -errno with a sentence in error. Call once, before any thread. */
MUST_CHECK int sdnotify_take_sockets(struct inherited *sockets, const struct config *config,
                                     char error[INHERITED_ERROR_MAX]);
void sdnotify_ready(void);
void sdnotify_reloading(void);
/* We stop, within drain_ms; asks for that time if TimeoutStopSec is shorter. */
void sdnotify_stopping(uint64_t drain_ms);
/* Before sdnotify_ready(): says how far the start is, and asks for more time. */
/* We become the next life of ourselves; the drain before it takes up to drain_ms. */
void sdnotify_restarting(uint64_t drain_ms);
/* How many sockets systemd would keep for the next life of the service; 0: none. */
size_t sdnotify_store_max(void);
/* Has it keep these. Returns whether it does. */
bool sdnotify_keep_sockets(const struct inherited *kept);
/* Has systemd forget what it has kept. */
void sdnotify_forget_sockets(void);
void sdnotify_reading(size_t segment, size_t segments);
/* The interval in ms for sdnotify_watchdog(); 0: systemd wants none. */
uint64_t sdnotify_watchdog_ms(void);
void sdnotify_watchdog(void);

#endif
