/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_scan.c - finds in one pass over a request body where each event begins and ends, and its id.
 *
 * Nearly all bytes of an event are inside strings, so we skip these 16 at a time up to a byte that
 * matters: a quote, a backslash, a control byte, or a byte of a UTF-8 sequence. The rest is a loop
 * without recursion; a bit for each open level says whether it is an array or an object.
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
#include "alloy/text.h"
#include "json_id.h"

#include <endian.h>
#include <string.h>

#if defined(__SSE2__) && !defined(JSON_SCAN_PORTABLE)
#define USE_SSE2 1
#include <emmintrin.h>
#endif

#define TRUNCATED "The body ends too early."
#define BYTES(x) ((x)*UINT64_C(0x0101010101010101))
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

/* What json_escape_unit() says when there is no UTF-16 code unit. */
enum {
    UNIT_INVALID = -1,
    UNIT_TRUNCATED = -2,
};

/* Notes the problem; returns NULL for the caller to return. */
static const char *json_fail(struct json_scan *scan, const char *at, const char *problem)
{
    scan->error_offset = (size_t)(at - scan->body);
    scan->problem = problem;
    return NULL;
}

static inline bool json_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline const char *json_skip_space(const char *at, const char *end)
{
    /* Compact JSON has no white space and costs one comparison: in valid JSON only white space is
     * below '!'. */
    while (at < end && (unsigned char)*at <= ' ' &&
           (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t'))
        at++;
    return at;
}

/* Skips white space; there must be a byte after it. */
static inline const char *json_next_token(struct json_scan *scan, const char *at, const char *end)
{
    at = json_skip_space(at, end);
    if (unlikely(at == end))
        return json_fail(scan, end, TRUNCATED);
    return at;
}

static inline bool json_is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* Non-zero when one of eight bytes is not plain; the lowest set bit is in the first such byte
 * (Mycroft's test for a zero byte: a borrow gives false hits only above a true one). */
static inline uint64_t json_special_bits(uint64_t bytes)
{
    const uint64_t quote = bytes ^ BYTES('"');
    const uint64_t backslash = bytes ^ BYTES('\\');
    const uint64_t below_space = (bytes - BYTES(0x20)) & ~bytes;

    return (((quote - BYTES(1)) & ~quote) | ((backslash - BYTES(1)) & ~backslash) | below_space |
            bytes) &
           BYTES(0x80);
}

/* The first byte inside a string that is not plain, or end. */
static inline const char *json_skip_plain(const char *at, const char *end)
{
#ifdef USE_SSE2
    while (end - at >= 16) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        /* A signed comparison, so that bytes from 0x80 are below a space too. */
        __m128i special = _mm_cmplt_epi8(bytes, _mm_set1_epi8(' '));

        special = _mm_or_si128(special, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
        special = _mm_or_si128(special, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
        const unsigned mask = (unsigned)_mm_movemask_epi8(special);
        if (mask != 0)
            return at + __builtin_ctz(mask);
        at += 16;
    }
#endif
    while (end - at >= 8) {
        uint64_t bytes;

        memcpy(&bytes, at, sizeof(bytes));
        const uint64_t special = json_special_bits(le64toh(bytes));
        if (special != 0)
            return at + (__builtin_ctzll(special) >> 3);
        at += 8;
    }
    while (at < end && json_is_plain(*at))
        at++;
    return at;
}

/* Skips a run of bytes from 0x80 (RFC 3629 section 4: no overlong form, no surrogate, nothing
 * above U+10FFFF). */
static const char *json_skip_utf8(struct json_scan *scan, const char *at, const char *end)
{
    do {
        const unsigned char lead = (unsigned char)*at;
        /* Bounds of the second byte; later bytes have the whole range. */
        unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;

        if (lead < 0xC2 || lead > 0xF4)
            return json_fail(scan, at, "A string is not valid UTF-8.");
        at++;
        for (int left = 1 + (lead >= 0xE0) + (lead >= 0xF0); left > 0; left--) {
            if (at == end)
                return json_fail(scan, end, TRUNCATED);
            if ((unsigned char)*at < low || (unsigned char)*at > high)
                return json_fail(scan, at, "A string is not valid UTF-8.");
            low = 0x80;
            high = 0xBF;
            at++;
        }
    } while (at < end && (unsigned char)*at >= 0x80);
    return at;
}

/* The UTF-16 code unit of the \uXXXX at at, or one of UNIT_*. */
static int json_escape_unit(const char *at, const char *end)
{
    static const char prefix[] = {'\\', 'u'};
    int unit = 0;

    for (size_t i = 0; i < 6; i++) {
        if (at + i == end)
            return UNIT_TRUNCATED;
        if (i < sizeof(prefix)) {
            if (at[i] != prefix[i])
                return UNIT_INVALID;
            continue;
        }
        const int digit = text_hex_digit(at[i]);
        if (digit < 0)
            return UNIT_INVALID;
        unit = unit << 4 | digit;
    }
    return unit;
}

static inline bool json_is_high_surrogate(int unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static inline bool json_is_low_surrogate(int unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

static const char *json_skip_escape(struct json_scan *scan, const char *at, const char *end)
{
    if (end - at < 2)
        return json_fail(scan, end, TRUNCATED);
    if (at[1] != 'u') {
        if (at[1] == '\0' || strchr("\"\\/bfnrt", at[1]) == NULL)
            return json_fail(scan, at, "A string holds an invalid escape.");
        return at + 2;
    }

    int unit = json_escape_unit(at, end);
    const bool paired = json_is_high_surrogate(unit);
    if (paired) {
        unit = json_escape_unit(at + 6, end);
        if (unit >= 0 && !json_is_low_surrogate(unit))
            unit = UNIT_INVALID;
    } else if (json_is_low_surrogate(unit)) {
        unit = UNIT_INVALID;
    }
    if (unit == UNIT_TRUNCATED)
        return json_fail(scan, end, TRUNCATED);
    if (unit == UNIT_INVALID)
        return json_fail(scan, at, "A string holds an invalid \\u escape.");
    return at + (paired ? 12 : 6);
}

/* Skips a string from its opening quote; sets escaped when it holds an escape. */
static inline const char *json_skip_string(struct json_scan *scan, const char *at, const char *end,
                                           bool *escaped)
{
    at++;
    for (;;) {
        at = json_skip_plain(at, end);
        if (unlikely(at == end))
            return json_fail(scan, end, TRUNCATED);
        if (likely(*at == '"'))
            return at + 1;
        if (*at == '\\') {
            *escaped = true;
            at = json_skip_escape(scan, at, end);
        } else if ((unsigned char)*at >= 0x80) {
            at = json_skip_utf8(scan, at, end);
        } else {
            return json_fail(scan, at, "A string holds a raw control byte.");
        }
        if (at == NULL)
            return NULL;
    }
}

/* Skips digits, of which there must be at least one. */
static inline const char *json_skip_digits(struct json_scan *scan, const char *at, const char *end)
{
    if (unlikely(at == end))
        return json_fail(scan, end, TRUNCATED);
    if (unlikely(!json_is_digit(*at)))
        return json_fail(scan, at, "A digit was expected.");
    do
        at++;
    while (at < end && json_is_digit(*at));
    return at;
}

static const char *json_skip_number(struct json_scan *scan, const char *at, const char *end)
{
    if (*at == '-')
        at++;
    if (at < end && *at == '0')
        at++;
    else
        at = json_skip_digits(scan, at, end);
    if (at != NULL && at < end && *at == '.')
        at = json_skip_digits(scan, at + 1, end);
    if (at != NULL && at < end && (*at == 'e' || *at == 'E')) {
        at++;
        if (at < end && (*at == '+' || *at == '-'))
            at++;
        at = json_skip_digits(scan, at, end);
    }
    return at;
}

static const char *json_skip_word(struct json_scan *scan, const char *at, const char *end,
                                  const char *word)
{
    for (; *word != '\0'; word++, at++) {
        if (at == end)
            return json_fail(scan, end, TRUNCATED);
        if (*at != *word)
            return json_fail(scan, at, "A value was expected.");
    }
    return at;
}

static inline const char *json_skip_scalar(struct json_scan *scan, const char *at, const char *end)
{
    bool escaped;

    switch (*at) {
    case '"':
        return json_skip_string(scan, at, end, &escaped);
    case 't':
        return json_skip_word(scan, at, end, "true");
    case 'f':
        return json_skip_word(scan, at, end, "false");
    case 'n':
        return json_skip_word(scan, at, end, "null");
    default:
        if (likely(*at == '-' || json_is_digit(*at)))
            return json_skip_number(scan, at, end);
        return json_fail(scan, at, "A value was expected.");
    }
}

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

/*
 * Skips a key and its colon, to the value. values is given for the keys of the event's own object:
 * if the key is an id field, the start of its value is noted there.
 */
static inline const char *json_skip_key(struct json_scan *scan, const char *at, const char *end,
                                        const char **values)
{
    const char *const key = at;
    const char **value = NULL;
    bool escaped = false;

    if (unlikely(*at != '"'))
        return json_fail(scan, at, "A key was expected.");
    at = json_skip_string(scan, at, end, &escaped);
    if (unlikely(at == NULL))
        return NULL;
    if (values != NULL) {
        const struct slice name = {key + 1, (size_t)(at - key) - 2};

        value = json_find_field(scan, name, escaped, values);
        if (value != NULL && *value != NULL && !json_is_column(scan->fields, value - values))
            return json_fail(scan, key, json_twice(value - values));
    }

    at = json_next_token(scan, at, end);
    if (unlikely(at == NULL))
        return NULL;
    if (unlikely(*at != ':'))
        return json_fail(scan, at, "A colon was expected.");
    at = json_next_token(scan, at + 1, end);
    if (value != NULL)
        *value = at;
    return at;
}

/* Whether the value at at is the array of an envelope. Of an element of that array a member of the
 * same name is the event's own. */
static inline bool json_is_events(const struct json_scan *scan, const char *at,
                                  const char *const *values)
{
    return scan->fields->events.len > 0 && scan->state == IN_SEQUENCE &&
           values[EVENTS_SLOT] == at && *at == '[';
}

/*
 * Skips the object that begins at at, or, when resumed, goes on behind a member's value. values
 * gets where each name's value begins. Stops before the array of an envelope, at its '['.
 */
static inline const char *json_skip_object(struct json_scan *scan, const char *at, const char *end,
                                           const char **values, bool resumed)
{
    uint64_t arrays = 0; /* one bit for each open level, the innermost lowest */
    unsigned depth = resumed;

    for (;; resumed = false) {
        /* A value begins here. After this block it is whole, or at its closing bracket. */
        if (resumed) {
            ; /* it was the envelope's array */
        } else if (*at == '{' || *at == '[') {
            if (unlikely(depth == JSON_SCAN_DEPTH_MAX))
                return json_fail(scan, at, "The event is nested deeper than 64.");
            depth++;
            arrays = arrays << 1 | (*at == '[');
            at = json_next_token(scan, at + 1, end);
            if (unlikely(at == NULL))
                return NULL;
            if (likely(*at != ((arrays & 1) != 0 ? ']' : '}'))) {
                if ((arrays & 1) == 0)
                    at = json_skip_key(scan, at, end, depth == 1 ? values : NULL);
                if (unlikely(at == NULL))
                    return NULL;
                if (depth == 1 && unlikely(json_is_events(scan, at, values)))
                    return at;
                continue;
            }
        } else {
            at = json_skip_scalar(scan, at, end);
            if (unlikely(at == NULL))
                return NULL;
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
            at = json_skip_key(scan, at, end, depth == 1 ? values : NULL);
        if (unlikely(at == NULL))
            return NULL;
        if (depth == 1 && unlikely(json_is_events(scan, at, values)))
            return at;
    }
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
    if (*at != '{') {
        (void)json_fail(scan, at, "An object was expected.");
        return JSON_SCAN_INVALID_JSON;
    }
    *text = at;
    return JSON_SCAN_EVENT;
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
    return element ? json_begin_event(scan, text, at) : json_finish_array(scan, at + 1, end);
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
        return json_begin_event(scan, text, at);
    if (at == NULL)
        return JSON_SCAN_INVALID_JSON;
    scan->state = IN_SEQUENCE;
    scan->envelope = SIZE_MAX;
    values[EVENTS_SLOT] = at;
    at = json_skip_object(scan, at + 1, end, values, true);
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

void json_scan_init(struct json_scan *scan, const struct json_scan_fields *fields, const char *body,
                    size_t len)
{
    ALLOY_ASSERT(fields->count + fields->source_count > 0 && fields->count <= JSON_SCAN_NAMES_MAX &&
                 fields->source_count <= JSON_SCAN_SOURCES_MAX);
    scan->fields = fields;
    scan->body = len > 0 ? body : "";
    scan->len = len;
    scan->headers = NULL;
    scan->offset = 0;
    scan->index = 0;
    scan->state = AT_START;
    scan->envelope = SIZE_MAX;
    scan->elements = 0;
    scan->skip_to = 0;
    scan->error_offset = 0;
    scan->problem = NULL;
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

enum json_scan_result json_scan_next(struct json_scan *scan, struct json_scan_event *event)
{
    const char *at = scan->body + scan->offset;
    const char *const end = scan->body + scan->len;
    enum json_scan_result result;

    for (;;) {
        const char *values[SLOTS];

        for (size_t i = 0; i < scan->fields->count; i++)
            values[i] = NULL;
        values[EVENTS_SLOT] = NULL;
        result = json_find_event(scan, &at, end);
        if (result != JSON_SCAN_EVENT)
            return result;
        const char *const stop = json_skip_object(scan, at, end, values, false);
        if (stop == NULL)
            return JSON_SCAN_INVALID_JSON;
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

bool json_scan_skip(struct json_scan *scan, enum json_scan_result result)
{
    const char *const body = scan->body;

    if (result == JSON_SCAN_INVALID_JSON) {
        const char *line;

        if (scan->state == IN_ARRAY || scan->state == IN_ENVELOPE)
            return false;
        line = memchr(body + scan->error_offset, '\n', scan->len - scan->error_offset);
        scan->skip_to = line != NULL ? (size_t)(line + 1 - body) : scan->len;
        scan->state = IN_SEQUENCE;
    } else if (result != JSON_SCAN_MISSING_ID && result != JSON_SCAN_INVALID_ID &&
               result != JSON_SCAN_INVALID_EVENT) {
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
        at = *at == '{' ? json_skip_object(scan, at, end, NULL, false) : NULL;
        scan->elements++;
        if (at != NULL)
            at = json_next_element(scan, at, end, &element);
    }
    scan->state = IN_SEQUENCE;
    return at != NULL ? json_skip_object(scan, at + 1, end, values, true) : NULL;
}

/* Notes where the values begin of the fields' names in the object at at. */
static void json_find_values(struct json_scan *scan, const char *at, const char **values,
                             size_t enough)
{
    const char *const end = scan->body + scan->len;
    const char *const stop = json_skip_object(scan, at, end, values, false);
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
