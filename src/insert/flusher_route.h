/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_route.h - which endpoint an exchange goes to, and what is asked to know that.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_FLUSHER_ROUTE_H
#define ALLOY_FLUSHER_ROUTE_H

#include "flusher_private.h"

/* Makes the endpoints of the configuration in force. False: out of memory; those of before stay. */
bool flusher_route_make(struct flusher *flusher);
void flusher_route_free(struct flusher *flusher);

/* Whether an insert of the lane may go anywhere. */
bool flusher_route_open(const struct flusher *flusher, const struct lane *lane);
/* The endpoint for an exchange about the lane; ENDPOINTS_NONE: there is none. */
size_t flusher_route_choose(struct flusher *flusher, const struct lane *lane,
                            const struct flusher_posting *posting);
/* An exchange begins; it has ended. */
void flusher_route_begun(struct flusher *flusher, const struct transfer *transfer);
void flusher_route_ended(struct flusher *flusher, const struct transfer *transfer);
/* Whether an insert that has failed may go to another endpoint at once: the one that it was sent to
 * is not to be used now, and there is another. */
bool flusher_route_elsewhere(const struct flusher *flusher, const struct transfer *transfer);
/* Whether some endpoint is not left out. */
bool flusher_route_any(const struct flusher *flusher);

/* The next question that is due, about endpoints themselves. False: none is. The caller posts it,
 * or calls flusher_route_unasked(). */
bool flusher_route_next(struct flusher *flusher, uint64_t now, struct lane **lane,
                        struct flusher_posting *posting);
void flusher_route_unasked(struct flusher *flusher, const struct lane *lane,
                           const struct flusher_posting *posting);
/* Deals with such a question's transfer that has ended. */
void flusher_route_answered(struct flusher *flusher, const struct transfer *transfer);
/* When the next one is due; UINT64_MAX: not before something happens. */
uint64_t flusher_route_due_ms(const struct flusher *flusher);

#endif
