/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sites.c - which endpoints have replicas of one table.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "sites.h"

#define REPLICA(path) "ReplicatedMergeTree\t" path "\t0\n"
#define BOTH 3u

static void take(struct site *site, const char *text)
{
    site_take(site, (struct slice){text, strlen(text)}, 1000);
}

static void the_engine_decides(void **state)
{
    static const struct {
        const char *text;
        enum site_state state;
    } cases[] = {
        {REPLICA("/p"), SITE_FIT},
        {"ReplicatedReplacingMergeTree\t/p\t0\n", SITE_FIT},
        {"SharedMergeTree\t\t0\n", SITE_FIT},
        {"ReplicatedMergeTree\t/p\t1\n", SITE_READ_ONLY},
        {"MergeTree\t\t0\n", SITE_PLAIN},
        {"ReplacingMergeTree\t\t0\n", SITE_PLAIN},
        {"Memory\t\t0\n", SITE_PLAIN},
        {"Null\t\t0\n", SITE_PLAIN},
        {"View\t\t0\n", SITE_PLAIN},
        {"Distributed\t\t0\n", SITE_DISTRIBUTED},
        {"", SITE_MISSING},
        {"\n", SITE_UNTOLD},
        {"ReplicatedMergeTree\t/p\n", SITE_UNTOLD},
        {"ReplicatedMergeTree\t/p\t0", SITE_UNTOLD},
        {"<html>\n", SITE_UNTOLD},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct site site = {.state = SITE_UNKNOWN};

        take(&site, cases[i].text);
        if (site.state != cases[i].state)
            fail_msg("%s: %s", cases[i].text, site_words(site.state));
        assert_int_equal(site.due_ms, cases[i].state == SITE_FIT ? 31000 : 3000);
    }
}

static void only_what_is_known_to_be_fit_is_used(void **state)
{
    struct site sites[2] = {{.state = SITE_UNKNOWN}};

    (void)state;
    assert_int_equal(sites_fit(sites, 2, BOTH), 0);
    assert_false(sites_known(sites, 2, BOTH));
    take(&sites[1], REPLICA("/p"));
    assert_int_equal(sites_fit(sites, 2, BOTH), 2);
    take(&sites[0], "MergeTree\t\t0\n");
    assert_int_equal(sites_fit(sites, 2, BOTH), 2);
    assert_true(sites_known(sites, 2, BOTH));
    take(&sites[0], REPLICA("/p"));
    assert_int_equal(sites_fit(sites, 2, BOTH), 3);
    site_forget(&sites[1], 7);
    assert_int_equal(sites_fit(sites, 2, BOTH), 1);
    assert_int_equal(sites[1].due_ms, 7);
}

static void different_paths_are_different_shards_and_none_is_used(void **state)
{
    struct site sites[2] = {{.state = SITE_UNKNOWN}};

    (void)state;
    take(&sites[0], REPLICA("/tables/01/t"));
    take(&sites[1], REPLICA("/tables/02/t"));
    assert_true(sites_differ(sites, 2, BOTH));
    assert_int_equal(sites_fit(sites, 2, BOTH), 0);
    /* Nor while one of them is away: an insert in doubt may have gone there. */
    site_forget(&sites[0], 0);
    assert_int_equal(sites_fit(sites, 2, BOTH), 0);
    assert_int_equal(sites_fit(sites, 2, 2), 2);
    take(&sites[0], REPLICA("/tables/02/t"));
    assert_int_equal(sites_fit(sites, 2, BOTH), 3);
}

static void what_a_server_refuses_for_its_own_sake_leaves_it_out_for_a_while(void **state)
{
    static const struct {
        struct insert_answer answer;
        bool own;
    } cases[] = {
        {{.status = 403, .exception_code = 497}, true},
        {{.status = 500, .body = {"Code: 164. DB::Exception: readonly", 34}}, true},
        {{.status = 404}, true},
        {{.status = 302}, true},
        {{.status = 404, .exception_code = 60}, false}, /* asked about at once */
        {{.status = 400, .exception_code = 27}, false},
        {{.status = 413}, false},
        {{.status = 200}, false},
        {{.transport_failed = true}, false},
    };
    struct site sites[2] = {{.state = SITE_UNKNOWN}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        if (site_is_to_blame(&cases[i].answer) != cases[i].own)
            fail_msg("case %zu", i);
    take(&sites[0], REPLICA("/p"));
    take(&sites[1], REPLICA("/p"));
    site_refuse(&sites[0], 1000);
    assert_int_equal(sites_fit(sites, 2, BOTH), 2);
    assert_int_equal(sites[0].due_ms, 3000);
    /* Still the same table, for those in doubt. */
    assert_false(sites_differ(sites, 2, BOTH));
    take(&sites[0], REPLICA("/p"));
    assert_int_equal(sites_fit(sites, 2, BOTH), 3);
    site_refuse(&sites[0], 5000);
    assert_int_equal(sites[0].due_ms, 9000);
    for (int i = 0; i < 10; i++)
        site_refuse(&sites[0], 0);
    assert_int_equal(sites[0].due_ms, 32000);
    site_took(&sites[0]);
    site_refuse(&sites[0], 0);
    assert_int_equal(sites[0].due_ms, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_decides),
        cmocka_unit_test(only_what_is_known_to_be_fit_is_used),
        cmocka_unit_test(different_paths_are_different_shards_and_none_is_used),
        cmocka_unit_test(what_a_server_refuses_for_its_own_sake_leaves_it_out_for_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
