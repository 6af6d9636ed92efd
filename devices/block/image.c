// SPDX-License-Identifier: Apache-2.0
#include "devices/block/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include "core/util.h"

#define CHUNK MIB(1)

int image_read(int fd, void *buffer, size_t len, uint64_t offset)
{
	size_t done = 0;
	ssize_t r;

	while (done < len) {
		/* Not pread(), which the filter of a disk's thread does not have. */
		struct iovec iov = { (char *)buffer + done, len - done };

		r = preadv(fd, &iov, 1, (off_t)(offset + done));
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0)
			break;
		if (r > 0)
			done += (size_t)r;
	}
	memset((char *)buffer + done, 0, len - done);
	return 0;
}

int image_write(int fd, const void *buffer, size_t len, uint64_t offset)
{
	size_t done = 0;
	ssize_t r;

	while (done < len) {
		r = pwrite(fd, (const char *)buffer + done, len - done, (off_t)(offset + done));
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r > 0)
			done += (size_t)r;
	}
	return 0;
}

static int write_zeros(int fd, uint64_t offset, uint64_t len, struct image_progress *progress)
{
	_cleanup_free_ void *zeros = calloc(1, CHUNK);
	int r = zeros ? 0 : -ENOMEM;

	for (uint64_t done = 0; r == 0 && done < len; done += CHUNK) {
		r = image_write(fd, zeros, util_min(CHUNK, len - done), offset + done);
		if (r == 0)
			r = progress->report(progress, done, len);
	}
	return r;
}

int image_preallocate(int fd, uint64_t offset, uint64_t len, enum image_preallocation how,
		      struct image_progress *progress)
{
	if (how == IMAGE_FULL)
		return write_zeros(fd, offset, len, progress);
	if (how == IMAGE_FALLOC && len && fallocate(fd, 0, (off_t)offset, (off_t)len) < 0)
		return -errno;
	return 0;
}
