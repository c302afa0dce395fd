/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims_idle.c - a server that dies while there is nothing to claim is noticed by a PING, and
 * is up again only by what claims do.
 */
#include "claims_fixture.h"

#define MISS "*1\r\n$-1\r\n"
#define PING "*1\r\n$4\r\nPING\r\n"
#define LATER 1000

static uint64_t worked_ms;

/* A batch, after which nothing comes. */
static void work(void)
{
    add_record("a");
    worked_ms = clock_mono_ms();
    assert_int_equal(claims_take(claims, batch, verdicts, worked_ms), 0);
    assert_int_equal(gauge_up(), 1);
}

static void nobody_is_asked_before_a_second_has_passed(void **state)
{
    (void)state;
    assert_int_equal(claims_probe(claims, 0), 0);
    work();
    assert_int_equal(claims_idle_in_ms(claims, worked_ms), LATER);
    assert_int_equal(claims_idle_in_ms(claims, worked_ms + 400), LATER - 400);
    redis_fixture_stop(&redis);
    claims_ping(claims, worked_ms + LATER - 1);
    assert_int_equal(gauge_up(), 1);
    claims_ping(claims, worked_ms + LATER);
    assert_int_equal(gauge_up(), 0);
    assert_true(claims_down(claims));
    assert_true(redis_condition().up);
    assert_int_equal(errors(), 1);
    /* Then a probe tries, and no PING. */
    assert_true(claims_idle_in_ms(claims, worked_ms + 10 * LATER) == UINT64_MAX);
    redis_fixture_start(&redis);
    assert_int_equal(claims_probe(claims, worked_ms + 100 * LATER), 0);
    assert_int_equal(gauge_up(), 1);
    assert_false(redis_condition().up);
}

static void one_that_hangs_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(claims_probe(claims, 0), 0);
    work();
    kill(redis.pid, SIGSTOP);
    claims_ping(claims, worked_ms + LATER);
    kill(redis.pid, SIGCONT);
    assert_int_equal(gauge_up(), 0);
}

static void one_that_was_restarted_meanwhile_is_not_away(void **state)
{
    (void)state;
    assert_int_equal(claims_probe(claims, 0), 0);
    work();
    redis_fixture_stop(&redis);
    redis_fixture_start(&redis);
    claims_ping(claims, worked_ms + LATER);
    assert_int_equal(gauge_up(), 1);
    assert_int_equal(errors(), 0);
    assert_int_equal(claims_idle_in_ms(claims, worked_ms + LATER), LATER);
}

static void an_answer_to_ping_alone_makes_nothing_good(void **state)
{
    static const struct slice script[] = {{LITERAL(MISS)},
                                          {LITERAL("-READONLY You can't write\r\n")},
                                          {LITERAL("*1\r\n$-1\r\n-READONLY x\r\n")},
                                          {LITERAL("+PONG\r\n")}};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 4};

    (void)state;
    add_record("a");
    fake_start(&fake);
    METRIC_GAUGE_SET(metrics, redis_up, 1);
    worked_ms = clock_mono_ms();
    assert_int_equal(claims_take(claims, batch, verdicts, worked_ms), -EAGAIN);
    assert_int_equal(gauge_up(), 0);
    assert_true(claims_idle_in_ms(claims, worked_ms + LATER) == UINT64_MAX);
    claims_ping(claims, worked_ms + 100 * LATER);
    assert_int_equal(gauge_up(), 0);
    assert_true(claims_down(claims));
    fake_end(&fake);
}

static void one_that_refuses_a_ping_has_to_prove_itself(void **state)
{
    static const struct slice script[] = {{LITERAL(MISS)},
                                          {LITERAL("+OK\r\n")},
                                          {LITERAL("-LOADING Redis is loading\r\n")},
                                          {LITERAL("-LOADING x\r\n-LOADING x\r\n")}};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 4};

    (void)state;
    fake_start(&fake);
    METRIC_GAUGE_SET(metrics, redis_up, 1);
    work();
    claims_ping(claims, worked_ms + LATER);
    assert_memory_equal(fake.heard[2], PING, strlen(PING));
    assert_int_equal(gauge_up(), 0);
    fake_end(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nobody_is_asked_before_a_second_has_passed),
        TEST(one_that_hangs_is_noticed),
        TEST(one_that_was_restarted_meanwhile_is_not_away),
        TEST(an_answer_to_ping_alone_makes_nothing_good),
        TEST(one_that_refuses_a_ping_has_to_prove_itself),
    };

    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
