/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_shard_order.c - an endpoint stays in its shard, over reloads and lives.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shard_order.h"

static char dir[] = "/tmp/test_shard_order.XXXXXX";
static char why[SHARD_ORDER_WHY_MAX];

static int life(const char *list)
{
    char text[256];
    struct config config = {.clickhouse_url = text, .journal_dir = dir};

    snprintf(text, sizeof(text), "%s", list);
    return shard_order_begin(&config, why, sizeof(why));
}

static const char *kept(void)
{
    static char text[512];
    char path[64];
    FILE *file;

    snprintf(path, sizeof(path), "%s/" SHARD_ORDER_FILE, dir);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    return text;
}

static int forget(void **state)
{
    char path[64];

    (void)state;
    snprintf(path, sizeof(path), "%s/" SHARD_ORDER_FILE, dir);
    (void)unlink(path);
    return 0;
}

static void endpoints_may_come_and_go_and_not_move(void **state)
{
    static const struct {
        const char *before, *after;
        bool same;
    } cases[] = {
        {"http://a", "http://a", true},
        {"http://a", "http://b", true},
        {"http://a", "http://a|http://b", true},
        {"http://a|http://b", "http://a", true},
        {"http://a,http://b|http://c", "http://b,http://d,http://a|http://e", true},
        {"http://a|http://b", "http://b|http://a", false},
        {"http://a|http://b", "http://b", false},
        {"http://a", "http://b|http://a", false},
        {"http://a|http://b|http://c", "http://a|http://c", false},
        {"http://a|http://b|http://c", "http://a|http://c|http://b", false},
        {"http://a,http://b|http://c", "http://a|http://c,http://b", false},
        {"http://a:8123|http://b:8123", "http://u:p@B|http://c", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (shard_order_same(cases[i].before, cases[i].after, why, sizeof(why)) != cases[i].same)
            fail_msg("%s, then %s", cases[i].before, cases[i].after);
    assert_false(shard_order_same("http://a|http://u:p@b:1/x", "http://b:1/x", why, sizeof(why)));
    assert_non_null(strstr(why, "b:1/x was in shard 2 and would be in shard 1"));
}

static void a_later_life_refuses_another_order(void **state)
{
    (void)state;
    assert_int_equal(life("http://u:secret@a:1 | https://b:1/x/"), 0);
    assert_string_equal(kept(), "http://a:1|https://b:1/x\n");
    assert_int_equal(life("https://b:1/x|http://a:1"), -EINVAL);
    assert_non_null(strstr(why, "add new ones at the end"));
    assert_string_equal(kept(), "http://a:1|https://b:1/x\n");
    assert_int_equal(life("http://a:1,http://c:1|https://b:1/x|http://d:1"), 0);
    assert_string_equal(kept(), "http://a:1,http://c:1|https://b:1/x|http://d:1\n");
}

static void shards_that_the_list_lost_are_remembered(void **state)
{
    (void)state;
    assert_int_equal(life("http://a|http://b|http://c,http://d"), 0);
    assert_int_equal(life("http://a"), 0);
    assert_string_equal(kept(), "http://a|http://b|http://c,http://d\n");
    assert_int_equal(life("http://a|http://c"), -EINVAL);
    assert_int_equal(life("http://a|http://e"), 0);
    assert_string_equal(kept(), "http://a|http://e|http://c,http://d\n");
}

static void nothing_is_kept_where_nothing_outlives_the_process(void **state)
{
    struct config config = {.clickhouse_url = (char[]){"http://a"},
                            .journal_dir = dir,
                            .journal_mode = CONFIG_JOURNAL_MEMORY};

    (void)state;
    assert_int_equal(life("http://a|http://b"), 0);
    assert_int_equal(life("discard:"), 0);
    config.clickhouse_url = (char[]){"http://b|http://a"};
    assert_int_equal(shard_order_begin(&config, why, sizeof(why)), 0);
    assert_string_equal(kept(), "http://a|http://b\n");
}

static void a_reload_is_kept_for_the_next_life(void **state)
{
    struct config config = {.clickhouse_url = (char[]){"http://a|http://c"}, .journal_dir = dir};

    (void)state;
    assert_int_equal(life("http://a|http://b"), 0);
    shard_order_note(&config);
    assert_string_equal(kept(), "http://a|http://c\n");
    assert_int_equal(life("http://c|http://a"), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endpoints_may_come_and_go_and_not_move),
        cmocka_unit_test_teardown(a_later_life_refuses_another_order, forget),
        cmocka_unit_test_teardown(shards_that_the_list_lost_are_remembered, forget),
        cmocka_unit_test_teardown(nothing_is_kept_where_nothing_outlives_the_process, forget),
        cmocka_unit_test_teardown(a_reload_is_kept_for_the_next_life, forget),
    };
    int failed;

    if (mkdtemp(dir) == NULL)
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    (void)rmdir(dir);
    return failed;
}
