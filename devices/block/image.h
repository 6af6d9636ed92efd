/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making and looking after image files, which no guest has open meanwhile. The
 * caller opens and locks them; here they are descriptors. A sentence in
 * ret_reason ends what the caller begins: "disk.qcow2: its L1 table ...".
 */
#ifndef DEVICES_BLOCK_IMAGE_H
#define DEVICES_BLOCK_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2_header;

/* What lies behind the end of the file reads as zeros. */
int image_read(int fd, void *buffer, size_t len, uint64_t offset);
int image_write(int fd, const void *buffer, size_t len, uint64_t offset);

enum image_preallocation {
	IMAGE_OFF,
	IMAGE_FALLOC, /* the file system sets the space aside */
	IMAGE_FULL,   /* zeros are written */
};

/* Told now and then while zeros are written; -errno ends that. */
struct image_progress {
	int (*report)(struct image_progress *progress, uint64_t done, uint64_t total);
};

/*
 * Takes the space of a range that reads as zeros, in a file that is long
 * enough. -EOPNOTSUPP: the file system cannot set space aside.
 */
int image_preallocate(int fd, uint64_t offset, uint64_t len, enum image_preallocation how,
		      struct image_progress *progress);

/* ---- qcow2 ---- */

/*
 * Writes an empty image into an empty file: of header it takes size,
 * cluster_bits, refcount_order, compatible and backing's two, and chooses the
 * rest. -EFBIG: an image with such clusters cannot be that large;
 * -ENAMETOOLONG: the backing file's name does not fit into a cluster.
 */
int qcow2_create(int fd, const struct qcow2_header *header, enum image_preallocation how,
		 struct image_progress *progress);

struct qcow2_findings {
	uint64_t broken; /* entries of tables that lead nowhere, or cannot be right */
	uint64_t low;    /* clusters that have more references than were counted */
	uint64_t flags;  /* entries that are wrong about whether a cluster has but one reference */
	uint64_t leaks;  /* clusters that were counted more often than they have references */
	uint64_t allocated, compressed; /* clusters of the disk */
	uint64_t end;    /* bytes: where the last cluster in use ends */
};

static inline uint64_t qcow2_corruptions(const struct qcow2_findings *findings)
{
	return findings->broken + findings->low + findings->flags;
}

enum qcow2_repair {
	QCOW2_REPAIR_NOTHING,
	QCOW2_REPAIR_LEAKS, /* where nothing else is wrong */
	QCOW2_REPAIR_ALL,   /* counts and flags besides, where tables lead somewhere */
};

/*
 * Counts the references to every cluster, in bounded memory, and compares. The
 * findings are what remains after repair. 0 whatever was found; -EUCLEAN,
 * -EOPNOTSUPP and the like when it could not be checked.
 */
int qcow2_check(int fd, enum qcow2_repair repair, struct qcow2_findings *ret_findings,
		const char **ret_reason);

/*
 * Changes the disk's size, a multiple of 512. A smaller one loses what is
 * behind it. Killed at any point it leaves leaks at the most.
 * -EUCLEAN: the image is damaged; -EOPNOTSUPP; -EFBIG.
 */
int qcow2_resize(int fd, uint64_t size, const char **ret_reason);

#endif
