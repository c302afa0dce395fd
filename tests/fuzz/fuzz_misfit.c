/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_misfit.c - any body with any Content-Type: it is named in a sentence that fits, or not at
 * all.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include "alloy/misfit.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first byte says how much of the rest is the Content-Type. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t type_len, body_len;
    const char *name;
    char *type, *body;

    if (size == 0)
        return 0;
    type_len = (size_t)(data[0]) < size - 1 ? (size_t)(data[0]) : size - 1;
    body_len = size - 1 - type_len;
    type = malloc(type_len + 1);
    body = malloc(body_len);
    ALLOY_ASSERT(type != NULL && (body != NULL || body_len == 0));
    memcpy(type, data + 1, type_len);
    if (body_len > 0)
        memcpy(body, data + 1 + type_len, body_len);
    name = misfit_name((struct slice){body, body_len}, (struct slice){type, type_len});
    ALLOY_ASSERT(name == NULL || (body_len > 0 && strlen(name) <= REPLY_MESSAGE_MAX));
    free(type);
    free(body);
    return 0;
}
