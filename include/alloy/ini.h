/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ini.h - reads an INI file and passes on section, key, value and line of each assignment.
 *
 * The one home of inih. config.c knows what the keys mean.
 */
#ifndef ALLOY_INI_H
#define ALLOY_INI_H

#include <stdio.h>

#include "alloy/base.h"

#define INI_LINE_MAX 4000 /* bytes, without the end of the line */

/* The callbacks, called in the order of the lines. Texts are lent until a callback returns. */
struct ini_handler {
    void *arg;
    /* for each [section] line, even when no key follows; NULL: not wanted */
    void (*section)(void *arg, int line, const char *section);
    /* for each `key = value`; section is "" before the first [section] */
    void (*entry)(void *arg, int line, const char *section, const char *key, const char *value);
    /* for each line that is not valid INI. Only that line is skipped; after a broken [section] line
     * also the keys below it, since we do not know their section */
    void (*error)(void *arg, int line, const char *message);
};

/* The first byte of text that is one of stops and not in back-quotes; else its end. A key may hold
 * anything in back-quotes; a backslash there takes the next byte for itself. */
const char *ini_find_unquoted(const char *text, const char *stops);
/* Returns 0, or -errno when the file cannot be opened or read. Main thread: inih's options are
 * globals. */
MUST_CHECK int ini_read(const char *path, const struct ini_handler *handler);
/* The same for an open stream, which stays open. */
MUST_CHECK int ini_read_stream(FILE *stream, const struct ini_handler *handler);

#endif
