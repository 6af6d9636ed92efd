/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A class whose driver says when a chain is done, in what order, and how: by
 * the first byte of the chain and by writes to the configuration. The sample
 * devices of the registry complete theirs at once, so that without it no chain
 * would ever be in flight when something happens.
 */
#ifndef TESTS_FUZZ_HELD_H
#define TESTS_FUZZ_HELD_H

#include <assert.h>
#include "devices/virtio/virtio.h"

#define HELD_QUEUES 2
#define HELD_CHAINS 32
#define HELD_CONFIG 8 /* writing n to byte q completes the nth chain of queue q that is held */

/* The first byte of a chain. */
#define HELD_HOLD 0x01
#define HELD_SPLIT 0x02
#define HELD_LATER 0x04 /* it is put back until the next doorbell */
#define HELD_FAIL 0x80

struct held_queue {
	struct chain *chains[HELD_CHAINS]; /* in the order in which they were popped */
	unsigned int count, fixed; /* fixed: of these a later one was completed already */
};

struct held {
	struct virtio_dev dev;
	struct held_queue queues[VIRTIO_SETS_MAX * HELD_QUEUES];
};

static inline struct held_queue *held_queue(struct virtq *queue)
{
	return &container_of(queue->dev, struct held, dev)->queues[queue->index];
}

static inline void held_answer(struct chain *chain)
{
	uint8_t buffer[64];
	size_t len;

	while ((len = chain_pull(chain, buffer, sizeof(buffer))))
		chain_push(chain, buffer, len);
	chain_push_tail(chain, "end", 3);
	virtq_done(chain->queue, chain);
}

static inline void held_complete(struct held_queue *held, unsigned int n)
{
	struct chain *chain = held->chains[n];

	held->count--;
	memmove(held->chains + n, held->chains + n + 1, (held->count - n) * sizeof(chain));
	held->fixed = (unsigned int)util_max(n, held->fixed - (held->fixed > n));
	held_answer(chain);
}

static inline void held_keep(struct held_queue *held, struct chain *chain)
{
	for (unsigned int i = 0; i < held->count; i++)
		assert(held->chains[i] != chain);
	assert(held->count < HELD_CHAINS);
	held->chains[held->count++] = chain;
}

static inline int held_init(struct virtio_dev *dev)
{
	(void)dev;
	return 0;
}

static inline void held_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct held_queue *held = held_queue(queue);
	struct chain *chain;

	while ((chain = virtq_pop(queue))) {
		uint8_t what = 0;

		chain_pull(chain, &what, sizeof(what));
		if (what & HELD_FAIL)
			virtio_fail(dev, "it asked for that");
		if (what & HELD_LATER) {
			virtq_unpop(queue, chain);
			return;
		}
		if (what & HELD_SPLIT)
			(void)chain_split(chain, 3);
		if (what & HELD_HOLD) {
			held_keep(held, chain);
		} else {
			held->fixed = held->count;
			held_answer(chain);
		}
	}
}

/* What stays are the chains that were popped last, as the core wants it. */
static inline void held_queue_stop(struct virtq *queue)
{
	struct held_queue *held = held_queue(queue);

	while (held->fixed)
		held_complete(held, 0);
	held->count = 0;
}

static inline void held_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	for (uint32_t i = offset; i < offset + len && i < dev->queue_count; i++) {
		struct held_queue *held = held_queue(&dev->queues[i]);

		if (held->count)
			held_complete(held, dev->config[i] % held->count);
	}
}

static const uint16_t held_sizes[HELD_QUEUES] = { HELD_CHAINS, HELD_CHAINS };

static const struct opt held_opts[] = {
	VIRTIO_OPTS,
	VIRTIO_OPT_QUEUES("pairs of queues"),
	{ 0 },
};

static const struct virtio_class held_class = {
	.name = "held",
	.sample = "",
	.id = 42,
	.pci_class = 0x088000,
	.queue_sizes = held_sizes,
	.queue_count = HELD_QUEUES,
	.config_size = HELD_CONFIG,
	.dev_size = sizeof(struct held),
	.opts = held_opts,
	.conf_size = sizeof(struct virtio_conf),
	.init = held_init,
	.kick = held_kick,
	.queue_stop = held_queue_stop,
	.config_write = held_config_write,
};

#endif
