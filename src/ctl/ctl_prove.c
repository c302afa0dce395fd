/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_prove.c - alloyctl prove: whether the tables have what the journal says was inserted.
 *
 * Of each record the journal knows by which insert it went, until its segment is removed; and by
 * the column stream.proof the table tells the same of each row. So the two can be compared, insert
 * by insert, while alloyd runs: a record is INSERTED only once its row is there. A table may well
 * have more rows of an insert than are left in the journal; that an event is there twice is told by
 * the ids.
 *
 * Runs on: main thread. Owns: the inserts that it has found.
 */
#include "ctl_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/ask_clickhouse.h"
#include "alloy/clickhouse_url.h"
#include "alloy/config_name.h"
#include "alloy/journal_dir.h"
#include "ctl_json.h"
#include "ctl_walk.h"

#define TIMEOUT_MS 120000
#define TOKENS_AT_ONCE 500
#define IDS_AT_ONCE 1000
#define IDS_MAX 200000     /* of events that are looked for */
#define DIFFERENCES_MAX 20 /* that are told */
#define TOKEN_LEN 32

/* An insert of a stream, as far as the journal has it. */
struct prove_insert {
    uint64_t id;
    size_t stream;
    uint64_t inserted; /* records */
    uint64_t live;
    uint64_t rows;   /* in the table, with the token */
    uint64_t ids;    /* ... and different ids in them; where ids cannot be told, as many as rows */
    uint64_t untold; /* in the table by their ids, without it */
};

struct prove_stream {
    uint64_t inserts, inserted, live, rows, missing, untold;
    int64_t doubled; /* -1: the table has no column of the ids */
    bool unasked;    /* of some inserts nobody knows whether rows are doubled */
};

struct prove {
    const struct config *config;
    const char *only; /* the stream's name; NULL: all */
    struct ctl_out out;
    struct journal_dir folder;
    struct prove_insert *inserts; /* owned; once read by stream and id */
    size_t count, room;
    uint64_t problems;
    bool no_memory;
    struct prove_stream sums[CONFIG_STREAMS_MAX];
};

/* ---- the journal ---- */

static bool ctl_prove_concerns(const struct prove *prove, size_t stream)
{
    const struct config_stream *of = &prove->config->streams[stream];

    return of->proof != NULL && (prove->only == NULL || strcmp(prove->only, of->name) == 0);
}

/* The stream of a name that is to be looked at; the count: there is none. */
static size_t ctl_prove_stream(const struct prove *prove, const char *name)
{
    size_t i = 0;

    while (i < prove->config->stream_count &&
           (strcmp(prove->config->streams[i].name, name) != 0 || !ctl_prove_concerns(prove, i)))
        i++;
    return i;
}

static void ctl_prove_on_record(void *arg, const struct segment *segment,
                                const struct record *record)
{
    struct prove *prove = arg;
    const struct segment_header *header = (const struct segment_header *)segment->base;
    const uint16_t word = record_state(record);
    const uint16_t state =
        (uint16_t)(record_state_of(word) == 0 ? RECORD_LIVE : record_state_of(word));
    const uint64_t id = record_insert_id(record);
    const size_t stream = ctl_prove_stream(prove, header->streams[record->stream_entry]);
    struct prove_insert *last = prove->count > 0 ? &prove->inserts[prove->count - 1] : NULL;

    if ((state != RECORD_LIVE && state != RECORD_INSERTED) || (id & INSERT_ID_PROOF) == 0 ||
        stream == prove->config->stream_count || !record_insert_id_valid(record))
        return;
    if (last == NULL || last->id != id || last->stream != stream) {
        if (prove->count == prove->room) {
            const size_t room = prove->room > 0 ? 2 * prove->room : 1024;
            struct prove_insert *grown = reallocarray(prove->inserts, room, sizeof(*grown));

            if (grown == NULL) {
                prove->no_memory = true;
                return;
            }
            prove->inserts = grown;
            prove->room = room;
        }
        last = &prove->inserts[prove->count++];
        *last = (struct prove_insert){.id = id, .stream = stream};
    }
    last->inserted += state == RECORD_INSERTED;
    last->live += state == RECORD_LIVE;
}

/* alloyctl journal verify tells of those. */
static void ctl_prove_on_problem(void *arg, const struct segment *segment, size_t offset,
                                 const char *text)
{
    struct prove *prove = arg;

    (void)segment;
    (void)offset;
    (void)text;
    prove->problems++;
}

static int ctl_prove_compare(const void *left, const void *right)
{
    const struct prove_insert *a = left, *b = right;

    if (a->stream != b->stream)
        return a->stream < b->stream ? -1 : 1;
    if (insert_id_shard(a->id) != insert_id_shard(b->id))
        return insert_id_shard(a->id) < insert_id_shard(b->id) ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

/* Records of one insert can be in any segments. */
static void ctl_prove_join(struct prove *prove)
{
    size_t kept = 0;

    if (prove->count > 1)
        qsort(prove->inserts, prove->count, sizeof(*prove->inserts), ctl_prove_compare);
    for (size_t i = 0; i < prove->count; i++) {
        const struct prove_insert *insert = &prove->inserts[i];

        if (kept > 0 && ctl_prove_compare(&prove->inserts[kept - 1], insert) == 0) {
            prove->inserts[kept - 1].inserted += insert->inserted;
            prove->inserts[kept - 1].live += insert->live;
        } else {
            prove->inserts[kept++] = *insert;
        }
    }
    prove->count = kept;
}

/* Visits the records of all segments. */
static void ctl_prove_walk(struct prove *prove, const struct ctl_walk *walk)
{
    const struct segment_spec spec = {.dir_fd = prove->folder.fd,
                                      .instance_id = prove->folder.instance_id};

    for (size_t i = 0; i < prove->folder.file_count; i++) {
        struct segment *segment;
        const int err = segment_peek(&segment, &spec, prove->folder.files[i].number);

        prove->problems += err != 0 && err != -ENOENT; /* finished and removed meanwhile */
        if (err != 0)
            continue;
        (void)ctl_walk_segment(walk, segment);
        segment_close(segment);
    }
}

/* False: it cannot be read, which has been told. */
static bool ctl_prove_read(struct prove *prove)
{
    const struct ctl_walk walk = {
        .record = ctl_prove_on_record, .problem = ctl_prove_on_problem, .arg = prove};
    char error[JOURNAL_DIR_ERROR_MAX];

    if (journal_dir_peek(&prove->folder, prove->config->journal_dir, error) != 0) {
        fprintf(stderr, "alloyctl: %s\n", error);
        return false;
    }
    ctl_prove_walk(prove, &walk);
    ctl_prove_join(prove);
    if (prove->no_memory)
        fputs("alloyctl: out of memory\n", stderr);
    if (prove->problems > 0)
        fprintf(stderr,
                "alloyctl: the journal has %" PRIu64 " problem%s: see alloyctl journal verify\n",
                prove->problems, ctl_plural(prove->problems));
    return !prove->no_memory;
}

/* ---- the table ---- */

/* Turns to an endpoint of the shard that an insert is in; tries: how many of them to pass over.
 * False: the list has no other. */
static bool ctl_prove_turn_to(const struct prove *prove, struct ask_clickhouse *ask, size_t shard,
                              size_t tries)
{
    struct clickhouse_url walk = {.rest = prove->config->clickhouse_url};

    while (clickhouse_url_next(&walk))
        if (walk.shard == shard && tries-- == 0)
            return ask_clickhouse_at(ask, walk.number);
    return false;
}

static void ctl_prove_put_name(FILE *out, const char *name)
{
    char text[CONFIG_NAME_TEXT_MAX + 1] = "";

    config_name_append(text, name);
    fputs(text, out);
}

static void ctl_prove_put_ids(FILE *out, const struct config_stream *stream)
{
    for (size_t i = 0; i < stream->id_count; i++) {
        fputs(i > 0 ? ", " : "", out);
        ctl_prove_put_name(out, stream->ids[i].name);
    }
}

/* Writes " FROM t WHERE ins IN ('token', ...)". */
static void ctl_prove_put_from(FILE *out, const struct prove *prove,
                               const struct config_stream *stream, size_t first, size_t last)
{
    fprintf(out, " FROM %s WHERE ", stream->table_text);
    ctl_prove_put_name(out, stream->proof);
    fputs(" IN (", out);
    for (size_t i = first; i < last; i++)
        fprintf(out, "%s'%016" PRIx64 "%016" PRIx64 "'", i > first ? "," : "",
                prove->folder.instance_id, prove->inserts[i].id);
    fputs(")", out);
}

/* Whether each row has all of its id in columns of its own. */
static bool ctl_prove_has_ids(const struct config_stream *stream)
{
    bool has = stream->missing_id == CONFIG_MISSING_REFUSE;

    for (size_t i = 0; i < stream->id_count; i++)
        has = has && stream->ids[i].kind == CONFIG_ID_MEMBER && stream->ids[i].field == i;
    return has;
}

/* Asks the query that was written to out, which it closes. False: there is no answer. */
static bool ctl_prove_ask(struct ask_clickhouse *ask, FILE *out, char **query)
{
    const bool right = fclose(out) == 0 && ask_clickhouse(ask, *query, NULL, 0);

    free(*query);
    *query = NULL;
    return right;
}

/* Notes the rows of each token that an answer lists. */
static void ctl_prove_note(struct prove *prove, const char *body, size_t first, size_t last)
{
    for (const char *line = body; line != NULL && *line != '\0';
         line = strchr(line, '\n'), line += line != NULL) {
        uint64_t id, rows, ids;

        if (sscanf(line, "%*16[0-9a-f]%16" SCNx64 "\t%" SCNu64 "\t%" SCNu64, &id, &rows, &ids) != 3)
            continue;
        for (size_t i = first; i < last; i++)
            if (prove->inserts[i].id == id) {
                prove->inserts[i].rows = rows;
                prove->inserts[i].ids = ids;
            }
    }
}

/* Asks for some inserts of a stream. False: there is no answer. */
static bool ctl_prove_some(struct prove *prove, struct ask_clickhouse *ask, size_t first,
                           size_t last)
{
    const size_t index = prove->inserts[first].stream;
    const struct config_stream *stream = &prove->config->streams[index];
    struct prove_stream *sum = &prove->sums[index];
    uint64_t rows, ids;
    char *query = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&query, &size);

    if (out == NULL)
        return false;
    fputs("SELECT toString(", out);
    ctl_prove_put_name(out, stream->proof);
    fputs(") AS token, count(), ", out);
    if (ctl_prove_has_ids(stream)) {
        fputs("uniqExact(", out);
        ctl_prove_put_ids(out, stream);
        fputs(")", out);
    } else {
        fputs("count()", out);
    }
    ctl_prove_put_from(out, prove, stream, first, last);
    fputs(" GROUP BY token FORMAT TabSeparated", out);
    if (!ctl_prove_ask(ask, out, &query))
        return false;
    ctl_prove_note(prove, ask->body, first, last);
    if (!ctl_prove_has_ids(stream)) {
        sum->doubled = -1;
        return true;
    }
    out = open_memstream(&query, &size);
    if (out == NULL)
        return false;
    fputs("SELECT count(), uniqExact(", out);
    ctl_prove_put_ids(out, stream);
    fprintf(out, ") FROM %s WHERE (", stream->table_text);
    ctl_prove_put_ids(out, stream);
    fputs(") IN (SELECT ", out);
    ctl_prove_put_ids(out, stream);
    ctl_prove_put_from(out, prove, stream, first, last);
    fputs(") FORMAT TabSeparated", out);
    if (ctl_prove_ask(ask, out, &query) &&
        sscanf(ask->body, "%" SCNu64 "\t%" SCNu64, &rows, &ids) == 2) {
        sum->doubled += (int64_t)(rows - ids);
    } else {
        sum->unasked = true;
        fprintf(stderr, "alloyctl: table %s cannot be asked for doubled rows: %s\n",
                stream->table_text, ask->answer.why);
    }
    return true;
}

/* The same at the endpoints of their shard, one after the other, until one answers. */
static bool ctl_prove_shard(struct prove *prove, struct ask_clickhouse *ask, size_t first,
                            size_t last)
{
    const size_t shard = insert_id_shard(prove->inserts[first].id);
    const char *table = prove->config->streams[prove->inserts[first].stream].table_text;
    const char *why = "clickhouse.url no longer has it";

    for (size_t i = 0; ctl_prove_turn_to(prove, ask, shard, i); i++) {
        if (ctl_prove_some(prove, ask, first, last))
            return true;
        why = ask->answer.why;
    }
    fprintf(stderr, "alloyctl: table %s cannot be asked in shard %zu: %s\n", table, shard + 1, why);
    return false;
}

/* False: some table could not be asked. */
static bool ctl_prove_ask_all(struct prove *prove, struct ask_clickhouse *ask)
{
    bool told = true;
    size_t first = 0;

    while (told && first < prove->count) {
        const struct prove_insert *begin = &prove->inserts[first];
        size_t last = first;

        while (last < prove->count && last - first < TOKENS_AT_ONCE &&
               prove->inserts[last].stream == begin->stream &&
               insert_id_shard(prove->inserts[last].id) == insert_id_shard(begin->id))
            last++;
        told = ctl_prove_shard(prove, ask, first, last);
        first = last;
    }
    return told;
}

/* ---- the answer ---- */

/* Records of an insert that the table lacks, though they are INSERTED. */
static uint64_t ctl_prove_missing(const struct prove_insert *insert)
{
    const uint64_t there = insert->ids + insert->untold;

    return there < insert->inserted ? insert->inserted - there : 0;
}

/* ---- rows without their token ---- */

/* Ids of records whose token has too few rows. */
struct prove_ids {
    struct prove *prove;
    struct prove_id {
        size_t insert; /* its index */
        char *text;    /* owned */
    } * ids;
    size_t count, room;
};

static void ctl_prove_on_lacking(void *arg, const struct segment *segment,
                                 const struct record *record)
{
    struct prove_ids *list = arg;
    struct prove *prove = list->prove;
    const struct segment_header *header = (const struct segment_header *)segment->base;
    const uint16_t word = record_state(record);
    const struct prove_insert key = {
        .id = record_insert_id(record),
        .stream = ctl_prove_stream(prove, header->streams[record->stream_entry])};
    const struct prove_insert *insert;

    if (record_state_of(word) != RECORD_INSERTED || key.stream == prove->config->stream_count ||
        !record_insert_id_valid(record) || list->count == IDS_MAX)
        return;
    insert =
        bsearch(&key, prove->inserts, prove->count, sizeof(*prove->inserts), ctl_prove_compare);
    if (insert == NULL || ctl_prove_missing(insert) == 0)
        return;
    if (list->count == list->room) {
        const size_t room = list->room > 0 ? 2 * list->room : 1024;
        struct prove_id *grown = reallocarray(list->ids, room, sizeof(*grown));

        prove->no_memory = prove->no_memory || grown == NULL;
        if (grown == NULL)
            return;
        list->ids = grown;
        list->room = room;
    }
    list->ids[list->count] =
        (struct prove_id){.insert = (size_t)(insert - prove->inserts),
                          .text = strndup(record_id(record), record->id_length)};
    prove->no_memory = prove->no_memory || list->ids[list->count].text == NULL;
    list->count += list->ids[list->count].text != NULL;
}

static int ctl_prove_compare_ids(const void *left, const void *right)
{
    const struct prove_id *a = left, *b = right;

    return (a->insert > b->insert) - (a->insert < b->insert);
}

static void ctl_prove_put_text(FILE *out, const char *text)
{
    fputc('\'', out);
    for (; *text != '\0'; text++)
        fprintf(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
    fputc('\'', out);
}

/* Counts those of some ids of one insert that are there under another token, or under none. */
static void ctl_prove_look_for(struct prove *prove, struct ask_clickhouse *ask,
                               const struct prove_id *ids, size_t count)
{
    struct prove_insert *insert = &prove->inserts[ids[0].insert];
    const struct config_stream *stream = &prove->config->streams[insert->stream];
    char *query = NULL;
    size_t size = 0;
    uint64_t there;
    FILE *out = open_memstream(&query, &size);

    if (out == NULL)
        return;
    fputs("SELECT uniqExact(toString(", out);
    ctl_prove_put_ids(out, stream);
    fprintf(out, ")) FROM %s WHERE toString(", stream->table_text);
    ctl_prove_put_name(out, stream->proof);
    fprintf(out, ") != '%016" PRIx64 "%016" PRIx64 "' AND toString(", prove->folder.instance_id,
            insert->id);
    ctl_prove_put_ids(out, stream);
    fputs(") IN (", out);
    for (size_t i = 0; i < count; i++) {
        fputs(i > 0 ? "," : "", out);
        ctl_prove_put_text(out, ids[i].text);
    }
    fputs(")", out);
    if (ctl_prove_ask(ask, out, &query) && sscanf(ask->body, "%" SCNu64, &there) == 1)
        insert->untold += there;
}

/* Whether an event's id is in one column as it is in the journal. */
static bool ctl_prove_has_id(const struct config_stream *stream)
{
    return stream->id_count == 1 && ctl_prove_has_ids(stream);
}

/*
 * Looks by their ids for events whose token has too few rows: a column that had another default
 * when they came has something else in them. False: out of memory.
 */
static bool ctl_prove_untold(struct prove *prove, struct ask_clickhouse *ask)
{
    struct prove_ids list = {.prove = prove};
    const struct ctl_walk walk = {
        .record = ctl_prove_on_lacking, .problem = ctl_prove_on_problem, .arg = &list};
    const uint64_t problems = prove->problems;
    size_t first = 0;
    bool lacking = false;

    for (size_t i = 0; i < prove->count; i++)
        lacking = lacking || ctl_prove_missing(&prove->inserts[i]) > 0;
    if (lacking)
        ctl_prove_walk(prove, &walk);
    prove->problems = problems; /* they are told */
    if (list.count > 1)
        qsort(list.ids, list.count, sizeof(*list.ids), ctl_prove_compare_ids);
    while (first < list.count) {
        const struct prove_insert *insert = &prove->inserts[list.ids[first].insert];
        size_t last = first;

        while (last < list.count && last - first < IDS_AT_ONCE &&
               list.ids[last].insert == list.ids[first].insert)
            last++;
        for (size_t i = 0; ctl_prove_has_id(&prove->config->streams[insert->stream]) &&
                           ctl_prove_turn_to(prove, ask, insert_id_shard(insert->id), i);
             i++) {
            ctl_prove_look_for(prove, ask, &list.ids[first], last - first);
            if (ask->answer.right)
                break;
        }
        first = last;
    }
    for (size_t i = 0; i < list.count; i++)
        free(list.ids[i].text);
    free(list.ids);
    if (prove->no_memory)
        fputs("alloyctl: out of memory\n", stderr);
    return !prove->no_memory;
}

static void ctl_prove_sum(struct prove *prove)
{
    for (size_t i = 0; i < prove->count; i++) {
        const struct prove_insert *insert = &prove->inserts[i];
        struct prove_stream *sum = &prove->sums[insert->stream];

        sum->inserts++;
        sum->inserted += insert->inserted;
        sum->live += insert->live;
        sum->rows += insert->rows;
        sum->missing += ctl_prove_missing(insert);
        sum->untold += insert->untold;
    }
}

/* What was found counts, even if not all could be asked. */
static bool ctl_prove_knows_doubled(const struct prove_stream *sum)
{
    return sum->doubled > 0 || (sum->doubled == 0 && !sum->unasked);
}

static int ctl_prove_print_json(const struct prove *prove)
{
    json_t *streams = json_array(), *differences = json_array(), *without = json_array();

    for (size_t i = 0; i < prove->config->stream_count; i++) {
        const struct prove_stream *sum = &prove->sums[i];
        const struct config_stream *of = &prove->config->streams[i];

        if (prove->only == NULL && of->proof == NULL)
            json_array_append_new(without, json_string(of->name));
        if (ctl_prove_concerns(prove, i))
            json_array_append_new(
                streams,
                json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "stream", of->name,
                          "table", ctl_json_text(of->table_text), "inserts",
                          ctl_json_number(sum->inserts), "inserted", ctl_json_number(sum->inserted),
                          "rows", ctl_json_number(sum->rows), "missing",
                          ctl_json_number(sum->missing), "untold", ctl_json_number(sum->untold),
                          "doubled",
                          !ctl_prove_knows_doubled(sum) ? json_null() : json_integer(sum->doubled),
                          "pending", ctl_json_number(sum->live)));
    }
    for (size_t i = 0; i < prove->count; i++) {
        const struct prove_insert *insert = &prove->inserts[i];
        char token[TOKEN_LEN + 1];

        if (ctl_prove_missing(insert) == 0)
            continue;
        snprintf(token, sizeof(token), "%016" PRIx64 "%016" PRIx64, prove->folder.instance_id,
                 insert->id);
        json_array_append_new(differences,
                              json_pack("{s:s, s:s, s:o, s:o}", "stream",
                                        prove->config->streams[insert->stream].name, "token", token,
                                        "inserted", ctl_json_number(insert->inserted), "rows",
                                        ctl_json_number(insert->rows)));
    }
    return ctl_print_json(json_pack("{s:o, s:o, s:o}", "streams", streams, "differences",
                                    differences, "without_proof", without),
                          prove->out.file);
}

static void ctl_prove_print(const struct prove *prove)
{
    FILE *out = prove->out.file;
    size_t told = 0;

    fprintf(out, "%-32s %10s %12s %12s %10s %10s %10s\n", "STREAM", "INSERTS", "INSERTED", "ROWS",
            "MISSING", "DOUBLED", "PENDING");
    for (size_t i = 0; i < prove->config->stream_count; i++) {
        const struct prove_stream *sum = &prove->sums[i];

        if (!ctl_prove_concerns(prove, i))
            continue;
        fprintf(out, "%-32s %10" PRIu64 " %12" PRIu64 " %12" PRIu64 " %10" PRIu64,
                prove->config->streams[i].name, sum->inserts, sum->inserted, sum->rows,
                sum->missing);
        if (!ctl_prove_knows_doubled(sum))
            fprintf(out, " %10s", "?");
        else
            fprintf(out, " %10" PRId64, sum->doubled);
        fprintf(out, " %10" PRIu64 "\n", sum->live);
    }
    for (size_t i = 0; i < prove->count; i++) {
        const struct prove_insert *insert = &prove->inserts[i];

        if (ctl_prove_missing(insert) == 0 || told++ >= DIFFERENCES_MAX)
            continue;
        fprintf(out,
                "stream %s, token %016" PRIx64 "%016" PRIx64 ": %" PRIu64
                " events are inserted, %" PRIu64 " are there, in %" PRIu64 " rows\n",
                prove->config->streams[insert->stream].name, prove->folder.instance_id, insert->id,
                insert->inserted, insert->ids, insert->rows);
    }
    if (told > DIFFERENCES_MAX)
        fprintf(out, "and %zu inserts more\n", told - DIFFERENCES_MAX);
    for (size_t i = 0; i < prove->config->stream_count; i++) {
        const struct prove_stream *sum = &prove->sums[i];
        const struct config_stream *of = &prove->config->streams[i];

        if (prove->only == NULL && of->proof == NULL)
            fprintf(out, "stream %s: it has no proof, so nothing is compared\n", of->name);
        if (ctl_prove_concerns(prove, i) && sum->inserts == 0)
            fprintf(
                out,
                "stream %s: the journal has no event that was inserted with its token in column "
                "%s, so nothing is compared; 'alloyctl doctor' says what such a column needs\n",
                of->name, of->proof);
        if (sum->untold > 0)
            fprintf(out,
                    "stream %s: %" PRIu64 " events are in the table by their ids, but column %s "
                    "has not their insert's token: it had another default when they came. Whether "
                    "each came once is told by DOUBLED for the others alone\n",
                    of->name, sum->untold, of->proof);
        if (sum->missing > 0 && !ctl_prove_has_id(of))
            fprintf(out,
                    "stream %s: no row has the token of what is MISSING; whether the rows are "
                    "there without it, as when column %s had another default, cannot be known, "
                    "since the id is not one column of the table\n",
                    of->name, of->proof);
    }
}

static int ctl_prove_tell(const struct prove *prove)
{
    bool differs = prove->problems > 0;
    int status = EXIT_SUCCESS;

    if (prove->out.json)
        status = ctl_prove_print_json(prove);
    else
        ctl_prove_print(prove);
    for (size_t i = 0; i < prove->config->stream_count; i++)
        differs = differs || prove->sums[i].missing > 0 || prove->sums[i].doubled > 0 ||
                  prove->sums[i].unasked;
    return differs ? EXIT_FAILURE : status;
}

static int ctl_prove_run(const struct ctl_given *given)
{
    struct prove *prove = calloc(1, sizeof(*prove));
    struct config *config =
        prove == NULL ? NULL
                      : config_load(ctl_value_or(given, "config", CTL_CONFIG), NULL, 0, 1, stderr);
    struct ask_clickhouse ask;
    int status = EXIT_FAILURE;
    bool any = false;

    if (config == NULL) {
        free(prove);
        return CTL_USAGE;
    }
    *prove = (struct prove){
        .config = config, .only = ctl_value(given, "stream"), .out = given->out, .folder.fd = -1};
    for (size_t i = 0; i < config->stream_count; i++)
        any = any || ctl_prove_concerns(prove, i);
    if (!any && prove->only != NULL) {
        fprintf(stderr, "alloyctl: there is no stream %s with proof in the configuration\n",
                prove->only);
        status = CTL_USAGE;
    } else if (!any) {
        fputs("alloyctl: no stream of the configuration has proof\n", stderr);
        status = CTL_USAGE;
    } else if (ctl_prove_read(prove)) {
        if (ask_clickhouse_open(&ask, config, TIMEOUT_MS) && ctl_prove_ask_all(prove, &ask) &&
            ctl_prove_untold(prove, &ask)) {
            ctl_prove_sum(prove);
            status = ctl_prove_tell(prove);
        }
        ask_clickhouse_close(&ask);
        journal_dir_peek_end(&prove->folder);
    }
    free(prove->inserts);
    free(prove);
    config_destroy(config);
    return status;
}

static const struct ctl_option ctl_prove_options[] = {
    CTL_OPTION_CONFIG("the configuration of alloyd, with its journal, streams and ClickHouse "
                      "(default " CTL_CONFIG ")"),
    CTL_OPTION_STREAM("look at this stream alone"),
    {.name = NULL}};

const struct ctl_command ctl_prove_command = {
    .name = "prove",
    .summary = "compare the tables with what the journal says was inserted",
    .help = "Reads alloyd's journal, while it runs or not, and asks the table of each stream with "
            "proof for the rows of each insert that the journal still knows: until its segments "
            "are removed. Each insert is looked for in its shard, at an endpoint that answers. "
            "MISSING are events that count as inserted and are not there, DOUBLED rows of these "
            "inserts whose id is in the table more than once, PENDING events that "
            "alloyd has not brought there yet.\n\n"
            "Run it as alloyd's user. Exit status 1 when something is missing or doubled, or could "
            "not be asked.",
    .options = ctl_prove_options,
    .run = ctl_prove_run,
};
