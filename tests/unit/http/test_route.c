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
    .streams = {{.path = "/v1/a", .id_fields = {"id"}, .id_count = 1},
                {.path = "/v1/b", .id_fields = {"x", "yy"}, .id_count = 2},
                {.path = "/v1/ab", .id_fields = {"id"}, .id_count = 1}},
    .stream_count = 3,
};
static struct route_table table;

static int find(const char *path)
{
    return route_find(&table, (struct slice){path, strlen(path)});
}

static void a_path_is_found_only_exactly(void **state)
{
    (void)state;
    route_init(&table, &config);
    assert_int_equal(find("/v1/a"), 0);
    assert_int_equal(find("/v1/b"), 1);
    assert_int_equal(find("/v1/ab"), 2);
    assert_int_equal(find("/v1/a/"), ROUTE_NONE);
    assert_int_equal(find("/v1/A"), ROUTE_NONE);
    assert_int_equal(find("/v1/"), ROUTE_NONE);
    assert_int_equal(find(""), ROUTE_NONE);
}

static void a_route_knows_the_id_fields_in_their_order(void **state)
{
    (void)state;
    route_init(&table, &config);
    assert_int_equal(table.routes[1].fields.count, 2);
    assert_int_equal(table.routes[1].fields.names[0].len, 1);
    assert_memory_equal(table.routes[1].fields.names[1].data, "yy", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_is_found_only_exactly),
        cmocka_unit_test(a_route_knows_the_id_fields_in_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
