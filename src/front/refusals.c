/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusals.c - the refusals that happened last, for people who ask why their events are refused.
 *
 * How many there were in a second is one atomic number for each stream and error: the second, and
 * below it the count. Once the count is full a flood only reads it. What passes is so little that
 * one lock for all threads is nearly always free.
 *
 * Runs on: any thread.
 * Owns: the notes.
 */
#include "alloy/refusals.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/text.h"

#define COUNT_BITS 8 /* of a window; the second stands above them */

_Static_assert(REFUSALS_A_SECOND < 1 << COUNT_BITS, "a window's count has room");

struct refusals {
    /* any thread; relaxed: they order nothing */
    _Atomic uint64_t note_windows[METRIC_STREAMS_MAX + 1][ERROR_COUNT];
    _Atomic uint64_t log_windows[ERROR_COUNT];
    _Atomic uint64_t log_held[ERROR_COUNT]; /* not logged since the last line */
    pthread_mutex_t lock;
    /* under lock */
    size_t count;
    uint64_t number; /* of the latest note */
    uint8_t kept_of[METRIC_STREAMS_MAX + 1][ERROR_COUNT];
    struct refusal_note notes[REFUSALS_KEPT];
};

struct refusals *refusals_create(void)
{
    struct refusals *refusals = calloc(1, sizeof(*refusals));

    if (refusals != NULL)
        pthread_mutex_init(&refusals->lock, NULL);
    return refusals;
}

void refusals_destroy(struct refusals *refusals)
{
    if (refusals == NULL)
        return;
    pthread_mutex_destroy(&refusals->lock);
    free(refusals);
}

/* Counts one more in this second, or returns false: it has had enough. */
static bool refusals_pass(_Atomic uint64_t *window, uint64_t now_s)
{
    const uint64_t begin = now_s << COUNT_BITS;
    uint64_t seen = atomic_load_explicit(window, memory_order_relaxed);
    uint64_t next;

    do {
        /* Another thread may be a second ahead: its second counts. */
        if (seen >= begin + REFUSALS_A_SECOND)
            return false;
        next = seen < begin ? begin + 1 : seen + 1;
    } while (!atomic_compare_exchange_weak_explicit(window, &seen, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return true;
}

bool refusals_may_note(struct refusals *refusals, unsigned stream, enum error_code error,
                       uint64_t now_s)
{
    return refusals_pass(&refusals->note_windows[stream][error], now_s);
}

bool refusals_may_log(struct refusals *refusals, enum error_code error, uint64_t now_s,
                      uint64_t *suppressed)
{
    if (!refusals_pass(&refusals->log_windows[error], now_s)) {
        atomic_fetch_add_explicit(&refusals->log_held[error], 1, memory_order_relaxed);
        return false;
    }
    *suppressed = atomic_exchange_explicit(&refusals->log_held[error], 0, memory_order_relaxed);
    return true;
}

/* The place of the oldest note of the stream and error that most notes are of. Under lock. */
static size_t refusals_least_missed(const struct refusals *refusals)
{
    size_t found = 0;
    unsigned most = 0;

    for (size_t i = 0; i < REFUSALS_KEPT; i++) {
        const struct refusal_note *note = &refusals->notes[i];
        const unsigned kept = refusals->kept_of[note->stream][note->error];

        if (kept > most || (kept == most && note->number < refusals->notes[found].number)) {
            most = kept;
            found = i;
        }
    }
    return found;
}

void refusals_note(struct refusals *refusals, const struct refusal_note *note)
{
    size_t at;

    if (pthread_mutex_trylock(&refusals->lock) != 0)
        return;
    at = refusals->count;
    if (at < REFUSALS_KEPT) {
        refusals->count++;
    } else {
        at = refusals_least_missed(refusals);
        refusals->kept_of[refusals->notes[at].stream][refusals->notes[at].error]--;
    }
    refusals->notes[at] = *note;
    refusals->notes[at].number = ++refusals->number;
    refusals->kept_of[note->stream][note->error]++;
    pthread_mutex_unlock(&refusals->lock);
}

static int refusals_later_first(const void *a, const void *b)
{
    const uint64_t first = ((const struct refusal_note *)a)->number;
    const uint64_t second = ((const struct refusal_note *)b)->number;

    return (first < second) - (first > second);
}

size_t refusals_read(struct refusals *refusals, struct refusal_note out[REFUSALS_KEPT])
{
    size_t count;

    pthread_mutex_lock(&refusals->lock);
    count = refusals->count;
    memcpy(out, refusals->notes, count * sizeof(*out));
    pthread_mutex_unlock(&refusals->lock);
    qsort(out, count, sizeof(*out), refusals_later_first);
    return count;
}

/* Writes a path up to its query; what does not fit with its escape is cut. */
static void refusals_read_path(const char *at, char out[REFUSALS_PATH_MAX + 1])
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = 0;

    for (; *at != ' ' && *at != '?' && *at != '\0'; at++) {
        const unsigned char byte = (unsigned char)*at;
        const bool plain = byte > ' ' && byte < 0x7f;

        if (len + (plain ? 1 : 3) > REFUSALS_PATH_MAX)
            break;
        if (plain) {
            out[len++] = *at;
            continue;
        }
        out[len++] = '%';
        out[len++] = digits[byte >> 4];
        out[len++] = digits[byte & 15];
    }
    out[len] = '\0';
}

void refusals_read_line(const char *line, struct refusal_note *note)
{
    size_t len = 0;

    /* Empty lines before a request line are no part of it. */
    line += strspn(line, "\r\n");
    for (; *line != ' ' && len < REFUSALS_METHOD_MAX; line++)
        note->method[len++] = *line;
    note->method[len] = '\0';
    text_clean(note->method);
    line += *line == ' ';
    if (*line != '/' && *line != '*') {
        line += strcspn(line, ":? ");
        line += strncmp(line, "://", 3) == 0 ? 3 : 0;
        line += strcspn(line, "/? ");
    }
    refusals_read_path(*line == '?' || *line == ' ' ? "/" : line, note->path);
}
