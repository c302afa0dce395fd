/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_waiter.c - who waits for what, what waiters learn, and many threads at once.
 */
#include "alloy/waiter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define WAITERS_MAX 4
#define EVENTS_MAX 8

static struct waiter_table *table;
static struct waiter_inbox *inbox;
static int wake_fd;

static int set_up(void **state)
{
    (void)state;
    table = waiter_table_create(WAITERS_MAX, EVENTS_MAX);
    wake_fd = eventfd(0, EFD_NONBLOCK);
    inbox = waiter_inbox_create(table, wake_fd);
    return table == NULL || inbox == NULL || wake_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    waiter_inbox_destroy(inbox);
    waiter_table_destroy(table);
    close(wake_fd);
    return 0;
}

static struct hash128 hash_of(uint64_t id)
{
    return (struct hash128){.lo = id * 8, .hi = id}; /* many share a bucket */
}

static struct record record_of(uint64_t id, uint64_t lsn)
{
    return (struct record){.hash = hash_of(id), .lsn = lsn};
}

static bool woken(void)
{
    uint64_t count;

    return read(wake_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
}

static void settle(uint64_t id, uint64_t lsn, enum record_state to)
{
    struct record record = record_of(id, lsn);
    struct record *const records[] = {&record};

    waiter_settle(table, records, 1, to);
}

/* A waiter for one event that was accepted. */
static struct waiter *owner_of(uint64_t id, uint64_t lsn)
{
    struct waiter *waiter = waiter_create(inbox, 1);
    struct hash128 hash = hash_of(id);

    assert_non_null(waiter);
    waiter_own(waiter, 0, &hash, lsn);
    waiter_arm(waiter, 0);
    return waiter;
}

/* A waiter for one event that is a duplicate. */
static struct waiter *joiner_of(uint64_t id)
{
    struct waiter *waiter = waiter_create(inbox, 1);
    struct hash128 hash = hash_of(id);

    assert_non_null(waiter);
    if (!waiter_join(waiter, 0, &hash))
        waiter_give_up(waiter);
    waiter_arm(waiter, 0);
    return waiter;
}

static void expect(struct waiter *waiter, enum waiter_verdict verdict)
{
    if (verdict != WAITER_PENDING)
        assert_ptr_equal(waiter_inbox_take(inbox), waiter);
    assert_int_equal(waiter_end(waiter).verdict, verdict);
    waiter_destroy(waiter);
}

static void a_waiter_arrives_with_the_last_of_its_events(void **state)
{
    struct waiter *waiter = waiter_create(inbox, 3);

    (void)state;
    assert_false(waiter_table_busy(table));
    for (uint32_t i = 0; i < 3; i++) {
        struct hash128 hash = hash_of(i);

        waiter_own(waiter, i, &hash, 100 + i);
    }
    waiter_arm(waiter, 0);
    assert_true(waiter_table_busy(table));
    settle(0, 100, RECORD_INSERTED);
    settle(2, 102, RECORD_INSERTED);
    settle(1, 999, RECORD_DUPLICATE); /* another record with that id is not the one */
    settle(7, 101, RECORD_INSERTED);
    assert_false(woken());
    assert_null(waiter_inbox_take(inbox));
    settle(1, 101, RECORD_INSERTED);
    assert_true(woken());
    assert_false(waiter_table_busy(table));
    expect(waiter, WAITER_INSERTED);
    assert_null(waiter_inbox_take(inbox));
}

static void nobody_arrives_before_being_armed(void **state)
{
    struct waiter *waiter = waiter_create(inbox, 1);
    struct hash128 hash = hash_of(1);

    (void)state;
    waiter_own(waiter, 0, &hash, 1);
    settle(1, 1, RECORD_INSERTED);
    assert_null(waiter_inbox_take(inbox));
    waiter_arm(waiter, 0);
    expect(waiter, WAITER_INSERTED);
}

static void a_duplicate_waits_for_its_original_even_when_nobody_else_does(void **state)
{
    struct waiter *first = owner_of(1, 10), *second;

    (void)state;
    expect(first, WAITER_PENDING); /* gave up */
    second = joiner_of(1);
    assert_null(waiter_inbox_take(inbox));
    settle(1, 10, RECORD_INSERTED);
    expect(second, WAITER_INSERTED);
    expect(joiner_of(1), WAITER_INSERTED); /* and what became of it is remembered */
}

static void a_duplicate_of_what_nobody_waited_for_is_unknown(void **state)
{
    (void)state;
    expect(joiner_of(1), WAITER_UNKNOWN);
    /* So is an id that belongs to another alloyd. */
    struct waiter *waiter = owner_of(2, 20);
    settle(2, 20, RECORD_DUPLICATE);
    expect(waiter, WAITER_UNKNOWN);
    expect(joiner_of(2), WAITER_UNKNOWN);
}

static void what_was_looked_up_settles_the_event_like_its_end(void **state)
{
    static const struct {
        enum record_state was;
        enum waiter_verdict verdict;
    } cases[] = {{RECORD_INSERTED, WAITER_INSERTED},
                 {RECORD_DEAD, WAITER_REJECTED},
                 {RECORD_DUPLICATE, WAITER_UNKNOWN}};

    (void)state;
    for (uint64_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct hash128 hash = hash_of(i);
        struct waiter *waiter = waiter_create(inbox, 1);

        assert_false(waiter_join(waiter, 0, &hash));
        waiter_follow(waiter, 0, &hash, 7);
        waiter_tell(waiter, &hash, 8, RECORD_INSERTED); /* of another record */
        waiter_tell(waiter, &hash, 7, cases[i].was);
        waiter_tell(waiter, &hash, 7, RECORD_INSERTED); /* it came to an end as well */
        waiter_arm(waiter, 0);
        expect(waiter, cases[i].verdict);
        assert_false(waiter_table_busy(table));
    }
    expect(joiner_of(0), WAITER_INSERTED);
    expect(joiner_of(1), WAITER_UNKNOWN); /* who knows it again has a new owner */
    /* What is unknown is not remembered: the next one looks again. */
    expect(owner_of(2, 9), WAITER_PENDING);
}

static void an_inserted_id_that_comes_again_as_a_duplicate_is_still_inserted(void **state)
{
    struct waiter *waiter = owner_of(1, 10);

    (void)state;
    settle(1, 10, RECORD_INSERTED);
    expect(waiter, WAITER_INSERTED);
    waiter = owner_of(1, 11); /* L1 has forgotten it, Redis has not */
    assert_null(waiter_inbox_take(inbox));
    settle(1, 11, RECORD_DUPLICATE);
    expect(waiter, WAITER_INSERTED);
}

static void rejections_come_in_order_cut_and_clean(void **state)
{
    struct waiter *waiter = waiter_create(inbox, 3);
    struct record records[3];
    char longest[WAITER_MESSAGE_MAX + 50];
    struct waiter_outcome outcome;

    (void)state;
    memset(longest, 'x', sizeof(longest));
    longest[0] = '\n';
    longest[1] = (char)0xc3;
    for (uint32_t i = 0; i < 3; i++) {
        records[i] = record_of(i, i);
        waiter_own(waiter, i, &records[i].hash, i);
    }
    waiter_arm(waiter, 0);
    waiter_reason(table, &records[2], 27, (struct slice){"bad ", 4});
    waiter_reason(table, &records[0], 26, (struct slice){longest, sizeof(longest)});
    settle(1, 1, RECORD_INSERTED);
    settle(0, 0, RECORD_DEAD);
    assert_null(waiter_inbox_take(inbox)); /* a reason alone settles nothing */
    settle(2, 2, RECORD_DEAD);
    assert_ptr_equal(waiter_inbox_take(inbox), waiter);
    outcome = waiter_end(waiter);
    assert_int_equal(outcome.verdict, WAITER_REJECTED);
    assert_int_equal(outcome.rejected, 2);
    assert_int_equal(outcome.rejections->event, 0);
    assert_int_equal(outcome.rejections->code, 26);
    assert_int_equal(outcome.rejected_duplicates, 0);
    assert_false(outcome.rejections->duplicate);
    assert_int_equal(strlen(outcome.rejections->message), WAITER_MESSAGE_MAX);
    assert_memory_equal(outcome.rejections->message, " ?xxx", 5);
    assert_string_equal(outcome.rejections->message + WAITER_MESSAGE_MAX - 4, "x...");
    assert_int_equal(outcome.rejections->next->event, 2);
    assert_string_equal(outcome.rejections->next->message, "bad");
    assert_null(outcome.rejections->next->next);
    waiter_destroy(waiter);
    /* The id comes again before it is forgotten, then corrected, as a new event. */
    expect(joiner_of(2), WAITER_UNKNOWN);
    waiter = owner_of(2, 12);
    settle(2, 12, RECORD_INSERTED);
    expect(waiter, WAITER_INSERTED);
}

static void a_message_is_marked_as_cut_only_where_words_were_lost(void **state)
{
    static const struct {
        size_t words, spaces;
        const char *end;
    } cases[] = {{WAITER_MESSAGE_MAX, 0, "xxxx"},
                 {WAITER_MESSAGE_MAX, 9, "xxxx"},
                 {WAITER_MESSAGE_MAX + 1, 0, "x..."}};
    char message[WAITER_MESSAGE_MAX + 50];

    (void)state;
    for (uint64_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct record record = record_of(i, i);
        struct waiter *waiter = owner_of(i, i);
        const struct waiter_rejection *told;

        memset(message, 'x', cases[i].words);
        memset(message + cases[i].words, '\n', cases[i].spaces);
        waiter_reason(table, &record, 1, (struct slice){message, cases[i].words + cases[i].spaces});
        told = waiter_end(waiter).rejections;
        assert_int_equal(strlen(told->message), WAITER_MESSAGE_MAX);
        assert_string_equal(told->message + WAITER_MESSAGE_MAX - 4, cases[i].end);
        waiter_destroy(waiter);
    }
}

static void a_duplicate_of_a_rejected_event_is_told_apart(void **state)
{
    struct waiter *waiter = waiter_create(inbox, 4);
    struct waiter_outcome outcome;
    const struct waiter_rejection *told;

    (void)state;
    for (uint32_t i = 0; i < 3; i++) {
        struct record record = record_of(i, i);

        if (i == 0) { /* another request's, in the table */
            expect(owner_of(i, i), WAITER_PENDING);
            assert_true(waiter_join(waiter, i, &record.hash));
        } else if (i == 1) { /* another request's, by its record */
            waiter_follow(waiter, i, &record.hash, i);
        } else { /* and two of this request with one id */
            waiter_own(waiter, i, &record.hash, i);
            assert_true(waiter_join(waiter, i + 1, &record.hash));
        }
        waiter_reason(table, &record, 27, (struct slice){"bad", 3});
    }
    waiter_arm(waiter, 0);
    for (uint32_t i = 0; i < 3; i++)
        settle(i, i, RECORD_DEAD);
    assert_ptr_equal(waiter_inbox_take(inbox), waiter);
    outcome = waiter_end(waiter);
    assert_int_equal(outcome.verdict, WAITER_REJECTED);
    assert_int_equal(outcome.rejected, 4);
    assert_int_equal(outcome.rejected_duplicates, 3);
    told = outcome.rejections;
    for (uint32_t i = 0; i < 4; i++, told = told->next) {
        assert_int_equal(told->event, i);
        assert_string_equal(told->message, "bad");
        assert_int_equal(told->duplicate, i != 2);
    }
    waiter_destroy(waiter);
    /* Who comes later and is a duplicate is one of a new owner's. */
    expect(joiner_of(2), WAITER_UNKNOWN);
}

/* L1 has forgotten the first record, which is pending still: what is known is of that one. */
static void an_event_that_an_earlier_record_settles_counts_as_its_duplicate(void **state)
{
    struct waiter *first = owner_of(1, 10), *second = owner_of(1, 11);

    (void)state;
    settle(1, 10, RECORD_DEAD);
    assert_int_equal(waiter_end(first).rejected_duplicates, 0);
    assert_int_equal(waiter_end(second).rejected_duplicates, 1);
    waiter_destroy(first);
    waiter_destroy(second);
}

static void waiters_and_their_events_are_bounded(void **state)
{
    struct waiter *waiters[WAITERS_MAX];
    struct waiter *large = waiter_create(inbox, EVENTS_MAX);

    (void)state;
    assert_non_null(large);
    assert_null(waiter_create(inbox, 1));
    waiter_destroy(large);
    assert_null(waiter_create(inbox, EVENTS_MAX + 1));
    for (size_t i = 0; i < WAITERS_MAX; i++)
        waiters[i] = owner_of(i, i);
    assert_null(waiter_create(inbox, 1));
    for (size_t i = 0; i < WAITERS_MAX; i++)
        expect(waiters[i], WAITER_PENDING);
}

static bool wanted(uint64_t id, uint64_t lsn)
{
    struct record other = record_of(77777, 77777);
    struct record record = record_of(id, lsn);
    struct record *const records[] = {&other, &record};

    return waiter_wanted(table, records, 2);
}

static void a_record_is_wanted_while_somebody_waits_for_it(void **state)
{
    struct waiter *waiter;

    (void)state;
    assert_false(wanted(1, 101));
    waiter = owner_of(1, 101);
    assert_true(wanted(1, 101));
    assert_false(wanted(1, 102)); /* another record of the id */
    assert_false(wanted(2, 101));
    expect(waiter, WAITER_PENDING); /* its client has gone */
    assert_false(wanted(1, 101));
    assert_true(waiter_table_busy(table));
    waiter = joiner_of(1);
    assert_true(wanted(1, 101));
    settle(1, 101, RECORD_INSERTED);
    assert_false(wanted(1, 101));
    expect(waiter, WAITER_INSERTED);
}

static void count_wake(void *arg)
{
    ++*(int *)arg;
}

static void only_who_waits_for_what_came_before_calls(void **state)
{
    struct waiter *waiter;
    struct waiter *other;
    struct hash128 hash = hash_of(1);
    int wakes = 0;

    (void)state;
    waiter_table_wake_by(table, count_wake, &wakes);
    other = owner_of(1, 101);
    assert_int_equal(waiter_take_called(table), 0);
    waiter = waiter_create(inbox, 1);
    assert_true(waiter_join(waiter, 0, &hash));
    assert_int_equal(waiter_take_called(table), 0); /* not before it is armed */
    waiter_arm(waiter, 5);
    assert_int_equal(wakes, 1);
    assert_int_equal(waiter_take_called(table), 1u << 5);
    assert_int_equal(waiter_take_called(table), 0);
    settle(1, 101, RECORD_INSERTED);
    expect(waiter, WAITER_INSERTED);
    expect(other, WAITER_INSERTED);
    /* Known already. */
    expect(joiner_of(1), WAITER_INSERTED);
    expect(joiner_of(9), WAITER_UNKNOWN);
    assert_int_equal(waiter_take_called(table), 0);
    /* The original is known to the journal alone. */
    waiter = waiter_create(inbox, 1);
    hash = hash_of(2);
    waiter_follow(waiter, 0, &hash, 102);
    waiter_arm(waiter, 63);
    assert_int_equal(wakes, 2);
    assert_int_equal(waiter_take_called(table), UINT64_C(1) << 63);
    waiter_table_wake_by(table, NULL, NULL);
    expect(waiter, WAITER_PENDING);
}

static void what_nobody_asks_for_makes_room_oldest_first(void **state)
{
    struct waiter *held = owner_of(1000, 1000);

    (void)state;
    for (uint64_t i = 0; i < 10 * EVENTS_MAX; i++)
        expect(owner_of(i, i), WAITER_PENDING);
    expect(joiner_of(10 * EVENTS_MAX - EVENTS_MAX), WAITER_UNKNOWN); /* gone */
    struct waiter *waiter = joiner_of(10 * EVENTS_MAX - 1);          /* the youngest is there */
    settle(10 * EVENTS_MAX - 1, 10 * EVENTS_MAX - 1, RECORD_INSERTED);
    expect(waiter, WAITER_INSERTED);
    /* What somebody waits for is never given up. */
    settle(1000, 1000, RECORD_INSERTED);
    expect(held, WAITER_INSERTED);
    for (uint64_t i = 0; i < 10 * EVENTS_MAX; i++)
        settle(i, i, RECORD_INSERTED);
    assert_false(waiter_table_busy(table));
}

/* -- threads */

#define ROUNDS 3000
#define BATCH 8

struct side {
    struct waiter_table *table;
    struct waiter_inbox *inbox;
    int wake_fd;
    int pipe[2]; /* records to the finisher */
    uint64_t first;
    size_t inserted, pending;
    pthread_t front, back;
};

static void *finisher(void *arg)
{
    struct side *side = arg;
    struct record record;

    while (read(side->pipe[0], &record, sizeof(record)) == (ssize_t)sizeof(record)) {
        struct record *const records[] = {&record};

        waiter_settle(side->table, records, 1, RECORD_INSERTED);
    }
    return NULL;
}

static void collect(struct side *side)
{
    struct waiter *waiter;
    uint64_t count;

    (void)!read(side->wake_fd, &count, sizeof(count));
    while ((waiter = waiter_inbox_take(side->inbox))) {
        side->inserted += waiter_end(waiter).verdict == WAITER_INSERTED;
        waiter_destroy(waiter);
    }
}

static void *fronter(void *arg)
{
    struct side *side = arg;
    size_t made = 0;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct waiter *waiter = waiter_create(side->inbox, BATCH);

        if (!waiter)
            abort();
        for (uint32_t e = 0; e < BATCH; e++) {
            uint64_t id = side->first + i * BATCH + e;
            struct record record = record_of(id, id);

            waiter_own(waiter, e, &record.hash, id);
            if (write(side->pipe[1], &record, sizeof(record)) != (ssize_t)sizeof(record))
                abort();
        }
        waiter_arm(waiter, 0);
        made++;
        /* Some give up, at any instant of it. */
        if (i % 5 == 4) {
            side->pending += waiter_end(waiter).verdict == WAITER_PENDING;
            side->inserted += 1;
            waiter_destroy(waiter);
        }
        collect(side);
    }
    while (side->inserted < made) {
        struct pollfd wake = {.fd = side->wake_fd, .events = POLLIN};

        if (poll(&wake, 1, 20000) != 1)
            abort(); /* a wake-up was lost */
        collect(side);
    }
    close(side->pipe[1]);
    return NULL;
}

static void threads_lose_no_waiter(void **state)
{
    struct waiter_table *shared = waiter_table_create(2 * ROUNDS, 2 * ROUNDS * BATCH);
    struct side sides[2];

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        sides[i] = (struct side){.table = shared, .wake_fd = eventfd(0, EFD_NONBLOCK)};
        sides[i].first = i * 1000000;
        sides[i].inbox = waiter_inbox_create(shared, sides[i].wake_fd);
        assert_int_equal(pipe(sides[i].pipe), 0);
        assert_int_equal(pthread_create(&sides[i].back, NULL, finisher, &sides[i]), 0);
        assert_int_equal(pthread_create(&sides[i].front, NULL, fronter, &sides[i]), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(sides[i].front, NULL);
        pthread_join(sides[i].back, NULL);
        assert_int_equal(sides[i].inserted, ROUNDS);
        waiter_inbox_destroy(sides[i].inbox);
        close(sides[i].wake_fd);
        close(sides[i].pipe[0]);
    }
    assert_false(waiter_table_busy(shared));
    waiter_table_destroy(shared);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_waiter_arrives_with_the_last_of_its_events),
        TEST(nobody_arrives_before_being_armed),
        TEST(a_duplicate_waits_for_its_original_even_when_nobody_else_does),
        TEST(a_duplicate_of_what_nobody_waited_for_is_unknown),
        TEST(what_was_looked_up_settles_the_event_like_its_end),
        TEST(an_inserted_id_that_comes_again_as_a_duplicate_is_still_inserted),
        TEST(rejections_come_in_order_cut_and_clean),
        TEST(a_message_is_marked_as_cut_only_where_words_were_lost),
        TEST(a_duplicate_of_a_rejected_event_is_told_apart),
        TEST(an_event_that_an_earlier_record_settles_counts_as_its_duplicate),
        TEST(waiters_and_their_events_are_bounded),
        TEST(what_nobody_asks_for_makes_room_oldest_first),
        TEST(a_record_is_wanted_while_somebody_waits_for_it),
        TEST(only_who_waits_for_what_came_before_calls),
        TEST(threads_lose_no_waiter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
