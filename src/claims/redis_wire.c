/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_wire.c - bytes to a connection's socket, with a deadline, and the words for what went
 * wrong.
 *
 * We wait with poll(), since only that bounds a whole exchange: a socket's own time-outs bound each
 * read.
 *
 * Runs on: the thread that owns the link. Owns: nothing.
 */
#include "redis_link_private.h"

#include <hiredis/hiredis.h>

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "alloy/clock.h"

void redis_wire_set_reason(struct redis_link *link, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(link->reason, sizeof(link->reason), format, args);
    va_end(args);
    /* Some of it comes from Redis: it must stay one quoted value in the log. */
    for (char *c = link->reason; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ' || *c == 0x7f)
            *c = '\'';
    }
}

/* Waits until the socket is ready for events; 0, -ETIMEDOUT or -errno. */
int redis_wire_wait(struct redis_link *link, short events, uint64_t deadline_ns)
{
    struct pollfd poll_fd = {.fd = link->context->fd, .events = events};
    uint64_t now_ns = clock_mono_ns();
    int n;

    if (now_ns >= deadline_ns) {
        redis_wire_set_reason(link, "timed out");
        return -ETIMEDOUT;
    }
    n = poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / CLOCK_NS_PER_MS) + 1);
    if (n < 0 && errno != EINTR) {
        int err = -errno;

        redis_wire_set_reason(link, "poll: %s", strerror(-err));
        return err;
    }
    return 0; /* the next turn of the loop sees a time-out */
}

int redis_wire_push(struct redis_link *link, const char *data, size_t len, size_t *sent)
{
    while (*sent < len) {
        ssize_t n = send(link->context->fd, data + *sent, len - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        int err = n < 0 ? -errno : 0;

        if (n >= 0) {
            *sent += (size_t)n;
            continue;
        }
        if (err == -EINTR)
            continue;
        if (err != -EAGAIN)
            redis_wire_set_reason(link, "send: %s", strerror(-err));
        return err;
    }
    return 0;
}

void redis_link_wait(struct redis_link *const *links, size_t n, uint64_t deadline_ns)
{
    struct pollfd fds[REDIS_LINK_WAIT_MAX];
    const uint64_t now_ns = clock_mono_ns();

    if (now_ns >= deadline_ns)
        return;
    ALLOY_ASSERT(n <= ARRAY_LEN(fds));
    for (size_t i = 0; i < n; i++)
        fds[i] = (struct pollfd){.fd = links[i]->context->fd,
                                 .events = (short)(links[i]->unsent ? POLLIN | POLLOUT : POLLIN)};
    /* An error comes up again at the next push or pull. */
    (void)poll(fds, n, (int)((deadline_ns - now_ns) / CLOCK_NS_PER_MS) + 1);
}

struct redis_host redis_wire_target(struct redis_link *link)
{
    if (link->aim_host[0] == '\0')
        return link->url.hosts[0];
    return (struct redis_host){link->aim_host, link->aim_port};
}

void redis_wire_print_host(const struct redis_host *host, char *out, size_t size)
{
    snprintf(out, size, strchr(host->name, ':') != NULL ? "[%s]:%d" : "%s:%d", host->name,
             host->port);
}

void redis_wire_name(struct redis_link *link)
{
    const struct redis_host target = redis_wire_target(link);

    if (link->url.path != NULL)
        snprintf(link->name, sizeof(link->name), "unix:%s", link->url.path);
    else if (link->url.master != NULL)
        snprintf(link->name, sizeof(link->name), "master '%.100s'", link->url.master);
    else
        redis_wire_print_host(&target, link->name, sizeof(link->name));
}
