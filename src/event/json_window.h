/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_window.h - where quotes and other special bytes are, 64 bytes of a body at a time.
 *
 * Who skips strings by a window reads their quotes off one word, bit by bit, while the processor
 * makes the next window's word. A search from each string's begin would wait for the string's end
 * before the next one could begin.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_JSON_WINDOW_H
#define ALLOY_JSON_WINDOW_H

#include "alloy/json_scan.h"
#include "json_plain.h"

#define JSON_WINDOW 64 /* bytes */

/* The window of the last bytes before end, fewer than it could have: nothing is read behind end. */
static NOINLINE struct json_window json_window_last(const char *body, const char *end, size_t left)
{
    char last[JSON_WINDOW] = {0};

    /* What is left is in the last 64 bytes. */
    if (likely(end - body >= JSON_WINDOW))
        return (struct json_window){end - left,
                                    json_special_64(end - JSON_WINDOW) >> (JSON_WINDOW - left)};
    memcpy(last, end - left, left);
    return (struct json_window){end - left, json_special_64(last) & ((UINT64_C(1) << left) - 1)};
}

/* The first window with something special of those that follow each other from left bytes before
 * end on; nothing is special in it: there is none. body: where what may be read begins. */
static NOINLINE struct json_window json_window_seek(const char *body, const char *end,
                                                    ptrdiff_t left)
{
    for (; left >= JSON_WINDOW; left -= JSON_WINDOW) {
        const uint64_t special = json_special_64(end - left);

        if (special != 0)
            return (struct json_window){end - left, special};
    }
    return left > 0 ? json_window_last(body, end, (size_t)left) : (struct json_window){end, 0};
}

static inline struct json_window json_window_next(struct json_window window, const char *body,
                                                  const char *end)
{
    return json_window_seek(body, end, end - window.base - JSON_WINDOW);
}

/* The window that holds at, where something special is, and nothing special before it. The
 * following window is already being made where it is that one. */
static NOINLINE struct json_window json_window_move(struct json_window window, const char *body,
                                                    const char *at, const char *end)
{
    size_t ahead = (size_t)((uintptr_t)at - (uintptr_t)window.base);

    if (ahead >= JSON_WINDOW && ahead < 2 * (size_t)JSON_WINDOW) {
        window = json_window_next(window, body, end);
        ahead -= JSON_WINDOW;
    }
    if (unlikely(ahead >= JSON_WINDOW || (window.special >> ahead & 1) == 0))
        return json_window_seek(body, end, end - at);
    window.special &= UINT64_MAX << ahead;
    return window;
}

#endif
