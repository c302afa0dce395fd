/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed_fixture.h - what the tests of packed claims share.
 */
#ifndef CLAIMS_PACKED_FIXTURE_H
#define CLAIMS_PACKED_FIXTURE_H

#include "claims_fixture.h"

static inline void use_packed(uint64_t ttl_ms)
{
    config.redis_layout = CONFIG_REDIS_PACKED;
    config.redis_timeout_ms = 5000; /* sanitizers and a busy machine */
    config.streams[0].ttl_ms = ttl_ms;
}

static inline struct claims *another(uint64_t instance_id)
{
    struct claims *other = claims_create(&(struct claims_parts){.config = &config_ref,
                                                                .health = health,
                                                                .metrics = metrics,
                                                                .thread_metrics = thread_metrics,
                                                                .instance_id = instance_id});

    assert_non_null(other);
    return other;
}

static inline int take_by(struct claims *by)
{
    return claims_take(by, batch, verdicts, clock_mono_ms());
}

/* The batch's records become other events with the same ids. */
static inline void as_new_records(void)
{
    for (uint32_t i = 0; i < batch->count; i++)
        batch->records[i]->lsn = next_lsn++;
}

static inline long long tables(void)
{
    return admin_integer("HLEN alloy:#packed:events") -
           admin_integer("HEXISTS alloy:#packed:events w");
}

#endif
