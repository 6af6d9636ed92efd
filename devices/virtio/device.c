// SPDX-License-Identifier: Apache-2.0
/*
 * Making and ending devices, their workers and queues, and what these have
 * counted; on the main thread.
 */
#include <assert.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include "devices/virtio/life.h"
#include "devices/virtio/transport.h"

#define CORE_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
	 1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VIRTIO_F_RING_RESET)

static size_t counter_count(const struct virtio_class *class)
{
	size_t count = 0;

	while (class->counters && class->counters[count])
		count++;
	return count;
}

static uint64_t poll_ns(const struct virtio_dev *dev)
{
	const struct virtio_conf *conf = dev->conf;

	if (conf->poll == OPT_OFF)
		return 0;
	return (conf->poll ? conf->poll : dev->host->poll_us) * 1000;
}

static int add_worker(struct virtio_dev *dev, unsigned int workers)
{
	struct worker *worker = &dev->workers[dev->worker_count];
	char name[32];
	int err;

	snprintf(name, sizeof(name), workers > 1 ? "%s.%u" : "%s", dev->name,
		 dev->worker_count);
	err = worker_init(worker, name, dev->class->sandbox, dev->host->confine);
	if (err)
		return err;
	worker->capabilities = dev->class->capabilities;
	worker->loop.turn_end = virtio_publish;
	worker->loop.look = virtio_look;
	worker->loop.opaque = virtio_first_queue(dev, dev->worker_count++);
	worker->loop.poll.ns = poll_ns(dev);
	return 0;
}

static uint16_t queue_size(const struct virtio_dev *dev, unsigned int index)
{
	const struct virtio_conf *conf = dev->conf;
	const struct virtio_class *class = dev->class;
	const unsigned int head = class->head_count;

	if (index < head && class->head_sizes[index])
		return class->head_sizes[index];
	if (index == head + dev->set_count * class->queue_count)
		return class->control_size;
	if (conf->queue_size)
		return (uint16_t)conf->queue_size;
	return class->queue_sizes[(index < head ? index : index - head) % class->queue_count];
}

static int add_queue(struct virtio_dev *dev)
{
	unsigned int index = dev->queue_count, head = dev->class->head_count;
	unsigned int set = index < head ? 0 : (index - head) / dev->class->queue_count;
	struct virtq *queue = &dev->queues[dev->queue_count++];
	int err = virtq_init(queue, dev, index, queue_size(dev, index), dev->class->request_size);

	if (err)
		return err;
	queue->worker = &dev->workers[util_min(set, dev->worker_count - 1)];
	queue->stop = (struct worker_job){ .fn = virtio_stop_queue, .arg = queue };
	queue->kick.fn = virtio_doorbell;
	queue->kick.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->kick.fd < 0)
		return -errno;
	/* Edge-triggered, so that nobody has to read the count back to zero. */
	return worker_watch(queue->worker, &queue->kick, EPOLLIN | EPOLLET);
}

/* Workers and queues. */
static int furnish(struct virtio_dev *dev)
{
	const struct virtio_conf *conf = dev->conf;
	const struct virtio_class *class = dev->class;
	unsigned int sets = class->sets ? class->sets(conf) : (unsigned int)util_max(conf->queues, 1);
	unsigned int queues = class->head_count + sets * class->queue_count + !!class->control_size;
	unsigned int workers = class->one_worker && class->one_worker(conf) ? 1 : sets;
	int err = 0;

	assert(sets <= VIRTIO_SETS_MAX && queues <= VIRTIO_QUEUES_MAX);
	dev->set_count = sets;
	dev->workers = calloc(workers, sizeof(*dev->workers));
	dev->queues = calloc(queues, sizeof(*dev->queues));
	if (!dev->workers || !dev->queues)
		return -ENOMEM;
	while (!err && dev->worker_count < workers)
		err = add_worker(dev, workers);
	while (!err && dev->queue_count < queues)
		err = add_queue(dev);
	return err;
}

int virtio_dev_new(const struct virtio_class *class, unsigned int index, const void *conf,
		   const struct virtio_host *host, struct virtio_dev **ret_dev)
{
	_cleanup_(virtio_dev_freep) struct virtio_dev *dev = NULL;
	const struct virtio_conf *common = conf;
	int err;

	assert(class->config_size <= VIRTIO_CONFIG_MAX);
	assert(VIRTQ_COUNTERS + counter_count(class) <= VIRTQ_COUNTERS_MAX);
	dev = calloc(1, class->dev_size);
	if (!dev)
		return -ENOMEM;
	dev->class = class;
	dev->conf = conf;
	dev->host = host;
	dev->mem = host->mem;
	dev->offered = CORE_FEATURES | class->features |
		       (uint64_t)common->packed << VIRTIO_F_RING_PACKED |
		       (uint64_t)common->in_order << VIRTIO_F_IN_ORDER;
	snprintf(dev->name, sizeof(dev->name), "%s%u", class->name, index);
	pthread_mutex_init(&dev->lock, NULL);
	pthread_mutex_init(&dev->config_lock, NULL);

	err = furnish(dev);
	if (err)
		return err;
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
	/* Where they were started: what a queue has in flight may belong to its thread. */
	if (dev->initialised) {
		virtio_set_status(dev, 0);
		virtio_reset_wait(dev, -1);
	}
	for (unsigned int i = 0; i < dev->worker_count; i++)
		worker_stop(&dev->workers[i]);
	if (dev->initialised && dev->class->free)
		dev->class->free(dev);
	for (unsigned int i = 0; i < dev->queue_count; i++)
		virtq_free(&dev->queues[i]);
	free(dev->queues);
	for (unsigned int i = 0; i < dev->worker_count; i++)
		worker_free(&dev->workers[i]);
	free(dev->workers);
	window_free(&dev->shm.window);
	free(dev);
}

int virtio_dev_keep_fd(struct virtio_dev *dev, int fd)
{
	int err = 0;

	for (unsigned int i = 0; !err && i < dev->worker_count; i++)
		err = worker_keep_fd(&dev->workers[i], fd);
	return err;
}

uint64_t virtio_core_counter(const struct virtio_dev *dev, enum virtq_counter counter)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < dev->queue_count; i++)
		sum += stat_read(&dev->queues[i].counters[counter]);
	return sum;
}

uint64_t virtio_counter(const struct virtio_dev *dev, unsigned int counter)
{
	return virtio_core_counter(dev, (enum virtq_counter)(VIRTQ_COUNTERS + counter));
}

const char *virtio_nth_counter(const struct virtio_dev *dev, unsigned int n, uint64_t *ret_sum)
{
	static const char *const names[VIRTQ_COUNTERS] = {
		[VIRTQ_CHAINS] = "chains",
		[VIRTQ_KICKS] = "kicks",
		[VIRTQ_INTERRUPTS] = "interrupts",
		[VIRTQ_SUPPRESSED] = "interrupts_suppressed",
	};

	if (n >= VIRTQ_COUNTERS + (dev->served_by ? 0 : counter_count(dev->class)))
		return NULL;
	*ret_sum = virtio_core_counter(dev, (enum virtq_counter)n);
	return n < VIRTQ_COUNTERS ? names[n] : dev->class->counters[n - VIRTQ_COUNTERS];
}
