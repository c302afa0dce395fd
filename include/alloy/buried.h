/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buried.h - which records of a journal are already in the dead-letter folder. After a crash such a
 * record may still be LIVE; without this list the next start would dead-letter it twice.
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
 * Reads the LSNs of those lines that may belong to this journal: lines of its instance, no older
 * than the oldest record that is left, in files written to since that record came. Syncs these
 * files, since a line that a power loss could still take must not let a record become DEAD. Returns
 * 0, or -errno and nothing to free. Call before recover_run(), which removes segments.
 */
MUST_CHECK int buried_read(struct buried *buried, const char *dir, struct journal *journal);
bool buried_has(const struct buried *buried, uint64_t lsn);
void buried_free(struct buried *buried);

#endif
