/* SPDX-License-Identifier: Apache-2.0 */
/*
 * health.c - the conditions that are wrong right now; /readyz reports them.
 *
 * A sorted array under one mutex: there are rarely more than a few conditions, and they change a
 * few times an hour.
 *
 * Runs on: any thread. Owns: the conditions and copies of their texts.
 */
#include "alloy/health.h"

#include <pthread.h>
#include <stdarg.h>
#include <string.h>

struct condition {
    char key[HEALTH_KEY_MAX];
    char text[HEALTH_TEXT_MAX];
    bool blocking;
};

struct health {
    pthread_mutex_t mutex;
    /* under the mutex, sorted by key */
    struct condition conditions[HEALTH_CONDITIONS_MAX];
    size_t count;
    /* conditions raised while the array was full, since it last had room */
    size_t left_out;
    size_t left_out_blocking;
};

/* Returns the first index whose key is not below key: where key is, or belongs. */
static size_t health_find(const struct health *health, const char *key)
{
    size_t i = 0;

    while (i < health->count && strcmp(health->conditions[i].key, key) < 0)
        i++;
    return i;
}

static bool health_is_at(const struct health *health, size_t i, const char *key)
{
    return i < health->count && strcmp(health->conditions[i].key, key) == 0;
}

struct health *health_create(void)
{
    struct health *health = calloc(1, sizeof(*health));

    if (health != NULL)
        pthread_mutex_init(&health->mutex, NULL);
    return health;
}

void health_destroy(struct health *health)
{
    if (health == NULL)
        return;
    pthread_mutex_destroy(&health->mutex);
    free(health);
}

void health_raise(struct health *health, const char *key, bool blocking, const char *format, ...)
{
    struct condition raised = {.blocking = blocking};
    va_list args;
    size_t i;

    snprintf(raised.key, sizeof(raised.key), "%s", key);
    va_start(args, format);
    vsnprintf(raised.text, sizeof(raised.text), format, args);
    va_end(args);

    pthread_mutex_lock(&health->mutex);
    i = health_find(health, raised.key);
    if (health_is_at(health, i, raised.key)) {
        health->conditions[i] = raised;
    } else if (health->count < HEALTH_CONDITIONS_MAX) {
        memmove(&health->conditions[i + 1], &health->conditions[i],
                (health->count - i) * sizeof(raised));
        health->conditions[i] = raised;
        health->count++;
    } else {
        health->left_out++;
        health->left_out_blocking += blocking;
    }
    pthread_mutex_unlock(&health->mutex);
}

void health_clear(struct health *health, const char *key)
{
    char cut[HEALTH_KEY_MAX]; /* cut as health_raise() cuts it */
    size_t i;

    snprintf(cut, sizeof(cut), "%s", key);
    pthread_mutex_lock(&health->mutex);
    i = health_find(health, cut);
    if (health_is_at(health, i, cut)) {
        health->count--;
        memmove(&health->conditions[i], &health->conditions[i + 1],
                (health->count - i) * sizeof(health->conditions[0]));
        /* There is room now: conditions that were left out will be raised again. */
        health->left_out = health->left_out_blocking = 0;
    }
    pthread_mutex_unlock(&health->mutex);
}

void health_visit(struct health *health, health_visit_fn visit, void *arg)
{
    pthread_mutex_lock(&health->mutex);
    for (size_t i = 0; i < health->count; i++) {
        const struct condition *condition = &health->conditions[i];

        visit(arg, condition->key, condition->blocking, condition->text);
    }
    if (health->left_out > 0) {
        char text[HEALTH_TEXT_MAX];

        snprintf(text, sizeof(text),
                 "%zu times something more was wrong than fits here; see the log",
                 health->left_out);
        visit(arg, "more", health->left_out_blocking > 0, text);
    }
    pthread_mutex_unlock(&health->mutex);
}

bool health_ready(struct health *health)
{
    bool ready;

    pthread_mutex_lock(&health->mutex);
    ready = health->left_out_blocking == 0;
    for (size_t i = 0; i < health->count; i++)
        ready = ready && !health->conditions[i].blocking;
    pthread_mutex_unlock(&health->mutex);
    return ready;
}
