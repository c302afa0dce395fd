/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ack.h - what a client wants to be sure of before we answer: ?ack=none, disk or clickhouse, and
 * Prefer: wait=N and handling=lenient (RFC 7240 sections 4.3 and 4.4).
 *
 * Runs on: any thread; nothing is shared.
 */
#ifndef ALLOY_ACK_H
#define ALLOY_ACK_H

#include <stdbool.h>
#include <stdint.h>

#include "alloy/admission.h"
#include "alloy/base.h"

#define ACK_WAIT_DEFAULT_S 10
#define ACK_WAIT_MAX_S 60

struct ack {
    enum admission_ack kind;
    uint32_t wait_s; /* CLICKHOUSE: 1 to ACK_WAIT_MAX_S */
    bool lenient;    /* Prefer: handling=lenient: good events are taken though others are bad */
    bool verbose;    /* ?verbose=1: success is answered with answer_verbose */
};

/*
 * Reads the query and the value of Prefer; either may be empty. Prefer: wait=N alone asks for
 * clickhouse. Where the query names another kind, Prefer is ignored; so is a Prefer that we cannot
 * parse. Returns NULL, or one constant sentence that says what is wrong with the query.
 */
const char *ack_read(struct slice query, struct slice prefer, struct ack *ack);

#endif
