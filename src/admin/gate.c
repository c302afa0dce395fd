/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.c - limits the open connections of the admin port.
 *
 * evhttp accepts without a bound, and does not say when it closes a connection. So the gate makes
 * each connection's bufferevent and keeps a reference: once evhttp has released it, it has no
 * callbacks. When all places are taken, we cut the older half, since a live reader got its answer
 * long ago, and accept again once evhttp has closed them.
 *
 * When we are out of descriptors, a listener would be called again at once, for ever: we disable it
 * until the next tick.
 *
 * Runs on: the admin thread.
 * Owns: its events, and a reference to each connection's bufferevent.
 */
#include "gate.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "alloy/clock.h"
#define LOG_MODULE "admin"
#include "alloy/log.h"

#define TICK_MS 100  /* after running out of descriptors */
#define AGAIN_US 500 /* after cutting the older connections: evhttp closes them in this time */

struct gate {
    struct evhttp *http;
    struct event *tick;
    struct event *again;
    struct evconnlistener **listeners;
    size_t listener_count;
    struct bufferevent **open; /* oldest first */
    size_t open_count, open_max;
};

/* Forgets connections that evhttp has closed. */
static void gate_sweep(struct gate *gate)
{
    size_t kept = 0;

    for (size_t i = 0; i < gate->open_count; i++) {
        bufferevent_event_cb on_event;

        bufferevent_getcb(gate->open[i], NULL, NULL, &on_event, NULL);
        if (on_event)
            gate->open[kept++] = gate->open[i];
        else
            bufferevent_decref(gate->open[i]);
    }
    gate->open_count = kept;
}

static void gate_accept(struct gate *gate, bool accept)
{
    for (size_t i = 0; i < gate->listener_count; i++) {
        if (accept)
            evconnlistener_enable(gate->listeners[i]);
        else
            evconnlistener_disable(gate->listeners[i]);
    }
}

/* No place is left: cuts the older half and checks again soon. */
static void gate_make_room(struct gate *gate)
{
    const struct timeval soon = {.tv_usec = AGAIN_US};

    for (size_t i = 0; i < (gate->open_count + 1) / 2; i++)
        shutdown(bufferevent_getfd(gate->open[i]), SHUT_RDWR);
    gate_accept(gate, false);
    evtimer_add(gate->again, &soon);
}

/* Accepts again if there is room. */
static void gate_on_look(evutil_socket_t fd, short what, void *arg)
{
    struct gate *gate = arg;

    (void)fd;
    (void)what;
    gate_sweep(gate);
    if (gate->open_count < gate->open_max)
        gate_accept(gate, true);
    else
        gate_make_room(gate);
}

/* A connection was accepted. If we return NULL, evhttp makes a bufferevent of its own. */
static struct bufferevent *gate_on_connection(struct event_base *base, void *arg)
{
    struct gate *gate = arg;
    struct bufferevent *connection = bufferevent_socket_new(base, -1, 0);

    if (!connection)
        return NULL;
    gate_sweep(gate);
    ALLOY_ASSERT(gate->open_count < gate->open_max);
    bufferevent_incref(connection);
    gate->open[gate->open_count++] = connection;
    if (gate->open_count == gate->open_max)
        gate_make_room(gate);
    return connection;
}

static void gate_on_error(struct evconnlistener *listener, void *arg)
{
    static struct log_limit limit;
    int err = errno;
    uint64_t suppressed;

    (void)arg;
    evconnlistener_disable(listener);
    if (log_limit_pass(&limit, clock_mono_ms(), 10000, &suppressed))
        log_error("no descriptor for a connection error=\"%s\" suppressed=%llu", strerror(err),
                  (unsigned long long)suppressed);
}

struct gate *gate_create(struct event_base *base, struct evhttp *http, size_t max)
{
    const struct timeval tick = {.tv_usec = TICK_MS * 1000};
    struct gate *gate = calloc(1, sizeof(*gate));

    if (!gate)
        return NULL;
    gate->http = http;
    gate->open_max = max;
    gate->open = calloc(max, sizeof(struct bufferevent *));
    gate->tick = event_new(base, -1, EV_PERSIST, gate_on_look, gate);
    gate->again = evtimer_new(base, gate_on_look, gate);
    if (!gate->open || !gate->tick || !gate->again || event_add(gate->tick, &tick) != 0) {
        gate_destroy(gate);
        return NULL;
    }
    evhttp_set_bevcb(http, gate_on_connection, gate);
    return gate;
}

void gate_destroy(struct gate *gate)
{
    if (!gate)
        return;
    for (size_t i = 0; i < gate->open_count; i++)
        bufferevent_decref(gate->open[i]);
    if (gate->tick)
        event_free(gate->tick);
    if (gate->again)
        event_free(gate->again);
    free(gate->listeners);
    free(gate->open);
    free(gate);
}

int gate_add(struct gate *gate, int fd)
{
    struct evconnlistener **listeners =
        reallocarray(gate->listeners, gate->listener_count + 1, sizeof(struct evconnlistener *));
    struct evhttp_bound_socket *bound;

    if (!listeners)
        return -ENOMEM;
    gate->listeners = listeners;
    bound = evhttp_accept_socket_with_handle(gate->http, fd);
    if (!bound)
        return -ENOMEM;
    listeners[gate->listener_count] = evhttp_bound_socket_get_listener(bound);
    evconnlistener_set_error_cb(listeners[gate->listener_count++], gate_on_error);
    return 0;
}
