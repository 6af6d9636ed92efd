// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-scsi (section 5.6): one target with as many logical units as there are
 * --scsi options. The target (devices/scsi/) knows commands; here they come and go.
 *
 * Each unit is an image that every request queue reaches through an engine of
 * its own (a port). A task lives in its chain's slot while engines work on it.
 *
 * Task management comes to the first worker, and tasks are on all of them.
 * What the kernel has begun cannot be taken back: an abort or a reset waits
 * until the tasks that it is about are over and the driver can see so. A
 * task's mark says which unit it is for, so that the first worker can look
 * without a lock; it is taken off after the queue was shown to the driver.
 *
 * A task may wait: for its unit's limit, or for a person who mends the host
 * (werror, rerror). Those of other units go on. A queue that is stopped ends both kinds.
 */
#include <endian.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/virtio_scsi.h>
#include "devices/block/block.h"
#include "devices/scsi.h"
#include "devices/scsi/scsi.h"
#include "devices/virtio/virtio.h"

#define SCSI_CONTROL 0
#define SCSI_EVENT 1
#define SCSI_HEAD 2
#define SCSI_CONTROL_SIZE 64
#define SCSI_QUEUE_SIZE 256
/* The rest of a chain is for headers, and for buffers that lie across regions of memory. */
#define SCSI_SEG_MAX (CHAIN_IOV_MAX - 24)
#define SCSI_BATCH_BYTES KIB(64)
#define SCSI_MAX_SECTORS 0xffff
/* CDB and sense data may have so many bytes at the most. */
#define SCSI_FIELD_MAX 256
/* How often an abort looks whether tasks are over. */
#define SCSI_LOOK_NS NS_PER_MS

#define CMD_HEADER offsetof(struct virtio_scsi_cmd_req, cdb)
#define CMD_RESPONSE offsetof(struct virtio_scsi_cmd_resp, sense)

struct scsi_conf {
	struct virtio_conf virtio;
	struct block_conf block;
	char *serial, *product;
	bool cdrom;
};

enum scsi_event { EVENT_REMOVED = 1, EVENT_ADDED = 2, EVENT_CAPACITY = 4 };

/* What a save takes; for each unit. */
struct scsi_state {
	_Atomic uint32_t flags[SCSI_LUNS_MAX];
	uint8_t events[SCSI_LUNS_MAX]; /* that the driver has still to be told; the first worker's */
};

struct scsi_unit {
	struct block_conf conf;
	struct block_disk disk;
};

/* A unit as one queue reaches it. */
struct scsi_port {
	struct scsi_queue *queue;
	struct scsi_unit *unit;
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
	struct scsi_port *ports;  /* one for each unit */
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
	struct scsi_unit *units;
	struct scsi_queue queues[VIRTIO_SETS_MAX];
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

static const char *const scsi_counters[] = {
	[SCSI_COMMANDS] = "commands",
	[SCSI_IN_BYTES] = "in_bytes",
	[SCSI_OUT_BYTES] = "out_bytes",
	[SCSI_CHECKS] = "check_conditions",
	[SCSI_OVERRUNS] = "overruns",
	[SCSI_FUNCTIONS] = "task_management",
	[SCSI_EVENTS] = "events",
	[SCSI_THROTTLED] = "throttled",
	[SCSI_STOPS] = "stops",
	NULL,
};

/* ---- addresses ---- */

/* Section 5.6.6.1: 1, the target, then a LUN, by peripheral or flat space addressing. -1: there is no such unit. */
static int scsi_find(const struct scsi *scsi, const uint8_t lun[8])
{
	static const uint8_t none[4];
	unsigned int number = (lun[2] & 0x3fu) << 8 | lun[3];

	if (lun[0] != 1 || lun[1] || memcmp(lun + 4, none, sizeof(none)) ||
	    ((lun[2] & 0xc0) != 0x40 && lun[2]) || number >= scsi->target.count)
		return -1;
	return (int)number;
}

/* ---- requests ---- */

static void scsi_respond(struct scsi *scsi, struct chain *chain,
			 const struct virtio_scsi_cmd_resp *response, const struct scsi_task *task)
{
	uint8_t bytes[CMD_RESPONSE + SCSI_FIELD_MAX] = { 0 };

	memcpy(bytes, response, CMD_RESPONSE);
	if (task)
		memcpy(bytes + CMD_RESPONSE, task->sense,
		       util_min(task->sense_len, scsi->sense_size));
	chain_push_tail(chain, bytes, CMD_RESPONSE + scsi->sense_size);
	virtq_done(chain->queue, chain);
}

static void scsi_count(struct virtq *virtq, const struct scsi_task *task)
{
	virtq_count(virtq, SCSI_COMMANDS, 1);
	virtq_count(virtq, SCSI_IN_BYTES, task->given);
	virtq_count(virtq, SCSI_OUT_BYTES, task->taken);
	virtq_count(virtq, SCSI_CHECKS, task->status == SCSI_CHECK_CONDITION);
	virtq_count(virtq, SCSI_OVERRUNS, task->overrun);
}

static struct scsi_queue *scsi_queue_of(const struct virtq *virtq)
{
	struct scsi *scsi = container_of(virtq->dev, struct scsi, dev);

	return &scsi->queues[virtq->index - SCSI_HEAD];
}

/* The driver sees what is over; from then on so does task management. */
static void scsi_show(struct scsi_queue *queue)
{
	virtq_show(queue->virtq);
	while (queue->over_count) {
		struct scsi_request *request = queue->over[--queue->over_count];
		uint32_t mark = atomic_load(&request->mark);

		/* The slot may have got another task by now, which runs. */
		if (mark & MARK_OVER)
			atomic_compare_exchange_strong(&request->mark, &mark, 0);
	}
}

static void scsi_done(struct scsi_task *task)
{
	struct scsi_request *request = container_of(task, struct scsi_request, task);
	struct chain *chain = request->chain;
	struct scsi *scsi = container_of(chain->queue->dev, struct scsi, dev);
	struct scsi_queue *queue = scsi_queue_of(chain->queue);
	const size_t left = task->in_len - task->given + task->out_len - task->taken;
	const struct virtio_scsi_cmd_resp response = {
		.sense_len = htole32((uint32_t)util_min(task->sense_len, scsi->sense_size)),
		.resid = htole32(task->overrun ? 0 : (uint32_t)left),
		.status = task->status,
		.response = task->overrun ? VIRTIO_SCSI_S_OVERRUN : VIRTIO_SCSI_S_OK,
	};

	scsi_count(chain->queue, task);
	cursor_advance(&chain->in, task->given);
	/* A slot may be there twice, when the driver used it again in the same turn. */
	if (queue->over_count == chain->queue->size_max)
		scsi_show(queue);
	atomic_fetch_or(&request->mark, MARK_OVER);
	queue->over[queue->over_count++] = request;
	scsi_respond(scsi, chain, &response, task);
}

static void scsi_stopped(struct scsi_task *task)
{
	struct scsi_request *request = container_of(task, struct scsi_request, task);
	struct virtq *virtq = request->chain->queue;
	struct scsi_queue *queue = scsi_queue_of(virtq);

	if (!queue->stopped) {
		virtq_count(virtq, SCSI_STOPS, 1);
		if (log_allowed(&virtq->dev->complaints))
			log_warn("%s: unit %u is stopped until it is told to go on: the host's disk failed: %s",
				 virtq->dev->name, task->lun->number, strerror(-task->result));
	}
	request->next = queue->stopped;
	queue->stopped = request;
}

/* The port's engine has got something that the kernel is to be given. */
static void scsi_mark_busy(struct scsi_port *port)
{
	if (port->busy)
		return;
	port->busy = true;
	port->next = port->queue->busy;
	port->queue->busy = port;
}

/*
 * Runs what waits for the unit's limit (all: does not wait any more). Returns the
 * nanoseconds until there is more to do; 0: nothing waits.
 */
static uint64_t scsi_admit(struct scsi_port *port, bool all)
{
	struct scsi_request *request;

	while ((request = port->waiting)) {
		uint64_t ns = all ? 0 :
				    bucket_pair_take(&port->unit->disk.limit,
						     request->task.in_len + request->task.out_len,
						     util_now_ns());

		if (ns)
			return ns;
		port->waiting = request->next;
		if (!port->waiting)
			port->end = &port->waiting;
		scsi_mark_busy(port);
		scsi_task_run(&request->task);
	}
	return 0;
}

static void scsi_wake_in(struct scsi_queue *queue, uint64_t ns)
{
	uint64_t due;

	if (!ns)
		return;
	due = util_now_ns() + ns;
	if (queue->due && queue->due <= due)
		return;
	queue->due = due;
	timer_set(&queue->timer, ns);
}

static void scsi_queue_up(struct scsi_port *port, struct scsi_request *request)
{
	const bool first = !port->waiting;

	request->next = NULL;
	*port->end = request;
	port->end = &request->next;
	if (first)
		scsi_wake_in(port->queue, scsi_admit(port, false));
	if (port->waiting)
		virtq_count(port->queue->virtq, SCSI_THROTTLED, 1);
}

static void scsi_run(struct scsi *scsi, struct chain *chain, uint64_t tag, int unit,
		     const uint8_t *cdb)
{
	struct scsi_request *request = chain_request(chain);
	struct scsi_port *port = &scsi_queue_of(chain->queue)->ports[unit];

	request->chain = chain;
	atomic_store(&request->tag, tag);
	atomic_store(&request->mark, (uint32_t)unit + 1);
	request->task = (struct scsi_task){
		.lun = &scsi->target.luns[unit],
		.disk = &port->unit->disk,
		.queue = &port->block,
		.cdb_len = scsi->cdb_size,
		.out = chain->out.iov, .out_count = chain->out.count, .out_len = chain->out.left,
		.in = chain->in.iov, .in_count = chain->in.count, .in_len = chain->in.left,
		.done = scsi_done,
		.stopped = scsi_stopped,
	};
	memcpy(request->task.cdb, cdb, SCSI_CDB_MAX);
	if (port->unit->disk.limited) {
		scsi_queue_up(port, request);
		return;
	}
	scsi_mark_busy(port);
	scsi_task_run(&request->task);
}

static void scsi_handle(struct scsi *scsi, struct chain *chain)
{
	struct virtio_scsi_cmd_req header;
	uint8_t cdb[SCSI_FIELD_MAX] = { 0 };
	int unit;

	if (chain_split_front(chain, CMD_RESPONSE + scsi->sense_size) < 0) {
		virtio_fail(&scsi->dev, "a request without room for its response");
		return;
	}
	if (chain_pull(chain, &header, CMD_HEADER) < CMD_HEADER ||
	    chain_pull(chain, cdb, scsi->cdb_size) < scsi->cdb_size) {
		virtio_fail(&scsi->dev, "a request with a short header");
		return;
	}
	unit = scsi_find(scsi, header.lun);
	if (unit < 0)
		scsi_respond(scsi, chain, &(struct virtio_scsi_cmd_resp){
			.response = VIRTIO_SCSI_S_BAD_TARGET }, NULL);
	else
		scsi_run(scsi, chain, header.tag, unit, cdb);
}

/* Hands what was popped to the kernel, and shows the driver what is over at once. */
static void scsi_push(struct scsi_queue *queue)
{
	struct scsi_port *port;

	while ((port = queue->busy)) {
		queue->busy = port->next;
		port->busy = false;
		port->block.ops->flush(port->block.engine);
		port->block.ops->complete(port->block.engine);
	}
	scsi_show(queue);
}

static void scsi_request_kick(struct scsi *scsi, struct virtq *virtq)
{
	struct scsi_queue *queue = scsi_queue_of(virtq);
	struct chain *chain;
	size_t batch = 0;

	while ((chain = virtq_pop(virtq))) {
		batch += chain->in.left + chain->out.left;
		scsi_handle(scsi, chain);
		if (batch < SCSI_BATCH_BYTES)
			continue;
		scsi_push(queue);
		batch = 0;
	}
	scsi_push(queue);
}

static void scsi_completion(struct event *event, uint32_t revents)
{
	struct scsi_port *port = container_of(event, struct scsi_port, completion);

	(void)revents;
	port->block.ops->complete(port->block.engine);
	scsi_push(port->queue);
}

static void scsi_limit(struct timer *timer)
{
	struct scsi_queue *queue = container_of(timer, struct scsi_queue, timer);
	const struct scsi *scsi = container_of(queue->virtq->dev, struct scsi, dev);

	queue->due = 0;
	for (unsigned int i = 0; i < scsi->target.count; i++)
		scsi_wake_in(queue, scsi_admit(&queue->ports[i], false));
	scsi_push(queue);
}

static struct scsi_request *scsi_take_stopped(struct scsi_queue *queue)
{
	struct scsi_request *taken = queue->stopped;

	queue->stopped = NULL;
	return taken;
}

static void scsi_retry(struct virtq *virtq)
{
	struct scsi_queue *queue;
	struct scsi_request *next;

	if (virtq->index < SCSI_HEAD)
		return;
	queue = scsi_queue_of(virtq);
	/* It may be stopped again at once, and is then in another list. */
	for (struct scsi_request *request = scsi_take_stopped(queue); request; request = next) {
		next = request->next;
		scsi_mark_busy(&queue->ports[request->task.lun->number]);
		scsi_task_retry(&request->task);
	}
	scsi_push(queue);
}

/* ---- task management, on the first worker ---- */

static bool scsi_is_about(const struct scsi_wait *wait, const struct scsi_request *request)
{
	const uint32_t mark = atomic_load(&request->mark) & ~MARK_OVER;

	if (!mark || (wait->unit >= 0 && mark != (uint32_t)wait->unit + 1))
		return false;
	return (wait->function != VIRTIO_SCSI_T_TMF_ABORT_TASK &&
		wait->function != VIRTIO_SCSI_T_TMF_QUERY_TASK) ||
	       atomic_load(&request->tag) == wait->tag;
}

/* Whether any task is there that the function is about. */
static bool scsi_runs(const struct scsi *scsi, const struct scsi_wait *wait)
{
	for (unsigned int i = SCSI_HEAD; i < scsi->dev.queue_count; i++) {
		const struct virtq *virtq = &scsi->dev.queues[i];
		const struct scsi_request *requests = (const void *)virtq->requests;

		for (unsigned int j = 0; j < virtq->size_max; j++)
			if (scsi_is_about(wait, &requests[j]))
				return true;
	}
	return false;
}

static void scsi_answer(struct chain *chain, uint8_t response)
{
	chain_push(chain, &response, sizeof(response));
	virtq_count(chain->queue, SCSI_FUNCTIONS, 1);
	virtq_done(chain->queue, chain);
}

static void scsi_reset_units(struct scsi *scsi, int unit)
{
	for (unsigned int i = 0; i < scsi->target.count; i++)
		if (unit < 0 || i == (unsigned int)unit)
			scsi_lun_reset(&scsi->target.luns[i]);
}

/* False: tasks are still running, and it has to be tried again. */
static bool scsi_finish_function(struct scsi *scsi, const struct scsi_wait *wait)
{
	if (scsi_runs(scsi, wait))
		return false;
	if (wait->function == VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET ||
	    wait->function == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET)
		scsi_reset_units(scsi, wait->unit);
	/* Section 5.6.6.2: FUNCTION COMPLETE. */
	scsi_answer(wait->chain, VIRTIO_SCSI_S_OK);
	return true;
}

static void scsi_function(struct scsi *scsi, struct chain *chain)
{
	struct virtio_scsi_ctrl_tmf_req function;
	struct scsi_wait wait = { .chain = chain };

	if (chain_pull(chain, &function.subtype, sizeof(function) - sizeof(function.type)) <
		    sizeof(function) - sizeof(function.type) || !chain->in.left) {
		virtio_fail(&scsi->dev, "a task management request that is too short");
		return;
	}
	wait.function = le32toh(function.subtype);
	wait.tag = function.tag;
	wait.unit = scsi_find(scsi, function.lun);
	if (wait.unit < 0) {
		scsi_answer(chain, VIRTIO_SCSI_S_INCORRECT_LUN);
		return;
	}
	switch (wait.function) {
	case VIRTIO_SCSI_T_TMF_QUERY_TASK:
	case VIRTIO_SCSI_T_TMF_QUERY_TASK_SET:
		scsi_answer(chain, scsi_runs(scsi, &wait) ? VIRTIO_SCSI_S_FUNCTION_SUCCEEDED :
							    VIRTIO_SCSI_S_OK);
		break;
	case VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET:
	case VIRTIO_SCSI_T_TMF_ABORT_TASK:
	case VIRTIO_SCSI_T_TMF_ABORT_TASK_SET:
	case VIRTIO_SCSI_T_TMF_CLEAR_TASK_SET:
	case VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET:
		if (wait.function == VIRTIO_SCSI_T_TMF_I_T_NEXUS_RESET)
			wait.unit = -1;
		if (scsi_finish_function(scsi, &wait))
			break;
		scsi->wait = wait;
		timer_set(&scsi->look, SCSI_LOOK_NS);
		break;
	default:
		scsi_answer(chain, VIRTIO_SCSI_S_FUNCTION_REJECTED);
	}
}

/* Asynchronous notification (section 5.6.6.2): of none of the events that there might be. */
static void scsi_notification(struct scsi *scsi, struct chain *chain)
{
	const size_t rest = sizeof(struct virtio_scsi_ctrl_an_req) - sizeof(__virtio32);
	struct virtio_scsi_ctrl_an_resp response = { .response = VIRTIO_SCSI_S_OK };
	struct virtio_scsi_ctrl_an_req request;

	if (chain_pull(chain, request.lun, rest) < rest || chain->in.left < sizeof(response)) {
		virtio_fail(&scsi->dev, "a notification request that is too short");
		return;
	}
	if (scsi_find(scsi, request.lun) < 0)
		response.response = VIRTIO_SCSI_S_INCORRECT_LUN;
	chain_push(chain, &response, sizeof(response));
	virtq_done(chain->queue, chain);
}

static void scsi_control_kick(struct scsi *scsi, struct virtq *virtq)
{
	struct chain *chain;
	__virtio32 type;

	while (!scsi->wait.chain && (chain = virtq_pop(virtq))) {
		if (chain_pull(chain, &type, sizeof(type)) < sizeof(type)) {
			virtio_fail(&scsi->dev, "a control request without a type");
			return;
		}
		switch (le32toh(type)) {
		case VIRTIO_SCSI_T_TMF:
			scsi_function(scsi, chain);
			break;
		case VIRTIO_SCSI_T_AN_QUERY:
		case VIRTIO_SCSI_T_AN_SUBSCRIBE:
			scsi_notification(scsi, chain);
			break;
		default:
			virtio_fail(&scsi->dev, "a control request of an unknown type");
			return;
		}
	}
}

static void scsi_look(struct timer *timer)
{
	struct scsi *scsi = container_of(timer, struct scsi, look);

	if (!scsi->wait.chain)
		return;
	if (!scsi_finish_function(scsi, &scsi->wait)) {
		timer_set(timer, SCSI_LOOK_NS);
		return;
	}
	scsi->wait.chain = NULL;
	virtio_kick(&scsi->dev.queues[SCSI_CONTROL]);
}

/* ---- events, on the first worker ---- */

/* The buffer for the next event; NULL where the driver has none. */
static struct chain *scsi_event_buffer(struct scsi *scsi)
{
	struct virtq *virtq = &scsi->dev.queues[SCSI_EVENT];

	if (!scsi->event && virtq->active && !virtio_failed(&scsi->dev))
		scsi->event = virtq_pop(virtq);
	if (scsi->event && scsi->event->in.left < sizeof(struct virtio_scsi_event)) {
		virtio_fail(&scsi->dev, "a buffer without room for an event");
		return NULL;
	}
	return scsi->event;
}

/* Section 5.6.6.3. False: the driver has no buffer for it. */
static bool scsi_send_event(struct scsi *scsi, unsigned int unit, uint32_t type, uint32_t reason)
{
	struct chain *chain = scsi_event_buffer(scsi);
	const struct virtio_scsi_event event = {
		.event = htole32(type),
		.lun = { 1, 0, (uint8_t)(0x40 | unit >> 8), (uint8_t)unit },
		.reason = htole32(reason),
	};

	if (!chain)
		return false;
	scsi->event = NULL;
	chain_push(chain, &event, sizeof(event));
	virtq_count(chain->queue, SCSI_EVENTS, 1);
	virtq_done(chain->queue, chain);
	return true;
}

static void scsi_send_unit(struct scsi *scsi, unsigned int unit)
{
	/* In the order in which a driver has to hear of them. */
	static const struct {
		enum scsi_event event;
		unsigned int feature;
		uint32_t type, reason;
	} events[] = {
		{ EVENT_REMOVED, VIRTIO_SCSI_F_HOTPLUG, VIRTIO_SCSI_T_TRANSPORT_RESET,
		  VIRTIO_SCSI_EVT_RESET_REMOVED },
		{ EVENT_ADDED, VIRTIO_SCSI_F_HOTPLUG, VIRTIO_SCSI_T_TRANSPORT_RESET,
		  VIRTIO_SCSI_EVT_RESET_RESCAN },
		/* CAPACITY DATA HAS CHANGED: the additional sense code, then its qualifier. */
		{ EVENT_CAPACITY, VIRTIO_SCSI_F_CHANGE, VIRTIO_SCSI_T_PARAM_CHANGE, 0x092a },
	};
	uint8_t *pending = &scsi->state.events[unit];

	for (size_t i = 0; i < ARRAY_SIZE(events) && *pending; i++)
		if (*pending & events[i].event &&
		    (!virtio_has(&scsi->dev, events[i].feature) ||
		     scsi_send_event(scsi, unit, events[i].type, events[i].reason)))
			*pending &= (uint8_t)~events[i].event;
}

static void scsi_send_events(struct scsi *scsi)
{
	for (unsigned int i = 0; i < scsi->target.count; i++)
		scsi_send_unit(scsi, i);
}

struct scsi_order {
	struct scsi *scsi;
	unsigned int unit;
	uint64_t bytes;
	bool plugged;
};

static int scsi_do_plug(void *arg)
{
	const struct scsi_order *order = arg;
	struct scsi_lun *lun = &order->scsi->target.luns[order->unit];
	uint8_t *pending = &order->scsi->state.events[order->unit];

	if (scsi_lun_has(lun, SCSI_PLUGGED) == order->plugged)
		return 0;
	scsi_lun_plug(lun, order->plugged);
	/* A unit that went and came is one that the driver has to look at anew. */
	*pending = order->plugged ? *pending | EVENT_ADDED : EVENT_REMOVED;
	scsi_send_events(order->scsi);
	return 0;
}

static int scsi_do_resize(void *arg)
{
	const struct scsi_order *order = arg;
	struct block_disk *disk = &order->scsi->units[order->unit].disk;
	int r = block_disk_resize(disk, order->bytes);

	if (!r)
		r = scsi_lun_resize(&order->scsi->target.luns[order->unit], disk->image.size);
	if (r < 0)
		return r;
	order->scsi->state.events[order->unit] |= EVENT_CAPACITY;
	scsi_send_events(order->scsi);
	return 0;
}

static int scsi_order(struct virtio_dev *dev, struct scsi_order *order, int (*fn)(void *arg))
{
	order->scsi = container_of(dev, struct scsi, dev);
	if (order->unit >= order->scsi->target.count)
		return -ENOENT;
	return worker_call(&dev->workers[0], fn, order);
}

int scsi_unit_plug(struct virtio_dev *dev, unsigned int unit, bool plugged)
{
	return scsi_order(dev, &(struct scsi_order){ .unit = unit, .plugged = plugged },
			  scsi_do_plug);
}

int scsi_unit_resize(struct virtio_dev *dev, unsigned int unit, uint64_t bytes)
{
	return scsi_order(dev, &(struct scsi_order){ .unit = unit, .bytes = bytes },
			  scsi_do_resize);
}

/* ---- life ---- */

static void scsi_kick(struct virtio_dev *dev, struct virtq *virtq)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	if (virtq->index >= SCSI_HEAD)
		scsi_request_kick(scsi, virtq);
	else if (virtq->index == SCSI_CONTROL)
		scsi_control_kick(scsi, virtq);
	else if (scsi_event_buffer(scsi))
		scsi_send_events(scsi);
}

static int scsi_queue_start(struct virtq *virtq)
{
	struct scsi *scsi = container_of(virtq->dev, struct scsi, dev);
	int r = 0;

	for (unsigned int i = 0; virtq->index >= SCSI_HEAD && i < scsi->target.count && !r; i++) {
		const struct block_queue *block = &scsi_queue_of(virtq)->ports[i].block;

		r = block->ops->start(block->engine);
	}
	return r;
}

static void scsi_end_tasks(struct scsi *scsi, struct scsi_queue *queue)
{
	struct scsi_request *next;

	for (unsigned int i = 0; i < scsi->target.count; i++) {
		struct scsi_port *port = &queue->ports[i];

		scsi_admit(port, true);
		port->block.ops->drain(port->block.engine);
	}
	for (struct scsi_request *request = scsi_take_stopped(queue); request; request = next) {
		next = request->next;
		scsi_task_give_up(&request->task);
	}
	/* Nothing is in flight any more: what was busy is so no longer. */
	scsi_push(queue);
}

static void scsi_queue_stop(struct virtq *virtq)
{
	struct scsi *scsi = container_of(virtq->dev, struct scsi, dev);

	if (virtq->index == SCSI_CONTROL) {
		scsi->wait.chain = NULL;
		return;
	}
	if (virtq->index == SCSI_EVENT) {
		scsi->event = NULL;
		return;
	}
	scsi_end_tasks(scsi, scsi_queue_of(virtq));
}

static void scsi_set_config(struct scsi *scsi, uint32_t sense_size, uint32_t cdb_size)
{
	struct virtio_dev *dev = &scsi->dev;
	const uint16_t size = dev->queues[SCSI_HEAD].size_max;
	/* Two descriptors of a full ring belong to the headers. */
	uint64_t segments = util_min(size - 2u, SCSI_SEG_MAX);
	const struct virtio_scsi_config config = {
		.num_queues = htole32(dev->queue_count - SCSI_HEAD),
		.seg_max = htole32((uint32_t)util_max(segments, 1)),
		.max_sectors = htole32(SCSI_MAX_SECTORS),
		.cmd_per_lun = htole32(size),
		.event_info_size = htole32(sizeof(struct virtio_scsi_event)),
		.sense_size = htole32(sense_size),
		.cdb_size = htole32(cdb_size),
		.max_lun = htole32(SCSI_LUNS_MAX - 1),
	};

	virtio_config_update(dev, 0, &config, sizeof(config));
}

static void scsi_get_sizes(const struct scsi *scsi, uint32_t *ret_sense, uint32_t *ret_cdb)
{
	struct virtio_scsi_config config;

	memcpy(&config, scsi->dev.config, sizeof(config));
	*ret_sense = le32toh(config.sense_size);
	*ret_cdb = le32toh(config.cdb_size);
}

/* Section 5.6.4: two fields are the driver's; the others stay what they are. */
static void scsi_config_write(struct virtio_dev *dev, uint32_t offset, uint32_t len)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);
	uint32_t sense_size, cdb_size;

	(void)offset, (void)len;
	scsi_get_sizes(scsi, &sense_size, &cdb_size);
	scsi_set_config(scsi, sense_size > SCSI_FIELD_MAX ? VIRTIO_SCSI_SENSE_SIZE : sense_size,
			cdb_size > SCSI_FIELD_MAX ? VIRTIO_SCSI_CDB_SIZE : cdb_size);
}

static int scsi_start(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	scsi_get_sizes(scsi, &scsi->sense_size, &scsi->cdb_size);
	/* Out of a save. */
	return scsi->sense_size > SCSI_FIELD_MAX || scsi->cdb_size > SCSI_FIELD_MAX ? -EINVAL : 0;
}

static void scsi_reset(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	scsi_reset_units(scsi, -1);
	/* A driver that begins looks at all units. */
	memset(scsi->state.events, 0, sizeof(scsi->state.events));
	scsi_set_config(scsi, VIRTIO_SCSI_SENSE_SIZE, VIRTIO_SCSI_CDB_SIZE);
}

static int scsi_load(struct virtio_dev *dev)
{
	const struct scsi *scsi = container_of(dev, struct scsi, dev);
	int r = 0;

	for (unsigned int i = 0; i < SCSI_LUNS_MAX && !r; i++) {
		if (i < scsi->target.count)
			r = scsi_lun_check(&scsi->target.luns[i]);
		else if (atomic_load(&scsi->state.flags[i]) || scsi->state.events[i])
			r = -EINVAL;
		if (scsi->state.events[i] & ~(EVENT_REMOVED | EVENT_ADDED | EVENT_CAPACITY))
			r = -EINVAL;
	}
	return r;
}

static int scsi_open_unit(struct scsi *scsi, unsigned int index, const struct scsi_conf *conf)
{
	struct scsi_unit *unit = &scsi->units[index];
	struct scsi_identity identity = {
		.type = conf->cdrom ? SCSI_CDROM : SCSI_DISK,
		.serial = conf->serial,
		.product = conf->product,
	};
	int r;

	unit->conf = conf->block;
	unit->conf.read_only |= conf->cdrom;
	r = block_disk_open(&unit->disk, &unit->conf);
	if (r < 0)
		return r;
	identity.write_through = conf->block.cache == BLOCK_CACHE_WRITETHROUGH;
	identity.read_only = unit->disk.image.read_only;
	identity.block_size = unit->disk.image.block_size;
	identity.size = unit->disk.image.size;
	return scsi_lun_init(&scsi->target, index, &identity, &scsi->state.flags[index]);
}

static int scsi_open_port(struct scsi_queue *queue, struct scsi_port *port, struct scsi_unit *unit)
{
	struct worker *worker = queue->virtq->worker;
	int fds[BLOCK_FDS_MAX], fd, r;

	port->queue = queue;
	port->unit = unit;
	port->end = &port->waiting;
	r = block_queue_open(&unit->disk, queue->virtq->size_max, &port->block);
	if (r < 0)
		return r;
	fd = port->block.ops->fd(port->block.engine);
	r = worker_keep_fds(worker, fds, block_disk_fds(&unit->disk, fds));
	if (r < 0 || fd < 0)
		return r;
	port->completion = (struct event){ .fd = fd, .fn = scsi_completion };
	return worker_watch(worker, &port->completion, EPOLLIN);
}

static int scsi_add_unit(struct scsi *scsi, unsigned int index, const struct scsi_conf *conf)
{
	int r = scsi_open_unit(scsi, index, conf);

	for (unsigned int i = 0; i < scsi->dev.worker_count && !r; i++)
		r = scsi_open_port(&scsi->queues[i], &scsi->queues[i].ports[index],
				   &scsi->units[index]);
	if (r < 0 && scsi->dev.host->blamed)
		*scsi->dev.host->blamed = &conf->virtio;
	return r;
}

static int scsi_allocate(struct scsi *scsi)
{
	const unsigned int count = scsi->target.count;

	scsi->target.luns = calloc(count, sizeof(*scsi->target.luns));
	scsi->units = calloc(count, sizeof(*scsi->units));
	if (!scsi->target.luns || !scsi->units)
		return -ENOMEM;
	for (unsigned int i = 0; i < scsi->dev.worker_count; i++) {
		struct scsi_queue *queue = &scsi->queues[i];

		queue->virtq = &scsi->dev.queues[SCSI_HEAD + i];
		queue->ports = calloc(count, sizeof(*queue->ports));
		queue->over = calloc(queue->virtq->size_max, sizeof(*queue->over));
		if (!queue->ports || !queue->over)
			return -ENOMEM;
	}
	return 0;
}

static int scsi_init(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);
	const struct virtio_conf *conf = dev->conf;
	unsigned int index = 0;
	int r;

	for (const struct virtio_conf *unit = conf; unit; unit = unit->next)
		scsi->target.count++;
	r = scsi_allocate(scsi);
	for (; conf && !r; conf = conf->next)
		r = scsi_add_unit(scsi, index++, container_of(conf, struct scsi_conf, virtio));
	if (!r)
		r = worker_timer(&dev->workers[0], &scsi->look, scsi_look);
	for (unsigned int i = 0; i < dev->worker_count && !r; i++)
		r = worker_timer(&dev->workers[i], &scsi->queues[i].timer, scsi_limit);
	scsi_set_config(scsi, VIRTIO_SCSI_SENSE_SIZE, VIRTIO_SCSI_CDB_SIZE);
	return r;
}

static void scsi_free(struct virtio_dev *dev)
{
	struct scsi *scsi = container_of(dev, struct scsi, dev);

	for (unsigned int i = 0; i < dev->worker_count; i++) {
		for (unsigned int j = 0; scsi->queues[i].ports && j < scsi->target.count; j++)
			block_queue_close(&scsi->queues[i].ports[j].block);
		free(scsi->queues[i].ports);
		free(scsi->queues[i].over);
		timer_free(&scsi->queues[i].timer);
	}
	for (unsigned int i = 0; i < scsi->target.count; i++) {
		if (scsi->units)
			block_disk_close(&scsi->units[i].disk);
		if (scsi->target.luns)
			scsi_lun_free(&scsi->target.luns[i]);
	}
	free(scsi->units);
	free(scsi->target.luns);
	timer_free(&scsi->look);
}

static const struct opt scsi_opts[] = {
	BLOCK_OPTS(struct scsi_conf, block),
	{ .key = "cdrom", .type = OPT_BOOL, .offset = offsetof(struct scsi_conf, cdrom),
	  .help = "a CD-ROM: the guest cannot write, and sees blocks of 2048 bytes" },
	{ .key = "serial", .type = OPT_STRING, .offset = offsetof(struct scsi_conf, serial),
	  .arg = "TEXT", .help = "the serial number, at most 20 bytes; by default the unit's number" },
	{ .key = "product", .type = OPT_STRING, .offset = offsetof(struct scsi_conf, product),
	  .arg = "TEXT", .help = "what the guest sees as the product, at most 16 bytes" },
	VIRTIO_OPT_QUEUES("request queues of all units together, each with a thread of its own"),
	VIRTIO_OPTS,
	{ 0 },
};

static const struct sandbox scsi_sandbox = SANDBOX(BLOCK_CALLS);

const struct virtio_class scsi_class = {
	.name = "scsi",
	.option = "scsi",
	.flag_option = "cdrom",
	.summary = "a unit of the SCSI controller: a disk or a CD-ROM",
	.sample = "scratch=1M,engine=sync",
	.id = VIRTIO_ID_SCSI,
	.pci_class = 0x010000,
	.head_sizes = (const uint16_t[]){ SCSI_CONTROL_SIZE, SCSI_CONTROL_SIZE },
	.head_count = SCSI_HEAD,
	.queue_sizes = (const uint16_t[]){ SCSI_QUEUE_SIZE },
	.queue_count = 1,
	.request_size = sizeof(struct scsi_request),
	.features = 1ULL << VIRTIO_SCSI_F_HOTPLUG | 1ULL << VIRTIO_SCSI_F_CHANGE,
	.config_size = sizeof(struct virtio_scsi_config),
	.dev_size = sizeof(struct scsi),
	.state_offset = offsetof(struct scsi, state),
	.state_size = sizeof(struct scsi_state),
	.state_version = 1,
	.opts = scsi_opts,
	.conf_size = sizeof(struct scsi_conf),
	.hints = block_hints,
	.counters = scsi_counters,
	.sandbox = &scsi_sandbox,
	.units = SCSI_LUNS_MAX,
	.init = scsi_init,
	.start = scsi_start,
	.queue_start = scsi_queue_start,
	.kick = scsi_kick,
	.queue_stop = scsi_queue_stop,
	.retry = scsi_retry,
	.config_write = scsi_config_write,
	.reset = scsi_reset,
	.load = scsi_load,
	.free = scsi_free,
};
