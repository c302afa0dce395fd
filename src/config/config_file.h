/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_file.h - reads a configuration: the file, then the overrides of the command line.
 */
#ifndef ALLOY_CONFIG_FILE_H
#define ALLOY_CONFIG_FILE_H

#include "config_loader.h"

/* Fills loader->config from the file at path and the overrides, and checks it. Each problem counts
 * in loader->problem_count. */
void config_file_load(struct config_loader *loader, const char *path, size_t override_count);

#endif
