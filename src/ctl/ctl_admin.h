/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_admin.h - asks and tells a running alloyd through its admin port.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_ADMIN_H
#define ALLOY_CTL_ADMIN_H

#include "ctl_command.h"
#include "ctl_http.h"

struct ctl_admin {
    const char *url; /* of the admin port, without a path */
    char key[CTL_KEY_ROOM];
    long timeout_ms; /* of one request */
    struct ctl_http *http;
};

/* Takes --admin and --admin-key-file. False: a problem (reported), and nothing is to be closed. */
bool ctl_admin_open(struct ctl_admin *admin, const struct ctl_given *given);
void ctl_admin_close(struct ctl_admin *admin);
/* GET of a path without its first slash. answer is lent until the next call. */
void ctl_admin_get(struct ctl_admin *admin, const char *path, struct ctl_http_answer *answer);
/* POST with an empty body and the header that the admin port wants, which no web page can set. */
void ctl_admin_post(struct ctl_admin *admin, const char *path, struct ctl_http_answer *answer);

#endif
