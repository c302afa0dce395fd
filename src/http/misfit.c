/* SPDX-License-Identifier: Apache-2.0 */
/*
 * misfit.c - names what came in place of JSON, so that a client's owner knows what to change.
 *
 * It guesses, by the first bytes and by Content-Type, and only of bodies that are refused already:
 * a wrong guess gives a wrong sentence and nothing else. So what the bytes say goes before what the
 * client says of them, and a body that begins like JSON is JSON with a fault.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/misfit.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"
#define NAME_MAX_LEN 64 /* of a form's first member */

#define UNKNOWN_CODING                                                                          \
    "The body is compressed in a way that is not known here: send gzip, deflate or zstd, with " \
    "Content-Encoding."
#define UTF16 "The body is UTF-16 or UTF-32: send UTF-8."
#define XML "The body is XML or HTML: send JSON."
#define MULTIPART "The body is a multipart form: send JSON as the whole body."
#define FORM                                                                                      \
    "The body is a form: send JSON. Of forms only one is taken whose first member is data, with " \
    "JSON or base64 of it."
#define PROTOBUF                                                                                  \
    "The body is Protocol Buffers, by its Content-Type: send JSON, as exporters of OTLP do with " \
    "http/json."
#define OBJECT \
    "The body is the text that JavaScript makes of an object: send JSON.stringify() of it."

struct misfit {
    const char *begin;
    size_t len;
    const char *message;
};
#define ROW(begin, message)               \
    {                                     \
        begin, sizeof(begin) - 1, message \
    }

/* How a body begins. */
static const struct misfit misfit_bytes[] = {
    ROW("\x28\xb5\x2f\xfd", "The body is zstd: send it with Content-Encoding: zstd."),
    ROW("\x78\x01", "The body is zlib's format: send it with Content-Encoding: deflate."),
    ROW("\x78\x5e", "The body is zlib's format: send it with Content-Encoding: deflate."),
    ROW("\x78\x9c", "The body is zlib's format: send it with Content-Encoding: deflate."),
    ROW("\x78\xda", "The body is zlib's format: send it with Content-Encoding: deflate."),
    ROW("\x1f\x8b", "What the body decodes to is gzip again: it was compressed twice."),
    ROW("\x04\x22\x4d\x18", UNKNOWN_CODING),       /* lz4 */
    ROW("\xff\x06\x00\x00sNaPpY", UNKNOWN_CODING), /* snappy, framed */
    ROW("\xfd"
        "7zXZ",
        UNKNOWN_CODING),
    ROW("BZh", UNKNOWN_CODING),
    ROW("PK\x03\x04", UNKNOWN_CODING),
    ROW("Obj\x01", "The body is an Avro file: send JSON."),
    ROW("\xff\xfe", UTF16),
    ROW("\xfe\xff", UTF16),
    ROW("\x1e", "The body is a JSON text sequence: send the objects without the byte 0x1E."),
    ROW("<", XML),
    ROW("--", MULTIPART),
    ROW("[object Object]", OBJECT),
    ROW("undefined", OBJECT),
    ROW("{'", "The body has single quotes: JSON has double ones."),
    ROW("\"{", "The body is a JSON string that holds JSON: it was encoded twice."),
    ROW("\"[", "The body is a JSON string that holds JSON: it was encoded twice."),
    ROW("\"", "The body is a JSON string: send an object, or an array of objects."),
};

/* How a Content-Type begins, in lower case. */
static const struct misfit misfit_types[] = {
    ROW("application/x-protobuf", PROTOBUF),
    ROW("application/protobuf", PROTOBUF),
    ROW("application/vnd.google.protobuf", PROTOBUF),
    ROW("application/grpc", "The body is gRPC, by its Content-Type: send JSON with POST."),
    ROW("application/msgpack", "The body is MessagePack, by its Content-Type: send JSON."),
    ROW("application/x-msgpack", "The body is MessagePack, by its Content-Type: send JSON."),
    ROW("application/vnd.msgpack", "The body is MessagePack, by its Content-Type: send JSON."),
    ROW("application/cbor", "The body is CBOR, by its Content-Type: send JSON."),
    ROW("application/avro", "The body is Avro, by its Content-Type: send JSON."),
    ROW("avro/", "The body is Avro, by its Content-Type: send JSON."),
    ROW("text/csv", "The body is CSV, by its Content-Type: send JSON."),
    ROW("text/xml", XML),
    ROW("application/xml", XML),
    ROW("multipart/", MULTIPART),
};

/* Whether body is a number, true, false or null, and nothing else. */
static bool misfit_is_scalar(struct slice body)
{
    static const char *const words[] = {"true", "false", "null"};
    size_t len = body.len, digits = 0;

    while (len > 0 && strchr(" \t\r\n", body.data[len - 1]) != NULL)
        len--;
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (len == strlen(words[i]) && memcmp(body.data, words[i], len) == 0)
            return true;
    for (size_t i = 0; i < len; i++) {
        const char c = body.data[i];

        if (c >= '0' && c <= '9')
            digits++;
        else if (c == '-' && i > 0 && body.data[i - 1] != 'e')
            return false;
        else if (c == '\0' || strchr("+-.eE", c) == NULL)
            return false;
    }
    return digits > 0;
}

/* Whether body begins with a name and a =, as forms do. */
static bool misfit_is_form(struct slice body)
{
    size_t len = 0;

    while (len < body.len && len < NAME_MAX_LEN && body.data[len] != '\0' &&
           strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-%+[]",
                  body.data[len]) != NULL)
        len++;
    return len > 0 && len < body.len && body.data[len] == '=';
}

/* Whether the first four bytes are ASCII with NULs between them. */
static bool misfit_is_wide(struct slice body)
{
    size_t nuls = 0;

    if (body.len < 4)
        return false;
    for (size_t i = 0; i < 4; i++) {
        nuls += body.data[i] == '\0';
        if (body.data[i] != '\0' && (body.data[i] < '\t' || body.data[i] >= 0x7f))
            return false;
    }
    return nuls > 0 && nuls < 4;
}

const char *misfit_name(struct slice body, struct slice content_type)
{
    const size_t mark = strlen(BYTE_ORDER_MARK);
    size_t begin = 0;

    if (body.len >= mark && memcmp(body.data, BYTE_ORDER_MARK, mark) == 0)
        begin = mark;
    while (begin < body.len && strchr(" \t\r\n", body.data[begin]) != NULL &&
           body.data[begin] != '\0')
        begin++;
    if (begin == body.len)
        return NULL;
    body = (struct slice){body.data + begin, body.len - begin};
    for (size_t i = 0; i < ARRAY_LEN(misfit_bytes); i++)
        if (body.len >= misfit_bytes[i].len &&
            memcmp(body.data, misfit_bytes[i].begin, misfit_bytes[i].len) == 0)
            return misfit_bytes[i].message;
    if (misfit_is_wide(body))
        return UTF16;
    if (*body.data == '{' || *body.data == '[')
        return NULL;
    for (size_t i = 0; i < ARRAY_LEN(misfit_types); i++)
        if (content_type.len >= misfit_types[i].len &&
            strncasecmp(content_type.data, misfit_types[i].begin, misfit_types[i].len) == 0)
            return misfit_types[i].message;
    if (misfit_is_scalar(body))
        return "The body is JSON, but no object and no array of objects.";
    return misfit_is_form(body) ? FORM : NULL;
}
