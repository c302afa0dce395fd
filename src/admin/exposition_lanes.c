/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exposition_lanes.c - what is wrong now, and ClickHouse's side of each stream, as Prometheus text.
 *
 * The flusher's figures are read here and not with the snapshot: they are in no books.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "exposition_lanes.h"

#include <inttypes.h>
#include <string.h>

#include <event2/buffer.h>

#include "alloy/clickhouse_url.h"
#include "alloy/clock.h"
#include "readiness.h"

struct lane_row {
    const char *name;
    const char *labels;
    const char *help;
};

static const struct lane_row lane_gauge_rows[] = {
#define METRIC_LANE_GAUGE(id, name, help) {name, "", help},
#include "alloy/metrics.def"
};
static const struct lane_row lane_counter_rows[] = {
#define METRIC_LANE_COUNTER(id, name, labels, help) {name, labels, help},
#include "alloy/metrics.def"
};
static const struct {
    const char *name;
    const uint64_t *bounds;
    double unit; /* what is observed, in what is shown */
    const char *help;
} lane_histogram_rows[] = {
#define UNIT_ns ((double)CLOCK_NS_PER_S)
#define UNIT_rows 1.0
#define UNIT_bytes 1.0
#define METRIC_LANE_HISTOGRAM(id, name, bounds, help) \
    {name, metrics_bounds_##bounds, UNIT_##bounds, help},
#include "alloy/metrics.def"
};

static const struct lane_row endpoint_gauge_rows[] = {
#define METRIC_ENDPOINT_GAUGE(id, name, help) {name, "", help},
#include "alloy/metrics.def"
};
static const struct lane_row endpoint_counter_rows[] = {
#define METRIC_ENDPOINT_COUNTER(id, name, help) {name, "", help},
#include "alloy/metrics.def"
};

static void exposition_lanes_write_family(struct evbuffer *out, const char *name, const char *type,
                                          const char *help)
{
    evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* ---- conditions ---- */

struct condition_writer {
    const struct config *config;
    struct evbuffer *out;
};

/* The stream that a reason like "clickhouse.NAME.window", "clickhouse.NAME@2.window" or
 * "stream.NAME.removed" is about; NULL: none. */
static const char *exposition_lanes_stream_of(const struct config *config, const char *key)
{
    const size_t before = strcspn(key, ".");
    const char *name = key + before + (key[before] == '.');
    const size_t len = strcspn(name, ".@");

    if (strncmp(key, "clickhouse.", before + 1) != 0 && strncmp(key, "stream.", before + 1) != 0)
        return NULL;
    for (size_t i = 0; i < config->stream_count; i++)
        if (strlen(config->streams[i].name) == len &&
            strncmp(config->streams[i].name, name, len) == 0)
            return config->streams[i].name;
    return NULL;
}

/* Never the text: each wording would be a series of its own. */
static void exposition_lanes_write_condition(void *arg, const char *key, bool blocking,
                                             const char *text)
{
    const struct condition_writer *writer = arg;
    const char *stream = exposition_lanes_stream_of(writer->config, key);

    (void)text;
    evbuffer_add_printf(writer->out,
                        "alloy_condition{key=\"%s\",stream=\"%s\",blocking=\"%s\"} 1\n", key,
                        stream == NULL ? "" : stream, blocking ? "true" : "false");
}

void exposition_write_conditions(const struct front_parts *parts, struct evbuffer *out)
{
    struct condition_writer writer = {config_current(parts->config), out};

    exposition_lanes_write_family(
        out, "alloy_condition", "gauge",
        "1 while /readyz has this reason; blocking: it answers 503. What does not "
        "hold has no series.");
    readiness_visit(parts, exposition_lanes_write_condition, &writer);
}

/* ---- streams ---- */

/* Monotonic times as ages; all else as it is. */
static void exposition_lanes_write_gauge(const struct exposition_view *view, size_t row,
                                         const char *stream, int64_t value, struct evbuffer *out)
{
    const char *name = lane_gauge_rows[row].name;
    int64_t now_ms = (int64_t)view->now_ms;
    double age_s;

    if (row != METRIC_LANE_GAUGE_inflight_since_ms && row != METRIC_LANE_GAUGE_last_insert_ms) {
        evbuffer_add_printf(out, "%s{stream=\"%s\"} %" PRId64 "\n", name, stream, value);
        return;
    }
    if (value == 0 && row == METRIC_LANE_GAUGE_last_insert_ms)
        value = (int64_t)view->started_ms;
    age_s = value == 0 || value > now_ms ? 0.0 : (double)(now_ms - value) / 1000.0;
    evbuffer_add_printf(out, "%s{stream=\"%s\"} %.3f\n", name, stream, age_s);
}

static void exposition_lanes_write_gauges(const struct exposition_view *view,
                                          const struct front_parts *parts, struct evbuffer *out)
{
    const struct config *config = config_current(parts->config);

    for (size_t row = 0; row < ARRAY_LEN(lane_gauge_rows); row++) {
        exposition_lanes_write_family(out, lane_gauge_rows[row].name, "gauge",
                                      lane_gauge_rows[row].help);
        for (size_t i = 0; i < config->stream_count; i++)
            exposition_lanes_write_gauge(
                view, row, config->streams[i].name,
                atomic_load_explicit(&parts->metrics->lanes[i].gauges[row], memory_order_relaxed),
                out);
    }
}

static void exposition_lanes_write_counters(const struct front_parts *parts, struct evbuffer *out)
{
    const struct config *config = config_current(parts->config);
    const char *name = "";

    for (size_t row = 0; row < ARRAY_LEN(lane_counter_rows); row++) {
        if (strcmp(lane_counter_rows[row].name, name) != 0)
            exposition_lanes_write_family(out, lane_counter_rows[row].name, "counter",
                                          lane_counter_rows[row].help);
        name = lane_counter_rows[row].name;
        for (size_t i = 0; i < config->stream_count; i++)
            evbuffer_add_printf(out, "%s{stream=\"%s\",%s} %" PRIu64 "\n", name,
                                config->streams[i].name, lane_counter_rows[row].labels,
                                atomic_load_explicit(&parts->metrics->lanes[i].counters[row],
                                                     memory_order_relaxed));
    }
}

static void exposition_lanes_write_histogram(const struct metrics_histogram *histogram, size_t row,
                                             const char *stream, struct evbuffer *out)
{
    const char *name = lane_histogram_rows[row].name;
    const double unit = lane_histogram_rows[row].unit;
    const uint64_t sum = atomic_load_explicit(&histogram->sum_ns, memory_order_relaxed);
    uint64_t count = 0;

    for (size_t i = 0; i < METRIC_BUCKETS - 1; i++) {
        count += atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        evbuffer_add_printf(out, "%s_bucket{stream=\"%s\",le=\"%.10g\"} %" PRIu64 "\n", name,
                            stream, (double)lane_histogram_rows[row].bounds[i] / unit, count);
    }
    count += atomic_load_explicit(&histogram->buckets[METRIC_BUCKETS - 1], memory_order_relaxed);
    evbuffer_add_printf(out,
                        "%s_bucket{stream=\"%s\",le=\"+Inf\"} %" PRIu64 "\n%s_sum{stream=\"%s\"} "
                        "%.*f\n%s_count{stream=\"%s\"} %" PRIu64 "\n",
                        name, stream, count, name, stream, unit > 1 ? 9 : 0, (double)sum / unit,
                        name, stream, count);
}

static void exposition_lanes_write_histograms(const struct front_parts *parts, struct evbuffer *out)
{
    const struct config *config = config_current(parts->config);

    for (size_t row = 0; row < ARRAY_LEN(lane_histogram_rows); row++) {
        exposition_lanes_write_family(out, lane_histogram_rows[row].name, "histogram",
                                      lane_histogram_rows[row].help);
        for (size_t i = 0; i < config->stream_count; i++)
            exposition_lanes_write_histogram(&parts->metrics->lanes[i].histograms[row], row,
                                             config->streams[i].name, out);
    }
}

/* Only what has happened. */
static void exposition_lanes_write_refusals(const struct front_parts *parts, struct evbuffer *out)
{
    const struct config *config = config_current(parts->config);
    const char *name = "alloy_clickhouse_inserts_refused_total";

    exposition_lanes_write_family(
        out, name, "counter",
        "Inserts that ClickHouse, or a proxy before it, has answered with an error, "
        "by stream and ClickHouse's code (http_NNN: a status without one).");
    for (size_t i = 0; i < config->stream_count; i++) {
        const struct metrics_lane *lane = &parts->metrics->lanes[i];
        const uint64_t other = atomic_load_explicit(&lane->refusals_other, memory_order_relaxed);

        for (size_t k = 0; k < METRIC_REFUSALS; k++) {
            int code = atomic_load_explicit(&lane->refusals[k].code, memory_order_relaxed);
            uint64_t count = atomic_load_explicit(&lane->refusals[k].count, memory_order_relaxed);

            if (code != 0)
                evbuffer_add_printf(out, "%s{stream=\"%s\",code=\"%s%d\"} %" PRIu64 "\n", name,
                                    config->streams[i].name, code < 0 ? "http_" : "",
                                    code < 0 ? -code : code, count);
        }
        if (other > 0)
            evbuffer_add_printf(out, "%s{stream=\"%s\",code=\"other\"} %" PRIu64 "\n", name,
                                config->streams[i].name, other);
    }
}

/* ---- endpoints ---- */

static void exposition_lanes_write_endpoint_row(const struct front_parts *parts,
                                                const struct lane_row *row, size_t number,
                                                bool counter, struct evbuffer *out)
{
    struct clickhouse_url walk = {.rest = config_current(parts->config)->clickhouse_url};
    char name[CLICKHOUSE_NAME_MAX];

    exposition_lanes_write_family(out, row->name, counter ? "counter" : "gauge", row->help);
    while (clickhouse_url_next(&walk) && walk.number < METRIC_ENDPOINTS_MAX) {
        const struct metrics_endpoint *endpoint = &parts->metrics->endpoints[walk.number];
        const uint64_t value =
            counter
                ? atomic_load_explicit(&endpoint->counters[number], memory_order_relaxed)
                : (uint64_t)atomic_load_explicit(&endpoint->gauges[number], memory_order_relaxed);

        (void)clickhouse_url_name(walk.url, name);
        evbuffer_add_printf(out, "%s{endpoint=\"%s\",shard=\"%zu\"} %" PRIu64 "\n", row->name, name,
                            walk.shard + 1, value);
    }
}

static void exposition_lanes_write_endpoints(const struct front_parts *parts, struct evbuffer *out)
{
    for (size_t i = 0; i < ARRAY_LEN(endpoint_gauge_rows); i++)
        exposition_lanes_write_endpoint_row(parts, &endpoint_gauge_rows[i], i, false, out);
    for (size_t i = 0; i < ARRAY_LEN(endpoint_counter_rows); i++)
        exposition_lanes_write_endpoint_row(parts, &endpoint_counter_rows[i], i, true, out);
}

void exposition_write_lanes(const struct exposition_view *view, const struct front_parts *parts,
                            struct evbuffer *out)
{
    exposition_lanes_write_gauges(view, parts, out);
    exposition_lanes_write_counters(parts, out);
    exposition_lanes_write_histograms(parts, out);
    exposition_lanes_write_refusals(parts, out);
    exposition_lanes_write_endpoints(parts, out);
}
