/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buried.h - which records of a journal are in the dead-letter folder already, for a start after a
 * crash: such a record may still be LIVE, and must not be dead-lettered twice.
 *
 * Runs on: one thread.
 */
#ifndef ALLOY_BURIED_H
#define ALLOY_BURIED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/journal.h"

struct buried {
    uint64_t *lsns; /* sorted; NULL: none */
    size_t count;
};

/*
 * Reads the LSNs of the lines that may be of records of this journal: of its instance, and
 * no older than what is still there, in files written to since the oldest of those records came.
 * The files read are synced, so that a record may be marked DEAD on the strength of its line. 0, or
 * -errno and nothing to free. Before recover_run(), which removes segments.
 */
MUST_CHECK int buried_read(struct buried *buried, const char *dir, struct journal *journal);
bool buried_has(const struct buried *buried, uint64_t lsn);
void buried_free(struct buried *buried);

#endif
