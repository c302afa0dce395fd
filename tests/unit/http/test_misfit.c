/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_misfit.c - what came in place of JSON is named, and broken JSON is not taken for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "alloy/misfit.h"
#include "alloy/reply.h"

/* Names a body; "" for NULL. */
static const char *named(const char *body, size_t len, const char *type)
{
    /* At the end of its memory, for the sanitizer. */
    char *copy = malloc(len);
    const char *name;

    memcpy(copy, body, len);
    name = misfit_name((struct slice){copy, len}, (struct slice){type, strlen(type)});
    free(copy);
    assert_true(name == NULL || strlen(name) <= REPLY_MESSAGE_MAX);
    return name != NULL ? name : "";
}

#define EXPECT_NAMED(body, type, word)                              \
    do {                                                            \
        const char *name = named((body), sizeof(body) - 1, (type)); \
        if (strstr(name, (word)) == NULL)                           \
            fail_msg("%s: %s", (word), name);                       \
    } while (0)
#define EXPECT_NOTHING(body, type) assert_string_equal(named((body), sizeof(body) - 1, (type)), "")

static void compressed_bodies_name_their_coding(void **state)
{
    (void)state;
    EXPECT_NAMED("\x28\xb5\x2f\xfd\x04", "", "Content-Encoding: zstd");
    EXPECT_NAMED("\x78\x9c\x04", "", "Content-Encoding: deflate");
    EXPECT_NAMED("\x78\x01\x04", "application/json", "Content-Encoding: deflate");
    EXPECT_NAMED("\x1f\x8b\x08", "", "twice");
    EXPECT_NAMED("PK\x03\x04x", "", "not known here");
    EXPECT_NAMED("\xff\x06\x00\x00sNaPpY", "", "not known here");
}

static void other_encodings_of_text_are_named(void **state)
{
    (void)state;
    EXPECT_NAMED("\xff\xfe{\0}\0", "", "UTF-16");
    EXPECT_NAMED("\xfe\xff\0{\0}", "", "UTF-16");
    EXPECT_NAMED("\0{\0}", "", "UTF-16");
    EXPECT_NAMED("{\0}\0", "", "UTF-16");
    EXPECT_NAMED("{\0\0\0}\0\0\0", "", "UTF-16");
    /* A frame of gRPC, and bytes of no encoding. */
    EXPECT_NOTHING("\0\0\0\0\x05hello", "");
    EXPECT_NOTHING("\0\x01\x02\x03", "");
    EXPECT_NOTHING("\0{", "");
}

static void other_formats_are_named(void **state)
{
    (void)state;
    EXPECT_NAMED("<?xml version=\"1.0\"?>", "application/json", "XML");
    EXPECT_NAMED("\xEF\xBB\xBF\r\n <a/>", "", "XML");
    EXPECT_NAMED("--boundary\r\nContent-Disposition: form-data", "", "multipart form");
    EXPECT_NAMED("a=1&b=2", "", "form");
    EXPECT_NAMED("payload=%7B%7D", "application/x-www-form-urlencoded", "data");
    EXPECT_NAMED("events[]=1", "", "form");
    EXPECT_NAMED("\x0a\x05hello", "application/x-protobuf", "Protocol Buffers");
    EXPECT_NAMED("\0\0\0\0\x05hello", "Application/gRPC+proto", "gRPC");
    EXPECT_NAMED("\x81\xa1\x61", "application/msgpack; v=1", "MessagePack");
    EXPECT_NAMED("a,b\n1,2", "text/csv", "CSV");
    EXPECT_NAMED("\x1e{}", "application/json-seq", "sequence");
}

static void json_that_is_no_object_is_named(void **state)
{
    (void)state;
    EXPECT_NAMED("\"{\\\"id\\\":1}\"", "", "encoded twice");
    EXPECT_NAMED("\"text\"", "", "JSON string");
    EXPECT_NAMED(" 12\n", "", "no object");
    EXPECT_NAMED("-1.5e-3", "", "no object");
    EXPECT_NAMED("null", "", "no object");
    EXPECT_NAMED("[object Object]", "", "JavaScript");
    EXPECT_NAMED("undefined", "", "JavaScript");
    EXPECT_NAMED("{'id':1}", "", "single quotes");
    EXPECT_NOTHING("2026-01-31", "");
    EXPECT_NOTHING("12 apples", "");
    EXPECT_NOTHING("nullify", "");
    EXPECT_NOTHING("-", "");
}

static void json_with_a_fault_stays_broken_json(void **state)
{
    (void)state;
    EXPECT_NOTHING("{]", "application/x-protobuf");
    EXPECT_NOTHING("[1]", "multipart/form-data");
    EXPECT_NOTHING("{\"a\":<}", "text/xml");
    EXPECT_NOTHING("{}<", "");
    EXPECT_NOTHING("", "text/xml");
    EXPECT_NOTHING(" \n", "");
    EXPECT_NOTHING("hello", "application/json");
    EXPECT_NOTHING("hello", "application/x-www-form-urlencoded");
    EXPECT_NOTHING("=x", "");
    EXPECT_NOTHING("a", "");
    EXPECT_NOTHING("\x28\xb5\x2f", "");
    /* What is behind a body is no part of it. */
    assert_null(misfit_name((struct slice){"\x28\xb5\x2f\xfd", 3}, (struct slice){"text/csv", 4}));
    assert_null(misfit_name((struct slice){"a=", 1}, (struct slice){"", 0}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compressed_bodies_name_their_coding),
        cmocka_unit_test(other_encodings_of_text_are_named),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(json_that_is_no_object_is_named),
        cmocka_unit_test(json_with_a_fault_stays_broken_json),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
