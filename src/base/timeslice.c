/* SPDX-License-Identifier: Apache-2.0 */
/*
 * timeslice.c - how soon the kernel lets a thread run that somebody waits for.
 *
 * Runs on: any thread, for itself.
 * Owns: nothing.
 */
#include "alloy/timeslice.h"

#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct sched_attr as it was first (SCHED_ATTR_SIZE_VER0). glibc has it only from
 * 2.41 on. */
struct timeslice_attr {
    uint32_t size;
    uint32_t policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; /* ns; of an ordinary thread its slice */
    uint64_t deadline;
    uint64_t period;
};
_Static_assert(sizeof(struct timeslice_attr) == 48, "the kernel checks the size");

int timeslice_set(uint64_t ns)
{
    struct timeslice_attr attr = {.size = sizeof(attr)};

    if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0)
        return -errno;
    /* Somebody has made it a real-time thread, or one that runs when nobody else wants to. */
    if (attr.policy != SCHED_OTHER)
        return 0;
    attr.runtime = ns;
    return syscall(SYS_sched_setattr, 0, &attr, 0) == 0 ? 0 : -errno;
}
