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

#include "alloy/front.h"
#include "alloy/log.h"

/* The default of server.max_connections means "plenty". Nobody has asked for exactly that many, so
 * we warn only below this many. */
#define CONNECTIONS_DEFAULT 65536
#define CONNECTIONS_PLENTY 8192

int limits_raise_files(const struct config *config)
{
    const uint64_t wanted = config->server_max_connections;
    const uint64_t beside = front_descriptor_reserve(config);
    const uint64_t needed = wanted + beside;
    struct rlimit files;
    uint64_t before, fit;
    enum log_level level;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= needed)
        return 0;
    before = files.rlim_cur;
    files.rlim_cur = files.rlim_max < needed ? files.rlim_max : needed;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0) {
        log_warn("limit of open files cannot be raised error=\"%s\"", strerror(errno));
        files.rlim_cur = before;
    }
    if (files.rlim_cur >= needed) {
        log_info("limit of open files raised from=%" PRIu64 " to=%" PRIu64, before, needed);
        return 0;
    }
    if (files.rlim_cur <= beside) {
        log_error("too few open files allowed limit=%" PRIu64 " needed_without_clients=%" PRIu64
                  " action=\"raise LimitNOFILE or ulimit -n\"",
                  (uint64_t)files.rlim_cur, beside);
        return -EMFILE;
    }
    fit = files.rlim_cur - beside;
    level = wanted == CONNECTIONS_DEFAULT && fit >= CONNECTIONS_PLENTY ? LOG_LEVEL_INFO
                                                                       : LOG_LEVEL_WARN;
    log_write(level, LOG_MODULE,
              "too few open files allowed limit=%" PRIu64 " needed=%" PRIu64
              " connections_fit=%" PRIu64 " max_connections=%" PRIu64
              " action=\"raise LimitNOFILE or ulimit -n, or lower server.max_connections\"",
              (uint64_t)files.rlim_cur, needed, fit, wanted);
    return 0;
}
