/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_route.c - paths to streams.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "alloy/route.h"

static struct config config = {
    .streams = {{.name = "a",
                 .paths = {"/v1/a"},
                 .path_count = 1,
                 .ids = {{CONFIG_ID_MEMBER, "id", 0}},
                 .id_count = 1},
                {.name = "b",
                 .paths = {"/v1/b", "/x/*", "/x/y/z"},
                 .path_count = 3,
                 .events = "batch",
                 .ids = {{CONFIG_ID_MEMBER, "x", 0},
                         {CONFIG_ID_HEADER, "x-id", 0},
                         {CONFIG_ID_POINTER, "/x/yy/0", 1},
                         {CONFIG_ID_POINTER, "/z", 2},
                         {CONFIG_ID_POINTER, "/a~1b~0/c~1d", 3}},
                 .id_count = 5,
                 .key_members = {"k", "/p/t"},
                 .key_member_count = 2,
                 .columns = {{"c1", CONFIG_COLUMN_PATH, NULL},
                             {"c2", CONFIG_COLUMN_ENVELOPE, "sentAt"},
                             {"c3", CONFIG_COLUMN_ENVELOPE, "/x~1/y"}},
                 .column_count = 3,
                 .missing_id = CONFIG_MISSING_HASH},
                {.name = "ab",
                 .paths = {"/v1/ab", "/x/y/*"},
                 .path_count = 2,
                 .ids = {{CONFIG_ID_MEMBER, "id", 0}},
                 .id_count = 1}},
    .stream_count = 3,
};
static struct route_table table;

static int find(const char *path)
{
    return route_find(&table, (struct slice){path, strlen(path)});
}

static void assert_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    assert_memory_equal(slice.data, text, slice.len);
}

static void whole_paths_come_before_stars_and_long_ones_before_short(void **state)
{
    (void)state;
    route_init(&table, &config);
    assert_int_equal(find("/v1/a"), 0);
    assert_int_equal(find("/v1/b"), 1);
    assert_int_equal(find("/v1/ab"), 2);
    assert_int_equal(find("/v1/a/"), 0);
    assert_int_equal(find("/v1/a//"), ROUTE_NONE);
    assert_int_equal(find("/"), ROUTE_NONE);
    assert_int_equal(find("/x"), ROUTE_NONE);
    assert_int_equal(find("/x/"), ROUTE_NONE);
    assert_int_equal(find("/x/a"), 1);
    assert_int_equal(find("/x/a/b/"), 1);
    assert_int_equal(find("/x/y"), 1);
    assert_int_equal(find("/x/y/a"), 2);
    assert_int_equal(find("/x/y/z"), 1);
    assert_int_equal(find("/v1/A"), ROUTE_NONE);
    assert_int_equal(find("/v1/"), ROUTE_NONE);
    assert_int_equal(find(""), ROUTE_NONE);
}

static void a_route_knows_what_ids_are_made_of(void **state)
{
    const struct route *route = &table.routes[1];
    const struct json_scan_fields *fields = &route->fields;

    (void)state;
    route_init(&table, &config);
    assert_int_equal(fields->source_count, 5);
    assert_int_equal(fields->count, 6); /* a name and a pointer's first part are one */
    assert_int_equal(fields->sources[2].name, 0);
    assert_int_equal(fields->sources[2].rest.len, 5);
    assert_memory_equal(fields->sources[2].rest.data, "/yy/0", 5);
    assert_int_equal(fields->sources[3].name, 1);
    assert_int_equal(fields->sources[3].rest.len, 0);
    /* Of a pointer's first part the escapes are decoded here, of the rest where it is walked. */
    assert_slice(fields->names[fields->sources[4].name], "a/b~");
    assert_slice(fields->sources[4].rest, "/c~1d");
    assert_int_equal(fields->sources[1].kind, JSON_SCAN_OF_HEADER);
    assert_string_equal(route->headers[1], "x-id");
    assert_true(route->has_headers && !table.routes[0].has_headers);
    assert_int_equal(fields->missing, JSON_SCAN_HASH);
    assert_int_equal(fields->events.len, 5);
    assert_string_equal(route->missing_problem,
                        "No id: the event has no field \"x\" or header \"x-id\", field "
                        "\"/x/yy/0\", field \"/z\", field \"/a~1b~0/c~1d\" (stream b).");
    assert_string_equal(table.routes[0].missing_problem,
                        "No id: the event has no field \"id\" (stream a).");
}

static void a_route_knows_what_is_looked_for_in_a_body(void **state)
{
    const struct route *route = &table.routes[1];

    (void)state;
    route_init(&table, &config);
    assert_int_equal(route->keys.count, 2);
    assert_slice(route->keys.wanted[0].name, "k");
    assert_int_equal(route->keys.wanted[0].rest.len, 0);
    assert_slice(route->keys.wanted[1].name, "p");
    assert_slice(route->keys.wanted[1].rest, "/t");
    assert_int_equal(route->envelope.count, 2);
    assert_slice(route->envelope.wanted[0].name, "sentAt");
    assert_slice(route->envelope.wanted[1].name, "x/");
    assert_slice(route->envelope.wanted[1].rest, "/y");
    assert_int_equal(table.routes[0].keys.count + table.routes[0].envelope.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_paths_come_before_stars_and_long_ones_before_short),
        cmocka_unit_test(a_route_knows_what_ids_are_made_of),
        cmocka_unit_test(a_route_knows_what_is_looked_for_in_a_body),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
