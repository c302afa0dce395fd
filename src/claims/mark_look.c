/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark_look.c - what one look at a stream's mark finds (mark.c).
 *
 * Runs on: the marks' thread. Owns: nothing.
 */
#include "mark_look.h"

#include <stdio.h>
#include <string.h>

#include "mark_text.h"

/* A mark is the table's identity, its name for people, and a stamp that changes with each
 * renewal. */
static void mark_look_read_mark(struct mark_look *look, struct slice value)
{
    const struct slice stamp = mark_text_cut_word(&value);
    const struct slice name = mark_text_cut_word(&value);

    snprintf(look->stamp, sizeof(look->stamp), "%.*s", (int)stamp.len, stamp.data);
    mark_text_copy(look->mark, value);
    mark_text_copy(look->name, name);
    /* Somebody has set it to "": count it as another table, not as no mark. */
    if (look->mark[0] == '\0')
        look->mark[0] = '?';
}

static void mark_look_read_member(struct mark_look *look, struct slice value)
{
    (void)mark_shards_read(&value, &look->before);
    mark_text_copy(look->member, value);
}

bool mark_look_on_element(struct mark_look *look, const struct redis_link_element *element)
{
    if (element->root) {
        look->answered = element->type == REDIS_LINK_ARRAY && element->count == 2;
        return look->answered;
    }
    if (element->type == REDIS_LINK_STRING && element->index == 0)
        mark_look_read_mark(look, element->text);
    else if (element->type == REDIS_LINK_STRING)
        mark_look_read_member(look, element->text);
    return element->type == REDIS_LINK_STRING || element->type == REDIS_LINK_NIL;
}

bool mark_look_is_as_before(const struct mark_look *look)
{
    return look->mark[0] != '\0' && strcmp(look->mark, look->member) == 0 &&
           mark_shards_confirm(&look->now, &look->before);
}
