// SPDX-License-Identifier: Apache-2.0
/* Split virtqueues (virtio 1.2, section 2.7). A chain takes one entry of the available ring. */
#include <errno.h>
#include <linux/virtio_ring.h>
#include "core/mem.h"
#include "devices/virtio/ring.h"

static struct vring_avail *avail_ring(const struct virtq *queue)
{
	return (struct vring_avail *)(void *)queue->driver;
}

static struct vring_used *used_ring(const struct virtq *queue)
{
	return (struct vring_used *)(void *)queue->device;
}

/* The event indices follow the rings (section 2.7.10). */
static void *used_event(const struct virtq *queue)
{
	return &avail_ring(queue)->ring[queue->size];
}

static void *avail_event(const struct virtq *queue)
{
	return &used_ring(queue)->ring[queue->size];
}

static int split_map(struct virtq *queue, const struct mem *mem)
{
	const struct virtq_layout *layout = &queue->layout;
	size_t size = queue->size;

	if (layout->desc % VRING_DESC_ALIGN_SIZE || layout->driver % VRING_AVAIL_ALIGN_SIZE ||
	    layout->device % VRING_USED_ALIGN_SIZE)
		return -EINVAL;
	/* Each ring with the event index that may follow it. */
	queue->desc = mem_ptr(mem, layout->desc, size * sizeof(struct vring_desc));
	queue->driver = mem_ptr(mem, layout->driver,
				sizeof(struct vring_avail) + (size + 1) * sizeof(uint16_t));
	queue->device = mem_ptr(mem, layout->device,
				sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) +
					sizeof(uint16_t));
	return queue->desc && queue->driver && queue->device ? 0 : -EINVAL;
}

static uint16_t split_count(const struct virtq *queue)
{
	return ring_load(&avail_ring(queue)->idx) - queue->position.next_avail;
}

static bool split_waiting(const struct virtq *queue)
{
	return split_count(queue) != 0;
}

static bool split_walk(struct virtq *queue, struct walk *walk)
{
	struct walk_table table = { queue->desc, queue->layout.desc, queue->size };
	uint32_t index = walk->chain.head, steps = 0;
	bool indirect = false;
	struct vring_desc desc;

	for (;;) {
		if (index >= table.count) {
			walk->fault = "a descriptor beyond its table";
			return false;
		}
		/* A chain that is longer than its table comes back to where it was. */
		if (steps++ >= table.count) {
			walk->fault = "a loop of descriptors";
			return false;
		}
		if (!walk_fetch(walk, &table, index, &desc))
			return false;
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (indirect) {
				walk->fault = "an indirect table within an indirect table";
				return false;
			}
			if (!walk_indirect(walk, queue, desc.addr, desc.len,
					   desc.flags & VRING_DESC_F_NEXT, &table))
				return false;
			indirect = true;
			index = steps = 0;
			continue;
		}
		if (!walk_buffer(walk, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
		index = desc.next;
	}
}

static bool split_take(struct virtq *queue, struct walk *walk)
{
	uint16_t at = queue->position.next_avail & (queue->size - 1);

	/* A driver learns of free entries by publication: more than all of them cannot be out until then. */
	if (split_count(queue) > queue->size - queue->in_flight - queue->unpublished) {
		walk->fault = "the available index jumped";
		return false;
	}
	walk->chain.head = ring_load(&avail_ring(queue)->ring[at]);
	walk->chain.descs = 1;
	if (walk->chain.head >= queue->size) {
		walk->fault = "a head beyond the ring";
		return false;
	}
	return split_walk(queue, walk);
}

static void split_advance(struct virtq *queue, const struct chain *chain)
{
	queue->position.next_avail += chain->descs;
}

static void split_retreat(struct virtq *queue, const struct chain *chain)
{
	queue->position.next_avail -= chain->descs;
}

static void split_put(struct virtq *queue, const struct chain *chain, uint32_t len)
{
	uint16_t at = queue->position.next_used++ & (queue->size - 1);
	struct vring_used_elem *elem = &used_ring(queue)->ring[at];

	elem->id = chain->head;
	elem->len = len;
}

static void split_show(struct virtq *queue)
{
	ring_store(&used_ring(queue)->idx, queue->position.next_used);
}

static bool split_wants_interrupt(const struct virtq *queue, uint32_t count)
{
	uint16_t next = queue->position.next_used;

	if (queue->event_idx)
		return count > UINT16_MAX ||
		       vring_need_event(ring_load(used_event(queue)), next, (uint16_t)(next - count));
	return !(ring_load(&avail_ring(queue)->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

static void split_want_doorbell(struct virtq *queue, bool wanted)
{
	if (!queue->event_idx)
		ring_store(&used_ring(queue)->flags, wanted ? 0 : VRING_USED_F_NO_NOTIFY);
	else if (wanted)
		ring_store(avail_event(queue), (uint16_t)(queue->position.next_avail + queue->patience));
}

static int split_recover(const struct virtq *queue, struct virtq_position *ret)
{
	const uint16_t next = ring_load(&used_ring(queue)->idx);

	*ret = (struct virtq_position){ next, next, true, true };
	return 0;
}

const struct ring_ops ring_split = {
	.map = split_map,
	.waiting = split_waiting,
	.take = split_take,
	.advance = split_advance,
	.retreat = split_retreat,
	.put = split_put,
	.show = split_show,
	.wants_interrupt = split_wants_interrupt,
	.want_doorbell = split_want_doorbell,
	.recover = split_recover,
};
