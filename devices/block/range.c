// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include "devices/block/block.h"

int block_range_mode(const struct block_request *request)
{
	/* Space that the guest wants kept it is not to lose to another file. */
	if (request->op == BLOCK_ZERO && !request->unmap)
		return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
}

static int range_of_device(int fd, const struct block_request *request)
{
	uint64_t range[] = { request->offset, request->len };

	switch (request->op) {
	case BLOCK_DISCARD:
		return ioctl(fd, BLKDISCARD, range);
	case BLOCK_ERASE:
		return ioctl(fd, BLKSECDISCARD, range);
	default:
		/* The kernel writes zeroes where the device has no command for it. */
		return ioctl(fd, BLKZEROOUT, range);
	}
}

int block_range_call(const struct block_image *image, const struct block_request *request)
{
	int r;

	if (image->device)
		r = range_of_device(image->fd, request);
	else if (request->op == BLOCK_ERASE)
		return -EOPNOTSUPP;
	else
		r = fallocate(image->fd, block_range_mode(request), (off_t)request->offset,
			      (off_t)request->len);
	return r < 0 ? -errno : 0;
}
