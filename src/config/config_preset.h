/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_preset.h - what a preset sets in a stream: the paths, shape and answers of one kind of
 * client.
 */
#ifndef ALLOY_CONFIG_PRESET_H
#define ALLOY_CONFIG_PRESET_H

#include "config_loader.h"

struct config_preset {
    const char *name;
    const char *texts[STREAM_KEY_COUNT]; /* as the file would have them; NULL: not set */
    struct {
        const char *name;
        const char *text;
    } columns[CONFIG_COLUMNS_MAX]; /* up to the first without a name */
};

/* NULL: there is none of this name. */
const struct config_preset *config_find_preset(const char *name);
/* Writes the names of all presets, comma-separated. */
void config_list_presets(char *out, size_t size);

#endif
