/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_post.h - posts the events of letters to alloyd in one request, and learns what became of
 * each.
 *
 * Runs on: main thread.
 */
#ifndef ALLOY_CTL_POST_H
#define ALLOY_CTL_POST_H

#include <stdbool.h>
#include <stdint.h>

#include "ctl.h"
#include "ctl_http.h"
#include "alloy/voucher.h"

/* What is known of a posted letter. */
enum ctl_item_state {
    ITEM_OPEN,
    ITEM_IN,      /* in ClickHouse */
    ITEM_REFUSED, /* by ClickHouse, again */
    ITEM_RENEWED, /* the same, and a newer letter in the folder has it */
    ITEM_INVALID, /* alloyd does not take it */
    ITEM_UNKNOWN, /* nobody knows yet */
};

/* A letter of the request. */
struct ctl_item {
    size_t at, len; /* of what is posted of it, in the body */
    size_t event_at, event_len;
    size_t id_at, id_len; /* with its name; 0: none is posted */
    uint64_t line;
    enum ctl_item_state state;
    bool has_lsn;
    uint64_t instance_id, lsn;
    int code; /* of a refusal */
    char message[CTL_LINE_MAX + 1];
};

/* A request, and what goes on from one to the next. */
struct ctl_post {
    const char *dir;  /* folder where newer letters may be */
    const char *name; /* of the file that is posted, for messages */
    const char *key;  /* ""; none */
    bool has_path;    /* the user has chosen path, or key: then we do not propose it */
    bool has_key;
    bool plain;                    /* letters are posted as a client would */
    struct voucher_key replay_key; /* of letters that are posted whole */
    int replay_key_err;            /* why there is none; 0: there is one */
    bool whole;                    /* the request holds letters, with id and columns, and not their
                                      events alone */
    uint64_t started_ms;           /* real time: a newer letter is not older */
    unsigned patience_s;           /* how long we still wait for verdicts that do not come */
    size_t events_max;             /* of a request */
    bool answered;                 /* there was an answer once: so the address is right */
    uint64_t accepted;             /* of the request, by alloyd */
    size_t unknown_in_row;         /* single events of which nobody knows */
    struct ctl_http *http;         /* owned, as all that follows */
    char *url;
    char *body;
    size_t len, room; /* of body */
    char *part;       /* what of body is sent now */
    size_t part_room;
    struct ctl_item *items;
    size_t count; /* of items */
    struct ctl_http_answer answer;
};

/* Fill in the fields up to started_ms and patience_s, then call this. False: out of memory, and
 * ctl_post_fini() is to be called all the same. */
bool ctl_post_init(struct ctl_post *post);
void ctl_post_fini(struct ctl_post *post);
/* Whether a letter is posted whole, since its id or columns came with its request. */
bool ctl_post_is_whole(const struct ctl_post *post, const struct letter *letter);
/* True when the request has room for a letter, and holds others like it. */
bool ctl_post_fits(const struct ctl_post *post, const struct letter *letter);
/* Returns 0 or -ENOMEM. */
MUST_CHECK int ctl_post_add(struct ctl_post *post, const struct letter *letter, uint64_t line);
/* Posts the request, and asks until it is known what became of each event, as far as anybody knows.
 * Returns 0 or -errno (reported, or -ENOMEM); items tell what is known in either case. */
MUST_CHECK int ctl_post_send(struct ctl_post *post);
/* Empties the request. */
void ctl_post_clear(struct ctl_post *post);

#endif
