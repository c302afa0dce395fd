/* SPDX-License-Identifier: Apache-2.0 */
/*
 * entry.c - who may send, and how much: keys and limits (sections auth and limits).
 *
 * At the head of a request we look at its address's requests and at its key, before anybody spends
 * memory on a body. Events are counted once the body is scanned and before admission keeps
 * anything, so a request is taken whole or refused whole; if admission refuses it, what it took
 * from the buckets is given back.
 *
 * Who goes on sending after a 429 would use up the time of its front-end thread. So a key or an
 * address is told so often a second, and beyond that its connection is left unread for a while,
 * unless others' requests come by it too. And a body that is refused once it is scanned is charged
 * by its bytes: who owes for such has no further large body scanned.
 * Who keeps to its rate and sends what can be taken never owes.
 *
 * Without keys and limits all of this is one look at the configuration.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing.
 */
#include "conn_private.h"

#include "alloy/credential.h"
#include "alloy/members.h"

/* What a key or an address with a limit may cost us a second in vain: bytes of bodies that are
 * refused once they are scanned. At 1 GiB/s that is a sixtieth of a thread's time. */
#define REFUSALS_RATE (16u << 20)
#define REFUSALS_ANSWER (REFUSALS_RATE / 100) /* of an answer; it takes about 10 us */
#define LARGE_BODY (64u << 10) /* a longer one is not scanned for somebody who owes */

static const struct refusal refuse_no_key = {
    ERROR_unauthorized,
    "The request has no key: send it as Authorization: Bearer KEY, as the user name of Basic, as "
    "X-Api-Key or X-Write-Key, or as ?key=KEY."};
static const struct refusal refuse_unknown_key = {ERROR_unauthorized, "This key is not known."};
static const struct refusal refuse_stream = {ERROR_forbidden,
                                             "This key may not send to this stream."};
static const struct refusal refuse_requests = {ERROR_rate_limited,
                                               "Too many requests from this address."};
static const struct refusal refuse_address_events = {ERROR_rate_limited,
                                                     "Too many events from this address."};
static const struct refusal refuse_key_events = {ERROR_rate_limited,
                                                 "Too many events with this key."};
static const struct refusal refuse_vain = {
    ERROR_rate_limited, "Too many large bodies from this address, or with this key, were refused."};

/* The buckets of the client's address; NULL: it has none, as on a unix socket. */
static struct quota_buckets *entry_buckets(const struct conn *conn, const struct config *config)
{
    struct quota *quota = conn->set->parts.shared->quota;
    const struct address *address = conn_address(conn);

    if (!address_is_ip(address))
        return NULL;
    quota_use_rates(quota, config->limits_address_requests, config->limits_address_events);
    return quota_find(quota, address);
}

/* The request is refused for wait_ns: notes what the answer says. refusals: bounds how often
 * somebody is told; NULL, or by a trusted proxy: others' requests come by this connection too, so
 * that it is always read. */
static void entry_note_refusal(struct conn *conn, uint64_t wait_ns, struct bucket *refusals)
{
    uint64_t ignored;

    conn->retry_s = bucket_retry_s(wait_ns);
    conn->throttled |=
        refusals != NULL && !conn->forwarded &&
        !bucket_take(refusals, REFUSALS_RATE, REFUSALS_ANSWER, conn_turn_ns(conn->set), &ignored);
}

/* Takes n; on false the answer will say when to come again. refusals: as above. */
static bool entry_take_from(struct conn *conn, struct bucket *bucket, uint64_t rate, uint32_t n,
                            struct bucket *refusals)
{
    uint64_t wait_ns;

    if (bucket_take(bucket, rate, n, conn_turn_ns(conn->set), &wait_ns))
        return true;
    entry_note_refusal(conn, wait_ns, refusals);
    return false;
}

/* found: the request has at least one key, known or not. */
static const struct refusal *entry_judge_key(struct conn *conn, bool found)
{
    if (conn->key == NULL)
        return found ? &refuse_unknown_key : &refuse_no_key;
    if (conn->first_key == NULL)
        conn->first_key = conn->key;
    conn->several_keys |= conn->first_key != conn->key;
    return keys_allows(conn->key, conn->stream) ? NULL : &refuse_stream;
}

/* Sets conn->key, or conn->key_awaited. */
static const struct refusal *entry_find_key(struct conn *conn, const struct http_request *request,
                                            const struct keys *keys)
{
    const char *head = conn->buffer.data + conn->buffer.start;
    struct credential_walk walk;
    bool found = false;
    struct slice token;

    credential_walk_init(&walk, request, (struct slice){head, request->head_len});
    while (conn->key == NULL && credential_next(&walk, &token)) {
        found = true;
        conn->key = keys_find(conn->set->keys_cache, keys, token);
    }
    if (conn->key == NULL && conn_route(conn)->keys.count > 0) {
        conn->key_awaited = true;
        return NULL;
    }
    return entry_judge_key(conn, found);
}

/* The buckets of the address where it has some limit; else NULL. */
static struct quota_buckets *entry_limited_address(const struct conn *conn,
                                                   const struct config *config)
{
    return config->limits_address_requests > 0 || config->limits_address_events > 0
               ? entry_buckets(conn, config)
               : NULL;
}

const struct refusal *entry_check_debt(struct conn *conn, uint64_t len, enum coding coding)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    const uint64_t now_ns = conn_turn_ns(conn->set);
    struct bucket *debts[2] = {NULL, NULL};
    struct quota_buckets *buckets;
    uint64_t wait_ns;

    if (likely(len <= LARGE_BODY && (coding == CODING_NONE || coding == CODING_FORM)))
        return NULL;
    buckets = entry_limited_address(conn, config);
    if (buckets != NULL)
        debts[0] = &buckets->refusals;
    if (conn->key != NULL && conn->key->rate > 0)
        debts[1] = &conn->key->state->refusals;
    for (size_t i = 0; i < ARRAY_LEN(debts); i++) {
        wait_ns = debts[i] != NULL ? bucket_debt_ns(debts[i], now_ns) : 0;
        if (wait_ns == 0)
            continue;
        entry_note_refusal(conn, wait_ns, i == 1 && conn->several_keys ? NULL : debts[i]);
        return &refuse_vain;
    }
    return NULL;
}

/* Charges what somebody has cost us in vain. Returns for how long they owe now. */
static uint64_t entry_charge_both(struct conn_set *set, struct quota_buckets *buckets,
                                  const struct key *key, size_t bytes)
{
    const uint64_t now_ns = conn_turn_ns(set);
    const uint32_t n = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX;
    uint64_t debt_ns = 0, more_ns;

    if (buckets != NULL) {
        bucket_charge(&buckets->refusals, REFUSALS_RATE, n, now_ns);
        debt_ns = bucket_debt_ns(&buckets->refusals, now_ns);
    }
    if (key == NULL || key->rate == 0)
        return debt_ns;
    bucket_charge(&key->state->refusals, REFUSALS_RATE, n, now_ns);
    more_ns = bucket_debt_ns(&key->state->refusals, now_ns);
    return more_ns > debt_ns ? more_ns : debt_ns;
}

void entry_charge(struct conn *conn, size_t bytes)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    const uint64_t debt_ns =
        entry_charge_both(conn->set, entry_limited_address(conn, config), conn->key, bytes);

    /* Who comes again when we say so is not refused for what it owes. */
    if (debt_ns > 0 && bucket_retry_s(debt_ns) > conn->retry_s)
        conn->retry_s = bucket_retry_s(debt_ns);
}

const struct refusal *entry_check_body(struct conn *conn, struct slice body)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    const struct json_scan_search *search = &conn_route(conn)->keys;
    struct slice values[CONFIG_KEY_MEMBERS_MAX];
    char text[CREDENTIAL_MAX];
    bool found = false;

    conn->key_awaited = false;
    /* A reload may have taken the keys away. */
    if (config->keys == NULL)
        return NULL;
    json_scan_find(search, body, 0, values);
    for (size_t i = 0; i < search->count && conn->key == NULL; i++) {
        struct slice token = values[i];

        if (token.len < 3 || token.data[0] != '"')
            continue;
        token = (struct slice){token.data + 1, token.len - 2};
        token.len = members_decode(token, text, sizeof(text));
        token.data = text;
        found = true;
        if (token.len < sizeof(text))
            conn->key = keys_find(conn->set->keys_cache, config->keys, token);
    }
    return entry_judge_key(conn, found);
}

const struct refusal *entry_check(struct conn *conn, const struct http_request *request)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    struct quota_buckets *buckets = NULL;
    const struct refusal *refusal = NULL;

    conn->key = NULL;
    conn->key_awaited = false;
    conn->metered = false;
    conn->retry_s = 0;
    if (likely(config->keys == NULL && config->limits_address_requests == 0 &&
               config->limits_address_events == 0))
        return NULL;
    conn->metered = config->keys != NULL || config->limits_address_events > 0;
    if (config->limits_address_requests > 0)
        buckets = entry_buckets(conn, config);
    if (buckets != NULL && !entry_take_from(conn, &buckets->requests,
                                            config->limits_address_requests, 1, &buckets->refusals))
        return &refuse_requests;
    /* A voucher says more than a key. */
    if (config->keys != NULL && !conn->replayed)
        refusal = entry_find_key(conn, request, config->keys);
    if (refusal == NULL && conn->metered && !conn->key_awaited)
        refusal = entry_check_debt(conn, request->content_length, request->coding);
    return refusal;
}

/* Takes n events from the buckets of the address and the key, all or none. */
static const struct refusal *entry_take_events(struct conn *conn, const struct config *config,
                                               uint32_t n)
{
    const struct key *key = conn->key;
    struct quota_buckets *buckets = NULL;

    if (config->limits_address_events > 0)
        buckets = entry_buckets(conn, config);
    conn->buckets = buckets;
    if (buckets != NULL && !entry_take_from(conn, &buckets->events, config->limits_address_events,
                                            n, &buckets->refusals))
        return &refuse_address_events;
    if (key == NULL || key->rate == 0 ||
        entry_take_from(conn, &key->state->bucket, key->rate, n,
                        conn->several_keys ? NULL : &key->state->refusals))
        return NULL;
    if (buckets != NULL)
        bucket_give(&buckets->events, config->limits_address_events, n);
    return &refuse_key_events;
}

const struct refusal *entry_take(struct conn *conn, uint32_t n)
{
    const struct config *config = config_current(conn->set->parts.shared->config);
    struct metrics_thread *metrics = conn->set->parts.metrics;
    const struct refusal *refusal = entry_take_events(conn, config, n);

    if (conn->key != NULL)
        atomic_fetch_add_explicit(&conn->key->state->events, n, memory_order_relaxed);
    if (likely(refusal == NULL))
        return NULL;
    if (conn->key != NULL)
        atomic_fetch_add_explicit(&conn->key->state->limited, n, memory_order_relaxed);
    METRIC_STREAM_ADD(metrics, conn->stream, received, n);
    METRIC_STREAM_ADD(metrics, conn->stream, rejected_rate_limited, n);
    return refusal;
}

void entry_give(const struct conn *conn, const struct answer *answer, bool vain)
{
    const struct config *config = config_current(conn->set->parts.shared->config);

    /* Whose buckets they are may have changed since. That makes one bucket wrong by one request,
     * and does no harm. */
    if (answer->buckets != NULL && config->limits_address_events > 0)
        bucket_give(&answer->buckets->events, config->limits_address_events,
                    answer->metered_events);
    if (answer->key != NULL && answer->key->rate > 0)
        bucket_give(&answer->key->state->bucket, answer->key->rate, answer->metered_events);
    if (vain)
        (void)entry_charge_both(conn->set, answer->buckets, answer->key, answer->scanned);
}
