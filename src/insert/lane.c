/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lane.c - a stream's place in the flusher.
 *
 * Batches gather for linger_ms, counted from the oldest, and while the lane may send no more
 * inserts; so inserts grow with the load and in an outage, up to a limit. The limit shrinks with
 * each insert that was too large or too slow, and grows by an eighth with each success at the
 * limit. Nothing lingers once the limit is reached, nor what somebody waits for, nor a frozen
 * insert, nor anything while some insert has failed: what becomes of that depends on whether others
 * go in.
 *
 * A lane that has failed sends one insert at a time, after its back-off. While ClickHouse does not
 * answer, the lane begins no new insert. When ClickHouse has refused one, the next try is a new
 * one, so that trouble with one insert does not hold up the others.
 *
 * Runs on: flusher thread.
 * Owns: batches from submission on, and the inserts in its lists.
 */
#include "lane.h"

#include <string.h>

#include "alloy/clock.h"

#define STATE(state) (1u << (state))
#define LOOK 16
#define PACE_SHRINK 4  /* a success shortens the pause by a fourth */
#define GROWTH 8       /* a success at the limit adds an eighth */
#define CANARY_ROWS 16 /* rows of a try, of those that the table has refused */
#define TIME_SHARE 4   /* an insert should take at most this part of its time-out */
#define TIME_GROWS 8   /* inserts grow while they take less than this part */
#define BYTES_MIN 4096
#define CLOCK_MARGIN_MS 600000 /* by which the real time may have been set back */

/* The states that may follow each state. */
static const unsigned lane_moves[] = {
    [LANE_WELL] = STATE(LANE_WELL) | STATE(LANE_TROUBLED) | STATE(LANE_REFUSES),
    [LANE_TROUBLED] = STATE(LANE_WELL) | STATE(LANE_TROUBLED) | STATE(LANE_REFUSES),
    [LANE_REFUSES] = STATE(LANE_WELL) | STATE(LANE_REFUSES),
};

void lane_init(struct lane *lane, uint16_t stream)
{
    lane->stream = stream;
    lane->batches_end = &lane->batches;
    insert_list_init(&lane->waiting);
    apart_init(&lane->apart);
    insert_list_init(&lane->verify.waiting);
    lane->rows_max = lane->rows_top = LANE_ROWS_MAX;
    lane->bytes_max = LANE_BYTES_MAX;
    lane->version = 1;
}

void lane_doubt(struct lane *lane)
{
    lane->takes_since_ns = 0;
    lane->refused = false;
    lane->doubted_ns = clock_mono_ns();
}

void lane_move(struct lane *lane, enum lane_state to)
{
    ALLOY_ASSERT((lane_moves[lane->state] & STATE(to)) != 0);
    lane->state = to;
    if (to == LANE_REFUSES)
        lane_doubt(lane);
    ALLOY_ASSERT(to != LANE_WELL || lane->backoff.failures == 0);
}

static bool lane_is_pressing(const struct batch *batch)
{
    return batch->insert_id != 0 || batch->urgent;
}

static void lane_drop_first_batch(struct lane *lane)
{
    struct batch *batch = lane->batches;

    lane->pressing -= lane_is_pressing(batch);
    lane->batches = batch->next;
    if (lane->batches == NULL)
        lane->batches_end = &lane->batches;
    lane->head_taken = 0;
    free(batch);
}

void lane_clear(struct lane *lane)
{
    while (lane->batches != NULL)
        lane_drop_first_batch(lane);
    insert_list_clear(&lane->waiting);
    apart_clear(&lane->apart);
    insert_list_clear(&lane->verify.waiting);
    free(lane->sample);
    free(lane->insert_columns);
}

void lane_press(struct lane *lane)
{
    struct batch *last = lane->batches;

    while (last != NULL && last->next != NULL)
        last = last->next;
    if (last == NULL || lane_is_pressing(last))
        return;
    last->urgent = true;
    lane->pressing++;
}

void lane_limit(struct lane *lane, size_t rows_top, uint64_t linger_ms)
{
    /* Nobody has asked whether what has gathered is urgent. */
    if (lane->linger_ms == 0 && linger_ms > 0)
        lane_press(lane);
    lane->linger_ms = linger_ms;
    if (lane->rows_max > rows_top || lane->rows_max == lane->rows_top)
        lane->rows_max = rows_top;
    lane->rows_top = rows_top;
}

void lane_add_batch(struct lane *lane, struct batch *batch)
{
    lane->gathered_rows += batch->count;
    lane->gathered_bytes += batch->bytes;
    lane->pressing += lane_is_pressing(batch);
    batch->next = NULL;
    *lane->batches_end = batch;
    lane->batches_end = &batch->next;
}

/* How many records of the first batch fit into an insert: at least one. */
static uint32_t lane_fitting(const struct lane *lane, size_t rows_max, uint64_t *bytes)
{
    const struct batch *batch = lane->batches;
    uint32_t n = 0;

    *bytes = 0;
    for (uint32_t i = lane->head_taken; i < batch->count; i++, n++) {
        uint64_t more = batch->records[i]->body_length;
        if (n > 0 && (n >= rows_max || *bytes + more > lane->bytes_max))
            break;
        *bytes += more;
    }
    return n;
}

/*
 * How many rows the lane's batches give for an insert now. *whole: batches that go in as a whole;
 * 0: a piece of the first, or the frozen insert that replay found.
 */
static size_t lane_measure(const struct lane *lane, size_t rows_max, size_t *whole)
{
    const struct batch *batch = lane->batches;
    uint64_t bytes = 0;
    size_t rows = 0;

    *whole = 0;
    if (batch->insert_id != 0)
        return batch->count;
    for (; batch != NULL && batch->insert_id == 0; batch = batch->next) {
        uint32_t count = batch->count - (*whole == 0 ? lane->head_taken : 0);
        if (rows + count > rows_max || bytes + batch->bytes > lane->bytes_max)
            break;
        rows += count;
        bytes += batch->bytes;
        ++*whole;
    }
    return *whole > 0 ? rows : lane_fitting(lane, rows_max, &bytes);
}

/* Copies an event for the comparison with the table's columns, if we need one: we have not compared
 * the table yet, or what we reported may no longer be true. */
static void lane_take_sample(struct lane *lane, const struct record *record)
{
    char *copy;

    if ((lane->columns_version == lane->version && !lane->columns_told) || lane->sample_new ||
        record->body_length > LANE_SAMPLE_MAX)
        return;
    copy = malloc(record->body_length);
    if (copy == NULL)
        return; /* the next event will do */
    memcpy(copy, record->body, record->body_length);
    free(lane->sample);
    lane->sample = copy;
    lane->sample_len = record->body_length - 1; /* without the newline */
    lane->sample_new = true;
}

void lane_compared(struct lane *lane, bool told)
{
    lane->columns_version = lane->version;
    lane->columns_told = told;
    lane->sample_new = false;
    if (told)
        return;
    free(lane->sample);
    lane->sample = NULL;
}

/* Not after an earlier life has first sent these records, by the monotonic clock: reckoned from the
 * time they came, which is by the other. */
static int64_t lane_sent_ns(const struct batch *batch)
{
    const uint64_t now_ms = clock_real_ms();
    uint64_t oldest_ms = now_ms;

    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->records[i]->received_ms < oldest_ms)
            oldest_ms = batch->records[i]->received_ms;
    }
    return (int64_t)clock_mono_ns() -
           (int64_t)((now_ms - oldest_ms + CLOCK_MARGIN_MS) * CLOCK_NS_PER_MS);
}

/* Builds the next insert from batches that have gathered. There is one. NULL: out of memory. */
static struct insert *lane_build(struct lane *lane, size_t rows_max)
{
    size_t whole;
    size_t rows = lane_measure(lane, rows_max, &whole);
    struct insert *insert = insert_create(lane->stream, rows);

    if (insert == NULL)
        return NULL;
    insert->shard = lane->shard;
    insert->async = lane->async;
    lane_take_sample(lane, lane->batches->records[lane->head_taken]);
    if (lane->batches->insert_id != 0) {
        insert->id = lane->batches->insert_id;
        insert->async = (insert->id & INSERT_ID_ASYNC) != 0;
        insert->stamped = true;
        insert_move(insert, INSERT_FROZEN);
        insert->doubt = insert->partial = true;
        insert->sent_ns = lane_sent_ns(lane->batches);
        whole = 1;
    }
    if (whole == 0) {
        uint64_t bytes;
        uint32_t n = lane_fitting(lane, rows_max, &bytes);
        insert_add(insert, lane->batches->records + lane->head_taken, n, bytes);
        lane->batches->bytes -= bytes;
        lane->gathered_rows -= n;
        lane->gathered_bytes -= bytes;
        lane->head_taken += n;
        if (lane->head_taken == lane->batches->count)
            lane_drop_first_batch(lane);
    }
    for (; whole > 0; whole--) {
        const struct batch *batch = lane->batches;
        insert_add(insert, batch->records + lane->head_taken, batch->count - lane->head_taken,
                   batch->bytes);
        lane->gathered_rows -= batch->count - lane->head_taken;
        lane->gathered_bytes -= batch->bytes;
        lane_drop_first_batch(lane);
    }
    return insert;
}

static bool lane_waiting_due(const struct lane *lane, uint64_t now_ms)
{
    size_t look = LOOK;

    for (const struct insert *insert = lane->waiting.first; insert != NULL && look > 0;
         insert = insert->next, look--) {
        if (now_ms >= insert->due_ms)
            return true;
    }
    return false;
}

/* No insert of the lane has failed that is not settled. */
static bool lane_is_clear(const struct lane *lane)
{
    const struct apart *apart = &lane->apart;

    return lane->state == LANE_WELL && lane->waiting.first == NULL && apart->out == 0 &&
           apart->likely.first == NULL && apart->suspects.first == NULL &&
           apart->again.first == NULL && apart->kept.first == NULL;
}

/* Until when the batches wait for more; 0: they do not. There is one. */
static uint64_t lane_lingers_until(const struct lane *lane)
{
    if (lane->linger_ms == 0 || lane->pressing > 0 || !lane_is_clear(lane) ||
        lane->gathered_rows >= lane->rows_max || lane->gathered_bytes >= lane->bytes_max)
        return 0;
    return lane->batches->since_ms + lane->linger_ms;
}

/* Whether a new insert may begin. It waits for the facts about the table only if they decide how it
 * is sent. */
static bool lane_fresh_due(const struct lane *lane, uint64_t now_ms)
{
    if (lane->batches == NULL || now_ms < lane->fresh_from_ms || now_ms < lane_lingers_until(lane))
        return false;
    /* Each new one could time out too, and then must keep its size. */
    if (lane->slow_count >= LANE_WAITING_MAX && lane->slow_ns > lane->success_ns)
        return false;
    return lane->backoff.failures == 0 || (lane->answers && lane->waiting.count < LANE_WAITING_MAX);
}

/* Whether to try again a few of the refused rows; only when nothing else is out. */
static bool lane_canary_due(const struct lane *lane, uint64_t now_ms)
{
    if (lane->out + lane->apart.out > 0 || now_ms < lane->canary_at_ms)
        return false;
    return lane->apart.kept.first != NULL ||
           (lane->state == LANE_REFUSES && apart_due(&lane->apart, now_ms, false));
}

bool lane_due(const struct lane *lane, uint64_t now_ms)
{
    /* After a failure, and while merges catch up, we send one insert at a time. */
    if ((lane->state != LANE_WELL || lane->pace_ms > 0) && lane->out > 0)
        return false;
    if (now_ms >= lane->retry_at_ms &&
        (lane_waiting_due(lane, now_ms) || lane_fresh_due(lane, now_ms)))
        return true;
    return lane_canary_due(lane, now_ms);
}

struct insert *lane_next(struct lane *lane, uint64_t now_ms, uint64_t canary_ms)
{
    const bool fresh = now_ms >= lane->retry_at_ms && lane_fresh_due(lane, now_ms);
    struct insert *insert = NULL;

    if (now_ms >= lane->retry_at_ms && (!fresh || !lane->fresh_turn || lane->backoff.failures == 0))
        insert = insert_list_take_due(&lane->waiting, now_ms, LOOK);
    if (insert == NULL && fresh) {
        insert = lane_build(lane, lane->rows_max);
        if (insert != NULL && insert->state == INSERT_GATHERED)
            insert = apart_sift(&lane->apart, insert, lane->state == LANE_REFUSES);
    }
    if (insert != NULL || fresh)
        return insert;
    lane->canary_at_ms = now_ms + canary_ms;
    return lane->apart.kept.first != NULL ? apart_take_kept(&lane->apart)
                                          : apart_take_few(&lane->apart, CANARY_ROWS);
}

uint64_t lane_next_due(const struct lane *lane, uint64_t now_ms)
{
    uint64_t due = apart_next_due(&lane->apart);
    size_t look = LOOK;

    for (const struct insert *insert = lane->waiting.first; insert != NULL && look > 0;
         insert = insert->next, look--) {
        if (insert->due_ms > now_ms && insert->due_ms < due)
            due = insert->due_ms;
    }
    if ((lane->waiting.first != NULL || lane->batches != NULL) && lane->retry_at_ms > now_ms &&
        lane->retry_at_ms < due)
        due = lane->retry_at_ms;
    if (lane->batches != NULL && lane->fresh_from_ms > now_ms && lane->fresh_from_ms < due)
        due = lane->fresh_from_ms;
    if (lane->batches != NULL && lane_lingers_until(lane) > now_ms &&
        lane_lingers_until(lane) < due)
        due = lane_lingers_until(lane);
    if ((lane->state == LANE_REFUSES || lane->apart.kept.first != NULL) &&
        lane->canary_at_ms > now_ms && lane->canary_at_ms < due)
        due = lane->canary_at_ms;
    return due;
}

void lane_shrink(struct lane *lane, const struct insert *insert, size_t divisor)
{
    const size_t rows = insert->count / divisor > 0 ? insert->count / divisor : 1;
    const uint64_t bytes =
        insert->bytes / divisor > BYTES_MIN ? insert->bytes / divisor : BYTES_MIN;

    if (rows < lane->rows_max)
        lane->rows_max = rows;
    if (bytes < lane->bytes_max)
        lane->bytes_max = bytes;
}

void lane_grow(struct lane *lane, const struct insert *insert, uint64_t took_ms,
               uint64_t timeout_ms)
{
    const uint64_t wanted_ms = timeout_ms / TIME_SHARE;

    if (took_ms > wanted_ms && wanted_ms > 0) {
        lane_shrink(lane, insert, (size_t)(took_ms / wanted_ms) + 1);
        return;
    }
    if (took_ms > timeout_ms / TIME_GROWS)
        return;
    /* The insert was as large as allowed, or nearly. */
    if (insert->count >= lane->rows_max - lane->rows_max / GROWTH)
        lane->rows_max += lane->rows_max / GROWTH + 1;
    if (insert->bytes >= lane->bytes_max - lane->bytes_max / GROWTH)
        lane->bytes_max += lane->bytes_max / GROWTH + 1;
    if (lane->rows_max > lane->rows_top)
        lane->rows_max = lane->rows_top;
    if (lane->bytes_max > LANE_BYTES_MAX)
        lane->bytes_max = LANE_BYTES_MAX;
}

void lane_back_off(struct lane *lane, const struct lane_wait *wait, bool longest)
{
    const uint64_t now = clock_mono_ms();
    uint64_t until;

    /* Inserts that were out together fail together: count one failure. */
    if (lane->retry_at_ms > now && !longest)
        return;
    until = now + backoff_next(&lane->backoff, longest ? wait->max_ms : wait->min_ms, wait->max_ms,
                               wait->random);
    if (until > lane->retry_at_ms)
        lane->retry_at_ms = until;
    if (lane->state == LANE_WELL)
        lane_move(lane, LANE_TROUBLED);
}

void lane_slow_down(struct lane *lane, const struct lane_wait *wait)
{
    uint64_t pace = lane->pace_ms * 2;

    if (pace < wait->min_ms)
        pace = wait->min_ms;
    lane->pace_ms = pace < wait->max_ms ? pace : wait->max_ms;
}

void lane_judged(struct lane *lane)
{
    if (lane->state == LANE_REFUSES)
        return;
    backoff_reset(&lane->backoff);
    lane->retry_at_ms = 0;
    lane_move(lane, LANE_WELL);
}

bool lane_takes_rows(const struct lane *lane)
{
    return lane->success_version == lane->version;
}

void lane_refused(struct lane *lane)
{
    if (lane->takes_since_ns != 0 || lane->refused)
        return;
    lane->refused = true;
    lane->doubted_ns = clock_mono_ns();
}

void lane_succeed(struct lane *lane, const struct insert *insert, uint64_t sent_ns)
{
    backoff_reset(&lane->backoff);
    lane->retry_at_ms = lane->pace_ms == 0 ? 0 : clock_mono_ms() + lane->pace_ms;
    lane->pace_ms -= (lane->pace_ms + PACE_SHRINK - 1) / PACE_SHRINK;
    lane->failed_id = 0;
    lane->retries = 0;
    lane->success_ns = clock_mono_ns();
    if (sent_ns > lane->taken_ns)
        lane->taken_ns = sent_ns;
    if (lane->takes_since_ns == 0 && sent_ns > lane->doubted_ns) {
        lane->takes_since_ns = lane->success_ns;
        lane->success_version = lane->version;
        lane->refused = false;
    }
    apart_note_success(&lane->apart, insert);
    lane_move(lane, LANE_WELL);
}

void lane_visit(struct lane *lane, apart_visit_fn visit, void *arg)
{
    for (struct insert *insert = lane->waiting.first; insert != NULL; insert = insert->next)
        visit(arg, insert);
    for (struct insert *insert = lane->verify.waiting.first; insert != NULL; insert = insert->next)
        visit(arg, insert);
    apart_visit(&lane->apart, visit, arg);
}
