/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_json_id.c - what an id can be made of, where the events of a body can be, and how a scan
 * goes on behind what is at fault.
 */
#include "json_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define EVENTS_MAX 16
#define OUT_MAX 1024

static struct json_scan_fields fields;
static struct slice headers[JSON_SCAN_SOURCES_MAX];

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void begin(const char *events)
{
    memset(&fields, 0, sizeof(fields));
    memset(headers, 0, sizeof(headers));
    fields.events = text_of(events);
}

/* A source of the given part: a member, the rest of a pointer into it, or a header's value. */
static void add_member(size_t part, const char *name, const char *rest)
{
    fields.names[fields.count] = text_of(name);
    fields.sources[fields.source_count++] =
        (struct json_scan_source){.name = fields.count++, .rest = text_of(rest), .part = part};
}

static void add_header(size_t part, const char *value)
{
    headers[fields.source_count] = text_of(value);
    fields.sources[fields.source_count++] =
        (struct json_scan_source){.kind = JSON_SCAN_OF_HEADER, .part = part};
}

/* The ids of a body's events, each with a blank behind it, then how it ended: '.', or the problem
 * and its offset. Where lenient it goes on behind what is at fault: '!' and the offset. */
static const char *scan_body(const char *body, bool lenient)
{
    static char out[OUT_MAX];
    struct json_scan scan;
    struct json_scan_event event;
    size_t len = 0;

    json_scan_init(&scan, &fields, body, strlen(body));
    scan.headers = headers;
    for (;;) {
        const enum json_scan_result result = json_scan_next(&scan, &event);

        if (result == JSON_SCAN_EVENT) {
            len += (size_t)snprintf(out + len, OUT_MAX - len, "%.*s ", (int)event.id.len,
                                    event.id.data);
            continue;
        }
        if (result == JSON_SCAN_END) {
            snprintf(out + len, OUT_MAX - len, ".");
            return out;
        }
        if (lenient && json_scan_skip(&scan, result)) {
            len += (size_t)snprintf(out + len, OUT_MAX - len, "!%zu ", scan.error_offset);
            continue;
        }
        snprintf(out + len, OUT_MAX - len, "%zu %s", scan.error_offset, scan.problem);
        return out;
    }
}

#define EXPECT(body, wanted) assert_string_equal(scan_body((body), false), (wanted))
#define EXPECT_LENIENT(body, wanted) assert_string_equal(scan_body((body), true), (wanted))

static void events_stand_in_an_envelope_whatever_is_around_them(void **state)
{
    (void)state;
    begin("batch");
    add_member(0, "id", "");
    EXPECT("{\"batch\":[{\"id\":1},{\"id\":2}]}", "1 2 .");
    EXPECT("{\"a\":[1,{\"batch\":[]}],\"id\":{},\"batch\" : [ {\"id\":1} ] , \"sentAt\":null}",
           "1 .");
    EXPECT("{\"batch\":[{\"id\":1}]}{\"batch\":[{\"id\":2}]} {\"id\":3}", "1 2 3 .");
    EXPECT("{\"batch\":[]}{\"id\":3}", "3 .");
    EXPECT("{\"batch\":[]}", "12 The body holds no event.");
    EXPECT("{\"id\":7,\"x\":1}", "7 .");
    /* In an array, and in an event of a batch, the name means nothing. */
    EXPECT("[{\"id\":1,\"batch\":[{\"id\":2}]}]", "1 .");
    EXPECT("{\"batch\":[{\"id\":1,\"batch\":[{\"id\":2}],\"batch\":[]}]}", "1 .");
    /* No array: the object is an event. */
    EXPECT("{\"id\":1,\"batch\":{\"id\":2}}", "1 .");
    EXPECT("{\"id\":1,\"batch\":null}", "1 .");
    EXPECT("{\"batch\":\"[]\"}", "0 An id field is missing.");
}

static void an_envelope_is_checked_to_its_end(void **state)
{
    (void)state;
    begin("batch");
    add_member(0, "id", "");
    EXPECT("{\"batch\":[{\"id\":1}],\"batch\":[{\"id\":2}]}",
           "1 20 The array of events is given twice.");
    EXPECT("{\"batch\":[{\"id\":1}],\"x\":[}", "1 25 A value was expected.");
    EXPECT("{\"batch\":[{\"id\":1}]", "1 19 The body ends too early.");
    EXPECT("{\"batch\":[{\"id\":1}", "1 18 The body ends too early.");
    EXPECT("{\"batch\":[{\"id\":1},]}", "1 19 An object was expected.");
    EXPECT("{\"batch\":[1]}", "10 An object was expected.");
    EXPECT("{\"batch\":[{\"id\":1} {\"id\":2}]}", "1 19 A comma or ']' was expected.");
    EXPECT("{\"batch\":[{\"id\":1}]x}", "1 19 A comma or '}' was expected.");
    EXPECT("{\"batch\":[{\"id\":1}]}]", "1 20 An object was expected.");
}

static void pointers_lead_into_members(void **state)
{
    (void)state;
    begin("");
    add_member(0, "a", "/b~1c/1/~0d");
    EXPECT("{\"a\":{\"x\":0,\"b\\/c\":[0,{\"\\u007ed\":\"i\\u0064\"}]}}", "id .");
    EXPECT("{\"a\":{\"b/c\":[0,{\"~d\":-0}]}}", "0 .");
    EXPECT("{\"a\":{\"b/c\":[0,{\"~d\":1.5}]}}", "21 The id is neither a string nor an integer.");
    EXPECT("{\"a\":{\"b/c\":[0]}}", "0 An id field is missing.");
    EXPECT("{\"a\":{\"b/c\":{\"1\":{\"~d\":1}}}}", "1 .");
    EXPECT("{\"a\":\"b/c\"}", "0 An id field is missing.");
    EXPECT("{\"a\":{\"b/c\":[0,{\"~d\":1}],\"b/c\":[0,{\"~d\":2}]}}",
           "5 An id field is given twice.");
    begin("");
    add_member(0, "a", "/01");
    EXPECT("{\"a\":[1,2]}", "0 An id field is missing.");
    EXPECT("{\"a\":{\"01\":2}}", "2 .");
    begin("");
    add_member(0, "", "");
    EXPECT("{\"\":3}", "3 .");
}

static void of_alternatives_the_first_that_is_there_counts(void **state)
{
    (void)state;
    begin("");
    add_member(0, "a", "");
    add_member(0, "b", "/c");
    add_member(1, "d", "");
    EXPECT("{\"a\":1,\"b\":{\"c\":2},\"d\":3}", "1:3 .");
    EXPECT("{\"a\":null,\"b\":{\"c\":2},\"d\":3}", "2:3 .");
    EXPECT("{\"d\":3}", "0 An id field is missing.");
    EXPECT("{\"a\":1}", "0 An id field is missing.");
    EXPECT("{\"a\":true,\"b\":{\"c\":2},\"d\":3}", "5 The id is neither a string nor an integer.");
    EXPECT("{\"a\":1,\"d\":null}", "11 The id is neither a string nor an integer.");
}

static void a_header_names_the_request_and_a_number_its_later_events(void **state)
{
    char header[EVENT_ID_PART_MAX];

    (void)state;
    begin("");
    add_header(0, "abc");
    EXPECT("{}{}{}", "abc abc:1 abc:2 .");
    headers[0] = text_of("");
    EXPECT("{}", "0 An id field is missing.");
    memset(header, 'x', EVENT_ID_PART_MAX - 1);
    headers[0] = (struct slice){header, EVENT_ID_PART_MAX - 1};
    /* The first one's fits, and the second one's number does not. */
    assert_string_equal(scan_body("{}{}", true) + EVENT_ID_PART_MAX - 1, " !2 .");
    begin("");
    add_member(0, "source", "");
    add_header(0, "/h");
    add_member(1, "id", "");
    add_header(1, "9");
    EXPECT("{\"source\":\"/b\",\"id\":\"1\"}{}", "/b:1 /h\\:1:9\\:1 .");
}

static void a_missing_id_is_generated_or_made_of_the_bytes(void **state)
{
    char first[OUT_MAX];
    const char *second;

    (void)state;
    begin("");
    add_member(0, "id", "");
    fields.missing = JSON_SCAN_HASH;
    strcpy(first, scan_body("{\"a\":1}", false));
    assert_int_equal(strlen(first), EVENT_ID_MADE_LEN + 2);
    assert_int_equal(first[14], '8');
    EXPECT(" {\"a\":1} ", first);
    assert_string_not_equal(scan_body("{\"a\":2}", false), first);
    EXPECT("{\"id\":5}", "5 .");
    assert_int_equal(strlen(scan_body("{\"id\":null}", false)), EVENT_ID_MADE_LEN + 2);
    EXPECT("{\"id\":\"\"}", "6 The id is empty.");
    fields.missing = JSON_SCAN_GENERATE;
    strcpy(first, scan_body("{\"a\":1}", false));
    assert_int_equal(first[14], '7');
    second = scan_body("{\"a\":1}", false);
    assert_string_not_equal(second, first);
    assert_true(strncmp(first, second, 8) <= 0);
    fields.missing = JSON_SCAN_REFUSE_MISSING;
    fields.missing_problem = "No id!";
    EXPECT("{}", "0 No id!");
}

static void a_lenient_scan_goes_on_behind_what_is_at_fault(void **state)
{
    (void)state;
    begin("batch");
    add_member(0, "id", "");
    EXPECT_LENIENT("{\"id\":1}\n{\"x\":1}\n{\"id\":[]}\n{\"id\":4}", "1 !9 !23 4 .");
    EXPECT_LENIENT("[{},{\"id\":2},{\"id\":\"\"}]", "!1 2 !19 .");
    EXPECT_LENIENT("{\"batch\":[{},{\"id\":2}]}", "!10 2 .");
    EXPECT_LENIENT("{\"id\":1}\nnonsense\n{\"id\":3}\n{\"id\":", "1 !9 3 !33 .");
    EXPECT_LENIENT("nonsense", "!0 .");
    /* Brackets and quotes tell where the bad one ends. */
    EXPECT_LENIENT("[{\"id\":1},{\"id\":2,\"id\":3},{\"id\":4}]", "1 !18 4 .");
    EXPECT_LENIENT("{\"id\":1}{\"id\":2,\"id\":3}{\"id\":4}", "1 !16 4 .");
    EXPECT_LENIENT("{\"id\":1}{\"id\":x}{\"id\":3}", "1 !14 3 .");
    EXPECT_LENIENT("{\"id\":1}\n{\"id\":x} {\"id\":3}\n", "1 !15 3 .");
    EXPECT_LENIENT("{\"id\":1\n}{\"id\":2,\n}\n{\"id\":3}", "1 !18 3 .");
    EXPECT_LENIENT("[{\"id\":1},{\"id\":x,\"y\":[{}]} ,{\"id\":3}]", "1 !16 3 .");
    EXPECT_LENIENT("{\"batch\":[{\"id\":\"\\ud800\"},{\"id\":3}]}", "!17 3 .");
    EXPECT_LENIENT("[{\"id\":\"\xff}\"},{\"id\":3}]", "!8 3 .");
    EXPECT_LENIENT(" {\"id\":x}  \r\n\t{\"id\":2}", "!7 2 .");
    EXPECT_LENIENT("{\n \"id\":1,\n \"n\":01,\n \"items\":[\n {\"id\":2}\n ]\n}\n{\"id\":3}",
                   "!17 3 .");
    EXPECT_LENIENT("[7,{\"id\":2},[{\"id\":3}, []],\"x\" ,{\"id\":4},null]",
                   "!1 2 !12 !27 4 !41 .");
    EXPECT_LENIENT("{\"batch\":[true,{\"id\":2}],\"id\":9}", "!10 2 .");
    EXPECT_LENIENT("[{\"id\":1},7x]", "1 !10 11 A comma or ']' was expected.");
    /* A line that breaks off, with others like it. */
    EXPECT_LENIENT("{\"id\":1}\n{\"id\":\"2\n{\"id\":3}\n", "1 !17 3 .");
    /* Nobody can tell where the next event begins. */
    EXPECT_LENIENT("{\n \"id\":\"1,\n \"x\":[\n {\"id\":2}\n ]\n}\n",
                   "11 A string holds a raw control byte.");
    EXPECT_LENIENT("{\"id\":1}5{\"id\":3}", "1 8 An object was expected.");
    EXPECT_LENIENT("[{\"id\":1},{\"id\":\"2},{\"id\":3}]", "1 22 A comma or '}' was expected.");
    EXPECT_LENIENT("", "0 The body holds no event.");
}

/* Would each search for its end go on through all the others, this took minutes. */
static void a_million_broken_lines_are_passed_over_in_one_pass(void **state)
{
    const size_t lines = 1000000, len = 4 * lines;
    char *body = malloc(len);
    struct json_scan scan;
    struct json_scan_event event;
    size_t bad = 0;

    (void)state;
    begin("");
    add_member(0, "id", "");
    assert_non_null(body);
    for (size_t i = 0; i < lines; i++)
        memcpy(body + 4 * i, i % 2 == 0 ? "{xx\n" : "{\"x\n", 4);
    json_scan_init(&scan, &fields, body, len);
    while (json_scan_next(&scan, &event) == JSON_SCAN_INVALID_JSON &&
           json_scan_skip(&scan, JSON_SCAN_INVALID_JSON))
        bad++;
    assert_int_equal(bad, lines);
    assert_true(scan.searched <= 2 * len);
    free(body);
}

static void a_member_that_the_request_fills_is_refused_or_told(void **state)
{
    struct json_scan scan;
    struct json_scan_event event;
    static const char body[] = "{\"id\":1,\"c\":2,\"c\":3}{\"id\":2,\"x\":{\"c\":1}}";

    (void)state;
    begin("");
    add_member(0, "id", "");
    fields.names[fields.count++] = text_of("c");
    fields.names[fields.count++] = text_of("d");
    fields.columns[0] = 2;
    fields.columns[1] = 1;
    fields.column_names = 2;
    fields.column_count = 2;
    EXPECT("{\"id\":1,\"x\":2}", "1 .");
    EXPECT("{\"id\":1,\"c\":2}", "12 The event has a member that this stream's configuration fills "
                                 "(column_conflict).");
    EXPECT("{\"c\":2}", "0 An id field is missing.");
    EXPECT_LENIENT("{\"id\":1,\"c\":2}{\"id\":2}", "!12 2 .");
    fields.columns_yield = true;
    json_scan_init(&scan, &fields, body, strlen(body));
    assert_int_equal(json_scan_next(&scan, &event), JSON_SCAN_EVENT);
    assert_int_equal(event.own_columns, 2);
    assert_int_equal(json_scan_next(&scan, &event), JSON_SCAN_EVENT);
    assert_int_equal(event.own_columns, 0);
    fields.columns[0] = 0; /* a column may be an id's member too */
    json_scan_init(&scan, &fields, body, strlen(body));
    assert_int_equal(json_scan_next(&scan, &event), JSON_SCAN_EVENT);
    assert_int_equal(event.own_columns, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_stand_in_an_envelope_whatever_is_around_them),
        cmocka_unit_test(an_envelope_is_checked_to_its_end),
        cmocka_unit_test(pointers_lead_into_members),
        cmocka_unit_test(of_alternatives_the_first_that_is_there_counts),
        cmocka_unit_test(a_header_names_the_request_and_a_number_its_later_events),
        cmocka_unit_test(a_missing_id_is_generated_or_made_of_the_bytes),
        cmocka_unit_test(a_lenient_scan_goes_on_behind_what_is_at_fault),
        cmocka_unit_test(a_million_broken_lines_are_passed_over_in_one_pass),
        cmocka_unit_test(a_member_that_the_request_fills_is_refused_or_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
