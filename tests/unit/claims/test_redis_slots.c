/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_redis_slots.c - slots of keys, CLUSTER SLOTS and redirections as Redis 7.0 writes them, and
 * as nobody should.
 */
#include "redis_slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct slice text_of(const char *text)
{
    return (struct slice){text, strlen(text)};
}

/* The first is of the cluster's specification, the others are redis-server's CLUSTER KEYSLOT. */
static void slots_are_those_of_redis(void **state)
{
    static const struct {
        const char *key;
        unsigned slot;
    } keys[] = {
        {"123456789", 0x31c3},
        {"", 0},
        {"foo", 12182},
        {"{foo}.bar", 12182},
        {"x{foo}y{bar}", 12182},
        {"foo{}{bar}", 8363},
        {"foo{{bar}}zap", 4015},
        {"foo{bar", 15278},
        {"alloy:events:{3ff}x", 12569},
        {"{3ff}", 12569},
    };

    (void)state;
    assert_int_equal(redis_slots_crc16(text_of("123456789")), 0x31c3);
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (redis_slots_of_key(text_of(keys[i].key)) != keys[i].slot)
            fail_msg("%s: %u", keys[i].key, redis_slots_of_key(text_of(keys[i].key)));
}

static void redirections_are_read(void **state)
{
    static const struct {
        const char *text;
        bool ask;
        unsigned slot;
        const char *host;
        int port;
    } good[] = {
        {"MOVED 3999 127.0.0.1:6381", false, 3999, "127.0.0.1", 6381},
        {"ASK 0 redis-1.example:1", true, 0, "redis-1.example", 1},
        {"MOVED 16383 ::1:65535", false, 16383, "::1", 65535},
        {"MOVED 1 [2001:db8::1]:7000", false, 1, "2001:db8::1", 7000},
        {"MOVED 1 :6379", false, 1, "", 6379},
    };
    static const char *const bad[] = {
        "",
        "MOVED",
        "MOVED ",
        "MOVED 1",
        "MOVED 1 ",
        "MOVED 1 h",
        "MOVED 1 h:",
        "MOVED 1 h:0",
        "MOVED 1 h:65536",
        "MOVED 1 h:6x",
        "MOVED 1 h:-1",
        "MOVED 1 h h:1",
        "MOVED 1 h:1 ",
        "MOVED 16384 h:1",
        "MOVED -1 h:1",
        "MOVED x h:1",
        "MOVED  h:1",
        "MOVED 99999999999 h:1",
        "ASKING 1 h:1",
        "moved 1 h:1",
    };
    struct redis_redirect redirect;
    char text[400];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_true(redis_slots_read_redirect(text_of(good[i].text), &redirect));
        assert_int_equal(redirect.ask, good[i].ask);
        assert_int_equal(redirect.slot, good[i].slot);
        assert_int_equal(redirect.place.port, good[i].port);
        assert_string_equal(redirect.place.host, good[i].host);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (redis_slots_read_redirect(text_of(bad[i]), &redirect))
            fail_msg("%s was read", bad[i]);
    snprintf(text, sizeof(text), "MOVED 1 %0300d:1", 0);
    assert_false(redis_slots_read_redirect(text_of(text), &redirect));
}

/* ---- CLUSTER SLOTS: a reply as text, of which the elements are told ---- */

static struct redis_topology topology;
static const char *reply;

/* Tells one element and those in it. "*n" array, ":n" integer, "$text" string, "_" nil; words end
 * with a space. */
static bool tell(unsigned depth, size_t index)
{
    struct redis_link_element element = {.depth = depth, .index = index, .root = depth == 0};
    const char kind = *reply++;
    const size_t len = strcspn(reply, " ");

    element.text = (struct slice){reply, len};
    element.type = kind == '*'   ? REDIS_LINK_ARRAY
                   : kind == ':' ? REDIS_LINK_INTEGER
                   : kind == '$' ? REDIS_LINK_STRING
                                 : REDIS_LINK_NIL;
    element.value = strtoll(reply, NULL, 10);
    element.count = (size_t)element.value;
    reply += len + (reply[len] == ' ');
    if (!redis_topology_element(&topology, &element))
        return false;
    for (size_t i = 0; kind == '*' && i < element.count; i++)
        if (!tell(depth + 1, i))
            return false;
    return true;
}

static bool learn(const char *text)
{
    reply = text;
    redis_topology_begin(&topology, "asked");
    return tell(0, 0) && redis_topology_end(&topology);
}

static void the_slots_masters_are_learnt(void **state)
{
    (void)state;
    assert_true(learn("*3 "
                      "*4 :0 :5460 *4 $10.0.0.1 :7000 $id1 *0 *4 $10.0.0.4 :7003 $id4 *0 "
                      "*3 :5461 :5461 *4 $10.0.0.2 :7001 $id2 *2 $hostname $two "
                      "*3 :10923 :16383 *4 $10.0.0.1 :7000 $id1 *0 "));
    assert_int_equal(topology.count, 2);
    assert_string_equal(topology.places[0].host, "10.0.0.1");
    assert_int_equal(topology.places[1].port, 7001);
    assert_int_equal(topology.slots[0], 0);
    assert_int_equal(topology.slots[5460], 0);
    assert_int_equal(topology.slots[5461], 1);
    assert_int_equal(topology.slots[5462], REDIS_NODE_NONE);
    assert_int_equal(topology.slots[16383], 0);
    /* Redis 3 and 4: an address and a port are all. */
    assert_true(learn("*1 *3 :0 :16383 *2 $::1 :7000 "));
    assert_string_equal(topology.places[0].host, "::1");
}

static void a_host_that_is_not_told_is_the_one_that_was_asked(void **state)
{
    (void)state;
    assert_true(learn("*1 *3 :0 :16383 *4 _ :7000 $id *0 "));
    assert_string_equal(topology.places[0].host, "asked");
    assert_true(learn("*1 *3 :0 :16383 *4 $ :7000 $id *0 "));
    assert_string_equal(topology.places[0].host, "asked");
    /* cluster-preferred-endpoint-type hostname, and this node has none */
    assert_true(
        learn("*1 *4 :0 :16383 *4 $? :7000 $id *2 $ip $10.0.0.9 *4 $? :7001 $i *2 $ip $no "));
    assert_string_equal(topology.places[0].host, "10.0.0.9");
    assert_int_equal(topology.count, 1);
}

static void what_is_no_answer_is_refused(void **state)
{
    static const char *const bad[] = {
        "*0 ",
        ":1 ",
        "_ ",
        "*1 :1 ",
        "*1 *2 :0 :1 ",
        "*1 *3 $a :1 *4 $h :1 $i *0 ",
        "*1 *3 :0 :16384 *4 $h :1 $i *0 ",
        "*1 *3 :-1 :1 *4 $h :1 $i *0 ",
        "*1 *3 :2 :1 *4 $h :1 $i *0 ",
        "*1 *3 :0 :1 $h ",
        "*1 *3 :0 :1 *0 ",
        "*1 *3 :0 :1 *1 $h ",
        "*1 *3 :0 :1 *2 $h $1 ",
        "*1 *3 :0 :1 *2 $h :0 ",
        "*1 *3 :0 :1 *2 $h :65536 ",
        "*1 *3 :0 :1 *2 :1 :1 ",
        "*1 *3 :0 :1 *2 $h\x01 :1 ",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (learn(bad[i]))
            fail_msg("%s was taken", bad[i]);
}

static void masters_beyond_the_limit_have_no_slots(void **state)
{
    static char text[64 * 512];
    size_t len = (size_t)sprintf(text, "*300 ");

    (void)state;
    for (int i = 0; i < 300; i++)
        len += (size_t)sprintf(text + len, "*3 :%d :%d *2 $h :%d ", i, i, i + 1);
    assert_true(learn(text));
    assert_int_equal(topology.count, REDIS_NODES_MAX);
    assert_int_equal(topology.slots[REDIS_NODES_MAX - 1], REDIS_NODES_MAX - 1);
    assert_int_equal(topology.slots[REDIS_NODES_MAX], REDIS_NODE_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_are_those_of_redis),
        cmocka_unit_test(redirections_are_read),
        cmocka_unit_test(the_slots_masters_are_learnt),
        cmocka_unit_test(a_host_that_is_not_told_is_the_one_that_was_asked),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(masters_beyond_the_limit_have_no_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
