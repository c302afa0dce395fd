/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_admin.c - asks and tells a running alloyd through its admin port.
 *
 * Runs on: main thread. Owns: the connection, and the key.
 */
#include "ctl_admin.h"

#include <string.h>

#define TIMEOUT_MS 30000L

bool ctl_admin_open(struct ctl_admin *admin, const struct ctl_given *given)
{
    const char *key_file = ctl_value(given, "admin-key-file");

    *admin = (struct ctl_admin){.url = ctl_value_or(given, "admin", CTL_ADMIN_URL),
                                .timeout_ms = TIMEOUT_MS};
    if (key_file != NULL && !ctl_read_key(key_file, admin->key))
        return false;
    admin->http = ctl_http_create();
    if (admin->http == NULL)
        fputs("alloyctl: out of memory\n", stderr);
    return admin->http != NULL;
}

void ctl_admin_close(struct ctl_admin *admin)
{
    ctl_http_destroy(admin->http);
}

static void ctl_admin_send(struct ctl_admin *admin, const char *path,
                           struct ctl_http_request *request, struct ctl_http_answer *answer)
{
    char *url = ctl_http_url(admin->url, path);

    request->url = url;
    request->bearer = admin->key;
    request->timeout_ms = admin->timeout_ms;
    if (url != NULL)
        ctl_http_send(admin->http, request, answer);
    else
        *answer = (struct ctl_http_answer){.error = "out of memory"};
    free(url);
}

void ctl_admin_get(struct ctl_admin *admin, const char *path, struct ctl_http_answer *answer)
{
    struct ctl_http_request request = {.body = NULL};

    ctl_admin_send(admin, path, &request, answer);
}

void ctl_admin_post(struct ctl_admin *admin, const char *path, struct ctl_http_answer *answer)
{
    static const char *const headers[] = {"Alloy-Control: 1", NULL};
    struct ctl_http_request request = {.body = "", .headers = headers};

    ctl_admin_send(admin, path, &request, answer);
}
