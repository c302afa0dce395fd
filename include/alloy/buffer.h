/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.h - memory for requests that are being received: blocks of one size from a pool of each
 * thread, and larger pieces from malloc. All of it counts against one budget (server.max_buffers).
 *
 * An idle connection holds no buffer, so 65,536 idle connections cost no receive memory at all.
 *
 * Runs on: a pool and its buffers belong to one front-end thread; the budget to any thread.
 */
#ifndef ALLOY_BUFFER_H
#define ALLOY_BUFFER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "alloy/base.h"

struct buffer_budget {
    _Atomic size_t used; /* relaxed: a count, it orders nothing */
    size_t max;          /* constant */
};

/* False: that would exceed the budget, and nothing has changed. */
MUST_CHECK bool buffer_budget_take(struct buffer_budget *budget, size_t bytes);
void buffer_budget_give(struct buffer_budget *budget, size_t bytes);

struct buffer_block;
struct buffer_pool {
    struct buffer_budget *budget;
    size_t block_bytes;
    struct buffer_block *cached; /* free blocks, still counted */
    size_t cached_count;
    size_t cached_max;
    size_t cached_min; /* least cached_count since the last buffer_pool_trim() */
};

/* block_bytes at least sizeof(void *). Borrows budget until buffer_pool_fini(). */
void buffer_pool_init(struct buffer_pool *pool, struct buffer_budget *budget, size_t block_bytes,
                      size_t cached_max);
/* The caller has released every buffer of the pool. */
void buffer_pool_fini(struct buffer_pool *pool);
/* Frees the cached blocks that nobody has needed since the last call, but for a few. */
void buffer_pool_trim(struct buffer_pool *pool);

/* Bytes [start, end) are received and not yet consumed. Zero-initialise: holds no memory. */
struct buffer {
    char *data;
    size_t size;
    size_t start;
    size_t end;
};

/* Gives an empty buffer a block. False: over the budget or out of memory. */
MUST_CHECK bool buffer_take(struct buffer_pool *pool, struct buffer *buffer);
/* The same with at least size bytes: a block, or a piece of just that size. */
MUST_CHECK bool buffer_take_size(struct buffer_pool *pool, struct buffer *buffer, size_t size);
/* Moves the content of a buffer that holds memory to the front of a larger piece of size bytes.
 * False: over the budget or out of memory, and the content is unchanged. */
MUST_CHECK bool buffer_grow(struct buffer_pool *pool, struct buffer *buffer, size_t size);
/* Moves the content to the front. */
void buffer_compact(struct buffer *buffer);
/* Gives the memory back; the content is lost. An empty buffer is fine. */
void buffer_release(struct buffer_pool *pool, struct buffer *buffer);

static inline size_t buffer_len(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

#endif
