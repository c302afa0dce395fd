/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.c - the front-end threads.
 *
 * One call of event_base_loop(EVLOOP_ONCE) is one turn: it waits once and calls back everything
 * that is ready. That groups a turn as a low-priority event would, without the extra epoll_wait
 * that libevent makes before it looks at a lower priority.
 *
 * An event base without locks does not notice event_active() from another thread. So another thread
 * that wants something sets a flag and writes to the thread's eventfd.
 *
 * Runs on: front_start(), front_enter() and front_stop() on the main thread; front_connections() on
 * any thread; everything else on a front-end thread.
 * Owns: threads, loops, listening sockets.
 */
#include "alloy/front.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "alloy/clock.h"
#include "balance.h"
#include "conn.h"
#include "alloy/listener.h"
#include "alloy/pulse.h"
#include "alloy/route.h"
#include "alloy/timeslice.h"
#define LOG_MODULE "front"
#include "alloy/log.h"

/* Descriptors: OTHER for libraries, log, journal, dead letters and files open for a moment; for a
 * front-end thread: epoll, two eventfds, schedstat, a connection that is being refused; for a
 * worker: its connection to Redis and that connection's timer; for an insert: its connection and a
 * DNS query. */
#define DESCRIPTORS_OTHER 64
#define DESCRIPTORS_THREAD 5
#define DESCRIPTORS_WORKER 2
#define DESCRIPTORS_INSERT 2
#define REFUSED_MAX 64       /* most connections without a place that get a lingering close */
#define ACCEPTS_MAX 64       /* connections accepted from one listener in one turn */
#define ACCEPTS_SHARED_MAX 2 /* the same, from one that other threads have too */
#define SHARE_SLACK 8        /* connections above its share that a thread takes of such a one */
#define ACCEPT_PAUSE_MS 100  /* after running out of descriptors */
#define SLICE_NS 200000      /* clients wait for us, and nobody for the other threads */
#define TICK_MIN_MS 10
#define TICK_MAX_MS 100

struct front_thread;

struct front_listener {
    struct event *event;       /* NULL: left to the next life */
    struct listener *listener; /* fd -1 once closed */
    struct front_thread *thread;
};

struct front_routes {
    struct front_routes *before;
    struct route_table table;
};

struct front_thread {
    struct front *front;
    unsigned number;
    pthread_t thread;
    sem_t started;
    int start_error; /* 0 or -errno, set before started is posted */
    int wake_fd;
    struct conn_inbox passed;
    /* this thread only */
    struct balance_meter meter;
    struct event_base *base;
    struct event *wake;
    struct event *tick;
    struct front_listener *listeners;
    size_t listener_count;
    uint64_t accept_again_ms; /* 0: the listeners are not paused */
    bool yielding; /* lets other threads accept from shared listeners, until the next tick */
    bool tick_due;
    _Atomic int phase; /* enum front_phase that it has followed; release in front_follow() */
    struct journal_writer *writer;
    struct l1_thread *l1;
    struct waiter_inbox *inbox;
    struct admission *admission;
    struct journal_writer *large_writer;
    struct admission *large; /* for large bodies, which other requests overtake */
    struct conn_set *conns;
};

struct front {
    struct front_parts parts;
    struct front_routes *routes; /* the present ones first; the others may be in use yet */
    struct event_id_key stream_keys[CONFIG_STREAMS_MAX];
    size_t stream_count; /* of these keys */
    struct conn_shared shared;
    struct listener_list listeners;
    struct front_thread *threads;
    unsigned thread_count;
    struct balance balance;
    _Atomic int phase;     /* enum front_phase; release in front_enter(), acquire in the loops */
    _Atomic bool stopping; /* release in front_stop(), acquire in the threads' loops */
};

static void front_wake(struct front_thread *thread)
{
    uint64_t one = 1;

    /* This fails only when the counter is full, and then the thread is awake anyway. */
    (void)!write(thread->wake_fd, &one, sizeof(one));
}

static void front_on_wake(evutil_socket_t fd, short what, void *arg)
{
    uint64_t count;

    (void)what;
    (void)arg;
    (void)!read((int)fd, &count, sizeof(count));
}

static void front_tick_arm(struct front_thread *thread)
{
    const struct config *config = config_current(thread->front->parts.config);
    uint64_t ms = config->server_head_timeout_ms;
    struct timeval tv;

    if (ms > config->server_body_timeout_ms)
        ms = config->server_body_timeout_ms;
    if (ms > config->server_idle_timeout_ms)
        ms = config->server_idle_timeout_ms;
    ms /= 4;
    if (ms < TICK_MIN_MS)
        ms = TICK_MIN_MS;
    if (ms > TICK_MAX_MS)
        ms = TICK_MAX_MS;
    tv = (struct timeval){.tv_usec = (suseconds_t)(ms * 1000)};
    evtimer_add(thread->tick, &tv);
}

static void front_on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct front_thread *thread = arg;

    (void)fd;
    (void)what;
    thread->tick_due = true;
    front_tick_arm(thread);
}

static void front_accept_pause(struct front_thread *thread)
{
    static struct log_limit limit;
    int err = errno;
    uint64_t now_ms = clock_mono_ms();
    uint64_t suppressed;

    if (log_limit_pass(&limit, now_ms, 10000, &suppressed))
        log_error("no descriptor for a connection error=\"%s\" suppressed=%llu", strerror(err),
                  (unsigned long long)suppressed);
    for (size_t i = 0; i < thread->listener_count; i++)
        if (thread->listeners[i].event != NULL)
            event_del(thread->listeners[i].event);
    thread->accept_again_ms = now_ms + ACCEPT_PAUSE_MS;
}

static void front_accept_resume(struct front_thread *thread)
{
    if (clock_mono_ms() < thread->accept_again_ms ||
        (thread->accept_again_ms == 0 && !thread->yielding))
        return;
    thread->accept_again_ms = 0;
    thread->yielding = false;
    for (size_t i = 0; i < thread->listener_count; i++)
        if (thread->listeners[i].event != NULL)
            event_add(thread->listeners[i].event, NULL);
}

static void front_accept_some(struct front_listener *own)
{
    const int accepts_max = own->listener->shared ? ACCEPTS_SHARED_MAX : ACCEPTS_MAX;

    for (int i = 0; i < accepts_max; i++) {
        struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof(peer);
        /* We ask for the address here, since nobody can tell it once the client has reset the
         * connection: its requests would have no address, and no limit. */
        int fd = accept4(own->listener->fd, (struct sockaddr *)&peer, &len,
                         SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd >= 0) {
            const struct address address = address_of((const struct sockaddr *)&peer);

            conn_accept(own->thread->conns, fd, &address, own->listener->tls);
            continue;
        }
        /* Out of descriptors or memory, the listener stays readable and the loop would spin: pause
         * it. Any other error is about one connection that ended before we accepted it. */
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            front_accept_pause(own->thread);
        else if (errno == ECONNABORTED || errno == EINTR)
            continue;
        return;
    }
}

/* Of a socket that all threads watch, whoever is awake already would get nearly all connections,
 * and keep them for long. One thread at least has no more than its share, so somebody accepts. */
static bool front_has_its_share(const struct front_thread *thread)
{
    const struct front *front = thread->front;

    return conn_open_count(thread->conns) >
           atomic_load_explicit(&front->shared.connections, memory_order_relaxed) /
                   front->thread_count +
               SHARE_SLACK;
}

static void front_on_acceptable(evutil_socket_t fd, short what, void *arg)
{
    struct front_listener *own = arg;

    (void)fd;
    (void)what;
    if (unlikely(own->listener->shared) && front_has_its_share(own->thread)) {
        event_del(own->event);
        own->thread->yielding = true;
        return;
    }
    front_accept_some(own);
}

/* Accepts no more. */
static void front_listeners_close(struct front_thread *thread)
{
    for (size_t i = 0; i < thread->listener_count; i++) {
        if (thread->listeners[i].event == NULL)
            continue;
        event_free(thread->listeners[i].event);
        close(thread->listeners[i].listener->fd);
        thread->listeners[i].listener->fd = -1;
    }
    thread->listener_count = 0;
    thread->accept_again_ms = 0;
    thread->yielding = false;
}

/* Accepts no more from sockets that outlive us, and leaves them open: who connects waits for the
 * next life. */
static void front_listeners_leave(struct front_thread *thread)
{
    for (size_t i = 0; i < thread->listener_count; i++) {
        struct front_listener *own = &thread->listeners[i];

        if (!own->listener->outlives || own->event == NULL)
            continue;
        event_free(own->event);
        own->event = NULL;
    }
}

/* Does what the thread's new phase asks for. A phase may be left out: a later one implies it. */
static void front_follow(struct front_thread *thread, enum front_phase phase)
{
    switch (phase) {
    case FRONT_SERVES:
        break;
    case FRONT_LINGERS:
        conn_leave(thread->conns);
        break;
    case FRONT_LEAVES:
        conn_hasten(thread->conns);
        break;
    case FRONT_HANDS_OVER:
        front_listeners_leave(thread);
        conn_hasten(thread->conns);
        break;
    case FRONT_DRAINS:
        /* Clients that have connected before the drain still get an answer. */
        for (size_t i = 0; i < thread->listener_count; i++)
            if (thread->listeners[i].event != NULL)
                front_accept_some(&thread->listeners[i]);
        front_listeners_close(thread);
        conn_drain(thread->conns);
        break;
    }
    conn_turn_end(thread->conns);
    /* release: pairs with the acquire in front_followed() */
    atomic_store_explicit(&thread->phase, (int)phase, memory_order_release);
}

/* Looks whether other threads should have some of this one's connections. */
static void front_balance(struct front_thread *thread)
{
    struct front *front = thread->front;
    const uint64_t now_ns = clock_mono_ns();
    struct conn_activity activity;
    struct balance_wish wish;

    if (!balance_measure(&front->balance, thread->number, &thread->meter, now_ns))
        return;
    activity = conn_activity_take(thread->conns);
    wish = balance_decide(&front->balance, thread->number,
                          &(struct balance_window){.active = activity.active,
                                                   .large = activity.large,
                                                   .shed = activity.shed,
                                                   .now_ms = now_ns / CLOCK_NS_PER_MS});
    conn_pass_on(thread->conns, &front->threads[wish.to].passed, wish.count);
}

static void front_run(struct front_thread *thread)
{
    struct front *front = thread->front;

    /* acquire: pairs with the release in front_stop() */
    while (!atomic_load_explicit(&front->stopping, memory_order_acquire)) {
        /* acquire: pairs with the release in front_enter() */
        enum front_phase phase =
            (enum front_phase)atomic_load_explicit(&front->phase, memory_order_acquire);
        bool busy;

        if (phase != (enum front_phase)atomic_load_explicit(&thread->phase, memory_order_relaxed))
            front_follow(thread, phase);
        conn_take_passed(thread->conns);
        busy = conn_turn_begin(thread->conns);
        pulse_beat(0);
        event_base_loop(thread->base, busy ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
        conn_turn_end(thread->conns);
        if (thread->tick_due) {
            thread->tick_due = false;
            front_accept_resume(thread);
            conn_expire(thread->conns);
            if (front->thread_count > 1)
                front_balance(thread);
        }
    }
    conn_stop_waiting(thread->conns);
}

/* The listeners that this thread accepts from. */
static int front_listeners_add(struct front_thread *thread)
{
    struct listener_list *list = &thread->front->listeners;

    thread->listeners = calloc(list->count + 1, sizeof(*thread->listeners));
    if (!thread->listeners)
        return -ENOMEM;
    for (size_t i = 0; i < list->count; i++) {
        struct front_listener *own = &thread->listeners[thread->listener_count];

        if (list->items[i].thread != thread->number)
            continue;
        own->listener = &list->items[i];
        own->thread = thread;
        own->event = event_new(thread->base, own->listener->fd, EV_READ | EV_PERSIST,
                               front_on_acceptable, own);
        if (!own->event)
            return -ENOMEM;
        thread->listener_count++;
        if (event_add(own->event, NULL) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int front_loop_create(struct front_thread *thread)
{
    struct event_config *config = event_config_new();

    if (!config)
        return -ENOMEM;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    thread->base = event_base_new_with_config(config);
    event_config_free(config);
    if (!thread->base)
        return -ENOMEM;
    thread->wake =
        event_new(thread->base, thread->wake_fd, EV_READ | EV_PERSIST, front_on_wake, NULL);
    thread->tick = evtimer_new(thread->base, front_on_tick, thread);
    if (!thread->wake || !thread->tick || event_add(thread->wake, NULL) != 0)
        return -ENOMEM;
    front_tick_arm(thread);
    return 0;
}

/* Makes what the thread owns. front_thread_clear() undoes any part of it. */
static int front_thread_prepare(struct front_thread *thread)
{
    struct front *front = thread->front;
    struct metrics_thread *metrics = metrics_thread_create(front->parts.metrics);
    struct admission_parts parts;
    int err = front_loop_create(thread);

    if (err != 0)
        return err;
    thread->writer = journal_writer_create(front->parts.journal);
    thread->large_writer = journal_writer_create(front->parts.journal);
    thread->l1 = l1_thread_create(front->parts.l1);
    thread->inbox = waiter_inbox_create(front->parts.waiters, thread->wake_fd);
    if (!metrics || !thread->writer || !thread->large_writer || !thread->l1 || !thread->inbox)
        return -ENOMEM;
    parts = (struct admission_parts){
        .ring = front->parts.ring,
        .journal = front->parts.journal,
        .writer = thread->writer,
        .l1 = thread->l1,
        .metrics = metrics,
        .stream_keys = front->stream_keys,
        .inbox = thread->inbox,
    };
    thread->admission = admission_create(&parts);
    parts.writer = thread->large_writer;
    thread->large = admission_create(&parts);
    if (!thread->admission || !thread->large)
        return -ENOMEM;
    thread->conns = conn_set_create(&(struct conn_parts){
        .shared = &front->shared,
        .base = thread->base,
        .admission = thread->admission,
        .large = thread->large,
        .metrics = metrics,
        .thread_count = front->thread_count,
        .inbox = thread->inbox,
        .passed = &thread->passed,
    });
    if (!thread->conns)
        return -ENOMEM;
    return front_listeners_add(thread);
}

static void front_thread_clear(struct front_thread *thread)
{
    front_listeners_close(thread);
    free(thread->listeners);
    conn_set_destroy(thread->conns);
    admission_destroy(thread->large);
    admission_destroy(thread->admission);
    waiter_inbox_destroy(thread->inbox);
    if (thread->l1)
        l1_thread_destroy(thread->l1);
    if (thread->large_writer)
        journal_writer_destroy(thread->large_writer);
    if (thread->writer)
        journal_writer_destroy(thread->writer);
    if (thread->tick)
        event_free(thread->tick);
    if (thread->wake)
        event_free(thread->wake);
    if (thread->base)
        event_base_free(thread->base);
}

static void *front_thread_main(void *arg)
{
    struct front_thread *thread = arg;
    char name[16];
    int err;

    snprintf(name, sizeof(name), "front-%u", thread->number);
    pthread_setname_np(pthread_self(), name);
    err = front_thread_prepare(thread);
    thread->start_error = err;
    sem_post(&thread->started);
    pulse_join(name);
    (void)timeslice_set(SLICE_NS);
    balance_meter_open(&thread->meter);
    if (err == 0)
        front_run(thread);
    balance_meter_close(&thread->meter);
    pulse_leave();
    front_thread_clear(thread);
    return NULL;
}

/* Starts one thread, with all signals blocked, and waits until it is ready. */
static int front_thread_start(struct front *front, unsigned number)
{
    struct front_thread *thread = &front->threads[number];
    sigset_t all, before;
    int err;

    thread->front = front;
    thread->number = number;
    sem_init(&thread->started, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&thread->thread, NULL, front_thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err == 0) {
        while (sem_wait(&thread->started) != 0)
            ;
        err = thread->start_error;
        if (err != 0)
            pthread_join(thread->thread, NULL);
    }
    if (err != 0)
        sem_destroy(&thread->started);
    return err;
}

static void front_threads_stop(struct front *front, unsigned count)
{
    /* release: pairs with the acquire in front_run() */
    atomic_store_explicit(&front->stopping, true, memory_order_release);
    for (unsigned i = 0; i < count; i++)
        front_wake(&front->threads[i]);
    for (unsigned i = 0; i < count; i++) {
        pthread_join(front->threads[i].thread, NULL);
        sem_destroy(&front->threads[i].started);
    }
    for (unsigned i = 0; i < front->thread_count; i++)
        conn_inbox_close(&front->threads[i].passed, &front->shared);
}

size_t front_descriptor_reserve(const struct config *config)
{
    /* One name may be two addresses, as localhost is. */
    size_t listeners =
        2 * (config->server_threads * config->server_address_count + config->admin_address_count);

    return DESCRIPTORS_OTHER + listeners + FRONT_ADMIN_CONNECTIONS_MAX +
           DESCRIPTORS_THREAD * config->server_threads +
           DESCRIPTORS_WORKER * config->worker_threads +
           DESCRIPTORS_INSERT * config->clickhouse_max_inflight + config->stream_count;
}

/* Divides the descriptors that the rest of the process leaves between connections and refused
 * connections. */
static void front_connections_limit(struct conn_shared *shared, const struct config *config)
{
    const size_t reserve = front_descriptor_reserve(config);
    struct rlimit limit;
    size_t room = SIZE_MAX;

    shared->connections_max = config->server_max_connections;
    shared->refused_max = REFUSED_MAX;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return;
    /* The daemon does not start with less (limits.c). */
    room = limit.rlim_cur > reserve ? limit.rlim_cur - reserve : 0;
    if (shared->refused_max > room / 4)
        shared->refused_max = room / 4;
    room -= shared->refused_max;
    if (shared->connections_max > room)
        shared->connections_max = room;
}

int front_reload(struct front *front)
{
    const struct config *config = config_current(front->parts.config);
    struct front_routes *routes = calloc(1, sizeof(*routes));

    if (!routes)
        return -ENOMEM;
    for (; front->stream_count < config->stream_count; front->stream_count++)
        event_id_key_derive(journal_secret(front->parts.journal),
                            config->streams[front->stream_count].name,
                            &front->stream_keys[front->stream_count]);
    route_init(&routes->table, config);
    routes->before = front->routes;
    front->routes = routes;
    /* release: pairs with the acquire in request_find_stream() */
    atomic_store_explicit(&front->shared.routes, &routes->table, memory_order_release);
    return 0;
}

/* Makes what threads share: each may pass connections on to any other from its first turn to its
 * last one. So it is there before the first thread runs, and until all have ended. */
static int front_threads_create(struct front *front)
{
    front->threads = calloc(front->thread_count, sizeof(*front->threads));
    front->balance.loads = calloc(front->thread_count, sizeof(*front->balance.loads));
    if (!front->threads || !front->balance.loads)
        return -ENOMEM;
    front->balance.count = front->thread_count;
    for (unsigned i = 0; i < front->thread_count; i++)
        front->threads[i].wake_fd = -1;
    for (unsigned i = 0; i < front->thread_count; i++) {
        struct front_thread *thread = &front->threads[i];

        thread->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (thread->wake_fd < 0)
            return -errno;
        thread->passed.wake_fd = thread->wake_fd;
        /* Nobody gives it anything before it runs. */
        atomic_init(&front->balance.loads[i].awake, BALANCE_WHOLE);
    }
    return 0;
}

static void front_free(struct front *front)
{
    for (unsigned i = 0; front->threads != NULL && i < front->thread_count; i++)
        if (front->threads[i].wake_fd >= 0)
            close(front->threads[i].wake_fd);
    while (front->routes) {
        struct front_routes *routes = front->routes;

        front->routes = routes->before;
        free(routes);
    }
    quota_destroy(front->shared.quota);
    free(front->balance.loads);
    free(front->threads);
    free(front);
}

int front_start(struct front **out, const struct front_parts *parts, char error[FRONT_ERROR_MAX])
{
    const struct config *config = config_current(parts->config);
    struct front *front = calloc(1, sizeof(*front));
    int err = -ENOMEM;

    if (!front)
        goto no_memory;
    front->parts = *parts;
    front->thread_count = (unsigned)config->server_threads;
    err = front_threads_create(front);
    if (err != 0) {
        snprintf(error, FRONT_ERROR_MAX, "cannot start a front-end thread: %s", strerror(-err));
        goto free_front;
    }
    err = -ENOMEM;
    if (front_reload(front) != 0)
        goto no_memory;
    front->shared.config = parts->config;
    front->shared.health = parts->health;
    front->shared.metrics = parts->metrics;
    front->shared.refusals = parts->refusals;
    front->shared.replay_key = parts->replay_key;
    front->shared.schemas = parts->schemas;
    front->shared.budget.max = config->server_max_buffers_bytes;
    front->shared.quota = quota_create(config->server_max_connections);
    if (!front->shared.quota)
        goto no_memory;
    front_connections_limit(&front->shared, config);
    err = listener_open_all(&front->listeners,
                            &(struct listener_wish){.addresses = config->server_addresses,
                                                    .address_count = config->server_address_count,
                                                    .thread_count = front->thread_count,
                                                    .inherited = parts->inherited},
                            error);
    if (err != 0)
        goto free_front;
    for (unsigned i = 0; i < front->thread_count; i++) {
        err = front_thread_start(front, i);
        if (err != 0) {
            snprintf(error, FRONT_ERROR_MAX, "cannot start a front-end thread: %s", strerror(-err));
            front_threads_stop(front, i);
            listener_close_all(&front->listeners);
            goto free_front;
        }
    }
    health_clear(parts->health, "starting"); /* raised by admin_start() */
    *out = front;
    return 0;

no_memory:
    snprintf(error, FRONT_ERROR_MAX, "cannot start the front end: out of memory");
free_front:
    if (front)
        front_free(front);
    return err;
}

void front_enter(struct front *front, enum front_phase phase)
{
    /* release: pairs with the acquire in front_run() */
    atomic_store_explicit(&front->phase, (int)phase, memory_order_release);
    for (unsigned i = 0; i < front->thread_count; i++)
        front_wake(&front->threads[i]);
}

bool front_followed(const struct front *front)
{
    const int phase = atomic_load_explicit(&front->phase, memory_order_relaxed);

    /* acquire: pairs with the release in front_follow() */
    for (unsigned i = 0; i < front->thread_count; i++)
        if (atomic_load_explicit(&front->threads[i].phase, memory_order_acquire) != phase)
            return false;
    return true;
}

size_t front_connections(const struct front *front)
{
    return atomic_load_explicit(&front->shared.connections, memory_order_relaxed);
}

size_t front_elders(const struct front *front)
{
    return atomic_load_explicit(&front->shared.elders, memory_order_relaxed);
}

int front_keep_sockets(struct front *front, struct inherited *kept)
{
    return listener_keep(&front->listeners, false, kept);
}

size_t front_waiting(const struct front *front)
{
    return atomic_load_explicit(&front->shared.waiting, memory_order_relaxed);
}

void front_stop(struct front *front)
{
    front_threads_stop(front, front->thread_count);
    listener_close_all(&front->listeners);
    front_free(front);
}
