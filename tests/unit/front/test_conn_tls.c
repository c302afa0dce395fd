/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_tls.c - what only TLS connections have: handshakes, records, their end. Everything else
 * is in the tests of connections, which run over TLS too.
 */
#define OVER_TLS
#include "conn_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#define REQUEST(id) HEAD "Content-Length: 8\r\n\r\n{\"id\":" id "}"

static uint64_t counter(enum metric_counter_id id)
{
    return atomic_load(&thread->counters[id]);
}

/* A socket pair whose server side is accepted, and of which nothing is sent. */
static void connect_raw(void)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    client = pair[0];
    closed = false;
    conn_accept(set, pair[1], &(struct address){.family = ADDRESS_UNIX}, true);
}

static void turns(int n)
{
    for (int i = 0; i < n; i++)
        turn();
}

/* What the server's side has sent, raw, until it has nothing more. */
static const char *receive_raw(void)
{
    ssize_t n;

    got_len = 0;
    while ((n = recv(client, got + got_len, sizeof(got) - 1 - got_len, 0)) > 0)
        got_len += (size_t)n;
    closed = n == 0;
    got[got_len] = '\0';
    return got;
}

/* The bytes that the client would send, without sending them. */
static size_t seal(const char *text, size_t len, char *out, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    size_t n;

    SSL_set0_wbio(clients[client], bio);
    assert_int_equal(SSL_write(clients[client], text, (int)len), len);
    n = (size_t)BIO_read(bio, out, (int)size);
    SSL_set0_wbio(clients[client], BIO_new_socket(client, BIO_NOCLOSE));
    return n;
}

/* The first message of a new client, not yet sent. Returns its length. */
static size_t hello(char *out, size_t size)
{
    SSL *ssl = client_make();
    BIO *bio = BIO_new(BIO_s_mem());
    size_t len;

    SSL_set0_wbio(ssl, bio);
    assert_int_equal(SSL_do_handshake(ssl), -1);
    len = (size_t)BIO_read(bio, out, (int)size);
    SSL_set0_wbio(ssl, BIO_new_socket(client, BIO_NOCLOSE));
    return len;
}

/* Each byte is a record of its own, and all are there at once: the buffer is full of nothing, and
 * OpenSSL has read ahead of it. */
static void a_request_of_records_of_one_byte_is_the_same_request(void **state)
{
    static const char request[] = REQUEST("1") REQUEST("2");
    static char sealed[64000];
    size_t len = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(request) - 1; i++)
        len += seal(request + i, 1, sealed + len, sizeof(sealed) - len);
    assert_int_equal(send(client, sealed, len, 0), len);
    talk("");
    assert_int_equal(count(got, "\"accepted\":1,"), 2);
}

/* And so it is where the records arrive byte by byte. */
static void records_torn_at_every_byte_are_the_same_request(void **state)
{
    static const char request[] = REQUEST("1");
    char sealed[1024];
    size_t len = seal(request, sizeof(request) - 1, sealed, sizeof(sealed));

    (void)state;
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(send(client, sealed + i, 1, 0), 1);
        turn();
        if (i + 1 == len)
            continue;
        got_len = 0;
        receive();
        assert_int_equal(got_len, 0);
        /* A part of a record is paid for. */
        assert_true(atomic_load(&shared.budget.used) >= 17408);
    }
    EXPECT(talk(""), "\"accepted\":1,");
    assert_true(atomic_load(&shared.budget.used) <= 16384);
}

/* What OpenSSL holds makes no event. A record that is as long as our buffer, while that holds the
 * beginning of a request, does not fit, and nothing else comes. */
static void what_openssl_has_read_is_not_forgotten(void **state)
{
    enum {
        FIRST = 100,
        RECORD = 16384,
        BARE = sizeof(HEAD "X: \r\nContent-Length: 15\r\n\r\n{\"id\":10000000}") - 1
    };
    static char text[FIRST + RECORD + 1];
    size_t len = 0;
    int n = 0;

    (void)state;
    for (; len < FIRST + RECORD; n++) {
        const size_t left = FIRST + RECORD - len;
        /* The last one ends where the record does. */
        const size_t padding = left < 2 * (BARE + 60) ? left - BARE : 60;

        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                HEAD "X: %0*d\r\nContent-Length: 15\r\n\r\n{\"id\":1000%04d}",
                                (int)padding, 0, n);
    }
    assert_int_equal(len, FIRST + RECORD);
    got_len = 0;
    assert_int_equal(client_send(text, FIRST), FIRST);
    turn();
    assert_int_equal(client_send(text + FIRST, RECORD), RECORD);
    talk("");
    assert_int_equal(count(got, "\"accepted\":1,"), n);
}

/* The same where the bytes come while the connection waits for ClickHouse. */
static void what_openssl_has_read_is_read_after_a_wait(void **state)
{
    static char text[30000];
    struct record *records[64];
    size_t len, n;

    (void)state;
    len = (size_t)snprintf(text, sizeof(text),
                           "POST /v1/s?ack=clickhouse HTTP/1.1\r\nHost: a\r\n"
                           "Content-Length: 8\r\n\r\n{\"id\":1}");
    /* More than fits into the buffer behind it. */
    for (n = 0; len < 20000; n++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                HEAD "Content-Length: 15\r\n\r\n{\"id\":1000%04zu}", n);
    assert_string_equal(talk_bytes(text, len), "");
    assert_int_equal(atomic_load(&shared.waiting), 1);
    journal_finish(journal, records, ring_take(ring, records, 64), RECORD_INSERTED);
    talk("");
    assert_int_equal(count(got, "\"accepted\":1,"), n + 1);
}

/* Nothing is to be done: no turn asks for another one. */
static void nothing_spins(void **state)
{
    static const char request[] = REQUEST("1");
    char sealed[1024];
    size_t len = seal(request, sizeof(request) - 1, sealed, sizeof(sealed));

    (void)state;
    assert_int_equal(send(client, sealed, len / 2, 0), len / 2);
    turns(3);
    for (int i = 0; i < 10; i++) {
        assert_false(conn_turn_begin(set));
        assert_int_equal(event_base_get_num_events(base, EVENT_BASE_COUNT_ACTIVE), 0);
        conn_turn_end(set);
    }
    assert_int_equal(send(client, sealed + len / 2, len - len / 2, 0), len - len / 2);
    EXPECT(talk(""), "\"accepted\":1,");
    turns(3);
    assert_false(conn_turn_begin(set));
    conn_turn_end(set);
}

static void plain_http_is_told_where_it_is(void **state)
{
    static const char *const requests[] = {
        "POST /v1/s HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n{\"id\":1}",
        "OPTIONS /v1/s HTTP/1.1\r\nHost: a\r\n\r\n",
        "B",
    };

    (void)state;
    shared.connections_max = 10;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        int first = client;

        connect_raw();
        assert_true(send(client, requests[i], strlen(requests[i]), 0) > 0);
        turns(2);
        EXPECT(receive_raw(), "HTTP/1.1 400 Bad Request\r\n");
        EXPECT(got, "\"error\":\"bad_request\"");
        EXPECT(got, "This port speaks TLS");
        assert_true(closed);
        close(client);
        turns(2);
        client = first;
    }
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_failed), ARRAY_LEN(requests));
    assert_int_equal(atomic_load(&shared.connections), 1);
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
}

static void what_is_no_tls_is_an_alert_and_the_end(void **state)
{
    int first = client;

    (void)state;
    connect_raw();
    assert_true(send(client, "\x16\x03\x01\x00\x05hello and more", 19, 0) > 0);
    turns(2);
    receive_raw();
    assert_true(closed);
    assert_int_equal(got_len, 7);
    assert_memory_equal(got, "\x15\x03", 2);
    /* It may go on sending until it has read that. */
    assert_int_equal(send(client, "x", 1, MSG_NOSIGNAL), 1);
    turn();
    close(client);
    turns(2);
    client = first;
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_failed), 1);
    assert_int_equal(atomic_load(&shared.connections), 1);
    assert_int_equal(atomic_load(&shared.budget.used) / 65536, 0);
}

static void a_client_that_leaves_in_the_handshake_leaves_nothing(void **state)
{
    int first = client;

    (void)state;
    /* Once without a byte, once after its first message. */
    for (int i = 0; i < 2; i++) {
        connect_raw();
        if (i == 1)
            assert_int_equal(SSL_do_handshake(client_make()), -1);
        turns(2);
        assert_int_equal(atomic_load(&shared.budget.used) >= 65536, i == 1);
        client_close(client);
        turns(2);
        client = first;
        assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_failed), i);
        assert_int_equal(atomic_load(&shared.connections), 1);
        assert_int_equal(atomic_load(&shared.budget.used), 0);
    }
}

static void a_handshake_has_its_time_and_then_ends_silently(void **state)
{
    uint64_t deadline = clock_mono_ms() + 5000;
    int first = client;

    (void)state;
    config.server_head_timeout_ms = 30;
    connect_raw();
    assert_int_equal(SSL_do_handshake(client_make()), -1);
    turns(2);
    receive_raw();
    assert_true(got_len > 0);
    while (!closed && clock_mono_ms() < deadline) {
        turn();
        conn_expire(set);
        receive_raw();
        assert_int_equal(got_len, 0);
    }
    assert_true(closed);
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_failed), 1);
    client_close(client);
    client = first;
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
}

/* A turn has room for some. */
static void many_handshakes_are_spread_over_turns(void **state)
{
    enum { COUNT = 200 };
    static char hellos[COUNT][1024];
    size_t hello_lens[COUNT];
    int fds[COUNT], first = client;
    size_t answered = 0;

    (void)state;
    shared.connections_max = COUNT + 1;
    shared.budget.max = 2 * COUNT * 65536ul;
    /* First one byte of each, so that libevent makes room for so many events at once. */
    for (size_t i = 0; i < COUNT; i++) {
        connect_raw();
        fds[i] = client;
        hello_lens[i] = hello(hellos[i], sizeof(hellos[i]));
        assert_int_equal(send(client, hellos[i], 1, 0), 1);
    }
    turns(20);
    for (size_t i = 0; i < COUNT; i++)
        assert_true(send(fds[i], hellos[i] + 1, hello_lens[i] - 1, 0) > 0);
    client = first;
    assert_true(client_send(REQUEST("1"), sizeof(REQUEST("1")) - 1) > 0);
    turns(3); /* libevent looks at 64 events or more in each */
    got_len = 0;
    receive();
    EXPECT(got, "\"accepted\":1,");
    for (size_t i = 0; i < COUNT; i++) {
        struct pollfd waiting = {.fd = fds[i], .events = POLLIN};

        answered += poll(&waiting, 1, 0) == 1;
    }
    assert_in_range(answered, 1, COUNT - 1);
    for (int i = 0; i < TURNS_MAX && answered > 0; i++) {
        turn();
        answered = 0;
        for (size_t k = 0; k < COUNT; k++)
            answered += SSL_do_handshake(clients[fds[k]]) != 1;
        ERR_clear_error();
    }
    assert_int_equal(answered, 0);
    turns(COUNT);
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_full), COUNT + 1);
    for (size_t i = 0; i < COUNT; i++)
        client_close(fds[i]);
    turns(2);
    assert_int_equal(atomic_load(&shared.connections), 1);
}

static void without_room_for_a_handshake_the_connection_ends(void **state)
{
    int first = client;

    (void)state;
    assert_true(buffer_budget_take(&shared.budget, MAX_BUFFERS - 65535));
    connect_raw();
    assert_int_equal(SSL_do_handshake(client_make()), -1);
    turns(2);
    receive_raw();
    assert_true(closed);
    assert_int_equal(got_len, 0);
    client_close(client);
    client = first;
    buffer_budget_give(&shared.budget, MAX_BUFFERS - 65535);
    turns(2);
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_failed), 1);
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
}

/* Who only begins handshakes leaves half of the memory to requests. */
static void handshakes_take_half_of_the_memory_at_most(void **state)
{
    enum { COUNT = 10 };
    int fds[COUNT], first = client;
    size_t ended = 0;

    (void)state;
    shared.connections_max = COUNT + 1;
    shared.budget.max = 4 * 2 * 65536;
    for (size_t i = 0; i < COUNT; i++) {
        connect_raw();
        fds[i] = client;
        assert_int_equal(SSL_do_handshake(client_make()), -1);
        turns(10);
        assert_true(atomic_load(&shared.budget.used) <= shared.budget.max / 2);
        receive_raw();
        ended += closed;
    }
    assert_int_equal(ended, COUNT - 4);
    client = first;
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
    for (size_t i = 0; i < COUNT; i++)
        client_close(fds[i]);
    turns(4);
    assert_int_equal(atomic_load(&shared.connections), 1);
}

static void one_connection_too_many_is_closed(void **state)
{
    int first = client;

    (void)state;
    shared.connections_max = 1;
    connect_raw();
    receive_raw();
    assert_true(closed);
    assert_int_equal(got_len, 0);
    close(client);
    client = first;
    assert_int_equal(atomic_load(&shared.refused), 0);
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
}

/* A client whose socket takes little of what the server sends. */
static void connect_narrow(int send_bytes)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &send_bytes, sizeof(send_bytes)),
                     0);
    client = pair[0];
    closed = false;
    conn_accept(set, pair[1], &(struct address){.family = ADDRESS_UNIX}, true);
    client_greet();
}

/* The socket takes a part of a record, or one of two: the rest must be the same bytes, once. */
static void answers_that_do_not_fit_into_the_socket_follow_whole(void **state)
{
    enum { ANSWERS = 60 };
    static char text[ANSWERS * 128];
    size_t len = 0, answers, kept = 0;
    int first = client;

    (void)state;
    for (int i = 0; i < ANSWERS; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                HEAD "Content-Encoding: br\r\nContent-Length: 0\r\n\r\n");
    for (int bytes = 2048; bytes < 32768; bytes += 1024) {
        size_t all = 0;

        connect_narrow(bytes);
        assert_int_equal(client_send(text, len), len);
        turns(4);
        kept += atomic_load(&shared.budget.used) > 17408;
        for (answers = 0; answers < ANSWERS; turn()) {
            got_len = 0;
            receive();
            assert_false(closed);
            answers += count(got, "{");
            all += got_len;
        }
        got_len = 0;
        receive();
        assert_int_equal(got_len, 0);
        assert_int_equal(answers, ANSWERS);
        assert_true(all > 16384); /* more than one record */
        turns(4);
        assert_true(atomic_load(&shared.budget.used) <= 16384);
        client_close(client);
        turns(2);
    }
    assert_true(kept > 0);
    client = first;
}

static void new_keys_are_taken_in_the_middle(void **state)
{
    (void)state;
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
    for (int i = 2; i < 8; i++) {
        char request[256];

        assert_int_equal(SSL_key_update(clients[client], SSL_KEY_UPDATE_REQUESTED), 1);
        snprintf(request, sizeof(request), REQUEST("%d"), i);
        EXPECT(talk(request), "\"accepted\":1,");
    }
}

/* A client that sends nothing else does not keep the thread from the others. */
static void new_keys_without_end_take_a_part_of_a_turn(void **state)
{
    static char sealed[150000];
    BIO *bio = BIO_new(BIO_s_mem());
    SSL *ssl = clients[client];
    int left = 0, before;
    size_t len;

    (void)state;
    SSL_set0_wbio(ssl, bio);
    while (BIO_pending(bio) < (int)sizeof(sealed) - 100) {
        assert_int_equal(SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(ssl), 1);
    }
    len = (size_t)BIO_read(bio, sealed, sizeof(sealed));
    SSL_set0_wbio(ssl, BIO_new_socket(client, BIO_NOCLOSE));
    assert_int_equal(send(client, sealed, len, 0), len);
    assert_int_equal(ioctl(server_side, FIONREAD, &left), 0);
    assert_int_equal(left, len);
    for (int i = 0; left > 0; i++) {
        before = left;
        turn();
        assert_int_equal(ioctl(server_side, FIONREAD, &left), 0);
        assert_in_range(before - left, 1, 32768);
        assert_true(i < 100);
    }
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
}

/* What OpenSSL has to say itself waits for the socket too. */
static void new_keys_and_a_full_socket_do_not_spin(void **state)
{
    char fill[4096] = {0};
    int flags;
    size_t filled = 0;
    ssize_t n;

    (void)state;
    receive(); /* tickets */
    flags = fcntl(server_side, F_GETFL);
    assert_true(flags >= 0 && (flags & O_NONBLOCK));
    while ((n = send(server_side, fill, sizeof(fill), 0)) > 0)
        filled += (size_t)n;
    while ((n = send(server_side, fill, 1, 0)) > 0)
        filled += (size_t)n;
    assert_true(filled > 0);
    assert_int_equal(SSL_key_update(clients[client], SSL_KEY_UPDATE_REQUESTED), 1);
    assert_true(client_send("POST", 4) > 0);
    turns(3);
    for (int i = 0; i < 10; i++) {
        assert_false(conn_turn_begin(set));
        assert_int_equal(event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
        conn_turn_end(set);
    }
    /* Once there is room again it goes on. */
    while (filled > 0) {
        n = recv(client, fill, sizeof(fill) < filled ? sizeof(fill) : filled, 0);
        assert_true(n > 0);
        filled -= (size_t)n;
    }
    EXPECT(talk(REQUEST("1") + 4), "\"accepted\":1,");
}

static void a_resumed_handshake_counts_as_such(void **state)
{
    SSL_SESSION *ticket;
    int first = client;
    SSL *ssl;

    (void)state;
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
    ticket = SSL_get1_session(clients[client]);
    connect_raw();
    ssl = client_make();
    assert_int_equal(SSL_set_session(ssl, ticket), 1);
    for (int i = 0; SSL_do_handshake(ssl) != 1; i++) {
        assert_true(i < 100);
        turn();
    }
    EXPECT(talk(REQUEST("2")), "\"accepted\":1,");
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_full), 1);
    assert_int_equal(counter(METRIC_COUNTER_tls_handshakes_resumed), 1);
    SSL_SESSION_free(ticket);
    client_close(client);
    client = first;
}

/* New connections use what is in force; open ones keep what they have. */
static void another_certificate_is_for_new_connections(void **state)
{
    const char *const paths[TLS_FILE_COUNT] = {tls_path("other.pem"), tls_path("other.key"), ""};
    struct identity other = tls_identity("other.example", &tls_ca, false, 90);
    struct tls_problems problems;
    int first = client;
    X509 *seen;

    (void)state;
    tls_write_certs("other.pem", other.cert, NULL);
    tls_write_key("other.key", other.key, NULL);
    assert_int_equal(tls_load(&config.tls, paths, &problems), 0);
    connect_client();
    seen = SSL_get1_peer_certificate(clients[client]);
    assert_int_equal(X509_cmp(seen, other.cert), 0);
    EXPECT(talk(REQUEST("1")), "\"accepted\":1,");
    tls_destroy(config.tls);
    config.tls = server_tls;
    EXPECT(talk(REQUEST("2")), "\"accepted\":1,");
    client_close(client);
    client = first;
    EXPECT(talk(REQUEST("3")), "\"accepted\":1,");
    X509_free(seen);
    tls_identity_free(&other);
}

static void a_drain_does_not_wait_for_a_handshake(void **state)
{
    int first = client;

    (void)state;
    connect_raw();
    assert_int_equal(SSL_do_handshake(client_make()), -1);
    turn();
    conn_drain(set);
    conn_turn_end(set);
    assert_int_equal(atomic_load(&shared.connections), 0);
    /* Who goes on with it is told. */
    for (int i = 0; SSL_do_handshake(clients[client]) != 1; i++) {
        assert_true(i < 100);
        turn();
    }
    EXPECT(talk(REQUEST("1")), "HTTP/1.1 503");
    EXPECT(got, "\"draining\"");
    assert_true(closed);
    client_close(client);
    client = first;
}

#define PROXY "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"

/* In one piece with the first of TLS, or in many: the handshake finds its own bytes. */
static void a_proxy_header_comes_before_the_handshake(void **state)
{
    const size_t len = strlen(PROXY);
    int first = client;

    (void)state;
    config.server_proxy_protocol = true;
    for (size_t piece = 1; piece <= len; piece += len - 1) {
        connect_raw();
        for (size_t at = 0; at < len; at += piece) {
            assert_int_equal(send(client, PROXY + at, piece, 0), piece);
            if (piece < len)
                turn();
        }
        client_greet();
        EXPECT(talk(REQUEST("1")), piece == 1 ? "\"accepted\":1," : "\"duplicates\":1");
        client_close(client);
        turns(2);
    }
    client = first;
}

static void tls_without_a_proxy_header_is_refused_where_that_is_asked_for(void **state)
{
    int first = client;

    (void)state;
    config.server_proxy_protocol = true;
    connect_raw();
    assert_int_equal(SSL_do_handshake(client_make()), -1);
    turns(2);
    EXPECT(receive_raw(), "HTTP/1.1 400");
    EXPECT(got, "does not begin with a PROXY header");
    client_close(client);
    turns(2);
    client = first;
}

/* A header that is read as the drain begins takes its connection to the handshake: each is counted
 * once. */
static void a_drain_waits_for_no_greeting_and_no_handshake(void **state)
{
    int first = client, fds[3];

    (void)state;
    config.server_proxy_protocol = true;
    shared.connections_max = 4;
    for (int i = 0; i < 3; i++) {
        connect_raw();
        fds[i] = client;
        if (i > 0)
            assert_int_equal(send(client, PROXY, strlen(PROXY), 0), strlen(PROXY));
        if (i == 1)
            turns(2);
    }
    conn_drain(set);
    conn_turn_end(set);
    assert_int_equal(atomic_load(&shared.connections), 0);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    turns(2);
    assert_int_equal(atomic_load(&shared.connections), 0);
    client = first;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_request_of_records_of_one_byte_is_the_same_request),
        TEST(records_torn_at_every_byte_are_the_same_request),
        TEST(what_openssl_has_read_is_not_forgotten),
        TEST(what_openssl_has_read_is_read_after_a_wait),
        TEST(nothing_spins),
        TEST(plain_http_is_told_where_it_is),
        TEST(what_is_no_tls_is_an_alert_and_the_end),
        TEST(a_client_that_leaves_in_the_handshake_leaves_nothing),
        TEST(a_handshake_has_its_time_and_then_ends_silently),
        TEST(many_handshakes_are_spread_over_turns),
        TEST(without_room_for_a_handshake_the_connection_ends),
        TEST(handshakes_take_half_of_the_memory_at_most),
        TEST(one_connection_too_many_is_closed),
        TEST(answers_that_do_not_fit_into_the_socket_follow_whole),
        TEST(new_keys_are_taken_in_the_middle),
        TEST(new_keys_without_end_take_a_part_of_a_turn),
        TEST(new_keys_and_a_full_socket_do_not_spin),
        TEST(a_resumed_handshake_counts_as_such),
        TEST(another_certificate_is_for_new_connections),
        TEST(a_drain_does_not_wait_for_a_handshake),
        TEST(a_proxy_header_comes_before_the_handshake),
        TEST(tls_without_a_proxy_header_is_refused_where_that_is_asked_for),
        TEST(a_drain_waits_for_no_greeting_and_no_handshake),
    };

    return cmocka_run_group_tests(tests, GROUP_SETUP, GROUP_TEARDOWN);
}
