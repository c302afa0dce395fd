/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_moves.h - a start's first step: of several records of one LSN, which a crash can leave,
 * one is believed.
 */
#ifndef ALLOY_RECOVER_MOVES_H
#define ALLOY_RECOVER_MOVES_H

#include "alloy/base.h"
#include "alloy/journal_dir.h"
#include "alloy/segment.h"

/* Marks every LIVE record that another one of its LSN stands for as MOVED, on disk. 0, or -errno
 * with the segment's number, or 0, in number. Alone, before any segment is opened. */
MUST_CHECK int recover_settle_moves(const struct journal_dir *dir, const struct segment_spec *spec,
                                    uint32_t *number);

#endif
