/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_link_private.h - what the files of one connection share: redis_link.c (commands and
 * replies), redis_dial.c (connecting), redis_tls.c (TLS) and redis_wire.c (the socket).
 */
#ifndef ALLOY_REDIS_LINK_PRIVATE_H
#define ALLOY_REDIS_LINK_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/redis_url.h"
#include "redis_link.h"

#define REDIS_LINK_INPUT_BYTES (64u * 1024)
#define REDIS_LINK_REASON_MAX 256
#define REDIS_LINK_NAME_MAX 320

struct redisContext;
struct redis_tls;

/* An element of a reply before the caller's own commands. direct: of the reply itself, or of its
 * array, and not of an array in there. Returns false when this is no answer to what was asked. */
typedef bool (*redis_link_handshake_fn)(struct redis_link *link,
                                        const struct redis_link_element *element, bool direct);

struct redis_link {
    /* set before the first use, constant after */
    struct redis_url url;
    size_t out_capacity;
    redis_link_element_fn element;
    void *arg;

    char aim_host[256]; /* of a cluster's node; "": the first host of the url */
    int aim_port;
    struct redisContext *context;      /* NULL: not connected */
    struct redis_tls *tls;             /* NULL: plain */
    uint64_t ask_again_ns;             /* Sentinels */
    size_t sentinel;                   /* the one that answered last, index of url.hosts */
    redis_link_handshake_fn handshake; /* NULL: replies are the caller's */
    void *handshake_arg;               /* for handshake, if it wants something */
    char found_host[256]; /* where a Sentinel says the master is; empty: it does not know */
    char found_port[8];
    bool is_master; /* says ROLE */
    bool logs_in;
    bool wants_password;
    bool refused;                   /* some reply was an error */
    bool pardons;                   /* errors are not refusals for now */
    bool unexpected;                /* a reply did not fit what was asked */
    char name[REDIS_LINK_NAME_MAX]; /* for logs; without the password */
    char reason[REDIS_LINK_REASON_MAX];
    char *out;
    size_t out_len;
    size_t sent; /* of what was built; of what TLS has made of it */
    bool unsent; /* some of it is still to be sent */
    char in[REDIS_LINK_INPUT_BYTES];
};

/* redis_wire.c */
void redis_wire_set_reason(struct redis_link *link, const char *format, ...) PRINTF_LIKE(2, 3);
/* Waits until the socket is ready for poll(2)'s events, or a while; 0, -ETIMEDOUT or -errno. */
MUST_CHECK int redis_wire_wait(struct redis_link *link, short events, uint64_t deadline_ns);
/* Writes some of the bytes from *sent on to the socket as they are, without waiting. Returns what
 * redis_link_push() does. */
MUST_CHECK int redis_wire_push(struct redis_link *link, const char *data, size_t len, size_t *sent);
/* Sends what the caller has built, and gives the answer to handshake. Returns 0, -EACCES when it is
 * an error, or -errno. */
MUST_CHECK int redis_dial_command(struct redis_link *link, redis_link_handshake_fn handshake,
                                  uint64_t deadline_ns);
/* The server that the link connects to, if there are neither Sentinels nor a unix socket. */
struct redis_host redis_wire_target(struct redis_link *link);
/* "host:port", an IPv6 address in brackets. */
void redis_wire_print_host(const struct redis_host *host, char *out, size_t size);
/* Sets the link's name to what it will ask first: host:port, unix:/path, or the master's name. */
void redis_wire_name(struct redis_link *link);

/* Takes a connected context, with its reader. */
void redis_link_attach(struct redis_link *link, struct redisContext *context);

#endif
