/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running virtio-scsi device from outside; on the main thread. */
#ifndef DEVICES_SCSI_H
#define DEVICES_SCSI_H

#include <stdint.h>

struct virtio_conf;
struct virtio_dev;

/*
 * Adds a unit of that number (0 to 255) on the open file fd, which it takes in
 * any case, and tells the driver. conf is what dev->class->opts
 * describe, of the unit alone; its path only has to be there. A thread that may
 * make no rings has to ask for engine=sync. -ENXIO, -EEXIST; as
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
