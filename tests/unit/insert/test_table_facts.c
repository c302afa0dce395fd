/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table_facts.c - what a server says about itself and a table, and which fields an event lacks
 * or has beyond the table's columns.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "table_facts.h"

/* UUID, time of change and engine_full, where they do not matter. */
#define REST "\t04c6ec45-360b-40ab-80d8-65ebb7d9f765\t1795852244\tMergeTree ORDER BY id\n"

static bool read_facts(const char *text, struct table_facts *facts)
{
    return table_facts_read((struct slice){text, strlen(text)}, facts);
}

static void async_is_safe_only_on_versions_known_to_be_good(void **state)
{
    static const struct {
        const char *version;
        bool plain;
        bool partitioned;
    } cases[] = {
        {"25.8.3.1", false, false},   {"26.3.17.65", false, false}, {"26.4.0.9", false, false},
        {"26.4.1.1", true, false},    {"26.4.5.150", true, false},  {"26.4.5.151", true, true},
        {"26.4.6.1", true, true},     {"26.5.6.62", true, false},   {"26.5.6.63", true, true},
        {"26.6.2.97", true, false},   {"26.6.2.98", true, true},    {"26.7.2.1", true, true},
        {"27.1.1.1", true, true},     {"26.7", false, false},       {"unknown", false, false},
        {"26.7.2.1-lts", true, true},
    };
    struct table_facts facts;
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "%s\t1\tMergeTree\t0\t1000\t0" REST, cases[i].version);
        assert_true(read_facts(text, &facts));
        assert_int_equal(facts.async_unsafe == NULL, cases[i].plain);
        assert_string_equal(facts.version, cases[i].version);
        snprintf(text, sizeof(text), "%s\t1\tMergeTree\t1\t1000\t0" REST, cases[i].version);
        assert_true(read_facts(text, &facts));
        assert_int_equal(facts.async_unsafe == NULL, cases[i].partitioned);
        snprintf(text, sizeof(text), "%s\t1\tDistributed\t0\t\t0" REST, cases[i].version);
        assert_true(read_facts(text, &facts));
        assert_int_equal(facts.async_unsafe == NULL, cases[i].partitioned);
    }
}

static void an_insert_that_can_double_is_told(void **state)
{
    static const struct {
        const char *rest;
        const char *told; /* "": nothing */
    } cases[] = {
        {"1\tMergeTree\t0\t\t0" REST, "no non_replicated_deduplication_window"},
        {"1\tReplacingMergeTree\t0\t0\t0" REST, "no non_replicated_deduplication_window"},
        {"1\tMergeTree\t0\t1\t0" REST, ""},
        {"1\tReplicatedMergeTree\t0\t\t0" REST, ""},
        {"1\tSharedReplacingMergeTree\t0\t\t0" REST, ""},
        {"1\tDistributed\t0\t\t0" REST, ""},
        {"1\tMemory\t0\t\t0" REST, "its engine"},
        {"1\tBuffer\t0\t\t0" REST, "its engine"},
        {"1\tIcebergS3\t0\t\t0" REST, "its engine"},
        {"1\tEmbeddedRocksDB\t0\t\t0" REST, ""},
        {"1\tNull\t0\t\t0" REST, ""},
        {"0\t\t0\t\t0" REST, ""},
    };
    struct table_facts facts;
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "26.7.2.1\t%s", cases[i].rest);
        assert_true(read_facts(text, &facts));
        assert_int_equal(facts.doubles != NULL, cases[i].told[0] != '\0');
        if (facts.doubles != NULL)
            assert_ptr_equal(strstr(facts.doubles, cases[i].told), facts.doubles);
        assert_int_equal(facts.table_exists, cases[i].rest[0] == '1');
    }
}

static void what_the_server_said_is_kept_for_the_log(void **state)
{
    struct table_facts facts;

    (void)state;
    assert_true(read_facts("26.7.2.1\t1\tMergeTree\t1\t1000\t0" REST, &facts));
    assert_string_equal(facts.engine, "MergeTree");
    assert_string_equal(facts.window, "1000");
    assert_true(facts.partitioned);
    assert_false(facts.has_views);
    assert_true(read_facts("26.7.2.1\t1\tMergeTree\t1\t1000\t2" REST, &facts));
    assert_true(facts.has_views);
    assert_true(read_facts("26.7.2.1\t1\tDistributed\t0\t\t0" REST, &facts));
    assert_true(facts.has_views); /* who knows */
    assert_true(read_facts("26.7.2.1\t1\tMergeTree\t1\t1000\t0" REST, &facts));
    assert_true(read_facts("26.7.2.1\t0\t\t0\t\t0" REST, &facts));
    assert_string_equal(facts.engine, "-");
    assert_string_equal(facts.window, "-");
    assert_false(facts.partitioned);
}

static void anything_else_is_no_answer(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        "26.7.2.1\n",
        "26.7.2.1\t1\tMergeTree\t0\t1000\t0\tu\t1\tM",
        "26.7.2.1\t1\tMergeTree\t0\t1000\t0\n",
        "a\tb\tc\td\te\tf\tg\th\ti\tj\n",
        "\t1\tMergeTree\t0\t1\t0" REST,
        "<html>\n",
        "0123456789012345678901234567890123456789012345678901234567890123\t1\tM\t0\t1\t0" REST,
    };
    struct table_facts facts;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(read_facts(texts[i], &facts));
}

static void an_engine_that_keeps_its_rows_is_known(void **state)
{
    static const struct {
        const char *engine;
        bool stores;
    } cases[] = {
        {"MergeTree", true}, {"ReplicatedReplacingMergeTree", true},
        {"Log", true},       {"StripeLog", true},
        {"Memory", true},    {"Buffer", true},
        {"S3", true},        {"IcebergS3", true},
        {"Null", false},     {"Distributed", false},
        {"Kafka", false},    {"MaterializedView", false},
        {"S3Queue", false},  {"TheNextOne", false},
        {"", false},
    };
    struct table_facts facts;
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "26.7.2.1\t1\t%s\t0\t1000\t0" REST, cases[i].engine);
        assert_true(read_facts(text, &facts));
        assert_int_equal(facts.stores_rows, cases[i].stores);
    }
}

#define UUID "04c6ec45-360b-40ab-80d8-65ebb7d9f765"
#define UUID_0 "00000000-0000-0000-0000-000000000000"

static void a_table_is_known_by_its_keeper_path_or_its_uuid(void **state)
{
    static const struct {
        const char *uuid;
        const char *engine_full;
        const char *identity;
    } cases[] = {
        {UUID, "MergeTree ORDER BY id", UUID},
        {UUID, "Null", UUID},
        {UUID_0, "MergeTree ORDER BY id", ""},
        {"", "", ""},
        {UUID, "ReplicatedMergeTree(\\'/tables/{shard}/t\\', \\'{replica}\\') ORDER BY id",
         "/tables/{shard}/t"},
        {UUID_0, "SharedReplacingMergeTree(\\'/tables/x\\', \\'r\\', ver) ORDER BY id",
         "/tables/x"},
        {UUID, "ReplicatedMergeTree(\\'aux:/t/{uuid}/{shard}\\', \\'{replica}\\')",
         "aux:/t/" UUID "/{shard}"},
        {UUID, "ReplicatedMergeTree(\\'/o\\\\\\'k\\\\\\\\/(\\', \\'r\\')", "/o'k\\/("},
        {UUID_0, "ReplicatedMergeTree(\\'/t/{uuid}\\', \\'r\\')", ""},
        {UUID, "ReplicatedMergeTree ORDER BY f(\\'x\\')", UUID},
        {UUID, "ReplicatedMergeTree(ver) ORDER BY id", UUID},
        {UUID, "ReplicatedMergeTree(\\'/cut", UUID},
        {UUID, "ReplacingMergeTree(\\'x\\') ORDER BY id", UUID},
    };
    struct table_facts facts;
    char text[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "26.7.2.1\t1\tMergeTree\t0\t1000\t0\t%s\t17\t%s\n",
                 cases[i].uuid, cases[i].engine_full);
        assert_true(read_facts(text, &facts));
        assert_string_equal(facts.identity, cases[i].identity);
        assert_int_equal(facts.modified_s, 17);
    }
    assert_true(read_facts("26.7.2.1\t0\t\t0\t\t0\t\t0\t\n", &facts));
    assert_string_equal(facts.identity, "");
}

static void a_path_beyond_the_bound_gives_way_to_the_uuid(void **state)
{
    struct table_facts facts;
    char path[1200], text[1500];

    (void)state;
    memset(path, 'p', sizeof(path));
    path[600] = '\0';
    snprintf(text, sizeof(text),
             "1.1.1.1\t1\tM\t0\t1\t0\t" UUID "\t17\tReplicatedMergeTree(\\'%s\\')\n", path);
    assert_true(read_facts(text, &facts));
    assert_string_equal(facts.identity, UUID);
    path[600] = 'p';
    path[sizeof(path) - 1] = '\0';
    snprintf(text, sizeof(text),
             "1.1.1.1\t1\tM\t0\t1\t0\t" UUID "\t17\tReplicatedMergeTree(\\'%s\\')\n", path);
    assert_true(read_facts(text, &facts));
    assert_string_equal(facts.identity, UUID);
}

static struct table_columns *read_columns(const char *text)
{
    return table_columns_read((struct slice){text, strlen(text)});
}

#define TABLE                              \
    "1\t9 auto 0\tid\tString\t\n"          \
    "2\t\tv\tUInt8\tDEFAULT\n"             \
    "3\t\tm\tUInt8\tMATERIALIZED\n"        \
    "4\t\tal\tUInt8\tALIAS\n"              \
    "5\t\te\tUInt8\tEPHEMERAL\n"           \
    "6\t\tnu\tNullable(String)\t\n"        \
    "7\t\tn.a\tArray(UInt8)\t\n"           \
    "8\t\twe\"ird\\tc\\\\l\\'\tString\t\n" \
    "9\t\tID\tString\tDEFAULT\n"

static void columns_are_read_with_what_can_be_inserted(void **state)
{
    struct table_columns *columns = read_columns(TABLE);

    (void)state;
    assert_non_null(columns);
    assert_int_equal(columns->count, 9);
    assert_false(columns->partial);
    assert_true(columns->ignore_case);
    assert_false(columns->nested_json);
    assert_string_equal(columns->columns[0].name, "id");
    assert_string_equal(columns->columns[0].type, "String");
    assert_int_equal(columns->columns[0].kind, TABLE_COLUMN_ORDINARY);
    assert_int_equal(columns->columns[1].kind, TABLE_COLUMN_DEFAULT);
    for (int i = 2; i < 4; i++)
        assert_int_equal(columns->columns[i].kind, TABLE_COLUMN_NOT_INSERTED);
    assert_int_equal(columns->columns[4].kind, TABLE_COLUMN_EPHEMERAL);
    assert_string_equal(columns->columns[4].default_kind, "EPHEMERAL");
    assert_true(columns->columns[5].nullable);
    assert_false(columns->columns[6].nullable);
    assert_string_equal(columns->columns[7].name, "we\"ird\tc\\l'");
    free(columns);
    columns = read_columns("1\t1 match_case 1\tid\tString\t\n");
    assert_false(columns->ignore_case);
    assert_true(columns->nested_json);
    free(columns);
    columns = read_columns("1\t1  0\tid\tString\t\n"); /* a server of long ago */
    assert_false(columns->ignore_case);
    free(columns);
}

static void settings_that_differ_are_noted(void **state)
{
    static const struct {
        const char *settings;
        bool times, tuples, values;
    } cases[] = {
        {"", false, false, false},
        {" date_time_input_format=best_effort input_format_json_read_bools_as_numbers=0", false,
         false, false},
        {" date_time_input_format=basic", true, false, false},
        {" input_format_json_named_tuples_as_objects=0", false, true, false},
        {" input_format_json_map_as_array_of_tuples=1", false, false, true},
        {" who_knows=1", false, false, true},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct table_columns *columns;

        snprintf(text, sizeof(text), "1\t1 auto 0%s\tid\tString\t\n", cases[i].settings);
        columns = read_columns(text);
        assert_non_null(columns);
        assert_int_equal(columns->times_differ, cases[i].times);
        assert_int_equal(columns->tuples_differ, cases[i].tuples);
        assert_int_equal(columns->values_differ, cases[i].values);
        free(columns);
    }
}

static void of_a_cut_answer_the_whole_rows_are_taken(void **state)
{
    struct table_columns *columns = read_columns("1\t7 auto 0\ta\tString\t\n2\t\tb\tString\t\n"
                                                 "3\t\tc5\tString\t\n6\t\tf\tString\t\n");

    (void)state;
    assert_int_equal(columns->count, 2);
    assert_true(columns->partial);
    free(columns);
    columns = read_columns("1\t2 auto 0\ta\tString\t\n2\t\tb\tStr");
    assert_int_equal(columns->count, 1);
    assert_true(columns->partial);
    free(columns);
}

static void anything_else_is_no_table(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        "<html>\n",
        "2\t1 auto 0\ta\tString\t\n",
        "1\tx auto 0\ta\tString\t\n",
        "1\t1\ta\tString\t\n",
        "1\t1 auto 0\ta\tString\n",
        "1\t1 auto 0\ta\tString\t",
        "1\t0123456789012345678901234567890123456789012345678901234567890123456\ta\tString\t\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_null(read_columns(texts[i]));
}

static void more_columns_than_we_ask_for_are_left_out(void **state)
{
    char *text = malloc(1u << 16);
    struct table_columns *columns;
    size_t len = (size_t)sprintf(text, "1\t1200 auto 0\tc1\tString\t\n");

    (void)state;
    for (int i = 2; i <= 1200; i++)
        len += (size_t)sprintf(text + len, "%d\t\tc%d\tString\t\n", i, i);
    columns = read_columns(text);
    assert_int_equal(columns->count, TABLE_COLUMNS_MAX);
    assert_true(columns->partial);
    free(columns);
    free(text);
}

static void assert_compared(const char *table, const char *event, const char *expected)
{
    struct table_columns *columns = read_columns(table);
    char out[TABLE_FACTS_TEXT_MAX];

    assert_non_null(columns);
    table_facts_compare(columns, (struct slice){event, strlen(event)}, out);
    assert_string_equal(out, expected);
    free(columns);
}

static void what_meets_nothing_is_named(void **state)
{
    static const char small[] = "1\t2 match_case 0\tid\tString\t\n2\t\tv\tUInt8\t\n";

    (void)state;
    assert_compared(small, "{\"id\":\"1\",\"v\":2}", "");
    assert_compared(small, "{\"id\":\"1\",\"v\":2,\"x\":{\"v\":1}}",
                    "fields meet no column and are dropped: x");
    assert_compared(small, "{\"id\":\"1\"}",
                    "columns that no field fills get their type's default: v");
    assert_compared(small, "{\"ID\":\"1\",\"V\":2}",
                    "all fields of an event meet no column and are dropped: ID, V; columns that "
                    "no field fills get their type's default: id, v");
    assert_compared(small, "{\"\\u0069d\":\"1\",\"\\v\":2}", "");
    assert_compared(small, "{\"id\":1,\"v\":1,\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1}",
                    "fields meet no column and are dropped: a, b, c, d and 2 more");
    assert_compared(small, "{}", "columns that no field fills get their type's default: id, v");
}

static void names_are_told_as_people_can_read_them(void **state)
{
    static const char small[] = "1\t1 match_case 0\tid\tString\t\n";

    (void)state;
    assert_compared(small, "{\"id\":1,\"a\\n\\\"\\u00e9\\ud83d\\ude00\\ud800\":1}",
                    "fields meet no column and are dropped: a??\xc3\xa9\xf0\x9f\x98\x80???");
    assert_compared(small, "{\"id\":1,\"abcdefghijklmnopqrstuvwxyz0123456789\":1}",
                    "fields meet no column and are dropped: abcdefghijklmnopqrstuvwxyz012...");
}

static void columns_that_take_no_field_are_not_met(void **state)
{
    (void)state;
    assert_compared(TABLE,
                    "{\"id\":\"1\",\"m\":1,\"al\":1,\"e\":1,\"n.a\":[1],\"we\\\"ird\\tc\\\\l'\":1}",
                    "fields meet no column and are dropped: m, al");
    assert_compared(TABLE, "{\"Id\":\"1\",\"N.A\":[1],\"WE\\\"IRD\\tC\\\\L'\":1}", "");
}

static void nested_columns_are_filled_as_the_settings_say(void **state)
{
    static const char off[] = "1\t3 auto 0\tn.a\tArray(UInt8)\t\n2\t\tn.b\tArray(UInt8)\t\n"
                              "3\t\tid\tString\t\n";
    static const char on[] = "1\t3 auto 1\tn.a\tArray(UInt8)\t\n2\t\tn.b\tArray(UInt8)\t\n"
                             "3\t\tid\tString\t\n";

    (void)state;
    assert_compared(off, "{\"id\":1,\"n.a\":[1],\"n.b\":[1]}", "");
    assert_compared(off, "{\"id\":1,\"n\":{\"a\":[1],\"b\":[1]}}",
                    "fields meet no column and are dropped: n; columns that no field fills get "
                    "their type's default: n.a, n.b");
    assert_compared(on, "{\"id\":1,\"n\":{\"a\":[1],\"b\":[1]}}", "");
    assert_compared(on, "{\"id\":1,\"n\":{\"a\":[1],\"c\":[1]}}",
                    "fields meet no column and are dropped: n.c; columns that no field fills get "
                    "their type's default: n.b");
}

static void what_was_not_seen_is_not_told(void **state)
{
    char *event = malloc(1u << 16);
    size_t len = 1;

    (void)state;
    assert_compared("1\t3 auto 0\tid\tString\t\n", "{\"v\":1}",
                    "columns that no field fills get their type's default: id");
    event[0] = '{';
    for (int i = 0; i < 1500; i++)
        len += (size_t)sprintf(event + len, "\"f%d\":1,", i);
    strcpy(event + len, "\"id\":1}");
    assert_compared("1\t1 auto 0\tid\tString\t\n", event, "");
    free(event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(async_is_safe_only_on_versions_known_to_be_good),
        cmocka_unit_test(an_insert_that_can_double_is_told),
        cmocka_unit_test(what_the_server_said_is_kept_for_the_log),
        cmocka_unit_test(anything_else_is_no_answer),
        cmocka_unit_test(an_engine_that_keeps_its_rows_is_known),
        cmocka_unit_test(a_table_is_known_by_its_keeper_path_or_its_uuid),
        cmocka_unit_test(a_path_beyond_the_bound_gives_way_to_the_uuid),
        cmocka_unit_test(columns_are_read_with_what_can_be_inserted),
        cmocka_unit_test(settings_that_differ_are_noted),
        cmocka_unit_test(of_a_cut_answer_the_whole_rows_are_taken),
        cmocka_unit_test(anything_else_is_no_table),
        cmocka_unit_test(more_columns_than_we_ask_for_are_left_out),
        cmocka_unit_test(what_meets_nothing_is_named),
        cmocka_unit_test(names_are_told_as_people_can_read_them),
        cmocka_unit_test(columns_that_take_no_field_are_not_met),
        cmocka_unit_test(nested_columns_are_filled_as_the_settings_say),
        cmocka_unit_test(what_was_not_seen_is_not_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
