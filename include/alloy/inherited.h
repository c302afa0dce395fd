/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inherited.h - the listening sockets that the process got from its parent, or from its life
 * before.
 *
 * A socket is given by systemd, or by whoever starts us: it takes the place of the configured
 * addresses of its kind. Or it is kept, from the life before: it serves the configured address that
 * it is bound to, if there is still one.
 *
 * Runs on: the main thread.
 */
#ifndef ALLOY_INHERITED_H
#define ALLOY_INHERITED_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "alloy/base.h"
#include "alloy/config.h"

#define INHERITED_MAX 1024
#define INHERITED_NAME_MAX 64
#define INHERITED_ADDRESS_MAX 128
#define INHERITED_ERROR_MAX 512

enum inherited_kind { INHERITED_EVENT, INHERITED_TLS, INHERITED_ADMIN, INHERITED_KINDS };

struct inherited_socket {
    int fd;                        /* -1: taken */
    char name[INHERITED_NAME_MAX]; /* that it came with */
    enum inherited_kind kind;
    bool given; /* not kept */
    struct sockaddr_storage bound;
    socklen_t len; /* of bound */
};

struct inherited {
    struct inherited_socket sockets[INHERITED_MAX];
    size_t count;
};

/* The name under which a socket of this kind is kept for the next life. */
const char *inherited_kept_name(enum inherited_kind kind);
/* True when there are kept sockets. */
bool inherited_has_kept(const struct inherited *list);
/* "127.0.0.1:8080", "[::1]:8080" or "unix:/path". */
void inherited_format_address(const struct sockaddr *address, socklen_t len,
                              char name[INHERITED_ADDRESS_MAX]);
/*
 * Takes fd in any case, and says what it is for: by its name (event, tls, admin, or one of these
 * and a digit or punctuation behind it), else by its port or path, which is that of a configured
 * address, else it is for events. Returns 0, or -errno with a sentence in error: no listening
 * socket, of a kind that the configuration forbids, or too many.
 */
MUST_CHECK int inherited_add(struct inherited *list, int fd, const char *name,
                             const struct config *config, char error[INHERITED_ERROR_MAX]);
/* Adds a descriptor of fd to what the next life is to have. Returns 0 or -errno. */
MUST_CHECK int inherited_keep(struct inherited *list, int fd, enum inherited_kind kind);
/* True when there are sockets that somebody else holds open too: given ones. */
bool inherited_has_given(const struct inherited *list);
/* True when given sockets take the place of the configured addresses of this kind. */
bool inherited_replaces(const struct inherited *list, enum inherited_kind kind);
/* Closes kept sockets that no configured address has taken, and logs each. */
void inherited_close_rest(struct inherited *list);
/* Takes the kept ones out of the list, and closes those that are not taken. */
void inherited_forget_kept(struct inherited *list);
void inherited_close_all(struct inherited *list);

#endif
