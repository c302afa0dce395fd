/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_verify_answer.c - any answer to the questions for rows: what is read stays within it, and a
 * row counts as told only by a character of its own.
 *
 * The first byte is the number of rows; the rest is the body, in a block of its exact size, so that
 * the address sanitizer sees a read beyond it.
 */
#include <string.h>

#include "verify_answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct config_stream stream = {
    .ids = {{CONFIG_ID_MEMBER, (char *)"event_id", 0}, {CONFIG_ID_MEMBER, (char *)"b`\\", 1}},
    .id_count = 2,
    .proof = (char *)"proof"};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct verify_trace trace;
    struct verify_rows rows;
    uint64_t shown, found;
    struct slice body;
    char *copy;

    if (size < 1)
        return 0;
    copy = malloc(size > 1 ? size - 1 : 1);
    ALLOY_ASSERT(copy != NULL);
    memcpy(copy, data + 1, size - 1);
    body = (struct slice){copy, size - 1};
    if (verify_answer_trace(body, &stream, data[0] % 2 == 0, &trace)) {
        ALLOY_ASSERT(!trace.tells || trace.table_exists);
        ALLOY_ASSERT(memchr(trace.structure, '\0', sizeof(trace.structure)) != NULL);
        ALLOY_ASSERT(!trace.proves || (trace.table_exists && data[0] % 2 == 0));
        ALLOY_ASSERT(!trace.tells || strstr(trace.structure, "`b\\`\\\\` ") != NULL);
    }
    (void)verify_answer_count(body, &shown, &found);
    if (verify_answer_rows(body, data[0], &rows)) {
        ALLOY_ASSERT(rows.bits > copy && rows.bits + data[0] < copy + size - 1);
        for (size_t i = 0; i < data[0]; i++)
            ALLOY_ASSERT(rows.bits[i] == '0' || rows.bits[i] == '1');
    }
    free(copy);
    return 0;
}
