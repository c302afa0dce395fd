/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_doctor_table.c - the doctor's look at ClickHouse and at each stream's table.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_doctor.h"

#include <inttypes.h>
#include <string.h>

#include "alloy/ask_table.h"
#include "alloy/clickhouse_url.h"
#include "alloy/clock.h"
#include "alloy/config_name.h"

#define DISCARD "discard:"
#define WINDOW_MIN 1000
#define INSERTS_A_SECOND 50 /* of an alloyd at full load */
#define SKEW_MAX_MS 2000
#define VIEWS_MAX 32
/* A name as ClickHouse quotes it, in a regular expression in an SQL text. */
#define NAME "(?:`(?:[^`\\\\\\\\]|\\\\\\\\.)*`|[^ `.(]+)"

/* Writes text as an SQL text. */
static void ctl_doctor_put_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('\'', out);
}

/* Asks a question in which ?n stands for database = ... AND name = ..., and ?t for the same with
 * table. Returns the answer, or NULL. */
static char *ctl_doctor_ask_of(struct ask_clickhouse *ask, const struct config_stream *stream,
                               const char *question)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    char *answer = NULL;

    if (out == NULL)
        return NULL;
    for (; *question != '\0'; question++) {
        if (*question != '?' || (question[1] != 't' && question[1] != 'n')) {
            fputc(*question, out);
            continue;
        }
        fputs("(database = ", out);
        ctl_doctor_put_text(out, stream->database);
        fputs(*++question == 't' ? " AND table = " : " AND name = ", out);
        ctl_doctor_put_text(out, stream->table);
        fputc(')', out);
    }
    if (fclose(out) == 0 && ask_clickhouse(ask, text, NULL, 0))
        answer = ask->body;
    free(text);
    return answer;
}

/* Takes the next line off an answer; NULL: there is none. */
static char *ctl_doctor_line(char **answer)
{
    char *line = *answer;
    char *end = strchr(line, '\n');

    if (end == NULL)
        return NULL;
    *end = '\0';
    *answer = end + 1;
    return line;
}

static void ctl_doctor_window(struct ctl_doctor *doctor, const struct config_stream *stream,
                              const struct ask_table *table)
{
    const uint64_t window = strtoull(table->window, NULL, 10);
    char name[CTL_DOCTOR_KEY_MAX];

    snprintf(name, sizeof(name), "stream.%s.window", stream->name);
    if (table->doubles != NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name, "table %.120s: %s", stream->table_text,
                        table->doubles);
        ctl_doctor_todo(doctor,
                        "ALTER TABLE %.120s MODIFY SETTING non_replicated_deduplication_window = "
                        "10000 (of a MergeTree)",
                        stream->table_text);
    } else if (strcmp(table->window, "-") == 0) {
        ctl_doctor_note(doctor,
                        strncmp(table->engine, "Replicated", 10) == 0 ||
                                strncmp(table->engine, "Shared", 6) == 0
                            ? CTL_DOCTOR_HOLDS
                            : CTL_DOCTOR_UNKNOWN,
                        name, "its engine is %s, whose window is not known from here",
                        table->engine);
        ctl_doctor_todo(doctor, "see that replicated_deduplication_window of the table that keeps "
                                "the rows is 1000 or more");
    } else if (window < WINDOW_MIN) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "the window of %" PRIu64 " inserts is gone after %" PRIu64
                        " s at full load (%d inserts a second): a retry after a longer outage "
                        "gives rows twice",
                        window, window / INSERTS_A_SECOND, INSERTS_A_SECOND);
        ctl_doctor_todo(doctor,
                        "ALTER TABLE %.120s MODIFY SETTING non_replicated_deduplication_window = "
                        "10000",
                        stream->table_text);
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                        "the window of %" PRIu64 " inserts lasts %" PRIu64
                        " s at full load of one alloyd (%d inserts a second into one partition)",
                        window, window / INSERTS_A_SECOND, INSERTS_A_SECOND);
    }
}

static void ctl_doctor_async(struct ctl_doctor *doctor, const struct config_stream *stream,
                             const struct ask_table *table)
{
    const int mode = doctor->config->clickhouse_async_insert;
    char name[CTL_DOCTOR_KEY_MAX];

    snprintf(name, sizeof(name), "stream.%s.async", stream->name);
    if (table->async_unsafe == NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                        "ClickHouse %s has none of the known faults with async inserts into this "
                        "table",
                        table->version);
    } else if (mode != CONFIG_ASYNC_ON) {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name, "inserts are synchronous, since %s (%s)",
                        table->async_unsafe, table->version);
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name, "async_insert is on, and %s (%s)",
                        table->async_unsafe, table->version);
        ctl_doctor_todo(doctor, "set clickhouse.async_insert = auto, or update ClickHouse");
    }
}

/* Whether alloyd can ask the table for the rows of an insert that is in doubt. */
static void ctl_doctor_verify(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                              const struct config_stream *stream, const struct ask_table *table)
{
    char name[CTL_DOCTOR_KEY_MAX];
    char *query = NULL;
    size_t size = 0;
    bool member = stream->missing_id == CONFIG_MISSING_REFUSE;
    FILE *out;

    snprintf(name, sizeof(name), "stream.%s.rows", stream->name);
    for (size_t i = 0; i < stream->id_count; i++)
        member = member && stream->ids[i].kind == CONFIG_ID_MEMBER && stream->ids[i].field == i;
    if (!table->forgets_rows) {
        ctl_doctor_note(doctor,
                        strncmp(table->engine, "Replicated", 10) == 0 ? CTL_DOCTOR_HOLDS
                                                                      : CTL_DOCTOR_UNKNOWN,
                        name, "engine %s: alloyd need not, or cannot, ask it for rows after a kill",
                        table->engine);
        return;
    }
    if (!member) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "the id is no member of the event alone: after a kill of ClickHouse alloyd "
                        "cannot ask whether an insert's rows are there, and some kills lose one");
        ctl_doctor_todo(doctor, "take a member that every event has for id, or a Replicated table");
        return;
    }
    out = open_memstream(&query, &size);
    if (out == NULL)
        return;
    fputs("SELECT", out);
    for (size_t i = 0; i < stream->id_count; i++) {
        fputs(i == 0 ? " `" : ", `", out);
        for (const char *at = stream->ids[i].name; *at != '\0'; at++)
            fprintf(out, "%s%c", *at == '`' || *at == '\\' ? "\\" : "", *at);
        fputc('`', out);
    }
    fprintf(out, " FROM ");
    for (int part = 0; part < 2; part++) {
        fputs(part == 0 ? "`" : ".`", out);
        for (const char *at = part == 0 ? stream->database : stream->table; *at != '\0'; at++)
            fprintf(out, "%s%c", *at == '`' || *at == '\\' ? "\\" : "", *at);
        fputc('`', out);
    }
    fputs(" LIMIT 0", out);
    if (fclose(out) == 0 && ask_clickhouse(ask, query, NULL, 0)) {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                        "after a kill of ClickHouse alloyd can ask for rows by their ids");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "after a kill of ClickHouse alloyd cannot ask for rows by their ids (%s): "
                        "some kills lose an insert",
                        ask->answer.why);
        ctl_doctor_todo(doctor, "give the id fields a column, and the user SELECT on them");
    }
    free(query);
}

/* The window of a view's target, by what its definition names. */
static void ctl_doctor_target(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                              const struct config_stream *stream, const char *view)
{
    struct config_stream target = *stream;
    char database[CONFIG_NAME_MAX + 1], table[CONFIG_NAME_MAX + 1], name[CTL_DOCTOR_KEY_MAX];
    struct ask_table facts;
    const char *why;
    const char *at = config_name_read(view, ".", database, &why);

    snprintf(name, sizeof(name), "stream.%s.views", stream->name);
    if (at != NULL && *at == '.')
        at = config_name_read(at + 1, ".", table, &why);
    target.database = database;
    target.table = table;
    if (at == NULL || *at != '\0' || !ask_table(ask, &target, &facts) || !facts.exists) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, name,
                        "the target of a materialized view cannot be looked at (%.100s)", view);
        ctl_doctor_todo(doctor, "see that it has a deduplication window");
    } else if (facts.doubles != NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "the materialized view's target %.160s: %s, though the table has them once",
                        view, facts.doubles);
        ctl_doctor_todo(doctor,
                        "ALTER TABLE %.160s MODIFY SETTING non_replicated_deduplication_window = "
                        "10000",
                        view);
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name, "the view's target %.160s has a window too",
                        view);
    }
}

/* A view without a target of its own keeps its rows in a table whose engine stands in the view. */
static void ctl_doctor_inner(struct ctl_doctor *doctor, const struct config_stream *stream,
                             const char *view, bool has_window)
{
    char name[CTL_DOCTOR_KEY_MAX];

    snprintf(name, sizeof(name), "stream.%s.views", stream->name);
    ctl_doctor_note(
        doctor, has_window ? CTL_DOCTOR_HOLDS : CTL_DOCTOR_FAILS, name,
        "the .inner table of the materialized view %.160s has %s deduplication window%s", view,
        has_window ? "a" : "no", has_window ? "" : ": a retried insert counts twice there");
    if (!has_window)
        ctl_doctor_todo(doctor, "make the view anew, with SETTINGS "
                                "non_replicated_deduplication_window = 10000 in its engine");
}

static void ctl_doctor_views(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                             const struct config_stream *stream)
{
    static const char question[] =
        "SELECT extract(create_table_query, ' TO (" NAME "\\\\." NAME ") '), "
        "match(create_table_query, 'ENGINE = (Replicated|Shared)|"
        "non_replicated_deduplication_window = [1-9]'), concat(database, '.', name) FROM "
        "system.tables WHERE engine = 'MaterializedView' AND (database, name) IN (SELECT "
        "arrayJoin(arrayZip(dependencies_database, dependencies_table)) FROM system.tables WHERE "
        "?n) LIMIT 32 FORMAT TSVRaw";
    char *answer = ctl_doctor_ask_of(ask, stream, question);
    char *copy = answer == NULL ? NULL : strdup(answer);
    char *rest = copy, *line;
    char name[CTL_DOCTOR_KEY_MAX];
    size_t count = 0;

    snprintf(name, sizeof(name), "stream.%s.views", stream->name);
    if (copy == NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, name,
                        "its materialized views cannot be looked at (%s)", ask->answer.why);
        ctl_doctor_todo(doctor, "see that their targets have deduplication windows");
        return;
    }
    while ((line = ctl_doctor_line(&rest)) != NULL && count++ < VIEWS_MAX) {
        char *window = strchr(line, '\t');

        if (window == NULL)
            continue;
        *window++ = '\0';
        if (*line != '\0')
            ctl_doctor_target(doctor, ask, stream, line);
        else
            ctl_doctor_inner(doctor, stream, window + strcspn(window, "\t") + 1, *window == '1');
    }
    if (count == 0)
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name, "no materialized view reads the table");
    free(copy);
}

/* What can give another verdict, or another partition, at a retry. */
static void ctl_doctor_moods(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                             const struct config_stream *stream)
{
    static const char changes[] = "(?i)(now|now64|today|yesterday|rand\\\\w*|generate\\\\w+|"
                                  "dictGet\\\\w*|hostName)\\\\(";
    char question[1600];
    char name[CTL_DOCTOR_KEY_MAX];
    const char *answer;

    snprintf(name, sizeof(name), "stream.%s.same", stream->name);
    snprintf(
        question, sizeof(question),
        "SELECT (SELECT arrayStringConcat(groupArray(name), ', ') FROM system.columns WHERE ?t "
        "AND is_in_partition_key AND match(default_expression, '%s')), (SELECT "
        "any(match(extract(create_table_query, 'CONSTRAINT .*'), '%s')) FROM system.tables "
        "WHERE ?n), (SELECT any(match(partition_key, '%s')) FROM system.tables WHERE ?n) "
        "FORMAT TSV",
        changes, changes, changes);
    answer = ctl_doctor_ask_of(ask, stream, question);
    if (answer == NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, name,
                        "whether the table decides the same tomorrow cannot be seen (%s)",
                        ask->answer.why);
    } else if (*answer != '\t') {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "the partition depends on %.*s, which ClickHouse fills in: a retry can "
                        "fall into another one, and its rows come twice",
                        (int)strcspn(answer, "\t"), answer);
        ctl_doctor_todo(doctor, "partition by a time that the client sends");
    } else if (strcmp(answer, "\t0\t0\n") != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "a constraint or the partition depends on the time, on chance or on a "
                        "dictionary: a retry can be decided in another way, and rows come twice");
        ctl_doctor_todo(doctor, "compare with what the event itself says");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                        "neither constraints nor partitions depend on when a row comes");
    }
}

/* Whether an insert whose answer was lost may go to the others of its shard, too. */
static void ctl_doctor_replica(struct ctl_doctor *doctor, const struct config_stream *stream,
                               const struct ask_table *table)
{
    char *first = doctor->identities[stream - doctor->config->streams];
    char name[CTL_DOCTOR_KEY_MAX];

    _Static_assert(sizeof(table->identity) == sizeof(doctor->identities[0]), "one size");
    if (!doctor->has_replicas)
        return;
    snprintf(name, sizeof(name), "stream.%s.replicas", stream->name);
    if (*first == '\0')
        memcpy(first, table->identity, sizeof(table->identity));
    if (strncmp(table->engine, "Replicated", 10) != 0 && strncmp(table->engine, "Shared", 6) != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "its engine %s shares no tokens with the other endpoints of its shard, and "
                        "alloyd inserts nothing there",
                        table->engine);
        ctl_doctor_todo(doctor, "make it a Replicated table, or name one endpoint; | stands "
                                "between shards");
    } else if (strcmp(first, table->identity) != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "it is no replica of the others' table: its path in Keeper is %.150s, "
                        "theirs %.150s",
                        table->identity, first);
        ctl_doctor_todo(doctor, "put | between different shards, and commas between replicas");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                        "it shares its tokens with the other endpoints of its shard");
    }
}

static void ctl_doctor_stream(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                              const struct config_stream *stream)
{
    struct ask_table table;
    char name[CTL_DOCTOR_KEY_MAX];

    snprintf(name, sizeof(name), "stream.%s.there", stream->name);
    if (!ask_table(ask, stream, &table)) {
        ctl_doctor_note(doctor, ask->answer.reached ? CTL_DOCTOR_UNKNOWN : CTL_DOCTOR_FAILS, name,
                        "nothing is known of table %.120s (%s)", stream->table_text,
                        ask->answer.why);
        ctl_doctor_todo(doctor, "let the user read system.tables");
        return;
    }
    if (!table.exists) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                        "table %.160s does not exist, or its user may not see it",
                        stream->table_text);
        ctl_doctor_todo(doctor, "create it: alloyctl table makes one of sample events");
        return;
    }
    ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name, "table %.160s is there, of engine %s",
                    stream->table_text, table.engine);
    ctl_doctor_replica(doctor, stream, &table);
    ctl_doctor_window(doctor, stream, &table);
    ctl_doctor_async(doctor, stream, &table);
    ctl_doctor_verify(doctor, ask, stream, &table);
    ctl_doctor_views(doctor, ask, stream);
    ctl_doctor_moods(doctor, ask, stream);
    if (doctor->first_endpoint) /* whose table the claims' mark names */
        ctl_doctor_marks(doctor, stream, table.identity);
    if (!ctl_doctor_stopped())
        ctl_doctor_trial(doctor, ask, stream);
}

static void ctl_doctor_server(struct ctl_doctor *doctor, struct ask_clickhouse *ask)
{
    const uint64_t begin_ms = clock_real_ms();
    int64_t skew_ms;

    if (!ask_clickhouse(ask, "SELECT toUnixTimestamp64Milli(now64(3))", NULL, 0))
        return;
    skew_ms = strtoll(ask->body, NULL, 10) - (int64_t)((begin_ms + clock_real_ms()) / 2);
    ctl_doctor_note(doctor, llabs(skew_ms) > SKEW_MAX_MS ? CTL_DOCTOR_FAILS : CTL_DOCTOR_HOLDS,
                    "clock.clickhouse", "its clock is %lld ms from this machine's",
                    (long long)skew_ms);
    if (llabs(skew_ms) > SKEW_MAX_MS)
        ctl_doctor_todo(doctor, "let NTP set both clocks: received_at and log lines are compared");
}

/* One of the endpoints that clickhouse.url lists. */
static void ctl_doctor_endpoint(struct ctl_doctor *doctor, struct ask_clickhouse *ask)
{
    const struct config *config = doctor->config;

    if (!ask_clickhouse(ask, "SELECT version()", NULL, 0)) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "clickhouse.there", "%s", ask->answer.why);
        ctl_doctor_todo(doctor, "start it, or correct clickhouse.url, user and password");
        if (!ask->answer.reached && ask->timeout_ms > CTL_DOCTOR_TIMEOUT_MIN_MS)
            ask->timeout_ms /= 2; /* of the next one: a list of such must not take minutes */
        return;
    }
    ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "clickhouse.there",
                    "ClickHouse %.*s answers, within %" PRIu64 " ms", (int)strcspn(ask->body, "\n"),
                    ask->body, ask->answer.took_us / 1000 + 1);
    ctl_doctor_server(doctor, ask);
    for (size_t i = 0; i < config->stream_count && !ctl_doctor_stopped(); i++)
        ctl_doctor_stream(doctor, ask, &config->streams[i]);
}

/* Whom what follows is about. */
static void ctl_doctor_turn_to(struct ctl_doctor *doctor, const struct clickhouse_url *walk)
{
    struct clickhouse_url other = {.rest = doctor->config->clickhouse_url};
    char name[CLICKHOUSE_NAME_MAX];
    bool begins = true;

    doctor->first_endpoint = walk->number == 0;
    doctor->has_replicas = false;
    while (clickhouse_url_next(&other)) {
        if (other.number == walk->number)
            continue;
        (void)clickhouse_url_name(walk->url, name);
        snprintf(doctor->who, sizeof(doctor->who), "%s: ", name);
        doctor->has_replicas = doctor->has_replicas || other.shard == walk->shard;
        begins = begins && (other.shard != walk->shard || other.number > walk->number);
    }
    for (size_t i = 0; begins && i < doctor->config->stream_count; i++)
        doctor->identities[i][0] = '\0';
}

void ctl_doctor_clickhouse(struct ctl_doctor *doctor)
{
    const struct config *config = doctor->config;
    struct clickhouse_url walk = {.rest = config->clickhouse_url};
    struct ask_clickhouse ask;

    if (ctl_doctor_stopped() || strncmp(config->clickhouse_url, DISCARD, strlen(DISCARD)) == 0)
        return;
    doctor->identities = calloc(config->stream_count, sizeof(*doctor->identities));
    if (!ask_clickhouse_open(&ask, config, CTL_DOCTOR_TIMEOUT_MS) || doctor->identities == NULL)
        doctor->out_of_memory = true;
    while (!doctor->out_of_memory && !ctl_doctor_stopped() && clickhouse_url_next(&walk)) {
        if (!ask_clickhouse_at(&ask, walk.number)) {
            doctor->out_of_memory = true;
            break;
        }
        ctl_doctor_turn_to(doctor, &walk);
        ctl_doctor_endpoint(doctor, &ask);
        doctor->who[0] = '\0';
    }
    ask_clickhouse_close(&ask);
    free(doctor->identities);
    doctor->identities = NULL;
}
