/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_verify_answer.c - only what is exactly as expected is taken for an answer about rows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "verify_answer.h"

static const struct config_stream one = {.ids = {{CONFIG_ID_MEMBER, (char *)"event_id", 0}},
                                         .id_count = 1};
static const struct config_stream two = {
    .ids = {{CONFIG_ID_MEMBER, (char *)"b`\\", 0}, {CONFIG_ID_MEMBER, (char *)"event_id", 1}},
    .id_count = 2};

static bool read_trace(const char *text, const struct config_stream *stream,
                       struct verify_trace *trace)
{
    return verify_answer_trace((struct slice){text, strlen(text)}, stream, stream->proof != NULL,
                               trace);
}

static void how_the_table_stands_is_read(void **state)
{
    struct verify_trace trace;

    (void)state;
    assert_true(read_trace("[12, 1700000000, \"345\", [\"MergeTree\"], "
                           "[[\"event_id\",\"String\",\"\"]]]\n",
                           &one, &trace));
    assert_int_equal(trace.uptime_s, 12);
    assert_int_equal(trace.since_s, 1700000000);
    assert_int_equal(trace.rows, 345);
    assert_true(trace.table_exists);
    assert_true(trace.tells);
    assert_string_equal(trace.structure, "`event_id` String");
    assert_true(read_trace("[1, 2, 3, [\"MergeTree\"], "
                           "[[\"event_id\",\"LowCardinality(String)\",\"DEFAULT\"],"
                           "[\"b`\\\\\",\"Enum8('a\\/' = 1)\",\"\"]]]",
                           &two, &trace));
    assert_true(trace.tells);
    assert_string_equal(trace.structure, "`b\\`\\\\` Enum8('a/' = 1), `event_id` String");
}

static void where_ids_or_lost_rows_cannot_be_told_that_is_so(void **state)
{
    static const char *const texts[] = {
        "[1, 2, 3, [\"ReplacingMergeTree\"], [[\"event_id\",\"String\",\"\"]]]",
        "[1, 2, 3, [\"MergeTree\"], []]",
        "[1, 2, 3, [\"MergeTree\"], [[\"event_I\",\"String\",\"\"]]]",
        "[1, 2, 3, [\"MergeTree\"], [[\"event_id\",\"String\",\"ALIAS\"]]]",
        "[1, 2, 3, [\"MergeTree\"], [[\"event_id\",\"String\"]]]",
        "[1, 2, 3, [\"MergeTree\"], [\"event_id\"]]",
    };
    struct verify_trace trace;
    char long_type[2000];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        assert_true(read_trace(texts[i], &one, &trace));
        assert_true(trace.table_exists);
        assert_false(trace.tells);
    }
    assert_true(read_trace("[1, 2, 3, [], []]", &one, &trace));
    assert_false(trace.table_exists);
    assert_false(trace.tells);
    snprintf(long_type, sizeof(long_type),
             "[1, 2, 3, [\"MergeTree\"], [[\"event_id\",\"%0600d\",\"\"]]]", 1);
    assert_true(read_trace(long_type, &one, &trace));
    assert_false(trace.tells);
    assert_true(read_trace("[1, 2, 3, [\"MergeTree\"], [[\"event_id\",\"LowCardinality(\",\"\"]]]",
                           &one, &trace));
}

static void rows_whose_ids_are_not_their_own_members_tell_nothing(void **state)
{
    static const char text[] = "[1, 2, 3, [\"MergeTree\"], [[\"event_id\",\"String\",\"\"]]]";
    struct config_stream other = one;
    struct verify_trace trace;

    (void)state;
    assert_true(read_trace(text, &one, &trace) && trace.tells);
    other.missing_id = CONFIG_MISSING_HASH;
    assert_true(read_trace(text, &other, &trace) && !trace.tells);
    other = one;
    other.ids[0].kind = CONFIG_ID_HEADER;
    assert_true(read_trace(text, &other, &trace) && !trace.tells);
    other = one;
    other.ids[1] = other.ids[0]; /* an alternative */
    other.id_count = 2;
    assert_true(read_trace(text, &other, &trace) && !trace.tells);
}

static void a_structure_that_is_too_long_tells_nothing(void **state)
{
    struct config_stream many = {.id_count = 3};
    char name[450], text[2000];
    struct verify_trace trace;

    (void)state;
    memset(name, '`', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    for (size_t i = 0; i < 3; i++)
        many.ids[i] = (struct config_id_source){CONFIG_ID_MEMBER, name, i};
    snprintf(text, sizeof(text), "[1, 2, 3, [\"MergeTree\"], [[\"%s\",\"String\",\"\"]]]", name);
    assert_true(read_trace(text, &many, &trace));
    assert_false(trace.tells);
    assert_true(strlen(trace.structure) < sizeof(trace.structure));
}

static void what_is_no_answer_about_a_table_is_told(void **state)
{
    static const char *const texts[] = {
        "",
        "[",
        "nonsense",
        "[1, 2, 3]",
        "[1, 2, -3, [\"MergeTree\"], []]",
        "[1, 2, 3, \"MergeTree\", []]",
        "[1, 2, 99999999999999999999, [], []]",
        "[\"\", 2, 3, [], []]",
        "[1, 2, 3, [\"MergeTree\"]]",
    };
    struct verify_trace trace;

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(read_trace(texts[i], &one, &trace));
}

static void rows_are_read_and_nothing_else(void **state)
{
    static const char *const texts[] = {
        "",           "[5, 3, \"01\"]",  "[5, 3, \"0110\"]", "[5, 3, \"01x\"]",
        "[5, 3, 01]", "[5, 3, \"0110",   "[5, \"011\"]",     "[x, 3, \"011\"]",
        "[5, 3]",     "[5, 3, \"0\\\"]",
    };
    const struct slice good = {"[\"5\", 3, \"011\"]\n", 16};
    struct verify_rows rows;

    (void)state;
    assert_true(verify_answer_rows(good, 3, &rows));
    assert_int_equal(rows.shown, 5);
    assert_int_equal(rows.distinct, 3);
    assert_memory_equal(rows.bits, "011", 3);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(verify_answer_rows((struct slice){texts[i], strlen(texts[i])}, 3, &rows));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(how_the_table_stands_is_read),
        cmocka_unit_test(where_ids_or_lost_rows_cannot_be_told_that_is_so),
        cmocka_unit_test(rows_whose_ids_are_not_their_own_members_tell_nothing),
        cmocka_unit_test(a_structure_that_is_too_long_tells_nothing),
        cmocka_unit_test(what_is_no_answer_about_a_table_is_told),
        cmocka_unit_test(rows_are_read_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
