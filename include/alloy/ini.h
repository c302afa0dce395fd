/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ini.h - reads an INI file and tells section, key, value and line of each assignment.
 *
 * The one home of inih. What a key means is config.c's business.
 */
#ifndef ALLOY_INI_H
#define ALLOY_INI_H

#include "alloy/base.h"

/* Calls entry for each `key = value`; error for each line that is no INI, which costs only itself.
 */
struct ini_handler {
    void *arg;
    void (*entry)(void *arg, int line, const char *section, const char *key, const char *value);
    void (*error)(void *arg, int line, const char *message);
};

/* Returns 0, or -errno when the file cannot be read (then nothing was called). Any thread. */
MUST_CHECK int ini_read(const char *path, const struct ini_handler *handler);

#endif
