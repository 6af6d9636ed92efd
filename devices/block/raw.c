// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <unistd.h>
#include "devices/block/block.h"

#define RAW_ALIGN 4096 /* of direct I/O, at the most */

bool block_looks_like_qcow2(int fd)
{
	static const char magic[] = { 'Q', 'F', 'I', '\xfb' };
	_Alignas(RAW_ALIGN) char head[RAW_ALIGN];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	return n >= (ssize_t)sizeof(magic) && !memcmp(head, magic, sizeof(magic));
}

static int raw_open(struct block_disk *disk)
{
	const struct block_image *image = &disk->image;

	/* A hole does; what a device makes of a discard is its own business. */
	disk->reads_zeroes = !image->device;
	if (disk->conf->format == BLOCK_FORMAT_DEFAULT && !disk->conf->scratch &&
	    block_looks_like_qcow2(image->fd))
		return -EMEDIUMTYPE;
	return 0;
}

static int raw_resize(struct block_disk *disk, uint64_t bytes, uint64_t *ret_size)
{
	int fd = disk->image.fd;
	off_t end;

	if (bytes && !disk->image.device && ftruncate(fd, (off_t)bytes) < 0)
		return -errno;
	/* Of a device, too. */
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	/* Nobody but its owner makes a device longer, and it may be by more than what was asked for. */
	if ((uint64_t)end < bytes)
		return -ENOSPC;
	*ret_size = bytes ? bytes : (uint64_t)end;
	return 0;
}

const struct block_format block_raw = {
	.open = raw_open,
	.resize = raw_resize,
	.queue_open = block_file_queue_open,
};
