/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_distrust.c - when a server's "I do not know this id" is not to be believed: what it says of
 * itself, what the key says, and time are given.
 */
#include "alloy/distrust.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH_MS 60000
#define REAL_MS 1700000000000

static struct config config;
static struct config_ref config_ref;
static struct metrics *metrics;
static char redis_key[DISTRUST_KEY_MAX]; /* what Redis has; "": nothing */
static uint64_t now_ms;                  /* both clocks, which differ */

static int set_up(void **state)
{
    config = (struct config){.redis_distrust_ms = LENGTH_MS};
    atomic_store(&config_ref.current, &config);
    metrics = metrics_create();
    redis_key[0] = '\0';
    now_ms = 1000000;
    (void)state;
    return 0;
}

static int tear_down(void **state)
{
    metrics_destroy(metrics);
    (void)state;
    return 0;
}

static struct distrust *make(uint64_t instance_id)
{
    return distrust_create(&(struct distrust_parts){
        .config = &config_ref, .metrics = metrics, .instance_id = instance_id});
}

/* A server in that life; its key is what Redis has. */
static struct distrust_sight sight_of(const char *server, const char *life, uint64_t offset,
                                      size_t place)
{
    const uint64_t at_ms = now_ms += 2; /* so that no look begins when another one ends */
    struct distrust_sight sight = {.server = server,
                                   .place = place,
                                   .offset = offset,
                                   .has_key = redis_key[0] != '\0',
                                   .key = {redis_key, strlen(redis_key)},
                                   .began_ms = at_ms - 1,
                                   .now_ms = at_ms,
                                   .real_ms = at_ms + REAL_MS};

    snprintf(sight.run_id, sizeof(sight.run_id), "%s", life);
    snprintf(sight.replid, sizeof(sight.replid), "%s", life);
    return sight;
}

/* What the server named so, in that life, is believed of. */
static struct distrust_window look_at(struct distrust *distrust, const char *server,
                                      const char *life, uint64_t offset, size_t place)
{
    struct distrust_sight sight = sight_of(server, life, offset, place);
    struct distrust_window window;
    char key[DISTRUST_KEY_MAX];

    if (distrust_see(distrust, &sight, &window, key)) {
        memcpy(redis_key, key, sizeof(key));
        distrust_wrote(distrust, sight.place, now_ms);
    }
    return window;
}

static enum distrust_state look(struct distrust *distrust, const char *life)
{
    return look_at(distrust, "redis:1", life, 10, 0).state;
}

/* Until it is no longer HOLD. */
static void wait_for_ask(struct distrust *distrust, const char *life)
{
    for (int i = 0; look(distrust, life) == DISTRUST_HOLD; i++) {
        assert_true(i < 1000);
        now_ms += 50;
    }
    assert_int_equal(look(distrust, life), DISTRUST_ASK);
}

static void a_server_that_is_seen_first_is_believed(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    now_ms += 86400000;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void another_life_is_distrusted_for_a_while(void **state)
{
    struct distrust *distrust = make(1);
    struct distrust_window window;
    uint64_t opened_ms;

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    now_ms += 700;
    window = look_at(distrust, "redis:1", "b", 0, 0);
    opened_ms = now_ms;
    assert_int_equal(window.state, DISTRUST_HOLD);
    assert_true(window.opened);
    /* Claims since the last time that the key was written are in doubt. */
    assert_int_equal(window.from_ms, opened_ms - 702 + REAL_MS);
    wait_for_ask(distrust, "b");
    now_ms = opened_ms + LENGTH_MS - 3;
    assert_int_equal(look(distrust, "b"), DISTRUST_ASK);
    now_ms++;
    assert_int_equal(look(distrust, "b"), DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void a_replica_that_became_master_is_another_life(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:2", "b", 99, 0).state, DISTRUST_HOLD);
    distrust_destroy(distrust);
}

static void who_starts_later_learns_of_it_by_the_key(void **state)
{
    struct distrust *first = make(1), *second;

    (void)state;
    assert_int_equal(look(first, "a"), DISTRUST_NOT);
    distrust_destroy(first);
    /* Nobody was there when it happened. */
    second = make(2);
    assert_int_equal(look(second, "b"), DISTRUST_HOLD);
    now_ms += LENGTH_MS / 2;
    first = make(1);
    assert_int_equal(look(first, "b"), DISTRUST_ASK);
    now_ms += LENGTH_MS / 2;
    assert_int_equal(look(first, "b"), DISTRUST_NOT);
    assert_int_equal(look(second, "b"), DISTRUST_NOT);
    distrust_destroy(first);
    distrust_destroy(second);
}

static void data_that_is_gone_is_noticed_in_the_same_life(void **state)
{
    struct distrust *distrust = make(1);
    struct distrust_window window;

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    redis_key[0] = '\0';
    window = look_at(distrust, "redis:1", "a", 11, 0);
    assert_int_equal(window.state, DISTRUST_HOLD);
    assert_int_equal(window.from_ms, 0);
    /* The key is there again, and stays so. */
    wait_for_ask(distrust, "a");
    now_ms += LENGTH_MS;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    distrust_destroy(distrust);
}

static void an_emptied_server_waits_for_those_whom_we_saw_there(void **state)
{
    struct distrust *one = make(1), *other = make(2);

    (void)state;
    assert_int_equal(look(one, "a"), DISTRUST_NOT);
    assert_int_equal(look(other, "a"), DISTRUST_NOT);
    assert_int_equal(look(one, "a"), DISTRUST_NOT);
    redis_key[0] = '\0';
    assert_int_equal(look(one, "a"), DISTRUST_HOLD);
    now_ms += 1000;
    assert_int_equal(look(one, "a"), DISTRUST_HOLD);
    (void)look(other, "a"); /* has nothing in hand */
    now_ms += 100;
    assert_int_equal(look(one, "a"), DISTRUST_ASK);
    distrust_destroy(one);
    distrust_destroy(other);
}

static void an_offset_that_goes_back_is_noticed(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_int_equal(look_at(distrust, "redis:1", "a", 100, 0).state, DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:1", "a", 100, 0).state, DISTRUST_NOT);
    assert_int_equal(look_at(distrust, "redis:1", "a", 99, 0).state, DISTRUST_HOLD);
    distrust_destroy(distrust);
}

/* ---- a cluster: servers pass slots on, with the keys of their buckets ---- */

#define MASTERS 3
#define PLACES 6

struct master {
    const char *name;
    const char *life; /* NULL: it is away */
};

static struct master masters[MASTERS];
static size_t owner_of[PLACES];             /* master */
static char keys[PLACES][DISTRUST_KEY_MAX]; /* what their slots have; "": nothing */
static bool knows[2][MASTERS][PLACES];      /* of each alloyd: its keys there are read, */
static uint64_t with_ms[2][MASTERS];        /* when this was the last window */

/* Two servers have two buckets each; the third none. */
static void set_up_masters(void)
{
    const size_t owners[PLACES] = {0, 0, 0, 1, 1, 1};

    memcpy(owner_of, owners, sizeof(owners));
    memset(keys, 0, sizeof(keys));
    memset(knows, 0, sizeof(knows));
    memset(with_ms, 0, sizeof(with_ms));
    masters[0] = (struct master){"redis:1", "a"};
    masters[1] = (struct master){"redis:2", "b"};
    masters[2] = (struct master){"redis:3", "c"};
}

static size_t home_of(size_t master)
{
    size_t home = 0;

    while (home < PLACES && owner_of[home] != master)
        home++;
    return home;
}

static struct distrust_sight sight_of_master(size_t master)
{
    const size_t home = home_of(master);
    struct distrust_sight sight = sight_of(masters[master].name, masters[master].life, 1, home);

    sight.is_one_of = true;
    sight.has_key = keys[home][0] != '\0';
    sight.key = (struct slice){keys[home], strlen(keys[home])};
    return sight;
}

/* All others that answer. */
static void look_around(struct distrust *distrust, size_t but)
{
    for (size_t i = 0; i < MASTERS; i++) {
        struct distrust_sight sight;
        struct distrust_window window;
        char key[DISTRUST_KEY_MAX];

        if (i == but || masters[i].life == NULL || home_of(i) == PLACES)
            continue;
        sight = sight_of_master(i);
        (void)distrust_see(distrust, &sight, &window, key);
    }
}

/* As claims_doubt.c does it, for the alloyd of that number. */
static struct distrust_window hear(struct distrust *distrust, size_t alloyd, size_t master,
                                   struct distrust_sight *sight, char key[DISTRUST_KEY_MAX])
{
    struct distrust_past *const pasts = sight->pasts;
    struct distrust_window window;

    *sight = sight_of_master(master);
    sight->pasts = pasts;
    for (size_t i = 0; i < PLACES; i++)
        if (owner_of[i] == master && i != sight->place && !knows[alloyd][master][i])
            distrust_read_past(&pasts[sight->past_count++], i, keys[i][0] != '\0',
                               (struct slice){keys[i], strlen(keys[i])});
    key[0] = '\0';
    (void)distrust_see(distrust, sight, &window, key);
    if (window.unexplained > 0) {
        sight->asked_ms = now_ms;
        look_around(distrust, master);
        (void)distrust_see(distrust, sight, &window, key);
        assert_int_equal(window.unexplained, 0);
    }
    return window;
}

static struct distrust_window look_in(struct distrust *distrust, size_t alloyd, size_t master)
{
    struct distrust_past pasts[PLACES];
    struct distrust_sight sight = {.pasts = pasts};
    char key[DISTRUST_KEY_MAX], past_key[DISTRUST_PAST_MAX];
    struct distrust_window window = hear(distrust, alloyd, master, &sight, key);

    if (window.opened_ms != with_ms[alloyd][master]) {
        with_ms[alloyd][master] = window.opened_ms;
        memset(knows[alloyd][master], 0, sizeof(knows[alloyd][master]));
        window = hear(distrust, alloyd, master, &sight, key);
    }
    distrust_write_past(distrust, &sight, past_key);
    for (size_t i = 0; i < sight.past_count; i++) {
        knows[alloyd][master][pasts[i].place] = true;
        if (!pasts[i].write)
            continue;
        memcpy(keys[pasts[i].place], past_key, sizeof(past_key));
        distrust_wrote(distrust, pasts[i].place, now_ms);
    }
    if (key[0] != '\0') {
        memcpy(keys[sight.place], key, sizeof(key));
        distrust_wrote(distrust, sight.place, now_ms);
    }
    return window;
}

static void move(size_t place, size_t to)
{
    owner_of[place] = to;
    for (size_t i = 0; i < 2; i++)
        knows[i][to][place] = false;
}

static void assert_believed(struct distrust *distrust, size_t alloyd, size_t master)
{
    assert_int_equal(look_in(distrust, alloyd, master).state, DISTRUST_NOT);
}

static void assert_doubted(struct distrust *distrust, size_t alloyd, size_t master)
{
    const struct distrust_window window = look_in(distrust, alloyd, master);

    assert_int_not_equal(window.state, DISTRUST_NOT);
    assert_int_equal(window.unexplained, 0);
}

static void a_slot_that_moves_between_servers_that_live_has_lost_nothing(void **state)
{
    struct distrust *distrust = make(1), *later;

    (void)state;
    set_up_masters();
    for (size_t place = 0; place < PLACES; place++) {
        const size_t to = 1 - owner_of[place];

        assert_believed(distrust, 0, 0);
        assert_believed(distrust, 0, 1);
        move(place, to);
        assert_believed(distrust, 0, to);
        assert_believed(distrust, 0, 1 - to);
        move(place, 1 - to);
        assert_believed(distrust, 0, 1 - to);
    }
    /* Nobody was there when it moved. */
    move(4, 0);
    later = make(2);
    assert_believed(later, 1, 1);
    assert_believed(later, 1, 0);
    distrust_destroy(distrust);
    distrust_destroy(later);
}

/* Of which nobody else has been told: the keys alone tell the other alloyd. */
static void assert_all_doubt(struct distrust *first, size_t master, bool later_alone)
{
    struct distrust *other = make(7);

    if (!later_alone)
        assert_doubted(first, 0, master);
    assert_doubted(other, 1, master);
    distrust_destroy(other);
}

static void a_window_follows_a_slot_whichever_it_is(void **state)
{
    (void)state;
    /* Noticed before it moves or not; and whether anybody who knew the old master is still there.
     */
    for (size_t i = 0; i < 3 * 8; i++) {
        const size_t place = i % 3;
        const bool noticed = i / 3 % 2 != 0, later_alone = i / 6 % 2 != 0, gone = i / 12 != 0;
        struct distrust *distrust = make(1);

        set_up_masters();
        assert_believed(distrust, 0, 0);
        assert_believed(distrust, 0, 1);
        now_ms += 1000;
        masters[0] = (struct master){"redis:9", "x"};
        if (noticed)
            assert_doubted(distrust, 0, 0);
        now_ms += 1000;
        move(place, 1);
        if (gone) {
            for (size_t k = 0; k < 3; k++)
                move(k, 1);
            masters[0].life = NULL;
        }
        assert_all_doubt(distrust, 1, later_alone);
        distrust_destroy(distrust);
    }
}

static void a_window_that_has_followed_ends_with_the_one_it_came_from(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);
    struct distrust_window window;
    uint64_t opened_ms;

    (void)state;
    set_up_masters();
    assert_believed(distrust, 0, 0);
    assert_believed(distrust, 0, 1);
    assert_believed(other, 1, 1);
    masters[0] = (struct master){"redis:9", "x"};
    assert_doubted(distrust, 0, 0);
    opened_ms = now_ms;
    now_ms += LENGTH_MS / 2;
    move(2, 1);
    window = look_in(distrust, 0, 1);
    assert_int_equal(window.state, DISTRUST_HOLD);
    /* How old the claims are that it lacks nobody knows. */
    assert_int_equal(window.from_ms, 0);
    assert_doubted(other, 1, 1);
    /* One more slot makes nobody wait anew. */
    now_ms += 6000;
    assert_int_equal(look_in(distrust, 0, 1).state, DISTRUST_ASK);
    move(1, 1);
    window = look_in(distrust, 0, 1);
    assert_int_equal(window.state, DISTRUST_ASK);
    now_ms = opened_ms + LENGTH_MS - 6;
    assert_doubted(distrust, 0, 1);
    now_ms = opened_ms + LENGTH_MS;
    assert_believed(distrust, 0, 1);
    assert_believed(other, 1, 1);
    assert_believed(distrust, 0, 0);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

static void a_window_follows_on_from_server_to_server(void **state)
{
    struct distrust *distrust = make(1), *later;

    (void)state;
    set_up_masters();
    assert_believed(distrust, 0, 0);
    assert_believed(distrust, 0, 1);
    masters[0] = (struct master){"redis:9", "x"};
    assert_doubted(distrust, 0, 0);
    move(2, 1);
    assert_doubted(distrust, 0, 1);
    /* The one that was distrusted first is not there any more. */
    move(0, 1);
    move(1, 1);
    masters[0].life = NULL;
    assert_doubted(distrust, 0, 1);
    move(2, 2);
    later = make(2);
    assert_doubted(later, 1, 2);
    assert_doubted(distrust, 0, 2);
    distrust_destroy(distrust);
    distrust_destroy(later);
}

/* Whether it is new, or has failed with all that its alloyd had written, nobody can tell. */
static void a_master_that_nobody_knows_is_distrusted_once(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);
    struct distrust_window window;

    (void)state;
    set_up_masters();
    assert_believed(distrust, 0, 0);
    assert_believed(distrust, 0, 1);
    now_ms += 1000;
    move(2, 2);
    window = look_in(distrust, 0, 2);
    assert_int_equal(window.state, DISTRUST_HOLD);
    /* Only what was set since the key that came along was written. */
    assert_true(window.from_ms > now_ms - 2000 + REAL_MS);
    assert_believed(distrust, 0, 0);
    assert_doubted(other, 1, 2);
    now_ms += LENGTH_MS;
    move(1, 2);
    assert_believed(distrust, 0, 2);
    assert_believed(other, 1, 2);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

/* The slot came just before the failover: neither that nor its claims had been replicated. */
static void a_slot_that_came_before_a_failover_has_lost_claims_of_any_age(void **state)
{
    struct distrust *distrust = make(1);
    char key[DISTRUST_KEY_MAX];
    struct distrust_window window;

    (void)state;
    set_up_masters();
    assert_believed(distrust, 0, 0);
    assert_believed(distrust, 0, 1);
    memcpy(key, keys[5], sizeof(key));
    move(5, 0);
    assert_believed(distrust, 0, 0);
    now_ms += 2000;
    assert_believed(distrust, 0, 0);
    now_ms += 2000;
    memcpy(keys[5], key, sizeof(key));
    masters[0] = (struct master){"redis:9", "x"};
    memset(knows, 0, sizeof(knows));
    window = look_in(distrust, 0, 0);
    assert_int_equal(window.state, DISTRUST_HOLD);
    assert_int_equal(window.from_ms, 0);
    distrust_destroy(distrust);
}

static void the_key_of_a_bucket_that_is_gone_is_noticed(void **state)
{
    struct distrust *distrust = make(1);
    struct distrust_window window;

    (void)state;
    set_up_masters();
    assert_believed(distrust, 0, 0);
    assert_believed(distrust, 0, 1);
    move(2, 1);
    keys[2][0] = '\0';
    window = look_in(distrust, 0, 1);
    assert_int_equal(window.state, DISTRUST_HOLD);
    assert_int_equal(window.from_ms, 0);
    /* It is there again. */
    knows[0][1][2] = false;
    assert_false(look_in(distrust, 0, 1).opened);
    now_ms += LENGTH_MS;
    assert_believed(distrust, 0, 1);
    distrust_destroy(distrust);
}

static void who_claimed_where_a_slot_has_moved_on_makes_nobody_distrust(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);

    (void)state;
    set_up_masters();
    assert_believed(distrust, 0, 0);
    assert_believed(distrust, 0, 1);
    assert_believed(other, 1, 0);
    assert_believed(other, 1, 1);
    /* The lowest of one becomes that of the other, who sees it second. */
    move(0, 1);
    assert_believed(other, 1, 1);
    assert_believed(distrust, 0, 1);
    assert_believed(distrust, 0, 0);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

static void who_claimed_at_the_old_master_meanwhile_makes_all_distrust_again(void **state)
{
    struct distrust *distrust = make(1), *cut_off = make(2);
    char old_key[DISTRUST_KEY_MAX], new_key[DISTRUST_KEY_MAX];

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look(cut_off, "a"), DISTRUST_NOT);
    memcpy(old_key, redis_key, sizeof(old_key));
    assert_int_equal(look_at(distrust, "redis:2", "b", 1, 0).state, DISTRUST_HOLD);
    memcpy(new_key, redis_key, sizeof(new_key));
    now_ms += LENGTH_MS;
    /* Behind the partition. */
    memcpy(redis_key, old_key, sizeof(old_key));
    assert_int_equal(look(cut_off, "a"), DISTRUST_NOT);
    now_ms += 1000;
    memcpy(redis_key, new_key, sizeof(new_key));
    assert_int_equal(look_at(distrust, "redis:2", "b", 2, 0).state, DISTRUST_NOT);
    assert_int_equal(look_at(cut_off, "redis:2", "b", 2, 0).state, DISTRUST_HOLD);
    assert_int_equal(look_at(distrust, "redis:2", "b", 3, 0).state, DISTRUST_HOLD);
    distrust_destroy(distrust);
    distrust_destroy(cut_off);
}

static void a_window_in_which_nobody_could_tell_lasts_longer(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look(distrust, "b"), DISTRUST_HOLD);
    now_ms += LENGTH_MS - 1;
    distrust_prolong(distrust, now_ms + REAL_MS);
    now_ms += 1000;
    assert_int_equal(look(distrust, "b"), DISTRUST_ASK);
    /* for the others too */
    assert_int_equal(look(other, "b"), DISTRUST_ASK);
    now_ms += LENGTH_MS;
    assert_int_equal(look(distrust, "b"), DISTRUST_NOT);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

static void a_key_that_no_alloyd_has_written_is_as_none(void **state)
{
    static const char *const values[] = {"x",
                                         "1",
                                         "1 ",
                                         "1 a.a",
                                         "1 a.a 5",
                                         "1 a.a 5 6 x",
                                         "1 a.a 5 6 7 zz,1,1",
                                         "1 a.a 5 6 7 1,1",
                                         "2 a.a 0 0 0"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        struct distrust *distrust = make(1);

        snprintf(redis_key, sizeof(redis_key), "%s", values[i]);
        assert_int_equal(look(distrust, "b"), DISTRUST_NOT);
        assert_memory_equal(redis_key, "1 b.b 0 0 0 ", 12);
        distrust_destroy(distrust);
    }
}

static void one_thread_at_a_time_looks_for_all_that_are_idle(void **state)
{
    struct distrust *distrust = make(1);

    (void)state;
    assert_true(distrust_turn(distrust, now_ms));
    assert_false(distrust_turn(distrust, now_ms));
    assert_in_range(distrust_left_ms(distrust, now_ms), 1, 1000);
    now_ms += 1000;
    assert_true(distrust_turn(distrust, now_ms));
    config.redis_distrust_ms = 0;
    assert_int_equal(distrust_left_ms(distrust, now_ms + 1000), UINT64_MAX);
    assert_false(distrust_turn(distrust, now_ms + 1000));
    assert_false(distrust_turn(NULL, now_ms));
    distrust_destroy(distrust);
}

static void who_suspects_a_server_opens_one_window(void **state)
{
    struct distrust *distrust = make(1), *other = make(2);
    uint64_t before_ms;

    (void)state;
    assert_int_equal(look(distrust, "a"), DISTRUST_NOT);
    assert_int_equal(look(other, "a"), DISTRUST_NOT);
    before_ms = now_ms + REAL_MS;
    now_ms += 1000;
    assert_int_equal(distrust_suspicions(distrust), 0);
    distrust_suspect(distrust, "redis:1", before_ms);
    assert_int_equal(distrust_suspicions(distrust), 1);
    assert_int_equal(look_at(distrust, "redis:1", "a", 10, 0).from_ms, 0);
    assert_int_equal(look(distrust, "a"), DISTRUST_HOLD);
    /* Others learn of it, and who notices the same later opens none. */
    assert_int_equal(look(other, "a"), DISTRUST_HOLD);
    distrust_suspect(other, "redis:1", before_ms);
    assert_false(look_at(other, "redis:1", "a", 10, 0).opened);
    /* What was there after the window was opened is another loss. */
    distrust_suspect(other, "redis:1", now_ms + REAL_MS);
    assert_true(look_at(other, "redis:1", "a", 10, 0).opened);
    distrust_destroy(distrust);
    distrust_destroy(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(a_server_that_is_seen_first_is_believed),
        TEST(another_life_is_distrusted_for_a_while),
        TEST(a_replica_that_became_master_is_another_life),
        TEST(who_starts_later_learns_of_it_by_the_key),
        TEST(data_that_is_gone_is_noticed_in_the_same_life),
        TEST(an_emptied_server_waits_for_those_whom_we_saw_there),
        TEST(an_offset_that_goes_back_is_noticed),
        TEST(a_slot_that_moves_between_servers_that_live_has_lost_nothing),
        TEST(a_window_follows_a_slot_whichever_it_is),
        TEST(a_window_that_has_followed_ends_with_the_one_it_came_from),
        TEST(a_window_follows_on_from_server_to_server),
        TEST(a_master_that_nobody_knows_is_distrusted_once),
        TEST(a_slot_that_came_before_a_failover_has_lost_claims_of_any_age),
        TEST(the_key_of_a_bucket_that_is_gone_is_noticed),
        TEST(who_claimed_where_a_slot_has_moved_on_makes_nobody_distrust),
        TEST(who_claimed_at_the_old_master_meanwhile_makes_all_distrust_again),
        TEST(a_window_in_which_nobody_could_tell_lasts_longer),
        TEST(a_key_that_no_alloyd_has_written_is_as_none),
        TEST(who_suspects_a_server_opens_one_window),
        TEST(one_thread_at_a_time_looks_for_all_that_are_idle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
