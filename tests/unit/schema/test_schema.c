/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_schema.c - an event beside the columns of a table: types, values and names.
 *
 * test_schema_values.py compares the verdicts with the real engine's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/event_id.h"
#include "alloy/schema.h"

#define S(text)                  \
    {                            \
        (text), sizeof(text) - 1 \
    }

static const struct schema_source_column columns[] = {
    {S("event_id"), S("String"), S("")},
    {S("n"), S("Int32"), S("")},
    {S("at"), S("DateTime64(3, 'UTC')"), S("DEFAULT")},
    {S("tags"), S("Map(LowCardinality(String), Array(Nullable(Int8)))"), S("DEFAULT")},
    {S("kind"), S("Enum8('a' = 1, 'it''s' = 2, '\\'b\\\\' = -3)"), S("DEFAULT")},
    {S("who"), S("Tuple(name String, `the age` UInt8)"), S("DEFAULT")},
    {S("maybe"), S("Nullable(UInt8)"), S("")},
    {S("sum"), S("AggregateFunction(sum, Tuple(a String, b UInt8))"), S("")},
    {S("twice"), S("UInt64"), S("MATERIALIZED")},
    {S("raw"), S("String"), S("EPHEMERAL")},
    {S("in.a"), S("Array(UInt8)"), S("DEFAULT")},
};

static struct schema_findings findings;

static struct schema *schema_of(unsigned flags)
{
    struct schema *schema = schema_create(
        &(struct schema_source){.columns = columns, .count = ARRAY_LEN(columns), .flags = flags});

    assert_non_null(schema);
    return schema;
}

/* Scans the event, and puts it beside the columns. Returns the findings as text. */
static const char *checked(const struct schema *schema, struct schema_guess *guess,
                           const char *event)
{
    static const struct json_scan_fields fields = {.names = {S("event_id")}, .count = 1};
    static char text[4096];
    struct json_scan_member members[32];
    struct json_scan scan;
    struct json_scan_event found;
    size_t len = 0;

    json_scan_init(&scan, &fields, event, strlen(event));
    scan.members = members;
    scan.member_max = ARRAY_LEN(members);
    assert_int_equal(json_scan_next(&scan, &found), JSON_SCAN_EVENT);
    (void)schema_check(
        schema, guess,
        &(struct schema_event){members, scan.member_count, false, found.text.data + found.text.len},
        &findings);
    text[0] = '\0';
    for (size_t i = 0; i < findings.count; i++) {
        const struct schema_finding *finding = &findings.list[i];

        len +=
            (size_t)sprintf(text + len, "%s%.*s %s %.*s", i > 0 ? "; " : "", (int)finding->name.len,
                            finding->name.data, schema_problem_name(finding->problem),
                            (int)finding->value.len, finding->value.data);
    }
    return text;
}

static void an_event_that_fits_has_nothing_told(void **state)
{
    struct schema *schema = schema_of(0);
    struct schema_guess guess = {{0}};

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_string_equal(
            checked(schema, &guess,
                    "{ \"event_id\" : \"1\" , \"n\":5,\"at\":\"2026-01-31T10:00:00Z\", "
                    "\"tags\":{\"a\":[1,null]},\"kind\":\"it's\",\"who\":{\"name\":\"x\","
                    "\"the age\":9},\"maybe\":null,\"sum\":[{}],\"raw\":\"r\",\"in.a\":[1] }"),
            "");
        assert_string_equal(checked(schema, &guess, "{\"n\":5,\"event_id\":\"1\"}"), "");
    }
    schema_put(schema);
}

static void what_does_not_fit_is_told_with_its_text(void **state)
{
    struct schema *schema = schema_of(0);
    struct schema_guess guess = {{0}};

    (void)state;
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\":2147483648}"),
                        "n range 2147483648");
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\": 1.5 }"), "n kind 1.5");
    assert_string_equal(
        checked(schema, &guess, "{\"event_id\":\"1\",\"n\":null,\"x\":[1] , \"y\":2}"),
        "n null null; x unknown [1]; y unknown 2");
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"at\":1769860800}"),
                        "at unit 1769860800; n missing ");
    assert_string_equal(
        checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"tags\":{\"a\":[1,300]}}"),
        "tags range 300");
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"kind\":\"c\"}"),
                        "kind format \"c\"");
    assert_string_equal(
        checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"who\":{\"the age\":-1}}"),
        "who range -1");
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"n\":2}"),
                        "n twice 2");
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"twice\":2}"),
                        "twice not_stored 2");
    schema_put(schema);
}

static void null_takes_a_default_that_the_column_has(void **state)
{
    struct schema *schema = schema_of(0);
    struct schema_guess guess = {{0}};

    (void)state;
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"at\":null}"), "");
    schema_put(schema);
}

static void names_are_decoded_and_folded_where_the_server_does(void **state)
{
    struct schema *exact = schema_of(0), *folded = schema_of(SCHEMA_IGNORE_CASE);
    struct schema_guess guess = {{0}};
    const char *event = "{\"event_id\":\"1\",\"N\":1,\"\\u0061t\":\"x\"}";

    (void)state;
    assert_string_equal(checked(exact, &guess, event),
                        "N unknown 1; \\u0061t format \"x\"; n missing ");
    assert_string_equal(checked(folded, &guess, event), "\\u0061t format \"x\"");
    schema_put(exact);
    schema_put(folded);
}

static void nested_members_count_as_columns_where_the_server_imports_them(void **state)
{
    struct schema *plain = schema_of(0), *nested = schema_of(SCHEMA_NESTED);
    struct schema_guess guess = {{0}};
    const char *event = "{\"event_id\":\"1\",\"n\":1,\"in\":{\"a\":[1]}}";

    (void)state;
    assert_string_equal(checked(plain, &guess, event), "in unknown {\"a\":[1]}");
    assert_string_equal(checked(nested, &guess, event), "");
    schema_put(plain);
    schema_put(nested);
}

static void of_a_part_of_the_columns_nothing_is_unknown(void **state)
{
    struct schema *schema = schema_of(SCHEMA_PARTIAL);
    struct schema_guess guess = {{0}};

    (void)state;
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\",\"n\":1,\"x\":1}"), "");
    schema_put(schema);
}

static void what_alloy_fills_is_not_missing(void **state)
{
    const struct slice given = S("n");
    struct schema *schema = schema_create(&(struct schema_source){
        .columns = columns, .count = ARRAY_LEN(columns), .given = &given, .given_count = 1});
    struct schema_guess guess = {{0}};

    (void)state;
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"1\"}"), "");
    schema_put(schema);
}

static void types_that_are_not_understood_take_everything(void **state)
{
    static const char *const types[] = {"",
                                        "Int",
                                        "Array(",
                                        "Array()",
                                        "Enum8('a)",
                                        "Decimal(9)",
                                        "Map(Int8)",
                                        "Tuple(a Int8, String)",
                                        "DateTime64(x)",
                                        "Nullable",

                                        "Variant(Int8",
                                        "Variant(Int8, String)",
                                        "Dynamic",
                                        "Nested(a Int8",
                                        "SimpleAggregateFunction(sum)",
                                        "AggregateFunction(sum, UInt8)",
                                        "FixedString(99999999999)",
                                        "Array(Int8)x",
                                        "`",
                                        "Tuple()"};
    struct schema_guess guess = {{0}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        const struct schema_source_column column = {
            S("event_id"), {types[i], strlen(types[i])}, S("")};
        struct schema *schema =
            schema_create(&(struct schema_source){.columns = &column, .count = 1});

        assert_non_null(schema);
        assert_string_equal(checked(schema, &guess, "{\"event_id\":\"99999999999\"}"), "");
        schema_put(schema);
    }
}

/* Says what the check of one column of that type has against a value: a problem's name, or none. */
static const char *verdict(const char *type, const char *value)
{
    struct schema_guess guess = {{0}};
    const struct schema_source_column column = {S("v"), {type, strlen(type)}, S("")};
    struct schema *schema = schema_create(&(struct schema_source){.columns = &column, .count = 1});
    char event[256];

    assert_non_null(schema);
    sprintf(event, "{\"v\":%s,\"event_id\":\"x\"}", value);
    (void)checked(schema, &guess, event);
    schema_put(schema);
    for (size_t i = 0; i < findings.count; i++)
        if (findings.list[i].problem != SCHEMA_UNKNOWN)
            return schema_problem_name(findings.list[i].problem);
    return schema_problem_name(SCHEMA_FITS);
}

static void values_beyond_the_limits_are_told_and_the_limits_are_not(void **state)
{
    static const struct {
        const char *type, *value, *problem;
    } cases[] = {
        {"Date", "\"2149-06-06\"", "none"},
        {"Date", "\"2149-06-07\"", "range"},
        {"Date", "\"1969-12-31\"", "range"},
        {"Date32", "\"1900-01-01\"", "none"},
        {"Date32", "\"1899-12-31\"", "range"},
        {"Date32", "\"2299-12-31\"", "none"},
        {"Date32", "\"23000101\"", "range"},
        {"Date32", "2932896", "none"},
        {"Date32", "2932897", "range"},
        {"Date32", "1769860800", "range"},
        {"Date32", "20260131", "range"},
        {"Date32", "-719528", "none"},
        {"Date32", "-719529", "range"},
        {"DateTime('UTC')", "\"2106-02-07 06:28:15\"", "none"},
        {"DateTime('UTC')", "\"2106-02-07 06:28:16\"", "range"},
        {"DateTime('UTC')", "\"1969-12-31 23:59:59\"", "range"},
        {"DateTime", "\"2106-02-07 06:28:16\"", "none"},
        {"DateTime", "\"2106-02-08\"", "range"},
        {"DateTime", "\"2106-02-07T08:28:16+02:00\"", "range"},
        {"DateTime", "\"2106-02-07T08:28:15+02:00\"", "none"},
        {"DateTime", "\"4294967296\"", "range"},
        {"DateTime64(3)", "\"9999-12-31 23:59:59.999\"", "none"},
        {"DateTime64(3)", "\"9999-12-31 23:59:59-01:00\"", "range"},
        {"DateTime64(3)", "-62167219200000", "none"},
        {"DateTime64(3)", "-62167219200001", "range"},
        {"DateTime64(8)", "\"5000-01-01\"", "range"},
        {"DateTime64(9, 'UTC')", "\"2262-04-11 23:47:16\"", "none"},
        {"DateTime64(9, 'UTC')", "\"2262-04-11 23:47:17\"", "range"},
        {"DateTime64(9)", "-9223372036854775809", "range"},
        /* 1975, which is a time in milliseconds only in coarser ticks. */
        {"DateTime64(4)", "1577664000000", "none"},
        {"DateTime64(5)", "1577664000000", "unit"},
        {"Time", "3599999", "none"},
        {"Time", "-3600000", "range"},
        {"Time", "\"999:59:60\"", "range"},
        {"Time", "\"10:11:12.5\"", "format"},
        {"Time64(3)", "\"10:11:12.5\"", "none"},
        {"Float32", "3.4028235e38", "none"},
        {"Float32", "3.4028236e38", "range"},
        {"Float64", "1.7976931348623157e308", "none"},
        {"Float64", "\"-1.8e308\"", "range"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (strcmp(verdict(cases[i].type, cases[i].value), cases[i].problem) != 0)
            fail_msg("%s %s: %s", cases[i].type, cases[i].value,
                     verdict(cases[i].type, cases[i].value));
}

static void odd_spellings_are_read_as_the_server_reads_them(void **state)
{
    static const struct {
        const char *type, *value, *problem;
    } cases[] = {
        {"Float64", "\"1.5e\"", "format"},
        {"Float64", "\"1..5\"", "format"},
        {"Float64", "\"-infinity\"", "none"},
        {"Float64", "\"NaN(1)\"", "none"},
        {"Float64", "\"nano\"", "format"},
        {"Float64", "\"+.5\"", "none"},
        {"Decimal(9, 2)", "\"1.5e\"", "none"},
        {"Decimal(9, 2)", "\"1.5e-\"", "format"},
        {"Decimal(9, 2)", "\"1.5.e5\"", "none"},
        {"Decimal(9, 2)", "\"1.5.e+\"", "format"},
        {"Decimal(9, 2)", "\"1e5.\"", "format"},
        {"Decimal(9, 2)", "\"-inf\"", "format"},
        {"Decimal(9, 2)", "\".\"", "format"},
        {"Int32", "\"\\u0031\"", "format"},
        {"IPv4", "\"0010.2.3.4\"", "none"},
        {"IPv6", "\"01.2.3.4\"", "format"},
        {"IPv6", "\"1.2.3.04\"", "none"},
        {"IPv6", "\"::ffff:01.2.3.4\"", "none"},
        {"IPv6", "\"::ffff:1.2.3\"", "format"},
        {"IPv6", "\"1:2:3:4:5:6:1.2.3.4\"", "none"},
        {"IPv6", "\"1:2:3:4:5:6:7:1.2.3.4\"", "format"},
        {"IPv6", "\"::\"", "none"},
        {"DateTime64(3)", "\"2026_01_31\"", "none"},
        {"DateTime64(3)", "\"31-Jan-2026 10:00:00\"", "none"},
        {"DateTime64(3)", "\"Sat, 31 Jan 2026 10:00:00 GMT\"", "none"},
        {"DateTime64(3)", "\"2026-01-31 10:00:00junk\"", "format"},
        {"DateTime64(3)", "\"2026-13-01 10:00\"", "format"},
        {"DateTime64(3)", "\"1769860800123456\"", "none"},
        {"DateTime64(3)", "\"17698608001\"", "format"},
        {"DateTime", "\"1769860800.5\"", "format"},
        {"DateTime64(3)", "\"1769860800.5\"", "none"},
        {"DateTime", "\"0000-07-26\"", "format"},
        {"Variant(UInt8, Date)", "300", "none"},
        {"Variant(UInt8, Date)", "70000", "range"},
        {"Variant(UInt8, Date)", "\"x\"", "format"},
        {"Variant(UInt8, Date)", "[]", "kind"},
        {"Variant(UInt8, Date)", "null", "none"},
        {"Nested(a UInt8, b String)", "[{\"a\":300}]", "range"},
        {"Nested(a UInt8, b String)", "[{\"a\":3,\"b\":\"x\"}]", "none"},
        {"SimpleAggregateFunction(sum, UInt8)", "300", "range"},
        {"SimpleAggregateFunction(groupArrayArray(5), Array(UInt8))", "[3]", "none"},
        {"AggregateFunction(sum, UInt8)", "300", "none"},
        {"IntervalDay", "1.5", "kind"},
        {"Polygon", "[[[1,2]]]", "none"},
        {"Polygon", "[[[1,\"x\"]]]", "format"},
        {"LowCardinality(Nullable(Date))", "null", "none"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (strcmp(verdict(cases[i].type, cases[i].value), cases[i].problem) != 0)
            fail_msg("%s %s: %s", cases[i].type, cases[i].value,
                     verdict(cases[i].type, cases[i].value));
}

static void a_deep_type_is_not_checked_and_does_no_harm(void **state)
{
    char type[4096] = "";
    struct schema_guess guess = {{0}};
    struct schema_source_column column = {S("event_id"), {type, 0}, S("")};
    struct schema *schema;

    (void)state;
    for (int i = 0; i < 300; i++)
        strcat(type, "Array(");
    strcat(type, "Int8");
    for (int i = 0; i < 300; i++)
        strcat(type, ")");
    column.type.len = strlen(type);
    schema = schema_create(&(struct schema_source){.columns = &column, .count = 1});
    assert_non_null(schema);
    assert_string_equal(checked(schema, &guess, "{\"event_id\":\"x\"}"), "");
    schema_put(schema);
}

static void a_schema_lives_as_long_as_it_is_held(void **state)
{
    struct schema *schema = schema_of(0);

    (void)state;
    assert_ptr_equal(schema_get(schema), schema);
    schema_put(schema);
    assert_string_equal(schema_column_type(schema, 1), "Int32");
    schema_put(schema);
    schema_put(NULL);
    assert_null(schema_create(&(struct schema_source){.columns = columns, .count = 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_that_fits_has_nothing_told),
        cmocka_unit_test(what_does_not_fit_is_told_with_its_text),
        cmocka_unit_test(null_takes_a_default_that_the_column_has),
        cmocka_unit_test(names_are_decoded_and_folded_where_the_server_does),
        cmocka_unit_test(nested_members_count_as_columns_where_the_server_imports_them),
        cmocka_unit_test(of_a_part_of_the_columns_nothing_is_unknown),
        cmocka_unit_test(what_alloy_fills_is_not_missing),
        cmocka_unit_test(types_that_are_not_understood_take_everything),
        cmocka_unit_test(values_beyond_the_limits_are_told_and_the_limits_are_not),
        cmocka_unit_test(odd_spellings_are_read_as_the_server_reads_them),
        cmocka_unit_test(a_deep_type_is_not_checked_and_does_no_harm),
        cmocka_unit_test(a_schema_lives_as_long_as_it_is_held),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
