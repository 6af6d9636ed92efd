// SPDX-License-Identifier: Apache-2.0
/*
 * Chains: how one is put together from its descriptors, checked and copied
 * once, and how a device reads and writes it.
 */
#include <assert.h>
#include <linux/virtio_ring.h>
#include "core/mem.h"
#include "core/util.h"
#include "devices/virtio/ring.h"

/* One iovec of a block is kept back: chain_split() may have to cut one in two. */
#define WALK_IOV_MAX (CHAIN_IOV_MAX - 1)

bool walk_buffer(struct walk *walk, uint64_t gpa, uint32_t len, bool writable)
{
	struct chain *chain = &walk->chain;
	struct cursor *cursor = writable ? &chain->in : &chain->out;
	int count;

	if (!len) {
		walk->fault = "an empty buffer";
		return false;
	}
	if (!writable && chain->in.count) {
		walk->fault = "a readable buffer behind a writable one";
		return false;
	}
	walk->bytes += len;
	if (walk->bytes > UINT32_MAX) {
		walk->fault = "a chain of 4 GiB or more";
		return false;
	}
	count = mem_iov(walk->mem, gpa, len, chain->block + walk->iov_count,
			WALK_IOV_MAX - walk->iov_count);
	if (count < 0) {
		walk->fault = count == -EFAULT ? "a buffer outside of memory" : "too many buffers";
		return false;
	}
	if (!cursor->count)
		cursor->iov = chain->block + walk->iov_count;
	cursor->count += (unsigned int)count;
	cursor->left += len;
	walk->iov_count += (unsigned int)count;
	return true;
}

bool walk_indirect(struct walk *walk, const struct virtq *queue, uint64_t gpa, uint32_t len,
		   bool next, struct walk_table *ret_table)
{
	if (!queue->indirect)
		walk->fault = "an indirect table that was not agreed on";
	else if (next)
		walk->fault = "an indirect table with a successor";
	else if (!len || len % sizeof(struct vring_desc))
		walk->fault = "an indirect table of odd length";
	if (walk->fault)
		return false;
	*ret_table = (struct walk_table){
		.hva = mem_ptr(walk->mem, gpa, len),
		.gpa = gpa,
		.count = len / (uint32_t)sizeof(struct vring_desc),
	};
	return true;
}

bool walk_fetch(struct walk *walk, const struct walk_table *table, uint32_t index, void *ret_desc)
{
	const uint64_t offset = (uint64_t)index * sizeof(struct vring_desc);
	struct vring_desc desc;

	static_assert(sizeof(desc) == sizeof(struct vring_packed_desc), "both layouts have 16 bytes");
	if (table->hva) {
		memcpy(&desc, table->hva + offset, sizeof(desc));
	} else if (mem_read(walk->mem, table->gpa + offset, &desc, sizeof(desc))) {
		walk->fault = "an indirect table outside of memory";
		return false;
	}
	/* The compiler must not go back to guest memory for it. */
	__asm__ volatile("" : "+m"(desc));
	memcpy(ret_desc, &desc, sizeof(desc));
	return true;
}

void *chain_request(struct chain *chain)
{
	return chain->queue->requests + chain->head * chain->queue->request_size;
}

void cursor_advance(struct cursor *cursor, size_t len)
{
	assert(len <= cursor->left);
	cursor->left -= len;
	cursor->done += len;
	while (len) {
		size_t part = util_min(len, cursor->iov->iov_len);

		cursor->iov->iov_base = (uint8_t *)cursor->iov->iov_base + part;
		cursor->iov->iov_len -= part;
		len -= part;
		if (!cursor->iov->iov_len) {
			cursor->iov++;
			cursor->count--;
		}
	}
}

static size_t cursor_copy(struct cursor *cursor, void *buffer, size_t len, bool to_guest)
{
	uint8_t *at = buffer;
	size_t copied = 0;

	len = util_min(len, cursor->left);
	while (copied < len) {
		size_t part = util_min(len - copied, cursor->iov->iov_len);

		if (to_guest)
			memcpy(cursor->iov->iov_base, at + copied, part);
		else
			memcpy(at + copied, cursor->iov->iov_base, part);
		cursor_advance(cursor, part);
		copied += part;
	}
	return copied;
}

size_t chain_pull(struct chain *chain, void *buffer, size_t len)
{
	return cursor_copy(&chain->out, buffer, len, false);
}

size_t chain_push(struct chain *chain, const void *buffer, size_t len)
{
	return cursor_copy(&chain->in, (void *)buffer, len, true);
}

size_t chain_push_tail(struct chain *chain, const void *buffer, size_t len)
{
	return cursor_copy(&chain->tail, (void *)buffer, len, true);
}

int chain_split(struct chain *chain, size_t len)
{
	struct cursor *in = &chain->in, *tail = &chain->tail;
	size_t rest = len;
	struct iovec *last;

	if (in->left < len || !len)
		return -EINVAL;
	last = in->iov + in->count - 1;
	while (rest > last->iov_len) {
		rest -= last->iov_len;
		last--;
	}
	tail->count = (unsigned int)(in->iov + in->count - last);
	in->count -= tail->count;
	if (rest < last->iov_len) {
		/* The cut goes through this iovec: its front half stays, the others move up by one. */
		memmove(last + 1, last, tail->count * sizeof(*last));
		last[1].iov_base = (uint8_t *)last[0].iov_base + last[0].iov_len - rest;
		last[1].iov_len = rest;
		last[0].iov_len -= rest;
		in->count++;
		last++;
	}
	tail->iov = last;
	tail->left = len;
	in->left -= len;
	return 0;
}

int chain_split_front(struct chain *chain, size_t len)
{
	struct cursor *in = &chain->in, *tail = &chain->tail;
	size_t rest = len;

	if (in->left < len || !len)
		return -EINVAL;
	*tail = (struct cursor){ .iov = in->iov, .left = len };
	while (rest && rest >= in->iov->iov_len) {
		rest -= in->iov->iov_len;
		in->iov++;
		in->count--;
		tail->count++;
	}
	if (rest) {
		/* As above; what stays is the back half. */
		memmove(in->iov + 1, in->iov, in->count * sizeof(*in->iov));
		in->iov[0].iov_len = rest;
		in->iov[1].iov_base = (uint8_t *)in->iov[1].iov_base + rest;
		in->iov[1].iov_len -= rest;
		in->iov++;
		tail->count++;
	}
	in->left -= len;
	return 0;
}
