/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mismatch.c - puts scanned events beside the columns of their stream's table.
 *
 * A thread keeps the schema of each stream until its version changes, so an event costs no lock. A
 * large body, which is judged over several turns, keeps one of its own: all its events meet the
 * same columns.
 *
 * What is told to the client may have a short piece of its own value. Log, metrics and /stats have
 * names alone.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: the schemas that it holds, and the members of the event in hand.
 */
#include "conn_private.h"

#include <string.h>

#include "alloy/schemas.h"
#include "alloy/text.h"
#define LOG_MODULE "front"
#include "alloy/log.h"

#define MEMBERS_MAX 1024 /* of an event; of later ones nothing is known */
#define PIECE_MAX 40     /* bytes of a value that its sender is told */

struct mismatch_held {
    struct schema *schema; /* NULL: nothing is known */
    uint64_t version;      /* 0: never asked for */
    struct schema_guess guess;
};

struct mismatch_set {
    struct mismatch_held held[CONFIG_STREAMS_MAX];
    struct json_scan_member members[MEMBERS_MAX];
    struct json_scan_member large_members[MEMBERS_MAX];
    struct schema_findings findings;
};

struct mismatch_set *mismatch_create(void)
{
    return calloc(1, sizeof(struct mismatch_set));
}

void mismatch_destroy(struct conn_set *set)
{
    struct mismatch_set *own = set->mismatch;

    for (size_t i = 0; own != NULL && i < CONFIG_STREAMS_MAX; i++)
        schema_put(own->held[i].schema);
    free(own);
    free(set->judging.mismatch);
}

void mismatch_begin(struct conn *conn, struct judging *judging)
{
    struct conn_set *set = conn->set;
    struct mismatch_set *own = set->mismatch;
    struct schemas *schemas = set->parts.shared->schemas;
    struct mismatch_held *held = &own->held[conn->stream];
    const bool large = judging == &set->large_judging;

    if (schemas == NULL)
        return;
    if (unlikely(held->version != schemas_version(schemas, conn->stream))) {
        schema_put(held->schema);
        held->schema = schemas_hold(schemas, conn->stream, &held->version);
    }
    if (held->schema == NULL)
        return;
    judging->schema = large ? schema_get(held->schema) : held->schema;
    judging->scan.members = large ? own->large_members : own->members;
    judging->scan.member_max = MEMBERS_MAX;
}

void mismatch_end_large(struct conn_set *set)
{
    schema_put(set->large_judging.schema);
    set->large_judging.schema = NULL;
    free(set->large_judging.mismatch);
    set->large_judging.mismatch = NULL;
}

/* What came: the kind of value, and a piece of a short one. */
static void mismatch_got(struct slice value, char out[REPLY_GOT_MAX + 1])
{
    char piece[PIECE_MAX + 1];

    if (value.len == 0) {
        snprintf(out, REPLY_GOT_MAX + 1, "nothing");
        return;
    }
    switch (*value.data) {
    case '{':
        snprintf(out, REPLY_GOT_MAX + 1, "an object");
        return;
    case '[':
        snprintf(out, REPLY_GOT_MAX + 1, "an array");
        return;
    case '"':
        text_copy_shown(piece, PIECE_MAX, (struct slice){value.data + 1, value.len - 2}, "...");
        snprintf(out, REPLY_GOT_MAX + 1, "the string \"%s\"", piece);
        return;
    case 'n':
    case 't':
    case 'f':
        snprintf(out, REPLY_GOT_MAX + 1, "%.*s", (int)(value.len < 5 ? value.len : 5), value.data);
        return;
    default:
        text_copy_shown(piece, PIECE_MAX, value, "...");
        snprintf(out, REPLY_GOT_MAX + 1, "the number %s", piece);
    }
}

/* Writes a sentence about a finding. got NULL: without the value. */
static void mismatch_say(enum schema_problem problem, const struct reply_mismatch *of,
                         const char *got, char out[REPLY_MESSAGE_MAX + 1])
{
    const char *formats[SCHEMA_PROBLEMS] = {
        [SCHEMA_FITS] = "Column \"%s\" is %s.",
        [SCHEMA_UNKNOWN] = "The table has no column \"%s\"%s.",
        [SCHEMA_NOT_STORED] = "Column \"%s\" (%s) is computed by ClickHouse and cannot be given.",
        [SCHEMA_MISSING] = "Column \"%s\" (%s) has no default, and the event does not give it.",
        [SCHEMA_TWICE] = "Column \"%s\" (%s) is given twice.",
        [SCHEMA_NULL] = "Column \"%s\" is %s, which is not Nullable, and got %s.",
        [SCHEMA_KIND] = "Column \"%s\" is %s and cannot be made of %s.",
        [SCHEMA_RANGE] = "Column \"%s\" is %s, which has no room for %s.",
        [SCHEMA_FORMAT] = "Column \"%s\" is %s, and %s does not stand for such a value.",
        [SCHEMA_UNIT] =
            "Column \"%s\" is %s, which counts in smaller units: %s looks like seconds, "
            "and would be a day in 1970.",
    };

    snprintf(out, REPLY_MESSAGE_MAX + 1, formats[problem], of->column, of->type,
             got != NULL ? got : "this value");
    text_clean(out); /* it may be cut within a character */
}

/* Fills what is told of a finding. */
static void mismatch_fill(const struct schema *schema, const struct schema_finding *finding,
                          struct reply_mismatch *out)
{
    struct slice type = {"", 0};

    schemas_field(schema, finding, out->column);
    if (finding->column != SCHEMA_COLUMN_NONE)
        type.data = schema_column_type(schema, finding->column);
    type.len = strlen(type.data);
    text_copy_shown(out->type, REPLY_TYPE_MAX, type, "...");
    mismatch_got(finding->value, out->got);
    mismatch_say(finding->problem, out, out->got, out->message);
    mismatch_say(finding->problem, out, NULL, out->note);
}

static bool mismatch_refuses(const struct config_stream *stream,
                             const struct schema_finding *finding)
{
    if (stream->schema != CONFIG_SCHEMA_REFUSE)
        return false;
    switch (finding->problem) {
    case SCHEMA_UNKNOWN:
    case SCHEMA_NOT_STORED:
        return stream->refuse_unknown;
    case SCHEMA_MISSING:
        return stream->refuse_missing;
    default:
        return true;
    }
}

/* Counts a finding; the first of its field and problem is told. */
static void mismatch_count(const struct conn *conn, const struct schema *schema,
                           const struct schema_finding *finding)
{
    struct schemas *schemas = conn->set->parts.shared->schemas;
    struct reply_mismatch text;

    if (likely(!schemas_count(schemas, conn->stream, schema, finding)))
        return;
    schemas_doubt(schemas, conn->stream);
    mismatch_fill(schema, finding, &text);
    text_unquote(text.column);
    text_unquote(text.note);
    log_warn("events do not fit their table stream=%s field=\"%s\" problem=%s text=\"%s\"",
             conn_route(conn)->stream->name, text.column, schema_problem_name(finding->problem),
             text.note);
}

/* Where a finding stands in the body. */
static size_t mismatch_offset(const struct schema_finding *finding, const char *body,
                              struct slice event)
{
    const char *at = event.data;

    if (finding->problem == SCHEMA_UNKNOWN || finding->problem == SCHEMA_TWICE)
        at = finding->name.data - 1;
    else if (finding->value.len > 0)
        at = finding->value.data;
    return (size_t)(at - body);
}

enum json_scan_result mismatch_check(struct conn *conn, struct judging *judging,
                                     const struct json_scan_event *event)
{
    struct mismatch_set *own = conn->set->mismatch;
    struct json_scan *scan = &judging->scan;
    const struct config_stream *stream = conn_route(conn)->stream;
    const bool cut = scan->member_count > scan->member_max;
    const struct schema_event seen = {
        .members = scan->members,
        .count = cut ? scan->member_max : scan->member_count,
        .cut = cut,
        .end = event->text.data + event->text.len,
    };
    const struct schema_finding *refused = NULL;

    if (likely(
            !schema_check(judging->schema, &own->held[conn->stream].guess, &seen, &own->findings)))
        return JSON_SCAN_EVENT;
    for (size_t i = 0; i < own->findings.count; i++) {
        const struct schema_finding *finding = &own->findings.list[i];

        mismatch_count(conn, judging->schema, finding);
        if (refused == NULL && mismatch_refuses(stream, finding))
            refused = finding;
    }
    if (refused == NULL)
        return JSON_SCAN_EVENT;
    schemas_doubt(conn->set->parts.shared->schemas, conn->stream);
    json_scan_reject(scan, mismatch_offset(refused, scan->body, event->text),
                     "The event does not fit its table.");
    free(judging->mismatch);
    judging->mismatch = malloc(sizeof(*judging->mismatch));
    if (judging->mismatch != NULL)
        mismatch_fill(judging->schema, refused, judging->mismatch);
    return JSON_SCAN_MISMATCH;
}
