/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_scan.c - finds in one pass over a request body where each event begins and ends, and its id.
 *
 * json_lex.h skips strings, where nearly all bytes are, and other values that hold none. Around it
 * is a loop without recursion; a bit for each open level says whether it is an array or an object.
 *
 * A helper that skips something gets its first byte and returns the byte after it, or NULL after
 * json_fail(). The caller makes sure that the first byte exists.
 *
 * JSON_SCAN_PORTABLE builds without SSE2; the unit test compiles this file both ways.
 *
 * Runs on: any thread. Owns: nothing; the body belongs to the caller.
 */
#include "alloy/json_scan.h"

#include "alloy/members.h"
#include "json_id.h"
#include "json_lex.h"

#include <string.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

/* What is before offset. */
enum scan_state {
    AT_START,
    IN_SEQUENCE, /* an event of a body without an array */
    IN_ARRAY,    /* an element of the array */
    IN_ENVELOPE, /* an element of the array in an object of a body without one */
};

/* Behind the names' slots in an array of values: the envelope's array. */
#define EVENTS_SLOT JSON_SCAN_NAMES_MAX
#define SLOTS (JSON_SCAN_NAMES_MAX + 1)

/* The slot of the id field that this key names, or NULL. */
static inline const char **json_find_field(struct json_scan *scan, struct slice key, bool escaped,
                                           const char **values)
{
    const struct json_scan_fields *fields = scan->fields;

    if (unlikely(escaped)) {
        /* The id buffer is free until the event is whole, and longer than any name. */
        key.len = members_decode(key, scan->id_buffer, sizeof(scan->id_buffer));
        key.data = scan->id_buffer;
    }
    for (size_t i = 0; i < fields->count; i++) {
        if (key.len == fields->names[i].len &&
            memcmp(key.data, fields->names[i].data, key.len) == 0)
            return &values[i];
    }
    if (fields->events.len > 0 && scan->state == IN_SEQUENCE && key.len == fields->events.len &&
        memcmp(key.data, fields->events.data, key.len) == 0)
        return &values[EVENTS_SLOT];
    return NULL;
}

static bool json_is_column(const struct json_scan_fields *fields, ptrdiff_t slot)
{
    return slot != EVENTS_SLOT && (size_t)slot >= fields->count - fields->column_names;
}

/* Which of the columns an event has itself. */
static uint32_t json_own_columns(const struct json_scan_fields *fields, const char *const *values)
{
    uint32_t own = 0;

    for (size_t i = 0; i < fields->column_count && i < JSON_SCAN_COLUMNS_MAX; i++)
        own |= (uint32_t)(values[fields->columns[i]] != NULL) << i;
    return own;
}

static const char *json_twice(ptrdiff_t slot)
{
    return slot == EVENTS_SLOT ? "The array of events is given twice."
                               : "An id field is given twice.";
}

/* Notes a member of the event's own object for whoever wants to know them. */
static void json_note_member(struct json_scan *scan, struct slice name, bool escaped)
{
    if (scan->member_count < scan->member_max) {
        struct json_scan_member *member = &scan->members[scan->member_count];

        member->name = name.data;
        member->name_len = (uint32_t)name.len;
        member->escaped = escaped;
    }
    scan->member_count++;
}

/* Skips a colon, to the value behind it. */
static inline const char *json_skip_colon(struct json_scan *scan, const char *at, const char *end)
{
    if (likely(end - at >= 2 && at[0] == ':' && (unsigned char)at[1] > ' '))
        return at + 1;
    at = json_next_token(scan, at, end);
    if (unlikely(at == NULL))
        return NULL;
    if (unlikely(*at != ':'))
        return json_fail(scan, at, "A colon was expected.");
    return json_next_token(scan, at + 1, end);
}

/* Goes on with a key of the event's own object behind its closing quote: if it is an id field, the
 * start of its value is noted in values. */
static NOINLINE const char *json_take_key(struct json_scan *scan, struct slice name,
                                          const char *end, bool escaped, const char **values)
{
    const char *at = name.data + name.len + 1;
    const char **value;

    if (scan->members != NULL)
        json_note_member(scan, name, escaped);
    value = json_find_field(scan, name, escaped, values);
    if (value != NULL && *value != NULL && !json_is_column(scan->fields, value - values))
        return json_fail(scan, name.data - 1, json_twice(value - values));
    at = json_skip_colon(scan, at, end);
    if (value != NULL)
        *value = at;
    if (scan->members != NULL && scan->member_count <= scan->member_max)
        scan->members[scan->member_count - 1].value = at;
    return at;
}

/* Whether somebody may want to know of a key of the event's own object. */
static inline bool json_may_matter(const struct json_scan *scan, size_t len, bool escaped)
{
    return (scan->key_lengths >> (len & 63) & 1) != 0 || escaped || scan->members != NULL;
}

/* Skips a key and its colon, to the value. values: NULL, or it is the event's own object's. */
static ALWAYS_INLINE const char *json_skip_key(struct json_scan *scan, struct json_window *window,
                                               const char *at, const char *end, const char **values)
{
    const char *const name = at + 1;
    bool escaped = false;

    if (unlikely(*at != '"'))
        return json_fail(scan, at, "A key was expected.");
    at = json_skip_string(scan, window, at, end, &escaped);
    if (unlikely(at == NULL))
        return NULL;
    if (values != NULL && json_may_matter(scan, (size_t)(at - name) - 1, escaped))
        return json_take_key(scan, (struct slice){name, (size_t)(at - name) - 1}, end, escaped,
                             values);
    return json_skip_colon(scan, at, end);
}

/* Whether the value at at is the array of an envelope. Of an element of that array a member of the
 * same name is the event's own. */
static inline bool json_is_events(const struct json_scan *scan, const char *at,
                                  const char *const *values)
{
    return scan->fields->events.len > 0 && scan->state == IN_SEQUENCE &&
           values[EVENTS_SLOT] == at && *at == '[';
}

/* json_skip_object(), with the window in registers. */
static ALWAYS_INLINE const char *json_walk_object(struct json_scan *scan,
                                                  struct json_window *window, const char *at,
                                                  const char **values, bool resumed)
{
    const char *const end = scan->body + scan->len;
    uint64_t arrays = 0; /* one bit for each open level, the innermost lowest */
    unsigned depth = resumed;

    if (unlikely(scan->paused.at == at)) {
        arrays = scan->paused.arrays;
        depth = scan->paused.depth;
        scan->paused.at = NULL;
    }

    for (;; resumed = false) {
        /* A value begins here. After this block it is whole, or at its closing bracket. */
        if (resumed) {
            ; /* it was the envelope's array */
        } else if (likely(*at == '"') || (*at != '{' && *at != '[')) {
            at = json_skip_scalar(scan, window, at, end);
            if (unlikely(at == NULL))
                return NULL;
        } else {
            if (unlikely(depth == JSON_SCAN_DEPTH_MAX))
                return json_fail(scan, at, "The event is nested deeper than 64.");
            depth++;
            arrays = arrays << 1 | (*at == '[');
            at = json_next_token(scan, at + 1, end);
            if (unlikely(at == NULL))
                return NULL;
            if (likely(*at != ((arrays & 1) != 0 ? ']' : '}'))) {
                if ((arrays & 1) == 0)
                    at = json_skip_key(scan, window, at, end, depth == 1 ? values : NULL);
                if (unlikely(at == NULL))
                    return NULL;
                if (depth == 1 && unlikely(json_is_events(scan, at, values)))
                    return at;
                continue;
            }
        }

        /* Take all brackets that close here, up to a comma. */
        while ((at = json_next_token(scan, at, end)) != NULL && *at != ',') {
            const bool array = (arrays & 1) != 0;

            if (unlikely(*at != (array ? ']' : '}')))
                return json_fail(scan, at,
                                 array ? "A comma or ']' was expected."
                                       : "A comma or '}' was expected.");
            at++;
            arrays >>= 1;
            if (--depth == 0)
                return at;
        }
        if (likely(at != NULL))
            at = json_next_token(scan, at + 1, end);
        if (likely(at != NULL) && (arrays & 1) == 0)
            at = json_skip_key(scan, window, at, end, depth == 1 ? values : NULL);
        if (unlikely(at == NULL))
            return NULL;
        if (depth == 1 && unlikely(json_is_events(scan, at, values)))
            return at;
        if (unlikely(at > scan->pause)) {
            scan->paused.at = at;
            scan->paused.arrays = arrays;
            scan->paused.depth = depth;
            return NULL;
        }
    }
}

/*
 * Skips the object that begins at at, or, when resumed, goes on behind a member's value. values
 * gets where each name's value begins. Stops before the array of an envelope, at its '['.
 */
static const char *json_skip_object(struct json_scan *scan, const char *at, const char **values,
                                    bool resumed)
{
    struct json_window window = scan->window;

    at = json_walk_object(scan, &window, at, values, resumed);
    scan->window = window;
    return at;
}

static enum json_scan_result json_no_event(struct json_scan *scan, const char *end)
{
    (void)json_fail(scan, end, "The body holds no event.");
    return JSON_SCAN_EMPTY;
}

/* The array is closed: only white space may follow. */
static enum json_scan_result json_finish_array(struct json_scan *scan, const char *at,
                                               const char *end)
{
    at = json_skip_space(at, end);
    if (at != end) {
        (void)json_fail(scan, at, "Nothing may follow the array.");
        return JSON_SCAN_INVALID_JSON;
    }
    if (scan->index > 0)
        return JSON_SCAN_END;
    return json_no_event(scan, end);
}

/* Each of the next four moves *text to the event's '{' and returns JSON_SCAN_EVENT, or returns how
 * the body ends. */
static enum json_scan_result json_begin_event(struct json_scan *scan, const char **text,
                                              const char *at)
{
    scan->event_at = (size_t)(at - scan->body);
    if (*at != '{') {
        (void)json_fail(scan, at, "An object was expected.");
        return JSON_SCAN_INVALID_JSON;
    }
    *text = at;
    return JSON_SCAN_EVENT;
}

/* The same for an element. A value that is no object can be passed over, if it is valid. */
static enum json_scan_result json_begin_element(struct json_scan *scan, const char **text,
                                                const char *at, const char *end)
{
    const char *stop;

    if (likely(*at == '{'))
        return json_begin_event(scan, text, at);
    stop = *at == '[' ? json_skip_object(scan, at, NULL, false)
                      : json_skip_scalar(scan, &scan->window, at, end);
    scan->skip_to = stop != NULL ? (size_t)(stop - scan->body) : 0;
    return json_begin_event(scan, text, at);
}

/* Moves to the next element of an array, or to its ']': then element is false. NULL: invalid. */
static const char *json_next_element(struct json_scan *scan, const char *at, const char *end,
                                     bool *element)
{
    at = json_next_token(scan, at, end);
    *element = at != NULL && *at != ']';
    if (!*element || scan->elements == 0)
        return at;
    if (*at != ',')
        return json_fail(scan, at, "A comma or ']' was expected.");
    return json_next_token(scan, at + 1, end);
}

static enum json_scan_result json_next_in_array(struct json_scan *scan, const char **text,
                                                const char *end)
{
    bool element;
    const char *at = json_next_element(scan, *text, end, &element);

    if (at == NULL)
        return JSON_SCAN_INVALID_JSON;
    return element ? json_begin_element(scan, text, at, end) : json_finish_array(scan, at + 1, end);
}

static enum json_scan_result json_next_in_sequence(struct json_scan *scan, const char **text,
                                                   const char *end)
{
    const char *at = json_skip_space(*text, end);

    if (at == end)
        return scan->index > 0 ? JSON_SCAN_END : json_no_event(scan, end);
    return json_begin_event(scan, text, at);
}

/* The next element; behind the last one the envelope is read to its end, and JSON_SCAN_END means
 * that *text is behind it. */
static enum json_scan_result json_next_in_envelope(struct json_scan *scan, const char **text,
                                                   const char *end)
{
    const char *values[SLOTS] = {NULL};
    bool element;
    const char *at = json_next_element(scan, *text, end, &element);

    if (at != NULL && element)
        return json_begin_element(scan, text, at, end);
    if (at == NULL)
        return JSON_SCAN_INVALID_JSON;
    scan->state = IN_SEQUENCE;
    scan->envelope = SIZE_MAX;
    values[EVENTS_SLOT] = at;
    at = json_skip_object(scan, at + 1, values, true);
    if (at == NULL)
        return JSON_SCAN_INVALID_JSON;
    *text = at;
    return JSON_SCAN_END;
}

static enum json_scan_result json_begin_body(struct json_scan *scan, const char **text,
                                             const char *end)
{
    const size_t mark = strlen(BYTE_ORDER_MARK);
    const char *at = *text;

    if ((size_t)(end - at) >= mark && memcmp(at, BYTE_ORDER_MARK, mark) == 0)
        at += mark;
    at = json_skip_space(at, end);
    if (at == end)
        return json_no_event(scan, end);
    if (*at == '[') {
        scan->state = IN_ARRAY;
        *text = at + 1;
        return json_next_in_array(scan, text, end);
    }
    scan->state = IN_SEQUENCE;
    return json_begin_event(scan, text, at);
}

static enum json_scan_result json_find_event(struct json_scan *scan, const char **text,
                                             const char *end)
{
    enum json_scan_result result;

    switch ((enum scan_state)scan->state) {
    case AT_START:
        return json_begin_body(scan, text, end);
    case IN_SEQUENCE:
        return json_next_in_sequence(scan, text, end);
    case IN_ARRAY:
        return json_next_in_array(scan, text, end);
    case IN_ENVELOPE:
        result = json_next_in_envelope(scan, text, end);
        return result == JSON_SCAN_END ? json_next_in_sequence(scan, text, end) : result;
    }
    ALLOY_UNREACHABLE("a state of no name");
    return JSON_SCAN_INVALID_JSON;
}

/* A bit for each length, modulo 64, that one of the names has. */
static uint64_t json_key_lengths(const struct json_scan_fields *fields)
{
    uint64_t lengths = fields->events.len > 0 ? UINT64_C(1) << (fields->events.len & 63) : 0;

    for (size_t i = 0; i < fields->count; i++)
        lengths |= UINT64_C(1) << (fields->names[i].len & 63);
    return lengths;
}

void json_scan_init(struct json_scan *scan, const struct json_scan_fields *fields, const char *body,
                    size_t len)
{
    ALLOY_ASSERT(fields->count + fields->source_count > 0 && fields->count <= JSON_SCAN_NAMES_MAX &&
                 fields->source_count <= JSON_SCAN_SOURCES_MAX);
    scan->fields = fields;
    scan->key_lengths = json_key_lengths(fields);
    scan->body = len > 0 ? body : "";
    scan->len = len;
    scan->headers = NULL;
    scan->pause_at = SIZE_MAX;
    scan->members = NULL;
    scan->member_max = 0;
    scan->member_count = 0;
    scan->pause = scan->body + scan->len;
    scan->paused.at = NULL;
    scan->offset = 0;
    scan->index = 0;
    scan->state = AT_START;
    scan->envelope = SIZE_MAX;
    scan->event_at = 0;
    scan->searched = 0;
    scan->elements = 0;
    scan->skip_to = 0;
    scan->error_offset = 0;
    scan->problem = NULL;
    scan->made = NULL;
    scan->window = (struct json_window){NULL, 0};
}

static enum json_scan_result json_refuse_column(struct json_scan *scan, const char *const *values,
                                                const struct json_scan_event *event)
{
    const struct json_scan_fields *fields = scan->fields;
    const size_t first = (size_t)__builtin_ctz(event->own_columns);

    ALLOY_ASSERT(first < JSON_SCAN_COLUMNS_MAX);
    (void)json_fail(
        scan, values[fields->columns[first]],
        "The event has a member that this stream's configuration fills (column_conflict).");
    return JSON_SCAN_INVALID_EVENT;
}

/* An object ended too early: at a pause, or because it is invalid. */
static enum json_scan_result json_pause_or_fail(struct json_scan *scan, const char *text,
                                                const char *const *values)
{
    if (likely(scan->paused.at == NULL))
        return JSON_SCAN_INVALID_JSON;
    scan->paused.text = text;
    memcpy(scan->paused.values, values, sizeof(scan->paused.values));
    return JSON_SCAN_PAUSED;
}

enum json_scan_result json_scan_next(struct json_scan *scan, struct json_scan_event *event)
{
    const char *at = scan->body + scan->offset;
    const char *const end = scan->body + scan->len;
    enum json_scan_result result;

    for (;;) {
        const char *values[SLOTS];
        const char *stop;

        if (unlikely(scan->paused.at != NULL)) {
            memcpy(values, scan->paused.values, sizeof(values));
            stop = scan->paused.at;
            at = scan->paused.text;
        } else {
            for (size_t i = 0; i < scan->fields->count; i++)
                values[i] = NULL;
            values[EVENTS_SLOT] = NULL;
            scan->skip_to = 0;
            result = json_find_event(scan, &at, end);
            if (result != JSON_SCAN_EVENT)
                return result;
            scan->member_count = 0;
            stop = at;
        }
        if (unlikely(scan->pause_at < scan->len))
            scan->pause = scan->body + scan->pause_at;
        stop = json_skip_object(scan, stop, values, false);
        scan->pause = end;
        if (stop == NULL)
            return json_pause_or_fail(scan, at, values);
        if (unlikely(json_is_events(scan, stop, values))) {
            scan->state = IN_ENVELOPE;
            scan->envelope = (size_t)(at - scan->body);
            scan->elements = 0;
            at = stop + 1;
            continue;
        }
        event->text = (struct slice){at, (size_t)(stop - at)};
        result = json_id_read(scan, values, event);
        event->own_columns = json_own_columns(scan->fields, values);
        if (unlikely(event->own_columns != 0) && result == JSON_SCAN_EVENT &&
            !scan->fields->columns_yield)
            result = json_refuse_column(scan, values, event);
        scan->skip_to = (size_t)(stop - scan->body);
        if (likely(result == JSON_SCAN_EVENT)) {
            scan->offset = scan->skip_to;
            scan->index++;
            scan->elements++;
        }
        return result;
    }
}

/* Where the event ends that is at fault, if its brackets and quotes tell and what follows is what
 * may follow an event; 0: they do not. All looks in vain together read the body about once: each of
 * a million broken lines could make us read all the others. */
static size_t json_end_of_event(struct json_scan *scan)
{
    const char *const end = scan->body + scan->len;
    const char *at = scan->body + scan->event_at;
    const bool in_array = scan->state == IN_ARRAY || scan->state == IN_ENVELOPE;
    struct slice text;

    if (at == end || *at != '{' || scan->searched > scan->len)
        return 0;
    text = members_value(at, end);
    scan->searched += text.len;
    if (text.len < 2 || text.data[text.len - 1] != '}' ||
        text.data + text.len <= scan->body + scan->error_offset)
        return 0;
    at = json_skip_space(text.data + text.len, end);
    if (in_array ? at == end || (*at != ',' && *at != ']') : at < end && *at != '{')
        return 0;
    scan->searched -= text.len;
    return (size_t)(text.data + text.len - scan->body);
}

/* Where the line ends that the event at fault has for itself; 0: it does not have one. The next
 * line must begin like an event: in one that is indented it would be a part of this one. */
static size_t json_end_of_line(const struct json_scan *scan)
{
    const char *const body = scan->body, *const end = body + scan->len;
    const char *const error = body + scan->error_offset;
    const char *at = body + scan->event_at, *line;

    if (memchr(at, '\n', (size_t)(error - at)) != NULL)
        return 0;
    while (at > body && (at[-1] == ' ' || at[-1] == '\t' || at[-1] == '\r'))
        at--;
    if (at > body && at[-1] != '\n' &&
        !(at == body + strlen(BYTE_ORDER_MARK) && memcmp(body, BYTE_ORDER_MARK, 3) == 0))
        return 0;
    line = memchr(error, '\n', (size_t)(end - error));
    if (line == NULL)
        return memmem(error, (size_t)(end - error), "}{", 2) == NULL ? scan->len : 0;
    if (memmem(error, (size_t)(line - error), "}{", 2) != NULL)
        return 0;
    return line + 1 == end || line[1] == '{' || json_skip_space(line, end) == end
               ? (size_t)(line + 1 - body)
               : 0;
}

/* Sets skip_to behind invalid JSON. */
static bool json_skip_invalid(struct json_scan *scan)
{
    const bool in_array = scan->state == IN_ARRAY || scan->state == IN_ENVELOPE;

    if (scan->skip_to > scan->error_offset)
        return true; /* an element that is no object */
    scan->skip_to = json_end_of_event(scan);
    if (scan->skip_to == 0 && !in_array)
        scan->skip_to = json_end_of_line(scan);
    if (scan->skip_to == 0)
        return false;
    if (!in_array)
        scan->state = IN_SEQUENCE;
    return true;
}

void json_scan_reject(struct json_scan *scan, size_t offset, const char *problem)
{
    scan->index--;
    scan->elements--;
    scan->error_offset = offset;
    scan->problem = problem;
}

bool json_scan_skip(struct json_scan *scan, enum json_scan_result result)
{
    if (result == JSON_SCAN_INVALID_JSON) {
        if (!json_skip_invalid(scan))
            return false;
    } else if (result != JSON_SCAN_MISSING_ID && result != JSON_SCAN_INVALID_ID &&
               result != JSON_SCAN_INVALID_EVENT && result != JSON_SCAN_MISMATCH) {
        return false;
    }
    scan->offset = scan->skip_to;
    scan->index++;
    scan->elements++;
    return true;
}

static bool json_has_enough(const struct json_scan *scan, const char *const *values, size_t enough)
{
    size_t found = 0;

    for (size_t i = 0; i < scan->fields->count; i++)
        found += values[i] != NULL;
    return found >= enough;
}

/* Passes over the events of an envelope, from the array's '[', and goes on behind it. */
static const char *json_pass_events(struct json_scan *scan, const char *at, const char *end,
                                    const char **values)
{
    bool element;

    scan->state = IN_ENVELOPE;
    at = json_next_element(scan, at + 1, end, &element);
    while (at != NULL && element) {
        at = *at == '{' ? json_skip_object(scan, at, NULL, false) : NULL;
        scan->elements++;
        if (at != NULL)
            at = json_next_element(scan, at, end, &element);
    }
    scan->state = IN_SEQUENCE;
    return at != NULL ? json_skip_object(scan, at + 1, values, true) : NULL;
}

/* Notes where the values begin of the fields' names in the object at at. */
static void json_find_values(struct json_scan *scan, const char *at, const char **values,
                             size_t enough)
{
    const char *const end = scan->body + scan->len;
    const char *const stop = json_skip_object(scan, at, values, false);
    const char *before[SLOTS];

    if (stop == NULL) {
        memset(values, 0, SLOTS * sizeof(*values));
        return;
    }
    if (!json_is_events(scan, stop, values) || json_has_enough(scan, values, enough))
        return;
    memcpy(before, values, sizeof(before));
    if (json_pass_events(scan, stop, end, values) == NULL)
        memcpy(values, before, sizeof(before));
}

/* The slot of a name, which several of the wanted may share. */
static size_t json_wanted_slot(struct json_scan_fields *fields, struct slice name)
{
    size_t i = 0;

    while (i < fields->count && (fields->names[i].len != name.len ||
                                 memcmp(fields->names[i].data, name.data, name.len) != 0))
        i++;
    if (i == fields->count)
        fields->names[fields->count++] = name;
    return i;
}

void json_scan_find(const struct json_scan_search *search, struct slice body, size_t from,
                    struct slice *values)
{
    struct json_scan_fields fields = {.events = search->events};
    const char *begins[SLOTS] = {NULL};
    const char *text = body.data + from;
    size_t slots[JSON_SCAN_WANTED_MAX];
    struct json_scan scan;

    ALLOY_ASSERT(search->count > 0 && search->count <= JSON_SCAN_WANTED_MAX && from <= body.len);
    for (size_t i = 0; i < search->count; i++)
        slots[i] = json_wanted_slot(&fields, search->wanted[i].name);
    /* Columns' names may come twice. */
    fields.column_names = fields.count;
    json_scan_init(&scan, &fields, body.data, body.len);
    if (json_find_event(&scan, &text, body.data + body.len) == JSON_SCAN_EVENT)
        json_find_values(&scan, text, begins, search->enough);
    for (size_t i = 0; i < search->count; i++) {
        const char *begin = begins[slots[i]];

        values[i] = (struct slice){"", 0};
        if (begin == NULL)
            continue;
        values[i] = (struct slice){begin, (size_t)(body.data + body.len - begin)};
        if (search->wanted[i].rest.len == 0)
            values[i] = members_value(begin, body.data + body.len);
        else if (json_id_walk(&values[i], search->wanted[i].rest) != 1)
            values[i] = (struct slice){"", 0};
    }
}
