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
    /* What it says of itself, if it does; the keys of its buckets, of which the one named by
     * `away` is at the other node. */
    const char *life; /* one letter, for run and replication */
    char keys[BUCKETS][DISTRUST_KEY_MAX];
    int away;                 /* -1: none */
    _Atomic(const char *) no; /* the error that it answers instead of any of these keys */
    bool asking;
    pthread_mutex_t lock;
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

/* The length of the command that begins there; 0: it has not come whole. */
static size_t node_command_len(const char *in, size_t len)
{
    const char *at = in, *end = in + len;
    long args = len > 0 && *in == '*' ? atol(in + 1) : -1;

    at = memchr(in, '\n', len);
    for (; at != NULL && args > 0; args--) {
        const char *line = at + 1;
        const long bytes = line < end && *line == '$' ? atol(line + 1) : -1;

        at = bytes < 0 ? NULL : memchr(line, '\n', (size_t)(end - line));
        at = at == NULL || end - at <= bytes + 2 ? NULL : at + bytes + 2;
    }
    return at == NULL || args != 0 ? 0 : (size_t)(at + 1 - in);
}

static void node_answer(int fd, const char *format, ...)
{
    char out[DISTRUST_KEY_MAX + 64];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(out, sizeof(out), format, args);
    va_end(args);
    (void)!send(fd, out, (size_t)len, MSG_NOSIGNAL);
}

static size_t bucket_slot(size_t bucket)
{
    char tag[8];

    snprintf(tag, sizeof(tag), "%03zx", bucket);
    return redis_slots_crc16((struct slice){tag, 3}) % REDIS_SLOTS;
}

/* The key of a bucket is read or written. */
static void node_answer_key(struct node *node, int fd, size_t bucket, const char *value)
{
    const char *const no = atomic_load(&node->no);

    if (no != NULL) {
        node_answer(fd, "-%s no\r\n", no);
        return;
    }
    if (node->away == (int)bucket && !node->asking) {
        node_answer(fd, "-ASK %zu 127.0.0.1:%d\r\n", bucket_slot(bucket), node->other->port);
        return;
    }
    if (value != NULL) {
        snprintf(node->keys[bucket], DISTRUST_KEY_MAX, "%.*s", (int)strcspn(value, "\r"), value);
        node_answer(fd, "+OK\r\n");
    } else if (node->keys[bucket][0] == '\0') {
        node_answer(fd, MISS);
    } else {
        node_answer(fd, "*1\r\n$%zu\r\n%s\r\n", strlen(node->keys[bucket]), node->keys[bucket]);
    }
}

/* A command of a look at the node, or the ASKING before one. False: it is none. */
static bool node_answer_look(struct node *node, int fd, const char *in, size_t len)
{
    const char *key = memmem(in, len, "#life:{", 7);

    if (node->life == NULL)
        return false;
    pthread_mutex_lock(&node->lock);
    if (len == 16 && memcmp(in, "*1\r\n$6\r\nASKING", 14) == 0) {
        node->asking = true;
        node_answer(fd, "+OK\r\n");
    } else if (memmem(in, len, "$6\r\nserver", 10) != NULL) {
        node_answer(fd, "$8\r\nrun_id:%s\r\n", node->life);
    } else if (memmem(in, len, "$11\r\nreplication", 16) != NULL) {
        node_answer(fd, "$37\r\nmaster_replid:%s\r\nmaster_repl_offset:5\r\n", node->life);
    } else if (key != NULL) {
        const char *value = memmem(key, len - (size_t)(key - in), "\r\n1 ", 4);

        node_answer_key(node, fd, strtoul(key + 7, NULL, 16), value != NULL ? value + 2 : NULL);
        node->asking = false;
    } else {
        pthread_mutex_unlock(&node->lock);
        return false;
    }
    pthread_mutex_unlock(&node->lock);
    return true;
}

/* Answers what is about looks, and leaves the rest. */
static size_t node_answer_looks(struct node *node, int fd, char *in, size_t len)
{
    size_t at = 0, n = 0;

    if (node->life == NULL || memmem(in, len, "#life:{", 7) == NULL)
        return len;
    while ((n = node_command_len(in + at, len - at)) > 0 && node_answer_look(node, fd, in + at, n))
        at += n;
    memmove(in, in + at, len - at);
    return len - at;
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
    char in[262144];
    size_t len = 0;
    ssize_t n;

    free(arg);
    while ((n = recv(talk.fd, in + len, sizeof(in) - len, 0)) > 0) {
        const struct rule *rule;

        len = node_answer_looks(node, talk.fd, in, len + (size_t)n);
        /* Of a look more is to come. */
        if (len == 0 || (node->life != NULL && node_command_len(in, len) == 0))
            continue;
        rule = node_rule(node, in, len);
        len = 0;
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
        memset(&nodes[i], 0, sizeof(nodes[i]));
        nodes[i].other = &nodes[1 - i];
        nodes[i].away = -1;
        pthread_mutex_init(&nodes[i].lock, NULL);
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

/* ---- what a node does not know, and whether that is believed ---- */

/* Two nodes that say who they are; see start_nodes(). */
static void start_living_nodes(int cut, const struct rule *first, const struct rule *second)
{
    config.redis_distrust_ms = 60000;
    config.redis_timeout_ms = 5000;
    distrust = distrust_create(&(struct distrust_parts){.config = &config_ref, .metrics = metrics});
    start_nodes(cut, first, second);
    nodes[0].life = "a";
    nodes[1].life = "b";
}

static void stop_living_nodes(void)
{
    stop_nodes();
    distrust_destroy(distrust);
    distrust = NULL;
    config.redis_distrust_ms = 0;
}

/* The lowest bucket of a node whose slots are so. */
static size_t home_of(bool low)
{
    size_t bucket = 0;

    while ((bucket_slot(bucket) < 8192) != low)
        bucket++;
    return bucket;
}

/* Nobody else has anything in hand: what is not believed is looked for soon. */
static void assert_taken_so_at_last(enum claims_verdict verdict)
{
    const uint64_t deadline_ms = clock_mono_ms() + 20000;

    while (take() == 0 && count_verdicts(CLAIM_HELD) > 0 && clock_mono_ms() < deadline_ms)
        fixture_pause_ms(5);
    assert_all(verdict);
}

/* Which of our keys there names the master before is not known before all its slots are. */
static void
a_node_that_moved_alone_has_named_is_not_believed_before_its_slots_are_known(void **state)
{
    static char moved[64];
    const struct rule first[] = {{"MGET", moved, 0, false}, {NULL}};
    const struct rule second[] = {{"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    snprintf(moved, sizeof(moved), "-MOVED %zu %%s\r\n", slot_of("id"));
    assert_int_not_equal(bucket_of("id"), 0);
    add_record("id");
    start_living_nodes(REDIS_SLOTS, first, second);
    strcpy(nodes[1].keys[0], "1 a.a 0 0 0");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_HELD);
    atomic_store(&taken_over, true);
    assert_taken_so_at_last(CLAIM_DOUBTED);
    atomic_store(&taken_over, false);
    stop_living_nodes();
}

/* Of the lower slots' master, when one of these has moved to the other one. */
struct fate {
    const char *home; /* what the key of that master says when we first come there */
    const char *left; /* what that of the slot says in the end; NULL: as we have written it */
    enum claims_verdict verdict;
};

static void a_slot_that_moves_takes_along_what_is_not_believed_of_its_master(void **state)
{
    static const struct fate fates[] = {
        {"", NULL, CLAIM_OWNED},
        {"1 c.c 0 0 0", NULL, CLAIM_DOUBTED},            /* it had failed */
        {"", "1 d.d 0 0 0", CLAIM_DOUBTED},              /* so had it, which nobody has seen */
        {"", "", CLAIM_DOUBTED},                         /* what it had is gone */
        {"", "1 a.a 1 99999999999999 0", CLAIM_DOUBTED}, /* as others have noticed */
    };
    static char moved[64];
    const struct rule first[] = {{"MGET", moved, 0, false}, {NULL}};
    const struct rule second[] = {{"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};
    const char *const id = id_in(true);
    const size_t bucket = bucket_of(id);

    (void)state;
    snprintf(moved, sizeof(moved), "-MOVED %zu %%s\r\n", slot_of(id));
    assert_int_not_equal(bucket, home_of(true));
    add_record(id);
    for (size_t i = 0; i < ARRAY_LEN(fates); i++) {
        start_living_nodes(8192, first, second);
        strcpy(nodes[0].keys[home_of(true)], fates[i].home);
        claims_look(claims, clock_mono_ms());
        assert_memory_equal(nodes[0].keys[bucket], "1 a.a ", 6);
        strcpy(nodes[1].keys[bucket],
               fates[i].left != NULL ? fates[i].left : nodes[0].keys[bucket]);
        assert_taken_so_at_last(fates[i].verdict);
        /* Whoever comes there next reads that it is settled. */
        assert_memory_equal(nodes[1].keys[bucket], "1 b.b ", 6);
        stop_living_nodes();
    }
}

/* In the midst of a failover it takes no command about a key, and says who it is all the same. */
static void a_node_that_cannot_say_now_is_not_believed_until_it_can(void **state)
{
    static const char *const passing[] = {"CLUSTERDOWN", "LOADING", "MASTERDOWN", "BUSY"};
    const struct rule knows[] = {{"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};

    (void)state;
    add_record("id");
    for (size_t i = 0; i < ARRAY_LEN(passing); i++) {
        start_living_nodes(REDIS_SLOTS, knows, knows);
        strcpy(nodes[0].keys[0], "1 c.c 0 0 0");
        atomic_store(&nodes[0].no, passing[i]);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(take(), 0);
            assert_all(CLAIM_HELD);
        }
        atomic_store(&nodes[0].no, NULL);
        assert_taken_so_at_last(CLAIM_DOUBTED);
        stop_living_nodes();
    }
    /* But who may not ask believes it. */
    start_living_nodes(REDIS_SLOTS, knows, knows);
    atomic_store(&nodes[0].no, "NOPERM");
    assert_int_equal(take(), 0);
    assert_all(CLAIM_OWNED);
    atomic_store(&nodes[0].no, NULL);
    stop_living_nodes();
}

/* In the midst of the move: what neither of the two knows. */
static void what_an_ask_has_sent_elsewhere_is_believed_only_if_both_are(void **state)
{
    static char ask[64];
    const struct rule first[] = {{"MGET", ask, 0, false}, {"SET", ask, 0, false}, {NULL}};
    static const struct rule second[] = {{"ASKING\r\n*2\r\n$4\r\nMGET", "+OK\r\n" MISS, 0, false},
                                         {"ASKING\r\n*6\r\n$3\r\nSET", "+OK\r\n+OK\r\n", 0, false},
                                         {NULL}};
    const char *const id = id_in(true);

    (void)state;
    snprintf(ask, sizeof(ask), "-ASK %zu %%s\r\n", slot_of(id));
    add_record(id);
    for (int i = 0; i < 3; i++) {
        start_living_nodes(8192, first, second);
        if (i > 0)
            strcpy(nodes[i - 1].keys[home_of(i == 1)], "1 c.c 0 0 0");
        assert_taken_so_at_last(i > 0 ? CLAIM_DOUBTED : CLAIM_OWNED);
        stop_living_nodes();
    }
    /* The other one has no slot at all, so that nothing there tells of its life before. */
    start_living_nodes(REDIS_SLOTS, first, second);
    assert_taken_so_at_last(CLAIM_DOUBTED);
    assert_int_equal(claims_doubted_from_ms(claims), 0);
    assert_int_equal(claims_take_checked(claims, batch, verdicts, clock_mono_ms(), clock_mono_ms()),
                     0);
    assert_all(CLAIM_OWNED);
    stop_living_nodes();
}

/* The keys by which we know a node are read and written where they are. */
static void a_key_that_is_on_its_way_to_another_node_is_found_there(void **state)
{
    static const struct rule both[] = {
        {"MGET", MISS, 0, false}, {"SET", "+OK\r\n", 0, false}, {NULL}};
    const size_t homes[] = {home_of(true), bucket_of(id_in(true))};

    (void)state;
    add_record(id_in(true));
    for (size_t i = 0; i < ARRAY_LEN(homes); i++) {
        start_living_nodes(8192, both, both);
        nodes[0].away = (int)homes[i];
        assert_taken_so_at_last(CLAIM_OWNED);
        assert_memory_equal(nodes[1].keys[homes[i]], "1 a.a ", 6);
        stop_living_nodes();
        start_living_nodes(8192, both, both);
        nodes[0].away = (int)homes[i];
        strcpy(nodes[1].keys[homes[i]], "1 c.c 0 0 0");
        assert_taken_so_at_last(CLAIM_DOUBTED);
        stop_living_nodes();
    }
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
        TEST(a_slot_that_moves_takes_along_what_is_not_believed_of_its_master),
        TEST(a_node_that_cannot_say_now_is_not_believed_until_it_can),
        TEST(what_an_ask_has_sent_elsewhere_is_believed_only_if_both_are),
        TEST(a_key_that_is_on_its_way_to_another_node_is_found_there),
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
