/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.c - opens listening sockets for the configured addresses.
 *
 * With SO_REUSEPORT two daemons would silently share a port, and each would get half of the events.
 * So we first bind each port without it, which fails when anybody else listens there, and then
 * again with it.
 *
 * Runs on: the main thread.
 * Owns: the sockets of a list and the files of unix sockets.
 */
#include "alloy/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define LOG_MODULE "listener"
#include "alloy/log.h"

#define BACKLOG 4096
#define SOCKET_FLAGS (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)

/* Returns the new last element, with fd -1; NULL: out of memory. */
static struct listener *listener_list_add(struct listener_list *list)
{
    struct listener *items = reallocarray(list->items, list->count + 1, sizeof(struct listener));

    if (!items)
        return NULL;
    list->items = items;
    items[list->count] = (struct listener){.fd = -1};
    return &items[list->count++];
}

/* "127.0.0.1:8080" or "[::1]:8080". */
static void listener_format_name(const struct sockaddr *address, socklen_t len,
                                 char name[LISTENER_NAME_MAX])
{
    char host[64];
    char port[16];
    bool v6 = address->sa_family == AF_INET6;

    if (getnameinfo(address, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(name, LISTENER_NAME_MAX, "?");
        return;
    }
    snprintf(name, LISTENER_NAME_MAX, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

static bool listener_port_is_zero(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET6)
        return ((const struct sockaddr_in6 *)(const void *)address)->sin6_port == 0;
    return ((const struct sockaddr_in *)(const void *)address)->sin_port == 0;
}

/* Returns a listening socket or -errno. */
static int listener_open_tcp(const struct sockaddr *address, socklen_t len, bool reuse_port)
{
    int one = 1;
    int err;
    int fd = socket(address->sa_family, SOCKET_FLAGS, 0);

    if (fd < 0)
        return -errno;
    /* Accepted sockets inherit TCP_NODELAY, which saves a call for each. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0 ||
        (reuse_port && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) != 0) ||
        (address->sa_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) != 0) ||
        bind(fd, address, len) != 0 || listen(fd, BACKLOG) != 0) {
        err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

/* Opens one resolved address for each thread. Returns 0 or -errno. */
static int listener_open_resolved(struct listener_list *list, const struct addrinfo *info, bool tls,
                                  unsigned thread_count)
{
    struct sockaddr_storage bound;
    struct sockaddr *address = (struct sockaddr *)(void *)&bound;
    socklen_t len = info->ai_addrlen;
    char name[LISTENER_NAME_MAX] = "";

    memcpy(&bound, info->ai_addr, len);
    if (!listener_port_is_zero(address)) {
        int probe = listener_open_tcp(address, len, false);

        if (probe < 0)
            return probe;
        close(probe);
    }
    for (unsigned i = 0; i < thread_count; i++) {
        struct listener *listener;
        int fd = listener_open_tcp(address, len, true);

        if (fd < 0)
            return fd;
        listener = listener_list_add(list);
        if (!listener) {
            close(fd);
            return -ENOMEM;
        }
        listener->fd = fd;
        listener->thread = i;
        listener->tls = tls;
        /* With port 0 the first socket chooses, and the others follow. */
        len = sizeof(bound);
        if (getsockname(fd, address, &len) != 0)
            return -errno;
        listener_format_name(address, len, name);
        memcpy(listener->name, name, sizeof(name));
    }
    log_info("listening address=%s%s", name, tls ? " tls=yes" : "");
    return 0;
}

static int listener_open_tcp_all(struct listener_list *list, const struct config_address *address,
                                 unsigned thread_count, char error[LISTENER_ERROR_MAX])
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *infos;
    bool opened = false;
    int err = 0;
    int code = getaddrinfo(address->host, address->port, &hints, &infos);

    if (code != 0) {
        snprintf(error, LISTENER_ERROR_MAX, "cannot listen on %s:%s: %s", address->host,
                 address->port, gai_strerror(code));
        return -EADDRNOTAVAIL;
    }
    for (const struct addrinfo *info = infos; info; info = info->ai_next) {
        int one = listener_open_resolved(list, info, address->tls, thread_count);

        if (one == 0) {
            opened = true;
        } else if (one != -EADDRNOTAVAIL && one != -EAFNOSUPPORT) {
            err = one;
            opened = false;
            break;
        } else {
            /* Not fatal: localhost resolves to ::1 too, even when IPv6 is off. */
            err = one;
        }
    }
    freeaddrinfo(infos);
    if (opened)
        return 0;
    snprintf(error, LISTENER_ERROR_MAX, "cannot listen on %s:%s: %s", address->host, address->port,
             strerror(-err));
    return err;
}

/* Removes the socket file of a daemon that is gone. Returns 0, or -errno when somebody listens on
 * it or the file is not a socket. */
static int listener_remove_stale(const struct sockaddr_un *address)
{
    struct stat st;
    int err = 0;
    int fd;

    if (lstat(address->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    fd = socket(AF_UNIX, SOCKET_FLAGS, 0);
    if (fd < 0)
        return -errno;
    /* EAGAIN: somebody listens, and the queue is full. */
    if (connect(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) == 0 ||
        errno == EAGAIN)
        err = -EADDRINUSE;
    else if (errno != ECONNREFUSED && errno != ENOENT)
        err = -errno;
    close(fd);
    if (err == 0 && unlink(address->sun_path) != 0 && errno != ENOENT)
        err = -errno;
    return err;
}

static int listener_bind_unix(const struct sockaddr_un *address)
{
    int err = listener_remove_stale(address);
    int fd;

    if (err != 0)
        return err;
    fd = socket(AF_UNIX, SOCKET_FLAGS, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)(const void *)address, sizeof(*address)) != 0) {
        err = -errno;
        close(fd);
        return err;
    }
    if (listen(fd, BACKLOG) != 0) {
        err = -errno;
        close(fd);
        unlink(address->sun_path);
        return err;
    }
    return fd;
}

static int listener_open_unix(struct listener_list *list, const struct config_address *configured,
                              char error[LISTENER_ERROR_MAX])
{
    const char *path = configured->host;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct listener *listener;
    int fd = -ENAMETOOLONG;

    if (strlen(path) < sizeof(address.sun_path)) {
        memcpy(address.sun_path, path, strlen(path) + 1);
        fd = listener_bind_unix(&address);
    }
    if (fd < 0) {
        snprintf(error, LISTENER_ERROR_MAX, "cannot listen on unix:%s: %s", path, strerror(-fd));
        return fd;
    }
    listener = listener_list_add(list);
    if (!listener) {
        close(fd);
        unlink(path);
        snprintf(error, LISTENER_ERROR_MAX, "cannot listen on unix:%s: out of memory", path);
        return -ENOMEM;
    }
    listener->fd = fd;
    listener->tls = configured->tls;
    listener->unlink = true;
    snprintf(listener->name, sizeof(listener->name), "unix:%s", path);
    log_info("listening address=\"%s\"%s", listener->name, listener->tls ? " tls=yes" : "");
    return 0;
}

int listener_open_all(struct listener_list *list, const struct config_address *addresses,
                      size_t count, unsigned thread_count, char error[LISTENER_ERROR_MAX])
{
    *list = (struct listener_list){0};
    for (size_t i = 0; i < count; i++) {
        int err = addresses[i].kind == CONFIG_ADDRESS_UNIX
                      ? listener_open_unix(list, &addresses[i], error)
                      : listener_open_tcp_all(list, &addresses[i], thread_count, error);

        if (err != 0) {
            listener_close_all(list);
            return err;
        }
    }
    return 0;
}

void listener_close_all(struct listener_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct listener *listener = &list->items[i];

        if (listener->fd >= 0)
            close(listener->fd);
        if (listener->unlink)
            unlink(listener->name + strlen("unix:"));
    }
    free(list->items);
    *list = (struct listener_list){0};
}
