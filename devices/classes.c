// SPDX-License-Identifier: Apache-2.0
#include <stddef.h>
#include "devices/classes.h"
#include "devices/virtio/virtio.h"

extern const struct virtio_class console_class, blk_class, scsi_class, net_class, vsock_class,
	fs_class, rng_class, balloon_class, port_class, gpu_class, input_class;

const struct virtio_class *const virtio_classes[] = {
	&console_class,
	&blk_class,
	&scsi_class,
	&net_class,
	&vsock_class,
	&fs_class,
	&rng_class,
	&balloon_class,
	&port_class,
	&gpu_class,
	&input_class,
	NULL,
};
