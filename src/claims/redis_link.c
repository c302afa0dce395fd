/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_link.c - one connection to Redis: commands out, replies in. redis_dial.c makes it.
 *
 * hiredis parses the replies. Its functions that make reply objects are replaced by ours, which
 * make none. We wait with poll(), since only that bounds a whole exchange:
 * a socket's own time-outs bound each read.
 *
 * Runs on: the thread that owns it. Owns: the connection and the buffer of commands.
 */
#include "redis_link_private.h"

#include "alloy/clock.h"
#include "redis_tls.h"
#define LOG_MODULE "redis"
#include "alloy/log.h"

#include <hiredis/hiredis.h>

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#define REPLY_BYTES_MAX (4u * 1024 * 1024) /* most unparsed bytes: our values have 16 */
#define READER_KEEP_BYTES (256u * 1024)
#define CODE_MAX 24 /* of an error's code: the longest today is NOREPLICAS */

/* ---- replies: hiredis calls these for each element while it parses ---- */

/* hiredis takes NULL for out of memory and stops, so we return this address as "the object". */
static char reply_made;

static void *redis_tell(const redisReadTask *task, struct redis_link_element element)
{
    struct redis_link *link = task->privdata;

    element.root = task->parent == NULL;
    element.index = element.root ? 0 : (size_t)task->idx;
    for (const redisReadTask *at = task->parent; at != NULL; at = at->parent)
        element.depth++;
    if (link->handshake != NULL ? link->handshake(link, &element, element.depth < 2)
                                : link->element(link->arg, &element))
        return &reply_made;
    link->unexpected = true;
    return NULL;
}

/* We do not repeat Redis's own text: it can quote the command, and with it ids and passwords. Only
 * these, which quote nothing, are told as they came, since an operator looks for what redis-cli
 * shows. Each without what follows its last word here. */
static const struct {
    const char *words;
    const char *sentence; /* NULL: that of the code */
} own_words[] = {
    {"WRONGPASS invalid username-password pair or user is disabled", NULL},
    {"NOAUTH Authentication required", NULL},
    {"ERR invalid password", "it does not take the user or the password of redis.url"},
    {"ERR Client sent AUTH, but no password is set", "it has no password, and redis.url has one"},
    {"ERR AUTH <password> called without any password configured for the default user",
     "it has no password, and redis.url has one"},
    {"ERR DB index is out of range", "it does not have the database of redis.url"},
    {"ERR invalid DB index", "it does not have the database of redis.url"},
    {"ERR max number of clients reached", "it takes no more connections (maxclients)"},
    {"DENIED Redis is running in protected mode", NULL},
    {"DENIED Valkey is running in protected mode", NULL},
    {"LOADING Redis is loading the dataset in memory", NULL},
    {"LOADING Valkey is loading the dataset in memory", NULL},
    {"READONLY You can't write against a read only replica", NULL},
    {"OOM command not allowed when used memory > 'maxmemory'", NULL},
    {"NOREPLICAS Not enough good replicas to write", NULL},
    {"MASTERDOWN Link with MASTER is down", NULL},
    {"CLUSTERDOWN The cluster is down", NULL},
    {"ERR This instance has cluster support disabled",
     "it is no cluster: redis.url should begin with redis://"},
    {"CLUSTERDOWN Hash slot not served", NULL},
};

/* What a refusal means for Alloy. */
static const struct {
    const char *code;
    const char *sentence;
} refusals[] = {
    {"READONLY", "it is a replica, or set to read-only, and takes no claims"},
    {"OOM", "its memory is used up (maxmemory), and it takes no claims"},
    {"MISCONF", "it cannot save to its disk and takes no claims"},
    {"NOREPLICAS", "it has too few replicas and takes no claims"},
    {"NOPERM", "its ACL refuses a command or a key that Alloy needs"},
    {"DENIED", "it is in protected mode, and lets in only its own machine"},
    {"NOAUTH", "it wants a password: redis.url has none"},
    {"WRONGPASS", "it does not take the user or the password of redis.url"},
    {"LOADING", "it is still reading its data"},
    {"MASTERDOWN", "it is a replica without its master"},
    {"CLUSTERDOWN", "its cluster is down"},
    {"MOVED", "it is one node of a cluster, which redis.url calls redis-cluster://"},
    {"ASK", "it is one node of a cluster, which redis.url calls redis-cluster://"},
    {"CROSSSLOT", "it is one node of a cluster, which redis.url calls redis-cluster://"},
    {"TRYAGAIN", "its cluster is moving keys"},
    {"BUSY", "it runs a script that does not end"},
    {"WRONGTYPE", "a key of Alloy holds something else"},
    {"ERR", "it does not know, or does not accept, a command that Alloy needs"},
};

/* The code in capitals that an error begins with; empty if there is none. */
static struct slice redis_error_code(const char *text, size_t len)
{
    size_t n = 0;

    while (n < len && text[n] >= 'A' && text[n] <= 'Z')
        n++;
    if (n > CODE_MAX || (n < len && text[n] != ' ' && text[n] != '\r'))
        n = 0;
    return (struct slice){text, n};
}

/* Notes an error, of which code is the beginning. */
static void redis_note_refusal(struct redis_link *link, struct slice code, struct slice text)
{
    const char *sentence = "it refuses a command";
    struct slice told = code;

    for (size_t i = 0; i < ARRAY_LEN(refusals); i++)
        if (redis_link_is_code(code, refusals[i].code))
            sentence = refusals[i].sentence;
    if (link->logs_in && redis_link_is_code(code, "ERR"))
        sentence = "it refuses the log-in";
    for (size_t i = 0; i < ARRAY_LEN(own_words); i++) {
        const size_t len = strlen(own_words[i].words);

        if (text.len < len || memcmp(text.data, own_words[i].words, len) != 0)
            continue;
        told = (struct slice){own_words[i].words, len};
        if (own_words[i].sentence != NULL)
            sentence = own_words[i].sentence;
    }
    redis_wire_set_reason(link, "%.*s%s%s", (int)told.len, told.data, told.len > 0 ? ": " : "",
                          sentence);
}

/* What a node of a cluster says to a client that should ask elsewhere, or again. */
static bool redis_is_redirect(const struct redis_link *link, struct slice code)
{
    return link->url.cluster &&
           (redis_link_is_code(code, "MOVED") || redis_link_is_code(code, "ASK") ||
            redis_link_is_code(code, "TRYAGAIN"));
}

static void *redis_on_error(const redisReadTask *task, const char *text, size_t len)
{
    struct redis_link *link = task->privdata;
    const struct slice code = redis_error_code(text, len);

    if (redis_is_redirect(link, code))
        return redis_tell(task, (struct redis_link_element){.type = REDIS_LINK_ERROR,
                                                            .text = code,
                                                            .redirect = {text, len}});
    if (link->pardons)
        return redis_tell(task,
                          (struct redis_link_element){.type = REDIS_LINK_ERROR, .text = code});
    /* The first error of an exchange is the cause of the others. */
    if (!link->refused)
        redis_note_refusal(link, code, (struct slice){text, len});
    link->refused = true;
    if (redis_link_is_code(code, "NOAUTH"))
        link->wants_password = true;
    if (link->handshake != NULL)
        return &reply_made;
    return redis_tell(task, (struct redis_link_element){.type = REDIS_LINK_ERROR, .text = code});
}

static void *redis_on_string(const redisReadTask *task, char *data, size_t len)
{
    if (task->type == REDIS_REPLY_ERROR)
        return redis_on_error(task, data, len);
    return redis_tell(task, (struct redis_link_element){.type = task->type == REDIS_REPLY_STATUS
                                                                    ? REDIS_LINK_STATUS
                                                                    : REDIS_LINK_STRING,
                                                        .text = {data, len}});
}

static void *redis_on_array(const redisReadTask *task, int count)
{
    return redis_tell(
        task, (struct redis_link_element){.type = REDIS_LINK_ARRAY, .count = (size_t)count});
}

static void *redis_on_integer(const redisReadTask *task, long long value)
{
    return redis_tell(task,
                      (struct redis_link_element){.type = REDIS_LINK_INTEGER, .value = value});
}

static void *redis_on_nil(const redisReadTask *task)
{
    return redis_tell(task, (struct redis_link_element){.type = REDIS_LINK_NIL});
}

static void redis_on_free(void *object)
{
    (void)object;
}

static redisReplyObjectFunctions reply_functions = {
    .createString = redis_on_string,
    .createArray = redis_on_array,
    .createInteger = redis_on_integer,
    .createNil = redis_on_nil,
    .freeObject = redis_on_free,
};

/* ---- receiving ---- */

/* Feeds the parser with received bytes; -EAGAIN: there are none. */
static int redis_receive(struct redis_link *link)
{
    for (;;) {
        ssize_t n = recv(link->context->fd, link->in, sizeof(link->in), MSG_DONTWAIT);
        int err = n < 0 ? -errno : 0;

        if (n > 0 && link->tls != NULL)
            return redis_tls_take(link->tls, link, (size_t)n);
        if (n > 0) {
            /* The parser's next result reports an error. */
            (void)redisReaderFeed(link->context->reader, link->in, (size_t)n);
            return 0;
        }
        if (n == 0) {
            redis_wire_set_reason(link, "connection closed");
            return -ECONNRESET;
        }
        if (err == -EINTR)
            continue;
        if (err != -EAGAIN)
            redis_wire_set_reason(link, "receive: %s", strerror(-err));
        return err;
    }
}

/* ---- public ---- */

void redis_link_attach(struct redis_link *link, struct redisContext *context)
{
    context->reader->fn = &reply_functions;
    context->reader->privdata = link;
    context->reader->maxbuf = READER_KEEP_BYTES;
    link->context = context;
}

struct redis_link *redis_link_create(const char *url, size_t out_capacity,
                                     redis_link_element_fn element, void *arg)
{
    struct redis_link *link = calloc(1, sizeof(*link));
    const char *problem;

    if (link == NULL)
        goto out_of_memory;
    link->element = element;
    link->arg = arg;
    problem = redis_url_parse(&link->url, url);
    if (problem != NULL) {
        log_error("redis.url: %s", problem);
        free(link);
        return NULL;
    }
    link->out_capacity = out_capacity;
    link->out = malloc(out_capacity);
    redis_wire_name(link);
    if (link->out == NULL)
        goto out_of_memory;
    return link;

out_of_memory:
    log_error("out of memory for the connection to redis");
    redis_link_destroy(link);
    return NULL;
}

void redis_link_destroy(struct redis_link *link)
{
    if (link == NULL)
        return;
    redis_link_close(link);
    redis_url_fini(&link->url);
    free(link->out);
    free(link);
}

void redis_link_close(struct redis_link *link)
{
    redis_tls_destroy(link->tls); /* NULL is fine, here and below */
    link->tls = NULL;
    redisFree(link->context);
    link->context = NULL;
    link->unsent = false;
    link->pardons = false;
}

bool redis_link_is_open(const struct redis_link *link)
{
    return link->context != NULL;
}

void redis_link_aim(struct redis_link *link, const char *host, int port)
{
    snprintf(link->aim_host, sizeof(link->aim_host), "%s", host);
    link->aim_port = port;
    redis_wire_name(link);
}

void redis_link_clear(struct redis_link *link)
{
    link->out_len = 0;
}

size_t redis_link_bytes(const struct redis_link *link)
{
    return link->out_len;
}

void redis_link_put(struct redis_link *link, const char *data, size_t len)
{
    ALLOY_ASSERT(len <= link->out_capacity - link->out_len);
    memcpy(link->out + link->out_len, data, len);
    link->out_len += len;
}

/* "*3\r\n" or "$16\r\n": printf would cost more than all the rest of a command. */
static void redis_put_count(struct redis_link *link, char kind, size_t count)
{
    char text[24];
    size_t at = sizeof(text);

    text[--at] = '\n';
    text[--at] = '\r';
    do {
        text[--at] = (char)('0' + count % 10);
        count /= 10;
    } while (count > 0);
    text[--at] = kind;
    redis_link_put(link, text + at, sizeof(text) - at);
}

void redis_link_put_array(struct redis_link *link, size_t count)
{
    redis_put_count(link, '*', count);
}

void redis_link_put_bulk(struct redis_link *link, struct slice first, struct slice second)
{
    redis_put_count(link, '$', first.len + second.len);
    redis_link_put(link, first.data, first.len);
    redis_link_put(link, second.data, second.len);
    redis_link_put(link, "\r\n", 2);
}

int redis_link_begin(struct redis_link *link)
{
    link->sent = 0;
    link->unsent = true;
    return link->tls != NULL ? redis_tls_seal(link->tls, link) : 0;
}

int redis_link_push(struct redis_link *link)
{
    int err = 0;

    if (link->unsent)
        err = link->tls != NULL ? redis_tls_push(link->tls, link)
                                : redis_wire_push(link, link->out, link->out_len, &link->sent);
    link->unsent = err == -EAGAIN;
    return err;
}

int redis_link_pull(struct redis_link *link)
{
    redisReader *reader = link->context->reader;

    link->unexpected = false;
    for (;;) {
        void *reply = NULL;
        int err;

        if (redisReaderGetReply(reader, &reply) != REDIS_OK) {
            redis_wire_set_reason(link, "%s",
                                  link->unexpected ? "unexpected reply" : reader->errstr);
            return -EPROTO;
        }
        if (reply != NULL)
            return 0;
        if (reader->len > REPLY_BYTES_MAX) {
            redis_wire_set_reason(link, "reply too large");
            return -EPROTO;
        }
        err = redis_receive(link);
        if (err != 0)
            return err;
    }
}

int redis_link_send(struct redis_link *link, uint64_t deadline_ns)
{
    int err = redis_link_begin(link);

    while (err == 0 && (err = redis_link_push(link)) == -EAGAIN)
        err = redis_wire_wait(link, POLLOUT, deadline_ns);
    return err;
}

int redis_link_read(struct redis_link *link, uint64_t deadline_ns)
{
    int err;

    while ((err = redis_link_pull(link)) == -EAGAIN) {
        err = redis_wire_wait(link, POLLIN, deadline_ns);
        if (err != 0)
            break;
    }
    return err;
}

int redis_link_give_up(struct redis_link *link)
{
    redis_wire_set_reason(link, "timed out");
    return -ETIMEDOUT;
}

bool redis_link_refused(struct redis_link *link)
{
    bool refused = link->refused;

    link->refused = false;
    return refused;
}

void redis_link_pardon(struct redis_link *link, bool on)
{
    link->pardons = on;
}

const char *redis_link_reason(const struct redis_link *link)
{
    return link->reason;
}

const char *redis_link_name(const struct redis_link *link)
{
    return link->name;
}
