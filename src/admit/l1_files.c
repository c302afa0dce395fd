/* SPDX-License-Identifier: Apache-2.0 */
/*
 * l1_files.c - the files that back L1's generations, and the state file that says whether to trust
 * them.
 *
 * Stores into a shared mapping outlive the process, so we write nothing but the ids themselves.
 * They do not outlive a power loss: after that we trust no file, since what is left of it may be
 * younger than what is left of the journal, and an id without its event would turn the client's
 * retry into a duplicate. A file may also be missing. So one more mapped page, the state file, says
 * whether the files hold every id: how many files there are, how many slabs had no file, and under
 * which boot, or how cleanly, the last life ended.
 *
 * Runs on: open, read and close on main; create and remove under l1.c's lock, or on the janitor.
 * Owns: the page. A slab belongs to whoever maps it.
 */
#include "l1_files.h"

#define LOG_MODULE "l1"
#include "alloy/files.h"
#include "alloy/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SLAB_MAGIC "ALLOYL1G"
#define STATE_MAGIC "ALLOYL1S"
#define STATE_VERSION 1
#define STATE_NAME "l1-state"
#define NAME_MAX_BYTES 32
#define BOOT_ID_BYTES 36
#define BOOT_ID_PATH "/proc/sys/kernel/random/boot_id"

/* The state file. Each field changes in place, by one store. */
struct state {
    char magic[8];
    uint32_t version;
    uint32_t reserved;
    uint64_t instance_id;
    char boot_id[BOOT_ID_BYTES]; /* of the kernel under which it was last in use */
    uint32_t clean;              /* 1: that use ended in order, and everything was synced */
    _Atomic uint64_t files;
    _Atomic uint64_t unsaved;    /* slabs that exist only in memory */
    _Atomic uint64_t recovering; /* 1: ids that the files lacked are not all back yet */
    uint64_t reserved_too;       /* 0 */
};
_Static_assert(sizeof(struct state) == 96 && offsetof(struct state, files) == 64,
               "the state is part of the file format");

/* A file that an earlier life left. */
struct found {
    uint32_t number;
    uint64_t youngest_ms; /* as its header says, before anything in it is believed */
};

struct l1_files {
    int dir_fd;
    uint64_t instance_id;
    struct state *state;
    struct found *found; /* oldest first */
    size_t count;
    bool complete;
    /* whoever creates files: under l1.c's lock, or the janitor */
    _Atomic uint32_t number_next;
    _Atomic bool creation_failing;
};

static void l1_files_file_name(char name[NAME_MAX_BYTES], uint32_t number)
{
    snprintf(name, NAME_MAX_BYTES, "l1-%03u.gen", number);
}

static int l1_files_allocate(int fd, size_t size)
{
    int err;

    do {
        err = posix_fallocate(fd, 0, (off_t)size);
    } while (err == EINTR);
    return -err;
}

/* Numbers do not tell: a generation that was given up early is used again, file and all. */
static int l1_files_by_age(const void *left, const void *right)
{
    const struct found *a = left, *b = right;

    if (a->youngest_ms != b->youngest_ms)
        return a->youngest_ms < b->youngest_ms ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* 0: it has none, or cannot be read. */
static uint64_t l1_files_youngest_ms(const struct l1_files *files, const char *name)
{
    const int fd = openat(files->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    uint64_t youngest_ms;

    if (fd < 0)
        return 0;
    if (pread(fd, &youngest_ms, sizeof(youngest_ms), offsetof(struct l1_slab, youngest_ms)) !=
        (ssize_t)sizeof(youngest_ms))
        youngest_ms = 0;
    close(fd);
    return youngest_ms;
}

static int l1_files_list_name(void *arg, const char *found)
{
    struct l1_files *files = arg;
    char name[NAME_MAX_BYTES];
    struct found *grown;
    uint32_t number;

    if (sscanf(found, "l1-%10u", &number) != 1)
        return 0;
    l1_files_file_name(name, number);
    if (strcmp(name, found) != 0)
        return 0;
    grown = reallocarray(files->found, files->count + 1, sizeof(*grown));
    if (grown == NULL)
        return -ENOMEM;
    files->found = grown;
    grown[files->count++] =
        (struct found){.number = number, .youngest_ms = l1_files_youngest_ms(files, name)};
    if (number >= files->number_next)
        files->number_next = number + 1;
    return 0;
}

static int l1_files_list(struct l1_files *files)
{
    const int err = files_list(files->dir_fd, l1_files_list_name, files);

    if (err != 0)
        return err;
    if (files->count > 1)
        qsort(files->found, files->count, sizeof(*files->found), l1_files_by_age);
    return 0;
}

/* All zero when the kernel does not tell: the next life then trusts only a clean end. */
static void l1_files_read_boot_id(char id[BOOT_ID_BYTES])
{
    const int fd = open(BOOT_ID_PATH, O_RDONLY | O_CLOEXEC);

    memset(id, 0, BOOT_ID_BYTES);
    if (fd < 0)
        return;
    if (read(fd, id, BOOT_ID_BYTES) != BOOT_ID_BYTES)
        memset(id, 0, BOOT_ID_BYTES);
    close(fd);
}

/* Whether everything written to the files, and before that to the journal, is still there. */
static bool l1_files_is_believed(const struct l1_files *files, const char boot_id[BOOT_ID_BYTES])
{
    const struct state *state = files->state;
    const bool same_boot =
        boot_id[0] != '\0' && memcmp(state->boot_id, boot_id, BOOT_ID_BYTES) == 0;

    return memcmp(state->magic, STATE_MAGIC, sizeof(state->magic)) == 0 &&
           state->version == STATE_VERSION && state->instance_id == files->instance_id &&
           (state->clean == 1 || same_boot);
}

static bool l1_files_is_complete(const struct l1_files *files)
{
    const struct state *state = files->state;

    return state->unsaved == 0 && state->recovering == 0 && state->files == files->count;
}

/* After a power loss there may be an id here whose event did not reach the disk, and the client's
 * retry would be taken for a duplicate. The journal knows which events are there. */
static void l1_files_discard_all(struct l1_files *files)
{
    if (files->count > 0)
        log_warn("ids that an earlier life knew are forgotten reason=\"power loss, or no state "
                 "file\" files=%zu",
                 files->count);
    for (size_t i = 0; i < files->count; i++) {
        char name[NAME_MAX_BYTES];

        l1_files_file_name(name, files->found[i].number);
        unlinkat(files->dir_fd, name, 0);
    }
    files->count = 0;
}

/* From here on the state is this life's. We must sync that the last end no longer counts as clean;
 * otherwise a power loss would leave files that the next life trusts. */
static int l1_files_begin_state(struct l1_files *files)
{
    struct state *state = files->state;
    char boot_id[BOOT_ID_BYTES];

    l1_files_read_boot_id(boot_id);
    files->complete = l1_files_is_believed(files, boot_id) && l1_files_is_complete(files);
    /* Before the state says that they are of this boot. */
    if (!l1_files_is_believed(files, boot_id))
        l1_files_discard_all(files);
    /* Set first and cleared last: after a kill in between, the next life must not trust the
     * rest. */
    atomic_store_explicit(&state->recovering, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    state->version = STATE_VERSION;
    state->reserved = 0;
    state->instance_id = files->instance_id;
    state->clean = 0;
    memcpy(state->boot_id, boot_id, BOOT_ID_BYTES);
    memcpy(state->magic, STATE_MAGIC, sizeof(state->magic));
    atomic_store_explicit(&state->files, files->count, memory_order_relaxed);
    atomic_store_explicit(&state->unsaved, 0, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&state->recovering, !files->complete, memory_order_relaxed);
    return msync(state, sizeof(*state), MS_SYNC) == 0 ? 0 : -errno;
}

static int l1_files_map_state(struct l1_files *files)
{
    const int fd =
        openat(files->dir_fd, STATE_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    void *page;
    int err;

    if (fd < 0)
        return -errno;
    err = l1_files_allocate(fd, sizeof(struct state));
    if (err != 0) {
        close(fd);
        return err;
    }
    page = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    err = -errno;
    close(fd);
    if (page == MAP_FAILED)
        return err;
    files->state = page;
    return 0;
}

int l1_files_open(struct l1_files **out, int dir_fd, uint64_t instance_id)
{
    struct l1_files *files = calloc(1, sizeof(*files));
    int err;

    if (files == NULL)
        return -ENOMEM;
    *files = (struct l1_files){.dir_fd = dir_fd, .instance_id = instance_id, .number_next = 1};
    err = l1_files_list(files);
    if (err == 0)
        err = l1_files_map_state(files);
    if (err != 0)
        goto free_files;
    err = l1_files_begin_state(files);
    if (err != 0)
        goto unmap_state;
    *out = files;
    return 0;

unmap_state:
    munmap(files->state, sizeof(*files->state));
free_files:
    /* This life's ids will be in no file: the next life must not trust an old state. */
    unlinkat(dir_fd, STATE_NAME, 0);
    free(files->found);
    free(files);
    return err;
}

void l1_files_close(struct l1_files *files, bool clean)
{
    if (clean) {
        files->state->clean = 1;
        /* If this does not reach the disk, a later life only reads more after a power loss. */
        (void)msync(files->state, sizeof(*files->state), MS_SYNC);
    }
    munmap(files->state, sizeof(*files->state));
    free(files->found);
    free(files);
}

bool l1_files_complete(const struct l1_files *files)
{
    return files->complete;
}

void l1_files_mark_complete(struct l1_files *files)
{
    atomic_store_explicit(&files->state->recovering, 0, memory_order_relaxed);
}

size_t l1_files_count(const struct l1_files *files)
{
    return files->count;
}

/* Whether we can trust a mapped file of this size. */
static bool l1_files_is_valid(const struct l1_files *files, const struct l1_slab *slab, size_t size)
{
    return memcmp(slab->magic, SLAB_MAGIC, sizeof(slab->magic)) == 0 &&
           (slab->version == L1_SLAB_VERSION || slab->version == 1) &&
           slab->stamp_shift < 64 - L1_STAMP_BITS && slab->entry_bytes == sizeof(struct l1_entry) &&
           slab->instance_id == files->instance_id &&
           slab->capacity == (size - sizeof(*slab)) / sizeof(struct l1_entry) &&
           l1_slab_bytes(slab->capacity) == size;
}

const struct l1_slab *l1_files_read(struct l1_files *files, size_t i)
{
    char name[NAME_MAX_BYTES];
    struct l1_slab *slab = MAP_FAILED;
    struct stat st;
    int fd;

    l1_files_file_name(name, files->found[i].number);
    fd = openat(files->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        st.st_size > (off_t)sizeof(struct l1_slab))
        slab = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (fd >= 0)
        close(fd);
    if (slab != MAP_FAILED) {
        if (l1_files_is_valid(files, slab, (size_t)st.st_size))
            return slab;
        munmap(slab, (size_t)st.st_size);
    }
    /* We add its ids from the journal, as far as that has them. The state must say so before we
     * remove the file: otherwise a kill in between would leave a folder that looks complete. */
    files->complete = false;
    atomic_store_explicit(&files->state->recovering, 1, memory_order_relaxed);
    log_warn("file of known ids cannot be read or trusted file=%s action=remove", name);
    return NULL;
}

void l1_files_discard(struct l1_files *files, size_t i)
{
    l1_files_remove(files, files->found[i].number);
}

static struct l1_slab *l1_files_make(struct l1_files *files, const char *name, size_t capacity,
                                     int *err)
{
    const size_t size = l1_slab_bytes(capacity);
    const int fd =
        openat(files->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct l1_slab *slab = MAP_FAILED;

    if (fd < 0) {
        *err = -errno;
        return NULL;
    }
    *err = l1_files_allocate(fd, size);
    if (*err == 0) {
        slab = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        *err = slab == MAP_FAILED ? -errno : 0;
    }
    close(fd);
    if (slab == MAP_FAILED) {
        unlinkat(files->dir_fd, name, 0);
        return NULL;
    }
    slab->version = L1_SLAB_VERSION;
    slab->entry_bytes = sizeof(struct l1_entry);
    slab->instance_id = files->instance_id;
    slab->capacity = capacity;
    memcpy(slab->magic, SLAB_MAGIC, sizeof(slab->magic));
    return slab;
}

struct l1_slab *l1_files_create(struct l1_files *files, size_t capacity, uint32_t *number)
{
    char name[NAME_MAX_BYTES];
    struct l1_slab *slab;
    int err;

    /* relaxed, all of these: no number orders anything else */
    *number = atomic_fetch_add_explicit(&files->number_next, 1, memory_order_relaxed);
    l1_files_file_name(name, *number);
    slab = l1_files_make(files, name, capacity, &err);
    if (slab != NULL)
        atomic_fetch_add_explicit(&files->state->files, 1, memory_order_relaxed);
    if (atomic_exchange_explicit(&files->creation_failing, slab == NULL, memory_order_relaxed) ==
        (slab == NULL))
        return slab;
    if (slab == NULL)
        log_warn("file of known ids cannot be created error=\"%s\" action=\"keep these ids only in "
                 "memory\"",
                 strerror(-err));
    else
        log_info("files of known ids can be created again");
    return slab;
}

void l1_files_remove(struct l1_files *files, uint32_t number)
{
    char name[NAME_MAX_BYTES];

    l1_files_file_name(name, number);
    if (unlinkat(files->dir_fd, name, 0) == 0)
        atomic_fetch_sub_explicit(&files->state->files, 1, memory_order_relaxed);
    else
        log_warn("file of known ids cannot be removed file=%s error=\"%s\"", name, strerror(errno));
}

void l1_files_count_unsaved(struct l1_files *files, int change)
{
    atomic_fetch_add_explicit(&files->state->unsaved, (uint64_t)(int64_t)change,
                              memory_order_relaxed);
}

void l1_slab_unmap(const struct l1_slab *slab)
{
    munmap((void *)slab, l1_slab_bytes(slab->capacity));
}
