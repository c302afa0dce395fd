/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_wait.c - requests that are answered when ClickHouse has their events.
 */
#include "conn_fixture.h"

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
    client_close(first);
    client_close(second);
}

static void a_client_that_goes_away_leaves_no_waiter_behind(void **state)
{
    (void)state;
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "1") "rest"), "");
    assert_int_equal(client_shut(), 0);
    assert_string_equal(talk(""), "");
    assert_int_equal(atomic_load(&shared.waiting), 1);
    finish(RECORD_INSERTED);
    EXPECT(talk(""), "HTTP/1.1 200 ");
    connect_client();
    assert_string_equal(talk(WAIT("?ack=clickhouse", "", "2")), "");
    client_close(client);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_waiting_request_is_answered_when_its_events_are_inserted),
        TEST(a_rejected_event_is_422_and_says_which),
        TEST(what_is_pipelined_behind_a_waiting_request_waits_too),
        TEST(time_that_runs_out_is_202),
        TEST(a_request_is_answered_once),
        TEST(one_waiting_request_too_many_is_503_and_leaves_nothing),
        TEST(a_client_that_goes_away_leaves_no_waiter_behind),
    };

    return cmocka_run_group_tests(tests, GROUP_SETUP, GROUP_TEARDOWN);
}
