/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.h - what the system allows this process, held against what the configuration wants.
 */
#ifndef ALLOY_LIMITS_H
#define ALLOY_LIMITS_H

#include "alloy/config.h"

/* Raises the soft limit of open files as far as is needed, and warns where the hard one is too low
 * for server.max_connections. Main thread, at start. */
void limits_raise_files(const struct config *config);

#endif
