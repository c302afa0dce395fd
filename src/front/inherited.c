/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherited.c - the listening sockets that the process got from its parent, or from its life
 * before.
 *
 * Runs on: the main thread.
 * Owns: the sockets that are not taken, and those that are given until the end.
 */
#include "alloy/inherited.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define LOG_MODULE "listener"
#include "alloy/log.h"

static const char *const kind_names[INHERITED_KINDS] = {
    [INHERITED_EVENT] = "event", [INHERITED_TLS] = "tls", [INHERITED_ADMIN] = "admin"};
static const char *const kept_names[INHERITED_KINDS] = {[INHERITED_EVENT] = "kept-event",
                                                        [INHERITED_TLS] = "kept-tls",
                                                        [INHERITED_ADMIN] = "kept-admin"};

void inherited_format_address(const struct sockaddr *address, socklen_t len,
                              char name[INHERITED_ADDRESS_MAX])
{
    char host[64];
    char port[16];
    bool v6 = address->sa_family == AF_INET6;

    if (address->sa_family == AF_UNIX) {
        const struct sockaddr_un *path = (const struct sockaddr_un *)(const void *)address;

        /* A path that fills its field has no end mark. */
        snprintf(name, INHERITED_ADDRESS_MAX, "unix:%.*s", (int)sizeof(path->sun_path),
                 len > offsetof(struct sockaddr_un, sun_path) ? path->sun_path : "");
        return;
    }
    if (getnameinfo(address, len, host, sizeof(host), port, sizeof(port),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        snprintf(name, INHERITED_ADDRESS_MAX, "?");
        return;
    }
    snprintf(name, INHERITED_ADDRESS_MAX, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* "event", "event-v6", "event2", but not "eventually". */
static bool inherited_is_named(const char *name, const char *word)
{
    size_t len = strlen(word);

    return strncmp(name, word, len) == 0 && !isalpha((unsigned char)name[len]);
}

static unsigned inherited_port(const struct sockaddr_storage *bound)
{
    if (bound->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)(const void *)bound)->sin_port);
    if (bound->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)(const void *)bound)->sin6_port);
    return 0;
}

static bool inherited_is_loopback(const struct sockaddr_storage *bound)
{
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)bound)->sin6_addr;

    if (bound->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)bound)->sin_addr.s_addr) >> 24 ==
               127;
    if (bound->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
    return bound->ss_family == AF_UNIX;
}

static bool inherited_fits(const struct inherited_socket *one, const struct config_address *address)
{
    const struct sockaddr_un *path = (const struct sockaddr_un *)(const void *)&one->bound;

    if (address->kind == CONFIG_ADDRESS_UNIX)
        return one->bound.ss_family == AF_UNIX &&
               strncmp(path->sun_path, address->host, sizeof(path->sun_path)) == 0;
    return inherited_port(&one->bound) != 0 &&
           strtoul(address->port, NULL, 10) == inherited_port(&one->bound);
}

static bool inherited_find_kept(struct inherited_socket *one)
{
    for (int kind = 0; kind < INHERITED_KINDS; kind++)
        if (strcmp(one->name, kept_names[kind]) == 0) {
            one->kind = (enum inherited_kind)kind;
            return true;
        }
    return false;
}

static enum inherited_kind inherited_find_kind(const struct inherited_socket *one,
                                               const struct config *config)
{
    for (int kind = 0; kind < INHERITED_KINDS; kind++)
        if (inherited_is_named(one->name, kind_names[kind]))
            return (enum inherited_kind)kind;
    for (size_t i = 0; i < config->server_address_count; i++)
        if (inherited_fits(one, &config->server_addresses[i]))
            return config->server_addresses[i].tls ? INHERITED_TLS : INHERITED_EVENT;
    for (size_t i = 0; i < config->admin_address_count; i++)
        if (inherited_fits(one, &config->admin_addresses[i]))
            return INHERITED_ADMIN;
    return INHERITED_EVENT;
}

/* Returns NULL, or why the configuration does not allow such a socket. */
static const char *inherited_forbidden(const struct inherited_socket *one,
                                       const struct config *config)
{
    if (one->kind == INHERITED_TLS && config->tls == NULL)
        return "is for TLS, but server.tls_listen is empty: set it, with tls_cert and tls_key";
    if (one->kind == INHERITED_ADMIN && !config->has_admin_key &&
        !inherited_is_loopback(&one->bound))
        return "is for the admin port and not on a loopback address, so that others could read all "
               "figures and bury events: name a file with a key in admin.key_file";
    return NULL;
}

/* Returns 0, or -errno: it is no listening stream socket. */
static int inherited_look(struct inherited_socket *one)
{
    int listening = 0, type = 0, flags, on = 1;
    socklen_t len = sizeof(int);

    if (getsockopt(one->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0)
        return -errno;
    len = sizeof(int);
    if (getsockopt(one->fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0)
        return -errno;
    if (!listening || type != SOCK_STREAM)
        return -EINVAL;
    one->len = sizeof(one->bound);
    if (getsockname(one->fd, (struct sockaddr *)&one->bound, &one->len) != 0)
        return -errno;
    flags = fcntl(one->fd, F_GETFL);
    if (flags < 0 || fcntl(one->fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
        fcntl(one->fd, F_SETFD, FD_CLOEXEC) != 0)
        return -errno;
    /* Accepted sockets inherit it. A unix socket has no such thing. */
    (void)setsockopt(one->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return 0;
}

int inherited_add(struct inherited *list, int fd, const char *name, const struct config *config,
                  char error[INHERITED_ERROR_MAX])
{
    struct inherited_socket one = {.fd = fd};
    char address[INHERITED_ADDRESS_MAX];
    const char *forbidden;
    int err = inherited_look(&one);

    snprintf(one.name, sizeof(one.name), "%s", name);
    if (err == 0 && list->count == INHERITED_MAX)
        err = -E2BIG;
    if (err != 0) {
        snprintf(error, INHERITED_ERROR_MAX,
                 "descriptor %d (\"%s\"), which was given to alloyd, is no listening stream "
                 "socket: %s",
                 fd, name, strerror(-err));
        close(fd);
        return err;
    }
    one.given = !inherited_find_kept(&one);
    if (one.given)
        one.kind = inherited_find_kind(&one, config);
    forbidden = inherited_forbidden(&one, config);
    if (forbidden != NULL && one.given) {
        inherited_format_address((const struct sockaddr *)&one.bound, one.len, address);
        snprintf(error, INHERITED_ERROR_MAX, "the given socket \"%s\" on %s %s", name, address,
                 forbidden);
        close(fd);
        return -EINVAL;
    }
    list->sockets[list->count++] = one;
    return 0;
}

int inherited_keep(struct inherited *list, int fd, enum inherited_kind kind)
{
    struct inherited_socket one = {.kind = kind, .len = sizeof(one.bound)};

    if (list->count == INHERITED_MAX)
        return -E2BIG;
    if (getsockname(fd, (struct sockaddr *)&one.bound, &one.len) != 0)
        return -errno;
    one.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (one.fd < 0)
        return -errno;
    snprintf(one.name, sizeof(one.name), "%s", kept_names[kind]);
    list->sockets[list->count++] = one;
    return 0;
}

const char *inherited_kept_name(enum inherited_kind kind)
{
    return kept_names[kind];
}

bool inherited_has_kept(const struct inherited *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!list->sockets[i].given)
            return true;
    return false;
}

bool inherited_has_given(const struct inherited *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->sockets[i].given)
            return true;
    return false;
}

bool inherited_replaces(const struct inherited *list, enum inherited_kind kind)
{
    for (size_t i = 0; list != NULL && i < list->count; i++)
        if (list->sockets[i].given && list->sockets[i].kind == kind)
            return true;
    return false;
}

void inherited_close_rest(struct inherited *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct inherited_socket *one = &list->sockets[i];
        char address[INHERITED_ADDRESS_MAX];

        if (one->given || one->fd < 0)
            continue;
        inherited_format_address((const struct sockaddr *)&one->bound, one->len, address);
        log_info("no longer listening address=\"%s\"", address);
        close(one->fd);
        one->fd = -1;
    }
}

void inherited_forget_kept(struct inherited *list)
{
    size_t left = 0;

    for (size_t i = 0; i < list->count; i++) {
        const struct inherited_socket *one = &list->sockets[i];

        if (one->given)
            list->sockets[left++] = *one;
        else if (one->fd >= 0)
            close(one->fd);
    }
    list->count = left;
}

void inherited_close_all(struct inherited *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->sockets[i].fd >= 0)
            close(list->sockets[i].fd);
    list->count = 0;
}
