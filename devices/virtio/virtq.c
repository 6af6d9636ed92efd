// SPDX-License-Identifier: Apache-2.0
/*
 * Split virtqueues (virtio 1.2, section 2.7).
 *
 * Everything in the rings may change while it is looked at. So each value is
 * loaded once, into this process's own memory, and only the copy is checked
 * and used: descriptors by fetch(), indices by atomic loads. A head names its
 * slot, so a head that is posted twice while in flight is found at once, and a
 * completion never has to look a chain up.
 */
#include "devices/virtio/virtq.h"

#include <assert.h>
#include <linux/virtio_ring.h>
#include <sys/mman.h>
#include "core/mem.h"
#include "core/util.h"
#include "devices/virtio/virtio.h"

/* One iovec of a block is kept back: chain_split() may have to cut one in two. */
#define WALK_IOV_MAX (CHAIN_IOV_MAX - 1)

static uint16_t load16(const void *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static void store16(void *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}

static struct vring_avail *avail_ring(const struct virtq *queue)
{
	return (struct vring_avail *)(void *)queue->avail;
}

static struct vring_used *used_ring(const struct virtq *queue)
{
	return (struct vring_used *)(void *)queue->used;
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

static size_t pool_size(const struct virtq *queue)
{
	return (size_t)queue->size_max * CHAIN_IOV_MAX * sizeof(*queue->pool);
}

/*
 * Only the blocks that are used are to cost memory. Therefore it is shared:
 * the kernel would back private memory with huge pages, and one block cost 2 MiB.
 */
static struct iovec *new_pool(const struct virtq *queue)
{
	void *pool = mmap(NULL, pool_size(queue), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return pool == MAP_FAILED ? NULL : pool;
}

int virtq_init(struct virtq *queue, struct virtio_dev *dev, unsigned int index, uint16_t size_max,
	       size_t request_size)
{
	*queue = (struct virtq){
		.dev = dev,
		.index = index,
		.size_max = size_max,
		.layout = { .size = size_max },
		.kick = { .fd = -1 },
		.request_size = request_size,
	};
	queue->slots = calloc(size_max, sizeof(*queue->slots));
	queue->pool = new_pool(queue);
	queue->free_blocks = calloc(size_max, sizeof(*queue->free_blocks));
	queue->requests = request_size ? calloc(size_max, request_size) : NULL;
	if (!queue->slots || !queue->pool || !queue->free_blocks ||
	    (request_size && !queue->requests))
		return -ENOMEM;
	return 0;
}

void virtq_free(struct virtq *queue)
{
	free(queue->slots);
	if (queue->pool)
		munmap(queue->pool, pool_size(queue));
	free(queue->free_blocks);
	free(queue->requests);
	util_closep(&queue->kick.fd);
}

int virtq_activate(struct virtq *queue, const struct mem *mem, uint64_t features)
{
	const struct virtq_layout *layout = &queue->layout;
	uint16_t size = layout->size;

	if (!size || (size & (size - 1)) || size > queue->size_max)
		return -EINVAL;
	if (layout->desc % VRING_DESC_ALIGN_SIZE || layout->driver % VRING_AVAIL_ALIGN_SIZE ||
	    layout->device % VRING_USED_ALIGN_SIZE)
		return -EINVAL;

	/* Each ring with the event index that may follow it. */
	queue->desc = mem_ptr(mem, layout->desc, size * sizeof(struct vring_desc));
	queue->avail = mem_ptr(mem, layout->driver,
			       sizeof(struct vring_avail) + (size + 1u) * sizeof(uint16_t));
	queue->used = mem_ptr(mem, layout->device,
			      sizeof(struct vring_used) + size * sizeof(struct vring_used_elem) +
				      sizeof(uint16_t));
	if (!queue->desc || !queue->avail || !queue->used)
		return -EINVAL;

	queue->size = size;
	queue->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	queue->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	queue->next_avail = 0;
	queue->next_used = queue->published = 0;
	queue->quiet = false;
	for (uint16_t i = 0; i < size; i++)
		queue->free_blocks[i] = i;
	queue->free_count = size;
	queue->active = true;
	return 0;
}

void virtq_deactivate(struct virtq *queue)
{
	if (queue->active)
		memset(queue->slots, 0, queue->size * sizeof(*queue->slots));
	queue->active = false;
}

/* ---- chains out of the ring ---- */

struct table {
	const struct mem *mem;
	const uint8_t *hva; /* NULL: it crosses regions, each entry is copied out */
	uint64_t gpa;
	uint32_t count;
	bool indirect;
};

/* The one look at a descriptor. */
static int fetch(const struct table *table, uint32_t index, struct vring_desc *ret_desc)
{
	struct vring_desc desc;

	if (table->hva) {
		memcpy(&desc, table->hva + index * sizeof(desc), sizeof(desc));
	} else {
		int err = mem_read(table->mem, table->gpa + index * sizeof(desc), &desc, sizeof(desc));

		if (err)
			return err;
	}
	/* The compiler must not go back to guest memory for it. */
	__asm__ volatile("" : "+m"(desc));
	*ret_desc = desc;
	return 0;
}

struct walk {
	struct chain *chain;
	unsigned int iov_count;
	uint64_t bytes;
	const char *fault; /* what the driver did wrong */
};

static bool add_buffer(struct walk *walk, const struct mem *mem, const struct vring_desc *desc)
{
	bool writable = desc->flags & VRING_DESC_F_WRITE;
	struct chain *chain = walk->chain;
	struct cursor *cursor = writable ? &chain->in : &chain->out;
	int count;

	if (!desc->len) {
		walk->fault = "an empty buffer";
		return false;
	}
	if (!writable && chain->in.count) {
		walk->fault = "a readable buffer behind a writable one";
		return false;
	}
	walk->bytes += desc->len;
	if (walk->bytes > UINT32_MAX) {
		walk->fault = "a chain of 4 GiB or more";
		return false;
	}
	count = mem_iov(mem, desc->addr, desc->len, chain->block + walk->iov_count,
			WALK_IOV_MAX - walk->iov_count);
	if (count < 0) {
		walk->fault = count == -EFAULT ? "a buffer outside of memory" : "too many buffers";
		return false;
	}
	if (!cursor->count)
		cursor->iov = chain->block + walk->iov_count;
	cursor->count += (unsigned int)count;
	cursor->left += desc->len;
	walk->iov_count += (unsigned int)count;
	return true;
}

/* Section 2.7.5.3: a descriptor may refer to a table, which then is the rest of the chain. */
static bool enter_indirect(struct walk *walk, const struct virtq *queue,
			   const struct vring_desc *desc, struct table *table)
{
	const struct mem *mem = table->mem;

	if (!queue->indirect)
		walk->fault = "an indirect table that was not agreed on";
	else if (table->indirect)
		walk->fault = "an indirect table within an indirect table";
	else if (desc->flags & VRING_DESC_F_NEXT)
		walk->fault = "an indirect table with a successor";
	else if (!desc->len || desc->len % sizeof(struct vring_desc))
		walk->fault = "an indirect table of odd length";
	if (walk->fault)
		return false;

	*table = (struct table){
		.mem = mem,
		.hva = mem_ptr(mem, desc->addr, desc->len),
		.gpa = desc->addr,
		.count = desc->len / (uint32_t)sizeof(struct vring_desc),
		.indirect = true,
	};
	return true;
}

static bool walk_chain(struct walk *walk, struct virtq *queue, uint16_t head)
{
	struct table table = {
		.mem = queue->dev->mem,
		.hva = queue->desc,
		.gpa = queue->layout.desc,
		.count = queue->size,
	};
	uint32_t index = head, steps = 0;
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
		if (fetch(&table, index, &desc)) {
			walk->fault = "an indirect table outside of memory";
			return false;
		}
		if (desc.flags & VRING_DESC_F_INDIRECT) {
			if (!enter_indirect(walk, queue, &desc, &table))
				return false;
			index = steps = 0;
			continue;
		}
		if (!add_buffer(walk, table.mem, &desc))
			return false;
		if (!(desc.flags & VRING_DESC_F_NEXT))
			return true;
		index = desc.next;
	}
}

/* Asks for doorbells, or no more of them, where there is no event index to do it. */
static void set_quiet(struct virtq *queue, bool quiet)
{
	if (queue->quiet == quiet)
		return;
	store16(&used_ring(queue)->flags, quiet ? VRING_USED_F_NO_NOTIFY : 0);
	queue->quiet = quiet;
}

/*
 * How many chains wait. When there are none a doorbell is asked for before the
 * last look, so that one which comes in between is not missed.
 */
static uint16_t waiting(struct virtq *queue)
{
	uint16_t count = load16(&avail_ring(queue)->idx) - queue->next_avail;

	if (count) {
		if (!queue->event_idx)
			set_quiet(queue, true);
		return count;
	}
	if (queue->event_idx)
		store16(avail_event(queue), queue->next_avail);
	else
		set_quiet(queue, false);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(&avail_ring(queue)->idx) - queue->next_avail;
}

static void release(struct virtq *queue, struct chain *chain)
{
	queue->free_blocks[queue->free_count++] =
		(uint16_t)((size_t)(chain->block - queue->pool) / CHAIN_IOV_MAX);
	chain->in_flight = false;
}

struct chain *virtq_pop(struct virtq *queue)
{
	struct walk walk = { 0 };
	struct chain *chain;
	uint16_t count, head;

	if (!queue->active || !virtio_running(queue->dev))
		return NULL;
	count = waiting(queue);
	if (!count)
		return NULL;
	/* A driver learns of free entries by publication: more than all of them cannot be out until then. */
	if ((uint16_t)(queue->next_avail - queue->published) + count > queue->size) {
		virtio_fail(queue->dev, "queue %u: the available index jumped by %u", queue->index,
			    count);
		return NULL;
	}
	head = load16(&avail_ring(queue)->ring[queue->next_avail & (queue->size - 1)]);
	if (head >= queue->size) {
		virtio_fail(queue->dev, "queue %u: no descriptor %u", queue->index, head);
		return NULL;
	}
	chain = &queue->slots[head];
	if (chain->in_flight) {
		virtio_fail(queue->dev, "queue %u: descriptor %u was posted twice", queue->index,
			    head);
		return NULL;
	}

	/* A block for each head, and heads in flight differ: there is one. */
	assert(queue->free_count);
	*chain = (struct chain){
		.queue = queue,
		.head = head,
		.in_flight = true,
		.block = queue->pool +
			 (size_t)queue->free_blocks[--queue->free_count] * CHAIN_IOV_MAX,
	};
	walk.chain = chain;
	if (!walk_chain(&walk, queue, head)) {
		release(queue, chain);
		virtio_fail(queue->dev, "queue %u: %s", queue->index, walk.fault);
		return NULL;
	}
	queue->next_avail++;
	return chain;
}

void virtq_unpop(struct virtq *queue, struct chain *chain)
{
	release(queue, chain);
	queue->next_avail--;
}

void virtq_done(struct virtq *queue, struct chain *chain)
{
	struct vring_used_elem *elem =
		&used_ring(queue)->ring[queue->next_used & (queue->size - 1)];

	elem->id = chain->head;
	elem->len = (uint32_t)(chain->in.done + chain->tail.done);
	queue->next_used++;
	release(queue, chain);
}

bool virtq_publish(struct virtq *queue)
{
	uint16_t old = queue->published;

	if (!queue->active || queue->next_used == old)
		return false;
	store16(&used_ring(queue)->idx, queue->next_used);
	queue->published = queue->next_used;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (queue->event_idx)
		return vring_need_event(load16(used_event(queue)), queue->next_used, old);
	return !(load16(&avail_ring(queue)->flags) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* ---- what travels with a chain ---- */

void *chain_request(struct chain *chain)
{
	return chain->queue->requests + chain->head * chain->queue->request_size;
}

/* ---- cursors ---- */

void cursor_advance(struct cursor *cursor, size_t len)
{
	assert(len <= cursor->left);
	cursor->left -= len;
	cursor->done += len;
	while (len) {
		size_t part = util_min(len, cursor->iov->iov_len);

		cursor->iov->iov_base = (uint8_t *)cursor->iov->iov_base + part;
		cursor->iov->iov_len -= part;
		len -= part;
		if (!cursor->iov->iov_len) {
			cursor->iov++;
			cursor->count--;
		}
	}
}

static size_t cursor_copy(struct cursor *cursor, void *buffer, size_t len, bool to_guest)
{
	uint8_t *at = buffer;
	size_t copied = 0;

	len = util_min(len, cursor->left);
	while (copied < len) {
		size_t part = util_min(len - copied, cursor->iov->iov_len);

		if (to_guest)
			memcpy(cursor->iov->iov_base, at + copied, part);
		else
			memcpy(at + copied, cursor->iov->iov_base, part);
		cursor_advance(cursor, part);
		copied += part;
	}
	return copied;
}

size_t chain_pull(struct chain *chain, void *buffer, size_t len)
{
	return cursor_copy(&chain->out, buffer, len, false);
}

size_t chain_push(struct chain *chain, const void *buffer, size_t len)
{
	return cursor_copy(&chain->in, (void *)buffer, len, true);
}

size_t chain_push_tail(struct chain *chain, const void *buffer, size_t len)
{
	return cursor_copy(&chain->tail, (void *)buffer, len, true);
}

int chain_split(struct chain *chain, size_t len)
{
	struct cursor *in = &chain->in, *tail = &chain->tail;
	size_t rest = len;
	struct iovec *last;

	if (in->left < len || !len)
		return -EINVAL;
	last = in->iov + in->count - 1;
	while (rest > last->iov_len) {
		rest -= last->iov_len;
		last--;
	}
	tail->count = (unsigned int)(in->iov + in->count - last);
	in->count -= tail->count;
	if (rest < last->iov_len) {
		/* The cut goes through this iovec: its front half stays, the others move up by one. */
		memmove(last + 1, last, tail->count * sizeof(*last));
		last[1].iov_base = (uint8_t *)last[0].iov_base + last[0].iov_len - rest;
		last[1].iov_len = rest;
		last[0].iov_len -= rest;
		in->count++;
		last++;
	}
	tail->iov = last;
	tail->left = len;
	in->left -= len;
	return 0;
}
