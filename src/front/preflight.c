/* SPDX-License-Identifier: Apache-2.0 */
/*
 * preflight.c - requests that their head alone answers: browsers that ask whether they may send,
 * and balancers that ask whether we are well.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: conn->cors.
 */
#include "conn_private.h"

#include "alloy/cors.h"

#include <stdlib.h>
#include <string.h>

static bool preflight_path_is(const struct http_request *request, const char *path)
{
    const size_t len = strlen(path);

    /* As for a stream's path, a slash at the end does not matter. */
    return (request->path.len == len ||
            (request->path.len == len + 1 && request->path.data[len] == '/' && len > 1)) &&
           memcmp(request->path.data, path, len) == 0;
}

bool preflight_is_health(const struct http_request *request)
{
    return preflight_path_is(request, "/readyz") || preflight_path_is(request, "/healthz");
}

void preflight_note_origin(struct conn *conn, const struct http_request *request)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    const char *head = conn->buffer.data + conn->buffer.start;
    struct slice asked = {"", 0};

    if (likely(*config->server_cors_origins == '\0'))
        return;
    if (request->method == HTTP_OPTIONS)
        asked = http_find_header(head, request->head_len, "access-control-request-headers");
    /* A request without a body is answered in this turn, in which its head stays where it is. */
    conn->cors = cors_create(config->server_cors_origins,
                             http_find_header(head, request->head_len, "origin"), asked,
                             request->chunked || request->content_length > 0);
    if (conn->cors != NULL)
        conn->cors->preflight = request->method == HTTP_OPTIONS;
}

void preflight_note_unread(struct conn *conn)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    const size_t len = buffer_len(&conn->buffer);
    const char *head = conn->buffer.data + conn->buffer.start, *last;

    if (likely(*config->server_cors_origins == '\0') || len == 0 || conn->cors != NULL)
        return;
    last = memrchr(head, '\n', len);
    if (last != NULL)
        conn->cors = cors_create(config->server_cors_origins,
                                 http_find_header(head, (size_t)(last + 1 - head), "origin"),
                                 (struct slice){"", 0}, true);
}

void preflight_forget(struct conn *conn)
{
    free(conn->cors);
    conn->cors = NULL;
}

bool preflight_answers(struct conn *conn, const struct http_request *request, bool stream,
                       struct reply *reply)
{
    const bool ready = preflight_path_is(request, "/readyz");
    const bool known = preflight_is_health(request);

    if (request->method == HTTP_POST || request->method == HTTP_OTHER)
        return false;
    *reply = (struct reply){.status = 200, .answer = "{\"healthy\":true}\n", .cors = conn->cors};
    if (request->method == HTTP_OPTIONS) {
        reply->status = 204;
        reply->answer = "";
        reply->allow = known ? PREFLIGHT_HEALTH_METHODS : "POST, OPTIONS";
        if (stream)
            return conn->cors != NULL;
        return known || preflight_path_is(request, "*") || preflight_path_is(request, "/");
    }
    if (ready && health_ready(conn->set->parts.shared->health)) {
        reply->answer = "{\"ready\":true}\n";
    } else if (ready) {
        reply->error = ERROR_not_ready;
        reply->status = error_code_status(reply->error);
        /* The other reasons are the operator's, who has the admin port; this one is a balancer's.
         */
        reply->answer = conn->set->leaving
                            ? "{\"ready\":false,\"reasons\":[{\"key\":\"draining\"}]}\n"
                            : "{\"ready\":false}\n";
    }
    return known && !stream;
}
