/* SPDX-License-Identifier: Apache-2.0 */
/* What can be done to a running virtio-scsi device from outside; any thread but a worker. */
#ifndef DEVICES_SCSI_H
#define DEVICES_SCSI_H

#include <stdbool.h>
#include <stdint.h>

struct virtio_dev;

/* Takes a unit out of the target or puts it back; the driver is told. -ENOENT: there is none of that number. */
int scsi_unit_plug(struct virtio_dev *dev, unsigned int unit, bool plugged);
/* A unit's image has become larger or smaller: bytes. -ENOENT; -EINVAL: not one block fits. */
int scsi_unit_resize(struct virtio_dev *dev, unsigned int unit, uint64_t bytes);

#endif
