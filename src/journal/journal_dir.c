/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal_dir.c - the journal's folder: its lock, the instance file, and the numbers that an
 * instance never uses twice.
 *
 * LSNs are values of claims in Redis, and insert ids are deduplication tokens in ClickHouse: a
 * number used twice would make a new event look like an old one, and lose it. So the instance file
 * says, before we use any number, where a later life begins; a life that ends in order corrects
 * that downwards.
 *
 * Runs on: open and close on main; numbers on any thread; journal_dir_promise() on the janitor.
 * Owns: the folder's lock and the instance file.
 */
#include "alloy/journal_dir.h"

#define LOG_MODULE "journal"
#include "alloy/files.h"
#include "alloy/log.h"
#include "alloy/segment.h"

#include <xxhash.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define INSTANCE_MAGIC "ALLOYINS"
#define INSTANCE_VERSION 1
#define INSTANCE_NAME "instance"
#define INSTANCE_TMP "instance.tmp"
#define ASIDE_SUFFIX "alj.corrupt"
#define SEGMENT_PROMISE 1024
#define INSERT_PROMISE ((uint64_t)1 << 20)

/* The instance file, little-endian. */
struct instance_file {
    char magic[8];
    uint32_t version;
    uint32_t reserved; /* 0 */
    uint64_t instance_id;
    uint64_t segment_next; /* no segment of this number or above was ever made */
    uint64_t insert_next;  /* no insert of this id or above was ever sent */
    unsigned char secret[EVENT_ID_KEY_LEN];
    uint64_t checksum; /* XXH3 of all above */
};
_Static_assert(sizeof(struct instance_file) == 64, "the instance file is part of the format");

static int journal_dir_fail(char *error, int err, const char *path, const char *what)
{
    snprintf(error, JOURNAL_DIR_ERROR_MAX, "journal folder %s: %s: %s", path, what, strerror(-err));
    return err;
}

static int journal_dir_open_folder(struct journal_dir *dir, char *error)
{
    int err, above;

    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd >= 0)
        return 0;
    if (errno != ENOENT)
        return journal_dir_fail(error, -errno, dir->path, "cannot be opened");
    err = files_make_path(dir->path, 0700, 0755);
    if (err != 0)
        return journal_dir_fail(error, err, dir->path, "cannot be created");
    dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir->fd < 0)
        return journal_dir_fail(error, -errno, dir->path, "cannot be opened");
    /* A new folder is on disk only once the folder above it is synced. If we may not open that one,
     * we go on. */
    above = openat(dir->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (above >= 0) {
        fsync(above);
        close(above);
    }
    return 0;
}

static int journal_dir_take_lock(struct journal_dir *dir, char *error)
{
    char text[32] = "";
    int len;

    dir->lock_fd = openat(dir->fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (dir->lock_fd < 0)
        return journal_dir_fail(error, -errno, dir->path, "lock file");
    if (flock(dir->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK)
            return journal_dir_fail(error, -errno, dir->path, "lock file");
        if (pread(dir->lock_fd, text, sizeof(text) - 1, 0) <= 0)
            snprintf(text, sizeof(text), "unknown");
        snprintf(error, JOURNAL_DIR_ERROR_MAX,
                 "journal folder %s is in use by another alloyd (pid %.*s)", dir->path,
                 (int)strcspn(text, "\n"), text);
        return -EBUSY;
    }
    len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
    if (ftruncate(dir->lock_fd, 0) != 0 || pwrite(dir->lock_fd, text, (size_t)len, 0) != len)
        log_warn("pid cannot be written to the lock file error=\"%s\"", strerror(errno));
    return 0;
}

static int journal_dir_by_number(const void *left, const void *right)
{
    const struct journal_dir_file *a = left, *b = right;

    return a->number < b->number ? -1 : a->number > b->number;
}

static int journal_dir_add_file(struct journal_dir *dir, uint32_t number, uint64_t size)
{
    struct journal_dir_file *grown =
        reallocarray(dir->files, dir->file_count + 1, sizeof(*dir->files));

    if (grown == NULL)
        return -ENOMEM;
    dir->files = grown;
    dir->files[dir->file_count++] = (struct journal_dir_file){.number = number, .size = size};
    return 0;
}

/* Under lock, or alone. */
static int journal_dir_add_damaged(struct journal_dir *dir, uint32_t number)
{
    uint32_t *grown;

    for (size_t i = 0; i < dir->damaged_count; i++)
        if (dir->damaged[i] == number)
            return 0;
    grown = reallocarray(dir->damaged, dir->damaged_count + 1, sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    dir->damaged = grown;
    dir->damaged[dir->damaged_count++] = number;
    return 0;
}

/* Lists a segment; with the lock held, removes a file that was never finished. */
static int journal_dir_list_name(void *arg, const char *found)
{
    struct journal_dir *dir = arg;
    char name[SEGMENT_NAME_MAX];
    unsigned number;
    struct stat st;

    if (sscanf(found, "segment-%10u", &number) != 1)
        return 0;
    segment_name(name, number, "tmp");
    if (strcmp(name, found) == 0 && dir->lock_fd < 0)
        return 0;
    if (strcmp(name, found) == 0)
        return unlinkat(dir->fd, found, 0) == 0 ? 0 : -errno;
    segment_name(name, number, ASIDE_SUFFIX);
    if (strcmp(name, found) == 0)
        return journal_dir_add_damaged(dir, number);
    segment_name(name, number, "alj");
    if (strcmp(name, found) != 0)
        return 0;
    if (fstatat(dir->fd, found, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno; /* a peek: alloyd removed it in between */
    return journal_dir_add_file(dir, number, (uint64_t)st.st_size);
}

static int journal_dir_list_files(struct journal_dir *dir, char *error)
{
    const int err = files_list(dir->fd, journal_dir_list_name, dir);

    if (err != 0)
        return journal_dir_fail(error, err, dir->path, "cannot be read");
    if (dir->file_count > 1)
        qsort(dir->files, dir->file_count, sizeof(*dir->files), journal_dir_by_number);
    return 0;
}

/*
 * Replaces the instance file by one with these numbers; on disk when this returns 0. The two files
 * exchange their names and both stay, so that this needs no new block: perhaps only a drained
 * journal can make room on a full disk.
 */
static int journal_dir_write_instance(struct journal_dir *dir, uint64_t segment_next,
                                      uint64_t insert_next)
{
    struct instance_file file = {
        .version = INSTANCE_VERSION,
        .instance_id = dir->instance_id,
        .segment_next = segment_next,
        .insert_next = insert_next,
    };
    int fd, err;

    memcpy(file.magic, INSTANCE_MAGIC, sizeof(file.magic));
    memcpy(file.secret, dir->secret, sizeof(file.secret));
    file.checksum = XXH3_64bits(&file, offsetof(struct instance_file, checksum));
    fd = openat(dir->fd, INSTANCE_TMP, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    err = files_write_all(fd, &file, sizeof(file));
    if (err == 0 && fsync(fd) != 0)
        err = -errno;
    close(fd);
    if (err != 0)
        return err;
    /* The first time there is nothing to exchange, and some file systems cannot exchange. */
    if (renameat2(dir->fd, INSTANCE_TMP, dir->fd, INSTANCE_NAME, RENAME_EXCHANGE) != 0 &&
        renameat(dir->fd, INSTANCE_TMP, dir->fd, INSTANCE_NAME) != 0)
        return -errno;
    return fsync(dir->fd) == 0 ? 0 : -errno;
}

/* Returns 0; -ENOENT: there is no such file; else -errno with a sentence in error. */
static int journal_dir_read_instance(struct journal_dir *dir, char *error)
{
    struct instance_file file;
    ssize_t got;
    int fd;

    fd = openat(dir->fd, INSTANCE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? -ENOENT
                               : journal_dir_fail(error, -errno, dir->path, "instance file");
    got = pread(fd, &file, sizeof(file), 0);
    close(fd);
    if (got != (ssize_t)sizeof(file) ||
        memcmp(file.magic, INSTANCE_MAGIC, sizeof(file.magic)) != 0 ||
        file.checksum != XXH3_64bits(&file, offsetof(struct instance_file, checksum)))
        return journal_dir_fail(error, -EBADMSG, dir->path, "the instance file is broken");
    if (file.version != INSTANCE_VERSION)
        return journal_dir_fail(error, -EBADMSG, dir->path,
                                "the instance file is of another version");
    dir->instance_id = file.instance_id;
    dir->segment_next = file.segment_next;
    atomic_store_explicit(&dir->insert_next, file.insert_next, memory_order_relaxed);
    memcpy(dir->secret, file.secret, sizeof(dir->secret));
    return 0;
}

static void journal_dir_draw_instance(struct journal_dir *dir)
{
    event_id_random(&dir->instance_id, sizeof(dir->instance_id));
    event_id_random(dir->secret, sizeof(dir->secret));
    dir->segment_next = 1;
    atomic_store_explicit(&dir->insert_next, 1, memory_order_relaxed);
}

/* Under lock, or alone. */
static int journal_dir_promise_more(struct journal_dir *dir)
{
    const uint64_t segment_limit = dir->segment_next + SEGMENT_PROMISE;
    const uint64_t insert_limit =
        atomic_load_explicit(&dir->insert_next, memory_order_relaxed) + INSERT_PROMISE;
    int err;

    if (dir->path != NULL) {
        err = journal_dir_write_instance(dir, segment_limit, insert_limit);
        if (err != 0)
            return err;
    }
    dir->segment_limit = segment_limit;
    /* release: pairs with the acquire in journal_stamp(): an id below it is safe to send */
    atomic_store_explicit(&dir->insert_limit, insert_limit, memory_order_release);
    return 0;
}

static int journal_dir_load_instance(struct journal_dir *dir, char *error)
{
    int err = journal_dir_read_instance(dir, error);

    if (err == -ENOENT) {
        /* With a new instance id, these events' own claims in Redis would make them duplicates of
         * somebody else's. */
        if (dir->file_count > 0) {
            snprintf(error, JOURNAL_DIR_ERROR_MAX,
                     "journal folder %s holds segments but no instance file: put the file back, or "
                     "move the segments away",
                     dir->path);
            return -EBADMSG;
        }
        journal_dir_draw_instance(dir);
    } else if (err != 0) {
        return err;
    }
    if (dir->file_count > 0 && dir->files[dir->file_count - 1].number >= dir->segment_next)
        dir->segment_next = (uint64_t)dir->files[dir->file_count - 1].number + 1;
    err = journal_dir_promise_more(dir);
    return err == 0 ? 0
                    : journal_dir_fail(error, err, dir->path, "instance file cannot be written");
}

static void journal_dir_let_go(struct journal_dir *dir)
{
    if (dir->lock_fd >= 0)
        close(dir->lock_fd);
    if (dir->fd >= 0)
        close(dir->fd);
    pthread_mutex_destroy(&dir->lock);
    free(dir->files);
    free(dir->damaged);
    free(dir->path);
}

int journal_dir_open(struct journal_dir *dir, const char *path, char error[JOURNAL_DIR_ERROR_MAX])
{
    int err;

    *dir = (struct journal_dir){.fd = -1, .lock_fd = -1};
    pthread_mutex_init(&dir->lock, NULL);
    if (path == NULL) {
        journal_dir_draw_instance(dir);
        return journal_dir_promise_more(dir);
    }
    dir->path = strdup(path);
    if (dir->path == NULL)
        err = journal_dir_fail(error, -ENOMEM, path, "cannot be opened");
    else
        err = journal_dir_open_folder(dir, error);
    if (err == 0)
        err = journal_dir_take_lock(dir, error);
    if (err == 0)
        err = journal_dir_list_files(dir, error);
    if (err == 0)
        err = journal_dir_load_instance(dir, error);
    if (err != 0)
        journal_dir_let_go(dir);
    return err;
}

void journal_dir_close(struct journal_dir *dir)
{
    /* If the file cannot be written, the next life begins at the old limits and only skips
     * numbers. */
    if (dir->path != NULL)
        (void)journal_dir_write_instance(
            dir, dir->segment_next, atomic_load_explicit(&dir->insert_next, memory_order_relaxed));
    journal_dir_let_go(dir);
}

int journal_dir_peek(struct journal_dir *dir, const char *path, char error[JOURNAL_DIR_ERROR_MAX])
{
    int err = 0;

    *dir = (struct journal_dir){.fd = -1, .lock_fd = -1, .path = strdup(path)};
    pthread_mutex_init(&dir->lock, NULL);
    if (dir->path == NULL)
        err = journal_dir_fail(error, -ENOMEM, path, "cannot be opened");
    if (err == 0)
        dir->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (err == 0 && dir->fd < 0)
        err = journal_dir_fail(error, -errno, path, "cannot be opened");
    if (err == 0)
        err = journal_dir_list_files(dir, error);
    if (err == 0) {
        err = journal_dir_read_instance(dir, error);
        if (err == -ENOENT)
            (void)journal_dir_fail(error, err, path, "no journal: instance file");
    }
    if (err != 0)
        journal_dir_let_go(dir);
    return err;
}

void journal_dir_peek_end(struct journal_dir *dir)
{
    journal_dir_let_go(dir);
}

/* Whether a name, seen from the folder dir_fd, still leads to what is open as fd. */
static bool journal_dir_leads_to(int dir_fd, const char *name, int fd)
{
    struct stat named, open_one;

    /* An error of another kind does not prove that the file is gone. */
    if (fstatat(dir_fd, name, &named, 0) != 0)
        return errno != ENOENT && errno != ENOTDIR;
    return fstat(fd, &open_one) != 0 ||
           (named.st_ino == open_one.st_ino && named.st_dev == open_one.st_dev);
}

int journal_dir_look(struct journal_dir *dir)
{
    int err = 0;

    /* Without the lock file a second alloyd could take the folder too. */
    if (!journal_dir_leads_to(AT_FDCWD, dir->path, dir->fd) ||
        !journal_dir_leads_to(dir->fd, "lock", dir->lock_fd))
        return -ENOENT;
    if (faccessat(dir->fd, INSTANCE_NAME, F_OK, 0) == 0 || errno != ENOENT)
        return 0;
    pthread_mutex_lock(&dir->lock);
    err = journal_dir_promise_more(dir);
    pthread_mutex_unlock(&dir->lock);
    log_warn("the instance file was removed action=write_it_again result=\"%s\"",
             err == 0 ? "ok" : strerror(-err));
    return 0;
}

int journal_dir_note_damaged(struct journal_dir *dir, uint32_t number)
{
    int err;

    pthread_mutex_lock(&dir->lock);
    err = journal_dir_add_damaged(dir, number);
    pthread_mutex_unlock(&dir->lock);
    return err;
}

int journal_dir_set_aside(struct journal_dir *dir, uint32_t number)
{
    char name[SEGMENT_NAME_MAX], aside[SEGMENT_NAME_MAX];
    int err = journal_dir_note_damaged(dir, number);

    segment_name(name, number, "alj");
    segment_name(aside, number, ASIDE_SUFFIX);
    if (err == 0 && renameat(dir->fd, name, dir->fd, aside) != 0)
        err = -errno;
    if (err == 0)
        log_error("segment set aside: something in it cannot be read segment=%u file=%s/%s", number,
                  dir->path, aside);
    return err;
}

bool journal_dir_is_damaged(struct journal_dir *dir, uint32_t number)
{
    bool found = false;

    pthread_mutex_lock(&dir->lock);
    for (size_t i = 0; i < dir->damaged_count && !found; i++)
        found = dir->damaged[i] == number;
    pthread_mutex_unlock(&dir->lock);
    return found;
}

size_t journal_dir_damaged(struct journal_dir *dir)
{
    size_t count;

    pthread_mutex_lock(&dir->lock);
    count = dir->damaged_count;
    pthread_mutex_unlock(&dir->lock);
    return count;
}

int journal_dir_segment_number(struct journal_dir *dir, uint32_t *number)
{
    int err = 0;

    pthread_mutex_lock(&dir->lock);
    if (dir->segment_next > UINT32_MAX)
        err = -EOVERFLOW;
    else if (dir->segment_next >= dir->segment_limit)
        err = journal_dir_promise_more(dir);
    if (err == 0)
        *number = (uint32_t)dir->segment_next++;
    pthread_mutex_unlock(&dir->lock);
    return err;
}

uint64_t journal_dir_insert_id(struct journal_dir *dir)
{
    const uint64_t id = atomic_fetch_add_explicit(&dir->insert_next, 1, memory_order_relaxed);

    if (unlikely(id >= atomic_load_explicit(&dir->insert_limit, memory_order_relaxed))) {
        pthread_mutex_lock(&dir->lock);
        /* On failure journal_stamp() refuses the id. */
        (void)journal_dir_promise_more(dir);
        pthread_mutex_unlock(&dir->lock);
    }
    return id;
}

int journal_dir_promise(struct journal_dir *dir)
{
    int err = 0;

    pthread_mutex_lock(&dir->lock);
    if (dir->segment_limit - dir->segment_next < SEGMENT_PROMISE / 2 ||
        atomic_load_explicit(&dir->insert_next, memory_order_relaxed) + INSERT_PROMISE / 2 >
            atomic_load_explicit(&dir->insert_limit, memory_order_relaxed))
        err = journal_dir_promise_more(dir);
    pthread_mutex_unlock(&dir->lock);
    return err;
}
