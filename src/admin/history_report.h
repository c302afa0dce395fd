/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history_report.h - what goes into the history, and what /history tells of it.
 */
#ifndef ALLOY_HISTORY_REPORT_H
#define ALLOY_HISTORY_REPORT_H

#include "exposition.h"
#include "history.h"

/* What a request to /history asks for. */
struct history_question {
    enum history_track_id track;
    size_t stream;  /* its index, or HISTORY_ALL */
    uint64_t after; /* only steps with a higher number */
};

/* Fills reading from the figures of this moment. Names are lent until the configuration changes.
 * Admin thread. */
void history_report_read(struct history_reading *reading, const struct exposition_view *view,
                         const struct front_parts *parts);

/* Reads a query ("step=1s&stream=events&after=17"; NULL: none). Returns NULL, or what is wrong with
 * it; *status is then the answer's. */
const char *history_report_ask(struct history_question *question, const char *query,
                               const struct config *config, int *status);

/* Appends the answer to out as JSON. Returns 0 or -ENOMEM. */
MUST_CHECK int history_report_write(const struct history *history,
                                    const struct history_question *question,
                                    const struct config *config, struct evbuffer *out);

#endif
