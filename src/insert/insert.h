/* SPDX-License-Identifier: Apache-2.0 */
/*
 * insert.h - the rows that go to ClickHouse under one token. Their bytes are read straight from the
 * journal; when ClickHouse refuses a row, the insert is cut into parts.
 *
 * Runs on: flusher thread.
 */
#ifndef ALLOY_INSERT_H
#define ALLOY_INSERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "alloy/base.h"
#include "alloy/segment.h"

/*
 *        +----------------- UNVERIFIED --> ENDED         in ClickHouse
 *        v                      ^  (from and to PUT_OFF too, and from FROZEN)
 *     GATHERED --> FROZEN --> SENT --> ENDED             in ClickHouse
 *        |            |      ^  |  \
 *        |            v      |  v   v
 *        |           PUT_OFF-+  |  REFUSED --> ENDED     cut: its parts live on
 *        |                      |   |  ^ |
 *        |                      |   v  | +-> SENT        once more, as it is
 *        |                      +- KEPT -+
 *        |                          |
 *        +------------------------> BURYING --> ENDED    its rows are with the burial
 *
 * PUT_OFF goes again as it is, under its token. UNVERIFIED may be in the table, which is asked:
 * before it goes again, or, once it is acknowledged, before it counts as done; then what lets it go
 * under another token is that its rows are not there. Of what is REFUSED, KEPT or BURYING
 * nothing is in the table either: that is what lets its rows go under other tokens, or to the dead
 * letters.
 */
enum insert_state {
    INSERT_GATHERED, /* rows without an insert id */
    INSERT_FROZEN,   /* has an insert id for exactly these rows */
    INSERT_SENT,
    INSERT_PUT_OFF,    /* not acknowledged */
    INSERT_REFUSED,    /* definitely, and by the table itself */
    INSERT_KEPT,       /* refused; waits for proof that its rows are at fault, or for a human */
    INSERT_BURYING,    /* refused for good */
    INSERT_UNVERIFIED, /* in doubt, or acknowledged for its token perhaps: the table is asked */
    INSERT_ENDED,
};

/* The array that an insert and the parts cut from it share; each has a range of its own. */
struct insert_rows {
    size_t refs;
    size_t capacity;
    struct record *records[];
};

struct insert {
    struct insert *next; /* for the list of whoever holds it */
    struct insert_rows *rows;
    size_t begin; /* of its range in rows */
    size_t count;
    uint64_t id;     /* 0 until drawn */
    int64_t sent_ns; /* first under this id; in an earlier life: not after this, perhaps < 0; 0:
                        never */
    uint64_t bytes;  /* of all rows, newlines included */
    size_t read_row; /* where the next insert_read() continues */
    size_t read_offset;
    enum insert_state state;
    uint16_t stream;
    uint16_t shard;
    /* Where it was sent last: in doubt, it goes there again though the stream has moved. NULL: not
     * sent in this life */
    const struct config_stream *to;
    bool stamped;      /* id is in every record */
    bool doubt;        /* may be in ClickHouse already: keeps its rows and token */
    bool acknowledged; /* UNVERIFIED: it is, though perhaps for its token alone */
    bool asked;        /* since its last try the table was asked for its token */
    bool partial;      /* other rows may bear its token too */
    /* how it is sent */
    bool async; /* fixed with the id: ClickHouse keeps tokens of async inserts and others apart */
    bool alone; /* sent again in a way that the server cannot join with others' inserts */
    bool ignore_views; /* materialized views may have refused it: sent without them */
    bool view_blamed;  /* only a view can have refused it */
    bool unhurried;    /* the server stopped it at its time limit: sent without that limit */
    /* how it is taken apart: see insert_cut() */
    bool aside;              /* taken apart beside its lane */
    bool part;               /* cut from another insert */
    bool suspect;            /* known to hold a bad row: cut it without sending it */
    bool hinted;             /* is the one row that a message named */
    bool distrust;           /* a message has named a wrong row before */
    bool alike;              /* all its rows have bad shapes */
    bool picked;             /* its rows differ from refused ones though they are alike */
    uint32_t round;          /* of apart.c's rounds the last that scored its rows */
    int promise;             /* of a picked one: the best score of its rows */
    uint8_t hints;           /* how many named rows we still cut out before halving */
    uint64_t bad_shape;      /* shape of the bad row that was cut out of it; 0: none */
    struct insert *follower; /* holds a bad row if this one does not */
    struct insert *leader;   /* the insert whose follower this is */
    /* what ClickHouse has said */
    int code;             /* of its last refusal, or of the one that it was cut for */
    uint32_t refusals;    /* definite ones in a row with that code, as far as they count */
    uint32_t tries_slow;  /* that ran out of time */
    uint32_t doublings;   /* of the time it is given */
    uint64_t refused_ns;  /* the first of the refusals, or its whole's, or, where these come and
                             go with the table, the last that counted; 0: none yet */
    uint64_t tried_ns;    /* when the last try that has an answer was begun */
    uint64_t answered_ns; /* the last answer */
    bool proven;          /* between refused_ns and the last try the table took other rows */
    bool sure;            /* KEPT for its values: at fault as soon as the table takes any row */
    bool fickle;          /* KEPT for what comes and goes with the table: see apart_review() */
    uint64_t due_ms;      /* not to be sent before */
    uint64_t reclaimed;   /* generation of its claims (reclaim.h) */
    bool asks;            /* it waits for what is known of the table */
    char *message;        /* of a row that is KEPT or BURYING; NULL: the lane's last one */
};

struct insert_list {
    struct insert *first;
    struct insert **end; /* where the next one is linked */
    size_t count;
};

/* Returns owned (insert_destroy()), GATHERED; NULL: out of memory. */
struct insert *insert_create(uint16_t stream, size_t capacity);
void insert_destroy(struct insert *insert); /* NULL is fine */
/* Appends n records of together bytes bytes. The insert must have room. */
void insert_add(struct insert *insert, struct record *const *records, size_t n, uint64_t bytes);
/* The only function that changes the state. */
void insert_move(struct insert *insert, enum insert_state to);

static inline struct record **insert_records(const struct insert *insert)
{
    return insert->rows->records + insert->begin;
}

/* Copies the next bytes of the body, at most room. Returns how many; 0 at the end. */
size_t insert_read(struct insert *insert, char *out, size_t room);
void insert_rewind(struct insert *insert);

/* Ways to cut an insert in two. */
enum insert_cut {
    INSERT_CUT_ROW,   /* the row at the index, and the others */
    INSERT_CUT_HALF,  /* the smaller half first */
    INSERT_CUT_FIRST, /* the first so many rows, and the others */
    INSERT_CUT_SHAPE, /* the rows that are not of these shapes, and those that are */
    INSERT_CUT_WHERE, /* the rows for which first() is true, and the others */
};
/* Called once for each row, in their order; row: which one it is. */
typedef bool (*insert_first_fn)(void *arg, size_t row, const struct record *record);
struct insert_cutting {
    enum insert_cut cut;
    size_t at; /* the index, or how many rows */
    const uint64_t *shapes;
    size_t shape_count;
    insert_first_fn first;
    void *arg;
    bool bad_row; /* some row is at fault: if the first part is clean, the second is suspect */
};
/*
 * Cuts an insert that is REFUSED or GATHERED and has at least two rows. On 0 takes insert and sets
 * both parts, GATHERED. Returns -ENOMEM, or -ENOENT when all rows would be in one part; then only
 * the order of insert's rows has changed.
 */
MUST_CHECK int insert_cut(struct insert *insert, const struct insert_cutting *cutting,
                          struct insert *parts[2]);
/* The insert has been answered, or is about to be cut: unlinks leader and follower. clean: all its
 * rows are good, so its follower is suspect. */
void insert_settle(struct insert *insert, bool clean);
/* Orders the rows so that those whose character in bits is '1' come first, and returns how many
 * these are. */
size_t insert_order_marked(struct insert *insert, const char *bits);
/* Of an UNVERIFIED insert all but the first so many rows are missing in the table: takes these out
 * of it, at least one is left, and makes it GATHERED. */
void insert_renew(struct insert *insert, size_t first);
/* The same of one that is not acknowledged: what is left of it goes again under its token. */
void insert_trim(struct insert *insert, size_t first);
/* The shape of the event in a record, never 0. */
uint64_t insert_row_shape(const struct record *record);

void insert_list_init(struct insert_list *list);
void insert_list_push_back(struct insert_list *list, struct insert *insert);
void insert_list_push_front(struct insert_list *list, struct insert *insert);
struct insert *insert_list_pop(struct insert_list *list); /* the list must not be empty */
/* A link of the list, its first or an insert's next: takes out the insert that it points to, or
 * puts one in there. */
struct insert *insert_list_take(struct insert_list *list, struct insert **link);
void insert_list_put(struct insert_list *list, struct insert **link, struct insert *insert);
/* Of the first `look` inserts, takes out the first that may be sent now; NULL: none. */
struct insert *insert_list_take_due(struct insert_list *list, uint64_t now_ms, size_t look);
/* Moves all of other to the end of list. */
void insert_list_append(struct insert_list *list, struct insert_list *other);
void insert_list_clear(struct insert_list *list); /* destroys them */

#endif
