/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_advice.c - what is said of each reason of /readyz.
 */
#include "advice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void a_name_in_the_key_comes_again_in_what_is_said(void **state)
{
    struct advice advice;

    (void)state;
    assert_true(advice_find("clickhouse.a.b.refuses", &advice));
    assert_string_equal(advice.title, "The table of a.b refuses row after row");
    assert_non_null(strstr(advice.todo, "alloyctl bury a.b."));
    assert_true(advice_find("clickhouse@ch:8123", &advice));
    assert_string_equal(advice.title, "ClickHouse at ch:8123 is left out");
    assert_true(advice_find("thread.worker-1", &advice));
    assert_string_equal(advice.title, "A thread hangs");
}

static void the_row_for_the_key_itself_is_taken(void **state)
{
    static const char *const keys[][2] = {
        {"clickhouse", "ClickHouse does not answer"},
        {"clickhouse.shards", "Events wait for a shard that is not configured"},
        {"clickhouse.events", "ClickHouse refuses inserts of events"},
        {"clickhouse.events.window", "The table of events does not deduplicate"},
        {"redis", "Redis is away"},
        {"redis.replicas", "Too few replicas have the last claims"},
        {"journal.corrupt", "Something in the journal is broken"}};
    struct advice advice;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_true(advice_find(keys[i][0], &advice));
        assert_string_equal(advice.title, keys[i][1]);
    }
    /* A * of a file's name is none. */
    assert_true(advice_find("journal.corrupt", &advice));
    assert_non_null(strstr(advice.todo, "*.alj.corrupt"));
}

static void of_an_unknown_key_the_log_tells(void **state)
{
    static const char *const keys[] = {"", "rediss", "clickhouse.", "stream..removed", "journal"};
    struct advice advice;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        assert_false(advice_find(keys[i], &advice));
        assert_string_equal(advice.title, keys[i]);
        assert_string_equal(advice.todo, "See the log.");
    }
}

static void it_stands_behind_the_text_as_a_sentence(void **state)
{
    const struct advice advice = {.todo = "Do it."};
    char out[ADVICE_TEXT_MAX], text[HEALTH_TEXT_MAX];

    (void)state;
    advice_append("It is so", &advice, out);
    assert_string_equal(out, "It is so. Do it.");
    advice_append("It is so.", &advice, out);
    assert_string_equal(out, "It is so. Do it.");
    advice_append("", &advice, out);
    assert_string_equal(out, "Do it.");
    /* The longest text loses nothing. */
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    advice_append(text, &advice, out);
    assert_int_equal(strlen(out), sizeof(text) - 1 + strlen(". Do it."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_in_the_key_comes_again_in_what_is_said),
        cmocka_unit_test(the_row_for_the_key_itself_is_taken),
        cmocka_unit_test(of_an_unknown_key_the_log_tells),
        cmocka_unit_test(it_stands_behind_the_text_as_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
