/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin.c - the admin port, on evhttp in a thread of its own.
 *
 * evhttp parses leniently and is slow compared with the ingest path; neither matters on a port that
 * only operators and their tools reach.
 *
 * Runs on: admin_start() and admin_stop() on the main thread; everything else on the admin thread.
 * Owns: its loop, sockets and thread.
 */
#include "alloy/admin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <jansson.h>

#include "alloy/clock.h"
#include "alloy/pulse.h"
#include "dashboard.h"
#include "advice.h"
#include "exposition.h"
#include "exposition_packed.h"
#include "gate.h"
#include "guard.h"
#include "history_report.h"
#include "lately.h"
#include "readiness.h"
#include "refusal_stats.h"
#include "target_stats.h"
#include "alloy/text.h"
#include "alloy/journal_dir.h"
#include "alloy/listener.h"

#define HEAD_MAX 8192
#define BODY_MAX 4096
#define TIMEOUT_S 10
/* For JSON: 15 digits keep nanoseconds and milliseconds exact, without digits that mean nothing. */
#define JSON_FORMAT (JSON_COMPACT | JSON_REAL_PRECISION(15))
#define ALL_METHODS                                                                            \
    (EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD | EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | \
     EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH)

#define TEXT "text/plain; charset=utf-8"

static const char paths_text[] =
    "/healthz\n/readyz\n/stats\n/metrics\n/history\n/\n/streams/NAME/bury (POST)\n";

struct admin {
    struct admin_parts parts;
    struct listener_list listeners;
    struct event_base *base;
    struct evhttp *http;
    struct gate *gate;
    struct event *stop;
    struct event *beat;
    int stop_fd;
    pthread_t thread;
    /* admin thread only */
    struct exposition_view view;
    struct lately lately;
    struct history *history;
    struct history_reading reading;
};

static void admin_answer(struct evhttp_request *request, int status, const char *type,
                         struct evbuffer *body)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);

    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
    if (evhttp_request_get_command(request) == EVHTTP_REQ_HEAD) {
        /* To a HEAD evhttp would send the body too, and the client would take it for the next
         * answer. */
        char len[24];

        snprintf(len, sizeof(len), "%zu", evbuffer_get_length(body));
        evhttp_add_header(headers, "Content-Length", len);
        body = NULL;
    }
    evhttp_send_reply(request, status, NULL, body);
}

/* data must be constant: evhttp sends it later without a copy. */
static void admin_answer_constant(struct evhttp_request *request, int status, const char *type,
                                  struct slice data)
{
    struct evbuffer *body = evbuffer_new();

    if (!body) {
        evhttp_send_error(request, 500, NULL);
        return;
    }
    evbuffer_add_reference(body, data.data, data.len, NULL, NULL);
    admin_answer(request, status, type, body);
    evbuffer_free(body);
}

static void admin_answer_text(struct evhttp_request *request, int status, const char *text)
{
    admin_answer_constant(request, status, TEXT, (struct slice){text, strlen(text)});
}

static int admin_append_json(const char *data, size_t len, void *arg)
{
    return evbuffer_add(arg, data, len);
}

/* Takes json; NULL means out of memory. */
static void admin_answer_json(struct evhttp_request *request, int status, json_t *json)
{
    struct evbuffer *body = evbuffer_new();

    if (body && json && json_dump_callback(json, admin_append_json, body, JSON_FORMAT) == 0 &&
        evbuffer_add(body, "\n", 1) == 0)
        admin_answer(request, status, "application/json", body);
    else
        evhttp_send_error(request, 500, NULL);
    if (body)
        evbuffer_free(body);
    json_decref(json);
}

/* What /readyz answers. */
struct readiness {
    bool ready;
    json_t *reasons;
};

static void admin_add_reason(void *arg, const char *key, bool blocking, const char *text)
{
    struct readiness *readiness = arg;
    struct advice advice;
    char clean[HEALTH_TEXT_MAX], whole[ADVICE_TEXT_MAX];

    /* It may quote a server, and be cut anywhere; JSON takes no text that is not UTF-8. */
    snprintf(clean, sizeof(clean), "%s", text);
    text_clean(clean);
    (void)advice_find(key, &advice);
    advice_append(clean, &advice, whole);
    json_array_append_new(readiness->reasons,
                          json_pack("{s:s,s:b,s:s,s:s,s:s}", "key", key, "blocking", (int)blocking,
                                    "text", whole, "title", advice.title, "todo", advice.todo));
    readiness->ready &= !blocking;
}

/* Ready means that an event would be accepted now. The caller owns reasons. */
static struct readiness admin_readiness_read(const struct front_parts *parts)
{
    struct readiness readiness = {.ready = true, .reasons = json_array()};

    readiness_visit(parts, admin_add_reason, &readiness);
    return readiness;
}

static json_t *admin_json_counter(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static void admin_serve_health(struct admin *admin, struct evhttp_request *request)
{
    (void)admin;
    admin_answer_text(request, 200, "ok\n");
}

static void admin_serve_ready(struct admin *admin, struct evhttp_request *request)
{
    struct readiness readiness = admin_readiness_read(&admin->parts.front);

    admin_answer_json(
        request, readiness.ready ? 200 : 503,
        json_pack("{s:b,s:o}", "ready", (int)readiness.ready, "reasons", readiness.reasons));
}

/* Events refused for each reason; adds their sum to total. */
static json_t *admin_stats_rejected(const uint64_t *counters, uint64_t *total)
{
    static const char *const labels[] = {
#define METRIC_STREAM(id, name, labels, help) labels,
#include "alloy/metrics.def"
    };
    json_t *rejected = json_object();
    char reason[32];

    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        if (sscanf(labels[i], "reason=\"%31[^\"]", reason) != 1)
            continue;
        json_object_set_new(rejected, reason, admin_json_counter(counters[i]));
        *total += counters[i];
    }
    return rejected;
}

static json_t *admin_stats_stream(const struct admin *admin, size_t stream)
{
    const struct exposition_view *view = &admin->view;
    const struct lately_count lately = lately_read(&admin->lately, &view->snapshot, stream);
    const uint64_t *counters = view->snapshot.streams[stream];
    uint64_t total = 0;
    json_t *rejected = admin_stats_rejected(counters, &total);

    return json_pack("{s:{s:o,s:o,s:{s:o,s:o},s:o,s:o,s:o,s:o},s:o,s:o,s:{s:o,s:o}}", "books",
                     "received", admin_json_counter(counters[METRIC_STREAM_received]), "accepted",
                     admin_json_counter(counters[METRIC_STREAM_accepted]), "duplicates", "l1",
                     admin_json_counter(counters[METRIC_STREAM_duplicate_l1]), "l2",
                     admin_json_counter(counters[METRIC_STREAM_duplicate_l2]), "rejected",
                     admin_json_counter(total), "inserted",
                     admin_json_counter(counters[METRIC_STREAM_inserted]), "dead_lettered",
                     admin_json_counter(counters[METRIC_STREAM_dead_lettered]), "pending",
                     admin_json_counter(view->pending[stream]), "rejected", rejected, "refused",
                     refusal_stats_counts(view, stream), "last_minute", "refused",
                     admin_json_counter(lately.refused), "taken", admin_json_counter(lately.taken));
}

static json_t *admin_stats_streams(const struct admin *admin)
{
    const struct config *config = config_current(admin->parts.front.config);
    json_t *streams = json_object();

    for (size_t i = 0; i < config->stream_count; i++) {
        json_t *stream = admin_stats_stream(admin, i);

        json_object_set_new(stream, "oldest_pending_ms",
                            admin_json_counter((uint64_t)(admin->view.oldest_s[i] * 1000)));
        target_stats_stream(stream, &config->streams[i]);
        exposition_packed_stats(admin->parts.front.metrics, i, stream);
        json_object_set_new(streams, config->streams[i].name, stream);
    }
    return streams;
}

static json_t *admin_stats_histogram(const struct exposition_view *view, size_t id)
{
    uint64_t count = 0;

    for (size_t i = 0; i < METRIC_BUCKETS; i++)
        count += view->snapshot.histograms[id].buckets[i];
    return json_pack("{s:o,s:f}", "count", admin_json_counter(count), "sum",
                     (double)view->snapshot.histograms[id].sum_ns / CLOCK_NS_PER_S);
}

static json_t *admin_stats_http(const struct exposition_view *view)
{
    json_t *codes = json_object();

    for (unsigned code = 100; code < METRIC_HTTP_CODES; code++) {
        char text[8];

        if (view->snapshot.http_codes[code] == 0)
            continue;
        snprintf(text, sizeof(text), "%u", code);
        json_object_set_new(codes, text, admin_json_counter(view->snapshot.http_codes[code]));
    }
    return json_pack("{s:I,s:I,s:o,s:o,s:o}", "connections",
                     (json_int_t)view->snapshot.gauges[METRIC_GAUGE_http_connections], "waiting",
                     (json_int_t)view->snapshot.gauges[METRIC_GAUGE_http_waiting], "codes", codes,
                     "refused", refusal_stats_counts(view, METRIC_STREAM_NONE), "seconds",
                     admin_stats_histogram(view, METRIC_HISTOGRAM_http_request));
}

static json_t *admin_stats_distrust(const struct metrics_snapshot *snapshot)
{
    const uint64_t *counters = snapshot->counters;

    return json_pack("{s:I,s:o,s:o,s:o,s:o}", "servers",
                     (json_int_t)snapshot->gauges[METRIC_GAUGE_redis_distrust], "windows",
                     admin_json_counter(counters[METRIC_COUNTER_redis_distrusts]), "absent",
                     admin_json_counter(counters[METRIC_COUNTER_redis_doubted_absent]), "present",
                     admin_json_counter(counters[METRIC_COUNTER_redis_doubted_present]),
                     "unchecked",
                     admin_json_counter(counters[METRIC_COUNTER_redis_doubted_unchecked]));
}

static json_t *admin_stats_redis(const struct exposition_view *view)
{
    const struct metrics_snapshot *snapshot = &view->snapshot;

    return json_pack(
        "{s:b,s:I,s:I,s:o,s:o,s:o,s:o}", "up", (int)snapshot->gauges[METRIC_GAUGE_redis_up],
        "nodes", (json_int_t)snapshot->gauges[METRIC_GAUGE_redis_nodes], "nodes_away",
        (json_int_t)snapshot->gauges[METRIC_GAUGE_redis_nodes_away], "errors",
        admin_json_counter(snapshot->counters[METRIC_COUNTER_redis_errors]), "unclaimed",
        admin_json_counter(snapshot->counters[METRIC_COUNTER_events_unclaimed]), "distrust",
        admin_stats_distrust(snapshot), "seconds",
        admin_stats_histogram(view, METRIC_HISTOGRAM_redis));
}

static json_t *admin_stats_clickhouse(const struct exposition_view *view)
{
    const struct metrics_snapshot *snapshot = &view->snapshot;
    const uint64_t *counters = snapshot->counters;

    return json_pack(
        "{s:b,s:I,s:f,s:o,s:{s:o,s:o,s:o,s:o,s:o},s:o}", "up",
        (int)snapshot->gauges[METRIC_GAUGE_clickhouse_up], "inflight",
        (json_int_t)snapshot->gauges[METRIC_GAUGE_clickhouse_inflight], "last_insert_age",
        exposition_insert_age(view), "inserts",
        admin_json_counter(counters[METRIC_COUNTER_clickhouse_inserts]), "errors", "retry",
        admin_json_counter(counters[METRIC_COUNTER_clickhouse_errors_retry]), "bad_rows",
        admin_json_counter(counters[METRIC_COUNTER_clickhouse_errors_bad_rows]), "split",
        admin_json_counter(counters[METRIC_COUNTER_clickhouse_errors_split]), "misconfigured",
        admin_json_counter(counters[METRIC_COUNTER_clickhouse_errors_misconfigured]), "unknown",
        admin_json_counter(counters[METRIC_COUNTER_clickhouse_errors_unknown]), "seconds",
        admin_stats_histogram(view, METRIC_HISTOGRAM_clickhouse_insert));
}

static json_t *admin_stats_dead_letter(const struct exposition_view *view)
{
    const int64_t *gauges = view->snapshot.gauges;

    return json_pack("{s:I,s:I,s:I}", "bytes", (json_int_t)gauges[METRIC_GAUGE_dead_letter_bytes],
                     "parked", (json_int_t)gauges[METRIC_GAUGE_dead_letter_parked], "releasing",
                     (json_int_t)gauges[METRIC_GAUGE_dead_letter_releasing]);
}

static json_t *admin_stats_keys(const struct config *config)
{
    json_t *keys = json_object();

    for (size_t i = 0; config->keys != NULL && i < keys_count(config->keys); i++) {
        const struct key *key = keys_at(config->keys, i);
        uint64_t events = atomic_load_explicit(&key->state->events, memory_order_relaxed);
        uint64_t limited = atomic_load_explicit(&key->state->limited, memory_order_relaxed);

        json_object_set_new(keys, key->name,
                            json_pack("{s:o,s:o}", "events", admin_json_counter(events), "limited",
                                      admin_json_counter(limited)));
    }
    return keys;
}

static void admin_stats_setbacks(const struct admin *admin, json_t *stats)
{
    const struct config *config = config_current(admin->parts.front.config);
    struct setbacks *setbacks = admin->parts.setbacks;

    json_object_set_new(stats, "refused_inserts",
                        refusal_stats_setbacks(setbacks, SETBACK_INSERT, config));
    json_object_set_new(stats, "dead_letters",
                        refusal_stats_setbacks(setbacks, SETBACK_LETTER, config));
}

static json_t *admin_stats_schema(const struct front_parts *parts)
{
    const struct config *config = config_current(parts->config);
    struct schemas_counted counted[SCHEMAS_COUNTED_MAX];
    json_t *list = json_array();

    for (size_t stream = 0; parts->schemas != NULL && stream < config->stream_count; stream++) {
        const size_t count = schemas_read(parts->schemas, stream, counted);

        for (size_t i = 0; i < count; i++)
            json_array_append_new(
                list, json_pack("{s:s,s:s,s:s,s:s,s:o}", "stream", config->streams[stream].name,
                                "field", counted[i].field, "type", counted[i].type, "problem",
                                schema_problem_name(counted[i].problem), "events",
                                admin_json_counter(counted[i].events)));
    }
    return list;
}

static void admin_serve_stats(struct admin *admin, struct evhttp_request *request)
{
    const struct front_parts *parts = &admin->parts.front;
    const struct exposition_view *view = &admin->view;
    struct readiness readiness;
    json_t *stats;

    exposition_read(&admin->view, parts);
    readiness = admin_readiness_read(parts);
    stats = json_pack("{s:s,s:f,s:b,s:o,s:o,s:o,s:o,s:o}", "version", ALLOY_VERSION, "uptime",
                      (double)(view->now_ms - view->started_ms) / 1000.0, "ready",
                      (int)readiness.ready, "reasons", readiness.reasons, "streams",
                      admin_stats_streams(admin), "http", admin_stats_http(view), "redis",
                      admin_stats_redis(view), "clickhouse", admin_stats_clickhouse(view));
    json_object_set_new(stats, "ring",
                        json_pack("{s:o,s:o}", "depth", admin_json_counter(ring_depth(parts->ring)),
                                  "capacity", admin_json_counter(ring_capacity(parts->ring))));
    json_object_set_new(stats, "l1",
                        json_pack("{s:o,s:o}", "entries", admin_json_counter(l1_entries(parts->l1)),
                                  "evicted", admin_json_counter(l1_evicted(parts->l1))));
    json_object_set_new(stats, "journal",
                        json_pack("{s:o,s:o}", "bytes",
                                  admin_json_counter(journal_bytes(parts->journal)), "bytes_max",
                                  admin_json_counter(journal_bytes_max(parts->journal))));
    json_object_set_new(stats, "dead_letter", admin_stats_dead_letter(view));
    json_object_set_new(stats, "refusals", refusal_stats_list(parts));
    admin_stats_setbacks(admin, stats);
    json_object_set_new(json_object_get(stats, "redis"), "used",
                        json_boolean(config_current(parts->config)->redis_url[0] != '\0'));
    json_object_set_new(stats, "listen", target_stats_listen(config_current(parts->config)));
    json_object_set_new(json_object_get(stats, "clickhouse"), "endpoints",
                        target_stats_endpoints(config_current(parts->config), parts->metrics));
    json_object_set_new(stats, "schema_mismatches", admin_stats_schema(parts));
    json_object_set_new(stats, "keys", admin_stats_keys(config_current(parts->config)));
    admin_answer_json(request, 200, stats);
}

static void admin_serve_metrics(struct admin *admin, struct evhttp_request *request)
{
    struct evbuffer *body = evbuffer_new();

    if (!body) {
        evhttp_send_error(request, 500, NULL);
        return;
    }
    exposition_read(&admin->view, &admin->parts.front);
    exposition_write(&admin->view, &admin->parts.front, body);
    admin_answer(request, 200, "text/plain; version=0.0.4; charset=utf-8", body);
    evbuffer_free(body);
}

static void admin_serve_history(struct admin *admin, struct evhttp_request *request)
{
    const struct config *config = config_current(admin->parts.front.config);
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    struct history_question question;
    struct evbuffer *body;
    const char *wrong;
    int status;

    wrong = history_report_ask(&question, query, config, &status);
    if (wrong != NULL) {
        admin_answer_text(request, status, wrong);
        return;
    }
    body = evbuffer_new();
    if (body && history_report_write(admin->history, &question, config, body) == 0)
        admin_answer(request, 200, "application/json", body);
    else
        evhttp_send_error(request, 500, NULL);
    if (body)
        evbuffer_free(body);
}

static void admin_serve_dashboard(struct admin *admin, struct evhttp_request *request)
{
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    const struct dashboard_file *file = dashboard_find(path);
    const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request));
    char cookie[GUARD_COOKIE_MAX];

    if (config_current(admin->parts.front.config)->has_admin_key && guard_cookie(query, cookie))
        evhttp_add_header(evhttp_request_get_output_headers(request), "Set-Cookie", cookie);
    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Security-Policy",
                      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
                      " img-src 'self'; base-uri 'none'; form-action 'none';"
                      " frame-ancestors 'none'; require-trusted-types-for 'script'");
    admin_answer_constant(request, 200, file->type, (struct slice){file->data, file->len});
}

/* Finds NAME in "/streams/NAME/bury"; empty: path is something else. */
static struct slice admin_buried_stream(const char *path)
{
    static const char before[] = "/streams/", after[] = "/bury";
    const size_t fixed = strlen(before) + strlen(after);
    size_t len = strlen(path);

    if (len <= fixed || strncmp(path, before, strlen(before)) != 0 ||
        strcmp(path + len - strlen(after), after) != 0)
        return (struct slice){NULL, 0};
    return (struct slice){path + strlen(before), len - fixed};
}

/* Sends refused events to the dead letters. */
static void admin_serve_bury(struct admin *admin, struct evhttp_request *request)
{
    const struct admin_parts *parts = &admin->parts;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    const struct slice stream = admin_buried_stream(path);
    const char *control =
        evhttp_find_header(evhttp_request_get_input_headers(request), "Alloy-Control");
    char name[CONFIG_STREAM_NAME_MAX + 1];
    int64_t kept = -ENOENT;

    /* A malicious web page in the operator's browser can post here, but cannot set this header.
     */
    if (!control || strcmp(control, "1") != 0) {
        admin_answer_text(request, 403, "This needs the header Alloy-Control: 1.\n");
        return;
    }
    if (!parts->bury) {
        admin_answer_text(request, 501, "This alloyd cannot bury events.\n");
        return;
    }
    if (stream.len < sizeof(name)) {
        memcpy(name, stream.data, stream.len);
        name[stream.len] = '\0';
        kept = parts->bury(parts->bury_arg, name);
    }
    if (kept == -ENOENT)
        admin_answer_text(request, 404, "There is no such stream.\n");
    else if (kept < 0)
        admin_answer_text(request, 503, "alloyd is starting or stopping.\n");
    else
        admin_answer_json(request, 200,
                          json_pack("{s:b,s:I}", "asked", 1, "events", (json_int_t)kept));
}

/* A path of the admin port and what serves it. */
struct admin_page {
    const char *path;
    bool post;
    void (*serve)(struct admin *admin, struct evhttp_request *request);
};

static const struct admin_page *admin_find_page(const char *path)
{
    static const struct admin_page pages[] = {
        {"/healthz", false, admin_serve_health},  {"/readyz", false, admin_serve_ready},
        {"/stats", false, admin_serve_stats},     {"/metrics", false, admin_serve_metrics},
        {"/history", false, admin_serve_history},
    };
    static const struct admin_page file = {"", false, admin_serve_dashboard};
    static const struct admin_page bury = {"", true, admin_serve_bury};

    for (size_t i = 0; i < ARRAY_LEN(pages); i++)
        if (strcmp(path, pages[i].path) == 0)
            return &pages[i];
    if (dashboard_find(path))
        return &file;
    return admin_buried_stream(path).len > 0 ? &bury : NULL;
}

static bool admin_is_unix(struct evhttp_request *request)
{
    struct evhttp_connection *connection = evhttp_request_get_connection(request);
    struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(own);

    return getsockname(bufferevent_getfd(evhttp_connection_get_bufferevent(connection)),
                       (struct sockaddr *)&own, &len) == 0 &&
           own.ss_family == AF_UNIX;
}

/* Asks the guard. False: the request is answered. */
static bool admin_let_in(struct admin *admin, struct evhttp_request *request)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(request);
    const struct guard_request asked = {
        .host = evhttp_find_header(headers, "Host"),
        .origin = evhttp_find_header(headers, "Origin"),
        .authorization = evhttp_find_header(headers, "Authorization"),
        .cookie = evhttp_find_header(headers, "Cookie"),
        .query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(request)),
        .unix_socket = admin_is_unix(request),
    };

    switch (guard_judge(config_current(admin->parts.front.config), &asked)) {
    case GUARD_PASS:
        return true;
    case GUARD_KEY:
        evhttp_add_header(evhttp_request_get_output_headers(request), "WWW-Authenticate", "Bearer");
        admin_answer_text(request, 401,
                          "This needs the key of admin.key_file: Authorization: Bearer KEY, or "
                          "?key=KEY.\n");
        return false;
    case GUARD_HOST:
        admin_answer_text(request, 403,
                          "This Host is unknown here. Ask by address, as localhost, or by a name "
                          "of admin.listen, or set admin.key_file and send its key.\n");
        return false;
    case GUARD_ORIGIN:
        admin_answer_text(request, 403, "Web pages of another origin may not ask.\n");
        return false;
    }
    ALLOY_UNREACHABLE("a verdict of the guard");
}

static void admin_on_request(struct evhttp_request *request, void *arg)
{
    struct admin *admin = arg;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    const struct admin_page *page = path ? admin_find_page(path) : NULL;
    enum evhttp_cmd_type method = evhttp_request_get_command(request);

    if ((!page || page->serve != admin_serve_health) && !admin_let_in(admin, request))
        return;
    if (!page) {
        admin_answer_text(request, 404, paths_text);
        return;
    }
    if (page->post ? method == EVHTTP_REQ_POST
                   : method == EVHTTP_REQ_GET || method == EVHTTP_REQ_HEAD) {
        page->serve(admin, request);
        return;
    }
    evhttp_add_header(evhttp_request_get_output_headers(request), "Allow",
                      page->post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS");
    if (method == EVHTTP_REQ_OPTIONS)
        evhttp_send_reply(request, 204, NULL, NULL);
    else
        admin_answer_text(request, 405, page->post ? "Only POST.\n" : "Only GET and HEAD.\n");
}

static void admin_on_stop(evutil_socket_t fd, short what, void *arg)
{
    struct admin *admin = arg;

    (void)fd;
    (void)what;
    event_base_loopbreak(admin->base);
}

/* Notes what the figures are now. */
static void admin_note(struct admin *admin)
{
    const struct front_parts *parts = &admin->parts.front;

    if (parts->metrics == NULL)
        return;
    lately_sample(&admin->lately, parts->metrics, clock_mono_ms());
    exposition_read(&admin->view, parts);
    history_report_read(&admin->reading, &admin->view, parts);
    history_sample(admin->history, &admin->reading);
}

static void admin_on_beat(evutil_socket_t fd, short what, void *arg)
{
    struct admin *admin = arg;

    (void)fd;
    (void)what;
    pulse_beat(0);
    admin_note(admin);
}

static void *admin_thread_main(void *arg)
{
    struct admin *admin = arg;

    pthread_setname_np(pthread_self(), "admin");
    pulse_join("admin");
    admin_note(admin);
    event_base_dispatch(admin->base);
    pulse_leave();
    return NULL;
}

static int admin_loop_create(struct admin *admin)
{
    struct event_config *config = event_config_new();

    if (!config)
        return -ENOMEM;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    admin->base = event_base_new_with_config(config);
    event_config_free(config);
    admin->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!admin->base || admin->stop_fd < 0)
        return -ENOMEM;
    admin->http = evhttp_new(admin->base);
    admin->stop = event_new(admin->base, admin->stop_fd, EV_READ, admin_on_stop, admin);
    admin->beat = event_new(admin->base, -1, EV_PERSIST, admin_on_beat, admin);
    if (!admin->http || !admin->stop || event_add(admin->stop, NULL) != 0 || !admin->beat ||
        event_add(admin->beat, &(struct timeval){.tv_sec = 1}) != 0)
        return -ENOMEM;
    evhttp_set_allowed_methods(admin->http, ALL_METHODS);
    evhttp_set_max_headers_size(admin->http, HEAD_MAX);
    evhttp_set_max_body_size(admin->http, BODY_MAX);
    evhttp_set_timeout(admin->http, TIMEOUT_S);
    evhttp_set_gencb(admin->http, admin_on_request, admin);
    admin->gate = gate_create(admin->base, admin->http, FRONT_ADMIN_CONNECTIONS_MAX);
    return admin->gate ? 0 : -ENOMEM;
}

/* evhttp takes a descriptor of each socket; ours is for the next life. */
static int admin_listeners_add(struct admin *admin)
{
    for (size_t i = 0; i < admin->listeners.count; i++) {
        const int fd = fcntl(admin->listeners.items[i].fd, F_DUPFD_CLOEXEC, 3);
        int err = fd < 0 ? -errno : gate_add(admin->gate, fd);

        if (err != 0) {
            close(fd);
            return err;
        }
    }
    return 0;
}

static int admin_thread_start(struct admin *admin)
{
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    err = -pthread_create(&admin->thread, NULL, admin_thread_main, admin);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return err;
}

static void admin_free(struct admin *admin)
{
    gate_destroy(admin->gate);
    if (admin->http)
        evhttp_free(admin->http);
    if (admin->beat)
        event_free(admin->beat);
    if (admin->stop)
        event_free(admin->stop);
    if (admin->base)
        event_base_free(admin->base);
    if (admin->stop_fd >= 0)
        close(admin->stop_fd);
    listener_close_all(&admin->listeners);
    history_destroy(admin->history);
    free(admin);
}

int admin_start(struct admin **out, const struct admin_parts *parts, char error[FRONT_ERROR_MAX])
{
    const struct config *config = config_current(parts->front.config);
    struct admin *admin;
    int err;

    *out = NULL;
    if (config->admin_address_count == 0 &&
        !inherited_replaces(parts->front.inherited, INHERITED_ADMIN))
        return 0;
    admin = calloc(1, sizeof(*admin));
    if (admin)
        admin->history = history_create();
    if (!admin || !admin->history) {
        free(admin);
        snprintf(error, FRONT_ERROR_MAX, "cannot start the admin port: out of memory");
        return -ENOMEM;
    }
    admin->parts = *parts;
    admin->stop_fd = -1;
    health_raise(parts->front.health, "starting", true, "The event port does not listen yet.");
    admin->view.started_ms = clock_mono_ms();
    err = listener_open_all(&admin->listeners,
                            &(struct listener_wish){.addresses = config->admin_addresses,
                                                    .address_count = config->admin_address_count,
                                                    .admin = true,
                                                    .thread_count = 1,
                                                    .inherited = parts->front.inherited},
                            error);
    if (err != 0)
        goto free_admin;
    err = admin_loop_create(admin);
    if (err == 0)
        err = admin_listeners_add(admin);
    if (err == 0)
        err = admin_thread_start(admin);
    if (err != 0) {
        snprintf(error, FRONT_ERROR_MAX, "cannot start the admin port: %s", strerror(-err));
        goto free_admin;
    }
    *out = admin;
    return 0;

free_admin:
    admin_free(admin);
    return err;
}

int admin_keep_sockets(struct admin *admin, struct inherited *kept)
{
    return admin == NULL ? 0 : listener_keep(&admin->listeners, true, kept);
}

void admin_stop(struct admin *admin)
{
    uint64_t one = 1;

    if (!admin)
        return;
    (void)!write(admin->stop_fd, &one, sizeof(one));
    pthread_join(admin->thread, NULL);
    admin_free(admin);
}
