/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_log.h - what libevent has to say goes the way of the log, and not at its own speed.
 */
#ifndef ALLOY_EVENT_LOG_H
#define ALLOY_EVENT_LOG_H

/* Main thread, before anything else calls libevent. */
void event_log_install(void);

#endif
