/* SPDX-License-Identifier: Apache-2.0 */
/*
 * misfit.h - names what came in place of JSON, so that a client's owner knows what to change.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_MISFIT_H
#define ALLOY_MISFIT_H

#include "alloy/base.h"

/* A decoded body is at fault before its first event ends. Returns one constant sentence for the
 * client that says what it is, or NULL: it is broken JSON, or nothing that we know. content_type
 * may be empty. */
const char *misfit_name(struct slice body, struct slice content_type);

#endif
