/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_insert_answer.c - any answer of ClickHouse: "done" only on proof, and no number that the
 * answer does not hold.
 *
 * The first 16 bytes make status, codes and counts; the rest is the body, in a block of its exact
 * size, so that the address sanitizer sees a read beyond it.
 */
#include <string.h>

#include "insert_answer.h"

#define HEAD_BYTES 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const long statuses[] = {200, 0, 400, 401, 403, 404, 408, 413, 425, 429, 500, 502, 503, 504};

static bool has_text(struct slice body, const char *text)
{
    return body.len > 0 && memmem(body.data, body.len, text, strlen(text)) != NULL;
}

/* What the code must be, read as simply as can be. */
static int plain_code(struct slice body)
{
    for (size_t i = 0; i + 6 < body.len; i++) {
        unsigned long long code = 0;
        size_t at = i + 6;

        if (memcmp(body.data + i, "Code: ", 6) != 0)
            continue;
        for (; at < body.len && body.data[at] >= '0' && body.data[at] <= '9'; at++)
            code = code > 99999 ? code : code * 10 + (unsigned)(body.data[at] - '0');
        if (code > 0 && code <= 99999 && body.len - at >= 6 &&
            memcmp(body.data + at, ". DB::", 6) == 0)
            return (int)code;
    }
    return 0;
}

static void check_done(const struct insert_answer *answer, uint64_t rows)
{
    ALLOY_ASSERT(!answer->transport_failed && answer->status == 200);
    ALLOY_ASSERT(answer->exception_code == 0 && plain_code(answer->body) == 0);
    ALLOY_ASSERT(answer->has_summary && answer->written_rows >= rows);
    ALLOY_ASSERT(!has_text(answer->body, "__exception__"));
}

static void check_row(struct slice body)
{
    char digits[32];
    uint64_t row;

    if (!insert_answer_row(body, &row))
        return;
    ALLOY_ASSERT(row < UINT64_MAX);
    ALLOY_ASSERT(has_text(body, "(at row ") || has_text(body, "is violated at row "));
    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)row + 1);
    ALLOY_ASSERT(has_text(body, digits));
}

/* A message that we write is read as it was meant, whatever stands behind it. */
static void check_written(const char *tail, size_t len, uint32_t number)
{
    char *text = malloc(len + 128);
    const int code = (int)(number % 99999) + 1;
    uint64_t row;
    size_t used;

    ALLOY_ASSERT(text != NULL);
    used = (size_t)snprintf(text, 128, "Code: %d. DB::Exception: ", code);
    memcpy(text + used, tail, len);
    ALLOY_ASSERT(insert_answer_body_code((struct slice){text, used + len}) == code);
    memcpy(text, tail, len);
    used = (size_t)snprintf(text + len, 128, "(at row %u)", number % 100000 + 1);
    ALLOY_ASSERT(insert_answer_row((struct slice){text, len + used}, &row));
    ALLOY_ASSERT(row == number % 100000);
    free(text);
}

static void check_summary(struct slice value, uint64_t rows)
{
    char text[96];
    uint64_t written = 0;
    const int len = snprintf(text, sizeof(text), "{\"read_rows\":\"7\",\"written_rows\":\"%llu\"}",
                             (unsigned long long)rows);

    ALLOY_ASSERT(insert_answer_summary((struct slice){text, (size_t)len}, &written));
    ALLOY_ASSERT(written == rows);
    if (insert_answer_summary(value, &written)) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)written);
        ALLOY_ASSERT(has_text(value, "\"written_rows\"") && has_text(value, text));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct insert_answer answer = {0};
    uint32_t rows, written;
    char *body;

    if (size < HEAD_BYTES)
        return 0;
    memcpy(&rows, data + 4, 4);
    memcpy(&written, data + 8, 4);
    answer.transport_failed = (data[0] & 7) == 7;
    answer.status = statuses[data[1] % ARRAY_LEN(statuses)];
    answer.exception_code = (data[0] & 8) != 0 ? data[2] << 8 | data[3] : 0;
    answer.has_summary = (data[0] & 16) == 0;
    answer.written_rows = written;
    size -= HEAD_BYTES;
    body = malloc(size > 0 ? size : 1);
    ALLOY_ASSERT(body != NULL);
    memcpy(body, data + HEAD_BYTES, size);
    answer.body = (struct slice){body, size};

    const enum insert_class class = insert_answer_read(&answer, rows).class;
    ALLOY_ASSERT(insert_class_name(class)[0] != '\0');
    if (class == INSERT_DONE)
        check_done(&answer, rows);
    ALLOY_ASSERT(insert_answer_body_code(answer.body) == plain_code(answer.body));
    check_row(answer.body);
    check_written(body, size, rows);
    check_summary(answer.body, written);
    (void)insert_answer_blames_view(answer.body);
    if (insert_answer_lacks_table(60, answer.body, "db", "a`b"))
        ALLOY_ASSERT(has_text(answer.body, "able db.") || has_text(answer.body, "able `db`."));
    free(body);
    return 0;
}
