/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_status.c - alloyctl status: whether an alloyd is ready, and how it is, on one screen.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_commands.h"

#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "ctl_admin.h"
#include "ctl_json.h"
#include "ctl_stats.h"

#define ISO_MAX 25

static uint64_t ctl_status_since_ms(const struct ctl_stats *stats)
{
    const uint64_t up_ms = (uint64_t)(stats->uptime_s * 1000);

    return stats->taken_ms > up_ms ? stats->taken_ms - up_ms : 1;
}

static void ctl_status_print_streams(const struct ctl_stats *stats, FILE *out)
{
    int width = (int)strlen("STREAM");

    for (size_t i = 0; i < stats->count; i++)
        if ((int)strlen(stats->streams[i].name) > width)
            width = (int)strlen(stats->streams[i].name);
    fprintf(out, "\n%-*s %10s %10s %10s %10s %8s %8s  %s\n", width, "STREAM", "RECEIVED",
            "ACCEPTED", "DUPLICATES", "INSERTED", "DEAD", "PENDING", "OLDEST");
    for (size_t i = 0; i < stats->count; i++) {
        const struct ctl_stats_stream *stream = &stats->streams[i];
        char oldest[CTL_STATS_TEXT_MAX] = "-";

        if (stream->pending > 0)
            ctl_stats_span((double)stream->oldest_ms / 1000, oldest);
        fprintf(out,
                "%-*s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %8" PRIu64
                " %8" PRIu64 "  %s\n",
                width, stream->name, stream->received, stream->accepted, stream->duplicates,
                stream->inserted, stream->dead_lettered, stream->pending, oldest);
    }
}

static void ctl_status_print_parts(const struct ctl_stats *stats, FILE *out)
{
    char last[CTL_STATS_TEXT_MAX], used[CTL_STATS_TEXT_MAX], most[CTL_STATS_TEXT_MAX];

    fprintf(out, "\nClickHouse    %s, %" PRIu64 " insert%s under way, ",
            stats->clickhouse_up ? "up" : "AWAY", stats->inflight, ctl_plural(stats->inflight));
    if (stats->insert_age_s < 0)
        fputs("none made yet\n", out);
    else
        fprintf(out, "the last one %s ago\n", ctl_stats_span(stats->insert_age_s, last));
    fprintf(out, "Redis         %s\n",
            !stats->redis_used ? "not used"
            : stats->redis_up  ? "up"
                               : "AWAY");
    fprintf(out, "journal       %s of %s\n", ctl_stats_bytes(stats->journal_bytes, used),
            ctl_stats_bytes(stats->journal_bytes_max, most));
    fprintf(out, "queue         %" PRIu64 " of %" PRIu64 " events\n", stats->ring_depth,
            stats->ring_capacity);
    fprintf(out, "dead letters  %s\n", ctl_stats_bytes(stats->letter_bytes, used));
    fprintf(out, "connections   %" PRIu64 ", %" PRIu64 " waiting for ClickHouse\n",
            stats->connections, stats->waiting);
}

static void ctl_status_print(const struct ctl_stats *stats, const char *url, FILE *out)
{
    char up[CTL_STATS_TEXT_MAX], since[ISO_MAX];

    clock_format_iso(ctl_status_since_ms(stats), since);
    fprintf(out, "alloyd %s at %s: %s, up %s (since %s)\n", stats->version, url,
            stats->ready ? "ready" : "NOT READY", ctl_stats_span(stats->uptime_s, up), since);
    for (size_t i = 0; i < json_array_size(stats->reasons); i++) {
        const json_t *reason = json_array_get(stats->reasons, i);
        const char *key = json_string_value(json_object_get(reason, "key"));
        const char *text = json_string_value(json_object_get(reason, "text"));

        fprintf(out, "  %s %s: %s\n", json_is_true(json_object_get(reason, "blocking")) ? "!" : "-",
                key != NULL ? key : "?", text != NULL ? text : "");
    }
    if (json_array_size(stats->reasons) > 0)
        fprintf(out,
                "  What to do: OPERATIONS.md, \"At three in the morning\", or %s/ in a browser\n",
                url);
    ctl_status_print_streams(stats, out);
    ctl_status_print_parts(stats, out);
}

static int ctl_status_print_json(const struct ctl_stats *stats, const char *url, FILE *out)
{
    json_t *streams = json_array();

    for (size_t i = 0; i < stats->count; i++) {
        const struct ctl_stats_stream *stream = &stats->streams[i];

        json_array_append_new(
            streams,
            json_pack("{s:s, s:s?, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "stream", stream->name,
                      "table", stream->table, "received", ctl_json_number(stream->received),
                      "accepted", ctl_json_number(stream->accepted), "duplicates",
                      ctl_json_number(stream->duplicates), "rejected",
                      ctl_json_number(stream->rejected), "inserted",
                      ctl_json_number(stream->inserted), "dead_lettered",
                      ctl_json_number(stream->dead_lettered), "pending",
                      ctl_json_number(stream->pending), "oldest_pending_ms",
                      stream->pending > 0 ? ctl_json_number(stream->oldest_ms) : json_null()));
    }
    return ctl_print_json(
        json_pack("{s:s, s:b, s:b, s:s, s:o, s:f, s:O, s:o, s:{s:b, s:o, s:o}, s:{s:b, s:b}}",
                  "admin", url, "reachable", 1, "ready", stats->ready, "version", stats->version,
                  "since", ctl_json_time(ctl_status_since_ms(stats)), "uptime", stats->uptime_s,
                  "reasons", stats->reasons, "streams", streams, "clickhouse", "up",
                  stats->clickhouse_up, "inflight", ctl_json_number(stats->inflight),
                  "last_insert_age",
                  stats->insert_age_s < 0 ? json_null() : json_real(stats->insert_age_s), "redis",
                  "used", stats->redis_used, "up", stats->redis_up),
        out);
}

static int ctl_status_run(const struct ctl_given *given)
{
    char error[CTL_STATS_ERROR_MAX];
    struct ctl_admin admin;
    struct ctl_stats stats;
    int status = EXIT_FAILURE;

    if (!ctl_admin_open(&admin, given))
        return EXIT_FAILURE;
    if (ctl_stats_get(&admin, &stats, error) != 0) {
        fprintf(stderr, "alloyctl: %s\n", error);
        if (given->out.json)
            (void)ctl_print_json(json_pack("{s:s, s:b, s:b, s:o}", "admin", admin.url, "reachable",
                                           0, "ready", 0, "error", ctl_json_text(error)),
                                 given->out.file);
    } else {
        status = stats.ready ? EXIT_SUCCESS : EXIT_FAILURE;
        if (!given->out.json)
            ctl_status_print(&stats, admin.url, given->out.file);
        else if (ctl_status_print_json(&stats, admin.url, given->out.file) != EXIT_SUCCESS)
            status = EXIT_FAILURE;
    }
    ctl_stats_free(&stats);
    ctl_admin_close(&admin);
    return status;
}

static const struct ctl_option ctl_status_options[] = {
    CTL_OPTION_ADMIN, CTL_OPTION_ADMIN_KEY_FILE, {.name = NULL}};

const struct ctl_command ctl_status_command = {
    .name = "status",
    .summary = "whether a running alloyd is ready, and how it is",
    .help =
        "Asks a running alloyd and prints whether it is ready, what is wrong and where to "
        "read what to do, each stream's events, and how ClickHouse, Redis and journal are. '!' "
        "marks a reason for which it gets no traffic. Exit status 0 when it is ready, 1 when it "
        "is not or does not answer.",
    .options = ctl_status_options,
    .run = ctl_status_run,
};
