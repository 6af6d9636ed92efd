// SPDX-License-Identifier: Apache-2.0
/*
 * Packets moved by a program, by vhost-user. It has all pairs, so one worker
 * has them as well, and speaks for all. The control queue stays the device's;
 * of what it orders the program is told which pairs are in use.
 *
 * A program that ends is a pulled cable. When one is there instead it is given
 * the rings where the last one left them.
 */
#include <stdio.h>
#include "devices/net.h"

/* What a program does with rings and packets. */
#define NET_REMOTE_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_IN_ORDER | \
	 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
	 1ULL << VIRTIO_NET_F_MRG_RXBUF | NET_OFFLOADS | NET_HOST_OFFLOADS)
#define NET_REMOTE_WANTED \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_IN_ORDER)

/* While the cable is pulled. */
static ssize_t remote_receive(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	(void)netdev;
	(void)iov;
	(void)count;
	return -EAGAIN;
}

static ssize_t remote_send(struct netdev *netdev, const struct iovec *iov, unsigned int count)
{
	(void)netdev;
	(void)iov;
	(void)count;
	return -ENETDOWN;
}

static const struct netdev_ops remote_ops = { .receive = remote_receive, .send = remote_send };

static bool net_remote_uses(const struct net *net, const struct virtq *queue)
{
	return queue->index / 2 < net->state.pairs;
}

static void net_remote_changed(struct vhost_user *remote, bool there)
{
	struct net *net = container_of(remote, struct net, remote);
	unsigned int lent = 0;

	if (log_allowed(&net->dev.complaints))
		log_warn("%s: the program behind %s %s", net->dev.name, net->netdevs[0].name,
			 there ? "is back" : "is gone, the guest's link is down");
	for (unsigned int i = 0; there && i < 2 * net->dev.set_count; i++) {
		struct virtq *queue = &net->dev.queues[i];

		if (!queue->vhost)
			continue;
		if (!lent++)
			(void)vhost_start(&remote->vhost, net->dev.features);
		virtq_lend_again(queue);
		vhost_user_enable(remote, i, net_remote_uses(net, queue));
		virtio_kick(queue);
	}
	net_show_link(net);
}

/* In the words of net_hints. */
static int net_remote_error(int r, bool server)
{
	switch (r) {
	case -EPROTO:
	case -ECONNRESET:
	case -EREMOTEIO:
		return -EPROTO;
	case -ENOENT:
	case -ECONNREFUSED:
	case -ENOTSOCK:
		return server ? r : -EHOSTUNREACH;
	case -EADDRINUSE:
	case -EEXIST:
		return -EALREADY;
	default:
		return r;
	}
}

/* What its worker needs to speak, and to hand over. */
static int net_remote_keep_fds(struct net *net)
{
	struct worker *worker = &net->dev.workers[0];
	int r = worker_keep_fds(worker, (int[]){ net->remote.event.fd, net->remote.door.fd }, 2);

	for (size_t i = 0; !r && i < net->dev.mem->count; i++)
		r = worker_keep_fd(worker, net->dev.mem->regions[i].fd);
	return r;
}

int net_remote_open(struct net *net, const char *path, bool server)
{
	const char *slash = strrchr(path, '/');
	int r = vhost_user_open(&net->remote, path, server, net->dev.set_count, net->dev.mem);

	if (r < 0)
		return net_remote_error(r, server);
	if (net->dev.offered & NET_REMOTE_WANTED & ~net->remote.vhost.features)
		return -EPFNOSUPPORT;
	for (unsigned int i = 0; !r && i < 2 * net->dev.set_count; i++)
		r = virtq_lend_init(&net->dev.queues[i]);
	if (!r)
		r = net_remote_keep_fds(net);
	if (!r)
		r = vhost_user_watch(&net->remote, &net->dev.workers[0].loop, net_remote_changed);
	for (unsigned int i = 0; i < net->dev.set_count; i++) {
		net->netdevs[i] = (struct netdev){ .ops = &remote_ops, .fd = -1, .uso = true };
		snprintf(net->netdevs[i].name, sizeof(net->netdevs[i].name), "%s",
			 slash ? slash + 1 : path);
	}
	net->dev.offered &= net->remote.vhost.features | ~NET_REMOTE_FEATURES;
	/* Nobody tells the program. */
	virtio_withhold(&net->dev, VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	net->dev.served_by = "vhost-user";
	return r;
}

int net_remote_queue_start(struct net *net, struct virtq *queue)
{
	int r = virtq_lend(queue, &net->remote.vhost, queue->index);

	if (!r)
		vhost_user_enable(&net->remote, queue->index, net_remote_uses(net, queue));
	return r;
}

void net_remote_use_pairs(struct net *net)
{
	for (unsigned int i = 0; i < 2 * net->dev.set_count; i++)
		if (net->dev.queues[i].vhost)
			vhost_user_enable(&net->remote, i, net_remote_uses(net, &net->dev.queues[i]));
}
