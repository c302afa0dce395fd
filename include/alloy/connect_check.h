/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect_check.h - asks Redis and ClickHouse whether they are as the configuration needs them.
 *
 * Runs on: main thread; some seconds at most for each of the two.
 */
#ifndef ALLOY_CONNECT_CHECK_H
#define ALLOY_CONNECT_CHECK_H

#include <stddef.h>
#include <stdio.h>

#include "alloy/config.h"

/*
 * Writes each problem to out as "FILE:LINE: message", and what may stay though it is hardly meant
 * as "FILE:LINE: warning: message". Returns the number of problems. Leaves nothing behind.
 */
size_t connect_check(const struct config *config, FILE *out);

#endif
