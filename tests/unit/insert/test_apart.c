/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_apart.c - good rows first, and no row to the dead letters without proof.
 */
#include "rows_fixture.h"

#include "apart.h"

static struct apart apart;
static struct record *good, *bad; /* of two shapes */

static int setup(void **state)
{
    (void)state;
    apart_init(&apart);
    good = make_row("{\"id\":\"1\",\"n\":1}");
    bad = make_row("{\"id\":\"1\",\"n\":\"\"}");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    apart_clear(&apart);
    free(good);
    free(bad);
    return 0;
}

/* n rows of one kind and m of another. */
static struct insert *make(struct record *first, size_t n, struct record *second, size_t m)
{
    struct insert *insert = insert_create(0, n + m);

    assert_non_null(insert);
    for (size_t i = 0; i < n + m; i++)
        insert_add(insert, i < n ? &first : &second, 1, good->body_length);
    return insert;
}

/* A row that was refused alone, from refused_ns to answered_ns, and is kept. */
static struct insert *keep(uint64_t refused_ns, uint64_t answered_ns)
{
    struct insert *insert = make(bad, 1, NULL, 0);

    refuse(insert);
    insert->refused_ns = refused_ns;
    insert->answered_ns = answered_ns;
    insert_move(insert, INSERT_KEPT);
    insert_list_push_back(&apart.kept, insert);
    return insert;
}

/* Rows of the bad shape are refused alone, n times in a row. */
static void refuse_alone(size_t n)
{
    struct insert *insert = make(bad, 1, NULL, 0);

    for (size_t i = 0; i < n; i++)
        apart_note_refused(&apart, insert);
    insert_destroy(insert);
}

static void review(uint64_t taken_ns, uint64_t checked_ns)
{
    apart_review(&apart, &(struct apart_proof){.taken_ns = taken_ns, .checked_ns = checked_ns});
}

static void a_value_is_at_fault_once_the_table_takes_rows(void **state)
{
    (void)state;
    keep(100, 200)->sure = true;
    review(50, 250); /* it took rows once, and has changed since */
    assert_int_equal(apart.kept.count, 1);
    apart.kept.first->tried_ns = 150;
    apart_review(&apart, &(struct apart_proof){.takes_since_ns = 149});
    assert_int_equal(apart.burying.count, 1);
    /* Tried before the table took a row, it may go in now. */
    keep(100, 200)->sure = true;
    apart.kept.first->tried_ns = 150;
    apart_review(&apart, &(struct apart_proof){.takes_since_ns = 150});
    assert_int_equal(apart.burying.count, 1);
    assert_int_equal(apart.again.count, 1);
}

static void so_many_values_and_no_other_row_are_the_tables_fault(void **state)
{
    (void)state;
    for (int i = 1; i < APART_TRUSTED; i++)
        keep(100, 200)->sure = true;
    apart_review(&apart, &(struct apart_proof){.all_tried = false});
    assert_int_equal(apart.kept.count, APART_TRUSTED - 1);
    keep(100, 200)->sure = true;
    apart_review(&apart, &(struct apart_proof){.all_tried = true});
    assert_int_equal(apart.kept.count, APART_TRUSTED);
    insert_destroy(apart_take_kept(&apart));
    apart_review(&apart, &(struct apart_proof){.all_tried = true});
    assert_int_equal(apart.burying.count, APART_TRUSTED - 1);
}

static void a_row_is_buried_when_others_went_in_between_two_refusals(void **state)
{
    struct insert *kept = keep(100, 200);

    (void)state;
    review(150, 0); /* before it was sent again: the table may have broken since */
    assert_int_equal(apart.kept.count, 1);
    kept->proven = true; /* as the flusher sets it when it sends */
    review(150, 0);
    assert_int_equal(apart.burying.count, 1);
    assert_int_equal(apart.burying.first->state, INSERT_BURYING);
    (void)keep(100, 200);
    review(250, 0); /* it goes again: then the next answer tells */
    assert_int_equal(apart.again.count, 1);
    assert_int_equal(apart.burying.count, 1);
    assert_int_equal(apart.kept.count, 0);
}

static void a_table_that_is_known_to_be_the_same_is_proof_for_so_many_rows(void **state)
{
    (void)state;
    (void)keep(100, 200);
    review(50, 150); /* looked at before it was refused */
    assert_int_equal(apart.kept.count, 1);
    refuse_alone(APART_TRUSTED);
    review(50, 250);
    assert_int_equal(apart.kept.count, 1);
    apart.refused_alone = APART_TRUSTED - 1;
    review(50, 250);
    assert_int_equal(apart.burying.count, 1);
}

static void on_demand_all_is_buried_but_what_may_be_in(void **state)
{
    struct insert *doubtful = make(bad, 2, NULL, 0);
    struct insert *put_off = make(bad, 1, NULL, 0);

    (void)state;
    doubtful->id = 1;
    insert_move(doubtful, INSERT_FROZEN);
    insert_move(doubtful, INSERT_PUT_OFF);
    apart_put_off(&apart, doubtful);
    refuse(put_off);
    apart_put_off(&apart, put_off);
    (void)keep(100, 200);
    apart_add_likely(&apart, make(good, 3, NULL, 0));
    assert_int_equal(apart_rows(&apart), 7);
    apart_bury(&apart, true);
    assert_int_equal(apart.burying.count, 3);
    assert_ptr_equal(apart.again.first, doubtful);
    assert_int_equal(apart.again.count, 1);
    assert_int_equal(apart_rows(&apart), 7);
}

static void what_looks_like_the_bad_rows_goes_last_while_that_is_the_rule(void **state)
{
    struct insert *insert, *one;

    (void)state;
    insert = make(bad, 3, good, 3);
    refuse_alone(1);
    assert_ptr_equal(apart_sift(&apart, insert, false), insert);
    assert_int_equal(insert->count, 6);
    refuse_alone(3);
    insert = apart_sift(&apart, insert, false);
    assert_int_equal(insert->count, 3);
    assert_int_equal(insert_row_shape(insert_records(insert)[0]), insert_row_shape(good));
    assert_false(insert->aside);
    insert_destroy(insert);
    assert_int_equal(apart.suspects.count, 1);
    assert_true(apart.suspects.first->alike);
    /* Row by row, and when one of them goes in that is no longer the rule. */
    one = apart_next(&apart, 1, false);
    assert_int_equal(one->count, 1);
    apart_note_success(&apart, one);
    insert_destroy(one);
    insert = make(bad, 3, good, 3);
    assert_ptr_equal(apart_sift(&apart, insert, false), insert);
    insert_destroy(insert);
}

static void a_new_bad_shape_sorts_what_is_not_tried_yet(void **state)
{
    struct insert *next;

    (void)state;
    insert_list_push_back(&apart.suspects, make(bad, 2, good, 2));
    insert_list_push_back(&apart.suspects, make(good, 1, NULL, 0));
    refuse_alone(1);
    next = apart_next(&apart, 1, false);
    assert_int_equal(next->count, 2);
    assert_int_equal(insert_row_shape(insert_records(next)[0]), insert_row_shape(good));
    insert_destroy(next);
    next = apart_next(&apart, 1, false);
    assert_int_equal(next->count, 1);
    assert_int_equal(insert_row_shape(insert_records(next)[0]), insert_row_shape(good));
    insert_destroy(next);
    next = apart_next(&apart, 1, false);
    assert_true(next->alike);
    insert_destroy(next);
}

static void nobody_waits_for_an_insert_that_waits_itself(void **state)
{
    struct insert *insert = make(bad, 2, NULL, 0);
    struct insert *first;

    (void)state;
    refuse(insert);
    assert_int_equal(apart_cut(&apart, insert, -1), 0);
    first = apart_next(&apart, 1, false);
    /* Its answer tells of the second half. */
    assert_null(apart_next(&apart, 1, false));
    first->id = 2;
    first->due_ms = 1000;
    insert_move(first, INSERT_FROZEN);
    insert_move(first, INSERT_PUT_OFF);
    apart_put_off(&apart, first);
    insert = apart_next(&apart, 1, false);
    assert_non_null(insert);
    assert_false(insert->suspect);
    insert_destroy(insert);
    assert_int_equal(apart_next_due(&apart), 1000);
    assert_false(apart_due(&apart, 999, false));
    assert_true(apart_due(&apart, 1000, false));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_row_is_buried_when_others_went_in_between_two_refusals),
        TEST(a_value_is_at_fault_once_the_table_takes_rows),
        TEST(so_many_values_and_no_other_row_are_the_tables_fault),
        TEST(a_table_that_is_known_to_be_the_same_is_proof_for_so_many_rows),
        TEST(on_demand_all_is_buried_but_what_may_be_in),
        TEST(what_looks_like_the_bad_rows_goes_last_while_that_is_the_rule),
        TEST(a_new_bad_shape_sorts_what_is_not_tried_yet),
        TEST(nobody_waits_for_an_insert_that_waits_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
