/* SPDX-License-Identifier: Apache-2.0 */
/*
 * claims_private.h - what claims.c (the decision), claims_lanes.c (the exchange with all nodes at
 * once), claims_wait.c and claims_replicas.c (their replicas), claims_doubt.c (whether they have
 * forgotten claims), and claims_put.c (the commands) share.
 */
#ifndef ALLOY_CLAIMS_PRIVATE_H
#define ALLOY_CLAIMS_PRIVATE_H

#include "alloy/claims.h"

#include <stdatomic.h>

#include "alloy/backoff.h"
#include "redis_nodes.h"

#define VALUE_LEN 16
/* A claim of no record: no alloyd has this instance id. */
#define FOUND_INSTANCE UINT64_C(0x646e756f66)
#define FOUND_LSN 1
/* We send a window once it is at least this long; one MGET is at most this and one key long. */
#define WINDOW_BYTES (256u * 1024)
#define COMMAND_SLACK 1024 /* most bytes of a command without its keys */

/* In a cluster a key has a tag for its bucket, so that keys of one bucket are in one slot and one
 * MGET. Part of every key: another number of buckets would forget all claims. */
#define BUCKETS 1024
#define TAG_LEN 5    /* {3ff} */
#define FLAG_ALONE 1 /* of a record: goes into an MGET of its own */

#define LITERAL(text) (text), (sizeof(text) - 1)

enum round {
    ROUND_LOOKUP,
    ROUND_SET,
    ROUND_VERIFY,
    /* redis.layout = packed */
    ROUND_LOG,       /* the time, and which tables there are */
    ROUND_KEEP,      /* a log's expiry */
    ROUND_OPEN,      /* the next table */
    ROUND_TRIM,      /* tables that nobody looks at any more leave the log */
    ROUND_FIND,      /* in an older table */
    ROUND_KNOW,      /* in the newest, before a claim there that is not to be believed */
    ROUND_CLAIM,     /* in the newest */
    ROUND_WHO,       /* has claimed it there */
    ROUND_EXPIRE,    /* of a table's hash */
    ROUND_FILL,      /* how many ids are in a hash */
    ROUND_LET_GO,    /* deletes a claim in a table */
    ROUND_WISH,      /* says in the log that somebody wants layout = packed */
    ROUND_PEEK,      /* is there a log */
    ROUND_FIND_KEYS, /* a claim of layout = keys, as ROUND_FIND */
    ROUND_WHO_KEYS,  /* ... as ROUND_WHO */
    ROUND_LET_GO_KEYS,
    ROUND_FOUND,
    ROUND_RELEASE, /* the last whose commands are about records */
    ROUND_PROBE,
    ROUND_ASK,
    ROUND_SCAN, /* are there claims of layout = keys */
    ROUND_SEE,
};

/* How the server of this connection deletes a key by its value. */
enum release_way {
    RELEASE_UNKNOWN,
    RELEASE_DELEX,   /* Redis 8.4 */
    RELEASE_DELIFEQ, /* Valkey 9.0 */
    RELEASE_EVAL,    /* all older servers */
};

enum job_kind { JOB_TAKE, JOB_FOUND, JOB_RELEASE, JOB_PROBE, JOB_WAIT, JOB_PING, JOB_LOOK };

struct job {
    enum job_kind kind;
    uint16_t stream; /* of all records */
    struct record *const *records;
    size_t n;
    enum claims_verdict *verdicts; /* JOB_TAKE */
    bool *released;                /* JOB_RELEASE */
};

/* Keeps a server that fails from costing its time-out each time. */
struct claims_breaker {
    bool down;
    struct backoff backoff;
    uint64_t retry_at_ms; /* by the caller's clock */
};

/* What we know of a node's replicas (redis.wait_replicas). */
struct claims_wait {
    bool sent;           /* a WAIT is under way, behind the other commands */
    bool next;           /* its answer is the one that comes next */
    bool owes;           /* the present slice has claims of ours that no WAIT came after */
    bool answered;       /* in the present slice */
    bool lacks;          /* the last answer named too few */
    long long confirmed; /* by the last answer; -1: it was an error, */
    char code[32];       /* with this code */
    uint64_t ms;         /* what the present WAIT may take */
    uint64_t full_at_ms; /* while it lacks some: before then none takes the whole time-out */
};

/* Whether what a node does not know is to be believed (redis.distrust). */
struct claims_doubt {
    struct distrust_window window;
    bool unseen;         /* it has not said yet who it is */
    bool off;            /* it does not say who it is, while this connection lasts */
    uint64_t suspicions; /* that there were when it was looked at */
    /* in a cluster */
    uint32_t acquaintance; /* the keys of its buckets were read since this one began, */
    uint64_t acquainted_ms;
    uint64_t opened_ms; /* with this window, by real time */
    uint32_t changes;   /* redis_nodes_changes() then */
};

/* In a cluster: which acquaintance with a node a bucket's key was read in, and when that node had
 * got the slot (redis_nodes_changed()). */
struct claims_settled {
    uint32_t acquaintance;
    uint32_t changed;
};

/* What one node has to do, and how it fares. */
struct claims_lane {
    unsigned generation; /* of the node that this is about */
    struct claims_breaker breaker;
    uint64_t prove_at_ms;         /* while it is down: not sooner */
    enum release_way release_way; /* for this connection */
    size_t asked_ways;            /* answers to that question so far */
    struct claims_wait wait;
    struct claims_doubt doubt;
    /* the present job */
    uint64_t job;      /* the last one that this lane had a part in */
    uint64_t spoke_ms; /* when that was, by the caller's clock */
    bool reused;       /* its connection is older than the job */
    int err;           /* it takes no more part; -EBUSY: its breaker is open */
    /* The present round: todo[at] .. todo[end - 1] have no answer yet, up to sent they are sent. */
    size_t at, sent, end;
    size_t count;     /* how many keys the reply answers that comes next */
    bool asked;       /* the reply to ASKING has come, and that to its command is next */
    bool time_due;    /* the reply that comes next is the one to TIME */
    uint64_t time_ms; /* what the last one said */
    uint64_t started_ns, deadline_ns;
};

struct claims {
    /* set before the first use, constant after */
    struct claims_parts parts;
    struct redis_nodes *nodes; /* NULL: no Redis. Of redis.url as it was when it was made: */
    const char *url;
    bool tagged; /* a cluster: keys have tags */
    size_t slice_max;
    size_t prefix_len;
    uint16_t slots[BUCKETS];     /* of each tag */
    struct distrust_past *pasts; /* BUCKETS of them, for a look */
    uint16_t *past_at;           /* 1 more */
    struct claims_lane *lanes;   /* REDIS_NODES_MAX: one for each node */

    /* any thread */
    atomic_bool cancelled;

    /* owner thread only */
    bool down;
    struct claims_breaker map; /* of all, while no node is known */
    struct claims_breaker gap; /* of ids whose slot no node has; holds up nothing else */
    uint64_t random;
    uint32_t acquaintances; /* counts them, of all lanes */
    struct claims_settled settled[BUCKETS];
    bool told_lack;              /* counted among those that know of too few replicas */
    uint64_t ask_replicas_at_ms; /* if so */

    /* the present call */
    uint64_t job; /* counts them */
    uint64_t now_ms, began_ms;
    uint64_t timeout_ns;
    uint64_t wait_replicas, wait_timeout_ms;
    uint64_t checked_ms; /* JOB_TAKE: since when all its ids were looked for elsewhere; 0: not */
    struct doubt_look *look; /* ROUND_SEE */
    size_t chunk;
    char ttl_s[24];
    char *key_head; /* prefix, stream, ':', and the tag in a cluster */
    size_t key_head_len;
    const char *unserved; /* why some ids got no answer from any node; NULL: there are none */
    struct record *const *records; /* at most slice_max of the batch's */
    enum claims_verdict *verdicts;
    bool *released;
    /* Of the slice's records, by index: */
    uint16_t *bucket;
    uint16_t *key_bucket; /* of the key with layout = keys */
    uint16_t *asking;     /* the node that an ASK has named, or REDIS_NODE_NONE */
    uint8_t *flags;

    /* the present round */
    enum round round;
    uint32_t *todo;  /* indexes of the records that the lanes work on */
    uint32_t *next;  /* of those that are left for the next round */
    uint32_t *again; /* of those that go to another node, or once more */
    size_t kept;     /* how many there are in next */
    size_t again_count;
    bool redirected; /* by the present reply */

    bool is_packed;               /* the present call is about redis.layout = packed */
    struct claims_packed *packed; /* what redis.layout = packed needs (claims_packed.c) */

    /* whose commands are built or whose reply is read */
    struct claims_lane *lane;
    struct redis_link *link;
};

/* By the caller's clock. */
uint64_t claims_now_ms(const struct claims *claims);

/* splitmix64 (Vigna); spreads the retries of many workers and daemons. */
static inline uint64_t claims_next_random(struct claims *of)
{
    uint64_t z = of->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* The value of a record's claim. */
void claims_put_value(const struct claims *claims, const struct record *record,
                      char value[VALUE_LEN]);
/* The value of a claim of no record. */
void claims_put_found_value(char value[VALUE_LEN]);
/* Whether an alloyd can have written this value of a claim. */
bool claims_put_is_value(struct slice value);
/* MGET of one record's key; deletes it if its value is the record's own, by a script. */
void claims_put_get(struct claims *claims, size_t at);
void claims_put_let_go(struct claims *claims, size_t at);
/* Makes the keys that follow those of a stream, and reads the keys of its configuration. */
void claims_put_stream(struct claims *claims, uint16_t number);
/* Makes the keys that follow those of a bucket. */
void claims_put_tag(struct claims *claims, size_t bucket);
void claims_put_tag_at(char tag[TAG_LEN], size_t bucket);
/* Which way to delete by value the server has, and whether it takes claims: two commands each. */
void claims_put_question(struct claims *claims);
size_t claims_put_probe(struct claims *claims);
/* Writes a key of its own, so that a WAIT is about all that was written before. */
void claims_put_touch(struct claims *claims);
void claims_put_wait(struct claims *claims, uint64_t replicas, uint64_t timeout_ms);
/* Asks the node who it is: two commands. Reads the key of a bucket's server; writes it. */
void claims_put_look(struct claims *claims);
void claims_put_past(struct claims *claims, size_t bucket);
void claims_put_life(struct claims *claims, size_t bucket, const char *value);
/* How many keys the command at `from` of this round has; the command itself. */
size_t claims_put_span(const struct claims *claims, size_t from, size_t n);
void claims_put_command(struct claims *claims, size_t from, size_t count);

/* Another server may have the number of a lane's node now. */
void claims_lane_renew(struct claims *claims, size_t node);
/* Opens the node's link if necessary, whether the lane has a part in the job or not. Returns 0 or
 * -errno. */
MUST_CHECK int claims_lane_connect(struct claims *claims, size_t node);
/* It takes no more part in the job. */
void claims_lane_fail(struct claims_lane *lane, int err);
/* The same, if it has one; closes the link. */
void claims_lane_give_up(struct claims *claims, size_t node, int err);
bool claims_is_cancelled(const struct claims *claims);
/* Opens the node's link if necessary, for this job. False: it is away; its lane says why. */
bool claims_lane_open(struct claims *claims, size_t node);
/* Makes this lane the one whose commands are built. */
static inline void claims_lane_enter(struct claims *of, size_t node)
{
    of->lane = &of->lanes[node];
    of->link = redis_nodes_link(of->nodes, node);
}

/* JOB_LOOK */
void claims_lanes_look(struct claims *claims);
/* Prepares records .. records + n - 1 of the job: all of them are in todo then. */
void claims_lanes_begin(struct claims *claims, size_t n);
/* Runs one round over todo[0] .. todo[n - 1]. What is left for the next round is in todo then, kept
 * of them. Those whose node is away have no answer. */
void claims_lanes_run(struct claims *claims, enum round round, size_t n);
/* Claims todo[0] .. todo[n - 1] with keys of their own. */
void claims_lanes_take(struct claims *claims, size_t n);
/* A MOVED, ASK or TRYAGAIN came instead of an answer: notes where to ask again. */
void claims_lanes_redirect(struct claims *claims, const struct redis_link_element *element);
/* Sends what is built for the present lane and reads the n replies of a round that has no
 * records. Returns 0 or -errno. */
MUST_CHECK int claims_lane_converse(struct claims *claims, enum round round, size_t n);
/* Finds out how the server of the present lane deletes a key by its value. Returns 0 or -errno. */
MUST_CHECK int claims_lane_ask_release_way(struct claims *claims);
/* A bucket that a node has; -1: none, so that no claim goes there. */
static inline int claims_bucket_of(const struct claims *of, size_t node)
{
    for (int i = 0; i < BUCKETS; i++)
        if (redis_nodes_of_slot(of->nodes, of->slots[i]) == node)
            return i;
    return -1;
}

/* Returns owned (claims_packed_destroy()); NULL: out of memory. */
struct claims_packed *claims_packed_create(const struct claims *claims);
void claims_packed_destroy(struct claims_packed *packed); /* NULL is fine */
/* Another Redis: forgets what is known of the old one. */
void claims_packed_forget(struct claims *claims);
/* Makes the keys that follow those of a stream. False: out of memory. */
MUST_CHECK bool claims_packed_put_stream(struct claims *claims, uint16_t number);
/* layout = keys, after claims_lanes_begin(): whether the deployment has a log of tables all the
 * same, so that this slice is claimed in these too. again: the slice has been claimed, and that may
 * have taken long. */
bool claims_packed_is_called_for(struct claims *claims, size_t n, bool again);
/* Puts the slice's records in order; takes a slice of the job; releases it; JOB_FOUND. */
void claims_packed_begin(struct claims *claims, size_t n);
void claims_packed_take_slice(struct claims *claims, size_t n);
void claims_packed_release_slice(struct claims *claims, size_t n);
void claims_packed_found_slice(struct claims *claims, size_t n);
/* The command of one record in the present round; commands that show whether claims are taken, and
 * returns how many there are. */
void claims_packed_put_command(struct claims *claims, size_t at);
size_t claims_packed_put_probe(struct claims *claims, size_t bucket);
bool claims_packed_on_element(struct claims *claims, const struct redis_link_element *element);
/* Reads what TIME has answered. */
bool claims_packed_on_time(struct claims *claims, const struct redis_link_element *element);

/* A job begins: reads the configuration. */
void claims_wait_begin(struct claims *claims);
/* How far apart two of them are that may take the whole time-out, while replicas are away. */
uint64_t claims_wait_apart_ms(const struct claims *claims);
/* Puts a WAIT behind the commands of the present lane, if replicas are to be waited for. */
void claims_wait_put(struct claims *claims);
/* Its answer is the next; it has come, or will not. */
void claims_wait_expect(struct claims *claims);
void claims_wait_end(struct claims *claims);
/* Reads its answer, if one is due and has come. Returns 0, -EAGAIN or what failed. */
MUST_CHECK int claims_wait_pull(struct claims *claims);
bool claims_wait_on_element(struct claims *claims, const struct redis_link_element *element);

/* Proves that the node takes claims of every stream. Returns 0, -EACCES when it refuses, or another
 * -errno. */
MUST_CHECK int claims_lane_prove(struct claims *claims, size_t node);
/* JOB_PING: asks the nodes that have had nothing to do for a sign of life. */
void claims_idle_perform(struct claims *claims);

bool claims_doubt_is_on(const struct claims *claims);
/* Looks who the open node of a lane is, if that is due. Returns 0 or -errno. */
MUST_CHECK int claims_doubt_look(struct claims *claims, size_t node);
bool claims_doubt_on_element(struct claims *claims, const struct redis_link_element *element);
/* The present lane does not know an id of the job: true when that is not to be believed, and then
 * verdict says what is to be done. */
bool claims_doubt_verdict(const struct claims *claims, enum claims_verdict *verdict);
/* The same of another lane. */
bool claims_doubt_of(const struct claims *claims, const struct claims_lane *lane,
                     enum claims_verdict *verdict);
/* A node has lost something that was there at since_ms (real time): the next look is about that. */
void claims_doubt_suspect(struct claims *claims, size_t node, uint64_t since_ms);

/* A slice is done: asks about claims that were found to be ours without a SET. */
void claims_replicas_end_slice(struct claims *claims);
/* JOB_WAIT: asks the nodes again that had too few. */
void claims_replicas_perform(struct claims *claims);
/* A job is done: tells what is known of the replicas. */
void claims_replicas_tell(struct claims *claims);
/* No longer says anything about replicas. True: nor does another. */
bool claims_replicas_forget(struct claims *claims);

#endif
