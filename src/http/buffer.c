/* SPDX-License-Identifier: Apache-2.0 */
/*
 * buffer.c - memory for requests that are being received.
 *
 * A pool keeps a few free blocks, which stay counted, so that using one again needs no atomic.
 * Pieces larger than a block come from malloc and go back at once. The budget counts all memory
 * held, except for one piece for each thread while realloc() copies it.
 *
 * Runs on: a pool and its buffers on their front-end thread; the budget on any thread.
 * Owns: the free blocks.
 */
#include "alloy/buffer.h"

#include <string.h>

#include "alloy/heap.h"

#define BLOCKS_KEPT 8 /* by buffer_pool_trim() */

struct buffer_block {
    struct buffer_block *next;
};

bool buffer_budget_take(struct buffer_budget *budget, size_t bytes)
{
    size_t used = atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed);

    if (used > budget->max || bytes > budget->max - used) {
        buffer_budget_give(budget, bytes);
        return false;
    }
    return true;
}

void buffer_budget_give(struct buffer_budget *budget, size_t bytes)
{
    atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
}

void buffer_pool_init(struct buffer_pool *pool, struct buffer_budget *budget, size_t block_bytes,
                      size_t cached_max)
{
    ALLOY_ASSERT(block_bytes >= sizeof(struct buffer_block));
    *pool = (struct buffer_pool){
        .budget = budget, .block_bytes = block_bytes, .cached_max = cached_max};
}

void buffer_pool_fini(struct buffer_pool *pool)
{
    while (pool->cached) {
        struct buffer_block *block = pool->cached;

        pool->cached = block->next;
        free(block);
        buffer_budget_give(pool->budget, pool->block_bytes);
    }
    pool->cached_count = 0;
}

void buffer_pool_trim(struct buffer_pool *pool)
{
    const size_t few = pool->cached_min > BLOCKS_KEPT ? pool->cached_min - BLOCKS_KEPT : 0;

    for (size_t i = 0; i < few; i++) {
        struct buffer_block *block = pool->cached;

        pool->cached = block->next;
        free(block);
    }
    pool->cached_count -= few;
    pool->cached_min = pool->cached_count;
    if (few > 0) {
        buffer_budget_give(pool->budget, few * pool->block_bytes);
        heap_freed(few * pool->block_bytes);
    }
}

bool buffer_take(struct buffer_pool *pool, struct buffer *buffer)
{
    struct buffer_block *block = pool->cached;

    ALLOY_ASSERT(!buffer->data);
    if (block) {
        pool->cached = block->next;
        pool->cached_count--;
        if (pool->cached_count < pool->cached_min)
            pool->cached_min = pool->cached_count;
    } else {
        if (!buffer_budget_take(pool->budget, pool->block_bytes))
            return false;
        block = malloc(pool->block_bytes);
        if (!block) {
            buffer_budget_give(pool->budget, pool->block_bytes);
            return false;
        }
    }
    *buffer = (struct buffer){.data = (char *)block, .size = pool->block_bytes};
    return true;
}

bool buffer_take_size(struct buffer_pool *pool, struct buffer *buffer, size_t size)
{
    char *data;

    if (size <= pool->block_bytes)
        return buffer_take(pool, buffer);
    ALLOY_ASSERT(!buffer->data);
    if (!buffer_budget_take(pool->budget, size))
        return false;
    data = malloc(size);
    if (!data) {
        buffer_budget_give(pool->budget, size);
        return false;
    }
    *buffer = (struct buffer){.data = data, .size = size};
    return true;
}

bool buffer_grow(struct buffer_pool *pool, struct buffer *buffer, size_t size)
{
    size_t len = buffer_len(buffer);
    bool is_block = buffer->size == pool->block_bytes;
    /* A block goes back to the pool. A piece is reallocated: realloc() can move its pages where
     * malloc() would have to copy them. */
    size_t more = is_block ? size : size - buffer->size;
    char *data;

    /* A piece must be larger than a block: buffer_release() would take one of a block's size for a
     * block. */
    ALLOY_ASSERT(size > buffer->size && size > pool->block_bytes);
    if (!buffer_budget_take(pool->budget, more))
        return false;
    if (is_block) {
        data = malloc(size);
    } else {
        buffer_compact(buffer);
        data = realloc(buffer->data, size);
    }
    if (!data) {
        buffer_budget_give(pool->budget, more);
        return false;
    }
    if (is_block) {
        memcpy(data, buffer->data + buffer->start, len);
        buffer_release(pool, buffer);
    }
    *buffer = (struct buffer){.data = data, .size = size, .end = len};
    return true;
}

void buffer_compact(struct buffer *buffer)
{
    size_t len = buffer_len(buffer);

    if (buffer->start == 0)
        return;
    if (len > 0)
        memmove(buffer->data, buffer->data + buffer->start, len);
    buffer->start = 0;
    buffer->end = len;
}

void buffer_release(struct buffer_pool *pool, struct buffer *buffer)
{
    if (!buffer->data)
        return;
    if (buffer->size == pool->block_bytes && pool->cached_count < pool->cached_max) {
        struct buffer_block *block = (struct buffer_block *)(void *)buffer->data;

        block->next = pool->cached;
        pool->cached = block;
        pool->cached_count++;
    } else {
        free(buffer->data);
        buffer_budget_give(pool->budget, buffer->size);
        heap_freed(buffer->size);
    }
    *buffer = (struct buffer){0};
}
