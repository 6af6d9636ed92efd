// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "devices/block/block.h"

#define BOUNCE_ALIGN 4096
#define BOUNCE_SIZE KIB(64)

struct block_bounce {
	_Alignas(BOUNCE_ALIGN) uint8_t data[BOUNCE_SIZE];
};

int block_bounce_new(const struct block_image *image, struct block_bounce **ret_bounce)
{
	struct block_bounce *bounce = NULL;

	if (image->buffer_align) {
		bounce = aligned_alloc(BOUNCE_ALIGN, sizeof(*bounce));
		if (!bounce)
			return -ENOMEM;
	}
	*ret_bounce = bounce;
	return 0;
}

void block_bounce_free(struct block_bounce *bounce)
{
	free(bounce);
}

bool block_bounce_wanted(const struct block_image *image, const struct block_request *request)
{
	uintptr_t bits = 0;

	if (!image->buffer_align || request->op > BLOCK_WRITE)
		return false;
	for (unsigned int i = 0; i < request->iov_count; i++)
		bits |= (uintptr_t)request->iov[i].iov_base | request->iov[i].iov_len;
	return bits & (image->buffer_align - 1);
}

/* Copies len bytes of the request's, from offset moved on, to the bounce buffer or back. */
static void bounce_copy(struct block_bounce *bounce, const struct block_request *request, size_t len)
{
	uint64_t skip = request->moved;
	size_t done = 0;

	for (const struct iovec *iov = request->iov; done < len; iov++) {
		size_t from = (size_t)util_min(skip, iov->iov_len);
		size_t n = (size_t)util_min(iov->iov_len - from, len - done);
		uint8_t *theirs = (uint8_t *)iov->iov_base + from;

		skip -= from;
		if (request->op == BLOCK_READ)
			memcpy(theirs, bounce->data + done, n);
		else
			memcpy(bounce->data + done, theirs, n);
		done += n;
	}
}

ssize_t block_bounce_move(struct block_bounce *bounce, const struct block_image *image,
			  const struct block_request *request)
{
	size_t len = (size_t)util_min(request->len - request->moved, BOUNCE_SIZE);
	struct iovec iov = { bounce->data, len };
	off_t offset = (off_t)(request->offset + request->moved);
	ssize_t n;

	if (request->op == BLOCK_WRITE) {
		bounce_copy(bounce, request, len);
		n = pwritev2(image->fd, &iov, 1, offset, request->durable ? RWF_DSYNC : 0);
	} else {
		n = preadv(image->fd, &iov, 1, offset);
		if (n > 0)
			bounce_copy(bounce, request, (size_t)n);
	}
	return n < 0 ? -errno : n;
}
