/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_places.h - where each key was given, for what is found out about it later.
 */
#ifndef ALLOY_CONFIG_PLACES_H
#define ALLOY_CONFIG_PLACES_H

#include "config_loader.h"

/* Writes a place of a loader, with a colon and a space; a secret's value is masked. */
void config_places_print(char *const *files, const char *const *overrides, int place, FILE *out);
/* Keeps what the loader knows of places in its configuration. Takes its files. False: out of
 * memory. */
bool config_places_keep(struct config_loader *loader);
void config_places_destroy(struct config_places *places); /* NULL is fine */

#endif
