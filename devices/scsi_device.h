/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of virtio-scsi share: scsi.c is the device, scsi_queue.c has the
 * request queues, scsi_control.c the control queue, scsi_event.c the event queue,
 * scsi_unit.c the units.
 */
#ifndef DEVICES_SCSI_DEVICE_H
#define DEVICES_SCSI_DEVICE_H

#include <linux/virtio_scsi.h>
#include <stdatomic.h>
#include "devices/block/block.h"
#include "devices/scsi/passthrough.h"
#include "devices/scsi/scsi.h"
#include "devices/virtio/virtio.h"

#define SCSI_CONTROL 0
#define SCSI_EVENT 1
#define SCSI_HEAD 2
/* CDB and sense data may have so many bytes at the most. */
#define SCSI_FIELD_MAX 256

struct scsi_conf {
	struct virtio_conf virtio;
	struct block_conf block;
	char *serial, *product;
	bool cdrom, passthrough, controller;
};

enum scsi_event { EVENT_REMOVED = 1, EVENT_ADDED = 2, EVENT_CAPACITY = 4 };

/* What a save takes; for each unit. */
struct scsi_state {
	_Atomic uint32_t flags[SCSI_LUNS_MAX];
	uint8_t events[SCSI_LUNS_MAX]; /* that the driver has still to be told; the first worker's */
};

struct scsi_unit {
	struct block_conf conf;    /* without its path */
	struct block_disk disk;    /* of a device of the host's nothing but its limit */
	struct passthrough device; /* where its fd counts, execute is set */
	struct scsi_port *ports;   /* one for each queue */
};

/* A unit as one queue reaches it. */
struct scsi_port {
	struct scsi_queue *queue;
	struct scsi_unit *unit;
	uint16_t number; /* the unit's */
	struct block_queue block;
	struct event completion;
	bool busy; /* on the queue's list */
	struct scsi_port *next;
	struct scsi_request *waiting, **end; /* for the unit's limit */
};

#define MARK_OVER (1u << 16)

struct scsi_request {
	struct scsi_task task;
	struct chain *chain;
	struct scsi_request *next; /* of those that wait */
	_Atomic uint32_t mark; /* the unit's number + 1 while it runs, with MARK_OVER until that is shown */
	_Atomic uint64_t tag;
};

struct scsi_queue {
	struct virtq *virtq;
	struct scsi_port *ports[SCSI_LUNS_MAX]; /* NULL: there is no such unit */
	struct scsi_port *busy;   /* those that have got requests which the kernel does not have */
	struct scsi_request **over; /* not shown to the driver yet */
	unsigned int over_count;
	struct scsi_request *stopped; /* those that wait for a person */
	struct timer timer;           /* the next one that a limit allows */
	uint64_t due;                 /* when that is; 0: never */
};

/* What a task management function that waits is about. */
struct scsi_wait {
	struct chain *chain; /* NULL: none waits */
	uint32_t function;
	int unit; /* -1: all */
	uint64_t tag;
};

struct scsi {
	struct virtio_dev dev;
	struct scsi_state state;
	struct scsi_target target;
	struct scsi_lun luns[SCSI_LUNS_MAX];    /* any worker's, for tasks */
	struct scsi_unit *units[SCSI_LUNS_MAX]; /* the main thread's, and the first worker's for a resize; NULL: none */
	struct scsi_queue queues[VIRTIO_SETS_MAX];
	uint32_t sectors_max, segments_max; /* of one command's data, for all units */
	uint32_t cdb_size, sense_size; /* as the driver had set them when it started the device */
	struct chain *event;           /* a buffer for the next event */
	struct scsi_wait wait;
	struct timer look;
};

enum scsi_counter {
	SCSI_COMMANDS,
	SCSI_IN_BYTES,
	SCSI_OUT_BYTES,
	SCSI_CHECKS,
	SCSI_OVERRUNS,
	SCSI_FUNCTIONS,
	SCSI_EVENTS,
	SCSI_THROTTLED,
	SCSI_STOPS,
};

static inline struct scsi_queue *scsi_queue_of(const struct virtq *virtq)
{
	struct scsi *scsi = container_of(virtq->dev, struct scsi, dev);

	return &scsi->queues[virtq->index - SCSI_HEAD];
}

/* Section 5.6.6.1: the number of the unit that a driver means; -1: no unit can be there. */
int scsi_find(const uint8_t lun[8]);

/* ---- scsi_queue.c: on the queue's worker ---- */

int scsi_queue_start(struct scsi_queue *queue);
void scsi_queue_kick(struct scsi *scsi, struct scsi_queue *queue);
/* Returns when nothing is in flight; what waits for a person ends with its error. */
void scsi_queue_stop(struct scsi_queue *queue);
/* From now on tasks of the port's unit go through it. -errno. */
int scsi_queue_attach(struct scsi_queue *queue, struct scsi_port *port);
/* Ends its tasks, and takes no others. Accepts a port that could not be attached. */
void scsi_queue_detach(struct scsi_queue *queue, struct scsi_port *port);
/* What waits for a person is tried again. */
void scsi_queue_retry(struct scsi_queue *queue);
/* The queue's timer: a limit allows something. */
void scsi_queue_limit(struct timer *timer);

/* ---- scsi_control.c: on the first worker ---- */

void scsi_control_kick(struct scsi *scsi, struct virtq *virtq);
/* The timer of a function that waits. */
void scsi_control_look(struct timer *timer);
/* The unit is as after power-on; -1: all of them. */
void scsi_reset_units(struct scsi *scsi, int unit);

/* ---- scsi_event.c: on the first worker ---- */

/* Tells the driver what it has still to be told, as far as it has buffers. */
void scsi_event_send(struct scsi *scsi);
/* There are buffers. */
void scsi_event_kick(struct scsi *scsi);

/* ---- scsi_unit.c ---- */

/*
 * A unit of that number, which has none, on what conf names, or where fd is not -1 on that,
 * which is the unit's in any case. -errno of block_disk_open(), scsi_lun_init(); what there is of
 * it by then is left to scsi_unit_remove().
 */
int scsi_unit_add(struct scsi *scsi, unsigned int number, const struct scsi_conf *conf, int fd);
/*
 * Ends its tasks and closes what it has. Accepts a number that has none. Of a device of the
 * host's, whose threads are the workers': after those were stopped.
 */
void scsi_unit_remove(struct scsi *scsi, unsigned int number);

#endif
