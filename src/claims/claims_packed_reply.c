/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_packed_reply.c - what Redis answers, with redis.layout = packed.
 *
 * Runs on: the one thread that owns the struct claims. Owns: nothing.
 */
#include "claims_packed.h"

#include <string.h>

#include "alloy/clock.h"
#define LOG_MODULE "claims"
#include "alloy/log.h"

#define LOG_INTERVAL_MS 10000

static uint64_t claims_packed_read_number(struct slice text)
{
    uint64_t number = 0;

    for (size_t i = 0; i < text.len && i < 16 && text.data[i] >= '0' && text.data[i] <= '9'; i++)
        number = 10 * number + (uint64_t)(text.data[i] - '0');
    return number;
}

bool claims_packed_on_time(struct claims *claims, const struct redis_link_element *element)
{
    uint64_t number;

    if (element->type == REDIS_LINK_ERROR)
        return element->root;
    if (element->root)
        return element->type == REDIS_LINK_ARRAY && element->count == 2;
    if (element->type != REDIS_LINK_STRING || element->text.len > 16)
        return false;
    number = claims_packed_read_number(element->text);
    if (element->index == 0)
        claims->lane->time_ms = 1000 * number;
    else
        claims->lane->time_ms += number / 1000;
    return true;
}

static void claims_packed_read_field(struct packed_group *group, struct slice text)
{
    snprintf(group->field, sizeof(group->field), "%.*s", (int)text.len, text.data);
}

/* A table that we cannot read may have claims. */
static void claims_packed_tell_garbled(struct packed_group *group)
{
    static struct log_limit limit;
    uint64_t suppressed;

    group->garbled = true;
    if (log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        log_warn("a table in the log of packed claims cannot be read: it is damaged, or of another "
                 "version table=%s action=on_failure suppressed=%llu",
                 group->field, (unsigned long long)suppressed);
}

/* Somebody's key has the name of a hash, or of the log. It stays in the way until it is gone. */
static void claims_packed_tell_type(const struct claims *claims, uint32_t i)
{
    static struct log_limit limit;
    char name[PACKED_KEY_MAX];
    uint64_t suppressed;

    if (!log_limit_pass(&limit, clock_mono_ms(), LOG_INTERVAL_MS, &suppressed))
        return;
    claims_packed_name(claims, i, name);
    log_warn("a key of packed claims holds something else than a hash key=%s action=on_failure "
             "suppressed=%llu",
             name, (unsigned long long)suppressed);
}

/* What HGETALL says of a log: each field, and then its value. */
static bool claims_packed_on_log(struct packed_group *group, const struct claims_lane *lane,
                                 const struct redis_link_element *element)
{
    struct packed_table table;

    if (element->root) {
        if (element->type == REDIS_LINK_ERROR)
            return true;
        group->log.count = 0;
        group->garbled = false;
        group->wish_ms = 0;
        group->now_ms = lane->time_ms;
        group->known =
            element->type == REDIS_LINK_ARRAY && element->count == 0 && lane->time_ms > 0;
        group->elements = element->count;
        return element->type == REDIS_LINK_ARRAY && element->count % 2 == 0;
    }
    if (element->type != REDIS_LINK_STRING)
        return false;
    if (element->index % 2 == 0)
        claims_packed_read_field(group, element->text);
    else if (strcmp(group->field, "w") == 0)
        group->wish_ms = claims_packed_read_number(element->text);
    else if (packed_table_read(&table, (struct slice){group->field, strlen(group->field)},
                               element->text))
        packed_log_add(&group->log, &table);
    else if (group->field[0] >= '0' && group->field[0] <= '9')
        claims_packed_tell_garbled(group);
    if (element->index + 1 == group->elements)
        group->known = lane->time_ms > 0;
    return true;
}

/* The value of a claim with layout = keys: whose is it. */
static enum packed_state claims_packed_judge_key(const struct claims *claims, uint32_t i,
                                                 struct slice value)
{
    char own[VALUE_LEN];

    if (!claims_put_is_value(value))
        return PACKED_DONE;
    claims_put_value(claims, claims->records[i], own);
    return memcmp(own, value.data, VALUE_LEN) == 0 ? PACKED_OWNED : PACKED_OTHERS;
}

/* The value of a claim: whose is it. */
static enum packed_state claims_packed_judge(struct claims *claims, uint32_t i, struct slice value)
{
    char own[PACKED_VALUE_LEN];

    if (claims->round == ROUND_FIND_KEYS || claims->round == ROUND_WHO_KEYS)
        return claims_packed_judge_key(claims, i, value);
    if (value.len != PACKED_VALUE_LEN)
        return PACKED_DONE;
    claims_packed_value(claims, i, own);
    return memcmp(value.data, own, PACKED_VALUE_LEN) == 0 ? PACKED_OWNED : PACKED_OTHERS;
}

static bool claims_packed_on_find(struct claims *claims, uint32_t i,
                                  const struct redis_link_element *element)
{
    enum packed_state *state = &claims->packed->states[i];

    if (element->type == REDIS_LINK_NIL) {
        *state = PACKED_SEEK;
        /* In a cluster its key can be at another node than the tables. */
        if (claims->round == ROUND_FIND_KEYS)
            (void)claims_doubt_verdict(claims, &claims->verdicts[i]);
        return true;
    }
    if (element->type != REDIS_LINK_STRING)
        return false;
    *state = claims_packed_judge(claims, i, element->text);
    if (*state == PACKED_DONE)
        claims->verdicts[i] = CLAIM_STRANGE;
    /* Our own there is to be claimed in the newest table, which decides. */
    if (*state == PACKED_OWNED) {
        *state = PACKED_FREE;
        claims->flags[i] |= FLAG_LEFT;
    }
    if (*state == PACKED_OTHERS)
        claims->flags[i] |= FLAG_TAKEN;
    return true;
}

static bool claims_packed_on_claim(struct claims *claims, uint32_t i,
                                   const struct redis_link_element *element)
{
    struct packed_group *group = claims_packed_group_of(claims, i);

    if (element->type != REDIS_LINK_INTEGER)
        return false;
    claims->packed->states[i] = element->value == 1 ? PACKED_OWNED : PACKED_LOSER;
    group->claimed += element->value == 1;
    return true;
}

static bool claims_packed_on_who(struct claims *claims, uint32_t i,
                                 const struct redis_link_element *element)
{
    enum packed_state *state = &claims->packed->states[i];

    if (element->type == REDIS_LINK_NIL) {
        /* Another's in an older table still counts; else the id is free again. */
        const bool taken = (claims->flags[i] & FLAG_TAKEN) != 0;

        *state = taken ? PACKED_DONE : PACKED_FREE;
        if (taken)
            claims->verdicts[i] = CLAIM_DUPLICATE;
        return true;
    }
    if (element->type != REDIS_LINK_STRING)
        return false;
    *state = claims_packed_judge(claims, i, element->text);
    claims->lane->wait.owes |= *state == PACKED_OWNED;
    if (*state == PACKED_OWNED)
        return true;
    claims->verdicts[i] = *state == PACKED_DONE ? CLAIM_STRANGE : CLAIM_DUPLICATE;
    *state = PACKED_DONE;
    return true;
}

/* An id that no older table has: in the newest one, before it is claimed there. */
static bool claims_packed_on_know(struct claims *claims, uint32_t i,
                                  const struct redis_link_element *element)
{
    enum claims_verdict *verdict = &claims->verdicts[i];

    if (element->type != REDIS_LINK_NIL)
        return claims_packed_on_who(claims, i, element);
    claims->packed->states[i] =
        claims_doubt_verdict(claims, verdict) || *verdict == CLAIM_DOUBTED || *verdict == CLAIM_HELD
            ? PACKED_DONE
            : PACKED_FREE;
    return true;
}

/* One number answers. */
static bool claims_packed_on_number(struct claims *claims, uint32_t i,
                                    const struct redis_link_element *element)
{
    struct packed_group *group = claims_packed_group_of(claims, i);

    if (element->type != REDIS_LINK_INTEGER)
        return false;
    if (claims->round == ROUND_FILL) {
        group->samples++;
        group->lengths += (uint64_t)element->value;
    } else if (claims->round == ROUND_EXPIRE) {
        group->unanswered--;
    } else if (claims->round == ROUND_LET_GO || claims->round == ROUND_LET_GO_KEYS) {
        claims->packed->states[i] = PACKED_SEEK;
    }
    return true;
}

/* A reply to MGET of one key. */
static bool claims_packed_on_key(struct claims *claims, uint32_t i,
                                 const struct redis_link_element *element)
{
    if (element->root)
        return element->type == REDIS_LINK_ERROR ||
               (element->type == REDIS_LINK_ARRAY && element->count == 1);
    return claims->round == ROUND_FIND_KEYS ? claims_packed_on_find(claims, i, element)
                                            : claims_packed_on_who(claims, i, element);
}

/* A GET of a hash is an error of its own. Who may not ask goes on without a log. */
static bool claims_packed_on_peek(const struct claims *claims, struct packed_group *group,
                                  const struct redis_link_element *element)
{
    group->peeked_ms = claims_now_ms(claims);
    group->adopted =
        element->type == REDIS_LINK_ERROR && redis_link_is_code(element->text, "WRONGTYPE");
    return element->type == REDIS_LINK_ERROR || element->type == REDIS_LINK_NIL ||
           element->type == REDIS_LINK_STRING;
}

/* True when the key begins with prefix, word, stream and ':', and more; *rest is that. */
static bool claims_packed_is_of(const struct claims *claims, struct slice key, const char *word,
                                struct slice *rest)
{
    const char *stream = config_current(claims->parts.config)->streams[claims->packed->stream].name;
    const struct slice parts[] = {{claims->key_head, claims->prefix_len},
                                  {word, strlen(word)},
                                  {stream, strlen(stream)},
                                  {":", 1}};

    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (key.len < parts[i].len || memcmp(key.data, parts[i].data, parts[i].len) != 0)
            return false;
        key.data += parts[i].len;
        key.len -= parts[i].len;
    }
    *rest = key;
    return key.len > 0;
}

static bool claims_packed_on_scan(struct claims *claims, const struct redis_link_element *element)
{
    struct claims_packed *packed = claims->packed;
    struct slice rest;

    if (element->type == REDIS_LINK_ERROR) {
        packed->found_claim = true; /* we may not look, so there may be some */
        return true;
    }
    if (element->type == REDIS_LINK_ARRAY)
        return true;
    if (element->type != REDIS_LINK_STRING)
        return false;
    if (element->depth == 1)
        snprintf(packed->cursor, sizeof(packed->cursor), "%.*s", (int)element->text.len,
                 element->text.data);
    else if (claims_packed_is_of(claims, element->text, "", &rest))
        packed->found_claim = true;
    else if (claims_packed_is_of(claims, element->text, "#member:", &rest) && rest.len == 16 &&
             packed->member_count < PACKED_PEERS_MAX)
        snprintf(packed->members[packed->member_count++], 17, "%.16s", rest.data);
    else if (claims_packed_is_of(claims, element->text, PACKED_PACKER_WORD, &rest) &&
             rest.len == 16 && packed->packer_count < PACKED_PEERS_MAX)
        snprintf(packed->packers[packed->packer_count++], 17, "%.16s", rest.data);
    packed->found_claim |= packed->member_count == PACKED_PEERS_MAX;
    return true;
}

bool claims_packed_on_element(struct claims *claims, const struct redis_link_element *element)
{
    uint32_t i;

    if (claims->round == ROUND_SCAN)
        return claims_packed_on_scan(claims, element);
    i = claims->todo[claims->lane->at];
    if (element->root && element->type == REDIS_LINK_ERROR && claims->round != ROUND_PEEK &&
        redis_link_is_code(element->text, "WRONGTYPE"))
        claims_packed_tell_type(claims, i);
    if (claims->round == ROUND_LOG)
        return claims_packed_on_log(claims_packed_group_of(claims, i), claims->lane, element);
    if (claims->round == ROUND_FIND_KEYS || claims->round == ROUND_WHO_KEYS)
        return claims_packed_on_key(claims, i, element);
    if (!element->root)
        return false;
    if (claims->round == ROUND_PEEK)
        return claims_packed_on_peek(claims, claims_packed_group_of(claims, i), element);
    if (element->type == REDIS_LINK_ERROR)
        return true;
    switch (claims->round) {
    case ROUND_FIND:
        return claims_packed_on_find(claims, i, element);
    case ROUND_CLAIM:
        return claims_packed_on_claim(claims, i, element);
    case ROUND_KNOW:
        return claims_packed_on_know(claims, i, element);
    case ROUND_WHO:
        return claims_packed_on_who(claims, i, element);
    default:
        return claims_packed_on_number(claims, i, element);
    }
}
