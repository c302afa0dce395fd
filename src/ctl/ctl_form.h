/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_form.h - what a text is: a time, a UUID, an address. Pure.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_CTL_FORM_H
#define ALLOY_CTL_FORM_H

#include <stdbool.h>

#include "alloy/base.h"

/* The forms (CTL_FORM_*) that text has, and that ClickHouse gives back as the same value.
 * *fraction: digits of a second. */
unsigned ctl_form(const char *text, unsigned *fraction);
/* Whether ClickHouse may take a text inside a column of type JSON for a time, and write it in
 * another form. Errs on the side of yes. */
bool ctl_form_is_time_like(struct slice text);

#endif
