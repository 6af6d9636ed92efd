// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a device (virtio 1.2, sections 2.1 and 3.1).
 *
 * vCPU threads change what the driver sees of a device under its lock. What
 * the device itself does happens on its worker: start, reset and configuration
 * writes travel there by worker_call() while the lock is held, so they come
 * one at a time and in the driver's order. The worker never takes the lock; it
 * shares status (atomic) and the configuration bytes (a leaf lock) with the
 * vCPU threads.
 */
#include "devices/virtio/transport.h"

#include <assert.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include "core/mem.h"

#define CORE_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
	 1ULL << VIRTIO_RING_F_EVENT_IDX)

/* ---- on the worker ---- */

bool virtio_running(const struct virtio_dev *dev)
{
	return dev->started && !(atomic_load(&dev->status) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void raise_config(struct virtio_dev *dev)
{
	if (dev->transport && atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		dev->transport->raise_config(dev->transport);
}

void virtio_fail(struct virtio_dev *dev, const char *format, ...)
{
	char text[160];
	va_list args;

	if (atomic_fetch_or(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET) &
	    VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	raise_config(dev);
	if (!log_allowed(&dev->complaints))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_warn("%s: the guest's driver broke the rules and has to reset the device: %s",
		 dev->name, text);
}

void virtio_kick(struct virtio_dev *dev, unsigned int queue)
{
	if (virtio_running(dev) && dev->queues[queue].active)
		dev->class->kick(dev, &dev->queues[queue]);
}

void virtio_config_update(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len)
{
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + offset, data, len);
	dev->generation++;
	pthread_mutex_unlock(&dev->config_lock);
	raise_config(dev);
}

static void on_doorbell(struct event *event, uint32_t revents)
{
	struct virtq *queue = container_of(event, struct virtq, kick);

	(void)revents;
	virtio_kick(queue->dev, queue->index);
}

static void publish(void *opaque)
{
	struct virtio_dev *dev = opaque;

	for (unsigned int i = 0; i < dev->queue_count; i++)
		if (virtq_publish(&dev->queues[i]))
			dev->transport->raise_queue(dev->transport, i);
}

static int start(void *arg)
{
	struct virtio_dev *dev = arg;
	int err;

	for (unsigned int i = 0; i < dev->queue_count; i++) {
		struct virtq *queue = &dev->queues[i];

		if (queue->layout.ready && virtq_activate(queue, dev->mem, dev->features)) {
			virtio_fail(dev, "queue %u lies outside of memory, or its size or alignment is wrong",
				    i);
			return 0;
		}
	}
	err = dev->class->start ? dev->class->start(dev) : 0;
	if (err) {
		virtio_fail(dev, "it cannot be started: %s", strerror(-err));
		return 0;
	}
	dev->started = true;
	/* The driver may have queued buffers already. */
	for (unsigned int i = 0; i < dev->queue_count; i++)
		virtio_kick(dev, i);
	return 0;
}

static int stop(void *arg)
{
	struct virtio_dev *dev = arg;

	if (dev->started && dev->class->stop)
		dev->class->stop(dev);
	dev->started = false;
	for (unsigned int i = 0; i < dev->queue_count; i++)
		virtq_deactivate(&dev->queues[i]);
	return 0;
}

static int drain(void *arg)
{
	struct virtio_dev *dev = arg;

	if (dev->started)
		dev->class->drain(dev);
	return 0;
}

static int resize(void *arg)
{
	struct virtio_dev *dev = arg;

	dev->class->resize(dev);
	return 0;
}

struct config_change {
	struct virtio_dev *dev;
	uint32_t offset, len;
};

static int config_written(void *arg)
{
	const struct config_change *change = arg;

	change->dev->class->config_write(change->dev, change->offset, change->len);
	return 0;
}

/* ---- the driver's registers, on vCPU threads ---- */

uint8_t virtio_status(struct virtio_dev *dev)
{
	return atomic_load(&dev->status);
}

static void reset(struct virtio_dev *dev)
{
	worker_call(&dev->worker, stop, dev);
	atomic_store(&dev->status, 0);
	dev->features = 0;
	for (unsigned int i = 0; i < dev->queue_count; i++)
		dev->queues[i].layout = (struct virtq_layout){ .size = dev->queues[i].size_max };
}

static bool features_acceptable(const struct virtio_dev *dev)
{
	return dev->features >> VIRTIO_F_VERSION_1 & 1 && !(dev->features & ~dev->offered);
}

void virtio_set_status(struct virtio_dev *dev, uint8_t status)
{
	uint8_t old, added;

	pthread_mutex_lock(&dev->lock);
	old = atomic_load(&dev->status);
	added = (uint8_t)(status & ~old & ~VIRTIO_CONFIG_S_NEEDS_RESET);
	if (!status) {
		reset(dev);
	} else {
		if (added & VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable(dev))
			added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
		/* Without agreed features there is nothing to start. */
		if (!((old | added) & VIRTIO_CONFIG_S_FEATURES_OK))
			added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
		atomic_fetch_or(&dev->status, added);
		if (added & VIRTIO_CONFIG_S_DRIVER_OK)
			worker_call(&dev->worker, start, dev);
	}
	pthread_mutex_unlock(&dev->lock);
}

uint32_t virtio_offered(struct virtio_dev *dev, uint32_t word)
{
	return word < 2 ? (uint32_t)(dev->offered >> 32 * word) : 0;
}

uint32_t virtio_driver_features(struct virtio_dev *dev, uint32_t word)
{
	uint32_t value;

	pthread_mutex_lock(&dev->lock);
	value = word < 2 ? (uint32_t)(dev->features >> 32 * word) : 0;
	pthread_mutex_unlock(&dev->lock);
	return value;
}

void virtio_set_driver_features(struct virtio_dev *dev, uint32_t word, uint32_t value)
{
	if (word >= 2)
		return;
	pthread_mutex_lock(&dev->lock);
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK)) {
		dev->features &= ~(0xffffffffULL << 32 * word);
		dev->features |= (uint64_t)value << 32 * word;
	}
	pthread_mutex_unlock(&dev->lock);
}

struct virtq_layout virtio_queue(struct virtio_dev *dev, uint32_t queue)
{
	struct virtq_layout layout = { 0 };

	if (queue >= dev->queue_count)
		return layout;
	pthread_mutex_lock(&dev->lock);
	layout = dev->queues[queue].layout;
	pthread_mutex_unlock(&dev->lock);
	return layout;
}

void virtio_set_queue(struct virtio_dev *dev, uint32_t queue, const struct virtq_layout *layout)
{
	if (queue >= dev->queue_count || layout->size > dev->queues[queue].size_max)
		return;
	pthread_mutex_lock(&dev->lock);
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK))
		dev->queues[queue].layout = *layout;
	pthread_mutex_unlock(&dev->lock);
}

uint16_t virtio_queue_max(struct virtio_dev *dev, uint32_t queue)
{
	return queue < dev->queue_count ? dev->queues[queue].size_max : 0;
}

void virtio_config_read(struct virtio_dev *dev, uint32_t offset, void *data, uint32_t len)
{
	memset(data, 0, len);
	if (!util_within(offset, len, dev->class->config_size))
		return;
	pthread_mutex_lock(&dev->config_lock);
	memcpy(data, dev->config + offset, len);
	pthread_mutex_unlock(&dev->config_lock);
}

void virtio_config_write(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len)
{
	struct config_change change = { dev, offset, len };

	if (!dev->class->config_write || !util_within(offset, len, dev->class->config_size))
		return;
	pthread_mutex_lock(&dev->lock);
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + offset, data, len);
	pthread_mutex_unlock(&dev->config_lock);
	worker_call(&dev->worker, config_written, &change);
	pthread_mutex_unlock(&dev->lock);
}

uint32_t virtio_generation(struct virtio_dev *dev)
{
	uint32_t generation;

	pthread_mutex_lock(&dev->config_lock);
	generation = dev->generation;
	pthread_mutex_unlock(&dev->config_lock);
	return generation;
}

/* ---- making and ending devices, on the main thread ---- */

static int add_queue(struct virtio_dev *dev, unsigned int index)
{
	struct virtq *queue = &dev->queues[index];
	int err = virtq_init(queue, dev, index, dev->class->queue_sizes[index],
			     dev->class->request_size);

	if (err)
		return err;
	queue->kick.fn = on_doorbell;
	queue->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->kick.fd < 0)
		return -errno;
	/* Edge-triggered, so that nobody has to read the count back to zero. */
	return worker_watch(&dev->worker, &queue->kick, EPOLLIN | EPOLLET);
}

static size_t counter_count(const struct virtio_class *class)
{
	size_t count = 0;

	while (class->counters && class->counters[count])
		count++;
	return count;
}

int virtio_dev_new(const struct virtio_class *class, unsigned int index, const void *conf,
		   const struct virtio_host *host, struct virtio_dev **ret_dev)
{
	_cleanup_(virtio_dev_freep) struct virtio_dev *dev = NULL;
	int err;

	assert(class->queue_count <= VIRTIO_QUEUES_MAX && class->config_size <= VIRTIO_CONFIG_MAX);
	assert(counter_count(class) <= VIRTIO_COUNTERS_MAX);
	dev = calloc(1, class->dev_size);
	if (!dev)
		return -ENOMEM;
	dev->class = class;
	dev->conf = conf;
	dev->host = host;
	dev->mem = host->mem;
	dev->offered = CORE_FEATURES | class->features;
	snprintf(dev->name, sizeof(dev->name), "%s%u", class->name, index);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->config_lock, NULL);

	err = worker_init(&dev->worker, dev->name, class->sandbox, host->confine);
	if (err)
		return err;
	dev->worker.loop.turn_end = publish;
	dev->worker.loop.turn_opaque = dev;

	dev->queues = calloc(class->queue_count, sizeof(*dev->queues));
	if (!dev->queues)
		return -ENOMEM;
	for (unsigned int i = 0; i < class->queue_count; i++) {
		dev->queue_count++;
		err = add_queue(dev, i);
		if (err)
			return err;
	}
	dev->initialised = true;
	err = class->init(dev);
	if (err)
		return err;
	*ret_dev = util_steal_ptr(&dev);
	return 0;
}

void virtio_dev_free(struct virtio_dev *dev)
{
	if (!dev)
		return;
	/* Where it was started: what a device has in flight may belong to its thread. */
	if (dev->initialised)
		worker_call(&dev->worker, stop, dev);
	worker_stop(&dev->worker);
	if (dev->initialised && dev->class->free)
		dev->class->free(dev);
	for (unsigned int i = 0; i < dev->queue_count; i++)
		virtq_free(&dev->queues[i]);
	free(dev->queues);
	worker_free(&dev->worker);
	free(dev);
}

void virtio_dev_drain(struct virtio_dev *dev)
{
	if (dev->class->drain)
		worker_call(&dev->worker, drain, dev);
}

void virtio_dev_resize(struct virtio_dev *dev)
{
	if (dev->class->resize)
		worker_call(&dev->worker, resize, dev);
}
