/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_journal_age.c - the oldest event that is pending, compared with a list of all that are.
 */
#include "alloy/journal.h"

#include "alloy/recover.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <string.h>

#define SEGMENT ((size_t)1 << 20) /* four blocks */
#define STREAMS 3
#define PENDING_MAX 4000

static const char *const stream_names[STREAMS] = {"orders", "clicks", "views"};
static char error[JOURNAL_ERROR_MAX];
static char text[20000];
static struct record *pending[PENDING_MAX];
static size_t pending_count;
static uint64_t now_ms;

static int set_up(void **state)
{
    (void)state;
    memset(text, 'x', sizeof(text));
    pending_count = 0;
    now_ms = 1000;
    return make_folder("/dev/shm");
}

static int tear_down(void **state)
{
    (void)state;
    return remove_folder();
}

static struct journal *open_journal(const char *dir, uint64_t segments)
{
    const struct journal_options options = {
        .dir = dir,
        .segment_bytes = SEGMENT,
        .max_bytes = segments * SEGMENT,
        .sync = JOURNAL_SYNC_NEVER,
        .writer_count = 2,
        .stream_names = stream_names,
        .stream_count = STREAMS,
    };
    struct journal *journal;

    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
    return journal;
}

static void put(struct journal_writer *writer, size_t stream, size_t length, uint64_t received_ms)
{
    const struct journal_entry entry = {
        .text = {text, length}, .id = {text, 8}, .id_verbatim = true, .stream = (uint16_t)stream};
    const size_t bytes = journal_entry_bytes(&entry);

    assert_int_equal(journal_writer_reserve(writer, &bytes, 1), 0);
    assert_true(pending_count < PENDING_MAX);
    pending[pending_count++] = journal_writer_append(writer, &entry, received_ms);
}

static void finish(struct journal *journal, size_t i)
{
    journal_finish(journal, &pending[i], 1, RECORD_INSERTED);
    pending[i] = pending[--pending_count];
}

static void check(struct journal *journal)
{
    for (size_t stream = 0; stream < STREAMS; stream++) {
        uint64_t expected = 0;

        for (size_t i = 0; i < pending_count; i++)
            if (pending[i]->stream == stream &&
                (expected == 0 || pending[i]->received_ms < expected))
                expected = pending[i]->received_ms;
        assert_int_equal(journal_oldest_ms(journal, stream), expected);
    }
}

static void see(void *arg, struct record *record)
{
    (void)arg;
    if (record_state(record) == RECORD_LIVE)
        pending[pending_count++] = record;
}

static void an_empty_journal_has_no_oldest_event(void **state)
{
    struct journal *journal = open_journal(folder, 8);

    (void)state;
    check(journal);
    journal_close(journal);
}

/* Two writers take turns, so their segments overlap in time. Now and then all of one stream, or all
 * of a time, goes. */
static void churn(struct journal *journal, unsigned *seed, size_t rounds)
{
    struct journal_writer *writers[] = {journal_writer_create(journal),
                                        journal_writer_create(journal)};

    for (size_t round = 0; round < rounds; round++) {
        const size_t count = (size_t)rand_r(seed) % 60;

        for (size_t i = 0; i < count && pending_count < PENDING_MAX; i++)
            put(writers[rand_r(seed) % 2], (size_t)rand_r(seed) % STREAMS,
                8 + (size_t)rand_r(seed) % (rand_r(seed) % 9 == 0 ? 19000 : 900),
                now_ms += (uint64_t)(rand_r(seed) % 3));
        for (size_t i = (size_t)rand_r(seed) % 60; i > 0 && pending_count > 0; i--)
            finish(journal, (size_t)rand_r(seed) % pending_count);
        while (pending_count > 500 || (round % 40 == 39 && pending_count > 0))
            finish(journal, 0);
        check(journal);
        journal_maintain(journal, round * 1000, 100);
    }
    journal_writer_destroy(writers[0]);
    journal_writer_destroy(writers[1]);
}

static void the_oldest_is_found_whatever_comes_and_goes(const char *dir)
{
    unsigned seed = 7;
    struct journal *journal = open_journal(dir, 64);

    churn(journal, &seed, 400);
    while (pending_count > 0)
        finish(journal, (size_t)rand_r(&seed) % pending_count);
    check(journal);
    journal_close(journal);
}

static void the_oldest_is_found_in_files(void **state)
{
    (void)state;
    the_oldest_is_found_whatever_comes_and_goes(folder);
}

static void the_oldest_is_found_in_memory(void **state)
{
    (void)state;
    the_oldest_is_found_whatever_comes_and_goes(NULL);
}

static void events_of_an_earlier_life_keep_their_age(void **state)
{
    unsigned seed = 11;
    struct recover_stats stats;
    struct journal *journal = open_journal(folder, 64);
    struct journal_writer *writer;

    (void)state;
    churn(journal, &seed, 39);
    writer = journal_writer_create(journal);
    for (size_t i = 0; i < 200; i++)
        put(writer, i % STREAMS, 1000, ++now_ms);
    journal_writer_destroy(writer);
    journal_close(journal);

    journal = open_journal(folder, 64);
    pending_count = 0;
    if (recover_run(journal, see, NULL, &stats, error) != 0)
        fail_msg("%s", error);
    journal_adopted_all(journal);
    assert_true(pending_count >= 200);
    check(journal);
    churn(journal, &seed, 45);
    journal_close(journal);
}

/* Copies do not lie in the order in which their events were received. */
static void a_moved_event_keeps_its_age(void **state)
{
    struct journal *journal = open_journal(folder, 6);
    struct journal_writer *writer = journal_writer_create(journal);

    (void)state;
    while (journal_bytes(journal) < 5 * SEGMENT)
        for (size_t i = 0; i < 50; i++) {
            put(writer, i % STREAMS, 3000, ++now_ms);
            if (i % 25 != 0)
                finish(journal, pending_count - 1);
        }
    check(journal);
    for (size_t round = 1; round < 4; round++)
        journal_maintain(journal, round * 10000, 100);
    assert_true(journal_wants_vacating(journal));
    for (size_t i = pending_count; i-- > 0;)
        if (journal_vacating(journal, pending[i]))
            assert_int_equal(journal_move(journal, &pending[i], 1), 1);
    assert_true(pending[0]->copies > 0);
    check(journal);
    while (pending_count > 0) {
        finish(journal, 0);
        check(journal);
    }
    journal_writer_destroy(writer);
    journal_close(journal);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_empty_journal_has_no_oldest_event), TEST(the_oldest_is_found_in_files),
        TEST(the_oldest_is_found_in_memory),        TEST(events_of_an_earlier_life_keep_their_age),
        TEST(a_moved_event_keeps_its_age),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
