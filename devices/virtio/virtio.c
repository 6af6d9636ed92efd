// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a device (virtio 1.2, sections 2.1, 2.6 and 3.1).
 *
 * vCPU threads change what the driver sees of a device under its lock. What
 * the device itself does happens on its workers: starts and configuration
 * writes travel there by worker_call() while the lock is held, so they come
 * one at a time and in the driver's order. No worker takes the lock; they
 * share status (atomic) and the configuration bytes (a leaf lock) with the
 * vCPU threads.
 *
 * A reset only sends each queue its stop, which may have to wait for a slow
 * disk. Whoever looks at the device after the last of them (settle) completes
 * the reset; until then the status reads as it was and all writes are ignored.
 */
#include "devices/virtio/transport.h"

#include <stdarg.h>
#include <stdio.h>
#include "devices/virtio/life.h"

/* ---- on a worker ---- */

bool virtio_failed(const struct virtio_dev *dev)
{
	return atomic_load(&dev->status) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

static void raise_config(struct virtio_dev *dev)
{
	if (dev->transport && atomic_load(&dev->status) & VIRTIO_CONFIG_S_DRIVER_OK)
		dev->transport->raise_config(dev->transport);
}

static void need_reset(struct virtio_dev *dev, const char *whose, const char *format, va_list args)
{
	char text[160];

	if (atomic_fetch_or(&dev->status, VIRTIO_CONFIG_S_NEEDS_RESET) &
	    VIRTIO_CONFIG_S_NEEDS_RESET)
		return;
	raise_config(dev);
	if (!log_allowed(&dev->complaints))
		return;
	vsnprintf(text, sizeof(text), format, args);
	log_warn("%s: the guest's driver %s to reset the device: %s", dev->name, whose, text);
}

void virtio_fail(struct virtio_dev *dev, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	need_reset(dev, "broke the rules and has", format, args);
	va_end(args);
}

void virtio_lose(struct virtio_dev *dev, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	need_reset(dev, "has", format, args);
	va_end(args);
}

void virtio_kick(struct virtq *queue)
{
	if (!queue->active || virtio_failed(queue->dev))
		return;
	if (queue->vhost)
		util_signal(queue->kick.fd);
	else
		queue->dev->class->kick(queue->dev, queue);
}

void virtio_config_update(struct virtio_dev *dev, uint32_t offset, const void *data, uint32_t len)
{
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + offset, data, len);
	dev->generation++;
	pthread_mutex_unlock(&dev->config_lock);
	raise_config(dev);
}

void virtio_doorbell(struct event *event, uint32_t revents)
{
	struct virtq *queue = container_of(event, struct virtq, kick);

	(void)revents;
	virtq_count_core(queue, VIRTQ_KICKS);
	virtio_kick(queue);
}

/* A worker's queues stand in a row: the next one, or NULL. */
static struct virtq *next_queue(struct virtq *queue)
{
	const struct virtio_dev *dev = queue->dev;

	if (queue->index + 1 == dev->queue_count || queue[1].worker != queue->worker)
		return NULL;
	return queue + 1;
}

void virtio_publish(void *first)
{
	for (struct virtq *queue = first; queue; queue = next_queue(queue))
		virtq_publish(queue);
}

bool virtio_look(void *first, bool last)
{
	bool found = false;

	for (struct virtq *queue = first; queue; queue = next_queue(queue)) {
		if (virtio_failed(queue->dev) ||
		    !(last || queue->patience ? virtq_arm(queue) : virtq_waiting(queue)))
			continue;
		virtio_kick(queue);
		found = true;
	}
	return found;
}

static int start_device(void *arg)
{
	struct virtio_dev *dev = arg;
	int err = dev->class->start(dev);

	if (err)
		virtio_lose(dev, "this host cannot start it: %s", strerror(-err));
	return err;
}

static int start_queue(void *arg)
{
	struct virtq *queue = arg;
	struct virtio_dev *dev = queue->dev;
	int err;

	if (!queue->layout.ready || queue->active || virtio_failed(dev))
		return 0;
	if (virtq_activate(queue, dev->mem, dev->features)) {
		virtio_fail(dev, "queue %u lies outside of memory, or its size or alignment is wrong",
			    queue->index);
		return 0;
	}
	err = dev->class->queue_start ? dev->class->queue_start(queue) : 0;
	if (err) {
		virtq_deactivate(queue);
		virtio_lose(dev, "this host cannot start queue %u: %s", queue->index, strerror(-err));
		return 0;
	}
	/* The driver may have queued buffers already. */
	virtio_kick(queue);
	return 0;
}

static int start_queues(void *first)
{
	for (struct virtq *queue = first; queue; queue = next_queue(queue))
		start_queue(queue);
	return 0;
}

int virtio_stop_queue(void *arg)
{
	struct virtq *queue = arg;
	const struct virtio_class *class = queue->dev->class;

	if (queue->active && class->queue_stop)
		class->queue_stop(queue);
	virtq_deactivate(queue);
	if (class->queue_reset)
		class->queue_reset(queue);
	return 0;
}

static int pause_queues(void *first)
{
	const struct virtio_class *class = ((struct virtq *)first)->dev->class;

	for (struct virtq *queue = first; queue; queue = next_queue(queue))
		if (queue->active && class->queue_stop)
			class->queue_stop(queue);
	/* What was completed the driver is to know; the rest goes back. */
	virtio_publish(first);
	for (struct virtq *queue = first; queue; queue = next_queue(queue))
		virtq_deactivate(queue);
	return 0;
}

static int redirect_queue(void *arg)
{
	struct virtq *queue = arg;
	int err = virtq_redirect(queue);

	if (err)
		virtio_lose(queue->dev, "this host cannot move the interrupt of queue %u: %s",
			    queue->index, strerror(-err));
	return err;
}

static int reset_class(void *arg)
{
	struct virtio_dev *dev = arg;

	dev->class->reset(dev);
	return 0;
}

static int drain(void *arg)
{
	struct virtio_dev *dev = arg;

	dev->class->drain(dev);
	return 0;
}

static int resize(void *arg)
{
	struct virtio_dev *dev = arg;

	dev->class->resize(dev);
	return 0;
}

struct disk_size {
	struct virtio_dev *dev;
	uint64_t bytes;
};

static int resize_disk(void *arg)
{
	const struct disk_size *size = arg;

	return size->dev->class->resize_disk(size->dev, size->bytes);
}

struct link_change {
	struct virtio_dev *dev;
	bool up;
};

static int set_link(void *arg)
{
	const struct link_change *change = arg;

	return change->dev->class->set_link(change->dev, change->up);
}

struct monitor {
	struct virtio_dev *dev;
	unsigned int head;
	uint32_t width, height;
};

static int set_monitor(void *arg)
{
	const struct monitor *monitor = arg;

	return monitor->dev->class->set_monitor(monitor->dev, monitor->head, monitor->width,
						monitor->height);
}

static int retry_queues(void *first)
{
	for (struct virtq *queue = first; queue; queue = next_queue(queue))
		if (queue->active)
			queue->dev->class->retry(queue);
	virtio_publish(first);
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

/* ---- start and reset, with the lock held ---- */

struct virtq *virtio_first_queue(const struct virtio_dev *dev, unsigned int worker)
{
	return &dev->queues[worker ? dev->class->head_count + worker * dev->class->queue_count : 0];
}

static void start(struct virtio_dev *dev)
{
	dev->started = true;
	if (dev->class->start && worker_call(&dev->workers[0], start_device, dev))
		return;
	for (unsigned int i = 0; i < dev->worker_count; i++)
		worker_call(&dev->workers[i], start_queues, virtio_first_queue(dev, i));
}

static bool stopping(const struct virtq *queue)
{
	return !worker_wait(queue->worker, &queue->stop, 0);
}

static void forget_queue(struct virtq *queue)
{
	queue->layout = (struct virtq_layout){ .size = queue->size_max };
	queue->resetting = false;
	virtq_rewind(queue);
}

static void finish_reset(struct virtio_dev *dev)
{
	if (dev->started && dev->class->reset)
		worker_call(&dev->workers[0], reset_class, dev);
	for (unsigned int i = 0; i < dev->queue_count; i++)
		forget_queue(&dev->queues[i]);
	dev->features = 0;
	dev->started = dev->resetting = dev->paused = false;
	atomic_store(&dev->status, 0);
}

/* Completes what was waiting for queues to stop. */
static void settle(struct virtio_dev *dev)
{
	bool busy = false;

	for (unsigned int i = 0; i < dev->queue_count; i++) {
		struct virtq *queue = &dev->queues[i];

		if (!dev->resetting && !queue->resetting)
			continue;
		if (stopping(queue))
			busy = true;
		else if (queue->resetting)
			forget_queue(queue);
	}
	if (dev->resetting && !busy)
		finish_reset(dev);
}

static void begin_reset(struct virtio_dev *dev)
{
	dev->resetting = true;
	for (unsigned int i = 0; dev->started && i < dev->queue_count; i++)
		if (!stopping(&dev->queues[i]))
			worker_send(dev->queues[i].worker, &dev->queues[i].stop);
	settle(dev);
}

static void pause_device(struct virtio_dev *dev)
{
	for (unsigned int i = 0; dev->started && i < dev->worker_count; i++)
		worker_call(&dev->workers[i], pause_queues, virtio_first_queue(dev, i));
}

static void lock(struct virtio_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	settle(dev);
}

static void unlock(struct virtio_dev *dev)
{
	pthread_mutex_unlock(&dev->lock);
}

/* ---- the driver's registers, on vCPU threads ---- */

uint8_t virtio_status(struct virtio_dev *dev)
{
	uint8_t status;

	lock(dev);
	status = atomic_load(&dev->status);
	unlock(dev);
	return status;
}

static bool features_acceptable(const struct virtio_dev *dev)
{
	return dev->features >> VIRTIO_F_VERSION_1 & 1 && !(dev->features & ~dev->offered);
}

static void advance(struct virtio_dev *dev, uint8_t status)
{
	uint8_t old = atomic_load(&dev->status);
	uint8_t added = (uint8_t)(status & ~old & ~VIRTIO_CONFIG_S_NEEDS_RESET);

	if (added & VIRTIO_CONFIG_S_FEATURES_OK && !features_acceptable(dev))
		added &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	/* Without agreed features there is nothing to start. */
	if (!((old | added) & VIRTIO_CONFIG_S_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_CONFIG_S_DRIVER_OK;
	atomic_fetch_or(&dev->status, added);
	if (added & VIRTIO_CONFIG_S_DRIVER_OK)
		start(dev);
}

void virtio_set_status(struct virtio_dev *dev, uint8_t status)
{
	lock(dev);
	if (dev->resetting)
		; /* Section 2.1.2: the driver has to wait for it. */
	else if (!status)
		begin_reset(dev);
	else
		advance(dev, status);
	unlock(dev);
}

bool virtio_reset_wait(struct virtio_dev *dev, int timeout_ms)
{
	uint64_t end = util_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
	bool over = true;

	for (unsigned int i = 0; over && i < dev->queue_count; i++) {
		uint64_t left = end - util_min(end, util_now_ns());

		over = worker_wait(dev->queues[i].worker, &dev->queues[i].stop,
				   timeout_ms < 0 ? -1 : (int)(left / NS_PER_MS));
	}
	lock(dev);
	over = !dev->resetting;
	unlock(dev);
	return over;
}

uint32_t virtio_offered(struct virtio_dev *dev, uint32_t word)
{
	return word < 2 ? (uint32_t)(dev->offered >> 32 * word) : 0;
}

uint32_t virtio_driver_features(struct virtio_dev *dev, uint32_t word)
{
	uint32_t value;

	lock(dev);
	value = word < 2 ? (uint32_t)(dev->features >> 32 * word) : 0;
	unlock(dev);
	return value;
}

void virtio_set_driver_features(struct virtio_dev *dev, uint32_t word, uint32_t value)
{
	if (word >= 2)
		return;
	lock(dev);
	if (!(atomic_load(&dev->status) & VIRTIO_CONFIG_S_FEATURES_OK) && !dev->resetting) {
		dev->features &= ~(0xffffffffULL << 32 * word);
		dev->features |= (uint64_t)value << 32 * word;
	}
	unlock(dev);
}

struct virtq_layout virtio_queue(struct virtio_dev *dev, uint32_t queue)
{
	struct virtq_layout layout = { 0 };

	if (queue >= dev->queue_count)
		return layout;
	lock(dev);
	layout = dev->queues[queue].layout;
	unlock(dev);
	return layout;
}

/* Section 2.6.1: a queue that was reset may be set up and enabled again while the device runs. */
static bool queue_frozen(const struct virtq *queue)
{
	const struct virtio_dev *dev = queue->dev;

	if (dev->resetting)
		return true;
	return dev->started && (queue->layout.ready || queue->resetting ||
				!virtio_has(dev, VIRTIO_F_RING_RESET));
}

void virtio_set_queue(struct virtio_dev *dev, uint32_t queue, const struct virtq_layout *layout)
{
	struct virtq *q;

	if (queue >= dev->queue_count || layout->size > dev->queues[queue].size_max)
		return;
	q = &dev->queues[queue];
	lock(dev);
	if (!queue_frozen(q)) {
		q->layout = *layout;
		if (dev->started && layout->ready)
			worker_call(q->worker, start_queue, q);
	}
	unlock(dev);
}

uint16_t virtio_queue_max(struct virtio_dev *dev, uint32_t queue)
{
	return queue < dev->queue_count ? dev->queues[queue].size_max : 0;
}

void virtio_reset_queue(struct virtio_dev *dev, uint32_t queue)
{
	struct virtq *q;

	if (queue >= dev->queue_count)
		return;
	q = &dev->queues[queue];
	lock(dev);
	if (dev->started && !dev->resetting && virtio_has(dev, VIRTIO_F_RING_RESET) &&
	    q->layout.ready && !q->resetting) {
		q->resetting = true;
		worker_send(q->worker, &q->stop);
		settle(dev);
	}
	unlock(dev);
}

bool virtio_queue_resetting(struct virtio_dev *dev, uint32_t queue)
{
	bool resetting;

	if (queue >= dev->queue_count)
		return false;
	lock(dev);
	resetting = dev->queues[queue].resetting;
	unlock(dev);
	return resetting;
}

void virtio_redirect_queue(struct virtio_dev *dev, uint32_t queue)
{
	/* What cannot be lent does not have to wait for a worker, which may be busy. */
	if (queue >= dev->queue_count || dev->queues[queue].call.fd < 0)
		return;
	lock(dev);
	if (dev->started && !dev->resetting)
		worker_call(dev->queues[queue].worker, redirect_queue, &dev->queues[queue]);
	unlock(dev);
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
	lock(dev);
	if (!dev->resetting) {
		pthread_mutex_lock(&dev->config_lock);
		memcpy(dev->config + offset, data, len);
		pthread_mutex_unlock(&dev->config_lock);
		worker_call(&dev->workers[0], config_written, &change);
	}
	unlock(dev);
}

uint32_t virtio_generation(struct virtio_dev *dev)
{
	uint32_t generation;

	pthread_mutex_lock(&dev->config_lock);
	generation = dev->generation;
	pthread_mutex_unlock(&dev->config_lock);
	return generation;
}

/* ---- pause, on the main thread ---- */

void virtio_dev_pause(struct virtio_dev *dev)
{
	virtio_reset_wait(dev, -1);
	lock(dev);
	pause_device(dev);
	dev->paused = true;
	unlock(dev);
}

void virtio_dev_resume(struct virtio_dev *dev)
{
	lock(dev);
	if (dev->paused && dev->started)
		start(dev);
	dev->paused = false;
	unlock(dev);
}

/* Who serves the queues does so anew, if then at all. The driver may run: the lock keeps it out. */
static void restart(struct virtio_dev *dev)
{
	lock(dev);
	if (dev->started && !dev->resetting && !dev->paused) {
		pause_device(dev);
		/* Queues that were being reset are stopped by now, and stay so. */
		settle(dev);
		start(dev);
	}
	unlock(dev);
}

/* ---- what people ask for, on the main thread ---- */

void virtio_dev_drain(struct virtio_dev *dev)
{
	if (dev->class->drain)
		worker_call(&dev->workers[0], drain, dev);
}

void virtio_dev_resize(struct virtio_dev *dev)
{
	if (dev->class->resize)
		worker_call(&dev->workers[0], resize, dev);
}

int virtio_dev_resize_disk(struct virtio_dev *dev, uint64_t bytes)
{
	struct disk_size size = { dev, bytes };

	if (!dev->class->resize_disk)
		return -EOPNOTSUPP;
	return worker_call(&dev->workers[0], resize_disk, &size);
}

int virtio_dev_set_link(struct virtio_dev *dev, bool up)
{
	struct link_change change = { dev, up };
	int err;

	if (!dev->class->set_link)
		return -EOPNOTSUPP;
	/* First: whatever the driver starts from now on knows of it. */
	err = worker_call(&dev->workers[0], set_link, &change);
	if (dev->served_by)
		restart(dev);
	return err;
}

int virtio_dev_set_monitor(struct virtio_dev *dev, unsigned int head, uint32_t width,
			   uint32_t height)
{
	struct monitor monitor = { dev, head, width, height };

	if (!dev->class->set_monitor)
		return -EOPNOTSUPP;
	return worker_call(&dev->workers[0], set_monitor, &monitor);
}

void virtio_dev_retry(struct virtio_dev *dev)
{
	for (unsigned int i = 0; dev->class->retry && i < dev->worker_count; i++)
		worker_call(&dev->workers[i], retry_queues, virtio_first_queue(dev, i));
}
