/* SPDX-License-Identifier: Apache-2.0 */
/*
 * event_log.h - sends libevent's messages to our log, at a limited rate: out of descriptors,
 * libevent fills a disk in minutes.
 */
#ifndef ALLOY_EVENT_LOG_H
#define ALLOY_EVENT_LOG_H

/* Main thread, before anything else calls libevent. */
void event_log_install(void);

#endif
