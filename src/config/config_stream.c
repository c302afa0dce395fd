/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_stream.c - a [stream.NAME] section: what it may say, and what it means.
 *
 * What stands in the section counts; else what its preset sets; else the default. A dump spells all
 * of it out, so that nobody has to know a preset by heart.
 *
 * Runs on: main thread. Owns: the texts of a struct config_stream.
 */
#include "config_stream.h"

#include <stdarg.h>
#include <string.h>

#include "alloy/config_name.h"
#include "config_preset.h"
#include "config_value.h"
#include "alloy/text.h"

#define DEFAULT_ID "event_id"
#define ANSWER_NONE 0
#define HEADER_PREFIX "header:"
#define PERCENT_PREFIX "percent:"
#define QUERY_PREFIX "query:"
#define ENVELOPE_PREFIX "envelope:"
#define PRESETS_LIST_MAX 256

static const char *const schema_words[] = {"off", "warn", "refuse"};
static const char *const missing_words[] = {"refuse", "generate", "hash"};
/* In the order of enum config_column_kind; the prefixes follow the words. */
static const char *const column_words[] = {"received_at", "client_address", "user_agent", "key",
                                           "path"};
static const char *const column_prefixes[] = {HEADER_PREFIX, PERCENT_PREFIX, QUERY_PREFIX,
                                              ENVELOPE_PREFIX};

/* One key of a stream on its way: its text, and where that was given. */
struct given {
    struct config_loader *loader;
    struct config_stream *stream;
    const char *key;
    const char *text; /* NULL: nowhere, nor in the preset */
    bool own;         /* it stands in the section */
    int place;
};

static struct given config_stream_given(struct config_loader *loader, size_t index,
                                        const struct config_preset *preset,
                                        enum config_stream_key key)
{
    const char *own = loader->streams[index].texts[key];

    return (struct given){.loader = loader,
                          .stream = &loader->config->streams[index],
                          .key = config_stream_keys[key],
                          .own = own != NULL,
                          .text = own == NULL && preset != NULL ? preset->texts[key] : own,
                          .place = own != NULL ? loader->streams[index].key_places[key]
                                               : loader->streams[index].place};
}

static PRINTF_LIKE(2, 3) void config_stream_problem(const struct given *given, const char *format,
                                                    ...)
{
    char text[CONFIG_WHY_MAX + PRESETS_LIST_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    config_problem(given->loader, given->place, "stream.%s.%s%s%s%s", given->stream->name,
                   given->key, given->text != NULL ? " = " : "",
                   given->text != NULL ? given->text : "", text);
}

static bool config_stream_has_prefix(struct slice text, const char *prefix)
{
    return text.len >= strlen(prefix) && memcmp(text.data, prefix, strlen(prefix)) == 0;
}

/* ---- path ---- */

static bool config_stream_has_path(const struct config_stream *stream, const char *path)
{
    for (size_t i = 0; i < stream->path_count; i++)
        if (strcmp(stream->paths[i], path) == 0)
            return true;
    return false;
}

/* Two streams have a path in common. Of paths that a preset gives it is told once, and what to
 * write, since nobody has written them. */
static void config_stream_tell_shared(const struct given *given, const struct config_stream *other,
                                      const char *path)
{
    const struct config_stream *stream = given->stream;

    if (given->own || given->text == NULL) {
        config_stream_problem(given, ": %s is the path of stream.%s too%s%s", path, other->name,
                              other->preset != NULL ? ", which has preset = " : "",
                              other->preset != NULL ? other->preset : "");
        return;
    }
    for (size_t i = 0; i < stream->path_count; i++)
        if (config_stream_has_path(other, stream->paths[i]))
            return;
    config_problem(given->loader, given->place,
                   "stream.%s: %s is a path of its preset %s and of stream.%s too: write "
                   "path = /%s/* in stream.%s, and let its clients send to http://HOST:PORT/%s",
                   stream->name, path, stream->preset, other->name, stream->name, stream->name,
                   stream->name);
}

static void config_stream_check_path(const struct given *given, const char *path)
{
    const struct config *config = given->loader->config;
    const char *star = strchr(path, '*');

    if (path[0] != '/')
        config_stream_problem(given, ": a path must begin with /");
    else if (!config_is_visible(path, "?#"))
        config_stream_problem(given, ": must be visible ASCII characters without ? and #");
    else if (star != NULL && (star[1] != '\0' || star[-1] != '/'))
        config_stream_problem(given, ": a * stands at the end of a path alone, behind a /");
    for (const struct config_stream *other = config->streams; other <= given->stream; other++) {
        if (!config_stream_has_path(other, path))
            continue;
        if (other == given->stream)
            config_stream_problem(given, ": %s is given twice", path);
        else
            config_stream_tell_shared(given, other, path);
    }
}

static void config_stream_read_path(const struct given *given)
{
    struct config_stream *stream = given->stream;
    char usual[CONFIG_STREAM_NAME_MAX + sizeof("/v1/")];

    snprintf(usual, sizeof(usual), "/v1/%s", stream->name);
    for (const char *at = given->text != NULL ? given->text : usual; at != NULL;) {
        struct config_item item = config_first_item(at);
        char *path;

        if (stream->path_count == CONFIG_PATHS_MAX) {
            config_stream_problem(given, ": there can be at most %d paths", CONFIG_PATHS_MAX);
            return;
        }
        /* /x/ is /x, and / alone stays. */
        while (item.len > 1 && item.at[item.len - 1] == '/')
            item.len--;
        path = config_copy(given->loader, item.at, item.len);
        if (path == NULL)
            return;
        config_stream_check_path(given, path);
        stream->paths[stream->path_count++] = path;
        at = item.next;
    }
}

/* ---- table ---- */

static void config_stream_read_table(const struct given *given)
{
    char database[CONFIG_NAME_MAX + 1], table[CONFIG_NAME_MAX + 1];
    char text[2 * CONFIG_NAME_TEXT_MAX + 2] = "";
    const char *why = NULL, *at = given->text;

    if (at == NULL) {
        config_stream_problem(given, " is missing: name the ClickHouse table as db.table");
        return;
    }
    at = config_name_read(at, ".", database, &why);
    if (at != NULL && *at != '.')
        why = "the dot between them is missing";
    else if (at != NULL)
        at = config_name_read(at + 1, ".", table, &why);
    if (why == NULL && *at != '\0')
        why = "a name with a dot in it must stand in back-quotes, as in `my.db`.t";
    if (why != NULL) {
        config_stream_problem(given, ": must be db.table: %s", why);
        return;
    }
    config_name_append(text, database);
    strcat(text, ".");
    config_name_append(text, table);
    given->stream->database = config_copy(given->loader, database, strlen(database));
    given->stream->table = config_copy(given->loader, table, strlen(table));
    given->stream->table_text = config_copy(given->loader, text, strlen(text));
}

static void config_stream_read_proof(const struct given *given)
{
    char name[CONFIG_NAME_MAX + 1];
    const char *why = NULL, *end;

    if (given->text == NULL || *given->text == '\0')
        return;
    end = config_name_read(given->text, CONFIG_NAME_STOPS, name, &why);
    if (end == NULL || *end != '\0')
        config_stream_problem(given, ": must be a column's name: %s",
                              why != NULL ? why : "one, in back-quotes unless it is a plain word");
    else
        given->stream->proof = config_copy(given->loader, name, strlen(name));
}

/* ---- id ---- */

/* The header's name behind a prefix, in lower case; NULL: out of memory, or it is no name, which
 * has been reported. */
static char *config_stream_header(const struct given *given, struct slice text, const char *prefix)
{
    const size_t skip = strlen(prefix);
    const struct slice name = {text.data + skip, text.len - skip};
    char *copy;

    if (!text_is_name(name.data, name.len, "-_.")) {
        config_stream_problem(given, ": %s must be followed by a header's name", prefix);
        return NULL;
    }
    copy = config_copy(given->loader, name.data, name.len);
    for (char *at = copy; at != NULL && *at != '\0'; at++)
        if (*at >= 'A' && *at <= 'Z')
            *at = (char)(*at + ('a' - 'A'));
    return copy;
}

static void config_stream_add_source(const struct given *given, struct slice text, size_t field)
{
    struct config_stream *stream = given->stream;
    struct config_id_source source = {.kind = CONFIG_ID_MEMBER, .field = field};

    if (stream->id_count == CONFIG_ID_SOURCES_MAX) {
        config_stream_problem(given, ": there can be at most %d fields and alternatives",
                              CONFIG_ID_SOURCES_MAX);
        return;
    }
    if (config_stream_has_prefix(text, HEADER_PREFIX)) {
        source.kind = CONFIG_ID_HEADER;
        source.name = config_stream_header(given, text, HEADER_PREFIX);
    } else if (config_stream_has_prefix(text, PERCENT_PREFIX)) {
        source.kind = CONFIG_ID_PERCENT;
        source.name = config_stream_header(given, text, PERCENT_PREFIX);
    } else {
        if (text.data[0] == '/')
            source.kind = CONFIG_ID_POINTER;
        source.name = config_copy(given->loader, text.data, text.len);
    }
    if (source.name == NULL)
        return;
    for (size_t i = 0; i < stream->id_count; i++)
        if (stream->ids[i].kind == source.kind && strcmp(stream->ids[i].name, source.name) == 0)
            config_stream_problem(given, ": the field %s is given twice", source.name);
    stream->ids[stream->id_count++] = source;
}

static struct slice config_stream_trim(const char *begin, const char *end)
{
    while (begin < end && (*begin == ' ' || *begin == '\t'))
        begin++;
    while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return (struct slice){begin, (size_t)(end - begin)};
}

/* One field: its sources, with | between them. */
static void config_stream_read_field(const struct given *given, struct config_item item,
                                     size_t field)
{
    const char *at = item.at, *const end = item.at + item.len;

    for (;;) {
        const char *bar = memchr(at, '|', (size_t)(end - at));
        struct slice source = config_stream_trim(at, bar != NULL ? bar : end);

        if (source.len == 0)
            config_stream_problem(given, ": there is an empty field");
        else
            config_stream_add_source(given, source, field);
        if (bar == NULL)
            return;
        at = bar + 1;
    }
}

static void config_stream_read_id(const struct given *given)
{
    size_t field = 0;

    for (const char *at = given->text != NULL ? given->text : DEFAULT_ID; at != NULL; field++) {
        struct config_item item = config_first_item(at);

        if (field == CONFIG_ID_FIELDS_MAX) {
            config_stream_problem(given, ": there can be at most %d fields", CONFIG_ID_FIELDS_MAX);
            return;
        }
        config_stream_read_field(given, item, field);
        at = item.next;
    }
}

/* ---- words and texts ---- */

/* The index of the given word; count: it is none, which has been reported. */
static size_t config_stream_read_word(const struct given *given, const char *const *words,
                                      size_t count, size_t usual)
{
    if (given->text == NULL)
        return usual;
    for (size_t i = 0; i < count; i++)
        if (strcmp(given->text, words[i]) == 0)
            return i;
    if (count == 2)
        config_stream_problem(given, ": must be %s or %s", words[0], words[1]);
    else
        config_stream_problem(given, ": must be %s, %s or %s", words[0], words[1], words[2]);
    return count;
}

static void config_stream_read_answer(const struct given *given)
{
    const char *text = given->text;
    struct config_stream *stream = given->stream;

    stream->answer_status = ANSWER_NONE;
    if (text == NULL || *text == '\0')
        return;
    if ((strncmp(text, "200", 3) != 0 && strncmp(text, "202", 3) != 0 &&
         strncmp(text, "201", 3) != 0 && strncmp(text, "204", 3) != 0) ||
        (text[3] != '\0' && text[3] != ' ')) {
        config_stream_problem(given, ": must be 200, 201, 202 or 204, and the body behind it");
        return;
    }
    stream->answer_status = 200 + (text[2] - '0');
    text += 3 + strspn(text + 3, " ");
    if (strlen(text) > CONFIG_ANSWER_MAX)
        config_stream_problem(given, ": the body is longer than %d bytes", CONFIG_ANSWER_MAX);
    else if (stream->answer_status == 204 && *text != '\0')
        config_stream_problem(given, ": 204 has no body");
    else
        stream->answer = config_copy(given->loader, text, strlen(text));
}

/* Read after answer, whose status it shares. */
static void config_stream_read_answer_verbose(const struct given *given)
{
    const char *text = given->text != NULL ? given->text : "";
    struct config_stream *stream = given->stream;

    if (*text == '\0')
        return;
    if (strlen(text) > CONFIG_ANSWER_MAX)
        config_stream_problem(given, ": the body is longer than %d bytes", CONFIG_ANSWER_MAX);
    else if (stream->answer != NULL && stream->answer_status != 204)
        stream->answer_verbose = config_copy(given->loader, text, strlen(text));
    else if (given->own) /* a preset's stays without effect when the section has its own answer */
        config_stream_problem(given, ": needs answer with a body");
}

static void config_stream_read_events(const struct given *given)
{
    if (given->text != NULL && *given->text != '\0')
        given->stream->events = config_copy(given->loader, given->text, strlen(given->text));
}

static void config_stream_read_key_member(const struct given *given)
{
    struct config_stream *stream = given->stream;

    if (given->text == NULL || *given->text == '\0')
        return;
    for (const char *at = given->text; at != NULL;) {
        struct config_item item = config_first_item(at);

        if (item.len == 0) {
            config_stream_problem(given, ": there is an empty member");
            return;
        }
        if (stream->key_member_count == CONFIG_KEY_MEMBERS_MAX) {
            config_stream_problem(given, ": there can be at most %d members",
                                  CONFIG_KEY_MEMBERS_MAX);
            return;
        }
        stream->key_members[stream->key_member_count] =
            config_copy(given->loader, item.at, item.len);
        if (stream->key_members[stream->key_member_count] == NULL)
            return;
        stream->key_member_count++;
        at = item.next;
    }
}

/* ---- columns ---- */

/* A column's name as JSON, in quotes and with a colon. False: it is too long. */
static bool config_stream_member(const char *name, char out[CONFIG_COLUMN_MEMBER_MAX + 1])
{
    size_t len = 1, left = strlen(name), taken;

    out[0] = '"';
    for (; left > 0; name += taken, left -= taken) {
        if (len + TEXT_ESCAPE_MAX + 2 > CONFIG_COLUMN_MEMBER_MAX)
            return false;
        len += text_escape(name, left, &taken, out + len);
    }
    memcpy(out + len, "\":", 3);
    return true;
}

void config_stream_give_column(struct config_loader *loader, size_t index, int place,
                               const char *written, const char *text)
{
    struct config_given_column *column = loader->streams[index].columns;
    const char *stream = loader->config->streams[index].name;
    char name[CONFIG_NAME_MAX + 1], member[CONFIG_COLUMN_MEMBER_MAX + 1];
    const char *why = NULL, *end = config_name_read(written, "", name, &why);
    size_t i = 0;

    if (end != NULL && *end != '\0')
        why = "there is text behind the closing quote of the name";
    else if (end != NULL && !config_stream_member(name, member))
        why = "the name is too long";
    if (why != NULL) {
        config_problem(loader, place, "stream.%s." CONFIG_COLUMN_PREFIX "%s: %s", stream, written,
                       why);
        return;
    }
    while (i < loader->streams[index].column_count && strcmp(column[i].name, name) != 0)
        i++;
    if (i == CONFIG_COLUMNS_MAX) {
        config_problem(loader, place, "stream.%s: there can be at most %d columns", stream,
                       CONFIG_COLUMNS_MAX);
        return;
    }
    if (i == loader->streams[index].column_count) {
        column[i].name = config_copy(loader, name, strlen(name));
        if (column[i].name == NULL)
            return;
        loader->streams[index].column_count++;
    } else if (place > 0 && column[i].place > 0) {
        char first[CONFIG_PLACE_MAX];

        config_problem(loader, place,
                       "stream.%s." CONFIG_COLUMN_PREFIX "%s is given twice; the first is %s",
                       stream, written, config_place_text(loader, place, column[i].place, first));
        return;
    }
    free(column[i].text);
    column[i].text = config_copy(loader, text, strlen(text));
    column[i].place = place;
}

/* The name of a member around the events; NULL: out of memory, or there is no such place, which has
 * been reported. */
static char *config_stream_envelope(const struct given *given, const char *name)
{
    if (given->stream->events == NULL)
        config_stream_problem(given, ": needs events, the member whose array holds the events");
    else if (strcmp(name, given->stream->events) == 0)
        config_stream_problem(given, ": the array of the events itself is no column");
    else
        return config_copy(given->loader, name, strlen(name));
    return NULL;
}

static void config_stream_add_column(struct given *given, const char *name)
{
    struct config_stream *stream = given->stream;
    struct config_column column = {.name = NULL};
    const struct slice text = {given->text, strlen(given->text)};
    char member[CONFIG_COLUMN_MEMBER_MAX + 1] = "";
    size_t word = 0;

    for (size_t i = 0; i < stream->column_count; i++)
        if (strcmp(stream->columns[i].name, name) == 0)
            return; /* the stream's own stands before its preset's */
    if (stream->column_count == CONFIG_COLUMNS_MAX) {
        config_stream_problem(given, ": there can be at most %d columns", CONFIG_COLUMNS_MAX);
        return;
    }
    while (word < ARRAY_LEN(column_words) && strcmp(column_words[word], given->text) != 0)
        word++;
    column.kind = (enum config_column_kind)word;
    if (config_stream_has_prefix(text, HEADER_PREFIX) ||
        config_stream_has_prefix(text, PERCENT_PREFIX)) {
        const bool percent = text.data[0] == PERCENT_PREFIX[0];

        column.kind = percent ? CONFIG_COLUMN_PERCENT : CONFIG_COLUMN_HEADER;
        column.argument =
            config_stream_header(given, text, percent ? PERCENT_PREFIX : HEADER_PREFIX);
        if (column.argument == NULL)
            return;
    } else if (config_stream_has_prefix(text, QUERY_PREFIX) && text.len > strlen(QUERY_PREFIX)) {
        column.kind = CONFIG_COLUMN_QUERY;
        column.argument = config_copy(given->loader, text.data + strlen(QUERY_PREFIX),
                                      text.len - strlen(QUERY_PREFIX));
    } else if (config_stream_has_prefix(text, ENVELOPE_PREFIX) &&
               text.len > strlen(ENVELOPE_PREFIX)) {
        column.kind = CONFIG_COLUMN_ENVELOPE;
        column.argument = config_stream_envelope(given, text.data + strlen(ENVELOPE_PREFIX));
        if (column.argument == NULL)
            return;
    } else if (word == ARRAY_LEN(column_words)) {
        config_stream_problem(given,
                              ": must be received_at, client_address, user_agent, key, path, "
                              "header:NAME, percent:NAME, query:NAME or envelope:NAME");
        return;
    }
    /* Names were looked at when they were given; a preset's are plain. */
    (void)config_stream_member(name, member);
    column.name = config_copy(given->loader, name, strlen(name));
    column.member = config_copy(given->loader, member, strlen(member));
    if (column.name == NULL || column.member == NULL) {
        free(column.name);
        free(column.member);
        free(column.argument);
        return;
    }
    stream->columns[stream->column_count++] = column;
}

static void config_stream_read_columns(struct config_loader *loader, size_t index,
                                       const struct config_preset *preset)
{
    char key[sizeof(CONFIG_COLUMN_PREFIX) + CONFIG_NAME_TEXT_MAX];
    struct given given = {.loader = loader, .stream = &loader->config->streams[index], .key = key};

    for (size_t i = 0; i < loader->streams[index].column_count; i++) {
        const struct config_given_column *column = &loader->streams[index].columns[i];

        if (column->text == NULL)
            continue;
        snprintf(key, sizeof(key), CONFIG_COLUMN_PREFIX);
        config_name_append(key, column->name);
        given.text = column->text;
        given.place = column->place;
        config_stream_add_column(&given, column->name);
    }
    for (size_t i = 0; preset != NULL && i < CONFIG_COLUMNS_MAX && preset->columns[i].name; i++) {
        snprintf(key, sizeof(key), CONFIG_COLUMN_PREFIX "%s", preset->columns[i].name);
        given.text = preset->columns[i].text;
        given.place = loader->streams[index].place;
        config_stream_add_column(&given, preset->columns[i].name);
    }
}

/* ---- all of it ---- */

static const struct config_preset *config_stream_read_preset(const struct given *given)
{
    char names[PRESETS_LIST_MAX];
    const struct config_preset *preset;

    if (given->text == NULL || *given->text == '\0')
        return NULL;
    preset = config_find_preset(given->text);
    if (preset == NULL) {
        config_list_presets(names, sizeof(names));
        config_stream_problem(given, ": there is no such preset; there are %s", names);
        return NULL;
    }
    given->stream->preset = config_copy(given->loader, given->text, strlen(given->text));
    return preset;
}

void config_stream_check(struct config_loader *loader, size_t index)
{
    static const char *const switches[] = {"off", "on"};
    static const char *const conflicts[] = {"refuse", "event"};
    static const char *const verdicts[] = {"ignore", "refuse"};
    struct config_stream *stream = &loader->config->streams[index];
    const struct config_preset *preset;
    struct given given = config_stream_given(loader, index, NULL, STREAM_KEY_PRESET);

    preset = config_stream_read_preset(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_PATH);
    config_stream_read_path(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_TABLE);
    config_stream_read_table(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_EVENTS);
    config_stream_read_events(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_ID);
    config_stream_read_id(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_MISSING_ID);
    stream->missing_id =
        (int)config_stream_read_word(&given, missing_words, ARRAY_LEN(missing_words), 0);
    given = config_stream_given(loader, index, preset, STREAM_KEY_KEY_MEMBER);
    config_stream_read_key_member(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_PARTIAL);
    stream->partial = config_stream_read_word(&given, switches, 2, 0) == 1;
    given = config_stream_given(loader, index, preset, STREAM_KEY_SCHEMA);
    stream->schema = (int)config_stream_read_word(&given, schema_words, ARRAY_LEN(schema_words),
                                                  CONFIG_SCHEMA_WARN);
    given = config_stream_given(loader, index, preset, STREAM_KEY_ON_UNKNOWN);
    stream->refuse_unknown = config_stream_read_word(&given, verdicts, 2, 0) == 1;
    given = config_stream_given(loader, index, preset, STREAM_KEY_ON_MISSING);
    stream->refuse_missing = config_stream_read_word(&given, verdicts, 2, 0) == 1;
    given = config_stream_given(loader, index, preset, STREAM_KEY_ANSWER);
    config_stream_read_answer(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_ANSWER_VERBOSE);
    config_stream_read_answer_verbose(&given);
    given = config_stream_given(loader, index, preset, STREAM_KEY_COLUMN_CONFLICT);
    stream->column_yields = config_stream_read_word(&given, conflicts, 2, 0) == 1;
    config_stream_read_columns(loader, index, preset);
    given = config_stream_given(loader, index, preset, STREAM_KEY_PROOF);
    config_stream_read_proof(&given);
    if (stream->ttl_ms == 0)
        stream->ttl_ms = loader->config->redis_ttl_ms;
}

void config_stream_fini(struct config_stream *stream)
{
    if (stream->shared)
        return;
    free(stream->name);
    free(stream->preset);
    for (size_t i = 0; i < stream->path_count; i++)
        free(stream->paths[i]);
    free(stream->database);
    free(stream->table);
    free(stream->table_text);
    free(stream->events);
    free(stream->proof);
    for (size_t i = 0; i < stream->id_count; i++)
        free(stream->ids[i].name);
    for (size_t i = 0; i < stream->key_member_count; i++)
        free(stream->key_members[i]);
    free(stream->answer);
    free(stream->answer_verbose);
    for (size_t i = 0; i < stream->column_count; i++) {
        free(stream->columns[i].name);
        free(stream->columns[i].member);
        free(stream->columns[i].argument);
    }
}

/* Appends to text, which has room for size bytes; what does not fit is cut. */
static PRINTF_LIKE(3, 4) void config_stream_put(char *text, size_t size, const char *format, ...)
{
    const size_t len = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + len, size - len, format, args);
    va_end(args);
}

#define FORMATTED_MAX 4096

static void config_stream_format_paths(const struct config_stream *stream, char *out)
{
    out[0] = '\0';
    for (size_t i = 0; i < stream->path_count; i++)
        config_stream_put(out, FORMATTED_MAX, "%s%s", i > 0 ? ", " : "", stream->paths[i]);
}

static void config_stream_format_ids(const struct config_stream *stream, char *out)
{
    out[0] = '\0';
    for (size_t i = 0; i < stream->id_count; i++) {
        const struct config_id_source *id = &stream->ids[i];
        const char *before = i == 0 ? "" : id->field == id[-1].field ? "|" : ", ";

        config_stream_put(out, FORMATTED_MAX, "%s%s%s", before,
                          id->kind == CONFIG_ID_HEADER    ? HEADER_PREFIX
                          : id->kind == CONFIG_ID_PERCENT ? PERCENT_PREFIX
                                                          : "",
                          id->name);
    }
}

static void config_stream_format_key_members(const struct config_stream *stream, char *out)
{
    out[0] = '\0';
    for (size_t i = 0; i < stream->key_member_count; i++)
        config_stream_put(out, FORMATTED_MAX, "%s%s", i > 0 ? ", " : "", stream->key_members[i]);
}

static void config_stream_format_answer(const struct config_stream *stream, char *out)
{
    out[0] = '\0';
    if (stream->answer_status != ANSWER_NONE)
        config_stream_put(out, FORMATTED_MAX, "%d%s%s", stream->answer_status,
                          *stream->answer != '\0' ? " " : "", stream->answer);
}

static void config_stream_format_column(const struct config_column *column, char *out)
{
    out[0] = '\0';
    if (column->kind >= ARRAY_LEN(column_words))
        config_stream_put(out, FORMATTED_MAX, "%s%s",
                          column_prefixes[column->kind - ARRAY_LEN(column_words)],
                          column->argument);
    else
        config_stream_put(out, FORMATTED_MAX, "%s", column_words[column->kind]);
}

static void config_stream_put_line(FILE *out, const char *key, const char *text)
{
    fprintf(out, "%s =%s%s\n", key, *text == '\0' ? "" : " ", text);
}

void config_stream_dump(const struct config_stream *stream, FILE *out)
{
    char text[FORMATTED_MAX], name[CONFIG_NAME_TEXT_MAX + 1] = "";

    fprintf(out, "\n[stream.%s]\n", stream->name);
    if (stream->preset != NULL)
        config_stream_put_line(out, "preset", stream->preset);
    config_stream_format_paths(stream, text);
    config_stream_put_line(out, "path", text);
    config_stream_put_line(out, "table", stream->table_text);
    config_stream_put_line(out, "events", stream->events != NULL ? stream->events : "");
    config_stream_format_ids(stream, text);
    config_stream_put_line(out, "id", text);
    config_stream_put_line(out, "missing_id", missing_words[stream->missing_id]);
    config_stream_format_key_members(stream, text);
    config_stream_put_line(out, "key_member", text);
    config_stream_put_line(out, "partial", stream->partial ? "on" : "off");
    config_stream_put_line(out, "schema", schema_words[stream->schema]);
    config_stream_put_line(out, "on_unknown", stream->refuse_unknown ? "refuse" : "ignore");
    config_stream_put_line(out, "on_missing", stream->refuse_missing ? "refuse" : "ignore");
    config_stream_format_answer(stream, text);
    config_stream_put_line(out, "answer", text);
    config_stream_put_line(out, "answer_verbose",
                           stream->answer_verbose != NULL ? stream->answer_verbose : "");
    if (stream->proof != NULL)
        config_name_append(name, stream->proof);
    config_stream_put_line(out, "proof", name);
    for (size_t i = 0; i < stream->column_count; i++) {
        name[0] = '\0';
        config_name_append(name, stream->columns[i].name);
        config_stream_format_column(&stream->columns[i], text);
        fprintf(out, CONFIG_COLUMN_PREFIX "%s = %s\n", name, text);
    }
    config_stream_put_line(out, "column_conflict", stream->column_yields ? "event" : "refuse");
    config_value_format(&config_keys[KEY_redis_ttl], stream->ttl_ms, text);
    config_stream_put_line(out, "ttl", text);
}

static bool config_stream_same_columns(const struct config_stream *a, const struct config_stream *b)
{
    char one[FORMATTED_MAX], other[FORMATTED_MAX];

    for (size_t i = 0; i < a->column_count && i < b->column_count; i++) {
        config_stream_format_column(&a->columns[i], one);
        config_stream_format_column(&b->columns[i], other);
        if (strcmp(a->columns[i].name, b->columns[i].name) != 0 || strcmp(one, other) != 0)
            return false;
    }
    return a->column_count == b->column_count;
}

static bool config_stream_same_text(const char *a, const char *b)
{
    return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

void config_stream_compare(const struct config_stream *a, const struct config_stream *b,
                           config_stream_changed_fn changed, void *arg)
{
    static void (*const formats[])(const struct config_stream *, char *) = {
        config_stream_format_paths, config_stream_format_ids, config_stream_format_answer,
        config_stream_format_key_members};
    static const char *const keys[] = {"path", "id", "answer", "key_member"};
    const struct {
        const char *key, *a, *b;
    } texts[] = {{"preset", a->preset, b->preset},
                 {"events", a->events, b->events},
                 {"proof", a->proof, b->proof},
                 {"answer_verbose", a->answer_verbose, b->answer_verbose}};
    const struct {
        const char *key;
        int a, b;
    } words[] = {{"missing_id", a->missing_id, b->missing_id},
                 {"partial", a->partial, b->partial},
                 {"schema", a->schema, b->schema},
                 {"on_unknown", a->refuse_unknown, b->refuse_unknown},
                 {"on_missing", a->refuse_missing, b->refuse_missing},
                 {"column_conflict", a->column_yields, b->column_yields}};
    char one[FORMATTED_MAX], other[FORMATTED_MAX];

    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        formats[i](a, one);
        formats[i](b, other);
        if (strcmp(one, other) != 0)
            changed(arg, keys[i], false);
        if (i == 0 && strcmp(a->table_text, b->table_text) != 0)
            changed(arg, "table", false);
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (!config_stream_same_text(texts[i].a, texts[i].b))
            changed(arg, texts[i].key, false);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (words[i].a != words[i].b)
            changed(arg, words[i].key, false);
    if (!config_stream_same_columns(a, b))
        changed(arg, "column", false);
    if (a->ttl_ms != b->ttl_ms)
        changed(arg, "ttl", false);
}
