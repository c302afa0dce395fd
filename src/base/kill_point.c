/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_point.c - kills the process at a named place. See kill_point.h.
 *
 * Runs on: any thread.
 */
#include "alloy/kill_point.h"

#ifdef ALLOY_KILL_POINTS
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

void kill_point(const char *name)
{
    static atomic_ulong passed;
    const char *wanted = getenv("ALLOY_KILL_POINT");
    const size_t len = strlen(name);

    if (wanted == NULL || strncmp(wanted, name, len) != 0 || wanted[len] != ':')
        return;
    if (atomic_fetch_add(&passed, 1) + 1 == strtoul(wanted + len + 1, NULL, 10))
        raise(SIGKILL);
}
#else
/* C does not allow an empty translation unit. */
typedef int kill_point_unused;
#endif
