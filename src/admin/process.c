/* SPDX-License-Identifier: Apache-2.0 */
/*
 * process.c - what this process takes of the machine: CPU, memory, descriptors.
 *
 * The names are those of Prometheus's client libraries (client_golang/prometheus/
 * process_collector.go), so that dashboards for any process show alloyd too.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "alloy/base.h"
#include "alloy/clock.h"

#define TEXT_MAX 4096

struct process_metric {
    const char *name;
    const char *type;
    const char *help;
};

static void process_put(struct evbuffer *out, const struct process_metric *metric, double value,
                        int digits)
{
    evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.*f\n", metric->name, metric->help,
                        metric->name, metric->type, metric->name, digits, value);
}

/* Reads the beginning of a small file; false: it cannot be read. */
static bool process_read(const char *path, char text[TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len;

    if (fd < 0)
        return false;
    len = read(fd, text, TEXT_MAX - 1);
    close(fd);
    text[len < 0 ? 0 : len] = '\0';
    return len > 0;
}

static void process_put_cpu(struct evbuffer *out)
{
    struct timespec used;

    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0)
        process_put(out,
                    &(struct process_metric){"process_cpu_seconds_total", "counter",
                                             "Total user and system CPU time spent in seconds."},
                    (double)used.tv_sec + (double)used.tv_nsec / CLOCK_NS_PER_S, 6);
}

static void process_put_memory(struct evbuffer *out)
{
    const double page = (double)sysconf(_SC_PAGESIZE);
    char text[TEXT_MAX], *end;
    unsigned long long total, resident;

    if (!process_read("/proc/self/statm", text))
        return;
    total = strtoull(text, &end, 10);
    resident = strtoull(end, NULL, 10);
    process_put(out,
                &(struct process_metric){"process_resident_memory_bytes", "gauge",
                                         "Resident memory size in bytes; pages of the journal's "
                                         "files that are mapped count too."},
                (double)resident * page, 0);
    process_put(out,
                &(struct process_metric){"process_virtual_memory_bytes", "gauge",
                                         "Virtual memory size in bytes."},
                (double)total * page, 0);
}

/* From Linux 6.2 on the folder's size is their number; before, somebody has to count. */
static int64_t process_count_descriptors(void)
{
    struct stat status;
    int64_t count = 0;
    DIR *folder;

    if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0)
        return status.st_size;
    folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return -1;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count - 3; /* ".", "..", and the folder's own */
}

static void process_put_descriptors(struct evbuffer *out)
{
    const int64_t count = process_count_descriptors();
    struct rlimit limit;

    if (count >= 0)
        process_put(out,
                    &(struct process_metric){"process_open_fds", "gauge",
                                             "Number of open file descriptors."},
                    (double)count, 0);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        process_put(out,
                    &(struct process_metric){"process_max_fds", "gauge",
                                             "Maximum number of open file descriptors."},
                    (double)limit.rlim_cur, 0);
}

/* Seconds since 1970 when this process began; 0: the system does not tell. */
static double process_started_s(void)
{
    char text[TEXT_MAX];
    const char *at;
    double boot_s;

    /* The machine's start comes behind a line for each interrupt and CPU: too far for a buffer. */
    FILE *file = fopen("/proc/stat", "re");

    if (file == NULL)
        return 0;
    boot_s = 0;
    while (fgets(text, sizeof(text), file) != NULL)
        if (strncmp(text, "btime ", 6) == 0)
            boot_s = strtod(text + 6, NULL);
    fclose(file);
    if (boot_s <= 0 || !process_read("/proc/self/stat", text))
        return 0;
    /* The 22nd field; the second is a name in brackets, which may hold anything. */
    at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at, ' ');
        if (at != NULL)
            at++;
    }
    return at == NULL ? 0 : boot_s + strtod(at, NULL) / (double)sysconf(_SC_CLK_TCK);
}

void process_write(struct evbuffer *out)
{
    const double started_s = process_started_s();

    process_put_cpu(out);
    process_put_memory(out);
    process_put_descriptors(out);
    if (started_s > 0)
        process_put(
            out,
            &(struct process_metric){"process_start_time_seconds", "gauge",
                                     "Start time of the process since unix epoch in seconds."},
            started_s, 2);
}
