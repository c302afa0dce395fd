/* SPDX-License-Identifier: Apache-2.0 */
/*
 * history.c - what the figures were in the last hour.
 *
 * Two tracks take the same readings, one for each length of a step. A track keeps the counters as
 * they were at the end of its last step, so that a step is what has happened since; and its
 * histograms' differences give percentiles of just that time. A step knows how long it really was:
 * after the process was stopped for a while, the steps that nobody looked at are gaps, and the
 * next one spans the time since the last look, so that its rates stay true.
 *
 * Runs on: one thread at a time. Owns: the steps.
 */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLACK_MS 500 /* readings come each second, and about on time */

struct history_track {
    uint32_t step_ms;
    size_t capacity;
    uint64_t last;                                      /* number of the latest step */
    uint64_t mono_ms;                                   /* when it was due to end */
    uint64_t real_ms;                                   /* when it ended */
    uint64_t looked_ms;                                 /* when before was read, monotonic */
    struct history_step *steps;                         /* a ring: number % capacity */
    struct history_flow *flows[METRIC_STREAMS_MAX + 1]; /* the same; NULL: never seen */
    uint64_t before[METRIC_STREAMS_MAX + 1][HISTORY_COUNTS];
    uint64_t buckets_before[METRIC_STREAMS_MAX + 1][HISTORY_TIMES][METRIC_BUCKETS];
    /* the highest since the latest step */
    uint32_t gauges[METRIC_STREAMS_MAX + 1][HISTORY_GAUGES];
    uint32_t wholes[HISTORY_WHOLES];
};

struct history {
    bool begun;
    size_t bytes;
    char names[METRIC_STREAMS_MAX][CONFIG_STREAM_NAME_MAX + 1];
    struct history_track tracks[HISTORY_TRACKS];
};

static uint32_t history_cut(uint64_t value)
{
    return value < HISTORY_NONE ? (uint32_t)value : HISTORY_NONE - 1;
}

/* The higher one, where HISTORY_NONE is less than anything. */
static uint32_t history_higher(uint32_t a, uint32_t b)
{
    if (a == HISTORY_NONE || b == HISTORY_NONE)
        return a == HISTORY_NONE ? b : a;
    return a > b ? a : b;
}

struct history *history_create(void)
{
    static const struct {
        uint32_t step_ms;
        size_t capacity;
    } sizes[HISTORY_TRACKS] = {{1000, HISTORY_FINE_STEPS}, {10000, HISTORY_COARSE_STEPS}};
    struct history *history = calloc(1, sizeof(*history));

    if (history == NULL)
        return NULL;
    history->bytes = sizeof(*history);
    for (size_t i = 0; i < HISTORY_TRACKS; i++) {
        struct history_track *track = &history->tracks[i];

        track->step_ms = sizes[i].step_ms;
        track->capacity = sizes[i].capacity;
        track->steps = calloc(track->capacity, sizeof(*track->steps));
        if (track->steps == NULL) {
            history_destroy(history);
            return NULL;
        }
        history->bytes += track->capacity * sizeof(*track->steps);
    }
    return history;
}

void history_destroy(struct history *history)
{
    if (history == NULL)
        return;
    for (size_t i = 0; i < HISTORY_TRACKS; i++) {
        free(history->tracks[i].steps);
        for (size_t stream = 0; stream <= METRIC_STREAMS_MAX; stream++)
            free(history->tracks[i].flows[stream]);
    }
    free(history);
}

size_t history_bytes(const struct history *history)
{
    return history->bytes;
}

uint32_t history_percentile_us(const uint64_t buckets[METRIC_BUCKETS], double share)
{
    uint64_t total = 0, below = 0;
    size_t i = 0;
    double rank, from, to;

    for (size_t j = 0; j < METRIC_BUCKETS; j++)
        total += buckets[j];
    if (total == 0)
        return HISTORY_NONE;
    rank = share * (double)total;
    while (i + 1 < METRIC_BUCKETS && (double)(below + buckets[i]) < rank)
        below += buckets[i++];
    /* Nothing is known of what lies above the last bound but that it is above it. */
    if (i == METRIC_BUCKETS - 1)
        return history_cut(metrics_bucket_bounds_ns[METRIC_BUCKETS - 2] / 1000);
    from = i == 0 ? 0 : (double)metrics_bucket_bounds_ns[i - 1];
    to = (double)metrics_bucket_bounds_ns[i];
    if (buckets[i] > 0)
        to = from + (to - from) * (rank - (double)below) / (double)buckets[i];
    return history_cut((uint64_t)(to / 1000));
}

/* What a counter has grown by. One that went back was begun anew by somebody: nothing is known. */
static uint64_t history_grown(uint64_t before, uint64_t now)
{
    return now > before ? now - before : 0;
}

/* Makes room for a stream that is seen for the first time, and forgets one that had its place. */
static void history_meet(struct history *history, const struct history_reading *reading,
                         size_t stream)
{
    const struct history_stream *seen = &reading->streams[stream];
    const bool named = stream < METRIC_STREAMS_MAX;
    const bool same =
        !named || (seen->name != NULL && strcmp(history->names[stream], seen->name) == 0);

    if (named && !same) {
        snprintf(history->names[stream], sizeof(history->names[stream]), "%s",
                 seen->name != NULL ? seen->name : "");
        for (size_t i = 0; i < HISTORY_TRACKS; i++) {
            struct history_track *track = &history->tracks[i];

            memcpy(track->before[stream], seen->counts, sizeof(seen->counts));
            memcpy(track->buckets_before[stream], seen->buckets, sizeof(seen->buckets));
            if (track->flows[stream] != NULL)
                memset(track->flows[stream], 0, track->capacity * sizeof(*track->flows[stream]));
        }
    }
    if (named && seen->name == NULL)
        return;
    for (size_t i = 0; i < HISTORY_TRACKS; i++) {
        struct history_track *track = &history->tracks[i];

        if (track->flows[stream] != NULL)
            continue;
        track->flows[stream] = calloc(track->capacity, sizeof(*track->flows[stream]));
        if (track->flows[stream] != NULL)
            history->bytes += track->capacity * sizeof(*track->flows[stream]);
    }
}

/* Takes over the counters, and forgets the highest values: a step begins. */
static void history_begin(struct history_track *track, const struct history_reading *reading)
{
    for (size_t stream = 0; stream <= METRIC_STREAMS_MAX; stream++) {
        const struct history_stream *seen = &reading->streams[stream];

        memcpy(track->before[stream], seen->counts, sizeof(seen->counts));
        memcpy(track->buckets_before[stream], seen->buckets, sizeof(seen->buckets));
    }
    memset(track->gauges, 0xff, sizeof(track->gauges));
    memset(track->wholes, 0xff, sizeof(track->wholes));
    track->looked_ms = reading->mono_ms;
}

static void history_note_gauges(struct history_track *track, const struct history_reading *reading)
{
    for (size_t stream = 0; stream <= METRIC_STREAMS_MAX; stream++)
        for (size_t i = 0; i < HISTORY_GAUGES; i++)
            track->gauges[stream][i] =
                history_higher(track->gauges[stream][i], reading->streams[stream].gauges[i]);
    for (size_t i = 0; i < HISTORY_WHOLES; i++)
        track->wholes[i] = history_higher(track->wholes[i], reading->wholes[i]);
}

static struct history_percentiles
history_percentiles(uint64_t buckets[HISTORY_TIMES][METRIC_BUCKETS])
{
    struct history_percentiles times;

    for (size_t i = 0; i < HISTORY_TIMES; i++) {
        times.p50_us[i] = history_percentile_us(buckets[i], 0.5);
        times.p99_us[i] = history_percentile_us(buckets[i], 0.99);
    }
    return times;
}

/* Writes a stream's part of the step at a place of the ring, and adds its times to all. */
static void history_write_stream(struct history_track *track, size_t at, size_t stream,
                                 const struct history_stream *seen,
                                 uint64_t all[HISTORY_TIMES][METRIC_BUCKETS])
{
    struct history_flow *flow = track->flows[stream] != NULL ? &track->flows[stream][at] : NULL;
    uint64_t buckets[HISTORY_TIMES][METRIC_BUCKETS];

    for (size_t i = 0; i < HISTORY_TIMES; i++)
        for (size_t j = 0; j < METRIC_BUCKETS; j++) {
            buckets[i][j] = history_grown(track->buckets_before[stream][i][j], seen->buckets[i][j]);
            all[i][j] += buckets[i][j];
        }
    if (flow == NULL)
        return;
    for (size_t i = 0; i < HISTORY_COUNTS; i++)
        flow->counts[i] = history_cut(history_grown(track->before[stream][i], seen->counts[i]));
    memcpy(flow->gauges, track->gauges[stream], sizeof(flow->gauges));
    flow->times = history_percentiles(buckets);
}

/* Writes the step whose number is track->last. */
static void history_write(struct history_track *track, const struct history_reading *reading)
{
    const size_t at = track->last % track->capacity;
    struct history_step *step = &track->steps[at];
    uint64_t all[HISTORY_TIMES][METRIC_BUCKETS] = {{0}};

    for (size_t stream = 0; stream <= METRIC_STREAMS_MAX; stream++)
        history_write_stream(track, at, stream, &reading->streams[stream], all);
    step->span_ms = history_cut(reading->mono_ms - track->looked_ms);
    memcpy(step->wholes, track->wholes, sizeof(step->wholes));
    step->times = history_percentiles(all);
}

/* Nobody has looked for so many steps. */
static void history_skip(struct history_track *track, uint64_t steps)
{
    const size_t count = steps < track->capacity ? (size_t)steps : track->capacity;

    for (size_t i = 0; i < count; i++) {
        const size_t at = (track->last + steps - i) % track->capacity;

        memset(&track->steps[at], 0, sizeof(track->steps[at]));
        for (size_t stream = 0; stream <= METRIC_STREAMS_MAX; stream++)
            if (track->flows[stream] != NULL)
                memset(&track->flows[stream][at], 0, sizeof(track->flows[stream][at]));
    }
    track->last += steps;
}

static void history_track_sample(struct history_track *track, const struct history_reading *reading)
{
    uint64_t steps;

    history_note_gauges(track, reading);
    if (reading->mono_ms + SLACK_MS < track->mono_ms + track->step_ms)
        return;
    /* Rounded, so that a reading that is a little late makes no gap. */
    steps = (reading->mono_ms - track->mono_ms + track->step_ms / 2) / track->step_ms;
    if (steps <= 1) {
        track->mono_ms += track->step_ms;
    } else {
        history_skip(track, steps - 1);
        track->mono_ms = reading->mono_ms;
    }
    track->last++;
    track->real_ms = reading->real_ms;
    history_write(track, reading);
    history_begin(track, reading);
}

void history_sample(struct history *history, const struct history_reading *reading)
{
    for (size_t stream = 0; stream <= METRIC_STREAMS_MAX; stream++)
        history_meet(history, reading, stream);
    for (size_t i = 0; i < HISTORY_TRACKS; i++) {
        struct history_track *track = &history->tracks[i];

        if (!history->begun) {
            track->mono_ms = reading->mono_ms;
            history_begin(track, reading);
        } else {
            history_track_sample(track, reading);
        }
    }
    history->begun = true;
}

uint64_t history_last(const struct history *history, enum history_track_id track)
{
    return history->tracks[track].last;
}

uint64_t history_last_ms(const struct history *history, enum history_track_id track)
{
    return history->tracks[track].real_ms;
}

/* Adds a stream's step to a point. */
static void history_add(struct history_point *point, const struct history_flow *flow)
{
    for (size_t i = 0; i < HISTORY_COUNTS; i++)
        point->counts[i] += flow->counts[i];
    point->gauges[HISTORY_LAG_MS] =
        history_higher(point->gauges[HISTORY_LAG_MS], flow->gauges[HISTORY_LAG_MS]);
    if (flow->gauges[HISTORY_PENDING] == HISTORY_NONE)
        return;
    if (point->gauges[HISTORY_PENDING] == HISTORY_NONE)
        point->gauges[HISTORY_PENDING] = 0;
    point->gauges[HISTORY_PENDING] =
        history_cut((uint64_t)point->gauges[HISTORY_PENDING] + flow->gauges[HISTORY_PENDING]);
}

size_t history_read(const struct history *history, enum history_track_id id, size_t stream,
                    uint64_t after, struct history_point out[HISTORY_STEPS_MAX])
{
    const struct history_track *track = &history->tracks[id];
    const size_t begin = stream == HISTORY_ALL ? 0 : stream;
    const size_t end = stream == HISTORY_ALL ? METRIC_STREAMS_MAX : stream;
    uint64_t first = track->last > track->capacity ? track->last - track->capacity + 1 : 1;
    size_t n = 0;

    if (after >= track->last)
        return 0;
    if (first <= after)
        first = after + 1;
    for (uint64_t number = first; number <= track->last; number++, n++) {
        const size_t at = number % track->capacity;
        const struct history_step *step = &track->steps[at];

        out[n] = (struct history_point){.span_ms = step->span_ms};
        if (step->span_ms == 0)
            continue;
        memset(out[n].gauges, 0xff, sizeof(out[n].gauges));
        memcpy(out[n].wholes, step->wholes, sizeof(step->wholes));
        out[n].times = step->times;
        if (stream != HISTORY_ALL)
            memset(&out[n].times, 0xff, sizeof(out[n].times));
        for (size_t i = begin; i <= end; i++)
            if (track->flows[i] != NULL)
                history_add(&out[n], &track->flows[i][at]);
        if (stream != HISTORY_ALL && track->flows[stream] != NULL)
            out[n].times = track->flows[stream][at].times;
    }
    return n;
}
