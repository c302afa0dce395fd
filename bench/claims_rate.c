/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_rate.c - claims new ids at a Redis as fast as it can, as one worker does; for the bench
 * `claims`, which counts what the servers need meanwhile.
 *
 *     claims_rate URL CLAIMER IDS
 *
 * URL as in redis.url. Ids of claimers (0 to 255) with different numbers differ, and those of each
 * run. Prints the us of its own CPU an id.
 */
#include "alloy/claims.h"

#include "alloy/clock.h"
#include "alloy/segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BATCH 2500u

static struct config config = {.redis_chunk = 1000,
                               .redis_timeout_ms = 10000,
                               .worker_batch = BATCH,
                               .redis_key_prefix = "alloy:",
                               .stream_count = 1,
                               .streams[0] = {.name = "events", .ttl_ms = 86400000}};
static struct config_ref config_ref;

static struct claims *rate_claims(uint64_t instance_id)
{
    struct metrics *metrics = metrics_create();

    return claims_create(&(struct claims_parts){.config = &config_ref,
                                                .health = health_create(),
                                                .metrics = metrics,
                                                .thread_metrics = metrics_thread_create(metrics),
                                                .instance_id = instance_id});
}

/* Ids of 36 characters, as UUIDs have. */
static void rate_fill(struct batch *batch, unsigned claimer, uint64_t run_ms, uint64_t from)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct record *record = batch->records[i];

        record->lsn = (1ull << 32) + (from + i) * 300;
        record->id_length = (uint16_t)sprintf(
            record->body, "%08" PRIx32 "-%02x-%013" PRIx64 "-%010d",
            (uint32_t)((from + i) * 0x9e3779b1u), claimer & 0xff, run_ms, (int)(from + i));
    }
}

int main(int argc, char **argv)
{
    const unsigned claimer = argc == 4 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    const size_t ids = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    const uint64_t run_ms = clock_real_ms();
    enum claims_verdict verdicts[BATCH];
    struct batch *batch = batch_create(0, BATCH);
    struct claims *claims;

    if (ids == 0) {
        fprintf(stderr, "usage: claims_rate URL CLAIMER IDS\n");
        return 2;
    }
    config.redis_url = argv[1];
    atomic_store(&config_ref.current, &config);
    claims = rate_claims(claimer + 1);
    for (uint32_t i = 0; i < BATCH; i++)
        batch_add(batch, calloc(1, sizeof(struct record) + 64));
    for (size_t at = 0; at < ids; at += BATCH) {
        rate_fill(batch, claimer, run_ms, at);
        if (claims_take(claims, batch, verdicts, clock_mono_ms()) != 0)
            abort();
        for (uint32_t i = 0; i < BATCH; i++)
            if (verdicts[i] != CLAIM_OWNED)
                abort();
    }
    printf("%.3f\n", 1e6 * (double)clock() / CLOCKS_PER_SEC / (double)ids);
    return 0;
}
