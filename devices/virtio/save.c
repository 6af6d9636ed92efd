// SPDX-License-Identifier: Apache-2.0
/* The state of a paused device, out and in: what comes in is checked like a guest's input. */
#include <assert.h>
#include "core/state.h"
#include "devices/virtio/transport.h"

/* Little-endian, as all hosts are. */
struct saved_device {
	uint64_t features;
	uint32_t generation;
	uint16_t queue_count;
	uint8_t status;
	uint8_t started;
	uint8_t config[VIRTIO_CONFIG_MAX];
};

struct saved_queue {
	uint64_t desc, driver, device;
	uint16_t size, next;
	uint8_t ready, wrap, zero[2];
};

static_assert(sizeof(struct saved_device) == 16 + VIRTIO_CONFIG_MAX, "no holes");
static_assert(sizeof(struct saved_queue) == 32, "no holes");

static int save_queue(const struct virtq *queue, struct state *state)
{
	const struct virtq_layout *layout = &queue->layout;
	/* Nothing is in flight: what is available next is what is used next. */
	const struct saved_queue saved = {
		.desc = layout->desc,
		.driver = layout->driver,
		.device = layout->device,
		.size = layout->size,
		.next = queue->position.next_used,
		.ready = layout->ready,
		.wrap = queue->position.used_wrap,
	};

	return state_put(state, "virtq", 1, &saved, sizeof(saved));
}

int virtio_dev_save(struct virtio_dev *dev, struct state *state)
{
	const struct virtio_class *class = dev->class;
	struct saved_device saved = {
		.features = dev->features,
		.queue_count = (uint16_t)dev->queue_count,
		.status = atomic_load(&dev->status),
		.started = dev->started,
	};
	int err;

	assert(dev->paused);
	/* A worker may have news of the host's while the device is paused, too. */
	pthread_mutex_lock(&dev->config_lock);
	saved.generation = dev->generation;
	memcpy(saved.config, dev->config, class->config_size);
	pthread_mutex_unlock(&dev->config_lock);
	err = state_put(state, "virtio", 1, &saved, sizeof(saved));
	for (unsigned int i = 0; !err && i < dev->queue_count; i++)
		err = save_queue(&dev->queues[i], state);
	if (!err && class->state_size)
		err = state_put(state, class->name, class->state_version,
				(uint8_t *)dev + class->state_offset, class->state_size);
	if (!err && class->save)
		err = class->save(dev, state);
	return err;
}

static int load_queue(struct virtq *queue, struct state_reader *reader)
{
	const bool packed = virtio_has(queue->dev, VIRTIO_F_RING_PACKED);
	struct saved_queue saved;
	int err = state_get(reader, "virtq", 1, &saved, sizeof(saved));

	if (err)
		return err;
	if (saved.size > queue->size_max || saved.ready > 1 || saved.wrap > 1 ||
	    (packed && saved.next && saved.next >= saved.size))
		return -EINVAL;
	/* One that does not run has yet to begin, maybe with another size. */
	if (!(queue->dev->started && saved.ready) && (saved.next || !saved.wrap))
		return -EINVAL;
	queue->layout = (struct virtq_layout){ saved.size, saved.ready, saved.desc, saved.driver,
					       saved.device };
	queue->position = (struct virtq_position){ saved.next, saved.next, saved.wrap, saved.wrap };
	return 0;
}

static int load_device(struct virtio_dev *dev, struct state_reader *reader)
{
	struct saved_device saved;
	int err = state_get(reader, "virtio", 1, &saved, sizeof(saved));

	if (err)
		return err;
	if (saved.queue_count != dev->queue_count ||
	    (saved.status & VIRTIO_CONFIG_S_FEATURES_OK && saved.features & ~dev->offered) ||
	    saved.started != !!(saved.status & VIRTIO_CONFIG_S_DRIVER_OK) ||
	    (saved.started && !(saved.status & VIRTIO_CONFIG_S_FEATURES_OK)) ||
	    (saved.status & VIRTIO_CONFIG_S_FEATURES_OK && !(saved.features >> VIRTIO_F_VERSION_1 & 1)))
		return -EINVAL;
	dev->features = saved.features;
	dev->generation = saved.generation;
	dev->started = saved.started;
	atomic_store(&dev->status, saved.status);
	memcpy(dev->config, saved.config, dev->class->config_size);
	return 0;
}

int virtio_dev_load(struct virtio_dev *dev, struct state_reader *reader)
{
	const struct virtio_class *class = dev->class;
	int err = load_device(dev, reader);

	for (unsigned int i = 0; !err && i < dev->queue_count; i++)
		err = load_queue(&dev->queues[i], reader);
	if (!err && class->state_size)
		err = state_get(reader, class->name, class->state_version,
				(uint8_t *)dev + class->state_offset, class->state_size);
	if (!err && class->load)
		err = class->load(dev);
	if (!err && class->restore)
		err = class->restore(dev, reader);
	dev->paused = true;
	return err;
}
