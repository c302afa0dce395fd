/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_door.c - who may come in: the clients' keys, the admin port's, and proxies to believe.
 *
 * The keys are part of the configuration, so that a reload takes over all of it or nothing, and a
 * reader sees keys and streams that belong together.
 *
 * Runs on: main thread.
 * Owns: the keys of a configuration, which live as long as it (a reload that changes none shares
 * those in force), and its list of proxies.
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

void config_door_check(struct config_loader *loader)
{
    config_door_check_proxies(loader);
    config_door_check_admin(loader);
    config_door_check_keys(loader);
}

bool config_door_keys_differ(const struct config *a, const struct config *b)
{
    return !keys_same(a->keys, b->keys);
}

bool config_door_admin_key_differs(const struct config *a, const struct config *b)
{
    return a->has_admin_key != b->has_admin_key ||
           !keys_hash_equal(a->admin_key_hash, b->admin_key_hash);
}

void config_door_freeze(struct config *next, const struct config *current)
{
    if (strcmp(next->admin_key_file, current->admin_key_file) != 0) {
        /* It goes with admin.listen, which keeps its value too. */
        next->has_admin_key = current->has_admin_key;
        memcpy(next->admin_key_hash, current->admin_key_hash, sizeof(next->admin_key_hash));
    }
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
}
