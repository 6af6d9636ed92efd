/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running virtio-scsi device from outside; on the main thread. */
#ifndef DEVICES_SCSI_H
#define DEVICES_SCSI_H

#include <stdint.h>

struct virtio_conf;
struct virtio_dev;

/*
 * For the sandbox of the thread that calls these. Wants devices/block/block.h, seccomp/worker.h,
 * <fcntl.h> and <linux/fs.h>.
 */
#define SCSI_UNIT_CALLS BLOCK_ADOPT_CALLS, WORKER_GIVE_CALLS

/*
 * Adds a unit of that number (0 to 255) on the open file fd, which it takes in
 * any case, and tells the driver. conf is what dev->class->opts
 * describe, of the unit alone, and may go afterwards; its path only has to be there. The engine is
 * sync. An open file description is for one unit, whose lock and flags it has. -ENXIO, -EEXIST;
 * -EAGAIN: another unit has the file; -EOPNOTSUPP: uring or a device of the host's is asked for; as
 * block_disk_adopt() and scsi_lun_init(): dev->class->hints know them.
 */
int scsi_unit_plug(struct virtio_dev *dev, unsigned int unit, const struct virtio_conf *conf,
		   int fd);
/* Ends the unit's tasks, takes it out of the target, closes its file, and tells the driver. -ENOENT; -EOPNOTSUPP: it is the host's. */
int scsi_unit_unplug(struct virtio_dev *dev, unsigned int unit);
/*
 * Makes a unit's disk so many bytes long; 0: as long as its backing is by now.
 * -ENOENT, and as block_disk_resize().
 */
int scsi_unit_resize(struct virtio_dev *dev, unsigned int unit, uint64_t bytes);

#endif
