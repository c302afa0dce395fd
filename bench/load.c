/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c - posts events as fast as told, and measures how long the answers take.
 *
 * A load generator must cost little, or it is what gets measured: wrk with Lua takes more CPU a
 * request than alloyd does. Here a request is a template in memory in which some digits change, and
 * an answer's head is compared with the one before it, and read only when it differs.
 *
 * Without --rate each connection sends again when it is answered (closed loop): a slow server is
 * asked less often, and its worst moments are hardly seen. With --rate every request has a time at
 * which it is due, and its latency counts from then, also while no connection is free for it; what
 * was due and never sent counts until the end (so there is no coordinated omission).
 *
 * Threads share nothing but the order to stop. Each has its own epoll, connections and histogram.
 *
 * INT and TERM end the run early. Usage: see usage(). Prints one line "RESULT {...}", times in
 * microseconds; exit status 1 when there was no answer at all.
 */
#define _GNU_SOURCE
#include "load_histogram.h"
#include "load_options.h"

#include "alloy/timeslice.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define REPEATED 1000 /* a duplicate repeats one of so many */
#define POLLED_MAX 256
#define INPUT_BYTES 16384
#define HEAD_MAX 4096
#define NS 1000000000ull
#define LAST_ANSWERS_NS (5 * NS) /* the longest wait for them at the end */
#define STATUS_MAX 600
#define SLICE_NS 100000ull

struct connection {
    int fd;
    SSL *ssl;
    uint64_t sent_ns[PIPELINE_MAX]; /* when each request was sent, or due */
    unsigned sent, answered;        /* of what is under way */
    char *rest;                     /* of a request that the socket did not take, owned */
    size_t rest_len, rest_done;
    struct connection *next_idle;
    size_t input_len;
    char input[INPUT_BYTES];
};

struct thread {
    pthread_t id;
    unsigned number;
    const struct options *options;
    SSL_CTX *tls;
    int epoll;
    unsigned connection_count;
    struct connection *connections;
    /* Those with nothing under way, in an open loop; they take turns, so that all are used. */
    struct connection *idle, *idle_last;

    char *burst; /* options->pipeline requests */
    size_t request_len, head_len, event_len;
    uint64_t event_number, new_number; /* of all, and of those that are no duplicates */
    unsigned stream;                   /* of the next request */

    uint64_t due_count; /* requests handed out by the open loop */
    uint64_t start_ns, end_ns;
    char head[HEAD_MAX]; /* the last answer's head, */
    size_t head_known;   /* its length, */
    size_t body_len;     /* what it says of its body, */
    unsigned status;     /* and its status */
    bool closes;

    struct histogram latency;
    uint64_t requests, bytes, reconnects, errors_read, errors_write, unsent;
    uint64_t statuses[STATUS_MAX];
};

static atomic_bool load_stop;
static pthread_barrier_t load_connected, load_begun;

static const char event_format[] =
    "{\"event_id\":\"%s-%02u-%010u\",\"event_type\":\"page_view\",\"user_id\":\"u%05u\","
    "\"ts\":\"2026-01-31T12:00:00.000Z\",\"properties\":{\"path\":\"/products/%05u\","
    "\"referrer\":null,\"scroll\":0.75,\"tags\":[\"bench\",\"load\"],\"filler\":\"%.*s\"}}";

static void load_fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, errno != 0 ? strerror(errno) : "failed");
    exit(1);
}

static uint64_t load_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

/* ---- requests */

static void load_put_digits(char *at, unsigned width, uint64_t number)
{
    while (width-- > 0) {
        at[width] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* Makes the requests of a burst, all alike; load_renew() numbers their events. */
static void load_make_burst(struct thread *thread)
{
    static char filler[1u << 20];
    const struct options *options = thread->options;
    char event[sizeof(filler) + 1024], head[HEAD_MAX];
    const int bare = snprintf(event, sizeof(event), event_format, options->run, thread->number, 0,
                              0, 0, 0, filler);
    const int fill = (int)options->bytes > bare ? (int)options->bytes - bare : 0;
    char *at;

    memset(filler, 'x', sizeof(filler) - 1);
    thread->event_len = (size_t)snprintf(event, sizeof(event), event_format, options->run,
                                         thread->number, 0, 0, 0, fill, filler);
    thread->head_len = (size_t)snprintf(
        head, sizeof(head),
        "POST %s%s HTTP/1.1\r\nHost: %s:%s\r\nContent-Type: application/json\r\n%s%s"
        "Content-Length: %zu\r\n\r\n",
        options->path, options->streams > 0 ? "00" : "", options->host, options->port,
        options->header, *options->header != '\0' ? "\r\n" : "",
        options->events * (thread->event_len + 1) - 1);
    thread->request_len = thread->head_len + options->events * (thread->event_len + 1) - 1;
    thread->burst = at = malloc(options->pipeline * thread->request_len + 1);
    if (at == NULL)
        load_fail("requests");
    for (unsigned i = 0; i < options->pipeline; i++) {
        at = mempcpy(at, head, thread->head_len);
        for (unsigned k = 0; k < options->events; k++) {
            at = mempcpy(at, event, thread->event_len);
            *at++ = '\n';
        }
        at--; /* no newline behind the last */
    }
}

/* The number that makes the next event's id. Duplicates lie evenly among the new ones. */
static uint64_t load_next_number(struct thread *thread)
{
    const uint64_t number = thread->event_number++;

    if (number * 37 % 100 >= thread->options->duplicates || thread->new_number == 0)
        return thread->new_number++;
    return thread->new_number - 1 -
           number % (thread->new_number < REPEATED ? thread->new_number : REPEATED);
}

/* Gives each event of the first count requests an id, and each request its path. */
static void load_renew(struct thread *thread, unsigned count)
{
    const size_t number_at = strlen("{\"event_id\":\"") + strlen(thread->options->run) + 4;
    const size_t user_at =
        number_at + 10 + strlen("\",\"event_type\":\"page_view\",\"user_id\":\"u");
    const size_t stream_at = strlen("POST ") + strlen(thread->options->path);

    for (unsigned i = 0; i < count; i++) {
        char *request = thread->burst + i * thread->request_len;
        char *event = request + thread->head_len;

        if (thread->options->streams > 0) {
            load_put_digits(request + stream_at, 2, thread->stream);
            thread->stream = (thread->stream + 1) % thread->options->streams;
        }
        for (unsigned k = 0; k < thread->options->events; k++) {
            const uint64_t number = load_next_number(thread);

            load_put_digits(event + number_at, 10, number);
            load_put_digits(event + user_at, 5, number % 100000);
            event += thread->event_len + 1;
        }
    }
}

/* ---- connections */

static void connection_watch(struct thread *thread, struct connection *connection, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0),
                                .data.ptr = connection};

    if (epoll_ctl(thread->epoll, EPOLL_CTL_MOD, connection->fd, &event) != 0)
        load_fail("epoll_ctl");
}

static void connection_open(struct thread *thread, struct connection *connection)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    struct addrinfo *found;

    if (getaddrinfo(thread->options->host, thread->options->port, &hints, &found) != 0)
        load_fail("host");
    connection->fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, found->ai_addr, found->ai_addrlen) != 0)
        load_fail("connect");
    freeaddrinfo(found);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (thread->tls != NULL) {
        connection->ssl = SSL_new(thread->tls);
        if (connection->ssl == NULL || SSL_set_fd(connection->ssl, connection->fd) != 1 ||
            SSL_connect(connection->ssl) != 1) {
            ERR_print_errors_fp(stderr);
            load_fail("TLS");
        }
    }
    if (fcntl(connection->fd, F_SETFL, O_NONBLOCK) != 0 ||
        epoll_ctl(thread->epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0)
        load_fail("connection");
}

static void connection_close(struct connection *connection)
{
    SSL_free(connection->ssl);
    close(connection->fd);
    free(connection->rest);
    connection->fd = -1;
    connection->ssl = NULL;
    connection->rest = NULL;
    connection->rest_len = connection->rest_done = connection->input_len = 0;
    connection->sent = connection->answered = 0;
}

/* Returns how much went out, or -1 with errno. */
static ssize_t connection_write(struct connection *connection, const char *data, size_t len)
{
    int n;

    if (connection->ssl == NULL)
        return send(connection->fd, data, len, MSG_NOSIGNAL);
    n = SSL_write(connection->ssl, data, (int)len);
    if (n > 0)
        return n;
    errno = SSL_get_error(connection->ssl, n) == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
    return -1;
}

static ssize_t connection_read(struct connection *connection)
{
    char *at = connection->input + connection->input_len;
    const size_t room = INPUT_BYTES - connection->input_len;
    int n;

    if (connection->ssl == NULL)
        return recv(connection->fd, at, room, 0);
    n = SSL_read(connection->ssl, at, (int)room);
    if (n > 0)
        return n;
    n = SSL_get_error(connection->ssl, n);
    if (n == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = n == SSL_ERROR_WANT_READ ? EAGAIN : ECONNRESET;
    return -1;
}

/* Sends what is left of a burst. False: the connection is broken. */
static bool connection_send_rest(struct thread *thread, struct connection *connection)
{
    while (connection->rest_done < connection->rest_len) {
        ssize_t n = connection_write(connection, connection->rest + connection->rest_done,
                                     connection->rest_len - connection->rest_done);

        if (n < 0)
            return errno == EAGAIN;
        connection->rest_done += (size_t)n;
    }
    free(connection->rest);
    connection->rest = NULL;
    connection->rest_len = connection->rest_done = 0;
    connection_watch(thread, connection, false);
    return true;
}

/* Sends the first len bytes of the burst. False: the connection is broken. */
static bool connection_send(struct thread *thread, struct connection *connection, size_t len)
{
    ssize_t n = connection_write(connection, thread->burst, len);

    if (n < 0 && errno != EAGAIN)
        return false;
    n = n < 0 ? 0 : n;
    if ((size_t)n == len)
        return true;
    connection->rest = malloc(len - (size_t)n);
    if (connection->rest == NULL)
        load_fail("memory");
    connection->rest_len = len - (size_t)n;
    memcpy(connection->rest, thread->burst + n, connection->rest_len);
    connection_watch(thread, connection, true);
    return true;
}

/* ---- answers */

/* Reads a head that is not the one before it. False: not HTTP, or of unknown length. */
static bool load_learn_head(struct thread *thread, const char *input, size_t head_len)
{
    static const char length[] = "content-length:", closing[] = "connection: close";
    const char *line = input, *end = input + head_len;
    bool known = false;

    if (head_len > HEAD_MAX || head_len < 12 || memcmp(input, "HTTP/1.", 7) != 0)
        return false;
    thread->status = (unsigned)atoi(input + 9);
    thread->closes = false;
    while (line < end) {
        if (strncasecmp(line, length, sizeof(length) - 1) == 0) {
            thread->body_len = strtoul(line + sizeof(length) - 1, NULL, 10);
            known = true;
        }
        if (strncasecmp(line, closing, sizeof(closing) - 1) == 0)
            thread->closes = true;
        line = (const char *)memchr(line, '\n', (size_t)(end - line)) + 1;
    }
    memcpy(thread->head, input, head_len);
    thread->head_known = head_len;
    return known && thread->status >= 100 && thread->status < STATUS_MAX;
}

/* Length of the answer that begins at input, once it is whole; 0: more is needed; -1: no answer. */
static ssize_t load_answer_len(struct thread *thread, const char *input, size_t len)
{
    const char *end;

    if (len == 0)
        return 0;
    if (thread->head_known == 0 || len < thread->head_known ||
        memcmp(input, thread->head, thread->head_known) != 0) {
        end = memmem(input, len, "\r\n\r\n", 4);
        if (end == NULL)
            return len < HEAD_MAX ? 0 : -1;
        if (!load_learn_head(thread, input, (size_t)(end + 4 - input)))
            return -1;
    }
    if (thread->head_known + thread->body_len > INPUT_BYTES)
        return -1;
    return len >= thread->head_known + thread->body_len
               ? (ssize_t)(thread->head_known + thread->body_len)
               : 0;
}

/* Counts the answers that have arrived. False: the connection is of no more use. */
static bool connection_take_answers(struct thread *thread, struct connection *connection)
{
    const uint64_t now_ns = load_now_ns();
    size_t done = 0;
    ssize_t len;

    while (connection->answered < connection->sent &&
           (len = load_answer_len(thread, connection->input + done,
                                  connection->input_len - done)) != 0) {
        if (len < 0) {
            thread->errors_read++;
            return false;
        }
        histogram_add(&thread->latency, now_ns - connection->sent_ns[connection->answered]);
        connection->answered++;
        thread->requests++;
        thread->bytes += (uint64_t)len;
        thread->statuses[thread->status]++;
        done += (size_t)len;
        if (thread->closes) {
            /* What was sent behind it gets no answer. */
            if (connection->answered < connection->sent)
                thread->errors_read++;
            return false;
        }
    }
    connection->input_len -= done;
    memmove(connection->input, connection->input + done, connection->input_len);
    return true;
}

/* ---- the loop */

/* The time at which the request with this number is due, in an open loop. */
static uint64_t load_due_ns(const struct thread *thread, uint64_t number)
{
    const double own = thread->options->rate / thread->options->threads;

    /* Threads begin one after another within one interval, so that they do not fire together. */
    return thread->start_ns +
           (uint64_t)(((double)number + (double)thread->number / thread->options->threads) / own *
                      (double)NS);
}

static void load_reconnect(struct thread *thread, struct connection *connection)
{
    connection_close(connection);
    if (atomic_load(&load_stop))
        return;
    thread->reconnects++;
    connection_open(thread, connection);
}

/* Sends count requests; in a closed loop they are due now. */
static void load_send(struct thread *thread, struct connection *connection, unsigned count,
                      const uint64_t *due_ns)
{
    const uint64_t now_ns = due_ns == NULL ? load_now_ns() : 0;

    load_renew(thread, count);
    connection->sent = count;
    connection->answered = 0;
    for (unsigned i = 0; i < count; i++)
        connection->sent_ns[i] = due_ns != NULL ? due_ns[i] : now_ns;
    while (!connection_send(thread, connection, count * thread->request_len)) {
        thread->errors_write++;
        load_reconnect(thread, connection);
        if (atomic_load(&load_stop))
            return;
    }
}

/* The connection has nothing under way. */
static void load_go_on(struct thread *thread, struct connection *connection)
{
    if (atomic_load_explicit(&load_stop, memory_order_relaxed))
        return;
    if (thread->options->rate > 0) {
        connection->next_idle = NULL;
        *(thread->idle != NULL ? &thread->idle_last->next_idle : &thread->idle) = connection;
        thread->idle_last = connection;
        return;
    }
    load_send(thread, connection, thread->options->pipeline, NULL);
}

static void load_ready(struct thread *thread, struct connection *connection, uint32_t events)
{
    ssize_t n;

    if ((events & EPOLLOUT) != 0 && connection->rest != NULL &&
        !connection_send_rest(thread, connection)) {
        thread->errors_write++;
        load_reconnect(thread, connection);
        load_go_on(thread, connection);
        return;
    }
    do {
        const bool busy = connection->answered < connection->sent;

        n = connection_read(connection);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0)
            connection->input_len += (size_t)n;
        if (n <= 0 || !connection_take_answers(thread, connection)) {
            if (n <= 0 && busy)
                thread->errors_read++;
            load_reconnect(thread, connection);
            if (busy)
                load_go_on(thread, connection);
            return;
        }
        if (connection->sent > 0 && connection->answered == connection->sent) {
            connection->sent = connection->answered = 0;
            load_go_on(thread, connection);
        }
    } while (connection->ssl != NULL && SSL_pending(connection->ssl) > 0);
}

/* Hands what is due to idle connections. Returns how long to wait for the next. */
static uint64_t load_send_due(struct thread *thread)
{
    uint64_t due_ns[PIPELINE_MAX];
    uint64_t next_ns = load_due_ns(thread, thread->due_count), now_ns = load_now_ns();

    while (next_ns <= now_ns && thread->idle != NULL) {
        struct connection *connection = thread->idle;
        unsigned count = 0;

        thread->idle = connection->next_idle;
        while (count < thread->options->pipeline && next_ns <= now_ns) {
            due_ns[count++] = next_ns;
            next_ns = load_due_ns(thread, ++thread->due_count);
        }
        load_send(thread, connection, count, due_ns);
    }
    if (thread->idle == NULL)
        return NS / 10;
    return next_ns > now_ns ? next_ns - now_ns : 0;
}

static bool load_is_under_way(const struct thread *thread)
{
    for (unsigned i = 0; i < thread->connection_count; i++)
        if (thread->connections[i].answered < thread->connections[i].sent)
            return true;
    return false;
}

/* What was due by stop_ns and has no answer has waited at least until the end. */
static void load_count_unanswered(struct thread *thread, uint64_t stop_ns)
{
    if (thread->options->rate <= 0)
        return;
    for (unsigned i = 0; i < thread->connection_count; i++) {
        const struct connection *connection = &thread->connections[i];

        for (unsigned k = connection->answered; k < connection->sent; k++)
            histogram_add(&thread->latency, thread->end_ns - connection->sent_ns[k]);
    }
    for (uint64_t due_ns; (due_ns = load_due_ns(thread, thread->due_count)) < stop_ns;
         thread->due_count++) {
        thread->unsent++;
        histogram_add(&thread->latency, thread->end_ns - due_ns);
    }
}

static void load_poll(struct thread *thread, uint64_t wait_ns)
{
    const struct timespec wait = {.tv_sec = (time_t)(wait_ns / NS),
                                  .tv_nsec = (long)(wait_ns % NS)};
    struct epoll_event polled[POLLED_MAX];
    const int count = epoll_pwait2(thread->epoll, polled, POLLED_MAX, &wait, NULL);

    for (int i = 0; i < count; i++)
        load_ready(thread, polled[i].data.ptr, polled[i].events);
}

static void *load_run(void *arg)
{
    struct thread *thread = arg;
    uint64_t stop_ns;

    /* What waits for a processor in here would count as the server's latency; a client elsewhere
     * has a processor of its own. In a closed loop it is the same CPU that both sides want. */
    if (thread->options->rate > 0)
        (void)timeslice_set(SLICE_NS);
    for (unsigned i = 0; i < thread->connection_count; i++)
        connection_open(thread, &thread->connections[i]);
    pthread_barrier_wait(&load_connected);
    pthread_barrier_wait(&load_begun);
    thread->start_ns = load_now_ns();
    for (unsigned i = 0; i < thread->connection_count; i++)
        load_go_on(thread, &thread->connections[i]);
    while (!atomic_load_explicit(&load_stop, memory_order_relaxed))
        load_poll(thread, thread->options->rate > 0 ? load_send_due(thread) : NS / 10);
    /* What is under way is answered, so that both sides count the same. */
    stop_ns = load_now_ns();
    while (load_is_under_way(thread) && load_now_ns() < stop_ns + LAST_ANSWERS_NS)
        load_poll(thread, NS / 10);
    thread->end_ns = load_now_ns();
    load_count_unanswered(thread, stop_ns);
    for (unsigned i = 0; i < thread->connection_count; i++)
        connection_close(&thread->connections[i]);
    return NULL;
}

/* ---- start and result */

static void load_prepare(struct thread *thread, const struct options *options, unsigned number)
{
    const unsigned share = options->connections / options->threads;

    *thread = (struct thread){
        .number = number,
        .options = options,
        .epoll = epoll_create1(EPOLL_CLOEXEC),
        .connection_count = share + (number < options->connections % options->threads),
    };
    thread->connections = calloc(thread->connection_count, sizeof(*thread->connections));
    if (thread->epoll < 0 || thread->connections == NULL)
        load_fail("thread");
    if (options->tls) {
        thread->tls = SSL_CTX_new(TLS_client_method());
        if (thread->tls == NULL)
            load_fail("TLS");
        SSL_CTX_set_mode(thread->tls,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_read_ahead(thread->tls, 1);
    }
    load_make_burst(thread);
}

static double load_cpu_s(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Returns the exit status. */
static int load_print(struct thread *threads, unsigned count)
{
    static struct thread sum;
    uint64_t failed = 0, duration_ns = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct thread *thread = &threads[i];

        histogram_merge(&sum.latency, &thread->latency);
        sum.requests += thread->requests;
        sum.bytes += thread->bytes;
        sum.reconnects += thread->reconnects;
        sum.errors_read += thread->errors_read;
        sum.errors_write += thread->errors_write;
        sum.unsent += thread->unsent;
        for (unsigned k = 0; k < STATUS_MAX; k++) {
            sum.statuses[k] += thread->statuses[k];
            failed += k >= 400 ? thread->statuses[k] : 0;
        }
        if (thread->end_ns - thread->start_ns > duration_ns)
            duration_ns = thread->end_ns - thread->start_ns;
    }
    printf("RESULT {\"requests\":%" PRIu64 ",\"duration_us\":%" PRIu64 ",\"bytes\":%" PRIu64
           ",\"errors\":{\"connect\":0,\"read\":%" PRIu64 ",\"write\":%" PRIu64
           ",\"timeout\":0,\"status\":%" PRIu64 "},\"reconnects\":%" PRIu64 ",\"unsent\":%" PRIu64
           ",\"cpu_us\":%.3f,\"codes\":{",
           sum.requests, duration_ns / 1000, sum.bytes, sum.errors_read, sum.errors_write, failed,
           sum.reconnects, sum.unsent,
           sum.requests > 0 ? load_cpu_s() * 1e6 / (double)sum.requests : 0);
    for (unsigned k = 0, printed = 0; k < STATUS_MAX; k++)
        if (sum.statuses[k] > 0)
            printf("%s\"%u\":%" PRIu64, printed++ > 0 ? "," : "", k, sum.statuses[k]);
    printf(
        "},\"latency_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p99.9\":%.1f,\"max\":%.1f}}\n",
        histogram_percentile(&sum.latency, 50), histogram_percentile(&sum.latency, 90),
        histogram_percentile(&sum.latency, 99), histogram_percentile(&sum.latency, 99.9),
        (double)sum.latency.max_ns / 1000);
    return sum.requests > 0 ? 0 : 1;
}

/* Lets the threads begin once all are connected, and with --wait once told to. */
static void load_begin(const struct options *options)
{
    pthread_barrier_wait(&load_connected);
    if (options->wait) {
        puts("CONNECTED");
        fflush(stdout);
        if (getchar() == EOF)
            exit(1);
    }
    pthread_barrier_wait(&load_begun);
}

/* Waits until the time is over, or INT or TERM comes; both are blocked in all threads. */
static void load_wait(const sigset_t *signals, unsigned seconds)
{
    const struct timespec wait = {.tv_sec = (time_t)seconds};

    (void)sigtimedwait(signals, NULL, &wait);
    atomic_store(&load_stop, true);
}

int main(int argc, char **argv)
{
    static struct thread threads[THREADS_MAX];
    sigset_t signals;
    char run[32];
    struct options options = {.threads = 1,
                              .connections = 64,
                              .seconds = 10,
                              .pipeline = 1,
                              .events = 1,
                              .bytes = 300,
                              .run = run,
                              .header = ""};

    snprintf(run, sizeof(run), "r%" PRIx64, load_now_ns());
    load_parse(&options, argc, argv);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_barrier_init(&load_connected, NULL, options.threads + 1);
    pthread_barrier_init(&load_begun, NULL, options.threads + 1);
    for (unsigned i = 0; i < options.threads; i++)
        load_prepare(&threads[i], &options, i);
    for (unsigned i = 0; i < options.threads; i++)
        if (pthread_create(&threads[i].id, NULL, load_run, &threads[i]) != 0)
            load_fail("thread");
    load_begin(&options);
    load_wait(&signals, options.seconds);
    for (unsigned i = 0; i < options.threads; i++)
        pthread_join(threads[i].id, NULL);
    return load_print(threads, options.threads);
}
