// SPDX-License-Identifier: Apache-2.0
/*
 *	core [--only disk|net|fs] [--requests N [--options ,KEY=VALUE...]] FOLDER: a
 *	file there is the disk; --requests makes N requests of the disk alone, for
 *	strace and perf.
 */
#include <assert.h>
#include <err.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include "seccomp/filter.h"
#include "tests/bench/core.h"

#define ROUNDS 21 /* fewer where they take long, as in an emulator */
#define ROUNDS_MIN 3
#define LONG_NS 15e9
#define SIDES_MAX 8

unsigned int core_devices(void)
{
	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? CORE_DEVICES : CORE_DEVICES_ALONE;
}

void core_pin(pthread_t thread, int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	if (pthread_setaffinity_np(thread, sizeof(cpus), &cpus))
		errx(1, "it takes two CPUs");
}

clockid_t core_device_clock(const struct vdrv *vdrv, bool same_thread)
{
	clockid_t clock = CLOCK_THREAD_CPUTIME_ID;

	if (!same_thread)
		pthread_getcpuclockid(vdrv->dev->workers[0].thread, &clock);
	return clock;
}

static double nanoseconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct cost core_now(clockid_t cpu)
{
	return (struct cost){ nanoseconds(CLOCK_MONOTONIC), nanoseconds(cpu) };
}

struct cost core_since(struct cost start, clockid_t cpu)
{
	const struct cost now = core_now(cpu);

	return (struct cost){ now.wall - start.wall, now.cpu - start.cpu };
}

struct cost core_sum(struct cost a, struct cost b)
{
	return (struct cost){ a.wall + b.wall, a.cpu + b.cpu };
}

struct cost core_each(struct cost spent, unsigned int requests)
{
	return (struct cost){ spent.wall / requests, spent.cpu / requests };
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct cost median(const struct cost *rounds, size_t count)
{
	double wall[ROUNDS], cpu[ROUNDS];

	for (size_t i = 0; i < count; i++) {
		wall[i] = rounds[i].wall;
		cpu[i] = rounds[i].cpu;
	}
	qsort(wall, count, sizeof(wall[0]), compare);
	qsort(cpu, count, sizeof(cpu[0]), compare);
	return (struct cost){ wall[count / 2], cpu[count / 2] };
}

void core_compare(const char *title, const struct core_side *sides, size_t count,
		  unsigned int depth, unsigned int requests)
{
	struct cost costs[SIDES_MAX][ROUNDS] = { 0 }, limit, cost;
	const struct cost start = core_now(CLOCK_MONOTONIC);
	size_t rounds = 0;

	assert(count <= SIDES_MAX);
	do
		for (size_t i = 0; i < count; i++)
			costs[i][rounds] = sides[i].run(sides[i].opaque, depth, requests);
	while (++rounds < ROUNDS &&
	       (rounds < ROUNDS_MIN || core_since(start, CLOCK_MONOTONIC).wall < LONG_NS));
	limit = median(costs[0], rounds);
	printf("%s\n%22s %8s %8s  %9s  %9s\n", title, "", "elapsed", "CPU", "elapsed", "CPU");
	for (size_t i = 0; i < count; i++) {
		cost = median(costs[i], rounds);
		printf("%-22s %8.0f %8.0f  %7.1f %%  %7.1f %%\n", sides[i].title, cost.wall,
		       cost.cpu, limit.wall / cost.wall * 100, limit.cpu / cost.cpu * 100);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "only", required_argument, NULL, 'n' },
		{ "requests", required_argument, NULL, 'r' },
		{ "options", required_argument, NULL, 'o' },
		{ 0 },
	};
	const char *disk_options = "", *only = NULL;
	unsigned int requests = 0;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'n')
			only = optarg;
		else if (c == 'r')
			requests = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 'o')
			disk_options = optarg;
		else
			return 1;
	}
	if (!argv[optind])
		errx(1, "name a folder for a file of 256 MiB");
	setlinebuf(stdout);
	core_pin(pthread_self(), 0);
	if (filter_report_violations(NULL) < 0)
		errx(1, "no_new_privs");
	if (requests) {
		disk_alone(argv[optind], disk_options, requests);
		return 0;
	}
	printf("Nanoseconds for each request, and how near that is to the first line.\n");
	if (!only || !strcmp(only, "disk"))
		disk_compare(argv[optind]);
	if (!only || !strcmp(only, "net"))
		net_compare();
	if (!only || !strcmp(only, "fs"))
		fs_compare();
	return 0;
}
