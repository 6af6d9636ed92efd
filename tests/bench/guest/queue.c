// SPDX-License-Identifier: Apache-2.0
#include "virtio.h"

#define AVAIL (1 << VRING_PACKED_DESC_F_AVAIL)
#define USED (1 << VRING_PACKED_DESC_F_USED)

/* The driver's wrap counter is 1 in every other lap, the first among them. */
static bool first_lap(const struct queue *queue, uint16_t at)
{
	return !(at & queue->size);
}

static struct vring_packed_desc *packed_desc(struct queue *queue, uint16_t at)
{
	return (struct vring_packed_desc *)(void *)queue->desc + at % queue->size;
}

static struct vring_avail *avail(struct queue *queue)
{
	return (struct vring_avail *)(void *)queue->driver;
}

static struct vring_used *used(struct queue *queue)
{
	return (struct vring_used *)(void *)queue->device;
}

/* The event indices follow the rings. */
static volatile uint16_t *used_event(struct queue *queue)
{
	return &avail(queue)->ring[queue->size];
}

static volatile uint16_t *avail_event(struct queue *queue)
{
	return (volatile uint16_t *)(void *)&used(queue)->ring[queue->size];
}

uint16_t queue_size(uint32_t max)
{
	if (max > QUEUE_SIZE_MAX)
		return QUEUE_SIZE_MAX;
	return max & (max - 1) ? 0 : (uint16_t)max;
}

void queue_part(struct queue *queue, unsigned int request, unsigned int part, const void *data,
		uint32_t len, bool writable)
{
	unsigned int at = request * queue->stride + part;
	uint16_t flags = (uint16_t)((part + 1 < queue->stride ? VRING_DESC_F_NEXT : 0) |
				    (writable ? VRING_DESC_F_WRITE : 0));

	queue->parts[at] = (struct vring_packed_desc){
		.addr = (uintptr_t)data,
		.len = len,
		.id = (uint16_t)request,
		.flags = flags,
	};
	if (!queue->packed)
		((struct vring_desc *)(void *)queue->desc)[at] = (struct vring_desc){
			.addr = (uintptr_t)data,
			.len = len,
			.flags = flags,
			.next = (uint16_t)(at + 1),
		};
}

static void post_packed(struct queue *queue, unsigned int request)
{
	const struct vring_packed_desc *parts = queue->parts + request * queue->stride;

	/* The head comes last, as it is what makes the others visible. */
	for (unsigned int i = queue->stride; i--;) {
		uint16_t at = (uint16_t)(queue->posted + i);
		struct vring_packed_desc *desc = packed_desc(queue, at);

		desc->addr = parts[i].addr;
		desc->len = parts[i].len;
		desc->id = parts[i].id;
		__atomic_store_n(&desc->flags, parts[i].flags | (first_lap(queue, at) ? AVAIL : USED),
				 __ATOMIC_RELEASE);
	}
	queue->posted += (uint16_t)queue->stride;
}

void queue_post(struct queue *queue, unsigned int request)
{
	if (queue->packed)
		post_packed(queue, request);
	else
		avail(queue)->ring[queue->posted++ % queue->size] =
			(uint16_t)(request * queue->stride);
}

static bool wants_packed(struct queue *queue)
{
	const volatile struct vring_packed_desc_event *event = (void *)queue->device;
	uint16_t at;

	if (event->flags != VRING_PACKED_EVENT_FLAG_DESC)
		return event->flags == VRING_PACKED_EVENT_FLAG_ENABLE;
	at = event->off_wrap & ~(1 << VRING_PACKED_EVENT_F_WRAP_CTR);
	/* Of the lap that we are in, or of the one before. */
	at |= queue->posted & ~(queue->size - 1);
	if (event->off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != first_lap(queue, queue->posted))
		at -= queue->size;
	return vring_need_event(at, queue->posted, queue->published);
}

static bool wants_split(struct queue *queue)
{
	if (queue->event_idx)
		return vring_need_event(*avail_event(queue), queue->posted, queue->published);
	return !(*(volatile uint16_t *)&used(queue)->flags & VRING_USED_F_NO_NOTIFY);
}

void queue_ring(struct queue *queue)
{
	queue->dev->transport->ring(queue);
	queue->doorbells++;
}

void queue_publish(struct queue *queue)
{
	if (queue->posted == queue->published)
		return;
	if (!queue->packed)
		__atomic_store_n(&avail(queue)->idx, queue->posted, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->packed ? wants_packed(queue) : wants_split(queue))
		queue_ring(queue);
	queue->published = queue->posted;
}

static bool ready(struct queue *queue)
{
	uint16_t at = queue->taken, flags;

	if (!queue->packed)
		return __atomic_load_n(&used(queue)->idx, __ATOMIC_ACQUIRE) != at;
	flags = __atomic_load_n(&packed_desc(queue, at)->flags, __ATOMIC_ACQUIRE);
	return (flags & (AVAIL | USED)) == (first_lap(queue, at) ? AVAIL | USED : 0);
}

int queue_take(struct queue *queue)
{
	uint16_t at = queue->taken;

	if (!ready(queue))
		return -1;
	if (queue->packed) {
		queue->taken += (uint16_t)queue->stride;
		return packed_desc(queue, at)->id;
	}
	queue->taken++;
	return (int)(used(queue)->ring[at % queue->size].id / queue->stride);
}

void queue_want_interrupts(struct queue *queue, bool wanted)
{
	if (queue->packed) {
		struct vring_packed_desc_event *event = (void *)queue->driver;

		event->off_wrap =
			(uint16_t)(queue->taken % queue->size |
				   first_lap(queue, queue->taken) << VRING_PACKED_EVENT_F_WRAP_CTR);
		__atomic_store_n(&event->flags,
				 !wanted	  ? VRING_PACKED_EVENT_FLAG_DISABLE :
				 queue->event_idx ? VRING_PACKED_EVENT_FLAG_DESC :
						    VRING_PACKED_EVENT_FLAG_ENABLE,
				 __ATOMIC_RELEASE);
	} else if (queue->event_idx) {
		/* There is no "never": what has just passed comes again after 65536 requests. */
		*used_event(queue) = (uint16_t)(queue->taken - !wanted);
	} else {
		*(volatile uint16_t *)&avail(queue)->flags =
			wanted ? 0 : VRING_AVAIL_F_NO_INTERRUPT;
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void queue_wait(struct queue *queue)
{
	if (queue->polled) {
		cpu_pause();
		return;
	}
	/* Also one that came after what it tells of was found: until then there is no other. */
	if (interrupts_seen != interrupt_count) {
		interrupts_seen = interrupt_count;
		queue->dev->transport->acknowledge(queue->dev);
	}
	queue_want_interrupts(queue, true);
	if (!ready(queue))
		cpu_sleep();
	queue_want_interrupts(queue, false);
}
