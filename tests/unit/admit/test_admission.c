/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_admission.c - admission over a real ring, journal and L1, with events from the real scanner.
 */
#include "admission_fixture.h"

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
    assert_int_equal(record_state(records[1]), RECORD_LIVE);
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

static void an_overload_is_told_until_the_ring_has_room(void **state)
{
    (void)state;
    open_world(IN_MEMORY, 64, 8, JOURNAL_SYNC_NEVER);
    assert_true(ring_reserve(ring, 64));
    for (int i = 0; i < 32; i++) {
        assert_false(admission_sheds(admission));
        assert_result(post(0, "{\"event_id\":\"a\"}"), ADMISSION_RING_FULL, 0, 0);
    }
    assert_true(admission_sheds(admission));
    ring_cancel(ring, 1);
    assert_true(admission_sheds(admission)); /* 63 of 64: the next request would fill it again */
    ring_cancel(ring, 2);
    assert_false(admission_sheds(admission));
    assert_true(ring_reserve(ring, 3));
    assert_true(admission_sheds(admission));
    /* One that is not refused ends it, also one that is only known. */
    ring_cancel(ring, 3);
    assert_result(post(0, "{\"event_id\":\"a\"}"), ADMISSION_ACCEPTED, 1, 0);
    assert_true(ring_reserve(ring, 2));
    assert_false(admission_sheds(admission));
    ring_cancel(ring, 63);
    assert_string_equal(ring_ids(), "a ");
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
    const struct CMUnitTest tests[] = {
        TEST_BOTH(accepted_events_are_journaled_known_and_published_in_order),
        TEST_BOTH(an_id_counts_once_within_a_request_a_turn_and_ever_after),
        TEST_BOTH(ids_that_need_decoding_are_copied_before_the_scanner_goes_on),
        TEST_BOTH(a_dropped_request_takes_only_itself_along),
        TEST_BOTH(a_closed_ring_means_draining_for_new_and_known),
        TEST(a_full_ring_refuses_the_request_and_keeps_nothing_of_it),
        TEST(an_overload_is_told_until_the_ring_has_room),
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
