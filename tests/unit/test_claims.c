/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims.c - claims against a real Redis; a fake server only for what must misbehave on order.
 */
#include "alloy/claims.h"

#include "alloy/clock.h"
#include "alloy/log.h"
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
static struct batch *batch;
static enum claims_verdict verdicts[RECORDS_MAX];
static uint64_t next_lsn = 1;

/* ---- counting allocations ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define COUNTS_ALLOCATIONS 1
static _Thread_local size_t allocations;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}
#endif

/* ---- helpers ---- */

static void add_record_bytes(const char *id, size_t len)
{
    struct record *record = calloc(1, sizeof(*record) + len + 1);

    assert_non_null(record);
    record->lsn = next_lsn++;
    record->id_length = (uint16_t)len;
    memcpy(record->body, id, len);
    batch_add(batch, record);
}

static void add_record(const char *id)
{
    add_record_bytes(id, strlen(id));
}

static void add_numbered(const char *prefix, int from, int to)
{
    for (int i = from; i < to; i++) {
        char id[64];

        snprintf(id, sizeof(id), "%s%d", prefix, i);
        add_record(id);
    }
}

static void empty_batch(void)
{
    while (batch->count > 0)
        free(batch->records[--batch->count]);
    batch->bytes = 0;
}

static void use_url(const char *url)
{
    claims_destroy(claims);
    free(config.redis_url);
    config.redis_url = strdup(url);
    claims = claims_create(&(struct claims_parts){.config = &config_ref,
                                                  .health = health,
                                                  .metrics = metrics,
                                                  .thread_metrics = thread_metrics,
                                                  .instance_id = INSTANCE});
}

static void use_port(int port)
{
    char url[64];

    snprintf(url, sizeof(url), "redis://127.0.0.1:%d", port);
    use_url(url);
    assert_non_null(claims);
}

static int take(void)
{
    return claims_take(claims, batch, verdicts, clock_mono_ms());
}

static size_t count_verdicts(enum claims_verdict verdict)
{
    size_t n = 0;

    for (uint32_t i = 0; i < batch->count; i++)
        n += verdicts[i] == verdict;
    return n;
}

static void assert_all(enum claims_verdict verdict)
{
    assert_int_equal(count_verdicts(verdict), batch->count);
}

static uint64_t errors(void)
{
    return atomic_load(&thread_metrics->counters[METRIC_COUNTER_redis_errors]);
}

static int64_t gauge_up(void)
{
    return atomic_load(&metrics->gauges[METRIC_GAUGE_redis_up]);
}

struct condition {
    bool up;
    bool blocking;
    char text[HEALTH_TEXT_MAX];
};

static void see_condition(void *arg, const char *key, bool blocking, const char *text)
{
    struct condition *condition = arg;

    assert_string_equal(key, "redis");
    condition->up = true;
    condition->blocking = blocking;
    snprintf(condition->text, sizeof(condition->text), "%s", text);
}

static struct condition redis_condition(void)
{
    struct condition condition = {0};

    health_visit(health, see_condition, &condition);
    return condition;
}

static long long admin_integer(const char *format, ...)
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

static void admin_do(const char *command)
{
    redisReply *reply = redisCommand(admin, command);

    assert_non_null(reply);
    assert_int_not_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

static void wait_breaker(void)
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
};

static void fake_script(struct fake *fake, int fd)
{
    char in[65536];

    for (size_t i = 0; i < fake->script_len && recv(fd, in, sizeof(in), 0) > 0; i++) {
        if (send(fd, fake->script[i].data, fake->script[i].len, MSG_NOSIGNAL) < 0)
            return;
    }
}

static void fake_stall(struct fake *fake, int fd)
{
    while (!atomic_load(&fake->stop)) {
        if (fake->mode == FAKE_DRIBBLE && send(fd, "+", 1, MSG_NOSIGNAL) < 0)
            return;
        fixture_pause_ms(10);
    }
}

static void fake_proxy(struct fake *fake, int fd)
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

static void *fake_run(void *arg)
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

static void fake_start(struct fake *fake)
{
    fake->fd = fixture_listen(&fake->port);
    assert_int_equal(pthread_create(&fake->thread, NULL, fake_run, fake), 0);
    use_port(fake->port);
}

static void fake_end(struct fake *fake)
{
    atomic_store(&fake->stop, true);
    claims_destroy(claims);
    claims = NULL;
    shutdown(fake->fd, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->fd);
}

/* Takes the batch from a server that answers so. */
static int take_scripted(const struct slice *script, size_t len)
{
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = len};
    int err;

    fake_start(&fake);
    err = take();
    fake_end(&fake);
    return err;
}

/* ---- fixtures ---- */

static int setup(void **state)
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

static int teardown(void **state)
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

static int group_teardown(void **state)
{
    (void)state;
    redis_fixture_remove(&redis);
    return 0;
}

/* ---- tests ---- */

static void new_ids_are_owned_and_written_with_value_and_ttl(void **state)
{
    static const unsigned char value[16] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33,
                                            0x22, 0x11, 0x78, 0x56, 0x34, 0x12};
    redisReply *reply;

    (void)state;
    next_lsn = 0x12345678;
    add_record("a");
    add_record("b");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    reply = redisCommand(admin, "GET alloy:events:a");
    assert_int_equal(reply->len, 16);
    assert_memory_equal(reply->str, value, 16);
    freeReplyObject(reply);
    assert_in_range(admin_integer("PTTL alloy:events:b"), 1600, 2000); /* 1.5 s, rounded up */
    assert_int_equal(gauge_up(), 1);
    assert_int_equal(errors(), 0);
}

static void ids_of_other_records_are_duplicates(void **state)
{
    (void)state;
    add_numbered("x", 0, 10);
    assert_int_equal(take(), 0);
    empty_batch();
    add_numbered("x", 5, 15);
    assert_int_equal(take(), 0);
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(verdicts[i], i < 5 ? CLAIM_DUPLICATE : CLAIM_OWNED);
    assert_int_equal(take(), 0); /* the same records again: nothing changes */
    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(verdicts[i], i < 5 ? CLAIM_DUPLICATE : CLAIM_OWNED);
}

static void of_two_records_with_one_id_in_a_batch_the_first_wins(void **state)
{
    (void)state;
    add_record("one");
    add_record("twin");
    add_record("twin");
    add_record("two");
    assert_int_equal(take(), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    assert_int_equal(verdicts[1], CLAIM_OWNED);
    assert_int_equal(verdicts[2], CLAIM_DUPLICATE);
    assert_int_equal(verdicts[3], CLAIM_OWNED);
}

static void the_same_id_in_two_streams_is_two_claims(void **state)
{
    (void)state;
    config.stream_count = 2;
    config.streams[1] = (struct config_stream){.name = "orders", .ttl_ms = 1000};
    add_record("a");
    assert_int_equal(take(), 0);
    batch->stream = 1;
    batch->records[0]->lsn = next_lsn++;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(admin_integer("EXISTS alloy:events:a alloy:orders:a"), 2);
}

static void ids_may_hold_any_byte(void **state)
{
    (void)state;
    add_record_bytes(LITERAL("a\0b"));
    add_record_bytes(LITERAL("a\0c"));
    add_record_bytes(LITERAL("a\r\n$3\r\n"));
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(admin_integer("EXISTS %b", "alloy:events:a\0b", (size_t)16), 1);
    for (uint32_t i = 0; i < batch->count; i++)
        batch->records[i]->lsn = next_lsn++;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
}

/* Every third id is known already; chunks of any size, batches beyond worker.batch, and ids so long
 * that it takes several windows must not mix up who is who. */
static void check_mixture(uint64_t chunk, size_t id_len, int n)
{
    char *id = malloc(id_len + 16);

    admin_do("FLUSHALL");
    config.redis_chunk = chunk;
    for (int pass = 0; pass < 2; pass++) {
        empty_batch();
        for (int i = 0; i < n; i++) {
            if (pass == 0 && i % 3 != 0)
                continue;
            memset(id, 'i', id_len);
            add_record_bytes(id, id_len + (size_t)sprintf(id + id_len, "%d", i));
        }
        assert_int_equal(take(), 0);
    }
    for (int i = 0; i < n; i++)
        assert_int_equal(verdicts[i], i % 3 == 0 ? CLAIM_DUPLICATE : CLAIM_OWNED);
    free(id);
}

static void chunks_windows_and_slices_keep_verdicts_with_their_records(void **state)
{
    (void)state;
    config.redis_timeout_ms = 5000;
    check_mixture(1, 5, 300);
    check_mixture(7, 5, 22);
    check_mixture(7, 5, 21);
    check_mixture(1000, 4000, 300);
    check_mixture(100000, 40, RECORDS_MAX);
}

static void an_id_of_the_longest_length_fits(void **state)
{
    char *id = malloc(UINT16_MAX);

    (void)state;
    memset(id, 'x', UINT16_MAX);
    for (int i = 0; i < 12; i++) {
        id[0] = (char)('a' + i);
        add_record_bytes(id, UINT16_MAX);
    }
    free(id);
    config.redis_timeout_ms = 5000;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
}

static void a_key_that_is_no_string_is_a_duplicate(void **state)
{
    (void)state;
    admin_do("LPUSH alloy:events:list 1");
    admin_do("SET alloy:events:short 1");
    add_record("list");
    add_record("short");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
}

static void without_a_url_every_record_is_owned(void **state)
{
    (void)state;
    use_url("");
    add_record("a");
    add_record("a");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(claims_probe(claims, 0), 0);
    assert_int_equal(gauge_up(), 0);
    assert_int_equal(admin_integer("DBSIZE"), 0);
}

static void bad_urls_are_refused(void **state)
{
    static const char *const bad[] = {
        "http://127.0.0.1",
        "redis://",
        "redis:///0",
        "redis://:6379",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:",
        "redis://h:6x",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/0/1",
        "redis://user@h",
        "redis://u:%zz@h",
        "redis://u:%4@h",
        "redis://u:%00@h",
        "redis://u:%",
        "redis://[::1",
        "redis://[::1]x",
        "redis://[]:1",
        "redis://a:b:1",
        "unix://",
        "unix://relative",
        "unix:///",
        "unix:///s?db=",
        "unix:///s?db=x",
        "unix:///s?x=1",
        "redis://h/9999999999",
        "redis",
        "unix:///"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        "aaaaaaaaaaaaaaaaaaaaaa",
    };
    static const char *const good[] = {
        "redis://h",     "redis://h/",     "redis://h:1/15",  "redis://[::1]:6379/2",
        "redis://[::1]", "redis://:p@h",   "redis://u:p@h:1", "redis://u:p%40%2f@h",
        "unix:///s",     "unix:///s?db=3", "redis://u:p@x@h", "unix://:p@/s",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        use_url(bad[i]);
        if (claims != NULL)
            fail_msg("%s was taken", bad[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        use_url(good[i]);
        if (claims == NULL)
            fail_msg("%s was refused", good[i]);
    }
}

static void password_and_database_of_the_url_are_used(void **state)
{
    char url[128];

    (void)state;
    admin_do("CONFIG SET requirepass p@ss/w:rd");
    snprintf(url, sizeof(url), "redis://:p%%40ss%%2Fw:rd@127.0.0.1:%d/3", redis.port);
    use_url(url);
    add_record("a");
    assert_int_equal(take(), 0);
    snprintf(url, sizeof(url), "redis://default:p%%40ss%%2fw:rd@localhost:%d/3", redis.port);
    use_url(url);
    assert_int_equal(take(), 0);
    snprintf(url, sizeof(url), "unix://:p%%40ss%%2Fw:rd@%s?db=3", redis.socket);
    use_url(url);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);

    snprintf(url, sizeof(url), "redis://:secret@127.0.0.1:%d", redis.port);
    use_url(url);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_non_null(strstr(redis_condition().text, "WRONGPASS"));
    assert_null(strstr(redis_condition().text, "secret"));
    use_port(redis.port);
    assert_int_equal(take(), -EAGAIN);
    assert_non_null(strstr(redis_condition().text, "NOAUTH"));

    (void)admin_integer("CONFIG SET requirepass %s", "");
    admin_do("SELECT 3");
    assert_int_equal(admin_integer("EXISTS alloy:events:a"), 1);
}

/* Redis quotes the arguments of commands that it does not know. */
static void an_error_that_quotes_the_password_is_not_repeated(void **state)
{
    static const struct slice script = {
        LITERAL("-ERR unknown command `AUTH`, with args beginning with: `secret`\r\n")};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = &script, .script_len = 1};
    char url[64];

    (void)state;
    fake_start(&fake);
    snprintf(url, sizeof(url), "redis://:secret@127.0.0.1:%d", fake.port);
    use_url(url);
    assert_int_equal(claims_probe(claims, clock_mono_ms()), -EAGAIN);
    fake_end(&fake);
    assert_non_null(strstr(redis_condition().text, "ERR"));
    assert_null(strstr(redis_condition().text, "secret"));
}

static void a_dead_redis_costs_one_try_until_the_breaker_lets_the_next_through(void **state)
{
    int tries = 0;

    (void)state;
    config.redis_on_failure = CONFIG_REDIS_HOLD;
    add_record("a");
    assert_int_equal(take(), 0);
    redis_fixture_stop(&redis);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_true(claims_down(claims));
    assert_int_equal(gauge_up(), 0);
    assert_int_equal(errors(), 1);
    assert_true(redis_condition().blocking);
    assert_in_range(claims_retry_in_ms(claims, clock_mono_ms()), 1, 50);
    while (errors() == 1 && tries < 1000000) {
        assert_int_equal(take(), -EAGAIN);
        tries++;
    }
    assert_in_range(tries, 10, 1000000); /* all but the last did not reach for Redis */
    config.redis_on_failure = CONFIG_REDIS_PASS;
    wait_breaker();
    assert_int_equal(claims_probe(claims, clock_mono_ms()), -EAGAIN);
    assert_true(redis_condition().up);
    assert_false(redis_condition().blocking);

    redis_fixture_start(&redis);
    wait_breaker();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_false(claims_down(claims));
    assert_int_equal(gauge_up(), 1);
    assert_false(redis_condition().up);
}

static void the_breaker_waits_longer_each_time_up_to_two_seconds(void **state)
{
    uint64_t now = 1000000;
    uint64_t wait = 0;
    int port;

    (void)state;
    close(fixture_listen(&port));
    use_port(port);
    add_record("a");
    for (int i = 0; i < 10; i++) {
        uint64_t most = i < 6 ? 50ull << i : 2000;

        assert_int_equal(claims_take(claims, batch, verdicts, now), -EAGAIN);
        wait = claims_retry_in_ms(claims, now);
        assert_in_range(wait, most / 2, most + TIMEOUT_MS);
        now += wait;
    }
    assert_int_equal(errors(), 10);
}

static void a_connection_that_redis_closed_while_idle_is_no_failure(void **state)
{
    (void)state;
    add_record("a");
    assert_int_equal(take(), 0);
    assert_int_equal(admin_integer("CLIENT KILL TYPE normal SKIPME yes"), 1);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(errors(), 0);
}

static void a_set_whose_answer_was_lost_is_found_to_be_our_own(void **state)
{
    struct fake fake = {.mode = FAKE_PROXY};

    (void)state;
    add_numbered("x", 0, 20);
    fake_start(&fake);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_int_equal(admin_integer("DBSIZE"), 20); /* they did go through */
    wait_breaker();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(atomic_load(&fake.connections), 2);
    fake_end(&fake);
}

/* Redis may run the SET of a connection that we gave up after it has answered the next MGET. */
static void a_set_that_loses_to_our_own_late_set_is_owned(void **state)
{
    static const struct slice script[] = {
        {LITERAL("*2\r\n$-1\r\n$-1\r\n")},
        {LITERAL("$-1\r\n$-1\r\n")},
        {LITERAL("*2\r\n$16\r\n\x88\x77\x66\x55\x44\x33\x22\x11\x77\0\0\0\0\0\0\0\r\n"
                 "$16\r\n\x88\x77\x66\x55\x44\x33\x22\x11\x77\0\0\0\0\0\0\0\r\n")},
    };

    (void)state;
    next_lsn = 0x77;
    add_record("a");
    add_record("b");
    assert_int_equal(take_scripted(script, 3), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    assert_int_equal(verdicts[1], CLAIM_DUPLICATE);
}

static void an_error_reply_is_a_failure_of_the_claims_and_never_a_duplicate(void **state)
{
    static const char *const codes[] = {
        "LOADING", "READONLY",    "MASTERDOWN", "NOAUTH",    "WRONGPASS", "OOM",    "MISCONF",
        "BUSY",    "CLUSTERDOWN", "MOVED",      "CROSSSLOT", "TRYAGAIN",  "NOPERM", "ERR",
    };

    (void)state;
    add_record("a");
    add_record("b");
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        char line[64];
        struct slice script = {line, (size_t)sprintf(line, "-%s \"no\"\r\n", codes[i])};
        const struct slice misses = {LITERAL("*2\r\n$-1\r\n$-1\r\n")};

        assert_int_equal(take_scripted(&script, 1), -EAGAIN);
        assert_all(CLAIM_UNKNOWN);
        assert_non_null(strstr(redis_condition().text, codes[i]));
        assert_null(strchr(redis_condition().text, '"'));
        memcpy(line + script.len, "+OK\r\n", 6);
        assert_int_equal(take_scripted((const struct slice[]){misses, {line, script.len + 5}}, 2),
                         -EAGAIN);
        assert_int_equal(verdicts[0], CLAIM_UNKNOWN);
        assert_int_equal(verdicts[1], CLAIM_OWNED);
    }
    assert_int_equal(errors(), 2 * ARRAY_LEN(codes));
}

static void replies_that_make_no_sense_fail_and_claim_nothing(void **state)
{
    static const struct slice replies[] = {
        {LITERAL("*2\r\n$16\r\nabc")},
        {LITERAL("*2\r\n$-1\r\n")},
        {LITERAL("*1\r\n$-1\r\n")},
        {LITERAL("*3\r\n$-1\r\n$-1\r\n$-1\r\n")},
        {LITERAL("*2147483647\r\n$-1\r\n")},
        {LITERAL("*-1\r\n")},
        {LITERAL("*0\r\n")},
        {LITERAL("*2\r\n*1\r\n$1\r\na\r\n$-1\r\n")},
        {LITERAL("*2\r\n:1\r\n:2\r\n")},
        {LITERAL("*2\r\n+OK\r\n+OK\r\n")},
        {LITERAL("+OK\r\n")},
        {LITERAL(":1\r\n")},
        {LITERAL("$-1\r\n")},
        {LITERAL("HTTP/1.1 400 Bad Request\r\n\r\n")},
        {LITERAL("$9223372036854775807\r\n")},
        {LITERAL("")},
    };
    static const struct slice sets[] = {
        {LITERAL(":1\r\n")}, {LITERAL("$2\r\nOK\r\n")}, {LITERAL("+QUEUED\r\n")},
        {LITERAL("*0\r\n")}, {LITERAL("+O")},
    };

    (void)state;
    add_record("a");
    add_record("b");
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        assert_int_equal(take_scripted(&replies[i], 1), -EAGAIN);
        assert_int_equal(count_verdicts(CLAIM_OWNED), 0);
        assert_int_equal(count_verdicts(CLAIM_DUPLICATE), 0);
        assert_int_not_equal(redis_condition().text[0], '\0');
    }
    for (size_t i = 0; i < ARRAY_LEN(sets); i++) {
        const struct slice script[] = {{LITERAL("*2\r\n$-1\r\n$-1\r\n")}, sets[i]};

        assert_int_equal(take_scripted(script, 2), -EAGAIN);
        assert_all(CLAIM_UNKNOWN);
    }
}

static void what_was_answered_before_the_failure_stays_known(void **state)
{
    static const struct slice reply = {LITERAL("*2\r\n$1\r\nx\r\n")};

    (void)state;
    add_record("a");
    add_record("b");
    assert_int_equal(take_scripted(&reply, 1), -EAGAIN);
    assert_int_equal(verdicts[0], CLAIM_DUPLICATE);
    assert_int_equal(verdicts[1], CLAIM_UNKNOWN);
}

static void a_stalled_redis_costs_one_time_out(void **state)
{
    (void)state;
    add_record("a");
    for (enum fake_mode mode = FAKE_STALL; mode <= FAKE_DRIBBLE; mode++) {
        struct fake fake = {.mode = mode};
        uint64_t started;

        fake_start(&fake);
        started = clock_mono_ms();
        assert_int_equal(take(), -EAGAIN);
        assert_in_range(clock_mono_ms() - started, TIMEOUT_MS - 1, 1000);
        assert_all(CLAIM_UNKNOWN);
        assert_non_null(strstr(redis_condition().text, "timed out"));
        fake_end(&fake);
    }
}

static void a_redis_that_stopped_reading_costs_one_time_out(void **state)
{
    struct fake fake = {.mode = FAKE_STALL};
    char id[4000];
    uint64_t started;

    (void)state;
    memset(id, 'x', sizeof(id));
    for (int i = 0; i < 2000; i++)
        add_record_bytes(id, sizeof(id));
    fake_start(&fake);
    started = clock_mono_ms();
    assert_int_equal(take(), -EAGAIN);
    assert_in_range(clock_mono_ms() - started, TIMEOUT_MS - 1, 1000);
    fake_end(&fake);
}

static void a_stalled_log_in_shares_one_time_out(void **state)
{
    struct fake fake = {.mode = FAKE_STALL};
    char url[64];
    uint64_t started;

    (void)state;
    add_record("a");
    fake_start(&fake);
    snprintf(url, sizeof(url), "redis://:p@127.0.0.1:%d/1", fake.port);
    use_url(url);
    started = clock_mono_ms();
    assert_int_equal(take(), -EAGAIN);
    assert_in_range(clock_mono_ms() - started, TIMEOUT_MS - 1, 2 * TIMEOUT_MS);
    fake_end(&fake);
}

static void an_answer_after_the_time_out_is_not_taken_for_the_next(void **state)
{
    (void)state;
    add_record("a");
    assert_int_equal(take(), 0);
    empty_batch();
    add_record("b");
    kill(redis.pid, SIGSTOP);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    kill(redis.pid, SIGCONT);
    wait_breaker();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
}

static void released_ids_are_new_again_and_others_stay(void **state)
{
    (void)state;
    add_record("mine");
    assert_int_equal(take(), 0);
    admin_do("SET alloy:events:theirs 0123456789abcdef");
    add_record("theirs");
    add_record("nobodys");
    assert_int_equal(claims_release(claims, batch->records, batch->count, clock_mono_ms()), 0);
    assert_int_equal(admin_integer("EXISTS alloy:events:mine"), 0);
    assert_int_equal(admin_integer("EXISTS alloy:events:theirs"), 1);
    batch->records[0]->lsn = next_lsn++;
    assert_int_equal(take(), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
}

static void a_probe_tells_whether_redis_is_there(void **state)
{
    (void)state;
    assert_int_equal(gauge_up(), 0);
    assert_int_equal(claims_probe(claims, clock_mono_ms()), 0);
    assert_int_equal(gauge_up(), 1);
}

static void after_a_cancel_redis_is_left_alone(void **state)
{
    (void)state;
    add_record("a");
    claims_cancel(claims);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_int_equal(errors(), 0);
    assert_false(redis_condition().up);
    assert_int_equal(admin_integer("DBSIZE"), 0);
}

static void a_reload_of_chunk_and_ttl_takes_effect(void **state)
{
    struct config next = config;

    (void)state;
    add_record("a");
    assert_int_equal(take(), 0);
    next.streams[0].ttl_ms = 100000;
    next.redis_chunk = 1;
    atomic_store(&config_ref.current, &next);
    add_record("b");
    assert_int_equal(take(), 0);
    assert_in_range(admin_integer("TTL alloy:events:b"), 90, 100);
    atomic_store(&config_ref.current, &config);
}

static void replies_cost_no_allocation(void **state)
{
    (void)state;
#ifdef COUNTS_ALLOCATIONS
    size_t before;

    add_numbered("x", 0, 2500);
    config.redis_timeout_ms = 5000;
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 0); /* 2500 values came */
    before = allocations;
    assert_int_equal(take(), 0);
    assert_in_range(allocations - before, 0, 8);
    admin_do("FLUSHALL");
    before = allocations;
    assert_int_equal(take(), 0); /* 2500 nils and 2500 OKs */
    assert_in_range(allocations - before, 0, 8);
#else
    skip();
#endif
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(new_ids_are_owned_and_written_with_value_and_ttl),
        TEST(ids_of_other_records_are_duplicates),
        TEST(of_two_records_with_one_id_in_a_batch_the_first_wins),
        TEST(the_same_id_in_two_streams_is_two_claims),
        TEST(ids_may_hold_any_byte),
        TEST(chunks_windows_and_slices_keep_verdicts_with_their_records),
        TEST(an_id_of_the_longest_length_fits),
        TEST(a_key_that_is_no_string_is_a_duplicate),
        TEST(without_a_url_every_record_is_owned),
        TEST(bad_urls_are_refused),
        TEST(password_and_database_of_the_url_are_used),
        TEST(an_error_that_quotes_the_password_is_not_repeated),
        TEST(a_dead_redis_costs_one_try_until_the_breaker_lets_the_next_through),
        TEST(the_breaker_waits_longer_each_time_up_to_two_seconds),
        TEST(a_connection_that_redis_closed_while_idle_is_no_failure),
        TEST(a_set_whose_answer_was_lost_is_found_to_be_our_own),
        TEST(a_set_that_loses_to_our_own_late_set_is_owned),
        TEST(an_error_reply_is_a_failure_of_the_claims_and_never_a_duplicate),
        TEST(replies_that_make_no_sense_fail_and_claim_nothing),
        TEST(what_was_answered_before_the_failure_stays_known),
        TEST(a_stalled_redis_costs_one_time_out),
        TEST(a_redis_that_stopped_reading_costs_one_time_out),
        TEST(a_stalled_log_in_shares_one_time_out),
        TEST(an_answer_after_the_time_out_is_not_taken_for_the_next),
        TEST(released_ids_are_new_again_and_others_stay),
        TEST(a_probe_tells_whether_redis_is_there),
        TEST(after_a_cancel_redis_is_left_alone),
        TEST(a_reload_of_chunk_and_ttl_takes_effect),
        TEST(replies_cost_no_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
