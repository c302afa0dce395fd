/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ctl_journal.c - inspect and verify on the folder of a journal in use, of an earlier life,
 * and on broken ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "alloy/journal.h"
#include "alloy/log.h"

#define RECORDS 20
#define SEGMENT 65536
#define BEGIN segment_begin(SEGMENT)

struct world {
    char dir[64];
    struct journal *journal;
    struct journal_writer *writer;
    struct record *records[RECORDS];
    uint32_t segment;
};

static int setup(void **state)
{
    static const char *const names[] = {"a", "b"};
    struct world *world = calloc(1, sizeof(*world));
    const struct journal_options options = {.dir = world->dir,
                                            .segment_bytes = SEGMENT,
                                            .max_bytes = 1 << 20,
                                            .sync = JOURNAL_SYNC_NEVER,
                                            .writer_count = 1,
                                            .stream_names = names,
                                            .stream_count = 2};
    char error[JOURNAL_ERROR_MAX];

    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    strcpy(world->dir, "/tmp/test_ctl_journal.XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    assert_int_equal(journal_open(&world->journal, &options, error), 0);
    world->writer = journal_writer_create(world->journal);
    for (uint16_t i = 0; i < RECORDS; i++) {
        struct journal_entry entry = {
            .text = {"{\"id\":\"1\"}", 10}, .id = {"1", 1}, .hash = {1, i}, .stream = i % 2};
        size_t size = journal_entry_bytes(&entry);

        assert_int_equal(journal_writer_reserve(world->writer, &size, 1), 0);
        world->records[i] = journal_writer_append(world->writer, &entry, 1769860800000ull + i);
    }
    world->segment = (uint32_t)(world->records[0]->lsn >> 32);
    journal_finish(world->journal, &world->records[0], 1, RECORD_INSERTED);
    journal_finish(world->journal, &world->records[1], 1, RECORD_DEAD);
    *state = world;
    return 0;
}

/* What a kill leaves: segments as they are, nobody there. */
static void abandon(struct world *world)
{
    if (world->journal == NULL)
        return;
    journal_writer_destroy(world->writer);
    journal_close(world->journal);
    world->journal = NULL;
}

static int teardown(void **state)
{
    struct world *world = *state;
    DIR *dir = opendir(world->dir);
    struct dirent *entry;

    abandon(world);
    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(world->dir);
    free(world);
    return 0;
}

typedef int (*command_fn)(const char *dir, struct ctl_out out);

/* Runs a command; its output, owned. */
static char *run(struct world *world, command_fn command, int status)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    assert_int_equal(command(world->dir, (struct ctl_out){.file = out}), status);
    fclose(out);
    return text;
}

static void assert_says(struct world *world, command_fn command, int status, const char *part)
{
    char *text = run(world, command, status);

    if (strstr(text, part) == NULL)
        fail_msg("not \"%s\" in:\n%s", part, text);
    free(text);
}

static void flip(struct world *world, uint64_t offset)
{
    char path[256], name[SEGMENT_NAME_MAX];
    unsigned char byte;
    int fd;

    segment_name(name, world->segment, "alj");
    snprintf(path, sizeof(path), "%s/%s", world->dir, name);
    fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

static void a_journal_in_use_is_inspected_and_whole(void **state)
{
    struct world *world = *state;

    /* By state (LIVE, INSERTED, DUPLICATE, DEAD, REFUSED, MOVED), bytes LIVE, and the oldest. */
    assert_says(world, ctl_journal_inspect, 0,
                "\na                                             9          1          0"
                "          0          0          0          792  2026-01-31T12:00:00.002Z\n");
    assert_says(world, ctl_journal_inspect, 0,
                "\nb                                             9          0          0"
                "          1          0          0          792  2026-01-31T12:00:00.003Z\n");
    assert_says(world, ctl_journal_inspect, 0, "\n20 records, 18 of them LIVE, 1584 bytes\n");
    assert_says(world, ctl_journal_inspect, 0, "(there is such a process)");
    assert_says(world, ctl_journal_verify, 0, " 20 records, 0 problems\n");
}

static void neither_command_changes_anything(void **state)
{
    struct world *world = *state;
    char path[256];
    struct stat before, after;
    int fd;

    abandon(world);
    snprintf(path, sizeof(path), "%s/segment-0000000099.tmp", world->dir);
    fd = open(path, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(chmod(world->dir, 0500), 0);
    assert_int_equal(stat(world->dir, &before), 0);
    free(run(world, ctl_journal_inspect, 0));
    free(run(world, ctl_journal_verify, 0));
    assert_int_equal(stat(world->dir, &after), 0);
    assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
    assert_int_equal(chmod(world->dir, 0700), 0);
    assert_int_equal(access(path, F_OK), 0);
}

static void every_flipped_bit_is_found_with_segment_and_offset(void **state)
{
    struct world *world = *state;
    size_t length = world->records[0]->length;
    char expected[128];

    abandon(world);
    /* The last record too, though nothing follows it. The state and what only the process uses are
     * outside the checksum. */
    for (int i = 0; i < RECORDS; i += RECORDS - 1) {
        for (size_t at = 0; at < length - 5; at++) {
            uint64_t record = BEGIN + (uint64_t)i * length;

            if (at >= offsetof(struct record, written) && at < offsetof(struct record, mark_back))
                continue;
            flip(world, record + at);
            snprintf(expected, sizeof(expected), "segment-%010u.alj: offset %llu: ", world->segment,
                     (unsigned long long)record);
            assert_says(world, ctl_journal_verify, 1, expected);
            assert_says(world, ctl_journal_verify, 1, "1 segment, ");
            assert_says(world, ctl_journal_verify, 1, " 1 problem\n");
            assert_says(world, ctl_journal_inspect, 1,
                        "\n1 problem: see alloyctl journal verify /");
            flip(world, record + at);
        }
    }
    assert_says(world, ctl_journal_verify, 0, " 0 problems\n");
}

static void an_impossible_state_and_a_broken_header_are_found(void **state)
{
    struct world *world = *state;
    char expected[128];

    abandon(world);
    flip(world, SEGMENT_HEADER_BYTES + offsetof(struct record_mark, state));
    snprintf(expected, sizeof(expected), "record has the state %#x", RECORD_INSERTED ^ 0x10);
    assert_says(world, ctl_journal_verify, 1, expected);
    assert_says(world, ctl_journal_inspect, 1, "\n1 problem: see");
    flip(world, SEGMENT_HEADER_BYTES + offsetof(struct record_mark, state));
    flip(world, 50);
    snprintf(expected, sizeof(expected), "segment-%010u.alj: offset 0: the header", world->segment);
    assert_says(world, ctl_journal_verify, 1, expected);
    snprintf(expected, sizeof(expected), "\n%10u  the header is broken", world->segment);
    assert_says(world, ctl_journal_inspect, 1, expected);
    assert_says(world, ctl_journal_inspect, 1, "\n1 problem: see");
}

static void a_file_cut_off_or_set_aside_is_found(void **state)
{
    struct world *world = *state;
    char path[256], aside[300], name[SEGMENT_NAME_MAX];

    abandon(world);
    segment_name(name, world->segment, "alj");
    snprintf(path, sizeof(path), "%s/%s", world->dir, name);
    assert_int_equal(truncate(path, 32768), 0);
    assert_says(world, ctl_journal_verify, 1, "offset 32768: the file ends here, not at 65536");
    assert_says(world, ctl_journal_inspect, 1, "\n1 problem: see");
    snprintf(aside, sizeof(aside), "%s.corrupt", path);
    assert_int_equal(rename(path, aside), 0);
    assert_says(world, ctl_journal_verify, 1, "set aside as ");
    assert_says(world, ctl_journal_inspect, 1, "\n1 problem: see");
}

static void a_record_that_was_never_finished_is_no_problem(void **state)
{
    struct world *world = *state;

    atomic_store(&world->records[RECORDS - 1]->written, 0);
    assert_says(world, ctl_journal_verify, 0, " 19 records, 0 problems\n");
    atomic_store(&world->records[RECORDS - 1]->written, RECORD_LIVE);
}

static void a_broken_insert_id_of_a_pending_record_is_found(void **state)
{
    struct world *world = *state;
    /* Of the third record. */
    const uint64_t pending = SEGMENT_HEADER_BYTES + 2 * sizeof(struct record_mark);

    abandon(world);
    for (size_t at = 0; at < sizeof(uint64_t); at++) {
        flip(world, pending + offsetof(struct record_mark, insert_id) + at);
        assert_says(world, ctl_journal_verify, 1,
                    "record does not match the check of its insert id");
        assert_says(world, ctl_journal_verify, 1, " 20 records, 1 problem\n");
        flip(world, pending + offsetof(struct record_mark, insert_id) + at);
    }
    /* Of a finished one nobody asks it. */
    flip(world, SEGMENT_HEADER_BYTES + offsetof(struct record_mark, insert_id));
    assert_says(world, ctl_journal_verify, 0, " 20 records, 0 problems\n");
}

static void what_is_no_journal_is_refused(void **state)
{
    (void)state;
    assert_int_equal(ctl_journal_inspect("/nowhere", (struct ctl_out){.file = stdout}), 1);
    assert_int_equal(ctl_journal_verify("/proc/self", (struct ctl_out){.file = stdout}), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_journal_in_use_is_inspected_and_whole),
        TEST(neither_command_changes_anything),
        TEST(every_flipped_bit_is_found_with_segment_and_offset),
        TEST(an_impossible_state_and_a_broken_header_are_found),
        TEST(a_file_cut_off_or_set_aside_is_found),
        TEST(a_record_that_was_never_finished_is_no_problem),
        TEST(a_broken_insert_id_of_a_pending_record_is_found),
        cmocka_unit_test(what_is_no_journal_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
