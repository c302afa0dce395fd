/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_infer.c - a table for sample events: a type for each column, and the order of the rows.
 *
 * Every value of the sample comes back as it went in: where a narrower type would change one, the
 * wider one is taken, in the end String, which holds any JSON as its text. Beyond that the types
 * are generous, since ClickHouse lets an integer that does not fit wrap around and says nothing.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_infer.h"

#include <inttypes.h>
#include <string.h>
#include <strings.h>

#define EXACT_MAX (UINT64_C(1) << 53) /* integers up to here are exact in a Float64 */
#define ROOM 100                      /* times the largest integer seen still fits */
#define FEW_EVENTS 100                /* too few to tell a range by */
#define DIGITS_MAX 76                 /* of an Int256 */
#define FEW_DISTINCT 500              /* of a LowCardinality column */
#define FEW_REPEATS 5                 /* how often each comes, on average */
#define FEW_LENGTH 64

/* Words by which a name says what its values do, whole or between underscores and capitals. */
static const char *const growing[] = {
    "id",  "count",    "total",  "bytes",   "size",  "length",    "number",
    "seq", "sequence", "offset", "version", "time",  "timestamp", "ts",
    "at",  "duration", "ms",     "amount",  "price", "revision",  "points"};
static const char *const categories[] = {
    "type",    "event",   "name",    "kind",     "status",   "state", "level",   "severity",
    "method",  "country", "region",  "city",     "language", "lang",  "locale",  "currency",
    "browser", "os",      "device",  "platform", "service",  "host",  "env",     "environment",
    "action",  "source",  "channel", "category", "plan",     "topic", "version", "tenant"};
/* The best first. */
static const char *const times[] = {"ts",          "time",       "timestamp",         "event_time",
                                    "occurred_at", "created_at", "originalTimestamp", "sent_at"};
static const char *const kinds[] = {"event_type", "event",  "type",  "event_name",
                                    "name",       "action", "kind",  "service",
                                    "topic",      "level",  "status"};
static const char *const ids[] = {"event_id",    "eventId",    "message_id", "messageId",
                                  "uuid",        "insert_id",  "$insert_id", "id",
                                  "delivery_id", "request_id", "trace_id"};

/* Whether name has a word of the list: user_id and userId have id, paid does not. */
static bool ctl_infer_has_word(const char *name, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const size_t len = strlen(words[i]);

        for (const char *at = name; *at != '\0'; at++) {
            const bool begins = at == name || strchr("_-.$", at[-1]) != NULL ||
                                (*at >= 'A' && *at <= 'Z' && at[-1] >= 'a' && at[-1] <= 'z');
            const char next = strlen(at) >= len ? at[len] : '\0';

            if (begins && strncasecmp(at, words[i], len) == 0 && !(next >= 'a' && next <= 'z'))
                return true;
        }
    }
    return false;
}

static uint64_t ctl_infer_values(const struct ctl_seen *seen)
{
    uint64_t values = 0;

    for (int kind = CTL_KIND_NULL + 1; kind < CTL_KIND_COUNT; kind++)
        values += seen->kinds[kind];
    return values;
}

static bool ctl_infer_only(const struct ctl_seen *seen, enum ctl_kind kind)
{
    return seen->kinds[kind] > 0 && seen->kinds[kind] == ctl_infer_values(seen);
}

static void ctl_infer_integer(const struct ctl_seen *seen, const char *name, char *type, char *why)
{
    const bool negative = seen->negative;
    const uint64_t room = seen->magnitude > UINT64_MAX / ROOM ? UINT64_MAX : seen->magnitude * ROOM;
    const bool grows = ctl_infer_has_word(name, growing, ARRAY_LEN(growing));
    int bits = 64;

    if (seen->digits > 19 && (negative || seen->digits > 20 || seen->magnitude == UINT64_MAX)) {
        snprintf(type, CTL_INFER_TYPE_MAX, "Int256");
        snprintf(why, CTL_INFER_WHY_MAX, "integers of up to %zu digits", seen->digits);
        return;
    }
    if (negative && seen->magnitude > INT64_MAX) {
        snprintf(type, CTL_INFER_TYPE_MAX, "Int128");
        snprintf(why, CTL_INFER_WHY_MAX, "integers beyond 64 bits");
        return;
    }
    if (seen->magnitude > INT64_MAX) {
        snprintf(type, CTL_INFER_TYPE_MAX, "UInt64");
        snprintf(why, CTL_INFER_WHY_MAX, "integers of up to 64 bits");
        return;
    }
    if (!grows && room <= UINT32_MAX)
        bits = room <= (negative ? INT8_MAX : UINT8_MAX)     ? 8
               : room <= (negative ? INT16_MAX : UINT16_MAX) ? 16
               : room <= (negative ? INT32_MAX : UINT32_MAX) ? 32
                                                             : 64;
    if (seen->kinds[CTL_KIND_INTEGER] < FEW_EVENTS && bits < 32)
        bits = 32;
    snprintf(type, CTL_INFER_TYPE_MAX, "%sInt%d", negative || bits == 64 ? "" : "U", bits);
    snprintf(why, CTL_INFER_WHY_MAX, "integers%s up to %" PRIu64 "%s",
             negative ? ", some below 0," : "", seen->magnitude,
             grows ? "; its name says that they grow"
                   : "; one that does not fit would wrap around, so there is room");
}

static void ctl_infer_text(const struct ctl_seen *seen, char *type, char *why)
{
    switch (seen->forms) {
    case CTL_FORM_DATE:
        snprintf(type, CTL_INFER_TYPE_MAX, "Date32");
        snprintf(why, CTL_INFER_WHY_MAX, "every text is a date");
        return;
    case CTL_FORM_DATETIME:
        snprintf(type, CTL_INFER_TYPE_MAX, "DateTime64(%d, 'UTC')",
                 seen->fraction <= 3   ? 3
                 : seen->fraction <= 6 ? 6
                                       : 9);
        snprintf(why, CTL_INFER_WHY_MAX, "every text is a time; one without a zone counts as UTC");
        return;
    case CTL_FORM_UUID:
        snprintf(type, CTL_INFER_TYPE_MAX, "UUID");
        snprintf(why, CTL_INFER_WHY_MAX, "every text is a UUID: 16 bytes in place of 36");
        return;
    case CTL_FORM_IPV4:
        snprintf(type, CTL_INFER_TYPE_MAX, "IPv4");
        snprintf(why, CTL_INFER_WHY_MAX, "every text is an IPv4 address");
        return;
    case CTL_FORM_IPV6:
        snprintf(type, CTL_INFER_TYPE_MAX, "IPv6");
        snprintf(why, CTL_INFER_WHY_MAX, "every text is an IPv6 address");
        return;
    default:
        snprintf(type, CTL_INFER_TYPE_MAX, "String");
        snprintf(why, CTL_INFER_WHY_MAX, "text");
    }
}

/* The type of values that are all of a kind and no arrays or objects. False: they are not, and type
 * is String. */
static bool ctl_infer_scalar(const struct ctl_seen *seen, const char *name, char *type, char *why)
{
    const uint64_t integers = seen->kinds[CTL_KIND_INTEGER], floats = seen->kinds[CTL_KIND_FLOAT];
    const uint64_t numbers = integers + floats;

    if (ctl_infer_only(seen, CTL_KIND_BOOL)) {
        snprintf(type, CTL_INFER_TYPE_MAX, "Bool");
        snprintf(why, CTL_INFER_WHY_MAX, "true or false");
    } else if (ctl_infer_only(seen, CTL_KIND_TEXT)) {
        ctl_infer_text(seen, type, why);
    } else if (ctl_infer_only(seen, CTL_KIND_INTEGER) && seen->digits <= DIGITS_MAX) {
        ctl_infer_integer(seen, name, type, why);
    } else if (floats > 0 && numbers == ctl_infer_values(seen) &&
               (integers == 0 || seen->magnitude <= EXACT_MAX)) {
        snprintf(type, CTL_INFER_TYPE_MAX, "Float64");
        snprintf(why, CTL_INFER_WHY_MAX, "numbers with a point; for money a Decimal is exact");
    } else {
        snprintf(type, CTL_INFER_TYPE_MAX, "String");
        snprintf(why, CTL_INFER_WHY_MAX,
                 ctl_infer_values(seen) == 0 ? "nothing but null so far"
                                             : "values of several kinds, kept as their text");
        return false;
    }
    return true;
}

static void ctl_infer_array(struct ctl_inferred *inferred)
{
    const struct ctl_column *column = inferred->column;
    char type[CTL_INFER_TYPE_MAX], why[CTL_INFER_WHY_MAX];
    const bool empty = ctl_infer_values(&column->inside) == 0;
    const bool nulls = column->inside.kinds[CTL_KIND_NULL] > 0;

    /* Arrays whose names begin alike up to a dot would have to be equally long: Nested. */
    if ((!ctl_infer_scalar(&column->inside, column->name, type, why) && !empty) ||
        strchr(column->name, '.') != NULL) {
        snprintf(inferred->type, sizeof(inferred->type), "String");
        snprintf(inferred->why, sizeof(inferred->why),
                 "arrays that have no type, kept as their JSON: JSONExtract reads them");
        return;
    }
    snprintf(inferred->type, sizeof(inferred->type), "Array(%s%.60s%s)", nulls ? "Nullable(" : "",
             type, nulls ? ")" : "");
    snprintf(inferred->why, sizeof(inferred->why), "arrays: %.180s",
             empty ? "all are empty so far" : why);
}

static void ctl_infer_object(struct ctl_inferred *inferred, bool knows_json)
{
    const struct ctl_column *column = inferred->column;
    const bool nulls = column->inside.kinds[CTL_KIND_NULL] > 0;
    char type[CTL_INFER_TYPE_MAX], why[CTL_INFER_WHY_MAX];
    const bool flat = ctl_infer_scalar(&column->inside, "", type, why);
    const bool empty = ctl_infer_values(&column->inside) == 0;

    if (flat && ctl_infer_only(&column->inside, CTL_KIND_TEXT)) {
        snprintf(inferred->type, sizeof(inferred->type),
                 nulls ? "Map(String, Nullable(String))" : "Map(String, String)");
        snprintf(inferred->why, sizeof(inferred->why), "objects whose members are all texts");
    } else if (knows_json && column->not_json == NULL) {
        snprintf(inferred->type, sizeof(inferred->type), "JSON");
        snprintf(inferred->why, sizeof(inferred->why),
                 "objects; each path in them is a column of its own inside");
    } else if (flat || empty) {
        snprintf(inferred->type, sizeof(inferred->type), "Map(String, %s%.60s%s)",
                 nulls ? "Nullable(" : "", type, nulls ? ")" : "");
        snprintf(inferred->why, sizeof(inferred->why), "objects whose members are all of one type");
    } else {
        snprintf(inferred->type, sizeof(inferred->type), "String");
        snprintf(inferred->why, sizeof(inferred->why),
                 "objects as their JSON, which JSONExtract reads; the type JSON %s%s",
                 knows_json ? "would change them: one " : "needs ClickHouse 25.3",
                 knows_json ? column->not_json : "");
    }
}

/* Whether few different texts come again and again. */
static bool ctl_infer_is_few(const struct ctl_column *column)
{
    const uint64_t values = column->seen.kinds[CTL_KIND_TEXT];

    if (column->distinct > FEW_DISTINCT || column->seen.longest > FEW_LENGTH * 4)
        return false;
    return (values >= 2 * FEW_REPEATS && column->distinct * FEW_REPEATS <= values) ||
           (column->seen.longest <= FEW_LENGTH && column->distinct * 2 <= values + 2 &&
            ctl_infer_has_word(column->name, categories, ARRAY_LEN(categories)));
}

static void ctl_infer_wrap(char *type, const char *before)
{
    char inner[CTL_INFER_TYPE_MAX];

    snprintf(inner, sizeof(inner), "%s", type);
    snprintf(type, CTL_INFER_TYPE_MAX, "%s(%.70s)", before, inner);
}

static void ctl_infer_column(struct ctl_inferred *inferred, bool knows_json, bool is_id)
{
    const struct ctl_column *column = inferred->column;
    const struct ctl_seen *seen = &column->seen;
    const bool nulls = seen->kinds[CTL_KIND_NULL] > 0;
    const bool array = ctl_infer_only(seen, CTL_KIND_ARRAY);
    const bool object = ctl_infer_only(seen, CTL_KIND_OBJECT);

    if ((array || object) && !nulls) {
        if (array)
            ctl_infer_array(inferred);
        else
            ctl_infer_object(inferred, knows_json);
        return;
    }
    if (array || object) {
        snprintf(inferred->type, sizeof(inferred->type), "String");
        snprintf(inferred->why, sizeof(inferred->why), "%s or null, kept as their JSON",
                 array ? "arrays" : "objects");
    } else {
        (void)ctl_infer_scalar(seen, column->name, inferred->type, inferred->why);
    }
    inferred->time = strncmp(inferred->type, "DateTime64", strlen("DateTime64")) == 0 && !nulls;
    inferred->few = !is_id && strcmp(inferred->type, "String") == 0 &&
                    ctl_infer_only(seen, CTL_KIND_TEXT) && ctl_infer_is_few(column);
    inferred->plain = !nulls && !array && !object;
    if (nulls)
        ctl_infer_wrap(inferred->type, "Nullable");
    if (inferred->few) {
        ctl_infer_wrap(inferred->type, "LowCardinality");
        snprintf(inferred->why, sizeof(inferred->why), "%zu different text%s so far",
                 column->distinct, column->distinct == 1 ? "" : "s");
    }
    if (nulls && strlen(inferred->why) + 16 < sizeof(inferred->why))
        strcat(inferred->why, "; null came");
}

/* Of the columns that suit, the one with the best name of the list, else the first. */
static const struct ctl_inferred *ctl_infer_choose(const struct ctl_table_plan *plan,
                                                   uint64_t events, const char *const *names,
                                                   size_t count,
                                                   bool (*suits)(const struct ctl_inferred *))
{
    for (size_t k = 0; k <= count; k++) {
        for (size_t i = 0; i < plan->count; i++) {
            const struct ctl_inferred *inferred = &plan->columns[i];

            if (inferred->plain && suits(inferred) && inferred->column->events == events &&
                (k == count || strcmp(inferred->column->name, names[k]) == 0))
                return inferred;
        }
    }
    return NULL;
}

static bool ctl_infer_suits_few(const struct ctl_inferred *inferred)
{
    return inferred->few;
}

static bool ctl_infer_suits_time(const struct ctl_inferred *inferred)
{
    return inferred->time;
}

/* What may name an event: a text or an integer, never empty. */
static bool ctl_infer_suits_id(const struct ctl_column *column)
{
    return (ctl_infer_only(&column->seen, CTL_KIND_TEXT) ||
            ctl_infer_only(&column->seen, CTL_KIND_INTEGER)) &&
           column->seen.kinds[CTL_KIND_NULL] == 0;
}

static const char *ctl_infer_id(const struct ctl_sample *sample)
{
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        const struct ctl_column *column = ctl_sample_find(sample, ids[i]);

        if (column != NULL && column->events == sample->events && ctl_infer_suits_id(column))
            return column->name;
    }
    return NULL;
}

bool ctl_infer_has_json(const char *version)
{
    unsigned major = 0, minor = 0;

    return sscanf(version, "%5u.%5u", &major, &minor) == 2 &&
           (major > 25 || (major == 25 && minor >= 3));
}

bool ctl_infer(const struct ctl_sample *sample, const char *id, bool knows_json,
               struct ctl_table_plan *plan)
{
    *plan = (struct ctl_table_plan){.count = sample->count, .knows_json = knows_json};
    plan->columns = calloc(sample->count + 1, sizeof(plan->columns[0]));
    if (plan->columns == NULL)
        return false;
    if (id == NULL)
        id = ctl_infer_id(sample);
    for (size_t i = 0; i < plan->count; i++) {
        struct ctl_inferred *inferred = &plan->columns[i];
        const bool is_id = id != NULL && strcmp(sample->columns[i].name, id) == 0;

        inferred->column = &sample->columns[i];
        ctl_infer_column(inferred, knows_json, is_id);
        if (is_id && ctl_infer_suits_id(inferred->column))
            plan->id = inferred;
    }
    plan->few =
        ctl_infer_choose(plan, sample->events, kinds, ARRAY_LEN(kinds), ctl_infer_suits_few);
    plan->time =
        ctl_infer_choose(plan, sample->events, times, ARRAY_LEN(times), ctl_infer_suits_time);
    return true;
}

void ctl_infer_fini(struct ctl_table_plan *plan)
{
    free(plan->columns);
}
