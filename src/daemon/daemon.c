/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.c - the life of alloyd: starts in order, serves, reloads on HUP, drains on TERM or INT,
 * stops.
 *
 * A start goes against the flow of events, from ClickHouse to the socket, so that no event arrives
 * before the next part can take it. A drain goes with the flow, from the socket to ClickHouse.
 *
 * Runs on: the main thread.
 * Owns: every part of the daemon.
 */
#define LOG_MODULE "daemon"
#include "daemon.h"

#include <errno.h>
#include <pthread.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "alloy/admin.h"
#include "alloy/clock.h"
#include "alloy/event_log.h"
#include "alloy/flusher.h"
#include "alloy/front.h"
#include "alloy/heap.h"
#include "alloy/janitor.h"
#include "alloy/letters_key.h"
#include "alloy/log.h"
#include "alloy/mark.h"
#include "alloy/release.h"
#include "alloy/replay.h"
#include "adopt.h"
#include "drain.h"
#include "limits.h"
#include "lookout.h"
#include "sdnotify.h"
#include "shard_order.h"
#include "signals.h"
#include "successor.h"
#include "alloy/waiter.h"
#include "alloy/worker.h"

#define LOOK_MS 500        /* between two looks at the threads */
#define SILENT_MS 30000    /* a thread silent for this long hangs; under systemd: for WatchdogSec */
#define SILENT_MIN_MS 3000 /* threads sleep for up to a second */
#define WORKERS_MAX 64
#define LOG_STOP_MS 1000 /* wait for lines that are not written yet */

_Static_assert(CONFIG_STREAMS_MAX <= METRIC_STREAMS_MAX &&
                   CONFIG_STREAM_NAME_MAX + 64 < HEALTH_KEY_MAX,
               "health has room for every kind of every stream");
_Static_assert(FRONT_ERROR_MAX == JOURNAL_ERROR_MAX && FLUSHER_ERROR_MAX == JOURNAL_ERROR_MAX &&
                   INHERITED_ERROR_MAX == JOURNAL_ERROR_MAX,
               "one error buffer serves every start");

struct daemon {
    const struct daemon_options *options;
    struct config_ref config;
    /* in the order of their start */
    struct health *health;
    struct metrics *metrics;
    struct waiter_table *waiters;
    struct refusals *refusals;
    struct setbacks *setbacks;
    struct schemas *schemas;
    struct journal *journal;
    struct ring *ring;
    struct l1 *l1;
    struct release *release;
    struct janitor *janitor;
    struct replay *replay;
    struct distrust *distrust; /* NULL: as marks; so is the next */
    struct reclaim *reclaim;
    struct marks *marks;           /* NULL: no Redis, or no table */
    struct voucher_key replay_key; /* set before the threads start, constant after */
    pthread_mutex_t flusher_lock;  /* held to set flusher, and by the admin thread to use it */
    struct flusher *flusher;
    struct worker *workers[WORKERS_MAX];
    size_t worker_count;
    struct front *front;
    struct admin *admin;
    struct inherited *inherited;
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

static void daemon_tell_l1_ttls(struct daemon *daemon)
{
    const struct config *config = daemon_current(daemon);

    for (size_t i = 0; i < config->stream_count; i++)
        l1_set_stream_ttl(daemon->l1, i, config->streams[i].ttl_ms);
}

/* Makes L1 and loads the ids that earlier lives knew. ids_known: none of them can be missing. */
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
    if (config->redis_url[0] != '\0')
        l1_share(daemon->l1);
    daemon_tell_l1_ttls(daemon);
    if (config->journal_mode == CONFIG_JOURNAL_MEMORY)
        return 0;
    err = l1_attach(daemon->l1, &folder, now_ms, &loaded);
    if (err != 0) {
        log_error("known ids are kept only in memory folder=%s error=\"%s\"", config->journal_dir,
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
                                .waiters = daemon->waiters,
                                .refusals = daemon->refusals,
                                .inherited = daemon->inherited,
                                .replay_key = &daemon->replay_key,
                                .schemas = daemon->schemas};
}

/* Lets a stream's refused events go. On the admin thread, which is there before the flusher and
 * after it. */
static int64_t daemon_bury(void *arg, const char *stream)
{
    struct daemon *daemon = arg;
    const struct config *config = daemon_current(daemon);
    int64_t kept = -ENOENT;

    pthread_mutex_lock(&daemon->flusher_lock);
    for (size_t i = 0; i < config->stream_count; i++)
        if (strcmp(config->streams[i].name, stream) == 0)
            kept = daemon->flusher == NULL ? -EAGAIN : flusher_bury(daemon->flusher, i);
    pthread_mutex_unlock(&daemon->flusher_lock);
    return kept;
}

static int daemon_start_admin(struct daemon *daemon, char error[FRONT_ERROR_MAX])
{
    const struct admin_parts parts = {
        .front = daemon_front_parts(daemon),
        .setbacks = daemon->setbacks,
        .bury = daemon_bury,
        .bury_arg = daemon,
    };

    return admin_start(&daemon->admin, &parts, error);
}

/* Between two segments. We have accepted nothing yet, and the journal stays as it is: so after TERM
 * we need not read the rest, which can take minutes. */
static bool daemon_reading(size_t segment, size_t segments)
{
    sdnotify_reading(segment, segments);
    return !signals_stop_wanted();
}

/* A folder that is not there yet has no key. */
static void daemon_load_replay_key(struct daemon *daemon)
{
    const char *dir = daemon_current(daemon)->dead_letter_dir;
    const int err = letters_key_load(dir, &daemon->replay_key);

    if (err != 0)
        log_warn("replay key cannot be read file=%s/" LETTERS_KEY_NAME
                 " error=\"%s\" action=letters_cannot_be_replayed_whole",
                 dir, err == -EINVAL ? "it holds no key" : strerror(-err));
}

/* Starts the parts that hold events: journal, ring, L1, and replay of what an earlier life left. */
static int daemon_start_core(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    const struct config *config = daemon_current(daemon);
    bool ids_known;
    int err;

    daemon_load_replay_key(daemon);
    snprintf(error, JOURNAL_ERROR_MAX, "out of memory");
    daemon->health = health_create();
    daemon->metrics = metrics_create();
    daemon->refusals = refusals_create();
    daemon->setbacks = setbacks_create();
    daemon->schemas = schemas_create(CONFIG_STREAMS_MAX);
    daemon->waiters = waiter_table_create(config->server_max_waiting,
                                          config->ring_capacity > config->server_max_waiting
                                              ? config->ring_capacity
                                              : config->server_max_waiting);
    if (daemon->health == NULL || daemon->metrics == NULL || daemon->refusals == NULL ||
        daemon->setbacks == NULL || daemon->waiters == NULL || daemon->schemas == NULL)
        return -ENOMEM;
    err = daemon_open_journal(daemon, error);
    if (err == 0)
        err = shard_order_begin(config, error, JOURNAL_ERROR_MAX);
    if (err != 0)
        return err;
    snprintf(error, JOURNAL_ERROR_MAX, "out of memory for ring.capacity or l1.capacity");
    daemon->ring = ring_create(config->ring_capacity);
    if (daemon->ring == NULL || daemon_open_l1(daemon, &ids_known) != 0)
        return -ENOMEM;
    daemon->release = release_create(daemon->ring, daemon->metrics);
    if (daemon->release == NULL)
        return -ENOMEM;
    /* Reading the journal may take long: start the admin port first, so that /readyz can say how
     * far we are. */
    if (!ids_known && journal_bytes(daemon->journal) > 0 && !daemon->options->adopt) {
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
                                             .reading = daemon_reading},
                      error);
    if (err != 0)
        return err;
    snprintf(error, JOURNAL_ERROR_MAX, "cannot start the janitor thread");
    return janitor_start(&daemon->janitor, &daemon->config, daemon->journal, daemon->l1,
                         daemon->metrics);
}

/* Without Redis, or with clickhouse.url = discard, there is nothing to mark. */
static int daemon_start_marks(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    const struct config *config = daemon_current(daemon);

    if (config->redis_url[0] == '\0' || strncmp(config->clickhouse_url, "discard:", 8) == 0)
        return 0;
    snprintf(error, JOURNAL_ERROR_MAX, "out of memory");
    daemon->distrust = distrust_create(
        &(struct distrust_parts){.config = &daemon->config,
                                 .metrics = daemon->metrics,
                                 .instance_id = journal_instance_id(daemon->journal),
                                 .reclaims = true});
    if (daemon->distrust != NULL)
        daemon->reclaim = reclaim_create(daemon->ring, daemon->distrust);
    if (daemon->reclaim == NULL)
        return -ENOMEM;
    snprintf(error, JOURNAL_ERROR_MAX, "cannot start the thread for the marks in Redis");
    return marks_start(&daemon->marks,
                       &(struct marks_parts){.config = &daemon->config,
                                             .health = daemon->health,
                                             .ring = daemon->ring,
                                             .instance_id = journal_instance_id(daemon->journal)});
}

static void daemon_tell_identity(void *arg, size_t stream, size_t shard, const char *identity)
{
    marks_tell(arg, stream, shard, identity);
}

static int daemon_start_flusher(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    struct flusher *flusher;
    int err;

    err = flusher_start(&flusher,
                        &(struct flusher_parts){.config = &daemon->config,
                                                .journal = daemon->journal,
                                                .health = daemon->health,
                                                .metrics = daemon->metrics,
                                                .reclaim = daemon->reclaim,
                                                .release = daemon->release,
                                                .replay_key = &daemon->replay_key,
                                                .setbacks = daemon->setbacks,
                                                .schemas = daemon->schemas,
                                                .table_identity = daemon_tell_identity,
                                                .arg = daemon->marks},
                        error);
    if (err != 0)
        return err;
    pthread_mutex_lock(&daemon->flusher_lock);
    daemon->flusher = flusher;
    pthread_mutex_unlock(&daemon->flusher_lock);
    return 0;
}

static int daemon_start_back(struct daemon *daemon, char error[JOURNAL_ERROR_MAX])
{
    int err = daemon_start_marks(daemon, error);

    if (err == 0)
        err = daemon_start_flusher(daemon, error);
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
                                                  .release = daemon->release,
                                                  .distrust = daemon->distrust,
                                                  .reclaim = daemon->reclaim,
                                                  .marks = daemon->marks},
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

    /* The admin port first: whoever can send events can then also see health. */
    if (daemon->admin == NULL)
        err = daemon_start_admin(daemon, error);
    if (err == 0)
        err = front_start(&daemon->front, &parts, error);
    return err;
}

/* Takes the sockets that we were given. */
static int daemon_take_sockets(struct daemon *daemon, char error[INHERITED_ERROR_MAX])
{
    daemon->inherited = calloc(1, sizeof(*daemon->inherited));
    if (daemon->inherited == NULL) {
        snprintf(error, INHERITED_ERROR_MAX, "out of memory");
        return -ENOMEM;
    }
    return sdnotify_take_sockets(daemon->inherited, daemon_current(daemon), error);
}

/* Lets go of sockets that nobody needs any more. */
static void daemon_settle_sockets(struct daemon *daemon)
{
    inherited_close_rest(daemon->inherited);
    if (inherited_has_kept(daemon->inherited))
        sdnotify_forget_sockets();
    inherited_forget_kept(daemon->inherited);
}

/* Returns 0, -ECANCELED when TERM or INT came while we read the journal, or another -errno. */
static int daemon_start(struct daemon *daemon)
{
    char error[JOURNAL_ERROR_MAX] = "";
    int err;

    err = daemon_take_sockets(daemon, error);
    if (err == 0)
        err = daemon_start_core(daemon, error);
    if (err == 0)
        err = daemon_start_back(daemon, error);
    if (err == 0 && !daemon->options->adopt)
        err = daemon_start_front(daemon, error);
    if (err == 0)
        daemon_settle_sockets(daemon);
    if (err != 0 && err != -ECANCELED)
        log_error("cannot start reason=\"%s\"", error);
    return err;
}

static void daemon_stop_flusher(struct daemon *daemon)
{
    struct flusher *flusher;

    pthread_mutex_lock(&daemon->flusher_lock);
    flusher = daemon->flusher;
    daemon->flusher = NULL;
    pthread_mutex_unlock(&daemon->flusher_lock);
    if (flusher != NULL)
        flusher_stop(flusher);
}

static void daemon_free_sockets(struct daemon *daemon)
{
    if (daemon->inherited != NULL)
        inherited_close_all(daemon->inherited);
    free(daemon->inherited);
}

/* Ends what runs, in the order of the flow, and frees it. Any part may be missing. */
static void daemon_stop(struct daemon *daemon)
{
    if (daemon->front != NULL)
        front_stop(daemon->front);
    replay_stop(daemon->replay);
    for (size_t i = 0; i < daemon->worker_count; i++)
        worker_stop(daemon->workers[i]);
    daemon_stop_flusher(daemon);
    marks_stop(daemon->marks);
    reclaim_destroy(daemon->reclaim);
    distrust_destroy(daemon->distrust);
    admin_stop(daemon->admin);
    janitor_stop(daemon->janitor);
    release_destroy(daemon->release);
    /* An id must not outlive its event: L1 may say that it ended in order only after the journal is
     * synced. */
    if (daemon->l1 != NULL && !journal_settle(daemon->journal))
        l1_distrust(daemon->l1);
    if (daemon->l1 != NULL)
        l1_abandon(daemon->l1);
    if (daemon->ring != NULL)
        ring_destroy(daemon->ring);
    if (daemon->journal != NULL)
        journal_close(daemon->journal);
    waiter_table_destroy(daemon->waiters);
    refusals_destroy(daemon->refusals);
    setbacks_destroy(daemon->setbacks);
    schemas_destroy(daemon->schemas);
    if (daemon->metrics != NULL)
        metrics_destroy(daemon->metrics);
    if (daemon->health != NULL)
        health_destroy(daemon->health);
    config_destroy(atomic_load_explicit(&daemon->config.current, memory_order_relaxed));
}

/* reloaded: what is wrong is only worth a warning. */
static void daemon_log_problems(char *text, bool reloaded)
{
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        if (reloaded)
            log_warn("configuration reloaded, but problem=\"%s\"", line);
        else
            log_error("configuration not reloaded problem=\"%s\"", line);
}

/* A name that is no stream may be misspelt, or be a stream of another alloyd with the same file. */
static void daemon_log_strangers(const struct config *config)
{
    for (size_t i = 0; config->keys != NULL && i < keys_count(config->keys); i++) {
        const struct key *key = keys_at(config->keys, i);

        if (key->strangers > 0)
            log_warn("key names streams that are not configured key=%s streams=%s file=%s line=%u",
                     key->name, key->stream_list, config->auth_keys_file, key->line);
    }
}

static void daemon_log_change(void *arg, const char *key, bool restart)
{
    (void)arg;
    if (restart)
        log_warn("configuration changed key=%s takes_effect=after_restart", key);
    else
        log_info("configuration changed key=%s takes_effect=now", key);
}

static void daemon_put_in_force(struct daemon *daemon, struct config *next)
{
    size_t count = daemon_current(daemon)->stream_count;

    config_publish(&daemon->config, next);
    for (; count < daemon_current(daemon)->stream_count; count++)
        journal_add_stream(daemon->journal, daemon_current(daemon)->streams[count].name);
    daemon_tell_l1_ttls(daemon);
}

/* Reads the configuration that is there now. NULL: it has a problem, or cannot follow the one that
 * is in force. */
static struct config *daemon_load(struct daemon *daemon, FILE *problems, bool *moves)
{
    const struct daemon_options *options = daemon->options;
    struct config *next = config_load(options->config_path, options->overrides,
                                      options->override_count, options->cpu_count, problems);
    char why[SHARD_ORDER_WHY_MAX];

    *moves = next != NULL && !shard_order_same(daemon_current(daemon)->clickhouse_url,
                                               next->clickhouse_url, why, sizeof(why));
    if (!*moves)
        return next;
    config_print_place(next, "clickhouse.url", problems);
    fprintf(problems, "%s\n", why);
    config_destroy(next);
    return NULL;
}

/* Applies a new configuration; one with a problem changes nothing. */
static void daemon_reload(struct daemon *daemon)
{
    const struct daemon_options *options = daemon->options;
    char *text = NULL;
    size_t len = 0;
    FILE *problems = open_memstream(&text, &len);
    struct config *next;
    bool moves;

    if (problems == NULL) {
        log_error("configuration not reloaded problem=\"out of memory\"");
        return;
    }
    sdnotify_reloading();
    next = daemon_load(daemon, problems, &moves);
    fclose(problems);
    daemon_log_problems(text, next != NULL);
    if (next != NULL) {
        const struct tls *before = daemon_current(daemon)->tls;
        const bool same_streams = config_same_streams(daemon_current(daemon), next);

        config_compare(daemon_current(daemon), next, daemon_log_change, NULL);
        daemon_put_in_force(daemon, next);
        if (!same_streams && front_reload(daemon->front) != 0)
            log_error("streams are not reloaded problem=\"out of memory\"");
        daemon_log_strangers(daemon_current(daemon));
        if (daemon_current(daemon)->tls != before)
            lookout_log_certificate(daemon_current(daemon));
        log_configure((enum log_level)daemon_current(daemon)->log_level,
                      (enum log_format)daemon_current(daemon)->log_format);
        ring_wake(daemon->ring); /* a shorter linger takes effect at once */
        shard_order_note(daemon_current(daemon));
        flusher_reload(daemon->flusher);
        marks_reload(daemon->marks);
        log_info("configuration reloaded file=%s", options->config_path);
    }
    free(text);
    sdnotify_ready();
}

/* Whether the next life's list has the shards in their order; else output says why not. What this
 * program cannot read the next one may. */
static bool daemon_may_follow(struct daemon *daemon, char output[SUCCESSOR_OUTPUT_MAX])
{
    FILE *problems = fmemopen(output, SUCCESSOR_OUTPUT_MAX, "w");
    bool moves;

    if (problems == NULL)
        return true;
    config_destroy(daemon_load(daemon, problems, &moves));
    fclose(problems);
    return !moves;
}

/* A program or a configuration that cannot start must not take the place of one that serves. */
static bool daemon_may_restart(struct daemon *daemon)
{
    char output[SUCCESSOR_OUTPUT_MAX];
    char *rest = NULL;

    if (successor_check(daemon->options->argv, output) == 0 && daemon_may_follow(daemon, output))
        return true;
    for (char *line = strtok_r(output, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        log_error("not restarted problem=\"%s\"", line);
    return false;
}

/* Makes sure that the listening sockets outlive us. */
static enum drain_end daemon_keep_sockets(struct daemon *daemon, enum signals_wish wish)
{
    const bool given = inherited_has_given(daemon->inherited);
    int err;

    inherited_forget_kept(daemon->inherited);
    if (wish != SIGNALS_RESTART && sdnotify_store_max() == 0)
        return given ? DRAIN_STOP_KEPT : DRAIN_STOP;
    err = front_keep_sockets(daemon->front, daemon->inherited);
    if (err == 0)
        err = admin_keep_sockets(daemon->admin, daemon->inherited);
    if (err != 0)
        log_warn("cannot keep all listening sockets error=\"%s\"", strerror(-err));
    if (wish == SIGNALS_RESTART)
        return DRAIN_RESTART;
    if (sdnotify_keep_sockets(daemon->inherited))
        return DRAIN_STOP_KEPT;
    log_warn("systemd does not keep the listening sockets");
    inherited_forget_kept(daemon->inherited);
    return given ? DRAIN_STOP_KEPT : DRAIN_STOP;
}

/* Serves until TERM or INT, or USR2. Pings systemd only while no thread hangs, so that systemd
 * restarts us if one does. */
static enum signals_wish daemon_serve(struct daemon *daemon)
{
    const uint64_t ping_ms = sdnotify_watchdog_ms();
    const uint64_t timeout_ms = ping_ms > 0 && ping_ms / 2 < LOOK_MS ? ping_ms / 2 : LOOK_MS;
    uint64_t bound_ms = ping_ms > 0 ? 2 * ping_ms : SILENT_MS;
    uint64_t pinged_ms = 0, now_ms;
    struct lookout lookout = {.config = &daemon->config,
                              .health = daemon->health,
                              .journal = daemon->journal,
                              .ring = daemon->ring};

    if (bound_ms < SILENT_MIN_MS)
        bound_ms = SILENT_MIN_MS;
    for (;;) {
        switch (signals_wait(timeout_ms)) {
        case SIGNALS_RELOAD:
            daemon_reload(daemon);
            break;
        case SIGNALS_RESTART:
            if (daemon_may_restart(daemon))
                return SIGNALS_RESTART;
            break;
        case SIGNALS_STOP:
            return SIGNALS_STOP;
        case SIGNALS_NONE:
            break;
        }
        lookout_look(&lookout);
        now_ms = clock_mono_ms();
        if (daemon_current(daemon)->tls != NULL)
            tls_rotate(daemon_current(daemon)->tls, now_ms);
        if (lookout_count_hanging(&lookout, now_ms, bound_ms) == 0 && ping_ms > 0 &&
            now_ms >= pinged_ms + ping_ms) {
            sdnotify_watchdog();
            pinged_ms = now_ms;
        }
    }
}

static struct drain_parts daemon_drain_parts(const struct daemon *daemon)
{
    return (struct drain_parts){.config = daemon_current(daemon),
                                .health = daemon->health,
                                .front = daemon->front,
                                .replay = daemon->replay,
                                .ring = daemon->ring,
                                .workers = daemon->workers,
                                .worker_count = daemon->worker_count,
                                .flusher = daemon->flusher,
                                .release = daemon->release,
                                .journal = daemon->journal};
}

int daemon_run(struct config *config, const struct daemon_options *options)
{
    struct daemon daemon = {.options = options, .flusher_lock = PTHREAD_MUTEX_INITIALIZER};
    struct drain_parts parts;
    bool restart = false;
    int status = 1, err;

    successor_init();
    heap_init();
    atomic_store_explicit(&daemon.config.current, config, memory_order_release);
    log_configure((enum log_level)config->log_level, (enum log_format)config->log_format);
    signal(SIGPIPE, SIG_IGN);
    err = signals_start();
    if (err == 0)
        err = log_start();
    if (err != 0) {
        log_error("cannot start reason=\"no thread for signals or the log: %s\"", strerror(-err));
        config_destroy(config);
        return 1;
    }
    log_info("starting version=%s config=%s streams=%zu", ALLOY_VERSION, options->config_path,
             config->stream_count);
    daemon_log_strangers(config);
    lookout_log_certificate(config);
    event_log_install();
    err = limits_raise_files(config);
    if (err == 0)
        err = daemon_start(&daemon);
    if (err == -ECANCELED) {
        log_info("stopped before serving");
        status = options->adopt;
    } else if (err == 0 && options->adopt) {
        parts = daemon_drain_parts(&daemon);
        status = adopt_run(&parts, daemon.metrics);
    } else if (err == 0) {
        log_info("serving");
        sdnotify_ready();
        const enum signals_wish wish = daemon_serve(&daemon);

        parts = daemon_drain_parts(&daemon);
        status = drain_run(&parts, daemon_keep_sockets(&daemon, wish));
        restart = wish == SIGNALS_RESTART && !signals_stop_wanted();
    }
    daemon_stop(&daemon);
    log_info("stopped status=%d%s", status, restart ? " then=restart" : "");
    log_stop(LOG_STOP_MS);
    if (restart) {
        err = successor_become(options->argv, daemon.inherited);
        log_error("cannot start the next life error=\"%s\"", strerror(-err));
        status = 1;
    }
    daemon_free_sockets(&daemon);
    return status;
}
