/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small things that every floor uses: sizes, bounds, cleanup by attribute,
 * and the tables that turn an errno into advice.
 */
#ifndef CORE_UTIL_H
#define CORE_UTIL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* Runs fn(&variable) when the variable leaves its scope. */
#define _cleanup_(fn) __attribute__((cleanup(fn)))
#define _cleanup_free_ _cleanup_(util_freep)
#define _cleanup_close_ _cleanup_(util_closep)

static inline void util_freep(void *pointer)
{
	free(*(void **)pointer);
}

/* Closes *fd when it is open and marks it closed (-1); errno is kept. */
static inline void util_closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

/* Hands the fd over to the caller: *fd is -1 afterwards. */
static inline int util_steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

static inline void *util_steal_ptr(void *pointer)
{
	void **p = pointer, *taken = *p;

	*p = NULL;
	return taken;
}

static inline uint64_t util_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t util_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* align is a power of two. */
static inline uint64_t util_align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

/* True when [offset, offset + len) lies within size bytes; never overflows. */
static inline bool util_within(uint64_t offset, uint64_t len, uint64_t size)
{
	return offset <= size && len <= size - offset;
}

/* Adds one to an eventfd. It fails only when 2^64 - 2 are there already, and then nobody is asleep. */
static inline void util_signal(int fd)
{
	const uint64_t one = 1;

	(void)!write(fd, &one, sizeof(one));
}

/* From here on the process may have as many fds as it ever can. Returns how many; 0: nobody knows. */
static inline uint64_t util_raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_max;
}

#define NS_PER_SEC UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* CLOCK_MONOTONIC in nanoseconds. */
static inline uint64_t util_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/*
 * What a user is told for an errno: a module that can fail for reasons of its
 * own keeps a table of these, ended by {0}. The text completes the sentence
 * "microvm: --disk root.img: ..." and says what to do.
 */
struct hint {
	int err; /* positive */
	const char *text;
};

/* The hint for -err or err; strerror's text where the table has none. hints may be NULL. */
static inline const char *hint_find(const struct hint *hints, int err)
{
	if (err < 0)
		err = -err;
	for (; hints && hints->err; hints++)
		if (hints->err == err)
			return hints->text;
	return strerror(err);
}

#endif
