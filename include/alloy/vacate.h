/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vacate.h - moves the records that a thread holds out of segments that the journal vacates, a
 * little at a time.
 *
 * Runs on: the holder's thread.
 */
#ifndef ALLOY_VACATE_H
#define ALLOY_VACATE_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/journal.h"

/* Visits a place that holds a pointer to a record; vacate_run() may replace it by the copy's. */
typedef void (*vacate_visit_fn)(void *arg, struct record **place);
/* Calls visit for every place of the holder, except for records that are being read just now. */
typedef void (*vacate_walk_fn)(void *holder, vacate_visit_fn visit, void *arg);

struct vacate {
    struct journal *journal;
    vacate_walk_fn walk;
    void *holder;
    uint64_t due_ms; /* do nothing before */
    size_t count;
    size_t bytes;
    struct record **places[JOURNAL_MOVE_MAX]; /* found by the present walk */
};

void vacate_init(struct vacate *vacate, struct journal *journal, vacate_walk_fn walk, void *holder);
/* Moves some records, if the journal wants that and it is time. */
void vacate_run(struct vacate *vacate, uint64_t now_ms);
/* When to call vacate_run() again; UINT64_MAX: the journal wants nothing now. */
uint64_t vacate_due_ms(const struct vacate *vacate);

#endif
