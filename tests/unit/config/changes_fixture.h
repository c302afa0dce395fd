/* SPDX-License-Identifier: Apache-2.0 */
/*
 * changes_fixture.h - what changes between two configurations.
 */
#ifndef CHANGES_FIXTURE_H
#define CHANGES_FIXTURE_H

#include <stdio.h>
#include <string.h>

#include "alloy/config.h"

#define CHANGES_MAX 1024

/* Appends "section.key " to the text arg, with '!' behind a key that takes a restart. */
static inline void note_change(void *arg, const char *key, bool restart)
{
    char *out = arg;
    size_t len = strlen(out);

    snprintf(out + len, CHANGES_MAX - len, "%s%s ", key, restart ? "!" : "");
}

/* Puts next in force, and takes it; returns what has changed, lent until the next call. */
static inline const char *take_over(struct config_ref *ref, struct config *next)
{
    static char changes[CHANGES_MAX];

    changes[0] = '\0';
    config_compare(config_current(ref), next, note_change, changes);
    config_publish(ref, next);
    return changes;
}

#endif
