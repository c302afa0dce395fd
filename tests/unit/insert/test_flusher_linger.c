/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher_linger.c - how long batches wait for more, and what ends that early. "For ever" is a
 * linger that is longer than a test may take.
 */
#include "flusher_world.h"

#include <sys/eventfd.h>

#define FOR_EVER_MS 60000

static struct world *linger(void **state, uint64_t ms)
{
    struct world *world = *state;

    world->config.clickhouse_insert_linger_ms = ms;
    start(world);
    return world;
}

static void nothing_goes(struct world *world)
{
    const size_t before = fake_count(&world->fake);

    pause_ms(50);
    assert_int_equal(fake_count(&world->fake), before);
}

static void reload(struct world *world, uint64_t rows, uint64_t ms)
{
    static struct config next;

    next = world->config;
    next.clickhouse_insert_rows = rows;
    next.clickhouse_insert_linger_ms = ms;
    atomic_store(&world->ref.current, &next);
    flusher_reload(world->flusher);
}

static void batches_that_come_within_the_linger_are_one_insert(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);

    for (int i = 0; i < 7; i++)
        submit(world, 0, 10, -1);
    nothing_goes(world);
    reload(world, 100, 1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 1);
    assert_int_equal(world->fake.requests[0].rows, 70);
}

static void an_insert_that_is_full_goes_at_once(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_insert_rows = 25;
    linger(state, FOR_EVER_MS);
    submit(world, 0, 10, -1);
    submit(world, 0, 10, -1);
    nothing_goes(world);
    submit(world, 0, 10, -1);
    WAIT_FOR(flusher_pending(world->flusher) == 10);
    assert_int_equal(fake_count(&world->fake), 1);
    assert_int_equal(world->fake.requests[0].rows, 20); /* whole batches */
    submit(world, 0, 60, -1);
    WAIT_FOR(flusher_pending(world->flusher) == 10); /* went: 10, 25 and 25 */
}

static void streams_wait_each_on_its_own(void **state)
{
    struct world *world = *state;

    world->config.clickhouse_insert_rows = 5;
    linger(state, FOR_EVER_MS);
    submit(world, 0, 4, -1);
    submit(world, 1, 5, -1);
    WAIT_FOR(flusher_pending(world->flusher) == 4);
    nothing_goes(world);
}

static void an_end_waits_for_nothing(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);

    submit(world, 0, 3, -1);
    submit(world, 1, 3, -1);
    nothing_goes(world);
    flusher_hurry(world->flusher);
    wait_empty(world);
    submit(world, 0, 3, -1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 3);
}

static void a_reload_changes_both_keys_at_once(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);

    submit(world, 0, 3, -1);
    nothing_goes(world);
    reload(world, 2, 1);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 2);
}

static void what_is_frozen_goes_at_once(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);
    struct batch *batch = make_batch(world, 0, 4, -1);

    batch->insert_id = journal_next_insert_id(world->journal);
    assert_int_equal(journal_stamp(world->journal, batch->records, batch->count, batch->insert_id),
                     0);
    submit(world, 0, 3, -1);
    nothing_goes(world);
    flusher_submit(world->flusher, batch);
    wait_empty(world);
    assert_int_equal(fake_count(&world->fake), 2);
}

static void a_bad_row_is_found_without_waiting(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);

    submit(world, 0, 8, 3);
    submit(world, 0, 8, -1);
    nothing_goes(world);
    reload(world, 16, FOR_EVER_MS); /* full now */
    wait_empty(world);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_dead_lettered], 1);
    assert_int_equal(snapshot(world)->streams[0][METRIC_STREAM_inserted], 15);
}

static void a_large_part_of_the_journal_does_not_wait(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);
    struct batch *batch = make_batch(world, 0, 3, -1);

    batch->bytes = journal_bytes_max(world->journal) / 8 + 1;
    submit(world, 1, 3, -1);
    nothing_goes(world);
    world->fake.mode_table = "%60ta%60"; /* its length is wrong, so it cannot go in */
    fake_set(&world->fake, FAKE_RESET, -1);
    flusher_submit(world->flusher, batch);
    WAIT_FOR(journal_live(world->journal, 1) == 0);
}

static void what_somebody_waits_for_goes_at_once(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);
    const int fd = eventfd(0, EFD_CLOEXEC);
    struct waiter_inbox *inbox = waiter_inbox_create(world->waiters, fd);
    struct waiter *waiter = waiter_create(inbox, 1);
    struct batch *batch = make_batch(world, 0, 3, -1);

    submit(world, 0, 2, -1);
    submit(world, 1, 2, -1);
    nothing_goes(world);
    waiter_own(waiter, 0, &batch->records[1]->hash, batch->records[1]->lsn);
    waiter_arm(waiter, 0);
    flusher_submit(world->flusher, batch);
    WAIT_FOR(flusher_pending(world->flusher) == 2); /* of the other stream */
    assert_int_equal(fake_count(&world->fake), 1);
    assert_int_equal(world->fake.requests[0].rows, 5);
    assert_ptr_equal(waiter_inbox_take(inbox), waiter);
    assert_int_equal(waiter_end(waiter).verdict, WAITER_INSERTED);
    waiter_destroy(waiter);
    waiter_inbox_destroy(inbox);
    close(fd);
}

static void what_somebody_begins_to_wait_for_goes_at_once(void **state)
{
    struct world *world = linger(state, FOR_EVER_MS);
    const int fd = eventfd(0, EFD_CLOEXEC);
    struct waiter_inbox *inbox = waiter_inbox_create(world->waiters, fd);
    struct waiter *waiter = waiter_create(inbox, 1);
    struct batch *batch = make_batch(world, 0, 3, -1);
    const struct hash128 hash = batch->records[1]->hash;
    const uint64_t lsn = batch->records[1]->lsn;

    flusher_submit(world->flusher, batch);
    submit(world, 1, 2, -1);
    nothing_goes(world);
    waiter_follow(waiter, 0, &hash, lsn);
    waiter_arm(waiter, 0);
    WAIT_FOR(flusher_pending(world->flusher) == 2);
    assert_ptr_equal(waiter_inbox_take(inbox), waiter);
    waiter_destroy(waiter);
    waiter_inbox_destroy(inbox);
    close(fd);
}

static void one_event_waits_no_longer_than_the_linger(void **state)
{
    struct world *world = linger(state, 100);
    const uint64_t before_ms = clock_mono_ms();

    submit(world, 0, 1, -1);
    wait_empty(world);
    assert_in_range(clock_mono_ms() - before_ms, 100, DEADLINE_MS);
    assert_int_equal(fake_count(&world->fake), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(batches_that_come_within_the_linger_are_one_insert),
        TEST(an_insert_that_is_full_goes_at_once),
        TEST(streams_wait_each_on_its_own),
        TEST(an_end_waits_for_nothing),
        TEST(a_reload_changes_both_keys_at_once),
        TEST(what_is_frozen_goes_at_once),
        TEST(a_bad_row_is_found_without_waiting),
        TEST(a_large_part_of_the_journal_does_not_wait),
        TEST(what_somebody_waits_for_goes_at_once),
        TEST(what_somebody_begins_to_wait_for_goes_at_once),
        TEST(one_event_waits_no_longer_than_the_linger),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
