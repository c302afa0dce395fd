/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cost.c - sends the front's main kinds of requests through one set of connections in this process,
 * so that callgrind can count what each costs in user space.
 *
 * Everything that could differ between two runs is fixed: ids, the key of their hash, the clock (we
 * replace clock_gettime()), and the order of events, since all is one thread over socket pairs. So
 * the same binary costs the same number of instructions each time and on every machine that has
 * AVX2 (glibc and the scanner choose by it). Only what happens inside a turn is counted: neither
 * the client, nor the worker's part, nor the kernel.
 *
 *     cost [--time] [--ids N] [PATH ...]
 *
 * Under callgrind it dumps the counts of each path under its name. With --time it says how many
 * nanoseconds a request took at best, kernel included. --ids: how many ids L1 knows before.
 * bench/cost is the way to run it.
 */
#include "conn.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <valgrind/callgrind.h>

#include "alloy/tls.h"

#define EVENT_BYTES 300
#define EVENTS_MAX 100 /* of a request */
#define CONNECTIONS_MAX 32
#define WARM_UP 64 /* rounds that are not counted */
#define RING_CAPACITY 65536
#define HEAD \
    "POST /v1/events HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"

/* One kind of request. A round is one turn with a request or several. */
struct path {
    const char *name;
    unsigned rounds;
    unsigned connections; /* that send in a round */
    unsigned pipelined;   /* requests of each of them */
    unsigned events;      /* of each request */
    bool repeats;         /* the events are known */
    bool refused;         /* the ring is full, and has been */
    bool fresh;           /* each request has a connection of its own */
    bool tls;
};

static const struct path paths[] = {
    {"single", 1000, 1, 1, 1, .repeats = false},
    {"turn", 200, 32, 1, 1, .repeats = false},
    {"tls", 200, 32, 1, 1, .tls = true},
    {"pipelined", 200, 1, 32, 1, .repeats = false},
    {"ndjson", 100, 1, 1, 100, .repeats = false},
    {"duplicate", 1000, 1, 1, 1, .repeats = true},
    {"ndjson_duplicate", 100, 1, 1, 100, .repeats = true},
    {"refused", 1000, 1, 1, 1, .refused = true},
    {"connection", 500, 1, 1, 1, .fresh = true},
};

static struct config config;
static struct config_ref config_ref;
static struct route_table routes;
static struct event_id_key key = {"0123456789abcdef"};
static struct conn_shared shared;
static struct ring *ring;
static struct journal *journal;
static struct journal_writer *writer, *large_writer;
static struct l1 *l1;
static struct l1_thread *l1_thread;
static struct metrics *metrics;
static struct metrics_thread *thread;
static struct admission *admission, *large;
static struct event_base *base;
static struct conn_set *set;
static struct conn_inbox passed;
static int clients[CONNECTIONS_MAX];
static SSL *over_tls[CONNECTIONS_MAX]; /* NULL: this client speaks plain HTTP */
static uint64_t next_id;
static bool timing;

/* In place of libc's, for libevent too: a microsecond passes with each look. */
int clock_gettime(clockid_t id, struct timespec *now)
{
    static uint64_t us = UINT64_C(1769860800) * 1000000;

    (void)id;
    us++;
    *now =
        (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
    return 0;
}

static uint64_t cost_real_ns(void)
{
    struct timespec now;

    (void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void cost_check(bool good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "cost: %s\n", what);
    exit(1);
}

static struct admission *cost_admission(struct journal_writer *of)
{
    return admission_create(&(struct admission_parts){.ring = ring,
                                                      .journal = journal,
                                                      .writer = of,
                                                      .l1 = l1_thread,
                                                      .metrics = thread,
                                                      .stream_keys = &key});
}

/* The ids of other requests, which make the table as full as it is in practice. */
static void cost_fill_l1(uint64_t ids)
{
    uint64_t x = 88172645463325252;

    for (uint64_t i = 0; i < ids; i++) {
        struct hash128 hash;

        /* Marsaglia's xorshift64 */
        for (int j = 0; j < 2; j++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            *(j == 0 ? &hash.lo : &hash.hi) = x;
        }
        (void)l1_add(l1_thread, &hash, i + 1, 1);
    }
}

static void cost_make_parts(uint64_t ids)
{
    static const char *const names[] = {"events"};
    const struct journal_options options = {.segment_bytes = 64 << 20,
                                            .max_bytes = UINT64_C(4) << 30,
                                            .sync = JOURNAL_SYNC_NEVER,
                                            .writer_count = 1,
                                            .stream_names = names,
                                            .stream_count = 1};
    char error[JOURNAL_ERROR_MAX];

    ring = ring_create(RING_CAPACITY);
    cost_check(ring != NULL && journal_open(&journal, &options, error) == 0, "no journal");
    writer = journal_writer_create(journal);
    large_writer = journal_writer_create(journal);
    l1 = l1_create(ids < 1000000 ? 1000000 : (size_t)(ids + ids / 8), 3600000, 1);
    l1_thread = l1_thread_create(l1);
    metrics = metrics_create();
    thread = metrics_thread_create(metrics);
    admission = cost_admission(writer);
    large = cost_admission(large_writer);
    base = event_base_new();
    cost_check(admission != NULL && large != NULL && base != NULL, "no memory");
    cost_fill_l1(ids);
}

static void cost_write_pem(char *path, EVP_PKEY *private, X509 *cert)
{
    const int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

    cost_check(file != NULL, "no file");
    cost_check(cert != NULL ? PEM_write_X509(file, cert) == 1
                            : PEM_write_PrivateKey(file, private, NULL, NULL, 0, NULL, NULL) == 1,
               "cannot write a certificate");
    (void)fclose(file);
}

/* A certificate that nobody looks at. */
static struct tls *cost_make_tls(void)
{
    char cert_path[] = "/tmp/alloy-cost-XXXXXX", key_path[] = "/tmp/alloy-cost-XXXXXX";
    const char *const files[TLS_FILE_COUNT] = {cert_path, key_path, ""};
    struct tls_problems problems;
    EVP_PKEY *private = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    struct tls *tls = NULL;

    cost_check(private != NULL && cert != NULL, "no key");
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, private);
    cost_check(X509_sign(cert, private, EVP_sha256()) > 0, "cannot sign");
    cost_write_pem(cert_path, NULL, cert);
    cost_write_pem(key_path, private, NULL);
    cost_check(tls_load(&tls, files, &problems) == 0, problems.texts[TLS_CERT]);
    unlink(cert_path);
    unlink(key_path);
    X509_free(cert);
    EVP_PKEY_free(private);
    return tls;
}

static void cost_start(uint64_t ids)
{
    cost_make_parts(ids);
    config = (struct config){.server_cors_origins = "",
                             .tls = cost_make_tls(),
                             .server_max_connections = 2 * CONNECTIONS_MAX + 1,
                             .server_max_head_bytes = 16384,
                             .server_max_body_bytes = 8 << 20,
                             .server_max_buffers_bytes = 64 << 20,
                             .server_head_timeout_ms = 3600000,
                             .server_body_timeout_ms = 3600000,
                             .server_idle_timeout_ms = 3600000,
                             .streams = {{.name = "events",
                                          .paths = {"/v1/events"},
                                          .path_count = 1,
                                          .ids = {{CONFIG_ID_MEMBER, "event_id", 0}},
                                          .id_count = 1}},
                             .stream_count = 1};
    atomic_store(&config_ref.current, &config);
    route_init(&routes, &config);
    shared = (struct conn_shared){.config = &config_ref,
                                  .routes = &routes,
                                  .metrics = metrics,
                                  .budget = {.max = config.server_max_buffers_bytes},
                                  .connections_max = config.server_max_connections,
                                  .refused_max = 4};
    set = conn_set_create(&(struct conn_parts){.shared = &shared,
                                               .base = base,
                                               .admission = admission,
                                               .large = large,
                                               .metrics = thread,
                                               .thread_count = 1,
                                               .passed = &passed});
    cost_check(set != NULL, "no memory");
}

static int cost_connect(bool tls)
{
    const struct address peer = {.family = ADDRESS_UNIX};
    const int room = 1 << 20;
    int pair[2];

    cost_check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0, "no socket");
    (void)setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    conn_accept(set, pair[1], &peer, tls);
    return pair[0];
}

static void cost_turn(void)
{
    conn_turn_begin(set);
    event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    conn_turn_end(set);
}

static void cost_connect_plain(void)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        if (over_tls[i] != NULL) {
            SSL_free(over_tls[i]);
            close(clients[i]);
            over_tls[i] = NULL;
        }
        clients[i] = cost_connect(false);
    }
    cost_turn();
}

/* In place of all clients, those that speak TLS. */
static void cost_connect_tls(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    cost_check(context != NULL, "no memory");
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        close(clients[i]);
        clients[i] = cost_connect(true);
        over_tls[i] = SSL_new(context);
        cost_check(over_tls[i] != NULL && SSL_set_fd(over_tls[i], clients[i]) == 1, "no memory");
        SSL_set_connect_state(over_tls[i]);
        for (int turns = 0; SSL_do_handshake(over_tls[i]) != 1; turns++) {
            cost_check(turns < 10, "no handshake");
            ERR_clear_error();
            cost_turn();
        }
    }
    SSL_CTX_free(context);
    cost_turn();
}

static ssize_t cost_recv(unsigned at, char *in, size_t size)
{
    int n;

    if (over_tls[at] == NULL)
        return recv(clients[at], in, size, 0);
    n = SSL_read(over_tls[at], in, (int)size);
    ERR_clear_error();
    if (n <= 0)
        errno = EAGAIN;
    return n > 0 ? n : -1;
}

/* A turn that counts. Returns its nanoseconds, with timing. */
static uint64_t cost_counted_turn(void)
{
    const uint64_t before = timing ? cost_real_ns() : 0;

    CALLGRIND_TOGGLE_COLLECT;
    cost_turn();
    CALLGRIND_TOGGLE_COLLECT;
    return timing ? cost_real_ns() - before : 0;
}

/* What bench/wrk sends: an event of EVENT_BYTES. */
static size_t cost_write_event(char *out, uint64_t id)
{
    static const char rest[] = "\",\"event_type\":\"page_view\",\"user_id\":\"u12345\","
                               "\"ts\":\"2026-01-31T12:34:56.789Z\",\"properties\":{\"path\":"
                               "\"/products/12345\",\"referrer\":null,\"scroll\":0.75,\"tags\":"
                               "[\"bench\",\"wrk\"],\"filler\":\"";
    size_t len = (size_t)sprintf(out, "{\"event_id\":\"cost-01-%010" PRIu64 "%s", id, rest);

    while (len < EVENT_BYTES - 3)
        out[len++] = 'x';
    memcpy(out + len, "\"}}", 4);
    return EVENT_BYTES;
}

/* Writes the requests of one connection in one round. */
static size_t cost_write_requests(char *out, const struct path *path)
{
    const size_t each = EVENT_BYTES + (path->events > 1);
    size_t len = 0;

    for (unsigned r = 0; r < path->pipelined; r++) {
        len += (size_t)sprintf(out + len, HEAD "Content-Length: %zu\r\n\r\n", path->events * each);
        for (unsigned i = 0; i < path->events; i++) {
            len += cost_write_event(out + len, next_id++);
            if (path->events > 1)
                out[len++] = '\n';
        }
    }
    return len;
}

static void cost_send(unsigned at, const struct path *path)
{
    static char out[CONNECTIONS_MAX * 512 + EVENTS_MAX * (EVENT_BYTES + 1)];
    const size_t len = cost_write_requests(out, path);

    cost_check(over_tls[at] != NULL ? SSL_write(over_tls[at], out, (int)len) == (int)len
                                    : send(clients[at], out, len, MSG_NOSIGNAL) == (ssize_t)len,
               "cannot send");
}

/* Receives the answers of one connection. False: they are not there yet. */
static bool cost_receive(unsigned at, const struct path *path)
{
    static char in[65536];
    const ssize_t n = cost_recv(at, in, sizeof(in) - 1);
    const char *want = path->refused                       ? "HTTP/1.1 503 "
                       : path->repeats && path->events > 1 ? "\"accepted\":0,\"duplicates\":100}"
                       : path->repeats                     ? "\"accepted\":0,\"duplicates\":1}"
                       : path->events > 1                  ? "\"accepted\":100,\"duplicates\":0}"
                                                           : "\"accepted\":1,\"duplicates\":0}";
    unsigned answers = 0;

    if (n < 0 && errno == EAGAIN)
        return false;
    in[n > 0 ? n : 0] = '\0';
    for (const char *one = in; (one = strstr(one, want)) != NULL; one++)
        answers++;
    cost_check(answers == path->pipelined, "not the answers that were due");
    return true;
}

/* What worker and flusher do with the events. */
static void cost_drain(void)
{
    static struct record *records[RING_CAPACITY];
    size_t n;

    while ((n = ring_take(ring, records, ARRAY_LEN(records))) > 0)
        journal_finish(journal, records, n, RECORD_INSERTED);
}

static uint64_t cost_round(const struct path *path)
{
    uint64_t ns = 0;

    if (path->repeats)
        next_id -= (uint64_t)path->connections * path->pipelined * path->events;
    if (path->fresh)
        clients[0] = cost_connect(false);
    for (unsigned i = 0; i < path->connections; i++)
        cost_send(i, path);
    /* A large body takes several reads, each in a turn of its own. */
    for (unsigned i = 0; i < path->connections;) {
        ns += cost_counted_turn();
        while (i < path->connections && cost_receive(i, path))
            i++;
    }
    cost_drain();
    if (!path->fresh)
        return ns;
    close(clients[0]);
    return ns + cost_counted_turn();
}

static int cost_compare(const void *a, const void *b)
{
    const uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

static void cost_measure(const struct path *path)
{
    static uint64_t ns[1000];
    const unsigned requests = path->connections * path->pipelined;
    struct path fill = *path;
    int client = -1;

    fill.repeats = false;
    if (path->refused)
        cost_check(ring_reserve(ring, RING_CAPACITY), "the ring is not empty");
    if (path->fresh)
        client = clients[0];
    if (path->repeats)
        (void)cost_round(&fill);
    for (unsigned i = 0; i < WARM_UP; i++)
        (void)cost_round(path);
    CALLGRIND_ZERO_STATS;
    for (unsigned i = 0; i < path->rounds; i++)
        ns[i] = cost_round(path);
    CALLGRIND_DUMP_STATS_AT(path->name);
    if (path->refused)
        ring_cancel(ring, RING_CAPACITY);
    if (path->fresh)
        clients[0] = client;
    qsort(ns, path->rounds, sizeof(ns[0]), cost_compare);
    printf("%s %u %u %" PRIu64 "\n", path->name, path->rounds * requests, path->events,
           ns[path->rounds / 10] / requests);
    fflush(stdout);
}

static bool cost_wanted(const char *name, char **names, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return count == 0;
}

int main(int argc, char **argv)
{
    uint64_t ids = 100000;
    int at = 1;

    for (; at < argc && argv[at][0] == '-'; at++) {
        if (strcmp(argv[at], "--time") == 0)
            timing = true;
        else if (strcmp(argv[at], "--ids") == 0 && at + 1 < argc)
            ids = strtoull(argv[++at], NULL, 10);
        else
            cost_check(false, "usage: cost [--time] [--ids N] [PATH ...]");
    }
    cost_start(ids);
    cost_connect_plain();

    CALLGRIND_START_INSTRUMENTATION;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (cost_wanted(paths[i].name, argv + at, argc - at)) {
            if (paths[i].tls)
                cost_connect_tls();
            cost_measure(&paths[i]);
            if (paths[i].tls)
                cost_connect_plain();
        }
    /* What is left is the process's: its end frees it. */
    return 0;
}
