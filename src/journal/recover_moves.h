/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_moves.h - the first step of a start: a crash can leave several records with one LSN;
 * decides which one counts.
 */
#ifndef ALLOY_RECOVER_MOVES_H
#define ALLOY_RECOVER_MOVES_H

#include "alloy/base.h"
#include "alloy/journal_dir.h"
#include "alloy/segment.h"

/* Marks every LIVE record that does not count as MOVED, and syncs that. Returns 0, or -errno and in
 * number the segment's number, or 0. Call before any segment is opened, with nothing else running
 * on the folder. */
MUST_CHECK int recover_settle_moves(const struct journal_dir *dir, const struct segment_spec *spec,
                                    uint32_t *number);

#endif
