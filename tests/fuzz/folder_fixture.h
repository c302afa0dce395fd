/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folder_fixture.h - a folder in a table, for targets whose runs would be system calls on files and
 * little else. Real files are what the unit tests have.
 *
 * The C library's calls are defined here, and what a module calls on FOLDER_PATH or on a descriptor
 * of ours never reaches the kernel. A mapped file is its bytes on the heap, so that the sanitizer
 * sees an access that leaves it: to the byte where the mapping may lie anywhere, to the page in one
 * at a fixed place. Everything is on disk at once. A log line goes nowhere, since a run can have
 * hundreds; an assertion is told.
 *
 * Runs on: libFuzzer's one thread. Owns: the files.
 */
#ifndef FOLDER_FIXTURE_H
#define FOLDER_FIXTURE_H

#include "alloy/base.h"
#include "alloy/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <sanitizer/asan_interface.h>

#define FOLDER_PATH "/folder"
#define FOLDER_BOOT_ID "01234567-89ab-cdef-0123-456789abcdef"
#define FOLDER_FD (1 << 20) /* of the folder itself, however often it is opened */
#define FOLDER_FD_BOOT_ID (FOLDER_FD + 1)
#define FOLDER_FD_FILES (FOLDER_FD + 2)
#define FOLDER_FILES_MAX 512
#define FOLDER_OPEN_MAX 32
#define FOLDER_AREAS_MAX 512
#define FOLDER_NAME_BYTES 40
#define FOLDER_ALIGN ((size_t)64 << 10) /* of mappings that have to be aligned, and their most */
#define FOLDER_ROOMS 16

struct folder_file {
    bool used;
    char name[FOLDER_NAME_BYTES]; /* empty: removed */
    uint8_t *data;                /* of capacity bytes; zero from size on */
    size_t size, capacity;
    size_t holders; /* descriptors and mappings */
};

struct folder_open {
    struct folder_file *file; /* NULL: free */
    size_t position;
};

/* What is mapped: a file, or memory of its own. */
struct folder_area {
    void *data;
    struct folder_file *file;
};

static struct folder_file folder_files[FOLDER_FILES_MAX];
static size_t folder_file_count; /* no file at or behind it is used */
static struct folder_open folder_opens[FOLDER_OPEN_MAX];
static struct folder_area folder_areas[FOLDER_AREAS_MAX];
static size_t folder_area_count;

/* Where aligned mappings lie: of the heap each would be a mapping of the kernel's again. Behind
 * what is in use a room is poisoned. */
static _Alignas(64 << 10) uint8_t folder_rooms[FOLDER_ROOMS][2 * FOLDER_ALIGN];
static bool folder_room_used[FOLDER_ROOMS];

/* What is not a module's would only lead the fuzzer astray. */
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)

static struct folder_file *folder_find(const char *name)
{
    for (size_t i = 0; i < folder_file_count; i++)
        if (folder_files[i].used && strcmp(folder_files[i].name, name) == 0)
            return &folder_files[i];
    errno = ENOENT;
    return NULL;
}

/* All zero. */
static void *folder_take_room(size_t len)
{
    size_t i = 0;

    while (i < FOLDER_ROOMS && folder_room_used[i])
        i++;
    ALLOY_ASSERT(i < FOLDER_ROOMS && len <= FOLDER_ALIGN);
    folder_room_used[i] = true;
    __asan_unpoison_memory_region(folder_rooms[i], len);
    __asan_poison_memory_region(folder_rooms[i] + len, sizeof(folder_rooms[i]) - len);
    memset(folder_rooms[i], 0, len);
    return folder_rooms[i];
}

/* Of the heap, or a room. */
static void folder_free(void *data)
{
    const size_t i = ((uintptr_t)data - (uintptr_t)folder_rooms) / sizeof(folder_rooms[0]);

    if ((uintptr_t)data < (uintptr_t)folder_rooms || i >= FOLDER_ROOMS) {
        free(data);
        return;
    }
    folder_room_used[i] = false;
    __asan_poison_memory_region(folder_rooms[i], sizeof(folder_rooms[i]));
}

/* Forgets a file that has no name and no holder any more. */
static void folder_release(struct folder_file *file)
{
    if (file->name[0] != '\0' || file->holders > 0)
        return;
    folder_free(file->data);
    *file = (struct folder_file){0};
    while (folder_file_count > 0 && !folder_files[folder_file_count - 1].used)
        folder_file_count--;
}

static struct folder_file *folder_make(const char *name)
{
    size_t i = 0;

    while (i < folder_file_count && folder_files[i].used)
        i++;
    ALLOY_ASSERT(i < FOLDER_FILES_MAX && strlen(name) < FOLDER_NAME_BYTES);
    if (i == folder_file_count)
        folder_file_count++;
    folder_files[i].used = true;
    strcpy(folder_files[i].name, name);
    return &folder_files[i];
}

static void folder_resize(struct folder_file *file, size_t size)
{
    if (size > file->capacity) {
        uint8_t *grown = calloc(1, size);

        ALLOY_ASSERT(grown != NULL && (file->data == NULL || file->holders < 2));
        if (file->size > 0)
            memcpy(grown, file->data, file->size);
        folder_free(file->data);
        file->data = grown;
        file->capacity = size;
    }
    if (size < file->size)
        memset(file->data + size, 0, file->size - size);
    file->size = size;
}

static inline void folder_remove(struct folder_file *file)
{
    file->name[0] = '\0';
    folder_release(file);
}

static inline void folder_empty(void)
{
    ALLOY_ASSERT(folder_area_count == 0);
    for (size_t i = folder_file_count; i-- > 0;)
        if (folder_files[i].used)
            folder_remove(&folder_files[i]);
    ALLOY_ASSERT(folder_file_count == 0);
}

/* Makes a file of len bytes, of which the first used come from data; the rest is zero. */
static void folder_write(const char *name, const void *data, size_t used, size_t len)
{
    struct folder_file *file = folder_find(name);

    if (file == NULL)
        file = folder_make(name);
    ALLOY_ASSERT(file->holders == 0 && used <= len);
    folder_resize(file, 0);
    folder_resize(file, len);
    if (used > 0)
        memcpy(file->data, data, used);
}

static struct folder_open *folder_open_of(int fd)
{
    if (fd < FOLDER_FD_FILES)
        return NULL;
    ALLOY_ASSERT(folder_opens[fd - FOLDER_FD_FILES].file != NULL);
    return &folder_opens[fd - FOLDER_FD_FILES];
}

static size_t folder_pread(const struct folder_file *file, void *data, size_t len, size_t at)
{
    if (at > file->size)
        at = file->size;
    if (len > file->size - at)
        len = file->size - at;
    if (len > 0)
        memcpy(data, file->data + at, len);
    return len;
}

static void folder_pwrite(struct folder_file *file, const void *data, size_t len, size_t at)
{
    if (file->size < at + len)
        folder_resize(file, at + len);
    if (len > 0)
        memcpy(file->data + at, data, len);
}

/* ---- in place of the C library's ---- */

int open(const char *path, int flags, ...)
{
    if (strcmp(path, FOLDER_PATH) == 0)
        return FOLDER_FD;
    if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        return FOLDER_FD_BOOT_ID;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, 0600);
}

int openat(int dir_fd, const char *name, int flags, ...)
{
    struct folder_file *file;
    size_t i = 0;

    if (dir_fd != FOLDER_FD)
        return (int)syscall(SYS_openat, dir_fd, name, flags, 0600);
    file = folder_find(name);
    if (file == NULL && !(flags & O_CREAT))
        return -1;
    ALLOY_ASSERT(file == NULL || !(flags & O_EXCL));
    if (file == NULL)
        file = folder_make(name);
    if (flags & O_TRUNC)
        folder_resize(file, 0);
    while (i < FOLDER_OPEN_MAX && folder_opens[i].file != NULL)
        i++;
    ALLOY_ASSERT(i < FOLDER_OPEN_MAX);
    folder_opens[i] = (struct folder_open){file, 0};
    file->holders++;
    return FOLDER_FD_FILES + (int)i;
}

int close(int fd)
{
    struct folder_open *opened = folder_open_of(fd);

    if (fd < FOLDER_FD)
        return (int)syscall(SYS_close, fd);
    if (opened == NULL)
        return 0;
    opened->file->holders--;
    folder_release(opened->file);
    opened->file = NULL;
    return 0;
}

ssize_t read(int fd, void *data, size_t len)
{
    struct folder_open *opened = folder_open_of(fd);

    if (fd < FOLDER_FD)
        return syscall(SYS_read, fd, data, len);
    if (opened == NULL) {
        ALLOY_ASSERT(fd == FOLDER_FD_BOOT_ID && len == sizeof(FOLDER_BOOT_ID) - 1);
        memcpy(data, FOLDER_BOOT_ID, len);
        return (ssize_t)len;
    }
    len = folder_pread(opened->file, data, len, opened->position);
    opened->position += len;
    return (ssize_t)len;
}

ssize_t write(int fd, const void *data, size_t len)
{
    static const char assertion[] = "alloyd:";

    if (fd == STDERR_FILENO && (len < sizeof(assertion) || memcmp(data, assertion, 7) != 0))
        return (ssize_t)len;
    return syscall(SYS_write, fd, data, len);
}

ssize_t pread(int fd, void *data, size_t len, off_t offset)
{
    return (ssize_t)folder_pread(folder_open_of(fd)->file, data, len, (size_t)offset);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    folder_pwrite(folder_open_of(fd)->file, data, len, (size_t)offset);
    return (ssize_t)len;
}

int ftruncate(int fd, off_t len)
{
    folder_resize(folder_open_of(fd)->file, (size_t)len);
    return 0;
}

int posix_fallocate(int fd, off_t offset, off_t len)
{
    struct folder_file *file = folder_open_of(fd)->file;

    if (file->size < (size_t)(offset + len))
        folder_resize(file, (size_t)(offset + len));
    return 0;
}

static void folder_stat(const struct folder_file *file, struct stat *st)
{
    *st = (struct stat){.st_ino = (ino_t)(file - folder_files) + 2,
                        .st_mode = S_IFREG | 0600,
                        .st_size = (off_t)file->size};
}

int fstat(int fd, struct stat *st)
{
    if (fd < FOLDER_FD)
        return (int)syscall(SYS_fstat, fd, st);
    if (fd == FOLDER_FD)
        *st = (struct stat){.st_ino = 1, .st_mode = S_IFDIR | 0700};
    else
        folder_stat(folder_open_of(fd)->file, st);
    return 0;
}

int fstatat(int dir_fd, const char *name, struct stat *st, int flags)
{
    const struct folder_file *file;

    (void)flags;
    if (strcmp(name, FOLDER_PATH) == 0)
        return fstat(FOLDER_FD, st);
    ALLOY_ASSERT(dir_fd == FOLDER_FD);
    file = folder_find(name);
    if (file == NULL)
        return -1;
    folder_stat(file, st);
    return 0;
}

int faccessat(int dir_fd, const char *name, int mode, int flags)
{
    (void)mode;
    (void)flags;
    ALLOY_ASSERT(dir_fd == FOLDER_FD);
    return folder_find(name) != NULL ? 0 : -1;
}

int unlinkat(int dir_fd, const char *name, int flags)
{
    struct folder_file *file = folder_find(name);

    ALLOY_ASSERT(dir_fd == FOLDER_FD && flags == 0);
    if (file == NULL)
        return -1;
    folder_remove(file);
    return 0;
}

int renameat(int old_fd, const char *old, int new_fd, const char *new)
{
    struct folder_file *file = folder_find(old), *target = folder_find(new);

    ALLOY_ASSERT(old_fd == FOLDER_FD && new_fd == FOLDER_FD && strlen(new) < FOLDER_NAME_BYTES);
    if (file == NULL)
        return -1;
    if (target != NULL)
        folder_remove(target);
    strcpy(file->name, new);
    return 0;
}

int renameat2(int old_fd, const char *old, int new_fd, const char *new, unsigned flags)
{
    struct folder_file *file = folder_find(old), *target = folder_find(new);

    ALLOY_ASSERT(old_fd == FOLDER_FD && new_fd == FOLDER_FD && flags == RENAME_EXCHANGE);
    if (file == NULL || target == NULL)
        return -1;
    strcpy(file->name, new);
    strcpy(target->name, old);
    return 0;
}

static void *folder_map(void *data, struct folder_file *file)
{
    ALLOY_ASSERT(data != NULL && folder_area_count < FOLDER_AREAS_MAX);
    folder_areas[folder_area_count++] = (struct folder_area){data, file};
    if (file != NULL)
        file->holders++;
    return data;
}

static struct folder_area *folder_area_of(const void *address)
{
    for (size_t i = folder_area_count; i-- > 0;)
        if (folder_areas[i].data == address)
            return &folder_areas[i];
    return NULL;
}

/* A file that is to lie in memory that was reserved moves there. */
static void *folder_map_fixed(void *address, size_t len, struct folder_file *file)
{
    struct folder_area *area = folder_area_of(address);

    /* A descriptor, and no other mapping. */
    ALLOY_ASSERT(area != NULL && area->file == NULL && file->holders == 1 && len >= file->size);
    memcpy(address, file->data, file->size);
    folder_free(file->data);
    file->data = address;
    file->capacity = len;
    file->holders++;
    area->file = file;
    return address;
}

void *mmap(void *address, size_t len, int prot, int flags, int fd, off_t offset)
{
    const struct folder_open *opened = folder_open_of(fd);

    if (flags & MAP_FIXED)
        return folder_map_fixed(address, len, opened->file);
    if (opened != NULL) {
        ALLOY_ASSERT(offset == 0 && len <= opened->file->size);
        return folder_map(opened->file->data, opened->file);
    }
    if (!(flags & MAP_NORESERVE))
        return (void *)syscall(SYS_mmap, address, len, prot, flags, fd, offset);
    if (prot != PROT_NONE)
        return folder_map(calloc(1, len), NULL);
    /* Room for something to be aligned in, which is where it begins then. */
    return folder_map(folder_take_room(len - FOLDER_ALIGN), NULL);
}

int munmap(void *address, size_t len)
{
    struct folder_area *area = folder_area_of(address);
    struct folder_file *file;

    (void)len;
    /* The rest of what was reserved. */
    if (area == NULL)
        return 0;
    file = area->file;
    *area = folder_areas[--folder_area_count];
    if (file == NULL) {
        folder_free(address);
    } else {
        file->holders--;
        folder_release(file);
    }
    return 0;
}

int madvise(void *address, size_t len, int advice)
{
    (void)address;
    (void)len;
    (void)advice;
    return 0;
}

int msync(void *address, size_t len, int flags)
{
    (void)address;
    (void)len;
    (void)flags;
    return 0;
}

int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

int syncfs(int fd)
{
    (void)fd;
    return 0;
}

int flock(int fd, int operation)
{
    (void)fd;
    (void)operation;
    return 0;
}

/* ---- in place of files.c's ---- */

int files_make_path(const char *path, mode_t mode, mode_t above)
{
    (void)path;
    (void)mode;
    (void)above;
    return -EROFS;
}

int files_write_all(int fd, const void *data, size_t len)
{
    struct folder_open *opened = folder_open_of(fd);

    folder_pwrite(opened->file, data, len, opened->position);
    opened->position += len;
    return 0;
}

int files_list(int dir_fd, int (*visit)(void *arg, const char *name), void *arg)
{
    int err = 0;

    ALLOY_ASSERT(dir_fd == FOLDER_FD);
    for (size_t i = 0; err == 0 && i < folder_file_count; i++)
        if (folder_files[i].used && folder_files[i].name[0] != '\0')
            err = visit(arg, folder_files[i].name);
    return err;
}

#pragma clang attribute pop

/* What is compiled for large files, as libraries want it, calls some of them by another name. On
 * machines of 64 bits both are the same, and so each is defined by both. */
#if defined(_FILE_OFFSET_BITS) && _FILE_OFFSET_BITS == 64
#define OTHER_NAME(name) __asm__(#name) __attribute__((alias(#name "64")))
#else
#define OTHER_NAME(name) __asm__(#name "64") __attribute__((alias(#name)))
#endif
int folder_open(const char *path, int flags, ...) OTHER_NAME(open);
int folder_openat(int dir_fd, const char *name, int flags, ...) OTHER_NAME(openat);
int folder_fstat(int fd, struct stat *st) OTHER_NAME(fstat);
int folder_fstatat(int dir_fd, const char *name, struct stat *st, int flags) OTHER_NAME(fstatat);
int folder_ftruncate(int fd, off_t len) OTHER_NAME(ftruncate);
int folder_fallocate(int fd, off_t offset, off_t len) OTHER_NAME(posix_fallocate);
ssize_t folder_other_pread(int fd, void *data, size_t len, off_t offset) OTHER_NAME(pread);
ssize_t folder_other_pwrite(int fd, const void *data, size_t len, off_t offset) OTHER_NAME(pwrite);
void *folder_mmap(void *at, size_t len, int prot, int flags, int fd, off_t from) OTHER_NAME(mmap);

#endif
