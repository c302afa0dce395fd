/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_clickhouse.h - a fake ClickHouse of a few hundred lines that gives the answers it is told to
 * and notes what it was sent. It refuses a row with "BAD" in it.
 */
#ifndef TEST_FAKE_CLICKHOUSE_H
#define TEST_FAKE_CLICKHOUSE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "alloy/base.h"
#include "alloy/clock.h"

#define DEADLINE_MS 20000
#define REQUESTS_MAX 4096
#define BODY_KEPT 65536
#define SUMMARY "X-ClickHouse-Summary: {\"read_rows\":\"0\",\"written_rows\":\"%zu\"}\r\n"

enum fake_mode {
    FAKE_OK,
    FAKE_HANG,            /* answers when released */
    FAKE_RESET,           /* closes without an answer */
    FAKE_TRUNCATE,        /* closes in the middle of the answer */
    FAKE_500,             /* without a code */
    FAKE_503_CODE,        /* 202, too many queries */
    FAKE_200_CODE_HEADER, /* a 200 with exception 241 in the header */
    FAKE_200_BODY,        /* a 200 with an exception in the body */
    FAKE_200_NO_SUMMARY,
    FAKE_200_TOO_FEW,    /* written_rows is one short */
    FAKE_404_TABLE,      /* 60, of some table */
    FAKE_404_OWN,        /* 60, of the stream's own table ta */
    FAKE_UNKNOWN_CODE,   /* 49 */
    FAKE_LOST,           /* inserts, and closes without an answer */
    FAKE_BURN,           /* notes the token without the rows, and closes */
    FAKE_BURN_HALF,      /* the same for every second row */
    FAKE_BURNT,          /* as FAKE_BURN, with an answer: the token had been known */
    FAKE_VIEW,           /* a view refuses what the table has, unless views are ignored */
    FAKE_TOO_LONG,       /* 413, a proxy's */
    FAKE_TOO_MANY_PARTS, /* 252 */
    FAKE_OTHERS_ROW,     /* 469, whatever the rows are */
    FAKE_TOO_BUSY,       /* 429, a proxy's */
    FAKE_NEVER,          /* 44, whatever the rows are */
    FAKE_DENIED,         /* 497 */
    FAKE_404,            /* a proxy's */
};

/* What of a request is in the table. */
enum fake_stored { FAKE_STORED_NONE, FAKE_STORED_HALF, FAKE_STORED_ALL };

/* How the question for rows is answered. */
enum fake_rows {
    FAKE_ROWS_TOLD,
    FAKE_ROWS_BLIND,  /* none is there */
    FAKE_ROWS_LOST,   /* closes */
    FAKE_ROWS_SILENT, /* answers when that is over */
    FAKE_ROWS_DENIED, /* 497 */
    FAKE_ROWS_BUSY,   /* 202 */
    FAKE_ROWS_HIDDEN, /* some rows of the table are not shown */
    FAKE_ROWS_ALIKE,  /* two ids are the same */
    FAKE_ROWS_GONE,   /* the table is away */
};

struct fake_request {
    char token[40];
    bool knows; /* the table knows the token from now on */
    enum fake_stored stored;
    bool async;
    bool alone;
    bool ignore_views;
    bool except; /* leaves a column out */
    bool refused;
    size_t rows;
    size_t len;
    char body[BODY_KEPT];
};

struct fake {
    int listen_fd;
    int port;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stop;
    /* under lock */
    enum fake_mode mode;
    int mode_count;         /* inserts that mode still holds for; then FAKE_OK; -1: for ever */
    const char *mode_table; /* only inserts with this in their URL; NULL: all */
    const char *mode_text;  /* only inserts with this in their body; NULL: all */
    bool name_row;          /* name the bad row */
    bool name_wrong_row;
    bool bad_partitions;    /* more than 10 rows: 252, too many partitions */
    atomic_int bad_code;    /* of the bad row; 0: 27 */
    atomic_size_t rows_fit; /* more rows: 241, memory; 0: all fit */
    atomic_long row_us;     /* time that each row takes */
    atomic_bool held;       /* inserts that it takes are not answered while this is so */
    atomic_bool probe_hangs;
    atomic_int probe_cuts; /* so many answers to questions end in the middle */
    atomic_int probes;     /* answered */
    const char *probe;
    const char *columns; /* what the table has; "": it does not tell */
    const char *site;    /* what the table is to other endpoints */
    atomic_int sites_asked;
    atomic_int pings; /* answered */
    atomic_int columns_asked;
    const char *trace;    /* how the table stands */
    char trace_url[4096]; /* of the last question for it */
    atomic_int traces_asked;
    enum fake_rows rows_mode;
    int rows_count; /* questions that it still holds for; then FAKE_ROWS_TOLD; -1: for ever */
    atomic_int rows_asked;
    atomic_int counts_asked;
    atomic_bool forgets; /* tokens: the window is short */
    int inside;
    int inside_max;
    size_t count;
    size_t inserted_rows;
    struct fake_request *requests;
    int conns[2048];
    pthread_t conn_threads[2048];
    atomic_size_t conn_count; /* accepted */
};

struct conn_arg {
    struct fake *fake;
    int fd;
};

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, (ms % 1000) * 1000000}, NULL);
}

#define WAIT_FOR(condition)                           \
    do {                                              \
        uint64_t end = clock_mono_ms() + DEADLINE_MS; \
        while (!(condition) && clock_mono_ms() < end) \
            pause_ms(1);                              \
        assert_true(condition);                       \
    } while (0)

static void say(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        text += n;
        len -= (size_t)n;
    }
}

static void answer(int fd, int status, const char *headers, const char *body)
{
    char *out = NULL;
    int len = asprintf(&out, "HTTP/1.1 %d Word\r\nContent-Length: %zu\r\n%s\r\n%s", status,
                       strlen(body), headers, body);
    say(fd, out, (size_t)len);
    free(out);
}

/* Row, from 1, of the first line with "BAD" in it; 0: none. */
static size_t bad_row(const char *body, size_t len, size_t *rows)
{
    size_t bad = 0;
    const char *at = body;

    *rows = 0;
    while (at < body + len) {
        const char *end = memchr(at, '\n', (size_t)(body + len - at));
        if (end == NULL)
            end = body + len;
        ++*rows;
        if (bad == 0 && memmem(at, (size_t)(end - at), "BAD", 3) != NULL)
            bad = *rows;
        at = end + 1;
    }
    return bad;
}

static enum fake_mode next_mode(struct fake *fake, const char *url, struct slice body)
{
    if (fake->mode == FAKE_OK || fake->mode_count == 0)
        return FAKE_OK;
    if (fake->mode_table != NULL && strstr(url, fake->mode_table) == NULL)
        return FAKE_OK;
    if (fake->mode_text != NULL &&
        memmem(body.data, body.len, fake->mode_text, strlen(fake->mode_text)) == NULL)
        return FAKE_OK;
    if (fake->mode_count > 0)
        fake->mode_count--;
    return fake->mode;
}

/* A question that is not answered for now. */
static bool silent(struct fake *fake)
{
    bool silent;

    pthread_mutex_lock(&fake->lock);
    silent = fake->rows_mode == FAKE_ROWS_SILENT && !fake->stop;
    pthread_mutex_unlock(&fake->lock);
    return silent;
}

static bool hanging(struct fake *fake)
{
    bool hangs;

    pthread_mutex_lock(&fake->lock);
    hangs = fake->mode == FAKE_HANG && !fake->stop;
    pthread_mutex_unlock(&fake->lock);
    return hangs;
}

/* Answers that are always the same. */
static const struct fake_answer {
    int status; /* 0: not such a mode */
    const char *headers;
    const char *body;
} fake_answers[] = {
    [FAKE_VIEW] = {400, "X-ClickHouse-Exception-Code: 6\r\n",
                   "Code: 6. DB::Exception: Cannot parse: while pushing to view default.mv. (X)"},
    [FAKE_500] = {500, "", "oops"},
    [FAKE_503_CODE] = {503, "X-ClickHouse-Exception-Code: 202\r\n", "Code: 202. DB::Exception: x"},
    [FAKE_200_NO_SUMMARY] = {200, "", ""},
    [FAKE_404_TABLE] = {404, "X-ClickHouse-Exception-Code: 60\r\n",
                        "Code: 60. DB::Exception: Table db.t does not exist."},
    [FAKE_404_OWN] = {404, "X-ClickHouse-Exception-Code: 60\r\n",
                      "Code: 60. DB::Exception: Table db.ta does not exist. (UNKNOWN_TABLE)"},
    [FAKE_UNKNOWN_CODE] = {500, "X-ClickHouse-Exception-Code: 49\r\n",
                           "Code: 49. DB::Exception: bug"},
    [FAKE_TOO_LONG] = {413, "", "<html>Request Entity Too Large</html>"},
    [FAKE_TOO_MANY_PARTS] =
        {500, "X-ClickHouse-Exception-Code: 252\r\n",
         "Code: 252. DB::Exception: Too many parts (3001). Merges are slower than inserts."},
    [FAKE_OTHERS_ROW] = {500, "X-ClickHouse-Exception-Code: 469\r\n",
                         "Code: 469. DB::Exception: Constraint is violated at row 3"},
    [FAKE_TOO_BUSY] = {429, "Retry-After: 0\r\n", "slow down"},
    [FAKE_NEVER] = {500, "X-ClickHouse-Exception-Code: 44\r\n", "Code: 44. DB::Exception: x"},
    [FAKE_DENIED] = {403, "X-ClickHouse-Exception-Code: 497\r\n",
                     "Code: 497. DB::Exception: alloy: Not enough privileges."},
    [FAKE_404] = {404, "", "<html>Not Found</html>"},
};

static bool answer_mode(struct fake *fake, int fd, enum fake_mode mode, size_t rows)
{
    char headers[256];

    if (mode < ARRAY_LEN(fake_answers) && fake_answers[mode].status != 0) {
        answer(fd, fake_answers[mode].status, fake_answers[mode].headers, fake_answers[mode].body);
        return true;
    }
    switch (mode) {
    case FAKE_HANG:
        while (hanging(fake))
            pause_ms(1);
        break;
    case FAKE_RESET:
    case FAKE_LOST:
    case FAKE_BURN:
    case FAKE_BURN_HALF:
        return false;
    case FAKE_TRUNCATE:
        say(fd, "HTTP/1.1 200 OK\r\nContent-Len", 28);
        return false;
    case FAKE_200_CODE_HEADER:
        snprintf(headers, sizeof(headers), SUMMARY "x-clickhouse-exception-code: 241\r\n", rows);
        answer(fd, 200, headers, "");
        return true;
    case FAKE_200_BODY:
        snprintf(headers, sizeof(headers), SUMMARY, rows);
        answer(fd, 200, headers, "__exception__\r\nCode: 241. DB::Exception: memory");
        return true;
    case FAKE_200_TOO_FEW:
        snprintf(headers, sizeof(headers), SUMMARY, rows - 1);
        answer(fd, 200, headers, "");
        return true;
    case FAKE_OK:
    default:
        break;
    }
    snprintf(headers, sizeof(headers), SUMMARY, rows);
    answer(fd, 200, headers, "");
    return true;
}

/* Takes the time of the rows, and answers if they are too many. */
static bool is_too_large(const struct fake *fake, int fd, size_t rows)
{
    if (fake->row_us > 0)
        pause_ms((long)rows * fake->row_us / 1000);
    while (fake->held)
        pause_ms(1);
    if (fake->rows_fit == 0 || rows <= fake->rows_fit)
        return false;
    answer(fd, 500, "X-ClickHouse-Exception-Code: 241\r\n", "Code: 241. DB::Exception: x");
    return true;
}

/* What becomes of its rows, which depends on the tokens that came before. */
static void store(struct fake *fake, struct fake_request *request, enum fake_mode mode)
{
    for (size_t i = 0; i < fake->count && !fake->forgets; i++) {
        if (fake->requests[i].knows && strcmp(fake->requests[i].token, request->token) == 0)
            return;
    }
    request->knows = mode == FAKE_OK || mode == FAKE_HANG || mode == FAKE_LOST ||
                     mode == FAKE_BURN || mode == FAKE_BURN_HALF || mode == FAKE_BURNT;
    if (mode == FAKE_OK || mode == FAKE_HANG || mode == FAKE_LOST)
        request->stored = FAKE_STORED_ALL;
    if (mode == FAKE_BURN_HALF)
        request->stored = FAKE_STORED_HALF;
}

/* How often a row is in the table. Under lock. */
static size_t times_stored(const struct fake *fake, struct slice row)
{
    size_t times = 0;

    for (size_t i = 0; i < fake->count; i++) {
        const struct fake_request *request = &fake->requests[i];
        const char *end = request->body + request->len;
        size_t number = 0;
        if (request->stored == FAKE_STORED_NONE)
            continue;
        for (const char *at = request->body; at < end; number++) {
            const char *stop = memchr(at, '\n', (size_t)(end - at));
            if ((size_t)(stop - at) == row.len && memcmp(at, row.data, row.len) == 0 &&
                (request->stored == FAKE_STORED_ALL || number % 2 == 0))
                times++;
            at = stop + 1;
        }
    }
    return times;
}

/* One insert. False: the connection is to be closed. */
static bool on_insert(struct fake *fake, int fd, const char *url, const char *body, size_t len)
{
    struct fake_request *request;
    size_t rows;
    size_t bad = bad_row(body, len, &rows);
    enum fake_mode mode;
    const char *setting;
    bool refuse_parts, keep;
    const int code = fake->bad_code == 0 ? 27 : fake->bad_code;
    char header[64];
    char text[256];

    pthread_mutex_lock(&fake->lock);
    if (++fake->inside > fake->inside_max)
        fake->inside_max = fake->inside;
    mode = next_mode(fake, url, (struct slice){body, len});
    refuse_parts = fake->bad_partitions && rows > 10;
    assert_true(fake->count < REQUESTS_MAX);
    request = &fake->requests[fake->count++];
    snprintf(request->token, sizeof(request->token), "%.32s",
             strstr(url, "insert_deduplication_token=") + 27);
    request->async = strstr(url, "&async_insert=1") != NULL;
    setting = strstr(url, "&max_insert_block_size=");
    request->alone = strstr(setting + 1, "&max_insert_block_size=") != NULL;
    request->ignore_views = strstr(url, "&materialized_views_ignore_errors=1") != NULL;
    request->except = strstr(url, "EXCEPT") != NULL;
    request->rows = rows;
    request->len = len;
    request->refused = mode == FAKE_OK && bad > 0;
    memcpy(request->body, body, len < BODY_KEPT ? len : BODY_KEPT);
    snprintf(text, sizeof(text), "Code: %d. DB::Exception: Cannot parse input", code);
    snprintf(header, sizeof(header), "X-ClickHouse-Exception-Code: %d\r\n", code);
    if (fake->name_row)
        snprintf(text, sizeof(text),
                 "Code: 27. DB::Exception: Cannot parse \"(at row 1)\": (at row %zu)",
                 fake->name_wrong_row ? bad % rows + 1 : bad);
    pthread_mutex_unlock(&fake->lock);
    if (mode == FAKE_OK && is_too_large(fake, fd, rows)) {
        keep = true;
    } else if (mode == FAKE_OK && bad > 0) {
        answer(fd, 400, header, text);
        keep = true;
    } else if (mode == FAKE_OK && refuse_parts) {
        answer(fd, 500, "X-ClickHouse-Exception-Code: 252\r\n",
               "Code: 252. DB::Exception: Too many partitions for single INSERT block (more ...");
        keep = true;
    } else {
        pthread_mutex_lock(&fake->lock);
        store(fake, request, mode);
        if (mode == FAKE_VIEW && request->ignore_views)
            mode = FAKE_OK; /* the table has dropped its token */
        else if (mode == FAKE_OK || mode == FAKE_HANG || mode == FAKE_LOST || mode == FAKE_VIEW)
            fake->inserted_rows += rows;
        pthread_mutex_unlock(&fake->lock);
        keep = answer_mode(fake, fd, mode, rows);
    }
    pthread_mutex_lock(&fake->lock);
    fake->inside--;
    pthread_mutex_unlock(&fake->lock);
    return keep;
}

/* Answers which of the rows in a form's file are there. False: the connection is to be closed. */
static bool on_rows(struct fake *fake, int fd, const char *body, size_t len)
{
    static const char *const refusals[][2] = {
        [FAKE_ROWS_DENIED] = {"X-ClickHouse-Exception-Code: 497\r\n",
                              "Code: 497. DB::Exception: grant SELECT(event_id) ON db.ta."},
        [FAKE_ROWS_BUSY] = {"X-ClickHouse-Exception-Code: 202\r\n", "Code: 202. DB::Exception: x"},
        [FAKE_ROWS_GONE] = {"X-ClickHouse-Exception-Code: 60\r\n",
                            "Code: 60. DB::Exception: Table db.ta does not exist"},
    };
    const char *at = memmem(body, len, "\r\n\r\n", 4);
    const char *end = memmem(body, len, "\r\n--alloy", 9);
    char *bits = calloc(1, len + 1);
    char *text = NULL;
    enum fake_rows mode;
    size_t rows = 0;

    assert_non_null(at);
    assert_non_null(end);
    atomic_fetch_add(&fake->rows_asked, 1);
    pthread_mutex_lock(&fake->lock);
    mode = fake->rows_count == 0 ? FAKE_ROWS_TOLD : fake->rows_mode;
    if (fake->rows_count > 0)
        fake->rows_count--;
    for (at += 4; at < end; rows++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const struct slice row = {at, (size_t)(stop - at)};
        bits[rows] = mode == FAKE_ROWS_TOLD && times_stored(fake, row) > 0 ? '1' : '0';
        at = stop + 1;
    }
    pthread_mutex_unlock(&fake->lock);
    assert_true(asprintf(&text, "[\"%d\", %zu, \"%s\"]\n", mode == FAKE_ROWS_HIDDEN ? 99 : 100,
                         rows - (mode == FAKE_ROWS_ALIKE), bits) > 0);
    if (mode < ARRAY_LEN(refusals) && refusals[mode][0] != NULL)
        answer(fd, 500, refusals[mode][0], refusals[mode][1]);
    else if (mode != FAKE_ROWS_LOST && mode != FAKE_ROWS_SILENT)
        answer(fd, 200, "", text);
    while (silent(fake))
        pause_ms(1);
    free(text);
    free(bits);
    return mode != FAKE_ROWS_LOST && mode != FAKE_ROWS_SILENT;
}

/* Answers how many rows have the token. False: the connection is to be closed. */
static bool on_count(struct fake *fake, int fd, const char *url)
{
    const char *token = strstr(url, "%60proof%60%20%3D%20%27");
    enum fake_rows mode;
    char text[64];
    size_t found = 0;

    assert_non_null(token);
    token += strlen("%60proof%60%20%3D%20%27");
    atomic_fetch_add(&fake->counts_asked, 1);
    pthread_mutex_lock(&fake->lock);
    mode = fake->rows_count == 0 ? FAKE_ROWS_TOLD : fake->rows_mode;
    for (size_t i = 0; i < fake->count; i++) {
        const struct fake_request *request = &fake->requests[i];
        if (strncmp(request->token, token, 32) == 0)
            found += request->stored == FAKE_STORED_ALL    ? request->rows
                     : request->stored == FAKE_STORED_HALF ? request->rows / 2
                                                           : 0;
    }
    pthread_mutex_unlock(&fake->lock);
    snprintf(text, sizeof(text), "[\"%d\", %zu]\n", mode == FAKE_ROWS_HIDDEN ? 99 : 100,
             mode == FAKE_ROWS_BLIND ? 0 : found);
    if (mode == FAKE_ROWS_DENIED)
        answer(fd, 500, "X-ClickHouse-Exception-Code: 497\r\n", "Code: 497. DB::Exception: x");
    else if (mode != FAKE_ROWS_LOST && mode != FAKE_ROWS_SILENT)
        answer(fd, 200, "", text);
    while (silent(fake))
        pause_ms(1);
    return mode != FAKE_ROWS_LOST && mode != FAKE_ROWS_SILENT;
}

static void on_trace(struct fake *fake, int fd, const char *url)
{
    const char *text;

    pthread_mutex_lock(&fake->lock);
    text = fake->trace;
    snprintf(fake->trace_url, sizeof(fake->trace_url), "%s", url);
    pthread_mutex_unlock(&fake->lock);
    atomic_fetch_add(&fake->traces_asked, 1);
    answer(fd, 200, "", text);
}

static void on_question(struct fake *fake, int fd, const char *url)
{
    const bool columns = strstr(url, "system.columns") != NULL;
    const bool site = strstr(url, "zookeeper_path") != NULL;
    const bool ping = strstr(url, "query=SELECT%201&") != NULL;
    const char *text;

    pthread_mutex_lock(&fake->lock);
    text = ping ? "1\n" : site ? fake->site : columns ? fake->columns : fake->probe;
    pthread_mutex_unlock(&fake->lock);
    answer(fd, 200, "", text);
    atomic_fetch_add(ping      ? &fake->pings
                     : site    ? &fake->sites_asked
                     : columns ? &fake->columns_asked
                               : &fake->probes,
                     1);
}

/* Receives more into a buffer, which grows: a large one for each connection takes thread sanitizer
 * a second. False: there is no more. */
static bool receive(int fd, char **buffer, size_t *room, size_t *have)
{
    ssize_t n;

    if (*have == *room) {
        *room = *room == 0 ? 16384 : 2 * *room;
        *buffer = realloc(*buffer, *room);
        assert_non_null(*buffer);
    }
    n = recv(fd, *buffer + *have, *room - *have, 0);
    if (n > 0)
        *have += (size_t)n;
    return n > 0;
}

static void *serve(void *arg)
{
    struct conn_arg conn = *(struct conn_arg *)arg;
    size_t room = 0, have = 0;
    char *buffer = NULL;
    bool keep = true;

    free(arg);
    while (keep) {
        char *end = NULL;
        char url[4096];
        size_t len, head;

        while (have == 0 || (end = memmem(buffer, have, "\r\n\r\n", 4)) == NULL)
            if (!receive(conn.fd, &buffer, &room, &have))
                goto out;
        *end = '\0';
        head = (size_t)(end + 4 - buffer);
        sscanf(buffer, "POST %4095s", url);
        len = strtoul(strcasestr(buffer, "Content-Length:") + 15, NULL, 10);
        while (have < head + len)
            if (!receive(conn.fd, &buffer, &room, &have))
                goto out;
        while (strstr(url, "SELECT") != NULL && conn.fake->probe_hangs)
            pause_ms(1);
        if (strstr(url, "alloy_rows") != NULL) {
            keep = on_rows(conn.fake, conn.fd, buffer + head, len);
        } else if (strstr(url, "uptime") != NULL) {
            on_trace(conn.fake, conn.fd, url);
        } else if (strstr(url, "SELECT%20%28SELECT%20count") != NULL) {
            keep = on_count(conn.fake, conn.fd, url);
        } else if (strstr(url, "SELECT") != NULL && conn.fake->probe_cuts > 0) {
            static const char half[] = "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n26.7";

            (void)!send(conn.fd, half, sizeof(half) - 1, MSG_NOSIGNAL);
            conn.fake->probe_cuts--;
            goto out;
        } else if (strstr(url, "SELECT") != NULL) {
            on_question(conn.fake, conn.fd, url);
        } else {
            keep = on_insert(conn.fake, conn.fd, url, buffer + head, len);
        }
        have -= head + len;
        memmove(buffer, buffer + head + len, have);
    }
out:
    shutdown(conn.fd, SHUT_RDWR);
    free(buffer);
    return NULL;
}

static void *accept_loop(void *arg)
{
    struct fake *fake = arg;
    int fd;

    while ((fd = accept(fake->listen_fd, NULL, NULL)) >= 0) {
        struct conn_arg *conn = malloc(sizeof(*conn));
        *conn = (struct conn_arg){fake, fd};
        assert_true(fake->conn_count < ARRAY_LEN(fake->conns));
        fake->conns[fake->conn_count] = fd;
        pthread_create(&fake->conn_threads[fake->conn_count], NULL, serve, conn);
        fake->conn_count++;
    }
    return NULL;
}

/* Uptime, a time, rows since then, engine, columns. */
#define TRACE(uptime, engine, type) \
    "[" uptime ", \"1700000000\", 100, [\"" engine "\"], [[\"event_id\", \"" type "\", \"\"]]]\n"
#define TRACE_OLD TRACE("1000000000", "MergeTree", "String")
#define TRACE_RESTARTED TRACE("0", "MergeTree", "LowCardinality(String)")
#define SITE_REPLICA "ReplicatedMergeTree\t/clickhouse/tables/01/t\t0\n"
#define PROBE_REPLICATED "26.7.2.1\t1\tReplicatedMergeTree\t0\t\t0\tu\t1\te\n"
#define PROBE_PLAIN "26.7.2.1\t1\tMergeTree\t0\t1000\t0\tu\t1\te\n"

static void fake_start(struct fake *fake)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    pthread_mutex_init(&fake->lock, NULL);
    fake->probe = PROBE_PLAIN;
    fake->columns = "";
    fake->site = SITE_REPLICA;
    fake->trace = TRACE_OLD;
    fake->mode_count = -1;
    fake->requests = calloc(REQUESTS_MAX, sizeof(*fake->requests));
    fake->listen_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fake->listen_fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fake->listen_fd, 64), 0);
    getsockname(fake->listen_fd, (struct sockaddr *)&address, &len);
    fake->port = ntohs(address.sin_port);
    pthread_create(&fake->thread, NULL, accept_loop, fake);
}

static void fake_stop(struct fake *fake)
{
    fake->probe_hangs = false;
    pthread_mutex_lock(&fake->lock);
    fake->stop = true;
    pthread_mutex_unlock(&fake->lock);
    shutdown(fake->listen_fd, SHUT_RDWR);
    pthread_join(fake->thread, NULL);
    close(fake->listen_fd);
    for (size_t i = 0; i < fake->conn_count; i++) {
        shutdown(fake->conns[i], SHUT_RDWR);
        pthread_join(fake->conn_threads[i], NULL);
        close(fake->conns[i]);
    }
    free(fake->requests);
}

/* What every probe from now on is answered. */
static inline void fake_set_probe(struct fake *fake, const char *probe)
{
    pthread_mutex_lock(&fake->lock);
    fake->probe = probe;
    pthread_mutex_unlock(&fake->lock);
}

static inline void fake_set_columns(struct fake *fake, const char *columns)
{
    pthread_mutex_lock(&fake->lock);
    fake->columns = columns;
    pthread_mutex_unlock(&fake->lock);
}

static inline void fake_set(struct fake *fake, enum fake_mode mode, int count)
{
    pthread_mutex_lock(&fake->lock);
    fake->mode = mode;
    fake->mode_count = count;
    pthread_mutex_unlock(&fake->lock);
}

static inline size_t fake_count(struct fake *fake)
{
    size_t count;

    pthread_mutex_lock(&fake->lock);
    count = fake->count;
    pthread_mutex_unlock(&fake->lock);
    return count;
}

#endif
