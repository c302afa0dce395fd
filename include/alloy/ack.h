/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ack.h - what a request wants to know before it is answered: ?ack=none, disk or clickhouse, and
 * Prefer: wait=N (RFC 7240 section 4.3).
 *
 * Runs on: any thread; nothing is shared.
 */
#ifndef ALLOY_ACK_H
#define ALLOY_ACK_H

#include <stdint.h>

#include "alloy/admission.h"
#include "alloy/base.h"

#define ACK_WAIT_DEFAULT_S 10
#define ACK_WAIT_MAX_S 60

struct ack {
    enum admission_ack kind;
    uint32_t wait_s; /* CLICKHOUSE: 1 to ACK_WAIT_MAX_S */
};

/*
 * Reads the query and the value of Prefer, either of which may be empty. Prefer: wait=N alone asks
 * for clickhouse; where the query names another kind it is ignored, as is a Prefer that cannot be
 * read. Returns NULL, or what is wrong with the query in one constant sentence.
 */
const char *ack_read(struct slice query, struct slice prefer, struct ack *ack);

#endif
