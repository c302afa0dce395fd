/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher_route.c - which endpoint an exchange goes to, and what is asked to know that.
 *
 * Two kinds of questions go to endpoints of a list that has several. One that is away, or has said
 * nothing for a while, is asked whether it is there, if its shard has others. And before a stream's
 * first insert goes to an endpoint, and after each of its absences, it is asked about the stream's
 * table (sites.h).
 *
 * Runs on: flusher thread.
 * Owns: the endpoints, and the conditions clickhouse@*.
 */
#define LOG_MODULE "flusher"

#include "flusher_route.h"

#include <inttypes.h>
#include <string.h>

#include "alloy/clock.h"
#include "flusher_tell.h"
#include "insert_request.h"

#define PING "SELECT 1"
#define PING_TIMEOUT_MS 2000
#define SITES_ASKED_MAX 8
#define CODE_UNKNOWN_TABLE 60
#define CODE_UNKNOWN_DATABASE 81

static struct site *flusher_route_sites(const struct flusher *flusher, size_t stream)
{
    return flusher->route.sites + stream * flusher->route.endpoints.count;
}

static uint64_t flusher_route_shard(const struct flusher *flusher, const struct lane *lane)
{
    return endpoints_of(&flusher->route.endpoints, lane->shard, ENDPOINTS_ALL);
}

static bool flusher_route_is_lone(uint64_t set)
{
    return (set & (set - 1)) == 0;
}

/* The endpoints to which inserts of the lane may go. */
static uint64_t flusher_route_set(const struct flusher *flusher, const struct lane *lane)
{
    const uint64_t shard = flusher_route_shard(flusher, lane);
    const struct site *sites = flusher_route_sites(flusher, lane->stream);

    if (flusher->route.endpoints.count == 1)
        return shard;
    if (flusher_route_is_lone(shard))
        return shard != 0 && site_serves_alone(&sites[__builtin_ctzll(shard)]) ? shard : 0;
    return sites_fit(sites, flusher->route.endpoints.count, shard);
}

bool flusher_route_make(struct flusher *flusher)
{
    const struct config *config = flusher_config(flusher);
    struct flusher_route *made = calloc(1, sizeof(*made));
    struct clickhouse_url walk = {.rest = config->clickhouse_url};
    bool all = made != NULL;

    if (all) {
        endpoints_init(&made->endpoints, config->clickhouse_url, clock_mono_ms());
        made->sites = calloc(CONFIG_STREAMS_MAX * made->endpoints.count, sizeof(*made->sites));
        all = made->sites != NULL;
    }
    while (all && clickhouse_url_next(&walk) && walk.number < made->endpoints.count) {
        struct flusher_server *server = &made->servers[walk.number];

        (void)clickhouse_url_name(walk.url, server->name);
        server->base = insert_request_base(config, walk.url);
        all = server->base != NULL;
    }
    if (!all) {
        for (size_t i = 0; made != NULL && i < made->endpoints.count; i++)
            free(made->servers[i].base);
        free(made == NULL ? NULL : made->sites);
        free(made);
        return false;
    }
    flusher_route_free(flusher);
    flusher->route = *made;
    free(made);
    for (size_t i = 0; i < METRIC_ENDPOINTS_MAX; i++)
        for (size_t k = 0; k < METRIC_ENDPOINT_COUNTER_COUNT; k++)
            atomic_store_explicit(&flusher->parts.metrics->endpoints[i].counters[k], 0,
                                  memory_order_relaxed);
    for (size_t i = 0; i < flusher->lane_count; i++) {
        flusher_tell_replicas(flusher, &flusher->lanes[i], false, NULL);
        flusher->lanes[i].verify.traced = false;
    }
    /* What is under way tells of others. */
    for (struct transfer *transfer = flusher->active; transfer != NULL; transfer = transfer->next)
        transfer->endpoint = ENDPOINTS_NONE;
    return true;
}

static void flusher_route_key(const struct flusher *flusher, size_t number,
                              char key[HEALTH_KEY_MAX])
{
    snprintf(key, HEALTH_KEY_MAX, "clickhouse@%s", flusher->route.servers[number].name);
}

void flusher_route_free(struct flusher *flusher)
{
    char key[HEALTH_KEY_MAX];

    for (size_t i = 0; i < flusher->route.endpoints.count; i++) {
        flusher_route_key(flusher, i, key);
        health_clear(flusher->parts.health, key);
        free(flusher->route.servers[i].base);
    }
    free(flusher->route.sites);
    flusher->route = (struct flusher_route){.sites = NULL};
}

bool flusher_route_open(const struct flusher *flusher, const struct lane *lane)
{
    return flusher_route_set(flusher, lane) != 0;
}

size_t flusher_route_choose(struct flusher *flusher, const struct lane *lane,
                            const struct flusher_posting *posting)
{
    uint64_t set = flusher_route_set(flusher, lane);

    if (posting->endpoint != ENDPOINTS_NONE)
        return posting->endpoint;
    /* A question may go anywhere, where inserts may not. */
    if (set == 0 && posting->kind != TRANSFER_INSERT)
        set = flusher_route_shard(flusher, lane);
    return endpoints_choose(&flusher->route.endpoints, lane->shard, set, clock_mono_ms());
}

bool flusher_route_any(const struct flusher *flusher)
{
    for (size_t i = 0; i < flusher->route.endpoints.count; i++)
        if (flusher->route.endpoints.at[i].state != ENDPOINT_AWAY)
            return true;
    return false;
}

bool flusher_route_elsewhere(const struct flusher *flusher, const struct transfer *transfer)
{
    const struct lane *lane = flusher_lane_of(flusher, transfer);
    const uint64_t set = flusher_route_set(flusher, lane);
    const size_t was = transfer->endpoint;

    if (was == ENDPOINTS_NONE ||
        ((set >> was & 1) != 0 && flusher->route.endpoints.at[was].state != ENDPOINT_AWAY))
        return false;
    return endpoints_has(&flusher->route.endpoints, lane->shard, set & ~(UINT64_C(1) << was));
}

/* ---- what is told ---- */

/* Tells of each endpoint of a shard that is left out, and who takes its inserts. */
static void flusher_route_tell_shard(struct flusher *flusher, size_t shard)
{
    const struct endpoints *endpoints = &flusher->route.endpoints;
    const bool others = endpoints_has(endpoints, shard, ENDPOINTS_ALL);
    char key[HEALTH_KEY_MAX];

    for (size_t i = 0; i < endpoints->count; i++) {
        const struct flusher_server *server = &flusher->route.servers[i];

        if (endpoints->at[i].shard != shard || endpoints->at[i].state != ENDPOINT_AWAY)
            continue;
        flusher_route_key(flusher, i, key);
        health_raise(flusher->parts.health, key, false, "%s %s (%s); %s", server->name,
                     endpoints_words(endpoints->at[i].why), server->words,
                     endpoints_alone(endpoints, i)
                         ? "it is the only endpoint of its shard, whose events wait"
                     : others ? "the others of its shard take its inserts"
                              : "all endpoints of its shard are away, and its events wait");
    }
}

/* Tells that an endpoint is left out, or is back. A single one has the condition clickhouse. */
static void flusher_route_tell(struct flusher *flusher, size_t number, const char *words)
{
    const struct endpoint *endpoint = &flusher->route.endpoints.at[number];
    const struct flusher_server *server = &flusher->route.servers[number];
    char key[HEALTH_KEY_MAX];

    if (flusher->route.endpoints.count == 1)
        return;
    flusher_route_key(flusher, number, key);
    if (endpoint->state == ENDPOINT_AWAY) {
        snprintf(flusher->route.servers[number].words, LANE_MESSAGE_MAX, "%s", words);
        log_warn("endpoint is left out endpoint=%s reason=\"%s\" error=\"%s\"", server->name,
                 endpoints_words(endpoint->why), words);
    } else {
        health_clear(flusher->parts.health, key);
        log_info("endpoint is back endpoint=%s", server->name);
    }
    flusher_route_tell_shard(flusher, endpoint->shard);
}

/* What keeps inserts of the lane from endpoints, in one line. False: nothing. */
static bool flusher_route_say(const struct flusher *flusher, const struct lane *lane,
                              char text[LANE_MESSAGE_MAX])
{
    const struct flusher_route *route = &flusher->route;
    const struct site *sites = flusher_route_sites(flusher, lane->stream);
    const uint64_t shard = flusher_route_shard(flusher, lane);

    text[0] = '\0';
    if (sites_differ(sites, route->endpoints.count, shard)) {
        snprintf(text, LANE_MESSAGE_MAX,
                 "table %s has different paths in Keeper at endpoints that stand between commas: "
                 "these are different shards, which stand between |",
                 flusher_stream(flusher, lane)->table_text);
        return true;
    }
    for (size_t i = 0; i < route->endpoints.count; i++) {
        const enum site_state state = sites[i].state;

        if ((shard >> i & 1) == 0 || state == SITE_FIT || state == SITE_UNKNOWN ||
            (flusher_route_is_lone(shard) && site_serves_alone(&sites[i])))
            continue;
        snprintf(text, LANE_MESSAGE_MAX, "table %s at %s%s%s%s %s",
                 flusher_stream(flusher, lane)->table_text, route->servers[i].name,
                 sites[i].engine[0] != '\0' ? " (" : "", sites[i].engine,
                 sites[i].engine[0] != '\0' ? ")" : "", site_words(state));
        return true;
    }
    return false;
}

/* Whether no insert may go anywhere, and no answer that may change that is awaited. */
static bool flusher_route_is_shut(const struct flusher *flusher, const struct lane *lane)
{
    const struct endpoints *endpoints = &flusher->route.endpoints;
    const struct site *sites = flusher_route_sites(flusher, lane->stream);
    uint64_t there = flusher_route_shard(flusher, lane);

    if (flusher_route_open(flusher, lane))
        return false;
    for (size_t i = 0; i < endpoints->count; i++)
        if (endpoints->at[i].state == ENDPOINT_AWAY)
            there &= ~(UINT64_C(1) << i);
    return sites_known(sites, endpoints->count, there);
}

static void flusher_route_review(struct flusher *flusher, struct lane *lane)
{
    char text[LANE_MESSAGE_MAX];
    const bool said = flusher_route_say(flusher, lane, text);

    flusher_tell_replicas(flusher, lane, said && flusher_route_is_shut(flusher, lane),
                          said ? text : NULL);
}

/* ---- what an exchange tells ---- */

void flusher_route_begun(struct flusher *flusher, const struct transfer *transfer)
{
    if (transfer->kind != TRANSFER_INSERT)
        return;
    endpoints_sent(&flusher->route.endpoints, transfer->endpoint,
                   transfer->started_ns / CLOCK_NS_PER_MS);
    METRIC_ENDPOINT_ADD(flusher->parts.metrics, transfer->endpoint, inserts, 1);
}

/* The endpoint is back: what is known of the tables there may no longer be true. */
static void flusher_route_back(struct flusher *flusher, size_t number)
{
    for (size_t i = 0; i < flusher->lane_count / flusher->shards; i++)
        site_forget(&flusher_route_sites(flusher, i)[number], 0);
}

static void flusher_route_note(struct flusher *flusher, const struct transfer *transfer,
                               enum endpoint_news news)
{
    struct flusher_route *route = &flusher->route;
    const size_t number = transfer->endpoint;
    char words[LANE_MESSAGE_MAX];

    if (news != ENDPOINT_ANSWERED)
        METRIC_ENDPOINT_ADD(flusher->parts.metrics, number, failures, 1);
    if (!endpoints_note(&route->endpoints, number, news, clock_mono_ms(), flusher_random(flusher)))
        return;
    if (news == ENDPOINT_ANSWERED && !endpoints_alone(&route->endpoints, number))
        flusher_route_back(flusher, number);
    /* The words of an answer may quote an event. */
    if (transfer->answer.status != 0 && transfer->kind == TRANSFER_INSERT)
        snprintf(words, sizeof(words), "HTTP status %ld, code %d", transfer->answer.status,
                 transfer->answer.exception_code);
    else
        flusher_tell_words(transfer, words);
    flusher_route_tell(flusher, number, words);
}

/* An insert has ended where its shard has others: what that tells of its table there. The last that
 * takes inserts stays, so that a refusal by all is judged as one by a single server. */
static void flusher_route_learn(struct flusher *flusher, const struct transfer *transfer)
{
    struct lane *lane = flusher_lane_of(flusher, transfer);
    struct site *site = &flusher_route_sites(flusher, transfer->stream)[transfer->endpoint];
    const uint64_t others = flusher_route_set(flusher, lane) & ~(UINT64_C(1) << transfer->endpoint);
    const int code = transfer->answer.exception_code;

    if (code == CODE_UNKNOWN_TABLE || code == CODE_UNKNOWN_DATABASE) {
        site_forget(site, 0);
    } else if (site_is_to_blame(&transfer->answer) &&
               endpoints_has(&flusher->route.endpoints, lane->shard, others)) {
        site_refuse(site, clock_mono_ms());
        flusher_route_review(flusher, lane);
    } else if (!transfer_is_answered(transfer)) {
        site->due_ms = 0;
    } else {
        site_took(site);
    }
}

void flusher_route_ended(struct flusher *flusher, const struct transfer *transfer)
{
    struct endpoints *endpoints = &flusher->route.endpoints;
    const size_t number = transfer->endpoint;
    const enum endpoint_news news = endpoints_judge(&transfer->answer);

    if (number == ENDPOINTS_NONE)
        return;
    if (transfer->kind == TRANSFER_INSERT)
        endpoints_ended(endpoints, number);
    if (transfer->kind == TRANSFER_PING)
        endpoints->at[number].asking = false;
    /* An insert that takes too long does not mean that the server is away. */
    if (news != ENDPOINT_SILENT ||
        endpoints->at[number].quiet_ms <= transfer->started_ns / CLOCK_NS_PER_MS)
        flusher_route_note(flusher, transfer, news);
    if (transfer->kind == TRANSFER_INSERT && !endpoints_alone(endpoints, number))
        flusher_route_learn(flusher, transfer);
}

/* ---- questions ---- */

/* When a site is to be asked about. One that is away is asked whether it is there first, where it
 * is not alone. */
static uint64_t flusher_route_site_due(const struct flusher *flusher, size_t stream, size_t number)
{
    const struct flusher_route *route = &flusher->route;
    const struct site *site = &flusher_route_sites(flusher, stream)[number];

    if (site->asking || route->endpoints.count == 1 ||
        (route->endpoints.at[number].state == ENDPOINT_AWAY &&
         !endpoints_alone(&route->endpoints, number)))
        return UINT64_MAX;
    return site->due_ms;
}

static bool flusher_route_next_site(struct flusher *flusher, uint64_t now, struct lane **lane,
                                    struct flusher_posting *posting)
{
    struct flusher_route *route = &flusher->route;

    if (route->sites_asked >= SITES_ASKED_MAX)
        return false;
    for (size_t i = 0; i < flusher->lane_count / flusher->shards; i++)
        for (size_t k = 0; k < route->endpoints.count; k++) {
            if (now < flusher_route_site_due(flusher, i, k))
                continue;
            flusher_route_sites(flusher, i)[k].asking = true;
            route->sites_asked++;
            *lane = flusher_lane(flusher, i, route->endpoints.at[k].shard);
            *posting = (struct flusher_posting){
                .kind = TRANSFER_SITE,
                .url = insert_request_site_url(&flusher_config(flusher)->streams[i]),
                .endpoint = k,
                .body_max = TRANSFER_BODY_MAX};
            return true;
        }
    return false;
}

bool flusher_route_next(struct flusher *flusher, uint64_t now, struct lane **lane,
                        struct flusher_posting *posting)
{
    struct endpoints *endpoints = &flusher->route.endpoints;

    for (size_t i = 0; i < endpoints->count; i++) {
        if (now < endpoints_ask_due_ms(endpoints, i))
            continue;
        endpoints->at[i].asking = true;
        *lane = flusher_lane(flusher, 0, endpoints->at[i].shard);
        *posting = (struct flusher_posting){.kind = TRANSFER_PING,
                                            .url = insert_request_query_url(PING, NULL, 0),
                                            .endpoint = i,
                                            .timeout_ms = PING_TIMEOUT_MS,
                                            .body_max = TRANSFER_BODY_MAX};
        return true;
    }
    return flusher_route_next_site(flusher, now, lane, posting);
}

void flusher_route_unasked(struct flusher *flusher, const struct lane *lane,
                           const struct flusher_posting *posting)
{
    const uint64_t later_ms = clock_mono_ms() + flusher_config(flusher)->clickhouse_retry_max_ms;
    struct site *site = &flusher_route_sites(flusher, lane->stream)[posting->endpoint];
    struct endpoint *endpoint = &flusher->route.endpoints.at[posting->endpoint];

    if (posting->kind == TRANSFER_PING) {
        endpoint->asking = false;
        endpoint->ask_ms = endpoint->quiet_ms = later_ms;
        return;
    }
    flusher->route.sites_asked--;
    site->asking = false;
    site->due_ms = later_ms;
}

/* It hangs: what it holds goes to others, if there are. */
static void flusher_route_pinged(struct flusher *flusher, const struct transfer *transfer)
{
    const size_t number = transfer->endpoint;
    const struct endpoints *endpoints = &flusher->route.endpoints;

    if (transfer->answer.transport_failed &&
        endpoints_has(endpoints, endpoints->at[number].shard,
                      ENDPOINTS_ALL & ~(UINT64_C(1) << number)))
        flusher->route.servers[number].cut = true;
}

void flusher_route_answered(struct flusher *flusher, const struct transfer *transfer)
{
    struct lane *lane = flusher_lane_of(flusher, transfer);
    const uint64_t now_ms = clock_mono_ms();
    struct site *sites = flusher_route_sites(flusher, transfer->stream);
    struct site *site;

    if (transfer->endpoint == ENDPOINTS_NONE)
        return;
    if (transfer->kind == TRANSFER_PING) {
        flusher_route_pinged(flusher, transfer);
        return;
    }
    site = &sites[transfer->endpoint];
    flusher->route.sites_asked--;
    site->asking = false;
    if (transfer_is_answered(transfer))
        site_take(site, transfer->answer.body, now_ms);
    else if (endpoints_judge(&transfer->answer) == ENDPOINT_ANSWERED)
        site_take(site, (struct slice){"\n", 1}, now_ms);
    else if (endpoints_alone(&flusher->route.endpoints, transfer->endpoint))
        site->due_ms = now_ms + flusher_config(flusher)->clickhouse_retry_min_ms;
    else
        site_forget(site, now_ms + flusher_config(flusher)->clickhouse_retry_min_ms);
    /* One of them may have been created anew: look at the others before this is believed. */
    for (size_t i = 0; i < flusher->route.endpoints.count; i++)
        if (sites_differ(sites, flusher->route.endpoints.count,
                         flusher_route_shard(flusher, lane)) &&
            &sites[i] != site && sites[i].due_ms > now_ms + 1000)
            sites[i].due_ms = now_ms + 1000;
    flusher_route_review(flusher, lane);
}

uint64_t flusher_route_due_ms(const struct flusher *flusher)
{
    const struct flusher_route *route = &flusher->route;
    uint64_t due = UINT64_MAX;

    for (size_t i = 0; i < route->endpoints.count; i++) {
        if (endpoints_ask_due_ms(&route->endpoints, i) < due)
            due = endpoints_ask_due_ms(&route->endpoints, i);
        for (size_t k = 0;
             k < flusher->lane_count / flusher->shards && route->sites_asked < SITES_ASKED_MAX; k++)
            if (flusher_route_site_due(flusher, k, i) < due)
                due = flusher_route_site_due(flusher, k, i);
    }
    return due;
}
