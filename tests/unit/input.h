/* SPDX-License-Identifier: Apache-2.0 */
/* A guest with an input device: its buffers, and what it reads there. */
#ifndef TESTS_UNIT_INPUT_H
#define TESTS_UNIT_INPUT_H

#include <linux/input.h>
#include <linux/virtio_input.h>
#include <stdio.h>
#include "tests/unit/driver.h"

extern const struct virtio_class input_class;

enum { EVENTS, STATUS };

/* Guest memory behind the rings. */
#define DATA (VQ_RAM_BASE + MIB(4))
#define EVENT_SIZE sizeof(struct virtio_input_event)

/* Buffers for so many events. */
static inline void give(struct vq_guest *guest, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const uint64_t gpa =
			DATA + guest->queues[EVENTS].next_desc % guest->queues[EVENTS].size * EVENT_SIZE;

		vq_post(guest, EVENTS, &(struct vq_buffer){ gpa, EVENT_SIZE, true }, 1);
	}
	vq_notify(guest, EVENTS);
	vq_turn(guest);
}

/* What came, in a line: "key 30 1, syn 0 0". Gives the buffers back where again. */
static inline const char *events(struct vq_guest *guest, bool again)
{
	static const char *const types[EV_CNT] = {
		[EV_SYN] = "syn", [EV_KEY] = "key", [EV_REL] = "rel", [EV_ABS] = "abs", [EV_MSC] = "msc",
		[EV_SW] = "sw",
	};
	static char text[2048];
	unsigned int count = 0;
	size_t at = 0;
	uint16_t head;
	uint32_t len;

	text[0] = '\0';
	vq_turn(guest);
	while (vq_take(guest, EVENTS, &head, &len)) {
		const struct virtio_input_event *event =
			vq_ptr(guest, DATA + head * EVENT_SIZE, EVENT_SIZE);

		assert(len == EVENT_SIZE && event->type < EV_CNT && types[event->type]);
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s %u %d", at ? ", " : "",
				       types[event->type], event->code, (int)event->value);
		count++;
	}
	if (again)
		give(guest, count);
	return text;
}

/* One event in the status queue, or as many bytes of it. */
static inline void tell(struct vq_guest *guest, uint16_t type, uint16_t code, uint32_t value, uint32_t len)
{
	const struct virtio_input_event event = { type, code, value };
	const uint64_t gpa = DATA + KIB(4);

	memcpy(vq_ptr(guest, gpa, sizeof(event)), &event, sizeof(event));
	vq_post(guest, STATUS, &(struct vq_buffer){ gpa, len, false }, 1);
	vq_notify(guest, STATUS);
	vq_turn(guest);
}

/* The answer to a selection; its size. */
static inline uint8_t choose(struct vq_guest *guest, uint8_t select, uint8_t subsel,
			     struct virtio_input_config *ret_config)
{
	virtio_config_write(guest->dev, 0, &select, 1);
	virtio_config_write(guest->dev, 1, &subsel, 1);
	virtio_config_read(guest->dev, 0, ret_config, sizeof(*ret_config));
	return ret_config->size;
}

#endif
