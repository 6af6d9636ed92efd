// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "devices/block/block.h"

struct block_engine {
	struct block_image *image;
	struct block_bounce *bounce;
};

static int sync_open(struct block_engine **ret_engine, struct block_image *image,
		     unsigned int depth)
{
	_cleanup_free_ struct block_engine *engine = calloc(1, sizeof(*engine));
	int r;

	(void)depth;
	if (!engine)
		return -ENOMEM;
	engine->image = image;
	r = block_bounce_new(image, &engine->bounce);
	if (r == 0)
		*ret_engine = util_steal_ptr(&engine);
	return r;
}

static int sync_fd(const struct block_engine *engine)
{
	(void)engine;
	return -1;
}

static int sync_start(struct block_engine *engine)
{
	(void)engine;
	return 0;
}

static ssize_t sync_move(const struct block_engine *engine, struct block_request *request)
{
	const struct block_image *image = request->base ?: engine->image;
	off_t offset = (off_t)(request->offset + request->moved);
	const struct iovec *iov;
	unsigned int count;
	ssize_t moved;

	if (block_request_is_range(request))
		return block_range_call(image, request);
	if (block_bounce_wanted(image, request))
		return block_bounce_move(engine->bounce, image, request);
	count = block_request_rest(request, &iov);
	if (request->op == BLOCK_READ)
		moved = preadv(image->fd, iov, (int)count, offset);
	else if (block_request_is_flush(request))
		moved = fdatasync(image->fd);
	else
		moved = pwritev2(image->fd, iov, (int)count, offset,
				 request->durable ? RWF_DSYNC : 0);
	return moved < 0 ? -errno : moved;
}

static void sync_submit(struct block_engine *engine, struct block_request *request)
{
	block_request_begin(request);
	while (!block_request_moved(engine->image, request, sync_move(engine, request)))
		;
}

/* Requests are over when submit returns. */
static void sync_nothing(struct block_engine *engine)
{
	(void)engine;
}

static void sync_close(struct block_engine *engine)
{
	if (!engine)
		return;
	block_bounce_free(engine->bounce);
	free(engine);
}

const struct block_engine_ops block_sync = {
	.open = sync_open,
	.fd = sync_fd,
	.start = sync_start,
	.submit = sync_submit,
	.flush = sync_nothing,
	.complete = sync_nothing,
	.drain = sync_nothing,
	.close = sync_close,
};
