/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_cost.c - what a claim costs: Redis' CPU, alloyd's CPU, and bytes of Redis' memory, an id.
 *
 *     claims_cost [IDS] [ROUNDS] [BATCH]
 *
 * 1,000,000 ids, 1 round and batches of 2500 if not given. Starts a Redis of its own, and takes
 * claims in it as a worker does, with each layout by turns: of new ids while nothing is known of
 * how many come in a ttl; then, with all that forgotten but their number, of new ids, of the same
 * for other records, which are duplicates, and of as many new ids while those before may still be
 * known. So are all ttls but the first (packed: two tables to look at). IDS decide how full hashes
 * are: 2^k x 28 give the fullest, a little more the emptiest. CPU is that of the processes, so that
 * others on the machine matter less than for time.
 */
#include "alloy/claims.h"

#include "alloy/clock.h"
#include "alloy/segment.h"
#include "redis_fixture.h"

#define INSTANCE 0x1122334455667788ull
#define TTL_MS 86400000

static struct redis_fixture redis;
static redisContext *admin;
static struct config config;
static struct config_ref config_ref;
static uint64_t next_lsn = 1ull << 32;

static double cost_info(const char *section, const char *name)
{
    redisReply *reply = redisCommand(admin, "INFO %s", section);
    const char *at = reply != NULL ? strstr(reply->str, name) : NULL;
    double value = at != NULL ? strtod(at + strlen(name) + 1, NULL) : 0;

    freeReplyObject(reply);
    return value;
}

static double cost_redis_us(void)
{
    return 1e6 * (cost_info("cpu", "used_cpu_sys") + cost_info("cpu", "used_cpu_user"));
}

static double cost_own_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* Ids that look like UUIDs; equal numbers give equal ids. */
static void cost_fill(struct batch *batch, size_t from)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct record *record = batch->records[i];
        const uint64_t number = from + i;
        const uint64_t mixed = (number ^ number << 17) * 0x9e3779b97f4a7c15ull;

        record->lsn = next_lsn;
        next_lsn += 300;
        record->id_length = (uint16_t)sprintf(
            record->body, "%08x-%04x-4%03x-8%03x-%012llx", (unsigned)(mixed >> 32),
            (unsigned)(mixed & 0xffff), (unsigned)(mixed >> 16 & 0xfff),
            (unsigned)(mixed >> 28 & 0xfff), (unsigned long long)number);
    }
}

static void cost_pass(const char *layout, const char *what, struct claims *claims,
                      struct batch *batch, size_t from, size_t ids)
{
    enum claims_verdict *verdicts = calloc(batch->count, sizeof(*verdicts));
    const double redis_us = cost_redis_us(), memory = cost_info("memory", "used_memory");
    double own_us = 0;
    size_t owned = 0;

    for (size_t at = 0; at < ids; at += batch->count) {
        cost_fill(batch, from + at);
        own_us -= cost_own_us();
        if (claims_take(claims, batch, verdicts, clock_mono_ms()) != 0)
            abort();
        own_us += cost_own_us();
        for (uint32_t i = 0; i < batch->count; i++)
            owned += verdicts[i] == CLAIM_OWNED;
    }
    printf("%-7s %-22s %6.2f us of Redis, %5.2f us of alloyd, %6.1f bytes an id; %zu of %zu new\n",
           layout, what, (cost_redis_us() - redis_us) / (double)ids, own_us / (double)ids,
           (cost_info("memory", "used_memory") - memory) / (double)ids, owned, ids);
    fflush(stdout);
    free(verdicts);
}

/* Opens the next table (packed), as the end of a ttl does. */
static void cost_turn(struct claims *claims, struct batch *batch, size_t id)
{
    const uint32_t count = batch->count;
    enum claims_verdict verdict;

    config.streams[0].ttl_ms += 1000; /* an older table remembers for too short a time */
    batch->count = 1;
    cost_fill(batch, id);
    if (claims_take(claims, batch, &verdict, clock_mono_ms()) != 0)
        abort();
    batch->count = count;
}

/* Claims, and all tables but the newest. */
static void cost_forget(void)
{
    redisReply *reply = redisCommand(
        admin, "EVAL %s 1 alloy:#packed:events",
        "for _,k in ipairs(redis.call('KEYS','alloy:*')) do "
        "if k ~= KEYS[1] then redis.call('DEL',k) end end "
        "local newest = 0 "
        "for _,f in ipairs(redis.call('HKEYS',KEYS[1])) do newest = math.max(newest,tonumber(f) or "
        "0) end "
        "for _,f in ipairs(redis.call('HKEYS',KEYS[1])) do "
        "if tonumber(f) and tonumber(f) < newest then redis.call('HDEL',KEYS[1],f) end end "
        "return 0");

    if (reply->type != REDIS_REPLY_INTEGER)
        abort();
    freeReplyObject(reply);
}

static void cost_layout(int layout, const char *name, struct batch *batch, size_t ids)
{
    struct health *health = health_create();
    struct metrics *metrics = metrics_create();
    struct claims *claims;

    config.redis_layout = layout;
    config.streams[0].ttl_ms = TTL_MS;
    freeReplyObject(redisCommand(admin, "FLUSHALL"));
    claims = claims_create(&(struct claims_parts){.config = &config_ref,
                                                  .health = health,
                                                  .metrics = metrics,
                                                  .thread_metrics = metrics_thread_create(metrics),
                                                  .instance_id = INSTANCE});
    cost_pass(name, "new ids, at first", claims, batch, 0, ids);
    cost_turn(claims, batch, ids);
    cost_forget();
    cost_pass(name, "new ids", claims, batch, ids, ids);
    cost_pass(name, "duplicates", claims, batch, ids, ids);
    cost_turn(claims, batch, 3 * ids);
    cost_pass(name, "new ids, known before", claims, batch, 2 * ids, ids);
    cost_pass(name, "duplicates of before", claims, batch, ids, ids);
    claims_destroy(claims);
    metrics_destroy(metrics);
    health_destroy(health);
}

int main(int argc, char **argv)
{
    const size_t ids = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000000;
    const size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    const uint32_t size = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 2500;
    struct batch *batch = batch_create(0, size);

    redis_fixture_start(&redis);
    admin = redisConnectUnix(redis.socket);
    config = (struct config){.redis_chunk = 1000,
                             .redis_timeout_ms = 10000,
                             .worker_batch = size,
                             .redis_key_prefix = "alloy:",
                             .redis_url = redis.url,
                             .stream_count = 1};
    config.streams[0] = (struct config_stream){.name = "events"};
    atomic_store(&config_ref.current, &config);
    for (uint32_t i = 0; i < size; i++)
        batch_add(batch, calloc(1, sizeof(struct record) + 64));
    for (size_t i = 0; i < rounds; i++) {
        cost_layout(CONFIG_REDIS_KEYS, "keys", batch, ids);
        cost_layout(CONFIG_REDIS_PACKED, "packed", batch, ids);
    }
    while (batch->count > 0)
        free(batch->records[--batch->count]);
    free(batch);
    redisFree(admin);
    redis_fixture_remove(&redis);
    return 0;
}
