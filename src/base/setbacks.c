/* SPDX-License-Identifier: Apache-2.0 */
/*
 * setbacks.c - the inserts that ClickHouse did not take last, and the last dead letters.
 *
 * One mutex: the flusher and the burial note at most as often as they talk to ClickHouse or to the
 * disk, and the admin thread copies.
 *
 * Runs on: any thread. Owns: the entries.
 */
#include "alloy/setbacks.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/metrics.h"
#include "alloy/text.h"

struct setback_list {
    size_t count;
    struct setback entries[SETBACKS_KEPT];
};

struct setbacks {
    pthread_mutex_t lock;
    /* under lock */
    uint64_t number;
    struct setback_list lists[SETBACK_KINDS];
};

struct setbacks *setbacks_create(void)
{
    struct setbacks *setbacks = calloc(1, sizeof(*setbacks));

    if (setbacks != NULL)
        pthread_mutex_init(&setbacks->lock, NULL);
    return setbacks;
}

void setbacks_destroy(struct setbacks *setbacks)
{
    if (setbacks == NULL)
        return;
    pthread_mutex_destroy(&setbacks->lock);
    free(setbacks);
}

void setbacks_copy(char *out, size_t max, struct slice text)
{
    size_t n = 0;

    for (size_t at = 0; at < text.len;) {
        const size_t len = text_utf8_len(text.data + at, text.len - at);
        const size_t taken = len > 0 ? len : 1;

        if (n + taken > max)
            break;
        if (len == 0)
            out[n] = '?';
        else if ((unsigned char)text.data[at] < ' ' || text.data[at] == 0x7f)
            out[n] = ' ';
        else if (!text_is_shown(text.data + at, len))
            memset(out + n, '?', len);
        else
            memcpy(out + n, text.data + at, len);
        n += taken;
        at += taken;
    }
    out[n] = '\0';
}

static bool setbacks_same(const struct setback *a, const struct setback *b)
{
    return a->stream == b->stream && a->code == b->code && a->status == b->status &&
           a->class == b->class && strcmp(a->message, b->message) == 0 &&
           strcmp(a->event, b->event) == 0;
}

/* The place of the oldest entry of the stream that most entries are of. */
static size_t setbacks_least_missed(const struct setback_list *list)
{
    size_t kept[METRIC_STREAMS_MAX + 1] = {0};
    size_t found = 0;

    for (size_t i = 0; i < list->count; i++)
        kept[list->entries[i].stream]++;
    for (size_t i = 1; i < list->count; i++) {
        const struct setback *entry = &list->entries[i];
        const struct setback *best = &list->entries[found];

        if (kept[entry->stream] > kept[best->stream] ||
            (kept[entry->stream] == kept[best->stream] && entry->number < best->number))
            found = i;
    }
    return found;
}

void setbacks_note(struct setbacks *setbacks, enum setback_kind kind, const struct setback *setback)
{
    struct setback_list *list;
    struct setback *entry;
    uint64_t first_ms = setback->time_ms;
    uint64_t times = 1;
    size_t i = 0;

    if (setbacks == NULL)
        return;
    ALLOY_ASSERT(setback->stream <= METRIC_STREAMS_MAX);
    pthread_mutex_lock(&setbacks->lock);
    list = &setbacks->lists[kind];
    while (i < list->count && !setbacks_same(&list->entries[i], setback))
        i++;
    if (i < list->count) {
        first_ms = list->entries[i].first_ms;
        times = list->entries[i].times + 1;
    } else if (list->count < SETBACKS_KEPT) {
        list->count++;
    } else {
        i = setbacks_least_missed(list);
    }
    entry = &list->entries[i];
    *entry = *setback;
    entry->number = ++setbacks->number;
    entry->first_ms = first_ms;
    entry->times = times;
    pthread_mutex_unlock(&setbacks->lock);
}

static int setbacks_later_first(const void *a, const void *b)
{
    const uint64_t first = ((const struct setback *)a)->number;
    const uint64_t second = ((const struct setback *)b)->number;

    return (first < second) - (first > second);
}

size_t setbacks_read(struct setbacks *setbacks, enum setback_kind kind,
                     struct setback out[SETBACKS_KEPT])
{
    size_t count;

    pthread_mutex_lock(&setbacks->lock);
    count = setbacks->lists[kind].count;
    memcpy(out, setbacks->lists[kind].entries, count * sizeof(*out));
    pthread_mutex_unlock(&setbacks->lock);
    qsort(out, count, sizeof(*out), setbacks_later_first);
    return count;
}
