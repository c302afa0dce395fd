/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert.h - a frozen insert: the rows that go to ClickHouse under one token, read as one stream of
 * bytes straight from the journal, and cut into parts when a row of it is refused.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_INSERT_H
#define ALLOY_INSERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/segment.h"

struct insert {
    struct insert *next; /* for whoever holds it */
    uint64_t id;         /* 0 until drawn */
    uint64_t bytes;      /* of all rows, newlines included */
    size_t count;
    size_t capacity;
    size_t read_row; /* where the next insert_read() goes on */
    size_t read_offset;
    /* How an insert that holds a bad row is taken apart: see insert_part(). */
    struct insert *follower; /* holds a bad row if this one does not */
    struct insert *leader;   /* the insert whose follower this is */
    uint16_t stream;
    bool stamped;      /* id is in every record */
    bool async;        /* fixed with the id: servers keep tokens of async and other inserts apart */
    bool uncertain;    /* it may be in ClickHouse already */
    bool alone;        /* sent again so that the server cannot join it with others' */
    bool ignore_views; /* materialized views may have refused it: goes in without them */
    bool view_blamed;  /* nobody else can have refused it */
    bool part;         /* came out of another insert */
    bool suspect;      /* known to hold a bad row: cut it, do not send it */
    bool hinted;       /* the one row that a message named */
    bool distrust;     /* a message has named a wrong row before */
    uint8_t hints;     /* named rows still to be followed before halving */
    int code;          /* of its last refusal */
    /* Of a single row that was refused and could not be put away yet. */
    char *message;
    struct record *records[];
};

/* Returns owned (insert_destroy()); NULL: out of memory. */
struct insert *insert_create(uint16_t stream, size_t capacity);
void insert_destroy(struct insert *insert); /* NULL is fine */
/* Appends n records that are bytes long together. There must be room. */
void insert_add(struct insert *insert, struct record *const *records, size_t n, uint64_t bytes);

/* Copies the next bytes of the body, at most room; 0 at its end. */
size_t insert_read(struct insert *insert, char *out, size_t room);
void insert_rewind(struct insert *insert);

/*
 * Cuts insert, of at least two rows, in two. With row >= 0 and while hints are left: that row alone
 * and the others; else in halves, the smaller one first. Takes insert and sets both parts, which
 * have no id yet, on 0; -ENOMEM: nothing happened. bad_row: one of the rows is known to be at
 * fault, so that if the first part turns out clean the second is suspect.
 */
MUST_CHECK int insert_part(struct insert *insert, bool bad_row, int64_t row,
                           struct insert *parts[2]);
/* Insert has been sent and answered, or is about to be sent: unlinks it. clean: all its rows are
 * good, so its follower is suspect. */
void insert_settle(struct insert *insert, bool clean);

#endif
