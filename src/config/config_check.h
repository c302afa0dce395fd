/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_check.h - checks beyond a single key: addresses, URLs, streams, `auto`.
 */
#ifndef ALLOY_CONFIG_CHECK_H
#define ALLOY_CONFIG_CHECK_H

#include "config_loader.h"

/* The part of url between "user:" and "@host"; empty where there is none. */
struct slice config_url_password(const char *url);

/* Resolves `auto` and inherited values, fills streams and addresses, and reports what is wrong. */
void config_check(struct config_loader *loader);

#endif
