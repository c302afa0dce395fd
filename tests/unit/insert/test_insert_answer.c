/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_insert_answer.c - what counts as done, and the class of every code.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "insert_answer.h"

static struct slice slice_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static struct insert_answer good(void)
{
    return (struct insert_answer){.status = 200, .has_summary = true, .written_rows = 10};
}

static void done_needs_status_summary_and_all_rows(void **state)
{
    struct insert_answer answer = good();

    (void)state;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_DONE);
    answer.written_rows = 11;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_DONE);
    answer.written_rows = 9;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_RETRY);
    answer = good();
    answer.has_summary = false;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_RETRY);
    answer = good();
    answer.transport_failed = true;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_RETRY);
    answer = good();
    answer.status = 204;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_UNKNOWN);
}

static void an_exception_behind_a_200_is_no_success(void **state)
{
    struct insert_answer answer = good();

    (void)state;
    answer.exception_code = 27;
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_BAD_ROWS);
    answer = good();
    answer.body = slice_of("__exception__\r\nxx\r\nCode: 60. DB::Exception: no table");
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_MISCONFIGURED);
    answer.body = slice_of("Code: 241. DB::Exception: memory");
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_RETRY);
    answer.body = slice_of("__exception__ and then nothing");
    assert_int_equal(insert_answer_read(&answer, 10).class, INSERT_RETRY);
}

static void without_a_code_the_status_decides(void **state)
{
    static const struct {
        long status;
        enum insert_class class;
    } cases[] = {
        {500, INSERT_RETRY},         {502, INSERT_RETRY},         {504, INSERT_RETRY},
        {401, INSERT_MISCONFIGURED}, {403, INSERT_MISCONFIGURED}, {404, INSERT_MISCONFIGURED},
        {400, INSERT_RETRY},         {413, INSERT_SPLIT},         {302, INSERT_UNKNOWN},
        {408, INSERT_RETRY},         {425, INSERT_RETRY},         {429, INSERT_RETRY},
    };
    struct insert_answer answer = {0};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        answer.status = cases[i].status;
        assert_int_equal(insert_answer_read(&answer, 1).class, cases[i].class);
    }
    answer.status = 500;
    answer.exception_code = 27;
    assert_int_equal(insert_answer_read(&answer, 1).class, INSERT_BAD_ROWS);
}

static enum insert_class class_of(int code, const char *body)
{
    const struct insert_answer answer = {
        .status = 500, .exception_code = code, .body = slice_of(body)};

    return insert_answer_read(&answer, 1).class;
}

static void every_code_is_in_its_class(void **state)
{
    static const int retry[] = {3,   76,  158, 159, 160, 173, 201, 202,  203,  204, 209, 210, 216,
                                225, 236, 241, 242, 243, 244, 252, 254,  265,  279, 285, 286, 289,
                                307, 319, 341, 394, 396, 425, 439, 473,  499,  700, 733, 734, 735,
                                745, 749, 762, 776, 777, 778, 999, 1000, 1001, 1002};
    static const int bad_rows[] = {25,  26,  27,  41,  72,  117, 6,   38,  12,  53,  321, 441,
                                   676, 32,  306, 467, 469, 33,  69,  70,  128, 130, 131, 190,
                                   349, 407, 760, 43,  135, 153, 376, 395, 427, 675, 691};
    static const int misconfigured[] = {16,  20,  36,  47,  48,  60,  62,  73,  81,  115, 164,
                                        192, 193, 194, 195, 218, 381, 452, 497, 516, 774, 779};
    size_t known = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(retry); i++)
        assert_int_equal(class_of(retry[i], ""), INSERT_RETRY);
    for (size_t i = 0; i < ARRAY_LEN(bad_rows); i++)
        assert_int_equal(class_of(bad_rows[i], ""), INSERT_BAD_ROWS);
    for (size_t i = 0; i < ARRAY_LEN(misconfigured); i++)
        assert_int_equal(class_of(misconfigured[i], ""), INSERT_MISCONFIGURED);
    for (int code = -5; code < 3000; code++)
        known += code != 0 && class_of(code, "") != INSERT_UNKNOWN;
    assert_int_equal(known, ARRAY_LEN(retry) + ARRAY_LEN(bad_rows) + ARRAY_LEN(misconfigured));
    /* Our own encoding at fault: we send none. */
    assert_int_equal(class_of(354, ""), INSERT_UNKNOWN);
}

static void a_message_that_blames_a_value_makes_a_bad_row(void **state)
{
    static const char parsing[] =
        "Code: 9876. DB::Exception: Cannot parse Thing: (at row 2) : While "
        "executing JSONEachRowRowInputFormat.";
    static const char computing[] =
        "Code: 36. DB::Exception: Cannot load time zone x: while executing "
        "'FUNCTION formatDateTime(...)'";
    static const char looking_up[] =
        "Code: 36. DB::Exception: Dictionary not found: while executing "
        "'FUNCTION dictGet(...)'";

    (void)state;
    assert_int_equal(class_of(9876, parsing), INSERT_BAD_ROWS);
    assert_int_equal(class_of(9876, "Code: 9876. DB::Exception: Whatever"), INSERT_UNKNOWN);
    assert_int_equal(class_of(36, computing), INSERT_BAD_ROWS);
    assert_int_equal(class_of(9876, computing), INSERT_BAD_ROWS);
    assert_int_equal(class_of(9876, looking_up), INSERT_UNKNOWN);
    assert_int_equal(class_of(36, looking_up), INSERT_MISCONFIGURED);
    /* What is known to pass, or to need a human, does: a message may quote an event. */
    assert_int_equal(class_of(241, parsing), INSERT_RETRY);
    assert_int_equal(class_of(60, parsing), INSERT_MISCONFIGURED);
}

static void a_view_is_told_by_its_words(void **state)
{
    (void)state;
    assert_true(insert_answer_blames_view(slice_of("...': while pushing to view default.mv. (X)")));
    assert_false(insert_answer_blames_view(slice_of("Code: 6.")));
}

static struct insert_reading read_code(int code, const char *body)
{
    const struct insert_answer answer = {
        .status = 500, .exception_code = code, .body = slice_of(body)};

    return insert_answer_read(&answer, 1);
}

/* What is not definite may be in ClickHouse, and is never cut. */
static void only_what_was_never_begun_or_was_judged_is_definite(void **state)
{
    static const int definite[] = {6, 12, 27, 44, 49, 60, 202, 241, 252, 395, 469, 745};
    static const int unsure[] = {3, 159, 160, 209, 210, 225, 242, 319, 394, 999, 1001};
    struct insert_answer answer = {.status = 200, .exception_code = 241};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(definite); i++)
        assert_true(read_code(definite[i], "").definite);
    for (size_t i = 0; i < ARRAY_LEN(unsure); i++)
        assert_false(read_code(unsure[i], "").definite);
    assert_false(insert_answer_read(&answer, 1).definite);
    assert_true(
        read_code(159, "Code: 159. DB::Exception: x: while executing 'FUNCTION sleep'").definite);
    for (long status = 400; status < 600; status++) {
        answer = (struct insert_answer){.status = status};
        assert_int_equal(insert_answer_read(&answer, 1).definite,
                         status == 413 || status == 425 || status == 429);
    }
    answer = (struct insert_answer){.transport_failed = true, .timed_out = true, .status = 413};
    assert_false(insert_answer_read(&answer, 1).definite);
}

static void fewer_rows_help_against_limits(void **state)
{
    const struct insert_answer proxy = {.status = 413, .body = slice_of("<html>")};
    const struct insert_answer late = {.transport_failed = true, .timed_out = true};

    (void)state;
    assert_true(read_code(241, "").too_large);
    assert_true(read_code(159, "").too_large);
    assert_false(read_code(202, "").too_large);
    assert_true(insert_answer_read(&proxy, 1).too_large);
    /* A proxy that refuses everything must not empty the stream into the dead letters. */
    assert_false(insert_answer_read(&proxy, 1).sure);
    assert_true(insert_answer_read(&late, 1).too_large);
    assert_true(read_code(27, "").sure);
    assert_false(read_code(12, "").sure);
    assert_false(read_code(395, "").sure);
    assert_false(read_code(9876, "While executing JSONEachRowRowInputFormat").sure);
}

static void code_252_is_two_things(void **state)
{
    (void)state;
    assert_int_equal(class_of(252, "Code: 252. DB::Exception: Too many parts (300)"), INSERT_RETRY);
    assert_int_equal(class_of(252, "Code: 252. DB::Exception: Too many partitions for single "
                                   "INSERT block (more than 100)."),
                     INSERT_SPLIT);
}

static void the_summary_is_read_quoted_and_bare(void **state)
{
    uint64_t rows = 0;

    (void)state;
    assert_true(insert_answer_summary(
        slice_of("{\"read_rows\":\"7\",\"written_rows\":\"18446744073709551615\"}"), &rows));
    assert_true(rows == UINT64_MAX);
    assert_true(insert_answer_summary(slice_of("{\"written_rows\": 12}"), &rows));
    assert_int_equal(rows, 12);
    assert_false(insert_answer_summary(slice_of("{\"written_rows\":\"\"}"), &rows));
    assert_false(insert_answer_summary(slice_of("{\"written_rows\""), &rows));
    assert_false(insert_answer_summary(slice_of("{\"written_bytes\":\"12\"}"), &rows));
    assert_false(
        insert_answer_summary(slice_of("{\"written_rows\":\"18446744073709551616\"}"), &rows));
    assert_false(insert_answer_summary((struct slice){NULL, 0}, &rows));
}

static void the_code_is_read_out_of_a_body(void **state)
{
    (void)state;
    assert_int_equal(insert_answer_body_code(slice_of("Code: 27. DB::Exception: x")), 27);
    assert_int_equal(insert_answer_body_code(slice_of("Code: x Code: 60. DB::NetException")), 60);
    assert_int_equal(insert_answer_body_code(slice_of("Code: 27")), 0);
    assert_int_equal(insert_answer_body_code(slice_of("Code: 0. DB::Exception")), 0);
    assert_int_equal(insert_answer_body_code(slice_of("Code: ")), 0);
    assert_int_equal(insert_answer_body_code(slice_of("Code: 99999999999999999999. DB::")), 0);
    assert_int_equal(insert_answer_body_code((struct slice){NULL, 0}), 0);
}

static void the_row_is_the_last_one_named_counted_from_0(void **state)
{
    uint64_t row = 99;

    (void)state;
    assert_true(insert_answer_row(slice_of("Cannot parse: (at row 3)\n: While"), &row));
    assert_int_equal(row, 2);
    assert_true(insert_answer_row(slice_of("before: '(at row 9)': (at row 1)"), &row));
    assert_int_equal(row, 0);
    assert_true(insert_answer_row(slice_of("Constraint `c` is violated at row 6. Exp"), &row));
    assert_int_equal(row, 5);
    assert_false(insert_answer_row(slice_of("(at row 0)"), &row));
    assert_false(insert_answer_row(slice_of("(at row "), &row));
    assert_false(insert_answer_row(slice_of("nothing"), &row));
}

static void every_class_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(insert_class_name(INSERT_BAD_ROWS), "bad_rows");
    for (int class = INSERT_DONE; class <= INSERT_UNKNOWN; class ++)
        assert_int_not_equal(strlen(insert_class_name((enum insert_class) class)), 0);
}

static void a_refusal_for_want_of_the_own_table_is_told_from_others(void **state)
{
    static const struct {
        int code;
        bool own;
        const char *text;
    } cases[] = {
        {60, true, "Code: 60. DB::Exception: Table db.t does not exist. (UNKNOWN_TABLE)"},
        {60, true, "Code: 60. DB::Exception: Table `db`.`t` does not exist"},
        {60, true, "Table db.t (3c1f) does not exist"},
        {60, true, "Table a.b does not exist, and neither does table db.t"},
        {60, false, "Table db.other does not exist. Maybe you meant db.t?"},
        {60, false, "Table db.t2 does not exist"},
        {60, false, "Table db.t_x does not exist"},
        {60, false, "Table `db`.`t2` does not exist"},
        {60, false, "Table a.t does not exist"},
        {60, false, "Table db"},
        {60, false, "Table db."},
        {60, false, "Table `db"},
        {60, false, "Table "},
        {60, false, ""},
        {218, true, "Code: 218. DB::Exception: Table db.t (3c1f) is dropped or detached"},
        {81, true, "Code: 81. DB::Exception: Database db does not exist. (UNKNOWN_DATABASE)"},
        {81, true, "Database `db` does not exist"},
        {81, false, "Database dba does not exist. Maybe you meant db?"},
        {497, true, "it's necessary to have the grant INSERT(event_id, ts) ON db.t."},
        {497, false, "it's necessary to have the grant INSERT(event_id, ts) ON db.target."},
        {497, false, "it's necessary to have the grant dictGet ON db.t"},
        {27, false, "Table db.t does not exist"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        assert_int_equal(
            insert_answer_lacks_table(
                cases[i].code, (struct slice){cases[i].text, strlen(cases[i].text)}, "db", "t"),
            cases[i].own);
    assert_true(insert_answer_lacks_table(
        60, (struct slice){"Table `d\\\\b`.`t\\`t` does not exist", 34}, "d\\b", "t`t"));
    assert_true(insert_answer_lacks_table(
        60, (struct slice){"Table `my-d\\n`.`t.t\\t` does not exist", 35}, "my-d\n", "t.t\t"));
    assert_false(insert_answer_lacks_table(
        60, (struct slice){"Table `my-d`.`t.u` does not exist", 33}, "my-d", "t.t"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(done_needs_status_summary_and_all_rows),
        cmocka_unit_test(an_exception_behind_a_200_is_no_success),
        cmocka_unit_test(without_a_code_the_status_decides),
        cmocka_unit_test(every_code_is_in_its_class),
        cmocka_unit_test(a_message_that_blames_a_value_makes_a_bad_row),
        cmocka_unit_test(a_view_is_told_by_its_words),
        cmocka_unit_test(only_what_was_never_begun_or_was_judged_is_definite),
        cmocka_unit_test(fewer_rows_help_against_limits),
        cmocka_unit_test(code_252_is_two_things),
        cmocka_unit_test(the_summary_is_read_quoted_and_bare),
        cmocka_unit_test(the_code_is_read_out_of_a_body),
        cmocka_unit_test(the_row_is_the_last_one_named_counted_from_0),
        cmocka_unit_test(every_class_has_a_name),
        cmocka_unit_test(a_refusal_for_want_of_the_own_table_is_told_from_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
