/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_balance.c - which front-end threads pass connections on, how many, and to whom.
 */
#include "balance.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "alloy/clock.h"

static struct balance_load loads[4];
static struct balance balance;

static int start(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++)
        loads[i] = (struct balance_load){.starved = 0};
    balance = (struct balance){.count = 4, .loads = loads};
    return 0;
}

static void load(unsigned thread, unsigned run, unsigned awake)
{
    atomic_store(&loads[thread].run, run);
    atomic_store(&loads[thread].awake, awake);
}

static void expect(unsigned self, size_t active, uint64_t now_ms, unsigned to, size_t count)
{
    const struct balance_window window = {.active = active, .now_ms = now_ms};
    const struct balance_wish wish = balance_decide(&balance, self, &window);

    assert_int_equal(wish.count, count);
    if (count > 0)
        assert_int_equal(wish.to, to);
}

static void a_full_thread_gives_half_of_them_to_one_that_sleeps(void **state)
{
    (void)state;
    load(1, 950, 960);
    load(0, 400, 400);
    load(3, 300, 310);
    expect(1, 64, 0, 2, 32);
    load(2, 480, 480);
    expect(1, 64, 0, 3, 21);
    /* One client's connection cannot be in two places. */
    expect(1, 1, 0, 0, 0);
    /* All are full: nobody is helped. */
    for (unsigned i = 0; i < 4; i++)
        load(i, 900 + i, 960 + i);
    for (unsigned i = 0; i < 4; i++)
        expect(i, 64, 0, 0, 0);
}

static void two_that_are_half_busy_become_one(void **state)
{
    (void)state;
    load(0, 390, 700);
    load(1, 390, 700);
    expect(0, 32, 0, 0, 0);
    expect(1, 32, 0, 0, SIZE_MAX);
    /* Together they may be too much for one. */
    load(1, 470, 700);
    expect(1, 32, 0, 0, 0);
    load(1, 60, 60);
    expect(1, 32, 0, 0, SIZE_MAX);
    /* There is nothing to win. */
    load(1, 19, 19);
    expect(1, 32, 0, 0, 0);
    load(1, 300, 300);
    load(0, 10, 10);
    expect(1, 32, 0, 0, 0);
}

static void only_the_last_thread_that_works_gives_itself_up(void **state)
{
    (void)state;
    load(0, 300, 300);
    load(1, 250, 250);
    load(2, 200, 200);
    expect(1, 32, 0, 0, 0);
    expect(2, 32, 0, 0, SIZE_MAX);
    load(0, 800, 800);
    expect(2, 32, 0, 1, SIZE_MAX);
}

static struct balance_wish decide_large(unsigned self, size_t active)
{
    return balance_decide(&balance, self,
                          &(struct balance_window){.active = active, .large = true});
}

static void small_requests_are_not_put_beside_large_bodies(void **state)
{
    (void)state;
    load(0, 300, 300);
    load(1, 100, 100);
    assert_int_equal(decide_large(0, 2).count, 0);
    expect(1, 32, 0, 0, 0);
    load(0, 100, 100);
    load(1, 300, 300);
    expect(0, 2, 0, 0, 0);
    assert_int_equal(decide_large(1, 32).count, 0);
}

static void who_has_separated_stays_so_for_a_while(void **state)
{
    (void)state;
    load(0, 950, 960);
    expect(0, 64, 1000, 1, 32);
    load(0, 380, 400);
    load(1, 380, 400);
    expect(1, 32, 2999, 0, 0);
    expect(1, 32, 3000, 0, SIZE_MAX);
}

static void one_connection_that_fills_every_thread_does_not_go_round_for_ever(void **state)
{
    (void)state;
    load(0, 950, 960);
    for (uint64_t i = 0; i < 20; i++)
        expect(0, 64, 1000 + 200 * i, 1, 32);
    expect(0, 64, 5000, 0, 0);
    expect(0, 64, 14799, 0, 0);
    expect(0, 64, 14800, 1, 32);
    expect(0, 64, 15000, 0, 0);
    /* It was not full for a while: this is another load. */
    load(0, 500, 600);
    expect(0, 64, 16799, 0, 0);
    load(0, 950, 960);
    expect(0, 64, 16799, 0, 0);
    load(0, 500, 600);
    expect(0, 64, 16800, 0, 0);
    load(0, 950, 960);
    expect(0, 64, 16900, 1, 32);
    expect(0, 64, 17000, 1, 32);
}

static void one_that_other_programs_keep_from_the_processor_gets_help_after_a_second(void **state)
{
    (void)state;
    load(0, 400, 1000);
    loads[0].starved = 9;
    expect(0, 64, 0, 0, 0);
    loads[0].starved = 10;
    expect(0, 64, 500, 1, 32);
    assert_int_equal(loads[0].starved, 0);
    load(0, 300, 700);
    load(1, 300, 700);
    expect(1, 32, 10499, 0, 0);
    expect(1, 32, 10500, 0, SIZE_MAX);
}

static void who_refuses_for_a_full_ring_needs_no_help(void **state)
{
    const struct balance_window shed = {.active = 64, .shed = true};

    (void)state;
    load(0, 950, 1000);
    loads[0].starved = 10;
    assert_int_equal(balance_decide(&balance, 0, &shed).count, 0);
    assert_int_equal(loads[0].starved, 0);
    expect(0, 64, 0, 1, 32);
}

static void a_meter_sees_who_works_and_who_sleeps(void **state)
{
    struct balance_meter meter;
    uint64_t now_ns = clock_mono_ns(), spent;

    (void)state;
    balance_meter_open(&meter);
    assert_false(balance_measure(&balance, 0, &meter, now_ns));
    assert_false(balance_measure(&balance, 0, &meter, now_ns + CLOCK_NS_PER_MS));
    /* Hardly any time has been spent in this window, however long it is said to be. */
    assert_true(balance_measure(&balance, 0, &meter, now_ns + 1000 * CLOCK_NS_PER_S));
    assert_int_equal(atomic_load(&loads[0].run), 0);
    /* More CPU than the window is long counts as all of it. */
    now_ns += 1000 * CLOCK_NS_PER_S;
    spent = clock_mono_ns();
    while (clock_mono_ns() - spent < 2 * BALANCE_WINDOW_MS * CLOCK_NS_PER_MS)
        ;
    now_ns += BALANCE_WINDOW_MS * CLOCK_NS_PER_MS;
    assert_true(balance_measure(&balance, 0, &meter, now_ns));
    assert_in_range(atomic_load(&loads[0].awake), atomic_load(&loads[0].run), BALANCE_WHOLE);
    assert_in_range(atomic_load(&loads[0].run), 1, BALANCE_WHOLE);
    balance_meter_close(&meter);
    assert_int_equal(meter.schedstat, -1);
}

#define TEST(name) cmocka_unit_test_setup(name, start)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_full_thread_gives_half_of_them_to_one_that_sleeps),
        TEST(two_that_are_half_busy_become_one),
        TEST(only_the_last_thread_that_works_gives_itself_up),
        TEST(small_requests_are_not_put_beside_large_bodies),
        TEST(who_has_separated_stays_so_for_a_while),
        TEST(one_connection_that_fills_every_thread_does_not_go_round_for_ever),
        TEST(one_that_other_programs_keep_from_the_processor_gets_help_after_a_second),
        TEST(who_refuses_for_a_full_ring_needs_no_help),
        TEST(a_meter_sees_who_works_and_who_sleeps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
