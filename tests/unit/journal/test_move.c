/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_move.c - LIVE records that are moved and keep their LSN, and what a crash leaves of them.
 */
#include "alloy/journal.h"

#include "alloy/journal_dir.h"
#include "alloy/recover.h"
#include "mark_place.h"
#include "old_segment.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT SEGMENT_BYTES_MIN
#define ROOM (SEGMENT - segment_begin(SEGMENT))
#define BYTES 1024
#define IN_SEGMENT (ROOM / BYTES)
#define OLD_MS 100000

static const char *const stream_names[] = {"orders", "clicks"};
static char error[JOURNAL_ERROR_MAX];
static char text[BYTES];
static uint64_t now_ms = 1;
static int sync_calls, sync_fails_at; /* 0: never */
static struct {
    const char *from, *to;
} synced[64]; /* by the first calls */

/* What recovery visited. */
static struct record *seen[100000];
static size_t seen_count;
static struct recover_stats stats;

static int set_up(void **state)
{
    (void)state;
    memset(text, 'x', sizeof(text));
    sync_calls = sync_fails_at = 0;
    return make_folder("/dev/shm");
}

static int tear_down(void **state)
{
    (void)state;
    return remove_folder();
}

static int count_sync(void *address, size_t length)
{
    if (sync_calls < (int)ARRAY_LEN(synced)) {
        synced[sync_calls].from = address;
        synced[sync_calls].to = synced[sync_calls].from + length;
    }
    return ++sync_calls == sync_fails_at ? -EIO : 0;
}

static struct journal *open_sized(const char *dir, uint64_t segments, size_t segment_bytes)
{
    const struct journal_options options = {
        .dir = dir,
        .segment_bytes = segment_bytes,
        .max_bytes = segments * segment_bytes,
        .sync = JOURNAL_SYNC_ALWAYS,
        .writer_count = 1,
        .stream_names = stream_names,
        .stream_count = 2,
        .sync_range = count_sync,
    };
    struct journal *journal;

    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
    return journal;
}

static struct journal *open_journal(const char *dir, uint64_t segments)
{
    return open_sized(dir, segments, SEGMENT);
}

/* A record of BYTES whose event begins with its number. */
static struct record *put(struct journal_writer *writer, size_t number)
{
    struct journal_entry entry = {.text = {text, BYTES - sizeof(struct record) - 1},
                                  .id = {text, 8},
                                  .id_verbatim = true,
                                  .hash = {number, 1},
                                  .stream = (uint16_t)(number % 2)};
    const size_t bytes = BYTES;

    snprintf(text, 9, "%08zu", number);
    text[8] = 'x';
    if (journal_writer_reserve(writer, &bytes, 1) != 0)
        return NULL;
    return journal_writer_append(writer, &entry, 1000 + number);
}

/* Fills segments, and leaves the first of each, and with two the second too, LIVE. */
static void fill(struct journal *journal, struct record **live, size_t segments, size_t each)
{
    struct journal_writer *writer = journal_writer_create(journal);

    for (size_t i = 0; i < segments * IN_SEGMENT; i++) {
        struct record *record = put(writer, i);

        assert_non_null(record);
        if (i % IN_SEGMENT < each)
            live[i / IN_SEGMENT * each + i % IN_SEGMENT] = record;
        else
            journal_finish(journal, &record, 1, RECORD_INSERTED);
    }
    assert_int_equal(journal_writer_sync(writer), 0);
    journal_writer_destroy(writer);
}

static void maintain(struct journal *journal)
{
    journal_maintain(journal, now_ms += OLD_MS, 0);
}

static void see(void *arg, struct record *record)
{
    (void)arg;
    if (record_state(record) == RECORD_LIVE)
        seen[seen_count++] = record;
}

static void recover(struct journal *journal)
{
    seen_count = 0;
    if (recover_run(journal, see, NULL, &stats, error) != 0)
        fail_msg("%s", error);
    journal_adopted_all(journal);
}

static void check_record(const struct record *record, size_t number)
{
    char expected[9];

    snprintf(expected, sizeof(expected), "%08zu", number);
    assert_memory_equal(record->body, expected, 8);
    assert_memory_equal(record_id(record), expected, 8);
    assert_int_equal(record->received_ms, 1000 + number);
    assert_int_equal(record->hash.lo, number);
    assert_int_equal(record->stream, number % 2);
}

/* How many LIVE records of lsn there are in the files; all records have BYTES. */
static size_t count_live(uint64_t lsn)
{
    size_t count = 0;

    for (uint32_t number = 1; number < 64; number++) {
        char name[SEGMENT_NAME_MAX], path[128];
        struct record record;
        uint16_t word;
        int fd;

        segment_name(name, number, "alj");
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        for (size_t i = 0; fd >= 0 && i < IN_SEGMENT; i++) {
            const size_t offset = segment_begin(SEGMENT) + i * BYTES;
            const off_t mark = (off_t)mark_place(fd, offset);

            count += pread(fd, &record, sizeof(record), (off_t)offset) == sizeof(record) &&
                     record.magic == RECORD_MAGIC && record.lsn == lsn &&
                     pread(fd, &word, 2, mark + (off_t)offsetof(struct record_mark, state)) == 2 &&
                     (word == 0 || word == RECORD_LIVE);
        }
        if (fd >= 0)
            close(fd);
    }
    return count;
}

static void bytes_follow_what_is_pending_and_a_record_keeps_its_name(const char *dir)
{
    struct journal *journal = open_journal(dir, 8);
    struct record *live[6];
    uint64_t lsns[6];

    fill(journal, live, 6, 1);
    maintain(journal);
    assert_true(journal_wants_vacating(journal) || journal_bytes(journal) == 6 * SEGMENT);
    maintain(journal);
    assert_true(journal_wants_vacating(journal));
    for (size_t i = 0; i < 6; i++) {
        lsns[i] = live[i]->lsn;
        assert_true(journal_vacating(journal, live[i]));
    }
    assert_int_equal(journal_stamp(journal, &live[2], 1, 1), 0);
    assert_int_equal(journal_move(journal, live, 6), 6);
    for (size_t i = 0; dir != NULL && i < 6; i++)
        assert_int_equal(count_live(lsns[i]), 1);
    maintain(journal);
    assert_int_equal(journal_bytes(journal), SEGMENT);
    assert_false(journal_wants_vacating(journal));
    assert_int_equal(journal_live(journal, 0) + journal_live(journal, 1), 6);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(live[i]->lsn, lsns[i]);
        check_record(live[i], i * IN_SEGMENT);
        assert_int_equal(record_insert_id(live[i]), i == 2 ? 1 : 0);
        assert_int_equal(journal_record_state(journal, lsns[i]), RECORD_LIVE);
    }
    journal_finish(journal, &live[0], 1, RECORD_DEAD);
    assert_int_equal(journal_record_state(journal, lsns[0]), RECORD_DEAD);
    assert_int_equal(journal_stamp(journal, live + 1, 1, 5), 0);
    if (dir == NULL) {
        for (size_t i = 1; i < 6; i++)
            journal_finish(journal, &live[i], 1, RECORD_INSERTED);
        maintain(journal);
        maintain(journal);
        assert_int_equal(journal_bytes(journal), 0);
        assert_int_equal(journal_record_state(journal, lsns[3]), 0);
        journal_close(journal);
        return;
    }
    journal_close(journal);

    journal = open_journal(dir, 8);
    recover(journal);
    assert_int_equal(stats.corrupt, 0);
    assert_int_equal(seen_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(seen[i]->lsn, lsns[i + 1]);
        check_record(seen[i], (i + 1) * IN_SEGMENT);
        assert_int_equal(record_insert_id(seen[i]), i == 0 ? 5 : i == 1 ? 1 : 0);
        assert_int_equal(journal_record_state(journal, lsns[i + 1]), RECORD_LIVE);
    }
    assert_int_equal(journal_record_state(journal, lsns[0]), RECORD_DEAD);
    for (size_t i = 0; i < 5; i++)
        journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
    maintain(journal);
    assert_int_equal(journal_record_state(journal, lsns[4]), 0);
    assert_int_equal(journal_bytes(journal), 0);
    /* Who could not note a copy does not know that it is gone. */
    journal_lack_copies(journal);
    assert_int_equal(journal_record_state(journal, lsns[4]), -1);
    journal_close(journal);
}

static void bytes_follow_what_is_pending(void **state)
{
    (void)state;
    bytes_follow_what_is_pending_and_a_record_keeps_its_name(folder);
}

static void bytes_follow_what_is_pending_in_memory(void **state)
{
    (void)state;
    bytes_follow_what_is_pending_and_a_record_keeps_its_name(NULL);
}

static void nothing_is_vacated_while_there_is_room_or_no_gain(void **state)
{
    struct journal *journal = open_journal(folder, 16);
    struct record *live[64];
    size_t n;

    (void)state;
    fill(journal, live, 6, 1);
    maintain(journal);
    maintain(journal);
    assert_false(journal_wants_vacating(journal));
    assert_false(journal_vacating(journal, live[0]));
    assert_int_equal(journal_move(journal, live, 6), 0);
    for (size_t i = 0; i < 6; i++)
        journal_finish(journal, &live[i], 1, RECORD_INSERTED);
    maintain(journal);
    /* Most of these are LIVE: a copy would be as large. */
    fill(journal, live, 1, IN_SEGMENT / 2);
    journal_close(journal);
    journal = open_journal(folder, 2);
    recover(journal);
    maintain(journal);
    maintain(journal);
    n = seen_count;
    assert_int_equal(n, IN_SEGMENT / 2);
    assert_false(journal_wants_vacating(journal));
    /* And one alone, however little is in it, gains nothing. */
    for (size_t i = 1; i < n; i++)
        journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
    maintain(journal);
    assert_false(journal_wants_vacating(journal));
    journal_close(journal);
}

static void a_full_journal_moves_too_and_takes_events_again(void **state)
{
    struct journal *journal = open_journal(folder, 4);
    struct journal_writer *writer;
    struct record *live[4];
    const size_t size = BYTES;

    (void)state;
    fill(journal, live, 4, 1);
    writer = journal_writer_create(journal);
    assert_int_equal(journal_writer_reserve(writer, &size, 1), -ENOSPC);
    maintain(journal);
    assert_int_equal(journal_move(journal, live, 4), 4);
    maintain(journal);
    assert_int_equal(journal_bytes(journal), SEGMENT);
    assert_non_null(put(writer, 1));
    journal_writer_destroy(writer);
    journal_close(journal);
}

/* Segments of copies are segments like others. */
static void copies_are_copied_again(void **state)
{
    struct journal *journal = open_journal(folder, 8);
    struct record *live[3 * IN_SEGMENT];
    uint64_t lsns[3 * IN_SEGMENT];
    size_t count = 0;
    uint32_t most = 0;

    (void)state;
    for (size_t round = 0; round < 40; round++) {
        struct record **here = live + count;

        fill(journal, here, 3, 1);
        for (size_t i = 0; i < 3; i++)
            lsns[count++] = here[i]->lsn;
        while (maintain(journal), journal_wants_vacating(journal)) {
            for (size_t i = 0; i < count; i++)
                if (live[i] != NULL && journal_vacating(journal, live[i]))
                    (void)journal_move(journal, &live[i], 1);
        }
        /* All but every tenth of the older ones go. */
        for (size_t i = 0; i + 3 < count; i++)
            if (live[i] != NULL && i % 10 != 0) {
                journal_finish(journal, &live[i], 1, RECORD_INSERTED);
                live[i] = NULL;
            }
        assert_true(journal_bytes(journal) <= 9 * SEGMENT);
    }
    for (size_t i = 0; i < count; i++) {
        assert_true(live[i] == NULL || live[i]->lsn == lsns[i]);
        if (live[i] != NULL && live[i]->copies > most)
            most = live[i]->copies;
    }
    assert_true(most >= 2);
    journal_close(journal);
    journal = open_journal(folder, 8);
    recover(journal);
    for (size_t i = 0, j = 0; i < count; i++)
        if (live[i] != NULL) {
            for (j = 0; j < seen_count && seen[j]->lsn != lsns[i]; j++)
                continue;
            assert_true(j < seen_count);
        }
    journal_close(journal);
}

static void a_sync_that_fails_moves_nothing(void **state)
{
    (void)state;
    for (int fails = 1; fails <= 3; fails++) {
        struct journal *journal = open_journal(folder, 4);
        struct record *live[3], *before[3];

        fill(journal, live, 3, 1);
        maintain(journal);
        maintain(journal);
        memcpy(before, live, sizeof(live));
        sync_calls = 0;
        sync_fails_at = fails;
        /* The copies' marks, the copies, and the originals' marks, which are known to be in the
         * page cache at least. */
        assert_int_equal(journal_move(journal, live, 3), fails < 3 ? 0 : 3);
        sync_fails_at = 0;
        assert_true(journal_failed(journal));
        assert_int_equal(memcmp(before, live, sizeof(live)) == 0, fails < 3);
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(count_live(live[i]->lsn), 1);
        assert_int_equal(journal_move(journal, live, 3), 0);
        journal_finish(journal, &live[0], 1, RECORD_INSERTED);
        journal_close(journal);
        journal = open_journal(folder, 4);
        recover(journal);
        assert_int_equal(seen_count, 2);
        for (size_t i = 0; i < 2; i++)
            journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
        maintain(journal);
        journal_close(journal);
    }
}

/* The segments of an earlier life were larger. */
static void an_event_that_fits_no_segment_of_this_life_stays_where_it_is(void **state)
{
    static char large[SEGMENT];
    const struct journal_entry entry = {
        .text = {large, sizeof(large)}, .id = {large, 8}, .id_verbatim = true};
    const size_t size = journal_entry_bytes(&entry);
    struct journal *journal = open_sized(folder, 4, 4 * SEGMENT);
    struct journal_writer *writer = journal_writer_create(journal);
    size_t may_move = 0;

    (void)state;
    memset(large, 'y', sizeof(large));
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(journal_writer_reserve(writer, &size, 1), 0);
        (void)journal_writer_append(writer, &entry, 1);
        for (size_t k = 0; k < 3 * IN_SEGMENT; k++) {
            struct record *record = put(writer, k);
            if (k > 0)
                journal_finish(journal, &record, 1, RECORD_INSERTED);
        }
    }
    journal_writer_destroy(writer);
    journal_close(journal);
    journal = open_journal(folder, 8);
    recover(journal);
    assert_int_equal(seen_count, 4);
    maintain(journal);
    maintain(journal);
    assert_true(journal_wants_vacating(journal));
    for (size_t i = 0; i < seen_count; i++) {
        if (seen[i]->length > SEGMENT)
            assert_false(journal_vacating(journal, seen[i]));
        may_move += journal_vacating(journal, seen[i]);
    }
    assert_true(may_move > 0);
    journal_close(journal);
}

/* ---- what a crash can leave: states poked into the files ---- */

struct poke {
    uint16_t state; /* 0: it was never written completely */
    uint64_t insert_id;
    bool broken; /* not whole: the record cannot be believed */
};

static void poke_record(uint32_t number, size_t offset, const struct poke *poke)
{
    const uint64_t word = insert_id_seal(poke->insert_id) ^ (uint64_t)poke->broken << 63;
    const uint16_t written = poke->state == 0 ? 0 : RECORD_LIVE;
    char name[SEGMENT_NAME_MAX], path[128];
    off_t mark;
    int fd;

    segment_name(name, number, "alj");
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    mark = (off_t)mark_place(fd, offset);
    assert_int_equal(pwrite(fd, &written, 2, (off_t)(offset + offsetof(struct record, written))),
                     2);
    assert_int_equal(pwrite(fd, &poke->state, 2, mark + (off_t)offsetof(struct record_mark, state)),
                     2);
    assert_int_equal(pwrite(fd, &word, 8, mark + (off_t)offsetof(struct record_mark, insert_id)),
                     8);
    close(fd);
}

/* Of three records of one LSN, the original first; -1: the event is finished. */
static int expect(const struct poke pokes[3])
{
    int best = -2;

    for (int i = 0; i < 3; i++)
        if (pokes[i].state != RECORD_LIVE && pokes[i].state != RECORD_MOVED && pokes[i].state != 0)
            return -1;
    for (int i = 0; i < 3; i++)
        if (pokes[i].state == RECORD_LIVE && !pokes[i].broken &&
            (best < 0 || pokes[i].insert_id >= pokes[best].insert_id))
            best = i;
    return best < 0 ? -1 : best;
}

static void check_pokes(const uint32_t numbers[3], const size_t offsets[3],
                        const struct poke pokes[3])
{
    const uint64_t lsn = (uint64_t)numbers[0] << 32 | offsets[0];
    const int winner = expect(pokes);

    for (int i = 0; i < 3; i++)
        poke_record(numbers[i], offsets[i], &pokes[i]);
    /* Twice: what was decided once stands. */
    for (int life = 0; life < 2; life++) {
        struct journal *journal = open_journal(folder, 16);
        size_t found = 0;

        recover(journal);
        for (size_t i = 0; i < seen_count; i++)
            if (seen[i]->lsn == lsn) {
                found++;
                assert_int_equal(seen[i]->copies, (uint32_t)winner);
                assert_int_equal(record_insert_id(seen[i]), pokes[winner].insert_id);
            }
        assert_int_equal(found, winner >= 0);
        if (winner >= 0)
            assert_int_equal(journal_record_state(journal, lsn), RECORD_LIVE);
        else
            assert_int_not_equal(journal_record_state(journal, lsn), RECORD_LIVE);
        journal_close(journal);
    }
}

/* Vacates what is to be vacated, of the records given. */
static void vacate(struct journal *journal, struct record **records, size_t n)
{
    maintain(journal);
    maintain(journal);
    for (size_t i = 0; i < n; i++) {
        assert_true(journal_vacating(journal, records[i]));
        assert_int_equal(journal_move(journal, &records[i], 1), 1);
    }
}

static void of_several_records_of_one_lsn_one_is_believed(void **state)
{
    static const struct poke kinds[] = {
        {.state = RECORD_LIVE},      {RECORD_LIVE, 3, false},
        {RECORD_LIVE, 9, false},     {RECORD_INSERTED, 3, false},
        {.state = RECORD_DUPLICATE}, {.state = RECORD_MOVED},
        {RECORD_DEAD, 9, false},     {.state = 0},
    };
    struct journal *journal = open_journal(folder, 4);
    struct record *live[6], *others[2];
    uint32_t numbers[3];
    uint64_t kept_lsn;
    size_t offsets[3];

    (void)state;
    /* The second of each segment stays, and keeps it. */
    fill(journal, live, 3, 2);
    numbers[0] = (uint32_t)(live[0]->lsn >> 32);
    offsets[0] = (size_t)(live[0]->lsn & UINT32_MAX);
    others[0] = live[0];
    others[1] = live[2];
    kept_lsn = live[4]->lsn;
    vacate(journal, others, 2);
    /* Each segment keeps another record, so that it stays whatever is poked. */
    for (int i = 1; i < 3; i++) {
        const struct segment *segment = segment_of(others[0], SEGMENT);

        numbers[i] = segment->number;
        offsets[i] = segment_offset(segment, others[0]);
        if (i == 2)
            break;
        journal_close(journal);
        journal = open_journal(folder, 4);
        recover(journal);
        for (size_t j = 0; j < seen_count; j++)
            if (seen[j]->lsn == ((uint64_t)numbers[0] << 32 | offsets[0]))
                others[0] = seen[j];
            else if (seen[j]->lsn == kept_lsn)
                others[1] = seen[j];
        maintain(journal);
        maintain(journal);
        assert_true(journal_wants_vacating(journal));
        assert_int_equal(journal_move(journal, others, 2), 2);
    }
    journal_close(journal);
    for (size_t a = 0; a < ARRAY_LEN(kinds) - 1; a++)
        for (size_t b = 0; b < ARRAY_LEN(kinds); b++)
            for (size_t c = 0; c < ARRAY_LEN(kinds); c++) {
                const struct poke pokes[3] = {kinds[a], kinds[b], kinds[c]};

                check_pokes(numbers, offsets, pokes);
            }
    check_pokes(
        numbers, offsets,
        (struct poke[]){{RECORD_LIVE, 3, false}, {RECORD_LIVE, 9, true}, {RECORD_MOVED, 0, false}});
}

/* ---- kill -9 at any moment ---- */

struct shared {
    _Atomic uint64_t appended, finished; /* records with a smaller number */
    uint64_t lsns[1 << 16];
    _Atomic uint64_t kept[1 << 16]; /* 1: not finished on purpose */
};

/* Appends for ever; finishes all but every 100th, and moves those. */
static void live_until_killed(struct shared *shared)
{
    struct journal *journal = open_journal(folder, 16);
    struct journal_writer *writer = journal_writer_create(journal);
    static struct record *kept[1 << 16];
    size_t count = 0;

    for (size_t i = 0; i < ARRAY_LEN(shared->kept); i++) {
        struct record *record = put(writer, i);

        while (record == NULL) {
            maintain(journal);
            for (size_t j = 0; j < count; j++)
                if (journal_vacating(journal, kept[j]))
                    (void)journal_move(journal, &kept[j], 1);
            record = put(writer, i);
        }
        shared->lsns[i] = record->lsn;
        if (i % 100 == 0) {
            kept[count++] = record;
            shared->kept[i] = 1;
            atomic_store(&shared->appended, i + 1);
        } else {
            atomic_store(&shared->appended, i + 1);
            journal_finish(journal, &record, 1, RECORD_INSERTED);
        }
        atomic_store(&shared->finished, i + 1);
        if (i % 512 == 0)
            maintain(journal);
        if (journal_wants_vacating(journal)) {
            size_t n = 0, at[64];
            struct record *group[64];

            for (size_t j = 0; j < count && n < ARRAY_LEN(group); j++)
                if (journal_vacating(journal, kept[j])) {
                    at[n] = j;
                    group[n++] = kept[j];
                }
            (void)journal_move(journal, group, n);
            for (size_t j = 0; j < n; j++)
                kept[at[j]] = group[j];
        }
    }
    _exit(0);
}

static void nothing_is_lost_or_doubled_by_a_kill_at_any_moment(void **state)
{
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        struct journal *journal;
        pid_t child;

        memset(shared, 0, sizeof(*shared));
        child = fork();
        if (child == 0)
            live_until_killed(shared);
        usleep(20000 + round * 7919 % 60000);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        journal = open_journal(folder, 16);
        recover(journal);
        assert_int_equal(stats.corrupt, 0);
        for (size_t i = 0; i < seen_count; i++) {
            const size_t number = seen[i]->hash.lo;

            check_record(seen[i], number);
            if (number < shared->appended)
                assert_int_equal(seen[i]->lsn, shared->lsns[number]);
            /* Not one that was finished, and none twice. */
            assert_true(number >= shared->finished || shared->kept[number] == 1);
            if (number < ARRAY_LEN(shared->kept))
                shared->kept[number] = 2;
        }
        for (size_t i = 0; i < shared->appended; i++)
            assert_int_not_equal(shared->kept[i], 1);
        for (size_t i = 0; i < seen_count; i++)
            journal_finish(journal, &seen[i], 1, RECORD_INSERTED);
        maintain(journal);
        journal_close(journal);
    }
    munmap(shared, sizeof(*shared));
}

static bool was_synced(const void *address, int call)
{
    return (const char *)address >= synced[call].from && (const char *)address < synced[call].to;
}

/* Of an insert that was sent its rows must not come back without its id. */
static void a_copy_is_on_disk_with_its_insert_id_before_its_original_is_marked(void **state)
{
    struct journal *journal = open_journal(folder, 4);
    const uint64_t insert = journal_next_insert_id(journal);
    struct record *live[3], *before[3];

    (void)state;
    fill(journal, live, 3, 1);
    assert_int_equal(journal_stamp(journal, live, 3, insert), 0);
    maintain(journal);
    maintain(journal);
    memcpy(before, live, sizeof(live));
    sync_calls = 0;
    assert_int_equal(journal_move(journal, live, 3), 3);
    assert_int_equal(sync_calls, 3 + 2); /* the originals are in three segments */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(record_insert_id(live[i]), insert);
        assert_true(was_synced(&record_mark(live[i])->insert_id, 0));
        assert_true(was_synced(live[i], 1));
        assert_true(was_synced(record_mark(before[i]), 2) ||
                    was_synced(record_mark(before[i]), 3) || was_synced(record_mark(before[i]), 4));
    }
    journal_close(journal);
}

/* Nobody may say of its events that they are finished. */
static void a_segment_of_copies_that_ends_among_its_marks_is_set_aside(void **state)
{
    struct journal *journal = open_journal(folder, 4);
    char name[SEGMENT_NAME_MAX], path[128];
    struct record *live[3];
    uint64_t lsn;

    (void)state;
    fill(journal, live, 3, 1);
    maintain(journal);
    maintain(journal);
    lsn = live[0]->lsn;
    assert_int_equal(journal_move(journal, live, 3), 3);
    segment_name(name, segment_of(live[0], SEGMENT)->number, "alj");
    maintain(journal);
    journal_close(journal);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    assert_int_equal(truncate(path, SEGMENT_HEADER_BYTES + 100), 0);
    journal = open_journal(folder, 4);
    recover(journal);
    journal_adopted_all(journal);
    assert_int_equal(stats.corrupt, 1);
    assert_int_equal(stats.live, 0);
    assert_int_equal(journal_record_state(journal, lsn), -1);
    journal_close(journal);
}

/* An upgrade must lose nothing, and go on where the older one was. */
static void segments_of_older_versions_are_read_and_marked(void **state)
{
    (void)state;
    for (uint32_t version = SEGMENT_VERSION_MIN; version < SEGMENT_VERSION; version++) {
        struct journal *journal = open_journal(folder, 8);
        struct record *live[4];
        char name[SEGMENT_NAME_MAX], path[128];
        uint64_t insert = 0;

        fill(journal, live, 4, 1);
        insert = journal_next_insert_id(journal);
        assert_int_equal(journal_stamp(journal, live, 1, insert), 0);
        journal_finish(journal, &live[3], 1, RECORD_INSERTED);
        segment_name(name, (uint32_t)(live[1]->lsn >> 32), "alj");
        journal_close(journal);
        snprintf(path, sizeof(path), "%s/%s", folder, name);
        old_segment_make(path, SEGMENT, version);
        /* Twice: what was marked stands. */
        for (size_t left = 3; left > 0; left--) {
            journal = open_journal(folder, 8);
            recover(journal);
            assert_int_equal(stats.corrupt, 0);
            assert_int_equal(stats.live, left);
            for (size_t i = 0; i < seen_count; i++)
                assert_int_equal(journal_record_state(journal, seen[i]->lsn),
                                 record_state(seen[i]));
            assert_int_equal(record_insert_id(seen[0]), left == 3 ? insert : left == 2 ? 0 : 7);
            journal_finish(journal, &seen[0], 1, RECORD_INSERTED);
            if (left == 2)
                assert_int_equal(journal_stamp(journal, &seen[1], 1, 7), 0);
            journal_close(journal);
        }
        journal = open_journal(folder, 8);
        recover(journal);
        assert_int_equal(stats.live, 0);
        journal_close(journal);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(bytes_follow_what_is_pending),
        TEST(bytes_follow_what_is_pending_in_memory),
        TEST(nothing_is_vacated_while_there_is_room_or_no_gain),
        TEST(a_full_journal_moves_too_and_takes_events_again),
        TEST(copies_are_copied_again),
        TEST(a_sync_that_fails_moves_nothing),
        TEST(an_event_that_fits_no_segment_of_this_life_stays_where_it_is),
        TEST(of_several_records_of_one_lsn_one_is_believed),
        TEST(nothing_is_lost_or_doubled_by_a_kill_at_any_moment),
        TEST(a_copy_is_on_disk_with_its_insert_id_before_its_original_is_marked),
        TEST(a_segment_of_copies_that_ends_among_its_marks_is_set_aside),
        TEST(segments_of_older_versions_are_read_and_marked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
