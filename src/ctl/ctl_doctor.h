/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_doctor.h - what alloyctl doctor finds: each assumption of docs/GUARANTEES.md, and whether it
 * holds here.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_DOCTOR_H
#define ALLOY_CTL_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/config.h"

#define CTL_DOCTOR_KEY_MAX 112
#define CTL_DOCTOR_TEXT_MAX 480
#define CTL_DOCTOR_FINDINGS_MAX 8192 /* 64 streams with some findings each at some servers */
#define CTL_DOCTOR_TIMEOUT_MS 5000   /* of each question */
#define CTL_DOCTOR_TIMEOUT_MIN_MS 1000
/* What a scratch table's or key's name begins with; the time of its making follows, in seconds. */
#define CTL_DOCTOR_SCRATCH "alloy_doctor_"

enum ctl_doctor_verdict { CTL_DOCTOR_HOLDS, CTL_DOCTOR_FAILS, CTL_DOCTOR_UNKNOWN };

struct ctl_doctor_finding {
    char key[CTL_DOCTOR_KEY_MAX]; /* a stable word: redis.eviction */
    enum ctl_doctor_verdict verdict;
    char text[CTL_DOCTOR_TEXT_MAX];
    char todo[CTL_DOCTOR_TEXT_MAX]; /* "": nothing */
};

struct ctl_doctor {
    const struct config *config;
    struct ctl_doctor_finding *findings;
    size_t count;
    bool out_of_memory;
    /* ClickHouse's endpoint at hand */
    bool first_endpoint;
    bool has_replicas;       /* there are others in its shard */
    char (*identities)[512]; /* each stream's table at the first of the shard */
    char who[112]; /* whom of several servers, before each text: "ch1:8123: "; "": it is one */
};

/* Notes a finding. todo may be NULL, and so may what is not known. */
void ctl_doctor_note(struct ctl_doctor *doctor, enum ctl_doctor_verdict verdict, const char *key,
                     const char *format, ...) PRINTF_LIKE(4, 5);
/* What to do about the last finding. */
void ctl_doctor_todo(struct ctl_doctor *doctor, const char *format, ...) PRINTF_LIKE(2, 3);
/* Whether somebody wants this to end: nothing more is begun, and what was made is removed. */
bool ctl_doctor_stopped(void);

/* Has INT, TERM and HUP do so. */
void ctl_doctor_stop_on_signals(void);

/* The parts. Each notes its findings and leaves nothing behind. */
struct ask_clickhouse;
void ctl_doctor_redis(struct ctl_doctor *doctor);
void ctl_doctor_marks(struct ctl_doctor *doctor, const struct config_stream *stream,
                      const char *identity);
void ctl_doctor_clickhouse(struct ctl_doctor *doctor);
void ctl_doctor_trial(struct ctl_doctor *doctor, struct ask_clickhouse *ask,
                      const struct config_stream *stream);
void ctl_doctor_machine(struct ctl_doctor *doctor);
/* The clock, from the start of the others to their end. */
void ctl_doctor_clock_begin(void);
void ctl_doctor_clock_end(struct ctl_doctor *doctor);

#endif
