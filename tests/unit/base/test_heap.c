/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_heap.c - when freed memory goes back to the system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloy/heap.h"

#define MIB ((size_t)1 << 20)

static void little_is_left_to_the_allocator(void **state)
{
    struct heap_watch watch = {0};

    (void)state;
    assert_false(heap_look(&watch, 100000));
    heap_freed(MIB - 1);
    assert_false(heap_look(&watch, 101000));
    assert_false(heap_look(&watch, 102000));
    heap_freed(1);
    assert_false(heap_look(&watch, 103000));
    assert_true(heap_look(&watch, 104000));
    assert_false(heap_look(&watch, 105000));
}

static void while_more_is_freed_it_happens_each_10_s(void **state)
{
    struct heap_watch watch = {0};
    unsigned trims = 0;

    (void)state;
    (void)heap_look(&watch, 100000);
    for (uint64_t now_ms = 100050; now_ms <= 140000; now_ms += 50) {
        heap_freed(MIB);
        trims += heap_look(&watch, now_ms);
    }
    assert_in_range(trims, 3, 5);
}

static void a_thread_follows_once(void **state)
{
    struct heap_watch watch = {0};
    unsigned trims = 0;

    (void)state;
    heap_init();
    (void)heap_look(&watch, 100000);
    heap_freed(MIB);
    (void)heap_look(&watch, 102000);
    assert_false(watch.low);
    assert_true(heap_look(&watch, 103000));
    assert_true(watch.low);
    heap_follow(&trims);
    assert_int_not_equal(trims, 0);
    heap_follow(&trims);
    assert_false(heap_look(&watch, 104000));
    assert_false(watch.low);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_is_left_to_the_allocator),
        cmocka_unit_test(while_more_is_freed_it_happens_each_10_s),
        cmocka_unit_test(a_thread_follows_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
