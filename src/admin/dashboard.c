/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dashboard.c - the page at / of the admin port: src/admin/dashboard/, which the build embeds.
 *
 * It loads nothing from elsewhere, so it works through any tunnel and tells third parties nothing.
 *
 * Runs on: any thread; constant data.
 * Owns: nothing.
 */
#include "dashboard.h"

#include <string.h>

#include "alloy/base.h"

static const unsigned char dashboard_page[] = {
#include "index.html.inc"
};
static const unsigned char dashboard_style[] = {
#include "style.css.inc"
};
static const unsigned char dashboard_charts[] = {
#include "chart.js.inc"
};
static const unsigned char dashboard_script[] = {
#include "app.js.inc"
};
static const unsigned char dashboard_icon[] = {
#include "icon.svg.inc"
};

/* What is no ASCII fits no char. */
#define DATA(bytes) (const char *)(bytes), sizeof(bytes)

static const struct dashboard_file dashboard_files[] = {
    {"/", "text/html; charset=utf-8", DATA(dashboard_page)},
    {"/style.css", "text/css; charset=utf-8", DATA(dashboard_style)},
    {"/chart.js", "text/javascript; charset=utf-8", DATA(dashboard_charts)},
    {"/app.js", "text/javascript; charset=utf-8", DATA(dashboard_script)},
    {"/icon.svg", "image/svg+xml", DATA(dashboard_icon)},
};

const struct dashboard_file *dashboard_find(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(dashboard_files); i++)
        if (strcmp(path, dashboard_files[i].path) == 0)
            return &dashboard_files[i];
    return NULL;
}
