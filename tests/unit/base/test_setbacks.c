/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_setbacks.c - what ClickHouse did not take is kept, counted, and hides nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/setbacks.h"

static struct setbacks *setbacks;
static struct setback out[SETBACKS_KEPT];

static int start(void **state)
{
    (void)state;
    setbacks = setbacks_create();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    setbacks_destroy(setbacks);
    return 0;
}

static void note(unsigned stream, int code, uint64_t time_ms)
{
    const struct setback setback = {
        .stream = stream, .code = code, .time_ms = time_ms, .rows = time_ms, .class = "retry"};

    setbacks_note(setbacks, SETBACK_INSERT, &setback);
}

static size_t look(void)
{
    return setbacks_read(setbacks, SETBACK_INSERT, out);
}

static void the_latest_comes_first(void **state)
{
    (void)state;
    assert_int_equal(look(), 0);
    for (int i = 1; i <= 5; i++)
        note(0, i, (uint64_t)i * 100);
    assert_int_equal(look(), 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(out[i].code, 5 - i);
    assert_int_equal(setbacks_read(setbacks, SETBACK_LETTER, out), 0);
}

static void what_repeats_itself_is_one_entry(void **state)
{
    (void)state;
    note(0, 27, 100);
    note(0, 60, 200);
    note(1, 27, 250);
    note(0, 27, 300);
    note(0, 27, 400);
    assert_int_equal(look(), 3);
    assert_int_equal(out[0].code, 27);
    assert_int_equal(out[0].times, 3);
    assert_int_equal(out[0].first_ms, 100);
    assert_int_equal(out[0].time_ms, 400);
    assert_int_equal(out[0].rows, 400);
    assert_int_equal(out[1].stream, 1);
    assert_int_equal(out[1].times, 1);
}

static void a_stream_in_trouble_does_not_hide_another(void **state)
{
    (void)state;
    note(7, 1, 1);
    for (int i = 0; i < SETBACKS_KEPT * 3; i++)
        note(2, 1000 + i, 100);
    note(3, 1, 200);
    assert_int_equal(look(), SETBACKS_KEPT);
    assert_int_equal(out[0].stream, 3);
    assert_int_equal(out[SETBACKS_KEPT - 1].stream, 7);
    for (int i = 1; i < SETBACKS_KEPT - 1; i++)
        assert_int_equal(out[i].code, 1000 + SETBACKS_KEPT * 3 - i);
}

static void texts_are_cut_between_characters(void **state)
{
    char text[6];

    (void)state;
#define COPY(bytes) setbacks_copy(text, sizeof(text) - 1, (struct slice){bytes, sizeof(bytes) - 1})
    COPY("abcdefg");
    assert_string_equal(text, "abcde");
    COPY("abc\xe2\x82\xac");
    assert_string_equal(text, "abc");
    COPY("ab\xe2\x82\xac");
    assert_string_equal(text, "ab\xe2\x82\xac");
    COPY("a\n\0\xff\x7f");
    assert_string_equal(text, "a  ? ");
    COPY("");
    assert_string_equal(text, "");
}

static void nobody_need_be_there(void **state)
{
    const struct setback setback = {.stream = 0};

    (void)state;
    setbacks_note(NULL, SETBACK_LETTER, &setback);
    setbacks_destroy(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_latest_comes_first),
        TEST(what_repeats_itself_is_one_entry),
        TEST(a_stream_in_trouble_does_not_hide_another),
        TEST(texts_are_cut_between_characters),
        TEST(nobody_need_be_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
