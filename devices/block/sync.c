// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "devices/block/block.h"

struct block_engine {
	struct block_image *image;
};

static int sync_open(struct block_engine **ret_engine, struct block_image *image,
		     unsigned int depth)
{
	struct block_engine *engine = malloc(sizeof(*engine));

	(void)depth;
	if (!engine)
		return -ENOMEM;
	engine->image = image;
	*ret_engine = engine;
	return 0;
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

static ssize_t sync_move(const struct block_image *image, struct block_request *request)
{
	off_t offset = (off_t)(request->offset + request->moved);
	const struct iovec *iov;
	unsigned int count;
	ssize_t moved;

	if (block_request_is_range(request))
		return block_range_call(image, request);
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
	struct block_image *image = engine->image;

	block_request_begin(request);
	while (!block_request_moved(image, request, sync_move(image, request)))
		;
}

/* Requests are over when submit returns. */
static void sync_nothing(struct block_engine *engine)
{
	(void)engine;
}

static void sync_close(struct block_engine *engine)
{
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
