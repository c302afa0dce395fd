/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sdnotify.c - tells systemd what alloyd is doing.
 *
 * Runs on: the main thread.
 */
#include "sdnotify.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "alloy/clock.h"

#define STOP_MARGIN_MS 15000     /* for what follows the drain */
#define READING_TIMEOUT_MS 60000 /* longest time for reading one segment */

int sdnotify_take_sockets(struct inherited *sockets, const struct config *config,
                          char error[INHERITED_ERROR_MAX])
{
    char **names = NULL;
    const int count = sd_listen_fds_with_names(1, &names);
    int err = 0;

    for (int i = 0; i < count; i++) {
        const int fd = SD_LISTEN_FDS_START + i;

        if (err == 0)
            err = inherited_add(sockets, fd, names[i], config, error);
        else
            close(fd);
        free(names[i]);
    }
    free(names);
    if (count < 0)
        snprintf(error, INHERITED_ERROR_MAX, "the given sockets (LISTEN_FDS) cannot be used: %s",
                 strerror(-count));
    return count < 0 ? count : err;
}

void sdnotify_ready(void)
{
    sd_notify(0, "READY=1\nSTATUS=serving");
}

void sdnotify_reloading(void)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reloading",
               (unsigned long long)(clock_mono_ns() / 1000));
}

void sdnotify_stopping(uint64_t drain_ms)
{
    sd_notifyf(0, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%llu",
               (unsigned long long)((drain_ms + STOP_MARGIN_MS) * 1000));
}

void sdnotify_reading(size_t segment, size_t segments)
{
    sd_notifyf(0,
               "STATUS=reading the journal of an earlier life: segment %zu of %zu\n"
               "EXTEND_TIMEOUT_USEC=%u",
               segment, segments, READING_TIMEOUT_MS * 1000);
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
