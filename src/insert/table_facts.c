/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_facts.c - what is to be known of a server and a table before Alloy inserts.
 *
 * An async insert is safe where three things hold. The answer says how many rows were written:
 * before 26.4.1 it says 0, whatever happened (ClickHouse #57768, #99879), so done cannot be told
 * from lost. Its token is honored: on plain MergeTree that too is young. And no token reaches a
 * partition that its rows do not: ClickHouse #111031 (rows silently lost) and #110604 (the insert
 * fails) hit partitioned tables until the versions below. A version that is not known to be good
 * is taken for a bad one: synchronous inserts work everywhere.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "table_facts.h"

#include <stdio.h>
#include <string.h>

#include "alloy/text.h"
#include "alloy/members.h"

#define VERSION_PARTS 4
#define FACTS_FIELDS 9
#define COLUMN_FIELDS 5
#define ENGINE_FULL_MAX 1024  /* as much as the question asks for */
#define HEADER_MAX 1024       /* of an answer about columns */
#define NAME_ROOM 1024        /* for a field's name; a longer one is not compared */
#define NAME_TOLD_MAX 32      /* bytes of a name that are told */
#define NAMES_TOLD_MAX 4      /* of a kind */
#define EVENT_FIELDS_MAX 1000 /* that are compared */
#define NO_UUID "00000000-0000-0000-0000-000000000000"

/* First releases, branch by branch, in which async inserts into partitioned tables are sound. The
 * last branch stands for all later ones. */
static const unsigned partitions_fixed[][VERSION_PARTS] = {
    {26, 4, 5, 151},
    {26, 5, 6, 63},
    {26, 6, 2, 98},
    {26, 7, 0, 0},
};
static const unsigned async_counted[VERSION_PARTS] = {26, 4, 1, 0};

/*
 * Engines that keep what an insert leaves, beside the MergeTree family. Of all others an insert may
 * be done though the row is nowhere (Null), or may have gone to tables that we cannot see from here
 * (Distributed, MaterializedView, Kafka): there a refusal by a view is taken for the row's.
 */
static const struct {
    const char *name;
    bool keyed; /* the same row again takes the place of the first */
} storing_engines[] = {
    {"Log", false},
    {"TinyLog", false},
    {"StripeLog", false},
    {"Memory", false},
    {"Buffer", false},
    {"Set", true},
    {"Join", false},
    {"KeeperMap", true},
    {"EmbeddedRocksDB", true},
    {"File", false},
    {"URL", false},
    {"S3", false},
    {"GCS", false},
    {"OSS", false},
    {"COSN", false},
    {"HDFS", false},
    {"AzureBlobStorage", false},
    {"MySQL", false},
    {"PostgreSQL", false},
    {"SQLite", false},
    {"MongoDB", false},
    {"Redis", true},
    {"ODBC", false},
    {"JDBC", false},
};

static int table_facts_version_compare(const unsigned *a, const unsigned *b, size_t parts)
{
    for (size_t i = 0; i < parts; i++) {
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    }
    return 0;
}

static bool table_facts_version_read(const char *text, unsigned version[VERSION_PARTS])
{
    return sscanf(text, "%5u.%5u.%5u.%5u", &version[0], &version[1], &version[2], &version[3]) ==
           VERSION_PARTS;
}

static bool table_facts_version_partitions_fixed(const unsigned version[VERSION_PARTS])
{
    const size_t last = ARRAY_LEN(partitions_fixed) - 1;

    for (size_t i = 0; i < last; i++) {
        if (table_facts_version_compare(version, partitions_fixed[i], 2) == 0)
            return table_facts_version_compare(version, partitions_fixed[i], VERSION_PARTS) >= 0;
    }
    return table_facts_version_compare(version, partitions_fixed[last], VERSION_PARTS) >= 0;
}

static bool table_facts_begins(struct slice text, const char *prefix)
{
    return text.len >= strlen(prefix) && memcmp(text.data, prefix, strlen(prefix)) == 0;
}

static bool table_facts_ends(struct slice text, const char *suffix)
{
    size_t len = strlen(suffix);

    return text.len >= len && memcmp(text.data + text.len - len, suffix, len) == 0;
}

static bool table_facts_equals(struct slice text, const char *word)
{
    return text.len == strlen(word) && table_facts_begins(text, word);
}

/* Cuts the next row of TabSeparated at its tabs, and takes it off body. False: it has not count
 * fields and a newline. */
static bool table_facts_split_row(struct slice *body, struct slice *fields, size_t count)
{
    const char *at = body->data;
    const char *end = body->len == 0 ? NULL : memchr(body->data, '\n', body->len);

    if (end == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *stop = memchr(at, '\t', (size_t)(end - at));

        if ((stop == NULL) != (i == count - 1))
            return false;
        if (stop == NULL)
            stop = end;
        fields[i] = (struct slice){at, (size_t)(stop - at)};
        at = stop + 1;
    }
    *body = (struct slice){end + 1, body->len - (size_t)(end + 1 - body->data)};
    return true;
}

/* Writes a field of TabSeparated without its escapes to out, which has room for it and a NUL.
 * Returns its length. */
static size_t table_facts_unescape(struct slice field, char *out)
{
    static const char letters[] = "bfrnt0", bytes[] = "\b\f\r\n\t";
    size_t len = 0;

    for (size_t i = 0; i < field.len; i++) {
        char byte = field.data[i];

        if (byte == '\\' && i + 1 < field.len) {
            const char *known;

            byte = field.data[++i];
            known = byte == '\0' ? NULL : strchr(letters, byte);
            if (known != NULL)
                byte = bytes[known - letters];
        }
        out[len++] = byte;
    }
    out[len] = '\0';
    return len;
}

static bool table_facts_copy_field(char out[TABLE_FACTS_FIELD_MAX], struct slice field)
{
    if (field.len >= TABLE_FACTS_FIELD_MAX || memchr(field.data, '\0', field.len) != NULL)
        return false;
    snprintf(out, TABLE_FACTS_FIELD_MAX, "%.*s", field.len == 0 ? 1 : (int)field.len,
             field.len == 0 ? "-" : field.data);
    return true;
}

/* A number of digits and nothing else; false: it is none, or too large. */
static bool table_facts_read_number(struct slice text, uint64_t *value)
{
    *value = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        *value = *value * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.len > 0 && text.len < 19;
}

static const char *table_facts_async_unsafe(const struct table_facts *facts, bool merge_tree)
{
    unsigned version[VERSION_PARTS];

    if (!table_facts_version_read(facts->version, version))
        return "this version of ClickHouse is not known";
    if (!facts->counts_async)
        return "this version of ClickHouse does not tell how many rows an async insert has written";
    /* What stands behind a Distributed table or a view cannot be seen from here. */
    if ((facts->partitioned || !merge_tree) && !table_facts_version_partitions_fixed(version))
        return "this version of ClickHouse can lose async inserts into partitioned tables";
    return NULL;
}

/* Whether an engine beside the MergeTree family keeps its rows; keyed: one for each key. */
static bool table_facts_stores_rows(struct slice engine, bool *keyed)
{
    *keyed = false;
    for (size_t i = 0; i < ARRAY_LEN(storing_engines); i++)
        if (table_facts_equals(engine, storing_engines[i].name)) {
            *keyed = storing_engines[i].keyed;
            return true;
        }
    return table_facts_begins(engine, "Iceberg") || table_facts_begins(engine, "DeltaLake");
}

/* Replicated and Shared tables have windows of their own. */
static const char *table_facts_doubles(struct slice engine, struct slice window, bool merge_tree)
{
    bool keyed;

    if (merge_tree)
        return table_facts_begins(engine, "Replicated") || table_facts_begins(engine, "Shared") ||
                       (window.len > 0 && !table_facts_equals(window, "0"))
                   ? NULL
                   : "no non_replicated_deduplication_window, so a retried insert can give rows "
                     "twice";
    return table_facts_stores_rows(engine, &keyed) && !keyed
               ? "its engine drops no repeated insert, so a retried insert can give rows twice: "
                 "take a MergeTree"
               : NULL;
}

/* The first argument of an engine, where that is a string, without its quotes. engine_full is
 * "ReplicatedMergeTree('/path', '{replica}') ORDER BY ..."; false: there is none. */
static bool table_facts_first_argument(const char *engine_full, char *out)
{
    const char *at = strchr(engine_full, '(');

    if (at == NULL || strchr(engine_full, ' ') < at || *++at != '\'')
        return false;
    for (at++; *at != '\0' && *at != '\''; at++) {
        if (*at == '\\' && at[1] != '\0')
            at++;
        *out++ = *at;
    }
    *out = '\0';
    return *at == '\'';
}

/* Writes path with uuid for {uuid}. False: it is too long. */
static bool table_facts_expand(const char *path, const char *uuid,
                               char out[TABLE_FACTS_IDENTITY_MAX])
{
    static const char macro[] = "{uuid}";
    size_t len = 0;

    while (*path != '\0') {
        const bool found = strncmp(path, macro, strlen(macro)) == 0;
        const size_t n = found ? strlen(uuid) : 1;

        if (len + n >= TABLE_FACTS_IDENTITY_MAX)
            return false;
        memcpy(out + len, found ? uuid : path, n);
        len += n;
        path += found ? strlen(macro) : 1;
    }
    out[len] = '\0';
    return len > 0;
}

static void table_facts_identify(struct table_facts *facts, struct slice uuid,
                                 struct slice engine_full)
{
    char text[ENGINE_FULL_MAX + 1], path[ENGINE_FULL_MAX + 1];
    const bool known = uuid.len == strlen(NO_UUID) && !table_facts_equals(uuid, NO_UUID);
    char name[sizeof(NO_UUID)] = "";

    if (known)
        memcpy(name, uuid.data, uuid.len);
    if (engine_full.len < sizeof(text) && (table_facts_begins(engine_full, "Replicated") ||
                                           table_facts_begins(engine_full, "Shared"))) {
        (void)table_facts_unescape(engine_full, text);
        /* A path that holds an unknown UUID would be the same for every table. */
        if (table_facts_first_argument(text, path) && (known || strstr(path, "{uuid}") == NULL) &&
            table_facts_expand(path, name, facts->identity))
            return;
    }
    snprintf(facts->identity, sizeof(facts->identity), "%s", name);
}

bool table_facts_read(struct slice body, struct table_facts *facts)
{
    struct slice fields[FACTS_FIELDS];
    unsigned version[VERSION_PARTS];
    bool merge_tree, keyed;

    *facts = (struct table_facts){.table_exists = false};
    if (!table_facts_split_row(&body, fields, FACTS_FIELDS) || fields[0].len == 0 ||
        !table_facts_copy_field(facts->version, fields[0]) ||
        !table_facts_copy_field(facts->engine, fields[2]) ||
        !table_facts_copy_field(facts->window, fields[4]))
        return false;
    facts->table_exists = !table_facts_equals(fields[1], "0");
    facts->partitioned = !table_facts_equals(fields[3], "0");
    facts->counts_async = table_facts_version_read(facts->version, version) &&
                          table_facts_version_compare(version, async_counted, VERSION_PARTS) >= 0;
    merge_tree = table_facts_ends(fields[2], "MergeTree");
    /* What stands behind any other engine cannot be seen from here. */
    facts->has_views = !merge_tree || !table_facts_equals(fields[5], "0");
    facts->stores_rows = merge_tree || table_facts_stores_rows(fields[2], &keyed);
    /* It writes the token before it commits the part. Of other plain engines, which merge rows into
     * each other, a row that is missing tells nothing. */
    facts->forgets_rows = table_facts_equals(fields[2], "MergeTree") && fields[4].len > 0 &&
                          !table_facts_equals(fields[4], "0");
    facts->async_unsafe = table_facts_async_unsafe(facts, merge_tree);
    facts->doubles = table_facts_doubles(fields[2], fields[4], merge_tree);
    if (!table_facts_read_number(fields[7], &facts->modified_s))
        facts->modified_s = 0;
    if (facts->table_exists)
        table_facts_identify(facts, fields[6], fields[8]);
    return true;
}

/* ---- columns ---- */

/* Notes a setting, NAME=VALUE, that a value's meaning may depend on. */
static void table_facts_read_setting(const char *pair, struct table_columns *columns)
{
    /* With these differently set ClickHouse takes less, or other values for a default. */
    static const char *const harmless[] = {
        "read_bools_as_numbers=",
        "read_bools_as_strings=",
        "read_numbers_as_strings=",
        "read_objects_as_strings=",
        "read_arrays_as_strings=",
        "try_infer_",
        "infer_",
        "use_string_type_for_",
        "validate_types_from_metadata=",
        "ignore_unknown_keys_in_named_tuple=",
        "defaults_for_missing_elements_in_named_tuple=",
        "throw_on_bad_escape_sequence=",
        "ignore_unnecessary_fields=",
        "max_depth=",
        "compact_",
        "empty_as_default=",
    };
    static const char times[] = "date_time_input_format=", prefix[] = "input_format_json_";
    static const char tuples[] = "named_tuples_as_objects=";
    const char *name = pair + strlen(prefix);

    if (strncmp(pair, times, strlen(times)) == 0) {
        columns->times_differ = strcmp(pair + strlen(times), "best_effort") != 0;
        return;
    }
    if (strncmp(pair, prefix, strlen(prefix)) != 0) {
        columns->values_differ = true;
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
        if (strncmp(name, harmless[i], strlen(harmless[i])) == 0)
            return;
    if (strncmp(name, tuples, strlen(tuples)) == 0)
        columns->tuples_differ = strcmp(name + strlen(tuples), "1") != 0;
    else
        columns->values_differ = true;
}

/* "COLUMNS MODE NESTED", and settings: how many the table has, and two settings, of which a server
 * may know neither. False: it is something else. */
static bool table_facts_read_header(struct slice field, struct table_columns *columns,
                                    uint64_t *total)
{
    char text[HEADER_MAX];
    char *at = text, *mode, *word;

    columns->values_differ = field.len >= sizeof(text);
    if (columns->values_differ)
        field.len = sizeof(text) - 1;
    (void)table_facts_unescape(field, text);
    word = strsep(&at, " ");
    mode = strsep(&at, " ");
    if (!table_facts_read_number((struct slice){word, strlen(word)}, total) || at == NULL)
        return false;
    columns->ignore_case = strcmp(mode, "auto") == 0 || strcmp(mode, "ignore_case") == 0;
    columns->nested_json = strcmp(strsep(&at, " "), "1") == 0;
    while ((word = strsep(&at, " ")) != NULL)
        if (*word != '\0')
            table_facts_read_setting(word, columns);
    return true;
}

static bool table_facts_is_nullable(const char *type)
{
    static const char *const begins[] = {"Nullable(", "LowCardinality(Nullable(", "Dynamic",
                                         "Variant("};

    for (size_t i = 0; i < ARRAY_LEN(begins); i++)
        if (strncmp(type, begins[i], strlen(begins[i])) == 0)
            return true;
    return false;
}

static enum table_column_kind table_facts_kind(const char *kind)
{
    if (kind[0] == '\0')
        return TABLE_COLUMN_ORDINARY;
    if (strcmp(kind, "DEFAULT") == 0)
        return TABLE_COLUMN_DEFAULT;
    return strcmp(kind, "EPHEMERAL") == 0 ? TABLE_COLUMN_EPHEMERAL : TABLE_COLUMN_NOT_INSERTED;
}

/* Cuts what follows a space off the kind of a default, and returns it; "": nothing does. */
static const char *table_facts_split_kind(char *kind)
{
    char *space = kind + strcspn(kind, " ");

    if (*space == '\0')
        return space;
    *space = '\0';
    return space + 1;
}

struct table_columns *table_columns_read(struct slice body)
{
    /* A row has a tab or a newline after each field. */
    const size_t rows_max = body.len / COLUMN_FIELDS;
    const size_t room = rows_max < TABLE_COLUMNS_MAX ? rows_max : TABLE_COLUMNS_MAX;
    const size_t head = sizeof(struct table_columns) + room * sizeof(struct table_column);
    struct table_columns *columns = calloc(1, head + body.len + 2);
    struct slice fields[COLUMN_FIELDS];
    uint64_t total = 0, position;
    char *text;

    if (columns == NULL)
        return NULL;
    text = (char *)columns + head;
    while (columns->count < room && table_facts_split_row(&body, fields, COLUMN_FIELDS)) {
        struct table_column *column = &columns->columns[columns->count];

        /* A gap: the middle of a long answer is cut out, and the row before is of two halves. */
        if (!table_facts_read_number(fields[0], &position) || position != columns->count + 1) {
            columns->count -= columns->count > 0;
            break;
        }
        if (columns->count == 0 && !table_facts_read_header(fields[1], columns, &total))
            break;
        column->name = text;
        text += table_facts_unescape(fields[2], text) + 1;
        column->type = text;
        text += table_facts_unescape(fields[3], text) + 1;
        column->default_kind = text;
        text += table_facts_unescape(fields[4], text) + 1;
        column->expression = table_facts_split_kind((char *)column->default_kind);
        column->kind = table_facts_kind(column->default_kind);
        column->nullable = table_facts_is_nullable(column->type);
        columns->count++;
    }
    columns->partial = columns->count < total;
    if (columns->count > 0)
        return columns;
    free(columns);
    return NULL;
}

/* ---- an event beside the columns ---- */

/* Names that are told, at most so many. */
struct names {
    char text[NAMES_TOLD_MAX * (NAME_TOLD_MAX + 2) + 32];
    size_t len;
    size_t count;
};

struct comparison {
    const struct table_columns *columns;
    bool filled[TABLE_COLUMNS_MAX];
    size_t fields; /* compared */
    size_t met;
    struct names unmet;
};

/* Adds a name. Control characters, quotes, and what is no UTF-8 become '?', and so a name cannot
 * end a line of the log, nor a value in it. */
static void table_facts_add_name(struct names *names, const char *name)
{
    size_t left = strlen(name);
    size_t told = 0;

    if (names->count++ >= NAMES_TOLD_MAX)
        return;
    if (names->count > 1)
        names->len += (size_t)sprintf(names->text + names->len, ", ");
    while (left > 0) {
        const size_t n = text_utf8_len(name, left);
        const bool plain = text_is_shown(name, n) && *name != '"' && *name != '\\';

        if (told + (n == 0 ? 1 : n) > NAME_TOLD_MAX - 3) {
            names->len += (size_t)sprintf(names->text + names->len, "...");
            return;
        }
        memcpy(names->text + names->len, plain ? name : "?", plain ? n : 1);
        names->len += plain ? n : 1;
        told += plain ? n : 1;
        name += n == 0 ? 1 : n;
        left -= n == 0 ? 1 : n;
    }
    names->text[names->len] = '\0';
}

static void table_facts_end_names(struct names *names)
{
    if (names->count > NAMES_TOLD_MAX)
        sprintf(names->text + names->len, " and %zu more", names->count - NAMES_TOLD_MAX);
}

/* ClickHouse folds ASCII alone. */
static bool table_facts_same_name(const char *a, const char *b, bool ignore_case)
{
    for (; *a != '\0' || *b != '\0'; a++, b++) {
        const bool letter = (*a | 0x20) >= 'a' && (*a | 0x20) <= 'z';

        if (*a != *b && (!ignore_case || !letter || (*a ^ *b) != 0x20))
            return false;
    }
    return true;
}

/* The column that a field of this name fills; as ClickHouse, of the same case before any case.
 * NULL: none. */
static const struct table_column *table_facts_find_column(const struct table_columns *columns,
                                                          const char *name)
{
    for (int ignore_case = 0; ignore_case <= columns->ignore_case; ignore_case++)
        for (size_t i = 0; i < columns->count; i++)
            if (columns->columns[i].kind != TABLE_COLUMN_NOT_INSERTED &&
                table_facts_same_name(columns->columns[i].name, name, ignore_case))
                return &columns->columns[i];
    return NULL;
}

/* True when columns stand for the members of an object with this name. */
static bool table_facts_is_nested(const struct table_columns *columns, const char *name)
{
    const size_t len = strlen(name);

    for (size_t i = 0; columns->nested_json && i < columns->count; i++)
        if (strncmp(columns->columns[i].name, name, len) == 0 &&
            columns->columns[i].name[len] == '.')
            return true;
    return false;
}

static void table_facts_compare_field(struct comparison *comparison, const char *name)
{
    const struct table_column *column = table_facts_find_column(comparison->columns, name);

    comparison->fields++;
    if (column == NULL) {
        table_facts_add_name(&comparison->unmet, name);
        return;
    }
    comparison->met++;
    comparison->filled[column - comparison->columns->columns] = true;
}

static void table_facts_compare_fields(struct comparison *comparison, struct slice event)
{
    struct members members, inside;
    struct slice key, value, inner, unused;
    char name[NAME_ROOM];
    size_t len;

    members_open(&members, event);
    while (comparison->fields < EVENT_FIELDS_MAX && members_next(&members, &key, &value)) {
        len = members_decode(key, name, sizeof(name));
        /* No column has a NUL in its name. */
        if (len == sizeof(name) || strlen(name) != len)
            continue;
        if (value.data[0] != '{' || !table_facts_is_nested(comparison->columns, name)) {
            table_facts_compare_field(comparison, name);
            continue;
        }
        name[len++] = '.';
        members_open(&inside, value);
        while (comparison->fields < EVENT_FIELDS_MAX && members_next(&inside, &inner, &unused))
            if (len < sizeof(name) &&
                members_decode(inner, name + len, sizeof(name) - len) < sizeof(name) - len)
                table_facts_compare_field(comparison, name);
    }
}

void table_facts_compare(const struct table_columns *columns, struct slice event,
                         char out[TABLE_FACTS_TEXT_MAX])
{
    struct comparison comparison = {.columns = columns};
    struct names unfilled = {.count = 0};
    bool whole;

    out[0] = '\0';
    table_facts_compare_fields(&comparison, event);
    /* A field may meet a column that we were not told of, and a column a field beyond the bound. */
    whole = !columns->partial && comparison.fields < EVENT_FIELDS_MAX;
    for (size_t i = 0; i < columns->count; i++)
        if (columns->columns[i].kind == TABLE_COLUMN_ORDINARY && !columns->columns[i].nullable &&
            !comparison.filled[i])
            table_facts_add_name(&unfilled, columns->columns[i].name);
    table_facts_end_names(&comparison.unmet);
    table_facts_end_names(&unfilled);
    if (whole && comparison.unmet.count > 0)
        snprintf(out, TABLE_FACTS_TEXT_MAX, "%s meet no column and are dropped: %s",
                 comparison.met == 0 ? "all fields of an event" : "fields", comparison.unmet.text);
    if (comparison.fields < EVENT_FIELDS_MAX && unfilled.count > 0)
        snprintf(out + strlen(out), TABLE_FACTS_TEXT_MAX - strlen(out),
                 "%scolumns that no field fills get their type's default: %s",
                 out[0] == '\0' ? "" : "; ", unfilled.text);
}
