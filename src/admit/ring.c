/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring.c - hands accepted events from the front-end threads to the workers.
 *
 * Credits and positions are separate. A credit says that there is room: ring_reserve() takes it
 * before we answer, and the worker that takes the event gives it back. A position says where:
 * ring_publish() takes it at the last moment, by one addition, so that nothing can happen between
 * taking it and filling it. The slots follow Dmitry Vyukov's bounded MPMC queue: a slot's turn says
 * for which lap around the ring it is free (2 * lap) or ready (2 * lap + 1), and only the thread
 * that holds the position changes it.
 *
 * A publisher can find that its slot is not free yet: a worker took the position a lap ago and has
 * not read the slot. The publisher then spins, at first with pause and then with sched_yield().
 * This is bounded and rare: the worker is between taking the position and copying the record, where
 * it makes no call and takes no lock, so it needs only the CPU that sched_yield() offers. And since
 * there are at least twice as many slots as credits, the other workers must have taken at least
 * `capacity` events in that moment.
 *
 * Workers sleep on an eventcount: a sleeper first counts itself in `waiters`, then checks again
 * that the ring is empty; a publisher first fills the slot, then looks at `waiters`. With a full
 * fence between the two steps on either side, at least one of them sees the other (Dekker). Without
 * it an event could wait in the ring while every worker sleeps.
 *
 * A worker whose batch lingers sleeps patiently: events then wait for the end of its sleep, or
 * until there are many. Others may sleep without an end meanwhile, since there is one who does not.
 *
 * Runs on: ring_reserve(), ring_cancel() and ring_publish() on any front-end thread; ring_take()
 * and ring_wait() on any worker; the rest anywhere.
 * Owns: the slots. The event bytes belong to the journal.
 */
#include "alloy/ring.h"

#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#define CAPACITY_MAX ((size_t)1 << 24)
#define CLOSED (1ull << 63) /* in credits */
#define SPINS_BEFORE_YIELD 128
#define NS_PER_S 1000000000ull
#define MANY_SHARE                                                                \
    4 /* of the capacity: so much may lie in the ring while workers could take it \
       */

struct slot {
    _Atomic uint64_t turn;
    struct record *record; /* written and read by the thread that has the turn */
};

struct ring {
    /* constant after creation */
    size_t capacity;
    unsigned int lap_shift; /* log2 of the number of slots */
    uint64_t mask;
    struct slot *slots;
    /* any thread */
    CACHE_ALIGNED _Atomic uint64_t credits; /* in use, and CLOSED */
    /* front-end threads only */
    CACHE_ALIGNED _Atomic uint64_t tail; /* next position to publish at */
    /* workers */
    CACHE_ALIGNED _Atomic uint64_t head; /* next position to take from */
    /* workers write on their way to sleep and back; publishers read */
    CACHE_ALIGNED _Atomic uint32_t waiters;
    _Atomic uint32_t patient; /* of them, those that wait for many */
    _Atomic uint32_t epoch;   /* the futex: incremented by each wake-up */
    _Atomic uint64_t many;    /* that the last of the patient ones wait for */
    /* front-end threads set it, the main thread clears it; relaxed: it orders nothing */
    CACHE_ALIGNED atomic_bool was_full;
};

static void ring_full_fence(void)
{
#ifdef __SANITIZE_THREAD__
    /* gcc warns that ThreadSanitizer does not model the fence. It need not: the fence orders only
     * the wake-ups; all data passes through acquire and release on a slot's turn. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
    atomic_thread_fence(memory_order_seq_cst);
#ifdef __SANITIZE_THREAD__
#pragma GCC diagnostic pop
#endif
}

static void ring_cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static struct slot *ring_slot_at(const struct ring *ring, uint64_t position)
{
    return &ring->slots[position & ring->mask];
}

static uint64_t ring_turn_free(const struct ring *ring, uint64_t position)
{
    return (position >> ring->lap_shift) * 2;
}

static uint64_t ring_turn_ready(const struct ring *ring, uint64_t position)
{
    return ring_turn_free(ring, position) + 1;
}

static bool ring_slot_ready(const struct ring *ring, uint64_t position)
{
    /* acquire: pairs with the release in ring_publish(); the record is visible */
    return atomic_load_explicit(&ring_slot_at(ring, position)->turn, memory_order_acquire) ==
           ring_turn_ready(ring, position);
}

static void ring_slot_wait_free(const struct ring *ring, uint64_t position)
{
    struct slot *slot = ring_slot_at(ring, position);
    uint64_t turn = ring_turn_free(ring, position);

    /* acquire: pairs with the release in ring_take(); the last lap's record has been read */
    for (unsigned int spins = 0; atomic_load_explicit(&slot->turn, memory_order_acquire) != turn;
         spins++) {
        if (spins < SPINS_BEFORE_YIELD)
            ring_cpu_pause();
        else
            sched_yield();
    }
}

static void ring_credits_give_back(struct ring *ring, size_t n)
{
    /* release: pairs with the acquire in ring_reserve() and ring_depth() */
    uint64_t before = atomic_fetch_sub_explicit(&ring->credits, n, memory_order_release);

    ALLOY_ASSERT((before & ~CLOSED) >= n);
}

static void ring_wake_sleepers(struct ring *ring, int count)
{
    /* Change the epoch first, so that a sleeper on its way into the kernel does not fall asleep
     * there. The release pairs with the acquire in ring_epoch(). */
    atomic_fetch_add_explicit(&ring->epoch, 1, memory_order_release);
    syscall(SYS_futex, &ring->epoch, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/* Whether as many events are published, and not taken, as the patient sleepers wait for. */
static bool ring_has_many(const struct ring *ring)
{
    /* acquire: head first, or it might be beyond the tail */
    const uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    const uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    return tail - head >= atomic_load_explicit(&ring->many, memory_order_relaxed);
}

/* Wakes one sleeper if there is one; the slots have been filled before. */
static void ring_wake_one_if_asleep(struct ring *ring)
{
    /* pairs with the fence in ring_sleep() */
    ring_full_fence();
    if (atomic_load_explicit(&ring->waiters, memory_order_relaxed) > 0 &&
        (atomic_load_explicit(&ring->patient, memory_order_relaxed) == 0 || ring_has_many(ring)))
        ring_wake_sleepers(ring, 1);
}

/* True when the oldest position has nothing to take. Later positions do not matter: the publisher
 * of the oldest is about to fill it and then wakes a sleeper itself. */
static bool ring_is_empty(const struct ring *ring)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);

    while (!ring_slot_ready(ring, head)) {
        uint64_t now = atomic_load_explicit(&ring->head, memory_order_relaxed);
        if (now == head)
            return true;
        head = now;
    }
    return false;
}

/* Sleeps, unless somebody was woken since epoch. */
static void ring_sleep(struct ring *ring, uint32_t epoch, uint64_t timeout_ns)
{
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / NS_PER_S),
                                     .tv_nsec = (long)(timeout_ns % NS_PER_S)};

    syscall(SYS_futex, &ring->epoch, FUTEX_WAIT_PRIVATE, epoch,
            timeout_ns == UINT64_MAX ? NULL : &timeout, NULL, 0);
}

struct ring *ring_create(size_t capacity)
{
    struct ring *ring;
    unsigned int shift = 1;

    ALLOY_ASSERT(capacity >= 1 && capacity <= CAPACITY_MAX);
    while (((size_t)1 << shift) < 2 * capacity)
        shift++;
    ring = aligned_alloc(CACHE_LINE, sizeof(*ring));
    if (!ring)
        return NULL;
    *ring =
        (struct ring){.capacity = capacity, .lap_shift = shift, .mask = ((uint64_t)1 << shift) - 1};
    /* All zero means free for the first lap, so we need not touch a page before its use. */
    ring->slots = calloc((size_t)1 << shift, sizeof(*ring->slots));
    if (!ring->slots) {
        free(ring);
        return NULL;
    }
    return ring;
}

void ring_destroy(struct ring *ring)
{
    if (!ring)
        return;
    free(ring->slots);
    free(ring);
}

bool ring_reserve(struct ring *ring, size_t n)
{
    uint64_t used = atomic_load_explicit(&ring->credits, memory_order_relaxed);

    do {
        if ((used & CLOSED) || n > ring->capacity - used)
            return false;
        /* acquire: pairs with the release in ring_credits_give_back(); the slots are free by then
         */
    } while (!atomic_compare_exchange_weak_explicit(&ring->credits, &used, used + n,
                                                    memory_order_acquire, memory_order_relaxed));
    return true;
}

void ring_cancel(struct ring *ring, size_t n)
{
    ring_credits_give_back(ring, n);
}

void ring_publish(struct ring *ring, struct record *const *records, size_t n)
{
    if (n == 0)
        return;
    /* relaxed: the position is only a number; the slot's turn orders the rest */
    uint64_t position = atomic_fetch_add_explicit(&ring->tail, n, memory_order_relaxed);
    for (size_t i = 0; i < n; i++, position++) {
        struct slot *slot = ring_slot_at(ring, position);
        ring_slot_wait_free(ring, position);
        slot->record = records[i];
        /* release: pairs with the acquire in ring_slot_ready() */
        atomic_store_explicit(&slot->turn, ring_turn_ready(ring, position), memory_order_release);
    }
    ring_wake_one_if_asleep(ring);
}

size_t ring_take(struct ring *ring, struct record **out, size_t max)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t n;

    for (;;) {
        for (n = 0; n < max && ring_slot_ready(ring, head + n); n++)
            ;
        if (n == 0) {
            uint64_t now = atomic_load_explicit(&ring->head, memory_order_relaxed);
            if (now == head || max == 0)
                return 0;
            head = now;
        } else if (atomic_compare_exchange_weak_explicit(
                       &ring->head, &head, head + n, memory_order_relaxed, memory_order_relaxed)) {
            /* relaxed: ring_slot_ready() has ordered what we read next, and nobody else can have
             * changed it, since a turn never comes twice and head never goes back */
            break;
        }
    }
    for (size_t i = 0; i < n; i++, head++) {
        struct slot *slot = ring_slot_at(ring, head);
        out[i] = slot->record;
        /* release: pairs with the acquire in ring_slot_wait_free() */
        atomic_store_explicit(&slot->turn, ring_turn_free(ring, head) + 2, memory_order_release);
    }
    ring_credits_give_back(ring, n);
    /* The ring gave as much as we asked for and may hold more: wake the next sleeper. */
    if (n == max && atomic_load_explicit(&ring->waiters, memory_order_relaxed) > 0 &&
        !ring_is_empty(ring))
        ring_wake_sleepers(ring, 1);
    return n;
}

uint32_t ring_epoch(const struct ring *ring)
{
    /* acquire: pairs with the release in ring_wake_sleepers(); we see what was done before the
     * wake-up */
    return atomic_load_explicit(&ring->epoch, memory_order_acquire);
}

void ring_wait(struct ring *ring, uint64_t timeout_ns)
{
    ring_wait_since(ring, ring_epoch(ring), timeout_ns);
}

void ring_wait_since(struct ring *ring, uint32_t epoch, uint64_t timeout_ns)
{
    if (timeout_ns == 0)
        return;
    /* The caller read the epoch before we look at the ring, so after any wake-up since then the
     * kernel does not put us to sleep. */
    atomic_fetch_add_explicit(&ring->waiters, 1, memory_order_relaxed);
    /* pairs with the fence in ring_wake_one_if_asleep() */
    ring_full_fence();
    if (ring_is_empty(ring) && !ring_closed(ring))
        ring_sleep(ring, epoch, timeout_ns);
    atomic_fetch_sub_explicit(&ring->waiters, 1, memory_order_relaxed);
}

void ring_wait_for_many(struct ring *ring, uint32_t epoch, size_t many, uint64_t timeout_ns)
{
    ALLOY_ASSERT(many > 0 && many <= ring_many_max(ring) && timeout_ns != UINT64_MAX);
    if (timeout_ns == 0)
        return;
    atomic_store_explicit(&ring->many, many, memory_order_relaxed);
    atomic_fetch_add_explicit(&ring->waiters, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&ring->patient, 1, memory_order_relaxed);
    /* As above. A publisher that sees another worker's number wakes for that. */
    ring_full_fence();
    if (!ring_has_many(ring) && !ring_closed(ring))
        ring_sleep(ring, epoch, timeout_ns);
    atomic_fetch_sub_explicit(&ring->patient, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&ring->waiters, 1, memory_order_relaxed);
}

size_t ring_many_max(const struct ring *ring)
{
    return ring->capacity / MANY_SHARE > 0 ? ring->capacity / MANY_SHARE : 1;
}

void ring_close(struct ring *ring)
{
    /* release: pairs with the acquire in ring_closed() */
    atomic_fetch_or_explicit(&ring->credits, CLOSED, memory_order_release);
    ring_wake_sleepers(ring, INT_MAX);
}

bool ring_closed(const struct ring *ring)
{
    /* acquire: pairs with the release in ring_close() */
    return atomic_load_explicit(&ring->credits, memory_order_acquire) & CLOSED;
}

void ring_wake(struct ring *ring)
{
    ring_wake_sleepers(ring, INT_MAX);
}

void ring_note_full(struct ring *ring)
{
    if (!atomic_load_explicit(&ring->was_full, memory_order_relaxed))
        atomic_store_explicit(&ring->was_full, true, memory_order_relaxed);
}

bool ring_was_full(struct ring *ring)
{
    return atomic_load_explicit(&ring->was_full, memory_order_relaxed) &&
           atomic_exchange_explicit(&ring->was_full, false, memory_order_relaxed);
}

size_t ring_depth(const struct ring *ring)
{
    /* acquire: pairs with the release in ring_credits_give_back() */
    return atomic_load_explicit(&ring->credits, memory_order_acquire) & ~CLOSED;
}

size_t ring_capacity(const struct ring *ring)
{
    return ring->capacity;
}
