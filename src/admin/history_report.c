/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history_report.c - what goes into the history, and what /history tells of it.
 *
 * The answer has an array for each figure and not an object for each step: that is a third of the
 * bytes. Who asks again sends the number of the last step that it has, and gets what is new.
 *
 * Runs on: the admin thread. Owns: nothing.
 */
#include "history_report.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>

#include "alloy/clock.h"

static const unsigned history_step_s[HISTORY_TRACKS] = {1, 10};

/* Events refused after they were scanned, whatever the reason. */
static uint64_t history_rejected(const uint64_t *counters)
{
    static const char *const names[] = {
#define METRIC_STREAM(id, name, labels, help) name,
#include "alloy/metrics.def"
    };
    uint64_t sum = 0;

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], "alloy_events_rejected_total") == 0)
            sum += counters[i];
    return sum;
}

static uint64_t history_refused(const struct metrics_snapshot *snapshot, size_t stream)
{
    uint64_t sum = 0;

    for (size_t error = ERROR_NONE + 1; error < ERROR_COUNT; error++)
        sum += snapshot->answers[stream][error];
    return sum;
}

static uint32_t history_gauge(uint64_t value)
{
    return value < HISTORY_NONE ? (uint32_t)value : HISTORY_NONE - 1;
}

/* Of the flusher's histograms of a stream. */
static void history_read_lane(struct history_stream *out, const struct metrics_lane *lane)
{
    const struct metrics_histogram *rows = &lane->histograms[METRIC_LANE_HISTOGRAM_insert_rows];
    const struct metrics_histogram *took = &lane->histograms[METRIC_LANE_HISTOGRAM_insert_seconds];

    for (size_t i = 0; i < METRIC_BUCKETS; i++) {
        /* relaxed: a counter orders nothing */
        out->counts[HISTORY_INSERTS] +=
            atomic_load_explicit(&rows->buckets[i], memory_order_relaxed);
        out->buckets[HISTORY_INSERT][i] =
            atomic_load_explicit(&took->buckets[i], memory_order_relaxed);
    }
}

static void history_read_stream(struct history_stream *out, const struct exposition_view *view,
                                size_t stream)
{
    const uint64_t *counters = view->snapshot.streams[stream];
    const double lag_ms = view->oldest_s[stream] * 1000;

    out->counts[HISTORY_RECEIVED] = counters[METRIC_STREAM_received];
    out->counts[HISTORY_ACCEPTED] = counters[METRIC_STREAM_accepted];
    out->counts[HISTORY_DUPLICATES] =
        counters[METRIC_STREAM_duplicate_l1] + counters[METRIC_STREAM_duplicate_l2];
    out->counts[HISTORY_INSERTED] = counters[METRIC_STREAM_inserted];
    out->counts[HISTORY_DEAD_LETTERED] = counters[METRIC_STREAM_dead_lettered];
    out->counts[HISTORY_REJECTED] = history_rejected(counters);
    out->gauges[HISTORY_PENDING] = history_gauge(view->pending[stream]);
    out->gauges[HISTORY_LAG_MS] = history_gauge((uint64_t)lag_ms);
}

/* What a request that names this stream, or none, leaves. */
static void history_read_requests(struct history_stream *out,
                                  const struct metrics_snapshot *snapshot, size_t stream)
{
    out->counts[HISTORY_REFUSED] = history_refused(snapshot, stream);
    memcpy(out->buckets[HISTORY_HTTP], snapshot->http_buckets[stream],
           sizeof(out->buckets[HISTORY_HTTP]));
}

void history_report_read(struct history_reading *reading, const struct exposition_view *view,
                         const struct front_parts *parts)
{
    const struct metrics_snapshot *snapshot = &view->snapshot;
    const struct config *config = config_current(parts->config);
    struct history_stream *none = &reading->streams[METRIC_STREAM_NONE];
    uint64_t inserts = snapshot->counters[METRIC_COUNTER_clickhouse_inserts];

    memset(reading, 0, sizeof(*reading));
    reading->mono_ms = view->now_ms;
    reading->real_ms = clock_real_ms();
    for (size_t i = 0; i < config->stream_count; i++) {
        struct history_stream *stream = &reading->streams[i];

        stream->name = config->streams[i].name;
        history_read_stream(stream, view, i);
        history_read_requests(stream, snapshot, i);
        history_read_lane(stream, &parts->metrics->lanes[i]);
        inserts -=
            inserts < stream->counts[HISTORY_INSERTS] ? inserts : stream->counts[HISTORY_INSERTS];
    }
    history_read_requests(none, snapshot, METRIC_STREAM_NONE);
    none->counts[HISTORY_INSERTS] = inserts;
    none->gauges[HISTORY_PENDING] = none->gauges[HISTORY_LAG_MS] = HISTORY_NONE;
    reading->wholes[HISTORY_RING] = history_gauge(ring_depth(parts->ring));
    reading->wholes[HISTORY_CONNECTIONS] =
        history_gauge((uint64_t)snapshot->gauges[METRIC_GAUGE_http_connections]);
    reading->wholes[HISTORY_INFLIGHT] =
        history_gauge((uint64_t)snapshot->gauges[METRIC_GAUGE_clickhouse_inflight]);
    reading->wholes[HISTORY_JOURNAL_KIB] = history_gauge(journal_bytes(parts->journal) / 1024);
}

/* Index of the stream of this name; stream_count: there is none. */
static size_t history_find_stream(const struct config *config, const char *name)
{
    size_t i = 0;

    while (i < config->stream_count && strcmp(config->streams[i].name, name) != 0)
        i++;
    return i;
}

static const char *history_read_query(struct history_question *question,
                                      const struct evkeyvalq *query, const struct config *config,
                                      int *status)
{
    const char *step = evhttp_find_header(query, "step");
    const char *stream = evhttp_find_header(query, "stream");
    const char *after = evhttp_find_header(query, "after");
    char *end = NULL;

    *status = 400;
    if (step != NULL && strcmp(step, "1s") != 0 && strcmp(step, "10s") != 0)
        return "step is 1s or 10s.\n";
    if (step != NULL && strcmp(step, "10s") == 0)
        question->track = HISTORY_COARSE;
    if (after != NULL) {
        errno = 0;
        question->after = strtoull(after, &end, 10);
        if (*after < '0' || *after > '9' || *end != '\0' || errno != 0)
            return "after is the number of a step.\n";
    }
    if (stream == NULL || *stream == '\0')
        return NULL;
    question->stream = history_find_stream(config, stream);
    *status = 404;
    return question->stream < config->stream_count ? NULL : "There is no such stream.\n";
}

const char *history_report_ask(struct history_question *question, const char *query,
                               const struct config *config, int *status)
{
    struct evkeyvalq parsed;
    const char *wrong;

    *question = (struct history_question){.track = HISTORY_FINE, .stream = HISTORY_ALL};
    if (query == NULL)
        return NULL;
    *status = 400;
    if (evhttp_parse_query_str(query, &parsed) != 0)
        return "The query cannot be read.\n";
    wrong = history_read_query(question, &parsed, config, status);
    evhttp_clear_headers(&parsed);
    return wrong;
}

/* A figure of a step; false: it is not known. */
typedef bool (*history_figure_fn)(const struct history_point *point, size_t which, double *out);

static bool history_span(const struct history_point *point, size_t which, double *out)
{
    (void)which;
    *out = point->span_ms / 1000.0;
    return true;
}

static bool history_rate(const struct history_point *point, size_t which, double *out)
{
    /* Tenths: a second is never exactly one. */
    *out = (double)(uint64_t)((double)point->counts[which] * 10000 / point->span_ms + 0.5) / 10;
    return true;
}

static bool history_pending(const struct history_point *point, size_t which, double *out)
{
    *out = point->gauges[which];
    return point->gauges[which] != HISTORY_NONE;
}

static bool history_lag(const struct history_point *point, size_t which, double *out)
{
    *out = point->gauges[which] / 1000.0;
    return point->gauges[which] != HISTORY_NONE;
}

static bool history_rows(const struct history_point *point, size_t which, double *out)
{
    if (point->counts[which] == 0)
        return false;
    *out = (double)((point->counts[HISTORY_INSERTED] + point->counts[which] / 2) /
                    point->counts[which]);
    return true;
}

static bool history_whole(const struct history_point *point, size_t which, double *out)
{
    *out = point->wholes[which];
    return point->wholes[which] != HISTORY_NONE;
}

static bool history_journal(const struct history_point *point, size_t which, double *out)
{
    *out = point->wholes[which] * 1024.0;
    return point->wholes[which] != HISTORY_NONE;
}

static bool history_p50(const struct history_point *point, size_t which, double *out)
{
    *out = point->times.p50_us[which] / 1e6;
    return point->times.p50_us[which] != HISTORY_NONE;
}

static bool history_p99(const struct history_point *point, size_t which, double *out)
{
    *out = point->times.p99_us[which] / 1e6;
    return point->times.p99_us[which] != HISTORY_NONE;
}

static const struct history_column {
    const char *name;
    history_figure_fn figure;
    size_t which;
} history_columns[] = {
    {"span", history_span, 0},
    {"received", history_rate, HISTORY_RECEIVED},
    {"accepted", history_rate, HISTORY_ACCEPTED},
    {"duplicates", history_rate, HISTORY_DUPLICATES},
    {"inserted", history_rate, HISTORY_INSERTED},
    {"dead_lettered", history_rate, HISTORY_DEAD_LETTERED},
    {"rejected", history_rate, HISTORY_REJECTED},
    {"refused", history_rate, HISTORY_REFUSED},
    {"pending", history_pending, HISTORY_PENDING},
    {"lag", history_lag, HISTORY_LAG_MS},
    {"insert_rows", history_rows, HISTORY_INSERTS},
    {"http_p50", history_p50, HISTORY_HTTP},
    {"http_p99", history_p99, HISTORY_HTTP},
    {"insert_p50", history_p50, HISTORY_INSERT},
    {"insert_p99", history_p99, HISTORY_INSERT},
    {"connections", history_whole, HISTORY_CONNECTIONS},
    {"inflight", history_whole, HISTORY_INFLIGHT},
    {"ring", history_whole, HISTORY_RING},
    {"journal_bytes", history_journal, HISTORY_JOURNAL_KIB},
};

static bool history_write_column(const struct history_column *column,
                                 const struct history_point *points, size_t n, struct evbuffer *out)
{
    bool written = evbuffer_add_printf(out, ",\"%s\":[", column->name) > 0;

    for (size_t i = 0; i < n && written; i++) {
        const char *comma = i > 0 ? "," : "";
        double value;

        if (points[i].span_ms > 0 && column->figure(&points[i], column->which, &value))
            written = evbuffer_add_printf(out, "%s%.10g", comma, value) > 0;
        else
            written = evbuffer_add_printf(out, "%snull", comma) > 0;
    }
    return written && evbuffer_add(out, "]", 1) == 0;
}

int history_report_write(const struct history *history, const struct history_question *question,
                         const struct config *config, struct evbuffer *out)
{
    struct history_point *points = malloc(HISTORY_STEPS_MAX * sizeof(*points));
    const bool all = question->stream == HISTORY_ALL;
    bool written;
    size_t n;

    if (points == NULL)
        return -ENOMEM;
    n = history_read(history, question->track, question->stream, question->after, points);
    written = evbuffer_add_printf(out,
                                  "{\"step\":%u,\"stream\":%s%s%s,\"last\":%" PRIu64
                                  ",\"time\":%" PRIu64 ",\"steps\":%zu",
                                  history_step_s[question->track], all ? "" : "\"",
                                  all ? "null" : config->streams[question->stream].name,
                                  all ? "" : "\"", history_last(history, question->track),
                                  history_last_ms(history, question->track), n) > 0;
    for (size_t i = 0; i < ARRAY_LEN(history_columns); i++)
        written = written && history_write_column(&history_columns[i], points, n, out);
    free(points);
    return written && evbuffer_add(out, "}\n", 2) == 0 ? 0 : -ENOMEM;
}
