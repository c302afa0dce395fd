/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_l1_batch.c - many calls of L1 between l1_hold() and l1_release(), and what is fetched ahead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "alloy/l1.h"

#define TTL_MS 3600000
#define THREADS 3
#define IDS 3000
#define BATCH 100

static struct l1 *l1;
static _Atomic unsigned added;

static struct hash128 hash_of(uint64_t id)
{
    return (struct hash128){id * 0x9e3779b97f4a7c15ull, (id + 1) * 0xbf58476d1ce4e5b9ull};
}

static enum l1_result enter(struct l1_thread *thread, uint64_t id)
{
    const struct hash128 hash = hash_of(id);

    return l1_enter(thread, 0, &hash, id + 1, 1);
}

static bool knows(struct l1_thread *thread, uint64_t id)
{
    const struct hash128 hash = hash_of(id);

    l1_prefetch(thread, &hash);
    l1_prefetch_first(thread, &hash);
    l1_prefetch_second(thread, &hash);
    return l1_knows(thread, 0, &hash, 1);
}

static void what_is_added_while_held_is_known_at_once_and_counted_at_the_end(void **state)
{
    struct l1_thread *thread;

    (void)state;
    l1 = l1_create(1000, TTL_MS, 0);
    thread = l1_thread_create(l1);
    for (int round = 0; round < 2; round++) {
        l1_hold(thread);
        for (uint64_t id = 0; id < BATCH; id++) {
            assert_int_equal(knows(thread, id), round == 1);
            assert_int_equal(enter(thread, id), round == 0 ? L1_ADDED : L1_OWN);
            assert_true(knows(thread, id));
        }
        l1_release(thread);
        assert_int_equal(l1_entries(l1), BATCH);
    }
    assert_int_equal(enter(thread, BATCH), L1_ADDED);
    assert_int_equal(l1_entries(l1), BATCH + 1);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

/* The generations are reclaimed by the thread that holds the table, which would wait for itself. */
static void room_can_be_made_while_the_table_is_held(void **state)
{
    struct l1_thread *thread;

    (void)state;
    l1 = l1_create(32, TTL_MS, 0);
    thread = l1_thread_create(l1);
    l1_hold(thread);
    for (uint64_t id = 0; id < BATCH * 4; id++) {
        assert_int_equal(enter(thread, id), L1_ADDED);
        assert_true(knows(thread, id));
    }
    l1_release(thread);
    assert_true(l1_entries(l1) <= 32 + 4);
    assert_int_equal(l1_entries(l1) + l1_evicted(l1), BATCH * 4);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void *enter_all(void *arg)
{
    struct l1_thread *thread = l1_thread_create(l1);
    const uint64_t first = *(const uint64_t *)arg * IDS / THREADS;

    for (uint64_t at = 0; at < IDS; at += BATCH) {
        l1_hold(thread);
        for (uint64_t i = at; i < at + BATCH; i++) {
            const uint64_t id = (first + i) % IDS;

            if (!knows(thread, id) && enter(thread, id) == L1_ADDED)
                atomic_fetch_add(&added, 1);
        }
        l1_release(thread);
    }
    l1_thread_destroy(thread);
    return NULL;
}

static void of_threads_that_hold_the_table_exactly_one_adds_an_id(void **state)
{
    uint64_t numbers[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    l1 = l1_create(IDS * 2, TTL_MS, 0);
    for (uint64_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, enter_all, &numbers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(added, IDS);
    assert_int_equal(l1_entries(l1), IDS);
    l1_destroy(l1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_added_while_held_is_known_at_once_and_counted_at_the_end),
        cmocka_unit_test(room_can_be_made_while_the_table_is_held),
        cmocka_unit_test(of_threads_that_hold_the_table_exactly_one_adds_an_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
