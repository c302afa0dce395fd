/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard.c - the shard of an event: known values, balance, and what moves when the list grows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard.h"

#define IDS 20000
#define SHARDS_MAX 64

static uint64_t hash_of(const char *id)
{
    return shard_hash((struct slice){id, strlen(id)});
}

static uint64_t hash_number(size_t number)
{
    char id[32];

    snprintf(id, sizeof(id), "event-%zu", number);
    return hash_of(id);
}

/* These must never change: events that wait for a shard were given it by an earlier release. */
static void the_values_are_known(void **state)
{
    static const size_t shards[] = {1, 2, 3, 5, 64};
    static const struct {
        const char *id;
        uint64_t hash;
        size_t of[ARRAY_LEN(shards)];
    } cases[] = {
        {"a", UINT64_C(0x82a2a958a9bece5b), {0, 1, 1, 3, 24}},
        {"42", UINT64_C(0x810b196a56ee3cec), {0, 0, 0, 0, 23}},
        {"hello-1", UINT64_C(0x29f0cbb1ada6e979), {0, 1, 2, 4, 57}},
        {"8f14e45f-ceea-467f-9b0d-3a1b2c4d5e6f", UINT64_C(0xdfe804786667b54e), {0, 0, 0, 3, 11}},
        {"\xc3\xa9", UINT64_C(0x9d55ccb9ba86763b), {0, 0, 0, 4, 21}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_true(hash_of(cases[i].id) == cases[i].hash);
        for (size_t k = 0; k < ARRAY_LEN(shards); k++)
            assert_int_equal(shard_of(cases[i].hash, shards[k]), cases[i].of[k]);
    }
    assert_int_equal(shard_of(0, 1), 0);
    assert_true(shard_of(UINT64_MAX, SHARDS_MAX) < SHARDS_MAX);
}

static void shards_get_equally_many(void **state)
{
    (void)state;
    for (size_t shards = 1; shards <= 16; shards++) {
        size_t counts[16] = {0};

        for (size_t i = 0; i < IDS; i++)
            counts[shard_of(hash_number(i), shards)]++;
        for (size_t i = 0; i < shards; i++) {
            assert_true(counts[i] > IDS / shards * 9 / 10);
            assert_true(counts[i] < IDS / shards * 11 / 10);
        }
    }
}

static void with_one_more_an_id_stays_or_goes_to_the_new_one(void **state)
{
    (void)state;
    for (size_t shards = 1; shards < SHARDS_MAX; shards++) {
        size_t moved = 0;

        for (size_t i = 0; i < IDS; i++) {
            const size_t before = shard_of(hash_number(i), shards);
            const size_t after = shard_of(hash_number(i), shards + 1);

            assert_true(after == before || after == shards);
            moved += after != before;
        }
        assert_true(moved > IDS / (shards + 1) * 3 / 4);
        assert_true(moved < IDS / (shards + 1) * 5 / 4);
    }
}

/* A record with an id, that stands alone. */
static struct record *record_of(size_t number)
{
    struct record *record = calloc(1, sizeof(*record) + 32);

    record->id_length = (uint16_t)snprintf(record->body, 32, "event-%zu", number);
    record->body_length = 32;
    record->stream = 7;
    return record;
}

static void a_batch_is_dealt_out_whole_and_in_order(void **state)
{
    struct batch *batch = batch_create(7, 500);
    struct batch *parts[3];
    size_t count = 0;
    uint64_t bytes = 0;

    (void)state;
    for (size_t i = 0; i < 500; i++)
        batch_add(batch, record_of(i));
    assert_true(shard_deal(batch, 3, parts));
    for (size_t s = 0; s < 3; s++) {
        size_t last = 0;

        assert_non_null(parts[s]);
        assert_int_equal(parts[s]->stream, 7);
        bytes += parts[s]->bytes;
        for (size_t i = 0; i < parts[s]->count; i++) {
            const struct record *record = parts[s]->records[i];
            const size_t number = strtoul(record_id(record) + 6, NULL, 10);

            assert_int_equal(shard_of(hash_number(number), 3), s);
            assert_true(i == 0 || number > last);
            last = number;
            count++;
            free(parts[s]->records[i]);
        }
        free(parts[s]);
    }
    assert_int_equal(count, 500);
    assert_int_equal(bytes, 500 * 32);
}

static void of_one_shard_a_batch_is_left_as_it_is(void **state)
{
    struct batch *batch = batch_create(7, 1);
    struct batch *parts[2];
    struct record *record = record_of(1);

    (void)state;
    batch_add(batch, record);
    assert_true(shard_deal(batch, 1, parts));
    assert_ptr_equal(parts[0], batch);
    assert_true(shard_deal(batch, 2, parts));
    assert_true((parts[0] == NULL) != (parts[1] == NULL));
    free(parts[0]);
    free(parts[1]);
    free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_values_are_known),
        cmocka_unit_test(shards_get_equally_many),
        cmocka_unit_test(with_one_more_an_id_stays_or_goes_to_the_new_one),
        cmocka_unit_test(a_batch_is_dealt_out_whole_and_in_order),
        cmocka_unit_test(of_one_shard_a_batch_is_left_as_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
