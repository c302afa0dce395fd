/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_claims_lanes.c - claims in a cluster whose nodes answer as they are told to: redirections,
 * nodes that are away, all nodes at once.
 */
#include "claims_fixture.h"

#include "claims_private.h"

#define NODES_MAX 2
#define RULES_MAX 8
#define MISS "*1\r\n$-1\r\n"

/* What a node says when what it hears holds `heard`. It waits until the other node has heard
 * something too, if it is told to. */
struct rule {
    const char *heard;
    const char *reply; /* with %s: the other node's host and port */
    int times;         /* 0: as often as wanted */
    bool waits;
};

struct node {
    int fd, port;
    pthread_t thread;
    struct rule rules[RULES_MAX];
    struct node *other;
    atomic_int heard; /* commands but CLUSTER SLOTS and probes */
    atomic_int asked; /* these */
    atomic_int talks; /* connections that somebody listens to */
    atomic_bool stop;
};

static struct node nodes[NODES_MAX];
static atomic_bool taken_over; /* the second node has all slots now */

static const struct rule *node_rule(struct node *node, const char *in, size_t len)
{
    for (size_t i = 0; i < RULES_MAX && node->rules[i].heard != NULL; i++) {
        struct rule *rule = &node->rules[i];

        if (rule->times < 0 || memmem(in, len, rule->heard, strlen(rule->heard)) == NULL)
            continue;
        if (rule->times > 0 && --rule->times == 0)
            rule->times = -1;
        return rule;
    }
    return NULL;
}

static void node_say(struct node *node, int fd, const struct rule *rule)
{
    char place[32], out[1024];

    snprintf(place, sizeof(place), "127.0.0.1:%d", node->other->port);
    if (rule == node->rules && atomic_load(&taken_over))
        snprintf(out, sizeof(out), "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n",
                 nodes[1].port);
    else
        snprintf(out, sizeof(out), rule->reply, place, place);
    (void)!send(fd, out, strlen(out), MSG_NOSIGNAL);
}

struct talk {
    struct node *node;
    int fd;
};

/* One connection. */
static void *node_talk(void *arg)
{
    struct talk talk = *(struct talk *)arg;
    struct node *node = talk.node;
    char in[65536];
    ssize_t n;

    free(arg);
    while ((n = recv(talk.fd, in, sizeof(in), 0)) > 0) {
        const struct rule *rule = node_rule(node, in, (size_t)n);

        if (rule == NULL)
            break;
        atomic_fetch_add(rule < node->rules + 2 ? &node->asked : &node->heard, 1);
        while (rule->waits && atomic_load(&node->other->heard) == 0 && !atomic_load(&node->stop))
            fixture_pause_ms(1);
        node_say(node, talk.fd, rule);
    }
    close(talk.fd);
    atomic_fetch_sub(&node->talks, 1);
    return NULL;
}

static void *node_run(void *arg)
{
    struct node *node = arg;

    for (;;) {
        struct talk *talk = malloc(sizeof(*talk));
        pthread_t thread;

        *talk = (struct talk){node, accept(node->fd, NULL, NULL)};
        if (talk->fd < 0) {
            free(talk);
            return NULL;
        }
        atomic_fetch_add(&node->talks, 1);
        assert_int_equal(pthread_create(&thread, NULL, node_talk, talk), 0);
        pthread_detach(thread);
    }
}

/* Two nodes; the first has the slots below `cut`, and the second the others. */
static void start_nodes(int cut, const struct rule *first, const struct rule *second)
{
    static char slots[NODES_MAX][512];
    const struct rule *rules[NODES_MAX] = {first, second};
    char url[64];

    for (size_t i = 0; i < NODES_MAX; i++) {
        nodes[i] = (struct node){.other = &nodes[1 - i]};
        nodes[i].fd = fixture_listen(&nodes[i].port);
    }
    for (size_t i = 0; i < NODES_MAX; i++) {
        size_t count = 1;

        if (cut < REDIS_SLOTS)
            snprintf(slots[i], sizeof(slots[i]),
                     "*2\r\n*3\r\n:0\r\n:%d\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n"
                     "*3\r\n:%d\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n",
                     cut - 1, nodes[0].port, cut, nodes[1].port);
        else
            snprintf(slots[i], sizeof(slots[i]),
                     "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n", nodes[0].port);
        nodes[i].rules[0] = (struct rule){"CLUSTER", slots[i], 0, false};
        if (rules[i] != NULL)
            nodes[i].rules[count++] = (struct rule){"$5\r\nprobe", MISS "+OK\r\n", 0, false};
        for (size_t k = 0; rules[i] != NULL && rules[i][k].heard != NULL; k++)
            nodes[i].rules[count++] = rules[i][k];
        assert_int_equal(pthread_create(&nodes[i].thread, NULL, node_run, &nodes[i]), 0);
    }
    snprintf(url, sizeof(url), "redis-cluster://127.0.0.1:%d", nodes[0].port);
    use_url(url);
    assert_non_null(claims);
}

static void stop_nodes(void)
{
    claims_destroy(claims);
    claims = NULL;
    for (size_t i = 0; i < NODES_MAX; i++) {
        atomic_store(&nodes[i].stop, true);
        shutdown(nodes[i].fd, SHUT_RDWR);
        pthread_join(nodes[i].thread, NULL);
        close(nodes[i].fd);
    }
    for (size_t i = 0; i < NODES_MAX; i++)
        while (atomic_load(&nodes[i].talks) > 0)
            fixture_pause_ms(1);
}

static size_t bucket_of(const char *id)
{
    return redis_slots_crc16((struct slice){id, strlen(id)}) % BUCKETS;
}

static size_t slot_of(const char *id)
{
    char tag[8];

    snprintf(tag, sizeof(tag), "%03zx", bucket_of(id));
    return redis_slots_crc16((struct slice){tag, 3}) % REDIS_SLOTS;
}

/* An id whose slot is below 8192, or not. */
static const char *id_in(bool low)
{
    static char id[2][16];
    int i = 0;

    do {
        snprintf(id[low], sizeof(id[low]), "n%d", i++);
    } while ((slot_of(id[low]) < 8192) != low);
    return id[low];
}

static void keys_have_the_tag_of_their_bucket(void **state)
{
    char heard[64];
    const struct rule rules[] = {{heard, MISS, 1, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    snprintf(heard, sizeof(heard), "$20\r\nalloy:events:{%03zx}id\r\n", bucket_of("id"));
    add_record("id");
    start_nodes(REDIS_SLOTS, rules, NULL);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    stop_nodes();
}

static void moved_is_followed_and_the_slots_are_asked_for_again(void **state)
{
    static const struct rule second[] = {
        {"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};
    static char moved[64];
    struct rule first[] = {{"MGET", moved, 1, false}, {NULL}};

    (void)state;
    snprintf(moved, sizeof(moved), "-MOVED %zu %%s\r\n", slot_of("id"));
    add_record("id");
    start_nodes(REDIS_SLOTS, first, second);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(atomic_load(&nodes[0].heard), 1); /* the SET went to where it had moved */
    assert_int_equal(errors(), 0);
    assert_false(redis_condition().up);
    stop_nodes();
}

/* What a node says of itself, before the value of our key there. */
#define LIFE(run, replication) \
    "$8\r\nrun_id:" run "\r\n$37\r\nmaster_replid:" replication "\r\nmaster_repl_offset:5\r\n"
#define SET_LIFE "*5\r\n$3\r\nSET"

/* Which of our keys there names the master before is not known before all its slots are. */
static void
a_node_that_moved_alone_has_named_is_not_believed_before_its_slots_are_known(void **state)
{
    static char moved[64];
    const struct rule first[] = {{SET_LIFE, "+OK\r\n", 0, false},
                                 {"server", LIFE("1", "a") MISS, 0, false},
                                 {"MGET", moved, 0, false},
                                 {NULL}};
    const struct rule second[] = {
        {SET_LIFE, "+OK\r\n", 0, false},
        {"#life:{000}", LIFE("2", "b") "*1\r\n$11\r\n1 1.a 0 0 0\r\n", 0, false},
        {"server", LIFE("2", "b") MISS, 0, false},
        {"MGET", MISS, 0, false},
        {"SET", "+OK\r\n", 0, false},
        {NULL}};
    const uint64_t deadline_ms = clock_mono_ms() + 20000;

    (void)state;
    config.redis_distrust_ms = 60000;
    distrust = distrust_create(&(struct distrust_parts){.config = &config_ref, .metrics = metrics});
    snprintf(moved, sizeof(moved), "-MOVED %zu %%s\r\n", slot_of("id"));
    assert_int_not_equal(bucket_of("id"), 0);
    add_record("id");
    start_nodes(REDIS_SLOTS, first, second);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_HELD);
    atomic_store(&taken_over, true);
    while (take() == 0 && count_verdicts(CLAIM_HELD) > 0 && clock_mono_ms() < deadline_ms)
        fixture_pause_ms(5);
    assert_all(CLAIM_DOUBTED);
    stop_nodes();
    atomic_store(&taken_over, false);
    distrust_destroy(distrust);
    distrust = NULL;
    config.redis_distrust_ms = 0;
}

static void moved_without_a_host_is_a_port_of_the_same_host(void **state)
{
    static char moved[64];
    const struct rule first[] = {{"MGET", moved, 0, false}, {NULL}};
    static const struct rule second[] = {
        {"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    add_record("id");
    start_nodes(REDIS_SLOTS, first, second);
    snprintf(moved, sizeof(moved), "-MOVED %zu :%d\r\n", slot_of("id"), nodes[1].port);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    stop_nodes();
}

static void ask_is_followed_for_one_command(void **state)
{
    static char ask[64];
    const struct rule first[] = {{"MGET", ask, 1, false}, {"SET", ask, 1, false}, {NULL}};
    static const struct rule second[] = {{"ASKING\r\n*2\r\n$4\r\nMGET", "+OK\r\n" MISS, 1, false},
                                         {"ASKING\r\n*6\r\n$3\r\nSET", "+OK\r\n+OK\r\n", 1, false},
                                         {NULL}};

    (void)state;
    snprintf(ask, sizeof(ask), "-ASK %zu %%s\r\n", slot_of("id"));
    add_record("id");
    start_nodes(REDIS_SLOTS, first, second);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(atomic_load(&nodes[0].heard), 2);
    assert_int_equal(atomic_load(&nodes[1].heard), 2);
    assert_int_equal(errors(), 0);
    stop_nodes();
}

/* Two ids of one bucket: some of what one MGET asks for is elsewhere. */
static void after_tryagain_each_key_is_asked_for_alone(void **state)
{
    const struct rule first[] = {{"*3\r\n$4\r\nMGET",
                                  "-TRYAGAIN Multiple keys request during rehashing of slot\r\n", 1,
                                  false},
                                 {"*2\r\n$4\r\nMGET", MISS MISS, 1, false},
                                 {"SET", "+OK\r\n+OK\r\n", 0, false},
                                 {NULL}};
    char id[16];
    int i = 0;

    (void)state;
    do {
        snprintf(id, sizeof(id), "n%d", i++);
    } while (bucket_of(id) != bucket_of("id"));
    add_record("id");
    add_record(id);
    start_nodes(REDIS_SLOTS, first, NULL);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(errors(), 0);
    stop_nodes();
}

static void nodes_that_send_ids_in_a_circle_claim_nothing(void **state)
{
    static char moved[64];
    const struct rule both[] = {{"MGET", moved, 0, false}, {NULL}};

    (void)state;
    snprintf(moved, sizeof(moved), "-MOVED %zu %%s\r\n", slot_of("id"));
    add_record("id");
    config.redis_timeout_ms = 5000;
    start_nodes(REDIS_SLOTS, both, both);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_non_null(strstr(redis_condition().text, "from one to another"));
    stop_nodes();
}

static void a_cluster_that_is_down_is_told_in_its_words(void **state)
{
    static const struct rule first[] = {{"MGET", "-CLUSTERDOWN The cluster is down\r\n", 0, false},
                                        {NULL}};

    (void)state;
    add_record("id");
    start_nodes(REDIS_SLOTS, first, NULL);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_non_null(strstr(redis_condition().text, "CLUSTERDOWN The cluster is down"));
    assert_non_null(strstr(redis_condition().text, "(1 of 1 nodes away)"));
    assert_true(claims_retry_in_ms(claims, clock_mono_ms()) <= 1000);
    stop_nodes();
}

static void a_node_that_is_away_costs_its_own_ids_alone(void **state)
{
    static const struct rule first[] = {
        {"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    config.redis_timeout_ms = 5000;
    add_record(id_in(true));
    add_record(id_in(false));
    start_nodes(8192, first, NULL); /* the second closes whatever it hears */
    assert_int_equal(take(), -EAGAIN);
    assert_int_equal(verdicts[0], CLAIM_OWNED);
    assert_int_equal(verdicts[1], CLAIM_UNKNOWN);
    assert_non_null(strstr(redis_condition().text, "(1 of 2 nodes away)"));
    assert_int_equal(atomic_load(&metrics->gauges[METRIC_GAUGE_redis_nodes_away]), 1);
    /* Its breaker is open, and that of the other is not. */
    free(batch->records[--batch->count]);
    assert_int_equal(take(), 0);
    assert_int_equal(gauge_up(), 0);
    stop_nodes();
}

/* Each answers only when the other has been asked. */
static void all_nodes_are_asked_at_once(void **state)
{
    static const struct rule both[] = {
        {"MGET", MISS, 0, true}, {"SET", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    config.redis_timeout_ms = 10000;
    add_record(id_in(true));
    add_record(id_in(false));
    start_nodes(8192, both, both);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    stop_nodes();
}

/* ---- WAIT ---- */

static void every_node_that_gets_sets_is_asked_for_its_replicas(void **state)
{
    static const struct rule first[] = {
        {"MGET", MISS, 0, false}, {"WAIT", "+OK\r\n:1\r\n", 0, false}, {NULL}};
    static const struct rule second[] = {{"MGET", MISS, 0, false},
                                         {"WAIT", "+OK\r\n:0\r\n", 1, false},
                                         {"WAIT", "+OK\r\n:2\r\n", 0, false},
                                         {NULL}};
    char name[32];

    (void)state;
    config.redis_wait_replicas = 1;
    config.redis_wait_timeout_ms = 20;
    config.redis_timeout_ms = 5000;
    add_record(id_in(true));
    add_record(id_in(false));
    start_nodes(8192, first, second);
    snprintf(name, sizeof(name), "127.0.0.1:%d (1 of 2 nodes)", nodes[1].port);
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    assert_int_equal(short_waits(), 1);
    assert_non_null(strstr(replicas_condition().text, name));
    /* A batch that concerns the other node alone says nothing about this one. */
    free(batch->records[--batch->count]);
    assert_int_equal(take(), 0);
    assert_int_equal(atomic_load(&nodes[1].heard), 2);
    assert_true(replicas_condition().up);
    add_record(id_in(false));
    assert_int_equal(take(), 0);
    assert_false(replicas_condition().up);
    assert_int_equal(short_waits(), 1);
    stop_nodes();
}

static void a_node_that_does_not_answer_wait_costs_the_other_nothing(void **state)
{
    static const struct rule first[] = {
        {"MGET", MISS, 0, false}, {"WAIT", "+OK\r\n:1\r\n", 0, false}, {NULL}};
    static const struct rule second[] = {
        {"MGET", MISS, 0, false}, {"WAIT", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    config.redis_wait_replicas = 1;
    config.redis_wait_timeout_ms = 20;
    config.redis_timeout_ms = 600;
    add_record(id_in(true));
    add_record(id_in(false));
    start_nodes(8192, first, second);
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_OWNED); /* what was answered stays known */
    assert_int_equal(errors(), 1);
    assert_non_null(strstr(redis_condition().text, "(1 of 2 nodes away)"));
    free(batch->records[--batch->count]);
    assert_int_equal(take(), 0);
    stop_nodes();
}

static void a_server_that_is_no_cluster_is_told(void **state)
{
    char url[64];

    (void)state;
    snprintf(url, sizeof(url), "redis-cluster://127.0.0.1:%d", redis.port);
    use_url(url);
    add_record("id");
    assert_int_equal(take(), -EAGAIN);
    assert_all(CLAIM_UNKNOWN);
    assert_non_null(strstr(redis_condition().text, "cluster support disabled"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(keys_have_the_tag_of_their_bucket),
        TEST(moved_is_followed_and_the_slots_are_asked_for_again),
        TEST(a_node_that_moved_alone_has_named_is_not_believed_before_its_slots_are_known),
        TEST(moved_without_a_host_is_a_port_of_the_same_host),
        TEST(ask_is_followed_for_one_command),
        TEST(after_tryagain_each_key_is_asked_for_alone),
        TEST(nodes_that_send_ids_in_a_circle_claim_nothing),
        TEST(a_cluster_that_is_down_is_told_in_its_words),
        TEST(a_node_that_is_away_costs_its_own_ids_alone),
        TEST(all_nodes_are_asked_at_once),
        TEST(every_node_that_gets_sets_is_asked_for_its_replicas),
        TEST(a_node_that_does_not_answer_wait_costs_the_other_nothing),
        TEST(a_server_that_is_no_cluster_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, group_teardown);
}
