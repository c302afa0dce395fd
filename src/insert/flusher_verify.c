/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_verify.c - whether inserts that were acknowledged while in doubt are in the table.
 *
 * A plain MergeTree writes an insert's token to its log before it commits the part. A kill in
 * between leaves the token without the rows, and our retry is then dropped, and answered as a
 * success. So an insert that was in doubt is not finished before one of two things is known: that
 * the server is still the one it was first sent to, or that its rows are in the table. Rows that
 * are missing go again under a new token, with a new insert id in their records.
 *
 * To take rows for missing that are there would double them. So an answer is believed only if the
 * table shows as many rows as it has (no policy or filter hides any), if it could tell the ids
 * apart, and if it says the same twice, with a while in between: a try that is still under way may
 * have written its token only. What cannot be told at all counts as done, as it does everywhere
 * else.
 *
 * Where the rows of an insert bear its token (stream.proof), the table is asked also before an
 * insert in doubt goes again: ClickHouse may have forgotten its token, and would take its rows once
 * more. What is there is done, what is not goes again under the same token, which costs nothing if
 * an earlier try is still under way. A count of rows with the token answers for the whole insert;
 * where it is there in part, or only some of its rows are left, its ids are looked for among them.
 *
 * Without stream.proof nobody asks replicas: their tables are replicated ones (sites.h), which take
 * a token together with its part. With it all is asked of the replica that said that it is not
 * behind.
 *
 * A kill of alloyd changes nothing: until rows are known to be there their records are LIVE and
 * bear the old id, or some of them the new one, and the next life sends both inserts again, and
 * asks again.
 *
 * Runs on: flusher thread.
 * Owns: what lanes have UNVERIFIED.
 */
#define LOG_MODULE "flusher"

#include "flusher_verify.h"

#include <inttypes.h>

#include "alloy/clock.h"
#include "flusher_act.h"
#include "insert_request.h"

#define CLOCK_MARGIN_S 600   /* by which the server's clock may have been set since */
#define AGE_MAX_S 1000000000 /* some 30 years */
#define STARTED_MARGIN_NS (2 * CLOCK_NS_PER_S)
#define MISSING_WAIT_MS 1000
#define TRIES_MAX 8
#define DOUBLINGS_MAX 5 /* of clickhouse.timeout */

uint64_t flusher_verify_due_ms(const struct lane *lane)
{
    return lane->verify.asking || lane->verify.waiting.first == NULL ? UINT64_MAX
                                                                     : lane->verify.due_ms;
}

/* The first of those that wait has changed, or the server may have. */
static void flusher_verify_anew(struct lane_verify *verify, bool other)
{
    verify->traced = verify->counted = verify->tokenless = false;
    if (!other)
        return;
    verify->missed_ns = 0;
    verify->tries = 0;
    verify->due_ms = 0;
    backoff_reset(&verify->backoff);
}

/* An insert, the first of those that wait and taken out as in what follows, goes again under its
 * token. */
static void flusher_verify_resume(struct flusher *flusher, struct lane *lane, struct insert *insert)
{
    if (insert->state == INSERT_UNVERIFIED)
        insert_move(insert, INSERT_PUT_OFF);
    flusher_act_resume(flusher, insert);
    flusher_verify_anew(&lane->verify, true);
}

/* All its rows are there. */
static void flusher_verify_found(struct flusher *flusher, struct lane *lane, struct insert *insert)
{
    if (insert->acknowledged)
        flusher_act_finish(flusher, insert);
    else
        flusher_act_found(flusher, insert);
    flusher_verify_anew(&lane->verify, true);
}

/* Nobody knows: what is acknowledged is taken for done, what is not goes again. why NULL: that is
 * as it must be with this table. */
static void flusher_verify_give_up(struct flusher *flusher, struct lane *lane,
                                   struct insert *insert, const char *why)
{
    uint64_t held;

    if (why != NULL &&
        log_limit_pass(&lane->verify.untold_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held)) {
        if (insert->acknowledged)
            log_warn("cannot tell whether a restart of ClickHouse lost an insert that it "
                     "acknowledges stream=%s rows=%zu reason=\"%s\" action=none "
                     "suppressed=%" PRIu64,
                     flusher_stream(flusher, lane)->name, insert->count, why, held);
        else
            log_warn("cannot tell whether an insert in doubt is there stream=%s rows=%zu "
                     "reason=\"%s\" action=insert_again suppressed=%" PRIu64,
                     flusher_stream(flusher, lane)->name, insert->count, why, held);
    }
    if (insert->acknowledged)
        flusher_verify_found(flusher, lane, insert);
    else
        flusher_verify_resume(flusher, lane, insert);
}

/* Rows of it, all but the first so many, are not there. */
static void flusher_verify_lost(struct flusher *flusher, struct lane *lane, struct insert *insert,
                                size_t present)
{
    uint64_t held;

    METRIC_ADD(flusher->counters, clickhouse_lost_inserts, 1);
    if (log_limit_pass(&lane->verify.lost_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
        log_warn(
            "ClickHouse has lost an insert whose token it knows stream=%s rows=%zu missing=%zu "
            "action=insert_again suppressed=%" PRIu64,
            flusher_stream(flusher, lane)->name, insert->count, insert->count - present, held);
    if (present > 0)
        flusher_act_inserted(flusher, insert->stream, insert_records(insert), present);
    insert_renew(insert, present);
    insert_list_push_front(&lane->waiting, insert);
    flusher_verify_anew(&lane->verify, true);
}

/* Of an insert that is not acknowledged all but the first so many rows are missing. Of a partition
 * the token is known or it is not, whichever rows come with it: so these go again under the token
 * that they had, and a try of before that is still under way doubles none. */
static void flusher_verify_trim(struct flusher *flusher, struct lane *lane, struct insert *insert,
                                size_t present)
{
    if (present > 0) {
        flusher_act_inserted(flusher, insert->stream, insert_records(insert), present);
        insert_trim(insert, present);
    }
    flusher_verify_resume(flusher, lane, insert);
}

/* Since when the table may have it, in seconds. */
static uint64_t flusher_verify_age_s(const struct insert *insert)
{
    const int64_t age_s =
        ((int64_t)clock_mono_ns() - insert->sent_ns) / (int64_t)CLOCK_NS_PER_S + CLOCK_MARGIN_S;

    return age_s < AGE_MAX_S ? (uint64_t)age_s : AGE_MAX_S;
}

/* The table that an insert went to. */
static const struct config_stream *flusher_verify_table(const struct flusher *flusher,
                                                        const struct lane *lane,
                                                        const struct insert *insert)
{
    return insert != NULL && insert->to != NULL ? insert->to : flusher_stream(flusher, lane);
}

/* The insert's token, if its rows bear it in a column of the table; else NULL. */
static const char *flusher_verify_token(const struct flusher *flusher, const struct lane *lane,
                                        const struct insert *insert, char out[INSERT_TOKEN_MAX])
{
    if ((insert->id & INSERT_ID_PROOF) == 0 ||
        flusher_verify_table(flusher, lane, insert)->proof == NULL)
        return NULL;
    insert_request_token(out, journal_instance_id(flusher->parts.journal), insert->id);
    return out;
}

bool flusher_verify_first(struct flusher *flusher, struct lane *lane, struct insert *insert)
{
    char text[INSERT_TOKEN_MAX];

    if (!insert->doubt || insert->asked || !insert->stamped ||
        flusher_verify_token(flusher, lane, insert, text) == NULL)
        return false;
    insert->acknowledged = false;
    insert_move(insert, INSERT_UNVERIFIED);
    insert_list_push_back(&lane->verify.waiting, insert);
    return true;
}

bool flusher_verify_next(struct flusher *flusher, struct lane *lane, uint64_t now,
                         struct flusher_posting *posting)
{
    const struct config *config = flusher_config(flusher);
    struct lane_verify *verify = &lane->verify;
    struct insert *insert = verify->waiting.first;
    const struct config_stream *of;
    char text[INSERT_TOKEN_MAX];
    const char *token;

    if (now < flusher_verify_due_ms(lane))
        return false;
    of = flusher_verify_table(flusher, lane, insert);
    token = flusher_verify_token(flusher, lane, insert, text);
    verify->asking = true;
    if (!verify->traced) {
        *posting = (struct flusher_posting){
            .kind = TRANSFER_TRACE,
            .url = insert_request_trace_url(of, flusher_verify_age_s(insert), token),
            .endpoint = ENDPOINTS_NONE,
            .doublings = insert->doublings,
            .body_max = TRANSFER_BODY_LONG};
        return true;
    }
    if (token != NULL && verify->trace.proves && !verify->counted) {
        *posting = (struct flusher_posting){
            .kind = TRANSFER_COUNT,
            .url = insert_request_count_url(of, verify->trace.since_s, token),
            .endpoint = verify->endpoint,
            .doublings = insert->doublings,
            .body_max = TRANSFER_BODY_MAX};
        return true;
    }
    *posting = (struct flusher_posting){
        .kind = TRANSFER_ROWS,
        .url = insert_request_rows_url(config, of, verify->trace.since_s, verify->trace.structure,
                                       verify->counted && !verify->tokenless ? token : NULL),
        .endpoint = verify->endpoint,
        .insert = insert_list_pop(&verify->waiting),
        .body_max = TRANSFER_BODY_MAX + insert->count};
    return true;
}

/* Puts it back, to be asked about again after a while. */
static void flusher_verify_put_off(struct flusher *flusher, struct lane *lane,
                                   struct insert *insert)
{
    const struct lane_wait wait = flusher_wait(flusher);
    struct lane_verify *verify = &lane->verify;

    flusher_verify_anew(verify, false);
    verify->due_ms =
        clock_mono_ms() + backoff_next(&verify->backoff, wait.min_ms, wait.max_ms, wait.random);
    insert_list_push_front(&verify->waiting, insert);
}

/* There was an answer, and it tells nothing; others may come. */
static void flusher_verify_try_again(struct flusher *flusher, struct lane *lane,
                                     struct insert *insert, const char *why)
{
    if (++lane->verify.tries >= TRIES_MAX)
        flusher_verify_give_up(flusher, lane, insert, why);
    else
        flusher_verify_put_off(flusher, lane, insert);
}

void flusher_verify_unasked(struct flusher *flusher, struct lane *lane, struct insert *insert)
{
    lane->verify.asking = false;
    flusher_verify_put_off(flusher, lane,
                           insert != NULL ? insert : insert_list_pop(&lane->verify.waiting));
}

/* It was not answered as it should be. */
static void flusher_verify_failed(struct flusher *flusher, struct lane *lane,
                                  struct transfer *transfer, struct insert *insert)
{
    const struct config_stream *of = flusher_stream(flusher, lane);
    const struct insert_reading reading = insert_answer_read(&transfer->answer, 0);
    char why[64];

    /* Not its words: they may quote an event. */
    snprintf(why, sizeof(why), "code %d, HTTP status %ld", reading.code, transfer->answer.status);
    if (transfer->answer.timed_out) {
        /* No answer at all: behind a partition there is none for as long as it lasts, and to insert
         * without having asked would double what is there. */
        if (flusher_act_needs_longer(flusher, transfer, ++lane->verify.silences) &&
            insert->doublings < DOUBLINGS_MAX)
            insert->doublings++;
        flusher_verify_put_off(flusher, lane, insert);
    } else if (transfer->answer.transport_failed ||
               (reading.code == 0 && transfer->answer.status >= 500) ||
               insert_answer_lacks_table(reading.code, transfer->answer.body, of->database,
                                         of->table)) {
        flusher_verify_put_off(flusher, lane, insert);
    } else if (reading.code == 0 || reading.class == INSERT_RETRY) {
        flusher_verify_try_again(flusher, lane, insert, why);
    } else {
        flusher_verify_give_up(flusher, lane, insert, why);
    }
}

/* Whether the server runs since before the insert was first sent. */
static bool flusher_verify_same_server(const struct verify_trace *trace,
                                       const struct insert *insert)
{
    const int64_t started_ns =
        (int64_t)clock_mono_ns() - (int64_t)(trace->uptime_s * CLOCK_NS_PER_S);

    return started_ns + (int64_t)STARTED_MARGIN_NS < insert->sent_ns;
}

/* The table has been asked how it stands, about the first of those that wait. */
static void flusher_verify_trace(struct flusher *flusher, struct lane *lane,
                                 struct transfer *transfer)
{
    struct lane_verify *verify = &lane->verify;
    struct insert *insert = verify->waiting.first;
    struct verify_trace *trace = &verify->trace;
    char text[INSERT_TOKEN_MAX];
    const bool token = flusher_verify_token(flusher, lane, insert, text) != NULL;

    if (!transfer_is_answered(transfer) ||
        !verify_answer_trace(transfer->answer.body, flusher_verify_table(flusher, lane, insert),
                             token, trace)) {
        flusher_verify_failed(flusher, lane, transfer, insert_list_pop(&verify->waiting));
        return;
    }
    if (insert->acknowledged && flusher_verify_same_server(trace, insert))
        flusher_verify_found(flusher, lane, insert_list_pop(&verify->waiting));
    else if (!trace->table_exists)
        flusher_verify_put_off(flusher, lane, insert_list_pop(&verify->waiting));
    else if (!trace->proves && (!insert->acknowledged || !trace->tells))
        flusher_verify_give_up(flusher, lane, insert_list_pop(&verify->waiting),
                               insert->acknowledged ? NULL : "the column of its token is gone");
    else
        /* The rest is asked there: another replica may lag behind. After a reload it may be gone.
         */
        verify->traced = (verify->endpoint = transfer->endpoint) != ENDPOINTS_NONE;
}

/* Rows of it are missing: asks once more after a while, since another try may be under way, and be
 * between its token and its part. False: that has been done. */
static bool flusher_verify_wait(struct lane *lane, struct insert *insert)
{
    struct lane_verify *verify = &lane->verify;
    const uint64_t now_ns = clock_mono_ns();

    if (verify->missed_ns != 0 && now_ns - verify->missed_ns >= MISSING_WAIT_MS * CLOCK_NS_PER_MS)
        return false;
    if (verify->missed_ns == 0)
        verify->missed_ns = now_ns;
    flusher_verify_anew(verify, false);
    verify->due_ms = clock_mono_ms() + MISSING_WAIT_MS;
    insert_list_push_front(&verify->waiting, insert);
    return true;
}

/* No row in the table has the token of an insert, which is taken out. */
static void flusher_verify_none(struct flusher *flusher, struct lane *lane, struct insert *insert)
{
    if (!insert->acknowledged)
        flusher_verify_resume(flusher, lane, insert);
    else if (!flusher_verify_wait(lane, insert))
        flusher_verify_lost(flusher, lane, insert, 0);
}

/* The table has been asked for rows with the token of the first of those that wait. */
static void flusher_verify_count(struct flusher *flusher, struct lane *lane,
                                 struct transfer *transfer)
{
    struct lane_verify *verify = &lane->verify;
    const struct verify_trace *trace = &verify->trace;
    struct insert *insert = insert_list_pop(&verify->waiting);
    uint64_t shown, found;

    if (!transfer_is_answered(transfer) ||
        !verify_answer_count(transfer->answer.body, &shown, &found)) {
        flusher_verify_failed(flusher, lane, transfer, insert);
    } else if (found >= insert->count && (!insert->partial || !trace->ids)) {
        flusher_verify_found(flusher, lane, insert);
    } else if (shown < trace->rows) {
        flusher_verify_try_again(flusher, lane, insert, "the table does not show all its rows");
    } else if (trace->busy > 0 && insert->acknowledged) {
        flusher_verify_put_off(flusher, lane, insert);
    } else if (trace->busy > 0) {
        flusher_verify_try_again(flusher, lane, insert, "it is still under way");
    } else if (trace->behind > 0) {
        flusher_verify_try_again(flusher, lane, insert, "this replica lacks what others have");
    } else if (found == 0 && (!insert->acknowledged || !trace->ids)) {
        flusher_verify_none(flusher, lane, insert);
    } else if (!trace->ids) {
        flusher_verify_give_up(flusher, lane, insert,
                               "it is there in part, and no columns tell its rows by their id");
    } else {
        /* The token is known and no row has it: they may be there without, if the column had
         * another default for a while. */
        verify->tokenless = found == 0;
        verify->counted = true;
        insert_list_push_front(&verify->waiting, insert);
    }
}

/* The table has been asked for rows. */
static void flusher_verify_rows(struct flusher *flusher, struct lane *lane,
                                struct transfer *transfer)
{
    struct lane_verify *verify = &lane->verify;
    struct insert *insert = transfer->insert;
    struct verify_rows rows;
    size_t missing = 0;

    if (!transfer_is_answered(transfer) ||
        !verify_answer_rows(transfer->answer.body, insert->count, &rows)) {
        flusher_verify_failed(flusher, lane, transfer, insert);
        return;
    }
    for (size_t i = 0; i < insert->count; i++)
        missing += rows.bits[i] == '0';
    if (missing == 0)
        flusher_verify_found(flusher, lane, insert);
    else if (rows.shown < verify->trace.rows)
        flusher_verify_try_again(flusher, lane, insert, "the table does not show all its rows");
    else if (rows.distinct != insert->count)
        flusher_verify_give_up(flusher, lane, insert, "ids are the same to the table");
    else if (!insert->acknowledged)
        flusher_verify_trim(flusher, lane, insert, insert_order_marked(insert, rows.bits));
    else if (!flusher_verify_wait(lane, insert))
        flusher_verify_lost(flusher, lane, insert, insert_order_marked(insert, rows.bits));
}

void flusher_verify_answered(struct flusher *flusher, struct transfer *transfer)
{
    struct lane *lane = flusher_lane_of(flusher, transfer);

    lane->verify.asking = false;
    if (transfer->kind == TRANSFER_TRACE)
        flusher_verify_trace(flusher, lane, transfer);
    else if (transfer->kind == TRANSFER_COUNT)
        flusher_verify_count(flusher, lane, transfer);
    else
        flusher_verify_rows(flusher, lane, transfer);
}
