// SPDX-License-Identifier: Apache-2.0
/*
 * The engine. A request goes through its clusters step by step: data that is in
 * place is left to the child, which tells when it is done; everything else is
 * done on the spot. What the child tells only makes a request ready for its next
 * step, and steps are taken by one loop that does not nest. So a step may wait for
 * all that is in flight, as those must that take places away from data.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "devices/block/qcow2_run.h"

/* A step moves as much as this many of a request's iovecs hold. */
#define SLOT_IOV 32

struct slot {
	struct block_request io; /* what the child does for it */
	struct block_request *owner;
	struct block_engine *engine;
	struct slot *next; /* in the list of those that are ready, or free */
	bool flushing; /* all is done but that it has to be durable */
	int result;
	struct iovec iov[SLOT_IOV];
};

struct block_engine {
	struct qcow2 *qcow2;
	struct block_queue child;
	struct slot *ready, **ready_end;
	struct slot *unused;
	bool running; /* the loop */
	unsigned int in_use;
	struct slot slots[];
};

static void make_ready(struct slot *slot)
{
	struct block_engine *engine = slot->engine;

	slot->next = NULL;
	*engine->ready_end = slot;
	engine->ready_end = &slot->next;
}

static struct slot *take_ready(struct block_engine *engine)
{
	struct slot *slot = engine->ready;

	engine->ready = slot->next;
	if (!engine->ready)
		engine->ready_end = &engine->ready;
	return slot;
}

static void end(struct slot *slot, int result)
{
	struct block_engine *engine = slot->engine;
	struct block_request *owner = slot->owner;

	slot->next = engine->unused;
	engine->unused = slot;
	engine->in_use--;
	owner->done(owner, result);
}

static void child_done(struct block_request *io, int result)
{
	struct slot *slot = container_of(io, struct slot, io);

	slot->result = result;
	if (result == 0)
		slot->owner->moved += io->len;
	make_ready(slot);
}

/* The part of the owner's iovecs at what was moved, up to len bytes; returns how many. */
static size_t slice(struct slot *slot, uint64_t len, unsigned int *ret_count)
{
	const struct block_request *owner = slot->owner;
	uint64_t skip = owner->moved, left = len;
	unsigned int i = 0, n = 0;

	while (skip >= owner->iov[i].iov_len)
		skip -= owner->iov[i++].iov_len;
	for (; left && n < SLOT_IOV && i < owner->iov_count; i++, skip = 0) {
		size_t part = util_min(owner->iov[i].iov_len - skip, left);

		if (part == 0)
			continue;
		slot->iov[n++] = (struct iovec){ (char *)owner->iov[i].iov_base + skip, part };
		left -= part;
	}
	*ret_count = n;
	return len - left;
}

static void spread(const struct iovec *iov, unsigned int count, const uint8_t *data)
{
	for (unsigned int i = 0; i < count; data += iov[i++].iov_len)
		memcpy(iov[i].iov_base, data, iov[i].iov_len);
}

static void clear(const struct iovec *iov, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

/* Data in place: the child moves it. */
static void leave_to_child(struct slot *slot, const struct qcow2_extent *extent)
{
	struct block_queue *child = &slot->engine->child;
	struct block_request *owner = slot->owner, *io = &slot->io;

	*io = (struct block_request){
		.op = owner->op,
		.offset = extent->host,
		.durable = owner->durable,
		.done = child_done,
	};
	if (owner->moved == 0 && extent->len == owner->len) {
		io->iov = owner->iov;
		io->iov_count = owner->iov_count;
		io->len = owner->len;
	} else {
		io->iov = slot->iov;
		io->len = slice(slot, extent->len, &io->iov_count);
	}
	child->ops->submit(child->engine, io);
}

/* What is neither in place nor zero comes by a buffer. */
static ssize_t read_copy(struct slot *slot, const struct qcow2_extent *extent, uint64_t offset)
{
	struct qcow2 *q = slot->engine->qcow2;
	uint64_t room = qcow2_cluster_size(&q->header) - qcow2_in_cluster(q, offset);
	unsigned int count;
	bool zero = qcow2_is_zero(q, extent, offset);
	size_t len = slice(slot, zero ? extent->len : util_min(extent->len, room), &count);
	int r;

	if (zero) {
		clear(slot->iov, count);
		return (ssize_t)len;
	}
	r = qcow2_read(q, q->bounce, len, offset);
	if (r < 0)
		return r;
	spread(slot->iov, count, q->bounce);
	return (ssize_t)len;
}

/* 0: the child goes on with it. */
static ssize_t step_read(struct slot *slot, uint64_t offset, uint64_t len)
{
	struct qcow2 *q = slot->engine->qcow2;
	struct qcow2_extent extent;
	int r = qcow2_map(q, offset, len, &extent);

	if (r < 0)
		return r;
	/* A file that is only read may lack a part of its last cluster. */
	if (extent.content != QCOW2_DATA || !util_within(extent.host, extent.len, q->file_size))
		return read_copy(slot, &extent, offset);
	leave_to_child(slot, &extent);
	return 0;
}

static ssize_t step_write(struct slot *slot, uint64_t offset, uint64_t len)
{
	struct qcow2 *q = slot->engine->qcow2;
	struct qcow2_extent extent;
	unsigned int count;
	int r = qcow2_map(q, offset, len, &extent);

	if (r < 0)
		return r;
	if (extent.content != QCOW2_DATA || !extent.own) {
		len = slice(slot, extent.len, &count);
		return qcow2_write(q, &extent, slot->iov, count, len, offset);
	}
	if (qcow2_is_metadata(q, extent.host, extent.len))
		return qcow2_lies(q);
	leave_to_child(slot, &extent);
	return 0;
}

static void drain_child(struct block_engine *engine)
{
	engine->child.ops->drain(engine->child.engine);
}

static int make_room(struct block_engine *engine)
{
	struct qcow2 *q = engine->qcow2;
	int r = qcow2_write_back(q);

	if (r < 0 || !q->free_count)
		return r;
	/* What is to be freed may be read by requests that were there before. */
	drain_child(engine);
	r = qcow2_sync(q);
	return r < 0 ? r : qcow2_free_now(q);
}

static ssize_t step_data(struct slot *slot)
{
	struct block_request *owner = slot->owner;
	struct block_engine *engine = slot->engine;
	struct qcow2 *q = engine->qcow2;
	uint64_t offset = owner->offset + owner->moved, len = owner->len - owner->moved;
	int r = 0;

	if (owner->op == BLOCK_READ)
		return step_read(slot, offset, len);
	if (q->corrupt)
		return -EIO;
	if (!qcow2_frees_room(q))
		r = make_room(engine);
	if (r < 0)
		return r;
	if (owner->op == BLOCK_WRITE)
		return step_write(slot, offset, len);
	drain_child(engine);
	return owner->op == BLOCK_ZERO ? qcow2_zero(q, offset, len, owner->unmap) :
					 qcow2_discard(q, offset, len);
}

/* What the child wrote is durable by itself, but the tables that lead there may not be. */
static bool needs_flush(const struct slot *slot)
{
	const struct qcow2 *q = slot->engine->qcow2;

	if (slot->owner->op == BLOCK_FLUSH)
		return true;
	return slot->owner->durable && slot->owner->op != BLOCK_READ &&
	       (q->unsynced || qcow2_is_dirty(q));
}

/* Metadata has to be waited for, as it has an order; data alone the child flushes meanwhile. */
static void step_flush(struct slot *slot)
{
	struct block_queue *child = &slot->engine->child;
	struct qcow2 *q = slot->engine->qcow2;
	int r = make_room(slot->engine);

	if (r < 0 || q->unsynced) {
		end(slot, r < 0 ? r : qcow2_sync(q));
		return;
	}
	slot->flushing = true;
	slot->io = (struct block_request){ .op = BLOCK_FLUSH, .done = child_done };
	child->ops->submit(child->engine, &slot->io);
}

static bool is_refused(const struct slot *slot)
{
	enum block_op op = slot->owner->op;

	return op == BLOCK_ERASE ||
	       (op != BLOCK_READ && op != BLOCK_FLUSH && slot->engine->qcow2->read_only);
}

static void step(struct slot *slot)
{
	struct block_request *owner = slot->owner;
	ssize_t moved;

	if (slot->result < 0 || slot->flushing) {
		end(slot, slot->result);
		return;
	}
	if (owner->moved == owner->len) {
		if (needs_flush(slot))
			step_flush(slot);
		else
			end(slot, 0);
		return;
	}
	moved = step_data(slot);
	if (moved < 0) {
		end(slot, (int)moved);
	} else if (moved > 0) {
		owner->moved += (uint64_t)moved;
		make_ready(slot);
	}
}

static void run(struct block_engine *engine)
{
	if (engine->running)
		return;
	engine->running = true;
	while (engine->ready)
		step(take_ready(engine));
	engine->running = false;
}

static int engine_fd(const struct block_engine *engine)
{
	return engine->child.ops->fd(engine->child.engine);
}

static int engine_start(struct block_engine *engine)
{
	return engine->child.ops->start(engine->child.engine);
}

static void engine_submit(struct block_engine *engine, struct block_request *request)
{
	struct slot *slot = engine->unused;

	assert(slot);
	engine->unused = slot->next;
	engine->in_use++;
	slot->owner = request;
	slot->flushing = false;
	slot->result = 0;
	request->moved = 0;
	if (is_refused(slot))
		slot->result = request->op == BLOCK_ERASE ? -EOPNOTSUPP : -EROFS;
	make_ready(slot);
	run(engine);
}

static void engine_flush(struct block_engine *engine)
{
	engine->child.ops->flush(engine->child.engine);
}

static void engine_complete(struct block_engine *engine)
{
	engine->child.ops->complete(engine->child.engine);
	run(engine);
	engine_flush(engine);
}

static void engine_drain(struct block_engine *engine)
{
	while (engine->in_use) {
		drain_child(engine);
		run(engine);
	}
	/* Whoever drains may be about to go. The next flush tells of an error. */
	if (make_room(engine) == 0)
		(void)!qcow2_write_back(engine->qcow2);
}

static void engine_close(struct block_engine *engine)
{
	if (!engine)
		return;
	block_queue_close(&engine->child);
	free(engine);
}

/* Without open: it takes a disk, see below. */
static const struct block_engine_ops engine_ops = {
	.fd = engine_fd,
	.start = engine_start,
	.submit = engine_submit,
	.flush = engine_flush,
	.complete = engine_complete,
	.drain = engine_drain,
	.close = engine_close,
};

int qcow2_queue_open(struct block_disk *disk, unsigned int depth, struct block_queue *ret_queue)
{
	struct qcow2 *q = disk->own;
	struct block_engine *engine;
	int r;

	/* Tables in memory belong to one thread. */
	if (q->has_queue)
		return -EUSERS;
	engine = calloc(1, sizeof(*engine) + depth * sizeof(struct slot));
	if (!engine)
		return -ENOMEM;
	r = block_file_queue_open(disk, depth, &engine->child);
	if (r < 0) {
		free(engine);
		return r;
	}
	engine->qcow2 = q;
	engine->ready_end = &engine->ready;
	for (unsigned int i = 0; i < depth; i++) {
		engine->slots[i].engine = engine;
		engine->slots[i].next = engine->unused;
		engine->unused = &engine->slots[i];
	}
	q->has_queue = true;
	*ret_queue = (struct block_queue){ .ops = &engine_ops, .engine = engine };
	return 0;
}
