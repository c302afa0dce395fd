/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_settle.c - keeps the files of the dead-letter folder true after a replay.
 *
 * When all lines of a file have one fate it is renamed. Otherwise it is taken apart: lines are
 * appended to *.replayed and *.renewed and synced, the rest becomes a new file of the old name, and
 * only then the taken file goes. A kill in between leaves lines in two files: the next replay finds
 * that alloyd knows their ids.
 *
 * Runs on: main thread.
 * Owns: the files that it has taken.
 */
#include "ctl_settle.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/files.h"

#define NAME_ROOM (NAME_MAX + 32)
#define SUFFIX_TMP ".ndjson.tmp"

static const char *const fate_suffixes[] = {[CTL_FATE_WAITS] = SUFFIX_TMP,
                                            [CTL_FATE_REPLAYED] = LETTERS_SUFFIX_REPLAYED,
                                            [CTL_FATE_RENEWED] = LETTERS_SUFFIX_RENEWED};

/* ---- names ---- */

int ctl_settle_set_fate(uint8_t **fates, size_t *room, uint64_t number, enum ctl_fate fate)
{
    if (number > *room) {
        const size_t wanted = *room > 0 ? 2 * *room : 1024;
        uint8_t *grown = realloc(*fates, wanted);

        if (grown == NULL)
            return -ENOMEM;
        *fates = grown;
        *room = wanted;
    }
    (*fates)[number - 1] = (uint8_t)fate;
    return 0;
}

void ctl_settle_plain_name(const struct letters_file *file, char out[NAME_MAX + 1])
{
    size_t len = strlen(file->name);

    if (file->state == LETTERS_REPLAYING)
        len -= strlen(LETTERS_SUFFIX_REPLAYING) - strlen(LETTERS_SUFFIX);
    snprintf(out, NAME_MAX + 1, "%.*s", (int)len, file->name);
}

/* plain with another suffix */
static void ctl_settle_name(const char *plain, const char *suffix, char out[NAME_ROOM])
{
    snprintf(out, NAME_ROOM, "%.*s%s", (int)(strlen(plain) - strlen(LETTERS_SUFFIX)), plain,
             suffix);
}

void ctl_settle_taken_name(const char *plain, char out[NAME_ROOM])
{
    ctl_settle_name(plain, LETTERS_SUFFIX_REPLAYING, out);
}

int ctl_settle_take(int dir_fd, const char *plain)
{
    char taken[NAME_ROOM];
    int fd = openat(dir_fd, plain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int err = fd < 0 || flock(fd, LOCK_EX) != 0 ? -errno : 0;

    ctl_settle_taken_name(plain, taken);
    if (err == 0 && renameat2(dir_fd, plain, dir_fd, taken, RENAME_NOREPLACE) != 0)
        err = -errno;
    if (fd >= 0)
        close(fd);
    return err;
}

/* ---- giving back ---- */

/* A file that lines are appended to. */
struct target {
    FILE *file; /* NULL: no line goes there */
    off_t before;
};

/* Opens the file of a fate to append to it. Returns 0 or -errno. */
static int ctl_settle_open(int dir_fd, const char *plain, enum ctl_fate fate, struct target *target)
{
    char name[NAME_ROOM];
    char last;
    int fd;

    ctl_settle_name(plain, fate_suffixes[fate], name);
    if (fate == CTL_FATE_WAITS && unlinkat(dir_fd, name, 0) != 0 && errno != ENOENT)
        return -errno;
    fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return -errno;
    target->before = lseek(fd, 0, SEEK_END);
    target->file = fdopen(fd, "a");
    if (target->file == NULL) {
        close(fd);
        return -ENOMEM;
    }
    /* Whoever edited it may have left out the last line break. */
    if (target->before > 0 && pread(fd, &last, 1, target->before - 1) == 1 && last != '\n')
        fputc('\n', target->file);
    return 0;
}

/* Whom a new file belongs to, and who may read it, is as with the taken one. */
static void ctl_settle_like(const struct target *target, int like_fd)
{
    struct stat st;

    if (target->before != 0 || fstat(like_fd, &st) != 0)
        return;
    (void)!fchmod(fileno(target->file), st.st_mode & 07777);
    if (geteuid() == 0)
        (void)!fchown(fileno(target->file), st.st_uid, st.st_gid);
}

/* Copies the lines of the taken file where they go. Returns 0 or -errno. */
static int ctl_settle_copy(FILE *in, struct target targets[], const uint8_t *fates, size_t count)
{
    char *line = NULL;
    size_t size = 0, number = 0;
    ssize_t len;
    int err = 0;

    while (err == 0 && (len = getline(&line, &size, in)) >= 0) {
        const enum ctl_fate fate = number < count ? fates[number] : CTL_FATE_WAITS;

        number++;
        if (fwrite(line, 1, (size_t)len, targets[fate].file) != (size_t)len)
            err = errno != 0 ? -errno : -EIO;
    }
    free(line);
    return err == 0 && ferror(in) ? -EIO : err;
}

/* Brings to the disk what was appended, or takes it away again. Returns 0 or -errno. */
static int ctl_settle_close(struct target targets[], int err)
{
    for (size_t i = 0; i < ARRAY_LEN(fate_suffixes); i++)
        if (err == 0 && targets[i].file != NULL &&
            (fflush(targets[i].file) != 0 || fsync(fileno(targets[i].file)) != 0))
            err = -errno;
    for (size_t i = 0; i < ARRAY_LEN(fate_suffixes); i++) {
        if (targets[i].file == NULL)
            continue;
        if (err != 0) {
            (void)fflush(targets[i].file);
            (void)!ftruncate(fileno(targets[i].file), targets[i].before);
        }
        fclose(targets[i].file);
    }
    return err;
}

/* Takes the file apart. Returns 0 or -errno. */
static int ctl_settle_split(int dir_fd, const char *plain, const uint8_t *fates, size_t count)
{
    struct target targets[ARRAY_LEN(fate_suffixes)] = {0};
    char taken[NAME_ROOM], rest[NAME_ROOM];
    struct stat st;
    FILE *in = NULL;
    int err = 0;
    int fd;

    ctl_settle_taken_name(plain, taken);
    ctl_settle_name(plain, SUFFIX_TMP, rest);
    fd = openat(dir_fd, taken, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    in = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (in == NULL) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    errno = 0;
    for (enum ctl_fate fate = CTL_FATE_WAITS; err == 0 && fate <= CTL_FATE_RENEWED; fate++)
        if (fate == CTL_FATE_WAITS || memchr(fates, (int)fate, count) != NULL) {
            err = ctl_settle_open(dir_fd, plain, fate, &targets[fate]);
            if (err == 0)
                ctl_settle_like(&targets[fate], fd);
        }
    if (err == 0)
        err = ctl_settle_copy(in, targets, fates, count);
    fclose(in);
    err = ctl_settle_close(targets, err);
    if (err == 0 && fstatat(dir_fd, rest, &st, AT_SYMLINK_NOFOLLOW) != 0)
        err = -errno;
    if (err == 0 && st.st_size == 0)
        (void)unlinkat(dir_fd, rest, 0);
    else if (err == 0 && renameat2(dir_fd, rest, dir_fd, plain, RENAME_NOREPLACE) != 0)
        err = -errno;
    if (err == 0 && (fsync(dir_fd) != 0 || unlinkat(dir_fd, taken, 0) != 0))
        err = -errno;
    if (err != 0)
        (void)unlinkat(dir_fd, rest, 0);
    return err;
}

/* True, and sets *fate, when all lines have one; the file may end with part of a line. */
static bool ctl_settle_is_one(const uint8_t *fates, size_t count, enum ctl_fate *fate)
{
    *fate = count > 0 ? fates[0] : CTL_FATE_WAITS;
    for (size_t i = 1; i < count; i++)
        if (fates[i] != *fate)
            return false;
    return true;
}

int ctl_settle_give_back(int dir_fd, const char *plain, const uint8_t *fates, size_t count)
{
    char taken[NAME_ROOM], target[NAME_ROOM];
    enum ctl_fate fate;
    int err;

    ctl_settle_taken_name(plain, taken);
    if (ctl_settle_is_one(fates, count, &fate)) {
        ctl_settle_name(plain, fate == CTL_FATE_WAITS ? LETTERS_SUFFIX : fate_suffixes[fate],
                        target);
        if (renameat2(dir_fd, taken, dir_fd, target, RENAME_NOREPLACE) == 0)
            return 0;
        /* An earlier replay has put lines of this file there. */
        if (errno != EEXIST || fate == CTL_FATE_WAITS)
            return -errno;
    }
    err = ctl_settle_split(dir_fd, plain, fates, count);
    if (err != 0)
        (void)renameat2(dir_fd, taken, dir_fd, plain, RENAME_NOREPLACE);
    return err;
}

/* ---- newer letters ---- */

struct looking {
    uint64_t since_ms;
    struct ctl_newer *newer;
    size_t count, found;
};

static bool ctl_settle_is_same(struct slice a, struct slice b)
{
    return a.len == b.len && memcmp(a.data, b.data, a.len) == 0;
}

static int ctl_settle_look(void *arg, const struct letter *letter, struct slice line,
                           uint64_t number)
{
    struct looking *looking = arg;

    (void)line;
    (void)number;
    if (letter == NULL || letter->time_ms < looking->since_ms)
        return 0;
    for (size_t i = 0; i < looking->count; i++) {
        struct ctl_newer *newer = &looking->newer[i];

        if (newer->found || !ctl_settle_is_same(newer->event, letter->event) ||
            (newer->id.len > 0 && !ctl_settle_is_same(newer->id, letter->id)))
            continue;
        newer->found = true;
        newer->code = letter->code;
        snprintf(newer->message, sizeof(newer->message), "%.*s", (int)letter->message.len,
                 letter->message.data);
        looking->found++;
    }
    return 0;
}

size_t ctl_settle_find_newer(const char *dir, const char *plain, uint64_t since_ms,
                             struct ctl_newer *newer, size_t count)
{
    struct looking looking = {.since_ms = since_ms, .newer = newer, .count = count};
    struct letters letters;

    if (count == 0 || letters_open(&letters, dir) != 0)
        return 0;
    for (size_t i = 0; i < letters.count && looking.found < count; i++) {
        const struct letters_file *file = &letters.files[i];

        if (file->state == LETTERS_WAITING && file->modified_ms >= since_ms &&
            strcmp(file->name, plain) != 0)
            (void)!letters_visit(&letters, file->name, ctl_settle_look, &looking);
    }
    letters_close(&letters);
    return looking.found;
}

/* ---- marks ---- */

static int ctl_marks_compare(const void *left, const void *right)
{
    const struct ctl_mark *a = left, *b = right;

    if (a->instance_id != b->instance_id)
        return a->instance_id < b->instance_id ? -1 : 1;
    return (a->lsn > b->lsn) - (a->lsn < b->lsn);
}

/* The place of a mark, or where it belongs. */
static size_t ctl_marks_place(const struct ctl_marks *marks, const struct ctl_mark *mark)
{
    size_t low = 0, high = marks->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (ctl_marks_compare(&marks->list[middle], mark) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool ctl_marks_add(struct ctl_marks *marks, const struct letter *letter)
{
    const struct ctl_mark mark = {letter->instance_id, letter->lsn};
    size_t place;

    if (!letter->has_lsn || ctl_marks_has(marks, letter))
        return true;
    if (marks->count == marks->room) {
        const size_t room = marks->room > 0 ? 2 * marks->room : 64;
        struct ctl_mark *grown = reallocarray(marks->list, room, sizeof(*grown));

        if (grown == NULL)
            return false;
        marks->list = grown;
        marks->room = room;
    }
    place = ctl_marks_place(marks, &mark);
    memmove(&marks->list[place + 1], &marks->list[place],
            (marks->count - place) * sizeof(*marks->list));
    marks->list[place] = mark;
    marks->count++;
    return true;
}

bool ctl_marks_has(const struct ctl_marks *marks, const struct letter *letter)
{
    const struct ctl_mark mark = {letter->instance_id, letter->lsn};
    size_t place;

    if (!letter->has_lsn || marks->count == 0)
        return false;
    place = ctl_marks_place(marks, &mark);
    return place < marks->count && ctl_marks_compare(&marks->list[place], &mark) == 0;
}

void ctl_marks_free(struct ctl_marks *marks)
{
    free(marks->list);
    *marks = (struct ctl_marks){0};
}

/* The lines of one file, and those that are marked. */
struct marking {
    const struct ctl_marks *marks;
    uint8_t *fates; /* owned; NULL: only count */
    size_t lines, room, marked;
};

static int ctl_settle_mark_line(void *arg, const struct letter *letter, struct slice line,
                                uint64_t number)
{
    struct marking *marking = arg;
    const bool marked = letter != NULL && ctl_marks_has(marking->marks, letter);

    (void)line;
    (void)number;
    marking->lines++;
    marking->marked += marked;
    return ctl_settle_set_fate(&marking->fates, &marking->room, marking->lines,
                               marked ? CTL_FATE_REPLAYED : CTL_FATE_WAITS);
}

/* Moves the marked lines of one file. Returns 0 or -errno. */
static int ctl_settle_mark_file(const struct letters *letters, const struct letters_file *file,
                                struct marking *marking)
{
    char plain[NAME_MAX + 1], taken[NAME_ROOM];
    int err;

    ctl_settle_plain_name(file, plain);
    ctl_settle_taken_name(plain, taken);
    err = letters_visit(letters, file->name, ctl_settle_mark_line, marking);
    if (err != 0 || marking->marked == 0)
        return err;
    if (file->state == LETTERS_WAITING)
        err = ctl_settle_take(letters->dir_fd, plain);
    /* alloyd may have added lines before we took it. */
    marking->lines = marking->marked = 0;
    if (err == 0)
        err = letters_visit(letters, taken, ctl_settle_mark_line, marking);
    if (err == 0)
        err = ctl_settle_give_back(letters->dir_fd, plain, marking->fates, marking->lines);
    return err;
}

int ctl_settle_marked(const char *dir, const struct ctl_marks *marks, uint64_t *moved)
{
    struct letters letters;
    int result = 0;
    int err = marks->count > 0 ? letters_open(&letters, dir) : 0;

    if (err != 0) {
        fprintf(stderr, "alloyctl: %s: %s\n", dir, strerror(-err));
        return err;
    }
    for (size_t i = 0; marks->count > 0 && i < letters.count; i++) {
        struct marking marking = {.marks = marks};

        if (letters.files[i].state != LETTERS_WAITING &&
            letters.files[i].state != LETTERS_REPLAYING)
            continue;
        err = ctl_settle_mark_file(&letters, &letters.files[i], &marking);
        if (err == 0) {
            *moved += marking.marked;
        } else if (err != -ENOENT) {
            fprintf(stderr, "alloyctl: %s: %s\n", letters.files[i].name, strerror(-err));
            result = err;
        }
        free(marking.fates);
    }
    if (marks->count > 0)
        letters_close(&letters);
    return result;
}
