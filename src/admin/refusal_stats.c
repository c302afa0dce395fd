/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusal_stats.c - what /stats tells of refused requests.
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
