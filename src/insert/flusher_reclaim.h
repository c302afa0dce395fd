/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_reclaim.h - has what the flusher holds claimed again, after a Redis may have forgotten
 * it (reclaim.h).
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_RECLAIM_H
#define ALLOY_FLUSHER_RECLAIM_H

#include "flusher_private.h"

/* Once a turn, before inserts are made. */
void flusher_reclaim(struct flusher *flusher);
/* Whether a batch must not go into an insert; it is taken then. */
bool flusher_reclaim_recalls(struct flusher *flusher, struct batch *batch);

#endif
