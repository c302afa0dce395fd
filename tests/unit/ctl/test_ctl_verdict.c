/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_verdict.c - how alloyctl reads what became of the events that it has posted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ctl_verdict.h"

static struct ctl_verdict read_answer(long status, const char *body)
{
    struct ctl_verdict verdict;

    ctl_verdict_read(&verdict, status, (struct slice){body, strlen(body)});
    return verdict;
}

static void only_a_200_says_that_events_are_in_clickhouse(void **state)
{
    struct ctl_verdict verdict = read_answer(200, "{\"accepted\":3,\"duplicates\":1}");

    (void)state;
    assert_int_equal(verdict.kind, CTL_VERDICT_IN);
    assert_true(verdict.has_counts);
    assert_int_equal(verdict.accepted, 3);
    assert_int_equal(verdict.duplicates, 1);
    assert_int_equal(read_answer(202, "{\"accepted\":3,\"duplicates\":1}").kind,
                     CTL_VERDICT_PENDING);
}

static void a_422_lists_what_clickhouse_rejects_with_its_words(void **state)
{
    struct ctl_verdict verdict = read_answer(
        422, "{\"error\":\"rejected\",\"message\":\"ClickHouse rejected 70 of the request's events "
             "(1 of them a duplicate of a rejected event).\",\"rejected\":[{\"event\":17,\"code\":"
             "27,\"message\":\"Code: 27.\\nCannot\"},{\"event\":30,\"duplicate\":true,\"code\":27,"
             "\"message\":\"m\"},{\"code\":1}]}");

    (void)state;
    assert_int_equal(verdict.kind, CTL_VERDICT_REJECTED);
    assert_false(verdict.has_counts);
    assert_int_equal(verdict.rejected, 70);
    assert_int_equal(verdict.count, 2);
    assert_int_equal(verdict.refusals[0].event, 17);
    assert_int_equal(verdict.refusals[0].code, 27);
    assert_string_equal(verdict.refusals[0].message, "Code: 27.");
    assert_false(verdict.refusals[0].duplicate);
    assert_true(verdict.refusals[1].duplicate);
    ctl_verdict_free(&verdict);
}

static void what_alloyd_does_not_take_is_listed_too(void **state)
{
    struct ctl_verdict verdict =
        read_answer(200, "{\"accepted\":1,\"duplicates\":0,\"invalid\":1,\"errors\":[{\"event\":1,"
                         "\"offset\":9,\"error\":\"missing_id\",\"message\":\"No id.\"}]}");

    (void)state;
    assert_int_equal(verdict.kind, CTL_VERDICT_IN);
    assert_int_equal(verdict.invalid, 1);
    assert_int_equal(verdict.count, 1);
    assert_int_equal(verdict.refusals[0].event, 1);
    assert_int_equal(verdict.refusals[0].code, 0);
    assert_string_equal(verdict.refusals[0].message, "missing_id: No id.");
    ctl_verdict_free(&verdict);
    verdict = read_answer(400, "{\"accepted\":0,\"duplicates\":0,\"invalid\":1,\"errors\":[{"
                               "\"event\":0,\"error\":\"x\",\"message\":\"y\"}]}");
    assert_int_equal(verdict.kind, CTL_VERDICT_IN);
    assert_int_equal(verdict.count, 1);
    ctl_verdict_free(&verdict);
}

static void any_other_answer_is_no_verdict(void **state)
{
    static const struct {
        long status;
        const char *body;
    } others[] = {{200, ""},
                  {200, "{}"},
                  {200, "{\"fine\":true}"},
                  {200, "{\"accepted\":-1,\"duplicates\":0}"},
                  {200, "{\"accepted\":1,\"duplicates\":0"},
                  {200, "{\"accepted\":12}"},
                  {200, "{\"accepted\":12,\"duplicates\":\"3\"}"},
                  {200, "\"accepted\":12,\"duplicates\":3"},
                  {200, "<html>"},
                  {422, "{\"error\":\"schema_mismatch\",\"message\":\"m\"}"},
                  {400, "{\"error\":\"invalid_json\",\"message\":\"m\"}"},
                  {400, "{\"accepted\":0,\"duplicates\":0}"},
                  {503, "{\"accepted\":0,\"duplicates\":0}"},
                  {301, "{\"accepted\":1,\"duplicates\":0}"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct ctl_verdict verdict = read_answer(others[i].status, others[i].body);

        if (verdict.kind != CTL_VERDICT_NONE)
            fail_msg("%ld %s", others[i].status, others[i].body);
        ctl_verdict_free(&verdict);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_200_says_that_events_are_in_clickhouse),
        cmocka_unit_test(a_422_lists_what_clickhouse_rejects_with_its_words),
        cmocka_unit_test(what_alloyd_does_not_take_is_listed_too),
        cmocka_unit_test(any_other_answer_is_no_verdict),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
