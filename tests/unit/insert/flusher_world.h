/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_world.h - a flusher with all that it needs around it, and a fake ClickHouse.
 */
#ifndef TEST_FLUSHER_WORLD_H
#define TEST_FLUSHER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/claims.h"
#include "alloy/clock.h"
#include "alloy/flusher.h"
#include "alloy/log.h"
#include "alloy/release.h"
#include "alloy/waiter.h"
#include "fake_clickhouse.h"

/* Everything one test needs. */
struct world {
    char error[FLUSHER_ERROR_MAX];
    struct fake fake;
    struct config config;
    struct config_ref ref;
    struct waiter_table *waiters;
    struct journal *journal;
    struct journal_writer *writer;
    struct health *health;
    struct metrics *metrics;
    struct flusher *flusher;
    /* a worker's part: what the flusher buries is let go of here */
    struct ring *ring;
    struct l1 *l1;
    struct release *release;
    pthread_t server;
    atomic_bool stop_server;
    char dir[64];
    char url[64];
    uint64_t submitted;
    uint64_t received_ms; /* when events come */
};

static void *serve_releases(void *arg)
{
    struct world *world = arg;
    struct metrics_thread *metrics = metrics_thread_create(world->metrics);
    struct l1_thread *l1 = l1_thread_create(world->l1);
    struct claims *claims = claims_create(&(struct claims_parts){.config = &world->ref,
                                                                 .health = world->health,
                                                                 .metrics = world->metrics,
                                                                 .thread_metrics = metrics});
    struct release_server *server =
        release_server_create(&(struct release_server_parts){.release = world->release,
                                                             .journal = world->journal,
                                                             .claims = claims,
                                                             .l1 = l1,
                                                             .metrics = metrics});

    while (!atomic_load(&world->stop_server)) {
        release_serve(server, clock_mono_ms());
        pause_ms(1);
    }
    release_server_destroy(server);
    claims_destroy(claims);
    l1_thread_destroy(l1);
    return NULL;
}

static int setup(void **state)
{
    static const char *const names[] = {"a", "b"};
    static char empty[] = "";
    struct world *world = calloc(1, sizeof(*world));
    struct config *config = &world->config;
    char error[JOURNAL_ERROR_MAX];
    struct journal_options options = {
        .segment_bytes = 8u << 20,
        .max_bytes = 512u << 20,
        .writer_count = 1,
        .stream_names = names,
        .stream_count = 2,
    };

    world->received_ms = 1;
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    fake_start(&world->fake);
    snprintf(world->dir, sizeof(world->dir), "/tmp/test_flusher.XXXXXX");
    assert_non_null(mkdtemp(world->dir));
    snprintf(world->url, sizeof(world->url), "http://127.0.0.1:%d", world->fake.port);
    config->redis_url = empty;
    config->clickhouse_url = world->url;
    config->clickhouse_user = empty;
    config->clickhouse_password = empty;
    config->clickhouse_password_resolved = empty;
    config->clickhouse_async_insert = CONFIG_ASYNC_OFF;
    config->clickhouse_wait_for_async_insert = true;
    config->clickhouse_max_inflight = 4;
    config->clickhouse_insert_rows = 100000;
    config->clickhouse_timeout_ms = 5000;
    config->clickhouse_retry_min_ms = 10;
    config->clickhouse_retry_max_ms = 40;
    config->dead_letter_dir = world->dir;
    config->dead_letter_max_bytes_bytes = 1u << 20;
    config->stream_count = 2;
    config->streams[0] = (struct config_stream){.name = (char *)"a",
                                                .database = (char *)"db",
                                                .table = (char *)"ta",
                                                .table_text = (char *)"db.ta",
                                                .ttl_ms = 60000,
                                                .ids = {{CONFIG_ID_MEMBER, (char *)"event_id", 0}},
                                                .id_count = 1};
    config->streams[1] = (struct config_stream){.name = (char *)"b",
                                                .database = (char *)"db",
                                                .table = (char *)"tb",
                                                .table_text = (char *)"db.tb",
                                                .ids = {{CONFIG_ID_MEMBER, (char *)"event_id", 0}},
                                                .id_count = 1};
    atomic_store(&world->ref.current, config);
    options.waiters = world->waiters = waiter_table_create(10, 1000);
    assert_int_equal(journal_open(&world->journal, &options, error), 0);
    world->writer = journal_writer_create(world->journal);
    assert_non_null(world->writer);
    world->health = health_create();
    world->metrics = metrics_create();
    world->ring = ring_create(10);
    world->l1 = l1_create(1000, 60000, clock_mono_ms());
    world->release = release_create(world->ring, world->metrics);
    pthread_create(&world->server, NULL, serve_releases, world);
    *state = world;
    return 0;
}

static inline void start(struct world *world)
{
    const struct flusher_parts parts = {.config = &world->ref,
                                        .journal = world->journal,
                                        .health = world->health,
                                        .metrics = world->metrics,
                                        .release = world->release};
    const int probes = atomic_load(&world->fake.probes);

    assert_int_equal(flusher_start(&world->flusher, &parts, world->error), 0);
    if (world->fake.probe_hangs || strncmp(world->url, "discard:", 8) == 0)
        return;
    /* What is known of the tables decides how many inserts it takes. */
    WAIT_FOR(atomic_load(&world->fake.probes) >= probes + 2);
    pause_ms(20);
}

static int teardown(void **state)
{
    struct world *world = *state;
    DIR *dir;
    struct dirent *entry;

    if (world->flusher != NULL)
        flusher_stop(world->flusher);
    fake_stop(&world->fake);
    atomic_store(&world->stop_server, true);
    pthread_join(world->server, NULL);
    release_destroy(world->release);
    l1_destroy(world->l1);
    ring_destroy(world->ring);
    journal_writer_destroy(world->writer);
    journal_close(world->journal);
    waiter_table_destroy(world->waiters);
    health_destroy(world->health);
    metrics_destroy(world->metrics);
    dir = opendir(world->dir);
    while ((entry = readdir(dir)) != NULL)
        unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
    rmdir(world->dir);
    free(world);
    return 0;
}

/* A batch of n events; the one with index bad (or none: -1) is refused by the fake. */
static struct batch *make_batch(struct world *world, uint16_t stream, uint32_t n, int64_t bad)
{
    struct batch *batch = batch_create(stream, n);

    for (uint32_t i = 0; i < n; i++) {
        char text[128];
        int len = snprintf(text, sizeof(text), "{\"event_id\":\"%c%" PRIu64 "\",\"v\":\"%s\"}",
                           'a' + stream, ++world->submitted, (int64_t)i == bad ? "BAD!" : "x");
        const struct journal_entry entry = {
            .text = {text, (size_t)len},
            .id = {text + 13, strcspn(text + 13, "\"")},
            .id_verbatim = true,
            .hash = {world->submitted, 1},
            .stream = stream,
        };
        size_t size = journal_entry_bytes(&entry);
        assert_int_equal(journal_writer_reserve(world->writer, &size, 1), 0);
        batch_add(batch, journal_writer_append(world->writer, &entry, world->received_ms));
    }
    return batch;
}

static void submit(struct world *world, uint16_t stream, uint32_t n, int64_t bad)
{
    flusher_submit(world->flusher, make_batch(world, stream, n, bad));
}

static void wait_empty(struct world *world)
{
    WAIT_FOR(flusher_pending(world->flusher) == 0 && release_pending(world->release) == 0);
}

static inline struct metrics_snapshot *snapshot(struct world *world)
{
    static struct metrics_snapshot now;

    metrics_read(world->metrics, &now);
    return &now;
}

static inline void visit_key(void *arg, const char *key, bool blocking, const char *text)
{
    const char **wanted = arg;

    (void)blocking;
    (void)text;
    if (*wanted != NULL && strcmp(key, *wanted) == 0)
        *wanted = NULL;
}

static inline bool is_up(struct world *world, const char *key)
{
    health_visit(world->health, visit_key, &key);
    return key == NULL;
}

struct told {
    const char *key;
    char text[HEALTH_TEXT_MAX];
};

static inline void visit_told(void *arg, const char *key, bool blocking, const char *text)
{
    struct told *told = arg;

    if (strcmp(key, told->key) != 0)
        return;
    assert_false(blocking);
    snprintf(told->text, sizeof(told->text), "%s", text);
}

/* What health says under this key; "": nothing. Lent until the next call. */
static inline const char *health_text(struct world *world, const char *key)
{
    static struct told found;

    found = (struct told){.key = key};
    health_visit(world->health, visit_told, &found);
    return found.text;
}

/* Text of all dead-letter files; returned owned. */
static inline char *dead_letters(struct world *world, size_t *lines)
{
    char *text = calloc(1, 1u << 20);
    size_t len = 0;
    DIR *dir = opendir(world->dir);
    struct dirent *entry;

    *lines = 0;
    while ((entry = readdir(dir)) != NULL) {
        char path[512];
        FILE *file;
        if (strstr(entry->d_name, ".ndjson") == NULL)
            continue;
        snprintf(path, sizeof(path), "%s/%s", world->dir, entry->d_name);
        file = fopen(path, "r");
        len += fread(text + len, 1, (1u << 20) - len - 1, file);
        fclose(file);
    }
    closedir(dir);
    for (const char *at = text; *at != '\0'; at++)
        *lines += *at == '\n';
    return text;
}

#endif
