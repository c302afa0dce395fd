/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_ask.c - what ClickHouse tells of a stream's table, and what that decides.
 *
 * Every 30 s, and after a lost connection. Where async_insert = auto leaves it to the table how
 * rows are inserted, new inserts wait for the answer, but no longer than FRESH_WAIT_MS: then they
 * are synchronous, which is right for any table.
 *
 * Once for each version of the table an event is put beside its columns; while that finds something
 * the look is repeated, with an event of late.
 *
 * Runs on: flusher thread.
 * Owns: the lanes' facts.
 */
#define LOG_MODULE "flusher"

#include "flusher_ask.h"

#include <string.h>

#include "alloy/clock.h"
#include "flusher_tell.h"

#define PROBE_INTERVAL_MS 30000
#define COLUMNS_INTERVAL_MS 5000 /* while a finding about columns is told */
#define FRESH_WAIT_MS 2000
#define CODE_ACCESS_DENIED 497 /* to system.tables; inserts may be allowed all the same */

void flusher_ask_anew(struct flusher *flusher, struct lane *lane)
{
    const int mode = flusher_config(flusher)->clickhouse_async_insert;

    if (lane->facts_known || !lane->facts_read)
        lane->fresh_from_ms = mode == CONFIG_ASYNC_AUTO ? clock_mono_ms() + FRESH_WAIT_MS : 0;
    if (lane->facts_known || lane->lost_ns == 0)
        lane->lost_ns = clock_mono_ns();
    lane->facts_known = false;
    lane->async = mode == CONFIG_ASYNC_ON;
    if (!lane->probing)
        lane->probe_at_ms = lane->retry_at_ms;
}

static void flusher_ask_visit_all(void *arg, struct insert *insert)
{
    (void)arg;
    insert->due_ms = 0;
}

void flusher_ask_hurry(struct lane *lane)
{
    lane->retry_at_ms = 0;
    lane->canary_at_ms = 0;
    backoff_reset(&lane->backoff);
    backoff_reset(&lane->probe_backoff);
    lane_visit(lane, flusher_ask_visit_all, NULL);
}

void flusher_ask_renewed(struct flusher *flusher, struct lane *lane)
{
    lane->renewed_ns = clock_mono_ns();
    lane->facts_read = false;
    flusher_ask_hurry(lane);
    flusher_ask_anew(flusher, lane);
}

static void flusher_ask_visit(void *arg, struct insert *insert)
{
    (void)arg;
    if (insert->asks)
        insert->due_ms = 0;
    insert->asks = false;
}

/* What is to be told of a table that exists. */
static void flusher_ask_tell(struct flusher *flusher, struct lane *lane, const char *unsafe)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const struct table_facts *facts = lane->facts_read ? &lane->facts : NULL;
    const int mode = flusher_config(flusher)->clickhouse_async_insert;
    char now[sizeof(lane->findings)] = "version=unknown";
    char text[HEALTH_TEXT_MAX];
    bool news;

    if (facts != NULL)
        snprintf(now, sizeof(now), "version=%s engine=%s partitioned=%s window=%s", facts->version,
                 facts->engine, facts->partitioned ? "yes" : "no", facts->window);
    news = strcmp(now, lane->findings) != 0;
    memcpy(lane->findings, now, sizeof(now));
    if (facts != NULL && !facts->table_exists)
        return; /* the lane's own condition says so */
    if (news)
        log_info("table looked at stream=%s table=%s %s inserts=%s", of->name, of->table_text, now,
                 lane->async ? "async" : "sync");
    flusher_tell_finding(flusher, lane, "window", facts != NULL ? facts->doubles : NULL, news);
    snprintf(text, sizeof(text), "inserts are %s: %s",
             lane->async ? "async, and can lose or double rows" : "synchronous",
             unsafe == NULL ? "" : unsafe);
    flusher_tell_finding(flusher, lane, "async",
                         unsafe != NULL && mode != CONFIG_ASYNC_OFF ? text : NULL, news);
}

/* Decides how to insert. unsafe: why not async; NULL: that is safe. */
static void flusher_ask_decide(struct flusher *flusher, struct lane *lane, const char *unsafe)
{
    const int mode = flusher_config(flusher)->clickhouse_async_insert;
    const bool exists = !lane->facts_read || lane->facts.table_exists;

    lane->async =
        mode == CONFIG_ASYNC_ON || (mode == CONFIG_ASYNC_AUTO && exists && unsafe == NULL);
    lane->facts_known = true;
    lane->fresh_from_ms = 0;
    lane_visit(lane, flusher_ask_visit, NULL);
    flusher_ask_tell(flusher, lane, unsafe);
}

static void flusher_ask_take(struct flusher *flusher, struct lane *lane,
                             const struct table_facts *facts)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const struct lane_wait wait = flusher_wait(flusher);
    char text[LANE_MESSAGE_MAX];

    if (!lane->facts_read || strcmp(lane->facts.identity, facts->identity) != 0 ||
        lane->facts.modified_s != facts->modified_s)
        lane->version++;
    lane->facts = *facts;
    lane->facts_read = true;
    if (facts->table_exists && flusher->parts.table_identity != NULL)
        flusher->parts.table_identity(flusher->parts.arg, lane->stream, facts->identity);
    flusher_ask_decide(flusher, lane, facts->async_unsafe);
    lane->columns_due =
        facts->table_exists && (lane->columns_told || lane->columns_version != lane->version);
    if (facts->table_exists) {
        backoff_reset(&lane->probe_backoff);
        if (lane->fault == LANE_FAULT_PROBE)
            flusher_tell_fault(flusher, lane, LANE_FAULT_NONE, "");
        return;
    }
    lane->probe_at_ms =
        clock_mono_ms() + backoff_next(&lane->probe_backoff, wait.min_ms, wait.max_ms, wait.random);
    /* What an insert has said is better informed. */
    if (lane->fault == LANE_FAULT_INSERT)
        return;
    if (lane->fault == LANE_FAULT_NONE)
        log_error("table does not exist stream=%s table=%s", of->name, of->table_text);
    snprintf(text, sizeof(text), "table %s does not exist", of->table_text);
    flusher_tell_fault(flusher, lane, LANE_FAULT_PROBE, text);
}

/* Puts the sample beside the columns that an answer lists; none: there is nothing to tell. */
static void flusher_ask_compare(struct flusher *flusher, struct lane *lane, struct slice body)
{
    struct table_columns *columns = table_columns_read(body);
    char text[TABLE_FACTS_TEXT_MAX] = "";
    bool told;

    if (columns != NULL)
        table_facts_compare(columns, (struct slice){lane->sample, lane->sample_len}, text);
    free(columns);
    told = text[0] != '\0';
    /* Events differ: what the next one lacks is no news of the same table. */
    flusher_tell_finding(flusher, lane, "columns", told ? text : NULL,
                         !lane->columns_told || lane->columns_version != lane->version);
    lane_compared(lane, told);
    if (told && lane->probe_at_ms > clock_mono_ms() + COLUMNS_INTERVAL_MS)
        lane->probe_at_ms = clock_mono_ms() + COLUMNS_INTERVAL_MS;
}

void flusher_ask_answered(struct flusher *flusher, const struct transfer *transfer)
{
    struct lane *lane = &flusher->lanes[transfer->stream];
    const struct lane_wait wait = flusher_wait(flusher);
    const struct insert_reading reading = insert_answer_read(&transfer->answer, 0);
    struct table_facts facts;
    char message[LANE_MESSAGE_MAX];

    lane->probing = false;
    if (transfer->started_ns < lane->renewed_ns) {
        lane->probe_at_ms = 0;
        return;
    }
    if (transfer->kind == TRANSFER_COLUMNS) {
        if (transfer_is_answered(transfer))
            flusher_ask_compare(flusher, lane, transfer->answer.body);
        return;
    }
    lane->probe_at_ms = clock_mono_ms() + PROBE_INTERVAL_MS;
    if (transfer_is_answered(transfer) && table_facts_read(transfer->answer.body, &facts)) {
        lane->facts_ns = transfer->started_ns;
        flusher_ask_take(flusher, lane, &facts);
        return;
    }
    if (reading.class == INSERT_RETRY && transfer->answer.status != 200) {
        lane->probe_at_ms = clock_mono_ms() + backoff_next(&lane->probe_backoff, wait.min_ms,
                                                           wait.max_ms, wait.random);
        return;
    }
    /* It answers, but not to this question: no right to read system.tables, or a proxy between. */
    lane->facts_read = false;
    flusher_tell_finding(flusher, lane, "columns", NULL, false);
    lane_compared(lane, false);
    flusher_tell_words(transfer, message);
    if (reading.class == INSERT_MISCONFIGURED && reading.code != CODE_ACCESS_DENIED) {
        if (lane->fault != LANE_FAULT_INSERT)
            flusher_tell_fault(flusher, lane, LANE_FAULT_PROBE, message);
    } else if (flusher->parts.table_identity != NULL) {
        /* Nobody will tell, and whoever keeps events until he knows would do so for ever. */
        flusher->parts.table_identity(flusher->parts.arg, lane->stream, "");
    }
    flusher_ask_decide(flusher, lane, message);
}
