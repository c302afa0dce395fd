/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json_cases.h - what the scanner must accept and refuse, and at which byte, in the classes of the
 * well-known JSON test suites (numbers, strings, structures, encodings).
 */
#ifndef ALLOY_TEST_JSON_CASES_H
#define ALLOY_TEST_JSON_CASES_H

#include "alloy/json_scan.h"

struct json_case {
    const char *text;
    size_t len;
    enum json_scan_result result;
    size_t offset;   /* of the error */
    uint32_t events; /* returned before the result */
};

#define ACCEPT(text)                                \
    {                                               \
        text, sizeof(text) - 1, JSON_SCAN_END, 0, 1 \
    }
#define REJECT(text, offset)                                      \
    {                                                             \
        text, sizeof(text) - 1, JSON_SCAN_INVALID_JSON, offset, 0 \
    }
#define BODY(text, result, offset, events)             \
    {                                                  \
        text, sizeof(text) - 1, result, offset, events \
    }

/* Values, each tested as a member of an event; offsets count from the value's first byte, and the
 * event's closing brace follows the value. */
static const struct json_case value_cases[] = {
    /* numbers */
    ACCEPT("0"),
    ACCEPT("-0"),
    ACCEPT("10"),
    ACCEPT("-1234567890123456789012345678901234567890"),
    ACCEPT("0.0"),
    ACCEPT("-0.5e-10"),
    ACCEPT("1E+2"),
    ACCEPT("1e2"),
    ACCEPT("0e1"),
    ACCEPT("1e999999"),
    ACCEPT("123.456e789"),
    REJECT("01", 1),
    REJECT("-01", 2),
    REJECT("-", 1),
    REJECT("--1", 1),
    REJECT("+1", 0),
    REJECT(".5", 0),
    REJECT("-.5", 1),
    REJECT("1.", 2),
    REJECT("1.e1", 2),
    REJECT("1e", 2),
    REJECT("1e+", 3),
    REJECT("1e1.5", 3),
    REJECT("1.2.3", 3),
    REJECT("0x10", 1),
    REJECT("1_000", 1),
    REJECT("1 2", 2),
    REJECT("NaN", 0),
    REJECT("Infinity", 0),
    REJECT("-Infinity", 1),
    REJECT("1a", 1),
    REJECT("\xEF\xBC\x91", 0), /* a full-width digit */

    /* words */
    ACCEPT("true"),
    ACCEPT("false"),
    ACCEPT("null"),
    REJECT("True", 0),
    REJECT("trux", 3),
    REJECT("tru", 3),
    REJECT("nul", 3),
    REJECT("nulll", 4),
    REJECT("undefined", 0),
    REJECT("fals\0", 4),

    /* strings */
    ACCEPT("\"\""),
    ACCEPT("\"\x7F\""),
    ACCEPT("\"/\\/\\\\\\\"\\b\\f\\n\\r\\t\""),
    ACCEPT("\"\\u0000\\u001f\\u0041\\uFFFF\\uabCD\""),
    ACCEPT("\"\\uD834\\uDD1E\\udbff\\udfff\""),
    ACCEPT("\"\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF\""),
    ACCEPT("\"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF\""),
    ACCEPT("\"a string longer than one vector, then \xC3\xA9, and more than sixteen bytes\""),
    REJECT("\"a\nb\"", 2),
    REJECT("\"\t\"", 1),
    REJECT("\"\0\"", 1),
    REJECT("\"0123456789abcdef\x1F\"", 17),
    REJECT("\"\\x41\"", 1),
    REJECT("\"ab\\a\"", 3),
    REJECT("\"\\\0\"", 1),
    REJECT("\"\\U0041\"", 1),
    REJECT("\"\\u\"", 1),
    REJECT("\"\\u12\"", 1),
    REJECT("\"\\u123G\"", 1),
    REJECT("\"\\u+123\"", 1),
    REJECT("\"\\\xC3\xA9\"", 1),
    REJECT("\"\\uD800\"", 1),
    REJECT("\"\\uDC00\"", 1),
    REJECT("\"\\uDC00\\uD800\"", 1),
    REJECT("\"\\uD800\\uD800\"", 1),
    REJECT("\"\\uD800\\n\"", 1),
    REJECT("\"\\uD800abcdef\"", 1),
    REJECT("\"x\\uD800\\u0041\"", 2),
    REJECT("\"\\uD800\\uDC0\"", 1),
    REJECT("'a'", 0),
    REJECT("\"a\" \"b\"", 4),

    /* encodings: stray, overlong, surrogate, beyond U+10FFFF, cut short */
    REJECT("\"\x80\"", 1),
    REJECT("\"\xBF\"", 1),
    REJECT("\"\xC0\x80\"", 1),
    REJECT("\"\xC1\xBF\"", 1),
    REJECT("\"\xE0\x9F\xBF\"", 2),
    REJECT("\"\xF0\x8F\xBF\xBF\"", 2),
    REJECT("\"\xED\xA0\x80\"", 2),
    REJECT("\"\xED\xBF\xBF\"", 2),
    REJECT("\"\xF4\x90\x80\x80\"", 2),
    REJECT("\"\xF5\x80\x80\x80\"", 1),
    REJECT("\"\xFF\"", 1),
    REJECT("\"\xC3\"", 2),
    REJECT("\"\xE2\x82\"", 3),
    REJECT("\"\xF0\x9F\x98\"", 4),
    REJECT("\"\xC3\xA9\xA9\"", 3),
    REJECT("\"\xE2\x28\xA1\"", 2),

    /* structures */
    ACCEPT("{}"),
    ACCEPT("[]"),
    ACCEPT("[ ]"),
    ACCEPT("{ }"),
    ACCEPT("[[],{},[{}]]"),
    ACCEPT("\t[ 1 ,\r\n 2 , { \"a\" : [ ] , \"\" : { } } ] "),
    ACCEPT("{\"a\":1,\"a\":2}"),
    ACCEPT("{\"event_id\":null,\"event_id\":[]}"),
    REJECT("", 0),
    REJECT(",", 0),
    REJECT("[1,]", 3),
    REJECT("[,1]", 1),
    REJECT("[1,,2]", 3),
    REJECT("[1 2]", 3),
    REJECT("[1:2]", 2),
    REJECT("[1}", 2),
    REJECT("{]", 1),
    REJECT("{,}", 1),
    REJECT("{\"a\"}", 4),
    REJECT("{\"a\":}", 5),
    REJECT("{\"a\",1}", 4),
    REJECT("{\"a\":1,}", 7),
    REJECT("{\"a\":1 \"b\":2}", 7),
    REJECT("{\"a\"::1}", 5),
    REJECT("{a:1}", 1),
    REJECT("{1:1}", 1),
    REJECT("{null:1}", 1),
    REJECT("{\"a\":1]", 6),
    REJECT("{\"\x01\":1}", 2),
    REJECT("{\"\\u00\":1}", 2),
    REJECT("1]", 1),
    REJECT("1/**/", 1),
    REJECT("1#", 1),
    REJECT("\f1", 0),
    REJECT("\v1", 0),
    REJECT("\xC2\xA0"
           "1",
           0),
    REJECT("\xE2\x81\xA0"
           "1",
           0),
};

#define ID "\"event_id\":1"

/* Whole bodies. */
static const struct json_case body_cases[] = {
    /* forms */
    BODY("", JSON_SCAN_EMPTY, 0, 0),
    BODY(" \t\r\n", JSON_SCAN_EMPTY, 4, 0),
    BODY("[]", JSON_SCAN_EMPTY, 2, 0),
    BODY(" [ \n ] \n", JSON_SCAN_EMPTY, 8, 0),
    BODY("{" ID "}", JSON_SCAN_END, 0, 1),
    BODY(" {" ID "} ", JSON_SCAN_END, 0, 1),
    BODY("{" ID "}\n{" ID "}\r\n\t {" ID "}\n", JSON_SCAN_END, 0, 3),
    BODY("[{" ID "}]", JSON_SCAN_END, 0, 1),
    BODY(" [ {" ID "} ,\n{" ID "},{" ID "} ] ", JSON_SCAN_END, 0, 3),
    BODY("1", JSON_SCAN_INVALID_JSON, 0, 0),
    BODY("\n\"a\"", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("null", JSON_SCAN_INVALID_JSON, 0, 0),
    BODY("\xEF\xBB\xBF{" ID "}", JSON_SCAN_END, 0, 1),
    BODY("\xEF\xBB\xBF [{" ID "}]", JSON_SCAN_END, 0, 1),
    BODY("\xEF\xBB\xBF", JSON_SCAN_EMPTY, 3, 0),
    BODY("\xEF\xBB{" ID "}", JSON_SCAN_INVALID_JSON, 0, 0),
    BODY(" \xEF\xBB\xBF{" ID "}", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("{" ID "}\xEF\xBB\xBF{" ID "}", JSON_SCAN_INVALID_JSON, 14, 1),
    BODY("\xFF\xFE{\0", JSON_SCAN_INVALID_JSON, 0, 0),
    BODY("\0", JSON_SCAN_INVALID_JSON, 0, 0),
    BODY("}", JSON_SCAN_INVALID_JSON, 0, 0),
    BODY("]", JSON_SCAN_INVALID_JSON, 0, 0),

    /* sequences: "{"event_id":1}" is 14 bytes */
    BODY("{" ID "}{" ID "}", JSON_SCAN_END, 0, 2),
    BODY("{" ID "}{" ID "}x", JSON_SCAN_INVALID_JSON, 28, 2),
    BODY("{" ID "},{" ID "}", JSON_SCAN_INVALID_JSON, 14, 1),
    BODY("{" ID "} ,{" ID "}", JSON_SCAN_INVALID_JSON, 15, 1),
    BODY("{" ID "}\n[]", JSON_SCAN_INVALID_JSON, 15, 1),
    BODY("{" ID "}\n{" ID "}\n3", JSON_SCAN_INVALID_JSON, 30, 2),
    BODY("{" ID "}}", JSON_SCAN_INVALID_JSON, 14, 1),
    BODY("{" ID "}\0", JSON_SCAN_INVALID_JSON, 14, 1),
    BODY("{" ID "}\n{", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("{" ID "}\f{" ID "}", JSON_SCAN_INVALID_JSON, 14, 1),

    /* arrays */
    BODY("[", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("[ ", JSON_SCAN_INVALID_JSON, 2, 0),
    BODY("[1]", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("[[]]", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("[,{" ID "}]", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("[}", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("[{" ID "}", JSON_SCAN_INVALID_JSON, 15, 1),
    BODY("[{" ID "},", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("[{" ID "},]", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("[{" ID "},,", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("[{" ID "},null]", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("[{" ID "} {" ID "}]", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("[{" ID "}}", JSON_SCAN_INVALID_JSON, 15, 1),
    BODY("[{" ID "}]]", JSON_SCAN_INVALID_JSON, 16, 1),
    BODY("[{" ID "}] {" ID "}", JSON_SCAN_INVALID_JSON, 17, 1),
    BODY("[] []", JSON_SCAN_INVALID_JSON, 3, 0),
    BODY("[]x", JSON_SCAN_INVALID_JSON, 2, 0),

    /* cut short */
    BODY("{", JSON_SCAN_INVALID_JSON, 1, 0),
    BODY("{\"", JSON_SCAN_INVALID_JSON, 2, 0),
    BODY("{\"a\"", JSON_SCAN_INVALID_JSON, 4, 0),
    BODY("{\"a\":", JSON_SCAN_INVALID_JSON, 5, 0),
    BODY("{\"a\":\"\\", JSON_SCAN_INVALID_JSON, 7, 0),
    BODY("{\"a\":\"\\u00", JSON_SCAN_INVALID_JSON, 10, 0),
    BODY("{\"a\":\"\\uD800", JSON_SCAN_INVALID_JSON, 12, 0),
    BODY("{\"a\":\"\\uD800\\uDC", JSON_SCAN_INVALID_JSON, 16, 0),
    BODY("{\"a\":\"\xE2\x82", JSON_SCAN_INVALID_JSON, 8, 0),
    BODY("{\"a\":-", JSON_SCAN_INVALID_JSON, 6, 0),
    BODY("{\"a\":1.", JSON_SCAN_INVALID_JSON, 7, 0),
    BODY("{\"a\":1e-", JSON_SCAN_INVALID_JSON, 8, 0),
    BODY("{\"a\":12", JSON_SCAN_INVALID_JSON, 7, 0),
    BODY("{\"a\":tr", JSON_SCAN_INVALID_JSON, 7, 0),
    BODY("{\"a\":[1", JSON_SCAN_INVALID_JSON, 7, 0),
    BODY("{\"a\":[1,", JSON_SCAN_INVALID_JSON, 8, 0),
    BODY("{\"a\":{} ", JSON_SCAN_INVALID_JSON, 8, 0),
    BODY("{" ID ", ", JSON_SCAN_INVALID_JSON, 15, 0),

    /* ids: which error wins, and where it is */
    BODY("{}", JSON_SCAN_MISSING_ID, 0, 0),
    BODY(" {\"a\":{" ID "}}", JSON_SCAN_MISSING_ID, 1, 0),
    BODY("{\"event_id2\":1,\"event_i\":1,\"EVENT_ID\":1}", JSON_SCAN_MISSING_ID, 0, 0),
    BODY("{" ID "} {\"a\":1}", JSON_SCAN_MISSING_ID, 15, 1),
    BODY("[{" ID "},{" ID "},{}]", JSON_SCAN_MISSING_ID, 31, 2),
    BODY("{\"event_id\":null}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\": true}", JSON_SCAN_INVALID_ID, 13, 0),
    BODY("{\"event_id\":false}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":1.5}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":1e3}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":1E3}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":-0.0}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":{\"a\":1}}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":{}}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":[1]}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{\"event_id\":\"\"}", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{" ID "}\n{\"event_id\":null}", JSON_SCAN_INVALID_ID, 27, 1),
    BODY("{\"event_id\":null,\"a\":01}", JSON_SCAN_INVALID_JSON, 22, 0),
    BODY("{\"event_id\":null", JSON_SCAN_INVALID_JSON, 16, 0),
    BODY("{\"a\":1", JSON_SCAN_INVALID_JSON, 6, 0),
    BODY("{\"event_id\":null}{", JSON_SCAN_INVALID_ID, 12, 0),
    BODY("{" ID "," ID "}", JSON_SCAN_INVALID_JSON, 14, 0),
    BODY("{" ID ",\"a\":2, \"\\u0065vent_id\":1}", JSON_SCAN_INVALID_JSON, 21, 0),
    BODY("{\"event_id\":{}," ID "}", JSON_SCAN_INVALID_JSON, 15, 0),
};

#endif
