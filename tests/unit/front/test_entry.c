/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_entry.c - keys and limits before admission, over socket pairs.
 */
#include "conn_fixture.h"

/* Of the keys "one", for this stream, and "two", for another. */
#define KEYS                                                                       \
    "a b2:d01c06cb09606bc4b2cedf4266a3a20e1e636b467cb77a9dbed595094e02ea46 s 10\n" \
    "c b2:ec4dfb7cc48b7c81f22080d456d58c1ca83b063bf058b6f91d361376b9a2c623 s\n"    \
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

/* What a connection says once it is read again. */
static const char *answer_after_a_pause(void)
{
    const uint64_t begun_ms = clock_mono_ms();

    while (got_len == 0 && clock_mono_ms() - begun_ms < 20000) {
        turn();
        conn_expire(set);
        receive();
    }
    return got;
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
    assert_int_equal(keys_at(config.keys, 2)->state->events, 0);
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

/* So many requests too many that the connection is left unread. */
static void flood(void)
{
    static const char one[] = ONE "Content-Length: 10\r\n\r\n{\"id\":\"a\"}";
    static char text[60 * sizeof(one)];

    text[0] = '\0';
    for (int i = 0; i < 60; i++)
        strcat(text, one);
    EXPECT(send_events(ONE, 0, 10), "{\"accepted\":10");
    for (int i = 0; i < 4 && got_len > 0; i++)
        talk(text);
}

static void who_goes_on_sending_too_much_is_not_read_for_a_while(void **state)
{
    const uint64_t begun_ms = clock_mono_ms();

    (void)state;
    flood();
    assert_int_equal(got_len, 0);
    wait_long();
    EXPECT(answer_after_a_pause(), "HTTP/1.1 202");
    assert_true(clock_mono_ms() - begun_ms >= 500);
}

static void a_connection_of_several_keys_is_read_on(void **state)
{
    (void)state;
    EXPECT(send_events(HEAD "X-Api-Key: free\r\n", 0, 1), "{\"accepted\":1");
    EXPECT(send_events(ONE, 1, 10), "{\"accepted\":10");
    for (unsigned i = 0; i < 200; i++) {
        EXPECT(send_events(ONE, 20, 10), "HTTP/1.1 429");
        EXPECT(send_events(HEAD "X-Api-Key: free\r\n", 40 + i, 1), "{\"accepted\":1");
    }
}

static void a_connection_that_is_not_read_sees_a_drain(void **state)
{
    (void)state;
    flood();
    wait_long();
    conn_drain(set);
    EXPECT(answer_after_a_pause(), "HTTP/1.1 ");
    talk("");
    EXPECT(got, "");
    while (!closed)
        answer_after_a_pause();
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

#define LARGE_EVENTS 7000 /* of 11 bytes each */

/* A body of LARGE_EVENTS, and one that is broken at its end. */
static char large_body[LARGE_EVENTS * 11 + 1];

static const char *send_large(const char *head, bool broken)
{
    static char text[MAX_BODY + 1024];

    for (size_t i = 0; i < LARGE_EVENTS; i++)
        snprintf(large_body + 11 * i, 12, "{\"id\":%4zu}", 1000 + i);
    if (broken)
        large_body[sizeof(large_body) - 2] = ']';
    snprintf(text, sizeof(text), "%sContent-Length: %zu\r\n\r\n%s", head, strlen(large_body),
             large_body);
    return talk(text);
}

/* The connection is not left unread: it is somebody's proxy. */
static void be_a_proxy(void)
{
    EXPECT(send_events(HEAD "X-Api-Key: free\r\n", 0, 1), "{\"accepted\":1");
    EXPECT(send_events(ONE, 1, 1), "{\"accepted\":1");
    wait_long();
}

/* What key_a() is charged for refusals meanwhile, in bytes. */
static uint64_t begin_charge(void)
{
    bucket_fill(&key_a()->state->refusals);
    bucket_charge(&key_a()->state->refusals, 2, 1, clock_mono_ns());
    return key_a()->state->refusals.full_at_ns;
}

static uint64_t charged_since(uint64_t begun_ns)
{
    return (key_a()->state->refusals.full_at_ns - begun_ns) * (16 << 20) / 1000000000;
}

static void what_was_scanned_in_vain_is_charged(void **state)
{
    const size_t len = LARGE_EVENTS * 11;
    uint64_t begun_ns;

    (void)state;
    be_a_proxy();
    begun_ns = begin_charge();
    EXPECT(send_large(ONE, true), "HTTP/1.1 400");
    assert_in_range(charged_since(begun_ns), len - 1, len + 1);
    begun_ns = begin_charge();
    EXPECT(send_large(ONE "Prefer: handling=lenient\r\n", true), "HTTP/1.1 400");
    assert_in_range(charged_since(begun_ns), len - 1, len + 1);
    /* More events than the ring takes. */
    begun_ns = begin_charge();
    wait_long();
    EXPECT(send_large(ONE, false), "HTTP/1.1 413");
    assert_in_range(charged_since(begun_ns), len - 1, len + 1);
    /* More than there is room for, though there is some. */
    wait_long();
    EXPECT(send_events(ONE, 1, 1), "HTTP/1.1 202");
    begun_ns = begin_charge();
    EXPECT(send_large(ONE, false), "HTTP/1.1 429");
    assert_in_range(charged_since(begun_ns), len - 1, len + 1);
    /* What is no gzip. */
    begun_ns = begin_charge();
    EXPECT(talk(ONE "Content-Encoding: gzip\r\nContent-Length: 2000\r\n\r\n"), "");
    memset(large_body, 'x', 2000);
    EXPECT(talk_bytes(large_body, 2000), "HTTP/1.1 400");
    assert_in_range(charged_since(begun_ns), 1999, 2001);
    /* And what is good is free, with a known id too. */
    begun_ns = begin_charge();
    wait_long();
    EXPECT(send_events(ONE, 1, 10), "HTTP/1.1 202");
    assert_int_equal(charged_since(begun_ns), 0);
}

static void who_owes_has_no_large_body_scanned(void **state)
{
    uint64_t before;

    (void)state;
    be_a_proxy();
    EXPECT(send_events(ONE, 1, 1), "HTTP/1.1 202");
    bucket_charge(&key_a()->state->refusals, 1, UINT32_MAX, clock_mono_ns());
    before = counted(METRIC_STREAM_received);
    for (int i = 0; i < 20; i++) {
        EXPECT(send_large(ONE, i % 2 != 0), "HTTP/1.1 429");
        EXPECT(got, "Too many large bodies");
    }
    EXPECT(got, "\r\nRetry-After: 9\r\n");
    EXPECT(talk(ONE "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), "HTTP/1.1 429");
    EXPECT(talk(ONE "Transfer-Encoding: chunked\r\n\r\n2\r\n\x1f\x8b\r\n0\r\n\r\n"),
           "HTTP/1.1 429");
    assert_int_equal(counted(METRIC_STREAM_received), before);
    /* Small ones, and other keys', are taken as before. */
    wait_long();
    EXPECT(send_events(ONE, 1, 10), "HTTP/1.1 202");
    EXPECT(send_large(HEAD "X-Api-Key: free\r\n", true), "HTTP/1.1 400");
    bucket_fill(&key_a()->state->refusals);
    EXPECT(send_large(ONE, true), "HTTP/1.1 400");
}

/* From now on the stream's clients may put their key into the body. */
static void look_into_bodies(void)
{
    config.streams[0].events = (char *)(uintptr_t) "batch";
    config.streams[0].key_members[0] = (char *)(uintptr_t) "api_key";
    config.streams[0].key_members[1] = (char *)(uintptr_t) "/properties/token";
    config.streams[0].key_member_count = 2;
    route_init(&routes, &config);
}

static const char *send_body(const char *head, const char *body)
{
    static char text[4096];

    snprintf(text, sizeof(text), "%sContent-Length: %zu\r\n\r\n%s", head, strlen(body), body);
    return talk(text);
}

static void a_key_in_the_body_lets_in_like_one_in_the_head(void **state)
{
    static const char *const known[] = {
        "{\"api_key\":\"one\",\"batch\":[{\"id\":1}]}",
        "{\"batch\":[{\"id\":2}],\"sent\":1,\"api_key\":\"o\\u006ee\"}",
        "[{\"id\":3,\"properties\":{\"token\":\"one\"}},{\"id\":4}]",
        "{\"id\":5,\"api_key\":\"wrong\",\"properties\":{\"token\":\"one\"}}",
    };

    (void)state;
    look_into_bodies();
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        EXPECT(send_body(HEAD, known[i]), "HTTP/1.1 202");
    EXPECT(send_body(ONE, "{\"id\":6}"), "HTTP/1.1 202");
    EXPECT(send_body(HEAD "X-Api-Key: wrong\r\n", "{\"id\":7,\"api_key\":\"one\"}"),
           "HTTP/1.1 202");
    assert_int_equal(counted(METRIC_STREAM_accepted), 7);
    assert_int_equal(key_a()->state->events, 7);
}

static void a_body_without_its_key_is_refused_and_nothing_of_it_kept(void **state)
{
    static const char *const none[] = {
        "{\"batch\":[{\"id\":1,\"api_key\":\"one\"}]}",
        "[{\"id\":1},{\"id\":2,\"api_key\":\"one\"}]",
        "{\"id\":1,\"api_key\":7}",
        "{\"id\":1,\"api_key\":\"\"}",
        "{\"id\":1,\"properties\":{\"token\":null}}",
        "{\"api_key\":\"one\",\"batch\":[{\"id\":1},",
        "no json",
        "",
    };

    (void)state;
    look_into_bodies();
    for (size_t i = 0; i < ARRAY_LEN(none); i++) {
        /* Broken JSON behind the key is told as what it is. */
        if (strstr(none[i], "\"one\",\"batch\"") != NULL)
            EXPECT(send_body(HEAD, none[i]), "\"error\":\"invalid_json\"");
        else
            EXPECT(send_body(HEAD, none[i]), "\"error\":\"unauthorized\"");
    }
    EXPECT(send_body(HEAD, "{\"id\":1,\"api_key\":\"three\"}"), "is not known");
    EXPECT(send_body(HEAD, "{\"id\":1,\"api_key\":\"two\"}"), "HTTP/1.1 403");
    assert_int_equal(counted(METRIC_STREAM_received), 0);
    EXPECT(send_body(ONE, "{\"id\":1}"), "{\"accepted\":1");
}

static void a_key_in_a_chunked_body_counts_too(void **state)
{
    (void)state;
    look_into_bodies();
    EXPECT(talk(HEAD "Transfer-Encoding: chunked\r\n\r\n"
                     "1b\r\n{\"batch\":[{\"id\":1}],\"api_ke\r\n9\r\ny\":\"one\"}\r\n0\r\n\r\n"),
           "{\"accepted\":1");
}

static void the_rate_of_a_key_in_the_body_holds(void **state)
{
    (void)state;
    look_into_bodies();
    EXPECT(send_body(HEAD,
                     "{\"api_key\":\"one\",\"batch\":[{\"id\":1},{\"id\":2},{\"id\":3},{\"id\":4},"
                     "{\"id\":5},{\"id\":6},{\"id\":7},{\"id\":8},{\"id\":9},{\"id\":10}]}"),
           "{\"accepted\":10");
    EXPECT(send_body(HEAD, "{\"api_key\":\"one\",\"batch\":[{\"id\":11}]}"), "HTTP/1.1 429");
    assert_int_equal(key_a()->state->limited, 1);
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
        TEST_KEYS(who_goes_on_sending_too_much_is_not_read_for_a_while),
        TEST_KEYS(a_connection_of_several_keys_is_read_on),
        TEST_KEYS(a_connection_that_is_not_read_sees_a_drain),
        TEST_KEYS(more_than_a_seconds_worth_is_taken_and_others_wait_for_it),
        TEST_KEYS(what_admission_refuses_is_given_back),
        TEST_KEYS(a_bad_body_costs_nothing),
        TEST_KEYS(what_was_scanned_in_vain_is_charged),
        TEST_KEYS(who_owes_has_no_large_body_scanned),
        TEST_KEYS(a_key_in_the_body_lets_in_like_one_in_the_head),
        TEST_KEYS(a_body_without_its_key_is_refused_and_nothing_of_it_kept),
        TEST_KEYS(a_key_in_a_chunked_body_counts_too),
        TEST_KEYS(the_rate_of_a_key_in_the_body_holds),
        TEST_KEYS(a_connection_without_an_address_has_no_address_limits),
        TEST(without_keys_and_limits_nothing_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
