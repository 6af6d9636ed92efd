/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of virtio-net share: net.c moves packets, net_control.c does what the driver orders. */
#ifndef DEVICES_NET_H
#define DEVICES_NET_H

#include <linux/virtio_net.h>
#include <stdatomic.h>
#include "devices/netdev/netdev.h"
#include "devices/virtio/virtio.h"

struct net_pair;

/*
 * What the driver has set, as a save has it. The host is told by the control
 * queue's worker, and by a start, when no queue runs: nobody else looks.
 */
struct net_state {
	uint64_t offloads;       /* VIRTIO_NET_F_GUEST_* bits */
	uint32_t pairs;          /* in use */
	_Atomic uint32_t status; /* VIRTIO_NET_S_*: two workers change it */
	struct netdev_filter filter;
};

struct net {
	struct virtio_dev dev;
	struct net_state state;
	struct netdev netdevs[VIRTIO_SETS_MAX]; /* dev.worker_count of them */
	struct net_pair *pairs;                 /* as many */
	size_t packet_max;
	uint8_t mac[ETH_ALEN]; /* before the driver sets another */
	bool loaded;           /* from a save, and not started since */
};

/* Section 5.1.2: the control queue follows the pairs that the driver knows of. */
static inline unsigned int net_pairs(const struct net *net)
{
	return virtio_has(&net->dev, VIRTIO_NET_F_MQ) ? net->dev.worker_count : 1;
}

/* Changes configuration.status; on any worker. */
void net_set_status(struct net *net, uint32_t set, uint32_t clear);

/* The state that a driver finds; the host is told by net_control_apply(). */
void net_control_reset(struct net *net);
/* -EINVAL when a loaded state cannot be. */
int net_control_check(const struct net *net);
/* Tells the host all of it. -errno. */
int net_control_apply(struct net *net);
void net_control_kick(struct net *net, struct virtq *queue);

#endif
