/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_places.c - where each key was given, for what is found out about it later.
 *
 * Runs on: main thread. Owns: the names of the files.
 */
#include "config_places.h"

#include <string.h>

struct config_places {
    const char *const *overrides; /* borrowed from whoever loaded the configuration */
    int key_places[CONFIG_KEY_COUNT];
    struct {
        int place;
        int key_places[STREAM_KEY_COUNT];
    } streams[CONFIG_STREAMS_MAX];
    int file_count;
    char *files[];
};

/* Writes an override for a problem's message, without a secret's value, however the key was
 * spelled. */
static void config_places_print_override(FILE *out, const char *override)
{
    size_t key_len = strcspn(override, "=");
    bool secret = false;

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++)
        secret = secret || (config_keys[i].secret && memmem(override, key_len, config_keys[i].name,
                                                            strlen(config_keys[i].name)) != NULL);
    if (secret && override[key_len] == '=')
        fprintf(out, "--set %.*s=" CONFIG_MASK ": ", (int)key_len, override);
    else
        fprintf(out, "--set %s: ", override);
}

void config_places_print(char *const *files, const char *const *overrides, int place, FILE *out)
{
    if (place < 0)
        config_places_print_override(out, overrides[-place - 1]);
    else if (place > 0)
        fprintf(out, "%s:%d: ", files[place / PLACE_LINES], place % PLACE_LINES);
    else
        fprintf(out, "%s: ", files[0]);
}

bool config_places_keep(struct config_loader *loader)
{
    struct config_places *places =
        calloc(1, sizeof(*places) + (size_t)loader->file_count * sizeof(places->files[0]));

    if (places == NULL)
        return false;
    places->overrides = loader->overrides;
    memcpy(places->key_places, loader->key_places, sizeof(places->key_places));
    for (size_t i = 0; i < CONFIG_STREAMS_MAX; i++) {
        places->streams[i].place = loader->streams[i].place;
        memcpy(places->streams[i].key_places, loader->streams[i].key_places,
               sizeof(places->streams[i].key_places));
    }
    memcpy(places->files, loader->files, (size_t)loader->file_count * sizeof(places->files[0]));
    places->file_count = loader->file_count;
    loader->file_count = 0;
    loader->config->places = places;
    return true;
}

void config_places_destroy(struct config_places *places)
{
    for (int i = 0; places != NULL && i < places->file_count; i++)
        free(places->files[i]);
    free(places);
}

/* The place of a key of stream, or else of the stream itself. */
static int config_places_of_stream(const struct config_places *places, size_t stream,
                                   const char *key)
{
    for (size_t i = 0; i < STREAM_KEY_COUNT; i++)
        if (strcmp(config_stream_keys[i], key) == 0 &&
            places->streams[stream].key_places[i] != PLACE_NONE)
            return places->streams[stream].key_places[i];
    return places->streams[stream].place;
}

void config_print_place(const struct config *config, const char *key, FILE *out)
{
    const struct config_places *places = config->places;
    int place = PLACE_NONE;
    char name[128];

    for (size_t i = 0; i < config->stream_count; i++) {
        const int len = snprintf(name, sizeof(name), "stream.%s.", config->streams[i].name);

        if (strncmp(key, name, (size_t)len) == 0)
            place = config_places_of_stream(places, i, key + len);
    }
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        snprintf(name, sizeof(name), "%s.%s", config_keys[i].section, config_keys[i].name);
        if (strcmp(key, name) == 0)
            place = places->key_places[i];
    }
    config_places_print((char *const *)places->files, places->overrides, place, out);
}
