/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_request.c - builds the URLs of inserts and of questions.
 *
 * We send every setting that success or deduplication depends on, whatever the server's defaults
 * are. The server must cut a retry into the same blocks as the first try, or its rows are inserted
 * twice. With async inserts off that means one block for each insert: one parser thread, which
 * makes blocks of max_insert_block_size rows (ten times what an insert may hold), and squashing
 * that only joins blocks. A setting that the server does not know is an error, so we send none that
 * is newer than 22.
 *
 * Runs on: any thread.
 * Owns: nothing; the URLs belong to the caller.
 */
#include "insert_request.h"

#include <inttypes.h>
#include <string.h>

/* More rows than an insert may have; for the parser and for squashing. */
#define BLOCK_ROWS "1000000"
#define BLOCK_ROWS_ALONE UINT64_C(1000001)

static const struct config_setting fixed_settings[] = {
    {"wait_end_of_query",
     "1"}, /* so that an exception comes with its own status, never after a 200 */
    {"send_progress_in_http_headers", "0"},
    {"insert_deduplicate", "1"},
    {"date_time_input_format", "best_effort"},
    {"input_format_parallel_parsing", "0"},
    {"max_insert_block_size", BLOCK_ROWS},
    {"min_insert_block_size_rows", BLOCK_ROWS},
    {"min_insert_block_size_bytes", "0"}, /* 0: only rows count */
    /* More columns than any insert has: all partitions are written before the first is committed,
     * so that a row refused in one leaves nothing in the others. */
    {"max_insert_delayed_streams_for_parallel_write", "100000"},
};

/* Aggregates, so that one row comes, with the version, even when there is no table. Some databases
 * have the UUID only in the path of the data. */
#define TABLE_QUESTION                                                                             \
    "SELECT version(), count(), any(engine), any(partition_key != ''), any(extract(engine_full, "  \
    "'non_replicated_deduplication_window = (\\\\d+)')), any(length(dependencies_table)), "        \
    "any(if(toUInt128(uuid) != 0, toString(uuid), extract(arrayElement(data_paths, 1), "           \
    "'/store/[0-9a-f]{3}/([0-9a-f-]{36})/'))), any(toUnixTimestamp(metadata_modification_time)), " \
    "any(substring(engine_full, 1, 1024)) FROM system.tables WHERE "

/* These decide which column a field goes to. */
static const char *const name_settings[] = {"input_format_column_name_matching_mode",
                                            "input_format_import_nested_json"};
/* And these what a value is taken for, beside all that begin with JSON_SETTINGS. */
#define JSON_SETTINGS "input_format_json_"
#define TIME_SETTING "date_time_input_format"

static void insert_request_put_encoded(FILE *out, const char *text)
{
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0'; at++) {
        if ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
            (*at >= '0' && *at <= '9') || strchr("-_.~", *at) != NULL)
            fputc(*at, out);
        else
            fprintf(out, "%%%02X", *at);
    }
}

static void insert_request_put_setting(FILE *out, const char *name, const char *value)
{
    fputc('&', out);
    insert_request_put_encoded(out, name);
    fputc('=', out);
    insert_request_put_encoded(out, value);
}

/* Ends a question; the answer comes whole, or with the status of its error. */
static void insert_request_put_format(FILE *out, const char *format)
{
    insert_request_put_encoded(out, " FORMAT ");
    insert_request_put_encoded(out, format);
    insert_request_put_setting(out, "wait_end_of_query", "1");
}

/* Writes text in quotes, escaped for SQL literals and quoted names, percent-encoded. */
static void insert_request_put_quoted(FILE *out, char quote, const char *text)
{
    char one[3] = {quote, '\0', '\0'};

    insert_request_put_encoded(out, one);
    for (; *text != '\0'; text++) {
        if (*text == quote || *text == '\\') {
            one[0] = '\\';
            one[1] = *text;
        } else {
            one[0] = *text;
            one[1] = '\0';
        }
        insert_request_put_encoded(out, one);
    }
    one[0] = quote;
    one[1] = '\0';
    insert_request_put_encoded(out, one);
}

/* What is written. It stays where it is until it is finished. */
struct insert_request_text {
    char *data;
    size_t len;
};

/* Begins a text with the beginning of a query. NULL: out of memory. */
static FILE *insert_request_begin(struct insert_request_text *text, const char *query)
{
    FILE *out = open_memstream(&text->data, &text->len);

    if (out != NULL)
        insert_request_put_encoded(out, query);
    return out;
}

/* Returns the text written to out; NULL: out of memory. */
static char *insert_request_finish(FILE *out, struct insert_request_text *text)
{
    bool failed = ferror(out) != 0;

    if (fclose(out) != 0 || failed) {
        free(text->data);
        return NULL;
    }
    return text->data;
}

/*
 * Keeps the endpoint's path and query, drops a fragment. Drops credentials in it if clickhouse.user
 * or clickhouse.password are set, which go in headers: ClickHouse refuses a request with both.
 */
char *insert_request_base(const struct config *config, struct slice endpoint)
{
    const char *all = endpoint.data + endpoint.len;
    const char *scheme = memmem(endpoint.data, endpoint.len, "://", 3);
    const char *host = scheme == NULL ? endpoint.data : scheme + 3;
    const char *host_end = host;
    const char *end, *at;
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, "");

    if (out == NULL)
        return NULL;
    while (host_end < all && strchr("/?#", *host_end) == NULL)
        host_end++;
    end = memchr(host_end, '#', (size_t)(all - host_end));
    end = end == NULL ? all : end;
    at = memrchr(host, '@', (size_t)(host_end - host));
    fwrite(endpoint.data, 1, (size_t)(host - endpoint.data), out);
    if (at != NULL && insert_request_uses_headers(config))
        host = at + 1;
    fwrite(host, 1, (size_t)(host_end - host), out);
    if (host_end == end || *host_end != '/')
        fputc('/', out);
    fwrite(host_end, 1, (size_t)(end - host_end), out);
    fputs(memchr(host_end, '?', (size_t)(end - host_end)) != NULL ? "&query=" : "?query=", out);
    return insert_request_finish(out, &text);
}

char *insert_request_join(const char *base, char *tail)
{
    char *url = NULL;

    if (base != NULL && tail != NULL && asprintf(&url, "%s%s", base, tail) < 0)
        url = NULL;
    free(tail);
    return url;
}

void insert_request_token(char out[INSERT_TOKEN_MAX], uint64_t instance_id, uint64_t insert_id)
{
    snprintf(out, INSERT_TOKEN_MAX, "%016" PRIx64 "%016" PRIx64, instance_id, insert_id);
}

char *insert_request_columns(const struct table_columns *columns, const char *proof)
{
    struct insert_request_text text;
    bool ephemeral = false, first = true;
    FILE *out;

    for (size_t i = 0; i < columns->count; i++)
        ephemeral = ephemeral || columns->columns[i].kind == TABLE_COLUMN_EPHEMERAL;
    out = ephemeral && !columns->partial ? insert_request_begin(&text, "") : NULL;
    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < columns->count; i++) {
        if (columns->columns[i].kind == TABLE_COLUMN_NOT_INSERTED ||
            (proof != NULL && strcmp(columns->columns[i].name, proof) == 0))
            continue;
        if (!first)
            insert_request_put_encoded(out, ", ");
        insert_request_put_quoted(out, '`', columns->columns[i].name);
        first = false;
    }
    return insert_request_finish(out, &text);
}

bool insert_request_uses_headers(const struct config *config)
{
    return config->clickhouse_user[0] != '\0' || insert_request_password(config)[0] != '\0';
}

const char *insert_request_password(const struct config *config)
{
    if (config->clickhouse_password_resolved != NULL)
        return config->clickhouse_password_resolved;
    return config->clickhouse_password != NULL ? config->clickhouse_password : "";
}

char *insert_request_url(const struct config *config, const struct config_stream *stream,
                         const struct insert_request *request)
{
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, "INSERT INTO ");
    char token[INSERT_TOKEN_MAX];

    if (out == NULL)
        return NULL;
    insert_request_put_quoted(out, '`', stream->database);
    fputc('.', out);
    insert_request_put_quoted(out, '`', stream->table);
    if (request->columns != NULL) {
        insert_request_put_encoded(out, " (");
        fputs(request->columns, out);
        insert_request_put_encoded(out, ")");
    } else if (request->proof != NULL) {
        insert_request_put_encoded(out, " (* EXCEPT(");
        insert_request_put_quoted(out, '`', request->proof);
        insert_request_put_encoded(out, "))");
    }
    insert_request_put_encoded(out, " FORMAT JSONEachRow");
    insert_request_token(token, request->instance_id, request->insert_id);
    insert_request_put_setting(out, "insert_deduplication_token", token);
    for (size_t i = 0; i < ARRAY_LEN(fixed_settings); i++)
        insert_request_put_setting(out, fixed_settings[i].name, fixed_settings[i].value);
    insert_request_put_setting(out, "async_insert", request->async ? "1" : "0");
    if (request->async) {
        insert_request_put_setting(out, "wait_for_async_insert",
                                   config->clickhouse_wait_for_async_insert ? "1" : "0");
        /* Off by default; without it, servers before 26.2 ignore the tokens of async inserts. */
        insert_request_put_setting(out, "async_insert_deduplicate", "1");
    }
    /* The server joins only async inserts with equal settings. This one differs, and has no other
     * effect above the rows of an insert. */
    if (request->alone)
        fprintf(out, "&max_insert_block_size=%" PRIu64,
                BLOCK_ROWS_ALONE + request->insert_id % BLOCK_ROWS_ALONE);
    if (request->ignore_views)
        insert_request_put_setting(out, "materialized_views_ignore_errors", "1");
    /* Last, so that they win: of two settings with one name ClickHouse takes the later. */
    for (size_t i = 0; i < config->setting_count; i++)
        insert_request_put_setting(out, config->settings[i].name, config->settings[i].value);
    if (request->proof != NULL)
        insert_request_put_setting(out, "input_format_defaults_for_omitted_fields", "1");
    if (request->unhurried) {
        insert_request_put_setting(out, "max_execution_time", "0");
        insert_request_put_setting(out, "min_execution_speed", "0");
        insert_request_put_setting(out, "min_execution_speed_bytes", "0");
    }
    return insert_request_finish(out, &text);
}

/* Whether a setting decides which column a field goes to, or what its value is taken for. */
static bool insert_request_reads_values(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(name_settings); i++)
        if (strcmp(name, name_settings[i]) == 0)
            return true;
    return strcmp(name, TIME_SETTING) == 0 ||
           strncmp(name, JSON_SETTINGS, strlen(JSON_SETTINGS)) == 0;
}

/* Writes the names of the id fields. */
static void insert_request_put_ids(FILE *out, char quote, const struct config_stream *stream)
{
    for (size_t i = 0; i < stream->id_count; i++) {
        if (i > 0)
            insert_request_put_encoded(out, ", ");
        insert_request_put_quoted(out, quote, stream->ids[i].name);
    }
}

/* Writes "database = '...' AND <column> = '...'". */
static void insert_request_put_where(FILE *out, const struct config_stream *stream,
                                     const char *column)
{
    insert_request_put_encoded(out, "database = ");
    insert_request_put_quoted(out, '\'', stream->database);
    insert_request_put_encoded(out, " AND ");
    insert_request_put_encoded(out, column);
    insert_request_put_encoded(out, " = ");
    insert_request_put_quoted(out, '\'', stream->table);
}

char *insert_request_table_url(const struct config_stream *stream)
{
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, TABLE_QUESTION);

    if (out == NULL)
        return NULL;
    insert_request_put_where(out, stream, "name");
    insert_request_put_format(out, "TabSeparated");
    return insert_request_finish(out, &text);
}

char *insert_request_site_url(const struct config_stream *stream)
{
    struct insert_request_text text;
    /* max() of nothing is "" and 0. Of these columns system.replicas asks no Keeper. */
    FILE *out = insert_request_begin(
        &text, "SELECT engine, (SELECT max(zookeeper_path) FROM system.replicas WHERE ");

    if (out == NULL)
        return NULL;
    insert_request_put_where(out, stream, "table");
    insert_request_put_encoded(out, "), (SELECT max(is_readonly) FROM system.replicas WHERE ");
    insert_request_put_where(out, stream, "table");
    insert_request_put_encoded(out, ") FROM system.tables WHERE ");
    insert_request_put_where(out, stream, "name");
    insert_request_put_format(out, "TabSeparated");
    return insert_request_finish(out, &text);
}

char *insert_request_columns_url(const struct config *config, const struct config_stream *stream)
{
    struct insert_request_text text;
    FILE *out =
        insert_request_begin(&text, "SELECT position, if(position = 1, concat(toString((SELECT "
                                    "count() FROM system.columns WHERE ");

    if (out == NULL)
        return NULL;
    insert_request_put_where(out, stream, "table");
    /* "" for a setting that the server does not know. */
    insert_request_put_encoded(
        out, ")), ' ', (SELECT any(value) FROM system.settings WHERE name = "
             "'input_format_column_name_matching_mode'), ' ', (SELECT any(value) FROM "
             "system.settings WHERE name = 'input_format_import_nested_json'), ' ', (SELECT "
             "arrayStringConcat(groupArray(concat(name, '=', value)), ' ') FROM system.settings "
             "WHERE name = '" TIME_SETTING "' OR (changed AND name LIKE '" JSON_SETTINGS "%'))), "
             "''), name, substring(type, 1, 16384), ");
    if (stream->proof != NULL) {
        insert_request_put_encoded(out, "if(name = ");
        insert_request_put_quoted(out, '\'', stream->proof);
        insert_request_put_encoded(
            out, ", concat(default_kind, ' ', substring(default_expression, 1, 1024)), "
                 "default_kind)");
    } else {
        insert_request_put_encoded(out, "default_kind");
    }
    insert_request_put_encoded(out, " FROM system.columns WHERE ");
    insert_request_put_where(out, stream, "table");
    insert_request_put_encoded(out, " ORDER BY position LIMIT 1000");
    insert_request_put_format(out, "TabSeparated");
    /* As inserts have it. */
    insert_request_put_setting(out, TIME_SETTING, "best_effort");
    for (size_t i = 0; i < config->setting_count; i++)
        if (insert_request_reads_values(config->settings[i].name))
            insert_request_put_setting(out, config->settings[i].name, config->settings[i].value);
    return insert_request_finish(out, &text);
}

char *insert_request_trace_url(const struct config_stream *stream, uint64_t age_s,
                               const char *token)
{
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, "SELECT uptime(), toUnixTimestamp(now()) - ");

    if (out == NULL)
        return NULL;
    fprintf(out, "%" PRIu64, age_s);
    insert_request_put_encoded(out, " AS since, (SELECT sum(rows) FROM system.parts WHERE active "
                                    "AND modification_time >= toDateTime(since) AND ");
    insert_request_put_where(out, stream, "table");
    insert_request_put_encoded(out, "), (SELECT groupArray(engine) FROM system.tables WHERE ");
    insert_request_put_where(out, stream, "name");
    insert_request_put_encoded(out, "), (SELECT groupArray([name, type, default_kind]) FROM "
                                    "system.columns WHERE ");
    insert_request_put_where(out, stream, "table");
    insert_request_put_encoded(out, " AND name IN (");
    insert_request_put_ids(out, '\'', stream);
    if (token != NULL) {
        insert_request_put_encoded(out, ", ");
        insert_request_put_quoted(out, '\'', stream->proof);
        insert_request_put_encoded(out, ")), (SELECT count() FROM system.processes WHERE "
                                        "Settings['insert_deduplication_token'] = ");
        insert_request_put_quoted(out, '\'', token);
        insert_request_put_encoded(out, "), (SELECT count() FROM system.replicas WHERE ");
        insert_request_put_where(out, stream, "table");
        insert_request_put_encoded(out, " AND (is_session_expired OR inserts_in_queue > 0 OR "
                                        "log_pointer <= log_max_index)");
    } else {
        insert_request_put_encoded(out, ")");
    }
    insert_request_put_encoded(out, ")");
    insert_request_put_format(out, "JSONCompactEachRow");
    return insert_request_finish(out, &text);
}

/*
 * Writes "`db`.`table` WHERE _part NOT IN (...)". What is left out are parts that are known to be
 * old, dropped ones among them: a part that a merge makes meanwhile is looked into.
 */
static void insert_request_put_young(FILE *out, const struct config_stream *stream,
                                     uint64_t since_s)
{
    insert_request_put_quoted(out, '`', stream->database);
    fputc('.', out);
    insert_request_put_quoted(out, '`', stream->table);
    insert_request_put_encoded(out, " WHERE _part NOT IN (SELECT name FROM system.parts WHERE ");
    insert_request_put_where(out, stream, "table");
    insert_request_put_encoded(out, " AND modification_time < toDateTime(");
    fprintf(out, "%" PRIu64, since_s);
    insert_request_put_encoded(out, "))");
}

/* Writes " AND `proof` = 'token'". */
static void insert_request_put_proof(FILE *out, const struct config_stream *stream,
                                     const char *token)
{
    insert_request_put_encoded(out, " AND ");
    insert_request_put_quoted(out, '`', stream->proof);
    insert_request_put_encoded(out, " = ");
    insert_request_put_quoted(out, '\'', token);
}

char *insert_request_count_url(const struct config_stream *stream, uint64_t since_s,
                               const char *token)
{
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, "SELECT (SELECT count() FROM ");

    if (out == NULL)
        return NULL;
    insert_request_put_young(out, stream, since_s);
    insert_request_put_encoded(out, "), (SELECT count() FROM ");
    insert_request_put_young(out, stream, since_s);
    insert_request_put_proof(out, stream, token);
    insert_request_put_encoded(out, ")");
    insert_request_put_format(out, "JSONCompactEachRow");
    insert_request_put_setting(out, "cancel_http_readonly_queries_on_client_close", "1");
    return insert_request_finish(out, &text);
}

char *insert_request_rows_url(const struct config *config, const struct config_stream *stream,
                              uint64_t since_s, const char *structure, const char *token)
{
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, "SELECT (SELECT count() FROM ");

    if (out == NULL)
        return NULL;
    insert_request_put_young(out, stream, since_s);
    insert_request_put_encoded(out, "), uniqExact(");
    insert_request_put_ids(out, '`', stream);
    insert_request_put_encoded(out, "), arrayStringConcat(groupArray(if((");
    insert_request_put_ids(out, '`', stream);
    insert_request_put_encoded(out, ") IN (SELECT ");
    insert_request_put_ids(out, '`', stream);
    insert_request_put_encoded(out, " FROM ");
    insert_request_put_young(out, stream, since_s);
    if (token != NULL)
        insert_request_put_proof(out, stream, token);
    insert_request_put_encoded(out, " AND (");
    insert_request_put_ids(out, '`', stream);
    insert_request_put_encoded(out, ") IN (SELECT ");
    insert_request_put_ids(out, '`', stream);
    insert_request_put_encoded(out, " FROM " INSERT_REQUEST_ROWS
                                    ")), '1', '0'))) FROM " INSERT_REQUEST_ROWS);
    insert_request_put_format(out, "JSONCompactEachRow");
    insert_request_put_setting(out, INSERT_REQUEST_ROWS "_structure", structure);
    insert_request_put_setting(out, INSERT_REQUEST_ROWS "_format", "JSONEachRow");
    /* Ids are to be read as they were when they went in. */
    insert_request_put_setting(out, "date_time_input_format", "best_effort");
    for (size_t i = 0; i < config->setting_count; i++)
        insert_request_put_setting(out, config->settings[i].name, config->settings[i].value);
    insert_request_put_setting(out, "input_format_skip_unknown_fields", "1");
    /* In the order of the rows. */
    insert_request_put_setting(out, "input_format_parallel_parsing", "0");
    insert_request_put_setting(out, "max_threads", "1");
    insert_request_put_setting(out, "cancel_http_readonly_queries_on_client_close", "1");
    return insert_request_finish(out, &text);
}

char *insert_request_query_url(const char *query, const struct config_setting *settings,
                               size_t count)
{
    struct insert_request_text text;
    FILE *out = insert_request_begin(&text, query);

    if (out == NULL)
        return NULL;
    insert_request_put_setting(out, "wait_end_of_query", "1");
    for (size_t i = 0; i < count; i++)
        insert_request_put_setting(out, settings[i].name, settings[i].value);
    return insert_request_finish(out, &text);
}
