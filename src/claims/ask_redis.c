/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ask_redis.c - asks Redis one thing at a time and waits for the answer.
 *
 * For checks, where a second does not matter; the pipeline has claims.c. Every question has a
 * deadline, so a Redis that hangs costs its time-out once.
 *
 * Runs on: the thread that owns it. Owns: its connections.
 */
#include "alloy/ask_redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/redis_url.h"
#include "redis_nodes.h"

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
    snprintf(ask->why, sizeof(ask->why), "%s", redis_nodes_reason(ask->nodes));
}

static void ask_redis_put(void *arg, struct redis_link *link)
{
    struct ask_redis *ask = arg;

    ask->count = ask->used = 0;
    redis_link_put_array(link, ask->word_count);
    for (size_t i = 0; i < ask->word_count; i++)
        redis_link_put_bulk(link, (struct slice){ask->words[i], strlen(ask->words[i])},
                            (struct slice){"", 0});
}

/* Which of a command's words is its key; 0: none. */
static size_t ask_redis_key(const char *command)
{
    static const struct {
        const char *command;
        size_t key;
    } keys[] = {{"SET", 1}, {"GET", 1}, {"MGET", 1}, {"DEL", 1}, {"EVAL", 3}};

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (strcmp(command, keys[i].command) == 0)
            return keys[i].key;
    return 0;
}

bool ask_redis_open(struct ask_redis *ask, const char *url, unsigned timeout_ms)
{
    *ask = (struct ask_redis){.timeout_ms = timeout_ms, .node = REDIS_NODE_NONE};
    ask->nodes = redis_nodes_create(url, COMMAND_MAX, ask_redis_on_element, ask);
    ask->url = strdup(url);
    if (ask->nodes == NULL || ask->url == NULL) {
        snprintf(ask->why, sizeof(ask->why), "out of memory");
        return false;
    }
    snprintf(ask->name, sizeof(ask->name), "%.250s", redis_nodes_name(ask->nodes));
    if (redis_nodes_connect(ask->nodes, timeout_ms * CLOCK_NS_PER_MS) == 0)
        return true;
    ask_redis_note(ask);
    return false;
}

void ask_redis_close(struct ask_redis *ask)
{
    redis_nodes_destroy(ask->nodes);
    free(ask->url);
    ask->nodes = NULL;
    ask->url = NULL;
}

bool ask_redis_is_cluster(const struct ask_redis *ask)
{
    return redis_nodes_is_cluster(ask->nodes);
}

size_t ask_redis_masters(const struct ask_redis *ask)
{
    return redis_nodes_masters(ask->nodes);
}

void ask_redis_turn_to(struct ask_redis *ask, size_t master)
{
    size_t node = 0;

    while (redis_nodes_link(ask->nodes, node) == NULL || master-- > 0)
        node++;
    ask->node = node;
    snprintf(ask->name, sizeof(ask->name), "%.250s",
             redis_link_name(redis_nodes_link(ask->nodes, node)));
}

size_t ask_redis_orphans(const struct ask_redis *ask)
{
    size_t n = 0;

    for (size_t slot = 0; ask_redis_is_cluster(ask) && slot < REDIS_SLOTS; slot++)
        n += redis_nodes_of_slot(ask->nodes, slot) == REDIS_NODE_NONE;
    return n;
}

bool ask_redis_key_here(const struct ask_redis *ask, const char *base, char *key, size_t size)
{
    snprintf(key, size, "%s", base);
    if (!ask_redis_is_cluster(ask))
        return true;
    /* So many find one of a hundred slots in all but one case of 10^50. */
    for (unsigned i = 0; i < 1u << 15; i++) {
        snprintf(key, size, "%s-%u", base, i);
        if (redis_nodes_of_slot(ask->nodes, redis_slots_of_key((struct slice){key, strlen(key)})) ==
            ask->node)
            return true;
    }
    return false;
}

enum ask_redis_result ask_redis(struct ask_redis *ask, const char *const *words, size_t count)
{
    struct redis_nodes_question question = {.slot = REDIS_SLOT_ANY,
                                            .node = ask->node,
                                            .put = ask_redis_put,
                                            .arg = ask,
                                            .timeout_ns = ask->timeout_ms * CLOCK_NS_PER_MS};
    const size_t key = ask_redis_key(words[0]);
    bool refused;

    ask->count = ask->used = 0;
    if (ask->nodes == NULL)
        return ASK_REDIS_LOST;
    ask->words = words;
    ask->word_count = count;
    if (key > 0 && key < count)
        question.slot = redis_slots_of_key((struct slice){words[key], strlen(words[key])});
    if (redis_nodes_ask(ask->nodes, &question, &refused) != 0) {
        ask_redis_note(ask);
        return ASK_REDIS_LOST;
    }
    if (!refused)
        return ASK_REDIS_OK;
    ask_redis_note(ask);
    return ASK_REDIS_REFUSED;
}

/* A URL of one host of a list, without its credentials, which Sentinels need not share. */
static char *ask_redis_host_url(const char *list, const struct redis_url *url, size_t number)
{
    const struct redis_host *host = &url->hosts[number];
    const bool v6 = strchr(host->name, ':') != NULL;
    const char *files = url->tls ? strchr(list, '?') : NULL;
    char *text = NULL;

    return asprintf(&text, "%s://%s%s%s:%d%s", url->tls ? "rediss" : "redis", v6 ? "[" : "",
                    host->name, v6 ? "]" : "", host->port, files == NULL ? "" : files) < 0
               ? NULL
               : text;
}

/* Connects to a node of a cluster, logs in, and waits for a sign of life. */
static bool ask_redis_node(struct ask_redis *ask, const struct redis_host *host)
{
    struct redis_link *link = redis_link_create(ask->url, COMMAND_MAX, ask_redis_on_element, ask);
    const uint64_t deadline_ns = clock_mono_ns() + ask->timeout_ms * CLOCK_NS_PER_MS;
    bool there;

    if (link == NULL)
        return false;
    redis_link_aim(link, host->name, host->port);
    ask->count = ask->used = 0;
    there = redis_link_open(link, ask->timeout_ms * CLOCK_NS_PER_MS) == 0;
    if (there) {
        redis_link_clear(link);
        redis_link_put(link, "*1\r\n$4\r\nPING\r\n", 14);
        there = redis_link_send(link, deadline_ns) == 0 && redis_link_read(link, deadline_ns) == 0;
    }
    snprintf(ask->name, sizeof(ask->name), "%.250s", redis_link_name(link));
    snprintf(ask->why, sizeof(ask->why), "%s", there ? "" : redis_link_reason(link));
    redis_link_destroy(link);
    return there;
}

/* Asks a Sentinel for a sign of life; one that wants a password gives it too. */
static bool ask_redis_sentinel(struct ask_redis *ask, const struct redis_url *url, size_t number)
{
    static const char *const ping[] = {"PING"};
    struct ask_redis *other = malloc(sizeof(*other));
    char *text = ask_redis_host_url(ask->url, url, number);
    bool there = false;

    if (other != NULL && text != NULL) {
        there = ask_redis_open(other, text, ask->timeout_ms) &&
                ask_redis(other, ping, 1) != ASK_REDIS_LOST;
        memcpy(ask->name, other->name, sizeof(ask->name));
        memcpy(ask->why, other->why, sizeof(ask->why));
        ask_redis_close(other);
    }
    free(other);
    free(text);
    return there;
}

bool ask_redis_host(struct ask_redis *ask, size_t number, bool *there)
{
    struct redis_url url;
    bool listed;

    *there = false;
    if (ask->url == NULL || redis_url_parse(&url, ask->url) != NULL)
        return false;
    listed = url.host_count > 1 && number < url.host_count;
    if (listed) {
        snprintf(ask->why, sizeof(ask->why), "out of memory");
        *there = url.cluster ? ask_redis_node(ask, &url.hosts[number])
                             : ask_redis_sentinel(ask, &url, number);
    }
    redis_url_fini(&url);
    return listed;
}

bool ask_redis_number(struct ask_redis *ask, const char *const names[2], uint64_t *number)
{
    for (size_t i = 0; i < 2; i++) {
        const char *const words[] = {"CONFIG", "GET", names[i]};
        char *end;

        if (ask_redis(ask, words, ARRAY_LEN(words)) != ASK_REDIS_OK)
            return false;
        if (ask->count != 2 || ask->texts[1] == NULL)
            continue;
        *number = strtoull(ask->texts[1], &end, 10);
        return end != ask->texts[1];
    }
    snprintf(ask->why, sizeof(ask->why), "CONFIG GET %s does not tell", names[0]);
    return false;
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
