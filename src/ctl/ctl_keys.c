/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_keys.c - alloyctl key: adds a line to the file of auth.keys_file, lists its keys, removes
 * one.
 *
 * Two alloyctl at a time take turns by a lock on the file; alloyd, which reads it at HUP, takes
 * none. So a line is added by one write, and a line is removed by a new file under the old name.
 *
 * Runs on: main thread.
 * Owns: the file while it is locked.
 */
#include "ctl_commands.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "alloy/files.h"
#include "alloy/ini.h"
#include "alloy/keys.h"
#include "ctl_json.h"

/* A keys file, locked. */
struct ctl_keys {
    char path[PATH_MAX]; /* no symbolic link */
    int fd;
    bool made; /* by this process */
    struct keys *keys;
};

static int ctl_keys_fail(const char *path, const char *what)
{
    fprintf(stderr, "alloyctl: %s: %s\n", path, what);
    return EXIT_FAILURE;
}

static void ctl_keys_on_entry(void *arg, int line, const char *section, const char *key,
                              const char *value)
{
    char **path = arg;

    (void)line;
    if (strcmp(section, "auth") != 0 || strcmp(key, "keys_file") != 0)
        return;
    free(*path);
    *path = strdup(value);
}

static void ctl_keys_on_error(void *arg, int line, const char *message)
{
    (void)arg;
    (void)line;
    (void)message; /* alloyd --check tells it */
}

char *ctl_keys_file(const char *config)
{
    char *path = NULL;
    const struct ini_handler handler = {
        .arg = &path, .entry = ctl_keys_on_entry, .error = ctl_keys_on_error};
    int err = ini_read(config, &handler);

    /* What it takes alloyd to find out is not found out here. */
    if (err == 0 && path != NULL && path[0] != '\0' && strstr(path, "${") == NULL)
        return path;
    free(path);
    if (err != 0)
        fprintf(stderr, "alloyctl: %s: %s\n", config, strerror(-err));
    else
        fprintf(stderr, "alloyctl: %s does not say what auth.keys_file is\n", config);
    fputs("alloyctl: key: name the file with --file, or the configuration with --config\n", stderr);
    return NULL;
}

/* Brings the name of a new file, or what it names now, to the disk. 0 or -errno. */
static int ctl_keys_sync_folder(const char *path)
{
    char copy[PATH_MAX];
    int err = 0;
    int fd;

    snprintf(copy, sizeof(copy), "%s", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fsync(fd) != 0)
        err = -errno;
    close(fd);
    return err;
}

/* root makes the file for whom its folder belongs to: alloyd has to read it. */
static void ctl_keys_give_away(const struct ctl_keys *file)
{
    char copy[PATH_MAX];
    struct stat folder;

    snprintf(copy, sizeof(copy), "%s", file->path);
    if (geteuid() == 0 && stat(dirname(copy), &folder) == 0)
        (void)!fchown(file->fd, folder.st_uid, folder.st_gid);
}

/* 0 or -errno. */
static int ctl_keys_open(struct ctl_keys *file, const char *path, bool make)
{
    if (realpath(path, file->path) == NULL &&
        snprintf(file->path, sizeof(file->path), "%s", path) >= (int)sizeof(file->path))
        return -ENAMETOOLONG;
    file->fd = open(file->path, O_RDWR | O_CLOEXEC);
    if (file->fd < 0 && errno == ENOENT && make) {
        file->fd = open(file->path, O_RDWR | O_CLOEXEC | O_CREAT | O_EXCL, 0600);
        if (file->fd < 0 && errno == EEXIST)
            return -EAGAIN;
        file->made = file->fd >= 0;
    }
    return file->fd < 0 ? -errno : 0;
}

/* Opens and locks the file. 0 or -errno. */
static int ctl_keys_lock(struct ctl_keys *file, const char *path, bool make)
{
    struct stat own, named;
    int err;

    *file = (struct ctl_keys){.fd = -1};
    for (;;) {
        err = ctl_keys_open(file, path, make);
        if (err == -EAGAIN)
            continue;
        if (err != 0)
            return err;
        while (flock(file->fd, LOCK_EX) != 0)
            if (errno != EINTR)
                return -errno;
        /* Another alloyctl may have put a new file there while we waited. */
        if (fstat(file->fd, &own) == 0 && stat(file->path, &named) == 0 &&
            own.st_ino == named.st_ino && own.st_dev == named.st_dev)
            break;
        close(file->fd);
        *file = (struct ctl_keys){.fd = -1};
    }
    if (file->made)
        ctl_keys_give_away(file);
    return 0;
}

static void ctl_keys_close(struct ctl_keys *file)
{
    keys_destroy(file->keys);
    if (file->fd >= 0)
        close(file->fd);
}

/* Locks and reads the file. Returns the exit status; what is wrong is told. */
static int ctl_keys_begin(struct ctl_keys *file, const char *path, bool make)
{
    int err = ctl_keys_lock(file, path, make);
    FILE *in;

    if (err != 0)
        return ctl_keys_fail(path, strerror(-err));
    in = fopen(file->path, "re");
    if (in == NULL)
        return ctl_keys_fail(path, strerror(errno));
    err = keys_read(&file->keys, in, path, stderr);
    fclose(in);
    if (err == -EINVAL)
        return ctl_keys_fail(path, "is not a keys file as it should be; nothing was changed");
    return err == 0 ? EXIT_SUCCESS : ctl_keys_fail(path, strerror(-err));
}

/* Appends one line. 0 or -errno, and then the file is as it was. */
static int ctl_keys_append(const struct ctl_keys *file, const char *line)
{
    const off_t end = lseek(file->fd, 0, SEEK_END);
    char last = '\n';
    int err = 0;

    if (end < 0 || (end > 0 && pread(file->fd, &last, 1, end - 1) != 1))
        return errno != 0 ? -errno : -EIO;
    /* One write, so that who reads meanwhile sees all of the line or nothing. */
    err = last == '\n' ? files_write_all(file->fd, line + 1, strlen(line) - 1)
                       : files_write_all(file->fd, line, strlen(line));
    if (err == 0 && fsync(file->fd) != 0)
        err = -errno;
    if (err == 0 && file->made)
        err = ctl_keys_sync_folder(file->path);
    if (err != 0)
        (void)!ftruncate(file->fd, end);
    return err;
}

/* Prints the key, and nothing else, unless a program reads it. */
static int ctl_keys_tell_added(const struct ctl_key *key, const char *token, struct ctl_out out)
{
    if (out.json)
        return ctl_print_json(json_pack("{s:s, s:s, s:o}", "name", key->name, "key", token, "file",
                                        ctl_json_text(key->file)),
                              out.file);
    fprintf(out.file, "%s\n", token);
    fprintf(stderr,
            "alloyctl: key %s is in %s. Keep it: only its hash is there, and nobody can show it\n"
            "alloyctl: again. alloyd takes it after a reload (HUP).\n",
            key->name, key->file);
    return EXIT_SUCCESS;
}

int ctl_key_add(const struct ctl_key *key, struct ctl_out out)
{
    char token[KEYS_TOKEN_TEXT], hash[KEYS_HASH_TEXT], rate[24] = "";
    const struct slice name = {key->name, strlen(key->name)};
    struct ctl_keys file;
    int status = ctl_keys_begin(&file, key->file, true);
    char *line = NULL;
    int err = -ENOMEM;

    if (status == EXIT_SUCCESS && keys_by_name(file.keys, name) != NULL) {
        fprintf(stderr, "alloyctl: %s has a key %s already\n", key->file, key->name);
        status = EXIT_FAILURE;
    }
    if (status != EXIT_SUCCESS) {
        ctl_keys_close(&file);
        return status;
    }
    keys_generate(token);
    keys_format_hash((struct slice){token, strlen(token)}, hash);
    if (key->rate > 0)
        snprintf(rate, sizeof(rate), " %" PRIu64, key->rate);
    if (asprintf(&line, "\n%s %s %s%s\n", key->name, hash, key->streams, rate) < 0)
        line = NULL;
    if (line != NULL)
        err = ctl_keys_append(&file, line);
    free(line);
    ctl_keys_close(&file);
    if (err != 0)
        return ctl_keys_fail(key->file, strerror(-err));
    return ctl_keys_tell_added(key, token, out);
}

static void ctl_keys_print(const struct key *key, FILE *out)
{
    fprintf(out, "%s  streams: %s", key->name, key->stream_list);
    if (key->rate > 0)
        fprintf(out, "  events a second: %" PRIu64, key->rate);
    fputc('\n', out);
}

int ctl_key_list(const char *path, struct ctl_out out)
{
    struct ctl_keys file;
    int status = ctl_keys_begin(&file, path, false);
    json_t *list = json_array();

    for (size_t i = 0; status == EXIT_SUCCESS && i < keys_count(file.keys); i++) {
        const struct key *key = keys_at(file.keys, i);

        if (!out.json)
            ctl_keys_print(key, out.file);
        else
            json_array_append_new(list,
                                  json_pack("{s:s, s:s, s:o}", "name", key->name, "streams",
                                            key->stream_list, "rate", ctl_json_number(key->rate)));
    }
    ctl_keys_close(&file);
    if (status == EXIT_SUCCESS && out.json)
        return ctl_print_json(json_pack("{s:O}", "keys", list), out.file);
    json_decref(list);
    return status;
}

/* Copies all lines of in but one. 0 or -errno. */
static int ctl_keys_copy_without(FILE *in, FILE *out, unsigned without)
{
    char *line = NULL;
    size_t size = 0;
    unsigned number = 0;
    ssize_t len;
    int err = 0;

    while (err == 0 && (len = getline(&line, &size, in)) >= 0)
        if (++number != without && fwrite(line, 1, (size_t)len, out) != (size_t)len)
            err = -errno;
    free(line);
    if (err == 0 && (ferror(in) || fflush(out) != 0))
        err = -EIO;
    return err;
}

/* Puts a file without one line in the place of the locked one. 0 or -errno. */
static int ctl_keys_replace(const struct ctl_keys *file, unsigned without)
{
    char path[PATH_MAX + 8];
    FILE *in = fopen(file->path, "re");
    FILE *out = NULL;
    struct stat old;
    int err = 0;
    int fd = -1;

    snprintf(path, sizeof(path), "%s.XXXXXX", file->path);
    if (in == NULL || fstat(file->fd, &old) != 0)
        err = -errno;
    if (err == 0) {
        fd = mkostemp(path, O_CLOEXEC);
        out = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (out == NULL)
            err = -errno;
    }
    if (err == 0 && (fchmod(fd, old.st_mode & 07777) != 0 ||
                     (geteuid() == 0 && fchown(fd, old.st_uid, old.st_gid) != 0)))
        err = -errno;
    if (err == 0)
        err = ctl_keys_copy_without(in, out, without);
    if (err == 0 && (fsync(fd) != 0 || rename(path, file->path) != 0))
        err = -errno;
    if (err != 0 && fd >= 0)
        unlink(path);
    if (out != NULL)
        fclose(out);
    else if (fd >= 0)
        close(fd);
    if (in != NULL)
        fclose(in);
    return err != 0 ? err : ctl_keys_sync_folder(file->path);
}

int ctl_key_remove(const struct ctl_key *key, struct ctl_out out)
{
    const struct slice name = {key->name, strlen(key->name)};
    const struct key *found = NULL;
    struct ctl_keys file;
    int status = ctl_keys_begin(&file, key->file, false);
    int err = 0;

    if (status == EXIT_SUCCESS) {
        found = keys_by_name(file.keys, name);
        if (found == NULL) {
            fprintf(stderr, "alloyctl: %s has no key %s\n", key->file, key->name);
            status = EXIT_FAILURE;
        } else {
            err = ctl_keys_replace(&file, found->line);
        }
    }
    ctl_keys_close(&file);
    if (err != 0)
        return ctl_keys_fail(key->file, strerror(-err));
    if (status == EXIT_SUCCESS && out.json)
        return ctl_print_json(
            json_pack("{s:s, s:o}", "removed", key->name, "file", ctl_json_text(key->file)),
            out.file);
    if (status == EXIT_SUCCESS)
        fprintf(out.file, "key %s is removed; alloyd refuses it after a reload (HUP)\n", key->name);
    return status;
}

/* ---- command line ---- */

static bool ctl_keys_good_streams(const char *value)
{
    return keys_streams_problem((struct slice){value, strlen(value)}) == NULL;
}

static bool ctl_keys_good_rate(const char *value)
{
    char *end;
    unsigned long rate = strtoul(value, &end, 10);

    return *value >= '0' && *value <= '9' && *end == '\0' && rate <= BUCKET_RATE_MAX;
}

/* Takes the key that the command line names. Returns its owned file, or NULL and in *status the
 * exit status (reported). */
static char *ctl_keys_take(const struct ctl_given *given, struct ctl_key *key, int *status)
{
    const char *name = ctl_word(given, 0);
    const char *file = ctl_value(given, "file");
    const char *problem = NULL;
    char *path;

    *key = (struct ctl_key){.name = name, .streams = "*"};
    if (name != NULL)
        problem = keys_name_problem((struct slice){name, strlen(name)});
    if (problem != NULL) {
        fprintf(stderr, "alloyctl: %s: '%s': %s\n", given->command->name, name, problem);
        *status = ctl_refuse(given->command);
        return NULL;
    }
    path = file != NULL ? strdup(file) : ctl_keys_file(ctl_value_or(given, "config", CTL_CONFIG));
    *status = EXIT_FAILURE;
    key->file = path;
    return path;
}

static int ctl_keys_run_add(const struct ctl_given *given)
{
    struct ctl_key key;
    int status;
    char *file = ctl_keys_take(given, &key, &status);

    key.streams = ctl_value_or(given, "streams", "*");
    key.rate = strtoul(ctl_value_or(given, "rate", "0"), NULL, 10);
    if (file != NULL)
        status = ctl_key_add(&key, given->out);
    free(file);
    return status;
}

static int ctl_keys_run_list(const struct ctl_given *given)
{
    struct ctl_key key;
    int status;
    char *file = ctl_keys_take(given, &key, &status);

    if (file != NULL)
        status = ctl_key_list(file, given->out);
    free(file);
    return status;
}

static int ctl_keys_run_remove(const struct ctl_given *given)
{
    struct ctl_key key;
    int status;
    char *file = ctl_keys_take(given, &key, &status);

    if (file != NULL)
        status = ctl_key_remove(&key, given->out);
    free(file);
    return status;
}

#define OPTION_FILE                                                                             \
    {                                                                                           \
        .name = "file", .value = "FILE", .help = "the keys file", .takes = "the name of a file" \
    }
#define OPTION_KEYS_CONFIG \
    CTL_OPTION_CONFIG("the configuration that names it (default " CTL_CONFIG ")")

static const struct ctl_option ctl_keys_add_options[] = {
    {.name = "streams",
     .value = "NAMES",
     .help = "the streams that the key is for (default *, all of them)",
     .takes = "* or names of streams, with commas and no white space between them",
     .good = ctl_keys_good_streams},
    {.name = "rate",
     .value = "N",
     .help = "events a second (default 0, any number)",
     .takes = "a number of events a second, from 0 to 1000000000",
     .good = ctl_keys_good_rate},
    OPTION_FILE,
    OPTION_KEYS_CONFIG,
    {.name = NULL}};
static const struct ctl_option ctl_keys_options[] = {
    OPTION_FILE, OPTION_KEYS_CONFIG, {.name = NULL}};

const struct ctl_command ctl_key_group = {
    .name = "key",
    .summary = "keys with which clients may send",
    .help = "The keys with which clients may send, in the file of auth.keys_file. It holds hashes "
            "and no keys. alloyd reads it when it starts and at HUP.",
};

const struct ctl_command ctl_key_add_command = {
    .name = "key add",
    .summary = "make a key for a client, and print it this once",
    .words = "NAME",
    .which = "which key?",
    .words_min = 1,
    .words_max = 1,
    .help = "Makes a key, prints it this once, and adds a line with its hash to the keys file, "
            "which is made if need be. alloyd takes it after a reload (HUP).",
    .options = ctl_keys_add_options,
    .run = ctl_keys_run_add,
};

const struct ctl_command ctl_key_list_command = {
    .name = "key list",
    .summary = "names, streams and rates of the keys",
    .help = "Prints the name of each key, the streams that it is for, and its rate.",
    .options = ctl_keys_options,
    .run = ctl_keys_run_list,
};

const struct ctl_command ctl_key_remove_command = {
    .name = "key remove",
    .summary = "take a key away",
    .words = "NAME",
    .which = "which key?",
    .words_min = 1,
    .words_max = 1,
    .help = "Removes the line of the key NAME from the keys file. alloyd refuses the key after a "
            "reload (HUP).",
    .options = ctl_keys_options,
    .run = ctl_keys_run_remove,
};
