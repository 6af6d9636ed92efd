// SPDX-License-Identifier: Apache-2.0
/*
 * What virtio-net receives.
 *
 * Nobody knows how large the next packet is. So there is a window: the
 * oldest chains of the ring, popped already, whose iovecs in a row have room
 * for the largest packet that can come. A packet is read straight into them;
 * the chains that it filled go back, the rest is the front of the next window.
 * While the ring cannot fill the window the netdev is not watched, and packets
 * wait in the host's queue, until the driver kicks.
 *
 * For the same reason a packet is paid for, where there are limits, before the
 * next one is taken.
 */
#include <endian.h>
#include "devices/net.h"

/* Packets at a time: the other direction gets its turn, and the driver its interrupt. */
#define NET_RX_BATCH 64

/* Whether a packet of any size may come. */
static bool net_window_full(const struct net_pair *pair)
{
	const struct net_window *window = &pair->window;

	if (!virtio_has(&pair->net->dev, VIRTIO_NET_F_MRG_RXBUF))
		return window->chain_count == 1;
	/* A driver with a small ring has given all that it has. */
	return window->room >= pair->net->packet_max || pair->rx->in_flight == pair->rx->size;
}

/* Tops the window up. False when the ring is empty, or broken. */
static bool net_window_fill(struct net_pair *pair)
{
	struct net_window *window = &pair->window;
	struct chain *chain;

	while (!net_window_full(pair)) {
		chain = virtq_pop(pair->rx);
		if (!chain)
			return false;
		if (chain->in.left < NET_HEADER) {
			virtio_fail(&pair->net->dev, "a receive buffer without room for the header");
			return false;
		}
		/* Buffers in so many pieces that no call can take more: they have to do. */
		if (chain->in.count > CHAIN_IOV_MAX - window->iov_count) {
			virtq_unpop(pair->rx, chain);
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
static void net_deliver(struct net_pair *pair, size_t len)
{
	struct net_window *window = &pair->window;
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
	}
	/* A driver that finds the first of them wants the others at once. */
	virtq_done_together(pair->rx, window->chains, chain_count);
	net_window_drop(window, chain_count, iov_count);
}

/* Whether the last packet is paid for; else the timer will come back to it. */
static bool net_receive_allowed(struct net_pair *pair)
{
	uint64_t wait;

	if (!pair->rx_due)
		return true;
	wait = bucket_pair_take(&pair->net->rx_limit, pair->rx_due, util_now_ns());
	if (!wait) {
		pair->rx_due = 0;
		return true;
	}
	virtq_count(pair->rx, NET_RX_THROTTLED, 1);
	net_watch(pair, pair->watched & ~(uint32_t)EPOLLIN);
	timer_set(&pair->rx_timer, wait);
	return false;
}

/* What comes while the cable is pulled: its header is enough. */
static ssize_t net_discard(struct net_pair *pair)
{
	uint8_t scratch[NET_HEADER + ETH_HLEN];
	ssize_t n = netdev_receive(pair->netdev, &(struct iovec){ scratch, sizeof(scratch) }, 1);

	return n == -EMSGSIZE ? (ssize_t)sizeof(scratch) : n;
}

/* One packet, which is certain to be there or may be; false when there is no more to do now. */
static bool net_receive_one(struct net_pair *pair, bool certain)
{
	const bool unplugged = net_unplugged(pair->net);
	ssize_t n;

	if (!net_receive_allowed(pair))
		return false;
	if (!unplugged && !net_window_fill(pair)) {
		if (!certain)
			return false;
		net_watch(pair, pair->watched & ~(uint32_t)EPOLLIN);
		virtq_count(pair->rx, NET_RX_NO_BUFFERS, 1);
		return false;
	}
	n = unplugged ? net_discard(pair) :
			netdev_receive(pair->netdev, pair->window.iov, pair->window.iov_count);
	if (n == -EAGAIN)
		return false;
	if (n == -EBADFD) {
		net_gone(pair);
		return false;
	}
	if (n < (ssize_t)NET_HEADER) {
		virtq_count(pair->rx, NET_ERRORS, 1);
		return false;
	}
	if (unplugged) {
		virtq_count(pair->rx, NET_RX_DROPPED, 1);
		return true;
	}
	if (pair->net->rx_limited)
		pair->rx_due = (size_t)n - NET_HEADER;
	net_deliver(pair, (size_t)n);
	virtq_count(pair->rx, NET_RX_PACKETS, 1);
	virtq_count(pair->rx, NET_RX_BYTES, (size_t)n - NET_HEADER);
	return true;
}

void net_receive(struct net_pair *pair)
{
	for (unsigned int i = 0; i < NET_RX_BATCH; i++)
		if (!net_receive_one(pair, i == 0))
			break;
}

void net_receive_kick(struct net_pair *pair)
{
	/* What waits in the netdev for buffers comes with the next turn. */
	net_window_fill(pair);
	net_watch(pair, pair->watched | EPOLLIN);
}

void net_receive_stop(struct net_pair *pair)
{
	net_watch(pair, pair->watched & ~(uint32_t)EPOLLIN);
	netdev_abandon(pair->netdev);
	net_window_drop(&pair->window, pair->window.chain_count, pair->window.iov_count);
	pair->window.room = 0;
}
