/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_check.c - checks beyond a single key: addresses, URLs, streams, `auto`.
 *
 * Each value alone is already known to be valid. Reports every problem, so that one run of --check
 * is enough.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "config_check.h"

#include "config_door.h"
#include "config_files.h"
#include "config_loader.h"
#include "config_stream.h"
#include "config_value.h"
#include "host_port.h"
#include "alloy/clickhouse_url.h"
#include "alloy/redis_url.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#define AUTO_THREADS_MAX 16
#define AUTO_FILE_BYTES (8ull << 30)
#define AUTO_MEMORY_BYTES (512ull << 20)
#define OTHER_MAPS 2048 /* mappings of libraries, stacks, memory, L1 */
#define UNIX_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

static bool config_check_has_prefix(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Splits what follows "scheme://" into "user:password" (NULL data: none), host:port and the rest.
 */
static void config_check_split_authority(const char *text, struct slice *user,
                                         struct slice *host_port, const char **rest)
{
    size_t len = strcspn(text, "/?#");
    const char *at = memrchr(text, '@', len);
    const char *begin = at != NULL ? at + 1 : text;

    *user = (struct slice){at != NULL ? text : NULL, at != NULL ? (size_t)(at - text) : 0};
    *host_port = (struct slice){begin, len - (size_t)(begin - text)};
    *rest = text + len;
}

struct slice config_url_password(const char *url)
{
    const char *scheme = strstr(url, "://");
    struct slice user, host_port;
    const char *rest, *colon;

    if (scheme == NULL)
        return (struct slice){url, 0};
    config_check_split_authority(scheme + 3, &user, &host_port, &rest);
    colon = user.data != NULL ? memchr(user.data, ':', user.len) : NULL;
    if (colon == NULL)
        return (struct slice){url, 0};
    return (struct slice){colon + 1, user.len - (size_t)(colon + 1 - user.data)};
}

static const char *config_check_unix_path_problem(const char *path, size_t len)
{
    if (len == 0 || path[0] != '/')
        return "the socket's path must begin with /";
    return len > UNIX_PATH_MAX ? "the socket's path is longer than 107 bytes" : NULL;
}

static const char *config_check_redis_url_problem(const char *text, const char *key_prefix)
{
    struct redis_url url;
    const char *problem = redis_url_parse(&url, text);

    if (problem != NULL)
        return problem;
    /* A cluster looks at the first brace in a key; that has to be Alloy's own. */
    if (url.cluster && strchr(key_prefix, '{') != NULL)
        problem = "redis.key_prefix must not contain { with a cluster";
    redis_url_fini(&url);
    return problem;
}

/* Of one endpoint. */
static const char *config_check_endpoint_problem(const char *url, bool *has_user)
{
    struct slice user, host_port, host, port;
    const char *rest, *problem;

    if (!config_is_visible(url, "?#"))
        return "must not contain white space, ? or #";
    if (!config_check_has_prefix(url, "http://") && !config_check_has_prefix(url, "https://"))
        return "must begin with http:// or https://, or be discard:";
    config_check_split_authority(strstr(url, "://") + 3, &user, &host_port, &rest);
    problem = host_port_split(host_port, &host, &port);
    if (problem != NULL && memchr(host_port.data, ',', host_port.len) != NULL)
        problem = "every endpoint of a list begins with http:// or https://";
    *has_user = *has_user || user.data != NULL;
    return problem;
}

/* Whether an endpoint before the walk's is the same. */
static bool config_check_endpoint_again(const char *list, const struct clickhouse_url *walk)
{
    struct clickhouse_url before = {.rest = list};

    while (clickhouse_url_next(&before) && before.number < walk->number)
        if (clickhouse_url_same(walk->url, before.url))
            return true;
    return false;
}

/* Like redis_url_parse() it never quotes the URL. */
static const char *config_check_clickhouse_url_problem(const char *list, bool *has_user)
{
    struct clickhouse_url walk = {.rest = list};
    char name[CLICKHOUSE_NAME_MAX];
    const char *problem = NULL;

    *has_user = false;
    if (strcmp(list, "discard:") == 0)
        return NULL;
    while (problem == NULL && clickhouse_url_next(&walk)) {
        char *url = strndup(walk.url.data, walk.url.len);

        if (url == NULL)
            return "out of memory";
        problem = *url == '\0' && *list != '\0' ? "an endpoint of the list is empty"
                                                : config_check_endpoint_problem(url, has_user);
        free(url);
        if (problem == NULL && walk.number >= CLICKHOUSE_ENDPOINTS_MAX)
            problem = "there are more than 64 endpoints";
        if (problem == NULL && walk.number > 0 &&
            clickhouse_url_name(walk.url, name) >= CLICKHOUSE_NAME_MAX)
            problem = "host, port and path of an endpoint of a list are at most 95 bytes";
        if (problem == NULL && config_check_endpoint_again(list, &walk))
            problem = "an endpoint is there twice (the port of http:// is 80 where none is given, "
                      "that of https:// 443)";
    }
    return problem;
}

static const char *config_check_fill_address(struct config_loader *loader, struct config_item item,
                                             struct config_address *address)
{
    struct slice host, port;
    const char *problem;

    if (item.len >= 5 && memcmp(item.at, "unix:", 5) == 0) {
        problem = config_check_unix_path_problem(item.at + 5, item.len - 5);
        if (problem == NULL)
            *address =
                (struct config_address){.kind = CONFIG_ADDRESS_UNIX,
                                        .host = config_copy(loader, item.at + 5, item.len - 5)};
        return problem;
    }
    problem = host_port_split((struct slice){item.at, item.len}, &host, &port);
    if (problem == NULL && port.len == 0)
        problem = "the port is missing";
    if (memrchr(item.at, ':', item.len) == item.at)
        problem = "the host is missing (0.0.0.0 and [::] stand for every address)";
    if (problem == NULL)
        *address = (struct config_address){.kind = CONFIG_ADDRESS_TCP,
                                           .host = config_copy(loader, host.data, host.len),
                                           .port = config_copy(loader, port.data, port.len)};
    return problem;
}

static bool config_check_same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool config_check_same_address(const struct config_address *a,
                                      const struct config_address *b)
{
    return a->kind == b->kind && config_check_same_text(a->host, b->host) &&
           config_check_same_text(a->port, b->port);
}

/* Appends the addresses in list, the value of key id, to addresses; *count grows. Two equal ones
 * are a problem. */
static void config_check_check_listen(struct config_loader *loader, enum config_key_id id,
                                      const char *list, struct config_address *addresses,
                                      size_t *count)
{
    const char *section = config_keys[id].section;
    const char *name = config_keys[id].name;
    const size_t first = *count;
    int place = loader->key_places[id];

    for (const char *at = list; at != NULL;) {
        struct config_item item = config_first_item(at);
        const char *problem = NULL;

        if (*count == CONFIG_LISTEN_MAX) {
            config_problem(loader, place, "%s.%s: there can be at most %d addresses", section, name,
                           CONFIG_LISTEN_MAX);
            return;
        }
        if (item.len == 0)
            problem = "an address is missing";
        else
            problem = config_check_fill_address(loader, item, &addresses[*count]);
        if (problem != NULL)
            config_problem(loader, place, "%s.%s = %.*s: %s", section, name, (int)item.len, item.at,
                           problem);
        else
            ++*count;
        for (size_t i = 0; problem == NULL && i + 1 < *count; i++)
            if (config_check_same_address(&addresses[i], &addresses[*count - 1]))
                config_problem(loader, place,
                               i < first ? "%s.%s = %.*s is in listen too: a port speaks TLS or not"
                                         : "%s.%s = %.*s is given twice",
                               section, name, (int)item.len, item.at);
        at = item.next;
    }
}

/* Whether a connection to b could come to a: the same port, and the same host or all hosts. */
static bool config_check_covers(const struct config_address *a, const struct config_address *b)
{
    const bool v6 = strchr(b->host, ':') != NULL;

    if (a->kind != CONFIG_ADDRESS_TCP || b->kind != CONFIG_ADDRESS_TCP ||
        strcmp(a->port, b->port) != 0)
        return config_check_same_address(a, b);
    return strcmp(a->host, b->host) == 0 || strcmp(a->host, "*") == 0 ||
           (strcmp(a->host, "0.0.0.0") == 0 && !v6) || strcmp(a->host, "::") == 0 ||
           (strcmp(a->host, "localhost") == 0 &&
            (strncmp(b->host, "127.", 4) == 0 || strcmp(b->host, "::1") == 0));
}

/* SO_REUSEPORT would let both ports bind it, and each would get some of the connections. */
static void config_check_check_admin_apart(struct config_loader *loader)
{
    const struct config *config = loader->config;

    for (size_t i = 0; i < config->admin_address_count; i++)
        for (size_t k = 0; k < config->server_address_count; k++)
            if (config_check_covers(&config->server_addresses[k], &config->admin_addresses[i]) ||
                config_check_covers(&config->admin_addresses[i], &config->server_addresses[k]))
                config_problem(loader, loader->key_places[KEY_admin_listen],
                               "admin.listen = %s and server.%s = %s have an address in "
                               "common: give them different ports",
                               config->admin_listen,
                               config->server_addresses[k].tls ? "tls_listen" : "listen",
                               config->server_addresses[k].tls ? config->server_tls_listen
                                                               : config->server_listen);
}

/* The event port: plain addresses, then those of TLS. One of either will do. */
static void config_check_check_server(struct config_loader *loader)
{
    struct config *config = loader->config;
    const bool tls = *config->server_tls_listen != '\0';
    size_t plain;

    if (*config->server_listen != '\0' || !tls)
        config_check_check_listen(loader, KEY_server_listen, config->server_listen,
                                  config->server_addresses, &config->server_address_count);
    plain = config->server_address_count;
    if (tls)
        config_check_check_listen(loader, KEY_server_tls_listen, config->server_tls_listen,
                                  config->server_addresses, &config->server_address_count);
    for (size_t i = plain; i < config->server_address_count; i++)
        config->server_addresses[i].tls = true;
}

static void config_check_check_addresses(struct config_loader *loader)
{
    struct config *config = loader->config;

    config_check_check_server(loader);
    if (*config->admin_listen == '\0')
        return;
    config_check_check_listen(loader, KEY_admin_listen, config->admin_listen,
                              config->admin_addresses, &config->admin_address_count);
    config_check_check_admin_apart(loader);
}

/* An origin is a scheme and a host, as a browser writes it: no path, not even a slash. */
static void config_check_check_origins(struct config_loader *loader)
{
    const char *list = loader->config->server_cors_origins;

    for (const char *at = *list != '\0' ? list : NULL; at != NULL;) {
        const struct config_item item = config_first_item(at);
        const char *host = memmem(item.at, item.len, "://", 3);
        const size_t skip = host != NULL ? (size_t)(host + 3 - item.at) : 0;

        if (!(item.len == 1 && *item.at == '*') &&
            (host == NULL || skip == item.len ||
             memchr(item.at + skip, '/', item.len - skip) != NULL ||
             memchr(item.at, ' ', item.len) != NULL))
            config_problem(loader, loader->key_places[KEY_server_cors_origins],
                           "server.cors_origins = %.*s: must be * or like https://example.org, "
                           "without a path",
                           (int)item.len, item.at);
        at = item.next;
    }
}

/* Nothing but its DEFAULT may fill the column, so inserts leave it out. */
static void config_check_check_proof(struct config_loader *loader, size_t index)
{
    const struct config_stream *stream = &loader->config->streams[index];
    bool filled = false;

    if (stream->proof == NULL)
        return;
    for (size_t i = 0; i < stream->id_count; i++)
        filled = filled || strcmp(stream->ids[i].name, stream->proof) == 0;
    for (size_t i = 0; i < stream->column_count; i++)
        filled = filled || strcmp(stream->columns[i].name, stream->proof) == 0;
    if (filled)
        config_problem(loader, loader->streams[index].key_places[STREAM_KEY_PROOF],
                       "stream.%s.proof = %s: must be a column that nothing but its DEFAULT fills, "
                       "and neither a field of the id nor column.%s",
                       stream->name, stream->proof, stream->proof);
    else if (loader->config->clickhouse_async_insert == CONFIG_ASYNC_ON)
        config_warning(loader, loader->streams[index].key_places[STREAM_KEY_PROOF],
                       "stream.%s.proof tells nothing with clickhouse.async_insert = on, since "
                       "ClickHouse gives the rows of several async inserts the token of one: set "
                       "that to auto or off",
                       stream->name);
}

static void config_check_check_streams(struct config_loader *loader)
{
    struct config *config = loader->config;

    if (config->stream_count == 0)
        config_problem(loader, PLACE_NONE,
                       "there is no [stream.NAME] section; at least one is needed");
    for (size_t i = 0; i < config->stream_count; i++) {
        config_stream_check(loader, i);
        config_check_check_proof(loader, i);
    }
}

static void config_check_check_clickhouse(struct config_loader *loader)
{
    struct config *config = loader->config;
    bool url_has_user;
    const char *problem =
        config_check_clickhouse_url_problem(config->clickhouse_url, &url_has_user);
    bool has_password = *config->clickhouse_password != '\0';
    bool has_file = *config->clickhouse_password_file != '\0';

    if (problem != NULL)
        config_problem(loader, loader->key_places[KEY_clickhouse_url], "clickhouse.url: %s",
                       problem);
    if (url_has_user && (*config->clickhouse_user != '\0' || has_password || has_file))
        config_problem(loader, loader->key_places[KEY_clickhouse_url],
                       "clickhouse.url holds credentials, and so do user, password or"
                       " password_file; ClickHouse refuses both together");
    if (has_password && has_file)
        config_problem(loader, loader->key_places[KEY_clickhouse_password_file],
                       "clickhouse.password and clickhouse.password_file are both given");
    if (config->clickhouse_retry_min_ms > config->clickhouse_retry_max_ms)
        config_problem(loader,
                       loader->key_places[KEY_clickhouse_retry_min] != PLACE_NONE
                           ? loader->key_places[KEY_clickhouse_retry_min]
                           : loader->key_places[KEY_clickhouse_retry_max],
                       "clickhouse.retry_min is longer than clickhouse.retry_max");
    config->clickhouse_password_resolved =
        has_file
            ? config_read_secret(loader, KEY_clickhouse_password_file)
            : config_copy(loader, config->clickhouse_password, strlen(config->clickhouse_password));
}

static uint64_t config_check_at_most(uint64_t value, uint64_t most)
{
    return value < most ? value : most;
}

static uint64_t config_check_at_least(uint64_t value, uint64_t least)
{
    return value > least ? value : least;
}

static void config_check_resolve_threads(struct config_loader *loader)
{
    struct config *config = loader->config;
    uint64_t cpus = loader->cpu_count;

    if (config->server_threads == 0)
        config->server_threads =
            config_check_at_least(config_check_at_most(cpus, AUTO_THREADS_MAX), 1);
    if (config->worker_threads == 0)
        config->worker_threads =
            config_check_at_least(config_check_at_most(cpus / 2, AUTO_THREADS_MAX), 1);
}

/* Most segments that the kernel lets this process map; if unknown, any number. */
static uint64_t config_check_segments_max(void)
{
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");
    uint64_t maps;
    bool known;

    if (file == NULL)
        return UINT64_MAX / 2;
    known = fscanf(file, "%" SCNu64, &maps) == 1;
    fclose(file);
    if (!known)
        return UINT64_MAX / 2;
    return maps > 2 * OTHER_MAPS ? maps - OTHER_MAPS : OTHER_MAPS;
}

/* Each segment is a mapping: a journal that fills up would reach the kernel's limit before
 * max_bytes, and suddenly be full. */
static void config_check_check_maps(struct config_loader *loader)
{
    const struct config *config = loader->config;
    const uint64_t segments = config->journal_max_bytes_bytes / config->journal_segment_bytes;
    const uint64_t most = config_check_segments_max();
    const int place = loader->key_places[KEY_journal_segment];
    uint64_t least = config->journal_segment_bytes;
    char text[CONFIG_VALUE_MAX];

    if (segments <= most)
        return;
    while (config->journal_max_bytes_bytes / least > most)
        least *= 2;
    config_value_format(&config_keys[KEY_journal_segment], least, text);
    config_problem(loader, place != PLACE_NONE ? place : loader->key_places[KEY_journal_max_bytes],
                   "journal.max_bytes takes %" PRIu64 " segments of journal.segment, each a memory"
                   " mapping, and the kernel gives a process %" PRIu64 ": set journal.segment to %s"
                   " or more, or the sysctl vm.max_map_count to %" PRIu64,
                   segments, most + OTHER_MAPS, text, segments + OTHER_MAPS);
}

/* The value of `auto`, unless the other keys need more. */
static uint64_t config_check_auto_bytes(const struct config *config, bool in_memory)
{
    const uint64_t bytes = in_memory ? AUTO_MEMORY_BYTES : AUTO_FILE_BYTES;
    const uint64_t most = config_check_segments_max();

    return bytes / config->journal_segment_bytes <= most ? bytes
                                                         : most * config->journal_segment_bytes;
}

/* Whether two paths lead to one folder; those that do not exist yet are compared as text. */
static bool config_check_same_folder(const char *a, const char *b)
{
    struct stat one, other;
    size_t len_a = strlen(a), len_b = strlen(b);

    if (stat(a, &one) == 0 && stat(b, &other) == 0)
        return one.st_dev == other.st_dev && one.st_ino == other.st_ino;
    while (len_a > 1 && a[len_a - 1] == '/')
        len_a--;
    while (len_b > 1 && b[len_b - 1] == '/')
        len_b--;
    return len_a > 0 && len_a == len_b && memcmp(a, b, len_a) == 0;
}

static void config_check_check_journal(struct config_loader *loader)
{
    struct config *config = loader->config;
    /* Each front-end thread appends to a segment of its own, and one more is kept ready. */
    uint64_t needed = (config->server_threads + 1) * config->journal_segment_bytes;
    bool in_memory = config->journal_mode == CONFIG_JOURNAL_MEMORY;
    char text[CONFIG_VALUE_MAX];

    if (config->journal_max_bytes_bytes == 0)
        config->journal_max_bytes_bytes =
            config_check_at_least(config_check_auto_bytes(config, in_memory), needed);
    if (config->journal_max_bytes_bytes < needed) {
        config_value_format(&config_keys[KEY_journal_max_bytes], needed, text);
        config_problem(loader, loader->key_places[KEY_journal_max_bytes],
                       "journal.max_bytes must be at least %s: (server.threads + 1) times"
                       " journal.segment, with %" PRIu64 " threads",
                       text, config->server_threads);
    }
    config_check_check_maps(loader);
    if (!in_memory && config_check_same_folder(config->journal_dir, config->dead_letter_dir))
        config_problem(loader, loader->key_places[KEY_dead_letter_dir],
                       "dead_letter.dir and journal.dir are one folder, %s: give each its own",
                       config->journal_dir);
    if (!in_memory && *config->journal_dir == '\0')
        config_problem(loader, loader->key_places[KEY_journal_dir], "journal.dir is empty");
    if (*config->dead_letter_dir == '\0')
        config_problem(loader, loader->key_places[KEY_dead_letter_dir], "dead_letter.dir is empty");
}

void config_check(struct config_loader *loader)
{
    const struct config *config = loader->config;
    const char *problem =
        *config->redis_url != '\0'
            ? config_check_redis_url_problem(config->redis_url, config->redis_key_prefix)
            : NULL;

    config_check_check_addresses(loader);
    config_check_check_origins(loader);
    if (config->server_max_body_bytes > config->server_max_buffers_bytes)
        config_problem(loader, loader->key_places[KEY_server_max_body],
                       "server.max_body is larger than server.max_buffers, so that such a body"
                       " could never be received");
    config_check_resolve_threads(loader);
    if (problem != NULL)
        config_problem(loader, loader->key_places[KEY_redis_url], "redis.url: %s", problem);
    config_check_check_clickhouse(loader);
    config_check_check_journal(loader);
    config_check_check_streams(loader);
    config_door_check(loader);
    config_files_check(loader);
}
