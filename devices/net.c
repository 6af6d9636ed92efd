// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-net (section 5.1): one pair of queues in front of a netdev.
 *
 * Transmit hands the guest's buffers, header included, to the kernel, which
 * checks the header; there is no copy of ours.
 *
 * Receive cannot know how large the next packet is. So it keeps a window: the
 * oldest chains of the ring, popped already, whose iovecs in a row have room
 * for the largest packet that can come. A packet is read straight into them;
 * the chains that it filled go back, the rest is the front of the next window.
 * While the ring cannot fill the window the netdev is not watched, and packets
 * wait in the host's queue, until the driver kicks.
 *
 * An interface that was removed under us is a pulled cable: the link is down,
 * what the guest sends is dropped, the VM lives.
 */
#include <endian.h>
#include <limits.h>
#include <linux/if_ether.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include "devices/netdev/netdev.h"
#include "devices/virtio/virtio.h"

#define NET_RX 0
#define NET_TX 1
#define NET_QUEUE_SIZE 256
#define NET_HEADER sizeof(struct virtio_net_hdr_v1)
/* Section 5.1.6.3.1: with segmentation offload. */
#define NET_LARGE_MAX 65550
#define NET_FRAME_OVERHEAD (ETH_HLEN + 4) /* with a VLAN tag */
/* Packets at a time: the other direction gets its turn, and the driver its interrupt. */
#define NET_RX_BATCH 64

struct net_conf {
	char *tap;
	uint64_t fd;
	uint8_t mac[ETH_ALEN];
	uint64_t mtu;
};

struct net_window {
	struct chain *chains[NET_QUEUE_SIZE];
	unsigned int chain_count;
	struct iovec iov[CHAIN_IOV_MAX];
	unsigned int iov_count;
	size_t room;
};

struct net {
	struct virtio_dev dev;
	struct netdev netdev;
	struct event event;
	uint32_t watched; /* what event waits for */
	bool gone;        /* the interface was removed; event is in no loop */
	size_t packet_max;
	struct net_window window;
};

enum net_counter {
	NET_RX_PACKETS,
	NET_RX_BYTES,
	NET_RX_NO_BUFFERS,
	NET_TX_PACKETS,
	NET_TX_BYTES,
	NET_TX_DROPPED,
	NET_ERRORS,
};

static const char *const net_counters[] = {
	[NET_RX_PACKETS] = "rx_packets",
	[NET_RX_BYTES] = "rx_bytes",
	[NET_RX_NO_BUFFERS] = "rx_no_buffers",
	[NET_TX_PACKETS] = "tx_packets",
	[NET_TX_BYTES] = "tx_bytes",
	[NET_TX_DROPPED] = "tx_dropped",
	[NET_ERRORS] = "errors",
	NULL,
};

/* Waits for these, and no others; spares the system call when it does already. */
static void net_watch(struct net *net, uint32_t events)
{
	if (net->gone || net->watched == events)
		return;
	loop_mod(&net->dev.worker.loop, &net->event, events);
	net->watched = events;
}

static void net_gone(struct net *net)
{
	uint16_t down = 0;

	loop_del(&net->dev.worker.loop, &net->event);
	net->gone = true;
	virtio_count(&net->dev, NET_ERRORS, 1);
	virtio_config_update(&net->dev, offsetof(struct virtio_net_config, status), &down,
			     sizeof(down));
}

/* Whether a packet of any size may come. */
static bool net_window_full(const struct net *net, const struct virtq *queue)
{
	const struct net_window *window = &net->window;

	if (!virtio_has(&net->dev, VIRTIO_NET_F_MRG_RXBUF))
		return window->chain_count == 1;
	/* A driver with a small ring has given all that it has. */
	return window->room >= net->packet_max || window->chain_count == queue->size;
}

/* Tops the window up. False when the ring is empty, or broken. */
static bool net_window_fill(struct net *net, struct virtq *queue)
{
	struct net_window *window = &net->window;
	struct chain *chain;

	while (!net_window_full(net, queue)) {
		chain = virtq_pop(queue);
		if (!chain)
			return false;
		if (chain->in.left < NET_HEADER) {
			virtio_fail(&net->dev, "a receive buffer without room for the header");
			return false;
		}
		/* Buffers in so many pieces that no call can take more: they have to do. */
		if (chain->in.count > CHAIN_IOV_MAX - window->iov_count) {
			virtq_unpop(queue, chain);
			return true;
		}
		memcpy(window->iov + window->iov_count, chain->in.iov,
		       chain->in.count * sizeof(*window->iov));
		window->iov_count += chain->in.count;
		window->room += chain->in.left;
		window->chains[window->chain_count++] = chain;
	}
	return true;
}

/* Takes the first chains, which have iov_count iovecs together, off the window. */
static void net_window_drop(struct net_window *window, unsigned int chain_count,
			    unsigned int iov_count)
{
	window->chain_count -= chain_count;
	window->iov_count -= iov_count;
	memmove(window->chains, window->chains + chain_count,
		window->chain_count * sizeof(*window->chains));
	memmove(window->iov, window->iov + iov_count, window->iov_count * sizeof(*window->iov));
}

/* The kernel left num_buffers to us; it may lie anywhere among the first chain's iovecs. */
static void net_write_num_buffers(struct chain *first, uint16_t count)
{
	count = htole16(count);
	cursor_advance(&first->in, offsetof(struct virtio_net_hdr_v1, num_buffers));
	chain_push(first, &count, sizeof(count));
}

/* Returns the chains that a packet of len bytes, header included, filled. */
static void net_deliver(struct net *net, struct virtq *queue, size_t len)
{
	struct net_window *window = &net->window;
	unsigned int chain_count = 0, iov_count = 0;
	size_t room = 0;

	while (room < len) {
		room += window->chains[chain_count]->in.left;
		iov_count += window->chains[chain_count]->in.count;
		chain_count++;
	}
	window->room -= room;
	net_write_num_buffers(window->chains[0], (uint16_t)chain_count);
	len -= NET_HEADER;
	for (unsigned int i = 0; i < chain_count; i++) {
		struct chain *chain = window->chains[i];
		size_t part = util_min(len, chain->in.left);

		cursor_advance(&chain->in, part);
		len -= part;
		virtq_done(queue, chain);
	}
	net_window_drop(window, chain_count, iov_count);
}

/* One packet; false when there is no more to do now. */
static bool net_receive(struct net *net, struct virtq *queue)
{
	ssize_t n;

	if (!net_window_fill(net, queue)) {
		net_watch(net, net->watched & ~(uint32_t)EPOLLIN);
		virtio_count(&net->dev, NET_RX_NO_BUFFERS, 1);
		return false;
	}
	n = netdev_receive(&net->netdev, net->window.iov, net->window.iov_count);
	if (n == -EAGAIN)
		return false;
	if (n == -EBADFD) {
		net_gone(net);
		return false;
	}
	if (n < (ssize_t)NET_HEADER) {
		virtio_count(&net->dev, NET_ERRORS, 1);
		return false;
	}
	net_deliver(net, queue, (size_t)n);
	virtio_count(&net->dev, NET_RX_PACKETS, 1);
	virtio_count(&net->dev, NET_RX_BYTES, (size_t)n - NET_HEADER);
	return true;
}

/* False when the netdev has no room and the chain has to wait. */
static bool net_send(struct net *net, struct chain *chain)
{
	ssize_t n = net->gone ? -EBADFD : netdev_send(&net->netdev, chain->out.iov, chain->out.count);

	if (n == -EAGAIN)
		return false;
	if (n == -EBADFD && !net->gone)
		net_gone(net);
	if (n < 0) {
		virtio_count(&net->dev, NET_TX_DROPPED, 1);
	} else {
		virtio_count(&net->dev, NET_TX_PACKETS, 1);
		virtio_count(&net->dev, NET_TX_BYTES, (size_t)n - NET_HEADER);
	}
	return true;
}

static void net_transmit(struct net *net, struct virtq *queue)
{
	struct chain *chain;

	while ((chain = virtq_pop(queue))) {
		if (chain->out.left < NET_HEADER) {
			virtio_fail(&net->dev, "a packet with a short header");
			return;
		}
		if (!net_send(net, chain)) {
			virtq_unpop(queue, chain);
			net_watch(net, net->watched | EPOLLOUT);
			return;
		}
		virtq_done(queue, chain);
	}
}

static void net_kick(struct virtio_dev *dev, struct virtq *queue)
{
	struct net *net = container_of(dev, struct net, dev);

	/* What waits in the netdev for buffers comes with the next turn. */
	if (queue->index == NET_RX)
		net_watch(net, net->watched | EPOLLIN);
	else
		net_transmit(net, queue);
}

static void net_event(struct event *event, uint32_t revents)
{
	struct net *net = container_of(event, struct net, event);
	unsigned int budget = NET_RX_BATCH;

	if (revents & (EPOLLERR | EPOLLHUP)) {
		net_gone(net);
		return;
	}
	if (!virtio_running(&net->dev)) {
		net_watch(net, 0);
		return;
	}
	if (revents & EPOLLOUT) {
		net_watch(net, net->watched & ~(uint32_t)EPOLLOUT);
		virtio_kick(&net->dev, NET_TX);
	}
	if (revents & EPOLLIN)
		while (budget-- && net_receive(net, &net->dev.queues[NET_RX]))
			;
}

static int net_start(struct virtio_dev *dev)
{
	struct net *net = container_of(dev, struct net, dev);
	const struct net_conf *conf = dev->conf;
	const uint64_t large = 1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |
			       1ULL << VIRTIO_NET_F_GUEST_USO4 | 1ULL << VIRTIO_NET_F_GUEST_USO6;

	net->packet_max = NET_HEADER + ((dev->features & large) ?
		NET_LARGE_MAX : util_max(conf->mtu, ETH_DATA_LEN) + NET_FRAME_OVERHEAD);
	/* EPOLLIN comes with the first kick of the receive queue. */
	return net->gone ? 0 : netdev_set_offloads(&net->netdev, dev->features);
}

static void net_stop(struct virtio_dev *dev)
{
	struct net *net = container_of(dev, struct net, dev);

	net_watch(net, 0);
	net_window_drop(&net->window, net->window.chain_count, net->window.iov_count);
	net->window.room = 0;
}

static int net_open(struct net *net, const struct net_conf *conf)
{
	if (!conf->tap == !conf->fd)
		return -EINVAL;
	if (conf->tap)
		return netdev_tap_open(&net->netdev, conf->tap, (uint16_t)conf->mtu);
	return netdev_tap_adopt(&net->netdev, (int)conf->fd);
}

/* FNV-1a of the VM's and the device's name: the same address in each run, another in each VM. */
static void net_make_mac(const struct net *net, const char *vm_name, uint8_t mac[ETH_ALEN])
{
	uint64_t hash = 0xcbf29ce484222325;
	char text[256];
	int len = snprintf(text, sizeof(text), "%s/%s", net->dev.name, vm_name);

	for (int i = 0; i < len && i < (int)sizeof(text) - 1; i++)
		hash = (hash ^ (uint8_t)text[i]) * 0x100000001b3;
	for (int i = 0; i < ETH_ALEN; i++)
		mac[i] = (uint8_t)(hash >> 8 * i);
	/* Unicast, locally administered. */
	mac[0] = (uint8_t)((mac[0] & ~1) | 2);
}

static void net_withhold_uso(struct virtio_dev *dev)
{
	virtio_withhold(dev, VIRTIO_NET_F_HOST_USO);
	virtio_withhold(dev, VIRTIO_NET_F_GUEST_USO4);
	virtio_withhold(dev, VIRTIO_NET_F_GUEST_USO6);
}

static int net_init(struct virtio_dev *dev)
{
	static const uint8_t none[ETH_ALEN];
	struct net *net = container_of(dev, struct net, dev);
	const struct net_conf *net_conf = dev->conf;
	struct virtio_net_config config = { .status = htole16(VIRTIO_NET_S_LINK_UP) };
	int r;

	net->netdev.fd = -1;
	r = net_open(net, net_conf);
	if (r < 0)
		return r;
	if (memcmp(net_conf->mac, none, sizeof(none)))
		memcpy(config.mac, net_conf->mac, sizeof(config.mac));
	else
		net_make_mac(net, dev->host->vm_name, config.mac);
	config.mtu = htole16((uint16_t)net_conf->mtu);
	if (!net_conf->mtu)
		virtio_withhold(dev, VIRTIO_NET_F_MTU);
	if (!net->netdev.uso)
		net_withhold_uso(dev);
	virtio_config_update(dev, 0, &config, sizeof(config));
	/* "tap%d" was asked for, and the kernel chose. */
	if (net_conf->tap && strcmp(net_conf->tap, net->netdev.name))
		dev->where = net->netdev.name;
	net->event = (struct event){ .fd = net->netdev.fd, .fn = net_event };
	return worker_watch(&dev->worker, &net->event, 0);
}

static void net_free(struct virtio_dev *dev)
{
	netdev_close(&container_of(dev, struct net, dev)->netdev);
}

static const struct opt net_opts[] = {
	{ .key = "tap", .type = OPT_STRING, .bare = true, .offset = offsetof(struct net_conf, tap),
	  .arg = "NAME", .help = "a tap interface of the host" },
	{ .key = "fd", .type = OPT_UINT, .offset = offsetof(struct net_conf, fd), .min = 3,
	  .max = INT_MAX, .arg = "N", .help = "instead of tap: an open one that was inherited" },
	{ .key = "mac", .type = OPT_MAC, .offset = offsetof(struct net_conf, mac), .arg = "MAC",
	  .help = "the guest's address; by default made from the VM's name" },
	{ .key = "mtu", .type = OPT_UINT, .offset = offsetof(struct net_conf, mtu), .min = 68,
	  .max = UINT16_MAX, .arg = "BYTES", .help = "the MTU of the tap and of the guest" },
	{ 0 },
};

static const struct hint net_hints[] = {
	{ EINVAL, "give exactly one of tap=NAME and fd=N, of a tap with a single queue" },
	{ EBUSY, "another process has this tap: stop it, or make another tap" },
	{ EPERM, "not permitted: as root, ip tuntap add NAME mode tap vnet_hdr user YOU, "
		 "and ip link set NAME up" },
	{ EACCES, "/dev/net/tun cannot be opened: give this user access to it" },
	{ ENOENT, "there is no /dev/net/tun: modprobe tun" },
	{ ENODEV, "there is no /dev/net/tun: modprobe tun" },
	{ EBADF, "fd is not open: let the caller pass it on" },
	{ EBADFD, "fd is not a tap with a virtio header: open it with IFF_TAP | IFF_NO_PI | "
		  "IFF_VNET_HDR" },
	{ ENAMETOOLONG, "the name of an interface has 15 characters at the most" },
	{ 0 },
};

static const struct sandbox net_sandbox = SANDBOX(
	/* netdev_set_offloads(); packets go by the base set's readv and writev */
	SC_ARG(ioctl, 1, TUNSETOFFLOAD),
);

const struct virtio_class net_class = {
	.name = "net",
	.option = "net",
	.summary = "a network interface",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000,
	.queue_sizes = (const uint16_t[]){ [NET_RX] = NET_QUEUE_SIZE, [NET_TX] = NET_QUEUE_SIZE },
	.queue_count = 2,
	.features = 1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_MTU |
		    1ULL << VIRTIO_NET_F_STATUS | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
		    1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM |
		    1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_HOST_TSO6 |
		    1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << VIRTIO_NET_F_HOST_USO |
		    1ULL << VIRTIO_NET_F_GUEST_TSO4 | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |
		    1ULL << VIRTIO_NET_F_GUEST_ECN | 1ULL << VIRTIO_NET_F_GUEST_USO4 |
		    1ULL << VIRTIO_NET_F_GUEST_USO6,
	.config_size = offsetof(struct virtio_net_config, speed),
	.dev_size = sizeof(struct net),
	.opts = net_opts,
	.conf_size = sizeof(struct net_conf),
	.hints = net_hints,
	.counters = net_counters,
	.sandbox = &net_sandbox,
	.init = net_init,
	.start = net_start,
	.kick = net_kick,
	.stop = net_stop,
	.free = net_free,
};
