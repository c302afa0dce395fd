/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_private.h - the connection, its states, and the set it belongs to.
 *
 * conn.c (sockets, time-outs) calls request.c (bytes to requests) and conn_wait.c (requests that
 * wait for ClickHouse); all three call turn.c (what is noted for the turn's end). Nobody calls
 * back: what happened is in the connection's state, or is returned.
 *
 * Runs on: the front-end thread that owns the set.
 */
#ifndef ALLOY_CONN_PRIVATE_H
#define ALLOY_CONN_PRIVATE_H

#include <sys/queue.h>

#include <event2/event_struct.h>

#include "alloy/ack.h"
#include "alloy/clock.h"
#include "conn.h"
#include "alloy/http_parse.h"
#include "alloy/json_scan.h"
#include "alloy/reply.h"
#include "alloy/waiter.h"

#define CONN_PIPELINE_MAX 64            /* answers to one connection in one turn */
#define CONN_TURN_ANSWERS_MAX 4096      /* answers of one turn */
#define CONN_TURN_BYTES_MAX (1ul << 20) /* of bodies in one turn; the last one may exceed it */
#define CONN_LARGE_MIN (256ul << 10)    /* a longer body is judged over turns */
#define CONN_NO_ANSWER UINT32_MAX

/*
 * What a connection is doing. Each request begins and ends at HEAD:
 *
 *            .--> BODY, CHUNKED ---------------.
 *   HEAD ----+--> DROP, DROP_CHUNKED ----------+--> HEAD, or CLOSING
 *            '------- refused -----------------'
 *
 * but a large body is judged over several turns first,
 *
 *   BODY, CHUNKED --> LARGE --> HEAD, HELD, or CLOSING
 *
 * and a request with ack=clickhouse takes the longer way home:
 *
 *   BODY, CHUNKED, LARGE --> HELD --> WAITING --> TOLD --> HEAD, or CLOSING
 *                             '------ refused -----------^
 *
 * and a connection ends CLOSING --> (LINGER) --> closed.
 */
enum conn_state {
    CONN_HEAD,         /* of the next request: waiting for it, or part of it is there */
    CONN_BODY,         /* its length is known */
    CONN_CHUNKED,      /* the same, chunked */
    CONN_DROP,         /* the body of a request that will be refused, length known */
    CONN_DROP_CHUNKED, /* the same, chunked */
    CONN_LARGE,        /* its body is whole, and judged piece by piece */
    CONN_HELD,    /* an answer that may have to wait is noted: nothing behind it is looked at */
    CONN_WAITING, /* for ClickHouse */
    CONN_TOLD,    /* all is known about the request that waited, or its answer is noted already */
    CONN_CLOSING, /* takes no more requests; is closed once all is sent */
    CONN_LINGER,  /* everything is said: reads and drops until the client closes */
};

enum queue_id {
    QUEUE_IDLE,
    QUEUE_HEAD,
    QUEUE_BODY,
    QUEUE_FLUSH,
    QUEUE_LINGER,
    QUEUE_WAIT, /* for ClickHouse, one second; then a queue for each second more */
    QUEUE_WAIT_LAST = QUEUE_WAIT + ACK_WAIT_MAX_S - 1,
    QUEUE_COUNT,
};

/* An answer that the parser settles alone. */
struct refusal {
    uint16_t status;
    const char *code;
    const char *message;
};

/* One answer of this turn. */
struct answer {
    struct reply reply;
    enum { ANSWER_READY, ANSWER_ADMISSION, ANSWER_LARGE, ANSWER_CONTINUE, ANSWER_WAITED } kind;
    uint32_t next;     /* of the same connection, or CONN_NO_ANSWER */
    size_t request;    /* its number in admission */
    uint64_t begun_ns; /* when the request's first byte was read */
};

/* How far the large body is whose turn it is: the first of set->large. */
enum large_step {
    LARGE_NEXT, /* nothing has been done yet */
    LARGE_SCAN,
    LARGE_COMMIT,
};

struct conn {
    struct event event; /* read; write while out is set */
    struct conn_set *set;
    TAILQ_ENTRY(conn) queued; /* in set->queues[queue] */
    uint64_t since_ms;        /* when it entered the queue */
    SLIST_ENTRY(conn) touched_next;
    STAILQ_ENTRY(conn) stalled_next;
    enum conn_state state;
    enum queue_id queue;
    bool touched;   /* in set->touched */
    bool stalled;   /* holds input that the last turn had no room for */
    bool lingering; /* the close is a lingering one */
    bool refused;   /* over max_connections, and not counted in shared->connections */
    bool spare;     /* idle when the drain began: no longer counted there either */
    struct buffer buffer;
    /* the request being read */
    bool keep_alive;
    bool old;  /* HTTP/1.0 */
    bool late; /* its first byte came after the drain began */
    uint16_t stream;
    struct ack ack;
    uint64_t begun_ns; /* 0: not one byte of it is there */
    size_t scanned;    /* of its head, by http_parse_head() */
    size_t head_len;
    uint64_t body_len; /* length known: of the body; dropping: still to come or dropped so far */
    struct http_chunked chunked;
    struct slice large;   /* in the state LARGE: the body, which does not move */
    size_t large_end;     /* and where its request ends in the buffer */
    struct reply refusal; /* what a dropped request will be answered */
    /* A request with ack=clickhouse is the last one looked at until it is answered. */
    struct waiter *waiter; /* in the states WAITING and TOLD */
    bool listed;           /* in set->waited */
    bool edge;             /* its socket is watched for a reset alone */
    TAILQ_ENTRY(conn) waited_next;
    uint64_t wait_begun_ns;
    uint32_t wait_accepted, wait_duplicates;
    /* answers noted in this turn */
    uint32_t first, last;
    uint32_t answer_count;
    /* bytes that the socket did not take */
    char *out;
    size_t out_len, out_sent;
    uint64_t linger_begun_ms; /* in the state LINGER */
};

TAILQ_HEAD(conn_queue, conn);

struct conn_set {
    struct conn_parts parts;
    /* constant */
    size_t head_max, body_max;
    struct buffer_pool pool;
    struct conn_queue queues[QUEUE_COUNT];
    SLIST_HEAD(, conn) touched; /* to be settled at the turn's end */
    STAILQ_HEAD(, conn) stalled;
    STAILQ_HEAD(, conn) large; /* in the state LARGE; they count as stalled */
    enum large_step large_step;
    struct json_scan large_scan;
    struct admission_result large_result; /* of the one answered in this turn */
    struct conn_queue waited;             /* can be answered as soon as a turn has room */
    size_t waiting_count;                 /* connections with a waiter */
    bool draining;
    /* this turn */
    uint64_t turn_ns; /* when its first callback ran; 0: none yet */
    size_t turn_bytes;
    uint32_t answer_count;
    struct reply_date date;
    struct json_scan scan;
    struct answer answers[CONN_TURN_ANSWERS_MAX];
    char scratch[CONN_PIPELINE_MAX * REPLY_MAX];
};

/* When this turn's first callback ran. */
static inline uint64_t conn_turn_ns(struct conn_set *set)
{
    if (set->turn_ns == 0)
        set->turn_ns = clock_mono_ns();
    return set->turn_ns;
}

/* True when no further request of the connection can be looked at in this turn. */
static inline bool conn_turn_is_full(const struct conn *conn)
{
    const struct conn_set *set = conn->set;

    /* A request takes up to two answers: 100 Continue and its own. */
    return conn->answer_count + 2 > CONN_PIPELINE_MAX ||
           set->answer_count + 2 > CONN_TURN_ANSWERS_MAX || set->turn_bytes >= CONN_TURN_BYTES_MAX;
}

/* The states that may follow each state: the diagram above enum conn_state. */
#define CONN_TO(state) (1u << (state))
static const unsigned conn_moves[] = {
    [CONN_HEAD] = CONN_TO(CONN_BODY) | CONN_TO(CONN_CHUNKED) | CONN_TO(CONN_DROP) |
                  CONN_TO(CONN_DROP_CHUNKED) | CONN_TO(CONN_CLOSING),
    [CONN_BODY] =
        CONN_TO(CONN_HEAD) | CONN_TO(CONN_LARGE) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_LARGE] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_CHUNKED] =
        CONN_TO(CONN_HEAD) | CONN_TO(CONN_LARGE) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_DROP] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_DROP_CHUNKED] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_HELD] = CONN_TO(CONN_WAITING) | CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_WAITING] = CONN_TO(CONN_TOLD),
    [CONN_TOLD] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_CLOSING] = CONN_TO(CONN_LINGER),
    [CONN_LINGER] = 0,
};

/* The one place where a connection's state changes. What must be true in the new state is true
 * before the call. */
static inline void conn_move(struct conn *conn, enum conn_state next)
{
    ALLOY_ASSERT(conn_moves[conn->state] & CONN_TO(next));
    ALLOY_ASSERT((conn->waiter != NULL) == (next == CONN_WAITING || next == CONN_TOLD));
    ALLOY_ASSERT(next != CONN_LINGER || (!conn->out && !conn->buffer.data));
    conn->state = next;
}

/* turn.c */

/* Moves the connection to the end of a queue, where its time begins anew. */
void turn_enqueue(struct conn *conn, enum queue_id queue);
/* Has the connection settled at the turn's end. */
void turn_touch(struct conn *conn);
/* Notes an answer: the turn has room for it. */
struct answer *turn_answer(struct conn *conn);

/* request.c */

/* Takes what the buffer holds as far as it goes and the turn has room: notes answers, hands events
 * to admission. The connection is settled at the turn's end. */
void request_advance(struct conn *conn);
/* Takes the large body whose turn it is one step further; its connection is settled at the turn's
 * end once it is judged. */
void request_advance_large(struct conn_set *set);
/* Brings a commit that has begun to its end. Nobody is told. */
void request_finish_large(struct conn_set *set);
/* The connection's last answer is on its way: it takes the next request, or is closed. */
void request_leave(struct conn *conn);
/* Notes an answer, after which the connection is closed: what the client sends from here on is not
 * looked at. Needs room in the turn. */
void request_refuse(struct conn *conn, const struct refusal *refusal);
/* The part of an answer that says refusal. */
struct reply request_reply(const struct conn *conn, const struct refusal *refusal);

/* conn_wait.c */

/* The connection's last answer waits from now on. Takes waiter. */
void conn_wait_begin(struct conn *conn, const struct answer *answer, struct waiter *waiter);
/* Decides what a waiting connection waits for after its other answers are on their way. */
void conn_wait_settle(struct conn *conn);
/* Something has happened on the socket of a waiting connection: whether its client is still there.
 */
bool conn_wait_client_lives(const struct conn *conn);
/* Notes the answers of requests about which all is known, as far as the turn has room. */
void conn_wait_collect(struct conn_set *set);
/* Notes the answer of a request with what is known now. */
void conn_wait_expire(struct conn *conn);
/* Ends the waiting: puts what is known into the reply, whose rejections are lent until
 * conn_wait_drop(). */
void conn_wait_resolve(struct conn *conn, struct reply *reply);
/* Forgets the waiting request, if there is one. */
void conn_wait_drop(struct conn *conn);

#endif
