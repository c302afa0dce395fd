/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_greeting.c - connections that begin with a PROXY header, over socket pairs, and whose
 * requests they carry.
 */
#include "conn_private.h"

#include "conn_fixture.h"

#define V1 "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"
#define V1_UNKNOWN "PROXY UNKNOWN\r\n"
#define V2 "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x12\xc0\0\2\2\xc6\x33\x64\1\1\2\1\xbb\4\0\3\1\2\3"
#define V2_LOCAL "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
#define EVENT HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"
#define NO_HEADER "does not begin with a PROXY header, which server.proxy_protocol asks for."

static const struct {
    const char *data;
    size_t len;
    const char *client;
} headers[] = {
    {V1, sizeof(V1) - 1, "192.0.2.1"},
    {V1_UNKNOWN, sizeof(V1_UNKNOWN) - 1, ""},
    {V2, sizeof(V2) - 1, "192.0.2.2"},
    {V2_LOCAL, sizeof(V2_LOCAL) - 1, ""},
};

static void reconnect(void)
{
    close(client);
    turn();
    turn();
    connect_client();
}

static int start_proxied(void **state)
{
    int err;

    proxied = true;
    err = start(state);
    proxied = false;
    return err;
}

static int stop_proxied(void **state)
{
    networks_destroy(config.trusted_proxies);
    return stop(state);
}

/* The one connection that is there. */
static struct conn *the_conn(void)
{
    struct conn *found = NULL;

    for (int i = 0; i < QUEUE_COUNT; i++)
        if (!TAILQ_EMPTY(&set->queues[i])) {
            assert_null(found);
            found = TAILQ_FIRST(&set->queues[i]);
            assert_null(TAILQ_NEXT(found, queued));
        }
    assert_non_null(found);
    return found;
}

static void must_be_from(const char *text)
{
    char is[ADDRESS_TEXT_MAX];

    address_format(conn_address(the_conn()), is);
    assert_string_equal(is, text);
}

static void trust(const char *list)
{
    networks_destroy(config.trusted_proxies);
    assert_int_equal(networks_create(&config.trusted_proxies, list, NULL, NULL), 0);
}

static void what_follows_a_header_is_the_request(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        char text[512];

        memcpy(text, headers[i].data, headers[i].len);
        snprintf(text + headers[i].len, sizeof(text) - headers[i].len, EVENT EVENT);
        talk_bytes(text, headers[i].len + strlen(EVENT EVENT));
        assert_int_equal(count(got, "HTTP/1.1 202"), 2);
        must_be_from(headers[i].client);
        EXPECT(talk(EVENT), "\"duplicates\":1");
        must_be_from(headers[i].client);
        assert_false(closed);
        reconnect();
    }
}

static void a_header_may_come_in_any_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        for (size_t at = 0; at < headers[i].len; at++) {
            assert_int_equal(the_conn()->state, CONN_PROXY);
            talk_bytes(headers[i].data + at, 1);
            assert_int_equal(got_len, 0);
        }
        assert_int_equal(the_conn()->state, CONN_HEAD);
        must_be_from(headers[i].client);
        EXPECT(talk(EVENT), "HTTP/1.1 202");
        reconnect();
    }
}

static void not_a_byte_behind_the_header_is_taken_with_it(void **state)
{
    struct conn *conn = the_conn();
    const int fd = event_get_fd(&conn->event);
    char text[8];

    (void)state;
    talk_bytes(V1, 20);
    assert_int_equal(send(client, V1 "hello" + 20, strlen(V1) + 5 - 20, 0), strlen(V1) + 5 - 20);
    assert_int_equal(greeting_read(conn), GREETING_OVER);
    assert_int_equal(buffer_len(&conn->buffer), 0);
    assert_int_equal(recv(fd, text, sizeof(text), 0), 5);
    assert_memory_equal(text, "hello", 5);
}

/* A level-triggered event would fire without end for bytes that nobody takes. */
static void part_of_a_header_leaves_the_socket_empty(void **state)
{
    char byte;

    (void)state;
    talk_bytes(V2, 20);
    assert_int_equal(recv(event_get_fd(&the_conn()->event), &byte, 1, MSG_PEEK), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(the_conn()->state, CONN_PROXY);
}

static void an_idle_connection_holds_no_buffer(void **state)
{
    (void)state;
    assert_null(the_conn()->buffer.data);
    talk_bytes(V1, 10);
    assert_non_null(the_conn()->buffer.data);
    talk(V1 + 10);
    assert_int_equal(the_conn()->queue, QUEUE_IDLE);
    assert_null(the_conn()->buffer.data);
}

static void without_a_header_the_answer_says_so(void **state)
{
    static const char *const first[] = {EVENT, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01",
                                        "PROXY TCP4 a b c d\r\n" EVENT, "\r\nPOST"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(first); i++) {
        EXPECT(talk(first[i]), "HTTP/1.1 400");
        EXPECT(got, "\"error\":\"bad_request\"");
        EXPECT(got, NO_HEADER);
        EXPECT(got, "Connection: close\r\n");
        assert_int_equal(count(got, "HTTP/1.1"), 1);
        assert_true(closed);
        reconnect();
    }
    assert_int_equal(atomic_load(&thread->streams[0][METRIC_STREAM_received]), 0);
}

static void a_second_header_or_one_that_is_not_asked_for_is_named(void **state)
{
    (void)state;
    EXPECT(talk(V1 V1 EVENT), "This is a second PROXY header");
    assert_true(closed);
    reconnect();
    talk_bytes(V2 V2, 2 * (sizeof(V2) - 1));
    EXPECT(got, "This is a second PROXY header");
    config.server_proxy_protocol = false;
    reconnect();
    EXPECT(talk(V1 EVENT), "This is a PROXY header, but server.proxy_protocol is off.");
    assert_true(closed);
    reconnect();
    talk_bytes(V2, sizeof(V2) - 1);
    EXPECT(got, "This is a PROXY header, but server.proxy_protocol is off.");
    reconnect();
    EXPECT(talk("PROXY\r\n\r\n"), "The request line does not start with a method.");
}

static void a_client_may_leave_at_every_byte(void **state)
{
    (void)state;
    for (size_t len = 0; len < sizeof(V2); len++) {
        talk_bytes(V2, len);
        assert_int_equal(atomic_load(&shared.connections), 1);
        shutdown(client, SHUT_WR);
        turn();
        assert_int_equal(atomic_load(&shared.connections), 0);
        reconnect();
    }
}

static void wait_closed(void)
{
    const uint64_t deadline = clock_mono_ms() + 5000;

    while (!closed && clock_mono_ms() < deadline) {
        turn();
        conn_expire(set);
        receive();
    }
    assert_true(closed);
}

static void a_slow_header_is_408_and_a_silent_client_is_closed(void **state)
{
    (void)state;
    config.server_head_timeout_ms = 20;
    talk_bytes(V1, 10);
    wait_closed();
    EXPECT(got, "HTTP/1.1 408");
    EXPECT(got, "The PROXY header did not arrive in time.");
    reconnect();
    got_len = 0;
    wait_closed();
    assert_int_equal(got_len, 0);
}

static void behind_its_header_a_connection_has_the_time_of_an_idle_one(void **state)
{
    (void)state;
    config.server_head_timeout_ms = 1;
    talk(V1);
    for (int i = 0; i < 10; i++) {
        usleep(2000);
        conn_expire(set);
    }
    EXPECT(talk(EVENT), "HTTP/1.1 202");
}

static void without_memory_for_a_header_the_answer_is_503(void **state)
{
    (void)state;
    assert_true(buffer_budget_take(&shared.budget, 1 << 20));
    EXPECT(talk(V1 EVENT), "HTTP/1.1 503");
    assert_true(closed);
    buffer_budget_give(&shared.budget, 1 << 20);
}

static void beyond_the_last_place_the_answer_comes_before_the_header(void **state)
{
    int first = client, second;

    (void)state;
    connect_client();
    second = client;
    connect_client();
    EXPECT(talk(V1 EVENT), "There is no room for one more connection.");
    close(second);
    close(client);
    client = first;
    turn();
    turn();
}

static void a_connection_without_a_request_holds_up_no_drain(void **state)
{
    static const char *const sent[] = {"", "PROXY TCP4", V1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sent); i++) {
        talk(sent[i]);
        conn_drain(set);
        conn_turn_end(set);
        assert_int_equal(atomic_load(&shared.connections), 0);
        /* Its request is told why it is not taken. */
        EXPECT(talk(V1 EVENT + strlen(sent[i])), "HTTP/1.1 503");
        EXPECT(got, "\"draining\"");
        assert_true(closed);
        reconnect();
        set->draining = false;
    }
}

static void a_header_alone_after_the_drain_has_begun_closes_nothing(void **state)
{
    (void)state;
    conn_drain(set);
    conn_turn_end(set);
    talk(V1);
    assert_false(closed);
    EXPECT(talk(EVENT), "\"draining\"");
    assert_true(closed);
}

static void a_request_that_came_with_its_header_before_the_drain_is_answered(void **state)
{
    (void)state;
    assert_int_equal(send(client, V1 EVENT, strlen(V1 EVENT), 0), strlen(V1 EVENT));
    conn_drain(set);
    conn_turn_end(set);
    EXPECT(talk(""), "HTTP/1.1 202");
    EXPECT(got, "Connection: close\r\n");
    assert_true(closed);
}

#define XFF(list) HEAD "X-Forwarded-For: " list "\r\nContent-Length: 8\r\n\r\n{\"id\":1}"

static void the_client_is_each_requests_own(void **state)
{
    (void)state;
    trust("192.0.2.0/24");
    talk(V1 XFF("10.1.1.1"));
    must_be_from("10.1.1.1");
    talk(XFF("10.2.2.2") XFF("9.9.9.9, 10.3.3.3"));
    must_be_from("10.3.3.3");
    /* One without, and one that is no request, are the proxy's. */
    talk(EVENT);
    must_be_from("192.0.2.1");
    talk(XFF("10.4.4.4"));
    must_be_from("10.4.4.4");
    talk("POST /v1");
    must_be_from("192.0.2.1");
}

static void whom_the_header_names_must_be_trusted(void **state)
{
    (void)state;
    trust("unix:, 10.0.0.0/8");
    talk(V1 XFF("10.1.1.1"));
    must_be_from("192.0.2.1");
    reconnect();
    talk(V1_UNKNOWN XFF("10.1.1.1"));
    must_be_from("10.1.1.1");
    trust("");
    talk(XFF("10.1.1.1"));
    must_be_from("");
}

/* Of a refused request nothing may be given to the buckets of the one behind it. */
static void limits_are_each_clients_own(void **state)
{
    (void)state;
    trust("192.0.2.0/24");
    config.limits_address_events = 1;
    config.limits_address_requests = 3;
    shared.quota = quota_create(100);
    EXPECT(talk(V1 XFF("10.1.1.1")), "HTTP/1.1 202");
    EXPECT(talk(XFF("10.1.1.1")), "Too many events from this address.");
    EXPECT(talk(XFF("10.2.2.2")), "HTTP/1.1 202");
    talk(XFF("10.1.1.1") XFF("10.1.1.1") XFF("10.3.3.3"));
    assert_int_equal(count(got, "Too many events from this address."), 1);
    assert_int_equal(count(got, "Too many requests from this address."), 1);
    assert_int_equal(count(got, "HTTP/1.1 202"), 1);
    /* Admission refuses all three: each gets its event back, in its own bucket. */
    assert_true(ring_reserve(ring, RING_CAPACITY - 1));
    for (int i = 0; i < 2; i++) {
        talk(HEAD "X-Forwarded-For: 10.4.4.4\r\nContent-Length: 9\r\n\r\n{\"id\":91}" HEAD
                  "X-Forwarded-For: 10.5.5.5\r\nContent-Length: 9\r\n\r\n{\"id\":92}" HEAD
                  "X-Forwarded-For: 10.6.6.6\r\nContent-Length: 9\r\n\r\n{\"id\":93}");
        assert_int_equal(count(got, "HTTP/1.1 503"), 3);
    }
    ring_cancel(ring, RING_CAPACITY - 1);
    quota_destroy(shared.quota);
}

/* 200 requests of one client that ignores its 429s, and then one of another. */
static const char *flood(const char *first)
{
    talk(first);
    for (int i = 0; i < 200; i++)
        talk(XFF("10.1.1.1"));
    return talk(XFF("10.2.2.2"));
}

static void a_flood_of_one_client_leaves_its_proxys_connection_read(void **state)
{
    (void)state;
    trust("192.0.2.0/24");
    config.limits_address_requests = 1;
    shared.quota = quota_create(100);
    EXPECT(flood(V1 XFF("10.1.1.1")), "HTTP/1.1 202");
    /* Where nobody is trusted all of it is one client's. */
    trust("198.51.100.0/24");
    reconnect();
    assert_string_equal(flood(V1 XFF("10.3.3.3")), "");
    assert_int_equal(the_conn()->queue, QUEUE_PAUSE);
    quota_destroy(shared.quota);
}

#define TEST_PROXIED(name) cmocka_unit_test_setup_teardown(name, start_proxied, stop_proxied)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_PROXIED(what_follows_a_header_is_the_request),
        TEST_PROXIED(a_header_may_come_in_any_pieces),
        TEST_PROXIED(not_a_byte_behind_the_header_is_taken_with_it),
        TEST_PROXIED(part_of_a_header_leaves_the_socket_empty),
        TEST_PROXIED(an_idle_connection_holds_no_buffer),
        TEST_PROXIED(without_a_header_the_answer_says_so),
        TEST_PROXIED(a_second_header_or_one_that_is_not_asked_for_is_named),
        TEST_PROXIED(a_client_may_leave_at_every_byte),
        TEST_PROXIED(a_slow_header_is_408_and_a_silent_client_is_closed),
        TEST_PROXIED(behind_its_header_a_connection_has_the_time_of_an_idle_one),
        TEST_PROXIED(without_memory_for_a_header_the_answer_is_503),
        TEST_PROXIED(beyond_the_last_place_the_answer_comes_before_the_header),
        TEST_PROXIED(a_connection_without_a_request_holds_up_no_drain),
        TEST_PROXIED(a_header_alone_after_the_drain_has_begun_closes_nothing),
        TEST_PROXIED(a_request_that_came_with_its_header_before_the_drain_is_answered),
        TEST_PROXIED(the_client_is_each_requests_own),
        TEST_PROXIED(whom_the_header_names_must_be_trusted),
        TEST_PROXIED(limits_are_each_clients_own),
        TEST_PROXIED(a_flood_of_one_client_leaves_its_proxys_connection_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
