/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replayed.c - requests of alloyctl with dead letters: their events keep the ids and the columns
 * that their first requests gave them.
 *
 * Such a request has a voucher (voucher.h), which nobody can make who cannot read the key beside
 * the dead letters; it is looked at in the head, and replaces a client's key. Its body is a row of
 * objects {"id":"...","columns":{...},"event":[{...}]}; id, or id_hex where the id is not UTF-8,
 * and columns may be missing. The event is judged as any other, by the rules of its stream: a
 * letter's id counts only where ids need not be in the events, so that a corrected event has its
 * new one.
 *
 * Runs on: the front-end thread that owns the connection's set.
 * Owns: nothing; the columns' text is the set's.
 */
#include "conn_private.h"

#include <string.h>

#include "alloy/members.h"
#include "alloy/text.h"

static const struct refusal refuse_nobody = {ERROR_unauthorized,
                                             "This server takes no request with Alloy-Replay."};
static const struct refusal refuse_other_body = {
    ERROR_unauthorized, "The Alloy-Replay header was made for another body."};
static const struct refusal refuse_id = {ERROR_invalid_id,
                                         "A replayed letter has an id that no event can have."};
static const struct refusal refuse_no_id = {
    ERROR_missing_id, "A replayed letter has no id, and its event has none that counts."};
static const struct refusal refuse_columns = {
    ERROR_too_large, "A replayed letter has columns that are longer than 61440 bytes."};

_Static_assert(CONN_COLUMNS_MAX == 61440, "as refuse_columns says");

/* Each of the members that stand around a letter's event, as route.c looks for them. */
_Static_assert(ROUTE_LETTER_MEMBERS <= CONFIG_COLUMNS_MAX, "struct judging has room for them");

const struct refusal *replayed_check(struct conn *conn, const struct http_request *request,
                                     struct refusal *own)
{
    const struct voucher_key *key = conn->set->parts.shared->replay_key;

    if (key == NULL)
        return &refuse_nobody;
    own->message = voucher_problem(key, clock_real_ms(), request->replay);
    if (own->message == NULL)
        return NULL;
    own->error = ERROR_unauthorized;
    return own;
}

const struct refusal *replayed_check_body(const struct conn *conn, struct slice body)
{
    const char *head = conn->buffer.data + conn->buffer.start;
    const struct slice text = http_find_header(head, conn->head_len, "alloy-replay");

    return voucher_is_for(text, body) ? NULL : &refuse_other_body;
}

/* Decodes the id of a letter into room. Returns its length; 0: it has none. */
static size_t replayed_read_id(struct judging *judging, char room[EVENT_ID_MAX + 1])
{
    const struct slice text = judging->members[ROUTE_LETTER_ID];
    const struct slice hex = judging->members[ROUTE_LETTER_ID_HEX];
    size_t len = 0;

    if (text.len > 0) {
        if (text.data[0] == '"')
            len =
                members_decode((struct slice){text.data + 1, text.len - 2}, room, EVENT_ID_MAX + 1);
    } else if (hex.len > 0 && hex.len % 2 == 0 && hex.len / 2 <= EVENT_ID_MAX) {
        for (size_t at = 1; at + 2 < hex.len; at += 2) {
            const int high = text_hex_digit(hex.data[at]), low = text_hex_digit(hex.data[at + 1]);

            room[len++] = (char)(high << 4 | low);
            if (high < 0 || low < 0)
                judging->refusal = &refuse_id;
        }
    }
    if ((text.len > 0 || hex.len > 0) && (len == 0 || len > EVENT_ID_MAX))
        judging->refusal = &refuse_id;
    return len;
}

/* Whether an event has a column's member itself. name: still escaped, by whoever edited it. */
static bool replayed_is_own(const struct config_stream *stream, struct slice name, uint32_t own)
{
    char decoded[CONFIG_NAME_MAX + 2];

    if (own == 0 || members_decode(name, decoded, sizeof(decoded)) == sizeof(decoded))
        return false;
    for (; own != 0; own &= own - 1)
        if (strcmp(decoded, stream->columns[__builtin_ctz(own)].name) == 0)
            return true;
    return false;
}

/* Writes the columns of a letter as columns_write() does, but for those that the event has itself:
 * it may have been edited. */
static struct slice replayed_columns(struct conn *conn, struct judging *judging, uint32_t own)
{
    const struct config_stream *stream = conn_route(conn)->stream;
    const struct slice text = judging->members[ROUTE_LETTER_COLUMNS];
    char *out = conn->set->columns;
    struct slice name, value;
    struct members members;
    size_t len = 0;

    if (text.len == 0 || text.data[0] != '{')
        return (struct slice){"", 0};
    members_open(&members, text);
    while (members_next(&members, &name, &value)) {
        if (replayed_is_own(stream, name, own))
            continue;
        if (name.len + value.len + 4 > CONN_COLUMNS_MAX - len) {
            judging->refusal = &refuse_columns;
            break;
        }
        out[len++] = '"';
        memcpy(out + len, name.data, name.len);
        len += name.len;
        memcpy(out + len, "\":", 2);
        memcpy(out + len + 2, value.data, value.len);
        len += value.len + 2;
        out[len++] = ',';
    }
    return (struct slice){out, len};
}

/* Finds what stands around the event that was scanned last. */
static void replayed_open_letter(const struct conn *conn, struct judging *judging)
{
    const struct route *route = conn_route(conn);
    const struct json_scan *scan = &judging->scan;

    judging->members_of = scan->envelope;
    memset(judging->members, 0, sizeof(judging->members[0]) * ROUTE_LETTER_MEMBERS);
    if (scan->envelope != SIZE_MAX)
        json_scan_find(&route->letter_members, (struct slice){scan->body, scan->len},
                       scan->envelope, judging->members);
}

void replayed_add(struct conn *conn, struct judging *judging, struct admission *admission,
                  const struct json_scan_event *scanned)
{
    struct json_scan_event event = *scanned;
    char id[EVENT_ID_MAX + 1];
    size_t len;

    if (judging->members_of != judging->scan.envelope)
        replayed_open_letter(conn, judging);
    len = config_id_is_in_event(conn_route(conn)->stream) ? 0 : replayed_read_id(judging, id);
    if (judging->refusal != NULL)
        return;
    if (len > 0) {
        event.id = (struct slice){id, len};
        event.id_verbatim = false;
    } else if (json_scan_made_id(&judging->scan, scanned) &&
               conn_route(conn)->stream->missing_id == CONFIG_MISSING_REFUSE) {
        judging->refusal = &refuse_no_id;
        return;
    }
    admission_own_columns(admission, replayed_columns(conn, judging, event.own_columns));
    admission_event(admission, &event);
}
