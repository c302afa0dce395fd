/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_slots.c - which node of a Redis cluster has a key: slots, CLUSTER SLOTS, redirections.
 *
 * CLUSTER SLOTS rather than SHARDS: every version has it. A reply is an array of ranges, each
 * [first, last, master, replica...]; a node is [host, port, id, [name, value...]]. The host is nil
 * or empty when it is the one that was asked, and "?" when the cluster is told to announce names
 * and has none for this node; its address is then among the names and values.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "redis_slots.h"

#include <stdlib.h>
#include <string.h>

#define PORT_MAX 65535
#define DIGITS_MAX 5 /* of a slot and of a port */

uint16_t redis_slots_crc16(struct slice text)
{
    unsigned crc = 0;

    for (size_t i = 0; i < text.len; i++) {
        /* Eight steps of the division at once. */
        unsigned x = (crc >> 8 ^ (unsigned char)text.data[i]) & 0xff;

        x ^= x >> 4;
        crc = (crc << 8 ^ x << 12 ^ x << 5 ^ x) & 0xffff;
    }
    return (uint16_t)crc;
}

uint16_t redis_slots_of_key(struct slice key)
{
    const char *open = memchr(key.data, '{', key.len);
    const size_t left = open != NULL ? key.len - (size_t)(open + 1 - key.data) : 0;
    const char *close = open != NULL ? memchr(open + 1, '}', left) : NULL;

    if (close != NULL && close > open + 1)
        key = (struct slice){open + 1, (size_t)(close - open - 1)};
    return redis_slots_crc16(key) % REDIS_SLOTS;
}

/* A number of digits alone, at most max; -1: it is none. */
static int redis_slots_number(struct slice text, int max)
{
    int value = 0;

    if (text.len == 0 || text.len > DIGITS_MAX)
        return -1;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return -1;
        value = value * 10 + (text.data[i] - '0');
    }
    return value <= max ? value : -1;
}

/* Copies a host's name or address; false: it can be neither. */
static bool redis_slots_copy_host(char out[REDIS_HOST_MAX], struct slice text)
{
    if (text.len >= REDIS_HOST_MAX)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] <= ' ' || text.data[i] > '~')
            return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

bool redis_slots_read_redirect(struct slice text, struct redis_redirect *redirect)
{
    const char *at = memchr(text.data, ' ', text.len);
    const char *end = text.data + text.len;
    const char *space, *colon;
    int slot, port;

    if (at == NULL)
        return false;
    redirect->ask = redis_link_is_code((struct slice){text.data, (size_t)(at - text.data)}, "ASK");
    if (!redirect->ask &&
        !redis_link_is_code((struct slice){text.data, (size_t)(at - text.data)}, "MOVED"))
        return false;
    at++;
    space = memchr(at, ' ', (size_t)(end - at));
    if (space == NULL)
        return false;
    slot = redis_slots_number((struct slice){at, (size_t)(space - at)}, REDIS_SLOTS - 1);
    at = space + 1;
    /* The last one: an IPv6 address has colons too. */
    colon = memrchr(at, ':', (size_t)(end - at));
    if (slot < 0 || colon == NULL)
        return false;
    port = redis_slots_number((struct slice){colon + 1, (size_t)(end - colon - 1)}, PORT_MAX);
    redirect->slot = (uint16_t)slot;
    redirect->place.port = port;
    if (at < colon && *at == '[' && colon[-1] == ']') {
        at++;
        colon--;
    }
    return port > 0 &&
           redis_slots_copy_host(redirect->place.host, (struct slice){at, (size_t)(colon - at)});
}

/* ---- CLUSTER SLOTS ---- */

void redis_topology_begin(struct redis_topology *topology, const char *asked)
{
    topology->count = 0;
    topology->asked = asked;
    topology->in_range = false;
    for (size_t i = 0; i < REDIS_SLOTS; i++)
        topology->slots[i] = REDIS_NODE_NONE;
}

static size_t redis_topology_place(struct redis_topology *topology)
{
    const struct redis_place *place = &topology->place;
    size_t i = 0;

    while (i < topology->count && (topology->places[i].port != place->port ||
                                   strcmp(topology->places[i].host, place->host) != 0))
        i++;
    if (i == topology->count && i < REDIS_NODES_MAX)
        topology->places[topology->count++] = *place;
    return i;
}

/* Takes the range that has been read. False: it makes no sense. */
static bool redis_topology_take(struct redis_topology *topology)
{
    size_t place;

    if (!topology->in_range)
        return true;
    topology->in_range = false;
    if (topology->first < 0 || topology->last < topology->first || topology->last >= REDIS_SLOTS ||
        !topology->knows_port)
        return false;
    place = redis_topology_place(topology);
    /* Slots of masters beyond the limit stay unserved. */
    for (long long i = topology->first; place < REDIS_NODES_MAX && i <= topology->last; i++)
        topology->slots[i] = (uint16_t)place;
    return true;
}

/* An element of a range: its first and last slot, and then its nodes, the master first. */
static bool redis_topology_range(struct redis_topology *topology,
                                 const struct redis_link_element *element)
{
    topology->in_master = element->index == 2;
    if (element->index >= 2)
        return element->type == REDIS_LINK_ARRAY;
    if (element->type != REDIS_LINK_INTEGER)
        return false;
    *(element->index == 0 ? &topology->first : &topology->last) = element->value;
    return true;
}

/* An element of the master. */
static bool redis_topology_master(struct redis_topology *topology,
                                  const struct redis_link_element *element)
{
    struct slice host = element->text;

    if (element->index == 1) {
        topology->place.port = (int)element->value;
        topology->knows_port =
            element->type == REDIS_LINK_INTEGER && element->value > 0 && element->value <= PORT_MAX;
        return topology->knows_port;
    }
    if (element->index > 1)
        return true;
    if (element->type != REDIS_LINK_STRING && element->type != REDIS_LINK_NIL)
        return false;
    if (element->type == REDIS_LINK_NIL || host.len == 0)
        host = (struct slice){topology->asked, strlen(topology->asked)};
    return redis_slots_copy_host(topology->place.host, host);
}

/* A name or a value of the master. */
static bool redis_topology_detail(struct redis_topology *topology,
                                  const struct redis_link_element *element)
{
    if (element->type != REDIS_LINK_STRING)
        return true;
    if (element->index % 2 == 0)
        topology->is_ip = redis_link_is_code(element->text, "ip");
    else if (topology->is_ip && strcmp(topology->place.host, "?") == 0)
        return redis_slots_copy_host(topology->place.host, element->text);
    return true;
}

bool redis_topology_element(struct redis_topology *topology,
                            const struct redis_link_element *element)
{
    switch (element->depth) {
    case 0:
        return element->type == REDIS_LINK_ARRAY;
    case 1:
        if (element->type != REDIS_LINK_ARRAY || element->count < 3 ||
            !redis_topology_take(topology))
            return false;
        topology->in_range = true;
        topology->in_master = topology->knows_port = topology->is_ip = false;
        topology->first = topology->last = -1;
        return true;
    case 2:
        return redis_topology_range(topology, element);
    case 3:
        return !topology->in_master || redis_topology_master(topology, element);
    case 4:
        return !topology->in_master || redis_topology_detail(topology, element);
    default:
        return true;
    }
}

bool redis_topology_end(struct redis_topology *topology)
{
    return redis_topology_take(topology) && topology->count > 0;
}
