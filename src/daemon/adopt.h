/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adopt.h - brings the events of another alloyd's journal to ClickHouse, and ends.
 */
#ifndef ALLOY_ADOPT_H
#define ALLOY_ADOPT_H

#include "alloy/metrics.h"
#include "drain.h"

/* Waits until nothing of the journal is left, or TERM or INT; tells the progress in the log and the
 * result as JSON on standard output. parts has no front. Returns the exit status of the process: 0
 * when nothing is left. Main thread. */
int adopt_run(const struct drain_parts *parts, struct metrics *metrics);

#endif
