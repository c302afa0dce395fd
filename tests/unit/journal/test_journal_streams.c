/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_journal_streams.c - a stream that is added while the journal is in use.
 */
#include "alloy/journal.h"

#include "alloy/clock.h"
#include "journal_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define OLD 1
#define NEW 2
#define SIZE 400
#define LONG_MS 20000

static void reserve(struct journal_writer *writer, size_t count)
{
    size_t sizes[8];

    for (size_t i = 0; i < count; i++)
        sizes[i] = SIZE;
    assert_int_equal(journal_writer_reserve(writer, sizes, count), 0);
}

static struct record *append_to(struct journal_writer *writer, unsigned stream)
{
    struct journal_entry entry = entry_of(SIZE);

    entry.stream = (uint16_t)stream;
    return journal_writer_append(writer, &entry, 1000);
}

static struct record *put_to(struct journal_writer *writer, unsigned stream)
{
    reserve(writer, 1);
    return append_to(writer, stream);
}

static const struct segment_header *header_of(const struct journal *journal,
                                              const struct record *record)
{
    return (const struct segment_header *)(const void *)segment_of(record,
                                                                   journal_segments(journal)->align)
        ->base;
}

/* How many segment files there are that name so many streams. */
static size_t files_that_name(unsigned streams)
{
    char pattern[96];
    glob_t found;
    size_t count = 0;

    snprintf(pattern, sizeof(pattern), "%s/segment-*", folder);
    if (glob(pattern, 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct segment_header header;
        FILE *file = fopen(found.gl_pathv[i], "rb");

        assert_non_null(file);
        assert_int_equal(fread(&header, sizeof(header), 1, file), 1);
        fclose(file);
        count += header.stream_count == streams;
    }
    globfree(&found);
    return count;
}

static void a_record_of_a_new_stream_lies_where_the_stream_has_a_name(void **state)
{
    const char *const dirs[] = {folder, NULL};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct journal *journal = open_journal(dirs[i], 8);
        struct journal_writer *writer = journal_writer_create(journal);
        const struct record *before = put_to(writer, OLD);
        const struct record *record, *after;

        journal_add_stream(journal, "late");
        record = put_to(writer, NEW);
        after = put_to(writer, OLD);
        assert_int_equal(header_of(journal, before)->stream_count, 2);
        assert_int_equal(header_of(journal, record)->stream_count, 3);
        assert_string_equal(header_of(journal, record)->streams[NEW], "late");
        assert_string_equal(header_of(journal, record)->streams[OLD], "clicks");
        assert_ptr_equal(header_of(journal, after), header_of(journal, record));
        assert_int_equal(journal_live(journal, NEW), 1);
        assert_int_equal(journal_live(journal, OLD), 2);
        journal_writer_destroy(writer);
        journal_close(journal);
    }
}

static void several_are_added_one_by_one(void **state)
{
    struct journal *journal = open_journal(folder, 70);
    struct journal_writer *writer = journal_writer_create(journal);
    char name[16];

    (void)state;
    for (unsigned stream = NEW; stream < SEGMENT_STREAMS_MAX; stream++) {
        const struct record *record;

        snprintf(name, sizeof(name), "stream%u", stream);
        journal_add_stream(journal, name);
        record = put_to(writer, stream);
        assert_string_equal(header_of(journal, record)->streams[stream], name);
        assert_int_equal(journal_live(journal, stream), 1);
    }
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void what_was_reserved_before_goes_where_it_was_planned(void **state)
{
    struct journal *journal = open_journal(folder, 8);
    struct journal_writer *writer = journal_writer_create(journal);
    const struct record *first, *planned, *late;

    (void)state;
    first = put_to(writer, OLD);
    reserve(writer, 2);
    journal_add_stream(journal, "late");
    reserve(writer, 1);
    planned = append_to(writer, OLD);
    assert_ptr_equal(header_of(journal, planned), header_of(journal, first));
    late = append_to(writer, NEW);
    assert_string_equal(header_of(journal, late)->streams[NEW], "late");
    assert_ptr_equal(header_of(journal, append_to(writer, OLD)), header_of(journal, late));
    journal_writer_destroy(writer);
    journal_close(journal);
}

static void spares_that_do_not_name_it_are_replaced(void **state)
{
    struct journal *journal = open_journal(folder, 8);
    size_t spares;

    (void)state;
    journal_maintain(journal, clock_mono_ms(), 0);
    spares = files_that_name(2);
    assert_true(spares > 0);
    journal_wait(journal, 0);
    journal_add_stream(journal, "late");
    /* Whoever makes them is woken for it. */
    const uint64_t begun_ms = clock_mono_ms();

    journal_wait(journal, LONG_MS);
    assert_true(clock_mono_ms() < begun_ms + LONG_MS);
    journal_maintain(journal, clock_mono_ms(), 0);
    assert_int_equal(files_that_name(2), 0);
    assert_int_equal(files_that_name(3), spares);
    journal_close(journal);
}

static void spares_that_do_not_name_it_leave_their_room(void **state)
{
    struct journal *journal = open_journal(folder, 2);
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *record;

    (void)state;
    assert_non_null(put_to(writer, OLD));
    journal_maintain(journal, clock_mono_ms(), 0);
    assert_int_equal(files_that_name(2), 2);
    journal_add_stream(journal, "late");
    record = put_to(writer, NEW);
    assert_int_equal(header_of(journal, record)->stream_count, 3);
    journal_finish(journal, &record, 1, RECORD_INSERTED);
    assert_int_equal(journal_live(journal, NEW), 0);
    journal_writer_destroy(writer);
    journal_close(journal);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_folder, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_of_a_new_stream_lies_where_the_stream_has_a_name),
        TEST(several_are_added_one_by_one),
        TEST(what_was_reserved_before_goes_where_it_was_planned),
        TEST(spares_that_do_not_name_it_are_replaced),
        TEST(spares_that_do_not_name_it_leave_their_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
