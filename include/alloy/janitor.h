/* SPDX-License-Identifier: Apache-2.0 */
/*
 * janitor.h - the thread that does what nobody should wait for: spare segments, page population,
 * interval syncs, removal of finished segments, expiry of L1 generations, a look at free room.
 */
#ifndef ALLOY_JANITOR_H
#define ALLOY_JANITOR_H

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/journal.h"
#include "alloy/l1.h"
#include "alloy/metrics.h"

struct janitor;

/* Returns 0 and an owned janitor (janitor_stop()), or -errno. */
MUST_CHECK int janitor_start(struct janitor **janitor, const struct config_ref *config,
                             struct journal *journal, struct l1 *l1, struct metrics *metrics);
void janitor_stop(struct janitor *janitor); /* joins; NULL is fine */

#endif
