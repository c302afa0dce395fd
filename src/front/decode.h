/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.h - the decoded request bodies of one front-end thread.
 *
 * A body that decodes to little is decoded at once, and its bytes stay until the turn's end. Any
 * other is decoded step by step, one at a time.
 *
 * Runs on: the front-end thread that owns it.
 */
#ifndef ALLOY_DECODE_H
#define ALLOY_DECODE_H

#include <stdbool.h>
#include <stddef.h>

#include "alloy/buffer.h"
#include "alloy/coding.h"

/* Both in one step: as input can be made so that it takes far longer than it is long. */
#define DECODE_RAW_MAX (32ul << 10)
#define DECODE_OUT_MAX (256ul << 10)

/* What a turn may hold: its bodies fill these pieces at least by half, see CONN_TURN_BYTES_MAX. */
#define DECODE_PIECES_MAX 12

struct decode {
    /* constant */
    struct buffer_pool *pool;
    size_t body_max;
    size_t kept_max; /* of a large body's memory; whole pages */
    /* of bodies that are decoded at once */
    struct coding_decoder *decoder;
    struct buffer pieces[DECODE_PIECES_MAX]; /* the last one is being filled */
    size_t piece_count;
    bool used; /* since the last decode_trim() */
    /* of the one that is decoded step by step */
    struct coding_decoder *large_decoder;
    struct slice large_raw; /* borrowed: what is not decoded yet */
    char *large_body;       /* room for body_max and one byte more; NULL: none */
    size_t large_len;       /* decoded */
    size_t large_charged;   /* to the budget, from the front on */
    bool large_used;        /* since the last decode_trim() */
    /* after CODING_BAD: one constant sentence for the client */
    const char *problem;
};

/* Borrows pool until decode_fini(). False: out of memory, and nothing is held. */
MUST_CHECK bool decode_init(struct decode *decode, struct buffer_pool *pool, size_t body_max);
void decode_fini(struct decode *decode);

/*
 * A whole body that decodes to at most DECODE_OUT_MAX bytes: *body is lent until decode_turn_end().
 * CODING_MORE: it takes longer, see decode_begin(). CODING_NO_MEMORY: or over server.max_buffers.
 * Whatever comes of it, body->len is what was decoded: the work that was done.
 */
enum coding_result decode_at_once(struct decode *decode, enum coding coding, struct slice raw,
                                  struct slice *body);
/* What decode_at_once() has lent is not needed any more. */
void decode_turn_end(struct decode *decode);
/* Once in a while: gives back what has not been used since the last call. */
void decode_trim(struct decode *decode);

/* Begins a whole body of any size. Borrows raw until decode_end(). */
void decode_begin(struct decode *decode, enum coding coding, struct slice raw);
/* CODING_MORE: goes on with the next call. CODING_DONE: *body is lent until decode_end(). */
enum coding_result decode_step(struct decode *decode, struct slice *body);
/* Gives its memory back, whatever has become of it; nothing to do is fine. */
void decode_end(struct decode *decode);

#endif
