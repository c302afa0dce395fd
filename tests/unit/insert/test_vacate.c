/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vacate.c - moves what a holder has in segments that are to be vacated, in small groups.
 */
#include "vacate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#define SEGMENT ((size_t)1 << 20)
#define BYTES 256
#define SEGMENTS 20
#define EACH 150 /* LIVE records in each */
#define COUNT (SEGMENTS * EACH)

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

static void fill(struct journal *journal, struct holder *holder)
{
    static char text[BYTES];
    const struct journal_entry entry = {
        .text = {text, BYTES - sizeof(struct record) - 1}, .id = {text, 8}, .id_verbatim = true};
    struct journal_writer *writer = journal_writer_create(journal);
    const size_t in_segment = (SEGMENT - SEGMENT_HEADER_BYTES) / BYTES, size = BYTES;

    for (size_t i = 0; i < SEGMENTS * in_segment; i++) {
        struct record *record;

        assert_int_equal(journal_writer_reserve(writer, &size, 1), 0);
        record = journal_writer_append(writer, &entry, 1);
        if (i % in_segment < EACH)
            holder->records[holder->count++] = record;
        else
            journal_finish(journal, &record, 1, RECORD_INSERTED);
    }
    journal_writer_destroy(writer);
}

static void a_holder_moves_what_it_may_and_comes_again(void **state)
{
    static const char *const names[] = {"orders"};
    const struct journal_options options = {
        .segment_bytes = SEGMENT,
        .max_bytes = (SEGMENTS + 1) * SEGMENT,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = 1,
    };
    static struct holder holder;
    static struct vacate vacate;
    struct journal *journal;
    uint64_t lsns[COUNT];

    (void)state;
    assert_int_equal(journal_open(&journal, &options, error), 0);
    fill(journal, &holder);
    for (size_t i = 0; i < COUNT; i++)
        lsns[i] = holder.records[i]->lsn;
    vacate_init(&vacate, journal, walk, &holder);
    vacate_run(&vacate, now_ms);
    assert_int_equal(holder.walks, 0);
    assert_true(vacate_due_ms(&vacate) == UINT64_MAX);
    holder.busy = 1;
    journal_maintain(journal, now_ms += 1000, 0);
    journal_maintain(journal, now_ms += 1000, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_holder_moves_what_it_may_and_comes_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
