/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_json.h - what commands of alloyctl share for --json, beside jansson itself.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_JSON_H
#define ALLOY_CTL_JSON_H

#include <stdint.h>

#include <jansson.h>

#include "alloy/base.h"

/* Writes a document and a newline. Takes document; NULL means that there was no memory for it
 * (reported). Returns the exit status. */
int ctl_print_json(json_t *document, FILE *out);

/* Any text, such as a path, as a JSON string: what is not UTF-8 in it becomes U+FFFD. Owned. */
json_t *ctl_json_text(const char *text);
/* What stands between the quotes of a JSON string, still escaped. Owned. */
json_t *ctl_json_escaped(struct slice escaped);
json_t *ctl_json_number(uint64_t number);
/* A time as ISO 8601 in UTC; 0: null. Owned. */
json_t *ctl_json_time(uint64_t ms);

#endif
