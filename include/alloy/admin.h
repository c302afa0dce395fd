/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin.h - the admin port: /healthz, /readyz, /stats, /metrics, /history, the dashboard at
 * /, and POST /streams/NAME/bury; on evhttp in a thread of its own. The one home of jansson.
 */
#ifndef ALLOY_ADMIN_H
#define ALLOY_ADMIN_H

#include <stdint.h>

#include "alloy/front.h"
#include "alloy/setbacks.h"

struct admin;

struct admin_parts {
    struct front_parts front;
    struct setbacks *setbacks; /* NULL: nothing is known of ClickHouse */
    /* Has the events of a stream that ClickHouse refuses written to the dead letters. Returns 0, or
     * -ENOENT: there is no such stream. NULL: cannot be asked for. Called by the admin thread. */
    int64_t (*bury)(void *arg, const char *stream);
    void *bury_arg;
};

/* Returns 0 and an owned admin (admin_stop()), or -errno with a sentence in error. With
 * admin.listen empty: 0 and NULL. */
MUST_CHECK int admin_start(struct admin **admin, const struct admin_parts *parts,
                           char error[FRONT_ERROR_MAX]);
/* As front_keep_sockets(). NULL is fine. Main thread. */
MUST_CHECK int admin_keep_sockets(struct admin *admin, struct inherited *kept);
void admin_stop(struct admin *admin); /* NULL is fine */

#endif
