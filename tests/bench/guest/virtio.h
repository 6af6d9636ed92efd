/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio driver's common part: devices, the two transports, split and packed rings. */
#ifndef GUEST_VIRTIO_H
#define GUEST_VIRTIO_H

#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>
#include "cpu.h"

#define QUEUE_SIZE_MAX 256
#define QUEUES_MAX 3
#define DEVICES_MAX 8

struct device;

struct queue {
	/* The three areas, of either format; each has a page. */
	uint8_t desc[4096] __attribute__((aligned(4096)));
	uint8_t driver[4096], device[4096];
	/* What a packed ring is filled from, as its descriptors do not keep what they say. */
	struct vring_packed_desc parts[QUEUE_SIZE_MAX];

	struct device *dev;
	uint16_t index, size;
	unsigned int stride; /* descriptors for each request */
	bool packed, event_idx;
	bool polled;
	uintptr_t doorbell;
	/* Free-running: entries of a split ring, descriptors of a packed one. */
	uint16_t posted, published, taken;
	uint64_t doorbells;
};

struct transport {
	uint64_t (*offered)(const struct device *dev);
	void (*accept)(const struct device *dev, uint64_t features);
	uint8_t (*status)(const struct device *dev);
	void (*set_status)(const struct device *dev, uint8_t status);
	/* Agrees on the size, tells the addresses and enables it; sets queue->size and ->doorbell. */
	bool (*set_queue)(const struct device *dev, struct queue *queue);
	void (*ring)(const struct queue *queue);
	void (*acknowledge)(const struct device *dev);
};

struct device {
	uint32_t id;
	const struct transport *transport;
	uintptr_t config; /* the device's own registers */
	/* PCI: where the parts are; MMIO: base is the whole. */
	uintptr_t base, notify;
	uint32_t notify_multiplier;
	bool rings_ports;
};

/* Both find the devices that there are and return how many. */
unsigned int pci_scan(uintptr_t ecam, uintptr_t window, struct device devices[DEVICES_MAX]);
unsigned int mmio_scan(uintptr_t base, uintptr_t stride, unsigned int count, uint32_t pin,
		       struct device devices[DEVICES_MAX]);

/* Resets the device and starts it with just these features and queues; false if it refuses. */
bool device_start(struct device *dev, uint64_t features, struct queue *queues, unsigned int count,
		  unsigned int stride);
void device_stop(const struct device *dev);

/* The size that a device's maximum allows; 0: there is no such queue, or it is of no use. */
uint16_t queue_size(uint32_t max);
/* Requests are numbered from 0, size / stride of them, each with its own descriptors. */
void queue_part(struct queue *queue, unsigned int request, unsigned int part, const void *data,
		uint32_t len, bool writable);
void queue_post(struct queue *queue, unsigned int request);
/* Makes visible what was posted, and rings if the device wants it. */
void queue_publish(struct queue *queue);
void queue_ring(struct queue *queue);
/* The next request that is done, or -1. */
int queue_take(struct queue *queue);
/* Waits until there may be one, polled by a pause, else by an interrupt. */
void queue_wait(struct queue *queue);
void queue_want_interrupts(struct queue *queue, bool wanted);

#endif
