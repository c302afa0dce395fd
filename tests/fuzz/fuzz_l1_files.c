/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_l1_files.c - any bytes in the files of known ids, read as at a start; then what that life
 * leaves to the next one.
 *
 * The first byte chooses what we repair, so that the checks behind it are reached. Bit 0: the state
 * file's magic, version, instance and clean end. Bit 1: its numbers of files. Bit 2: the headers of
 * slabs. Bit 3: their time. Then come the state file's bytes, then slabs, each preceded by its
 * length.
 */
#include "alloy/l1.h"

#include "alloy/log.h"
#include "l1_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define INSTANCE 0x1122334455667788ull
#define STATE_BYTES 96
#define REAL_MS 1000000000ull
#define TTL_MS 60000ull
#define CAPACITY 64
#define SLABS_MAX 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What the files hold, as far as we have made them right. */
struct written {
    const uint8_t *slabs[SLABS_MAX]; /* entries */
    size_t counts[SLABS_MAX];
    size_t count;
    bool all_good; /* every byte of every file was made right */
};

static char folder[64];
static int dir_fd;

static void empty_folder(void)
{
    DIR *stream = opendir(folder);

    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
        unlinkat(dir_fd, entry->d_name, 0);
    closedir(stream);
}

static void remove_folder(void)
{
    empty_folder();
    rmdir(folder);
}

static void start(void)
{
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    strcpy(folder, "/dev/shm/alloy-fuzz-XXXXXX");
    ALLOY_ASSERT(mkdtemp(folder) != NULL);
    dir_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    atexit(remove_folder);
}

static void write_file(const char *name, const void *data, size_t len)
{
    const int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    ALLOY_ASSERT(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    close(fd);
}

/* docs/JOURNAL_FORMAT.md has the places. */
static void write_state(const uint8_t *data, unsigned repairs, size_t slabs)
{
    uint8_t state[STATE_BYTES];
    const uint32_t one = 1;
    const uint64_t instance = INSTANCE, files = slabs;

    memcpy(state, data, STATE_BYTES);
    if (repairs & 1) {
        memcpy(state, "ALLOYL1S", 8);
        memcpy(state + 8, &one, 4);
        memcpy(state + 16, &instance, 8);
        memcpy(state + 60, &one, 4);
    }
    if (repairs & 2) {
        memset(state + 64, 0, STATE_BYTES - 64);
        memcpy(state + 64, &files, 8);
    }
    write_file("l1-state", state, STATE_BYTES);
}

/* Writes one slab out of len bytes; returns its entries in data, and their count. */
static size_t write_slab(const uint8_t *data, size_t len, unsigned repairs, size_t i)
{
    const size_t header = sizeof(struct l1_slab);
    const size_t entries = len > header ? (len - header) / sizeof(struct l1_entry) : 0;
    uint8_t *copy = calloc(1, len + 1);
    struct l1_slab slab;
    char name[32];

    ALLOY_ASSERT(copy != NULL);
    memcpy(copy, data, len);
    if ((repairs & 4) && entries > 0) {
        memcpy(&slab, copy, sizeof(slab));
        memcpy(slab.magic, "ALLOYL1G", 8);
        slab.version = 1;
        slab.entry_bytes = sizeof(struct l1_entry);
        slab.instance_id = INSTANCE;
        slab.capacity = entries;
        if (repairs & 8)
            slab.youngest_ms = REAL_MS - slab.youngest_ms % TTL_MS;
        memcpy(copy, &slab, sizeof(slab));
        len = l1_slab_bytes(entries);
    }
    snprintf(name, sizeof(name), "l1-%03zu.gen", i + 1);
    write_file(name, copy, len);
    free(copy);
    return entries;
}

static void write_files(const uint8_t *data, size_t size, struct written *written)
{
    const unsigned repairs = data[0];
    const uint8_t *state = data + 1;
    size_t at = 1 + STATE_BYTES;

    *written = (struct written){.all_good = (repairs & 15) == 15};
    while (at + 2 < size && written->count < SLABS_MAX) {
        size_t len = (size_t)data[at] << 3;

        at++;
        if (len > size - at)
            len = size - at;
        written->counts[written->count] = write_slab(data + at, len, repairs, written->count);
        written->slabs[written->count] = data + at + sizeof(struct l1_slab);
        written->all_good = written->all_good && written->counts[written->count] > 0;
        written->count++;
        at += len;
    }
    write_state(state, repairs, written->count);
}

static struct l1 *begin(struct l1_loaded *loaded)
{
    const struct l1_folder place = {.dir_fd = dir_fd, .instance_id = INSTANCE, .real_ms = REAL_MS};
    struct l1 *l1 = l1_create(CAPACITY, TTL_MS, 0);

    ALLOY_ASSERT(l1 != NULL);
    ALLOY_ASSERT(l1_attach(l1, &place, 0, loaded) == 0);
    ALLOY_ASSERT(l1_entries(l1) + l1_evicted(l1) == loaded->ids);
    ALLOY_ASSERT(l1_entries(l1) <= CAPACITY + CAPACITY / 8);
    return l1;
}

/* Whether every id of good files is known. */
static void check_known(struct l1 *l1, const struct written *written)
{
    struct l1_thread *thread = l1_thread_create(l1);

    ALLOY_ASSERT(thread != NULL);
    for (size_t s = 0; s < written->count; s++) {
        for (size_t i = 0; i < written->counts[s]; i++) {
            struct hash128 hash;
            uint64_t lsn;

            memcpy(&hash.lo, written->slabs[s] + i * sizeof(struct l1_entry), 8);
            memcpy(&hash.hi, written->slabs[s] + i * sizeof(struct l1_entry) + 8, 8);
            if (hash.lo == 0 && hash.hi == 0)
                continue;
            ALLOY_ASSERT(l1_contains(thread, &hash) && l1_owner(thread, &hash, &lsn));
        }
    }
    l1_thread_destroy(thread);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct written written;
    struct l1_loaded loaded, again;
    struct l1 *l1;
    size_t entries;

    if (size < 1 + STATE_BYTES)
        return 0;
    if (folder[0] == '\0')
        start();
    write_files(data, size, &written);
    l1 = begin(&loaded);
    if (loaded.complete)
        ALLOY_ASSERT((data[0] & 1) != 0 || memcmp(data + 1, "ALLOYL1S", 8) == 0);
    if (written.all_good) {
        ALLOY_ASSERT(loaded.complete);
        if (l1_evicted(l1) == 0)
            check_known(l1, &written);
    }
    l1_mark_complete(l1);
    entries = l1_entries(l1);
    l1_destroy(l1);

    l1 = begin(&again);
    ALLOY_ASSERT(again.complete && again.ids == entries && l1_evicted(l1) == 0);
    if (written.all_good && loaded.ids == entries)
        check_known(l1, &written);
    l1_destroy(l1);
    empty_folder();
    return 0;
}
