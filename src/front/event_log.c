/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_log.c - sends libevent's messages to our log, at a limited rate.
 *
 * By itself libevent writes to standard error without a bound: out of descriptors it wrote 870 MB
 * in seconds.
 *
 * Runs on: event_log_install() on the main thread; libevent calls back on any thread. Owns:
 * nothing.
 */
#define LOG_MODULE "libevent"
#include "alloy/event_log.h"

#include <inttypes.h>

#include <event2/event.h>

#include "alloy/base.h"
#include "alloy/clock.h"
#include "alloy/log.h"

#define INTERVAL_MS 10000

static void event_log_write(int severity, const char *text)
{
    static struct log_limit limit;
    uint64_t suppressed;

    if (severity == EVENT_LOG_DEBUG ||
        !log_limit_pass(&limit, clock_mono_ms(), INTERVAL_MS, &suppressed))
        return;
    if (severity == EVENT_LOG_MSG)
        log_info("libevent text=\"%s\" suppressed=%" PRIu64, text, suppressed);
    else
        log_warn("libevent text=\"%s\" suppressed=%" PRIu64, text, suppressed);
}

/* libevent has logged why, and cannot go on. */
static void event_log_die(int err)
{
    (void)err;
    ALLOY_UNREACHABLE("libevent cannot go on");
}

void event_log_install(void)
{
    event_set_log_callback(event_log_write);
    event_set_fatal_callback(event_log_die);
}
