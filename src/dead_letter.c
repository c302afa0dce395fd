/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dead_letter.c - events that ClickHouse refuses, kept as NDJSON with the reason.
 *
 * One file is open at a time; another stream, or a full file, opens the next. Lines are gathered in
 * memory, written by one loop of write(2) and synced; whatever goes wrong on the way, the file is
 * cut back to where it was, so that nothing is half there.
 *
 * A kill between the write and the end of the record brings the record back. As one is written at a
 * time, at most the last line of the newest file can be of such a record: it is looked for there
 * before it is written again.
 *
 * Runs on: one thread.
 * Owns: the folder's size, the open file, the buffer of lines.
 */
#include "alloy/dead_letter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "alloy/clock.h"

#define FILE_BYTES_MAX (64u << 20)
#define MESSAGE_MAX 1024 /* bytes of ClickHouse's message that are kept */
#define STREAM_MAX 64    /* with its NUL */

struct dead_letter {
    int dir_fd;
    uint64_t folder_bytes; /* of all regular files, at open and written since */
    int fd;                /* -1: none */
    uint64_t file_bytes;
    char stream[STREAM_MAX]; /* that the open file belongs to */
    /* The newest file that was there at open; -1: none, or its last line has come again. */
    int doubt_fd;
    off_t doubt_bytes;
    char doubt_name[NAME_MAX + 1];
    uint64_t opened_ms;
};

/* Creates path and its parents. 0 or -errno. */
static int make_dirs(const char *path)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(part))
        return len == 0 ? -EINVAL : -ENAMETOOLONG;
    memcpy(part, path, len + 1);
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0750) != 0 && errno != EEXIST)
            return -errno;
        *slash = '/';
    }
    return mkdir(part, 0750) != 0 && errno != EEXIST ? -errno : 0;
}

static bool is_newer(const struct stat *a, const struct stat *b)
{
    if (a->st_mtim.tv_sec != b->st_mtim.tv_sec)
        return a->st_mtim.tv_sec > b->st_mtim.tv_sec;
    return a->st_mtim.tv_nsec > b->st_mtim.tv_nsec;
}

/* Sums the sizes of the folder's files, and names the newest ("": none) when asked. 0 or -errno. */
static int measure_folder(struct dead_letter *dead_letter, char *newest)
{
    int fd = openat(dead_letter->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    struct stat st, newest_st = {0};

    if (dir == NULL) {
        int err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    dead_letter->folder_bytes = 0;
    while ((entry = readdir(dir)) != NULL) {
        if (fstatat(dead_letter->dir_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(st.st_mode)) {
            dead_letter->folder_bytes += (uint64_t)st.st_size;
            if (newest != NULL && is_newer(&st, &newest_st)) {
                newest_st = st;
                strcpy(newest, entry->d_name);
            }
        }
    }
    closedir(dir);
    return 0;
}

static void close_file(struct dead_letter *dead_letter)
{
    if (dead_letter->fd >= 0)
        close(dead_letter->fd);
    dead_letter->fd = -1;
}

/* Opens <stream>-<UTC time>-<n>.ndjson, with the first n from 1 that is free. 0 or -errno. */
static int open_file(struct dead_letter *dead_letter, const struct dead_letter_reason *reason)
{
    time_t seconds = (time_t)(reason->real_ms / 1000);
    char when[32];
    char name[NAME_MAX + 1];
    struct tm tm;

    close_file(dead_letter);
    gmtime_r(&seconds, &tm);
    strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
    for (unsigned n = 1; n < 100000; n++) {
        snprintf(name, sizeof(name), "%s-%s-%u.ndjson", reason->stream, when, n);
        dead_letter->fd = openat(dead_letter->dir_fd, name,
                                 O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0640);
        if (dead_letter->fd >= 0)
            break;
        if (errno != EEXIST)
            return -errno;
    }
    if (dead_letter->fd < 0)
        return -EEXIST;
    dead_letter->file_bytes = 0;
    snprintf(dead_letter->stream, sizeof(dead_letter->stream), "%s", reason->stream);
    /* The name must be on disk before the records leave the journal. */
    return fsync(dead_letter->dir_fd) == 0 ? 0 : -errno;
}

/* Length of the valid UTF-8 character at text, 0 when it is none (RFC 3629). */
static size_t utf8_length(const unsigned char *text, size_t len)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t want = text[0] < 0x80   ? 1
                  : text[0] < 0xc0 ? 0
                  : text[0] < 0xe0 ? 2
                  : text[0] < 0xf0 ? 3
                  : text[0] < 0xf8 ? 4
                                   : 0;
    uint32_t value;

    if (want <= 1)
        return want;
    if (want > len)
        return 0;
    value = text[0] & (0x7fu >> want);
    for (size_t i = 1; i < want; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    if (value < smallest[want] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    return want;
}

/* Writes text as the inside of a JSON string; bytes that are not UTF-8 become U+FFFD. */
static void put_escaped(FILE *out, struct slice text)
{
    const unsigned char *at = (const unsigned char *)text.data;
    const unsigned char *end = at + text.len;

    while (at < end) {
        size_t len = utf8_length(at, (size_t)(end - at));
        if (len == 0)
            fputs("\xef\xbf\xbd", out);
        else if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20)
            fprintf(out, "\\u%04x", *at);
        else
            fwrite(at, 1, len, out);
        at += len == 0 ? 1 : len;
    }
}

/*
 * Writes an event's bytes, without the newline that ends it. A line break inside is white space
 * between tokens (a JSON string cannot hold a raw one), so a space in its place leaves the event
 * the same and the line one line.
 */
static void put_event(FILE *out, const struct record *record)
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
static char *format_lines(struct record *const *records, size_t n,
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
        fprintf(out, "{\"time\":\"%s\",\"stream\":\"%s\",\"code\":%d,\"message\":\"", when,
                reason->stream, reason->code);
        put_escaped(out, message);
        fputs("\",\"event\":", out);
        put_event(out, records[i]);
        fputs("}\n", out);
    }
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

static void forget_doubt(struct dead_letter *dead_letter)
{
    if (dead_letter->doubt_fd >= 0)
        close(dead_letter->doubt_fd);
    dead_letter->doubt_fd = -1;
}

/* Remembers the file whose last line may come again. Without it that line may be there twice. */
static void open_doubt(struct dead_letter *dead_letter)
{
    struct stat st;

    if (dead_letter->doubt_name[0] == '\0')
        return;
    dead_letter->doubt_fd = openat(dead_letter->dir_fd, dead_letter->doubt_name,
                                   O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (dead_letter->doubt_fd >= 0 && fstat(dead_letter->doubt_fd, &st) == 0)
        dead_letter->doubt_bytes = st.st_size;
}

/* Whether line, of this record, is the one in doubt, and on disk. What stands before the event (the
 * time, the message) may be another this time; what ends it can be nothing else's end. */
static bool is_there(struct dead_letter *dead_letter, const struct record *record,
                     const struct dead_letter_reason *reason, struct slice line)
{
    static const char head[] = ",\"event\":";
    const size_t name_len = strlen(reason->stream);
    /* the newline and the brace stand for the record's newline */
    const size_t len = sizeof(head) - 1 + record->body_length + 1;
    char *last;
    bool same;

    if (dead_letter->doubt_fd < 0 || record->received_ms >= dead_letter->opened_ms ||
        (uint64_t)dead_letter->doubt_bytes < len ||
        strncmp(dead_letter->doubt_name, reason->stream, name_len) != 0 ||
        dead_letter->doubt_name[name_len] != '-')
        return false;
    last = malloc(len);
    same = last != NULL &&
           pread(dead_letter->doubt_fd, last, len, dead_letter->doubt_bytes - (off_t)len) ==
               (ssize_t)len &&
           memcmp(last, line.data + line.len - len, len) == 0;
    free(last);
    if (!same || fdatasync(dead_letter->doubt_fd) != 0)
        return false;
    forget_doubt(dead_letter);
    return true;
}

static int write_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        text += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Appends and syncs; on an error the file is as it was. */
static int append(struct dead_letter *dead_letter, const char *text, size_t len)
{
    int err = write_all(dead_letter->fd, text, len);

    if (err == 0 && fdatasync(dead_letter->fd) != 0)
        err = -EIO;
    if (err != 0) {
        /* After a failed sync or cut the file cannot be trusted: it is left, and not reopened. */
        if (ftruncate(dead_letter->fd, (off_t)dead_letter->file_bytes) != 0 || err == -EIO)
            close_file(dead_letter);
        return err;
    }
    dead_letter->file_bytes += len;
    dead_letter->folder_bytes += len;
    return 0;
}

int dead_letter_open(struct dead_letter **dead_letter, const char *dir)
{
    struct dead_letter *opened = calloc(1, sizeof(*opened));
    int err;

    if (opened == NULL)
        return -ENOMEM;
    opened->fd = opened->doubt_fd = -1;
    opened->opened_ms = clock_real_ms();
    err = make_dirs(dir);
    if (err != 0)
        goto free_opened;
    opened->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (opened->dir_fd < 0) {
        err = -errno;
        goto free_opened;
    }
    if (faccessat(opened->dir_fd, ".", W_OK | X_OK, AT_EACCESS) != 0) {
        err = -errno;
        goto close_dir;
    }
    err = measure_folder(opened, opened->doubt_name);
    if (err != 0)
        goto close_dir;
    open_doubt(opened);
    *dead_letter = opened;
    return 0;

close_dir:
    close(opened->dir_fd);
free_opened:
    free(opened);
    return err;
}

void dead_letter_close(struct dead_letter *dead_letter)
{
    if (dead_letter == NULL)
        return;
    close_file(dead_letter);
    forget_doubt(dead_letter);
    close(dead_letter->dir_fd);
    free(dead_letter);
}

int dead_letter_write(struct dead_letter *dead_letter, struct record *const *records, size_t n,
                      const struct dead_letter_reason *reason, uint64_t max_bytes)
{
    size_t len = 0;
    char *text = format_lines(records, n, reason, &len);
    int err = 0;

    if (text == NULL)
        return -EIO;
    if (n == 1 && is_there(dead_letter, records[0], reason, (struct slice){text, len})) {
        free(text);
        return 0;
    }
    if (dead_letter->folder_bytes + len > max_bytes) {
        /* Somebody may have made room since we looked. */
        err = measure_folder(dead_letter, NULL);
        if (err == 0 && dead_letter->folder_bytes + len > max_bytes)
            err = -ENOSPC;
    }
    if (err == 0 && (dead_letter->fd < 0 || strcmp(dead_letter->stream, reason->stream) != 0 ||
                     dead_letter->file_bytes >= FILE_BYTES_MAX))
        err = open_file(dead_letter, reason);
    if (err == 0)
        err = append(dead_letter, text, len);
    free(text);
    if (err != 0)
        return err == -ENOSPC || err == -EDQUOT ? -ENOSPC : -EIO;
    return 0;
}
