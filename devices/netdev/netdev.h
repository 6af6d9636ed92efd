/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a net device's packets go: a tap. Each packet carries a struct
 * virtio_net_hdr_v1 in front, so checksum and segmentation offloads pass
 * through untouched.
 */
#ifndef DEVICES_NETDEV_NETDEV_H
#define DEVICES_NETDEV_NETDEV_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NETDEV_NAME_MAX 16

struct netdev {
	int fd; /* non-blocking; readable when a packet is there */
	char name[NETDEV_NAME_MAX]; /* of the host's interface */
	bool uso; /* the host can segment UDP */
};

/*
 * Opens the tap called name, which is made when it does not exist and the
 * caller may, brings it up and sets its MTU when mtu is not 0: both only where
 * they differ, so that an ordinary user can have one that was set up before.
 * -EBUSY: another process has it; -EPERM: CAP_NET_ADMIN or an owned tap is
 * needed; -EINVAL: it is no tap, or one with several queues; -ENAMETOOLONG.
 */
int netdev_tap_open(struct netdev *netdev, const char *name, uint16_t mtu);
/* The same for a tap that was inherited. -EBADFD when fd is not one with a virtio header. */
int netdev_tap_adopt(struct netdev *netdev, int fd);
/* Accepts one whose fd is -1. */
void netdev_close(struct netdev *netdev);

/* Segmentation of UDP: section 5.1.3; Linux names them from 6.2 on. */
#ifndef VIRTIO_NET_F_GUEST_USO4
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#endif

/*
 * Tells the host what the guest agreed to receive (features: VIRTIO_NET_F_GUEST_*
 * bits). Allowed under the device's filter by its exact argument.
 */
int netdev_set_offloads(struct netdev *netdev, uint64_t features);

/*
 * One packet with its header. -EAGAIN when there is none, or no room; -EBADFD
 * when the interface is gone for good; -errno.
 */
ssize_t netdev_receive(struct netdev *netdev, const struct iovec *iov, unsigned int count);
ssize_t netdev_send(struct netdev *netdev, const struct iovec *iov, unsigned int count);

#endif
