/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM: sorted regions. Only (gpa, len) goes in; what comes out was
 * checked whole. There is no call that turns a bare gpa into a pointer.
 *
 * Behind the RAM there may be windows (core/window.h), of which a device shows
 * the guest files. A guest may have devices read and write there, too; nothing
 * else is looked for in them.
 *
 * The table is complete before the first vCPU runs and is read without a lock
 * from every thread afterwards.
 */
#ifndef CORE_MEM_H
#define CORE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* A range of guest-physical addresses. */
struct mem_range {
	uint64_t gpa;
	uint64_t len;
};

struct mem_region {
	uint64_t gpa;
	uint64_t len;
	uint8_t *hva;
	int fd;    /* the memfd behind a shared region, else -1 */
	bool ours; /* mapped by mem_add(), so mem_free() unmaps it */
	uint64_t page; /* of ours: the least that can be given back */
};

struct mem {
	struct mem_region *regions; /* sorted by gpa, disjoint */
	size_t count;               /* of RAM, */
	size_t windows;             /* and of what follows it */
};

/* How RAM is backed. */
struct mem_backing {
	uint64_t hugepage; /* 0, or the size of a huge page in bytes */
	bool shared;       /* a memfd that other processes can map */
	bool prealloc;     /* populate now, so that the guest never waits for a page */
};

/*
 * Maps a region of len bytes (a multiple of 4096) at gpa; processes that are forked are without it.
 * -EEXIST when it overlaps another, -ENOMEM when the host cannot back it,
 * -EINVAL for a bad size or alignment.
 */
int mem_add(struct mem *mem, uint64_t gpa, uint64_t len, const struct mem_backing *backing);

/* The same for memory that the caller has and keeps. */
int mem_add_at(struct mem *mem, uint64_t gpa, uint64_t len, void *hva);

/* A window of the caller's, above all that is there; RAM is complete. Else as above. */
int mem_add_window(struct mem *mem, uint64_t gpa, uint64_t len, void *hva);

/* Unmaps what mem_add() mapped. Accepts a zeroed or half-built object. */
void mem_free(struct mem *mem);

/* A pointer to [gpa, gpa + len) when it lies within one region, else NULL. */
void *mem_ptr(const struct mem *mem, uint64_t gpa, uint64_t len);

/* Whether all of [gpa, gpa + len) is RAM. */
bool mem_is_ram(const struct mem *mem, uint64_t gpa, uint64_t len);

/*
 * Describes [gpa, gpa + len) by at most max iovecs, several where it crosses
 * regions, for I/O. Returns their number; -EFAULT when a byte of it is neither RAM
 * nor in a window, -ENOBUFS when max is too small. len 0 gives 0 iovecs.
 */
int mem_iov(const struct mem *mem, uint64_t gpa, uint64_t len, struct iovec *iov, size_t max);

/* Copies in and out across regions. -EFAULT, with nothing copied, when a byte of it is not RAM. */
int mem_read(const struct mem *mem, uint64_t gpa, void *buffer, size_t len);
int mem_write(const struct mem *mem, uint64_t gpa, const void *buffer, size_t len);

/*
 * Gives [gpa, gpa + len) back to the host, as far as whole pages of what backs it lie there: they
 * read as zeroes, in every process that shares them, until they are written. Any thread, while the
 * guest and its devices run. Returns the bytes given back; -EFAULT, with nothing done, when a byte
 * is not RAM; -EOPNOTSUPP for memory of the caller's; -errno of madvise(), with some of it done.
 */
ssize_t mem_discard(const struct mem *mem, uint64_t gpa, uint64_t len);

/* The same, but that all stays as it is: when the host is short of memory it takes those pages first. */
ssize_t mem_cool(const struct mem *mem, uint64_t gpa, uint64_t len);

/* The way back from an iovec of mem_iov(): its address. -EFAULT when it is not RAM. */
int mem_gpa(const struct mem *mem, const void *hva, uint64_t *ret_gpa);

/* The largest page that backs a part of RAM, in bytes. */
uint64_t mem_page(const struct mem *mem);

/* The sum of the regions of RAM, in bytes. */
uint64_t mem_size(const struct mem *mem);

#endif
