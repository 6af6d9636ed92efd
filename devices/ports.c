// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-console with named ports (VIRTIO_CONSOLE_F_MULTIPORT), one for each
 * --port, all on one worker. A port is open at two ends: the driver says when
 * somebody in the guest has it open, and is told when a peer comes and goes.
 *
 * A peer that comes early waits: nothing is read from it before the guest has
 * opened the port. One that leaves is told of behind all that it sent. When
 * the guest closes the port its peer gets what was written and then the end of
 * the stream, as from any program; so does the peer of a guest that resets the
 * device. What there is no peer for is counted as lost, and no port waits for
 * another: each has its queues, and all take turns.
 */
#include <assert.h>
#include <endian.h>
#include <stdio.h>
#include "devices/console.h"

/* Linux fills a queue with pages, whether the port is used or not. */
#define PORTS_QUEUE_SIZE 64
#define PORTS_CONTROL_SIZE 32
#define PORTS_NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static_assert(2 * PORTS_MAX + 2 <= VIRTIO_QUEUES_MAX, "each port has its queues");
static_assert(sizeof(struct ports_state) == sizeof(struct console_state) + 8, "no holes");

static const char *const ports_counters[] = {
	CONSOLE_COUNTERS,
	[CONSOLE_CONTROL] = "control_messages",
	NULL,
};

static const struct hint ports_hints[] = {
	{ EILSEQ, "a port's name has 1 to 63 letters, digits, dots, hyphens and underscores" },
	{ ENOTUNIQ, "another port has this name: give one of them another name" },
	CHARDEV_HINTS,
	{ 0 },
};

static struct ports_port *ports_find(const struct virtq *queue)
{
	struct ports *ports = container_of(queue->dev, struct ports, dev);

	return &ports->ports[queue->index < PORTS_CONTROL_RECEIVE ? 0 : queue->index / 2 - 1];
}

static bool ports_is_control(const struct virtq *queue)
{
	return queue->index == PORTS_CONTROL_RECEIVE || queue->index == PORTS_CONTROL_TRANSMIT;
}

/* To the driver. */
static bool ports_is_console(const struct ports_port *port)
{
	return port->conf->console && port->state->flags & PORTS_READY;
}

void ports_hang_up_if_drained(struct ports_port *port)
{
	if (!(port->state->flags & PORTS_CLOSING) || port->data.output)
		return;
	port->state->flags &= (uint8_t)~PORTS_CLOSING;
	chardev_hang_up(&port->data.chardev);
}

static void ports_transmit(struct ports_port *port)
{
	console_port_kick(&port->data, port->data.transmit);
	ports_hang_up_if_drained(port);
	if (ports_is_console(port) && port->data.size_told < CONSOLE_SIZE_TOLD) {
		port->data.size_told++;
		port->state->due |= PORTS_DUE_SIZE;
	}
}

static void ports_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct ports *ports = container_of(dev, struct ports, dev);
	struct ports_port *port = ports_find(queue);

	if (queue->index == PORTS_CONTROL_TRANSMIT)
		ports_control_receive(ports);
	else if (queue == port->data.transmit)
		ports_transmit(port);
	else if (queue == port->data.receive && port->state->flags & PORTS_OPENED)
		console_port_kick(&port->data, queue);
	ports_control_send(ports);
}

/* Nothing tells of a pty's new size, but people type in a window that they have changed. */
static void ports_look_at_window(struct ports_port *port)
{
	uint16_t columns, rows;

	if (!ports_is_console(port) || chardev_window(&port->data.chardev, &columns, &rows) < 0)
		return;
	if (columns != port->columns || rows != port->rows)
		port->state->due |= PORTS_DUE_SIZE;
}

static void ports_ready(void *opaque)
{
	struct ports_port *port = opaque;

	ports_look_at_window(port);
	virtio_kick(port->data.receive);
	virtio_kick(port->data.transmit);
	/* Also where the driver has not set these queues up. */
	ports_control_send(container_of(port->data.receive->dev, struct ports, dev));
}

static int ports_start(struct virtio_dev *dev)
{
	struct ports *ports = container_of(dev, struct ports, dev);

	for (unsigned int i = 0; i < ports->count; i++)
		ports->ports[i].data.size_told = 0;
	/* Without messages there is one port, which is open. */
	if (!virtio_has(dev, VIRTIO_CONSOLE_F_MULTIPORT))
		ports->states[0].flags |= PORTS_OPENED;
	return 0;
}

static void ports_queue_stop(struct virtq *queue)
{
	if (!ports_is_control(queue))
		console_port_stop(&ports_find(queue)->data, queue);
}

static void ports_queue_reset(struct virtq *queue)
{
	if (!ports_is_control(queue))
		console_port_reset(&ports_find(queue)->data, queue);
}

static void ports_reset(struct virtio_dev *dev)
{
	struct ports *ports = container_of(dev, struct ports, dev);

	for (unsigned int i = 0; i < ports->count; i++) {
		struct ports_state *state = &ports->states[i];

		if (state->flags & (PORTS_OPENED | PORTS_CLOSING))
			chardev_hang_up(&ports->ports[i].data.chardev);
		state->due = state->flags = 0;
	}
}

static int ports_load(struct virtio_dev *dev)
{
	const struct ports *ports = container_of(dev, struct ports, dev);
	struct virtio_console_config config;

	memcpy(&config, dev->config, dev->class->config_size);
	if (le32toh(config.max_nr_ports) != ports->count)
		return -EINVAL;
	for (unsigned int i = 0; i < PORTS_MAX; i++) {
		const struct ports_state *state = &ports->states[i];

		if (!console_state_valid(&state->data) || state->due & ~PORTS_DUE_ALL ||
		    state->flags & ~PORTS_FLAGS_ALL)
			return -EINVAL;
	}
	return 0;
}

static void ports_drain(struct virtio_dev *dev)
{
	struct ports *ports = container_of(dev, struct ports, dev);
	uint64_t end = console_drain_end();

	/* Those first whose readers are not slow. */
	for (unsigned int i = 0; i < ports->count; i++)
		console_port_kick(&ports->ports[i].data, ports->ports[i].data.transmit);
	for (unsigned int i = 0; i < ports->count; i++)
		console_port_drain(&ports->ports[i].data, end);
}

static void ports_resize(struct virtio_dev *dev)
{
	struct ports *ports = container_of(dev, struct ports, dev);

	for (unsigned int i = 0; i < ports->count; i++)
		ports_look_at_window(&ports->ports[i]);
	ports_control_send(ports);
}

/* For people: where it is, of those whose path they did not choose. */
static int ports_add_where(struct ports *ports, const struct ports_port *port)
{
	char *where;

	if (!port->conf->chardev.pty)
		return 0;
	if (asprintf(&where, "%s%s%s (%s)", ports->where ?: "", ports->where ? ", " : "",
		     port->data.chardev.path, port->conf->name) < 0)
		return -ENOMEM;
	free(ports->where);
	ports->dev.where = ports->where = where;
	return 0;
}

static int ports_check_name(const struct ports *ports, const char *name)
{
	if (strlen(name) > PORTS_NAME_MAX || *name == '.' ||
	    name[strspn(name, PORTS_NAME_CHARS)])
		return -EILSEQ;
	for (unsigned int i = 0; i < ports->count; i++)
		if (!strcmp(name, ports->ports[i].conf->name))
			return -ENOTUNIQ;
	return 0;
}

static int ports_add(struct ports *ports, const struct ports_conf *conf)
{
	unsigned int id = ports->count;
	struct ports_port *port = &ports->ports[id];
	int rc = ports_check_name(ports, conf->name);

	if (rc < 0)
		return rc;
	port->conf = conf;
	port->state = &ports->states[id];
	port->data.state = &port->state->data;
	rc = console_port_init(&port->data, &ports->dev, id ? 2 + 2 * id : 0, &conf->chardev,
			       ports_ready, port);
	ports->count++;
	return rc < 0 ? rc : ports_add_where(ports, port);
}

static int ports_init(struct virtio_dev *dev)
{
	struct ports *ports = container_of(dev, struct ports, dev);
	struct virtio_console_config config = { 0 };
	bool console = false;
	int rc;

	for (const struct virtio_conf *next = dev->conf; next; next = next->next) {
		rc = ports_add(ports, container_of(next, struct ports_conf, virtio));
		if (rc < 0 && dev->host->blamed)
			*dev->host->blamed = next;
		if (rc < 0)
			return rc;
		console |= ports->ports[ports->count - 1].conf->console;
	}
	/* Sizes come by messages; but Linux heeds those only with the feature. */
	if (!console)
		virtio_withhold(dev, VIRTIO_CONSOLE_F_SIZE);
	config.max_nr_ports = htole32(ports->count);
	virtio_config_update(dev, 0, &config, dev->class->config_size);
	return 0;
}

static void ports_free(struct virtio_dev *dev)
{
	struct ports *ports = container_of(dev, struct ports, dev);

	for (unsigned int i = 0; i < ports->count; i++)
		chardev_close(&ports->ports[i].data.chardev);
	free(ports->where);
}

/* All but the first. */
static unsigned int ports_sets(const void *conf)
{
	unsigned int sets = 0;

	for (const struct virtio_conf *next = conf; next->next; next = next->next)
		sets++;
	return sets;
}

static bool ports_one_worker(const void *conf)
{
	(void)conf;
	return true;
}

static const struct opt ports_opts[] = {
	{ .key = "name", .type = OPT_STRING, .bare = true, .required = true, .arg = "NAME",
	  .offset = offsetof(struct ports_conf, name),
	  .help = "/dev/virtio-ports/NAME in the guest" },
	{ .key = "console", .type = OPT_BOOL, .offset = offsetof(struct ports_conf, console),
	  .help = "one more console, such as hvc1, with the size of its terminal" },
	CHARDEV_OPTS(offsetof(struct ports_conf, chardev)),
	VIRTIO_OPTS,
	{ 0 },
};

static const struct sandbox ports_sandbox = SANDBOX(CONSOLE_CALLS);

const struct virtio_class port_class = {
	.name = "port",
	.option = "port",
	.summary = "a named port between programs of the guest and of the host",
	.sample = "test,none",
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000,
	.head_sizes = (const uint16_t[]){ 0, 0, PORTS_CONTROL_SIZE, PORTS_CONTROL_SIZE },
	.head_count = 4,
	.queue_sizes = (const uint16_t[]){ PORTS_QUEUE_SIZE, PORTS_QUEUE_SIZE },
	.queue_count = 2,
	.features = 1ULL << VIRTIO_CONSOLE_F_SIZE | 1ULL << VIRTIO_CONSOLE_F_MULTIPORT,
	.config_size = offsetof(struct virtio_console_config, emerg_wr),
	.dev_size = sizeof(struct ports),
	.state_offset = offsetof(struct ports, states),
	.state_size = sizeof(struct ports_state) * PORTS_MAX,
	.state_version = 1,
	.opts = ports_opts,
	.conf_size = sizeof(struct ports_conf),
	.hints = ports_hints,
	.counters = ports_counters,
	.sandbox = &ports_sandbox,
	.units = PORTS_MAX,
	.sets = ports_sets,
	.one_worker = ports_one_worker,
	.init = ports_init,
	.start = ports_start,
	.kick = ports_kick,
	.queue_stop = ports_queue_stop,
	.queue_reset = ports_queue_reset,
	.reset = ports_reset,
	.load = ports_load,
	.drain = ports_drain,
	.resize = ports_resize,
	.free = ports_free,
};
