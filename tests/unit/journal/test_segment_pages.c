/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_segment_pages.c - when the journal takes huge pages, and that records outlive the change of
 * pages. Whether the file system has huge ones does not matter.
 */
#include "alloy/journal.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define SEGMENT ((size_t)16 << 20)
#define RECORD_BYTES ((size_t)8192)
/* Records that make a sync worth huge pages. */
#define MANY (((size_t)3 << 20) / 2 / RECORD_BYTES)

static const char *const stream_names[] = {"orders"};
static char error[JOURNAL_ERROR_MAX];
static char text[RECORD_BYTES];
static struct journal *journal;
static struct journal_writer *writer;
static struct record *records[4 * MANY];
static size_t record_count;
static size_t synced_bytes; /* by the last sync */
static uint64_t now_ms;

static int set_up(void **state)
{
    (void)state;
    memset(text, 'x', sizeof(text));
    record_count = 0;
    now_ms = 0;
    return make_folder("/tmp");
}

static int tear_down(void **state)
{
    (void)state;
    if (writer != NULL)
        journal_writer_destroy(writer);
    if (journal != NULL)
        journal_close(journal);
    writer = NULL;
    journal = NULL;
    return remove_folder();
}

static int sync_range(void *address, size_t length)
{
    synced_bytes = length;
    return msync(address, length, MS_SYNC);
}

static void open_with(const char *dir, enum journal_sync sync)
{
    const struct journal_options options = {
        .dir = dir,
        .segment_bytes = SEGMENT,
        .max_bytes = 4 * SEGMENT,
        .sync = sync,
        .sync_range = sync_range,
        .writer_count = 1,
        .stream_names = stream_names,
        .stream_count = 1,
    };

    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
    writer = journal_writer_create(journal);
    assert_non_null(writer);
}

static void put(size_t count)
{
    const size_t bytes = RECORD_BYTES;

    for (; count > 0; count--) {
        const size_t left = RECORD_BYTES - sizeof(struct record) - 1;
        const struct journal_entry entry = {
            .text = {text, left}, .id = {text, 5}, .id_verbatim = true};

        /* So that each differs from the others. */
        memcpy(text, &record_count, sizeof(record_count));
        assert_int_equal(journal_writer_reserve(writer, &bytes, 1), 0);
        records[record_count++] = journal_writer_append(writer, &entry, now_ms);
    }
}

static void maintain(void)
{
    now_ms += 100;
    synced_bytes = 0;
    journal_maintain(journal, now_ms, 100);
}

/* The first sync tells that there is much; what is populated after it may be huge. */
static void put_much(void)
{
    put(MANY);
    maintain();
    put(MANY);
    maintain();
}

static struct segment *segment_now(void)
{
    return segment_of(records[record_count - 1], journal_segments(journal)->align);
}

static void expect_records(void)
{
    for (size_t i = 0; i < record_count; i++) {
        assert_int_equal(records[i]->state, RECORD_LIVE);
        assert_memory_equal(records[i]->body, &i, sizeof(i));
        assert_int_equal(records[i]->body[RECORD_BYTES - sizeof(struct record) - 1], '\n');
    }
}

static void pages_are_huge_while_syncs_have_much_to_write(void **state)
{
    (void)state;
    open_with(folder, JOURNAL_SYNC_INTERVAL);
    put(1);
    maintain();
    assert_int_equal(segment_now()->huge_end, 0);
    put_much();
    assert_int_equal(segment_now()->huge_end % SEGMENT_STEP, 0);
    assert_true(segment_now()->huge_end > segment_now()->cursor);
    assert_true(segment_now()->populated >= segment_now()->huge_end);
    expect_records();
}

static void they_are_small_again_when_syncs_have_little_to_write(void **state)
{
    size_t end;

    (void)state;
    open_with(folder, JOURNAL_SYNC_INTERVAL);
    put_much();
    end = segment_now()->huge_end;
    assert_true(end > 0);
    put(1);
    maintain();
    maintain();
    assert_int_equal(segment_now()->huge_end, 0);
    /* The huge pages that are not filled yet were synced before they were given up. */
    assert_int_equal(synced_bytes, end - segment_now()->cursor / SEGMENT_STEP * SEGMENT_STEP);
    assert_true(segment_now()->populated > segment_now()->cursor);
    put(MANY / 2);
    expect_records();
}

static void they_are_huge_again_when_there_is_much(void **state)
{
    (void)state;
    open_with(folder, JOURNAL_SYNC_INTERVAL);
    put(1);
    maintain();
    maintain();
    assert_int_equal(segment_now()->huge_end, 0);
    put_much();
    assert_true(segment_now()->huge_end > segment_now()->cursor);
    expect_records();
}

static void a_pause_changes_nothing(void **state)
{
    size_t end;

    (void)state;
    open_with(folder, JOURNAL_SYNC_INTERVAL);
    put_much();
    end = segment_now()->huge_end;
    maintain();
    maintain();
    assert_int_equal(segment_now()->huge_end, end);
    assert_int_equal(synced_bytes, 0);
}

static void without_syncs_they_are_huge_until_somebody_asks_for_one(void **state)
{
    (void)state;
    open_with(folder, JOURNAL_SYNC_NEVER);
    put(MANY);
    maintain();
    assert_true(segment_now()->huge_end > segment_now()->cursor);
    put(1);
    assert_int_equal(journal_sync_appended(journal), 0);
    maintain();
    assert_int_equal(segment_now()->huge_end, 0);
    put(MANY);
    maintain();
    assert_int_equal(segment_now()->huge_end, 0);
    /* A second or two later nobody has asked any more. */
    now_ms += 2000;
    maintain();
    now_ms += 2000;
    maintain();
    put(MANY);
    maintain();
    assert_true(segment_now()->huge_end > 0);
    expect_records();
}

static void with_a_sync_for_each_request_they_never_are(void **state)
{
    (void)state;
    open_with(folder, JOURNAL_SYNC_ALWAYS);
    for (int i = 0; i < 3; i++) {
        put(MANY);
        assert_int_equal(journal_writer_sync(writer), 0);
        maintain();
        assert_int_equal(segment_now()->huge_end, 0);
    }
    expect_records();
}

static void *make_small_again_and_again(void *arg)
{
    struct segment *segment = arg;

    for (int i = 0; i < 50; i++) {
        segment->huge_end = segment->size;
        (void)msync(segment->base, segment->size, MS_SYNC);
        segment_make_small(segment, 0);
        segment_populate(segment, segment->size, i % 2 == 0);
    }
    return NULL;
}

static void a_writer_meanwhile_loses_nothing(void **state)
{
    pthread_t janitor;

    (void)state;
    open_with(folder, JOURNAL_SYNC_NEVER);
    put(1);
    assert_int_equal(pthread_create(&janitor, NULL, make_small_again_and_again, segment_now()), 0);
    while (record_count < ARRAY_LEN(records))
        put(1);
    assert_int_equal(pthread_join(janitor, NULL), 0);
    expect_records();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(pages_are_huge_while_syncs_have_much_to_write),
        TEST(they_are_small_again_when_syncs_have_little_to_write),
        TEST(they_are_huge_again_when_there_is_much),
        TEST(a_pause_changes_nothing),
        TEST(without_syncs_they_are_huge_until_somebody_asks_for_one),
        TEST(with_a_sync_for_each_request_they_never_are),
        TEST(a_writer_meanwhile_loses_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
