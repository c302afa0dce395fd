/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission_fixture.h - admission over a real ring, journal and L1, with events from the real
 * scanner; for test_admission.c and test_admission_ids.c.
 */
#ifndef ADMISSION_FIXTURE_H
#define ADMISSION_FIXTURE_H

#include "alloy/admission.h"

#include "alloy/clock.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SEGMENT SEGMENT_BYTES_MIN
#define REAL_MS 1700000000000

enum place { IN_MEMORY, IN_FILES };

static enum place memory_place = IN_MEMORY, file_place = IN_FILES;

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
static struct event_id_key keys[2];
static _Atomic int sync_result;

static const struct json_scan_fields fields = {.names = {{"event_id", 8}}, .count = 1};

/* ---- the world ---- */

static inline int fake_sync(void *address, size_t length)
{
    (void)address;
    (void)length;
    return sync_result;
}

static inline struct admission *make_admission(struct journal_writer *own_writer,
                                               struct l1_thread *own_l1)
{
    const struct admission_parts parts = {
        .ring = ring,
        .journal = journal,
        .writer = own_writer,
        .l1 = own_l1,
        .metrics = metrics_thread_create(metrics),
        .stream_keys = keys,
        .inbox = inbox,
    };

    return admission_create(&parts);
}

/* Opens everything: a ring of so many slots, a journal of so many segments. */
static inline void open_world(enum place place, size_t ring_slots, size_t segments,
                              enum journal_sync sync)
{
    static const char *const names[] = {"orders", "clicks"};
    const struct journal_options options = {
        .dir = place == IN_FILES ? folder : NULL,
        .segment_bytes = SEGMENT,
        .max_bytes = segments * SEGMENT,
        .sync = sync,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = 2,
        .sync_range = fake_sync,
        .waiters = waiters = waiter_table_create(16, 1000),
    };
    char error[JOURNAL_ERROR_MAX];

    wake_fd = eventfd(0, EFD_NONBLOCK);
    inbox = waiter_inbox_create(waiters, wake_fd);

    sync_result = 0;
    assert_int_equal(make_folder("/tmp"), 0);
    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        event_id_key_derive(journal_secret(journal), names[i], &keys[i]);
    ring = ring_create(ring_slots);
    l1 = l1_create(100000, 600000, 1);
    l1_thread = l1_thread_create(l1);
    metrics = metrics_create();
    writer = journal_writer_create(journal);
    admission = make_admission(writer, l1_thread);
    assert_non_null(admission);
}

static inline int close_world(void **state)
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
    return remove_folder();
}

static inline int open_roomy(void **state)
{
    const enum place *place = *state;

    open_world(*place, 1000, 64, JOURNAL_SYNC_NEVER);
    return 0;
}

/* ---- helpers ---- */

/* Takes a request in; text must last until the commit. Returns its number. */
static inline size_t take(struct admission *into, uint16_t stream, struct slice text)
{
    static _Thread_local struct json_scan scan;
    const size_t request = admission_open(into, stream);
    struct json_scan_event event;
    enum json_scan_result result;

    json_scan_init(&scan, &fields, text.data, text.len);
    while ((result = json_scan_next(&scan, &event)) == JSON_SCAN_EVENT)
        admission_event(into, &event);
    assert_int_equal(result, JSON_SCAN_END);
    return request;
}

static inline size_t body(uint16_t stream, const char *text)
{
    return take(admission, stream, (struct slice){text, strlen(text)});
}

/* A request of one turn. */
static inline struct admission_result post(uint16_t stream, const char *text)
{
    const size_t request = body(stream, text);
    struct admission_result result;

    admission_commit(admission, 1000, REAL_MS);
    result = admission_result(admission, request);
    admission_reset(admission);
    return result;
}

#define assert_result(result_, verdict_, accepted_, duplicates_) \
    do {                                                         \
        const struct admission_result got_ = (result_);          \
        assert_int_equal(got_.verdict, (verdict_));              \
        assert_int_equal(got_.accepted, (accepted_));            \
        assert_int_equal(got_.duplicates, (duplicates_));        \
    } while (0)

static inline bool knows(uint16_t stream, const char *id)
{
    const struct hash128 hash = event_id_hash(&keys[stream], id, strlen(id));

    return l1_contains(l1_thread, &hash);
}

/* What one request of n events with ids prefix0, prefix1.. looks like; returned owned. */
static inline char *many(const char *prefix, size_t n, size_t padding)
{
    char *text = malloc(n * (64 + padding) + 1), *at = text;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++) {
        at += sprintf(at, "{\"event_id\":\"%s%zu\",\"p\":\"", prefix, i);
        memset(at, 'x', padding);
        at += padding;
        at += sprintf(at, "\"}\n");
    }
    return text;
}

static inline struct metrics_snapshot *snapshot(void)
{
    static struct metrics_snapshot now;

    metrics_read(metrics, &now);
    return &now;
}

static inline uint64_t counted(uint16_t stream, enum metric_stream_id id)
{
    return snapshot()->streams[stream][id];
}

static inline uint64_t rejected(uint16_t stream)
{
    const uint64_t *row = snapshot()->streams[stream];

    return row[METRIC_STREAM_rejected_ring_full] + row[METRIC_STREAM_rejected_journal_full] +
           row[METRIC_STREAM_rejected_journal_error] + row[METRIC_STREAM_rejected_too_large] +
           row[METRIC_STREAM_rejected_draining] + row[METRIC_STREAM_rejected_waiting_full];
}

static inline void assert_books_balance(void)
{
    for (uint16_t stream = 0; stream < 2; stream++)
        assert_int_equal(counted(stream, METRIC_STREAM_received),
                         counted(stream, METRIC_STREAM_accepted) +
                             counted(stream, METRIC_STREAM_duplicate_l1) + rejected(stream));
}

/* The ids of what the ring holds, in order, each followed by a space. */
static const char *ring_ids(void)
{
    static char ids[4096];
    struct record *records[1000];
    const size_t n = ring_take(ring, records, ARRAY_LEN(records));
    size_t len = 0;

    ids[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(ids + len, sizeof(ids) - len, "%.*s ", (int)records[i]->id_length,
                                record_id(records[i]));
    return ids;
}

#define TEST_IN(name, set_up, place) \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, close_world, &place)
#define TEST_BOTH(name) \
    TEST_IN(name, open_roomy, memory_place), TEST_IN(name, open_roomy, file_place)
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, close_world)

#endif
