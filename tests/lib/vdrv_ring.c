// SPDX-License-Identifier: Apache-2.0
/*
 * The driver's side of the rings. What the device writes is believed as far as
 * it takes to report it: an id that is out of range frees nothing.
 */
#include <linux/virtio_pci.h>
#include <poll.h>
#include <sys/eventfd.h>
#include "core/util.h"
#include "tests/lib/vdrv.h"

#define PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define PACKED_USED (1u << VRING_PACKED_DESC_F_USED)
#define WRAP_BIT (1u << VRING_PACKED_EVENT_F_WRAP_CTR)

static uint16_t load16(const void *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static void store16(void *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}

static struct vring_desc *split_desc(const struct vdrv_queue *queue)
{
	return (struct vring_desc *)(void *)queue->desc;
}

static struct vring_packed_desc *packed_desc(const struct vdrv_queue *queue)
{
	return (struct vring_packed_desc *)(void *)queue->desc;
}

static struct vring_avail *avail_ring(const struct vdrv_queue *queue)
{
	return (struct vring_avail *)(void *)queue->driver;
}

static struct vring_used *used_ring(const struct vdrv_queue *queue)
{
	return (struct vring_used *)(void *)queue->device;
}

struct vdrv_areas vdrv_areas(const struct vdrv *vdrv, uint16_t size)
{
	const uint64_t event = sizeof(struct vring_packed_desc_event);

	if (vdrv->features >> VIRTIO_F_RING_PACKED & 1)
		return (struct vdrv_areas){ size * sizeof(struct vring_packed_desc), event, event };
	return (struct vdrv_areas){
		.desc = size * sizeof(struct vring_desc),
		.driver = sizeof(struct vring_avail) + (size + 1u) * sizeof(uint16_t),
		.device = sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) +
			  sizeof(uint16_t),
	};
}

/* ---- setting up ---- */

void vdrv_tell_queue(struct vdrv *vdrv, unsigned int queue, const struct virtq_layout *layout)
{
	vdrv_queue_set(vdrv, queue, VDRV_QUEUE_SIZE, layout->size);
	vdrv_set(vdrv, VDRV_DESC_LOW, (uint32_t)layout->desc);
	vdrv_set(vdrv, VDRV_DESC_HIGH, (uint32_t)(layout->desc >> 32));
	vdrv_set(vdrv, VDRV_DRIVER_LOW, (uint32_t)layout->driver);
	vdrv_set(vdrv, VDRV_DRIVER_HIGH, (uint32_t)(layout->driver >> 32));
	vdrv_set(vdrv, VDRV_DEVICE_LOW, (uint32_t)layout->device);
	vdrv_set(vdrv, VDRV_DEVICE_HIGH, (uint32_t)(layout->device >> 32));
	vdrv_set(vdrv, VDRV_QUEUE_READY, layout->ready);
	vdrv->queues[queue].layout = *layout;
}

int vdrv_place_queue(struct vdrv *vdrv, unsigned int index, const struct virtq_layout *layout)
{
	struct vdrv_queue *queue = &vdrv->queues[index];
	const struct vdrv_areas areas = vdrv_areas(vdrv, layout->size);
	uint8_t *desc = vdrv_ptr(vdrv, layout->desc, areas.desc);
	uint8_t *driver = vdrv_ptr(vdrv, layout->driver, areas.driver);
	uint8_t *device = vdrv_ptr(vdrv, layout->device, areas.device);
	uint16_t *links;

	if (!desc || !driver || !device)
		return -EFAULT;
	links = calloc(layout->size, 2 * sizeof(*links));
	if (!links)
		return -ENOMEM;
	free(queue->links);
	memset(desc, 0, areas.desc);
	memset(driver, 0, areas.driver);
	memset(device, 0, areas.device);
	*queue = (struct vdrv_queue){
		.vdrv = vdrv,
		.index = index,
		.packed = vdrv->features >> VIRTIO_F_RING_PACKED & 1,
		.event_idx = vdrv->features >> VIRTIO_RING_F_EVENT_IDX & 1,
		.desc = desc,
		.driver = driver,
		.device = device,
		.avail_wrap = true,
		.used_wrap = true,
		.free = layout->size,
		.links = links,
		.taken = links + layout->size,
		.area = queue->area,
		.area_len = queue->area_len,
	};
	for (uint16_t i = 0; i < layout->size; i++)
		links[i] = (uint16_t)(i + 1);
	vdrv_tell_queue(vdrv, index, layout);
	return 0;
}

/* Each area within one region: starts where it would cross into the next one move there. */
static uint64_t place(const struct vdrv *vdrv, uint64_t at, uint64_t len)
{
	uint64_t region = vdrv->setup.region;

	at = util_align_up(at, VRING_DESC_ALIGN_SIZE);
	if (region && at / region != (at + len - 1) / region)
		at = util_align_up(at, region);
	return at;
}

int vdrv_set_up_queue(struct vdrv *vdrv, unsigned int index, uint16_t size)
{
	struct vdrv_queue *queue = &vdrv->queues[index];
	struct virtq_layout layout = { .size = size, .ready = true };
	struct vdrv_areas areas;
	uint64_t len;

	if (!size)
		layout.size = (uint16_t)vdrv_queue_get(vdrv, index, VDRV_QUEUE_MAX);
	areas = vdrv_areas(vdrv, layout.size);
	len = vdrv->setup.region ? 3 * vdrv->setup.region :
				   areas.desc + areas.driver + areas.device + 3 * VRING_DESC_ALIGN_SIZE;
	if (len > queue->area_len) {
		uint64_t area = vdrv_alloc(vdrv, len);

		if (!area)
			return -ENOMEM;
		queue->area = area;
		queue->area_len = len;
	}
	layout.desc = place(vdrv, queue->area, areas.desc);
	layout.driver = place(vdrv, layout.desc + areas.desc, areas.driver);
	layout.device = place(vdrv, layout.driver + areas.driver, areas.device);
	return vdrv_place_queue(vdrv, index, &layout);
}

int vdrv_reset_queue(struct vdrv *vdrv, unsigned int queue)
{
	vdrv_queue_set(vdrv, queue, VDRV_QUEUE_RESET, 1);
	for (unsigned int us = 0; us < VDRV_TIMEOUT_MS * 1000; us += VDRV_POLL_US) {
		vdrv_turn(vdrv);
		if (!vdrv_queue_get(vdrv, queue, VDRV_QUEUE_RESET))
			return 0;
		usleep(VDRV_POLL_US);
	}
	return -ETIMEDOUT;
}

/* ---- posting ---- */

static uint16_t buffer_flags(const struct vdrv_buffer *buffer, bool last)
{
	return (uint16_t)((buffer->writable ? VRING_DESC_F_WRITE : 0) |
			  (last ? 0 : VRING_DESC_F_NEXT));
}

/* An indirect table, which is the same but for what stands behind len (sections 2.7.5.3 and 2.8.7). */
static int fill_table(const struct vdrv_queue *queue, const struct vdrv_buffer *buffers,
		      unsigned int count, uint64_t gpa)
{
	struct vring_desc *table = vdrv_ptr(queue->vdrv, gpa, count * sizeof(*table));
	struct vring_packed_desc *packed = (void *)table;

	if (!table)
		return -EFAULT;
	for (unsigned int i = 0; i < count; i++) {
		bool last = i + 1 == count;
		uint16_t flags = buffer_flags(&buffers[i], last);

		if (queue->packed)
			packed[i] = (struct vring_packed_desc){
				.addr = buffers[i].gpa,
				.len = buffers[i].len,
				/* NEXT is reserved here: the table's length says where the chain ends. */
				.flags = flags & VRING_DESC_F_WRITE,
			};
		else
			table[i] = (struct vring_desc){
				.addr = buffers[i].gpa,
				.len = buffers[i].len,
				.flags = flags,
				.next = last ? 0 : (uint16_t)(i + 1),
			};
	}
	return 0;
}

/* Section 2.8.1: what marks an entry as available in the current round. */
static uint16_t packed_avail_flags(const struct vdrv_queue *queue)
{
	return queue->avail_wrap ? PACKED_AVAIL : PACKED_USED;
}

static void packed_step(struct vdrv_queue *queue)
{
	if (++queue->next_avail == queue->layout.size) {
		queue->next_avail = 0;
		queue->avail_wrap = !queue->avail_wrap;
	}
}

static void post_packed(struct vdrv_queue *queue, const struct vdrv_buffer *buffers,
			unsigned int count, uint16_t id, uint16_t extra)
{
	struct vring_packed_desc *head = &packed_desc(queue)[queue->next_avail];
	uint16_t head_flags = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct vring_packed_desc *desc = &packed_desc(queue)[queue->next_avail];
		uint16_t flags = buffer_flags(&buffers[i], i + 1 == count) |
				 packed_avail_flags(queue) | extra;

		desc->addr = buffers[i].gpa;
		desc->len = buffers[i].len;
		desc->id = id;
		if (i)
			desc->flags = flags;
		else
			head_flags = flags;
		packed_step(queue);
	}
	store16(&head->flags, head_flags);
	queue->free_head = queue->links[id];
}

static void post_split(struct vdrv_queue *queue, const struct vdrv_buffer *buffers,
		       unsigned int count, uint16_t head, uint16_t extra)
{
	struct vring_avail *avail = avail_ring(queue);
	uint16_t index = head;

	for (unsigned int i = 0; i < count; i++) {
		uint16_t next = queue->links[index];

		split_desc(queue)[index] = (struct vring_desc){
			.addr = buffers[i].gpa,
			.len = buffers[i].len,
			.flags = buffer_flags(&buffers[i], i + 1 == count) | extra,
			.next = next,
		};
		index = next;
	}
	queue->free_head = index;
	avail->ring[queue->next_avail++ & (queue->layout.size - 1)] = head;
	store16(&avail->idx, queue->next_avail);
}

int vdrv_post(struct vdrv_queue *queue, const struct vdrv_buffer *buffers, unsigned int count,
	      uint64_t table)
{
	const struct vdrv_buffer indirect = { table, count * (uint32_t)sizeof(struct vring_desc), false };
	uint16_t id = queue->free_head, extra = 0;

	if (table) {
		int err = fill_table(queue, buffers, count, table);

		if (err)
			return err;
		buffers = &indirect;
		count = 1;
		extra = VRING_DESC_F_INDIRECT;
	}
	if (!count || count > queue->free)
		return -ENOSPC;
	queue->taken[id] = (uint16_t)count;
	queue->free = (uint16_t)(queue->free - count);
	queue->added = (uint16_t)(queue->added + (queue->packed ? count : 1));
	if (queue->packed)
		post_packed(queue, buffers, count, id, extra);
	else
		post_split(queue, buffers, count, id, extra);
	return id;
}

/* ---- doorbells ---- */

static bool packed_wants_doorbell(const struct vdrv_queue *queue)
{
	const struct vring_packed_desc_event *event = (void *)queue->device;
	uint16_t flags = load16(&event->flags), off_wrap = load16(&event->off_wrap), at;

	if (flags != VRING_PACKED_EVENT_FLAG_DESC)
		return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
	at = off_wrap & (uint16_t)~WRAP_BIT;
	if (!!(off_wrap & WRAP_BIT) != queue->avail_wrap)
		at = (uint16_t)(at - queue->layout.size);
	return vring_need_event(at, queue->next_avail, (uint16_t)(queue->next_avail - queue->added));
}

static bool wants_doorbell(const struct vdrv_queue *queue)
{
	const struct vring_used *used = used_ring(queue);

	if (queue->packed)
		return packed_wants_doorbell(queue);
	if (queue->event_idx)
		return vring_need_event(load16(&used->ring[queue->layout.size]), queue->next_avail,
					(uint16_t)(queue->next_avail - queue->added));
	return !(load16(&used->flags) & VRING_USED_F_NO_NOTIFY);
}

void vdrv_ring(struct vdrv_queue *queue)
{
	const struct vdrv *vdrv = queue->vdrv;
	uint32_t value = queue->index, len = 2;

	/* Section 2.9. */
	if (vdrv->features >> VIRTIO_F_NOTIFICATION_DATA & 1) {
		value |= (uint32_t)queue->next_avail << 16;
		if (queue->packed && queue->avail_wrap)
			value |= 1u << 31;
		len = 4;
	}
	if (vdrv->setup.transport == VDRV_MMIO)
		len = 4;
	queue->doorbells++;
	bus_write(vdrv->notify_bus, vdrv->notify + (uint64_t)queue->index * vdrv->notify_multiplier,
		  &value, len);
}

bool vdrv_kick(struct vdrv_queue *queue)
{
	bool wanted;

	/* Between the store of the index and the look at what the device wants. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = wants_doorbell(queue);
	queue->added = 0;
	if (wanted)
		vdrv_ring(queue);
	else
		queue->suppressed++;
	return wanted;
}

/* ---- taking ---- */

bool vdrv_used(const struct vdrv_queue *queue)
{
	uint16_t flags;

	if (!queue->packed)
		return load16(&used_ring(queue)->idx) != queue->next_used;
	flags = load16(&packed_desc(queue)[queue->next_used].flags);
	return !!(flags & PACKED_AVAIL) == queue->used_wrap &&
	       !!(flags & PACKED_USED) == queue->used_wrap;
}

static void free_split(struct vdrv_queue *queue, uint16_t id)
{
	uint16_t last = id;

	for (uint16_t i = 1; i < queue->taken[id]; i++)
		last = queue->links[last];
	queue->links[last] = queue->free_head;
	queue->free_head = id;
}

static void free_packed(struct vdrv_queue *queue, uint16_t id)
{
	queue->next_used = (uint16_t)(queue->next_used + queue->taken[id]);
	if (queue->next_used >= queue->layout.size) {
		queue->next_used = (uint16_t)(queue->next_used - queue->layout.size);
		queue->used_wrap = !queue->used_wrap;
	}
	queue->links[id] = queue->free_head;
	queue->free_head = id;
}

bool vdrv_take(struct vdrv_queue *queue, uint16_t *ret_id, uint32_t *ret_len)
{
	uint32_t id, len;

	if (!vdrv_used(queue))
		return false;
	if (queue->packed) {
		const struct vring_packed_desc *desc = &packed_desc(queue)[queue->next_used];

		id = desc->id;
		len = desc->len;
	} else {
		const struct vring_used_elem *elem =
			&used_ring(queue)->ring[queue->next_used & (queue->layout.size - 1)];

		id = elem->id;
		len = elem->len;
		queue->next_used++;
	}
	if (id < queue->layout.size && queue->taken[id]) {
		if (queue->packed)
			free_packed(queue, (uint16_t)id);
		else
			free_split(queue, (uint16_t)id);
		queue->free = (uint16_t)(queue->free + queue->taken[id]);
		queue->taken[id] = 0;
	}
	*ret_id = (uint16_t)id;
	if (ret_len)
		*ret_len = len;
	return true;
}

static void packed_arm(struct vdrv_queue *queue, uint16_t n)
{
	struct vring_packed_desc_event *event = (void *)queue->driver;
	uint16_t at = (uint16_t)(queue->next_used + n - 1), flags = VRING_PACKED_EVENT_FLAG_DISABLE;
	bool wrap = queue->used_wrap;

	if (n && queue->event_idx) {
		if (at >= queue->layout.size) {
			at = (uint16_t)(at - queue->layout.size);
			wrap = !wrap;
		}
		store16(&event->off_wrap, (uint16_t)(at | (wrap ? WRAP_BIT : 0)));
		flags = VRING_PACKED_EVENT_FLAG_DESC;
	} else if (n) {
		flags = VRING_PACKED_EVENT_FLAG_ENABLE;
	}
	store16(&event->flags, flags);
}

bool vdrv_arm(struct vdrv_queue *queue, uint16_t n)
{
	struct vring_avail *avail = avail_ring(queue);

	if (queue->packed)
		packed_arm(queue, n);
	else if (queue->event_idx)
		/* For none: the one that comes last of all. */
		store16(&avail->ring[queue->layout.size], (uint16_t)(queue->next_used + n - 1));
	else
		store16(&avail->flags, n ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return vdrv_used(queue);
}

/* Once: until the interrupt's eventfd or, without threads, the worker's loop has something. */
static int wait_once(struct vdrv_queue *queue, int timeout_ms)
{
	struct vdrv *vdrv = queue->vdrv;
	const bool one = vdrv->line_count == 1;
	struct pollfd line = { .fd = vdrv->lines[one ? 0 : queue->index], .events = POLLIN };

	if (!vdrv->running)
		return loop_turn(&vdrv->dev->queues[queue->index].worker->loop, timeout_ms);
	return poll(&line, 1, timeout_ms);
}

int vdrv_wait(struct vdrv_queue *queue, int timeout_ms)
{
	uint64_t end = util_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	while (!vdrv_arm(queue, 1)) {
		uint64_t now = util_now_ns();

		if (now >= end)
			return -ETIMEDOUT;
		wait_once(queue, (int)((end - now) / NS_PER_MS + 1));
		vdrv_interrupts(queue->vdrv, queue->index);
	}
	return 0;
}

/* ---- lies ---- */

void vdrv_put(struct vdrv_queue *queue, uint16_t slot, const struct vring_desc *desc)
{
	struct vring_packed_desc *packed = &packed_desc(queue)[slot];

	if (!queue->packed) {
		split_desc(queue)[slot] = *desc;
		return;
	}
	packed->addr = desc->addr;
	packed->len = desc->len;
	packed->id = desc->next;
	packed->flags = (uint16_t)((packed->flags & (PACKED_AVAIL | PACKED_USED)) |
				   (desc->flags & ~(PACKED_AVAIL | PACKED_USED)));
}

void vdrv_expose(struct vdrv_queue *queue, uint16_t head, uint16_t count)
{
	struct vring_avail *avail = avail_ring(queue);

	if (!queue->packed) {
		avail->ring[queue->next_avail++ & (queue->layout.size - 1)] = head;
		store16(&avail->idx, queue->next_avail);
		queue->added++;
		return;
	}
	/* The first one last, or the device could find half a chain. */
	for (uint16_t i = count; i-- > 0;) {
		uint16_t slot = (uint16_t)(queue->next_avail + i);
		bool wrap = queue->avail_wrap != (slot >= queue->layout.size);
		struct vring_packed_desc *desc = &packed_desc(queue)[slot % queue->layout.size];
		uint16_t flags = (uint16_t)(desc->flags & ~(PACKED_AVAIL | PACKED_USED));

		store16(&desc->flags, (uint16_t)(flags | (wrap ? PACKED_AVAIL : PACKED_USED)));
	}
	for (uint16_t i = 0; i < count; i++)
		packed_step(queue);
	queue->added = (uint16_t)(queue->added + count);
}

void vdrv_jump(struct vdrv_queue *queue, uint16_t by)
{
	queue->next_avail = (uint16_t)(queue->next_avail + by);
	store16(&avail_ring(queue)->idx, queue->next_avail);
}
