/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher.c - sends batches to ClickHouse: decides which lane may send an insert, freezes and posts
 * it, and passes the answer on.
 *
 * Each stream has a lane (lane.h), and beside it refused inserts are taken apart (apart.h). All
 * share max_inflight. So that a stuck or slow table does not slow the others: lanes in trouble and
 * inserts that are taken apart use at most half of it while others have work; a lane in trouble has
 * only one insert of its own out; and the last free slot goes to a lane that has none.
 *
 * Runs on: the flusher thread; flusher_submit(), flusher_pending() and flusher_bury() on any
 * thread.
 * Owns: batches from submission on, inserts, the multi handle.
 */
#define LOG_MODULE "flusher"

#include "flusher_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/pulse.h"
#include "alloy/event_id.h"
#include "flusher_act.h"
#include "flusher_ask.h"
#include "flusher_inbox.h"
#include "flusher_linger.h"
#include "flusher_reclaim.h"
#include "flusher_route.h"
#include "flusher_tell.h"
#include "flusher_verify.h"
#include "insert_request.h"
#include "alloy/kill_point.h"

#define POLL_MAX_MS 1000
#define BURY_RETRY_MS 100

/*
 * Posts the rows of insert (NULL: nothing), as an insert or in a question, to a stream's url, and
 * keeps body_max bytes of the answer. Takes posting->url (NULL: out of memory) and, on success,
 * posting->insert. Returns NULL when out of memory, else the transfer.
 */
static struct transfer *flusher_post(struct flusher *flusher, const struct lane *lane,
                                     const struct flusher_posting *posting)
{
    uint64_t timeout_ms =
        flusher_config(flusher)->clickhouse_timeout_ms
        << (posting->insert == NULL ? posting->doublings : posting->insert->doublings);
    const bool form = posting->kind == TRANSFER_ROWS;
    const size_t endpoint = flusher_route_choose(flusher, lane, posting);
    char *url = insert_request_join(
        endpoint == ENDPOINTS_NONE ? NULL : flusher->route.servers[endpoint].base, posting->url);
    struct transfer *transfer;

    if (posting->timeout_ms != 0 && posting->timeout_ms < timeout_ms)
        timeout_ms = posting->timeout_ms;
    transfer = url == NULL ? NULL
                           : transfer_create(form ? flusher->form_headers : flusher->headers, url,
                                             posting->insert, timeout_ms, posting->body_max);
    if (transfer == NULL)
        return NULL;
    if (form)
        transfer_wrap(transfer, flusher->form_head, flusher->form_tail);
    transfer->kind = posting->kind;
    transfer->once =
        posting->kind == TRANSFER_INSERT && (posting->insert->id & INSERT_ID_PROOF) != 0;
    transfer->stream = lane->stream;
    transfer->shard = lane->shard;
    transfer->endpoint = endpoint;
    transfer->started_ns = clock_mono_ns();
    if (curl_multi_add_handle(flusher->multi, transfer->easy) != CURLM_OK) {
        transfer_destroy(transfer);
        return NULL;
    }
    transfer->next = flusher->active;
    flusher->active = transfer;
    flusher_route_begun(flusher, transfer);
    return transfer;
}

static void flusher_take_off(struct flusher *flusher, struct transfer *transfer)
{
    struct transfer **link = &flusher->active;

    while (*link != transfer)
        link = &(*link)->next;
    *link = transfer->next;
    curl_multi_remove_handle(flusher->multi, transfer->easy);
}

/* True when ClickHouse itself has answered, and not a proxy before it. */
static bool flusher_has_answered(const struct insert_answer *answer)
{
    return !answer->transport_failed && (answer->status < 500 || answer->exception_code != 0 ||
                                         insert_answer_body_code(answer->body) != 0);
}

static void flusher_answered(struct flusher *flusher, struct transfer *transfer)
{
    struct lane *lane = flusher_lane_of(flusher, transfer);
    const bool answered = flusher_has_answered(&transfer->answer);
    const bool lost = transfer->answer.transport_failed && !transfer->answer.timed_out;
    char text[LANE_MESSAGE_MAX];

    flusher_route_ended(flusher, transfer);
    if (answered)
        flusher->answered_ns = clock_mono_ns();
    if (answered && transfer->endpoint != ENDPOINTS_NONE)
        flusher->route.endpoints.at[transfer->endpoint].answered_ns = flusher->answered_ns;
    /* An insert that takes too long does not mean that the server is down. */
    if (answered || lost || flusher->answered_ns < transfer->started_ns)
        flusher_tell_up(flusher, answered || flusher_route_any(flusher),
                        flusher_tell_words(transfer, text));
    if (lost && transfer->kind != TRANSFER_PING)
        flusher_ask_forget(flusher);
    switch (transfer->kind) {
    case TRANSFER_INSERT:
        flusher_act(flusher, transfer);
        if (unlikely(transfer->started_ns < lane->renewed_ns))
            flusher_ask_hurry(lane);
        if (lost)
            flusher_ask_anew(flusher, lane);
        else if ((lane->insert_columns != NULL || lane->proof) && transfer->answer.status != 200)
            lane->probe_at_ms = 0; /* one of them may have gone */
        break;
    case TRANSFER_TABLE:
    case TRANSFER_COLUMNS:
        flusher_ask_answered(flusher, transfer);
        flusher_act_review(flusher, lane);
        break;
    case TRANSFER_TRACE:
    case TRANSFER_COUNT:
    case TRANSFER_ROWS:
        if (answered)
            lane->answers = true;
        flusher_verify_answered(flusher, transfer);
        break;
    case TRANSFER_SITE:
    case TRANSFER_PING:
        flusher_route_answered(flusher, transfer);
        break;
    }
}

/* Takes inserts from an endpoint that hangs: they are in doubt, and go to another one. */
static void flusher_cut(struct flusher *flusher)
{
    struct transfer *next;

    for (struct transfer *transfer = flusher->active; transfer != NULL; transfer = next) {
        next = transfer->next;
        if (transfer->kind != TRANSFER_INSERT || transfer->endpoint == ENDPOINTS_NONE ||
            !flusher->route.servers[transfer->endpoint].cut)
            continue;
        snprintf(transfer->error, sizeof(transfer->error), "its endpoint does not answer");
        transfer_end(transfer, CURLE_ABORTED_BY_CALLBACK);
        flusher_take_off(flusher, transfer);
        flusher_answered(flusher, transfer);
        transfer_destroy(transfer);
    }
    for (size_t i = 0; i < flusher->route.endpoints.count; i++)
        flusher->route.servers[i].cut = false;
}

static void flusher_finish_transfers(struct flusher *flusher)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(flusher->multi, &left)) != NULL) {
        struct transfer *transfer = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        transfer_end(transfer, message->data.result);
        flusher_take_off(flusher, transfer);
        flusher_answered(flusher, transfer);
        transfer_destroy(transfer);
    }
    flusher_cut(flusher);
}

/* Gives the burial the rows that it has not taken yet, and those that a human has asked to bury. */
static void flusher_bury_wanted(struct flusher *flusher)
{
    uint64_t wanted =
        atomic_load_explicit(&flusher->bury_wanted, memory_order_relaxed) == 0
            ? 0
            : atomic_exchange_explicit(&flusher->bury_wanted, 0, memory_order_relaxed);

    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];
        if ((wanted >> lane->stream & 1) != 0)
            flusher_act_bury_all(flusher, lane);
        else if (lane->apart.burying.first != NULL)
            flusher_act_bury(flusher, lane);
    }
}

/* Draws and stamps the insert's id, unless it has one. Returns 0 or -EIO. */
static int flusher_freeze(struct flusher *flusher, struct insert *insert)
{
    uint64_t held;

    if (insert->stamped)
        return 0;
    if (insert->id == 0) {
        insert->id =
            journal_next_insert_id(flusher->parts.journal) |
            (uint64_t)insert->shard << INSERT_ID_SHARD_SHIFT |
            (insert->async                                                 ? INSERT_ID_ASYNC
             : flusher_lane(flusher, insert->stream, insert->shard)->proof ? INSERT_ID_PROOF
                                                                           : 0);
        insert->reclaimed = flusher->generation;
        insert_move(insert, INSERT_FROZEN);
    }
    KILL_POINT("insert_drawn");
    if (journal_stamp(flusher->parts.journal, insert_records(insert), insert->count, insert->id) !=
        0) {
        if (log_limit_pass(&flusher->stamp_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
            log_error("the journal cannot store an insert's id action=retry suppressed=%" PRIu64,
                      held);
        return -EIO;
    }
    insert->stamped = true;
    KILL_POINT("insert_stamped");
    return 0;
}

static bool flusher_same_table(const struct config_stream *a, const struct config_stream *b)
{
    return strcmp(a->table_text, b->table_text) == 0 &&
           strcmp(a->proof != NULL ? a->proof : "", b->proof != NULL ? b->proof : "") == 0;
}

static void flusher_send(struct flusher *flusher, struct insert *insert)
{
    const struct config *config = flusher_config(flusher);
    struct lane *lane = flusher_lane(flusher, insert->stream, insert->shard);
    struct insert_request request;

    if (flusher_verify_first(flusher, lane, insert))
        return;
    if (flusher_freeze(flusher, insert) != 0) {
        flusher_act_unsent(flusher, insert);
        return;
    }
    if (insert->to == NULL || !insert->doubt)
        insert->to = &config->streams[insert->stream];
    request = (struct insert_request){
        .instance_id = journal_instance_id(flusher->parts.journal),
        .insert_id = insert->id,
        .async = insert->async,
        .alone = insert->alone,
        .ignore_views = insert->ignore_views,
        .unhurried = insert->unhurried,
        .columns = lane->insert_columns,
        .proof = lane->proof && flusher_same_table(insert->to, flusher_stream(flusher, lane))
                     ? insert->to->proof
                     : NULL,
    };
    if (flusher_post(
            flusher, lane,
            &(struct flusher_posting){.kind = TRANSFER_INSERT,
                                      .url = insert_request_url(config, insert->to, &request),
                                      .endpoint = ENDPOINTS_NONE,
                                      .insert = insert,
                                      .body_max = TRANSFER_BODY_MAX}) == NULL) {
        flusher_act_unsent(flusher, insert);
        return;
    }
    insert_move(insert, INSERT_SENT);
    insert->asked = false;
    flusher_tell_sent(flusher, insert);
    if (insert->sent_ns == 0)
        insert->sent_ns = (int64_t)clock_mono_ns();
    /* What was out when the table broke proves nothing, though its success comes after a refusal.
     */
    insert->proven = insert->refused_ns != 0 && lane->taken_ns > insert->refused_ns;
    if (insert->aside)
        lane->apart.out++;
    else
        lane->out++;
}

static bool flusher_in_trouble(const struct lane *lane)
{
    return lane->state != LANE_WELL || lane->pace_ms > 0;
}

/* Whether one more insert of the lane may be out; aside: one that is taken apart beside it. */
static bool flusher_has_slot(const struct flusher *flusher, const struct lane *lane, bool aside,
                             uint64_t now)
{
    const size_t max = flusher_config(flusher)->clickhouse_max_inflight;
    const size_t half = max / 2 > 0 ? max / 2 : 1;
    size_t out = 0;
    size_t trouble = 0;
    bool others_idle = false;
    bool others_due = false;

    for (size_t i = 0; i < flusher->lane_count; i++) {
        const struct lane *other = &flusher->lanes[i];
        if (other->shard != lane->shard)
            continue; /* that is other servers' work */
        out += other->out + other->apart.out;
        trouble += other->apart.out + (flusher_in_trouble(other) ? other->out : 0);
        if (other == lane)
            continue;
        others_idle = others_idle || other->out + other->apart.out == 0;
        others_due = others_due || (!flusher_in_trouble(other) && lane_due(other, now));
    }
    if (out >= max || (aside && lane->apart.out >= half))
        return false;
    if ((aside || flusher_in_trouble(lane)) && trouble >= half && others_due)
        return false;
    /* A table can get stuck at any time and keep all its slots: leave the last one to a lane that
     * has none. */
    return out + 1 < max || max == 1 || lane->out + lane->apart.out == 0 || !others_idle;
}

/* Sends an insert of the lane, its own or (aside) one beside it. False: there is none, or it may
 * not. */
static bool flusher_start_one(struct flusher *flusher, struct lane *lane, bool aside, uint64_t now)
{
    const struct config *config = flusher_config(flusher);
    const bool again = lane->state == LANE_REFUSES;
    struct insert *insert;

    if (!flusher_route_open(flusher, lane))
        return false;
    if (aside) {
        if ((!lane->answers && now < lane->retry_at_ms) || !apart_due(&lane->apart, now, again) ||
            !flusher_has_slot(flusher, lane, true, now))
            return false;
        insert = apart_next(&lane->apart, now, again);
    } else {
        if (!lane_due(lane, now) || !flusher_has_slot(flusher, lane, false, now))
            return false;
        insert = lane_next(lane, now, config->clickhouse_retry_max_ms);
        if (insert == NULL && lane->state != LANE_REFUSES)
            /* Out of memory, which is not a failure of ClickHouse. */
            lane->retry_at_ms = now + config->clickhouse_retry_max_ms;
    }
    if (insert == NULL)
        return false;
    lane->aside_turn = !aside;
    flusher_send(flusher, insert);
    return true;
}

/* Fills the free slots, stream by stream in turn. */
static void flusher_start_inserts(struct flusher *flusher, uint64_t now)
{
    size_t passed = 0;

    while (passed < flusher->lane_count) {
        struct lane *lane = &flusher->lanes[flusher->next_lane];
        flusher->next_lane = (flusher->next_lane + 1) % flusher->lane_count;
        if (flusher_start_one(flusher, lane, lane->aside_turn, now) ||
            flusher_start_one(flusher, lane, !lane->aside_turn, now))
            passed = 0;
        else
            passed++;
    }
}

/* Makes a question due while an insert is out for long: if the server answers it, the server is up,
 * and the insert gets more time. */
static void flusher_ask_meanwhile(struct flusher *flusher)
{
    const uint64_t quiet_ns = flusher_config(flusher)->clickhouse_timeout_ms * 1000000ull / 2;
    const uint64_t now_ns = clock_mono_ns();

    for (const struct transfer *transfer = flusher->active; transfer != NULL;
         transfer = transfer->next) {
        struct lane *lane = flusher_lane_of(flusher, transfer);
        if (transfer->kind == TRANSFER_INSERT && !lane->probing &&
            now_ns - transfer->started_ns > quiet_ns && lane->asked_ns < transfer->started_ns)
            lane->probe_at_ms = 0;
    }
}

static void flusher_ask_table(struct flusher *flusher, struct lane *lane, uint64_t now)
{
    const struct config *config = flusher_config(flusher);

    lane->asked_ns = clock_mono_ns();
    lane->probing = flusher_post(flusher, lane,
                                 &(struct flusher_posting){.kind = TRANSFER_TABLE,
                                                           .url = insert_request_table_url(
                                                               &config->streams[lane->stream]),
                                                           .endpoint = ENDPOINTS_NONE,
                                                           .body_max = TRANSFER_BODY_MAX}) != NULL;
    if (!lane->probing)
        lane->probe_at_ms = now + config->clickhouse_retry_max_ms;
}

static void flusher_ask_columns(struct flusher *flusher, struct lane *lane)
{
    const struct config *config = flusher_config(flusher);

    /* Whatever comes of it, until the table has been looked at again. */
    lane->schema_due = false;
    if (lane->sample != NULL)
        lane->columns_due = false;
    lane->probing =
        flusher_post(flusher, lane,
                     &(struct flusher_posting){
                         .kind = TRANSFER_COLUMNS,
                         .url = insert_request_columns_url(config, &config->streams[lane->stream]),
                         .endpoint = ENDPOINTS_NONE,
                         .body_max = TRANSFER_BODY_COLUMNS}) != NULL;
}

static void flusher_start_questions(struct flusher *flusher, uint64_t now)
{
    struct flusher_posting about;
    struct lane *of;

    while (flusher_route_next(flusher, now, &of, &about))
        if (flusher_post(flusher, of, &about) == NULL)
            flusher_route_unasked(flusher, of, &about);
    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];
        struct flusher_posting posting;
        if (flusher_verify_next(flusher, lane, now, &posting) &&
            flusher_post(flusher, lane, &posting) == NULL)
            flusher_verify_unasked(flusher, lane, posting.insert);
        flusher_ask_awaited(flusher, lane, now);
        if (lane->probing)
            continue;
        flusher_ask_doubted(flusher, lane, now);
        if (now >= lane->probe_at_ms)
            flusher_ask_table(flusher, lane, now);
        else if (lane->schema_due || (lane->columns_due && lane->sample != NULL))
            flusher_ask_columns(flusher, lane);
    }
}

struct flusher_walk {
    vacate_visit_fn visit;
    void *arg;
};

static void flusher_walk_insert(void *arg, struct insert *insert)
{
    const struct flusher_walk *walk = arg;

    for (size_t i = 0; i < insert->count; i++)
        walk->visit(walk->arg, &insert_records(insert)[i]);
}

static void flusher_walk_batches(const struct batch *batch, uint32_t from,
                                 const struct flusher_walk *walk)
{
    for (; batch != NULL; batch = batch->next, from = 0)
        for (uint32_t i = from; i < batch->count; i++)
            walk->visit(walk->arg, (struct record **)&batch->records[i]);
}

/* Visits each record here that curl is not reading: the journal may want it moved. */
static void flusher_walk(void *holder, vacate_visit_fn visit, void *arg)
{
    struct flusher *flusher = holder;
    struct flusher_walk walk = {visit, arg};

    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];
        flusher_walk_batches(lane->batches, lane->head_taken, &walk);
        lane_visit(lane, flusher_walk_insert, &walk);
    }
    flusher_walk_batches(flusher->undealt, 0, &walk);
    flusher_walk_batches(flusher->strays, 0, &walk);
}

/* Milliseconds until something is due without an event. */
static int flusher_next_due(const struct flusher *flusher, uint64_t now)
{
    const uint64_t timeout_ms = flusher_config(flusher)->clickhouse_timeout_ms;
    uint64_t due = now + (timeout_ms / 4 < POLL_MAX_MS ? timeout_ms / 4 : POLL_MAX_MS);

    if (flusher->discard)
        return POLL_MAX_MS;
    if (vacate_due_ms(&flusher->vacate) < due)
        due = vacate_due_ms(&flusher->vacate);
    if (flusher_route_due_ms(flusher) < due)
        due = flusher_route_due_ms(flusher);
    for (size_t i = 0; i < flusher->lane_count; i++) {
        const struct lane *lane = &flusher->lanes[i];
        const uint64_t lane_ms = lane_next_due(lane, now);
        if (!lane->probing && lane->probe_at_ms < due)
            due = lane->probe_at_ms;
        if (flusher_verify_due_ms(lane) < due)
            due = flusher_verify_due_ms(lane);
        if (lane_ms < due)
            due = lane_ms;
        if (lane->apart.burying.first != NULL && now + BURY_RETRY_MS < due)
            due = now + BURY_RETRY_MS;
    }
    return due > now ? (int)(due - now) : 0;
}

static bool flusher_same_server(const struct config *a, const struct config *b)
{
    return strcmp(a->clickhouse_url, b->clickhouse_url) == 0 &&
           strcmp(a->clickhouse_user, b->clickhouse_user) == 0 &&
           strcmp(insert_request_password(a), insert_request_password(b)) == 0;
}

/* Puts the headers of a transfer that may still use them aside. */
static void flusher_retire(struct flusher *flusher, struct curl_slist *headers)
{
    struct curl_slist *last = headers;

    while (last->next != NULL)
        last = last->next;
    last->next = flusher->retired;
    flusher->retired = headers;
}

/* Makes the headers of the configuration in force. False: out of memory; those of before stay. */
static bool flusher_make_headers(struct flusher *flusher)
{
    const struct config *config = flusher_config(flusher);
    struct curl_slist *headers = transfer_headers(config, TRANSFER_BYTES);
    struct curl_slist *form_headers = transfer_headers(config, flusher->form_type);

    if (headers == NULL || form_headers == NULL) {
        curl_slist_free_all(headers);
        curl_slist_free_all(form_headers);
        return false;
    }
    if (flusher->headers != NULL)
        flusher_retire(flusher, flusher->headers);
    if (flusher->form_headers != NULL)
        flusher_retire(flusher, flusher->form_headers);
    flusher->headers = headers;
    flusher->form_headers = form_headers;
    return true;
}

/* Takes over what a reload has changed. */
static void flusher_follow(struct flusher *flusher)
{
    const struct config *before = flusher->followed;
    const struct config *config = flusher_config(flusher);
    const bool same = config == before || flusher_same_server(before, config);

    if (!same && (!flusher_make_headers(flusher) || !flusher_route_make(flusher)))
        return; /* again in the next turn */
    flusher->followed = config;
    flusher_inbox_add_lanes(flusher);
    for (size_t i = 0; i < before->stream_count; i++)
        if (!same || !flusher_same_table(&before->streams[i], &config->streams[i]))
            for (size_t k = 0; k < flusher->shards; k++)
                flusher_ask_renewed(flusher, flusher_lane(flusher, i, k));
}

static void *flusher_run(void *arg)
{
    struct flusher *flusher = arg;
    int running;

    pulse_join("flusher");
    /* acquire: pairs with the release in flusher_stop() */
    while (!atomic_load_explicit(&flusher->stop, memory_order_acquire)) {
        uint64_t now;
        pulse_beat(0);
        flusher_follow(flusher);
        curl_multi_perform(flusher->multi, &running);
        flusher_finish_transfers(flusher);
        flusher_inbox_take(flusher);
        now = clock_mono_ms();
        if (!flusher->discard) {
            flusher_linger_review(flusher);
            flusher_bury_wanted(flusher);
            flusher_ask_meanwhile(flusher);
            flusher_start_questions(flusher, now);
            /* Before new sends: what is being sent cannot be moved. */
            vacate_run(&flusher->vacate, now);
            flusher_reclaim(flusher);
            flusher_start_inserts(flusher, now);
            flusher_tell_counts(flusher, now);
        }
        flusher_tell_gauges(flusher);
        /* Returns at once when something was just added. */
        curl_multi_poll(flusher->multi, NULL, 0, flusher_next_due(flusher, now), NULL);
    }
    pulse_leave();
    return NULL;
}

/* Frees what flusher_start() has made so far, and what the thread has left. */
static void flusher_destroy(struct flusher *flusher)
{
    while (flusher->active != NULL) {
        struct transfer *transfer = flusher->active;
        flusher_take_off(flusher, transfer);
        insert_destroy(transfer->insert);
        transfer_destroy(transfer);
    }
    flusher_inbox_take(flusher);
    for (size_t i = 0; i < flusher->lane_count; i++)
        lane_clear(&flusher->lanes[i]);
    flusher_inbox_free(flusher);
    burial_stop(flusher->burial);
    curl_multi_cleanup(flusher->multi);
    curl_slist_free_all(flusher->headers);
    curl_slist_free_all(flusher->form_headers);
    curl_slist_free_all(flusher->retired);
    flusher_route_free(flusher);
    free(flusher->lanes);
    free(flusher);
}

static void flusher_settled(void *arg, uint64_t n)
{
    struct flusher *flusher = arg;

    /* release: pairs with the acquire in flusher_pending(); release_pending() has counted them */
    atomic_fetch_sub_explicit(&flusher->pending, n, memory_order_release);
}

static int flusher_start_burial(struct flusher *flusher, char error[FLUSHER_ERROR_MAX])
{
    const struct burial_parts parts = {
        .config = flusher->parts.config,
        .journal = flusher->parts.journal,
        .health = flusher->parts.health,
        .metrics = flusher->parts.metrics,
        .release = flusher->parts.release,
        .replay_key = flusher->parts.replay_key,
        .setbacks = flusher->parts.setbacks,
        .settled = flusher_settled,
        .arg = flusher,
    };

    return flusher->discard ? 0 : burial_start(&flusher->burial, &parts, error);
}

/* The boundary is one that no client can know. */
static void flusher_make_form(struct flusher *flusher)
{
    uint64_t random[2];
    char boundary[40];

    event_id_random(random, sizeof(random));
    snprintf(boundary, sizeof(boundary), "alloy%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    snprintf(flusher->form_type, sizeof(flusher->form_type), "multipart/form-data; boundary=%s",
             boundary);
    snprintf(flusher->form_head, sizeof(flusher->form_head),
             "--%s\r\nContent-Disposition: form-data; name=\"" INSERT_REQUEST_ROWS
             "\"; filename=\"rows\"\r\n\r\n",
             boundary);
    snprintf(flusher->form_tail, sizeof(flusher->form_tail), "\r\n--%s--\r\n", boundary);
}

int flusher_start(struct flusher **flusher, const struct flusher_parts *parts,
                  char error[FLUSHER_ERROR_MAX])
{
    const struct config *config = config_current(parts->config);
    struct flusher *started = aligned_alloc(CACHE_LINE, sizeof(*started));
    int err = -ENOMEM;

    snprintf(error, FLUSHER_ERROR_MAX, "cannot start the flusher: out of memory or threads");
    if (started == NULL)
        return -ENOMEM;
    memset(started, 0, sizeof(*started));
    started->parts = *parts;
    started->followed = config;
    started->discard = strncmp(config->clickhouse_url, "discard:", 8) == 0;
    started->up = -1;
    started->undealt_end = &started->undealt;
    started->shards = clickhouse_url_shards(config->clickhouse_url);
    started->lanes = calloc(CONFIG_STREAMS_MAX * started->shards, sizeof(*started->lanes));
    if (started->lanes == NULL) {
        free(started);
        return -ENOMEM;
    }
    flusher_inbox_add_lanes(started);
    for (size_t i = 0; i < started->lane_count && !started->discard; i++)
        flusher_ask_await(started, &started->lanes[i]);
    vacate_init(&started->vacate, parts->journal, flusher_walk, started);
    event_id_random(&started->random, sizeof(started->random));
    started->random |= 1; /* xorshift would stay at 0 for ever */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    started->multi = curl_multi_init();
    flusher_make_form(started);
    started->counters = metrics_thread_create(parts->metrics);
    if (started->multi == NULL || !flusher_make_headers(started) || !flusher_route_make(started) ||
        started->counters == NULL)
        goto destroy_started;
    err = flusher_start_burial(started, error);
    if (err != 0)
        goto destroy_started;
    METRIC_GAUGE_SET(parts->metrics, clickhouse_up, started->discard);
    flusher_linger_begin(started);
    err = -pthread_create(&started->thread, NULL, flusher_run, started);
    if (err != 0)
        goto stop_calls;
    pthread_setname_np(started->thread, "alloy-flusher");
    *flusher = started;
    return 0;

stop_calls:
    flusher_linger_end(started);
destroy_started:
    flusher_destroy(started);
    return err;
}

void flusher_submit(struct flusher *flusher, struct batch *batch)
{
    struct batch *newest = atomic_load_explicit(&flusher->inbox, memory_order_relaxed);

    ALLOY_ASSERT(batch->count > 0 && batch->stream < CONFIG_STREAMS_MAX);
    atomic_fetch_add_explicit(&flusher->pending, batch->count, memory_order_relaxed);
    /* The inbox is always taken as a whole, so a node cannot come back while we look (no ABA). */
    do {
        batch->next = newest;
        /* release: pairs with the acquire in flusher_inbox_take() */
    } while (!atomic_compare_exchange_weak_explicit(&flusher->inbox, &newest, batch,
                                                    memory_order_release, memory_order_relaxed));
    /* The thread that found the inbox empty wakes the flusher, which takes the others' batches
     * too. */
    if (newest == NULL)
        curl_multi_wakeup(flusher->multi);
}

uint64_t flusher_pending(const struct flusher *flusher)
{
    /* acquire: pairs with the releases in flusher_act_inserted() and flusher_settled() */
    return atomic_load_explicit(&flusher->pending, memory_order_acquire);
}

void flusher_note_inserted(struct flusher *flusher, size_t stream, uint64_t received_ms)
{
    ALLOY_ASSERT(stream < CONFIG_STREAMS_MAX);
    /* relaxed: the number orders nothing else */
    atomic_store_explicit(&flusher->inserted_ms[stream], received_ms, memory_order_relaxed);
}

int64_t flusher_bury(struct flusher *flusher, size_t stream)
{
    if (stream >= flusher_config(flusher)->stream_count)
        return -EINVAL;
    atomic_fetch_or_explicit(&flusher->bury_wanted, UINT64_C(1) << stream, memory_order_relaxed);
    curl_multi_wakeup(flusher->multi);
    return (int64_t)atomic_load_explicit(&flusher->kept[stream], memory_order_relaxed);
}

void flusher_reload(struct flusher *flusher)
{
    curl_multi_wakeup(flusher->multi);
}

void flusher_hurry(struct flusher *flusher)
{
    /* relaxed: the flag orders nothing else */
    atomic_store_explicit(&flusher->hurried, true, memory_order_relaxed);
    curl_multi_wakeup(flusher->multi);
}

void flusher_stop(struct flusher *flusher)
{
    /* release: pairs with the acquire in flusher_run() */
    atomic_store_explicit(&flusher->stop, true, memory_order_release);
    curl_multi_wakeup(flusher->multi);
    pthread_join(flusher->thread, NULL);
    METRIC_GAUGE_SET(flusher->parts.metrics, clickhouse_inflight, 0);
    flusher_linger_end(flusher);
    flusher_destroy(flusher);
}
