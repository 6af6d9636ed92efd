/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of virtio-console (section 5.3) share: console_port.c moves a
 * port's bytes, console.c is the guest's console, ports.c the device with named
 * ports and ports_control.c its control queues.
 */
#ifndef DEVICES_CONSOLE_H
#define DEVICES_CONSOLE_H

#include <linux/virtio_console.h>
#include <sys/ioctl.h>
#include "core/chardev.h"
#include "devices/virtio/virtio.h"

/* What a save takes of a port's data. */
struct console_state {
	uint32_t written; /* bytes of the next chain of output that are out already */
	uint16_t input_start, input_end;
	uint8_t input[256]; /* read, and not yet the guest's */
};

/* A port's two queues and what is at their other end. */
struct console_port {
	struct virtq *receive, *transmit;
	struct chardev chardev;
	struct console_state *state; /* its owner's */
	struct chain *output; /* what is being written, or NULL */
	size_t left;          /* of it and those behind it, when their queue was stopped */
	unsigned int size_told; /* how often since the driver started */
};

/* Both classes have these first. */
enum console_counter { CONSOLE_IN, CONSOLE_OUT, CONSOLE_LOST, CONSOLE_CONTROL };
#define CONSOLE_COUNTERS \
	[CONSOLE_IN] = "in_bytes", [CONSOLE_OUT] = "out_bytes", [CONSOLE_LOST] = "lost_bytes"

#define CONSOLE_CALLS CHARDEV_CALLS, SC_ARG(ioctl, 1, TIOCGWINSZ)

/*
 * Linux forgets the window's size while it still sets a console up, or nobody
 * has it open, and its first output is too early: so it is told this often.
 */
#define CONSOLE_SIZE_TOLD 16

/* ---- console_port.c ---- */

/*
 * In init: opens what conf names, for the queues number queue and queue + 1 of
 * dev and the first worker; ready(opaque) is what the chardev calls. -errno of chardev_open().
 */
int console_port_init(struct console_port *port, struct virtio_dev *dev, unsigned int queue,
		      const struct chardev_conf *conf, void (*ready)(void *opaque), void *opaque);
/* For kick, queue_stop and queue_reset, of either queue. */
void console_port_kick(struct console_port *port, struct virtq *queue);
void console_port_stop(struct console_port *port, const struct virtq *queue);
void console_port_reset(struct console_port *port, const struct virtq *queue);
/* Writes what is left, at the end of the run, unless the reader takes nothing for too long; until end. */
void console_port_drain(struct console_port *port, uint64_t end);
/* When a drain that begins now has to end, by util_now_ns(). */
uint64_t console_drain_end(void);
/* Whether a state that was loaded can be one. */
bool console_state_valid(const struct console_state *state);

/* ---- ports.c ---- */

#define PORTS_MAX 16
#define PORTS_NAME_MAX 63
/* Section 5.3.2: the first port has the queues 0 and 1, the others those from 4 on. */
#define PORTS_CONTROL_RECEIVE 2
#define PORTS_CONTROL_TRANSMIT 3

struct ports_conf {
	struct virtio_conf virtio;
	struct chardev_conf chardev;
	char *name;
	bool console;
};

/* What the driver has still to be told of a port, in this order. */
enum ports_due {
	PORTS_DUE_ADD = 1,
	PORTS_DUE_CONSOLE = 2,
	PORTS_DUE_NAME = 4,
	PORTS_DUE_CLOSED = 8,
	PORTS_DUE_OPEN = 16,
	PORTS_DUE_SIZE = 32,
	PORTS_DUE_ALL = 63,
};

enum ports_flag {
	PORTS_READY = 1,     /* the driver has it */
	PORTS_OPENED = 2,    /* somebody in the guest has it open */
	PORTS_CLOSING = 4,   /* or had, and the peer gets the rest before it is hung up on */
	PORTS_CONNECTED = 8, /* the driver was told that there is a peer, or is about to be */
	PORTS_FLAGS_ALL = 15,
};

struct ports_state {
	struct console_state data;
	uint8_t due, flags, zero[6];
};

struct ports_port {
	struct console_port data;
	const struct ports_conf *conf;
	struct ports_state *state;
	unsigned int peers;     /* as the chardev has it, when that was looked at last */
	uint16_t columns, rows; /* of a console's window, as told last */
};

struct ports {
	struct virtio_dev dev;
	struct ports_state states[PORTS_MAX];
	struct ports_port ports[PORTS_MAX];
	unsigned int count;
	char *where;
};

/* The guest has closed the port: ends the connection of a peer that has got everything. */
void ports_hang_up_if_drained(struct ports_port *port);

/* ---- ports_control.c ---- */

/* What the driver says. */
void ports_control_receive(struct ports *ports);
/* Looks who has come and gone, and tells the driver what it has still to be told, as far as it has buffers. */
void ports_control_send(struct ports *ports);

#endif
