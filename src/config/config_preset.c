/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_preset.c - one row a client: where its SDK posts, what stands around its events, which id
 * it gives them and keeps when it tries again, and what answer it takes for success.
 * docs/CLIENTS.md has an example of each.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "config_preset.h"

#include <string.h>

static const struct config_preset presets[] = {
    {.name = "segment",
     .texts = {[STREAM_KEY_PATH] =
                   "/v1/batch, /v1/b, /v1/import, /v1/track, /v1/t, /v1/identify, /v1/i, /v1/page, "
                   "/v1/p, /v1/screen, /v1/s, /v1/group, /v1/g, /v1/alias, /v1/a",
               [STREAM_KEY_EVENTS] = "batch",
               [STREAM_KEY_ID] = "messageId",
               [STREAM_KEY_KEY_MEMBER] = "writeKey",
               [STREAM_KEY_ANSWER] = "200 {\"success\":true}"}},
    {.name = "rudderstack",
     .texts = {[STREAM_KEY_PATH] =
                   "/v1/batch, /v1/import, /v1/track, /v1/identify, /v1/page, /v1/screen, "
                   "/v1/group, /v1/alias, /v1/merge, /beacon/v1/batch",
               [STREAM_KEY_EVENTS] = "batch",
               [STREAM_KEY_ID] = "messageId",
               [STREAM_KEY_KEY_MEMBER] = "writeKey",
               [STREAM_KEY_ANSWER] = "200 {\"status\":\"OK\"}"}},
    {.name = "posthog",
     .texts = {[STREAM_KEY_PATH] = "/batch, /capture, /track, /e, /i/v0/e, /s",
               [STREAM_KEY_EVENTS] = "batch",
               [STREAM_KEY_ID] = "uuid",
               [STREAM_KEY_KEY_MEMBER] = "api_key, token, /properties/token",
               [STREAM_KEY_MISSING_ID] = "hash",
               [STREAM_KEY_ANSWER] = "200 {\"status\":1}"}},
    {.name = "snowplow",
     .texts = {[STREAM_KEY_PATH] = "/com.snowplowanalytics.snowplow/tp2",
               [STREAM_KEY_EVENTS] = "data",
               [STREAM_KEY_ID] = "eid",
               [STREAM_KEY_ANSWER] = "200 {\"status\":\"ok\"}"}},
    {.name = "amplitude",
     .texts = {[STREAM_KEY_PATH] = "/2/httpapi, /batch",
               [STREAM_KEY_EVENTS] = "events",
               [STREAM_KEY_ID] = "insert_id",
               [STREAM_KEY_KEY_MEMBER] = "api_key",
               [STREAM_KEY_ANSWER] = "200 {\"code\":200}"}},
    {.name = "mixpanel",
     .texts = {[STREAM_KEY_PATH] = "/track, /import, /engage, /groups",
               [STREAM_KEY_ID] = "/properties/$insert_id",
               [STREAM_KEY_KEY_MEMBER] = "/properties/token, $token",
               [STREAM_KEY_MISSING_ID] = "hash",
               [STREAM_KEY_ANSWER] = "200 1",
               [STREAM_KEY_ANSWER_VERBOSE] = "{\"status\":1}"}},
    {.name = "jitsu",
     .texts = {[STREAM_KEY_PATH] = "/api/s/*",
               [STREAM_KEY_EVENTS] = "batch",
               [STREAM_KEY_ID] = "messageId",
               [STREAM_KEY_KEY_MEMBER] = "writeKey",
               [STREAM_KEY_ANSWER] = "200 {\"ok\":true}"}},
    {.name = "cloudevents",
     /* In binary mode the body is the data alone, which may have members of these names; and the
      * headers are encoded, so that an event has the same id in every mode. */
     .texts = {[STREAM_KEY_ID] = "percent:ce-source|source, percent:ce-id|id",
               [STREAM_KEY_COLUMN_CONFLICT] = "event"},
     .columns = {{"specversion", "percent:ce-specversion"},
                 {"id", "percent:ce-id"},
                 {"source", "percent:ce-source"},
                 {"type", "percent:ce-type"},
                 {"subject", "percent:ce-subject"},
                 {"time", "percent:ce-time"}}},
    {.name = "github",
     .texts = {[STREAM_KEY_ID] = "header:X-GitHub-Delivery"},
     .columns = {{"github_delivery", "header:x-github-delivery"},
                 {"github_event", "header:x-github-event"}}},
    {.name = "stripe", .texts = {[STREAM_KEY_ID] = "id"}},
    {.name = "shopify",
     .texts = {[STREAM_KEY_ID] = "header:X-Shopify-Webhook-Id"},
     .columns = {{"shopify_webhook_id", "header:x-shopify-webhook-id"},
                 {"shopify_topic", "header:x-shopify-topic"},
                 {"shopify_shop", "header:x-shopify-shop-domain"}}},
    {.name = "svix",
     .texts = {[STREAM_KEY_ID] = "header:svix-id|header:webhook-id"},
     .columns = {{"svix_id", "header:svix-id"}}},
};

const struct config_preset *config_find_preset(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(presets); i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

void config_list_presets(char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(presets) && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s", i > 0 ? ", " : "", presets[i].name);
}
