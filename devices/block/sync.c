// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "devices/block/block.h"

struct block_engine {
	const struct block_image *image;
};

static int sync_open(struct block_engine **ret_engine, const struct block_image *image,
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

static ssize_t sync_move(int fd, struct block_request *request)
{
	off_t offset = (off_t)(request->offset + request->moved);
	const struct iovec *iov;
	unsigned int count = block_request_rest(request, &iov);

	switch (request->op) {
	case BLOCK_READ:
		return preadv(fd, iov, (int)count, offset);
	case BLOCK_WRITE:
		return pwritev2(fd, iov, (int)count, offset, request->durable ? RWF_DSYNC : 0);
	case BLOCK_FLUSH:
		return fdatasync(fd);
	}
	__builtin_unreachable();
}

static void sync_submit(struct block_engine *engine, struct block_request *request)
{
	ssize_t moved;

	request->moved = 0;
	do
		moved = sync_move(engine->image->fd, request);
	while (!block_request_moved(request, moved < 0 ? -errno : moved));
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
