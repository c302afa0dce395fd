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

#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "alloy/ask_redis.h"
#include "alloy/clock.h"
#include "alloy/ask_clickhouse.h"
#include "insert_request.h"
#include "proof.h"
#include "table_facts.h"

#define TIMEOUT_MS 3000
#define DISCARD "discard:"
#define KEY_MAX 128
#define CODE_ACCESS_DENIED 497

struct connect {
    const struct config *config;
    FILE *out;
    size_t problems;
};

static void connect_tell(struct connect *connect, const char *key, const char *kind,
                         const char *format, va_list args)
{
    config_print_place(connect->config, key, connect->out);
    fprintf(connect->out, "%s%s: ", kind, key);
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
                        "its maxmemory-policy is %s%s: it forgets ids, whose events can then come "
                        "twice. CONFIG SET maxmemory-policy noeviction, and in its redis.conf",
                        policy, strcmp(most, "0") == 0 ? ", as soon as maxmemory is set" : "");
}

static void connect_redis_disk(struct connect *connect, struct ask_redis *redis)
{
    const char *const info[] = {"INFO", "persistence"};
    const char *const replication[] = {"INFO", "replication"};
    char aof[8], text[64];

    if (ask_redis(redis, info, 2) != ASK_REDIS_OK ||
        !ask_redis_field(redis, "aof_enabled", aof, sizeof(aof)))
        return;
    if (strcmp(aof, "0") == 0)
        connect_warning(connect, "redis.url",
                        "appendonly is off: a restart of Redis forgets ids, whose events can then "
                        "come twice. CONFIG SET appendonly yes, and in its redis.conf");
    else if (ask_redis_field(redis, "aof_last_write_status", text, sizeof(text)) &&
             strcmp(text, "ok") != 0)
        connect_problem(connect, "redis.url", "it cannot write its append-only file (%s)", text);
    /* One that refuses writes has been told. */
    if (connect->problems == 0 && ask_redis(redis, replication, 2) == ASK_REDIS_OK &&
        ask_redis_field(redis, "role", text, sizeof(text)) && strcmp(text, "master") != 0)
        connect_problem(connect, "redis.url", "it is a replica (role %s): name its master", text);
}

static void connect_redis(struct connect *connect)
{
    const struct config *config = connect->config;
    struct ask_redis *redis = malloc(sizeof(*redis));
    char key[KEY_MAX];
    bool lost = redis == NULL;

    if (redis == NULL)
        return;
    if (!ask_redis_open(redis, config->redis_url, TIMEOUT_MS)) {
        connect_problem(connect, "redis.url", "%s cannot be reached (%s)", redis->name, redis->why);
        lost = true;
    }
    for (size_t i = 0; i < config->stream_count && !lost && connect->problems == 0; i++) {
        snprintf(key, sizeof(key), "%s%s:#check-%llx-%x", config->redis_key_prefix,
                 config->streams[i].name, (unsigned long long)clock_real_ms(), (unsigned)getpid());
        lost = !connect_claim(connect, redis, key);
    }
    /* One master of a cluster that is not as it should be speaks for the others. */
    for (size_t i = 0; !lost && i < ask_redis_masters(redis) && connect->problems == 0; i++) {
        ask_redis_turn_to(redis, i);
        connect_redis_memory(connect, redis);
        connect_redis_disk(connect, redis);
    }
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

static void connect_clickhouse(struct connect *connect)
{
    const struct config *config = connect->config;
    struct ask_clickhouse ask;
    bool on = ask_clickhouse_open(&ask, config, TIMEOUT_MS);

    if (on && !ask_clickhouse(&ask, "SELECT version()", NULL, 0)) {
        const bool refused = ask.answer.code == 516 || ask.answer.code == 194 ||
                             ask.answer.code == 193 || ask.answer.code == 192;

        if (refused)
            connect_problem(connect,
                            *config->clickhouse_user != '\0' ? "clickhouse.user" : "clickhouse.url",
                            "ClickHouse does not take user or password: %s", ask.answer.why);
        else
            connect_problem(connect, "clickhouse.url", "%s: %s",
                            ask.answer.reached ? "it gives no answer of ClickHouse"
                                               : "it cannot be reached",
                            ask.answer.why);
        on = false;
    }
    for (size_t i = 0; i < config->stream_count && on; i++)
        on = connect_table(connect, &ask, &config->streams[i]);
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
