/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn.c - connections over socket pairs, with the real admission behind them.
 */
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
#define MAX_BODY 100000

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
static struct waiter_table *waiters;
static struct waiter_inbox *inbox;
static int wake_fd;
static struct event_base *base;
static struct conn_set *set;
static int client = -1;
static bool closed; /* the server has closed, or said that it sends no more */
static char got[1 << 20];
static size_t got_len;

static void make_parts(size_t ring_capacity)
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
    base = event_base_new();
}

static void connect_client(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    client = pair[0];
    closed = false;
    conn_accept(set, pair[1]);
}

static int start(void **state)
{
    (void)state;
    config = (struct config){
        .server_max_connections = 2,
        .server_max_head_bytes = MAX_HEAD,
        .server_max_body_bytes = MAX_BODY,
        .server_max_buffers_bytes = 1 << 20,
        .server_head_timeout_ms = 3600000,
        .server_body_timeout_ms = 3600000,
        .server_idle_timeout_ms = 3600000,
        .streams = {{.name = "s", .path = "/v1/s", .id_fields = {"id"}, .id_count = 1}},
        .stream_count = 1};
    atomic_store(&config_ref.current, &config);
    waiters = waiter_table_create(2, 1000);
    wake_fd = eventfd(0, EFD_NONBLOCK);
    inbox = waiter_inbox_create(waiters, wake_fd);
    make_parts(1000);
    route_init(&routes, &config);
    shared = (struct conn_shared){.config = &config_ref,
                                  .routes = &routes,
                                  .metrics = metrics,
                                  .budget = {.max = config.server_max_buffers_bytes},
                                  .connections_max = config.server_max_connections};
    set = conn_set_create(&(struct conn_parts){.shared = &shared,
                                               .base = base,
                                               .admission = admission,
                                               .metrics = thread,
                                               .thread_count = 1,
                                               .inbox = inbox});
    assert_non_null(set);
    connect_client();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    conn_set_destroy(set);
    /* Whatever happened, nothing is held when all is closed. */
    assert_int_equal(atomic_load(&shared.budget.used), 0);
    assert_int_equal(atomic_load(&shared.connections), 0);
    assert_int_equal(atomic_load(&shared.waiting), 0);
    event_base_free(base);
    admission_destroy(admission);
    l1_thread_destroy(l1_thread);
    journal_writer_destroy(writer);
    ring_close(ring);
    l1_destroy(l1);
    journal_close(journal);
    ring_destroy(ring);
    metrics_destroy(metrics);
    waiter_inbox_destroy(inbox);
    waiter_table_destroy(waiters);
    close(wake_fd);
    close(client);
    return 0;
}

static void turn(void)
{
    conn_turn_begin(set);
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    conn_turn_end(set);
}

static void receive(void)
{
    ssize_t n = recv(client, got + got_len, sizeof(got) - 1 - got_len, 0);

    if (n > 0)
        got_len += (size_t)n;
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        closed = true;
    got[got_len] = '\0';
}

/* Sends all of it and runs turns until nothing moves any more. */
static const char *talk_bytes(const char *data, size_t len)
{
    size_t sent = 0;

    got_len = 0;
    for (int i = 0, idle = 0; idle < 8; i++) {
        ssize_t n = len > sent ? send(client, data + sent, len - sent, MSG_NOSIGNAL) : 0;
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

static const char *talk(const char *text)
{
    return talk_bytes(text, strlen(text));
}

#define EXPECT(answer, text) assert_non_null(strstr((answer), (text)))
#define HEAD "POST /v1/s HTTP/1.1\r\nHost: a\r\n"

static size_t count(const char *text, const char *what)
{
    size_t n = 0;

    while ((text = strstr(text, what))) {
        n++;
        text += strlen(what);
    }
    return n;
}

static void an_event_is_accepted_and_again_a_duplicate(void **state)
{
    static const char request[] = HEAD "Content-Length: 8\r\n\r\n{\"id\":1}";
    struct record *record;

    (void)state;
    EXPECT(talk(request), "{\"accepted\":1,\"duplicates\":0}");
    EXPECT(talk(request), "{\"accepted\":0,\"duplicates\":1}");
    assert_false(closed);
    assert_int_equal(ring_take(ring, &record, 1), 1);
    assert_memory_equal(record->body, "{\"id\":1}\n", 9);
}

static void a_request_torn_at_every_byte_is_the_same_request(void **state)
{
    static const char request[] = "\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\n"
                                  "4\r\n{\"id\r\n7;x=y\r\n\":\"t\"} \r\n0\r\nA: b\r\n\r\n";

    (void)state;
    for (size_t i = 0; i + 1 < sizeof(request) - 1; i++) {
        talk_bytes(request + i, 1);
        assert_int_equal(got_len, 0);
    }
    EXPECT(talk_bytes(request + sizeof(request) - 2, 1), "\"accepted\":1,");
    assert_false(closed);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    static char text[200 * 128];
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 200; i++) {
        char body[16];

        /* Every third one has no id, so that the order shows. */
        snprintf(body, sizeof(body), i % 3 ? "{\"id\":%d}" : "{\"no\":%d}", i);
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                HEAD "Content-Length: %zu\r\n\r\n%s", strlen(body), body);
    }
    talk_bytes(text, len);
    assert_int_equal(count(got, "HTTP/1.1 "), 200);
    for (int i = 0; i < 200; i++) {
        const char *at = strstr(i ? got + 1 : got, "HTTP/1.1 ");

        assert_memory_equal(at, i % 3 ? "HTTP/1.1 202" : "HTTP/1.1 400", 12);
        memset((char *)(uintptr_t)at, ' ', 8);
    }
}

static void a_body_larger_than_a_block_arrives_whole(void **state)
{
    static char text[MAX_BODY + 200];
    size_t len =
        (size_t)snprintf(text, sizeof(text), HEAD "Content-Length: %d\r\n\r\n{\"id\":\"", MAX_BODY);
    size_t head = len - 7;

    (void)state;
    text[len++] = 'x';
    memcpy(text + len, "\",\"p\":\"", 7);
    len += 7;
    memset(text + len, 'y', head + MAX_BODY - len - 2);
    memcpy(text + head + MAX_BODY - 2, "\"}", 2);
    EXPECT(talk_bytes(text, head + MAX_BODY), "\"accepted\":1,");
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":2}"), "\"accepted\":1,");
}

static void a_large_chunked_body_arrives_whole_and_too_large_is_413(void **state)
{
    static char text[MAX_BODY * 2];
    size_t len;

    (void)state;
    /* Two chunks: the id's event, exactly MAX_BODY long, then one byte more. */
    for (int extra = 0; extra < 2; extra++) {
        len = (size_t)snprintf(text, sizeof(text),
                               HEAD "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"id\":\"%d\r\n%x\r\n",
                               extra, MAX_BODY + extra - 8);
        memset(text + len, 'z', (size_t)(MAX_BODY + extra - 8));
        memcpy(text + len, "\"", 1);
        memset(text + len + 1, ' ', (size_t)(MAX_BODY + extra - 10));
        memcpy(text + len + MAX_BODY + extra - 9, "}", 1);
        len += (size_t)(MAX_BODY + extra - 8);
        memcpy(text + len, "\r\n0\r\n\r\n", 7);
        EXPECT(talk_bytes(text, len + 7), extra ? "HTTP/1.1 413" : "\"accepted\":1,");
    }
    assert_true(closed);
}

static void every_refusal_has_its_status_and_keeps_what_it_can(void **state)
{
    static const struct {
        const char *request;
        const char *status;
        const char *code;
        bool closes;
    } cases[] = {
        {"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", "404", "not_found", false},
        {"POST /v1/s/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "404", "not_found",
         false},
        {"GET /v1/s HTTP/1.1\r\nHost: a\r\n\r\n", "405", "method_not_allowed", false},
        {"PUT /v1/s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         "405", "method_not_allowed", false},
        {HEAD "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "415",
         "unsupported_encoding", false},
        {"POST /v1/s?a=b&ack=all HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "400",
         "bad_request", false},
        {"POST /v1/s?ack=disk&ack=disk HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "400",
         "ack is given twice.", false},
        {HEAD "\r\n", "411", "length_required", true},
        {HEAD "Content-Length: 100001\r\n\r\n", "413", "too_large", true},
        {HEAD "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "400", "bad_request", true},
        {HEAD "Transfer-Encoding: gzip\r\n\r\n", "501", "not_implemented", true},
        {"POST /v1/s HTTP/2.0\r\nHost: a\r\n\r\n", "505", "unsupported_version", true},
        {HEAD "Transfer-Encoding: chunked\r\n\r\nx\r\n", "400", "bad_request", true},
        {HEAD "Content-Length: 3\r\n\r\n{}}", "400", "missing_id", false},
        {HEAD "Content-Length: 3\r\n\r\n{]}", "400", "invalid_json", false},
        {HEAD "Content-Length: 9\r\n\r\n{\"id\":\"\"}", "400", "invalid_id", false},
        {HEAD "Content-Length: 2\r\n\r\n[]", "400", "empty", false},
        {HEAD "Content-Length: 0\r\n\r\n", "400", "empty", false},
        {"POST /v1/no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
         "404", "not_found", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char line[16];

        snprintf(line, sizeof(line), "HTTP/1.1 %s ", cases[i].status);
        talk(cases[i].request);
        if (strncmp(got, line, strlen(line)) != 0)
            fail_msg("%s\n-> %s", cases[i].request, got);
        assert_int_equal(count(got, "\r\nDate: "), 1);
        EXPECT(got, cases[i].code);
        assert_int_equal(strstr(got, "Connection: close") != NULL, cases[i].closes);
        assert_int_equal(closed, cases[i].closes);
        if (closed) {
            close(client);
            connect_client();
            turn();
        }
    }
    assert_int_equal(atomic_load(&shared.connections), 1);
}

static void a_refused_client_may_go_on_sending_until_it_closes(void **state)
{
    (void)state;
    EXPECT(talk(HEAD "Content-Length: 100001\r\n\r\n"), "HTTP/1.1 413");
    assert_true(closed);
    assert_int_equal(send(client, "{}", 2, MSG_NOSIGNAL), 2);
    turn();
    assert_int_equal(atomic_load(&shared.connections), 1);
    shutdown(client, SHUT_WR);
    turn();
    turn();
    assert_int_equal(atomic_load(&shared.connections), 0);
}

static void an_error_names_event_and_offset(void **state)
{
    (void)state;
    EXPECT(talk(HEAD "Content-Length: 22\r\n\r\n[{\"id\":5},{\"id\":null}]"),
           "\"event\":1,\"offset\":16}");
    /* Nothing of it was kept. */
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":5}"), "\"accepted\":1,");
}

static void a_head_too_large_is_431_at_the_exact_byte(void **state)
{
    static char text[MAX_HEAD + 64];

    (void)state;
    for (size_t size = MAX_HEAD; size <= MAX_HEAD + 1; size++) {
        size_t len = (size_t)snprintf(text, sizeof(text), HEAD "Content-Length: 9\r\nX: ");

        memset(text + len, 'x', size - len - 4);
        memcpy(text + size - 4, "\r\n\r\n", 4);
        memcpy(text + size, "{\"id\":31}", 9);
        EXPECT(talk_bytes(text, size + 9), size == MAX_HEAD ? "HTTP/1.1 202" : "HTTP/1.1 431");
    }
    assert_true(closed);
}

static void expect_is_answered_with_continue_before_the_body(void **state)
{
    (void)state;
    assert_string_equal(talk(HEAD "Expect: 100-continue\r\nContent-Length: 8\r\n\r\n"),
                        "HTTP/1.1 100 Continue\r\n\r\n");
    EXPECT(talk("{\"id\":9}"), "\"accepted\":1,");
    /* The body is already there: nobody waits. */
    assert_int_equal(
        count(talk(HEAD "Expect: 100-continue\r\nContent-Length: 8\r\n\r\n{\"id\":9}"), "HTTP/1.1"),
        1);
}

static void http_1_0_closes_unless_it_asks_to_be_kept(void **state)
{
    (void)state;
    EXPECT(
        talk(
            "POST /v1/s HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 8\r\n\r\n{\"id\":1}"),
        "\r\nConnection: keep-alive\r\n");
    assert_false(closed);
    EXPECT(talk("POST /v1/s HTTP/1.0\r\nContent-Length: 8\r\n\r\n{\"id\":2}"),
           "\r\nConnection: close\r\n");
    assert_true(closed);
}

static void a_half_closed_client_still_gets_its_answer(void **state)
{
    static const char request[] = HEAD "Content-Length: 8\r\n\r\n{\"id\":1}";

    (void)state;
    assert_true(send(client, request, sizeof(request) - 1, 0) > 0);
    shutdown(client, SHUT_WR);
    EXPECT(talk(""), "\"accepted\":1,");
    assert_true(closed);
}

static void head_of_a_refused_method_has_no_body(void **state)
{
    (void)state;
    talk("HEAD /v1/s HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_memory_equal(got, "HTTP/1.1 405", 12);
    assert_memory_equal(got + got_len - 4, "\r\n\r\n", 4);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
}

static void a_full_ring_is_503_and_leaves_nothing(void **state)
{
    struct record *taken[1000];

    (void)state;
    assert_true(ring_reserve(ring, 1000));
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "HTTP/1.1 503");
    EXPECT(got, "\r\nRetry-After: 1\r\n");
    EXPECT(got, "\"overloaded\"");
    assert_false(closed);
    ring_cancel(ring, 1000);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
    assert_int_equal(ring_take(ring, taken, 1000), 1);
}

static void one_connection_too_many_is_told_so(void **state)
{
    int first = client;
    int second;

    (void)state;
    connect_client();
    second = client;
    connect_client();
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "HTTP/1.1 503");
    assert_true(closed);
    assert_int_equal(atomic_load(&shared.connections), 2);
    close(client);
    close(second);
    client = first;
    turn();
    turn();
    assert_int_equal(atomic_load(&shared.connections), 1);
    closed = false;
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
}

static void without_buffers_left_the_answer_is_503(void **state)
{
    (void)state;
    assert_true(buffer_budget_take(&shared.budget, 1 << 20));
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "HTTP/1.1 503");
    assert_true(closed);
    assert_int_equal(send(client, "{}", 2, MSG_NOSIGNAL), 2);
    buffer_budget_give(&shared.budget, 1 << 20);
}

static void slow_clients_get_408_and_idle_ones_are_closed_silently(void **state)
{
    static const char *const parts[] = {"POST /v1", HEAD "Content-Length: 8\r\n\r\n{", ""};

    (void)state;
    config.server_head_timeout_ms = 20;
    config.server_body_timeout_ms = 20;
    config.server_idle_timeout_ms = 20;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint64_t deadline = clock_mono_ms() + 5000;

        talk(parts[i]);
        while (!closed && clock_mono_ms() < deadline) {
            turn();
            conn_expire(set);
            receive();
        }
        assert_true(closed);
        if (parts[i][0])
            EXPECT(got, "HTTP/1.1 408");
        else
            assert_int_equal(got_len, 0);
        close(client);
        connect_client();
    }
}

static void a_client_that_does_not_read_is_held_back_and_then_served(void **state)
{
    static char text[CONFIG_STREAMS_MAX * 100];
    size_t len = 0, sent = 0, answers = 0;
    static const size_t requests = 20000;
    size_t total;

    (void)state;
    for (int i = 0; i < 32; i++)
        len +=
            (size_t)snprintf(text + len, sizeof(text) - len, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    total = len / 32 * requests;
    for (int i = 0; i < 2000; i++) {
        while (sent < total) {
            ssize_t n = send(client, text + sent % len, len - sent % len, MSG_NOSIGNAL);

            if (n <= 0)
                break;
            sent += (size_t)n;
        }
        turn();
    }
    /* It reads nothing, so it is not read from. */
    assert_true(sent < total);
    for (int i = 0; i < TURNS_MAX && answers < requests; i++) {
        ssize_t n = sent < total
                        ? send(client, text + sent % len,
                               total - sent < len - sent % len ? total - sent : len - sent % len,
                               MSG_NOSIGNAL)
                        : 0;

        if (n > 0)
            sent += (size_t)n;
        turn();
        got_len = 0;
        receive();
        assert_false(closed);
        /* Each answer has one 'l' more: count a mark that a read can hardly tear: '{'. */
        answers += count(got, "{");
    }
    assert_int_equal(answers, requests);
}

static void a_drain_finishes_what_has_begun_and_closes_the_idle(void **state)
{
    int idle = client;

    (void)state;
    connect_client();
    talk(HEAD "Content-Length: 8\r\n\r\n{\"id\"");
    conn_drain(set);
    conn_turn_end(set);
    assert_int_equal(atomic_load(&shared.connections), 1); /* the idle one holds up no drain */
    EXPECT(talk(":7}"), "HTTP/1.1 202");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
    assert_int_equal(atomic_load(&shared.connections), 0);
    close(client);
    client = idle;
    closed = false;
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":8}"), "HTTP/1.1 503");
    EXPECT(got, "\"draining\"");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
}

static void a_request_that_arrived_before_the_drain_is_answered(void **state)
{
    static const char request[] = HEAD "Content-Length: 8\r\n\r\n{\"id\":1}";

    (void)state;
    assert_true(send(client, request, sizeof(request) - 1, 0) > 0);
    conn_drain(set);
    conn_turn_end(set);
    EXPECT(talk(""), "HTTP/1.1 202");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
}

#define WAIT(query, prefer, id) \
    "POST /v1/s" query " HTTP/1.1\r\nHost: a\r\n" prefer "Content-Length: 8\r\n\r\n{\"id\":" id "}"

/* What worker and flusher would do: takes everything out of the ring and out of LIVE. */
static void finish(enum record_state state)
{
    struct record *records[64];
    size_t n = ring_take(ring, records, 64);

    journal_finish(journal, records, n, state);
}

static void a_waiting_request_is_answered_when_its_events_are_inserted(void **state)
{
    (void)state;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "1")), "");
    assert_int_equal(atomic_load(&shared.waiting), 1);
    finish(RECORD_INSERTED);
    EXPECT(talk(""), "HTTP/1.1 200 OK\r\n");
    EXPECT(got, "{\"accepted\":1,\"duplicates\":0}");
    assert_int_equal(atomic_load(&shared.waiting), 0);
    /* Who lost that answer asks again; and the connection is as good as new. */
    EXPECT(talk(WAIT("", "Prefer: respond-async, wait=5\r\n", "1")), "HTTP/1.1 200 OK\r\n");
    EXPECT(got, "{\"accepted\":0,\"duplicates\":1}");
    /* An original that nobody waited for can still be waited for. */
    EXPECT(talk(WAIT("", "", "2")), "HTTP/1.1 202 ");
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "2")), "");
    finish(RECORD_INSERTED);
    EXPECT(talk(""), "HTTP/1.1 200 OK\r\n");
    EXPECT(talk(WAIT("", "", "3")), "HTTP/1.1 202 ");
    finish(RECORD_INSERTED);
    EXPECT(talk(WAIT("?ack=clickhouse", "", "3")), "HTTP/1.1 200 OK\r\n");
    assert_false(closed);
}

static void a_rejected_event_is_422_and_says_which(void **state)
{
    static const char body[] = "{\"id\":1} {\"id\":2} {\"id\":3} {\"id\":2}";
    struct record *records[3];
    char request[256];

    (void)state;
    snprintf(request, sizeof(request),
             "POST /v1/s?ack=clickhouse HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    assert_string_equal(talk(request), "");
    assert_int_equal(ring_take(ring, records, 3), 3);
    waiter_reason(waiters, records[1], 27, (struct slice){"no \"date\"", 9});
    journal_finish(journal, records, 2, RECORD_DEAD);
    assert_string_equal(talk(""), "");
    journal_finish(journal, records + 2, 1, RECORD_INSERTED);
    EXPECT(talk(""), "HTTP/1.1 422 ");
    EXPECT(got, "{\"error\":\"rejected\",\"message\":\"ClickHouse rejected 3 of the request's "
                "events (1 of them a duplicate of a rejected event). ");
    EXPECT(got, "\"rejected\":[{\"event\":0,\"code\":0,\"message\":\"It was rejected before.\"},"
                "{\"event\":1,\"code\":27,\"message\":\"no \\\"date\\\"\"},"
                "{\"event\":3,\"duplicate\":true,\"code\":27,\"message\":\"no "
                "\\\"date\\\"\"}]}");
    assert_int_equal(atomic_load(&shared.waiting), 0);
}

static void what_is_pipelined_behind_a_waiting_request_waits_too(void **state)
{
    (void)state;
    EXPECT(talk(WAIT("", "", "1") WAIT("?ack=clickhouse", "", "2") WAIT("", "", "3")
                    WAIT("?ack=clickhouse", "", "4") WAIT("?ack=none", "", "5")),
           "HTTP/1.1 202 ");
    assert_int_equal(count(got, "HTTP/1.1 "), 1);
    /* More of it arrives meanwhile, and does not make the loop spin for ever. */
    assert_string_equal(talk(WAIT("", "", "6")), "");
    finish(RECORD_INSERTED);
    talk("");
    assert_int_equal(count(got, "HTTP/1.1 "), 2);
    assert_true(strstr(got, "HTTP/1.1 200") < strstr(got, "HTTP/1.1 202"));
    finish(RECORD_INSERTED);
    talk("");
    assert_int_equal(count(got, "HTTP/1.1 200"), 1);
    assert_int_equal(count(got, "HTTP/1.1 202"), 2);
    assert_false(closed);
}

static void time_that_runs_out_is_202(void **state)
{
    (void)state;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "Prefer: wait=1\r\n", "1")), "");
    for (uint64_t until = clock_mono_ms() + 5000; got_len == 0 && clock_mono_ms() < until;) {
        conn_expire(set);
        turn();
        receive();
    }
    EXPECT(got, "HTTP/1.1 202 ");
    assert_int_equal(count(got, "HTTP/1.1 "), 1);
    finish(RECORD_INSERTED);
    assert_string_equal(talk(""), "");
    EXPECT(talk(WAIT("?ack=clickhouse", "", "1")), "HTTP/1.1 200 ");
}

/* Both at once: its events are inserted in the turn in which its time is up. */
static void a_request_is_answered_once(void **state)
{
    uint64_t until = clock_mono_ms() + 1100;

    (void)state;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "Prefer: wait=1\r\n", "1")), "");
    while (clock_mono_ms() < until)
        turn();
    finish(RECORD_INSERTED);
    conn_expire(set);
    EXPECT(talk(""), "HTTP/1.1 200 ");
    assert_int_equal(count(got, "HTTP/1.1 "), 1);
}

static void one_waiting_request_too_many_is_503_and_leaves_nothing(void **state)
{
    static const char more[] = WAIT("?ack=clickhouse", "", "3");
    int first = client, second;

    (void)state;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "1")), "");
    config.server_max_connections = shared.connections_max = 3;
    connect_client();
    second = client;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "2")), "");
    connect_client();
    /* What stands behind the refused one is served all the same. */
    EXPECT(talk(WAIT("?ack=clickhouse", "", "3") WAIT("", "", "4")), "HTTP/1.1 503 ");
    EXPECT(got, "\"overloaded\"");
    EXPECT(got, "HTTP/1.1 202 ");
    assert_false(closed);
    finish(RECORD_INSERTED);
    assert_string_equal(talk(""), "");
    assert_string_equal(talk(more), "");
    finish(RECORD_INSERTED);
    EXPECT(talk(""), "{\"accepted\":1,\"duplicates\":0}");
    close(first);
    close(second);
}

static void a_client_that_goes_away_leaves_no_waiter_behind(void **state)
{
    (void)state;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "1") "rest"), "");
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    assert_string_equal(talk(""), "");
    assert_int_equal(atomic_load(&shared.waiting), 1);
    finish(RECORD_INSERTED);
    EXPECT(talk(""), "HTTP/1.1 200 ");
    connect_client();
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "2")), "");
    close(client);
    client = -1;
    for (int i = 0; i < 5; i++)
        turn();
    finish(RECORD_INSERTED);
    for (int i = 0; i < 5; i++)
        turn();
    assert_int_equal(atomic_load(&shared.waiting), 0);
    /* Whoever is still waiting at the end is told what is known. */
    connect_client();
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "3")), "");
    conn_drain(set);
    conn_stop_waiting(set);
    EXPECT(talk(""), "HTTP/1.1 202 ");
    EXPECT(got, "Connection: close");
    assert_true(closed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_is_accepted_and_again_a_duplicate),
        TEST(a_request_torn_at_every_byte_is_the_same_request),
        TEST(pipelined_requests_are_answered_in_order),
        TEST(a_body_larger_than_a_block_arrives_whole),
        TEST(a_large_chunked_body_arrives_whole_and_too_large_is_413),
        TEST(every_refusal_has_its_status_and_keeps_what_it_can),
        TEST(a_refused_client_may_go_on_sending_until_it_closes),
        TEST(an_error_names_event_and_offset),
        TEST(a_head_too_large_is_431_at_the_exact_byte),
        TEST(expect_is_answered_with_continue_before_the_body),
        TEST(http_1_0_closes_unless_it_asks_to_be_kept),
        TEST(a_half_closed_client_still_gets_its_answer),
        TEST(head_of_a_refused_method_has_no_body),
        TEST(a_full_ring_is_503_and_leaves_nothing),
        TEST(one_connection_too_many_is_told_so),
        TEST(without_buffers_left_the_answer_is_503),
        TEST(slow_clients_get_408_and_idle_ones_are_closed_silently),
        TEST(a_client_that_does_not_read_is_held_back_and_then_served),
        TEST(a_drain_finishes_what_has_begun_and_closes_the_idle),
        TEST(a_request_that_arrived_before_the_drain_is_answered),
        TEST(a_waiting_request_is_answered_when_its_events_are_inserted),
        TEST(a_rejected_event_is_422_and_says_which),
        TEST(what_is_pipelined_behind_a_waiting_request_waits_too),
        TEST(time_that_runs_out_is_202),
        TEST(a_request_is_answered_once),
        TEST(one_waiting_request_too_many_is_503_and_leaves_nothing),
        TEST(a_client_that_goes_away_leaves_no_waiter_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
