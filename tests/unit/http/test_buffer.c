/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_buffer.c - the pool and its budget.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/buffer.h"

static void a_budget_gives_its_last_byte_and_not_one_more(void **state)
{
    struct buffer_budget budget = {.max = 100};

    (void)state;
    assert_true(buffer_budget_take(&budget, 60));
    assert_false(buffer_budget_take(&budget, 41));
    assert_true(buffer_budget_take(&budget, 40));
    assert_false(buffer_budget_take(&budget, 1));
    assert_int_equal(atomic_load(&budget.used), 100);
}

static void a_cached_block_stays_counted_and_is_used_again(void **state)
{
    struct buffer_budget budget = {.max = 64};
    struct buffer_pool pool;
    struct buffer first = {0}, second = {0};

    (void)state;
    buffer_pool_init(&pool, &budget, 64, 1);
    assert_true(buffer_take(&pool, &first));
    assert_false(buffer_take(&pool, &second));
    assert_null(second.data);
    buffer_release(&pool, &first);
    assert_int_equal(atomic_load(&budget.used), 64);
    assert_true(buffer_take(&pool, &second));
    buffer_release(&pool, &second);
    buffer_pool_fini(&pool);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void growing_keeps_the_content_and_a_failure_changes_nothing(void **state)
{
    struct buffer_budget budget = {.max = 64 + 100};
    struct buffer_pool pool;
    struct buffer buffer = {0};

    (void)state;
    buffer_pool_init(&pool, &budget, 64, 0);
    assert_true(buffer_take(&pool, &buffer));
    memcpy(buffer.data, "xxhello", 7);
    buffer.start = 2;
    buffer.end = 7;
    assert_false(buffer_grow(&pool, &buffer, 101));
    assert_memory_equal(buffer.data + buffer.start, "hello", 5);
    assert_true(buffer_grow(&pool, &buffer, 100));
    assert_int_equal(buffer.start, 0);
    assert_int_equal(buffer_len(&buffer), 5);
    assert_memory_equal(buffer.data, "hello", 5);
    assert_int_equal(atomic_load(&budget.used), 100);
    buffer.start = 3;
    buffer_compact(&buffer);
    assert_memory_equal(buffer.data, "lo", 2);
    buffer.start = 1;
    assert_false(buffer_grow(&pool, &buffer, 165));
    assert_true(buffer_grow(&pool, &buffer, 164));
    assert_memory_equal(buffer.data, "o", 1);
    assert_int_equal(atomic_load(&budget.used), 164);
    buffer_release(&pool, &buffer);
    buffer_pool_fini(&pool);
    assert_int_equal(atomic_load(&budget.used), 0);
}

static void blocks_that_nobody_needs_are_freed(void **state)
{
    struct buffer_budget budget = {.max = 64 * 64};
    struct buffer buffers[32] = {0};
    struct buffer_pool pool;

    (void)state;
    buffer_pool_init(&pool, &budget, 64, 64);
    for (int i = 0; i < 32; i++)
        assert_true(buffer_take(&pool, &buffers[i]));
    for (int i = 0; i < 32; i++)
        buffer_release(&pool, &buffers[i]);
    /* All were needed since the last look. */
    buffer_pool_trim(&pool);
    assert_int_equal(pool.cached_count, 32);
    /* Of these 20 at once. */
    for (int i = 0; i < 20; i++)
        assert_true(buffer_take(&pool, &buffers[i]));
    for (int i = 0; i < 20; i++)
        buffer_release(&pool, &buffers[i]);
    buffer_pool_trim(&pool);
    assert_int_equal(pool.cached_count, 28);
    buffer_pool_trim(&pool);
    buffer_pool_trim(&pool);
    assert_int_equal(pool.cached_count, 8);
    assert_int_equal(atomic_load(&budget.used), 8 * 64);
    buffer_pool_fini(&pool);
    assert_int_equal(atomic_load(&budget.used), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_budget_gives_its_last_byte_and_not_one_more),
        cmocka_unit_test(a_cached_block_stays_counted_and_is_used_again),
        cmocka_unit_test(growing_keeps_the_content_and_a_failure_changes_nothing),
        cmocka_unit_test(blocks_that_nobody_needs_are_freed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
