/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_tell.c - what /readyz and the log are told about inserts.
 *
 * One stuck stream must not take the others' traffic away, so what stops a stream blocks only where
 * no stream is left.
 *
 * Runs on: flusher thread.
 * Owns: the conditions clickhouse and clickhouse.*.
 */
#define LOG_MODULE "flusher"

#include "flusher_tell.h"

#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"

#define RETRIES_QUIET 5  /* in a row, before /readyz has them */
#define TIMEOUTS_QUIET 2 /* the same for time-outs of one insert */
#define COUNTS_INTERVAL_MS 1000
#define HANG_MS 2500 /* without an answer, before /readyz has it */

static void flusher_tell_key(char key[HEALTH_KEY_MAX], const struct flusher *flusher,
                             const struct lane *lane, const char *what)
{
    char shard[16] = "";

    if (flusher->shards > 1)
        snprintf(shard, sizeof(shard), "@%u", lane->shard + 1u);
    snprintf(key, HEALTH_KEY_MAX, "clickhouse.%s%s%s%s", flusher_stream(flusher, lane)->name, shard,
             *what == '\0' ? "" : ".", what);
}

/* What a refusal was known by: ClickHouse's code, or, of a proxy, the HTTP status alone. */
struct flusher_cause {
    char text[64];
};

static struct flusher_cause flusher_tell_cause(int code, long status)
{
    struct flusher_cause cause;

    if (code != 0)
        snprintf(cause.text, sizeof(cause.text), "code %d", code);
    else
        snprintf(cause.text, sizeof(cause.text), "HTTP status %ld without a code of ClickHouse",
                 status);
    return cause;
}

const char *flusher_tell_words(const struct transfer *transfer, char out[LANE_MESSAGE_MAX])
{
    struct slice body = transfer->answer.body;
    const bool own = transfer->answer.exception_code != 0 || insert_answer_body_code(body) != 0;
    size_t begin = 0;
    size_t len;

    if (transfer->answer.status == 0) {
        snprintf(out, LANE_MESSAGE_MAX, "%s", transfer->error);
        return out;
    }
    if (body.len == 0 && transfer->error[0] == '\0') {
        snprintf(out, LANE_MESSAGE_MAX, "HTTP status %ld, without a text", transfer->answer.status);
        return out;
    }
    if (transfer->answer.transport_failed || body.len == 0) {
        snprintf(out, LANE_MESSAGE_MAX, "%s (HTTP status %ld)", transfer->error,
                 transfer->answer.status);
        return out;
    }
    /* What stands before ClickHouse may say anything, and not who it is. */
    if (!own && transfer->answer.status != 200)
        begin = (size_t)snprintf(
            out, LANE_MESSAGE_MAX,
            "HTTP status %ld, of a proxy or a wrong clickhouse.url: ", transfer->answer.status);
    len = body.len < LANE_MESSAGE_MAX - 1 - begin ? body.len : LANE_MESSAGE_MAX - 1 - begin;
    for (size_t i = 0; i < len; i++)
        out[begin + i] =
            (unsigned char)body.data[i] < ' ' || body.data[i] == '"' ? ' ' : body.data[i];
    len += begin;
    while (len > 0 && out[len - 1] == ' ')
        len--;
    out[len] = '\0';
    return out;
}

void flusher_tell_up(struct flusher *flusher, bool up, const char *error)
{
    if (up)
        health_clear(flusher->parts.health, "clickhouse");
    else
        health_raise(flusher->parts.health, "clickhouse", false, "ClickHouse does not answer: %s",
                     error);
    METRIC_GAUGE_SET(flusher->parts.metrics, clickhouse_up, up);
    if (flusher->up == up)
        return;
    if (!up)
        log_warn("clickhouse is down error=\"%s\"", error);
    else
        log_info("clickhouse is up");
    flusher->up = up;
}

/* Whether the stream's events can go nowhere until a human acts. Not when all were let go: a
 * balancer that keeps traffic away would keep away the event that shows the table to be well. */
static bool flusher_tell_is_stuck(const struct lane *lane)
{
    return lane->fault != LANE_FAULT_NONE || lane->held ||
           (lane->state == LANE_REFUSES && !lane_takes_rows(lane) && apart_rows(&lane->apart) > 0);
}

/* How much is kept of a stream, over all its shards. */
static void flusher_tell_rows(struct flusher *flusher, struct lane *lane, uint64_t rows)
{
    uint64_t all = 0;

    lane->rows_told = rows;
    for (size_t i = 0; i < flusher->shards; i++)
        all += flusher_lane(flusher, lane->stream, i)->rows_told;
    /* relaxed: a number that stands for itself */
    atomic_store_explicit(&flusher->kept[lane->stream], all, memory_order_relaxed);
}

/* Raises one lane's reasons anew. */
static void flusher_tell_lane(struct flusher *flusher, struct lane *lane, bool all)
{
    const uint64_t rows = lane->apart.kept.first == NULL && lane->state != LANE_REFUSES
                              ? 0
                              : apart_rows(&lane->apart);
    const struct config_stream *of = flusher_stream(flusher, lane);
    const struct flusher_cause cause = flusher_tell_cause(lane->refusal_code, lane->refusal_status);
    char key[HEALTH_KEY_MAX];

    flusher_tell_rows(flusher, lane, rows);
    flusher_tell_key(key, flusher, lane, "");
    if (lane->fault == LANE_FAULT_NONE)
        health_clear(flusher->parts.health, key);
    else
        health_raise(flusher->parts.health, key, all, "%s", lane->fault_text);
    flusher_tell_key(key, flusher, lane, "replicas");
    if (lane->replicas[0] == '\0')
        health_clear(flusher->parts.health, key);
    else
        health_raise(flusher->parts.health, key, all && lane->held, "%s%s", lane->replicas,
                     lane->held ? ". No endpoint is left, and the events wait"
                                : ". The other endpoints take the inserts");
    lane->kept_told = lane->state == LANE_REFUSES || rows > 0;
    flusher_tell_key(key, flusher, lane, "refuses");
    if (lane->state == LANE_REFUSES && rows == 0)
        health_raise(
            flusher->parts.health, key, false,
            "table %s refused every row that was tried (%s), and they are dead letters now. "
            "Correct the table, then replay them: alloyctl dead-letter replay. This ends with the "
            "first row "
            "that goes in",
            of->table_text, cause.text);
    else if (lane->state == LANE_REFUSES && lane_takes_rows(lane))
        health_raise(flusher->parts.health, key, false,
                     "table %s takes rows and has not changed since, but the rows that were tried "
                     "last were refused one after the other (%s): %" PRIu64
                     " events are kept until another row goes in. Correct the client that sends "
                     "such rows, and let these go to the dead letters: alloyctl bury %s",
                     of->table_text, cause.text, rows, of->name);
    else if (lane->state == LANE_REFUSES)
        health_raise(
            flusher->parts.health, key, all && flusher_tell_is_stuck(lane),
            "table %s refuses every row that is tried (%s): %" PRIu64
            " events are kept, and one is tried now and then. Correct the table, or let them go "
            "to the dead letters: alloyctl bury %s",
            of->table_text, cause.text, rows, of->name);
    else if (rows > 0)
        health_raise(flusher->parts.health, key, false,
                     "table %s has refused events sent alone (%s), and has taken no other "
                     "since: %" PRIu64 " are kept until it does. Correct the table, or let them go "
                     "to the dead letters: alloyctl bury %s",
                     of->table_text, cause.text, rows, of->name);
    else
        health_clear(flusher->parts.health, key);
}

/* One lane is stuck, or no longer: that may change what the others' reasons mean. */
static void flusher_tell_lanes(struct flusher *flusher)
{
    bool all = true;

    for (size_t i = 0; i < flusher->lane_count; i++)
        all = all && flusher_tell_is_stuck(&flusher->lanes[i]);
    for (size_t i = 0; i < flusher->lane_count; i++)
        flusher_tell_lane(flusher, &flusher->lanes[i], all);
}

#define ANY_SHARD SIZE_MAX
/* When the oldest insert of a stream that is out to a shard was sent; 0: none is out. */
static uint64_t flusher_tell_out_since(const struct flusher *flusher, size_t stream, size_t shard)
{
    uint64_t since_ns = 0;

    for (const struct transfer *transfer = flusher->active; transfer != NULL;
         transfer = transfer->next)
        if (transfer->kind == TRANSFER_INSERT && transfer->stream == stream &&
            (shard == ANY_SHARD || transfer->shard == shard) &&
            (since_ns == 0 || transfer->started_ns < since_ns))
            since_ns = transfer->started_ns;
    return since_ns;
}

/* Tells of an insert that has no answer, by its age and long before it has run out of time: a
 * ClickHouse that hangs takes connections, and says nothing. An insert that has run out of time and
 * goes again is no end of it; an answer is. */
static void flusher_tell_hang(struct flusher *flusher, struct lane *lane, uint64_t now_ns)
{
    const uint64_t since_ns = flusher_tell_out_since(flusher, lane->stream, lane->shard);
    const bool waits = since_ns != 0 && now_ns - since_ns > HANG_MS * CLOCK_NS_PER_MS;
    const bool quiet = lane->hangs_since_ns != 0 && flusher->answered_ns < lane->hangs_since_ns;
    const char *name = flusher_stream(flusher, lane)->name;
    char key[HEALTH_KEY_MAX];
    bool nothing;

    if (!waits && (lane->hangs_since_ns == 0 || quiet))
        return;
    flusher_tell_key(key, flusher, lane, "hangs");
    if (!waits) {
        health_clear(flusher->parts.health, key);
        if (lane->hangs_logged)
            log_info("inserts are answered again stream=%s", name);
        lane->hangs_since_ns = 0;
        lane->hangs_logged = false;
        return;
    }
    if (!quiet)
        lane->hangs_since_ns = since_ns;
    nothing = flusher->answered_ns < lane->hangs_since_ns;
    health_raise(flusher->parts.health, key, false,
                 "an insert has had no answer for %" PRIu64 " s (clickhouse.timeout is %" PRIu64
                 " s)%s",
                 (uint64_t)((now_ns - lane->hangs_since_ns) / CLOCK_NS_PER_S),
                 flusher_config(flusher)->clickhouse_timeout_ms / 1000,
                 nothing ? ", and ClickHouse has answered nothing else since: it hangs, or the way "
                           "to it does; the journal takes the events"
                         : ", though ClickHouse answers others: look at its load and at locks on "
                           "the table");
    if (nothing && !lane->hangs_logged) {
        lane->hangs_logged = true;
        log_warn("insert has no answer stream=%s age_ms=%" PRIu64, name,
                 (uint64_t)((now_ns - lane->hangs_since_ns) / CLOCK_NS_PER_MS));
    }
}

void flusher_tell_counts(struct flusher *flusher, uint64_t now)
{
    bool told = false;

    if (now < flusher->counts_at_ms)
        return;
    flusher->counts_at_ms = now + COUNTS_INTERVAL_MS;
    for (size_t i = 0; i < flusher->lane_count; i++) {
        told = told || flusher->lanes[i].kept_told;
        flusher_tell_hang(flusher, &flusher->lanes[i], clock_mono_ns());
    }
    if (told)
        flusher_tell_lanes(flusher);
}

void flusher_tell_strays(struct flusher *flusher, uint64_t events)
{
    health_raise(flusher->parts.health, "clickhouse.shards", false,
                 "%" PRIu64 " events of an earlier life are in inserts that were begun for shards "
                 "which clickhouse.url no longer has, and wait",
                 events);
}

void flusher_tell_fault(struct flusher *flusher, struct lane *lane, enum lane_fault fault,
                        const char *text)
{
    if (fault == LANE_FAULT_NONE && lane->fault == LANE_FAULT_NONE)
        return;
    if (fault == LANE_FAULT_NONE)
        lane->fault_code = 0;
    if (fault == LANE_FAULT_NONE)
        log_info("stream is well again stream=%s", flusher_stream(flusher, lane)->name);
    lane->fault = fault;
    snprintf(lane->fault_text, sizeof(lane->fault_text), "%s", text);
    flusher_tell_lanes(flusher);
}

void flusher_tell_replicas(struct flusher *flusher, struct lane *lane, bool held, const char *text)
{
    const char *name = flusher_stream(flusher, lane)->name;
    const bool news = text != NULL && strcmp(text, lane->replicas) != 0;

    if (!news && held == lane->held && (text != NULL || lane->replicas[0] == '\0'))
        return;
    if (held && (news || !lane->held))
        log_error("no endpoint for inserts stream=%s reason=\"%s\" action=wait", name, text);
    else if (news)
        log_warn("endpoint is not used stream=%s reason=\"%s\"", name, text);
    else if (text == NULL)
        log_info("all endpoints are used stream=%s", name);
    lane->held = held;
    snprintf(lane->replicas, sizeof(lane->replicas), "%s", text == NULL ? "" : text);
    flusher_tell_lanes(flusher);
}

void flusher_tell_insert_fault(struct flusher *flusher, struct lane *lane,
                               const struct transfer *transfer,
                               const struct insert_reading *reading)
{
    const char *name = flusher_stream(flusher, lane)->name;
    const long status = transfer->answer.status;
    const int code = reading->code != 0 ? reading->code : -(int)status;
    const bool news = lane->fault != LANE_FAULT_INSERT || lane->fault_code != code;
    char message[LANE_MESSAGE_MAX];

    lane->fault_code = code;
    if (reading->class == INSERT_UNKNOWN) {
        /* Not its words: they may quote an event. */
        snprintf(message, sizeof(message),
                 "inserts fail in a way that alloyd does not know (code %d, HTTP status %ld)",
                 reading->code, status);
        if (news)
            log_error("insert failed in an unknown way stream=%s code=%d status=%ld action=retry",
                      name, reading->code, status);
    } else {
        flusher_tell_words(transfer, message);
        if (news)
            log_error("insert refused, waiting for a human stream=%s code=%d status=%ld "
                      "message=\"%s\"",
                      name, reading->code, status, message);
    }
    flusher_tell_fault(flusher, lane, LANE_FAULT_INSERT, message);
}

void flusher_tell_retry(struct flusher *flusher, struct lane *lane, const struct transfer *transfer,
                        const struct insert_reading *reading)
{
    char key[HEALTH_KEY_MAX];
    uint64_t held;

    /* That ClickHouse is down has a line of its own. */
    if (flusher->up != 0 &&
        log_limit_pass(&lane->retry_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_warn("insert failed stream=%s code=%d status=%ld error=\"%s\" action=retry "
                 "suppressed=%" PRIu64,
                 flusher_stream(flusher, lane)->name, reading->code, transfer->answer.status,
                 transfer->error, held);
    if (lane->retries < RETRIES_QUIET)
        return;
    lane->retries_told = true;
    flusher_tell_key(key, flusher, lane, "retry");
    health_raise(flusher->parts.health, key, false,
                 "%s has put inserts off %" PRIu32 " times in a row (%s): look there for memory, "
                 "parts, quotas and limits",
                 reading->code != 0 ? "ClickHouse" : "a proxy before ClickHouse", lane->retries,
                 flusher_tell_cause(reading->code, transfer->answer.status).text);
}

void flusher_tell_slow(struct flusher *flusher, struct lane *lane, const struct insert *insert)
{
    char key[HEALTH_KEY_MAX];

    if (insert->tries_slow < TIMEOUTS_QUIET)
        return;
    flusher_tell_key(key, flusher, lane, "slow");
    lane->slow_told = true;
    health_raise(flusher->parts.health, key, false,
                 "an insert of %zu rows has run out of time %" PRIu32
                 " times; it is given more each time, and new ones are smaller: look at the load "
                 "and the link of ClickHouse, or raise clickhouse.timeout",
                 insert->count, insert->tries_slow);
}

void flusher_tell_refused(struct flusher *flusher, struct lane *lane, const struct insert *insert,
                          bool buried)
{
    uint64_t held;

    if (log_limit_pass(&lane->refused_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_warn("row refused stream=%s code=%d action=%s suppressed=%" PRIu64,
                 flusher_stream(flusher, lane)->name, insert->code, buried ? "dead_letter" : "keep",
                 held);
}

void flusher_tell_kept(struct flusher *flusher, struct lane *lane)
{
    const bool refuses = lane->state == LANE_REFUSES;

    flusher_tell_lanes(flusher);
    if (refuses == lane->refuses_told)
        return;
    lane->refuses_told = refuses;
    if (refuses)
        log_error("table refuses row after row, all are kept stream=%s code=%d events=%" PRIu64,
                  flusher_stream(flusher, lane)->name, lane->refusal_code,
                  apart_rows(&lane->apart));
    else
        log_info("table takes rows again stream=%s", flusher_stream(flusher, lane)->name);
}

void flusher_tell_view(struct flusher *flusher, struct lane *lane, const struct insert *insert)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    char key[HEALTH_KEY_MAX];
    uint64_t held;

    METRIC_ADD(flusher->counters, clickhouse_view_errors, 1);
    flusher_tell_key(key, flusher, lane, "view");
    health_raise(flusher->parts.health, key, false,
                 "a materialized view has refused inserts that table %s has (code %d), and lacks "
                 "all their rows",
                 of->table_text, insert->code);
    if (log_limit_pass(&lane->view_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_error("materialized view lacks an insert that the table has stream=%s table=%s "
                  "code=%d rows=%zu suppressed=%" PRIu64,
                  of->name, of->table_text, insert->code, insert->count, held);
}

void flusher_tell_found(struct flusher *flusher, struct lane *lane, const struct insert *insert)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const bool views = lane->facts_read && lane->facts.table_exists && lane->facts.has_views;
    uint64_t held;

    log_debug("insert in doubt is there stream=%s insert=%" PRIu64 " rows=%zu", of->name,
              insert->id & INSERT_ID_NUMBER, insert->count);
    if (views && log_limit_pass(&lane->found_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_warn("an insert in doubt is in the table, and whether its views have it nobody knows "
                 "stream=%s table=%s rows=%zu suppressed=%" PRIu64,
                 of->name, of->table_text, insert->count, held);
    if (insert->ignore_views && insert->view_blamed)
        flusher_tell_view(flusher, lane, insert);
    flusher_tell_success(flusher, lane);
}

void flusher_tell_success(struct flusher *flusher, struct lane *lane)
{
    char key[HEALTH_KEY_MAX];

    flusher_tell_fault(flusher, lane, LANE_FAULT_NONE, "");
    if (lane->retries_told) {
        lane->retries_told = false;
        flusher_tell_key(key, flusher, lane, "retry");
        health_clear(flusher->parts.health, key);
    }
    if (lane->slow_told && lane->slow_count == 0) {
        lane->slow_told = false;
        flusher_tell_key(key, flusher, lane, "slow");
        health_clear(flusher->parts.health, key);
    }
    if (lane->kept_told)
        flusher_tell_kept(flusher, lane);
}

void flusher_tell_finding(struct flusher *flusher, const struct lane *lane, const char *what,
                          const char *text, bool news)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    char key[HEALTH_KEY_MAX];

    flusher_tell_key(key, flusher, lane, what);
    if (text == NULL) {
        health_clear(flusher->parts.health, key);
        return;
    }
    health_raise(flusher->parts.health, key, false, "table %s: %s", of->table_text, text);
    if (news)
        log_warn("table is not as it should be stream=%s table=%s reason=\"%s\"", of->name,
                 of->table_text, text);
}

void flusher_tell_error(struct flusher *flusher, const struct transfer *transfer,
                        const struct insert_reading *reading)
{
    struct metrics *metrics = flusher->parts.metrics;
    const uint16_t stream = transfer->stream;

    if (reading->class != INSERT_DONE && reading->code != 0)
        metrics_refused(&metrics->lanes[stream], reading->code);
    else if (reading->class != INSERT_DONE && transfer->answer.status >= 300)
        metrics_refused(&metrics->lanes[stream], -(int)transfer->answer.status);
    switch (reading->class) {
    case INSERT_DONE:
        break;
    case INSERT_RETRY:
        METRIC_ADD(flusher->counters, clickhouse_errors_retry, 1);
        METRIC_LANE_ADD(metrics, stream, errors_retry, 1);
        break;
    case INSERT_BAD_ROWS:
        METRIC_ADD(flusher->counters, clickhouse_errors_bad_rows, 1);
        METRIC_LANE_ADD(metrics, stream, errors_bad_rows, 1);
        break;
    case INSERT_SPLIT:
        METRIC_ADD(flusher->counters, clickhouse_errors_split, 1);
        METRIC_LANE_ADD(metrics, stream, errors_split, 1);
        break;
    case INSERT_MISCONFIGURED:
        METRIC_ADD(flusher->counters, clickhouse_errors_misconfigured, 1);
        METRIC_LANE_ADD(metrics, stream, errors_misconfigured, 1);
        break;
    case INSERT_UNKNOWN:
        METRIC_ADD(flusher->counters, clickhouse_errors_unknown, 1);
        METRIC_LANE_ADD(metrics, stream, errors_unknown, 1);
        break;
    }
}

void flusher_tell_insert(struct flusher *flusher, const struct insert *insert, uint64_t took_ns)
{
    struct metrics *metrics = flusher->parts.metrics;

    METRIC_OBSERVE_NS(flusher->counters, clickhouse_insert, took_ns);
    METRIC_LANE_OBSERVE(metrics, insert->stream, insert_seconds, metrics_bounds_ns, took_ns);
    METRIC_LANE_OBSERVE(metrics, insert->stream, insert_rows, metrics_bounds_rows, insert->count);
    METRIC_LANE_OBSERVE(metrics, insert->stream, insert_bytes, metrics_bounds_bytes, insert->bytes);
}

void flusher_tell_sent(const struct flusher *flusher, const struct insert *insert)
{
    log_debug("insert sent stream=%s insert=%" PRIu64 " rows=%zu bytes=%" PRIu64
              " async=%s aside=%s",
              flusher_config(flusher)->streams[insert->stream].name, insert->id & INSERT_ID_NUMBER,
              insert->count, (uint64_t)insert->bytes, insert->async ? "yes" : "no",
              insert->aside ? "yes" : "no");
}

void flusher_tell_answer(const struct flusher *flusher, const struct transfer *transfer,
                         const struct insert_reading *reading)
{
    const struct insert *insert = transfer->insert;

    log_debug("insert answered stream=%s insert=%" PRIu64 " rows=%zu status=%ld code=%d class=%s "
              "took_ms=%.1f",
              flusher_config(flusher)->streams[insert->stream].name, insert->id & INSERT_ID_NUMBER,
              insert->count, transfer->answer.status, reading->code,
              insert_class_name(reading->class),
              (double)(clock_mono_ns() - transfer->started_ns) / CLOCK_NS_PER_MS);
}

void flusher_tell_gauges(struct flusher *flusher)
{
    struct metrics *metrics = flusher->parts.metrics;
    int64_t all = 0;

    for (size_t i = 0; i < flusher->lane_count / flusher->shards; i++) {
        bool well = flusher->discard || flusher->up == 1;
        size_t out = 0;

        for (size_t k = 0; k < flusher->shards; k++) {
            const struct lane *lane = flusher_lane(flusher, i, k);

            out += lane->out + lane->apart.out;
            well = well && (flusher->discard || (lane->fault == LANE_FAULT_NONE && !lane->held &&
                                                 lane->state != LANE_REFUSES));
        }
        METRIC_LANE_SET(metrics, i, up, well);
        METRIC_LANE_SET(metrics, i, inflight, (int64_t)out);
        METRIC_LANE_SET(
            metrics, i, inflight_since_ms,
            (int64_t)(out == 0 ? 0
                               : flusher_tell_out_since(flusher, i, ANY_SHARD) / CLOCK_NS_PER_MS));
        all += (int64_t)out;
    }
    METRIC_GAUGE_SET(metrics, clickhouse_inflight, all);
    for (size_t i = 0; i < flusher->route.endpoints.count; i++) {
        const struct endpoint *endpoint = &flusher->route.endpoints.at[i];

        METRIC_ENDPOINT_SET(metrics, i, up,
                            flusher->discard ||
                                (flusher->up == 1 && endpoint->state != ENDPOINT_AWAY));
        METRIC_ENDPOINT_SET(metrics, i, inflight, (int64_t)endpoint->out);
    }
}

void flusher_tell_setback(struct flusher *flusher, const struct transfer *transfer,
                          const struct insert_reading *reading)
{
    const struct insert *insert = transfer->insert;
    struct setback setback = {
        .time_ms = clock_real_ms(),
        .rows = insert->count,
        .stream = insert->stream,
        .code = reading->code,
        .status = (int)transfer->answer.status,
        .class = insert_class_name(reading->class),
    };
    char words[LANE_MESSAGE_MAX];

    /* A refused insert that is taken apart is one setback, and not a hundred. */
    if (reading->class == INSERT_DONE || insert->part)
        return;
    /* What is wrong with table, rights or the link can be told: it is not about an event. */
    setback.told = reading->class == INSERT_MISCONFIGURED || transfer->answer.status == 0;
    if (setback.told || flusher_config(flusher)->admin_show_events) {
        flusher_tell_words(transfer, words);
        setbacks_copy(setback.message, SETBACKS_MESSAGE_MAX, (struct slice){words, strlen(words)});
    }
    setbacks_note(flusher->parts.setbacks, SETBACK_INSERT, &setback);
}
