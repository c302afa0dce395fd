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

void sdnotify_restarting(uint64_t drain_ms)
{
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=restarting\nEXTEND_TIMEOUT_USEC=%llu",
               (unsigned long long)(clock_mono_ns() / 1000),
               (unsigned long long)((drain_ms + STOP_MARGIN_MS) * 1000));
}

size_t sdnotify_store_max(void)
{
    /* Since version 254 systemd says it itself; to older ones our unit does. */
    const char *max = getenv("FDSTORE");

    return getenv("NOTIFY_SOCKET") == NULL || max == NULL ? 0 : strtoul(max, NULL, 10);
}

bool sdnotify_keep_sockets(const struct inherited *kept)
{
    size_t count = 0;

    for (size_t i = 0; i < kept->count; i++)
        count += !kept->sockets[i].given && kept->sockets[i].fd >= 0;
    if (count == 0 || count > sdnotify_store_max())
        return false;
    for (size_t i = 0; i < kept->count; i++) {
        const struct inherited_socket *one = &kept->sockets[i];
        char state[sizeof("FDSTORE=1\nFDNAME=") + INHERITED_NAME_MAX];

        if (one->given || one->fd < 0)
            continue;
        snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s", one->name);
        if (sd_pid_notify_with_fds(0, 0, state, &one->fd, 1) <= 0)
            return false;
    }
    return true;
}

void sdnotify_forget_sockets(void)
{
    if (sdnotify_store_max() == 0)
        return;
    for (int kind = 0; kind < INHERITED_KINDS; kind++)
        sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", inherited_kept_name((enum inherited_kind)kind));
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
