/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert.c - a frozen insert: its bytes, and how it is taken apart.
 *
 * One bad row in n is found with at most 2 * log2(n) + 2 inserts, the first included. Halving costs
 * two inserts a level when the bad row is in the first half, and one when it is not: a clean first
 * half proves the second bad without sending it. A row that a message names costs one insert when
 * the message is wrong; it is then not believed again. Messages are nearly always right, so a bad
 * row normally costs two inserts more than a good one; but as each try sends all the other rows
 * again, after INSERT_HINTS bad rows we halve.
 *
 * Runs on: flusher thread.
 * Owns: the array of pointers. The records belong to the journal.
 */
#include "insert.h"

#include <errno.h>
#include <string.h>

#define INSERT_HINTS 4

struct insert *insert_create(uint16_t stream, size_t capacity)
{
    struct insert *insert = malloc(sizeof(*insert) + capacity * sizeof(insert->records[0]));

    if (insert != NULL)
        *insert = (struct insert){.stream = stream, .capacity = capacity, .hints = INSERT_HINTS};
    return insert;
}

void insert_destroy(struct insert *insert)
{
    if (insert == NULL)
        return;
    free(insert->message);
    free(insert);
}

void insert_add(struct insert *insert, struct record *const *records, size_t n, uint64_t bytes)
{
    ALLOY_ASSERT(n <= insert->capacity - insert->count);
    memcpy(insert->records + insert->count, records, n * sizeof(records[0]));
    insert->count += n;
    insert->bytes += bytes;
}

size_t insert_read(struct insert *insert, char *out, size_t room)
{
    size_t copied = 0;

    while (copied < room && insert->read_row < insert->count) {
        const struct record *record = insert->records[insert->read_row];
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

static uint64_t insert_sum_bytes(struct record *const *records, size_t n)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += records[i]->body_length;
    return bytes;
}

static void insert_add_range(struct insert *part, const struct insert *whole, size_t begin,
                             size_t end)
{
    insert_add(part, whole->records + begin, end - begin,
               insert_sum_bytes(whole->records + begin, end - begin));
}

int insert_part(struct insert *insert, bool bad_row, int64_t row, struct insert *parts[2])
{
    bool named = row >= 0 && (uint64_t)row < insert->count && insert->hints > 0;
    size_t first_count = named ? 1 : insert->count / 2;
    struct insert *first;
    struct insert *second;

    ALLOY_ASSERT(insert->count >= 2);
    first = insert_create(insert->stream, first_count);
    second = insert_create(insert->stream, insert->count - first_count);
    if (first == NULL || second == NULL) {
        insert_destroy(first);
        insert_destroy(second);
        return -ENOMEM;
    }
    if (named) {
        insert_add_range(first, insert, (size_t)row, (size_t)row + 1);
        insert_add_range(second, insert, 0, (size_t)row);
        insert_add_range(second, insert, (size_t)row + 1, insert->count);
        second->hints = (uint8_t)(insert->hints - 1);
    } else {
        insert_add_range(first, insert, 0, first_count);
        insert_add_range(second, insert, first_count, insert->count);
    }
    if (insert->distrust)
        first->hints = second->hints = 0;
    first->part = second->part = true;
    first->distrust = second->distrust = insert->distrust;
    first->hinted = named;
    if (bad_row) {
        first->follower = second;
        second->leader = first;
    }
    insert_settle(insert, false);
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
            if (insert->hinted) {
                follower->distrust = true;
                follower->hints = 0;
            }
        }
    }
}
