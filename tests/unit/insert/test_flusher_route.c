/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_flusher_route.c - inserts over two endpoints. Of one shard: turns, failures, hangs, and
 * tables that are no replicas. Of two: each event goes to its own, whatever happens to the other.
 *
 * The fakes do not share their tokens. What replicas do is looked up afterwards: a token counts
 * once over both, as it does in Keeper.
 */
#include "flusher_world.h"

#include "flusher_act.h"
#include "flusher_private.h"
#include "shard.h"

struct two {
    struct world *world;
    struct fake other;
    char list[160];
};

static int two_setup(void **state)
{
    struct two *two = calloc(1, sizeof(*two));

    if (setup((void **)&two->world) != 0)
        return -1;
    fake_start(&two->other);
    two->world->fake.probe = two->other.probe = PROBE_REPLICATED;
    snprintf(two->list, sizeof(two->list), "http://127.0.0.1:%d, http://127.0.0.1:%d",
             two->world->fake.port, two->other.port);
    two->world->config.clickhouse_url = two->list;
    *state = two;
    return 0;
}

static int two_teardown(void **state)
{
    struct two *two = *state;
    void *world = two->world;
    int err = teardown(&world);

    fake_stop(&two->other);
    free(two);
    return err;
}

static void two_start(struct two *two)
{
    struct world *world = two->world;
    const struct flusher_parts parts = {.config = &world->ref,
                                        .journal = world->journal,
                                        .health = world->health,
                                        .metrics = world->metrics,
                                        .release = world->release};

    assert_int_equal(flusher_start(&world->flusher, &parts, world->error), 0);
}

/* Rows under tokens that stand for themselves, over both: what replicas have. */
static size_t rows_of_shard(struct two *two)
{
    struct fake *fakes[] = {&two->world->fake, &two->other};
    size_t rows = 0;

    pthread_mutex_lock(&fakes[0]->lock);
    pthread_mutex_lock(&fakes[1]->lock);
    for (size_t f = 0; f < 2; f++)
        for (size_t i = 0; i < fakes[f]->count; i++) {
            const struct fake_request *request = &fakes[f]->requests[i];
            bool again = request->stored != FAKE_STORED_ALL;

            for (size_t k = 0; f == 1 && k < fakes[0]->count; k++)
                again = again || (fakes[0]->requests[k].stored == FAKE_STORED_ALL &&
                                  strcmp(fakes[0]->requests[k].token, request->token) == 0);
            rows += again ? 0 : request->rows;
        }
    pthread_mutex_unlock(&fakes[1]->lock);
    pthread_mutex_unlock(&fakes[0]->lock);
    return rows;
}

static void feed(struct two *two, size_t inserts)
{
    for (size_t i = 0; i < inserts; i++) {
        submit(two->world, 0, 3, -1);
        wait_empty(two->world);
    }
}

/* Starts, and feeds until both have got an insert: only then both answers about their tables are
 * known to be read. Returns how many inserts it took. */
static size_t two_start_known(struct two *two)
{
    size_t sent = 0;

    two_start(two);
    for (; fake_count(&two->world->fake) == 0 || fake_count(&two->other) == 0; sent++)
        feed(two, 1);
    return sent;
}

static void both_get_inserts_and_each_row_is_there_once(void **state)
{
    struct two *two = *state;
    const size_t sent = two_start_known(two);
    const size_t first = fake_count(&two->world->fake), second = fake_count(&two->other);

    assert_int_equal(first + second, sent);
    feed(two, 20);
    assert_int_equal(fake_count(&two->world->fake) + fake_count(&two->other), sent + 20);
    assert_true(fake_count(&two->world->fake) >= first + 9);
    assert_true(fake_count(&two->other) >= second + 9);
    assert_int_equal(rows_of_shard(two), 3 * (sent + 20));
    assert_false(is_up(two->world, "clickhouse.a.replicas"));
}

static void a_lost_answer_goes_to_the_other_under_its_token(void **state)
{
    struct two *two = *state;

    fake_set(&two->world->fake, FAKE_LOST, -1);
    two_start(two);
    feed(two, 10);
    assert_int_equal(rows_of_shard(two), 30);
    assert_true(fake_count(&two->world->fake) >= 1);
    assert_int_equal(fake_count(&two->other), 10);
}

static void one_that_says_503_is_left_out_and_told(void **state)
{
    struct two *two = *state;
    const size_t sent = two_start_known(two);
    const size_t first = fake_count(&two->world->fake), second = fake_count(&two->other);
    char key[HEALTH_KEY_MAX];

    snprintf(key, sizeof(key), "clickhouse@127.0.0.1:%d", two->other.port);
    fake_set(&two->other, FAKE_503_CODE, -1);
    feed(two, 10);
    assert_int_equal(fake_count(&two->world->fake), first + 10);
    assert_in_range(fake_count(&two->other), second + 1, second + 4);
    fake_set(&two->other, FAKE_OK, 0);
    WAIT_FOR(!is_up(two->world, key));
    feed(two, 40);
    assert_true(fake_count(&two->other) >= second + 3);
    assert_int_equal(rows_of_shard(two), 3 * (sent + 50));
}

/* What is no fault of the rows goes to the other at once, and blocks nothing. */
static void one_that_refuses_all_inserts_gets_few(void **state)
{
    static const enum fake_mode modes[] = {FAKE_DENIED, FAKE_404};
    struct two *two = *state;
    size_t sent = two_start_known(two), second;

    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        second = fake_count(&two->other);
        fake_set(&two->other, modes[i], -1);
        for (size_t k = 0; k < 10; k++, sent++) {
            feed(two, 1);
            assert_true(health_ready(two->world->health));
        }
        assert_true(is_up(two->world, "clickhouse.a.replicas"));
        assert_in_range(fake_count(&two->other), second + 1, second + 6);
        fake_set(&two->other, FAKE_OK, 0);
        for (second = fake_count(&two->other); fake_count(&two->other) < second + 3; sent++)
            feed(two, 1);
        WAIT_FOR(!is_up(two->world, "clickhouse.a.replicas"));
    }
    assert_int_equal(rows_of_shard(two), 3 * sent);
}

/* Then it is told as of a single server. */
static void where_all_refuse_the_table_is_told(void **state)
{
    struct two *two = *state;
    const size_t sent = two_start_known(two);

    fake_set(&two->world->fake, FAKE_DENIED, -1);
    fake_set(&two->other, FAKE_DENIED, -1);
    submit(two->world, 0, 3, -1);
    WAIT_FOR(is_up(two->world, "clickhouse.a"));
    fake_set(&two->world->fake, FAKE_OK, 0);
    fake_set(&two->other, FAKE_OK, 0);
    wait_empty(two->world);
    assert_int_equal(rows_of_shard(two), 3 * (sent + 1));
}

static void refused_rows_leave_nobody_out(void **state)
{
    struct two *two = *state;
    char key[HEALTH_KEY_MAX];
    size_t lines;

    two_start(two);
    feed(two, 4);
    submit(two->world, 0, 20, 7);
    wait_empty(two->world);
    snprintf(key, sizeof(key), "clickhouse@127.0.0.1:%d", two->other.port);
    assert_false(is_up(two->world, key));
    snprintf(key, sizeof(key), "clickhouse@127.0.0.1:%d", two->world->fake.port);
    assert_false(is_up(two->world, key));
    free(dead_letters(two->world, &lines));
    assert_int_equal(lines, 1);
}

static void what_one_that_hangs_holds_goes_to_the_other(void **state)
{
    struct two *two = *state;
    const uint64_t begun_ms = clock_mono_ms();
    size_t before, sent;

    two->world->config.clickhouse_timeout_ms = 60000;
    sent = two_start_known(two);
    before = fake_count(&two->other);
    fake_set(&two->other, FAKE_HANG, -1);
    two->other.probe_hangs = true;
    for (size_t i = 0; i < 8; i++) {
        submit(two->world, 0, 3, -1);
        pause_ms(20);
    }
    wait_empty(two->world);
    assert_true(clock_mono_ms() - begun_ms < 20000); /* and not 60 s */
    assert_true(fake_count(&two->other) > before);
    fake_set(&two->other, FAKE_OK, 0);
    two->other.probe_hangs = false;
    assert_int_equal(rows_of_shard(two), 3 * (sent + 8));
}

static void tables_that_are_not_replicated_get_nothing(void **state)
{
    struct two *two = *state;

    two->world->fake.site = two->other.site = "MergeTree\t\t0\n";
    two_start(two);
    submit(two->world, 0, 3, -1);
    WAIT_FOR(is_up(two->world, "clickhouse.a.replicas") &&
             is_up(two->world, "clickhouse.b.replicas"));
    pause_ms(50);
    assert_int_equal(fake_count(&two->world->fake) + fake_count(&two->other), 0);
    WAIT_FOR(!health_ready(two->world->health));
    pthread_mutex_lock(&two->other.lock);
    two->other.site = SITE_REPLICA;
    pthread_mutex_unlock(&two->other.lock);
    wait_empty(two->world);
    assert_int_equal(fake_count(&two->other), 1);
    WAIT_FOR(health_ready(two->world->health));
    WAIT_FOR(is_up(two->world, "clickhouse.a.replicas")); /* the first is not used */
    pthread_mutex_lock(&two->world->fake.lock);
    two->world->fake.site = SITE_REPLICA;
    pthread_mutex_unlock(&two->world->fake.lock);
    WAIT_FOR(!is_up(two->world, "clickhouse.a.replicas"));
}

static void different_shards_get_nothing(void **state)
{
    struct two *two = *state;

    two->other.site = "ReplicatedMergeTree\t/clickhouse/tables/02/t\t0\n";
    two_start(two);
    WAIT_FOR(is_up(two->world, "clickhouse.a.replicas"));
    WAIT_FOR(two->other.sites_asked >= 2 && two->world->fake.sites_asked >= 2);
    WAIT_FOR(!health_ready(two->world->health));
    submit(two->world, 0, 3, -1);
    pause_ms(50);
    assert_true(flusher_pending(two->world->flusher) > 0);
    pthread_mutex_lock(&two->other.lock);
    two->other.site = SITE_REPLICA;
    pthread_mutex_unlock(&two->other.lock);
    wait_empty(two->world);
    assert_int_equal(rows_of_shard(two), 3);
}

static void a_table_that_one_lacks_goes_to_the_other(void **state)
{
    struct two *two = *state;

    two->world->fake.site = "";
    two_start(two);
    feed(two, 6);
    assert_int_equal(fake_count(&two->world->fake), 0);
    assert_int_equal(fake_count(&two->other), 6);
    WAIT_FOR(is_up(two->world, "clickhouse.a.replicas"));
    WAIT_FOR(health_ready(two->world->health));
}

static void a_dead_endpoint_at_the_start_stops_nothing(void **state)
{
    struct two *two = *state;
    char key[HEALTH_KEY_MAX];

    /* Nobody listens at port 1. */
    snprintf(two->list, sizeof(two->list), "http://127.0.0.1:1,http://127.0.0.1:%d",
             two->other.port);
    two_start(two);
    feed(two, 6);
    assert_int_equal(fake_count(&two->other), 6);
    snprintf(key, sizeof(key), "clickhouse@127.0.0.1:1");
    WAIT_FOR(is_up(two->world, key));
    WAIT_FOR(health_ready(two->world->health));
    assert_false(is_up(two->world, "clickhouse"));
}

/* ---- two shards ---- */

static int shards_setup(void **state)
{
    struct two *two;

    if (two_setup(state) != 0)
        return -1;
    two = *state;
    *strchr(two->list, ',') = '|';
    two->world->fake.probe = two->other.probe = PROBE_PLAIN;
    two->world->fake.site = two->other.site = "MergeTree\t\t0\n";
    return 0;
}

/* Each row that a fake has is of the shard; returns how many rows. */
static size_t rows_of(struct fake *fake, size_t shard)
{
    size_t rows = 0, strange = 0;

    pthread_mutex_lock(&fake->lock);
    for (size_t i = 0; i < fake->count; i++) {
        const struct fake_request *request = &fake->requests[i];

        if (request->stored != FAKE_STORED_ALL)
            continue;
        for (const char *at = request->body; at < request->body + request->len; rows++) {
            const char *id = at + strlen("{\"event_id\":\"");

            strange += shard_of(shard_hash((struct slice){id, strcspn(id, "\"")}), 2) != shard;
            at = strchr(at, '\n') + 1;
        }
    }
    pthread_mutex_unlock(&fake->lock);
    assert_int_equal(strange, 0);
    return rows;
}

static void each_event_goes_to_its_shard_once(void **state)
{
    struct two *two = *state;

    two_start(two);
    for (size_t i = 0; i < 10; i++) {
        submit(two->world, 0, 30, -1);
        submit(two->world, 1, 30, -1);
    }
    wait_empty(two->world);
    assert_int_equal(rows_of(&two->world->fake, 0) + rows_of(&two->other, 1), 600);
    assert_true(rows_of(&two->other, 1) > 200 && rows_of(&two->world->fake, 0) > 200);
    assert_int_equal(snapshot(two->world)->streams[0][METRIC_STREAM_inserted], 300);
}

static void one_shard_that_is_away_does_not_hold_up_the_other(void **state)
{
    struct two *two = *state;

    fake_set(&two->other, FAKE_HANG, -1);
    two_start(two);
    for (size_t i = 0; i < 40; i++) {
        submit(two->world, 0, 10, -1);
        pause_ms(2);
    }
    WAIT_FOR(rows_of(&two->world->fake, 0) > 150 &&
             flusher_pending(two->world->flusher) == 400 - rows_of(&two->world->fake, 0));
    fake_set(&two->other, FAKE_OK, 0);
    wait_empty(two->world);
    assert_int_equal(rows_of(&two->world->fake, 0) + rows_of(&two->other, 1), 400);
}

/* Behind a partition from one shard the other one answers all the while. */
static void time_outs_grow_only_where_the_server_itself_answers(void **state)
{
    struct flusher *flusher = calloc(1, sizeof(*flusher));
    struct transfer *transfer = calloc(1, sizeof(*transfer));

    (void)state;
    flusher->answered_ns = flusher->route.endpoints.at[1].answered_ns = 500;
    transfer->started_ns = 400;
    for (uint32_t tries = 1; tries < 4; tries++) {
        transfer->endpoint = 0;
        assert_false(flusher_act_needs_longer(flusher, transfer, tries));
        transfer->endpoint = 1;
        assert_true(flusher_act_needs_longer(flusher, transfer, tries));
        transfer->endpoint = ENDPOINTS_NONE;
        assert_true(flusher_act_needs_longer(flusher, transfer, tries));
    }
    transfer->endpoint = 0;
    assert_true(flusher_act_needs_longer(flusher, transfer, 4));
    transfer->endpoint = 1;
    transfer->started_ns = 600;
    assert_false(flusher_act_needs_longer(flusher, transfer, 5));
    free(transfer);
    free(flusher);
}

static void a_lost_answer_comes_again_at_the_same_shard(void **state)
{
    struct two *two = *state;

    fake_set(&two->world->fake, FAKE_LOST, 3);
    fake_set(&two->other, FAKE_RESET, 3);
    two_start(two);
    submit(two->world, 0, 50, -1);
    wait_empty(two->world);
    assert_int_equal(rows_of(&two->world->fake, 0) + rows_of(&two->other, 1), 50);
}

static struct batch *frozen_batch(struct two *two, uint64_t id)
{
    struct batch *batch = make_batch(two->world, 0, 5, -1);

    batch->insert_id = id;
    return batch;
}

static void a_frozen_insert_goes_to_the_shard_of_its_id(void **state)
{
    struct two *two = *state;
    struct batch *frozen = frozen_batch(two, 9 | UINT64_C(1) << INSERT_ID_SHARD_SHIFT);

    two_start(two);
    flusher_submit(two->world->flusher, frozen);
    flusher_submit(two->world->flusher, frozen_batch(two, 10));
    wait_empty(two->world);
    /* Whatever ids its events have: it was begun with another list. */
    assert_int_equal(fake_count(&two->world->fake), 1);
    assert_int_equal(fake_count(&two->other), 1);
    assert_string_equal(two->other.requests[0].token + 16, "0000010000000009");
    assert_string_equal(two->world->fake.requests[0].token + 16, "000000000000000a");
}

static void a_frozen_insert_whose_shard_is_gone_waits_and_is_told(void **state)
{
    struct two *two = *state;

    two_start(two);
    flusher_submit(two->world->flusher,
                   frozen_batch(two, 9 | UINT64_C(2) << INSERT_ID_SHARD_SHIFT));
    submit(two->world, 0, 20, -1);
    WAIT_FOR(is_up(two->world, "clickhouse.shards"));
    WAIT_FOR(flusher_pending(two->world->flusher) == 5);
    assert_int_equal(rows_of(&two->world->fake, 0) + rows_of(&two->other, 1), 20);
}

static void a_distributed_table_of_several_shards_gets_nothing(void **state)
{
    struct two *two = *state;

    two->other.site = "Distributed\t\t0\n";
    two_start(two);
    submit(two->world, 0, 40, -1);
    WAIT_FOR(is_up(two->world, "clickhouse.a@2.replicas"));
    WAIT_FOR(rows_of(&two->world->fake, 0) > 0);
    pause_ms(50);
    assert_int_equal(fake_count(&two->other), 0);
    assert_false(is_up(two->world, "clickhouse.a@1.replicas"));
    WAIT_FOR(health_ready(two->world->health));
    pthread_mutex_lock(&two->other.lock);
    two->other.site = "MergeTree\t\t0\n";
    pthread_mutex_unlock(&two->other.lock);
    wait_empty(two->world);
    assert_int_equal(rows_of(&two->world->fake, 0) + rows_of(&two->other, 1), 40);
}

static void behind_one_endpoint_a_distributed_table_is_told(void **state)
{
    struct two *two = *state;

    two->world->config.clickhouse_url = two->world->url;
    two->world->fake.probe = "26.7.2.1\t1\tDistributed\t0\t\t0\tu\t1\te\n";
    two_start(two);
    WAIT_FOR(is_up(two->world, "clickhouse.a.distributed"));
    WAIT_FOR(health_ready(two->world->health));
    feed(two, 2);
    fake_set_probe(&two->world->fake, PROBE_PLAIN);
    assert_int_equal(two->world->fake.sites_asked, 0);
}

static void refused_rows_of_a_shard_are_buried_there(void **state)
{
    struct two *two = *state;
    size_t lines;

    two_start(two);
    submit(two->world, 0, 20, -1);
    wait_empty(two->world);
    submit(two->world, 0, 20, 3);
    submit(two->world, 0, 20, 8);
    wait_empty(two->world);
    free(dead_letters(two->world, &lines));
    assert_int_equal(lines, 2);
    assert_int_equal(rows_of(&two->world->fake, 0) + rows_of(&two->other, 1), 58);
}

int main(void)
{
#define SHARDS(name) cmocka_unit_test_setup_teardown(name, shards_setup, two_teardown)
#define TEST(name) cmocka_unit_test_setup_teardown(name, two_setup, two_teardown)
    const struct CMUnitTest tests[] = {
        TEST(both_get_inserts_and_each_row_is_there_once),
        TEST(a_lost_answer_goes_to_the_other_under_its_token),
        TEST(one_that_says_503_is_left_out_and_told),
        TEST(one_that_refuses_all_inserts_gets_few),
        TEST(where_all_refuse_the_table_is_told),
        TEST(refused_rows_leave_nobody_out),
        TEST(what_one_that_hangs_holds_goes_to_the_other),
        TEST(tables_that_are_not_replicated_get_nothing),
        TEST(different_shards_get_nothing),
        TEST(a_table_that_one_lacks_goes_to_the_other),
        TEST(a_dead_endpoint_at_the_start_stops_nothing),
        SHARDS(each_event_goes_to_its_shard_once),
        SHARDS(one_shard_that_is_away_does_not_hold_up_the_other),
        SHARDS(a_lost_answer_comes_again_at_the_same_shard),
        SHARDS(a_frozen_insert_goes_to_the_shard_of_its_id),
        SHARDS(a_frozen_insert_whose_shard_is_gone_waits_and_is_told),
        SHARDS(a_distributed_table_of_several_shards_gets_nothing),
        SHARDS(refused_rows_of_a_shard_are_buried_there),
        TEST(behind_one_endpoint_a_distributed_table_is_told),
        cmocka_unit_test(time_outs_grow_only_where_the_server_itself_answers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
