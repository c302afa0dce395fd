/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_point.h - places where a test lets the process die, to prove what survives.
 *
 * Only a build with ALLOY_KILL_POINTS (preset "kill-points") has them; elsewhere a point is no code
 * at all. ALLOY_KILL_POINT=name:n in the environment kills the process, as kill -9 would, when it
 * passes the point of that name for the n-th time.
 */
#ifndef ALLOY_KILL_POINT_H
#define ALLOY_KILL_POINT_H

#ifdef ALLOY_KILL_POINTS
/* Any thread. */
void kill_point(const char *name);
#define KILL_POINT(name) kill_point(name)
#else
#define KILL_POINT(name) ((void)0)
#endif

#endif
