/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lookout.h - what the main thread looks at while alloyd serves, and tells in log and /readyz.
 *
 * Runs on: the main thread.
 */
#ifndef ALLOY_LOOKOUT_H
#define ALLOY_LOOKOUT_H

#include <stddef.h>
#include <stdint.h>

#include "alloy/config.h"
#include "alloy/health.h"
#include "alloy/journal.h"
#include "alloy/ring.h"
#include "alloy/spell.h"

enum lookout_certificate {
    LOOKOUT_CERTIFICATE_GOOD,
    LOOKOUT_CERTIFICATE_EARLY,
    LOOKOUT_CERTIFICATE_ENDS, /* soon */
    LOOKOUT_CERTIFICATE_EXPIRED,
};

struct lookout {
    /* borrowed */
    const struct config_ref *config;
    struct health *health;
    struct journal *journal;
    struct ring *ring;
    /* its own; all zero at the beginning */
    const struct tls *certificate; /* that was looked at last, and what was found */
    enum lookout_certificate certificate_state;
    struct spell full; /* the ring */
};

/* Writes one line about the certificate in use, if there is one. */
void lookout_log_certificate(const struct config *config);

/* Tells of what has begun or ended since the last look: a certificate that clients do not believe,
 * events that wait though their stream was removed, a ring without room. */
void lookout_look(struct lookout *lookout);

/* Returns how many threads hang, as pulse_look() does, and tells of them. */
size_t lookout_count_hanging(struct lookout *lookout, uint64_t now_ms, uint64_t bound_ms);

#endif
