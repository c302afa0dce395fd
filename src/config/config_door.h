/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_door.h - who may come in: the clients' keys, the admin port's, and proxies to believe.
 */
#ifndef ALLOY_CONFIG_DOOR_H
#define ALLOY_CONFIG_DOOR_H

#include "config_loader.h"

/* Reads auth.keys_file, admin.key_file and server.trusted_proxies, and reports an admin port that
 * everybody could reach. Streams and addresses are filled already. */
void config_door_check(struct config_loader *loader);

/* Whether the keys or the admin port's key of two configurations differ, though the names of their
 * files do not. */
bool config_door_keys_differ(const struct config *a, const struct config *b);
bool config_door_admin_key_differs(const struct config *a, const struct config *b);

/* next follows current, and has its streams: keys go on with their counts and debts, and the admin
 * port keeps its key where the file's name has changed. Before RESTART keys are set back. */
void config_door_freeze(struct config *next, const struct config *current);
/* Frees what config owns, and not what it shares with the configuration that it has replaced. */
void config_door_fini(struct config *config);

#endif
