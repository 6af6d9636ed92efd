// SPDX-License-Identifier: Apache-2.0
/*
 * A peer at the other end of a stream socket, as passt and QEMU's socket
 * networks have it: each frame follows its length, 32 bits, big-endian. There
 * is no header of virtio's, so there are no offloads: it is skipped on the way
 * out, and empty on the way in.
 *
 * A frame is received straight into the guest's buffers, and the same call
 * fetches the length of the next. So no frame is ever held here, and the socket
 * is readable for as long as there is something to do. A frame that comes in
 * pieces stays where it was begun; what comes after the guest has taken these
 * buffers away (stream_abandon) is thrown away.
 *
 * While the socket is full the guest keeps its packets. Only of one that was
 * sent in part the rest is copied, since the peer waits for it, be the device
 * reset meanwhile or not: this is the backlog, one packet at the most.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include "core/redial.h"
#include "core/util.h"
#include "devices/netdev/netdev.h"

#define STREAM_HEADER sizeof(struct virtio_net_hdr_v1)
#define STREAM_FRAME_MAX 65535

struct netdev_stream {
	uint32_t len;   /* of the frame that is being received; 0: not known yet */
	uint32_t done;  /* bytes of it */
	uint32_t waste; /* bytes to be thrown away before the next length */
	uint32_t next;  /* the next frame's length, as far as it has come */
	size_t next_len;
	/* What follows counts while netdev->backlog. */
	size_t backlog_at, backlog_len;
	uint8_t backlog[sizeof(uint32_t) + STREAM_FRAME_MAX];
};

static ssize_t stream_result(ssize_t n)
{
	if (n > 0)
		return n;
	/* Its end is for good. */
	return n < 0 && errno != EPIPE && errno != ECONNRESET ? -errno : -EBADFD;
}

static size_t stream_size(const struct iovec *iov, unsigned int count)
{
	size_t size = 0;

	while (count--)
		size += iov[count].iov_len;
	return size;
}

/* The part [offset, offset + len) of iov, as far as max iovecs hold it; returns how many. */
static unsigned int stream_part(const struct iovec *iov, size_t offset, size_t len,
				struct iovec *part, unsigned int max)
{
	unsigned int count = 0;

	for (; len && count < max; iov++) {
		size_t skip = util_min(offset, iov->iov_len);
		size_t n = util_min(len, iov->iov_len - skip);

		offset -= skip;
		len -= n;
		if (n)
			part[count++] = (struct iovec){ (uint8_t *)iov->iov_base + skip, n };
	}
	return count;
}

/* ---- from the peer ---- */

static int stream_waste(struct netdev *netdev)
{
	struct netdev_stream *stream = netdev->stream;
	uint8_t scratch[4096];

	while (stream->waste) {
		ssize_t n = stream_result(read(netdev->fd, scratch,
					       util_min(stream->waste, sizeof(scratch))));

		if (n < 0)
			return (int)n;
		stream->waste -= (uint32_t)n;
	}
	return 0;
}

/* Until the frame's length is known. */
static int stream_begin(struct netdev *netdev)
{
	struct netdev_stream *stream = netdev->stream;

	while (stream->next_len < sizeof(stream->next)) {
		ssize_t n = stream_result(read(netdev->fd, (uint8_t *)&stream->next + stream->next_len,
					       sizeof(stream->next) - stream->next_len));

		if (n < 0)
			return (int)n;
		stream->next_len += (size_t)n;
	}
	stream->len = be32toh(stream->next);
	stream->done = 0;
	stream->next_len = 0;
	/* Whoever says so does not speak this protocol. */
	return stream->len >= ETH_HLEN && stream->len <= STREAM_FRAME_MAX ? 0 : -EBADFD;
}

static void stream_abandon(struct netdev *netdev)
{
	struct netdev_stream *stream = netdev->stream;

	stream->waste += stream->len - stream->done;
	stream->len = stream->done = 0;
}

/* As much of the frame as has come, and the length of the next. */
static ssize_t stream_fill(struct netdev *netdev, const struct iovec *iov)
{
	struct netdev_stream *stream = netdev->stream;
	struct iovec part[IOV_MAX];
	size_t left = stream->len - stream->done;
	unsigned int count = stream_part(iov, STREAM_HEADER + stream->done, left, part, IOV_MAX);
	ssize_t n;

	if (count < IOV_MAX)
		part[count++] = (struct iovec){ &stream->next, sizeof(stream->next) };
	n = stream_result(readv(netdev->fd, part, (int)count));
	if (n < 0)
		return n;
	if ((size_t)n < left) {
		stream->done += (uint32_t)n;
		return -EAGAIN;
	}
	stream->next_len = (size_t)n - left;
	n = (ssize_t)(STREAM_HEADER + stream->len);
	stream->len = stream->done = 0;
	return n;
}

static void stream_clear_header(const struct iovec *iov)
{
	struct iovec part[STREAM_HEADER];
	unsigned int count = stream_part(iov, 0, STREAM_HEADER, part, ARRAY_SIZE(part));

	while (count--)
		memset(part[count].iov_base, 0, part[count].iov_len);
}

static ssize_t stream_receive(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	struct netdev_stream *stream = netdev->stream;
	ssize_t n = stream_waste(netdev);

	if (!n && !stream->len)
		n = stream_begin(netdev);
	if (n < 0)
		return n;
	if (stream_size(iov, count) < STREAM_HEADER + stream->len) {
		stream_abandon(netdev);
		return -EMSGSIZE;
	}
	n = stream_fill(netdev, iov);
	if (n > 0)
		stream_clear_header(iov);
	return n;
}

/* ---- to the peer ---- */

/* Keeps what follows the first sent bytes. */
static void stream_keep_rest(struct netdev *netdev, const struct iovec *iov, unsigned int count,
			     size_t sent)
{
	struct netdev_stream *stream = netdev->stream;

	stream->backlog_at = stream->backlog_len = 0;
	for (unsigned int i = 0; i < count; i++) {
		size_t skip = util_min(sent, iov[i].iov_len);

		sent -= skip;
		memcpy(stream->backlog + stream->backlog_len, (uint8_t *)iov[i].iov_base + skip,
		       iov[i].iov_len - skip);
		stream->backlog_len += iov[i].iov_len - skip;
	}
	netdev->backlog = true;
}

static ssize_t stream_send(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	const size_t size = stream_size(iov, count), len = size - STREAM_HEADER;
	const uint32_t prefix = htobe32((uint32_t)len);
	struct iovec part[IOV_MAX] = { { (void *)&prefix, sizeof(prefix) } };
	ssize_t n;

	if (netdev->backlog)
		return -EAGAIN;
	if (len < ETH_HLEN || len > STREAM_FRAME_MAX)
		return -EMSGSIZE;
	count = 1 + stream_part(iov, STREAM_HEADER, len, part + 1, IOV_MAX - 1);
	if (stream_size(part, count) != sizeof(prefix) + len)
		return -EMSGSIZE;
	n = stream_result(writev(netdev->fd, part, (int)count));
	if (n < 0)
		return n;
	if ((size_t)n < sizeof(prefix) + len)
		stream_keep_rest(netdev, part, count, (size_t)n);
	return (ssize_t)size;
}

static void stream_flush(struct netdev *netdev)
{
	struct netdev_stream *stream = netdev->stream;
	ssize_t n = write(netdev->fd, stream->backlog + stream->backlog_at,
			  stream->backlog_len - stream->backlog_at);

	/* An error will be met by whoever sends or receives next. */
	if (n > 0)
		stream->backlog_at += (size_t)n;
	netdev->backlog = stream->backlog_at < stream->backlog_len &&
			  (n > 0 || errno == EAGAIN);
}

static const struct netdev_ops stream_ops = {
	.receive = stream_receive,
	.send = stream_send,
	.flush = stream_flush,
	.abandon = stream_abandon,
};

void netdev_ask(struct netdev *netdev)
{
	redial_ask(netdev->door);
}

int netdev_reopen(struct netdev *netdev)
{
	_cleanup_close_ int fd = -1;
	int r = redial_take(netdev->door, &fd);

	if (r < 0)
		return r;
	if (dup3(fd, netdev->fd, O_CLOEXEC) < 0)
		return -errno;
	/* Nothing of a frame that was begun will come, or is waited for. */
	memset(netdev->stream, 0, offsetof(struct netdev_stream, backlog_at));
	netdev->backlog = false;
	return 0;
}

int netdev_stream_open(struct netdev *netdev, const char *name, int fd)
{
	struct netdev_stream *stream = calloc(1, sizeof(*stream));

	if (!stream)
		return -ENOMEM;
	*netdev = (struct netdev){ .ops = &stream_ops, .fd = fd, .plain = true, .stream = stream };
	snprintf(netdev->name, sizeof(netdev->name), "%s", name);
	return 0;
}
