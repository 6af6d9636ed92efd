// SPDX-License-Identifier: Apache-2.0
#include "virtio.h"

static void add_status(const struct device *dev, uint8_t status)
{
	dev->transport->set_status(dev, dev->transport->status(dev) | status);
}

static void init_queue(struct queue *queue, struct device *dev, uint16_t index, uint64_t features,
		       unsigned int stride)
{
	memset(queue, 0, sizeof(*queue));
	queue->dev = dev;
	queue->index = index;
	queue->stride = stride;
	queue->packed = features >> VIRTIO_F_RING_PACKED & 1;
	queue->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	queue->polled = true;
}

bool device_start(struct device *dev, uint64_t features, struct queue *queues, unsigned int count,
		  unsigned int stride)
{
	device_stop(dev);
	add_status(dev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(dev, VIRTIO_CONFIG_S_DRIVER);
	if (features & ~dev->transport->offered(dev))
		return false;
	dev->transport->accept(dev, features);
	add_status(dev, VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(dev->transport->status(dev) & VIRTIO_CONFIG_S_FEATURES_OK))
		return false;
	for (unsigned int i = 0; i < count; i++) {
		init_queue(&queues[i], dev, (uint16_t)i, features, stride);
		if (!dev->transport->set_queue(dev, &queues[i]))
			return false;
		queue_want_interrupts(&queues[i], false);
	}
	add_status(dev, VIRTIO_CONFIG_S_DRIVER_OK);
	return true;
}

void device_stop(const struct device *dev)
{
	dev->transport->set_status(dev, 0);
	while (dev->transport->status(dev))
		cpu_pause();
}
