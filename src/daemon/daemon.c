/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.c - the life of alloyd: start in order, serve, reload on HUP, drain on TERM or INT, stop.
 *
 * Start goes against the flow of events, from ClickHouse to the socket, so that nothing arrives
 * before there is somebody to take it; a drain goes with the flow, from the socket to ClickHouse.
 *
 * Runs on: the main thread. All others have TERM, INT and HUP blocked.
 * Owns: every part of the daemon.
 */
#define LOG_MODULE "daemon"
#include "daemon.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alloy/admin.h"
#include "alloy/clock.h"
#include "alloy/flusher.h"
#include "alloy/front.h"
#include "alloy/janitor.h"
#include "alloy/log.h"
#include "alloy/release.h"
#include "alloy/replay.h"
#include "sdnotify.h"
#include "alloy/waiter.h"
#include "alloy/worker.h"

#define DRAIN_POLL_MS 5
#define IDLE_POLL_MS 1000
#define WORKERS_MAX 64

_Static_assert(FRONT_ERROR_MAX == JOURNAL_ERROR_MAX && FLUSHER_ERROR_MAX == JOURNAL_ERROR_MAX,
               "one error buffer serves every start");

struct daemon {
    const struct daemon_options *options;
    struct config_ref config;
    sigset_t signals;
    /* in the order of their start */
    struct health *health;
    struct metrics *metrics;
    struct waiter_table *waiters;
    struct journal *journal;
    struct ring *ring;
    struct l1 *l1;
    struct release *release;
    struct janitor *janitor;
    struct replay *replay;
    struct flusher *flusher;
    struct worker *workers[WORKERS_MAX];
    size_t worker_count;
    struct front *front;
    struct admin *admin;
};

static const struct config *daemon_current(const struct daemon *daemon)
{
    return config_current(&daemon->config);
}

static int daemon_open_journal(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    static const enum journal_sync sync_of[] = {[CONFIG_SYNC_NEVER] = JOURNAL_SYNC_NEVER,
                                                [CONFIG_SYNC_INTERVAL] = JOURNAL_SYNC_INTERVAL,
                                                [CONFIG_SYNC_ALWAYS] = JOURNAL_SYNC_ALWAYS};
    const struct config *config = daemon_current(daemon);
    const char *names[CONFIG_STREAMS_MAX];
    const bool memory = config->journal_mode == CONFIG_JOURNAL_MEMORY;

    for (size_t i = 0; i < config->stream_count; i++)
        names[i] = config->streams[i].name;
    return journal_open(&daemon->journal,
                        &(struct journal_options){
                            .dir = memory ? NULL : config->journal_dir,
                            .segment_bytes = config->journal_segment_bytes,
                            .max_bytes = config->journal_max_bytes_bytes,
                            .sync = memory ? JOURNAL_SYNC_NEVER : sync_of[config->journal_sync],
                            .writer_count = config->server_threads,
                            .stream_names = names,
                            .stream_count = config->stream_count,
                            .waiters = daemon->waiters,
                        },
                        error);
}

/* Makes L1, and loads what earlier lives knew. ids_known: none of that can be missing. */
static int daemon_open_l1(struct daemon *daemon, bool *ids_known)
{
    const struct config *config = daemon_current(daemon);
    const uint64_t now_ms = clock_mono_ms();
    const struct l1_folder folder = {.dir_fd = journal_segments(daemon->journal)->dir_fd,
                                     .instance_id = journal_instance_id(daemon->journal),
                                     .real_ms = clock_real_ms()};
    struct l1_loaded loaded;
    int err;

    *ids_known = false;
    daemon->l1 = l1_create(config->l1_capacity, config->l1_ttl_ms, now_ms);
    if (daemon->l1 == NULL)
        return -ENOMEM;
    if (config->journal_mode == CONFIG_JOURNAL_MEMORY)
        return 0;
    err = l1_attach(daemon->l1, &folder, now_ms, &loaded);
    if (err != 0) {
        log_error("known ids are kept in memory alone folder=%s error=\"%s\"", config->journal_dir,
                  strerror(-err));
        return 0;
    }
    *ids_known = loaded.complete;
    log_info("known ids loaded ids=%" PRIu64 " files=%" PRIu64 " complete=%s took_ms=%" PRIu64,
             loaded.ids, loaded.files, loaded.complete ? "yes" : "no", clock_mono_ms() - now_ms);
    return 0;
}

static struct front_parts daemon_front_parts(const struct daemon *daemon)
{
    return (struct front_parts){.config = &daemon->config,
                                .ring = daemon->ring,
                                .journal = daemon->journal,
                                .l1 = daemon->l1,
                                .health = daemon->health,
                                .metrics = daemon->metrics,
                                .waiters = daemon->waiters};
}

static int daemon_start_admin(struct daemon *daemon, char error[FRONT_ERROR_MAX])
{
    const struct admin_parts parts = {.front = daemon_front_parts(daemon)};

    return admin_start(&daemon->admin, &parts, error);
}

/* The parts that hold events: journal, ring, L1, and what an earlier life left. */
static int daemon_start_core(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    const struct config *config = daemon_current(daemon);
    bool ids_known;
    int err;

    snprintf(error, JOURNAL_ERROR_MAX, "out of memory");
    daemon->health = health_create();
    daemon->metrics = metrics_create();
    daemon->waiters = waiter_table_create(config->server_max_waiting,
                                          config->ring_capacity > config->server_max_waiting
                                              ? config->ring_capacity
                                              : config->server_max_waiting);
    if (daemon->health == NULL || daemon->metrics == NULL || daemon->waiters == NULL)
        return -ENOMEM;
    err = daemon_open_journal(daemon, error);
    if (err != 0)
        return err;
    snprintf(error, JOURNAL_ERROR_MAX, "out of memory for ring.capacity or l1.capacity");
    daemon->ring = ring_create(config->ring_capacity);
    if (daemon->ring == NULL || daemon_open_l1(daemon, &ids_known) != 0)
        return -ENOMEM;
    daemon->release = release_create(daemon->ring, daemon->metrics);
    if (daemon->release == NULL)
        return -ENOMEM;
    /* Reading the journal may take long: /readyz tells how far it is, and that nothing listens. */
    if (!ids_known && journal_bytes(daemon->journal) > 0) {
        err = daemon_start_admin(daemon, error);
        if (err != 0)
            return err;
    }
    err = replay_read(&daemon->replay,
                      &(struct replay_parts){.journal = daemon->journal,
                                             .l1 = daemon->l1,
                                             .l1_ttl_ms = config->l1_ttl_ms,
                                             .l1_decides = config->redis_url[0] == '\0',
                                             .ids_known = ids_known,
                                             .ring = daemon->ring,
                                             .release = daemon->release,
                                             .config = config,
                                             .health = daemon->health,
                                             .metrics = daemon->metrics,
                                             .reading = sdnotify_reading},
                      error);
    if (err != 0)
        return err;
    snprintf(error, JOURNAL_ERROR_MAX, "cannot start the janitor thread");
    return janitor_start(&daemon->janitor, &daemon->config, daemon->journal, daemon->l1);
}

static int daemon_start_back(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    int err;

    err = flusher_start(&daemon->flusher,
                        &(struct flusher_parts){.config = &daemon->config,
                                                .journal = daemon->journal,
                                                .health = daemon->health,
                                                .metrics = daemon->metrics,
                                                .release = daemon->release},
                        error);
    if (err != 0)
        return err;
    for (size_t i = 0; i < daemon_current(daemon)->worker_threads; i++) {
        err = worker_start(&daemon->workers[i],
                           &(struct worker_parts){.config = &daemon->config,
                                                  .ring = daemon->ring,
                                                  .journal = daemon->journal,
                                                  .flusher = daemon->flusher,
                                                  .health = daemon->health,
                                                  .metrics = daemon->metrics,
                                                  .l1 = daemon->l1,
                                                  .release = daemon->release},
                           (unsigned)i);
        if (err != 0) {
            snprintf(error, JOURNAL_ERROR_MAX, "cannot start a worker: %s", strerror(-err));
            return err;
        }
        daemon->worker_count++;
    }
    snprintf(error, JOURNAL_ERROR_MAX, "cannot start the replay thread");
    return replay_start(daemon->replay, daemon->flusher);
}

static int daemon_start_front(struct daemon *daemon, char error[FRONT_ERROR_MAX])
{
    const struct front_parts parts = daemon_front_parts(daemon);
    int err = 0;

    /* The admin port first: whoever sees events accepted can also see health. */
    if (daemon->admin == NULL)
        err = daemon_start_admin(daemon, error);
    if (err == 0)
        err = front_start(&daemon->front, &parts, error);
    return err;
}

static int daemon_start(struct daemon *daemon)
{
    char error[JOURNAL_ERROR_MAX] = "";
    int err;

    err = daemon_start_core(daemon, error);
    if (err == 0)
        err = daemon_start_back(daemon, error);
    if (err == 0)
        err = daemon_start_front(daemon, error);
    if (err != 0)
        log_error("cannot start reason=\"%s\"", error);
    return err;
}

/* Ends what is running, in the order of the flow, and frees it. Every part may be missing. */
static void daemon_stop(struct daemon *daemon)
{
    if (daemon->front != NULL)
        front_stop(daemon->front);
    replay_stop(daemon->replay);
    for (size_t i = 0; i < daemon->worker_count; i++)
        worker_stop(daemon->workers[i]);
    if (daemon->flusher != NULL)
        flusher_stop(daemon->flusher);
    admin_stop(daemon->admin);
    janitor_stop(daemon->janitor);
    release_destroy(daemon->release);
    /* An id must not outlive its event: L1 says that it ended in order only after the journal has.
     */
    if (daemon->l1 != NULL && !journal_settle(daemon->journal))
        l1_distrust(daemon->l1);
    if (daemon->l1 != NULL)
        l1_destroy(daemon->l1);
    if (daemon->ring != NULL)
        ring_destroy(daemon->ring);
    if (daemon->journal != NULL)
        journal_close(daemon->journal);
    waiter_table_destroy(daemon->waiters);
    if (daemon->metrics != NULL)
        metrics_destroy(daemon->metrics);
    if (daemon->health != NULL)
        health_destroy(daemon->health);
    config_destroy(atomic_load_explicit(&daemon->config.current, memory_order_relaxed));
}

static void daemon_log_problems(char *text)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        log_error("configuration not reloaded problem=\"%s\"", line);
}

static void daemon_log_change(void *arg, const char *key, bool restart)
{
    (void)arg;
    if (restart)
        log_warn("configuration changed key=%s takes_effect=after_restart", key);
    else
        log_info("configuration changed key=%s takes_effect=now", key);
}

/* A configuration with a problem changes nothing. */
static void daemon_reload(struct daemon *daemon)
{
    const struct daemon_options *options = daemon->options;
    char *text = NULL;
    size_t len = 0;
    FILE *problems = open_memstream(&text, &len);
    struct config *next;

    if (problems == NULL) {
        log_error("configuration not reloaded problem=\"out of memory\"");
        return;
    }
    sdnotify_reloading();
    next = config_load(options->config_path, options->overrides, options->override_count,
                       options->cpu_count, problems);
    fclose(problems);
    if (next == NULL) {
        daemon_log_problems(text);
    } else {
        config_compare(daemon_current(daemon), next, daemon_log_change, NULL);
        config_publish(&daemon->config, next);
        log_configure((enum log_level)daemon_current(daemon)->log_level,
                      (enum log_format)daemon_current(daemon)->log_format);
        ring_wake(daemon->ring); /* a shorter linger counts from now on */
        log_info("configuration reloaded file=%s", options->config_path);
    }
    free(text);
    sdnotify_ready();
}

/* Waits for a signal; 0 when none came within timeout_ms. */
static int daemon_next_signal(const struct daemon *daemon, uint64_t timeout_ms)
{
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ms / 1000),
                                     .tv_nsec = (long)(timeout_ms % 1000 * CLOCK_NS_PER_MS)};
    int signal_number = sigtimedwait(&daemon->signals, NULL, &timeout);

    return signal_number > 0 ? signal_number : 0;
}

/* Serves until TERM or INT. */
static void daemon_serve(struct daemon *daemon)
{
    const uint64_t watchdog_ms = sdnotify_watchdog_ms();
    const uint64_t timeout_ms = watchdog_ms > 0 ? watchdog_ms : IDLE_POLL_MS;

    for (;;) {
        switch (daemon_next_signal(daemon, timeout_ms)) {
        case SIGHUP:
            daemon_reload(daemon);
            break;
        case SIGTERM:
        case SIGINT:
            return;
        default:
            if (watchdog_ms > 0)
                sdnotify_watchdog();
        }
    }
}

/* A request that waits for ClickHouse is not waited for: it is answered once its events are
 * inserted, and that is what comes next. */
static bool daemon_front_drained(const struct daemon *daemon)
{
    return front_connections(daemon->front) <= front_waiting(daemon->front);
}

static bool daemon_replay_drained(const struct daemon *daemon)
{
    return replay_done(daemon->replay);
}

static bool daemon_workers_drained(const struct daemon *daemon)
{
    for (size_t i = 0; i < daemon->worker_count; i++)
        if (!worker_done(daemon->workers[i]))
            return false;
    return true;
}

static bool daemon_flusher_drained(const struct daemon *daemon)
{
    /* In this order: a refused row is counted by the one before the other lets go of it. */
    return flusher_pending(daemon->flusher) == 0 && release_pending(daemon->release) == 0;
}

/* Waits until drained() or the deadline. A second TERM or INT exits at once. */
static bool daemon_wait_until(const struct daemon *daemon, bool (*drained)(const struct daemon *),
                              uint64_t deadline_ms)
{
    while (!drained(daemon)) {
        uint64_t now_ms = clock_mono_ms();
        int signal_number;

        if (now_ms >= deadline_ms)
            return false;
        signal_number = daemon_next_signal(daemon, DRAIN_POLL_MS);
        if (signal_number == SIGTERM || signal_number == SIGINT) {
            log_warn("second signal signal=%d action=exit_at_once", signal_number);
            _exit(1);
        }
    }
    return true;
}

/* Lets everything that was accepted reach ClickHouse. Returns the exit status. */
static int daemon_drain(struct daemon *daemon)
{
    const struct config *config = daemon_current(daemon);
    const uint64_t started_ms = clock_mono_ms();
    const uint64_t deadline_ms = started_ms + config->drain_timeout_ms;
    uint64_t left = 0;
    bool drained;

    log_info("draining timeout_ms=%" PRIu64, config->drain_timeout_ms);
    sdnotify_stopping(config->drain_timeout_ms);
    health_raise(daemon->health, "draining", true, "alloyd is shutting down");
    front_drain(daemon->front);
    drained = daemon_wait_until(daemon, daemon_front_drained, deadline_ms);
    drained = daemon_wait_until(daemon, daemon_replay_drained, deadline_ms) && drained;
    ring_close(daemon->ring);
    drained = daemon_wait_until(daemon, daemon_workers_drained, deadline_ms) && drained;
    drained = daemon_wait_until(daemon, daemon_flusher_drained, deadline_ms) && drained;
    for (size_t i = 0; i < config->stream_count; i++)
        left += journal_live(daemon->journal, i);
    if (left == 0) {
        log_info("drained took_ms=%" PRIu64 " clean=%s", clock_mono_ms() - started_ms,
                 drained ? "yes" : "no");
        return 0;
    }
    if (config->journal_mode == CONFIG_JOURNAL_FILE) {
        log_warn("drain timed out events_left=%" PRIu64 " kept_in=%s", left, config->journal_dir);
        return 0;
    }
    /* What is in the dead-letter folder is not lost; nobody can say its claims are ours any more.
     */
    left -= release_pending(daemon->release);
    if (left == 0)
        return 0;
    log_error("drain timed out events_lost=%" PRIu64 " reason=\"journal.mode = memory\"", left);
    return 1;
}

int daemon_run(struct config *config, const struct daemon_options *options)
{
    struct daemon daemon = {.options = options};
    int status = 1;

    atomic_store_explicit(&daemon.config.current, config, memory_order_release);
    log_configure((enum log_level)config->log_level, (enum log_format)config->log_format);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&daemon.signals);
    sigaddset(&daemon.signals, SIGTERM);
    sigaddset(&daemon.signals, SIGINT);
    sigaddset(&daemon.signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &daemon.signals, NULL);

    log_info("starting version=%s config=%s streams=%zu", ALLOY_VERSION, options->config_path,
             config->stream_count);
    if (daemon_start(&daemon) == 0) {
        log_info("serving");
        sdnotify_ready();
        daemon_serve(&daemon);
        status = daemon_drain(&daemon);
    }
    daemon_stop(&daemon);
    log_info("stopped status=%d", status);
    return status;
}
