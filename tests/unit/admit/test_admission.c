/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_admission.c - admission over a real ring, journal and L1, with events from the real scanner.
 */
#include "alloy/admission.h"

#include "alloy/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
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
static char folder[64];
static _Atomic int sync_result;

static const struct json_scan_fields fields = {.names = {{"event_id", 8}}, .count = 1};

/* ---- the world ---- */

static int fake_sync(void *address, size_t length)
{
    (void)address;
    (void)length;
    return sync_result;
}

static struct admission *make_admission(struct journal_writer *own_writer, struct l1_thread *own_l1)
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
static void open_world(enum place place, size_t ring_slots, size_t segments, enum journal_sync sync)
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
    strcpy(folder, "/tmp/alloy-admission-XXXXXX");
    assert_non_null(mkdtemp(folder));
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

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
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
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static int open_roomy(void **state)
{
    const enum place *place = *state;

    open_world(*place, 1000, 64, JOURNAL_SYNC_NEVER);
    return 0;
}

/* ---- helpers ---- */

/* Takes a request in; text must last until the commit. Returns its number. */
static size_t take(struct admission *into, uint16_t stream, struct slice text)
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

static size_t body(uint16_t stream, const char *text)
{
    return take(admission, stream, (struct slice){text, strlen(text)});
}

/* A request of one turn. */
static struct admission_result post(uint16_t stream, const char *text)
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

static bool knows(uint16_t stream, const char *id)
{
    const struct hash128 hash = event_id_hash(&keys[stream], id, strlen(id));

    return l1_contains(l1_thread, &hash);
}

/* What one request of n events with ids prefix0, prefix1.. looks like; returned owned. */
static char *many(const char *prefix, size_t n, size_t padding)
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

static struct metrics_snapshot *snapshot(void)
{
    static struct metrics_snapshot now;

    metrics_read(metrics, &now);
    return &now;
}

static uint64_t counted(uint16_t stream, enum metric_stream_id id)
{
    return snapshot()->streams[stream][id];
}

static uint64_t rejected(uint16_t stream)
{
    const uint64_t *row = snapshot()->streams[stream];

    return row[METRIC_STREAM_rejected_ring_full] + row[METRIC_STREAM_rejected_journal_full] +
           row[METRIC_STREAM_rejected_journal_error] + row[METRIC_STREAM_rejected_too_large] +
           row[METRIC_STREAM_rejected_draining] + row[METRIC_STREAM_rejected_waiting_full];
}

static void assert_books_balance(void)
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

/* ---- known and new ---- */

static void accepted_events_are_journaled_known_and_published_in_order(void **state)
{
    struct record *records[4];

    (void)state;
    assert_result(post(1, "[{\"event_id\":\"a\"}, {\"x\":1,\"event_id\":42}]"), ADMISSION_ACCEPTED,
                  2, 0);
    assert_true(knows(1, "a") && knows(1, "42"));
    assert_int_equal(journal_live(journal, 1), 2);
    assert_int_equal(ring_depth(ring), 2);
    assert_int_equal(ring_take(ring, records, 4), 2);
    assert_int_equal(records[0]->stream, 1);
    assert_int_equal(records[0]->received_ms, REAL_MS);
    assert_int_equal(records[0]->body_length, strlen("{\"event_id\":\"a\"}\n"));
    assert_memory_equal(records[0]->body, "{\"event_id\":\"a\"}\n", records[0]->body_length);
    assert_memory_equal(records[1]->body, "{\"x\":1,\"event_id\":42}\n", records[1]->body_length);
    assert_int_equal(atomic_load(&records[1]->state), RECORD_LIVE);
    assert_int_equal(counted(1, METRIC_STREAM_accepted), 2);
    assert_books_balance();
}

static void an_id_counts_once_within_a_request_a_turn_and_ever_after(void **state)
{
    size_t requests[3];

    (void)state;
    requests[0] = body(0, "{\"event_id\":\"a\"} {\"event_id\":\"b\"} {\"event_id\":\"a\"}");
    requests[1] = body(0, "{\"event_id\":\"b\"} {\"event_id\":\"c\"}");
    requests[2] = body(1, "{\"event_id\":\"a\"}"); /* another stream's a is another id */
    assert_int_equal(admission_pending(admission), 3);
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, requests[0]), ADMISSION_ACCEPTED, 2, 1);
    assert_result(admission_result(admission, requests[1]), ADMISSION_ACCEPTED, 1, 1);
    assert_result(admission_result(admission, requests[2]), ADMISSION_ACCEPTED, 1, 0);
    admission_reset(admission);
    assert_int_equal(admission_pending(admission), 0);
    assert_int_equal(ring_depth(ring), 4);
    assert_int_equal(journal_live(journal, 0), 3);
    assert_int_equal(journal_live(journal, 1), 1);

    assert_result(post(0, "[{\"event_id\":\"c\"},{\"event_id\":\"a\"}]"), ADMISSION_ACCEPTED, 0, 2);
    assert_string_equal(ring_ids(), "a b c a ");
    assert_int_equal(ring_depth(ring), 0);
    assert_int_equal(journal_live(journal, 0), 3);
    assert_int_equal(counted(0, METRIC_STREAM_accepted), 3);
    assert_int_equal(counted(0, METRIC_STREAM_duplicate_l1), 4);
    assert_books_balance();
}

static void ids_that_need_decoding_are_copied_before_the_scanner_goes_on(void **state)
{
    (void)state;
    assert_result(post(0, "{\"event_id\":\"\\u0061\\u0062\"} {\"event_id\":\"c\\n\"} "
                          "{\"event_id\":\"ab\"} {\"event_id\":\"\\u0063\\n\"}"),
                  ADMISSION_ACCEPTED, 2, 2);
    assert_true(knows(0, "ab") && knows(0, "c\n"));
    assert_string_equal(ring_ids(), "ab c\n ");
}

static void a_dropped_request_takes_only_itself_along(void **state)
{
    size_t first, second;

    (void)state;
    first = body(0, "{\"event_id\":\"a\"}");
    body(0, "{\"event_id\":\"b\"} {\"event_id\":\"\\u0063\"}");
    admission_drop(admission);
    second = body(0, "{\"event_id\":\"\\u0064\"}");
    assert_int_equal(second, first + 1);
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, first), ADMISSION_ACCEPTED, 1, 0);
    assert_result(admission_result(admission, second), ADMISSION_ACCEPTED, 1, 0);
    admission_reset(admission);
    assert_string_equal(ring_ids(), "a d ");
    assert_false(knows(0, "b") || knows(0, "c"));
    assert_int_equal(counted(0, METRIC_STREAM_received), 2);
}

/* ---- refusals leave nothing behind ---- */

static void a_full_ring_refuses_the_request_and_keeps_nothing_of_it(void **state)
{
    uint64_t bytes;

    (void)state;
    open_world(IN_MEMORY, 4, 8, JOURNAL_SYNC_NEVER);
    assert_result(post(0, "{\"event_id\":\"a\"} {\"event_id\":\"b\"} {\"event_id\":\"c\"}"),
                  ADMISSION_ACCEPTED, 3, 0);
    bytes = journal_bytes(journal);
    assert_result(post(0, "{\"event_id\":\"a\"} {\"event_id\":\"d\"} {\"event_id\":\"e\"}"),
                  ADMISSION_RING_FULL, 0, 0);
    assert_int_equal(journal_bytes(journal), bytes);
    assert_int_equal(journal_live(journal, 0), 3);
    assert_int_equal(ring_depth(ring), 3);
    assert_false(knows(0, "d") || knows(0, "e"));
    assert_int_equal(counted(0, METRIC_STREAM_rejected_ring_full), 3);
    /* what is known needs no room */
    assert_result(post(0, "{\"event_id\":\"a\"}"), ADMISSION_ACCEPTED, 0, 1);

    assert_string_equal(ring_ids(), "a b c ");
    assert_result(post(0, "{\"event_id\":\"a\"} {\"event_id\":\"d\"} {\"event_id\":\"e\"}"),
                  ADMISSION_ACCEPTED, 2, 1);
    assert_string_equal(ring_ids(), "d e ");
    assert_books_balance();
}

static void a_full_journal_gives_the_slots_back_and_a_retry_is_new(void **state)
{
    struct record *records[100];
    struct admission_result result;
    char *text;
    size_t n = 0, taken;

    (void)state;
    open_world(IN_MEMORY, 100, 2, JOURNAL_SYNC_NEVER);
    for (;; n++) {
        char prefix[16];

        snprintf(prefix, sizeof(prefix), "%zu-", n);
        text = many(prefix, 1, 20000);
        result = post(0, text);
        if (result.verdict != ADMISSION_ACCEPTED)
            break;
        free(text);
        assert_true(n < 6);
    }
    assert_result(result, ADMISSION_JOURNAL_FULL, 0, 0);
    assert_true(journal_full(journal));
    assert_int_equal(ring_depth(ring), n);
    assert_int_equal(journal_live(journal, 0), n);
    assert_int_equal(counted(0, METRIC_STREAM_rejected_journal_full), 1);

    taken = ring_take(ring, records, ARRAY_LEN(records));
    journal_finish(journal, records, taken, RECORD_INSERTED);
    journal_maintain(journal, 0, 100);
    assert_result(post(0, text), ADMISSION_ACCEPTED, 1, 0);
    assert_int_equal(ring_depth(ring), 1);
    free(text);
    assert_books_balance();
}

static void a_failed_sync_takes_everything_of_the_turn_back(void **state)
{
    size_t first, second, third;

    (void)state;
    open_world(IN_FILES, 100, 8, JOURNAL_SYNC_ALWAYS);
    assert_result(post(0, "{\"event_id\":\"a\"}"), ADMISSION_ACCEPTED, 1, 0);
    sync_result = -EIO;
    first = body(0, "{\"event_id\":\"a\"} {\"event_id\":\"b\"}");
    second = body(1, "{\"event_id\":\"c\"}");
    third = body(1, "{\"event_id\":\"c\"}");
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, first), ADMISSION_JOURNAL_ERROR, 0, 0);
    assert_result(admission_result(admission, second), ADMISSION_JOURNAL_ERROR, 0, 0);
    assert_result(admission_result(admission, third), ADMISSION_JOURNAL_ERROR, 0, 0);
    admission_reset(admission);
    assert_int_equal(journal_live(journal, 0), 1);
    assert_int_equal(journal_live(journal, 1), 0);
    assert_int_equal(ring_depth(ring), 1);
    assert_false(knows(0, "b") || knows(1, "c"));
    assert_int_equal(rejected(0), 2);
    assert_int_equal(rejected(1), 2);

    /* From now on the journal takes nothing, and no slot is lost over it. */
    sync_result = 0;
    assert_result(post(0, "{\"event_id\":\"b\"}"), ADMISSION_JOURNAL_ERROR, 0, 0);
    assert_int_equal(ring_depth(ring), 1);
    assert_string_equal(ring_ids(), "a ");
    assert_books_balance();
}

static void an_event_larger_than_a_segment_is_refused_and_its_turn_goes_on(void **state)
{
    char *fits = many("fits", 1, 50000), *exceeds = many("exceeds", 1, SEGMENT);
    size_t requests[3];

    (void)state;
    open_world(IN_MEMORY, 100, 8, JOURNAL_SYNC_NEVER);
    requests[0] = body(0, "{\"event_id\":\"a\"}");
    requests[1] = body(0, exceeds);
    requests[2] = body(0, fits);
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, requests[0]), ADMISSION_ACCEPTED, 1, 0);
    assert_result(admission_result(admission, requests[1]), ADMISSION_TOO_LARGE, 0, 0);
    assert_result(admission_result(admission, requests[2]), ADMISSION_ACCEPTED, 1, 0);
    admission_reset(admission);
    assert_string_equal(ring_ids(), "a fits0 ");
    assert_false(knows(0, "exceeds0"));
    assert_books_balance();
    free(fits);
    free(exceeds);
}

static void the_largest_event_a_segment_can_hold_is_accepted_and_one_byte_more_is_not(void **state)
{
    const size_t frame = strlen("{\"event_id\":\"n0\",\"p\":\"\"}");
    size_t padding;
    char *text;

    (void)state;
    open_world(IN_MEMORY, 100, 8, JOURNAL_SYNC_NEVER);
    padding = journal_entry_bytes_max(journal) - sizeof(struct record) - 1 - frame;
    text = many("m", 1, padding + 1);
    assert_result(post(0, text), ADMISSION_TOO_LARGE, 0, 0);
    free(text);
    text = many("n", 1, padding);
    assert_result(post(0, text), ADMISSION_ACCEPTED, 1, 0);
    free(text);
}

static void more_events_than_the_ring_has_slots_are_refused_for_good(void **state)
{
    char *fits = many("a", 4, 0), *exceeds = many("b", 5, 0);
    size_t first, second;

    (void)state;
    open_world(IN_MEMORY, 4, 8, JOURNAL_SYNC_NEVER);
    first = body(0, exceeds);
    second = body(0, fits);
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, first), ADMISSION_TOO_LARGE, 0, 0);
    assert_result(admission_result(admission, second), ADMISSION_ACCEPTED, 4, 0);
    admission_reset(admission);
    assert_int_equal(counted(0, METRIC_STREAM_rejected_too_large), 5);
    assert_string_equal(ring_ids(), "a0 a1 a2 a3 ");
    assert_books_balance();
    free(fits);
    free(exceeds);
}

static void a_closed_ring_means_draining_for_new_and_known(void **state)
{
    (void)state;
    assert_result(post(0, "{\"event_id\":\"a\"}"), ADMISSION_ACCEPTED, 1, 0);
    ring_close(ring);
    assert_result(post(0, "{\"event_id\":\"a\"}"), ADMISSION_DRAINING, 0, 0);
    assert_result(post(0, "{\"event_id\":\"b\"}"), ADMISSION_DRAINING, 0, 0);
    assert_int_equal(journal_live(journal, 0), 1);
    assert_int_equal(ring_depth(ring), 1);
    assert_false(knows(0, "b"));
    assert_int_equal(counted(0, METRIC_STREAM_rejected_draining), 2);
    assert_books_balance();
}

static void a_turn_that_does_not_fit_is_decided_request_by_request_in_order(void **state)
{
    char *texts[] = {many("a", 4, 0), many("b", 8, 0), many("c", 5, 0), many("b", 1, 0)};
    size_t requests[ARRAY_LEN(texts)];

    (void)state;
    open_world(IN_MEMORY, 10, 8, JOURNAL_SYNC_NEVER);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        requests[i] = body(0, texts[i]);
    admission_commit(admission, 1000, REAL_MS);
    assert_result(admission_result(admission, requests[0]), ADMISSION_ACCEPTED, 4, 0);
    assert_result(admission_result(admission, requests[1]), ADMISSION_RING_FULL, 0, 0);
    assert_result(admission_result(admission, requests[2]), ADMISSION_ACCEPTED, 5, 0);
    /* the refused request has left nothing that this could be a duplicate of */
    assert_result(admission_result(admission, requests[3]), ADMISSION_ACCEPTED, 1, 0);
    admission_reset(admission);
    assert_int_equal(ring_depth(ring), 10);
    assert_int_equal(journal_live(journal, 0), 10);
    assert_string_equal(ring_ids(), "a0 a1 a2 a3 c0 c1 c2 c3 c4 b0 ");
    assert_books_balance();
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        free(texts[i]);
}

/* ---- memory ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static void memory_of_an_unusually_large_turn_is_given_back(void **state)
{
    const size_t n = 50000;
    char *text = malloc(n * 40 + 1), *at = text;
    size_t before;

    (void)state;
    open_world(IN_MEMORY, n, 256, JOURNAL_SYNC_NEVER);
    assert_result(post(0, "{\"event_id\":\"\\u0061\"}"), ADMISSION_ACCEPTED, 1, 0);
    for (size_t i = 0; i < n; i++)
        at += sprintf(at, "{\"event_id\":\"\\u0062%09zu\"}\n", i);
    before = mallinfo2().uordblks + mallinfo2().hblkhd;
    body(0, text);
    assert_true(mallinfo2().uordblks + mallinfo2().hblkhd > before + n * 64);
    admission_commit(admission, 1000, REAL_MS);
    admission_reset(admission);
    assert_true(mallinfo2().uordblks + mallinfo2().hblkhd < before + n * 2);
    free(text);
}
#endif

/* ---- many front-end threads ---- */

#define THREADS 4
#define IDS 8192
#define PER_REQUEST 8
#define REQUESTS 3 /* of a turn */

static _Atomic int running;
static _Atomic unsigned seen[IDS];
static _Atomic uint64_t told_accepted, told_duplicates;

static bool is_finished_at_once(unsigned id)
{
    return id < IDS / 2;
}

/* A worker and a janitor in one. */
static void *consume(void *arg)
{
    struct record *records[16];
    size_t n;

    (void)arg;
    while ((n = ring_take(ring, records, ARRAY_LEN(records))) > 0 || atomic_load(&running) > 0 ||
           ring_depth(ring) > 0) {
        for (size_t i = 0; i < n; i++) {
            char text[16] = "";
            unsigned id;

            memcpy(text, record_id(records[i]), records[i]->id_length);
            id = (unsigned)atoi(text);
            atomic_fetch_add(&seen[id], 1);
            if (is_finished_at_once(id))
                journal_finish(journal, &records[i], 1, RECORD_INSERTED);
        }
        journal_maintain(journal, 0, 100);
        if (n == 0)
            sched_yield();
    }
    return NULL;
}

/* Sends every id once, in an order of its own, and again what was refused. */
static void *produce(void *arg)
{
    const unsigned number = *(unsigned *)arg;
    struct l1_thread *own_l1 = l1_thread_create(l1);
    struct journal_writer *own_writer = journal_writer_create(journal);
    struct admission *own = make_admission(own_writer, own_l1);
    static const char *const forms[] = {"{\"event_id\":\"%u\"} ", "{\"event_id\":\"\\u003%u\"} "};
    char texts[REQUESTS][PER_REQUEST * 64];
    unsigned next = 0; /* request of PER_REQUEST ids */

    while (next < IDS / PER_REQUEST) {
        unsigned taken = 0;

        for (; taken < REQUESTS && next + taken < IDS / PER_REQUEST; taken++) {
            size_t len = 0;

            for (unsigned i = 0; i < PER_REQUEST; i++) {
                const unsigned id = ((next + taken) * PER_REQUEST + i) ^ (number * 5);

                len += (size_t)snprintf(texts[taken] + len, sizeof(texts[taken]) - len,
                                        forms[id < 10 ? number % 2 : 0], id);
            }
            take(own, 0, (struct slice){texts[taken], len});
        }
        admission_commit(own, 1000, REAL_MS);
        for (unsigned i = 0; i < taken; i++) {
            const struct admission_result result = admission_result(own, i);

            if (result.verdict != ADMISSION_ACCEPTED) {
                /* those behind it may be in already: then they are duplicates the next time */
                taken = i;
                break;
            }
            assert_int_equal(result.accepted + result.duplicates, PER_REQUEST);
        }
        for (unsigned i = 0; i < admission_pending(own); i++) {
            atomic_fetch_add(&told_accepted, admission_result(own, i).accepted);
            atomic_fetch_add(&told_duplicates, admission_result(own, i).duplicates);
        }
        if (taken == 0)
            sched_yield();
        next += taken;
        admission_reset(own);
    }
    admission_destroy(own);
    journal_writer_destroy(own_writer);
    l1_thread_destroy(own_l1);
    atomic_fetch_sub(&running, 1);
    return NULL;
}

/* ---- who asks for what has been sent before ---- */

/* What a request with ack=clickhouse is told. wait: for what must come, or else only for what is
 * there. */
static enum waiter_verdict ask(const char *text, bool wait)
{
    struct pollfd wake = {.fd = wake_fd, .events = POLLIN};
    const size_t request = body(0, text);
    enum waiter_verdict verdict;
    struct waiter *waiter;

    admission_ack(admission, ADMISSION_ACK_CLICKHOUSE);
    admission_commit(admission, 1000, REAL_MS);
    waiter = admission_result(admission, request).waiter;
    admission_reset(admission);
    /* 20 s: a wake-up was lost */
    while (waiter_inbox_take(inbox) != waiter && wait && poll(&wake, 1, 20000) == 1)
        (void)!read(wake_fd, &(uint64_t){0}, sizeof(uint64_t));
    verdict = waiter_end(waiter).verdict;
    waiter_destroy(waiter);
    return verdict;
}

static void a_duplicate_is_known_by_the_record_that_owns_its_id(void **state)
{
    static const char text[] = "{\"event_id\":\"a\"}", other[] = "{\"event_id\":\"b\"}";
    struct record *record;

    (void)state;
    assert_result(post(0, text), ADMISSION_ACCEPTED, 1, 0);
    assert_int_equal(ask(text, false), WAITER_PENDING);
    assert_int_equal(ring_take(ring, &record, 1), 1);
    journal_finish(journal, &record, 1, RECORD_INSERTED);
    assert_int_equal(ask(text, true), WAITER_INSERTED);
    /* The same for one that nobody has asked for while it was LIVE, and whose segment has gone. */
    assert_result(post(0, other), ADMISSION_ACCEPTED, 1, 0);
    assert_int_equal(ring_take(ring, &record, 1), 1);
    journal_finish(journal, &record, 1, RECORD_INSERTED);
    admission_destroy(admission);
    journal_writer_destroy(writer);
    journal_maintain(journal, 0, 100);
    assert_int_equal(journal_bytes(journal), 0);
    writer = journal_writer_create(journal);
    admission = make_admission(writer, l1_thread);
    assert_int_equal(ask(other, true), WAITER_INSERTED);
}

static void a_duplicate_of_what_another_alloyd_owns_is_unknown(void **state)
{
    static const char text[] = "{\"event_id\":\"a\"}";
    struct record *record;

    (void)state;
    assert_result(post(0, text), ADMISSION_ACCEPTED, 1, 0);
    assert_int_equal(ring_take(ring, &record, 1), 1);
    l1_disown(l1_thread, &record->hash, record->lsn);
    journal_finish(journal, &record, 1, RECORD_DUPLICATE);
    assert_int_equal(ask(text, true), WAITER_UNKNOWN);
    assert_int_equal(ask(text, true), WAITER_UNKNOWN);
}

#define AT_ONCE 512 /* so many that it takes a while to finish them */

static void *finish_all(void *arg)
{
    struct record *records[AT_ONCE];
    size_t n = 0;

    (void)arg;
    while (atomic_load(&running) > 0) {
        n += ring_take(ring, records + n, AT_ONCE - n);
        journal_finish(journal, records, n < AT_ONCE ? 0 : n, RECORD_INSERTED);
        n %= AT_ONCE;
        journal_maintain(journal, 0, 100);
    }
    return NULL;
}

static void who_begins_to_wait_while_a_record_is_finished_is_always_told(void **state)
{
    pthread_t finisher;

    (void)state;
    running = 1;
    assert_int_equal(pthread_create(&finisher, NULL, finish_all, NULL), 0);
    for (unsigned i = 0; i < 1000; i++) {
        char prefix[16], last[64], *text;

        snprintf(prefix, sizeof(prefix), "%u-", i);
        text = many(prefix, AT_ONCE, 0);
        assert_result(post(0, text), ADMISSION_ACCEPTED, AT_ONCE, 0);
        free(text);
        snprintf(last, sizeof(last), "{\"event_id\":\"%u-%d\"}", i, AT_ONCE - 1);
        for (volatile unsigned k = 0; k < i % 200 * 10; k++)
            ; /* any instant of that */
        assert_int_equal(ask(last, true), WAITER_INSERTED);
    }
    atomic_store(&running, 0);
    pthread_join(finisher, NULL);
}

static void threads_publish_every_id_just_once(void **state)
{
    const enum place *place = *state;
    static unsigned numbers[THREADS];
    pthread_t producers[THREADS], consumer;

    open_world(*place, 64, 256, JOURNAL_SYNC_NEVER);
    memset((void *)seen, 0, sizeof(seen));
    told_accepted = told_duplicates = 0;
    running = THREADS;
    assert_int_equal(pthread_create(&consumer, NULL, consume, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&producers[i], NULL, produce, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(producers[i], NULL);
    pthread_join(consumer, NULL);

    for (unsigned id = 0; id < IDS; id++)
        assert_int_equal(seen[id], 1);
    assert_int_equal(ring_depth(ring), 0);
    assert_true(ring_reserve(ring, 64)); /* every credit is back */
    assert_int_equal(journal_live(journal, 0), IDS / 2);
    assert_int_equal(told_accepted, IDS);
    assert_int_equal(counted(0, METRIC_STREAM_accepted), IDS);
    assert_int_equal(counted(0, METRIC_STREAM_duplicate_l1), told_duplicates);
    assert_true(told_duplicates >= (THREADS - 1) * IDS);
    assert_books_balance();
}

int main(void)
{
#define TEST_IN(name, set_up, place) \
    cmocka_unit_test_prestate_setup_teardown(name, set_up, close_world, &place)
#define TEST_BOTH(name) \
    TEST_IN(name, open_roomy, memory_place), TEST_IN(name, open_roomy, file_place)
#define TEST(name) cmocka_unit_test_setup_teardown(name, NULL, close_world)
    const struct CMUnitTest tests[] = {
        TEST_BOTH(accepted_events_are_journaled_known_and_published_in_order),
        TEST_BOTH(an_id_counts_once_within_a_request_a_turn_and_ever_after),
        TEST_BOTH(ids_that_need_decoding_are_copied_before_the_scanner_goes_on),
        TEST_BOTH(a_dropped_request_takes_only_itself_along),
        TEST_BOTH(a_closed_ring_means_draining_for_new_and_known),
        TEST(a_full_ring_refuses_the_request_and_keeps_nothing_of_it),
        TEST(a_full_journal_gives_the_slots_back_and_a_retry_is_new),
        TEST(a_failed_sync_takes_everything_of_the_turn_back),
        TEST(an_event_larger_than_a_segment_is_refused_and_its_turn_goes_on),
        TEST(the_largest_event_a_segment_can_hold_is_accepted_and_one_byte_more_is_not),
        TEST(more_events_than_the_ring_has_slots_are_refused_for_good),
        TEST(a_turn_that_does_not_fit_is_decided_request_by_request_in_order),
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        TEST(memory_of_an_unusually_large_turn_is_given_back),
#endif
        TEST_BOTH(a_duplicate_is_known_by_the_record_that_owns_its_id),
        TEST_BOTH(a_duplicate_of_what_another_alloyd_owns_is_unknown),
        TEST_BOTH(who_begins_to_wait_while_a_record_is_finished_is_always_told),
        TEST_IN(threads_publish_every_id_just_once, NULL, memory_place),
        TEST_IN(threads_publish_every_id_just_once, NULL, file_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
