/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vacate.c - the records that a holder has in segments to be vacated are moved, in small
 * groups.
 */
#include "alloy/vacate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#define SEGMENT ((size_t)1 << 20)
#define BYTES 256
#define SEGMENTS 20
#define EACH 150 /* LIVE records in each */
#define COUNT (SEGMENTS * EACH)
#define LARGE ((size_t)300 << 10)
#define GROUP_BYTES ((size_t)1 << 20) /* about: what one turn moves */
#define IDLE_MS 100

static char error[JOURNAL_ERROR_MAX];
static uint64_t now_ms = 1;

/* Some of what it has is just being read. */
struct holder {
    struct record *records[COUNT];
    size_t count, busy;
    size_t walks;
};

static void walk(void *arg, vacate_visit_fn visit, void *visit_arg)
{
    struct holder *holder = arg;

    holder->walks++;
    for (size_t i = holder->busy; i < holder->count; i++)
        visit(visit_arg, &holder->records[i]);
}

static struct journal *open_journal(void)
{
    static const char *const names[] = {"orders"};
    const struct journal_options options = {
        .segment_bytes = SEGMENT,
        .max_bytes = (SEGMENTS + 1) * SEGMENT,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = 1,
    };
    struct journal *journal;

    assert_int_equal(journal_open(&journal, &options, error), 0);
    return journal;
}

static struct record *append(struct journal_writer *writer, size_t bytes)
{
    static char text[LARGE];
    const struct journal_entry entry = {
        .text = {text, bytes - sizeof(struct record) - 1}, .id = {text, 8}, .id_verbatim = true};

    assert_int_equal(journal_writer_reserve(writer, &bytes, 1), 0);
    return journal_writer_append(writer, &entry, 1);
}

/* In each segment the first `each` records, of so many bytes, are LIVE, and the others finished. */
static void fill(struct journal *journal, struct holder *holder, size_t each, size_t bytes)
{
    struct journal_writer *writer = journal_writer_create(journal);
    const size_t finished = (SEGMENT - segment_begin(SEGMENT) - each * bytes) / BYTES;

    for (size_t segment = 0; segment < SEGMENTS; segment++) {
        for (size_t i = 0; i < each; i++)
            holder->records[holder->count++] = append(writer, bytes);
        for (size_t i = 0; i < finished; i++) {
            struct record *record = append(writer, BYTES);

            journal_finish(journal, &record, 1, RECORD_INSERTED);
        }
    }
    journal_writer_destroy(writer);
}

/* Seals are noted the first time, and have the age the second time. */
static void want_vacating(struct journal *journal)
{
    journal_maintain(journal, now_ms += 1000, 0);
    journal_maintain(journal, now_ms += 1000, 0);
    assert_true(journal_wants_vacating(journal));
}

static void a_holder_moves_what_it_may_and_comes_again(void **state)
{
    static struct holder holder;
    static struct vacate vacate;
    struct journal *journal = open_journal();
    uint64_t lsns[COUNT];

    (void)state;
    fill(journal, &holder, EACH, BYTES);
    for (size_t i = 0; i < COUNT; i++)
        lsns[i] = holder.records[i]->lsn;
    vacate_init(&vacate, journal, walk, &holder);
    vacate_run(&vacate, now_ms);
    assert_int_equal(holder.walks, 0);
    assert_true(vacate_due_ms(&vacate) == UINT64_MAX);
    holder.busy = 1;
    want_vacating(journal);
    /* A group at a time, and a rest after it. */
    vacate_run(&vacate, now_ms);
    vacate_run(&vacate, now_ms);
    assert_int_equal(holder.walks, 1);
    assert_int_equal(vacate.count, JOURNAL_MOVE_MAX);
    assert_true(vacate_due_ms(&vacate) > now_ms);
    for (int i = 0; i < 10; i++) {
        journal_maintain(journal, now_ms += 5000, 0);
        vacate_run(&vacate, now_ms);
    }
    /* What is busy stays where it is, with its segment. */
    assert_int_equal(holder.records[0]->copies, 0);
    for (size_t i = 1; i < COUNT; i++)
        assert_true(holder.records[i]->lsn == lsns[i]);
    assert_true(journal_bytes(journal) <= 8 * SEGMENT);
    for (size_t i = 0; i < COUNT; i++)
        journal_finish(journal, &holder.records[i], 1, RECORD_INSERTED);
    journal_maintain(journal, now_ms += 1000, 0);
    journal_maintain(journal, now_ms += 1000, 0);
    assert_int_equal(journal_bytes(journal), 0);
    journal_close(journal);
}

static void a_group_of_large_records_is_small(void **state)
{
    static struct holder holder;
    static struct vacate vacate;
    struct journal *journal = open_journal();

    (void)state;
    fill(journal, &holder, 2, LARGE);
    vacate_init(&vacate, journal, walk, &holder);
    want_vacating(journal);
    vacate_run(&vacate, now_ms);
    assert_int_equal(holder.walks, 1);
    assert_in_range(vacate.count * LARGE, GROUP_BYTES, GROUP_BYTES + LARGE - 1);
    journal_close(journal);
}

static void a_holder_with_nothing_to_move_does_not_look_again_soon(void **state)
{
    static struct holder holder;
    static struct vacate vacate;
    struct journal *journal = open_journal();

    (void)state;
    fill(journal, &holder, EACH, BYTES);
    holder.busy = holder.count;
    vacate_init(&vacate, journal, walk, &holder);
    want_vacating(journal);
    vacate_run(&vacate, now_ms);
    assert_int_equal(holder.walks, 1);
    assert_int_equal(vacate.count, 0);
    assert_true(vacate_due_ms(&vacate) >= now_ms + IDLE_MS);
    vacate_run(&vacate, now_ms + IDLE_MS - 1);
    assert_int_equal(holder.walks, 1);
    journal_close(journal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_holder_moves_what_it_may_and_comes_again),
        cmocka_unit_test(a_group_of_large_records_is_small),
        cmocka_unit_test(a_holder_with_nothing_to_move_does_not_look_again_soon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
