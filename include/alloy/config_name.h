/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_name.h - names of ClickHouse's databases, tables and columns, as somebody writes them.
 */
#ifndef ALLOY_CONFIG_NAME_H
#define ALLOY_CONFIG_NAME_H

#include "alloy/config.h"

/* What ends a bare name where there is one alone: all that is no letter, digit, _ or -, so that a
 * list or an expression is no name. */
#define CONFIG_NAME_STOPS "!$%&()*+,./:;<=>?@[]^{|}~ \t"

/*
 * Reads the name at text: in back-quotes or double quotes with ClickHouse's escapes, or bare up to
 * a byte of stops or the end. Returns the place behind it and its blanks; NULL: it is no name, and
 * *why says what is wrong.
 */
const char *config_name_read(const char *text, const char *stops, char out[CONFIG_NAME_MAX + 1],
                             const char **why);
/* Appends the name to out as config_name_read() takes it, bare where it can be: one line of
 * printable UTF-8 without = and ;, so that it may stand in a configuration, a log, and SQL. out has
 * room for CONFIG_NAME_TEXT_MAX more bytes. */
void config_name_append(char *out, const char *name);

#endif
