/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert_answer.c - what an answer of ClickHouse means: one pure function and one table.
 *
 * An insert counts as done only on proof (status 200, no exception in header or body, and as many
 * rows written as were sent). Everything short of that keeps the rows: a wrong "retry" costs time,
 * since the token makes it harmless; a wrong "done" would lose events.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "insert_answer.h"

#include <string.h>

struct code_class {
    int code;
    enum insert_class class;
};

/* Sorted by code (a test checks it). 252 stands for two things: see insert_answer_class_of_code().
 */
static const struct code_class code_classes[] = {
    {3, INSERT_RETRY},           {6, INSERT_BAD_ROWS},        {16, INSERT_MISCONFIGURED},
    {20, INSERT_MISCONFIGURED},  {25, INSERT_BAD_ROWS},       {26, INSERT_BAD_ROWS},
    {27, INSERT_BAD_ROWS},       {32, INSERT_BAD_ROWS},       {33, INSERT_BAD_ROWS},
    {36, INSERT_MISCONFIGURED},  {38, INSERT_BAD_ROWS},       {41, INSERT_BAD_ROWS},
    {43, INSERT_BAD_ROWS},       {44, INSERT_BAD_ROWS},       {47, INSERT_MISCONFIGURED},
    {48, INSERT_MISCONFIGURED},  {53, INSERT_BAD_ROWS},       {60, INSERT_MISCONFIGURED},
    {62, INSERT_MISCONFIGURED},  {69, INSERT_BAD_ROWS},       {70, INSERT_BAD_ROWS},
    {72, INSERT_BAD_ROWS},       {73, INSERT_MISCONFIGURED},  {76, INSERT_RETRY},
    {81, INSERT_MISCONFIGURED},  {115, INSERT_MISCONFIGURED}, {117, INSERT_BAD_ROWS},
    {128, INSERT_BAD_ROWS},      {130, INSERT_BAD_ROWS},      {131, INSERT_BAD_ROWS},
    {135, INSERT_BAD_ROWS},      {153, INSERT_BAD_ROWS},      {159, INSERT_RETRY},
    {160, INSERT_RETRY},         {164, INSERT_MISCONFIGURED}, {173, INSERT_RETRY},
    {190, INSERT_BAD_ROWS},      {192, INSERT_MISCONFIGURED}, {193, INSERT_MISCONFIGURED},
    {194, INSERT_MISCONFIGURED}, {195, INSERT_MISCONFIGURED}, {201, INSERT_RETRY},
    {202, INSERT_RETRY},         {203, INSERT_RETRY},         {204, INSERT_RETRY},
    {209, INSERT_RETRY},         {210, INSERT_RETRY},         {216, INSERT_RETRY},
    {218, INSERT_MISCONFIGURED}, {225, INSERT_RETRY},         {236, INSERT_RETRY},
    {241, INSERT_RETRY},         {242, INSERT_RETRY},         {243, INSERT_RETRY},
    {244, INSERT_RETRY},         {252, INSERT_RETRY},         {254, INSERT_RETRY},
    {265, INSERT_RETRY},         {279, INSERT_RETRY},         {285, INSERT_RETRY},
    {286, INSERT_RETRY},         {289, INSERT_RETRY},         {306, INSERT_BAD_ROWS},
    {319, INSERT_RETRY},         {321, INSERT_BAD_ROWS},      {341, INSERT_RETRY},
    {349, INSERT_BAD_ROWS},      {376, INSERT_BAD_ROWS},      {381, INSERT_MISCONFIGURED},
    {394, INSERT_RETRY},         {395, INSERT_BAD_ROWS},      {407, INSERT_BAD_ROWS},
    {425, INSERT_RETRY},         {427, INSERT_BAD_ROWS},      {439, INSERT_RETRY},
    {441, INSERT_BAD_ROWS},      {452, INSERT_MISCONFIGURED}, {467, INSERT_BAD_ROWS},
    {469, INSERT_BAD_ROWS},      {473, INSERT_RETRY},         {497, INSERT_MISCONFIGURED},
    {499, INSERT_RETRY},         {516, INSERT_MISCONFIGURED}, {675, INSERT_BAD_ROWS},
    {676, INSERT_BAD_ROWS},      {691, INSERT_BAD_ROWS},      {700, INSERT_RETRY},
    {733, INSERT_RETRY},         {734, INSERT_RETRY},         {735, INSERT_RETRY},
    {745, INSERT_RETRY},         {749, INSERT_RETRY},         {760, INSERT_BAD_ROWS},
    {762, INSERT_RETRY},         {774, INSERT_MISCONFIGURED}, {776, INSERT_RETRY},
    {777, INSERT_RETRY},         {778, INSERT_RETRY},         {779, INSERT_MISCONFIGURED},
    {999, INSERT_RETRY},         {1000, INSERT_RETRY},        {1001, INSERT_RETRY},
    {1002, INSERT_RETRY},
};

#define CODE_BAD_ARGUMENTS 36
#define CODE_TOO_MANY_PARTS 252
#define STATUS_TOO_LARGE 413 /* of a proxy: ClickHouse has no such limit */
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

static enum insert_class insert_answer_class_in_table(int code)
{
    size_t low = 0;
    size_t high = ARRAY_LEN(code_classes);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (code_classes[middle].code == code)
            return code_classes[middle].class;
        if (code_classes[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return INSERT_UNKNOWN;
}

/* Whether the message tells that a value was being worked on: read from a row, or computed of one.
 * A dictionary's trouble is not the value's. */
static bool insert_answer_blames_value(int code, struct slice body)
{
    if (insert_answer_find(body, "While executing JSONEachRow") != NULL)
        return true;
    return code == CODE_BAD_ARGUMENTS && insert_answer_find(body, "dictGet") == NULL &&
           (insert_answer_find(body, "while executing 'FUNCTION") != NULL ||
            insert_answer_find(body, "while executing function") != NULL);
}

static enum insert_class insert_answer_class_of_code(int code, struct slice body)
{
    const enum insert_class class = insert_answer_class_in_table(code);

    if (code == CODE_TOO_MANY_PARTS && insert_answer_find(body, TOO_MANY_PARTITIONS) != NULL)
        return INSERT_SPLIT;
    /* New codes come with new types, and a bad argument can be a column's value. */
    if ((class == INSERT_UNKNOWN || code == CODE_BAD_ARGUMENTS) &&
        insert_answer_blames_value(code, body))
        return INSERT_BAD_ROWS;
    return class;
}

enum insert_class insert_answer_classify(const struct insert_answer *answer, uint64_t rows)
{
    int body_code;

    if (answer->transport_failed)
        return INSERT_RETRY;
    if (answer->exception_code != 0)
        return insert_answer_class_of_code(answer->exception_code, answer->body);
    body_code = insert_answer_body_code(answer->body);
    if (answer->status == 200) {
        if (body_code != 0)
            return insert_answer_class_of_code(body_code, answer->body);
        if (insert_answer_find(answer->body, "__exception__") != NULL)
            return INSERT_RETRY;
        return answer->has_summary && answer->written_rows >= rows ? INSERT_DONE : INSERT_RETRY;
    }
    /* A proxy between may have dropped the header; the body still says what ClickHouse said. */
    if (body_code != 0)
        return insert_answer_class_of_code(body_code, answer->body);
    if (answer->status >= 500)
        return INSERT_RETRY;
    if (answer->status == STATUS_TOO_LARGE)
        return INSERT_SPLIT;
    if (answer->status == 401 || answer->status == 403 || answer->status == 404)
        return INSERT_MISCONFIGURED;
    return INSERT_UNKNOWN;
}

bool insert_answer_summary(struct slice value, uint64_t *written_rows)
{
    static const char key[] = "\"written_rows\"";
    const char *end = value.data + value.len;
    const char *at = insert_answer_find(value, key);

    if (at == NULL)
        return false;
    /* ClickHouse quotes the number; a bare one is as good. */
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
    /* Parsers say the first, constraints the second. */
    static const char *const places[] = {"(at row ", "is violated at row "};
    const char *end = body.data + body.len;

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const char *last = NULL;
        uint64_t number;
        /* The message quotes the event before it names the row: only the last place is its own. */
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

bool insert_answer_too_long(const struct insert_answer *answer)
{
    return answer->status == STATUS_TOO_LARGE && answer->exception_code == 0 &&
           insert_answer_body_code(answer->body) == 0;
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
