/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_ask.h - what ClickHouse tells of a stream's table, and what that decides.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_ASK_H
#define ALLOY_FLUSHER_ASK_H

#include "flusher_private.h"

/* Deals with a transfer of a question that has ended. */
void flusher_ask_answered(struct flusher *flusher, const struct transfer *transfer);
/* Whoever answers next may be another server: what is known of the table no longer holds. Also at
 * the start. */
void flusher_ask_anew(struct flusher *flusher, struct lane *lane);

#endif
