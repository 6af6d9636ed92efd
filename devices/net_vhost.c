// SPDX-License-Identifier: Apache-2.0
/*
 * Packets moved by the host's kernel: a vhost-net for each pair, between the
 * pair's two queues and its tap. The control queue stays the device's, since
 * what it orders is the tap's business, whoever moves the packets.
 *
 * Of a tap that is removed we would hear only if each packet woke us. So we have
 * the host's changes of interfaces told, and then look whether ours is there.
 */
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include "devices/net.h"

/* Of the rings and the headers; all others are the tap's, or ours. */
#define NET_VHOST_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_IN_ORDER | \
	 1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
	 1ULL << VIRTIO_NET_F_MRG_RXBUF)
/* Without these it does not do what the configuration asks for. */
#define NET_VHOST_WANTED \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_IN_ORDER)

void net_vhost_close(struct net *net)
{
	for (unsigned int i = 0; net->vhosts && i < net->dev.set_count; i++)
		vhost_close(&net->vhosts[i]);
	if (net->vhosts)
		util_closep(&net->links.fd);
	free(util_steal_ptr(&net->vhosts));
}

static int net_vhost_open_pairs(struct net *net)
{
	int r = 0;

	net->vhosts = calloc(net->dev.set_count, sizeof(*net->vhosts));
	if (!net->vhosts)
		return -ENOMEM;
	net->links.fd = -1;
	for (unsigned int i = 0; i < net->dev.set_count; i++)
		net->vhosts[i].fd = -1;
	for (unsigned int i = 0; !r && i < net->dev.set_count; i++)
		r = vhost_kernel_open(&net->vhosts[i], "/dev/vhost-net", net->dev.mem);
	if (r < 0)
		return -ENOLINK;
	if (net->dev.offered & NET_VHOST_WANTED & ~net->vhosts[0].features)
		return -EPROTONOSUPPORT;
	return 0;
}

static int net_vhost_add_pair(struct net *net, unsigned int pair)
{
	struct virtq *queues = &net->dev.queues[(size_t)2 * pair];
	const int fd = net->vhosts[pair].fd;
	int r = virtq_lend_init(&queues[0]);

	if (!r)
		r = virtq_lend_init(&queues[1]);
	/* The first worker starts all of them, each its own pair's queues. */
	if (!r)
		r = worker_keep_fd(&net->dev.workers[0], fd);
	return r < 0 ? r : worker_keep_fd(&net->dev.workers[pair], fd);
}

bool net_vhost_lost_tap(const struct net *net, const struct virtq *queue)
{
	struct pollfd tap = { .fd = net->netdevs[queue->index / 2].fd };

	return ppoll(&tap, 1, &(struct timespec){ 0 }, NULL) == 1 && tap.revents & POLLERR;
}

static void net_vhost_links(struct event *event, uint32_t revents)
{
	struct net *net = container_of(event, struct net, links);
	char message[4096];

	(void)revents;
	/* What they say, and whether some were lost, does not matter. */
	while (read(event->fd, message, sizeof(message)) > 0 || errno == ENOBUFS)
		;
	if (net_vhost_lost_tap(net, &net->dev.queues[0]))
		net_gone(net->pairs);
}

static int net_vhost_watch_links(struct net *net)
{
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };

	net->links.fn = net_vhost_links;
	net->links.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (net->links.fd < 0 ||
	    bind(net->links.fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return worker_watch(&net->dev.workers[0], &net->links, EPOLLIN);
}

int net_vhost_open(struct net *net)
{
	const struct net_conf *conf = net->dev.conf;
	int r;

	if (net_has_remote(net) && (net->rx_limited || net->tx_limited))
		return -ESOCKTNOSUPPORT;
	if (conf->vhost == NET_VHOST_OFF)
		return 0;
	/* The kernel does not count packets against our limits. */
	r = net->netdevs[0].is_tap && !net->rx_limited && !net->tx_limited ?
		    net_vhost_open_pairs(net) : -ESOCKTNOSUPPORT;
	if (r < 0) {
		net_vhost_close(net);
		return conf->vhost == NET_VHOST_ON ? r : 0;
	}
	net->dev.offered &= net->vhosts[0].features | ~NET_VHOST_FEATURES;
	net->dev.served_by = "vhost-net";
	for (unsigned int i = 0; !r && i < net->dev.set_count; i++)
		r = net_vhost_add_pair(net, i);
	return r < 0 ? r : net_vhost_watch_links(net);
}

int net_vhost_start(struct net *net)
{
	const struct net_conf *conf = net->dev.conf;
	int r = 0;

	for (unsigned int i = 0; !r && i < net_pairs(net); i++)
		r = vhost_start(&net->vhosts[i], net->dev.features);
	net->vhosts_started = !r;
	if (!r || conf->vhost == NET_VHOST_ON)
		return r;
	/* Its limits of threads and of memory regions show no earlier. */
	net->dev.served_by = NULL;
	if (log_allowed(&net->dev.complaints))
		log_warn("%s: vhost-net cannot be started, packets go without it: %s", net->dev.name,
			 strerror(-r));
	return 0;
}

/* fd -1: to nothing, and when this returns it has let go of the queue's buffers. */
static int net_vhost_connect(struct net *net, const struct virtq *queue, int fd)
{
	const struct vhost_vring_file file = { .index = queue->index % 2, .fd = fd };

	return ioctl(net->vhosts[queue->index / 2].fd, VHOST_NET_SET_BACKEND, &file) < 0 ? -errno : 0;
}

int net_vhost_queue_start(struct net *net, struct virtq *queue)
{
	const unsigned int pair = queue->index / 2;
	int r = virtq_lend(queue, &net->vhosts[pair], queue->index % 2);

	if (r < 0)
		return r;
	r = net_vhost_connect(net, queue, net->netdevs[pair].fd);
	/* Nothing comes of an interface that is gone, and nothing goes there: a pulled cable. */
	if (!r || net_vhost_lost_tap(net, queue))
		return 0;
	virtq_take_back(queue);
	return r;
}

void net_vhost_queue_stop(struct net *net, struct virtq *queue)
{
	(void)net_vhost_connect(net, queue, VHOST_FILE_UNBIND);
	virtq_take_back(queue);
}
