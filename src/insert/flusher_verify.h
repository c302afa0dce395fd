/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_verify.h - whether inserts that were acknowledged while in doubt are in the table.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_VERIFY_H
#define ALLOY_FLUSHER_VERIFY_H

#include "flusher_private.h"

/* Whether the table has to be asked for an insert that is due before it is sent again; then takes
 * it. */
bool flusher_verify_first(struct flusher *flusher, struct lane *lane, struct insert *insert);
/* Fills posting with the next question, url owned, insert taken out of the lane; false: none is
 * due. */
bool flusher_verify_next(struct flusher *flusher, struct lane *lane, uint64_t now,
                         struct flusher_posting *posting);
/* That question could not be posted. Takes insert (NULL: it was about none's rows). */
void flusher_verify_unasked(struct flusher *flusher, struct lane *lane, struct insert *insert);
/* Deals with a transfer of such a question that has ended and is off the multi handle; takes its
 * insert. */
void flusher_verify_answered(struct flusher *flusher, struct transfer *transfer);
/* When the lane's next question is due; UINT64_MAX: there is none. */
uint64_t flusher_verify_due_ms(const struct lane *lane);

#endif
