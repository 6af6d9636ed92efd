// SPDX-License-Identifier: Apache-2.0
/*
 * The request queues of virtio-scsi (section 5.6.6.1): tasks come in, answers
 * go out. A task lives in its chain's slot while an engine works on it.
 *
 * A task may wait: for its unit's limit, or for a person who mends the host
 * (werror, rerror). Those of other units go on. A queue that is stopped ends both kinds.
 */
#include <endian.h>
#include "devices/scsi_device.h"

#define CMD_HEADER offsetof(struct virtio_scsi_cmd_req, cdb)
#define CMD_RESPONSE offsetof(struct virtio_scsi_cmd_resp, sense)

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

/* Section 5.6.6.1: how the command fared; its status is another matter. */
static uint8_t scsi_response(const struct scsi_task *task)
{
	static const uint8_t responses[] = {
		[SCSI_NO_FAILURE] = VIRTIO_SCSI_S_OK,
		[SCSI_ABORTED] = VIRTIO_SCSI_S_ABORTED,
		[SCSI_GONE] = VIRTIO_SCSI_S_BAD_TARGET,
		[SCSI_WAS_RESET] = VIRTIO_SCSI_S_RESET,
		[SCSI_CONGESTED] = VIRTIO_SCSI_S_BUSY,
		[SCSI_TRANSPORT_FAILED] = VIRTIO_SCSI_S_TRANSPORT_FAILURE,
		[SCSI_TARGET_FAILED] = VIRTIO_SCSI_S_TARGET_FAILURE,
		[SCSI_NEXUS_FAILED] = VIRTIO_SCSI_S_NEXUS_FAILURE,
		[SCSI_FAILED] = VIRTIO_SCSI_S_FAILURE,
	};

	return task->overrun ? VIRTIO_SCSI_S_OVERRUN : responses[task->failure];
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
		.response = scsi_response(task),
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
	struct scsi_port *port = scsi_queue_of(chain->queue)->ports[unit];

	request->chain = chain;
	atomic_store(&request->tag, tag);
	atomic_store(&request->mark, (uint32_t)unit + 1);
	request->task = (struct scsi_task){
		.lun = &scsi->luns[unit],
		.disk = port ? &port->unit->disk : NULL,
		.queue = port ? &port->block : NULL,
		.cdb_len = scsi->cdb_size,
		.out = chain->out.iov, .out_count = chain->out.count, .out_len = chain->out.left,
		.in = chain->in.iov, .in_count = chain->in.count, .in_len = chain->in.left,
		.done = scsi_done,
		.stopped = scsi_stopped,
	};
	memcpy(request->task.cdb, cdb, SCSI_CDB_MAX);
	if (port && port->unit->disk.limited) {
		scsi_queue_up(port, request);
		return;
	}
	if (port)
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
	unit = scsi_find(header.lun);
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

void scsi_queue_kick(struct scsi *scsi, struct scsi_queue *queue)
{
	struct chain *chain;
	size_t count = 0, bytes = 0;

	while ((chain = virtq_pop(queue->virtq))) {
		bytes += chain->in.left;
		scsi_handle(scsi, chain);
		if (++count < BLOCK_BATCH && bytes < BLOCK_BATCH_READ)
			continue;
		scsi_push(queue);
		count = bytes = 0;
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

void scsi_queue_limit(struct timer *timer)
{
	struct scsi_queue *queue = container_of(timer, struct scsi_queue, timer);

	queue->due = 0;
	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		if (queue->ports[i])
			scsi_wake_in(queue, scsi_admit(queue->ports[i], false));
	scsi_push(queue);
}

/* Takes those of the unit (-1: of all) that wait for a person. */
static struct scsi_request *scsi_take_stopped(struct scsi_queue *queue, int unit)
{
	struct scsi_request *taken = NULL, **at = &queue->stopped;

	while (*at) {
		struct scsi_request *request = *at;

		if (unit >= 0 && request->task.lun->number != unit) {
			at = &request->next;
			continue;
		}
		*at = request->next;
		request->next = taken;
		taken = request;
	}
	return taken;
}

void scsi_queue_retry(struct scsi_queue *queue)
{
	struct scsi_request *next;

	/* It may be stopped again at once, and is then in another list. */
	for (struct scsi_request *request = scsi_take_stopped(queue, -1); request; request = next) {
		next = request->next;
		scsi_mark_busy(queue->ports[request->task.lun->number]);
		scsi_task_retry(&request->task);
	}
	scsi_push(queue);
}

static int scsi_start_port(const struct scsi_port *port)
{
	return port->block.ops->start(port->block.engine);
}

static void scsi_end_tasks(struct scsi_queue *queue, struct scsi_port *port)
{
	struct scsi_request *next;

	scsi_admit(port, true);
	port->block.ops->drain(port->block.engine);
	for (struct scsi_request *request = scsi_take_stopped(queue, port->number); request;
	     request = next) {
		next = request->next;
		scsi_task_give_up(&request->task);
	}
}

int scsi_queue_start(struct scsi_queue *queue)
{
	int r = 0;

	for (unsigned int i = 0; i < SCSI_LUNS_MAX && !r; i++)
		if (queue->ports[i])
			r = scsi_start_port(queue->ports[i]);
	return r;
}

void scsi_queue_stop(struct scsi_queue *queue)
{
	for (unsigned int i = 0; i < SCSI_LUNS_MAX; i++)
		if (queue->ports[i])
			scsi_end_tasks(queue, queue->ports[i]);
	/* Nothing is in flight any more: what was busy is so no longer. */
	scsi_push(queue);
}

int scsi_queue_attach(struct scsi_queue *queue, struct scsi_port *port)
{
	struct loop *loop = &queue->virtq->worker->loop;
	const int fd = port->block.ops->fd(port->block.engine);
	int r = queue->virtq->active ? scsi_start_port(port) : 0;

	if (!r && fd >= 0) {
		port->completion = (struct event){ .fd = fd, .fn = scsi_completion };
		r = loop_add(loop, &port->completion, EPOLLIN);
	}
	if (!r)
		queue->ports[port->number] = port;
	return r;
}

void scsi_queue_detach(struct scsi_queue *queue, struct scsi_port *port)
{
	if (queue->ports[port->number] != port)
		return;
	scsi_end_tasks(queue, port);
	scsi_push(queue);
	if (port->completion.fn)
		loop_del(&queue->virtq->worker->loop, &port->completion);
	queue->ports[port->number] = NULL;
}
