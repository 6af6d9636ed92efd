// SPDX-License-Identifier: Apache-2.0
/*
 * The ring is made disabled, on the thread that opens files: the image and what
 * it is based on become its only (registered) files, and the ring is told to accept nothing but reads,
 * writes, syncs and allocation of registered files. The thread that does the I/O enables
 * it, which ends registration for good and makes that thread the single issuer.
 *
 * There is an entry for each request that can be in flight, so that there is
 * always one to submit, and the completion ring, which is twice as large, does
 * not overflow.
 *
 * Transfers of a batch of which each goes on where the one before ends become one
 * operation: what a file system does for each write may take as long as copying.
 * If the operation fails, each is done again alone, as only one of them may be to
 * blame. That would not do for durable ones: the kernel tells of a failed
 * write-back once.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "core/util.h"
#include "devices/block/block.h"

#define URING_MERGED_IOV 256

/* What the kernel was not given yet. */
struct uring_batch {
	/* The last transfer, and the last request that it moves; NULL: there is none that can be added to. */
	struct io_uring_sqe *sqe;
	struct block_request *last;
	unsigned int merged; /* iovecs of it that are here; 0: it has its request's own */
	/* The kernel copies them when it takes the entries. */
	struct iovec iov[URING_MERGED_IOV];
	unsigned int iov_count;
};

struct block_engine {
	struct block_image *image;
	struct block_bounce *bounce;
	struct io_uring ring;
	struct uring_batch batch;
	unsigned int in_flight;
	bool started;
};

static int uring_init(struct io_uring *ring, unsigned int depth, bool sqpoll)
{
	/*
	 * What Linux 6.0, 5.19 and 5.10 have. IORING_SETUP_DEFER_TASKRUN would not do:
	 * what completes then is not seen by who sleeps in epoll_wait().
	 */
	static const unsigned int flags[] = {
		IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SINGLE_ISSUER,
		IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN,
		IORING_SETUP_R_DISABLED,
	};
	int r = -EINVAL;

	if (sqpoll)
		return io_uring_queue_init(depth, ring,
					   IORING_SETUP_R_DISABLED | IORING_SETUP_SQPOLL);
	for (size_t i = 0; i < ARRAY_SIZE(flags) && r == -EINVAL; i++)
		r = io_uring_queue_init(depth, ring, flags[i]);
	return r;
}

/* liburing 2.3 declares functions for what we register, and does not export them. */
static int uring_register(const struct io_uring *ring, unsigned int opcode, const void *arg,
			  unsigned int count)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, opcode, arg, count) < 0 ? -errno : 0;
}

static int uring_restrict(const struct io_uring *ring)
{
	const struct io_uring_restriction rules[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READ },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITE },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FALLOCATE },
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE },
	};

	return uring_register(ring, IORING_REGISTER_RESTRICTIONS, rules, ARRAY_SIZE(rules));
}

static int uring_register_files(struct io_uring *ring, const struct block_image *image)
{
	int fds[BLOCK_FDS_MAX];
	unsigned int count = 0;

	for (; image && count < ARRAY_SIZE(fds); image = image->base)
		fds[count++] = image->fd;
	return io_uring_register_files(ring, fds, count);
}

static int uring_open(struct block_engine **ret_engine, struct block_image *image,
		      unsigned int depth)
{
	_cleanup_free_ struct block_engine *engine = calloc(1, sizeof(*engine));
	int r;

	if (!engine)
		return -ENOMEM;
	r = uring_init(&engine->ring, depth, image->sqpoll);
	if (r < 0)
		return r;
	r = uring_register_files(&engine->ring, image);
	if (r == 0)
		r = uring_restrict(&engine->ring);
	if (r == 0)
		r = block_bounce_new(image, &engine->bounce);
	if (r < 0) {
		io_uring_queue_exit(&engine->ring);
		return r;
	}
	engine->image = image;
	*ret_engine = util_steal_ptr(&engine);
	return 0;
}

static int uring_fd(const struct block_engine *engine)
{
	return engine->ring.ring_fd;
}

static int uring_start(struct block_engine *engine)
{
	int r;

	if (engine->started)
		return 0;
	r = uring_register(&engine->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	if (r < 0)
		return r;
	engine->started = true;
	return 0;
}

static void uring_prepare_transfer(struct io_uring_sqe *sqe, struct block_request *request)
{
	bool write = request->op != BLOCK_READ;
	uint64_t offset = request->offset + request->moved;
	const struct iovec *iov;
	unsigned int count = block_request_rest(request, &iov);

	/* One buffer alone saves the kernel an array to import. What is too long for it is carried on. */
	if (count == 1)
		io_uring_prep_rw(write ? IORING_OP_WRITE : IORING_OP_READ, sqe, 0, iov->iov_base,
				 (unsigned int)util_min(iov->iov_len, INT_MAX), offset);
	else
		io_uring_prep_rw(write ? IORING_OP_WRITEV : IORING_OP_READV, sqe, 0, iov, count,
				 offset);
	if (write && request->durable)
		sqe->rw_flags = RWF_DSYNC;
}

static struct io_uring_sqe *uring_queue(struct block_engine *engine, struct block_request *request)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&engine->ring);

	assert(sqe);
	if (block_request_is_flush(request))
		io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
	else if (block_request_is_range(request))
		io_uring_prep_fallocate(sqe, 0, block_range_mode(request),
					(off_t)request->offset, (off_t)request->len);
	else
		uring_prepare_transfer(sqe, request);
	sqe->fd = request->base ? (int)request->base->number : 0;
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, request);
	return sqe;
}

static bool uring_follows(const struct block_request *request, const struct block_request *last)
{
	return last && request->op == last->op && request->base == last->base &&
	       request->offset == last->offset + last->len && !request->durable && !last->durable;
}

static void uring_add(struct uring_batch *batch, const struct block_request *request)
{
	memcpy(&batch->iov[batch->iov_count], request->iov,
	       request->iov_count * sizeof(*request->iov));
	batch->iov_count += request->iov_count;
	batch->merged += request->iov_count;
}

/* Lets the last transfer move this request as well, if it can. */
static bool uring_merge(struct uring_batch *batch, struct block_request *request)
{
	struct block_request *last = batch->last;
	unsigned int room = URING_MERGED_IOV - batch->iov_count;

	if (!uring_follows(request, last) ||
	    request->iov_count + (batch->merged ? 0 : last->iov_count) > room)
		return false;
	if (!batch->merged) {
		batch->sqe->opcode = last->op == BLOCK_READ ? IORING_OP_READV : IORING_OP_WRITEV;
		batch->sqe->addr = (uintptr_t)&batch->iov[batch->iov_count];
		uring_add(batch, last);
	}
	uring_add(batch, request);
	batch->sqe->len = batch->merged;
	last->merged = request;
	batch->last = request;
	return true;
}

/* What a ring has no operation for, or not with these buffers, is over or becomes something else at once. */
static bool uring_call(struct block_engine *engine, struct block_request *request)
{
	struct block_image *image = engine->image;
	const struct block_image *file = request->base ?: image;

	while (block_request_is_range(request) && (image->device || request->op == BLOCK_ERASE))
		if (block_request_moved(image, request, block_range_call(image, request)))
			return true;
	while (block_bounce_wanted(file, request))
		if (block_request_moved(image, request,
					block_bounce_move(engine->bounce, file, request)))
			return true;
	return false;
}

static void uring_submit(struct block_engine *engine, struct block_request *request)
{
	struct io_uring_sqe *sqe;

	block_request_begin(request);
	if (uring_call(engine, request))
		return;
	engine->in_flight++;
	if (uring_merge(&engine->batch, request))
		return;
	sqe = uring_queue(engine, request);
	/* The kernel's thread may have taken an entry at any time. */
	if (request->op <= BLOCK_WRITE && !engine->image->sqpoll) {
		engine->batch.sqe = sqe;
		engine->batch.last = request;
		engine->batch.merged = 0;
	}
}

static void uring_flush(struct block_engine *engine)
{
	/* The kernel's thread takes them in its own time; all that it can want is to be woken. */
	if (engine->image->sqpoll) {
		io_uring_submit(&engine->ring);
		return;
	}
	/* The kernel takes less than all when it is short of memory, or after a faulty entry. */
	while (io_uring_sq_ready(&engine->ring)) {
		int r = io_uring_submit(&engine->ring);

		assert(r >= 0 || r == -EAGAIN || r == -EINTR || r == -EBUSY || r == -ENOMEM);
	}
	engine->batch.last = NULL;
	engine->batch.iov_count = 0;
}

/* What the operation's result means to this request, and leaves to the next. */
static int uring_share(const struct block_request *request, int *left)
{
	int moved = (int)util_min(request->len, (uint64_t)*left);

	*left -= moved;
	return moved ? moved : -EAGAIN;
}

static void uring_over(struct block_engine *engine, struct block_request *request, int result)
{
	bool merged = request->merged;
	int left = result > 0 ? result : 0;
	struct block_request *next;

	for (; request; request = next) {
		next = request->merged;
		request->merged = NULL;
		if (merged)
			result = uring_share(request, &left);
		if (block_request_moved(engine->image, request, result))
			engine->in_flight--;
		else
			uring_queue(engine, request);
	}
}

static void uring_complete(struct block_engine *engine)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&engine->ring, &cqe) == 0) {
		struct block_request *request = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&engine->ring, cqe);
		uring_over(engine, request, result);
	}
	uring_flush(engine);
}

static void uring_drain(struct block_engine *engine)
{
	while (engine->in_flight) {
		uring_flush(engine);
		io_uring_submit_and_wait(&engine->ring, 1);
		uring_complete(engine);
	}
}

static void uring_close(struct block_engine *engine)
{
	if (!engine)
		return;
	assert(!engine->in_flight);
	io_uring_queue_exit(&engine->ring);
	block_bounce_free(engine->bounce);
	free(engine);
}

const struct block_engine_ops block_uring = {
	.open = uring_open,
	.fd = uring_fd,
	.start = uring_start,
	.submit = uring_submit,
	.flush = uring_flush,
	.complete = uring_complete,
	.drain = uring_drain,
	.close = uring_close,
};
