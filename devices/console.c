// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's console: virtio-console with one port. It stays a device of its
 * own beside those with names, since Linux has such a port as soon as it finds
 * the device, and not only after an exchange of messages that the start of
 * init would have to wait for.
 */
#include <assert.h>
#include <endian.h>
#include "devices/console.h"

#define CONSOLE_QUEUE_SIZE 128

struct console_conf {
	struct virtio_conf virtio;
	struct chardev_conf chardev;
};

struct console {
	struct virtio_dev dev;
	struct console_port port;
	struct console_state state;
};

static const char *const console_counters[] = {
	CONSOLE_COUNTERS,
	NULL,
};

/* -ENOTTY where there is no window. */
static int console_update_size(struct console *console)
{
	uint16_t columns, rows, size[2];
	int rc = chardev_window(&console->port.chardev, &columns, &rows);

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

	console_port_kick(&console->port, queue);
	if (queue == console->port.transmit && virtio_has(dev, VIRTIO_CONSOLE_F_SIZE) &&
	    console->port.size_told < CONSOLE_SIZE_TOLD) {
		console->port.size_told++;
		console_update_size(console);
	}
}

static void console_ready(void *opaque)
{
	struct console *console = opaque;

	virtio_kick(console->port.receive);
	virtio_kick(console->port.transmit);
}

static int console_start(struct virtio_dev *dev)
{
	container_of(dev, struct console, dev)->port.size_told = 0;
	return 0;
}

static void console_queue_stop(struct virtq *queue)
{
	console_port_stop(&container_of(queue->dev, struct console, dev)->port, queue);
}

static void console_queue_reset(struct virtq *queue)
{
	console_port_reset(&container_of(queue->dev, struct console, dev)->port, queue);
}

static int console_load(struct virtio_dev *dev)
{
	return console_state_valid(&container_of(dev, struct console, dev)->state) ? 0 : -EINVAL;
}

static void console_drain(struct virtio_dev *dev)
{
	console_port_drain(&container_of(dev, struct console, dev)->port, console_drain_end());
}

/* Section 5.3.4: one byte, from a guest that has no queue yet. */
static void console_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct console_port *port = &container_of(dev, struct console, dev)->port;
	bool written;

	(void)len;
	if (offset != offsetof(struct virtio_console_config, emerg_wr))
		return;
	written = chardev_write(&port->chardev, dev->config + offset, 1) == 1 &&
		  !port->chardev.unheard;
	virtq_count(port->transmit, written ? CONSOLE_OUT : CONSOLE_LOST, 1);
}

static void console_resize(struct virtio_dev *dev)
{
	console_update_size(container_of(dev, struct console, dev));
}

static int console_init(struct virtio_dev *dev)
{
	struct console *console = container_of(dev, struct console, dev);
	const struct console_conf *conf = dev->conf;
	int rc;

	console->port.state = &console->state;
	rc = console_port_init(&console->port, dev, 0, &conf->chardev, console_ready, console);
	if (rc < 0)
		return rc;
	if (*console->port.chardev.path)
		dev->where = console->port.chardev.path;
	if (console_update_size(console) < 0)
		virtio_withhold(dev, VIRTIO_CONSOLE_F_SIZE);
	return 0;
}

static void console_free(struct virtio_dev *dev)
{
	chardev_close(&container_of(dev, struct console, dev)->port.chardev);
}

static const struct opt console_opts[] = {
	CHARDEV_OPTS(offsetof(struct console_conf, chardev)),
	VIRTIO_OPTS,
	{ 0 },
};

static const struct sandbox console_sandbox = SANDBOX(CONSOLE_CALLS);

const struct virtio_class console_class = {
	.name = "console",
	.option = "console",
	.summary = "the guest's console (hvc0)",
	.sample = "none",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000,
	.queue_sizes = (const uint16_t[]){ CONSOLE_QUEUE_SIZE, CONSOLE_QUEUE_SIZE },
	.queue_count = 2,
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
