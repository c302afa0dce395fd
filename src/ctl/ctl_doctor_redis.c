/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_doctor_redis.c - the doctor's look at Redis: does it keep claims?
 *
 * Its keys live for a minute at most, so that a killed run leaves nothing for long.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_doctor.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "alloy/ask_redis.h"
#include "alloy/clock.h"
#include "alloy/packed.h"

#define ROUNDS 50 /* to tell a latency by */
#define KEY_MAX 160
#define SCRATCH_TTL_MS "60000"
#define SKEW_MAX_MS 2000
#define RELEASE "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end"

static bool ctl_doctor_redis_info(struct ask_redis *redis, const char *section, const char *field,
                                  char *out, size_t size)
{
    const char *const words[] = {"INFO", section};

    return ask_redis(redis, words, 2) == ASK_REDIS_OK && ask_redis_field(redis, field, out, size);
}

/* Returns false when Redis is lost. */
static bool ctl_doctor_redis_claim(struct ctl_doctor *doctor, struct ask_redis *redis,
                                   const struct config_stream *stream)
{
    char name[CTL_DOCTOR_KEY_MAX], base[KEY_MAX], key[KEY_MAX + 16];
    const char *const set[] = {"SET", key, "mine", "NX", "PX", SCRATCH_TTL_MS};
    const char *const other[] = {"SET", key, "other", "NX", "PX", SCRATCH_TTL_MS};
    const char *const get[] = {"MGET", key};
    const char *const release[] = {"EVAL", RELEASE, "1", key, "mine"};
    const char *const del[] = {"DEL", key};
    enum ask_redis_result result;
    const char *wrong = NULL;

    snprintf(name, sizeof(name), "stream.%s.claim", stream->name);
    snprintf(base, sizeof(base), "%s%s:#" CTL_DOCTOR_SCRATCH "%llu_%x",
             doctor->config->redis_key_prefix, stream->name,
             (unsigned long long)clock_real_ms() / 1000, (unsigned)getpid());
    if (!ask_redis_key_here(redis, base, key, sizeof(key)))
        return true;
    result = ask_redis(redis, set, ARRAY_LEN(set));
    if (result == ASK_REDIS_OK)
        result = ask_redis(redis, other, ARRAY_LEN(other));
    if (result == ASK_REDIS_OK && (redis->count != 1 || redis->texts[0] != NULL))
        wrong = "a second claim of one id was taken";
    if (result == ASK_REDIS_OK)
        result = ask_redis(redis, get, ARRAY_LEN(get));
    if (result == ASK_REDIS_OK && wrong == NULL &&
        (redis->count != 1 || redis->texts[0] == NULL || strcmp(redis->texts[0], "mine") != 0))
        wrong = "a claim that was set is not there";
    if (result == ASK_REDIS_OK)
        result = ask_redis(redis, release, ARRAY_LEN(release));
    if (result == ASK_REDIS_OK)
        result = ask_redis(redis, get, ARRAY_LEN(get));
    if (result == ASK_REDIS_OK && wrong == NULL && redis->count == 1 && redis->texts[0] != NULL)
        wrong = "a claim that was released is still there";
    if (result != ASK_REDIS_OK) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name, "a claim cannot be set and released: %s",
                        redis->why);
        ctl_doctor_todo(doctor, "give its user SET, MGET, EVAL and DEL on %s*",
                        doctor->config->redis_key_prefix);
    } else if (wrong != NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name, "%s: this is no usual Redis", wrong);
        ctl_doctor_todo(doctor, "name a Redis or Valkey in redis.url, and no cache before it");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                        "a claim was set, refused to a second, read and released");
    }
    (void)ask_redis(redis, del, ARRAY_LEN(del));
    return result != ASK_REDIS_LOST;
}

static void ctl_doctor_redis_eviction(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    char policy[64], most[32] = "0", used[32] = "0";
    uint64_t limit;

    if (!ctl_doctor_redis_info(redis, "memory", "maxmemory_policy", policy, sizeof(policy))) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "redis.eviction",
                        "its maxmemory-policy cannot be read (%s)", redis->why);
        ctl_doctor_todo(doctor, "see that it is noeviction, or allow INFO");
        return;
    }
    (void)ask_redis_field(redis, "maxmemory", most, sizeof(most));
    (void)ask_redis_field(redis, "used_memory", used, sizeof(used));
    limit = strtoull(most, NULL, 10);
    if (strcmp(policy, "noeviction") != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.eviction",
                        "maxmemory-policy is %s: %s it forgets claims, and their events can come "
                        "twice",
                        policy, limit == 0 ? "once maxmemory is set" : "when memory is short");
        ctl_doctor_todo(doctor,
                        "CONFIG SET maxmemory-policy noeviction, and the same in its redis.conf");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.eviction",
                        "maxmemory-policy is noeviction");
    }
    if (limit > 0 && strtoull(used, NULL, 10) > limit / 10 * 9) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.room",
                        "it uses %s of maxmemory = %s bytes, and will soon take no claims", used,
                        most);
        ctl_doctor_todo(doctor, "raise maxmemory, or shorten redis.ttl");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.room", "it uses %s bytes, %s%s", used,
                        limit == 0 ? "and has no limit" : "of a maxmemory of ",
                        limit == 0 ? "" : most);
    }
}

static void ctl_doctor_redis_persistence(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    const char *const words[] = {"CONFIG", "GET", "appendfsync"};
    char aof[8], status[32] = "ok";

    if (!ctl_doctor_redis_info(redis, "persistence", "aof_enabled", aof, sizeof(aof))) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "redis.persistence",
                        "it does not tell whether it keeps claims over a restart (%s)", redis->why);
        ctl_doctor_todo(doctor, "see that appendonly is yes, or allow INFO");
        return;
    }
    (void)ask_redis_field(redis, "aof_last_write_status", status, sizeof(status));
    if (strcmp(aof, "1") != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.persistence",
                        "appendonly is off: a restart of Redis forgets claims since its last "
                        "snapshot, and their events can come twice");
        ctl_doctor_todo(doctor, "CONFIG SET appendonly yes, and the same in its redis.conf");
    } else if (strcmp(status, "ok") != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.persistence",
                        "it cannot write its append-only file (%s)", status);
        ctl_doctor_todo(doctor, "make room on its disk; its log has the reason");
    } else if (ask_redis(redis, words, 3) == ASK_REDIS_OK && redis->count == 2 &&
               redis->texts[1] != NULL && strcmp(redis->texts[1], "no") == 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.persistence",
                        "appendonly is on and appendfsync is no: a crash of its machine forgets "
                        "the last half minute of claims");
        ctl_doctor_todo(doctor, "CONFIG SET appendfsync everysec, and in its redis.conf");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.persistence",
                        "appendonly is on: claims live through a restart of Redis");
    }
}

static void ctl_doctor_redis_role(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    char role[32], replicas[16] = "0";

    if (!ctl_doctor_redis_info(redis, "replication", "role", role, sizeof(role))) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "redis.failover",
                        "it does not tell its role (%s)", redis->why);
        return;
    }
    (void)ask_redis_field(redis, "connected_slaves", replicas, sizeof(replicas));
    if (strcmp(role, "master") != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.failover",
                        "it is a replica, and takes no claims");
        ctl_doctor_todo(doctor, "name its master in redis.url");
    } else if (strtoull(replicas, NULL, 10) < doctor->config->redis_wait_replicas) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.failover",
                        "it has %s replicas, and redis.wait_replicas is %" PRIu64
                        ": each batch waits in vain for the others",
                        replicas, doctor->config->redis_wait_replicas);
        ctl_doctor_todo(doctor, "connect more replicas, or set a smaller redis.wait_replicas");
    } else if (strcmp(replicas, "0") != 0 && doctor->config->redis_wait_replicas > 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.failover",
                        "it has %s replicas, and alloyd waits for %" PRIu64
                        " of them: a failover to another forgets its last claims",
                        replicas, doctor->config->redis_wait_replicas);
    } else if (strcmp(replicas, "0") != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "redis.failover",
                        "it has %s replicas: a failover to one that lags forgets its last claims",
                        replicas);
        ctl_doctor_todo(doctor, "redis.wait_replicas, or min-replicas-to-write, bounds how many");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.failover",
                        "it is a master without replicas: no failover can lose claims");
    }
}

static void ctl_doctor_redis_latency(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    const char *const words[] = {"PING"};
    const uint64_t limit_ns = doctor->config->redis_timeout_ms * CLOCK_NS_PER_MS;
    uint64_t worst_ns = 0, sum_ns = 0;

    for (int i = 0; i < ROUNDS; i++) {
        const uint64_t begin_ns = clock_mono_ns();
        uint64_t took_ns;

        if (ask_redis(redis, words, 1) == ASK_REDIS_LOST)
            return;
        took_ns = clock_mono_ns() - begin_ns;
        sum_ns += took_ns;
        worst_ns = took_ns > worst_ns ? took_ns : worst_ns;
    }
    ctl_doctor_note(
        doctor, worst_ns > limit_ns / 2 ? CTL_DOCTOR_FAILS : CTL_DOCTOR_HOLDS, "redis.latency",
        "%" PRIu64 " us on average of %d rounds, %" PRIu64 " us at worst; redis.timeout is %" PRIu64
        " ms",
        sum_ns / ROUNDS / 1000, ROUNDS, worst_ns / 1000, doctor->config->redis_timeout_ms);
    if (worst_ns > limit_ns / 2)
        ctl_doctor_todo(doctor, "raise redis.timeout, or find what delays it (SLOWLOG, LATENCY "
                                "DOCTOR, a disk that is busy)");
}

static void ctl_doctor_redis_clock(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    const char *const words[] = {"TIME"};
    int64_t skew_ms;

    if (ask_redis(redis, words, 1) != ASK_REDIS_OK || redis->count != 2 ||
        redis->texts[0] == NULL || redis->texts[1] == NULL)
        return;
    skew_ms = strtoll(redis->texts[0], NULL, 10) * 1000 +
              strtoll(redis->texts[1], NULL, 10) / 1000 - (int64_t)clock_real_ms();
    ctl_doctor_note(doctor, llabs(skew_ms) > SKEW_MAX_MS ? CTL_DOCTOR_FAILS : CTL_DOCTOR_HOLDS,
                    "clock.redis", "its clock is %lld ms from this machine's", (long long)skew_ms);
    if (llabs(skew_ms) > SKEW_MAX_MS)
        ctl_doctor_todo(doctor, "let NTP set both clocks: received_at and log lines are compared");
}

void ctl_doctor_marks(struct ctl_doctor *doctor, const struct config_stream *stream,
                      const char *identity)
{
    const struct config *config = doctor->config;
    struct ask_redis *redis;
    char name[CTL_DOCTOR_KEY_MAX], key[KEY_MAX];
    const char *const words[] = {"GET", key};
    bool on;
    size_t len;

    if (*config->redis_url == '\0' || *identity == '\0')
        return;
    snprintf(name, sizeof(name), "stream.%s.mark", stream->name);
    redis = malloc(sizeof(*redis));
    if (redis == NULL)
        return;
    on = ask_redis_open(redis, config->redis_url, CTL_DOCTOR_TIMEOUT_MS);
    snprintf(key, sizeof(key), on && ask_redis_is_cluster(redis) ? "%s#table:{%s}" : "%s#table:%s",
             config->redis_key_prefix, stream->name);
    if (on && ask_redis(redis, words, 2) == ASK_REDIS_OK && redis->count == 1) {
        len = redis->texts[0] == NULL ? 0 : strcspn(redis->texts[0], " ");
        if (redis->texts[0] == NULL) {
            ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name,
                            "no other deployment has claims under this prefix");
        } else if (len == strlen(identity) && memcmp(redis->texts[0], identity, len) == 0) {
            ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, name, "the claims in Redis are this table's");
        } else {
            ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name,
                            "the claims in Redis belong to another table (%.200s): alloyd would "
                            "keep its events and insert none",
                            redis->texts[0]);
            ctl_doctor_todo(doctor,
                            "set another redis.key_prefix; or, if that table is gone for good, "
                            "delete the key %s",
                            key);
        }
    }
    ask_redis_close(redis);
    free(redis);
}

/* Whether the other masters of a cluster go on while one is away. */
static void ctl_doctor_redis_coverage(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    const char *const words[] = {"CONFIG", "GET", "cluster-require-full-coverage"};

    if (ask_redis(redis, words, 3) != ASK_REDIS_OK || redis->count != 2 ||
        redis->texts[1] == NULL) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "redis.coverage",
                        "cluster-require-full-coverage cannot be read (%s)", redis->why);
        ctl_doctor_todo(doctor, "see that it is no, or allow CONFIG GET");
    } else if (strcmp(redis->texts[1], "yes") == 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.coverage",
                        "cluster-require-full-coverage is yes: while one master is away without a "
                        "replica all others refuse claims too");
        ctl_doctor_todo(doctor, "CONFIG SET cluster-require-full-coverage no, and the same in its "
                                "redis.conf");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.coverage",
                        "cluster-require-full-coverage is no: a master that is away costs its own "
                        "slots alone");
    }
}

/* redis.layout = packed: hashes as long as ours must stay listpacks. */
static void ctl_doctor_redis_packed(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    static const char *const entries[] = {"hash-max-listpack-entries", "hash-max-ziplist-entries"};
    static const char *const value[] = {"hash-max-listpack-value", "hash-max-ziplist-value"};
    uint64_t length, bytes;

    if (!ask_redis_number(redis, entries, &length) || !ask_redis_number(redis, value, &bytes)) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "redis.packed",
                        "whether it keeps hashes of claims small cannot be read (%s)", redis->why);
        ctl_doctor_todo(doctor,
                        "see that %s is at least %d and %s at least %d, or allow CONFIG GET",
                        entries[0], PACKED_LENGTH_MIN, value[0], PACKED_FIELD_LEN);
    } else if (length < PACKED_LENGTH_MIN || bytes < PACKED_FIELD_LEN) {
        const bool shorts = length < PACKED_LENGTH_MIN;

        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.packed",
                        "%s is %" PRIu64 ": packed claims take three to five times the memory",
                        shorts ? entries[0] : value[0], shorts ? length : bytes);
        ctl_doctor_todo(doctor, "CONFIG SET %s %d, and the same in its redis.conf",
                        shorts ? entries[0] : value[0],
                        shorts ? PACKED_LENGTH_MIN : PACKED_FIELD_LEN);
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.packed",
                        "it keeps hashes of up to %" PRIu64 " claims small", length);
    }
}

/* Begins what is found of one server of several. */
static void ctl_doctor_redis_who(struct ctl_doctor *doctor, const struct ask_redis *redis)
{
    snprintf(doctor->who, sizeof(doctor->who), "%.100s: ", redis->name);
}

/* The one Redis, or the master turned to of a cluster. */
static void ctl_doctor_redis_master(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    const struct config *config = doctor->config;

    for (size_t i = 0; i < config->stream_count && !ctl_doctor_stopped(); i++)
        if (!ctl_doctor_redis_claim(doctor, redis, &config->streams[i])) {
            if (redis->timeout_ms > CTL_DOCTOR_TIMEOUT_MIN_MS)
                redis->timeout_ms /= 2; /* of the next master */
            return;
        }
    if (ctl_doctor_stopped())
        return;
    ctl_doctor_redis_eviction(doctor, redis);
    ctl_doctor_redis_persistence(doctor, redis);
    ctl_doctor_redis_role(doctor, redis);
    ctl_doctor_redis_latency(doctor, redis);
    ctl_doctor_redis_clock(doctor, redis);
    if (config->redis_layout == CONFIG_REDIS_PACKED)
        ctl_doctor_redis_packed(doctor, redis);
    if (ask_redis_is_cluster(redis))
        ctl_doctor_redis_coverage(doctor, redis);
}

/* The nodes or Sentinels that redis.url lists, and the slots that nobody has. */
static void ctl_doctor_redis_list(struct ctl_doctor *doctor, struct ask_redis *redis)
{
    bool there;

    for (size_t i = 0; !ctl_doctor_stopped() && ask_redis_host(redis, i, &there); i++) {
        if (there)
            continue;
        ctl_doctor_redis_who(doctor, redis);
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.there", "it cannot be reached (%s)",
                        redis->why);
        ctl_doctor_todo(doctor, "start it, or take it out of redis.url");
        if (redis->timeout_ms > CTL_DOCTOR_TIMEOUT_MIN_MS)
            redis->timeout_ms /= 2;
        doctor->who[0] = '\0';
    }
    if (ask_redis_orphans(redis) > 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.slots",
                        "%zu slots of the cluster have no master: their ids cannot be claimed",
                        ask_redis_orphans(redis));
        ctl_doctor_todo(doctor, "redis-cli --cluster check, and fix, tell more");
    }
}

void ctl_doctor_redis(struct ctl_doctor *doctor)
{
    const struct config *config = doctor->config;
    struct ask_redis *redis = NULL;

    if (*config->redis_url == '\0') {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.there",
                        "redis.url is empty: each alloyd knows its own ids only, for l1.ttl, and a "
                        "loss of power forgets them");
        ctl_doctor_todo(doctor, "set redis.url where an event may come through two alloyd");
        return;
    }
    redis = malloc(sizeof(*redis));
    if (redis == NULL) {
        doctor->out_of_memory = true;
        return;
    }
    if (!ask_redis_open(redis, config->redis_url, CTL_DOCTOR_TIMEOUT_MS)) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "redis.there", "%s cannot be reached (%s)",
                        redis->name, redis->why);
        ctl_doctor_todo(doctor, "start it, or correct redis.url; until then redis.on_failure = %s",
                        config->redis_on_failure == CONFIG_REDIS_HOLD ? "hold keeps events waiting"
                                                                      : "pass lets ids come twice");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "redis.there", "%s answers", redis->name);
        ctl_doctor_redis_list(doctor, redis);
        for (size_t i = 0; i < ask_redis_masters(redis) && !ctl_doctor_stopped(); i++) {
            ask_redis_turn_to(redis, i);
            if (ask_redis_is_cluster(redis))
                ctl_doctor_redis_who(doctor, redis);
            ctl_doctor_redis_master(doctor, redis);
            doctor->who[0] = '\0';
        }
    }
    ask_redis_close(redis);
    free(redis);
}
