/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_tell.h - reports about inserts to /readyz and the log: each waiting state has a name and
 * says what to do. Changes nothing else.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_TELL_H
#define ALLOY_FLUSHER_TELL_H

#include "flusher_private.h"

/* The text of an answer on one line, cut short, for people. Lends out. */
const char *flusher_tell_words(const struct transfer *transfer, char out[LANE_MESSAGE_MAX]);

/* Reports whether ClickHouse answers at all. */
void flusher_tell_up(struct flusher *flusher, bool up, const char *error);
/* Reports what keeps inserts of a lane from endpoints of its shard; NULL: nothing. held: from all
 * of them. */
void flusher_tell_replicas(struct flusher *flusher, struct lane *lane, bool held, const char *text);
/* Reports events that are frozen for shards which the list of endpoints does not have. */
void flusher_tell_strays(struct flusher *flusher, uint64_t events);
/* Reports what keeps a lane from inserting. */
void flusher_tell_fault(struct flusher *flusher, struct lane *lane, enum lane_fault fault,
                        const char *text);
/* The same, when the answer to an insert is the cause. */
void flusher_tell_insert_fault(struct flusher *flusher, struct lane *lane,
                               const struct transfer *transfer,
                               const struct insert_reading *reading);
/* An insert was not acknowledged: reports a fault that should have passed by itself long ago. */
void flusher_tell_retry(struct flusher *flusher, struct lane *lane, const struct transfer *transfer,
                        const struct insert_reading *reading);
/* An insert ran out of time. */
void flusher_tell_slow(struct flusher *flusher, struct lane *lane, const struct insert *insert);
/* A row was refused alone. buried: it is at fault and was buried. */
void flusher_tell_refused(struct flusher *flusher, struct lane *lane, const struct insert *insert,
                          bool buried);
/* Tells anew, each second, how much is kept. */
void flusher_tell_counts(struct flusher *flusher, uint64_t now);
/* What the lane keeps because its table refuses it, after a change. */
void flusher_tell_kept(struct flusher *flusher, struct lane *lane);
/* The table has taken, without its views, an insert that was refused with them. */
void flusher_tell_view(struct flusher *flusher, struct lane *lane, const struct insert *insert);
/* An insert in doubt was found in the table. */
void flusher_tell_found(struct flusher *flusher, struct lane *lane, const struct insert *insert);
/* An insert has gone in. */
void flusher_tell_success(struct flusher *flusher, struct lane *lane);
/* Reports one thing about a table that an operator should know (reason clickhouse.NAME.<what>);
 * text NULL: it is not true, or no longer. news: log it too. */
void flusher_tell_finding(struct flusher *flusher, const struct lane *lane, const char *what,
                          const char *text, bool news);
/* Counts an insert that was not acknowledged, by class and by code. */
void flusher_tell_error(struct flusher *flusher, const struct transfer *transfer,
                        const struct insert_reading *reading);
/* An insert was acknowledged after took_ns: counts it, its rows and bytes. */
void flusher_tell_insert(struct flusher *flusher, const struct insert *insert, uint64_t took_ns);
/* For level debug: an insert is sent, and what was answered to it. */
void flusher_tell_sent(const struct flusher *flusher, const struct insert *insert);
void flusher_tell_answer(const struct flusher *flusher, const struct transfer *transfer,
                         const struct insert_reading *reading);
/* Sets the gauges of all streams: what is out, and whether it goes in. */
void flusher_tell_gauges(struct flusher *flusher);
/* Notes for the page that an insert was not acknowledged. */
void flusher_tell_setback(struct flusher *flusher, const struct transfer *transfer,
                          const struct insert_reading *reading);

#endif
