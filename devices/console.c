// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-console (section 5.3), one port. Neither direction buffers more than
 * the guest gave room for: when the reader of the output is slow its chain is
 * kept, with the cursor at the first byte that was not written, and so the
 * guest waits; input that the guest has no buffers for stays in the host's
 * file, but for one small block which is needed to take the escapes out.
 */
#include <assert.h>
#include <endian.h>
#include <linux/virtio_console.h>
#include <sys/ioctl.h>
#include "core/chardev.h"
#include "devices/virtio/virtio.h"

#define CONSOLE_QUEUE_SIZE 128
/* Without progress for so long the reader counts as gone; and a slow one gets no more time than that. */
#define CONSOLE_IDLE_MS 5000
#define CONSOLE_DRAIN_MS 20000
/* Then others on this thread have their turn: a chain may have gigabytes. */
#define CONSOLE_TURN_BYTES MIB(1)
/*
 * Linux reads the window's size only when an interrupt tells of a change, and
 * forgets it while it still sets the port up: its first output is too early.
 */
#define CONSOLE_SIZE_TOLD 16

enum console_queue { CONSOLE_RECEIVE, CONSOLE_TRANSMIT, CONSOLE_QUEUES };

struct console_conf {
	struct virtio_conf virtio;
	struct chardev_conf chardev;
};

struct console_state {
	uint32_t written; /* bytes of the next chain of output that are out already */
	uint16_t input_start, input_end;
	uint8_t input[256]; /* read, and not yet the guest's */
};

static_assert(sizeof(struct console_state) == 8 + 256, "no holes");

struct console {
	struct virtio_dev dev;
	struct chardev chardev;
	struct chain *output; /* what is being written, or NULL */
	size_t left;          /* of it, when its queue was stopped */
	struct console_state state;
	unsigned int size_told; /* how often since the driver started */
};

enum console_counter { CONSOLE_IN, CONSOLE_OUT, CONSOLE_LOST };

static const char *const console_counters[] = {
	[CONSOLE_IN] = "in_bytes",
	[CONSOLE_OUT] = "out_bytes",
	[CONSOLE_LOST] = "lost_bytes",
	NULL,
};

static struct virtq *console_output(const struct console *console)
{
	return &console->dev.queues[CONSOLE_TRANSMIT];
}

/* False when the reader is slow, or *budget is spent. */
static bool console_write(struct console *console, struct cursor *out, size_t *budget)
{
	while (out->left) {
		size_t len = util_min(out->iov->iov_len, *budget);
		ssize_t n = len ? chardev_write(&console->chardev, out->iov->iov_base, len) : 0;

		if (n == 0)
			return false;
		if (n < 0) {
			virtq_count(console_output(console), CONSOLE_LOST, out->left);
			return true;
		}
		virtq_count(console_output(console), CONSOLE_OUT, (uint64_t)n);
		cursor_advance(out, (size_t)n);
		*budget -= (size_t)n;
	}
	return true;
}

/* The next chain, without what was written of it before a pause. */
static struct chain *console_pop(struct console *console, struct virtq *queue)
{
	struct chain *chain = virtq_pop(queue);

	if (!chain)
		return NULL;
	cursor_advance(&chain->out, util_min(console->state.written, chain->out.left));
	console->left = console->state.written = 0;
	return chain;
}

static void console_transmit(struct console *console, struct virtq *queue)
{
	size_t budget = CONSOLE_TURN_BYTES;

	for (;;) {
		if (!console->output)
			console->output = console_pop(console, queue);
		if (!console->output || !console_write(console, &console->output->out, &budget))
			break;
		virtq_done(queue, console->output);
		console->output = NULL;
	}
	if (!budget)
		util_signal(queue->kick.fd);
}

/* False when there is no input now. */
static bool console_read(struct console *console)
{
	const struct virtio_host *host = console->dev.host;
	enum chardev_escape escape;
	ssize_t n;

	n = chardev_read(&console->chardev, console->state.input, sizeof(console->state.input),
			 &escape);
	if (escape)
		host->escape(host->opaque, escape);
	if (n <= 0)
		return false;
	console->state.input_start = 0;
	console->state.input_end = (uint16_t)n;
	virtq_count(&console->dev.queues[CONSOLE_RECEIVE], CONSOLE_IN, (uint64_t)n);
	return true;
}

static void console_receive(struct console *console, struct virtq *queue)
{
	struct console_state *state = &console->state;
	struct chain *chain;

	while ((chain = virtq_pop(queue))) {
		if (state->input_start == state->input_end && !console_read(console)) {
			virtq_unpop(queue, chain);
			return;
		}
		state->input_start += chain_push(chain, state->input + state->input_start,
						 state->input_end - state->input_start);
		virtq_done(queue, chain);
	}
}

/* -ENOTTY where there is no window. */
static int console_update_size(struct console *console)
{
	uint16_t columns, rows, size[2];
	int rc = chardev_window(&console->chardev, &columns, &rows);

	static_assert(offsetof(struct virtio_console_config, cols) == 0 &&
		      offsetof(struct virtio_console_config, rows) == sizeof(columns),
		      "columns and rows are updated as one");
	if (rc < 0)
		return rc;
	size[0] = htole16(columns);
	size[1] = htole16(rows);
	virtio_config_update(&console->dev, 0, size, sizeof(size));
	return 0;
}

static void console_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct console *console = container_of(dev, struct console, dev);

	if (queue->index == CONSOLE_RECEIVE) {
		console_receive(console, queue);
		return;
	}
	console_transmit(console, queue);
	if (virtio_has(dev, VIRTIO_CONSOLE_F_SIZE) && console->size_told < CONSOLE_SIZE_TOLD) {
		console->size_told++;
		console_update_size(console);
	}
}

static void console_ready(void *opaque)
{
	struct console *console = opaque;

	virtio_kick(&console->dev.queues[CONSOLE_RECEIVE]);
	virtio_kick(console_output(console));
}

static void console_give_up(struct console *console)
{
	if (console->output)
		virtq_count(console_output(console), CONSOLE_LOST, console->output->out.left);
	console->output = NULL;
}

static int console_start(struct virtio_dev *dev)
{
	container_of(dev, struct console, dev)->size_told = 0;
	return 0;
}

static void console_queue_stop(struct virtq *queue)
{
	struct console *console = container_of(queue->dev, struct console, dev);

	if (queue->index != CONSOLE_TRANSMIT || !console->output)
		return;
	console->state.written = (uint32_t)console->output->out.done;
	console->left = console->output->out.left;
	console->output = NULL;
}

static void console_queue_reset(struct virtq *queue)
{
	struct console *console = container_of(queue->dev, struct console, dev);

	if (queue->index != CONSOLE_TRANSMIT)
		return;
	virtq_count(queue, CONSOLE_LOST, console->left);
	console->left = console->state.written = 0;
}

static int console_load(struct virtio_dev *dev)
{
	const struct console_state *state = &container_of(dev, struct console, dev)->state;

	return state->input_start <= state->input_end && state->input_end <= sizeof(state->input) ?
	       0 : -EINVAL;
}

static void console_drain(struct virtio_dev *dev)
{
	struct console *console = container_of(dev, struct console, dev);
	struct virtq *queue = &dev->queues[CONSOLE_TRANSMIT];
	uint64_t now = util_now_ns(), end = now + CONSOLE_DRAIN_MS * NS_PER_MS;
	uint64_t idle_end = now + CONSOLE_IDLE_MS * NS_PER_MS, written;

	do {
		written = virtq_counter(queue, CONSOLE_OUT);
		console_transmit(console, queue);
		if (!console->output)
			return;
		now = util_now_ns();
		if (virtq_counter(queue, CONSOLE_OUT) != written)
			idle_end = now + CONSOLE_IDLE_MS * NS_PER_MS;
	} while (now < util_min(idle_end, end) && chardev_wait(&console->chardev, CONSOLE_IDLE_MS));
	do
		console_give_up(console);
	while ((console->output = virtq_pop(queue)));
}

/* Section 5.3.4: one byte, from a guest that has no queue yet. */
static void console_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct console *console = container_of(dev, struct console, dev);
	bool written;

	(void)len;
	if (offset != offsetof(struct virtio_console_config, emerg_wr))
		return;
	written = chardev_write(&console->chardev, dev->config + offset, 1) == 1;
	virtq_count(console_output(console), written ? CONSOLE_OUT : CONSOLE_LOST, 1);
}

static void console_resize(struct virtio_dev *dev)
{
	console_update_size(container_of(dev, struct console, dev));
}

static int console_init(struct virtio_dev *dev)
{
	struct console *console = container_of(dev, struct console, dev);
	const struct console_conf *conf = dev->conf;
	int rc = chardev_open(&console->chardev, &conf->chardev), fds[CHARDEV_FDS_MAX];

	if (rc < 0)
		return rc;
	if (*console->chardev.path)
		dev->where = console->chardev.path;
	if (console_update_size(console) < 0)
		virtio_withhold(dev, VIRTIO_CONSOLE_F_SIZE);
	rc = worker_keep_fds(&dev->workers[0], fds, chardev_fds(&console->chardev, fds));
	if (rc < 0)
		return rc;
	return chardev_attach(&console->chardev, &dev->workers[0].loop, console_ready, console);
}

static void console_free(struct virtio_dev *dev)
{
	chardev_close(&container_of(dev, struct console, dev)->chardev);
}

static const struct opt console_opts[] = {
	CHARDEV_OPTS(offsetof(struct console_conf, chardev)),
	VIRTIO_OPTS,
	{ 0 },
};

static const struct sandbox console_sandbox = SANDBOX(
	SC_ARG(ioctl, 1, TIOCGWINSZ),
	SC(accept4),
	SC(dup3),
);

const struct virtio_class console_class = {
	.name = "console",
	.option = "console",
	.summary = "the guest's console (hvc0)",
	.sample = "none",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000,
	.queue_sizes = (const uint16_t[]){ CONSOLE_QUEUE_SIZE, CONSOLE_QUEUE_SIZE },
	.queue_count = CONSOLE_QUEUES,
	.features = 1ULL << VIRTIO_CONSOLE_F_SIZE | 1ULL << VIRTIO_CONSOLE_F_EMERG_WRITE,
	.config_size = sizeof(struct virtio_console_config),
	.dev_size = sizeof(struct console),
	.state_offset = offsetof(struct console, state),
	.state_size = sizeof(struct console_state),
	.state_version = 1,
	.opts = console_opts,
	.conf_size = sizeof(struct console_conf),
	.hints = chardev_hints,
	.counters = console_counters,
	.sandbox = &console_sandbox,
	.max = 1,
	.by_default = true,
	.kernel_words = "console=hvc0",
	.init = console_init,
	.start = console_start,
	.kick = console_kick,
	.queue_stop = console_queue_stop,
	.queue_reset = console_queue_reset,
	.config_write = console_config_write,
	.load = console_load,
	.drain = console_drain,
	.resize = console_resize,
	.free = console_free,
};
