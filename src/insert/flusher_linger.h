/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_linger.h - how long batches wait in their lanes for more, and what ends that early.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_LINGER_H
#define ALLOY_FLUSHER_LINGER_H

#include "flusher_private.h"

/* From now on waiters wake the flusher, until flusher_linger_end(). While no waiter is armed. */
void flusher_linger_begin(struct flusher *flusher);
void flusher_linger_end(struct flusher *flusher);
/* Puts a batch into its lane, and sees whether somebody waits for it. */
void flusher_linger_add(struct flusher *flusher, struct lane *lane, struct batch *batch);
/* Tells the lanes how long batches may wait at present. */
void flusher_linger_review(struct flusher *flusher);

#endif
