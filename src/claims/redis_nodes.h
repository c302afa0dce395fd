/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_nodes.h - the servers that take claims: the masters of a cluster, or one server alone.
 *
 * A set of links (redis_link.h) and a map from slots to them. Without a cluster the set has one
 * link, which has all slots. Nodes have numbers below redis_nodes_count(), which stay the same
 * until the next redis_nodes_prepare(); some of these numbers may have no node.
 *
 * Runs on: the thread that owns it.
 */
#ifndef ALLOY_REDIS_NODES_H
#define ALLOY_REDIS_NODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "redis_link.h"
#include "redis_slots.h"

#define REDIS_SLOT_ANY REDIS_SLOTS /* whichever node */

struct redis_nodes;

/* Returns owned (redis_nodes_destroy()); NULL: out of memory or a bad url (logged). Does not
 * connect. The other arguments are those of each node's redis_link_create(). */
struct redis_nodes *redis_nodes_create(const char *url, size_t out_capacity,
                                       redis_link_element_fn element, void *arg);
void redis_nodes_destroy(struct redis_nodes *nodes); /* NULL is fine */

/* True when the servers are a cluster, and keys need a hash tag to stay together. */
bool redis_nodes_is_cluster(const struct redis_nodes *nodes);

/*
 * Between two exchanges: with a cluster, asks for the slots' masters if they are not known or in
 * doubt, but not too often; with Sentinels, asks for the master now and then. Returns 0 when nodes
 * are known; else -errno, and redis_nodes_reason() says why.
 */
MUST_CHECK int redis_nodes_prepare(struct redis_nodes *nodes, uint64_t timeout_ns);
/* Something has shown that slots may be elsewhere: the next redis_nodes_prepare() asks. */
void redis_nodes_doubt(struct redis_nodes *nodes);
/* Milliseconds until redis_nodes_prepare() asks for slots that are in doubt; UINT64_MAX: they are
 * not. */
uint64_t redis_nodes_due_in_ms(const struct redis_nodes *nodes);

size_t redis_nodes_count(const struct redis_nodes *nodes);
/* How many masters there are. */
size_t redis_nodes_masters(const struct redis_nodes *nodes);
/* The link of a node, which may be closed; NULL: no node has this number. Lent. */
struct redis_link *redis_nodes_link(const struct redis_nodes *nodes, size_t node);
/* Counts up whenever this number is given to another server. */
unsigned redis_nodes_generation(const struct redis_nodes *nodes, size_t node);
/* Whether it is known which slots the node has. Of one that only a redirection has named it is not:
 * it has those that were asked for, and perhaps all of a master that has failed. */
bool redis_nodes_is_listed(const struct redis_nodes *nodes, size_t node);
/* The node that has a slot, or REDIS_NODE_NONE. */
size_t redis_nodes_of_slot(const struct redis_nodes *nodes, size_t slot);
/* Counts up whenever a slot is given to another node; what it was when this slot was. */
uint32_t redis_nodes_changes(const struct redis_nodes *nodes);
uint32_t redis_nodes_changed(const struct redis_nodes *nodes, size_t slot);

/* Follows a MOVED or ASK that came from a node: returns the node that it names, to which MOVED also
 * moves the slot; REDIS_NODE_NONE: it cannot be read, or there are too many. */
size_t redis_nodes_follow(struct redis_nodes *nodes, size_t from, struct slice redirect, bool *ask);

/* Connects to some node, if to none yet. Returns 0, or -errno with redis_nodes_reason(). */
MUST_CHECK int redis_nodes_connect(struct redis_nodes *nodes, uint64_t timeout_ns);

/* Puts a command together. May be called more than once. */
typedef void (*redis_nodes_put_fn)(void *arg, struct redis_link *link);
/*
 * One command and its answer, whose elements go to the links' callback, at the node of a slot;
 * opens it, and follows redirections. A node that did not answer is left alone for a second.
 * Returns 0 when there is an answer, which may be an error (*refused); else -errno, with
 * redis_nodes_reason(). Nothing may be under way.
 */
struct redis_nodes_question {
    size_t slot;
    size_t node; /* with REDIS_SLOT_ANY: this one, unless it is gone or REDIS_NODE_NONE */
    redis_nodes_put_fn put;
    void *arg;
    uint64_t timeout_ns;
};
MUST_CHECK int redis_nodes_ask(struct redis_nodes *nodes,
                               const struct redis_nodes_question *question, bool *refused);

/* Of the last failure of one of the above. Lent until the next call. */
const char *redis_nodes_reason(const struct redis_nodes *nodes);
/* host:port, unix:/path, or a cluster by its first host. Lent. */
const char *redis_nodes_name(const struct redis_nodes *nodes);

#endif
