/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_slots.h - which node of a Redis cluster has a key: slots, CLUSTER SLOTS, redirections.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_REDIS_SLOTS_H
#define ALLOY_REDIS_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "redis_link.h"

#define REDIS_SLOTS 16384
#define REDIS_NODES_MAX 256 /* masters that we know at a time */
#define REDIS_NODE_NONE UINT16_MAX
#define REDIS_HOST_MAX 256

/* Where a node is. */
struct redis_place {
    char host[REDIS_HOST_MAX];
    int port;
};

/* CRC16 as Redis has it: polynomial 0x1021, from 0 (XMODEM). */
uint16_t redis_slots_crc16(struct slice text);
/* The slot of a key: of what is between its first { and the next }, or of all of it. */
uint16_t redis_slots_of_key(struct slice key);

struct redis_redirect {
    bool ask; /* for the next command alone; else the slot has moved */
    uint16_t slot;
    struct redis_place place; /* host "": the one that sent this */
};

/* Reads "MOVED 3999 127.0.0.1:6381" or "ASK ..."; false: it is none. */
bool redis_slots_read_redirect(struct slice text, struct redis_redirect *redirect);

/* What CLUSTER SLOTS tells, read element by element. */
struct redis_topology {
    struct redis_place places[REDIS_NODES_MAX]; /* the masters */
    size_t count;
    uint16_t slots[REDIS_SLOTS]; /* index of places, or REDIS_NODE_NONE */
    const char *asked;           /* the host that answers */
    /* the range that is being read */
    bool in_range, in_master, knows_port, is_ip;
    long long first, last;
    struct redis_place place;
};

/* asked is the host that will answer; lent until the end. */
void redis_topology_begin(struct redis_topology *topology, const char *asked);
/* Returns false when this is no answer to CLUSTER SLOTS. */
bool redis_topology_element(struct redis_topology *topology,
                            const struct redis_link_element *element);
/* True when the reply was whole and names a master. */
bool redis_topology_end(struct redis_topology *topology);

#endif
