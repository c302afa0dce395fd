/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_door.h - who may come in: the clients' keys, the admin port's, the certificate, and
 * proxies to believe.
 */
#ifndef ALLOY_CONFIG_DOOR_H
#define ALLOY_CONFIG_DOOR_H

#include "config_loader.h"

/* Reads auth.keys_file, admin.key_file, the files of server.tls_cert, tls_key and tls_client_ca,
 * and server.trusted_proxies, and reports an admin port that everybody could reach. Streams and
 * addresses are filled already. */
void config_door_check(struct config_loader *loader);

/* Whether the file that key id names has another content in one configuration than in the other,
 * though its name is the same. False for a key that names no file of this module. */
bool config_door_file_differs(const struct config *a, const struct config *b,
                              enum config_key_id id);

/* next follows current, and has its streams: keys go on with their counts and debts, clients with
 * their TLS tickets, and the admin port keeps its key where the file's name has changed. Before
 * RESTART keys are set back. */
void config_door_freeze(struct config *next, const struct config *current);
/* Frees what config owns, and not what it shares with the configuration that it has replaced. */
void config_door_fini(struct config *config);

#endif
