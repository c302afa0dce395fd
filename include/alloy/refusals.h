/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refusals.h - the refusals that happened last, for people who ask why their events are refused.
 *
 * A flood must cost next to nothing, and must not hide what else is refused. So a stream's refusals
 * of one error are noted at most REFUSALS_A_SECOND times a second, and logged, over all streams, at
 * most as often; and a new one takes the place of the oldest of those that there are most of.
 *
 * Runs on: any thread.
 */
#ifndef ALLOY_REFUSALS_H
#define ALLOY_REFUSALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/address.h"
#include "alloy/error_code.h"
#include "alloy/keys.h"
#include "alloy/metrics.h"
#include "alloy/reply.h"

#define REFUSALS_KEPT 100
#define REFUSALS_A_SECOND 10
#define REFUSALS_METHOD_MAX 32 /* bytes; of a path escaped ones, what is longer is cut */
#define REFUSALS_PATH_MAX 100

/* What is known of one: never bodies, headers, queries or keys. Texts end with NUL. */
struct refusal_note {
    uint64_t number;  /* set by refusals_note(): in the order in which they came */
    uint64_t time_ms; /* since 1970 */
    enum error_code error;
    uint16_t stream;            /* METRIC_STREAM_NONE: its request names none */
    bool has_event, has_offset; /* of the event that is at fault; the offset is in the body */
    uint32_t event;
    size_t offset;
    struct address address;
    char key[KEYS_NAME_MAX + 1];          /* its name; empty: none */
    char method[REFUSALS_METHOD_MAX + 1]; /* empty: the request line was not read, like path */
    char path[REFUSALS_PATH_MAX + 1];     /* visible ASCII; other bytes as %XX */
    char message[REPLY_MESSAGE_MAX + 1];
};

struct refusals;

struct refusals *refusals_create(void); /* returns owned: refusals_destroy(); NULL: no memory */
void refusals_destroy(struct refusals *refusals); /* NULL is fine */

/* True when the caller may note one now. stream may be METRIC_STREAM_NONE; now_s is monotonic.
 * Lock-free. */
bool refusals_may_note(struct refusals *refusals, unsigned stream, enum error_code error,
                       uint64_t now_s);
/* True when the caller may log one now; *suppressed then tells how many the line stands for beside
 * it. Lock-free. */
bool refusals_may_log(struct refusals *refusals, enum error_code error, uint64_t now_s,
                      uint64_t *suppressed);

/* Keeps a copy of note. Never blocks: while another thread notes or reads, note is lost. */
void refusals_note(struct refusals *refusals, const struct refusal_note *note);
/* Copies what is kept, the latest first; returns how many. */
size_t refusals_read(struct refusals *refusals, struct refusal_note out[REFUSALS_KEPT]);

/* Writes to note the method and path of the request line at line, which ends with a space behind
 * its target; without the target's query, scheme and authority. */
void refusals_read_line(const char *line, struct refusal_note *note);

#endif
