/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_http_parse.c - what the HTTP parser accepts, what it refuses, and when it does.
 *
 * Every input is copied to a heap block of its exact size, so that the address sanitizer sees a
 * read or write beyond it.
 */
#include "alloy/http_parse.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#define HOST_LINE "Host: a\r\n"
#define GET_LINE "GET / HTTP/1.1\r\n"
#define HEAD GET_LINE HOST_LINE
#define HEAD_10 "GET / HTTP/1.0\r\n"

static void assert_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    assert_memory_equal(slice.data != NULL ? slice.data : "", text, slice.len);
}

/* Exactly sized and owned by the caller, freed by free(). */
static char *copy_of(const char *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    assert_non_null(copy);
    memcpy(copy, data, len);
    return copy;
}

static enum http_result parse_bytes(const char *data, size_t len)
{
    char *copy = copy_of(data, len);
    struct http_request request;
    size_t scanned = 0;
    enum http_result result = http_parse_head(copy, len, &scanned, &request);

    if (result == HTTP_DONE) {
        assert_null(request.problem);
        assert_true(request.head_len <= len);
    } else if (result == HTTP_MORE) {
        assert_int_equal(scanned, len);
    } else {
        assert_non_null(request.problem);
    }
    free(copy);
    return result;
}

/* Feeds one byte more with each call; *used is the length at which the parser answered. */
static enum http_result parse_bytewise(const char *data, size_t len, size_t *used)
{
    enum http_result result = HTTP_MORE;
    struct http_request request;
    size_t scanned = 0;

    for (*used = 1; *used <= len; (*used)++) {
        char *copy = copy_of(data, *used);
        result = http_parse_head(copy, *used, &scanned, &request);
        free(copy);
        if (result != HTTP_MORE) {
            return result;
        }
        assert_int_equal(scanned, *used);
    }
    return result;
}

/* Both ways; the text stays in the program's constants, so that slices may be looked at. */
static struct http_request parse_good(const char *text)
{
    struct http_request request;
    size_t scanned = 0;
    size_t used;
    enum http_result result = http_parse_head(text, strlen(text), &scanned, &request);

    if (result != HTTP_DONE) {
        fail_msg("%d \"%s\" for: %s", result, result != HTTP_MORE ? request.problem : "", text);
    }
    assert_int_equal(request.head_len, strlen(text));
    assert_int_equal(parse_bytewise(text, strlen(text), &used), HTTP_DONE);
    assert_int_equal(used, strlen(text));
    return request;
}

static void expect_refusal(const char *text, enum http_result expected)
{
    size_t used;
    enum http_result result = parse_bytes(text, strlen(text));

    if (result != expected) {
        fail_msg("%d instead of %d for: %s", result, expected, text);
    }
    result = parse_bytewise(text, strlen(text), &used);
    if (result != expected) {
        fail_msg("%d instead of %d bytewise for: %s", result, expected, text);
    }
}

static const char *const good_heads[] = {
    HEAD "\r\n",
    HEAD_10 "\r\n",
    "\r\n\r\n" HEAD "\r\n",
    "POST /v1/events?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    "Content-Length: 312\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
    "POST / HTTP/1.1\r\nhOST:\r\ntransfer-ENCODING:\tChunked \t\r\nExpect: 100-Continue\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nX: \x80\xff\t~\r\nEmpty:\r\nSpaces:  \t \r\n\r\n",
};

static void request_line_and_headers_come_out_as_slices(void **state)
{
    struct http_request request = parse_good(good_heads[3]);

    (void)state;
    assert_int_equal(request.method, HTTP_POST);
    assert_slice(request.method_text, "POST");
    assert_slice(request.path, "/v1/events");
    assert_slice(request.query, "x=1");
    assert_int_equal(request.minor, 1);
    assert_true(request.has_length);
    assert_int_equal(request.content_length, 312);
    assert_true(request.keep_alive);
    assert_false(request.chunked || request.expect_continue || request.coding);
    assert_int_equal(request.authorization.len, 0);

    request = parse_good(good_heads[4]);
    assert_true(request.chunked && request.expect_continue);
    assert_false(request.has_length);

    request = parse_good(HEAD "Authorization: \t Bearer a b \t\r\nPrefer: \r\nprefer: wait=1\r\n"
                              "PREFER: wait=2\r\n\r\n");
    assert_slice(request.authorization, "Bearer a b");
    assert_slice(request.prefer, "wait=1");
}

static void known_methods_are_told_apart_by_exact_name(void **state)
{
    static const struct {
        const char *head;
        enum http_method method;
    } cases[] = {
        {"GET / HTTP/1.0\r\n\r\n", HTTP_GET},
        {"HEAD / HTTP/1.0\r\n\r\n", HTTP_HEAD},
        {"POST / HTTP/1.0\r\n\r\n", HTTP_POST},
        {"OPTIONS / HTTP/1.0\r\n\r\n", HTTP_OPTIONS},
        {"post / HTTP/1.0\r\n\r\n", HTTP_OTHER},
        {"PUT / HTTP/1.0\r\n\r\n", HTTP_OTHER},
        {"GETS / HTTP/1.0\r\n\r\n", HTTP_OTHER},
        {"!#$%&'*+-.^_`|~09AZaz / HTTP/1.0\r\n\r\n", HTTP_OTHER},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345 / HTTP/1.0\r\n\r\n", HTTP_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(parse_good(cases[i].head).method, cases[i].method);
    }
}

static void targets_split_into_path_and_query(void **state)
{
    static const struct {
        const char *head;
        const char *path;
        const char *query;
    } cases[] = {
        {"GET / HTTP/1.0\r\n\r\n", "/", ""},
        {"GET /? HTTP/1.0\r\n\r\n", "/", ""},
        {"GET /a/b%20c?d=/e?f HTTP/1.0\r\n\r\n", "/a/b%20c", "d=/e?f"},
        {"GET //x HTTP/1.0\r\n\r\n", "//x", ""},
        {"GET /http://a HTTP/1.0\r\n\r\n", "/http://a", ""},
        {"GET http://host HTTP/1.0\r\n\r\n", "/", ""},
        {"GET HTTPS://[::1]:80?q HTTP/1.0\r\n\r\n", "/", "q"},
        {"GET http://host:80/p?q HTTP/1.0\r\n\r\n", "/p", "q"},
        {"OPTIONS * HTTP/1.0\r\n\r\n", "*", ""},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_request request = parse_good(cases[i].head);
        const char *end = cases[i].head + strlen(cases[i].head);
        assert_slice(request.path, cases[i].path);
        assert_slice(request.query, cases[i].query);
        assert_true(request.path.data > cases[i].head && request.path.data < end);
    }
}

static void bad_request_lines_are_refused(void **state)
{
    static const char *const cases[] = {
        "GET /x\r\n",
        "GET\r\n",
        "GET / \r\n",
        "GET  / HTTP/1.1\r\n",
        "GET /  HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET /\tHTTP/1.1\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/1.10\r\n",
        "GET / HTTP/11\r\n",
        "GET / HTTP/1\r\n",
        "GET / HTTP/1.\r\n",
        "GET / HTTP/a.1\r\n",
        "GET / HTTP/2\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\r\n",
        "GET / HTTP/1.1\rX\n",
        "G(T / HTTP/1.1\r\n",
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456 / HTTP/1.1\r\n",
        "GET foo HTTP/1.1\r\n",
        "GET * HTTP/1.1\r\n",
        "OPTIONS *x HTTP/1.1\r\n",
        "CONNECT host:443 HTTP/1.1\r\n",
        "GET ?x HTTP/1.1\r\n",
        "GET http: HTTP/1.1\r\n",
        "GET http:/x HTTP/1.1\r\n",
        "GET http:// HTTP/1.1\r\n",
        "GET http:///x HTTP/1.1\r\n",
        "GET http://:80/x HTTP/1.1\r\n",
        "GET http://u@host/x HTTP/1.1\r\n",
        "GET ftp://host/x HTTP/1.1\r\n",
        "GET /#x HTTP/1.1\r\n",
        "GET /\x7f HTTP/1.1\r\n",
        "GET /\x01 HTTP/1.1\r\n",
        "GET /\xc3\xa4 HTTP/1.1\r\n",
        "\n",
        "\r\n\n",
        "\rX\r\n",
        " GET / HTTP/1.1\r\n",
        ": GET / HTTP/1.1\r\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        expect_refusal(cases[i], HTTP_BAD);
    }
}

static void other_protocols_are_named(void **state)
{
    struct http_request request;
    size_t scanned = 0;

    (void)state;
    assert_int_equal(http_parse_head("\r\n\x16\x03\x01", 5, &scanned, &request), HTTP_BAD);
    assert_non_null(strstr(request.problem, "speaks TLS"));
    scanned = 0;
    assert_int_equal(http_parse_head("PRI * HTTP/2.0\r\n", 16, &scanned, &request),
                     HTTP_UNSUPPORTED_VERSION);
    assert_non_null(strstr(request.problem, "HTTP/2;"));
    scanned = 0;
    assert_int_equal(http_parse_head("GET / HTTP/3.0\r\n", 16, &scanned, &request),
                     HTTP_UNSUPPORTED_VERSION);
    assert_null(strstr(request.problem, "HTTP/2"));
}

static void versions_other_than_1_are_unsupported(void **state)
{
    (void)state;
    expect_refusal("GET / HTTP/2.0\r\n", HTTP_UNSUPPORTED_VERSION);
    expect_refusal("GET / HTTP/0.9\r\n", HTTP_UNSUPPORTED_VERSION);
    expect_refusal("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP_UNSUPPORTED_VERSION);
    assert_int_equal(parse_good("GET / HTTP/1.2\r\n" HOST_LINE "\r\n").minor, 1);
    assert_int_equal(parse_good("GET / HTTP/1.9\r\n" HOST_LINE "\r\n").minor, 1);
    assert_int_equal(parse_good("GET / HTTP/1.0\r\n\r\n").minor, 0);
}

/* None of these heads is complete: the line itself must do. */
static void bad_header_lines_are_refused_as_soon_as_they_are_complete(void **state)
{
    static const char *const lines[] = {
        "A b\r\n",
        "A: b\n",
        "A: b\rc\r\n",
        "A: b\r\r\n",
        "A: b\r \n",
        "\rA: b\r\n",
        " folded\r\n",
        "\tfolded\r\n",
        " A: b\r\n",
        "A : b\r\n",
        "A\t: b\r\n",
        ": b\r\n",
        "A\x80: b\r\n",
        "A(: b\r\n",
        "A\r\n",
        "A: b\x01\r\n",
        "A: \x7f\r\n",
        "A: 0123456789abcdef0123456789abcd\x0b"
        "f\r\n",
        "\n",
        "Host: a b\r\n",
        "Host: a,\tb\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
        "Content-Length:\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: ,5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Expect: 200-ok\r\n",
        "Expect:\r\n",
        "Expect: 100-continue, 100-continue\r\n",
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        size_t used;
        size_t len = (size_t)snprintf(text, sizeof(text), HEAD "%s", lines[i]);
        expect_refusal(text, HTTP_BAD);
        parse_bytewise(text, len, &used);
        assert_int_equal((int)used, (int)(strchr(text + strlen(HEAD), '\n') - text + 1));
        /* No verdict on a line that is not complete. */
        assert_int_equal(parse_bytes(text, used - 1), HTTP_MORE);
    }
}

static void nul_bytes_are_refused_everywhere(void **state)
{
    static const char text[] = "GET /x HTTP/1.1\r\nHost: a\r\nAb: cd\r\n\r\n";
    char copy[sizeof(text)];

    (void)state;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        if (text[i] == '\n') {
            /* The line goes on; the next LF shows what is wrong, the last one has none. */
            enum http_result last = i == sizeof(text) - 2 ? HTTP_MORE : HTTP_BAD;
            assert_int_equal(parse_bytes(copy, sizeof(text) - 1), last);
        } else {
            assert_int_equal(parse_bytes(copy, sizeof(text) - 1), HTTP_BAD);
        }
    }
}

static void impossible_first_bytes_are_refused_at_once(void **state)
{
    size_t used;

    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        char first = (char)byte;
        bool token = byte != 0 && (strchr("!#$%&'*+-.^_`|~", byte) != NULL ||
                                   (byte < 128 && strchr("0123456789", byte) != NULL) ||
                                   ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z'));
        enum http_result expected = token || byte == '\r' ? HTTP_MORE : HTTP_BAD;
        assert_int_equal(parse_bytes(&first, 1), expected);
    }
    assert_int_equal(parse_bytes("\x16\x03\x01\x02", 4), HTTP_BAD);
    assert_int_equal(parse_bytes("\r\n\r\n\x16", 5), HTTP_BAD);
    assert_int_equal(parse_bytes("\rG", 2), HTTP_BAD);
    assert_int_equal(parse_bytewise("\r\n\r\n\x16\x03", 6, &used), HTTP_BAD);
    assert_int_equal(used, 5);
    assert_int_equal(parse_bytewise("\r\n\rGE", 5, &used), HTTP_BAD);
    assert_int_equal(used, 4);
    assert_int_equal(parse_bytes("", 0), HTTP_MORE);
}

static void what_takes_several_lines_is_refused_at_the_end_of_the_head(void **state)
{
    static const struct {
        const char *head;
        enum http_result expected;
    } cases[] = {
        {GET_LINE, HTTP_BAD},
        {HEAD "Host: a\r\n", HTTP_BAD},
        {HEAD "Host:\r\n", HTTP_BAD},
        {HEAD_10 "Host: a\r\nHost: a\r\n", HTTP_BAD},
        {HEAD "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", HTTP_BAD},
        {HEAD "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", HTTP_BAD},
        {HEAD "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", HTTP_BAD},
        {HEAD "Content-Length: 5\r\nContent-Length: 6\r\n", HTTP_BAD},
        {HEAD "Content-Length: 5\r\nContent-Length: 6\r\nContent-Length: 6\r\n", HTTP_BAD},
        {HEAD_10 "Transfer-Encoding: chunked\r\n", HTTP_BAD},
        {HEAD_10 "Transfer-Encoding: gzip\r\n", HTTP_BAD},
        {HEAD "Transfer-Encoding: chunked, chunked\r\n", HTTP_BAD},
        {HEAD "Transfer-Encoding: chunked\r\nTransfer-Encoding: Chunked\r\n", HTTP_BAD},
        {HEAD "Transfer-Encoding: chunked, gzip, chunked\r\n", HTTP_BAD},
        {HEAD "Transfer-Encoding: gzip, chunked\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding: identity\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding: chunked;a=b\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding: \"chunked\"\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding: xchunked\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding: chunked,\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Transfer-Encoding:\r\n", HTTP_NOT_IMPLEMENTED},
        {HEAD "Authorization: a\r\nAuthorization: a\r\n", HTTP_BAD},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(parse_bytes(cases[i].head, strlen(cases[i].head)), HTTP_MORE);
        snprintf(text, sizeof(text), "%s\r\n", cases[i].head);
        expect_refusal(text, cases[i].expected);
    }
}

static void identical_lengths_are_accepted_up_to_the_maximum(void **state)
{
    static const struct {
        const char *head;
        uint64_t length;
    } cases[] = {
        {HEAD "Content-Length: 0\r\n\r\n", 0},
        {HEAD "Content-Length: 5 , 5\r\n\r\n", 5},
        {HEAD "Content-Length: 5\r\ncontent-length:005\r\n\r\n", 5},
        {HEAD "Content-Length: 9223372036854775807\r\n\r\n", INT64_MAX},
        {HEAD "Content-Length: 00000000000000000000000000000000007\r\n\r\n", 7},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_request request = parse_good(cases[i].head);
        assert_true(request.has_length);
        assert_true(request.content_length == cases[i].length);
    }
    assert_false(parse_good(HEAD "Content-Lengths: 5\r\nXontent-Length: x\r\n\r\n").has_length);
}

static void connection_and_version_decide_keep_alive(void **state)
{
    static const struct {
        const char *head;
        bool keep_alive;
    } cases[] = {
        {HEAD "\r\n", true},
        {HEAD_10 "\r\n", false},
        {HEAD "Connection: close\r\n\r\n", false},
        {HEAD "CONNECTION: upgrade ,\tCLOSE\r\n\r\n", false},
        {HEAD "Connection: keep-alive\r\nConnection: Close\r\n\r\n", false},
        {HEAD "Connection: close\r\nConnection: keep-alive\r\n\r\n", false},
        {HEAD "Connection: closed, xclose, ,\r\n\r\n", true},
        {HEAD_10 "Connection: Keep-Alive\r\n\r\n", true},
        {HEAD_10 "Connection: foo,keep-alive\r\n\r\n", true},
        {HEAD_10 "Connection: keep-alive, close\r\n\r\n", false},
        {HEAD_10 "Keep-Alive: 5\r\n\r\n", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(parse_good(cases[i].head).keep_alive, cases[i].keep_alive);
    }
}

static void content_encoding_names_one_coding(void **state)
{
    (void)state;
    assert_int_equal(parse_good(HEAD "Content-Encoding:\r\n\r\n").coding, CODING_NONE);
    assert_int_equal(parse_good(HEAD "CONTENT-ENCODING:\tX-GZip \r\n\r\n").coding, CODING_GZIP);
    assert_int_equal(parse_good(HEAD "Content-Encoding: br\r\n\r\n").coding, CODING_UNKNOWN);
    assert_int_equal(parse_good(HEAD "Content-Encoding: gzip\r\nX: y\r\n"
                                     "Content-Encoding: gzip\r\n\r\n")
                         .coding,
                     CODING_UNKNOWN);
    assert_int_equal(parse_good(HEAD "Accept-Encodings: gzip\r\n\r\n").coding, CODING_NONE);
}

static void expect_continue_is_ignored_in_http_1_0(void **state)
{
    (void)state;
    assert_true(parse_good(HEAD "Expect: 100-CONTINUE\r\n\r\n").expect_continue);
    assert_false(parse_good(HEAD_10 "Expect: 100-continue\r\n\r\n").expect_continue);
}

static void a_hundred_headers_pass_and_one_more_does_not(void **state)
{
    char text[2048];
    size_t len = (size_t)snprintf(text, sizeof(text), HEAD);

    (void)state;
    for (int i = 1; i < 100; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "X%d: y\r\n", i);
    }
    snprintf(text + len, sizeof(text) - len, "\r\n");
    parse_good(text);
    snprintf(text + len, sizeof(text) - len, "X: y\r\n\r\n");
    expect_refusal(text, HTTP_BAD);
}

/* Control bytes must be seen at every offset of a 16-byte step and in what is left after it. */
static void each_value_byte_is_judged_at_every_offset(void **state)
{
    char text[128];

    (void)state;
    for (size_t at = 0; at < 40; at++) {
        for (int byte = 0; byte < 256; byte++) {
            size_t len = (size_t)snprintf(text, sizeof(text), HEAD "X:%040d\r\n\r\n", 0);
            bool good = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
            text[strlen(HEAD "X:") + at] = (char)byte;
            assert_int_equal(parse_bytes(text, len), good ? HTTP_DONE : HTTP_BAD);
        }
    }
}

static void every_prefix_of_a_good_head_needs_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good_heads); i++) {
        const char *text = good_heads[i];
        for (size_t split = 0; split < strlen(text); split++) {
            struct http_request whole = parse_good(text);
            struct http_request request;
            size_t scanned = 0;
            assert_int_equal(parse_bytes(text, split), HTTP_MORE);
            /* In two pieces: the same request as in one. */
            assert_int_equal(http_parse_head(text, split, &scanned, &request), HTTP_MORE);
            assert_int_equal(scanned, split);
            assert_int_equal(http_parse_head(text, strlen(text), &scanned, &request), HTTP_DONE);
            assert_memory_equal(&request, &whole, sizeof(whole));
        }
    }
}

static void pipelined_requests_are_read_one_after_another(void **state)
{
    static const char text[] = HEAD "\r\n"
                                    "\r\nPOST /b HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\n"
                                    "\r\n\x01" HEAD_10 "\r\n";
    struct http_request request;
    size_t at = 0;
    size_t scanned = 0;

    (void)state;
    assert_int_equal(http_parse_head(text, sizeof(text) - 1, &scanned, &request), HTTP_DONE);
    assert_int_equal(request.head_len, strlen(HEAD "\r\n"));
    at += request.head_len;

    scanned = 0;
    assert_int_equal(http_parse_head(text + at, sizeof(text) - 1 - at, &scanned, &request),
                     HTTP_DONE);
    assert_slice(request.path, "/b");
    assert_int_equal(request.content_length, 3);
    at += request.head_len + 3;

    scanned = 0;
    assert_int_equal(http_parse_head(text + at, sizeof(text) - 1 - at, &scanned, &request),
                     HTTP_DONE);
    assert_int_equal(at + request.head_len, sizeof(text) - 1);
}

static void any_header_can_be_found_in_an_accepted_head(void **state)
{
    static const char head[] = "\r\nPOST /x:y HTTP/1.1\r\nHost: a\r\nX-Key:  one two \r\nEmpty:\r\n"
                               "x-key: other\r\n\r\nEvil: no";
    const size_t len = strlen(head) - strlen("Evil: no");
    struct slice value = http_find_header(head, len, "x-key");

    (void)state;
    assert_int_equal(value.len, 7);
    assert_memory_equal(value.data, "one two", 7);
    assert_int_equal(http_find_header(head, len, "host").len, 1);
    assert_int_equal(http_find_header(head, len, "empty").len, 0);
    assert_int_equal(http_find_header(head, len, "x-ke").len, 0);
    assert_int_equal(http_find_header(head, len, "x-keys").len, 0);
    assert_int_equal(http_find_header(head, len, "evil").len, 0);
    assert_int_equal(http_find_header(head, len, "post /x").len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_line_and_headers_come_out_as_slices),
        cmocka_unit_test(known_methods_are_told_apart_by_exact_name),
        cmocka_unit_test(targets_split_into_path_and_query),
        cmocka_unit_test(bad_request_lines_are_refused),
        cmocka_unit_test(other_protocols_are_named),
        cmocka_unit_test(versions_other_than_1_are_unsupported),
        cmocka_unit_test(bad_header_lines_are_refused_as_soon_as_they_are_complete),
        cmocka_unit_test(nul_bytes_are_refused_everywhere),
        cmocka_unit_test(impossible_first_bytes_are_refused_at_once),
        cmocka_unit_test(what_takes_several_lines_is_refused_at_the_end_of_the_head),
        cmocka_unit_test(identical_lengths_are_accepted_up_to_the_maximum),
        cmocka_unit_test(connection_and_version_decide_keep_alive),
        cmocka_unit_test(content_encoding_names_one_coding),
        cmocka_unit_test(expect_continue_is_ignored_in_http_1_0),
        cmocka_unit_test(a_hundred_headers_pass_and_one_more_does_not),
        cmocka_unit_test(each_value_byte_is_judged_at_every_offset),
        cmocka_unit_test(every_prefix_of_a_good_head_needs_more),
        cmocka_unit_test(pipelined_requests_are_read_one_after_another),
        cmocka_unit_test(any_header_can_be_found_in_an_accepted_head),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
