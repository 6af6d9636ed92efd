// SPDX-License-Identifier: Apache-2.0
/*
 * Packed virtqueues (virtio 1.2, section 2.8): one ring, in which used entries
 * overwrite descriptors. Both sides go round it, each with a wrap counter that
 * says what the flags of this round look like.
 *
 * A driver reads used entries in the ring's order. So what was returned becomes
 * visible all at once, when the flags of its first entry are written, which are
 * held back until then.
 *
 * Buffer ids have to be below the queue's size and differ while they are in
 * flight, as those of all known drivers do: they are what slots go by.
 */
#include <errno.h>
#include <linux/virtio_ring.h>
#include "core/mem.h"
#include "devices/virtio/ring.h"

#define DESC_ALIGN 16
#define EVENT_ALIGN 4
#define FLAG_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define FLAG_USED (1u << VRING_PACKED_DESC_F_USED)
#define EVENT_WRAP (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static struct vring_packed_desc *packed_desc(const struct virtq *queue, uint32_t index)
{
	return (struct vring_packed_desc *)(void *)queue->desc + index;
}

static struct vring_packed_desc_event *packed_event(uint8_t *area)
{
	return (struct vring_packed_desc_event *)(void *)area;
}

static int packed_map(struct virtq *queue, const struct mem *mem)
{
	const struct virtq_layout *layout = &queue->layout;

	if (layout->desc % DESC_ALIGN || layout->driver % EVENT_ALIGN || layout->device % EVENT_ALIGN)
		return -EINVAL;
	queue->desc = mem_ptr(mem, layout->desc, queue->size * sizeof(struct vring_packed_desc));
	queue->driver = mem_ptr(mem, layout->driver, sizeof(struct vring_packed_desc_event));
	queue->device = mem_ptr(mem, layout->device, sizeof(struct vring_packed_desc_event));
	return queue->desc && queue->driver && queue->device ? 0 : -EINVAL;
}

/* Section 2.8.1: available in this round when one flag is as the wrap counter and the other is not. */
static bool packed_waiting(const struct virtq *queue)
{
	uint16_t flags = ring_load(&packed_desc(queue, queue->position.next_avail)->flags);
	bool avail = flags & FLAG_AVAIL, used = flags & FLAG_USED;

	return avail == queue->position.avail_wrap && used != avail;
}

static bool packed_table(struct walk *walk, const struct walk_table *table)
{
	struct vring_packed_desc desc;

	/* Section 2.8.7: all entries, whatever their ids and NEXT flags say. */
	for (uint32_t i = 0; i < table->count; i++) {
		if (!walk_fetch(walk, table, i, &desc))
			return false;
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			walk->fault = "an indirect table within an indirect table";
			return false;
		}
		if (!walk_buffer(walk, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE))
			return false;
	}
	return true;
}

static bool packed_walk(struct virtq *queue, struct walk *walk)
{
	const struct walk_table ring = { queue->desc, queue->layout.desc, queue->size };
	uint32_t room = (uint32_t)queue->size - queue->in_flight - queue->unpublished;
	uint32_t index = queue->position.next_avail;
	struct vring_packed_desc desc;
	struct walk_table table;

	do {
		/* An entry that was not returned yet cannot be available again. */
		if (walk->chain.descs == room) {
			walk->fault = "a chain longer than what is free of the ring";
			return false;
		}
		if (!walk_fetch(walk, &ring, index, &desc))
			return false;
		walk->chain.descs++;
		index = index + 1 == queue->size ? 0 : index + 1;
		if (!(desc.flags & VRING_DESC_F_INDIRECT)) {
			if (!walk_buffer(walk, desc.addr, desc.len, desc.flags & VRING_DESC_F_WRITE))
				return false;
		} else if (walk->chain.descs > 1) {
			walk->fault = "an indirect table within a chain";
			return false;
		} else if (!walk_indirect(walk, queue, desc.addr, desc.len,
					  desc.flags & VRING_DESC_F_NEXT, &table) ||
			   !packed_table(walk, &table)) {
			return false;
		}
	} while (desc.flags & VRING_DESC_F_NEXT);
	/* Section 2.8.6: the id stands in the last one. */
	walk->chain.head = desc.id;
	return true;
}

static bool packed_take(struct virtq *queue, struct walk *walk)
{
	if (!packed_walk(queue, walk))
		return false;
	if (walk->chain.head >= queue->size) {
		walk->fault = "a buffer id beyond the ring";
		return false;
	}
	return true;
}

static void packed_advance(struct virtq *queue, const struct chain *chain)
{
	struct virtq_position *position = &queue->position;

	position->next_avail += chain->descs;
	if (position->next_avail >= queue->size) {
		position->next_avail -= queue->size;
		position->avail_wrap = !position->avail_wrap;
	}
}

static void packed_retreat(struct virtq *queue, const struct chain *chain)
{
	struct virtq_position *position = &queue->position;

	if (position->next_avail < chain->descs) {
		position->next_avail += queue->size;
		position->avail_wrap = !position->avail_wrap;
	}
	position->next_avail -= chain->descs;
}

static void packed_put(struct virtq *queue, const struct chain *chain, uint32_t len)
{
	struct virtq_position *position = &queue->position;
	struct vring_packed_desc *desc = packed_desc(queue, position->next_used);
	uint16_t flags = (uint16_t)((position->used_wrap ? FLAG_AVAIL | FLAG_USED : 0) |
				    (len ? VRING_DESC_F_WRITE : 0));

	desc->id = chain->head;
	desc->len = len;
	if (queue->unpublished)
		ring_store(&desc->flags, flags);
	else
		queue->held_flags = flags;
	position->next_used += chain->descs;
	if (position->next_used >= queue->size) {
		position->next_used -= queue->size;
		position->used_wrap = !position->used_wrap;
	}
}

/* A place in two rounds of the ring, after which everything repeats. */
static uint32_t packed_place(const struct virtq *queue, uint16_t index, bool wrap)
{
	return (index + (wrap ? 0u : queue->size)) % (2u * queue->size);
}

/* Whether the entry that the driver waits for is one of the last count. */
static bool packed_event_passed(const struct virtq *queue, uint16_t off_wrap, uint32_t count)
{
	const struct virtq_position *position = &queue->position;
	uint32_t next = packed_place(queue, position->next_used, position->used_wrap);
	uint32_t event = packed_place(queue, off_wrap & (EVENT_WRAP - 1), off_wrap & EVENT_WRAP);
	uint32_t behind = next > event ? next - event : next + 2u * queue->size - event;

	return behind <= count;
}

static void packed_show(struct virtq *queue)
{
	uint16_t next = queue->position.next_used, count = queue->unpublished;
	uint16_t first = (uint16_t)(next >= count ? next - count : next + queue->size - count);

	ring_store(&packed_desc(queue, first)->flags, queue->held_flags);
}

static bool packed_wants_interrupt(const struct virtq *queue, uint32_t count)
{
	const struct vring_packed_desc_event *event = packed_event(queue->driver);

	switch (ring_load(&event->flags)) {
	case VRING_PACKED_EVENT_FLAG_DISABLE:
		return false;
	case VRING_PACKED_EVENT_FLAG_DESC:
		return !queue->event_idx ||
		       packed_event_passed(queue, ring_load(&event->off_wrap), count);
	default:
		return true;
	}
}

static void packed_want_doorbell(struct virtq *queue, bool wanted)
{
	struct vring_packed_desc_event *event = packed_event(queue->device);
	const uint32_t place = (uint32_t)queue->position.next_avail + queue->patience;
	const bool laps = place >= queue->size;

	/* A place where to ring is none for never: it comes round again in every other lap. */
	if (wanted && queue->event_idx) {
		ring_store(&event->off_wrap,
			   (uint16_t)((laps ? place - queue->size : place) |
				      (queue->position.avail_wrap != laps ? EVENT_WRAP : 0)));
		ring_store(&event->flags, VRING_PACKED_EVENT_FLAG_DESC);
	} else {
		ring_store(&event->flags, wanted ? VRING_PACKED_EVENT_FLAG_ENABLE :
						   VRING_PACKED_EVENT_FLAG_DISABLE);
	}
}

/*
 * Whether the device has come to this entry: it has used the one before, and not
 * this one since. The driver may be at work on both, in their order, so this one
 * is looked at first.
 */
static bool packed_came_to(const struct virtq *queue, uint16_t index, bool *ret_wrap)
{
	const uint16_t both = FLAG_AVAIL | FLAG_USED;
	const uint16_t here = ring_load(&packed_desc(queue, index)->flags) & both;
	const uint16_t before =
		ring_load(&packed_desc(queue, (index ? index : queue->size) - 1u)->flags) & both;
	const bool wrap = index ? before : !before;

	if ((before && before != both) || here == (wrap ? both : 0))
		return false;
	*ret_wrap = wrap;
	return true;
}

/* All entries wait: where the driver has come to, it cannot go on. */
static uint16_t packed_full_at(const struct virtq *queue)
{
	const uint16_t first = ring_load(&packed_desc(queue, 0)->flags) & FLAG_AVAIL;
	uint16_t index = 1;

	while (index < queue->size && (ring_load(&packed_desc(queue, index)->flags) & FLAG_AVAIL) == first)
		index++;
	return index < queue->size ? index : 0;
}

static int packed_recover(const struct virtq *queue, struct virtq_position *ret)
{
	unsigned int found = 0;
	uint16_t next = 0;
	bool wrap = false;

	/* Used entries stand for others: of a chain that has several, or of those before it. */
	if (!queue->indirect || queue->in_order)
		return -ENODATA;
	for (uint16_t index = 0; index < queue->size; index++) {
		/* A driver may make chains all the same. One of two whose head was used is not seen. */
		if (ring_load(&packed_desc(queue, index)->flags) & VRING_DESC_F_NEXT)
			return -ENODATA;
		if (packed_came_to(queue, index, &wrap)) {
			next = index;
			found++;
		}
	}
	if (!found) {
		next = packed_full_at(queue);
		wrap = ring_load(&packed_desc(queue, next)->flags) & FLAG_AVAIL;
	}
	if (found > 1)
		return -ENODATA;
	*ret = (struct virtq_position){ next, next, wrap, wrap };
	return 0;
}

const struct ring_ops ring_packed = {
	.map = packed_map,
	.waiting = packed_waiting,
	.take = packed_take,
	.advance = packed_advance,
	.retreat = packed_retreat,
	.put = packed_put,
	.show = packed_show,
	.wants_interrupt = packed_wants_interrupt,
	.want_doorbell = packed_want_doorbell,
	.recover = packed_recover,
};
