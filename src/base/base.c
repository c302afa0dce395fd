/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.c - ends a process that has found a bug in itself.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/base.h"

#include "log_sink.h"

#define FLUSH_MS 1000

void base_abort(const char *what, const char *file, int line)
{
    char text[LOG_SINK_LINE_MAX];
    int len =
        snprintf(text, sizeof(text) - 1, "alloyd: assertion failed: %s (%s:%d)", what, file, line);

    /* Not with stdio: if the reader of standard error stalls, we would never reach abort(). */
    if (len > 0) {
        if ((size_t)len > sizeof(text) - 2)
            len = (int)sizeof(text) - 2;
        text[len] = '\n';
        log_sink_put(text, (size_t)len + 1);
    }
    log_sink_flush(FLUSH_MS);
    abort();
}
