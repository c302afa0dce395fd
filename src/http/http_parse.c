/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_parse.c - parses HTTP/1.x request heads, and refuses what is ambiguous.
 *
 * We refuse whatever two servers could read in two ways, since that is how requests are smuggled
 * past a proxy. A function for one line has two outcomes: the line is good or refused. An
 * incomplete line has no LF, so a refusal without an LF behind it means "need more". That keeps
 * "need more" out of the line grammar, and makes the outcome independent of the pieces.
 *
 * Runs on: any thread.
 * Owns: nothing; slices point into the caller's buffer.
 */
#include "alloy/http_parse.h"
#include "http_bytes.h"

#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define TLS_HANDSHAKE '\x16' /* the first byte of a TLS connection */
#define METHOD_LEN_MAX 32
#define HEADER_COUNT_MAX 100

#define WORD (HTTP_TOKEN | HTTP_TARGET | HTTP_VALUE | HTTP_HOST)
#define DELIMITER (HTTP_TARGET | HTTP_VALUE)
#define HOST_DELIMITER (HTTP_TARGET | HTTP_VALUE | HTTP_HOST)
#define TOKEN_DELIMITER (HTTP_TOKEN | HTTP_TARGET | HTTP_VALUE)

/* clang-format off */
const unsigned char http_byte_classes[256] = {
    ['\t'] = HTTP_VALUE, [' '] = HTTP_VALUE, ['!'] = WORD, ['"'] = DELIMITER,
    ['#'] = HTTP_TOKEN | HTTP_VALUE,
    ['$' ... '\''] = WORD, ['(' ... ')'] = HOST_DELIMITER, ['*' ... '+'] = WORD,
    [','] = HOST_DELIMITER, ['-' ... '.'] = WORD, ['/'] = DELIMITER, ['0' ... '9'] = WORD,
    [':' ... ';'] = HOST_DELIMITER, ['<'] = DELIMITER, ['='] = HOST_DELIMITER,
    ['>' ... '@'] = DELIMITER, ['A' ... 'Z'] = WORD, ['['] = HOST_DELIMITER,
    ['\\'] = DELIMITER, [']'] = HOST_DELIMITER, ['^'] = TOKEN_DELIMITER, ['_'] = WORD,
    ['`'] = TOKEN_DELIMITER, ['a' ... 'z'] = WORD, ['{'] = DELIMITER, ['|'] = TOKEN_DELIMITER,
    ['}'] = DELIMITER, ['~'] = WORD, [0x80 ... 0xff] = HTTP_VALUE,
};
/* clang-format on */

/* What all lines say together; http_finish() judges it at the end. */
struct head {
    struct http_request *request;
    enum http_result refusal;
    unsigned header_count;
    unsigned host_count;
    unsigned authorization_count;
    unsigned chunked_count; /* how often the coding "chunked" is named */
    bool other_coding;      /* Transfer-Encoding names something else, or nothing */
    bool lengths_differ;
    bool close;
    bool keep_alive;
};

static inline bool http_is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

/* First byte of [p, end) outside the class; end when there is none. */
static inline const char *http_skip_class(const char *p, const char *end, unsigned char_class)
{
    while (p < end && http_byte_is(*p, char_class)) {
        p++;
    }
    return p;
}

/* The same for HTTP_VALUE, where most bytes of a head are: 16 at a time. */
static inline const char *http_skip_value(const char *p, const char *end)
{
#ifdef __SSE2__
    const __m128i control_last = _mm_set1_epi8(0x1f);
    const __m128i tab = _mm_set1_epi8('\t');
    const __m128i delete = _mm_set1_epi8(0x7f);

    while (end - p >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, control_last), bytes);
        __m128i refused = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, tab), control),
                                       _mm_cmpeq_epi8(bytes, delete));
        unsigned mask = (unsigned)_mm_movemask_epi8(refused);
        if (mask != 0) {
            return p + __builtin_ctz(mask);
        }
        p += 16;
    }
#endif
    return http_skip_class(p, end, HTTP_VALUE);
}

static inline struct slice http_slice_between(const char *start, const char *end)
{
    return (struct slice){.data = start, .len = (size_t)(end - start)};
}

static inline struct slice http_trim(const char *start, const char *end)
{
    while (start < end && http_is_space(*start)) {
        start++;
    }
    while (end > start && http_is_space(end[-1])) {
        end--;
    }
    return http_slice_between(start, end);
}

/*
 * Compares without regard to case. lower has only small letters, digits and '-', and text has no
 * control bytes: so setting bit 5 maps only capital letters onto them.
 */
static inline bool http_text_is(struct slice text, const char *lower)
{
    if (text.len != strlen(lower)) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if ((text.data[i] | 0x20) != lower[i]) {
            return false;
        }
    }
    return true;
}

/* Takes the next element off a comma-separated list; false: none is left. */
static bool http_next_element(struct slice *list, struct slice *element)
{
    const char *end, *comma;

    if (list->data == NULL) {
        return false;
    }
    end = list->data + list->len;
    comma = memchr(list->data, ',', list->len);
    *element = http_trim(list->data, comma != NULL ? comma : end);
    *list = comma != NULL ? http_slice_between(comma + 1, end) : (struct slice){0};
    return true;
}

/* Notes why the line is refused; returns NULL for the caller to return. */
static const char *http_refuse(struct head *head, enum http_result refusal, const char *problem)
{
    head->refusal = refusal;
    head->request->problem = problem;
    return NULL;
}

static bool http_refuse_bad(struct head *head, const char *problem)
{
    http_refuse(head, HTTP_BAD, problem);
    return false;
}

static enum http_method http_method_of(struct slice text)
{
    static const struct {
        const char *name;
        enum http_method method;
    } known[] = {
        {"POST", HTTP_POST}, {"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"OPTIONS", HTTP_OPTIONS}};

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (text.len == strlen(known[i].name) && memcmp(text.data, known[i].name, text.len) == 0) {
            return known[i].method;
        }
    }
    return HTTP_OTHER;
}

/* Returns where the path of an absolute-form target starts; NULL: its authority is invalid. */
static const char *http_skip_authority(const char *target, const char *end)
{
    const char *colon = memchr(target, ':', (size_t)(end - target));
    const char *authority, *path;
    struct slice scheme;

    if (colon == NULL || end - colon < 3 || colon[1] != '/' || colon[2] != '/') {
        return NULL;
    }
    scheme = http_slice_between(target, colon);
    if (!http_text_is(scheme, "http") && !http_text_is(scheme, "https")) {
        return NULL;
    }
    authority = colon + 3;
    path = http_skip_class(authority, end, HTTP_HOST);
    if (path == authority || *authority == ':') {
        return NULL;
    }
    return path == end || *path == '/' || *path == '?' ? path : NULL;
}

/* Splits the target into path and query: RFC 9112 section 3.2, without the authority-form. */
static bool http_split_target(struct http_request *request, const char *target, const char *end)
{
    const char *path = target;
    const char *question;

    if (*target == '*' && end - target == 1 && request->method == HTTP_OPTIONS) {
        request->path = http_slice_between(target, end);
        return true;
    }
    if (*target != '/') {
        path = http_skip_authority(target, end);
        if (path == NULL) {
            return false;
        }
    }
    question = memchr(path, '?', (size_t)(end - path));
    request->path = http_slice_between(path, question != NULL ? question : end);
    if (question != NULL) {
        request->query = http_slice_between(question + 1, end);
    }
    if (request->path.len == 0) {
        /* There is no path: use a slash of "//" as the path "/", since slices must point into the
         * buffer. */
        request->path = http_slice_between(memchr(target, '/', (size_t)(end - target)), end);
        request->path.len = 1;
    }
    return true;
}

/* Returns the byte after the line; NULL: it is refused or incomplete. */
static const char *http_parse_request_line(struct head *head, const char *p, const char *end)
{
    struct http_request *request = head->request;
    const char *method = p;
    const char *target, *target_end;

    p = http_skip_class(p, end, HTTP_TOKEN);
    if (p == method || p == end || *p != ' ') {
        return http_refuse(head, HTTP_BAD, "The request line does not start with a method.");
    }
    if (p - method > METHOD_LEN_MAX) {
        return http_refuse(head, HTTP_BAD, "The method is too long.");
    }
    request->method_text = http_slice_between(method, p);
    request->method = http_method_of(request->method_text);

    target = p + 1;
    target_end = http_skip_class(target, end, HTTP_TARGET);
    if (target_end == target || target_end == end || *target_end != ' ') {
        return http_refuse(head, HTTP_BAD, "The request target is not valid.");
    }
    p = target_end + 1;
    if (end - p < 10 || memcmp(p, "HTTP/", 5) != 0 || !http_is_digit(p[5]) || p[6] != '.' ||
        !http_is_digit(p[7]) || p[8] != '\r' || p[9] != '\n') {
        return http_refuse(head, HTTP_BAD, "The request line does not end with an HTTP version.");
    }
    /* Before the form of the target, so that the HTTP/2 preface "PRI *" gets its own answer. */
    if (p[5] == '2') {
        return http_refuse(head, HTTP_UNSUPPORTED_VERSION,
                           "The client speaks HTTP/2; only HTTP/1.1 and HTTP/1.0 are spoken here.");
    }
    if (p[5] != '1') {
        return http_refuse(head, HTTP_UNSUPPORTED_VERSION,
                           "Only HTTP/1.0 and HTTP/1.1 are supported.");
    }
    request->minor = p[7] == '0' ? 0 : 1;
    if (!http_split_target(request, target, target_end)) {
        return http_refuse(head, HTTP_BAD, "The request target is not valid.");
    }
    return p + 10;
}

static bool http_parse_length(struct slice text, uint64_t *length)
{
    uint64_t value = 0;

    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned)(text.data[i] - '0');
        if (digit > 9 || value > (HTTP_LENGTH_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *length = value;
    return text.len > 0;
}

/* RFC 9112 section 6.3: a repeated length is accepted when all are the same. */
static bool http_note_content_length(struct head *head, struct slice value)
{
    struct http_request *request = head->request;
    struct slice element;
    uint64_t first = 0, length;
    bool has_first = false;

    request->length_text = request->has_length ? (struct slice){0} : value;
    while (http_next_element(&value, &element)) {
        if (!http_parse_length(element, &length)) {
            return http_refuse_bad(head, "Content-Length is not a number.");
        }
        if (has_first && length != first) {
            return http_refuse_bad(head, "Content-Length is given twice and differs.");
        }
        first = length;
        has_first = true;
    }
    if (request->has_length && request->content_length != first) {
        head->lengths_differ = true;
    }
    request->has_length = true;
    request->content_length = first;
    return true;
}

/* How many elements of the list equal lower, ignoring case; *total: how many there are. */
static unsigned http_count_in_list(struct slice list, const char *lower, unsigned *total)
{
    struct slice element;
    unsigned count = 0;

    for (*total = 0; http_next_element(&list, &element); (*total)++) {
        if (http_text_is(element, lower)) {
            count++;
        }
    }
    return count;
}

static void http_note_transfer_encoding(struct head *head, struct slice value)
{
    unsigned total;
    unsigned chunked = http_count_in_list(value, "chunked", &total);

    head->chunked_count += chunked;
    head->other_coding |= total > chunked;
}

static void http_note_connection(struct head *head, struct slice value)
{
    unsigned total;

    head->close |= http_count_in_list(value, "close", &total) > 0;
    head->keep_alive |= http_count_in_list(value, "keep-alive", &total) > 0;
}

static bool http_note_host(struct head *head, struct slice value)
{
    const char *end = value.data + value.len;

    head->host_count++;
    if (http_skip_class(value.data, end, HTTP_HOST) != end) {
        return http_refuse_bad(head, "Host is not valid.");
    }
    return true;
}

/*
 * Notes what the header says if we know it. The verdict must not depend on earlier lines:
 * http_check_new_lines() calls this without them.
 */
static bool http_note_header(struct head *head, struct slice name, struct slice value)
{
    struct http_request *request = head->request;

    switch (name.len) {
    case 4:
        return http_text_is(name, "host") ? http_note_host(head, value) : true;
    case 6:
        if (http_text_is(name, "expect")) {
            request->expect_continue = http_text_is(value, "100-continue");
            return request->expect_continue ||
                   http_refuse_bad(head, "The only supported Expect is 100-continue.");
        }
        if (http_text_is(name, "prefer") && request->prefer.len == 0) {
            request->prefer = value;
        }
        return true;
    case 10:
        if (http_text_is(name, "connection")) {
            http_note_connection(head, value);
        }
        return true;
    case 12:
        if (http_text_is(name, "alloy-replay") && request->replay.len == 0) {
            request->replay = value;
        }
        return true;
    case 13:
        if (http_text_is(name, "authorization")) {
            head->authorization_count++;
            request->authorization = value;
        }
        return true;
    case 14:
        return http_text_is(name, "content-length") ? http_note_content_length(head, value) : true;
    case 16:
        if (http_text_is(name, "content-encoding")) {
            request->coding = coding_add(request->coding, value);
        }
        return true;
    case 17:
        if (http_text_is(name, "transfer-encoding")) {
            http_note_transfer_encoding(head, value);
        }
        return true;
    default:
        return true;
    }
}

/* Returns the byte after the line; NULL: it is refused or incomplete. */
static const char *http_parse_header(struct head *head, const char *p, const char *end)
{
    const char *name = p;
    const char *colon = http_skip_class(p, end, HTTP_TOKEN);
    const char *value_end;

    if (colon == name || colon == end || *colon != ':') {
        if (name < end && http_is_space(*name)) {
            return http_refuse(head, HTTP_BAD, "A header is folded over several lines.");
        }
        if (colon < end && http_is_space(*colon)) {
            return http_refuse(head, HTTP_BAD, "A header has a space before its colon.");
        }
        return http_refuse(head, HTTP_BAD, "A header's name is not valid.");
    }
    value_end = http_skip_value(colon + 1, end);
    if (end - value_end < 2 || value_end[0] != '\r' || value_end[1] != '\n') {
        return http_refuse(head, HTTP_BAD, "A header's value contains a control byte.");
    }
    head->header_count++;
    if (!http_note_header(head, http_slice_between(name, colon), http_trim(colon + 1, value_end))) {
        return NULL;
    }
    return value_end + 2;
}

/* RFC 9112 section 6.1: the head must define the body's framing once and in one way. */
static enum http_result http_finish_framing(struct head *head)
{
    struct http_request *request = head->request;

    if (head->lengths_differ) {
        request->problem = "Content-Length is given twice and differs.";
        return HTTP_BAD;
    }
    if (head->chunked_count == 0 && !head->other_coding) {
        return HTTP_DONE;
    }
    if (request->has_length) {
        request->problem = "Both Content-Length and Transfer-Encoding are given.";
        return HTTP_BAD;
    }
    if (request->minor == 0) {
        request->problem = "Transfer-Encoding is not part of HTTP/1.0.";
        return HTTP_BAD;
    }
    if (head->chunked_count > 1) {
        request->problem = "The chunked coding is given twice.";
        return HTTP_BAD;
    }
    if (head->other_coding) {
        request->problem = "Transfer-Encoding is not chunked, the one coding known.";
        return HTTP_NOT_IMPLEMENTED;
    }
    request->chunked = true;
    return HTTP_DONE;
}

/* Judges what only all lines together show. */
static enum http_result http_finish(struct head *head)
{
    struct http_request *request = head->request;

    if (head->header_count > HEADER_COUNT_MAX) {
        request->problem = "There are more than 100 headers.";
        return HTTP_BAD;
    }
    if (head->host_count > 1 || (head->host_count == 0 && request->minor > 0)) {
        request->problem = "Host must be given exactly once.";
        return HTTP_BAD;
    }
    if (head->authorization_count > 1) {
        request->problem = "Authorization is given twice.";
        return HTTP_BAD;
    }
    request->keep_alive = !head->close && (request->minor > 0 || head->keep_alive);
    if (request->minor == 0) {
        request->expect_continue = false;
    }
    return http_finish_framing(head);
}

/*
 * Whether the bytes from p on can be, or become, a request line or an empty line before it.
 * Recognises a TLS handshake by its first byte: it may never contain an LF, and would wait for its
 * time-out.
 */
static bool http_may_start_request(const char *p, const char *end)
{
    if (p == end || http_byte_is(*p, HTTP_TOKEN)) {
        return true;
    }
    return *p == '\r' && (end - p == 1 || p[1] == '\n');
}

/*
 * Whether the line is the request line, or an empty one before it. The head has not ended yet, so
 * an empty line before this one means that this is one of them.
 */
static bool http_is_first_line(const char *buf, const char *line)
{
    size_t offset = (size_t)(line - buf);

    return offset == 0 || (offset == 2 && line[-2] == '\r') ||
           (offset > 2 && line[-2] == '\r' && line[-3] == '\n');
}

/*
 * Checks each line that the bytes after scanned have completed, once and alone. Returns whether
 * http_parse_lines() has an outcome now: the head is complete, or one of these lines is refused.
 */
static bool http_check_new_lines(const char *buf, size_t len, size_t scanned)
{
    struct http_request scratch = {0};
    struct head head = {.request = &scratch};
    const char *end = buf + len;
    const char *from = buf + scanned;
    const char *lf;

    while ((lf = memchr(from, '\n', (size_t)(end - from))) != NULL) {
        const char *previous = memrchr(buf, '\n', (size_t)(from - buf));
        const char *line = previous != NULL ? previous + 1 : buf;
        bool first = http_is_first_line(buf, line);

        if (lf - line == 1 && *line == '\r') {
            if (!first) {
                return true;
            }
        } else if ((first ? http_parse_request_line(&head, line, lf + 1)
                          : http_parse_header(&head, line, lf + 1)) == NULL) {
            return true;
        }
        from = lf + 1;
    }
    /* A CR at the end of what was scanned could not be judged then. */
    if (from > buf && from[-1] == '\r') {
        from--;
    }
    return (from == buf || from[-1] == '\n') && http_is_first_line(buf, from) &&
           !http_may_start_request(from, end);
}

/* Parses the head from its first byte on. */
static enum http_result http_parse_lines(const char *buf, size_t len, struct http_request *request)
{
    struct head head = {.request = request};
    const char *end = buf + len;
    const char *line = buf;
    const char *next;

    *request = (struct http_request){0};
    while (end - line >= 2 && line[0] == '\r' && line[1] == '\n') {
        line += 2;
    }
    if (!http_may_start_request(line, end)) {
        request->problem =
            *line == TLS_HANDSHAKE
                ? "The client speaks TLS, and this port plain HTTP: use http://, or a port of "
                  "server.tls_listen."
                : "The request line does not start with a method.";
        return HTTP_BAD;
    }
    next = http_parse_request_line(&head, line, end);
    while (next != NULL) {
        line = next;
        if (end - line >= 2 && line[0] == '\r' && line[1] == '\n') {
            request->head_len = (size_t)(line + 2 - buf);
            return http_finish(&head);
        }
        next = http_parse_header(&head, line, end);
    }
    /* See the top of this file: without an LF the line is not refused but incomplete. */
    return memchr(line, '\n', (size_t)(end - line)) != NULL ? head.refusal : HTTP_MORE;
}

enum http_result http_parse_head(const char *buf, size_t len, size_t *scanned,
                                 struct http_request *request)
{
    enum http_result result = HTTP_MORE;

    ALLOY_ASSERT(*scanned <= len);
    /*
     * A head in one piece, the usual case, is parsed in one pass. A head in pieces is parsed a
     * second time once it is complete or refused: either way the cost for each byte is constant.
     */
    if (*scanned == 0 || http_check_new_lines(buf, len, *scanned)) {
        result = http_parse_lines(buf, len, request);
    }
    if (result == HTTP_MORE) {
        *scanned = len;
    }
    return result;
}

/* Whether the line from line on, of a head that ends at end, is a header of this name. */
static bool http_header_is(const char *line, const char *end, const char *lower_case_name,
                           struct slice *value)
{
    const char *colon = http_skip_class(line, end, HTTP_TOKEN);

    if (colon == line || colon == end || *colon != ':' ||
        !http_text_is(http_slice_between(line, colon), lower_case_name))
        return false;
    *value = http_trim(colon + 1, http_skip_value(colon + 1, end));
    return true;
}

struct slice http_find_header(const char *head, size_t head_len, const char *lower_case_name)
{
    const char *const end = head + head_len, *line = head;
    struct slice value;

    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL && ++line < end)
        if (http_header_is(line, end, lower_case_name, &value))
            return value;
    return (struct slice){"", 0};
}

bool http_find_header_before(const char *head, size_t *at, const char *lower_case_name,
                             struct slice *value)
{
    const char *end = head + *at, *line, *newline;

    for (; end > head; end = line) {
        newline = memrchr(head, '\n', (size_t)(end - 1 - head));
        line = newline != NULL ? newline + 1 : head;
        /* The first line is the request's. */
        if (newline != NULL && http_header_is(line, end, lower_case_name, value)) {
            *at = (size_t)(line - head);
            return true;
        }
    }
    *at = 0;
    return false;
}
