/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_reclaim.c - what this alloyd has in hand goes to workers, to be claimed again.
 */
#include "alloy/reclaim.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloy/segment.h"

#define RECORDS 3

static struct config config;
static struct config_ref config_ref;
static struct metrics *metrics;
static struct distrust *distrust;
static struct ring *ring;
static struct reclaim *reclaim;
static struct record *records[RECORDS];

static int set_up(void **state)
{
    config = (struct config){.redis_distrust_ms = 60000};
    atomic_store(&config_ref.current, &config);
    metrics = metrics_create();
    distrust = distrust_create(&(struct distrust_parts){
        .config = &config_ref, .metrics = metrics, .instance_id = 7, .reclaims = true});
    ring = ring_create(4);
    reclaim = reclaim_create(ring, distrust);
    for (size_t i = 0; i < RECORDS; i++) {
        const char *event = "{\"id\":\"x\"}";
        struct record *record = calloc(1, sizeof(*record) + 64);

        record->stream = 2;
        record->lsn = 100 + i;
        record->hash = (struct hash128){.lo = i, .hi = 9};
        record->body_length = (uint32_t)strlen(event);
        strcpy(record->body, event);
        record->id_length = (uint16_t)sprintf((char *)record_id(record), "id-%zu", i);
        records[i] = record;
    }
    (void)state;
    return reclaim == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    reclaim_destroy(reclaim);
    ring_destroy(ring);
    distrust_destroy(distrust);
    metrics_destroy(metrics);
    for (size_t i = 0; i < RECORDS; i++)
        free(records[i]);
    (void)state;
    return 0;
}

static void without_one_nothing_is_ever_to_be_done(void **state)
{
    (void)state;
    assert_int_equal(reclaim_generation(NULL), 0);
    assert_null(reclaim_take_recalled(NULL));
    assert_null(reclaim_take_copies(NULL));
    reclaim_destroy(NULL);
}

static void copies_have_what_a_claim_needs_and_outlive_their_records(void **state)
{
    struct batch *copies;

    (void)state;
    assert_true(reclaim_is_idle(reclaim));
    assert_true(reclaim_copy(reclaim, records, RECORDS));
    assert_false(reclaim_is_idle(reclaim));
    for (size_t i = 0; i < RECORDS; i++)
        memset(records[i]->body, 'z', 40); /* their segment is gone */
    copies = reclaim_take_copies(reclaim);
    assert_non_null(copies);
    assert_int_equal(copies->stream, 2);
    assert_int_equal(copies->count, RECORDS);
    for (uint32_t i = 0; i < RECORDS; i++) {
        const struct record *copy = copies->records[i];
        char id[8];

        assert_ptr_not_equal(copy, records[i]);
        assert_int_equal(copy->lsn, 100 + i);
        assert_int_equal(copy->stream, 2);
        assert_memory_equal(&copy->hash, &records[i]->hash, sizeof(copy->hash));
        snprintf(id, sizeof(id), "id-%u", i);
        assert_int_equal(copy->id_length, strlen(id));
        assert_memory_equal(record_id(copy), id, strlen(id));
    }
    /* A worker has them: they are not given away twice, and are still to be done. */
    assert_null(reclaim_take_copies(reclaim));
    assert_false(reclaim_is_idle(reclaim));
    assert_true(reclaim_claimed(reclaim, copies, true));
    assert_true(reclaim_is_idle(reclaim));
}

static void copies_that_could_not_be_claimed_come_again(void **state)
{
    struct batch *copies;

    (void)state;
    assert_true(reclaim_copy(reclaim, records, 1));
    copies = reclaim_take_copies(reclaim);
    assert_false(reclaim_claimed(reclaim, copies, false));
    assert_false(reclaim_is_idle(reclaim));
    assert_ptr_equal(reclaim_take_copies(reclaim), copies);
    assert_true(reclaim_claimed(reclaim, copies, true));
}

static void only_the_last_copies_are_told_as_the_last(void **state)
{
    struct batch *first, *second;

    (void)state;
    assert_true(reclaim_copy(reclaim, records, 1));
    assert_true(reclaim_copy(reclaim, records + 1, 2));
    first = reclaim_take_copies(reclaim);
    second = reclaim_take_copies(reclaim);
    assert_ptr_not_equal(first, second);
    assert_false(reclaim_claimed(reclaim, first, true));
    assert_false(reclaim_is_idle(reclaim));
    assert_true(reclaim_claimed(reclaim, second, true));
}

static void a_recalled_batch_is_taken_once_and_its_records_stay(void **state)
{
    struct batch *batch = batch_create(2, RECORDS), *taken;

    (void)state;
    batch_add(batch, records[0]);
    reclaim_recall(reclaim, batch);
    assert_true(reclaim_is_idle(reclaim)); /* these are no copies */
    taken = reclaim_take_recalled(reclaim);
    assert_ptr_equal(taken, batch);
    assert_ptr_equal(taken->records[0], records[0]);
    assert_null(reclaim_take_recalled(reclaim));
    free(taken);
}

static void a_worker_that_sleeps_is_woken(void **state)
{
    const uint32_t before = ring_epoch(ring);
    uint32_t between;

    (void)state;
    assert_true(reclaim_copy(reclaim, records, 1));
    between = ring_epoch(ring);
    assert_int_not_equal(between, before);
    reclaim_recall(reclaim, batch_create(2, 1));
    assert_int_not_equal(ring_epoch(ring), between);
    /* What waits is freed at the end: the sanitizers see to that. */
}

static bool is_held(const char *run_id, char key[DISTRUST_KEY_MAX], uint64_t now_ms)
{
    struct distrust_sight sight = {.server = "redis:1",
                                   .has_key = key[0] != '\0',
                                   .key = {key, strlen(key)},
                                   .began_ms = now_ms - 1,
                                   .now_ms = now_ms,
                                   .real_ms = 1700000000000 + now_ms};
    struct distrust_window window;
    char next[DISTRUST_KEY_MAX];

    snprintf(sight.run_id, sizeof(sight.run_id), "%s", run_id);
    if (distrust_see(distrust, &sight, &window, next)) {
        memcpy(key, next, sizeof(next));
        distrust_wrote(distrust, sight.place, now_ms);
    }
    return window.state == DISTRUST_HOLD;
}

static void nobody_believes_before_all_of_a_generation_is_claimed_again(void **state)
{
    char key[DISTRUST_KEY_MAX] = "";
    uint64_t generation = reclaim_generation(reclaim);

    (void)state;
    assert_false(is_held("a", key, 1000));
    assert_int_equal(reclaim_generation(reclaim), generation);
    assert_true(is_held("b", key, 2000));
    assert_int_not_equal(reclaim_generation(reclaim), generation);
    reclaim_finished(reclaim, generation); /* of the one before */
    assert_true(is_held("b", key, 3000));
    reclaim_finished(reclaim, reclaim_generation(reclaim));
    assert_false(is_held("b", key, 3100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(without_one_nothing_is_ever_to_be_done),
        TEST(copies_have_what_a_claim_needs_and_outlive_their_records),
        TEST(copies_that_could_not_be_claimed_come_again),
        TEST(only_the_last_copies_are_told_as_the_last),
        TEST(a_recalled_batch_is_taken_once_and_its_records_stay),
        TEST(a_worker_that_sleeps_is_woken),
        TEST(nobody_believes_before_all_of_a_generation_is_claimed_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
