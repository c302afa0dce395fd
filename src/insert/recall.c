/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recall.c - asks ClickHouse which of some records' ids it has rows of.
 *
 * The question is that of flusher_verify.c: the events are posted once more as a file of a form,
 * which ClickHouse reads as a table with the columns of the stream's id fields, so that ids are
 * read as they are when they go in. Here a wrong "it is there" would lose an event, and a wrong "it
 * is not" would double one. So it cannot be told
 * - where a column keeps less than the id had (a time without its fraction): two ids could look
 *   alike;
 * - where the posted ids are not as many different ones to the table as they are to us;
 * - where the table shows fewer rows than it has (a policy, a filter).
 *
 * It blocks: who asks has nothing better to do, since what it asks about must not go on.
 *
 * Runs on: any thread. Owns: nothing between two calls.
 */
#include "alloy/recall.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/ask_clickhouse.h"
#include "alloy/clickhouse_url.h"
#include "alloy/clock.h"
#include "alloy/event_id.h"
#include "insert_answer.h"
#include "insert_request.h"
#include "shard.h"
#include "verify_answer.h"

#define BODY_MAX (1u << 20) /* of events, unless one alone is larger */
#define CLOCK_MARGIN_S 600  /* by which the server's clock may differ */
#define CODE_ACCESS_DENIED 497
#define AGE_MAX_S 1000000000
#define TRIES 2 /* of a table that seems to hide rows: a merge may have dropped some meanwhile */

/* What the questions of one call share. */
struct recall {
    const struct config *config;
    const struct config_stream *stream;
    struct record *const *records;
    size_t n;
    uint64_t age_s;
    bool *there;
    char *why; /* RECALL_WHY_MAX */
    struct ask_clickhouse ask;
    size_t shards;
    /* of the present shard */
    uint16_t index[RECALL_MAX]; /* its records */
    size_t count;
    struct verify_trace trace; /* of the present endpoint */
};

/* ---- what can be told ---- */

/* Whether a column of this type keeps all of what an id has. */
static bool recall_keeps(const char *type, size_t len)
{
    static const char *const whole[] = {"String",  "UUID",    "Int8",  "Int16",  "Int32",  "Int64",
                                        "Int128",  "Int256",  "UInt8", "UInt16", "UInt32", "UInt64",
                                        "UInt128", "UInt256", "IPv4",  "IPv6"};
    const char fixed[] = "FixedString(";

    for (size_t i = 0; i < ARRAY_LEN(whole); i++)
        if (len == strlen(whole[i]) && memcmp(type, whole[i], len) == 0)
            return true;
    return len > sizeof(fixed) && memcmp(type, fixed, sizeof(fixed) - 1) == 0;
}

/* Of "`name` type, `name` type": names are escaped, and no type has a comma before a backtick. */
static bool recall_keeps_all(const char *structure)
{
    while (*structure == '`') {
        const char *end;

        for (structure++; *structure != '`' && *structure != '\0'; structure++)
            structure += *structure == '\\' && structure[1] != '\0';
        if (*structure == '\0' || structure[1] != ' ')
            return false;
        structure += 2;
        end = strstr(structure, ", `");
        if (!recall_keeps(structure, end == NULL ? strlen(structure) : (size_t)(end - structure)))
            return false;
        structure = end == NULL ? "" : end + 2;
    }
    return *structure == '\0';
}

static int recall_compare(const void *left, const void *right)
{
    return memcmp(left, right, sizeof(struct hash128));
}

/* How many different ids there are among some of the present records. */
static size_t recall_distinct(const struct recall *recall, size_t from, size_t to)
{
    struct hash128 hashes[RECALL_MAX];
    size_t distinct = 0;

    for (size_t i = from; i < to; i++)
        hashes[i - from] = recall->records[recall->index[i]]->hash;
    qsort(hashes, to - from, sizeof(hashes[0]), recall_compare);
    for (size_t i = 0; i < to - from; i++)
        distinct += i == 0 || recall_compare(&hashes[i - 1], &hashes[i]) != 0;
    return distinct;
}

static enum recall_answer recall_cannot(struct recall *recall, const char *why)
{
    snprintf(recall->why, RECALL_WHY_MAX, "%s", why);
    return RECALL_CANNOT;
}

/* A question was not answered as it should be. */
static enum recall_answer recall_failed(struct recall *recall)
{
    const struct ask_clickhouse_answer *answer = &recall->ask.answer;
    const struct slice body = {recall->ask.body, recall->ask.len};
    const struct insert_answer as_insert = {
        .status = answer->status, .exception_code = answer->code, .body = body};
    const struct insert_reading reading = insert_answer_read(&as_insert, 0);

    /* Not its words: they may quote an event. */
    snprintf(recall->why, RECALL_WHY_MAX, "code %d, HTTP status %ld", answer->code, answer->status);
    if (answer->code == CODE_ACCESS_DENIED)
        return RECALL_CANNOT;
    if (!answer->reached || answer->status >= 500 || reading.code == 0 ||
        reading.class == INSERT_RETRY ||
        insert_answer_lacks_table(reading.code, body, recall->stream->database,
                                  recall->stream->table))
        return RECALL_AWAY;
    return RECALL_CANNOT;
}

/* ---- questions ---- */

/* Asks the endpoint how the table stands. */
static enum recall_answer recall_trace(struct recall *recall)
{
    struct verify_trace *trace = &recall->trace;

    if (!ask_clickhouse_url(&recall->ask,
                            insert_request_trace_url(recall->stream, recall->age_s, NULL), NULL))
        return recall_failed(recall);
    if (!verify_answer_trace((struct slice){recall->ask.body, recall->ask.len}, recall->stream,
                             false, trace))
        return recall_cannot(recall, "its answer cannot be read");
    if (!trace->table_exists) {
        snprintf(recall->why, RECALL_WHY_MAX, "there is no table, or no right to see it");
        return RECALL_AWAY;
    }
    if (!trace->ids)
        return recall_cannot(recall, "an id field has no column, or no member in the event");
    if (!recall_keeps_all(trace->structure))
        return recall_cannot(recall, "a column of the id is not a string, an integer or a UUID");
    return RECALL_TOLD;
}

/* The form with records from .. to - 1 of the present ones. Returns owned; .data NULL: out of
 * memory. */
static struct slice recall_form(const struct recall *recall, size_t from, size_t to,
                                const char *boundary)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    bool failed;

    if (out == NULL)
        return (struct slice){NULL, 0};
    fprintf(out,
            "--%s\r\nContent-Disposition: form-data; name=\"" INSERT_REQUEST_ROWS
            "\"; filename=\"rows\"\r\n\r\n",
            boundary);
    for (size_t i = from; i < to; i++) {
        const struct record *record = recall->records[recall->index[i]];

        fwrite(record->body, 1, record->body_length, out);
    }
    fprintf(out, "\r\n--%s--\r\n", boundary);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return (struct slice){NULL, 0};
    }
    return (struct slice){text, len};
}

/* Posts some of the present records. False: not answered. */
static bool recall_post(struct recall *recall, size_t from, size_t to)
{
    char boundary[40], type[96];
    uint64_t random[2];
    struct slice form;
    bool right;

    /* One that no client can know. */
    event_id_random(random, sizeof(random));
    snprintf(boundary, sizeof(boundary), "alloy%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", boundary);
    form = recall_form(recall, from, to, boundary);
    if (form.data == NULL) {
        recall->ask.answer = (struct ask_clickhouse_answer){.reached = false};
        return false;
    }
    right = ask_clickhouse_typed(&recall->ask,
                                 insert_request_rows_url(recall->config, recall->stream,
                                                         recall->trace.since_s,
                                                         recall->trace.structure, NULL),
                                 type, form);
    free((char *)form.data);
    return right;
}

/* Asks the endpoint about records from .. to - 1 of the present ones. */
static enum recall_answer recall_rows(struct recall *recall, size_t from, size_t to)
{
    struct verify_rows rows;

    for (int i = 0;; i++) {
        enum recall_answer answer;

        if (!recall_post(recall, from, to))
            return recall_failed(recall);
        if (!verify_answer_rows((struct slice){recall->ask.body, recall->ask.len}, to - from,
                                &rows))
            return recall_cannot(recall, "its answer cannot be read");
        if (rows.distinct != recall_distinct(recall, from, to))
            return recall_cannot(recall, "the table does not tell the ids from each other");
        if (rows.shown >= recall->trace.rows)
            break;
        if (i + 1 == TRIES)
            return recall_cannot(recall, "the table does not show all its rows");
        answer = recall_trace(recall);
        if (answer != RECALL_TOLD)
            return answer;
    }
    for (size_t i = from; i < to; i++)
        recall->there[recall->index[i]] |= rows.bits[i - from] == '1';
    return RECALL_TOLD;
}

/* Asks one endpoint about all present records. */
static enum recall_answer recall_endpoint(struct recall *recall)
{
    enum recall_answer answer = recall_trace(recall);
    size_t from = 0;

    while (answer == RECALL_TOLD && from < recall->count) {
        size_t to = from, bytes = 0;

        while (to < recall->count && (to == from || bytes < BODY_MAX))
            bytes += recall->records[recall->index[to++]]->body_length;
        answer = recall_rows(recall, from, to);
        from = to;
    }
    return answer;
}

/* Asks all endpoints of a shard about its records: one that does not answer is passed over, as
 * long as another does. */
static enum recall_answer recall_shard(struct recall *recall, size_t shard)
{
    struct clickhouse_url walk = {.rest = recall->config->clickhouse_url};
    enum recall_answer all = RECALL_AWAY;

    recall->count = 0;
    for (size_t i = 0; i < recall->n; i++) {
        const struct record *record = recall->records[i];
        const struct slice id = {record_id(record), record->id_length};

        if (recall->shards == 1 || shard_of(shard_hash(id), recall->shards) == shard)
            recall->index[recall->count++] = (uint16_t)i;
    }
    if (recall->count == 0)
        return RECALL_TOLD;
    while (clickhouse_url_next(&walk)) {
        enum recall_answer answer;

        if (walk.shard != shard || walk.url.len == 0)
            continue;
        if (!ask_clickhouse_at(&recall->ask, walk.number))
            return RECALL_AWAY;
        answer = recall_endpoint(recall);
        if (answer == RECALL_CANNOT)
            return answer;
        if (answer == RECALL_TOLD)
            all = RECALL_TOLD;
    }
    return all;
}

/* How old the parts are that may have rows of then. */
static uint64_t recall_age_s(uint64_t from_ms)
{
    const uint64_t now_ms = clock_real_ms();
    const uint64_t age_s = now_ms > from_ms ? (now_ms - from_ms) / 1000 : 0;

    return age_s < AGE_MAX_S - CLOCK_MARGIN_S ? age_s + CLOCK_MARGIN_S : AGE_MAX_S;
}

/* ---- public ---- */

enum recall_answer recall_ask(const struct recall_question *question, bool *there,
                              char why[RECALL_WHY_MAX])
{
    const struct config *config = question->config;
    struct recall *recall;
    enum recall_answer answer = RECALL_TOLD;

    ALLOY_ASSERT(question->n > 0 && question->n <= RECALL_MAX);
    snprintf(why, RECALL_WHY_MAX, "out of memory");
    recall = calloc(1, sizeof(*recall));
    if (recall == NULL)
        return RECALL_AWAY;
    recall->config = config;
    recall->stream = &config->streams[question->records[0]->stream];
    recall->records = question->records;
    recall->n = question->n;
    recall->there = there;
    recall->why = why;
    recall->shards = clickhouse_url_shards(config->clickhouse_url);
    recall->age_s = recall_age_s(question->from_ms);
    memset(there, 0, question->n * sizeof(*there));
    if (!ask_clickhouse_open(&recall->ask, config, (unsigned)question->timeout_ms))
        answer = RECALL_AWAY;
    for (size_t i = 0; answer == RECALL_TOLD && i < recall->shards; i++)
        answer = recall_shard(recall, i);
    ask_clickhouse_close(&recall->ask);
    free(recall);
    return answer;
}
