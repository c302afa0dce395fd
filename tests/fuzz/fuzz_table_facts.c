/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table_facts.c - any answer to the question about a table: whatever we read from it is in it,
 * and async inserts are allowed only for a version that was read.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "table_facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_field(const char *field, struct slice body)
{
    const size_t len = strnlen(field, TABLE_FACTS_FIELD_MAX);

    ALLOY_ASSERT(len > 0 && len < TABLE_FACTS_FIELD_MAX);
    ALLOY_ASSERT(memchr(field, '\t', len) == NULL && memchr(field, '\n', len) == NULL);
    ALLOY_ASSERT(strcmp(field, "-") == 0 || memmem(body.data, body.len, field, len) != NULL);
}

/* Of the first line alone the same is read. */
static void check_again(const struct table_facts *probe, struct slice body)
{
    const char *end = memchr(body.data, '\n', body.len);
    struct table_facts again;

    ALLOY_ASSERT(end != NULL);
    body.len = (size_t)(end - body.data) + 1;
    ALLOY_ASSERT(table_facts_read(body, &again));
    ALLOY_ASSERT(strcmp(again.version, probe->version) == 0);
    ALLOY_ASSERT(strcmp(again.engine, probe->engine) == 0);
    ALLOY_ASSERT(strcmp(again.window, probe->window) == 0);
    ALLOY_ASSERT(again.table_exists == probe->table_exists);
    ALLOY_ASSERT(again.partitioned == probe->partitioned && again.has_views == probe->has_views);
    ALLOY_ASSERT(again.async_unsafe == probe->async_unsafe);
    ALLOY_ASSERT(strcmp(again.identity, probe->identity) == 0);
    body.len--;
    ALLOY_ASSERT(!table_facts_read(body, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct table_facts probe;
    char *text = malloc(size > 0 ? size : 1);
    const struct slice body = {text, size};

    ALLOY_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    if (table_facts_read(body, &probe)) {
        check_field(probe.version, body);
        check_field(probe.engine, body);
        check_field(probe.window, body);
        if (probe.async_unsafe == NULL) {
            ALLOY_ASSERT(probe.counts_async);
            ALLOY_ASSERT(strtoul(probe.version, NULL, 10) >= 26);
        }
        if (probe.doubles != NULL && strstr(probe.engine, "MergeTree") != NULL)
            ALLOY_ASSERT((strcmp(probe.window, "-") == 0 || strcmp(probe.window, "0") == 0));
        check_again(&probe, body);
    }
    free(text);
    return 0;
}
