/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher_probe.c - which servers and tables take async inserts, and which deduplicate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "flusher_probe.h"

static bool read_probe(const char *text, struct flusher_probe *probe)
{
    return flusher_probe_read((struct slice){text, strlen(text)}, probe);
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
    struct flusher_probe probe;
    char text[256];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "%s\t1\tMergeTree\t0\t1000\t0\n", cases[i].version);
        assert_true(read_probe(text, &probe));
        assert_int_equal(probe.async_unsafe == NULL, cases[i].plain);
        assert_string_equal(probe.version, cases[i].version);
        snprintf(text, sizeof(text), "%s\t1\tMergeTree\t1\t1000\t0\n", cases[i].version);
        assert_true(read_probe(text, &probe));
        assert_int_equal(probe.async_unsafe == NULL, cases[i].partitioned);
        snprintf(text, sizeof(text), "%s\t1\tDistributed\t0\t\t0\n", cases[i].version);
        assert_true(read_probe(text, &probe));
        assert_int_equal(probe.async_unsafe == NULL, cases[i].partitioned);
    }
}

static void only_a_plain_merge_tree_needs_a_window(void **state)
{
    static const struct {
        const char *rest;
        bool unset;
    } cases[] = {
        {"1\tMergeTree\t0\t\t0\n", true},
        {"1\tReplacingMergeTree\t0\t0\t0\n", true},
        {"1\tMergeTree\t0\t1\t0\n", false},
        {"1\tReplicatedMergeTree\t0\t\t0\n", false},
        {"1\tSharedReplacingMergeTree\t0\t\t0\n", false},
        {"1\tDistributed\t0\t\t0\n", false},
        {"0\t\t0\t\t0\n", false},
    };
    struct flusher_probe probe;
    char text[128];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        snprintf(text, sizeof(text), "26.7.2.1\t%s", cases[i].rest);
        assert_true(read_probe(text, &probe));
        assert_int_equal(probe.window_unset, cases[i].unset);
        assert_int_equal(probe.table_exists, cases[i].rest[0] == '1');
    }
}

static void what_the_server_said_is_kept_for_the_log(void **state)
{
    struct flusher_probe probe;

    (void)state;
    assert_true(read_probe("26.7.2.1\t1\tMergeTree\t1\t1000\t0\n", &probe));
    assert_string_equal(probe.engine, "MergeTree");
    assert_string_equal(probe.window, "1000");
    assert_true(probe.partitioned);
    assert_false(probe.has_views);
    assert_true(read_probe("26.7.2.1\t1\tMergeTree\t1\t1000\t2\n", &probe));
    assert_true(probe.has_views);
    assert_true(read_probe("26.7.2.1\t1\tDistributed\t0\t\t0\n", &probe));
    assert_true(probe.has_views); /* who knows */
    assert_true(read_probe("26.7.2.1\t1\tMergeTree\t1\t1000\t0\n", &probe));
    assert_true(read_probe("26.7.2.1\t0\t\t0\t\t0\n", &probe));
    assert_string_equal(probe.engine, "-");
    assert_string_equal(probe.window, "-");
    assert_false(probe.partitioned);
}

static void anything_else_is_no_answer(void **state)
{
    static const char *const texts[] = {
        "",
        "\n",
        "26.7.2.1\n",
        "26.7.2.1\t1\tMergeTree\t0\t1000",
        "a\tb\tc\td\te\tf\tg\n",
        "\t1\tMergeTree\t0\t1\t0\n",
        "<html>\n",
        "0123456789012345678901234567890123456789012345678901234567890123\t1\tM\t0\t1\t0\n",
    };
    struct flusher_probe probe;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        assert_false(read_probe(texts[i], &probe));
}

static void a_field_with_a_nul_is_no_answer(void **state)
{
    static const char text[] = "26.7.2.1\t1\tRep\0lacingMergeTree\t0\t1000\t0\n";
    struct flusher_probe probe;

    (void)state;
    assert_false(flusher_probe_read((struct slice){text, sizeof(text) - 1}, &probe));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(async_is_safe_only_on_versions_known_to_be_good),
        cmocka_unit_test(only_a_plain_merge_tree_needs_a_window),
        cmocka_unit_test(what_the_server_said_is_kept_for_the_log),
        cmocka_unit_test(anything_else_is_no_answer),
        cmocka_unit_test(a_field_with_a_nul_is_no_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
