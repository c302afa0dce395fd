/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusal_stats.c - what /stats tells of refused requests, inserts and events.
 *
 * Runs on: the admin thread.
 * Owns: nothing.
 */
#include "refusal_stats.h"

#include <stdlib.h>

#include "alloy/clock.h"

/* null for what is not known. */
static json_t *refusal_text(const char *text)
{
    return text[0] != '\0' ? json_string(text) : json_null();
}

static json_t *refusal_number(bool known, uint64_t number)
{
    return known ? json_integer((json_int_t)number) : json_null();
}

static json_t *refusal_note(const struct refusal_note *note, const struct config *config)
{
    const char *stream =
        note->stream < config->stream_count ? config->streams[note->stream].name : "";
    char time[32], address[ADDRESS_TEXT_MAX];

    clock_format_iso(note->time_ms, time);
    address_format(&note->address, address);
    return json_pack("{s:s,s:o,s:s,s:i,s:s,s:o,s:o,s:o,s:o,s:o,s:o}", "time", time, "address",
                     refusal_text(address), "stream", stream, "status",
                     (int)error_code_status(note->error), "error", error_code_name(note->error),
                     "message", refusal_text(note->message), "event",
                     refusal_number(note->has_event, note->event), "offset",
                     refusal_number(note->has_offset, note->offset), "key", refusal_text(note->key),
                     "method", refusal_text(note->method), "path", refusal_text(note->path));
}

json_t *refusal_stats_counts(const struct exposition_view *view, size_t stream)
{
    json_t *counts = json_object();

    for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++) {
        const uint64_t n = view->snapshot.answers[stream][error];

        if (n > 0)
            json_object_set_new(counts, error_code_name((enum error_code)error),
                                json_integer((json_int_t)n));
    }
    return counts;
}

/* What may quote an event was noted only while it was to be shown, and is shown only then. */
static json_t *refusal_setback(const struct setback *setback, enum setback_kind kind,
                               const struct config *config)
{
    const bool shown = config->admin_show_events;
    char time[32], first[32];
    json_t *json;

    clock_format_iso(setback->time_ms, time);
    clock_format_iso(setback->first_ms, first);
    json = json_pack("{s:s,s:s,s:I,s:s,s:o,s:o}", "time", time, "first", first, "times",
                     (json_int_t)setback->times, "stream",
                     setback->stream < config->stream_count ? config->streams[setback->stream].name
                                                            : "",
                     "code", refusal_number(setback->code != 0, (uint64_t)setback->code), "message",
                     shown || setback->told ? refusal_text(setback->message) : json_null());
    if (kind == SETBACK_LETTER) {
        json_object_set_new(json, "event", shown ? refusal_text(setback->event) : json_null());
        return json;
    }
    json_object_set_new(json, "class", json_string(setback->class));
    json_object_set_new(json, "status",
                        refusal_number(setback->status != 0, (uint64_t)setback->status));
    json_object_set_new(json, "rows", json_integer((json_int_t)setback->rows));
    return json;
}

json_t *refusal_stats_setbacks(struct setbacks *setbacks, enum setback_kind kind,
                               const struct config *config)
{
    struct setback *entries = malloc(SETBACKS_KEPT * sizeof(*entries));
    json_t *list = json_array();
    size_t count = 0;

    if (setbacks != NULL && entries != NULL)
        count = setbacks_read(setbacks, kind, entries);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, refusal_setback(&entries[i], kind, config));
    free(entries);
    return list;
}

json_t *refusal_stats_list(const struct front_parts *parts)
{
    struct refusal_note *notes = malloc(REFUSALS_KEPT * sizeof(*notes));
    json_t *list = json_array();
    size_t count = 0;

    if (parts->refusals != NULL && notes != NULL)
        count = refusals_read(parts->refusals, notes);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, refusal_note(&notes[i], config_current(parts->config)));
    free(notes);
    return list;
}
