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
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
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

static enum inherited_kind listener_kind(const struct listener_wish *wish, bool tls)
{
    if (wish->admin)
        return INHERITED_ADMIN;
    return tls ? INHERITED_TLS : INHERITED_EVENT;
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

/* The inherited sockets of one kind that are bound to one address. */
struct listener_group {
    struct inherited_socket *sockets[INHERITED_MAX];
    size_t count;
};

static bool listener_same_address(const struct inherited_socket *one,
                                  const struct sockaddr *address, socklen_t len)
{
    const struct sockaddr_storage *bound = &one->bound;
    const struct sockaddr_in *a = (const struct sockaddr_in *)(const void *)bound;
    const struct sockaddr_in *b = (const struct sockaddr_in *)(const void *)address;
    const struct sockaddr_in6 *c = (const struct sockaddr_in6 *)(const void *)bound;
    const struct sockaddr_in6 *d = (const struct sockaddr_in6 *)(const void *)address;

    if (bound->ss_family != address->sa_family)
        return false;
    if (bound->ss_family == AF_INET)
        return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
    if (bound->ss_family == AF_INET6)
        return c->sin6_port == d->sin6_port &&
               memcmp(&c->sin6_addr, &d->sin6_addr, sizeof(c->sin6_addr)) == 0 &&
               c->sin6_scope_id == d->sin6_scope_id;
    return one->len == len && memcmp(bound, address, len) == 0;
}

/* Adds a descriptor of one of the group's sockets for a thread. */
static int listener_add_inherited(struct listener_list *list, const struct listener_group *group,
                                  size_t number, unsigned thread_count)
{
    struct inherited_socket *one = group->sockets[number % group->count];
    struct listener *listener = listener_list_add(list);

    if (!listener)
        return -ENOMEM;
    /* A given socket stays ours until the end, whatever becomes of its listeners. */
    listener->copy = one->given || number >= group->count;
    listener->outlives = one->given;
    listener->fd = fcntl(one->fd, F_DUPFD_CLOEXEC, 3);
    if (listener->fd < 0)
        return -errno;
    listener->thread = (unsigned)(number % thread_count);
    listener->tls = one->kind == INHERITED_TLS;
    listener->unlink = !one->given && one->bound.ss_family == AF_UNIX && !listener->copy;
    listener->shared = group->count < thread_count;
    inherited_format_address((const struct sockaddr *)&one->bound, one->len, listener->name);
    return 0;
}

/* Takes the group's sockets: each is served, and each thread has one to serve. */
static int listener_take_group(struct listener_list *list, const struct listener_group *group,
                               unsigned thread_count)
{
    const size_t count = group->count > thread_count ? group->count : thread_count;
    const struct inherited_socket *first = group->sockets[0];
    int err = 0;

    for (size_t i = 0; i < count && err == 0; i++)
        err = listener_add_inherited(list, group, i, thread_count);
    if (err != 0)
        return err;
    log_info("listening address=\"%s\" socket=%s%s", list->items[list->count - 1].name,
             first->given ? "given" : "kept", first->kind == INHERITED_TLS ? " tls=yes" : "");
    for (size_t i = 0; i < group->count; i++)
        if (!group->sockets[i]->given) {
            close(group->sockets[i]->fd);
            group->sockets[i]->fd = -1;
        }
    return 0;
}

/* What to look for among the inherited sockets. */
struct listener_place {
    enum inherited_kind kind;
    bool given;
    const struct sockaddr *address; /* that it is bound to */
    socklen_t len;
};

static bool listener_is_at(const struct inherited_socket *one, const struct listener_place *place)
{
    return one->fd >= 0 && one->kind == place->kind && one->given == place->given &&
           listener_same_address(one, place->address, place->len);
}

/* Takes the inherited sockets of this place. Returns how many there were, or -errno. */
static int listener_take(struct listener_list *list, const struct listener_wish *wish,
                         const struct listener_place *place)
{
    struct listener_group group = {.count = 0};
    int err;

    for (size_t i = 0; wish->inherited && i < wish->inherited->count; i++)
        if (listener_is_at(&wish->inherited->sockets[i], place))
            group.sockets[group.count++] = &wish->inherited->sockets[i];
    if (group.count == 0)
        return 0;
    err = listener_take_group(list, &group, wish->thread_count);
    return err < 0 ? err : (int)group.count;
}

/* Takes all given sockets of a kind. */
static int listener_take_given(struct listener_list *list, const struct listener_wish *wish,
                               enum inherited_kind kind)
{
    for (size_t i = 0; wish->inherited && i < wish->inherited->count; i++) {
        const struct inherited_socket *one = &wish->inherited->sockets[i];
        const struct listener_place place = {.kind = kind,
                                             .given = true,
                                             .address = (const struct sockaddr *)&one->bound,
                                             .len = one->len};
        bool again = false; /* taken with an earlier one that is bound to the same address */
        int err;

        for (size_t j = 0; j < i; j++)
            again = again || listener_is_at(&wish->inherited->sockets[j], &place);
        if (!listener_is_at(one, &place) || again)
            continue;
        err = listener_take(list, wish, &place);
        if (err < 0)
            return err;
    }
    return 0;
}

/* Opens one resolved address for each thread. Returns 0 or -errno. */
static int listener_open_resolved(struct listener_list *list, const struct addrinfo *info, bool tls,
                                  const struct listener_wish *wish)
{
    const unsigned thread_count = wish->thread_count;
    struct sockaddr_storage bound;
    struct sockaddr *address = (struct sockaddr *)(void *)&bound;
    socklen_t len = info->ai_addrlen;
    char name[LISTENER_NAME_MAX] = "";
    int taken;

    memcpy(&bound, info->ai_addr, len);
    taken = listener_take(
        list, wish,
        &(struct listener_place){.kind = listener_kind(wish, tls), .address = address, .len = len});
    if (taken != 0)
        return taken < 0 ? taken : 0;
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
        inherited_format_address(address, len, name);
        memcpy(listener->name, name, sizeof(name));
    }
    log_info("listening address=%s%s", name, tls ? " tls=yes" : "");
    return 0;
}

static int listener_open_tcp_all(struct listener_list *list, const struct config_address *address,
                                 const struct listener_wish *wish, char error[LISTENER_ERROR_MAX])
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
        int one = listener_open_resolved(list, info, address->tls, wish);

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

/* Nobody reaches a kept socket whose file has gone: with its folder, as RuntimeDirectory= of
 * systemd goes between two lives, or by somebody's hand. Then we make another one. */
static bool listener_has_file(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int listener_open_unix(struct listener_list *list, const struct config_address *configured,
                              const struct listener_wish *wish, char error[LISTENER_ERROR_MAX])
{
    const char *path = configured->host;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct listener *listener;
    int fd = -ENAMETOOLONG;

    if (strlen(path) < sizeof(address.sun_path)) {
        const socklen_t len =
            (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
        int taken;

        memcpy(address.sun_path, path, strlen(path) + 1);
        taken = !listener_has_file(path)
                    ? 0
                    : listener_take(list, wish,
                                    &(struct listener_place){
                                        .kind = listener_kind(wish, configured->tls),
                                        .address = (const struct sockaddr *)(const void *)&address,
                                        .len = len});
        if (taken > 0)
            return 0;
        fd = taken < 0 ? taken : listener_bind_unix(&address);
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

/* Opens the configured addresses whose place no given sockets take. */
static int listener_open_configured(struct listener_list *list, const struct listener_wish *wish,
                                    char error[LISTENER_ERROR_MAX])
{
    int err = 0;

    for (size_t i = 0; i < wish->address_count && err == 0; i++) {
        const struct config_address *address = &wish->addresses[i];

        if (inherited_replaces(wish->inherited, listener_kind(wish, address->tls)))
            continue;
        err = address->kind == CONFIG_ADDRESS_UNIX
                  ? listener_open_unix(list, address, wish, error)
                  : listener_open_tcp_all(list, address, wish, error);
    }
    return err;
}

int listener_open_all(struct listener_list *list, const struct listener_wish *wish,
                      char error[LISTENER_ERROR_MAX])
{
    int err = 0;

    *list = (struct listener_list){0};
    for (int kind = 0; kind < INHERITED_KINDS && err == 0; kind++)
        if ((kind == INHERITED_ADMIN) == wish->admin)
            err = listener_take_given(list, wish, (enum inherited_kind)kind);
    if (err != 0)
        snprintf(error, LISTENER_ERROR_MAX, "cannot listen on a given socket: %s", strerror(-err));
    else
        err = listener_open_configured(list, wish, error);
    if (err != 0)
        listener_close_all(list);
    return err;
}

int listener_keep(struct listener_list *list, bool admin, struct inherited *kept)
{
    const struct listener_wish wish = {.admin = admin};

    for (size_t i = 0; i < list->count; i++) {
        struct listener *listener = &list->items[i];
        int err;

        listener->outlives = true;
        if (listener->copy || listener->fd < 0)
            continue;
        err = inherited_keep(kept, listener->fd, listener_kind(&wish, listener->tls));
        if (err != 0)
            return err;
        listener->unlink = false;
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
