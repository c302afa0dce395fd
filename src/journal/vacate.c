/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vacate.c - moves the records that a thread holds out of segments that the journal vacates.
 *
 * Only the holder of a record may move it: nobody else finishes the record in between, and only the
 * holder has a pointer to it. Walking over all held records can take long, and the move syncs. So
 * one turn moves a bounded group, and the next turn comes after twenty times as long as this one
 * took.
 *
 * Runs on: the holder's thread. Owns: nothing.
 */
#include "alloy/vacate.h"

#include "alloy/clock.h"

#define VACATE_BYTES_MAX ((size_t)1 << 20) /* of one group: its sync delays the holder */
#define VACATE_REST_FACTOR 20
#define VACATE_REST_MIN_MS 10
#define VACATE_REST_IDLE_MS 100 /* pause when nothing was found, or there was no room */

void vacate_init(struct vacate *vacate, struct journal *journal, vacate_walk_fn walk, void *holder)
{
    vacate->journal = journal;
    vacate->walk = walk;
    vacate->holder = holder;
    vacate->due_ms = 0;
}

static void vacate_visit(void *arg, struct record **place)
{
    struct vacate *vacate = arg;

    if (vacate->count == JOURNAL_MOVE_MAX || vacate->bytes >= VACATE_BYTES_MAX ||
        !journal_vacating(vacate->journal, *place))
        return;
    vacate->bytes += (*place)->length;
    vacate->places[vacate->count++] = place;
}

void vacate_run(struct vacate *vacate, uint64_t now_ms)
{
    const uint64_t begun_ns = clock_mono_ns();
    struct record *records[JOURNAL_MOVE_MAX];
    size_t moved;
    uint64_t rest_ms;

    if (!journal_wants_vacating(vacate->journal) || now_ms < vacate->due_ms)
        return;
    vacate->count = vacate->bytes = 0;
    vacate->walk(vacate->holder, vacate_visit, vacate);
    for (size_t i = 0; i < vacate->count; i++)
        records[i] = *vacate->places[i];
    moved = journal_move(vacate->journal, records, vacate->count);
    for (size_t i = 0; i < moved; i++)
        *vacate->places[i] = records[i];
    rest_ms = (clock_mono_ns() - begun_ns) / CLOCK_NS_PER_MS * VACATE_REST_FACTOR;
    if (rest_ms < VACATE_REST_MIN_MS)
        rest_ms = VACATE_REST_MIN_MS;
    if (moved == 0 && rest_ms < VACATE_REST_IDLE_MS)
        rest_ms = VACATE_REST_IDLE_MS;
    vacate->due_ms = now_ms + rest_ms;
}

uint64_t vacate_due_ms(const struct vacate *vacate)
{
    return journal_wants_vacating(vacate->journal) ? vacate->due_ms : UINT64_MAX;
}
