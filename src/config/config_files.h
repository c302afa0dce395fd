/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_files.h - whether files and folders that keys name are there and can be used.
 */
#ifndef ALLOY_CONFIG_FILES_H
#define ALLOY_CONFIG_FILES_H

#include "config_loader.h"

/* Reports files that cannot be read, and folders that cannot be. Addresses are filled before. */
void config_files_check(struct config_loader *loader);

#endif
