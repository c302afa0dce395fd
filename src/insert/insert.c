/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert.c - an insert: its states, its bytes, and cutting it in two.
 *
 * A cut copies no rows: it orders the rows of the insert's range so that each part has a range of
 * its own. So a row costs one pointer, however many parts there are.
 *
 * One bad row in n is found with at most 2 * log2(n) + 2 inserts, the first included. Halving costs
 * two inserts a level when the bad row is in the first half, and one when it is not: a clean first
 * half proves the second bad without sending it. A row that a message names costs one insert when
 * the message is wrong; after that we ignore such messages.
 *
 * Runs on: flusher thread.
 * Owns: the array of pointers. The records belong to the journal.
 */
#include "insert.h"

#include <errno.h>
#include <string.h>

#include "shape.h"

#define INSERT_HINTS 4
#define STATE(state) (1u << (state))

/* The states that may follow each state. */
static const unsigned insert_moves[] = {
    [INSERT_GATHERED] = STATE(INSERT_FROZEN) | STATE(INSERT_BURYING) | STATE(INSERT_ENDED),
    [INSERT_FROZEN] = STATE(INSERT_SENT) | STATE(INSERT_PUT_OFF) | STATE(INSERT_UNVERIFIED),
    [INSERT_SENT] = STATE(INSERT_PUT_OFF) | STATE(INSERT_REFUSED) | STATE(INSERT_UNVERIFIED) |
                    STATE(INSERT_ENDED),
    [INSERT_PUT_OFF] = STATE(INSERT_SENT) | STATE(INSERT_PUT_OFF) | STATE(INSERT_UNVERIFIED),
    [INSERT_REFUSED] =
        STATE(INSERT_SENT) | STATE(INSERT_KEPT) | STATE(INSERT_BURYING) | STATE(INSERT_ENDED),
    [INSERT_KEPT] = STATE(INSERT_REFUSED) | STATE(INSERT_BURYING),
    [INSERT_BURYING] = STATE(INSERT_ENDED),
    [INSERT_UNVERIFIED] = STATE(INSERT_GATHERED) | STATE(INSERT_PUT_OFF) | STATE(INSERT_ENDED),
    [INSERT_ENDED] = 0,
};

static void insert_check(const struct insert *insert)
{
    switch (insert->state) {
    case INSERT_GATHERED:
        ALLOY_ASSERT(insert->id == 0 && !insert->stamped && !insert->doubt);
        break;
    case INSERT_FROZEN:
        ALLOY_ASSERT(insert->id != 0);
        break;
    case INSERT_SENT:
        ALLOY_ASSERT(insert->id != 0 && insert->stamped);
        break;
    case INSERT_PUT_OFF:
        ALLOY_ASSERT(insert->id != 0);
        break;
    case INSERT_REFUSED:
    case INSERT_KEPT:
    case INSERT_BURYING:
        ALLOY_ASSERT(!insert->doubt);
        break;
    case INSERT_UNVERIFIED:
        ALLOY_ASSERT(insert->id != 0 && insert->stamped && insert->doubt);
        break;
    case INSERT_ENDED:
        break;
    }
}

void insert_move(struct insert *insert, enum insert_state to)
{
    ALLOY_ASSERT((insert_moves[insert->state] & STATE(to)) != 0);
    insert->state = to;
    insert_check(insert);
}

struct insert *insert_create(uint16_t stream, size_t capacity)
{
    struct insert *insert = malloc(sizeof(*insert));
    struct insert_rows *rows = malloc(sizeof(*rows) + capacity * sizeof(rows->records[0]));

    if (insert == NULL || rows == NULL) {
        free(insert);
        free(rows);
        return NULL;
    }
    rows->refs = 1;
    rows->capacity = capacity;
    *insert = (struct insert){.stream = stream, .rows = rows, .hints = INSERT_HINTS};
    return insert;
}

void insert_destroy(struct insert *insert)
{
    if (insert == NULL)
        return;
    if (--insert->rows->refs == 0)
        free(insert->rows);
    free(insert->message);
    free(insert);
}

void insert_add(struct insert *insert, struct record *const *records, size_t n, uint64_t bytes)
{
    ALLOY_ASSERT(insert->begin == 0 && n <= insert->rows->capacity - insert->count);
    memcpy(insert->rows->records + insert->count, records, n * sizeof(records[0]));
    insert->count += n;
    insert->bytes += bytes;
}

size_t insert_read(struct insert *insert, char *out, size_t room)
{
    size_t copied = 0;

    while (copied < room && insert->read_row < insert->count) {
        const struct record *record = insert_records(insert)[insert->read_row];
        size_t n = record->body_length - insert->read_offset;
        if (n > room - copied)
            n = room - copied;
        memcpy(out + copied, record->body + insert->read_offset, n);
        copied += n;
        insert->read_offset += n;
        if (insert->read_offset == record->body_length) {
            insert->read_row++;
            insert->read_offset = 0;
        }
    }
    return copied;
}

void insert_rewind(struct insert *insert)
{
    insert->read_row = 0;
    insert->read_offset = 0;
}

uint64_t insert_row_shape(const struct record *record)
{
    const uint64_t shape =
        shape_of((struct slice){record->body, record->body_length - 1}); /* without the newline */

    return shape == 0 ? 1 : shape;
}

/* An insert_first_fn. */
static bool insert_is_of_other_shape(void *arg, size_t row, const struct record *record)
{
    const struct insert_cutting *cutting = arg;
    const uint64_t shape = insert_row_shape(record);

    (void)row;
    for (size_t i = 0; i < cutting->shape_count; i++) {
        if (cutting->shapes[i] == shape)
            return false;
    }
    return true;
}

/* An insert_first_fn. */
static bool insert_is_marked(void *arg, size_t row, const struct record *record)
{
    const char *bits = arg;

    (void)record;
    return bits[row] == '1';
}

static void insert_swap(struct record **a, struct record **b)
{
    struct record *kept = *a;

    *a = *b;
    *b = kept;
}

/* Orders the rows so that those for which first() is true come first, in their order; returns how
 * many these are. */
static size_t insert_order_where(struct insert *insert, insert_first_fn first, void *arg)
{
    struct record **records = insert_records(insert);
    size_t count = 0;

    for (size_t i = 0; i < insert->count; i++) {
        if (first(arg, i, records[i]))
            insert_swap(&records[count++], &records[i]);
    }
    return count;
}

/* Orders the rows so that those of the first part come first; returns how many these are. */
static size_t insert_order(struct insert *insert, const struct insert_cutting *cutting)
{
    struct record **records = insert_records(insert);

    switch (cutting->cut) {
    case INSERT_CUT_ROW:
        insert_swap(&records[0], &records[cutting->at]);
        return 1;
    case INSERT_CUT_HALF:
        return insert->count / 2;
    case INSERT_CUT_FIRST:
        return cutting->at;
    case INSERT_CUT_SHAPE:
        return insert_order_where(insert, insert_is_of_other_shape, (void *)cutting);
    case INSERT_CUT_WHERE:
        return insert_order_where(insert, cutting->first, cutting->arg);
    }
    ALLOY_UNREACHABLE("an insert_cut of no name");
    return 0;
}

size_t insert_order_marked(struct insert *insert, const char *bits)
{
    return insert_order_where(insert, insert_is_marked, (void *)bits);
}

static void insert_take_first(struct insert *insert, size_t first)
{
    ALLOY_ASSERT(insert->state == INSERT_UNVERIFIED && first < insert->count);
    for (size_t i = 0; i < first; i++)
        insert->bytes -= insert_records(insert)[i]->body_length;
    insert->begin += first;
    insert->count -= first;
}

void insert_trim(struct insert *insert, size_t first)
{
    insert_take_first(insert, first);
    insert->partial = true;
    insert_move(insert, INSERT_PUT_OFF);
}

void insert_renew(struct insert *insert, size_t first)
{
    insert_take_first(insert, first);
    insert->acknowledged = insert->asked = insert->partial = false;
    insert->id = 0;
    insert->sent_ns = 0;
    insert->stamped = insert->doubt = insert->aside = false;
    insert->refusals = insert->doublings = 0;
    insert->refused_ns = insert->due_ms = 0;
    insert->proven = insert->fickle = false;
    insert_move(insert, INSERT_GATHERED);
}

/* A part has a token of its own, and is synchronous: then a refusal of it is its own. */
static struct insert *insert_part_create(const struct insert *whole, size_t begin, size_t count)
{
    struct insert *part = malloc(sizeof(*part));

    if (part == NULL)
        return NULL;
    *part = (struct insert){
        .rows = whole->rows,
        .begin = whole->begin + begin,
        .count = count,
        .stream = whole->stream,
        .shard = whole->shard,
        .aside = whole->aside,
        .part = true,
        .distrust = whole->distrust,
        .alike = whole->alike,
        .picked = whole->picked,
        .round = whole->round,
        .promise = whole->promise,
        .hints = whole->distrust ? 0 : whole->hints,
        .bad_shape = whole->bad_shape,
        .code = whole->code,
        .refused_ns = whole->refused_ns,
    };
    for (size_t i = 0; i < count; i++)
        part->bytes += insert_records(part)[i]->body_length;
    return part;
}

int insert_cut(struct insert *insert, const struct insert_cutting *cutting, struct insert *parts[2])
{
    const size_t count = insert_order(insert, cutting);
    struct insert *first;
    struct insert *second;

    ALLOY_ASSERT(insert->count >= 2);
    if (count == 0 || count == insert->count)
        return -ENOENT;
    first = insert_part_create(insert, 0, count);
    second = insert_part_create(insert, count, insert->count - count);
    if (first == NULL || second == NULL) {
        free(first);
        free(second);
        return -ENOMEM;
    }
    insert->rows->refs += 2;
    if (cutting->cut == INSERT_CUT_ROW) {
        first->hinted = true;
        if (second->hints > 0)
            second->hints--;
        second->bad_shape = insert_row_shape(insert_records(first)[0]);
    } else if (cutting->cut == INSERT_CUT_SHAPE) {
        first->bad_shape = second->bad_shape = 0;
        second->alike = cutting->shape_count == 1;
    }
    if (cutting->bad_row) {
        first->follower = second;
        second->leader = first;
    }
    insert_settle(insert, false);
    insert_move(insert, INSERT_ENDED);
    insert_destroy(insert);
    parts[0] = first;
    parts[1] = second;
    return 0;
}

void insert_settle(struct insert *insert, bool clean)
{
    if (insert->leader != NULL) {
        insert->leader->follower = NULL;
        insert->leader = NULL;
    }
    if (insert->follower != NULL) {
        struct insert *follower = insert->follower;
        follower->leader = NULL;
        insert->follower = NULL;
        if (clean) {
            follower->suspect = true;
            follower->bad_shape = 0;
            if (insert->hinted) {
                follower->distrust = true;
                follower->hints = 0;
            }
        }
    }
}

void insert_list_init(struct insert_list *list)
{
    *list = (struct insert_list){.end = &list->first};
}

void insert_list_push_back(struct insert_list *list, struct insert *insert)
{
    insert->next = NULL;
    *list->end = insert;
    list->end = &insert->next;
    list->count++;
}

void insert_list_put(struct insert_list *list, struct insert **link, struct insert *insert)
{
    insert->next = *link;
    if (*link == NULL)
        list->end = &insert->next;
    *link = insert;
    list->count++;
}

void insert_list_push_front(struct insert_list *list, struct insert *insert)
{
    insert_list_put(list, &list->first, insert);
}

struct insert *insert_list_take(struct insert_list *list, struct insert **link)
{
    struct insert *insert = *link;

    *link = insert->next;
    if (*link == NULL)
        list->end = link;
    insert->next = NULL;
    list->count--;
    return insert;
}

struct insert *insert_list_pop(struct insert_list *list)
{
    return insert_list_take(list, &list->first);
}

struct insert *insert_list_take_due(struct insert_list *list, uint64_t now_ms, size_t look)
{
    for (struct insert **link = &list->first; *link != NULL && look > 0;
         link = &(*link)->next, look--) {
        /* Wait for its leader's answer, which may make sending this one unnecessary. */
        if (now_ms >= (*link)->due_ms && (*link)->leader == NULL)
            return insert_list_take(list, link);
    }
    return NULL;
}

void insert_list_append(struct insert_list *list, struct insert_list *other)
{
    if (other->first == NULL)
        return;
    *list->end = other->first;
    list->end = other->end;
    list->count += other->count;
    insert_list_init(other);
}

void insert_list_clear(struct insert_list *list)
{
    while (list->first != NULL)
        insert_destroy(insert_list_pop(list));
}
