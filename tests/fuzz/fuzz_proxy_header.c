/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_proxy_header.c - any bytes at the begin of a connection: a header ends in one place,
 * whatever the pieces and whatever follows it.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/proxy_header.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of exactly len bytes, so that a sanitizer sees a read beyond them. */
static enum proxy_header_result parse(const uint8_t *data, size_t len, struct proxy_header *header)
{
    char *copy = malloc(len);
    enum proxy_header_result result;

    ALLOY_ASSERT(copy != NULL);
    memcpy(copy, data, len);
    result = proxy_header_parse(copy, len, header);
    free(copy);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header whole, part;
    enum proxy_header_result result, before = PROXY_HEADER_MORE;

    if (size == 0)
        return 0;
    result = parse(data, size, &whole);
    ALLOY_ASSERT(result != PROXY_HEADER_MORE || size < PROXY_HEADER_MAX);
    for (size_t len = 1; len <= size && len <= 300; len++) {
        enum proxy_header_result now = parse(data, len, &part);

        /* More bytes decide what was open, and change nothing that was decided. */
        ALLOY_ASSERT(before == PROXY_HEADER_MORE || now == before);
        if (now == PROXY_HEADER_DONE) {
            ALLOY_ASSERT(result == PROXY_HEADER_DONE && part.len == whole.len);
            ALLOY_ASSERT(part.len <= len && part.has_client == whole.has_client);
            ALLOY_ASSERT(memcmp(&part.client, &whole.client, sizeof(part.client)) == 0);
        }
        before = now;
    }
    if (result == PROXY_HEADER_DONE) {
        ALLOY_ASSERT(whole.len <= size && whole.len <= PROXY_HEADER_MAX);
        ALLOY_ASSERT(whole.has_client == (whole.client.family != ADDRESS_NONE));
        ALLOY_ASSERT(parse(data, whole.len - 1, &part) == PROXY_HEADER_MORE);
    }
    return 0;
}
