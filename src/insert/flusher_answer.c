/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_answer.c - what an answer of ClickHouse leads to: rows finished, kept, taken apart or
 * buried, and what is told about it.
 *
 * A row that is refused alone goes to the dead-letter folder. Where that cannot take it the row is
 * parked: it stays LIVE and is offered again, and its stream goes on, unless PARKED_MAX rows are.
 * What is in the folder is handed to a worker (release.h), which forgets its id and marks it DEAD.
 *
 * Runs on: flusher thread.
 * Owns: nothing of its own; see flusher.c.
 */
#define LOG_MODULE "flusher"

#include "flusher_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "flusher_probe.h"
#include "insert_answer.h"
#include "alloy/kill_point.h"
#include "alloy/waiter.h"

#define PROBE_INTERVAL_MS 30000
#define PARKED_AT_ONCE 64 /* rows offered to the folder in one turn: each is a sync */
#define PARKED_MAX 10000  /* each with its message: about 12 MB */
#define PARKED_RETRY_MS 5000
#define LOG_INTERVAL_MS 60000
#define MESSAGE_MAX 1024
#define RETRIES_QUIET 5 /* in a row, before /readyz has them */
#define PACE_SHRINK 4   /* a success takes a fourth off the pause */
#define CODE_TOO_MANY_PARTS 252
#define CODE_ACCESS_DENIED 497 /* to system.tables; inserts may be allowed all the same */

/* Says whether ClickHouse answers at all, when that changes. */
static void flusher_answer_set_up(struct flusher *flusher, bool up, const char *error)
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

/* The text of an answer on one line, cut short, for people. */
static const char *flusher_answer_message_of(const struct transfer *transfer,
                                             char out[HEALTH_MESSAGE_MAX])
{
    struct slice body = transfer->answer.body;
    size_t len = body.len < HEALTH_MESSAGE_MAX - 1 ? body.len : HEALTH_MESSAGE_MAX - 1;

    if (transfer->answer.status == 0) {
        snprintf(out, HEALTH_MESSAGE_MAX, "%s", transfer->error);
        return out;
    }
    if (transfer->answer.transport_failed || len == 0) {
        snprintf(out, HEALTH_MESSAGE_MAX, "%s (HTTP status %ld)", transfer->error,
                 transfer->answer.status);
        return out;
    }
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)body.data[i] < ' ' || body.data[i] == '"' ? ' ' : body.data[i];
    while (len > 0 && out[len - 1] == ' ')
        len--;
    out[len] = '\0';
    return out;
}

/* The exception's code; a proxy between may have dropped the header. 0: none. */
static int flusher_answer_code_of(const struct insert_answer *answer)
{
    return answer->exception_code != 0 ? answer->exception_code
                                       : insert_answer_body_code(answer->body);
}

/* Tells what keeps lanes from inserting. One stuck stream must not take the others' traffic away,
 * so it blocks only where no stream is left. */
static void flusher_answer_tell_faults(struct flusher *flusher)
{
    bool all = true;
    char key[HEALTH_KEY_MAX];

    for (size_t i = 0; i < flusher->lane_count; i++)
        all = all && flusher->lanes[i].fault != LANE_FAULT_NONE;
    for (size_t i = 0; i < flusher->lane_count; i++) {
        snprintf(key, sizeof(key), "clickhouse.%s", flusher_stream(flusher, i)->name);
        if (flusher->lanes[i].fault == LANE_FAULT_NONE)
            health_clear(flusher->parts.health, key);
        else
            health_raise(flusher->parts.health, key, all, "%s", flusher->lanes[i].fault_text);
    }
}

static void flusher_answer_raise_lane(struct flusher *flusher, size_t stream, enum lane_fault fault,
                                      const char *text)
{
    struct lane *lane = &flusher->lanes[stream];

    lane->fault = fault;
    snprintf(lane->fault_text, sizeof(lane->fault_text), "%s", text);
    flusher_answer_tell_faults(flusher);
}

static void flusher_answer_clear_lane(struct flusher *flusher, size_t stream)
{
    if (flusher->lanes[stream].fault == LANE_FAULT_NONE)
        return;
    flusher->lanes[stream].fault = LANE_FAULT_NONE;
    flusher_answer_tell_faults(flusher);
    log_info("stream is well again stream=%s", flusher_stream(flusher, stream)->name);
}

void flusher_finish_records(struct flusher *flusher, struct record *const *records, size_t n,
                            enum record_state state)
{
    KILL_POINT("insert_answered");
    journal_finish(flusher->parts.journal, records, n, state);
    KILL_POINT("insert_finished");
    /* release: pairs with the acquire in flusher_pending() */
    atomic_fetch_sub_explicit(&flusher->pending, n, memory_order_release);
}

void flusher_count_insert(struct flusher *flusher, size_t stream, uint64_t rows)
{
    METRIC_STREAM_ADD(flusher->counters, stream, inserted, rows);
    METRIC_ADD(flusher->counters, clickhouse_inserts, 1);
    METRIC_GAUGE_SET(flusher->parts.metrics, clickhouse_last_insert_ms, (int64_t)clock_mono_ms());
}

static void flusher_answer_count_error(struct flusher *flusher, enum insert_class class)
{
    switch (class) {
    case INSERT_DONE:
        break;
    case INSERT_RETRY:
        METRIC_ADD(flusher->counters, clickhouse_errors_retry, 1);
        break;
    case INSERT_BAD_ROWS:
        METRIC_ADD(flusher->counters, clickhouse_errors_bad_rows, 1);
        break;
    case INSERT_SPLIT:
        METRIC_ADD(flusher->counters, clickhouse_errors_split, 1);
        break;
    case INSERT_MISCONFIGURED:
        METRIC_ADD(flusher->counters, clickhouse_errors_misconfigured, 1);
        break;
    case INSERT_UNKNOWN:
        METRIC_ADD(flusher->counters, clickhouse_errors_unknown, 1);
        break;
    }
}

void flusher_back_off(struct flusher *flusher, struct lane *lane, bool longest)
{
    const struct config *config = flusher_config(flusher);
    uint64_t max = config->clickhouse_retry_max_ms;
    uint64_t min = longest ? max : config->clickhouse_retry_min_ms;
    uint64_t now = clock_mono_ms();
    uint64_t until;

    /* Inserts that were in flight together fail together: that is one failure. */
    if (lane->retry_at_ms > now && !longest)
        return;
    until = now + backoff_next(&lane->backoff, min, max, flusher_random(flusher));
    if (until > lane->retry_at_ms)
        lane->retry_at_ms = until;
}

void flusher_keep(struct flusher *flusher, struct insert *insert, bool longest)
{
    struct lane *lane = &flusher->lanes[insert->stream];

    insert_list_push_back(&lane->waiting, insert);
    flusher_back_off(flusher, lane, longest);
}

int flusher_cut(struct flusher *flusher, struct insert *insert, bool bad_row, int64_t row)
{
    struct lane *lane = &flusher->lanes[insert->stream];
    bool was_part = insert->part;
    struct insert *parts[2];
    int err = insert_part(insert, bad_row, row, parts);

    if (err != 0)
        return err;
    lane->part_count += was_part ? 1 : 2;
    insert_list_push_front(&lane->waiting, parts[1]);
    insert_list_push_front(&lane->waiting, parts[0]);
    return 0;
}

static void flusher_answer_insert_end(struct flusher *flusher, struct insert *insert)
{
    if (insert->part)
        flusher->lanes[insert->stream].part_count--;
    insert->part = false;
}

/* Offers a refused row to the dead-letter folder. On 0 the row is in it, on its way out of the
 * journal, and insert is destroyed. */
static int flusher_answer_bury(struct flusher *flusher, struct insert *insert, struct slice message)
{
    const struct config *config = flusher_config(flusher);
    const struct config_stream *stream = &config->streams[insert->stream];
    const struct dead_letter_reason reason = {
        .stream = stream->name,
        .code = insert->code,
        .message = message,
        .real_ms = clock_real_ms(),
        .instance_id = journal_instance_id(flusher->parts.journal),
    };
    struct release_item *item = release_prepare(flusher->parts.release);
    int err;

    if (item == NULL)
        return -EAGAIN;
    err = dead_letter_write(flusher->dead_letter, insert->records, 1, &reason,
                            config->dead_letter_max_bytes_bytes);
    METRIC_GAUGE_SET(flusher->parts.metrics, dead_letter_bytes,
                     (int64_t)dead_letter_bytes(flusher->dead_letter));
    if (err != 0) {
        release_cancel(flusher->parts.release, item);
        return err;
    }
    KILL_POINT("dead_letter_written");
    /* Whoever waits for the event hears of it when the record is DEAD, and then why. */
    if (journal_waiters(flusher->parts.journal) != NULL)
        waiter_reason(journal_waiters(flusher->parts.journal), insert->records[0], insert->code,
                      message);
    release_push(flusher->parts.release, item, insert->records[0],
                 clock_mono_ms() + stream->ttl_ms);
    /* release: pairs with the acquire in flusher_pending(); release_pending() has counted it */
    atomic_fetch_sub_explicit(&flusher->pending, 1, memory_order_release);
    insert_destroy(insert);
    return 0;
}

static void flusher_answer_count_parked(struct flusher *flusher, size_t count)
{
    flusher->parked_count = count;
    METRIC_GAUGE_SET(flusher->parts.metrics, dead_letter_parked, (int64_t)count);
}

/* Rows must wait: says why, and sets the time of the next try. */
static void flusher_answer_hold_parked(struct flusher *flusher, int err)
{
    const uint64_t now = clock_mono_ms();
    const uint64_t retry_ms = flusher_config(flusher)->clickhouse_retry_max_ms;
    const char *dir = flusher_config(flusher)->dead_letter_dir;
    char why[HEALTH_MESSAGE_MAX];
    uint64_t held = 0;

    flusher->parked_at_ms = now + (retry_ms < PARKED_RETRY_MS ? retry_ms : PARKED_RETRY_MS);
    if (err == -EAGAIN)
        snprintf(why, sizeof(why), "too many ids wait for Redis to be forgotten");
    else if (err == -ENOSPC)
        snprintf(why, sizeof(why), "dead_letter.max_bytes or the disk of %s is used up", dir);
    else
        snprintf(why, sizeof(why), "%s cannot be written: %s", dir, strerror(-err));
    health_raise(flusher->parts.health, "dead_letter", false,
                 "refused events stay in the journal: %s", why);
    if (err != flusher->parked_err ||
        log_limit_pass(&flusher->dead_letter_limit, now, LOG_INTERVAL_MS, &held))
        log_error("refused events stay in the journal reason=\"%s\" suppressed=%" PRIu64, why,
                  held);
    flusher->parked_err = err;
}

/* A row that is alone in its insert was refused. */
static void flusher_answer_refuse(struct flusher *flusher, struct insert *insert,
                                  const struct transfer *transfer)
{
    struct slice message = transfer->answer.body;
    struct lane *lane = &flusher->lanes[insert->stream];
    uint64_t held;
    int err;

    flusher_answer_insert_end(flusher, insert);
    insert->code = flusher_answer_code_of(&transfer->answer);
    if (log_limit_pass(&lane->refused_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_warn("row refused stream=%s code=%d action=dead_letter suppressed=%" PRIu64,
                 flusher_stream(flusher, insert->stream)->name, insert->code, held);
    if (flusher->parked.first == NULL) {
        err = flusher_answer_bury(flusher, insert, message);
        if (err == 0)
            return;
        flusher_answer_hold_parked(flusher, err);
    }
    /* Memory is bounded: from here on the stream itself waits, with this row. */
    if (flusher->parked_count >= PARKED_MAX) {
        flusher_keep(flusher, insert, true);
        return;
    }
    insert->message = strndup(message.data, message.len < MESSAGE_MAX ? message.len : MESSAGE_MAX);
    insert_list_push_back(&flusher->parked, insert);
    flusher_answer_count_parked(flusher, flusher->parked_count + 1);
}

void flusher_retry_parked(struct flusher *flusher, uint64_t now)
{
    if (flusher->parked.first == NULL || now < flusher->parked_at_ms)
        return;
    for (int i = 0; i < PARKED_AT_ONCE && flusher->parked.first != NULL; i++) {
        struct insert *insert = insert_list_pop(&flusher->parked);
        const char *text = insert->message != NULL ? insert->message : "";
        int err = flusher_answer_bury(flusher, insert, (struct slice){text, strlen(text)});
        if (err != 0) {
            insert_list_push_front(&flusher->parked, insert);
            flusher_answer_hold_parked(flusher, err);
            return;
        }
        flusher_answer_count_parked(flusher, flusher->parked_count - 1);
    }
    if (flusher->parked.first == NULL) {
        health_clear(flusher->parts.health, "dead_letter");
        log_info("no refused event is left in the journal");
    }
}

/* What passes by itself has not passed for long. */
static void flusher_answer_tell_retries(struct flusher *flusher, size_t stream,
                                        const struct insert_answer *answer)
{
    struct lane *lane = &flusher->lanes[stream];
    char key[HEALTH_KEY_MAX];

    snprintf(key, sizeof(key), "clickhouse.%s.retry", flusher_stream(flusher, stream)->name);
    lane->retries_told = answer != NULL;
    if (answer == NULL)
        health_clear(flusher->parts.health, key);
    else
        health_raise(flusher->parts.health, key, false,
                     "ClickHouse has put inserts off %" PRIu32
                     " times in a row (code %d, HTTP status %ld)",
                     lane->backoff.failures, flusher_answer_code_of(answer), answer->status);
}

/* The table has taken what was refused before, when its views were asked. */
static void flusher_answer_tell_view(struct flusher *flusher, const struct insert *insert)
{
    struct lane *lane = &flusher->lanes[insert->stream];
    const struct config_stream *of = flusher_stream(flusher, insert->stream);
    char key[HEALTH_KEY_MAX];
    uint64_t held;

    METRIC_ADD(flusher->counters, clickhouse_view_errors, 1);
    snprintf(key, sizeof(key), "clickhouse.%s.view", of->name);
    health_raise(
        flusher->parts.health, key, false,
        "a materialized view has refused inserts that table %s.%s has (code %d), and lacks "
        "all their rows",
        of->database, of->table, insert->code);
    if (log_limit_pass(&lane->view_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_error("materialized view lacks an insert that the table has stream=%s table=%s.%s "
                  "code=%d rows=%zu suppressed=%" PRIu64,
                  of->name, of->database, of->table, insert->code, insert->count, held);
}

static void flusher_answer_insert_done(struct flusher *flusher, struct insert *insert,
                                       uint64_t started_ns)
{
    struct lane *lane = &flusher->lanes[insert->stream];

    METRIC_OBSERVE_NS(flusher->counters, clickhouse_insert, clock_mono_ns() - started_ns);
    flusher_count_insert(flusher, insert->stream, insert->count);
    flusher_finish_records(flusher, insert->records, insert->count, RECORD_INSERTED);
    backoff_reset(&lane->backoff);
    lane->retry_at_ms = lane->pace_ms == 0 ? 0 : clock_mono_ms() + lane->pace_ms;
    lane->pace_ms -= (lane->pace_ms + PACE_SHRINK - 1) / PACE_SHRINK;
    flusher_answer_clear_lane(flusher, insert->stream);
    if (lane->retries_told)
        flusher_answer_tell_retries(flusher, insert->stream, NULL);
    if (insert->ignore_views && insert->view_blamed)
        flusher_answer_tell_view(flusher, insert);
    insert_settle(insert, true);
    flusher_answer_insert_end(flusher, insert);
    insert_destroy(insert);
}

/*
 * The server joins async inserts, and refuses them all for one row of somebody else's. So one whose
 * refusal decides over its rows goes again by itself: a single row, and one that may be in already.
 * That must go under its own token until it has been refused for its own sake; what is in then
 * proves it, since none of its rows is bad.
 */
static bool flusher_answer_may_be_anothers(const struct insert *insert)
{
    return insert->async && !insert->alone && (insert->uncertain || insert->count == 1);
}

/*
 * Whether a refused insert has to go again under its own token before it is judged. A refusal says
 * that nothing is in the table only if it is the table's own: the server may have joined an async
 * insert with somebody's bad row, and when a materialized view refuses a row the table has
 * committed them all.
 */
static bool flusher_answer_must_go_again(const struct flusher *flusher, struct insert *insert,
                                         const struct transfer *transfer)
{
    const bool view_blamed = insert_answer_blames_view(transfer->answer.body);
    const bool alone = flusher_answer_may_be_anothers(insert);
    const bool ignore_views =
        !insert->ignore_views && (flusher->lanes[insert->stream].views || view_blamed);

    if (!alone && !ignore_views)
        return false;
    insert->alone = insert->alone || alone;
    insert->ignore_views = insert->ignore_views || ignore_views;
    insert->view_blamed = view_blamed || !alone;
    insert->code = flusher_answer_code_of(&transfer->answer);
    return true;
}

/* Some row is at fault, or the rows are of too many partitions. */
static void flusher_answer_insert_refused(struct flusher *flusher, struct insert *insert,
                                          const struct transfer *transfer, enum insert_class class)
{
    struct lane *lane = &flusher->lanes[insert->stream];
    bool bad_row = class == INSERT_BAD_ROWS;
    uint64_t row;
    bool named = bad_row && insert_answer_row(transfer->answer.body, &row) && row < insert->count;

    /* ClickHouse works: it has judged. */
    backoff_reset(&lane->backoff);
    lane->retry_at_ms = 0;
    if (flusher_answer_must_go_again(flusher, insert, transfer)) {
        insert_list_push_front(&lane->waiting, insert);
        return;
    }
    insert_settle(insert, false);
    if (insert->count == 1)
        flusher_answer_refuse(flusher, insert, transfer);
    else if (flusher_cut(flusher, insert, bad_row, named ? (int64_t)row : -1) != 0)
        flusher_keep(flusher, insert, true);
}

/* Merges do not keep up: fewer and larger inserts from now on. */
static void flusher_answer_slow_down(struct flusher *flusher, struct lane *lane)
{
    const struct config *config = flusher_config(flusher);
    uint64_t pace = lane->pace_ms * 2;

    if (pace < config->clickhouse_retry_min_ms)
        pace = config->clickhouse_retry_min_ms;
    lane->pace_ms = pace < config->clickhouse_retry_max_ms ? pace : config->clickhouse_retry_max_ms;
}

/* True when ClickHouse, and not only something before it, has answered. */
static bool flusher_answer_has_answered(const struct insert_answer *answer)
{
    return !answer->transport_failed && (answer->status < 500 || answer->exception_code != 0 ||
                                         insert_answer_body_code(answer->body) != 0);
}

/* Nothing but time, or a human, can help. */
static void flusher_answer_insert_failed(struct flusher *flusher, struct insert *insert,
                                         const struct transfer *transfer, enum insert_class class)
{
    struct lane *lane = &flusher->lanes[insert->stream];
    const char *name = flusher_stream(flusher, insert->stream)->name;
    const struct insert_answer *answer = &transfer->answer;
    uint64_t now = clock_mono_ms();
    char message[HEALTH_MESSAGE_MAX];
    uint64_t held;

    if (class == INSERT_MISCONFIGURED) {
        flusher_answer_message_of(transfer, message);
        flusher_answer_raise_lane(flusher, insert->stream, LANE_FAULT_INSERT, message);
        if (log_limit_pass(&lane->misconfigured_limit, now, LOG_INTERVAL_MS, &held))
            log_error("insert refused, waiting for a human stream=%s code=%d status=%ld "
                      "message=\"%s\" suppressed=%" PRIu64,
                      name, answer->exception_code, answer->status, message, held);
    } else if (class == INSERT_UNKNOWN) {
        /* Not the message: it may quote an event. */
        snprintf(message, sizeof(message),
                 "inserts fail in a way that alloyd does not know (code %d, HTTP status %ld)",
                 flusher_answer_code_of(answer), answer->status);
        flusher_answer_raise_lane(flusher, insert->stream, LANE_FAULT_INSERT, message);
        if (log_limit_pass(&lane->unknown_limit, now, LOG_INTERVAL_MS, &held))
            log_error("insert failed in an unknown way stream=%s code=%d status=%ld "
                      "action=retry suppressed=%" PRIu64,
                      name, answer->exception_code, answer->status, held);
    } else if (log_limit_pass(&lane->retry_limit, now, LOG_INTERVAL_MS, &held)) {
        log_warn("insert failed stream=%s code=%d status=%ld error=\"%s\" rows=%zu action=retry "
                 "suppressed=%" PRIu64,
                 name, answer->exception_code, answer->status, transfer->error, insert->count,
                 held);
    }
    if (class == INSERT_RETRY && flusher_answer_code_of(answer) == CODE_TOO_MANY_PARTS)
        flusher_answer_slow_down(flusher, lane);
    insert->uncertain = true;
    flusher_keep(flusher, insert, class != INSERT_RETRY);
    if (class == INSERT_RETRY && flusher_answer_has_answered(answer) &&
        lane->backoff.failures >= RETRIES_QUIET)
        flusher_answer_tell_retries(flusher, insert->stream, answer);
    /* Whoever answers next may be another server: ask before the next new insert. */
    if (answer->transport_failed) {
        lane->probed = false;
        if (!lane->probing)
            lane->probe_at_ms = lane->retry_at_ms;
    }
}

static void flusher_answer_on_insert(struct flusher *flusher, struct transfer *transfer)
{
    struct insert *insert = transfer->insert;
    struct lane *lane = &flusher->lanes[insert->stream];
    const bool wait = flusher_config(flusher)->clickhouse_wait_for_async_insert;
    /* Some answers to async inserts never tell how many rows were written. */
    const bool counted = !insert->async || (wait && lane->counted);
    enum insert_class class =
        insert_answer_classify(&transfer->answer, counted ? insert->count : 0);

    /* Too long for a proxy, it may have gone in when the proxy's limit was higher. */
    if (insert_answer_too_long(&transfer->answer))
        class = insert->uncertain    ? INSERT_MISCONFIGURED
                : insert->count == 1 ? INSERT_BAD_ROWS
                                     : INSERT_SPLIT;
    else if (class == INSERT_SPLIT && insert->count == 1)
        class = INSERT_UNKNOWN;
    lane->inflight_count--;
    flusher->inflight_count--;
    flusher_answer_count_error(flusher, class);
    switch (class) {
    case INSERT_DONE:
        flusher_answer_insert_done(flusher, insert, transfer->started_ns);
        break;
    case INSERT_BAD_ROWS:
    case INSERT_SPLIT:
        flusher_answer_insert_refused(flusher, insert, transfer, class);
        break;
    case INSERT_RETRY:
    case INSERT_MISCONFIGURED:
    case INSERT_UNKNOWN:
        flusher_answer_insert_failed(flusher, insert, transfer, class);
        break;
    }
}

/* One thing about a table that an operator should know; text NULL: it is not so (any more). */
static void flusher_answer_tell_finding(struct flusher *flusher, size_t stream, const char *key,
                                        const char *text, bool news)
{
    const struct config_stream *of = flusher_stream(flusher, stream);

    if (text == NULL) {
        health_clear(flusher->parts.health, key);
        return;
    }
    health_raise(flusher->parts.health, key, false, "table %s.%s: %s", of->database, of->table,
                 text);
    if (news)
        log_warn("table is not as it should be stream=%s table=%s.%s reason=\"%s\"", of->name,
                 of->database, of->table, text);
}

/* Decides how to insert, given what the server said; probe NULL: nothing useful, for a reason. */
static void flusher_answer_decide(struct flusher *flusher, size_t stream,
                                  const struct flusher_probe *probe, const char *reason)
{
    const int mode = flusher_config(flusher)->clickhouse_async_insert;
    struct lane *lane = &flusher->lanes[stream];
    const struct config_stream *of = flusher_stream(flusher, stream);
    const bool exists = probe == NULL || probe->table_exists;
    const char *unsafe = probe == NULL ? reason : probe->async_unsafe;
    char now[FLUSHER_FINDINGS_MAX] = "version=unknown";
    char text[HEALTH_TEXT_MAX];
    char key[HEALTH_KEY_MAX];
    bool news;

    lane->async =
        mode == CONFIG_ASYNC_ON || (mode == CONFIG_ASYNC_AUTO && exists && unsafe == NULL);
    lane->counted = probe == NULL || probe->counts_async;
    lane->views = probe == NULL || probe->has_views;
    lane->probed = true;
    if (probe != NULL)
        snprintf(now, sizeof(now), "version=%s engine=%s partitioned=%s window=%s", probe->version,
                 probe->engine, probe->partitioned ? "yes" : "no", probe->window);
    news = strcmp(now, lane->findings) != 0;
    memcpy(lane->findings, now, sizeof(now));
    if (!exists)
        return; /* the lane's own condition says so */
    if (news)
        log_info("table looked at stream=%s table=%s.%s %s inserts=%s", of->name, of->database,
                 of->table, now, lane->async ? "async" : "sync");
    snprintf(key, sizeof(key), "clickhouse.%s.window", of->name);
    flusher_answer_tell_finding(
        flusher, stream, key,
        probe != NULL && probe->window_unset
            ? "no non_replicated_deduplication_window, so a retried insert can give rows "
              "twice"
            : NULL,
        news);
    snprintf(text, sizeof(text), "inserts are %s: %s",
             lane->async ? "async, and can lose or double rows" : "synchronous",
             unsafe == NULL ? "" : unsafe);
    snprintf(key, sizeof(key), "clickhouse.%s.async", of->name);
    flusher_answer_tell_finding(flusher, stream, key,
                                unsafe != NULL && mode != CONFIG_ASYNC_OFF ? text : NULL, news);
}

static void flusher_answer_on_probe_row(struct flusher *flusher, size_t stream,
                                        const struct flusher_probe *probe)
{
    const struct config *config = flusher_config(flusher);
    const struct config_stream *of = flusher_stream(flusher, stream);
    struct lane *lane = &flusher->lanes[stream];
    char text[HEALTH_MESSAGE_MAX];

    if (probe->table_exists && flusher->parts.table_identity != NULL)
        flusher->parts.table_identity(flusher->parts.arg, stream, probe->uuid);
    flusher_answer_decide(flusher, stream, probe, NULL);
    if (probe->table_exists) {
        backoff_reset(&lane->probe_backoff);
        if (lane->fault == LANE_FAULT_PROBE)
            flusher_answer_clear_lane(flusher, stream);
        return;
    }
    lane->probe_at_ms =
        clock_mono_ms() + backoff_next(&lane->probe_backoff, config->clickhouse_retry_min_ms,
                                       config->clickhouse_retry_max_ms, flusher_random(flusher));
    /* What an insert has said is better informed. */
    if (lane->fault == LANE_FAULT_INSERT)
        return;
    if (lane->fault == LANE_FAULT_NONE)
        log_error("table does not exist stream=%s table=%s.%s", of->name, of->database, of->table);
    snprintf(text, sizeof(text), "table %s.%s does not exist", of->database, of->table);
    flusher_answer_raise_lane(flusher, stream, LANE_FAULT_PROBE, text);
}

static void flusher_answer_on_probe(struct flusher *flusher, struct transfer *transfer)
{
    const size_t stream = transfer->stream;
    struct lane *lane = &flusher->lanes[stream];
    const struct config *config = flusher_config(flusher);
    struct flusher_probe probe;
    char message[HEALTH_MESSAGE_MAX];
    enum insert_class class = insert_answer_classify(&transfer->answer, 0);

    lane->probing = false;
    lane->probe_at_ms = clock_mono_ms() + PROBE_INTERVAL_MS;
    if (transfer->answer.status == 200 && transfer->answer.exception_code == 0 &&
        !transfer->answer.transport_failed && flusher_probe_read(transfer->answer.body, &probe)) {
        flusher_answer_on_probe_row(flusher, stream, &probe);
        return;
    }
    if (class == INSERT_RETRY && transfer->answer.status != 200) {
        lane->probe_at_ms = clock_mono_ms() +
                            backoff_next(&lane->probe_backoff, config->clickhouse_retry_min_ms,
                                         config->clickhouse_retry_max_ms, flusher_random(flusher));
        return;
    }
    /* It answers, but not to this question: no right to read system.tables, or a proxy between. */
    flusher_answer_message_of(transfer, message);
    if (class == INSERT_MISCONFIGURED && transfer->answer.exception_code != CODE_ACCESS_DENIED &&
        lane->fault != LANE_FAULT_INSERT)
        flusher_answer_raise_lane(flusher, stream, LANE_FAULT_PROBE, message);
    if (flusher->parts.table_identity != NULL)
        flusher->parts.table_identity(flusher->parts.arg, stream, "");
    flusher_answer_decide(flusher, stream, NULL, message);
}

void flusher_answer(struct flusher *flusher, struct transfer *transfer)
{
    char text[HEALTH_MESSAGE_MAX];

    flusher_answer_set_up(flusher, flusher_answer_has_answered(&transfer->answer),
                          flusher_answer_message_of(transfer, text));
    if (transfer->insert != NULL)
        flusher_answer_on_insert(flusher, transfer);
    else
        flusher_answer_on_probe(flusher, transfer);
}
