/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_timeslice.c - a shorter slice changes nothing else of a thread.
 */
#include "alloy/timeslice.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void policy_and_niceness_stay(void **state)
{
    int err;

    (void)state;
    (void)setpriority(PRIO_PROCESS, 0, 3);
    err = timeslice_set(200000);
    /* Where it is forbidden, nothing happens. */
    assert_true(err == 0 || err == -EPERM || err == -ENOSYS);
    assert_int_equal(sched_getscheduler(0), SCHED_OTHER);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), 3);
}

static void a_thread_of_another_policy_is_left_alone(void **state)
{
    const struct sched_param param = {0};

    (void)state;
    assert_int_equal(sched_setscheduler(0, SCHED_BATCH, &param), 0); /* needs no privilege */
    assert_int_equal(timeslice_set(200000), 0);
    assert_int_equal(sched_getscheduler(0), SCHED_BATCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policy_and_niceness_stay),
        cmocka_unit_test(a_thread_of_another_policy_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
