/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endpoints.c - which of a shard's endpoints the next insert goes to, and which are left out.
 *
 * The one with the fewest inserts out for its weight; among equals, smooth weighted round robin (as
 * nginx has it). So one that hangs keeps no more than its share of the inserts that may be out. One
 * that comes back begins with a small weight: with one insert at a time, that is.
 *
 * An endpoint that is alone in its shard is never left out: the lane's back-off says when to try
 * again.
 *
 * Runs on: flusher thread. Owns: nothing.
 */
#include "endpoints.h"

#include "alloy/base.h"

#define WEIGHT 256
#define WEIGHT_MIN 16
#define WARMING_MS 10000
#define ASK_MIN_MS 500
#define ASK_MAX_MS 10000
#define QUIET_MS 1000
#define STATE(state) (1u << (state))

/* Codes of ClickHouse with which a server says that it cannot, though another replica may: too many
 * queries, no Keeper, read-only, overloaded, cut off from Keeper; and those of a user whom it does
 * not know. Not those that can be the insert's own fault, as memory or time. */
static const int unavailable_codes[] = {202, 225, 242, 745, 999, 192, 193, 194, 516};

/* The states that may follow each state. */
static const unsigned endpoint_moves[] = {
    [ENDPOINT_WELL] = STATE(ENDPOINT_AWAY),
    [ENDPOINT_AWAY] = STATE(ENDPOINT_WARMING) | STATE(ENDPOINT_WELL),
    [ENDPOINT_WARMING] = STATE(ENDPOINT_AWAY) | STATE(ENDPOINT_WELL),
};

static void endpoints_move(struct endpoint *endpoint, enum endpoint_state to, uint64_t now_ms)
{
    ALLOY_ASSERT((endpoint_moves[endpoint->state] & STATE(to)) != 0);
    endpoint->state = to;
    endpoint->since_ms = now_ms;
    if (to == ENDPOINT_WELL)
        backoff_reset(&endpoint->backoff);
}

void endpoints_init(struct endpoints *endpoints, const char *list, uint64_t now_ms)
{
    struct clickhouse_url walk = {.rest = list};

    *endpoints = (struct endpoints){.count = 0};
    while (endpoints->count < CLICKHOUSE_ENDPOINTS_MAX && clickhouse_url_next(&walk))
        endpoints->at[endpoints->count++] =
            (struct endpoint){.shard = walk.shard, .since_ms = now_ms};
}

bool endpoints_alone(const struct endpoints *endpoints, size_t number)
{
    for (size_t i = 0; i < endpoints->count; i++)
        if (i != number && endpoints->at[i].shard == endpoints->at[number].shard)
            return false;
    return true;
}

/* 0: left out. */
static int64_t endpoints_weight(struct endpoint *endpoint, uint64_t now_ms)
{
    const uint64_t age_ms = now_ms - endpoint->since_ms;

    if (endpoint->state == ENDPOINT_WARMING && age_ms >= WARMING_MS)
        endpoints_move(endpoint, ENDPOINT_WELL, now_ms);
    switch (endpoint->state) {
    case ENDPOINT_WELL:
        return WEIGHT;
    case ENDPOINT_AWAY:
        return 0;
    case ENDPOINT_WARMING:
        break;
    }
    return WEIGHT_MIN + (int64_t)((WEIGHT - WEIGHT_MIN) * age_ms / WARMING_MS);
}

/* Of those in set, one after the other: the one that was not chosen for the longest time. */
static size_t endpoints_choose_away(struct endpoints *endpoints, uint64_t set)
{
    size_t best = ENDPOINTS_NONE;

    for (size_t i = 0; i < endpoints->count; i++)
        if ((set >> i & 1) != 0 &&
            (best == ENDPOINTS_NONE || endpoints->at[i].chosen < endpoints->at[best].chosen))
            best = i;
    return best;
}

/* Of those in set, which all have a weight and the same load, the one whose turn it is. */
static size_t endpoints_choose_turn(struct endpoints *endpoints, uint64_t set,
                                    const int64_t *weights)
{
    size_t best = ENDPOINTS_NONE;
    int64_t all = 0;

    for (size_t i = 0; i < endpoints->count; i++) {
        if ((set >> i & 1) == 0)
            continue;
        all += weights[i];
        endpoints->at[i].turn += weights[i];
        if (best == ENDPOINTS_NONE || endpoints->at[i].turn > endpoints->at[best].turn)
            best = i;
    }
    if (best != ENDPOINTS_NONE)
        endpoints->at[best].turn -= all;
    return best;
}

uint64_t endpoints_of(const struct endpoints *endpoints, size_t shard, uint64_t set)
{
    uint64_t of = 0;

    for (size_t i = 0; i < endpoints->count; i++)
        if (endpoints->at[i].shard == shard)
            of |= set & UINT64_C(1) << i;
    return of;
}

size_t endpoints_choose(struct endpoints *endpoints, size_t shard, uint64_t set, uint64_t now_ms)
{
    int64_t weights[CLICKHOUSE_ENDPOINTS_MAX] = {0};
    int64_t least = INT64_MAX;
    uint64_t equals = 0;
    size_t best;

    set = endpoints_of(endpoints, shard, set);
    for (size_t i = 0; i < endpoints->count; i++) {
        int64_t load;

        if ((set >> i & 1) == 0)
            continue;
        weights[i] = endpoints_weight(&endpoints->at[i], now_ms);
        if (weights[i] == 0)
            continue;
        load = (int64_t)endpoints->at[i].out * WEIGHT * WEIGHT / weights[i];
        if (load < least) {
            least = load;
            equals = 0;
        }
        if (load == least)
            equals |= UINT64_C(1) << i;
    }
    best = equals != 0 ? endpoints_choose_turn(endpoints, equals, weights)
                       : endpoints_choose_away(endpoints, set);
    if (best != ENDPOINTS_NONE)
        endpoints->at[best].chosen = ++endpoints->choices;
    return best;
}

bool endpoints_has(const struct endpoints *endpoints, size_t shard, uint64_t set)
{
    set = endpoints_of(endpoints, shard, set);
    for (size_t i = 0; i < endpoints->count; i++)
        if ((set >> i & 1) != 0 && endpoints->at[i].state != ENDPOINT_AWAY)
            return true;
    return false;
}

void endpoints_sent(struct endpoints *endpoints, size_t number, uint64_t now_ms)
{
    if (endpoints->at[number].out++ == 0)
        endpoints->at[number].quiet_ms = now_ms;
}

void endpoints_ended(struct endpoints *endpoints, size_t number)
{
    ALLOY_ASSERT(endpoints->at[number].out > 0);
    endpoints->at[number].out--;
}

bool endpoints_note(struct endpoints *endpoints, size_t number, enum endpoint_news news,
                    uint64_t now_ms, uint64_t random)
{
    struct endpoint *endpoint = &endpoints->at[number];
    const bool away = endpoint->state == ENDPOINT_AWAY;

    if (news == ENDPOINT_ANSWERED) {
        endpoint->quiet_ms = now_ms;
        if (!away)
            return false;
        endpoints_move(endpoint,
                       endpoints_alone(endpoints, number) ? ENDPOINT_WELL : ENDPOINT_WARMING,
                       now_ms);
        return true;
    }
    endpoint->why = news;
    /* What was out together fails together: one failure. */
    if (!away || now_ms >= endpoint->ask_ms)
        endpoint->ask_ms =
            now_ms + backoff_next(&endpoint->backoff, ASK_MIN_MS, ASK_MAX_MS, random);
    if (away)
        return false;
    endpoints_move(endpoint, ENDPOINT_AWAY, now_ms);
    return true;
}

enum endpoint_news endpoints_judge(const struct insert_answer *answer)
{
    const int code = answer->exception_code != 0 ? answer->exception_code
                                                 : insert_answer_body_code(answer->body);

    if (answer->transport_failed && answer->unsent)
        return ENDPOINT_REFUSED;
    if (answer->transport_failed)
        return answer->timed_out ? ENDPOINT_SILENT : ENDPOINT_LOST;
    if (code == 0)
        return answer->status >= 500 || answer->status == 429 || answer->status == 401 ||
                       answer->status == 403
                   ? ENDPOINT_UNAVAILABLE
                   : ENDPOINT_ANSWERED;
    for (size_t i = 0; i < ARRAY_LEN(unavailable_codes); i++)
        if (code == unavailable_codes[i])
            return ENDPOINT_UNAVAILABLE;
    return ENDPOINT_ANSWERED;
}

uint64_t endpoints_ask_due_ms(const struct endpoints *endpoints, size_t number)
{
    const struct endpoint *endpoint = &endpoints->at[number];

    if (endpoint->asking || endpoints_alone(endpoints, number))
        return UINT64_MAX;
    if (endpoint->state == ENDPOINT_AWAY)
        return endpoint->ask_ms;
    return endpoint->out > 0 ? endpoint->quiet_ms + QUIET_MS : UINT64_MAX;
}

const char *endpoints_words(enum endpoint_news news)
{
    switch (news) {
    case ENDPOINT_ANSWERED:
        return "answers";
    case ENDPOINT_REFUSED:
        return "takes no connection";
    case ENDPOINT_LOST:
        return "cut a connection";
    case ENDPOINT_SILENT:
        return "does not answer in time";
    case ENDPOINT_UNAVAILABLE:
        return "says that it cannot";
    }
    ALLOY_UNREACHABLE("an endpoint_news of no name");
    return "";
}
