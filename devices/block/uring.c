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

struct block_engine {
	struct block_image *image;
	struct block_bounce *bounce;
	struct io_uring ring;
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

static void uring_queue(struct block_engine *engine, struct block_request *request)
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
}

/* What a ring has no operation for, or not with these buffers, is over or becomes something else at once. */
static bool uring_call(struct block_engine *engine, struct block_request *request)
{
	struct block_image *image = engine->image;

	while (block_request_is_range(request) && (image->device || request->op == BLOCK_ERASE))
		if (block_request_moved(image, request, block_range_call(image, request)))
			return true;
	while (block_bounce_wanted(request->base ?: image, request))
		if (block_request_moved(image, request,
					block_bounce_move(engine->bounce, image, request)))
			return true;
	return false;
}

static void uring_submit(struct block_engine *engine, struct block_request *request)
{
	block_request_begin(request);
	if (uring_call(engine, request))
		return;
	engine->in_flight++;
	uring_queue(engine, request);
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
}

static void uring_complete(struct block_engine *engine)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&engine->ring, &cqe) == 0) {
		struct block_request *request = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&engine->ring, cqe);
		if (block_request_moved(engine->image, request, result))
			engine->in_flight--;
		else
			uring_queue(engine, request);
	}
	uring_flush(engine);
}

static void uring_drain(struct block_engine *engine)
{
	while (engine->in_flight) {
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
