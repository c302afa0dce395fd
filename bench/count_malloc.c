/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_malloc.c - counts a process' allocations, for bench/run: made a shared library and put
 * before libc with LD_PRELOAD. The count is the first 8 bytes of the file ALLOY_COUNT_FILE, which
 * is there and at least so long.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static _Atomic uint64_t nowhere;
static _Atomic uint64_t *count = &nowhere;

__attribute__((constructor)) static void count_open(void)
{
    const char *path = getenv("ALLOY_COUNT_FILE");
    const int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *shared =
        fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (shared != MAP_FAILED)
        count = shared;
    if (fd >= 0)
        close(fd);
}

static void count_one(void)
{
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
}

void *malloc(size_t size)
{
    count_one();
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size)
{
    count_one();
    return __libc_calloc(number, size);
}

void *realloc(void *old, size_t size)
{
    count_one();
    return __libc_realloc(old, size);
}
