/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host_port.h - takes "host:port" apart, as addresses and URLs of the configuration have it.
 *
 * Runs on: any thread. Owns: nothing.
 */
#ifndef ALLOY_HOST_PORT_H
#define ALLOY_HOST_PORT_H

#include "alloy/base.h"

/* Splits host:port, host, [v6]:port or [v6]; host is without brackets, port is empty where there is
 * none. Both lie in text. Returns NULL, or what is wrong with it. */
MUST_CHECK const char *host_port_split(struct slice text, struct slice *host, struct slice *port);

#endif
