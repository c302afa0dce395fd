/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_l1.c - tests l1.c.
 *
 * mmap() and munmap() here replace the C library's: they count what l1.c maps, and refuse memory on
 * demand. A synchronize_rcu() here replaces liburcu's, to see when it is called.
 */
#include "alloy/l1.h"
#include "alloy/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <cmocka.h>

#define TTL_MS 8000
#define ROTATION_MS (TTL_MS / 8)

static _Atomic uint64_t next_lsn = 1;
static _Atomic bool refuse_memory;
static _Thread_local bool counting;
static _Atomic size_t mapped_bytes;
static _Atomic size_t mapped_bytes_max;

/* ThreadSanitizer has to see every mapping: its own versions stand behind ours. It maps memory
 * itself before it is ready for instrumented code, so ours are not. */
#define UNINSTRUMENTED __attribute__((no_sanitize("thread")))
extern __typeof__(mmap) __interceptor_mmap __attribute__((weak));
extern __typeof__(munmap) __interceptor_munmap __attribute__((weak));

UNINSTRUMENTED void *mmap(void *address, size_t size, int protection, int flags, int fd,
                          off_t offset)
{
    if (refuse_memory) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    if (counting && (protection & PROT_WRITE)) {
        size_t now = atomic_fetch_add(&mapped_bytes, size) + size;
        if (now > mapped_bytes_max)
            mapped_bytes_max = now;
    }
    if (__interceptor_mmap)
        return __interceptor_mmap(address, size, protection, flags, fd, offset);
    return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

UNINSTRUMENTED int munmap(void *address, size_t size)
{
    if (counting)
        atomic_fetch_sub(&mapped_bytes, size);
    if (__interceptor_munmap)
        return __interceptor_munmap(address, size);
    return (int)syscall(SYS_munmap, address, size);
}

/* An id's hash as spread as the real one (splitmix64). */
static struct hash128 hash_of(uint64_t id)
{
    uint64_t words[2];

    for (int i = 0; i < 2; i++) {
        uint64_t x = id * 2 + (uint64_t)i + 0x9e3779b97f4a7c15ull;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        words[i] = x ^ (x >> 31);
    }
    return (struct hash128){words[0], words[1]};
}

static enum l1_result add(struct l1_thread *thread, uint64_t id, uint64_t now_ms)
{
    struct hash128 hash = hash_of(id);

    /* Another record each time. */
    return l1_add(thread, &hash, atomic_fetch_add(&next_lsn, 1), now_ms);
}

static bool contains(struct l1_thread *thread, uint64_t id)
{
    struct hash128 hash = hash_of(id);

    return l1_contains(thread, &hash);
}

static bool forget(struct l1_thread *thread, uint64_t id)
{
    struct hash128 hash = hash_of(id);

    return l1_remove(thread, &hash);
}

static void added_id_is_known_until_removed(void **state)
{
    struct l1 *l1 = l1_create(100, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    assert_false(contains(thread, 1));
    assert_false(forget(thread, 1));
    assert_int_equal(add(thread, 1, 0), L1_ADDED);
    assert_true(contains(thread, 1));
    assert_false(contains(thread, 2));
    assert_int_equal(add(thread, 1, 0), L1_KNOWN);
    assert_int_equal(l1_entries(l1), 1);
    assert_true(forget(thread, 1));
    assert_false(forget(thread, 1));
    assert_false(contains(thread, 1));
    assert_int_equal(l1_entries(l1), 0);
    assert_int_equal(add(thread, 1, 0), L1_ADDED);
    assert_int_equal(l1_entries(l1), 1);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void hashes_that_share_one_word_differ(void **state)
{
    /* Of hi the upper 40 bits count. */
    const uint64_t two = 2ull << 24;
    const struct hash128 hashes[] = {{0, 0}, {0, two}, {7, 0}, {7, two}, {7, UINT64_MAX}, {8, two}};
    struct l1 *l1 = l1_create(100, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(hashes); i++) {
        assert_false(l1_contains(thread, &hashes[i]));
        assert_int_equal(l1_add(thread, &hashes[i], next_lsn++, 0), L1_ADDED);
        assert_true(l1_contains(thread, &hashes[i]));
        assert_int_equal(l1_add(thread, &hashes[i], next_lsn++, 0), L1_KNOWN);
    }
    assert_int_equal(l1_entries(l1), ARRAY_LEN(hashes));
    l1_maintain(l1, ROTATION_MS);
    l1_maintain(l1, TTL_MS);
    assert_int_equal(l1_entries(l1), 0);
    assert_false(l1_contains(thread, &hashes[0]));
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

/* Calls l1_maintain() every 100 ms of made-up time up to and including until_ms. */
static void maintain_until(struct l1 *l1, uint64_t *now_ms, uint64_t until_ms)
{
    for (; *now_ms < until_ms; *now_ms += 100)
        l1_maintain(l1, *now_ms);
    *now_ms = until_ms;
    l1_maintain(l1, until_ms);
}

static void id_is_known_until_its_ttl_and_forgotten_one_rotation_later(void **state)
{
    struct l1 *l1 = l1_create(1000, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);
    uint64_t now_ms = 0;

    (void)state;
    /* Two ids in one generation, the first as early and the second as late as can be, long after
     * the start. */
    maintain_until(l1, &now_ms, 50000);
    add(thread, 1, 50000);
    maintain_until(l1, &now_ms, 50000 + ROTATION_MS - 1);
    add(thread, 2, now_ms);
    maintain_until(l1, &now_ms, 50000 + ROTATION_MS - 1 + TTL_MS - 1);
    assert_true(contains(thread, 2));
    assert_true(contains(thread, 1));
    maintain_until(l1, &now_ms, 50000 + ROTATION_MS + TTL_MS);
    assert_false(contains(thread, 2));
    assert_false(contains(thread, 1));
    assert_int_equal(l1_entries(l1), 0);
    assert_int_equal(l1_evicted(l1), 0);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void steady_stream_of_ids_expires_in_order(void **state)
{
    struct l1 *l1 = l1_create(100000, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (uint64_t now_ms = 0; now_ms < 4 * TTL_MS; now_ms += 10) {
        assert_int_equal(add(thread, now_ms, now_ms), L1_ADDED);
        if (now_ms % 100 == 0)
            l1_maintain(l1, now_ms);
        if (now_ms >= TTL_MS)
            assert_true(contains(thread, now_ms - TTL_MS + 10));
        if (now_ms >= TTL_MS + ROTATION_MS + 200)
            assert_false(contains(thread, now_ms - TTL_MS - ROTATION_MS - 200));
    }
    assert_int_equal(l1_evicted(l1), 0);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void an_owner_can_be_asked_for_and_given_up(void **state)
{
    struct l1 *l1 = l1_create(100, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);
    const struct hash128 hash = {.lo = 5, .hi = 6};
    uint64_t lsn = 1;

    (void)state;
    assert_false(l1_owner(thread, &hash, &lsn));
    assert_int_equal(l1_add(thread, &hash, 77, 0), L1_ADDED);
    assert_true(l1_owner(thread, &hash, &lsn));
    assert_int_equal(lsn, 77);
    l1_disown(thread, &hash, 78); /* not its owner */
    assert_true(l1_owner(thread, &hash, &lsn));
    assert_int_equal(lsn, 77);
    l1_disown(thread, &hash, 77);
    assert_true(l1_owner(thread, &hash, &lsn));
    assert_int_equal(lsn, 0);
    assert_true(l1_contains(thread, &hash));
    assert_int_equal(l1_add(thread, &hash, 77, 0), L1_KNOWN);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void nothing_is_evicted_up_to_capacity(void **state)
{
    const size_t capacities[] = {1, 2, 15, 16, 17, 31, 100, 4097, 20000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(capacities); i++) {
        struct l1 *l1 = l1_create(capacities[i], TTL_MS, 0);
        struct l1_thread *thread = l1_thread_create(l1);
        for (uint64_t id = 0; id < capacities[i]; id++) {
            assert_int_equal(add(thread, id, 0), L1_ADDED);
            l1_maintain(l1, 0);
        }
        for (uint64_t id = 0; id < capacities[i]; id++)
            assert_true(contains(thread, id));
        assert_int_equal(l1_entries(l1), capacities[i]);
        assert_int_equal(l1_evicted(l1), 0);
        l1_thread_destroy(thread);
        l1_destroy(l1);
    }
}

static void maintain_evicts_the_oldest_beyond_capacity_and_counts_them(void **state)
{
    const size_t capacity = 1600;
    struct l1 *l1 = l1_create(capacity, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (uint64_t id = 0; id < capacity + 1; id++)
        add(thread, id, 0);
    assert_int_equal(l1_entries(l1), capacity + 1);
    assert_true(forget(thread, 5));
    l1_maintain(l1, 1);
    assert_int_equal(l1_entries(l1), capacity + 1 - capacity / 16);
    assert_int_equal(l1_evicted(l1), capacity / 16 - 1);
    assert_false(contains(thread, 0));
    assert_false(contains(thread, capacity / 16 - 1));
    assert_true(contains(thread, capacity / 16));
    assert_true(contains(thread, capacity));
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void add_evicts_inline_when_maintain_never_runs(void **state)
{
    const size_t capacities[] = {1, 3, 16, 40, 1000, 20000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(capacities); i++) {
        size_t capacity = capacities[i], limit = capacity + capacity / 8 + 2;
        struct l1 *l1 = l1_create(capacity, TTL_MS, 0);
        struct l1_thread *thread = l1_thread_create(l1);
        uint64_t total = capacity > 1000 ? 3 * capacity : 20 * capacity;
        for (uint64_t id = 0; id < total; id++) {
            assert_int_equal(add(thread, id, id / 100), L1_ADDED);
            assert_true(contains(thread, id));
            if (id >= capacity)
                assert_true(contains(thread, id - capacity + 1));
            assert_true(l1_entries(l1) <= limit);
        }
        assert_int_equal(l1_entries(l1) + l1_evicted(l1), total);
        l1_thread_destroy(thread);
        l1_destroy(l1);
    }
}

static void id_that_expired_is_not_counted_as_evicted_when_room_is_made(void **state)
{
    const size_t capacity = 160;
    struct l1 *l1 = l1_create(capacity, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (uint64_t id = 0; id < capacity; id++)
        add(thread, id, 0);
    for (uint64_t id = capacity; id < 2 * capacity; id++)
        add(thread, id, TTL_MS);
    assert_int_equal(l1_evicted(l1), 0);
    assert_true(contains(thread, capacity));
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void duplicates_and_removed_ids_use_no_more_than_their_nodes(void **state)
{
    struct l1 *l1 = l1_create(1600, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (int i = 0; i < 100000; i++)
        assert_int_equal(add(thread, 1, 0), i == 0 ? L1_ADDED : L1_KNOWN);
    assert_int_equal(l1_evicted(l1), 0);
    /* Removed ids keep their nodes until their generation goes, so these have to be recycled. */
    for (int i = 0; i < 20000; i++) {
        assert_int_equal(add(thread, 2, 0), L1_ADDED);
        assert_true(forget(thread, 2));
    }
    assert_int_equal(l1_evicted(l1), 1);
    assert_int_equal(l1_entries(l1), 0);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void node_that_lost_and_was_never_used_is_not_counted_when_its_generation_goes(void **state)
{
    struct l1 *l1 = l1_create(1600, TTL_MS, 0);
    struct l1_thread *first = l1_thread_create(l1);
    struct l1_thread *second = l1_thread_create(l1);

    (void)state;
    assert_int_equal(add(first, 1, 0), L1_ADDED);
    assert_int_equal(add(second, 1, 0), L1_KNOWN);
    l1_maintain(l1, ROTATION_MS);
    assert_int_equal(add(first, 2, ROTATION_MS), L1_ADDED);
    l1_maintain(l1, TTL_MS);
    assert_false(contains(first, 1));
    assert_true(contains(first, 2));
    assert_int_equal(l1_entries(l1), 1);
    l1_thread_destroy(first);
    l1_thread_destroy(second);
    l1_destroy(l1);
}

static void add_goes_on_when_memory_is_refused(void **state)
{
    const size_t capacity = 1600;
    struct l1 *l1 = l1_create(capacity, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (uint64_t id = 0; id < 50; id++)
        add(thread, id, 0);
    refuse_memory = true;
    for (uint64_t id = 50; id < 1000; id++) {
        assert_int_equal(add(thread, id, 0), L1_ADDED);
        assert_true(contains(thread, id));
    }
    refuse_memory = false;
    assert_int_equal(l1_entries(l1) + l1_evicted(l1), 1000);
    assert_true(l1_evicted(l1) > 0);
    for (uint64_t id = 1000; id < 1000 + capacity - 100; id++)
        add(thread, id, 0);
    assert_true(contains(thread, 1000));
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

static void create_fails_when_memory_is_refused(void **state)
{
    (void)state;
    refuse_memory = true;
    struct l1 *l1 = l1_create(1000000, TTL_MS, 0);
    refuse_memory = false;
    assert_null(l1);
}

/* A bucket is 16 bytes; cds_lfht takes its table from calloc(), so it is counted by hand. */
static size_t table_bytes(size_t capacity)
{
    size_t buckets = 1;

    while (buckets < capacity - capacity / 4)
        buckets *= 2;
    return buckets * 16;
}

static void an_id_takes_at_most_80_bytes_at_capacity(void **state)
{
    /* The second one has the largest table for its size, the third is the default. */
    const size_t capacities[] = {65536, 87388, 1000000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(capacities); i++) {
        size_t capacity = capacities[i];
        mapped_bytes = mapped_bytes_max = 0;
        counting = true;
        struct l1 *l1 = l1_create(capacity, TTL_MS, 0);
        struct l1_thread *thread = l1_thread_create(l1);
        for (uint64_t id = 0; id < capacity + capacity / 4; id++)
            add(thread, id, 0);
        assert_true(l1_entries(l1) >= capacity);
        assert_true(mapped_bytes_max >= 32 * capacity);
        assert_true(mapped_bytes_max + table_bytes(capacity) <= 80 * capacity);
        l1_thread_destroy(thread);
        l1_destroy(l1);
        counting = false;
        assert_int_equal(mapped_bytes, 0);
    }
}

static void destroy_frees_a_table_with_entries(void **state)
{
    struct l1 *first = l1_create(1000, TTL_MS, 0);
    struct l1 *second = l1_create(1000, TTL_MS, 0);
    struct l1_thread *in_first = l1_thread_create(first);
    struct l1_thread *in_second = l1_thread_create(second);

    (void)state;
    counting = true;
    for (uint64_t id = 0; id < 700; id++)
        add(in_first, id, 0);
    add(in_second, 1, 0);
    forget(in_first, 3);
    l1_thread_destroy(in_first);
    l1_destroy(first);
    assert_true(contains(in_second, 1));
    assert_false(contains(in_second, 2));
    l1_thread_destroy(in_second);
    l1_destroy(second);
    l1_destroy(NULL);
    l1_thread_destroy(NULL);
    counting = false;
}

struct shared {
    struct l1 *l1;
    pthread_barrier_t start;
    uint64_t ids;
    _Atomic uint64_t added;
    _Atomic uint64_t next_thread;
    _Atomic bool stop;
    _Atomic uint8_t *winners; /* of each id */
};

/* Half of the threads count upwards, half downwards, so that they meet and also run side by side.
 */
static void *race_for_all_ids(void *arg)
{
    struct shared *shared = arg;
    struct l1_thread *thread = l1_thread_create(shared->l1);
    bool down = atomic_fetch_add(&shared->next_thread, 1) % 4 == 3;

    pthread_barrier_wait(&shared->start);
    for (uint64_t i = 0; i < shared->ids; i++) {
        uint64_t id = down ? shared->ids - 1 - i : i;
        if (add(thread, id, 0) == L1_ADDED)
            atomic_fetch_add(&shared->winners[id], 1);
    }
    l1_thread_destroy(thread);
    return NULL;
}

static void of_racing_threads_exactly_one_adds_an_id(void **state)
{
    struct shared shared = {.ids = 30000};
    pthread_t threads[4];

    (void)state;
    shared.l1 = l1_create(2 * shared.ids, TTL_MS, 0);
    shared.winners = calloc(shared.ids, 1);
    pthread_barrier_init(&shared.start, NULL, ARRAY_LEN(threads));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, race_for_all_ids, &shared);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    for (uint64_t id = 0; id < shared.ids; id++)
        assert_int_equal(shared.winners[id], 1);
    assert_int_equal(l1_entries(shared.l1), shared.ids);
    assert_int_equal(l1_evicted(shared.l1), 0);
    l1_destroy(shared.l1);
    pthread_barrier_destroy(&shared.start);
    free((void *)shared.winners);
}

/* Adds ids of its own, looks at its latest, and removes one in eight. Counts what stays. */
static void *add_and_remove(void *arg)
{
    struct shared *shared = arg;
    struct l1_thread *thread = l1_thread_create(shared->l1);
    uint64_t base = atomic_fetch_add(&shared->next_thread, 1) << 32;

    pthread_barrier_wait(&shared->start);
    for (uint64_t i = 0; i < shared->ids; i++) {
        if (add(thread, base + i, i / 64) != L1_ADDED)
            atomic_store(&shared->stop, true);
        atomic_fetch_add(&shared->added, 1);
        contains(thread, base + i / 2);
        if (i % 8 == 0 && forget(thread, base + i))
            atomic_fetch_sub(&shared->added, 1);
    }
    l1_thread_destroy(thread);
    return NULL;
}

static void *maintain(void *arg)
{
    struct shared *shared = arg;
    uint64_t now_ms = 0;

    while (!atomic_load(&shared->stop)) {
        l1_maintain(shared->l1, now_ms++);
        sched_yield();
    }
    return NULL;
}

static void run_under_load(bool with_maintain, uint64_t ttl_ms)
{
    const size_t capacity = 8000;
    struct shared shared = {.ids = 60000};
    pthread_t threads[4], janitor;
    size_t limit = capacity + capacity / 8, most = 0;

    shared.l1 = l1_create(capacity, ttl_ms, 0);
    pthread_barrier_init(&shared.start, NULL, ARRAY_LEN(threads) + 1);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, add_and_remove, &shared);
    if (with_maintain)
        pthread_create(&janitor, NULL, maintain, &shared);
    pthread_barrier_wait(&shared.start);
    for (int i = 0; i < 2000; i++) {
        size_t entries = l1_entries(shared.l1);
        most = entries > most ? entries : most;
        sched_yield();
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    assert_false(shared.stop);
    shared.stop = true;
    if (with_maintain)
        pthread_join(janitor, NULL);
    /* Each thread can have unlinked a node that it has not yet subtracted, or the reverse. */
    assert_true(most <= limit + ARRAY_LEN(threads) + capacity / 16);
    assert_true(l1_entries(shared.l1) <= limit);
    if (ttl_ms > shared.ids)
        assert_int_equal(l1_entries(shared.l1) + l1_evicted(shared.l1), shared.added);
    l1_maintain(shared.l1, shared.ids);
    assert_true(l1_entries(shared.l1) <= capacity);
    l1_destroy(shared.l1);
    pthread_barrier_destroy(&shared.start);
}

static void capacity_holds_under_load_with_maintain(void **state)
{
    (void)state;
    run_under_load(true, UINT32_MAX);
}

static void capacity_holds_under_load_without_maintain(void **state)
{
    (void)state;
    run_under_load(false, UINT32_MAX);
}

static void expiry_races_with_adders_and_removers(void **state)
{
    (void)state;
    run_under_load(true, 8);
}

/* ---- ids that are others', and ids of streams with a ttl of their own ---- */

#define SHORT_TTL_MS 3000

static bool knows(struct l1_thread *thread, uint16_t stream, uint64_t id, uint64_t now_ms)
{
    struct hash128 hash = hash_of(id);

    return l1_knows(thread, stream, &hash, now_ms);
}

static enum l1_result enter(struct l1_thread *thread, uint16_t stream, uint64_t id, uint64_t lsn,
                            uint64_t now_ms)
{
    struct hash128 hash = hash_of(id);

    return l1_enter(thread, stream, &hash, lsn, now_ms);
}

static void an_id_that_is_owned_elsewhere_is_not_known_where_ids_are_shared(void **state)
{
    const struct hash128 hash = hash_of(1);

    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        struct l1 *l1 = l1_create(100, TTL_MS, 0);
        struct l1_thread *thread;
        uint64_t lsn = 0;

        if (shared)
            l1_share(l1);
        thread = l1_thread_create(l1);
        assert_int_equal(enter(thread, 0, 1, 77, 0), L1_ADDED);
        assert_true(knows(thread, 0, 1, 0));
        assert_int_equal(enter(thread, 0, 1, 78, 0), L1_KNOWN);
        l1_disown(thread, &hash, 77);
        assert_int_equal(knows(thread, 0, 1, 0), !shared);
        assert_int_equal(enter(thread, 0, 1, 79, 0), shared ? L1_ADDED : L1_KNOWN);
        assert_true(knows(thread, 0, 1, 0)); /* one has gone to ask */
        assert_int_equal(enter(thread, 0, 1, 80, 0), L1_KNOWN);
        assert_true(l1_owner(thread, &hash, &lsn));
        assert_int_equal(lsn, shared ? 79 : 0);
        assert_int_equal(l1_entries(l1), 1);
        l1_thread_destroy(thread);
        l1_destroy(l1);
    }
}

static void asking_again_and_again_uses_no_nodes(void **state)
{
    struct l1 *l1 = l1_create(1600, TTL_MS, 0);
    struct l1_thread *thread;
    const struct hash128 hash = hash_of(1);

    (void)state;
    l1_share(l1);
    thread = l1_thread_create(l1);
    for (uint64_t lsn = 1; lsn < 50000; lsn++) {
        assert_int_equal(enter(thread, 0, 1, lsn, 0), L1_ADDED);
        l1_disown(thread, &hash, lsn);
    }
    assert_int_equal(l1_entries(l1), 1);
    assert_int_equal(l1_evicted(l1), 0);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

/* Also where a ttl is so long that a stamp counts in coarse steps. */
static void an_id_is_known_for_its_streams_ttl_and_new_after_it(void **state)
{
    const uint64_t ttls[] = {TTL_MS, 604800000};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ttls); i++) {
        const uint64_t start_ms = 123456789012, step_ms = ttls[i] == TTL_MS ? 1 : 512;
        struct l1 *l1 = l1_create(100, ttls[i], start_ms);
        struct l1_thread *thread = l1_thread_create(l1);

        l1_set_stream_ttl(l1, 1, SHORT_TTL_MS);
        l1_set_stream_ttl(l1, 2, ttls[i] + 1);
        assert_int_equal(l1_stream_ttl_ms(l1, 0), ttls[i]);
        assert_int_equal(l1_stream_ttl_ms(l1, 1), SHORT_TTL_MS);
        assert_int_equal(l1_stream_ttl_ms(l1, 2), ttls[i]);
        for (uint16_t stream = 0; stream < 3; stream++) {
            assert_int_equal(enter(thread, stream, stream, 7, start_ms), L1_ADDED);
            /* by the clock of another thread */
            assert_true(knows(thread, stream, stream, start_ms - 5));
            assert_true(knows(thread, stream, stream, start_ms + SHORT_TTL_MS - 1));
            assert_int_equal(enter(thread, stream, stream, 8, start_ms + SHORT_TTL_MS - 1),
                             L1_KNOWN);
        }
        assert_true(knows(thread, 0, 0, start_ms + SHORT_TTL_MS + step_ms));
        assert_true(knows(thread, 2, 2, start_ms + SHORT_TTL_MS + step_ms));
        assert_false(knows(thread, 1, 1, start_ms + SHORT_TTL_MS + step_ms));
        assert_int_equal(enter(thread, 1, 1, 9, start_ms + SHORT_TTL_MS + step_ms), L1_ADDED);
        assert_true(knows(thread, 1, 1, start_ms + 2 * SHORT_TTL_MS));
        assert_int_equal(enter(thread, 1, 1, 10, start_ms + 2 * SHORT_TTL_MS), L1_KNOWN);
        assert_int_equal(l1_entries(l1), 3);
        /* a reload */
        l1_set_stream_ttl(l1, 1, UINT64_MAX);
        assert_true(knows(thread, 1, 1, start_ms + TTL_MS - 1));
        l1_thread_destroy(thread);
        l1_destroy(l1);
    }
}

/* Each thread enters every id; ids are old in one half and elsewhere in the other. */
static void *take_over_all_ids(void *arg)
{
    struct shared *shared = arg;
    struct l1_thread *thread = l1_thread_create(shared->l1);
    uint64_t number = atomic_fetch_add(&shared->next_thread, 1);

    pthread_barrier_wait(&shared->start);
    for (uint64_t id = 0; id < shared->ids; id++)
        if (enter(thread, 0, id, 1000 + number, SHORT_TTL_MS + (id % 2)) == L1_ADDED)
            atomic_fetch_add(&shared->winners[id], 1);
    l1_thread_destroy(thread);
    return NULL;
}

static void of_racing_threads_exactly_one_takes_an_id_over(void **state)
{
    struct shared shared = {.ids = 30000};
    struct l1_thread *first;
    pthread_t threads[4];

    (void)state;
    shared.l1 = l1_create(4 * shared.ids, TTL_MS, 0);
    l1_share(shared.l1);
    l1_set_stream_ttl(shared.l1, 0, SHORT_TTL_MS);
    first = l1_thread_create(shared.l1);
    for (uint64_t id = 0; id < shared.ids; id++) {
        const struct hash128 hash = hash_of(id);

        enter(first, 0, id, 7, id % 2 == 0 ? 0 : SHORT_TTL_MS);
        if (id % 2 == 1)
            l1_disown(first, &hash, 7);
    }
    shared.winners = calloc(shared.ids, 1);
    pthread_barrier_init(&shared.start, NULL, ARRAY_LEN(threads));
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_create(&threads[i], NULL, take_over_all_ids, &shared);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    for (uint64_t id = 0; id < shared.ids; id++)
        assert_int_equal(shared.winners[id], 1);
    assert_int_equal(l1_entries(shared.l1), shared.ids);
    l1_thread_destroy(first);
    l1_destroy(shared.l1);
    free((void *)shared.winners);
}

/* ---- grace periods ---- */

/* Stands in front of liburcu's: what there is of the ids at each grace period. */
static struct l1 *watched;
static size_t entries_at[4], grace_periods;

void urcu_memb_synchronize_rcu(void)
{
    static void (*real)(void);

    if (!real)
        real = (void (*)(void))(uintptr_t)dlsym(RTLD_NEXT, "urcu_memb_synchronize_rcu");
    if (watched && grace_periods < ARRAY_LEN(entries_at))
        entries_at[grace_periods++] = l1_entries(watched);
    real();
}

/* Before it is unlinked, since a thread may still be adding; after it, since one may still read. */
static void a_generation_goes_between_two_grace_periods(void **state)
{
    struct l1 *l1 = l1_create(1600, TTL_MS, 0);
    struct l1_thread *thread = l1_thread_create(l1);

    (void)state;
    for (uint64_t id = 0; id < 50; id++)
        add(thread, id, 0);
    l1_maintain(l1, ROTATION_MS);
    watched = l1;
    grace_periods = 0;
    l1_maintain(l1, TTL_MS);
    watched = NULL;
    assert_int_equal(grace_periods, 2);
    assert_int_equal(entries_at[0], 50);
    assert_int_equal(entries_at[1], 0);
    l1_thread_destroy(thread);
    l1_destroy(l1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(added_id_is_known_until_removed),
        cmocka_unit_test(hashes_that_share_one_word_differ),
        cmocka_unit_test(id_is_known_until_its_ttl_and_forgotten_one_rotation_later),
        cmocka_unit_test(steady_stream_of_ids_expires_in_order),
        cmocka_unit_test(an_owner_can_be_asked_for_and_given_up),
        cmocka_unit_test(nothing_is_evicted_up_to_capacity),
        cmocka_unit_test(maintain_evicts_the_oldest_beyond_capacity_and_counts_them),
        cmocka_unit_test(add_evicts_inline_when_maintain_never_runs),
        cmocka_unit_test(id_that_expired_is_not_counted_as_evicted_when_room_is_made),
        cmocka_unit_test(duplicates_and_removed_ids_use_no_more_than_their_nodes),
        cmocka_unit_test(node_that_lost_and_was_never_used_is_not_counted_when_its_generation_goes),
        cmocka_unit_test(add_goes_on_when_memory_is_refused),
        cmocka_unit_test(create_fails_when_memory_is_refused),
        cmocka_unit_test(an_id_takes_at_most_80_bytes_at_capacity),
        cmocka_unit_test(destroy_frees_a_table_with_entries),
        cmocka_unit_test(of_racing_threads_exactly_one_adds_an_id),
        cmocka_unit_test(capacity_holds_under_load_with_maintain),
        cmocka_unit_test(capacity_holds_under_load_without_maintain),
        cmocka_unit_test(expiry_races_with_adders_and_removers),
        cmocka_unit_test(an_id_that_is_owned_elsewhere_is_not_known_where_ids_are_shared),
        cmocka_unit_test(asking_again_and_again_uses_no_nodes),
        cmocka_unit_test(an_id_is_known_for_its_streams_ttl_and_new_after_it),
        cmocka_unit_test(of_racing_threads_exactly_one_takes_an_id_over),
        cmocka_unit_test(a_generation_goes_between_two_grace_periods),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
