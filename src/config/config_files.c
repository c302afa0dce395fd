/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_files.c - whether files and folders that keys name are there and can be used.
 *
 * Passwords, keys and certificates are read with the configuration, and whoever reads them says
 * what is wrong (config_loader.c, config_door.c). The rest is here: files that are read later, at
 * each connection to Redis; folders that alloyd makes; and those of its sockets. One key that is
 * wrong is told as all others are: section.key = path: reason.
 *
 * That something cannot be written is a warning, since whoever checks a configuration need not be
 * the user that alloyd runs as, and a folder such as /run/alloy may be made when it starts.
 * Defaults are not warned of: the user has named nothing.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "config_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/redis_url.h"

/* Returns 0 or -errno. */
static int config_files_try_file(const char *path)
{
    struct stat status;
    int err = 0;
    /* A fifo must not hold us up. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return -errno;
    if (fstat(fd, &status) != 0)
        err = -errno;
    else if (S_ISDIR(status.st_mode))
        err = -EISDIR;
    close(fd);
    return err;
}

/* Cuts the last name off; what is above a path of one name is "/" or ".". */
static void config_files_go_up(char *path)
{
    char *end = path + strlen(path);

    while (end > path + 1 && end[-1] == '/')
        end--;
    while (end > path && end[-1] != '/')
        end--;
    while (end > path + 1 && end[-1] == '/')
        end--;
    if (end == path)
        *end++ = '.';
    *end = '\0';
}

/* Whether there is a folder at path, or one can be made; at: what stands in the way. Returns 0 or
 * -errno. */
static int config_files_try_folder(const char *path, char at[PATH_MAX])
{
    struct stat status;

    snprintf(at, PATH_MAX, "%s", path);
    while (stat(at, &status) != 0) {
        if ((errno != ENOENT && errno != ENOTDIR) || strcmp(at, ".") == 0)
            return -errno;
        config_files_go_up(at);
    }
    if (!S_ISDIR(status.st_mode))
        return -ENOTDIR;
    return access(at, W_OK | X_OK) == 0 ? 0 : -errno;
}

/* Of Redis, for TLS: read at each connection. */
static void config_files_check_redis(struct config_loader *loader)
{
    struct redis_url url;

    if (*loader->config->redis_url == '\0' ||
        redis_url_parse(&url, loader->config->redis_url) != NULL)
        return;
    const struct {
        const char *name, *path;
    } files[] = {{"ssl_ca_certs", url.ca_file},
                 {"ssl_certfile", url.cert_file},
                 {"ssl_keyfile", url.key_file}};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        const int err = files[i].path != NULL ? config_files_try_file(files[i].path) : 0;

        if (err != 0)
            config_problem(loader, loader->key_places[KEY_redis_url], "redis.url: %s = %s: %s",
                           files[i].name, files[i].path, strerror(-err));
    }
    redis_url_fini(&url);
}

static void config_files_check_folder(struct config_loader *loader, enum config_key_id id,
                                      const char *path)
{
    const int place = loader->key_places[id];
    char at[PATH_MAX];
    const int err = *path != '\0' ? config_files_try_folder(path, at) : 0;

    if (err == -ENOTDIR)
        config_problem(loader, place, "%s.%s = %s: %s is not a folder", config_keys[id].section,
                       config_keys[id].name, path, at);
    else if (err != 0 && place != PLACE_NONE)
        config_warning(loader, place, "%s.%s = %s: %s: %s", config_keys[id].section,
                       config_keys[id].name, path, at, strerror(-err));
}

/* The folder of a socket may be made when alloyd starts (/run/alloy, by systemd). */
static void config_files_check_socket(struct config_loader *loader, enum config_key_id id,
                                      const struct config_address *address)
{
    char dir[PATH_MAX], at[PATH_MAX];

    if (address->kind != CONFIG_ADDRESS_UNIX)
        return;
    snprintf(dir, sizeof(dir), "%s", address->host);
    config_files_go_up(dir);
    if (config_files_try_folder(dir, at) == -ENOTDIR)
        config_problem(loader, loader->key_places[id], "%s.%s = unix:%s: %s is not a folder",
                       config_keys[id].section, config_keys[id].name, address->host, at);
}

void config_files_check(struct config_loader *loader)
{
    const struct config *config = loader->config;

    config_files_check_redis(loader);
    if (config->journal_mode == CONFIG_JOURNAL_FILE)
        config_files_check_folder(loader, KEY_journal_dir, config->journal_dir);
    config_files_check_folder(loader, KEY_dead_letter_dir, config->dead_letter_dir);
    for (size_t i = 0; i < config->server_address_count; i++)
        config_files_check_socket(
            loader, config->server_addresses[i].tls ? KEY_server_tls_listen : KEY_server_listen,
            &config->server_addresses[i]);
    for (size_t i = 0; i < config->admin_address_count; i++)
        config_files_check_socket(loader, KEY_admin_listen, &config->admin_addresses[i]);
}
