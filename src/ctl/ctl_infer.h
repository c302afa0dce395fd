/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_infer.h - a table for sample events: a type for each column, and the order of the rows.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_INFER_H
#define ALLOY_CTL_INFER_H

#include "ctl_sample.h"

#define CTL_INFER_TYPE_MAX 96
#define CTL_INFER_WHY_MAX 200

struct ctl_inferred {
    const struct ctl_column *column;
    char type[CTL_INFER_TYPE_MAX];
    char why[CTL_INFER_WHY_MAX]; /* half a sentence */
    bool plain;                  /* may stand in ORDER BY: a scalar that is never null */
    bool few;                    /* LowCardinality */
    bool time;                   /* DateTime64 */
};

struct ctl_table_plan {
    struct ctl_inferred *columns; /* one for each column of the sample; owned */
    size_t count;
    /* What rows are ordered by, and which names an event; NULL: none. */
    const struct ctl_inferred *few, *time, *id;
    bool knows_json; /* the server has the type JSON */
};

/* "25.3", "26.7.2.1": whether that version has the type JSON. */
bool ctl_infer_has_json(const char *version);
/* Fills plan for a sample. id: the field that names an event; NULL: chosen. False: out of memory.
 */
bool ctl_infer(const struct ctl_sample *sample, const char *id, bool knows_json,
               struct ctl_table_plan *plan);
void ctl_infer_fini(struct ctl_table_plan *plan);

#endif
