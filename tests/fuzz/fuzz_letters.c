/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_letters.c - lines of dead-letter files: no read past the end, and all slices inside the
 * line.
 */
#include <stddef.h>
#include <stdint.h>

#include "alloy/letters.h"

static void check_slice(struct slice slice, struct slice line)
{
    ALLOY_ASSERT(slice.len == 0 ||
                 (slice.data >= line.data && slice.data + slice.len <= line.data + line.len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice line = {(const char *)data, size};
    struct letter letter;

    if (!letter_parse(line, &letter))
        return 0;
    check_slice(letter.stream, line);
    check_slice(letter.message, line);
    check_slice(letter.event, line);
    ALLOY_ASSERT(letter.event.len >= 2 && letter.event.data[0] == '{' && letter.code >= 0);
    return 0;
}
