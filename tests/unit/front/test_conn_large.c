/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_large.c - bodies that are judged over several turns.
 */
#define MAX_BODY (3 << 20)
#define MAX_BUFFERS (16 << 20)
#define RING_CAPACITY 40000
#include "conn_fixture.h"

#define EVENTS 30000
#define EVENT_BYTES 36

static char body[EVENTS * EVENT_BYTES + 1];
static char request[sizeof(body) + 4096];

/* Events first..first + count, one a line. */
static size_t make_body(size_t first, size_t count)
{
    size_t len = 0;

    for (size_t i = 0; i < count; i++)
        len += (size_t)sprintf(body + len, "{\"id\":%08zu,\"padding\":\"xxxx\"}   \n",
                               10000000 + first + i);
    return len;
}

static size_t make_request(const char *query, size_t body_len, const char *rest)
{
    return (size_t)sprintf(request,
                           "POST /v1/s%s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%.*s%s",
                           query, body_len, (int)body_len, body, rest);
}

/* Sends what make_request() has made until the body is being judged. */
static void send_until_judged(size_t len)
{
    size_t sent = 0;

    for (int i = 0; sent < len; i++) {
        ssize_t n = client_send(request + sent, len - sent);

        assert_true(i < TURNS_MAX);
        if (n > 0)
            sent += (size_t)n;
        turn();
    }
    for (int i = 0; i < 10; i++)
        turn();
    got_len = 0;
    receive();
    assert_int_equal(got_len, 0);
}

static void a_large_body_is_taken_whole_and_again_it_is_duplicates(void **state)
{
    size_t len = make_request("", make_body(0, EVENTS), "");

    (void)state;
    EXPECT(talk_bytes(request, len), "");
    for (int i = 0; i < TURNS_MAX && got_len == 0; i++)
        talk("");
    EXPECT(got, "{\"accepted\":30000,\"duplicates\":0}");
    assert_int_equal(take_all(), EVENTS);
    send_until_judged(len);
    for (int i = 0; i < TURNS_MAX && got_len == 0; i++)
        talk("");
    EXPECT(got, "{\"accepted\":0,\"duplicates\":30000}");
    assert_int_equal(take_all(), 0);
    assert_int_equal(ring_depth(ring), 0);
}

static void others_are_served_while_a_large_body_is_judged(void **state)
{
    int slow = client;
    int turns = 0;

    (void)state;
    send_until_judged(make_request("", make_body(0, EVENTS), ""));
    connect_client();
    /* One of its own, and one that the large body has too: whoever comes first has it. */
    EXPECT(talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"), "\"accepted\":1,\"duplicates\":0");
    EXPECT(talk(HEAD "Content-Length: 15\r\n\r\n{\"id\":10000000}"), "\"accepted\":1,");
    client_close(client);
    client = slow;
    for (got_len = 0; got_len == 0; turns++) {
        assert_true(turns < TURNS_MAX);
        turn();
        receive();
    }
    assert_true(turns > 10);
    EXPECT(got, "{\"accepted\":29999,\"duplicates\":1}");
    assert_int_equal(take_all(), EVENTS + 1);
}

static void what_is_pipelined_behind_a_large_body_keeps_its_order(void **state)
{
    size_t len = make_request("", make_body(0, EVENTS),
                              HEAD "Content-Length: 8\r\n\r\n{\"id\":1}"
                                   "GET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    const char *first, *second, *third;

    (void)state;
    send_until_judged(len);
    for (int i = 0; i < TURNS_MAX && count(got, "HTTP/1.1") < 3; i++) {
        turn();
        receive();
    }
    first = strstr(got, "\"accepted\":30000,");
    second = strstr(got, "\"accepted\":1,");
    third = strstr(got, "HTTP/1.1 404");
    assert_non_null(first);
    assert_true(first < second && second < third);
}

static void an_error_at_the_end_of_a_large_body_leaves_nothing(void **state)
{
    size_t len = make_body(0, EVENTS);

    (void)state;
    strcpy(body + len - 2, "{}");
    (void)talk_bytes(request, make_request("", len, ""));
    for (int i = 0; i < TURNS_MAX && got_len == 0; i++) {
        turn();
        receive();
    }
    EXPECT(got, "HTTP/1.1 400");
    EXPECT(got, "\"error\":\"missing_id\"");
    EXPECT(got, "\"event\":30000,");
    assert_int_equal(ring_depth(ring), 0);
    assert_int_equal(take_all(), 0);
    EXPECT(talk(HEAD "Content-Length: 15\r\n\r\n{\"id\":10000000}"), "\"accepted\":1,");
}

static void a_full_ring_refuses_a_large_body_whole(void **state)
{
    (void)state;
    assert_true(ring_reserve(ring, RING_CAPACITY - EVENTS + 1));
    send_until_judged(make_request("", make_body(0, EVENTS), ""));
    for (int i = 0; i < TURNS_MAX && got_len == 0; i++)
        talk("");
    EXPECT(got, "HTTP/1.1 503");
    assert_int_equal(ring_depth(ring), RING_CAPACITY - EVENTS + 1);
    ring_cancel(ring, RING_CAPACITY - EVENTS + 1);
    EXPECT(talk(HEAD "Content-Length: 15\r\n\r\n{\"id\":10000000}"), "\"accepted\":1,");
}

static void large_bodies_of_two_clients_are_both_taken(void **state)
{
    int first = client;

    (void)state;
    send_until_judged(make_request("", make_body(0, 12000), ""));
    connect_client();
    send_until_judged(make_request("", make_body(6000, 12000), ""));
    for (int i = 0; i < TURNS_MAX && got_len == 0; i++)
        talk("");
    EXPECT(got, "{\"accepted\":6000,\"duplicates\":6000}");
    client_close(client);
    client = first;
    talk("");
    EXPECT(got, "{\"accepted\":12000,\"duplicates\":0}");
    assert_int_equal(take_all(), 18000);
}

static void more_events_than_may_wait_for_clickhouse_are_refused_whole(void **state)
{
    (void)state;
    send_until_judged(make_request("?ack=clickhouse", make_body(0, EVENTS), ""));
    for (int i = 0; i < TURNS_MAX && got_len == 0; i++)
        talk("");
    EXPECT(got, "HTTP/1.1 503");
    assert_int_equal(ring_depth(ring), 0);
}

static void a_large_body_may_wait_for_clickhouse(void **state)
{
    size_t len = 0;

    (void)state;
    for (int i = 0; i < 10; i++)
        len += (size_t)sprintf(body + len, "{\"id\":%d,\"padding\":\"%030000d\"}\n", i, i);
    send_until_judged(make_request("?ack=clickhouse", len, ""));
    for (int i = 0; i < 20; i++)
        turn();
    receive();
    assert_int_equal(got_len, 0);
    assert_int_equal(take_all(), 10);
    EXPECT(talk(""), "HTTP/1.1 200");
    EXPECT(got, "\"accepted\":10,");
    EXPECT(talk(HEAD "Content-Length: 10\r\n\r\n{\"id\":100}"), "\"accepted\":1,");
}

static void an_end_in_the_middle_of_a_large_body_gives_everything_back(void **state)
{
    (void)state;
    /* stop() asserts the rest, whatever step it is in. */
    send_until_judged(make_request("", make_body(0, EVENTS), ""));
    for (int i = 0; i < 20; i++)
        turn();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_large_body_is_taken_whole_and_again_it_is_duplicates),
        TEST(others_are_served_while_a_large_body_is_judged),
        TEST(what_is_pipelined_behind_a_large_body_keeps_its_order),
        TEST(an_error_at_the_end_of_a_large_body_leaves_nothing),
        TEST(a_full_ring_refuses_a_large_body_whole),
        TEST(large_bodies_of_two_clients_are_both_taken),
        TEST(more_events_than_may_wait_for_clickhouse_are_refused_whole),
        TEST(a_large_body_may_wait_for_clickhouse),
        TEST(an_end_in_the_middle_of_a_large_body_gives_everything_back),
    };

    return cmocka_run_group_tests(tests, GROUP_SETUP, GROUP_TEARDOWN);
}
