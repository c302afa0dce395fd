/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_hint.h - what somebody may have meant: environment variables, misspelt words, and quotes
 * and comments that are none.
 */
#ifndef ALLOY_CONFIG_HINT_H
#define ALLOY_CONFIG_HINT_H

#include "config_loader.h"

#define CONFIG_HINT_MAX 200

/* The value with each ${NAME} and ${NAME:-default} replaced, and $${ by ${; owned. NULL: there is a
 * problem, which has been reported, or no memory. */
char *config_hint_expand(struct config_loader *loader, int place, const char *value);

/* What is wrong with a value that holds quotes around it, or a comment with #; NULL: nothing. */
const char *config_hint_literal(const char *key, const char *value);

/* Write to out, and return, how to go on behind "unknown key X in [SECTION]", "in [stream.NAME]"
 * and "unknown section [X]": nothing, or "; did you mean ...?". */
const char *config_hint_key(const char *section, const char *key, char out[CONFIG_HINT_MAX]);
const char *config_hint_stream_key(const char *key, char out[CONFIG_HINT_MAX]);
const char *config_hint_section(const char *section, char out[CONFIG_HINT_MAX]);

#endif
