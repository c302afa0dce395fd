/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_conn_coding.c - compressed bodies: decoded at once or over turns, within the budget.
 */
#define MAX_BODY (3 << 20)
#define MAX_BUFFERS (16 << 20)
#define RING_CAPACITY 40000
#include "conn_fixture.h"

#include <zlib.h>
#include <zstd.h>

#define ROOM (4 << 20)
#define GZIP "Content-Encoding: gzip\r\n"

static char body[ROOM];
static char packed[ROOM];
static char request[ROOM];
static size_t request_len, request_count;

static size_t gzip(const char *data, size_t len, char *to)
{
    z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)data,
                       .avail_in = (uInt)len,
                       .next_out = (Bytef *)to,
                       .avail_out = ROOM};

    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    return stream.total_out;
}

/* Events first..first + count, one a line of about bytes bytes, made from four letters: with "abcd"
 * they compress to a quarter, with "aaaa" to nothing. */
static size_t make_body(size_t first, size_t events, size_t bytes, const char *letters)
{
    static uint32_t seed = 1;
    size_t len = 0;

    for (size_t i = 0; i < events; i++) {
        len += (size_t)sprintf(body + len, "{\"id\":%08zu,\"x\":\"", 10000000 + first + i);
        for (size_t j = 24; j < bytes; j++)
            body[len++] = letters[(seed = seed * 1664525u + 1013904223u) >> 30];
        len += (size_t)sprintf(body + len, "\"}\n");
    }
    return len;
}

/* Puts one more request behind those that request holds. */
static void add_request(const char *headers, const char *data, size_t len)
{
    request_len +=
        (size_t)sprintf(request + request_len, HEAD "%sContent-Length: %zu\r\n\r\n", headers, len);
    request_count++;
    assert_true(request_len + len <= ROOM);
    memcpy(request + request_len, data, len);
    request_len += len;
}

static void add_gzip(const char *data, size_t len)
{
    add_request(GZIP, packed, gzip(data, len, packed));
}

static void add_gzip_text(const char *text)
{
    add_gzip(text, strlen(text));
}

/* Sends what was added, and waits for its answers. */
static const char *say(void)
{
    talk_bytes(request, request_len);
    for (int i = 0; i < 1000 && count(got, "HTTP/1.1") < request_count; i++) {
        turn();
        receive();
    }
    request_len = 0;
    request_count = 0;
    return got;
}

/* Little is kept behind what was decoded, and nothing when no other follows. */
static void expect_memory_back(void)
{
    assert_true(atomic_load(&shared.budget.used) < 700000);
    conn_expire(set);
    conn_expire(set);
    assert_true(atomic_load(&shared.budget.used) < 100000);
}

static void each_coding_is_taken_and_what_looks_like_gzip_without_one(void **state)
{
    size_t len;

    (void)state;
    add_gzip_text("{\"id\":1}");
    EXPECT(say(), "\"accepted\":1,");
    add_request("", packed, gzip("{\"id\":2}", 8, packed));
    EXPECT(say(), "\"accepted\":1,");
    add_request("Content-Encoding: identity\r\n", packed, gzip("{\"id\":3}", 8, packed));
    EXPECT(say(), "\"accepted\":1,");
    len = compressBound(8);
    assert_int_equal(compress((Bytef *)packed, &len, (const Bytef *)"{\"id\":4}", 8), Z_OK);
    add_request("Content-Encoding: deflate\r\n", packed, len);
    EXPECT(say(), "\"accepted\":1,");
    len = ZSTD_compress(packed, ROOM, "{\"id\":5}", 8, 1);
    add_request("Content-Encoding: zstd\r\n", packed, len);
    EXPECT(say(), "\"accepted\":1,");
    assert_int_equal(take_all(), 5);
    add_gzip_text("{\"id\":1} {\"id\":2} {\"id\":3} {\"id\":4} {\"id\":5}");
    EXPECT(say(), "{\"accepted\":0,\"duplicates\":5}");
}

static void a_refused_body_leaves_the_connection_and_the_next_request(void **state)
{
    size_t len;

    (void)state;
    len = gzip("{\"id\":1}", 8, packed);
    packed[len - 5] ^= 1;
    add_request(GZIP, packed, len);
    add_request(GZIP, packed, 10);
    add_request("Content-Encoding: br\r\n", packed, len);
    add_request(GZIP, "{\"id\":1}", 8);
    add_gzip_text("{\"id\":2} {}");
    add_gzip_text("{\"id\":1}");
    say();
    EXPECT(got, "\"message\":\"The body is not valid gzip.\"");
    EXPECT(got, "\"message\":\"The body ends before its gzip data does.\"");
    EXPECT(got, "HTTP/1.1 415 Unsupported Media Type\r\nAccept-Encoding: gzip, deflate, zstd\r\n");
    EXPECT(got, "\"error\":\"missing_id\"");
    EXPECT(got, "\"event\":1,\"offset\":9");
    EXPECT(got, "{\"accepted\":1,\"duplicates\":0}");
    assert_int_equal(count(got, "HTTP/1.1 400"), 4);
    assert_int_equal(count(got, "HTTP/1.1"), 6);
    assert_false(closed);
    assert_int_equal(take_all(), 1);
}

static void a_chunked_body_can_be_compressed(void **state)
{
    size_t len = gzip("{\"id\":1}", 8, packed);

    (void)state;
    request_len = (size_t)sprintf(request, HEAD GZIP "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t i = 0; i < len; i++) {
        memcpy(request + request_len, "1\r\n", 3);
        request[request_len + 3] = packed[i];
        memcpy(request + request_len + 4, "\r\n", 2);
        request_len += 6;
    }
    memcpy(request + request_len, "0\r\n\r\n", 5);
    request_len += 5;
    request_count = 1;
    EXPECT(say(), "\"accepted\":1,");
}

/* Bodies go on from one piece of memory in the next, and one that is refused leaves no trace. */
static void many_bodies_of_one_turn_are_all_right(void **state)
{
    size_t first = 0, len;

    (void)state;
    for (size_t round = 0; round < 3; round++) {
        size_t sent = 0;

        for (size_t i = 0; i < 10; i++) {
            size_t events = 5 + (round * 7 + i * 11) % 100;

            len = make_body(first + sent, events, 2000, "aaaa");
            add_gzip(body, len);
            sent += events;
        }
        /* Decodes to nearly as much as is decoded at once, and fails at its end. */
        memset(body, ' ', 250000);
        len = gzip(body, 250000, packed);
        packed[len - 5] ^= 1;
        add_request(GZIP, packed, len);
        say();
        assert_int_equal(count(got, "\"duplicates\":0"), 10);
        assert_int_equal(count(got, "HTTP/1.1 400"), 1);
        assert_int_equal(take_all(), sent);
        first += sent;
    }
}

static void a_body_may_decode_to_max_body_and_not_to_one_byte_more(void **state)
{
    size_t len = (size_t)sprintf(body, "{\"id\":1}");

    (void)state;
    memset(body + len, ' ', MAX_BODY + 1 - len);
    add_gzip(body, MAX_BODY + 1);
    EXPECT(say(), "HTTP/1.1 413");
    EXPECT(got, "\"message\":\"The decoded body is larger than server.max_body.\"");
    assert_false(closed);
    add_gzip(body, MAX_BODY);
    EXPECT(say(), "\"accepted\":1,\"duplicates\":0");
    assert_int_equal(take_all(), 1);
}

static void others_are_served_while_a_large_body_is_decoded(void **state)
{
    int slow = client, turns = 0;
    size_t len = make_body(0, 1000, 2500, "abcd");
    size_t packed_len = gzip(body, len, packed), sent = 0;

    (void)state;
    assert_true(packed_len > 500000);
    add_request(GZIP, packed, packed_len);
    while (sent < request_len) {
        ssize_t n = client_send(request + sent, request_len - sent);

        sent += n > 0 ? (size_t)n : 0;
        turn();
    }
    request_len = request_count = 0;
    connect_client();
    add_gzip_text("{\"id\":1}");
    EXPECT(say(), "\"accepted\":1,\"duplicates\":0");
    client_close(client);
    client = slow;
    for (got_len = 0; got_len == 0; turns++) {
        assert_true(turns < TURNS_MAX);
        turn();
        receive();
    }
    assert_true(turns > 10);
    EXPECT(got, "{\"accepted\":1000,\"duplicates\":0}");
    assert_int_equal(take_all(), 1001);
    expect_memory_back();
}

static void what_only_its_decoding_shows_to_be_large_is_taken(void **state)
{
    size_t len = compressBound(300000);

    (void)state;
    /* deflate announces no length. */
    memset(body, ' ', 300000);
    memcpy(body, "{\"id\":1}", 8);
    assert_int_equal(compress((Bytef *)packed, &len, (const Bytef *)body, 300000), Z_OK);
    assert_true(len < 30000);
    add_request("Content-Encoding: deflate\r\n", packed, len);
    add_gzip_text("{\"id\":2}");
    say();
    assert_int_equal(count(got, "\"accepted\":1,"), 2);
    assert_int_equal(take_all(), 2);
}

static void an_announced_length_that_is_wrong_costs_nothing(void **state)
{
    size_t len = gzip("{\"id\":1}", 8, packed);

    (void)state;
    memcpy(packed + len - 4, "\xff\xff\xff\x7f", 4);
    add_request(GZIP, packed, len);
    EXPECT(say(), "\"message\":\"The body is not valid gzip.\"");
    assert_true(atomic_load(&shared.budget.used) < 400000);
}

static void a_bomb_is_refused_and_its_memory_given_back(void **state)
{
    (void)state;
    memset(body, 0, sizeof(body));
    add_gzip(body, sizeof(body));
    add_gzip_text("{\"id\":1}");
    say();
    EXPECT(got, "HTTP/1.1 413");
    EXPECT(got, "\"accepted\":1,");
    expect_memory_back();
}

static void without_memory_to_decode_the_answer_is_503(void **state)
{
    size_t used, taken;

    (void)state;
    add_gzip_text("{\"id\":1}");
    EXPECT(say(), "\"accepted\":1,");
    used = atomic_load(&shared.budget.used);
    /* Not enough for a large body, but for its request. */
    taken = MAX_BUFFERS - used - 600000;
    assert_true(buffer_budget_take(&shared.budget, taken));
    memset(body, ' ', 2 << 20);
    memcpy(body, "{\"id\":2}", 8);
    add_gzip(body, 2 << 20);
    EXPECT(say(), "HTTP/1.1 503");
    EXPECT(got, "Retry-After: ");
    assert_false(closed);
    assert_int_equal(take_all(), 1);
    buffer_budget_give(&shared.budget, taken);
    add_gzip(body, 2 << 20);
    EXPECT(say(), "\"accepted\":1,");
}

static void memory_that_is_not_used_any_more_is_given_back(void **state)
{
    size_t before = atomic_load(&shared.budget.used);

    (void)state;
    add_gzip_text("{\"id\":1}");
    EXPECT(say(), "\"accepted\":1,");
    assert_true(atomic_load(&shared.budget.used) > before + 200000);
    expect_memory_back();
    add_gzip_text("{\"id\":2}");
    EXPECT(say(), "\"accepted\":1,");
}

static void an_end_in_the_middle_of_decoding_gives_everything_back(void **state)
{
    size_t len = make_body(0, 1000, 2500, "abcd"), sent = 0;

    (void)state;
    add_gzip(body, len);
    while (sent < request_len) {
        ssize_t n = client_send(request + sent, request_len - sent);

        sent += n > 0 ? (size_t)n : 0;
        turn();
    }
    request_len = request_count = 0;
    for (int i = 0; i < 4; i++)
        turn();
    got_len = 0;
    receive();
    assert_int_equal(got_len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_coding_is_taken_and_what_looks_like_gzip_without_one),
        TEST(a_refused_body_leaves_the_connection_and_the_next_request),
        TEST(a_chunked_body_can_be_compressed),
        TEST(many_bodies_of_one_turn_are_all_right),
        TEST(a_body_may_decode_to_max_body_and_not_to_one_byte_more),
        TEST(others_are_served_while_a_large_body_is_decoded),
        TEST(what_only_its_decoding_shows_to_be_large_is_taken),
        TEST(an_announced_length_that_is_wrong_costs_nothing),
        TEST(a_bomb_is_refused_and_its_memory_given_back),
        TEST(without_memory_to_decode_the_answer_is_503),
        TEST(memory_that_is_not_used_any_more_is_given_back),
        TEST(an_end_in_the_middle_of_decoding_gives_everything_back),
    };

    return cmocka_run_group_tests(tests, GROUP_SETUP, GROUP_TEARDOWN);
}
