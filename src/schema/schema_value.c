/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema_value.c - puts a JSON value beside a column's type, as JSONEachRow reads it.
 *
 * An event that is refused here never reaches ClickHouse, so a value is told only where ClickHouse
 * refuses it, or stores something else without a word: then in every version that we know of. What
 * depends on a setting that is not as we think, or is in doubt, passes.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "schema_value.h"

#include <string.h>

#include "alloy/members.h"
#include "schema_address.h"
#include "schema_time.h"

#define DECODED_MAX 1024
/* The digits of a number that has so many before its point: from there on it becomes infinite. */
#define FLOAT64_END "17976931348623159"
#define FLOAT64_DIGITS_MAX 309
#define FLOAT32_END "3402823568"
#define FLOAT32_DIGITS_MAX 39

/* A number, or the text of one. */
struct number {
    struct slice digits; /* before the point, without zeros at their begin */
    struct slice fraction;
    bool minus, is_signed, has_point, has_exponent, whole; /* whole: nothing stands behind it */
    bool empty;                                            /* no digit before or behind the point */
    int exponent;
    struct slice rest; /* what stands behind it */
};

static bool schema_value_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t schema_value_count_digits(struct slice text, size_t at)
{
    size_t n = 0;

    while (at + n < text.len && schema_value_is_digit(text.data[at + n]))
        n++;
    return n;
}

/* The exponent, from its letter on; moves *at behind it if there is one. */
static void schema_value_read_exponent(struct slice text, size_t *at, struct number *number)
{
    size_t from = *at + 1, n;
    bool minus = false;

    if (from < text.len && (text.data[from] == '+' || text.data[from] == '-'))
        minus = text.data[from++] == '-';
    n = schema_value_count_digits(text, from);
    if (n == 0)
        return;
    number->has_exponent = true;
    for (size_t i = 0; i < n; i++)
        if (number->exponent < 100000)
            number->exponent = number->exponent * 10 + (text.data[from + i] - '0');
    if (minus)
        number->exponent = -number->exponent;
    *at = from + n;
}

static struct number schema_value_number(struct slice text)
{
    struct number number = {.whole = false};
    size_t at = 0, n;

    if (text.len > 0 && (text.data[0] == '-' || text.data[0] == '+')) {
        number.is_signed = true;
        number.minus = text.data[at++] == '-';
    }
    n = schema_value_count_digits(text, at);
    number.empty = n == 0;
    number.digits = (struct slice){text.data + at, n};
    at += n;
    while (number.digits.len > 0 && *number.digits.data == '0') {
        number.digits.data++;
        number.digits.len--;
    }
    number.fraction = (struct slice){text.data + at, 0};
    if (at < text.len && text.data[at] == '.') {
        number.has_point = true;
        number.fraction.data++;
        number.fraction.len = schema_value_count_digits(text, ++at);
        number.empty = number.empty && number.fraction.len == 0;
        at += number.fraction.len;
    }
    if (at < text.len && (text.data[at] | 0x20) == 'e' && !number.empty)
        schema_value_read_exponent(text, &at, &number);
    number.whole = at == text.len;
    number.rest = (struct slice){text.data + at, text.len - at};
    return number;
}

/* Digits without zeros at their begin beside a bound. */
static bool schema_value_exceeds(struct slice digits, const char *bound)
{
    const size_t len = strlen(bound);

    return digits.len > len || (digits.len == len && memcmp(digits.data, bound, len) > 0);
}

/* The largest number of an integer type; of a negative one the last digit is one more. */
static const char *schema_value_bound(unsigned bits, bool is_signed, bool minus)
{
    static const struct {
        unsigned bits;
        const char *bounds[3]; /* unsigned, signed, negative */
    } table[] = {
        {8, {"255", "127", "128"}},
        {16, {"65535", "32767", "32768"}},
        {32, {"4294967295", "2147483647", "2147483648"}},
        {64, {"18446744073709551615", "9223372036854775807", "9223372036854775808"}},
        {128,
         {"340282366920938463463374607431768211455", "170141183460469231731687303715884105727",
          "170141183460469231731687303715884105728"}},
        {256,
         {"115792089237316195423570985008687907853269984665640564039457584007913129639935",
          "57896044618658097711785492504343953926634992332820282019728792003956564819967",
          "57896044618658097711785492504343953926634992332820282019728792003956564819968"}},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].bits == bits)
            return table[i].bounds[is_signed ? 1 + minus : 0];
    ALLOY_UNREACHABLE("an integer of no width");
    return NULL;
}

static enum schema_problem schema_value_check_integer(const struct schema_type *type,
                                                      const struct number *number)
{
    /* Not even -0. */
    if (!type->is_signed && number->minus)
        return SCHEMA_RANGE;
    return schema_value_exceeds(number->digits,
                                schema_value_bound(type->bits, type->is_signed, number->minus))
               ? SCHEMA_RANGE
               : SCHEMA_FITS;
}

/* How many digits a number has before its point, its exponent counted in; 0 and below: it is less
 * than 1. INT32_MIN: it is 0. */
static int schema_value_magnitude(const struct number *number)
{
    size_t zeros = 0;

    if (number->digits.len > 0)
        return (int)(number->digits.len < 100000 ? number->digits.len : 100000) + number->exponent;
    while (zeros < number->fraction.len && number->fraction.data[zeros] == '0')
        zeros++;
    if (zeros == number->fraction.len)
        return INT32_MIN;
    return number->exponent - (int)(zeros < 100000 ? zeros : 100000);
}

/* Whether the digits of a number, from the first that is not 0, come before those of another one of
 * the same magnitude. */
static bool schema_value_is_below(const struct number *number, const char *other)
{
    const struct slice *part = number->digits.len > 0 ? &number->digits : &number->fraction;
    size_t at = 0;

    while (part == &number->fraction && at < part->len && part->data[at] == '0')
        at++;
    for (; *other != '\0'; other++, at++) {
        if (at == part->len && part == &number->digits) {
            part = &number->fraction;
            at = 0;
        }
        if (at >= part->len || part->data[at] != *other)
            return at >= part->len || part->data[at] < *other;
    }
    return false;
}

static enum schema_problem schema_value_check_float(const struct schema_type *type,
                                                    const struct number *number)
{
    const int magnitude = schema_value_magnitude(number);
    const int most = type->bits == 64 ? FLOAT64_DIGITS_MAX : FLOAT32_DIGITS_MAX;

    if (likely(magnitude < most))
        return SCHEMA_FITS;
    return magnitude == most &&
                   schema_value_is_below(number, type->bits == 64 ? FLOAT64_END : FLOAT32_END)
               ? SCHEMA_FITS
               : SCHEMA_RANGE;
}

/* The place of the last digit that is not 0, 1 for the first behind the point. */
static int schema_value_last_place(const struct number *number)
{
    size_t fraction = number->fraction.len, digits = number->digits.len;

    while (fraction > 0 && number->fraction.data[fraction - 1] == '0')
        fraction--;
    if (fraction > 0)
        return (int)(fraction < 100000 ? fraction : 100000) - number->exponent;
    while (digits > 0 && number->digits.data[digits - 1] == '0')
        digits--;
    return -(int)(number->digits.len - digits) - number->exponent;
}

static enum schema_problem schema_value_check_decimal(const struct schema_type *type,
                                                      const struct number *number)
{
    const int magnitude = schema_value_magnitude(number);

    if (magnitude == INT32_MIN)
        return SCHEMA_FITS;
    return magnitude > type->precision - type->scale ||
                   schema_value_last_place(number) > type->scale
               ? SCHEMA_RANGE
               : SCHEMA_FITS;
}

static bool schema_value_is_integer(const struct number *number)
{
    return number->whole && !number->has_point && !number->has_exponent && !number->empty;
}

static const struct schema_element *schema_value_find_element(const struct schema_types *types,
                                                              const struct schema_type *type,
                                                              struct slice name)
{
    size_t low = type->first, high = type->first + type->size;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct schema_element *element = &types->elements[middle];
        int order = element->name.len < name.len ? -1 : element->name.len > name.len;

        if (order == 0)
            order = memcmp(element->name.data, name.data, name.len);
        if (order == 0)
            return element;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The number of an element of an Enum. */
static enum schema_problem schema_value_check_ordinal(const struct schema_types *types,
                                                      const struct schema_type *type,
                                                      const struct number *number)
{
    int32_t value = 0;

    if (number->digits.len > 5)
        return SCHEMA_RANGE;
    for (size_t i = 0; i < number->digits.len; i++)
        value = value * 10 + (number->digits.data[i] - '0');
    if (number->minus)
        value = -value;
    for (size_t i = 0; i < type->size; i++)
        if (types->elements[type->first + i].value == value)
            return SCHEMA_FITS;
    return SCHEMA_FORMAT;
}

static enum schema_problem schema_value_check_enum(const struct schema_types *types,
                                                   const struct schema_type *type,
                                                   struct slice inside)
{
    char decoded[DECODED_MAX];
    struct number number;

    if (inside.len > 0 && memchr(inside.data, '\\', inside.len) != NULL) {
        const size_t len = members_decode(inside, decoded, sizeof(decoded));

        if (len == sizeof(decoded))
            return SCHEMA_FITS; /* too long to be looked at */
        inside = (struct slice){decoded, len};
    }
    if (schema_value_find_element(types, type, inside) != NULL)
        return SCHEMA_FITS;
    number = schema_value_number(inside);
    return schema_value_is_integer(&number) ? schema_value_check_ordinal(types, type, &number)
                                            : SCHEMA_FORMAT;
}

static enum schema_problem schema_value_check_fixed(const struct schema_type *type,
                                                    struct slice inside)
{
    char decoded[DECODED_MAX];

    if (inside.len <= type->size)
        return SCHEMA_FITS;
    if (memchr(inside.data, '\\', inside.len) == NULL)
        return SCHEMA_RANGE;
    if (type->size + 1 > sizeof(decoded))
        return SCHEMA_FITS;
    return members_decode(inside, decoded, type->size + 1) > type->size ? SCHEMA_RANGE
                                                                        : SCHEMA_FITS;
}

static bool schema_value_equals_folded(struct slice text, const char *word)
{
    size_t i = 0;

    while (i < text.len && (text.data[i] | 0x20) == word[i] && word[i] != '\0')
        i++;
    return i == text.len && word[i] == '\0';
}

/* Words for a Float: infinity, and what is no number, perhaps with a payload in parentheses. */
static bool schema_value_is_special(struct slice text)
{
    if (text.len > 0 && (text.data[0] == '-' || text.data[0] == '+')) {
        text.data++;
        text.len--;
    }
    if (text.len >= 5 && text.data[3] == '(' && text.data[text.len - 1] == ')')
        text.len = 3;
    return schema_value_equals_folded(text, "nan") || schema_value_equals_folded(text, "inf") ||
           schema_value_equals_folded(text, "infinity");
}

/* What may stand behind a Decimal in quotes, though ClickHouse drops it or makes its own of it:
 * more points and digits, and an e that has no digits. with_exponent: there are digits behind it.
 */
static bool schema_value_is_decimal_rest(const struct number *number, bool *with_exponent)
{
    const struct slice rest = number->rest;
    size_t at = 0, from;

    while (!number->has_exponent && at < rest.len &&
           (rest.data[at] == '.' || schema_value_is_digit(rest.data[at])))
        at++;
    if (at == rest.len)
        return true;
    if (number->has_exponent || (rest.data[at++] | 0x20) != 'e')
        return false;
    if (at == rest.len)
        return true;
    from = at + (rest.data[at] == '+' || rest.data[at] == '-');
    at = from + schema_value_count_digits(rest, from);
    *with_exponent = true;
    return at > from && at == rest.len;
}

/* The text of a Decimal in quotes. */
static enum schema_problem schema_value_check_decimal_text(const struct schema_type *type,
                                                           const struct number *number)
{
    bool with_exponent = false;

    if (number->empty || !schema_value_is_decimal_rest(number, &with_exponent))
        return SCHEMA_FORMAT;
    return with_exponent ? SCHEMA_FITS : schema_value_check_decimal(type, number);
}

/* The text of a number in quotes. */
static enum schema_problem schema_value_check_number_text(const struct schema_type *type,
                                                          struct slice inside)
{
    const struct number number = schema_value_number(inside);

    if (type->kind == SCHEMA_DECIMAL)
        return schema_value_check_decimal_text(type, &number);
    if (inside.len > 0 && (inside.data[0] == 't' || inside.data[0] == 'f'))
        return (inside.len == 4 && memcmp(inside.data, "true", 4) == 0) ||
                       (inside.len == 5 && memcmp(inside.data, "false", 5) == 0)
                   ? SCHEMA_FITS
                   : SCHEMA_FORMAT;
    if (type->kind == SCHEMA_INTEGER)
        return schema_value_is_integer(&number) ? schema_value_check_integer(type, &number)
                                                : SCHEMA_FORMAT;
    if (number.whole && !number.empty)
        return schema_value_check_float(type, &number);
    return schema_value_is_special(inside) ? SCHEMA_FITS : SCHEMA_FORMAT;
}

/* A text of which ClickHouse takes no escape. */
static enum schema_problem schema_value_check_text(const struct schema_judge *judge,
                                                   const struct schema_type *type,
                                                   struct slice text)
{
    switch (type->kind) {
    case SCHEMA_INTEGER:
    case SCHEMA_FLOAT:
    case SCHEMA_DECIMAL:
        return schema_value_check_number_text(type, text);
    case SCHEMA_DATETIME:
    case SCHEMA_DATETIME64:
        if ((judge->unchecked & SCHEMA_SKIP_TIMES) != 0)
            return SCHEMA_FITS;
        return schema_time_check_text(type, text);
    case SCHEMA_DATE:
    case SCHEMA_DATE32:
    case SCHEMA_TIME:
    case SCHEMA_TIME64:
        return schema_time_check_text(type, text);
    case SCHEMA_UUID:
        return schema_address_check_uuid(text);
    case SCHEMA_IPV4:
        return schema_address_check_ipv4(text);
    case SCHEMA_IPV6:
        return schema_address_check_ipv6(text);
    default:
        return SCHEMA_FITS;
    }
}

/* The inside of a string's quotes, or of a member's name. */
static enum schema_problem schema_value_check_string(const struct schema_judge *judge,
                                                     const struct schema_type *type,
                                                     struct slice inside)
{
    switch (type->kind) {
    case SCHEMA_ANYTHING:
    case SCHEMA_STRING:
    case SCHEMA_VARIANT: /* as the name of a member: no Map has such keys */
        return SCHEMA_FITS;
    case SCHEMA_FIXED_STRING:
        return schema_value_check_fixed(type, inside);
    case SCHEMA_ENUM:
        return schema_value_check_enum(judge->types, type, inside);
    case SCHEMA_BOOL:
    case SCHEMA_ARRAY:
    case SCHEMA_MAP:
    case SCHEMA_TUPLE:
    case SCHEMA_NAMED_TUPLE:
    case SCHEMA_JSON:
        return SCHEMA_KIND;
    default:
        break;
    }
    if (inside.len > 0 && memchr(inside.data, '\\', inside.len) != NULL)
        return SCHEMA_FORMAT;
    return schema_value_check_text(judge, type, inside);
}

static enum schema_problem schema_value_check_number(const struct schema_judge *judge,
                                                     const struct schema_type *type,
                                                     struct slice value)
{
    const struct number number = schema_value_number(value);
    const bool integer = schema_value_is_integer(&number);

    switch (type->kind) {
    case SCHEMA_ANYTHING:
    case SCHEMA_STRING:
        return SCHEMA_FITS;
    case SCHEMA_INTEGER:
        return integer ? schema_value_check_integer(type, &number) : SCHEMA_KIND;
    case SCHEMA_FLOAT:
        return schema_value_check_float(type, &number);
    case SCHEMA_DECIMAL:
        return schema_value_check_decimal(type, &number);
    case SCHEMA_BOOL:
        return value.len == 1 && (value.data[0] == '0' || value.data[0] == '1') ? SCHEMA_FITS
                                                                                : SCHEMA_KIND;
    case SCHEMA_ENUM:
        return integer ? schema_value_check_ordinal(judge->types, type, &number) : SCHEMA_KIND;
    case SCHEMA_DATE:
    case SCHEMA_DATE32:
    case SCHEMA_DATETIME:
    case SCHEMA_DATETIME64:
    case SCHEMA_TIME:
    case SCHEMA_TIME64:
        if (!integer)
            return SCHEMA_KIND;
        return schema_time_check_number(type, number.digits, number.minus);
    case SCHEMA_FIXED_STRING:
    case SCHEMA_UUID:
    case SCHEMA_IPV4:
    case SCHEMA_IPV6:
    case SCHEMA_ARRAY:
    case SCHEMA_MAP:
    case SCHEMA_TUPLE:
    case SCHEMA_NAMED_TUPLE:
    case SCHEMA_JSON:
    case SCHEMA_VARIANT:
        return SCHEMA_KIND;
    }
    ALLOY_UNREACHABLE("a type of no kind");
    return SCHEMA_FITS;
}

/* true and false. */
static enum schema_problem schema_value_check_word(const struct schema_type *type)
{
    switch (type->kind) {
    case SCHEMA_ANYTHING:
    case SCHEMA_STRING:
    case SCHEMA_BOOL:
    case SCHEMA_INTEGER:
    case SCHEMA_FLOAT:
        return SCHEMA_FITS;
    default:
        return SCHEMA_KIND;
    }
}

static void schema_value_fault(struct schema_fault *fault, enum schema_problem problem,
                               uint32_t type, struct slice value)
{
    fault->problem = problem;
    fault->type = type;
    fault->value = value;
}

static void schema_value_check_array(const struct schema_judge *judge, uint32_t node,
                                     struct slice value, struct schema_fault *fault)
{
    const struct schema_type *type = &judge->types->list[node];
    const bool array = type->kind == SCHEMA_ARRAY;
    struct members members;
    struct slice element;
    uint32_t child = type->first;

    if (array && judge->types->list[child].open)
        return;
    members_open(&members, value);
    while (fault->problem == SCHEMA_FITS && members_next_element(&members, &element)) {
        if (child == SCHEMA_TYPE_NONE) {
            schema_value_fault(fault, SCHEMA_KIND, node, value);
            return;
        }
        schema_value_check(judge, child, element, fault);
        if (!array)
            child = judge->types->list[child].next;
    }
    if (fault->problem == SCHEMA_FITS && !array && child != SCHEMA_TYPE_NONE)
        schema_value_fault(fault, SCHEMA_KIND, node, value);
}

static void schema_value_check_map(const struct schema_judge *judge, uint32_t node,
                                   struct slice value, struct schema_fault *fault)
{
    const uint32_t keys = judge->types->list[node].first;
    const struct schema_type *key = &judge->types->list[keys];
    const uint32_t values = key->next;
    const bool keys_open =
        key->kind == SCHEMA_STRING || key->kind == SCHEMA_ANYTHING || key->kind == SCHEMA_BOOL;
    struct members members;
    struct slice name, member;

    if (keys_open && judge->types->list[values].open)
        return;
    members_open(&members, value);
    while (fault->problem == SCHEMA_FITS && members_next(&members, &name, &member)) {
        const enum schema_problem problem =
            keys_open ? SCHEMA_FITS : schema_value_check_string(judge, key, name);

        if (problem != SCHEMA_FITS)
            schema_value_fault(fault, problem, keys, (struct slice){name.data - 1, name.len + 2});
        else
            schema_value_check(judge, values, member, fault);
    }
}

/* An object for a tuple whose elements have names: others are dropped, and those that lack get
 * their defaults, as with columns. */
static void schema_value_check_named(const struct schema_judge *judge, uint32_t node,
                                     struct slice value, struct schema_fault *fault)
{
    const struct schema_type *list = judge->types->list;
    struct members members;
    struct slice name, member;

    members_open(&members, value);
    while (fault->problem == SCHEMA_FITS && members_next(&members, &name, &member)) {
        uint32_t child = list[node].first;

        while (child != SCHEMA_TYPE_NONE &&
               (list[child].name.len != name.len ||
                memcmp(list[child].name.data, name.data, name.len) != 0))
            child = list[child].next;
        if (child != SCHEMA_TYPE_NONE)
            schema_value_check(judge, child, member, fault);
    }
}

static void schema_value_check_nested(const struct schema_judge *judge, uint32_t node,
                                      struct slice value, struct schema_fault *fault)
{
    const struct schema_type *type = &judge->types->list[node];
    const bool object = value.data[0] == '{';

    if (type->kind == SCHEMA_ANYTHING || type->kind == SCHEMA_STRING)
        return;
    if (type->kind == SCHEMA_NAMED_TUPLE && (judge->unchecked & SCHEMA_SKIP_TUPLES) != 0)
        return;
    if (!object && (type->kind == SCHEMA_ARRAY || type->kind == SCHEMA_TUPLE))
        schema_value_check_array(judge, node, value, fault);
    else if (object && type->kind == SCHEMA_MAP)
        schema_value_check_map(judge, node, value, fault);
    else if (object && type->kind == SCHEMA_NAMED_TUPLE)
        schema_value_check_named(judge, node, value, fault);
    else if (!object || type->kind != SCHEMA_JSON)
        schema_value_fault(fault, SCHEMA_KIND, node, value);
}

/* Of a Variant the value must fit one type. */
static void schema_value_check_variant(const struct schema_judge *judge, uint32_t node,
                                       struct slice value, struct schema_fault *fault)
{
    const struct schema_type *list = judge->types->list;
    enum schema_problem problem = SCHEMA_KIND;

    for (uint32_t child = list[node].first; child != SCHEMA_TYPE_NONE; child = list[child].next) {
        schema_value_check(judge, child, value, fault);
        if (fault->problem == SCHEMA_FITS)
            return;
        /* Of a value that is of the right kind for a type, that is what is wrong. */
        if (problem == SCHEMA_KIND)
            problem = fault->problem;
    }
    schema_value_fault(fault, problem, node, value);
}

void schema_value_check(const struct schema_judge *judge, uint32_t node, struct slice value,
                        struct schema_fault *fault)
{
    const struct schema_type *type = &judge->types->list[node];
    enum schema_problem problem = SCHEMA_FITS;

    fault->problem = SCHEMA_FITS;
    if (type->open || value.len == 0)
        return;
    if (unlikely(type->kind == SCHEMA_VARIANT) && value.data[0] != 'n') {
        schema_value_check_variant(judge, node, value, fault);
        return;
    }
    switch (value.data[0]) {
    case '"':
        if (likely(type->kind == SCHEMA_STRING) || value.len < 2)
            return;
        problem =
            schema_value_check_string(judge, type, (struct slice){value.data + 1, value.len - 2});
        break;
    case '{':
    case '[':
        schema_value_check_nested(judge, node, value, fault);
        return;
    case 'n':
        if (!type->nullable && (judge->unchecked & SCHEMA_SKIP_NULLS) == 0)
            problem = SCHEMA_NULL;
        break;
    case 't':
    case 'f':
        problem = schema_value_check_word(type);
        break;
    default:
        problem = schema_value_check_number(judge, type, value);
    }
    if (unlikely(problem != SCHEMA_FITS))
        schema_value_fault(fault, problem, node, value);
}
