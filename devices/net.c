// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net (section 5.1): pairs of queues, each in front of a netdev and on
 * a worker of its own; what they share does not change while they run.
 *
 * Transmit hands the guest's buffers, header included, to the kernel, which
 * checks the header; there is no copy of ours.
 *
 * Which packets come, and to which pair, is the host's business: the control
 * queue (net_control.c) only tells it.
 *
 * An interface that was removed under us, or a peer that ended, is a pulled
 * cable: the link is down, what the guest sends is dropped, the VM lives. A
 * peer may come again. A person may pull the cable as well, and plug it in again;
 * meanwhile what comes is dropped, too.
 *
 * Limits are for all pairs together. A packet is paid for before it is sent.
 */
#include <endian.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include "devices/net.h"

/* Of a pair. */
#define NET_RX 0
#define NET_TX 1
#define NET_QUEUE_SIZE 256
#define NET_CONTROL_SIZE 64
/* Section 5.1.6.3.1: with segmentation offload. */
#define NET_LARGE_MAX 65550
#define NET_FRAME_OVERHEAD (ETH_HLEN + 4) /* with a VLAN tag */

static const char *const net_counters[] = {
	[NET_RX_PACKETS] = "rx_packets",
	[NET_RX_BYTES] = "rx_bytes",
	[NET_RX_NO_BUFFERS] = "rx_no_buffers",
	[NET_RX_DROPPED] = "rx_dropped",
	[NET_RX_THROTTLED] = "rx_throttled",
	[NET_TX_PACKETS] = "tx_packets",
	[NET_TX_BYTES] = "tx_bytes",
	[NET_TX_DROPPED] = "tx_dropped",
	[NET_TX_THROTTLED] = "tx_throttled",
	[NET_ERRORS] = "errors",
	NULL,
};

void net_watch(struct net_pair *pair, uint32_t events)
{
	if (pair->netdev->backlog)
		events |= EPOLLOUT;
	if (pair->gone || pair->watched == events)
		return;
	loop_mod(&pair->rx->worker->loop, &pair->event, events);
	pair->watched = events;
}

void net_set_status(struct net *net, uint32_t set, uint32_t clear)
{
	uint32_t old = atomic_fetch_or(&net->state.status, set), status;
	uint16_t shown;

	if (((old | set) & ~clear) == old)
		return;
	atomic_fetch_and(&net->state.status, ~clear);
	/* Of two workers that are here at once the last shows what both have done. */
	do {
		status = atomic_load(&net->state.status);
		shown = htole16((uint16_t)status);
		virtio_config_update(&net->dev, offsetof(struct virtio_net_config, status), &shown,
				     sizeof(shown));
	} while (status != atomic_load(&net->state.status));
}

void net_gone(struct net_pair *pair)
{
	if (pair->gone)
		return;
	loop_del(&pair->rx->worker->loop, &pair->event);
	pair->gone = true;
	atomic_store(&pair->net->gone, true);
	virtq_count(pair->rx, NET_ERRORS, 1);
	net_set_status(pair->net, 0, VIRTIO_NET_S_LINK_UP);
	if (pair->netdev->returns) {
		/* The main thread has it open, too: what runs at its other end would not see it closed. */
		(void)shutdown(pair->netdev->fd, SHUT_RDWR);
		netdev_ask(pair->netdev);
	}
	if (log_allowed(&pair->net->dev.complaints))
		log_warn("%s: %s is gone, the guest's link is down", pair->net->dev.name,
			 pair->netdev->name);
}

/* False when the netdev has no room and the chain has to wait. */
static bool net_send(struct net_pair *pair, struct chain *chain)
{
	ssize_t n;

	if (pair->gone || net_unplugged(pair->net))
		n = -ENETDOWN;
	else
		n = netdev_send(pair->netdev, chain->out.iov, chain->out.count);
	if (n == -EAGAIN)
		return false;
	if (n == -EBADFD)
		net_gone(pair);
	if (n < 0) {
		virtq_count(pair->tx, NET_TX_DROPPED, 1);
	} else {
		virtq_count(pair->tx, NET_TX_PACKETS, 1);
		virtq_count(pair->tx, NET_TX_BYTES, (size_t)n - NET_HEADER);
	}
	if (pair->netdev->backlog)
		net_watch(pair, pair->watched | EPOLLOUT);
	return true;
}

/* Whether the packet of len bytes, header included, may go now; else the timer will kick the queue. */
static bool net_send_allowed(struct net_pair *pair, size_t len)
{
	uint64_t wait;

	/* The driver may have put a larger one there since. */
	if (!pair->net->tx_limited || len <= pair->tx_paid)
		return true;
	wait = bucket_pair_take(&pair->net->tx_limit, len - NET_HEADER, util_now_ns());
	if (!wait)
		return true;
	virtq_count(pair->tx, NET_TX_THROTTLED, 1);
	timer_set(&pair->tx_timer, wait);
	return false;
}

static void net_transmit(struct net_pair *pair)
{
	struct chain *chain;

	while ((chain = virtq_pop(pair->tx))) {
		if (chain->out.left < NET_HEADER) {
			virtio_fail(&pair->net->dev, "a packet with a short header");
			return;
		}
		if (!net_send_allowed(pair, chain->out.left)) {
			virtq_unpop(pair->tx, chain);
			return;
		}
		if (!net_send(pair, chain)) {
			pair->tx_paid = chain->out.left;
			virtq_unpop(pair->tx, chain);
			net_watch(pair, pair->watched | EPOLLOUT);
			return;
		}
		pair->tx_paid = 0;
		virtq_done(pair->tx, chain);
	}
}

/* NULL for the control queue, and for those that the driver knows nothing of. */
static struct net_pair *net_pair_of(const struct virtq *queue)
{
	struct net *net = container_of(queue->dev, struct net, dev);
	unsigned int index = queue->index / 2;

	return index < net_pairs(net) ? &net->pairs[index] : NULL;
}

static void net_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct net *net = container_of(dev, struct net, dev);
	struct net_pair *pair = net_pair_of(queue);

	if (!pair) {
		if (queue->index == 2 * net_pairs(net) && virtio_has(dev, VIRTIO_NET_F_CTRL_VQ))
			net_control_kick(net, queue);
	} else if (queue == pair->tx) {
		net_transmit(pair);
	} else {
		net_receive_kick(pair);
	}
}

static void net_event(struct event *event, uint32_t revents)
{
	struct net_pair *pair = container_of(event, struct net_pair, event);

	if (revents & (EPOLLERR | EPOLLHUP)) {
		net_gone(pair);
		return;
	}
	/* A queue may have been stopped since they were found. */
	revents &= pair->watched;
	if (revents & EPOLLOUT && pair->netdev->backlog)
		netdev_flush(pair->netdev);
	if (revents & EPOLLOUT) {
		net_watch(pair, pair->watched & ~(uint32_t)EPOLLOUT);
		virtio_kick(pair->tx);
	}
	if (revents & EPOLLIN)
		net_receive(pair);
}

static void net_rx_timer(struct timer *timer)
{
	virtio_kick(container_of(timer, struct net_pair, rx_timer)->rx);
}

static void net_tx_timer(struct timer *timer)
{
	virtio_kick(container_of(timer, struct net_pair, tx_timer)->tx);
}

int net_show_link(struct net *net)
{
	const bool gone = atomic_load(&net->gone) || (net_has_remote(net) && net->remote.vhost.fd < 0);

	if (gone || net_unplugged(net))
		net_set_status(net, 0, VIRTIO_NET_S_LINK_UP);
	else
		net_set_status(net, VIRTIO_NET_S_LINK_UP, 0);
	return gone ? -ENODEV : 0;
}

/* What had ended is there again. */
static void net_return(struct event *event, uint32_t revents)
{
	struct net_pair *pair = container_of(event, struct net_pair, door);
	int r = netdev_reopen(pair->netdev);

	(void)revents;
	if (!r)
		r = loop_add(&pair->rx->worker->loop, &pair->event, 0);
	if (r < 0) {
		loop_del(&pair->rx->worker->loop, event);
		return;
	}
	pair->watched = 0;
	pair->gone = false;
	atomic_store(&pair->net->gone, false);
	(void)net_show_link(pair->net);
	if (log_allowed(&pair->net->dev.complaints))
		log_warn("%s: %s is back", pair->net->dev.name, pair->netdev->name);
	virtio_kick(pair->rx);
	virtio_kick(pair->tx);
}

static int net_start(struct virtio_dev *dev)
{
	struct net *net = container_of(dev, struct net, dev);
	const struct net_conf *conf = dev->conf;
	const uint64_t large = 1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |
			       1ULL << VIRTIO_NET_F_GUEST_USO4 | 1ULL << VIRTIO_NET_F_GUEST_USO6;
	int r;

	net->packet_max = NET_HEADER + (dev->features & large || net->netdevs[0].plain ?
		NET_LARGE_MAX : util_max(conf->mtu, ETH_DATA_LEN) + NET_FRAME_OVERHEAD);
	/* A save may be of a guest whose interface was gone; here there is another. */
	if (net->loaded)
		(void)net_show_link(net);
	/* Switches have to learn where the guest is now. */
	if (net->loaded && virtio_has(dev, VIRTIO_NET_F_GUEST_ANNOUNCE))
		net_set_status(net, VIRTIO_NET_S_ANNOUNCE, 0);
	net->loaded = false;
	/* EPOLLIN comes with the first kick of a receive queue. */
	r = net_control_apply(net);
	if (r < 0 && r != -EBADFD)
		return r;
	if (net_has_remote(net))
		return vhost_start(&net->remote.vhost, dev->features);
	return net->vhosts ? net_vhost_start(net) : 0;
}

static int net_queue_start(struct virtq *queue)
{
	struct net *net = container_of(queue->dev, struct net, dev);

	/* While the cable is pulled we drop packets ourselves. */
	if (!net_pair_of(queue) || net_unplugged(net))
		return 0;
	if (net_has_remote(net))
		return net_remote_queue_start(net, queue);
	return net->vhosts_started ? net_vhost_queue_start(net, queue) : 0;
}

/* Of what it cannot send to an interface that is gone vhost-net complains as of a bad descriptor. */
static void net_queue_error(struct virtq *queue)
{
	struct net *net = container_of(queue->dev, struct net, dev);

	if (net_has_remote(net) || !net_vhost_lost_tap(net, queue))
		virtio_fail(&net->dev, "%s found queue %u or its buffers wrong", net->dev.served_by,
			    queue->index);
	else
		net_gone(&net->pairs[queue->index / 2]);
}

static void net_queue_stop(struct virtq *queue)
{
	struct net_pair *pair = net_pair_of(queue);

	if (!pair)
		return;
	if (queue->vhost) {
		if (net_has_remote(pair->net))
			virtq_take_back(queue);
		else
			net_vhost_queue_stop(pair->net, queue);
		return;
	}
	if (queue == pair->tx) {
		pair->tx_paid = 0;
		net_watch(pair, pair->watched & ~(uint32_t)EPOLLOUT);
		return;
	}
	net_receive_stop(pair);
}

static void net_reset(struct virtio_dev *dev)
{
	net_control_reset(container_of(dev, struct net, dev));
}

static int net_set_link(struct virtio_dev *dev, bool up)
{
	struct net *net = container_of(dev, struct net, dev);

	if (!up) {
		net_set_status(net, NET_S_UNPLUGGED, VIRTIO_NET_S_LINK_UP);
		return 0;
	}
	net_set_status(net, 0, NET_S_UNPLUGGED);
	return net_show_link(net);
}

static int net_load(struct virtio_dev *dev)
{
	struct net *net = container_of(dev, struct net, dev);

	net->loaded = true;
	return net_control_check(net);
}

static void net_withhold(struct virtio_dev *dev, const struct net *net)
{
	const struct net_conf *conf = dev->conf;

	if (!conf->mtu)
		virtio_withhold(dev, VIRTIO_NET_F_MTU);
	if (dev->set_count == 1)
		virtio_withhold(dev, VIRTIO_NET_F_MQ);
	if (net->netdevs[0].plain)
		dev->offered &= ~(NET_OFFLOADS | NET_HOST_OFFLOADS |
				  1ULL << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (!net->netdevs[0].uso) {
		virtio_withhold(dev, VIRTIO_NET_F_HOST_USO);
		virtio_withhold(dev, VIRTIO_NET_F_GUEST_USO4);
		virtio_withhold(dev, VIRTIO_NET_F_GUEST_USO6);
	}
}

static int net_add_pair(struct net *net, unsigned int index)
{
	struct net_pair *pair = &net->pairs[index];
	int r;

	/* Not the window: it is large, and zero. */
	pair->net = net;
	pair->netdev = &net->netdevs[index];
	pair->rx = &net->dev.queues[2 * index + NET_RX];
	pair->tx = &net->dev.queues[2 * index + NET_TX];
	pair->event = (struct event){ .fd = pair->netdev->fd, .fn = net_event };
	pair->door = (struct event){ .fd = pair->netdev->door, .fn = net_return };
	/* Where a program moves packets none come here. */
	pair->gone = net_has_remote(net);
	if (pair->gone)
		return 0;
	r = worker_watch(pair->rx->worker, &pair->event, 0);
	if (!r && pair->netdev->returns)
		r = worker_watch(pair->rx->worker, &pair->door, EPOLLIN);
	if (!r && net->rx_limited)
		r = worker_timer(pair->rx->worker, &pair->rx_timer, net_rx_timer);
	if (!r && net->tx_limited)
		r = worker_timer(pair->tx->worker, &pair->tx_timer, net_tx_timer);
	/* Any worker may get commands that concern all pairs. */
	for (unsigned int i = 0; !r && i < net->dev.worker_count; i++)
		r = worker_keep_fd(&net->dev.workers[i], pair->event.fd);
	return r;
}

static void net_show_config(struct net *net)
{
	const struct net_conf *conf = net->dev.conf;
	const struct virtio_net_config config = {
		.max_virtqueue_pairs = htole16((uint16_t)net->dev.set_count),
		.mtu = htole16((uint16_t)conf->mtu),
	};

	virtio_config_update(&net->dev, 0, &config, net->dev.class->config_size);
	net_control_reset(net);
	net_set_status(net, VIRTIO_NET_S_LINK_UP, 0);
}

static bool net_one_worker(const void *conf)
{
	const struct net_conf *net = conf;

	return net->remote || net->remote_server;
}

static int net_init(struct virtio_dev *dev)
{
	struct net *net = container_of(dev, struct net, dev);
	const struct net_conf *conf = dev->conf;
	int r;

	r = net_open(net);
	if (r < 0)
		return r;
	bucket_pair_init(&net->rx_limit, &conf->rx_limit, util_now_ns());
	bucket_pair_init(&net->tx_limit, &conf->tx_limit, util_now_ns());
	net->rx_limited = bucket_pair_limits(&net->rx_limit);
	net->tx_limited = bucket_pair_limits(&net->tx_limit);
	r = net_vhost_open(net);
	if (r < 0)
		return r;
	net->pairs = calloc(dev->set_count, sizeof(*net->pairs));
	if (!net->pairs)
		return -ENOMEM;
	for (unsigned int i = 0; !r && i < dev->set_count; i++)
		r = net_add_pair(net, i);
	net_withhold(dev, net);
	net_show_config(net);
	return r;
}

static void net_free(struct virtio_dev *dev)
{
	struct net *net = container_of(dev, struct net, dev);

	net_vhost_close(net);
	vhost_user_close(&net->remote);
	for (unsigned int i = 0; i < dev->set_count; i++) {
		netdev_close(&net->netdevs[i]);
		if (!net->pairs)
			continue;
		timer_free(&net->pairs[i].rx_timer);
		timer_free(&net->pairs[i].tx_timer);
	}
	free(net->pairs);
}

static const struct sandbox net_sandbox = SANDBOX(
	/* What the control queue tells a tap; packets go by the base set's reads and writes. */
	SC_ARG(ioctl, 1, TUNSETOFFLOAD), SC_ARG(ioctl, 1, TUNSETQUEUE),
	SC_ARG(ioctl, 1, TUNATTACHFILTER), SC_ARG(ioctl, 1, TUNDETACHFILTER),
	/* Where vhost-net moves packets. */
	VHOST_KERNEL_CALLS, SC_ARG(ioctl, 1, VHOST_NET_SET_BACKEND),
	/* Where a program does. */
	VHOST_USER_CALLS,
);

const struct virtio_class net_class = {
	.name = "net",
	.option = "net",
	.summary = "a network interface",
	.sample = "loop",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000,
	.queue_sizes = (const uint16_t[]){ [NET_RX] = NET_QUEUE_SIZE, [NET_TX] = NET_QUEUE_SIZE },
	.queue_count = 2,
	.control_size = NET_CONTROL_SIZE,
	.features = 1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_MTU |
		    1ULL << VIRTIO_NET_F_STATUS | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
		    NET_OFFLOADS | NET_HOST_OFFLOADS | 1ULL << VIRTIO_NET_F_CTRL_VQ |
		    1ULL << VIRTIO_NET_F_CTRL_RX | 1ULL << VIRTIO_NET_F_CTRL_RX_EXTRA |
		    1ULL << VIRTIO_NET_F_CTRL_VLAN | 1ULL << VIRTIO_NET_F_CTRL_MAC_ADDR |
		    1ULL << VIRTIO_NET_F_GUEST_ANNOUNCE | 1ULL << VIRTIO_NET_F_MQ |
		    1ULL << VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
	.config_size = offsetof(struct virtio_net_config, speed),
	.dev_size = sizeof(struct net),
	.state_offset = offsetof(struct net, state),
	.state_size = sizeof(struct net_state),
	.state_version = 1,
	.opts = net_opts,
	.conf_size = sizeof(struct net_conf),
	.hints = net_hints,
	.counters = net_counters,
	.sandbox = &net_sandbox,
	.one_worker = net_one_worker,
	.init = net_init,
	.start = net_start,
	.queue_start = net_queue_start,
	.kick = net_kick,
	.queue_stop = net_queue_stop,
	.queue_error = net_queue_error,
	.reset = net_reset,
	.set_link = net_set_link,
	.load = net_load,
	.free = net_free,
};
