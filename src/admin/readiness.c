/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readiness.c - all reasons that /readyz lists.
 *
 * Runs on: any thread. Owns: nothing.
 */
#include "readiness.h"

#include <inttypes.h>
#include <sys/statvfs.h>

#include "alloy/journal_dir.h"

struct readiness_visit {
    health_visit_fn visit;
    void *arg;
};

static void readiness_add_reason(const struct readiness_visit *to, const char *key,
                                 const char *text)
{
    to->visit(to->arg, key, true, text);
}

/* "8GiB", in the largest unit that gives a whole number. */
static void readiness_format_size(uint64_t bytes, char *out, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    size_t unit = 0;

    for (; unit + 1 < ARRAY_LEN(units) && bytes > 0 && bytes % 1024 == 0; unit++)
        bytes /= 1024;
    snprintf(out, size, "%" PRIu64 "%s", bytes, units[unit]);
}

/* Adds why the journal gets no further segment: its limit, or the disk. */
static void readiness_add_full(const struct readiness_visit *to, const struct front_parts *parts)
{
    const uint64_t segment_bytes = journal_segments(parts->journal)->size;
    const uint64_t bytes_max = journal_bytes_max(parts->journal);
    const char *dir = journal_folder(parts->journal)->path;
    char text[HEALTH_TEXT_MAX], size[32];
    struct statvfs disk;

    readiness_format_size(bytes_max, size, sizeof(size));
    if (journal_bytes(parts->journal) + segment_bytes > bytes_max)
        snprintf(text, sizeof(text), "The journal is full: journal.max_bytes (%s) is used up.",
                 size);
    else if (!dir)
        snprintf(text, sizeof(text), "The journal is full: there is no memory for a segment.");
    else if (statvfs(dir, &disk) == 0 && disk.f_bavail * disk.f_frsize < segment_bytes)
        snprintf(text, sizeof(text), "The journal is full: no room on the disk of %s.", dir);
    else
        snprintf(text, sizeof(text),
                 "The journal is full: no segment can be made in %s; the log says why.", dir);
    readiness_add_reason(to, "journal.full", text);
}

void readiness_visit(const struct front_parts *parts, health_visit_fn visit, void *arg)
{
    const struct readiness_visit to = {visit, arg};

    health_visit(parts->health, visit, arg);
    if (ring_closed(parts->ring))
        readiness_add_reason(&to, "ring.closed", "The ring takes no more events.");
    else if (ring_depth(parts->ring) >= ring_capacity(parts->ring))
        readiness_add_reason(&to, "ring.full", "The ring is full.");
    if (journal_failed(parts->journal))
        readiness_add_reason(&to, "journal.failed", "The journal cannot be written.");
    else if (journal_removed(parts->journal))
        readiness_add_reason(&to, "journal.removed",
                             "The journal's folder, or files in it, were removed or replaced while "
                             "in use.");
    else if (journal_full(parts->journal))
        readiness_add_full(&to, parts);
}
