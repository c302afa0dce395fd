/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_flusher_probe.c - any answer to the question about a table: what is read stands in it, and
 * async inserts are only ever allowed on a version that was read.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "flusher_probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_field(const char *field, struct slice body)
{
    const size_t len = strnlen(field, FLUSHER_PROBE_FIELD_MAX);

    ALLOY_ASSERT(len > 0 && len < FLUSHER_PROBE_FIELD_MAX);
    ALLOY_ASSERT(memchr(field, '\t', len) == NULL && memchr(field, '\n', len) == NULL);
    ALLOY_ASSERT(strcmp(field, "-") == 0 || memmem(body.data, body.len, field, len) != NULL);
}

/* Of the first line alone the same is read. */
static void check_again(const struct flusher_probe *probe, struct slice body)
{
    const char *end = memchr(body.data, '\n', body.len);
    struct flusher_probe again;

    ALLOY_ASSERT(end != NULL);
    body.len = (size_t)(end - body.data) + 1;
    ALLOY_ASSERT(flusher_probe_read(body, &again));
    ALLOY_ASSERT(strcmp(again.version, probe->version) == 0);
    ALLOY_ASSERT(strcmp(again.engine, probe->engine) == 0);
    ALLOY_ASSERT(strcmp(again.window, probe->window) == 0);
    ALLOY_ASSERT(again.table_exists == probe->table_exists);
    ALLOY_ASSERT(again.partitioned == probe->partitioned && again.has_views == probe->has_views);
    ALLOY_ASSERT(again.async_unsafe == probe->async_unsafe);
    body.len--;
    ALLOY_ASSERT(!flusher_probe_read(body, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct flusher_probe probe;
    char *text = malloc(size > 0 ? size : 1);
    const struct slice body = {text, size};

    ALLOY_ASSERT(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    if (flusher_probe_read(body, &probe)) {
        check_field(probe.version, body);
        check_field(probe.engine, body);
        check_field(probe.window, body);
        if (probe.async_unsafe == NULL) {
            ALLOY_ASSERT(probe.counts_async);
            ALLOY_ASSERT(strtoul(probe.version, NULL, 10) >= 26);
        }
        if (probe.window_unset)
            ALLOY_ASSERT(strstr(probe.engine, "MergeTree") != NULL &&
                         (strcmp(probe.window, "-") == 0 || strcmp(probe.window, "0") == 0));
        check_again(&probe, body);
    }
    free(text);
    return 0;
}
