/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_fixture.h - a struct claims with all that it needs, a real Redis, and a fake server that
 * misbehaves on demand; for test_claims.c and test_redis_link.c.
 */
#ifndef CLAIMS_FIXTURE_H
#define CLAIMS_FIXTURE_H

#include "alloy/claims.h"

#include "alloy/clock.h"
#include "alloy/segment.h"
#include "redis_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#define INSTANCE 0x1122334455667788ull
#define RECORDS_MAX 6000
#define TIMEOUT_MS 150
#define LITERAL(text) (text), (sizeof(text) - 1)

static struct redis_fixture redis;
static redisContext *admin;
static struct config config;
static struct config_ref config_ref;
static struct health *health;
static struct metrics *metrics;
static struct metrics_thread *thread_metrics;
static struct claims *claims;
static struct distrust *distrust; /* NULL: what Redis does not know is believed */
static struct batch *batch;
static enum claims_verdict verdicts[RECORDS_MAX];
static uint64_t next_lsn = 1;

/* ---- helpers ---- */

static inline void add_record_bytes(const char *id, size_t len)
{
    struct record *record = calloc(1, sizeof(*record) + len + 1);

    assert_non_null(record);
    record->lsn = next_lsn++;
    record->id_length = (uint16_t)len;
    memcpy(record->body, id, len);
    batch_add(batch, record);
}

static inline void add_record(const char *id)
{
    add_record_bytes(id, strlen(id));
}

static inline void add_numbered(const char *prefix, int from, int to)
{
    for (int i = from; i < to; i++) {
        char id[64];

        snprintf(id, sizeof(id), "%s%d", prefix, i);
        add_record(id);
    }
}

static inline void empty_batch(void)
{
    while (batch->count > 0)
        free(batch->records[--batch->count]);
    batch->bytes = 0;
}

static inline struct claims *create_claims(void)
{
    return claims_create(&(struct claims_parts){.config = &config_ref,
                                                .health = health,
                                                .metrics = metrics,
                                                .thread_metrics = thread_metrics,
                                                .distrust = distrust,
                                                .instance_id = INSTANCE});
}

static inline void use_url(const char *url)
{
    claims_destroy(claims);
    free(config.redis_url);
    config.redis_url = strdup(url);
    claims = create_claims();
}

static inline void use_port(int port)
{
    char url[64];

    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", port);
    use_url(url);
    assert_non_null(claims);
}

static inline int take(void)
{
    return claims_take(claims, batch, verdicts, clock_mono_ms());
}

static inline size_t count_verdicts(enum claims_verdict verdict)
{
    size_t n = 0;

    for (uint32_t i = 0; i < batch->count; i++)
        n += verdicts[i] == verdict;
    return n;
}

static inline void assert_all(enum claims_verdict verdict)
{
    assert_int_equal(count_verdicts(verdict), batch->count);
}

static inline uint64_t errors(void)
{
    return atomic_load(&thread_metrics->counters[METRIC_COUNTER_redis_errors]);
}

static inline int64_t gauge_up(void)
{
    return atomic_load(&metrics->gauges[METRIC_GAUGE_redis_up]);
}

struct condition {
    const char *key;
    bool up;
    bool blocking;
    char text[HEALTH_TEXT_MAX];
};

static inline void see_condition(void *arg, const char *key, bool blocking, const char *text)
{
    struct condition *condition = arg;

    if (strcmp(key, condition->key) != 0)
        return;
    condition->up = true;
    condition->blocking = blocking;
    snprintf(condition->text, sizeof(condition->text), "%s", text);
}

static inline struct condition condition_of(const char *key)
{
    struct condition condition = {.key = key};

    health_visit(health, see_condition, &condition);
    return condition;
}

static inline struct condition redis_condition(void)
{
    return condition_of("redis");
}

static inline struct condition replicas_condition(void)
{
    return condition_of("redis.replicas");
}

static inline uint64_t short_waits(void)
{
    return atomic_load(&thread_metrics->counters[METRIC_COUNTER_redis_wait_short]);
}

static inline long long admin_integer(const char *format, ...)
{
    va_list args;
    redisReply *reply;
    long long value;

    va_start(args, format);
    reply = redisvCommand(admin, format, args);
    va_end(args);
    assert_non_null(reply);
    value = reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1000;
    freeReplyObject(reply);
    return value;
}

static inline void admin_do(const char *command)
{
    redisReply *reply = redisCommand(admin, command);

    assert_non_null(reply);
    assert_int_not_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

static inline void wait_breaker(void)
{
    while (claims_retry_in_ms(claims, clock_mono_ms()) > 0)
        fixture_pause_ms(1);
}

/* ---- a server that misbehaves on order ---- */

enum fake_mode {
    FAKE_SCRIPT,  /* one reply for each thing received, then closes */
    FAKE_STALL,   /* never answers */
    FAKE_DRIBBLE, /* a byte at a time, for ever */
    FAKE_PROXY,   /* passes on to the real Redis; the answers to the first SETs are lost */
};

struct fake {
    int fd;
    int port;
    pthread_t thread;
    enum fake_mode mode;
    const struct slice *script;
    size_t script_len;
    atomic_bool stop;
    atomic_int connections;
    char heard[4][256]; /* SCRIPT: how the first things received began */
};

static inline void fake_script(struct fake *fake, int fd)
{
    char in[65536];

    for (size_t i = 0; i < fake->script_len && recv(fd, in, sizeof(in), 0) > 0; i++) {
        if (i < ARRAY_LEN(fake->heard))
            memcpy(fake->heard[i], in, sizeof(fake->heard[i]));
        if (send(fd, fake->script[i].data, fake->script[i].len, MSG_NOSIGNAL) < 0)
            return;
    }
}

static inline void fake_stall(struct fake *fake, int fd)
{
    while (!atomic_load(&fake->stop)) {
        if (fake->mode == FAKE_DRIBBLE && send(fd, "+", 1, MSG_NOSIGNAL) < 0)
            return;
        fixture_pause_ms(10);
    }
}

static inline void fake_proxy(struct fake *fake, int fd)
{
    redisContext *real = redisConnectUnix(redis.socket);
    bool lose = atomic_load(&fake->connections) == 1;
    char in[65536];

    assert_int_equal(real->err, 0);
    for (;;) {
        ssize_t n = recv(fd, in, sizeof(in), 0);
        bool set = n > 0 && memmem(in, (size_t)n, LITERAL("SET\r\n")) != NULL;

        if (n <= 0 || write(real->fd, in, (size_t)n) != n)
            break;
        n = read(real->fd, in, sizeof(in));
        if (n <= 0 || (set && lose) || send(fd, in, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    }
    redisFree(real);
}

static inline void *fake_run(void *arg)
{
    struct fake *fake = arg;

    for (;;) {
        int fd = accept(fake->fd, NULL, NULL);

        if (fd < 0)
            return NULL;
        atomic_fetch_add(&fake->connections, 1);
        switch (fake->mode) {
        case FAKE_SCRIPT:
            fake_script(fake, fd);
            break;
        case FAKE_STALL:
        case FAKE_DRIBBLE:
            fake_stall(fake, fd);
            break;
        case FAKE_PROXY:
            fake_proxy(fake, fd);
            break;
        }
        close(fd);
    }
}

static inline void fake_start(struct fake *fake)
{
    fake->fd = fixture_listen(&fake->port);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
    use_port(fake->port);
}

static inline void fake_end(struct fake *fake)
{
    atomic_store(&fake->stop, true);
    claims_destroy(claims);
    claims = NULL;
    shutdown(fake->fd, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->fd);
}

/* Takes the batch from a server that answers so. */
static inline int take_scripted(const struct slice *script, size_t len)
{
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = len};
    int err;

    fake_start(&fake);
    err = take();
    fake_end(&fake);
    return err;
}

/* ---- fixtures ---- */

static inline int setup(void **state)
{
    (void)state;
    if (redis.pid == 0)
        redis_fixture_start(&redis);
    admin = redisConnectUnix(redis.socket);
    config = (struct config){.redis_chunk = 1000,
                             .redis_timeout_ms = TIMEOUT_MS,
                             .worker_batch = 2500,
                             .redis_key_prefix = "alloy:",
                             .stream_count = 1};
    config.streams[0] = (struct config_stream){.name = "events", .ttl_ms = 1500};
    atomic_store(&config_ref.current, &config);
    health = health_create();
    metrics = metrics_create();
    thread_metrics = metrics_thread_create(metrics);
    batch = batch_create(0, RECORDS_MAX);
    admin_do("FLUSHALL");
    use_url(redis.url);
    return claims != NULL && batch != NULL ? 0 : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    claims_destroy(claims);
    claims = NULL;
    free(config.redis_url);
    empty_batch();
    free(batch);
    metrics_destroy(metrics);
    health_destroy(health);
    redisFree(admin);
    return 0;
}

static inline int group_teardown(void **state)
{
    (void)state;
    redis_fixture_remove(&redis);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
