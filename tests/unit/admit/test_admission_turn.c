/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_admission_turn.c - how requests of one turn affect each other, and the turn's memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <malloc.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "alloy/admission.h"
#include "alloy/waiter.h"

#define SEGMENT ((size_t)1 << 20)
#define DROPPED 200000

static const struct json_scan_fields fields = {.names = {{"event_id", 8}}, .count = 1};

static struct ring *ring;
static struct journal *journal;
static struct journal_writer *writer;
static struct l1 *l1;
static struct l1_thread *l1_thread;
static struct metrics *metrics;
static struct waiter_table *waiters;
static struct waiter_inbox *inbox;
static int wake_fd;
static struct admission *admission;
static struct event_id_key key;

static int open_world(void **state)
{
    static const char *const names[] = {"orders"};
    char error[JOURNAL_ERROR_MAX];
    struct admission_parts parts;

    (void)state;
    waiters = waiter_table_create(16, 1000);
    const struct journal_options options = {.segment_bytes = SEGMENT,
                                            .max_bytes = 8 * SEGMENT,
                                            .sync = JOURNAL_SYNC_NEVER,
                                            .writer_count = 1,
                                            .stream_names = names,
                                            .stream_count = 1,
                                            .waiters = waiters};

    assert_int_equal(journal_open(&journal, &options, error), 0);
    event_id_key_derive(journal_secret(journal), names[0], &key);
    wake_fd = eventfd(0, EFD_NONBLOCK);
    inbox = waiter_inbox_create(waiters, wake_fd);
    ring = ring_create(100);
    l1 = l1_create(1000, 600000, 1);
    l1_thread = l1_thread_create(l1);
    metrics = metrics_create();
    writer = journal_writer_create(journal);
    parts = (struct admission_parts){.ring = ring,
                                     .journal = journal,
                                     .writer = writer,
                                     .l1 = l1_thread,
                                     .metrics = metrics_thread_create(metrics),
                                     .stream_keys = &key,
                                     .inbox = inbox};
    admission = admission_create(&parts);
    assert_non_null(admission);
    return 0;
}

static int close_world(void **state)
{
    (void)state;
    admission_destroy(admission);
    journal_writer_destroy(writer);
    l1_thread_destroy(l1_thread);
    l1_destroy(l1);
    ring_destroy(ring);
    journal_close(journal);
    waiter_inbox_destroy(inbox);
    waiter_table_destroy(waiters);
    close(wake_fd);
    metrics_destroy(metrics);
    return 0;
}

static size_t take(const char *text)
{
    const size_t request = admission_open(admission, 0);
    struct json_scan_event event;
    struct json_scan scan;

    json_scan_init(&scan, &fields, text, strlen(text));
    while (json_scan_next(&scan, &event) == JSON_SCAN_EVENT)
        admission_event(admission, &event);
    return request;
}

static void who_asks_for_a_twin_of_the_same_turn_waits_for_the_one_that_won(void **state)
{
    static const char text[] = "{\"event_id\":\"a\"}";
    struct waiter *waiter;
    struct record *record;
    size_t first, second;

    (void)state;
    first = take(text);
    second = take(text);
    admission_ack(admission, ADMISSION_ACK_CLICKHOUSE);
    admission_commit(admission, 1000, 1000);
    assert_int_equal(admission_result(admission, first).accepted, 1);
    assert_int_equal(admission_result(admission, second).duplicates, 1);
    waiter = admission_result(admission, second).waiter;
    admission_reset(admission);

    assert_null(waiter_inbox_take(inbox));
    assert_int_equal(ring_take(ring, &record, 1), 1);
    journal_finish(journal, &record, 1, RECORD_INSERTED);
    assert_ptr_equal(waiter_inbox_take(inbox), waiter);
    assert_int_equal(waiter_end(waiter).verdict, WAITER_INSERTED);
    waiter_destroy(waiter);
}

static void requests_that_are_dropped_leave_no_events_behind(void **state)
{
    size_t before, kept;

    (void)state;
    kept = take("{\"event_id\":\"kept\"}");
    before = mallinfo2().uordblks + mallinfo2().hblkhd;
    for (size_t i = 0; i < DROPPED; i++) {
        take("{\"event_id\":\"dropped\"}");
        admission_drop(admission);
    }
    assert_true(mallinfo2().uordblks + mallinfo2().hblkhd < before + SEGMENT);
    assert_int_equal(admission_pending(admission), 1);
    admission_commit(admission, 1000, 1000);
    assert_int_equal(admission_result(admission, kept).accepted, 1);
    admission_reset(admission);
    assert_int_equal(ring_depth(ring), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            who_asks_for_a_twin_of_the_same_turn_waits_for_the_one_that_won, open_world,
            close_world),
        cmocka_unit_test_setup_teardown(requests_that_are_dropped_leave_no_events_behind,
                                        open_world, close_world),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
