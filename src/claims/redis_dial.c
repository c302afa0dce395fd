/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_dial.c - connects to Redis: to a server, or to the master that a Sentinel names, plain or
 * over TLS; then logs in and selects the database.
 *
 * Sentinels are asked before each connection. When a master fails its connections break, or it
 * refuses claims (READONLY), and either makes the caller connect again. A master that only the
 * Sentinels cannot reach goes on answering us, so we ask again each second. ROLE must say "master",
 * which is what Redis asks of clients of Sentinel: one that was demoted takes connections too.
 *
 * hiredis connects, because it bounds the time of that.
 *
 * Runs on: the thread that owns the link. Owns: nothing.
 */
#include "redis_link_private.h"

#include <hiredis/hiredis.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloy/clock.h"
#include "redis_tls.h"

/* How often a connected link asks whether its master is still the master; and after no Sentinel has
 * answered. */
#define ASK_AGAIN_NS (1 * CLOCK_NS_PER_S)
#define ASK_AGAIN_FAILED_NS (10 * CLOCK_NS_PER_S)

static const struct slice nothing = {"", 0};

static struct slice redis_dial_slice(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static void redis_dial_put(struct redis_link *link, const char *word)
{
    redis_link_put_bulk(link, redis_dial_slice(word), nothing);
}

static bool redis_dial_on_status(struct redis_link *link, const struct redis_link_element *element,
                                 bool direct)
{
    (void)link;
    return direct && element->root && element->type == REDIS_LINK_STATUS;
}

static bool redis_dial_on_master(struct redis_link *link, const struct redis_link_element *element,
                                 bool direct)
{
    const struct slice text = element->text;

    if (element->root)
        return element->type == REDIS_LINK_NIL ||
               (element->type == REDIS_LINK_ARRAY && element->count == 2);
    if (element->type != REDIS_LINK_STRING || !direct)
        return false;
    if (element->index == 0)
        snprintf(link->found_host, sizeof(link->found_host), "%.*s", (int)text.len, text.data);
    else
        snprintf(link->found_port, sizeof(link->found_port), "%.*s", (int)text.len, text.data);
    return true;
}

static bool redis_dial_on_role(struct redis_link *link, const struct redis_link_element *element,
                               bool direct)
{
    const struct slice text = element->text;

    if (direct && !element->root && element->index == 0)
        link->is_master = element->type == REDIS_LINK_STRING && text.len == 6 &&
                          memcmp(text.data, "master", 6) == 0;
    return true;
}

int redis_dial_command(struct redis_link *link, redis_link_handshake_fn handshake,
                       uint64_t deadline_ns)
{
    int err;

    link->handshake = handshake;
    link->refused = false;
    err = redis_link_send(link, deadline_ns);
    if (err == 0)
        err = redis_link_read(link, deadline_ns);
    link->handshake = NULL;
    return err == 0 && redis_link_refused(link) ? -EACCES : err;
}

static int redis_dial_log_in(struct redis_link *link, uint64_t deadline_ns)
{
    int err;

    redis_link_clear(link);
    redis_link_put_array(link, link->url.user != NULL ? 3 : 2);
    redis_dial_put(link, "AUTH");
    if (link->url.user != NULL)
        redis_dial_put(link, link->url.user);
    redis_dial_put(link, link->url.password);
    link->logs_in = true;
    err = redis_dial_command(link, redis_dial_on_status, deadline_ns);
    link->logs_in = false;
    return err;
}

static int redis_dial_select(struct redis_link *link, uint64_t deadline_ns)
{
    redis_link_clear(link);
    redis_link_put_array(link, 2);
    redis_dial_put(link, "SELECT");
    redis_dial_put(link, link->url.database);
    return redis_dial_command(link, redis_dial_on_status, deadline_ns);
}

static struct timeval redis_dial_time_left(uint64_t deadline_ns)
{
    const uint64_t now_ns = clock_mono_ns();
    /* At least a little: hiredis takes nothing for no limit. */
    const uint64_t left_ns =
        deadline_ns > now_ns + CLOCK_NS_PER_MS ? deadline_ns - now_ns : CLOCK_NS_PER_MS;

    return (struct timeval){.tv_sec = (time_t)(left_ns / CLOCK_NS_PER_S),
                            .tv_usec = (suseconds_t)(left_ns % CLOCK_NS_PER_S / 1000)};
}

/* Connects to host, or to the socket at url.path if it is NULL. */
static int redis_dial_connect(struct redis_link *link, const struct redis_host *host,
                              uint64_t deadline_ns)
{
    const struct timeval left = redis_dial_time_left(deadline_ns);
    redisContext *context = host != NULL ? redisConnectWithTimeout(host->name, host->port, left)
                                         : redisConnectUnixWithTimeout(link->url.path, left);
    int err = 0;

    if (context == NULL || context->err != 0) {
        redis_wire_set_reason(link, "connect: %s",
                              context != NULL ? context->errstr : "out of memory");
        redisFree(context);
        return -ENOTCONN;
    }
    redis_link_attach(link, context);
    if (link->url.tls && host != NULL)
        err = redis_tls_start(&link->tls, link, host->name, deadline_ns);
    return err;
}

/* Asks the connected Sentinel; once more with the password when it wants one. */
static int redis_dial_ask(struct redis_link *link, uint64_t deadline_ns)
{
    int err = 0;

    link->wants_password = false;
    for (int round = 0; round < 2; round++) {
        if (round > 0)
            err = redis_dial_log_in(link, deadline_ns);
        if (err != 0)
            return err;
        redis_link_clear(link);
        redis_link_put_array(link, 3);
        redis_dial_put(link, "SENTINEL");
        redis_dial_put(link, "GET-MASTER-ADDR-BY-NAME");
        redis_dial_put(link, link->url.master);
        link->found_host[0] = '\0';
        err = redis_dial_command(link, redis_dial_on_master, deadline_ns);
        if (err != -EACCES || !link->wants_password || link->url.password == NULL)
            return err;
        err = 0;
    }
    return -EACCES;
}

/* Asks one Sentinel where the master is. Returns 0, or -errno with the reason. */
static int redis_dial_sentinel(struct redis_link *link, const struct redis_host *sentinel,
                               uint64_t deadline_ns)
{
    char name[REDIS_LINK_NAME_MAX], why[REDIS_LINK_REASON_MAX];
    int err = redis_dial_connect(link, sentinel, deadline_ns);

    if (err == 0)
        err = redis_dial_ask(link, deadline_ns);
    redis_link_close(link);
    redis_wire_print_host(sentinel, name, sizeof(name));
    if (err == 0 && link->found_host[0] == '\0') {
        redis_wire_set_reason(link, "Sentinel %.60s knows no master %.60s", name, link->url.master);
        err = -ENOENT;
    } else if (err != 0) {
        memcpy(why, link->reason, sizeof(why));
        redis_wire_set_reason(link, "Sentinel %.60s: %.120s", name, why);
    }
    return err;
}

/* Asks the Sentinels by turns, the one that answered last first. Each gets half of what time is
 * left, so that those that are silent leave some for the others and for the master. */
static int redis_dial_find_master(struct redis_link *link, uint64_t deadline_ns)
{
    int err = -ENOENT;

    for (size_t i = 0; i < link->url.host_count; i++) {
        const size_t index = (link->sentinel + i) % link->url.host_count;
        const uint64_t now_ns = clock_mono_ns();
        const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

        err = redis_dial_sentinel(link, &link->url.hosts[index], now_ns + left_ns / 2);
        if (err == 0) {
            link->sentinel = index;
            return 0;
        }
    }
    return err;
}

static int redis_dial_check_role(struct redis_link *link, uint64_t deadline_ns)
{
    int err;

    redis_link_clear(link);
    redis_link_put_array(link, 1);
    redis_dial_put(link, "ROLE");
    link->is_master = false;
    err = redis_dial_command(link, redis_dial_on_role, deadline_ns);
    if (err == 0 && !link->is_master) {
        redis_wire_set_reason(link, "Sentinel calls it the master, and it is a replica: "
                                    "a failover is under way");
        err = -EAGAIN;
    }
    return err;
}

/* Connects to the server that is to take the claims. */
static int redis_dial_server(struct redis_link *link, uint64_t deadline_ns)
{
    struct redis_host master = {.name = link->found_host};
    const struct redis_host target = redis_wire_target(link);
    int err;

    if (link->url.path != NULL)
        return redis_dial_connect(link, NULL, deadline_ns);
    if (link->url.master == NULL)
        return redis_dial_connect(link, &target, deadline_ns);
    redis_wire_name(link);
    err = redis_dial_find_master(link, deadline_ns);
    if (err != 0)
        return err;
    master.port = atoi(link->found_port);
    redis_wire_print_host(&master, link->name, sizeof(link->name));
    return redis_dial_connect(link, &master, deadline_ns);
}

void redis_link_refresh(struct redis_link *link, uint64_t timeout_ns)
{
    struct redisContext *const context = link->context;
    struct redis_tls *const tls = link->tls;
    const uint64_t now_ns = clock_mono_ns();
    char host[sizeof(link->found_host)], port[sizeof(link->found_port)];
    int err;

    if (link->context == NULL || link->url.master == NULL || now_ns < link->ask_again_ns)
        return;
    memcpy(host, link->found_host, sizeof(host));
    memcpy(port, link->found_port, sizeof(port));
    link->context = NULL;
    link->tls = NULL;
    err = redis_dial_find_master(link, now_ns + timeout_ns);
    link->context = context;
    link->tls = tls;
    link->ask_again_ns = clock_mono_ns() + (err == 0 ? ASK_AGAIN_NS : ASK_AGAIN_FAILED_NS);
    if (err == 0 && (strcmp(host, link->found_host) != 0 || strcmp(port, link->found_port) != 0))
        redis_link_close(link);
    memcpy(link->found_host, host, sizeof(host));
    memcpy(link->found_port, port, sizeof(port));
}

int redis_link_open(struct redis_link *link, uint64_t timeout_ns)
{
    const uint64_t deadline_ns = clock_mono_ns() + timeout_ns;
    int err = redis_dial_server(link, deadline_ns);

    link->ask_again_ns = clock_mono_ns() + ASK_AGAIN_NS;

    if (err == 0 && link->url.password != NULL)
        err = redis_dial_log_in(link, deadline_ns);
    if (err == 0 && link->url.master != NULL)
        err = redis_dial_check_role(link, deadline_ns);
    if (err == 0 && link->url.database[0] != '\0' && strcmp(link->url.database, "0") != 0)
        err = redis_dial_select(link, deadline_ns);
    if (err != 0)
        redis_link_close(link);
    return err;
}
