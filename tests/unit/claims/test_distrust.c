/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_distrust.c - when a server's "I do not know this id" is not to be believed: what it says of
 * itself, what the key says, and time are given.
 */
#include "alloy/distrust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH_MS 60000
#define REAL_MS 1700000000000

static struct config config;
static struct config_ref config_ref;
static struct metrics *metrics;
static char redis_key[DISTRUST_KEY_MAX]; /* what Redis has; "": nothing */
static uint64_t now_ms;                  /* both clocks, which differ */

static int set_up(void **state)
{
    config = (struct config){.redis_distrust_ms = LENGTH_MS};
    atomic_store(&config_ref.current, &config);
    metrics = metrics_create();
    redis_key[0] = '\0';
    now_ms = 1000000;
    (void)state;
    return 0;
}

static int tear_down(void **state)
{
    metrics_destroy(metrics);
    (void)state;
    return 0;
}

static struct distrust *make(uint64_t instance_id)
{
    return distrust_create(&(struct distrust_parts){
        .config = &config_ref, .metrics = metrics, .instance_id = instance_id});
}

/* What the server named so, in that life, is believed of. */
static struct distrust_window look_at(struct distrust *distrust, const char *server,
                                      const char *life, uint64_t offset, size_t place)
{
    const uint64_t at_ms = now_ms += 2; /* so that no look begins when another one ends */
    struct distrust_sight sight = {.server = server,
                                   .place = place,
                                   .offset = offset,
                                   .has_key = redis_key[0] != '\0',
                                   .key = {redis_key, strlen(redis_key)},
                                   .began_ms = at_ms - 1,
                                   .now_ms = at_ms,
                                   .real_ms = at_ms + REAL_MS};
    struct distrust_window window;
    char key[DISTRUST_KEY_MAX];

    snprintf(sight.run_id, sizeof(sight.run_id), "%s", life);
    snprintf(sight.replid, sizeof(sight.replid), "%s", life);
    if (distrust_see(distrust, &sight, &window, key)) {
        memcpy(redis_key, key, sizeof(key));
        distrust_wrote(distrust, &sight, now_ms);
    }
    return window;
}

static enum distrust_state look(struct distrust *distrust, const char *life)
{
    return look_at(distrust, "redis:1", life, 10, 0).state;
}

/* Until it is no longer HOLD. */
static void wait_for_ask(struct distrust *distrust, const char *life)
{
    for (int i = 0; look(distrust, life) == DISTRUST_HOLD; i++) {
        assert_true(i < 1000);
        now_ms += 50;
    }
    assert_int_equal(look(distrust, life), DISTRUST_ASK);
}

static void a_server_that_is_seen_first_is_believed(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    now_ms += 86400000;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void another_life_is_distrusted_for_a_while(void **state)
{
    struct distrust *distrust = make(1);
    struct distrust_window window;
    uint64_t opened_ms;

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    now_ms += 700;
    window = look_at(distrust, "redis:1", "b", 0, 0);
    opened_ms = now_ms;
    assert_int_equal(window.state, DISTRUST_HOLD);
    assert_true(window.opened);
    /* Claims since the last time that the key was written are in doubt. */
    assert_int_equal(window.from_ms, opened_ms - 702 + REAL_MS);
    wait_for_ask(distrust, "b");
    now_ms = opened_ms + LENGTH_MS - 3;
    assert_int_equal(look(distrust, "b"), DISTRUST_ASK);
    now_ms++;
    assert_int_equal(look(distrust, "b"), DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void a_replica_that_became_master_is_another_life(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:2", "b", 99, 0).state, DISTRUST_HOLD);
    distrust_destroy(distrust);
}

static void who_starts_later_learns_of_it_by_the_key(void **state)
{
    struct distrust *first = make(1), *second;

    (void)state;
    assert_int_equal(look(first, "a"), DISTRUST_NOT);
    distrust_destroy(first);
    /* Nobody was there when it happened. */
    second = make(2);
    assert_int_equal(look(second, "b"), DISTRUST_HOLD);
    now_ms += LENGTH_MS / 2;
    first = make(1);
    assert_int_equal(look(first, "b"), DISTRUST_ASK);
    now_ms += LENGTH_MS / 2;
    assert_int_equal(look(first, "b"), DISTRUST_NOT);
    assert_int_equal(look(second, "b"), DISTRUST_NOT);
    distrust_destroy(first);
    distrust_destroy(second);
}

static void data_that_is_gone_is_noticed_in_the_same_life(void **state)
{
    struct distrust *distrust = make(1);
    struct distrust_window window;

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    redis_key[0] = '\0';
    window = look_at(distrust, "redis:1", "a", 11, 0);
    assert_int_equal(window.state, DISTRUST_HOLD);
    assert_int_equal(window.from_ms, 0);
    /* The key is there again, and stays so. */
    wait_for_ask(distrust, "a");
    now_ms += LENGTH_MS;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void an_emptied_server_waits_for_those_whom_we_saw_there(void **state)
{
    struct distrust *one = make(1), *other = make(2);

    (void)state;
    assert_int_equal(look(one, "a"), DISTRUST_NOT);
    assert_int_equal(look(other, "a"), DISTRUST_NOT);
    assert_int_equal(look(one, "a"), DISTRUST_NOT);
    redis_key[0] = '\0';
    assert_int_equal(look(one, "a"), DISTRUST_HOLD);
    now_ms += 1000;
    assert_int_equal(look(one, "a"), DISTRUST_HOLD);
    (void)look(other, "a"); /* has nothing in hand */
    now_ms += 100;
    assert_int_equal(look(one, "a"), DISTRUST_ASK);
    distrust_destroy(one);
    distrust_destroy(other);
}

static void an_offset_that_goes_back_is_noticed(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_int_equal(look_at(distrust, "redis:1", "a", 100, 0).state, DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:1", "a", 100, 0).state, DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:1", "a", 99, 0).state, DISTRUST_HOLD);
    distrust_destroy(distrust);
}

static void a_slot_that_moves_to_a_known_server_loses_nothing(void **state)
{
    struct distrust *distrust = make(1);
    char key[DISTRUST_KEY_MAX];

    (void)state;
    assert_int_equal(look_at(distrust, "redis:1", "a", 1, 3).state, DISTRUST_NOT);
    memcpy(key, redis_key, sizeof(key));
    redis_key[0] = '\0';
    assert_int_equal(look_at(distrust, "redis:2", "b", 1, 7).state, DISTRUST_NOT);
    memcpy(redis_key, key, sizeof(key)); /* with the slot, to the other server */
    assert_int_equal(look_at(distrust, "redis:2", "b", 2, 3).state, DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:2", "b", 3, 3).state, DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void who_claimed_at_the_old_master_meanwhile_makes_all_distrust_again(void **state)
{
    struct distrust *distrust = make(1), *cut_off = make(2);
    char old_key[DISTRUST_KEY_MAX], new_key[DISTRUST_KEY_MAX];

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look(cut_off, "a"), DISTRUST_NOT);
    memcpy(old_key, redis_key, sizeof(old_key));
    assert_int_equal(look_at(distrust, "redis:2", "b", 1, 0).state, DISTRUST_HOLD);
    memcpy(new_key, redis_key, sizeof(new_key));
    now_ms += LENGTH_MS;
    /* Behind the partition. */
    memcpy(redis_key, old_key, sizeof(old_key));
    assert_int_equal(look(cut_off, "a"), DISTRUST_NOT);
    now_ms += 1000;
    memcpy(redis_key, new_key, sizeof(new_key));
    assert_int_equal(look_at(distrust, "redis:2", "b", 2, 0).state, DISTRUST_NOT);
    assert_int_equal(look_at(cut_off, "redis:2", "b", 2, 0).state, DISTRUST_HOLD);
    assert_int_equal(look_at(distrust, "redis:2", "b", 3, 0).state, DISTRUST_HOLD);
    distrust_destroy(distrust);
    distrust_destroy(cut_off);
}

static void a_window_in_which_nobody_could_tell_lasts_longer(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look(distrust, "b"), DISTRUST_HOLD);
    now_ms += LENGTH_MS - 1;
    distrust_prolong(distrust, now_ms + REAL_MS);
    now_ms += 1000;
    assert_int_equal(look(distrust, "b"), DISTRUST_ASK);
    /* for the others too */
    assert_int_equal(look(other, "b"), DISTRUST_ASK);
    now_ms += LENGTH_MS;
    assert_int_equal(look(distrust, "b"), DISTRUST_NOT);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

static void a_key_that_no_alloyd_has_written_is_as_none(void **state)
{
    static const char *const values[] = {"x",
                                         "1",
                                         "1 ",
                                         "1 a.a",
                                         "1 a.a 5",
                                         "1 a.a 5 6 x",
                                         "1 a.a 5 6 7 zz,1,1",
                                         "1 a.a 5 6 7 1,1",
                                         "2 a.a 0 0 0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct distrust *distrust = make(1);

        snprintf(redis_key, sizeof(redis_key), "%s", values[i]);
        assert_int_equal(look(distrust, "b"), DISTRUST_NOT);
        assert_memory_equal(redis_key, "1 b.b 0 0 0 ", 12);
        distrust_destroy(distrust);
    }
}

static void one_thread_at_a_time_looks_for_all_that_are_idle(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_true(distrust_turn(distrust, now_ms));
    assert_false(distrust_turn(distrust, now_ms));
    assert_in_range(distrust_left_ms(distrust, now_ms), 1, 1000);
    now_ms += 1000;
    assert_true(distrust_turn(distrust, now_ms));
    config.redis_distrust_ms = 0;
    assert_int_equal(distrust_left_ms(distrust, now_ms + 1000), UINT64_MAX);
    assert_false(distrust_turn(distrust, now_ms + 1000));
    assert_false(distrust_turn(NULL, now_ms));
    distrust_destroy(distrust);
}

static void who_suspects_a_server_opens_one_window(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);
    uint64_t before_ms;

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look(other, "a"), DISTRUST_NOT);
    before_ms = now_ms + REAL_MS;
    now_ms += 1000;
    assert_int_equal(distrust_suspicions(distrust), 0);
    distrust_suspect(distrust, "redis:1", before_ms);
    assert_int_equal(distrust_suspicions(distrust), 1);
    assert_int_equal(look_at(distrust, "redis:1", "a", 10, 0).from_ms, 0);
    assert_int_equal(look(distrust, "a"), DISTRUST_HOLD);
    /* Others learn of it, and who notices the same later opens none. */
    assert_int_equal(look(other, "a"), DISTRUST_HOLD);
    distrust_suspect(other, "redis:1", before_ms);
    assert_false(look_at(other, "redis:1", "a", 10, 0).opened);
    /* What was there after the window was opened is another loss. */
    distrust_suspect(other, "redis:1", now_ms + REAL_MS);
    assert_true(look_at(other, "redis:1", "a", 10, 0).opened);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_server_that_is_seen_first_is_believed),
        TEST(another_life_is_distrusted_for_a_while),
        TEST(a_replica_that_became_master_is_another_life),
        TEST(who_starts_later_learns_of_it_by_the_key),
        TEST(data_that_is_gone_is_noticed_in_the_same_life),
        TEST(an_emptied_server_waits_for_those_whom_we_saw_there),
        TEST(an_offset_that_goes_back_is_noticed),
        TEST(a_slot_that_moves_to_a_known_server_loses_nothing),
        TEST(who_claimed_at_the_old_master_meanwhile_makes_all_distrust_again),
        TEST(a_window_in_which_nobody_could_tell_lasts_longer),
        TEST(a_key_that_no_alloyd_has_written_is_as_none),
        TEST(who_suspects_a_server_opens_one_window),
        TEST(one_thread_at_a_time_looks_for_all_that_are_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
