/* SPDX-License-Identifier: Apache-2.0 */
/* test_health.c - conditions are raised and cleared, and visited in order, from any thread. */
#include "alloy/health.h"

#include <pthread.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define THREADS 4

/* Appends "key=text! " (with ! where it blocks) to the string at arg. */
static void append(void *arg, const char *key, bool blocking, const char *text)
{
    char *out = arg;
    size_t len = strlen(out);

    snprintf(out + len, 2048 - len, "%s=%s%s ", key, text, blocking ? "!" : "");
}

static void assert_conditions(struct health *health, const char *expected)
{
    char seen[2048] = "";

    health_visit(health, append, seen);
    assert_string_equal(seen, expected);
}

static void nothing_wrong_is_ready(void **state)
{
    struct health *health = health_create();

    (void)state;
    assert_true(health_ready(health));
    health_clear(health, "redis");
    assert_conditions(health, "");
    health_destroy(health);
    health_destroy(NULL);
}

static void only_a_blocking_condition_costs_readiness(void **state)
{
    struct health *health = health_create();

    (void)state;
    health_raise(health, "redis", false, "away for %d s", 3);
    assert_true(health_ready(health));
    health_raise(health, "drain", true, "draining");
    assert_false(health_ready(health));
    health_clear(health, "drain");
    assert_true(health_ready(health));
    assert_conditions(health, "redis=away for 3 s ");
    health_destroy(health);
}

static void raising_again_rewords_and_can_begin_to_block(void **state)
{
    struct health *health = health_create();

    (void)state;
    health_raise(health, "b", false, "one");
    health_raise(health, "b", true, "two");
    assert_conditions(health, "b=two! ");
    health_raise(health, "b", false, "three");
    assert_conditions(health, "b=three ");
    assert_true(health_ready(health));
    health_destroy(health);
}

static void conditions_are_visited_in_the_order_of_their_keys(void **state)
{
    struct health *health = health_create();

    (void)state;
    health_raise(health, "m", false, "2");
    health_raise(health, "z", false, "3");
    health_raise(health, "a", true, "1");
    assert_conditions(health, "a=1! m=2 z=3 ");
    health_clear(health, "m");
    assert_conditions(health, "a=1! z=3 ");
    health_clear(health, "a");
    health_clear(health, "a");
    assert_conditions(health, "z=3 ");
    health_destroy(health);
}

static void long_keys_and_texts_are_cut_and_can_still_be_cleared(void **state)
{
    struct health *health = health_create();
    char key[HEALTH_KEY_MAX * 2];
    char text[HEALTH_TEXT_MAX * 2];

    (void)state;
    memset(key, 'k', sizeof(key) - 1);
    key[sizeof(key) - 1] = '\0';
    memset(text, 't', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    health_raise(health, key, true, "%s", text);
    health_raise(health, key, true, "%s", text);
    assert_false(health_ready(health));
    health_clear(health, key);
    assert_conditions(health, "");
    health_destroy(health);
}

/* Counts conditions into the size_t at arg, and checks their order but for "more". */
static void count_in_order(void *arg, const char *key, bool blocking, const char *text)
{
    static char last[HEALTH_KEY_MAX];
    size_t *count = arg;

    (void)blocking;
    (void)text;
    if (*count > 0 && strcmp(key, "more") != 0)
        assert_true(strcmp(last, key) < 0);
    snprintf(last, sizeof(last), "%s", key);
    ++*count;
}

static size_t count_conditions(struct health *health)
{
    size_t count = 0;

    health_visit(health, count_in_order, &count);
    return count;
}

static void every_stream_may_have_every_kind_under_its_longest_name(void **state)
{
    struct health *health = health_create();
    char name[64], key[2 * HEALTH_KEY_MAX];
    size_t count = 0;

    (void)state;
    for (unsigned stream = 0; stream < METRIC_STREAMS_MAX; stream++) {
        memset(name, 'n', 61);
        snprintf(name + 61, 3, "%02u", stream);
        for (unsigned kind = 0; kind < HEALTH_STREAM_KINDS_MAX; kind++, count++) {
            snprintf(key, sizeof(key), "clickhouse.%s.and_a_long_kind_%02u", name, kind);
            health_raise(health, key, true, "x");
        }
    }
    assert_int_equal(count_conditions(health), count);
    while (count-- > 0) {
        snprintf(name + 61, 3, "%02u", (unsigned)count / HEALTH_STREAM_KINDS_MAX);
        snprintf(key, sizeof(key), "clickhouse.%s.and_a_long_kind_%02u", name,
                 (unsigned)count % HEALTH_STREAM_KINDS_MAX);
        health_clear(health, key);
    }
    assert_int_equal(count_conditions(health), 0);
    assert_true(health_ready(health));
    health_destroy(health);
}

static void append_more(void *arg, const char *key, bool blocking, const char *text)
{
    if (strcmp(key, "more") == 0)
        append(arg, key, blocking, text);
}

static void what_does_not_fit_is_counted_and_told(void **state)
{
    struct health *health = health_create();
    char seen[2048] = "", key[32];

    (void)state;
    for (int i = HEALTH_CONDITIONS_MAX - 1; i >= 0; i--) {
        snprintf(key, sizeof(key), "k%05d", i);
        health_raise(health, key, false, "x");
    }
    assert_int_equal(count_conditions(health), HEALTH_CONDITIONS_MAX);
    assert_true(health_ready(health));
    health_raise(health, "a", false, "x");
    assert_true(health_ready(health));
    health_raise(health, "z", true, "x");
    assert_false(health_ready(health));
    health_raise(health, "k00000", false, "still reworded");
    health_visit(health, append_more, seen);
    assert_string_equal(seen,
                        "more=2 times something more was wrong than fits here; see the log! ");
    health_clear(health, "k00001");
    assert_true(health_ready(health));
    health_raise(health, "z", true, "x");
    assert_false(health_ready(health));
    assert_int_equal(count_conditions(health), HEALTH_CONDITIONS_MAX);
    health_destroy(health);
}

static void *raise_and_clear(void *arg)
{
    struct health *health = arg;
    char key[32];

    snprintf(key, sizeof(key), "thread.%lx", (unsigned long)pthread_self());
    for (int i = 0; i < 2000; i++) {
        health_raise(health, key, true, "round %d", i);
        (void)health_ready(health);
        health_clear(health, key);
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
    struct health *health = health_create();
    pthread_t threads[THREADS];

    (void)state;
    health_raise(health, "stays", false, "here");
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, raise_and_clear, health), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_conditions(health, "stays=here ");
    health_destroy(health);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_wrong_is_ready),
        cmocka_unit_test(only_a_blocking_condition_costs_readiness),
        cmocka_unit_test(raising_again_rewords_and_can_begin_to_block),
        cmocka_unit_test(conditions_are_visited_in_the_order_of_their_keys),
        cmocka_unit_test(long_keys_and_texts_are_cut_and_can_still_be_cleared),
        cmocka_unit_test(every_stream_may_have_every_kind_under_its_longest_name),
        cmocka_unit_test(what_does_not_fit_is_counted_and_told),
        cmocka_unit_test(threads_do_not_disturb_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
