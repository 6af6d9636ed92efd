// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include "devices/block/block.h"

unsigned int block_request_rest(struct block_request *request, const struct iovec **ret_iov)
{
	size_t skip = request->moved;
	unsigned int i = 0;

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

bool block_request_moved(struct block_request *request, ssize_t result)
{
	if (result == -EINTR || result == -EAGAIN)
		return false;
	if (result > 0) {
		request->moved += (size_t)result;
		if (request->moved < request->len)
			return false;
		result = 0;
	} else if (result == 0 && request->op != BLOCK_FLUSH) {
		/* The file has become shorter than the disk. */
		result = -EIO;
	}
	request->done(request, (int)result);
	return true;
}
