/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_place.h - where in a segment's file the mark of a record is, for tests that damage it.
 */
#ifndef ALLOY_TEST_MARK_PLACE_H
#define ALLOY_TEST_MARK_PLACE_H

#include "alloy/segment.h"

#include <unistd.h>

/* offset: of the record. */
static inline size_t mark_place(int fd, size_t offset)
{
    struct record record;

    if (pread(fd, &record, sizeof(record), (off_t)offset) != (ssize_t)sizeof(record))
        return 0;
    return record.magic == RECORD_MAGIC ? offset - (size_t)record.mark_back
                                        : offset + offsetof(struct record, checksum);
}

#endif
