/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vacate.h - moves the records that somebody holds out of segments that the journal wants to be rid
 * of, a little at a time.
 *
 * Runs on: the holder's thread.
 */
#ifndef ALLOY_VACATE_H
#define ALLOY_VACATE_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/journal.h"

/* Visits a place that holds a record; another record may be put there until the holder goes on. */
typedef void (*vacate_visit_fn)(void *arg, struct record **place);
/* Visits every place of the holder's, but those of records that somebody reads just now. */
typedef void (*vacate_walk_fn)(void *holder, vacate_visit_fn visit, void *arg);

struct vacate {
    struct journal *journal;
    vacate_walk_fn walk;
    void *holder;
    uint64_t due_ms; /* not before */
    size_t count;
    size_t bytes;
    struct record **places[JOURNAL_MOVE_MAX]; /* found by the present walk */
};

void vacate_init(struct vacate *vacate, struct journal *journal, vacate_walk_fn walk, void *holder);
/* Does some of what the journal wishes, if it wishes anything and it is time. */
void vacate_run(struct vacate *vacate, uint64_t now_ms);
/* When to come again; UINT64_MAX: nothing is wished now. */
uint64_t vacate_due_ms(const struct vacate *vacate);

#endif
