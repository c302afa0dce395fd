/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_recover.c - what a later life finds after kill -9, torn tails, flipped bits, files cut off
 * at any byte, and changes of the configuration.
 */
#include "alloy/recover.h"

#include "alloy/journal_dir.h"
#include "mark_place.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SEGMENT SEGMENT_BYTES_MIN
#define ROOM (SEGMENT - segment_begin(SEGMENT))
#define SEEN_MAX 200000

static const char *const names[] = {"orders", "clicks", "views"};
static const char *const reordered[] = {"views", "orders", "clicks"};
static const char *const fewer[] = {"orders"};
static char error[JOURNAL_ERROR_MAX];

/* What recovery visited. */
static struct record *seen[SEEN_MAX];
static size_t seen_count;
static struct recover_stats stats;

static int set_up(void **state)
{
    (void)state;
    seen_count = 0;
    return make_folder("/dev/shm");
}

static int tear_down(void **state)
{
    (void)state;
    return remove_folder();
}

static void see(void *arg, struct record *record)
{
    (void)arg;
    if (record_state(record) == RECORD_LIVE && seen_count < SEEN_MAX)
        seen[seen_count++] = record;
}

static struct journal *open_streams(const char *const *streams, size_t count, size_t segment)
{
    const struct journal_options options = {
        .dir = folder,
        .segment_bytes = segment,
        .max_bytes = (uint64_t)64 * SEGMENT,
        .writer_count = 1,
        .stream_names = streams,
        .stream_count = count,
    };
    struct journal *journal;

    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
    return journal;
}

static struct journal *open_plain(void)
{
    return open_streams(names, 3, SEGMENT);
}

static void recover(struct journal *journal)
{
    seen_count = 0;
    if (recover_run(journal, see, NULL, &stats, error) != 0)
        fail_msg("%s", error);
}

/* Record i: its number as text, padded to a length that depends on it. */
static size_t text_of(uint64_t i, char *text)
{
    const int length = snprintf(text, 32, "%llu", (unsigned long long)i);
    const size_t total = 40 + (size_t)(i * 7919 % 500);

    memset(text + length, 'a' + (int)(i % 26), total - (size_t)length);
    return total;
}

static struct record *put(struct journal_writer *writer, uint64_t i)
{
    char text[640];
    const size_t length = text_of(i, text);
    const struct journal_entry entry = {
        .text = {text, length},
        .id = {"id", 2},
        .hash = {i, ~i},
        .stream = (uint16_t)(i % 3),
    };
    const size_t bytes = journal_entry_bytes(&entry);

    if (journal_writer_reserve(writer, &bytes, 1) != 0)
        return NULL;
    return journal_writer_append(writer, &entry, 1000 + i);
}

static bool intact(const struct record *record, uint64_t i)
{
    char text[640];
    const size_t length = text_of(i, text);

    return record->body_length == length + 1 && memcmp(record->body, text, length) == 0 &&
           record->hash.lo == i && record->received_ms == 1000 + i && record->id_length == 2 &&
           memcmp(record_id(record), "id", 2) == 0;
}

/* A first life that leaves these many LIVE records; their offsets in the one segment. */
static void first_life(size_t count, size_t *offsets)
{
    struct journal *journal = open_plain();
    struct journal_writer *writer = journal_writer_create(journal);

    for (size_t i = 0; i < count; i++)
        offsets[i] = (size_t)(put(writer, i)->lsn & UINT32_MAX);
    journal_writer_destroy(writer);
    journal_close(journal);
}

/* The one segment file of the first life. */
static int open_segment(void)
{
    char path[128];
    int fd;

    snprintf(path, sizeof(path), "%s/segment-%010u.alj", folder, 1);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static void flip(int fd, size_t offset)
{
    unsigned char byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

static void live_records_come_back_and_leave_when_finished(void **state)
{
    struct journal *journal = open_plain();
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *records[300];
    size_t kept = 0;

    (void)state;
    for (size_t i = 0; i < 300; i++)
        records[i] = put(writer, i);
    assert_int_equal(journal_stamp(journal, &records[7], 1, journal_next_insert_id(journal)), 0);
    for (size_t i = 0; i < 300; i++)
        if (i % 10 != 7)
            journal_finish(journal, &records[i], 1, RECORD_INSERTED);
    journal_writer_destroy(writer);
    journal_close(journal);

    journal = open_plain();
    recover(journal);
    assert_int_equal(stats.live, 30);
    assert_int_equal(stats.records, 300);
    assert_int_equal(stats.corrupt, 0);
    assert_int_equal(seen_count, 30);
    for (size_t i = 0; i < seen_count; i++, kept += 10) {
        assert_true(intact(seen[i], kept + 7));
        assert_int_equal(seen[i]->stream, (kept + 7) % 3);
        assert_int_equal(record_insert_id(seen[i]), i == 0 ? 1 : 0);
    }
    assert_int_equal(journal_live(journal, 0) + journal_live(journal, 1) + journal_live(journal, 2),
                     30);
    assert_int_equal(journal_bytes(journal), stats.segments * SEGMENT);
    for (size_t i = 0; i < seen_count; i++)
        journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
    journal_maintain(journal, 0, 0);
    assert_int_equal(journal_bytes(journal), 0);
    assert_int_equal(journal_live(journal, 1), 0);
    journal_close(journal);
    journal = open_plain();
    recover(journal);
    assert_int_equal(stats.segments, 0);
    journal_close(journal);
}

static void streams_are_found_by_name(void **state)
{
    size_t offsets[30];
    struct journal *journal;

    (void)state;
    first_life(30, offsets);
    journal = open_streams(reordered, 3, SEGMENT);
    recover(journal);
    assert_int_equal(seen_count, 30);
    for (size_t i = 0; i < 30; i++)
        assert_string_equal(reordered[seen[i]->stream], names[i % 3]);
    assert_int_equal(journal_live(journal, 0), 10);
    journal_close(journal);

    journal = open_streams(fewer, 1, SEGMENT);
    recover(journal);
    assert_int_equal(seen_count, 10);
    assert_int_equal(stats.unknown_stream, 20);
    journal_finish(journal, seen, 10, RECORD_INSERTED);
    journal_maintain(journal, 0, 0);
    assert_int_equal(journal_bytes(journal), SEGMENT);
    journal_close(journal);

    journal = open_plain();
    recover(journal);
    assert_int_equal(seen_count, 20);
    journal_close(journal);
}

static void a_larger_segment_of_an_earlier_life_is_read(void **state)
{
    struct journal *journal = open_streams(names, 3, 8 * SEGMENT);
    struct journal_writer *writer = journal_writer_create(journal);

    (void)state;
    for (size_t i = 0; i < 1000; i++)
        assert_non_null(put(writer, i));
    journal_writer_destroy(writer);
    journal_close(journal);
    journal = open_plain();
    recover(journal);
    assert_int_equal(seen_count, 1000);
    for (size_t i = 0; i < 1000; i++) {
        assert_true(intact(seen[i], i));
        journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
    }
    journal_maintain(journal, 0, 0);
    assert_int_equal(journal_bytes(journal), 0);
    journal_close(journal);
}

static void a_flipped_bit_costs_one_record_and_is_counted(void **state)
{
    size_t offsets[20];
    struct journal *journal;
    int fd;

    (void)state;
    first_life(20, offsets);
    fd = open_segment();
    flip(fd, offsets[5] + sizeof(struct record) + 3);
    flip(fd, offsets[9] + 4);
    journal = open_plain();
    recover(journal);
    assert_int_equal(stats.corrupt, 2);
    assert_int_equal(seen_count, 18);
    for (size_t i = 0; i < seen_count; i++)
        assert_true(intact(seen[i], i < 5 ? i : i < 8 ? i + 1 : i + 2));
    journal_close(journal);
    close(fd);
}

static void flip_bit(int fd, size_t offset, unsigned bit)
{
    unsigned char byte;

    offset += bit / 8;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (unsigned char)(1u << bit % 8);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

static bool is_there(const char *suffix)
{
    char name[SEGMENT_NAME_MAX], path[128];

    segment_name(name, 1, suffix);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

/* State and insert id change in place, and no checksum covers them. */
static void a_flipped_bit_of_a_state_is_undone(void **state)
{
    size_t offsets[3];

    (void)state;
    first_life(3, offsets);
    for (unsigned bit = 0; bit < 16; bit++) {
        int fd = open_segment();
        struct journal *journal;

        flip_bit(fd, mark_place(fd, offsets[1]) + offsetof(struct record_mark, state), bit);
        close(fd);
        journal = open_plain();
        recover(journal);
        assert_int_equal(seen_count, 3);
        assert_true(intact(seen[1], 1));
        assert_int_equal(stats.corrupt, 1);
        assert_int_equal(journal_dir_damaged(journal_folder(journal)), 0);
        journal_close(journal);
    }
}

static void a_flipped_bit_of_an_insert_id_costs_its_record_alone_and_the_file_stays(void **state)
{
    struct journal *journal = open_plain();
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *records[3];
    size_t offset;
    uint64_t lsn;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        records[i] = put(writer, i);
    assert_int_equal(
        journal_stamp(journal, records, 3, journal_next_insert_id(journal) | INSERT_ID_ASYNC), 0);
    offset = (size_t)(records[1]->lsn & UINT32_MAX) - (size_t)records[1]->mark_back +
             offsetof(struct record_mark, insert_id);
    lsn = records[1]->lsn;
    journal_writer_destroy(writer);
    journal_close(journal);
    for (unsigned bit = 0; bit < 64; bit++) {
        int fd = open_segment();

        flip_bit(fd, offset, bit);
        journal = open_plain();
        recover(journal);
        assert_int_equal(seen_count, 2);
        assert_true(intact(seen[0], 0) && intact(seen[1], 2));
        assert_int_equal(record_insert_id(seen[1]), 1 | INSERT_ID_ASYNC);
        assert_int_equal(stats.corrupt, 1);
        if (bit == 63)
            break;
        journal_close(journal);
        flip_bit(fd, offset, bit);
        close(fd);
    }
    /* What became of the record nobody can say, now or when its segment has gone, or later. */
    journal_finish(journal, seen, 2, RECORD_INSERTED);
    journal_maintain(journal, 0, 0);
    assert_int_equal(journal_bytes(journal), 0);
    assert_true(is_there("alj.corrupt") && !is_there("alj"));
    journal_adopted_all(journal);
    assert_int_equal(journal_record_state(journal, lsn), -1);
    journal_close(journal);
    journal = open_plain();
    recover(journal);
    assert_int_equal(stats.corrupt, 0);
    assert_int_equal(journal_dir_damaged(journal_folder(journal)), 1);
    journal_adopted_all(journal);
    assert_int_equal(journal_record_state(journal, lsn), -1);
    journal_close(journal);
}

static void a_segment_of_another_version_is_left_alone(void **state)
{
    struct segment_header header;
    size_t offsets[3];
    struct journal *journal;
    int fd;

    (void)state;
    first_life(3, offsets);
    fd = open_segment();
    assert_int_equal(pread(fd, &header, sizeof(header), 0), sizeof(header));
    header.version = 1;
    header.checksum = XXH3_64bits(&header, offsetof(struct segment_header, checksum));
    assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
    close(fd);
    journal = open_plain();
    assert_int_equal(recover_run(journal, see, NULL, &stats, error), -EPROTO);
    assert_non_null(strstr(error, "segment 1 is of another version"));
    journal_close(journal);
    assert_true(is_there("alj"));
    /* A flipped bit is no version. */
    fd = open_segment();
    flip_bit(fd, offsetof(struct segment_header, version), 2);
    close(fd);
    journal = open_plain();
    recover(journal);
    journal_close(journal);
    assert_true(is_there("alj.corrupt") && !is_there("alj"));
}

static void a_broken_header_is_set_aside_with_its_bytes(void **state)
{
    size_t offsets[20];
    char path[128];
    struct journal *journal;
    int fd;

    (void)state;
    first_life(20, offsets);
    fd = open_segment();
    flip(fd, 30);
    close(fd);
    journal = open_plain();
    recover(journal);
    assert_int_equal(seen_count, 0);
    assert_int_equal(stats.corrupt, 1);
    assert_int_equal(journal_bytes(journal), 0);
    snprintf(path, sizeof(path), "%s/segment-%010u.alj.corrupt", folder, 1);
    assert_int_equal(access(path, F_OK), 0);
    journal_close(journal);
}

/* Whatever the length of the file, every whole record in it comes back and nothing else. */
static void a_segment_cut_off_at_any_byte_keeps_its_whole_records(void **state)
{
    size_t offsets[4];
    const size_t count = ARRAY_LEN(offsets);
    char image[SEGMENT];
    int fd;

    (void)state;
    first_life(count, offsets);
    fd = open_segment();
    assert_int_equal(pread(fd, image, SEGMENT, 0), SEGMENT);
    close(fd);
    /* Silence: each cut is an error line. */
    fd = dup(2);
    assert_true(fd >= 0 && freopen("/dev/null", "w", stderr) != NULL);
    for (size_t length = 0; length <= offsets[count - 1] + 700;
         length += length < segment_begin(SEGMENT) - 8 ? 509 : 1) {
        char path[128];
        struct journal *journal;
        size_t whole = 0;
        int file;

        snprintf(path, sizeof(path), "%s/segment-%010u.alj", folder, 1);
        file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        assert_int_equal(write(file, image, length), (ssize_t)length);
        close(file);
        for (size_t i = 0; i < count; i++) {
            const struct record *record = (const struct record *)(image + offsets[i]);

            whole += offsets[i] + record->length <= length;
        }
        journal = open_plain();
        recover(journal);
        assert_int_equal(seen_count, whole);
        assert_int_equal(stats.corrupt, 1);
        for (size_t i = 0; i < seen_count; i++)
            assert_true(intact(seen[i], i));
        journal_close(journal);
    }
    dup2(fd, 2);
    close(fd);
}

static void look_at(void *arg, struct record *record)
{
    (void)arg;
    (void)record;
}

/* Takes what segment i has to hand out, n at a time; returns how many. */
static size_t take_all(struct recovery *recovery, size_t i, size_t n)
{
    const size_t before = seen_count;
    size_t taken;

    do {
        taken = recover_take(recovery, i, seen + seen_count, n);
        seen_count += taken;
    } while (taken == n);
    return seen_count - before;
}

static void the_second_pass_hands_out_what_is_in_no_insert_and_holds_its_segment(void **state)
{
    struct journal *journal = open_plain();
    struct journal_writer *writer = journal_writer_create(journal);
    struct recovery *recovery;
    struct record *records[300];

    (void)state;
    for (size_t i = 0; i < 300; i++)
        records[i] = put(writer, i);
    /* Of one stream each. */
    assert_int_equal(journal_stamp(journal, &records[7], 1, 1), 0);
    journal_finish(journal, &records[8], 1, RECORD_INSERTED);
    journal_writer_destroy(writer);
    journal_close(journal);

    journal = open_plain();
    assert_int_equal(recover_open(&recovery, journal, error), 0);
    assert_non_null(recovery);
    for (size_t i = 0; i < recover_segments(recovery); i++)
        assert_int_equal(recover_read(recovery, i, look_at, NULL, error), 0);
    assert_int_equal(recover_stats(recovery)->live, 299);
    seen_count = 0;
    for (size_t i = 0; i < recover_segments(recovery); i++) {
        const uint64_t bytes = journal_bytes(journal);
        const size_t first = seen_count, count = take_all(recovery, i, 7);

        assert_true(count > 0);
        for (size_t k = first; k < first + count; k++) {
            assert_true(seen[k]->hash.lo != 7 && seen[k]->hash.lo != 8);
            journal_finish(journal, &seen[k], 1, RECORD_INSERTED);
        }
        journal_maintain(journal, 0, 0);
        assert_int_equal(journal_bytes(journal), bytes);
        assert_int_equal(take_all(recovery, i, 7), 0);
        recover_release(recovery, i);
        journal_maintain(journal, 0, 0);
        /* The first one keeps the record that is in an insert. */
        assert_int_equal(journal_bytes(journal), i == 0 ? bytes : bytes - SEGMENT);
    }
    assert_int_equal(seen_count, 298);
    recover_close(recovery);
    journal_close(journal);
}

static void what_was_not_handed_out_is_there_in_the_next_life(void **state)
{
    size_t offsets[60];
    struct journal *journal;
    struct recovery *recovery;

    (void)state;
    first_life(60, offsets);
    for (size_t stop = 0; stop < 60; stop += 13) {
        journal = open_plain();
        assert_int_equal(recover_open(&recovery, journal, error), 0);
        assert_int_equal(recover_read(recovery, 0, look_at, NULL, error), 0);
        assert_int_equal(recover_take(recovery, 0, seen, stop), stop);
        recover_close(recovery);
        journal_close(journal);
    }
    /* Not even read. */
    journal = open_plain();
    assert_int_equal(recover_open(&recovery, journal, error), 0);
    assert_int_equal(recover_segments(recovery), 1);
    assert_int_equal(journal_bytes(journal), SEGMENT);
    recover_close(recovery);
    journal_close(journal);
    journal = open_plain();
    recover(journal);
    assert_int_equal(seen_count, 60);
    journal_close(journal);
}

static void records_of_an_absent_stream_are_not_handed_out(void **state)
{
    size_t offsets[30];
    struct journal *journal;
    struct recovery *recovery;

    (void)state;
    first_life(30, offsets);
    journal = open_streams(fewer, 1, SEGMENT);
    assert_int_equal(recover_open(&recovery, journal, error), 0);
    assert_int_equal(recover_read(recovery, 0, look_at, NULL, error), 0);
    seen_count = 0;
    assert_int_equal(take_all(recovery, 0, 100), 10);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(seen[i]->stream, 0);
    recover_close(recovery);
    journal_close(journal);
}

/* What the child tells before it is killed. */
struct told {
    uint64_t i;
    bool finished;
};

static void live_until_killed(int fd, unsigned seed)
{
    struct journal *journal = open_plain();
    struct journal_writer *writer = journal_writer_create(journal);
    static struct record *records[SEEN_MAX];

    for (uint64_t i = 0; i < SEEN_MAX; i++) {
        struct told told = {.i = i};

        records[i] = put(writer, i);
        if (records[i] == NULL)
            break;
        if (write(fd, &told, sizeof(told)) != sizeof(told))
            break;
        if (i > 50 && rand_r(&seed) % 100 < 90) {
            /* Told first: killed in between, it may be found in either state. */
            told = (struct told){.i = i - 50, .finished = true};
            if (write(fd, &told, sizeof(told)) != sizeof(told))
                break;
            journal_finish(journal, &records[i - 50], 1, RECORD_INSERTED);
        }
        if (i % 64 == 0)
            journal_maintain(journal, 0, 0);
    }
    pause();
}

static void check_survivors(const bool *appended, const bool *finished, size_t count)
{
    size_t at = 0;
    size_t doubtful = 0;

    for (size_t i = 0; i < count; i++) {
        if (at < seen_count && seen[at]->hash.lo == i) {
            assert_true(intact(seen[at], i));
            doubtful += finished[i];
            at++;
        } else {
            assert_true(!appended[i] || finished[i]);
        }
    }
    /* Only the record whose finish was under way, and one that was not told yet. */
    assert_true(doubtful <= 1);
    assert_true(seen_count - at <= 1);
}

static void whatever_was_appended_survives_a_kill_at_any_moment(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 25; round++) {
        static bool appended[SEEN_MAX], finished[SEEN_MAX];
        const useconds_t life_us = 500 + round * 400;
        struct journal *journal;
        struct told told;
        size_t count = 0;
        int pipe_fd[2];
        pid_t child;

        memset(appended, 0, sizeof(appended));
        memset(finished, 0, sizeof(finished));
        assert_int_equal(pipe(pipe_fd), 0);
        child = fork();
        if (child == 0) {
            close(pipe_fd[0]);
            live_until_killed(pipe_fd[1], round);
        }
        close(pipe_fd[1]);
        /* It lives for a different time each round, counted from its first record. */
        while (read(pipe_fd[0], &told, sizeof(told)) == sizeof(told)) {
            if (told.i == 0 && !told.finished) {
                usleep(life_us);
                kill(child, SIGKILL);
            }
            (told.finished ? finished : appended)[told.i] = true;
            count = told.i >= count ? told.i + 1 : count;
        }
        close(pipe_fd[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(count > 0);

        journal = open_plain();
        recover(journal);
        assert_int_equal(stats.corrupt, 0);
        check_survivors(appended, finished, count);
        for (size_t i = 0; i < seen_count; i++)
            journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
        journal_maintain(journal, 0, 0);
        assert_int_equal(journal_bytes(journal), 0);
        journal_close(journal);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(live_records_come_back_and_leave_when_finished),
        TEST(streams_are_found_by_name),
        TEST(a_larger_segment_of_an_earlier_life_is_read),
        TEST(a_flipped_bit_costs_one_record_and_is_counted),
        TEST(a_flipped_bit_of_a_state_is_undone),
        TEST(a_flipped_bit_of_an_insert_id_costs_its_record_alone_and_the_file_stays),
        TEST(a_segment_of_another_version_is_left_alone),
        TEST(a_broken_header_is_set_aside_with_its_bytes),
        TEST(a_segment_cut_off_at_any_byte_keeps_its_whole_records),
        TEST(the_second_pass_hands_out_what_is_in_no_insert_and_holds_its_segment),
        TEST(what_was_not_handed_out_is_there_in_the_next_life),
        TEST(records_of_an_absent_stream_are_not_handed_out),
        TEST(whatever_was_appended_survives_a_kill_at_any_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
