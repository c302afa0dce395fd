/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_fixture.h - a set of connections over socket pairs, with the real admission behind them.
 */
#ifndef CONN_FIXTURE_H
#define CONN_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "alloy/clock.h"
#include "conn.h"

#define TURNS_MAX 20000
#define MAX_HEAD 1024
/* A test program may want more. */
#ifndef MAX_BODY
#define MAX_BODY 100000
#define MAX_BUFFERS (1 << 20)
#define RING_CAPACITY 1000
#endif

static struct config config;
static struct config_ref config_ref;
static struct route_table routes;
static struct event_id_key key;
static struct conn_shared shared;
static struct ring *ring;
static struct journal *journal;
static struct journal_writer *writer;
static struct l1 *l1;
static struct l1_thread *l1_thread;
static struct metrics *metrics;
static struct metrics_thread *thread;
static struct admission *admission;
static struct journal_writer *large_writer;
static struct admission *large;
static struct waiter_table *waiters;
static struct waiter_inbox *inbox;
static int wake_fd;
static struct event_base *base;
static struct conn_set *set;
static struct conn_inbox passed;
static int client = -1;
static int server_side; /* of the client that connected last */
static bool proxied;    /* connections begin with a PROXY header */
static bool closed;     /* the server has closed, or said that it sends no more */
static char got[1 << 20];
static size_t got_len;

static inline void make_parts(size_t ring_capacity)
{
    char error[JOURNAL_ERROR_MAX];
    static const char *const names[] = {"s"};
    const struct journal_options options = {.segment_bytes = 1 << 20,
                                            .max_bytes = 8 << 20,
                                            .sync = JOURNAL_SYNC_NEVER,
                                            .writer_count = 1,
                                            .stream_names = names,
                                            .stream_count = 1,
                                            .waiters = waiters};

    ring = ring_create(ring_capacity);
    assert_int_equal(journal_open(&journal, &options, error), 0);
    writer = journal_writer_create(journal);
    l1 = l1_create(100000, 600000, clock_mono_ms());
    l1_thread = l1_thread_create(l1);
    metrics = metrics_create();
    thread = metrics_thread_create(metrics);
    event_id_key_derive(journal_secret(journal), "s", &key);
    admission = admission_create(&(struct admission_parts){.ring = ring,
                                                           .journal = journal,
                                                           .writer = writer,
                                                           .l1 = l1_thread,
                                                           .metrics = thread,
                                                           .stream_keys = &key,
                                                           .inbox = inbox});
    large_writer = journal_writer_create(journal);
    large = admission_create(&(struct admission_parts){.ring = ring,
                                                       .journal = journal,
                                                       .writer = large_writer,
                                                       .l1 = l1_thread,
                                                       .metrics = thread,
                                                       .stream_keys = &key,
                                                       .inbox = inbox});
    base = event_base_new();
}

static inline void turn(void)
{
    conn_take_passed(set);
    conn_turn_begin(set);
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    conn_turn_end(set);
}

/* How the test's clients speak. */
#ifdef OVER_TLS
#include "client_tls.h"
#else
#include "client_plain.h"
#endif

static inline void connect_client(void)
{
    const struct address peer = {.family = ADDRESS_UNIX};
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    client = pair[0];
    server_side = pair[1];
    closed = false;
    conn_accept(set, pair[1], &peer, CLIENT_TLS);
    client_greet();
}

static inline int start(void **state)
{
    (void)state;
    config = (struct config){.server_cors_origins = "",
                             .server_proxy_protocol = proxied,
                             .server_max_connections = 2,
                             .server_max_head_bytes = MAX_HEAD,
                             .server_max_body_bytes = MAX_BODY,
                             .server_max_buffers_bytes = MAX_BUFFERS,
                             .server_head_timeout_ms = 3600000,
                             .server_body_timeout_ms = 3600000,
                             .server_idle_timeout_ms = 3600000,
                             .streams = {{.name = "s",
                                          .paths = {"/v1/s"},
                                          .path_count = 1,
                                          .ids = {{CONFIG_ID_MEMBER, "id", 0}},
                                          .id_count = 1}},
                             .stream_count = 1};
    config.tls = client_tls_of_server();
    atomic_store(&config_ref.current, &config);
    waiters = waiter_table_create(2, 1000);
    wake_fd = eventfd(0, EFD_NONBLOCK);
    inbox = waiter_inbox_create(waiters, wake_fd);
    make_parts(RING_CAPACITY);
    route_init(&routes, &config);
    shared = (struct conn_shared){.config = &config_ref,
                                  .routes = &routes,
                                  .metrics = metrics,
                                  .budget = {.max = config.server_max_buffers_bytes},
                                  .connections_max = config.server_max_connections,
                                  .refused_max = 4};
    set = conn_set_create(&(struct conn_parts){.shared = &shared,
                                               .base = base,
                                               .admission = admission,
                                               .large = large,
                                               .metrics = thread,
                                               .thread_count = 1,
                                               .inbox = inbox,
                                               .passed = &passed});
    assert_non_null(set);
    connect_client();
    return 0;
}

static inline int stop(void **state)
{
    (void)state;
    conn_set_destroy(set);
    /* Whatever happened, nothing is held when all is closed. */
    assert_int_equal(atomic_load(&shared.budget.used), 0);
    assert_int_equal(atomic_load(&shared.connections), 0);
    assert_int_equal(atomic_load(&shared.refused), 0);
    assert_int_equal(atomic_load(&shared.waiting), 0);
    assert_int_equal(atomic_load(&shared.handshakes), 0);
    event_base_free(base);
    admission_destroy(admission);
    admission_destroy(large);
    l1_thread_destroy(l1_thread);
    journal_writer_destroy(writer);
    journal_writer_destroy(large_writer);
    ring_close(ring);
    l1_destroy(l1);
    journal_close(journal);
    ring_destroy(ring);
    metrics_destroy(metrics);
    waiter_inbox_destroy(inbox);
    waiter_table_destroy(waiters);
    close(wake_fd);
    client_close(client);
    return 0;
}

static inline void receive(void)
{
    ssize_t n = client_receive(got + got_len, sizeof(got) - 1 - got_len);

    if (n > 0)
        got_len += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        closed = true;
    got[got_len] = '\0';
}

/* Sends all of it and runs turns until nothing moves any more. */
static inline const char *talk_bytes(const char *data, size_t len)
{
    size_t sent = 0;

    got_len = 0;
    for (int i = 0, idle = 0; idle < 8; i++) {
        ssize_t n = len > sent ? client_send(data + sent, len - sent) : 0;
        size_t before = got_len;

        assert_true(i < TURNS_MAX);
        if (n > 0)
            sent += (size_t)n;
        else if (n < 0 && errno != EAGAIN)
            len = sent;
        turn();
        receive();
        idle = n > 0 || got_len > before ? 0 : idle + 1;
    }
    return got;
}

static inline const char *talk(const char *text)
{
    return talk_bytes(text, strlen(text));
}

#define EXPECT(answer, text) assert_non_null(strstr((answer), (text)))
#define HEAD "POST /v1/s HTTP/1.1\r\nHost: a\r\n"

static inline size_t count(const char *text, const char *what)
{
    size_t n = 0;

    while ((text = strstr(text, what))) {
        n++;
        text += strlen(what);
    }
    return n;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

/* What a worker and the flusher would do with all that was accepted. Returns how much that was. */
static inline size_t take_all(void)
{
    static struct record *records[RING_CAPACITY];
    size_t n = ring_take(ring, records, RING_CAPACITY);

    if (n > 0)
        journal_finish(journal, records, n, RECORD_INSERTED);
    return n;
}

#endif
