/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_loader.c - what reading and checking a configuration share: the rows of the keys, and
 * reporting problems.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "config_loader.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "config_places.h"

#define SECRET_MAX 1024 /* bytes of a password or key in a file */

/* The reload column of config_keys.def. */
#define RESTART false
#define RELOAD true

#define ROW(section_, key, field, ...)                                                            \
    {                                                                                             \
        .section = #section_, .name = #key, .offset = offsetof(struct config, field), __VA_ARGS__ \
    }

const struct config_key config_keys[CONFIG_KEY_COUNT] = {
#define KEY_STR(section, key, default_, reload_, help_)                              \
    ROW(section, key, section##_##key, .kind = KIND_STR, .default_text = (default_), \
        .reload = (reload_), .help = (help_)),
#define KEY_SECRET(section, key, default_, reload_, help_)                           \
    ROW(section, key, section##_##key, .kind = KIND_STR, .default_text = (default_), \
        .reload = (reload_), .secret = true, .help = (help_)),
#define KEY_UINT(section, key, default_, min_, max_, reload_, help_)                  \
    ROW(section, key, section##_##key, .kind = KIND_UINT, .default_text = (default_), \
        .min = (min_), .max = (max_), .reload = (reload_), .help = (help_)),
#define KEY_AUTO(section, key, min_, max_, reload_, help_)                        \
    ROW(section, key, section##_##key, .kind = KIND_UINT, .default_text = "auto", \
        .automatic = true, .min = (min_), .max = (max_), .reload = (reload_), .help = (help_)),
#define KEY_SIZE(section, key, default_, min_, max_, reload_, help_)                          \
    ROW(section, key, section##_##key##_bytes, .kind = KIND_SIZE, .default_text = (default_), \
        .min = (min_), .max = (max_), .reload = (reload_), .help = (help_)),
#define KEY_AUTO_SIZE(section, key, min_, max_, reload_, help_)                           \
    ROW(section, key, section##_##key##_bytes, .kind = KIND_SIZE, .default_text = "auto", \
        .automatic = true, .min = (min_), .max = (max_), .reload = (reload_), .help = (help_)),
#define KEY_MSEC(section, key, default_, min_, max_, reload_, help_)                       \
    ROW(section, key, section##_##key##_ms, .kind = KIND_MSEC, .default_text = (default_), \
        .min = (min_), .max = (max_), .reload = (reload_), .help = (help_)),
#define KEY_BOOL(section, key, default_, reload_, help_)                              \
    ROW(section, key, section##_##key, .kind = KIND_BOOL, .default_text = (default_), \
        .words = "off,on", .reload = (reload_), .help = (help_)),
#define KEY_ENUM(section, key, default_, words_, reload_, help_)                      \
    ROW(section, key, section##_##key, .kind = KIND_ENUM, .default_text = (default_), \
        .words = (words_), .reload = (reload_), .help = (help_)),
#include "alloy/config_keys.def"
};

const char *const config_stream_keys[STREAM_KEY_COUNT] = {
    "preset",  "path",   "table",      "events",     "id",     "missing_id",     "key_member",
    "partial", "schema", "on_unknown", "on_missing", "answer", "answer_verbose", "column_conflict",
    "proof",   "ttl"};

static void *config_field_of(const struct config *config, const struct config_key *key)
{
    return (char *)config + key->offset;
}

char **config_text_field(const struct config *config, const struct config_key *key)
{
    return config_field_of(config, key);
}

uint64_t config_get_value(const struct config *config, const struct config_key *key)
{
    if (key->kind == KIND_BOOL)
        return *(bool *)config_field_of(config, key);
    if (key->kind == KIND_ENUM)
        return (uint64_t)(*(int *)config_field_of(config, key));
    return *(uint64_t *)config_field_of(config, key);
}

void config_set_value(struct config *config, const struct config_key *key, uint64_t value)
{
    if (key->kind == KIND_BOOL)
        *(bool *)config_field_of(config, key) = value != 0;
    else if (key->kind == KIND_ENUM)
        *(int *)config_field_of(config, key) = (int)value;
    else
        *(uint64_t *)config_field_of(config, key) = value;
}

int config_find_stream(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->stream_count; i++)
        if (strcmp(config->streams[i].name, name) == 0)
            return (int)i;
    return -1;
}

void config_problem(struct config_loader *loader, int place, const char *format, ...)
{
    va_list args;

    loader->problem_count++;
    config_places_print(loader->files, loader->overrides, place, loader->problems);
    va_start(args, format);
    vfprintf(loader->problems, format, args);
    va_end(args);
    fputc('\n', loader->problems);
}

void config_warning(struct config_loader *loader, int place, const char *format, ...)
{
    va_list args;

    config_places_print(loader->files, loader->overrides, place, loader->problems);
    fputs("warning: ", loader->problems);
    va_start(args, format);
    vfprintf(loader->problems, format, args);
    va_end(args);
    fputc('\n', loader->problems);
}

const char *config_place_text(const struct config_loader *loader, int place, int other,
                              char out[CONFIG_PLACE_MAX])
{
    if (other / PLACE_LINES == place / PLACE_LINES)
        snprintf(out, CONFIG_PLACE_MAX, "on line %d", other % PLACE_LINES);
    else
        snprintf(out, CONFIG_PLACE_MAX, "at %s:%d", loader->files[other / PLACE_LINES],
                 other % PLACE_LINES);
    return out;
}

char *config_copy(struct config_loader *loader, const char *text, size_t len)
{
    char *copy = strndup(text, len);

    if (copy == NULL) {
        loader->out_of_memory = true;
        config_problem(loader, PLACE_NONE, "out of memory");
    }
    return copy;
}

char *config_read_secret(struct config_loader *loader, enum config_key_id id)
{
    const struct config_key *key = &config_keys[id];
    const char *path = *(char **)(void *)((char *)loader->config + key->offset);
    int place = loader->key_places[id];
    char line[SECRET_MAX + 2] = "";
    FILE *file = fopen(path, "re");
    int err = 0;

    if (file == NULL || (fgets(line, sizeof(line), file) == NULL && ferror(file)))
        err = errno;
    if (file != NULL)
        fclose(file);
    line[strcspn(line, "\r\n")] = '\0';
    if (err != 0)
        config_problem(loader, place, "%s.%s = %s: %s", key->section, key->name, path,
                       strerror(err));
    else if (line[0] == '\0' || strlen(line) > SECRET_MAX)
        config_problem(loader, place, "%s.%s = %s: its first line must be 1 to %d bytes",
                       key->section, key->name, path, SECRET_MAX);
    else
        return config_copy(loader, line, strlen(line));
    return NULL;
}
