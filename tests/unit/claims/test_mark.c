/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mark.c - which deployment's keys they are, with several deployments on a real Redis.
 */
#include "alloy/mark.h"

#include "alloy/clock.h"
#include "redis_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include <stdatomic.h>

#define DEADLINE_MS 10000
#define STALE_MS 12000 /* as mark.c has it */

static struct redis_fixture redis;
static redisContext *admin;
static struct config config;
static struct config_ref config_ref;
static struct ring *ring;
static char shards[] = "http://one|http://two|http://three";
static char other_shards[] = "http://else|http://two|http://three";

/* One alloyd, as far as marks are concerned. */
struct side {
    struct health *health;
    struct marks *marks;
};
static struct side sides[2];

#define WAIT_FOR(condition)                                  \
    do {                                                     \
        uint64_t give_up_ms = clock_mono_ms() + DEADLINE_MS; \
        while (!(condition)) {                               \
            if (clock_mono_ms() > give_up_ms)                \
                fail_msg("waited too long for " #condition); \
            fixture_pause_ms(1);                             \
        }                                                    \
    } while (0)

static void start(size_t side, uint64_t instance_id)
{
    sides[side].health = health_create();
    assert_int_equal(
        marks_start(&sides[side].marks, &(struct marks_parts){.config = &config_ref,
                                                              .health = sides[side].health,
                                                              .ring = ring,
                                                              .instance_id = instance_id}),
        0);
}

static void stop(size_t side)
{
    if (sides[side].marks == NULL)
        return;
    marks_stop(sides[side].marks);
    health_destroy(sides[side].health);
    sides[side] = (struct side){0};
}

static enum marks_verdict ask(size_t side)
{
    return marks_ask(sides[side].marks, 0, clock_mono_ms());
}

static char foreign_text[HEALTH_TEXT_MAX];

static void see_condition(void *arg, const char *key, bool blocking, const char *text)
{
    (void)arg;
    assert_string_equal(key, "redis.foreign");
    assert_true(blocking);
    snprintf(foreign_text, sizeof(foreign_text), "%s", text);
}

static const char *foreign(size_t side)
{
    foreign_text[0] = '\0';
    health_visit(sides[side].health, see_condition, NULL);
    return foreign_text;
}

static void admin_do(const char *command)
{
    redisReply *reply = redisCommand(admin, command);

    assert_non_null(reply);
    assert_int_not_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

static long long ttl_of_mark(void)
{
    redisReply *reply = redisCommand(admin, "TTL alloy:#table:events");
    const long long ttl = reply->integer;

    freeReplyObject(reply);
    return ttl;
}

static bool mark_begins(const char *text)
{
    redisReply *reply = redisCommand(admin, "GET alloy:#table:events");
    const bool begins =
        reply->type == REDIS_REPLY_STRING && strncmp(reply->str, text, strlen(text)) == 0;

    freeReplyObject(reply);
    return begins;
}

static int setup(void **state)
{
    (void)state;
    if (redis.pid == 0)
        redis_fixture_start(&redis);
    admin = redisConnectUnix(redis.socket);
    config = (struct config){.redis_url = redis.url,
                             .redis_key_prefix = "alloy:",
                             .clickhouse_url = shards,
                             .redis_timeout_ms = 500,
                             .stream_count = 2};
    config.streams[0] = (struct config_stream){.name = "events",
                                               .ttl_ms = 1500,
                                               .database = "db",
                                               .table = "events",
                                               .table_text = "db.events"};
    config.streams[1] = (struct config_stream){.name = "orders",
                                               .ttl_ms = 1500,
                                               .database = "db",
                                               .table = "orders",
                                               .table_text = "db.orders"};
    atomic_store(&config_ref.current, &config);
    ring = ring_create(10);
    admin_do("FLUSHALL");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    stop(0);
    stop(1);
    ring_destroy(ring);
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

static void before_its_table_is_told_a_stream_keeps_its_events(void **state)
{
    (void)state;
    admin_do("SET alloy:#table:events table-a");
    start(0, 1);
    fixture_pause_ms(300);
    assert_int_equal(ask(0), MARKS_UNSEEN);
    assert_string_equal(foreign(0), "");
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    assert_true(mark_begins("table-a db.events "));
    assert_in_range(ttl_of_mark(), 100, 122);
    assert_int_equal(marks_ask(NULL, 0, 0), MARKS_CLAIM);
}

/* ClickHouse may be away at the start of the first of all alloyd. */
static void who_comes_first_need_not_know_its_table(void **state)
{
    (void)state;
    start(0, 1);
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    assert_true(mark_begins("instance-0000000000000001 "));
    start(1, 2);
    fixture_pause_ms(300);
    assert_int_equal(ask(1), MARKS_UNSEEN);
    marks_tell(sides[1].marks, 0, 0, "table-a"); /* the first will be told in an instant */
    fixture_pause_ms(300);
    assert_int_equal(ask(1), MARKS_UNSEEN);
    assert_string_equal(foreign(1), "");
    for (int i = 0; i < STALE_MS / 100 + 50 && foreign(1)[0] == '\0'; i++)
        fixture_pause_ms(100);
    assert_non_null(strstr(foreign(1), "instance-0000000000000001")); /* but it is not */
    assert_int_equal(ask(1), MARKS_UNSEEN);
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(ask(0) == MARKS_CLAIM && ask(1) == MARKS_CLAIM);
    assert_true(mark_begins("table-a "));
    WAIT_FOR(foreign(1)[0] == '\0');
    /* The same, with another table. */
    stop(1);
    admin_do("FLUSHALL");
    stop(0);
    start(0, 1);
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    start(1, 2);
    marks_tell(sides[1].marks, 0, 0, "table-b");
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(foreign(1)[0] != '\0' && ask(0) == MARKS_CLAIM);
    assert_int_equal(ask(1), MARKS_KEEP);
}

static void a_table_that_cannot_be_known_goes_on_without_the_check(void **state)
{
    static const char *const unknown[] = {"", "00000000-0000-0000-0000-000000000000"};

    (void)state;
    admin_do("SET alloy:#table:events theirs");
    for (size_t i = 0; i < ARRAY_LEN(unknown); i++) {
        start(0, 1);
        marks_tell(sides[0].marks, 0, 0, unknown[i]);
        assert_int_equal(ask(0), MARKS_CLAIM);
        assert_string_equal(foreign(0), "");
        stop(0);
    }
    assert_true(mark_begins("theirs"));
    /* Until it can. */
    start(0, 1);
    marks_tell(sides[0].marks, 0, 0, "");
    marks_tell(sides[0].marks, 0, 0, "ours");
    WAIT_FOR(ask(0) == MARKS_KEEP);
    /* What was known once is not forgotten with the rights. */
    marks_tell(sides[0].marks, 0, 0, "");
    assert_int_equal(ask(0), MARKS_KEEP);
}

static void another_tables_mark_blocks_and_names_the_prefix(void **state)
{
    (void)state;
    start(0, 1);
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    start(1, 2);
    marks_tell(sides[1].marks, 0, 0, "table-b");
    WAIT_FOR(ask(1) == MARKS_KEEP && foreign(1)[0] != '\0');
    assert_non_null(strstr(foreign(1), "stream events"));
    assert_non_null(strstr(foreign(1), "db.events (table-a)"));
    assert_non_null(strstr(foreign(1), "db.events (table-b)"));
    assert_non_null(strstr(foreign(1), "redis.key_prefix = alloy:"));
    assert_non_null(strstr(foreign(1), "alloy:#table:events"));
    assert_int_equal(ask(0), MARKS_CLAIM);
    assert_string_equal(foreign(0), "");
    assert_true(mark_begins("table-a "));
    /* The first one goes for good, and so does its mark. */
    stop(0);
    admin_do("DEL alloy:#table:events");
    WAIT_FOR(ask(1) == MARKS_CLAIM && foreign(1)[0] == '\0');
    assert_true(mark_begins("table-b "));
}

static void of_two_that_begin_together_one_wins(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        admin_do("FLUSHALL");
        start(0, 1);
        start(1, 2);
        marks_tell(sides[0].marks, 0, 0, "table-a");
        marks_tell(sides[1].marks, 0, 0, "table-b");
        WAIT_FOR(ask(0) != MARKS_UNSEEN && ask(1) != MARKS_UNSEEN);
        assert_int_equal((ask(0) == MARKS_CLAIM) + (ask(1) == MARKS_CLAIM), 1);
        assert_true(mark_begins(ask(0) == MARKS_CLAIM ? "table-a " : "table-b "));
        stop(0);
        stop(1);
    }
}

static void all_alloyd_of_one_table_share_the_mark(void **state)
{
    (void)state;
    for (size_t side = 0; side < 2; side++) {
        start(side, side + 1);
        marks_tell(sides[side].marks, 0, 0, "table-a");
    }
    WAIT_FOR(ask(0) == MARKS_CLAIM && ask(1) == MARKS_CLAIM);
}

static void a_table_that_was_made_again_takes_its_mark_along(void **state)
{
    (void)state;
    all_alloyd_of_one_table_share_the_mark(state);
    marks_tell(sides[0].marks, 0, 0, "table-a2");
    WAIT_FOR(ask(0) == MARKS_CLAIM && mark_begins("table-a2 "));
    /* The other one has not been told yet, and must not put it back. */
    WAIT_FOR(ask(1) == MARKS_KEEP);
    assert_true(mark_begins("table-a2 "));
    marks_tell(sides[1].marks, 0, 0, "table-a2");
    WAIT_FOR(ask(1) == MARKS_CLAIM);
    assert_int_equal(ask(0), MARKS_CLAIM);
}

/* It was of this deployment, and has been configured for another ClickHouse. */
static void a_mark_that_others_use_is_not_replaced_after_a_restart(void **state)
{
    uint64_t until_ms;

    (void)state;
    all_alloyd_of_one_table_share_the_mark(state);
    stop(1);
    start(1, 2);
    marks_tell(sides[1].marks, 0, 0, "table-b");
    until_ms = clock_mono_ms() + STALE_MS + 3000;
    while (clock_mono_ms() < until_ms) {
        assert_int_not_equal(ask(1), MARKS_CLAIM);
        fixture_pause_ms(20);
    }
    assert_true(mark_begins("table-a "));
    stop(0); /* now nobody does */
    until_ms = clock_mono_ms() + 2 * STALE_MS;
    while (ask(1) != MARKS_CLAIM && clock_mono_ms() < until_ms)
        fixture_pause_ms(20);
    assert_true(mark_begins("table-b "));
}

static void the_lease_ends_where_redis_is_away_and_another_stays_foreign(void **state)
{
    (void)state;
    start(0, 1);
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    start(1, 2);
    marks_tell(sides[1].marks, 0, 0, "table-b");
    WAIT_FOR(foreign(1)[0] != '\0');
    redis_fixture_stop(&redis);
    assert_int_equal(ask(0), MARKS_CLAIM);
    assert_int_equal(marks_ask(sides[0].marks, 0, clock_mono_ms() + 30000), MARKS_UNSEEN);
    assert_int_equal(marks_ask(sides[1].marks, 0, clock_mono_ms() + 30000), MARKS_KEEP);
    stop(0);
    start(0, 1);
    marks_tell(sides[0].marks, 0, 0, "table-a");
    assert_int_equal(ask(0), MARKS_UNSEEN);
    redisFree(admin);
    redis_fixture_start(&redis);
    admin = redisConnectUnix(redis.socket);
    WAIT_FOR(ask(0) == MARKS_CLAIM || ask(1) == MARKS_CLAIM);
}

static void a_mark_that_may_not_be_touched_is_not_asked_for(void **state)
{
    (void)state;
    admin_do("ACL SETUSER default resetkeys ~alloy:events:*");
    start(0, 1);
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    admin_do("ACL SETUSER default allkeys");
    assert_false(mark_begins(""));
}

static void a_mark_of_another_type_is_not_asked_for(void **state)
{
    (void)state;
    admin_do("LPUSH alloy:#table:events x");
    start(0, 1);
    marks_tell(sides[0].marks, 0, 0, "table-a");
    WAIT_FOR(ask(0) == MARKS_CLAIM);
    admin_do("LPUSH alloy:#table:events y"); /* nobody has replaced it */
}

/* ---- the first shard is away ---- */

/* What the instance has told its next life. */
static bool member_has(const char *text)
{
    redisReply *reply = redisCommand(admin, "GET alloy:#member:events:0000000000000007");
    const bool has = reply->type == REDIS_REPLY_STRING && strstr(reply->str, text) != NULL;

    freeReplyObject(reply);
    return has;
}

/* One life that has seen all shards, and then another that sees none yet. */
static void live_and_start_again(uint64_t instance_id)
{
    start(0, 7);
    marks_tell(sides[0].marks, 0, 1, "a2");
    marks_tell(sides[0].marks, 0, 2, "a3");
    marks_tell(sides[0].marks, 0, 0, "a1");
    WAIT_FOR(ask(0) == MARKS_CLAIM && member_has(",") && member_has("a1 "));
    stop(0);
    start(0, instance_id);
}

static void assert_waits(void)
{
    for (int i = 0; i < 30; i++) {
        assert_int_equal(ask(0), MARKS_UNSEEN);
        fixture_pause_ms(10);
    }
}

static void another_shard_shows_that_the_mark_is_still_ours(void **state)
{
    (void)state;
    for (size_t shard = 1; shard < 3; shard++) {
        live_and_start_again(7);
        assert_waits();
        marks_tell(sides[0].marks, 0, shard, shard == 1 ? "a2" : "a3");
        WAIT_FOR(ask(0) == MARKS_CLAIM);
        assert_true(mark_begins("a1 db.events "));
        /* What was known of the others is not forgotten. */
        stop(0);
        start(0, 7);
        marks_tell(sides[0].marks, 0, 3 - shard, shard == 1 ? "a3" : "a2");
        WAIT_FOR(ask(0) == MARKS_CLAIM);
        marks_tell(sides[0].marks, 0, 0, "a1");
        WAIT_FOR(ask(0) == MARKS_CLAIM && mark_begins("a1 db.events "));
        stop(0);
        admin_do("FLUSHALL");
    }
}

static void what_is_not_as_before_waits_for_the_first_shard(void **state)
{
    (void)state;
    /* Another alloyd, which has never seen the first one. */
    live_and_start_again(8);
    marks_tell(sides[0].marks, 0, 1, "a2");
    assert_waits();
    stop(0);
    /* Another table. */
    live_and_start_again(7);
    marks_tell(sides[0].marks, 0, 1, "a2");
    marks_tell(sides[0].marks, 0, 2, "b3");
    assert_waits();
    stop(0);
    /* Another list of shards. */
    live_and_start_again(7);
    stop(0);
    config.clickhouse_url = other_shards;
    start(0, 7);
    marks_tell(sides[0].marks, 0, 1, "a2");
    assert_waits();
    stop(0);
    config.clickhouse_url = shards;
    /* Another deployment has the keys now. */
    live_and_start_again(7);
    stop(0);
    freeReplyObject(redisCommand(admin, "SET alloy:#table:events %s", "b1 db.events 1.1"));
    start(0, 7);
    marks_tell(sides[0].marks, 0, 1, "a2");
    assert_waits();
    marks_tell(sides[0].marks, 0, 0, "a1");
    WAIT_FOR(ask(0) == MARKS_KEEP);
}

static void who_was_wrong_about_the_first_shard_takes_no_keys_from_others(void **state)
{
    (void)state;
    live_and_start_again(7);
    start(1, 8);
    marks_tell(sides[1].marks, 0, 0, "a1");
    marks_tell(sides[0].marks, 0, 1, "a2");
    WAIT_FOR(ask(0) == MARKS_CLAIM && ask(1) == MARKS_CLAIM);
    marks_tell(sides[0].marks, 0, 0, "b1");
    WAIT_FOR(ask(0) == MARKS_KEEP);
    assert_true(mark_begins("a1 "));
    assert_int_equal(ask(1), MARKS_CLAIM);
}

/* The servers of the list before may still be the ones that tell. */
static void what_is_told_after_a_reload_is_not_written_under_the_new_list(void **state)
{
    (void)state;
    start(0, 7);
    marks_tell(sides[0].marks, 0, 1, "a2");
    marks_tell(sides[0].marks, 0, 0, "a1");
    WAIT_FOR(ask(0) == MARKS_CLAIM && member_has(","));
    config.clickhouse_url = other_shards;
    marks_tell(sides[0].marks, 0, 1, "a2");
    marks_tell(sides[0].marks, 0, 0, "a1");
    marks_reload(sides[0].marks);
    WAIT_FOR(!member_has(":"));
    assert_true(member_has("a1"));
    config.clickhouse_url = shards;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(before_its_table_is_told_a_stream_keeps_its_events),
        TEST(who_comes_first_need_not_know_its_table),
        TEST(a_table_that_cannot_be_known_goes_on_without_the_check),
        TEST(another_tables_mark_blocks_and_names_the_prefix),
        TEST(of_two_that_begin_together_one_wins),
        TEST(all_alloyd_of_one_table_share_the_mark),
        TEST(a_table_that_was_made_again_takes_its_mark_along),
        TEST(a_mark_that_others_use_is_not_replaced_after_a_restart),
        TEST(the_lease_ends_where_redis_is_away_and_another_stays_foreign),
        TEST(a_mark_that_may_not_be_touched_is_not_asked_for),
        TEST(a_mark_of_another_type_is_not_asked_for),
        TEST(another_shard_shows_that_the_mark_is_still_ours),
        TEST(what_is_not_as_before_waits_for_the_first_shard),
        TEST(who_was_wrong_about_the_first_shard_takes_no_keys_from_others),
        TEST(what_is_told_after_a_reload_is_not_written_under_the_new_list),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
