/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_verdict.h - what an answer of alloyd says about the events of a request (docs/ACK.md).
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_VERDICT_H
#define ALLOY_CTL_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl.h"

enum ctl_verdict_kind {
    CTL_VERDICT_IN,       /* all that is not listed is in ClickHouse */
    CTL_VERDICT_PENDING,  /* nobody knows yet, or ever */
    CTL_VERDICT_REJECTED, /* ClickHouse has rejected at least one */
    CTL_VERDICT_NONE,     /* the answer says nothing about events */
};

/* An event that ClickHouse has rejected, or alloyd has not taken. */
struct ctl_refusal {
    uint64_t event; /* its place in the request */
    bool duplicate; /* ClickHouse has rejected another event of the same id */
    int code;       /* ClickHouse's; 0: alloyd has not taken it */
    char message[CTL_LINE_MAX + 1];
};

struct ctl_verdict {
    enum ctl_verdict_kind kind;
    bool has_counts;
    uint64_t accepted, duplicates;
    uint64_t rejected; /* by ClickHouse, listed or not */
    uint64_t invalid;  /* not taken by alloyd, listed or not */
    struct ctl_refusal *refusals;
    size_t count;
};

/* Reads an answer to a lenient request with ack=clickhouse. The caller frees it with
 * ctl_verdict_free(), whatever its kind. */
void ctl_verdict_read(struct ctl_verdict *verdict, long status, struct slice body);
void ctl_verdict_free(struct ctl_verdict *verdict);

#endif
