/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_refusals.c - the refusals that happened last: how many are kept and told, and which.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "alloy/refusals.h"

static struct refusals *refusals;
static struct refusal_note out[REFUSALS_KEPT];

static int start(void **state)
{
    (void)state;
    refusals = refusals_create();
    return refusals == NULL;
}

static int stop(void **state)
{
    (void)state;
    refusals_destroy(refusals);
    refusals_destroy(NULL);
    return 0;
}

/* Notes one with offset as its mark. */
static void note(unsigned stream, enum error_code error, size_t offset)
{
    const struct refusal_note what = {
        .stream = (uint16_t)stream, .error = error, .offset = offset, .message = "m"};

    refusals_note(refusals, &what);
}

static unsigned passed(unsigned stream, enum error_code error, uint64_t now_s, unsigned tries)
{
    unsigned n = 0;

    while (tries-- > 0)
        n += refusals_may_note(refusals, stream, error, now_s);
    return n;
}

static void some_a_second_are_noted_of_each_stream_and_error(void **state)
{
    (void)state;
    assert_int_equal(passed(0, ERROR_empty, 0, 100), REFUSALS_A_SECOND);
    assert_int_equal(passed(0, ERROR_empty, 7, 100), REFUSALS_A_SECOND);
    assert_int_equal(passed(0, ERROR_empty, 7, 1), 0);
    assert_int_equal(passed(1, ERROR_empty, 7, 3), 3);
    assert_int_equal(passed(0, ERROR_missing_id, 7, 100), REFUSALS_A_SECOND);
    assert_int_equal(passed(METRIC_STREAM_NONE, ERROR_COUNT - 1, 7, 1), 1);
    assert_int_equal(passed(0, ERROR_empty, 8, 100), REFUSALS_A_SECOND);
    /* A thread whose clock is a second behind gets no second of its own. */
    assert_int_equal(passed(0, ERROR_empty, 7, 100), 0);
    assert_int_equal(passed(0, ERROR_empty, UINT64_MAX >> 9, 100), REFUSALS_A_SECOND);
}

static void the_next_line_tells_how_many_were_not_logged(void **state)
{
    uint64_t suppressed = 99;

    (void)state;
    for (int i = 0; i < REFUSALS_A_SECOND; i++) {
        assert_true(refusals_may_log(refusals, ERROR_empty, 5, &suppressed));
        assert_int_equal(suppressed, 0);
    }
    for (int i = 0; i < 25; i++)
        assert_false(refusals_may_log(refusals, ERROR_empty, 5, &suppressed));
    assert_true(refusals_may_log(refusals, ERROR_timeout, 5, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_true(refusals_may_log(refusals, ERROR_empty, 6, &suppressed));
    assert_int_equal(suppressed, 25);
    assert_true(refusals_may_log(refusals, ERROR_empty, 6, &suppressed));
    assert_int_equal(suppressed, 0);
}

static void the_latest_comes_first(void **state)
{
    (void)state;
    assert_int_equal(refusals_read(refusals, out), 0);
    for (size_t i = 0; i < 5; i++)
        note(i % 2, ERROR_empty, i);
    assert_int_equal(refusals_read(refusals, out), 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(out[i].offset, 4 - i);
        assert_int_equal(out[i].stream, (4 - i) % 2);
    }
    assert_string_equal(out[0].message, "m");
}

static void of_one_kind_the_latest_are_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3 * REFUSALS_KEPT + 7; i++)
        note(3, ERROR_invalid_json, i);
    assert_int_equal(refusals_read(refusals, out), REFUSALS_KEPT);
    for (size_t i = 0; i < REFUSALS_KEPT; i++)
        assert_int_equal(out[i].offset, 3 * REFUSALS_KEPT + 6 - i);
}

static void a_flood_does_not_hide_what_is_rare(void **state)
{
    size_t rare = 0, other = 0;

    (void)state;
    note(1, ERROR_missing_id, 1);
    for (size_t i = 0; i < 1000; i++)
        note(METRIC_STREAM_NONE, ERROR_not_found, i);
    note(0, ERROR_forbidden, 2);
    for (size_t i = 0; i < 1000; i++)
        note(0, ERROR_not_found, i);
    assert_int_equal(refusals_read(refusals, out), REFUSALS_KEPT);
    for (size_t i = 0; i < REFUSALS_KEPT; i++) {
        rare += out[i].error == ERROR_missing_id || out[i].error == ERROR_forbidden;
        other += out[i].stream == METRIC_STREAM_NONE;
    }
    assert_int_equal(rare, 2);
    /* Two floods share the rest. */
    assert_in_range(other, (REFUSALS_KEPT - 2) / 2 - 1, (REFUSALS_KEPT - 2) / 2);
    assert_int_equal(out[REFUSALS_KEPT - 1].error, ERROR_missing_id);
}

static const char *path_of(const char *line)
{
    static struct refusal_note read;

    refusals_read_line(line, &read);
    return read.path;
}

static void a_line_gives_method_and_path(void **state)
{
    struct refusal_note read;
    char line[600] = "GET /", path[REFUSALS_PATH_MAX + 1] = "/";

    (void)state;
    refusals_read_line("DELETE /v1/events HTTP/1.1\r\n", &read);
    assert_string_equal(read.method, "DELETE");
    assert_string_equal(read.path, "/v1/events");
    refusals_read_line("\r\n\r\nGET /a?key=secret HTTP/1.1\r\n", &read);
    assert_string_equal(read.method, "GET");
    assert_string_equal(read.path, "/a");
    assert_string_equal(path_of("OPTIONS * HTTP/1.1\r\n"), "*");
    assert_string_equal(path_of("GET http://u@host:80/a/b?c HTTP/1.1\r\n"), "/a/b");
    assert_string_equal(path_of("GET http://host?key=secret HTTP/1.1\r\n"), "/");
    assert_string_equal(path_of("GET http:/ "), "/");
    assert_string_equal(path_of("GET /a "), "/a");
    assert_string_equal(path_of("GET /\xc3\xa9\x01\"<b> HTTP/1.1"), "/%C3%A9%01\"<b>");
    memset(line + 5, 'x', 500);
    memset(path + 1, 'x', REFUSALS_PATH_MAX - 1);
    assert_string_equal(path_of(line), path);
    /* No escape is cut in two. */
    line[REFUSALS_PATH_MAX + 2] = '\xff';
    path[REFUSALS_PATH_MAX - 2] = '\0';
    assert_string_equal(path_of(line), path);
    memset(line, 'M', 200);
    refusals_read_line(line, &read);
    assert_int_equal(strlen(read.method), REFUSALS_METHOD_MAX);
}

#define THREADS 4
#define ROUNDS 50000

static _Atomic unsigned passed_all;

static void *note_many(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        if (!refusals_may_note(refusals, 0, ERROR_empty, 1))
            continue;
        atomic_fetch_add(&passed_all, 1);
        note(0, ERROR_empty, 1);
    }
    for (int i = 0; i < ROUNDS; i++)
        note((unsigned)i % 3, ERROR_draining, 2);
    return arg;
}

static void threads_share_what_may_be_noted(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, note_many, NULL), 0);
    for (int i = 0; i < 1000; i++) {
        size_t count = refusals_read(refusals, out);

        for (size_t j = 1; j < count; j++)
            assert_true(out[j].number < out[j - 1].number);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(passed_all, REFUSALS_A_SECOND);
    assert_int_equal(refusals_read(refusals, out), REFUSALS_KEPT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(some_a_second_are_noted_of_each_stream_and_error),
        TEST(the_next_line_tells_how_many_were_not_logged),
        TEST(the_latest_comes_first),
        TEST(of_one_kind_the_latest_are_kept),
        TEST(a_flood_does_not_hide_what_is_rare),
        TEST(a_line_gives_method_and_path),
        TEST(threads_share_what_may_be_noted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
