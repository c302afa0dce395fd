/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shape.c - events that look alike, and events that do not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "shape.h"

#define EVENTS 1000

static uint64_t seed;

static uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static int setup(void **state)
{
    (void)state;
    seed = 88172645463325252u;
    return 0;
}

static uint64_t shape(const char *text)
{
    return shape_of((struct slice){text, strlen(text)});
}

static uint64_t shape_of_value(const char *value)
{
    char text[512];

    snprintf(text, sizeof(text), "{\"id\":\"x\",\"v\":%s}", value);
    return shape(text);
}

/* How many shapes there are among EVENTS texts that make() writes. */
static size_t count_shapes(void (*make)(char out[512]))
{
    static uint64_t seen[EVENTS];
    char text[512];
    size_t count = 0;

    for (int i = 0; i < EVENTS; i++) {
        uint64_t one;
        size_t at = 0;

        make(text);
        one = shape(text);
        while (at < count && seen[at] != one)
            at++;
        seen[at] = one;
        count += at == count;
    }
    return count;
}

static void make_uuid(char out[512])
{
    const uint64_t a = draw(), b = draw();

    snprintf(out, 512, "{\"id\":\"%08x-%04x-%04x-%04x-%012" PRIx64 "\",\"v\":1}",
             (unsigned)(a >> 32), (unsigned)(a >> 16 & 0xffff), (unsigned)(a & 0xffff),
             (unsigned)(b >> 48), b & 0xffffffffffff);
}

static void make_hex(char out[512])
{
    const uint64_t a = draw();

    snprintf(out, 512, "{\"id\":\"%016" PRIx64 "%016" PRIx64 "\"}", a, draw());
}

static void put_random(char *out, size_t len, const char *alphabet)
{
    for (size_t i = 0; i < len; i++)
        out[i] = alphabet[draw() % strlen(alphabet)];
    out[len] = '\0';
}

static void make_nanoid(char out[512])
{
    char id[32];

    put_random(id, 21, "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict");
    snprintf(out, 512, "{\"id\":\"%s\"}", id);
}

static void make_base64(char out[512])
{
    char id[32];

    put_random(id, 22, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    snprintf(out, 512, "{\"id\":\"%s==\"}", id);
}

static void make_time(char out[512])
{
    const uint64_t a = draw();

    snprintf(out, 512, "{\"t\":\"%04u-%02u-%02uT%02u:%02u:%02u.%03uZ\"}",
             (unsigned)(2000 + a % 100), (unsigned)(1 + a / 7 % 12), (unsigned)(1 + a / 11 % 28),
             (unsigned)(a / 13 % 24), (unsigned)(a / 17 % 60), (unsigned)(a / 19 % 60),
             (unsigned)(a / 23 % 1000));
}

static void make_plain_time(char out[512])
{
    make_time(out);
    out[16] = ' ';
    strcpy(out + 25, "\"}");
}

static void make_prose(char out[512])
{
    static const char *const words[] = {"the",   "quick,", "brown", "fox",  "it's", "jumps;",
                                        "over!", "(a",     "lazy)", "dog.", "42",   "why?"};
    size_t len = (size_t)snprintf(out, 512, "{\"m\":\"");
    const uint64_t count = 12 + draw() % 20;

    for (uint64_t i = 0; i < count; i++)
        len += (size_t)snprintf(out + len, 512 - len, "%s ", words[draw() % ARRAY_LEN(words)]);
    snprintf(out + len, 512 - len, "\"}");
}

static void make_number(char out[512])
{
    snprintf(out, 512, "{\"id\":%" PRIu64 "}", draw() % 1000000);
}

static void make_map(char out[512])
{
    const uint64_t a = draw();

    snprintf(out, 512, "{\"m\":{\"u%016" PRIx64 "\":1,\"u%08x\":2}}", a, (unsigned)draw());
}

static void what_differs_from_event_to_event_makes_few_shapes(void **state)
{
    static const struct {
        void (*make)(char out[512]);
        size_t most;
    } cases[] = {
        {make_uuid, 2},       {make_hex, 1},   {make_nanoid, 20}, {make_base64, 20}, {make_time, 1},
        {make_plain_time, 1}, {make_prose, 3}, {make_number, 4},  {make_map, 1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t shapes = count_shapes(cases[i].make);

        if (shapes > cases[i].most)
            fail_msg("case %zu has %zu shapes", i, shapes);
    }
}

/* Each value of such a list has a shape of its own. */
static void what_a_column_may_refuse_stands_out(void **state)
{
    static const char *const values[] = {
        "null",
        "true",
        "false",
        "1",
        "-1",
        "300",
        "-300",
        "70000",
        "5000000000",
        "50000000000",
        "18446744073709551616",
        "1.5",
        "-1.5",
        "1e5",
        "1.5e5",
        "\"\"",
        "\"abc\"",
        "\"123\"",
        "\"-1\"",
        "\"1.5\"",
        "\"abc def\"",
        "\"a-b\"",
        "\"2026-01-31 12:00:00\"",
        "\"2026-01-31\"",
        "\"2026-01-31T12:00:00Z\"",
        "\"31.01.2026\"",
        "\"10.0.0.1\"",
        "\"caf\xc3\xa9\"",
        "\"a\\nb\"",
        "[]",
        "[1]",
        "[-1]",
        "[\"a\"]",
        "[[1]]",
        "[{\"a\":1}]",
        "{}",
        "{\"a\":1}",
        "{\"a\":\"1\"}",
        "{\"a\":null}",
        "{\"b\":1}",
        "{\"a\":1,\"b\":1}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        for (size_t j = 0; j < i; j++)
            if (shape_of_value(values[i]) == shape_of_value(values[j]))
                fail_msg("%s looks like %s", values[i], values[j]);
}

static void these_look_alike(void **state)
{
    static const char *const pairs[][2] = {
        {"1", "42"},
        {"300", "999"},
        {"\"abc\"", "\"Hello\""},
        {"\"user@example.org\"", "\"another.one@example.com\""},
        {"[1,2,3]", "[7]"},
        {"[1,\"x\"]", "[2]"},
        {"{\"a\":[1]}", "{\"a\":[\"x\",{}]}"},
        {"{\"a\":\"x y\"}", "{ \"a\" : \"z\" }"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
        if (shape_of_value(pairs[i][0]) != shape_of_value(pairs[i][1]))
            fail_msg("%s does not look like %s", pairs[i][0], pairs[i][1]);
    assert_int_equal(shape("{\"a\":1,\"b\":\"x\"}\n"), shape(" {\n\"a\" : 2 ,\t\"b\": \"y\" } "));
}

static void keys_and_their_order_count(void **state)
{
    (void)state;
    assert_int_not_equal(shape("{\"a\":1}"), shape("{\"b\":1}"));
    assert_int_not_equal(shape("{\"c1\":1}"), shape("{\"c2\":1}"));
    assert_int_not_equal(shape("{\"a\":1,\"b\":1}"), shape("{\"b\":1,\"a\":1}"));
    assert_int_not_equal(shape("{\"a\":1}"), shape("{\"a\":1,\"b\":1}"));
    assert_int_not_equal(shape("{\"a\":{\"x\":1}}"), shape("{\"a\":{\"y\":1}}"));
}

/* Every prefix, and every byte replaced by each of some, in memory of just that size. */
static void any_bytes_have_a_shape(void **state)
{
    static const char text[] =
        "{\"a\\\"\":\"x\\u00e9\",\"b\":[1,{\"c\":null}],\"d\":{\"e\":-1.5e3}}";
    static const char bytes[] = "\0\"\\{}[],:-19ae \xff";

    (void)state;
    for (size_t len = 0; len < sizeof(text); len++) {
        char *copy = malloc(len == 0 ? 1 : len);

        memcpy(copy, text, len);
        (void)shape_of((struct slice){copy, len});
        for (size_t i = 0; i < len; i++)
            for (size_t j = 0; j < sizeof(bytes) - 1; j++) {
                copy[i] = bytes[j];
                (void)shape_of((struct slice){copy, len});
                copy[i] = text[i];
            }
        free(copy);
    }
    for (int i = 0; i < EVENTS; i++) {
        char *copy = malloc(64);

        for (int j = 0; j < 64; j++)
            copy[j] = (char)draw();
        (void)shape_of((struct slice){copy, 64});
        free(copy);
    }
    (void)shape_of((struct slice){NULL, 0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_differs_from_event_to_event_makes_few_shapes, setup),
        cmocka_unit_test(what_a_column_may_refuse_stands_out),
        cmocka_unit_test(these_look_alike),
        cmocka_unit_test(keys_and_their_order_count),
        cmocka_unit_test_setup(any_bytes_have_a_shape, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
