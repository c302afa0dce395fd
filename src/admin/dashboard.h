/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dashboard.h - the page at / of the admin port: one self-contained document that polls /stats.
 */
#ifndef ALLOY_DASHBOARD_H
#define ALLOY_DASHBOARD_H

extern const char dashboard_html[];

#endif
