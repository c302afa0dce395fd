/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims_layout.c - from redis.layout = keys to packed and back, with a real Redis.
 */
#include "claims_packed_fixture.h"

static struct claims *keys_that_distrust(struct distrust *watch)
{
    struct claims *other = claims_create(&(struct claims_parts){.config = &config_ref,
                                                                .health = health,
                                                                .metrics = metrics,
                                                                .thread_metrics = thread_metrics,
                                                                .distrust = watch,
                                                                .instance_id = INSTANCE + 2,
                                                                .watch_layout = true});

    assert_non_null(other);
    return other;
}

static struct claims *keys_beside_packed(void)
{
    return keys_that_distrust(NULL);
}

static void set_layout(int layout)
{
    config.redis_layout = layout;
}

static void claims_as_keys_are_known_after_the_change_to_packed(void **state)
{
    bool released[3];

    (void)state;
    use_packed(60000);
    set_layout(CONFIG_REDIS_KEYS);
    add_record("a");
    add_record("b");
    assert_int_equal(take(), 0);
    set_layout(CONFIG_REDIS_PACKED);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    /* New ones are claimed in both, for those that have not changed yet. */
    empty_batch();
    add_record("c");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(admin_integer("EXISTS alloy:events:c"), 1);
    assert_int_equal(admin_integer("EVAL %s 0", "return #redis.call('KEYS','alloy:#ids:*')"), 3);
    set_layout(CONFIG_REDIS_KEYS);
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    /* And released in both. */
    set_layout(CONFIG_REDIS_PACKED);
    batch->records[0]->lsn--;
    assert_int_equal(claims_release(claims, batch->records, 1, released, clock_mono_ms()), 0);
    assert_true(released[0]);
    assert_int_equal(admin_integer("EXISTS alloy:events:c"), 0);
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
}

/* The newest table of the log, with another time. */
static void age_log(unsigned long long ms, int way)
{
    redisReply *reply = redisCommand(admin, "HGET alloy:#packed:events 1");
    unsigned long long opened, ttl, until;
    unsigned bits, grown, was;

    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    assert_int_equal(
        sscanf(reply->str, "%llu %llu %u %u %u %llu", &opened, &ttl, &bits, &grown, &was, &until),
        6);
    freeReplyObject(reply);
    assert_int_equal(was, way);
    reply = redisCommand(admin, "EVAL %s 1 alloy:#packed:events %llu",
                         "return redis.call('HSET', KEYS[1], '1', ARGV[1] .. ' 600000 12 0 1 0 2')",
                         opened - ms);
    assert_int_not_equal(reply->type, REDIS_REPLY_ERROR);
    freeReplyObject(reply);
}

static void
a_minute_later_claims_leave_the_keys_and_look_at_them_until_their_ttl_is_over(void **state)
{
    const uint64_t later_ms = clock_mono_ms() + 50000;

    (void)state;
    use_packed(600000);
    set_layout(CONFIG_REDIS_KEYS);
    add_record("only a key");
    assert_int_equal(take(), 0);
    empty_batch();
    add_record("a");
    assert_int_equal(take(), 0);
    set_layout(CONFIG_REDIS_PACKED);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    age_log(61000, 1);
    /* By our own clock it is not that long. */
    assert_int_equal(take(), 0);
    assert_int_equal(tables(), 1);
    assert_int_equal(claims_take(claims, batch, verdicts, later_ms), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(claims_take(claims, batch, verdicts, later_ms + 50000), 0);
    assert_int_equal(tables(), 2);
    assert_all(CLAIM_OWNED);
    as_new_records();
    assert_int_equal(claims_take(claims, batch, verdicts, later_ms + 50000), 0);
    assert_all(CLAIM_DUPLICATE);
    empty_batch();
    add_record("only a key");
    assert_int_equal(claims_take(claims, batch, verdicts, later_ms + 50000), 0);
    assert_all(CLAIM_DUPLICATE);
    empty_batch();
    add_record("new");
    assert_int_equal(claims_take(claims, batch, verdicts, later_ms + 50000), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(admin_integer("EXISTS alloy:events:new"), 0);
    as_new_records();
    assert_int_equal(claims_take(claims, batch, verdicts, later_ms + 50000), 0);
    assert_all(CLAIM_DUPLICATE);
}

static void an_alloyd_with_keys_does_as_those_with_packed_do_and_says_so(void **state)
{
    struct claims *keys;

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    set_layout(CONFIG_REDIS_KEYS);
    keys = keys_beside_packed();
    as_new_records();
    assert_int_equal(take_by(keys), 0);
    assert_all(CLAIM_DUPLICATE);
    assert_true(condition_of("redis.layout").up);
    assert_false(condition_of("redis.layout").blocking);
    empty_batch();
    add_record("b");
    assert_int_equal(take_by(keys), 0);
    assert_all(CLAIM_OWNED);
    set_layout(CONFIG_REDIS_PACKED);
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    claims_destroy(keys);
}

static void an_alloyd_with_keys_notices_within_seconds(void **state)
{
    const uint64_t now_ms = clock_mono_ms();
    struct claims *keys;

    (void)state;
    use_packed(60000);
    set_layout(CONFIG_REDIS_KEYS);
    keys = keys_beside_packed();
    add_record("a");
    assert_int_equal(claims_take(keys, batch, verdicts, now_ms), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(admin_integer("EXISTS alloy:events:a"), 1);
    assert_int_equal(tables(), 0); /* it leaves no trace of its own */
    set_layout(CONFIG_REDIS_PACKED);
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    set_layout(CONFIG_REDIS_KEYS);
    assert_int_equal(claims_take(keys, batch, verdicts, now_ms + 6000), 0);
    assert_true(condition_of("redis.layout").up);
    assert_all(CLAIM_DUPLICATE);
    /* A reload later. */
    set_layout(CONFIG_REDIS_PACKED);
    assert_int_equal(claims_take(keys, batch, verdicts, now_ms + 6000), 0);
    assert_false(condition_of("redis.layout").up);
    claims_destroy(keys);
}

/* The question for a log is a GET of what may be a hash; before it the server is asked who it is,
 * on a fresh connection and then four times a second. */
static void a_log_is_no_failure_of_redis_to_who_asks_for_it(void **state)
{
    struct distrust *watch;
    struct claims *keys;
    uint64_t now_ms;

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    set_layout(CONFIG_REDIS_KEYS);
    config.redis_distrust_ms = 60000;
    watch = distrust_create(&(struct distrust_parts){.config = &config_ref, .metrics = metrics});
    keys = keys_that_distrust(watch);
    now_ms = clock_mono_ms();
    for (int i = 0; i < 3; i++, now_ms += 6000) {
        as_new_records();
        assert_int_equal(claims_take(keys, batch, verdicts, now_ms), 0);
        assert_all(CLAIM_DUPLICATE);
        assert_int_equal(errors(), 0);
        fixture_pause_ms(300); /* so that it is looked at again */
    }
    assert_true(condition_of("redis.layout").up);
    claims_destroy(keys);
    distrust_destroy(watch);
}

static void when_nobody_wants_packed_any_more_claims_go_back_to_keys(void **state)
{
    struct claims *keys;
    bool released[1];

    (void)state;
    use_packed(600000);
    add_record("a");
    assert_int_equal(take(), 0);
    set_layout(CONFIG_REDIS_KEYS);
    keys = keys_beside_packed();
    /* As if the last one had said so long ago, and the table been opened then. */
    freeReplyObject(redisCommand(admin, "HSET alloy:#packed:events w 1"));
    {
        redisReply *reply =
            redisCommand(admin, "EVAL %s 1 alloy:#packed:events",
                         "local t=redis.call('TIME')[1]*1000-601000 "
                         "local v=redis.call('HGET',KEYS[1],'2') "
                         "return redis.call('HSET',KEYS[1],'2',t..' 900000 12 0 0 0 2')");

        assert_int_not_equal(reply->type, REDIS_REPLY_ERROR);
        freeReplyObject(reply);
    }
    empty_batch();
    add_record("b");
    assert_int_equal(take_by(keys), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(admin_integer("HEXISTS alloy:#packed:events 3"), 1);
    assert_int_equal(admin_integer("EXISTS alloy:events:b"), 1);
    as_new_records();
    assert_int_equal(take_by(keys), 0);
    assert_all(CLAIM_DUPLICATE);
    assert_false(condition_of("redis.layout").up); /* while packed claims are still looked at */
    batch->records[0]->lsn--;
    assert_int_equal(claims_release(keys, batch->records, 1, released, clock_mono_ms()), 0);
    assert_true(released[0]);
    assert_int_equal(admin_integer("EXISTS alloy:events:b"), 0);
    claims_destroy(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(claims_as_keys_are_known_after_the_change_to_packed),
        TEST(a_minute_later_claims_leave_the_keys_and_look_at_them_until_their_ttl_is_over),
        TEST(an_alloyd_with_keys_does_as_those_with_packed_do_and_says_so),
        TEST(an_alloyd_with_keys_notices_within_seconds),
        TEST(a_log_is_no_failure_of_redis_to_who_asks_for_it),
        TEST(when_nobody_wants_packed_any_more_claims_go_back_to_keys),
    };

    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
