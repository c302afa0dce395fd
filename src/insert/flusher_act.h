/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_act.h - acts on answers to inserts.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_ACT_H
#define ALLOY_FLUSHER_ACT_H

#include "flusher_private.h"

/* Deals with an insert's transfer that has ended and is off the multi handle; takes its insert. */
void flusher_act(struct flusher *flusher, struct transfer *transfer);
/* Takes an insert that could not be sent, and puts it off. */
void flusher_act_unsent(struct flusher *flusher, struct insert *insert);
/* Reviews what a lane keeps, after an answer about its table, and gives the burial what it
 * takes. */
void flusher_act_review(struct flusher *flusher, struct lane *lane);
void flusher_act_bury(struct flusher *flusher, struct lane *lane);
/* Buries what the lane's table has refused. */
void flusher_act_bury_all(struct flusher *flusher, struct lane *lane);
/* Ends an insert that is in ClickHouse. */
void flusher_act_finish(struct flusher *flusher, struct insert *insert);
/* The table has an insert that was never acknowledged: ends it. */
void flusher_act_found(struct flusher *flusher, struct insert *insert);
/* The table lacks an insert in doubt, or does not tell: takes it, PUT_OFF, and sends it again. */
void flusher_act_resume(struct flusher *flusher, struct insert *insert);
/* An exchange ran out of time, after so many that did: whether the next one gets more. It does only
 * if the server answered others meanwhile: a longer wait on a connection that leads nowhere, as
 * behind a partition, would go on after that has ended. But it does now and then anyway, since the
 * network may be slow. */
bool flusher_act_needs_longer(const struct flusher *flusher, const struct transfer *transfer,
                              uint32_t tries);
/* Ends the stay of inserted records in Alloy, and counts them. */
void flusher_act_inserted(struct flusher *flusher, size_t stream, struct record *const *records,
                          size_t n);

#endif
