/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_l1_files.c - which ids of an earlier life a later one knows: after an orderly end, a kill at
 * any moment, another boot, lost and broken files, a full disk. Only through l1.h, as its users.
 */
#include "alloy/l1.h"
#include "l1_files.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define INSTANCE 77
#define TTL_MS 8000
#define ROTATION_MS (TTL_MS / 8)
#define CAPACITY 1600
#define REAL_MS 1700000000000ull /* when the first life begins */

static int dir_fd;
static struct l1 *l1;
static struct l1_thread *ids;
static struct l1_loaded loaded;

static int set_up(void **state)
{
    (void)state;
    if (make_folder("/dev/shm") != 0)
        return -1;
    dir_fd = open(folder, O_RDONLY | O_DIRECTORY);
    return dir_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(dir_fd);
    return remove_folder();
}

/* A life whose monotonic clock begins at 0. */
static void begin_as(uint64_t instance_id, size_t capacity, uint64_t real_ms)
{
    const struct l1_folder place = {
        .dir_fd = dir_fd, .instance_id = instance_id, .real_ms = real_ms};

    l1 = l1_create(capacity, TTL_MS, 0);
    assert_non_null(l1);
    assert_int_equal(l1_attach(l1, &place, 0, &loaded), 0);
    ids = l1_thread_create(l1);
    assert_non_null(ids);
}

static void begin(uint64_t real_ms)
{
    begin_as(INSTANCE, CAPACITY, real_ms);
}

static void end(void)
{
    l1_thread_destroy(ids);
    l1_destroy(l1);
}

static struct hash128 hash_of(uint64_t id)
{
    return (struct hash128){.lo = (id + 1) * 0x9e3779b97f4a7c15ull, .hi = id};
}

/* Its owner's LSN is the id + 1. */
static enum l1_result add(uint64_t id, uint64_t now_ms)
{
    const struct hash128 hash = hash_of(id);

    return l1_add(ids, &hash, id + 1, now_ms);
}

static bool known(uint64_t id)
{
    const struct hash128 hash = hash_of(id);

    return l1_contains(ids, &hash);
}

/* Runs a life in a child that ends by a kill. */
static void live_and_be_killed(void (*life)(void))
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        life();
        kill(getpid(), SIGKILL);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static size_t count_files(void)
{
    DIR *stream = opendir(folder);
    size_t count = 0;

    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
        count += strstr(entry->d_name, ".gen") != NULL;
    closedir(stream);
    return count;
}

/* Changes what the account says, as another boot, or a disk, might. */
static void poke_state(size_t offset, char byte)
{
    int fd = openat(dir_fd, "l1-state", O_RDWR);

    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

#define BOOT_ID_AT 24

static void add_100(void)
{
    begin(REAL_MS);
    l1_mark_complete(l1);
    for (uint64_t id = 0; id < 100; id++)
        add(id, 0);
}

static void ids_and_their_owners_are_known_after_a_kill(void **state)
{
    const struct hash128 hash = hash_of(7);

    (void)state;
    live_and_be_killed(add_100);
    begin(REAL_MS + 10);
    assert_true(loaded.complete);
    assert_int_equal(loaded.ids, 100);
    assert_int_equal(l1_entries(l1), 100);
    for (uint64_t id = 0; id < 100; id++)
        assert_int_equal(add(id, 10), L1_OWN);
    assert_int_equal(l1_add(ids, &hash, 12345, 10), L1_KNOWN);
    assert_false(known(100));
    assert_int_equal(add(100, 10), L1_ADDED);
    end();
}

static void ids_are_known_after_an_end_in_order_and_another_boot(void **state)
{
    (void)state;
    add_100();
    l1_maintain(l1, 0);
    end();
    poke_state(BOOT_ID_AT, 'x');
    begin(REAL_MS + 10);
    assert_true(loaded.complete);
    assert_int_equal(loaded.ids, 100);
    assert_true(known(99));
    end();
}

static void add_two_at_two_times(void)
{
    begin(REAL_MS);
    l1_mark_complete(l1);
    add(1, 0);
    add(2, 500);
}

static bool known_of(uint16_t stream, uint64_t id, uint64_t now_ms)
{
    const struct hash128 hash = hash_of(id);

    return l1_knows(ids, stream, &hash, now_ms);
}

/* A stream's ttl counts from when an id was added, in whatever life. */
static void an_id_keeps_its_age_over_a_kill(void **state)
{
    (void)state;
    live_and_be_killed(add_two_at_two_times);
    for (int life = 0; life < 2; life++) {
        begin(REAL_MS + 1000);
        l1_set_stream_ttl(l1, 1, 1200);
        assert_int_equal(loaded.ids, 2);
        assert_true(known_of(1, 1, 199) && known_of(1, 2, 199));
        assert_false(known_of(1, 1, 200));
        assert_true(known_of(1, 2, 699));
        assert_false(known_of(1, 2, 700));
        assert_true(known_of(0, 1, 2000) && known_of(0, 2, 2000));
        end();
    }
}

/* It has no times of single ids: they are as old as the youngest. */
static void a_file_of_version_1_is_read(void **state)
{
    int fd;

    (void)state;
    live_and_be_killed(add_two_at_two_times);
    fd = openat(dir_fd, "l1-001.gen", O_RDWR);
    assert_int_equal(pwrite(fd, "\1", 1, 8), 1);
    close(fd);
    begin(REAL_MS + 1000);
    l1_set_stream_ttl(l1, 1, 1200);
    assert_int_equal(loaded.ids, 2);
    assert_true(known_of(1, 1, 699) && known_of(1, 2, 699));
    assert_false(known_of(1, 1, 700) || known_of(1, 2, 700));
    assert_int_equal(add(1, 700), L1_OWN);
    end();
}

/* An id may be there whose event was never on the disk: its retry must not be a duplicate. */
static void after_a_loss_of_power_nothing_is_known_until_the_journal_is_read(void **state)
{
    (void)state;
    live_and_be_killed(add_100);
    poke_state(BOOT_ID_AT, 'x');
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 0);
    assert_false(known(99));
    assert_int_equal(add(99, 0), L1_ADDED); /* from the journal */
    end();
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 1);
    l1_mark_complete(l1);
    end();
    begin(REAL_MS);
    assert_true(loaded.complete);
    assert_true(known(99));
    end();
}

static void what_is_distrusted_is_believed_under_this_boot_alone(void **state)
{
    (void)state;
    add_100();
    l1_distrust(l1);
    end();
    begin(REAL_MS);
    assert_true(loaded.complete);
    assert_int_equal(loaded.ids, 100);
    l1_distrust(l1);
    end();
    poke_state(BOOT_ID_AT, 'x');
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 0);
    end();
}

static void a_first_life_is_not_complete(void **state)
{
    (void)state;
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 0);
    end();
}

static void a_missing_file_is_noticed(void **state)
{
    (void)state;
    live_and_be_killed(add_100);
    assert_int_equal(unlinkat(dir_fd, "l1-001.gen", 0), 0);
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 0);
    end();
}

static void a_file_that_cannot_be_believed_is_a_missing_one(void **state)
{
    int fd;

    (void)state;
    live_and_be_killed(add_100);
    fd = openat(dir_fd, "l1-001.gen", O_RDWR);
    assert_int_equal(pwrite(fd, "X", 1, 0), 1);
    close(fd);
    begin(REAL_MS);
    assert_int_equal(loaded.ids, 0);
    assert_false(loaded.complete);
    end();
    begin(REAL_MS); /* the journal was not read in between */
    assert_false(loaded.complete);
    l1_mark_complete(l1);
    end();
    begin(REAL_MS);
    assert_true(loaded.complete);
    end();
}

static void a_broken_file_is_removed_and_costs_only_its_ids(void **state)
{
    int fd;

    (void)state;
    add_100();
    end();
    fd = openat(dir_fd, "l1-001.gen", O_RDWR);
    assert_int_equal(ftruncate(fd, 100), 0);
    close(fd);
    fd = openat(dir_fd, "l1-009.gen", O_RDWR | O_CREAT, 0600);
    close(fd);
    begin(REAL_MS);
    assert_int_equal(loaded.ids, 0);
    assert_false(loaded.complete);
    assert_int_equal(faccessat(dir_fd, "l1-001.gen", F_OK, 0), -1);
    assert_int_equal(faccessat(dir_fd, "l1-009.gen", F_OK, 0), -1);
    end();
}

static void files_of_another_instance_are_not_believed(void **state)
{
    (void)state;
    add_100();
    end();
    begin_as(INSTANCE + 1, CAPACITY, REAL_MS);
    assert_int_equal(loaded.ids, 0);
    assert_false(loaded.complete);
    assert_false(known(1));
    end();
}

static void forget_half(void)
{
    add_100();
    for (uint64_t id = 0; id < 100; id += 2) {
        const struct hash128 hash = hash_of(id);

        l1_remove(ids, &hash);
    }
}

static void a_removed_id_is_forgotten_in_the_file_too(void **state)
{
    (void)state;
    live_and_be_killed(forget_half);
    begin(REAL_MS);
    assert_int_equal(loaded.ids, 50);
    assert_true(loaded.complete);
    for (uint64_t id = 0; id < 100; id++)
        assert_int_equal(known(id), id % 2);
    end();
}

static void an_id_lives_as_long_as_if_nothing_had_ended(void **state)
{
    (void)state;
    begin(REAL_MS);
    add(1, 0);
    l1_maintain(l1, ROTATION_MS);
    add(2, ROTATION_MS);
    end();
    begin(REAL_MS + TTL_MS - 1);
    assert_int_equal(loaded.ids, 2);
    l1_maintain(l1, 0);
    assert_true(known(1));
    l1_maintain(l1, 1);
    assert_false(known(1));
    assert_true(known(2));
    end();
    begin(REAL_MS + ROTATION_MS + TTL_MS);
    assert_int_equal(loaded.ids, 0);
    assert_false(known(2));
    end();
    assert_int_equal(count_files(), 0);
}

static void a_clock_set_back_does_not_keep_ids_for_ever(void **state)
{
    (void)state;
    add_100();
    end();
    begin(REAL_MS - 1000000);
    assert_int_equal(loaded.ids, 100);
    l1_maintain(l1, TTL_MS);
    assert_int_equal(l1_entries(l1), 0);
    end();
}

/* Steps of 17 years, by a flipped bit: the ids are older than 1970. */
static void a_stamp_that_cannot_be_right_does_not_keep_an_id_for_ever(void **state)
{
    const uint64_t shift = 39;
    int fd;

    (void)state;
    live_and_be_killed(add_100);
    fd = openat(dir_fd, "l1-001.gen", O_RDWR);
    assert_int_equal(pwrite(fd, &shift, sizeof(shift), offsetof(struct l1_slab, stamp_shift)),
                     sizeof(shift));
    close(fd);
    begin(REAL_MS + 10);
    assert_int_equal(loaded.ids, 100);
    l1_maintain(l1, TTL_MS);
    assert_int_equal(l1_entries(l1), 0);
    end();
}

static void files_of_generations_that_expired_are_removed(void **state)
{
    uint64_t id = 0;

    (void)state;
    begin(REAL_MS);
    for (uint64_t now_ms = 0; now_ms < 10 * TTL_MS; now_ms += 100) {
        add(id++, now_ms);
        l1_maintain(l1, now_ms);
        /* One in each rotation of a ttl, the current one, one that is dying, and a spare one. */
        assert_true(count_files() <= 8 + 3);
    }
    l1_maintain(l1, 20 * TTL_MS);
    l1_maintain(l1, 30 * TTL_MS);
    assert_true(count_files() <= 2);
    end();
}

static void a_smaller_capacity_keeps_the_youngest(void **state)
{
    (void)state;
    begin(REAL_MS);
    for (uint64_t id = 0; id < CAPACITY; id++)
        add(id, id / 400);
    end();
    begin_as(INSTANCE, CAPACITY / 4, REAL_MS + 10);
    assert_true(l1_entries(l1) >= CAPACITY / 4 && l1_entries(l1) <= CAPACITY / 4 * 9 / 8 + 1);
    assert_false(known(0));
    for (uint64_t id = CAPACITY - CAPACITY / 4; id < CAPACITY; id++)
        assert_true(known(id));
    end();
}

/* A generation that is evicted serves again, with its file, so that numbers are not ages. */
static void after_evictions_the_next_life_evicts_the_oldest_first(void **state)
{
    uint64_t id = 0;

    (void)state;
    begin(REAL_MS);
    l1_mark_complete(l1);
    for (; id < 4 * CAPACITY; id++) {
        add(id, id / 10);
        if (id % 50 == 0)
            l1_maintain(l1, id / 10);
    }
    end();
    begin(REAL_MS + id / 10);
    assert_true(loaded.complete && loaded.ids > CAPACITY * 7 / 8);
    for (; id < 4 * CAPACITY + CAPACITY / 2; id++)
        add(id, id / 10);
    l1_maintain(l1, id / 10);
    for (uint64_t young = id - CAPACITY * 7 / 8; young < id; young++)
        assert_true(known(young));
    end();
}

/* The disk takes nothing more, as far as this process can see. */
static void fill_disk(bool full)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = full ? 256 : limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_full_disk_leaves_ids_in_memory_and_the_next_life_knows_that(void **state)
{
    (void)state;
    begin(REAL_MS);
    l1_mark_complete(l1);
    fill_disk(true);
    for (uint64_t id = 0; id < CAPACITY; id++) {
        assert_int_equal(add(id, 0), L1_ADDED);
        l1_maintain(l1, 0);
    }
    assert_int_equal(l1_entries(l1), CAPACITY);
    fill_disk(false);
    end();
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 0);
    l1_mark_complete(l1);
    /* Once the ids that were not saved have expired, the files have everything again. */
    fill_disk(true);
    add(1, 0);
    fill_disk(false);
    l1_maintain(l1, ROTATION_MS);
    add(2, ROTATION_MS);
    l1_maintain(l1, TTL_MS);
    l1_maintain(l1, TTL_MS + 100);
    end();
    begin(REAL_MS + TTL_MS + 100);
    assert_true(loaded.complete);
    assert_true(known(2));
    assert_false(known(1));
    end();
}

static void
a_folder_that_cannot_be_used_leaves_ids_in_memory_and_the_next_life_knows_that(void **state)
{
    const struct l1_folder place = {.dir_fd = dir_fd, .instance_id = INSTANCE, .real_ms = REAL_MS};
    struct rlimit before, tight;

    (void)state;
    add_100();
    end();
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)dir_fd + 1;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    l1 = l1_create(CAPACITY, TTL_MS, 0);
    assert_int_equal(l1_attach(l1, &place, 0, &loaded), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    ids = l1_thread_create(l1);
    assert_int_equal(add(500, 0), L1_ADDED);
    assert_true(known(500));
    l1_mark_complete(l1);
    l1_maintain(l1, 2 * TTL_MS);
    assert_false(known(500));
    end();
    begin(REAL_MS);
    assert_false(loaded.complete);
    assert_int_equal(loaded.ids, 0); /* nobody can say any more what they are worth */
    end();
}

struct told {
    uint64_t id;
    bool removed;
};

static int tell_fd;

static void *tell_and_change(void *arg)
{
    struct l1_thread *thread = l1_thread_create(l1);
    const uint64_t base = (uint64_t)(uintptr_t)arg;

    for (uint64_t id = base;; id += 2) {
        struct told told = {.id = id};
        struct hash128 hash = hash_of(id);

        l1_add(thread, &hash, id + 1, id / 64);
        if (write(tell_fd, &told, sizeof(told)) != sizeof(told))
            return NULL;
        if (id % 16 != base)
            continue;
        told.removed = true;
        l1_remove(thread, &hash);
        if (write(tell_fd, &told, sizeof(told)) != sizeof(told))
            return NULL;
    }
}

static void live_until_killed(void)
{
    pthread_t other;

    begin_as(INSTANCE, 1 << 20, REAL_MS);
    l1_mark_complete(l1);
    pthread_create(&other, NULL, tell_and_change, (void *)(uintptr_t)1);
    tell_and_change((void *)(uintptr_t)0);
}

/* What was told to be added is known, what was told to be removed is not. */
static void a_kill_at_any_moment_loses_no_id(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        static char told_of[1 << 20]; /* 1 added, 2 removed */
        struct told told;
        uint64_t count = 0;
        int pipe_fd[2];
        pid_t child;

        memset(told_of, 0, sizeof(told_of));
        assert_int_equal(pipe(pipe_fd), 0);
        tell_fd = pipe_fd[1];
        child = fork();
        if (child == 0) {
            close(pipe_fd[0]);
            live_until_killed();
        }
        close(pipe_fd[1]);
        while (read(pipe_fd[0], &told, sizeof(told)) == sizeof(told)) {
            if (count++ == 50 + round * 97)
                kill(child, SIGKILL);
            if (told.id < sizeof(told_of))
                told_of[told.id] = told.removed ? 2 : 1;
        }
        close(pipe_fd[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);

        begin_as(INSTANCE, 1 << 20, REAL_MS);
        assert_true(loaded.complete);
        for (uint64_t id = 0; id < sizeof(told_of); id++) {
            /* One that is being removed may have gone before that was told. */
            if (told_of[id] == 1 && (id % 16 > 1))
                assert_true(known(id));
            if (told_of[id] == 2)
                assert_false(known(id));
        }
        l1_maintain(l1, 2 * TTL_MS);
        assert_int_equal(l1_entries(l1), 0);
        end();
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(ids_and_their_owners_are_known_after_a_kill),
        TEST(ids_are_known_after_an_end_in_order_and_another_boot),
        TEST(an_id_keeps_its_age_over_a_kill),
        TEST(a_file_of_version_1_is_read),
        TEST(after_a_loss_of_power_nothing_is_known_until_the_journal_is_read),
        TEST(what_is_distrusted_is_believed_under_this_boot_alone),
        TEST(a_first_life_is_not_complete),
        TEST(a_missing_file_is_noticed),
        TEST(a_file_that_cannot_be_believed_is_a_missing_one),
        TEST(a_broken_file_is_removed_and_costs_only_its_ids),
        TEST(files_of_another_instance_are_not_believed),
        TEST(a_removed_id_is_forgotten_in_the_file_too),
        TEST(an_id_lives_as_long_as_if_nothing_had_ended),
        TEST(a_clock_set_back_does_not_keep_ids_for_ever),
        TEST(a_stamp_that_cannot_be_right_does_not_keep_an_id_for_ever),
        TEST(files_of_generations_that_expired_are_removed),
        TEST(a_smaller_capacity_keeps_the_youngest),
        TEST(after_evictions_the_next_life_evicts_the_oldest_first),
        TEST(a_full_disk_leaves_ids_in_memory_and_the_next_life_knows_that),
        TEST(a_folder_that_cannot_be_used_leaves_ids_in_memory_and_the_next_life_knows_that),
        TEST(a_kill_at_any_moment_loses_no_id),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
