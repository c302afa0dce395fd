/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_ack.c - any query and Prefer: a wait is within its bounds, and only a query that names ack
 * is refused.
 *
 * The first byte says how much of the rest is the query; the remainder is Prefer. Both are in
 * blocks of their exact size.
 */
#include "alloy/ack.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice copy_of(const uint8_t *data, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);

    ALLOY_ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, data, len);
    return (struct slice){copy, len};
}

/* How often the query names ack, counted as simply as can be. */
static size_t count_acks(struct slice query)
{
    size_t count = 0;

    for (size_t i = 0; i + 3 <= query.len; i++) {
        const bool begins = i == 0 || query.data[i - 1] == '&';
        const bool ends =
            i + 3 == query.len || query.data[i + 3] == '=' || query.data[i + 3] == '&';

        count += begins && ends && memcmp(query.data + i, "ack", 3) == 0;
    }
    return count;
}

static void check_bounds(const struct ack *ack)
{
    ALLOY_ASSERT(ack->kind == ADMISSION_ACK_NONE || ack->kind == ADMISSION_ACK_DISK ||
                 ack->kind == ADMISSION_ACK_CLICKHOUSE);
    ALLOY_ASSERT(ack->wait_s >= 1 && ack->wait_s <= ACK_WAIT_MAX_S);
}

/* One good ack behind a query that names none: it is read, whatever stands around it. */
static void check_appended(struct slice query, struct slice prefer)
{
    static const struct {
        const char *text;
        enum admission_ack kind;
    } cases[] = {{"&ack=none", ADMISSION_ACK_NONE},
                 {"&ack=disk", ADMISSION_ACK_DISK},
                 {"&ack=clickhouse", ADMISSION_ACK_CLICKHOUSE}};
    char *longer = malloc(query.len + 32);

    ALLOY_ASSERT(longer != NULL);
    memcpy(longer, query.data, query.len);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const size_t len = strlen(cases[i].text);
        struct ack ack;

        memcpy(longer + query.len, cases[i].text, len);
        ALLOY_ASSERT(ack_read((struct slice){longer, query.len + len}, prefer, &ack) == NULL);
        check_bounds(&ack);
        ALLOY_ASSERT(ack.kind == cases[i].kind);
        memcpy(longer + query.len + len, "s", 1);
        ALLOY_ASSERT(ack_read((struct slice){longer, query.len + len + 1}, prefer, &ack) != NULL);
    }
    free(longer);
}

static void check_prefer(struct slice prefer)
{
    static const char first[] = "wait=7, ";
    struct ack plain, preferred;
    char *longer = malloc(prefer.len + sizeof(first));

    ALLOY_ASSERT(longer != NULL);
    ALLOY_ASSERT(ack_read((struct slice){"", 0}, prefer, &plain) == NULL);
    if (plain.kind == ADMISSION_ACK_NONE)
        ALLOY_ASSERT(plain.wait_s == ACK_WAIT_DEFAULT_S);
    else
        ALLOY_ASSERT(plain.kind == ADMISSION_ACK_CLICKHOUSE &&
                     memchr(prefer.data, '=', prefer.len));
    memcpy(longer, first, sizeof(first) - 1);
    memcpy(longer + sizeof(first) - 1, prefer.data, prefer.len);
    ALLOY_ASSERT(ack_read((struct slice){"", 0},
                          (struct slice){longer, prefer.len + sizeof(first) - 1},
                          &preferred) == NULL);
    ALLOY_ASSERT(preferred.kind == ADMISSION_ACK_CLICKHOUSE && preferred.wait_s == 7);
    free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice query, prefer;
    struct ack ack;
    const char *problem;
    size_t cut, count;

    if (size == 0)
        return 0;
    size--;
    cut = data[0] < size ? data[0] : size;
    query = copy_of(data + 1, cut);
    prefer = copy_of(data + 1 + cut, size - cut);
    count = count_acks(query);
    problem = ack_read(query, prefer, &ack);
    if (problem == NULL)
        check_bounds(&ack);
    ALLOY_ASSERT(count != 0 || problem == NULL);
    ALLOY_ASSERT(count < 2 || problem != NULL);
    if (count == 0)
        check_appended(query, prefer);
    check_prefer(prefer);
    free((void *)(uintptr_t)query.data);
    free((void *)(uintptr_t)prefer.data);
    return 0;
}
