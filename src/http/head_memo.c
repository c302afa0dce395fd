/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head_memo.c - knows heads of requests again.
 *
 * A head consists of what stands before the digits of its one Content-Length, these, and what
 * stands behind them. If the first and the last are the bytes of a head that was accepted, and
 * digits are between them, it says the same.
 *
 * Runs on: the thread that owns the memo.
 * Owns: nothing; the memo is the caller's.
 */
#include "alloy/head_memo.h"

#include <string.h>

#define DIGITS_MAX 18 /* so that they are below HTTP_LENGTH_MAX */
/* Two pieces of a head tell which slot may know it: where programs differ. */
#define SAMPLE_1 40
#define SAMPLE_2 72

static uint64_t head_word(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static size_t head_slot(const char *buf, size_t len)
{
    if (len < SAMPLE_2 + sizeof(uint64_t))
        return 0;
    /* Knuth's multiplicative hash. */
    return (size_t)(((head_word(buf + SAMPLE_1) + 31 * head_word(buf + SAMPLE_2)) *
                     UINT64_C(0x9e3779b97f4a7c15)) >>
                    32) %
           HEAD_MEMO_SLOTS;
}

/* Takes as long wherever they differ: another client's head may hold its key. */
static bool head_same(const char *a, const char *b, size_t len)
{
    uint64_t differ = 0;

    for (; len >= sizeof(differ); a += sizeof(differ), b += sizeof(differ), len -= sizeof(differ))
        differ |= head_word(a) ^ head_word(b);
    for (; len > 0; a++, b++, len--)
        differ |= (uint64_t)(unsigned char)(*a ^ *b);
    return differ == 0;
}

/* How many digits begin at at, and their value; DIGITS_MAX at most. */
static size_t head_digits(const char *at, const char *end, uint64_t *value)
{
    size_t n = 0;

    for (*value = 0; n < DIGITS_MAX && at + n < end && at[n] >= '0' && at[n] <= '9'; n++)
        *value = *value * 10 + (uint64_t)(at[n] - '0');
    return n;
}

/* Makes a slice of the head at from one of the head at to, in which what stands behind length_at
 * has moved by shift. */
static void head_move(struct slice *slice, const char *from, const char *to, size_t length_at,
                      size_t shift)
{
    const size_t at = (size_t)(slice->data - from);

    if (slice->len > 0)
        slice->data = to + at + (at > length_at ? shift : 0);
}

/* The same for all of a request's. shift may have wrapped around, as may sums with it. */
static void head_move_all(struct http_request *request, const char *from, const char *to,
                          size_t length_at, size_t shift)
{
    head_move(&request->method_text, from, to, length_at, shift);
    head_move(&request->path, from, to, length_at, shift);
    head_move(&request->query, from, to, length_at, shift);
    head_move(&request->length_text, from, to, length_at, 0);
    head_move(&request->authorization, from, to, length_at, shift);
    head_move(&request->prefer, from, to, length_at, shift);
    head_move(&request->replay, from, to, length_at, shift);
}

bool head_memo_find(const struct head_memo *memo, const char *buf, size_t len,
                    struct http_request *request)
{
    const struct head_memo_slot *slot = &memo->slots[head_slot(buf, len)];
    const size_t at = slot->length_at;
    size_t digits, behind;
    uint64_t value;

    if (at == 0 || len <= at || !head_same(buf, slot->head, at))
        return false;
    digits = head_digits(buf + at, buf + len, &value);
    behind = at + slot->request.length_text.len;
    if (digits == 0 || len - at - digits < slot->request.head_len - behind ||
        !head_same(buf + at + digits, slot->head + behind, slot->request.head_len - behind))
        return false;
    *request = slot->request;
    head_move_all(request, slot->head, buf, at, digits - slot->request.length_text.len);
    request->length_text.len = digits;
    request->head_len = at + digits + slot->request.head_len - behind;
    request->content_length = value;
    return true;
}

void head_memo_note(struct head_memo *memo, const char *buf, size_t len,
                    const struct http_request *request)
{
    struct head_memo_slot *slot = &memo->slots[head_slot(buf, len)];
    const struct slice length = request->length_text;
    uint64_t value;

    if (length.len == 0 || request->head_len > HEAD_MEMO_BYTES ||
        head_digits(length.data, length.data + length.len, &value) != length.len)
        return;
    memcpy(slot->head, buf, request->head_len);
    slot->length_at = (size_t)(length.data - buf);
    slot->request = *request;
    head_move_all(&slot->request, buf, slot->head, slot->length_at, 0);
}
