/* SPDX-License-Identifier: Apache-2.0 */
/* A device for tests of what is around devices: it answers with what it was asked. */
#ifndef TESTS_UNIT_FAKE_H
#define TESTS_UNIT_FAKE_H

#include "devices/virtio/virtio.h"

#define FAKE_FEATURE 5       /* offered */
#define FAKE_WITHHELD 6      /* of the class, but init takes it back */
#define FAKE_CONFIG_SIZE 22  /* of which the last word ends in the middle of a register */
#define FAKE_QUEUES 3
#define FAKE_QUEUE_SIZE 64   /* the smallest of its queues' */
#define FAKE_ANSWER_MAX 4096

struct fake_conf {
	int init_error, start_error;
	bool hold;           /* chains stay in flight */
	bool fail_in_config; /* a configuration write is a fault of the guest's */
};

struct fake {
	struct virtio_dev dev;
	const struct fake_conf *conf;
	unsigned int starts, stops, kicks, frees, held;
	struct chain *last; /* of those held */
	unsigned int config_writes;
	uint32_t config_offset, config_len;
};

enum { FAKE_CHAINS };

static inline struct fake *fake_of(struct virtio_dev *dev)
{
	return container_of(dev, struct fake, dev);
}

static inline int fake_init(struct virtio_dev *dev)
{
	struct fake *fake = fake_of(dev);

	fake->conf = dev->conf;
	virtio_withhold(dev, FAKE_WITHHELD);
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
	struct fake *fake = fake_of(dev);
	struct chain *chain;

	fake->kicks++;
	while ((chain = virtq_pop(queue))) {
		virtio_count(dev, FAKE_CHAINS, 1);
		if (fake->conf->hold) {
			fake->held++;
			fake->last = chain;
			continue;
		}
		/* A tail is cut off where there is one, so that every cursor is used. */
		(void)chain_split(chain, 3);
		fake_answer(chain);
		(void)chain_push_tail(chain, "end", 3);
		virtq_done(queue, chain);
	}
}

static inline void fake_stop(struct virtio_dev *dev)
{
	fake_of(dev)->stops++;
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

static inline void fake_free(struct virtio_dev *dev)
{
	fake_of(dev)->frees++;
}

static const uint16_t fake_queue_sizes[FAKE_QUEUES] = { FAKE_QUEUE_SIZE, 256, 128 };

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
	.conf_size = sizeof(struct fake_conf),
	.init = fake_init,
	.start = fake_start,
	.kick = fake_kick,
	.stop = fake_stop,
	.config_write = fake_config_write,
	.free = fake_free,
};

#endif
