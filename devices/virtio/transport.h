/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a transport and the assembly need of a device: its life, and the
 * registers that every transport shows in its own layout. All of these are
 * called from the main thread or, the registers, from vCPU threads; the
 * registers take the device's lock themselves.
 */
#ifndef DEVICES_VIRTIO_TRANSPORT_H
#define DEVICES_VIRTIO_TRANSPORT_H

#include "devices/virtio/virtio.h"

struct bus;
struct irq_router;
struct pci_root;

/*
 * Builds a device of the class from conf (class->conf_size bytes, which must
 * outlive it) as number index of its class. -errno of the class's init.
 */
int virtio_dev_new(const struct virtio_class *class, unsigned int index, const void *conf,
		   const struct virtio_host *host, struct virtio_dev **ret_dev);
/* Stops the worker, then frees. Accepts NULL. */
void virtio_dev_free(struct virtio_dev *dev);
static inline void virtio_dev_freep(struct virtio_dev **dev)
{
	virtio_dev_free(*dev);
}

/* Section 2.1 and 3.1: writing 0 resets; DRIVER_OK starts the device. */
uint8_t virtio_status(struct virtio_dev *dev);
void virtio_set_status(struct virtio_dev *dev, uint8_t status);

/* 32 bits of the offered features; beyond the second word zero. */
uint32_t virtio_offered(struct virtio_dev *dev, uint32_t word);
uint32_t virtio_driver_features(struct virtio_dev *dev, uint32_t word);
/* Ignored once FEATURES_OK is set. */
void virtio_set_driver_features(struct virtio_dev *dev, uint32_t word, uint32_t value);

/* A copy of the driver's side of a queue; size 0 when there is none of that number. */
struct virtq_layout virtio_queue(struct virtio_dev *dev, uint32_t queue);
/* Replaces it; ignored after DRIVER_OK, for no such queue, or for a size beyond the largest. */
void virtio_set_queue(struct virtio_dev *dev, uint32_t queue, const struct virtq_layout *layout);
uint16_t virtio_queue_max(struct virtio_dev *dev, uint32_t queue);

/* Drivers write the addresses of a layout in halves. */
static inline void virtio_set_low(uint64_t *address, uint64_t value)
{
	*address = (*address & ~0xffffffffULL) | (value & 0xffffffff);
}

static inline void virtio_set_high(uint64_t *address, uint64_t value)
{
	*address = (*address & 0xffffffffULL) | value << 32;
}

/* Device configuration, any offset and width; outside of it reads give zeroes and writes are ignored. */
void virtio_config_read(struct virtio_dev *dev, uint32_t offset, void *data, uint32_t len);
void virtio_config_write(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len);
uint32_t virtio_generation(struct virtio_dev *dev);

/* The class's drain or resize, on the worker; nothing where it has none. */
void virtio_dev_drain(struct virtio_dev *dev);
void virtio_dev_resize(struct virtio_dev *dev);

/* The transports. Each frees with its own function and accepts NULL. */
struct virtio_mmio;
#define VIRTIO_MMIO_LEN 0x200
/* Registers at base on bus, interrupts on the given pin. */
int virtio_mmio_new(struct virtio_dev *dev, struct bus *bus, struct irq_router *router,
		    uint64_t base, uint32_t pin, struct virtio_mmio **ret_mmio);
void virtio_mmio_free(struct virtio_mmio *mmio);

struct virtio_pci;
/* A function on the PCI root, in its next free slot. -ENOSPC when it is full. */
int virtio_pci_new(struct virtio_dev *dev, struct pci_root *root, struct irq_router *router,
		   struct virtio_pci **ret_pci);
/* The function's own registers after a reset of the machine; the device is reset by its status. */
void virtio_pci_reset(struct virtio_pci *pci);
void virtio_pci_free(struct virtio_pci *pci);

#endif
