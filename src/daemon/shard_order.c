/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_order.c - keeps the shards of clickhouse.url in their order.
 *
 * A shard is known by its place in the list, in the hash of an event's id and in the id of an
 * insert. Were the places exchanged, an insert whose answer was lost would go to a server that does
 * not know its token, and its rows be in two shards. So an endpoint stays in the shard in which it
 * was, over reloads and restarts, and the list grows at its end. A file in the journal's folder
 * tells the next life; whoever empties the journal first and means it removes that file.
 *
 * Runs on: main thread. Owns: the file while the journal's lock is held.
 */
#define LOG_MODULE "shards"
#include "shard_order.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "alloy/clickhouse_url.h"
#include "alloy/files.h"
#include "alloy/log.h"

#define NEXT_FILE SHARD_ORDER_FILE ".tmp"
#define FILE_MAX (CLICKHOUSE_ENDPOINTS_MAX * (CLICKHOUSE_NAME_MAX + 16))

bool shard_order_same(const char *before, const char *after, char *why, size_t size)
{
    struct clickhouse_url old = {.rest = before};
    char name[CLICKHOUSE_NAME_MAX];

    while (clickhouse_url_next(&old)) {
        struct clickhouse_url new = {.rest = after};

        while (clickhouse_url_next(&new))
            if (new.shard != old.shard && clickhouse_url_same(old.url, new.url)) {
                (void)clickhouse_url_name(new.url, name);
                snprintf(why, size,
                         "clickhouse.url: %s was in shard %zu and would be in shard %zu. Ids and "
                         "inserts in doubt belong to their shard: leave the shards in their order, "
                         "and add new ones at the end",
                         name, old.shard + 1, new.shard + 1);
                return false;
            }
    }
    return true;
}

/* The list without credentials; behind it the shards that it lacks of before, which may be NULL.
 * Returns an owned string, or NULL without memory. */
static char *shard_order_text(const char *list, const char *before)
{
    struct clickhouse_url walk = {.rest = list};
    char name[CLICKHOUSE_NAME_MAX];
    size_t shard = 0, last, len = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &len);

    if (out == NULL)
        return NULL;
    for (; clickhouse_url_next(&walk); shard = walk.shard) {
        const char *scheme = memmem(walk.url.data, walk.url.len, "://", 3);

        (void)clickhouse_url_name(walk.url, name);
        fprintf(out, "%s%.*s://%s",
                walk.number == 0      ? ""
                : walk.shard != shard ? "|"
                                      : ",",
                scheme == NULL ? 0 : (int)(scheme - walk.url.data), walk.url.data, name);
    }
    last = shard;
    for (walk = (struct clickhouse_url){.rest = before}; clickhouse_url_next(&walk);)
        if (walk.shard > last) {
            fprintf(out, "%s%.*s", walk.shard != shard ? "|" : ",", (int)walk.url.len,
                    walk.url.data);
            shard = walk.shard;
        }
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

/* The list of an earlier life: "" where there was none. Returns 0 or -errno. */
static int shard_order_read(int dir_fd, char text[FILE_MAX])
{
    const int fd = openat(dir_fd, SHARD_ORDER_FILE, O_RDONLY | O_CLOEXEC);
    ssize_t len;
    int err = 0;

    text[0] = '\0';
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    len = read(fd, text, FILE_MAX - 1);
    if (len < 0)
        err = -errno;
    text[len < 0 ? 0 : len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    close(fd);
    return err;
}

static int shard_order_write(int dir_fd, const char *text)
{
    const int fd = openat(dir_fd, NEXT_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    int err = fd < 0 ? -errno : files_write_all(fd, text, strlen(text));

    if (fd < 0)
        return err;
    if (err == 0)
        err = files_write_all(fd, "\n", 1);
    if (err == 0 && fsync(fd) != 0)
        err = -errno;
    close(fd);
    if (err == 0 && renameat(dir_fd, NEXT_FILE, dir_fd, SHARD_ORDER_FILE) != 0)
        err = -errno;
    if (err == 0 && fsync(dir_fd) != 0)
        err = -errno;
    return err;
}

static void shard_order_keep(const struct config *config, int dir_fd, const char *before)
{
    char *text = shard_order_text(config->clickhouse_url, *before == '\0' ? NULL : before);
    int err = text == NULL ? -ENOMEM : 0;

    if (err == 0 && strcmp(text, before) != 0)
        err = shard_order_write(dir_fd, text);
    free(text);
    if (err != 0)
        log_warn("the order of shards is not kept for the next start file=%s/%s error=\"%s\"",
                 config->journal_dir, SHARD_ORDER_FILE, strerror(-err));
}

/* The journal's folder; -1: there is none, or nothing to keep. */
static int shard_order_open(const struct config *config)
{
    if (config->journal_mode == CONFIG_JOURNAL_MEMORY ||
        strncmp(config->clickhouse_url, "discard:", strlen("discard:")) == 0)
        return -1;
    return open(config->journal_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int shard_order_begin(const struct config *config, char *error, size_t size)
{
    const int dir_fd = shard_order_open(config);
    char before[FILE_MAX], why[SHARD_ORDER_WHY_MAX];
    int err;

    if (dir_fd < 0)
        return 0;
    err = shard_order_read(dir_fd, before);
    if (err != 0) {
        snprintf(error, size, "cannot read %s/%s: %s", config->journal_dir, SHARD_ORDER_FILE,
                 strerror(-err));
    } else if (!shard_order_same(before, config->clickhouse_url, why, sizeof(why))) {
        err = -EINVAL;
        snprintf(error, size, "%s. (The order so far is in %s/%s)", why, config->journal_dir,
                 SHARD_ORDER_FILE);
    } else {
        shard_order_keep(config, dir_fd, before);
    }
    close(dir_fd);
    return err;
}

void shard_order_note(const struct config *config)
{
    const int dir_fd = shard_order_open(config);
    char before[FILE_MAX];

    if (dir_fd < 0)
        return;
    if (shard_order_read(dir_fd, before) == 0)
        shard_order_keep(config, dir_fd, before);
    close(dir_fd);
}
