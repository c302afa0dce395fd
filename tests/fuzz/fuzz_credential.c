/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_credential.c - any head that is one: the keys in it are few, not empty, and bounded.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/credential.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct credential_walk walk;
    struct http_request request;
    struct slice key;
    size_t scanned = 0;
    unsigned count = 0;
    char *copy = malloc(size + 1);

    ALLOY_ASSERT(copy != NULL);
    memcpy(copy, data, size);
    if (http_parse_head(copy, size, &scanned, &request) == HTTP_DONE) {
        credential_walk_init(&walk, &request, (struct slice){copy, request.head_len});
        while (credential_next(&walk, &key)) {
            volatile char last = key.data[key.len - 1];

            (void)last;
            ALLOY_ASSERT(key.len > 0 && key.len <= CREDENTIAL_MAX);
            ALLOY_ASSERT(++count <= CREDENTIAL_TRIES_MAX);
        }
    }
    free(copy);
    return 0;
}
