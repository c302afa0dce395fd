/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_act.c - acts on answers to inserts, as insert_judge.c judges them: finishes the rows,
 * sends them again, takes them apart, keeps them, or gives them to the burial.
 *
 * Runs on: flusher thread.
 * Owns: nothing of its own; see flusher.c.
 */
#include "flusher_act.h"

#include <errno.h>
#include <string.h>

#include "alloy/clock.h"
#include "flusher_route.h"
#include "flusher_tell.h"
#include "insert_judge.h"
#include "alloy/kill_point.h"

#define MESSAGE_MAX 1024
#define DOUBLINGS_MAX 5 /* most doublings of clickhouse.timeout */
#define TRIES_BLIND 4   /* tries before we double it although the server answered nothing */
#define FACTS_WAIT_MS 2000
#define CODE_TOO_MANY_PARTS 252

void flusher_act_inserted(struct flusher *flusher, size_t stream, struct record *const *records,
                          size_t n)
{
    METRIC_STREAM_ADD(flusher->counters, stream, inserted, n);
    METRIC_ADD(flusher->counters, clickhouse_inserts, 1);
    METRIC_GAUGE_SET(flusher->parts.metrics, clickhouse_last_insert_ms, (int64_t)clock_mono_ms());
    METRIC_LANE_SET(flusher->parts.metrics, stream, last_insert_ms, (int64_t)clock_mono_ms());
    KILL_POINT("insert_answered");
    journal_finish(flusher->parts.journal, records, n, RECORD_INSERTED);
    KILL_POINT("insert_finished");
    /* release: pairs with the acquire in flusher_pending() */
    atomic_fetch_sub_explicit(&flusher->pending, n, memory_order_release);
}

/* Puts the insert where it waits for its next try. */
static void flusher_act_queue(struct lane *lane, struct insert *insert, bool first)
{
    if (insert->aside && first)
        apart_add_likely(&lane->apart, insert);
    else if (insert->aside)
        apart_put_off(&lane->apart, insert);
    else if (first)
        insert_list_push_front(&lane->waiting, insert);
    else
        insert_list_push_back(&lane->waiting, insert);
}

/* Notes that an insert that ran out of time is now settled. */
static void flusher_act_settle_slow(struct lane *lane, struct insert *insert)
{
    if (insert->tries_slow == 0)
        return;
    insert->tries_slow = 0;
    insert->doublings = 0;
    lane->slow_count--;
}

void flusher_act_bury(struct flusher *flusher, struct lane *lane)
{
    struct insert_list *list = &lane->apart.burying;

    while (list->first != NULL) {
        struct insert *insert = list->first;
        const char *text = insert->message != NULL ? insert->message : lane->refusal;
        /* From the end, so that the rows which the burial does not take yet are still one
         * insert. */
        while (insert->count > 0 &&
               burial_submit(flusher->burial, insert_records(insert)[insert->count - 1],
                             insert->code, (struct slice){text, strlen(text)}) == 0)
            insert->count--;
        if (insert->count > 0)
            return;
        insert_list_pop(list);
        insert_move(insert, INSERT_ENDED);
        insert_destroy(insert);
    }
}

/* Whether no insert of the lane is left that might go in. */
static bool flusher_act_tried(const struct lane *lane)
{
    const struct apart *apart = &lane->apart;

    return apart->out == 0 && lane->out == 0 && lane->waiting.first == NULL &&
           apart->likely.first == NULL && apart->suspects.first == NULL &&
           apart->again.first == NULL;
}

/* The table takes no row, or nothing is left to try: we keep what it has refused. */
static void flusher_act_give_up(struct flusher *flusher, struct lane *lane)
{
    const struct apart *apart = &lane->apart;
    const bool tried = flusher_act_tried(lane);

    if (lane->state == LANE_REFUSES ||
        (apart->refused_alone < APART_GIVEN_UP &&
         !(tried && apart->kept.first != NULL && apart->refused_alone >= APART_TRUSTED)))
        return;
    lane_move(lane, LANE_REFUSES);
    lane->canary_at_ms = clock_mono_ms() + flusher_config(flusher)->clickhouse_retry_max_ms;
    lane->fresh_from_ms = 0;
    flusher_tell_kept(flusher, lane);
}

/* When the latest event came that we know an earlier life to have inserted; 0: none. */
static uint64_t flusher_act_inserted_ms(const struct flusher *flusher, const struct lane *lane)
{
    /* Of several tables nobody knows which of them took it. */
    return flusher->shards > 1
               ? 0
               : atomic_load_explicit(&flusher->inserted_ms[lane->stream], memory_order_relaxed);
}

/* Since when the table, as far as we know it, takes rows, in this life or from an earlier one on;
 * 0: it does not. */
static uint64_t flusher_act_takes_since(const struct flusher *flusher, const struct lane *lane)
{
    if (lane->state == LANE_REFUSES)
        return 0;
    if (lane->facts_read && lane->facts.modified_s != 0 &&
        flusher_act_inserted_ms(flusher, lane) / 1000 > (uint64_t)lane->facts.modified_s)
        return 1;
    return lane_takes_rows(lane) ? lane->takes_since_ns : 0;
}

void flusher_act_review(struct flusher *flusher, struct lane *lane)
{
    uint64_t since_ns;

    if (lane->apart.kept.first == NULL)
        return;
    since_ns = flusher_act_takes_since(flusher, lane);
    apart_review(&lane->apart,
                 &(struct apart_proof){
                     .taken_ns = lane->taken_ns,
                     .checked_ns = since_ns != 0 && lane->facts_read && lane->facts.modified_s != 0
                                       ? lane->facts_ns
                                       : 0,
                     .takes_since_ns = since_ns,
                     .all_tried = lane->batches == NULL && flusher_act_tried(lane)});
    flusher_act_bury(flusher, lane);
    flusher_tell_kept(flusher, lane);
}

void flusher_act_bury_all(struct flusher *flusher, struct lane *lane)
{
    /* If the table refuses every row, no further try can tell good rows from bad: bury the untried
     * ones too. */
    apart_bury(&lane->apart, lane->state == LANE_REFUSES);
    lane->canary_at_ms = 0;
    flusher_act_bury(flusher, lane);
    flusher_tell_kept(flusher, lane);
}

/* How long an insert waits that was refused while its lane goes on. */
static uint64_t flusher_act_pause(const struct insert *insert, const struct lane_wait *wait)
{
    const uint64_t pause = wait->min_ms << (insert->refusals < 10 ? insert->refusals : 10);

    return pause < wait->max_ms ? pause : wait->max_ms;
}

void flusher_act_finish(struct flusher *flusher, struct insert *insert)
{
    flusher_act_inserted(flusher, insert->stream, insert_records(insert), insert->count);
    insert_move(insert, INSERT_ENDED);
    insert_destroy(insert);
}

/* Whether an acknowledged insert may be no more than a token that the table knows. */
static bool flusher_act_may_be_lost(const struct lane *lane, const struct insert *insert)
{
    if (!insert->doubt)
        return false;
    /* Of a table that cannot be asked about nothing can be told; of one that was not yet, perhaps.
     */
    if (!lane->facts_read)
        return !lane->facts_known;
    return !lane->facts.table_exists || lane->facts.forgets_rows;
}

static void flusher_act_done(struct flusher *flusher, struct lane *lane, struct insert *insert,
                             uint64_t started_ns)
{
    const uint64_t took_ns = clock_mono_ns() - started_ns;
    const struct lane_wait wait = flusher_wait(flusher);

    flusher_tell_insert(flusher, insert, took_ns);
    flusher_act_settle_slow(lane, insert);
    lane_grow(lane, insert, took_ns / 1000000, flusher_config(flusher)->clickhouse_timeout_ms);
    lane_succeed(lane, insert, started_ns);
    if (insert->ignore_views && insert->view_blamed)
        flusher_tell_view(flusher, lane, insert);
    flusher_tell_success(flusher, lane);
    /* The table takes rows again: what it refused need not wait for a human. */
    for (struct insert *other = lane->waiting.first; other != NULL; other = other->next) {
        const uint64_t due_ms = clock_mono_ms() + flusher_act_pause(other, &wait);
        if (other->due_ms > due_ms)
            other->due_ms = due_ms;
    }
    insert_settle(insert, true);
    if (flusher_act_may_be_lost(lane, insert)) {
        insert->acknowledged = true;
        insert_move(insert, INSERT_UNVERIFIED);
        insert_list_push_back(&lane->verify.waiting, insert);
    } else {
        flusher_act_finish(flusher, insert);
    }
    flusher_act_review(flusher, lane);
}

void flusher_act_found(struct flusher *flusher, struct insert *insert)
{
    struct lane *lane = flusher_lane(flusher, insert->stream, insert->shard);

    METRIC_ADD(flusher->counters, clickhouse_proven_inserts, 1);
    flusher_act_settle_slow(lane, insert);
    lane_judged(lane);
    flusher_tell_found(flusher, lane, insert);
    flusher_act_finish(flusher, insert);
    flusher_act_review(flusher, lane);
}

void flusher_act_resume(struct flusher *flusher, struct insert *insert)
{
    insert->asked = true;
    insert->due_ms = 0;
    flusher_act_queue(flusher_lane(flusher, insert->stream, insert->shard), insert, true);
}

bool flusher_act_needs_longer(const struct flusher *flusher, const struct transfer *transfer,
                              uint32_t tries)
{
    const uint64_t answered_ns = transfer->endpoint == ENDPOINTS_NONE
                                     ? flusher->answered_ns
                                     : flusher->route.endpoints.at[transfer->endpoint].answered_ns;

    return answered_ns > transfer->started_ns || tries % TRIES_BLIND == 0;
}

/* An insert ran out of time: gives it more, beside the lane, and makes new inserts smaller. */
static void flusher_act_slow(struct flusher *flusher, struct lane *lane,
                             const struct transfer *transfer)
{
    struct insert *insert = transfer->insert;

    if (insert->tries_slow++ == 0)
        lane->slow_count++;
    if (flusher_act_needs_longer(flusher, transfer, insert->tries_slow) &&
        insert->doublings < DOUBLINGS_MAX)
        insert->doublings++;
    lane->slow_ns = insert->answered_ns;
    insert->unhurried = !transfer->answer.timed_out;
    insert->aside = true;
    lane_shrink(lane, insert, 2);
    flusher_tell_slow(flusher, lane, insert);
}

/* Only time, or a human, can help: the same rows go again under the same token. */
static void flusher_act_again(struct flusher *flusher, struct lane *lane,
                              const struct transfer *transfer, const struct insert_reading *reading)
{
    struct insert *insert = transfer->insert;
    struct lane_wait wait = flusher_wait(flusher);
    const bool slow = reading->too_large && !reading->definite;
    const bool stuck = (reading->class == INSERT_UNKNOWN && !reading->definite) ||
                       reading->class == INSERT_MISCONFIGURED || reading->class == INSERT_SPLIT;
    const uint64_t now = clock_mono_ms();
    const uint64_t asked = transfer->answer.retry_after_ms;

    insert->doubt = insert->doubt || (!reading->definite && !transfer->answer.unsent);
    insert_move(insert, INSERT_PUT_OFF);
    lane->answers =
        !transfer->answer.transport_failed && (reading->code != 0 || transfer->answer.status < 500);
    insert->due_ms = 0;
    if (asked > wait.min_ms)
        wait.min_ms = asked < wait.max_ms ? asked : wait.max_ms;
    if (flusher_route_elsewhere(flusher, transfer)) {
        /* It is the endpoint's fault, and another takes the insert at once. */
        insert_settle(insert, false);
        flusher_act_queue(lane, insert, !insert->aside);
        return;
    }
    if (slow) {
        flusher_act_slow(flusher, lane, transfer);
        insert->due_ms = now + wait.min_ms;
    } else if (stuck) {
        /* Only this insert waits; the lane waits once this has happened to a second insert too. */
        insert->due_ms = now + wait.max_ms - wait.random % (wait.max_ms / 2 + 1);
        flusher_tell_insert_fault(flusher, lane, transfer, reading);
        if (!insert->aside && lane->failed_id != 0 && lane->failed_id != insert->id)
            lane_back_off(lane, &wait, true);
        lane->failed_id = insert->id;
    } else if (insert->aside && lane->answers) {
        insert->due_ms = now + flusher_act_pause(insert, &wait);
    } else {
        lane_back_off(lane, &wait, false);
        if (insert->aside)
            insert->due_ms = lane->retry_at_ms;
    }
    if (reading->class == INSERT_RETRY && reading->code == CODE_TOO_MANY_PARTS)
        lane_slow_down(lane, &wait);
    lane->fresh_turn = !lane->fresh_turn;
    if (!stuck && !slow) {
        lane->retries += lane->answers;
        flusher_tell_retry(flusher, lane, transfer, reading);
    }
    insert_settle(insert, false);
    flusher_act_queue(lane, insert, false);
}

void flusher_act_unsent(struct flusher *flusher, struct insert *insert)
{
    struct lane *lane = flusher_lane(flusher, insert->stream, insert->shard);
    const struct lane_wait wait = flusher_wait(flusher);

    if (insert->state == INSERT_FROZEN)
        insert_move(insert, INSERT_PUT_OFF);
    insert->due_ms = clock_mono_ms() + wait.max_ms;
    flusher_act_queue(lane, insert, false);
    lane_back_off(lane, &wait, true);
}

static void flusher_act_note_refusal(struct lane *lane, const struct transfer *transfer)
{
    lane->refusal_code = transfer->insert->code;
    lane->refusal_status = transfer->answer.status;
    flusher_tell_words(transfer, lane->refusal);
}

/* A row that was refused alone. */
static void flusher_act_refused_alone(struct flusher *flusher, struct lane *lane,
                                      const struct transfer *transfer, bool bury)
{
    struct insert *insert = transfer->insert;
    const struct slice body = transfer->answer.body;

    if (insert->message == NULL) /* count each row once */
        apart_note_refused(&lane->apart, insert);
    free(insert->message);
    insert->message = strndup(body.data, body.len < MESSAGE_MAX ? body.len : MESSAGE_MAX);
    flusher_act_note_refusal(lane, transfer);
    if (bury) {
        insert_move(insert, INSERT_BURYING);
        insert_list_push_back(&lane->apart.burying, insert);
        flusher_act_bury(flusher, lane);
        return;
    }
    /* A success before the refusal is proof if the table is still the same: ask for it. */
    if (lane->probe_at_ms > 0 && !lane->probing &&
        (lane->success_ns != 0 || flusher_act_inserted_ms(flusher, lane) != 0))
        lane->probe_at_ms = 0;
    insert_move(insert, INSERT_KEPT);
    if (lane->apart.kept.first == NULL)
        lane->canary_at_ms = clock_mono_ms() + flusher_config(flusher)->clickhouse_retry_max_ms;
    insert_list_push_back(&lane->apart.kept, insert);
    flusher_act_review(flusher, lane);
}

/* What has been proven so far took longer than a table needs to break and come back: so a fickle
 * insert is kept for a success that it is sent right after. */
static void flusher_act_keep(struct insert *insert, const struct insert_reading *reading)
{
    if (insert->fickle || !insert_judge_is_fickle(reading))
        return;
    insert->fickle = true;
    insert->proven = false;
}

/* Nothing of the insert is in the table: its rows may go under other tokens. */
static void flusher_act_refused(struct flusher *flusher, struct lane *lane,
                                const struct transfer *transfer, enum insert_verdict verdict)
{
    static const struct insert_cutting halve = {.cut = INSERT_CUT_HALF};
    struct insert *insert = transfer->insert;
    const struct lane_wait wait = flusher_wait(flusher);
    struct insert *parts[2];
    uint64_t row;
    bool cut;

    insert->doubt = false;
    insert_move(insert, INSERT_REFUSED);
    flusher_act_settle_slow(lane, insert);
    insert_settle(insert, false);
    if (lane->state == LANE_REFUSES) {
        lane->answers = true;
        lane_back_off(lane, &wait, false);
    }
    if (verdict == INSERT_VERDICT_BURY || verdict == INSERT_VERDICT_KEEP) {
        flusher_tell_refused(flusher, lane, insert, verdict == INSERT_VERDICT_BURY);
        flusher_act_refused_alone(flusher, lane, transfer, verdict == INSERT_VERDICT_BURY);
    } else if (verdict == INSERT_VERDICT_CUT) {
        flusher_act_note_refusal(lane, transfer);
        cut = apart_cut(&lane->apart, insert,
                        insert_answer_row(transfer->answer.body, &row) && row < insert->count
                            ? (int64_t)row
                            : -1) == 0;
        if (!cut)
            flusher_act_unsent(flusher, insert);
    } else {
        lane_shrink(lane, insert, 2);
        if (insert_cut(insert, &halve, parts) != 0) {
            flusher_act_unsent(flusher, insert);
        } else if (parts[0]->aside) {
            apart_add_likely(&lane->apart, parts[0]);
            apart_add_likely(&lane->apart, parts[1]);
        } else {
            insert_list_push_front(&lane->waiting, parts[1]);
            insert_list_push_front(&lane->waiting, parts[0]);
        }
        /* When the server is short of memory, smaller inserts alone do not help. */
        if (transfer->answer.status != 413 && lane->retries++ > 0)
            lane_back_off(lane, &wait, false);
    }
}

/* Counts refusals that tell the same of the same rows. A table that comes and goes proves nothing
 * of what was refused while it was there. */
static void flusher_act_note(struct lane *lane, struct insert *insert,
                             const struct insert_reading *reading, bool no_table)
{
    const bool fickle = insert_judge_is_fickle(reading);

    insert->answered_ns = clock_mono_ns();
    if (no_table) {
        insert->refusals = 0;
        insert->refused_ns = 0;
        insert->proven = insert->fickle = false;
    }
    if (!reading->definite || reading->class == INSERT_DONE || no_table)
        return;
    lane_refused(lane);
    /* A part was refused together with the insert that it was cut from, though perhaps for another
     * row: keep that time, since whatever went in after it shows that the table takes rows. */
    if (insert->refused_ns == 0 || (insert->code != reading->code && !insert->part)) {
        insert->refused_ns = insert->answered_ns;
        insert->proven = false;
    }
    if (insert->code != reading->code)
        insert->refusals = 0;
    insert->code = reading->code;
    if (!fickle || insert->refusals == 0 || insert->proven)
        insert->refusals++;
    if (fickle && insert->proven)
        insert->refused_ns = insert->answered_ns;
}

static struct insert_evidence flusher_act_evidence(const struct flusher *flusher,
                                                   const struct insert *insert, bool expected,
                                                   bool no_table)
{
    const struct lane *lane = flusher_lane(flusher, insert->stream, insert->shard);
    const bool known = lane->facts_known && lane->facts_read && lane->facts.table_exists;
    const uint64_t since_ns = flusher_act_takes_since(flusher, lane);

    return (struct insert_evidence){
        .count = insert->count,
        .doubt = insert->doubt,
        .async = insert->async,
        .alone = insert->alone,
        .ignore_views = insert->ignore_views,
        .expected = expected,
        .no_table = no_table,
        .refusals = insert->refusals,
        .takes_rows = since_ns != 0 && insert->tried_ns > since_ns,
        .others_went = insert->proven,
        .views = !known || lane->facts.has_views,
        .stores = !lane->facts_read || !lane->facts.table_exists || lane->facts.stores_rows,
        .doubles = known && lane->facts.doubles != NULL,
        .facts_missing =
            !lane->facts_known && insert->answered_ns - lane->lost_ns < FACTS_WAIT_MS * 1000000ull,
    };
}

/* The answer can be judged only once the table is known. */
static void flusher_act_ask(struct lane *lane, struct insert *insert)
{
    if (!lane->probing)
        lane->probe_at_ms = 0;
    insert_move(insert, INSERT_PUT_OFF);
    insert->due_ms = clock_mono_ms() + FACTS_WAIT_MS;
    insert->asks = true;
    insert->aside = true;
    flusher_act_queue(lane, insert, false);
}

static void flusher_act_prove(struct lane *lane, struct insert *insert,
                              const struct insert_evidence *evidence, bool blames_view)
{
    const bool alone = insert_judge_alone(evidence);

    insert->view_blamed = blames_view || !alone;
    insert->ignore_views = insert->ignore_views || insert_judge_ignore_views(evidence, blames_view);
    insert->alone = insert->alone || alone;
    insert_move(insert, INSERT_PUT_OFF);
    insert->due_ms = 0;
    flusher_act_queue(lane, insert, true);
}

void flusher_act(struct flusher *flusher, struct transfer *transfer)
{
    struct insert *insert = transfer->insert;
    struct lane *lane = flusher_lane(flusher, insert->stream, insert->shard);
    /* Some answers to async inserts never say how many rows were written. */
    const bool counted =
        !insert->async || (flusher_config(flusher)->clickhouse_wait_for_async_insert &&
                           (!lane->facts_read || lane->facts.counts_async));
    const struct insert_reading reading =
        insert_answer_read(&transfer->answer, counted ? insert->count : 0);
    const bool expected = insert->part && insert->code == reading.code;
    const bool blames_view = insert_answer_blames_view(transfer->answer.body);
    const struct config_stream *of = flusher_stream(flusher, lane);
    const bool no_table =
        insert_answer_lacks_table(reading.code, transfer->answer.body, of->database, of->table);
    struct insert_evidence evidence;
    enum insert_verdict verdict;

    if (insert->aside)
        lane->apart.out--;
    else
        lane->out--;
    if (reading.class == INSERT_BAD_ROWS || reading.class == INSERT_SPLIT)
        lane_judged(lane);
    flusher_tell_answer(flusher, transfer, &reading);
    flusher_tell_error(flusher, transfer, &reading);
    flusher_tell_setback(flusher, transfer, &reading);
    insert->tried_ns = transfer->started_ns;
    flusher_act_note(lane, insert, &reading, no_table);
    evidence = flusher_act_evidence(flusher, insert, expected, no_table);
    verdict = insert_judge(&reading, &evidence, blames_view);
    /* The view came after the table, which has the rows by now: a later refusal, for lack of memory
     * for example, does not prove that they are not in. */
    if (blames_view && evidence.stores && !insert->ignore_views)
        insert->doubt = true;
    switch (verdict) {
    case INSERT_VERDICT_DONE:
        insert->doubt = insert->doubt || transfer->resent;
        flusher_act_done(flusher, lane, insert, transfer->started_ns);
        break;
    case INSERT_VERDICT_STORED:
        insert->ignore_views = insert->view_blamed = true;
        flusher_act_done(flusher, lane, insert, transfer->started_ns);
        break;
    case INSERT_VERDICT_ASK:
        flusher_act_ask(lane, insert);
        break;
    case INSERT_VERDICT_PROVE:
        flusher_act_prove(lane, insert, &evidence, blames_view);
        break;
    case INSERT_VERDICT_ASIDE:
        insert->aside = true;
        flusher_act_again(flusher, lane, transfer, &reading);
        break;
    case INSERT_VERDICT_AGAIN:
        flusher_act_again(flusher, lane, transfer, &reading);
        break;
    case INSERT_VERDICT_HALVE:
    case INSERT_VERDICT_CUT:
    case INSERT_VERDICT_BURY:
    case INSERT_VERDICT_KEEP:
        insert->sure = verdict == INSERT_VERDICT_KEEP && reading.sure;
        if (verdict == INSERT_VERDICT_KEEP)
            flusher_act_keep(insert, &reading);
        flusher_act_refused(flusher, lane, transfer, verdict);
        break;
    }
    flusher_act_give_up(flusher, lane);
}
