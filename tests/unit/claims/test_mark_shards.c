/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mark_shards.c - the tables of shards, as one life tells the next.
 */
#include "mark_shards.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define LIST 0xabcu

static const struct mark_shards none;

static void note(struct mark_shards *shards, size_t shard, const char *identity)
{
    (void)mark_shards_note(shards, LIST, shard, identity, 1);
}

static void what_is_written_reads_back(void **state)
{
    struct mark_shards shards = none, read;
    char text[400 + MARK_SHARDS_TEXT_MAX] = "/a path/{shard}", *end = text + strlen(text);
    struct slice value;

    (void)state;
    note(&shards, 0, "/a path/{shard}");
    note(&shards, 2, "c");
    note(&shards, CLICKHOUSE_SHARDS_MAX - 1, "last");
    mark_shards_write(&shards, &none, "/a path/{shard}", end);
    value = (struct slice){text, strlen(text)};
    assert_true(mark_shards_read(&value, &read));
    assert_int_equal(value.len, end - text);
    assert_int_equal(read.list, LIST);
    assert_memory_equal(read.tables, shards.tables, sizeof(read.tables));
    assert_int_equal(read.tables[1], 0);
}

static void without_the_first_table_nothing_is_written(void **state)
{
    struct mark_shards shards = none, before = none;
    char text[MARK_SHARDS_TEXT_MAX];

    (void)state;
    note(&shards, 1, "b");
    mark_shards_write(&shards, &none, "a", text);
    assert_string_equal(text, "");
    /* It was known before; but not of another table, or under another list. */
    note(&before, 0, "a");
    mark_shards_write(&shards, &before, "a", text);
    assert_int_equal(strlen(text), 1 + 16 + 2 * 17);
    mark_shards_write(&shards, &before, "x", text);
    assert_string_equal(text, "");
    before.list++;
    mark_shards_write(&shards, &before, "a", text);
    assert_string_equal(text, "");
}

static void what_is_no_such_end_is_left(void **state)
{
    static const char *const values[] = {"",
                                         "a",
                                         "a b",
                                         "a 0123456789abcdef",
                                         "a 0123456789abcdef:",
                                         "a 0123456789abcdef:0123456789abcde",
                                         "a 0123456789abcdef,0123456789abcdef",
                                         "a 0123456789abcdef:0123456789abcdef,",
                                         "a 0123456789abcdef:0123456789abcdef:0123456789abcdef",
                                         "a 0123456789abcdeF:0123456789abcdef",
                                         "a 0123456789abcdef:0123456789abcdef,x"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct slice value = {values[i], strlen(values[i])};
        struct mark_shards read;

        assert_false(mark_shards_read(&value, &read));
        assert_int_equal(value.len, strlen(values[i]));
        assert_memory_equal(&read, &none, sizeof(read));
    }
}

static void tables_are_confirmed_by_one_that_is_the_same_and_none_that_is_not(void **state)
{
    struct mark_shards before = none, now = none;

    (void)state;
    assert_false(mark_shards_confirm(&none, &none));
    note(&before, 0, "a");
    note(&before, 1, "b");
    note(&before, 2, "c");
    note(&now, 3, "d");
    assert_false(mark_shards_confirm(&now, &before));
    note(&now, 1, "b");
    assert_true(mark_shards_confirm(&now, &before));
    note(&now, 2, "x");
    assert_false(mark_shards_confirm(&now, &before));
    note(&now, 2, "");
    assert_true(mark_shards_confirm(&now, &before));
    before.list++;
    assert_false(mark_shards_confirm(&now, &before));
}

static void a_list_is_its_endpoints_in_their_order_and_the_table(void **state)
{
    static char *const urls[] = {"http://a|http://b",          "http://b|http://a",
                                 "http://a,http://b",          "http://a:8124|http://b",
                                 "http://a|http://b|http://c", "http://a"};
    struct config config = {.stream_count = 1};
    uint64_t lists[ARRAY_LEN(urls) + 1];

    (void)state;
    config.streams[0].table_text = "db.t";
    for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
        config.clickhouse_url = urls[i];
        lists[i] = mark_shards_list(&config, 0);
    }
    config.streams[0].table_text = "db.u";
    lists[ARRAY_LEN(urls)] = mark_shards_list(&config, 0);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        for (size_t k = 0; k < i; k++)
            assert_int_not_equal(lists[i], lists[k]);
    /* Who logs in does not matter. */
    config.clickhouse_url = "http://me:pw@a";
    assert_int_equal(mark_shards_list(&config, 0), lists[ARRAY_LEN(urls)]);
}

static void after_a_change_of_the_list_it_takes_a_minute(void **state)
{
    struct mark_shards shards = none;

    (void)state;
    assert_true(mark_shards_note(&shards, 1, 0, "a", 1000));
    assert_false(mark_shards_note(&shards, 1, 0, "a", 1000));
    assert_false(mark_shards_note(&shards, 2, 0, "a", 1000));
    assert_int_equal(shards.tables[0], 0);
    assert_false(mark_shards_note(&shards, 2, 0, "a", 60999));
    assert_true(mark_shards_note(&shards, 2, 0, "a", 61000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(without_the_first_table_nothing_is_written),
        cmocka_unit_test(what_is_no_such_end_is_left),
        cmocka_unit_test(tables_are_confirmed_by_one_that_is_the_same_and_none_that_is_not),
        cmocka_unit_test(a_list_is_its_endpoints_in_their_order_and_the_table),
        cmocka_unit_test(after_a_change_of_the_list_it_takes_a_minute),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
