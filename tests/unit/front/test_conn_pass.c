/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_pass.c - connections that go from one front-end thread's set to another's.
 */
#include "conn_fixture.h"

#include <signal.h>

#define POST(id) HEAD "Content-Length: 8\r\n\r\n{\"id\":" id "}"

static struct conn_inbox other_passed;
static struct event_base *other_base;
static struct conn_set *other;

static int start_two(void **state)
{
    start(state);
    other_base = event_base_new();
    other_passed.wake_fd = eventfd(0, EFD_NONBLOCK);
    other = conn_set_create(&(struct conn_parts){.shared = &shared,
                                                 .base = other_base,
                                                 .admission = admission,
                                                 .large = large,
                                                 .metrics = thread,
                                                 .thread_count = 2,
                                                 .inbox = inbox,
                                                 .passed = &other_passed});
    assert_non_null(other);
    return 0;
}

static int stop_two(void **state)
{
    conn_set_destroy(other);
    event_base_free(other_base);
    conn_inbox_close(&passed, &shared);
    conn_inbox_close(&other_passed, &shared);
    close(other_passed.wake_fd);
    return stop(state);
}

static uint64_t passed_count(void)
{
    static struct metrics_snapshot snapshot;

    metrics_read(metrics, &snapshot);
    return snapshot.counters[METRIC_COUNTER_http_connections_passed];
}

static bool is_on_its_way(void)
{
    return atomic_load(&other_passed.first) != NULL;
}

#ifdef CLIENT_CIPHERSUITES
static void a_connection_with_openssls_state_stays(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    assert_false(is_on_its_way());
    EXPECT(talk(POST("3")), "202 ");
    assert_int_equal(passed_count(), 0);
}
#else
/* The test's turns are the other set's from now on. */
static void change_sets(void)
{
    struct conn_set *const set_before = set;
    struct event_base *const base_before = base;

    set = other;
    base = other_base;
    other = set_before;
    other_base = base_before;
}

static void a_connection_that_sends_again_is_passed_on_and_served(void **state)
{
    uint64_t woken = 0;

    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    assert_true(is_on_its_way());
    assert_int_equal(read(other_passed.wake_fd, &woken, sizeof(woken)), sizeof(woken));
    assert_int_equal(passed_count(), 1);
    assert_int_equal(conn_open_count(set), 0);
    /* What comes now waits in the socket. */
    assert_string_equal(talk(POST("3")), "");
    change_sets();
    EXPECT(talk(""), "202 ");
    assert_int_equal(conn_open_count(set), 1);
    assert_int_equal(atomic_load(&shared.connections), 1);
    EXPECT(talk(POST("3")), "\"duplicates\":1");
    EXPECT(talk(POST("4") POST("5")), "202 ");
    assert_int_equal(count(got, "202 "), 2);
    /* And back. */
    conn_pass_on(set, &passed, 7);
    EXPECT(talk(POST("6")), "202 ");
    change_sets();
    EXPECT(talk(POST("6")), "\"duplicates\":1");
    assert_int_equal(passed_count(), 2);
    assert_int_equal(take_all(), 6);
    assert_false(closed);
}

static void a_request_begins_when_it_comes_and_not_when_its_connection_does(void **state)
{
    static struct metrics_snapshot before, after;
    const struct timespec pause = {.tv_nsec = 500 * (long)CLOCK_NS_PER_MS};

    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    change_sets();
    metrics_read(metrics, &before);
    /* The thread wakes up for the connection, and then sleeps in the same turn. */
    conn_take_passed(set);
    assert_false(conn_turn_begin(set));
    nanosleep(&pause, NULL);
    assert_true(client_send(POST("3"), strlen(POST("3"))) > 0);
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    conn_turn_end(set);
    EXPECT(talk(""), "202 ");
    metrics_read(metrics, &after);
    /* Nothing here takes long, but the machine may be busy. */
    assert_in_range(after.histograms[METRIC_HISTOGRAM_http_request].sum_ns -
                        before.histograms[METRIC_HISTOGRAM_http_request].sum_ns,
                    1, 400 * CLOCK_NS_PER_MS);
    change_sets();
}

static void who_sends_for_the_first_time_stays(void **state)
{
    (void)state;
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("1")), "202 ");
    assert_false(is_on_its_way());
    EXPECT(talk(POST("2")), "202 ");
    assert_true(is_on_its_way());
}

static void a_connection_goes_only_between_two_requests(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2") "POST /v1/s HT"), "202 ");
    assert_false(is_on_its_way());
    EXPECT(talk("TP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n{\"id\""), "");
    assert_false(is_on_its_way());
    EXPECT(talk(":3}"), "202 ");
    assert_true(is_on_its_way());
}

static void a_request_that_waits_for_clickhouse_stays_until_it_is_answered(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    talk("POST /v1/s?ack=clickhouse HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n{\"id\":2}");
    assert_false(is_on_its_way());
    take_all();
    EXPECT(talk(""), "200 OK");
    assert_true(is_on_its_way());
    change_sets();
    EXPECT(talk(POST("3")), "202 ");
}

static void no_more_go_than_were_asked_for(void **state)
{
    int first = client;

    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    assert_int_equal(passed_count(), 1);
    connect_client();
    EXPECT(talk(POST("3")), "202 ");
    EXPECT(talk(POST("4")), "202 ");
    assert_int_equal(passed_count(), 1);
    assert_int_equal(conn_open_count(set), 1);
    client_close(client);
    client = first;
}

static void a_set_that_leaves_passes_none_on(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    conn_leave(set);
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "Connection: close");
    assert_false(is_on_its_way());
    assert_true(closed);
}

static void a_set_that_drains_treats_who_comes_as_one_of_its_own(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    conn_drain(other);
    change_sets();
    assert_string_equal(talk(""), "");
    /* It is idle, so no drain waits for it. */
    assert_int_equal(atomic_load(&shared.connections), 0);
    assert_int_equal(atomic_load(&shared.elders), 0);
    EXPECT(talk(POST("3")), "\"draining\"");
    assert_true(closed);
    change_sets();
}

static void what_has_come_before_the_drain_is_taken_where_its_connection_has_gone(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    assert_string_equal(talk(POST("3")), "");
    conn_drain(other);
    change_sets();
    EXPECT(talk(""), "202 ");
    EXPECT(got, "Connection: close");
    assert_true(closed);
    assert_int_equal(take_all(), 3);
    change_sets();
}

static void who_comes_when_its_set_hastens_is_waited_for(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    conn_hasten(other);
    change_sets();
    assert_string_equal(talk(""), "");
    assert_int_equal(atomic_load(&shared.elders), 1);
    EXPECT(talk(POST("3")), "Connection: close");
    assert_int_equal(atomic_load(&shared.elders), 0);
    change_sets();
}

static void whom_nobody_has_taken_is_closed_in_the_end(void **state)
{
    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    conn_pass_on(set, &other_passed, 1);
    EXPECT(talk(POST("2")), "202 ");
    conn_inbox_close(&other_passed, &shared);
    receive();
    assert_true(closed);
    assert_int_equal(atomic_load(&shared.connections), 0);
}

static void a_set_counts_those_that_were_answered(void **state)
{
    int first = client;
    struct conn_activity activity;
    size_t taken = 0;

    (void)state;
    EXPECT(talk(POST("1")), "202 ");
    EXPECT(talk(POST("2")), "202 ");
    connect_client();
    EXPECT(talk(POST("3")), "202 ");
    activity = conn_activity_take(set);
    assert_int_equal(activity.active, 2);
    assert_false(activity.large);
    for (int i = 0; i < 300; i++)
        assert_int_equal(conn_activity_take(set).active, 0);
    EXPECT(talk(POST("4")), "202 ");
    activity = conn_activity_take(set);
    assert_int_equal(activity.active, 1);
    assert_false(activity.shed);
    while (ring_reserve(ring, 1))
        taken++;
    EXPECT(talk(POST("5")), "503 ");
    ring_cancel(ring, taken);
    assert_true(conn_activity_take(set).shed);
    assert_false(conn_activity_take(set).shed);
    client_close(client);
    client = first;
}
#endif

#define PASS_TEST(name) cmocka_unit_test_setup_teardown(name, start_two, stop_two)

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef CLIENT_CIPHERSUITES
        PASS_TEST(a_connection_with_openssls_state_stays),
#else
        PASS_TEST(a_connection_that_sends_again_is_passed_on_and_served),
        PASS_TEST(a_request_begins_when_it_comes_and_not_when_its_connection_does),
        PASS_TEST(who_sends_for_the_first_time_stays),
        PASS_TEST(a_connection_goes_only_between_two_requests),
        PASS_TEST(a_request_that_waits_for_clickhouse_stays_until_it_is_answered),
        PASS_TEST(no_more_go_than_were_asked_for),
        PASS_TEST(a_set_that_leaves_passes_none_on),
        PASS_TEST(a_set_that_drains_treats_who_comes_as_one_of_its_own),
        PASS_TEST(what_has_come_before_the_drain_is_taken_where_its_connection_has_gone),
        PASS_TEST(who_comes_when_its_set_hastens_is_waited_for),
        PASS_TEST(whom_nobody_has_taken_is_closed_in_the_end),
        PASS_TEST(a_set_counts_those_that_were_answered),
#endif
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, GROUP_SETUP, GROUP_TEARDOWN);
}
