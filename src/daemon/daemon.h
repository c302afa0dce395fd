/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.h - the life of alloyd: starts in order, serves, reloads on HUP, begins anew on USR2,
 * drains on TERM or INT, stops.
 */
#ifndef ALLOY_DAEMON_H
#define ALLOY_DAEMON_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"
#include "alloy/config.h"

/* Where a reload reads the configuration again. Borrowed. */
struct daemon_options {
    const char *config_path;
    const char *const *overrides;
    size_t override_count;
    size_t cpu_count;
    char *const *argv; /* for the next life */
    bool adopt;        /* only bring the journal's events to ClickHouse, and end: no ports */
};

/* Takes config. Runs until drained; returns the exit status of the process: 0 or 1. Main thread. */
int daemon_run(struct config *config, const struct daemon_options *options);

#endif
