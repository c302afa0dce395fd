/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_scan_find.c - values that are looked for around the events, or in the first one.
 */
#include "alloy/json_scan.h"

#include "json_random.h"

#include <jansson.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define RANDOM_INPUTS 20000

static struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* What is found in a copy of its exact size. */
static const char *find(const char *text, const char *events, const char *name, const char *rest)
{
    static char found[256];
    const struct json_scan_search search = {
        .wanted = {{slice_of("none"), {"", 0}}, {slice_of(name), slice_of(rest)}},
        .count = 2,
        .events = slice_of(events),
        .enough = 2};
    struct slice values[2];
    char *copy = malloc(strlen(text) + (*text == '\0'));

    assert_non_null(copy);
    memcpy(copy, text, strlen(text));
    json_scan_find(&search, (struct slice){copy, strlen(text)}, 0, values);
    assert_int_equal(values[0].len, 0);
    assert_true(values[1].len < sizeof(found));
    memcpy(found, values[1].data, values[1].len);
    found[values[1].len] = '\0';
    free(copy);
    return found;
}

static void a_value_is_found_before_the_events_and_behind_them(void **state)
{
    (void)state;
    assert_string_equal(find("{\"k\":\"a\",\"batch\":[{\"k\":\"b\"}]}", "batch", "k", ""), "\"a\"");
    assert_string_equal(
        find("{\"batch\":[{\"k\":\"b\"},{}] , \"k\" : {\"x\":[1]} }", "batch", "k", ""),
        "{\"x\":[1]}");
    assert_string_equal(find(" {\"batch\":[],\"k\":1}", "batch", "k", ""), "1");
    assert_string_equal(find("\xEF\xBB\xBF{\"batch\":[{}],\"k\":null}", "batch", "k", ""), "null");
    assert_string_equal(find("{\"batch\":[{\"k\":\"b\"}]}", "batch", "k", ""), "");
    assert_string_equal(find("{\"\\u006b\":2,\"batch\":[]}", "batch", "k", ""), "2");
}

static void with_enough_before_the_events_nobody_looks_behind_them(void **state)
{
    struct json_scan_search search = {
        .wanted = {{slice_of("a"), {"", 0}}, {slice_of("b"), {"", 0}}},
        .count = 2,
        .events = slice_of("e"),
        .enough = 1};
    const struct slice body = slice_of("{\"a\":1,\"e\":[{}],\"b\":2}"),
                       broken = slice_of("{\"a\":1,\"e\":[{},");
    struct slice values[2];

    (void)state;
    json_scan_find(&search, body, 0, values);
    assert_true(values[0].len == 1 && values[1].len == 0);
    search.enough = 2;
    json_scan_find(&search, body, 0, values);
    assert_true(values[0].len == 1 && values[1].len == 1);
    json_scan_find(&search, broken, 0, values);
    assert_true(values[0].len == 1 && values[1].len == 0);
}

static void without_events_it_is_one_of_the_first_object(void **state)
{
    (void)state;
    assert_string_equal(find("{\"k\":\"a\"}{\"k\":\"b\"}", "", "k", ""), "\"a\"");
    assert_string_equal(find("[{\"k\":\"a\"},{\"k\":\"b\"}]", "batch", "k", ""), "\"a\"");
    assert_string_equal(find("[{},{\"k\":\"b\"}]", "batch", "k", ""), "");
    assert_string_equal(find("{\"batch\":\"no array\",\"k\":true}", "batch", "k", ""), "true");
    assert_string_equal(find("{\"x\":{\"k\":1}}", "", "k", ""), "");
    /* In an array, a member of the envelope's name is the event's own. */
    assert_string_equal(find("[{\"batch\":[1,2],\"k\":3}]", "batch", "k", ""), "3");
}

static void a_pointer_leads_into_the_value(void **state)
{
    (void)state;
    assert_string_equal(find("[{\"properties\":{\"token\":\"t\"}}]", "", "properties", "/token"),
                        "\"t\"");
    assert_string_equal(find("{\"a\":[{\"b\":7}]}", "", "a", "/0/b"), "7");
    assert_string_equal(find("{\"a\":{\"c/d\":8}}", "", "a", "/c~1d"), "8");
    assert_string_equal(find("{\"a\":\"text\"}", "", "a", "/b"), "");
    assert_string_equal(find("{\"a\":{\"b\":1,\"b\":2}}", "", "a", "/b"), "");
}

static void several_may_share_a_name_and_the_last_of_two_counts(void **state)
{
    const struct json_scan_search search = {.wanted = {{slice_of("p"), slice_of("/a")},
                                                       {slice_of("p"), slice_of("/b")},
                                                       {slice_of("p"), slice_of("")}},
                                            .count = 3,
                                            .events = slice_of("")};
    const struct slice body = slice_of("{\"p\":0,\"p\":{\"a\":1,\"b\":2}}");
    struct slice values[3];

    (void)state;
    json_scan_find(&search, body, 0, values);
    assert_int_equal(*values[0].data, '1');
    assert_int_equal(*values[1].data, '2');
    assert_int_equal(values[2].len, strlen("{\"a\":1,\"b\":2}"));
}

static void the_second_object_of_a_body_is_looked_at_from_its_place(void **state)
{
    const struct json_scan_search search = {
        .wanted = {{slice_of("k"), {"", 0}}}, .count = 1, .events = slice_of("b"), .enough = 1};
    const struct slice body = slice_of("{\"k\":1,\"b\":[{}]}\n{\"b\":[{}],\"k\":2}");
    struct slice value;

    (void)state;
    json_scan_find(&search, body, 17, &value);
    assert_int_equal(value.len, 1);
    assert_int_equal(*value.data, '2');
}

static void in_what_is_no_valid_object_nothing_is_found(void **state)
{
    static const char *const bodies[] = {
        "",
        " ",
        "1",
        "\"k\"",
        "[",
        "[1]",
        "{\"k\":1",
        "{\"k\":1,}",
        "{\"k\" 1}",
        "{\"k\":1 \"b\":[]}",
        "{\"k\":01}",
        "{\"k\":\"\x01\"}",
        "{\"b\":[1],\"k\":1}",
        "{\"b\":[{},],\"k\":1}",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        assert_string_equal(find(bodies[i], "b", "k", ""), "");
}

/* The value that jansson has for a name of the first object. */
static json_t *oracle(json_t *body, const char *name)
{
    return json_object_get(json_is_array(body) ? json_array_get(body, 0) : body, name);
}

static void random_bodies_hold_what_jansson_finds(void **state)
{
    static const char *const names[] = {"event_id", "a", "b"};
    size_t found = 0;

    (void)state;
    for (uint64_t seed = 1; seed < RANDOM_INPUTS; seed++) {
        struct json_scan_search search = {
            .count = ARRAY_LEN(names), .events = slice_of("batch"), .enough = ARRAY_LEN(names)};
        struct slice values[ARRAY_LEN(names)];
        json_error_t error;
        json_t *body;

        made.state = seed * UINT64_C(0x9E3779B97F4A7C15) | 1;
        put_body();
        if (seed % 2 != 0)
            mutate_body();
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
            search.wanted[i] = (struct json_scan_wanted){slice_of(names[i]), {"", 0}};
        json_scan_find(&search, (struct slice){made.text, made.len}, 0, values);
        body = json_loadb(made.text, made.len, JSON_ALLOW_NUL | JSON_DISABLE_EOF_CHECK, &error);
        for (size_t i = 0; body != NULL && i < ARRAY_LEN(names); i++) {
            json_t *expected = oracle(body, names[i]);
            json_t *value = values[i].len == 0
                                ? NULL
                                : json_loadb(values[i].data, values[i].len,
                                             JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);

            /* Nested too deep for us, and not for jansson. */
            if (expected != NULL && values[i].len == 0)
                continue;
            if (!(expected == NULL ? value == NULL : json_equal(expected, value)))
                fail_msg("seed %llu %s: [%.*s]", (unsigned long long)seed, names[i], (int)made.len,
                         made.text);
            found += value != NULL;
            json_decref(value);
        }
        json_decref(body);
    }
    assert_true(found > RANDOM_INPUTS / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_found_before_the_events_and_behind_them),
        cmocka_unit_test(with_enough_before_the_events_nobody_looks_behind_them),
        cmocka_unit_test(without_events_it_is_one_of_the_first_object),
        cmocka_unit_test(a_pointer_leads_into_the_value),
        cmocka_unit_test(several_may_share_a_name_and_the_last_of_two_counts),
        cmocka_unit_test(the_second_object_of_a_body_is_looked_at_from_its_place),
        cmocka_unit_test(in_what_is_no_valid_object_nothing_is_found),
        cmocka_unit_test(random_bodies_hold_what_jansson_finds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
