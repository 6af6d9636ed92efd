// SPDX-License-Identifier: Apache-2.0
/* virtio over MMIO, version 2 (virtio 1.2, section 4.2). */
#include <linux/virtio_mmio.h>
#include "core/bus.h"
#include "core/irq.h"
#include "core/state.h"
#include "devices/virtio/transport.h"

#define MAGIC 0x74726976 /* "virt" */
#define VERSION 2
#define VENDOR 0x4d56554d /* "MUVM" */
/* Section 4.2.2; Linux 6.1 does not name it. */
#define QUEUE_RESET 0x0c0
/*
 * Linux goes on without asking whether a reset is over, and gives the memory
 * of its buffers to others. So it waits here, but not for ever: a disk that
 * hangs for longer must not hold the vCPU.
 */
#define RESET_WAIT_MS 1000

struct virtio_mmio {
	struct transport transport;
	struct virtio_dev *dev;
	struct irq_line line;
	_Atomic uint32_t interrupt_status;
	/* The driver's selectors. Two vCPUs may race for them, to their own harm only. */
	_Atomic uint32_t device_word, driver_word, queue, shm;
};

static void raise(struct transport *transport, uint32_t why)
{
	struct virtio_mmio *mmio = container_of(transport, struct virtio_mmio, transport);

	atomic_fetch_or(&mmio->interrupt_status, why);
	irq_raise(&mmio->line);
}

static void raise_queue(struct transport *transport, unsigned int queue)
{
	(void)queue;
	raise(transport, VIRTIO_MMIO_INT_VRING);
}

static void raise_config(struct transport *transport)
{
	raise(transport, VIRTIO_MMIO_INT_CONFIG);
}

/* Section 4.2.2: a region that there is not has a length, and here a base, of all ones. */
static uint32_t read_shm(const struct virtio_mmio *mmio, uint64_t offset)
{
	const struct virtio_shm *shm = &mmio->dev->shm;

	if (!shm->window.hva || mmio->shm != shm->id)
		return UINT32_MAX;
	switch (offset) {
	case VIRTIO_MMIO_SHM_LEN_LOW:
		return (uint32_t)shm->window.len;
	case VIRTIO_MMIO_SHM_LEN_HIGH:
		return (uint32_t)(shm->window.len >> 32);
	case VIRTIO_MMIO_SHM_BASE_LOW:
		return (uint32_t)shm->gpa;
	default:
		return (uint32_t)(shm->gpa >> 32);
	}
}

static uint32_t read_register(struct virtio_mmio *mmio, uint64_t offset)
{
	struct virtio_dev *dev = mmio->dev;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->class->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return virtio_offered(dev, mmio->device_word);
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return virtio_queue_max(dev, mmio->queue);
	case VIRTIO_MMIO_QUEUE_READY:
		return virtio_queue(dev, mmio->queue).ready;
	case QUEUE_RESET:
		return virtio_queue_resetting(dev, mmio->queue);
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return mmio->interrupt_status;
	case VIRTIO_MMIO_STATUS:
		return virtio_status(dev);
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return read_shm(mmio, offset);
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return virtio_generation(dev);
	default:
		return 0;
	}
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned int len)
{
	struct virtio_mmio *mmio = opaque;
	uint64_t value = 0;

	if (offset >= VIRTIO_MMIO_CONFIG)
		virtio_config_read(mmio->dev, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), &value, len);
	else if (len == 4 && offset % 4 == 0)
		value = read_register(mmio, offset);
	return value;
}

static void write_queue(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtq_layout layout = virtio_queue(mmio->dev, mmio->queue);

	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		/* A size that does not fit its type must not become one that is valid. */
		layout.size = value > UINT16_MAX ? 0 : (uint16_t)value;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		layout.ready = value & 1;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		virtio_set_half(&layout.desc, offset & 4, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		virtio_set_half(&layout.driver, offset & 4, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		virtio_set_half(&layout.device, offset & 4, value);
		break;
	default:
		return;
	}
	virtio_set_queue(mmio->dev, mmio->queue, &layout);
}

static void write_status(struct virtio_mmio *mmio, uint8_t value)
{
	virtio_set_status(mmio->dev, value);
	if (value)
		return;
	virtio_reset_wait(mmio->dev, RESET_WAIT_MS);
	mmio->interrupt_status = 0;
}

static void write_register(struct virtio_mmio *mmio, uint64_t offset, uint32_t value)
{
	struct virtio_dev *dev = mmio->dev;

	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		mmio->device_word = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		mmio->driver_word = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		virtio_set_driver_features(dev, mmio->driver_word, value);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		mmio->queue = value;
		break;
	case VIRTIO_MMIO_SHM_SEL:
		mmio->shm = value;
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		atomic_fetch_and(&mmio->interrupt_status, ~value);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(mmio, (uint8_t)value);
		break;
	case QUEUE_RESET:
		if (value == 1)
			virtio_reset_queue(dev, mmio->queue);
		break;
	default:
		/* The doorbell register is an ioeventfd for each queue that there is. */
		write_queue(mmio, offset, value);
		break;
	}
}

static void mmio_write(void *opaque, uint64_t offset, unsigned int len, uint64_t value)
{
	struct virtio_mmio *mmio = opaque;

	if (offset >= VIRTIO_MMIO_CONFIG)
		virtio_config_write(mmio->dev, (uint32_t)(offset - VIRTIO_MMIO_CONFIG), &value, len);
	else if (len == 4 && offset % 4 == 0)
		write_register(mmio, offset, (uint32_t)value);
}

static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write };

static void mmio_freep(struct virtio_mmio **mmio)
{
	virtio_mmio_free(*mmio);
}

int virtio_mmio_new(struct virtio_dev *dev, struct bus *bus, struct irq_router *router,
		    uint64_t base, uint32_t pin, struct virtio_mmio **ret_mmio)
{
	_cleanup_(mmio_freep) struct virtio_mmio *mmio = calloc(1, sizeof(*mmio));
	int err;

	if (!mmio)
		return -ENOMEM;
	mmio->transport = (struct transport){ raise_queue, raise_config, NULL };
	mmio->dev = dev;
	err = irq_line_pin(router, &mmio->line, pin);
	if (!err)
		err = virtio_dev_keep_fd(dev, mmio->line.fd);
	if (!err)
		err = bus_add(bus, base, VIRTIO_MMIO_LEN, &mmio_ops, mmio);
	for (uint32_t i = 0; !err && i < dev->queue_count; i++)
		err = bus_doorbell(bus, base + VIRTIO_MMIO_QUEUE_NOTIFY, dev->queues[i].kick.fd,
				   true, i);
	if (err)
		return err;
	dev->transport = &mmio->transport;
	*ret_mmio = util_steal_ptr(&mmio);
	return 0;
}

struct saved_mmio {
	uint32_t interrupt_status, device_word, driver_word, queue, shm;
};

int virtio_mmio_save(struct virtio_mmio *mmio, struct state *state)
{
	const struct saved_mmio saved = { mmio->interrupt_status, mmio->device_word,
					  mmio->driver_word, mmio->queue, mmio->shm };

	return state_put(state, "virtio-mmio", 2, &saved, sizeof(saved));
}

int virtio_mmio_load(struct virtio_mmio *mmio, struct state_reader *reader)
{
	struct saved_mmio saved;
	int err = state_get(reader, "virtio-mmio", 2, &saved, sizeof(saved));

	if (err)
		return err;
	mmio->interrupt_status = saved.interrupt_status;
	mmio->device_word = saved.device_word;
	mmio->driver_word = saved.driver_word;
	mmio->queue = saved.queue;
	mmio->shm = saved.shm;
	/* It may have been on its way. */
	if (saved.interrupt_status)
		irq_raise(&mmio->line);
	return 0;
}

void virtio_mmio_free(struct virtio_mmio *mmio)
{
	if (!mmio)
		return;
	irq_line_free(&mmio->line);
	free(mmio);
}
