/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_redis.c - asks Redis one thing at a time and waits for the answer.
 *
 * For checks, where a second does not matter; the pipeline has claims.c. Every question has a
 * deadline, so a Redis that hangs costs its time-out once.
 *
 * Runs on: the thread that owns it. Owns: a connection.
 */
#include "alloy/ask_redis.h"

#include <string.h>

#include "alloy/clock.h"
#include "redis_link.h"

#define COMMAND_MAX 4096

static bool ask_redis_on_element(void *arg, const struct redis_link_element *element)
{
    struct ask_redis *ask = arg;
    const size_t len = element->text.len;

    if (ask->count == ASK_REDIS_TEXTS_MAX)
        return true;
    if (element->type == REDIS_LINK_NIL) {
        ask->texts[ask->count++] = NULL;
    } else if ((element->type == REDIS_LINK_STRING || element->type == REDIS_LINK_STATUS) &&
               len < ASK_REDIS_ROOM - ask->used) {
        memcpy(ask->room + ask->used, element->text.data, len);
        ask->room[ask->used + len] = '\0';
        ask->texts[ask->count++] = ask->room + ask->used;
        ask->used += len + 1;
    }
    return true;
}

static void ask_redis_note(struct ask_redis *ask)
{
    snprintf(ask->why, sizeof(ask->why), "%s", redis_link_reason(ask->link));
}

bool ask_redis_open(struct ask_redis *ask, const char *url, unsigned timeout_ms)
{
    *ask = (struct ask_redis){.timeout_ms = timeout_ms};
    ask->link = redis_link_create(url, COMMAND_MAX, ask_redis_on_element, ask);
    if (ask->link == NULL) {
        snprintf(ask->why, sizeof(ask->why), "out of memory");
        return false;
    }
    snprintf(ask->name, sizeof(ask->name), "%s", redis_link_name(ask->link));
    if (redis_link_open(ask->link, timeout_ms * CLOCK_NS_PER_MS) == 0)
        return true;
    ask_redis_note(ask);
    return false;
}

void ask_redis_close(struct ask_redis *ask)
{
    redis_link_destroy(ask->link);
    ask->link = NULL;
}

enum ask_redis_result ask_redis(struct ask_redis *ask, const char *const *words, size_t count)
{
    const uint64_t deadline_ns = clock_mono_ns() + ask->timeout_ms * CLOCK_NS_PER_MS;
    int err;

    ask->count = ask->used = 0;
    if (ask->link == NULL || !redis_link_is_open(ask->link))
        return ASK_REDIS_LOST;
    redis_link_clear(ask->link);
    (void)redis_link_refused(ask->link);
    redis_link_put_array(ask->link, count);
    for (size_t i = 0; i < count; i++)
        redis_link_put_bulk(ask->link, (struct slice){words[i], strlen(words[i])},
                            (struct slice){"", 0});
    err = redis_link_send(ask->link, deadline_ns);
    if (err == 0)
        err = redis_link_read(ask->link, deadline_ns);
    if (err != 0) {
        ask_redis_note(ask);
        redis_link_close(ask->link);
        return ASK_REDIS_LOST;
    }
    if (!redis_link_refused(ask->link))
        return ASK_REDIS_OK;
    ask_redis_note(ask);
    return ASK_REDIS_REFUSED;
}

bool ask_redis_field(const struct ask_redis *ask, const char *name, char *out, size_t size)
{
    const char *at = ask->count > 0 ? ask->texts[0] : NULL;
    const size_t len = strlen(name);

    for (; at != NULL; at = strchr(at, '\n') == NULL ? NULL : strchr(at, '\n') + 1) {
        if (strncmp(at, name, len) == 0 && at[len] == ':') {
            snprintf(out, size, "%.*s", (int)strcspn(at + len + 1, "\r\n"), at + len + 1);
            return true;
        }
    }
    return false;
}
