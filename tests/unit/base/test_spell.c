/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_spell.c - tests spell.c.
 */
#include "alloy/spell.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define STEP_MS 500

static struct spell spell;
static uint64_t now_ms;
static unsigned begun, ended;

static int start(void **state)
{
    (void)state;
    spell = (struct spell){0};
    now_ms = 1;
    begun = ended = 0;
    return 0;
}

/* Looks for so long, each half a second. */
static void look(bool there, uint64_t for_ms)
{
    for (uint64_t end_ms = now_ms + for_ms; now_ms < end_ms; now_ms += STEP_MS) {
        const enum spell_news news = spell_look(&spell, there, now_ms);

        begun += news == SPELL_BEGINS;
        ended += news == SPELL_ENDS;
    }
}

static void a_long_spell_is_told_when_it_begins_and_when_it_ends(void **state)
{
    (void)state;
    look(false, 10000);
    assert_int_equal(begun, 0);
    look(true, STEP_MS);
    assert_int_equal(begun, 1); /* at once */
    look(true, 600000);
    assert_int_equal(begun, 1);
    look(false, SPELL_END_MS - STEP_MS);
    assert_int_equal(ended, 0);
    look(false, 2 * STEP_MS);
    assert_int_equal(ended, 1);
    assert_int_equal(spell.seen_ms - spell.since_ms, 600000);
    look(false, 600000);
    assert_int_equal(begun + ended, 2);
    assert_int_equal(spell.suppressed, 0);
}

static void one_that_flickers_is_one(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        look(true, STEP_MS);
        look(false, SPELL_END_MS - STEP_MS);
    }
    assert_int_equal(begun, 1);
    assert_int_equal(ended, 0);
    look(false, SPELL_END_MS);
    assert_int_equal(ended, 1);
}

static void short_ones_are_told_once_a_minute_and_counted(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        look(true, STEP_MS);
        look(false, 5000 - STEP_MS);
    }
    assert_int_equal(begun, 1);
    assert_int_equal(ended, 1);
    assert_int_equal(spell.suppressed, 11);
    look(true, STEP_MS);
    assert_int_equal(begun, 2);
}

static void a_long_one_is_told_though_one_was_told_just_before(void **state)
{
    (void)state;
    look(true, STEP_MS);
    look(false, SPELL_END_MS + STEP_MS);
    assert_int_equal(begun + ended, 2);
    look(true, SPELL_SHORT_MS);
    assert_int_equal(begun, 1);
    look(true, STEP_MS);
    assert_int_equal(begun, 2);
    look(false, SPELL_END_MS + STEP_MS);
    assert_int_equal(ended, 2);
    assert_int_equal(spell.suppressed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_long_spell_is_told_when_it_begins_and_when_it_ends, start),
        cmocka_unit_test_setup(one_that_flickers_is_one, start),
        cmocka_unit_test_setup(short_ones_are_told_once_a_minute_and_counted, start),
        cmocka_unit_test_setup(a_long_one_is_told_though_one_was_told_just_before, start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
