/* SPDX-License-Identifier: Apache-2.0 */
/*
 * voucher.c - by which alloyd believes what alloyctl says about events that it replays.
 *
 * The MAC covers a digest of the body and not the body: so a head tells whether the body that
 * follows may be believed, and who has no key cannot make us hash megabytes.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/voucher.h"

#include <sodium.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/text.h"

#define HASH_BYTES crypto_generichash_BYTES
#define HASH_DIGITS (2 * (size_t)HASH_BYTES)
#define TIME_DIGITS_MAX 19

_Static_assert(VOUCHER_TEXT >= TIME_DIGITS_MAX + 2 * (1 + HASH_DIGITS) + 1, "a voucher fits");
_Static_assert(VOUCHER_KEY_BYTES == crypto_generichash_KEYBYTES, "the key is BLAKE2b's");

/* The parts of a voucher. */
struct parts {
    struct slice signed_text; /* time and digest */
    uint64_t real_ms;
    unsigned char body[HASH_BYTES];
    unsigned char mac[HASH_BYTES];
};

static void voucher_sign(const struct voucher_key *key, struct slice text,
                         unsigned char mac[HASH_BYTES])
{
    (void)crypto_generichash(mac, HASH_BYTES, (const unsigned char *)text.data, text.len,
                             key->bytes, sizeof(key->bytes));
}

static void voucher_hash(struct slice body, unsigned char hash[HASH_BYTES])
{
    (void)crypto_generichash(hash, HASH_BYTES, (const unsigned char *)body.data, body.len, NULL, 0);
}

static bool voucher_read_hash(const char *text, unsigned char hash[HASH_BYTES])
{
    for (size_t i = 0; i < HASH_BYTES; i++) {
        const int high = text_hex_digit(text[2 * i]), low = text_hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        hash[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

/* False: text has not the form of a voucher. */
static bool voucher_read(struct slice text, struct parts *parts)
{
    size_t digits = 0;

    parts->real_ms = 0;
    while (digits < text.len && digits < TIME_DIGITS_MAX && text.data[digits] >= '0' &&
           text.data[digits] <= '9')
        parts->real_ms = parts->real_ms * 10 + (uint64_t)(text.data[digits++] - '0');
    if (digits == 0 || text.len != digits + 2 * (1 + HASH_DIGITS) || text.data[digits] != ' ' ||
        text.data[digits + 1 + HASH_DIGITS] != ' ')
        return false;
    parts->signed_text = (struct slice){text.data, digits + 1 + HASH_DIGITS};
    return voucher_read_hash(text.data + digits + 1, parts->body) &&
           voucher_read_hash(text.data + digits + 2 + HASH_DIGITS, parts->mac);
}

void voucher_write(const struct voucher_key *key, uint64_t real_ms, struct slice body,
                   char out[VOUCHER_TEXT])
{
    unsigned char hash[HASH_BYTES];
    char digits[HASH_DIGITS + 1];
    size_t len;

    voucher_hash(body, hash);
    len = (size_t)snprintf(out, VOUCHER_TEXT, "%" PRIu64 " %s", real_ms,
                           sodium_bin2hex(digits, sizeof(digits), hash, sizeof(hash)));
    voucher_sign(key, (struct slice){out, len}, hash);
    snprintf(out + len, VOUCHER_TEXT - len, " %s",
             sodium_bin2hex(digits, sizeof(digits), hash, sizeof(hash)));
}

const char *voucher_problem(const struct voucher_key *key, uint64_t real_ms, struct slice text)
{
    unsigned char mac[HASH_BYTES];
    struct parts parts;

    if (!voucher_read(text, &parts))
        return "The Alloy-Replay header is not of the form that alloyctl gives it.";
    voucher_sign(key, parts.signed_text, mac);
    if (sodium_memcmp(mac, parts.mac, sizeof(mac)) != 0)
        return "The Alloy-Replay header is not signed with this server's replay.key, which lies in "
               "its dead-letter folder.";
    if (real_ms > parts.real_ms + VOUCHER_TIME_MS || parts.real_ms > real_ms + VOUCHER_TIME_MS)
        return "The Alloy-Replay header is older than five minutes, or the clocks differ by more.";
    return NULL;
}

bool voucher_is_for(struct slice text, struct slice body)
{
    unsigned char hash[HASH_BYTES];
    struct parts parts;

    if (!voucher_read(text, &parts))
        return false;
    voucher_hash(body, hash);
    return memcmp(hash, parts.body, sizeof(hash)) == 0;
}
