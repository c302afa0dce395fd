/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_schema.c - what a configuration may hold, for programs: as rows, and as a JSON Schema.
 *
 * The rows are those of config_keys.def and, for a stream, the table below: whoever adds a key of a
 * stream says here what it is, or a test fails.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "alloy/config_schema.h"

#include <string.h>

#include "alloy/text.h"
#include "config_loader.h"
#include "config_preset.h"
#include "config_stream.h"
#include "config_value.h"

/* A value that names an environment variable is known only where it is read. */
#define VARIABLE "\\$\\{"
#define STREAM_SECTION "stream.NAME"

/* A key of a stream, which has no row in config_keys.def. */
struct stream_row {
    const char *help;
    const char *default_text;
    const char *bounds;
    const char *words;
    const char *expression;
    bool required;
};

static const struct stream_row stream_rows[STREAM_KEY_COUNT] = {
    [STREAM_KEY_PRESET] =
        {.help = "What one kind of client needs: it sets the keys below and the path. What stands "
                 "beside it counts; alloyd --dump-config shows it spelled out.",
         .default_text = ""},
    [STREAM_KEY_PATH] =
        {.help = "Where clients post events; /x/* takes all below /x/. Default: /v1/ and the "
                 "stream's name.",
         .bounds = "1 to 16 paths, comma-separated"},
    [STREAM_KEY_TABLE] = {.help = "The ClickHouse table.",
                          .bounds = "db.table",
                          .expression = "[^.]+\\..+",
                          .required = true},
    [STREAM_KEY_EVENTS] =
        {.help = "The member of the body whose array holds the events. A body without it is one "
                 "event.",
         .default_text = ""},
    [STREAM_KEY_ID] =
        {.help = "The fields whose values together identify an event: names, JSON Pointers (/a/b) "
                 "or header:NAME; | between alternatives.",
         .default_text = "event_id",
         .bounds = "1 to 8 fields, comma-separated"},
    [STREAM_KEY_MISSING_ID] =
        {.help = "What becomes of an event without an id: it is refused, gets a UUIDv7, or a hash "
                 "of its bytes.",
         .default_text = "refuse",
         .words = "refuse,generate,hash"},
    [STREAM_KEY_KEY_MEMBER] =
        {.help = "Members of the body that may hold a key of auth.keys_file: names or JSON "
                 "Pointers.",
         .default_text = "",
         .bounds = "up to 8, comma-separated"},
    [STREAM_KEY_PARTIAL] =
        {.help = "on: of a request with bad events the good ones are taken, and the answer tells "
                 "of the others.",
         .default_text = "off",
         .words = "off,on"},
    [STREAM_KEY_SCHEMA] =
        {.help = "What becomes of events that do not fit the table: nothing, they are counted and "
                 "told, or refused with 422.",
         .default_text = "warn",
         .words = "off,warn,refuse"},
    [STREAM_KEY_ON_UNKNOWN] =
        {.help = "With schema = refuse: what becomes of an event with a member that has no column.",
         .default_text = "ignore",
         .words = "ignore,refuse"},
    [STREAM_KEY_ON_MISSING] =
        {.help = "With schema = refuse: what becomes of an event that lacks a column without a "
                 "default.",
         .default_text = "ignore",
         .words = "ignore,refuse"},
    [STREAM_KEY_ANSWER] =
        {.help = "Status and body of success, such as 200 {\"status\":1}; empty: 202 and the "
                 "counts.",
         .default_text = "",
         .bounds = "200, 201, 202 or 204, and up to 1024 bytes",
         .expression = "(20[0124]( .*)?)?"},
    [STREAM_KEY_ANSWER_VERBOSE] =
        {.help = "The body of success for a request with verbose=1 in its query; needs answer.",
         .default_text = "",
         .bounds = "up to 1024 bytes"},
    [STREAM_KEY_COLUMN_CONFLICT] =
        {.help = "An event that has a member of a column's name itself is refused, or keeps its "
                 "own (event).",
         .default_text = "refuse",
         .words = "refuse,event"},
    [STREAM_KEY_PROOF] =
        {.help = "The table's column that holds the insert's token, by which alloyd asks whether "
                 "an insert is there: String DEFAULT getSetting('insert_deduplication_token').",
         .default_text = ""},
    [STREAM_KEY_TTL] = {.help = "How long Redis remembers an id of this stream. Default: "
                                "redis.ttl."},
};

/* Keys whose names the user chooses; they follow the others of their section. */
static const struct config_row column_row = {
    .section = STREAM_SECTION,
    .key = CONFIG_COLUMN_PREFIX "NAME",
    .names = ".+",
    .help = "A column that the request fills: received_at, client_address, user_agent, key, path, "
            "header:NAME, percent:NAME (a header that is percent-encoded), query:NAME, or with "
            "events a member around them, envelope:NAME.",
    .reload = true,
    .bounds = "up to 16",
    .expression = "received_at|client_address|user_agent|key|path|[a-z]+:.+"};
static const struct config_row setting_row = {
    .section = "clickhouse",
    .key = CONFIG_SETTING_PREFIX "NAME",
    .names = "[A-Za-z0-9_]+",
    .help = "Any other setting of ClickHouse, sent with each insert.",
    .bounds = "up to 64"};

/* Bounds and expression of a key that is no text. */
static void config_schema_describe(const struct config_key *key, struct config_row *row)
{
    const char *automatic = key->automatic ? "auto|" : "";
    char min[CONFIG_VALUE_MAX], max[CONFIG_VALUE_MAX];

    if (key->kind == KIND_STR)
        return;
    if (key->words != NULL) {
        snprintf(row->words, sizeof(row->words), "%s", key->words);
        return;
    }
    config_value_format(key, key->min, min);
    config_value_format(key, key->max, max);
    snprintf(row->bounds, sizeof(row->bounds), "%s to %s%s", min, max,
             key->automatic ? ", or auto" : "");
    row->number = key->kind == KIND_UINT;
    row->min = key->min;
    row->max = key->max;
    snprintf(row->expression, sizeof(row->expression), "%s%s", automatic,
             key->kind == KIND_UINT   ? "[0-9]+"
             : key->kind == KIND_SIZE ? "0+|[0-9]+[ \\t]*(B|KiB|MiB|GiB)"
                                      : "0+|[0-9]+[ \\t]*(ms|s|min|h)");
}

static void config_schema_get_key(const struct config_key *key, struct config_row *row)
{
    *row = (struct config_row){.section = key->section,
                               .key = key->name,
                               .help = key->help,
                               .default_text = key->default_text,
                               .reload = key->reload};
    config_schema_describe(key, row);
}

static void config_schema_get_stream_key(size_t id, struct config_row *row)
{
    const struct stream_row *from = &stream_rows[id];

    *row = (struct config_row){.section = STREAM_SECTION,
                               .key = config_stream_keys[id],
                               .help = from->help != NULL ? from->help : "",
                               .default_text = from->default_text,
                               .required = from->required,
                               .reload = true};
    if (from->bounds != NULL)
        snprintf(row->bounds, sizeof(row->bounds), "%s", from->bounds);
    if (from->words != NULL)
        snprintf(row->words, sizeof(row->words), "%s", from->words);
    if (from->expression != NULL)
        snprintf(row->expression, sizeof(row->expression), "%s", from->expression);
    if (id == STREAM_KEY_PRESET) {
        config_list_presets(row->words, sizeof(row->words));
    } else if (id == STREAM_KEY_TTL) {
        config_schema_describe(&config_keys[KEY_redis_ttl], row);
    }
}

bool config_schema_next(size_t *index, struct config_row *row)
{
    size_t i = (*index)++;

    if (i < STREAM_KEY_COUNT) {
        config_schema_get_stream_key(i, row);
        return true;
    }
    i -= STREAM_KEY_COUNT;
    if (i == 0) {
        *row = column_row;
        return true;
    }
    i--;
    /* The settings have their row behind the last key of [clickhouse]. */
    for (size_t k = 0; k < CONFIG_KEY_COUNT; k++) {
        if (i-- == 0) {
            config_schema_get_key(&config_keys[k], row);
            return true;
        }
        if (strcmp(config_keys[k].section, setting_row.section) != 0 ||
            (k + 1 < CONFIG_KEY_COUNT &&
             strcmp(config_keys[k + 1].section, setting_row.section) == 0))
            continue;
        if (i-- == 0) {
            *row = setting_row;
            return true;
        }
    }
    return false;
}

/* ---- as JSON ---- */

/* Escaped, without the quotes around it. */
static void config_schema_escape(const char *text, FILE *out)
{
    char escaped[TEXT_ESCAPE_MAX];

    for (size_t len = strlen(text), taken; len > 0; text += taken, len -= taken)
        fwrite(escaped, 1, text_escape(text, len, &taken, escaped), out);
}

static void config_schema_member(const char *name, const char *text, FILE *out)
{
    fprintf(out, ", \"%s\": \"", name);
    config_schema_escape(text, out);
    putc('"', out);
}

static void config_schema_print_words(const struct config_row *row, FILE *out)
{
    const char *before = "";

    fputs(", \"anyOf\": [{\"enum\": [", out);
    if (row->default_text != NULL && *row->default_text == '\0') {
        fputs("\"\"", out);
        before = ", ";
    }
    for (const char *at = row->words; at != NULL; before = ", ") {
        struct config_item word = config_first_item(at);

        fprintf(out, "%s\"%.*s\"", before, (int)word.len, word.at);
        at = word.next;
    }
    fputs("]}, {\"$ref\": \"#/$defs/variable\"}]", out);
}

/* Writes the schema of one value. */
static void config_schema_print_row(const struct config_row *row, FILE *out)
{
    fprintf(out, "{\"description\": \"");
    config_schema_escape(row->help, out);
    if (*row->bounds != '\0')
        fprintf(out, " Bounds: %s.", row->bounds);
    fprintf(out, " A change takes a %s.\"", row->reload ? "reload" : "restart");
    if (row->number)
        fprintf(out, ", \"type\": [\"string\", \"integer\"], \"minimum\": %llu, \"maximum\": %llu",
                row->min, row->max);
    else
        fputs(", \"type\": \"string\"", out);
    if (row->default_text != NULL)
        config_schema_member("default", row->default_text, out);
    if (*row->words != '\0') {
        config_schema_print_words(row, out);
    } else if (*row->expression != '\0') {
        char pattern[sizeof(row->expression) + 32] = "";

        snprintf(pattern, sizeof(pattern), "^(%s)$|" VARIABLE, row->expression);
        config_schema_member("pattern", pattern, out);
    }
    putc('}', out);
}

/* Writes the schema of the section whose first row is *row; *more: there is another row behind it,
 * now in *row. */
static void config_schema_print_section(size_t *index, struct config_row *row, bool *more,
                                        FILE *out)
{
    const char *section = row->section, *before = "", *required = NULL;
    struct config_row named = {.key = NULL};

    fputs("{\n      \"type\": \"object\",\n      \"additionalProperties\": false,\n", out);
    fputs("      \"properties\": {", out);
    do {
        if (strstr(row->key, ".NAME") != NULL) {
            named = *row;
        } else {
            fprintf(out, "%s\n        \"%s\": ", before, row->key);
            config_schema_print_row(row, out);
            before = ",";
        }
        if (row->required)
            required = row->key;
        *more = config_schema_next(index, row);
    } while (*more && strcmp(row->section, section) == 0);
    fputs("\n      }", out);
    if (named.key != NULL) {
        fprintf(out, ",\n      \"patternProperties\": {\n        \"^%.*s\\\\.%s$\": ",
                (int)strcspn(named.key, "."), named.key, named.names);
        config_schema_print_row(&named, out);
        fputs("\n      }", out);
    }
    if (required != NULL)
        fprintf(out, ",\n      \"required\": [\"%s\"]", required);
    fputs("\n    }", out);
}

void config_schema_print(FILE *out)
{
    struct config_row row;
    size_t index = 0;
    bool more = config_schema_next(&index, &row);
    const char *before = "";

    fputs("{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
          "  \"title\": \"Configuration of alloyd " ALLOY_VERSION "\",\n"
          "  \"description\": \"The file as an object: section, key, value.\",\n"
          "  \"type\": \"object\",\n  \"additionalProperties\": false,\n"
          "  \"$defs\": {\n    \"variable\": {\"description\": \"Names an environment variable.\", "
          "\"type\": \"string\", \"pattern\": \"\\\\$\\\\{\"}\n  },\n  \"patternProperties\": {",
          out);
    fprintf(out, "\n    \"^stream\\\\.[A-Za-z0-9_-]{1,%d}$\": ", CONFIG_STREAM_NAME_MAX);
    config_schema_print_section(&index, &row, &more, out);
    fputs("\n  },\n  \"properties\": {\n    \"include\": {\"description\": \"Files to read as if "
          "they stood here: names or patterns.\", \"type\": [\"string\", \"array\"], \"items\": "
          "{\"type\": \"string\"}},",
          out);
    while (more) {
        fprintf(out, "%s\n    \"%s\": ", before, row.section);
        config_schema_print_section(&index, &row, &more, out);
        before = ",";
    }
    fputs("\n  }\n}\n", out);
}
