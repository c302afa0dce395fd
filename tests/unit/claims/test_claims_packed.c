/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims_packed.c - who owns an id with redis.layout = packed, with a real Redis.
 */
#include "claims_packed_fixture.h"

#include "alloy/packed.h"

#include <inttypes.h>

static void new_ids_are_owned_and_packed_into_hashes_that_expire(void **state)
{
    redisReply *keys;

    (void)state;
    use_packed(60000);
    add_numbered("x", 0, 5000);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(tables(), 2); /* there was nothing in Redis, so the first took no claims */
    assert_in_range(admin_integer("DBSIZE"), 2000, 4097);
    keys = redisCommand(admin, "KEYS alloy:#ids:events:*");
    for (size_t i = 0; i < keys->elements; i++)
        assert_in_range(admin_integer("PTTL %b", keys->element[i]->str, keys->element[i]->len),
                        110000, 122000);
    freeReplyObject(keys);
    assert_int_equal(errors(), 0);
    assert_int_equal(gauge_up(), 1);
}

static void ids_of_other_records_are_duplicates_and_a_records_own_stays_its_own(void **state)
{
    struct claims *other;

    (void)state;
    use_packed(60000);
    add_numbered("x", 0, 3000);
    assert_int_equal(take(), 0);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED); /* tried again */
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    other = another(INSTANCE + 1);
    assert_int_equal(take_by(other), 0);
    assert_all(CLAIM_DUPLICATE);
    claims_destroy(other);
}

static void of_two_records_with_one_id_in_a_batch_the_first_wins(void **state)
{
    (void)state;
    use_packed(60000);
    add_record("one");
    add_record("twin");
    add_record("twin");
    assert_int_equal(take(), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    assert_int_equal(verdicts[1], CLAIM_OWNED);
    assert_int_equal(verdicts[2], CLAIM_DUPLICATE);
}

static void the_same_id_in_two_streams_is_two_claims(void **state)
{
    (void)state;
    use_packed(60000);
    config.stream_count = 2;
    config.streams[1] = (struct config_stream){.name = "orders", .ttl_ms = 60000};
    add_record("a");
    assert_int_equal(take(), 0);
    batch->stream = 1;
    as_new_records();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    batch->stream = 0;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
}

/* With Redis' own clock. */
static void an_id_is_known_for_its_ttl_to_twice_that_whatever_table_is_in_use(void **state)
{
    const uint64_t ttl_ms = 1000;
    uint64_t began_ms, known_ms = 0, now_ms;

    (void)state;
    use_packed(ttl_ms);
    /* Somewhere in a table's time. */
    add_record("first");
    assert_int_equal(take(), 0);
    fixture_pause_ms(400);
    empty_batch();
    add_record("a");
    began_ms = clock_mono_ms();
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    do {
        as_new_records();
        now_ms = clock_mono_ms();
        assert_int_equal(take(), 0);
        if (verdicts[0] == CLAIM_DUPLICATE)
            known_ms = now_ms;
        fixture_pause_ms(5);
    } while (verdicts[0] == CLAIM_DUPLICATE);
    assert_true(clock_mono_ms() - began_ms >= ttl_ms);
    assert_true(known_ms - began_ms <= 2 * ttl_ms + 150);
    assert_all(CLAIM_OWNED);
}

static void a_released_id_is_new_again_whichever_table_has_it(void **state)
{
    bool released[2];

    (void)state;
    use_packed(1500);
    add_record("a");
    add_record("b");
    assert_int_equal(take(), 0);
    while (admin_integer("HEXISTS alloy:#packed:events 3") == 0) { /* the next one is opened */
        struct record *const kept[] = {batch->records[0], batch->records[1]};

        batch->count = 0;
        add_record("else");
        assert_int_equal(take(), 0);
        empty_batch();
        batch_add(batch, kept[0]);
        batch_add(batch, kept[1]);
        fixture_pause_ms(20);
    }
    /* Another record's claims stay. */
    batch->records[1]->lsn += 1000;
    assert_int_equal(
        claims_release(claims, batch->records, batch->count, released, clock_mono_ms()), 0);
    assert_true(released[0]);
    assert_true(released[1]);
    as_new_records();
    assert_int_equal(take(), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    assert_int_equal(verdicts[1], CLAIM_DUPLICATE);
}

static void a_table_that_is_full_is_followed_by_a_larger_one(void **state)
{
    (void)state;
    use_packed(60000);
    for (int i = 0; tables() < 3 && i < 200; i++) {
        empty_batch();
        add_numbered("x", 5000 * i, 5000 * (i + 1));
        assert_int_equal(take(), 0);
        assert_all(CLAIM_OWNED);
    }
    assert_int_equal(tables(), 3);
    /* The ids of the first one are known. */
    empty_batch();
    add_numbered("x", 0, 5000);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
}

/* Every step-th hash of the only table that has claims gets so many more of them. */
static void stuff(int step, int count)
{
    redisReply *reply = redisCommand(
        admin, "EVAL %s 0 %d %d",
        "local head = redis.call('KEYS','alloy:#ids:events:*')[1]:match('.*:') "
        "for hash = 0,4095,ARGV[1] do for i = 1,ARGV[2] do "
        "redis.call('HSET',string.format('%s%03x',head,hash),'other'..i,'12345678') end end "
        "return 1",
        step, count);

    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    freeReplyObject(reply);
}

static void assert_table(int number, unsigned bits, unsigned grown)
{
    redisReply *reply = redisCommand(admin, "HGET alloy:#packed:events %d", number);
    unsigned long long opened, ttl;
    unsigned was, was_grown;

    assert_int_equal(reply->type, REDIS_REPLY_STRING);
    assert_int_equal(sscanf(reply->str, "%llu %llu %u %u", &opened, &ttl, &was, &was_grown), 4);
    assert_int_equal(was, bits);
    assert_int_equal(was_grown, grown);
    freeReplyObject(reply);
}

static void a_full_table_is_followed_by_a_larger_one_whatever_other_hashes_have(void **state)
{
    redisReply *reply;

    (void)state;
    use_packed(60000);
    add_record("first");
    assert_int_equal(take(), 0);
    stuff(1, PACKED_FULL);
    empty_batch();
    add_numbered("x", 0, 1100); /* so many that it looks */
    assert_int_equal(take(), 0);
    assert_int_equal(tables(), 2);
    reply = redisCommand(admin, "EVAL %s 0",
                         "return redis.call('DEL',unpack(redis.call('KEYS','alloy:#ids:*')))");
    assert_int_equal(reply->integer, 4096);
    freeReplyObject(reply);
    empty_batch();
    add_record("next");
    assert_int_equal(take(), 0);
    assert_int_equal(tables(), 3);
    assert_table(3, PACKED_BITS_MIN + 2, 1);
}

/* Whose only record has a hash that is much fuller, or emptier, than most. */
static void a_batch_of_one_event_opens_a_table_of_the_right_size(void **state)
{
    (void)state;
    use_packed(60000);
    add_record("first");
    assert_int_equal(take(), 0);
    stuff(2, 90);
    config.streams[0].ttl_ms += 1000; /* the next one is due */
    empty_batch();
    add_record("next");
    assert_int_equal(take(), 0);
    assert_int_equal(tables(), 3);
    assert_table(3, PACKED_BITS_MIN + 1, 0);
}

static long long shown(size_t stream, enum metric_packed_gauge_id id)
{
    return atomic_load(&metrics->packed[stream][id]);
}

static void how_the_tables_stand_is_told(void **state)
{
    (void)state;
    use_packed(60000);
    assert_int_equal(shown(0, METRIC_PACKED_GAUGE_tables), 0);
    add_record("first");
    assert_int_equal(take(), 0);
    /* The first one sent claims to both layouts, and nobody knows that it has none. */
    assert_int_equal(shown(0, METRIC_PACKED_GAUGE_tables), 2);
    assert_int_equal(shown(0, METRIC_PACKED_GAUGE_hashes), 4096);
    assert_int_equal(shown(0, METRIC_PACKED_GAUGE_ids), 1);
    /* The second of two that are opened at once has the next millisecond for its name. */
    assert_in_range(clock_real_ms() + 5 - (uint64_t)shown(0, METRIC_PACKED_GAUGE_opened_ms), 0,
                    30000);
    stuff(1, 20);
    empty_batch();
    add_numbered("x", 0, 1100);
    assert_int_equal(take(), 0);
    assert_in_range(shown(0, METRIC_PACKED_GAUGE_ids), 4096 * 20, 4096 * 21);
    /* The next one is empty, and the ids are looked for in both. */
    config.streams[0].ttl_ms += 1000;
    empty_batch();
    add_record("next");
    assert_int_equal(take(), 0);
    assert_int_equal(shown(0, METRIC_PACKED_GAUGE_tables), 3);
    assert_int_equal(shown(0, METRIC_PACKED_GAUGE_ids), 1);
    assert_int_equal(shown(1, METRIC_PACKED_GAUGE_tables), 0);
}

/* ---- what is in the way ---- */

static void run(const char *command)
{
    freeReplyObject(redisCommand(admin, command));
}

static void assert_told(const char *words)
{
    const struct condition condition = redis_condition();

    assert_true(condition.up);
    assert_non_null(strstr(condition.text, words));
}

static void a_key_of_another_kind_in_the_way_is_told_and_makes_nothing_new(void **state)
{
    redisReply *keys;
    bool released[1];

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    keys = redisCommand(admin, "KEYS alloy:#ids:events:*");
    assert_int_equal(keys->elements, 1);
    freeReplyObject(redisCommand(admin, "SET %s text", keys->element[0]->str));
    as_new_records();
    assert_int_equal(take(), -EAGAIN);
    assert_int_equal(verdicts[0], CLAIM_UNKNOWN);
    assert_told("WRONGTYPE");
    /* Others are served meanwhile. */
    empty_batch();
    add_record("b");
    assert_int_equal(claims_take(claims, batch, verdicts, clock_mono_ms() + 60000), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    /* Once it is gone, so is the failure. */
    freeReplyObject(redisCommand(admin, "DEL %s", keys->element[0]->str));
    empty_batch();
    add_record("a");
    assert_int_equal(claims_take(claims, batch, verdicts, clock_mono_ms() + 120000), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    assert_false(redis_condition().up);
    freeReplyObject(redisCommand(admin, "SET %s text", keys->element[0]->str));
    assert_int_equal(claims_release(claims, batch->records, 1, released, clock_mono_ms() + 180000),
                     0);
    assert_false(released[0]);
    freeReplyObject(keys);
}

static void a_log_of_another_kind_is_told_and_makes_nothing_new(void **state)
{
    (void)state;
    use_packed(60000);
    run("SET alloy:#packed:events text");
    add_record("a");
    assert_int_equal(take(), -EAGAIN);
    assert_int_equal(verdicts[0], CLAIM_UNKNOWN);
    assert_told("WRONGTYPE");
    run("DEL alloy:#packed:events");
    assert_int_equal(claims_take(claims, batch, verdicts, clock_mono_ms() + 60000), 0);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
}

static void a_table_that_cannot_be_read_is_told_and_makes_nothing_new(void **state)
{
    static const char *const values[] = {"x",
                                         "1 2 3",
                                         "1 60000 12 0 0 0", /* of the first version */
                                         "1 60000 12 0 0 0 2 more",
                                         "1 60000 99 0 0 0 2",
                                         "99999999999999999999 1 12 0 0 0 2"};
    uint64_t now_ms = clock_mono_ms();
    bool released[1];

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        /* The next table, so that it would be the newest; and an old one. */
        const char *field = i % 2 == 0 ? "3" : "1";

        freeReplyObject(redisCommand(admin, "HSET alloy:#packed:events %s %s", field, values[i]));
        as_new_records();
        now_ms += 60000;
        assert_int_equal(claims_take(claims, batch, verdicts, now_ms), -EAGAIN);
        assert_int_equal(verdicts[0], CLAIM_UNKNOWN);
        assert_told("cannot be read");
        now_ms += 60000;
        assert_int_equal(claims_release(claims, batch->records, 1, released, now_ms), -EAGAIN);
        freeReplyObject(redisCommand(admin, "HDEL alloy:#packed:events %s", field));
        now_ms += 60000;
        assert_int_equal(claims_take(claims, batch, verdicts, now_ms), 0);
        assert_int_equal(verdicts[0], CLAIM_DUPLICATE);
    }
    /* What is no table is nobody's business. */
    run("HSET alloy:#packed:events w garbage note by-hand");
    assert_int_equal(claims_take(claims, batch, verdicts, now_ms + 60000), 0);
    assert_int_equal(verdicts[0], CLAIM_DUPLICATE);
}

static void a_hash_whose_expiry_was_refused_gets_it_later(void **state)
{
    redisReply *keys;

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    run("ACL SETUSER default -pexpireat");
    empty_batch();
    add_record("b");
    assert_int_equal(take(), -EAGAIN);
    run("ACL SETUSER default +pexpireat");
    assert_int_equal(claims_take(claims, batch, verdicts, clock_mono_ms() + 60000), 0);
    assert_all(CLAIM_OWNED);
    keys = redisCommand(admin, "KEYS alloy:#ids:events:*");
    assert_int_equal(keys->elements, 2);
    for (size_t i = 0; i < keys->elements; i++)
        assert_in_range(admin_integer("PTTL %s", keys->element[i]->str), 1, 200000);
    freeReplyObject(keys);
}

/* ---- claims in older tables ---- */

static long long all_claims(void)
{
    return admin_integer("EVAL %s 0",
                         "local n = 0 for _,k in ipairs(redis.call('KEYS','alloy:#ids:events:*')) "
                         "do n = n + redis.call('HLEN',k) end return n");
}

static void a_claim_of_ones_own_in_an_older_table_is_set_in_the_newest_too(void **state)
{
    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    config.streams[0].ttl_ms += 1000;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(all_claims(), 2);
}

/* Another has it in the newest table, and we in an older one: of the two that is what Redis could
 * forget. */
static void a_record_is_no_duplicate_before_its_own_claims_are_gone(void **state)
{
    struct claims *other = another(INSTANCE + 1);
    redisReply *keys, *claim;

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take(), 0);
    keys = redisCommand(admin, "KEYS alloy:#ids:events:*");
    claim = redisCommand(admin, "HGETALL %s", keys->element[0]->str);
    freeReplyObject(redisCommand(admin, "DEL %s", keys->element[0]->str));
    config.streams[0].ttl_ms += 1000;
    assert_int_equal(take_by(other), 0);
    assert_all(CLAIM_OWNED);
    freeReplyObject(redisCommand(admin, "HSET %s %b %b", keys->element[0]->str,
                                 claim->element[0]->str, claim->element[0]->len,
                                 claim->element[1]->str, claim->element[1]->len));
    run("ACL SETUSER default -eval");
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    run("ACL SETUSER default +eval");
    assert_int_equal(claims_take(claims, batch, verdicts, clock_mono_ms() + 60000), 0);
    assert_all(CLAIM_DUPLICATE);
    assert_int_equal(all_claims(), 1);
    freeReplyObject(keys);
    freeReplyObject(claim);
    claims_destroy(other);
}

static void what_is_in_hand_is_claimed_in_the_newest_table_whatever_older_ones_have(void **state)
{
    struct claims *other = another(INSTANCE + 1);

    (void)state;
    use_packed(60000);
    add_record("a");
    assert_int_equal(take_by(other), 0);
    assert_all(CLAIM_OWNED);
    config.streams[0].ttl_ms += 1000;
    assert_int_equal(take(), 0);
    assert_all(CLAIM_DUPLICATE);
    assert_int_equal(claims_take_checked(claims, batch, verdicts, clock_mono_ms(), CLAIMS_BELIEVE),
                     0);
    assert_all(CLAIM_OWNED);
    /* The newest decides for the other, too. */
    assert_int_equal(take_by(other), 0);
    assert_all(CLAIM_DUPLICATE);
    claims_destroy(other);
}

/* ---- a Redis that has forgotten claims ---- */

static struct claims *distrusting(struct distrust *watch, uint64_t instance_id)
{
    struct claims *other = claims_create(&(struct claims_parts){.config = &config_ref,
                                                                .health = health,
                                                                .metrics = metrics,
                                                                .thread_metrics = thread_metrics,
                                                                .distrust = watch,
                                                                .instance_id = instance_id});

    assert_non_null(other);
    return other;
}

/* Packed claims, and their judge. */
static struct distrust *use_distrust(void)
{
    struct distrust *watch;

    use_packed(60000);
    config.redis_distrust_ms = 60000;
    watch = distrust_create(&(struct distrust_parts){
        .config = &config_ref, .metrics = metrics, .instance_id = INSTANCE});
    assert_non_null(watch);
    return watch;
}

/* Until nobody has to be waited for. */
static void assert_doubted(struct claims *by)
{
    for (int i = 0;; i++) {
        assert_int_equal(take_by(by), 0);
        if (verdicts[0] != CLAIM_HELD)
            break;
        assert_true(i < 400);
        fixture_pause_ms(50);
    }
    assert_all(CLAIM_DOUBTED);
}

static void what_a_distrusted_redis_does_not_know_is_looked_for_before_it_is_claimed(void **state)
{
    struct distrust *watch;
    struct claims *by;
    uint64_t checked_ms;

    (void)state;
    watch = use_distrust();
    by = distrusting(watch, INSTANCE);
    add_numbered("x", 0, 100);
    assert_int_equal(take_by(by), 0);
    assert_all(CLAIM_OWNED);
    run("FLUSHALL");
    fixture_pause_ms(300); /* so that it is looked at again */
    as_new_records();
    assert_doubted(by);
    assert_int_equal(admin_integer("EVAL %s 0", "return #redis.call('KEYS','alloy:#ids:*')"), 0);
    /* Not found elsewhere: it is claimed, and known then. */
    checked_ms = clock_mono_ms();
    assert_int_equal(claims_take_checked(by, batch, verdicts, clock_mono_ms(), checked_ms), 0);
    assert_all(CLAIM_OWNED);
    as_new_records();
    assert_int_equal(take_by(by), 0);
    assert_all(CLAIM_DUPLICATE);
    /* Found elsewhere: Redis is told. */
    empty_batch();
    add_numbered("y", 0, 100);
    assert_doubted(by);
    claims_found(by, batch->records, batch->count, clock_mono_ms());
    assert_int_equal(take_by(by), 0);
    assert_all(CLAIM_DUPLICATE);
    claims_destroy(by);
    distrust_destroy(watch);
}

static void claims_that_are_had_in_hand_are_set_again_whatever_is_distrusted(void **state)
{
    struct distrust *watch;
    struct claims *by;

    (void)state;
    watch = use_distrust();
    by = distrusting(watch, INSTANCE);
    add_numbered("x", 0, 100);
    assert_int_equal(take_by(by), 0);
    run("FLUSHALL");
    fixture_pause_ms(300);
    assert_int_equal(claims_take_checked(by, batch, verdicts, clock_mono_ms(), CLAIMS_BELIEVE), 0);
    assert_all(CLAIM_OWNED);
    claims_destroy(by);
    distrust_destroy(watch);
}

static void a_log_that_went_back_is_noticed_at_once_by_all_threads(void **state)
{
    struct distrust *watch;
    struct claims *by, *other;

    (void)state;
    watch = use_distrust();
    by = distrusting(watch, INSTANCE);
    other = distrusting(watch, INSTANCE);
    add_record("b");
    assert_int_equal(take_by(other), 0);
    empty_batch();
    add_record("a");
    assert_int_equal(take_by(by), 0);
    assert_all(CLAIM_OWNED);
    fixture_pause_ms(5); /* so that the next table has another name */
    run("DEL alloy:#packed:events");
    as_new_records();
    assert_int_equal(take_by(other), 0);
    assert_int_not_equal(verdicts[0], CLAIM_OWNED);
    assert_doubted(by);
    assert_doubted(other);
    claims_destroy(by);
    claims_destroy(other);
    distrust_destroy(watch);
}

static void a_number_that_is_given_to_another_table_is_noticed(void **state)
{
    struct distrust *watch;
    struct claims *by;

    (void)state;
    watch = use_distrust();
    by = distrusting(watch, INSTANCE);
    add_record("a");
    assert_int_equal(take_by(by), 0);
    assert_int_equal(tables(), 2);
    freeReplyObject(redisCommand(admin, "EVAL %s 1 alloy:#packed:events",
                                 "local v=redis.call('HGET',KEYS[1],'2') "
                                 "return redis.call('HSET',KEYS[1],'2',"
                                 "(v:gsub(' 12 ',' 14 ')))"));
    as_new_records();
    assert_doubted(by);
    claims_destroy(by);
    distrust_destroy(watch);
}

/* ---- two at a time ---- */

#define ROUNDS 60
#define IDS 40

struct rival {
    pthread_t thread;
    struct claims *claims;
    pthread_barrier_t *barrier;
    bool owned[ROUNDS * IDS];
};

static void *rival_run(void *arg)
{
    struct rival *rival = arg;
    struct batch *mine = batch_create(0, IDS);
    enum claims_verdict mine_verdicts[IDS];

    for (uint32_t i = 0; i < IDS; i++)
        batch_add(mine, calloc(1, sizeof(struct record) + 32));
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < IDS; i++) {
            struct record *record = mine->records[i];

            record->lsn = (uint64_t)(round * IDS + i + 1);
            record->id_length = (uint16_t)sprintf(record->body, "r%d-%d", round, i);
        }
        pthread_barrier_wait(rival->barrier);
        /* Where tables are opened faster than this machine claims, it is asked to come again. */
        while (claims_take(rival->claims, mine, mine_verdicts, clock_mono_ms()) != 0)
            fixture_pause_ms(1);
        for (int i = 0; i < IDS; i++)
            rival->owned[round * IDS + i] = mine_verdicts[i] == CLAIM_OWNED;
    }
    while (mine->count > 0)
        free(mine->records[--mine->count]);
    free(mine);
    return NULL;
}

/* Opens the next table, as another alloyd does when one is full. */
static void open_a_table(int number)
{
    redisReply *reply =
        redisCommand(admin, "EVAL %s 1 alloy:#packed:events %d",
                     "local t=redis.call('TIME') return redis.call('HSETNX',KEYS[1],ARGV[1],"
                     "t[1]*1000+math.floor(t[2]/1000)+ARGV[1]..' 600000 12 1 0 0 2')",
                     number);

    assert_int_equal(reply->type, REDIS_REPLY_INTEGER);
    freeReplyObject(reply);
}

static void of_two_that_claim_at_once_one_wins_while_tables_are_opened(void **state)
{
    static struct rival rivals[2];
    pthread_barrier_t barrier;

    (void)state;
    use_packed(60000);
    add_record("first");
    assert_int_equal(take(), 0);
    pthread_barrier_init(&barrier, NULL, 2);
    for (size_t i = 0; i < 2; i++) {
        rivals[i].claims = another(INSTANCE + 1 + i);
        rivals[i].barrier = &barrier;
        assert_int_equal(pthread_create(&rivals[i].thread, NULL, rival_run, &rivals[i]), 0);
    }
    for (int number = 3; number < 18; number++) {
        fixture_pause_ms(2);
        open_a_table(number);
    }
    for (size_t i = 0; i < 2; i++) {
        pthread_join(rivals[i].thread, NULL);
        claims_destroy(rivals[i].claims);
    }
    pthread_barrier_destroy(&barrier);
    for (int i = 0; i < ROUNDS * IDS; i++)
        assert_int_equal(rivals[0].owned[i] + rivals[1].owned[i], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_ids_are_owned_and_packed_into_hashes_that_expire),
        TEST(ids_of_other_records_are_duplicates_and_a_records_own_stays_its_own),
        TEST(of_two_records_with_one_id_in_a_batch_the_first_wins),
        TEST(the_same_id_in_two_streams_is_two_claims),
        TEST(an_id_is_known_for_its_ttl_to_twice_that_whatever_table_is_in_use),
        TEST(a_released_id_is_new_again_whichever_table_has_it),
        TEST(a_table_that_is_full_is_followed_by_a_larger_one),
        TEST(a_full_table_is_followed_by_a_larger_one_whatever_other_hashes_have),
        TEST(a_batch_of_one_event_opens_a_table_of_the_right_size),
        TEST(how_the_tables_stand_is_told),
        TEST(a_key_of_another_kind_in_the_way_is_told_and_makes_nothing_new),
        TEST(a_log_of_another_kind_is_told_and_makes_nothing_new),
        TEST(a_table_that_cannot_be_read_is_told_and_makes_nothing_new),
        TEST(a_hash_whose_expiry_was_refused_gets_it_later),
        TEST(a_claim_of_ones_own_in_an_older_table_is_set_in_the_newest_too),
        TEST(a_record_is_no_duplicate_before_its_own_claims_are_gone),
        TEST(what_is_in_hand_is_claimed_in_the_newest_table_whatever_older_ones_have),
        TEST(what_a_distrusted_redis_does_not_know_is_looked_for_before_it_is_claimed),
        TEST(claims_that_are_had_in_hand_are_set_again_whatever_is_distrusted),
        TEST(a_log_that_went_back_is_noticed_at_once_by_all_threads),
        TEST(a_number_that_is_given_to_another_table_is_noticed),
        TEST(of_two_that_claim_at_once_one_wins_while_tables_are_opened),
    };

    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
