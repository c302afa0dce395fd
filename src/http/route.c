/* SPDX-License-Identifier: Apache-2.0 */
/*
 * route.c - which stream a request's path belongs to.
 *
 * There are nearly always a handful of paths: comparing lengths first beats a hash.
 *
 * Runs on: route_init() before the threads start; route_find() any thread.
 * Owns: nothing; names and paths are the configuration's.
 */
#include "alloy/route.h"

#include <stdio.h>
#include <string.h>

static void route_add_path(struct route_table *table, const char *text, size_t stream)
{
    const size_t len = strlen(text);
    const bool all = text[len - 1] == '*';

    table->paths[table->count++] =
        (struct route_path){.text = {text, len - all}, .all = all, .stream = (uint16_t)stream};
}

/* The slot of a member's name, which sources may share. */
static size_t route_name(struct json_scan_fields *fields, struct slice name)
{
    for (size_t i = 0; i < fields->count; i++)
        if (fields->names[i].len == name.len &&
            memcmp(fields->names[i].data, name.data, name.len) == 0)
            return i;
    fields->names[fields->count] = name;
    return fields->count++;
}

/* The name that a JSON Pointer's token stands for (RFC 6901: ~1 is / and ~0 is ~). */
static struct slice route_decode(struct route *route, struct slice token)
{
    char *out = route->decoded + route->decoded_len;
    size_t len = 0;

    if (memchr(token.data, '~', token.len) == NULL ||
        token.len > sizeof(route->decoded) - route->decoded_len)
        return token;
    for (size_t at = 0; at < token.len; at++) {
        char byte = token.data[at];

        if (byte == '~' && at + 1 < token.len)
            byte = token.data[++at] == '1' ? '/' : '~';
        out[len++] = byte;
    }
    route->decoded_len += len;
    return (struct slice){out, len};
}

/* Splits a JSON Pointer, or takes a name as it is. */
static struct json_scan_wanted route_wanted(struct route *route, const char *text)
{
    const char *end;

    if (text[0] != '/')
        return (struct json_scan_wanted){.name = {text, strlen(text)}, .rest = {"", 0}};
    end = text + 1 + strcspn(text + 1, "/");
    return (struct json_scan_wanted){
        .name = route_decode(route, (struct slice){text + 1, (size_t)(end - text - 1)}),
        .rest = {end, strlen(end)}};
}

static void route_want(struct route *route, struct json_scan_search *search, const char *text)
{
    search->events = route->fields.events;
    search->wanted[search->count++] = route_wanted(route, text);
}

static void route_add_source(struct route *route, const struct config_id_source *id)
{
    const struct json_scan_wanted wanted = route_wanted(route, id->name);
    struct json_scan_fields *fields = &route->fields;
    struct json_scan_source *source = &fields->sources[fields->source_count];

    *source = (struct json_scan_source){.kind = JSON_SCAN_OF_MEMBER, .part = id->field};
    switch (id->kind) {
    case CONFIG_ID_MEMBER:
    case CONFIG_ID_POINTER:
        source->name = route_name(fields, wanted.name);
        source->rest = wanted.rest;
        break;
    case CONFIG_ID_PERCENT:
        route->percent |= 1u << fields->source_count;
        __attribute__((fallthrough));
    case CONFIG_ID_HEADER:
        source->kind = JSON_SCAN_OF_HEADER;
        route->headers[fields->source_count] = id->name;
        route->has_headers = true;
        break;
    }
    fields->source_count++;
}

/* Names in one sentence all that an id may come from. */
static void route_tell_missing(struct route *route)
{
    const struct config_stream *stream = route->stream;
    char *out = route->missing_problem;
    size_t len = (size_t)snprintf(out, ROUTE_PROBLEM_MAX, "No id: the event has no ");

    for (size_t i = 0; i < stream->id_count && len < ROUTE_PROBLEM_MAX; i++) {
        const struct config_id_source *id = &stream->ids[i];
        const char *before = i == 0 ? "" : id->field == id[-1].field ? " or " : ", ";
        const bool header = id->kind == CONFIG_ID_HEADER || id->kind == CONFIG_ID_PERCENT;

        len += (size_t)snprintf(out + len, ROUTE_PROBLEM_MAX - len, "%s%s \"%s\"", before,
                                header ? "header" : "field", id->name);
    }
    if (len < ROUTE_PROBLEM_MAX)
        snprintf(out + len, ROUTE_PROBLEM_MAX - len, " (stream %s).", stream->name);
    route->fields.missing_problem = out;
}

/* An id that is not in the event stands beside it: the scanner makes one, and that one counts only
 * where there is no other. */
static void route_fill_letter(struct route *route)
{
    static const char *const members[ROUTE_LETTER_MEMBERS] = {[ROUTE_LETTER_ID] = "id",
                                                              [ROUTE_LETTER_ID_HEX] = "id_hex",
                                                              [ROUTE_LETTER_COLUMNS] = "columns"};
    static const struct slice event = {"event", 5};

    route->letter_fields = route->fields;
    route->letter_fields.events = event;
    if (route->fields.missing == JSON_SCAN_REFUSE_MISSING && route->has_headers)
        route->letter_fields.missing = JSON_SCAN_GENERATE;
    for (size_t i = 0; i < ROUTE_LETTER_MEMBERS; i++)
        route->letter_members.wanted[i].name = (struct slice){members[i], strlen(members[i])};
    route->letter_members.count = route->letter_members.enough = ROUTE_LETTER_MEMBERS;
    route->letter_members.events = event;
}

static void route_fill(struct route *route, const struct config_stream *stream)
{
    static const enum json_scan_missing missing[] = {[CONFIG_MISSING_REFUSE] =
                                                         JSON_SCAN_REFUSE_MISSING,
                                                     [CONFIG_MISSING_GENERATE] = JSON_SCAN_GENERATE,
                                                     [CONFIG_MISSING_HASH] = JSON_SCAN_HASH};

    size_t id_names;

    route->stream = stream;
    for (size_t i = 0; i < stream->id_count; i++)
        route_add_source(route, &stream->ids[i]);
    if (stream->events != NULL)
        route->fields.events = (struct slice){stream->events, strlen(stream->events)};
    id_names = route->fields.count;
    for (size_t i = 0; i < stream->column_count; i++)
        route->fields.columns[i] =
            (uint8_t)route_name(&route->fields, (struct slice){stream->columns[i].name,
                                                               strlen(stream->columns[i].name)});
    for (size_t i = 0; i < stream->column_count; i++)
        if (stream->columns[i].kind == CONFIG_COLUMN_ENVELOPE)
            route_want(route, &route->envelope, stream->columns[i].argument);
    for (size_t i = 0; i < stream->key_member_count; i++)
        route_want(route, &route->keys, stream->key_members[i]);
    route->envelope.enough = route->envelope.count;
    route->keys.enough = 1;
    route->fields.column_count = stream->column_count;
    route->fields.column_names = route->fields.count - id_names;
    route->fields.columns_yield = stream->column_yields;
    route->fields.missing = missing[stream->missing_id];
    route_tell_missing(route);
    route_fill_letter(route);
}

void route_init(struct route_table *table, const struct config *config)
{
    memset(table, 0, sizeof(*table));
    for (size_t i = 0; i < config->stream_count; i++) {
        const struct config_stream *stream = &config->streams[i];

        route_fill(&table->routes[i], stream);
        for (size_t k = 0; k < stream->path_count; k++)
            route_add_path(table, stream->paths[k], i);
    }
}

static bool route_fits(const struct route_path *path, struct slice text)
{
    return (path->all ? path->text.len < text.len : path->text.len == text.len) &&
           memcmp(path->text.data, text.data, path->text.len) == 0;
}

int route_find(const struct route_table *table, struct slice path)
{
    const struct route_path *found = NULL;

    if (path.len > 1 && path.data[path.len - 1] == '/')
        path.len--;
    for (size_t i = 0; i < table->count; i++) {
        const struct route_path *own = &table->paths[i];

        if (!route_fits(own, path))
            continue;
        if (!own->all)
            return own->stream;
        if (found == NULL || own->text.len > found->text.len)
            found = own;
    }
    return found != NULL ? found->stream : ROUTE_NONE;
}
