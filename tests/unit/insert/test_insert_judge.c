/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_insert_judge.c - how much evidence we need before rows go under other tokens, or nowhere.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "insert_judge.h"

static const struct insert_reading bad_rows = {
    .class = INSERT_BAD_ROWS, .code = 27, .definite = true, .sure = true, .unread = true};
static const struct insert_reading bad_value = {
    .class = INSERT_BAD_ROWS, .code = 153, .definite = true, .sure = true};
static const struct insert_reading split = {
    .class = INSERT_SPLIT, .code = 252, .definite = true, .too_large = true};
static const struct insert_reading table = {
    .class = INSERT_MISCONFIGURED, .code = 60, .definite = true};
static const struct insert_reading unknown = {
    .class = INSERT_UNKNOWN, .code = 49, .definite = true};
static const struct insert_reading memory = {
    .class = INSERT_RETRY, .code = 241, .definite = true, .too_large = true};
static const struct insert_reading busy = {.class = INSERT_RETRY, .code = 202, .definite = true};

/* Of an insert of one row into a table without views, whose facts are known. */
static struct insert_evidence one_row(void)
{
    return (struct insert_evidence){.count = 1, .refusals = 1, .stores = true};
}

static enum insert_verdict judge(struct insert_reading reading, struct insert_evidence evidence)
{
    return insert_judge(&reading, &evidence, false);
}

static void what_is_not_definite_goes_again_as_it_is(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.others_went = true;
    evidence.refusals = 100;
    assert_int_equal(
        judge((struct insert_reading){.class = INSERT_DONE, .definite = true}, evidence),
        INSERT_VERDICT_DONE);
    assert_int_equal(judge((struct insert_reading){.class = INSERT_RETRY}, evidence),
                     INSERT_VERDICT_AGAIN);
    assert_int_equal(
        judge((struct insert_reading){.class = INSERT_RETRY, .too_large = true}, evidence),
        INSERT_VERDICT_AGAIN);
    assert_int_equal(judge((struct insert_reading){.class = INSERT_UNKNOWN}, evidence),
                     INSERT_VERDICT_AGAIN);
}

static void a_row_is_buried_only_for_what_it_is_itself(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_BURY);
    assert_int_equal(judge(split, evidence), INSERT_VERDICT_KEEP);
    /* A column that can never be filled refuses every row with such a code. */
    assert_int_equal(judge(bad_value, evidence), INSERT_VERDICT_KEEP);
    evidence.takes_rows = true;
    assert_int_equal(judge(bad_value, evidence), INSERT_VERDICT_BURY);
    evidence.takes_rows = false;
    evidence.others_went = true;
    assert_int_equal(judge(bad_value, evidence), INSERT_VERDICT_BURY);
    evidence.refusals = 100;
    evidence.others_went = true;
    assert_int_equal(judge(unknown, evidence), INSERT_VERDICT_KEEP);
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_KEEP);
    assert_int_equal(judge(busy, evidence), INSERT_VERDICT_KEEP);
    evidence.count = 2;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_CUT);
    assert_int_equal(judge(memory, evidence), INSERT_VERDICT_HALVE);
    assert_int_equal(judge(split, evidence), INSERT_VERDICT_HALVE);
}

static void what_a_view_refuses_is_in_a_table_that_would_take_it_again(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.count = 10;
    evidence.views = true;
    evidence.doubles = true;
    assert_int_equal(insert_judge(&bad_value, &evidence, true), INSERT_VERDICT_STORED);
    assert_int_equal(insert_judge(&memory, &evidence, true), INSERT_VERDICT_STORED);
    /* The table itself has refused: its rows may go again. */
    assert_int_equal(insert_judge(&bad_value, &evidence, false), INSERT_VERDICT_CUT);
    evidence.doubles = false;
    assert_int_equal(insert_judge(&bad_value, &evidence, true), INSERT_VERDICT_PROVE);
    evidence.stores = false;
    evidence.doubles = true;
    assert_int_equal(insert_judge(&bad_value, &evidence, true), INSERT_VERDICT_CUT);
}

static void a_refusal_must_come_so_often_and_others_go_in_meanwhile(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.count = 10;
    evidence.refusals = INSERT_REFUSALS_UNKNOWN - 1;
    assert_int_equal(judge(unknown, evidence), INSERT_VERDICT_ASIDE);
    evidence.refusals++;
    assert_int_equal(judge(unknown, evidence), INSERT_VERDICT_CUT);
    evidence.refusals = 1;
    evidence.expected = true;
    assert_int_equal(judge(unknown, evidence), INSERT_VERDICT_CUT);

    assert_int_equal(judge(table, evidence), INSERT_VERDICT_AGAIN);
    evidence.others_went = true;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_CUT);
    evidence.expected = false;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_AGAIN);
    evidence.refusals = INSERT_REFUSALS_TABLE;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_CUT);
    evidence.others_went = false;
    evidence.refusals = 100;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_AGAIN);

    assert_int_equal(judge(busy, evidence), INSERT_VERDICT_AGAIN);
    evidence.others_went = true;
    assert_int_equal(judge(busy, evidence), INSERT_VERDICT_CUT);
    evidence.refusals = INSERT_REFUSALS_RETRY - 1;
    assert_int_equal(judge(busy, evidence), INSERT_VERDICT_AGAIN);
}

static void that_the_table_is_not_there_is_no_evidence_however_often_it_comes(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.refusals = 100;
    evidence.others_went = evidence.expected = evidence.no_table = true;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_AGAIN);
    evidence.count = 10;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_AGAIN);
    evidence.no_table = false;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_CUT);
}

static void what_comes_and_goes_with_the_table_is_fickle(void **state)
{
    (void)state;
    assert_true(insert_judge_is_fickle(&table));
    assert_true(insert_judge_is_fickle(&busy));
    assert_false(insert_judge_is_fickle(&memory));
    assert_false(insert_judge_is_fickle(&unknown));
    assert_false(insert_judge_is_fickle(&bad_rows));
}

static void what_may_be_in_stays_as_it_is_until_it_is_shown_that_it_never_was(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.count = 10;
    evidence.doubt = true;
    assert_int_equal(judge(memory, evidence), INSERT_VERDICT_AGAIN);
    assert_int_equal(judge(split, evidence), INSERT_VERDICT_AGAIN);
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_CUT);
    evidence.refusals = 100;
    assert_int_equal(judge(unknown, evidence), INSERT_VERDICT_ASIDE);
    evidence.others_went = true;
    assert_int_equal(judge(unknown, evidence), INSERT_VERDICT_CUT);
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_CUT);
    /* There may have been room at the first try. */
    assert_int_equal(judge(busy, evidence), INSERT_VERDICT_AGAIN);
    evidence.refusals = 1;
    evidence.expected = true;
    assert_int_equal(judge(table, evidence), INSERT_VERDICT_AGAIN);
}

static void nothing_is_judged_before_the_table_is_known(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.facts_missing = true;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_ASK);
    evidence.count = 10;
    assert_int_equal(judge(memory, evidence), INSERT_VERDICT_ASK);
    assert_int_equal(judge(busy, evidence), INSERT_VERDICT_AGAIN);
}

static void a_joined_insert_is_proven_alone(void **state)
{
    struct insert_evidence evidence = one_row();

    (void)state;
    evidence.async = true;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_PROVE);
    evidence.count = 10; /* its parts are synchronous */
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_CUT);
    evidence.doubt = true;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_PROVE);
    evidence.alone = true;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_CUT);
}

static void where_a_view_may_have_refused_the_tables_own_word_is_asked_for(void **state)
{
    const struct insert_reading proxy = {.class = INSERT_SPLIT, .definite = true};
    struct insert_evidence evidence = one_row();

    (void)state;
    assert_int_equal(insert_judge(&bad_rows, &evidence, true), INSERT_VERDICT_PROVE);
    evidence.views = true;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_PROVE);
    /* It has reached no table. */
    assert_int_equal(judge(proxy, evidence), INSERT_VERDICT_KEEP);
    evidence.ignore_views = true;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_BURY);
    /* A table that stores nothing has nothing: the row would be nowhere. */
    evidence.ignore_views = evidence.stores = false;
    assert_int_equal(judge(bad_rows, evidence), INSERT_VERDICT_BURY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_definite_goes_again_as_it_is),
        cmocka_unit_test(a_row_is_buried_only_for_what_it_is_itself),
        cmocka_unit_test(what_a_view_refuses_is_in_a_table_that_would_take_it_again),
        cmocka_unit_test(a_refusal_must_come_so_often_and_others_go_in_meanwhile),
        cmocka_unit_test(that_the_table_is_not_there_is_no_evidence_however_often_it_comes),
        cmocka_unit_test(what_comes_and_goes_with_the_table_is_fickle),
        cmocka_unit_test(what_may_be_in_stays_as_it_is_until_it_is_shown_that_it_never_was),
        cmocka_unit_test(nothing_is_judged_before_the_table_is_known),
        cmocka_unit_test(a_joined_insert_is_proven_alone),
        cmocka_unit_test(where_a_view_may_have_refused_the_tables_own_word_is_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
