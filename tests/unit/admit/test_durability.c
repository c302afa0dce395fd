/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_durability.c - what journal.sync promises when the power fails: admission, journal and
 * recovery together.
 *
 * options.sync_range plays the disk: it copies what it is told to sync into an image of the file.
 * Nothing else reaches the image, except for pages chosen at random, as the kernel may write any
 * page by itself. A power loss replaces the files by their images. A 202 is an ACCEPTED of
 * admission_result() after a commit; an event is published when ring_take() returns it.
 */
#include "alloy/admission.h"
#include "alloy/recover.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT SEGMENT_BYTES_MIN
#define SEGMENTS_MAX 64
#define PAGE 4096
#define EVENTS_MAX 4000
#define TTL_MS 600000

/* One segment file as it is on disk. */
struct image {
    char bytes[SEGMENT];
    const char *base; /* where it is mapped in this life; NULL: not made */
};

static const char *const names[] = {"s"};
static char error[JOURNAL_ERROR_MAX];
static struct image images[SEGMENTS_MAX]; /* by number */
static struct journal *journal;
static struct journal_writer *writer;
static struct ring *ring;
static struct l1 *l1;
static struct l1_thread *l1_thread;
static struct metrics *metrics;
static struct metrics_thread *metrics_thread;
static struct event_id_key key;
static struct admission *admission;
static int sync_result;
static size_t sync_calls;
static int (*sync_fn)(void *address, size_t length);

static int set_up(void **state)
{
    (void)state;
    memset(images, 0, sizeof(images));
    sync_result = 0;
    sync_calls = 0;
    sync_fn = NULL;
    return make_folder("/dev/shm");
}

static int tear_down(void **state)
{
    (void)state;
    return remove_folder();
}

/* The image of the segment that an address lies in. A file is made durable with its header. */
static struct image *image_of(const char *address)
{
    const char *base = address - (uintptr_t)address % SEGMENT;
    const struct segment_header *header = (const struct segment_header *)base;
    struct image *image;

    assert_true(header->number < SEGMENTS_MAX);
    image = &images[header->number];
    if (image->base == NULL)
        memcpy(image->bytes, base, SEGMENT_HEADER_BYTES);
    image->base = base;
    return image;
}

static int sync_to_image(void *address, size_t length)
{
    struct image *image = image_of(address);
    const size_t from = (size_t)((char *)address - image->base);

    assert_int_equal(from % PAGE, 0);
    sync_calls++;
    if (sync_result == 0) {
        /* Whole pages go to the disk. */
        const size_t to = (from + length + PAGE - 1) / PAGE * PAGE;

        memcpy(image->bytes + from, image->base + from, to - from);
    }
    return sync_result;
}

static void open_journal(enum journal_sync sync)
{
    const struct journal_options options = {
        .dir = folder,
        .segment_bytes = SEGMENT,
        .max_bytes = (uint64_t)SEGMENTS_MAX * SEGMENT,
        .sync = sync,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = 1,
        .sync_range = sync_fn != NULL ? sync_fn : sync_to_image,
    };

    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
}

static void begin(enum journal_sync sync)
{
    open_journal(sync);
    ring = ring_create(EVENTS_MAX);
    writer = journal_writer_create(journal);
    l1 = l1_create(EVENTS_MAX, TTL_MS, 0);
    l1_thread = l1_thread_create(l1);
    metrics = metrics_create();
    metrics_thread = metrics_thread_create(metrics);
    event_id_key_derive(journal_secret(journal), names[0], &key);
    admission = admission_create(&(struct admission_parts){.ring = ring,
                                                           .journal = journal,
                                                           .writer = writer,
                                                           .l1 = l1_thread,
                                                           .metrics = metrics_thread,
                                                           .stream_keys = &key});
    assert_non_null(admission);
}

static void end(void)
{
    admission_destroy(admission);
    metrics_destroy(metrics);
    l1_thread_destroy(l1_thread);
    l1_destroy(l1);
    journal_writer_destroy(writer);
    ring_destroy(ring);
    journal_close(journal);
}

/* One request of n events, of the ids from first on, each about 500 bytes. */
static size_t request(uint64_t first, size_t n)
{
    static char buffers[64][512];
    const size_t number = admission_open(admission, 0);

    assert_true(n <= ARRAY_LEN(buffers));
    for (size_t i = 0; i < n; i++) {
        char *text = buffers[(first + i) % ARRAY_LEN(buffers)];
        struct json_scan_event event = {0};
        int id_length;

        memset(text, '.', sizeof(buffers[0]));
        id_length = snprintf(text, sizeof(buffers[0]), "%llu", (unsigned long long)(first + i));
        event.text = (struct slice){text, 400 + (first + i) % 100};
        event.id = (struct slice){text, (size_t)id_length};
        event.id_verbatim = true;
        admission_event(admission, &event);
    }
    return number;
}

static enum admission_verdict commit(uint64_t first, size_t n)
{
    const size_t number = request(first, n);
    enum admission_verdict verdict;

    admission_commit(admission, 0, 1000);
    verdict = admission_result(admission, number).verdict;
    admission_reset(admission);
    return verdict;
}

/* Writes back some dirty pages in no order, as a kernel may at any time. */
static void write_back(unsigned *seed, unsigned percent)
{
    for (size_t number = 0; number < SEGMENTS_MAX; number++) {
        struct image *image = &images[number];

        for (size_t at = 0; image->base != NULL && at < SEGMENT; at += PAGE)
            if ((unsigned)rand_r(seed) % 100 < percent)
                memcpy(image->bytes + at, image->base + at, PAGE);
    }
}

/* After the process has ended: the files become what was on disk. */
static void lose_power(void)
{
    for (uint32_t number = 1; number < SEGMENTS_MAX; number++) {
        char name[SEGMENT_NAME_MAX], path[128];
        int fd;

        if (images[number].base == NULL)
            continue;
        segment_name(name, number, "alj");
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(fd, images[number].bytes, SEGMENT), SEGMENT);
        close(fd);
    }
}

struct found {
    uint8_t count[EVENTS_MAX]; /* LIVE records of each id */
    uint64_t insert_id[EVENTS_MAX];
};

static void see(void *arg, struct record *record)
{
    struct found *found = arg;
    const uint64_t id = strtoull(record_id(record), NULL, 10);

    if (record_state(record) != RECORD_LIVE)
        return;
    assert_true(id < EVENTS_MAX);
    found->count[id]++;
    found->insert_id[id] = record_insert_id(record);
}

static void recover(struct found *found)
{
    struct recover_stats stats;

    memset(found, 0, sizeof(*found));
    open_journal(JOURNAL_SYNC_NEVER);
    assert_int_equal(recover_run(journal, see, found, &stats, error), 0);
    journal_close(journal);
}

static void with_always_whatever_was_answered_202_survives_a_loss_of_power(void **state)
{
    static struct found found;
    size_t survivors = 0;

    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        unsigned seed = round;
        const size_t turns = 20 + round * 3;
        uint64_t accepted = 0;

        if (round > 0) {
            tear_down(state);
            set_up(state);
        }
        begin(JOURNAL_SYNC_ALWAYS);
        for (size_t turn = 0; turn < turns; turn++) {
            const size_t n = 1 + (size_t)rand_r(&seed) % 40;

            assert_int_equal(commit(accepted, n), ADMISSION_ACCEPTED);
            accepted += n;
            write_back(&seed, round % 3 * 10);
        }
        /* The power goes in the middle of a sync: what was answered 202 counts, nothing after. */
        sync_result = -EIO;
        assert_int_equal(commit(accepted, 10), ADMISSION_JOURNAL_ERROR);
        write_back(&seed, 50);
        end();
        lose_power();
        recover(&found);
        for (uint64_t id = 0; id < accepted; id++)
            assert_int_equal(found.count[id], 1);
        survivors += accepted;
    }
    assert_true(survivors > 1000);
}

/* Takes what was published, and makes sure that its segments have an image. */
static size_t take(struct record **records, size_t max)
{
    const size_t n = ring_take(ring, records, max);

    for (size_t i = 0; i < n; i++)
        image_of((const char *)records[i]);
    return n;
}

static size_t lost_of(const struct found *found, uint64_t from, uint64_t to)
{
    size_t lost = 0;

    for (uint64_t id = from; id < to; id++) {
        assert_true(found->count[id] <= 1);
        lost += found->count[id] == 0;
    }
    return lost;
}

static void with_never_the_same_loss_of_power_loses_events(void **state)
{
    static struct found found;
    struct record *records[64];

    (void)state;
    begin(JOURNAL_SYNC_NEVER);
    assert_int_equal(commit(0, 40), ADMISSION_ACCEPTED);
    assert_int_equal(take(records, ARRAY_LEN(records)), 40);
    journal_maintain(journal, 10000, 100);
    end();
    assert_int_equal(sync_calls, 0);
    lose_power();
    recover(&found);
    assert_int_equal(lost_of(&found, 0, 40), 40);
}

static void with_interval_only_what_came_after_the_last_sync_is_lost(void **state)
{
    static struct found found;
    struct record *records[128];

    (void)state;
    begin(JOURNAL_SYNC_INTERVAL);
    assert_int_equal(commit(0, 60), ADMISSION_ACCEPTED);
    assert_int_equal(sync_calls, 0);
    journal_maintain(journal, 10000, 100);
    assert_true(sync_calls > 0);
    assert_int_equal(commit(60, 64), ADMISSION_ACCEPTED);
    journal_maintain(journal, 10099, 100);
    assert_int_equal(take(records, ARRAY_LEN(records)), 124);
    sync_result = -EIO;
    end();
    lose_power();
    recover(&found);
    assert_int_equal(lost_of(&found, 0, 60), 0);
    /* The page that the first sync ended in had no more to hold. */
    assert_int_equal(lost_of(&found, 60, 124), 64);
}

static uint64_t turn_first; /* id */
static bool turn_watched;

/* During the sync nobody may have heard of the turn's events. */
static int sync_and_look(void *address, size_t length)
{
    struct record *records[64];
    char id[32];
    const int id_length = snprintf(id, sizeof(id), "%llu", (unsigned long long)turn_first);
    const struct hash128 hash = event_id_hash(&key, id, (size_t)id_length);

    if (turn_watched) {
        assert_int_equal(ring_take(ring, records, ARRAY_LEN(records)), 0);
        assert_false(l1_contains(l1_thread, &hash));
    }
    return sync_to_image(address, length);
}

static void an_event_is_published_and_its_id_known_only_after_the_sync(void **state)
{
    struct record *records[64];

    (void)state;
    sync_fn = sync_and_look;
    begin(JOURNAL_SYNC_ALWAYS);
    turn_watched = true;
    for (uint64_t turn = 0; turn < 30; turn++) {
        const size_t calls = sync_calls;

        turn_first = turn * 20;
        assert_int_equal(commit(turn_first, 20), ADMISSION_ACCEPTED);
        /* One for the turn, and one more where it went over to the next segment. */
        assert_true(sync_calls == calls + 1 || sync_calls == calls + 2);
        assert_int_equal(take(records, ARRAY_LEN(records)), 20);
    }
    turn_watched = false;
    /* Duplicates alone need no sync. */
    sync_calls = 0;
    assert_int_equal(commit(0, 20), ADMISSION_ACCEPTED);
    assert_int_equal(sync_calls, 0);
    end();
}

static void one_sync_serves_all_requests_of_a_turn(void **state)
{
    size_t numbers[8];

    (void)state;
    begin(JOURNAL_SYNC_ALWAYS);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        numbers[i] = request(i, 1);
    admission_commit(admission, 0, 1000);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        assert_int_equal(admission_result(admission, numbers[i]).accepted, 1);
    assert_int_equal(sync_calls, 1);
    end();
}

static void a_failed_sync_is_a_503_that_leaves_nothing_and_no_202_follows(void **state)
{
    static struct found found;
    struct record *records[64];

    (void)state;
    begin(JOURNAL_SYNC_ALWAYS);
    assert_int_equal(commit(0, 20), ADMISSION_ACCEPTED);
    assert_int_equal(take(records, ARRAY_LEN(records)), 20);
    sync_result = -EIO;
    assert_int_equal(commit(20, 20), ADMISSION_JOURNAL_ERROR);
    sync_result = 0;
    assert_int_equal(take(records, ARRAY_LEN(records)), 0);
    assert_int_equal(ring_depth(ring), 0);
    assert_int_equal(l1_entries(l1), 20);
    assert_true(journal_failed(journal));
    assert_int_equal(journal_live(journal, 0), 20);
    /* The kernel may have dropped what it could not write: never trusted again. */
    assert_int_equal(commit(20, 20), ADMISSION_JOURNAL_ERROR);
    assert_int_equal(commit(100, 1), ADMISSION_JOURNAL_ERROR);
    /* Nothing at all is acknowledged any more. */
    assert_int_equal(commit(0, 20), ADMISSION_JOURNAL_ERROR);
    end();
    lose_power();
    recover(&found);
    assert_int_equal(lost_of(&found, 0, 20), 0);
    assert_int_equal(lost_of(&found, 20, 40), 20);
    /* A restart takes events again. */
    begin(JOURNAL_SYNC_ALWAYS);
    assert_int_equal(commit(20, 20), ADMISSION_ACCEPTED);
    end();
}

/* The others were promised no more than sync says. */
static void a_failed_sync_for_ack_disk_refuses_those_alone_who_asked(void **state)
{
    static const enum admission_verdict verdicts[] = {ADMISSION_ACCEPTED, ADMISSION_JOURNAL_ERROR,
                                                      ADMISSION_ACCEPTED};
    struct record *records[64];
    size_t numbers[3];

    (void)state;
    begin(JOURNAL_SYNC_INTERVAL);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        numbers[i] = request(i * 2, 2);
        if (i == 1)
            admission_ack(admission, ADMISSION_ACK_DISK);
    }
    sync_result = -EIO;
    admission_commit(admission, 0, 1000);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        assert_int_equal(admission_result(admission, numbers[i]).verdict, verdicts[i]);
    assert_int_equal(take(records, ARRAY_LEN(records)), 4);
    assert_int_equal(l1_entries(l1), 4);
    assert_int_equal(journal_live(journal, 0), 4);
    end();
}

static void with_always_an_insert_is_on_disk_before_it_may_be_sent(void **state)
{
    static struct found found;
    struct record *records[64];
    size_t n;

    (void)state;
    begin(JOURNAL_SYNC_ALWAYS);
    assert_int_equal(commit(0, 60), ADMISSION_ACCEPTED);
    n = take(records, ARRAY_LEN(records));
    assert_int_equal(n, 60);
    assert_int_equal(journal_stamp(journal, records, 40, 5), 0);
    sync_result = -EIO;
    assert_int_equal(journal_stamp(journal, records + 40, 20, 6), -EIO);
    end();
    lose_power();
    recover(&found);
    assert_int_equal(lost_of(&found, 0, 60), 0);
    for (uint64_t id = 0; id < 40; id++)
        assert_int_equal(found.insert_id[id], 5);
}

/* An insert that does not linger is stamped before its records are synced. */
static void with_interval_a_sync_has_what_its_records_were_marked_with_before(void **state)
{
    static struct found found;
    struct record *records[64];

    (void)state;
    begin(JOURNAL_SYNC_INTERVAL);
    assert_int_equal(commit(0, 40), ADMISSION_ACCEPTED);
    assert_int_equal(take(records, ARRAY_LEN(records)), 40);
    assert_int_equal(journal_stamp(journal, records, 40, 5), 0);
    journal_finish(journal, records, 10, RECORD_INSERTED);
    journal_maintain(journal, 10000, 100);
    assert_int_equal(commit(40, 10), ADMISSION_ACCEPTED);
    sync_calls = 0;
    journal_maintain(journal, 20000, 100);
    assert_int_equal(sync_calls, 1); /* nothing is marked yet */
    sync_result = -EIO;
    end();
    lose_power();
    recover(&found);
    assert_int_equal(lost_of(&found, 0, 10), 10);
    assert_int_equal(lost_of(&found, 10, 50), 0);
    for (uint64_t id = 10; id < 50; id++)
        assert_int_equal(found.insert_id[id], id < 40 ? 5 : 0);
}

static void after_an_orderly_end_a_loss_of_power_changes_nothing(void **state)
{
    static const enum journal_sync kinds[] = {JOURNAL_SYNC_ALWAYS, JOURNAL_SYNC_INTERVAL};
    static struct found found;
    struct record *records[64];

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (i > 0) {
            tear_down(state);
            set_up(state);
        }
        begin(kinds[i]);
        assert_int_equal(commit(0, 40), ADMISSION_ACCEPTED);
        assert_int_equal(take(records, ARRAY_LEN(records)), 40);
        journal_maintain(journal, 10000, 100);
        journal_finish(journal, records, 30, RECORD_DEAD);
        assert_true(journal_settle(journal));
        sync_result = -EIO;
        end();
        lose_power();
        recover(&found);
        assert_int_equal(lost_of(&found, 0, 30), 30);
        assert_int_equal(lost_of(&found, 30, 40), 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(with_always_whatever_was_answered_202_survives_a_loss_of_power),
        TEST(with_never_the_same_loss_of_power_loses_events),
        TEST(with_interval_only_what_came_after_the_last_sync_is_lost),
        TEST(an_event_is_published_and_its_id_known_only_after_the_sync),
        TEST(one_sync_serves_all_requests_of_a_turn),
        TEST(a_failed_sync_is_a_503_that_leaves_nothing_and_no_202_follows),
        TEST(a_failed_sync_for_ack_disk_refuses_those_alone_who_asked),
        TEST(with_always_an_insert_is_on_disk_before_it_may_be_sent),
        TEST(with_interval_a_sync_has_what_its_records_were_marked_with_before),
        TEST(after_an_orderly_end_a_loss_of_power_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
