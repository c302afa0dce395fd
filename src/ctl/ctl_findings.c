/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl_findings.c - the list of what alloyctl doctor finds, and whether it should end.
 *
 * Runs on: main thread; a signal sets one flag. Owns: nothing.
 */
#include "ctl_doctor.h"

#include <signal.h>
#include <stdarg.h>
#include <string.h>

static volatile sig_atomic_t ctl_findings_signal;

bool ctl_doctor_stopped(void)
{
    return ctl_findings_signal != 0;
}

static void ctl_findings_on_signal(int number)
{
    ctl_findings_signal = number;
}

void ctl_doctor_note(struct ctl_doctor *doctor, enum ctl_doctor_verdict verdict, const char *key,
                     const char *format, ...)
{
    struct ctl_doctor_finding *finding;
    va_list args;
    size_t len;

    if (doctor->findings == NULL || doctor->count == CTL_DOCTOR_FINDINGS_MAX) {
        doctor->out_of_memory = true;
        return;
    }
    finding = &doctor->findings[doctor->count++];
    finding->verdict = verdict;
    snprintf(finding->key, sizeof(finding->key), "%s", key);
    snprintf(finding->text, sizeof(finding->text), "%s", doctor->who);
    len = strlen(finding->text);
    va_start(args, format);
    vsnprintf(finding->text + len, sizeof(finding->text) - len, format, args);
    va_end(args);
}

void ctl_doctor_todo(struct ctl_doctor *doctor, const char *format, ...)
{
    va_list args;

    if (doctor->count == 0)
        return;
    va_start(args, format);
    vsnprintf(doctor->findings[doctor->count - 1].todo, CTL_DOCTOR_TEXT_MAX, format, args);
    va_end(args);
}

void ctl_doctor_stop_on_signals(void)
{
    /* The second one has its usual effect. */
    const struct sigaction action = {.sa_handler = ctl_findings_on_signal,
                                     .sa_flags = (int)SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}
