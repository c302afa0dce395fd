/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_journal.c - writers, room, removal, syncs, the folder's lock and its numbers.
 */
#include "alloy/journal.h"

#include "alloy/clock.h"
#include "alloy/journal_dir.h"
#include "journal_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define DEADLINE_MS 20000

static _Atomic int sync_result;
static _Atomic int sync_calls;

static int set_up(void **state)
{
    sync_result = sync_calls = 0;
    return set_up_folder(state);
}

static int fake_sync(void *address, size_t length)
{
    (void)address;
    (void)length;
    sync_calls++;
    return sync_result;
}

static size_t files(void)
{
    char pattern[96];
    glob_t found;
    size_t count;

    snprintf(pattern, sizeof(pattern), "%s/segment-*", folder);
    count = glob(pattern, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
    globfree(&found);
    return count;
}

static void a_demanded_sync_reaches_what_every_writer_has_appended(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal;
    struct journal_writer *one, *two;

    (void)state;
    options.sync_range = fake_sync;
    journal = open_with(&options);
    one = journal_writer_create(journal);
    two = journal_writer_create(journal);
    assert_int_equal(journal_sync_appended(journal), 0);
    assert_int_equal(sync_calls, 0);
    assert_non_null(put(one, 200));
    assert_non_null(put(two, ROOM));
    assert_non_null(put(two, 200));
    assert_int_equal(journal_sync_appended(journal), 0);
    assert_int_equal(sync_calls, 3);
    /* Nothing new: nothing to do; then only where something is new. */
    assert_int_equal(journal_sync_appended(journal), 0);
    assert_int_equal(sync_calls, 3);
    assert_non_null(put(one, 200));
    sync_result = -EIO;
    assert_int_equal(journal_sync_appended(journal), -EIO);
    assert_int_equal(sync_calls, 4);
    assert_true(journal_failed(journal));
    sync_result = 0;
    assert_int_equal(journal_sync_appended(journal), -EIO);
    journal_writer_destroy(one);
    journal_writer_destroy(two);
    journal_close(journal);
    assert_int_equal(files(), 3);
}

static void a_demanded_sync_holds_no_segment_back(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *first = put(writer, ROOM);

    (void)state;
    assert_non_null(put(writer, 200));
    assert_int_equal(journal_sync_appended(journal), 0);
    journal_finish(journal, &first, 1, RECORD_INSERTED);
    assert_int_equal(journal_sync_appended(journal), 0);
    journal_maintain(journal, 0, 0);
    assert_int_equal(journal_bytes(journal), SEGMENT);
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void finished_segments_are_removed(void **state)
{
    static const char *const places[] = {folder, NULL};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const struct journal_options options = options_of(places[i], 4);
        struct journal *journal = open_with(&options);
        struct journal_writer *writer = journal_writer_create(journal);
        struct record *first = put(writer, ROOM), *second = put(writer, 400);

        assert_non_null(first);
        assert_non_null(second);
        assert_int_equal(journal_bytes(journal), 2 * SEGMENT);
        assert_int_equal(journal_live(journal, 1), 2);
        assert_int_equal(journal_live(journal, 0), 0);
        journal_finish(journal, &first, 1, RECORD_INSERTED);
        journal_maintain(journal, 0, 100);
        assert_int_equal(journal_bytes(journal), SEGMENT);
        journal_finish(journal, &second, 1, RECORD_DEAD);
        assert_int_equal(journal_live(journal, 1), 0);
        journal_maintain(journal, 0, 100);
        /* not sealed yet */
        assert_int_equal(journal_bytes(journal), SEGMENT);
        journal_writer_destroy(writer);
        journal_maintain(journal, 0, 100);
        assert_int_equal(journal_bytes(journal), 0);
        journal_close(journal);
        assert_int_equal(files(), 0);
    }
}

static void
the_state_of_a_record_is_known_as_long_as_its_segment_and_then_that_it_has_gone(void **state)
{
    const struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *first = put(writer, 400), *second = put(writer, ROOM);
    const uint64_t lsn = first->lsn, other = second->lsn;

    (void)state;
    assert_int_equal(journal_record_state(journal, lsn), RECORD_LIVE);
    assert_int_equal(journal_record_state(journal, lsn + RECORD_ALIGN), -1);
    assert_int_equal(journal_record_state(journal, lsn + 3), -1);
    assert_int_equal(journal_record_state(journal, lsn & ~(uint64_t)UINT32_MAX), -1);
    journal_finish(journal, &first, 1, RECORD_DUPLICATE);
    assert_int_equal(journal_record_state(journal, lsn), RECORD_DUPLICATE);
    journal_maintain(journal, 0, 100);
    assert_int_equal(journal_record_state(journal, lsn), 0);
    assert_int_equal(journal_record_state(journal, other), RECORD_LIVE);
    journal_writer_destroy(writer);
    journal_close(journal);
    /* A later life: nobody can say before the files are read. */
    journal = open_with(&options);
    assert_int_equal(journal_record_state(journal, lsn), -1);
    assert_int_equal(journal_record_state(journal, other), -1);
    journal_adopted_all(journal);
    assert_int_equal(journal_record_state(journal, lsn), 0);
    journal_close(journal);
}

static void record_holds_what_was_appended(void **state)
{
    const struct journal_options options = options_of(NULL, 4);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    static const char text[] = "{\"event_id\":\"a\\u0062\"}";
    struct journal_entry entry = {
        .text = {text, sizeof(text) - 1},
        .id = {"ab", 2},
        .hash = {1, 2},
        .stream = 1,
    };
    size_t sizes[2];
    struct record *record;

    (void)state;
    sizes[0] = journal_entry_bytes(&entry);
    assert_int_equal(sizes[0] % RECORD_ALIGN, 0);
    assert_int_equal(journal_writer_reserve(writer, sizes, 1), 0);
    record = journal_writer_append(writer, &entry, 42);
    assert_int_equal(record->length, sizes[0]);
    assert_int_equal(record->body_length, sizeof(text));
    assert_memory_equal(record->body, text, sizeof(text) - 1);
    assert_int_equal(record->body[record->body_length - 1], '\n');
    assert_memory_equal(record_id(record), "ab", 2);
    assert_true(record_id(record) >= record->body + record->body_length);
    assert_int_equal(record->received_ms, 42);
    assert_int_equal(record->hash.hi, 2);
    assert_int_equal(record->stream, 1);
    assert_int_equal(record_state(record), RECORD_LIVE);

    entry.id = (struct slice){text + 13, 1};
    entry.id_verbatim = true;
    sizes[1] = journal_entry_bytes(&entry);
    assert_int_equal(journal_writer_reserve(writer, &sizes[1], 1), 0);
    record = journal_writer_append(writer, &entry, 43);
    assert_int_equal(record->id_offset, 13);
    assert_int_equal((uintptr_t)record % RECORD_ALIGN, 0);
    assert_int_equal(journal_stamp(journal, &record, 1, journal_next_insert_id(journal)), 0);
    assert_int_equal(record_insert_id(record), 1);
    assert_true(record_insert_id_valid(record));
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void an_entry_may_fill_a_segment_and_the_next_begins_after_it(void **state)
{
    const struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    const size_t sizes[] = {ROOM - 80, 80, ROOM, 88, ROOM - 80};
    struct record *records[5];

    (void)state;
    assert_int_equal(journal_entry_bytes_max(journal), ROOM);
    assert_int_equal(journal_writer_reserve(writer, sizes, 5), 0);
    assert_int_equal(journal_bytes(journal), 4 * SEGMENT);
    for (size_t i = 0; i < 5; i++)
        records[i] = append(writer, sizes[i]);
    assert_int_equal(records[0]->lsn >> 32, records[1]->lsn >> 32);
    assert_int_not_equal(records[1]->lsn >> 32, records[2]->lsn >> 32);
    assert_int_not_equal(records[3]->lsn >> 32, records[4]->lsn >> 32);
    journal_finish(journal, records, 5, RECORD_INSERTED);
    journal_maintain(journal, 0, 100);
    assert_int_equal(journal_bytes(journal), SEGMENT);
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void reservation_is_all_or_none(void **state)
{
    const struct journal_options options = options_of(folder, 3);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    const size_t sizes[] = {ROOM, ROOM, ROOM, ROOM};

    (void)state;
    assert_int_equal(journal_writer_reserve(writer, sizes, 4), -ENOSPC);
    assert_int_equal(journal_bytes(journal), 0);
    assert_int_equal(journal_live(journal, 1), 0);
    assert_true(journal_full(journal));
    journal_maintain(journal, 0, 100);
    assert_false(journal_full(journal));
    assert_int_equal(journal_writer_reserve(writer, sizes, 3), 0);
    for (size_t i = 0; i < 3; i++)
        assert_non_null(append(writer, ROOM));
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void reservations_add_up(void **state)
{
    const struct journal_options options = options_of(NULL, 4);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    const size_t half = ROOM / 2 / 8 * 8;

    (void)state;
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(journal_writer_reserve(writer, &half, 1), 0);
    assert_int_equal(journal_writer_reserve(writer, &half, 1), -ENOSPC);
    for (size_t i = 0; i < 8; i++)
        append(writer, half);
    journal_writer_destroy(writer);
    journal_close(journal);
}

/* A segment may be full of marks while it has room for records. In memory it is used again, with
 * marks that say nothing of what was there before. */
static void small_records_are_as_many_as_there_are_marks(void **state)
{
    static const char *const places[] = {folder, NULL};
    const size_t bytes = (sizeof(struct record) + 8 + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1ul);
    const size_t marks = segment_marks(SEGMENT);

    (void)state;
    assert_true(marks * bytes < ROOM);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const struct journal_options options = options_of(places[i], 3);
        struct journal *journal = open_with(&options);
        struct journal_writer *writer = journal_writer_create(journal);

        for (int life = 0; life < 4; life++) {
            struct record *records[3 * SEGMENT / SEGMENT_BYTES_A_MARK];
            size_t n = 0;

            while (journal_writer_reserve(writer, &bytes, 1) == 0)
                n++;
            assert_in_range(n, 2 * marks, 3 * marks);
            for (size_t k = 0; k < n; k++) {
                records[k] = append(writer, bytes);
                assert_int_equal(record_state(records[k]), RECORD_LIVE);
                assert_int_equal(record_insert_id(records[k]), 0);
            }
            assert_int_equal(journal_stamp(journal, records, n, 5), 0);
            journal_finish(journal, records, n, RECORD_INSERTED);
            journal_maintain(journal, 1, 1000);
            journal_maintain(journal, 2, 1000);
        }
        journal_writer_destroy(writer);
        journal_close(journal);
    }
}

/* The segment that a writer holds is finished but not full: it must not block for ever. */
static void a_full_journal_takes_events_again_once_they_are_finished(void **state)
{
    static const char *const places[] = {folder, NULL};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const struct journal_options options = options_of(places[i], 2);
        struct journal *journal = open_with(&options);
        struct journal_writer *one = journal_writer_create(journal);
        struct journal_writer *two = journal_writer_create(journal);
        struct journal_writer *three = journal_writer_create(journal);
        struct record *records[2] = {put(one, ROOM - 80), put(two, 400)};
        struct record *third;

        assert_non_null(records[0]);
        assert_non_null(records[1]);
        assert_null(put(one, 400));
        assert_null(put(three, 400));
        journal_maintain(journal, 0, 100);
        assert_true(journal_full(journal));
        assert_null(put(three, 400));
        /* What still fits is taken. */
        assert_non_null(put(two, 400));
        journal_finish(journal, records, 1, RECORD_INSERTED);
        journal_maintain(journal, 0, 100);
        assert_false(journal_full(journal));
        third = put(three, 400);
        assert_non_null(third);
        assert_null(put(one, 400));
        journal_finish(journal, &third, 1, RECORD_INSERTED);
        journal_maintain(journal, 0, 100);
        assert_non_null(put(one, 400));
        journal_writer_destroy(one);
        journal_writer_destroy(two);
        journal_writer_destroy(three);
        journal_close(journal);
        assert_int_equal(files(), places[i] == NULL ? 0 : 2);
        for (size_t j = 1; files() > 0 && j < 20; j++) {
            char path[128];

            snprintf(path, sizeof(path), "%s/segment-%010zu.alj", folder, j);
            unlink(path);
        }
    }
}

static void a_reserved_segment_is_not_taken_away(void **state)
{
    const struct journal_options options = options_of(NULL, 2);
    struct journal *journal = open_with(&options);
    struct journal_writer *one = journal_writer_create(journal);
    struct journal_writer *two = journal_writer_create(journal);
    const size_t sizes[] = {400, 400, ROOM};
    struct record *first;

    (void)state;
    assert_int_equal(journal_writer_reserve(one, sizes, 3), 0);
    first = append(one, 400);
    journal_finish(journal, &first, 1, RECORD_INSERTED);
    assert_null(put(two, 400));
    journal_maintain(journal, 0, 100);
    append(one, 400);
    append(one, ROOM);
    assert_int_equal(journal_live(journal, 1), 2);
    journal_writer_destroy(one);
    journal_writer_destroy(two);
    journal_close(journal);
}

static void sync_always_syncs_every_segment_touched_before_it_returns(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal;
    struct journal_writer *writer;
    struct record *records[3];

    (void)state;
    options.sync = JOURNAL_SYNC_ALWAYS;
    options.sync_range = fake_sync;
    journal = open_with(&options);
    writer = journal_writer_create(journal);
    for (size_t i = 0; i < 3; i++)
        records[i] = put(writer, i == 0 ? 400 : ROOM);
    /* Even finished, a segment stays until it was synced. */
    journal_finish(journal, records, 1, RECORD_DUPLICATE);
    journal_maintain(journal, 0, 100);
    assert_int_equal(sync_calls, 0);
    assert_int_equal(journal_writer_sync(writer), 0);
    assert_int_equal(sync_calls, 3);
    assert_int_equal(journal_writer_sync(writer), 0);
    assert_int_equal(sync_calls, 3);
    assert_int_equal(journal_stamp(journal, records + 1, 2, 1), 0);
    assert_int_equal(sync_calls, 5);
    journal_maintain(journal, 0, 100);
    assert_int_equal(journal_bytes(journal), 2 * SEGMENT);
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void a_failed_sync_stops_the_journal_for_good(void **state)
{
    static const enum journal_sync modes[] = {JOURNAL_SYNC_ALWAYS, JOURNAL_SYNC_INTERVAL};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        struct journal_options options = options_of(folder, 8);
        struct journal *journal;
        struct journal_writer *writer;
        struct record *record;
        const size_t size = 400;

        options.sync = modes[i];
        options.sync_range = fake_sync;
        journal = open_with(&options);
        writer = journal_writer_create(journal);
        record = put(writer, size);
        sync_result = -EIO;
        if (modes[i] == JOURNAL_SYNC_ALWAYS)
            assert_int_equal(journal_writer_sync(writer), -EIO);
        else
            journal_maintain(journal, 1000, 100);
        assert_true(journal_failed(journal));
        assert_true(journal_full(journal));
        sync_result = 0;
        sync_calls = 0;
        assert_int_equal(journal_writer_reserve(writer, &size, 1), -EIO);
        assert_int_equal(journal_writer_sync(writer), modes[i] == JOURNAL_SYNC_ALWAYS ? -EIO : 0);
        journal_maintain(journal, 5000, 100);
        assert_int_equal(sync_calls, 0);
        journal_finish(journal, &record, 1, RECORD_INSERTED);
        journal_writer_destroy(writer);
        journal_close(journal);
        assert_int_equal(files(), 0);
    }
}

static void interval_sync_covers_sealed_segments_and_rests_when_idle(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal;
    struct journal_writer *writer;

    (void)state;
    options.sync = JOURNAL_SYNC_INTERVAL;
    options.sync_range = fake_sync;
    journal = open_with(&options);
    writer = journal_writer_create(journal);
    put(writer, ROOM);
    put(writer, 400);
    journal_maintain(journal, 50, 100);
    assert_int_equal(sync_calls, 0);
    journal_maintain(journal, 100, 100);
    assert_int_equal(sync_calls, 2);
    journal_maintain(journal, 200, 100);
    assert_int_equal(sync_calls, 2);
    journal_writer_destroy(writer);
    journal_close(journal);
}

struct marking {
    struct journal *journal;
    struct record **records;
    size_t count;
};

static void *mark_one_by_one(void *arg)
{
    const struct marking *marking = arg;

    for (size_t i = 0; i < marking->count; i++)
        journal_finish(marking->journal, &marking->records[i], 1, RECORD_INSERTED);
    return NULL;
}

/* The real sync takes pages out of the page table while others mark records in them. */
static void a_sync_keeps_what_is_marked_meanwhile(void **state)
{
    enum { COUNT = 140, BYTES = 400 };
    struct journal_options options = options_of(folder, 4);
    struct record *records[COUNT], *ends[2];
    struct marking marking = {.records = records + 1, .count = COUNT - 2};
    struct journal_writer *writer;
    pthread_t thread;

    (void)state;
    options.sync = JOURNAL_SYNC_ALWAYS;
    marking.journal = open_with(&options);
    writer = journal_writer_create(marking.journal);
    for (size_t i = 0; i < COUNT; i++)
        assert_non_null(records[i] = put(writer, BYTES));
    ends[0] = records[0];
    ends[1] = records[COUNT - 1];
    pthread_create(&thread, NULL, mark_one_by_one, &marking);
    for (uint64_t id = 1; id <= 20; id++)
        assert_int_equal(journal_stamp(marking.journal, ends, 2, id), 0);
    pthread_join(thread, NULL);
    assert_int_equal(journal_stamp(marking.journal, ends, 2, 21), 0);
    for (size_t i = 0; i < COUNT; i++) {
        const bool end = i == 0 || i == COUNT - 1;

        assert_int_equal(record_state(records[i]), end ? RECORD_LIVE : RECORD_INSERTED);
        assert_int_equal(record_insert_id(records[i]), end ? 21 : 0);
        assert_int_equal(records[i]->length, BYTES);
        assert_memory_equal(records[i]->body, filler, 5);
    }
    journal_writer_destroy(writer);
    journal_close(marking.journal);
}

static void an_insert_id_is_used_only_below_what_is_promised(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *record = put(writer, 400);
    const uint64_t limit = journal_folder(journal)->insert_limit;

    (void)state;
    /* A later life begins to count at the limit. */
    assert_int_equal(journal_stamp(journal, &record, 1, limit), -EIO);
    assert_int_equal(journal_stamp(journal, &record, 1, limit | INSERT_ID_ASYNC), -EIO);
    assert_int_equal(record_insert_id(record), 0);
    assert_int_equal(journal_stamp(journal, &record, 1, limit - 1), 0);
    assert_int_equal(record_insert_id(record), limit - 1);
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void a_full_disk_is_enospc_and_heals(void **state)
{
    const struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    struct rlimit before, tight;
    const size_t sizes[] = {ROOM, ROOM, ROOM};

    (void)state;
    /* posix_fallocate() fails as on a full disk: EFBIG in place of ENOSPC. */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tight = before;
    tight.rlim_cur = 4096;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    assert_int_equal(journal_writer_reserve(writer, sizes, 3), -ENOSPC);
    journal_maintain(journal, 0, 100);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(journal_bytes(journal), 0);
    assert_false(journal_failed(journal));
    assert_int_equal(files(), 1);
    assert_int_equal(journal_writer_reserve(writer, sizes, 3), 0);
    for (size_t i = 0; i < 3; i++)
        append(writer, ROOM);
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void a_folder_in_use_is_refused_with_the_pid(void **state)
{
    const struct journal_options options = options_of(folder, 4);
    struct journal *journal = open_with(&options), *second;
    char expected[256];

    (void)state;
    assert_int_equal(journal_open(&second, &options, error), -EBUSY);
    snprintf(expected, sizeof(expected), "journal folder %s is in use by another alloyd (pid %d)",
             folder, (int)getpid());
    assert_string_equal(error, expected);
    journal_close(journal);
    journal = open_with(&options);
    journal_close(journal);
}

static void numbers_are_never_given_twice(void **state)
{
    const struct journal_options options = options_of(folder, 4);
    uint64_t instance = 0, segment = 0, insert = 0;
    unsigned char secret[EVENT_ID_KEY_LEN];

    (void)state;
    for (size_t life = 0; life < 3; life++) {
        struct journal *journal = open_with(&options);
        struct journal_writer *writer = journal_writer_create(journal);
        struct record *record = put(writer, 400);

        if (life == 0) {
            instance = journal_instance_id(journal);
            memcpy(secret, journal_secret(journal), sizeof(secret));
        }
        assert_int_equal(journal_instance_id(journal), instance);
        assert_memory_equal(journal_secret(journal), secret, sizeof(secret));
        assert_true(record->lsn >> 32 > segment);
        segment = record->lsn >> 32;
        for (size_t i = 0; i < 3; i++) {
            const uint64_t id = journal_next_insert_id(journal);

            assert_true(id > insert);
            insert = id;
        }
        journal_finish(journal, &record, 1, RECORD_INSERTED);
        journal_writer_destroy(writer);
        journal_close(journal);
    }
    assert_int_equal(insert, 9);
}

static void segments_without_their_instance_file_are_refused(void **state)
{
    const struct journal_options options = options_of(folder, 4);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    char path[128];
    int fd;

    (void)state;
    put(writer, 400);
    journal_writer_destroy(writer);
    journal_close(journal);
    snprintf(path, sizeof(path), "%s/instance", folder);
    fd = open(path, O_RDWR);
    assert_int_equal(pwrite(fd, "?", 1, 20), 1);
    close(fd);
    assert_int_equal(journal_open(&journal, &options, error), -EBADMSG);
    assert_non_null(strstr(error, "instance file is broken"));
    unlink(path);
    assert_int_equal(journal_open(&journal, &options, error), -EBADMSG);
    assert_non_null(strstr(error, "no instance file"));
    assert_int_equal(files(), 1);
}

static void a_segment_larger_than_half_the_limit_is_made_smaller(void **state)
{
    struct journal_options options = options_of(NULL, 4);
    struct journal *journal;

    (void)state;
    options.segment_bytes = 64 << 20;
    journal = open_with(&options);
    assert_int_equal(journal_entry_bytes_max(journal), 2 * SEGMENT - segment_begin(2 * SEGMENT));
    journal_close(journal);
}

/* Writers hand records to finishers over a pipe, as front and flusher do over ring and batches. */
struct stage {
    struct journal *journal;
    int pipe[2];
    size_t count;
    _Atomic bool *stop;
};

static void *write_records(void *arg)
{
    struct stage *stage = arg;
    struct journal_writer *writer = journal_writer_create(stage->journal);
    const uint64_t deadline = clock_mono_ms() + DEADLINE_MS;
    unsigned seed = (unsigned)stage->pipe[0];

    for (size_t i = 0; i < stage->count && clock_mono_ms() < deadline;) {
        const size_t bytes = 80 + (size_t)(rand_r(&seed) % 4000) / 8 * 8;
        struct record *record = put(writer, bytes);

        if (record == NULL) {
            sched_yield();
            continue;
        }
        if (write(stage->pipe[1], &record, sizeof(record)) != sizeof(record))
            abort();
        i++;
    }
    close(stage->pipe[1]);
    journal_writer_destroy(writer);
    return NULL;
}

static void *finish_records(void *arg)
{
    struct stage *stage = arg;
    struct record *records[64];
    ssize_t got;

    while ((got = read(stage->pipe[0], records, sizeof(records))) > 0)
        journal_finish(stage->journal, records, (size_t)got / sizeof(records[0]), RECORD_INSERTED);
    close(stage->pipe[0]);
    return NULL;
}

static void *maintain(void *arg)
{
    struct stage *stage = arg;

    while (!atomic_load(stage->stop)) {
        journal_wait(stage->journal, 10);
        journal_maintain(stage->journal, clock_mono_ms(), 10);
    }
    return NULL;
}

static void writers_finishers_and_janitor_leave_nothing_behind(void **state)
{
    static const char *const places[] = {folder, NULL};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        struct journal_options options = options_of(places[i], 5);
        _Atomic bool stop = false;
        struct stage stages[2];
        pthread_t threads[5];

        options.sync = JOURNAL_SYNC_INTERVAL;
        options.sync_range = fake_sync;
        for (size_t j = 0; j < 2; j++) {
            stages[j] = (struct stage){.journal = NULL, .count = 5000, .stop = &stop};
            assert_int_equal(pipe(stages[j].pipe), 0);
        }
        stages[0].journal = stages[1].journal = open_with(&options);
        for (size_t j = 0; j < 2; j++) {
            pthread_create(&threads[j], NULL, write_records, &stages[j]);
            pthread_create(&threads[2 + j], NULL, finish_records, &stages[j]);
        }
        pthread_create(&threads[4], NULL, maintain, &stages[0]);
        for (size_t j = 0; j < 4; j++)
            pthread_join(threads[j], NULL);
        atomic_store(&stop, true);
        journal_wake(stages[0].journal);
        pthread_join(threads[4], NULL);
        journal_maintain(stages[0].journal, 0, 1000);
        assert_int_equal(journal_live(stages[0].journal, 1), 0);
        assert_int_equal(journal_bytes(stages[0].journal), 0);
        journal_close(stages[0].journal);
        assert_int_equal(files(), 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_demanded_sync_reaches_what_every_writer_has_appended),
        TEST(a_demanded_sync_holds_no_segment_back),
        TEST(finished_segments_are_removed),
        TEST(the_state_of_a_record_is_known_as_long_as_its_segment_and_then_that_it_has_gone),
        TEST(record_holds_what_was_appended),
        TEST(an_entry_may_fill_a_segment_and_the_next_begins_after_it),
        TEST(reservation_is_all_or_none),
        TEST(reservations_add_up),
        TEST(small_records_are_as_many_as_there_are_marks),
        TEST(a_full_journal_takes_events_again_once_they_are_finished),
        TEST(a_reserved_segment_is_not_taken_away),
        TEST(sync_always_syncs_every_segment_touched_before_it_returns),
        TEST(a_failed_sync_stops_the_journal_for_good),
        TEST(interval_sync_covers_sealed_segments_and_rests_when_idle),
        TEST(a_sync_keeps_what_is_marked_meanwhile),
        TEST(an_insert_id_is_used_only_below_what_is_promised),
        TEST(a_full_disk_is_enospc_and_heals),
        TEST(a_folder_in_use_is_refused_with_the_pid),
        TEST(numbers_are_never_given_twice),
        TEST(segments_without_their_instance_file_are_refused),
        TEST(a_segment_larger_than_half_the_limit_is_made_smaller),
        TEST(writers_finishers_and_janitor_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
