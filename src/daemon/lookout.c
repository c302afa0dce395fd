/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lookout.c - what the main thread looks at while alloyd serves, since nobody else would notice it:
 * a certificate that ends, events of a stream that was removed, a thread that hangs; and a ring
 * that is full, which everybody notices a thousand times a second.
 *
 * Runs on: the main thread.
 * Owns: nothing.
 */
#define LOG_MODULE "daemon"
#include "lookout.h"

#include <inttypes.h>
#include <stdio.h>

#include "alloy/clock.h"
#include "alloy/log.h"
#include "alloy/pulse.h"
#include "alloy/tls.h"

#define TIME_MAX 25 /* of clock_format_iso() */
/* A certificate ends soon in its last week, or the last fifth of its time where that is less. */
#define CERTIFICATE_SOON_S (7 * 86400)
#define CERTIFICATE_SOON_PART 5
#define FULL_SHARE 32 /* a ring of which no such part is free counts as full still */

static void lookout_format_s(int64_t real_s, char out[TIME_MAX])
{
    clock_format_iso(real_s > 0 ? (uint64_t)real_s * 1000 : 0, out);
}

/* Tells, in the log once and in /readyz, of a certificate that clients do not believe, or soon will
 * not. */
static void lookout_look_at_certificate(struct lookout *lookout)
{
    const struct tls *tls = config_current(lookout->config)->tls;
    enum lookout_certificate state = LOOKOUT_CERTIFICATE_GOOD;
    static const char *const words[] = {[LOOKOUT_CERTIFICATE_EARLY] = "is valid only from",
                                        [LOOKOUT_CERTIFICATE_ENDS] = "is valid only until",
                                        [LOOKOUT_CERTIFICATE_EXPIRED] = "has expired at"};
    int64_t now_s = (int64_t)(clock_real_ms() / 1000);
    int64_t soon_s = CERTIFICATE_SOON_S;
    char when[TIME_MAX];

    if (tls == NULL)
        return;
    if (soon_s > (tls_valid_until_s(tls) - tls_valid_from_s(tls)) / CERTIFICATE_SOON_PART)
        soon_s = (tls_valid_until_s(tls) - tls_valid_from_s(tls)) / CERTIFICATE_SOON_PART;
    if (now_s < tls_valid_from_s(tls))
        state = LOOKOUT_CERTIFICATE_EARLY;
    else if (now_s >= tls_valid_until_s(tls))
        state = LOOKOUT_CERTIFICATE_EXPIRED;
    else if (now_s >= tls_valid_until_s(tls) - soon_s)
        state = LOOKOUT_CERTIFICATE_ENDS;
    if (tls == lookout->certificate && state == lookout->certificate_state)
        return;
    lookout->certificate = tls;
    lookout->certificate_state = state;
    if (state == LOOKOUT_CERTIFICATE_GOOD) {
        health_clear(lookout->health, "tls.certificate");
        return;
    }
    lookout_format_s(
        state == LOOKOUT_CERTIFICATE_EARLY ? tls_valid_from_s(tls) : tls_valid_until_s(tls), when);
    log_warn("the certificate %s %s subject=\"%s\"", words[state], when, tls_subject(tls));
    health_raise(lookout->health, "tls.certificate", false,
                 "The certificate of server.tls_listen (%s) %s %s.", tls_subject(tls), words[state],
                 when);
}

static uint64_t lookout_age_s(uint64_t received_ms)
{
    const uint64_t now_ms = clock_real_ms();

    return received_ms == 0 || received_ms > now_ms ? 0 : (now_ms - received_ms) / 1000;
}

/* Tells of events that wait though their stream was removed. */
static void lookout_look_at_removed(const struct lookout *lookout)
{
    const struct config *config = config_current(lookout->config);

    for (size_t i = 0; i < config->stream_count; i++) {
        const struct config_stream *stream = &config->streams[i];
        const uint64_t live = stream->removed ? journal_live(lookout->journal, i) : 0;
        char key[HEALTH_KEY_MAX];

        snprintf(key, sizeof(key), "stream.%s.removed", stream->name);
        if (live == 0) {
            health_clear(lookout->health, key);
            continue;
        }
        health_raise(lookout->health, key, false,
                     "The stream %s is no longer configured, and %" PRIu64
                     " of its events wait for %s, the oldest for %" PRIu64 " s.",
                     stream->name, live, stream->table_text,
                     lookout_age_s(journal_oldest_ms(lookout->journal, i)));
    }
}

/* One line when requests begin to be refused because the workers are too slow, and one when no more
 * are: /readyz tells of that moment alone, and each refused request has no line of its own. */
static void lookout_look_at_ring(struct lookout *lookout)
{
    struct spell *full = &lookout->full;
    const size_t depth = ring_depth(lookout->ring), capacity = ring_capacity(lookout->ring);
    /* It stays full also while nobody asks; the margin is that of admission_sheds(). */
    const bool still = full->on && depth >= capacity - capacity / FULL_SHARE;

    switch (spell_look(full, ring_was_full(lookout->ring) || still, clock_mono_ms())) {
    case SPELL_NOTHING:
        return;
    case SPELL_BEGINS:
        log_warn("ring is full, requests are refused depth=%zu capacity=%zu suppressed=%" PRIu64,
                 depth, capacity, full->suppressed);
        full->suppressed = 0;
        return;
    case SPELL_ENDS:
        log_info("ring has room again depth=%zu capacity=%zu lasted_ms=%" PRIu64, depth, capacity,
                 full->seen_ms - full->since_ms);
    }
}

/* Logs what pulse_look() finds. */
static void lookout_tell_pulse(void *arg, const char *name, uint64_t silent_ms)
{
    const struct lookout *lookout = arg;
    char key[HEALTH_KEY_MAX];

    snprintf(key, sizeof(key), "thread.%s", name);
    if (silent_ms == 0) {
        log_warn("thread no longer hangs thread=%s", name);
        health_clear(lookout->health, key);
        return;
    }
    log_error("thread hangs thread=%s silent_ms=%" PRIu64, name, silent_ms);
    health_raise(lookout->health, key, true, "The thread %s hangs.", name);
}

void lookout_log_certificate(const struct config *config)
{
    char from[TIME_MAX], until[TIME_MAX];

    if (config->tls == NULL)
        return;
    lookout_format_s(tls_valid_from_s(config->tls), from);
    lookout_format_s(tls_valid_until_s(config->tls), until);
    log_info("certificate in use subject=\"%s\" valid_from=%s valid_until=%s file=%s",
             tls_subject(config->tls), from, until, config->server_tls_cert);
}

void lookout_look(struct lookout *lookout)
{
    lookout_look_at_certificate(lookout);
    lookout_look_at_removed(lookout);
    lookout_look_at_ring(lookout);
}

size_t lookout_count_hanging(struct lookout *lookout, uint64_t now_ms, uint64_t bound_ms)
{
    return pulse_look(now_ms, bound_ms, lookout_tell_pulse, lookout);
}
