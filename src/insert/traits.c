/* SPDX-License-Identifier: Apache-2.0 */
/*
 * traits.c - learns by which of their values refused rows differ from rows that go in.
 *
 * A trait is a value of a group: the whole value of a member, its length, its first character, a
 * number in it, and so on. A table counts how many refused rows had a trait and how many of those
 * that went in; two rows differ by a trait, whatever its value means.
 *
 * Most groups tell nothing, and they must be silent. In a group whose values are nearly all
 * different, like an id, a value that no refused row had is no surprise; in one where refused rows
 * had but a few values it is. By Good and Turing's estimate the chance of an unseen value is the
 * share of rows whose value was seen just once. A value that all rows have is as frequent in both
 * kinds of rows. So a score is the sum of logarithms of how much likelier the row's values are
 * among rows that go in; of a member's groups, which tell the same, only the strongest count.
 *
 * The tables forget what was seen once before what was seen often, so they need not grow.
 *
 * Runs on: one thread.
 * Owns: the tables.
 */
#include "traits.h"

#include <stdint.h>
#include <string.h>

#include "alloy/members.h"

#define BYTES_MAX 4096 /* of an event */
#define VALUE_MAX 64   /* of a value */
#define ELEMENTS_MAX 8 /* of an array */
#define RUNS_MAX 6     /* of digits in a value */
#define ROW_MAX 128    /* traits of a row */

#define WAYS 4
#define GROUPS 512
#define VALUES 2048
#define ROWS_MAX 4096 /* learned; then all counts are halved */

#define BIT 16             /* of a score */
#define NOISE BIT          /* what tells less does not count */
#define SURE (8 * BIT)     /* the most that one member tells */
#define GROUP_ROWS_MIN 4   /* refused ones; before that an unseen value is no surprise */
#define GROUP_ROWS_OPEN 32 /* from then on the values of an open group are not kept */

/* What a group is about; of a run of digits, RUN + 2 * its index, and 1 more for its first digit.
 */
enum trait_kind {
    TRAIT_NAMES,
    TRAIT_WHOLE,
    TRAIT_LENGTH,
    TRAIT_FIRST,
    TRAIT_FIRST_TWO,
    TRAIT_FIRST_FOUR,
    TRAIT_LAST,
    TRAIT_CLASSES,
    TRAIT_COUNT,
    TRAIT_RUN,
};

struct trait_group {
    uint32_t tag;          /* 0: free */
    uint16_t rows[2];      /* that went in, and that were refused */
    uint16_t seen_once[2]; /* values that one of these had */
};

struct trait_value {
    uint32_t tag; /* 0: free */
    uint16_t rows[2];
};

struct traits {
    uint32_t rows; /* learned; halved when the counts are */
    struct trait_group groups[GROUPS / WAYS][WAYS];
    struct trait_value values[VALUES / WAYS][WAYS];
};

struct trait {
    uint32_t group;
    uint32_t value;
    uint32_t member; /* an index: traits of one member have the same */
};

/* The traits of one row. */
struct trait_row {
    size_t count;
    uint32_t member;
    struct trait traits[ROW_MAX];
};

/* As splitmix64 ends. */
static uint64_t traits_mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t traits_hash(uint64_t seed, const char *data, size_t len)
{
    uint64_t hash = seed ^ len * UINT64_C(0x9e3779b97f4a7c15);
    uint64_t word;

    for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word)) {
        memcpy(&word, data, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
        hash ^= hash >> 32;
    }
    word = 0;
    if (len > 0)
        memcpy(&word, data, len);
    return traits_mix(hash ^ word);
}

static void traits_add(struct trait_row *row, uint64_t path, unsigned kind, uint64_t value)
{
    const uint64_t group = (path + kind) * UINT64_C(0x9e3779b97f4a7c15);
    struct trait *trait;

    if (row->count == ROW_MAX)
        return;
    trait = &row->traits[row->count++];
    trait->group = (uint32_t)(group >> 32) | 1;
    trait->value = (uint32_t)((group ^ value) * UINT64_C(0xbf58476d1ce4e5b9) >> 32) | 1;
    trait->member = row->member;
}

static void traits_add_text(struct trait_row *row, uint64_t path, unsigned kind, struct slice text)
{
    traits_add(row, path, kind, traits_hash(0, text.data, text.len));
}

static bool traits_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Whether it has upper or lower case letters, digits, anything else. */
static unsigned traits_class(char c)
{
    if (traits_is_digit(c))
        return 1;
    if (c >= 'a' && c <= 'z')
        return 2;
    if (c >= 'A' && c <= 'Z')
        return 4;
    return (unsigned char)c >= 0x80 ? 8 : 16;
}

/* The numbers in a time, an address or the like. */
static void traits_add_runs(struct trait_row *row, uint64_t path, struct slice text)
{
    size_t at = 0;

    for (unsigned run = 0; run < RUNS_MAX && at < text.len; run++) {
        size_t from;

        while (at < text.len && !traits_is_digit(text.data[at]))
            at++;
        from = at;
        while (at < text.len && traits_is_digit(text.data[at]))
            at++;
        if (at == from)
            return;
        traits_add_text(row, path, TRAIT_RUN + 2 * run,
                        (struct slice){text.data + from, at - from});
        traits_add(row, path, TRAIT_RUN + 2 * run + 1,
                   (at - from) << 8 | (unsigned char)text.data[from]);
    }
}

/* A string's inside, a number, or a word. */
static void traits_add_scalar(struct trait_row *row, uint64_t path, struct slice text, bool string)
{
    const struct slice start = {text.data, text.len < VALUE_MAX ? text.len : VALUE_MAX};
    unsigned classes = 0;
    size_t letters = 0;
    size_t digits = 0;

    for (size_t i = 0; i < start.len; i++) {
        const unsigned class = traits_class(start.data[i]);
        classes |= class;
        letters += class == 2 || class == 4;
        digits += class == 1;
    }
    traits_add(row, path, TRAIT_WHOLE, traits_hash(text.len << 1 | string, start.data, start.len));
    traits_add(row, path, TRAIT_LENGTH, text.len << 1 | string);
    traits_add(row, path, TRAIT_CLASSES, classes);
    if (start.len == 0)
        return;
    /* The first digit of a number tells together with its length. */
    traits_add(row, path, TRAIT_FIRST,
               (unsigned char)start.data[0] | (string ? 0 : start.len << 8));
    traits_add_text(row, path, TRAIT_FIRST_TWO,
                    (struct slice){start.data, start.len < 2 ? start.len : 2});
    if (start.len > 4)
        traits_add_text(row, path, TRAIT_FIRST_FOUR, (struct slice){start.data, 4});
    traits_add(row, path, TRAIT_LAST, (unsigned char)start.data[start.len - 1]);
    if (string && digits > 0 && letters <= 2)
        traits_add_runs(row, path, start);
}

/* Adds what is no object or array. */
static void traits_add_value(struct trait_row *row, uint64_t path, struct slice value)
{
    const bool string = value.data[0] == '"';
    const bool closed = string && value.len > 1 && value.data[value.len - 1] == '"';

    if (value.data[0] == '{' || value.data[0] == '[')
        traits_add(row, path, TRAIT_FIRST, (unsigned char)value.data[0]);
    else if (string)
        traits_add_scalar(row, path, (struct slice){value.data + 1, value.len - 1 - closed}, true);
    else
        traits_add_scalar(row, path, value, false);
}

static void traits_add_member(struct trait_row *row, uint64_t path, struct slice value)
{
    struct members inside;
    struct slice name, nested;
    size_t count = 0;

    row->member++;
    if (value.data[0] != '{' && value.data[0] != '[') {
        traits_add_value(row, path, value);
        return;
    }
    members_open(&inside, value);
    if (value.data[0] == '{') {
        while (row->count < ROW_MAX && members_next(&inside, &name, &nested)) {
            row->member++;
            traits_add_value(row, traits_hash(path, name.data, name.len), nested);
        }
        return;
    }
    while (count < ELEMENTS_MAX && members_next_element(&inside, &nested)) {
        traits_add_value(row, path + TRAIT_RUN + 2 * RUNS_MAX, nested);
        count++;
    }
    traits_add(row, path, TRAIT_COUNT, count);
}

static void traits_read(struct trait_row *row, struct slice event)
{
    struct members members;
    struct slice name, value;
    uint64_t names = 0;

    row->count = 0;
    row->member = 0;
    if (event.len > BYTES_MAX)
        event.len = BYTES_MAX;
    members_open(&members, event);
    while (row->count < ROW_MAX && members_next(&members, &name, &value)) {
        const uint64_t path = traits_hash(1, name.data, name.len);
        names += path;
        traits_add_member(row, path, value);
    }
    row->member++;
    traits_add(row, 0, TRAIT_NAMES, names);
}

static const struct trait_group *traits_find_group(const struct traits *traits, uint32_t tag)
{
    const struct trait_group *set = traits->groups[tag / 2 % (GROUPS / WAYS)];

    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].tag == tag)
            return &set[i];
    }
    return NULL;
}

static const struct trait_value *traits_find_value(const struct traits *traits, uint32_t tag)
{
    const struct trait_value *set = traits->values[tag / 2 % (VALUES / WAYS)];

    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].tag == tag)
            return &set[i];
    }
    return NULL;
}

/* The group, newly made if need be. NULL: there is no room for it, but there may be next time. */
static struct trait_group *traits_make_group(struct traits *traits, uint32_t tag)
{
    struct trait_group *set = traits->groups[tag / 2 % (GROUPS / WAYS)];
    struct trait_group *least = set;

    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].tag == tag)
            return &set[i];
        if (set[i].rows[0] + set[i].rows[1] < least->rows[0] + least->rows[1])
            least = &set[i];
    }
    if (least->rows[0] + least->rows[1] > 1) {
        const size_t kind = least->rows[1] > 0;
        least->rows[kind]--;
        if (least->seen_once[kind] > least->rows[kind])
            least->seen_once[kind] = least->rows[kind];
        return NULL;
    }
    *least = (struct trait_group){.tag = tag};
    return least;
}

static struct trait_value *traits_make_value(struct traits *traits, uint32_t tag)
{
    struct trait_value *set = traits->values[tag / 2 % (VALUES / WAYS)];
    struct trait_value *least = set;

    for (size_t i = 0; i < WAYS; i++) {
        if (set[i].tag == tag)
            return &set[i];
        if (set[i].rows[0] + set[i].rows[1] < least->rows[0] + least->rows[1])
            least = &set[i];
    }
    if (least->rows[0] + least->rows[1] > 1) {
        least->rows[least->rows[1] > 0]--;
        return NULL;
    }
    *least = (struct trait_value){.tag = tag};
    return least;
}

static void traits_halve(struct traits *traits)
{
    traits->rows /= 2;
    for (size_t i = 0; i < GROUPS; i++) {
        struct trait_group *group = &traits->groups[i / WAYS][i % WAYS];
        for (size_t kind = 0; kind < 2; kind++) {
            group->rows[kind] /= 2;
            group->seen_once[kind] /= 2;
        }
    }
    for (size_t i = 0; i < VALUES; i++) {
        struct trait_value *value = &traits->values[i / WAYS][i % WAYS];
        value->rows[0] /= 2;
        value->rows[1] /= 2;
    }
}

/* log2(x) * BIT, up to 8% of a bit too small. */
static int traits_log(uint64_t x)
{
    const int whole = 63 - __builtin_clzll(x);
    const uint64_t part = whole >= 4 ? x >> (whole - 4) : x << (4 - whole);

    return whole * BIT + (int)(part & 15);
}

/* log2(a / b) * BIT without noise. */
static int traits_evidence(uint64_t a, uint64_t b)
{
    const int bits = traits_log(a) - traits_log(b);

    if (bits > NOISE)
        return bits - NOISE < SURE ? bits - NOISE : SURE;
    if (bits < -NOISE)
        return bits + NOISE > -SURE ? bits + NOISE : -SURE;
    return 0;
}

/* How much it tells that no refused row had the value; 0: one had it. */
static int traits_differ(const struct trait_group *group, const struct trait_value *value)
{
    const uint64_t out = group->rows[1];
    int bits;

    if (out < GROUP_ROWS_MIN || (value != NULL && value->rows[1] > 0))
        return 0;
    bits = traits_evidence(out + 1, 2u * group->seen_once[1] + 1);
    return bits > 0 ? bits : 0;
}

/* How much more the value tells of a row that goes in than of one that is refused. */
static int traits_resemble(const struct trait_group *group, const struct trait_value *value)
{
    const uint64_t had_in = value == NULL ? 0 : value->rows[0];
    const uint64_t had_out = value == NULL ? 0 : value->rows[1];
    /* A group may have been forgotten and come again, and its values not. */
    const uint64_t in = group->rows[0] > had_in ? group->rows[0] : had_in;
    const uint64_t out = group->rows[1] > had_out ? group->rows[1] : had_out;
    int bits;

    if (out < GROUP_ROWS_MIN || in == 0)
        return 0;
    if (had_in == 0 && had_out == 0)
        return traits_evidence((2u * group->seen_once[0] + 1) * (out + 1),
                               (2u * group->seen_once[1] + 1) * (in + 1));
    if (had_in == 0) {
        bits = traits_evidence(out + 2, (had_out + 1) * (in + 1));
        return bits < 0 ? bits : 0;
    }
    if (had_out == 0) {
        bits = traits_evidence(had_in * (out + 1), in + 1);
        return bits > 0 ? bits : 0;
    }
    return traits_evidence(had_in * out, had_out * in);
}

static void traits_count(struct traits *traits, const struct trait *trait, bool refused)
{
    struct trait_group *group = traits_make_group(traits, trait->group);
    struct trait_value *value;

    /* An event may have a name many times. */
    if (group == NULL || group->rows[refused] == UINT16_MAX)
        return;
    group->rows[refused]++;
    /* The values of an id would only push others out. */
    if (refused && group->rows[1] >= GROUP_ROWS_OPEN &&
        group->seen_once[1] > group->rows[1] - group->rows[1] / 8) {
        const struct trait_value *known = traits_find_value(traits, trait->value);
        if (known == NULL) {
            group->seen_once[1]++;
            return;
        }
    }
    value = traits_make_value(traits, trait->value);
    if (value == NULL || value->rows[refused] == 0)
        group->seen_once[refused]++;
    else if (value->rows[refused] == 1 && group->seen_once[refused] > 0)
        group->seen_once[refused]--;
    if (value != NULL && value->rows[refused] < UINT16_MAX)
        value->rows[refused]++;
    ALLOY_ASSERT(group->seen_once[refused] <= group->rows[refused]);
}

struct traits *traits_create(void)
{
    return calloc(1, sizeof(struct traits));
}

void traits_destroy(struct traits *traits)
{
    free(traits);
}

void traits_learn(struct traits *traits, struct slice event, bool refused)
{
    struct trait_row row;

    traits_read(&row, event);
    for (size_t i = 0; i < row.count; i++)
        traits_count(traits, &row.traits[i], refused);
    if (++traits->rows == ROWS_MAX)
        traits_halve(traits);
}

int traits_score(const struct traits *traits, struct slice event)
{
    struct trait_row row;
    int differs = 0, resembles = 0;

    traits_read(&row, event);
    for (size_t i = 0; i < row.count;) {
        const uint32_t member = row.traits[i].member;
        int news = 0, most = 0, least = 0;

        for (; i < row.count && row.traits[i].member == member; i++) {
            const struct trait_group *group = traits_find_group(traits, row.traits[i].group);
            const struct trait_value *value = traits_find_value(traits, row.traits[i].value);
            if (group == NULL)
                continue;
            const int differ = traits_differ(group, value);
            const int resemble = traits_resemble(group, value);
            news = differ > news ? differ : news;
            most = resemble > most ? resemble : most;
            least = resemble < least ? resemble : least;
        }
        differs += news;
        resembles += most + least;
    }
    return differs > resembles ? differs : resembles;
}
