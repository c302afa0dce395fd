/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exposition_packed.c - how the tables of packed claims stand (redis.layout), for Prometheus and
 * /stats.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "exposition_packed.h"

#include <inttypes.h>

#include <event2/buffer.h>

#include "alloy/clock.h"

/* By Redis' clock, which may differ from ours. */
static double exposition_packed_age_s(int64_t opened_ms)
{
    const int64_t now_ms = (int64_t)clock_real_ms();

    return opened_ms < now_ms ? (double)(now_ms - opened_ms) / 1000 : 0;
}

static void exposition_packed_write_row(const struct front_parts *parts, size_t row,
                                        const char *name, struct evbuffer *out)
{
    const struct config *config = config_current(parts->config);

    for (size_t i = 0; i < config->stream_count; i++) {
        const int64_t value =
            atomic_load_explicit(&parts->metrics->packed[i][row], memory_order_relaxed);

        if (METRIC_PACKED_GET(parts->metrics, i, tables) == 0)
            continue;
        if (row == METRIC_PACKED_GAUGE_opened_ms)
            evbuffer_add_printf(out, "%s{stream=\"%s\"} %.3f\n", name, config->streams[i].name,
                                exposition_packed_age_s(value));
        else
            evbuffer_add_printf(out, "%s{stream=\"%s\"} %" PRId64 "\n", name,
                                config->streams[i].name, value);
    }
}

void exposition_packed_write(const struct front_parts *parts, struct evbuffer *out)
{
    static const struct {
        const char *name, *help;
    } rows[] = {
#define METRIC_PACKED_GAUGE(id, name, help) {name, help},
#include "alloy/metrics.def"
    };

    for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
        evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s gauge\n", rows[row].name, rows[row].help,
                            rows[row].name);
        exposition_packed_write_row(parts, row, rows[row].name, out);
    }
}

void exposition_packed_stats(struct metrics *metrics, size_t stream, json_t *stats)
{
    const json_int_t hashes = METRIC_PACKED_GET(metrics, stream, hashes);
    const json_int_t ids = METRIC_PACKED_GET(metrics, stream, ids);
    const int64_t opened_ms = METRIC_PACKED_GET(metrics, stream, opened_ms);

    if (METRIC_PACKED_GET(metrics, stream, tables) == 0)
        return;
    json_object_set_new(stats, "packed",
                        json_pack("{s:I,s:I,s:I,s:f,s:f}", "tables",
                                  (json_int_t)METRIC_PACKED_GET(metrics, stream, tables), "hashes",
                                  hashes, "ids", ids, "fill",
                                  hashes > 0 ? (double)ids / (double)hashes : 0.0, "age_s",
                                  hashes > 0 ? exposition_packed_age_s(opened_ms) : 0.0));
}
