/* SPDX-License-Identifier: Apache-2.0 */
/* A transport that only counts the interrupts of a device's queues. */
#ifndef TESTS_UNIT_LINE_H
#define TESTS_UNIT_LINE_H

#include "devices/virtio/virtio.h"

struct line {
	struct transport transport;
	unsigned int raised;
};

static inline void line_raise_queue(struct transport *transport, unsigned int queue)
{
	(void)queue;
	container_of(transport, struct line, transport)->raised++;
}

static inline void line_raise_config(struct transport *transport)
{
	(void)transport;
}

static inline void line_init(struct line *line, struct virtio_dev *dev)
{
	*line = (struct line){ .transport = { line_raise_queue, line_raise_config, NULL } };
	dev->transport = &line->transport;
}

/* Publishes, and says whether the driver was interrupted for it. */
static inline bool line_publish(struct line *line, struct virtq *queue)
{
	unsigned int before = line->raised;

	virtq_publish(queue);
	return line->raised != before;
}

#endif
