/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exposition.c - writes all metrics as Prometheus text.
 *
 * The rows of metrics.def become tables here. Rows of one name are together there, so we write HELP
 * and TYPE when the name changes.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "exposition.h"

#include <inttypes.h>
#include <string.h>

#include <event2/buffer.h>

#include "alloy/clock.h"
#include "alloy/log.h"
#include "exposition_lanes.h"
#include "exposition_packed.h"
#include "process.h"

#ifdef __clang__
#define BUILD_COMPILER __VERSION__
#else
#define BUILD_COMPILER "GCC " __VERSION__
#endif
#define READS_MAX 8 /* most reads of figures that change in between */

struct row {
    const char *name;
    const char *labels;
    const char *help;
};

static const struct row stream_rows[] = {
#define METRIC_STREAM(id, name, labels, help) {name, labels, help},
#include "alloy/metrics.def"
};
static const struct row counter_rows[] = {
#define METRIC_COUNTER(id, name, labels, help) {name, labels, help},
#include "alloy/metrics.def"
};
static const struct row gauge_rows[] = {
#define METRIC_GAUGE(id, name, help) {name, "", help},
#include "alloy/metrics.def"
};
static const struct row histogram_rows[] = {
#define METRIC_HISTOGRAM(id, name, help) {name, "", help},
#include "alloy/metrics.def"
};

/* Always shown, also at 0, so that a rate over them has a start. */
static const unsigned http_codes_shown[] = {202, 400, 503};

static void exposition_write_family(struct evbuffer *out, const char *name, const char *type,
                                    const char *help)
{
    evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A family of one sample without labels. */
static void exposition_write_single(struct evbuffer *out, const struct row *row, const char *type,
                                    uint64_t value)
{
    exposition_write_family(out, row->name, type, row->help);
    evbuffer_add_printf(out, "%s %" PRIu64 "\n", row->name, value);
}

static void exposition_write_streams(const struct exposition_view *view,
                                     const struct config *config, struct evbuffer *out)
{
    const char *name = "";
    size_t first = 0;

    /* Writes one name at a time, with its rows for all streams. */
    for (size_t end = 0; end <= ARRAY_LEN(stream_rows); end++) {
        if (end < ARRAY_LEN(stream_rows) && strcmp(stream_rows[end].name, name) == 0)
            continue;
        for (size_t i = 0; i < config->stream_count; i++)
            for (size_t row = first; row < end; row++)
                evbuffer_add_printf(out, "%s{stream=\"%s\"%s%s} %" PRIu64 "\n", name,
                                    config->streams[i].name, stream_rows[row].labels[0] ? "," : "",
                                    stream_rows[row].labels, view->snapshot.streams[i][row]);
        if (end < ARRAY_LEN(stream_rows)) {
            first = end;
            name = stream_rows[end].name;
            exposition_write_family(out, name, "counter", stream_rows[end].help);
        }
    }
    exposition_write_family(out, "alloy_events_pending", "gauge",
                            "Accepted events that are in the journal alone.");
    for (size_t i = 0; i < config->stream_count; i++)
        evbuffer_add_printf(out, "alloy_events_pending{stream=\"%s\"} %" PRIu64 "\n",
                            config->streams[i].name, view->pending[i]);
    exposition_write_family(out, "alloy_oldest_pending_seconds", "gauge",
                            "Age of the oldest accepted event that is in the journal alone; 0: "
                            "there is none.");
    for (size_t i = 0; i < config->stream_count; i++)
        evbuffer_add_printf(out, "alloy_oldest_pending_seconds{stream=\"%s\"} %.3f\n",
                            config->streams[i].name, view->oldest_s[i]);
}

static void exposition_write_counters(const struct exposition_view *view, struct evbuffer *out)
{
    const char *name = "";

    for (size_t i = 0; i < ARRAY_LEN(counter_rows); i++) {
        const struct row *row = &counter_rows[i];
        bool labels = row->labels[0] != '\0';

        if (strcmp(row->name, name) != 0)
            exposition_write_family(out, row->name, "counter", row->help);
        name = row->name;
        evbuffer_add_printf(out, "%s%s%s%s %" PRIu64 "\n", name, labels ? "{" : "", row->labels,
                            labels ? "}" : "", view->snapshot.counters[i]);
    }
}

static bool exposition_http_code_is_shown(unsigned code)
{
    for (size_t i = 0; i < ARRAY_LEN(http_codes_shown); i++)
        if (http_codes_shown[i] == code)
            return true;
    return false;
}

static void exposition_write_http_codes(const struct exposition_view *view, struct evbuffer *out)
{
    exposition_write_family(out, "alloy_http_requests_total", "counter",
                            "Answers, by status code.");
    for (unsigned code = 100; code < METRIC_HTTP_CODES; code++)
        if (view->snapshot.http_codes[code] > 0 || exposition_http_code_is_shown(code))
            evbuffer_add_printf(out, "alloy_http_requests_total{code=\"%u\"} %" PRIu64 "\n", code,
                                view->snapshot.http_codes[code]);
}

static void exposition_write_taken(const struct exposition_view *view, const struct config *config,
                                   struct evbuffer *out)
{
    exposition_write_family(out, "alloy_http_taken_total", "counter",
                            "Requests that a stream has taken: what was not refused.");
    for (size_t stream = 0; stream < config->stream_count; stream++)
        evbuffer_add_printf(out, "alloy_http_taken_total{stream=\"%s\"} %" PRIu64 "\n",
                            config->streams[stream].name,
                            view->snapshot.answers[stream][ERROR_NONE]);
}

/* Only what has happened: all errors of 64 streams would be 1,400 rows. */
static void exposition_write_refused(const struct exposition_view *view,
                                     const struct config *config, struct evbuffer *out)
{
    exposition_write_family(out, "alloy_http_refused_total", "counter",
                            "Requests that were refused, by stream (empty: none was found) and "
                            "error.");
    for (size_t stream = 0; stream <= METRIC_STREAM_NONE; stream++)
        for (int error = ERROR_NONE + 1; error < ERROR_COUNT; error++)
            if (view->snapshot.answers[stream][error] > 0)
                evbuffer_add_printf(
                    out,
                    "alloy_http_refused_total{stream=\"%s\",code=\"%u\",error=\"%s\"} %" PRIu64
                    "\n",
                    stream < config->stream_count ? config->streams[stream].name : "",
                    error_code_status((enum error_code)error),
                    error_code_name((enum error_code)error), view->snapshot.answers[stream][error]);
}

static void exposition_write_gauges(const struct exposition_view *view, struct evbuffer *out)
{
    for (size_t i = 0; i < ARRAY_LEN(gauge_rows); i++) {
        const struct row *row = &gauge_rows[i];

        if (view->snapshot.gauges[i] < 0)
            continue; /* not known */
        exposition_write_family(out, row->name, "gauge", row->help);
        if (i == METRIC_GAUGE_clickhouse_last_insert_ms)
            evbuffer_add_printf(out, "%s %.3f\n", row->name, exposition_insert_age(view));
        else
            evbuffer_add_printf(out, "%s %" PRId64 "\n", row->name, view->snapshot.gauges[i]);
    }
}

static void exposition_write_histograms(const struct exposition_view *view, struct evbuffer *out)
{
    for (size_t i = 0; i < ARRAY_LEN(histogram_rows); i++) {
        const char *name = histogram_rows[i].name;
        uint64_t count = 0;

        exposition_write_family(out, name, "histogram", histogram_rows[i].help);
        for (size_t j = 0; j < METRIC_BUCKETS - 1; j++) {
            count += view->snapshot.histograms[i].buckets[j];
            evbuffer_add_printf(out, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name,
                                (double)metrics_bucket_bounds_ns[j] / CLOCK_NS_PER_S, count);
        }
        /* By definition the count equals the last bucket, even if an observation came in
         * between. */
        count += view->snapshot.histograms[i].buckets[METRIC_BUCKETS - 1];
        evbuffer_add_printf(
            out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.9f\n%s_count %" PRIu64 "\n", name,
            count, name, (double)view->snapshot.histograms[i].sum_ns / CLOCK_NS_PER_S, name, count);
    }
}

/* As many series as there are keys in the file. */
static void exposition_write_keys(const struct config *config, struct evbuffer *out)
{
    const struct keys *keys = config->keys;

    if (keys == NULL)
        return;
    exposition_write_family(out, "alloy_key_events_total", "counter",
                            "Events in requests that came with this key and were scanned whole.");
    for (size_t i = 0; i < keys_count(keys); i++)
        evbuffer_add_printf(
            out, "alloy_key_events_total{key=\"%s\"} %" PRIu64 "\n", keys_at(keys, i)->name,
            atomic_load_explicit(&keys_at(keys, i)->state->events, memory_order_relaxed));
    exposition_write_family(out, "alloy_key_events_limited_total", "counter",
                            "Of these, events that were refused with 429.");
    for (size_t i = 0; i < keys_count(keys); i++)
        evbuffer_add_printf(
            out, "alloy_key_events_limited_total{key=\"%s\"} %" PRIu64 "\n", keys_at(keys, i)->name,
            atomic_load_explicit(&keys_at(keys, i)->state->limited, memory_order_relaxed));
}

/* A label's value: names of fields are what clients send. */
static void exposition_write_label(struct evbuffer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            evbuffer_add(out, "\\", 1);
        evbuffer_add(out, text, 1);
    }
}

/* At most SCHEMAS_COUNTED_MAX series a stream. */
static void exposition_write_mismatches(const struct front_parts *parts, struct evbuffer *out)
{
    const struct config *config = config_current(parts->config);
    struct schemas_counted counted[SCHEMAS_COUNTED_MAX];

    exposition_write_family(out, "alloy_schema_mismatches_total", "counter",
                            "Members of events that do not fit the table, by field (empty: others) "
                            "and problem.");
    for (size_t stream = 0; parts->schemas != NULL && stream < config->stream_count; stream++) {
        const size_t count = schemas_read(parts->schemas, stream, counted);

        for (size_t i = 0; i < count; i++) {
            evbuffer_add_printf(out, "alloy_schema_mismatches_total{stream=\"%s\",field=\"",
                                config->streams[stream].name);
            exposition_write_label(out, counted[i].field);
            evbuffer_add_printf(out, "\",problem=\"%s\"} %" PRIu64 "\n",
                                schema_problem_name(counted[i].problem), counted[i].events);
        }
    }
}

static void exposition_write_certificate(const struct config *config, struct evbuffer *out)
{
    const char *name = "alloy_tls_certificate_expiry_timestamp_seconds";

    if (config->tls == NULL)
        return;
    exposition_write_family(out, name, "gauge",
                            "Until when the certificate of server.tls_listen is valid.");
    evbuffer_add_printf(out, "%s %" PRId64 "\n", name, tls_valid_until_s(config->tls));
}

/* Writes the figures that other modules keep themselves. */
static void exposition_write_others(const struct front_parts *parts, struct evbuffer *out)
{
    const struct {
        struct row row;
        const char *type;
        uint64_t value;
    } others[] = {
        {{"alloy_ring_depth", "", "Accepted events that no worker has taken yet."},
         "gauge",
         ring_depth(parts->ring)},
        {{"alloy_ring_capacity", "", "Most events that may wait for a worker."},
         "gauge",
         ring_capacity(parts->ring)},
        {{"alloy_l1_entries", "", "Ids that this process remembers."},
         "gauge",
         l1_entries(parts->l1)},
        {{"alloy_l1_evicted_total", "", "Ids forgotten before their time, for want of capacity."},
         "counter",
         l1_evicted(parts->l1)},
        {{"alloy_journal_bytes", "", "Bytes of journal segments in use."},
         "gauge",
         journal_bytes(parts->journal)},
        {{"alloy_journal_bytes_max", "", "Most bytes the journal may take."},
         "gauge",
         journal_bytes_max(parts->journal)},
        {{"alloy_log_dropped_total", "", "Log lines that standard error did not take."},
         "counter",
         log_dropped()},
    };

    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        exposition_write_single(out, &others[i].row, others[i].type, others[i].value);
    exposition_write_family(out, "alloy_build_info", "gauge",
                            "Always 1; the label tells the version.");
    evbuffer_add_printf(out, "alloy_build_info{version=\"%s\"} 1\n", ALLOY_VERSION);
    exposition_write_family(out, "alloy_build_compiler_info", "gauge",
                            "Always 1; the label tells what has built this alloyd.");
    evbuffer_add_printf(out, "alloy_build_compiler_info{compiler=\"%s\"} 1\n", BUILD_COMPILER);
}

static void exposition_read_ages(struct exposition_view *view, const struct front_parts *parts,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const uint64_t oldest_ms = view->pending[i] == 0 ? 0 : journal_oldest_ms(parts->journal, i);
        const uint64_t now_ms = clock_real_ms();

        /* Real time can be set back. */
        view->oldest_s[i] =
            oldest_ms == 0 || oldest_ms > now_ms ? 0.0 : (double)(now_ms - oldest_ms) / 1000.0;
    }
}

void exposition_read(struct exposition_view *view, const struct front_parts *parts)
{
    size_t count = config_current(parts->config)->stream_count;

    /* accepted = inserted + duplicate{l2} + dead_lettered + pending holds when nothing moves. If
     * two readings of pending are equal, nothing, or as good as nothing, has moved between them. */
    for (int tries = 0; tries < READS_MAX; tries++) {
        bool moved = false;

        for (size_t i = 0; i < count; i++)
            view->pending[i] = journal_live(parts->journal, i);
        metrics_read(parts->metrics, &view->snapshot);
        for (size_t i = 0; i < count; i++)
            moved |= journal_live(parts->journal, i) != view->pending[i];
        if (!moved)
            break;
    }
    exposition_read_ages(view, parts, count);
    view->now_ms = clock_mono_ms();
}

double exposition_insert_age(const struct exposition_view *view)
{
    int64_t last_ms = view->snapshot.gauges[METRIC_GAUGE_clickhouse_last_insert_ms];
    uint64_t since_ms = last_ms > 0 ? (uint64_t)last_ms : view->started_ms;

    return since_ms < view->now_ms ? (double)(view->now_ms - since_ms) / 1000.0 : 0.0;
}

void exposition_write(const struct exposition_view *view, const struct front_parts *parts,
                      struct evbuffer *out)
{
    exposition_write_conditions(parts, out);
    exposition_write_streams(view, config_current(parts->config), out);
    exposition_write_keys(config_current(parts->config), out);
    exposition_write_certificate(config_current(parts->config), out);
    exposition_write_http_codes(view, out);
    exposition_write_taken(view, config_current(parts->config), out);
    exposition_write_refused(view, config_current(parts->config), out);
    exposition_write_mismatches(parts, out);
    exposition_write_counters(view, out);
    exposition_write_gauges(view, out);
    exposition_write_histograms(view, out);
    exposition_write_lanes(view, parts, out);
    exposition_packed_write(parts, out);
    exposition_write_others(parts, out);
    process_write(out);
}
