/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_redis_link.c - the connection to Redis as claims.c uses it: redis.url, log-in, replies,
 * time-outs.
 */
#include "redis_link.h"

#include "claims_fixture.h"

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

static void a_bad_url_is_refused(void **state)
{
    (void)state;
    use_url("redis://user@h");
    assert_null(claims);
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
    assert_non_null(strstr(
        redis_condition().text,
        "WRONGPASS invalid username-password pair or user is disabled: it does not take the user"));
    assert_null(strstr(redis_condition().text, "secret"));
    use_port(redis.port);
    assert_int_equal(take(), -EAGAIN);
    assert_non_null(strstr(redis_condition().text, "NOAUTH Authentication required: it wants"));

    (void)admin_integer("CONFIG SET requirepass %s", "");
    admin_do("SELECT 3");
    assert_int_equal(admin_integer("EXISTS alloy:events:a"), 1);
}

/* Redis quotes the arguments of commands that it does not know. */
static void an_error_that_quotes_the_password_is_told_as_a_refused_log_in(void **state)
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
    assert_non_null(strstr(redis_condition().text, "ERR: it refuses the log-in"));
    assert_null(strstr(redis_condition().text, "secret"));
    assert_null(strstr(redis_condition().text, "unknown"));
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

/* Sanitizers allocate in between: the count means something only without them. */
#ifdef COUNTS_ALLOCATIONS
static void replies_cost_no_allocation(void **state)
{
    (void)state;
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
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_bad_url_is_refused),
        TEST(password_and_database_of_the_url_are_used),
        TEST(an_error_that_quotes_the_password_is_told_as_a_refused_log_in),
        TEST(a_connection_that_redis_closed_while_idle_is_no_failure),
        TEST(replies_that_make_no_sense_fail_and_claim_nothing),
        TEST(a_stalled_redis_costs_one_time_out),
        TEST(a_redis_that_stopped_reading_costs_one_time_out),
        TEST(a_stalled_log_in_shares_one_time_out),
#ifdef COUNTS_ALLOCATIONS
        TEST(replies_cost_no_allocation),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
