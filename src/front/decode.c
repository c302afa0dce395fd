/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode.c - the decoded request bodies of one front-end thread.
 *
 * Bodies that are decoded at once lie behind each other in pieces of memory. A piece does not move
 * while admission borrows slices of it, so that a body that does not fit into the rest of one goes
 * on in the next. One piece is kept between turns while such bodies come.
 *
 * A body that is decoded step by step has address space for all that it may have. Memory is behind
 * it as far as it is decoded. Most of it is back with the system when the body is done with, and
 * all of it when no other follows.
 *
 * All memory is charged to server.max_buffers. It grows with what has been decoded, and never with
 * what the body announces: a bomb costs what it may decode to, in one body a thread.
 *
 * Runs on: the front-end thread that owns it.
 * Owns: decoders and decoded bytes.
 */
#include "decode.h"

#include <string.h>
#include <sys/mman.h>

/* The last byte tells that a body is too long. */
#define PIECE_BYTES (DECODE_OUT_MAX + 1)
#define KEPT_MAX (1ul << 20) /* of a large body's memory, while such bodies come */
#define KEPT_SHARE 64        /* but no more than this part of server.max_buffers */
#define KEPT_UNIT (64ul << 10)

static void decode_unmap(struct decode *decode)
{
    if (!decode->large_body)
        return;
    munmap(decode->large_body, decode->body_max + 1);
    buffer_budget_give(decode->pool->budget, decode->large_charged);
    decode->large_body = NULL;
    decode->large_charged = 0;
}

bool decode_init(struct decode *decode, struct buffer_pool *pool, size_t body_max)
{
    *decode = (struct decode){.pool = pool,
                              .body_max = body_max,
                              .kept_max = pool->budget->max / KEPT_SHARE,
                              .decoder = coding_create(),
                              .large_decoder = coding_create()};
    if (decode->kept_max > KEPT_MAX)
        decode->kept_max = KEPT_MAX;
    decode->kept_max -= decode->kept_max % KEPT_UNIT;
    if (decode->decoder && decode->large_decoder)
        return true;
    decode_fini(decode);
    return false;
}

void decode_fini(struct decode *decode)
{
    decode_unmap(decode);
    for (size_t i = 0; i < decode->piece_count; i++)
        buffer_release(decode->pool, &decode->pieces[i]);
    coding_destroy(decode->decoder);
    coding_destroy(decode->large_decoder);
    *decode = (struct decode){0};
}

static bool decode_add_piece(struct decode *decode)
{
    ALLOY_ASSERT(decode->piece_count < DECODE_PIECES_MAX);
    if (!buffer_take_size(decode->pool, &decode->pieces[decode->piece_count], PIECE_BYTES))
        return false;
    decode->piece_count++;
    return true;
}

/* Moves the part of a body that is decoded into a new piece. */
static bool decode_move(struct decode *decode, struct coding_out *out)
{
    struct buffer *piece;

    if (!decode_add_piece(decode))
        return false;
    piece = &decode->pieces[decode->piece_count - 1];
    memcpy(piece->data, out->data, out->len);
    out->data = piece->data;
    out->size = out->max + 1;
    return true;
}

/* Decodes into what is left of the last piece, and from there on into a new one. */
static enum coding_result decode_into_pieces(struct decode *decode, struct slice *raw,
                                             struct coding_out *out)
{
    struct buffer *piece = &decode->pieces[decode->piece_count - 1];
    size_t room = piece->size - piece->end;
    enum coding_result result = CODING_FULL;

    out->data = piece->data + piece->end;
    out->size = room > out->max + 1 ? out->max + 1 : room;
    if (room > 0)
        result = coding_decode(decode->decoder, raw, true, out);
    if (result != CODING_FULL)
        return result;
    if (!decode_move(decode, out))
        return CODING_NO_MEMORY;
    return coding_decode(decode->decoder, raw, true, out);
}

enum coding_result decode_at_once(struct decode *decode, enum coding coding, struct slice raw,
                                  struct slice *body)
{
    struct coding_out out = {.max = DECODE_OUT_MAX};
    enum coding_result result;

    *body = (struct slice){0};
    if (raw.len > DECODE_RAW_MAX || coding_announced(coding, raw) > DECODE_OUT_MAX)
        return CODING_MORE;
    if (out.max > decode->body_max)
        out.max = decode->body_max;
    if (decode->piece_count == 0 && !decode_add_piece(decode))
        return CODING_NO_MEMORY;
    decode->used = true;
    coding_begin(decode->decoder, coding);
    result = decode_into_pieces(decode, &raw, &out);
    *body = (struct slice){out.data, out.len};
    if (result == CODING_TOO_LARGE && out.max < decode->body_max)
        return CODING_MORE;
    if (result == CODING_DONE)
        decode->pieces[decode->piece_count - 1].end += out.len;
    decode->problem = coding_problem(decode->decoder);
    return result;
}

void decode_turn_end(struct decode *decode)
{
    while (decode->piece_count > 1)
        buffer_release(decode->pool, &decode->pieces[--decode->piece_count]);
    if (decode->piece_count > 0)
        decode->pieces[0].end = 0;
}

void decode_begin(struct decode *decode, enum coding coding, struct slice raw)
{
    ALLOY_ASSERT(!decode->large_raw.data && decode->large_len == 0);
    decode->large_raw = raw;
    decode->large_used = true;
    coding_begin(decode->large_decoder, coding);
}

/* Makes room for one step. */
static bool decode_grow(struct decode *decode)
{
    const size_t size = decode->body_max + 1;
    size_t more = size - decode->large_charged;
    void *data;

    if (!decode->large_body) {
        data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                    -1, 0);
        if (data == MAP_FAILED)
            return false;
        decode->large_body = data;
    }
    if (more > DECODE_OUT_MAX)
        more = DECODE_OUT_MAX;
    if (!buffer_budget_take(decode->pool->budget, more))
        return false;
    decode->large_charged += more;
    return true;
}

enum coding_result decode_step(struct decode *decode, struct slice *body)
{
    struct slice *raw = &decode->large_raw;
    struct slice piece = *raw;
    struct coding_out out;
    enum coding_result result;

    if (decode->large_len == decode->large_charged && !decode_grow(decode))
        return CODING_NO_MEMORY;
    if (piece.len > DECODE_RAW_MAX)
        piece.len = DECODE_RAW_MAX;
    out = (struct coding_out){.data = decode->large_body,
                              .size = decode->large_charged,
                              .len = decode->large_len,
                              .max = decode->body_max};
    if (out.size > out.len + DECODE_OUT_MAX)
        out.size = out.len + DECODE_OUT_MAX;
    result = coding_decode(decode->large_decoder, &piece, piece.len == raw->len, &out);
    raw->len -= (size_t)(piece.data - raw->data);
    raw->data = piece.data;
    decode->large_len = out.len;
    *body = (struct slice){out.data, out.len};
    decode->problem = coding_problem(decode->large_decoder);
    return result == CODING_FULL ? CODING_MORE : result;
}

void decode_end(struct decode *decode)
{
    const size_t kept = decode->kept_max, charged = decode->large_charged;

    decode->large_len = 0;
    decode->large_raw = (struct slice){0};
    if (charged <= kept)
        return;
    madvise(decode->large_body + kept, charged - kept, MADV_DONTNEED);
    buffer_budget_give(decode->pool->budget, charged - kept);
    decode->large_charged = kept;
}

void decode_trim(struct decode *decode)
{
    if (!decode->used && decode->piece_count > 0)
        buffer_release(decode->pool, &decode->pieces[--decode->piece_count]);
    if (!decode->large_used && !decode->large_raw.data)
        decode_unmap(decode);
    decode->used = false;
    decode->large_used = false;
}
