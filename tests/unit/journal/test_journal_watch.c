/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_journal_watch.c - a folder, or files in it, that somebody removes while they are in use.
 */
#include "alloy/journal.h"
#include "journal_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Looks for what was removed, one second after another. */
static bool removed(struct journal *journal)
{
    static uint64_t now_ms;

    journal_maintain(journal, now_ms += 1000, 100);
    return journal_removed(journal);
}

static void a_removed_folder_is_noticed_and_refuses_until_it_is_back(void **state)
{
    static const char *const names[] = {"", "/lock"};
    static const enum journal_sync modes[] = {JOURNAL_SYNC_NEVER, JOURNAL_SYNC_ALWAYS};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct journal_options options = options_of(folder, 8);
        struct journal *journal;
        struct journal_writer *writer;
        char from[96], to[112];
        const size_t size = 400;

        options.sync = modes[i];
        journal = open_with(&options);
        writer = journal_writer_create(journal);
        assert_non_null(put(writer, size));
        assert_false(removed(journal));
        snprintf(from, sizeof(from), "%s%s", folder, names[i]);
        snprintf(to, sizeof(to), "%s.away", from);
        assert_int_equal(rename(from, to), 0);
        assert_true(removed(journal));
        assert_true(journal_full(journal));
        assert_false(journal_failed(journal));
        assert_int_equal(journal_writer_reserve(writer, &size, 1), -EIO);
        assert_int_equal(rename(to, from), 0);
        assert_false(removed(journal));
        assert_int_equal(journal_writer_reserve(writer, &size, 1), 0);
        append(writer, size);
        journal_writer_destroy(writer);
        journal_close(journal);
    }
}

static void a_removed_segment_is_noticed_and_refuses_while_it_is_needed(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *record = put(writer, 400);
    char name[SEGMENT_NAME_MAX], path[128];
    const size_t size = ROOM;

    (void)state;
    segment_name(name, (uint32_t)(record->lsn >> 32), "alj");
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
    assert_true(removed(journal));
    assert_int_equal(journal_writer_reserve(writer, &size, 1), -EIO);
    /* Another file of its name is not the one that is mapped. */
    close(open(path, O_WRONLY | O_CREAT, 0600));
    assert_true(removed(journal));
    journal_finish(journal, &record, 1, RECORD_INSERTED);
    journal_writer_destroy(writer);
    journal_maintain(journal, 0, 0);
    assert_false(removed(journal));
    /* The instance file can be written anew. */
    snprintf(path, sizeof(path), "%s/instance", folder);
    assert_int_equal(unlink(path), 0);
    assert_false(removed(journal));
    assert_int_equal(access(path, F_OK), 0);
    journal_close(journal);
}

static void a_removed_spare_is_noticed_before_events_go_into_it(void **state)
{
    struct journal_options options = options_of(folder, 8);
    struct journal *journal = open_with(&options);
    struct journal_writer *writer = journal_writer_create(journal);
    struct record *record = put(writer, 400);
    const uint32_t in_use = (uint32_t)(record->lsn >> 32);
    size_t spares = 0;

    (void)state;
    assert_false(removed(journal));
    for (uint32_t number = 1; number < in_use + 64; number++) {
        char name[SEGMENT_NAME_MAX], path[128];

        segment_name(name, number, "alj");
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        spares += number != in_use && unlink(path) == 0;
    }
    assert_true(spares > 0);
    assert_true(removed(journal));
    journal_writer_destroy(writer);
    journal_close(journal);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up_folder, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_removed_folder_is_noticed_and_refuses_until_it_is_back),
        TEST(a_removed_segment_is_noticed_and_refuses_while_it_is_needed),
        TEST(a_removed_spare_is_noticed_before_events_go_into_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
