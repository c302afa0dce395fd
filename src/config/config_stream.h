/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_stream.h - a [stream.NAME] section: what it may say, and what it means.
 */
#ifndef ALLOY_CONFIG_STREAM_H
#define ALLOY_CONFIG_STREAM_H

#include "config_loader.h"

/* `column.` before a column's name. */
#define CONFIG_COLUMN_PREFIX "column."

/* Notes `column.NAME = text` for stream index; reports what is wrong with the name. */
void config_stream_give_column(struct config_loader *loader, size_t index, int place,
                               const char *name, const char *text);
/* Fills stream index from what was given, its preset and the defaults; reports what is wrong. */
void config_stream_check(struct config_loader *loader, size_t index);
/* Frees all texts of a stream. */
void config_stream_fini(struct config_stream *stream);
/* Writes the section, spelled out. */
void config_stream_dump(const struct config_stream *stream, FILE *out);
/* Calls changed for each key that differs: the key's name and whether a restart is needed. */
typedef void (*config_stream_changed_fn)(void *arg, const char *key, bool restart);
void config_stream_compare(const struct config_stream *a, const struct config_stream *b,
                           config_stream_changed_fn changed, void *arg);

#endif
