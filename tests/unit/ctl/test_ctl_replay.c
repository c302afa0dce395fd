/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_replay.c - how alloyctl reads an answer. tests/system tests the posting itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl.h"

static void only_a_success_is_taken_and_only_want_of_room_is_tried_again(void **state)
{
    (void)state;
    assert_int_equal(ctl_judge(202), CTL_ANSWER_TAKEN);
    assert_int_equal(ctl_judge(200), CTL_ANSWER_TAKEN);
    assert_int_equal(ctl_judge(503), CTL_ANSWER_LATER);
    assert_int_equal(ctl_judge(0), CTL_ANSWER_LATER);
    assert_int_equal(ctl_judge(400), CTL_ANSWER_REFUSED);
    assert_int_equal(ctl_judge(404), CTL_ANSWER_REFUSED);
    assert_int_equal(ctl_judge(301), CTL_ANSWER_REFUSED);
    assert_int_equal(ctl_judge(500), CTL_ANSWER_REFUSED);
}

static void counts_are_read_from_the_answer(void **state)
{
    uint64_t accepted = 0, duplicates = 0;

    (void)state;
    assert_true(ctl_read_counts("{\"accepted\":12,\"duplicates\":3}", &accepted, &duplicates));
    assert_int_equal(accepted, 12);
    assert_int_equal(duplicates, 3);
    assert_true(ctl_read_counts("{ \"accepted\": 1, \"duplicates\": 0 }", &accepted, &duplicates));
    assert_int_equal(accepted, 1);
    assert_false(ctl_read_counts("", &accepted, &duplicates));
    assert_false(ctl_read_counts("{\"error\":\"x\"}", &accepted, &duplicates));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_success_is_taken_and_only_want_of_room_is_tried_again),
        cmocka_unit_test(counts_are_read_from_the_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
