/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_entry.c - keys and limits before admission, over socket pairs.
 */
#include "conn_fixture.h"

/* Of the keys "one", for this stream, and "two", for another. */
#define KEYS                                                                       \
    "a b2:d01c06cb09606bc4b2cedf4266a3a20e1e636b467cb77a9dbed595094e02ea46 s 10\n" \
    "b b2:7a52b251a3428a1b64967851157047d22919cc610c6b138e98a25280b1534b21 other\n"
#define ONE HEAD "Authorization: Bearer one\r\n"

static const char *const streams[] = {"s"};

static int start_with_keys(void **state)
{
    FILE *in = fmemopen((char *)(uintptr_t)KEYS, strlen(KEYS), "r");
    int err = start(state);

    assert_int_equal(keys_read(&config.keys, in, "k", stderr), 0);
    keys_bind(config.keys, streams, 1);
    fclose(in);
    return err;
}

static int stop_with_keys(void **state)
{
    int err = stop(state);

    keys_destroy(config.keys);
    return err;
}

/* One request whose body is n events with an id from first on. */
static const char *send_events(const char *head, unsigned first, unsigned n)
{
    static char text[65536];
    char body[60000];
    size_t len = 0;

    for (unsigned i = first; i < first + n; i++)
        len += (size_t)snprintf(body + len, sizeof(body) - len, "{\"id\":%u}", i + 1000);
    snprintf(text, sizeof(text), "%sContent-Length: %zu\r\n\r\n%s", head, len, body);
    return talk(text);
}

static uint64_t counted(enum metric_stream_id id)
{
    return atomic_load(&thread->streams[0][id]);
}

static const struct key *key_a(void)
{
    return keys_at(config.keys, 0);
}

/* Makes its bucket full, so that the test does not wait. */
static void wait_long(void)
{
    bucket_fill(&key_a()->state->bucket);
}

static void a_key_lets_in_and_nothing_else_does(void **state)
{
    (void)state;
    EXPECT(send_events(HEAD, 0, 1), "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\n");
    EXPECT(got, "\"error\":\"unauthorized\"");
    EXPECT(got, "has no key");
    EXPECT(send_events(HEAD "X-Api-Key: three\r\n", 0, 1), "is not known");
    EXPECT(send_events(HEAD "X-Api-Key: two\r\n", 0, 1), "HTTP/1.1 403 Forbidden\r\n");
    EXPECT(got, "\"error\":\"forbidden\"");
    EXPECT(send_events(ONE, 0, 1), "{\"accepted\":1,\"duplicates\":0}");
    EXPECT(send_events(HEAD, 0, 1), "HTTP/1.1 401");
    assert_int_equal(counted(METRIC_STREAM_received), 1);
    assert_int_equal(key_a()->state->events, 1);
    assert_int_equal(keys_at(config.keys, 1)->state->events, 0);
}

static void what_is_no_stream_or_post_is_told_without_a_key(void **state)
{
    (void)state;
    EXPECT(talk("POST /v1/t HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 404");
    EXPECT(talk("PUT /v1/s HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"), "HTTP/1.1 405");
}

static void each_of_pipelined_requests_needs_its_key(void **state)
{
    const char *answer = talk(ONE "Content-Length: 10\r\n\r\n{\"id\":\"a\"}" HEAD
                                  "Content-Length: 10\r\n\r\n{\"id\":\"b\"}" ONE
                                  "Content-Length: 10\r\n\r\n{\"id\":\"c\"}");

    (void)state;
    assert_int_equal(count(answer, "HTTP/1.1 202"), 2);
    assert_int_equal(count(answer, "HTTP/1.1 401"), 1);
    assert_int_equal(counted(METRIC_STREAM_accepted), 2);
}

static void too_many_events_are_refused_whole_and_counted(void **state)
{
    (void)state;
    EXPECT(send_events(ONE, 0, 8), "{\"accepted\":8");
    EXPECT(send_events(ONE, 8, 5), "HTTP/1.1 429 Too Many Requests\r\n");
    EXPECT(got, "\r\nRetry-After: 1\r\n");
    EXPECT(got, "\"error\":\"rate_limited\"");
    EXPECT(got, "Too many events with this key.");
    assert_int_equal(counted(METRIC_STREAM_received), 13);
    assert_int_equal(counted(METRIC_STREAM_accepted), 8);
    assert_int_equal(counted(METRIC_STREAM_rejected_rate_limited), 5);
    assert_int_equal(key_a()->state->events, 13);
    assert_int_equal(key_a()->state->limited, 5);
    wait_long();
    EXPECT(send_events(ONE, 8, 5), "{\"accepted\":5,\"duplicates\":0}");
}

static void more_than_a_seconds_worth_is_taken_and_others_wait_for_it(void **state)
{
    (void)state;
    EXPECT(send_events(ONE, 0, 205), "{\"accepted\":205");
    EXPECT(send_events(ONE, 300, 1), "HTTP/1.1 429");
    EXPECT(got, "\r\nRetry-After: 20\r\n");
}

static void what_admission_refuses_is_given_back(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        EXPECT(send_events(ONE, 0, RING_CAPACITY + 1), "HTTP/1.1 413");
    assert_true(ring_reserve(ring, RING_CAPACITY));
    for (int i = 0; i < 3; i++)
        EXPECT(send_events(ONE, 0, 10), "HTTP/1.1 503");
    ring_cancel(ring, RING_CAPACITY);
    EXPECT(send_events(ONE, 0, 10), "{\"accepted\":10");
    EXPECT(send_events(ONE, 20, 10), "HTTP/1.1 429");
    assert_int_equal(counted(METRIC_STREAM_rejected_rate_limited), 10);
}

static void a_bad_body_costs_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++)
        EXPECT(talk(ONE "Content-Length: 20\r\n\r\n{\"id\":\"a\"}{\"id\":\"b\"]"), "HTTP/1.1 400");
    EXPECT(send_events(ONE, 0, 10), "{\"accepted\":10");
    assert_int_equal(key_a()->state->events, 10);
}

static void a_connection_without_an_address_has_no_address_limits(void **state)
{
    (void)state;
    config.limits_address_events = 1;
    config.limits_address_requests = 1;
    shared.quota = quota_create(1);
    for (unsigned i = 0; i < 5; i++)
        EXPECT(send_events(ONE, 2 * i, 2), "{\"accepted\":2");
    quota_destroy(shared.quota);
}

static void without_keys_and_limits_nothing_is_asked(void **state)
{
    (void)state;
    EXPECT(send_events(HEAD, 0, 100), "{\"accepted\":100");
}

#define TEST_KEYS(name) cmocka_unit_test_setup_teardown(name, start_with_keys, stop_with_keys)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_KEYS(a_key_lets_in_and_nothing_else_does),
        TEST_KEYS(what_is_no_stream_or_post_is_told_without_a_key),
        TEST_KEYS(each_of_pipelined_requests_needs_its_key),
        TEST_KEYS(too_many_events_are_refused_whole_and_counted),
        TEST_KEYS(more_than_a_seconds_worth_is_taken_and_others_wait_for_it),
        TEST_KEYS(what_admission_refuses_is_given_back),
        TEST_KEYS(a_bad_body_costs_nothing),
        TEST_KEYS(a_connection_without_an_address_has_no_address_limits),
        TEST(without_keys_and_limits_nothing_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
