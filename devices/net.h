/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of virtio-net share: net.c is the device and sends, net_receive.c
 * receives, net_vhost.c has the host's kernel do both and net_remote.c a program,
 * net_control.c does what the driver orders, net_conf.c opens what the
 * configuration asks for.
 */
#ifndef DEVICES_NET_H
#define DEVICES_NET_H

#include <linux/virtio_net.h>
#include <stdatomic.h>
#include "core/bucket.h"
#include "devices/netdev/netdev.h"
#include "devices/vhost/user.h"
#include "devices/virtio/virtio.h"

/* What the guest may leave undone in what it receives. */
#define NET_OFFLOADS \
	(1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_GUEST_TSO4 | \
	 1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_GUEST_ECN | \
	 1ULL << VIRTIO_NET_F_GUEST_USO4 | 1ULL << VIRTIO_NET_F_GUEST_USO6)

/* And in what it sends. */
#define NET_HOST_OFFLOADS \
	(1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 | \
	 1ULL << VIRTIO_NET_F_HOST_TSO6 | 1ULL << VIRTIO_NET_F_HOST_ECN | \
	 1ULL << VIRTIO_NET_F_HOST_USO)

#define NET_HEADER sizeof(struct virtio_net_hdr_v1)

enum net_counter {
	NET_RX_PACKETS,
	NET_RX_BYTES,
	NET_RX_NO_BUFFERS,
	NET_RX_DROPPED,
	NET_RX_THROTTLED,
	NET_TX_PACKETS,
	NET_TX_BYTES,
	NET_TX_DROPPED,
	NET_TX_THROTTLED,
	NET_ERRORS,
};

enum net_vhost { NET_VHOST_AUTO, NET_VHOST_ON, NET_VHOST_OFF };

struct net_conf {
	struct virtio_conf virtio;
	char *tap, *bridge;
	uint64_t fd;
	bool user, loop;
	char *forwards, *socket; /* of user */
	char *remote, *remote_server; /* vhost-user's socket: where a program listens, or where we do */
	uint8_t mac[ETH_ALEN];
	uint64_t mtu;
	int vhost; /* enum net_vhost */
	struct bucket_rates rx_limit, tx_limit; /* requests are packets */
};

/* Of net_state.status, and not shown: a person wants the link to be down. */
#define NET_S_UNPLUGGED 0x10000

/*
 * What the driver has set, as a save has it. The host is told by the control
 * queue's worker, and by a start, when no queue runs: nobody else looks.
 */
struct net_state {
	uint64_t offloads;       /* VIRTIO_NET_F_GUEST_* bits */
	uint32_t pairs;          /* in use */
	_Atomic uint32_t status; /* VIRTIO_NET_S_*, NET_S_*: two workers change it */
	struct netdev_filter filter;
};

/* Buffers for what comes next: see net_receive.c. */
struct net_window {
	struct chain *chains[CHAIN_IOV_MAX]; /* each has an iovec at least */
	unsigned int chain_count;
	struct iovec iov[CHAIN_IOV_MAX];
	unsigned int iov_count;
	size_t room;
};

struct net_pair {
	struct net *net;
	struct netdev *netdev;
	struct virtq *rx, *tx;
	struct event event;
	struct event door; /* where the netdev's successor comes */
	uint32_t watched; /* what event waits for */
	bool gone;        /* the interface was removed; event is in no loop */
	struct timer rx_timer, tx_timer; /* until the limit allows the next packet */
	size_t rx_due;    /* bytes of the last packet, which are not paid for; 0: none */
	size_t tx_paid;   /* bytes, header included, of the next packet, which waits for room; 0: none */
	struct net_window window;
};

struct net {
	struct virtio_dev dev;
	struct net_state state;
	struct netdev netdevs[VIRTIO_SETS_MAX]; /* dev.set_count of them */
	struct net_pair *pairs;                 /* as many */
	struct bucket_pair rx_limit, tx_limit;
	bool rx_limited, tx_limited;
	_Atomic bool gone; /* the netdev, or one of them */
	struct vhost *vhosts;                   /* as many, which move the packets; NULL: we do */
	struct event links;                     /* with vhosts: an interface of the host's changed */
	bool vhosts_started;                    /* else we do after all */
	struct vhost_user remote;               /* or a program does, if it has ops */
	size_t packet_max;
	uint8_t mac[ETH_ALEN]; /* before the driver sets another */
	bool loaded;           /* from a save, and not started since */
};

/* Section 5.1.2: the control queue follows the pairs that the driver knows of. */
static inline unsigned int net_pairs(const struct net *net)
{
	return virtio_has(&net->dev, VIRTIO_NET_F_MQ) ? net->dev.set_count : 1;
}

/* Whether a person has pulled the cable. */
static inline bool net_unplugged(const struct net *net)
{
	return atomic_load_explicit(&net->state.status, memory_order_relaxed) & NET_S_UNPLUGGED;
}

extern const struct opt net_opts[];
extern const struct hint net_hints[];

/* Opens dev.set_count netdevs, and gives the guest its address. -errno, see net_hints. */
int net_open(struct net *net);

/* Whether a program moves the packets. */
static inline bool net_has_remote(const struct net *net)
{
	return net->remote.vhost.ops;
}

/* The host's end waits for these, and no others; spares the system call when it does already. */
void net_watch(struct net_pair *pair, uint32_t events);
/* The interface was removed: the link is down. On the pair's worker. */
void net_gone(struct net_pair *pair);
/* Changes configuration.status; on any worker. */
void net_set_status(struct net *net, uint32_t set, uint32_t clear);
/* The link is up where there is somebody, and no person has pulled the cable; on any worker. */
int net_show_link(struct net *net);

/* Packets are there; the driver may have given buffers; the queue stops. On the pair's worker. */
void net_receive(struct net_pair *pair);
void net_receive_kick(struct net_pair *pair);
void net_receive_stop(struct net_pair *pair);

/* The state that a driver finds; the host is told by net_control_apply(). */
void net_control_reset(struct net *net);
/* -EINVAL when a loaded state cannot be. */
int net_control_check(const struct net *net);
/* Tells the host all of it. -errno. */
int net_control_apply(struct net *net);
void net_control_kick(struct net *net, struct virtq *queue);

/*
 * In init, behind what the configuration asks for: has the kernel move the packets, if it can or
 * has to. -ENOLINK: it cannot be asked to; -EPROTONOSUPPORT: it does not know the rings that are
 * wanted; -ESOCKTNOSUPPORT: these packets it cannot move.
 */
int net_vhost_open(struct net *net);
/* Accepts one without. */
void net_vhost_close(struct net *net);
/*
 * In the class's operations of these names, for one with it; queue is a pair's. -errno. A start
 * that fails is none where the kernel need not move the packets.
 */
int net_vhost_start(struct net *net);
int net_vhost_queue_start(struct net *net, struct virtq *queue);
void net_vhost_queue_stop(struct net *net, struct virtq *queue);
/* Whether its tap was removed. */
bool net_vhost_lost_tap(const struct net *net, const struct virtq *queue);

/*
 * The program that moves the packets, at path: -EHOSTUNREACH: none is there, -EALREADY: it cannot
 * listen there, -ETIMEDOUT: none came, -EPROTO: it is none, -EPFNOSUPPORT: it does not know the
 * rings that are wanted, -ENOBUFS: nor so many pairs, -EMEDIUMTYPE: guest memory is not shared.
 */
int net_remote_open(struct net *net, const char *path, bool server);
int net_remote_queue_start(struct net *net, struct virtq *queue);
/* Tells it which pairs are in use. */
void net_remote_use_pairs(struct net *net);

#endif
