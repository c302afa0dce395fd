/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdnotify.c - tells systemd what alloyd is doing.
 *
 * Runs on: the main thread.
 */
#include "alloy/sdnotify.h"

#include <systemd/sd-daemon.h>

#include "alloy/clock.h"

void sdnotify_ready(void)
{
    sd_notify(0, "READY=1\nSTATUS=serving");
}

void sdnotify_reloading(void)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading",
               (unsigned long long)(clock_mono_ns() / 1000));
}

void sdnotify_stopping(void)
{
    sd_notify(0, "STOPPING=1\nSTATUS=draining");
}

uint64_t sdnotify_watchdog_ms(void)
{
    uint64_t interval_us = 0;

    /* Half the interval that systemd allows, as sd_watchdog_enabled(3) advises. */
    return sd_watchdog_enabled(0, &interval_us) > 0 ? interval_us / 2000 : 0;
}

void sdnotify_watchdog(void)
{
    sd_notify(0, "WATCHDOG=1");
}
