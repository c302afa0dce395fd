/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_ask.h - deals with what ClickHouse says about a stream's table.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_ASK_H
#define ALLOY_FLUSHER_ASK_H

#include "flusher_private.h"

/* Deals with a question's transfer that has ended. */
void flusher_ask_answered(struct flusher *flusher, const struct transfer *transfer);
/* The next answer may come from another server: forgets what is known about the table. Also at the
 * start. */
void flusher_ask_anew(struct flusher *flusher, struct lane *lane);
/* What has failed tells nothing any more: tries all again at once. */
void flusher_ask_hurry(struct lane *lane);
/* A reload has named another server, other credentials or another table: asks now, forgets what
 * answers of before have said, and sends what waits at once. */
void flusher_ask_renewed(struct flusher *flusher, struct lane *lane);
/* A connection is lost: nobody knows what the tables will be like. Events pass unchecked until they
 * have been looked at again. */
void flusher_ask_forget(struct flusher *flusher);
/* At the start: where events are to be refused, alloyd is not ready before it knows the columns, or
 * FRESH_WAIT_MS have passed. */
void flusher_ask_await(struct flusher *flusher, struct lane *lane);
void flusher_ask_awaited(struct flusher *flusher, struct lane *lane, uint64_t now_ms);
/* Makes a question due when a check of events has doubts. */
void flusher_ask_doubted(struct flusher *flusher, struct lane *lane, uint64_t now_ms);

#endif
