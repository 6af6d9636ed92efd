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
struct state;
struct state_reader;

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

/* Every worker of the device needs this fd. */
int virtio_dev_keep_fd(struct virtio_dev *dev, int fd);

/*
 * Section 2.1 and 3.1: writing 0 resets; DRIVER_OK starts the device. A reset
 * does not wait for what a queue has in flight: the status reads as not 0, and
 * nothing can be written, until all of that is over.
 */
uint8_t virtio_status(struct virtio_dev *dev);
void virtio_set_status(struct virtio_dev *dev, uint8_t status);
/* Waits for a reset that was asked for. False when it took longer than timeout_ms (-1: for ever). */
bool virtio_reset_wait(struct virtio_dev *dev, int timeout_ms);

/* 32 bits of the offered features; beyond the second word zero. */
uint32_t virtio_offered(struct virtio_dev *dev, uint32_t word);
uint32_t virtio_driver_features(struct virtio_dev *dev, uint32_t word);
/* Ignored once FEATURES_OK is set. */
void virtio_set_driver_features(struct virtio_dev *dev, uint32_t word, uint32_t value);

/* A copy of the driver's side of a queue; size 0 when there is none of that number. */
struct virtq_layout virtio_queue(struct virtio_dev *dev, uint32_t queue);
/*
 * Replaces it; ignored for no such queue, for a size beyond the largest, and
 * after DRIVER_OK but for a queue that was reset, which starts again when it is ready.
 */
void virtio_set_queue(struct virtio_dev *dev, uint32_t queue, const struct virtq_layout *layout);
uint16_t virtio_queue_max(struct virtio_dev *dev, uint32_t queue);
/* Section 2.6.1: resets one queue. Ignored without VIRTIO_F_RING_RESET. */
void virtio_reset_queue(struct virtio_dev *dev, uint32_t queue);
/* Whether that is still going on. */
bool virtio_queue_resetting(struct virtio_dev *dev, uint32_t queue);

/* The transport's interrupt_fd is another one for this queue now. */
void virtio_redirect_queue(struct virtio_dev *dev, uint32_t queue);

/* Drivers write the addresses of a layout in halves: the one at offset (0 or 4) of address becomes value. */
static inline void virtio_set_half(uint64_t *address, unsigned int offset, uint32_t value)
{
	memcpy((uint8_t *)address + offset, &value, sizeof(value));
}

/* Device configuration, any offset and width; outside of it reads give zeroes and writes are ignored. */
void virtio_config_read(struct virtio_dev *dev, uint32_t offset, void *data, uint32_t len);
void virtio_config_write(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len);
uint32_t virtio_generation(struct virtio_dev *dev);

/* The sum over all queues of a class's counter, or of one that the core keeps. */
uint64_t virtio_counter(const struct virtio_dev *dev, unsigned int counter);
uint64_t virtio_core_counter(const struct virtio_dev *dev, enum virtq_counter counter);
/* For whoever shows them all: the name and the sum of the n-th; NULL behind the last. */
const char *virtio_nth_counter(const struct virtio_dev *dev, unsigned int n, uint64_t *ret_sum);

/*
 * For saves: completes or puts back what is in flight and stops the queues,
 * which keep their positions; the driver must not run. Resume starts them again.
 */
void virtio_dev_pause(struct virtio_dev *dev);
void virtio_dev_resume(struct virtio_dev *dev);
/* Appends the sections of a paused device. -ENOMEM; -EBUSY: it cannot be saved now, and the log has why. */
int virtio_dev_save(struct virtio_dev *dev, struct state *state);
/*
 * The next sections of a save into a device that was just made, from the same
 * configuration and with its transport; it is paused then. -EINVAL when they
 * are not such; the device is of no use then.
 */
int virtio_dev_load(struct virtio_dev *dev, struct state_reader *reader);

/* The class's drain or resize, on the first worker; nothing where it has none. */
void virtio_dev_drain(struct virtio_dev *dev);
void virtio_dev_resize(struct virtio_dev *dev);
/* The class's resize_disk; -EOPNOTSUPP where it has none. */
int virtio_dev_resize_disk(struct virtio_dev *dev, uint64_t bytes);
/* The class's set_link; -EOPNOTSUPP where it has none. */
int virtio_dev_set_link(struct virtio_dev *dev, bool up);
/* The class's set_monitor; -EOPNOTSUPP where it has none. */
int virtio_dev_set_monitor(struct virtio_dev *dev, unsigned int head, uint32_t width,
			   uint32_t height);
/* The class's retry, for each queue that is active. */
void virtio_dev_retry(struct virtio_dev *dev);

/* The class's mend, from a vCPU thread that got no page: whether it may try again. */
bool virtio_dev_mend(struct virtio_dev *dev);

/* The transports. Each frees with its own function and accepts NULL. */
struct virtio_mmio;
#define VIRTIO_MMIO_LEN 0x200
/* Registers at base on bus, interrupts on the given pin. */
int virtio_mmio_new(struct virtio_dev *dev, struct bus *bus, struct irq_router *router,
		    uint64_t base, uint32_t pin, struct virtio_mmio **ret_mmio);
int virtio_mmio_save(struct virtio_mmio *mmio, struct state *state);
int virtio_mmio_load(struct virtio_mmio *mmio, struct state_reader *reader);
void virtio_mmio_free(struct virtio_mmio *mmio);

struct virtio_pci;
/* A function on the PCI root, in its next free slot. -ENOSPC when it is full. */
int virtio_pci_new(struct virtio_dev *dev, struct pci_root *root, struct irq_router *router,
		   struct virtio_pci **ret_pci);
/* The function's own registers after a reset of the machine; the device is reset by its status. */
void virtio_pci_reset(struct virtio_pci *pci);
int virtio_pci_save(struct virtio_pci *pci, struct state *state);
int virtio_pci_load(struct virtio_pci *pci, struct state_reader *reader);
void virtio_pci_free(struct virtio_pci *pci);

#endif
