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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_success_is_taken_and_only_want_of_room_is_tried_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
