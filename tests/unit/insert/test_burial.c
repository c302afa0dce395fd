/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_burial.c - refused rows on their way to the folder, with a disk that is slow or broken on
 * demand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/log.h"
#include "alloy/waiter.h"
#include "burial.h"

#define DEADLINE_MS 20000

static atomic_int syncs;      /* that have begun */
static atomic_bool sync_hang; /* those that begin wait */
static atomic_bool sync_fail;

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, (ms % 1000) * 1000000}, NULL);
}

/* In place of libc's: the disk of these tests. */
int fdatasync(int fd)
{
    (void)fd;
    atomic_fetch_add(&syncs, 1);
    while (atomic_load(&sync_hang))
        pause_ms(1);
    errno = EIO;
    return atomic_load(&sync_fail) ? -1 : 0;
}

#define WAIT_FOR(condition)                           \
    do {                                              \
        uint64_t end = clock_mono_ms() + DEADLINE_MS; \
        while (!(condition) && clock_mono_ms() < end) \
            pause_ms(1);                              \
        assert_true(condition);                       \
    } while (0)

struct world {
    struct config configs[4]; /* the last is current; none changes while the thread may read it */
    size_t config_count;
    struct config_ref ref;
    struct journal *journal;
    struct journal_writer *writer;
    struct health *health;
    struct metrics *metrics;
    struct ring *ring;
    struct release *release; /* nobody serves it */
    struct burial *burial;
    struct waiter_table *waiters;
    struct waiter_inbox *inbox;
    int wake_fd;
    atomic_uint_least64_t settled;
    uint64_t made;
    char dir[64];
};

static void on_settled(void *arg, uint64_t n)
{
    struct world *world = arg;

    /* What is settled is in the other books already. */
    assert_true(release_pending(world->release) >= atomic_load(&world->settled) + n);
    atomic_fetch_add(&world->settled, n);
}

static void start(struct world *world)
{
    const struct burial_parts parts = {.config = &world->ref,
                                       .journal = world->journal,
                                       .health = world->health,
                                       .metrics = world->metrics,
                                       .release = world->release,
                                       .settled = on_settled,
                                       .arg = world};
    char error[FLUSHER_ERROR_MAX];

    assert_int_equal(burial_start(&world->burial, &parts, error), 0);
}

static int setup(void **state)
{
    static const char *const names[] = {"a", "b"};
    struct world *world = calloc(1, sizeof(*world));
    struct config *config = world->configs;
    char error[JOURNAL_ERROR_MAX];
    const struct journal_options options = {
        .segment_bytes = 8u << 20,
        .max_bytes = 64u << 20,
        .writer_count = 1,
        .waiters = world->waiters = waiter_table_create(4, 8),
        .stream_names = names,
        .stream_count = 2,
    };

    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    snprintf(world->dir, sizeof(world->dir), "/tmp/test_burial.XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    config->clickhouse_retry_max_ms = 20;
    config->dead_letter_dir = world->dir;
    config->dead_letter_max_bytes_bytes = 64u << 20;
    config->stream_count = 2;
    config->streams[0].name = (char *)"a";
    config->streams[1].name = (char *)"b";
    world->config_count = 1;
    atomic_store(&world->ref.current, config);
    assert_int_equal(journal_open(&world->journal, &options, error), 0);
    world->writer = journal_writer_create(world->journal);
    world->wake_fd = eventfd(0, EFD_NONBLOCK);
    world->inbox = waiter_inbox_create(world->waiters, world->wake_fd);
    world->health = health_create();
    world->metrics = metrics_create();
    world->ring = ring_create(10);
    world->release = release_create(world->ring, world->metrics);
    atomic_store(&syncs, 0);
    atomic_store(&sync_hang, false);
    atomic_store(&sync_fail, false);
    start(world);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    struct dirent *entry;
    DIR *dir;

    atomic_store(&sync_hang, false);
    burial_stop(world->burial);
    release_destroy(world->release);
    ring_destroy(world->ring);
    metrics_destroy(world->metrics);
    health_destroy(world->health);
    journal_writer_destroy(world->writer);
    journal_close(world->journal);
    waiter_inbox_destroy(world->inbox);
    waiter_table_destroy(world->waiters);
    close(world->wake_fd);
    dir = opendir(world->dir);
    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(world->dir);
    free(world);
    return 0;
}

/* As after a reload. */
static void set_cap_and_pause(struct world *world, uint64_t max_bytes, uint64_t retry_max_ms)
{
    struct config *config = &world->configs[world->config_count++];

    assert_true(world->config_count <= ARRAY_LEN(world->configs));
    *config = config[-1];
    config->dead_letter_max_bytes_bytes = max_bytes;
    config->clickhouse_retry_max_ms = retry_max_ms;
    atomic_store(&world->ref.current, config);
}

static void set_cap(struct world *world, uint64_t max_bytes)
{
    set_cap_and_pause(world, max_bytes, config_current(&world->ref)->clickhouse_retry_max_ms);
}

static struct record *make_record(struct world *world, uint16_t stream)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "{\"id\":\"%08" PRIu64 "\"}", ++world->made);
    const struct journal_entry entry = {
        .text = {text, (size_t)len},
        .id = {text + 7, 8},
        .id_verbatim = true,
        .hash = {world->made, 1},
        .stream = stream,
    };
    size_t size = journal_entry_bytes(&entry);

    assert_int_equal(journal_writer_reserve(world->writer, &size, 1), 0);
    return journal_writer_append(world->writer, &entry, 1);
}

static int submit(struct world *world, uint16_t stream, const char *message)
{
    return burial_submit(world->burial, make_record(world, stream), 27,
                         (struct slice){message, strlen(message)});
}

static bool settled(struct world *world, uint64_t n)
{
    return atomic_load(&world->settled) == n && release_pending(world->release) == n;
}

/* Text of all files of a stream; owned. */
static char *letters_of(struct world *world, const char *stream)
{
    const size_t room = 8u << 20;
    char *text = calloc(1, room);
    DIR *dir = opendir(world->dir);
    struct dirent *entry;
    size_t len = 0;

    while ((entry = readdir(dir)) != NULL) {
        char path[512];
        FILE *file;

        if (strstr(entry->d_name, ".ndjson") == NULL || entry->d_name[0] != stream[0])
            continue;
        snprintf(path, sizeof(path), "%s/%s", world->dir, entry->d_name);
        file = fopen(path, "r");
        len += fread(text + len, 1, room - len - 1, file);
        fclose(file);
    }
    closedir(dir);
    return text;
}

/* Expects the ids from first to last in the files of a stream, once each and in order. */
static void assert_letters(struct world *world, const char *stream, uint64_t first, uint64_t last)
{
    char *text = letters_of(world, stream);
    const char *at = text;
    uint64_t id;

    while ((at = strstr(at, "\"event\":{\"id\":\"")) != NULL) {
        at += strlen("\"event\":{\"id\":\"");
        assert_int_equal(sscanf(at, "%8" SCNu64, &id), 1);
        assert_int_equal(id, first);
        first++;
    }
    assert_int_equal(first, last + 1);
    free(text);
}

static int64_t parked(struct world *world)
{
    static struct metrics_snapshot now;

    metrics_read(world->metrics, &now);
    return now.gauges[METRIC_GAUGE_dead_letter_parked];
}

static void copy_text(void *arg, const char *key, bool blocking, const char *text)
{
    if (strcmp(key, "dead_letter") != 0)
        return;
    assert_false(blocking);
    snprintf(arg, HEALTH_TEXT_MAX, "%s", text);
}

/* What /readyz says of the folder; "" when nothing. */
static const char *condition(struct world *world)
{
    static char text[HEALTH_TEXT_MAX];

    text[0] = '\0';
    health_visit(world->health, copy_text, text);
    return text;
}

static void a_row_is_written_and_goes_on_to_the_release_queue(void **state)
{
    struct world *world = *state;
    char message[2000];
    char *text;

    memset(message, 'm', sizeof(message));
    message[sizeof(message) - 1] = '\0';
    assert_int_equal(submit(world, 0, message), 0);
    memset(message, 'x', sizeof(message)); /* it was copied */
    WAIT_FOR(settled(world, 1));
    text = letters_of(world, "a");
    assert_non_null(strstr(text, "\"stream\":\"a\",\"code\":27,\"message\":\"mmmm"));
    assert_null(strchr(text, 'x'));
    assert_int_equal(strspn(strstr(text, "mmmm"), "m"), 1024);
    free(text);
    assert_letters(world, "a", 1, 1);
    assert_int_equal(journal_live(world->journal, 0), 1); /* DEAD when its id is forgotten */
    assert_string_equal(condition(world), "");
}

static void who_waits_knows_the_reason_once_the_record_may_be_released(void **state)
{
    static const char message[] = "Cannot parse input";
    struct world *world = *state;
    struct record *record = make_record(world, 0);
    struct waiter *waiter = waiter_create(world->inbox, 1);
    struct waiter_outcome outcome;

    assert_non_null(waiter);
    waiter_own(waiter, 0, &record->hash, record->lsn);
    waiter_arm(waiter, 0);
    assert_int_equal(
        burial_submit(world->burial, record, 27, (struct slice){message, strlen(message)}), 0);
    WAIT_FOR(settled(world, 1));
    assert_null(waiter_inbox_take(world->inbox)); /* the reason is there, the end is not */
    journal_finish(world->journal, &record, 1, RECORD_DEAD);
    assert_ptr_equal(waiter_inbox_take(world->inbox), waiter);
    outcome = waiter_end(waiter);
    assert_int_equal(outcome.verdict, WAITER_REJECTED);
    assert_int_equal(outcome.rejections->code, 27);
    assert_string_equal(outcome.rejections->message, message);
    waiter_destroy(waiter);
}

static void what_gathers_during_a_sync_is_one_group(void **state)
{
    struct world *world = *state;
    uint64_t begun;

    atomic_store(&sync_hang, true);
    assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(atomic_load(&syncs) == 1);
    begun = clock_mono_ms();
    for (int i = 0; i < 500; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    for (int i = 0; i < 500; i++)
        assert_int_equal(submit(world, 1, "m"), 0);
    assert_true(clock_mono_ms() - begun < 5000); /* nobody waits for the disk */
    assert_int_equal(atomic_load(&world->settled), 0);
    assert_int_equal(parked(world), 0);
    atomic_store(&sync_hang, false);
    WAIT_FOR(settled(world, 1001));
    assert_int_equal(atomic_load(&syncs), 3); /* the first, and one for each file */
    assert_letters(world, "a", 1, 501);
    assert_letters(world, "b", 502, 1001);
}

static void a_full_folder_parks_rows_until_there_is_room(void **state)
{
    struct world *world = *state;

    set_cap(world, 10);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(parked(world) == 3 && strstr(condition(world), "is used up") != NULL);
    assert_int_equal(submit(world, 1, "m"), 0);
    WAIT_FOR(parked(world) == 4);
    assert_true(settled(world, 0));
    assert_letters(world, "a", 1, 0);
    set_cap(world, 1u << 20);
    WAIT_FOR(condition(world)[0] == '\0');
    assert_true(settled(world, 4));
    assert_int_equal(parked(world), 0);
    assert_letters(world, "a", 1, 3);
    assert_letters(world, "b", 4, 4);
}

/* The next offer is far off: the row itself must be counted. */
static void a_row_that_comes_while_the_folder_is_full_is_parked_at_once(void **state)
{
    struct world *world = *state;

    set_cap_and_pause(world, 10, DEADLINE_MS);
    assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(parked(world) == 1);
    assert_int_equal(submit(world, 0, "m"), 0);
    assert_int_equal(parked(world), 2);
}

static void of_a_folder_with_little_room_the_first_rows_are_let_go(void **state)
{
    struct world *world = *state;
    char *text;
    size_t line;

    assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(settled(world, 1));
    text = letters_of(world, "a");
    line = strlen(text);
    free(text);
    set_cap(world, 3 * line);
    for (int i = 0; i < 5; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(settled(world, 3) && parked(world) == 3);
    set_cap(world, 1u << 20);
    WAIT_FOR(settled(world, 6) && condition(world)[0] == '\0');
    assert_int_equal(parked(world), 0);
}

static void a_disk_that_fails_parks_rows_and_each_is_written_once(void **state)
{
    struct world *world = *state;

    atomic_store(&sync_fail, true);
    for (int i = 0; i < 20; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(strstr(condition(world), "cannot be written") != NULL && atomic_load(&syncs) > 2);
    WAIT_FOR(settled(world, 0)); /* places of a try are taken until it has failed */
    assert_letters(world, "a", 1, 0);
    atomic_store(&sync_fail, false);
    WAIT_FOR(settled(world, 20) && condition(world)[0] == '\0');
    assert_letters(world, "a", 1, 20);
    assert_int_equal(parked(world), 0);
}

static void a_full_release_queue_parks_rows_before_they_are_written(void **state)
{
    static struct release_item *items[RELEASE_MAX];
    struct world *world = *state;

    for (size_t i = 0; i < RELEASE_MAX - 2; i++)
        items[i] = release_prepare(world->release);
    for (int i = 0; i < 5; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(parked(world) == 3 && strstr(condition(world), "released in Redis") != NULL);
    assert_int_equal(atomic_load(&world->settled), 2);
    assert_letters(world, "a", 1, 2);
    for (size_t i = 0; i < RELEASE_MAX - 2; i++)
        release_cancel(world->release, items[i]);
    WAIT_FOR(settled(world, 5) && condition(world)[0] == '\0');
    assert_letters(world, "a", 1, 5);
}

static void only_so_many_rows_may_wait(void **state)
{
    struct world *world = *state;
    struct record *record = make_record(world, 0);

    atomic_store(&sync_hang, true);
    for (int i = 0; i < BURIAL_MAX; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    assert_int_equal(burial_submit(world->burial, record, 27, (struct slice){"m", 1}), -ENOBUFS);
    atomic_store(&sync_hang, false);
    WAIT_FOR(settled(world, BURIAL_MAX));
    assert_letters(world, "a", 2, BURIAL_MAX + 1);
    assert_int_equal(burial_submit(world->burial, record, 27, (struct slice){NULL, 0}), 0);
    WAIT_FOR(settled(world, BURIAL_MAX + 1));
}

static void at_the_end_what_waits_stays_live(void **state)
{
    struct world *world = *state;

    set_cap(world, 10);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(world, 0, "m"), 0);
    WAIT_FOR(parked(world) == 3);
    burial_stop(world->burial);
    assert_true(settled(world, 0));
    assert_int_equal(journal_live(world->journal, 0), 3);
    set_cap(world, 1u << 20);
    start(world);
    assert_letters(world, "a", 1, 0);
}

static void a_folder_that_cannot_be_made_is_told(void **state)
{
    struct world *world = *state;
    struct config config = *config_current(&world->ref);
    struct config_ref ref;
    const struct burial_parts parts = {.config = &ref, .metrics = world->metrics};
    struct burial *burial;
    char error[FLUSHER_ERROR_MAX];

    config.dead_letter_dir = (char *)"/dev/null/x";
    atomic_store(&ref.current, &config);
    assert_int_equal(burial_start(&burial, &parts, error), -ENOTDIR);
    assert_string_equal(error, "cannot use dead-letter folder /dev/null/x: Not a directory");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_row_is_written_and_goes_on_to_the_release_queue),
        TEST(who_waits_knows_the_reason_once_the_record_may_be_released),
        TEST(what_gathers_during_a_sync_is_one_group),
        TEST(a_full_folder_parks_rows_until_there_is_room),
        TEST(a_row_that_comes_while_the_folder_is_full_is_parked_at_once),
        TEST(of_a_folder_with_little_room_the_first_rows_are_let_go),
        TEST(a_disk_that_fails_parks_rows_and_each_is_written_once),
        TEST(a_full_release_queue_parks_rows_before_they_are_written),
        TEST(only_so_many_rows_may_wait),
        TEST(at_the_end_what_waits_stays_live),
        TEST(a_folder_that_cannot_be_made_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
