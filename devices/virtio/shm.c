// SPDX-License-Identifier: Apache-2.0
/* Shared memory regions of devices (virtio 1.2, section 2.10). */
#include <assert.h>
#include "devices/virtio/transport.h"

int virtio_add_shm(struct virtio_dev *dev, uint8_t id, uint64_t len)
{
	assert(!dev->shm.window.hva && !(len & (len - 1)));
	dev->shm.id = id;
	return window_init(&dev->shm.window, len);
}

static int mend(void *arg)
{
	struct virtio_dev *dev = arg;

	return (int)dev->class->mend(dev);
}

bool virtio_dev_mend(struct virtio_dev *dev)
{
	return dev->shm.window.hva && worker_call(&dev->workers[0], mend, dev) > 0;
}
