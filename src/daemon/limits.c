/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limits.c - compares the limits of this process with what the configuration needs.
 *
 * Runs on: the main thread, at start. Owns: nothing.
 */
#define LOG_MODULE "limits"
#include "limits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "alloy/log.h"

/* The default of server.max_connections means "plenty". Nobody has asked for exactly that many, so
 * we warn only below this many. */
#define CONNECTIONS_DEFAULT 65536
#define CONNECTIONS_PLENTY 8192

/* Descriptors besides those of clients. */
#define FILES_FIXED 64   /* stdio, journal, L1, dead letters, admin clients */
#define FILES_A_FRONT 4  /* besides its listeners: epoll, eventfd, libevent's own */
#define FILES_A_WORKER 4 /* Redis, a new connection to it, eventfds */
#define FILES_A_STREAM 2 /* a probe of ClickHouse and one more idle connection */

static uint64_t limits_files_beside_clients(const struct config *config)
{
    return FILES_FIXED +
           config->server_threads * (FILES_A_FRONT + (uint64_t)config->server_address_count) +
           config->admin_address_count + config->worker_threads * FILES_A_WORKER +
           config->stream_count * FILES_A_STREAM + config->clickhouse_max_inflight;
}

void limits_raise_files(const struct config *config)
{
    const uint64_t wanted = config->server_max_connections;
    const uint64_t beside = limits_files_beside_clients(config);
    const uint64_t needed = wanted + beside;
    struct rlimit files;
    uint64_t before, fit;
    enum log_level level;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= needed)
        return;
    before = files.rlim_cur;
    files.rlim_cur = files.rlim_max < needed ? files.rlim_max : needed;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
        log_warn("limit of open files cannot be raised error=\"%s\"", strerror(errno));
        files.rlim_cur = before;
    }
    if (files.rlim_cur >= needed) {
        log_info("limit of open files raised from=%" PRIu64 " to=%" PRIu64, before, needed);
        return;
    }
    fit = files.rlim_cur > beside ? files.rlim_cur - beside : 0;
    level = wanted == CONNECTIONS_DEFAULT && fit >= CONNECTIONS_PLENTY ? LOG_LEVEL_INFO
                                                                       : LOG_LEVEL_WARN;
    log_write(level, LOG_MODULE,
              "too few open files allowed limit=%" PRIu64 " needed=%" PRIu64
              " connections_fit=%" PRIu64 " max_connections=%" PRIu64
              " action=\"raise LimitNOFILE or ulimit -n, or lower server.max_connections\"",
              (uint64_t)files.rlim_cur, needed, fit, wanted);
}
