/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_host_port.c - any text as host:port: the slices put together give the text again.
 *
 * Runs on: libFuzzer. Owns: nothing.
 */
#include <stdint.h>
#include <string.h>

#include "host_port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parts(struct slice text, struct slice host, struct slice port)
{
    const char *end = text.data + text.len;
    const size_t brackets = text.data[0] == '[' ? 2 : 0;
    const size_t colon = port.len > 0 ? 1 : 0;
    unsigned value = 0;

    ALLOY_ASSERT(host.len > 0 && host.data == text.data + brackets / 2);
    ALLOY_ASSERT(host.len + brackets + colon + port.len == text.len);
    ALLOY_ASSERT(port.data + port.len == end);
    ALLOY_ASSERT((memchr(host.data, ':', host.len) != NULL) == (brackets > 0));
    for (size_t i = 0; i < port.len; i++) {
        ALLOY_ASSERT(port.data[i] >= '0' && port.data[i] <= '9');
        value = value * 10 + (unsigned)(port.data[i] - '0');
    }
    ALLOY_ASSERT(port.len == 0 || (value >= 1 && value <= 65535));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = malloc(size > 0 ? size : 1);
    const struct slice text = {copy, size};
    struct slice host, port;

    ALLOY_ASSERT(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    if (host_port_split(text, &host, &port) == NULL)
        check_parts(text, host, port);
    free(copy);
    return 0;
}
