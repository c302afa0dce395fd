/* SPDX-License-Identifier: Apache-2.0 */
/*
 * letters.c - reads the files of the dead-letter folder and their lines.
 *
 * We do not trust a line: somebody may have edited it. The walk over it does not check the JSON
 * (alloyd checks what is posted to it); it only finds where each member begins and ends.
 *
 * Runs on: any thread.
 * Owns: the list of files and the open folder.
 */
#include "alloy/letters.h"
#include "alloy/files.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LSN_DIGITS 32 /* instance id and LSN */
#define TIME_LEN 24   /* 2026-01-31T12:00:00.123Z */

/* The position of the walk over a line. */
struct cursor {
    const char *at;
    const char *end;
};

static bool letters_ends_with(const char *name, const char *suffix)
{
    size_t len = strlen(name);
    size_t tail = strlen(suffix);

    return len > tail && strcmp(name + len - tail, suffix) == 0;
}

bool letters_name(const char *name, enum letters_state *state)
{
    if (letters_ends_with(name, LETTERS_SUFFIX))
        *state = LETTERS_WAITING;
    else if (letters_ends_with(name, LETTERS_SUFFIX_REPLAYING))
        *state = LETTERS_REPLAYING;
    else if (letters_ends_with(name, LETTERS_SUFFIX_REPLAYED))
        *state = LETTERS_REPLAYED;
    else if (letters_ends_with(name, LETTERS_SUFFIX_RENEWED))
        *state = LETTERS_RENEWED;
    else
        return false;
    return true;
}

static int letters_by_name(const void *left, const void *right)
{
    const struct letters_file *a = left, *b = right;

    return strverscmp(a->name, b->name);
}

/* Adds one entry of the folder, if it is a file of letters. Returns 0 or -ENOMEM. */
static int letters_add_file(void *arg, const char *name)
{
    struct letters *letters = arg;
    struct letters_file file;
    struct letters_file *grown;
    struct stat st;

    if (!letters_name(name, &file.state))
        return 0;
    if (fstatat(letters->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno; /* removed or renamed meanwhile */
    if (!S_ISREG(st.st_mode)) {
        letters->passed_over++;
        return 0;
    }
    grown = reallocarray(letters->files, letters->count + 1, sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    letters->files = grown;
    snprintf(file.name, sizeof(file.name), "%s", name);
    file.bytes = (uint64_t)st.st_size;
    file.modified_ms = (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
    grown[letters->count++] = file;
    return 0;
}

int letters_open(struct letters *letters, const char *dir)
{
    int err;

    *letters = (struct letters){.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (letters->dir_fd < 0)
        return -errno;
    err = files_list(letters->dir_fd, letters_add_file, letters);
    if (err != 0) {
        letters_close(letters);
        return err;
    }
    if (letters->count > 1)
        qsort(letters->files, letters->count, sizeof(*letters->files), letters_by_name);
    return 0;
}

void letters_close(struct letters *letters)
{
    free(letters->files);
    close(letters->dir_fd);
}

static void letters_skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end && strchr(" \t\r\n", *cursor->at) != NULL && *cursor->at != 0)
        cursor->at++;
}

static bool letters_take(struct cursor *cursor, char byte)
{
    letters_skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != byte)
        return false;
    cursor->at++;
    return true;
}

/* Takes a JSON string; *inside is what is between its quotes. */
static bool letters_take_string(struct cursor *cursor, struct slice *inside)
{
    const char *from;

    if (!letters_take(cursor, '"'))
        return false;
    for (from = cursor->at; cursor->at < cursor->end && *cursor->at != '"'; cursor->at++)
        if (*cursor->at == '\\' && ++cursor->at == cursor->end)
            return false;
    if (cursor->at == cursor->end)
        return false;
    *inside = (struct slice){from, (size_t)(cursor->at - from)};
    cursor->at++;
    return true;
}

/* Takes an object or array, by counting brackets. */
static bool letters_take_nested(struct cursor *cursor)
{
    struct slice inside;
    size_t depth = 0;

    while (cursor->at < cursor->end) {
        char byte = *cursor->at;

        if (byte == '"') {
            if (!letters_take_string(cursor, &inside))
                return false;
            continue;
        }
        cursor->at++;
        if (byte == '{' || byte == '[')
            depth++;
        else if ((byte == '}' || byte == ']') && --depth == 0)
            return true;
    }
    return false;
}

/* Takes any value; *text is its text, unchanged. */
static bool letters_take_value(struct cursor *cursor, struct slice *text)
{
    struct slice inside;
    const char *from;

    letters_skip_space(cursor);
    from = cursor->at;
    if (from == cursor->end)
        return false;
    if (*from == '"') {
        if (!letters_take_string(cursor, &inside))
            return false;
    } else if (*from == '{' || *from == '[') {
        if (!letters_take_nested(cursor))
            return false;
    } else {
        while (cursor->at < cursor->end && strchr(",}] \t\r\n", *cursor->at) == NULL)
            cursor->at++;
    }
    *text = (struct slice){from, (size_t)(cursor->at - from)};
    return text->len > 0;
}

static bool letters_is_word(struct slice text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

/* Removes a string's quotes; other values stay as they are. */
static struct slice letters_unquote(struct slice value)
{
    if (value.len >= 2 && value.data[0] == '"')
        return (struct slice){value.data + 1, value.len - 2};
    return value;
}

/* Reads digits in base 16 or 10, and nothing else. */
static bool letters_read_digits(const char *text, size_t len, int base, uint64_t *value)
{
    char copy[20];
    char *end;

    /* strtoull() would also take a sign, white space or 0x. */
    if (len == 0 || len >= sizeof(copy))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isxdigit((unsigned char)text[i]))
            return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    *value = strtoull(copy, &end, base);
    return *end == '\0';
}

/* Returns the time in ms; 0: text is not a time in our form. */
static uint64_t letters_read_time(struct slice text)
{
    char copy[TIME_LEN + 1];
    struct tm tm = {0};
    unsigned ms;
    int used = 0;

    if (text.len != TIME_LEN)
        return 0;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2d.%3uZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms, &used) != 7 ||
        used != TIME_LEN || tm.tm_year < 1970)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (uint64_t)timegm(&tm) * 1000 + ms;
}

/* Takes what stands beside an event. What has not our form is a note of whoever edits the file. */
static void letters_set_origin(struct letter *letter, struct slice key, struct slice value)
{
    /* An id with its name, whose quote is before it. */
    if ((letters_is_word(key, "id") || letters_is_word(key, "id_hex")) && value.data[0] == '"')
        letter->id = (struct slice){key.data - 1, (size_t)(value.data + value.len - key.data + 1)};
    else if (letters_is_word(key, "columns") && value.data[0] == '{')
        letter->columns = value;
}

/* Takes the value of a member, if we know its key. False: the value is not of the right form. */
static bool letters_set_member(struct letter *letter, struct slice key, struct slice value)
{
    struct slice inside = letters_unquote(value);
    uint64_t number;

    if (letters_is_word(key, "time")) {
        letter->time_ms = letters_read_time(inside);
    } else if (letters_is_word(key, "lsn")) {
        letter->has_lsn = inside.len == LSN_DIGITS &&
                          letters_read_digits(inside.data, 16, 16, &letter->instance_id) &&
                          letters_read_digits(inside.data + 16, 16, 16, &letter->lsn);
    } else if (letters_is_word(key, "stream")) {
        letter->stream = inside;
    } else if (letters_is_word(key, "code")) {
        if (!letters_read_digits(value.data, value.len, 10, &number) || number > INT_MAX)
            return false;
        letter->code = (int)number;
    } else if (letters_is_word(key, "message")) {
        letter->message = inside;
    } else if (letters_is_word(key, "event")) {
        if (value.data[0] != '{')
            return false;
        letter->event = value;
    } else {
        letters_set_origin(letter, key, value);
    }
    return true;
}

bool letter_parse(struct slice line, struct letter *letter)
{
    struct cursor cursor = {line.data, line.data + line.len};
    struct slice key, value;

    *letter = (struct letter){0};
    if (!letters_take(&cursor, '{'))
        return false;
    do {
        if (!letters_take_string(&cursor, &key) || !letters_take(&cursor, ':') ||
            !letters_take_value(&cursor, &value) || !letters_set_member(letter, key, value))
            return false;
    } while (letters_take(&cursor, ','));
    if (!letters_take(&cursor, '}'))
        return false;
    letters_skip_space(&cursor);
    return cursor.at == cursor.end && letter->event.len > 0 && letter->stream.len > 0;
}

static int letters_visit_lines(FILE *file, enum letters_tail tail, letters_line_fn visit, void *arg)
{
    struct letter letter;
    char *text = NULL;
    size_t room = 0;
    ssize_t len;
    int err = 0;

    for (uint64_t number = 1; err == 0; number++) {
        struct slice line;
        bool ends, right;

        errno = 0;
        len = getline(&text, &room, file);
        ends = len > 0 && text[len - 1] == '\n';
        if (len <= 0 || (!ends && ferror(file) != 0)) {
            err = ferror(file) != 0 || errno == ENOMEM ? -EIO : 0;
            break;
        }
        line = (struct slice){text, (size_t)len - ends};
        right = letter_parse(line, &letter);
        if (!ends && (tail == LETTERS_TAIL_NEVER || (tail == LETTERS_TAIL_IF_WHOLE && !right)))
            break;
        err = visit(arg, right ? &letter : NULL, line, number);
    }
    free(text);
    return err;
}

int letters_visit(const struct letters *letters, const char *name, letters_line_fn visit, void *arg)
{
    int fd = openat(letters->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
    int err;

    if (file == NULL) {
        err = -errno;
        if (fd >= 0)
            close(fd);
        return err;
    }
    err = letters_visit_lines(file, letters->tail, visit, arg);
    fclose(file);
    return err;
}
