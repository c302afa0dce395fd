/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_table.c - alloyctl table: a CREATE TABLE for sample events, with the reasons, and creates it
 * when told to.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "alloy/ask_clickhouse.h"
#include "alloy/config_name.h"
#include "ctl_infer.h"
#include "ctl_json.h"

#define NAME "default.events"
#define WINDOW 10000
#define TIMEOUT_MS 30000
#define RECEIVED_AT "received_at"

/* What the command is about. */
struct table {
    const char *file;
    const char *url;
    const char *config_path;
    const char *version; /* NULL: not known */
    char database[CONFIG_NAME_MAX + 1];
    char name[CONFIG_NAME_MAX + 1];
    struct ctl_sample sample;
    struct ctl_table_plan plan;
    struct config *config; /* to ask ClickHouse; NULL: not asked */
    struct config own;     /* config, when there is no file */
    bool apply;
    char version_room[64];
};

/* ---- SQL ---- */

/* A name in back-quotes, escaped. */
static void ctl_table_put_name(FILE *out, const char *name)
{
    fputc('`', out);
    for (; *name != '\0'; name++) {
        if ((unsigned char)*name < ' ' || *name == 0x7f) {
            fprintf(out, "\\x%02x", (unsigned char)*name);
            continue;
        }
        if (*name == '`' || *name == '\\')
            fputc('\\', out);
        fputc(*name, out);
    }
    fputc('`', out);
}

static PRINTF_LIKE(2, 3) void ctl_table_comment(FILE *out, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    /* It may quote a name: no line of it may end the comment. */
    for (char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    fprintf(out, "-- %s\n", text);
}

/* The default of a type, spelled out: that an event may lack it is then meant. */
static const char *ctl_table_default(const char *type)
{
    static const struct {
        const char *begin;
        const char *value;
    } defaults[] = {
        {"Nullable", "NULL"},  {"LowCardinality(Nullable", "NULL"},
        {"Int", "0"},          {"UInt", "0"},
        {"Float", "0"},        {"Bool", "false"},
        {"DateTime64", "0"},   {"Date32", "'1970-01-01'"},
        {"Array", "[]"},       {"Map", "map()"},
        {"JSON", "'{}'"},      {"UUID", "'00000000-0000-0000-0000-000000000000'"},
        {"IPv4", "'0.0.0.0'"}, {"IPv6", "'::'"},
    };

    for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
        if (strncmp(type, defaults[i].begin, strlen(defaults[i].begin)) == 0)
            return defaults[i].value;
    return "''";
}

static void ctl_table_put_column(const struct table *table, const struct ctl_inferred *inferred,
                                 bool last, FILE *out)
{
    const uint64_t events = inferred->column->events;

    fputs("    ", out);
    ctl_table_put_name(out, inferred->column->name);
    fprintf(out, " %s", inferred->type);
    if (events < table->sample.events)
        fprintf(out, " DEFAULT %s", ctl_table_default(inferred->type));
    fprintf(out, "%s -- %s", last ? "" : ",", inferred->why);
    if (events < table->sample.events)
        fprintf(out, "; in %" PRIu64 " of %" PRIu64 " events", events, table->sample.events);
    fputc('\n', out);
}

static void ctl_table_put_columns(const struct table *table, FILE *out)
{
    const bool own = ctl_sample_find(&table->sample, RECEIVED_AT) != NULL;

    fputs("(\n", out);
    for (size_t i = 0; i < table->plan.count; i++)
        ctl_table_put_column(table, &table->plan.columns[i], own && i == table->plan.count - 1,
                             out);
    if (!own)
        fputs("    `" RECEIVED_AT
              "` DateTime64(3, 'UTC') DEFAULT now64(3) -- when it was inserted; "
              "column." RECEIVED_AT " = received_at in alloy.ini: when it came\n",
              out);
    fputs(")\n", out);
}

static void ctl_table_put_engine(FILE *out)
{
    ctl_table_comment(out, "On a cluster: ENGINE = "
                           "ReplicatedMergeTree('/clickhouse/tables/{uuid}/{shard}', '{replica}')");
    ctl_table_comment(out, "and SETTINGS replicated_deduplication_window = %d", WINDOW);
    fputs("ENGINE = MergeTree\n", out);
}

static void ctl_table_put_partition(const struct ctl_inferred *time, FILE *out)
{
    if (time == NULL) {
        ctl_table_comment(out, "No partitions: no column has a time in every event.");
        return;
    }
    ctl_table_comment(out, "A partition a month, so that old ones can be dropped. ClickHouse knows "
                           "tokens for each partition by itself;");
    ctl_table_comment(out, "a retry has the same rows, and so the same partitions. Never partition "
                           "by " RECEIVED_AT ", which a retry may change.");
    ctl_table_comment(out, "Before 26.4.5.151, 26.5.6.63 and 26.6.2.98 ClickHouse can lose async "
                           "inserts into partitioned tables:");
    ctl_table_comment(out, "there async_insert = auto inserts synchronously. Without this line all "
                           "versions may insert asynchronously.");
    fputs("PARTITION BY toYYYYMM(", out);
    ctl_table_put_name(out, time->column->name);
    fputs(")\n", out);
}

static void ctl_table_put_order(const struct ctl_table_plan *plan, FILE *out)
{
    const struct ctl_inferred *const keys[] = {
        plan->few, plan->time, plan->id != NULL && plan->id->plain ? plan->id : NULL};
    const char *before = "";

    ctl_table_comment(out,
                      "What most queries name first, then time, then the id, so that rows which "
                      "are asked for together lie together.");
    ctl_table_comment(out, "ClickHouse lets several rows have one id; that there is one is Alloy's "
                           "work.");
    fputs("ORDER BY (", out);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (keys[i] == NULL)
            continue;
        fputs(before, out);
        ctl_table_put_name(out, keys[i]->column->name);
        before = ", ";
    }
    fputs(*before == '\0' ? "tuple())\n" : ")\n", out);
    if (plan->time == NULL)
        return;
    fputs("-- TTL toDateTime(", out);
    ctl_table_put_name(out, plan->time->column->name);
    fputs(") + INTERVAL 90 DAY\n", out);
}

static void ctl_table_put_head(const struct table *table, FILE *out)
{
    const struct ctl_inferred *id = table->plan.id;

    ctl_table_comment(out,
                      "From %" PRIu64 " event%s of %s. Types are as wide as these need, and "
                      "integers wider: look at each line.",
                      table->sample.events, ctl_plural(table->sample.events), table->file);
    if (table->version != NULL)
        ctl_table_comment(out, "For ClickHouse %s.", table->version);
    if (id != NULL)
        ctl_table_comment(out, "alloy.ini: id = %s", id->column->name);
    else
        ctl_table_comment(out, "No field names each event: give its id in alloy.ini, or missing_id "
                               "= generate or hash.");
    if (table->sample.dropped > 0)
        ctl_table_comment(out,
                          "%" PRIu64 " members have names that no column can have, or are "
                          "beyond the first %d.",
                          table->sample.dropped, CTL_SAMPLE_COLUMNS_MAX);
}

/* Returns owned; NULL: out of memory. */
static char *ctl_table_sql(const struct table *table)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL)
        return NULL;
    ctl_table_put_head(table, out);
    fputs("CREATE TABLE ", out);
    ctl_table_put_name(out, table->database);
    fputc('.', out);
    ctl_table_put_name(out, table->name);
    fputc('\n', out);
    ctl_table_put_columns(table, out);
    ctl_table_put_engine(out);
    ctl_table_put_partition(table->plan.time, out);
    ctl_table_put_order(&table->plan, out);
    ctl_table_comment(out, "ClickHouse remembers the tokens of so many inserts: a retry is dropped "
                           "while its token is among them.");
    ctl_table_comment(out,
                      "Keep it above inserts a second (up to 50 of an alloyd) times partitions "
                      "of an insert times the longest outage.");
    fprintf(out, "SETTINGS non_replicated_deduplication_window = %d\n", WINDOW);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* ---- ClickHouse ---- */

static bool ctl_table_parse_name(const char *text, char database[CONFIG_NAME_MAX + 1],
                                 char name[CONFIG_NAME_MAX + 1])
{
    const char *why;
    const char *at = config_name_read(text, ".", database, &why);

    if (at != NULL && *at == '.')
        at = config_name_read(at + 1, ".", name, &why);
    else
        at = NULL;
    return at != NULL && *at == '\0';
}

static bool ctl_table_is_name(const char *text)
{
    char database[CONFIG_NAME_MAX + 1], name[CONFIG_NAME_MAX + 1];

    return ctl_table_parse_name(text, database, name);
}

static bool ctl_table_is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

static bool ctl_table_is_version(const char *text)
{
    unsigned major, minor;

    return sscanf(text, "%5u.%5u", &major, &minor) == 2;
}

/* Makes the configuration by which ClickHouse is asked. False: it is wrong (told). */
static bool ctl_table_configure(struct table *table)
{
    char *override = NULL;
    const char *overrides[1];

    if (table->config_path == NULL && table->url == NULL && !table->apply)
        return true;
    if (table->config_path == NULL && table->url != NULL) {
        /* Nobody writes to these. */
        table->own.clickhouse_url = (char *)(uintptr_t)table->url;
        table->own.clickhouse_user = table->own.clickhouse_password = (char *)(uintptr_t) "";
        table->config = &table->own;
        return true;
    }
    if (table->url != NULL && asprintf(&override, "clickhouse.url=%s", table->url) < 0)
        return false;
    overrides[0] = override;
    table->config = config_load(table->config_path != NULL ? table->config_path : CTL_CONFIG,
                                overrides, override != NULL, 1, stderr);
    free(override);
    if (table->config != NULL && !ctl_table_is_url(table->config->clickhouse_url)) {
        fputs("alloyctl: clickhouse.url of the configuration names no ClickHouse\n", stderr);
        return false;
    }
    return table->config != NULL;
}

static bool ctl_table_ask(struct ask_clickhouse *ask, const char *query)
{
    if (ask_clickhouse(ask, query, NULL, 0))
        return true;
    fprintf(stderr, "alloyctl: ClickHouse: %s\n", ask->answer.why);
    return false;
}

static bool ctl_table_ask_version(struct table *table, struct ask_clickhouse *ask)
{
    if (!ctl_table_ask(ask, "SELECT version()"))
        return false;
    snprintf(table->version_room, sizeof(table->version_room), "%.*s",
             (int)strcspn(ask->body, "\r\n"), ask->body);
    table->version = table->version_room;
    return true;
}

/* Creates the table, which must not be there. */
static bool ctl_table_create(const struct table *table, struct ask_clickhouse *ask, const char *sql)
{
    char *question = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&question, &size);
    bool right;

    if (out == NULL)
        return false;
    fputs("EXISTS TABLE ", out);
    ctl_table_put_name(out, table->database);
    fputc('.', out);
    ctl_table_put_name(out, table->name);
    right = fclose(out) == 0 && ctl_table_ask(ask, question);
    if (right && ask->body[0] == '1') {
        fputs("alloyctl: the table exists already, and is left as it is\n", stderr);
        right = false;
    }
    free(question);
    return right && ctl_table_ask(ask, sql);
}

/* ---- the command ---- */

static json_t *ctl_table_json_column(const struct ctl_inferred *inferred)
{
    return json_pack("{s:o, s:s, s:s, s:o, s:o}", "name", ctl_json_text(inferred->column->name),
                     "type", inferred->type, "reason", inferred->why, "events",
                     ctl_json_number(inferred->column->events), "nulls",
                     ctl_json_number(inferred->column->seen.kinds[CTL_KIND_NULL]));
}

static json_t *ctl_table_json_order(const struct ctl_table_plan *plan)
{
    const struct ctl_inferred *const keys[] = {plan->few, plan->time, plan->id};
    json_t *order = json_array();

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (keys[i] != NULL && keys[i]->plain)
            json_array_append_new(order, ctl_json_text(keys[i]->column->name));
    return order;
}

static int ctl_table_print(const struct table *table, const char *sql, struct ctl_out out)
{
    json_t *columns;

    if (!out.json) {
        fputs(sql, out.file);
        return EXIT_SUCCESS;
    }
    columns = json_array();
    for (size_t i = 0; i < table->plan.count; i++)
        json_array_append_new(columns, ctl_table_json_column(&table->plan.columns[i]));
    return ctl_print_json(
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "database",
                  ctl_json_text(table->database), "table", ctl_json_text(table->name), "events",
                  ctl_json_number(table->sample.events), "skipped",
                  ctl_json_number(table->sample.bad), "id",
                  table->plan.id != NULL ? ctl_json_text(table->plan.id->column->name)
                                         : json_null(),
                  "order_by", ctl_table_json_order(&table->plan), "columns", columns, "created",
                  table->apply, "sql", ctl_json_text(sql)),
        out.file);
}

static bool ctl_table_read(struct table *table, const char *id)
{
    const bool standard = strcmp(table->file, "-") == 0;
    FILE *file = standard ? stdin : fopen(table->file, "re");
    const struct ctl_column *column;
    bool right;

    if (file == NULL) {
        fprintf(stderr, "alloyctl: %s: %s\n", table->file, strerror(errno));
        return false;
    }
    right = ctl_sample_read(&table->sample, file, standard ? "standard input" : table->file);
    if (!standard)
        fclose(file);
    if (right && table->sample.count == 0) {
        fprintf(stderr, "alloyctl: %s holds no event with a member\n", table->file);
        return false;
    }
    column = id == NULL ? NULL : ctl_sample_find(&table->sample, id);
    if (right && id != NULL && column == NULL) {
        fprintf(stderr, "alloyctl: no event has the field %s\n", id);
        return false;
    }
    if (column != NULL && column->events < table->sample.events)
        fprintf(stderr, "alloyctl: only %" PRIu64 " of %" PRIu64 " events have the field %s\n",
                column->events, table->sample.events, id);
    if (table->sample.bad > 0)
        fprintf(stderr, "alloyctl: %" PRIu64 " line%s skipped\n", table->sample.bad,
                table->sample.bad == 1 ? " was" : "s were");
    return right;
}

/* Infers, prints and creates, once all is read. */
static int ctl_table_finish(struct table *table, struct ask_clickhouse *ask, const char *id,
                            struct ctl_out out)
{
    const bool knows_json = table->version != NULL && ctl_infer_has_json(table->version);
    char *sql = NULL;
    int status = EXIT_FAILURE;

    if (ctl_infer(&table->sample, id, knows_json, &table->plan))
        sql = ctl_table_sql(table);
    if (sql == NULL)
        fputs("alloyctl: out of memory\n", stderr);
    else if (!table->apply || ctl_table_create(table, ask, sql))
        status = ctl_table_print(table, sql, out);
    free(sql);
    ctl_infer_fini(&table->plan);
    return status;
}

static int ctl_table_run(const struct ctl_given *given)
{
    struct table table = {.file = ctl_word(given, 0),
                          .url = ctl_value(given, "url"),
                          .config_path = ctl_value(given, "config"),
                          .version = ctl_value(given, "server-version"),
                          .apply = ctl_value(given, "apply") != NULL};
    const char *id = ctl_value(given, "id");
    struct ask_clickhouse ask = {.easy = NULL};
    int status = EXIT_FAILURE;
    bool right = ctl_table_configure(&table);

    (void)ctl_table_parse_name(ctl_value_or(given, "name", NAME), table.database, table.name);
    if (right && table.config != NULL)
        right = ask_clickhouse_open(&ask, table.config, TIMEOUT_MS) &&
                (table.version != NULL || ctl_table_ask_version(&table, &ask));
    if (right && ctl_table_read(&table, id))
        status = ctl_table_finish(&table, &ask, id, given->out);
    if (ask.easy != NULL)
        ask_clickhouse_close(&ask);
    if (table.config != &table.own)
        config_destroy(table.config);
    ctl_sample_fini(&table.sample);
    return status;
}

static const struct ctl_option ctl_table_options[] = {
    {.name = "name",
     .value = "DB.TABLE",
     .help = "the table's name (default " NAME "); `my.db`.t as in alloy.ini",
     .takes = "DB.TABLE, with names that have dots or quotes in back-quotes",
     .good = ctl_table_is_name},
    {.name = "id",
     .value = "FIELD",
     .help = "the field that names an event (default: event_id, messageId, id, ... if all have it)",
     .takes = "the name of a field"},
    {.name = "server-version",
     .value = "VERSION",
     .help = "the version of ClickHouse that the table is for, such as 25.3",
     .takes = "a version, such as 25.3",
     .good = ctl_table_is_version},
    {.name = "url",
     .value = "URL",
     .help = "ask the ClickHouse there for its version; a user may stand in it",
     .takes = "a URL such as http://127.0.0.1:8123",
     .good = ctl_table_is_url},
    CTL_OPTION_CONFIG("ask the ClickHouse of this configuration, with its user"),
    {.name = "apply",
     .help = "create the table too, unless it exists; without --url or --config in the ClickHouse "
             "of " CTL_CONFIG},
    {.name = NULL}};

const struct ctl_command ctl_table_command = {
    .name = "table",
    .summary = "a CREATE TABLE for sample events, with the reasons",
    .words = "FILE",
    .which = "which file? - is standard input",
    .words_min = 1,
    .words_max = 1,
    .help = "Reads events from FILE, one JSON object or an array of them on each line (- is "
            "standard input), and prints a CREATE TABLE for them: a type for each member that "
            "holds every value as it is, an order of rows, a deduplication window, and in comments "
            "why. A line that is no event is told and skipped.\n\n"
            "The more events it sees the better: some hundred of a usual day. Objects become JSON "
            "where the server has that type (25.3) and would not change them. docs/TABLES.md has "
            "three worked examples.",
    .options = ctl_table_options,
    .run = ctl_table_run,
};
