/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device costs beyond its backend: requests from a driver in this
 * process to the device on its own thread, in its sandbox, without a VM, and the
 * same requests straight to the backend, round by round in turn. A figure is the
 * median of its rounds.
 */
#ifndef TESTS_BENCH_CORE_H
#define TESTS_BENCH_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>
#include "tests/lib/vdrv.h"

#define CORE_DEPTH 32
#define CORE_PARTS 4 /* in which a driver makes those requests again that were answered */

/* Nanoseconds, by the clock on the wall and by that of a thread. */
struct cost {
	double wall, cpu;
};

/* Who makes the requests, by which way. */
struct core_side {
	const char *title;
	struct cost (*run)(void *opaque, unsigned int depth, unsigned int requests);
	void *opaque;
};

/* Devices to compare. The first have no thread of their own; where there is one CPU, it is those only. */
#define CORE_DEVICES 6
#define CORE_DEVICES_ALONE 2
unsigned int core_devices(void);

/* The driver has CPU 0 and the device CPU 1, as a guest and its device would. */
void core_pin(pthread_t thread, int cpu);
/* Of the thread that the device works on. */
clockid_t core_device_clock(const struct vdrv *vdrv, bool same_thread);

struct cost core_now(clockid_t cpu);
struct cost core_since(struct cost start, clockid_t cpu);
struct cost core_sum(struct cost a, struct cost b);
struct cost core_each(struct cost spent, unsigned int requests);

/* The first side is the limit. */
void core_compare(const char *title, const struct core_side *sides, size_t count,
		  unsigned int depth, unsigned int requests);

/* In folder a file is made that is gone with this process. */
void disk_compare(const char *folder);
/* Requests of the device alone, for strace and perf. */
void disk_alone(const char *folder, const char *options, unsigned int requests);

void net_compare(void);

/* Relative paths begin elsewhere afterwards. */
void fs_compare(void);

#endif
