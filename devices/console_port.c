// SPDX-License-Identifier: Apache-2.0
/*
 * A port of virtio-console. Neither direction buffers more than the guest gave
 * room for: when the reader of the output is slow its chain is kept, with the
 * cursor at the first byte that was not written, and so the guest waits; input
 * that the guest has no buffers for stays in the host's file, but for one small
 * block of a terminal's, which is needed to take the escapes out.
 */
#include <assert.h>
#include "devices/console.h"

/* Without progress for so long the reader counts as gone; and a slow one gets no more time than that. */
#define CONSOLE_IDLE_MS 5000
#define CONSOLE_DRAIN_MS 20000
/* Then others on this thread have their turn: a chain may have gigabytes, and a stream no end. */
#define CONSOLE_TURN_BYTES MIB(1)
/* What a chain counts for beside its bytes: some have none. */
#define CONSOLE_CHAIN_COST 256

static_assert(sizeof(struct console_state) == 8 + 256, "no holes");

/* False when the reader is slow, or *budget is spent. */
static bool console_write(struct console_port *port, struct cursor *out, size_t *budget)
{
	while (out->left) {
		size_t len = util_min(out->iov->iov_len, *budget);
		ssize_t n = len ? chardev_write(&port->chardev, out->iov->iov_base, len) : 0;

		if (n == 0)
			return false;
		if (n < 0) {
			virtq_count(port->transmit, CONSOLE_LOST, out->left);
			return true;
		}
		virtq_count(port->transmit, port->chardev.unheard ? CONSOLE_LOST : CONSOLE_OUT,
			    (uint64_t)n);
		cursor_advance(out, (size_t)n);
		*budget -= (size_t)n;
	}
	return true;
}

/* The next chain, without what was written of it before a pause. */
static struct chain *console_pop(struct console_port *port)
{
	struct chain *chain = virtq_pop(port->transmit);

	if (!chain)
		return NULL;
	cursor_advance(&chain->out, util_min(port->state->written, chain->out.left));
	port->left = port->state->written = 0;
	return chain;
}

static void console_transmit(struct console_port *port)
{
	size_t budget = CONSOLE_TURN_BYTES;

	for (;;) {
		if (!port->output)
			port->output = console_pop(port);
		if (!port->output || !budget || !console_write(port, &port->output->out, &budget))
			break;
		virtq_done(port->transmit, port->output);
		port->output = NULL;
		budget -= util_min(budget, CONSOLE_CHAIN_COST);
	}
	if (!budget)
		util_signal(port->transmit->kick.fd);
}

/* How much input came into the buffer; 0 when there is none now. */
static size_t console_read(struct console_port *port, void *buffer, size_t len)
{
	const struct virtio_host *host = port->receive->dev->host;
	enum chardev_escape escape;
	ssize_t n = chardev_read(&port->chardev, buffer, len, &escape);

	if (escape)
		host->escape(host->opaque, escape);
	if (n <= 0)
		return 0;
	virtq_count(port->receive, CONSOLE_IN, (uint64_t)n);
	return (size_t)n;
}

/* How much input there is in the port's own block. */
static size_t console_look_ahead(struct console_port *port)
{
	struct console_state *state = port->state;

	if (state->input_start == state->input_end) {
		state->input_start = 0;
		state->input_end = (uint16_t)console_read(port, state->input, sizeof(state->input));
	}
	return state->input_end - state->input_start;
}

/* Input into the chain; false when there is none now. Without escapes it goes there directly. */
static bool console_fill(struct console_port *port, struct chain *chain, size_t *budget)
{
	struct console_state *state = port->state;
	struct cursor *in = &chain->in;
	size_t n;

	if (!port->chardev.terminal && state->input_start == state->input_end && in->left) {
		n = console_read(port, in->iov->iov_base, in->iov->iov_len);
		cursor_advance(in, n);
		*budget -= util_min(n, *budget);
		return n;
	}
	n = console_look_ahead(port);
	state->input_start += chain_push(chain, state->input + state->input_start, n);
	return n;
}

static void console_receive(struct console_port *port, struct virtq *queue)
{
	size_t budget = CONSOLE_TURN_BYTES;
	struct chain *chain;

	while (budget && (chain = virtq_pop(queue))) {
		if (!console_fill(port, chain, &budget)) {
			virtq_unpop(queue, chain);
			return;
		}
		virtq_done(queue, chain);
		budget -= util_min(budget, CONSOLE_CHAIN_COST);
	}
	if (!budget)
		util_signal(queue->kick.fd);
}

void console_port_kick(struct console_port *port, struct virtq *queue)
{
	if (queue == port->transmit)
		console_transmit(port);
	else
		console_receive(port, queue);
}

void console_port_stop(struct console_port *port, const struct virtq *queue)
{
	if (queue != port->transmit)
		return;
	/* A driver that rang need not wait for what it wrote. */
	console_transmit(port);
	if (!port->output)
		return;
	port->state->written = (uint32_t)port->output->out.done;
	for (; port->output; port->output = virtq_pop(port->transmit))
		port->left += port->output->out.left;
}

void console_port_reset(struct console_port *port, const struct virtq *queue)
{
	if (queue != port->transmit)
		return;
	virtq_count(port->transmit, CONSOLE_LOST, port->left);
	port->left = port->state->written = 0;
}

static void console_give_up(struct console_port *port)
{
	do {
		virtq_count(port->transmit, CONSOLE_LOST, port->output->out.left);
		port->output = virtq_pop(port->transmit);
	} while (port->output);
}

uint64_t console_drain_end(void)
{
	return util_now_ns() + CONSOLE_DRAIN_MS * NS_PER_MS;
}

void console_port_drain(struct console_port *port, uint64_t end)
{
	uint64_t now = util_now_ns(), idle_end = now + CONSOLE_IDLE_MS * NS_PER_MS, written;

	do {
		written = virtq_counter(port->transmit, CONSOLE_OUT);
		console_transmit(port);
		if (!port->output)
			return;
		now = util_now_ns();
		if (virtq_counter(port->transmit, CONSOLE_OUT) != written)
			idle_end = now + CONSOLE_IDLE_MS * NS_PER_MS;
	} while (now < util_min(idle_end, end) && chardev_wait(&port->chardev, CONSOLE_IDLE_MS));
	console_give_up(port);
}

bool console_state_valid(const struct console_state *state)
{
	return state->input_start <= state->input_end && state->input_end <= sizeof(state->input);
}

int console_port_init(struct console_port *port, struct virtio_dev *dev, unsigned int queue,
		      const struct chardev_conf *conf, void (*ready)(void *opaque), void *opaque)
{
	int rc = chardev_open(&port->chardev, conf), fds[CHARDEV_FDS_MAX];

	if (rc < 0)
		return rc;
	port->receive = &dev->queues[queue];
	port->transmit = &dev->queues[queue + 1];
	rc = worker_keep_fds(&dev->workers[0], fds, chardev_fds(&port->chardev, fds));
	if (rc < 0)
		return rc;
	return chardev_attach(&port->chardev, &dev->workers[0].loop, ready, opaque);
}
