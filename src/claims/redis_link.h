/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_link.h - one connection to Redis: connects, sends AUTH and SELECT, has a buffer to build
 * commands in, and passes replies on element by element without allocating.
 *
 * The one home of hiredis. Runs on: the thread that owns it.
 */
#ifndef ALLOY_REDIS_LINK_H
#define ALLOY_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <string.h>

#include "alloy/base.h"

enum redis_link_type {
    REDIS_LINK_STATUS,
    REDIS_LINK_STRING,
    REDIS_LINK_NIL,
    REDIS_LINK_INTEGER,
    REDIS_LINK_ARRAY,
    REDIS_LINK_ERROR,
};

struct redis_link_element {
    enum redis_link_type type;
    bool root;         /* the reply itself, not an element of an array */
    size_t index;      /* index in the array; 0 for the root */
    size_t count;      /* of an array's elements */
    unsigned depth;    /* arrays around it; 0 for the root */
    long long value;   /* of an integer */
    struct slice text; /* status, string, and an error's code; lent until the callback returns */
    struct slice redirect; /* from a cluster's node: all of a MOVED or ASK; lent as text is */
};

/* Called for each element as it is parsed; an array comes before its elements. Returns false when
 * this is not an answer to what was asked; the exchange then fails. */
typedef bool (*redis_link_element_fn)(void *arg, const struct redis_link_element *element);

/* Whether an error's code is this one. */
static inline bool redis_link_is_code(struct slice code, const char *name)
{
    return code.len == strlen(name) && memcmp(code.data, name, code.len) == 0;
}

struct redis_link;

/* Returns owned (redis_link_destroy()); NULL: out of memory or a bad url (logged). Does not
 * connect. url is not empty. out_capacity: bytes of commands that may be built between two clears.
 */
struct redis_link *redis_link_create(const char *url, size_t out_capacity,
                                     redis_link_element_fn element, void *arg);
void redis_link_destroy(struct redis_link *link); /* NULL is fine */

/* With a cluster: which of its nodes to connect to from now on; else the url says it. */
void redis_link_aim(struct redis_link *link, const char *host, int port);
/* Connects, to the master that a Sentinel names if there are Sentinels, logs in and selects the
 * database, all within timeout_ns (the resolver may take longer); 0 or -errno. */
MUST_CHECK int redis_link_open(struct redis_link *link, uint64_t timeout_ns);
/* With Sentinels: asks one of them every now and then, and closes the connection when the master is
 * another server by now. Between two exchanges. */
void redis_link_refresh(struct redis_link *link, uint64_t timeout_ns);
void redis_link_close(struct redis_link *link);
bool redis_link_is_open(const struct redis_link *link);

/* These build commands. The buffer must have room. */
void redis_link_clear(struct redis_link *link);
size_t redis_link_bytes(const struct redis_link *link); /* built since the last clear */
void redis_link_put(struct redis_link *link, const char *data, size_t len); /* as it is */
void redis_link_put_array(struct redis_link *link, size_t count);           /* "*<count>\r\n" */
/* One bulk string made of two parts; the second may be empty. */
void redis_link_put_bulk(struct redis_link *link, struct slice first, struct slice second);

/*
 * Send what was built; read one reply. They return 0, -ETIMEDOUT, -EPIPE or -ECONNRESET (Redis is
 * gone), -EPROTO or another -errno. After an error close the connection: its replies no longer
 * match our commands.
 */
MUST_CHECK int redis_link_send(struct redis_link *link, uint64_t deadline_ns);
MUST_CHECK int redis_link_read(struct redis_link *link, uint64_t deadline_ns);

/*
 * The same in steps that never wait, so that one thread serves several links. begin: what was built
 * is to be sent. push sends some of it; 0: all is sent. pull reads a reply; 0: one was read. Both
 * return -EAGAIN when the socket has no more for now, or an error like the two above.
 */
MUST_CHECK int redis_link_begin(struct redis_link *link);
MUST_CHECK int redis_link_push(struct redis_link *link);
MUST_CHECK int redis_link_pull(struct redis_link *link);
/* Waits until push or pull of one of n links may go on, or until the deadline; may return early.
 * n is at most REDIS_LINK_WAIT_MAX. */
#define REDIS_LINK_WAIT_MAX 256
void redis_link_wait(struct redis_link *const *links, size_t n, uint64_t deadline_ns);
/* Notes that a reply did not come in time, and returns -ETIMEDOUT. */
int redis_link_give_up(struct redis_link *link);

/* True when some reply since the last call was an error; not a MOVED, ASK or TRYAGAIN of a
 * cluster's node, which only tell the caller to ask elsewhere or again. */
bool redis_link_refused(struct redis_link *link);
/* While on, an error is an answer like any other, and no refusal. Until the link is closed. */
void redis_link_pardon(struct redis_link *link, bool on);
/* The reason of the last failure or refusal: the error's code and a sentence of our own, since
 * Redis's own text can quote ids and passwords; texts that quote nothing are told as they came.
 * Lent until the next call. */
const char *redis_link_reason(const struct redis_link *link);
/* host:port or unix:/path. Lent. */
const char *redis_link_name(const struct redis_link *link);

#endif
