// SPDX-License-Identifier: Apache-2.0
/*
 * A queue that a vhost serves instead of its worker.
 *
 * While it is lent its doorbell wakes the vhost alone, and interrupts go from
 * there to the irqfd where the transport has one for each queue. Where it has
 * not (MMIO has a status register to set first), they come by an eventfd past
 * the worker. A vector that is masked or moved costs nothing but a word about
 * the new eventfd: what is pending stays in the old one.
 *
 * The rings' positions travel as one number, and back when the queue stops; so
 * resets, saves and the worker find the queue as if it had never been away. A
 * vhost that ended without a word leaves them in the ring.
 */
#include <sys/eventfd.h>
#include "devices/vhost/vhost.h"
#include "devices/virtio/ring.h"
#include "devices/virtio/virtio.h"

#define BASE_WRAP 0x8000u
#define BASE_USED_SHIFT 16

static void on_call(struct event *event, uint32_t revents)
{
	struct virtq *queue = container_of(event, struct virtq, call);
	struct transport *transport = queue->dev->transport;

	(void)revents;
	virtq_count_core(queue, VIRTQ_INTERRUPTS);
	transport->raise_queue(transport, queue->index);
}

static void on_error(struct event *event, uint32_t revents)
{
	struct virtq *queue = container_of(event, struct virtq, error);

	(void)revents;
	/* It may have come while the queue was being stopped. */
	if (!queue->vhost)
		return;
	if (queue->dev->class->queue_error)
		queue->dev->class->queue_error(queue);
	else
		virtio_fail(queue->dev, "queue %u: vhost found its ring or buffers wrong",
			    queue->index);
}

static int watch(struct virtq *queue, struct event *event,
		 void (*fn)(struct event *event, uint32_t revents))
{
	*event = (struct event){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .fn = fn };
	return event->fd < 0 ? -errno : worker_watch(queue->worker, event, EPOLLIN | EPOLLET);
}

int virtq_lend_init(struct virtq *queue)
{
	int r = watch(queue, &queue->error, on_error);

	return r < 0 ? r : watch(queue, &queue->call, on_call);
}

static int call_fd(const struct virtq *queue)
{
	struct transport *transport = queue->dev->transport;

	return transport->interrupt_fd ? transport->interrupt_fd(transport, queue->index) :
					 queue->call.fd;
}

static uint32_t encode(const struct virtq *queue)
{
	const struct virtq_position *position = &queue->position;

	if (!virtio_has(queue->dev, VIRTIO_F_RING_PACKED))
		return position->next_avail;
	return position->next_avail | (position->avail_wrap ? BASE_WRAP : 0) |
	       (position->next_used | (position->used_wrap ? BASE_WRAP : 0)) << BASE_USED_SHIFT;
}

/*
 * A vhost that stops leaves nothing in flight, so that the next available is the
 * next used; not all of them (DPDK's) tell the latter.
 */
static int decode(struct virtq *queue, uint32_t base)
{
	uint16_t next = (uint16_t)base;
	bool wrap = true;

	if (virtio_has(queue->dev, VIRTIO_F_RING_PACKED)) {
		next = base & (BASE_WRAP - 1);
		wrap = base & BASE_WRAP;
		if (next >= queue->size)
			return -EPROTO;
	}
	queue->position = (struct virtq_position){ next, next, wrap, wrap };
	return 0;
}

static void lose(struct virtq *queue)
{
	virtio_lose(queue->dev, "queue %u: nobody knows how far its vhost has come", queue->index);
}

static int start_ring(struct virtq *queue, struct vhost *vhost, unsigned int ring)
{
	const struct vhost_ring lent = {
		.index = ring,
		.size = queue->size,
		.desc = queue->desc,
		.driver = queue->driver,
		.device = queue->device,
		.base = encode(queue),
		.kick = queue->kick.fd,
		.call = call_fd(queue),
		.error = queue->error.fd,
	};

	return vhost_start_ring(vhost, &lent);
}

int virtq_lend(struct virtq *queue, struct vhost *vhost, unsigned int ring)
{
	int r = start_ring(queue, vhost, ring);

	if (r < 0)
		return r;
	loop_del(&queue->worker->loop, &queue->kick);
	queue->vhost = vhost;
	queue->ring_index = ring;
	return 0;
}

void virtq_take_back(struct virtq *queue)
{
	uint32_t base;
	int r = vhost_stop_ring(queue->vhost, queue->ring_index, &base);

	queue->vhost = NULL;
	/* It was watched before. */
	(void)loop_add(&queue->worker->loop, &queue->kick, EPOLLIN | EPOLLET);
	r = r < 0 ? queue->ring->recover(queue, &queue->position) : decode(queue, base);
	/* A reset asks for no position. */
	if (r < 0 && !queue->dev->resetting && !queue->resetting)
		lose(queue);
}

void virtq_lend_again(struct virtq *queue)
{
	int r = queue->ring->recover(queue, &queue->position);

	if (!r)
		r = start_ring(queue, queue->vhost, queue->ring_index);
	if (r < 0)
		lose(queue);
}

int virtq_redirect(struct virtq *queue)
{
	return queue->vhost ? vhost_set_call(queue->vhost, queue->ring_index, call_fd(queue)) : 0;
}
