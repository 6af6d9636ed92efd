// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include "core/util.h"
#include "devices/block/block.h"

#define ZERO_PIECE 4096
#define ZERO_PIECES 64

static const _Alignas(ZERO_PIECE) uint8_t zeroes[ZERO_PIECE];

#define ZERO_IOV { (void *)zeroes, ZERO_PIECE }
#define ZERO_IOV_8 ZERO_IOV, ZERO_IOV, ZERO_IOV, ZERO_IOV, ZERO_IOV, ZERO_IOV, ZERO_IOV, ZERO_IOV

static const struct iovec zero_iov[ZERO_PIECES] = {
	ZERO_IOV_8, ZERO_IOV_8, ZERO_IOV_8, ZERO_IOV_8, ZERO_IOV_8, ZERO_IOV_8, ZERO_IOV_8, ZERO_IOV_8,
};

static unsigned int rest_of_zeroes(struct block_request *request, const struct iovec **ret_iov)
{
	uint64_t left = request->len - request->moved;

	if (left >= ZERO_PIECE) {
		*ret_iov = zero_iov;
		return (unsigned int)util_min(left / ZERO_PIECE, ZERO_PIECES);
	}
	request->rest = (struct iovec){ (void *)zeroes, left };
	*ret_iov = &request->rest;
	return 1;
}

unsigned int block_request_rest(struct block_request *request, const struct iovec **ret_iov)
{
	uint64_t skip = request->moved;
	unsigned int i = 0;

	if (request->op == BLOCK_ZERO)
		return rest_of_zeroes(request, ret_iov);
	while (i < request->iov_count && skip >= request->iov[i].iov_len)
		skip -= request->iov[i++].iov_len;
	if (skip == 0) {
		*ret_iov = i < request->iov_count ? &request->iov[i] : NULL;
		return request->iov_count - i;
	}
	/* The owner's iovecs stay as they are: what remains of this one goes alone. */
	request->rest = (struct iovec){
		.iov_base = (char *)request->iov[i].iov_base + skip,
		.iov_len = request->iov[i].iov_len - skip,
	};
	*ret_iov = &request->rest;
	return 1;
}

/*
 * The kernel tells of a failed write-back once, and what was not written may
 * have left the page cache: a later flush that succeeds would be a lie.
 */
static int durable_result(struct block_image *image, int result)
{
	if (result < 0)
		atomic_store(&image->lost, true);
	else if (atomic_load(&image->lost))
		result = -EIO;
	return result;
}

/* What a range that was called for leaves to be done otherwise. */
static bool range_goes_on(struct block_request *request, ssize_t *result)
{
	if (*result == -EOPNOTSUPP && request->op == BLOCK_ZERO)
		return request->by_writing = true;
	if (*result == -EOPNOTSUPP && request->op == BLOCK_DISCARD)
		*result = 0;
	if (*result == 0 && request->durable)
		return request->by_flushing = true;
	return false;
}

bool block_request_moved(struct block_image *image, struct block_request *request, ssize_t result)
{
	if (result == -EINTR || result == -EAGAIN)
		return false;
	if (block_request_is_range(request)) {
		if (range_goes_on(request, &result))
			return false;
	} else if (result > 0) {
		request->moved += (uint64_t)result;
		if (request->moved < request->len)
			return false;
		result = 0;
	} else if (result == 0 && !block_request_is_flush(request)) {
		/* The file has become shorter than the disk. */
		result = -EIO;
	}
	if (request->op == BLOCK_FLUSH || request->durable)
		result = durable_result(image, (int)result);
	request->done(request, (int)result);
	return true;
}
