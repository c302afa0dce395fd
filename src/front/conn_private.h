/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_private.h - the connection, its states, and the set it belongs to.
 *
 * conn.c (sockets, time-outs) calls greeting.c (what comes before HTTP), request.c (bytes to
 * requests), judge.c (bodies to events) and conn_wait.c (requests that wait for ClickHouse);
 * greeting.c calls request.c, and that judge.c; all of them call turn.c (what is noted for the
 * turn's end), and conn.c calls account.c (what was answered) and conn_pass.c (away to another
 * set); conn_leave.c (the end) calls conn.c, and conn_take.c (in from another set) both of them. No
 * call goes the other way: the connection's state, or the result, says what happened.
 *
 * Runs on: the front-end thread that owns the set.
 */
#ifndef ALLOY_CONN_PRIVATE_H
#define ALLOY_CONN_PRIVATE_H

#include <sys/queue.h>

#include <event2/event_struct.h>

#include "alloy/ack.h"
#include "alloy/address.h"
#include "alloy/clock.h"
#include "conn.h"
#include "decode.h"
#include "alloy/head_memo.h"
#include "alloy/http_chunked.h"
#include "alloy/http_parse.h"
#include "alloy/json_scan.h"
#include "alloy/records.h"
#include "alloy/reply.h"
#include "alloy/waiter.h"

#define CONN_PIPELINE_MAX 64            /* answers to one connection in one turn */
#define CONN_TURN_ANSWERS_MAX 4096      /* answers of one turn */
#define CONN_TURN_BYTES_MAX (1ul << 20) /* of bodies in one turn; the last one may exceed it */
#define CONN_LARGE_MIN (256ul << 10)    /* a longer body is judged over several turns */
#define CONN_CODED_COST 8               /* a byte of a compressed body counts as so many */
#define CONN_BLOCK_MIN (16ul << 10)     /* receive block */
#define CONN_RECORD_BYTES (17ul << 10)  /* a buffer with part of a TLS record */
#define CONN_NO_ANSWER UINT32_MAX
#define CONN_IDLE_LEAVING_MS 1000 /* server.idle_timeout once the set hastens */

/*
 * What a connection is doing. With server.proxy_protocol it begins by telling whose it is, and on a
 * port that speaks TLS it becomes a TLS connection, before the first byte of HTTP:
 *
 *   PROXY --> HEAD, or CLOSING
 *   HEAD --> HANDSHAKE --> HEAD, or CLOSING
 *
 * Each request begins and ends at HEAD:
 *
 *            .--> BODY, CHUNKED ---------------.
 *   HEAD ----+--> DROP, DROP_CHUNKED ----------+--> HEAD, or CLOSING
 *            '------- refused -----------------'
 *
 * but a large body is judged over several turns first,
 *
 *   BODY, CHUNKED --> LARGE --> HEAD, HELD, or CLOSING
 *
 * and a request with ack=clickhouse takes a longer way:
 *
 *   BODY, CHUNKED, LARGE --> HELD --> WAITING --> TOLD --> HEAD, or CLOSING
 *                             '------ refused -----------^
 *
 * and a connection ends CLOSING --> (LINGER) --> closed.
 */
enum conn_state {
    CONN_PROXY,        /* waits for the header of the PROXY protocol, or has part of it */
    CONN_HEAD,         /* waits for the next request's head, or has part of it */
    CONN_BODY,         /* receives a body whose length is known */
    CONN_CHUNKED,      /* the same, chunked */
    CONN_DROP,         /* drops the body of a request that will be refused, length known */
    CONN_DROP_CHUNKED, /* the same, chunked */
    CONN_LARGE,        /* has a whole body that is judged piece by piece */
    CONN_HELD,    /* has noted an answer that may have to wait, and looks at nothing behind it */
    CONN_WAITING, /* waits for ClickHouse to have its events */
    CONN_TOLD,    /* the result of the request that waited is known, or its answer already noted */
    CONN_CLOSING, /* takes no more requests; closes once all is sent */
    CONN_LINGER,  /* has sent everything: reads and drops until the client closes */
    CONN_HANDSHAKE, /* becomes a TLS connection */
};

enum queue_id {
    QUEUE_GREETING, /* in state PROXY */
    QUEUE_IDLE,
    QUEUE_HEAD,
    QUEUE_BODY,
    QUEUE_FLUSH,
    QUEUE_LINGER,
    QUEUE_PAUSE, /* is not read: it sends more than it may */
    QUEUE_HANDSHAKE,
    QUEUE_WAIT, /* for ClickHouse, one second; then a queue for each second more */
    QUEUE_WAIT_LAST = QUEUE_WAIT + ACK_WAIT_MAX_S - 1,
    QUEUE_COUNT,
};

/* A request refused for its form, before admission sees it. */
struct refusal {
    enum error_code error;
    const char *message;
};

/* One answer of this turn. */
struct answer {
    struct reply reply;
    enum { ANSWER_READY, ANSWER_ADMISSION, ANSWER_LARGE, ANSWER_CONTINUE, ANSWER_WAITED } kind;
    uint32_t next;   /* of the same connection, or CONN_NO_ANSWER */
    size_t request;  /* its number in admission */
    uint16_t stream; /* METRIC_STREAM_NONE: its request names none */
    /* Where its request line begins: in the buffer until the turn's end, or copied; both NULL: it
     * is not known. */
    const char *line;
    char *line_copy;
    size_t bytes;                    /* of its body, as it came */
    uint64_t begun_ns;               /* when the request's first byte was read */
    const struct key *key;           /* that its request came with, or NULL */
    struct reply_mismatch *mismatch; /* that the reply borrows; owned, until it is written */
    /* what entry_take() has taken for it: with its key, from these buckets of its address, or NULL;
     * this many events */
    struct quota_buckets *buckets;
    uint32_t metered_events;
    size_t scanned;        /* bytes of its body, where events are metered */
    bool forwarded;        /* client has the address of whom it goes to */
    struct address client; /* as in struct conn */
};

/* A body on its way through the scanner. */
struct judging {
    struct json_scan scan;
    struct slice headers[JSON_SCAN_SOURCES_MAX]; /* of the request, for its events' ids */
    /* Those that were decoded; one byte more than an id may have, so that it is seen as too long.
     */
    char decoded[JSON_SCAN_SOURCES_MAX][EVENT_ID_PART_MAX + 1];
    /* What columns take from the object around the events, which began at this place of the body
     * when it was looked for. */
    struct slice members[CONFIG_COLUMNS_MAX];
    size_t members_of;
    const struct refusal *refusal; /* of one of these objects, and of the request; NULL: none */
    /* What its events are put beside; NULL: nothing is known. A large body holds its own. */
    struct schema *schema;
    struct reply_mismatch *mismatch; /* of the event that was refused last; owned; may be NULL */
};

/* How far we are with the first of set->large, the one large body that is being judged. */
enum large_step {
    LARGE_NEXT,   /* nothing has been done yet */
    LARGE_DECODE, /* it has a coding */
    LARGE_SCAN,
    LARGE_COMMIT,
};

/* Thousands of them may be idle: what only few need, or one at a time, is put apart or shares its
 * place, and small fields lie together. An idle connection has nothing else (but its event in
 * libevent, 40 bytes, and what OpenSSL keeps). */
struct conn {
    struct event event; /* read; write while out or wants_write is set */
    struct conn_set *set;
    TAILQ_ENTRY(conn) queued; /* in set->queues[queue] */
    uint64_t since_ms;        /* when it entered the queue */
    SLIST_ENTRY(conn) touched_next;
    STAILQ_ENTRY(conn) stalled_next;
    struct ssl_st *tls;              /* NULL: plain, or it has records */
    struct conn_records *records;    /* TLS without OpenSSL (conn_records.c) */
    struct records_secrets *secrets; /* while its handshake goes on; may be NULL; owned */
    TAILQ_ENTRY(conn) unread_next;
    uint32_t tls_charged; /* of the budget, for buffers of OpenSSL's */
    uint8_t recvs_left;   /* until this read has had its share of the socket's bytes */
    bool shaking;         /* counted in shared->handshakes */
    bool speaks_tls;      /* its port does */
    bool unread;          /* OpenSSL may hold bytes for it, of which no event will tell */
    bool reading;         /* in set->unread */
    bool wants_write; /* what OpenSSL has to send before it reads on did not fit into the socket */
    bool broken;      /* TLS has failed: nothing more can be sent */
    enum conn_state state : 8;
    enum queue_id queue : 8;
    bool touched;        /* in set->touched */
    bool stalled;        /* holds input that the last turn had no room for */
    bool lingering;      /* its close will be a lingering one */
    bool refused;        /* beyond max_connections, and not counted in shared->connections */
    bool spare;          /* was idle when the drain began, and is no longer counted there either */
    bool elder;          /* was there when the set began to hasten; counted in shared->elders */
    struct address peer; /* of the socket, or what the PROXY header says */
    /* the request being read */
    bool forwarded;        /* it came by a trusted proxy, and client has its address */
    struct address client; /* for conn_address() */
    bool keep_alive;
    bool old;               /* HTTP/1.0 */
    bool late;              /* its first byte came after the drain began */
    bool head_only;         /* its answer has no body: HEAD */
    bool has_line;          /* its line is known, and the buffer begins with it */
    bool key_awaited;       /* its head has no key that is known; its body may have one */
    bool replayed;          /* its voucher is good: its body is letters (replayed.c) */
    bool metered;           /* its events are counted, and may be limited */
    bool throttled;         /* is told 429 too often, and nobody else comes by it */
    bool several_keys;      /* other requests came with others: somebody's proxy */
    bool lenient;           /* its good events are taken though others are bad */
    bool listed;            /* in set->waited */
    bool edge;              /* its socket is watched only for a reset */
    uint8_t blocks;         /* that the last request filled; 0: there was none */
    uint8_t window;         /* of its set when it was last answered; 0: never */
    enum coding coding : 8; /* of its body */
    uint16_t stream;        /* METRIC_STREAM_NONE: none, or it is not known yet */
    uint16_t retry_s;       /* Retry-After of the 429 that is in hand */
    struct ack ack;
    struct buffer buffer;
    const struct route *route; /* of that stream, as it was when the head came */
    char *line_copy;           /* while its body is dropped: its line up to the target; owned */
    struct reply *dropped;     /* likewise: the answer; owned */
    size_t bytes;              /* of its body, as it came; 0: it is not whole yet */
    struct cors *cors;         /* of the page that sent it; NULL: none; until it is answered */
    const struct key *key; /* that it came with; NULL: none is asked for. Lives as the process */
    const struct key *first_key;   /* that a request of this connection came with; NULL: none has */
    struct quota_buckets *buckets; /* that its events were taken from; NULL: from none */
    struct reply_errors *errors;   /* of a lenient one, until it is answered; NULL: none yet */
    uint64_t begun_ns;             /* 0: not one byte of it has arrived */
    size_t scanned;                /* of its head; for http_parse_head() */
    size_t head_len;
    uint64_t body_len; /* length known: of the body; dropping: still to come or dropped so far */
    struct waiter *waiter; /* in states WAITING and TOLD: we look at no later request */
    union {
        struct http_chunked chunked; /* in states CHUNKED and DROP_CHUNKED */
        struct {                     /* in state LARGE */
            struct slice large;      /* the body, which must not move */
            size_t large_end;        /* where its request ends in the buffer */
        };
        struct { /* in states HELD, WAITING and TOLD */
            TAILQ_ENTRY(conn) waited_next;
            uint64_t wait_begun_ns;
            uint32_t wait_accepted, wait_duplicates;
        };
        uint64_t linger_begun_ms; /* in state LINGER */
    };
    /* answers noted in this turn */
    uint32_t first, last;
    uint32_t answer_count;
    /* bytes that the socket did not take */
    uint32_t out_len, out_sent;
    char *out;
};

TAILQ_HEAD(conn_queue, conn);

struct conn_set {
    struct conn_parts parts;
    /* constant */
    size_t head_max, body_max;
    struct buffer_pool pool;
    struct bio_method_st *bio_method; /* of conn_io.c */
    struct decode decode;
    struct conn_queue queues[QUEUE_COUNT];
    SLIST_HEAD(, conn) touched; /* to be dealt with at the turn's end */
    STAILQ_HEAD(, conn) stalled;
    struct conn_queue unread;  /* to be read again, without an event */
    STAILQ_HEAD(, conn) large; /* in state LARGE; they count as stalled */
    enum large_step large_step;
    struct judging large_judging;
    struct admission_result large_result; /* of the one answered in this turn */
    struct conn_queue waited;             /* can be answered as soon as a turn has room */
    size_t waiting_count;                 /* connections with a waiter */
    size_t open_count;                    /* that are not refused */
    uint32_t spread;                      /* of Retry-After */
    bool leaving;                         /* each answer is its connection's last */
    bool hastening;                       /* idle connections are closed soon */
    bool draining;                        /* a request that begins now is refused */
    uint64_t trimmed_ms;                  /* when unused blocks were last freed */
    struct conn_inbox *pass_to;           /* takes pass_count more of our connections */
    size_t pass_count;
    size_t active;       /* connections that were answered in this window */
    uint8_t window;      /* a number from 1 on; begins with conn_activity_take() */
    bool window_large;   /* large bodies were judged in it */
    bool window_shed;    /* events were refused in it, as the ring was full */
    unsigned heap_trims; /* for heap_follow() */
    /* this turn */
    uint64_t turn_ns; /* when its first callback ran; 0: none yet */
    size_t turn_bytes;
    uint64_t handshake_ns; /* that handshakes have taken */
    uint32_t answer_count;
    struct reply_date date;
    struct head_memo heads;
    struct keys_cache *keys_cache;
    struct judging judging;
    struct mismatch_set *mismatch;
    char columns[60ul << 10]; /* columns.c */
    struct answer answers[CONN_TURN_ANSWERS_MAX];
    char scratch[CONN_PIPELINE_MAX * REPLY_MAX + REPLY_REJECTED_MAX];
    /* conn_records.c: during one read; during one send */
    char raw[4 * RECORDS_RAW_MAX];
    char sealed[RECORDS_PLAIN_MAX + RECORDS_ROOM];
};

/* When this turn's first callback ran. */
static inline uint64_t conn_turn_ns(struct conn_set *set)
{
    if (set->turn_ns == 0)
        set->turn_ns = clock_mono_ns();
    return set->turn_ns;
}

/* True when this turn has no room for a further request of the connection. */
static inline bool conn_turn_is_full(const struct conn *conn)
{
    const struct conn_set *set = conn->set;

    /* A request takes up to two answers: 100 Continue and its own. */
    return conn->answer_count + 2 > CONN_PIPELINE_MAX ||
           set->answer_count + 2 > CONN_TURN_ANSWERS_MAX || set->turn_bytes >= CONN_TURN_BYTES_MAX;
}

/* What there is to know about the stream of the request being read. */
static inline const struct route *conn_route(const struct conn *conn)
{
    return conn->route;
}

/* The states that may follow each state: the diagram above enum conn_state. */
#define CONN_TO(state) (1u << (state))
static const unsigned conn_moves[] = {
    [CONN_PROXY] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_HEAD] = CONN_TO(CONN_BODY) | CONN_TO(CONN_CHUNKED) | CONN_TO(CONN_DROP) |
                  CONN_TO(CONN_DROP_CHUNKED) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING) |
                  CONN_TO(CONN_HANDSHAKE),
    [CONN_BODY] =
        CONN_TO(CONN_HEAD) | CONN_TO(CONN_LARGE) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_LARGE] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_CHUNKED] =
        CONN_TO(CONN_HEAD) | CONN_TO(CONN_LARGE) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_DROP] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_DROP_CHUNKED] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_HELD) | CONN_TO(CONN_CLOSING),
    [CONN_HELD] = CONN_TO(CONN_WAITING) | CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_WAITING] = CONN_TO(CONN_TOLD),
    [CONN_TOLD] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
    [CONN_CLOSING] = CONN_TO(CONN_LINGER),
    [CONN_LINGER] = 0,
    [CONN_HANDSHAKE] = CONN_TO(CONN_HEAD) | CONN_TO(CONN_CLOSING),
};

/* The one place where a connection's state changes. Make true before the call what must be true in
 * the new state. */
static inline void conn_move(struct conn *conn, enum conn_state next)
{
    ALLOY_ASSERT(conn_moves[conn->state] & CONN_TO(next));
    ALLOY_ASSERT((conn->waiter != NULL) == (next == CONN_WAITING || next == CONN_TOLD));
    ALLOY_ASSERT(next != CONN_LINGER ||
                 (!conn->out && !conn->buffer.data && !conn->tls && !conn->records));
    ALLOY_ASSERT(next != CONN_HANDSHAKE || (!conn->tls && !conn->records && conn->begun_ns == 0));
    /* What came before HTTP is consumed to its last byte, and none of HTTP is. */
    ALLOY_ASSERT(conn->state != CONN_PROXY || next == CONN_CLOSING ||
                 buffer_len(&conn->buffer) == 0);
    conn->state = next;
}

/* conn.c, for conn_leave.c and conn_take.c */

enum read_result {
    READ_NOTHING, /* nothing has arrived */
    READ_SOME,    /* something has, and was dealt with; the connection may be gone */
};

/* Reads once, and takes every whole request. */
enum read_result conn_read_some(struct conn *conn);
/* Not while it is touched or stalled. */
void conn_close(struct conn *conn);
/* Watches a socket that its set does not watch yet, for input. False: that failed. */
bool conn_watch_first(struct conn *conn, int fd);

/* conn_leave.c */

/* Another set has passed it on: treats it as those that were there when this set began to leave. It
 * may be gone then. */
void conn_leave_passed(struct conn *conn);

/* conn_pass.c */

/* The connection is among those that send. Its set may pass it on: then it is no longer ours. */
void conn_note_active(struct conn *conn);
/* Returns owned, the one that came last first. */
struct conn *conn_inbox_take(struct conn_inbox *inbox);

/* conn_io.c */

enum conn_io_result {
    CONN_IO_DONE,   /* the handshake is complete */
    CONN_IO_AGAIN,  /* it goes on when the socket is readable; if wants_write is set, writable */
    CONN_IO_PLAIN,  /* the client speaks plain HTTP; nothing is read */
    CONN_IO_FAILED, /* the client may have been told why */
    CONN_IO_GONE,   /* it has closed without a byte */
};

/* What the set's TLS connections are made with. Returns owned (conn_io_method_destroy()); NULL: out
 * of memory. */
struct bio_method_st *conn_io_method_create(void);
void conn_io_method_destroy(struct bio_method_st *method); /* NULL is fine */

/* One step of a connection in state HANDSHAKE: what the bytes that are there allow. */
enum conn_io_result conn_io_handshake(struct conn *conn);
/* As read(2) and send(2) without SIGPIPE; a TLS connection that waits for the socket has EAGAIN,
 * and EPIPE or ECONNRESET when it has failed. What send did not take must be offered again
 * unchanged. Sets unread, and wants_write after EAGAIN of read. */
ssize_t conn_io_read(struct conn *conn, char *data, size_t size);
ssize_t conn_io_send(struct conn *conn, const char *data, size_t size);
/* Whether something has come that is not read yet. */
bool conn_io_has_more(const struct conn *conn);
/* Says, where that can be said, that nothing more will be sent; from now on the socket is bare. */
void conn_io_finish(struct conn *conn);

/* conn_records.c */

/* Goes on with records, which it takes, in OpenSSL's place. False: out of memory. */
bool conn_records_begin(struct conn *conn, struct records *records);
/* As conn_io_read() and conn_io_send(), for a connection that has records. */
ssize_t conn_records_read(struct conn *conn, char *data, size_t size);
ssize_t conn_records_send(struct conn *conn, const char *data, size_t size);
/* Says that nothing more will be sent, where that can be said, and forgets the records. Does not
 * need a set. */
void conn_records_finish(struct conn *conn);
/* Charges bytes of TLS's buffers for the connection in place of what it was charged. False: there
 * is no room. */
bool conn_records_charge(struct conn *conn, size_t bytes);

/* conn_room.c */

/* Sets how large heads and bodies may be, and makes the pool of their buffers. */
void conn_room_init(struct conn_set *set);
/* Makes room for a read. The buffer may move: the connection has no answer noted, so nobody borrows
 * slices of it. False: there is no memory left. */
bool conn_room_make(struct conn *conn);
/* A whole request had so many bytes: most clients go on with such. */
void conn_room_note(struct conn *conn, size_t bytes);

/* turn.c */

/* Makes the set's lists, all empty. */
void turn_init(struct conn_set *set);
/* Moves the connection to the end of a queue and restarts its time. */
void turn_enqueue(struct conn *conn, enum queue_id queue);
/* Puts the connection on the list for the turn's end. */
void turn_touch(struct conn *conn);
/* Notes an answer. The caller has seen that the turn has room. */
struct answer *turn_answer(struct conn *conn);
/* The value of Retry-After; 0: that of the status. Those who are refused in an overload come back
 * after 1 to 3 s, and not all in one moment. */
uint16_t turn_retry_s(const struct conn *conn, enum error_code error);
/* The answer that says refusal. */
struct reply turn_reply(const struct conn *conn, const struct refusal *refusal);
/* What admission has against a request; NULL: nothing. */
const struct refusal *turn_refusal(enum admission_verdict verdict);
/* Ends the request being read; what follows in the buffer is the next one. */
void turn_end_request(struct conn *conn);
/* The connection's last answer is on its way: takes the next request, or closes. */
void turn_leave_request(struct conn *conn);

/* columns.c */

#define COLUMNS_VALUE_MAX 512 /* bytes of a value; of a longer one the rest is cut off */
/* Bytes of a JSON value from around the events, which cannot be cut. */
#define COLUMNS_MEMBER_MAX (6 * COLUMNS_VALUE_MAX)
#define CONN_COLUMNS_MAX (60ul << 10)

/* Returns, lent until the next call of the set, the members that the request fills in its events,
 * but for those of the columns whose bits are set; the request's head is at the buffer's begin.
 * members: what stands around the events (struct judging). */
struct slice columns_write(struct conn *conn, const struct slice *members, uint32_t but);

/* replayed.c */

/* Judges the voucher of a request. Returns NULL, or what is wrong; own: room for that. */
const struct refusal *replayed_check(struct conn *conn, const struct http_request *request,
                                     struct refusal *own);
/* Whether the voucher is about this body; the buffer begins with the head. The same. */
const struct refusal *replayed_check_body(const struct conn *conn, struct slice body);
/* Hands the event of a letter to admission with what stands beside it. Sets judging->refusal where
 * something is wrong with that. */
void replayed_add(struct conn *conn, struct judging *judging, struct admission *admission,
                  const struct json_scan_event *scanned);

/* preflight.c */

/* Notes the origin of a request whose head the buffer begins with, where pages may send events. */
void preflight_note_origin(struct conn *conn, const struct http_request *request);
/* The same of a head that is refused as it cannot be read, or has not arrived: its whole lines are
 * looked at, so that the page learns why. */
void preflight_note_unread(struct conn *conn);
#define PREFLIGHT_HEALTH_METHODS "GET, HEAD, OPTIONS"
/* Whether a request's path is one that balancers ask, and takes no events. */
bool preflight_is_health(const struct http_request *request);
/* The request is answered: its origin no longer matters. */
void preflight_forget(struct conn *conn);
/* True when the head alone answers the request, as reply then says. stream: its path is a stream's.
 */
bool preflight_answers(struct conn *conn, const struct http_request *request, bool stream,
                       struct reply *reply);

/* judge.c */

/* A body is whole: judges it and ends its request, or leaves a large one to the next turns. The
 * request ends at next. */
void judge_body(struct conn *conn, struct slice body, size_t next);
/* Judges the first large body one step further. Returns its connection once it is judged: what
 * follows in the buffer has to be looked at; else NULL. */
struct conn *judge_advance_large(struct conn_set *set);
/* Completes a commit that has begun, without an answer: its client is gone, but its room is
 * reserved. */
void judge_finish_large(struct conn_set *set);
/* Forgets what was at fault in a lenient request. */
void judge_drop_errors(struct conn *conn);
/* An answer is written: forgets what it said of events at fault. */
void judge_forget(struct conn *conn, struct answer *answer);
/* Fills what a success says beside its counts; of the request that was judged last. */
void judge_tell_success(const struct conn *conn, struct reply *reply);

/* mismatch.c */

struct mismatch_set *mismatch_create(void); /* returns owned; NULL: out of memory */
void mismatch_destroy(struct conn_set *set);
/* A body's events are to be put beside their table. Sets judging->schema, if that is known. */
void mismatch_begin(struct conn *conn, struct judging *judging);
/* The large body is judged, or its client is gone. */
void mismatch_end_large(struct conn_set *set);
/* Puts an event beside judging->schema, which is known. Returns JSON_SCAN_EVENT, or
 * JSON_SCAN_MISMATCH for one that is to be refused. */
enum json_scan_result mismatch_check(struct conn *conn, struct judging *judging,
                                     const struct json_scan_event *event);

/* request.c */

/* Parses what the buffer holds, as far as the turn has room: notes answers, hands events to
 * admission. The turn's end does the rest. */
void request_advance(struct conn *conn);
/* Notes an answer and then closes the connection; ignores whatever else the client sends. Needs
 * room in the turn. */
void request_refuse(struct conn *conn, const struct refusal *refusal);

/* account.c */

/* Counts an answer that is on its way, and tells of it. */
void account_answer(struct conn *conn, struct answer *answer, uint64_t now_ns);
/* The same for the reply to a connection that has no place. */
void account_connection(struct conn *conn, const struct reply *reply);

/* greeting.c */

enum greeting_result {
    GREETING_MORE,    /* not all of it has arrived */
    GREETING_OVER,    /* HTTP comes next */
    GREETING_REFUSED, /* an answer is noted */
    GREETING_GONE,    /* the client has closed, or the connection is broken */
};

/* Takes what has arrived of what a connection says before HTTP, and not a byte behind it. Needs
 * room in the turn. */
enum greeting_result greeting_read(struct conn *conn);
/* The time for it is up. Returns REFUSED, or GONE for a client that has said nothing. Needs room in
 * the turn. */
enum greeting_result greeting_time_out(struct conn *conn);

/* conn_address.c */

/* The client's address, of the request being read or the last one; no IP address on a unix socket.
 * Lent until the next request. */
const struct address *conn_address(const struct conn *conn);
/* The head of a request is there: takes its client's address from it if the peer is trusted. */
void conn_address_note(struct conn *conn, const struct networks *trusted,
                       const struct http_request *request);

/* entry.c */

/* Judges whether a request, of which the whole head is there, may send to conn->stream. Sets
 * conn->key, conn->key_awaited and conn->metered. Returns NULL, or what is wrong. */
const struct refusal *entry_check(struct conn *conn, const struct http_request *request);
/* conn->key_awaited is set: looks for the key in the request's body. Returns the same. */
const struct refusal *entry_check_body(struct conn *conn, struct slice body);
/* The request's body holds n events, and conn->metered is set: counts them, and takes them from
 * what its key and address may send. Returns NULL, or what is wrong; then nothing was taken, and
 * the events count as rejected. */
const struct refusal *entry_take(struct conn *conn, uint32_t n);
/* Admission has refused the request of this answer: gives back what was taken for it. vain: by the
 * client's fault, as entry_charge(). */
void entry_give(const struct conn *conn, const struct answer *answer, bool vain);
/* Whether a body of so many bytes is worth its scan; conn->metered is set, and the key known. Small
 * ones are. Returns NULL, or why it is refused: its sender owes for others. */
const struct refusal *entry_check_debt(struct conn *conn, uint64_t len, enum coding coding);
/* So many bytes of a body were scanned, or decoded, in vain, and conn->metered is set. Call before
 * the answer is made: a 429 says when nothing is owed any more. */
void entry_charge(struct conn *conn, size_t bytes);

/* conn_wait.c */

/* From now on the connection's last answer waits. Takes waiter. */
void conn_wait_begin(struct conn *conn, const struct answer *answer, struct waiter *waiter);
/* Once a waiting connection's other answers are on their way: decides which event it waits for. */
void conn_wait_settle(struct conn *conn);
/* After an event on the socket of a waiting connection: whether its client is still there. */
bool conn_wait_client_lives(const struct conn *conn);
/* Notes the answers of requests whose result is known, as far as the turn has room. */
void conn_wait_collect(struct conn_set *set);
/* Time is up: notes the answer with what is known now. */
void conn_wait_expire(struct conn *conn);
/* Ends the waiting: puts what is known into the reply, whose rejections are lent until
 * conn_wait_drop(). */
void conn_wait_resolve(struct conn *conn, struct reply *reply);
/* Forgets the waiting request, if there is one. */
void conn_wait_drop(struct conn *conn);

#endif
