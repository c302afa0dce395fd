/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_post.c - posts the events of letters to alloyd in one request, and learns what became of
 * each.
 *
 * alloyd is asked to wait for ClickHouse (docs/ACK.md), and lists what was refused. What the answer
 * leaves open is posted again: alloyd knows its ids, and answers what became of them. Where nobody
 * knows of some events, smaller requests find out which these are.
 *
 * Runs on: main thread.
 * Owns: the request.
 */
#include "ctl_post.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "alloy/clock.h"
#include "alloy/letters_key.h"
#include "ctl_settle.h"
#include "ctl_verdict.h"

#define REQUEST_BYTES ((size_t)1 << 20) /* then we send it; one event may be larger */
#define REQUEST_EVENTS 1000
#define REQUEST_EVENTS_REFUSED 64 /* once some were refused: an answer lists no more */
#define TRIES_MAX 60 /* tries of one request that alloyd has no room for, or does not answer */
#define RETRY_AFTER_MAX_S 30
#define WAIT_MAX_S 60   /* the longest that alloyd waits for one answer */
#define SPARE_MS 30000L /* for an answer, beyond the time that alloyd is to wait */
#define EARLY_MS 500    /* an answer so long before its time: waiting longer would not help */
#define UNKNOWN_MAX 16  /* single events in a row of which nobody knows; then we ask no more */

enum ctl_answer ctl_judge(long status)
{
    if (status == 200 || status == 202)
        return CTL_ANSWER_TAKEN;
    return status == 503 || status == 429 || status == 0 ? CTL_ANSWER_LATER : CTL_ANSWER_REFUSED;
}

/* ---- one request ---- */

static void ctl_post_pause_ms(unsigned ms)
{
    struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

    nanosleep(&wait, NULL);
}

/* How many seconds a 503 asks us to wait. */
static unsigned ctl_post_retry_after(const struct ctl_http_answer *answer)
{
    if (answer->retry_after_s < 1)
        return 1;
    return answer->retry_after_s < RETRY_AFTER_MAX_S ? answer->retry_after_s : RETRY_AFTER_MAX_S;
}

/* Sends events once. Lenient, so that each stream answers with the counts, whatever its clients are
 * answered. Returns the status, or 0 when there was no answer. */
static long ctl_post_send_once(struct ctl_post *post, struct slice body, unsigned wait_s)
{
    char prefer[64], text[VOUCHER_TEXT], voucher[sizeof(VOUCHER_HEADER ": ") + VOUCHER_TEXT];
    const char *const headers[] = {"Content-Type: application/x-ndjson", prefer,
                                   post->whole ? voucher : NULL, NULL};
    const struct ctl_http_request request = {.url = post->url,
                                             .body = body.data,
                                             .body_len = body.len,
                                             .headers = headers,
                                             .bearer = post->key,
                                             .timeout_ms = wait_s * 1000L + SPARE_MS};

    if (post->whole) {
        voucher_write(&post->replay_key, clock_real_ms(), body, text);
        snprintf(voucher, sizeof(voucher), VOUCHER_HEADER ": %s", text);
    }
    snprintf(prefer, sizeof(prefer), "Prefer: handling=lenient, wait=%u", wait_s);
    ctl_http_send(post->http, &request, &post->answer);
    return post->answer.status;
}

static void ctl_post_tell_answer(struct ctl_post *post, long status)
{
    const char *answer = ctl_one_line(post->answer.body);

    fprintf(stderr, "alloyctl: %s:%" PRIu64 "-%" PRIu64 ": %s answers %ld%s%s\n", post->name,
            post->items[0].line, post->items[post->count - 1].line, post->url, status,
            *answer != '\0' ? ": " : "", answer);
    if (status == 404 && !post->has_path)
        fputs("alloyctl: if the stream has a path of its own, give --stream NAME --path PATH\n",
              stderr);
    else if (status == 401 && post->whole)
        fputs("alloyctl: give --replay-key FILE, the " LETTERS_KEY_NAME
              " of this alloyd's dead-letter folder\n",
              stderr);
    else if (status == 401 && !post->has_key)
        fputs("alloyctl: this alloyd asks for a key: give --key-file FILE\n", stderr);
    else if (ctl_judge(status) == CTL_ANSWER_TAKEN)
        fputs("alloyctl: this is not an answer of alloyd\n", stderr);
}

/* Sends events until alloyd has answered for them. Returns 0, or -EIO (reported). */
static int ctl_post_send_part(struct ctl_post *post, struct slice body, unsigned wait_s,
                              struct ctl_verdict *verdict)
{
    long status = 0;

    for (int tries = 0; tries < TRIES_MAX; tries++) {
        unsigned again_s;

        status = ctl_post_send_once(post, body, wait_s);
        ctl_verdict_read(verdict, status, (struct slice){post->answer.body, post->answer.len});
        if (verdict->kind != CTL_VERDICT_NONE) {
            post->answered = true;
            return 0;
        }
        ctl_verdict_free(verdict);
        if (ctl_judge(status) != CTL_ANSWER_LATER) {
            ctl_post_tell_answer(post, status);
            return -EIO;
        }
        /* Nobody has answered at all: probably the address is wrong, so do not try for minutes. */
        if (status == 0 && !post->answered && tries > 0)
            break;
        again_s = status == 0 ? 1 : ctl_post_retry_after(&post->answer);
        if (status != 0)
            fprintf(stderr, "alloyctl: %s: alloyd answers %ld, trying again in %u s\n", post->name,
                    status, again_s);
        ctl_post_pause_ms(again_s * 1000);
    }
    fprintf(stderr, "alloyctl: %s: %s: %s\n", post->name, post->url,
            status == 0 ? post->answer.error : "has no room");
    return -EIO;
}

/* ---- what became of its events ---- */

/* Puts the open items from first to end together, and notes in map which they are. Returns how many
 * they are; *part is what to send. */
static size_t ctl_post_gather(struct ctl_post *post, size_t first, size_t end, size_t *map,
                              struct slice *part)
{
    size_t count = 0, len = 0;

    for (size_t i = first; i < end; i++) {
        const struct ctl_item *item = &post->items[i];

        if (item->state != ITEM_OPEN)
            continue;
        memcpy(post->part + len, post->body + item->at, item->len + 1);
        len += item->len + 1;
        map[count++] = i;
    }
    *part = (struct slice){post->part, len};
    return count;
}

static void ctl_post_set(struct ctl_post *post, const size_t *map, size_t count,
                         enum ctl_item_state state)
{
    for (size_t i = 0; i < count; i++)
        if (post->items[map[i]].state == ITEM_OPEN)
            post->items[map[i]].state = state;
}

/* Notes the events that an answer lists. Returns how many of them are settled by it: a duplicate of
 * a rejected event was not looked at, and can go again. */
static size_t ctl_post_note_listed(struct ctl_post *post, const struct ctl_verdict *verdict,
                                   const size_t *map, size_t count)
{
    size_t settled = 0;

    for (size_t i = 0; i < verdict->count; i++) {
        const struct ctl_refusal *refusal = &verdict->refusals[i];
        struct ctl_item *item = refusal->event < count ? &post->items[map[refusal->event]] : NULL;

        if (item == NULL || item->state != ITEM_OPEN)
            continue;
        item->code = refusal->code;
        snprintf(item->message, sizeof(item->message), "%s", refusal->message);
        if (refusal->duplicate)
            continue;
        item->state = refusal->code != 0 ? ITEM_REFUSED : ITEM_INVALID;
        settled++;
    }
    return settled;
}

/* Looks for newer letters of items in a state. Returns how many there are. */
static size_t ctl_post_find_newer(struct ctl_post *post, enum ctl_item_state state)
{
    struct ctl_newer *newer = calloc(post->count, sizeof(*newer));
    size_t *map = calloc(post->count, sizeof(*map));
    size_t count = 0, found = 0;

    for (size_t i = 0; newer != NULL && map != NULL && i < post->count; i++)
        if (post->items[i].state == state) {
            const struct ctl_item *item = &post->items[i];

            newer[count].event = (struct slice){post->body + item->event_at, item->event_len};
            newer[count].id = (struct slice){post->body + item->id_at, item->id_len};
            map[count++] = i;
        }
    if (count > 0)
        found = ctl_settle_find_newer(post->dir, post->name, post->started_ms, newer, count);
    for (size_t i = 0; i < count; i++) {
        struct ctl_item *item = &post->items[map[i]];

        if (!newer[i].found)
            continue;
        if (item->state == ITEM_OPEN) {
            item->code = newer[i].code;
            snprintf(item->message, sizeof(item->message), "%s", newer[i].message);
        }
        item->state = ITEM_RENEWED;
    }
    free(newer);
    free(map);
    return found;
}

/* More were rejected than the answer lists. Those have letters in the folder, if it is this
 * alloyd's; otherwise nobody can tell which they are. */
static void ctl_post_find_unlisted(struct ctl_post *post, const size_t *map, size_t count)
{
    if (ctl_post_find_newer(post, ITEM_REFUSED) > 0)
        (void)ctl_post_find_newer(post, ITEM_OPEN);
    else
        ctl_post_set(post, map, count, ITEM_UNKNOWN);
}

static int ctl_post_settle(struct ctl_post *post, size_t first, size_t end);

/* An answer that came before its time, although some events are open: asks for smaller parts, to
 * find of which events nobody knows. */
static int ctl_post_bisect(struct ctl_post *post, const size_t *map, size_t count)
{
    const size_t middle = map[count / 2];
    int err;

    if (count == 1 || post->unknown_in_row >= UNKNOWN_MAX) {
        ctl_post_set(post, map, count, ITEM_UNKNOWN);
        post->unknown_in_row++;
        return 0;
    }
    err = ctl_post_settle(post, map[0], middle);
    return err != 0 ? err : ctl_post_settle(post, middle, map[count - 1] + 1);
}

/* Does what the answer to the open items says. Returns 0 to go on with what is open still, 1 when
 * nothing is, or -errno. */
static int ctl_post_judge(struct ctl_post *post, const struct ctl_verdict *verdict,
                          const size_t *map, size_t count)
{
    const size_t settled = ctl_post_note_listed(post, verdict, map, count);

    post->accepted += verdict->accepted;
    if (verdict->kind == CTL_VERDICT_IN && verdict->invalid <= verdict->count) {
        ctl_post_set(post, map, count, ITEM_IN);
        post->unknown_in_row = 0;
        return 1;
    }
    if (verdict->kind == CTL_VERDICT_REJECTED) {
        /* An alloyd that does not count: what is not listed as a duplicate was accepted. */
        if (!verdict->has_counts)
            post->accepted += settled;
        post->events_max = REQUEST_EVENTS_REFUSED;
        if (verdict->rejected + verdict->invalid > verdict->count)
            ctl_post_find_unlisted(post, map, count);
    }
    return settled > 0 ? 0 : -EAGAIN;
}

/* Posts the open items from first to end, and asks until it is known what became of each. Returns 0
 * or -errno (reported). */
static int ctl_post_settle(struct ctl_post *post, size_t first, size_t end)
{
    size_t *map = calloc(end - first, sizeof(*map));
    int err = map == NULL ? -ENOMEM : 0;
    unsigned idle = 0;

    while (err == 0) {
        const unsigned wait_s = post->patience_s > WAIT_MAX_S ? WAIT_MAX_S
                                : post->patience_s > 0        ? post->patience_s
                                                              : 1;
        struct ctl_verdict verdict;
        struct slice part;
        const size_t count = ctl_post_gather(post, first, end, map, &part);
        const uint64_t before_ms = clock_real_ms();
        bool late;

        if (count == 0)
            break;
        err = ctl_post_send_part(post, part, wait_s, &verdict);
        if (err != 0)
            break;
        late = clock_real_ms() - before_ms + EARLY_MS >= wait_s * 1000;
        err = ctl_post_judge(post, &verdict, map, count);
        if (err == -EAGAIN && verdict.kind == CTL_VERDICT_REJECTED && idle >= 2)
            ctl_post_set(post, map, count, ITEM_REFUSED);
        else if (err == -EAGAIN && verdict.kind == CTL_VERDICT_PENDING && late) {
            post->patience_s -= wait_s < post->patience_s ? wait_s : post->patience_s;
            if (post->patience_s == 0)
                ctl_post_set(post, map, count, ITEM_UNKNOWN);
        } else if (err == -EAGAIN && verdict.kind == CTL_VERDICT_PENDING &&
                   (idle >= 1 || end - first < post->count)) {
            err = ctl_post_bisect(post, map, count);
            ctl_verdict_free(&verdict);
            break;
        } else if (err == -EAGAIN) {
            ctl_post_pause_ms(200);
        }
        idle = err == -EAGAIN ? idle + 1 : 0;
        err = err == -EAGAIN ? 0 : err;
        ctl_verdict_free(&verdict);
        if (err == 1)
            break;
    }
    free(map);
    return err > 0 ? 0 : err;
}

/* ---- public functions ---- */

bool ctl_post_init(struct ctl_post *post)
{
    post->events_max = REQUEST_EVENTS;
    post->http = ctl_http_create();
    post->items = calloc(REQUEST_EVENTS, sizeof(*post->items));
    return post->http != NULL && post->items != NULL;
}

void ctl_post_fini(struct ctl_post *post)
{
    ctl_http_destroy(post->http);
    free(post->url);
    free(post->body);
    free(post->part);
    free(post->items);
}

bool ctl_post_is_whole(const struct ctl_post *post, const struct letter *letter)
{
    return !post->plain && (letter->id.len > 0 || letter->columns.len > 0);
}

/* Bytes of a letter in a request, at most. */
static size_t ctl_post_len(const struct letter *letter)
{
    return sizeof("{,\"columns\":,\"event\":[]}\n") + letter->id.len + letter->columns.len +
           letter->event.len;
}

bool ctl_post_fits(const struct ctl_post *post, const struct letter *letter)
{
    return post->count < post->events_max && post->len + ctl_post_len(letter) <= REQUEST_BYTES &&
           post->whole == ctl_post_is_whole(post, letter);
}

/* Appends text to the body; returns where it begins. */
static size_t ctl_post_put(struct ctl_post *post, struct slice text)
{
    const size_t at = post->len;

    memcpy(post->body + at, text.data, text.len);
    post->len += text.len;
    return at;
}

static void ctl_post_put_text(struct ctl_post *post, const char *text)
{
    (void)ctl_post_put(post, (struct slice){text, strlen(text)});
}

/* Appends a letter as alloyd's replayed.c takes it. */
static void ctl_post_put_whole(struct ctl_post *post, struct ctl_item *item,
                               const struct letter *letter)
{
    ctl_post_put_text(post, "{");
    item->id_at = ctl_post_put(post, letter->id);
    item->id_len = letter->id.len;
    if (letter->id.len > 0)
        ctl_post_put_text(post, ",");
    if (letter->columns.len > 0) {
        ctl_post_put_text(post, "\"columns\":");
        (void)ctl_post_put(post, letter->columns);
        ctl_post_put_text(post, ",");
    }
    ctl_post_put_text(post, "\"event\":[");
    item->event_at = ctl_post_put(post, letter->event);
    ctl_post_put_text(post, "]}");
}

int ctl_post_add(struct ctl_post *post, const struct letter *letter, uint64_t line)
{
    const size_t len = ctl_post_len(letter);
    struct ctl_item *item;

    if (post->count == 0)
        post->whole = ctl_post_is_whole(post, letter);
    if (post->len + len > post->room) {
        size_t room = post->len + len;
        char *grown;

        if (room < REQUEST_BYTES + REQUEST_BYTES / 4)
            room = REQUEST_BYTES + REQUEST_BYTES / 4;
        grown = realloc(post->body, room);
        if (grown == NULL)
            return -ENOMEM;
        post->body = grown;
        post->room = room;
    }
    item = &post->items[post->count++];
    *item = (struct ctl_item){.at = post->len,
                              .event_len = letter->event.len,
                              .line = line,
                              .has_lsn = letter->has_lsn,
                              .instance_id = letter->instance_id,
                              .lsn = letter->lsn};
    if (post->whole)
        ctl_post_put_whole(post, item, letter);
    else
        item->event_at = ctl_post_put(post, letter->event);
    item->len = post->len - item->at;
    ctl_post_put_text(post, "\n");
    return 0;
}

int ctl_post_send(struct ctl_post *post)
{
    int err = 0;

    if (post->part_room < post->len) {
        char *grown = realloc(post->part, post->room);

        if (grown == NULL)
            return -ENOMEM;
        post->part = grown;
        post->part_room = post->room;
    }
    post->accepted = 0;
    if (post->count > 0)
        err = ctl_post_settle(post, 0, post->count);
    /* What was learnt before a trouble is true all the same. */
    (void)ctl_post_find_newer(post, ITEM_REFUSED);
    return err;
}

void ctl_post_clear(struct ctl_post *post)
{
    post->count = 0;
    post->len = 0;
}
