/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readiness.h - all reasons that /readyz lists: what the modules have raised (health.h), and what
 * ring and journal are asked for.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_READINESS_H
#define ALLOY_READINESS_H

#include "alloy/front.h"
#include "alloy/health.h"

/* Calls visit for each reason. Ready means that none of them is blocking: an event would be
 * accepted now. */
void readiness_visit(const struct front_parts *parts, health_visit_fn visit, void *arg);

#endif
