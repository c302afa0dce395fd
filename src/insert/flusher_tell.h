/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_tell.h - what /readyz and the log are told about inserts: each waiting state has a name
 * and says what to do. Changes nothing else.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_TELL_H
#define ALLOY_FLUSHER_TELL_H

#include "flusher_private.h"

/* The text of an answer on one line, cut short, for people. Lends out. */
const char *flusher_tell_words(const struct transfer *transfer, char out[LANE_MESSAGE_MAX]);

/* Whether ClickHouse answers at all. */
void flusher_tell_up(struct flusher *flusher, bool up, const char *error);
/* What keeps a lane from inserting. */
void flusher_tell_fault(struct flusher *flusher, struct lane *lane, enum lane_fault fault,
                        const char *text);
/* The same, where the answer to an insert is at the bottom of it. */
void flusher_tell_insert_fault(struct flusher *flusher, struct lane *lane,
                               const struct transfer *transfer,
                               const struct insert_reading *reading);
/* An insert was not acknowledged; what passes by itself has not passed for long. */
void flusher_tell_retry(struct flusher *flusher, struct lane *lane, const struct transfer *transfer,
                        const struct insert_reading *reading);
/* Time ran out for an insert. */
void flusher_tell_slow(struct flusher *flusher, struct lane *lane, const struct insert *insert);
/* A row was refused alone. buried: it is at fault. */
void flusher_tell_refused(struct flusher *flusher, struct lane *lane, const struct insert *insert,
                          bool buried);
/* Tells anew, each second, how much is kept. */
void flusher_tell_counts(struct flusher *flusher, uint64_t now);
/* What the lane keeps because its table refuses it, after a change. */
void flusher_tell_kept(struct flusher *flusher, struct lane *lane);
/* The table has taken what was refused before, when its views were asked. */
void flusher_tell_view(struct flusher *flusher, struct lane *lane, const struct insert *insert);
/* An insert has gone in. */
void flusher_tell_success(struct flusher *flusher, struct lane *lane);
/* One thing about a table that an operator should know (reason clickhouse.NAME.<what>); text NULL:
 * it is not so (any more). news: for the log too. */
void flusher_tell_finding(struct flusher *flusher, const struct lane *lane, const char *what,
                          const char *text, bool news);
void flusher_tell_error(struct flusher *flusher, enum insert_class class); /* counts it */

#endif
