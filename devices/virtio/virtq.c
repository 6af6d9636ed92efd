// SPDX-License-Identifier: Apache-2.0
/*
 * Virtqueues, whichever layout their rings have.
 *
 * Everything in the rings may change while it is looked at. So each value is
 * loaded once, into this process's own memory, and only the copy is checked
 * and used. A head names its slot, so one that is posted twice while in flight
 * is found at once, and a completion never has to look a chain up.
 *
 * Entries of the ring go from available through in flight (popped, not done)
 * and unpublished (done, and the driver cannot know) back to the driver; the
 * sum of the two in between never exceeds the ring.
 */
#include "devices/virtio/virtq.h"

#include <assert.h>
#include <linux/virtio_ring.h>
#include <sys/mman.h>
#include "core/mem.h"
#include "core/util.h"
#include "devices/virtio/ring.h"
#include "devices/virtio/virtio.h"

/* Entries: fewer at a time, and the two sides would fight for the ring's cache lines. */
#define SHOW_BATCH 16

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
		.call = { .fd = -1 },
		.error = { .fd = -1 },
		.request_size = request_size,
	};
	virtq_rewind(queue);
	queue->slots = calloc(size_max, sizeof(*queue->slots));
	queue->pool = new_pool(queue);
	queue->free_blocks = calloc(size_max, sizeof(*queue->free_blocks));
	queue->order = calloc(size_max, sizeof(*queue->order));
	queue->requests = request_size ? calloc(size_max, request_size) : NULL;
	if (!queue->slots || !queue->pool || !queue->free_blocks || !queue->order ||
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
	free(queue->order);
	free(queue->requests);
	util_closep(&queue->kick.fd);
	util_closep(&queue->call.fd);
	util_closep(&queue->error.fd);
}

int virtq_activate(struct virtq *queue, const struct mem *mem, uint64_t features)
{
	bool packed = features >> VIRTIO_F_RING_PACKED & 1;
	uint16_t size = queue->layout.size;
	int err;

	/* Only a split ring counts on its size being a power of two. */
	if (!size || size > queue->size_max || (!packed && (size & (size - 1))))
		return -EINVAL;
	queue->size = size;
	queue->ring = packed ? &ring_packed : &ring_split;
	err = queue->ring->map(queue, mem);
	if (err)
		return err;
	queue->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	queue->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	queue->in_order = features >> VIRTIO_F_IN_ORDER & 1;
	queue->empty = queue->quiet = false;
	queue->unpublished = queue->in_flight = 0;
	queue->unnoticed = 0;
	queue->patience = 0;
	queue->order_first = queue->order_count = 0;
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
	/* Each chain takes as many entries when it is used as it did when it was available. */
	queue->position.next_avail = queue->position.next_used;
	queue->position.avail_wrap = queue->position.used_wrap;
}

void virtq_rewind(struct virtq *queue)
{
	queue->position = (struct virtq_position){ .avail_wrap = true, .used_wrap = true };
}

/* ---- the way of a chain ---- */

static void release(struct virtq *queue, struct chain *chain)
{
	queue->free_blocks[queue->free_count++] =
		(uint16_t)((size_t)(chain->block - queue->pool) / CHAIN_IOV_MAX);
	queue->in_flight -= chain->descs;
	chain->in_flight = false;
}

static struct chain *fault(struct virtq *queue, const char *what)
{
	virtio_fail(queue->dev, "queue %u: %s", queue->index, what);
	return NULL;
}

/* Puts what the walk found into its slot. */
static struct chain *admit(struct virtq *queue, const struct walk *walk)
{
	struct chain *chain = &queue->slots[walk->chain.head];

	if (chain->in_flight)
		return fault(queue, "a head that is in flight was posted again");
	*chain = walk->chain;
	queue->free_count--;
	queue->in_flight += chain->descs;
	if (queue->in_order)
		queue->order[(queue->order_first + queue->order_count++) % queue->size] =
			chain->head;
	queue->ring->advance(queue, chain);
	virtq_count_core(queue, VIRTQ_CHAINS);
	return chain;
}

struct chain *virtq_pop(struct virtq *queue)
{
	struct walk walk = {
		.mem = queue->dev->mem,
		.chain = { .queue = queue, .in_flight = true },
	};

	if (!queue->active || virtio_failed(queue->dev))
		return NULL;
	queue->empty = !queue->ring->waiting(queue);
	if (queue->empty)
		return NULL;
	if (!queue->quiet) {
		queue->ring->want_doorbell(queue, false);
		queue->quiet = true;
	}
	/* More chains than the ring has entries: then there is no block left either. */
	if (!queue->free_count)
		return fault(queue, "more chains than entries");
	walk.chain.block = queue->pool +
			   (size_t)queue->free_blocks[queue->free_count - 1] * CHAIN_IOV_MAX;
	if (!queue->ring->take(queue, &walk))
		return fault(queue, walk.fault);
	return admit(queue, &walk);
}

void virtq_unpop(struct virtq *queue, struct chain *chain)
{
	queue->ring->retreat(queue, chain);
	if (queue->in_order)
		queue->order_count--;
	release(queue, chain);
}

static void give_back(struct virtq *queue, struct chain *chain)
{
	queue->ring->put(queue, chain, (uint32_t)(chain->in.done + chain->tail.done));
	queue->unpublished += chain->descs;
	release(queue, chain);
}

static void finish(struct virtq *queue, struct chain *chain)
{
	if (!queue->in_order) {
		give_back(queue, chain);
		return;
	}
	chain->returned = true;
	while (queue->order_count) {
		chain = &queue->slots[queue->order[queue->order_first]];
		if (!chain->returned)
			return;
		queue->order_first = (queue->order_first + 1) % queue->size;
		queue->order_count--;
		give_back(queue, chain);
	}
}

void virtq_done_together(struct virtq *queue, struct chain *const *chains, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		finish(queue, chains[i]);
	/* In a long turn the driver can begin with what there is. */
	if (queue->unpublished >= SHOW_BATCH)
		virtq_show(queue);
}

void virtq_done(struct virtq *queue, struct chain *chain)
{
	virtq_done_together(queue, &chain, 1);
}

/* ---- once per turn ---- */

static void show(struct virtq *queue)
{
	if (!queue->unpublished)
		return;
	queue->ring->show(queue);
	queue->unnoticed += queue->unpublished;
	queue->unpublished = 0;
}

void virtq_publish(struct virtq *queue)
{
	struct transport *transport = queue->dev->transport;
	bool wanted;

	if (!queue->active)
		return;
	show(queue);
	if (!queue->unnoticed)
		return;
	/* The driver says what it wants, and then looks; we show, and then look what it wants. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wanted = queue->ring->wants_interrupt(queue, queue->unnoticed);
	queue->unnoticed = 0;
	virtq_count_core(queue, wanted ? VIRTQ_INTERRUPTS : VIRTQ_SUPPRESSED);
	if (wanted)
		transport->raise_queue(transport, queue->index);
}

/* A driver with event indices says where it wants an interrupt; another one would get too many. */
void virtq_show(struct virtq *queue)
{
	if (queue->event_idx)
		virtq_publish(queue);
	else
		show(queue);
}

bool virtq_waiting(const struct virtq *queue)
{
	return queue->active && queue->empty && queue->ring->waiting(queue);
}

bool virtq_arm(struct virtq *queue)
{
	if (!queue->active || !queue->empty)
		return false;
	queue->ring->want_doorbell(queue, true);
	queue->empty = queue->quiet = false;
	/* What came before the driver could know is to be found by this look. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return queue->ring->waiting(queue);
}
