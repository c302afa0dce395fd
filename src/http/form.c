/* SPDX-License-Identifier: Apache-2.0 */
/*
 * form.c - the member data of a form or a query, which holds JSON or base64 of JSON.
 *
 * JSON begins with a brace or a bracket, which base64 does not have, so nobody has to say which of
 * them it is. In base64 a + may come as it is, though a form would have it be a space.
 *
 * Runs on: any thread.
 * Owns: nothing.
 */
#include "alloy/form.h"

#include <string.h>

#include "alloy/text.h"

#define FORM_NO_DIGIT 64

static const char *const form_bad_escape = "The form's data has a % without two hex digits.";
static const char *const form_bad_base64 = "The form's data is neither JSON nor base64.";

/* Six bits of base64, of the alphabet for URLs too. */
static unsigned form_digit(unsigned byte)
{
    if (byte >= 'A' && byte <= 'Z')
        return byte - 'A';
    if (byte >= 'a' && byte <= 'z')
        return byte - 'a' + 26;
    if (byte >= '0' && byte <= '9')
        return byte - '0' + 52;
    if (byte == '+' || byte == '-' || byte == ' ')
        return 62;
    return byte == '/' || byte == '_' ? 63 : FORM_NO_DIGIT;
}

/* Takes one byte of base64. */
static const char *form_take_digit(struct form *form, unsigned byte, struct coding_out *out)
{
    const unsigned digit = form_digit(byte);

    if (byte == '=' || byte == '\r' || byte == '\n') {
        form->padded = form->padded || byte == '=';
        return NULL;
    }
    if (digit == FORM_NO_DIGIT || form->padded)
        return form_bad_base64;
    form->bits = form->bits << 6 | digit;
    form->bit_count += 6;
    if (form->bit_count < 8)
        return NULL;
    form->bit_count -= 8;
    out->data[out->len++] = (char)(form->bits >> form->bit_count & 0xff);
    return NULL;
}

/* Takes one byte that is percent-decoded. */
static const char *form_take(struct form *form, unsigned byte, struct coding_out *out)
{
    if (!form->base64 && !form->plain) {
        form->plain = byte == '{' || byte == '[';
        form->base64 = !form->plain;
    }
    if (form->base64)
        return form_take_digit(form, byte, out);
    out->data[out->len++] = (char)byte;
    return NULL;
}

/* Takes one byte as it came. */
static const char *form_take_raw(struct form *form, unsigned byte, struct coding_out *out)
{
    int digit;

    if (form->skip > 0) {
        form->skip--;
        return NULL;
    }
    if (form->escape == 0 && (byte == '&' || form->ended)) {
        form->ended = true;
        return NULL;
    }
    if (form->escape == 0 && byte == '%') {
        form->escape = 2;
        form->byte = 0;
        return NULL;
    }
    if (form->escape == 0)
        return form_take(form, byte == '+' ? ' ' : byte, out);
    digit = text_hex_digit((char)byte);
    if (digit < 0)
        return form_bad_escape;
    form->byte = form->byte << 4 | (unsigned)digit;
    return --form->escape > 0 ? NULL : form_take(form, form->byte, out);
}

const char *form_decode(struct form *form, struct slice *raw, struct coding_out *out)
{
    const char *problem = NULL;

    while (problem == NULL && raw->len > 0 && out->len < out->size) {
        problem = form_take_raw(form, (unsigned char)*raw->data, out);
        raw->data++;
        raw->len--;
    }
    return problem;
}

const char *form_end(const struct form *form)
{
    if (form->escape > 0)
        return form_bad_escape;
    return form->bit_count >= 6 ? form_bad_base64 : NULL;
}

struct slice form_of_request(const struct http_request *request)
{
    const size_t len = sizeof(CODING_FORM_PREFIX) - 1;
    struct slice rest = request->query;

    if (request->method != HTTP_GET || request->chunked || request->content_length > 0)
        return (struct slice){"", 0};
    while (rest.len > len && memcmp(rest.data, CODING_FORM_PREFIX, len) != 0) {
        const char *end = memchr(rest.data, '&', rest.len);

        if (end == NULL)
            return (struct slice){"", 0};
        rest.len -= (size_t)(end + 1 - rest.data);
        rest.data = end + 1;
    }
    return rest.len > len ? rest : (struct slice){"", 0};
}
