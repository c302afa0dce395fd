/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_ask.c - what ClickHouse tells of a stream's table, and what that decides.
 *
 * Every 30 s (every 5 s where a column is to prove inserts), and after a lost connection. Where
 * async_insert = auto leaves it to the table how rows are inserted, new inserts wait for the
 * answer, but no longer than FRESH_WAIT_MS: then they are synchronous, which is right for any
 * table.
 *
 * Each time the columns are asked for too. From them a schema is made for whoever checks events,
 * and the list of columns that inserts have to name; what a table decides waits for that.
 *
 * Once for each version of the table an event is put beside its columns; while that finds something
 * the look is repeated, with an event of late.
 *
 * Runs on: flusher thread.
 * Owns: the lanes' facts.
 */
#define LOG_MODULE "flusher"

#include "flusher_ask.h"

#include <string.h>

#include "alloy/clock.h"
#include "flusher_tell.h"
#include "insert_request.h"
#include "proof.h"

#define PROBE_INTERVAL_MS 30000
#define PROOF_INTERVAL_MS                                                   \
    5000 /* the same where rows are to bear their token: an ALTER ends that \
          */
#define COLUMNS_INTERVAL_MS 5000 /* while a finding about columns is told */
#define FRESH_WAIT_MS 2000
#define FLUSHER_KEY_MAX (CONFIG_STREAM_NAME_MAX + 16)
#define COLUMNS_WAIT_MS 500 /* the same where only the columns matter, which inserts may name */
#define PROOF_WAIT_MS 10000 /* the same where they say whether rows can bear their token */
#define DOUBT_INTERVAL_MS 1000
#define CODE_ACCESS_DENIED 497 /* to system.tables; inserts may be allowed all the same */

void flusher_ask_anew(struct flusher *flusher, struct lane *lane)
{
    const int mode = flusher_config(flusher)->clickhouse_async_insert;

    if (lane->facts_known || !lane->facts_read)
        lane->fresh_from_ms = mode == CONFIG_ASYNC_AUTO ? clock_mono_ms() + FRESH_WAIT_MS
                              : !lane->columns_asked    ? clock_mono_ms() + COLUMNS_WAIT_MS
                                                        : 0;
    if (flusher_stream(flusher, lane)->proof != NULL && !lane->columns_asked)
        lane->fresh_from_ms = clock_mono_ms() + PROOF_WAIT_MS;
    if (lane->facts_known || lane->lost_ns == 0)
        lane->lost_ns = clock_mono_ns();
    lane->facts_known = false;
    lane->async = mode == CONFIG_ASYNC_ON;
    if (!lane->probing)
        lane->probe_at_ms = lane->retry_at_ms;
}

/* From now on this is what is known of the columns; takes schema. */
static void flusher_ask_publish(struct flusher *flusher, struct lane *lane, struct schema *schema,
                                uint64_t hash)
{
    lane->schema_hash = hash;
    /* The tables of all shards are the same, or should be: the first one's counts. */
    if (flusher->parts.schemas != NULL && lane->shard == 0)
        schemas_publish(flusher->parts.schemas, lane->stream, schema);
    else
        schema_put(schema);
}

static void flusher_ask_visit_all(void *arg, struct insert *insert)
{
    (void)arg;
    insert->due_ms = 0;
}

void flusher_ask_hurry(struct lane *lane)
{
    lane->retry_at_ms = 0;
    lane->canary_at_ms = 0;
    backoff_reset(&lane->backoff);
    backoff_reset(&lane->probe_backoff);
    lane_visit(lane, flusher_ask_visit_all, NULL);
}

void flusher_ask_renewed(struct flusher *flusher, struct lane *lane)
{
    lane->renewed_ns = clock_mono_ns();
    lane->facts_read = false;
    flusher_ask_publish(flusher, lane, NULL, 0);
    free(lane->insert_columns);
    lane->insert_columns = NULL;
    lane->columns_asked = lane->proof = false;
    flusher_ask_hurry(lane);
    flusher_ask_anew(flusher, lane);
}

void flusher_ask_forget(struct flusher *flusher)
{
    const uint64_t soon_ms = clock_mono_ms() + flusher_config(flusher)->clickhouse_retry_min_ms;

    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];

        if (lane->schema_hash == 0)
            continue;
        flusher_ask_publish(flusher, lane, NULL, 0);
        if (lane->probe_at_ms > soon_ms)
            lane->probe_at_ms = soon_ms;
    }
}

static void flusher_ask_end_wait(struct flusher *flusher, struct lane *lane)
{
    char key[FLUSHER_KEY_MAX];

    if (lane->awaited_ms == 0)
        return;
    lane->awaited_ms = 0;
    snprintf(key, sizeof(key), "schema.%s", flusher_stream(flusher, lane)->name);
    health_clear(flusher->parts.health, key);
}

void flusher_ask_await(struct flusher *flusher, struct lane *lane)
{
    char key[FLUSHER_KEY_MAX];

    if (flusher_stream(flusher, lane)->schema != CONFIG_SCHEMA_REFUSE || lane->shard != 0)
        return;
    lane->awaited_ms = clock_mono_ms() + FRESH_WAIT_MS;
    snprintf(key, sizeof(key), "schema.%s", flusher_stream(flusher, lane)->name);
    health_raise(
        flusher->parts.health, key, true,
        "the columns of the table are not known yet, and events are to be refused by them");
}

void flusher_ask_awaited(struct flusher *flusher, struct lane *lane, uint64_t now_ms)
{
    if (lane->awaited_ms != 0 && now_ms >= lane->awaited_ms)
        flusher_ask_end_wait(flusher, lane);
}

void flusher_ask_doubted(struct flusher *flusher, struct lane *lane, uint64_t now_ms)
{
    if (flusher->parts.schemas == NULL || lane->shard != 0 ||
        now_ms < lane->doubted_ms + DOUBT_INTERVAL_MS ||
        !schemas_doubted(flusher->parts.schemas, lane->stream))
        return;
    lane->doubted_ms = now_ms;
    lane->probe_at_ms = now_ms;
}

static void flusher_ask_visit(void *arg, struct insert *insert)
{
    (void)arg;
    if (insert->asks)
        insert->due_ms = 0;
    insert->asks = false;
}

/* What is to be told of a table that exists. */
static void flusher_ask_tell(struct flusher *flusher, struct lane *lane, const char *unsafe)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const struct table_facts *facts = lane->facts_read ? &lane->facts : NULL;
    const int mode = flusher_config(flusher)->clickhouse_async_insert;
    char now[sizeof(lane->findings)] = "version=unknown";
    char text[HEALTH_TEXT_MAX];
    bool news;

    if (facts != NULL)
        snprintf(now, sizeof(now), "version=%s engine=%s partitioned=%s window=%s", facts->version,
                 facts->engine, facts->partitioned ? "yes" : "no", facts->window);
    news = strcmp(now, lane->findings) != 0;
    memcpy(lane->findings, now, sizeof(now));
    if (facts != NULL && !facts->table_exists)
        return; /* the lane's own condition says so */
    if (news)
        log_info("table looked at stream=%s table=%s %s inserts=%s", of->name, of->table_text, now,
                 lane->async ? "async" : "sync");
    flusher_tell_finding(
        flusher, lane, "distributed",
        facts != NULL && strcmp(facts->engine, "Distributed") == 0
            ? "it is Distributed, which hides who has an insert and its token, so a "
              "retried insert can give rows twice: name the servers of its shards "
              "in clickhouse.url, | between them, and the local table"
            : NULL,
        news);
    flusher_tell_finding(flusher, lane, "window", facts != NULL ? facts->doubles : NULL, news);
    snprintf(text, sizeof(text), "inserts are %s: %s",
             lane->async ? "async, and can lose or double rows" : "synchronous",
             unsafe == NULL ? "" : unsafe);
    flusher_tell_finding(flusher, lane, "async",
                         unsafe != NULL && mode != CONFIG_ASYNC_OFF ? text : NULL, news);
}

/* Decides how to insert. unsafe: why not async; NULL: that is safe. */
static void flusher_ask_decide(struct flusher *flusher, struct lane *lane, const char *unsafe)
{
    const int mode = flusher_config(flusher)->clickhouse_async_insert;
    const bool exists = !lane->facts_read || lane->facts.table_exists;

    lane->async =
        mode == CONFIG_ASYNC_ON || (mode == CONFIG_ASYNC_AUTO && exists && unsafe == NULL &&
                                    flusher_stream(flusher, lane)->proof == NULL);
    lane->facts_known = true;
    lane->fresh_from_ms = 0;
    lane_visit(lane, flusher_ask_visit, NULL);
    flusher_ask_tell(flusher, lane, unsafe);
}

static void flusher_ask_take(struct flusher *flusher, struct lane *lane,
                             const struct table_facts *facts)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const struct lane_wait wait = flusher_wait(flusher);
    char text[LANE_MESSAGE_MAX];

    if (!lane->facts_read || strcmp(lane->facts.identity, facts->identity) != 0 ||
        lane->facts.modified_s != facts->modified_s) {
        lane->version++;
        lane_doubt(lane);
    }
    lane->facts = *facts;
    lane->facts_read = true;
    if (facts->table_exists && flusher->parts.table_identity != NULL)
        flusher->parts.table_identity(flusher->parts.arg, lane->stream, lane->shard,
                                      facts->identity);
    lane->schema_due = lane->undecided = facts->table_exists;
    if (!facts->table_exists || lane->columns_asked) {
        lane->undecided = false;
        flusher_ask_decide(flusher, lane, facts->async_unsafe);
    }
    lane->columns_due =
        facts->table_exists && (lane->columns_told || lane->columns_version != lane->version);
    if (!facts->table_exists) {
        flusher_ask_publish(flusher, lane, NULL, 0);
        flusher_ask_end_wait(flusher, lane);
    }
    if (facts->table_exists) {
        backoff_reset(&lane->probe_backoff);
        if (lane->fault == LANE_FAULT_PROBE)
            flusher_tell_fault(flusher, lane, LANE_FAULT_NONE, "");
        return;
    }
    lane->probe_at_ms =
        clock_mono_ms() + backoff_next(&lane->probe_backoff, wait.min_ms, wait.max_ms, wait.random);
    /* What an insert has said is better informed. */
    if (lane->fault == LANE_FAULT_INSERT)
        return;
    if (lane->fault == LANE_FAULT_NONE)
        log_error("table does not exist stream=%s table=%s", of->name, of->table_text);
    snprintf(text, sizeof(text), "table %s does not exist", of->table_text);
    flusher_tell_fault(flusher, lane, LANE_FAULT_PROBE, text);
}

/* Makes a schema of columns. Returns owned (schema_put()); NULL: out of memory. */
static struct schema *flusher_ask_compile(const struct config_stream *of,
                                          const struct table_columns *columns)
{
    struct schema_source_column list[TABLE_COLUMNS_MAX];
    struct slice given[CONFIG_COLUMNS_MAX];
    struct schema_source source = {.columns = list, .count = columns->count, .given = given};

    for (size_t i = 0; i < columns->count; i++) {
        const struct table_column *column = &columns->columns[i];

        list[i].name = (struct slice){column->name, strlen(column->name)};
        list[i].type = (struct slice){column->type, strlen(column->type)};
        list[i].kind = (struct slice){column->default_kind, strlen(column->default_kind)};
    }
    for (size_t i = 0; i < of->column_count; i++)
        given[source.given_count++] =
            (struct slice){of->columns[i].name, strlen(of->columns[i].name)};
    source.flags = (columns->ignore_case ? SCHEMA_IGNORE_CASE : 0u) |
                   (columns->nested_json ? SCHEMA_NESTED : 0u) |
                   (columns->partial ? SCHEMA_PARTIAL : 0u) |
                   (columns->times_differ ? SCHEMA_SKIP_TIMES : 0u) |
                   (columns->tuples_differ ? SCHEMA_SKIP_TUPLES : 0u) |
                   (columns->values_differ ? SCHEMA_SKIP_VALUES : 0u);
    return schema_create(&source);
}

/* Of an answer: the same has the same columns in it (FNV-1a). Never 0. */
static uint64_t flusher_ask_hash(struct slice body)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < body.len; i++)
        hash = (hash ^ (unsigned char)body.data[i]) * UINT64_C(0x100000001b3);
    return hash | 1;
}

/* From now on inserts name these columns; takes names. */
static void flusher_ask_name(struct lane *lane, char *names)
{
    const bool news =
        lane->insert_columns != NULL && (names == NULL || strcmp(names, lane->insert_columns) != 0);

    free(lane->insert_columns);
    lane->insert_columns = names;
    if (!news)
        return;
    /* Inserts that have named a column which is gone were refused for that. */
    lane->retry_at_ms = 0;
    lane_visit(lane, flusher_ask_visit_all, NULL);
}

/* Takes from the columns that an answer lists what inserts and checks of events need. */
static void flusher_ask_use(struct flusher *flusher, struct lane *lane, struct slice body,
                            const struct table_columns *columns)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const uint64_t hash = flusher_ask_hash(body);
    struct schema *schema = NULL;

    if (columns != NULL && hash == lane->schema_hash)
        return;
    flusher_ask_name(lane, columns != NULL
                               ? insert_request_columns(columns, lane->proof ? of->proof : NULL)
                               : NULL);
    if (columns != NULL && of->schema != CONFIG_SCHEMA_OFF)
        schema = flusher_ask_compile(of, columns);
    flusher_ask_publish(flusher, lane, schema, schema != NULL ? hash : 0);
}

/* Puts the sample beside the columns that an answer lists; none: there is nothing to tell. */
static void flusher_ask_compare(struct flusher *flusher, struct lane *lane,
                                const struct table_columns *columns)
{
    char text[TABLE_FACTS_TEXT_MAX] = "";
    bool told;

    if (columns != NULL)
        table_facts_compare(columns, (struct slice){lane->sample, lane->sample_len}, text);
    told = text[0] != '\0';
    /* Events differ: what the next one lacks is no news of the same table. */
    flusher_tell_finding(flusher, lane, "columns", told ? text : NULL,
                         !lane->columns_told || lane->columns_version != lane->version);
    lane_compared(lane, told);
    if (told && lane->probe_at_ms > clock_mono_ms() + COLUMNS_INTERVAL_MS)
        lane->probe_at_ms = clock_mono_ms() + COLUMNS_INTERVAL_MS;
}

/* Whether rows of new inserts will bear their token. columns NULL: nothing is known of them. */
static void flusher_ask_prove(struct flusher *flusher, struct lane *lane,
                              const struct table_columns *columns)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const bool before = lane->proof;
    const bool async = flusher_config(flusher)->clickhouse_async_insert == CONFIG_ASYNC_ON;
    struct table_facts facts = {.engine = "MergeTree"};
    char text[PROOF_TEXT_MAX] = "";

    if (lane->facts_read)
        facts = lane->facts;
    lane->proof = of->proof != NULL && proof_tells(of, &facts, columns, async, text);
    flusher_tell_finding(flusher, lane, "proof", text[0] != '\0' ? text : NULL,
                         strcmp(lane->proof_told, text) != 0);
    snprintf(lane->proof_told, sizeof(lane->proof_told), "%s", text);
    if (!before || lane->proof)
        return;
    /* Inserts that leave out a column which is gone were refused for that. */
    lane->retry_at_ms = 0;
    lane_visit(lane, flusher_ask_visit_all, NULL);
}

/* The answer about the columns, or none, is there. */
static void flusher_ask_columns_answered(struct flusher *flusher, struct lane *lane,
                                         const struct transfer *transfer)
{
    const bool answered = transfer_is_answered(transfer);
    struct table_columns *columns = answered ? table_columns_read(transfer->answer.body) : NULL;

    if (!transfer->answer.transport_failed)
        flusher_ask_prove(flusher, lane, columns);
    flusher_ask_use(flusher, lane, transfer->answer.body, columns);
    if (answered && lane->sample != NULL)
        flusher_ask_compare(flusher, lane, columns);
    free(columns);
    lane->columns_asked = true;
    flusher_ask_end_wait(flusher, lane);
    if (lane->undecided)
        flusher_ask_decide(flusher, lane, lane->facts.async_unsafe);
    lane->undecided = false;
}

void flusher_ask_answered(struct flusher *flusher, const struct transfer *transfer)
{
    struct lane *lane = flusher_lane_of(flusher, transfer);
    const struct lane_wait wait = flusher_wait(flusher);
    const struct insert_reading reading = insert_answer_read(&transfer->answer, 0);
    struct table_facts facts;
    char message[LANE_MESSAGE_MAX];

    lane->probing = false;
    if (transfer->started_ns < lane->renewed_ns) {
        lane->probe_at_ms = 0;
        return;
    }
    if (transfer->kind == TRANSFER_COLUMNS) {
        flusher_ask_columns_answered(flusher, lane, transfer);
        return;
    }
    lane->probe_at_ms =
        clock_mono_ms() +
        (flusher_stream(flusher, lane)->proof == NULL ? PROBE_INTERVAL_MS : PROOF_INTERVAL_MS);
    if (transfer_is_answered(transfer) && table_facts_read(transfer->answer.body, &facts)) {
        lane->facts_ns = transfer->started_ns;
        flusher_ask_take(flusher, lane, &facts);
        return;
    }
    flusher_ask_end_wait(flusher, lane);
    /* Cut in the middle of its answer it has told nothing, either. */
    if (transfer->answer.transport_failed ||
        (reading.class == INSERT_RETRY && transfer->answer.status != 200)) {
        lane->probe_at_ms = clock_mono_ms() + backoff_next(&lane->probe_backoff, wait.min_ms,
                                                           wait.max_ms, wait.random);
        return;
    }
    /* It answers, but not to this question: no right to read system.tables, or a proxy between.
     */
    lane->facts_read = false;
    lane->columns_asked = true;
    flusher_ask_prove(flusher, lane, NULL);
    flusher_ask_publish(flusher, lane, NULL, 0);
    flusher_tell_finding(flusher, lane, "columns", NULL, false);
    lane_compared(lane, false);
    flusher_tell_words(transfer, message);
    if (reading.class == INSERT_MISCONFIGURED && reading.code != CODE_ACCESS_DENIED) {
        if (lane->fault != LANE_FAULT_INSERT)
            flusher_tell_fault(flusher, lane, LANE_FAULT_PROBE, message);
    } else if (flusher->parts.table_identity != NULL) {
        /* Nobody will tell, and whoever keeps events until he knows would do so for ever. */
        flusher->parts.table_identity(flusher->parts.arg, lane->stream, lane->shard, "");
    }
    flusher_ask_decide(flusher, lane, message);
}
