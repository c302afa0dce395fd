/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_stats.c - what alloyd's /stats says, as numbers. What a document lacks counts as 0: alloyd
 * may be of another version.
 *
 * Runs on: main thread. Owns: the document until ctl_stats_free().
 */
#include "ctl_stats.h"

#include <math.h>
#include <string.h>

#include "alloy/clock.h"
#include "ctl_json.h"

/* The member that a path of names with dots leads to; NULL: there is none. */
static const json_t *ctl_stats_find(const json_t *object, const char *path)
{
    char name[64];

    while (object != NULL && *path != '\0') {
        const size_t len = strcspn(path, ".");

        snprintf(name, sizeof(name), "%.*s", (int)len, path);
        object = json_object_get(object, name);
        path += path[len] == '.' ? len + 1 : len;
    }
    return object;
}

static uint64_t ctl_stats_number(const json_t *object, const char *path)
{
    const double number = json_number_value(ctl_stats_find(object, path));

    return number > 0 ? (uint64_t)number : 0;
}

static double ctl_stats_real(const json_t *object, const char *path)
{
    return json_number_value(ctl_stats_find(object, path));
}

static bool ctl_stats_true(const json_t *object, const char *path)
{
    return json_is_true(ctl_stats_find(object, path));
}

static void ctl_stats_read_streams(struct ctl_stats *stats)
{
    json_t *streams = json_object_get(stats->json, "streams");

    for (void *at = json_object_iter(streams); at != NULL && stats->count < CTL_STATS_STREAMS_MAX;
         at = json_object_iter_next(streams, at)) {
        const json_t *value = json_object_iter_value(at);

        stats->streams[stats->count++] = (struct ctl_stats_stream){
            .name = json_object_iter_key(at),
            .table = json_string_value(json_object_get(value, "table")),
            .received = ctl_stats_number(value, "books.received"),
            .accepted = ctl_stats_number(value, "books.accepted"),
            .duplicates = ctl_stats_number(value, "books.duplicates.l1") +
                          ctl_stats_number(value, "books.duplicates.l2"),
            .rejected = ctl_stats_number(value, "books.rejected"),
            .inserted = ctl_stats_number(value, "books.inserted"),
            .dead_lettered = ctl_stats_number(value, "books.dead_lettered"),
            .pending = ctl_stats_number(value, "books.pending"),
            .oldest_ms = ctl_stats_number(value, "oldest_pending_ms")};
    }
}

bool ctl_stats_read(struct ctl_stats *stats, struct slice body, uint64_t now_ms)
{
    json_t *json = json_loadb(body.data, body.len, 0, NULL);

    *stats = (struct ctl_stats){.json = json, .taken_ms = now_ms};
    stats->version = json_string_value(json_object_get(json, "version"));
    if (stats->version == NULL || !json_is_object(json_object_get(json, "streams")) ||
        !json_is_boolean(json_object_get(json, "ready")))
        return false;
    stats->uptime_s = ctl_stats_real(json, "uptime");
    stats->ready = ctl_stats_true(json, "ready");
    stats->reasons = json_object_get(json, "reasons");
    stats->connections = ctl_stats_number(json, "http.connections");
    stats->waiting = ctl_stats_number(json, "http.waiting");
    stats->requests = ctl_stats_number(json, "http.seconds.count");
    stats->request_s = ctl_stats_real(json, "http.seconds.sum");
    stats->redis_used = ctl_stats_true(json, "redis.used");
    stats->redis_up = ctl_stats_true(json, "redis.up");
    stats->clickhouse_up = ctl_stats_true(json, "clickhouse.up");
    stats->inserts = ctl_stats_number(json, "clickhouse.inserts");
    stats->inflight = ctl_stats_number(json, "clickhouse.inflight");
    stats->insert_s = ctl_stats_real(json, "clickhouse.seconds.sum");
    stats->insert_age_s =
        stats->inserts > 0 ? ctl_stats_real(json, "clickhouse.last_insert_age") : -1;
    stats->ring_depth = ctl_stats_number(json, "ring.depth");
    stats->ring_capacity = ctl_stats_number(json, "ring.capacity");
    stats->journal_bytes = ctl_stats_number(json, "journal.bytes");
    stats->journal_bytes_max = ctl_stats_number(json, "journal.bytes_max");
    stats->letter_bytes = ctl_stats_number(json, "dead_letter.bytes");
    ctl_stats_read_streams(stats);
    return true;
}

int ctl_stats_get(struct ctl_admin *admin, struct ctl_stats *stats, char error[CTL_STATS_ERROR_MAX])
{
    struct ctl_http_answer answer;

    *stats = (struct ctl_stats){.json = NULL};
    ctl_admin_get(admin, "stats", &answer);
    if (answer.status == 0) {
        snprintf(error, CTL_STATS_ERROR_MAX, "%s does not answer: %.200s", admin->url,
                 answer.error);
        return -1;
    }
    if (answer.status == 200 &&
        ctl_stats_read(stats, (struct slice){answer.body, answer.len}, clock_real_ms()))
        return 0;
    if (answer.status == 401 || answer.status == 403)
        snprintf(error, CTL_STATS_ERROR_MAX, "%s asks for a key: give --admin-key-file FILE",
                 admin->url);
    else
        snprintf(error, CTL_STATS_ERROR_MAX,
                 "%s answers %ld, and not as the admin port of alloyd does", admin->url,
                 answer.status);
    return -1;
}

void ctl_stats_free(struct ctl_stats *stats)
{
    json_decref(stats->json);
    stats->json = NULL;
}

const char *ctl_stats_span(double seconds, char text[CTL_STATS_TEXT_MAX])
{
    const uint64_t s = seconds > 0 ? (uint64_t)seconds : 0;

    if (s >= 86400)
        snprintf(text, CTL_STATS_TEXT_MAX, "%llu d %llu h", (unsigned long long)(s / 86400),
                 (unsigned long long)(s % 86400 / 3600));
    else if (s >= 3600)
        snprintf(text, CTL_STATS_TEXT_MAX, "%llu h %llu min", (unsigned long long)(s / 3600),
                 (unsigned long long)(s % 3600 / 60));
    else if (s >= 60)
        snprintf(text, CTL_STATS_TEXT_MAX, "%llu min %llu s", (unsigned long long)(s / 60),
                 (unsigned long long)(s % 60));
    else if (seconds >= 1)
        snprintf(text, CTL_STATS_TEXT_MAX, "%.1f s", seconds);
    else
        snprintf(text, CTL_STATS_TEXT_MAX, "%.0f ms", seconds > 0 ? seconds * 1000 : 0);
    return text;
}

const char *ctl_stats_bytes(uint64_t bytes, char text[CTL_STATS_TEXT_MAX])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double size = (double)bytes;
    size_t unit = 0;

    while (size >= 1000 && unit + 1 < ARRAY_LEN(units)) {
        size /= 1024;
        unit++;
    }
    snprintf(text, CTL_STATS_TEXT_MAX, unit == 0 || size >= 99.95 ? "%.0f %s" : "%.1f %s", size,
             units[unit]);
    return text;
}

const char *ctl_stats_count(double count, char text[CTL_STATS_TEXT_MAX])
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    size_t unit = 0;

    if (count < 99999.5) {
        snprintf(text, CTL_STATS_TEXT_MAX,
                 count > 0 && count < 9.95 && count != floor(count) ? "%.1f" : "%.0f", count);
        return text;
    }
    while (count >= 999.5 && unit + 1 < ARRAY_LEN(units)) {
        count /= 1000;
        unit++;
    }
    snprintf(text, CTL_STATS_TEXT_MAX, count >= 99.95 ? "%.0f%s" : "%.1f%s", count, units[unit]);
    return text;
}
