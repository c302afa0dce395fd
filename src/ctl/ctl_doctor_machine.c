/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_doctor_machine.c - the doctor's look at the machine: disk, limits, clock.
 *
 * The file that it writes has no name (O_TMPFILE), so that a killed run leaves none.
 *
 * Runs on: main thread. Owns: nothing.
 */
#include "ctl_doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <unistd.h>

#include "alloy/clock.h"
#include "alloy/files.h"

#define SYNCS 10
#define SYNC_BYTES 65536
#define SYNC_MAX_MS 500
#define READAHEAD_MAX_KIB 1024
#define STEP_MAX_MS 100
#define DESCRIPTORS_BESIDE 512 /* for what is no client */
#define CONNECTIONS_DEFAULT 65536
#define CONNECTIONS_PLENTY 8192
#define MAPS_BESIDE 1024

/* Numbers of linux/magic.h and of file systems that have none there. */
static const struct {
    long magic;
    const char *name;
    enum ctl_doctor_verdict verdict;
    const char *todo;
} kinds[] = {
    {0x01021994, "tmpfs", CTL_DOCTOR_FAILS,
     "give it a folder on a disk: a restart of the machine empties this one"},
    {0x858458f6, "ramfs", CTL_DOCTOR_FAILS,
     "give it a folder on a disk: a restart of the machine empties this one"},
    {0x6969, "NFS", CTL_DOCTOR_FAILS,
     "give it a folder on a local disk: NFS honors neither locks nor msync of mapped files as a "
     "disk does"},
    {0xff534d42, "CIFS", CTL_DOCTOR_FAILS, "give it a folder on a local disk"},
    {0xfe534d42, "SMB", CTL_DOCTOR_FAILS, "give it a folder on a local disk"},
    {0x65735546, "FUSE", CTL_DOCTOR_UNKNOWN, "prefer a folder on a local disk"},
    {0x794c7630, "overlay", CTL_DOCTOR_UNKNOWN,
     "mount a volume there: a container's own layer goes with the container"},
    {0xef53, "ext4", CTL_DOCTOR_HOLDS, NULL},
    {0x58465342, "XFS", CTL_DOCTOR_HOLDS, NULL},
    {0x9123683e, "btrfs", CTL_DOCTOR_HOLDS, NULL},
    {0x2fc12fc1, "ZFS", CTL_DOCTOR_HOLDS, NULL},
    {0xf2f52010, "F2FS", CTL_DOCTOR_HOLDS, NULL},
};

static int64_t ctl_doctor_offset_ms; /* of the real clock from the monotonic one, at the start */

/* The folder, or the nearest above it that is there; alloyd makes the rest. */
static void ctl_doctor_folder(const char *dir, char *out, size_t size)
{
    snprintf(out, size, "%s", dir);
    while (access(out, F_OK) != 0 && errno == ENOENT) {
        char *slash = strrchr(out, '/');

        if (slash == NULL || slash == out) {
            snprintf(out, size, "%s", slash == NULL ? "." : "/");
            return;
        }
        *slash = '\0';
    }
}

static void ctl_doctor_disk_kind(struct ctl_doctor *doctor, const char *what, const char *dir)
{
    char name[CTL_DOCTOR_KEY_MAX];
    struct statfs about;

    snprintf(name, sizeof(name), "disk.%s.stays", what);
    if (statfs(dir, &about) != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, name, "%.200s: %s", dir, strerror(errno));
        ctl_doctor_todo(doctor, "make the folder, and let alloyd's user into it");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if ((unsigned long)kinds[i].magic != ((unsigned long)about.f_type & 0xffffffff))
            continue;
        ctl_doctor_note(doctor, kinds[i].verdict, name, "%.200s is on %s", dir, kinds[i].name);
        if (kinds[i].todo != NULL)
            ctl_doctor_todo(doctor, "%s", kinds[i].todo);
        return;
    }
    ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, name,
                    "%.200s is on a file system that is not known here (%lx)", dir,
                    (unsigned long)about.f_type);
}

static int ctl_doctor_compare(const void *a, const void *b)
{
    const uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

    return one < other ? -1 : one > other;
}

static void ctl_doctor_disk_sync(struct ctl_doctor *doctor, const char *dir)
{
    static const char data[SYNC_BYTES];
    const char *const sync = doctor->config->journal_sync == CONFIG_SYNC_ALWAYS
                                 ? "each 202 waits for it"
                                 : "no 202 waits for it; a loss of power costs what was not synced";
    uint64_t took_ns[SYNCS];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    int err = fd < 0 ? -errno : 0;

    for (size_t i = 0; i < SYNCS && err == 0; i++) {
        const uint64_t begin_ns = clock_mono_ns();

        err = files_write_all(fd, data, sizeof(data));
        if (err == 0 && fdatasync(fd) != 0)
            err = -errno;
        took_ns[i] = clock_mono_ns() - begin_ns;
    }
    if (fd >= 0)
        close(fd);
    if (err == -EOPNOTSUPP || err == -EISDIR) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "disk.journal.sync",
                        "its file system takes no files without a name, so no sync was timed");
        return;
    }
    if (err != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "disk.journal.sync",
                        "%.200s cannot be written: %s", dir, strerror(-err));
        ctl_doctor_todo(doctor, "run this as alloyd's user, and let that user write there");
        return;
    }
    qsort(took_ns, SYNCS, sizeof(took_ns[0]), ctl_doctor_compare);
    ctl_doctor_note(doctor,
                    took_ns[SYNCS - 1] > SYNC_MAX_MS * CLOCK_NS_PER_MS ? CTL_DOCTOR_FAILS
                                                                       : CTL_DOCTOR_HOLDS,
                    "disk.journal.sync", "a sync of 64 KiB takes %.1f ms, %.1f ms at worst; %s",
                    (double)took_ns[SYNCS / 2] / 1e6, (double)took_ns[SYNCS - 1] / 1e6, sync);
    if (took_ns[SYNCS - 1] > SYNC_MAX_MS * CLOCK_NS_PER_MS)
        ctl_doctor_todo(doctor, "take a faster disk for the journal, or one of its own");
}

/* A page of a new segment that is touched first brings all that the kernel reads ahead into memory:
 * zeros here, but their CPU is taken from whoever else wants it. */
static void ctl_doctor_disk_readahead(struct ctl_doctor *doctor, const char *dir)
{
    char path[64];
    struct stat about;
    uint64_t kib = 0;
    FILE *file;
    int got;

    if (stat(dir, &about) != 0)
        return;
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(about.st_dev),
             minor(about.st_dev));
    file = fopen(path, "re");
    if (file == NULL)
        return; /* a file system without a device of its own */
    got = fscanf(file, "%" SCNu64, &kib);
    fclose(file);
    if (got != 1)
        return;
    ctl_doctor_note(doctor, kib > READAHEAD_MAX_KIB ? CTL_DOCTOR_UNKNOWN : CTL_DOCTOR_HOLDS,
                    "disk.journal.readahead", "the kernel reads %" PRIu64 " KiB ahead there%s", kib,
                    kib > READAHEAD_MAX_KIB ? ", so a new page can hold answers up for milliseconds"
                                            : "");
    if (kib > READAHEAD_MAX_KIB)
        ctl_doctor_todo(doctor, "set %s to 128, as a new kernel has it", path);
}

static int ctl_doctor_add_size(void *arg, const char *entry)
{
    (void)entry;
    (*(uint64_t *)arg)++;
    return 0;
}

/* Bytes that a folder's files take by now, were each a segment; none is read. */
static uint64_t ctl_doctor_segments(const struct config *config)
{
    uint64_t entries = 0;
    int fd = open(config->journal_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return 0;
    if (files_list(fd, ctl_doctor_add_size, &entries) != 0 || entries < 4)
        entries = 4;
    close(fd);
    return (entries - 4) * config->journal_segment_bytes; /* ".", "..", lock and instance */
}

static void ctl_doctor_disk_room(struct ctl_doctor *doctor, const char *what, const char *dir,
                                 uint64_t wanted)
{
    char name[CTL_DOCTOR_KEY_MAX];
    struct statvfs about;
    uint64_t free_bytes;

    snprintf(name, sizeof(name), "disk.%s.room", what);
    if (statvfs(dir, &about) != 0)
        return;
    free_bytes = (uint64_t)about.f_bavail * about.f_frsize;
    ctl_doctor_note(doctor, free_bytes < wanted ? CTL_DOCTOR_FAILS : CTL_DOCTOR_HOLDS, name,
                    "%" PRIu64 " MiB are free, and it may take %" PRIu64 " MiB more",
                    free_bytes >> 20, wanted >> 20);
    if (free_bytes < wanted)
        ctl_doctor_todo(doctor,
                        "make room, or lower %s.max_bytes: a disk that is full before the "
                        "limit refuses events without warning",
                        strcmp(what, "journal") == 0 ? "journal" : "dead_letter");
}

static void ctl_doctor_disk(struct ctl_doctor *doctor)
{
    const struct config *config = doctor->config;
    char dir[4096];

    if (config->journal_mode == CONFIG_JOURNAL_MEMORY) {
        ctl_doctor_note(doctor, CTL_DOCTOR_FAILS, "disk.journal.stays",
                        "journal.mode is memory: a kill loses every event that is not in "
                        "ClickHouse yet");
        ctl_doctor_todo(doctor, "set journal.mode = file");
    } else {
        const uint64_t have = ctl_doctor_segments(config);
        const uint64_t most = config->journal_max_bytes_bytes;

        ctl_doctor_folder(config->journal_dir, dir, sizeof(dir));
        ctl_doctor_disk_kind(doctor, "journal", dir);
        ctl_doctor_disk_sync(doctor, dir);
        ctl_doctor_disk_readahead(doctor, dir);
        ctl_doctor_disk_room(doctor, "journal", dir, most > have ? most - have : 0);
    }
    ctl_doctor_folder(config->dead_letter_dir, dir, sizeof(dir));
    ctl_doctor_disk_kind(doctor, "dead_letter", dir);
    ctl_doctor_disk_room(doctor, "dead_letter", dir, config->dead_letter_max_bytes_bytes);
}

static void ctl_doctor_limits(struct ctl_doctor *doctor)
{
    const struct config *config = doctor->config;
    const uint64_t needed = config->server_max_connections + DESCRIPTORS_BESIDE;
    const uint64_t maps_needed =
        config->journal_max_bytes_bytes / config->journal_segment_bytes + MAPS_BESIDE;
    struct rlimit files;
    uint64_t maps = 0;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "re");

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        /* The default means "plenty". */
        const bool enough =
            files.rlim_max >= needed || (config->server_max_connections == CONNECTIONS_DEFAULT &&
                                         files.rlim_max >= CONNECTIONS_PLENTY + DESCRIPTORS_BESIDE);

        ctl_doctor_note(doctor, enough ? CTL_DOCTOR_HOLDS : CTL_DOCTOR_FAILS, "limits.files",
                        "this shell may open %" PRIu64 " files, %s server.max_connections = "
                        "%" PRIu64,
                        (uint64_t)files.rlim_max,
                        files.rlim_max >= needed ? "enough for"
                        : enough                 ? "plenty, though not enough for"
                                                 : "not enough for",
                        config->server_max_connections);
        if (!enough)
            ctl_doctor_todo(doctor, "raise LimitNOFILE or ulimit -Hn (alloyd.service has 131072), "
                                    "or lower server.max_connections");
    }
    if (file != NULL && fscanf(file, "%" SCNu64, &maps) == 1) {
        ctl_doctor_note(doctor, maps >= maps_needed ? CTL_DOCTOR_HOLDS : CTL_DOCTOR_FAILS,
                        "limits.maps",
                        "vm.max_map_count is %" PRIu64 ", and a full journal takes %" PRIu64, maps,
                        maps_needed);
        if (maps < maps_needed)
            ctl_doctor_todo(doctor,
                            "sysctl vm.max_map_count=%" PRIu64 ", or larger journal.segment",
                            2 * maps_needed);
    }
    if (file != NULL)
        fclose(file);
}

static int64_t ctl_doctor_offset(void)
{
    return (int64_t)clock_real_ms() - (int64_t)clock_mono_ms();
}

void ctl_doctor_clock_begin(void)
{
    ctl_doctor_offset_ms = ctl_doctor_offset();
}

void ctl_doctor_clock_end(struct ctl_doctor *doctor)
{
    const int64_t step_ms = ctl_doctor_offset() - ctl_doctor_offset_ms;
    struct timex about = {.modes = 0};
    const int state = adjtimex(&about);

    ctl_doctor_note(doctor, llabs(step_ms) > STEP_MAX_MS ? CTL_DOCTOR_FAILS : CTL_DOCTOR_HOLDS,
                    "clock.steps", "the clock was set by %lld ms while this ran",
                    (long long)step_ms);
    if (llabs(step_ms) > STEP_MAX_MS)
        ctl_doctor_todo(doctor, "let NTP slew the clock in place of setting it");
    if (state < 0 || (about.status & STA_UNSYNC) != 0) {
        ctl_doctor_note(doctor, CTL_DOCTOR_UNKNOWN, "clock.ntp",
                        "the kernel does not know of NTP: nothing may be setting this clock");
        ctl_doctor_todo(doctor, "run chrony or systemd-timesyncd here, or on a container's host");
    } else {
        ctl_doctor_note(doctor, CTL_DOCTOR_HOLDS, "clock.ntp", "the clock is set by NTP");
    }
}

void ctl_doctor_machine(struct ctl_doctor *doctor)
{
    ctl_doctor_disk(doctor);
    ctl_doctor_limits(doctor);
}
