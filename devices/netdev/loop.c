// SPDX-License-Identifier: Apache-2.0
/* An interface that hears itself: a datagram socket that is its own peer. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "core/util.h"
#include "devices/netdev/netdev.h"

static ssize_t loop_receive(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	ssize_t n = readv(netdev->fd, iov, (int)count);

	return n < 0 ? -errno : n;
}

static ssize_t loop_send(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	ssize_t n = writev(netdev->fd, iov, (int)count);

	return n < 0 ? -errno : n;
}

static const struct netdev_ops loop_ops = {
	.receive = loop_receive,
	.send = loop_send,
};

int netdev_loop_open(struct netdev *netdev)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(address);

	if (fd < 0)
		return -errno;
	/* A bare family: the kernel picks a name that is free. */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) < 0 ||
	    connect(fd, (struct sockaddr *)&address, len) < 0)
		return -errno;
	*netdev = (struct netdev){ .ops = &loop_ops, .fd = util_steal_fd(&fd), .uso = true };
	return 0;
}
