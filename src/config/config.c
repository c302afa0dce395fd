/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c - dumps, compares and publishes the configuration.
 *
 * config_file.c reads it. Rules about a single key are rows of config_keys.def; all other rules are
 * in config_check.c. All of them use config_loader.c.
 *
 * Runs on: main thread; config_current() on any thread.
 * Owns: the texts of a struct config. After config_publish() a configuration shares the texts that
 * it kept with the one before, which owns them.
 */
#include "alloy/config.h"

#include <stdarg.h>
#include <string.h>

#include "config_check.h"
#include "config_door.h"
#include "config_file.h"
#include "config_loader.h"
#include "config_places.h"
#include "config_stream.h"
#include "config_value.h"
#include "alloy/clickhouse_url.h"
#include "alloy/ini.h"

static void config_free_addresses(struct config_address *addresses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(addresses[i].host);
        free(addresses[i].port);
    }
}

/* Frees the parts that config_publish() always replaces by those in force. */
static void config_free_frozen(struct config *config)
{
    for (size_t i = 0; i < config->setting_count; i++) {
        free(config->settings[i].name);
        free(config->settings[i].value);
    }
    config_free_addresses(config->server_addresses, config->server_address_count);
    config_free_addresses(config->admin_addresses, config->admin_address_count);
}

struct config *config_load(const char *path, const char *const *overrides, size_t override_count,
                           size_t cpu_count, FILE *problems)
{
    struct config_loader *loader = calloc(1, sizeof(*loader));
    struct config *config = calloc(1, sizeof(*config));

    if (loader == NULL || config == NULL) {
        fprintf(problems, "%s: out of memory\n", path);
        goto free_both;
    }
    loader->config = config;
    loader->overrides = overrides;
    loader->cpu_count = cpu_count;
    loader->problems = problems;
    config_file_load(loader, path, override_count);
    if (loader->problem_count > 0)
        goto free_both;
    free(loader);
    return config;

free_both:
    free(loader);
    config_destroy(config);
    return NULL;
}

void config_destroy(struct config *config)
{
    while (config != NULL) {
        struct config *replaced = config->replaced;

        for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
            const struct config_key *key = &config_keys[i];
            char **text = config_text_field(config, key);

            /* A pointer equal to the replaced configuration's is owned there. */
            if (key->kind == KIND_STR &&
                (replaced == NULL || *text != *config_text_field(replaced, key)))
                free(*text);
        }
        if (replaced == NULL)
            config_free_frozen(config);
        for (size_t i = 0; i < config->stream_count; i++)
            config_stream_fini(&config->streams[i]);
        free(config->clickhouse_password_resolved);
        config_door_fini(config);
        config_places_destroy(config->places);
        free(config);
        config = replaced;
    }
}

bool config_id_is_in_event(const struct config_stream *stream)
{
    if (stream->missing_id != CONFIG_MISSING_REFUSE)
        return false;
    for (size_t i = 0; i < stream->id_count; i++)
        if (stream->ids[i].kind == CONFIG_ID_HEADER || stream->ids[i].kind == CONFIG_ID_PERCENT)
            return false;
    return true;
}

/* Writes a URL, or a list of them, with every password masked. */
static void config_dump_masked(const char *text, FILE *out)
{
    const char *scheme;

    while ((scheme = strstr(text, "://")) != NULL) {
        const struct slice password = config_url_password(text);
        const char *next = password.len > 0 ? password.data : scheme + 3;

        fwrite(text, 1, (size_t)(next - text), out);
        text = next + password.len;
        if (password.len > 0)
            fputs(CONFIG_MASK, out);
    }
    fputs(text, out);
}

static void config_dump_key(const struct config *config, const struct config_key *key, FILE *out)
{
    char value[CONFIG_VALUE_MAX];
    const char *text;

    if (key->kind != KIND_STR) {
        config_value_format(key, config_get_value(config, key), value);
        fprintf(out, "%s = %s\n", key->name, value);
        return;
    }
    text = *config_text_field(config, key);
    if (!key->secret || *text == '\0')
        fprintf(out, "%s =%s%s\n", key->name, *text == '\0' ? "" : " ", text);
    else if (key == &config_keys[KEY_clickhouse_password])
        fprintf(out, "; %s = (set, not shown)\n", key->name);
    else {
        fprintf(out, "%s = ", key->name);
        config_dump_masked(text, out);
        fputc('\n', out);
    }
}

static void config_dump_all(const struct config *config, FILE *out)
{
    fputs("; Effective configuration of alloyd " ALLOY_VERSION ".\n", out);
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        bool last = i + 1 == CONFIG_KEY_COUNT || strcmp(key->section, key[1].section) != 0;

        if (i == 0 || strcmp(key->section, key[-1].section) != 0)
            fprintf(out, "\n[%s]\n", key->section);
        config_dump_key(config, key, out);
        for (size_t k = 0;
             last && strcmp(key->section, "clickhouse") == 0 && k < config->setting_count; k++)
            fprintf(out, CONFIG_SETTING_PREFIX "%s = %s\n", config->settings[k].name,
                    config->settings[k].value);
    }
    for (size_t i = 0; i < config->stream_count; i++)
        config_stream_dump(&config->streams[i], out);
}

void config_dump(const struct config *config, FILE *out)
{
    size_t size = 0;
    char *text = NULL;
    FILE *memory = open_memstream(&text, &size);

    if (memory == NULL)
        return;
    config_dump_all(config, memory);
    fclose(memory);
    /* Read back, ${ would begin the name of an environment variable. */
    for (const char *at = text, *next; at != NULL && *at != '\0'; at = next) {
        next = strstr(at, "${");
        fprintf(out, "%.*s%s", (int)(next != NULL ? (size_t)(next - at) : strlen(at)), at,
                next != NULL ? "$${" : "");
        next = next != NULL ? next + 2 : NULL;
    }
    free(text);
}

/* The callback for differences. */
struct listener {
    config_changed_fn changed;
    void *arg;
};

static PRINTF_LIKE(3, 4) void config_tell(const struct listener *listener, bool restart,
                                          const char *format, ...)
{
    char key[INI_LINE_MAX + 32];
    va_list args;

    va_start(args, format);
    vsnprintf(key, sizeof(key), format, args);
    va_end(args);
    listener->changed(listener->arg, key, restart);
}

/* Who is told of a difference in one stream. */
struct stream_listener {
    const struct listener *listener;
    const char *name;
};

static void config_tell_stream(void *arg, const char *key, bool restart)
{
    const struct stream_listener *to = arg;

    config_tell(to->listener, restart, "stream.%s.%s", to->name, key);
}

static void config_compare_streams(const struct config *before, const struct config *after,
                                   const struct listener *listener)
{
    size_t count = before->stream_count;

    for (size_t i = 0; i < before->stream_count; i++) {
        const struct config_stream *stream = &before->streams[i];
        int other = config_find_stream(after, stream->name);

        if ((other < 0) != stream->removed)
            config_tell(listener, false, "stream.%s", stream->name);
        else if (other >= 0)
            config_stream_compare(stream, &after->streams[other], config_tell_stream,
                                  &(struct stream_listener){listener, stream->name});
    }
    for (size_t i = 0; i < after->stream_count; i++)
        if (config_find_stream(before, after->streams[i].name) < 0)
            config_tell(listener, count++ >= CONFIG_STREAMS_MAX, "stream.%s",
                        after->streams[i].name);
}

static void config_note_difference(void *arg, const char *key, bool restart)
{
    (void)key;
    (void)restart;
    *(bool *)arg = false;
}

bool config_same_streams(const struct config *before, const struct config *after)
{
    bool same = true;

    config_compare_streams(before, after, &(struct listener){config_note_difference, &same});
    return same;
}

static const char *config_find_setting(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->setting_count; i++)
        if (strcmp(config->settings[i].name, name) == 0)
            return config->settings[i].value;
    return NULL;
}

static void config_compare_settings(const struct config *before, const struct config *after,
                                    const struct listener *listener)
{
    for (size_t i = 0; i < before->setting_count; i++) {
        const struct config_setting *setting = &before->settings[i];
        const char *value = config_find_setting(after, setting->name);

        if (value == NULL || strcmp(value, setting->value) != 0)
            config_tell(listener, true, "clickhouse." CONFIG_SETTING_PREFIX "%s", setting->name);
    }
    for (size_t i = 0; i < after->setting_count; i++)
        if (config_find_setting(before, after->settings[i].name) == NULL)
            config_tell(listener, true, "clickhouse." CONFIG_SETTING_PREFIX "%s",
                        after->settings[i].name);
}

static bool config_same_value(const struct config *a, const struct config *b,
                              const struct config_key *key)
{
    if (key->kind == KIND_STR)
        return strcmp(*config_text_field(a, key), *config_text_field(b, key)) == 0;
    return config_get_value(a, key) == config_get_value(b, key);
}

static bool config_discards(const struct config *config)
{
    return strncmp(config->clickhouse_url, "discard:", strlen("discard:")) == 0;
}

/* With discard:, and without Redis, there are parts that do not exist: neither can begin or end
 * while we run. Nor can shards: events that wait have theirs. */
static bool config_needs_restart(const struct config *before, const struct config *after,
                                 const struct config_key *key)
{
    if (key == &config_keys[KEY_clickhouse_url])
        return config_discards(before) != config_discards(after) ||
               clickhouse_url_shards(before->clickhouse_url) !=
                   clickhouse_url_shards(after->clickhouse_url);
    if (key == &config_keys[KEY_redis_url])
        return (*before->redis_url == '\0') != (*after->redis_url == '\0');
    return !key->reload;
}

void config_compare(const struct config *before, const struct config *after,
                    config_changed_fn changed, void *arg)
{
    struct listener listener = {changed, arg};
    const struct config_key *file = &config_keys[KEY_clickhouse_password_file];

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];

        if (!config_same_value(before, after, key))
            config_tell(&listener, config_needs_restart(before, after, key), "%s.%s", key->section,
                        key->name);
        else if (key == file && *before->clickhouse_password_file != '\0' &&
                 strcmp(before->clickhouse_password_resolved,
                        after->clickhouse_password_resolved) != 0)
            config_tell(&listener, false, "%s.%s", key->section,
                        key->name); /* the contents of the password file differ */
        else if (config_door_file_differs(before, after, (enum config_key_id)i))
            config_tell(&listener, false, "%s.%s", key->section, key->name); /* the same */
    }
    config_compare_settings(before, after, &listener);
    config_compare_streams(before, after, &listener);
}

/* Gives the streams of next the numbers that they have in force. */
static void config_merge_streams(struct config *next, const struct config *current)
{
    static struct config_stream merged[CONFIG_STREAMS_MAX]; /* large, and main is alone here */
    size_t count = current->stream_count;

    for (size_t i = 0; i < current->stream_count; i++) {
        const int other = config_find_stream(next, current->streams[i].name);

        if (other >= 0) {
            merged[i] = next->streams[other];
            continue;
        }
        merged[i] = current->streams[i];
        merged[i].path_count = 0;
        merged[i].removed = merged[i].shared = true;
    }
    for (size_t i = 0; i < next->stream_count; i++) {
        if (config_find_stream(current, next->streams[i].name) >= 0)
            continue;
        if (count < CONFIG_STREAMS_MAX)
            merged[count++] = next->streams[i];
        else
            config_stream_fini(&next->streams[i]); /* all numbers are given: after a restart */
    }
    memcpy(next->streams, merged, count * sizeof(merged[0]));
    next->stream_count = count;
}

/* Sets everything in next that needs a restart back to what is in force, sharing the texts. */
static void config_freeze(struct config *next, const struct config *current)
{
    config_free_frozen(next);
    config_merge_streams(next, current);
    memcpy(next->settings, current->settings, sizeof(next->settings));
    memcpy(next->server_addresses, current->server_addresses, sizeof(next->server_addresses));
    memcpy(next->admin_addresses, current->admin_addresses, sizeof(next->admin_addresses));
    next->setting_count = current->setting_count;
    next->server_address_count = current->server_address_count;
    next->admin_address_count = current->admin_address_count;
    config_door_freeze(next, current);

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];

        if (!config_needs_restart(current, next, key))
            continue;
        if (key->kind == KIND_STR) {
            free(*config_text_field(next, key));
            *config_text_field(next, key) = *config_text_field(current, key);
        } else {
            config_set_value(next, key, config_get_value(current, key));
        }
    }
}

void config_publish(struct config_ref *ref, struct config *next)
{
    /* relaxed: only this thread stores */
    struct config *current = atomic_load_explicit(&ref->current, memory_order_relaxed);

    if (current != NULL)
        config_freeze(next, current);
    next->replaced = current;
    /* release: pairs with the acquire in config_current() */
    atomic_store_explicit(&ref->current, next, memory_order_release);
}
