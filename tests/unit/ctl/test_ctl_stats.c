/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_stats.c - how status and top read /stats, and how they write figures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "ctl_stats.h"

static bool read_stats(struct ctl_stats *stats, const char *text)
{
    return ctl_stats_read(stats, (struct slice){text, strlen(text)}, 1000);
}

static void figures_are_taken_from_their_places(void **state)
{
    struct ctl_stats stats;

    (void)state;
    assert_true(read_stats(
        &stats,
        "{\"version\":\"1\",\"uptime\":12.5,\"ready\":true,\"reasons\":[{}],\"streams\":{\"a\":{"
        "\"table\":\"d.t\",\"oldest_pending_ms\":1500,\"books\":{\"received\":10,\"accepted\":8,"
        "\"duplicates\":{\"l1\":1,\"l2\":2},\"rejected\":1,\"inserted\":4,\"dead_lettered\":1,"
        "\"pending\":3}},\"b\":{}},\"http\":{\"connections\":2,\"waiting\":1,\"seconds\":{\"count\""
        ":7,\"sum\":0.7}},\"redis\":{\"used\":true,\"up\":false},\"clickhouse\":{\"up\":true,"
        "\"inserts\":3,\"inflight\":1,\"last_insert_age\":0.5,\"seconds\":{\"sum\":0.3}},\"ring\":{"
        "\"depth\":5,\"capacity\":6},\"journal\":{\"bytes\":7,\"bytes_max\":8},\"dead_letter\":{"
        "\"bytes\":9}}"));
    assert_true(stats.ready && stats.redis_used && !stats.redis_up && stats.clickhouse_up);
    assert_int_equal(stats.count, 2);
    assert_string_equal(stats.streams[0].name, "a");
    assert_string_equal(stats.streams[0].table, "d.t");
    assert_int_equal(stats.streams[0].duplicates, 3);
    assert_int_equal(stats.streams[0].pending, 3);
    assert_int_equal(stats.streams[0].oldest_ms, 1500);
    assert_int_equal(stats.streams[1].received, 0);
    assert_int_equal(json_array_size(stats.reasons), 1);
    assert_int_equal(stats.requests, 7);
    assert_int_equal(stats.inserts, 3);
    assert_true(stats.insert_age_s == 0.5);
    assert_int_equal(stats.ring_capacity, 6);
    assert_int_equal(stats.letter_bytes, 9);
    ctl_stats_free(&stats);
}

static void before_the_first_insert_there_is_no_age(void **state)
{
    struct ctl_stats stats;

    (void)state;
    assert_true(read_stats(&stats, "{\"version\":\"1\",\"ready\":false,\"streams\":{},"
                                   "\"clickhouse\":{\"inserts\":0,\"last_insert_age\":9}}"));
    assert_true(stats.insert_age_s < 0);
    assert_false(stats.ready);
    ctl_stats_free(&stats);
}

static void another_document_is_refused(void **state)
{
    static const char *const others[] = {"",
                                         "{}",
                                         "[]",
                                         "<html>",
                                         "{\"version\":1,\"ready\":true,\"streams\":{}}",
                                         "{\"version\":\"1\",\"ready\":\"yes\",\"streams\":{}}",
                                         "{\"version\":\"1\",\"ready\":true,\"streams\":[]}"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        struct ctl_stats stats;

        if (read_stats(&stats, others[i]))
            fail_msg("taken: %s", others[i]);
        ctl_stats_free(&stats);
    }
}

static void figures_are_short_and_keep_their_unit(void **state)
{
    char text[CTL_STATS_TEXT_MAX];

    (void)state;
    assert_string_equal(ctl_stats_span(0, text), "0 ms");
    assert_string_equal(ctl_stats_span(0.0125, text), "12 ms");
    assert_string_equal(ctl_stats_span(1.5, text), "1.5 s");
    assert_string_equal(ctl_stats_span(61, text), "1 min 1 s");
    assert_string_equal(ctl_stats_span(3 * 3600 + 720, text), "3 h 12 min");
    assert_string_equal(ctl_stats_span(100000, text), "1 d 3 h");
    assert_string_equal(ctl_stats_bytes(0, text), "0 B");
    assert_string_equal(ctl_stats_bytes(999, text), "999 B");
    assert_string_equal(ctl_stats_bytes(64 << 20, text), "64.0 MiB");
    assert_string_equal(ctl_stats_bytes(8ull << 30, text), "8.0 GiB");
    assert_string_equal(ctl_stats_count(0, text), "0");
    assert_string_equal(ctl_stats_count(2.5, text), "2.5");
    assert_string_equal(ctl_stats_count(3, text), "3");
    assert_string_equal(ctl_stats_count(12345, text), "12345");
    assert_string_equal(ctl_stats_count(123456, text), "123k");
    assert_string_equal(ctl_stats_count(12345678, text), "12.3M");
    assert_string_equal(ctl_stats_count(1e18, text), "1000000T");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(figures_are_taken_from_their_places),
        cmocka_unit_test(before_the_first_insert_there_is_no_age),
        cmocka_unit_test(another_document_is_refused),
        cmocka_unit_test(figures_are_short_and_keep_their_unit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
