// SPDX-License-Identifier: Apache-2.0
/*
 * The control queues of virtio-console (section 5.3.6). What the driver has
 * still to be told is a set of bits for each port, however long it has no
 * buffers: nothing is missed, and nothing grows.
 */
#include <endian.h>
#include "devices/console.h"

/* Then others on this thread have their turn. */
#define PORTS_TURN_MESSAGES 64

/* False: the driver has no buffer for it. */
static bool ports_send(struct ports *ports, uint16_t event, uint16_t value, uint32_t id,
		       const void *data, size_t len)
{
	struct virtq *queue = &ports->dev.queues[PORTS_CONTROL_RECEIVE];
	const struct virtio_console_control control = {
		.id = htole32(id), .event = htole16(event), .value = htole16(value)
	};
	struct chain *chain = virtq_pop(queue);

	if (!chain)
		return false;
	if (chain->in.left < sizeof(control) + len) {
		virtio_fail(&ports->dev, "a buffer without room for a control message");
		return false;
	}
	chain_push(chain, &control, sizeof(control));
	chain_push(chain, data, len);
	virtq_count(queue, CONSOLE_CONTROL, 1);
	virtq_done(queue, chain);
	return true;
}

/* Section 5.3.6.2: columns first, in which Linux errs until 2025. */
static bool ports_send_size(struct ports *ports, uint32_t id)
{
	struct ports_port *port = &ports->ports[id];
	uint16_t size[2];

	if (chardev_window(&port->data.chardev, &port->columns, &port->rows) < 0)
		return true;
	size[0] = htole16(port->columns);
	size[1] = htole16(port->rows);
	return ports_send(ports, VIRTIO_CONSOLE_RESIZE, 0, id, size, sizeof(size));
}

static bool ports_send_one(struct ports *ports, uint32_t id, enum ports_due due)
{
	const char *name = ports->ports[id].conf->name;

	switch (due) {
	case PORTS_DUE_ADD:
		return ports_send(ports, VIRTIO_CONSOLE_PORT_ADD, 1, id, NULL, 0);
	case PORTS_DUE_CONSOLE:
		return ports_send(ports, VIRTIO_CONSOLE_CONSOLE_PORT, 1, id, NULL, 0);
	case PORTS_DUE_NAME:
		return ports_send(ports, VIRTIO_CONSOLE_PORT_NAME, 1, id, name, strlen(name));
	case PORTS_DUE_CLOSED:
	case PORTS_DUE_OPEN:
		return ports_send(ports, VIRTIO_CONSOLE_PORT_OPEN, due == PORTS_DUE_OPEN, id, NULL, 0);
	default:
		return ports_send_size(ports, id);
	}
}

/* Whether its peer is still the one that the driver knows of. */
static void ports_look(struct ports_port *port)
{
	const struct chardev *chardev = &port->data.chardev;
	struct ports_state *state = port->state;
	bool connected = chardev_connected(chardev);

	if (!(state->flags & PORTS_READY))
		return;
	if (state->flags & PORTS_CONNECTED && (!connected || chardev->peers != port->peers)) {
		/* There is nothing to take back where it was not told. */
		if (!(state->due & PORTS_DUE_OPEN))
			state->due |= PORTS_DUE_CLOSED;
		state->due &= (uint8_t)~PORTS_DUE_OPEN;
		state->flags &= (uint8_t)~PORTS_CONNECTED;
	}
	if (connected && !(state->flags & PORTS_CONNECTED)) {
		state->due |= PORTS_DUE_OPEN;
		state->flags |= PORTS_CONNECTED;
	}
	port->peers = chardev->peers;
}

void ports_control_send(struct ports *ports)
{
	const struct virtq *queue = &ports->dev.queues[PORTS_CONTROL_RECEIVE];

	for (unsigned int i = 0; i < ports->count; i++) {
		uint8_t *due = &ports->states[i].due;

		ports_look(&ports->ports[i]);
		for (unsigned int bit = PORTS_DUE_ADD; *due && bit <= PORTS_DUE_SIZE; bit <<= 1) {
			if (!(*due & bit))
				continue;
			if (!queue->active || virtio_failed(&ports->dev) ||
			    !ports_send_one(ports, i, bit))
				return;
			*due &= (uint8_t)~bit;
		}
	}
}

/* The driver has the port, or could not make it. */
static void ports_make(struct ports_port *port, bool ready)
{
	struct ports_state *state = port->state;

	state->flags &= PORTS_OPENED | PORTS_CLOSING;
	state->due = 0;
	if (!ready)
		return;
	state->flags |= PORTS_READY;
	state->due = PORTS_DUE_NAME | (port->conf->console ? PORTS_DUE_CONSOLE | PORTS_DUE_SIZE : 0);
}

/* The guest opens or closes it. */
static void ports_open(struct ports_port *port, bool open)
{
	struct ports_state *state = port->state;

	if (open) {
		state->flags = (state->flags & (uint8_t)~PORTS_CLOSING) | PORTS_OPENED;
		virtio_kick(port->data.receive);
	} else if (state->flags & PORTS_OPENED) {
		state->flags = (state->flags & (uint8_t)~PORTS_OPENED) | PORTS_CLOSING;
		/* What was written before it was closed may still be in the queue. */
		virtio_kick(port->data.transmit);
		ports_hang_up_if_drained(port);
	}
}

static void ports_add_all(struct ports *ports)
{
	for (unsigned int i = 0; i < ports->count; i++) {
		ports->states[i].flags = 0;
		ports->states[i].due = PORTS_DUE_ADD;
	}
}

static void ports_hear(struct ports *ports, const struct virtio_console_control *control)
{
	const uint32_t id = le32toh(control->id);
	const uint16_t event = le16toh(control->event), value = le16toh(control->value);

	if (event == VIRTIO_CONSOLE_DEVICE_READY) {
		if (value)
			ports_add_all(ports);
	} else if (id >= ports->count) {
		virtio_fail(&ports->dev, "a message about port %u, which there is not", id);
	} else if (event == VIRTIO_CONSOLE_PORT_READY) {
		ports_make(&ports->ports[id], value);
	} else if (event == VIRTIO_CONSOLE_PORT_OPEN) {
		ports_open(&ports->ports[id], value);
	} else {
		virtio_fail(&ports->dev, "a control message %u, which is no driver's", event);
	}
}

void ports_control_receive(struct ports *ports)
{
	struct virtq *queue = &ports->dev.queues[PORTS_CONTROL_TRANSMIT];
	struct virtio_console_control control;
	struct chain *chain;

	for (unsigned int i = 0; i < PORTS_TURN_MESSAGES; i++) {
		chain = virtq_pop(queue);
		if (!chain)
			return;
		if (chain_pull(chain, &control, sizeof(control)) < sizeof(control)) {
			virtio_fail(&ports->dev, "a control message that ends early");
			return;
		}
		virtq_done(queue, chain);
		ports_hear(ports, &control);
	}
	util_signal(queue->kick.fd);
}
