/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_nodes.c - the servers that take claims: the masters of a cluster, or one server alone.
 *
 * We ask a node for CLUSTER SLOTS before the first command, after a node has failed, and after a
 * MOVED, which by itself corrects its own slot only. Several workers of several alloyd may be in
 * doubt for as long as a failover takes, so each asks after REFRESH_MIN_MS to REFRESH_MAX_MS.
 *
 * A node that is no longer a master of any slot is closed at the next refresh, and its number is
 * free.
 *
 * Runs on: the thread that owns it. Owns: the links.
 */
#include "redis_nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/backoff.h"
#include "alloy/clock.h"
#include "redis_link_private.h"

#define REFRESH_MIN_MS 50
#define REFRESH_MAX_MS 500
#define REDIRECTS_MAX 5
#define LEAVE_ALONE_NS (1 * CLOCK_NS_PER_S)

struct redis_node {
    struct redis_link *link; /* NULL: no node */
    struct redis_place place;
    unsigned generation;
    uint64_t leave_until_ns; /* redis_nodes_ask() does not ask it before */
    bool listed;             /* CLUSTER SLOTS has told of it, not a redirection alone */
};

struct redis_nodes {
    /* constant */
    char *url;
    size_t out_capacity;
    redis_link_element_fn element;
    void *arg;
    bool cluster;

    struct redis_node nodes[REDIS_NODES_MAX];
    size_t count;
    uint16_t slots[REDIS_SLOTS];
    uint32_t changes;
    uint32_t changed[REDIS_SLOTS];
    bool known; /* the slots have been told once */
    bool doubt; /* they may have moved */
    struct backoff backoff;
    uint64_t refresh_at_ns;
    size_t last_asked;              /* node */
    struct redis_link *scout;       /* cluster: goes where no link of a node is open */
    struct redis_topology *reading; /* cluster */
    /* redis_nodes_ask(): the redirection that came instead of an answer */
    bool skips; /* the next answer is that of ASKING */
    bool redirected;
    char redirect[REDIS_HOST_MAX + 64];
    char reason[REDIS_LINK_REASON_MAX];
    char name[REDIS_LINK_NAME_MAX];
};

static const struct slice nothing = {"", 0};

static void redis_nodes_note(struct redis_nodes *nodes, const char *name, const char *reason)
{
    if (name == NULL)
        snprintf(nodes->reason, sizeof(nodes->reason), "%.200s", reason);
    else
        snprintf(nodes->reason, sizeof(nodes->reason), "node %.60s: %.150s", name, reason);
}

/* ---- the set ---- */

void redis_nodes_destroy(struct redis_nodes *nodes)
{
    if (nodes == NULL)
        return;
    for (size_t i = 0; i < nodes->count; i++)
        redis_link_destroy(nodes->nodes[i].link);
    redis_link_destroy(nodes->scout);
    free(nodes->reading);
    free(nodes->url);
    free(nodes);
}

struct redis_nodes *redis_nodes_create(const char *url, size_t out_capacity,
                                       redis_link_element_fn element, void *arg)
{
    struct redis_nodes *nodes = calloc(1, sizeof(*nodes));
    struct redis_link *first = redis_link_create(url, out_capacity, element, arg);

    if (nodes == NULL || first == NULL) {
        redis_link_destroy(first);
        free(nodes);
        return NULL;
    }
    nodes->out_capacity = out_capacity;
    nodes->element = element;
    nodes->arg = arg;
    nodes->cluster = first->url.cluster;
    nodes->url = strdup(url);
    snprintf(nodes->name, sizeof(nodes->name), "%s%.300s", nodes->cluster ? "cluster " : "",
             redis_link_name(first));
    if (nodes->cluster) {
        nodes->scout = first;
        nodes->reading = malloc(sizeof(*nodes->reading));
        memset(nodes->slots, 0xff, sizeof(nodes->slots)); /* REDIS_NODE_NONE */
    } else {
        nodes->nodes[0].link = first; /* which has all slots */
        nodes->count = 1;
    }
    if (nodes->url == NULL || (nodes->cluster && nodes->reading == NULL)) {
        redis_nodes_destroy(nodes);
        return NULL;
    }
    return nodes;
}

bool redis_nodes_is_cluster(const struct redis_nodes *nodes)
{
    return nodes->cluster;
}

size_t redis_nodes_count(const struct redis_nodes *nodes)
{
    return nodes->count;
}

size_t redis_nodes_masters(const struct redis_nodes *nodes)
{
    size_t n = 0;

    for (size_t i = 0; i < nodes->count; i++)
        n += nodes->nodes[i].link != NULL;
    return n;
}

struct redis_link *redis_nodes_link(const struct redis_nodes *nodes, size_t node)
{
    return nodes->nodes[node].link;
}

unsigned redis_nodes_generation(const struct redis_nodes *nodes, size_t node)
{
    return nodes->nodes[node].generation;
}

bool redis_nodes_is_listed(const struct redis_nodes *nodes, size_t node)
{
    return !nodes->cluster || nodes->nodes[node].listed;
}

size_t redis_nodes_of_slot(const struct redis_nodes *nodes, size_t slot)
{
    return nodes->slots[slot];
}

uint32_t redis_nodes_changes(const struct redis_nodes *nodes)
{
    return nodes->changes;
}

uint32_t redis_nodes_changed(const struct redis_nodes *nodes, size_t slot)
{
    return nodes->changed[slot];
}

const char *redis_nodes_reason(const struct redis_nodes *nodes)
{
    return nodes->reason;
}

const char *redis_nodes_name(const struct redis_nodes *nodes)
{
    return nodes->cluster ? nodes->name : redis_link_name(nodes->nodes[0].link);
}

void redis_nodes_doubt(struct redis_nodes *nodes)
{
    nodes->doubt = true;
}

uint64_t redis_nodes_due_in_ms(const struct redis_nodes *nodes)
{
    const uint64_t now_ns = clock_mono_ns();

    if (!nodes->cluster || !nodes->doubt)
        return UINT64_MAX;
    return nodes->refresh_at_ns > now_ns ? (nodes->refresh_at_ns - now_ns) / CLOCK_NS_PER_MS + 1
                                         : 0;
}

/* The node at a place, made if there is none; REDIS_NODE_NONE: out of memory or numbers. */
static size_t redis_nodes_at(struct redis_nodes *nodes, const struct redis_place *place)
{
    size_t number = nodes->count;
    struct redis_node *node;

    for (size_t i = 0; i < nodes->count; i++) {
        node = &nodes->nodes[i];
        if (node->link == NULL)
            number = i;
        else if (node->place.port == place->port && strcmp(node->place.host, place->host) == 0)
            return i;
    }
    if (number == REDIS_NODES_MAX)
        return REDIS_NODE_NONE;
    node = &nodes->nodes[number];
    node->link = redis_link_create(nodes->url, nodes->out_capacity, nodes->element, nodes->arg);
    if (node->link == NULL)
        return REDIS_NODE_NONE;
    node->place = *place;
    node->generation++;
    node->leave_until_ns = 0;
    node->listed = false;
    redis_link_aim(node->link, place->host, place->port);
    if (number == nodes->count)
        nodes->count++;
    return number;
}

static void redis_nodes_give(struct redis_nodes *nodes, size_t slot, uint16_t to)
{
    if (nodes->slots[slot] == to)
        return;
    nodes->slots[slot] = to;
    nodes->changed[slot] = ++nodes->changes;
}

size_t redis_nodes_follow(struct redis_nodes *nodes, size_t from, struct slice redirect, bool *ask)
{
    struct redis_redirect read;
    size_t to;

    if (!redis_slots_read_redirect(redirect, &read))
        return REDIS_NODE_NONE;
    if (read.place.host[0] == '\0')
        memcpy(read.place.host, nodes->nodes[from].place.host, sizeof(read.place.host));
    to = redis_nodes_at(nodes, &read.place);
    *ask = read.ask;
    if (!read.ask && to != REDIS_NODE_NONE) {
        redis_nodes_give(nodes, read.slot, (uint16_t)to);
        nodes->doubt = true;
    }
    return to;
}

/* ---- the topology ---- */

static bool redis_nodes_on_slots(struct redis_link *link, const struct redis_link_element *element,
                                 bool direct)
{
    (void)direct;
    return redis_topology_element(link->handshake_arg, element);
}

/* Asks the server that link is open to. */
static int redis_nodes_ask_slots(struct redis_nodes *nodes, struct redis_link *link,
                                 uint64_t deadline_ns)
{
    int err;

    redis_topology_begin(nodes->reading, redis_wire_target(link).name);
    link->handshake_arg = nodes->reading;
    redis_link_clear(link);
    redis_link_put_array(link, 2);
    redis_link_put_bulk(link, (struct slice){"CLUSTER", 7}, nothing);
    redis_link_put_bulk(link, (struct slice){"SLOTS", 5}, nothing);
    err = redis_dial_command(link, redis_nodes_on_slots, deadline_ns);
    if (err != 0)
        redis_nodes_note(nodes, redis_link_name(link), redis_link_reason(link));
    else if (!redis_topology_end(nodes->reading)) {
        redis_nodes_note(nodes, redis_link_name(link), "it knows no master of any slot");
        err = -ENOENT;
    }
    return err;
}

/* Takes over what has been read. */
static void redis_nodes_adopt(struct redis_nodes *nodes)
{
    const struct redis_topology *topology = nodes->reading;
    uint16_t numbers[REDIS_NODES_MAX];
    bool stays[REDIS_NODES_MAX] = {false};

    /* First who stays, so that the numbers of those that go can be used. */
    for (size_t i = 0; i < nodes->count; i++)
        for (size_t k = 0; k < topology->count && !stays[i]; k++)
            stays[i] = nodes->nodes[i].place.port == topology->places[k].port &&
                       strcmp(nodes->nodes[i].place.host, topology->places[k].host) == 0;
    for (size_t i = 0; i < nodes->count; i++) {
        if (stays[i])
            continue;
        redis_link_destroy(nodes->nodes[i].link);
        nodes->nodes[i].link = NULL;
    }
    for (size_t i = 0; i < topology->count; i++)
        numbers[i] = (uint16_t)redis_nodes_at(nodes, &topology->places[i]);
    for (size_t i = 0; i < topology->count; i++)
        if (numbers[i] != REDIS_NODE_NONE)
            nodes->nodes[numbers[i]].listed = true;
    for (size_t i = 0; i < REDIS_SLOTS; i++)
        redis_nodes_give(nodes, i,
                         topology->slots[i] != REDIS_NODE_NONE ? numbers[topology->slots[i]]
                                                               : REDIS_NODE_NONE);
    nodes->known = true;
}

/* Half of the time that is left, so that those that are silent leave some for the others. */
static uint64_t redis_nodes_share(uint64_t deadline_ns)
{
    const uint64_t now_ns = clock_mono_ns();

    return now_ns + (deadline_ns > now_ns ? (deadline_ns - now_ns) / 2 : 0);
}

/* Asks a server over a connection of its own. */
static int redis_nodes_scout(struct redis_nodes *nodes, const char *host, int port,
                             uint64_t deadline_ns)
{
    const uint64_t until_ns = redis_nodes_share(deadline_ns);
    int err;

    redis_link_aim(nodes->scout, host, port);
    err = redis_link_open(nodes->scout, until_ns - clock_mono_ns());
    if (err != 0)
        redis_nodes_note(nodes, redis_link_name(nodes->scout), redis_link_reason(nodes->scout));
    else
        err = redis_nodes_ask_slots(nodes, nodes->scout, until_ns);
    redis_link_close(nodes->scout);
    return err;
}

/* Asks nodes by turns: those we are connected to, those that the url names, and all others. */
static int redis_nodes_learn(struct redis_nodes *nodes, uint64_t deadline_ns)
{
    const struct redis_url *url = &nodes->scout->url;
    int err = -ENOENT;

    for (size_t i = 0; err != 0 && i < nodes->count && clock_mono_ns() < deadline_ns; i++) {
        const size_t number = (nodes->last_asked + 1 + i) % nodes->count;
        struct redis_link *link = nodes->nodes[number].link;

        if (link == NULL || !redis_link_is_open(link))
            continue;
        nodes->last_asked = number;
        err = redis_nodes_ask_slots(nodes, link, redis_nodes_share(deadline_ns));
        if (err != 0)
            redis_link_close(link);
    }
    for (size_t i = 0; err != 0 && i < url->host_count && clock_mono_ns() < deadline_ns; i++)
        err = redis_nodes_scout(nodes, url->hosts[i].name, url->hosts[i].port, deadline_ns);
    for (size_t i = 0; err != 0 && i < nodes->count && clock_mono_ns() < deadline_ns; i++)
        if (nodes->nodes[i].link != NULL)
            err = redis_nodes_scout(nodes, nodes->nodes[i].place.host, nodes->nodes[i].place.port,
                                    deadline_ns);
    return err;
}

int redis_nodes_prepare(struct redis_nodes *nodes, uint64_t timeout_ns)
{
    const uint64_t now_ns = clock_mono_ns();
    int err;

    if (!nodes->cluster) {
        redis_link_refresh(nodes->nodes[0].link, timeout_ns);
        return 0;
    }
    if (nodes->known && !nodes->doubt)
        return 0;
    if (now_ns < nodes->refresh_at_ns)
        return nodes->known ? 0 : -EAGAIN;
    /* A doubt after a long time of certainty is answered at once. */
    if (now_ns > nodes->refresh_at_ns + 2 * REFRESH_MAX_MS * CLOCK_NS_PER_MS)
        backoff_reset(&nodes->backoff);
    err = redis_nodes_learn(nodes, now_ns + timeout_ns);
    nodes->refresh_at_ns =
        clock_mono_ns() +
        backoff_next(&nodes->backoff, REFRESH_MIN_MS, REFRESH_MAX_MS, now_ns) * CLOCK_NS_PER_MS;
    if (err != 0)
        return nodes->known ? 0 : err;
    nodes->doubt = false;
    redis_nodes_adopt(nodes);
    return 0;
}

/* ---- one question ---- */

static bool redis_nodes_on_answer(void *arg, const struct redis_link_element *element)
{
    struct redis_nodes *nodes = arg;

    if (nodes->skips)
        return true;
    if (!element->root || element->type != REDIS_LINK_ERROR || element->redirect.len == 0)
        return nodes->element(nodes->arg, element);
    nodes->redirected = true;
    snprintf(nodes->redirect, sizeof(nodes->redirect), "%.*s", (int)element->redirect.len,
             element->redirect.data);
    return true;
}

/* Sends one question over a link that is open, and reads the answer. */
static int redis_nodes_exchange(struct redis_nodes *nodes, struct redis_link *link,
                                const struct redis_nodes_question *question, bool asking)
{
    const uint64_t deadline_ns = clock_mono_ns() + question->timeout_ns;
    int err;

    redis_link_clear(link);
    if (asking)
        redis_link_put(link, "*1\r\n$6\r\nASKING\r\n", 16);
    question->put(question->arg, link);
    (void)redis_link_refused(link);
    nodes->redirected = false;
    link->element = redis_nodes_on_answer;
    link->arg = nodes;
    err = redis_link_send(link, deadline_ns);
    nodes->skips = true;
    if (err == 0 && asking)
        err = redis_link_read(link, deadline_ns);
    nodes->skips = false;
    if (err == 0)
        err = redis_link_read(link, deadline_ns);
    link->element = nodes->element;
    link->arg = nodes->arg;
    return err;
}

/* The same with a node; opens its link, once more if it was closed while it was idle. */
static int redis_nodes_ask_node(struct redis_nodes *nodes, size_t number,
                                const struct redis_nodes_question *question, bool asking)
{
    struct redis_node *node = &nodes->nodes[number];
    const bool reused = redis_link_is_open(node->link);
    int err = 0;

    if (clock_mono_ns() < node->leave_until_ns)
        return -EHOSTDOWN; /* the reason is still there */
    if (reused)
        err = redis_nodes_exchange(nodes, node->link, question, asking);
    if (!reused || err == -EPIPE || err == -ECONNRESET) {
        redis_link_close(node->link);
        err = redis_link_open(node->link, question->timeout_ns);
        if (err == 0)
            err = redis_nodes_exchange(nodes, node->link, question, asking);
    }
    if (err == 0)
        return 0;
    redis_nodes_note(nodes, nodes->cluster ? redis_link_name(node->link) : NULL,
                     redis_link_reason(node->link));
    redis_link_close(node->link);
    nodes->doubt = true;
    if (nodes->cluster)
        node->leave_until_ns = clock_mono_ns() + LEAVE_ALONE_NS;
    return err;
}

static size_t redis_nodes_any(const struct redis_nodes *nodes, size_t wanted)
{
    const uint64_t now_ns = clock_mono_ns();
    size_t any = REDIS_NODE_NONE;

    if (wanted < nodes->count && nodes->nodes[wanted].link != NULL)
        return wanted;
    for (size_t i = 0; i < nodes->count; i++)
        if (nodes->nodes[i].link != NULL &&
            (any == REDIS_NODE_NONE || nodes->nodes[any].leave_until_ns > now_ns))
            any = i;
    return any;
}

int redis_nodes_connect(struct redis_nodes *nodes, uint64_t timeout_ns)
{
    int err = redis_nodes_prepare(nodes, timeout_ns);
    struct redis_link *link;

    if (err != 0)
        return err;
    link = nodes->nodes[redis_nodes_any(nodes, REDIS_NODE_NONE)].link;
    if (!redis_link_is_open(link))
        err = redis_link_open(link, timeout_ns);
    if (err != 0)
        redis_nodes_note(nodes, nodes->cluster ? redis_link_name(link) : NULL,
                         redis_link_reason(link));
    return err;
}

int redis_nodes_ask(struct redis_nodes *nodes, const struct redis_nodes_question *question,
                    bool *refused)
{
    size_t number;
    bool asking = false;
    int err = redis_nodes_prepare(nodes, question->timeout_ns);

    if (err != 0)
        return err;
    number = question->slot == REDIS_SLOT_ANY ? redis_nodes_any(nodes, question->node)
                                              : nodes->slots[question->slot];
    for (int i = 0; i < REDIRECTS_MAX; i++) {
        if (number == REDIS_NODE_NONE) {
            redis_nodes_note(nodes, NULL, "no node of the cluster has the slot of this key");
            nodes->doubt = true;
            return -EHOSTDOWN;
        }
        err = redis_nodes_ask_node(nodes, number, question, asking);
        if (err != 0)
            return err;
        if (!nodes->redirected) {
            *refused = redis_link_refused(nodes->nodes[number].link);
            if (*refused)
                redis_nodes_note(nodes,
                                 nodes->cluster ? redis_link_name(nodes->nodes[number].link) : NULL,
                                 redis_link_reason(nodes->nodes[number].link));
            return 0;
        }
        asking = false;
        /* TRYAGAIN names no node: the same once more. */
        if (strncmp(nodes->redirect, "TRYAGAIN", 8) != 0)
            number = redis_nodes_follow(
                nodes, number, (struct slice){nodes->redirect, strlen(nodes->redirect)}, &asking);
    }
    redis_nodes_note(nodes, NULL, "the nodes of the cluster send each question elsewhere");
    return -ELOOP;
}
