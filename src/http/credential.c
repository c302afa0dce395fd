/* SPDX-License-Identifier: Apache-2.0 */
/*
 * credential.c - the keys that a request brings along, wherever clients put them.
 *
 * A request may bring several, such as a token of the proxy before us in Authorization and the
 * client's write key in a header. So the caller asks for one after the other until one is known.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "alloy/credential.h"

#include <sodium.h>

#include <string.h>
#include <strings.h>

#include "alloy/text.h"

enum credential_stage {
    CREDENTIAL_AUTHORIZATION,
    CREDENTIAL_API_KEY,
    CREDENTIAL_WRITE_KEY,
    CREDENTIAL_QUERY,
};

/* What follows a scheme and white space; empty: value has another scheme. */
static struct slice credential_after(struct slice value, const char *scheme)
{
    size_t at = strlen(scheme);

    if (value.len <= at || strncasecmp(value.data, scheme, at) != 0 || value.data[at] != ' ')
        return (struct slice){value.data, 0};
    while (at < value.len && value.data[at] == ' ')
        at++;
    return (struct slice){value.data + at, value.len - at};
}

/* The user name in the credentials of Basic; empty: there is none. */
static struct slice credential_user(struct credential_walk *walk, struct slice base64)
{
    struct slice none = {walk->text, 0};
    const char *colon;
    size_t len;

    /* Some clients leave out the padding, or the colon before a password that there is not. */
    while (base64.len > 0 && base64.data[base64.len - 1] == '=')
        base64.len--;
    if (sodium_base642bin((unsigned char *)walk->text, sizeof(walk->text), base64.data, base64.len,
                          NULL, &len, NULL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING) != 0)
        return none;
    colon = memchr(walk->text, ':', len);
    return (struct slice){walk->text, colon != NULL ? (size_t)(colon - walk->text) : len};
}

static struct slice credential_of_authorization(struct credential_walk *walk)
{
    const struct slice value = walk->request->authorization;
    struct slice token = credential_after(value, "Bearer");

    if (token.len > 0)
        return token;
    token = credential_after(value, "Basic");
    return token.len > 0 ? credential_user(walk, token) : token;
}

/* Decodes percent escapes; empty: there is a broken one, or it is too long. */
static struct slice credential_decode(struct credential_walk *walk, struct slice value)
{
    size_t len = 0;

    for (size_t i = 0; i < value.len; i++) {
        char c = value.data[i];

        if (c == '%') {
            int high = i + 2 < value.len ? text_hex_digit(value.data[i + 1]) : -1;
            int low = i + 2 < value.len ? text_hex_digit(value.data[i + 2]) : -1;

            if (high < 0 || low < 0)
                return (struct slice){walk->text, 0};
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (len == sizeof(walk->text))
            return (struct slice){walk->text, 0};
        walk->text[len++] = c;
    }
    return (struct slice){walk->text, len};
}

static bool credential_is_name(struct slice name)
{
    static const char *const names[] = {"key", "write_key", "api_key", "writeKey"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (name.len == strlen(names[i]) && memcmp(name.data, names[i], name.len) == 0)
            return true;
    return false;
}

/* The next key in the query, undecoded; empty: there is no other. */
static struct slice credential_next_parameter(struct credential_walk *walk)
{
    struct slice *rest = &walk->rest;

    while (rest->len > 0) {
        const char *end = memchr(rest->data, '&', rest->len);
        struct slice all = {rest->data, end != NULL ? (size_t)(end - rest->data) : rest->len};
        const char *equals = memchr(all.data, '=', all.len);
        size_t next = end != NULL ? all.len + 1 : all.len;

        rest->data += next;
        rest->len -= next;
        if (equals != NULL && equals + 1 < all.data + all.len &&
            credential_is_name((struct slice){all.data, (size_t)(equals - all.data)}))
            return (struct slice){equals + 1, (size_t)(all.data + all.len - equals - 1)};
    }
    return *rest;
}

void credential_walk_init(struct credential_walk *walk, const struct http_request *request,
                          struct slice head)
{
    walk->request = request;
    walk->head = head;
    walk->stage = CREDENTIAL_AUTHORIZATION;
    walk->tries = 0;
    walk->rest = request->query;
}

/* The key of the stage, or an empty slice. Sets done when the stage has no other. */
static struct slice credential_of_stage(struct credential_walk *walk, bool *done)
{
    struct slice found = {walk->text, 0};

    *done = true;
    switch ((enum credential_stage)walk->stage) {
    case CREDENTIAL_AUTHORIZATION:
        return credential_of_authorization(walk);
    case CREDENTIAL_API_KEY:
        return http_find_header(walk->head.data, walk->head.len, "x-api-key");
    case CREDENTIAL_WRITE_KEY:
        return http_find_header(walk->head.data, walk->head.len, "x-write-key");
    case CREDENTIAL_QUERY:
        found = credential_next_parameter(walk);
        *done = walk->rest.len == 0;
        return found.len > 0 ? credential_decode(walk, found) : found;
    }
    return found;
}

bool credential_next(struct credential_walk *walk, struct slice *key)
{
    while (walk->stage <= CREDENTIAL_QUERY && walk->tries < CREDENTIAL_TRIES_MAX) {
        bool done;

        *key = credential_of_stage(walk, &done);
        walk->stage += done;
        if (key->len == 0 || key->len > CREDENTIAL_MAX)
            continue;
        walk->tries++;
        return true;
    }
    return false;
}
