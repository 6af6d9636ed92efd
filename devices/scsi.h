/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running virtio-scsi device from outside; any thread but a worker. */
#ifndef DEVICES_SCSI_H
#define DEVICES_SCSI_H

#include <stdbool.h>
#include <stdint.h>

struct virtio_dev;

/* Takes a unit out of the target or puts it back; the driver is told. -ENOENT: there is none of that number. */
int scsi_unit_plug(struct virtio_dev *dev, unsigned int unit, bool plugged);
/*
 * Makes a unit's disk so many bytes long; 0: as long as its backing is by now.
 * -ENOENT, and as block_disk_resize().
 */
int scsi_unit_resize(struct virtio_dev *dev, unsigned int unit, uint64_t bytes);

#endif
