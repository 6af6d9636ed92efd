// SPDX-License-Identifier: Apache-2.0
#include "core/util.h"
#include "devices/vsock/vsock.h"

static uint32_t place(const struct vsock_buffer *buffer, uint32_t offset)
{
	return (uint32_t)(((uint64_t)buffer->head + offset) % buffer->size);
}

/* The part of [offset, offset + len) before the ring's end. */
static struct iovec stretch(const struct vsock_buffer *buffer, uint32_t offset, uint32_t len)
{
	uint32_t at = place(buffer, offset);

	return (struct iovec){ buffer->data + at, util_min(len, buffer->size - at) };
}

void vsock_buffer_put(struct vsock_buffer *buffer, const struct iovec *iov, unsigned int count,
		      size_t skip)
{
	for (; count; iov++, count--) {
		const uint8_t *from = iov->iov_base;
		size_t left = iov->iov_len - util_min(skip, iov->iov_len);

		skip -= iov->iov_len - left;
		from += iov->iov_len - left;
		while (left) {
			struct iovec to = stretch(buffer, buffer->used, (uint32_t)left);

			memcpy(to.iov_base, from, to.iov_len);
			buffer->used += (uint32_t)to.iov_len;
			from += to.iov_len;
			left -= to.iov_len;
		}
	}
}

void vsock_buffer_end(struct vsock_buffer *buffer)
{
	uint32_t last = place(buffer, buffer->used - 1);

	buffer->ends[last / 8] |= (uint8_t)(1u << last % 8);
	buffer->messages++;
}

static bool ends_at(const struct vsock_buffer *buffer, uint32_t offset)
{
	uint32_t at = place(buffer, offset);

	return buffer->ends[at / 8] >> at % 8 & 1;
}

bool vsock_buffer_has(const struct vsock_buffer *buffer, bool messages)
{
	return messages ? buffer->messages : buffer->used;
}

unsigned int vsock_buffer_peek(const struct vsock_buffer *buffer, bool messages,
			       struct iovec iov[2])
{
	uint32_t len = buffer->used;

	if (!vsock_buffer_has(buffer, messages))
		return 0;
	if (messages)
		for (len = 1; !ends_at(buffer, len - 1); len++)
			;
	iov[0] = stretch(buffer, 0, len);
	iov[1] = stretch(buffer, (uint32_t)iov[0].iov_len, len - (uint32_t)iov[0].iov_len);
	return iov[1].iov_len ? 2 : 1;
}

void vsock_buffer_take(struct vsock_buffer *buffer, uint32_t len)
{
	uint32_t last;

	if (!len)
		return;
	if (buffer->messages && ends_at(buffer, len - 1)) {
		last = place(buffer, len - 1);
		buffer->ends[last / 8] &= (uint8_t)~(1u << last % 8);
		buffer->messages--;
	}
	buffer->used -= len;
	/* From the front again, so that as few pages as can be are touched. */
	buffer->head = buffer->used ? place(buffer, len) : 0;
}

void vsock_buffer_clear(struct vsock_buffer *buffer)
{
	if (buffer->messages)
		memset(buffer->ends, 0, (buffer->size + 7) / 8);
	buffer->head = buffer->used = buffer->messages = 0;
}
