/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_event_id.c - tests event_id.c.
 */
#include "alloy/event_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const unsigned char secret[EVENT_ID_KEY_LEN] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                       8, 9, 10, 11, 12, 13, 14, 15};

static void hash_is_siphash_2_4_with_128_bits(void **state)
{
    /* From the reference implementation's vectors: key 00..0f, input 00..(len - 1). */
    static const struct {
        size_t len;
        struct hash128 hash;
    } vectors[] = {
        {0, {UINT64_C(0xe6a825ba047f81a3), UINT64_C(0x930255c71472f66d)}},
        {1, {UINT64_C(0x44af996bd8c187da), UINT64_C(0x45fc229b11597634)}},
    };
    struct event_id_key key;

    (void)state;
    memcpy(key.bytes, secret, sizeof(key.bytes));
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
        const struct hash128 hash = event_id_hash(&key, "\0", vectors[i].len);

        assert_true(hash.lo == vectors[i].hash.lo);
        assert_true(hash.hi == vectors[i].hash.hi);
    }
}

static void hash_depends_on_each_byte_of_the_id(void **state)
{
    struct event_id_key key;
    char id[EVENT_ID_PART_MAX];

    (void)state;
    event_id_key_derive(secret, "orders", &key);
    memset(id, 'a', sizeof(id));
    const struct hash128 before = event_id_hash(&key, id, sizeof(id));
    const struct hash128 again = event_id_hash(&key, id, sizeof(id));
    assert_memory_equal(&before, &again, sizeof(before));
    for (size_t i = 0; i < sizeof(id); i++) {
        id[i] = 'b';
        const struct hash128 after = event_id_hash(&key, id, sizeof(id));
        assert_memory_not_equal(&before, &after, sizeof(before));
        id[i] = 'a';
    }
    const struct hash128 shorter = event_id_hash(&key, id, sizeof(id) - 1);
    assert_memory_not_equal(&before, &shorter, sizeof(before));
}

static void streams_and_secrets_have_keys_of_their_own(void **state)
{
    unsigned char other_secret[EVENT_ID_KEY_LEN];
    struct event_id_key orders, same, clicks, other;

    (void)state;
    memcpy(other_secret, secret, sizeof(other_secret));
    other_secret[15] ^= 1;
    event_id_key_derive(secret, "orders", &orders);
    event_id_key_derive(secret, "orders", &same);
    event_id_key_derive(secret, "clicks", &clicks);
    event_id_key_derive(other_secret, "orders", &other);
    assert_memory_equal(&orders, &same, sizeof(orders));
    assert_memory_not_equal(&orders, &clicks, sizeof(orders));
    assert_memory_not_equal(&orders, &other, sizeof(orders));
}

static void random_bytes_differ_and_stay_in_bounds(void **state)
{
    unsigned char a[34] = {0};
    unsigned char b[34] = {0};

    (void)state;
    event_id_random(a + 1, 32);
    event_id_random(b + 1, 32);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_int_equal(a[0] | a[33] | b[0] | b[33], 0);
    event_id_random(a, 0);
}

static void parts_are_joined_with_colons_and_escaped(void **state)
{
    char out[32];
    size_t len = 0;

    (void)state;
    memset(out, '#', sizeof(out));
    len += event_id_append_part(out, "a:b\\", 4, true);
    assert_int_equal(len, 6);
    len += event_id_append_part(out + len, "", 0, false);
    assert_int_equal(len, 7);
    len += event_id_append_part(out + len, "\0z", 2, false);
    assert_int_equal(len, 10);
    assert_memory_equal(out, "a\\:b\\\\::\0z#", 11);
}

static void the_longest_part_takes_twice_its_bytes_and_one(void **state)
{
    char part[EVENT_ID_PART_MAX];
    char out[2 * EVENT_ID_PART_MAX + 2] = {0};

    (void)state;
    memset(part, '\\', sizeof(part));
    assert_int_equal(event_id_append_part(out, part, sizeof(part), false),
                     2 * EVENT_ID_PART_MAX + 1);
    assert_int_equal(out[sizeof(out) - 1], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_is_siphash_2_4_with_128_bits),
        cmocka_unit_test(hash_depends_on_each_byte_of_the_id),
        cmocka_unit_test(streams_and_secrets_have_keys_of_their_own),
        cmocka_unit_test(random_bytes_differ_and_stay_in_bounds),
        cmocka_unit_test(parts_are_joined_with_colons_and_escaped),
        cmocka_unit_test(the_longest_part_takes_twice_its_bytes_and_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
