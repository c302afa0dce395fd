/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_buried.c - which lines of a dead-letter folder belong to records that a journal still holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/buried.h"
#include "alloy/log.h"

#define RECEIVED_MS 1769860800000ull

struct world {
    char journal_dir[64];
    char dir[64];
    struct journal *journal; /* of a second life */
    uint64_t instance_id;
    uint64_t lsns[3]; /* LIVE */
};

static const struct journal_options base_options = {
    .segment_bytes = 65536,
    .max_bytes = 1 << 20,
    .sync = JOURNAL_SYNC_NEVER,
    .writer_count = 1,
    .stream_names = (const char *const[]){"a"},
    .stream_count = 1,
};

static void open_journal(struct world *world)
{
    struct journal_options options = base_options;
    char error[JOURNAL_ERROR_MAX];

    options.dir = world->journal_dir;
    assert_int_equal(journal_open(&world->journal, &options, error), 0);
}

/* Leaves three LIVE records behind. */
static void live_once(struct world *world)
{
    struct journal_writer *writer;

    open_journal(world);
    world->instance_id = journal_instance_id(world->journal);
    writer = journal_writer_create(world->journal);
    for (int i = 0; i < 3; i++) {
        struct journal_entry entry = {
            .text = {"{\"id\":\"1\"}", 10}, .id = {"1", 1}, .hash = {1, (uint64_t)i}};
        size_t size = journal_entry_bytes(&entry);

        assert_int_equal(journal_writer_reserve(writer, &size, 1), 0);
        world->lsns[i] = journal_writer_append(writer, &entry, RECEIVED_MS)->lsn;
    }
    journal_writer_destroy(writer);
    journal_close(world->journal);
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof(*world));

    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    strcpy(world->journal_dir, "/tmp/test_buried.XXXXXX");
    strcpy(world->dir, "/tmp/test_buried.XXXXXX");
    assert_non_null(mkdtemp(world->journal_dir));
    assert_non_null(mkdtemp(world->dir));
    live_once(world);
    open_journal(world);
    *state = world;
    return 0;
}

static void remove_folder(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;

    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(path);
}

static int teardown(void **state)
{
    struct world *world = *state;

    journal_close(world->journal);
    remove_folder(world->journal_dir);
    remove_folder(world->dir);
    free(world);
    return 0;
}

/* Appends a line of a record to a file last written to at modified_s. */
static void put(struct world *world, const char *name, uint64_t instance_id, uint64_t lsn,
                time_t modified_s)
{
    const struct timespec times[2] = {{.tv_sec = modified_s}, {.tv_sec = modified_s}};
    char path[256];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", world->dir, name);
    file = fopen(path, "a");
    fprintf(file, "{\"lsn\":\"%016" PRIx64 "%016" PRIx64 "\",\"stream\":\"a\",\"event\":{}}\n",
            instance_id, lsn);
    fclose(file);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

#define NOW_S ((time_t)(RECEIVED_MS / 1000 + 60))

static void lines_of_this_journal_are_found_in_files_of_any_state(void **state)
{
    struct world *world = *state;
    struct buried buried;

    put(world, "a-1.ndjson", world->instance_id, world->lsns[0], NOW_S);
    put(world, "a-1.ndjson", world->instance_id + 1, world->lsns[1], NOW_S);
    put(world, "a-1.ndjson", world->instance_id, 1, NOW_S); /* of a segment that is gone */
    put(world, "a-0.ndjson.replayed", world->instance_id, world->lsns[2], NOW_S);
    assert_int_equal(buried_read(&buried, world->dir, world->journal), 0);
    assert_int_equal(buried.count, 2);
    assert_true(buried_has(&buried, world->lsns[0]));
    assert_false(buried_has(&buried, world->lsns[1]));
    assert_true(buried_has(&buried, world->lsns[2]));
    buried_free(&buried);
    assert_false(buried_has(&buried, world->lsns[0]));
}

static void files_older_than_the_oldest_record_are_not_read(void **state)
{
    struct world *world = *state;
    struct buried buried;

    put(world, "a-1.ndjson", world->instance_id, world->lsns[0], NOW_S - 3 * 3600);
    put(world, "a-2.ndjson", world->instance_id, world->lsns[1], NOW_S - 1800); /* clocks are set */
    assert_int_equal(buried_read(&buried, world->dir, world->journal), 0);
    assert_int_equal(buried.count, 1);
    assert_true(buried_has(&buried, world->lsns[1]));
    buried_free(&buried);
}

static void many_lines_are_sorted(void **state)
{
    struct world *world = *state;
    struct buried buried;

    for (uint64_t i = 0; i < 1000; i++)
        put(world, "a-1.ndjson", world->instance_id, world->lsns[0] + i * 7919 % 1000 * 8, NOW_S);
    assert_int_equal(buried_read(&buried, world->dir, world->journal), 0);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_true(buried_has(&buried, world->lsns[0] + i * 8));
        assert_false(buried_has(&buried, world->lsns[0] + i * 8 + 1));
    }
    buried_free(&buried);
}

static void no_folder_and_an_empty_journal_are_no_problem(void **state)
{
    struct world *world = *state;
    struct journal_options options = base_options;
    char error[JOURNAL_ERROR_MAX];
    struct journal *memory;
    struct buried buried;

    assert_int_equal(buried_read(&buried, "/tmp/there/is/no/such", world->journal), 0);
    assert_false(buried_has(&buried, world->lsns[0]));
    assert_int_equal(buried_read(&buried, "/dev/null", world->journal), -ENOTDIR);
    assert_int_equal(journal_open(&memory, &options, error), 0);
    assert_int_equal(buried_read(&buried, "/dev/null", memory), 0);
    journal_close(memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lines_of_this_journal_are_found_in_files_of_any_state),
        TEST(files_older_than_the_oldest_record_are_not_read),
        TEST(many_lines_are_sorted),
        TEST(no_folder_and_an_empty_journal_are_no_problem),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
