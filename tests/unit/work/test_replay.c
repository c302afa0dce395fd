/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_replay.c - what an earlier life has left in a real journal folder comes back through a real
 * ring and a flusher that only collects.
 */
#include "alloy/replay.h"

#include "alloy/batch.h"
#include "alloy/clock.h"
#include "alloy/dead_letter.h"
#include "alloy/log.h"
#include "temp_folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT SEGMENT_BYTES_MIN
#define DEADLINE_MS 10000
#define BATCHES_MAX 64
#define RECORDS_MAX 20000
#define TTL_MS 600000

static char letter_dir[96];
static struct journal *journal;
static struct journal_writer *writer;
static struct record *written[RECORDS_MAX]; /* by this life */
static size_t written_count;
static struct ring *ring;
static struct l1 *l1;
static struct l1_thread *l1_thread;
static struct metrics *metrics;
static struct health *health;
static struct release *release;
static struct config config;
static struct replay *replay;
static bool ids_known, l1_decides; /* for the lives to come */
static uint64_t received_ms;       /* of the events to come */

/* ---- the flusher's place ---- */

static pthread_mutex_t collected_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct batch *collected[BATCHES_MAX]; /* under the mutex */
static size_t collected_count;
static uint64_t inserted_ms[2]; /* as told by replay */

void flusher_note_inserted(struct flusher *flusher, size_t stream, uint64_t at_ms)
{
    (void)flusher;
    inserted_ms[stream] = at_ms;
}

void flusher_submit(struct flusher *flusher, struct batch *batch)
{
    (void)flusher;
    pthread_mutex_lock(&collected_mutex);
    assert_true(collected_count < BATCHES_MAX);
    collected[collected_count++] = batch;
    pthread_mutex_unlock(&collected_mutex);
}

static size_t batch_count(void)
{
    size_t n;

    pthread_mutex_lock(&collected_mutex);
    n = collected_count;
    pthread_mutex_unlock(&collected_mutex);
    return n;
}

/* ---- lives ---- */

static void begin_life(void)
{
    static const char *const names[] = {"orders", "clicks"};
    const struct journal_options options = {
        .dir = folder,
        .segment_bytes = SEGMENT,
        .max_bytes = 64 * SEGMENT,
        .sync = JOURNAL_SYNC_NEVER,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = 2,
    };
    char error[JOURNAL_ERROR_MAX];

    if (journal_open(&journal, &options, error) != 0)
        fail_msg("%s", error);
    written_count = 0;
}

/* A life that only reads does not have a writer. */
static void end_life(void)
{
    replay_stop(replay);
    replay = NULL;
    while (collected_count > 0)
        free(collected[--collected_count]);
    if (writer != NULL)
        journal_writer_destroy(writer);
    writer = NULL;
    if (l1 != NULL) {
        l1_thread_destroy(l1_thread);
        l1_destroy(l1);
        release_destroy(release);
        ring_destroy(ring);
        metrics_destroy(metrics);
        health_destroy(health);
    }
    l1 = NULL;
    journal_close(journal);
    journal = NULL;
}

/* A life with a ring of so many slots. */
static void begin_again(size_t ring_slots)
{
    begin_life();
    ring = ring_create(ring_slots);
    l1 = l1_create(100000, TTL_MS, clock_mono_ms());
    l1_thread = l1_thread_create(l1);
    metrics = metrics_create();
    health = health_create();
    release = release_create(ring, metrics);
}

/* Reads what is there, unless the ids are known. */
static void read_now(void)
{
    char error[JOURNAL_ERROR_MAX] = "";
    const struct replay_parts parts = {.journal = journal,
                                       .l1 = l1,
                                       .l1_ttl_ms = TTL_MS,
                                       .l1_decides = l1_decides,
                                       .ids_known = ids_known,
                                       .ring = ring,
                                       .release = release,
                                       .config = &config,
                                       .health = health,
                                       .metrics = metrics};

    if (replay_read(&replay, &parts, error) != 0)
        fail_msg("%s", error);
}

static void read_back(size_t ring_slots)
{
    begin_again(ring_slots);
    read_now();
}

static void feed(void)
{
    assert_int_equal(replay_start(replay, NULL), 0);
}

static int set_up(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_WARN, LOG_FORMAT_LOGFMT);
    ids_known = l1_decides = false;
    received_ms = clock_real_ms();
    if (make_folder("/tmp") != 0)
        return -1;
    snprintf(letter_dir, sizeof(letter_dir), "%s/dead-letter", folder);
    config = (struct config){.dead_letter_dir = letter_dir, .stream_count = 2};
    begin_life();
    writer = journal_writer_create(journal);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (journal != NULL)
        end_life();
    return remove_folder();
}

/* ---- helpers ---- */

#define WAIT_FOR(condition)                                          \
    do {                                                             \
        const uint64_t give_up_ms = clock_mono_ms() + DEADLINE_MS;   \
        while (!(condition)) {                                       \
            if (clock_mono_ms() > give_up_ms)                        \
                fail_msg("waited too long for " #condition);         \
            nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); \
        }                                                            \
    } while (0)

static struct hash128 hash_of(uint16_t stream, size_t id)
{
    return (struct hash128){.lo = id * 0x9e3779b97f4a7c15u, .hi = stream + 1};
}

/* Appends events with ids from..from + n - 1; returns the first one's place in written. */
static size_t write_events(uint16_t stream, size_t from, size_t n)
{
    const size_t first = written_count;

    for (size_t i = 0; i < n; i++) {
        char text[64];
        const int len = snprintf(text, sizeof(text), "{\"event_id\":%zu}", from + i);
        const struct journal_entry entry = {.text = {text, (size_t)len},
                                            .id = {text + 12, (size_t)len - 13},
                                            .id_verbatim = true,
                                            .hash = hash_of(stream, from + i),
                                            .stream = stream};
        const size_t size = journal_entry_bytes(&entry);

        assert_true(written_count < RECORDS_MAX);
        assert_int_equal(journal_writer_reserve(writer, &size, 1), 0);
        written[written_count++] = journal_writer_append(writer, &entry, received_ms);
    }
    return first;
}

static uint64_t stamp(size_t first, size_t n)
{
    const uint64_t id = journal_next_insert_id(journal);

    assert_int_equal(journal_stamp(journal, written + first, n, id), 0);
    return id;
}

static size_t id_of(const struct record *record)
{
    return (size_t)strtoull(record_id(record), NULL, 10);
}

static bool knows(uint16_t stream, size_t id)
{
    const struct hash128 hash = hash_of(stream, id);

    return l1_contains(l1_thread, &hash);
}

static uint64_t counted(uint16_t stream, enum metric_stream_id id)
{
    static struct metrics_snapshot now;

    metrics_read(metrics, &now);
    return now.streams[stream][id];
}

/* Takes and checks ids first.., which come in order, without the gap's, until n are there. */
static void take_around(size_t first, size_t n, size_t gap_first, size_t gap)
{
    struct record *records[100];
    size_t taken = 0;

    while (taken < n) {
        size_t got = 0;

        WAIT_FOR((got = ring_take(ring, records, ARRAY_LEN(records))) > 0);
        for (size_t i = 0; i < got; i++) {
            const size_t id = first + taken + i;

            assert_int_equal(id_of(records[i]), id < gap_first ? id : id + gap);
        }
        taken += got;
    }
    assert_int_equal(taken, n);
}

static void take_in_order(size_t first, size_t n)
{
    take_around(first, n, first, 0);
}

/* ---- tests ---- */

static void an_empty_folder_replays_nothing(void **state)
{
    (void)state;
    end_life();
    read_back(10);
    feed();
    assert_true(replay_done(replay));
    assert_int_equal(replay_pending(replay), 0);
    assert_int_equal(l1_entries(l1), 0);
    assert_int_equal(ring_depth(ring), 0);
}

/* Several segments of them; the ring is far smaller. */
static void events_that_were_never_sent_come_through_the_ring_in_order(void **state)
{
    const size_t n = 3000;

    (void)state;
    write_events(0, 0, n);
    end_life();
    read_back(64);
    assert_int_equal(replay_pending(replay), n);
    assert_int_equal(journal_live(journal, 0), n);
    assert_int_equal(counted(0, METRIC_STREAM_received), n);
    assert_int_equal(counted(0, METRIC_STREAM_accepted), n);
    assert_int_equal(l1_entries(l1), n);
    feed();
    take_in_order(0, n);
    WAIT_FOR(replay_pending(replay) == 0);
    assert_int_equal(ring_depth(ring), 0);
    assert_int_equal(batch_count(), 0);
    assert_int_equal(journal_live(journal, 0), n);
}

static void a_stamped_insert_is_handed_over_as_it_was(void **state)
{
    uint64_t ids[3];
    size_t at;

    (void)state;
    at = write_events(0, 0, 2000); /* over more than one segment */
    ids[0] = stamp(at, 1500);
    at = write_events(1, 5000, 10);
    ids[1] = stamp(at, 9);
    at = write_events(0, 2000, 5);
    ids[2] = stamp(at + 2, 3);
    end_life();
    read_back(1000);
    assert_int_equal(replay_pending(replay), 2015);
    feed();
    WAIT_FOR(batch_count() == 3 && ring_depth(ring) == 500 + 1 + 2);
    WAIT_FOR(replay_pending(replay) == 0); /* it counts what it has handed over afterwards */
    for (size_t i = 0; i < 3; i++) {
        static const struct {
            uint16_t stream;
            size_t first, count;
        } want[] = {{0, 0, 1500}, {1, 5000, 9}, {0, 2002, 3}};
        const struct batch *batch = collected[i];
        uint64_t bytes = 0;

        assert_int_equal(batch->insert_id, ids[i]);
        assert_int_equal(batch->stream, want[i].stream);
        assert_int_equal(batch->count, want[i].count);
        for (size_t k = 0; k < batch->count; k++) {
            assert_int_equal(id_of(batch->records[k]), want[i].first + k);
            bytes += batch->records[k]->body_length;
        }
        assert_int_equal(batch->bytes, bytes);
    }
    assert_true(knows(0, 0) && knows(0, 2004) && knows(1, 5009));
    assert_int_equal(counted(0, METRIC_STREAM_accepted), 2005);
    assert_int_equal(counted(1, METRIC_STREAM_accepted), 10);
    assert_true(journal_next_insert_id(journal) > ids[2]);
}

/* A half finished insert was acknowledged: what is left of it goes under its own id. */
static void only_live_records_are_replayed_and_counted(void **state)
{
    uint64_t id;

    (void)state;
    write_events(0, 0, 10);
    id = stamp(0, 6);
    journal_finish(journal, written, 4, RECORD_INSERTED);
    journal_finish(journal, written + 6, 2, RECORD_INSERTED);
    end_life();
    read_back(100);
    assert_int_equal(replay_pending(replay), 4);
    assert_int_equal(counted(0, METRIC_STREAM_received), 4);
    feed();
    WAIT_FOR(replay_pending(replay) == 0);
    assert_int_equal(batch_count(), 1);
    assert_int_equal(collected[0]->insert_id, id);
    assert_int_equal(collected[0]->count, 2);
    assert_int_equal(id_of(collected[0]->records[0]), 4);
    assert_int_equal(inserted_ms[0], received_ms);
    assert_int_equal(inserted_ms[1], 0);
    take_in_order(8, 2);
    for (size_t i = 0; i < 10; i++)
        assert_true(knows(0, i));
}

/* A 503 leaves nothing behind, and who was dead-lettered may come again, corrected; a duplicate's
 * id is as known as its owner is, and that one may have been dead-lettered. */
static void ids_of_refused_dead_and_duplicate_events_are_new_again(void **state)
{
    (void)state;
    write_events(0, 0, 5);
    journal_finish(journal, written, 1, RECORD_REFUSED);
    journal_finish(journal, written + 1, 1, RECORD_DEAD);
    journal_finish(journal, written + 2, 1, RECORD_DUPLICATE);
    journal_finish(journal, written + 3, 1, RECORD_INSERTED);
    write_events(0, 1, 1); /* the corrected one */
    write_events(0, 4, 1);
    journal_finish(journal, written + 6, 1, RECORD_DUPLICATE);
    end_life();
    read_back(100);
    assert_false(knows(0, 0));
    assert_true(knows(0, 1));
    assert_false(knows(0, 2));
    assert_true(knows(0, 3));
    assert_true(knows(0, 4));
    assert_int_equal(replay_pending(replay), 2);
}

/* Nothing but damage to the file can do that; it must not keep alloyd from starting. */
static void one_insert_id_over_two_streams_makes_two_batches(void **state)
{
    uint64_t id;

    (void)state;
    write_events(0, 0, 1);
    write_events(1, 1, 1);
    write_events(0, 2, 1);
    id = stamp(0, 3);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(replay_pending(replay) == 0);
    assert_int_equal(batch_count(), 2);
    assert_int_equal(collected[0]->stream, 0);
    assert_int_equal(collected[0]->count, 2);
    assert_int_equal(collected[1]->stream, 1);
    assert_int_equal(collected[1]->count, 1);
    assert_int_equal(collected[1]->insert_id, id);
}

static void half_the_ring_is_left_to_new_events(void **state)
{
    (void)state;
    write_events(0, 0, 1000);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(ring_depth(ring) > 50);
    assert_true(ring_reserve(ring, 25)); /* more than half and one chunk is never taken */
    assert_int_equal(ring_depth(ring), 75 + 25);
    ring_cancel(ring, 25);
}

static void stopped_while_feeding_the_rest_is_replayed_by_the_next_life(void **state)
{
    (void)state;
    write_events(0, 0, 1000);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(ring_depth(ring) > 50);
    WAIT_FOR(replay_pending(replay) < 1000);
    assert_int_not_equal(replay_pending(replay), 0);
    end_life();
    read_back(2000);
    assert_int_equal(replay_pending(replay), 1000);
    feed();
    take_in_order(0, 1000);
}

static void a_closed_ring_ends_the_feeding(void **state)
{
    uint64_t pending;

    (void)state;
    write_events(0, 0, 1000);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(ring_depth(ring) > 50);
    ring_close(ring);
    WAIT_FOR(replay_done(replay)); /* nothing comes after */
    pending = replay_pending(replay);
    take_in_order(0, 1000 - pending);
    replay_stop(replay);
    replay = NULL;
    assert_int_equal(ring_depth(ring), 0);
    assert_int_equal(journal_live(journal, 0), 1000);
}

static void what_was_fed_may_be_finished_and_unmapped_meanwhile(void **state)
{
    struct record *records[100];
    size_t finished = 0;

    (void)state;
    write_events(0, 0, 5000);
    stamp(0, 1000);
    stamp(1000, 1000);
    end_life();
    read_back(100);
    feed();
    while (finished < 5000) {
        const size_t n = ring_take(ring, records, ARRAY_LEN(records));

        journal_finish(journal, records, n, RECORD_INSERTED);
        finished += n;
        pthread_mutex_lock(&collected_mutex);
        while (collected_count > 0) {
            struct batch *batch = collected[--collected_count];

            journal_finish(journal, batch->records, batch->count, RECORD_INSERTED);
            finished += batch->count;
            free(batch);
        }
        pthread_mutex_unlock(&collected_mutex);
        journal_maintain(journal, 0, 100);
    }
    assert_int_equal(finished, 5000);
    /* The thread lets go of the last segment after it has handed over what was in it. */
    WAIT_FOR(replay_done(replay));
    assert_int_equal(replay_pending(replay), 0);
    journal_maintain(journal, 0, 100);
    assert_int_equal(journal_live(journal, 0), 0);
    assert_int_equal(journal_bytes(journal), 0);
}

static void count_condition(void *arg, const char *key, bool blocking, const char *text)
{
    (void)blocking;
    *(size_t *)arg += strcmp(key, "replay") == 0 && strstr(text, "handed over") != NULL;
}

static bool health_tells_replay(void)
{
    size_t count = 0;

    health_visit(health, count_condition, &count);
    return count > 0;
}

static void where_the_ids_are_known_the_thread_reads(void **state)
{
    const size_t n = 3000;

    (void)state;
    write_events(0, 0, n);
    stamp(100, 900);
    end_life();
    ids_known = true;
    read_back(64);
    assert_int_equal(replay_pending(replay), 0);
    assert_int_equal(journal_live(journal, 0), 0);
    feed();
    WAIT_FOR(batch_count() == 1);
    assert_int_equal(journal_live(journal, 0), n);
    assert_int_equal(collected[0]->count, 900);
    take_around(0, n - 900, 100, 900);
    WAIT_FOR(replay_pending(replay) == 0);
    WAIT_FOR(!health_tells_replay());
    assert_int_equal(counted(0, METRIC_STREAM_accepted), n);
}

static void health_tells_the_progress(void **state)
{
    (void)state;
    write_events(0, 0, 1000);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(ring_depth(ring) > 50);
    WAIT_FOR(health_tells_replay());
    assert_true(health_ready(health));
    take_in_order(0, 1000);
    WAIT_FOR(!health_tells_replay());
}

static void own(uint16_t stream, size_t id, uint64_t lsn)
{
    const struct hash128 hash = hash_of(stream, id);

    assert_int_equal(l1_add(l1_thread, &hash, lsn, clock_mono_ms()), L1_ADDED);
}

/* One is known for its own record, one for another that was accepted since, one is not known. */
static void write_three_and_begin_again(void)
{
    uint64_t lsn;

    write_events(0, 0, 3);
    lsn = written[0]->lsn;
    end_life();
    ids_known = true;
    begin_again(100);
    own(0, 0, lsn);
    own(0, 1, UINT64_MAX);
    read_now();
    feed();
}

static void without_redis_a_record_whose_id_another_one_owns_is_a_duplicate(void **state)
{
    struct record *records[8];

    (void)state;
    l1_decides = true;
    write_three_and_begin_again();
    WAIT_FOR(journal_live(journal, 0) == 2 && replay_pending(replay) == 0);
    assert_int_equal(ring_take(ring, records, ARRAY_LEN(records)), 2);
    assert_int_equal(id_of(records[0]), 0);
    assert_int_equal(id_of(records[1]), 2);
    assert_true(knows(0, 2));
    assert_int_equal(counted(0, METRIC_STREAM_accepted), 3);
    assert_int_equal(counted(0, METRIC_STREAM_duplicate_l2), 1);
}

static void with_redis_the_claims_decide_over_it(void **state)
{
    (void)state;
    write_three_and_begin_again();
    take_in_order(0, 3);
    assert_true(knows(0, 2));
    assert_int_equal(journal_live(journal, 0), 3);
}

/* Two connections appended one id, and the power went before the loser was marked. */
static void of_two_records_with_one_id_the_one_that_was_sent_owns_it(void **state)
{
    struct record *records[8];

    (void)state;
    l1_decides = true;
    write_events(0, 7, 1); /* sent after the next one was */
    write_events(0, 7, 1);
    stamp(1, 1);
    write_events(0, 8, 1);
    write_events(0, 8, 1);
    journal_finish(journal, written + 3, 1, RECORD_INSERTED);
    write_events(0, 9, 2);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(replay_pending(replay) == 0);
    assert_int_equal(batch_count(), 1);
    assert_int_equal(collected[0]->count, 1);
    assert_int_equal(ring_take(ring, records, ARRAY_LEN(records)), 2);
    assert_int_equal(id_of(records[0]), 9);
    assert_int_equal(id_of(records[1]), 10);
    assert_int_equal(counted(0, METRIC_STREAM_duplicate_l2), 2);
}

/* They would push out younger ones, and their ids may have been accepted again since. */
static void ids_older_than_the_ttl_are_replayed_and_not_remembered(void **state)
{
    (void)state;
    l1_decides = true;
    received_ms -= TTL_MS;
    write_events(0, 0, 10);
    (void)stamp(5, 1); /* one that was sent, too */
    received_ms += TTL_MS;
    write_events(0, 10, 1);
    write_events(0, 5, 1);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(replay_done(replay));
    assert_int_equal(batch_count(), 1);
    assert_int_equal(ring_depth(ring), 11);
    assert_int_equal(l1_entries(l1), 2);
    assert_true(knows(0, 5) && knows(0, 10));
    assert_int_equal(journal_live(journal, 0), 12);
}

/* Ids 0, 1, 1, 0, 2 in turns that a kill has cut short; alloyd is down for longer than the ttl. */
static void write_doubles(void)
{
    received_ms -= 3 * TTL_MS;
    write_events(0, 0, 2);
    received_ms += 50;
    write_events(0, 1, 1);
    write_events(0, 0, 1);
    write_events(0, 2, 1);
    write_events(1, 3, 1);
}

static void with_redis_both_records_of_an_id_come_back_for_their_claims(void **state)
{
    (void)state;
    write_doubles();
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(replay_done(replay));
    assert_int_equal(ring_depth(ring), 6);
    assert_int_equal(journal_live(journal, 0), 5);
}

static void without_redis_records_of_one_id_and_time_are_one_event(void **state)
{
    struct record *records[10];

    (void)state;
    l1_decides = true;
    write_doubles();
    for (int life = 0; life < 2; life++) {
        ids_known = life == 0;
        end_life();
        read_back(100);
        feed();
        WAIT_FOR(replay_done(replay));
        assert_int_equal(journal_live(journal, 0), 3);
        assert_int_equal(counted(0, METRIC_STREAM_accepted), life == 0 ? 5 : 3);
        assert_int_equal(counted(0, METRIC_STREAM_duplicate_l2), life == 0 ? 2 : 0);
        assert_int_equal(counted(1, METRIC_STREAM_accepted), 1);
        assert_int_equal(ring_take(ring, records, 10), 4);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(id_of(records[i]), i);
    }
}

static void of_two_records_of_an_id_the_one_that_may_be_inserted_is_kept(void **state)
{
    uint64_t first, second;

    (void)state;
    l1_decides = ids_known = true;
    received_ms -= 3 * TTL_MS;
    write_events(0, 0, 1);
    write_events(0, 0, 1);
    first = stamp(1, 1);
    write_events(0, 0, 1);
    second = stamp(2, 1); /* nothing stamped is ever dropped */
    write_events(0, 0, 1);
    end_life();
    read_back(100);
    feed();
    WAIT_FOR(replay_done(replay));
    assert_int_equal(batch_count(), 2);
    assert_int_equal(collected[0]->insert_id, first);
    assert_int_equal(collected[1]->insert_id, second);
    assert_int_equal(ring_depth(ring), 0);
    assert_int_equal(journal_live(journal, 0), 2);
}

/* Two that were refused; of one the insert id was lost with the power. */
static void a_record_in_the_dead_letter_folder_is_only_released(void **state)
{
    struct dead_letter *dead_letter;
    struct dead_letter_line lines[2];
    struct dead_letter_order order = {.max_bytes = 1 << 20};

    (void)state;
    write_events(0, 0, 4);
    (void)stamp(1, 1);
    order.instance_id = journal_instance_id(journal);
    order.real_ms = clock_real_ms();
    for (int i = 0; i < 2; i++)
        lines[i] = (struct dead_letter_line){
            .record = written[1 + i], .stream = "orders", .message = {"m", 1}};
    assert_int_equal(dead_letter_open(&dead_letter, letter_dir), 0);
    assert_int_equal(dead_letter_write_lines(dead_letter, lines, 2, &order), 0);
    dead_letter_close(dead_letter);
    end_life();
    read_back(1000);
    assert_int_equal(release_pending(release), 1);
    assert_int_equal(counted(0, METRIC_STREAM_accepted), 4);
    assert_int_equal(journal_live(journal, 0), 4);
    assert_true(knows(0, 1)); /* until its claim is released */
    feed();
    WAIT_FOR(replay_done(replay));
    assert_int_equal(replay_pending(replay), 0);
    assert_int_equal(ring_depth(ring), 2);
    assert_int_equal(release_pending(release), 2);
    assert_true(knows(0, 2));
    assert_int_equal(batch_count(), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_record_in_the_dead_letter_folder_is_only_released),
        TEST(an_empty_folder_replays_nothing),
        TEST(events_that_were_never_sent_come_through_the_ring_in_order),
        TEST(a_stamped_insert_is_handed_over_as_it_was),
        TEST(only_live_records_are_replayed_and_counted),
        TEST(ids_of_refused_dead_and_duplicate_events_are_new_again),
        TEST(one_insert_id_over_two_streams_makes_two_batches),
        TEST(half_the_ring_is_left_to_new_events),
        TEST(stopped_while_feeding_the_rest_is_replayed_by_the_next_life),
        TEST(a_closed_ring_ends_the_feeding),
        TEST(what_was_fed_may_be_finished_and_unmapped_meanwhile),
        TEST(where_the_ids_are_known_the_thread_reads),
        TEST(health_tells_the_progress),
        TEST(without_redis_a_record_whose_id_another_one_owns_is_a_duplicate),
        TEST(with_redis_the_claims_decide_over_it),
        TEST(of_two_records_with_one_id_the_one_that_was_sent_owns_it),
        TEST(with_redis_both_records_of_an_id_come_back_for_their_claims),
        TEST(without_redis_records_of_one_id_and_time_are_one_event),
        TEST(of_two_records_of_an_id_the_one_that_may_be_inserted_is_kept),
        TEST(ids_older_than_the_ttl_are_replayed_and_not_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
