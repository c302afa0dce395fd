/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener.h - opens listening sockets for the configured addresses: a TCP socket for each thread,
 * with SO_REUSEPORT, and one unix socket for all threads. A socket that was inherited serves all
 * threads: each has a descriptor of it.
 *
 * Runs on: the main thread.
 */
#ifndef ALLOY_LISTENER_H
#define ALLOY_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"
#include "alloy/config.h"
#include "alloy/inherited.h"

#define LISTENER_ERROR_MAX 512
#define LISTENER_NAME_MAX INHERITED_ADDRESS_MAX

struct listener {
    int fd;
    unsigned thread;              /* which thread is to accept from it */
    char name[LISTENER_NAME_MAX]; /* "127.0.0.1:8080", "[::1]:8080", "unix:/path" */
    bool tls;                     /* of server.tls_listen */
    bool unlink;                  /* a unix socket's file, removed by listener_close_all() */
    bool shared;                  /* other threads accept from the same socket */
    bool copy;                    /* of a socket that is listed before it, or was given */
    bool outlives;                /* somebody else will go on with the socket */
};

struct listener_wish {
    const struct config_address *addresses;
    size_t address_count;
    bool admin; /* the addresses are those of admin.listen */
    unsigned thread_count;
    struct inherited *inherited; /* NULL: none */
};

struct listener_list {
    struct listener *items;
    size_t count;
};

/*
 * Opens the addresses for all threads, or takes inherited sockets in their place: non-blocking,
 * close-on-exec, listening. Replaces a stale unix socket file. A unix socket that somebody serves
 * is an error, and so is a TCP port on which anybody listens, with SO_REUSEPORT or without. Returns
 * 0 and an owned list (listener_close_all()), or -errno with one clear sentence in error. Logs each
 * address once, with the port that it got.
 */
MUST_CHECK int listener_open_all(struct listener_list *list, const struct listener_wish *wish,
                                 char error[LISTENER_ERROR_MAX]);
/* Adds a descriptor of each socket to kept, for the next life; not of given ones, which it gets
 * again. The files of unix sockets are no longer removed. Returns 0, or -errno: not all of them. */
MUST_CHECK int listener_keep(struct listener_list *list, bool admin, struct inherited *kept);
/* Closes every socket that is still open (fd >= 0), removes unix socket files, frees the list.
 * A second call is fine. */
void listener_close_all(struct listener_list *list);

#endif
