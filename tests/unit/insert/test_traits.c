/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_traits.c - rows of one shape, good ones among bad ones: which of them are tried first.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "traits.h"

#define EVENT_MAX 1024

static struct traits *traits;
static uint64_t seed;

static unsigned draw(unsigned below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 11) % below;
}

static int setup(void **state)
{
    (void)state;
    seed = 88172645463325252u;
    traits = traits_create();
    assert_non_null(traits);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    traits_destroy(traits);
    return 0;
}

static struct slice slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* Writes an event with the value, and members whose values tell nothing. */
static void write_event(char out[EVENT_MAX], const char *value)
{
    static const char *const countries[] = {"DE", "DE", "DE", "DE", "FR", "US", "IT", "GB"};

    snprintf(
        out, EVENT_MAX,
        "{\"id\":\"%08x-6eb4-4104-%04x-2e798da8%04x\",\"ts\":\"2026-%02u-%02uT%02u:%02u:%02uZ\","
        "\"country\":\"%s\",\"page\":\"/%c%c%c/"
        "%u\",\"n\":%u,\"ok\":%s,\"c\":\"constant\",\"v\":%s}",
        draw(1u << 31), draw(1 << 16), draw(1 << 16), 1 + draw(12), 1 + draw(28), draw(24),
        draw(60), draw(60), countries[draw(8)], 'a' + (char)draw(26), 'a' + (char)draw(26),
        'a' + (char)draw(26), draw(1000), 10000 + draw(90000), draw(4) > 0 ? "true" : "false",
        value);
}

typedef void (*value_fn)(char out[128]);

static void learn(value_fn value, size_t n, bool refused)
{
    char text[128], event[EVENT_MAX];

    for (size_t i = 0; i < n; i++) {
        value(text);
        write_event(event, text);
        traits_learn(traits, slice(event), refused);
    }
}

static int score(value_fn value)
{
    char text[128], event[EVENT_MAX];

    value(text);
    write_event(event, text);
    return traits_score(traits, slice(event));
}

/* Of a hundred bad rows, how many come before a good one, on average; and whether good ones would
 * be picked at all. */
static unsigned wrong_percent(value_fn good, value_fn bad)
{
    unsigned wrong = 0;

    for (int i = 0; i < 100; i++) {
        const int of_good = score(good);
        for (int k = 0; k < 100; k++)
            wrong += score(bad) >= of_good || of_good < TRAITS_PROMISING;
    }
    return wrong / 100;
}

static void good_time(char out[128])
{
    snprintf(out, 128, "\"2026-%02u-%02uT00:00:00Z\"", 1 + draw(12), 1 + draw(28));
}

static void bad_time(char out[128])
{
    snprintf(out, 128, "\"2026-%02u-%02uT00:00:00Z\"", 13 + draw(87), 1 + draw(28));
}

static void wrong_time(char out[128])
{
    snprintf(out, 128, "\"2026-99-99T00:00:00Z\"");
}

static void small_number(char out[128])
{
    snprintf(out, 128, "%u", 1000 + draw(4000));
}

static void large_number(char out[128])
{
    snprintf(out, 128, "%u", 5000 + draw(5000));
}

static void colour(char out[128])
{
    static const char *const colours[] = {"\"red\"", "\"green\"", "\"blue\""};

    snprintf(out, 128, "%s", colours[draw(3)]);
}

static void red(char out[128])
{
    snprintf(out, 128, "\"red\"");
}

static void wrong_colour(char out[128])
{
    snprintf(out, 128, "\"rad\"");
}

/* Never a colour. */
static void word(char out[128])
{
    char letters[9];
    const size_t len = 3 + draw(6);

    for (size_t i = 0; i < len; i++)
        letters[i] = (char)('a' + draw(26));
    letters[len] = '\0';
    snprintf(out, 128, "\"%s%s\"", letters, strcmp(letters, "red") == 0 ? "x" : "");
}

static void uuid(char out[128])
{
    snprintf(out, 128, "\"%08x-6eb4-4104-%04x-2e798da8%04x\"", draw(1u << 31), draw(1 << 16),
             draw(1 << 16));
}

static void short_uuid(char out[128])
{
    snprintf(out, 128, "\"%08x-6eb4-4104-%04x-2e798da8%03x\"", draw(1u << 31), draw(1 << 16),
             draw(1 << 12));
}

static void good_inside(char out[128])
{
    snprintf(out, 128, "{\"a\":%u,\"b\":\"x%u\",\"c\":[1,2]}", 10 + draw(90), draw(100000));
}

static void bad_inside(char out[128])
{
    snprintf(out, 128, "{\"a\":%u,\"b\":\"x%u\",\"c\":[1,2]}", 100 + draw(100), draw(100000));
}

static void good_element(char out[128])
{
    snprintf(out, 128, "[%u,%u,7]", draw(100), draw(100));
}

static void bad_element(char out[128])
{
    snprintf(out, 128, "[%u,%u,999]", draw(100), draw(100));
}

static void rows_that_differ_from_refused_ones_come_first(void **state)
{
    static const struct {
        const char *what;
        value_fn good, bad;
        size_t refused;
        unsigned wrong_max;
    } cases[] = {
        {"one wrong time", good_time, wrong_time, 16, 10},
        /* Those of October to December differ by nothing but the month itself. */
        {"times of no month", good_time, bad_time, 64, 20},
        {"large numbers", small_number, large_number, 64, 2},
        {"a wrong word of an enum", colour, wrong_colour, 16, 10},
        {"ids that are too short", uuid, short_uuid, 16, 5},
        {"a number inside", good_inside, bad_inside, 64, 2},
        {"an element", good_element, bad_element, 64, 10},
        {"any word but one", word, red, 16, 10},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned wrong;

        (void)teardown(state);
        (void)setup(state);
        learn(cases[i].bad, cases[i].refused, true);
        wrong = wrong_percent(cases[i].good, cases[i].bad);
        print_message("%s: %u of 100 bad rows come before a good one\n", cases[i].what, wrong);
        assert_true(wrong <= cases[i].wrong_max);
    }
}

static void rows_that_resemble_those_that_went_in_come_first(void **state)
{
    (void)state;
    /* Any word may be a bad one, so nothing tells before one went in. */
    learn(word, 64, true);
    assert_true(wrong_percent(red, word) > 60);
    learn(red, 1, false);
    assert_true(wrong_percent(red, word) <= 30);
    learn(red, 31, false);
    assert_true(wrong_percent(red, word) <= 2);
}

static void what_went_in_so_far_does_not_hide_other_good_rows(void **state)
{
    (void)state;
    learn(wrong_colour, 32, true);
    learn(colour, 2, false);
    learn(red, 30, false);
    assert_true(wrong_percent(colour, wrong_colour) <= 20);
}

static unsigned promising(value_fn value)
{
    unsigned count = 0;

    for (int i = 0; i < 1000; i++)
        count += score(value) >= TRAITS_PROMISING;
    return count;
}

static void what_differs_from_row_to_row_and_what_never_does_tell_nothing(void **state)
{
    char event[EVENT_MAX];

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(event, sizeof(event), "{\"id\":\"e%u\",\"c\":\"x\",\"v\":1}", 1000000 + i);
        if (i < 256)
            traits_learn(traits, slice(event), i % 8 != 0);
        else
            assert_true(traits_score(traits, slice(event)) < TRAITS_PROMISING);
    }
    (void)teardown(state);
    (void)setup(state);
    learn(word, 1024, true);
    assert_true(promising(word) < 100);
}

static void nothing_is_promising_before_a_few_were_refused(void **state)
{
    (void)state;
    assert_int_equal(promising(word), 0);
    learn(wrong_colour, 3, true);
    assert_int_equal(promising(colour), 0);
}

static void it_learns_anew_when_other_rows_are_bad(void **state)
{
    (void)state;
    learn(small_number, 20000, true);
    learn(large_number, 5000, false);
    learn(large_number, 20000, true);
    learn(small_number, 5000, false);
    assert_true(wrong_percent(small_number, large_number) <= 5);
}

static void absent_members_tell(void **state)
{
    (void)state;
    for (int i = 0; i < 16; i++)
        traits_learn(traits, slice("{\"a\":1,\"b\":2}"), true);
    assert_true(traits_score(traits, slice("{\"a\":1}")) >= TRAITS_PROMISING);
    assert_true(traits_score(traits, slice("{\"b\":2,\"a\":1}")) < TRAITS_PROMISING);
}

static void any_bytes_are_safe(void **state)
{
    static const char bytes[] = "{}[]\",:\\ae19.-\n\xff";
    static char event[8192];

    (void)state;
    traits_learn(traits, (struct slice){"", 0}, true);
    assert_int_equal(traits_score(traits, (struct slice){NULL, 0}), 0);
    for (int i = 0; i < 20000; i++) {
        const size_t len = draw(i % 100 == 0 ? sizeof(event) : 64);
        event[0] = '{';
        for (size_t k = 1; k < len; k++)
            event[k] = bytes[draw(sizeof(bytes) - 1)];
        traits_learn(traits, (struct slice){event, len}, i % 2 == 0);
        (void)traits_score(traits, (struct slice){event, len});
    }
}

static void a_name_many_times_counts_and_does_not_overflow(void **state)
{
    char event[EVENT_MAX] = "{";

    (void)state;
    for (int i = 0; i < 30; i++)
        strcat(event, "\"a\":1,");
    for (int i = 0; i < 20000; i++) {
        traits_learn(traits, slice(event), true);
        traits_learn(traits, slice("{\"a\":[1,1,1,1,1,1,1,1]}"), i % 2 == 0);
    }
    assert_true(traits_score(traits, slice(event)) < TRAITS_PROMISING);
    assert_true(traits_score(traits, slice("{\"a\":2}")) >= TRAITS_PROMISING);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_that_differ_from_refused_ones_come_first),
        TEST(rows_that_resemble_those_that_went_in_come_first),
        TEST(what_went_in_so_far_does_not_hide_other_good_rows),
        TEST(what_differs_from_row_to_row_and_what_never_does_tell_nothing),
        TEST(nothing_is_promising_before_a_few_were_refused),
        TEST(it_learns_anew_when_other_rows_are_bad),
        TEST(absent_members_tell),
        TEST(any_bytes_are_safe),
        TEST(a_name_many_times_counts_and_does_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
