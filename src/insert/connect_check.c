/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect_check.c - asks Redis and ClickHouse whether they are as the configuration needs them.
 *
 * It sends what alloyd will send: the same commands on a key of its own, the same questions about
 * tables, and each stream's insert without a row, which meets the rights and the settings and
 * leaves nothing. Where a peer does not answer, nothing more is asked of it, so that a peer which
 * hangs costs one time-out.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "alloy/connect_check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "alloy/ask_redis.h"
#include "alloy/ask_clickhouse.h"
#include "alloy/clickhouse_url.h"
#include "alloy/clock.h"
#include "alloy/packed.h"
#include "insert_request.h"
#include "proof.h"
#include "sites.h"
#include "table_facts.h"

#define TIMEOUT_MS 3000
#define TIMEOUT_MIN_MS 500
#define DISCARD "discard:"
#define KEY_MAX 128
#define UUID_LEN 36
#define CODE_ACCESS_DENIED 497

struct connect {
    const struct config *config;
    FILE *out;
    size_t problems;
    char who[CLICKHOUSE_NAME_MAX + 4]; /* whom of several, before what is found; "": it is one */
    struct site *sites; /* each stream's at each endpoint; NULL: there is one endpoint */
    char servers[CLICKHOUSE_ENDPOINTS_MAX][UUID_LEN]; /* who they are; "": not told */
};

static void connect_tell(struct connect *connect, const char *key, const char *kind,
                         const char *format, va_list args)
{
    config_print_place(connect->config, key, connect->out);
    fprintf(connect->out, "%s%s: %s", kind, key, connect->who);
    vfprintf(connect->out, format, args);
    fputc('\n', connect->out);
}

static PRINTF_LIKE(3, 4) void connect_problem(struct connect *connect, const char *key,
                                              const char *format, ...)
{
    va_list args;

    va_start(args, format);
    connect_tell(connect, key, "", format, args);
    va_end(args);
    connect->problems++;
}

static PRINTF_LIKE(3, 4) void connect_warning(struct connect *connect, const char *key,
                                              const char *format, ...)
{
    va_list args;

    va_start(args, format);
    connect_tell(connect, key, "warning: ", format, args);
    va_end(args);
}

/* ---- Redis ---- */

/* A peer that says nothing costs less each time, so that a list of such costs seconds. */
static void connect_redis_was_lost(struct ask_redis *redis)
{
    redis->timeout_ms =
        redis->timeout_ms / 2 > TIMEOUT_MIN_MS ? redis->timeout_ms / 2 : TIMEOUT_MIN_MS;
}

/* What claims need: a key that does not exist is set, read and deleted. */
static bool connect_claim(struct connect *connect, struct ask_redis *redis, const char *key)
{
    const char *const set[] = {"SET", key, "check", "NX", "PX", "10000"};
    const char *const get[] = {"MGET", key};
    const char *const release[] = {
        "EVAL", "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end",
        "1", key, "check"};
    const char *const words[] = {"SET", "MGET", "EVAL"};
    const char *const *const commands[] = {set, get, release};
    const size_t counts[] = {ARRAY_LEN(set), ARRAY_LEN(get), ARRAY_LEN(release)};
    const char *const del[] = {"DEL", key};

    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        switch (ask_redis(redis, commands[i], counts[i])) {
        case ASK_REDIS_OK:
            break;
        case ASK_REDIS_REFUSED:
            connect_problem(connect, "redis.url", "%s is refused by %s (%s)", words[i], redis->name,
                            redis->why);
            (void)ask_redis(redis, del, ARRAY_LEN(del));
            return true;
        case ASK_REDIS_LOST:
            connect_problem(connect, "redis.url", "%s is not answered by %s (%s)", words[i],
                            redis->name, redis->why);
            connect_redis_was_lost(redis);
            return false;
        }
    }
    return true;
}

static void connect_redis_memory(struct connect *connect, struct ask_redis *redis)
{
    const char *const info[] = {"INFO", "memory"};
    char policy[64], most[32] = "0";

    if (ask_redis(redis, info, 2) != ASK_REDIS_OK ||
        !ask_redis_field(redis, "maxmemory_policy", policy, sizeof(policy))) {
        connect_warning(connect, "redis.url",
                        "its maxmemory-policy cannot be read (%s): it must be noeviction",
                        redis->why[0] != '\0' ? redis->why : "INFO memory does not tell");
        return;
    }
    (void)ask_redis_field(redis, "maxmemory", most, sizeof(most));
    if (strcmp(policy, "noeviction") != 0)
        connect_problem(connect, "redis.url",
                        "its maxmemory-policy is %s%s: it forgets ids, whose events can then "
                        "come twice. CONFIG SET maxmemory-policy noeviction, and in its redis.conf",
                        policy, strcmp(most, "0") == 0 ? ", as soon as maxmemory is set" : "");
}

static void connect_redis_disk(struct connect *connect, struct ask_redis *redis)
{
    const char *const info[] = {"INFO", "persistence"};
    char aof[8], text[64];

    if (ask_redis(redis, info, 2) != ASK_REDIS_OK ||
        !ask_redis_field(redis, "aof_enabled", aof, sizeof(aof)))
        return;
    if (strcmp(aof, "0") == 0)
        connect_warning(connect, "redis.url",
                        "appendonly is off: a restart of Redis forgets ids, whose events can "
                        "then come twice. CONFIG SET appendonly yes, and in its redis.conf");
    else if (ask_redis_field(redis, "aof_last_write_status", text, sizeof(text)) &&
             strcmp(text, "ok") != 0)
        connect_problem(connect, "redis.url", "it cannot write its append-only file (%s)", text);
}

static void connect_redis_role(struct connect *connect, struct ask_redis *redis)
{
    const char *const replication[] = {"INFO", "replication"};
    char role[64];

    if (ask_redis(redis, replication, 2) == ASK_REDIS_OK &&
        ask_redis_field(redis, "role", role, sizeof(role)) && strcmp(role, "master") != 0)
        connect_problem(connect, "redis.url", "it is a replica (role %s): name its master", role);
}

static void connect_redis_coverage(struct connect *connect, struct ask_redis *redis)
{
    const char *const words[] = {"CONFIG", "GET", "cluster-require-full-coverage"};

    if (ask_redis(redis, words, 3) == ASK_REDIS_OK && redis->count == 2 &&
        redis->texts[1] != NULL && strcmp(redis->texts[1], "yes") == 0)
        connect_warning(connect, "redis.url",
                        "cluster-require-full-coverage is yes: while one master is away without "
                        "a replica all others refuse claims too. CONFIG SET "
                        "cluster-require-full-coverage no, and in its redis.conf");
}

/* redis.layout = packed: hashes as long as ours must stay listpacks. */
static void connect_redis_packed(struct connect *connect, struct ask_redis *redis)
{
    static const struct {
        const char *names[2];
        uint64_t least;
    } settings[] = {
        {{"hash-max-listpack-entries", "hash-max-ziplist-entries"}, PACKED_LENGTH_MIN},
        {{"hash-max-listpack-value", "hash-max-ziplist-value"}, PACKED_FIELD_LEN},
    };

    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        uint64_t number;

        if (!ask_redis_number(redis, settings[i].names, &number))
            connect_warning(connect, "redis.layout",
                            "its %s cannot be read (%s): it must be at least %" PRIu64,
                            settings[i].names[0], redis->why, settings[i].least);
        else if (number < settings[i].least)
            connect_warning(connect, "redis.layout",
                            "its %s is %" PRIu64 ": packed claims take three to five times the "
                            "memory. CONFIG SET %s %" PRIu64 ", and in its redis.conf",
                            settings[i].names[0], number, settings[i].names[0], settings[i].least);
    }
}

/* The one Redis, or the master turned to of a cluster. */
static void connect_redis_master(struct connect *connect, struct ask_redis *redis)
{
    const struct config *config = connect->config;
    const size_t before = connect->problems;
    char base[KEY_MAX], key[KEY_MAX + 16];

    for (size_t i = 0; i < config->stream_count && connect->problems == before; i++) {
        snprintf(base, sizeof(base), "%s%s:#check-%llx-%x", config->redis_key_prefix,
                 config->streams[i].name, (unsigned long long)clock_real_ms(), (unsigned)getpid());
        if (ask_redis_key_here(redis, base, key, sizeof(key)))
            (void)connect_claim(connect, redis, key);
    }
    if (connect->problems != before)
        return;
    if (ask_redis_is_cluster(redis))
        snprintf(connect->who, sizeof(connect->who), "%.80s: ", redis->name);
    connect_redis_memory(connect, redis);
    connect_redis_disk(connect, redis);
    if (connect->problems == before) /* one that refuses writes has been told */
        connect_redis_role(connect, redis);
    if (config->redis_layout == CONFIG_REDIS_PACKED)
        connect_redis_packed(connect, redis);
    if (ask_redis_is_cluster(redis))
        connect_redis_coverage(connect, redis);
}

static void connect_redis_all(struct connect *connect, struct ask_redis *redis)
{
    bool there;

    for (size_t i = 0; ask_redis_host(redis, i, &there); i++)
        if (!there) {
            connect_problem(connect, "redis.url", "%s of the list cannot be reached (%s)",
                            redis->name, redis->why);
            connect_redis_was_lost(redis);
        }
    if (ask_redis_orphans(redis) > 0)
        connect_problem(connect, "redis.url",
                        "%zu of the cluster's slots have no master: their ids cannot be claimed",
                        ask_redis_orphans(redis));
    for (size_t i = 0; i < ask_redis_masters(redis); i++) {
        ask_redis_turn_to(redis, i);
        connect_redis_master(connect, redis);
        connect->who[0] = '\0';
    }
}

static void connect_redis(struct connect *connect)
{
    struct ask_redis *redis = malloc(sizeof(*redis));

    if (redis == NULL)
        return;
    if (ask_redis_open(redis, connect->config->redis_url, TIMEOUT_MS))
        connect_redis_all(connect, redis);
    else
        connect_problem(connect, "redis.url", "%s cannot be reached (%s)", redis->name, redis->why);
    ask_redis_close(redis);
    free(redis);
}

/* ---- ClickHouse ---- */

static bool connect_has_column(const struct table_columns *columns, const char *name)
{
    for (size_t i = 0; i < columns->count; i++)
        if (columns->columns[i].kind != TABLE_COLUMN_NOT_INSERTED &&
            strcmp(columns->columns[i].name, name) == 0)
            return true;
    return columns->partial;
}

static void connect_columns(struct connect *connect, const struct config_stream *stream,
                            const struct table_columns *columns, const char *key)
{
    for (size_t i = 0; i < stream->column_count; i++)
        if (!connect_has_column(columns, stream->columns[i].name))
            connect_problem(connect, key,
                            "table %s has no column %s, which column.%s would fill: its values "
                            "would be dropped",
                            stream->table_text, stream->columns[i].name, stream->columns[i].name);
    for (size_t i = 0; i < stream->id_count; i++)
        if (stream->ids[i].kind == CONFIG_ID_MEMBER &&
            !connect_has_column(columns, stream->ids[i].name))
            connect_warning(connect, key,
                            "table %s has no column for the id field %s: after a kill of "
                            "ClickHouse alloyd cannot ask for its rows",
                            stream->table_text, stream->ids[i].name);
}

/* What is known of a table. False: it is not there, or not known. */
static bool connect_facts(struct connect *connect, struct ask_clickhouse *ask,
                          const struct config_stream *stream, const char *key,
                          struct table_facts *facts)
{
    *facts = (struct table_facts){.engine = "MergeTree"};
    if (!ask_clickhouse_url(ask, insert_request_table_url(stream), NULL) ||
        !table_facts_read((struct slice){ask->body, ask->len}, facts)) {
        /* Without an answer the streams that follow are not looked at either. */
        if (!ask->answer.reached)
            connect_problem(connect, key, "nothing is known of table %s (%s)", stream->table_text,
                            ask->answer.why);
        else
            connect_warning(connect, key, "nothing is known of table %s (%s)", stream->table_text,
                            ask->answer.why);
        return ask->answer.code == CODE_ACCESS_DENIED;
    }
    if (!facts->table_exists) {
        connect_problem(connect, key, "table %s does not exist, or its user may not see it",
                        stream->table_text);
        return false;
    }
    if (facts->doubles != NULL)
        connect_problem(connect, key,
                        "table %s: %s. ALTER TABLE %s MODIFY SETTING "
                        "non_replicated_deduplication_window = 10000",
                        stream->table_text, facts->doubles, stream->table_text);
    if (facts->async_unsafe != NULL && ask->config->clickhouse_async_insert == CONFIG_ASYNC_ON)
        connect_problem(connect, "clickhouse.async_insert",
                        "on can lose or double rows of table %s: %s (%s). auto is safe",
                        stream->table_text, facts->async_unsafe, facts->version);
    return true;
}

static void connect_proof(struct connect *connect, const struct config_stream *stream,
                          const struct table_facts *facts, const struct table_columns *columns)
{
    char place[CONFIG_STREAM_NAME_MAX + 32], why[PROOF_TEXT_MAX];

    if (stream->proof == NULL ||
        proof_tells(stream, facts, columns,
                    connect->config->clickhouse_async_insert == CONFIG_ASYNC_ON, why))
        return;
    snprintf(place, sizeof(place), "stream.%s.proof", stream->name);
    connect_problem(connect, place, "table %s: %s", stream->table_text, why);
}

/* Returns false when nothing more should be asked. */
static bool connect_table(struct connect *connect, struct ask_clickhouse *ask,
                          const struct config_stream *stream)
{
    const struct insert_request request = {.instance_id = 0, .insert_id = 0};
    char place[CONFIG_STREAM_NAME_MAX + 32];
    struct table_columns *columns = NULL;
    struct table_facts facts;

    snprintf(place, sizeof(place), "stream.%s.table", stream->name);
    if (!connect_facts(connect, ask, stream, place, &facts))
        return ask->answer.reached;
    if (ask_clickhouse_url(ask, insert_request_columns_url(ask->config, stream), NULL)) {
        columns = table_columns_read((struct slice){ask->body, ask->len});
        if (columns != NULL)
            connect_columns(connect, stream, columns, place);
    }
    connect_proof(connect, stream, &facts, columns);
    free(columns);
    if (!ask_clickhouse_url(ask, insert_request_url(ask->config, stream, &request), ""))
        connect_problem(connect, place, "an insert without rows into table %s is refused: %s",
                        stream->table_text, ask->answer.why);
    return ask->answer.reached;
}

static struct site *connect_sites(struct connect *connect, size_t stream)
{
    return &connect->sites[stream * CLICKHOUSE_ENDPOINTS_MAX];
}

/* Whether inserts in doubt may go to this endpoint's table, as the flusher looks at it. */
static void connect_site(struct connect *connect, struct ask_clickhouse *ask, size_t number,
                         size_t stream, bool alone)
{
    const struct config_stream *of = &connect->config->streams[stream];
    struct site *site = &connect_sites(connect, stream)[number];
    char place[CONFIG_STREAM_NAME_MAX + 32];
    const bool told = ask_clickhouse_url(ask, insert_request_site_url(of), NULL);

    site_take(site, (struct slice){ask->body, told ? ask->len : 0}, 0);
    if (!told)
        site->state = ask->answer.reached ? SITE_UNTOLD : SITE_UNKNOWN;
    /* A table that is not there is told with what else is wrong with it. */
    if (site->state == SITE_FIT || site->state == SITE_MISSING || site->state == SITE_UNKNOWN ||
        (alone && site_serves_alone(site)))
        return;
    snprintf(place, sizeof(place), "stream.%s.table", of->name);
    connect_problem(connect, place, "table %s %s", of->table_text, site_words(site->state));
}

/* Replicas of a shard have one path in Keeper, and no two shards have the same. */
static void connect_paths(struct connect *connect, size_t stream, const uint64_t *shards,
                          size_t count)
{
    const struct config_stream *of = &connect->config->streams[stream];
    const struct site *sites = connect_sites(connect, stream);
    size_t numbers[CLICKHOUSE_ENDPOINTS_MAX] = {0};
    char place[CONFIG_STREAM_NAME_MAX + 32];

    snprintf(place, sizeof(place), "stream.%s.table", of->name);
    for (size_t shard = 0; shard < CLICKHOUSE_SHARDS_MAX; shard++) {
        for (size_t i = 0; i < count; i++)
            if ((shards[shard] >> i & 1) != 0)
                numbers[i] = shard;
        if (sites_differ(sites, count, shards[shard]))
            connect_problem(connect, place,
                            "table %s has different paths in Keeper at the endpoints of shard %zu: "
                            "these are different shards, which stand between |",
                            of->table_text, shard + 1);
    }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (numbers[i] != numbers[k] && sites[i].path_hash != 0 &&
                sites[i].path_hash == sites[k].path_hash) {
                connect_warning(connect, place,
                                "table %s has one path in Keeper in shards %zu and %zu: these are "
                                "replicas, which stand between commas, or {shard} is missing in "
                                "the path; who reads all shards counts each row twice",
                                of->table_text, numbers[k] + 1, numbers[i] + 1);
                return;
            }
}

static void connect_untaken(struct connect *connect, const struct ask_clickhouse *ask,
                            struct slice url)
{
    const struct config *config = connect->config;
    const struct ask_clickhouse_answer *answer = &ask->answer;
    char name[CLICKHOUSE_NAME_MAX];
    bool usual;

    if (answer->code == 516 || answer->code == 194 || answer->code == 193 || answer->code == 192) {
        connect_problem(connect,
                        *config->clickhouse_user != '\0' ? "clickhouse.user" : "clickhouse.url",
                        "ClickHouse does not take user or password: %s", answer->why);
        return;
    }
    (void)clickhouse_url_name(url, name);
    usual = !answer->reached && strncmp(url.data, "http://", 7) == 0 && strchr(name, ':') == NULL;
    connect_problem(connect, "clickhouse.url", "%s: %s%s",
                    answer->reached ? "it gives no answer of ClickHouse" : "it cannot be reached",
                    answer->why,
                    usual ? " (without a port this is 80; ClickHouse's own is 8123)" : "");
}

/* Which server it is, where it tells. */
static void connect_server(struct connect *connect, struct ask_clickhouse *ask, size_t number)
{
    char *uuid = connect->servers[number];

    if (ask_clickhouse(ask, "SELECT serverUUID()", NULL, 0) && ask->len >= UUID_LEN &&
        strspn(ask->body, "0123456789abcdef-") == UUID_LEN && strspn(ask->body, "0-") < UUID_LEN)
        memcpy(uuid, ask->body, UUID_LEN);
    for (size_t i = 0; i < number && *uuid != '\0'; i++)
        if (memcmp(connect->servers[i], uuid, UUID_LEN) == 0) {
            char name[CLICKHOUSE_NAME_MAX];

            clickhouse_url_name_of(connect->config->clickhouse_url, i, name);
            connect_problem(connect, "clickhouse.url", "this is the same server as %s", name);
        }
}

/* One of the endpoints that clickhouse.url lists. */
static void connect_endpoint(struct connect *connect, struct ask_clickhouse *ask,
                             const struct clickhouse_url *walk, bool alone)
{
    const struct config *config = connect->config;
    bool on = ask_clickhouse_at(ask, walk->number);

    if (on && !ask_clickhouse(ask, "SELECT version()", NULL, 0)) {
        connect_untaken(connect, ask, walk->url);
        if (!ask->answer.reached && ask->timeout_ms / 2 > TIMEOUT_MIN_MS)
            ask->timeout_ms /= 2;
        on = false;
    }
    if (on && connect->sites != NULL)
        connect_server(connect, ask, walk->number);
    for (size_t i = 0; i < config->stream_count && on; i++) {
        if (connect->sites != NULL)
            connect_site(connect, ask, walk->number, i, alone);
        on = connect_table(connect, ask, &config->streams[i]);
    }
}

static void connect_clickhouse(struct connect *connect)
{
    const struct config *config = connect->config;
    struct clickhouse_url walk = {.rest = config->clickhouse_url};
    char name[CLICKHOUSE_NAME_MAX];
    uint64_t shards[CLICKHOUSE_SHARDS_MAX] = {0};
    struct ask_clickhouse ask;
    bool on = ask_clickhouse_open(&ask, config, TIMEOUT_MS);
    size_t count = 0;

    for (; clickhouse_url_next(&walk); count++)
        shards[walk.shard] |= UINT64_C(1) << walk.number;
    if (count > 1)
        connect->sites =
            calloc(config->stream_count * CLICKHOUSE_ENDPOINTS_MAX, sizeof(*connect->sites));
    on = on && (count == 1 || connect->sites != NULL);
    for (walk = (struct clickhouse_url){.rest = config->clickhouse_url};
         on && clickhouse_url_next(&walk);) {
        const uint64_t set = shards[walk.shard];

        if (count > 1) {
            (void)clickhouse_url_name(walk.url, name);
            snprintf(connect->who, sizeof(connect->who), "%s: ", name);
        }
        connect_endpoint(connect, &ask, &walk, (set & (set - 1)) == 0);
        connect->who[0] = '\0';
    }
    for (size_t i = 0; connect->sites != NULL && i < config->stream_count; i++)
        connect_paths(connect, i, shards, count);
    free(connect->sites);
    ask_clickhouse_close(&ask);
}

size_t connect_check(const struct config *config, FILE *out)
{
    struct connect connect = {.config = config, .out = out};

    if (*config->redis_url != '\0')
        connect_redis(&connect);
    if (strncmp(config->clickhouse_url, DISCARD, strlen(DISCARD)) != 0)
        connect_clickhouse(&connect);
    return connect.problems;
}
