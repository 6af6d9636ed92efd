/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers of a disk's sectors, whatever its requests look like: where they go and what from. */
#ifndef GUEST_DISK_H
#define GUEST_DISK_H

#include "measure.h"

#define DISK_SECTOR 512

struct disk {
	struct traffic traffic;
	bool sequential;
	uint32_t sectors, random;
	uint64_t places, next; /* in units of a request */
};

/* False: there is no room for a request, or it is none of whole sectors. */
bool disk_init(struct disk *disk, const struct traffic *traffic, const struct load *load,
	       uint64_t sectors);
/* The first sector of the next request. */
uint64_t disk_next(struct disk *disk);
uint8_t *disk_buffer(unsigned int request, const struct load *load);

#endif
