/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_answer.c - decides what an answer of ClickHouse means: one pure function and one table.
 *
 * An insert counts as done only on proof: status 200, no exception in header or body, and as many
 * rows written as were sent. Anything less keeps the rows: a wrong "retry" only costs time, since
 * the token makes it harmless; a wrong "done" would lose events.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "insert_answer.h"

#include <string.h>

/* What the code of an exception means. A code that is not in the table means only that this server
 * refuses these rows. */
enum code_kind {
    CODE_VALUE,  /* the column does not take a value */
    CODE_ROW,    /* a value is bad, or the column's definition that uses it */
    CODE_LATER,  /* nothing was begun: try later */
    CODE_LARGE,  /* needs more memory than allowed */
    CODE_SLOW,   /* takes longer than allowed */
    CODE_UNSURE, /* may have gone in all the same */
    CODE_TABLE,  /* table, rights or settings: a human must act */
    CODE_UNKNOWN,
};

struct code_entry {
    int code;
    enum code_kind kind;
};

/* Sorted by code (a test checks that). 252 has two meanings: see insert_answer_kind(). */
static const struct code_entry code_entries[] = {
    {3, CODE_UNSURE},    {6, CODE_VALUE},     {12, CODE_ROW},     {16, CODE_TABLE},
    {20, CODE_TABLE},    {25, CODE_VALUE},    {26, CODE_VALUE},   {27, CODE_VALUE},
    {32, CODE_VALUE},    {33, CODE_VALUE},    {36, CODE_TABLE},   {38, CODE_VALUE},
    {41, CODE_VALUE},    {43, CODE_ROW},      {47, CODE_TABLE},   {48, CODE_TABLE},
    {53, CODE_VALUE},    {60, CODE_TABLE},    {62, CODE_TABLE},   {69, CODE_VALUE},
    {70, CODE_VALUE},    {72, CODE_VALUE},    {73, CODE_TABLE},   {76, CODE_UNSURE},
    {81, CODE_TABLE},    {115, CODE_TABLE},   {117, CODE_VALUE},  {128, CODE_VALUE},
    {130, CODE_VALUE},   {131, CODE_VALUE},   {135, CODE_VALUE},  {153, CODE_VALUE},
    {158, CODE_LARGE},   {159, CODE_SLOW},    {160, CODE_SLOW},   {164, CODE_TABLE},
    {173, CODE_LARGE},   {190, CODE_VALUE},   {192, CODE_TABLE},  {193, CODE_TABLE},
    {194, CODE_TABLE},   {195, CODE_TABLE},   {201, CODE_LATER},  {202, CODE_LATER},
    {203, CODE_UNSURE},  {204, CODE_UNSURE},  {209, CODE_UNSURE}, {210, CODE_UNSURE},
    {216, CODE_UNSURE},  {218, CODE_TABLE},   {225, CODE_UNSURE}, {236, CODE_UNSURE},
    {241, CODE_LARGE},   {242, CODE_UNSURE},  {243, CODE_LATER},  {244, CODE_UNSURE},
    {252, CODE_LATER},   {254, CODE_UNSURE},  {265, CODE_UNSURE}, {279, CODE_UNSURE},
    {285, CODE_UNSURE},  {286, CODE_UNSURE},  {289, CODE_UNSURE}, {306, CODE_ROW},
    {307, CODE_LARGE},   {319, CODE_UNSURE},  {321, CODE_VALUE},  {341, CODE_UNSURE},
    {349, CODE_VALUE},   {376, CODE_VALUE},   {381, CODE_TABLE},  {394, CODE_UNSURE},
    {395, CODE_ROW},     {396, CODE_LARGE},   {407, CODE_VALUE},  {425, CODE_UNSURE},
    {427, CODE_ROW},     {439, CODE_UNSURE},  {441, CODE_VALUE},  {452, CODE_TABLE},
    {467, CODE_VALUE},   {469, CODE_VALUE},   {473, CODE_UNSURE}, {497, CODE_TABLE},
    {499, CODE_UNSURE},  {516, CODE_TABLE},   {675, CODE_VALUE},  {676, CODE_VALUE},
    {691, CODE_VALUE},   {700, CODE_UNSURE},  {733, CODE_UNSURE}, {734, CODE_UNSURE},
    {735, CODE_UNSURE},  {745, CODE_LATER},   {749, CODE_UNSURE}, {760, CODE_ROW},
    {762, CODE_UNSURE},  {774, CODE_TABLE},   {776, CODE_UNSURE}, {777, CODE_UNSURE},
    {778, CODE_UNSURE},  {779, CODE_TABLE},   {999, CODE_UNSURE}, {1000, CODE_UNSURE},
    {1001, CODE_UNSURE}, {1002, CODE_UNSURE},
};

#define CODE_BAD_ARGUMENTS 36
#define CODE_UNKNOWN_TABLE 60
#define CODE_UNKNOWN_DATABASE 81
#define CODE_TABLE_IS_DROPPED 218
#define CODE_TOO_MANY_PARTS 252
#define CODE_ACCESS_DENIED 497
#define AT_ROW "(at row " /* of the input, where a parser has stopped */
#define TOO_MANY_PARTITIONS "Too many partitions for single INSERT block"

static const char *insert_answer_find(struct slice haystack, const char *needle)
{
    return haystack.len == 0 ? NULL : memmem(haystack.data, haystack.len, needle, strlen(needle));
}

/* Reads the digits at the start of text; false when there is none or the number is too large. */
static bool insert_answer_number_at(const char *text, const char *end, uint64_t *number)
{
    const char *at = text;
    uint64_t value = 0;

    while (at < end && *at >= '0' && *at <= '9') {
        if (__builtin_mul_overflow(value, (uint64_t)10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return false;
        at++;
    }
    *number = value;
    return at > text;
}

static enum code_kind insert_answer_kind_in_table(int code)
{
    size_t low = 0;
    size_t high = ARRAY_LEN(code_entries);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (code_entries[middle].code == code)
            return code_entries[middle].kind;
        if (code_entries[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return CODE_UNKNOWN;
}

/* Whether the message says that an expression was being evaluated. Trouble with a dictionary, or
 * with a joined table, is not the row's fault. */
static bool insert_answer_blames_function(struct slice body)
{
    return (insert_answer_find(body, "while executing 'FUNCTION") != NULL ||
            insert_answer_find(body, "while executing function") != NULL) &&
           insert_answer_find(body, "dictGet") == NULL &&
           insert_answer_find(body, "joinGet") == NULL;
}

static enum code_kind insert_answer_kind(int code, struct slice body)
{
    const enum code_kind kind = insert_answer_kind_in_table(code);

    /* ClickHouse adds codes with new types; and a bad argument of a function can be a column's
     * value. */
    if (kind == CODE_UNKNOWN && (insert_answer_find(body, "While executing JSONEachRow") != NULL ||
                                 insert_answer_blames_function(body)))
        return CODE_ROW;
    if (code == CODE_BAD_ARGUMENTS &&
        (insert_answer_find(body, "While executing JSONEachRow") != NULL ||
         insert_answer_blames_function(body)))
        return CODE_ROW;
    return kind;
}

/* What ClickHouse's exception means. */
static struct insert_reading insert_answer_read_code(int code, struct slice body)
{
    struct insert_reading reading = {.code = code, .definite = true};

    if (code == CODE_TOO_MANY_PARTS && insert_answer_find(body, TOO_MANY_PARTITIONS) != NULL) {
        reading.class = INSERT_SPLIT;
        reading.too_large = true;
        return reading;
    }
    switch (insert_answer_kind(code, body)) {
    case CODE_VALUE:
        reading.class = INSERT_BAD_ROWS;
        reading.sure = true;
        reading.unread = insert_answer_find(body, AT_ROW) != NULL;
        break;
    case CODE_ROW:
        reading.class = INSERT_BAD_ROWS;
        break;
    case CODE_LATER:
        reading.class = INSERT_RETRY;
        break;
    case CODE_LARGE:
        reading.class = INSERT_RETRY;
        reading.too_large = true;
        break;
    case CODE_SLOW:
        /* ClickHouse checks the time once more when all is done; only in the middle of an
         * expression is it certain that nothing was inserted. */
        reading.class = INSERT_RETRY;
        reading.too_large = true;
        reading.definite = insert_answer_blames_function(body);
        break;
    case CODE_UNSURE:
        reading.class = INSERT_RETRY;
        reading.definite = false;
        break;
    case CODE_TABLE:
        reading.class = INSERT_MISCONFIGURED;
        break;
    case CODE_UNKNOWN:
        reading.class = INSERT_UNKNOWN;
        break;
    }
    return reading;
}

/* The answer is not ClickHouse's own: what a proxy before it means. */
static struct insert_reading insert_answer_read_status(long status)
{
    switch (status) {
    case 413: /* ClickHouse has no such limit. When one row is refused alone, the proxy may refuse
                 everything: not sure, so that the row is kept until the table takes others. */
        return (struct insert_reading){.class = INSERT_SPLIT, .definite = true, .too_large = true};
    case 425:
    case 429:
        return (struct insert_reading){.class = INSERT_RETRY, .definite = true};
    case 408:
        return (struct insert_reading){.class = INSERT_RETRY};
    case 401:
    case 403:
    case 404:
        return (struct insert_reading){.class = INSERT_MISCONFIGURED};
    default: /* A proxy's refusal, which says nothing about ClickHouse and may pass. */
        return (struct insert_reading){.class = status >= 400 || status == 200 ? INSERT_RETRY
                                                                               : INSERT_UNKNOWN};
    }
}

struct insert_reading insert_answer_read(const struct insert_answer *answer, uint64_t rows)
{
    struct insert_reading reading;
    int code = answer->exception_code;

    if (answer->transport_failed)
        return (struct insert_reading){.class = INSERT_RETRY, .too_large = answer->timed_out};
    /* A proxy may have dropped the header; the body still has ClickHouse's code. */
    if (code == 0)
        code = insert_answer_body_code(answer->body);
    if (code != 0) {
        reading = insert_answer_read_code(code, answer->body);
        /* An exception after status 200 is neither, unless it is about the rows. */
        if (answer->status == 200 && reading.class != INSERT_BAD_ROWS)
            reading.definite = reading.too_large = false;
        return reading;
    }
    if (answer->status == 200 && insert_answer_find(answer->body, "__exception__") == NULL &&
        answer->has_summary && answer->written_rows >= rows)
        return (struct insert_reading){.class = INSERT_DONE, .definite = true};
    return insert_answer_read_status(answer->status);
}

bool insert_answer_summary(struct slice value, uint64_t *written_rows)
{
    static const char key[] = "\"written_rows\"";
    const char *end = value.data + value.len;
    const char *at = insert_answer_find(value, key);

    if (at == NULL)
        return false;
    /* ClickHouse puts the number in quotes; we take it without quotes too. */
    for (at += sizeof(key) - 1; at < end && (*at == ':' || *at == ' ' || *at == '"'); at++)
        ;
    return insert_answer_number_at(at, end, written_rows);
}

int insert_answer_body_code(struct slice body)
{
    static const char prefix[] = "Code: ";
    static const char suffix[] = ". DB::";
    const char *end = body.data + body.len;
    const char *at;

    for (at = insert_answer_find(body, prefix); at != NULL;
         at = insert_answer_find((struct slice){at, (size_t)(end - at)}, prefix)) {
        uint64_t code;
        const char *digits_end;
        at += sizeof(prefix) - 1;
        if (!insert_answer_number_at(at, end, &code) || code == 0 || code > 99999)
            continue;
        for (digits_end = at; digits_end < end && *digits_end >= '0' && *digits_end <= '9';)
            digits_end++;
        if ((size_t)(end - digits_end) >= sizeof(suffix) - 1 &&
            memcmp(digits_end, suffix, sizeof(suffix) - 1) == 0)
            return (int)code;
    }
    return 0;
}

bool insert_answer_row(struct slice body, uint64_t *row)
{
    /* Parsers use the first wording, constraints the second. */
    static const char *const places[] = {AT_ROW, "is violated at row "};
    const char *end = body.data + body.len;

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const char *last = NULL;
        uint64_t number;
        /* The message may quote the event before it names the row: only the last match is
         * ClickHouse's own. */
        for (const char *at = insert_answer_find(body, places[i]); at != NULL;
             at = insert_answer_find((struct slice){at, (size_t)(end - at)}, places[i])) {
            at += strlen(places[i]);
            last = at;
        }
        if (last != NULL && insert_answer_number_at(last, end, &number) && number > 0) {
            *row = number - 1;
            return true;
        }
    }
    return false;
}

bool insert_answer_blames_view(struct slice body)
{
    return insert_answer_find(body, "while pushing to view") != NULL;
}

/* The byte that stands behind a backslash for c in a quoted name; NUL: it needs none. */
static char insert_answer_escape(char c)
{
    static const char bytes[] = "`\\\b\f\n\r\t", letters[] = "`\\bfnrt";
    const char *known = strchr(bytes, c);

    return known == NULL || c == '\0' ? '\0' : letters[known - bytes];
}

/* Skips name at text, as it is or in backquotes; NULL: something else is there. */
static const char *insert_answer_skip_name(const char *text, const char *end, const char *name)
{
    const bool quoted = text < end && *text == '`';

    for (text += quoted; *name != '\0'; name++, text++) {
        const char escape = quoted ? insert_answer_escape(*name) : '\0';

        text += escape != '\0' && text < end && *text == '\\';
        if (text >= end || (*text != *name && (escape == '\0' || *text != escape)))
            return NULL;
    }
    if (quoted)
        return text < end && *text == '`' ? text + 1 : NULL;
    /* Not the beginning of a longer name. */
    return text < end && (*text == '_' || *text == '`' || (*text >= '0' && *text <= '9') ||
                          (*text | 0x20) >= 'a')
               ? NULL
               : text;
}

/* Whether some place after lead has the name database.table (table NULL: database). */
static bool insert_answer_names(struct slice body, const char *lead, const char *database,
                                const char *table)
{
    const char *end = body.data + body.len;

    for (const char *at = insert_answer_find(body, lead); at != NULL;
         at = insert_answer_find((struct slice){at, (size_t)(end - at)}, lead)) {
        const char *after;
        at += strlen(lead);
        after = insert_answer_skip_name(at, end, database);
        if (after != NULL && table != NULL)
            after = after < end && *after == '.' ? insert_answer_skip_name(after + 1, end, table)
                                                 : NULL;
        if (after != NULL)
            return true;
    }
    return false;
}

bool insert_answer_lacks_table(int code, struct slice body, const char *database, const char *table)
{
    switch (code) {
    case CODE_UNKNOWN_TABLE:
    case CODE_TABLE_IS_DROPPED:
        /* Not what it might have been: "Maybe you meant db.other?" */
        return insert_answer_names(body, "able ", database, table);
    case CODE_UNKNOWN_DATABASE:
        return insert_answer_names(body, "atabase ", database, NULL);
    case CODE_ACCESS_DENIED:
        return insert_answer_find(body, "grant INSERT") != NULL &&
               insert_answer_names(body, " ON ", database, table);
    default:
        return false;
    }
}

const char *insert_class_name(enum insert_class class)
{
    switch (class) {
    case INSERT_DONE:
        return "done";
    case INSERT_RETRY:
        return "retry";
    case INSERT_BAD_ROWS:
        return "bad_rows";
    case INSERT_SPLIT:
        return "split";
    case INSERT_MISCONFIGURED:
        return "misconfigured";
    case INSERT_UNKNOWN:
        return "unknown";
    }
    ALLOY_UNREACHABLE("an insert_class of no name");
    return "";
}
