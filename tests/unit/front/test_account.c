/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_account.c - what is counted and told of answers, over socket pairs.
 */
#include "conn_fixture.h"

#include "alloy/log.h"

static struct refusal_note notes[REFUSALS_KEPT];
static char log_text[65536];

static int start_told(void **state)
{
    int err = start(state);

    shared.refusals = refusals_create();
    return err;
}

static int stop_told(void **state)
{
    int err = stop(state);

    refusals_destroy(shared.refusals);
    return err;
}

static uint64_t refused(unsigned stream, enum error_code error)
{
    return atomic_load(&thread->answers[stream][error]);
}

/* That there are n notes, of which the latest is lent. */
static const struct refusal_note *latest(size_t n)
{
    assert_int_equal(refusals_read(shared.refusals, notes), n);
    return &notes[0];
}

/* What is logged while request is answered. */
static const char *logged(int log_requests, const char *request)
{
    int pair[2], before = dup(STDERR_FILENO);
    ssize_t n;

    config.log_requests = log_requests;
    assert_int_equal(pipe(pair), 0);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    dup2(pair[1], STDERR_FILENO);
    talk(request);
    dup2(before, STDERR_FILENO);
    n = read(pair[0], log_text, sizeof(log_text) - 1);
    log_text[n > 0 ? n : 0] = '\0';
    close(pair[0]);
    close(pair[1]);
    close(before);
    return log_text;
}

static void pipelined_answers_count_for_their_own_requests(void **state)
{
    (void)state;
    talk(HEAD "Content-Length: 8\r\n\r\n{\"id\":1}" HEAD "Content-Length: 2\r\n\r\n{}"
              "POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}" HEAD
              "Content-Length: 2\r\n\r\n[]BAD\r\n\r\n");
    assert_int_equal(count(got, "HTTP/1.1 4"), 4);
    assert_int_equal(refused(0, ERROR_missing_id), 1);
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_not_found), 1);
    assert_int_equal(refused(0, ERROR_empty), 1);
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_bad_request), 1);
    assert_int_equal(refused(0, ERROR_NONE), 1);
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_NONE), 0);
    assert_int_equal(atomic_load(&thread->http_codes[400]), 3);
    assert_int_equal(atomic_load(&thread->http_codes[404]), 1);
    latest(4);
    assert_int_equal(notes[0].error, ERROR_bad_request);
    assert_string_equal(notes[0].path, "");
    assert_int_equal(notes[2].error, ERROR_not_found);
    assert_string_equal(notes[2].path, "/no");
    assert_int_equal(notes[3].stream, 0);
    assert_string_equal(notes[3].path, "/v1/s");
}

static void a_note_tells_the_place_and_nothing_that_is_secret(void **state)
{
    const struct refusal_note *note;

    (void)state;
    talk("POST /v1/s?key=secret HTTP/1.1\r\nHost: a\r\nX-Api-Key: secret\r\n"
         "Content-Length: 24\r\n\r\n{\"id\":1} {\"secret\":true}");
    note = latest(1);
    assert_int_equal(note->error, ERROR_missing_id);
    assert_true(note->has_event && note->has_offset);
    assert_int_equal(note->event, 1);
    assert_int_equal(note->offset, 9);
    assert_string_equal(note->method, "POST");
    assert_string_equal(note->path, "/v1/s");
    assert_string_equal(note->key, "");
    assert_non_null(strstr(note->message, "No id"));
    assert_null(memmem(note, sizeof(*note), "secret", 6));
}

static void the_line_outlives_a_body_that_comes_later(void **state)
{
    (void)state;
    talk("PUT /nowhere?x HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n");
    latest(0);
    for (int i = 0; i < 3; i++) {
        static char part[1001];

        memset(part, 'x', 1000);
        talk(part);
    }
    EXPECT(got, "404");
    assert_string_equal(latest(1)->path, "/nowhere");
    assert_string_equal(notes[0].method, "PUT");
    /* One whose client goes away before it is answered is counted nowhere. */
    talk("PUT /other HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n");
    close(client);
    turn();
    turn();
    latest(1);
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_not_found), 1);
    connect_client();
}

static void a_lenient_request_without_a_good_event_has_its_first_error(void **state)
{
    (void)state;
    talk(HEAD "Prefer: handling=lenient\r\nContent-Length: 11\r\n\r\n{}\n{\"id\":[]");
    EXPECT(got, "\"invalid\":2");
    assert_int_equal(refused(0, ERROR_missing_id), 1);
    assert_int_equal(latest(1)->event, 0);
    talk(HEAD "Prefer: handling=lenient\r\nContent-Length: 11\r\n\r\n{} {\"id\":9}");
    EXPECT(got, "HTTP/1.1 202");
    latest(1);
}

static void of_what_clickhouse_rejects_no_word_of_its_own_is_told(void **state)
{
    struct record *records[2];

    (void)state;
    talk("POST /v1/s?ack=clickhouse HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n"
         "{\"id\":1}{\"id\":2}");
    assert_int_equal(ring_take(ring, records, 2), 2);
    waiter_reason(waiters, records[1], 27, (struct slice){"secret", 6});
    journal_finish(journal, records, 1, RECORD_INSERTED);
    journal_finish(journal, records + 1, 1, RECORD_DEAD);
    EXPECT(talk(""), "HTTP/1.1 422 ");
    EXPECT(got, "secret");
    assert_int_equal(refused(0, ERROR_rejected), 1);
    assert_non_null(strstr(latest(1)->message, "dead-letter folder"));
    assert_true(notes[0].has_event && !notes[0].has_offset);
    assert_int_equal(notes[0].event, 1);
    assert_null(memmem(notes, sizeof(*notes), "secret", 6));
}

static void a_balancer_that_asks_is_counted_and_not_told(void **state)
{
    (void)state;
    shared.health = health_create();
    health_raise(shared.health, "draining", true, "text");
    talk("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT(got, "HTTP/1.1 503");
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_not_ready), 1);
    latest(0);
    health_destroy(shared.health);
    shared.health = NULL;
}

static void who_only_asks_takes_nothing(void **state)
{
    (void)state;
    config.server_cors_origins = "*";
    talk("OPTIONS /v1/s HTTP/1.1\r\nHost: a\r\nOrigin: https://a\r\n\r\n");
    EXPECT(got, "HTTP/1.1 204");
    assert_int_equal(refused(0, ERROR_NONE), 0);
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_NONE), 1);
}

static void connections_without_a_place_count_too(void **state)
{
    int other;

    (void)state;
    turn();
    other = client;
    connect_client();
    turn();
    close(client);
    shared.connections_max = 0;
    connect_client();
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_overloaded), 1);
    assert_string_equal(latest(1)->message, "There is no room for one more connection.");
    receive();
    close(client);
    client = other;
}

static void nothing_is_logged_unless_it_is_asked_for(void **state)
{
    (void)state;
    assert_string_equal(logged(CONFIG_LOG_OFF, HEAD "Content-Length: 2\r\n\r\n{}"), "");
    assert_string_equal(logged(CONFIG_LOG_REFUSED, HEAD "Content-Length: 10\r\n\r\n{\"id\":123}"),
                        "");
}

static void a_refusal_is_one_line(void **state)
{
    (void)state;
    logged(CONFIG_LOG_REFUSED, HEAD "Content-Length: 3\r\n\r\n {}");
    EXPECT(log_text, "level=info module=front msg=\"request refused\" status=400 "
                     "error=missing_id stream=s address=\"\" method=POST path=/v1/s event=0 "
                     "offset=1 message=\"No id");
    EXPECT(log_text, " suppressed=0\n");
    assert_int_equal(count(log_text, "\n"), 1);
    /* A path cannot bring a field of its own. */
    logged(CONFIG_LOG_REFUSED,
           "GET /\"stream=x\" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    EXPECT(log_text, " path=\"/\\\"stream=x\\\"\" message=");
}

static void lines_of_a_flood_are_few(void **state)
{
    char flood[8192] = "";
    uint64_t second = clock_mono_ns() / CLOCK_NS_PER_S;

    (void)state;
    for (int i = 0; i < 50; i++)
        strcat(flood, "GET /no HTTP/1.1\r\nHost: a\r\n\r\n");
    logged(CONFIG_LOG_REFUSED, flood);
    assert_int_equal(refused(METRIC_STREAM_NONE, ERROR_not_found), 50);
    /* The clock may have gone on to another second. */
    second = clock_mono_ns() / CLOCK_NS_PER_S - second;
    assert_in_range(count(log_text, "\n"), REFUSALS_A_SECOND, REFUSALS_A_SECOND * (second + 1));
    assert_in_range(refusals_read(shared.refusals, notes), REFUSALS_A_SECOND,
                    REFUSALS_A_SECOND * (second + 1));
}

static void every_request_is_a_line_when_all_are_asked_for(void **state)
{
    (void)state;
    logged(CONFIG_LOG_ALL, HEAD "Content-Length: 19\r\n\r\n{\"id\":41}\n{\"id\":41}" HEAD
                                "Content-Length: 2\r\n\r\n{}");
    EXPECT(log_text, "msg=\"request answered\" status=202 stream=s address=\"\" method=POST "
                     "path=/v1/s accepted=1 duplicates=1 invalid=0 bytes=19 ms=");
    EXPECT(log_text, "msg=\"request answered\" status=400 stream=s address=\"\" method=POST "
                     "path=/v1/s event=0 offset=0 accepted=0 duplicates=0 invalid=0 bytes=2 ms=");
    EXPECT(log_text, " error=missing_id message=\"No id");
    assert_int_equal(count(log_text, "\n"), 2);
}

#undef TEST
/* One proxy, and at the turn's end the connection is at the last one's request. */
static void each_of_pipelined_refusals_has_its_own_client(void **state)
{
    char address[ADDRESS_TEXT_MAX];

    (void)state;
    assert_int_equal(networks_create(&config.trusted_proxies, "unix:", NULL, NULL), 0);
    talk("GET /a HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
         "GET /b HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n"
         "GET /c HTTP/1.1\r\nHost: a\r\n\r\n");
    latest(3);
    for (int i = 0; i < 3; i++) {
        static const char *const clients[] = {"", "192.0.2.2", "192.0.2.1"};

        address_format(&notes[i].address, address);
        assert_string_equal(address, clients[i]);
    }
    networks_destroy(config.trusted_proxies);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start_told, stop_told)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pipelined_answers_count_for_their_own_requests),
        TEST(a_note_tells_the_place_and_nothing_that_is_secret),
        TEST(the_line_outlives_a_body_that_comes_later),
        TEST(a_lenient_request_without_a_good_event_has_its_first_error),
        TEST(of_what_clickhouse_rejects_no_word_of_its_own_is_told),
        TEST(a_balancer_that_asks_is_counted_and_not_told),
        TEST(who_only_asks_takes_nothing),
        TEST(connections_without_a_place_count_too),
        TEST(nothing_is_logged_unless_it_is_asked_for),
        TEST(a_refusal_is_one_line),
        TEST(lines_of_a_flood_are_few),
        TEST(every_request_is_a_line_when_all_are_asked_for),
        TEST(each_of_pipelined_refusals_has_its_own_client),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
