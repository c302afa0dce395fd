/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_scan.c - tests json_scan.c, with SSE2 and without, and against jansson.
 *
 * Every body is at the end of a mapping with an inaccessible page behind it, so that a read beyond
 * it ends the test.
 */
#include "alloy/json_scan.h"

/* The same source once more, as it is built for machines without SSE2. */
#define JSON_SCAN_PORTABLE 1
#define json_scan_init portable_scan_init
#define json_scan_next portable_scan_next
#define json_scan_skip portable_scan_skip
#define json_scan_reject portable_scan_reject
#define json_scan_find portable_scan_find
#include "../../../src/event/json_scan.c"
#undef json_scan_init
#undef json_scan_next
#undef json_scan_skip
#undef json_scan_reject
#undef json_scan_find

#include "json_cases.h"
#include "json_random.h"

#include <jansson.h>

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define BODY_MAX RANDOM_BODY_MAX
#define EVENTS_KEPT 32
#define RANDOM_INPUTS 24000 /* for each way to build */

struct scanner {
    const char *name;
    void (*init)(struct json_scan *, const struct json_scan_fields *, const char *, size_t);
    enum json_scan_result (*next)(struct json_scan *, struct json_scan_event *);
};

struct outcome {
    enum json_scan_result result;
    uint32_t events;
    size_t offset;
    const char *problem;
    struct {
        size_t begin; /* in the body */
        size_t len;
        char id[EVENT_ID_MAX];
        size_t id_len;
        bool verbatim;
    } event[EVENTS_KEPT];
};

static struct scanner native = {"native", json_scan_init, json_scan_next};
static struct scanner portable = {"portable", portable_scan_init, portable_scan_next};

static const struct json_scan_fields one_field = {.names = {{"event_id", 8}}, .count = 1};
static const struct json_scan_fields two_fields = {.names = {{"a", 1}, {"b", 1}}, .count = 2};

static char *guard; /* the first byte that must not be read */
static struct outcome outcome;

static int map_guard(void **state)
{
    char *base =
        mmap(NULL, BODY_MAX + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    if (base == MAP_FAILED || mprotect(base + BODY_MAX, 4096, PROT_NONE) != 0)
        return -1;
    guard = base + BODY_MAX;
    return 0;
}

/* Scans a copy of the body that ends at the guard page, into outcome. Returns the copy. */
static const char *run_fields(const struct scanner *scanner, const struct json_scan_fields *fields,
                              const char *body, size_t len)
{
    char *copy = guard - len;
    struct json_scan scan;
    struct json_scan_event event;

    assert_true(len <= BODY_MAX);
    memcpy(copy, body, len);
    scanner->init(&scan, fields, copy, len);
    outcome.events = 0;
    while ((outcome.result = scanner->next(&scan, &event)) == JSON_SCAN_EVENT) {
        assert_true(event.text.data >= copy && event.text.data + event.text.len <= guard);
        assert_true(event.id.len > 0 && event.id.len <= EVENT_ID_MAX);
        assert_int_equal(event.id_verbatim, event.id.data >= copy && event.id.data < guard);
        if (outcome.events < EVENTS_KEPT) {
            outcome.event[outcome.events].begin = (size_t)(event.text.data - copy);
            outcome.event[outcome.events].len = event.text.len;
            outcome.event[outcome.events].verbatim = event.id_verbatim;
            outcome.event[outcome.events].id_len = event.id.len;
            memcpy(outcome.event[outcome.events].id, event.id.data, event.id.len);
        }
        outcome.events++;
        assert_int_equal(scan.index, outcome.events);
    }
    assert_int_equal(scan.index, outcome.events);
    outcome.offset = outcome.result == JSON_SCAN_END ? 0 : scan.error_offset;
    outcome.problem = outcome.result == JSON_SCAN_END ? NULL : scan.problem;
    assert_true(outcome.result == JSON_SCAN_END || outcome.problem != NULL);
    assert_true(outcome.offset <= len);
    return copy;
}

static void run(const struct scanner *scanner, const char *body, size_t len)
{
    (void)run_fields(scanner, &one_field, body, len);
}

static void expect_id(size_t event, const char *id, size_t len, bool verbatim)
{
    assert_int_equal(outcome.result, JSON_SCAN_END);
    assert_true(event < outcome.events);
    assert_int_equal(outcome.event[event].id_len, len);
    assert_memory_equal(outcome.event[event].id, id, len);
    assert_int_equal(outcome.event[event].verbatim, verbatim);
}

static void expect_case(const struct scanner *scanner, const struct json_case *wanted,
                        const char *body, size_t len)
{
    run(scanner, body, len);
    if (outcome.result != wanted->result || outcome.offset != wanted->offset ||
        outcome.events != wanted->events)
        fail_msg("%s: [%.*s]: result %d offset %zu events %u, not %d %zu %u", scanner->name,
                 (int)len, body, outcome.result, outcome.offset, outcome.events, wanted->result,
                 wanted->offset, wanted->events);
    if (wanted->result != JSON_SCAN_INVALID_JSON)
        return;
    /* What stands before the error is the beginning of a valid body. */
    run(scanner, body, wanted->offset);
    if (outcome.result == JSON_SCAN_INVALID_JSON)
        assert_int_equal(outcome.offset, wanted->offset);
}

static void whole_bodies_are_judged_at_the_exact_byte(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(body_cases); i++)
        expect_case(*state, &body_cases[i], body_cases[i].text, body_cases[i].len);
}

static void values_are_judged_at_the_exact_byte(void **state)
{
    static const char head[] = "{\"event_id\":\"i\",\"v\":";
    char body[256];

    for (size_t i = 0; i < ARRAY_LEN(value_cases); i++) {
        struct json_case wanted = value_cases[i];
        size_t len = sizeof(head) - 1;

        memcpy(body, head, len);
        memcpy(body + len, wanted.text, wanted.len);
        if (wanted.result == JSON_SCAN_INVALID_JSON)
            wanted.offset += len;
        len += wanted.len;
        body[len++] = '}';
        expect_case(*state, &wanted, body, len);
    }
}

static void each_byte_in_a_string_is_judged_at_each_position(void **state)
{
    static const char head[] = "{\"event_id\":1,\"v\":\"";
    const size_t begin = sizeof(head) - 1;
    const size_t last = 150; /* more than two windows */
    char body[256];

    for (unsigned byte = 0; byte < 256; byte++) {
        for (size_t at = 0; at <= last; at++) {
            struct json_case wanted = {.result = JSON_SCAN_END, .events = 1};

            memset(body, 'x', sizeof(body));
            memcpy(body, head, begin);
            memcpy(body + begin + last + 1, "\"}", 2);
            body[begin + at] = (char)byte;
            if (byte < 0x20 || byte == '\\' || byte >= 0x80 || byte == '"')
                wanted = (struct json_case){.result = JSON_SCAN_INVALID_JSON, .offset = begin + at};
            /* A valid lead byte fails at the next one, and so does a string closed early. */
            if ((byte >= 0xC2 && byte <= 0xF4) || byte == '"')
                wanted.offset++;
            /* The last byte makes it \" and leaves the string open; or "" where a comma goes. */
            if (at == last && byte == '\\')
                wanted.offset = begin + last + 3;
            expect_case(*state, &wanted, body, begin + last + 3);
        }
    }
}

static void a_cut_body_is_never_read_beyond_its_end(void **state)
{
    static const char text[] =
        "{\"event_id\":\"\xC3\xA9t\\u00e9\",\"n\":-12.5e+3,\"words\":[true,false,null],\"s\":"
        "\"\xF0\x9F\x98\x80 a string of some length \\uD83D\\uDE00, "
        "with all in it\",\"o\":{\"k\":{}}}";
    const size_t whole = sizeof(text) - 1;
    char body[256];

    for (size_t pad = 0; pad < 80; pad++) {
        memset(body, ' ', pad);
        memcpy(body + pad, text, whole);
        for (size_t len = 0; len <= 248; len++) {
            struct json_case wanted = {.result = JSON_SCAN_INVALID_JSON, .offset = len};

            if (len <= pad)
                wanted.result = JSON_SCAN_EMPTY;
            if (len >= pad + whole) {
                memset(body + pad + whole, '\n', sizeof(body) - pad - whole);
                wanted = (struct json_case){.result = JSON_SCAN_END, .events = 1};
            }
            expect_case(*state, &wanted, body, len);
        }
    }
}

static void depth_64_is_accepted_and_65_is_not(void **state)
{
    char body[256] = "{\"event_id\":1,\"v\":";
    const size_t begin = strlen(body);

    for (unsigned levels = 1; levels <= 80; levels++) {
        size_t len = begin;

        for (unsigned i = 0; i < levels; i++)
            body[len++] = '[';
        for (unsigned i = 0; i < levels; i++)
            body[len++] = ']';
        body[len++] = '}';
        run(*state, body, len);
        assert_int_equal(outcome.result, levels < 64 ? JSON_SCAN_END : JSON_SCAN_INVALID_JSON);
        assert_int_equal(outcome.offset, levels < 64 ? 0 : begin + 63);
        if (levels >= 64)
            assert_string_equal(outcome.problem, "The event is nested deeper than 64.");
    }
}

static void brackets_match_at_every_depth(void **state)
{
    char body[1024] = "{\"event_id\":1,\"v\":";
    const size_t begin = strlen(body);

    /* Arrays and objects by turns; one closing bracket after another is the wrong one. */
    for (unsigned wrong = 0; wrong <= 63; wrong++) {
        size_t len = begin;
        size_t wrong_at = 0;

        for (unsigned i = 0; i < 63; i++) {
            const char *opener = i % 2 == 0 ? "[" : "{\"a\":";

            memcpy(body + len, opener, strlen(opener));
            len += strlen(opener);
        }
        body[len++] = '7';
        for (unsigned i = 63; i-- > 0;) {
            if (i == wrong)
                wrong_at = len;
            body[len++] = (i % 2 == 0) != (i == wrong) ? ']' : '}';
        }
        body[len++] = '}';
        run(*state, body, len);
        assert_int_equal(outcome.result, wrong == 63 ? JSON_SCAN_END : JSON_SCAN_INVALID_JSON);
        assert_int_equal(outcome.offset, wrong_at);
    }
}

/* Scans one event with this id value. */
static void run_id(const struct scanner *scanner, const char *value, size_t len)
{
    char body[4096] = "{\"event_id\":";
    size_t at = strlen(body);

    memcpy(body + at, value, len);
    at += len;
    body[at++] = '}';
    run(scanner, body, at);
}

static void ids_are_decoded_and_verbatim_where_they_can_be(void **state)
{
    static const struct {
        const char *value;
        const char *id;
        size_t id_len;
        bool verbatim;
    } ids[] = {
        {"\"42\"", "42", 2, true},
        {"42", "42", 2, true},
        {"-42", "-42", 3, true},
        {"0", "0", 1, true},
        {"-0", "0", 1, false},
        {"\"-0\"", "-0", 2, true},
        {"123456789012345678901234567890", "123456789012345678901234567890", 30, true},
        {"\"a:b c\"", "a:b c", 5, true},
        {"\"\\u0034\\u0032\"", "42", 2, false},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8, false},
        {"\"a\\u0000b\"", "a\0b", 3, false},
        {"\"\xC3\xA9\"", "\xC3\xA9", 2, true},
        {"\"\\u007f\\u0080\\u07FF\\u0800\\uFFFF\"", "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF",
         11, false},
        {"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 8, false},
    };

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        run_id(*state, ids[i].value, strlen(ids[i].value));
        expect_id(0, ids[i].id, ids[i].id_len, ids[i].verbatim);
    }
}

static void ids_end_at_256_decoded_bytes(void **state)
{
    char value[2048];

    for (size_t len = 255; len <= 257; len++) {
        const enum json_scan_result wanted = len <= 256 ? JSON_SCAN_END : JSON_SCAN_INVALID_ID;

        memset(value, '7', len + 2);
        run_id(*state, value, len);
        assert_int_equal(outcome.result, wanted);
        value[0] = '"';
        value[len + 1] = '"';
        run_id(*state, value, len + 2);
        assert_int_equal(outcome.result, wanted);
        /* All of it escapes. */
        for (size_t i = 0; i < len; i++)
            memcpy(value + 1 + 6 * i, "\\u0041", 6);
        value[1 + 6 * len] = '"';
        run_id(*state, value, 6 * len + 2);
        assert_int_equal(outcome.result, wanted);
        /* The last character crosses the limit. */
        memset(value + 1, '7', 255);
        memcpy(value + 256, "\\u00e9\"", 7);
        run_id(*state, value, 263);
        assert_int_equal(outcome.result, JSON_SCAN_INVALID_ID);
        assert_int_equal(outcome.offset, 12);
    }
}

static void keys_match_after_decoding_and_only_at_the_top(void **state)
{
    static const char escaped[] = "{\"\\u0065vent\\u005Fid\":\"x\"}";
    static const char nested[] = "{\"o\":{\"event_id\":1},\"a\":[{\"event_id\":2}],\"event_id\":3}";
    static const char clef[] = "{\"\\uD834\\udd1e\":5}";
    static const char raw_clef[] = "{\"\xF0\x9D\x84\x9E\":5}";
    static const struct json_scan_fields clef_field = {.names = {{"\xF0\x9D\x84\x9E", 4}},
                                                       .count = 1};
    static const char nul[] = "{\"event_id\\u0000\":1}";
    char body[EVENT_ID_MAX + 64];

    run(*state, escaped, sizeof(escaped) - 1);
    expect_id(0, "x", 1, true);
    run(*state, nested, sizeof(nested) - 1);
    expect_id(0, "3", 1, true);
    (void)run_fields(*state, &clef_field, clef, sizeof(clef) - 1);
    expect_id(0, "5", 1, true);
    (void)run_fields(*state, &clef_field, raw_clef, sizeof(raw_clef) - 1);
    expect_id(0, "5", 1, true);
    run(*state, nul, sizeof(nul) - 1);
    assert_int_equal(outcome.result, JSON_SCAN_MISSING_ID);

    /* An escaped key longer than any buffer is just not the field. */
    memset(body, 'k', sizeof(body));
    memcpy(body, "{\"\\n", 4);
    memcpy(body + sizeof(body) - 18, "\":2,\"event_id\":77}", 18);
    run(*state, body, sizeof(body));
    expect_id(0, "77", 2, true);
}

static void composite_ids_join_their_parts_without_ambiguity(void **state)
{
    static const struct {
        const char *body;
        const char *id;
    } ids[] = {
        {"{\"a\":\"x\",\"b\":1}", "x:1"},
        {"{\"b\":1,\"a\":\"x\"}", "x:1"},
        {"{\"a\":\"x:y\",\"b\":\"z\"}", "x\\:y:z"},
        {"{\"a\":\"x\",\"b\":\"y:z\"}", "x:y\\:z"},
        {"{\"a\":\"x\\\\\",\"b\":-0}", "x\\\\:0"},
        {"{\"a\":\"\\u003a\",\"b\":\"\xC3\xA9\"}", "\\::\xC3\xA9"},
    };

    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        (void)run_fields(*state, &two_fields, ids[i].body, strlen(ids[i].body));
        expect_id(0, ids[i].id, strlen(ids[i].id), false);
    }
}

static void composite_ids_need_every_field_and_invalid_wins_over_missing(void **state)
{
    static const struct json_case cases[] = {
        BODY(" {\"a\":1}", JSON_SCAN_MISSING_ID, 1, 0),
        BODY(" {\"b\":1}", JSON_SCAN_MISSING_ID, 1, 0),
        BODY("{\"b\":null}", JSON_SCAN_INVALID_ID, 5, 0),
        BODY("{\"a\":[]}", JSON_SCAN_INVALID_ID, 5, 0),
        BODY("{\"b\":{},\"a\":1}", JSON_SCAN_INVALID_ID, 5, 0),
        BODY("{\"b\":{},\"a\":1.0}", JSON_SCAN_INVALID_ID, 12, 0),
        BODY("{\"a\":1,\"b\":1,\"a\":1}", JSON_SCAN_INVALID_JSON, 13, 0),
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        (void)run_fields(*state, &two_fields, cases[i].text, cases[i].len);
        assert_int_equal(outcome.result, cases[i].result);
        assert_int_equal(outcome.offset, cases[i].offset);
    }
}

/* The part's buffer is on the stack here: the address sanitizer sees a byte too many. */
static void an_escaped_part_of_257_bytes_is_refused_in_its_buffer(void **state)
{
    char body[4096] = "{\"a\":1,\"b\":\"";
    size_t len = strlen(body);

    for (unsigned i = 0; i < EVENT_ID_PART_MAX + 1; i++) {
        memcpy(body + len, "\\u0041", 6);
        len += 6;
    }
    memcpy(body + len, "\"}", 2);
    (void)run_fields(*state, &two_fields, body, len + 2);
    assert_int_equal(outcome.result, JSON_SCAN_INVALID_ID);
    assert_int_equal(outcome.offset, 11);
}

static void the_longest_composite_id_fits(void **state)
{
    static const char *const keys[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    struct json_scan_fields fields = {.count = EVENT_ID_FIELDS_MAX};
    char body[8192];
    size_t len = 0;

    for (size_t i = 0; i < EVENT_ID_FIELDS_MAX; i++) {
        fields.names[i] = (struct slice){keys[i], 1};
        len += (size_t)sprintf(body + len, "%c\"%s\":\"", i == 0 ? '{' : ',', keys[i]);
        memset(body + len, ':', EVENT_ID_PART_MAX);
        len += EVENT_ID_PART_MAX;
        body[len++] = '"';
    }
    body[len++] = '}';
    (void)run_fields(*state, &fields, body, len);
    assert_int_equal(outcome.result, JSON_SCAN_END);
    assert_int_equal(outcome.event[0].id_len, EVENT_ID_MAX - 1);
}

static void event_texts_are_the_objects_without_white_space(void **state)
{
    static const char body[] = " [ {\"event_id\":1} , { \"event_id\" : 22 } ] ";

    run(*state, body, sizeof(body) - 1);
    assert_int_equal(outcome.result, JSON_SCAN_END);
    assert_int_equal(outcome.event[0].begin, 3);
    assert_int_equal(outcome.event[0].len, 14);
    assert_int_equal(outcome.event[1].begin, 20);
    assert_int_equal(outcome.event[1].len, 19);
    expect_id(1, "22", 2, true);
}

static void no_body_at_all_is_empty(void **state)
{
    const struct scanner *scanner = *state;
    struct json_scan scan;
    struct json_scan_event event;

    scanner->init(&scan, &one_field, NULL, 0);
    assert_int_equal(scanner->next(&scan, &event), JSON_SCAN_EMPTY);
}

/* The comparison with jansson. */

/* What the comparisons saw, to prove that they saw enough of each kind. */
static struct {
    unsigned valid;
    unsigned invalid;
    unsigned bad_id;
    unsigned incomparable;
} seen;

static unsigned depth_of(json_t *value)
{
    unsigned deepest = 0;
    const char *key;
    json_t *member;
    size_t i;

    json_array_foreach(value, i, member)
    {
        const unsigned depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
    }
    json_object_foreach(value, key, member)
    {
        const unsigned depth = depth_of(member);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + (json_is_array(value) || json_is_object(value));
}

/* jansson has no numbers beyond its types and no NUL in keys: limits of its own, not of JSON. */
static bool is_own_limit(const json_error_t *error)
{
    const enum json_error_code code = json_error_code(error);

    return code == json_error_numeric_overflow || code == json_error_null_byte_in_key;
}

#define AGREE(condition)                                                                        \
    do {                                                                                        \
        if (!(condition))                                                                       \
            fail_msg("seed %" PRIu64 ": not " #condition ": result %d offset %zu (%s): [%.*s]", \
                     seed, outcome.result, outcome.offset,                                      \
                     outcome.problem != NULL ? outcome.problem : "", (int)made.len, made.text); \
    } while (0)

/* Compares event number i with what jansson made of it. Returns whether the scan goes on. */
static bool agree_on_event(uint64_t seed, uint32_t i, json_t *value)
{
    char number[32];
    json_t *id = json_object_get(value, "event_id");
    const char *text = json_string_value(id);
    size_t len = json_string_length(id);

    if (!json_is_object(value) || depth_of(value) > JSON_SCAN_DEPTH_MAX) {
        AGREE(outcome.events == i && outcome.result == JSON_SCAN_INVALID_JSON);
        seen.invalid++;
        return false;
    }
    if (json_is_integer(id)) {
        len = (size_t)sprintf(number, "%" JSON_INTEGER_FORMAT, json_integer_value(id));
        text = number;
    }
    if (text == NULL || len == 0 || len > EVENT_ID_PART_MAX) {
        AGREE(outcome.events == i);
        AGREE(outcome.result == (id != NULL ? JSON_SCAN_INVALID_ID : JSON_SCAN_MISSING_ID));
        seen.bad_id++;
        return false;
    }
    AGREE(outcome.events > i);
    AGREE(outcome.event[i].id_len == len && memcmp(outcome.event[i].id, text, len) == 0);
    return true;
}

static void agree_on_array(uint64_t seed)
{
    json_error_t error;
    json_t *value = json_loadb(made.text, made.len, JSON_ALLOW_NUL, &error);
    json_t *element;
    size_t i;
    bool going = true;

    if (value == NULL) {
        seen.incomparable += is_own_limit(&error);
        seen.invalid += !is_own_limit(&error);
        AGREE(is_own_limit(&error) || outcome.result > JSON_SCAN_EMPTY);
        return;
    }
    json_array_foreach(value, i, element)
    {
        going = agree_on_event(seed, (uint32_t)i, element);
        if (!going)
            break;
        json_t *again = json_loadb(made.text + outcome.event[i].begin, outcome.event[i].len,
                                   JSON_ALLOW_NUL, &error);
        AGREE(again != NULL && json_equal(again, element));
        json_decref(again);
    }
    if (going) {
        AGREE(outcome.events == json_array_size(value));
        AGREE(outcome.result == (outcome.events > 0 ? JSON_SCAN_END : JSON_SCAN_EMPTY));
        seen.valid++;
    }
    json_decref(value);
}

static void agree_on_sequence(uint64_t seed)
{
    size_t at = 0;

    for (uint32_t i = 0;; i++) {
        json_error_t error;

        while (at < made.len && strchr(" \t\r\n", made.text[at]) != NULL)
            at++;
        if (at == made.len) {
            AGREE(outcome.events == i);
            AGREE(outcome.result == (i > 0 ? JSON_SCAN_END : JSON_SCAN_EMPTY));
            seen.valid++;
            return;
        }
        if (made.text[at] != '{') {
            AGREE(outcome.events == i && outcome.result == JSON_SCAN_INVALID_JSON);
            AGREE(outcome.offset == at);
            seen.invalid++;
            return;
        }
        json_t *value = json_loadb(made.text + at, made.len - at,
                                   JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, &error);
        if (value == NULL) {
            seen.incomparable += is_own_limit(&error);
            seen.invalid += !is_own_limit(&error);
            AGREE(is_own_limit(&error) ||
                  (outcome.events == i && outcome.result == JSON_SCAN_INVALID_JSON));
            return;
        }
        const bool going = agree_on_event(seed, i, value);
        json_decref(value);
        if (!going)
            return;
        AGREE(outcome.event[i].begin == at && outcome.event[i].len == (size_t)error.position);
        at += (size_t)error.position;
    }
}

/* Counts the brackets that are open at the error; jansson's tree does not tell when a later member
 * of the same name replaced a deep one. The text before the error is valid. */
static bool is_too_deep(void)
{
    size_t depth = 0;
    size_t events_array = 0;
    bool in_string = false;

    for (size_t i = 0; i < outcome.offset; i++) {
        const char c = made.text[i];

        if (in_string && c == '\\') {
            i++;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == '{' || c == '[')) {
            if (depth == 0)
                events_array = c == '[';
            depth++;
        } else if (!in_string && (c == '}' || c == ']')) {
            depth--;
        }
    }
    return depth == JSON_SCAN_DEPTH_MAX + events_array;
}

static void agree_on_body(const struct scanner *scanner, uint64_t seed)
{
    size_t at = 0;

    run(scanner, made.text, made.len);
    AGREE(outcome.events <= EVENTS_KEPT);
    if (outcome.problem != NULL && strcmp(outcome.problem, "An id field is given twice.") == 0) {
        seen.incomparable++;
        return;
    }
    if (outcome.problem != NULL &&
        strcmp(outcome.problem, "The event is nested deeper than 64.") == 0) {
        AGREE(is_too_deep());
        seen.invalid++;
        return;
    }
    /* jansson 2.14 loses a NUL that follows a number or a word; no valid body holds one. */
    if (memchr(made.text, '\0', made.len) != NULL) {
        AGREE(outcome.result > JSON_SCAN_EMPTY);
        seen.invalid++;
        return;
    }
    while (at < made.len && strchr(" \t\r\n", made.text[at]) != NULL)
        at++;
    if (at < made.len && made.text[at] == '[')
        agree_on_array(seed);
    else
        agree_on_sequence(seed);
}

/* An array is judged alike in an envelope, at its place there. */
static void agree_on_envelope(const struct scanner *scanner)
{
    static const struct json_scan_fields fields = {
        .names = {{"event_id", 8}}, .count = 1, .events = {"batch", 5}};
    static const char head[] = "{\"event_id\":[],\"b\\u0061tch\" : ",
                      tail[] = ",\"x\":{\"batch\":1}}";
    char text[RANDOM_BODY_MAX];
    struct outcome bare = outcome;

    if (made.len + sizeof(head) + sizeof(tail) > sizeof(text) || made.len == 0 ||
        made.text[0] != '[')
        return;
    memcpy(text, head, sizeof(head) - 1);
    memcpy(text + sizeof(head) - 1, made.text, made.len);
    memcpy(text + sizeof(head) - 1 + made.len, tail, sizeof(tail) - 1);
    (void)run_fields(scanner, &fields, text, sizeof(head) + sizeof(tail) - 2 + made.len);
    /* What follows the array, or is missing at its end, may be right in an envelope. */
    const bool open_end =
        bare.offset == made.len || (bare.problem != NULL && strstr(bare.problem, "follow") != NULL);
    assert_true(outcome.events == bare.events || open_end);
    for (uint32_t i = 0; i < bare.events && i < EVENTS_KEPT; i++) {
        assert_int_equal(outcome.event[i].begin, bare.event[i].begin + sizeof(head) - 1);
        assert_int_equal(outcome.event[i].len, bare.event[i].len);
        assert_int_equal(outcome.event[i].id_len, bare.event[i].id_len);
    }
    if (bare.problem == NULL || open_end)
        return;
    assert_int_equal(outcome.result, bare.result);
    assert_string_equal(outcome.problem, bare.problem);
    assert_int_equal(outcome.offset, bare.offset + sizeof(head) - 1);
}

/* ALLOY_TEST_SEED=N makes the body of seed N the first one. */
static void random_bodies_are_judged_as_jansson_judges_them(void **state)
{
    const char *given = getenv("ALLOY_TEST_SEED");
    const uint64_t first = given != NULL ? strtoull(given, NULL, 10) : 1;

    memset(&seen, 0, sizeof(seen));
    for (uint64_t seed = first; seed < first + RANDOM_INPUTS; seed++) {
        made.state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
        put_body();
        if (seed % 4 != 0)
            mutate_body();
        agree_on_body(*state, seed);
        agree_on_envelope(*state);
    }
    assert_true(seen.valid > RANDOM_INPUTS / 10);
    assert_true(seen.invalid > RANDOM_INPUTS / 10);
    assert_true(seen.bad_id > RANDOM_INPUTS / 100);
    assert_true(seen.incomparable < RANDOM_INPUTS / 20);
}

#define BOTH(test)                                         \
    {#test, test, NULL, NULL, &native},                    \
    {                                                      \
#test "_without_sse2", test, NULL, NULL, &portable \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(whole_bodies_are_judged_at_the_exact_byte),
        BOTH(values_are_judged_at_the_exact_byte),
        BOTH(each_byte_in_a_string_is_judged_at_each_position),
        BOTH(a_cut_body_is_never_read_beyond_its_end),
        BOTH(depth_64_is_accepted_and_65_is_not),
        BOTH(brackets_match_at_every_depth),
        BOTH(ids_are_decoded_and_verbatim_where_they_can_be),
        BOTH(ids_end_at_256_decoded_bytes),
        BOTH(keys_match_after_decoding_and_only_at_the_top),
        BOTH(composite_ids_join_their_parts_without_ambiguity),
        BOTH(composite_ids_need_every_field_and_invalid_wins_over_missing),
        BOTH(an_escaped_part_of_257_bytes_is_refused_in_its_buffer),
        BOTH(the_longest_composite_id_fits),
        BOTH(event_texts_are_the_objects_without_white_space),
        BOTH(no_body_at_all_is_empty),
        BOTH(random_bodies_are_judged_as_jansson_judges_them),
    };

    return cmocka_run_group_tests(tests, map_guard, NULL);
}
