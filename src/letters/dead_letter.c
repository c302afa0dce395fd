/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dead_letter.c - writes the events that ClickHouse refuses to files, as NDJSON with the reason.
 *
 * A group of lines costs one sync for each file. We cut off a line that could not be written
 * completely, and after a failed sync we cut the file back to its last synced end: a line that does
 * not count as written must not stay, since its record will be written again and the event would be
 * there twice.
 *
 * The files belong to the operator too, who may read, move or remove them at any time. So before we
 * write we take a file's lock and check that its name still leads to it, and we hold the lock until
 * the sync. alloyctl renames a file under the same lock, so that we never add a line to a file that
 * it has already read. The folder belongs to the operator too: when its path leads elsewhere, or
 * nowhere, we open the path again before the next group.
 *
 * Runs on: one thread.
 * Owns: the folder's size and the open files.
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
#include "alloy/letters_key.h"
#define LOG_MODULE "dead_letter"
#include "alloy/log.h"
#include "alloy/text.h"

#define FILE_BYTES_MAX (64u << 20)
#define STREAM_MAX 64 /* with its NUL */
#define FILES_MAX 64  /* streams */
#define FOLDER_PART 8 /* a file may hold this part of max_bytes */
#define MS_PER_DAY 86400000u
#define KEY_LOG_MS 60000
#define LINE_WAITS 1    /* a line's err while its group is written: not tried yet */
#define LINE_UNSYNCED 2 /* written, but not synced yet */

/* The open file of a stream. */
struct file {
    int fd; /* -1: none */
    uint64_t bytes;
    uint64_t synced; /* how many of bytes are synced */
    uint64_t day;    /* since 1970, UTC */
    char stream[STREAM_MAX];
    char name[NAME_MAX + 1];
};

struct dead_letter {
    char *dir;             /* owned; the path of dir_fd, unless somebody has moved that */
    int dir_fd;            /* -1: none */
    uint64_t folder_bytes; /* of all regular files when last measured, plus what we wrote since */
    struct file files[FILES_MAX];
    size_t next_file; /* the one to close when all are open */
};

/* The lines of one call. Only one file at a time has lines that are not synced. */
struct group {
    struct dead_letter_line *lines;
    size_t count;
    const struct dead_letter_order *order;
    bool measured; /* the folder seemed full, and we have measured it again */
};

static int dead_letter_measure_file(void *arg, const char *name)
{
    struct dead_letter *dead_letter = arg;
    struct stat st;

    if (fstatat(dead_letter->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
        dead_letter->folder_bytes += (uint64_t)st.st_size;
    return 0;
}

/* Sums the sizes of the folder's files. Returns 0 or -errno. */
static int dead_letter_measure_folder(struct dead_letter *dead_letter)
{
    dead_letter->folder_bytes = 0;
    return files_list(dead_letter->dir_fd, dead_letter_measure_file, dead_letter);
}

/* Opens the folder at the path, and creates it if it is missing, in place of the one that was open.
 * Returns 0, or -errno and nothing has changed. */
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
        close(file->fd); /* releases its lock too */
    file->fd = -1;
}

/* Makes sure that we write to the folder at the path. Returns 0 or -errno. */
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

/* True when a file had this name before alloyctl renamed it: a new one would collide when that is
 * replayed too. */
static bool dead_letter_was_used(const struct dead_letter *dead_letter, const char *name)
{
    static const char *const suffixes[] = {LETTERS_SUFFIX_REPLAYING, LETTERS_SUFFIX_REPLAYED,
                                           LETTERS_SUFFIX_RENEWED};
    const size_t stem = strlen(name) - strlen(LETTERS_SUFFIX);
    char later[NAME_MAX + 32];

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        snprintf(later, sizeof(later), "%.*s%s", (int)stem, name, suffixes[i]);
        if (faccessat(dead_letter->dir_fd, later, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            return true;
    }
    return false;
}

/* Opens and locks <stream>-<UTC time>-<n>.ndjson, with the first free n from 1. Returns 0 or
 * -errno. */
static int dead_letter_open_file(struct dead_letter *dead_letter, struct file *file,
                                 const char *stream, uint64_t real_ms)
{
    time_t seconds = (time_t)(real_ms / 1000);
    char when[32];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
    for (unsigned n = 1; n < 100000; n++) {
        snprintf(file->name, sizeof(file->name), "%s-%s-%u" LETTERS_SUFFIX, stream, when, n);
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
    file->bytes = file->synced = 0;
    file->day = real_ms / MS_PER_DAY;
    snprintf(file->stream, sizeof(file->stream), "%s", stream);
    (void)flock(file->fd, LOCK_EX | LOCK_NB);
    /* The name must be on disk before the records leave the journal. */
    return fsync(dead_letter->dir_fd) == 0 ? 0 : -errno;
}

/* Locks an open file. False: another process has the lock, or the name leads elsewhere; then the
 * file is no longer ours. */
static bool dead_letter_still_ours(const struct dead_letter *dead_letter, const struct file *file)
{
    struct stat named, opened;

    return flock(file->fd, LOCK_EX | LOCK_NB) == 0 && fstat(file->fd, &opened) == 0 &&
           fstatat(dead_letter->dir_fd, file->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

/* The slot of a stream's file: the one that it has, or a free one. */
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

/* Writes JSON. A line break in it can only be white space between tokens (a JSON string has no raw
 * ones), so we write a space instead: the value stays the same, and the line one line. */
static void dead_letter_put_json(FILE *out, const char *at, const char *end)
{
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

/* Whether the event's bytes have its id: else a letter has to tell it. */
static bool dead_letter_tells_id(const struct dead_letter_line *line)
{
    return line->tell_id && line->record->id_offset >= line->record->body_length;
}

/* An id that came in a header can be any bytes, and must come back as the same ones. */
static void dead_letter_put_id(FILE *out, struct slice id)
{
    size_t valid = 0;

    for (size_t n = 1; valid < id.len && n > 0; valid += n)
        n = text_utf8_len(id.data + valid, id.len - valid);
    fputs(valid < id.len ? "\"id_hex\":\"" : "\"id\":\"", out);
    if (valid == id.len)
        dead_letter_put_escaped(out, id);
    else
        for (size_t i = 0; i < id.len; i++)
            fprintf(out, "%02x", (unsigned char)id.data[i]);
    fputs("\",", out);
}

/* Writes what a replay of the event must not take from its own request. */
static void dead_letter_put_origin(FILE *out, const struct dead_letter_line *line)
{
    const struct record *record = line->record;
    const char *columns = record->body + 1;
    size_t len = record->columns_length;

    if (dead_letter_tells_id(line))
        dead_letter_put_id(out, (struct slice){record_id(record), record->id_length});
    if (len == 0)
        return;
    /* The comma behind the last one is missing where the event has no members. */
    len -= columns[len - 1] == ',';
    fputs("\"columns\":{", out);
    dead_letter_put_json(out, columns, columns + len);
    fputs("},", out);
}

/* Returns the owned line of a record, or NULL when memory ran out. */
static char *dead_letter_format_line(const struct dead_letter_line *line,
                                     const struct dead_letter_order *order, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    char when[32];
    bool failed;

    if (out == NULL)
        return NULL;
    clock_format_iso(order->real_ms, when);
    fprintf(out,
            "{\"time\":\"%s\",\"lsn\":\"%016" PRIx64 "%016" PRIx64
            "\",\"stream\":\"%s\",\"code\":%d,\"message\":\"",
            when, order->instance_id, line->record->lsn, line->stream, line->code);
    dead_letter_put_escaped(out, dead_letter_cut(line->message));
    fputs("\",", out);
    dead_letter_put_origin(out, line);
    fputs("\"event\":", out);
    dead_letter_put_event(out, line->record);
    fputs("}\n", out);
    failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* Appends a line, which counts once it is synced; after an error the file is as before. */
static int dead_letter_append(struct dead_letter *dead_letter, struct file *file, const char *text,
                              size_t len)
{
    int err = files_write_all(file->fd, text, len);

    /* A partial line that cannot be cut off stays: then nothing may follow it in this file. */
    if (err != 0)
        return ftruncate(file->fd, (off_t)file->bytes) == 0 ? err : -EIO;
    file->bytes += len;
    dead_letter->folder_bytes += len;
    return 0;
}

/* Syncs a file and releases its lock: all its unsynced lines count as written now, or none does. */
static void dead_letter_sync_file(struct dead_letter *dead_letter, struct group *group,
                                  struct file *file)
{
    int err = 0;

    if (file->bytes > file->synced && fdatasync(file->fd) != 0) {
        err = -EIO;
        dead_letter->folder_bytes -= file->bytes - file->synced;
        (void)!ftruncate(file->fd, (off_t)file->synced);
        /* After a failed sync we cannot know what is on disk: the file gets no more lines. */
        dead_letter_close_file(file);
    } else {
        file->synced = file->bytes;
        (void)flock(file->fd, LOCK_UN);
    }
    for (size_t i = 0; i < group->count; i++)
        if (group->lines[i].err == LINE_UNSYNCED)
            group->lines[i].err = err;
}

/* Whether len more bytes fit under max_bytes. Returns 0, -ENOSPC or another -errno. */
static int dead_letter_find_room(struct dead_letter *dead_letter, struct group *group, size_t len)
{
    int err = 0;

    /* The operator may have made room since we measured. */
    if (dead_letter->folder_bytes + len > group->order->max_bytes && !group->measured) {
        err = dead_letter_measure_folder(dead_letter);
        group->measured = true;
    }
    if (err == 0 && dead_letter->folder_bytes + len > group->order->max_bytes)
        err = -ENOSPC;
    return err;
}

/* True when an open file has room for len more bytes and is of this day. */
static bool dead_letter_takes(const struct file *file, const struct dead_letter_order *order,
                              size_t len)
{
    const uint64_t part = order->max_bytes / FOLDER_PART;
    const uint64_t limit = part < FILE_BYTES_MAX ? part : FILE_BYTES_MAX;

    return file->bytes + len <= limit && file->day == order->real_ms / MS_PER_DAY;
}

/* Without its key such a letter is still a letter: it can be read, and replayed as a client would.
 */
static void dead_letter_keep_key(const struct dead_letter *dead_letter,
                                 const struct dead_letter_order *order)
{
    static struct log_limit limit;
    uint64_t suppressed;
    int err = order->key != NULL ? letters_key_keep(dead_letter->dir_fd, order->key) : 0;

    if (err != 0 && log_limit_pass(&limit, order->real_ms, KEY_LOG_MS, &suppressed))
        log_warn("replay key cannot be written dir=\"%s\" error=\"%s\" suppressed=%" PRIu64,
                 dead_letter->dir, strerror(-err), suppressed);
}

/*
 * Writes the line to its stream's file, which is *current once it is open and locked. Syncs the
 * file before another one takes its place. Returns 0; -ENOSPC: the line does not fit, but a later
 * one may; or another -errno.
 */
static int dead_letter_write_line(struct dead_letter *dead_letter, struct group *group,
                                  struct dead_letter_line *line, struct file **current)
{
    size_t len = 0;
    char *text = dead_letter_format_line(line, group->order, &len);
    int err = text == NULL ? -ENOMEM : dead_letter_find_room(dead_letter, group, len);

    if (err == 0 && (line->record->columns_length > 0 || dead_letter_tells_id(line)))
        dead_letter_keep_key(dead_letter, group->order);
    if (err == 0 && *current != NULL && !dead_letter_takes(*current, group->order, len)) {
        dead_letter_sync_file(dead_letter, group, *current);
        *current = NULL;
    }
    if (err == 0 && *current == NULL) {
        struct file *file = dead_letter_find_file(dead_letter, line->stream);

        if (file->fd >= 0 && (!dead_letter_takes(file, group->order, len) ||
                              !dead_letter_still_ours(dead_letter, file)))
            dead_letter_close_file(file);
        if (file->fd < 0)
            err = dead_letter_open_file(dead_letter, file, line->stream, group->order->real_ms);
        if (err != 0)
            dead_letter_close_file(file);
        else
            *current = file;
    }
    if (err == 0)
        err = dead_letter_append(dead_letter, *current, text, len);
    free(text);
    return err;
}

/* Writes the lines of the stream of line `from`, from that on. */
static void dead_letter_write_stream(struct dead_letter *dead_letter, struct group *group,
                                     size_t from)
{
    const char *stream = group->lines[from].stream;
    struct file *file = NULL;
    int err = 0;

    for (size_t i = from; i < group->count; i++) {
        struct dead_letter_line *line = &group->lines[i];

        if (line->err != LINE_WAITS || strcmp(line->stream, stream) != 0)
            continue;
        /* After -ENOSPC go on: a shorter line may still fit. After other errors no line will. */
        if (err == 0 || err == -ENOSPC)
            err = dead_letter_write_line(dead_letter, group, line, &file);
        line->err = err != 0 ? err : LINE_UNSYNCED;
    }
    if (file == NULL)
        return;
    dead_letter_sync_file(dead_letter, group, file);
    if (err == -EIO)
        dead_letter_close_file(file);
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

struct slice dead_letter_cut(struct slice message)
{
    if (message.len <= DEAD_LETTER_MESSAGE_MAX)
        return message;
    message.len = DEAD_LETTER_MESSAGE_MAX;
    /* Do not cut in the middle of a character. */
    while (message.len > 0 && ((unsigned char)message.data[message.len] & 0xc0) == 0x80)
        message.len--;
    return message;
}

void dead_letter_put_event(FILE *out, const struct record *record)
{
    const char *at = record->body;
    const char *end = record->body + record->body_length;

    if (record->columns_length > 0) {
        fputc('{', out);
        at += 1 + record->columns_length;
    }
    if (end > at && end[-1] == '\n')
        end--;
    dead_letter_put_json(out, at, end);
}

int dead_letter_write_lines(struct dead_letter *dead_letter, struct dead_letter_line *lines,
                            size_t n, const struct dead_letter_order *order)
{
    struct group group = {.lines = lines, .count = n, .order = order};
    int err = dead_letter_follow_folder(dead_letter);
    int result = 0;

    for (size_t i = 0; i < n; i++)
        lines[i].err = err == 0 ? LINE_WAITS : err;
    for (size_t i = 0; i < n; i++)
        if (lines[i].err == LINE_WAITS)
            dead_letter_write_stream(dead_letter, &group, i);
    for (size_t i = 0; i < n; i++) {
        if (lines[i].err != 0)
            lines[i].err = lines[i].err == -ENOSPC || lines[i].err == -EDQUOT ? -ENOSPC : -EIO;
        if (result == 0)
            result = lines[i].err;
    }
    return result;
}

uint64_t dead_letter_bytes(const struct dead_letter *dead_letter)
{
    return dead_letter->folder_bytes;
}
