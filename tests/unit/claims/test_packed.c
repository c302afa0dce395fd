/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_packed.c - the tables of packed claims and their log, without a Redis.
 */
#include "alloy/packed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOUR_MS 3600000ull

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static struct packed_table table_of(unsigned bits)
{
    return (struct packed_table){
        .number = 1, .opened_ms = 1000000, .ttl_ms = HOUR_MS, .bits = bits};
}

static struct packed_log log_of(const struct packed_table *table)
{
    struct packed_log log = {.count = 0};

    packed_log_add(&log, table);
    return log;
}

/* ---- an id's place ---- */

static struct packed_identity identity_of(const char *id)
{
    struct packed_identity identity;

    event_id_identity(identity.bytes, id, strlen(id));
    return identity;
}

static void a_hash_is_the_first_bits_of_an_identity(void **state)
{
    const struct packed_identity identity = {{0x12, 0x34, 0x56, 0x78, 0x9a}};

    (void)state;
    assert_int_equal(packed_hash_of(&identity, 8), 0x12);
    assert_int_equal(packed_hash_of(&identity, 12), 0x123);
    assert_int_equal(packed_hash_of(&identity, 27), 0x12345678 >> 5);
}

/* So two ids with one place have 96 bits in common, and those of large tables more. */
static void a_field_begins_where_its_hashs_name_ends(void **state)
{
    const struct packed_identity identity = identity_of("a");

    (void)state;
    for (unsigned bits = PACKED_BITS_MIN; bits <= PACKED_BITS_MAX; bits++) {
        const struct packed_table table = table_of(bits);
        const struct slice field = packed_field(&identity, &table);

        assert_int_equal(field.len, 11);
        assert_in_range((field.data - (const char *)identity.bytes) * 8, bits - 7, bits);
    }
}

static void a_hash_is_named_by_its_table_and_number(void **state)
{
    struct packed_table table;
    char name[PACKED_NAME_MAX];

    (void)state;
    assert_true(packed_table_read(&table, text_of("7"), text_of("46655 60000 13 0 0 0 2")));
    assert_int_equal(packed_name(name, &table, 0x1abc, 0), 8);
    assert_memory_equal(name, "zzz:1abc", 8);
    /* In a cluster the group's tag stands for the first bits. */
    assert_int_equal(packed_name(name, &table, 0x1abc, 8), 6);
    assert_memory_equal(name, "zzz:1c", 6);
}

static void values_differ_by_record_and_by_alloyd(void **state)
{
    char values[2 * 1000][PACKED_VALUE_LEN], again[PACKED_VALUE_LEN];

    (void)state;
    for (uint64_t i = 0; i < 1000; i++) {
        packed_value(values[2 * i], 0x1122334455667788ull, 1 + 8 * i);
        packed_value(values[2 * i + 1], 0x1122334455667789ull, 1 + 8 * i);
    }
    packed_value(again, 0x1122334455667788ull, 1);
    assert_memory_equal(again, values[0], PACKED_VALUE_LEN);
    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(values[i], values[k], PACKED_VALUE_LEN);
}

/* ---- a table's text ---- */

static void a_table_is_read_as_it_was_printed(void **state)
{
    struct packed_table table = {.opened_ms = 1795968246030,
                                 .ttl_ms = 86400000,
                                 .bits = 17,
                                 .grown = true,
                                 .way = PACKED_BOTH,
                                 .keys_until_ms = 1795968246031};
    struct packed_table read;
    char text[PACKED_TEXT_MAX];

    (void)state;
    packed_table_print(&table, text);
    assert_string_equal(text, "1795968246030 86400000 17 1 1 1795968246031 2");
    assert_true(packed_table_read(&read, text_of("12"), text_of(text)));
    table.number = 12;
    assert_true(packed_table_is(&read, &table));
    assert_true(read.grown);
    assert_int_equal(read.keys_until_ms, table.keys_until_ms);
}

static void what_is_no_table_is_not_read(void **state)
{
    static const struct {
        const char *number, *text;
    } bad[] = {
        {"", "1 1 12 0 0 0 2"},
        {"0", "1 1 12 0 0 0 2"},
        {"1x", "1 1 12 0 0 0 2"},
        {"1", ""},
        {"1", "1 1 12 0 0 0"},
        {"1", "1 1 12 0 0 0 1"},
        {"1", "1 1 12 0 0 0 3"},
        {"1", "1 1 12 0 0 0 2 "},
        {"1", "0 1 12 0 0 0 2"},
        {"1", "1 0 12 0 0 0 2"},
        {"1", "1 1 11 0 0 0 2"},
        {"1", "1 1 28 0 0 0 2"},
        {"1", "1 1 12 0 3 0 2"},
        {"1", " 1 1 12 0 0 0 2"},
        {"1", "1  1 12 0 0 0 2"},
        {"1", "1 1 12 0 0 0x 2"},
        {"1", "-1 1 12 0 0 0 2"},
        {"w", "1 1 12 0 0 0 2"},
        {"99999999999999999999", "1 1 12 0 0 0 2"},
    };
    struct packed_table table;

    (void)state;
    assert_true(packed_table_read(&table, text_of("1"), text_of("1 1 12 0 2 0 2")));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (packed_table_read(&table, text_of(bad[i].number), text_of(bad[i].text)))
            fail_msg("%s: %s", bad[i].number, bad[i].text);
}

/* ---- the log ---- */

static void tables_are_in_order_of_their_numbers_and_the_oldest_leaves(void **state)
{
    static const uint64_t numbers[] = {3, 1, 2};
    struct packed_log log = {.count = 0};
    struct packed_table table = table_of(12);

    (void)state;
    assert_null(packed_log_newest(&log));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        table.number = numbers[i];
        packed_log_add(&log, &table);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(log.tables[i].number, i + 1);
    for (table.number = 4; table.number <= PACKED_TABLES_MAX + 1; table.number++)
        packed_log_add(&log, &table);
    assert_int_equal(log.count, PACKED_TABLES_MAX);
    assert_int_equal(log.tables[0].number, 2);
    assert_int_equal(packed_log_newest(&log)->number, PACKED_TABLES_MAX + 1);
    table.number = 1;
    packed_log_add(&log, &table);
    assert_int_equal(log.tables[0].number, 2);
}

static void a_table_takes_claims_for_its_ttl_and_a_little_longer_those_that_are_set(void **state)
{
    const struct packed_table table = table_of(12);
    const struct packed_log log = log_of(&table), none = {.count = 0};
    const uint64_t end_ms = table.opened_ms + HOUR_MS;

    (void)state;
    assert_true(packed_log_is_over(&none, 1, HOUR_MS, false));
    assert_false(packed_log_is_over(&log, end_ms - 1, HOUR_MS, false));
    assert_true(packed_log_is_over(&log, end_ms, HOUR_MS, false));
    assert_false(packed_log_is_over(&log, end_ms + 999, HOUR_MS, true));
    assert_true(packed_log_is_over(&log, end_ms + 1000, HOUR_MS, true));
    /* A ttl that is longer now. */
    assert_true(packed_log_is_over(&log, table.opened_ms, HOUR_MS + 1, false));
    assert_false(packed_log_is_over(&log, table.opened_ms, HOUR_MS - 1, false));
    /* A clock that went back. */
    assert_false(packed_log_is_over(&log, table.opened_ms - 1, HOUR_MS, false));
    assert_true(packed_log_is_over(
        &(struct packed_log){
            .count = 1,
            .tables = {{.number = 1, .opened_ms = 2 * HOUR_MS + 1, .ttl_ms = HOUR_MS, .bits = 12}}},
        HOUR_MS, HOUR_MS, false));
}

/* Its last claim is of when it was over, or of when the next was opened. */
static void an_older_table_lives_for_a_ttl_after_its_last_claim(void **state)
{
    struct packed_table table = table_of(12);
    struct packed_log log = log_of(&table);
    const uint64_t opened_ms = table.opened_ms;

    (void)state;
    table.number = 2;
    table.opened_ms = opened_ms + 1000;
    packed_log_add(&log, &table);
    assert_true(packed_log_lives(&log, 0, opened_ms + 1000 + HOUR_MS - 1));
    assert_false(packed_log_lives(&log, 0, opened_ms + 1000 + HOUR_MS));
    log.tables[1].opened_ms = opened_ms + 2 * HOUR_MS;
    assert_true(packed_log_lives(&log, 0, opened_ms + 2 * HOUR_MS + 999));
    assert_false(packed_log_lives(&log, 0, opened_ms + 2 * HOUR_MS + 1000));
    assert_int_equal(packed_table_end_ms(&log.tables[0]), opened_ms + 2 * HOUR_MS + 2000);
    assert_int_equal(packed_log_living(&log, opened_ms + HOUR_MS), 1);
    assert_int_equal(packed_log_living(&log, opened_ms + 3 * HOUR_MS), 0);
    log.tables[0].way = PACKED_KEYS; /* it has no claims */
    assert_false(packed_log_lives(&log, 0, opened_ms + 1));
}

static void a_log_lacks_its_newest_table_when_that_is_gone_or_another(void **state)
{
    struct packed_table table = table_of(12);
    const struct packed_log log = log_of(&table), none = {.count = 0};

    (void)state;
    assert_false(packed_log_lacks(&log, &table));
    assert_true(packed_log_lacks(&none, &table));
    table.bits = 14;
    assert_true(packed_log_lacks(&log, &table));
    table = table_of(12);
    table.number = 2;
    assert_true(packed_log_lacks(&log, &table));
    table.number = 0; /* only older ones leave */
    assert_false(packed_log_lacks(&log, &table));
}

static void a_way_began_with_the_first_of_its_tables(void **state)
{
    struct packed_log log = {.count = 0};
    static const enum packed_way ways[] = {PACKED_ALONE, PACKED_BOTH, PACKED_BOTH};

    (void)state;
    assert_int_equal(packed_log_way_since_ms(&log), 0);
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        const struct packed_table table = {.number = i + 1, .opened_ms = i + 1, .way = ways[i]};

        packed_log_add(&log, &table);
    }
    assert_int_equal(packed_log_way_since_ms(&log), 2);
}

/* ---- the next table ---- */

static void the_first_table_is_the_smallest(void **state)
{
    const struct packed_log none = {.count = 0};
    const struct packed_table next = packed_log_next(&none, 5, HOUR_MS, 0, 0);

    (void)state;
    assert_int_equal(next.number, 1);
    assert_int_equal(next.opened_ms, 5);
    assert_int_equal(next.ttl_ms, HOUR_MS);
    assert_int_equal(next.bits, PACKED_BITS_MIN);
    assert_false(next.grown);
}

/* Fuller ones cost Redis time, emptier ones memory (docs/decisions/032-packed.md). */
static void after_a_ttl_hashes_are_as_full_as_they_should_be(void **state)
{
    (void)state;
    for (unsigned skip = 0; skip <= 8; skip += 8)
        for (double ids = 58000; ids < 3e9; ids *= 1.03) {
            const struct packed_table table = table_of(18);
            const struct packed_log log = log_of(&table);
            const struct packed_table next =
                packed_log_next(&log, table.opened_ms + HOUR_MS, HOUR_MS, ids / (1 << 18), skip);
            const double fill = ids / (double)(1u << next.bits);

            assert_int_equal(next.number, 2);
            assert_false(next.grown);
            if (fill > PACKED_AIM || fill <= PACKED_AIM / 2.0)
                fail_msg("%.0f ids: %.1f in a hash", ids, fill);
        }
}

static void a_full_table_is_followed_by_one_with_four_or_sixteen_times_the_hashes(void **state)
{
    static const unsigned bits[] = {12, 14, 16, 20, 24, 27, 27};
    struct packed_log log = {.count = 0};
    uint64_t now_ms = 1000000;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bits); i++) {
        const struct packed_table next =
            packed_log_next(&log, now_ms, HOUR_MS, i > 0 ? PACKED_FULL : 0, 0);

        assert_int_equal(next.bits, bits[i]);
        assert_int_equal(next.grown, i > 0);
        assert_int_equal(next.opened_ms, 1000000 + i); /* two never have the same name */
        packed_log_add(&log, &next);
    }
    /* One below that is not full. */
    assert_int_equal(packed_log_next(&log, now_ms, HOUR_MS, PACKED_FULL - 1, 0).grown, false);
}

/* All that came in the ttl counts: the full tables too, but not those of the ttl before. */
static void the_ids_of_full_tables_count_for_the_next_ttl(void **state)
{
    struct packed_table table = table_of(24);
    struct packed_log log = log_of(&table);
    struct packed_table next;

    (void)state;
    table = table_of(12);
    table.number = 2;
    packed_log_add(&log, &table);
    table = table_of(14);
    table.number = 3;
    table.grown = true;
    packed_log_add(&log, &table);
    /* 4096 x 64 + 16384 x 3 = 311,296 ids. */
    next = packed_log_next(&log, table.opened_ms + HOUR_MS, HOUR_MS, 3, 0);
    assert_int_equal(next.bits, 14);
    next = packed_log_next(&log, table.opened_ms + HOUR_MS, HOUR_MS, 13, 0);
    assert_int_equal(next.bits, 15);
    assert_false(next.grown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hash_is_the_first_bits_of_an_identity),
        cmocka_unit_test(a_field_begins_where_its_hashs_name_ends),
        cmocka_unit_test(a_hash_is_named_by_its_table_and_number),
        cmocka_unit_test(values_differ_by_record_and_by_alloyd),
        cmocka_unit_test(a_table_is_read_as_it_was_printed),
        cmocka_unit_test(what_is_no_table_is_not_read),
        cmocka_unit_test(tables_are_in_order_of_their_numbers_and_the_oldest_leaves),
        cmocka_unit_test(a_table_takes_claims_for_its_ttl_and_a_little_longer_those_that_are_set),
        cmocka_unit_test(an_older_table_lives_for_a_ttl_after_its_last_claim),
        cmocka_unit_test(a_log_lacks_its_newest_table_when_that_is_gone_or_another),
        cmocka_unit_test(a_way_began_with_the_first_of_its_tables),
        cmocka_unit_test(the_first_table_is_the_smallest),
        cmocka_unit_test(after_a_ttl_hashes_are_as_full_as_they_should_be),
        cmocka_unit_test(a_full_table_is_followed_by_one_with_four_or_sixteen_times_the_hashes),
        cmocka_unit_test(the_ids_of_full_tables_count_for_the_next_ttl),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
