/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_endpoints.c - which endpoint is next: by turns, by load, by health; and who is left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "endpoints.h"

#define THREE "http://a,http://b,http://c"

static struct endpoints made(const char *list)
{
    struct endpoints endpoints;

    endpoints_init(&endpoints, list, 1000);
    return endpoints;
}

static size_t next(struct endpoints *endpoints, uint64_t now_ms)
{
    return endpoints_choose(endpoints, 0, ENDPOINTS_ALL, now_ms);
}

/* How often each is chosen in n choices, while nothing is out. */
static void count(struct endpoints *endpoints, uint64_t now_ms, size_t n, size_t times[3])
{
    memset(times, 0, 3 * sizeof(times[0]));
    while (n-- > 0)
        times[next(endpoints, now_ms)]++;
}

static void equals_take_turns(void **state)
{
    struct endpoints endpoints = made(THREE);
    size_t times[3];

    (void)state;
    count(&endpoints, 1000, 300, times);
    assert_int_equal(times[0], 100);
    assert_int_equal(times[1], 100);
    assert_int_equal(times[2], 100);
    assert_int_not_equal(next(&endpoints, 1000), next(&endpoints, 1000));
}

static void one_that_hangs_keeps_its_share_and_no_more(void **state)
{
    struct endpoints endpoints = made("http://a,http://b");
    size_t to_b = 0;

    (void)state;
    /* Four may be out. a never answers, b at once. */
    for (size_t i = 0; i < 1000; i++) {
        size_t number;

        if (endpoints.at[0].out + endpoints.at[1].out == 4)
            endpoints_ended(&endpoints, 1);
        number = next(&endpoints, 1000 + i);
        endpoints_sent(&endpoints, number, 1000 + i);
        to_b += number == 1;
    }
    assert_true(endpoints.at[0].out <= 2);
    assert_true(to_b >= 998);
}

static void a_failure_leaves_out_and_an_answer_brings_back(void **state)
{
    struct endpoints endpoints = made(THREE);
    size_t times[3];

    (void)state;
    assert_true(endpoints_note(&endpoints, 1, ENDPOINT_REFUSED, 1000, 0));
    assert_false(endpoints_note(&endpoints, 1, ENDPOINT_LOST, 1001, 0));
    assert_int_equal(endpoints.at[1].state, ENDPOINT_AWAY);
    count(&endpoints, 2000, 100, times);
    assert_int_equal(times[1], 0);
    assert_int_equal(times[0], 50);
    assert_false(endpoints_note(&endpoints, 0, ENDPOINT_ANSWERED, 2000, 0));
    assert_true(endpoints_note(&endpoints, 1, ENDPOINT_ANSWERED, 2000, 0));
    assert_int_equal(endpoints.at[1].state, ENDPOINT_WARMING);
}

static void one_that_is_back_starts_slowly(void **state)
{
    struct endpoints endpoints = made(THREE);
    size_t early[3], later[3], well[3];

    (void)state;
    endpoints_note(&endpoints, 2, ENDPOINT_SILENT, 1000, 0);
    endpoints_note(&endpoints, 2, ENDPOINT_ANSWERED, 2000, 0);
    count(&endpoints, 2000, 330, early);
    count(&endpoints, 7000, 330, later);
    count(&endpoints, 12000, 330, well);
    assert_true(early[2] > 0 && early[2] <= 12);
    assert_true(later[2] > 50 && later[2] < 90);
    assert_true(well[2] > 100 && well[2] < 120);
    assert_int_equal(endpoints.at[2].state, ENDPOINT_WELL);
}

static void while_it_starts_it_holds_one_insert_at_a_time(void **state)
{
    struct endpoints endpoints = made("http://a,http://b");

    (void)state;
    endpoints_note(&endpoints, 1, ENDPOINT_LOST, 1000, 0);
    endpoints_note(&endpoints, 1, ENDPOINT_ANSWERED, 2000, 0);
    for (size_t i = 0; i < 8; i++)
        endpoints_sent(&endpoints, next(&endpoints, 2000), 2000);
    assert_int_equal(endpoints.at[1].out, 1);
    assert_int_equal(endpoints.at[0].out, 7);
}

static void when_all_are_away_all_are_tried_in_turn(void **state)
{
    struct endpoints endpoints = made(THREE);
    size_t times[3];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        endpoints_note(&endpoints, i, ENDPOINT_REFUSED, 1000, 0);
    assert_false(endpoints_has(&endpoints, 0, ENDPOINTS_ALL));
    count(&endpoints, 1500, 300, times);
    assert_int_equal(times[0], 100);
    assert_int_equal(times[1], 100);
    assert_int_equal(times[2], 100);
}

static void a_single_one_is_always_chosen_and_never_asked(void **state)
{
    struct endpoints endpoints = made("http://a");

    (void)state;
    assert_true(endpoints_alone(&endpoints, 0));
    assert_int_equal(next(&endpoints, 1000), 0);
    endpoints_sent(&endpoints, 0, 1000);
    assert_true(endpoints_ask_due_ms(&endpoints, 0) == UINT64_MAX);
    assert_true(endpoints_note(&endpoints, 0, ENDPOINT_REFUSED, 1000, 0));
    assert_int_equal(next(&endpoints, 1000), 0);
    assert_true(endpoints_ask_due_ms(&endpoints, 0) == UINT64_MAX);
    assert_true(endpoints_note(&endpoints, 0, ENDPOINT_ANSWERED, 1000, 0));
    assert_int_equal(endpoints.at[0].state, ENDPOINT_WELL);
}

static void only_those_of_the_set_and_the_shard_are_chosen(void **state)
{
    struct endpoints endpoints = made("http://a,http://b|http://c,http://d");

    (void)state;
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(endpoints_choose(&endpoints, 0, 2, 1000), 1);
        assert_true(endpoints_choose(&endpoints, 1, ENDPOINTS_ALL, 1000) >= 2);
    }
    assert_true(endpoints_choose(&endpoints, 0, 12, 1000) == ENDPOINTS_NONE);
    assert_true(endpoints_choose(&endpoints, 2, ENDPOINTS_ALL, 1000) == ENDPOINTS_NONE);
    assert_false(endpoints_alone(&endpoints, 0));
}

static void one_that_is_away_is_asked_ever_less_often(void **state)
{
    struct endpoints endpoints = made(THREE);
    uint64_t now_ms = 1000, wait_ms = 0;

    (void)state;
    endpoints_note(&endpoints, 0, ENDPOINT_REFUSED, now_ms, 0);
    assert_int_equal(endpoints_ask_due_ms(&endpoints, 0), 1500);
    for (size_t i = 0; i < 20; i++) {
        /* Several that fail together are one failure. */
        endpoints_note(&endpoints, 0, ENDPOINT_REFUSED, now_ms, 0);
        assert_true(endpoints_ask_due_ms(&endpoints, 0) - now_ms >= wait_ms);
        wait_ms = endpoints_ask_due_ms(&endpoints, 0) - now_ms;
        now_ms = endpoints_ask_due_ms(&endpoints, 0);
        endpoints.at[0].asking = true;
        assert_true(endpoints_ask_due_ms(&endpoints, 0) == UINT64_MAX);
        endpoints.at[0].asking = false;
        endpoints_note(&endpoints, 0, ENDPOINT_REFUSED, now_ms, 0);
    }
    assert_int_equal(wait_ms, 10000);
}

static void one_that_comes_and_goes_is_not_trusted_at_once(void **state)
{
    struct endpoints endpoints = made(THREE);
    uint64_t now_ms = 1000;

    (void)state;
    for (size_t i = 0; i < 10; i++) {
        endpoints_note(&endpoints, 0, ENDPOINT_UNAVAILABLE, now_ms, 0);
        now_ms = endpoints_ask_due_ms(&endpoints, 0);
        endpoints_note(&endpoints, 0, ENDPOINT_ANSWERED, now_ms, 0);
        (void)next(&endpoints, now_ms);
    }
    endpoints_note(&endpoints, 0, ENDPOINT_UNAVAILABLE, now_ms, 0);
    assert_int_equal(endpoints_ask_due_ms(&endpoints, 0) - now_ms, 10000);
    now_ms += 10000;
    endpoints_note(&endpoints, 0, ENDPOINT_ANSWERED, now_ms, 0);
    now_ms += 10000;
    (void)next(&endpoints, now_ms);
    endpoints_note(&endpoints, 0, ENDPOINT_UNAVAILABLE, now_ms, 0);
    assert_int_equal(endpoints_ask_due_ms(&endpoints, 0) - now_ms, 500);
}

static void one_that_says_nothing_with_an_insert_out_is_asked(void **state)
{
    struct endpoints endpoints = made(THREE);

    (void)state;
    assert_true(endpoints_ask_due_ms(&endpoints, 0) == UINT64_MAX);
    endpoints_sent(&endpoints, 0, 5000);
    assert_int_equal(endpoints_ask_due_ms(&endpoints, 0), 6000);
    endpoints_sent(&endpoints, 0, 5500);
    assert_int_equal(endpoints_ask_due_ms(&endpoints, 0), 6000);
    endpoints_note(&endpoints, 0, ENDPOINT_ANSWERED, 6000, 0);
    assert_int_equal(endpoints_ask_due_ms(&endpoints, 0), 7000);
    endpoints_ended(&endpoints, 0);
    endpoints_ended(&endpoints, 0);
    assert_true(endpoints_ask_due_ms(&endpoints, 0) == UINT64_MAX);
}

static void answers_are_judged_by_whose_fault_they_are(void **state)
{
    static const struct {
        struct insert_answer answer;
        enum endpoint_news news;
    } cases[] = {
        {{.status = 200}, ENDPOINT_ANSWERED},
        {{.transport_failed = true, .unsent = true}, ENDPOINT_REFUSED},
        {{.transport_failed = true, .unsent = true, .timed_out = true}, ENDPOINT_REFUSED},
        {{.transport_failed = true}, ENDPOINT_LOST},
        {{.transport_failed = true, .status = 200}, ENDPOINT_LOST},
        {{.transport_failed = true, .timed_out = true}, ENDPOINT_SILENT},
        {{.status = 502}, ENDPOINT_UNAVAILABLE},
        {{.status = 503}, ENDPOINT_UNAVAILABLE},
        {{.status = 504}, ENDPOINT_UNAVAILABLE},
        {{.status = 429}, ENDPOINT_UNAVAILABLE},
        {{.status = 403}, ENDPOINT_UNAVAILABLE},
        {{.status = 404}, ENDPOINT_ANSWERED},
        {{.status = 413}, ENDPOINT_ANSWERED},
        {{.status = 503, .exception_code = 202}, ENDPOINT_UNAVAILABLE},
        {{.status = 500, .exception_code = 242}, ENDPOINT_UNAVAILABLE},
        {{.status = 500, .exception_code = 999}, ENDPOINT_UNAVAILABLE},
        {{.status = 403, .exception_code = 516}, ENDPOINT_UNAVAILABLE},
        {{.status = 500, .body = {"Code: 225. DB::Exception: x", 27}}, ENDPOINT_UNAVAILABLE},
        /* rows, tables, memory, parts: the insert's own, or the same everywhere */
        {{.status = 400, .exception_code = 27}, ENDPOINT_ANSWERED},
        {{.status = 500, .exception_code = 469}, ENDPOINT_ANSWERED},
        {{.status = 404, .exception_code = 60}, ENDPOINT_ANSWERED},
        {{.status = 500, .exception_code = 241}, ENDPOINT_ANSWERED},
        {{.status = 500, .exception_code = 252}, ENDPOINT_ANSWERED},
        {{.status = 408, .exception_code = 159}, ENDPOINT_ANSWERED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (endpoints_judge(&cases[i].answer) != cases[i].news)
            fail_msg("case %zu: %s", i, endpoints_words(endpoints_judge(&cases[i].answer)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_take_turns),
        cmocka_unit_test(one_that_hangs_keeps_its_share_and_no_more),
        cmocka_unit_test(a_failure_leaves_out_and_an_answer_brings_back),
        cmocka_unit_test(one_that_is_back_starts_slowly),
        cmocka_unit_test(while_it_starts_it_holds_one_insert_at_a_time),
        cmocka_unit_test(when_all_are_away_all_are_tried_in_turn),
        cmocka_unit_test(a_single_one_is_always_chosen_and_never_asked),
        cmocka_unit_test(only_those_of_the_set_and_the_shard_are_chosen),
        cmocka_unit_test(one_that_is_away_is_asked_ever_less_often),
        cmocka_unit_test(one_that_comes_and_goes_is_not_trusted_at_once),
        cmocka_unit_test(one_that_says_nothing_with_an_insert_out_is_asked),
        cmocka_unit_test(answers_are_judged_by_whose_fault_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
