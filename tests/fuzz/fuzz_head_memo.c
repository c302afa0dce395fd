/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_head_memo.c - a head that is known again says what the parser says of it.
 *
 * The input is two heads, split at a zero byte: the first is noted, if the parser accepts it. The
 * second, and the first with the second in place of its Content-Length's digits, are looked up. All
 * are in blocks of their exact size, so that the address sanitizer sees a read beyond them.
 */
#include "alloy/head_memo.h"

#include <stdint.h>
#include <string.h>

static struct head_memo memo;

static void check_slice(struct slice a, struct slice b)
{
    ALLOY_ASSERT(a.len == b.len && (a.len == 0 || a.data == b.data));
}

static void check(const char *head, size_t len)
{
    struct http_request found, parsed;
    size_t scanned = 0;

    if (!head_memo_find(&memo, head, len, &found))
        return;
    ALLOY_ASSERT(http_parse_head(head, len, &scanned, &parsed) == HTTP_DONE);
    check_slice(found.method_text, parsed.method_text);
    check_slice(found.path, parsed.path);
    check_slice(found.query, parsed.query);
    check_slice(found.length_text, parsed.length_text);
    check_slice(found.authorization, parsed.authorization);
    check_slice(found.prefer, parsed.prefer);
    check_slice(found.replay, parsed.replay);
    ALLOY_ASSERT(found.method == parsed.method && found.minor == parsed.minor);
    ALLOY_ASSERT(found.keep_alive == parsed.keep_alive && found.chunked == parsed.chunked);
    ALLOY_ASSERT(found.expect_continue == parsed.expect_continue && found.coding == parsed.coding);
    ALLOY_ASSERT(found.has_length == parsed.has_length && found.head_len == parsed.head_len);
    ALLOY_ASSERT(found.content_length == parsed.content_length);
}

/* The parts, one behind the other, are looked up. */
static void check_joined(const struct slice *parts, size_t count)
{
    size_t len = 0;
    char *whole;

    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    whole = malloc(len + 1);
    ALLOY_ASSERT(whole != NULL);
    len = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > 0)
            memcpy(whole + 1 + len, parts[i].data, parts[i].len);
        len += parts[i].len;
    }
    check(whole + 1, len);
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *zero = size > 0 ? memchr(text, '\0', size) : NULL;
    const size_t len = zero != NULL ? (size_t)(zero - text) : size;
    const struct slice second = {zero != NULL ? zero + 1 : text, zero != NULL ? size - len - 1 : 0};
    struct http_request request;
    size_t scanned = 0;

    memset(&memo, 0, sizeof(memo));
    if (http_parse_head(text, len, &scanned, &request) != HTTP_DONE)
        return 0;
    head_memo_note(&memo, text, len, &request);
    check_joined(&(struct slice){text, len}, 1);
    check_joined(&second, 1);
    if (request.length_text.len > 0) {
        const char *behind = request.length_text.data + request.length_text.len;
        const struct slice parts[] = {{text, (size_t)(request.length_text.data - text)},
                                      second,
                                      {behind, (size_t)(text + len - behind)}};

        check_joined(parts, ARRAY_LEN(parts));
    }
    return 0;
}
