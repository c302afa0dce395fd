/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dashboard.h - the page at / of the admin port, which polls /stats, and the files that it loads.
 */
#ifndef ALLOY_DASHBOARD_H
#define ALLOY_DASHBOARD_H

#include <stddef.h>

struct dashboard_file {
    const char *path;
    const char *type;
    const char *data;
    size_t len;
};

/* The file at path, or NULL. */
const struct dashboard_file *dashboard_find(const char *path);

#endif
