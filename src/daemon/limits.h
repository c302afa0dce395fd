/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - compares the limits of this process with what the configuration needs.
 */
#ifndef ALLOY_LIMITS_H
#define ALLOY_LIMITS_H

#include "alloy/config.h"

/* Raises the soft limit of open files as far as needed, and warns when the hard limit is too low
 * for server.max_connections. Main thread, at start. */
void limits_raise_files(const struct config *config);

#endif
