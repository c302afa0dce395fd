/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher.c - brings batches to ClickHouse: freezes inserts, posts them, decides over the answers.
 *
 * Each stream has a lane: batches that gather, and inserts that wait to be sent (again). While
 * max_inflight inserts are out batches gather, so inserts grow with the load and with an outage.
 * A lane that has failed sends one old insert at a time, after its back-off, and begins no new one
 * until that succeeds; inserts that wait take no slot, so a stuck stream does not hold up others.
 * One whose table has too many parts goes on one insert at a time, with a pause after each, so that
 * merges catch up; the pause doubles with each refusal and shrinks with each success.
 *
 * Runs on: the flusher thread; flusher_submit() and flusher_pending() any thread.
 * Owns: batches from submission on, inserts, the multi handle, the dead-letter folder.
 */
#define LOG_MODULE "flusher"

#include "flusher_private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "alloy/event_id.h"
#include "insert_request.h"
#include "alloy/kill_point.h"

#define INSERT_ROWS_MAX 100000
#define INSERT_BYTES_MAX (32u << 20)
#define POLL_MAX_MS 1000
#define LOG_INTERVAL_MS 60000

static void flusher_insert_list_destroy(struct insert_list *list)
{
    while (list->first != NULL)
        insert_destroy(insert_list_pop(list));
}

/* Takes a transfer from the idle ones, or a new one; NULL: out of memory. */
static struct transfer *flusher_transfer_get(struct flusher *flusher)
{
    struct transfer *transfer = flusher->idle;

    if (transfer == NULL)
        return transfer_create(flusher->headers);
    flusher->idle = transfer->next;
    return transfer;
}

static void flusher_transfer_put(struct flusher *flusher, struct transfer *transfer)
{
    transfer->next = flusher->idle;
    flusher->idle = transfer;
}

/* Posts insert (NULL: a probe) of a stream. Takes url and, on 0, insert. 0 or -ENOMEM. */
static int flusher_post(struct flusher *flusher, size_t stream, struct insert *insert, char *url)
{
    struct transfer *transfer = url == NULL ? NULL : flusher_transfer_get(flusher);

    if (transfer == NULL) {
        free(url);
        return -ENOMEM;
    }
    transfer_begin(transfer, url, insert, flusher_config(flusher)->clickhouse_timeout_ms);
    transfer->stream = (uint16_t)stream;
    transfer->started_ns = clock_mono_ns();
    if (curl_multi_add_handle(flusher->multi, transfer->easy) != CURLM_OK) {
        flusher_transfer_put(flusher, transfer);
        return -ENOMEM;
    }
    transfer->next = flusher->active;
    flusher->active = transfer;
    return 0;
}

static void flusher_take_off(struct flusher *flusher, struct transfer *transfer)
{
    struct transfer **link = &flusher->active;

    while (*link != transfer)
        link = &(*link)->next;
    *link = transfer->next;
    curl_multi_remove_handle(flusher->multi, transfer->easy);
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
        flusher_answer(flusher, transfer);
        flusher_transfer_put(flusher, transfer);
    }
}

static void flusher_discard(struct flusher *flusher, struct batch *batch)
{
    flusher_count_insert(flusher, batch->stream, batch->count);
    flusher_finish_records(flusher, batch->records, batch->count, RECORD_INSERTED);
    free(batch);
}

/* Moves what has been submitted into the lanes, oldest first. */
static void flusher_take_inbox(struct flusher *flusher)
{
    /* acquire: pairs with the release in flusher_submit() */
    struct batch *newest = atomic_exchange_explicit(&flusher->inbox, NULL, memory_order_acquire);
    struct batch *oldest = NULL;

    while (newest != NULL) {
        struct batch *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct batch *batch = oldest;
        struct lane *lane = &flusher->lanes[batch->stream];
        oldest = batch->next;
        batch->next = NULL;
        if (flusher->discard) {
            flusher_discard(flusher, batch);
            continue;
        }
        *lane->batches_end = batch;
        lane->batches_end = &batch->next;
    }
}

static void flusher_drop_first_batch(struct lane *lane)
{
    struct batch *batch = lane->batches;

    lane->batches = batch->next;
    if (lane->batches == NULL)
        lane->batches_end = &lane->batches;
    lane->head_taken = 0;
    free(batch);
}

/* Records of the first batch that fit an insert by their bytes: at least one. */
static uint32_t flusher_fitting(const struct lane *lane, uint64_t *bytes)
{
    const struct batch *batch = lane->batches;
    uint32_t n = 0;

    *bytes = 0;
    for (uint32_t i = lane->head_taken; i < batch->count; i++, n++) {
        uint64_t more = batch->records[i]->body_length;
        if (n > 0 && (n == INSERT_ROWS_MAX || *bytes + more > INSERT_BYTES_MAX))
            break;
        *bytes += more;
    }
    return n;
}

/*
 * Rows of the insert that the lane's batches give now. whole: batches that go in whole; 0: a piece
 * of the first, or the frozen insert that replay found.
 */
static size_t flusher_measure(const struct lane *lane, size_t *whole)
{
    const struct batch *batch = lane->batches;
    uint64_t bytes = 0;
    size_t rows = 0;

    *whole = 0;
    if (batch->insert_id != 0)
        return batch->count;
    for (; batch != NULL && batch->insert_id == 0; batch = batch->next) {
        uint32_t count = batch->count - (*whole == 0 ? lane->head_taken : 0);
        if (rows + count > INSERT_ROWS_MAX || bytes + batch->bytes > INSERT_BYTES_MAX)
            break;
        rows += count;
        bytes += batch->bytes;
        ++*whole;
    }
    return *whole > 0 ? rows : flusher_fitting(lane, &bytes);
}

/* Builds the next insert from batches that have gathered; NULL: out of memory. */
static struct insert *flusher_build(struct flusher *flusher, size_t stream)
{
    struct lane *lane = &flusher->lanes[stream];
    size_t whole;
    size_t rows = flusher_measure(lane, &whole);
    struct insert *insert = insert_create((uint16_t)stream, rows);

    if (insert == NULL)
        return NULL;
    insert->async = lane->async;
    if (lane->batches->insert_id != 0) {
        insert->id = lane->batches->insert_id;
        insert->async = (insert->id & INSERT_ID_ASYNC) != 0;
        insert->stamped = true;
        insert->uncertain = true;
        whole = 1;
    }
    if (whole == 0) {
        uint64_t bytes;
        uint32_t n = flusher_fitting(lane, &bytes);
        insert_add(insert, lane->batches->records + lane->head_taken, n, bytes);
        lane->batches->bytes -= bytes;
        lane->head_taken += n;
        if (lane->head_taken == lane->batches->count)
            flusher_drop_first_batch(lane);
    }
    for (; whole > 0; whole--) {
        const struct batch *batch = lane->batches;
        insert_add(insert, batch->records + lane->head_taken, batch->count - lane->head_taken,
                   batch->bytes);
        flusher_drop_first_batch(lane);
    }
    return insert;
}

/* True when the lane has something to send and may. */
static bool flusher_lane_ready(const struct lane *lane, uint64_t now)
{
    if (now < lane->retry_at_ms)
        return false;
    /* After a failure, and while an insert is being taken apart: one after the other. */
    if ((lane->backoff.failures > 0 || lane->part_count > 0 || lane->pace_ms > 0) &&
        lane->inflight_count > 0)
        return false;
    if (lane->waiting.first != NULL)
        return true;
    /* What is known of the table decides how a new insert goes, and what a refusal means. */
    return lane->batches != NULL && lane->backoff.failures == 0 && lane->probed;
}

/* Draws and stamps the id where there is none yet. 0 or -EIO. */
static int flusher_freeze(struct flusher *flusher, struct insert *insert)
{
    uint64_t held;

    if (insert->stamped)
        return 0;
    if (insert->id == 0)
        insert->id =
            journal_next_insert_id(flusher->parts.journal) | (insert->async ? INSERT_ID_ASYNC : 0);
    KILL_POINT("insert_drawn");
    if (journal_stamp(flusher->parts.journal, insert->records, insert->count, insert->id) != 0) {
        if (log_limit_pass(&flusher->stamp_limit, clock_mono_ms(), LOG_INTERVAL_MS, &held))
            log_error("journal cannot hold an insert's id action=retry suppressed=%" PRIu64, held);
        return -EIO;
    }
    insert->stamped = true;
    KILL_POINT("insert_stamped");
    return 0;
}

/* Sends the next insert of a lane that is ready. */
static void flusher_start_insert(struct flusher *flusher, size_t stream)
{
    const struct config *config = flusher_config(flusher);
    struct lane *lane = &flusher->lanes[stream];
    struct insert *insert;
    struct insert_request request;

    insert = lane->waiting.first != NULL ? insert_list_pop(&lane->waiting)
                                         : flusher_build(flusher, stream);
    if (insert == NULL) {
        /* Out of memory: no failure of ClickHouse's. */
        lane->retry_at_ms = clock_mono_ms() + config->clickhouse_retry_max_ms;
        return;
    }
    if (insert->suspect && insert->count > 1 && flusher_cut(flusher, insert, true, -1) == 0)
        return;
    if (flusher_freeze(flusher, insert) != 0) {
        flusher_keep(flusher, insert, true);
        return;
    }
    request = (struct insert_request){
        .instance_id = journal_instance_id(flusher->parts.journal),
        .insert_id = insert->id,
        .async = insert->async,
        .alone = insert->alone,
        .ignore_views = insert->ignore_views,
    };
    if (flusher_post(flusher, stream, insert,
                     insert_request_url(config, &config->streams[stream], &request)) != 0) {
        flusher_keep(flusher, insert, true);
        return;
    }
    /* It is no longer the one that its leader's answer could spare us. */
    if (insert->leader != NULL) {
        insert->leader->follower = NULL;
        insert->leader = NULL;
    }
    lane->inflight_count++;
    flusher->inflight_count++;
}

/* Fills the free slots, stream by stream in turn. */
static void flusher_start_inserts(struct flusher *flusher, uint64_t now)
{
    size_t passed = 0;

    while (passed < flusher->lane_count &&
           flusher->inflight_count < flusher_config(flusher)->clickhouse_max_inflight) {
        size_t stream = flusher->next_lane;
        flusher->next_lane = (stream + 1) % flusher->lane_count;
        if (flusher_lane_ready(&flusher->lanes[stream], now)) {
            flusher_start_insert(flusher, stream);
            passed = 0;
        } else {
            passed++;
        }
    }
}

static void flusher_start_probes(struct flusher *flusher, uint64_t now)
{
    const struct config *config = flusher_config(flusher);

    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];
        if (lane->probing || now < lane->probe_at_ms)
            continue;
        lane->probing = true;
        if (flusher_post(flusher, i, NULL, insert_request_probe_url(config, &config->streams[i])) !=
            0) {
            lane->probing = false;
            lane->probe_at_ms = now + config->clickhouse_retry_max_ms;
        }
    }
}

static void flusher_visit_list(const struct insert_list *list, vacate_visit_fn visit, void *arg)
{
    for (struct insert *insert = list->first; insert != NULL; insert = insert->next)
        for (size_t i = 0; i < insert->count; i++)
            visit(arg, &insert->records[i]);
}

/* Visits what is here and not on its way. */
static void flusher_visit(void *holder, vacate_visit_fn visit, void *arg)
{
    struct flusher *flusher = holder;

    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];
        uint32_t from = lane->head_taken;

        for (struct batch *batch = lane->batches; batch != NULL; batch = batch->next, from = 0)
            for (uint32_t k = from; k < batch->count; k++)
                visit(arg, &batch->records[k]);
        flusher_visit_list(&lane->waiting, visit, arg);
    }
    flusher_visit_list(&flusher->parked, visit, arg);
}

/* Milliseconds until something is due of itself. */
static int flusher_next_due(const struct flusher *flusher, uint64_t now)
{
    uint64_t due = now + POLL_MAX_MS;

    if (flusher->discard)
        return POLL_MAX_MS;
    if (vacate_due_ms(&flusher->vacate) < due)
        due = vacate_due_ms(&flusher->vacate);
    if (flusher->parked.first != NULL && flusher->parked_at_ms < due)
        due = flusher->parked_at_ms;
    for (size_t i = 0; i < flusher->lane_count; i++) {
        const struct lane *lane = &flusher->lanes[i];
        if (!lane->probing && lane->probe_at_ms < due)
            due = lane->probe_at_ms;
        if ((lane->waiting.first != NULL || lane->batches != NULL) && lane->retry_at_ms > now &&
            lane->retry_at_ms < due)
            due = lane->retry_at_ms;
    }
    return due > now ? (int)(due - now) : 0;
}

static void *flusher_run(void *arg)
{
    struct flusher *flusher = arg;
    int running;

    /* acquire: pairs with the release in flusher_stop() */
    while (!atomic_load_explicit(&flusher->stop, memory_order_acquire)) {
        uint64_t now;
        curl_multi_perform(flusher->multi, &running);
        flusher_finish_transfers(flusher);
        flusher_take_inbox(flusher);
        now = clock_mono_ms();
        if (!flusher->discard) {
            flusher_retry_parked(flusher, now);
            flusher_start_probes(flusher, now);
            /* First: what is sent again now cannot move. */
            vacate_run(&flusher->vacate, now);
            flusher_start_inserts(flusher, now);
        }
        METRIC_GAUGE_SET(flusher->parts.metrics, clickhouse_inflight,
                         (int64_t)flusher->inflight_count);
        /* What was just added makes this return at once. */
        curl_multi_poll(flusher->multi, NULL, 0, flusher_next_due(flusher, now), NULL);
    }
    return NULL;
}

/* Frees what flusher_start() has made so far, and all that the thread has left. */
static void flusher_destroy(struct flusher *flusher)
{
    while (flusher->active != NULL) {
        struct transfer *transfer = flusher->active;
        flusher_take_off(flusher, transfer);
        insert_destroy(transfer->insert);
        transfer_destroy(transfer);
    }
    while (flusher->idle != NULL) {
        struct transfer *transfer = flusher->idle;
        flusher->idle = transfer->next;
        transfer_destroy(transfer);
    }
    flusher_take_inbox(flusher);
    for (size_t i = 0; i < flusher->lane_count; i++) {
        while (flusher->lanes[i].batches != NULL)
            flusher_drop_first_batch(&flusher->lanes[i]);
        flusher_insert_list_destroy(&flusher->lanes[i].waiting);
    }
    flusher_insert_list_destroy(&flusher->parked);
    curl_multi_cleanup(flusher->multi);
    curl_slist_free_all(flusher->headers);
    dead_letter_close(flusher->dead_letter);
    free(flusher);
}

static void flusher_init_lanes(struct flusher *flusher, const struct config *config)
{
    flusher->lane_count = config->stream_count;
    for (size_t i = 0; i < flusher->lane_count; i++) {
        struct lane *lane = &flusher->lanes[i];
        lane->batches_end = &lane->batches;
        insert_list_init(&lane->waiting);
        lane->async = config->clickhouse_async_insert == CONFIG_ASYNC_ON;
        lane->counted = true;
        lane->views = true;
    }
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
    started->discard = strncmp(config->clickhouse_url, "discard:", 8) == 0;
    started->up = -1;
    insert_list_init(&started->parked);
    vacate_init(&started->vacate, parts->journal, flusher_visit, started);
    flusher_init_lanes(started, config);
    event_id_random(&started->random, sizeof(started->random));
    started->random |= 1; /* xorshift would stay at 0 */
    curl_global_init(CURL_GLOBAL_DEFAULT);
    started->multi = curl_multi_init();
    started->headers = transfer_headers(config);
    started->counters = metrics_thread_create(parts->metrics);
    if (started->multi == NULL || started->headers == NULL || started->counters == NULL)
        goto destroy_started;
    if (!started->discard) {
        err = dead_letter_open(&started->dead_letter, config->dead_letter_dir);
        if (err != 0) {
            snprintf(error, FLUSHER_ERROR_MAX, "cannot use dead-letter folder %s: %s",
                     config->dead_letter_dir, strerror(-err));
            goto destroy_started;
        }
    }
    if (started->dead_letter != NULL)
        METRIC_GAUGE_SET(parts->metrics, dead_letter_bytes,
                         (int64_t)dead_letter_bytes(started->dead_letter));
    METRIC_GAUGE_SET(parts->metrics, clickhouse_up, started->discard);
    err = -pthread_create(&started->thread, NULL, flusher_run, started);
    if (err != 0)
        goto destroy_started;
    pthread_setname_np(started->thread, "alloy-flusher");
    *flusher = started;
    return 0;

destroy_started:
    flusher_destroy(started);
    return err;
}

void flusher_submit(struct flusher *flusher, struct batch *batch)
{
    struct batch *newest = atomic_load_explicit(&flusher->inbox, memory_order_relaxed);

    ALLOY_ASSERT(batch->count > 0 && batch->stream < flusher->lane_count);
    atomic_fetch_add_explicit(&flusher->pending, batch->count, memory_order_relaxed);
    /* The inbox is only ever taken whole, so a node cannot come back while we look (no ABA). */
    do {
        batch->next = newest;
        /* release: pairs with the acquire in flusher_take_inbox() */
    } while (!atomic_compare_exchange_weak_explicit(&flusher->inbox, &newest, batch,
                                                    memory_order_release, memory_order_relaxed));
    /* Whoever found it empty wakes; the others' batches are taken along. */
    if (newest == NULL)
        curl_multi_wakeup(flusher->multi);
}

uint64_t flusher_pending(const struct flusher *flusher)
{
    /* acquire: pairs with the release in flusher_finish_records() */
    return atomic_load_explicit(&flusher->pending, memory_order_acquire);
}

void flusher_stop(struct flusher *flusher)
{
    /* release: pairs with the acquire in flusher_run() */
    atomic_store_explicit(&flusher->stop, true, memory_order_release);
    curl_multi_wakeup(flusher->multi);
    pthread_join(flusher->thread, NULL);
    METRIC_GAUGE_SET(flusher->parts.metrics, clickhouse_inflight, 0);
    flusher_destroy(flusher);
}
