/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_text.c - the words that a mark is made of.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "mark_text.h"

#include <string.h>

void mark_text_copy(char to[MARK_IDENTITY_MAX + 1], struct slice from)
{
    const size_t len = from.len < MARK_IDENTITY_MAX ? from.len : MARK_IDENTITY_MAX;

    for (size_t i = 0; i < len; i++) {
        const char c = from.data[i];

        to[i] = c < ' ' || c > '~' || c == '"' || c == '\\' ? '?' : c;
    }
    to[len] = '\0';
}

uint32_t mark_text_number(const char *identity)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *identity != '\0'; identity++)
        hash = (hash ^ (unsigned char)*identity) * 16777619u;
    return hash;
}

struct slice mark_text_cut_word(struct slice *value)
{
    const char *space = memrchr(value->data, ' ', value->len);
    const size_t len = space == NULL ? value->len : (size_t)(space - value->data);
    const struct slice word = {value->data + len, value->len - len};

    value->len = len;
    return word;
}
