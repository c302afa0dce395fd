/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_pending.h - the events that wait in a journal, each once, read beside whoever uses the
 * folder.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_PENDING_H
#define ALLOY_CTL_PENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/segment.h"

/* The event is lent until return. */
typedef void (*ctl_pending_fn)(void *arg, const char *stream, uint64_t instance_id,
                               const struct record *record);

/* Calls visit for each pending event. Returns 0, or 1 when something in the journal is broken, or
 * -errno; 1 and -errno are reported. */
MUST_CHECK int ctl_pending_visit(const char *dir, ctl_pending_fn visit, void *arg);

#endif
