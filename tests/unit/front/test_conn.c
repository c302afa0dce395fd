/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn.c - connections over socket pairs, with the real admission behind them.
 */
#include "conn_private.h"

#include "conn_fixture.h"

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
        {"POST /v1/s/x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", "404", "not_found",
         false},
        {"GET /v1/s HTTP/1.1\r\nHost: a\r\n\r\n", "405", "method_not_allowed", false},
        {"HEAD /v1/s?data=[1] HTTP/1.1\r\nHost: a\r\n\r\n", "405", "", false},
        {"GET /v1/s?data= HTTP/1.1\r\nHost: a\r\n\r\n", "405", "method_not_allowed", false},
        {"GET /v1/s?data=[1 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "invalid_json", false},
        {"GET /v1/s?a=1&data=%5 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "bad_request", false},
        {"GET /v1/s?data=[] HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n[]", "405",
         "method_not_allowed", false},
        {"PUT /v1/s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
         "405", "method_not_allowed", false},
        {HEAD "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", "415", "unsupported_encoding",
         false},
        {HEAD "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", "400",
         "The body is not valid gzip.", false},
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
            client_close(client);
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
    assert_int_equal(client_send("{}", 2), 2);
    turn();
    assert_int_equal(atomic_load(&shared.connections), 1);
    client_shut();
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
    assert_true(client_send(request, sizeof(request) - 1) > 0);
    client_shut();
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
    EXPECT(got, "\r\nRetry-After: ");
    EXPECT(got, "\"overloaded\"");
    assert_false(closed);
    ring_cancel(ring, 1000);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
    assert_int_equal(ring_take(ring, taken, 1000), 1);
}

static void an_overload_refuses_without_looking_and_spreads_who_comes_back(void **state)
{
    bool seen[4] = {false};
    struct record *taken[1000];

    (void)state;
    assert_true(ring_reserve(ring, 1000));
    for (int i = 0; i < 32; i++) {
        EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "HTTP/1.1 503");
        seen[strstr(got, "Retry-After: ")[13] - '0'] = true;
    }
    assert_true(seen[1] && seen[2] && seen[3]);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\": }"), "HTTP/1.1 503");
    assert_false(closed);
    ring_cancel(ring, 1000);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\": }"), "HTTP/1.1 400");
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
    assert_int_equal(ring_take(ring, taken, 1000), 1);
}

#ifndef OVER_TLS
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
    client_close(client);
    client_close(second);
    client = first;
    turn();
    turn();
    assert_int_equal(atomic_load(&shared.connections), 1);
    closed = false;
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
}
#endif

static void without_buffers_left_the_answer_is_503(void **state)
{
    (void)state;
    assert_true(buffer_budget_take(&shared.budget, 1 << 20));
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "HTTP/1.1 503");
    assert_true(closed);
    assert_int_equal(client_send("{}", 2), 2);
    buffer_budget_give(&shared.budget, 1 << 20);
}

static void a_body_that_is_only_announced_takes_no_memory(void **state)
{
    static const char announced[] = HEAD "Content-Length: 100000\r\n\r\n{\"id\":";
    int first = client;
    int others[40];

    (void)state;
    shared.connections_max = ARRAY_LEN(others) + 1;
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        connect_client();
        others[i] = client;
        assert_int_equal(client_send(announced, sizeof(announced) - 1), sizeof(announced) - 1);
        turn();
        assert_int_equal(client_send("1", 1), 1);
        turn();
    }
    client = first;
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,");
    assert_in_range(atomic_load(&shared.budget.used), 0, 41 * 16384);
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        client_close(others[i]);
    turn();
    turn();
}

static void a_buffer_grows_with_what_has_arrived(void **state)
{
    static char body[16000];
    static const char head[] = HEAD "Content-Length: 100000\r\n\r\n{\"id\":\"";

    (void)state;
    memset(body, 'y', sizeof(body));
    talk(head);
    assert_int_equal(client_send(body, sizeof(body)), sizeof(body));
    turn();
    assert_int_equal(client_send(body, 1), 1);
    turn();
    assert_in_range(atomic_load(&shared.budget.used), sizeof(body), 90000);
}

/* Sends the first byte of a request; returns what of server.max_buffers that takes. */
static size_t room_of_a_begun_request(void)
{
    const size_t before = atomic_load(&shared.budget.used);

    assert_int_equal(client_send("P", 1), 1);
    turn();
    return atomic_load(&shared.budget.used) - before;
}

static void who_sent_a_long_request_gets_room_for_another(void **state)
{
    static const char begin[] = HEAD "Content-Length: 39015\r\n\r\n{\"id\":1,\"x\":\"";
    static char request[40000];
    const char *rest = request + 1;

    (void)state;
    memset(request, 'y', sizeof(begin) + 39000);
    memcpy(request, begin, sizeof(begin) - 1);
    memcpy(request + sizeof(begin) - 1 + 39000, "\"}", 3);
    EXPECT(talk(request), "\"accepted\":1,");
    assert_int_equal(room_of_a_begun_request(), 3 * 16384);
    EXPECT(talk(rest), "\"duplicates\":1");
    assert_in_range(room_of_a_begun_request(), 16384, 4 * 16384);
    EXPECT(talk(&(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}")[1]), "\"duplicates\":1");
    assert_in_range(room_of_a_begun_request(), 0, 16384);
}

/* A reset would take the answer away. */
static void what_stands_behind_the_last_request_is_read_and_dropped(void **state)
{
    (void)state;
    EXPECT(talk(HEAD "Connection: close\r\nContent-Length: 8\r\n\r\n{\"id\":1}more"),
           "\"accepted\":1,");
    assert_true(closed);
    assert_int_equal(atomic_load(&shared.connections), 1);
    assert_int_equal(client_send("x", 1), 1);
    turn();
    assert_int_equal(atomic_load(&shared.connections), 1);
    client_shut();
    turn();
    turn();
    assert_int_equal(atomic_load(&shared.connections), 0);
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
        client_close(client);
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
            ssize_t n = client_send(text + sent % len, len - sent % len);

            if (n <= 0)
                break;
            sent += (size_t)n;
        }
        turn();
    }
    /* It reads nothing, so it is not read from. */
    assert_true(sent < total);
    for (int i = 0; i < TURNS_MAX && answers < requests; i++) {
        ssize_t n = sent < total ? client_send(text + sent % len, total - sent < len - sent % len
                                                                      ? total - sent
                                                                      : len - sent % len)
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
    client_close(client);
    client = idle;
    closed = false;
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":8}"), "HTTP/1.1 503");
    EXPECT(got, "\"draining\"");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
}

static void a_page_learns_why_its_head_was_refused(void **state)
{
    static const char told[] = "\r\nAccess-Control-Allow-Origin: https://a\r\n";
    static const char *const heads[] = {
        HEAD "Origin: https://a\r\nX : y\r\n\r\n",
        HEAD "Content-Length: x\r\nOrigin: https://a\r\n\r\n",
        HEAD "Origin: https://a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST /v1/s HTTP/3.0\r\nOrigin: https://a\r\n\r\n",
    };
    static const char *const strangers[] = {
        HEAD "Origin: https://b\r\nX : y\r\n\r\n",
        HEAD "X : y\r\n\r\nOrigin: https://a", /* no whole line */
        "POST\r\n\r\n",
    };

    (void)state;
    config.server_cors_origins = (char *)"https://a";
    for (size_t i = 0; i < ARRAY_LEN(heads) + ARRAY_LEN(strangers); i++) {
        const bool known = i < ARRAY_LEN(heads);
        talk(known ? heads[i] : strangers[i - ARRAY_LEN(heads)]);
        assert_int_equal(strstr(got, told) != NULL, known);
        assert_true(closed);
        client_close(client);
        connect_client();
    }
    conn_drain(set);
    EXPECT(talk(HEAD "Origin: https://a\r\nContent-Length: 8\r\n\r\n{\"id\":8}"), "\"draining\"");
    EXPECT(got, told);
}

static void a_request_that_arrived_before_the_drain_is_answered(void **state)
{
    static const char request[] = HEAD "Content-Length: 8\r\n\r\n{\"id\":1}";

    (void)state;
    assert_true(client_send(request, sizeof(request) - 1) > 0);
    conn_drain(set);
    conn_turn_end(set);
    EXPECT(talk(""), "HTTP/1.1 202");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
}

static void a_set_that_leaves_takes_requests_and_closes_behind_each(void **state)
{
    (void)state;
    conn_leave(set);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":9}"), "HTTP/1.1 202");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
}

static void a_set_that_hastens_closes_the_idle_after_a_second(void **state)
{
    struct conn *conn = TAILQ_FIRST(&set->queues[QUEUE_IDLE]);

    (void)state;
    conn_hasten(set);
    conn_hasten(set);
    assert_int_equal(atomic_load(&shared.elders), 1);
    conn->since_ms -= CONN_IDLE_LEAVING_MS - 500;
    conn_expire(set);
    assert_int_equal(atomic_load(&shared.elders), 1);
    conn->since_ms -= 500;
    conn_expire(set);
    assert_int_equal(atomic_load(&shared.elders), 0);
    assert_int_equal(atomic_load(&shared.connections), 0);
    talk("");
    assert_true(closed);
}

#define SMALL HEAD "Content-Length: 8\r\n\r\n{\"id\":%d}"

static void send_small(int id)
{
    char request[MAX_HEAD];
    const int len = snprintf(request, sizeof(request), SMALL, id);

    assert_int_equal(client_send(request, (size_t)len), len);
}

/* A turn in whose middle the client, which does not wait for answers, sends one more. */
static void turn_with_more(int id)
{
    conn_turn_begin(set);
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    send_small(id);
    conn_turn_end(set);
}

static void a_set_that_leaves_answers_what_has_come_before_it_closes(void **state)
{
    (void)state;
    conn_leave(set);
    send_small(1);
    turn_with_more(2);
    receive();
    EXPECT(got, "HTTP/1.1 202");
    assert_null(strstr(got, "Connection: close"));
    assert_false(closed);
    EXPECT(talk(""), "\r\nConnection: close\r\n");
    assert_true(closed);
    assert_int_equal(count(got, "HTTP/1.1 202"), 1);
}

static void what_comes_too_late_for_a_drain_resets_no_answer(void **state)
{
    (void)state;
    conn_leave(set);
    send_small(1);
    conn_drain(set);
    turn_with_more(2);
    receive();
    receive();
    EXPECT(got, "HTTP/1.1 202");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
    assert_int_equal(atomic_load(&shared.connections), 1); /* it lingers */
}

static void a_request_that_comes_as_its_connection_is_given_up_is_taken(void **state)
{
    (void)state;
    conn_hasten(set);
    TAILQ_FIRST(&set->queues[QUEUE_IDLE])->since_ms -= CONN_IDLE_LEAVING_MS;
    send_small(1);
    conn_expire(set);
    receive();
    receive();
    EXPECT(got, "HTTP/1.1 202");
    EXPECT(got, "\r\nConnection: close\r\n");
    assert_true(closed);
}

static void after_it_has_left_a_drain_closes_who_is_idle_and_spares_who_was_just_there(void **state)
{
    int old = client;

    (void)state;
    TAILQ_FIRST(&set->queues[QUEUE_IDLE])->since_ms -= CONN_IDLE_LEAVING_MS;
    connect_client();
    conn_leave(set);
    conn_drain(set);
    conn_turn_end(set);
    assert_int_equal(atomic_load(&shared.connections), 0);
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":8}"), "\"draining\"");
    assert_true(closed);
    client_close(client);
    client = old;
    closed = false;
    talk("");
    assert_true(closed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_set_that_leaves_takes_requests_and_closes_behind_each),
        TEST(a_set_that_hastens_closes_the_idle_after_a_second),
        TEST(a_set_that_leaves_answers_what_has_come_before_it_closes),
        TEST(what_comes_too_late_for_a_drain_resets_no_answer),
        TEST(a_request_that_comes_as_its_connection_is_given_up_is_taken),
        TEST(after_it_has_left_a_drain_closes_who_is_idle_and_spares_who_was_just_there),
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
        TEST(an_overload_refuses_without_looking_and_spreads_who_comes_back),
#ifndef OVER_TLS
        TEST(one_connection_too_many_is_told_so),
#endif
        TEST(without_buffers_left_the_answer_is_503),
        TEST(a_body_that_is_only_announced_takes_no_memory),
        TEST(a_buffer_grows_with_what_has_arrived),
        TEST(who_sent_a_long_request_gets_room_for_another),
        TEST(what_stands_behind_the_last_request_is_read_and_dropped),
        TEST(slow_clients_get_408_and_idle_ones_are_closed_silently),
        TEST(a_client_that_does_not_read_is_held_back_and_then_served),
        TEST(a_drain_finishes_what_has_begun_and_closes_the_idle),
        TEST(a_page_learns_why_its_head_was_refused),
        TEST(a_request_that_arrived_before_the_drain_is_answered),
    };

    return cmocka_run_group_tests(tests, GROUP_SETUP, GROUP_TEARDOWN);
}
