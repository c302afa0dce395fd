/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_moved.c - the table of copies against a plain array, with entries that come and go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "moved.h"

#define SEGMENTS 8
#define IN_SEGMENT 96

/* "Segments" of bare record headers. */
static struct record records[SEGMENTS][IN_SEGMENT];

static struct segment segment_at(size_t i)
{
    return (struct segment){.base = (char *)records[i], .size = sizeof(records[i])};
}

static void put(struct moved *moved, struct record *record, uint64_t lsn)
{
    record->lsn = lsn;
    assert_int_equal(moved_reserve(moved, 1), 0);
    moved_put(moved, record);
}

static void an_empty_table_finds_nothing_and_a_promise_can_be_given_back(void **state)
{
    struct moved moved = {0};

    (void)state;
    assert_null(moved_find(&moved, 1));
    assert_int_equal(moved_reserve(&moved, 100), 0);
    assert_true(moved.capacity / 4 * 3 >= 100);
    moved_cancel(&moved, 100);
    assert_int_equal(moved.reserved, 0);
    assert_null(moved_find(&moved, 1));
    moved_fini(&moved);
}

static void a_table_that_is_as_full_as_it_gets_still_finds_nothing_else(void **state)
{
    struct moved moved = {0};

    (void)state;
    for (uint64_t lsn = 1; lsn <= 64; lsn++)
        put(&moved, &records[lsn / IN_SEGMENT][lsn % IN_SEGMENT], lsn);
    assert_true(moved.count <= moved.capacity / 4 * 3);
    for (uint64_t lsn = 65; lsn < 1000; lsn++)
        assert_null(moved_find(&moved, lsn));
    moved_fini(&moved);
}

static void a_later_copy_takes_the_place_of_an_earlier_one(void **state)
{
    struct moved moved = {0};

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        put(&moved, &records[i % SEGMENTS][i % IN_SEGMENT], 77);
    assert_int_equal(moved.count, 1);
    assert_int_equal(moved.capacity, 64);
    assert_ptr_equal(moved_find(&moved, 77), &records[999 % SEGMENTS][999 % IN_SEGMENT]);
    moved_fini(&moved);
}

static void what_is_dropped_is_gone_and_all_others_are_found(void **state)
{
    struct moved moved = {0};

    (void)state;
    memset(records, 0, sizeof(records));
    srand(1);
    for (int round = 0; round < 200; round++) {
        const size_t gone = (size_t)rand() % SEGMENTS;
        const struct segment segment = segment_at(gone);

        for (size_t i = 0; i < IN_SEGMENT; i++)
            put(&moved, &records[gone][i],
                ((uint64_t)(rand() % 16) << 32 | (uint64_t)rand() % 65536) * 64 + gone * 8 + 8);
        moved_drop(&moved, &segment);
        for (size_t s = 0; s < SEGMENTS; s++)
            for (size_t i = 0; i < IN_SEGMENT; i++)
                if (s == gone)
                    assert_null(moved_find(&moved, records[s][i].lsn));
                else if (records[s][i].lsn != 0)
                    assert_int_equal(moved_find(&moved, records[s][i].lsn)->lsn, records[s][i].lsn);
        /* In again, under new LSNs. */
        for (size_t i = 0; i < IN_SEGMENT; i++)
            put(&moved, &records[gone][i],
                ((uint64_t)(rand() % 16) << 32 | (uint64_t)rand() % 65536) * 64 + gone * 8 + 8);
    }
    for (size_t s = 0; s < SEGMENTS; s++) {
        const struct segment segment = segment_at(s);
        moved_drop(&moved, &segment);
    }
    assert_int_equal(moved.count, 0);
    moved_fini(&moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_table_finds_nothing_and_a_promise_can_be_given_back),
        cmocka_unit_test(a_table_that_is_as_full_as_it_gets_still_finds_nothing_else),
        cmocka_unit_test(a_later_copy_takes_the_place_of_an_earlier_one),
        cmocka_unit_test(what_is_dropped_is_gone_and_all_others_are_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
