/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ring.c - tests ring.c.
 *
 * The ring never looks into a record, so the tests put numbers into it instead of pointers.
 */
#include "alloy/ring.h"
#include "alloy/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define DEADLINE_NS (60 * CLOCK_NS_PER_S)
#define MS CLOCK_NS_PER_MS
#define BATCH 64

static struct record *record_of(uint64_t number)
{
    return (struct record *)(uintptr_t)(number + 1);
}

static uint64_t number_of(const struct record *record)
{
    return (uintptr_t)record - 1;
}

static void publish(struct ring *ring, uint64_t first, size_t n)
{
    struct record *records[BATCH];

    for (size_t i = 0; i < n; i++)
        records[i] = record_of(first + i);
    ring_publish(ring, records, n);
}

static void records_come_out_in_order_many_laps_long(void **state)
{
    const size_t capacities[] = {1, 2, 3, 5, 64, 100};
    struct record *out[BATCH];

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(capacities); c++) {
        struct ring *ring = ring_create(capacities[c]);
        uint64_t in = 0, expected = 0;
        for (int round = 0; round < 1000; round++) {
            size_t n = 1 + (size_t)round % (capacities[c] < BATCH ? capacities[c] : BATCH);
            assert_true(ring_reserve(ring, n));
            publish(ring, in, n);
            in += n;
            assert_int_equal(ring_depth(ring), n);
            size_t taken = ring_take(ring, out, BATCH);
            assert_int_equal(taken, n);
            for (size_t i = 0; i < taken; i++)
                assert_int_equal(number_of(out[i]), expected++);
            assert_int_equal(ring_depth(ring), 0);
        }
        ring_destroy(ring);
    }
}

static void reserve_fails_when_full_and_moves_nothing(void **state)
{
    const size_t capacities[] = {1, 3, 100, 1000};

    (void)state;
    for (size_t c = 0; c < ARRAY_LEN(capacities); c++) {
        size_t capacity = capacities[c];
        struct ring *ring = ring_create(capacity);
        assert_int_equal(ring_capacity(ring), capacity);
        assert_false(ring_reserve(ring, capacity + 1));
        assert_false(ring_reserve(ring, SIZE_MAX));
        assert_int_equal(ring_depth(ring), 0);
        assert_true(ring_reserve(ring, capacity));
        assert_false(ring_reserve(ring, 1));
        assert_true(ring_reserve(ring, 0));
        assert_int_equal(ring_depth(ring), capacity);
        ring_cancel(ring, 1);
        assert_false(ring_reserve(ring, 2));
        assert_true(ring_reserve(ring, 1));
        ring_cancel(ring, capacity);
        assert_int_equal(ring_depth(ring), 0);
        ring_destroy(ring);
    }
}

static void reservation_holds_no_place_before_those_published_later(void **state)
{
    struct ring *ring = ring_create(4);
    struct record *out[4];

    (void)state;
    assert_true(ring_reserve(ring, 2));
    assert_true(ring_reserve(ring, 2));
    publish(ring, 7, 2);
    assert_int_equal(ring_take(ring, out, 4), 2);
    assert_int_equal(number_of(out[0]), 7);
    assert_int_equal(number_of(out[1]), 8);
    assert_int_equal(ring_depth(ring), 2);
    publish(ring, 9, 2);
    assert_int_equal(ring_take(ring, out, 4), 2);
    assert_int_equal(number_of(out[0]), 9);
    ring_destroy(ring);
}

static void take_respects_max(void **state)
{
    struct ring *ring = ring_create(10);
    struct record *out[10];

    (void)state;
    assert_int_equal(ring_take(ring, out, 10), 0);
    assert_true(ring_reserve(ring, 10));
    publish(ring, 0, 10);
    assert_int_equal(ring_take(ring, out, 0), 0);
    assert_int_equal(ring_take(ring, out, 1), 1);
    assert_int_equal(ring_take(ring, out, 6), 6);
    assert_int_equal(number_of(out[0]), 1);
    assert_int_equal(ring_depth(ring), 3);
    assert_int_equal(ring_take(ring, out, 10), 3);
    assert_int_equal(ring_take(ring, out, 10), 0);
    ring_destroy(ring);
}

static void closed_ring_refuses_reservations_but_takes_what_was_reserved(void **state)
{
    struct ring *ring = ring_create(10);
    struct record *out[10];

    (void)state;
    assert_true(ring_reserve(ring, 3));
    assert_false(ring_closed(ring));
    ring_close(ring);
    assert_true(ring_closed(ring));
    assert_false(ring_reserve(ring, 1));
    assert_false(ring_reserve(ring, 0));
    assert_int_equal(ring_depth(ring), 3);
    publish(ring, 0, 2);
    ring_cancel(ring, 1);
    assert_int_equal(ring_take(ring, out, 10), 2);
    assert_int_equal(ring_depth(ring), 0);
    ring_close(ring);
    assert_true(ring_closed(ring));
    assert_false(ring_reserve(ring, 1));
    ring_destroy(ring);
    ring_destroy(NULL);
}

static void wait_returns_at_once_with_something_to_take_closed_or_no_time(void **state)
{
    struct ring *ring = ring_create(10);

    (void)state;
    ring_wait(ring, 0);
    assert_true(ring_reserve(ring, 1));
    publish(ring, 0, 1);
    ring_wait(ring, UINT64_MAX);
    struct record *out;
    assert_int_equal(ring_take(ring, &out, 1), 1);
    ring_close(ring);
    ring_wait(ring, UINT64_MAX);
    ring_destroy(ring);
}

static void wait_ends_after_its_timeout(void **state)
{
    struct ring *ring = ring_create(10);
    uint64_t start_ns = clock_mono_ns();

    (void)state;
    ring_wait(ring, 20 * MS);
    assert_in_range(clock_mono_ns() - start_ns, 19 * MS, DEADLINE_NS);
    ring_destroy(ring);
}

/* One thread that sleeps without a limit until told to end. */
struct sleeper {
    struct ring *ring;
    _Atomic bool stop;
    _Atomic unsigned int returns;
};

static void *sleep_until_stopped(void *arg)
{
    struct sleeper *sleeper = arg;

    while (!atomic_load(&sleeper->stop)) {
        ring_wait(sleeper->ring, UINT64_MAX);
        atomic_fetch_add(&sleeper->returns, 1);
    }
    return NULL;
}

/* A sleeper may be anywhere on its way to sleep, so the waking is repeated until it has shown. */
static void all_sleepers_are_woken_by_wake(void **state)
{
    struct ring *ring = ring_create(10);
    struct sleeper sleepers[3];
    pthread_t threads[3];
    uint64_t start_ns = clock_mono_ns();

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        sleepers[i] = (struct sleeper){.ring = ring};
        pthread_create(&threads[i], NULL, sleep_until_stopped, &sleepers[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        while (atomic_load(&sleepers[i].returns) < 5) {
            ring_wake(ring);
            sched_yield();
            assert_true(clock_mono_ns() - start_ns < DEADLINE_NS);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        atomic_store(&sleepers[i].stop, true);
    ring_close(ring);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    ring_destroy(ring);
}

static void close_wakes_all_sleepers(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct ring *ring = ring_create(10);
        struct sleeper sleepers[3];
        pthread_t threads[3];
        for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
            sleepers[i] = (struct sleeper){.ring = ring, .stop = false};
            pthread_create(&threads[i], NULL, sleep_until_stopped, &sleepers[i]);
        }
        for (int i = 0; i < round; i++)
            sched_yield();
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
            atomic_store(&sleepers[i].stop, true);
        ring_close(ring);
        for (size_t i = 0; i < ARRAY_LEN(threads); i++)
            pthread_join(threads[i], NULL);
        ring_destroy(ring);
    }
}

/* Two rings, one event: a lost wake-up stops the game for good. */
struct game {
    struct ring *to;
    struct ring *from;
    unsigned int rounds;
    _Atomic unsigned int *done;
};

static void *play(void *arg)
{
    struct game *game = arg;
    struct record *record;

    for (unsigned int i = 0; i < game->rounds; i++) {
        while (ring_take(game->from, &record, 1) == 0)
            ring_wait(game->from, UINT64_MAX);
        if (!ring_reserve(game->to, 1))
            abort();
        ring_publish(game->to, &record, 1);
        atomic_fetch_add(game->done, 1);
    }
    return NULL;
}

static void no_wake_up_is_lost_in_100000_single_events(void **state)
{
    const unsigned int rounds = 50000;
    struct ring *ping = ring_create(1), *pong = ring_create(1);
    _Atomic unsigned int done = 0;
    struct game games[2] = {{ping, pong, rounds, &done}, {pong, ping, rounds, &done}};
    pthread_t threads[2];
    uint64_t start_ns = clock_mono_ns();

    (void)state;
    for (size_t i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, play, &games[i]);
    assert_true(ring_reserve(ping, 1));
    publish(ping, 0, 1);
    while (atomic_load(&done) < 2 * rounds) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        assert_true(clock_mono_ns() - start_ns < DEADLINE_NS);
    }
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    ring_destroy(ping);
    ring_destroy(pong);
}

/* A worker that takes one event at a time and never comes back for another. */
struct taker {
    struct ring *ring;
    pthread_t thread;
    _Atomic int tid;
    _Atomic bool took;
};

static void *take_one(void *arg)
{
    struct taker *taker = arg;
    struct record *record;

    atomic_store(&taker->tid, gettid());
    while (ring_take(taker->ring, &record, 1) == 0)
        ring_wait(taker->ring, UINT64_MAX);
    atomic_store(&taker->took, true);
    return NULL;
}

static bool is_asleep(int tid)
{
    char path[64], text[256] = "";
    const char *state;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
    file = fopen(path, "r");
    (void)!fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    state = strrchr(text, ')');
    return state && state[2] == 'S';
}

/* Two events wake one sleeper; it takes one of them, and is busy with it for long. */
static void who_leaves_events_behind_passes_the_wake_up_on(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct ring *ring = ring_create(10);
        struct taker takers[2] = {{.ring = ring}, {.ring = ring}};
        const uint64_t start_ns = clock_mono_ns();

        for (size_t i = 0; i < 2; i++)
            pthread_create(&takers[i].thread, NULL, take_one, &takers[i]);
        for (size_t i = 0; i < 2; i++)
            while (atomic_load(&takers[i].tid) == 0 || !is_asleep(atomic_load(&takers[i].tid)))
                sched_yield();
        assert_true(ring_reserve(ring, 2));
        publish(ring, 0, 2);
        while (!atomic_load(&takers[0].took) || !atomic_load(&takers[1].took)) {
            sched_yield();
            if (clock_mono_ns() - start_ns > 10 * CLOCK_NS_PER_S)
                fail_msg("an event was left, and a worker left asleep");
        }
        for (size_t i = 0; i < 2; i++)
            pthread_join(takers[i].thread, NULL);
        ring_destroy(ring);
    }
}

/* Producers and consumers with random numbers of events and random cancellations. */
#define PRODUCERS_MAX 4

struct crowd {
    struct ring *ring;
    uint32_t each; /* events of one producer */
    size_t consumers;
    _Atomic uint32_t next_producer;
    _Atomic uint64_t taken;
    _Atomic unsigned int errors; /* what the threads found wrong */
    _Atomic uint8_t *seen[PRODUCERS_MAX];
};

static uint64_t next_random(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random >> 11;
}

static void *produce(void *arg)
{
    struct crowd *crowd = arg;
    uint64_t producer = atomic_fetch_add(&crowd->next_producer, 1);
    uint64_t random = 88172645463325252ull + producer;
    size_t most = ring_capacity(crowd->ring) < BATCH ? ring_capacity(crowd->ring) : BATCH;

    for (uint32_t sent = 0; sent < crowd->each;) {
        size_t n = 1 + next_random(&random) % most;
        if (n > crowd->each - sent)
            n = crowd->each - sent;
        if (!ring_reserve(crowd->ring, n)) {
            sched_yield();
            continue;
        }
        if (ring_depth(crowd->ring) > ring_capacity(crowd->ring))
            atomic_fetch_add(&crowd->errors, 1);
        size_t cancelled = next_random(&random) % 4 == 0 ? next_random(&random) % (n + 1) : 0;
        if (cancelled)
            ring_cancel(crowd->ring, cancelled);
        publish(crowd->ring, producer << 32 | sent, n - cancelled);
        sent += (uint32_t)(n - cancelled);
    }
    return NULL;
}

static void *consume(void *arg)
{
    struct crowd *crowd = arg;
    struct record *out[BATCH];
    int64_t last[PRODUCERS_MAX] = {-1, -1, -1, -1};
    uint64_t random = 1234567;

    for (;;) {
        size_t n = ring_take(crowd->ring, out, 1 + next_random(&random) % BATCH);
        if (n == 0 && ring_closed(crowd->ring))
            return NULL;
        if (n == 0)
            ring_wait(crowd->ring, UINT64_MAX);
        for (size_t i = 0; i < n; i++) {
            uint64_t producer = number_of(out[i]) >> 32, event = number_of(out[i]) & UINT32_MAX;
            /* What one consumer sees of one producer comes in that producer's order, as each
             * take claims a run of positions behind those of earlier takes. */
            if ((int64_t)event <= last[producer] ||
                (crowd->consumers == 1 && (int64_t)event != last[producer] + 1))
                atomic_fetch_add(&crowd->errors, 1);
            last[producer] = (int64_t)event;
            atomic_fetch_add(&crowd->seen[producer][event], 1);
        }
        atomic_fetch_add(&crowd->taken, n);
    }
}

static void run_crowd(size_t capacity, size_t producers, size_t consumers, uint32_t each)
{
    struct crowd crowd = {.ring = ring_create(capacity), .each = each, .consumers = consumers};
    pthread_t producing[PRODUCERS_MAX], consuming[PRODUCERS_MAX];
    uint64_t start_ns = clock_mono_ns();

    for (size_t i = 0; i < producers; i++)
        crowd.seen[i] = calloc(each, 1);
    for (size_t i = 0; i < consumers; i++)
        pthread_create(&consuming[i], NULL, consume, &crowd);
    for (size_t i = 0; i < producers; i++)
        pthread_create(&producing[i], NULL, produce, &crowd);
    for (size_t i = 0; i < producers; i++)
        pthread_join(producing[i], NULL);
    while (atomic_load(&crowd.taken) < producers * each) {
        sched_yield();
        assert_true(clock_mono_ns() - start_ns < DEADLINE_NS);
    }
    ring_close(crowd.ring);
    for (size_t i = 0; i < consumers; i++)
        pthread_join(consuming[i], NULL);
    assert_int_equal(crowd.errors, 0);
    assert_int_equal(crowd.taken, producers * each);
    assert_int_equal(ring_depth(crowd.ring), 0);
    for (size_t i = 0; i < producers; i++) {
        for (uint32_t event = 0; event < each; event++)
            assert_int_equal(crowd.seen[i][event], 1);
        free((void *)crowd.seen[i]);
    }
    ring_destroy(crowd.ring);
}

static void a_wake_up_after_the_epoch_was_read_is_remembered(void **state)
{
    struct ring *ring = ring_create(4);
    uint32_t epoch = ring_epoch(ring);
    uint64_t started_ns = clock_mono_ns();

    (void)state;
    ring_wake(ring);
    ring_wait_since(ring, epoch, UINT64_MAX); /* would never end */
    ring_wait_since(ring, ring_epoch(ring), 20 * CLOCK_NS_PER_MS);
    assert_true(clock_mono_ns() - started_ns >= 20 * CLOCK_NS_PER_MS);
    ring_destroy(ring);
}

struct patient {
    struct ring *ring;
    uint64_t timeout_ns;
    _Atomic int tid;
    _Atomic bool awake;
};

static void *wait_for_many(void *arg)
{
    struct patient *patient = arg;

    atomic_store(&patient->tid, gettid());
    ring_wait_for_many(patient->ring, ring_epoch(patient->ring), 5, patient->timeout_ns);
    atomic_store(&patient->awake, true);
    return NULL;
}

static pthread_t start_patient(struct patient *patient)
{
    pthread_t thread;

    pthread_create(&thread, NULL, wait_for_many, patient);
    while (atomic_load(&patient->tid) == 0 || !is_asleep(atomic_load(&patient->tid)))
        sched_yield();
    return thread;
}

static void who_waits_for_many_is_woken_by_no_fewer(void **state)
{
    struct ring *ring = ring_create(20);
    struct patient patient = {.ring = ring, .timeout_ns = DEADLINE_NS};
    pthread_t thread = start_patient(&patient);
    struct record *out[10];

    (void)state;
    assert_true(ring_reserve(ring, 5));
    for (uint32_t i = 0; i < 4; i++)
        publish(ring, i, 1);
    assert_true(is_asleep(atomic_load(&patient.tid)));
    assert_false(atomic_load(&patient.awake));
    publish(ring, 4, 1);
    pthread_join(thread, NULL);
    /* What is there already is not waited for; what is left is not many. */
    ring_wait_for_many(ring, ring_epoch(ring), 5, DEADLINE_NS);
    assert_int_equal(ring_take(ring, out, 3), 3);
    ring_wait_for_many(ring, ring_epoch(ring), 5, 1 * MS);
    assert_int_equal(ring_take(ring, out, 10), 2);
    ring_destroy(ring);
}

static void who_waits_for_many_is_woken_by_all_else(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        struct ring *ring = ring_create(20);
        struct patient patient = {.ring = ring, .timeout_ns = DEADLINE_NS};
        pthread_t thread = start_patient(&patient);

        if (how == 0)
            ring_wake(ring);
        else
            ring_close(ring);
        pthread_join(thread, NULL);
        ring_destroy(ring);
    }
}

static void many_is_a_part_of_what_fits(void **state)
{
    static const struct {
        size_t capacity, many;
    } sizes[] = {{1, 1}, {3, 1}, {4, 1}, {8, 2}, {100000, 25000}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct ring *ring = ring_create(sizes[i].capacity);

        assert_int_equal(ring_many_max(ring), sizes[i].many);
        ring_destroy(ring);
    }
}

static void one_consumer_sees_each_producers_order_without_a_gap(void **state)
{
    (void)state;
    run_crowd(1000, 4, 1, 50000);
}

static void many_threads_lose_and_double_nothing(void **state)
{
    (void)state;
    run_crowd(1000, 2, 2, 100000);
    run_crowd(100, 4, 4, 30000);
    run_crowd(7, 3, 3, 10000);
}

static void ring_of_one_event_works_for_many_threads(void **state)
{
    (void)state;
    run_crowd(1, 2, 2, 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_in_order_many_laps_long),
        cmocka_unit_test(reserve_fails_when_full_and_moves_nothing),
        cmocka_unit_test(reservation_holds_no_place_before_those_published_later),
        cmocka_unit_test(take_respects_max),
        cmocka_unit_test(closed_ring_refuses_reservations_but_takes_what_was_reserved),
        cmocka_unit_test(wait_returns_at_once_with_something_to_take_closed_or_no_time),
        cmocka_unit_test(wait_ends_after_its_timeout),
        cmocka_unit_test(all_sleepers_are_woken_by_wake),
        cmocka_unit_test(close_wakes_all_sleepers),
        cmocka_unit_test(a_wake_up_after_the_epoch_was_read_is_remembered),
        cmocka_unit_test(no_wake_up_is_lost_in_100000_single_events),
        cmocka_unit_test(who_leaves_events_behind_passes_the_wake_up_on),
        cmocka_unit_test(who_waits_for_many_is_woken_by_no_fewer),
        cmocka_unit_test(who_waits_for_many_is_woken_by_all_else),
        cmocka_unit_test(many_is_a_part_of_what_fits),
        cmocka_unit_test(one_consumer_sees_each_producers_order_without_a_gap),
        cmocka_unit_test(many_threads_lose_and_double_nothing),
        cmocka_unit_test(ring_of_one_event_works_for_many_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
