/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SCSI devices of the host's as units of the target: what a guest may ask of one
 * (passthrough.c), and the way there (sg.c).
 */
#ifndef DEVICES_SCSI_PASSTHROUGH_H
#define DEVICES_SCSI_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>
#include "devices/block/block.h"
#include "devices/scsi/scsi.h"
#include "seccomp/worker.h"

struct sg_io_hdr;

struct passthrough {
	int fd;
	bool read_only;
	enum scsi_type type;
	bool has_lun_in_cdb; /* it is older than SCSI-3 */
	uint32_t block_size; /* as it was when the device was opened */
	/* Of one command's data, so that the kernel takes it wherever it lies. */
	uint32_t bytes_max, segments_max;
	/* 0 or -errno; tests have their own. */
	int (*execute)(const struct passthrough *device, struct sg_io_hdr *header);
};

/*
 * A disk (/dev/sdX), a drive (/dev/srN), or either by its generic node (/dev/sgN), alone
 * unless read_only. -EBUSY: somebody has it, mounted for instance; -ENOTTY: no
 * SCSI device, or a partition of one; -EPROTOTYPE: neither a disk nor a CD-ROM; -errno of open().
 */
int passthrough_open(struct passthrough *device, const char *path, bool read_only);
/* After its queues. Accepts a zeroed one. */
void passthrough_close(struct passthrough *device);

/*
 * The way of the worker's tasks to the device, for depth of them at a time. Gives
 * the worker helpers, so before it is launched; they are freed with the queue.
 */
int passthrough_queue_open(const struct passthrough *device, struct worker *worker,
			   unsigned int depth, struct block_queue *ret_queue);

#endif
