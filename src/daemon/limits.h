/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - compares the limits of this process with what the configuration needs.
 */
#ifndef ALLOY_LIMITS_H
#define ALLOY_LIMITS_H

#include "alloy/base.h"
#include "alloy/config.h"

/* Raises the soft limit of open files as far as needed, and warns when the hard limit is too low
 * for server.max_connections. Returns 0, or -EMFILE, logged, when not one client would fit. Main
 * thread, at start. */
MUST_CHECK int limits_raise_files(const struct config *config);

#endif
