/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_bury.c - how alloyctl reads the answer to bury. tests/system tests the posting itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl.h"

static void only_an_answer_of_alloyd_counts(void **state)
{
    static const char *const others[] = {"",
                                         "ok",
                                         "<html>",
                                         "{}",
                                         "{\"asked\":false}",
                                         "{\"asked\":true}",
                                         "{\"error\":\"not_found\"}",
                                         "[true]"};
    uint64_t events = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        assert_false(ctl_read_buried(others[i], &events));
    assert_true(ctl_read_buried("{\"asked\":true,\"events\":0}\n", &events));
    assert_int_equal(events, 0);
    assert_true(ctl_read_buried("{ \"asked\" : true, \"events\": 1200 }", &events));
    assert_int_equal(events, 1200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_an_answer_of_alloyd_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
