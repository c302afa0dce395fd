/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_door.c - who may come in: the clients' keys, the admin port's, the certificate, and
 * proxies to believe.
 *
 * The keys and the certificate are part of the configuration, so that a reload takes over all of it
 * or nothing, and a reader sees keys and streams that belong together.
 *
 * Runs on: main thread.
 * Owns: the keys of a configuration, and its TLS, which live as long as it (a reload that changes
 * none of them shares those in force), and its list of proxies.
 */
#include "config_door.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

_Static_assert(CONFIG_STREAMS_MAX <= 64, "a key has a bit for each stream");

/* A name that is not localhost could be any address, at any time. */
static bool config_door_is_loopback(const struct config_address *address)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (address->kind == CONFIG_ADDRESS_UNIX || strcasecmp(address->host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, address->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address->host, &v6) != 1)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
}

static void config_door_check_admin(struct config_loader *loader)
{
    struct config *config = loader->config;
    char *key = NULL;

    if (*config->admin_key_file != '\0')
        key = config_read_secret(loader, KEY_admin_key_file);
    if (key != NULL) {
        keys_hash((struct slice){key, strlen(key)}, config->admin_key_hash);
        config->has_admin_key = true;
        explicit_bzero(key, strlen(key));
    }
    free(key);
    for (size_t i = 0; *config->admin_key_file == '\0' && i < config->admin_address_count; i++)
        if (!config_door_is_loopback(&config->admin_addresses[i])) {
            config_problem(loader, loader->key_places[KEY_admin_listen],
                           "admin.listen = %s is not a loopback address, so that others could read"
                           " all figures and bury events: name a file with a key in"
                           " admin.key_file, or listen on 127.0.0.1",
                           config->admin_listen);
            return;
        }
}

static void config_door_bind(struct config *config)
{
    const char *names[CONFIG_STREAMS_MAX];

    for (size_t i = 0; i < config->stream_count; i++)
        names[i] = config->streams[i].name;
    keys_bind(config->keys, names, config->stream_count);
}

static void config_door_check_keys(struct config_loader *loader)
{
    struct config *config = loader->config;
    int err;

    if (*config->auth_keys_file == '\0')
        return;
    err = keys_load(&config->keys, config->auth_keys_file, loader->problems);
    if (err == -EINVAL)
        loader->problem_count++; /* each was written with its own place */
    else if (err != 0)
        config_problem(loader, loader->key_places[KEY_auth_keys_file], "auth.keys_file = %s: %s",
                       config->auth_keys_file, strerror(-err));
    if (config->keys != NULL)
        config_door_bind(config);
}

static void config_door_tell_proxy(void *arg, struct slice item, const char *problem, bool warning)
{
    struct config_loader *loader = arg;
    const int place = loader->key_places[KEY_server_trusted_proxies];

    if (warning)
        config_warning(loader, place, "server.trusted_proxies = %.*s: %s", (int)item.len, item.data,
                       problem);
    else
        config_problem(loader, place, "server.trusted_proxies = %.*s: %s", (int)item.len, item.data,
                       problem);
}

static void config_door_check_proxies(struct config_loader *loader)
{
    struct config *config = loader->config;

    if (networks_create(&config->trusted_proxies, config->server_trusted_proxies,
                        config_door_tell_proxy, loader) == -ENOMEM)
        config_problem(loader, PLACE_NONE, "out of memory");
}

static const enum config_key_id config_door_tls_keys[TLS_FILE_COUNT] = {
    [TLS_CERT] = KEY_server_tls_cert,
    [TLS_KEY] = KEY_server_tls_key,
    [TLS_CLIENT_CA] = KEY_server_tls_client_ca,
};

static void config_door_load_tls(struct config_loader *loader,
                                 const char *const paths[TLS_FILE_COUNT])
{
    struct tls_problems problems;
    int err = tls_load(&loader->config->tls, paths, &problems);

    if (err == 0)
        return;
    if (err != -EINVAL)
        config_problem(loader, loader->key_places[KEY_server_tls_listen], "server.tls_listen: %s",
                       strerror(-err));
    for (size_t file = 0; file < TLS_FILE_COUNT; file++)
        if (problems.texts[file][0] != '\0')
            config_problem(loader, loader->key_places[config_door_tls_keys[file]],
                           "server.%s = %s: %s", config_keys[config_door_tls_keys[file]].name,
                           paths[file], problems.texts[file]);
}

static void config_door_check_tls(struct config_loader *loader)
{
    const struct config *config = loader->config;
    const char *const paths[TLS_FILE_COUNT] = {
        [TLS_CERT] = config->server_tls_cert,
        [TLS_KEY] = config->server_tls_key,
        [TLS_CLIENT_CA] = config->server_tls_client_ca,
    };
    const bool listens = *config->server_tls_listen != '\0';
    bool complete = true;

    for (size_t file = 0; file < TLS_FILE_COUNT; file++) {
        const char *name = config_keys[config_door_tls_keys[file]].name;
        const bool given = *paths[file] != '\0';

        if (given && !listens)
            config_problem(loader, loader->key_places[config_door_tls_keys[file]],
                           "server.%s does nothing without server.tls_listen", name);
        if (given || !listens || file == TLS_CLIENT_CA)
            continue;
        complete = false;
        config_problem(loader, loader->key_places[KEY_server_tls_listen],
                       "server.tls_listen needs the file of a %s in server.%s",
                       file == TLS_CERT ? "certificate" : "private key", name);
    }
    if (listens && complete)
        config_door_load_tls(loader, paths);
}

void config_door_check(struct config_loader *loader)
{
    config_door_check_proxies(loader);
    config_door_check_admin(loader);
    config_door_check_keys(loader);
    config_door_check_tls(loader);
}

bool config_door_file_differs(const struct config *a, const struct config *b, enum config_key_id id)
{
    if (id == KEY_auth_keys_file)
        return !keys_same(a->keys, b->keys);
    if (id == KEY_admin_key_file)
        return a->has_admin_key != b->has_admin_key ||
               !keys_hash_equal(a->admin_key_hash, b->admin_key_hash);
    for (enum tls_file file = TLS_CERT; file < TLS_FILE_COUNT; file++)
        if (config_door_tls_keys[file] == id)
            return a->tls != NULL && b->tls != NULL && !tls_same_file(a->tls, b->tls, file);
    return false;
}

/* The listeners keep speaking TLS, or not, until a restart. */
static void config_door_freeze_tls(struct config *next, const struct config *current)
{
    bool same = true;

    for (enum tls_file file = TLS_CERT; file < TLS_FILE_COUNT; file++)
        same = same && tls_same_file(next->tls, current->tls, file);
    if (same || next->tls == NULL || current->tls == NULL) {
        tls_destroy(next->tls);
        next->tls = current->tls;
    } else {
        tls_inherit(next->tls, current->tls);
    }
}

void config_door_freeze(struct config *next, const struct config *current)
{
    if (strcmp(next->admin_key_file, current->admin_key_file) != 0) {
        /* It goes with admin.listen, which keeps its value too. */
        next->has_admin_key = current->has_admin_key;
        memcpy(next->admin_key_hash, current->admin_key_hash, sizeof(next->admin_key_hash));
    }
    config_door_freeze_tls(next, current);
    if (next->keys == NULL)
        return;
    config_door_bind(next);
    if (keys_same(next->keys, current->keys)) {
        keys_destroy(next->keys);
        next->keys = current->keys;
    } else if (current->keys != NULL) {
        keys_inherit(next->keys, current->keys);
    }
}

void config_door_fini(struct config *config)
{
    networks_destroy(config->trusted_proxies);
    if (config->replaced == NULL || config->keys != config->replaced->keys)
        keys_destroy(config->keys);
    if (config->replaced == NULL || config->tls != config->replaced->tls)
        tls_destroy(config->tls);
}
