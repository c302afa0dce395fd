/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recall.h - asks ClickHouse which of some records' ids it has rows of.
 *
 * Runs on: the thread that owns it.
 */
#ifndef ALLOY_RECALL_H
#define ALLOY_RECALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/segment.h"

#define RECALL_MAX 1000 /* records of a question */
#define RECALL_WHY_MAX 200

enum recall_answer {
    RECALL_TOLD,   /* there says which */
    RECALL_AWAY,   /* nobody answers, or not well: ask again */
    RECALL_CANNOT, /* it cannot be told of this table; why says why */
};

struct recall_question {
    const struct config *config;
    struct record *const *records; /* of one stream */
    size_t n;                      /* at most RECALL_MAX */
    uint64_t from_ms;              /* look at parts that were written since; real time; 0: at all */
    uint64_t timeout_ms;           /* of an exchange */
};

/*
 * there[i] is about records[i]. Parts that are a little older than from_ms are looked at too, since
 * the server's clock is another. Where there are shards each id is asked for in its own, and of
 * replicas all that answer. Blocks for at most timeout_ms for each exchange: two for each endpoint,
 * and one more for each MiB of events.
 */
enum recall_answer recall_ask(const struct recall_question *question, bool *there,
                              char why[RECALL_WHY_MAX]);

#endif
