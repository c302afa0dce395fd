/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lane.c - how large the next insert is, when it may go, and how trouble ends.
 */
#include "rows_fixture.h"

#include "alloy/clock.h"
#include "lane.h"

static const struct lane_wait waits = {.min_ms = 1000, .max_ms = 60000};
static struct record *row;

static int setup(void **state)
{
    struct lane *lane = calloc(1, sizeof(*lane));

    row = make_row("{\"id\":\"1\"}");
    lane_init(lane, 0);
    *state = lane;
    return 0;
}

static int teardown(void **state)
{
    lane_clear(*state);
    free(*state);
    free(row);
    return 0;
}

static void add(struct lane *lane, uint32_t rows, uint64_t insert_id)
{
    struct batch *batch = batch_create(0, rows);

    for (uint32_t i = 0; i < rows; i++)
        batch_add(batch, row);
    batch->insert_id = insert_id;
    lane_add_batch(lane, batch);
}

static void next_has(struct lane *lane, size_t rows)
{
    struct insert *insert;

    assert_true(lane_due(lane, clock_mono_ms()));
    insert = lane_next(lane, clock_mono_ms(), 1000);
    assert_non_null(insert);
    assert_int_equal(insert->count, rows);
    insert_destroy(insert);
}

static struct batch *batch_at(uint32_t rows, uint64_t since_ms)
{
    struct batch *batch = batch_create(0, rows);

    for (uint32_t i = 0; i < rows; i++)
        batch_add(batch, row);
    batch->since_ms = since_ms;
    return batch;
}

static void batches_wait_for_more_for_the_linger_of_the_oldest(void **state)
{
    struct lane *lane = *state;
    struct insert *insert;

    lane_limit(lane, 100, 50);
    lane_add_batch(lane, batch_at(2, 1000));
    lane_add_batch(lane, batch_at(3, 1040));
    assert_false(lane_due(lane, 1049));
    assert_int_equal(lane_next_due(lane, 1049), 1050);
    assert_true(lane_due(lane, 1050));
    insert = lane_next(lane, 1050, 1000);
    assert_int_equal(insert->count, 5);
    insert_destroy(insert);
    assert_int_equal(lane_next_due(lane, 1050), UINT64_MAX);
    lane_add_batch(lane, batch_at(1, 1060));
    assert_false(lane_due(lane, 1109));
    assert_true(lane_due(lane, 1110));
    lane_limit(lane, 100, 10); /* as a reload does */
    assert_true(lane_due(lane, 1070));
    lane_limit(lane, 100, 0);
    assert_true(lane_due(lane, 1060));
}

static void a_full_insert_does_not_wait(void **state)
{
    struct lane *lane = *state;

    lane_limit(lane, 4, 50);
    lane_add_batch(lane, batch_at(3, 1000));
    assert_false(lane_due(lane, 1001));
    lane_add_batch(lane, batch_at(1, 1000));
    assert_true(lane_due(lane, 1001));
    lane_add_batch(lane, batch_at(3, 1001));
    next_has(lane, 4);
    assert_false(lane_due(lane, 1050)); /* what is left begins to wait when it came */
    assert_true(lane_due(lane, 1051));
    next_has(lane, 3);
    lane->bytes_max = 3 * row->body_length;
    lane_add_batch(lane, batch_at(2, 1000));
    assert_false(lane_due(lane, 1001));
    lane_add_batch(lane, batch_at(2, 1000));
    assert_true(lane_due(lane, 1001));
}

static void what_is_urgent_or_frozen_takes_along_what_came_before(void **state)
{
    struct lane *lane = *state;
    struct batch *urgent = batch_at(1, 1000);

    lane_limit(lane, 100, 50);
    lane_add_batch(lane, batch_at(2, 1000));
    urgent->urgent = true;
    lane_add_batch(lane, urgent);
    assert_true(lane_due(lane, 1000));
    next_has(lane, 3);
    lane_add_batch(lane, batch_at(2, 1000));
    assert_false(lane_due(lane, 1000));
    lane_press(lane); /* somebody has begun to wait for one of them */
    lane_press(lane);
    assert_true(lane_due(lane, 1000));
    next_has(lane, 2);
    lane_add_batch(lane, batch_at(2, 1000));
    assert_false(lane_due(lane, 1000));
    add(lane, 3, 77);
    next_has(lane, 2);
    next_has(lane, 3);
    lane_press(lane);
    lane_add_batch(lane, batch_at(2, 1000));
    assert_false(lane_due(lane, 1000));
}

static void a_batch_larger_than_an_insert_goes_in_pieces_at_once(void **state)
{
    struct lane *lane = *state;

    lane_limit(lane, 2, 50);
    lane_add_batch(lane, batch_at(5, 1000));
    for (int i = 0; i < 2; i++) {
        assert_true(lane_due(lane, 1000));
        next_has(lane, 2);
    }
    assert_false(lane_due(lane, 1000)); /* the last row may yet get company */
    assert_true(lane_due(lane, 1050));
    next_has(lane, 1);
    assert_int_equal(lane->gathered_rows, 0);
    assert_int_equal(lane->gathered_bytes, 0);
}

static void nothing_waits_for_more_while_something_has_failed(void **state)
{
    struct lane *lane = *state;
    struct insert *failed = insert_create(0, 1);

    lane_limit(lane, 100, 50);
    lane_add_batch(lane, batch_at(1, 1000));
    assert_false(lane_due(lane, 1000));
    lane->apart.out = 1;
    assert_true(lane_due(lane, 1000));
    lane->apart.out = 0;
    assert_false(lane_due(lane, 1000));
    failed->due_ms = 5000;
    insert_list_push_back(&lane->waiting, failed);
    assert_true(lane_due(lane, 1000));
    insert_destroy(insert_list_pop(&lane->waiting));
    assert_false(lane_due(lane, 1000));
    lane_move(lane, LANE_TROUBLED);
    lane->backoff.failures = 0;
    assert_true(lane_due(lane, 1000));
}

static void the_most_rows_of_an_insert_may_change(void **state)
{
    struct lane *lane = *state;

    lane_limit(lane, 10, 0);
    assert_int_equal(lane->rows_max, 10);
    lane_limit(lane, 1000, 0);
    assert_int_equal(lane->rows_max, 1000);
    lane->rows_max = 50; /* larger ones were refused */
    lane_limit(lane, 2000, 0);
    assert_int_equal(lane->rows_max, 50);
    lane_limit(lane, 20, 0);
    assert_int_equal(lane->rows_max, 20);
}

static void what_gathered_before_anything_lingered_goes_at_once(void **state)
{
    struct lane *lane = *state;

    lane_limit(lane, 100, 0);
    lane_add_batch(lane, batch_at(1, 1000));
    lane_limit(lane, 100, 50);
    assert_true(lane_due(lane, 1000));
}

static void batches_gather_up_to_the_size_that_has_passed(void **state)
{
    struct lane *lane = *state;

    for (int i = 0; i < 3; i++)
        add(lane, 4, 0);
    lane->rows_max = 9;
    next_has(lane, 8);
    lane->rows_max = 3;
    next_has(lane, 3);
    next_has(lane, 1);
    assert_false(lane_due(lane, clock_mono_ms()));
}

static void a_row_beyond_that_size_goes_alone(void **state)
{
    struct lane *lane = *state;

    add(lane, 2, 0);
    lane->bytes_max = 1;
    next_has(lane, 1);
    lane->rows_max = 0;
    next_has(lane, 1);
}

static void an_insert_that_replay_found_stays_what_it_was(void **state)
{
    struct lane *lane = *state;
    struct insert *insert;

    add(lane, 2, 0);
    add(lane, 3, 77 | INSERT_ID_ASYNC);
    add(lane, 2, 0);
    next_has(lane, 2);
    insert = lane_next(lane, clock_mono_ms(), 1000);
    assert_int_equal(insert->count, 3);
    assert_int_equal(insert->id, 77 | INSERT_ID_ASYNC);
    assert_int_equal(insert->state, INSERT_FROZEN);
    assert_true(insert->async && insert->stamped && insert->doubt);
    insert_destroy(insert);
    next_has(lane, 2);
}

static void trouble_ends_with_a_success_and_with_rows_that_are_judged(void **state)
{
    struct lane *lane = *state;
    struct insert *insert = insert_create(0, 1);

    insert_add(insert, &row, 1, row->body_length);
    for (int i = 0; i < 2; i++) {
        lane_back_off(lane, &waits, false);
        assert_int_equal(lane->state, LANE_TROUBLED);
        lane->out = 1;
        add(lane, 1, 0);
        assert_false(lane_due(lane, lane->retry_at_ms + 1));
        if (i == 0)
            lane_succeed(lane, insert, clock_mono_ns());
        else
            lane_judged(lane);
        assert_int_equal(lane->state, LANE_WELL);
        next_has(lane, 1); /* beside the one that is out */
        lane->out = 0;
    }
    /* A table that takes no row has to take one first. */
    lane_move(lane, LANE_REFUSES);
    lane_judged(lane);
    assert_int_equal(lane->state, LANE_REFUSES);
    lane_succeed(lane, insert, clock_mono_ns());
    assert_int_equal(lane->state, LANE_WELL);
    insert_destroy(insert);
}

static void what_was_on_its_way_when_the_table_broke_says_nothing_of_it(void **state)
{
    struct lane *lane = *state;
    struct insert *insert = insert_create(0, 1);
    const uint64_t before_ns = clock_mono_ns();

    insert_add(insert, &row, 1, row->body_length);
    lane_refused(lane);
    lane_succeed(lane, insert, before_ns);
    assert_int_equal(lane->takes_since_ns, 0);
    assert_false(lane_takes_rows(lane));
    assert_int_equal(lane->taken_ns, before_ns);
    lane_refused(lane); /* more of them change nothing: good ones come between bad ones */
    lane_succeed(lane, insert, clock_mono_ns());
    assert_true(lane_takes_rows(lane));
    assert_int_not_equal(lane->takes_since_ns, 0);

    const uint64_t since_ns = lane->takes_since_ns;
    lane_refused(lane);
    /* It is known to take rows: bad ones do not change that. */
    lane_succeed(lane, insert, before_ns);
    assert_int_equal(lane->takes_since_ns, since_ns);

    lane->version++;
    lane_doubt(lane);
    lane_succeed(lane, insert, since_ns);
    assert_false(lane_takes_rows(lane));
    insert_destroy(insert);
}

static void inserts_that_fail_together_are_one_failure(void **state)
{
    struct lane *lane = *state;
    const uint64_t now_ms = clock_mono_ms();

    for (int i = 0; i < 4; i++)
        lane_back_off(lane, &waits, false);
    assert_int_equal(lane->backoff.failures, 1);
    assert_in_range(lane->retry_at_ms, now_ms + waits.min_ms / 2, now_ms + 2 * waits.min_ms);
    lane_back_off(lane, &waits, true);
    assert_true(lane->retry_at_ms >= now_ms + waits.max_ms / 2);
}

static void the_pause_after_too_many_parts_ends(void **state)
{
    struct lane *lane = *state;
    struct insert *insert = insert_create(0, 1);

    insert_add(insert, &row, 1, row->body_length);
    for (int i = 0; i < 20; i++)
        lane_slow_down(lane, &waits);
    assert_int_equal(lane->pace_ms, waits.max_ms);
    for (int i = 0; i < 50; i++)
        lane_succeed(lane, insert, clock_mono_ns());
    assert_int_equal(lane->pace_ms, 0);
    assert_int_equal(lane->retry_at_ms, 0);
    insert_destroy(insert);
}

static void while_there_is_no_answer_no_new_insert_is_begun(void **state)
{
    struct lane *lane = *state;
    uint64_t then_ms;

    add(lane, 1, 0);
    lane_back_off(lane, &waits, false);
    then_ms = lane->retry_at_ms;
    assert_false(lane_due(lane, then_ms - 1));
    assert_false(lane_due(lane, then_ms));
    lane->answers = true;
    assert_true(lane_due(lane, then_ms));
    lane->waiting.count = LANE_WAITING_MAX;
    assert_false(lane_due(lane, then_ms));
    lane->waiting.count = 0;
}

static void what_runs_out_of_time_is_not_followed_by_more_of_it(void **state)
{
    struct lane *lane = *state;

    add(lane, 1, 0);
    lane->slow_count = LANE_WAITING_MAX;
    lane->slow_ns = 5;
    assert_false(lane_due(lane, clock_mono_ms()));
    lane->success_ns = 6; /* something has gone in since */
    assert_true(lane_due(lane, clock_mono_ms()));
}

static void inserts_grow_while_there_is_time_and_shrink_when_it_runs_short(void **state)
{
    struct lane *lane = *state;
    struct record *rows[100];
    struct insert *insert = insert_create(0, ARRAY_LEN(rows));

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        rows[i] = row;
    insert_add(insert, rows, ARRAY_LEN(rows), 100 * row->body_length);
    lane->rows_max = 100;
    lane_grow(lane, insert, 100, 1000);
    assert_int_equal(lane->rows_max, 113);
    lane->rows_max = 100;
    lane_grow(lane, insert, 200, 1000); /* an eighth of the time-out and more */
    assert_int_equal(lane->rows_max, 100);
    lane_grow(lane, insert, 500, 1000);
    assert_int_equal(lane->rows_max, 33);
    lane_grow(lane, insert, 0, 0);
    assert_true(lane->rows_max <= LANE_ROWS_MAX);
    insert_destroy(insert);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(batches_gather_up_to_the_size_that_has_passed),
        TEST(batches_wait_for_more_for_the_linger_of_the_oldest),
        TEST(a_full_insert_does_not_wait),
        TEST(what_is_urgent_or_frozen_takes_along_what_came_before),
        TEST(a_batch_larger_than_an_insert_goes_in_pieces_at_once),
        TEST(nothing_waits_for_more_while_something_has_failed),
        TEST(the_most_rows_of_an_insert_may_change),
        TEST(what_gathered_before_anything_lingered_goes_at_once),
        TEST(a_row_beyond_that_size_goes_alone),
        TEST(an_insert_that_replay_found_stays_what_it_was),
        TEST(trouble_ends_with_a_success_and_with_rows_that_are_judged),
        TEST(what_was_on_its_way_when_the_table_broke_says_nothing_of_it),
        TEST(inserts_that_fail_together_are_one_failure),
        TEST(the_pause_after_too_many_parts_ends),
        TEST(while_there_is_no_answer_no_new_insert_is_begun),
        TEST(what_runs_out_of_time_is_not_followed_by_more_of_it),
        TEST(inserts_grow_while_there_is_time_and_shrink_when_it_runs_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
