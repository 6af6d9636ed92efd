// SPDX-License-Identifier: Apache-2.0
/*
 * The engine. A request goes through its clusters step by step: data that is in
 * place, or was given one, is left to the child, which tells when it is done;
 * everything else is done on the spot. What the child tells only makes a request
 * ready for its next step, and steps are taken by one loop that does not nest. So
 * a step may wait for all that is in flight, as those must that take places away
 * from data.
 *
 * A commit brings the tables to the file. It goes on by itself, from one sync of
 * the child to the next, and serves all requests that waited for one when it
 * began, which is once per batch: later ones wait for the next. Meanwhile whatever
 * would change tables is held; data in place is moved as always.
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
	struct slot *next; /* in its list */
	struct qcow2_extent extent; /* that the child moves, */
	uint64_t offset; /* and where the guest has it */
	int result;
	struct iovec iov[SLOT_IOV];
};

struct slots {
	struct slot *first, **end;
};

struct commit {
	struct block_request io;
	bool running, due, last; /* due: for its next step; last: all was written before the sync */
	uint64_t written; /* when the sync began */
	int result;
	struct slots slots; /* that it serves */
};

struct block_engine {
	struct qcow2 *qcow2;
	struct block_queue child;
	struct slots ready, waiting, held;
	struct slots behind; /* others, which are on the way to the same clusters */
	struct slot *unused;
	struct commit commit;
	bool running; /* the loop */
	unsigned int in_use, depth;
	struct slot all[];
};

static void slots_clear(struct slots *slots)
{
	slots->first = NULL;
	slots->end = &slots->first;
}

static void slots_put(struct slots *slots, struct slot *slot)
{
	slot->next = NULL;
	*slots->end = slot;
	slots->end = &slot->next;
}

static struct slot *slots_take(struct slots *slots)
{
	struct slot *slot = slots->first;

	slots->first = slot->next;
	if (!slots->first)
		slots->end = &slots->first;
	return slot;
}

/* All of the other list's, behind those that are there. */
static void slots_move(struct slots *to, struct slots *from)
{
	while (from->first)
		slots_put(to, slots_take(from));
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
	struct block_engine *engine = slot->engine;
	struct qcow2 *q = engine->qcow2;

	slot->result = result;
	if (result == 0)
		slot->owner->moved += io->len;
	q->written += slot->extent.placed;
	if (slot->extent.ordered) {
		qcow2_settle(q, slot->offset, &slot->extent, result);
		qcow2_order(q);
		engine->commit.due = --q->moving == 0 && engine->commit.running;
		slot->extent.ordered = false;
		slots_move(&engine->ready, &engine->behind);
	}
	slots_put(&engine->ready, slot);
}

/* The part of the owner's iovecs at what was moved, up to len bytes; returns how many. */
static size_t slice(struct slot *slot, uint64_t len, unsigned int *ret_count)
{
	const struct block_request *owner = slot->owner;
	uint64_t skip = owner->moved, left = len, excess;
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
	len -= left;
	/* Direct I/O takes whole blocks, and the next step begins where this one ends. */
	excess = left ? len % slot->engine->qcow2->image->block_size : 0;
	len -= excess < len ? excess : 0;
	for (left = len, i = 0; left; left -= slot->iov[i++].iov_len)
		slot->iov[i].iov_len = util_min(slot->iov[i].iov_len, left);
	*ret_count = i;
	return len;
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

static bool is_all(const struct slot *slot, uint64_t len)
{
	return slot->owner->moved == 0 && len == slot->owner->len;
}

/* Data in place: the child moves it. If that is new, it takes a commit to make it durable. */
static void leave_to_child(struct slot *slot, const struct qcow2_extent *extent)
{
	struct block_queue *child = &slot->engine->child;
	struct block_request *owner = slot->owner, *io = &slot->io;

	*io = (struct block_request){
		.op = owner->op,
		.offset = extent->host,
		.base = extent->base,
		.durable = owner->durable && !extent->placed,
		.done = child_done,
	};
	slot->extent = *extent;
	slot->offset = owner->offset + owner->moved;
	slot->engine->qcow2->moving += extent->ordered;
	if (is_all(slot, extent->len)) {
		io->iov = owner->iov;
		io->iov_count = owner->iov_count;
		io->len = owner->len;
	} else {
		io->iov = slot->iov;
		io->len = slice(slot, extent->len, &io->iov_count);
	}
	child->ops->submit(child->engine, io);
}

/* What is compressed, or partly missing, comes by a buffer. */
static ssize_t read_copy(struct slot *slot, const struct qcow2_extent *extent, uint64_t offset)
{
	struct qcow2 *q = slot->engine->qcow2;
	uint64_t room = qcow2_cluster_size(&q->header) - qcow2_in_cluster(q, offset);
	unsigned int count;
	bool zero = extent->content == QCOW2_HOLE || extent->content == QCOW2_ZEROES;
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
	int r = qcow2_find(q, offset, len, &extent);

	if (r < 0)
		return r;
	/* A file that is only read may lack a part of its last cluster. */
	if (extent.content != QCOW2_DATA ||
	    !util_within(extent.host, extent.len,
			 extent.base ? extent.base->size : q->file_size))
		return read_copy(slot, &extent, offset);
	leave_to_child(slot, &extent);
	return 0;
}

static bool must_wait(struct slot *slot)
{
	struct block_engine *engine = slot->engine;

	if (!engine->commit.running && qcow2_frees_room(engine->qcow2))
		return false;
	slots_put(&engine->held, slot);
	return true;
}

/* If what is on the way there fails, the clusters go back to what they were. */
static bool is_behind(struct slot *slot, const struct qcow2_extent *extent)
{
	struct block_engine *engine = slot->engine;
	uint64_t cluster = qcow2_cluster_size(&engine->qcow2->header);

	for (unsigned int i = 0; engine->qcow2->moving && i < engine->depth; i++) {
		const struct qcow2_extent *other = &engine->all[i].extent;
		uint64_t other_end = util_align_up(other->host + other->len, cluster);

		if (other->ordered && extent->host < other_end &&
		    (other->host & ~(cluster - 1)) < extent->host + extent->len) {
			slots_put(&engine->behind, slot);
			return true;
		}
	}
	return false;
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
		if (must_wait(slot))
			return 0;
		/* The place may be shorter than the extent, and has to be filled at once. */
		if (!is_all(slot, extent.len) || slot->owner->iov_count > SLOT_IOV)
			extent.len = slice(slot, extent.len, &count);
		r = qcow2_place(q, offset, &extent);
	} else if (qcow2_is_metadata(q, extent.host, extent.len)) {
		r = qcow2_lies(q);
	} else if (is_behind(slot, &extent)) {
		return 0;
	}
	if (r == 0)
		leave_to_child(slot, &extent);
	return r;
}

static void drain_child(struct block_engine *engine)
{
	engine->child.ops->drain(engine->child.engine);
}

static ssize_t step_range(struct slot *slot, uint64_t offset, uint64_t len)
{
	const struct block_request *owner = slot->owner;
	struct qcow2 *q = slot->engine->qcow2;

	if (must_wait(slot))
		return 0;
	drain_child(slot->engine);
	return owner->op == BLOCK_ZERO ? qcow2_zero(q, offset, len, owner->unmap) :
					 qcow2_discard(q, offset, len);
}

static ssize_t step_data(struct slot *slot)
{
	struct block_request *owner = slot->owner;
	uint64_t offset = owner->offset + owner->moved, len = owner->len - owner->moved;

	if (owner->op == BLOCK_READ)
		return step_read(slot, offset, len);
	if (slot->engine->qcow2->corrupt)
		return -EIO;
	return owner->op == BLOCK_WRITE ? step_write(slot, offset, len) :
					  step_range(slot, offset, len);
}

/* What the child wrote in place is durable by itself, but the tables that lead there may not be. */
static bool needs_commit(const struct slot *slot)
{
	const struct qcow2 *q = slot->engine->qcow2;

	if (slot->owner->op == BLOCK_FLUSH)
		return true;
	return slot->owner->durable && slot->owner->op != BLOCK_READ &&
	       (qcow2_is_unsynced(q) || qcow2_is_dirty(q));
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

	if (slot->result < 0) {
		end(slot, slot->result);
		return;
	}
	if (owner->moved == owner->len) {
		if (needs_commit(slot))
			slots_put(&slot->engine->waiting, slot);
		else
			end(slot, 0);
		return;
	}
	moved = step_data(slot);
	if (moved < 0) {
		end(slot, (int)moved);
	} else if (moved > 0) {
		owner->moved += (uint64_t)moved;
		slots_put(&slot->engine->ready, slot);
	}
}

static void commit_done(struct block_request *io, int result)
{
	struct commit *commit = container_of(io, struct commit, io);

	commit->result = result;
	commit->due = true;
}

static void commit_begin(struct block_engine *engine)
{
	struct commit *commit = &engine->commit;

	slots_move(&commit->slots, &engine->waiting);
	commit->running = true;
	commit->last = false;
	commit->written = 0;
	commit->result = 0;
	commit->due = !engine->qcow2->moving;
}

static void commit_end(struct block_engine *engine, int result)
{
	struct commit *commit = &engine->commit;
	struct qcow2 *q = engine->qcow2;

	if (result == 0 && q->free_count) {
		/* Requests that were there before may still be reading it. */
		drain_child(engine);
		result = qcow2_free_now(q);
	}
	commit->running = false;
	/* One that waits for what is to be freed would do so for good. */
	for (struct slot *slot = engine->held.first; slot && !qcow2_frees_room(q); slot = slot->next)
		slot->result = result;
	slots_move(&engine->ready, &engine->held);
	while (commit->slots.first)
		end(slots_take(&commit->slots), result);
}

static void commit_step(struct block_engine *engine)
{
	struct commit *commit = &engine->commit;
	struct qcow2 *q = engine->qcow2;
	int r = commit->result;

	commit->due = false;
	if (r == 0)
		qcow2_synced(q, commit->written);
	if (r == 0 && !commit->last)
		r = qcow2_write_some(q);
	if (r < 0 || commit->last) {
		commit_end(engine, r);
		return;
	}
	commit->last = r == 0;
	commit->written = q->written;
	commit->io = (struct block_request){ .op = BLOCK_FLUSH, .done = commit_done };
	engine->child.ops->submit(engine->child.engine, &commit->io);
}

static void run(struct block_engine *engine)
{
	if (engine->running)
		return;
	engine->running = true;
	while (engine->ready.first || engine->commit.due)
		if (engine->ready.first)
			step(slots_take(&engine->ready));
		else
			commit_step(engine);
	engine->running = false;
}

/* For all that waits for one by now. */
static void commit_waiting(struct block_engine *engine)
{
	while (!engine->running && !engine->commit.running &&
	       (engine->waiting.first || engine->held.first)) {
		commit_begin(engine);
		run(engine);
	}
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
	slot->result = 0;
	request->moved = 0;
	if (is_refused(slot))
		slot->result = request->op == BLOCK_ERASE ? -EOPNOTSUPP : -EROFS;
	slots_put(&engine->ready, slot);
	run(engine);
}

static void engine_flush(struct block_engine *engine)
{
	commit_waiting(engine);
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
		commit_waiting(engine);
		drain_child(engine);
		run(engine);
	}
	/* Whoever drains may be about to go. The next flush tells of an error. */
	(void)!qcow2_rest(engine->qcow2);
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
	if (q->queue.engine)
		return -EUSERS;
	engine = calloc(1, sizeof(*engine) + depth * sizeof(struct slot));
	if (!engine)
		return -ENOMEM;
	/* And one for the commit. */
	r = block_file_queue_open(disk, depth + 1, &engine->child);
	if (r < 0) {
		free(engine);
		return r;
	}
	engine->qcow2 = q;
	engine->depth = depth;
	slots_clear(&engine->ready);
	slots_clear(&engine->waiting);
	slots_clear(&engine->held);
	slots_clear(&engine->behind);
	slots_clear(&engine->commit.slots);
	for (unsigned int i = 0; i < depth; i++) {
		engine->all[i].engine = engine;
		engine->all[i].next = engine->unused;
		engine->unused = &engine->all[i];
	}
	q->child = &engine->child;
	*ret_queue = q->queue = (struct block_queue){ .ops = &engine_ops, .engine = engine };
	return 0;
}
