/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base.h - the few words that every file of Alloy uses.
 */
#ifndef ALLOY_BASE_H
#define ALLOY_BASE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(format, first) __attribute__((__format__(__printf__, format, first)))
#define CACHE_LINE 64
#define CACHE_ALIGNED __attribute__((aligned(CACHE_LINE)))
#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Logs what is broken, flushes the log, and aborts. Any thread; blocks only briefly. */
_Noreturn void base_abort(const char *what, const char *file, int line);

/*
 * Stays on in release builds. For our own bugs only: never for input, disk, Redis or ClickHouse.
 */
#define ALLOY_ASSERT(condition)                         \
    do {                                                \
        if (unlikely(!(condition)))                     \
            base_abort(#condition, __FILE__, __LINE__); \
    } while (0)

/* For the code after a switch that handles every value of an enum. */
#define ALLOY_UNREACHABLE(what) base_abort(what, __FILE__, __LINE__)

/* Bytes that somebody else owns; not terminated by a NUL. */
struct slice {
    const char *data;
    size_t len;
};

#endif
