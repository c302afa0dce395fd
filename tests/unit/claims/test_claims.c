/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims.c - who owns an id, with a real Redis and with one that fails.
 */
#include "alloy/claims.h"

#include "claims_fixture.h"

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

static bool released[RECORDS_MAX];

static int release(void)
{
    return claims_release(claims, batch->records, batch->count, released, clock_mono_ms());
}

static void a_key_that_holds_no_claim_makes_no_duplicate(void **state)
{
    (void)state;
    admin_do("LPUSH alloy:events:list 1");
    admin_do("HSET alloy:events:hash a 1");
    admin_do("SADD alloy:events:set 1");
    admin_do("SET alloy:events:short 1");
    admin_do("SET alloy:events:long 0123456789abcdefg");
    admin_do("SET alloy:events:text 0123456789abcdef");
    add_record("list");
    add_record("hash");
    add_record("set");
    add_record("short");
    add_record("long");
    add_record("text");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_STRANGE);
    assert_int_equal(admin_integer("LLEN alloy:events:list"), 1); /* nobody touched it */
    assert_int_equal(release(), 0);
    for (uint32_t i = 0; i < batch->count; i++)
        assert_true(released[i]);
    assert_int_equal(admin_integer("LLEN alloy:events:list"), 1);
    assert_int_equal(errors(), 0);
}

/* It was there when our SET lost, and nobody's when we looked whose it is. */
static void a_claim_that_goes_in_between_leaves_its_id_to_us(void **state)
{
    static const struct slice script[] = {
        {LITERAL("*1\r\n$-1\r\n")},
        {LITERAL("$-1\r\n")},
        {LITERAL("*1\r\n$-1\r\n")},
        {LITERAL("+OK\r\n")},
    };

    (void)state;
    add_record("a");
    assert_int_equal(take_scripted(script, ARRAY_LEN(script)), 0);
    assert_all(CLAIM_OWNED);
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
    assert_false(redis_condition().blocking);
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

static void what_was_answered_before_the_failure_stays_known(void **state)
{
    static const struct slice reply = {LITERAL("*2\r\n$16\r\n01234567abcdefg\0\r\n")};

    (void)state;
    add_record("a");
    add_record("b");
    assert_int_equal(take_scripted(&reply, 1), -EAGAIN);
    assert_int_equal(verdicts[0], CLAIM_DUPLICATE);
    assert_int_equal(verdicts[1], CLAIM_UNKNOWN);
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
    assert_int_equal(release(), 0);
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

/* Ways in which a Redis answers PING, and MGET, and takes no claim; and back. */
static const struct {
    const char *break_it;
    const char *mend_it;
    const char *code;
} deaf[] = {
    {"REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "READONLY"},
    {"CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "OOM"},
    {"ACL SETUSER default -set", "ACL SETUSER default +set", "NOPERM"},
    {"ACL SETUSER default resetkeys %%R~*", "ACL SETUSER default resetkeys ~*", "NOPERM"},
    {"CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"},
};

/* The default user may not do without what admin_do() needs, so each case mends itself. */
static void what_answers_and_takes_no_claim_is_not_up_until_it_does(void **state)
{
    (void)state;
    config.redis_timeout_ms = 2000;
    config.streams[0].ttl_ms = 60000;
    add_record("known");
    assert_int_equal(take(), 0);
    assert_int_equal(gauge_up(), 1);
    for (size_t i = 0; i < ARRAY_LEN(deaf); i++) {
        empty_batch();
        add_record("known");
        add_numbered(deaf[i].code, (int)i, (int)i + 1);
        admin_do(deaf[i].break_it);
        assert_int_equal(take(), -EAGAIN);
        assert_int_equal(gauge_up(), 0);
        assert_non_null(strstr(redis_condition().text, deaf[i].code));
        for (int look = 0; look < 3; look++) {
            wait_breaker();
            assert_int_equal(claims_probe(claims, clock_mono_ms()), -EAGAIN);
            assert_int_equal(gauge_up(), 0);
        }
        /* Duplicates alone are known without a SET, which proves nothing. */
        free(batch->records[--batch->count]);
        wait_breaker();
        assert_int_equal(take(), 0);
        assert_all(CLAIM_DUPLICATE);
        assert_int_equal(gauge_up(), 0);
        assert_true(redis_condition().up);
        admin_do(deaf[i].mend_it);
        wait_breaker();
        assert_int_equal(take(), 0);
        assert_int_equal(gauge_up(), 1);
        assert_false(redis_condition().up);
        assert_false(claims_down(claims));
    }
}

/* Redis's words can hold ids. */
static void what_redis_says_is_not_repeated(void **state)
{
    static const char *const words[] = {
        "-ERR unknown command 'SET', with args beginning with: 'alloy:events:secret' 'x'\r\n",
        "-NOPERM this user has no permissions to access the 'alloy:events:secret' key\r\n",
        "-secret\r\n",
        "-SECRET-secret is a strange word\r\n",
        "-\r\n",
        "-ABCDEFGHIJKLMNOPQRSTUVWXYZsecret\r\n",
    };

    (void)state;
    add_record("a");
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        const struct slice script = {words[i], strlen(words[i])};

        assert_int_equal(take_scripted(&script, 1), -EAGAIN);
        assert_true(redis_condition().up);
        assert_null(strcasestr(redis_condition().text, "secret"));
    }
}

/* A server that has a command to delete a key by its value; the words that it is asked in are
 * looked at too. */
static void a_claim_is_released_by_the_servers_own_command_where_there_is_one(void **state)
{
    static const struct {
        const char *ways;
        const char *command;
    } servers[] = {
        {":0\r\n-ERR unknown command 'DELIFEQ'\r\n",
         "*4\r\n$5\r\nDELEX\r\n$14\r\nalloy:events:a\r\n$4\r\nIFEQ\r\n$16\r\n"},
        {":0\r\n:0\r\n", "*4\r\n$5\r\nDELEX\r\n"},
        {"-ERR unknown command 'DELEX'\r\n:0\r\n",
         "*3\r\n$7\r\nDELIFEQ\r\n$14\r\nalloy:events:a\r\n$16\r\n"},
        {"-ERR unknown command\r\n-ERR unknown command\r\n", "*5\r\n$4\r\nEVAL\r\n"},
        {"-NOPERM no\r\n-ERR unknown command\r\n", "*5\r\n$4\r\nEVAL\r\n"},
    };

    (void)state;
    add_record("a");
    add_record("b");
    for (size_t i = 0; i < ARRAY_LEN(servers); i++) {
        const struct slice script[] = {{servers[i].ways, strlen(servers[i].ways)},
                                       {LITERAL(":1\r\n:0\r\n")}};
        struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 2};

        fake_start(&fake);
        assert_int_equal(release(), 0);
        fake_end(&fake);
        assert_true(released[0] && released[1]);
        assert_memory_equal(fake.heard[1], servers[i].command, strlen(servers[i].command));
    }
    assert_int_equal(errors(), 0);
}

static void a_claim_that_cannot_be_released_holds_up_no_other(void **state)
{
    static const char *const refusals[] = {"-NOPERM no\r\n", "-READONLY no\r\n"};

    (void)state;
    add_record("a");
    add_record("b");
    add_record("c");
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        char replies[64];
        const struct slice script[] = {
            {LITERAL(":0\r\n-ERR\r\n")},
            {replies, (size_t)snprintf(replies, sizeof(replies), ":1\r\n%s:1\r\n", refusals[i])}};
        struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 2};

        fake_start(&fake);
        assert_int_equal(release(), 0);
        fake_end(&fake);
        assert_true(released[0] && !released[1] && released[2]);
    }
    assert_int_equal(errors(), 0);
}

static void a_key_of_another_type_is_no_claim_that_could_be_released(void **state)
{
    static const struct slice script[] = {
        {LITERAL(":0\r\n-ERR\r\n")},
        {LITERAL("-ERR Key should be of string type if conditions are specified\r\n"
                 "-WRONGTYPE no\r\n")}};
    struct fake fake = {.mode = FAKE_SCRIPT, .script = script, .script_len = 2};

    (void)state;
    add_record("a");
    add_record("b");
    fake_start(&fake);
    assert_int_equal(release(), 0);
    fake_end(&fake);
    assert_true(released[0] && released[1]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_ids_are_owned_and_written_with_value_and_ttl),
        TEST(ids_of_other_records_are_duplicates),
        TEST(of_two_records_with_one_id_in_a_batch_the_first_wins),
        TEST(the_same_id_in_two_streams_is_two_claims),
        TEST(ids_may_hold_any_byte),
        TEST(chunks_windows_and_slices_keep_verdicts_with_their_records),
        TEST(an_id_of_the_longest_length_fits),
        TEST(a_key_that_holds_no_claim_makes_no_duplicate),
        TEST(a_claim_that_goes_in_between_leaves_its_id_to_us),
        TEST(without_a_url_every_record_is_owned),
        TEST(a_dead_redis_costs_one_try_until_the_breaker_lets_the_next_through),
        TEST(the_breaker_waits_longer_each_time_up_to_two_seconds),
        TEST(a_set_whose_answer_was_lost_is_found_to_be_our_own),
        TEST(a_set_that_loses_to_our_own_late_set_is_owned),
        TEST(an_error_reply_is_a_failure_of_the_claims_and_never_a_duplicate),
        TEST(what_was_answered_before_the_failure_stays_known),
        TEST(an_answer_after_the_time_out_is_not_taken_for_the_next),
        TEST(released_ids_are_new_again_and_others_stay),
        TEST(a_probe_tells_whether_redis_is_there),
        TEST(what_answers_and_takes_no_claim_is_not_up_until_it_does),
        TEST(what_redis_says_is_not_repeated),
        TEST(a_claim_is_released_by_the_servers_own_command_where_there_is_one),
        TEST(a_claim_that_cannot_be_released_holds_up_no_other),
        TEST(a_key_of_another_type_is_no_claim_that_could_be_released),
        TEST(after_a_cancel_redis_is_left_alone),
        TEST(a_reload_of_chunk_and_ttl_takes_effect),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
