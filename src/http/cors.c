/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cors.c - which web pages may send events.
 *
 * A browser that sends JSON, or a header of an SDK, first asks with OPTIONS, and shows a page no
 * answer that does not name its origin. navigator.sendBeacon sends credentials, for which '*' does
 * not count: so the origin is echoed even where all are allowed.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/cors.h"

#include <stdlib.h>
#include <string.h>

static bool cors_is_allowed(const char *origins, struct slice origin)
{
    for (const char *at = origins; *at != '\0';) {
        size_t len;

        at += strspn(at, ", \t");
        len = strcspn(at, ", \t");
        if ((len == 1 && *at == '*') ||
            (len > 0 && len == origin.len && memcmp(at, origin.data, len) == 0))
            return true;
        at += len;
    }
    return false;
}

/* What a client sends is echoed: no byte of it may mean anything in a header's value. */
static bool cors_is_plain(struct slice text, const char *more)
{
    for (size_t i = 0; i < text.len; i++) {
        const char c = text.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c != '\0' && strchr(more, c) != NULL)))
            return false;
    }
    return true;
}

struct cors *cors_create(const char *origins, struct slice origin, struct slice asked, bool keep)
{
    struct cors *cors;

    if (origin.len == 0 || origin.len > CORS_ORIGIN_MAX ||
        asked.len > (keep ? CORS_HEADERS_KEPT_MAX : CORS_HEADERS_MAX) ||
        !cors_is_allowed(origins, origin) || !cors_is_plain(origin, ":/.-_~[]+") ||
        !cors_is_plain(asked, ", \t!#$%&'*+-.^_`|~"))
        return NULL;
    cors = malloc(sizeof(*cors) + origin.len + (keep ? asked.len : 0));
    if (cors == NULL)
        return NULL;
    memcpy(cors->text, origin.data, origin.len);
    cors->origin = (struct slice){cors->text, origin.len};
    cors->asked = asked;
    if (keep) {
        memcpy(cors->text + origin.len, asked.data, asked.len);
        cors->asked.data = cors->text + origin.len;
    }
    cors->preflight = false;
    return cors;
}
