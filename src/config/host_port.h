/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_port.h - splits the "host:port" in addresses and URLs of the configuration.
 *
 * Runs on: any thread. Owns: nothing.
 */
#ifndef ALLOY_HOST_PORT_H
#define ALLOY_HOST_PORT_H

#include "alloy/base.h"

/* Splits host:port, host, [v6]:port or [v6]. host has no brackets; port is empty if there is none.
 * Both point into text. Returns NULL, or what is wrong with text. */
MUST_CHECK const char *host_port_split(struct slice text, struct slice *host, struct slice *port);

#endif
