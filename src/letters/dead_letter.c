/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dead_letter.c - events that ClickHouse refuses, kept as NDJSON with the reason.
 *
 * Lines are gathered in memory, written by one loop of write(2) and synced; whatever goes wrong on
 * the way, the file is cut back to where it was, so that nothing is half there.
 *
 * Files belong to the operator as well, who may read, move or remove them at any time. So before
 * each append we make sure, under the file's lock, that its name still leads to it; who renames it
 * under the same lock (alloyctl does) has all its lines and will get no more. The folder as a whole
 * is theirs too: where its path has come to lead elsewhere, or nowhere, it is opened again.
 *
 * Runs on: one thread.
 * Owns: the folder's size, the open files, the buffer of lines.
 */
#include "alloy/dead_letter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/files.h"
#include "alloy/letters.h"
#define LOG_MODULE "dead_letter"
#include "alloy/log.h"
#include "alloy/text.h"

#define FILE_BYTES_MAX (64u << 20)
#define MESSAGE_MAX 1024 /* bytes of ClickHouse's message that are kept */
#define STREAM_MAX 64    /* with its NUL */
#define FILES_MAX 64     /* streams */
#define FOLDER_PART 8    /* a file may be this part of max_bytes */
#define MS_PER_DAY 86400000u

/* The open file of a stream. */
struct file {
    int fd; /* -1: none */
    uint64_t bytes;
    uint64_t day; /* since 1970, UTC */
    char stream[STREAM_MAX];
    char name[NAME_MAX + 1];
};

struct dead_letter {
    char *dir;             /* owned; the path of dir_fd, unless somebody has moved it */
    int dir_fd;            /* -1: none */
    uint64_t folder_bytes; /* of all regular files, when last measured, and written since */
    struct file files[FILES_MAX];
    size_t next_file; /* to be given up when all are open */
};

static int dead_letter_measure_file(void *arg, const char *name)
{
    struct dead_letter *dead_letter = arg;
    struct stat st;

    if (fstatat(dead_letter->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        dead_letter->folder_bytes += (uint64_t)st.st_size;
    return 0;
}

/* Sums the sizes of the folder's files. 0 or -errno. */
static int dead_letter_measure_folder(struct dead_letter *dead_letter)
{
    dead_letter->folder_bytes = 0;
    return files_list(dead_letter->dir_fd, dead_letter_measure_file, dead_letter);
}

/* Opens the folder that the path leads to, creating it where it is missing, in place of the one
 * that was open. 0; or -errno, and nothing has changed. */
static int dead_letter_open_folder(struct dead_letter *dead_letter)
{
    const int before = dead_letter->dir_fd;
    int err = files_make_path(dead_letter->dir, 0750, 0750);
    int fd;

    if (err != 0)
        return err;
    fd = open(dead_letter->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    dead_letter->dir_fd = fd;
    err = faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) != 0
              ? -errno
              : dead_letter_measure_folder(dead_letter);
    if (err != 0) {
        dead_letter->dir_fd = before;
        close(fd);
    } else if (before >= 0) {
        close(before);
    }
    return err;
}

static void dead_letter_close_file(struct file *file)
{
    if (file->fd >= 0)
        close(file->fd); /* lets go of its lock too */
    file->fd = -1;
}

/* Makes sure that what is written lands where the path leads. 0 or -errno. */
static int dead_letter_follow_folder(struct dead_letter *dead_letter)
{
    struct stat named, opened;
    int err;

    if (stat(dead_letter->dir, &named) == 0 && fstat(dead_letter->dir_fd, &opened) == 0 &&
        named.st_dev == opened.st_dev && named.st_ino == opened.st_ino)
        return 0;
    err = dead_letter_open_folder(dead_letter);
    if (err != 0)
        return err;
    for (size_t i = 0; i < FILES_MAX; i++)
        dead_letter_close_file(&dead_letter->files[i]);
    log_warn("folder was moved or removed dir=\"%s\" action=open_again", dead_letter->dir);
    return 0;
}

/* True when a file had this name before a replay renamed it: it would collide at the next one. */
static bool dead_letter_was_used(const struct dead_letter *dead_letter, const char *name)
{
    static const char *const suffixes[] = {LETTERS_SUFFIX_REPLAYING, LETTERS_SUFFIX_REPLAYED};
    const size_t stem = strlen(name) - strlen(LETTERS_SUFFIX);
    char later[NAME_MAX + 32];

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        snprintf(later, sizeof(later), "%.*s%s", (int)stem, name, suffixes[i]);
        if (faccessat(dead_letter->dir_fd, later, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    }
    return false;
}

/* Opens <stream>-<UTC time>-<n>.ndjson, with the first n from 1 that is free, locked. 0 or -errno.
 */
static int dead_letter_open_file(struct dead_letter *dead_letter, struct file *file,
                                 const struct dead_letter_reason *reason)
{
    time_t seconds = (time_t)(reason->real_ms / 1000);
    char when[32];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
    for (unsigned n = 1; n < 100000; n++) {
        snprintf(file->name, sizeof(file->name), "%s-%s-%u" LETTERS_SUFFIX, reason->stream, when,
                 n);
        if (dead_letter_was_used(dead_letter, file->name))
            continue;
        file->fd = openat(dead_letter->dir_fd, file->name,
                          O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640);
        if (file->fd >= 0)
            break;
        if (errno != EEXIST)
            return -errno;
    }
    if (file->fd < 0)
        return -EEXIST;
    file->bytes = 0;
    file->day = reason->real_ms / MS_PER_DAY;
    snprintf(file->stream, sizeof(file->stream), "%s", reason->stream);
    (void)flock(file->fd, LOCK_EX | LOCK_NB);
    /* The name must be on disk before the records leave the journal. */
    return fsync(dead_letter->dir_fd) == 0 ? 0 : -errno;
}

/* Locks an open file. False: somebody else holds it, or its name leads elsewhere: it is theirs. */
static bool dead_letter_still_ours(const struct dead_letter *dead_letter, const struct file *file)
{
    struct stat named, opened;

    return flock(file->fd, LOCK_EX | LOCK_NB) == 0 && fstat(file->fd, &opened) == 0 &&
           fstatat(dead_letter->dir_fd, file->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

/* The place of a stream's file: the one it has, or a free one. */
static struct file *dead_letter_find_file(struct dead_letter *dead_letter, const char *stream)
{
    struct file *unused = NULL;

    for (size_t i = 0; i < FILES_MAX; i++) {
        struct file *file = &dead_letter->files[i];

        if (file->fd < 0)
            unused = file;
        else if (strcmp(file->stream, stream) == 0)
            return file;
    }
    if (unused == NULL) {
        unused = &dead_letter->files[dead_letter->next_file++ % FILES_MAX];
        dead_letter_close_file(unused);
    }
    return unused;
}

/* The file that len more bytes of a stream go to, open and locked; NULL with errno set. */
static struct file *dead_letter_get_file(struct dead_letter *dead_letter,
                                         const struct dead_letter_reason *reason, size_t len,
                                         uint64_t max_bytes)
{
    const uint64_t part = max_bytes / FOLDER_PART;
    const uint64_t limit = part < FILE_BYTES_MAX ? part : FILE_BYTES_MAX;
    struct file *file = dead_letter_find_file(dead_letter, reason->stream);

    if (file->fd >= 0 && (file->bytes + len > limit || file->day != reason->real_ms / MS_PER_DAY ||
                          !dead_letter_still_ours(dead_letter, file)))
        dead_letter_close_file(file);
    if (file->fd >= 0)
        return file;
    errno = -dead_letter_open_file(dead_letter, file, reason);
    if (errno == 0)
        return file;
    dead_letter_close_file(file);
    return NULL;
}

/* Writes text as the inside of a JSON string; bytes that are not UTF-8 become \ufffd. */
static void dead_letter_put_escaped(FILE *out, struct slice text)
{
    char escaped[TEXT_ESCAPE_MAX];
    size_t taken;

    for (size_t at = 0; at < text.len; at += taken) {
        size_t n = text_escape(text.data + at, text.len - at, &taken, escaped);

        fwrite(escaped, 1, n, out);
    }
}

/*
 * Writes an event's bytes, without the newline that ends it. A line break inside is white space
 * between tokens (a JSON string cannot hold a raw one), so a space in its place leaves the event
 * the same and the line one line.
 */
static void dead_letter_put_event(FILE *out, const struct record *record)
{
    const char *at = record->body;
    const char *end = record->body + record->body_length;

    if (end > at && end[-1] == '\n')
        end--;
    while (at < end) {
        const char *stop = at;
        while (stop < end && *stop != '\n' && *stop != '\r')
            stop++;
        fwrite(at, 1, (size_t)(stop - at), out);
        if (stop < end)
            fputc(' ', out);
        at = stop + 1;
    }
}

/* Returns owned lines for the records, or NULL when memory ran out. */
static char *dead_letter_format_lines(struct record *const *records, size_t n,
                                      const struct dead_letter_reason *reason, size_t *len)
{
    struct slice message = reason->message;
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    char when[32];
    bool failed;

    if (out == NULL)
        return NULL;
    if (message.len > MESSAGE_MAX) {
        message.len = MESSAGE_MAX;
        /* Not in the middle of a character. */
        while (message.len > 0 && ((unsigned char)message.data[message.len] & 0xc0) == 0x80)
            message.len--;
    }
    clock_format_iso(reason->real_ms, when);
    for (size_t i = 0; i < n; i++) {
        fprintf(out,
                "{\"time\":\"%s\",\"lsn\":\"%016" PRIx64 "%016" PRIx64
                "\",\"stream\":\"%s\",\"code\":%d,\"message\":\"",
                when, reason->instance_id, records[i]->lsn, reason->stream, reason->code);
        dead_letter_put_escaped(out, message);
        fputs("\",\"event\":", out);
        dead_letter_put_event(out, records[i]);
        fputs("}\n", out);
    }
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* Appends and syncs; on an error the file is as it was. */
static int dead_letter_append(struct dead_letter *dead_letter, struct file *file, const char *text,
                              size_t len)
{
    int err = files_write_all(file->fd, text, len);

    if (err == 0 && fdatasync(file->fd) != 0)
        err = -EIO;
    if (err != 0) {
        /* After a failed sync or cut the file cannot be trusted: it is left, and not reopened. */
        if (ftruncate(file->fd, (off_t)file->bytes) != 0 || err == -EIO)
            dead_letter_close_file(file);
        else
            (void)flock(file->fd, LOCK_UN);
        return err;
    }
    file->bytes += len;
    dead_letter->folder_bytes += len;
    (void)flock(file->fd, LOCK_UN);
    return 0;
}

int dead_letter_open(struct dead_letter **dead_letter, const char *dir)
{
    struct dead_letter *opened = calloc(1, sizeof(*opened));
    int err = -ENOMEM;

    if (opened == NULL)
        return err;
    opened->dir_fd = -1;
    for (size_t i = 0; i < FILES_MAX; i++)
        opened->files[i].fd = -1;
    opened->dir = strdup(dir);
    if (opened->dir != NULL)
        err = dead_letter_open_folder(opened);
    if (err != 0) {
        free(opened->dir);
        free(opened);
        return err;
    }
    *dead_letter = opened;
    return 0;
}

void dead_letter_close(struct dead_letter *dead_letter)
{
    if (dead_letter == NULL)
        return;
    for (size_t i = 0; i < FILES_MAX; i++)
        dead_letter_close_file(&dead_letter->files[i]);
    close(dead_letter->dir_fd);
    free(dead_letter->dir);
    free(dead_letter);
}

int dead_letter_write(struct dead_letter *dead_letter, struct record *const *records, size_t n,
                      const struct dead_letter_reason *reason, uint64_t max_bytes)
{
    size_t len = 0;
    char *text = dead_letter_format_lines(records, n, reason, &len);
    struct file *file;
    int err;

    if (text == NULL)
        return -EIO;
    err = dead_letter_follow_folder(dead_letter);
    if (err == 0 && dead_letter->folder_bytes + len > max_bytes) {
        /* Somebody may have made room since we looked. */
        err = dead_letter_measure_folder(dead_letter);
        if (err == 0 && dead_letter->folder_bytes + len > max_bytes)
            err = -ENOSPC;
    }
    if (err == 0) {
        file = dead_letter_get_file(dead_letter, reason, len, max_bytes);
        err = file == NULL ? -errno : dead_letter_append(dead_letter, file, text, len);
    }
    free(text);
    if (err != 0)
        return err == -ENOSPC || err == -EDQUOT ? -ENOSPC : -EIO;
    return 0;
}

uint64_t dead_letter_bytes(const struct dead_letter *dead_letter)
{
    return dead_letter->folder_bytes;
}
