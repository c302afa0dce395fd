/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_walk.h - reads the records of a segment that a running alloyd may be writing to.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_WALK_H
#define ALLOY_CTL_WALK_H

#include "alloy/segment.h"

struct ctl_walk {
    void (*record)(void *arg, const struct segment *segment, const struct record *record);
    /* text is lent until return. */
    void (*problem)(void *arg, const struct segment *segment, size_t offset, const char *text);
    void *arg;
};

/* Calls back for each whole record, in order, and for each place where there is none. Returns where
 * the records end. */
size_t ctl_walk_segment(const struct ctl_walk *walk, const struct segment *segment);

#endif
