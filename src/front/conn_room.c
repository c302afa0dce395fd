/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_room.c - room in a connection's buffer for the next read.
 *
 * Runs on: the front-end thread that owns the set.
 * Owns: nothing.
 */
#include "conn_private.h"

#define BODY_ROOM_MIN (4ul << 10) /* least room for reading more of a body */
#define BLOCKS_CACHED_MAX 256
#define BODY_GROWTH 4 /* factor for a buffer that a body has filled */

/*
 * The size that a buffer needs now for a body of at most max bytes, head included. It grows with
 * what has arrived and not with Content-Length: clients that announce 8 MiB and send nothing must
 * not use up server.max_buffers.
 */
static size_t conn_room_of_body(const struct buffer *buffer, size_t max)
{
    if (buffer->size - buffer->end >= BODY_ROOM_MIN)
        return 0;
    if (max <= buffer->size)
        return max;
    if (buffer->start > 0 && buffer_len(buffer) + BODY_ROOM_MIN <= buffer->size)
        return buffer->size;
    return max / BODY_GROWTH < buffer->size ? max : buffer->size * BODY_GROWTH;
}

void conn_room_init(struct conn_set *set)
{
    const struct config *config = config_current(set->parts.shared->config);
    struct buffer_budget *budget = &set->parts.shared->budget;
    size_t block_bytes = config->server_max_head_bytes;
    size_t cached_max;

    set->head_max = config->server_max_head_bytes;
    set->body_max = config->server_max_body_bytes;
    if (block_bytes < CONN_BLOCK_MIN)
        block_bytes = CONN_BLOCK_MIN;
    /* The free blocks of all threads take at most a quarter of the budget. */
    cached_max = budget->max / 4 / set->parts.thread_count / block_bytes;
    if (cached_max > BLOCKS_CACHED_MAX)
        cached_max = BLOCKS_CACHED_MAX;
    buffer_pool_init(&set->pool, budget, block_bytes, cached_max);
}

void conn_room_note(struct conn *conn, size_t bytes)
{
    const size_t block = conn->set->pool.block_bytes;
    const size_t blocks = likely(bytes <= block) ? 1 : (bytes - 1) / block + 1;

    conn->blocks = (uint8_t)(blocks > BODY_GROWTH ? BODY_GROWTH : blocks);
}

/* Takes a buffer for the first bytes of a request: as large as the last one needed, within what
 * part of a body would get in any case. */
static bool conn_room_begin(struct conn *conn)
{
    struct buffer_pool *pool = &conn->set->pool;

    if (unlikely(conn->blocks > 1) &&
        buffer_take_size(pool, &conn->buffer, conn->blocks * pool->block_bytes))
        return true;
    return buffer_take(pool, &conn->buffer);
}

bool conn_room_make(struct conn *conn)
{
    struct conn_set *set = conn->set;
    struct buffer *buffer = &conn->buffer;
    size_t want = set->head_max;

    if (!buffer->data)
        return conn_room_begin(conn);
    switch (conn->state) {
    case CONN_BODY:
        want = conn->head_len + (size_t)conn->body_len;
        if (want > buffer->size)
            want = conn_room_of_body(buffer, want);
        break;
    case CONN_CHUNKED:
        want = conn->head_len + set->body_max + set->pool.block_bytes;
        want = conn_room_of_body(buffer, want);
        break;
    case CONN_PROXY:
    case CONN_HEAD:
    case CONN_DROP:
    case CONN_DROP_CHUNKED:
    case CONN_LARGE:
    case CONN_HELD:
    case CONN_WAITING:
    case CONN_TOLD:
    case CONN_CLOSING:
    case CONN_LINGER:
    case CONN_HANDSHAKE:
        break;
    }
    if (buffer->start + want <= buffer->size)
        return true;
    if (want > buffer->size)
        return buffer_grow(&set->pool, buffer, want);
    buffer_compact(buffer);
    return true;
}
