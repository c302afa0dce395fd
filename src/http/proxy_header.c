/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_header.c - parses the header of the PROXY protocol, versions 1 and 2.
 *
 * Version 1 is a line: "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443" CR LF. Version 2 is binary: a
 * signature that no text begins with, version and command, family and transport, a length, then so
 * many bytes: addresses, and whatever else the proxy has to tell, which we pass over.
 *
 * We are as strict as the protocol asks receivers to be. A header that two readers could end in two
 * places would let a client say something in its proxy's name.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/proxy_header.h"

#include "alloy/base.h"

#include <stdint.h>
#include <string.h>

#define V1_LINE_MAX 107 /* CR LF included */
#define V2_FIXED 16     /* up to the length, included */
#define V2_INET 12      /* two addresses and two ports */
#define V2_INET6 36
#define V2_UNIX 216

static const char v1_begin[] = "PROXY ";
static const char v2_signature[12] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                      '\n', 'Q',  'U',  'I',  'T', '\n'};

/* Whether data agrees with text as far as both go. */
static bool proxy_header_agrees(const char *data, size_t len, const char *text, size_t text_len)
{
    return memcmp(data, text, len < text_len ? len : text_len) == 0;
}

/* Takes the next word off a line; words are parted by one space. False: there is none. */
static bool proxy_header_next_word(struct slice *line, struct slice *word)
{
    const char *space;

    if (line->data == NULL)
        return false;
    space = memchr(line->data, ' ', line->len);
    *word = *line;
    if (space == NULL) {
        *line = (struct slice){NULL, 0};
        return true;
    }
    word->len = (size_t)(space - line->data);
    *line = (struct slice){space + 1, line->len - word->len - 1};
    return true;
}

/* 0 to 65535 without a leading zero. */
static bool proxy_header_is_port(struct slice text)
{
    unsigned value = 0;

    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.data[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text.data[i] - '0');
    }
    return value <= UINT16_MAX;
}

/* line is what stands between "PROXY " and CR LF. */
static bool proxy_header_read_line(struct slice line, struct proxy_header *header)
{
    struct slice family, source, destination, source_port, destination_port;
    struct address to;
    bool v6;

    if (!proxy_header_next_word(&line, &family))
        return false;
    /* Whatever else stands there is not for us, says the protocol. */
    if (family.len == 7 && memcmp(family.data, "UNKNOWN", 7) == 0)
        return true;
    v6 = family.len == 4 && memcmp(family.data, "TCP6", 4) == 0;
    if (!v6 && !(family.len == 4 && memcmp(family.data, "TCP4", 4) == 0))
        return false;
    header->has_client = true;
    return proxy_header_next_word(&line, &source) && proxy_header_next_word(&line, &destination) &&
           proxy_header_next_word(&line, &source_port) &&
           proxy_header_next_word(&line, &destination_port) && line.data == NULL &&
           (memchr(source.data, ':', source.len) != NULL) == v6 &&
           (memchr(destination.data, ':', destination.len) != NULL) == v6 &&
           address_parse(source, &header->client) && address_parse(destination, &to) &&
           proxy_header_is_port(source_port) && proxy_header_is_port(destination_port);
}

static enum proxy_header_result proxy_header_parse_v1(const char *data, size_t len,
                                                      struct proxy_header *header)
{
    const size_t begin = sizeof(v1_begin) - 1;
    const char *end = memchr(data, '\n', len < V1_LINE_MAX ? len : V1_LINE_MAX);

    if (end == NULL)
        return len < V1_LINE_MAX ? PROXY_HEADER_MORE : PROXY_HEADER_BAD;
    /* Its first bytes agree, so the line is at least as long. */
    header->len = (size_t)(end + 1 - data);
    if (end[-1] != '\r' ||
        !proxy_header_read_line((struct slice){data + begin, header->len - begin - 2}, header))
        return PROXY_HEADER_BAD;
    return PROXY_HEADER_DONE;
}

/* What stands behind the length of version 2, len bytes at data: addresses, and more. */
static bool proxy_header_read_v2(unsigned family, const unsigned char *data, size_t len,
                                 struct proxy_header *header)
{
    const unsigned transport = family & 0x0f;

    if (family >> 4 > 3 || transport > 2)
        return false;
    if (family >> 4 == 0 || transport == 0)
        return true;
    header->has_client = true;
    if (family >> 4 == 1 && len >= V2_INET)
        header->client = address_of_v4(data);
    else if (family >> 4 == 2 && len >= V2_INET6)
        header->client = address_of_v6(data);
    else if (family >> 4 == 3 && len >= V2_UNIX)
        header->client = (struct address){.family = ADDRESS_UNIX};
    else
        return false;
    return true;
}

static enum proxy_header_result proxy_header_parse_v2(const char *data, size_t len,
                                                      struct proxy_header *header)
{
    const unsigned char *bytes = (const unsigned char *)data;
    size_t more;

    /* The high half is the version, the low one the command: LOCAL or PROXY. */
    if (len > 12 && bytes[12] != 0x20 && bytes[12] != 0x21)
        return PROXY_HEADER_BAD;
    if (len < V2_FIXED)
        return PROXY_HEADER_MORE;
    more = (size_t)bytes[14] << 8 | bytes[15];
    header->len = V2_FIXED + more;
    if (header->len > PROXY_HEADER_MAX)
        return PROXY_HEADER_BAD;
    if (len < header->len)
        return PROXY_HEADER_MORE;
    if (bytes[12] == 0x21 && !proxy_header_read_v2(bytes[13], bytes + V2_FIXED, more, header))
        return PROXY_HEADER_BAD;
    return PROXY_HEADER_DONE;
}

enum proxy_header_result proxy_header_parse(const char *data, size_t len,
                                            struct proxy_header *header)
{
    *header = (struct proxy_header){0};
    if (proxy_header_agrees(data, len, v1_begin, sizeof(v1_begin) - 1))
        return proxy_header_parse_v1(data, len, header);
    if (proxy_header_agrees(data, len, v2_signature, sizeof(v2_signature)))
        return proxy_header_parse_v2(data, len, header);
    return PROXY_HEADER_BAD;
}
