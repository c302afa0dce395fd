/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_apart.c - good rows first, and no row to the dead letters without proof.
 */
#include "rows_fixture.h"

#include <stdio.h>

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
    insert->tried_ns = answered_ns - 50;
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
    apart_review(&apart, &(struct apart_proof){.checked_ns = 250, .takes_since_ns = 180});
    assert_int_equal(apart.kept.count, 1); /* tried before the table was known to take rows */
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

/* Rows of one shape, of which the table takes those whose n is below 5000, or "4good". */
#define ROWS_MAX 20000

static struct record *rows[ROWS_MAX];
static size_t row_count;
static size_t inserts, in, dead; /* tried, rows that went in, rows refused alone */
static size_t dead_at_last;      /* rows refused alone when the last good one went in */

static unsigned draw(unsigned below)
{
    static uint64_t seed = 88172645463325252u;

    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 11) % below;
}

static void make_number(unsigned n)
{
    char text[128];

    snprintf(text, sizeof(text), "{\"id\":\"%08x-44a6-%04x\",\"c\":\"x\",\"n\":%u}", draw(1u << 31),
             draw(1 << 16), n);
    rows[row_count++] = make_row(text);
}

static void drop_rows(void)
{
    while (row_count > 0)
        free(rows[--row_count]);
}

static bool takes(const struct record *record)
{
    const char *n = strstr(record->body, "\"n\":") + 4;

    return *n < '5' && (*n != '"' || strncmp(n, "\"4good\"", 7) == 0);
}

static struct insert *make_insert(size_t from, size_t n)
{
    struct insert *insert = insert_create(0, n);

    assert_non_null(insert);
    for (size_t i = 0; i < n; i++)
        insert_add(insert, &rows[from + i], 1, rows[from + i]->body_length);
    return insert;
}

/* Answers an insert as the table would, naming the bad row as ClickHouse does. */
static void answer(struct insert *insert)
{
    size_t bad_at = 0;

    inserts++;
    while (bad_at < insert->count && takes(insert_records(insert)[bad_at]))
        bad_at++;
    if (bad_at == insert->count) {
        in += insert->count;
        dead_at_last = dead;
        apart_note_success(&apart, insert);
        insert_settle(insert, true);
        insert_destroy(insert);
        return;
    }
    refuse(insert);
    insert_settle(insert, false);
    if (insert->count > 1) {
        assert_int_equal(apart_cut(&apart, insert, (int64_t)bad_at), 0);
        return;
    }
    dead++;
    apart_note_refused(&apart, insert);
    insert_destroy(insert);
}

/* Takes all rows apart, with two inserts out at a time. */
static void take_apart(void)
{
    struct insert *out[2] = {NULL, NULL};
    size_t asked = 0;

    inserts = in = dead = dead_at_last = 0;
    for (size_t from = 0; from < row_count; from += 2000) {
        struct insert *insert =
            make_insert(from, row_count - from < 2000 ? row_count - from : 2000);
        insert = apart_sift(&apart, insert, false);
        assert_non_null(insert);
        answer(insert);
    }
    for (size_t i = 0; out[0] != NULL || out[1] != NULL || apart_rows(&apart) > 0; i++) {
        if (out[i % 2] != NULL)
            answer(out[i % 2]);
        out[i % 2] = apart_next(&apart, 1, false);
        assert_true(++asked < 4 * ROWS_MAX);
    }
    assert_int_equal(in + dead, row_count);
}

/* So many bad rows, and good ones among them at random. */
static void make_numbers(size_t n, unsigned good_in_1000)
{
    for (size_t i = 0; i < n; i++)
        make_number(draw(1000) < good_in_1000 ? 1000 + draw(4000) : 5000 + draw(5000));
}

static void good_rows_go_first_though_they_look_like_the_bad_ones(void **state)
{
    static const struct {
        unsigned good_in_1000;
        size_t dead_max, inserts_max;
    } cases[] = {{5, 150, 20300}, {100, 200, 18500}, {500, 200, 10500}, {970, 400, 1800}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        make_numbers(ROWS_MAX, cases[i].good_in_1000);
        take_apart();
        print_message("%u of 1000 good: %zu were in after %zu of %zu refusals, %zu inserts\n",
                      cases[i].good_in_1000, in, dead_at_last, dead, inserts);
        assert_true(dead_at_last <= cases[i].dead_max);
        assert_true(inserts <= cases[i].inserts_max);
        drop_rows();
        apart_clear(&apart);
        apart_init(&apart);
    }
}

static void rows_that_nothing_tells_apart_cost_no_more_inserts(void **state)
{
    char text[128];

    (void)state;
    for (size_t i = 0; i < 2000; i++) {
        snprintf(text, sizeof(text), "{\"id\":%u,\"n\":9}", 1000000 + draw(9000000));
        rows[row_count++] = make_row(text);
    }
    take_apart();
    assert_int_equal(dead, 2000);
    assert_true(inserts < 2000 + 50);
    drop_rows();
}

static void refuse_numbers(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct insert *insert;

        make_number(5000 + draw(5000));
        insert = make_insert(i, 1);
        apart_note_refused(&apart, insert);
        insert_destroy(insert);
    }
    drop_rows();
}

static void one_that_went_in_tells_of_its_like(void **state)
{
    char text[128];

    (void)state;
    /* Of words that are all different nothing tells which is bad, until one goes in. */
    for (size_t i = 0; i < 2000; i++) {
        if (draw(10) == 0)
            snprintf(text, sizeof(text), "{\"n\":\"4good\"}");
        else
            snprintf(text, sizeof(text), "{\"n\":\"%u%c%c%c%c\"}", draw(10), 'a' + (char)draw(26),
                     'a' + (char)draw(26), 'a' + (char)draw(26), 'a' + (char)draw(26));
        rows[row_count++] = make_row(text);
    }
    take_apart();
    assert_true(dead_at_last <= 300);
    drop_rows();
}

static void what_differs_most_goes_first(void **state)
{
    static const char *const texts[] = {"{\"a\":4,\"b\":4,\"n\":4}", "{\"a\":4,\"b\":7,\"n\":7}"};
    struct insert *next;

    (void)state;
    rows[row_count++] = make_row("{\"a\":7,\"b\":7,\"n\":7}");
    next = make_insert(0, 1);
    for (size_t i = 0; i < 16; i++)
        apart_note_refused(&apart, next);
    insert_destroy(next);
    for (size_t i = 0; i < 2; i++) {
        rows[row_count++] = make_row(texts[i]);
        next = make_insert(i + 1, 1);
        next->alike = true;
        insert_list_push_back(&apart.suspects, next);
    }
    next = apart_next(&apart, 1, false);
    assert_ptr_equal(insert_records(next)[0], rows[1]);
    insert_destroy(next);
    next = apart_next(&apart, 1, false);
    assert_ptr_equal(insert_records(next)[0], rows[2]);
    insert_destroy(next);
    drop_rows();
}

static void good_rows_do_not_wait_for_the_bad_one_that_was_with_them(void **state)
{
    struct insert *insert;

    (void)state;
    refuse_numbers(64);
    make_number(7000);
    make_number(1234);
    make_number(1235);
    insert = make_insert(0, 3);
    refuse(insert);
    assert_int_equal(apart_cut(&apart, insert, 0), 0);
    insert = apart_next(&apart, 1, false);
    assert_true(takes(insert_records(insert)[0]));
    insert_destroy(insert);
    apart_clear(&apart);
    drop_rows();
}

static void picks_that_are_refused_leave_others_their_turn(void **state)
{
    struct insert *insert;

    (void)state;
    refuse_numbers(64);
    for (unsigned i = 0; i < 1000; i++)
        make_number(i < 500 ? 5000 + draw(5000) : 1000 + draw(4000));
    insert = make_insert(0, 1000);
    insert->alike = true;
    insert_list_push_back(&apart.suspects, insert);
    for (unsigned i = 0; i < 16; i++) {
        apart.picks_refused = i;
        insert = apart_next(&apart, 1, false);
        assert_int_equal(insert->count, 1);
        assert_int_equal(insert->picked, i < 8 || i % 2 == 1);
        insert_destroy(insert);
    }
    apart_clear(&apart);
    drop_rows();
}

static void among_many_good_rows_none_is_picked(void **state)
{
    struct insert *insert;

    (void)state;
    refuse_numbers(64);
    make_numbers(4000, 1000);
    for (size_t from = 0; from < 4000; from += 2000) {
        insert = make_insert(from, 2000);
        insert->alike = true;
        insert_list_push_back(&apart.suspects, insert);
    }
    insert = apart_next(&apart, 1, false);
    assert_true(insert->picked);
    assert_true(insert->count < 10);
    insert_destroy(insert);
    apart_clear(&apart);
    apart_init(&apart);
    drop_rows();
    refuse_numbers(64);
    make_numbers(2000, 1000);
    insert = make_insert(0, 2000);
    for (int i = 0; i < 8; i++)
        apart_note_success(&apart, insert);
    insert->alike = true;
    apart.alike_refused = 0; /* halves */
    insert_list_push_back(&apart.suspects, insert);
    insert = apart_next(&apart, 1, false);
    assert_int_equal(insert->count, 2000);
    insert_destroy(insert);
    drop_rows();
}

static void a_lucky_row_does_not_bring_all_others_back(void **state)
{
    struct insert *insert = make(bad, 1, NULL, 0);

    (void)state;
    refuse_alone(64);
    insert->alike = true;
    apart_note_success(&apart, insert);
    assert_int_equal(apart.alike_refused, 16);
    apart_note_success(&apart, insert);
    apart_note_success(&apart, insert);
    assert_int_equal(apart.alike_refused, 1);
    insert_destroy(insert);
}

static void a_lane_that_has_given_up_sends_new_rows_that_differ(void **state)
{
    struct insert *insert;
    size_t kept = 0;

    (void)state;
    refuse_numbers(64);
    for (unsigned i = 0; i < 2000; i++)
        make_number(i == 300 ? 1234 : 5000 + draw(5000));
    insert = apart_sift(&apart, make_insert(0, 2000), true);
    assert_non_null(insert);
    assert_true(insert->count < 20);
    assert_false(insert->aside || insert->part || insert->picked || insert->alike);
    assert_int_equal(apart_rows(&apart), 2000 - insert->count);
    for (size_t i = 0; i < insert->count; i++)
        in += takes(insert_records(insert)[i]);
    assert_true(in > 0);
    insert_destroy(insert);
    for (size_t i = 0; i < 20; i++) {
        insert = apart_sift(&apart, make_insert(1000 + i, 1), true);
        kept += insert == NULL;
        insert_destroy(insert);
    }
    assert_true(kept > 15);
    apart_clear(&apart);
    drop_rows();
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
        TEST(good_rows_go_first_though_they_look_like_the_bad_ones),
        TEST(rows_that_nothing_tells_apart_cost_no_more_inserts),
        TEST(one_that_went_in_tells_of_its_like),
        TEST(what_differs_most_goes_first),
        TEST(good_rows_do_not_wait_for_the_bad_one_that_was_with_them),
        TEST(picks_that_are_refused_leave_others_their_turn),
        TEST(among_many_good_rows_none_is_picked),
        TEST(a_lucky_row_does_not_bring_all_others_back),
        TEST(a_lane_that_has_given_up_sends_new_rows_that_differ),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
