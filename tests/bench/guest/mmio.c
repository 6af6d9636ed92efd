// SPDX-License-Identifier: Apache-2.0
#include <linux/virtio_mmio.h>
#include "virtio.h"

#define MAGIC 0x74726976

static uint64_t offered(const struct device *dev)
{
	uint64_t features;

	write32(dev->base + VIRTIO_MMIO_DEVICE_FEATURES_SEL, 1);
	features = (uint64_t)read32(dev->base + VIRTIO_MMIO_DEVICE_FEATURES) << 32;
	write32(dev->base + VIRTIO_MMIO_DEVICE_FEATURES_SEL, 0);
	return features | read32(dev->base + VIRTIO_MMIO_DEVICE_FEATURES);
}

static void accept(const struct device *dev, uint64_t features)
{
	for (unsigned int word = 0; word < 2; word++) {
		write32(dev->base + VIRTIO_MMIO_DRIVER_FEATURES_SEL, word);
		write32(dev->base + VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32 * word));
	}
}

static uint8_t status(const struct device *dev)
{
	return (uint8_t)read32(dev->base + VIRTIO_MMIO_STATUS);
}

static void set_status(const struct device *dev, uint8_t status)
{
	write32(dev->base + VIRTIO_MMIO_STATUS, status);
}

static void set_address(const struct device *dev, uint32_t low, const void *address)
{
	write32(dev->base + low, (uint32_t)(uintptr_t)address);
	write32(dev->base + low + 4, (uint32_t)((uintptr_t)address >> 32));
}

static bool set_queue(const struct device *dev, struct queue *queue)
{
	write32(dev->base + VIRTIO_MMIO_QUEUE_SEL, queue->index);
	queue->size = queue_size(read32(dev->base + VIRTIO_MMIO_QUEUE_NUM_MAX));
	if (!queue->size)
		return false;
	write32(dev->base + VIRTIO_MMIO_QUEUE_NUM, queue->size);
	set_address(dev, VIRTIO_MMIO_QUEUE_DESC_LOW, &queue->desc);
	set_address(dev, VIRTIO_MMIO_QUEUE_AVAIL_LOW, &queue->driver);
	set_address(dev, VIRTIO_MMIO_QUEUE_USED_LOW, &queue->device);
	write32(dev->base + VIRTIO_MMIO_QUEUE_READY, 1);
	queue->doorbell = dev->base + VIRTIO_MMIO_QUEUE_NOTIFY;
	return true;
}

static void ring(const struct queue *queue)
{
	write32(queue->doorbell, queue->index);
}

static void acknowledge(const struct device *dev)
{
	write32(dev->base + VIRTIO_MMIO_INTERRUPT_ACK,
		read32(dev->base + VIRTIO_MMIO_INTERRUPT_STATUS));
}

static const struct transport mmio = {
	.offered = offered,
	.accept = accept,
	.status = status,
	.set_status = set_status,
	.set_queue = set_queue,
	.ring = ring,
	.acknowledge = acknowledge,
};

unsigned int mmio_scan(uintptr_t base, uintptr_t stride, unsigned int count, uint32_t pin,
		       struct device devices[DEVICES_MAX])
{
	unsigned int found = 0;

	for (unsigned int i = 0; i < count && found < DEVICES_MAX; i++) {
		uintptr_t at = base + i * stride;
		uint32_t id;

		if (read32(at + VIRTIO_MMIO_MAGIC_VALUE) != MAGIC ||
		    !(id = read32(at + VIRTIO_MMIO_DEVICE_ID)))
			continue;
		cpu_connect_pin(pin + i);
		devices[found++] = (struct device){
			.id = id,
			.transport = &mmio,
			.config = at + VIRTIO_MMIO_CONFIG,
			.base = at,
		};
	}
	return found;
}
