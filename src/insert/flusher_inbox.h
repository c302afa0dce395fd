/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_inbox.h - deals submitted batches out to the lanes of their streams and shards.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_INBOX_H
#define ALLOY_FLUSHER_INBOX_H

#include "flusher_private.h"

/* Makes the lanes of streams that are new: at the start, or since a reload. */
void flusher_inbox_add_lanes(struct flusher *flusher);
/* Moves the submitted batches into the lanes, oldest first. */
void flusher_inbox_take(struct flusher *flusher);
/* Frees what is in no lane. */
void flusher_inbox_free(struct flusher *flusher);

#endif
