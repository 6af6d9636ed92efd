/* SPDX-License-Identifier: Apache-2.0 */
/* A device for tests of what is around devices: it answers with what it was asked. */
#ifndef TESTS_UNIT_FAKE_H
#define TESTS_UNIT_FAKE_H

#include <sys/eventfd.h>
#include "tests/unit/driver.h"

#define FAKE_FEATURE 5       /* offered */
#define FAKE_WITHHELD 6      /* of the class, but init takes it back */
#define FAKE_CONFIG_SIZE 22  /* of which the last word ends in the middle of a register */
#define FAKE_QUEUES 3        /* of each set */
#define FAKE_QUEUE_SIZE 64   /* the smallest of its queues' */
#define FAKE_ANSWER_MAX 4096
#define FAKE_MOOD_MAX 5
#define FAKE_SHM_ID 3

struct fake_conf {
	struct virtio_conf virtio;
	int init_error, start_error;
	int queue_error;       /* of queue_start */
	unsigned int bad_queue; /* and for which */
	uint64_t shm;        /* bytes of shared memory; 0: none */
	bool hold;           /* chains stay in flight */
	bool fail_in_config; /* a configuration write is a fault of the guest's */
	/* An eventfd, without which no queue stops, as if a disk did not answer; 0: none. */
	int gate;
};

/* Each belongs to its queue's worker. */
struct fake_queue {
	unsigned int starts, stops, resets, kicks, held;
	struct chain *last; /* of those held */
	pthread_t thread;   /* which kicked it last */
};

struct fake_state {
	uint32_t mood; /* up to FAKE_MOOD_MAX */
	uint32_t zero;
};

struct fake {
	struct virtio_dev dev;
	const struct fake_conf *conf;
	unsigned int starts, resets, loads, frees;
	struct fake_queue queues[VIRTIO_QUEUES_MAX];
	unsigned int config_writes;
	uint32_t config_offset, config_len;
	struct fake_state state;
};

enum { FAKE_CHAINS, FAKE_BYTES };

static const char *const fake_counters[] = {
	[FAKE_CHAINS] = "fakes",
	[FAKE_BYTES] = "fake_bytes",
	NULL,
};

static inline struct fake *fake_of(struct virtio_dev *dev)
{
	return container_of(dev, struct fake, dev);
}

static inline struct fake_queue *fake_queue_of(const struct virtq *queue)
{
	return &fake_of(queue->dev)->queues[queue->index];
}

static inline int fake_init(struct virtio_dev *dev)
{
	struct fake *fake = fake_of(dev);

	fake->conf = dev->conf;
	virtio_withhold(dev, FAKE_WITHHELD);
	if (fake->conf->shm && virtio_add_shm(dev, FAKE_SHM_ID, fake->conf->shm) < 0)
		return -ENOMEM;
	for (unsigned int i = 0; i < FAKE_CONFIG_SIZE; i++)
		dev->config[i] = (uint8_t)(0xc0 + i);
	/* Nobody may see what is behind. */
	memset(dev->config + FAKE_CONFIG_SIZE, 0xee, VIRTIO_CONFIG_MAX - FAKE_CONFIG_SIZE);
	return fake->conf->init_error;
}

static inline int fake_start(struct virtio_dev *dev)
{
	fake_of(dev)->starts++;
	return fake_of(dev)->conf->start_error;
}

static inline int fake_queue_start(struct virtq *queue)
{
	const struct fake_conf *conf = fake_of(queue->dev)->conf;

	if (queue->index == conf->bad_queue && conf->queue_error)
		return conf->queue_error;
	fake_queue_of(queue)->starts++;
	return 0;
}

static inline void fake_answer(struct chain *chain)
{
	uint8_t buffer[256];
	size_t n;

	while (chain->in.done < FAKE_ANSWER_MAX && (n = chain_pull(chain, buffer, sizeof(buffer))))
		if (!chain_push(chain, buffer, n))
			break;
}

static inline void fake_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct fake_queue *fake = fake_queue_of(queue);
	struct chain *chain;

	fake->kicks++;
	fake->thread = pthread_self();
	while ((chain = virtq_pop(queue))) {
		virtq_count(queue, FAKE_CHAINS, 1);
		if (fake_of(dev)->conf->hold) {
			fake->held++;
			fake->last = chain;
			continue;
		}
		/* A tail is cut off where there is one, so that every cursor is used. */
		(void)chain_split(chain, 3);
		fake_answer(chain);
		(void)chain_push_tail(chain, "end", 3);
		virtq_count(queue, FAKE_BYTES, chain->in.done + chain->tail.done);
		virtq_done(queue, chain);
	}
}

static inline void fake_queue_stop(struct virtq *queue)
{
	int gate = fake_of(queue->dev)->conf->gate;

	if (gate)
		(void)eventfd_read(gate, &(eventfd_t){ 0 });
	fake_queue_of(queue)->stops++;
}

static inline void fake_queue_reset(struct virtq *queue)
{
	fake_queue_of(queue)->resets++;
}

/* Answers in the byte behind what was written, which is a change of configuration. */
static inline void fake_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct fake *fake = fake_of(dev);
	uint8_t answer = (uint8_t)(dev->config[offset] + 1);

	fake->config_writes++;
	fake->config_offset = offset;
	fake->config_len = len;
	if (fake->conf->fail_in_config)
		virtio_fail(dev, "a configuration that cannot be");
	if (offset + len < FAKE_CONFIG_SIZE)
		virtio_config_update(dev, offset + len, &answer, 1);
}

static inline void fake_reset(struct virtio_dev *dev)
{
	fake_of(dev)->resets++;
	fake_of(dev)->state.mood = 0;
}

static inline int fake_load(struct virtio_dev *dev)
{
	const struct fake *fake = fake_of(dev);

	fake_of(dev)->loads++;
	return fake->state.mood > FAKE_MOOD_MAX || fake->state.zero ? -EINVAL : 0;
}

static inline void fake_free(struct virtio_dev *dev)
{
	fake_of(dev)->frees++;
}

static const uint16_t fake_queue_sizes[FAKE_QUEUES] = { FAKE_QUEUE_SIZE, 256, 128 };

static const struct opt fake_opts[] = {
	VIRTIO_OPTS,
	VIRTIO_OPT_QUEUES("sets of three queues"),
	{ 0 },
};

static const struct virtio_class fake_class = {
	.name = "fake",
	.id = 42,
	.pci_class = 0x088000,
	.queue_sizes = fake_queue_sizes,
	.queue_count = FAKE_QUEUES,
	.request_size = 8,
	.features = 1ULL << FAKE_FEATURE | 1ULL << FAKE_WITHHELD,
	.config_size = FAKE_CONFIG_SIZE,
	.dev_size = sizeof(struct fake),
	.state_offset = offsetof(struct fake, state),
	.state_size = sizeof(struct fake_state),
	.state_version = 3,
	.opts = fake_opts,
	.conf_size = sizeof(struct fake_conf),
	.counters = fake_counters,
	.init = fake_init,
	.start = fake_start,
	.queue_start = fake_queue_start,
	.kick = fake_kick,
	.queue_stop = fake_queue_stop,
	.queue_reset = fake_queue_reset,
	.config_write = fake_config_write,
	.reset = fake_reset,
	.load = fake_load,
	.free = fake_free,
};

/* Asks with the bytes of text and returns the answer's length; false when there is none. */
static inline bool fake_ask(struct vq_guest *guest, unsigned int queue, const char *text,
			    uint32_t *ret_len)
{
	const uint64_t data = VQ_RAM_BASE + MIB(4);
	uint32_t len = (uint32_t)strlen(text);
	const struct vq_buffer buffers[] = { { data, len, false }, { data + 0x100, 64, true } };
	uint16_t head;

	memcpy(vq_ptr(guest, data, len), text, len);
	vq_post(guest, queue, buffers, ARRAY_SIZE(buffers));
	vq_notify(guest, queue);
	if (guest->running) {
		if (!vq_await(guest, queue, &head, ret_len))
			return false;
	} else {
		vq_turn(guest);
		if (!vq_take(guest, queue, &head, ret_len))
			return false;
	}
	assert_memory_equal(vq_ptr(guest, data + 0x100, len), text, len);
	return true;
}

#endif
